package hid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid/hidtest"
	"github.com/tapstone/fido/internal/ctap"
)

func TestNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		if d.Channel() != 0x11 {
			t.Errorf("Channel = %x", d.Channel())
		}
		if want := (Version{2, 1, 2, 3}); d.Version() != want {
			t.Errorf("Version = %v", d.Version())
		}
		if want := CapabilityCBOR | CapabilityWink; d.Capabilities() != want {
			t.Errorf("Capabilities = %v", d.Capabilities())
		}
	})
}

// New leaves a Conn that it does not take over as it is.
func TestNewFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the user went home")
		cancel(why)
		_, err := New(ctx, k)
		mustMatch(t, err, context.Canceled, why)
		mustTake(t, k) // nothing

		k.Handle(silent)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err = New(ctx, k)
		mustMatch(t, err, context.DeadlineExceeded)

		for _, answer := range []hidtest.Answer{
			hidtest.Default().Garble(0, func(report []byte) { report[6] = 16 }), // the length
			hidtest.Default().Garble(0, func(report []byte) { clear(report[15:19]) }),
			hidtest.Default().Garble(0, func(report []byte) { copy(report[15:], report[:4]) }), // the broadcast channel
		} {
			k.Handle(always(answer))
			_, err = New(t.Context(), k)
			mustMatch(t, err, ErrFraming)
		}

		k.Handle(nil)
		newDevice(t, k)
	})
}

func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		ctx := t.Context()
		if answer, err := d.Msg(ctx, []byte{0, 3}); err != nil || !bytes.Equal(answer, []byte{0, 3, 0x90, 0}) {
			t.Errorf("Msg = %x, %v", answer, err)
		}
		for _, data := range [][]byte{nil, {1}, counting(57), counting(58), counting(7609)} {
			if answer, err := d.Ping(ctx, data); err != nil || !bytes.Equal(answer, data) {
				t.Errorf("Ping of %d bytes = %d bytes, %v", len(data), len(answer), err)
			}
		}
		k.Handle(hidtest.Answers{0x41: hidtest.Reply([]byte{5})}.Handle)
		if answer, err := d.Vendor(ctx, 0x41, []byte{5}); err != nil || !bytes.Equal(answer, []byte{5}) {
			t.Errorf("Vendor = %x, %v", answer, err)
		}
		_, err := d.Vendor(ctx, 0x7F, nil)
		mustMatch(t, err, ErrInvalidCmd, ErrUnsupported)
		taken(k)

		for _, command := range []byte{0, ctap.HIDCBOR, 0x3F, 0x80, 0xC1} {
			_, err := d.Vendor(ctx, command, nil)
			mustMatch(t, err, ErrInvalidCmd)
		}
		for _, duration := range []time.Duration{-1, 10*time.Second + 1} {
			mustMatch(t, d.Lock(ctx, duration), ErrInvalidPar)
		}
		mustTake(t, k) // nothing

		for _, duration := range []time.Duration{0, 1, time.Second, 10 * time.Second} {
			if err := d.Lock(ctx, duration); err != nil {
				t.Error(err)
			}
		}
		mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_LOCK 11 00", "CTAPHID_LOCK 11 01", "CTAPHID_LOCK 11 01", "CTAPHID_LOCK 11 0a")
	})
}

// A Ping whose echo differs is an error, and the channel is set right.
func TestPingAltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		altered := hidtest.Default().Garble(1, func(report []byte) { report[47] ^= 1 }) // the last byte
		k.Handle(hidtest.Answers{ctap.HIDPing: altered}.Handle)
		_, err := d.Ping(t.Context(), counting(100))
		mustMatch(t, err, ErrFraming)
		taken(k)
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
	})
}

func TestCapabilitiesString(t *testing.T) {
	for c, want := range map[Capabilities]string{
		0: "none", CapabilityWink | CapabilityCBOR: "WINK, CBOR", CapabilityNMSG: "NMSG", 0x93: "WINK, 0x92",
	} {
		if got := fmt.Sprint(c); got != want {
			t.Errorf("%#x is %q, want %q", byte(c), got, want)
		}
	}
}

// What a device does not claim is refused, and nothing is sent.
func TestCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil, hidtest.WithCapabilities(ctap.HIDCapabilityNMSG))
		d := newDevice(t, k)
		taken(k)
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrUnsupported)
		_, err = d.Msg(t.Context(), []byte{0, 3})
		mustMatch(t, err, ErrUnsupported)
		mustMatch(t, d.Wink(t.Context()), ErrUnsupported)
		mustTake(t, k)
	})
}

// A device that has forgotten the channel gets the message again on a new one,
// once.
func TestInvalidChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Channel == 0x11 {
				return hidtest.Error(ctap.HIDErrInvalidChannel)
			}
			return hidtest.Default()
		})
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
		if d.Channel() != 0x12 {
			t.Errorf("Channel = %x", d.Channel())
		}

		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Command != ctap.HIDInit {
				return hidtest.Error(ctap.HIDErrInvalidChannel)
			}
			return hidtest.Default()
		})
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrInvalidChannel)
		mustTake(t, k, "CTAPHID_CBOR 12 04", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 13 04")

		// The channel that is to be set right is unknown too.
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Channel == 0x13 {
				return hidtest.Error(ctap.HIDErrInvalidChannel)
			}
			return hidtest.Default()
		})
		mustAnswer(t, d, getInfo)
		mustTake(t, k, "CTAPHID_INIT 13 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 14 04")

		// And a new one is not to be had.
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			if m.Command != ctap.HIDInit {
				return hidtest.Error(ctap.HIDErrInvalidChannel)
			}
			return hidtest.Silence()
		})
		_, err = d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
	})
}

// Whatever ends the wait after CANCEL, the error is that of the context, and
// says what happened besides.
func TestFailureAfterCancel(t *testing.T) {
	for name, test := range map[string]struct {
		response hidtest.Answer
		want     error
	}{
		"error":      {hidtest.Error(ctap.HIDErrOther), ErrOther},
		"busy":       {hidtest.Error(ctap.HIDErrChannelBusy), ErrChannelBusy},
		"other":      {message(0x11, ctap.HIDMsg, nil), ErrFraming},
		"half":       {hidtest.Reply(counting(99)).Cut(1), ErrFraming},
		"unplugged":  {hidtest.Unplug(), ErrDeviceGone},
		"stray init": {message(0x11, ctap.HIDInit, counting(17)), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil)
				d := newDevice(t, k)
				taken(k)
				ctx, cancel := context.WithCancel(t.Context())
				k.Handle(func(m hidtest.Message) hidtest.Answer {
					switch m.Command {
					case ctap.HIDCBOR:
						cancel()
					case ctap.HIDCancel:
						return test.response
					}
					return hidtest.Silence()
				})
				start := time.Now()
				_, err := d.Exchange(ctx, getInfo, nil)
				mustMatch(t, err, context.Canceled, test.want)
				if took := time.Since(start); took > CancelTimeout {
					t.Errorf("it took %v", took)
				}
				mustTake(t, k, "CTAPHID_CBOR 11 04", "CTAPHID_CANCEL 11")
			})
		})
	}
}

// An answer that has begun to arrive when the context ends is read to its end,
// but not for longer than cancelling may take.
func TestCancelWithinAnswer(t *testing.T) {
	for name, complete := range map[string]bool{"complete": true, "half": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil)
				d := newDevice(t, k)
				taken(k)
				ctx, cancel := context.WithCancel(t.Context())
				k.Handle(func(hidtest.Message) hidtest.Answer {
					time.AfterFunc(time.Second, cancel)
					answer := hidtest.Default().Delay(2, time.Second+CancelTimeout/2)
					if !complete {
						answer = answer.Cut(2)
					}
					return answer
				})
				start := time.Now()
				answer, err := d.Ping(ctx, question)
				if took := time.Since(start); took > time.Second+CancelTimeout {
					t.Errorf("it took %v", took)
				}
				mustTake(t, k, "CTAPHID_PING 11 (200)")
				if complete {
					if err != nil || !bytes.Equal(answer, question) {
						t.Fatalf("Ping = %x, %v", answer, err)
					}
					return
				}
				mustMatch(t, err, context.Canceled, ErrFraming)
			})
		})
	}
}

// A context that ends while the channel is set right ends the wait at once.
func TestCancelResync(t *testing.T) {
	for name, reply := range map[string]int{"silent": 0, "half a reply": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := hidtest.New(nil, hidtest.WithReportSizes(8, 64))
				d := newDevice(t, k, WithReportSizes(8, 64))
				k.Handle(silent)
				_, err := d.Msg(t.Context(), nil)
				mustMatch(t, err, ErrNoAnswer)
				taken(k)

				k.Handle(always(hidtest.Default().Cut(reply)))
				for limit, want := range map[time.Duration][]string{
					resyncTimeout / 2: {"CTAPHID_INIT 11 (8)"},
					InitTimeout / 2:   {"CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)"},
				} {
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					start := time.Now()
					_, err = d.Exchange(ctx, getInfo, nil)
					mustMatch(t, err, context.DeadlineExceeded)
					if took := time.Since(start); took != limit {
						t.Errorf("it took %v", took)
					}
					mustTake(t, k, want...)
				}
			})
		})
	}
}

// Those who wait for their turn leave when their context ends, and when the
// Device is closed.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		taken(k)
		k.Handle(always(hidtest.Keepalive(bytes.Repeat([]byte{ctap.KeepaliveUPNeeded}, 100)...).Pace(time.Second)))
		running := make(chan error)
		go func() {
			_, err := d.Exchange(t.Context(), getInfo, nil)
			running <- err
		}()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Ping(ctx, nil)
		mustMatch(t, err, context.DeadlineExceeded)

		queued := make(chan error)
		go func() {
			_, err := d.Ping(t.Context(), nil)
			queued <- err
		}()
		synctest.Wait()
		mustTake(t, k, "CTAPHID_CBOR 11 04")
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		mustMatch(t, <-running, ErrClosed)
		mustMatch(t, <-queued, ErrClosed)
		mustTake(t, k, "CTAPHID_CANCEL 11")
	})
}

// A refusal that never ends is left when the context ends or the device goes,
// also while the channel is set up.
func TestBusyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		k.Handle(always(hidtest.Error(ctap.HIDErrChannelBusy)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+busyPause/2)
		defer cancel()
		_, err := New(ctx, k)
		mustMatch(t, err, context.DeadlineExceeded, ErrChannelBusy)

		time.AfterFunc(time.Minute+busyPause/2, k.Unplug)
		_, err = New(t.Context(), k)
		mustMatch(t, err, ErrDeviceGone, hidtest.ErrUnplugged)
	})
}

// Exchanges from many goroutines each get their own answer.
func TestConcurrent(t *testing.T) {
	k := hidtest.New(nil)
	d := newDevice(t, k)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				if j%4 == 3 {
					go cancel()
				}
				message := bytes.Repeat([]byte{byte(i), byte(j)}, 50)
				answer, err := d.Exchange(ctx, message, nil)
				if err == nil && !bytes.Equal(answer[1:], message) || err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("Exchange = %x, %v", answer, err)
				}
				cancel()
				d.Channel()
			}
		})
	}
	wg.Wait()
}

// Close does not wait for what it cannot end.
func TestCloseStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(always(hidtest.Keepalive(ctap.KeepaliveUPNeeded)))
		// The caller's own function closes the Device, and so waits for itself.
		_, err := d.Exchange(t.Context(), getInfo, func(byte) {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		mustMatch(t, err, ErrClosed)
	})
}

// Nor do those who wait behind what it cannot end.
func TestCloseStuckQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(always(hidtest.Keepalive(ctap.KeepaliveUPNeeded)))
		release := make(chan struct{})
		running, queued := make(chan error), make(chan error)
		go func() {
			_, err := d.Exchange(t.Context(), getInfo, func(byte) { <-release })
			running <- err
		}()
		synctest.Wait()
		go func() {
			_, err := d.Ping(t.Context(), nil)
			queued <- err
		}()
		synctest.Wait()
		start := time.Now()
		go d.Close()
		mustMatch(t, <-queued, ErrClosed)
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * closeGrace)
		close(release)
		mustMatch(t, <-running, ErrClosed)
	})
}

// An exchange leaves nothing behind in its context, which may live long.
func TestContextLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, hidtest.New(nil))
		ctx := &registry{Context: t.Context()}
		for range 3 {
			if _, err := d.Ping(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
		if ctx.registered != 3 || ctx.stopped != 3 {
			t.Errorf("%d functions for the end of the context, %d taken back", ctx.registered, ctx.stopped)
		}
	})
}

// A registry is a context that context.AfterFunc leaves the counting to.
type registry struct {
	context.Context
	registered, stopped int
}

func (*registry) Done() <-chan struct{} { return make(chan struct{}) }

func (r *registry) AfterFunc(func()) func() bool {
	r.registered++
	return func() bool { r.stopped++; return true }
}

// A write that is stuck ends when the Conn is closed.
func TestCloseStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		failed := make(chan error)
		go func() {
			// Without SetWriteDeadline, and nobody reads.
			_, err := New(t.Context(), struct{ Conn }{near})
			failed <- err
		}()
		synctest.Wait()
		near.Close()
		mustMatch(t, <-failed, ErrDeviceGone)

		k := hidtest.New(nil)
		d := newDevice(t, k)
		release := make(chan struct{})
		k.Intercept(func([]byte) [][]byte { <-release; return nil })
		go func() {
			_, err := d.Ping(t.Context(), nil)
			failed <- err
		}()
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		close(release)
		mustMatch(t, <-failed, ErrClosed)
	})
}

// The lock that other programs hold does not keep Close waiting, and one that
// cannot be had is an error.
func TestLockerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		s := shared{k, make(chan struct{}, 1)}
		d, err := New(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		s.token <- struct{}{}
		failed := make(chan error)
		go func() {
			_, err := d.Ping(t.Context(), nil)
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		mustMatch(t, <-failed, ErrClosed)
		if time.Since(start) >= closeGrace {
			t.Error("Close waited for the lock")
		}
	})
	_, err := New(t.Context(), noLock{hidtest.New(nil)})
	mustMatch(t, err, ErrDeviceGone, hidtest.ErrUnplugged)
}

type noLock struct{ *hidtest.Device }

func (noLock) TryLock() (bool, error) { return false, hidtest.ErrUnplugged }
func (noLock) Unlock() error          { return nil }

func TestErrors(t *testing.T) {
	seen := map[string]bool{}
	for code := range 256 {
		err := Error(code)
		if text := err.Error(); text == "" || seen[text] || strings.HasPrefix(text, "hid") {
			t.Errorf("text of %02x: %q", code, text)
		} else {
			seen[text] = true
		}
		if errors.Is(err, ErrUnsupported) != (err == ErrInvalidCmd) {
			t.Errorf("%v and ErrUnsupported", err)
		}
	}
	if ErrChannelBusy != 6 || errors.Is(Error(6), ErrInvalidCmd) {
		t.Error("ErrChannelBusy")
	}
	for _, command := range []byte{ctap.HIDPing, ctap.HIDMsg, ctap.HIDLock, ctap.HIDInit, ctap.HIDWink, ctap.HIDCBOR, ctap.HIDCancel, ctap.HIDKeepalive, 0x41} {
		if name := commandName(command); seen[name] {
			t.Errorf("command %02x is %s too", command, name)
		} else {
			seen[name] = true
		}
	}
}
