package ctap2_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/hid/hidtest"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/internal/vectors"
)

// recorded is what a real key answered, taken out of its reports.
func recorded(name string) hidtest.Answer {
	reports := vectors.KeyReports()[name]
	length := int(binary.BigEndian.Uint16(reports[5:]))
	message := slices.Clone(reports[7:ctap.HIDReportSize])
	for report := range slices.Chunk(reports[ctap.HIDReportSize:], ctap.HIDReportSize) {
		message = append(message, report[5:]...)
	}
	return hidtest.Reply(message[:length])
}

// scripted is one command, and the good answer to it, which has at least four
// reports.
type scripted struct {
	command byte
	answer  hidtest.Answer
	do      func(t *testing.T, key *ctap2.Authenticator) error
}

func scriptedCommands() map[string]scripted {
	return map[string]scripted{
		"makeCredential": {ctap.CmdMakeCredential, recorded("CTAP_CBOR_CRED"), func(t *testing.T, key *ctap2.Authenticator) error {
			request := registration()
			request.RP.ID = "localhost"
			credential, err := key.MakeCredential(t.Context(), request)
			if (credential == nil) != (err != nil) {
				t.Errorf("credential %v, error %v", credential, err)
			}
			return err
		}},
		"getAssertion": {ctap.CmdGetAssertion, recorded("CTAP_CBOR_ASSERT"), func(t *testing.T, key *ctap2.Authenticator) error {
			request := signIn()
			request.RPID = "localhost"
			request.UserVerification = ctap2.Discouraged
			assertions, err := key.GetAssertion(t.Context(), request)
			if (len(assertions) == 1) != (err == nil) {
				t.Errorf("assertions %v, error %v", assertions, err)
			}
			return err
		}},
	}
}

// eachCommand runs test for each command, with another that comes behind it.
func eachCommand(t *testing.T, test func(t *testing.T, first, next scripted)) {
	t.Helper()
	commands := scriptedCommands()
	for name, next := range map[string]string{"makeCredential": "getAssertion", "getAssertion": "makeCredential"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, commands[name], commands[next]) })
		})
	}
}

// openScripted opens a key that answers getInfo and then the steps.
func openScripted(t *testing.T, steps ...hidtest.Step) *ctap2.Authenticator {
	t.Helper()
	info := hidtest.Step{Command: ctap.CmdGetInfo, Answer: recorded("CTAP_CBOR_INFO")}
	device, err := hid.New(t.Context(), hidtest.New(hidtest.Script(t, append([]hidtest.Step{info}, steps...)...)))
	if err != nil {
		t.Fatal(err)
	}
	key := open(t, device)
	t.Cleanup(func() { key.Close() })
	return key
}

// What goes wrong with the reports of an answer is an error of its own type,
// and the next command gets its own answer all the same.
func TestScriptedFaults(t *testing.T) {
	for name, fault := range map[string]struct {
		spoil func(good hidtest.Answer) hidtest.Answer
		want  []error // none: it is no fault
	}{
		"continuation lost": {
			func(good hidtest.Answer) hidtest.Answer { return good.Lose(2) },
			[]error{hid.ErrFraming},
		},
		"end lost": {
			func(good hidtest.Answer) hidtest.Answer { return good.Cut(3) },
			[]error{hid.ErrFraming, ctap2.ErrNoAnswer},
		},
		"start lost": {
			func(good hidtest.Answer) hidtest.Answer { return good.Lose(0) },
			[]error{ctap2.ErrNoAnswer},
		},
		"repeated": {
			func(good hidtest.Answer) hidtest.Answer { return good.Repeat(2) },
			[]error{hid.ErrFraming},
		},
		"swapped": {
			func(good hidtest.Answer) hidtest.Answer { return good.Swap(1) },
			[]error{hid.ErrFraming},
		},
		"sequence number garbled": {
			func(good hidtest.Answer) hidtest.Answer {
				return good.Garble(3, func(report []byte) { report[4] ^= 0x10 })
			},
			[]error{hid.ErrFraming},
		},
		"keepalive in the middle": {
			func(good hidtest.Answer) hidtest.Answer { return good.Insert(2, hidtest.Keepalive(1)) },
			[]error{hid.ErrFraming},
		},
		"another program's answer in the middle": {
			func(good hidtest.Answer) hidtest.Answer {
				foreign := hidtest.Message{Channel: 0x999, Command: hidtest.CommandCBOR, Data: make([]byte, 100)}
				return good.Insert(2, hidtest.Messages(foreign))
			},
			nil,
		},
		"keepalive just in time": {
			func(good hidtest.Answer) hidtest.Answer {
				return hidtest.Keepalive(2, 2).Then(good).Pace(hid.PacketTimeout-1).Delay(1, hid.AnswerTimeout-hid.PacketTimeout)
			},
			nil,
		},
		"keepalive too late": {
			func(good hidtest.Answer) hidtest.Answer {
				return hidtest.Keepalive(2, 2).Then(good).Delay(1, hid.AnswerTimeout+time.Second)
			},
			[]error{ctap2.ErrNoAnswer},
		},
		"error of the transport": {
			func(hidtest.Answer) hidtest.Answer { return hidtest.Keepalive(2).Then(hidtest.Error(0x7F)) },
			[]error{hid.ErrOther},
		},
		"error of the key": {
			func(hidtest.Answer) hidtest.Answer { return hidtest.Status(ctap.StatusOperationDenied) },
			[]error{ctap2.ErrOperationDenied},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachCommand(t, func(t *testing.T, first, next scripted) {
				key := openScripted(t,
					hidtest.Step{Command: first.command, Answer: fault.spoil(first.answer)},
					hidtest.Step{Command: next.command, Answer: next.answer.Delay(0, 2*time.Second)},
				)
				mustFail(t, first.do(t, key), fault.want...)
				mustFail(t, next.do(t, key))
			})
		})
	}
}

// mustFail wants an error that matches all of want, or none if there is none.
func mustFail(t *testing.T, err error, want ...error) {
	t.Helper()
	if len(want) == 0 && err != nil {
		t.Errorf("error %v", err)
	}
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("error %v, want one that matches %v", err, w)
		}
	}
}

// An answer that comes in the time of the next exchange, or between the two,
// is not taken for the answer to it.
func TestScriptedLateAnswer(t *testing.T) {
	for name, late := range map[string]time.Duration{"before": hid.AnswerTimeout, "within": hid.AnswerTimeout + time.Second} {
		t.Run(name, func(t *testing.T) {
			eachCommand(t, func(t *testing.T, first, next scripted) {
				key := openScripted(t,
					hidtest.Step{Command: first.command, Answer: first.answer.Delay(0, late)},
					hidtest.Step{Command: next.command, Answer: next.answer.Delay(0, 2*time.Second)},
					hidtest.Step{Command: first.command, Answer: first.answer},
				)
				mustFail(t, first.do(t, key), ctap2.ErrNoAnswer)
				mustFail(t, next.do(t, key))
				mustFail(t, first.do(t, key))
			})
		})
	}
}

// A key that vanishes in the middle of its answer is gone for good. It works
// again when it is plugged in again.
func TestScriptedUnplug(t *testing.T) {
	for n := range 4 {
		eachCommand(t, func(t *testing.T, first, next scripted) {
			key := openScripted(t, hidtest.Step{Command: first.command, Answer: first.answer.Insert(n, hidtest.Unplug())})
			start := time.Now()
			mustFail(t, first.do(t, key), ctap2.ErrDeviceGone, hid.ErrDeviceGone, hidtest.ErrUnplugged)
			mustFail(t, next.do(t, key), ctap2.ErrDeviceGone)
			if took := time.Since(start); took > 0 {
				t.Errorf("it took %v", took)
			}

			key = openScripted(t, hidtest.Step{Command: next.command, Answer: next.answer})
			mustFail(t, next.do(t, key))
		})
	}
}
