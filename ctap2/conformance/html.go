package conformance

import (
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

var (
	//go:embed report.html
	reportPage string
	//go:embed report.css
	reportStyle string
	//go:embed report.js
	reportScript string
)

// A mark is how an outcome is shown, besides its colour.
type mark struct {
	Outcome Outcome
	Key     string // for CSS and in fragments of the address
	Sign    string
	Word    string
}

var marks = []mark{
	{Failed, "failed", "✗", "Failed"},
	{Passed, "passed", "✓", "Passed"},
	{NotApplicable, "not-applicable", "–", "Not applicable"},
	{Skipped, "skipped", "○", "Skipped"},
}

func markOf(o Outcome) mark {
	for _, m := range marks {
		if m.Outcome == o {
			return m
		}
	}
	return mark{Outcome: o, Key: "other", Sign: "?", Word: string(o)}
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"mark":    markOf,
	"count":   count,
	"remarks": remarks,
	"took":    func(d time.Duration) string { return took(d).String() },
	"date":    func(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") },
	"iso":     func(t time.Time) string { return t.Format(time.RFC3339) },
	"join":    func(words []string) string { return strings.Join(words, ", ") },
	"byKind":  byKind,
	"anchor":  func(i int) string { return fmt.Sprintf("group-%d", i+1) },
}).Parse(reportPage))

// WriteHTML writes the report as one page to look at, which loads nothing and
// works without a network, and without scripts. The fragment of its address
// chooses what is shown: failed, passed, not-applicable, skipped, remarks or
// all, and behind an equals sign a text to search for: #failed=pin.
//
// If before is the report of an earlier run, the page begins with what has
// changed since; it may be nil.
func (r *Report) WriteHTML(w io.Writer, before *Report) error {
	r = r.printable()
	view := struct {
		*Report
		Title  string
		Policy string
		Style  template.CSS
		Script template.JS
		Marks  []mark
		Bar    []segment
		Groups []group
		Since  *Comparison
	}{
		Report: r, Title: r.Authenticator.title(), Marks: marks, Bar: bar(r.Results), Groups: r.groups(),
		// Nothing but these two may run or be loaded.
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'",
			digest(reportStyle), digest(reportScript)),
		Style: template.CSS(reportStyle), Script: template.JS(reportScript),
	}
	if before != nil {
		view.Since = Compare(before.printable(), r)
	}
	return page.Execute(w, view)
}

// changes are those of a kind. The serious ones are shown, the others folded.
type changes struct {
	Kind    ChangeKind
	Serious bool
	Changes []Change
}

func byKind(c *Comparison) []changes {
	var all []changes
	for _, change := range c.Changes { // which are in the order of their kinds
		if len(all) == 0 || all[len(all)-1].Kind != change.Kind {
			all = append(all, changes{Kind: change.Kind, Serious: change.Kind == NewlyFailed || change.Kind == Fixed})
		}
		last := &all[len(all)-1]
		last.Serious = last.Serious || change.worse()
		last.Changes = append(last.Changes, change)
	}
	return all
}

// digest is how a Content-Security-Policy names a script or style.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// A segment is the part of the bar that stands for an outcome, in thousandths.
type segment struct {
	mark
	From, Width float64
}

// bar divides a bar among the outcomes. A single case among hundreds can still
// be seen.
func bar(results []Result) []segment {
	const least = 8
	var segments []segment
	total := 0.0
	for _, o := range []Outcome{Passed, Failed, NotApplicable, Skipped} {
		if n := count(results, o); n > 0 {
			s := segment{mark: markOf(o), Width: max(least, 1000*float64(n)/float64(len(results)))}
			segments = append(segments, s)
			total += s.Width
		}
	}
	from := 0.0
	for i := range segments {
		segments[i].From, segments[i].Width = from, segments[i].Width*1000/total
		from += segments[i].Width
	}
	return segments
}
