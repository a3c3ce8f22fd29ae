package hidtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// ErrUnplugged is what Read and Write return once the device is unplugged.
// Package hid wraps it in hid.ErrDeviceGone.
var ErrUnplugged = errors.New("hidtest: unplugged")

// A Handler answers the messages that a Device gets. It is called when the
// last report of a message is written, by the goroutine that writes it, and
// may call the Device's methods. m.Data is its own.
type Handler func(m Message) Answer

// Answers are what messages of each command are answered with, [Default] where
// there is no entry.
type Answers map[byte]Answer

// Handle is a [Handler].
func (a Answers) Handle(m Message) Answer { return a[m.Command] }

// Limits of what a Device keeps. No test comes near them but one that runs
// away.
const (
	maxReceived = 1 << 12
	maxQueue    = 1 << 16
)

// A Device is a hid.Conn to a device in memory. Its methods are safe from
// several goroutines, and those that do not return an error never fail.
type Device struct {
	in, out      int
	capabilities byte

	mu        sync.Mutex
	changed   chan struct{} // closed at each change that a Read may wait for
	deadline  time.Time
	queue     []queued // by time
	broken    error    // what Read and Write return
	handler   Handler
	intercept func(report []byte) [][]byte
	received  []Message
	last      Message // the latest that came
	channel   uint32  // the latest that was given away

	// The message that is arriving. A device has room for one.
	part     Message
	missing  int // bytes
	sequence byte
}

type queued struct {
	at     time.Time
	report []byte // nil: the device is unplugged
}

// An Option changes how [New] makes a Device.
type Option func(*Device)

// WithReportSizes says how many bytes the reports that the device sends, and
// those that it gets, have: 8 to 1024. Without it both have 64. hid.New has to
// be told the same.
func WithReportSizes(in, out int) Option {
	return func(d *Device) { d.in, d.out = in, out }
}

// WithCapabilities says what the device claims in its answer to CTAPHID_INIT
// (§11.2.9.1.3): 0x01 for WINK, 0x04 for CBOR, 0x08 for no MSG. Without it the
// device claims 0x05.
func WithCapabilities(capabilities byte) Option {
	return func(d *Device) { d.capabilities = capabilities }
}

// New returns a device whose messages h answers; if h is nil, each gets
// [Default]. It gives channels away from 0x11 on.
func New(h Handler, options ...Option) *Device {
	d := &Device{
		in:           ctap.HIDReportSize,
		out:          ctap.HIDReportSize,
		capabilities: ctap.HIDCapabilityWink | ctap.HIDCapabilityCBOR,
		handler:      h,
		changed:      make(chan struct{}),
		channel:      0x10,
	}
	for _, o := range options {
		o(d)
	}
	if min(d.in, d.out) <= startHeader {
		d.broken = fmt.Errorf("hidtest: reports of %d and %d bytes are too short", d.in, d.out)
	}
	return d
}

// Handle lets h answer the messages to come. If h is nil, each gets [Default].
func (d *Device) Handle(h Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handler = h
}

// Intercept lets f see each report that the host writes before the device gets
// it, and gives the device what f returns in its place: nothing for a report
// that is lost, two for one that is repeated, an earlier one that was held
// back. f is called by the goroutine that writes, and may call the Device's
// methods. If f is nil, reports arrive as they were written.
//
// A message with a report missing from its middle is answered with
// ERR_INVALID_SEQ, and one whose end is missing not at all.
func (d *Device) Intercept(f func(report []byte) [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.intercept = f
}

// Send sends an answer, to the message that came last, that no [Handler] has
// given: one that is late, or that nobody asked for.
func (d *Device) Send(a Answer) {
	d.mu.Lock()
	last := d.last
	d.mu.Unlock()
	d.send(a, last)
}

// Unplug lets all reads and writes fail with [ErrUnplugged], for good, those
// that wait included. What was sent and not read is lost.
func (d *Device) Unplug() { d.fail(ErrUnplugged) }

// Received returns the messages that have arrived since it was last called,
// the latest 4096 at most, CTAPHID_INIT and CTAPHID_CANCEL included.
func (d *Device) Received() []Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	received := d.received
	d.received = nil
	return received
}

// Read waits for the next report, as hid.Conn wants it.
func (d *Device) Read(p []byte) (int, error) {
	for {
		d.mu.Lock()
		n, wait, err := d.readLocked(p)
		changed := d.changed
		d.mu.Unlock()
		if wait == 0 {
			return n, err
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-changed:
		case <-due:
		}
	}
}

// readLocked reads what is there, or says how long there will be nothing:
// for ever if wait is negative.
func (d *Device) readLocked(p []byte) (n int, wait time.Duration, err error) {
	now := time.Now()
	switch {
	case d.broken != nil:
		return 0, 0, d.broken
	case !d.deadline.IsZero() && !now.Before(d.deadline):
		return 0, 0, os.ErrDeadlineExceeded
	case len(d.queue) > 0 && !now.Before(d.queue[0].at):
		next := d.queue[0]
		d.queue = d.queue[1:]
		if next.report == nil {
			d.failLocked(ErrUnplugged)
			return 0, 0, ErrUnplugged
		}
		return copy(p, next.report), 0, nil
	}
	wait = -1
	if !d.deadline.IsZero() {
		wait = d.deadline.Sub(now)
	}
	if len(d.queue) > 0 && (wait < 0 || d.queue[0].at.Sub(now) < wait) {
		wait = d.queue[0].at.Sub(now)
	}
	return 0, wait, nil
}

// Write takes a report, as hid.Conn wants it.
func (d *Device) Write(p []byte) (int, error) {
	d.mu.Lock()
	now := time.Now()
	if slices.ContainsFunc(d.queue, func(q queued) bool { return q.report == nil && !now.Before(q.at) }) {
		d.failLocked(ErrUnplugged)
	}
	broken, intercept := d.broken, d.intercept
	d.mu.Unlock()
	switch {
	case broken != nil:
		return 0, broken
	case len(p) != d.out:
		return 0, fmt.Errorf("hidtest: a report of %d bytes, want %d", len(p), d.out)
	}
	arriving := [][]byte{p}
	if intercept != nil {
		arriving = intercept(bytes.Clone(p))
	}
	for _, report := range arriving {
		d.arrive(report)
	}
	return len(p), nil
}

// arrive takes a report in, and answers the message that it completes.
func (d *Device) arrive(report []byte) {
	d.mu.Lock()
	m, refusal, complete := d.collectLocked(report)
	handler := d.handler
	d.mu.Unlock()
	switch {
	case refusal != 0:
		d.send(Error(refusal), m)
	case complete && handler == nil:
		d.send(Default(), m)
	case complete:
		d.send(handler(Message{m.Channel, m.Command, bytes.Clone(m.Data)}), m)
	}
}

// collectLocked adds a report to the message that is arriving. refusal is the
// code of the error that ends the message, if any.
func (d *Device) collectLocked(report []byte) (m Message, refusal byte, complete bool) {
	if d.broken != nil || len(report) != d.out {
		return Message{}, 0, false
	}
	channel, kind := binary.BigEndian.Uint32(report), report[4]
	var data []byte
	switch {
	case kind&ctap.HIDInitBit != 0:
		d.part = Message{Channel: channel, Command: kind &^ ctap.HIDInitBit}
		d.missing = int(binary.BigEndian.Uint16(report[5:]))
		d.sequence = 0
		data = report[startHeader:]
		if d.missing > longest(d.out) {
			d.missing = 0
			return d.part, ctap.HIDErrInvalidLen, false
		}
	case d.missing == 0 || channel != d.part.Channel:
		return Message{}, 0, false // the rest of nothing
	case kind != d.sequence:
		d.missing = 0
		return d.part, ctap.HIDErrInvalidSeq, false
	default:
		d.sequence++
		data = report[nextHeader:]
	}
	data = data[:min(len(data), d.missing)]
	d.part.Data = append(d.part.Data, data...)
	if d.missing -= len(data); d.missing > 0 {
		return Message{}, 0, false
	}
	d.last = d.part
	if d.received = append(d.received, d.part); len(d.received) > maxReceived {
		d.received = d.received[1:]
	}
	return d.part, 0, true
}

// obey does what the specification says.
func (d *Device) obey(m Message) Answer {
	switch m.Command {
	case CommandInit:
		if len(m.Data) != ctap.HIDNonceLength {
			return Error(ctap.HIDErrInvalidLen)
		}
		return Reply(d.welcome(m))
	case CommandCBOR:
		return Success(m.Data)
	case CommandMsg:
		return Reply(append(bytes.Clone(m.Data), 0x90, 0x00))
	case CommandPing:
		return Reply(m.Data)
	case CommandWink, CommandLock:
		return Reply(nil)
	case CommandCancel:
		return Silence()
	}
	return Error(ctap.HIDErrInvalidCmd)
}

// welcome is the reply to CTAPHID_INIT.
func (d *Device) welcome(m Message) []byte {
	channel := m.Channel
	if channel == ctap.HIDBroadcast {
		d.mu.Lock()
		d.channel++
		channel = d.channel
		d.mu.Unlock()
	}
	reply := binary.BigEndian.AppendUint32(bytes.Clone(m.Data), channel)
	return append(reply, ctap.HIDVersion, 1, 2, 3, d.capabilities)
}

// send queues the events of an answer.
func (d *Device) send(a Answer, to Message) {
	events, err := a.events(d, to)
	if err != nil {
		d.fail(err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return
	}
	if len(d.queue)+len(events) > maxQueue {
		d.failLocked(fmt.Errorf("hidtest: %d reports that nobody reads", len(d.queue)+len(events)))
		return
	}
	at := time.Now()
	for _, e := range events {
		at = at.Add(e.after)
		// Behind what is due at the same time.
		i, _ := slices.BinarySearchFunc(d.queue, at, func(q queued, at time.Time) int {
			if q.at.After(at) {
				return 1
			}
			return -1
		})
		d.queue = slices.Insert(d.queue, i, queued{at, e.report})
	}
	d.changedLocked()
}

// SetReadDeadline bounds Read, as hid.Conn wants it.
func (d *Device) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deadline = t
	d.changedLocked()
	return nil
}

// Close lets all reads and writes fail with os.ErrClosed, those that wait
// included. It always succeeds, also when it is called again.
func (d *Device) Close() error {
	d.fail(os.ErrClosed)
	return nil
}

func (d *Device) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failLocked(err)
}

// failLocked ends the device, unless it has ended for another reason.
func (d *Device) failLocked(err error) {
	if d.broken == nil {
		d.broken = err
	}
	d.queue = nil
	d.changedLocked()
}

func (d *Device) changedLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}
