package nfc

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

func TestSharedErrors(t *testing.T) {
	for mine, theirs := range map[error]error{
		ErrDeviceGone: ctap.ErrDeviceGone, ErrClosed: ctap.ErrClosed, ErrMessageTooLarge: ctap.ErrMessageTooLarge,
		ErrNoAnswer: ctap.ErrNoAnswer, ErrUnsupported: ctap.ErrUnsupported,
	} {
		if mine != theirs {
			t.Errorf("%v is a value of its own", mine)
		}
	}
	if s := StatusWord(0x6D00).Error(); s != "status word 6d00: instruction not supported" {
		t.Error(s)
	}
	if s := StatusWord(0x6F42).Error(); s != "status word 6f42" {
		t.Error(s)
	}
}

// One exchange runs at a time, in a transaction that ends with it.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sharedCard{testCard: &testCard{}}
		d := mustNew(t, c)
		var inside atomic.Int32
		c.script = func([]byte) ([]byte, error) {
			if inside.Add(1) != 1 {
				t.Error("two commands at once")
			}
			time.Sleep(time.Second)
			inside.Add(-1)
			return nil, nil
		}
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				message := bytes.Repeat([]byte{byte(i)}, 300)
				if got, err := d.Exchange(t.Context(), message, nil); err != nil || !bytes.Equal(got[1:], message) {
					t.Errorf("%x, %v", got, err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if c.begins != 11 || c.ends != 11 {
			t.Errorf("%d transactions begun, %d ended", c.begins, c.ends)
		}
	})
}

// Who waits for a turn stops waiting with its context, and at Close.
func TestWaitForTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		c.pending(ctap.KeepaliveUPNeeded, func(cancelled bool) *answer {
			if cancelled {
				return &answer{[]byte{ctap.StatusKeepaliveCancel}, 0x9000}
			}
			return nil
		})
		var all sync.WaitGroup
		exchange := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, err := d.Exchange(ctx, getInfo, nil); !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		exchange(t.Context(), ErrClosed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		exchange(ctx, context.DeadlineExceeded)
		exchange(t.Context(), ErrClosed)
		time.Sleep(2 * time.Second)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		// It is told to give up, and that we are done.
		if got := c.taken(); !slices.Equal(got[len(got)-2:], []string{cancelAPDU, endAPDU}) {
			t.Errorf("the card got %q", got)
		}
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrClosed)
		if err := d.Close(); err != nil || c.closes != 1 {
			t.Errorf("%v, closed %d times", err, c.closes)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sharedCard{testCard: &testCard{}}
		d := mustNew(t, c)
		c.taken()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		mustTake(t, c.testCard, endAPDU)
		if c.begins != 2 || c.ends != 2 || c.closes != 1 {
			t.Errorf("%d transactions begun, %d ended; closed %d times", c.begins, c.ends, c.closes)
		}
	})
}

// Close does not wait for a card that does not answer, and what waits for the
// card ends when the card lets it.
func TestCloseBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		block := make(chan struct{})
		c.script = func([]byte) ([]byte, error) {
			<-block
			return nil, nil
		}
		done := make(chan error)
		go func() {
			_, err := d.Exchange(t.Context(), getInfo, nil)
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		go d.Close()
		mustMatch(t, <-done, ErrClosed)
		if took := time.Since(start); took > CancelTimeout {
			t.Errorf("Exchange took %v", took)
		}
		time.Sleep(endTimeout)
		synctest.Wait()
		if c.closes != 1 {
			t.Errorf("closed %d times", c.closes)
		}
		close(block)
		synctest.Wait()
		if got := c.taken(); !slices.Equal(got, []string{getInfoAPDU}) {
			t.Errorf("the card got %q", got)
		}
	})
	// With a status function that never returns.
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.pending(1, func(bool) *answer { return nil })
		stuck, done := make(chan struct{}), make(chan error)
		go func() {
			_, err := d.Exchange(t.Context(), getInfo, func(byte) { <-stuck })
			done <- err
		}()
		synctest.Wait()
		if err := d.Close(); err != nil || c.closes != 1 {
			t.Errorf("%v, closed %d times", err, c.closes)
		}
		close(stuck)
		mustMatch(t, <-done, ErrClosed)
	})
	// With NFCCTAP_CONTROL that is not answered.
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		block := make(chan struct{})
		c.script = func([]byte) ([]byte, error) { <-block; return nil, nil }
		start := time.Now()
		if err := d.Close(); err != nil || c.closes != 1 || time.Since(start) > 2*endTimeout {
			t.Errorf("%v, closed %d times, after %v", err, c.closes, time.Since(start))
		}
		close(block)
	})
}

type unclosable struct{ *testCard }

func (unclosable) Close() error { return errors.New("stuck") }

func TestCloseFails(t *testing.T) {
	d, err := New(t.Context(), unclosable{&testCard{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err == nil || err.Error() != "nfc: close: stuck" {
		t.Error(err)
	}
}

// Another program has the card for some time, or for ever.
func TestTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sharedCard{testCard: &testCard{}}
		hold := make(chan struct{})
		c.begin = func() error { <-hold; return nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := New(ctx, c)
		mustMatch(t, err, context.DeadlineExceeded)
		if !strings.Contains(err.Error(), "another program") {
			t.Error(err)
		}
		// What was left behind gives the card back when it gets it.
		close(hold)
		synctest.Wait()
		if c.begins != 1 || c.ends != 1 || len(c.taken()) != 0 {
			t.Errorf("%d transactions begun, %d ended", c.begins, c.ends)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := sharedCard{testCard: &testCard{}}
		c.begin = func() error { return ErrDeviceGone }
		_, err := New(t.Context(), c)
		mustMatch(t, err, ErrDeviceGone)
		c.begin = func() error { return errors.New("no") }
		_, err = New(t.Context(), c)
		mustMatch(t, err, ErrNoAnswer)
	})
}

// A context that has ended before anything is sent leaves the card alone.
func TestEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		cause := errors.New("cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.Canceled, cause)
		_, err = d.Msg(ctx, unhex("00030000 00"))
		mustMatch(t, err, context.Canceled, cause)
		_, err = New(ctx, c)
		mustMatch(t, err, context.Canceled, cause)
		mustTake(t, c)
		mustAnswer(t, d, getInfo)
		mustTake(t, c, getInfoAPDU)
	})
}

// A context that ends in the middle of a chain: the rest is not sent, the card
// does nothing, and forgets the beginning.
func TestEndWithinChain(t *testing.T) {
	for at := 1; at <= 3; at++ {
		synctest.Test(t, func(t *testing.T) {
			c := &testCard{}
			d := mustNew(t, c)
			d.chain = true
			c.taken()
			c.answer = func(apdu) answer {
				t.Error("the card did something")
				return answer{sw: 0x6F00}
			}
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			c.script = func([]byte) ([]byte, error) {
				if n++; n == at {
					cancel()
				}
				return nil, nil
			}
			_, err := d.Exchange(ctx, counting(3*shortData+1), nil)
			mustMatch(t, err, context.Canceled)
			if got := c.taken(); len(got) != at {
				t.Errorf("the card got %q", got)
			}
			c.chain = nil // as SELECT does
			c.answer = nil
			mustAnswer(t, d, counting(3*shortData+1))
			if got := c.taken(); got[0] != selectAPDU {
				t.Errorf("the card got %q", got)
			}
		})
	}
}

// The context ends while the parts of a response arrive, which a hostile card
// can make last.
func TestEndWithinResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.script = func(command []byte) ([]byte, error) {
			time.Sleep(50 * time.Millisecond)
			if command[1] == insSelect {
				return nil, nil
			}
			return []byte{0, 0x61, 1}, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded)
		if took := time.Since(start); took > 3*time.Second+CancelTimeout {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second) // the card is still at it
		synctest.Wait()
		c.script = nil
		c.taken()
		mustAnswer(t, d, getInfo)
		mustTake(t, c, selectAPDU, getInfoAPDU)
	})
}

// What the card says when it was cancelled is no answer if it is a failure.
func TestCancelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		mustAnswer(t, d, getInfo)
		ctx, cancel := context.WithCancel(t.Context())
		c.pending(1, func(cancelled bool) *answer {
			if cancelled {
				return &answer{sw: 0x6985}
			}
			return nil
		})
		_, err := d.Exchange(ctx, getInfo, func(byte) { cancel() })
		mustMatch(t, err, context.Canceled, ErrConditionsNotSatisfied)
	})
}

// Each is a response that no card may give. None does harm, and the next
// exchange begins anew.
func TestMalformed(t *testing.T) {
	part := func(n int) func([]byte) ([]byte, error) {
		return func([]byte) ([]byte, error) { return append(make([]byte, n), 0x61, 0), nil }
	}
	for name, script := range map[string]func([]byte) ([]byte, error){
		"empty":        func([]byte) ([]byte, error) { return []byte{}, nil },
		"one byte":     func([]byte) ([]byte, error) { return []byte{0x90}, nil },
		"too long":     func([]byte) ([]byte, error) { return make([]byte, maxAnswer+3), nil },
		"no status":    func([]byte) ([]byte, error) { return sw(0x9000), nil },
		"no progress":  part(0),
		"endless":      part(256),
		"endless, 1":   part(1),
		"endless, 64K": part(maxAnswer),
	} {
		t.Run(name, func(t *testing.T) {
			c := &testCard{}
			d := mustNew(t, c)
			c.script = script
			_, err := d.Exchange(t.Context(), getInfo, nil)
			mustMatch(t, err, ErrMalformed)
			c.script = nil
			c.taken()
			mustAnswer(t, d, getInfo)
			if got := c.taken(); name != "no status" && got[0] != selectAPDU {
				t.Errorf("the card got %q", got)
			}
		})
	}
}

// A reader that fails is not yet a card that is gone.
func TestReaderError(t *testing.T) {
	c := &testCard{}
	d := mustNew(t, c)
	broken := errors.New("parity")
	c.script = func([]byte) ([]byte, error) { return nil, broken }
	_, err := d.Exchange(t.Context(), getInfo, nil)
	mustMatch(t, err, ErrNoAnswer, broken)
	_, err = d.Exchange(t.Context(), counting(300), nil) // SELECT fails as well
	mustMatch(t, err, ErrNoAnswer, broken)
	c.script = nil
	c.taken()
	mustAnswer(t, d, getInfo)
	mustTake(t, c, selectAPDU, getInfoAPDU)
}

func TestMessageTooLarge(t *testing.T) {
	c := &testCard{shortOnly: true}
	d := mustNew(t, c)
	if d.MaxMessageSize() != maxMessage || d.Reader() != "" {
		t.Errorf("MaxMessageSize %d, Reader %q", d.MaxMessageSize(), d.Reader())
	}
	c.taken()
	_, err := d.Exchange(t.Context(), counting(maxMessage+1), nil)
	mustMatch(t, err, ErrMessageTooLarge)
	mustTake(t, c)
	c.answer = func(a apdu) answer { return answer{a.data, 0x9000} }
	message := counting(maxMessage)
	if got, err := d.Exchange(t.Context(), message, nil); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestMsg(t *testing.T) {
	c := &testCard{}
	c.answer = func(a apdu) answer {
		return answer{append([]byte{a.cla, a.ins, a.p1, a.p2}, a.data...), 0x9000}
	}
	d := mustNew(t, c)
	data := string(counting(5))
	long := string(counting(300))
	for _, test := range []struct{ name, apdu, want, sent string }{
		{"case 1", "\x00\x03\x00\x00", "\x00\x03\x00\x00", "0003000000"},
		{"case 2", "\x00\x03\x00\x00\x00", "\x00\x03\x00\x00", "0003000000"},
		{"case 3", "\x00\x02\x03\x04\x05" + data, "\x00\x02\x03\x04" + data, "0002030405000102030400"},
		{"case 4", "\x00\x02\x03\x04\x05" + data + "\x00", "\x00\x02\x03\x04" + data, "0002030405000102030400"},
		{"case 2, extended", "\x00\x03\x00\x00\x00\x00\x00", "\x00\x03\x00\x00", "0003000000"},
		{"case 2, other Le", "\x00\x03\x00\x00\x00\x01\x00", "\x00\x03\x00\x00", "0003000000"},
		{"no data", "\x00\x03\x00\x00\x00\x00\x00\x00\x00", "\x00\x03\x00\x00", "0003000000"},
		{"case 3, extended", "\x00\x02\x03\x04\x00\x00\x05" + data, "\x00\x02\x03\x04" + data, "0002030405000102030400"},
		{"case 4, extended", "\x00\x02\x03\x04\x00\x00\x05" + data + "\x00\x00", "\x00\x02\x03\x04" + data, "0002030405000102030400"},
		{"long", "\x00\x01\x03\x00\x00\x01\x2c" + long, "\x00\x01\x03\x00" + long, "0001030000012c00…(309)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.taken()
			got, err := d.Msg(t.Context(), []byte(test.apdu))
			if err != nil || string(got) != test.want+"\x90\x00" {
				t.Errorf("%x, %v", got, err)
			}
			if got := c.taken(); got[0] != test.sent {
				t.Errorf("the card got %q, want %q", got, test.sent)
			}
		})
	}
	c.taken()
	for _, apdu := range []string{
		"", "\x00\x03\x00", "\x00\x03\x00\x00\x05\x01", "\x00\x03\x00\x00\x01\x02\x03\x04",
		"\x00\x03\x00\x00\x00\x01", "\x00\x03\x00\x00\x00\x00\x02\x01", "\x00\x03\x00\x00\x00\x00\x01\x02\x03",
		"\x00\x03\x00\x00\x00\x00\x01\x02\x03\x04\x05",
	} {
		_, err := d.Msg(t.Context(), []byte(apdu))
		mustMatch(t, err, ErrMalformed)
	}
	mustTake(t, c)

	c.answer = func(apdu) answer { return answer{sw: 0x6985} }
	if got, err := d.Msg(t.Context(), unhex("00020300 00")); err != nil || !bytes.Equal(got, sw(0x6985)) {
		t.Errorf("%x, %v", got, err)
	}
}

// Commands may hold PIN material: they are wiped when they were sent.
func TestWiped(t *testing.T) {
	var all [][]byte
	c := &testCard{shortOnly: true}
	c.script = func(command []byte) ([]byte, error) {
		all = append(all, command)
		return nil, nil
	}
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	mustAnswer(t, d, counting(600))
	d.Close()
	if len(all) < 6 {
		t.Fatal(len(all))
	}
	for i, command := range all {
		if !bytes.Equal(command, make([]byte, len(command))) {
			t.Errorf("command %d: %x", i, command)
		}
	}
}

// Whatever a card answers, a call ends, and takes no more memory than the
// longest answer has bytes.
func FuzzExchange(f *testing.F) {
	f.Add([]byte{6, 'U', '2', 'F', '_', 0x90, 0, 3, 0, 0x90, 0}, 1)
	f.Add([]byte{2, 0x61, 0, 8, 'F', 'I', 'D', 'O', '_', '2', 0x90, 0, 3, 1, 0x91, 0, 3, 1, 0x91, 0, 2, 0x6C, 5, 3, 0, 0x61, 9, 2, 0x90, 0}, 300)
	f.Add([]byte{7, 'F', 'I', 'D', 'O', '_', 0x90, 0, 2, 0x67, 0, 2, 0x90, 0, 2, 0x61, 0, 2, 0x6E, 0, 3, 9, 0x90, 0}, 500)
	f.Add([]byte{7, 'F', 'I', 'D', 'O', '_', 0x90, 0, 255, 254, 253}, 250)
	f.Fuzz(func(t *testing.T, script []byte, length int) {
		if length < 0 || length > 2000 || len(script) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			c := &testCard{}
			c.script = func([]byte) ([]byte, error) {
				if len(script) == 0 {
					return nil, ErrDeviceGone
				}
				n := int(script[0])
				script = script[1:]
				switch n {
				case 255:
					return nil, ErrReset
				case 254:
					return nil, errors.New("failed")
				case 253:
					time.Sleep(time.Hour)
				case 252:
					return append(make([]byte, maxAnswer/2), 0x61, 0), nil
				}
				n = min(n, len(script))
				response := bytes.Clone(script[:n])
				if response == nil {
					response = []byte{}
				}
				script = script[n:]
				return response, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			d, err := New(ctx, c)
			if err != nil {
				time.Sleep(2 * time.Hour)
				return
			}
			defer time.Sleep(2 * time.Hour)
			defer d.Close()
			for range 3 {
				got, err := d.Exchange(ctx, counting(length), func(byte) {})
				if err == nil && (len(got) == 0 || len(got) > maxAnswer) {
					t.Errorf("an answer of %d bytes", len(got))
				}
				got, err = d.Msg(ctx, unhex("00030000 00"))
				if err == nil && (len(got) < 2 || len(got) > maxAnswer+2) {
					t.Errorf("a response of %d bytes", len(got))
				}
			}
			if took := time.Until(time.Now()); took > 0 {
				t.Error(took)
			}
		})
	})
}

// An echo is a card without a reader.
type echo struct{ response []byte }

func (e *echo) Transmit(command []byte) ([]byte, error) {
	if command[1] == insSelect {
		return append([]byte(VersionFIDO2), 0x90, 0), nil
	}
	return e.response, nil
}

func (*echo) Close() error { return nil }

func BenchmarkExchange(b *testing.B) {
	d := mustNew(b, &echo{append(counting(300), 0x90, 0)})
	message := counting(200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Exchange(b.Context(), message, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExchangeLargest(b *testing.B) {
	d := mustNew(b, &echo{append(counting(65533), 0x90, 0)})
	message := counting(d.MaxMessageSize())
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Exchange(b.Context(), message, nil); err != nil {
			b.Fatal(err)
		}
	}
}
