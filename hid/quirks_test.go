package hid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid/hidtest"
	"github.com/tapstone/fido/internal/ctap"
)

// The tests here are named for the faults of real keys that this package has
// to live with, by their number.

var getInfo = []byte{ctap.CmdGetInfo}

func mustAnswer(t *testing.T, d *Device, message []byte) {
	t.Helper()
	answer, err := d.Exchange(t.Context(), message, nil)
	if want := append([]byte{0}, message...); err != nil || !bytes.Equal(answer, want) {
		t.Fatalf("Exchange(%x) = %x, %v", message, answer, err)
	}
}

func mustMatch(t *testing.T, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("error %v, want one that matches %v", err, target)
		}
	}
}

func mustTake(t *testing.T, k *hidtest.Device, want ...string) {
	t.Helper()
	if got := taken(k); !slices.Equal(got, want) {
		t.Fatalf("the key got %q, want %q", got, want)
	}
}

func TestQuirk01OtherChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		others := message(0x999, ctap.HIDCBOR, counting(200)).Then(
			message(0x999, ctap.HIDError, []byte{ctap.HIDErrInvalidSeq}),
			message(ctap.HIDBroadcast, ctap.HIDInit, counting(17)),
		)
		answer := hidtest.Default()
		for n := 3; n >= 0; n-- { // in front of each of its reports
			answer = answer.Insert(n, others)
		}
		k.Handle(hidtest.Answers{ctap.HIDCBOR: answer}.Handle)
		k.Send(others)
		mustAnswer(t, newDevice(t, k), counting(200))
	})
}

// Reports for other channels without an end do not keep a call waiting.
func TestQuirk01FloodFromOtherChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		stray := hidtest.Message{Channel: 0x999, Command: ctap.HIDKeepalive, Data: []byte{ctap.KeepaliveProcessing}}
		flood := hidtest.Messages(slices.Repeat([]hidtest.Message{stray}, 20_000)...).Pace(time.Millisecond)
		k.Handle(always(flood))
		start := time.Now()
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
		if took := time.Since(start); took > 2*AnswerTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestQuirk02ForeignNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			switch m.Command {
			case ctap.HIDInit:
				foreign := append([]byte{m.Data[0] ^ 1}, counting(16)...)
				return hidtest.Reply(foreign).Then(
					hidtest.Reply(foreign[:7]),
					hidtest.Reply(nil),
					hidtest.Error(ctap.HIDErrInvalidLen),
					hidtest.Reply(counting(100)).Cut(1), // another program's, which does not end
					hidtest.Default(),
				)
			case ctap.HIDCBOR:
				// A late reply to a CTAPHID_INIT is no answer either.
				return message(m.Channel, ctap.HIDInit, counting(17)).Then(hidtest.Default())
			}
			return hidtest.Default()
		})
		d := newDevice(t, k)
		if d.Channel() != 0x11 {
			t.Errorf("channel %x", d.Channel())
		}
		mustAnswer(t, d, getInfo)
	})
}

func TestQuirk03ChannelBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		busy := 3
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if busy == 0 {
				return hidtest.Default()
			}
			busy--
			// Once for each packet, as some keys do: it is still one refusal.
			refusal := hidtest.Error(ctap.HIDErrChannelBusy)
			return refusal.Then(refusal, refusal)
		})
		d := newDevice(t, k)
		if got := taken(k); len(got) != 4 {
			t.Errorf("the key got %q, want three refused CTAPHID_INIT and one", got)
		}
		busy = 2
		start := time.Now()
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_CBOR 11 04", "CTAPHID_CBOR 11 04")
		if time.Since(start) == 0 {
			t.Error("there was no pause between the tries")
		}

		busy = 1 << 30
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+busyPause/2)
		defer cancel()
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded, ErrChannelBusy)
		if tries := len(taken(k)); tries < 10 {
			t.Errorf("%d tries in a minute", tries)
		}
		busy = 1
		mustAnswer(t, d, getInfo)
	})
}

// A refusal that comes when the key is at work does not mean that it did
// nothing: the message is not sent twice.
func TestQuirk03BusyAfterKeepalive(t *testing.T) {
	for _, code := range []Error{ErrChannelBusy, ErrInvalidChannel} {
		synctest.Test(t, func(t *testing.T) {
			k := hidtest.New(nil)
			d := newDevice(t, k)
			taken(k)
			k.Handle(always(hidtest.Keepalive(ctap.KeepaliveProcessing).Then(hidtest.Error(byte(code)))))
			_, err := d.Exchange(t.Context(), getInfo, nil)
			mustMatch(t, err, code)
			mustTake(t, k, "CTAPHID_CBOR 11 04")
		})
	}
}

// The key answers CANCEL with the status KEEPALIVE_CANCEL, or with the result
// of the operation if that was over first.
func TestQuirk04Cancel(t *testing.T) {
	for _, result := range [][]byte{{ctap.StatusKeepaliveCancel}, append([]byte{0}, counting(300)...)} {
		synctest.Test(t, func(t *testing.T) {
			k := hidtest.New(nil)
			d := newDevice(t, k)
			taken(k)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k.Handle(hidtest.Answers{
				ctap.HIDCBOR:   hidtest.Keepalive(ctap.KeepaliveUPNeeded),
				ctap.HIDCancel: hidtest.Keepalive(ctap.KeepaliveProcessing).Then(hidtest.Reply(result)),
			}.Handle)
			var heard []byte
			answer, err := d.Exchange(ctx, getInfo, func(status byte) {
				heard = append(heard, status)
				cancel()
			})
			if err != nil || !bytes.Equal(answer, result) {
				t.Fatalf("Exchange = %x, %v; want %x", answer, err, result)
			}
			if !bytes.Equal(heard, []byte{ctap.KeepaliveUPNeeded}) {
				t.Errorf("status heard %x; what follows the cancelling is nobody's concern", heard)
			}
			mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_CANCEL 11")

			// A second answer, to the CANCEL that came too late, is not taken
			// for that to the next message.
			k.Send(message(d.Channel(), ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel}))
			k.Handle(nil)
			mustAnswer(t, d, []byte{ctap.CmdSelection})
		})
	}
}

// A key that hears CANCEL before it has begun ignores it. It is told again.
func TestQuirk04CancelBeforeBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		ctx, cancel := context.WithCancel(t.Context())
		var begun time.Time
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			switch {
			case m.Command == ctap.HIDCBOR:
				cancel()
				begun = time.Now().Add(50 * time.Millisecond)
				return hidtest.Keepalive(2, 2, 2, 2, 2).Pace(100 * time.Millisecond)
			case m.Command == ctap.HIDCancel && time.Now().After(begun):
				return hidtest.Status(ctap.StatusKeepaliveCancel)
			}
			return hidtest.Default()
		})
		answer, err := d.Exchange(ctx, getInfo, nil)
		if err != nil || !bytes.Equal(answer, []byte{ctap.StatusKeepaliveCancel}) {
			t.Fatalf("Exchange = %x, %v", answer, err)
		}
		mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_CANCEL 11", "CTAPHID_CANCEL 11")
	})
}

func TestQuirk05IgnoredCancel(t *testing.T) {
	for _, test := range []struct {
		name       string
		keepalives bool
	}{{"silent", false}, {"keepalives", true}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil)
				d := newDevice(t, k)
				taken(k)
				k.Handle(func(m hidtest.Message) hidtest.Answer {
					if m.Command == ctap.HIDCBOR && test.keepalives {
						// Far beyond the end of what follows.
						return hidtest.Keepalive(bytes.Repeat([]byte{ctap.KeepaliveUPNeeded}, 1000)...).Pace(100 * time.Millisecond)
					}
					return hidtest.Silence()
				})
				ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("tired"))
				defer cancel()
				start := time.Now()
				_, err := d.Exchange(ctx, getInfo, nil)
				mustMatch(t, err, context.DeadlineExceeded, context.Cause(ctx))
				if took := time.Since(start); took > 3*time.Second+CancelTimeout {
					t.Errorf("it took %v", took)
				}
				if got := taken(k); len(got) < 2 || got[1] != "CTAPHID_CANCEL 11" {
					t.Errorf("the key got %q", got)
				}

				// It does not answer CTAPHID_INIT either, for ever.
				for range 2 {
					start := time.Now()
					_, err = d.Exchange(t.Context(), getInfo, nil)
					mustMatch(t, err, ErrNoAnswer)
					if took := time.Since(start); took > InitTimeout {
						t.Errorf("it took %v", took)
					}
					mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)")
				}
				k.Handle(nil)
				mustAnswer(t, d, getInfo)
				mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
				// And not again when all is well.
				mustAnswer(t, d, getInfo)
				mustTake(t, k, "CTAPHID_CBOR 12 04")
			})
		})
	}
}

// Some keys do not reply to CTAPHID_INIT on a channel of ours. A new channel
// does as well.
func TestQuirk05InitOnBroadcastOnly(t *testing.T) {
	for name, reply := range map[string]hidtest.Answer{
		"silent": hidtest.Silence(), "empty": hidtest.Reply(nil), "error": hidtest.Error(ctap.HIDErrInvalidCmd),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(func(m hidtest.Message) hidtest.Answer {
					if m.Command == ctap.HIDInit && m.Channel != ctap.HIDBroadcast {
						return reply
					}
					return hidtest.Default()
				})
				d := newDevice(t, k)
				if err := d.Wink(t.Context()); err != nil {
					t.Fatal(err)
				}
				taken(k)
				start := time.Now()
				mustAnswer(t, d, getInfo)
				if took := time.Since(start); took > InitTimeout {
					t.Errorf("it took %v", took)
				}
				mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
			})
		})
	}
}

// A key that has forgotten our channel, as one was seen to after the machine's
// sleep, and says nothing on it.
func TestQuirk05ForgottenChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		forgotten := d.Channel()
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Channel == forgotten {
				return hidtest.Silence()
			}
			return hidtest.Default()
		})
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
		mustAnswer(t, d, getInfo)
	})
}

// Each is an answer that breaks the rules. After it, the next exchange starts
// with CTAPHID_INIT, and gets its own answer although the rest of the broken
// one is still to come.
func TestQuirk06FramingErrors(t *testing.T) {
	long := hidtest.Reply(counting(200)) // four packets
	tests := map[string]hidtest.Answer{
		"packet lost":     long.Lose(1),
		"packet twice":    long.Repeat(1),
		"packets swapped": long.Swap(1),
		"sequence number": long.Garble(2, func(report []byte) { report[4] ^= 0x20 }),
		"cut short":       long.Cut(2),
		"only its start":  long.Cut(1),
		// One byte is missing, and the keepalive has one.
		"another message within": hidtest.Reply(counting(58)).Insert(1, hidtest.Keepalive(ctap.KeepaliveProcessing)),
		"too long":               long.Garble(0, func(report []byte) { binary.BigEndian.PutUint16(report[5:], 7610) }),
		"another command":        long.Garble(0, func(report []byte) { report[4] = ctap.HIDInitBit | ctap.HIDMsg }),
		"no status":              hidtest.Reply(nil),
		"error without a code":   hidtest.Error(0).Garble(0, func(report []byte) { report[6] = 0 }),
	}
	for name, broken := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil)
				d := newDevice(t, k)
				taken(k)
				k.Handle(always(broken))
				start := time.Now()
				answer, err := d.Exchange(t.Context(), getInfo, nil)
				mustMatch(t, err, ErrFraming)
				if missing := name == "cut short" || name == "only its start"; missing != (time.Since(start) > 0) {
					t.Errorf("it waited for %v", time.Since(start))
				}
				if answer != nil {
					t.Errorf("a part of the answer is returned: %x", answer)
				}
				k.Handle(nil)
				k.Send(message(d.Channel(), ctap.HIDCBOR, []byte{ctap.StatusOther}))
				taken(k)
				mustAnswer(t, d, getInfo)
				want := []string{"CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04"}
				if name == "error without a code" {
					// Nothing more can come on this channel.
					want = []string{"CTAPHID_INIT 11 (8)", "CTAPHID_CBOR 11 04"}
				}
				mustTake(t, k, want...)
			})
		})
	}
}

// Some keys answer what they were told to abort after all, behind the reply to
// CTAPHID_INIT, and even when the next message has arrived.
func TestQuirk06LateBehindInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded)

		late := message(d.Channel(), ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel})
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Command == ctap.HIDInit {
				return hidtest.Default().Then(late)
			}
			return late.Then(hidtest.Default())
		})
		mustAnswer(t, d, []byte{ctap.CmdSelection})
		mustAnswer(t, d, getInfo)
	})
}

// An error in the middle of an answer ends it.
func TestQuirk06ErrorWithinAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(always(hidtest.Reply(counting(200)).Cut(2).Then(hidtest.Error(ctap.HIDErrOther))))
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrOther)
	})
}

// The rest of an abandoned answer, without its start, is not for us.
func TestQuirk06StrayContinuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Send(message(d.Channel(), ctap.HIDCBOR, counting(200)).Lose(0))
		mustAnswer(t, d, getInfo)
	})
}

func TestQuirk07DeadDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		k.Handle(silent)
		start := time.Now()
		_, err := New(t.Context(), k)
		mustMatch(t, err, ErrNoAnswer)
		if time.Since(start) != InitTimeout {
			t.Errorf("New took %v", time.Since(start))
		}

		k.Handle(nil)
		d := newDevice(t, k)
		k.Handle(silent)
		start = time.Now()
		_, err = d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
		if time.Since(start) != AnswerTimeout {
			t.Errorf("Exchange took %v", time.Since(start))
		}
	})
}

func TestQuirk07KeepalivesExtendTheWait(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers bool
	}{{"answers", true}, {"dies", false}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil)
				d := newDevice(t, k)
				start := time.Now()
				const keepalives, pace = 15, AnswerTimeout - time.Second
				k.Handle(func(m hidtest.Message) hidtest.Answer {
					// One without a status is one all the same.
					keepalive := hidtest.Message{Channel: m.Channel, Command: ctap.HIDKeepalive}
					answer := hidtest.Messages(slices.Repeat([]hidtest.Message{keepalive}, keepalives)...).Pace(pace)
					if test.answers {
						answer = answer.Then(hidtest.Success(nil))
					}
					return answer
				})
				_, err := d.Exchange(t.Context(), getInfo, func(byte) { t.Error("a status was heard") })
				if test.answers {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				mustMatch(t, err, ErrNoAnswer)
				if silent := time.Since(start) - keepalives*pace; silent != AnswerTimeout {
					t.Errorf("it ended %v after the last keepalive", silent)
				}
			})
		})
	}
}

// Packets that each come just in time are an answer, however long it takes.
func TestQuirk07SlowPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(always(hidtest.Reply(counting(7609)).Pace(PacketTimeout - time.Millisecond)))
		answer, err := d.Exchange(t.Context(), getInfo, nil)
		if err != nil || !bytes.Equal(answer, counting(7609)) {
			t.Fatal(len(answer), err)
		}
	})
}

func TestQuirk08Wink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		if err := d.Wink(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_WINK 11", "CTAPHID_INIT 11 (8)", "CTAPHID_CBOR 11 04")

		k.Handle(hidtest.Answers{ctap.HIDWink: hidtest.Silence()}.Handle)
		start := time.Now()
		mustMatch(t, d.Wink(t.Context()), ErrNoAnswer)
		if took := time.Since(start); took >= AnswerTimeout {
			t.Errorf("Wink took %v", took)
		}
		k.Send(message(d.Channel(), ctap.HIDWink, nil)) // at last
		mustAnswer(t, d, getInfo)
	})
}

// A key that claims CBOR and does not know it: the error says so to whoever
// looks for ErrUnsupported, and U2F works.
func TestQuirk09WrongCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(hidtest.Answers{ctap.HIDCBOR: hidtest.Error(ctap.HIDErrInvalidCmd)}.Handle)
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrInvalidCmd, ErrUnsupported, ctap.ErrUnsupported)
		answer, err := d.Msg(t.Context(), []byte{0, 3, 0, 0, 0, 0, 0})
		if err != nil || !bytes.HasSuffix(answer, []byte{0x90, 0x00}) {
			t.Fatalf("Msg = %x, %v", answer, err)
		}
	})
}

// The largest message costs one buffer for the answer, and that only.
func TestQuirk11OneBuffer(t *testing.T) {
	d, err := New(t.Context(), &echo{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	data := counting(d.MaxMessageSize())
	for name, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": ctx} {
		allocs := testing.AllocsPerRun(20, func() {
			if _, err := d.Ping(ctx, data); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 3 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// A shared is one opening of a key that another program has open too.
type shared struct {
	*hidtest.Device
	token chan struct{}
}

func (s shared) TryLock() (bool, error) {
	select {
	case s.token <- struct{}{}:
		return true, nil
	default:
		return false, nil
	}
}

func (s shared) Unlock() error { <-s.token; return nil }

func TestQuirk12TwoPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		s := shared{k, make(chan struct{}, 1)}
		d, err := New(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		taken(k)

		s.token <- struct{}{} // the other one's exchange
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded)
		mustTake(t, k)

		time.AfterFunc(time.Minute, func() { <-s.token })
		mustAnswer(t, d, getInfo)
		if len(s.token) != 0 {
			t.Error("the lock is kept")
		}
		k.Handle(func(hidtest.Message) hidtest.Answer {
			if len(s.token) != 1 {
				t.Error("a message was sent without the lock")
			}
			return hidtest.Default()
		})
		mustAnswer(t, d, getInfo)
	})
}

// A poll that timed out leaves a late reply behind.
func TestQuirk43LateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		k.Handle(silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := d.Msg(ctx, []byte{0, 2, 3})
		mustMatch(t, err, context.DeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Errorf("Msg returned after %v", took)
		}
		mustTake(t, k, "CTAPHID_MSG 11 000203") // and no CANCEL, which it would not know

		k.Handle(nil)
		k.Send(message(d.Channel(), ctap.HIDMsg, []byte{0x69, 0x85}))
		answer, err := d.Msg(t.Context(), []byte{0, 3})
		if err != nil || !bytes.Equal(answer, []byte{0, 3, 0x90, 0}) {
			t.Fatalf("Msg = %x, %v", answer, err)
		}
		mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_MSG 12 0003")
	})
}

func TestQuirk46TooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		if d.MaxMessageSize() != ctap.MaxFramedMessage {
			t.Errorf("MaxMessageSize = %d", d.MaxMessageSize())
		}
		k.Intercept(func([]byte) [][]byte {
			t.Error("a report was sent")
			return nil
		})
		_, err := d.Exchange(t.Context(), counting(ctap.MaxFramedMessage+1), nil)
		mustMatch(t, err, ErrMessageTooLarge)
		k.Intercept(nil)
		if _, err := d.Ping(t.Context(), counting(ctap.MaxFramedMessage)); err != nil {
			t.Error(err)
		}
	})
}
