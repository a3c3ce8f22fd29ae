package hid

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
)

// A kernelSource is a file descriptor on which the kernel tells of devices.
type kernelSource struct {
	file *os.File
	raw  syscall.RawConn
	// receive reads one message without blocking and reports whether it may be
	// about an authenticator.
	receive func(fd int, buffer []byte) (relevant bool, err error)
}

func newKernelSource(fd int, name string, receive func(int, []byte) (bool, error)) (*kernelSource, error) {
	file := os.NewFile(uintptr(fd), name)
	raw, err := file.SyscallConn()
	if err == nil {
		// Fails if the runtime cannot wait for it.
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &kernelSource{file: file, raw: raw, receive: receive}, nil
}

func (s *kernelSource) wait(ctx context.Context) error {
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(longAgo) })
	defer stop()

	var (
		buffer   = make([]byte, maxUevent)
		relevant bool
		failed   error
	)
	err := s.raw.Read(func(fd uintptr) bool {
		// All that there is: plugging a key in makes a dozen messages, and one
		// list of the devices answers them all.
		for {
			r, err := s.receive(int(fd), buffer)
			switch {
			case err == syscall.EAGAIN:
				return relevant
			case err == syscall.EINTR:
				continue
			case err != nil:
				failed = err
				return true
			}
			relevant = relevant || r
			// A flood must not keep us here for ever.
			if ended(ctx) != nil {
				return true
			}
		}
	})
	if gaveUp := ended(ctx); gaveUp != nil {
		return gaveUp
	}
	return errors.Join(failed, err)
}

func (s *kernelSource) Close() error { return s.file.Close() }

const (
	netlinkKobjectUevent = 15
	fromKernel           = 1       // the group of messages that udev has not processed
	maxUevent            = 8 << 10 // the kernel's limit is 2 KiB and the path
)

var errUserNamespace = errors.New("the kernel tells only the first user namespace of its devices")

// newUevents listens to the kernel. Everyone may.
func newUevents() (changes, error) {
	if inner, err := inUserNamespace("/proc/self/uid_map"); inner || err != nil {
		return nil, errors.Join(errUserNamespace, err) // there the socket is silent
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, netlinkKobjectUevent)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: fromKernel}); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return newKernelSource(fd, "uevents", receiveUevent)
}

func receiveUevent(fd int, buffer []byte) (bool, error) {
	n, _, flags, from, err := syscall.Recvmsg(fd, buffer, nil, 0)
	switch {
	case err == syscall.ENOBUFS:
		return true, nil // messages were lost
	case err != nil:
		return false, err
	}
	if sender, ok := from.(*syscall.SockaddrNetlink); !ok || sender.Pid != 0 {
		return false, nil // not from the kernel
	}
	return flags&syscall.MSG_TRUNC != 0 || isHIDUevent(buffer[:n]), nil
}

// isHIDUevent reports whether a message of the kernel's is about a node for HID
// devices or about a USB device: "add@/devices/…", then settings, each with a
// zero byte behind it.
func isHIDUevent(message []byte) bool {
	header, settings, _ := bytes.Cut(message, []byte{0})
	if !bytes.Contains(header, []byte("@/")) {
		return false
	}
	for setting := range bytes.SplitSeq(settings, []byte{0}) {
		if key, value, _ := bytes.Cut(setting, []byte("=")); string(key) == "SUBSYSTEM" {
			return string(value) == "hidraw" || string(value) == "usb"
		}
	}
	return false
}

// inUserNamespace reports whether the process is in another user namespace than
// the first: there user IDs are mapped.
func inUserNamespace(uidMap string) (bool, error) {
	content, err := os.ReadFile(uidMap)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // a kernel without user namespaces
	}
	if err != nil {
		return false, err
	}
	return strings.Join(strings.Fields(string(content)), " ") != "0 0 4294967295", nil
}
