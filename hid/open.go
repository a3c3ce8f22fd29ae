package hid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// A Bus says how a device is attached, by the numbers of Linux's input
// subsystem; 0 if the platform does not tell.
type Bus uint16

// Buses.
const (
	BusUSB       Bus = 0x03 // a USB port
	BusBluetooth Bus = 0x05 // Bluetooth, as a HID device
	BusVirtual   Bus = 0x06 // a device made of software
)

// String returns the bus's usual name.
func (b Bus) String() string {
	switch b {
	case BusUSB:
		return "USB"
	case BusBluetooth:
		return "Bluetooth"
	case BusVirtual:
		return "virtual"
	}
	return fmt.Sprintf("bus 0x%02x", uint16(b))
}

// An Info describes a device that is attached to this machine. The strings are
// what the device says of itself, without characters that do not print, and
// may be empty.
type Info struct {
	Path         string // for Open: "/dev/hidraw3"
	Bus          Bus
	VendorID     uint16
	ProductID    uint16
	Manufacturer string
	Product      string
	Serial       string
	InputReport  int // length of the reports that it sends, in bytes
	OutputReport int // length of the reports that it takes, in bytes
}

// List returns the authenticators that are attached to this machine: the HID
// devices with FIDO's usage page in their report descriptor (§11.2.8.2), and
// with reports of a length that CTAPHID can use. Where the platform tells what
// a device is, it opens none of them and needs no permission to use them. A
// machine without any has an empty list, not an error.
//
// A build without HID support for its platform refuses with [ErrUnsupported],
// and Windows a program without administrator rights with an error that matches
// fs.ErrPermission.
func List(ctx context.Context) ([]Info, error) {
	found, err := attachments(ctx)
	if err != nil {
		return nil, fmt.Errorf("hid: list: %w", err)
	}
	return infosOf(found), nil
}

// An attachment is a device from its arrival to its removal. instance tells it
// from one that has the path later, as far as the platform can.
type attachment struct {
	Info
	instance string
}

func infosOf(found []attachment) []Info {
	var infos []Info
	for _, a := range found {
		infos = append(infos, a.Info)
	}
	return infos
}

// A reportLayout is what CTAPHID needs to know of a HID interface. The IDs are
// 0 where the reports have none, as those of authenticators should.
type reportLayout struct {
	in, out     int // lengths in bytes, without the ID
	inID, outID byte
}

var errNotFIDO = errors.New("not an authenticator")

// printable leaves out what could move a terminal's cursor.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
}

// Open opens the device at a path that [List] returned, or that the user
// named, and sets up a channel as [New] does.
//
// It refuses with an error that matches fs.ErrPermission a device that the user
// may not use; the error says what to do about it. If the device is new, Open
// first gives udev up to 2 s to let the user in. It refuses with fs.ErrNotExist
// a path that leads nowhere, with [ErrDeviceGone] a device that was pulled out
// meanwhile, and with [ErrUnsupported] what is no authenticator, and everything
// in a build without HID support for its platform. Other errors are those of
// New.
func Open(ctx context.Context, path string) (*Device, error) {
	conn, sizes, err := OpenConn(ctx, path)
	if err != nil {
		return nil, err
	}
	d, err := New(ctx, conn, sizes)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return d, nil
}

// OpenConn opens the reports of the device at a path and sets up no channel, for
// those who speak CTAPHID themselves, as a conformance test does. The Option is
// what [New] has to know of them. Its errors are those of Open.
func OpenConn(ctx context.Context, path string) (Conn, Option, error) {
	conn, sizes, err := open(ctx, path)
	if err != nil {
		return nil, nil, fmt.Errorf("hid: %w", err)
	}
	return conn, sizes, nil
}
