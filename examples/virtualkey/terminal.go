package main

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
)

// A terminal is where somebody sits who touches the key.
type terminal struct {
	lines chan string // closed at the end of the input
	out   io.Writer
}

// newTerminal starts to read the input, which ends with the program or the
// input.
func newTerminal(in io.Reader, out io.Writer) *terminal {
	t := &terminal{lines: make(chan string), out: out}
	go func() {
		defer close(t.lines)
		// A line that does not fit into the scanner ends the input.
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			t.lines <- scanner.Text()
		}
	}()
	return t
}

// touch is a virtual.Person.
func (t *terminal) touch(ctx context.Context, prompt virtual.Prompt) virtual.Answer {
	// What was typed before the key blinks is no touch.
	select {
	case _, open := <-t.lines:
		if !open {
			return virtual.Nothing
		}
	default:
	}
	// The names come from whoever uses the key: quoted, they cannot steer the
	// terminal.
	what := purpose(prompt.Command)
	if prompt.RPID != "" {
		what += fmt.Sprintf(" at %q", prompt.RPID)
	}
	if prompt.UserName != "" {
		what += fmt.Sprintf(" as %q", prompt.UserName)
	}
	fmt.Fprintf(t.out, "The key blinks: %s. Enter touches it, n refuses.\n", what)
	select {
	case line, open := <-t.lines:
		switch {
		case !open:
			return virtual.Nothing
		case line == "":
			fmt.Fprintln(t.out, "Touched.")
			return virtual.Approve
		}
		fmt.Fprintln(t.out, "Refused.")
		return virtual.Deny
	case <-ctx.Done():
		fmt.Fprintln(t.out, "The key blinks no more.")
		return virtual.Nothing
	}
}

// purpose says what a command is for.
func purpose(command byte) string {
	switch command {
	case ctap.CmdMakeCredential:
		return "register"
	case ctap.CmdGetAssertion:
		return "sign in"
	case ctap.CmdReset:
		return "RESET, which deletes everything on it"
	case ctap.CmdSelection:
		return "choose this key"
	}
	return fmt.Sprintf("command %#02x", command)
}
