//go:build !linux

package hid

import (
	"context"
	"fmt"
	"runtime"
)

func list(context.Context) ([]Info, error) { return nil, errNoBackend() }

func open(string) (Conn, Option, error) { return nil, nil, errNoBackend() }

func errNoBackend() error {
	return fmt.Errorf("built without HID support for %s: %w", runtime.GOOS, ErrUnsupported)
}
