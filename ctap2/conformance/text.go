package conformance

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// words are the outcomes at the beginning of a line, all as long.
var words = map[Outcome]string{Passed: "ok  ", Failed: "FAIL", NotApplicable: "n/a ", Skipped: "skip"}

// WriteText writes the report for a terminal: what failed, with the exchanges
// that led there, under the headings of the cases, then the counts. With verbose
// the other cases get a line each, too, which says why they do not apply or were
// left out.
func (r *Report) WriteText(w io.Writer, verbose bool) error {
	r = r.printable()
	b := bufio.NewWriter(w)
	a := &r.Authenticator
	fmt.Fprintf(b, "%s\n", a.title())
	for _, line := range a.lines() {
		fmt.Fprintf(b, "  %s\n", line)
	}
	fmt.Fprintf(b, "  %s\n", r.when())
	for _, g := range r.groups() {
		shown := g.Results
		if !verbose {
			shown = g.noteworthy()
		}
		if len(shown) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s: %s\n", g.Name, counts(g.Results))
		for i := range shown {
			shown[i].text(b)
		}
	}
	fmt.Fprintf(b, "\n%s\n", counts(r.Results))
	for _, line := range r.reasons(Skipped) {
		fmt.Fprintf(b, "  skipped: %s\n", line)
	}
	if r.Unfinished != "" {
		fmt.Fprintf(b, "The run ended early: %s\n", r.Unfinished)
	}
	return b.Flush()
}

func (r *Result) text(b *bufio.Writer) {
	fmt.Fprintf(b, "  %s  %s", words[r.Outcome], r.ID)
	if r.Outcome != Failed {
		if why := cmp.Or(r.Message, r.Remark); why != "" {
			fmt.Fprintf(b, ": %s", why)
		}
		fmt.Fprintln(b)
		return
	}
	fmt.Fprintf(b, "  %s, %s\n        %s\n        %s\n",
		r.Command, r.Section, r.Requirement, r.Message)
	if r.Variant != "" {
		fmt.Fprintf(b, "        with %s\n", r.Variant)
	}
	for _, e := range r.Exchanges {
		fmt.Fprintf(b, "          %s\n", strings.ReplaceAll(e.String(), "\n", "\n          "))
	}
}

// title is what a report is headed with.
func (a *Authenticator) title() string {
	return "Conformance to CTAP: " + cmp.Or(a.Name, "an authenticator")
}

// lines say what the authenticator is.
func (a *Authenticator) lines() []string {
	lines := []string{fmt.Sprintf("AAGUID %v, firmware %d", a.AAGUID, a.Firmware)}
	for _, list := range []struct {
		name  string
		words []string
	}{{"versions", a.Versions}, {"extensions", a.Extensions}, {"options", a.Options}} {
		if len(list.words) > 0 {
			lines = append(lines, list.name+" "+strings.Join(list.words, ", "))
		}
	}
	return lines
}

// when says when and how the run was.
func (r *Report) when() string {
	kind := "which changed nothing on it"
	if r.Destructive {
		kind = "which reset it"
	}
	return fmt.Sprintf("%s, in %v, %s", r.Started.Format("2006-01-02 15:04:05 MST"), took(r.Duration), kind)
}

// took rounds a duration to what people care for.
func took(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// noteworthy are the results that failed or have a remark.
func (g *group) noteworthy() []Result {
	var some []Result
	for _, r := range g.Results {
		if r.Outcome == Failed || r.Remark != "" {
			some = append(some, r)
		}
	}
	return some
}

// counts says how many results there are of each outcome.
func counts(results []Result) string {
	noun := "cases"
	if len(results) == 1 {
		noun = "case"
	}
	var parts []string
	for _, o := range outcomes {
		if n := count(results, o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	if n := remarks(results); n > 0 {
		parts = append(parts, fmt.Sprintf("%d with a remark", n))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", len(results), noun, strings.Join(parts, ", ")), ": ")
}

func remarks(results []Result) int {
	n := 0
	for i := range results {
		if results[i].Remark != "" {
			n++
		}
	}
	return n
}

// reasons are the messages of the results with an outcome, and how often each
// occurs, in the order of the first.
func (r *Report) reasons(o Outcome) []string {
	often := map[string]int{}
	var order []string
	for _, result := range r.Results {
		if result.Outcome != o {
			continue
		}
		if often[result.Message]++; often[result.Message] == 1 {
			order = append(order, result.Message)
		}
	}
	for i, message := range order {
		order[i] = fmt.Sprintf("%d, %s", often[message], cmp.Or(message, "nobody says why"))
	}
	return order
}
