package conformance_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2/conformance"
)

// report has a result of each outcome, by the IDs' last words.
func reportOf(outcomes map[string]conformance.Outcome) *conformance.Report {
	r := &conformance.Report{Results: []conformance.Result{}}
	for _, c := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		if o, ok := outcomes[c]; ok {
			r.Results = append(r.Results, conformance.Result{
				Case: conformance.Case{ID: c, Group: "Letters"}, Outcome: o, Message: "it " + string(o),
			})
		}
	}
	return r
}

func TestCompare(t *testing.T) {
	const p, f, n, s = conformance.Passed, conformance.Failed, conformance.NotApplicable, conformance.Skipped
	before := reportOf(map[string]conformance.Outcome{"a": p, "b": p, "c": f, "d": n, "e": p, "f": s, "g": p, "h": f, "i": n, "j": f})
	after := reportOf(map[string]conformance.Outcome{"a": p, "b": f, "c": p, "d": p, "e": n, "f": p, "g": s, "i": s, "j": f, "k": p})
	c := conformance.Compare(before, after)
	var got []string
	for _, change := range c.Changes {
		got = append(got, string(change.Kind)+" "+change.ID+" "+string(change.Before)+" "+string(change.After)+" "+change.Message)
	}
	want := []string{
		"newly failed b passed failed it failed", "no longer applicable e passed not applicable it not applicable",
		"fixed c failed passed it passed", "newly applicable d not applicable passed it passed", "newly run f skipped passed it passed",
		"no longer run g passed skipped it skipped", "new k  passed it passed", "gone h failed  it failed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, not\n%q", got, want)
	}
	var text strings.Builder
	if err := c.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\nnewly failed\n  b: failed, was passed: it failed\n", "\nnew\n  k: passed: it passed\n", "\ngone\n  h: was failed: it failed\n"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("no %q in\n%s", line, &text)
		}
	}
	html := written(t, after, before)["html"]
	for _, change := range c.Changes {
		if !strings.Contains(html, ">"+string(change.Kind)+" <small>1</small>") {
			t.Errorf("%s: not in the page", change.Kind)
		}
	}
	b, err := json.Marshal(conformance.Compare(before, before))
	if err != nil || !strings.Contains(string(b), `"changes":[]`) {
		t.Errorf("%s, %v", b, err)
	}
	if text := written(t, before, before); !strings.Contains(text["comparison"], "No case ended in another way.") ||
		!strings.Contains(text["html"], "No case ended in another way.") {
		t.Errorf("%s", text["comparison"])
	}
}

func TestCompareWorse(t *testing.T) {
	for _, o := range []struct {
		before, after conformance.Outcome
		worse         bool
	}{
		{conformance.Passed, conformance.Passed, false},
		{conformance.Failed, conformance.Failed, false},
		{conformance.Failed, conformance.Passed, false},
		{conformance.Failed, conformance.NotApplicable, false},
		{conformance.Passed, conformance.Failed, true},
		{conformance.Skipped, conformance.Failed, true},
		{"", conformance.Failed, true},
		{"", conformance.Passed, false},
		{conformance.Passed, conformance.NotApplicable, true},
		{conformance.Passed, conformance.Skipped, false},
		{conformance.Failed, "", false},
	} {
		of := func(o conformance.Outcome) *conformance.Report {
			if o == "" {
				return reportOf(nil)
			}
			return reportOf(map[string]conformance.Outcome{"a": o})
		}
		if got := conformance.Compare(of(o.before), of(o.after)).Worse(); got != o.worse {
			t.Errorf("from %q to %q: %v", o.before, o.after, got)
		}
	}
}
