package hid

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A fakeHidapi is a device of hidapi that keeps the last 32 reports and
// notices what the library would not survive.
type fakeHidapi struct {
	t *testing.T

	mu      sync.Mutex
	calls   int // that run
	reports [][]byte
	written [][]byte
	err     error
	closed  bool
	busy    time.Duration                // of a write
	answer  func(report []byte) [][]byte // to what is written
	extra   int                          // that Write counts beyond the report
}

func (f *fakeHidapi) enter() func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.calls > 1 {
		f.t.Error("two calls at once")
	}
	if f.closed {
		f.t.Error("called after Close")
	}
	return func() {
		f.mu.Lock()
		f.calls--
		f.mu.Unlock()
	}
}

func (f *fakeHidapi) send(reports ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, reports...)
	if drop := len(f.reports) - 32; drop > 0 {
		f.reports = f.reports[drop:]
	}
}

func (f *fakeHidapi) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeHidapi) Write(b []byte) (int, error) {
	defer f.enter()()
	time.Sleep(f.busy)
	f.mu.Lock()
	f.written = append(f.written, bytes.Clone(b))
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if f.answer != nil {
		f.send(f.answer(b)...)
	}
	return len(b) + f.extra, nil
}

func (f *fakeHidapi) ReadTimeout(b []byte, timeout int) (int, error) {
	defer f.enter()()
	if timeout <= 0 {
		f.t.Errorf("a read of %d ms", timeout)
	}
	for wait := 0; ; wait++ {
		f.mu.Lock()
		switch {
		case len(f.reports) > 0:
			n := copy(b, f.reports[0])
			f.reports = f.reports[1:]
			f.mu.Unlock()
			return n, nil
		case f.err != nil || wait == timeout:
			err := f.err
			f.mu.Unlock()
			return 0, err
		}
		f.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

func (f *fakeHidapi) Close() error {
	defer f.enter()()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

var plain = reportLayout{in: 64, out: 64}

// The report ID goes in front of each report, also if that begins with 0.
func TestHidapiWrite(t *testing.T) {
	for name, test := range map[string]struct {
		layout reportLayout
		extra  int
	}{
		"no ID":   {plain, 0},
		"padded":  {plain, 1},
		"with ID": {reportLayout{in: 64, out: 64, inID: 2, outID: 7}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			device := &fakeHidapi{t: t, extra: test.extra}
			h := newHidapi(device, test.layout)
			report := counting(64)
			if n, err := h.Write(report); n != 64 || err != nil {
				t.Fatal(n, err)
			}
			if want := append([]byte{test.layout.outID}, report...); !bytes.Equal(device.written[0], want) {
				t.Errorf("wrote %x", device.written[0])
			}
			if err := h.Close(); err != nil || !device.closed {
				t.Error(err, device.closed)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// 129 reports arrive while nobody asks for them.
func TestHidapiReadsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := &fakeHidapi{t: t}
		h := newHidapi(device, plain)
		defer h.Close()
		for i := range 129 {
			device.send(bytes.Repeat([]byte{byte(i + 1)}, 64), nil) // and an empty one
			time.Sleep(time.Millisecond)
		}
		report := make([]byte, 64)
		for i := range 129 {
			if n, err := h.Read(report); n != 64 || err != nil || report[0] != byte(i+1) {
				t.Fatalf("report %d: %d, %v, %x", i, n, err, report[0])
			}
		}
	})
}

// The queue keeps the newest.
func TestHidapiQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHidapi(&fakeHidapi{t: t}, plain)
		defer h.Close()
		for i := range hidapiQueue + 3 {
			h.received([]byte{byte(i), byte(i >> 8)})
		}
		report := make([]byte, 64)
		for i := range hidapiQueue {
			if n, err := h.Read(report); err != nil || !bytes.Equal(report[:n], []byte{byte(i + 3), byte((i + 3) >> 8)}) {
				t.Fatalf("report %d: %x, %v", i, report[:n], err)
			}
		}
	})
}

func TestHidapiReportIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := &fakeHidapi{t: t}
		h := newHidapi(device, reportLayout{in: 4, out: 4, inID: 2, outID: 3})
		defer h.Close()
		device.send([]byte{1, 9, 9, 9, 9}, []byte{2, 1, 2, 3, 4})
		report := make([]byte, 4)
		if n, err := h.Read(report); err != nil || !bytes.Equal(report[:n], []byte{1, 2, 3, 4}) {
			t.Errorf("%x, %v", report[:n], err)
		}
	})
}

func TestHidapiDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := &fakeHidapi{t: t}
		h := newHidapi(device, plain)
		defer h.Close()
		read := func() error {
			_, err := h.Read(make([]byte, 64))
			return err
		}
		for range 2 { // the second with the timer of the first
			start := time.Now()
			if err := h.SetReadDeadline(start.Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
				t.Error(err, time.Since(start))
			}
		}
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		// One in the past wakes a Read that waits; none takes it back.
		if err := h.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		woken := make(chan error)
		go func() { woken <- read() }()
		synctest.Wait()
		if err := h.SetReadDeadline(longAgo); err != nil {
			t.Fatal(err)
		}
		if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := h.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		device.send(counting(64))
		if err := read(); err != nil {
			t.Error(err)
		}
	})
}

// Close wakes who reads, and waits for who writes.
func TestHidapiClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := &fakeHidapi{t: t, busy: time.Second}
		h := newHidapi(device, plain)
		read, written := make(chan error), make(chan error)
		go func() {
			_, err := h.Read(make([]byte, 64))
			read <- err
		}()
		synctest.Wait()
		go func() {
			_, err := h.Write(make([]byte, 64))
			written <- err
		}()
		synctest.Wait()
		h.received(counting(64))
		go h.Close()
		if err := <-read; err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		if err := <-written; err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		synctest.Wait()
		if !device.closed {
			t.Error("not closed")
		}
		for _, err := range []error{
			func() error { _, err := h.Read(nil); return err }(),
			func() error { _, err := h.Write(nil); return err }(),
			h.SetReadDeadline(time.Time{}),
		} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// What arrived before the end is read first; the end stays.
func TestHidapiFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("hidapi: hid_error is not implemented yet")
		device := &fakeHidapi{t: t}
		h := newHidapi(device, plain)
		defer h.Close()
		device.send(counting(64))
		device.fail(gone)
		report := make([]byte, 64)
		if n, err := h.Read(report); n != 64 || err != nil {
			t.Fatal(n, err)
		}
		for range 2 {
			if _, err := h.Read(report); err == nil || !strings.Contains(err.Error(), "read: libusb") {
				t.Error(err)
			}
			if _, err := h.Write(report); err == nil {
				t.Error("written")
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("no such device")
		device := &fakeHidapi{t: t}
		h := newHidapi(device, plain)
		defer h.Close()
		h.mu.Lock()
		h.writing = true // so that nobody reads
		h.mu.Unlock()
		time.Sleep(time.Second)
		device.fail(gone)
		if _, err := h.Write(counting(64)); err == nil || err.Error() != "write: no such device" {
			t.Error(err)
		}
	})
}

// A whole Device over it, with the largest message: no report is lost although
// the other end is faster than the reader.
func TestHidapiDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := &fakeHidapi{t: t}
		var message []byte
		device.answer = func(report []byte) [][]byte {
			if report[0] != 0 {
				t.Fatalf("report ID %d", report[0])
			}
			report = report[1:]
			if report[4] == 0x86 {
				return reports(64, binary.BigEndian.Uint32(report), ctap.HIDInit, append(bytes.Clone(report[7:15]), 0, 0, 0, 5, 2, 0, 0, 0, 4))
			}
			message = append(message, report...)
			if len(message) < 129*64 {
				return nil
			}
			go func() {
				for _, r := range reports(64, 5, ctap.HIDPing, counting(7609)) {
					device.send(r)
					time.Sleep(time.Millisecond)
				}
			}()
			return nil
		}
		d, err := New(t.Context(), newHidapi(device, plain))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := d.Ping(t.Context(), counting(7609))
		if err != nil || !bytes.Equal(answer, counting(7609)) {
			t.Error(len(answer), err)
		}
		device.fail(errors.New("gone"))
		_, err = d.Ping(t.Context(), nil)
		mustMatch(t, err, ErrDeviceGone)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
