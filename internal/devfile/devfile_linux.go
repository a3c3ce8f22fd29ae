// Package devfile reads device nodes cheaply: reports that come one by one, a
// millisecond or more apart, so that each read waits.
package devfile

import (
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// A File reads and writes the device node of an [os.File], for half the processor
// time. The os.File's Read tells the runtime of each system call, as it must of
// one that may take long, and so wakes the runtime's monitor thread each time that
// the program was idle. A read that does not block needs no watch.
//
// The race detector does not see what Read does: that a report was written and
// then read orders nothing, in its eyes, when both happen in one program.
type File struct {
	file *os.File
	conn syscall.RawConn
	try  func(fd uintptr) bool // f.read, made once

	// Of the Read that runs.
	p     []byte
	n     int
	errno syscall.Errno
}

// New returns the File of f, which must be in non-blocking mode and stay in it:
// nobody may ask for its Fd. A read that did block would stop the program.
func New(f *os.File) (*File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	file := &File{file: f, conn: conn}
	file.try = file.read
	return file, nil
}

// Read waits and returns as os.File's does, but is for one goroutine at a time,
// and its error of a closed file is another.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.p = p
	err := f.conn.Read(f.try) // waits for more as long as try returns false
	f.p = nil
	switch {
	case err != nil:
		return 0, err
	case f.errno != 0:
		return 0, &os.PathError{Op: "read", Path: f.file.Name(), Err: f.errno}
	case f.n == 0:
		return 0, io.EOF
	}
	return f.n, nil
}

// Write is os.File's. It has no deadline: a write to a device node blocks.
func (f *File) Write(p []byte) (int, error) { return f.file.Write(p) }

// SetReadDeadline is os.File's.
func (f *File) SetReadDeadline(t time.Time) error { return f.file.SetReadDeadline(t) }

// Close is os.File's.
func (f *File) Close() error { return f.file.Close() }

// read reports whether it has read, or failed to: anything but that there is
// nothing yet.
func (f *File) read(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&f.p[0])), uintptr(len(f.p)))
		if errno != syscall.EINTR {
			f.n, f.errno = int(n), errno
			return errno != syscall.EAGAIN
		}
	}
}
