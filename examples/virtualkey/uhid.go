package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/tapstone/fido/ctap2/virtual"
)

// The interface of /dev/uhid, from linux/uhid.h: each read and write is an
// event, which is its type and a packed structure in the machine's byte order.
const (
	uhidOutput         = 6
	uhidGetReport      = 9
	uhidGetReportReply = 10
	uhidCreate2        = 11
	uhidInput2         = 12
	uhidSetReport      = 13
	uhidSetReportReply = 14

	uhidNameLength     = 128
	uhidPhysLength     = 64
	uhidUniqLength     = 64
	uhidDataLength     = 4096
	uhidOutputSize     = 4 + uhidDataLength // where an output event has its size
	uhidMaxEventLength = 4 + uhidNameLength + uhidPhysLength + uhidUniqLength + 2 + 2 + 4*4 + uhidDataLength

	busUSB = 3
	eio    = 5 // Linux's number for an I/O error
)

// uhidInterval is the shortest time between two input reports, that of a USB
// key at full speed. The kernel keeps 63 reports for a program that has the
// device open, and loses more; the largest message has 129.
const uhidInterval = time.Millisecond

// A uhid is a HID device that exists as long as its file is open.
type uhid struct {
	file     io.ReadWriteCloser
	interval time.Duration
	due      time.Time // when the next input report may be sent
	event    [uhidMaxEventLength]byte
}

// attachUHID makes the key a HID device of this machine.
func attachUHID(ctx context.Context, key *virtual.Authenticator, path string, out io.Writer) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("no uhid: %w", errors.ErrUnsupported)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: load the kernel's module, with modprobe uhid", err)
	case err != nil:
		return err
	}
	device, err := newUHID(file, uhidInterval)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	fmt.Fprintln(out, "attached through", path)
	// The kernel keeps 32 output reports and loses more, and a program that
	// sends a long message writes 129 as fast as it can. Nothing makes it wait
	// but that this program comes first.
	if err := hurry(); err != nil {
		fmt.Fprintln(out, "cannot run before other programs, so a busy machine may lose parts of long messages:", err)
	}
	return carry(ctx, key, device)
}

// newUHID makes the device on an open /dev/uhid.
func newUHID(file io.ReadWriteCloser, interval time.Duration) (*uhid, error) {
	order := binary.NativeEndian
	event := order.AppendUint32(nil, uhidCreate2)
	text := func(s string, length int) {
		field := make([]byte, length)
		copy(field[:length-1], s)
		event = append(event, field...)
	}
	text(deviceName, uhidNameLength)
	text("", uhidPhysLength)
	text(deviceSerial, uhidUniqLength)
	event = order.AppendUint16(event, uint16(len(reportDescriptor)))
	event = order.AppendUint16(event, busUSB)
	event = order.AppendUint32(event, deviceVendor)
	event = order.AppendUint32(event, deviceProduct)
	event = order.AppendUint32(event, deviceVersion)
	event = order.AppendUint32(event, 0) // country
	event = append(event, reportDescriptor...)
	if _, err := file.Write(event); err != nil {
		return nil, err
	}
	return &uhid{file: file, interval: interval}, nil
}

// Read waits for an output report.
func (u *uhid) Read(report []byte) (int, error) {
	order := binary.NativeEndian
	for {
		// The kernel fills up events that are shorter than the longest.
		n, err := u.file.Read(u.event[:])
		if err != nil {
			return 0, err
		}
		clear(u.event[n:])
		body := u.event[4:]
		switch order.Uint32(u.event[:]) {
		case uhidOutput:
			size := min(int(order.Uint16(body[uhidDataLength:])), uhidDataLength)
			data := body[:size]
			// In front is the number of the report, 0 where there is but one.
			// A program that forgot it loses nothing; USB does the same.
			if size > 0 && data[0] == 0 {
				data = data[1:]
			}
			return copy(report, data), nil
		case uhidGetReport, uhidSetReport:
			// A program waits for the answer, which is that there are no such
			// reports. The request begins with its number, and the reply with
			// that and an error.
			reply := order.AppendUint32(nil, uhidGetReportReply)
			if order.Uint32(u.event[:]) == uhidSetReport {
				reply = order.AppendUint32(nil, uhidSetReportReply)
			}
			reply = append(reply, body[:4]...)
			reply = order.AppendUint16(reply, eio)
			if _, err := u.file.Write(reply); err != nil {
				return 0, err
			}
		}
	}
}

// Write sends an input report.
func (u *uhid) Write(report []byte) (int, error) {
	time.Sleep(time.Until(u.due))
	u.due = time.Now().Add(u.interval)
	order := binary.NativeEndian
	event := order.AppendUint32(nil, uhidInput2)
	event = order.AppendUint16(event, uint16(len(report)))
	if _, err := u.file.Write(append(event, report...)); err != nil {
		return 0, err
	}
	return len(report), nil
}

// Close removes the device.
func (u *uhid) Close() error { return u.file.Close() }
