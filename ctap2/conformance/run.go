package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// A Config says what to check, and how. Target is required.
type Config struct {
	Target Target
	// Name is what the report calls the authenticator; it may be empty.
	Name string
	// Only chooses cases; nil: all.
	Only func(c Case) bool
	// Destructive lets the run reset the authenticator, again and again, and
	// change what it keeps. Everything on it is lost. It takes an
	// Operator.PowerCycle, without which no authenticator can be reset, or an
	// Operator.Reset.
	Destructive bool
	// PIN is the one that is set, for a run that is not Destructive; without it
	// the cases that need it are skipped. It stays the caller's.
	PIN pin.Secret
	// MaxWait skips the cases that let a longer time pass, for which nothing is
	// done but waiting. Zero: those that wait at all; negative: none.
	MaxWait time.Duration
	// OneVariant runs each case once, and not with each PIN/UV auth protocol
	// and each way to obtain a token.
	OneVariant bool
	// Previous is the report of a run that was stopped, of the same
	// authenticator: what it has a verdict on is taken over and not run again.
	Previous *Report
	// Event hears of each step, in order; nil: nobody does.
	Event func(Event)
}

// Cases returns the cases that Check goes through, in the order of the tables:
// those that Only chooses, without those that Previous has a verdict on. Events
// count these. Whether one applies shows in the run alone; one whose Needs the
// Config does not allow is left out.
func (c *Config) Cases() []Case { return pending(c.chosen(), c.verdicts()) }

// chosen are the cases of the report, in the order of the tables.
func (c *Config) chosen() []Case {
	return slices.DeleteFunc(Cases(), func(one Case) bool { return one.run == nil || c.Only != nil && !c.Only(one) })
}

// verdicts are the results that are taken over, by the ID of the case.
func (c *Config) verdicts() map[string]Result {
	results := map[string]Result{}
	if c.Previous == nil {
		return results
	}
	for _, r := range c.Previous.Results {
		// What did not apply to the state that a harmless run has found may
		// apply to that after a reset.
		if r.Outcome != Skipped && (r.Outcome != NotApplicable || c.Previous.Destructive == c.Destructive) {
			results[r.ID] = r
		}
	}
	return results
}

// pending are those of the cases that have no result.
func pending(chosen []Case, results map[string]Result) []Case {
	return slices.DeleteFunc(slices.Clone(chosen), func(c Case) bool {
		_, have := results[c.ID]
		return have
	})
}

// An Event is a step of a run. In JSON it is one object; the package's doc says
// which members come when.
type Event struct {
	Kind EventKind `json:"event"`
	// Authenticator comes with Begin.
	Authenticator *Authenticator `json:"authenticator,omitempty"`
	// Total is the number of Config.Cases: all that were chosen, also those that
	// turn out not to apply and those that are left out, which end at once, but
	// without those that Config.Previous has a verdict on. It comes with Begin,
	// CaseBegin and CaseEnd.
	Total int `json:"total,omitempty"`
	// Number is that of the case among these, from 1. It comes with CaseBegin
	// and CaseEnd.
	Number int `json:"number,omitempty"`
	// Case comes with CaseBegin; and with Preparing, Person and Waiting, if it is
	// for one.
	Case *Case `json:"case,omitempty"`
	// Result comes with CaseEnd.
	Result *Result `json:"result,omitempty"`
	// Gesture comes with Waiting, and with Person, unless a power cycle is asked
	// for.
	Gesture Gesture `json:"gesture,omitempty"`
	// Message comes with Preparing, with Person, if a power cycle is asked for,
	// and with End, if the run ended early: why.
	Message string `json:"message,omitempty"`
	// Counts of outcomes, with what was taken over, come with End.
	Counts map[Outcome]int `json:"counts,omitempty"`
}

// An EventKind says what an Event is about.
type EventKind string

// Kinds of events.
const (
	Begin     EventKind = "begin"     // the authenticator answers
	Preparing EventKind = "preparing" // it is brought into the state that the next case needs
	CaseBegin EventKind = "case"      // a case begins
	Person    EventKind = "person"    // something is asked of whoever is there
	Waiting   EventKind = "waiting"   // the authenticator waits for them
	CaseEnd   EventKind = "result"    // it has ended
	End       EventKind = "end"       // the last event
)

// Run checks the authenticator inside a Go test, each case in a subtest of its
// ID, and returns the report. Cases that are not applicable, or left out, are
// skipped tests.
func Run(t *testing.T, config Config) *Report {
	t.Helper()
	report, err := Check(t.Context(), config)
	if err != nil {
		t.Error(err)
	}
	if report == nil {
		return nil
	}
	for _, result := range report.Results {
		t.Run(result.ID, func(t *testing.T) {
			switch result.Outcome {
			case Failed:
				t.Error(result.describe())
			case NotApplicable, Skipped:
				t.Skip(result.Message)
			}
		})
	}
	return report
}

// ErrAnother is the error of Check if Config.Previous is of an authenticator of
// another model or firmware.
var ErrAnother = errors.New("conformance: the previous report is of another authenticator")

// Check checks the authenticator. It returns an error, besides the report so
// far, if the run had to end early: because ctx ended, because Target.Open or the
// Operator failed, or because several cases in a row could not be prepared, or
// had no answer in their time. Without a report it has not begun: what it takes is
// not there, the authenticator could not be opened, or is ErrAnother.
//
// A destructive run ends with a reset. One that ended early leaves the
// authenticator as its last case did: with a PIN of the run, perhaps, or with no
// tries of it left. A reset is the cure, and the first thing that another
// destructive run does.
func Check(ctx context.Context, config Config) (*Report, error) {
	operator := &config.Target.Operator
	switch {
	case config.Target.Open == nil:
		return nil, errors.New("conformance: the Config has no Target.Open")
	case config.Destructive && operator.PowerCycle == nil && operator.Reset == nil:
		return nil, errors.New("conformance: a Destructive run needs Operator.PowerCycle or Operator.Reset")
	}
	h := &harness{config: config, operator: operator, doing: Touch}
	defer h.close()
	return h.run(ctx)
}

// A harness is one run.
type harness struct {
	config   Config
	operator *Operator
	at       *Case // the one that is running

	key  *ctap2.Authenticator // of the trial, or of the preparation; nil: closed
	last []Exchange           // of this trial, or of what prepares it
	lost int                  // cases in a row that could not be prepared, or took longer than they may
	// clock is that of the case, or of what is no case.
	clock *clock
	// doubtful is the RP ID of a credential that recount has to look at.
	doubtful string
	// irregular is what was wrong with the encoding of an answer in this trial.
	irregular error
	doing     Gesture
	origin    *ctap2.Info // as the run found it

	everReset   bool
	factory     state // after a reset, once there was one
	known       bool  // state is what the authenticator is in
	state       state
	changed     bool // something was done that only a reset undoes
	credentials int  // discoverable ones made since the last reset
	touches     int  // how often it has waited for its user in this trial
	onTouch     func()
	tapKnown    bool // whether a tap is a touch to it
	tapTouches  bool // it is: see trial.learnTap
	raised      int  // see harness.noticeProtection; of this trial

	// At an authenticator that the run must not reset:
	entered bool // the PIN is the right one
	refused bool // it is not
	// doubted: since it was entered, a request was refused that may have taken a
	// try, if only from an authenticator that counts wrong.
	doubted bool
}

func (h *harness) tell(e Event) {
	if h.config.Event != nil {
		h.config.Event(e)
	}
}

func (h *harness) run(ctx context.Context) (*Report, error) {
	began := time.Now()
	report := &Report{Started: began, Destructive: h.config.Destructive, Results: []Result{}}
	if err := h.within(ctx, func(ctx context.Context) error { return h.open(ctx) }); err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	h.origin = h.key.Info()
	report.Authenticator = describe(h.config.Name, h.origin)
	chosen, results := h.config.chosen(), h.config.verdicts()
	if previous := h.config.Previous; previous != nil {
		if previous.Authenticator.AAGUID != h.origin.AAGUID || previous.Authenticator.Firmware != h.origin.FirmwareVersion {
			return nil, ErrAnother
		}
		report.Started = previous.Started
	}
	// Those that need the same state stand together.
	order := pending(chosen, results)
	slices.SortStableFunc(order, func(a, b Case) int { return cmp.Compare(a.setup.state.rank(), b.setup.state.rank()) })
	h.tell(Event{Kind: Begin, Authenticator: &report.Authenticator, Total: len(order)})
	var ended error
	for i := range order {
		c := &order[i]
		h.at = c
		h.tell(Event{Kind: CaseBegin, Case: c, Number: i + 1, Total: len(order)})
		start := time.Now()
		result, err := h.judge(ctx, c)
		if err != nil {
			ended = fmt.Errorf("conformance: %s: %w", c.ID, err)
			break
		}
		result.Case, result.Duration = *c, time.Since(start)
		results[c.ID] = result
		h.tell(Event{Kind: CaseEnd, Number: i + 1, Total: len(order), Result: &result})
	}
	h.at = nil
	for _, c := range chosen {
		if result, ok := results[c.ID]; ok {
			report.Results = append(report.Results, result)
		}
	}
	report.Duration = time.Since(began)
	if h.config.Previous != nil {
		report.Duration += h.config.Previous.Duration
	}
	end := Event{Kind: End, Counts: map[Outcome]int{}}
	for _, r := range report.Results {
		end.Counts[r.Outcome]++
	}
	if ended == nil && h.everReset && (h.changed || !h.known || h.credentials > 0 || h.state != h.factory) {
		// What the last case left behind is no state to hand it back in.
		if err := h.within(ctx, h.reset); err != nil {
			ended = fmt.Errorf("conformance: in the end: %w", err)
		}
	}
	if ended != nil {
		report.Unfinished = ended.Error()
		end.Message = ended.Error()
	}
	h.tell(end)
	return report, ended
}

func describe(name string, info *ctap2.Info) Authenticator {
	a := Authenticator{
		Name: name, AAGUID: info.AAGUID, Firmware: info.FirmwareVersion, Versions: info.Versions, Extensions: info.Extensions,
	}
	for _, option := range slices.Sorted(maps.Keys(info.Options)) {
		if info.Options[option] {
			a.Options = append(a.Options, option)
		}
	}
	return a
}

// judge runs a case in each of its variants. Its error ends the run.
func (h *harness) judge(ctx context.Context, c *Case) (Result, error) {
	if why := h.leftOut(c); why != "" {
		return Result{Outcome: Skipped, Message: why}, nil
	}
	preferred := preferredProtocol(h.origin)
	var asked uses
	first, err := h.try(ctx, c, variant{preferred, ctap2.PINMethod}, &asked)
	if err != nil || first.Outcome != Passed || h.config.OneVariant {
		return first, err
	}
	var more []variant
	if asked.protocol {
		for _, p := range h.origin.PINUVAuthProtocols {
			if p.Known() && p != preferred {
				more = append(more, variant{p, ctap2.PINMethod})
			}
		}
	}
	if asked.method && h.canVerify() {
		for _, v := range append([]variant{{preferred, 0}}, more...) {
			more = append(more, variant{v.protocol, ctap2.UVMethod})
		}
	}
	for _, v := range more {
		result, err := h.try(ctx, c, v, &asked)
		if err != nil {
			return result, err
		}
		if result.Outcome == Failed {
			result.Variant = v.String()
			return result, nil
		}
		first.Remark = cmp.Or(first.Remark, result.Remark)
	}
	return first, nil
}

// leftOut says why a case is not run although it may apply.
func (h *harness) leftOut(c *Case) string {
	s := c.setup
	switch {
	case !h.config.Destructive && !s.harmless:
		return "changes what the authenticator keeps"
	case h.config.MaxWait >= 0 && s.wait > h.config.MaxWait:
		return fmt.Sprintf("takes %v of waiting", s.wait)
	case !h.config.Destructive && s.state.pin && h.config.PIN.Len() == 0:
		return "the PIN is not known"
	}
	return ""
}

func preferredProtocol(info *ctap2.Info) pin.Protocol {
	for _, p := range info.PINUVAuthProtocols {
		if p.Known() {
			return p
		}
	}
	return pin.One
}

// canVerify reports whether a token can be had by built-in user verification.
func (h *harness) canVerify() bool {
	return builtInUV.holds(h.origin) && permissions.holds(h.origin)
}

// A variant is how the tokens of a case are obtained.
type variant struct {
	protocol pin.Protocol
	method   ctap2.Method
}

func (v variant) String() string {
	by := "PIN"
	if v.method == ctap2.UVMethod {
		by = "built-in user verification"
	}
	return fmt.Sprintf("PIN/UV auth protocol %d, tokens by %s", v.protocol, by)
}

// uses is what a case had to do with.
type uses struct{ protocol, method bool }

// try runs a case in one variant.
func (h *harness) try(ctx context.Context, c *Case, v variant, asked *uses) (Result, error) {
	limited, cancel := h.limit(ctx, caseLimit+2*c.setup.wait)
	defer cancel()
	wanted := c.setup.state
	if v.method == ctap2.UVMethod {
		wanted.uv = true
	}
	h.last = nil
	err := h.prepare(limited, c, wanted, v)
	var no inapplicable
	var out outOfReach
	switch {
	case errors.As(err, &no):
		return Result{Outcome: no.outcome, Message: no.why}, nil
	case err != nil && ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case errors.As(err, &out):
		return Result{}, err
	case err != nil:
		h.known = false
		err = fmt.Errorf("the authenticator could not be prepared: %w", err)
		return Result{Outcome: Failed, Message: err.Error(), Exchanges: slices.Clone(h.last)}, h.lose(err)
	}
	x := &trial{
		h: h, c: c, ctx: limited, key: h.key, info: h.key.Info(),
		prefers: v.protocol, method: v.method, asked: asked, held: map[ctap2.Permission]*ctap2.Token{},
	}
	result := x.perform()
	if result.Outcome == Failed {
		h.changed = true // whatever it was, it may have left something behind
	}
	late := limited.Err() != nil
	cancel()
	if err := h.within(ctx, func(ctx context.Context) error { return h.restorePIN(ctx, c) }); err != nil {
		return result, err
	}
	switch {
	case ctx.Err() != nil:
		return result, context.Cause(ctx)
	case late:
		return result, h.lose(errNoAnswer)
	}
	h.lost = 0
	return result, nil
}

// lose counts a case that could not be prepared, or had no answer in its time. Its
// error ends the run: there were too many in a row.
func (h *harness) lose(err error) error {
	if h.lost++; h.lost < tooMany {
		return nil
	}
	return fmt.Errorf("%d cases in a row could not be run: %w", h.lost, err)
}

const (
	// caseLimit is how long a case may take that waits for nothing but touches.
	caseLimit = 3 * time.Minute
	// tooMany is how many cases in a row end the run if they take longer, or
	// cannot be prepared.
	tooMany = 3
	// personLimit is how long a person may take for what is asked of them.
	personLimit = 30 * time.Minute
)

// within does what is no case in the time of one: no authenticator may keep a
// run waiting for ever.
func (h *harness) within(ctx context.Context, do func(ctx context.Context) error) error {
	limited, cancel := h.limit(ctx, caseLimit)
	defer cancel()
	return do(limited)
}

// A clock ends the context of a case when the authenticator has had its time.
type clock struct {
	timer *time.Timer
	left  time.Duration
	since time.Time
}

// limit starts the clock of a context.
func (h *harness) limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { cancel(errNoAnswer) })
	h.clock = &clock{timer, d, time.Now()}
	return limited, func() {
		timer.Stop()
		cancel(nil)
	}
}

// unhurried has the person do something, whose time is not the authenticator's.
func (h *harness) unhurried(do func() error) error {
	c := h.clock
	c.left -= time.Since(c.since)
	if c.timer.Reset(personLimit) { // or it was over already
		defer func() {
			c.since = time.Now()
			c.timer.Reset(c.left)
		}()
	}
	return do()
}

// An inapplicable case is one that there is no way to run here.
type inapplicable struct {
	outcome Outcome
	why     string
}

func (n inapplicable) Error() string { return n.why }

func notApplicable(format string, args ...any) error {
	return inapplicable{NotApplicable, fmt.Sprintf(format, args...)}
}

// describe is the result of a case that failed, as a test says it.
func (r *Result) describe() string {
	text := r.Message
	if r.Variant != "" {
		text += "\nwith " + r.Variant
	}
	for _, e := range r.Exchanges {
		text += "\n" + e.String()
	}
	return text
}

// String returns the exchange on one line, or on two.
func (e Exchange) String() string {
	var lines []string
	if e.Command != "" {
		lines = append(lines, strings.TrimSuffix("> "+e.Command+" "+e.Request, " "))
	}
	if answer := cmp.Or(e.Error, e.Status); answer != "" {
		lines = append(lines, strings.TrimSuffix("< "+answer+" "+e.Reply, " "))
	}
	return strings.Join(lines, "\n")
}
