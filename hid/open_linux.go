//go:build !libusb

package hid

import "context"

func attachments(ctx context.Context) ([]attachment, error) { return thisMachine.attachments(ctx) }

func open(ctx context.Context, path string) (Conn, Option, error) { return openHidraw(ctx, path) }

// newChanges asks the kernel to tell about devices, which it may refuse. /dev is
// no second source: that of a container stays as it is.
func newChanges() changes {
	if c, err := newUevents(); err == nil {
		return c
	}
	return newTicker()
}
