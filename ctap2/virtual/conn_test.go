package virtual

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// u2fVersionRequest is U2F_VERSION.
var u2fVersionRequest = []byte{0, u2fVersion, 0, 0, 0, 0, 0}

// Closing a connection leaves everything else alone: the key, what it knows, and
// who else is connected, be it that he waits.
func TestConnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN, Presence: TouchAfter(time.Second)})
		first, second := key.Open(), key.Open()
		answer, err := first.Exchange(t.Context(), message(t, ctap.CmdMakeCredential, makeRequest(params{8: []byte{}})), nil)
		if err != nil || answer[0] != ctap.StatusPINInvalid {
			t.Fatalf("answer %x, %v", answer, err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if answer, err := second.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); err != nil || answer[0] != ctap.StatusOK {
				t.Errorf("the other connection: %x, %v", answer, err)
			}
		})
		synctest.Wait()
		for range 2 {
			if err := first.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		key.SetPresence(func(_ context.Context, _ Prompt) Answer {
			t.Error("asked for a connection that is closed")
			return Approve
		})
		if _, err := first.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("Exchange after Close: %v", err)
		}
		if _, err := first.Msg(t.Context(), u2fVersionRequest); !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("Msg after Close: %v", err)
		}
		key.ok(ctap.CmdGetInfo, nil)
	})
}

// What is under way over a connection ends with it, wherever it waits: for a
// touch, or for its turn.
func TestConnClosedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore})
		conn := key.Open()
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := conn.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); !errors.Is(err, ctap.ErrClosed) {
					t.Errorf("Exchange: %v", err)
				}
			})
		}
		synctest.Wait()
		wg.Go(func() {
			if _, err := conn.Msg(t.Context(), u2fVersionRequest); !errors.Is(err, ctap.ErrClosed) {
				t.Errorf("Msg: %v", err)
			}
		})
		synctest.Wait()
		conn.Close()
		wg.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("ended after %v", d)
		}
		key.ok(ctap.CmdGetInfo, nil)
	})
}

func TestConnClosedFromWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore})
		conn := key.Open()
		calls := 0
		_, err := conn.Exchange(t.Context(), []byte{ctap.CmdSelection}, func(byte) {
			calls++
			conn.Close()
			synctest.Wait() // the command has been told
		})
		if !errors.Is(err, ctap.ErrClosed) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

// A connection is to a key as it is: it speaks U2F, is cancelled, loses its power,
// and is gone for good.
func TestConnIsTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Level: CTAP1})
		conn := key.Open()
		defer conn.Close()
		if response, err := conn.Msg(t.Context(), u2fVersionRequest); err != nil || string(response) != versionU2F+"\x90\x00" {
			t.Errorf("U2F_VERSION: %x, %v", response, err)
		}

		key = newKey(t, Config{Presence: Ignore})
		conn = key.Open()
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if answer, err := conn.Exchange(ctx, []byte{ctap.CmdSelection}, nil); err != nil || answer[0] != ctap.StatusKeepaliveCancel {
			t.Errorf("cancelled: %x, %v", answer, err)
		}
		if _, err := conn.Exchange(t.Context(), []byte{ctap.CmdSelection}, func(byte) { key.PowerCycle() }); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("unplugged: %v", err)
		}
		if answer, err := conn.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); err != nil || answer[0] != ctap.StatusOK {
			t.Errorf("plugged in again: %v", err)
		}
		key.Close()
		if _, err := conn.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("closed key: %v", err)
		}
	})
}
