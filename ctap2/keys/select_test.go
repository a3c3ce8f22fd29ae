package keys_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
)

// plug returns open keys, one for each person in front of one, of the levels
// in turn.
func plug(t *testing.T, levels []virtual.Level, persons ...virtual.Person) (open []*ctap2.Authenticator, ports []*virtual.USB) {
	t.Helper()
	for i, person := range persons {
		key := attach(t, virtual.Config{Presence: person, Level: levels[i%len(levels)]}, virtual.USBConfig{})
		open, ports = append(open, key.Authenticator), append(ports, key.usb)
	}
	return open, ports
}

// The first touch wins, on keys of every age, also after the others have given
// up waiting and were asked again; then all keys work.
func TestSelect(t *testing.T) {
	for name, levels := range map[string][]virtual.Level{
		"2.3": {virtual.CTAP23}, "2.0": {virtual.CTAP20}, "2.3 and 2.0": {virtual.CTAP23, virtual.CTAP20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				never := virtual.TouchAfter(time.Hour)
				open, _ := plug(t, levels, never, never, virtual.TouchAfter(3*time.Second), never)
				since := time.Now()
				i, err := keys.Select(t.Context(), open)
				if err != nil || i != 2 {
					t.Errorf("key %d, %v", i, err)
				}
				if took := time.Since(since); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				for i, key := range open {
					if _, err := key.GetInfo(t.Context()); err != nil {
						t.Errorf("key %d afterwards: %v", i, err)
					}
				}
			})
		})
	}
}

func TestSelectAmongFew(t *testing.T) {
	if _, err := keys.Select(t.Context(), nil); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("no key: %v", err)
	}
	open, _ := plug(t, []virtual.Level{virtual.CTAP23}, virtual.Ignore)
	if i, err := keys.Select(t.Context(), open); err != nil || i != 0 {
		t.Errorf("one key: %d, %v", i, err)
	}
}

// Keys that fail are out; where none is left, the error says why.
func TestSelectFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, ports := plug(t, []virtual.Level{virtual.CTAP23}, virtual.TouchAfter(time.Minute), virtual.TouchAfter(time.Hour), virtual.TouchAfter(2*time.Second))
		time.AfterFunc(time.Second, ports[1].Unplug)
		if i, err := keys.Select(t.Context(), open); err != nil || i != 2 {
			t.Errorf("key %d, %v", i, err)
		}
		ports[0].Unplug()
		ports[2].Unplug()
		if _, err := keys.Select(t.Context(), open); !errors.Is(err, keys.ErrNoKey) || !errors.Is(err, ctap2.ErrDeviceGone) {
			t.Errorf("all unplugged: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		open, _ := plug(t, []virtual.Level{virtual.CTAP23}, virtual.Refuse, virtual.Refuse)
		if _, err := keys.Select(t.Context(), open); !errors.Is(err, keys.ErrNoKey) || !errors.Is(err, ctap2.ErrOperationDenied) {
			t.Errorf("declined on all: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		open, _ := plug(t, []virtual.Level{virtual.CTAP23}, virtual.TouchAfter(time.Hour), virtual.TouchAfter(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // longer than a key waits
		defer cancel()
		if _, err := keys.Select(ctx, open); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody: %v", err)
		}
	})
}

// impatient is a key that does not wait longer than that, and says that nobody
// touched it; the third time it is touched.
type impatient struct {
	waits  time.Duration
	status ctap2.Status
	asked  int
}

func (k *impatient) Exchange(_ context.Context, message []byte, _ func(byte)) ([]byte, error) {
	if message[0] == 4 { // authenticatorGetInfo
		return slices.Concat([]byte{0, 0xa2, 1, 0x81, 0x68}, []byte("FIDO_2_1"), []byte{3, 0x50}, make([]byte, 16)), nil
	}
	k.asked++
	time.Sleep(k.waits)
	if k.asked == 3 {
		return []byte{0}, nil
	}
	return []byte{byte(k.status)}, nil
}

func (k *impatient) Close() error { return nil }

// A key that has waited for its user is asked again, whichever timeout it calls
// that. One that gives up at once is out: it would be asked without end.
func TestSelectTimeouts(t *testing.T) {
	for _, status := range []ctap2.Status{ctap2.ErrUserActionTimeout, ctap2.ErrActionTimeout} {
		for waits, asked := range map[time.Duration]int{30 * time.Second: 3, 0: 1} {
			synctest.Test(t, func(t *testing.T) {
				key := &impatient{waits: waits, status: status}
				var open []*ctap2.Authenticator
				for _, transport := range []ctap2.Transport{&impatient{status: ctap2.ErrOperationDenied}, key} {
					a, err := ctap2.Open(t.Context(), transport)
					if err != nil {
						t.Fatal(err)
					}
					defer a.Close()
					open = append(open, a)
				}
				i, err := keys.Select(t.Context(), open)
				if key.asked != asked || asked == 3 && (err != nil || i != 1) || asked == 1 && !errors.Is(err, status) {
					t.Errorf("%v after %v: key %d, %v, asked %d times", status, waits, i, err, key.asked)
				}
			})
		}
	}
}
