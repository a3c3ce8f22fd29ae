//go:build !(linux && !libusb) && !(cgo && ((darwin && !ios) || freebsd || windows || (linux && libusb)))

package hid

import (
	"context"
	"fmt"
	"runtime"
)

func attachments(context.Context) ([]attachment, error) { return nil, errNoBackend() }

func open(context.Context, string) (Conn, Option, error) { return nil, nil, errNoBackend() }

func newChanges() changes { return newTicker() }

// errNoBackend is for systems that this package reaches with cgo alone, if at
// all.
func errNoBackend() error {
	return fmt.Errorf("built without HID support for %s, which needs cgo: %w", runtime.GOOS, ErrUnsupported)
}
