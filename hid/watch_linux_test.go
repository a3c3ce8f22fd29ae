package hid

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const hidrawUevent = "add@/devices/pci0000:00/usb1/1-1/1-1:1.0/0003:1209:5070.0001/hidraw/hidraw0\x00" +
	"ACTION=add\x00DEVPATH=/devices/pci0000:00/usb1/1-1\x00SUBSYSTEM=hidraw\x00MAJOR=244\x00MINOR=0\x00DEVNAME=hidraw0\x00SEQNUM=1201\x00"

func TestIsHIDUevent(t *testing.T) {
	for message, want := range map[string]bool{
		hidrawUevent: true,
		"remove@/devices/usb1\x00ACTION=remove\x00SUBSYSTEM=usb\x00": true,
		"add@/devices/x\x00SUBSYSTEM=usb":                            true,
		"add@/devices/x\x00SUBSYSTEM=usbmisc\x00":                    false,
		"add@/devices/x\x00SUBSYSTEM=net\x00SUBSYSTEM=usb\x00":       false,
		"add@/devices/x\x00ACTION=add\x00":                           false,
		"add@/devices/x\x00SUBSYSTEM\x00":                            false,
		"libudev\x00\xfe\xed\xca\xfeSUBSYSTEM=usb\x00":               false, // udev's own, of another group
		"SUBSYSTEM=usb\x00":                                          false,
		"add@/devices/x":                                             false,
		"\x00\x00\x00":                                               false,
		"":                                                           false,
	} {
		if got := isHIDUevent([]byte(message)); got != want {
			t.Errorf("%q: %v", message, got)
		}
	}
}

func FuzzIsHIDUevent(f *testing.F) {
	f.Add([]byte(hidrawUevent))
	f.Add([]byte("add@/\x00=\x00\x00SUBSYSTEM=\x00SUBSYSTEM=usb"))
	f.Fuzz(func(t *testing.T, message []byte) {
		before := bytes.Clone(message)
		if isHIDUevent(message) && !bytes.Contains(message, []byte("SUBSYSTEM=")) {
			t.Error("relevant without a subsystem")
		}
		if !bytes.Equal(message, before) {
			t.Error("changed")
		}
	})
}

// The kernel lets everyone listen, and a wait ends with its context; the source
// leaves no descriptor behind.
func TestKernelSources(t *testing.T) {
	// The first descriptor to wait for gives the runtime two of its own.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	t.Run("uevents", func(t *testing.T) {
		before := openFiles(t)
		source, err := newUevents()
		if errors.Is(err, errUserNamespace) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			for err = error(nil); err == nil; err = source.wait(ctx) {
			}
			mustMatch(t, err, context.Canceled)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		if err := source.wait(t.Context()); err == nil {
			t.Error("waits although closed")
		}
		if after := openFiles(t); after != before {
			t.Errorf("%d open files, before %d", after, before)
		}
	})
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A source goes on over what is not for it, gathers what has piled up, and
// tells of a broken descriptor.
func TestKernelSourceMessages(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	kernel := os.NewFile(uintptr(fds[1]), "kernel")
	defer kernel.Close()
	reads, broken := 0, errors.New("broken")
	s, err := newKernelSource(fds[0], "source", func(fd int, buffer []byte) (bool, error) {
		n, err := syscall.Read(fd, buffer)
		if err != nil {
			return false, err
		}
		reads++
		if string(buffer[:n]) == "broken" {
			return false, broken
		}
		return isHIDUevent(buffer[:n]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, message := range []string{"add@/x\x00SUBSYSTEM=net\x00", hidrawUevent, "add@/x\x00SUBSYSTEM=net\x00", hidrawUevent} {
		if _, err := kernel.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.wait(t.Context()); err != nil || reads != 4 {
		t.Errorf("%v after %d messages", err, reads)
	}
	if _, err := kernel.Write([]byte("broken")); err != nil {
		t.Fatal(err)
	}
	mustMatch(t, s.wait(t.Context()), broken)
}

// A message from another process, as anyone with the right to may send it, is
// not one of the kernel's.
func TestUeventSender(t *testing.T) {
	receiver, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(receiver)
	sender, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(sender)
	address := &syscall.SockaddrUnix{Name: filepath.Join(t.TempDir(), "uevents")}
	if err := syscall.Bind(receiver, address); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendto(sender, []byte(hidrawUevent), 0, address); err != nil {
		t.Fatal(err)
	}
	if relevant, err := receiveUevent(receiver, make([]byte, maxUevent)); relevant || err != nil {
		t.Error(relevant, err)
	}
	if _, err := receiveUevent(receiver, make([]byte, maxUevent)); !errors.Is(err, syscall.EAGAIN) {
		t.Error(err)
	}
}

func TestInUserNamespace(t *testing.T) {
	for content, want := range map[string]bool{
		"         0          0 4294967295\n": false,
		"         0       1000          1\n": true,
		"0 100000 65536\n65536 0 1\n":        true,
		"":                                   true,
	} {
		name := filepath.Join(t.TempDir(), "uid_map")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := inUserNamespace(name); got != want || err != nil {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
	if got, err := inUserNamespace(filepath.Join(t.TempDir(), "uid_map")); got || err != nil {
		t.Error(got, err)
	}
	if _, err := inUserNamespace(t.TempDir()); err == nil {
		t.Error("a folder is no map")
	}
}

// The rules in the error, the package and the source are the same, and sort
// before the ones that act upon their tag.
func TestUdevRules(t *testing.T) {
	content, err := os.ReadFile("70-fido.rules")
	if err != nil {
		t.Fatal(err)
	}
	if UdevRules() != string(content) {
		t.Error("UdevRules returns something else")
	}
	for _, want := range []string{"fido_id", `TAG+="uaccess"`, "06 d0 f1", `SUBSYSTEM!="hidraw"`} {
		if !strings.Contains(UdevRules(), want) {
			t.Errorf("no %s in the rules", want)
		}
	}
	for line := range strings.Lines(UdevRules()) {
		if strings.Count(line, `"`)%2 != 0 && !strings.HasPrefix(line, "#") {
			t.Errorf("quotes: %s", line)
		}
	}
	message := openError(&fs.PathError{Op: "open", Path: "/dev/hidraw7", Err: syscall.EACCES}).Error()
	for _, want := range []string{"/dev/hidraw7", "70-fido.rules", "/etc/udev/rules.d", "hid.UdevRules", "plug"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not name %s", message, want)
		}
	}
}
