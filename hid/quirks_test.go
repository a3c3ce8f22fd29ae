package hid

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func mustTake(t *testing.T, k *key, want ...string) {
	t.Helper()
	if got := k.taken(); !slices.Equal(got, want) {
		t.Fatalf("the key got %q, want %q", got, want)
	}
}

func TestQuirk01OtherChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		others := slices.Concat(
			reports(64, 0x999, ctap.HIDCBOR, counting(200)),
			reports(64, 0x999, ctap.HIDError, []byte{ctap.HIDErrInvalidSeq}),
			reports(64, ctap.HIDBroadcast, ctap.HIDInit, counting(17)),
		)
		k.serve = func(m message) bool {
			if m.command != ctap.HIDCBOR {
				return false
			}
			for _, r := range reports(64, m.channel, m.command, append([]byte{0}, m.data...)) {
				k.send(others...)
				k.send(r)
			}
			return true
		}
		k.send(others...)
		mustAnswer(t, k.device(t), counting(200))
	})
}

// Reports for other channels without an end do not keep a call waiting.
func TestQuirk01FloodFromOtherChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.serve = func(m message) bool { return true }
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for tick := time.NewTicker(time.Millisecond); ; {
				select {
				case <-tick.C:
					k.answer(0x999, ctap.HIDKeepalive, []byte{ctap.KeepaliveProcessing})
				case <-stop:
					return
				}
			}
		}()
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
		k := newKey()
		k.serve = func(m message) bool {
			if m.command == ctap.HIDInit {
				reply := k.welcome(m)
				foreign := bytes.Clone(reply)
				foreign[0] ^= 1
				foreign[11] = 0x77
				k.answer(m.channel, m.command, foreign)
				k.answer(m.channel, m.command, foreign[:7])
				k.answer(m.channel, m.command, nil)
				k.answer(m.channel, ctap.HIDError, []byte{ctap.HIDErrInvalidLen})
				// Another program's, which does not end.
				k.send(reports(64, m.channel, m.command, counting(100))[0])
				k.answer(m.channel, m.command, reply)
				return true
			}
			if m.command == ctap.HIDCBOR {
				// A late reply to a CTAPHID_INIT is no answer either.
				k.answer(m.channel, ctap.HIDInit, counting(17))
			}
			return false
		}
		d := k.device(t)
		if d.Channel() != 0x11 {
			t.Errorf("channel %x", d.Channel())
		}
		mustAnswer(t, d, getInfo)
	})
}

func TestQuirk03ChannelBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		busy := 3
		k.serve = func(m message) bool {
			if busy == 0 {
				return false
			}
			busy--
			// Once for each packet, as some keys do: it is still one refusal.
			for range 3 {
				k.answer(m.channel, ctap.HIDError, []byte{ctap.HIDErrChannelBusy})
			}
			return true
		}
		d := k.device(t)
		if got := k.taken(); len(got) != 4 {
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
		if tries := len(k.taken()); tries < 10 {
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
			k := newKey()
			d := k.device(t)
			k.taken()
			k.serve = func(m message) bool {
				k.answer(m.channel, ctap.HIDKeepalive, []byte{ctap.KeepaliveProcessing})
				k.answer(m.channel, ctap.HIDError, []byte{byte(code)})
				return true
			}
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
			k := newKey()
			d := k.device(t)
			k.taken()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k.serve = func(m message) bool {
				switch m.command {
				case ctap.HIDCBOR:
					k.answer(m.channel, ctap.HIDKeepalive, []byte{ctap.KeepaliveUPNeeded})
					return true
				case ctap.HIDCancel:
					k.answer(m.channel, ctap.HIDKeepalive, []byte{ctap.KeepaliveProcessing})
					k.answer(m.channel, ctap.HIDCBOR, result)
				}
				return false
			}
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
			k.answer(d.Channel(), ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel})
			k.serve = nil
			mustAnswer(t, d, []byte{ctap.CmdSelection})
		})
	}
}

// A key that hears CANCEL before it has begun ignores it. It is told again.
func TestQuirk04CancelBeforeBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.taken()
		ctx, cancel := context.WithCancel(t.Context())
		var begun atomic.Bool
		k.serve = func(m message) bool {
			switch {
			case m.command == ctap.HIDCBOR:
				cancel()
				go func() {
					time.Sleep(50 * time.Millisecond)
					begun.Store(true)
					for range 5 {
						k.answer(m.channel, ctap.HIDKeepalive, []byte{ctap.KeepaliveUPNeeded})
						time.Sleep(100 * time.Millisecond)
					}
				}()
				return true
			case m.command == ctap.HIDCancel && begun.Load():
				k.answer(m.channel, ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel})
			}
			return false
		}
		answer, err := d.Exchange(ctx, getInfo, nil)
		if err != nil || !bytes.Equal(answer, []byte{ctap.StatusKeepaliveCancel}) {
			t.Fatalf("Exchange = %x, %v", answer, err)
		}
		mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_CANCEL 11", "CTAPHID_CANCEL 11")
		time.Sleep(time.Second) // the key's goroutine ends
	})
}

func TestQuirk05IgnoredCancel(t *testing.T) {
	for _, test := range []struct {
		name       string
		keepalives bool
	}{{"silent", false}, {"keepalives", true}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKey()
				d := k.device(t)
				k.taken()
				stop := make(chan struct{})
				k.serve = func(m message) bool {
					if m.command == ctap.HIDCBOR {
						go func() {
							for test.keepalives {
								k.answer(m.channel, ctap.HIDKeepalive, []byte{ctap.KeepaliveUPNeeded})
								select {
								case <-stop:
									return
								case <-time.After(100 * time.Millisecond):
								}
							}
						}()
					}
					return true
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("tired"))
				defer cancel()
				start := time.Now()
				_, err := d.Exchange(ctx, getInfo, nil)
				mustMatch(t, err, context.DeadlineExceeded, context.Cause(ctx))
				if took := time.Since(start); took > 3*time.Second+CancelTimeout {
					t.Errorf("it took %v", took)
				}
				if got := k.taken(); len(got) < 2 || got[1] != "CTAPHID_CANCEL 11" {
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
					mustTake(t, k, "CTAPHID_INIT 11 (8)")
				}
				close(stop)
				k.serve = nil
				mustAnswer(t, d, getInfo)
				mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
				// And not again when all is well.
				mustAnswer(t, d, getInfo)
				mustTake(t, k, "CTAPHID_CBOR 12 04")
			})
		})
	}
}

// Each is an answer that breaks the rules. After it, the next exchange starts
// with CTAPHID_INIT, and gets its own answer although the rest of the broken
// one is still to come.
func TestQuirk06FramingErrors(t *testing.T) {
	long := counting(200)
	tests := map[string]func(k *key, m message){
		"packet lost": func(k *key, m message) {
			r := reports(64, m.channel, m.command, long)
			k.send(r[0], r[2], r[3])
		},
		"packet twice": func(k *key, m message) {
			r := reports(64, m.channel, m.command, long)
			k.send(r[0], r[1], r[1], r[2])
		},
		"cut short": func(k *key, m message) {
			k.send(reports(64, m.channel, m.command, long)[:2]...)
		},
		"only its start": func(k *key, m message) {
			k.send(reports(64, m.channel, m.command, long)[:1]...)
		},
		"another message within": func(k *key, m message) {
			r := reports(64, m.channel, m.command, long)
			k.send(r[0], reports(64, m.channel, ctap.HIDKeepalive, []byte{1})[0], r[1])
		},
		"too long": func(k *key, m message) {
			r := reports(64, m.channel, m.command, long)
			r[0][5], r[0][6] = 7610>>8, 7610&0xFF
			k.send(r...)
		},
		"another command": func(k *key, m message) {
			k.answer(m.channel, ctap.HIDMsg, long)
		},
		"no status": func(k *key, m message) {
			k.answer(m.channel, m.command, nil)
		},
		"error without a code": func(k *key, m message) {
			k.answer(m.channel, ctap.HIDError, nil)
		},
	}
	for name, broken := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKey()
				d := k.device(t)
				k.taken()
				k.serve = func(m message) bool {
					broken(k, m)
					return true
				}
				start := time.Now()
				answer, err := d.Exchange(t.Context(), getInfo, nil)
				mustMatch(t, err, ErrFraming)
				if missing := name == "cut short" || name == "only its start"; missing != (time.Since(start) > 0) {
					t.Errorf("it waited for %v", time.Since(start))
				}
				if answer != nil {
					t.Errorf("a part of the answer is returned: %x", answer)
				}
				k.serve = nil
				k.answer(d.Channel(), ctap.HIDCBOR, []byte{ctap.StatusOther})
				k.taken()
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
		k := newKey()
		d := k.device(t)
		k.serve = func(m message) bool { return true }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded)

		late := d.Channel()
		k.serve = func(m message) bool {
			if m.command == ctap.HIDInit {
				k.obey(m)
			}
			k.answer(late, ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel})
			return m.command == ctap.HIDInit
		}
		mustAnswer(t, d, []byte{ctap.CmdSelection})
		mustAnswer(t, d, getInfo)
	})
}

// An error in the middle of an answer ends it.
func TestQuirk06ErrorWithinAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.serve = func(m message) bool {
			k.send(reports(64, m.channel, m.command, counting(200))[:2]...)
			k.answer(m.channel, ctap.HIDError, []byte{ctap.HIDErrOther})
			return true
		}
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrOther)
	})
}

// The rest of an abandoned answer, without its start, is not for us.
func TestQuirk06StrayContinuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.send(reports(64, d.Channel(), ctap.HIDCBOR, counting(200))[1:]...)
		mustAnswer(t, d, getInfo)
	})
}

func TestQuirk07DeadDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		k.serve = func(message) bool { return true }
		start := time.Now()
		_, err := New(t.Context(), k)
		mustMatch(t, err, ErrNoAnswer)
		if time.Since(start) != InitTimeout {
			t.Errorf("New took %v", time.Since(start))
		}

		k.serve = nil
		d := k.device(t)
		k.serve = func(message) bool { return true }
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
				k := newKey()
				d := k.device(t)
				start := time.Now()
				var last time.Time
				k.serve = func(m message) bool {
					go func() {
						for time.Since(start) < time.Minute {
							time.Sleep(AnswerTimeout - time.Second)
							last = time.Now()
							// One without a status is one all the same.
							k.answer(m.channel, ctap.HIDKeepalive, nil)
						}
						if test.answers {
							k.answer(m.channel, m.command, []byte{0})
						}
					}()
					return true
				}
				_, err := d.Exchange(t.Context(), getInfo, func(byte) { t.Error("a status was heard") })
				if test.answers {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				mustMatch(t, err, ErrNoAnswer)
				if silent := time.Since(last); silent != AnswerTimeout {
					t.Errorf("it ended %v after the last keepalive", silent)
				}
			})
		})
	}
}

// Packets that each come just in time are an answer, however long it takes.
func TestQuirk07SlowPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.serve = func(m message) bool {
			go func() {
				for _, r := range reports(64, m.channel, m.command, counting(7609)) {
					time.Sleep(PacketTimeout - time.Millisecond)
					k.send(r)
				}
			}()
			return true
		}
		answer, err := d.Exchange(t.Context(), getInfo, nil)
		if err != nil || !bytes.Equal(answer, counting(7609)) {
			t.Fatal(len(answer), err)
		}
	})
}

func TestQuirk08Wink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.taken()
		if err := d.Wink(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_WINK 11", "CTAPHID_INIT 11 (8)", "CTAPHID_CBOR 11 04")

		k.serve = func(m message) bool { return m.command == ctap.HIDWink }
		start := time.Now()
		mustMatch(t, d.Wink(t.Context()), ErrNoAnswer)
		if took := time.Since(start); took >= AnswerTimeout {
			t.Errorf("Wink took %v", took)
		}
		k.answer(d.Channel(), ctap.HIDWink, nil) // at last
		mustAnswer(t, d, getInfo)
	})
}

// A key that claims CBOR and does not know it: the error says so to whoever
// looks for ErrUnsupported, and U2F works.
func TestQuirk09WrongCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.serve = func(m message) bool {
			if m.command == ctap.HIDCBOR {
				k.answer(m.channel, ctap.HIDError, []byte{ctap.HIDErrInvalidCmd})
			}
			return m.command == ctap.HIDCBOR
		}
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
	*key
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
		k := newKey()
		s := shared{k, make(chan struct{}, 1)}
		d, err := New(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		k.taken()

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
		k.serve = func(m message) bool {
			if len(s.token) != 1 {
				t.Error("a message was sent without the lock")
			}
			return false
		}
		mustAnswer(t, d, getInfo)
	})
}

// A poll that timed out leaves a late reply behind.
func TestQuirk43LateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.taken()
		k.serve = func(m message) bool { return true }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := d.Msg(ctx, []byte{0, 2, 3})
		mustMatch(t, err, context.DeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Errorf("Msg returned after %v", took)
		}
		mustTake(t, k, "CTAPHID_MSG 11 000203") // and no CANCEL, which it would not know

		k.serve = nil
		k.answer(d.Channel(), ctap.HIDMsg, []byte{0x69, 0x85})
		answer, err := d.Msg(t.Context(), []byte{0, 3})
		if err != nil || !bytes.Equal(answer, []byte{0, 3, 0x90, 0}) {
			t.Fatalf("Msg = %x, %v", answer, err)
		}
		mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_MSG 12 0003")
	})
}

func TestQuirk46TooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKey()
		d := k.device(t)
		k.taken()
		if d.MaxMessageSize() != ctap.MaxFramedMessage {
			t.Errorf("MaxMessageSize = %d", d.MaxMessageSize())
		}
		k.step = func() { t.Error("a report was sent") }
		_, err := d.Exchange(t.Context(), counting(ctap.MaxFramedMessage+1), nil)
		mustMatch(t, err, ErrMessageTooLarge)
		k.step = nil
		if _, err := d.Ping(t.Context(), counting(ctap.MaxFramedMessage)); err != nil {
			t.Error(err)
		}
	})
}
