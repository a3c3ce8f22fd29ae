package conformance

import (
	_ "embed" // the tables
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Case checks one requirement of the specification.
type Case struct {
	// ID is short, and stays the same in later versions.
	ID string `json:"id"`
	// Group is the heading that it stands under, such as "setPIN and changePIN".
	Group string `json:"group"`
	// Command is the command or subcommand that it is about, by its name in the
	// specification; for a transport, the message.
	Command string `json:"command,omitempty"`
	// Requirement says how the authenticator is set up and what is right, or
	// wrong, with the request; or what must be true.
	Requirement string `json:"requirement"`
	// Status is the name of the status that must be the answer, without the
	// prefix of §8.2, or a status word of U2F in hexadecimal. It is empty where
	// the Requirement says it all.
	Status string `json:"status,omitempty"`
	// Section is the section of CTAP 2.3, and the step of its algorithm where
	// there is one, or that of FIDO U2F.
	Section string `json:"section"`
	// Open: the specification leaves open which error is the answer: it gives one
	// as an example, permits more, or names none. Another is a remark in the
	// Result and not a failure.
	Open bool `json:"open,omitempty"`
	// Either: it leaves open even whether the answer is an error, or only
	// recommends what the Requirement says. No answer is a failure. Open is true,
	// too.
	Either bool `json:"either,omitempty"`
	// Needs is what it takes.
	Needs Needs `json:"needs,omitzero"`

	setup setup
	run   func(x *trial) error
}

// Needs says what a case takes besides an authenticator that can do what it is
// about.
type Needs struct {
	// Destructive cases begin with an authenticator that was reset, or change
	// what it keeps.
	Destructive bool `json:"destructive,omitempty"`
	// PIN: one is set. A destructive run sets its own.
	PIN bool `json:"pin,omitempty"`
	// UV: built-in user verification is ready, as it is when a finger is
	// enrolled. A destructive run enrols it.
	UV bool `json:"uv,omitempty"`
	// Gestures are what the person does besides touching the authenticator
	// whenever it asks for it.
	Gestures []Gesture `json:"gestures,omitempty"`
	// PowerCycle: it is unplugged, or taken off the reader, on the way.
	PowerCycle bool `json:"powerCycle,omitempty"`
	// Wait is the longest time that it lets pass; in JSON, waitSeconds.
	Wait time.Duration `json:"-"`
	// PINTries is how many times at most it enters a wrong PIN.
	PINTries int `json:"pinTries,omitempty"`
	// Transport is what it must have at hand below the messages: "hid" for
	// reports, "nfc" for APDUs; empty for neither.
	Transport string `json:"transport,omitempty"`
}

//go:embed status-table.md
var statusTable string

//go:embed requirements.md
var requirements string

// Cases returns all cases, in the order of the tables.
func Cases() []Case { return slices.Clone(cases()) }

var cases = sync.OnceValue(func() []Case {
	d := drivers{of: map[string]driver{}}
	d.all()
	var all []Case
	for _, row := range append(rows(statusTable), rows(requirements)...) {
		drive := d.of[row.ID] // each has one, and only one: TestCases
		row.setup, row.run, row.Needs = drive.setup, drive.run, drive.setup.needs()
		all = append(all, row)
	}
	return all
})

// rows reads the tables of a Markdown file: those of status-table.md have five
// cells to a row, those of requirements.md four, without the status.
func rows(text string) []Case {
	var all []Case
	group := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			group = heading
		}
		line, isRow := strings.CutPrefix(line, "| ")
		if !isRow || strings.HasPrefix(line, "ID |") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		c := Case{ID: cells[0], Group: group}
		if len(cells) > 3 {
			c.Command, c.Requirement, c.Section = cells[1], cells[2], cells[len(cells)-1]
		}
		if len(cells) > 4 {
			c.Status = cells[3]
		}
		c.Section, c.Either = strings.CutSuffix(c.Section, " **")
		c.Section, c.Open = strings.CutSuffix(c.Section, " *")
		c.Open = c.Open || c.Either
		all = append(all, c)
	}
	return all
}

// A driver is the code of a case: setup is what it finds, and run brings about
// its condition and returns the error of its command, or checks what it
// requires and returns nil.
type driver struct {
	setup setup
	run   func(x *trial) error
}

// drivers collects the code of the cases by their IDs.
type drivers struct {
	of    map[string]driver
	twice []string
}

func (d *drivers) add(id string, s setup, run func(x *trial) error) {
	if _, known := d.of[id]; known {
		d.twice = append(d.twice, id)
	}
	d.of[id] = driver{s, run}
}

// String returns the ID.
func (c Case) String() string { return c.ID }

// permits reports whether the specification leaves open an answer other than the
// one that is expected. Opposite is one that is an error where that is OK, or OK
// where that is an error.
func (c *Case) permits(opposite bool) bool { return c.Either || c.Open && !opposite }

// opposes reports whether a status is the opposite of the one that is expected.
func (c *Case) opposes(got string) bool {
	return (got == "OK") != (c.Status == "OK" || c.Status == "9000" || c.Status == "")
}

// expects compares the answer with the Status.
func (c *Case) expects(got string) error {
	if got == c.Status || got == "OK" && c.Status == "9000" || c.Status == "" && got == "OK" {
		return nil
	}
	want := c.Status
	if want == "" {
		want = "OK"
	}
	return fmt.Errorf("answered %s, must be %s", got, want)
}
