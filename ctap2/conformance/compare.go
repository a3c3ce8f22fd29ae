package conformance

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Comparison is what has changed from one report to another.
type Comparison struct {
	Before  Compared `json:"before"`
	After   Compared `json:"after"`
	Changes []Change `json:"changes"` // in the order of ChangeKinds, then of the cases
}

// Compared is one of the two reports.
type Compared struct {
	Started       time.Time     `json:"started"`
	Authenticator Authenticator `json:"authenticator"`
}

// A Change is a case that ended in another way.
type Change struct {
	Kind  ChangeKind `json:"kind"`
	ID    string     `json:"id"`
	Group string     `json:"group"`
	// Before and After are the outcomes; empty where the report does not have
	// the case.
	Before Outcome `json:"before,omitempty"`
	After  Outcome `json:"after,omitempty"`
	// Message is that of the later report; of a case that is gone, the earlier
	// one's.
	Message string `json:"message,omitempty"`
}

// A ChangeKind says in what way a case has changed.
type ChangeKind string

// Kinds of changes. What was not applicable and is left out now, or the other
// way round, has not changed.
const (
	NewlyFailed        ChangeKind = "newly failed"         // it fails, and did not
	NoLongerApplicable ChangeKind = "no longer applicable" // it was run, and now the authenticator says that it is none of its business
	Fixed              ChangeKind = "fixed"                // it failed, and passes
	NewlyApplicable    ChangeKind = "newly applicable"     // it passes, and did not apply
	NewlyRun           ChangeKind = "newly run"            // it passes, and was left out
	NoLongerRun        ChangeKind = "no longer run"        // it was run, and is left out
	New                ChangeKind = "new"                  // the earlier report does not have it
	Gone               ChangeKind = "gone"                 // the later one does not
)

// ChangeKinds returns all kinds, the worst first.
func ChangeKinds() []ChangeKind {
	return []ChangeKind{NewlyFailed, NoLongerApplicable, Fixed, NewlyApplicable, NewlyRun, NoLongerRun, New, Gone}
}

// Compare compares a report with an earlier one.
func Compare(before, after *Report) *Comparison {
	c := &Comparison{
		Before:  Compared{before.Started, before.Authenticator},
		After:   Compared{after.Started, after.Authenticator},
		Changes: []Change{},
	}
	earlier := map[string]*Result{}
	for i := range before.Results {
		earlier[before.Results[i].ID] = &before.Results[i]
	}
	for _, r := range after.Results {
		change := Change{ID: r.ID, Group: r.Group, After: r.Outcome, Message: r.Message}
		if was, ok := earlier[r.ID]; ok {
			change.Before = was.Outcome
			delete(earlier, r.ID)
		}
		if change.Kind = kindOf(change.Before, change.After); change.Kind != "" {
			c.Changes = append(c.Changes, change)
		}
	}
	for _, r := range before.Results {
		if earlier[r.ID] != nil {
			c.Changes = append(c.Changes, Change{Gone, r.ID, r.Group, r.Outcome, "", r.Message})
		}
	}
	slices.SortStableFunc(c.Changes, func(a, b Change) int {
		return slices.Index(ChangeKinds(), a.Kind) - slices.Index(ChangeKinds(), b.Kind)
	})
	return c
}

// kindOf says how an outcome differs from another; empty: not in a way that
// matters.
func kindOf(before, after Outcome) ChangeKind {
	wasRun := before == Passed || before == Failed
	switch {
	case before == after:
		return ""
	case before == "":
		return New
	case after == Failed:
		return NewlyFailed
	case after == Passed && before == Failed:
		return Fixed
	case after == Passed && before == NotApplicable:
		return NewlyApplicable
	case after == Passed:
		return NewlyRun
	case after == NotApplicable && wasRun:
		return NoLongerApplicable
	case after == Skipped && wasRun:
		return NoLongerRun
	}
	return ""
}

// Worse reports whether a case fails that did not fail before, or one that
// passed does not apply any more.
func (c *Comparison) Worse() bool {
	return slices.ContainsFunc(c.Changes, Change.worse)
}

func (c Change) worse() bool {
	return c.Before != Failed && c.After == Failed || c.Before == Passed && c.After == NotApplicable
}

// WriteText writes the comparison for a terminal.
func (c *Comparison) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, report := range []struct {
		name string
		Compared
	}{{"before", c.Before}, {"after ", c.After}} {
		fmt.Fprintf(b, "%s  %s, %s, firmware %d\n", report.name, report.Started.Format("2006-01-02 15:04:05 MST"),
			printable(report.Authenticator.title()), report.Authenticator.Firmware)
	}
	for i, change := range c.Changes {
		if i == 0 || change.Kind != c.Changes[i-1].Kind {
			fmt.Fprintf(b, "\n%s\n", change.Kind)
		}
		fmt.Fprintf(b, "  %s: %s", printable(change.ID), change.outcomes())
		if change.Message != "" {
			fmt.Fprintf(b, ": %s", printable(change.Message))
		}
		fmt.Fprintln(b)
	}
	if len(c.Changes) == 0 {
		fmt.Fprint(b, "\nNo case ended in another way.\n")
	}
	return b.Flush()
}

func (c *Change) outcomes() string {
	switch {
	case c.Before == "":
		return string(c.After)
	case c.After == "":
		return "was " + string(c.Before)
	}
	return fmt.Sprintf("%s, was %s", c.After, c.Before)
}
