package keys_test

import (
	"context"
	"errors"
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
