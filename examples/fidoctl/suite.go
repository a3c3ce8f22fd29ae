package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// A suite is one run of the cases.
type suite struct {
	p           *program
	chosen      []conformance.Case
	destructive bool
	quick       bool
	verbose     bool
	maxWait     time.Duration
	reports     []string
	previous    *conformance.Report

	key  *session
	info *ctap2.Info // at the beginning

	undo func() // what the virtual person is doing

	mu sync.Mutex // events come from where the key is heard
	at string     // the case that is running
}

func (s *suite) run(ctx context.Context) (err error) {
	p := s.p
	if p.recording {
		return usagef("a run takes many sessions, and a recording holds one: trace it without --record and --play")
	}
	files, err := openReports(s.reports)
	if err != nil {
		return err
	}
	defer files.drop()
	if s.key, err = p.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.key.close()) }()
	s.info = s.key.Info()
	s.explain()
	if s.destructive {
		err = p.confirmByName(ctx, s.key.name)
	} else {
		err = s.learnPIN(ctx)
	}
	if err != nil {
		return err
	}
	defer p.forget()
	err = s.key.Close() // the run opens it
	s.key.Authenticator = nil
	if err != nil {
		return err
	}

	report, ended := conformance.Check(ctx, conformance.Config{
		Target: s.target(), Name: s.key.name, Destructive: s.destructive, PIN: p.given, MaxWait: s.maxWait,
		OneVariant: s.quick, Previous: s.previous, Event: s.event,
		Only: func(c conformance.Case) bool {
			return slices.ContainsFunc(s.chosen, func(chosen conformance.Case) bool { return chosen.ID == c.ID })
		},
	})
	s.progress("")
	if report == nil {
		return ended
	}
	if err := files.write(report, nil); err != nil {
		return errors.Join(err, ended)
	}
	if !p.json {
		_ = report.WriteText(p.out, s.verbose) // the printer remembers an error
	}
	switch failed := report.Count(conformance.Failed); {
	case ended != nil:
		s.stopped()
		if !p.json {
			return ended
		}
		errorResult{*errorTextOf(ended)}.text(p.err) // the last event says it
		return shown{explain(ended).kind}
	case failed > 0:
		return shown{notConformant}
	}
	return nil
}

// explain says what is going to happen.
func (s *suite) explain() {
	p := s.p
	var harmful, slow, untouched, cycles, others int
	var wait time.Duration
	for _, c := range s.chosen {
		switch {
		case c.Needs.Destructive && !s.destructive:
			harmful++
			continue
		case s.maxWait >= 0 && c.Needs.Wait > s.maxWait:
			slow++
			continue
		}
		wait += c.Needs.Wait
		if c.Needs.PowerCycle {
			cycles++
		}
		if slices.Contains(c.Needs.Gestures, conformance.NoTouch) {
			untouched++
		} else if len(c.Needs.Gestures) > 0 {
			others++
		}
	}
	p.err.in(bold, "Checking %s: %s, as far as they apply to it.\n", s.key.name, count(len(s.chosen), "case", "cases"))
	for _, left := range []struct {
		out  int
		need string
	}{{harmful, "--destructive"}, {slow, "a longer --max-wait"}} {
		if left.out > 0 {
			p.err.printf("  %s %s, and will be skipped.\n", count(left.out, "case needs", "cases need"), left.need)
		}
	}
	if s.destructive {
		p.err.printf("  The key will be erased many times: everything on it will be lost.\n")
	} else {
		p.err.printf("  Nothing on the key will be changed.\n")
	}
	if s.key.virtual == nil {
		p.err.printf("  Stay with the key: you will be told when to touch it and when to unplug it.\n")
		if untouched+others+cycles > 0 {
			p.err.printf("  Cases in which you leave it alone: %d; in which you do something else: %d; in which you unplug it: %d.\n", untouched, others, cycles)
		}
	}
	if wait > 0 {
		p.err.printf("  Up to %v will be spent waiting.\n", wait)
	}
	p.err.printf("  Ctrl-C stops the run; --resume goes on from a JSON report.\n")
}

// stopped says what a run leaves behind that was stopped.
func (s *suite) stopped() {
	if i := slices.IndexFunc(s.reports, func(name string) bool { return filepath.Ext(name) == ".json" }); i >= 0 {
		s.p.err.printf("To resume: %s\n", resuming(s.p.args, s.reports[i]))
	}
	if s.destructive {
		s.p.err.printf("The key may still have the run's PIN and credentials: fidoctl reset erases them.\n")
	}
}

// resuming is the command line that goes on from a report: the one that began the
// run, with everything that it said of how to run it.
func resuming(args []string, report string) string {
	line := []string{"fidoctl"}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--resume":
			i++
		case strings.HasPrefix(args[i], "--resume="):
		default:
			line = append(line, shellWord(args[i]))
		}
	}
	return strings.Join(append(line, "--resume", shellWord(report)), " ")
}

// plain are words that mean themselves to every shell.
var plain = regexp.MustCompile(`^[0-9A-Za-z_./:=@%+,-]+$`)

// shellWord quotes a word where that is needed.
func shellWord(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// confirmByName asks for the name of a key before it is erased.
func (p *program) confirmByName(ctx context.Context, name string) error {
	switch {
	case p.yes:
		return nil
	case !p.interactive():
		return usagef("no terminal to confirm on; use --yes")
	}
	line, err := p.ask(ctx, p.in, false, fmt.Sprintf("To erase it, type its name, %s: ", printable(name)), func() ([]byte, error) { return readLine(p.in) })
	if err == nil && strings.TrimSpace(string(line)) != name {
		err = errDeclined
	}
	return err
}

// learnPIN has the PIN of the key entered, if it has one and there is somebody to
// ask, and sees that it is right: the run must not enter a wrong one. Without it
// the run does what it can.
func (s *suite) learnPIN(ctx context.Context) error {
	p := s.p
	set, has := s.info.Options[ctap2.OptionClientPIN]
	switch {
	case !has || !slices.ContainsFunc(s.chosen, func(c conformance.Case) bool { return c.Needs.PIN && !c.Needs.Destructive }):
		return nil
	case !set:
		p.err.printf("No PIN is set: the cases that need one are left out.\n")
		return nil
	case !p.hasPINs() && !p.interactive():
		p.err.printf("The cases that need the PIN are left out: to run them, give it with --pin-fd.\n")
		return nil
	}
	p.keepsPIN, p.optional = true, "Some cases need the PIN. To go on without it, leave it empty."
	defer func() { p.keepsPIN, p.optional = false, "" }()
	_, err := checkKeyPIN(ctx, s.key, nil)
	switch {
	case p.hasPINs():
		return err
	case errors.Is(err, errDeclined):
		return nil
	case errors.Is(err, ctap2.ErrPINBlocked):
		p.err.printf("The PIN is blocked: the cases that need it are left out.\n")
		return nil
	}
	return err
}

// target is the key, and the person at it.
func (s *suite) target() conformance.Target {
	t := conformance.Target{
		Open: s.open,
		Operator: conformance.Operator{
			Gesture: s.gesture, PowerCycle: s.powerCycle, Wait: s.wait,
			SpendPINTries: func(ctx context.Context, tries, left int) bool {
				s.progress("")
				return s.p.confirm(ctx, "The next case enters a wrong PIN up to %s; %s left. The right PIN then restores them. Continue?",
					count(tries, "time", "times"), count(left, "try is", "tries are")) == nil
			},
		},
	}
	switch k := s.key.key; {
	case s.key.virtual != nil:
		t.Over = "usb"
		t.HID = func(context.Context) (conformance.Reports, error) { return s.key.usb.Open() }
		t.Operator.Gesture = s.simulate
		t.Operator.PowerCycle = func(context.Context) error {
			s.key.usb.Unplug()
			s.key.usb.PlugIn()
			return nil
		}
	case k.HID != nil:
		if k.HID.Bus == hid.BusUSB {
			t.Over = "usb"
		}
		t.HID = func(ctx context.Context) (conformance.Reports, error) {
			conn, _, err := hid.OpenConn(ctx, s.key.key.HID.Path)
			if err != nil {
				return nil, err
			}
			return reports{conn, k.HID.OutputReport}, nil
		}
	default:
		t.NFC = func(ctx context.Context) (conformance.Card, error) {
			card, err := nfc.OpenCard(ctx, s.key.key.Reader.Name)
			if err != nil {
				return nil, err
			}
			return sharedCard{card}, nil
		}
	}
	return t
}

// reports are those of a device that says how long they are.
type reports struct {
	hid.Conn
	size int
}

func (r reports) ReportSize() int { return r.size }

// A sharedCard is one that other programs can reach as well, between two APDUs.
type sharedCard struct{ nfc.Card }

func (c sharedCard) Transmit(command []byte) (response []byte, err error) {
	if t, ok := c.Card.(nfc.Transactor); ok {
		if err := t.Begin(); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.End()) }()
	}
	return c.Card.Transmit(command)
}

// open opens the key for the run.
func (s *suite) open(ctx context.Context) (t ctap2.Transport, err error) {
	switch k := s.key.key; {
	case s.key.virtual != nil:
		conn, err := s.key.usb.Open()
		if err != nil {
			return nil, err
		}
		device, err := hid.New(ctx, conn)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		t = device
	case k.HID != nil:
		device, err := hid.Open(ctx, k.HID.Path)
		if err != nil {
			return nil, err
		}
		t = device
	default:
		device, err := nfc.Open(ctx, k.Reader.Name)
		if err != nil {
			return nil, err
		}
		t = device
	}
	if s.p.wrap != nil {
		t = s.p.wrap(t)
	}
	return t, nil
}

// powerCycle has the person unplug the key and plug it in again, and sees that
// it is the same: another one must not be erased.
func (s *suite) powerCycle(ctx context.Context) error {
	before := s.info
	known := false
	if a, err := keys.Open(ctx, s.key.key); err == nil { // or it does not answer, for which this is the cure
		before, known = a.Info(), true
		_ = a.Close()
	}
	s.progress("")
	if s.key.key.Reader != nil {
		s.p.err.in(bold, "Lift the key from the reader, and put it back.\n")
	} else {
		s.p.err.in(bold, "Unplug the key, and plug it in again.\n")
	}
	again, err := keys.Again(ctx, s.key.key, true)
	if err != nil {
		return err
	}
	a, err := keys.Open(ctx, again)
	if err != nil {
		return err
	}
	after := a.Info()
	if err := a.Close(); err != nil {
		return err
	}
	if known && !alike(before, after) || before.AAGUID != after.AAGUID || before.FirmwareVersion != after.FirmwareVersion {
		return errAnotherKey
	}
	s.key.key = again
	return nil
}

// instructions say what a person does from now on, whenever the key waits.
var instructions = map[conformance.Gesture]string{
	conformance.Touch:       "From now on touch the key again, when it blinks.",
	conformance.NoTouch:     "From now on leave the key alone, even when it blinks.",
	conformance.LongTouch:   "From now on touch the key for five seconds, when it blinks.",
	conformance.Decline:     "From now on say no at the key, when it asks.",
	conformance.WrongFinger: "From now on use a finger that the key does not know.",
	conformance.PoorSample:  "From now on touch the sensor badly, so that the sample cannot be used.",
}

// gesture tells the person. The answer may be that it cannot be done.
func (s *suite) gesture(ctx context.Context, g conformance.Gesture) error {
	p := s.p
	s.progress("")
	p.err.in(bold, "%s\n", instructions[g])
	if g == conformance.Touch || g == conformance.LongTouch || p.yes { // anybody can
		return nil
	}
	var line []byte
	var err error
	switch {
	case p.interactive():
		line, err = p.ask(ctx, p.in, false, "Press Enter, or type n if you cannot: ", func() ([]byte, error) { return readLine(p.in) })
		if errors.Is(err, errDeclined) {
			line, err = []byte("n"), nil
		}
	case p.json && !p.pinStdin && p.pinFD != 0:
		line, err = s.answer(ctx)
	default:
		return fmt.Errorf("%w: no terminal to ask on; use --yes if somebody is there", conformance.ErrCannot)
	}
	if err == nil && len(line) > 0 {
		err = fmt.Errorf("%w: %s", conformance.ErrCannot, g)
	}
	return err
}

// answer reads a line from the program that reads the events.
func (s *suite) answer(ctx context.Context) ([]byte, error) {
	lines := make(chan []byte, 1)
	go func() { // which ends with the program if nothing is written
		line, err := readLine(s.p.in)
		if err != nil {
			line = []byte(err.Error())
		}
		lines <- line
	}()
	select {
	case line := <-lines:
		return line, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// simulate is the person at the software key.
func (s *suite) simulate(_ context.Context, g conformance.Gesture) error {
	if s.undo != nil {
		s.undo()
	}
	doing, undo := context.WithCancel(context.Background())
	s.undo = undo
	presence, verification, finger := virtual.Person(virtual.Touch), virtual.Person(virtual.Touch), virtual.Samples()
	switch g {
	case conformance.NoTouch:
		away := func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
			select {
			case <-ctx.Done():
			case <-doing.Done(): // a U2F message is over by then, and the light still on
			}
			return virtual.Nothing
		}
		presence, verification = away, away
		finger = func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
			<-ctx.Done()
			return virtual.SampleNoUserActivity
		}
	case conformance.LongTouch:
		presence = virtual.TouchFor(longTouch)
	case conformance.Decline:
		presence, verification = virtual.Refuse, virtual.Refuse
	case conformance.WrongFinger:
		verification = virtual.Refuse
	case conformance.PoorSample:
		finger = func(context.Context, virtual.Prompt) virtual.SampleStatus { return virtual.SamplePoorQuality }
	}
	s.key.virtual.SetPresence(presence)
	s.key.virtual.SetVerification(verification)
	s.key.virtual.SetFinger(finger)
	return nil
}

// wait lets time pass, and says so.
func (s *suite) wait(ctx context.Context, d time.Duration) error {
	if d >= time.Second {
		s.progress(fmt.Sprintf("waiting for %v", d))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// event shows a step.
func (s *suite) event(e conformance.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p.json {
		s.p.show(runEvent{e})
	}
	switch e.Kind {
	case conformance.CaseBegin:
		resumed := len(s.chosen) - e.Total // of which the earlier run has the results
		s.at = fmt.Sprintf("[%d of %d] %s", resumed+e.Number, len(s.chosen), e.Case.ID)
		s.show(e.Case.Command)
	case conformance.Preparing:
		s.show(e.Message)
	case conformance.Waiting:
		switch {
		case s.key.virtual != nil:
		case s.p.err.terminal:
			s.show(reminders[e.Gesture])
		default:
			s.p.err.printf("%s (%s)\n", reminders[e.Gesture], s.at)
		}
	case conformance.CaseEnd:
		if e.Result.Outcome == conformance.Failed {
			s.show("")
			s.p.err.in(red, "%s: %s\n", e.Result.ID, e.Result.Message)
		}
	}
}

// reminders say what to do when the key waits.
var reminders = map[conformance.Gesture]string{
	conformance.Touch:       "TOUCH THE KEY",
	conformance.NoTouch:     "DO NOT TOUCH THE KEY",
	conformance.LongTouch:   "TOUCH THE KEY FOR FIVE SECONDS",
	conformance.Decline:     "SAY NO",
	conformance.WrongFinger: "USE A WRONG FINGER",
	conformance.PoorSample:  "GIVE A BAD SAMPLE",
}

// progress shows what the run is at; nothing clears the line for another text.
func (s *suite) progress(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show(what)
}

func (s *suite) show(what string) {
	const width = 79 // more would be more than a line
	w := s.p.err
	if !w.terminal {
		return
	}
	w.clearLine()
	if what != "" {
		line := []rune(s.at + "  " + what)
		w.in(faint, "%s", string(line[:min(len(line), width)]))
	}
}
