package conformance

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The elements of JUnit's reports, as far as CI servers agree on them.
type (
	junitRun struct {
		XMLName   xml.Name     `xml:"testsuites"`
		Name      string       `xml:"name,attr"`
		Tests     int          `xml:"tests,attr"`
		Failures  int          `xml:"failures,attr"`
		Errors    int          `xml:"errors,attr"`
		Skipped   int          `xml:"skipped,attr"`
		Time      string       `xml:"time,attr"`
		Timestamp string       `xml:"timestamp,attr"`
		Suites    []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitProblem `xml:"failure"`
		Error   *junitProblem `xml:"error"`
		Skipped *junitProblem `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as CI servers read it: JUnit's XML, with a
// testsuite for each group of cases. Cases that do not apply and those that were
// left out are skipped tests. A run that ended early has an error besides.
func (r *Report) WriteJUnit(w io.Writer) error {
	r = r.printable()
	stamp := r.Started.UTC().Format("2006-01-02T15:04:05")
	run := junitRun{
		Name: r.Authenticator.title(), Tests: len(r.Results), Failures: r.Count(Failed),
		Skipped: r.Count(NotApplicable) + r.Count(Skipped), Time: junitTime(r.Duration), Timestamp: stamp,
	}
	properties := []junitProperty{
		{"authenticator", r.Authenticator.Name}, {"aaguid", r.Authenticator.AAGUID.String()},
		{"firmware", fmt.Sprint(r.Authenticator.Firmware)}, {"versions", strings.Join(r.Authenticator.Versions, " ")},
	}
	for _, g := range r.groups() {
		suite := junitSuite{
			Name: g.Name, Tests: len(g.Results), Failures: count(g.Results, Failed),
			Skipped: count(g.Results, NotApplicable) + count(g.Results, Skipped), Timestamp: stamp, Properties: properties,
		}
		var total time.Duration
		for i := range g.Results {
			total += g.Results[i].Duration
			suite.Cases = append(suite.Cases, g.Results[i].junit())
		}
		suite.Time = junitTime(total)
		run.Suites = append(run.Suites, suite)
	}
	if r.Unfinished != "" {
		run.Tests++
		run.Errors++
		run.Suites = append(run.Suites, junitSuite{
			Name: "the run", Tests: 1, Errors: 1, Time: junitTime(0), Timestamp: stamp, Properties: properties,
			Cases: []junitCase{{Name: "end", Class: "the run", Time: junitTime(0),
				Error: &junitProblem{Message: r.Unfinished, Type: "unfinished"}}},
		})
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	if err := e.Encode(run); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r *Result) junit() junitCase {
	c := junitCase{Name: r.ID, Class: r.Group, Time: junitTime(r.Duration)}
	switch r.Outcome {
	case Failed:
		text := fmt.Sprintf("%s, %s\n%s", r.Command, r.Section, r.Requirement)
		if r.Variant != "" {
			text += "\nwith " + r.Variant
		}
		c.Failure = &junitProblem{r.Message, string(Failed), text}
	case NotApplicable, Skipped:
		c.Skipped = &junitProblem{Message: fmt.Sprintf("%s: %s", r.Outcome, cmp.Or(r.Message, "nobody says why"))}
	}
	if r.Remark != "" {
		c.Output = "remark: " + r.Remark + "\n"
	}
	for _, e := range r.Exchanges {
		c.Output += e.String() + "\n"
	}
	return c
}

// junitTime is a time in seconds.
func junitTime(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }
