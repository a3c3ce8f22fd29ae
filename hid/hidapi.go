package hid

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A hidapiDevice is a device as package github.com/karalabe/hid opens it with
// the C library hidapi, but for Write, which takes the report ID in front of
// the report on every system, 0 if there is none. A report without it would
// lose a first byte that is 0, as those for a channel below 0x01000000 have.
type hidapiDevice interface {
	Write(b []byte) (int, error)
	// ReadTimeout returns 0 bytes when the time, in ms, is over, and for an
	// empty report, such as some USB stacks deliver behind each answer.
	ReadTimeout(b []byte, timeout int) (int, error)
	Close() error
}

const (
	// hidapiPoll is how long a read of hidapi lasts that nothing arrives for:
	// neither a write nor closing can interrupt it.
	hidapiPoll = 10 * time.Millisecond
	// hidapiQueue is how many reports wait to be read, four times as many as
	// the largest message has.
	hidapiQueue = 4 * 129
)

// A hidapi is a Conn over hidapi. Of what hidapi has received it keeps the
// last 32 reports only, fewer than a large message has: so a goroutine reads
// ahead, into a queue that is long enough.
//
// hidapi must not be called from two threads at once: closing frees what a
// read still uses, and on some systems two calls that fail free the same error
// text. While a message is written, nobody reads: what arrives then cannot be
// the answer, and the 32 that hidapi keeps are enough.
type hidapi struct {
	device hidapiDevice
	layout reportLayout
	out    []byte        // a report and its ID
	done   chan struct{} // closed when the goroutine has ended
	calls  chan struct{} // holds an item during each call of device

	mu       sync.Mutex
	changed  *sync.Cond // with mu: any of the following
	queue    [][]byte
	writing  bool  // a message is being written
	failed   error // of a read
	closed   bool
	deadline time.Time
	timer    *time.Timer // wakes Read at the deadline
}

func newHidapi(device hidapiDevice, layout reportLayout) *hidapi {
	h := &hidapi{
		device: device, layout: layout,
		out:   make([]byte, 1+layout.out),
		done:  make(chan struct{}),
		calls: make(chan struct{}, 1),
	}
	h.changed = sync.NewCond(&h.mu)
	go h.readAhead()
	return h
}

func (h *hidapi) readAhead() {
	defer close(h.done)
	report := make([]byte, 1+h.layout.in)
	for h.mayRead() {
		h.calls <- struct{}{}
		n, err := h.device.ReadTimeout(report, int(hidapiPoll/time.Millisecond))
		<-h.calls
		if err != nil {
			h.mu.Lock()
			h.failed = hidapiError("read", err)
			h.changed.Broadcast()
			h.mu.Unlock()
			return
		}
		h.received(report[:n])
		clear(report[:n])
	}
}

// mayRead waits while a message is written. It reports false when the device
// is to be closed.
func (h *hidapi) mayRead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.writing && !h.closed {
		h.changed.Wait()
	}
	return !h.closed
}

// received takes a report into the queue.
func (h *hidapi) received(report []byte) {
	if len(report) == 0 {
		return
	}
	if id := h.layout.inID; id != 0 {
		if report[0] != id {
			return // of something else on the same interface
		}
		report = report[1:]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == hidapiQueue {
		clear(h.queue[0])
		h.queue = h.queue[1:]
	}
	h.queue = append(h.queue, append([]byte(nil), report...))
	h.changed.Broadcast()
}

func (h *hidapi) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing = false
	h.changed.Broadcast()
	for {
		switch {
		case h.closed:
			return 0, os.ErrClosed
		case !h.deadline.IsZero() && !time.Now().Before(h.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(h.queue) > 0:
			n := copy(p, h.queue[0])
			clear(h.queue[0])
			h.queue = h.queue[1:]
			return n, nil
		case h.failed != nil:
			return 0, h.failed
		}
		h.changed.Wait()
	}
}

// Write has no deadline: hidapi gives up after a second, and IOKit, on macOS,
// by its own rules.
func (h *hidapi) Write(p []byte) (int, error) {
	h.mu.Lock()
	h.writing = true
	err := h.failed
	h.mu.Unlock()
	if err != nil {
		return 0, err
	}

	h.calls <- struct{}{}
	defer func() { <-h.calls }()
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return 0, os.ErrClosed
	}
	h.out[0] = h.layout.outID
	copy(h.out[1:], p)
	n, err := h.device.Write(h.out)
	clear(h.out)
	if err != nil {
		return 0, hidapiError("write", err)
	}
	return min(max(n-1, 0), len(p)), nil // Windows pads, and counts what it adds
}

func (h *hidapi) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	h.deadline = t
	if h.timer != nil {
		h.timer.Stop()
	}
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		if h.timer == nil {
			h.timer = time.AfterFunc(wait, h.wake)
		} else {
			h.timer.Reset(wait)
		}
	}
	h.changed.Broadcast()
	return nil
}

func (h *hidapi) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed.Broadcast()
}

// Close waits for the call of hidapi that runs, which is bounded.
func (h *hidapi) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	for _, report := range h.queue {
		clear(report)
	}
	h.queue = nil
	h.changed.Broadcast()
	h.mu.Unlock()

	<-h.done
	h.calls <- struct{}{}
	defer func() { <-h.calls }()
	return h.device.Close()
}

// hidapiError says what failed where hidapi itself cannot: over libusb it has
// one text for all errors, about itself.
func hidapiError(operation string, err error) error {
	if strings.Contains(err.Error(), "not implemented") {
		err = errors.New("libusb does not say why")
	}
	return fmt.Errorf("%s: %w", operation, err)
}
