package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
)

// stream reads the events of a run, which are one a line.
func stream(t *testing.T, lines string) []conformance.Event {
	t.Helper()
	var events []conformance.Event
	for line := range strings.Lines(lines) {
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		var e conformance.Event
		if err := d.Decode(&e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		var members any
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			t.Fatal(err)
		}
		for _, name := range memberNames(members) {
			if !regexp.MustCompile(`(?m)^ +` + name + `\?? `).MatchString(eventMembers) {
				t.Errorf("'fidoctl help json' does not have the member %s", name)
			}
		}
		events = append(events, e)
	}
	if len(events) < 2 || events[0].Kind != conformance.Begin || events[len(events)-1].Kind != conformance.End {
		t.Fatalf("not the events of a run:\n%s", lines)
	}
	return events
}

// memberNames are those of all objects in a value, but for the counts, which are
// by outcome.
func memberNames(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			names = append(names, name)
			if name != "counts" {
				names = append(names, memberNames(value)...)
			}
		}
	case []any:
		for _, value := range v {
			names = append(names, memberNames(value)...)
		}
	}
	return names
}

func readReport(t *testing.T, file string) *conformance.Report {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	report, err := conformance.ReadReport(f)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// A script runs all the cases of a kind on a key, reads the events, and finds the
// reports.
func TestConformanceScript(t *testing.T) {
	t.Parallel()
	key, folder := newKey(t, testPIN), t.TempDir()
	args := []string{"conformance", "--destructive", "--cases", "^(gpt|enc)-", "--max-wait", "0"}
	if r := pipe(t, key, "", args...); r.code != usage.exit || !strings.Contains(r.err, "use --yes") {
		t.Errorf("without a confirmation: %+v", r)
	}
	var l listResult
	script(t, key, &l, "list")
	if l.Keys[0].PIN != "set" {
		t.Errorf("without a confirmation the key was erased: %+v", l)
	}
	args = append(args, "--json", "--yes")
	for _, end := range []string{"html", "json", "xml", "txt"} {
		args = append(args, "--report", filepath.Join(folder, "report."+end))
	}
	r := pipe(t, key, "", args...)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	events := stream(t, r.out)
	report := readReport(t, filepath.Join(folder, "report.json"))
	ended := 0
	for _, e := range events {
		if e.Kind == conformance.CaseEnd {
			ended++
		}
	}
	counts := map[conformance.Outcome]int{}
	for _, result := range report.Results {
		counts[result.Outcome]++
	}
	if ended < 20 || ended != events[0].Total || ended != len(report.Results) || !maps.Equal(counts, events[len(events)-1].Counts) {
		t.Errorf("%d results of %d, %d in the report: %v", ended, events[0].Total, len(report.Results), counts)
	}
	if report.Authenticator.Name != key || !report.Destructive {
		t.Errorf("%+v", report)
	}
	for end, want := range map[string]string{
		"html": fmt.Sprintf(`<b id="figure-passed">%d</b>`, counts[conformance.Passed]),
		"xml":  fmt.Sprintf(`tests="%d"`, len(report.Results)),
		"txt":  "  ok    gpt-good\n",
	} {
		text, err := os.ReadFile(filepath.Join(folder, "report."+end))
		if err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s: %v: no %s", end, err, want)
		}
		if end == "xml" {
			if err := xml.Unmarshal(text, new(struct{})); err != nil {
				t.Error(err)
			}
		}
	}
	// The key is as new.
	script(t, key, &l, "list")
	if l.Keys[0].PIN != "not set" {
		t.Errorf("%+v", l)
	}
}

// caseWithPIN returns a case that takes the PIN, and leaves no trace.
func caseWithPIN(t *testing.T) string {
	t.Helper()
	var id string
	for _, c := range conformance.Cases() {
		if c.Needs.PIN && !c.Needs.Destructive && c.Needs.PINTries == 0 && len(c.Needs.Gestures) == 0 && c.Needs.Wait == 0 {
			id = c.ID
		}
	}
	if id == "" {
		t.Fatal("there is no such case")
	}
	return id
}

// A run that changes nothing takes the PIN, and writes it nowhere.
func TestConformancePIN(t *testing.T) {
	t.Parallel()
	key, file := newKey(t, testPIN), filepath.Join(t.TempDir(), "report.json")
	id := caseWithPIN(t)
	args := []string{"conformance", "--cases", "^" + id + "$", "--report", file}
	if r := pipe(t, key, testPIN+"\n", append(args, "--pin-stdin", "-v")...); r.code != 0 || !strings.Contains(r.out, "ok    "+id) {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(testPIN)) {
		t.Errorf("%v: the PIN is in the report", err)
	}
	if r := pipe(t, key, "", append(args, "-v")...); r.code != 0 || !strings.Contains(r.out, "skip  "+id+": the PIN is not known") || !strings.Contains(r.err, "give it with --pin-fd.") {
		t.Errorf("%+v", r)
	}
	if r := pipe(t, key, "999999\n", append(args, "--pin-stdin")...); r.code != verification.exit {
		t.Errorf("%+v", r)
	}

	if r := pipe(t, newKey(t, ""), "", args...); r.code != 0 || !strings.Contains(r.err, "No PIN is set: ") {
		t.Errorf("%+v", r)
	}

	s := person(t, key, args...)
	s.sees("Nothing on the key will be changed.")
	s.sees("To go on without it, leave it empty.")
	s.sees("PIN (7 tries left): ")
	s.types(testPIN + "\n")
	s.sees("[1 of 1] " + id)
	s.sees("1 case: 1 passed")
	s.ends(0)
	s = person(t, key, args...)
	s.sees("tries left): ")
	s.types("\n")
	s.sees("1 case: 1 skipped")
	s.ends(0)
}

// Somebody is asked before wrong PINs are entered.
func TestConformancePINTries(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var id string
	for _, c := range conformance.Cases() {
		if !c.Needs.Destructive && c.Needs.PINTries > 0 && !c.Needs.PowerCycle {
			id = c.ID
			break
		}
	}
	if id == "" {
		t.Fatal("no such case")
	}
	for answer, want := range map[string]string{"n\n": "1 case: 1 skipped", "y\n": "1 case: 1 passed"} {
		s := person(t, key, "conformance", "--cases", "^"+id+"$", "--quick")
		s.sees("tries left): ")
		s.types(testPIN + "\n")
		s.sees("Continue? [y/N] ")
		s.types(answer)
		s.sees(want)
		s.ends(0)
	}
}

func TestConformanceErase(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	args := []string{"conformance", "--destructive", "--cases", "^enc-(unknown|empty)"}
	for _, typed := range []string{"yes", "", filepath.Base(key)} {
		s := person(t, key, args...)
		s.sees("The key will be erased many times: everything on it will be lost.")
		s.sees("To erase it, type its name, " + key + ": ")
		s.types(typed + "\n")
		s.sees("Nothing was changed.")
		s.ends(interrupted.exit)
	}
	if n := len(listed(t, key).Credentials); n != 3 {
		t.Errorf("%d credentials are left", n)
	}
	s := person(t, key, args...)
	s.sees("type its name")
	s.types(key + "\n")
	s.sees("of 3] enc-empty-map")
	s.sees("3 cases: 3 passed")
	s.ends(0)
	var l listResult
	script(t, key, &l, "list")
	if l.Keys[0].PIN != "not set" {
		t.Errorf("%+v", l)
	}
}

// Ctrl-C stops a run, and --resume goes on with it.
func TestConformanceResume(t *testing.T) {
	t.Parallel()
	var waits, other string
	for _, c := range conformance.Cases() {
		if c.Needs.Wait > 0 && c.Needs.Destructive && len(c.Needs.Gestures) == 0 && waits == "" {
			waits = c.ID
		}
	}
	if waits == "" {
		t.Fatal("no case waits")
	}
	other = "enc-empty-map" // which takes less of the key, and comes first
	key, file := newKey(t, ""), filepath.Join(t.TempDir(), "report.json")
	args := []string{"conformance", "--destructive", "--cases", "^(" + waits + "|" + other + ")$", "--quick", "--report", file}
	s := person(t, key, append([]string{"--yes", "--max-wait", "-1s"}, args...)...)
	s.sees("of 2] " + waits)
	s.sees("waiting for ")
	s.types(ctrlC)
	s.sees("To resume: fidoctl --virtual " + key + " --yes --max-wait -1s conformance --destructive --cases '^(" + waits + "|" + other + ")$' --quick --report " + file + " --resume " + file + "\r\n")
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
	first := readReport(t, file)
	if len(first.Results) != 1 || first.Results[0].ID != other || first.Results[0].Outcome != conformance.Passed || first.Unfinished == "" {
		t.Fatalf("%+v", first)
	}
	r := pipe(t, key, "", append([]string{"--json", "--yes", "--max-wait", "0", "--resume", file}, args...)...)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	events := stream(t, r.out)
	if events[0].Total != 1 || events[len(events)-1].Counts[conformance.Passed] != 1 || events[len(events)-1].Counts[conformance.Skipped] != 1 {
		t.Errorf("%s", r.out)
	}
	if second := readReport(t, file); len(second.Results) != 2 || !second.Started.Equal(first.Started) || second.Unfinished != "" {
		t.Errorf("%+v", second)
	}
	// The numbers are those of the whole run.
	s = person(t, key, append([]string{"--yes", "--max-wait", "0", "--resume", file}, args...)...)
	s.sees("[2 of 2] " + waits)
	s.ends(0)
	// Not with another key.
	scriptFails(t, key+".u2f", refused, append([]string{"--virtual-profile", "u2f", "--yes", "--resume", file}, args...)...)
}

// A run that is interrupted ends its events with "end".
func TestConformanceStopped(t *testing.T) {
	t.Parallel()
	key := newKey(t, "")
	r := pipe(t, key, "", "--json", "--yes", "--timeout", "2s", "conformance", "--destructive", "--max-wait", "-1s", "--cases", "^(rst|tok|uvt|gpt)-")
	if r.code != noTouch.exit || !strings.Contains(r.err, "Time is up.") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	events := stream(t, r.out)
	if events[len(events)-1].Message == "" {
		t.Errorf("%+v", events[len(events)-1])
	}
}

// A careless key says that all is well, whatever it is asked.
type careless struct{ ctap2.Transport }

func (c careless) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := c.Transport.Exchange(ctx, message, status)
	if err == nil && len(reply) > 0 && reply[0] != 0 {
		reply = []byte{0}
	}
	return reply, err
}

func TestConformanceFails(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out, told bytes.Buffer
		p := &program{
			in: open(t, ""), out: &printer{w: &out}, err: &printer{w: &told}, profile: defaultProfile, person: "ready", pinFD: -1, json: asJSON,
			wrap: func(t ctap2.Transport) ctap2.Transport { return careless{t} },
		}
		code := p.run(t.Context(), []string{"--virtual", newKey(t, ""), "conformance", "--cases", "^enc-(unknown|unassigned)-command"})
		if code != notConformant.exit || !strings.Contains(told.String(), "enc-unknown-command: answered OK, must be INVALID_COMMAND\n") {
			t.Errorf("exit %d\n%s%s", code, &out, &told)
		}
		if asJSON {
			events := stream(t, out.String())
			if events[len(events)-1].Counts[conformance.Failed] != 2 {
				t.Errorf("%s", &out)
			}
		} else if !strings.Contains(out.String(), "  FAIL  enc-unassigned-command") || !strings.Contains(out.String(), "< OK") {
			t.Errorf("%s", &out)
		}
	}
}

func TestConformanceCompare(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name string, outcome conformance.Outcome) string {
		t.Helper()
		file := filepath.Join(folder, name)
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		report := conformance.Report{Results: []conformance.Result{{Case: conformance.Case{ID: "a-case", Group: "Cases"}, Outcome: outcome}}}
		if err := report.WriteJSON(f); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, bad := write("good.json", conformance.Passed), write("bad.json", conformance.Failed)
	page := filepath.Join(folder, "page.html")
	r := pipe(t, "", "", "--json", "conformance", "compare", good, bad, "--report", page)
	var c compareResult
	decode(t, r.out, &c)
	if r.code != notConformant.exit || !c.Worse || len(c.Changes) != 1 || c.Changes[0].Kind != conformance.NewlyFailed {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("newly failed")) {
		t.Errorf("%v\n%s", err, text)
	}
	if r := pipe(t, "", "", "conformance", "compare", bad, good); r.code != 0 || !strings.Contains(r.out, "fixed\n  a-case: passed, was failed\n") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"compare", good, page}, {"compare", page, good}} {
		if r := pipe(t, "", "", append([]string{"conformance"}, args...)...); r.code != notValid.exit {
			t.Errorf("%v: %+v", args, r)
		}
	}
	for _, args := range [][]string{
		{"compare", good}, {"compare", good, bad, "--report", "page.pdf"}, {"--cases", "("}, {"--cases", "no such case"}, {"--report", "page"},
	} {
		if r := pipe(t, "", "", append([]string{"conformance"}, args...)...); r.code != usage.exit {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestConformanceList(t *testing.T) {
	var all casesResult
	r := pipe(t, "", "", "--json", "conformance", "--list")
	decode(t, r.out, &all)
	if r.code != 0 || len(all.Cases) != len(conformance.Cases()) {
		t.Errorf("%d cases, exit %d", len(all.Cases), r.code)
	}
	r = pipe(t, "", "", "conformance", "--list", "--cases", "^enc-unknown-command$")
	if lines := strings.Split(r.out, "\n"); r.code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[1], "enc-unknown-command  §8.1") {
		t.Errorf("%+v", r)
	}
}

// At a key that is no software the person, or a program, is told what to do, and
// may say no.
func TestConformanceGestures(t *testing.T) {
	for _, c := range []struct {
		answers string
		json    bool
		yes     bool
		cannot  []bool // of no touch, then of a wrong finger
	}{
		{"\nno\n", true, false, []bool{false, true}},
		{"", true, false, []bool{true, true}},
		{"", false, true, []bool{false, false}},
		{"\n\n", false, false, []bool{true, true}}, // which is no terminal
	} {
		var told bytes.Buffer
		s := &suite{p: &program{in: open(t, c.answers), err: &printer{w: &told}, json: c.json, yes: c.yes, pinFD: -1}}
		for i, g := range []conformance.Gesture{conformance.NoTouch, conformance.WrongFinger} {
			if err := s.gesture(t.Context(), g); errors.Is(err, conformance.ErrCannot) != c.cannot[i] || err != nil && !c.cannot[i] {
				t.Errorf("%+v: %s: %v", c, g, err)
			}
		}
		if err := s.gesture(t.Context(), conformance.Touch); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if want := "From now on leave the key alone, even when it blinks.\n"; !strings.HasPrefix(told.String(), want) {
			t.Errorf("%q", &told)
		}
	}
	for _, g := range []conformance.Gesture{conformance.Touch, conformance.NoTouch, conformance.LongTouch, conformance.Decline,
		conformance.WrongFinger, conformance.PoorSample} {
		if instructions[g] == "" || reminders[g] == "" {
			t.Errorf("nobody is told how to %s", g)
		}
	}
	if needs := needsOf(conformance.Needs{Destructive: true, PINTries: 1, Gestures: []conformance.Gesture{conformance.NoTouch}}); needs != "reset, 1 wrong PIN, no touch" {
		t.Errorf("%q", needs)
	}
}

// A card that others can reach as well is kept from them for each APDU.
func TestSharedCard(t *testing.T) {
	card := &busyCard{}
	response, err := sharedCard{card}.Transmit([]byte{1})
	if err != nil || string(response) != "\x90\x00" || strings.Join(card.calls, " ") != "begin transmit end" {
		t.Errorf("%x, %v, %v", response, err, card.calls)
	}
	card = &busyCard{failed: errors.New("in use")}
	if _, err := (sharedCard{card}).Transmit([]byte{1}); !errors.Is(err, card.failed) || len(card.calls) != 1 {
		t.Errorf("%v, %v", err, card.calls)
	}
}

type busyCard struct {
	calls  []string
	failed error
}

func (c *busyCard) Begin() error { c.calls = append(c.calls, "begin"); return c.failed }
func (c *busyCard) End() error   { c.calls = append(c.calls, "end"); return nil }
func (c *busyCard) Close() error { return nil }
func (c *busyCard) Transmit([]byte) ([]byte, error) {
	c.calls = append(c.calls, "transmit")
	return []byte{0x90, 0x00}, nil
}

// One number says how many cases there are, and each flag stands only for the cases
// that lack it.
func TestConformanceNumbers(t *testing.T) {
	t.Parallel()
	key := newKey(t, "")
	const cases = "^(info|rst)-"
	var all casesResult
	r := pipe(t, "", "", "--json", "conformance", "--list", "--cases", cases)
	decode(t, r.out, &all)
	var harmful, slow int
	for _, c := range all.Cases {
		switch {
		case c.Needs.Destructive:
			harmful++
		case c.Needs.Wait > 0:
			slow++
		}
	}
	n := len(all.Cases)
	if harmful == 0 || slow != 0 || harmful == n {
		t.Fatalf("%d of %d, %d", harmful, n, slow)
	}
	s := person(t, key, "conformance", "--cases", cases, "--max-wait", "0")
	s.sees(fmt.Sprintf("Checking %s: %d cases,", key, n))
	s.sees(fmt.Sprintf("  %d cases need --destructive, and will be skipped.", harmful))
	s.sees(fmt.Sprintf("[%d of %d] ", n, n))
	if text := s.ends(0); strings.Contains(text, "--max-wait") {
		t.Errorf("%s", text)
	}
	r = pipe(t, key, "", "--yes", "conformance", "--destructive", "--cases", "^rst-", "--max-wait", "0")
	if r.code != 0 || strings.Contains(r.err, "--destructive") || !strings.Contains(r.err, "need a longer --max-wait, and will be skipped.") {
		t.Errorf("%+v", r)
	}
}

// What resumes a run is what began it, but for an older report.
func TestResuming(t *testing.T) {
	for line, want := range map[string]string{
		"conformance --report new.json":                                  "fidoctl conformance --report new.json --resume new.json",
		"--device /dev/hidraw3 conformance --resume old.json --quick":    "fidoctl --device /dev/hidraw3 conformance --quick --resume new.json",
		"conformance --resume=old.json --destructive --report it's.html": `fidoctl conformance --destructive --report 'it'\''s.html' --resume new.json`,
	} {
		if got := resuming(strings.Fields(line), "new.json"); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}
