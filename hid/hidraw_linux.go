package hid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tapstone/fido/internal/devfile"
)

// linux is where the kernel shows its HID devices.
type linux struct{ sys, dev string }

var thisMachine = linux{sys: "/sys", dev: "/dev"}

func (l linux) list(ctx context.Context) ([]Info, error) {
	found, err := l.attachments(ctx)
	return infosOf(found), err
}

func (l linux) attachments(ctx context.Context) ([]attachment, error) {
	class := filepath.Join(l.sys, "class", "hidraw")
	entries, err := os.ReadDir(class)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no HID device, or a kernel without hidraw
	}
	if err != nil {
		return nil, err
	}
	var found []attachment
	for _, entry := range entries {
		if err := ended(ctx); err != nil {
			return nil, err
		}
		// A device may be pulled out while we look at it.
		device := filepath.Join(class, entry.Name(), "device")
		info, err := l.info(entry.Name(), device)
		if err != nil {
			continue
		}
		// The kernel numbers HID devices through: "0003:1050:0407.0012".
		real, err := filepath.EvalSymlinks(device)
		if err != nil {
			continue
		}
		found = append(found, attachment{info, filepath.Base(real)})
	}
	slices.SortFunc(found, func(a, b attachment) int { // hidraw10 comes after hidraw9
		if len(a.Path) != len(b.Path) {
			return len(a.Path) - len(b.Path)
		}
		return strings.Compare(a.Path, b.Path)
	})
	return found, nil
}

// info describes the hidraw device of a name, whose HID device has the folder
// device.
func (l linux) info(name, device string) (Info, error) {
	layout, err := readLayout(device)
	if err != nil {
		return Info{}, err
	}
	info := Info{Path: filepath.Join(l.dev, name), InputReport: layout.in, OutputReport: layout.out}

	uevent, err := readUpTo(filepath.Join(device, "uevent"), 16<<10)
	if err != nil {
		return Info{}, err
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(uevent)) {
		// The device names itself, and might do so with a line break: what the
		// kernel writes, HID_ID first of all, comes before.
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if seen[key] {
			continue
		}
		seen[key] = true
		switch key {
		case "HID_ID": // 0003:00001050:00000407
			var ids [3]uint16
			for i, part := range strings.SplitN(value, ":", len(ids)) {
				id, _ := strconv.ParseUint(part, 16, 32)
				ids[i] = uint16(id)
			}
			info.Bus, info.VendorID, info.ProductID = Bus(ids[0]), ids[1], ids[2]
		case "HID_NAME":
			info.Product = printable(value)
		case "HID_UNIQ":
			info.Serial = printable(value)
		}
	}
	// HID_NAME is the manufacturer and the product in one. USB has them apart,
	// two levels up: the HID device belongs to an interface of a USB device.
	if real, err := filepath.EvalSymlinks(device); err == nil && info.Bus == BusUSB {
		usb := filepath.Dir(filepath.Dir(real))
		if product, err := readUpTo(filepath.Join(usb, "product"), 4<<10); err == nil {
			info.Product = printable(string(product))
			manufacturer, _ := readUpTo(filepath.Join(usb, "manufacturer"), 4<<10) // not every device has one
			info.Manufacturer = printable(string(manufacturer))
		}
	}
	return info, nil
}

// readLayout reads the report descriptor of a HID device.
func readLayout(device string) (reportLayout, error) {
	descriptor, err := readUpTo(filepath.Join(device, "report_descriptor"), maxDescriptor+1)
	if err != nil {
		return reportLayout{}, err
	}
	layout, err := parseDescriptor(descriptor)
	if err == nil && !usable(layout.in, layout.out) {
		err = errDescriptor
	}
	return layout, err
}

func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func (l linux) open(path string) (*hidraw, error) {
	// Non-blocking, so that the runtime's poller waits for it and read
	// deadlines work.
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, openError(err)
	}
	layout, err := l.layout(f)
	if err != nil {
		_ = f.Close()
		// A sandbox may hide what the kernel shows of a node that it lets in.
		if errors.Is(err, errNotFIDO) || errors.Is(err, errDescriptor) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("open %s: %w: %v", path, ErrUnsupported, err)
		}
		return nil, fmt.Errorf("open %s: %w", path, openError(err))
	}
	return newHidraw(f, layout)
}

// layout reads the report descriptor of the device that is open, by its number:
// the path may be a symbolic link, or have come to name another device.
func (l linux) layout(f *os.File) (reportLayout, error) {
	info, err := f.Stat()
	if err != nil {
		return reportLayout{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeCharDevice == 0 {
		return reportLayout{}, errNotFIDO
	}
	major, minor := deviceNumber(uint64(stat.Rdev)) // narrower on some processors
	node := filepath.Join(l.sys, "dev", "char", fmt.Sprintf("%d:%d", major, minor))
	layout, err := readLayout(filepath.Join(node, "device"))
	if errors.Is(err, fs.ErrNotExist) {
		err = errNotFIDO // another kind of device
		// Or one that is being pulled out: its descriptor goes before the node
		// in /dev, and that before the rest of what the kernel shows of it.
		subsystem, _ := os.Readlink(filepath.Join(node, "subsystem"))
		info, failed := f.Stat()
		if filepath.Base(subsystem) == "hidraw" || failed == nil && info.Sys().(*syscall.Stat_t).Nlink == 0 {
			err = ErrDeviceGone
		}
	}
	return layout, err
}

// deviceNumber takes a device number of the kernel's 64-bit form apart.
func deviceNumber(rdev uint64) (major, minor uint32) {
	return uint32(rdev>>8&0xFFF | rdev>>32&^0xFFF), uint32(rdev&0xFF | rdev>>12&^0xFF)
}

// A hidraw is an open device node. The kernel wants the report ID in front of
// each report that is written, 0 if there is none, and puts it in front of each
// that is read, if there is one (Documentation/hid/hidraw.rst).
type hidraw struct {
	file    *devfile.File
	raw     syscall.RawConn
	layout  reportLayout
	in, out []byte // a report and its ID
}

func newHidraw(f *os.File, layout reportLayout) (*hidraw, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	file, err := devfile.New(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &hidraw{
		file: file, raw: raw, layout: layout,
		in: make([]byte, 1+layout.in), out: make([]byte, 1+layout.out),
	}, nil
}

func (h *hidraw) Read(p []byte) (int, error) {
	if h.layout.inID == 0 {
		return h.file.Read(p)
	}
	for {
		n, err := h.file.Read(h.in)
		if err != nil {
			return 0, err
		}
		// Another report is of something else on the same interface.
		if h.in[0] == h.layout.inID {
			n = copy(p, h.in[1:n])
			clear(h.in)
			return n, nil
		}
	}
}

// Write has no deadline: the kernel does not return from it before the device
// has taken the report, and gives up by itself, after 5 s with USB.
func (h *hidraw) Write(p []byte) (int, error) {
	h.out[0] = h.layout.outID
	copy(h.out[1:], p)
	n, err := h.file.Write(h.out)
	clear(h.out)
	return max(n-1, 0), err
}

func (h *hidraw) SetReadDeadline(t time.Time) error { return h.file.SetReadDeadline(t) }
func (h *hidraw) Close() error                      { return h.file.Close() }

// queuedReports is how many reports the kernel keeps for each open node
// (HIDRAW_BUFFER_SIZE). It drops those that come when the queue is full.
const queuedReports = 64

// TryLock takes the advisory lock of the device node, which libfido2 takes too.
// With the lock it empties the queue: what other programs exchanged meanwhile
// is in it, and a full queue loses the answer that we are going to wait for.
func (h *hidraw) TryLock() (bool, error) {
	locked := false
	err := h.control(func(fd int) error {
		err := flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == syscall.EWOULDBLOCK {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("flock", err)
		}
		locked = true
		for range queuedReports {
			if _, err := syscall.Read(fd, h.in); err != nil {
				break // usually for want of reports; if not, the next Read says so
			}
		}
		clear(h.in)
		return nil
	})
	return locked, err
}

func (h *hidraw) Unlock() error {
	return h.control(func(fd int) error {
		return os.NewSyscallError("flock", flock(fd, syscall.LOCK_UN))
	})
}

// control calls f with the open file's descriptor.
func (h *hidraw) control(f func(fd int) error) error {
	var inner error
	if err := h.raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func flock(fd, how int) error {
	for {
		if err := syscall.Flock(fd, how); err != syscall.EINTR {
			return err
		}
	}
}
