//go:build linux

package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// A polling is the hid.Conn of the socket that waits in poll, as a program in C
// does, instead of in Go's runtime, which is told of no system call. No library may
// do so: other goroutines would stand still. This program has none.
type polling struct{ deadline time.Time }

func (c *polling) Read(p []byte) (int, error) {
	for {
		n, err := call(syscall.SYS_READ, p)
		if err == nil && n == 0 {
			return 0, syscall.ECONNRESET // the key is gone
		}
		if err != syscall.EAGAIN {
			return n, err
		}
		if err := c.wait(); err != nil {
			return 0, err
		}
	}
}

// wait waits until there is something to read.
func (c *polling) wait() error {
	const in = 1 // POLLIN
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: descriptor, events: in}
	timeout := (*syscall.Timespec)(nil)
	if !c.deadline.IsZero() {
		t := syscall.NsecToTimespec(max(int64(time.Until(c.deadline)), 0))
		timeout = &t
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	switch {
	case errno != 0 && errno != syscall.EINTR:
		return errno
	case errno == 0 && n == 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *polling) Write(p []byte) (int, error) {
	return call(syscall.SYS_WRITE, p)
}

func (c *polling) SetReadDeadline(t time.Time) error { c.deadline = t; return nil }
func (c *polling) Close() error                      { return syscall.Close(descriptor) }

// call is a system call with the socket and a buffer.
func call(trap uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, descriptor, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
