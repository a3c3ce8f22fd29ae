package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
)

// kernel is the other end of /dev/uhid, and a hid.Conn as its hidraw node is.
type kernel struct{ net.Conn }

// event sends an event, as long as the kernel makes them all.
func (k *kernel) event(kind uint32, body ...byte) error {
	event := make([]byte, uhidMaxEventLength)
	binary.NativeEndian.PutUint32(event, kind)
	copy(event[4:], body)
	_, err := k.Conn.Write(event)
	return err
}

func (k *kernel) output(data []byte) error {
	body := make([]byte, uhidDataLength, uhidDataLength+3)
	copy(body, data)
	return k.event(uhidOutput, append(binary.NativeEndian.AppendUint16(body, uint16(len(data))), 1)...)
}

// Write adds the report number that hidraw wants in front.
func (k *kernel) Write(report []byte) (int, error) {
	return len(report), k.output(append([]byte{0}, report...))
}

func (k *kernel) Read(report []byte) (int, error) {
	event := make([]byte, uhidMaxEventLength)
	n, err := k.Conn.Read(event)
	if err != nil {
		return 0, err
	}
	size := int(binary.NativeEndian.Uint16(event[4:]))
	if binary.NativeEndian.Uint32(event) != uhidInput2 || n != 6+size {
		return 0, fmt.Errorf("event %x", event[:n])
	}
	return copy(report, event[6:n]), nil
}

// plugIn attaches a new key to a kernel.
func plugIn(t *testing.T, interval time.Duration) (*kernel, chan error) {
	t.Helper()
	key, err := virtual.New(virtual.Config{PIN: testPIN})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	k := &kernel{theirs}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		device, err := newUHID(ours, interval)
		if err == nil {
			err = carry(ctx, key, device)
		}
		end <- errors.Join(err, key.Close())
	}()
	t.Cleanup(func() {
		cancel()
		theirs.Close()
	})
	return k, end
}

func TestUHID(t *testing.T) {
	k, _ := plugIn(t, time.Microsecond)

	create := make([]byte, uhidMaxEventLength)
	n, err := k.Conn.Read(create)
	if err != nil {
		t.Fatal(err)
	}
	order := binary.NativeEndian
	rest := create[4+uhidNameLength+uhidPhysLength+uhidUniqLength : n]
	if order.Uint32(create) != uhidCreate2 ||
		!bytes.HasPrefix(create[4:], append([]byte(deviceName), 0)) ||
		int(order.Uint16(rest)) != len(reportDescriptor) ||
		order.Uint16(rest[2:]) != busUSB ||
		order.Uint32(rest[4:]) != deviceVendor || order.Uint32(rest[8:]) != deviceProduct ||
		!bytes.Equal(rest[20:], reportDescriptor) {
		t.Errorf("the device is created with %x", create[:n])
	}

	// START and OPEN need nothing, and who asks for reports gets an error.
	k.event(2)
	k.event(4)
	for request, want := range map[uint32]uint32{uhidGetReport: uhidGetReportReply, uhidSetReport: uhidSetReportReply} {
		k.event(request, 7, 0, 0, 0, 1, 0)
		reply := make([]byte, uhidMaxEventLength)
		n, err := k.Conn.Read(reply)
		if !bytes.Equal(reply[:n], order.AppendUint16(append(order.AppendUint32(nil, want), 7, 0, 0, 0), eio)) {
			t.Errorf("reply %x, %v", reply[:n], err)
		}
	}
	device, err := hid.New(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	signIn(t, device, register(t, device))
}

func TestUHIDLargestMessage(t *testing.T) {
	k, end := plugIn(t, time.Microsecond)
	k.Conn.Read(make([]byte, uhidMaxEventLength))
	device, err := hid.New(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	message := bytes.Repeat([]byte{0xA5}, device.MaxMessageSize())
	for range 3 {
		if echo, err := device.Ping(t.Context(), message); err != nil || !bytes.Equal(echo, message) {
			t.Fatalf("PING: %d bytes, %v", len(echo), err)
		}
	}
	// The kernel takes the device away.
	device.Close()
	if err := <-end; !errors.Is(err, io.EOF) {
		t.Errorf("carry = %v", err)
	}
}

// What programs write to a hidraw node, and what the key hears.
func TestUHIDReports(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	k := &kernel{theirs}
	go theirs.Read(make([]byte, uhidMaxEventLength))
	device, err := newUHID(ours, 0)
	if err != nil {
		t.Fatal(err)
	}
	report := bytes.Repeat([]byte{0xFF}, reportSize)
	for _, test := range []struct{ data, want []byte }{
		{append([]byte{0}, report...), report},
		{report, report}, // without the report number
		{[]byte{0, 1, 2}, []byte{1, 2}},
		{nil, nil},
		{make([]byte, uhidDataLength), make([]byte, reportSize)},
	} {
		go k.output(test.data)
		got := make([]byte, reportSize)
		if n, err := device.Read(got); err != nil || !bytes.Equal(got[:n], test.want) {
			t.Errorf("%x is read as %x, %v", test.data, got[:n], err)
		}
	}
	// A size that the event cannot have does no harm, nor does a short event.
	go k.event(uhidOutput, append(make([]byte, uhidDataLength), 0xFF, 0xFF)...)
	if n, err := device.Read(report); n != reportSize || err != nil {
		t.Errorf("Read = %d, %v", n, err)
	}
	go func() {
		k.Conn.Write([]byte{uhidOutput})
		k.Conn.Close()
	}()
	if _, err := device.Read(report); err == nil {
		if _, err = device.Read(report); err == nil {
			t.Error("no end")
		}
	}
	if _, err := device.Write(report); err == nil {
		t.Error("no error in Write")
	}
	if _, err := newUHID(ours, 0); err == nil {
		t.Error("no error in newUHID")
	}
}

func TestAttachUHIDFails(t *testing.T) {
	want := os.ErrNotExist
	if runtime.GOOS != "linux" {
		want = errors.ErrUnsupported
	}
	if err := attachUHID(t.Context(), nil, filepath.Join(t.TempDir(), "uhid"), io.Discard); !errors.Is(err, want) || runtime.GOOS == "linux" && !strings.Contains(err.Error(), "modprobe uhid") {
		t.Errorf("attachUHID = %v", err)
	}
	if runtime.GOOS == "linux" {
		// A file that is there and is none that events can be written to.
		if err := attachUHID(t.Context(), nil, "/proc/self/status", io.Discard); err == nil {
			t.Error("no error")
		}
	}
}
