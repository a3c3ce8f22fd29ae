package hid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/tapstone/fido/internal/ctap"
)

// A tree is a file system like the kernel's /sys.
type tree struct {
	t    *testing.T
	root string
}

func (f tree) write(path, content string) {
	f.t.Helper()
	path = filepath.Join(f.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f tree) link(path, target string) {
	f.t.Helper()
	path = filepath.Join(f.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(f.root, target), path); err != nil {
		f.t.Fatal(err)
	}
}

// device makes a HID device in the folder path and its hidraw device.
func (f tree) device(name, path, uevent string, descriptor []byte) {
	f.t.Helper()
	f.write(path+"/uevent", uevent)
	f.write(path+"/report_descriptor", string(descriptor))
	f.link(path+"/hidraw/"+name+"/device", path)
	f.link("class/hidraw/"+name, path+"/hidraw/"+name)
}

func TestList(t *testing.T) {
	f := tree{t, t.TempDir()}
	l := linux{sys: f.root, dev: "/dev"}
	if infos, err := l.list(t.Context()); err != nil || len(infos) != 0 {
		t.Errorf("without hidraw: %v, %v", infos, err)
	}

	const usb = "devices/usb1/1-2/"
	f.write(usb+"manufacturer", "Yubi\x1b[2Jco\n")
	f.write(usb+"product", "YubiKey FIDO+CCID\n")
	f.device("hidraw10", usb+"1-2:1.0/0003:1050:0406.0001",
		"DRIVER=hid-generic\nHID_ID=0003:00001050:00000406\nHID_NAME=Yubico YubiKey FIDO+CCID\nHID_PHYS=usb-1\nHID_UNIQ=\n", fidoDescriptor)
	f.device("hidraw2", "devices/virtual/misc/uhid/0005:F055:0001.0002",
		"HID_ID=0005:0000F055:00000001\nHID_NAME=Evil\x07 ключ\nHID_ID=0003:0000DEAD:0000BEEF\nHID_UNIQ=1234\xff\nMODALIAS=x\n", fidoDescriptor)
	// One without the strings of USB, as a key behind uhid is.
	f.device("hidraw3", "devices/virtual/misc/uhid/0003:F055:0001.0003",
		"HID_ID=0003:0000F055\nHID_NAME=Gadget\n", bytes.Replace(fidoDescriptor, []byte{0x95, 0x40}, []byte{0x95, 0x20}, 1))
	// None of these is of use.
	f.device("hidraw4", "devices/keyboard", "HID_ID=0003:00000001:00000002\n", unhex("0501 0906 a101 c0"))
	f.device("hidraw5", "devices/broken", "HID_ID=0003:00000001:00000002\n", unhex("06d0"))
	f.device("hidraw6", "devices/narrow", "HID_ID=0003:00000001:00000002\n", bytes.ReplaceAll(fidoDescriptor, []byte{0x95, 0x40}, []byte{0x95, 0x07}))
	f.link("class/hidraw/hidraw7", "devices/pulled-out")
	f.write("devices/half/report_descriptor", string(fidoDescriptor))
	f.link("class/hidraw/hidraw8/device", "devices/half")

	infos, err := l.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Info{
		{Path: "/dev/hidraw2", Bus: BusBluetooth, VendorID: 0xF055, ProductID: 1, Product: "Evil ключ", Serial: "1234", InputReport: 64, OutputReport: 64},
		{Path: "/dev/hidraw3", Bus: BusUSB, VendorID: 0xF055, Product: "Gadget", InputReport: 32, OutputReport: 64},
		{Path: "/dev/hidraw10", Bus: BusUSB, VendorID: 0x1050, ProductID: 0x406, Manufacturer: "Yubi[2Jco", Product: "YubiKey FIDO+CCID", InputReport: 64, OutputReport: 64},
	}
	if !reflect.DeepEqual(infos, want) {
		t.Errorf("got  %+v\nwant %+v", infos, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.list(ctx)
	mustMatch(t, err, context.Canceled)

	f2 := tree{t, t.TempDir()}
	f2.write("class/hidraw", "a file")
	if _, err := (linux{sys: f2.root}).list(t.Context()); err == nil {
		t.Error("a class that cannot be read is an empty one")
	}
}

// The machine that runs the test has some authenticators, or none.
func TestListHere(t *testing.T) {
	if _, err := List(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if infos, err := List(ctx); err == nil && len(infos) > 0 {
		t.Error("listed although the context is over")
	}
}

func TestBusString(t *testing.T) {
	for bus, want := range map[Bus]string{BusUSB: "USB", BusBluetooth: "Bluetooth", BusVirtual: "virtual", 0x18: "bus 0x18"} {
		if got := bus.String(); got != want {
			t.Errorf("%d: %q", bus, got)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "hidraw0"))
	mustMatch(t, err, fs.ErrNotExist)
	_, err = Open(t.Context(), "/dev/null/hidraw0")
	mustMatch(t, err, fs.ErrNotExist)

	socket := filepath.Join(t.TempDir(), "hidraw0")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file := filepath.Join(t.TempDir(), "hidraw0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/dev/null", t.TempDir(), socket} {
		_, err = Open(t.Context(), path)
		mustMatch(t, err, ErrUnsupported)
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name the file", err)
		}
	}
	for errno, want := range map[syscall.Errno]error{
		syscall.EACCES: fs.ErrPermission, syscall.EPERM: fs.ErrPermission,
		syscall.ENODEV: ErrDeviceGone, syscall.EIO: ErrDeviceGone, syscall.ENXIO: ErrUnsupported, syscall.EMFILE: syscall.EMFILE,
	} {
		err := openError(&fs.PathError{Op: "open", Path: "/dev/hidraw7", Err: errno})
		mustMatch(t, err, want, errno)
		if want == fs.ErrPermission && !(strings.Contains(err.Error(), "udev") && strings.Contains(err.Error(), "/dev/hidraw7")) {
			t.Errorf("%v does not help", err)
		}
	}
}

// A device that is pulled out while it is being opened is no device of another
// kind, and nor is one whose descriptor cannot be read for another reason.
func TestOpenPulledOut(t *testing.T) {
	p := newTerminal(t)
	l := p.machine(t, fidoDescriptor)
	f, err := os.OpenFile(p.path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := filepath.Glob(filepath.Join(l.sys, "dev/char/*/device/report_descriptor"))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if err := os.Remove(entries[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(entries[0], entries[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open(p.path); !errors.Is(err, syscall.ELOOP) || errors.Is(err, ErrUnsupported) {
		t.Errorf("a descriptor that cannot be read: %v", err)
	}
	if err := os.Remove(entries[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open(p.path); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no descriptor: %v", err)
	}
	subsystem := filepath.Join(filepath.Dir(entries[0]), "../subsystem")
	if err := os.Symlink("../../../class/hidraw", subsystem); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open(p.path); !errors.Is(err, ErrDeviceGone) || errors.Is(err, ErrUnsupported) {
		t.Errorf("no descriptor, of a HID device: %v", err)
	}
	if err := os.Remove(subsystem); err != nil {
		t.Fatal(err)
	}
	p.Close() // which takes the node away
	if _, err := l.layout(f); !errors.Is(err, ErrDeviceGone) || errors.Is(err, errNotFIDO) {
		t.Errorf("no node: %v", err)
	}
}

func TestDeviceNumber(t *testing.T) {
	for rdev, want := range map[uint64][2]uint32{
		0xF103:             {0xF1, 3},
		0x000120006783459A: {0x12345, 0x6789A},
	} {
		if major, minor := deviceNumber(rdev); major != want[0] || minor != want[1] {
			t.Errorf("%x: %x, %x", rdev, major, minor)
		}
	}
}

// A terminal is a character device that anyone can make, and whose other end
// stands in for the key: reports go through it whole as long as each is read
// before the next is written.
type terminal struct {
	*os.File
	path string
}

func newTerminal(t *testing.T) terminal {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ioctl := func(request uintptr, argument unsafe.Pointer) {
		t.Helper()
		var errno syscall.Errno
		if err := raw.Control(func(fd uintptr) {
			_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
		}); err != nil || errno != 0 {
			t.Fatal(err, errno)
		}
	}
	var unlocked, number int32
	ioctl(syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	ioctl(syscall.TIOCGPTN, unsafe.Pointer(&number))
	var mode syscall.Termios
	ioctl(syscall.TCGETS, unsafe.Pointer(&mode))
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0 // bytes, and no echo
	mode.Cflag = mode.Cflag&^syscall.CSIZE | syscall.CS8
	ioctl(syscall.TCSETS, unsafe.Pointer(&mode))
	return terminal{f, fmt.Sprintf("/dev/pts/%d", number)}
}

// machine is a kernel that takes the terminal for a HID device.
func (p terminal) machine(t *testing.T, descriptor []byte) linux {
	t.Helper()
	info, err := os.Stat(p.path)
	if err != nil {
		t.Fatal(err)
	}
	major, minor := deviceNumber(uint64(info.Sys().(*syscall.Stat_t).Rdev))
	f := tree{t, t.TempDir()}
	f.write(fmt.Sprintf("dev/char/%d:%d/device/report_descriptor", major, minor), string(descriptor))
	return linux{sys: f.root}
}

// serve is the key: it answers each message with respond, which returns the
// reports to send, until the terminal is closed.
func (p terminal) serve(id int, respond func(report []byte) [][]byte) {
	report := make([]byte, 1+64)
	for {
		if _, err := io.ReadFull(p, report); err != nil {
			return
		}
		if report[0] != byte(id) {
			panic(fmt.Sprintf("report ID %d", report[0]))
		}
		for _, r := range respond(report[1:]) {
			if id != 0 {
				r = append([]byte{byte(id)}, r...)
			}
			if _, err := p.Write(r); err != nil {
				return
			}
		}
	}
}

// replies to CTAPHID_INIT, and to CBOR with what cbor returns.
func replies(cbor func() [][]byte) func(report []byte) [][]byte {
	return func(report []byte) [][]byte {
		switch report[4] &^ 0x80 {
		case ctap.HIDInit:
			return reports(64, binary.BigEndian.Uint32(report), ctap.HIDInit, append(bytes.Clone(report[7:15]), 0, 0, 0, 5, 2, 0, 0, 0, 4))
		case ctap.HIDCBOR:
			return cbor()
		case ctap.HIDCancel:
			return reports(64, 5, ctap.HIDCBOR, []byte{ctap.StatusKeepaliveCancel})
		}
		return nil
	}
}

// The whole way: open the node, exchange, cancel, unplug.
func TestOpen(t *testing.T) {
	for name, test := range map[string]struct {
		descriptor []byte
		id         int
	}{
		"plain":     {fidoDescriptor, 0},
		"report ID": {unhex("06d0f1 0901 a101 8507 0920 7508 9540 8102 0921 9102 c0"), 7},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTerminal(t)
			thisMachine = p.machine(t, test.descriptor)
			defer func() { thisMachine = linux{sys: "/sys", dev: "/dev"} }()
			keepalive := reports(64, 5, ctap.HIDKeepalive, []byte{ctap.KeepaliveUPNeeded})
			respond := make(chan [][]byte, 1)
			served := make(chan struct{})
			go func() {
				p.serve(test.id, replies(func() [][]byte { return <-respond }))
				close(served)
			}()

			d, err := Open(t.Context(), p.path)
			if err != nil {
				t.Fatal(err)
			}
			respond <- reports(64, 5, ctap.HIDCBOR, []byte{0, 1, 2})
			answer, err := d.Exchange(t.Context(), getInfo, nil)
			if err != nil || !bytes.Equal(answer, []byte{0, 1, 2}) {
				t.Fatalf("Exchange = %x, %v", answer, err)
			}

			respond <- keepalive
			ctx, cancel := context.WithCancel(t.Context())
			answer, err = d.Exchange(ctx, getInfo, func(byte) { cancel() })
			if err != nil || !bytes.Equal(answer, []byte{ctap.StatusKeepaliveCancel}) {
				t.Fatalf("Exchange = %x, %v", answer, err)
			}

			respond <- keepalive
			_, err = d.Exchange(t.Context(), getInfo, func(byte) { p.Close() })
			mustMatch(t, err, ErrDeviceGone)
			<-served
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			_, err = d.Exchange(t.Context(), getInfo, nil)
			mustMatch(t, err, ErrClosed)
		})
	}
}

// OpenConn sends nothing by itself, and takes reports as they are.
func TestOpenConn(t *testing.T) {
	p := newTerminal(t)
	thisMachine = p.machine(t, fidoDescriptor)
	defer func() { thisMachine = linux{sys: "/sys", dev: "/dev"} }()
	heard := make(chan []byte, 1)
	go p.serve(0, func(report []byte) [][]byte {
		heard <- bytes.Clone(report)
		return [][]byte{report}
	})
	conn, option, err := OpenConn(t.Context(), p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if sizes, err := applied([]Option{option}); err != nil || sizes != (options{in: 64, out: 64}) {
		t.Errorf("%+v, %v", sizes, err)
	}
	report := bytes.Repeat([]byte{0xA5}, 64)
	if n, err := conn.Write(report); err != nil || n != len(report) {
		t.Fatal(n, err)
	}
	if got := <-heard; !bytes.Equal(got, report) {
		t.Errorf("the first report is %x", got)
	}
	echo := make([]byte, 64)
	if n, err := conn.Read(echo); err != nil || !bytes.Equal(echo[:n], report) {
		t.Errorf("Read = %x, %v", echo[:n], err)
	}
	_, _, err = OpenConn(t.Context(), filepath.Join(t.TempDir(), "hidraw0"))
	mustMatch(t, err, fs.ErrNotExist)
}

// Open closes what it cannot use.
func TestOpenNoKey(t *testing.T) {
	p := newTerminal(t)
	thisMachine = p.machine(t, fidoDescriptor)
	defer func() { thisMachine = linux{sys: "/sys", dev: "/dev"} }()
	ctx, cancel := context.WithCancel(t.Context())
	go p.serve(0, func([]byte) [][]byte { cancel(); return nil })
	_, err := Open(ctx, p.path)
	mustMatch(t, err, context.Canceled)
	if n, err := p.Read(make([]byte, 1)); !errors.Is(err, syscall.EIO) {
		t.Errorf("the node is still open: %d, %v", n, err)
	}
}

// TestQuirk12 in the kernel: one node opened twice.
func TestQuirk12Flock(t *testing.T) {
	p := newTerminal(t)
	l := p.machine(t, fidoDescriptor)
	var nodes [2]*hidraw
	for i := range nodes {
		h, err := l.open(p.path)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		nodes[i] = h
	}
	try := func(i int, want bool) {
		t.Helper()
		if got, err := nodes[i].TryLock(); got != want || err != nil {
			t.Fatalf("TryLock of %d = %v, %v", i, got, err)
		}
	}
	try(0, true)
	try(1, false)
	if err := nodes[0].Unlock(); err != nil {
		t.Fatal(err)
	}
	try(1, true)
	if err := nodes[1].SetReadDeadline(longAgo); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].Close(); err != nil { // gives it back too
		t.Fatal(err)
	}
	try(0, true)
	if got, err := nodes[1].TryLock(); got || err == nil {
		t.Error("a closed node is locked")
	}
}

// A report of another ID on the same interface is not for us.
func TestHidrawReports(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	device := os.NewFile(uintptr(fds[1]), "device")
	defer device.Close()
	h, err := newHidraw(os.NewFile(uintptr(fds[0]), "hidraw"), reportLayout{in: 8, out: 8, inID: 2, outID: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	report := make([]byte, 8)
	for _, r := range [][]byte{{1, 9, 9}, {2, 1, 2, 3, 4, 5, 6, 7, 8}, {1}, {2}, {2, 8}} {
		if _, err := device.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][]byte{{1, 2, 3, 4, 5, 6, 7, 8}, {}, {8}} {
		n, err := h.Read(report)
		if err != nil || !bytes.Equal(report[:n], want) {
			t.Errorf("Read = %x, %v; want %x", report[:n], err, want)
		}
	}
	// What another program's exchange has left behind goes when we get the lock.
	for range 3 {
		if _, err := device.Write([]byte{2, 9}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := h.TryLock(); !got || err != nil {
		t.Fatalf("TryLock = %v, %v", got, err)
	}
	if _, err := device.Write([]byte{2, 7}); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Read(report); err != nil || !bytes.Equal(report[:n], []byte{7}) {
		t.Errorf("Read = %x, %v", report[:n], err)
	}
	if n, err := h.Write(counting(8)); n != 8 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	sent := make([]byte, 16)
	if n, err := device.Read(sent); err != nil || !bytes.Equal(sent[:n], append([]byte{3}, counting(8)...)) {
		t.Errorf("sent %x, %v", sent[:n], err)
	}
	if err := h.SetReadDeadline(longAgo); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read(report); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after the deadline: %v", err)
	}
}
