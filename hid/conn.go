package hid

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A Conn carries HID reports to one device and back: 64 bytes each unless
// [WithReportSizes] says otherwise, and without a report ID. A platform's HID
// interface implements it, and so can a simulator behind UDP or a pipe:
// whatever keeps the borders between reports, like a connected net.UDPConn, a
// net.Pipe, or an os.File on a device node.
//
// A Device calls Read and Write from one goroutine at a time, SetReadDeadline
// and Close also while one of them is blocked.
//
// Two further abilities are used if the Conn has them: [Locker], and
// SetWriteDeadline(time.Time) error, which bounds each Write. Without it a
// Write must return within a bound of its own, or at the latest when the Conn
// is closed.
type Conn interface {
	// Read waits for one input report and copies it to p, which has the
	// report's full size. A read of fewer bytes is not a report: it is
	// dropped, and Read called again. Some USB stacks deliver an empty report
	// behind each answer.
	//
	// Once the read deadline is over, Read returns an error that wraps
	// os.ErrDeadlineExceeded or whose Timeout method reports true. Any other
	// error means that the device is gone.
	Read(p []byte) (int, error)
	// Write sends p, one output report of full size. It must not wait until
	// the answers to earlier reports are read. It must not keep p, which may
	// hold PIN material.
	Write(p []byte) (int, error)
	// SetReadDeadline bounds the Read that is waiting and those that follow,
	// as os.File and net.Conn do: a deadline in the past wakes a blocked Read.
	SetReadDeadline(t time.Time) error
	// Close releases the device and wakes a blocked Read or Write.
	Close() error
}

// A Locker is a [Conn] that other programs can have open at the same time, as
// they can a device node. A Device takes the lock before each exchange and
// gives it back behind it.
type Locker interface {
	// TryLock takes the lock if it is free and reports whether it did, without
	// waiting. The Device asks again until its context ends. Reports that
	// arrived before are of no use to anyone, and TryLock may drop them.
	TryLock() (bool, error)
	// Unlock gives the lock back.
	Unlock() error
}

// Bounds of a report's length in bytes: a packet needs its header and one
// byte, and USB knows no longer interrupt transfer than 1024 bytes.
const (
	minReportSize = initHeader + 1
	maxReportSize = 1024
)

// usable reports whether CTAPHID can work with reports of these lengths.
func usable(in, out int) bool {
	return minReportSize <= min(in, out) && max(in, out) <= maxReportSize
}

// An Option changes how [New] sets a Device up.
type Option func(*options)

type options struct{ in, out int }

// WithReportSizes says how many bytes input and output reports have, 8 to 1024
// each. Without it both have 64.
func WithReportSizes(in, out int) Option {
	return func(o *options) { o.in, o.out = in, out }
}

func applied(opts []Option) (options, error) {
	o := options{in: ctap.HIDReportSize, out: ctap.HIDReportSize}
	for _, opt := range opts {
		opt(&o)
	}
	if !usable(o.in, o.out) {
		return o, errors.New("report sizes are not within 8 to 1024 bytes")
	}
	return o, nil
}

// maxIdleReads is how many reads in a row may bring no report. One between two
// reports is usual; a Conn that never stops would otherwise keep a processor
// busy until the time limit.
const maxIdleReads = 256

// next returns the next packet for the channel, or errTimeout at the limit, or
// errInterrupted when the caller need not wait any longer. Packets for other
// channels, which other programs use, do not move the limit. The packet's data
// is valid until the next call. now is the time of the call, which most callers
// know, and limit one by the same clock, Device.now.
func (d *Device) next(channel uint32, now, limit time.Duration) (packet, error) {
	exact := false // the Conn's deadline is the limit, not an earlier one
	for idle := 0; idle < maxIdleReads; now = d.now() {
		// Not left to the deadline, although it may be over: a Conn may deliver
		// what it has all the same.
		if err := d.boundRead(now, limit, exact); err != nil {
			return packet{}, err
		}
		n, err := d.conn.Read(d.in)
		switch {
		case err != nil && !isTimeout(err):
			return packet{}, d.failure(err)
		case err != nil && d.interruption() != nil:
			return packet{}, errInterrupted
		case err != nil && exact:
			return packet{}, errTimeout
		case err != nil: // the deadline of an earlier packet, or wake's
			exact = true
			continue
		case n < len(d.in):
			idle++
			continue
		}
		idle = 0
		if to, p := parse(d.in); to == channel {
			return p, nil
		}
	}
	return packet{}, fmt.Errorf("%w: %w", ErrNoAnswer, io.ErrNoProgress)
}

// write sends the packet in d.out.
func (d *Device) write(within time.Duration) error {
	if d.writeDeadline != nil {
		// A Conn whose deadline cannot be set will say in Write what is wrong.
		_ = d.writeDeadline.SetWriteDeadline(time.Now().Add(within))
	}
	d.unclean = true
	n, err := d.conn.Write(d.out)
	if err == nil && n < len(d.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return d.failure(err)
	}
	return nil
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
