package conformance

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tapstone/fido/ctap2"
)

// An Outcome is how a case ended.
type Outcome string

// Outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	NotApplicable Outcome = "not applicable" // the authenticator says that it is none of its business
	Skipped       Outcome = "skipped"        // it was left out: the run, or the operator, did not allow it
)

// outcomes has all, in the order in which reports count them.
var outcomes = []Outcome{Failed, Passed, NotApplicable, Skipped}

// A Result is what came of a case, and the case as it was then.
type Result struct {
	Case
	Outcome Outcome `json:"outcome"`
	// Message says what was wrong, or why the case was not run.
	Message string `json:"message,omitempty"`
	// Remark is an answer that the specification permits, but leaves open: see
	// Case.Open and Case.Either.
	Remark string `json:"remark,omitempty"`
	// Variant is the one that failed, of a case that was run with each PIN/UV
	// auth protocol and each way to obtain a token.
	Variant string `json:"variant,omitempty"`
	// Exchanges are those of a case that failed, in the order they were made,
	// without secrets. Those before the last fifty are left out.
	Exchanges []Exchange    `json:"exchanges,omitempty"`
	Duration  time.Duration `json:"-"` // in JSON, seconds
}

// An Exchange is a request and its answer, as a person reads them: in CBOR
// diagnostic notation as ctap2.Trace writes it, or in hexadecimal. Reports of
// CTAPHID stand for themselves: one that is sent has a Command and a Request, one
// that is received a Status and a Reply.
type Exchange struct {
	Command string `json:"command,omitempty"` // such as "authenticatorClientPIN getKeyAgreement"
	Request string `json:"request,omitempty"` // the parameters
	Status  string `json:"status,omitempty"`
	Reply   string `json:"reply,omitempty"`
	Error   string `json:"error,omitempty"` // in place of an answer
}

// A Report is what came of a run. [Report.WriteText], [Report.WriteHTML],
// [Report.WriteJUnit] and [Report.WriteJSON] write it down, and [ReadReport]
// reads the last of these.
type Report struct {
	Started       time.Time     `json:"started"`
	Duration      time.Duration `json:"-"` // in JSON, seconds
	Authenticator Authenticator `json:"authenticator"`
	// Destructive is Config.Destructive.
	Destructive bool `json:"destructive"`
	// Unfinished says why the run ended early; empty: it did not.
	Unfinished string   `json:"unfinished,omitempty"`
	Results    []Result `json:"results"` // in the order of Cases
}

// An Authenticator is what a report says of the authenticator.
type Authenticator struct {
	Name       string       `json:"name,omitempty"` // Config.Name
	AAGUID     ctap2.AAGUID `json:"aaguid"`
	Firmware   uint64       `json:"firmware,omitempty"`
	Versions   []string     `json:"versions"`
	Extensions []string     `json:"extensions,omitempty"`
	Options    []string     `json:"options,omitempty"` // those that are true, by name
}

// Count returns the number of results with an outcome.
func (r *Report) Count(o Outcome) int { return count(r.Results, o) }

func count(results []Result, o Outcome) int {
	n := 0
	for i := range results {
		if results[i].Outcome == o {
			n++
		}
	}
	return n
}

// A group is the results under one heading.
type group struct {
	Name    string
	Results []Result
}

// groups returns the results by their headings, in the order of the first of
// each.
func (r *Report) groups() []group {
	var all []group
	for _, result := range r.Results {
		i := slices.IndexFunc(all, func(g group) bool { return g.Name == result.Group })
		if i < 0 {
			i = len(all)
			all = append(all, group{Name: result.Group})
		}
		all[i].Results = append(all[i].Results, result)
	}
	return all
}

// printable returns the report without what could steer a terminal, or is no
// character of XML: texts come from the authenticator, or quote it.
func (r *Report) printable() *Report {
	p := *r
	p.Authenticator = r.Authenticator.printable()
	p.Unfinished = printable(r.Unfinished)
	p.Results = slices.Clone(r.Results)
	for i := range p.Results {
		result := &p.Results[i]
		for _, s := range []*string{
			&result.ID, &result.Group, &result.Command, &result.Requirement, &result.Status, &result.Section,
			&result.Message, &result.Remark, &result.Variant,
		} {
			*s = printable(*s)
		}
		result.Exchanges = slices.Clone(result.Exchanges)
		for j := range result.Exchanges {
			e := &result.Exchanges[j]
			*e = Exchange{printable(e.Command), printable(e.Request), printable(e.Status), printable(e.Reply), printable(e.Error)}
		}
	}
	return &p
}

func (a Authenticator) printable() Authenticator {
	a.Name = printable(a.Name)
	for _, list := range []*[]string{&a.Versions, &a.Extensions, &a.Options} {
		*list = slices.Clone(*list)
		for i, s := range *list {
			(*list)[i] = printable(s)
		}
	}
	return a
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
