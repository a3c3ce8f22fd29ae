package hidtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/hid/hidtest"
)

// A failing is a test that keeps what it fails with.
type failing struct {
	testing.TB
	errors  []string
	cleanup []func()
}

func (f *failing) Errorf(format string, args ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}
func (f *failing) Cleanup(g func()) { f.cleanup = append(f.cleanup, g) }
func (f *failing) Helper()          {}

func TestScript(t *testing.T) {
	steps := []hidtest.Step{
		{Command: 0x04, Answer: hidtest.Success([]byte{0xA0})},
		{Command: 0x01, Answer: hidtest.Keepalive(2), Cancel: hidtest.Status(0x2D), Check: func(parameters []byte) error {
			if len(parameters) == 0 {
				return errors.New("no parameters")
			}
			return nil
		}},
	}
	for _, test := range []struct {
		name     string
		messages string // CTAPHID commands, or CTAP messages of one or two bytes
		want     string // in what the test fails with; none if it passes
	}{
		{"as written", "ping 04 cancel 01a0 cancel wink", ""},
		{"without parameters", "04 01", "step 1 of the script, command 0x01: no parameters"},
		{"wrong order", "01a0 04 01a0", "command 0x01 where step 0 of the script, command 0x04, is due: a0"},
		{"too much", "04 01a0 0700", "command 0x07 behind the end of the script: 00"},
		{"too little", "04", "step 1 of the script, command 0x01, did not come"},
		{"nothing", "cancel", "step 0 of the script, command 0x04, did not come"},
		{"empty", "04 01a0 empty", "without a command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &failing{TB: t}
			key := hidtest.New(hidtest.Script(f, steps...))
			for word := range strings.FieldsSeq(test.messages) {
				var data []byte
				command, ok := map[string]byte{
					"ping": hidtest.CommandPing, "wink": hidtest.CommandWink,
					"cancel": hidtest.CommandCancel, "empty": hidtest.CommandCBOR,
				}[word]
				if !ok {
					command = hidtest.CommandCBOR
					if _, err := fmt.Sscanf(word, "%x", &data); err != nil {
						t.Fatal(err)
					}
				}
				write(t, key, command, data)
			}
			for _, g := range f.cleanup {
				g()
			}
			got := strings.Join(f.errors, "; ")
			if test.want == "" && got != "" || test.want != "" && (len(f.errors) != 1 || !strings.Contains(got, test.want)) {
				t.Errorf("it fails with %q, want %q", got, test.want)
			}
		})
	}
}

// What the steps answer, through package hid.
func TestScriptAnswers(t *testing.T) {
	f := &failing{TB: t}
	key := hidtest.New(hidtest.Script(f,
		hidtest.Step{Command: 0x04, Answer: hidtest.Success([]byte{0xA0})},
		hidtest.Step{Command: 0x04},
	))
	dev, err := hid.New(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{{0, 0xA0}, {0, 4, 1}} {
		answer, err := dev.Exchange(t.Context(), []byte{4, 1}, nil)
		if err != nil || !bytes.Equal(answer, want) {
			t.Errorf("Exchange = %x, %v; want %x", answer, err, want)
		}
	}
	if _, err := dev.Exchange(t.Context(), []byte{4}, nil); !errors.Is(err, hid.ErrOther) || len(f.errors) != 1 {
		t.Errorf("behind the end: %v; the test fails with %q", err, f.errors)
	}
}
