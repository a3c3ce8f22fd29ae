package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// A printer writes for people. Nothing that comes from a key, such as the name
// of an account, can steer their terminal: what is not printable is replaced.
type printer struct {
	w        io.Writer
	failed   error // the first error of writing
	terminal bool
	colours  bool
}

func newPrinter(file *os.File) *printer {
	terminal := isTerminal(file)
	colours := terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" &&
		(runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "") // an old console shows the codes themselves
	return &printer{w: file, terminal: terminal, colours: colours}
}

// Write implements io.Writer.
func (w *printer) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if w.failed == nil {
		w.failed = err
	}
	return n, err
}

// printf formats with arguments that are made printable.
func (w *printer) printf(format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = printable(arg)
		case error:
			args[i] = printable(arg.Error())
		case fmt.Stringer:
			args[i] = printable(arg.String())
		}
	}
	fmt.Fprintf(w, format, args...)
}

// A colour is what follows ESC [ for it.
type colour string

const (
	bold  colour = "1m"
	faint colour = "2m"
	red   colour = "31m"
	green colour = "32m"
)

// in prints in a colour, if there are any.
func (w *printer) in(c colour, format string, args ...any) {
	if w.colours {
		io.WriteString(w, "\x1b["+string(c))
		defer io.WriteString(w, "\x1b[0m")
	}
	w.printf(format, args...)
}

// clearLine returns to the start of the line, which becomes empty.
func (w *printer) clearLine() { io.WriteString(w, "\r\x1b[K") }

// table prints rows in columns, and the first row as their titles.
func (w *printer) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			cell = printable(cell)
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			w.in(bold, "%s\n", text)
		} else {
			w.printf("%s\n", text)
		}
	}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// interactive reports whether there is somebody to ask.
func (p *program) interactive() bool { return !p.pinStdin && p.pinFD != 0 && isTerminal(p.in) }

func isTerminal(file *os.File) bool { return term.IsTerminal(int(file.Fd())) }

// interaction is how the library reaches the person.
func (p *program) interaction() ctap2.Interaction {
	i := ctap2.Interaction{
		Touch:     p.touch,
		TouchDone: p.touched,
		Sample:    p.sample,
	}
	if p.hasPINs() || p.interactive() || p.handsOut {
		i.PIN = func(ctx context.Context, r ctap2.PINRequest) (pin.Secret, error) {
			entered, err := p.currentPIN(ctx, "PIN", r.Previous, r.Retries)
			if err == nil && p.keepsPIN && p.given.Len() == 0 {
				p.given = entered.Clone()
			}
			return entered, err
		}
	}
	return i
}

// touch says what the key waits for. Several keys at a time may call it.
func (p *program) touch(r ctap2.TouchRequest) {
	p.touches.Lock()
	defer p.touches.Unlock()
	text := "Touch the key"
	switch {
	case r.For == ctap2.TouchSelection:
		if p.choosing { // each of several keys says so
			return
		}
		p.choosing = true
		text = "Several keys are attached: touch the one to use"
	case r.For == ctap2.TouchVerification && r.Previous != nil:
		text = "The finger was not recognised: put it on the key's sensor again"
	case r.For == ctap2.TouchVerification:
		text = "Put your finger on the key's sensor"
	case r.For == ctap2.TouchEnrollment:
		if p.err.terminal {
			p.progress()
		}
		return
	case r.Long:
		text = "Touch the key for five seconds: it will be erased"
	case r.For == ctap2.TouchReset:
		text = "Touch the key: it will be erased"
	}
	if r.RPID != "" {
		p.err.in(bold, "%s (%s) …", text, r.RPID)
	} else {
		p.err.in(bold, "%s …", text)
	}
	p.touching = true
}

// touched ends the line that touch began.
func (p *program) touched() {
	p.touches.Lock()
	defer p.touches.Unlock()
	if p.touching {
		p.err.printf("\n")
	}
	p.touching = false
}

// hasPINs reports whether PINs come from a file.
func (p *program) hasPINs() bool { return p.pinFD >= 0 || p.pinStdin }

// currentPIN asks for the PIN that is set, in a prompt that begins with what, until
// it is one that a key can have. A key that takes none now is not worth asking
// for. From a file it is asked for once: a second line is another PIN and not a
// second try.
func (p *program) currentPIN(ctx context.Context, what string, previous *ctap2.PINError, retries func() (ctap2.PINRetries, error)) (pin.Secret, error) {
	if previous != nil {
		p.given.Wipe() // it was that one
	}
	switch {
	case p.given.Len() > 0:
		return p.given.Clone(), nil
	case p.hasPINs() && previous != nil:
		return pin.Secret{}, previous
	case p.hasPINs():
		return p.nextPIN(ctx)
	case !p.interactive():
		return pin.Secret{}, ctap2.ErrNoPIN
	}
	if previous != nil {
		p.err.in(red, "The PIN is wrong.\n")
	}
	left, err := retries()
	switch {
	case err != nil:
		return pin.Secret{}, err
	case left.Retries == 0:
		return pin.Secret{}, ctap2.ErrPINBlocked
	case left.PowerCycle:
		return pin.Secret{}, ctap2.ErrPINAuthBlocked
	}
	if p.optional != "" {
		p.err.printf("%s\n", p.optional)
		p.optional = ""
	}
	for {
		entered, err := p.askPINOf(ctx, fmt.Sprintf("%s (%s left): ", what, count(left.Retries, "try", "tries")), shortestPIN, longestPIN)
		if err != nil {
			return pin.Secret{}, err
		}
		if previous == nil || !entered.Equal(p.entered) {
			p.entered.Wipe()
			p.entered = entered.Clone()
			return entered, nil
		}
		entered.Wipe()
		p.err.in(red, "The same PIN again: it was not sent.\n")
	}
}

// Every PIN has as many characters; keys may want more of a new one (§6.5.1).
const shortestPIN, longestPIN = 4, 63

// askPINOf asks for a PIN until it keeps to the rules, with a length from shortest
// to longest.
func (p *program) askPINOf(ctx context.Context, prompt string, shortest, longest int) (pin.Secret, error) {
	for {
		entered, err := p.askPIN(ctx, p.in, prompt)
		if err != nil {
			return pin.Secret{}, err
		}
		err = checkPIN(entered, shortest, longest)
		switch {
		case err == nil:
			return entered, nil
		case errors.Is(err, pin.ErrTooShort):
			p.err.in(red, "The PIN is too short: it has at least %d characters.\n", shortest)
		case errors.Is(err, pin.ErrTooLong):
			p.err.in(red, "The PIN is too long: it has at most %d characters, in 63 bytes.\n", longest)
		default:
			p.err.in(red, "%s\n", explain(err).What)
		}
		entered.Wipe()
	}
}

// newPIN asks for a PIN to set, twice.
func (p *program) newPIN(ctx context.Context, info *ctap2.Info) (pin.Secret, error) {
	if p.hasPINs() {
		return p.nextPIN(ctx)
	}
	if !p.interactive() {
		return pin.Secret{}, ctap2.ErrNoPIN
	}
	for {
		prompt := fmt.Sprintf("New PIN (%d to %d characters): ", info.MinPINLength, info.MaxPINLength)
		first, err := p.askPINOf(ctx, prompt, info.MinPINLength, info.MaxPINLength)
		if err != nil {
			return pin.Secret{}, err
		}
		second, err := p.askPIN(ctx, p.in, "Repeat the new PIN: ")
		if err != nil {
			first.Wipe()
			return pin.Secret{}, err
		}
		same := first.Equal(second)
		second.Wipe()
		if same {
			return first, nil
		}
		first.Wipe()
		p.err.in(red, "The two PINs differ.\n")
	}
}

func checkPIN(entered pin.Secret, shortest, longest int) error {
	normal, err := pin.Normalize(entered)
	if err != nil {
		return err
	}
	defer normal.Wipe()
	return pin.Check(normal, shortest, longest)
}

// byteOrderMark begins files that some programs on Windows write, and is no part
// of what is in them.
const byteOrderMark = "\ufeff"

// forget wipes the PINs of a key.
func (p *program) forget() {
	p.given.Wipe()
	p.entered.Wipe()
}

// nextPIN reads a line of what PINs come from. A terminal does not show it
// either.
func (p *program) nextPIN(ctx context.Context) (pin.Secret, error) {
	if isTerminal(p.pins) {
		return p.askPIN(ctx, p.pins, "PIN: ")
	}
	line, err := readLine(p.pins)
	line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	switch {
	case err != nil:
		return pin.Secret{}, usagef("the PIN could not be read: %v", err)
	case len(line) == 0:
		return pin.Secret{}, usagef("the line with the PIN is empty")
	}
	return pin.NewSecret(line), nil
}

// askPIN reads a PIN from a terminal, which does not show it.
func (p *program) askPIN(ctx context.Context, terminal *os.File, prompt string) (pin.Secret, error) {
	defer p.err.printf("\n")
	line, err := p.ask(ctx, terminal, true, prompt, func() ([]byte, error) { return term.ReadPassword(int(terminal.Fd())) })
	switch {
	case err != nil:
		return pin.Secret{}, err
	case len(line) == 0:
		return pin.Secret{}, errDeclined
	}
	return pin.NewSecret(line), nil
}

// confirm asks before something is lost. The answer is no unless it is yes.
func (p *program) confirm(ctx context.Context, question string, args ...any) error {
	switch {
	case p.yes:
		return nil
	case !p.interactive():
		return usagef("no terminal to confirm on; use --yes")
	}
	line, err := p.ask(ctx, p.in, false, fmt.Sprintf(question+" [y/N] ", args...), func() ([]byte, error) { return readLine(p.in) })
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(string(line))) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// pause waits until the person has done something.
func (p *program) pause(ctx context.Context, what string, args ...any) error {
	switch {
	case p.yes:
		return nil
	case !p.interactive():
		return usagef("no terminal to ask for the key on; attach it and use --yes")
	}
	_, err := p.ask(ctx, p.in, false, fmt.Sprintf(what+" ", args...), func() ([]byte, error) { return readLine(p.in) })
	return err
}

// choose has the person choose one of several.
func (p *program) choose(ctx context.Context, question string, choices []string) (int, error) {
	for i, c := range choices {
		p.err.printf("%3d  %s\n", i+1, c)
	}
	for {
		line, err := p.ask(ctx, p.in, false, fmt.Sprintf("%s [1-%d] ", question, len(choices)), func() ([]byte, error) { return readLine(p.in) })
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			return 0, errDeclined
		}
		var n int
		if _, err := fmt.Sscan(string(line), &n); err == nil && n >= 1 && n <= len(choices) {
			return n - 1, nil
		}
	}
}

// ask asks, waits for the answer until ctx ends, and leaves the terminal as it
// was. What is read may turn off that the terminal shows what is typed: then the
// question comes when it has, because people are fast.
func (p *program) ask(ctx context.Context, file *os.File, hidden bool, question string, read func() ([]byte, error)) ([]byte, error) {
	terminal := int(file.Fd())
	state, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // which ends with the program if nothing is entered
		line, err := read()
		answers <- answer{line, err}
	}()
	for range 100 {
		if now, err := term.GetState(terminal); !hidden || err != nil || !reflect.DeepEqual(now, state) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.err.in(bold, "%s", question)
	select {
	case a := <-answers:
		if errors.Is(a.err, io.EOF) {
			return nil, errDeclined
		}
		return a.line, a.err
	case <-ctx.Done():
		p.err.printf("\n")
		cause := context.Cause(ctx)
		if errors.Is(cause, context.Canceled) {
			cause = fmt.Errorf("%w: %w", errUnanswered, cause)
		}
		return nil, errors.Join(cause, term.Restore(terminal, state))
	}
}

// errUnanswered is how a question ends with Ctrl-C, when no key waits.
var errUnanswered = errors.New("the question was not answered")

// readLine reads a line, and nothing behind it, which may be meant for others.
func readLine(r io.Reader) ([]byte, error) {
	const longest = 1024
	line := make([]byte, 0, longest) // so that no copy of a PIN is left behind
	var b [1]byte
	for {
		switch _, err := io.ReadFull(r, b[:]); {
		case err != nil && len(line) > 0 && errors.Is(err, io.EOF), err == nil && b[0] == '\n':
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		case err != nil:
			return nil, err
		case len(line) == longest:
			clear(line)
			return nil, errors.New("the line is too long")
		}
		line = append(line, b[0])
	}
}

// count says how many of something there are.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
