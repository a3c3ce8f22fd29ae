//go:build cgo && libusb

package hid

// #include <sys/ioctl.h>
// #include <linux/usbdevice_fs.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	karalabe "github.com/karalabe/hid"
)

// open takes hidraw nodes too.
func open(ctx context.Context, path string) (Conn, Option, error) {
	if filepath.IsAbs(path) {
		return openHidraw(ctx, path)
	}
	return openHidapi(ctx, path)
}

func newChanges() changes {
	if c, err := newUevents(); err == nil {
		return c
	}
	return newTicker()
}

// A usbInterface is an interface of a USB device, in the folder where the
// kernel shows it: hidapi names it by bus, ports, configuration and number, as
// the kernel does.
type usbInterface struct {
	sys, dev string
	path     string // "1-2.3:1.0"
	number   int
}

// file returns a file of the USB device, "" if there is none.
func (u usbInterface) file(name string) string {
	device, _, _ := strings.Cut(u.path, ":")
	content, _ := readUpTo(filepath.Join(u.sys, "bus/usb/devices", device, name), 4<<10)
	return strings.TrimSpace(string(content))
}

// node returns the device's node.
func (u usbInterface) node() (string, error) {
	bus, err := strconv.ParseUint(u.file("busnum"), 10, 16)
	if err != nil {
		return "", err
	}
	device, err := strconv.ParseUint(u.file("devnum"), 10, 16)
	if err != nil {
		return "", err
	}
	return filepath.Join(u.dev, fmt.Sprintf("bus/usb/%03d/%03d", bus, device)), nil
}

// known holds the layouts that were read. While a program has an interface
// open through libusb, it can be read neither from the kernel's driver, which
// is detached, nor from the device.
var known = struct {
	sync.Mutex
	layouts map[string]knownLayout // by path
}{layouts: map[string]knownLayout{}}

type knownLayout struct {
	reportLayout
	instance string
}

// authenticator goes by the report descriptor, of which hidapi says nothing
// here.
func authenticator(device karalabe.DeviceInfo) (reportLayout, string, error) {
	u := usbInterface{sys: thisMachine.sys, dev: thisMachine.dev, path: device.Path, number: device.Interface}
	// Each device that is plugged in has a number of its own.
	instance := u.file("busnum") + "/" + u.file("devnum")

	known.Lock()
	defer known.Unlock()
	layout, err := u.layout()
	switch was, ok := known.layouts[device.Path]; {
	case err == nil:
		known.layouts[device.Path] = knownLayout{layout, instance}
	case ok && was.instance == instance && errors.Is(err, errInUse):
		layout, err = was.reportLayout, nil
	default:
		delete(known.layouts, device.Path)
	}
	return layout, instance, err
}

// layout reads the report descriptor: the kernel has it as long as its driver
// serves the interface, otherwise the device is asked.
func (u usbInterface) layout() (reportLayout, error) {
	served, _ := filepath.Glob(filepath.Join(u.sys, "bus/usb/devices", u.path, "*", "report_descriptor"))
	for _, name := range served {
		return readLayout(filepath.Dir(name))
	}
	node, err := u.node()
	if err != nil {
		return reportLayout{}, err
	}
	descriptor, err := u.descriptor(node)
	if err != nil {
		return reportLayout{}, err
	}
	layout, err := parseDescriptor(descriptor)
	if err == nil && !usable(layout.in, layout.out) {
		err = errDescriptor
	}
	return layout, err
}

// descriptor asks the device for the report descriptor (Device Class Definition
// for HID 1.11, §7.1.1). The kernel lets only those ask an interface who have
// claimed it.
func (u usbInterface) descriptor(node string) ([]byte, error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // gives the interface back
	number := C.uint(u.number)
	if _, err := ioctl(f, C.USBDEVFS_CLAIMINTERFACE, unsafe.Pointer(&number)); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			err = fmt.Errorf("%w: %w", errInUse, err)
		}
		return nil, err
	}
	content := make([]byte, maxDescriptor)
	var pin runtime.Pinner
	pin.Pin(&content[0])
	defer pin.Unpin()
	transfer := C.struct_usbdevfs_ctrltransfer{
		bRequestType: 0x81, // from the interface
		bRequest:     0x06, // GET_DESCRIPTOR
		wValue:       0x2200,
		wIndex:       C.__u16(u.number),
		wLength:      C.__u16(len(content)),
		timeout:      1000, // ms
		data:         unsafe.Pointer(&content[0]),
	}
	n, err := ioctl(f, C.USBDEVFS_CONTROL, unsafe.Pointer(&transfer))
	if err != nil {
		return nil, err
	}
	return content[:n], nil
}

func ioctl(f *os.File, request uintptr, argument unsafe.Pointer) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var (
		n     uintptr
		errno syscall.Errno
	)
	err = raw.Control(func(fd uintptr) {
		n, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("ioctl", errno)
	}
	return int(n), err
}

// complete adds what hidapi leaves out: the strings of devices that the user
// may not open, and all of them in a program without shared libraries.
func complete(info *Info) {
	u := usbInterface{sys: thisMachine.sys, path: info.Path}
	info.Bus = BusUSB
	for field, name := range map[*string]string{
		&info.Manufacturer: "manufacturer", &info.Product: "product", &info.Serial: "serial",
	} {
		if *field == "" {
			*field = printable(u.file(name))
		}
	}
}

func whyNone() error { return nil }

// mayOpen opens the node to see the kernel's error, which hidapi hides.
func mayOpen(ctx context.Context, device karalabe.DeviceInfo) error {
	u := usbInterface{sys: thisMachine.sys, dev: thisMachine.dev, path: device.Path}
	node, err := u.node()
	if err != nil {
		return nil // hidapi may know better
	}
	return settled(ctx, node, func() error {
		f, err := os.OpenFile(node, os.O_RDWR, 0)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("%w: libusb needs write access to the USB device: save the udev rule\n"+
				"SUBSYSTEM==\"usb\", ATTR{idVendor}==\"%04x\", ATTR{idProduct}==\"%04x\", TAG+=\"uaccess\"\n"+
				"as /etc/udev/rules.d/70-fido-usb.rules, run \"udevadm control --reload\" as root, and plug the device in again",
				err, device.VendorID, device.ProductID)
		case err != nil:
			return openError(err)
		}
		return f.Close()
	})
}

func openDevice(device karalabe.DeviceInfo) (hidapiDevice, error) { return device.Open() }
