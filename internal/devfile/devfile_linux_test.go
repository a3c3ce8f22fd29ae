package devfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair returns a File, and the other end of its socket.
func pair(t *testing.T) (*File, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { near.Close(); far.Close() })
	f, err := New(near)
	if err != nil {
		t.Fatal(err)
	}
	return f, far
}

func TestRead(t *testing.T) {
	f, far := pair(t)
	p := make([]byte, 8)
	// What is there, and what comes while Read waits.
	for _, late := range []bool{false, true} {
		written := make(chan error, 1)
		write := func() { _, err := far.Write([]byte("report")); written <- err }
		if late {
			time.AfterFunc(time.Millisecond, write)
		} else {
			write()
		}
		n, err := f.Read(p)
		if err != nil || !bytes.Equal(p[:n], []byte("report")) {
			t.Errorf("late %v: Read = %q, %v", late, p[:n], err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v", n, err)
	}
}

func TestReadEnds(t *testing.T) {
	f, far := pair(t)
	p := make([]byte, 8)
	if err := f.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Millisecond, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	if _, err := f.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at a deadline that is set meanwhile: %v", err)
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(p); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(p); err == nil {
		t.Error("a closed file is read")
	}
}

// A read that fails says how, and of which file.
func TestReadFails(t *testing.T) {
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	f, err := New(folder)
	if err != nil {
		t.Fatal(err)
	}
	var failed *os.PathError
	if _, err := f.Read(make([]byte, 8)); !errors.As(err, &failed) || failed.Err != syscall.EISDIR || failed.Path != folder.Name() {
		t.Errorf("a folder: %v", err)
	}
}

func TestCloseWakesRead(t *testing.T) {
	f, _ := pair(t)
	time.AfterFunc(time.Millisecond, func() { _ = f.Close() })
	if _, err := f.Read(make([]byte, 8)); err == nil {
		t.Error("a closed file is read")
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	f, far := pair(t)
	p := make([]byte, 64)
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := far.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(p); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}
