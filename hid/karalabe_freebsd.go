//go:build cgo

package hid

import (
	"context"
	"slices"
	"strings"
	"time"

	karalabe "github.com/karalabe/hid"

	"github.com/tapstone/fido/internal/ctap"
)

func open(ctx context.Context, path string) (Conn, Option, error) { return openHidapi(ctx, path) }

func newChanges() changes { return newTicker() }

// probeTime is how long an interface may take to answer CTAPHID_INIT before it
// counts as another kind of device.
const probeTime = 300 * time.Millisecond

// keyMakers are USB vendor IDs of makers of authenticators.
var keyMakers = []uint16{
	0x096E, // Feitian
	0x1050, // Yubico
	0x1209, // pid.codes: SoloKeys and other open designs
	0x18D1, // Google
	0x1A44, // OneSpan
	0x1E0D, // Neowave
	0x1EA8, // Excelsecu
	0x20A0, // Clay Logic: Nitrokey
	0x24DC, // Aladdin
	0x2C97, // Ledger
	0x2CCF, // Hypersecu
	0x311F, // TrustKey
	0x32A3, // GoTrust
	0x349E, // Token2
}

// authenticator has no usage page to go by: libusb does not tell it here. Of
// the devices of makers of authenticators, and of those that name the protocol
// themselves, it takes those that answer CTAPHID_INIT, and those that are in
// use. Other devices are not opened: they may be somebody's keyboard.
func authenticator(device karalabe.DeviceInfo) (layout reportLayout, instance string, err error) {
	layout = reportLayout{in: ctap.HIDReportSize, out: ctap.HIDReportSize}
	name := strings.ToUpper(device.Product)
	if !slices.Contains(keyMakers, device.VendorID) && !strings.Contains(name, "FIDO") && !strings.Contains(name, "U2F") {
		return layout, "", errNotFIDO
	}
	opened, err := device.Open()
	if err != nil {
		return layout, "", nil // Open says what is wrong with it
	}
	conn := newHidapi(opened, layout)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	_, err = New(ctx, conn)
	return layout, "", err
}

func complete(info *Info) { info.Bus = BusUSB }

func whyNone() error { return nil }

func mayOpen(context.Context, karalabe.DeviceInfo) error { return nil }

func openDevice(device karalabe.DeviceInfo) (hidapiDevice, error) { return device.Open() }
