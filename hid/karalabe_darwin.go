//go:build cgo && !ios

package hid

import (
	"context"

	karalabe "github.com/karalabe/hid"

	"github.com/tapstone/fido/internal/ctap"
)

func open(ctx context.Context, path string) (Conn, Option, error) { return openHidapi(ctx, path) }

func newChanges() changes { return newTicker() }

// authenticator goes by the usage page. hidapi keeps the lengths of reports to
// itself: all known authenticators have those of §11.2.8.1. Paths are numbers
// that the system does not use again.
func authenticator(device karalabe.DeviceInfo) (layout reportLayout, instance string, err error) {
	if device.UsagePage != ctap.HIDUsagePage || device.Usage != ctap.HIDUsage {
		err = errNotFIDO
	}
	return reportLayout{in: ctap.HIDReportSize, out: ctap.HIDReportSize}, device.Path, err
}

func complete(*Info) {}

func whyNone() error { return nil }

func mayOpen(context.Context, karalabe.DeviceInfo) error { return nil }

func openDevice(device karalabe.DeviceInfo) (hidapiDevice, error) { return device.Open() }
