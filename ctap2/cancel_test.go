package ctap2_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

// cable is a hid.Conn that calls step before and after each report that
// crosses it, in both directions, and counts these calls.
type cable struct {
	hid.Conn
	steps   int
	written int // the step of the last Write
	step    func(n int)
}

func (c *cable) count() {
	if c.step != nil {
		c.step(c.steps)
	}
	c.steps++
}

func (c *cable) Write(p []byte) (int, error) {
	c.written = c.steps
	c.count()
	n, err := c.Conn.Write(p)
	c.count()
	return n, err
}

func (c *cable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		c.count()
	}
	return n, err
}

// bench is a key behind a cable.
type bench struct {
	*ctap2.Authenticator
	soft  *virtual.Authenticator
	usb   *virtual.USB
	cable *cable
}

const benchPIN = "271828"

func newBench(t *testing.T, config virtual.Config, faults virtual.USBFaults) *bench {
	t.Helper()
	config.PIN = benchPIN
	config.ResetWindow = -1
	soft, err := virtual.New(chosen(config))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{soft: soft, usb: soft.PlugIn(virtual.USBConfig{})}
	b.open(t)
	b.usb.SetFaults(faults)
	t.Cleanup(func() {
		b.Close()
		b.usb.Unplug()
		b.soft.Close()
	})
	return b
}

func (b *bench) open(t *testing.T) {
	t.Helper()
	conn, err := b.usb.Open()
	if err != nil {
		t.Fatal(err)
	}
	b.cable = &cable{Conn: conn}
	device, err := hid.New(t.Context(), b.cable)
	if err != nil {
		t.Fatal(err)
	}
	b.Authenticator, err = ctap2.Open(t.Context(), device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	b.cable.steps = 0
}

// operations are what a cancellation or an unplugging may hit.
var operations = []struct {
	name string
	do   func(ctx context.Context, key *ctap2.Authenticator) error
}{
	{"makeCredential", func(ctx context.Context, key *ctap2.Authenticator) error {
		request := registration()
		request.ResidentKey = true
		request.User.ID = []byte("new")
		_, err := key.MakeCredential(ctx, request)
		return err
	}},
	{"getAssertion", func(ctx context.Context, key *ctap2.Authenticator) error {
		request := signIn()
		request.UserVerification = ctap2.Required
		_, err := key.GetAssertion(ctx, request)
		return err
	}},
	{"reset", func(ctx context.Context, key *ctap2.Authenticator) error { return key.Reset(ctx) }},
}

// steps returns how many steps an operation takes when nothing disturbs it.
func steps(t *testing.T, config virtual.Config, do func(context.Context, *ctap2.Authenticator) error) int {
	t.Helper()
	n := 0
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, config, virtual.USBFaults{})
		prepare(t, b)
		if err := do(t.Context(), b.Authenticator); err != nil {
			t.Fatal(err)
		}
		n = b.cable.steps
	})
	if n < 4 {
		t.Fatalf("%d steps", n)
	}
	return n
}

// prepare puts one account on the key and forgets its PIN again.
func prepare(t *testing.T, b *bench) {
	t.Helper()
	request := registration()
	request.ResidentKey = true
	request.User.ID = []byte("old")
	if _, err := b.MakeCredential(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	b.Forget()
	b.cable.steps = 0
}

// accounts returns what is on the key, as another program sees it.
func (b *bench) accounts(t *testing.T) int {
	t.Helper()
	list, err := b.GetAssertion(t.Context(), signIn())
	if errors.Is(err, ctap2.ErrNoCredentials) {
		return 0
	}
	if err != nil {
		t.Errorf("the next command: %v", err)
	}
	return len(list)
}

// Cancelling before and after every report: back within the bound, nothing
// lost that the key has confirmed, and a key that works at the next command;
// also where the key does not listen, says for ever that it is busy, or answers
// when something else was asked.
func TestCancelAtEveryStep(t *testing.T) {
	touch := virtual.TouchAfter(150 * time.Millisecond)
	for name, kind := range map[string]struct {
		faults virtual.USBFaults
		person virtual.Person
	}{
		"obeys":                       {virtual.USBFaults{}, touch},
		"ignores CANCEL":              {virtual.USBFaults{IgnoreCancel: true}, touch},
		"ignores CANCEL, is silent":   {virtual.USBFaults{IgnoreCancel: true, NoKeepalives: true}, touch},
		"answers late":                {virtual.USBFaults{LateAnswers: true}, touch},
		"ignores CANCEL for too long": {virtual.USBFaults{IgnoreCancel: true}, virtual.TouchAfter(4 * time.Second)},
	} {
		for _, op := range operations {
			t.Run(name+", "+op.name, func(t *testing.T) {
				n := steps(t, virtual.Config{Presence: touch}, op.do)
				cancelled, done := 0, 0
				for at := range n {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t, virtual.Config{Presence: touch}, virtual.USBFaults{})
						prepare(t, b)
						b.soft.SetPresence(kind.person)
						b.usb.SetFaults(kind.faults)
						ctx, cancel := context.WithCancelCause(t.Context())
						reason := errors.New("changed my mind")
						var since time.Time
						b.cable.step = func(step int) {
							if step == at {
								since = time.Now()
								cancel(reason)
							}
						}
						err := op.do(ctx, b.Authenticator)
						if took := time.Since(since); !since.IsZero() && took > hid.CancelTimeout {
							t.Errorf("step %d: back after %v", at, took)
						}
						b.cable.step = nil
						switch {
						case err == nil:
							done++
						case errors.Is(err, reason):
							cancelled++
						default:
							t.Errorf("step %d: %v", at, err)
						}
						// What a key goes on with after nobody waits any longer is not
						// known; everything else is.
						known := err == nil || name == "obeys"
						b.usb.SetFaults(virtual.USBFaults{})
						b.soft.SetPresence(virtual.Touch)
						got, want := b.accounts(t), 1
						if err == nil && op.name == "makeCredential" {
							want = 2
						} else if err == nil && op.name == "reset" {
							want = 0
						}
						if known && got != want {
							t.Errorf("step %d (%v): %d accounts on the key, want %d", at, err, got, want)
						}
					})
				}
				if name == "obeys" && (cancelled == 0 || done == 0) {
					t.Errorf("of %d cancellations, %d cancelled and %d came too late", n, cancelled, done)
				}
			})
		}
	}
}

// Unplugging before and after every report: a typed error at once, and a key
// that works when it is plugged in again.
func TestQuirk13UnplugAtEveryStep(t *testing.T) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			n := steps(t, virtual.Config{}, op.do)
			for at := range n {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, virtual.Config{}, virtual.USBFaults{})
					prepare(t, b)
					b.cable.step = func(step int) {
						if step == at {
							b.usb.Unplug()
						}
					}
					since := time.Now()
					err := op.do(t.Context(), b.Authenticator)
					// What had arrived before is read still: a credential that the
					// key has confirmed is not lost.
					if err == nil && b.cable.written >= at || err != nil && !errors.Is(err, ctap2.ErrDeviceGone) {
						t.Errorf("step %d of %d: %v", at, n, err)
					}
					if took := time.Since(since); took > time.Second {
						t.Errorf("step %d: back after %v", at, took)
					}
					if err := op.do(t.Context(), b.Authenticator); !errors.Is(err, hid.ErrDeviceGone) {
						t.Errorf("step %d, once more: %v", at, err)
					}
					b.Close()
					b.usb.PlugIn()
					b.open(t)
					b.accounts(t)
				})
			}
		})
	}
}

// Quirk 5: a key that does not listen to CANCEL. Quirk 6: one whose answer
// comes when something else was asked.
func TestQuirk05And06DeafKeys(t *testing.T) {
	for name, faults := range map[string]virtual.USBFaults{
		"keepalives for ever":          {IgnoreCancel: true},
		"silent":                       {IgnoreCancel: true, NoKeepalives: true},
		"answers late":                 {LateAnswers: true},
		"frames of others all the way": {IgnoreCancel: true, ForeignReports: true},
	} {
		for _, op := range operations {
			t.Run(name+", "+op.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					// Touched long after everyone has given up, so that there is an
					// answer to come late.
					b := newBench(t, virtual.Config{}, virtual.USBFaults{})
					prepare(t, b)
					touched := make(chan struct{})
					b.soft.SetPresence(func(ctx context.Context, p virtual.Prompt) virtual.Answer {
						select {
						case <-touched:
							return virtual.Approve
						case <-ctx.Done():
							return virtual.Deny
						}
					})
					b.usb.SetFaults(faults)
					for range 3 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						since := time.Now()
						err := op.do(ctx, b.Authenticator)
						cancel()
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%v", err)
						}
						if took := time.Since(since); took > time.Second+hid.CancelTimeout {
							t.Errorf("back after %v", took)
						}
						// The answer of an abandoned command is nobody's.
						if r, err := b.PINRetries(t.Context()); err != nil || r.Retries != 8 {
							t.Errorf("the next command: %+v, %v", r, err)
						}
					}
					b.usb.SetFaults(virtual.USBFaults{})
					close(touched)
					if n := b.accounts(t); n != 1 {
						t.Errorf("%d accounts", n)
					}
				})
			})
		}
	}
}

// Without a context that ends, a key that has died ends the wait.
func TestQuirk07DeadKey(t *testing.T) {
	for _, op := range operations {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, virtual.Config{}, virtual.USBFaults{})
			prepare(t, b)
			dead := virtual.USBFaults{Filter: func(d virtual.USBDirection, n int, report []byte) [][]byte {
				if d == virtual.USBInput {
					return nil
				}
				return [][]byte{report}
			}}
			b.usb.SetFaults(dead)
			since := time.Now()
			if err := op.do(t.Context(), b.Authenticator); !errors.Is(err, ctap2.ErrNoAnswer) {
				t.Errorf("%s: %v", op.name, err)
			}
			if took := time.Since(since); took > hid.AnswerTimeout+time.Second {
				t.Errorf("%s: back after %v", op.name, took)
			}
			b.usb.SetFaults(virtual.USBFaults{})
			b.accounts(t)
		})
	}
}

// Quirk 41: what keeps state in the key is not interleaved by another
// goroutine.
func TestConcurrentCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, virtual.Config{}, virtual.USBFaults{})
		for i := range 5 {
			request := registration()
			request.ResidentKey = true
			request.User.ID = fmt.Appendf(nil, "%d", i)
			if _, err := b.MakeCredential(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		results := make(chan error)
		for i := range 20 {
			go func() {
				if i%2 == 0 {
					_, err := b.PINRetries(t.Context())
					results <- err
					return
				}
				list, err := b.GetAssertion(t.Context(), signIn())
				if err == nil && len(list) != 5 {
					err = fmt.Errorf("%d accounts", len(list))
				}
				results <- err
			}()
		}
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitingForATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, virtual.Config{Presence: virtual.TouchAfter(time.Minute), PresenceTimeout: time.Hour}, virtual.USBFaults{})
		first := make(chan error)
		go func() { first <- b.Selection(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		since := time.Now()
		if _, err := b.PINRetries(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(since) != time.Second {
			t.Errorf("%v after %v", err, time.Since(since))
		}
		second := make(chan error)
		go func() {
			_, err := b.PINRetries(t.Context())
			second <- err
		}()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-first; !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("running: %v", err)
		}
		if err := <-second; !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("waiting: %v", err)
		}
		if _, err := b.PINRetries(t.Context()); !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("later: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
	})
}

// Close does not wait for a person, and Forget for nobody.
func TestCloseDuringPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft, err := virtual.New(virtual.Config{PIN: benchPIN})
		if err != nil {
			t.Fatal(err)
		}
		secret := pin.FromString(benchPIN)
		key := open(t, soft, ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(ctx context.Context, _ ctap2.PINRequest) (pin.Secret, error) {
				<-ctx.Done()
				return secret, ctx.Err()
			},
		}))
		result := make(chan error)
		go func() {
			_, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x"})
			result <- err
		}()
		synctest.Wait()
		key.Forget()
		if err := key.Close(); err != nil {
			t.Error(err)
		}
		if err := <-result; !errors.Is(err, ctap2.ErrClosed) {
			t.Error(err)
		}
		if secret.Len() != 0 {
			t.Error("a PIN that came along with an error was not wiped")
		}
	})
}

// A PIN that was accepted while Forget was called is not remembered.
func TestForgetWhileRunning(t *testing.T) {
	asked := 0
	soft, err := virtual.New(virtual.Config{PIN: benchPIN})
	if err != nil {
		t.Fatal(err)
	}
	var key *ctap2.Authenticator
	key = open(t, soft, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
			asked++
			key.Forget()
			return pin.FromString(benchPIN), nil
		},
	}))
	defer key.Close()
	for range 2 {
		if _, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}
