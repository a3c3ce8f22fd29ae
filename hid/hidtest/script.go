package hidtest

import (
	"sync"
	"testing"

	"github.com/tapstone/fido/internal/ctap"
)

// A Step is one CTAP command that a script waits for.
type Step struct {
	// Command is the command byte, such as 0x04 for getInfo (§6).
	Command byte
	// Check, unless nil, looks at the command's parameters, which are CBOR or
	// nothing. Its error fails the test; the command is answered all the same.
	Check func(parameters []byte) error
	// Answer is what the command gets: [Success] or [Status] or whatever a
	// device may do wrong.
	Answer Answer
	// Cancel is what a CTAPHID_CANCEL gets that comes behind the command and
	// before the next one: Status(0x2D) from a key that waits for a touch.
	// Without it, cancelling has no effect.
	Cancel Answer
}

// Script returns a [Handler] that answers CTAP messages step by step, and all
// other CTAPHID messages as [Default] does.
//
// A command that is not due fails the test, and is answered with ERR_OTHER. A
// step that did not come fails the test when it ends.
func Script(t testing.TB, steps ...Step) Handler {
	var (
		mu  sync.Mutex
		due int
	)
	t.Helper()
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if due < len(steps) {
			t.Errorf("hidtest: step %d of the script, command 0x%02X, did not come", due, steps[due].Command)
		}
	})
	return func(m Message) Answer {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case m.Command == CommandCancel && due > 0:
			return steps[due-1].Cancel
		case m.Command != CommandCBOR:
			return Default()
		case len(m.Data) == 0:
			t.Errorf("hidtest: a CTAP message without a command")
			return Error(ctap.HIDErrOther)
		case due == len(steps):
			t.Errorf("hidtest: command 0x%02X behind the end of the script: % x", m.Data[0], m.Data[1:])
			return Error(ctap.HIDErrOther)
		}
		step := steps[due]
		if m.Data[0] != step.Command {
			t.Errorf("hidtest: command 0x%02X where step %d of the script, command 0x%02X, is due: % x", m.Data[0], due, step.Command, m.Data[1:])
			return Error(ctap.HIDErrOther)
		}
		due++
		if step.Check != nil {
			if err := step.Check(m.Data[1:]); err != nil {
				t.Errorf("hidtest: step %d of the script, command 0x%02X: %v", due-1, step.Command, err)
			}
		}
		return step.Answer
	}
}
