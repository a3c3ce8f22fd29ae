package conformance_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
)

// TestEvents: a run tells of its steps in order, and each kind of event has the
// members, in JSON, that testdata/events.txt says. Harnesses in other languages
// rely on them: members may be added there, but not changed.
func TestEvents(t *testing.T) {
	var events []conformance.Event
	var report *conformance.Report
	synctest.Test(t, func(t *testing.T) {
		key, err := virtual.New(virtual.ProfileCTAP23.Config())
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		report, err = conformance.Check(t.Context(), conformance.Config{
			Target: spoiled(memory(key), 0x0F, 0x02), Name: "soft", Destructive: true, OneVariant: true, MaxWait: -1,
			Only: func(c conformance.Case) bool {
				return slices.Contains([]string{"enc-unknown-command", "enc-no-parameters", "ga-allow-empty", "mc-touch-timeout", "ga-param-wrong", "gpt-blocked"}, c.ID)
			},
			Event: func(e conformance.Event) { events = append(events, e) },
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if events[0].Kind != conformance.Begin || events[len(events)-1].Kind != conformance.End {
		t.Errorf("begins with %s, ends with %s", events[0].Kind, events[len(events)-1].Kind)
	}
	number := 0
	members := map[string]map[string]bool{}
	for _, e := range events {
		switch e.Kind {
		case conformance.CaseBegin:
			if number++; e.Number != number || e.Total != len(report.Results) {
				t.Errorf("case %d of %d, not %d of %d", e.Number, e.Total, number, len(report.Results))
			}
		case conformance.CaseEnd:
			if want := result(t, report, e.Result.ID); e.Number != number || e.Result.Outcome != want.Outcome {
				t.Errorf("%d: %s", e.Number, e.Result.Outcome)
			}
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		if members[string(e.Kind)] == nil {
			members[string(e.Kind)] = map[string]bool{}
		}
		delete(tree, "counts") // which are by outcome
		collect(members[string(e.Kind)], "", tree)
	}
	if number != len(report.Results) {
		t.Errorf("%d cases, not %d", number, len(report.Results))
	}
	var got strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(members)) {
		got.WriteString(kind + "\n")
		for _, name := range slices.Sorted(maps.Keys(members[kind])) {
			got.WriteString("  " + name + "\n")
		}
	}
	want, err := os.ReadFile(filepath.Join("testdata", "events.txt"))
	if err != nil || got.String() != string(want) {
		t.Errorf("%v\nthe events have\n%s", err, &got)
	}
}

// collect adds the paths of the members of an object.
func collect(paths map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			collect(paths, strings.TrimPrefix(path+"."+name, "."), value)
		}
	case []any:
		for _, value := range v {
			collect(paths, path+"[]", value)
		}
	default:
		paths[path] = true
	}
}

// What a run was stopped at goes on with its report, and not on another key.
func TestPrevious(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := virtual.New(virtual.ProfileCTAP23.Config())
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		whole := func(c conformance.Case) bool { return strings.HasPrefix(c.ID, "enc-") }
		first, err := conformance.Check(t.Context(), conformance.Config{
			Target: memory(key), Destructive: true, Only: func(c conformance.Case) bool { return whole(c) && len(c.ID) < 13 },
		})
		if err != nil || len(first.Results) == 0 {
			t.Fatal(err, len(first.Results))
		}
		first.Results[0].Outcome = conformance.Skipped // which is no verdict
		first.Results[1].Message = "from the first run"
		var ran []string
		config := conformance.Config{
			Target: memory(key), Destructive: true, Only: whole, Previous: first,
			Event: func(e conformance.Event) {
				if e.Kind == conformance.CaseEnd {
					ran = append(ran, e.Result.ID)
				}
			},
		}
		report, err := conformance.Check(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		all := 0
		for _, c := range conformance.Cases() {
			if whole(c) {
				all++
			}
		}
		if len(report.Results) != all || len(ran) != all-len(first.Results)+1 || !slices.Contains(ran, first.Results[0].ID) {
			t.Errorf("%d results, %d run, %d before, of %d", len(report.Results), len(ran), len(first.Results), all)
		}
		if r := result(t, report, first.Results[1].ID); r.Message != "from the first run" {
			t.Errorf("%+v", r)
		}
		if !report.Started.Equal(first.Started) {
			t.Errorf("started %v, not %v", report.Started, first.Started)
		}
		first.Authenticator.Firmware++
		if _, err := conformance.Check(t.Context(), config); err != conformance.ErrAnother {
			t.Errorf("another key: %v", err)
		}
	})
}
