package hid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// udev gives the user access to a device node a moment after the kernel has
// made it.
const (
	settleTime  = 2 * time.Second
	settlePause = 20 * time.Millisecond
)

// settled calls open until it succeeds, fails for want of anything but
// permission, or the node has been there for too long to change by itself.
func settled(ctx context.Context, node string, open func() error) error {
	for {
		err := open()
		if !errors.Is(err, fs.ErrPermission) || !isNew(node) {
			return err
		}
		pause := time.NewTimer(settlePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: %w", ended(ctx), err)
		}
	}
}

// isNew reports whether the node was made within settleTime. What udev does to
// it leaves the time of modification alone.
func isNew(node string) bool {
	info, err := os.Stat(node)
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	return 0 <= age && age < settleTime
}

func openHidraw(ctx context.Context, path string) (Conn, Option, error) {
	var h *hidraw
	err := settled(ctx, path, func() (err error) {
		h, err = thisMachine.open(path)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return h, WithReportSizes(h.layout.in, h.layout.out), nil
}

// openError says what an error of opening a device node means. It has the path.
func openError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this user has no access to FIDO devices: save the udev rules in 70-fido.rules, "+
			"which hid.UdevRules returns, as /etc/udev/rules.d/70-fido.rules, "+
			"run \"udevadm control --reload\" as root, and plug the device in again", err)
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %w", ErrDeviceGone, err)
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.EISDIR): // a socket, say
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
