package hid

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var denied = &fs.PathError{Op: "open", Path: "node", Err: syscall.EACCES}

// udev takes a moment.
func TestSettled(t *testing.T) {
	node := filepath.Join(t.TempDir(), "hidraw0")
	if err := os.WriteFile(node, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		made := time.Now()
		if err := os.Chtimes(node, made, made); err != nil {
			t.Fatal(err)
		}
		open := func(granted time.Duration, last error) func() error {
			return func() error {
				if time.Since(made) < granted {
					return denied
				}
				return last
			}
		}
		if err := settled(t.Context(), node, open(settleTime/2, nil)); err != nil || time.Since(made) < settleTime/2 {
			t.Errorf("%v after %v", err, time.Since(made))
		}
		mustMatch(t, settled(t.Context(), node, open(settleTime*3/4, syscall.ENODEV)), syscall.ENODEV)
		mustMatch(t, settled(t.Context(), node, open(time.Hour, nil)), fs.ErrPermission)
		if waited := time.Since(made); waited < settleTime || waited > settleTime+settlePause {
			t.Errorf("gave up after %v", waited)
		}
		// A node that has been there for long is not going to change.
		start := time.Now()
		mustMatch(t, settled(t.Context(), node, open(time.Hour, nil)), fs.ErrPermission)
		mustMatch(t, settled(t.Context(), node+"x", open(time.Hour, nil)), fs.ErrPermission)
		if time.Since(start) != 0 {
			t.Error("waits for nothing")
		}

		// Nor does anyone wait beyond the context.
		now := time.Now()
		if err := os.Chtimes(node, now, now); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), settleTime/4)
		defer cancel()
		err := settled(ctx, node, open(time.Hour, nil))
		mustMatch(t, err, context.DeadlineExceeded)
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v does not say what was waited for", err)
		}
	})
}
