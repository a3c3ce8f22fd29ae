//go:build guest

package guest

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
)

// descriptor is that of an authenticator (§11.2.8.2).
var descriptor = []byte{
	0x06, 0xD0, 0xF1, 0x09, 0x01, 0xA1, 0x01,
	0x09, 0x20, 0x15, 0x00, 0x26, 0xFF, 0x00, 0x75, 0x08, 0x95, ctap.HIDReportSize, 0x81, 0x02,
	0x09, 0x21, 0x15, 0x00, 0x26, 0xFF, 0x00, 0x75, 0x08, 0x95, ctap.HIDReportSize, 0x91, 0x02,
	0xC0,
}

const (
	vendorID  = 0x1209
	productID = 0x0001
	product   = "Guest key"
	serial    = "0123456789"
)

// A socket is where a key is plugged in.
type socket struct {
	name string
	usb  bool // libusb finds it
	// plug makes the device. What is returned carries its reports; closing it
	// takes the device away.
	plug func(t *testing.T) io.ReadWriteCloser
}

var sockets = []socket{
	{"uhid", false, plugUHID},
	{"gadget of 64", true, func(t *testing.T) io.ReadWriteCloser { return plugGadget(t, 64) }},
	{"gadget of 128", true, func(t *testing.T) io.ReadWriteCloser { return plugGadget(t, 128) }},
}

// A plugged key can be pulled out.
type plugged struct {
	usb  *virtual.USB
	bus  io.ReadWriteCloser
	both sync.WaitGroup
	once sync.Once
}

func (s socket) plugIn(t *testing.T, key *virtual.Authenticator) *plugged {
	t.Helper()
	p := &plugged{usb: key.PlugIn(virtual.USBConfig{})}
	port, err := p.usb.Open()
	if err != nil {
		t.Fatal(err)
	}
	p.bus = s.plug(t)
	carry := func(to io.Writer, from io.Reader) {
		report := make([]byte, ctap.HIDReportSize)
		for {
			if _, err := from.Read(report); err != nil {
				return
			}
			if _, err := to.Write(report); err != nil {
				return
			}
		}
	}
	p.both.Go(func() { carry(port, p.bus) })
	p.both.Go(func() { carry(p.bus, port) })
	t.Cleanup(p.pullOut)
	return p
}

func (p *plugged) pullOut() {
	p.once.Do(func() {
		p.usb.Unplug()
		p.bus.Close()
		p.both.Wait()
	})
}

// A uhid is a device that exists as long as /dev/uhid is open. Each read and
// write is an event: its type and a packed structure (linux/uhid.h).
type uhid struct{ *os.File }

const (
	uhidOutput  = 6
	uhidCreate2 = 11
	uhidInput2  = 12
	uhidEvent   = 4376 + 4
)

func plugUHID(t *testing.T) io.ReadWriteCloser {
	t.Helper()
	f, err := os.OpenFile("/dev/uhid", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	event := make([]byte, uhidEvent)
	binary.LittleEndian.PutUint32(event, uhidCreate2)
	copy(event[4:], product)
	copy(event[4+128+64:], serial)
	fields := event[4+128+64+64:]
	binary.LittleEndian.PutUint16(fields, uint16(len(descriptor)))
	binary.LittleEndian.PutUint16(fields[2:], 3) // USB
	binary.LittleEndian.PutUint32(fields[4:], vendorID)
	binary.LittleEndian.PutUint32(fields[8:], productID)
	copy(fields[20:], descriptor)
	if _, err := f.Write(event); err != nil {
		t.Fatal(err)
	}
	return uhid{f}
}

func (u uhid) Read(report []byte) (int, error) {
	event := make([]byte, uhidEvent)
	for {
		if _, err := u.File.Read(event); err != nil {
			return 0, err
		}
		if binary.LittleEndian.Uint32(event) == uhidOutput {
			size := binary.LittleEndian.Uint16(event[4+4096:])
			if size != 1+ctap.HIDReportSize || event[4] != 0 {
				return 0, errors.New("an output report of another length, or with an ID")
			}
			return copy(report, event[5:4+size]), nil
		}
	}
}

// Write keeps to the pace of USB: the kernel has room for 64 reports and drops
// those that are too many.
func (u uhid) Write(report []byte) (int, error) {
	time.Sleep(time.Millisecond)
	event := binary.LittleEndian.AppendUint32(nil, uhidInput2)
	event = binary.LittleEndian.AppendUint16(event, uint16(len(report)))
	if _, err := u.File.Write(append(event, report...)); err != nil {
		return 0, err
	}
	return len(report), nil
}

// A gadget is a USB device that the kernel makes up, plugged into a port that
// it makes up too (dummy_hcd).
type gadget struct {
	*os.File
	folder string
}

func plugGadget(t *testing.T, reportLength int) io.ReadWriteCloser {
	t.Helper()
	g := gadget{folder: "/sys/kernel/config/usb_gadget/key"}
	function := filepath.Join(g.folder, "functions/hid.usb0")
	for _, folder := range []string{"strings/0x409", "configs/c.1", "functions/hid.usb0"} {
		if err := os.MkdirAll(filepath.Join(g.folder, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"idVendor":                         strconv.Itoa(vendorID),
		"idProduct":                        strconv.Itoa(productID),
		"strings/0x409/manufacturer":       "tapstone",
		"strings/0x409/product":            product,
		"strings/0x409/serialnumber":       serial,
		"functions/hid.usb0/report_length": strconv.Itoa(reportLength),
		"functions/hid.usb0/report_desc":   string(descriptor),
	} {
		if err := os.WriteFile(filepath.Join(g.folder, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(function, filepath.Join(g.folder, "configs/c.1/hid.usb0")); err != nil {
		t.Fatal(err)
	}
	ports, err := os.ReadDir("/sys/class/udc")
	if err != nil || len(ports) == 0 {
		t.Fatal("no port", err)
	}
	if err := os.WriteFile(filepath.Join(g.folder, "UDC"), []byte(ports[0].Name()), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gadget's node", func() bool {
		g.File, err = os.OpenFile("/dev/hidg0", os.O_RDWR, 0)
		return err == nil
	})
	return g
}

// Close takes the device away and apart, in the one order that works.
func (g gadget) Close() error {
	errs := []error{
		os.WriteFile(filepath.Join(g.folder, "UDC"), []byte("\n"), 0o644),
		g.File.Close(),
	}
	for _, name := range []string{"configs/c.1/hid.usb0", "configs/c.1", "functions/hid.usb0", "strings/0x409", ""} {
		errs = append(errs, os.Remove(filepath.Join(g.folder, name)))
	}
	return errors.Join(errs...)
}

// eventually waits for something that the kernel does in its own time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 500 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: not within 5 s", what)
}
