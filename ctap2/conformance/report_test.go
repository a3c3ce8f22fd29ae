package conformance_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// A careless authenticator says that all is well where it should have refused
// these commands.
type careless struct {
	ctap2.Transport
	commands []byte
}

func (c careless) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := c.Transport.Exchange(ctx, message, status)
	if len(message) > 0 && bytes.IndexByte(c.commands, message[0]) >= 0 && err == nil {
		return []byte{0}, nil
	}
	return reply, err
}

// spoiled is a target whose authenticator is careless.
func spoiled(target conformance.Target, commands ...byte) conformance.Target {
	open := target.Open
	target.Open = func(ctx context.Context) (ctap2.Transport, error) {
		t, err := open(ctx)
		return careless{t, commands}, err
	}
	return target
}

// reportPIN is what no report may hold.
const reportPIN = "correct horse"

// failing is the report of a run on a key with a PIN, of which some cases fail,
// some pass, some do not apply, and some are left out.
func failing(t *testing.T) *conformance.Report {
	t.Helper()
	var report *conformance.Report
	synctest.Test(t, func(t *testing.T) {
		config := virtual.ProfileCTAP21.Config()
		config.PIN = reportPIN
		key, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		report, err = conformance.Check(t.Context(), conformance.Config{
			Target: spoiled(memory(key), 0x0F, 0x03), Name: "A careless <key> & co", MaxWait: time.Second,
			PIN:  pin.FromString(reportPIN),
			Only: func(c conformance.Case) bool { return regexp.MustCompile(`^(enc|gi|pin|gpt|gr|cp)-`).MatchString(c.ID) },
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, o := range []conformance.Outcome{conformance.Passed, conformance.Failed, conformance.Skipped} {
		if report.Count(o) == 0 {
			t.Errorf("no case is %s", o)
		}
	}
	if r := result(t, report, "enc-unknown-command"); r.Outcome != conformance.Failed || len(r.Exchanges) == 0 {
		t.Fatalf("%+v", r)
	}
	return report
}

func result(t *testing.T, report *conformance.Report, id string) *conformance.Result {
	t.Helper()
	for i := range report.Results {
		if report.Results[i].ID == id {
			return &report.Results[i]
		}
	}
	t.Fatalf("%s is not in the report", id)
	return nil
}

// made is a report that holds one of everything, and what a hostile
// authenticator would like to have in it.
func made() *conformance.Report {
	evil := "</script><b>\x1b[2J\x00\u202e\uFFFE&\"]]>"
	group := func(name string, results ...conformance.Result) []conformance.Result {
		for i := range results {
			results[i].Group = name
			results[i].Command, results[i].Requirement, results[i].Section = "getInfo", "It is so.", "§6.4"
		}
		return results
	}
	one := func(id string, o conformance.Outcome, message string) conformance.Result {
		return conformance.Result{Case: conformance.Case{ID: id}, Outcome: o, Message: message, Duration: 1500 * time.Microsecond}
	}
	bad := one("one-bad", conformance.Failed, "answered OK, must be OTHER "+evil)
	bad.Status, bad.Variant = "OTHER", "PIN/UV auth protocol 1, tokens by PIN"
	bad.Needs = conformance.Needs{Destructive: true, Gestures: []conformance.Gesture{conformance.NoTouch}, Wait: 31 * time.Second}
	bad.Exchanges = []conformance.Exchange{
		{Command: "authenticatorGetInfo", Request: `{1: "` + evil + `"}`, Status: "OK", Reply: "{1: h'00'}"},
		{Command: "0x0F", Error: "the key is gone"},
	}
	noted := one("one-noted", conformance.Passed, "")
	noted.Open, noted.Remark = true, "answered OTHER, must be OK"
	results := group("One", one("one-good", conformance.Passed, ""), bad, noted)
	results = append(results, group("Two & more", one("two-none", conformance.NotApplicable, "has no PIN"),
		one("two-none-either", conformance.NotApplicable, "has no PIN"), one("two-left", conformance.Skipped, "takes 31s of waiting"))...)
	return &conformance.Report{
		Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Duration: 2*time.Minute + 1500*time.Millisecond,
		Authenticator: conformance.Authenticator{Name: evil, Firmware: 7, Versions: []string{"FIDO_2_1"}, Options: []string{"rk", "up"}},
		Destructive:   true, Unfinished: "it is gone", Results: results,
	}
}

// written are a report's forms, by name.
func written(t *testing.T, report, before *conformance.Report) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name, write := range writers(report, before) {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = b.String()
	}
	return all
}

func writers(report, before *conformance.Report) map[string]func(io.Writer) error {
	all := map[string]func(io.Writer) error{
		"text":    func(w io.Writer) error { return report.WriteText(w, false) },
		"verbose": func(w io.Writer) error { return report.WriteText(w, true) },
		"json":    report.WriteJSON,
		"junit":   report.WriteJUnit,
		"html":    func(w io.Writer) error { return report.WriteHTML(w, before) },
	}
	if before != nil {
		all["comparison"] = conformance.Compare(before, report).WriteText
	}
	return all
}

// TestReportHoldsNoSecrets: a run that knows the PIN does not write it down.
func TestReportHoldsNoSecrets(t *testing.T) {
	report := failing(t)
	seen := false
	for _, r := range report.Results {
		seen = seen || r.Outcome == conformance.Passed && r.Needs.PIN
	}
	if !seen {
		t.Error("no case has used the PIN")
	}
	// Every case fails: each has exchanges to show.
	for i := range report.Results {
		report.Results[i].Outcome = conformance.Failed
	}
	for name, text := range written(t, report, made()) {
		for _, secret := range []string{reportPIN, hex.EncodeToString([]byte(reportPIN))} {
			if strings.Contains(strings.ToLower(text), secret) {
				t.Errorf("%s: the PIN is in it", name)
			}
		}
	}
}

// A full disk is an error, wherever it is full.
func TestReportNotWritten(t *testing.T) {
	full := errors.New("full")
	for name, write := range writers(made(), failing(t)) {
		if err := write(writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// What a report holds can steer no terminal, and is well-formed.
func TestReportEscapes(t *testing.T) {
	report := made()
	all := written(t, report, report)
	for name, text := range all {
		if i := strings.IndexAny(text, "\x00\x1b\uFFFE\u202e"); i >= 0 && name != "json" {
			t.Errorf("%s: %q", name, text[max(i-40, 0):i+1])
		}
	}
	if n := strings.Count(all["html"], "</script>"); n != 1 || strings.Contains(all["html"], "<b>\uFFFD") {
		t.Errorf("html: %d scripts end", n)
	}
}

func TestReportText(t *testing.T) {
	report := made()
	report.Authenticator.Name = "a key"
	all := written(t, report, nil)
	for _, want := range []string{
		"Conformance to CTAP: a key\n  AAGUID 00000000-0000-0000-0000-000000000000, firmware 7\n  versions FIDO_2_1\n",
		"2026-03-01 12:00:00 UTC, in 2m2s, which reset it\n",
		"\nOne: 3 cases: 1 failed, 2 passed, 1 with a remark\n",
		"  FAIL  one-bad  getInfo, §6.4\n        It is so.\n        answered OK, must be OTHER",
		"        with PIN/UV auth protocol 1, tokens by PIN\n",
		"          > authenticatorGetInfo {1: ", "          < OK {1: h'00'}\n          > 0x0F\n          < the key is gone\n",
		"  ok    one-noted: answered OTHER, must be OK\n",
		"\n6 cases: 1 failed, 2 passed, 2 not applicable, 1 skipped, 1 with a remark\n",
		"\n  skipped: 1, takes 31s of waiting\n",
		"The run ended early: it is gone\n",
	} {
		if !strings.Contains(all["text"], want) {
			t.Errorf("no %q in\n%s", want, all["text"])
		}
	}
	if strings.Contains(all["text"], "one-good") || strings.Contains(all["text"], "two-none") {
		t.Errorf("%s", all["text"])
	}
	for _, want := range []string{"  ok    one-good\n", "  n/a   two-none: has no PIN\n", "  skip  two-left: takes 31s of waiting\n"} {
		if !strings.Contains(all["verbose"], want) {
			t.Errorf("no %q in\n%s", want, all["verbose"])
		}
	}
}

func TestReportJSON(t *testing.T) {
	for _, report := range []*conformance.Report{made(), failing(t), {Results: []conformance.Result{}}} {
		text := written(t, report, nil)["json"]
		read, err := conformance.ReadReport(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		if again := written(t, read, nil)["json"]; again != text {
			t.Errorf("read and written again it is\n%s\nnot\n%s", again, text)
		}
		if len(read.Results) != len(report.Results) || read.Duration != report.Duration.Round(time.Microsecond) {
			t.Errorf("%d results in %v", len(read.Results), read.Duration)
		}
		for i := range read.Results {
			got, want := &read.Results[i], &report.Results[i]
			if got.ID != want.ID || got.Needs.Wait != want.Needs.Wait || !reflect.DeepEqual(got.Exchanges, want.Exchanges) ||
				got.Duration != want.Duration.Round(time.Microsecond) {
				t.Errorf("%+v, not %+v", got, want)
			}
		}
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(written(t, made(), nil)["json"]), &members); err != nil {
		t.Fatal(err)
	}
	if members["version"] != 1.0 || members["seconds"] != 121.5 || members["started"] != "2026-03-01T12:00:00Z" {
		t.Errorf("%v", members)
	}
	bad := members["results"].([]any)[1].(map[string]any)
	if bad["seconds"] != 0.0015 || bad["needs"].(map[string]any)["waitSeconds"] != 31.0 {
		t.Errorf("%v", bad)
	}
}

func TestReadReportRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":               "EOF",
		"[]":             "cannot unmarshal array",
		"{}":             "no version",
		`{"version": 2}`: "its version is 2, and only version 1 is known here",
		`{"version": 1, "results": [{"id": "x", "outcome": "splendid"}]}`: `"splendid"`,
		`{"version": 1, "results": [{"outcome": "passed"}]}`:              "result 1",
		`{"version": 1, "results": [{"id": 7}]}`:                          "cannot unmarshal number",
		`{"version": "1"}`:                                                "cannot unmarshal string",
	} {
		_, err := conformance.ReadReport(strings.NewReader(text))
		if !errors.Is(err, conformance.ErrReport) || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "not a report") != 1 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReportJUnit(t *testing.T) {
	type problem struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	var run struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Suites   []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Cases    []struct {
				Name    string   `xml:"name,attr"`
				Class   string   `xml:"classname,attr"`
				Time    string   `xml:"time,attr"`
				Failure *problem `xml:"failure"`
				Error   *problem `xml:"error"`
				Skipped *problem `xml:"skipped"`
				Output  string   `xml:"system-out"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	text := written(t, made(), nil)["junit"]
	d := xml.NewDecoder(strings.NewReader(text)) // which refuses what is not well-formed
	if err := d.Decode(&run); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if run.Tests != 7 || run.Failures != 1 || run.Errors != 1 || run.Skipped != 3 || len(run.Suites) != 3 {
		t.Fatalf("%+v", run)
	}
	one := run.Suites[0]
	if one.Name != "One" || one.Tests != 3 || one.Failures != 1 || len(one.Cases) != 3 {
		t.Fatalf("%+v", one)
	}
	bad, noted := one.Cases[1], one.Cases[2]
	if bad.Name != "one-bad" || bad.Class != "One" || bad.Time != "0.001500" || bad.Failure == nil || bad.Skipped != nil ||
		!strings.HasPrefix(bad.Failure.Message, "answered OK, must be OTHER") || !strings.Contains(bad.Failure.Text, "It is so.") ||
		!strings.Contains(bad.Output, "> authenticatorGetInfo {1: ") || !strings.Contains(bad.Output, "< the key is gone") {
		t.Errorf("%+v", bad)
	}
	if noted.Failure != nil || noted.Output != "remark: answered OTHER, must be OK\n" {
		t.Errorf("%+v", noted)
	}
	if s := run.Suites[1].Cases[2].Skipped; s == nil || s.Message != "skipped: takes 31s of waiting" {
		t.Errorf("%+v", s)
	}
	if e := run.Suites[2].Cases[0].Error; e == nil || e.Message != "it is gone" {
		t.Errorf("%+v", e)
	}
}
