package hid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// How long a Device waits for the device, whatever the context allows.
const (
	// AnswerTimeout bounds the wait for the first packet of an answer. Each
	// keepalive starts it anew. Packets for other channels do not.
	AnswerTimeout = 5 * time.Second
	// PacketTimeout bounds the wait between two packets of a message, and each
	// write if the [Conn] can bound writes.
	PacketTimeout = 2 * time.Second
	// InitTimeout bounds the wait for the reply to CTAPHID_INIT. Before an
	// exchange a third of it is for the Device's own channel, and the rest for
	// the broadcast channel if need be.
	InitTimeout = 3 * time.Second
	// CancelTimeout bounds the time from the end of a context to the return of
	// the call, while the device is given the chance to say how far it came. A
	// write that is stuck adds to it.
	CancelTimeout = time.Second

	busyPause  = 100 * time.Millisecond // before a message is sent again
	lockPause  = 20 * time.Millisecond  // before the Locker is asked again
	closeGrace = time.Second            // for a running exchange to leave
)

// A Device is one channel to one authenticator. Its methods are safe from
// several goroutines; one exchange runs at a time, and the others wait for
// their turn or for the end of their context.
type Device struct {
	conn          Conn
	made          time.Time // where the Device's own clock starts
	locker        Locker    // nil if conn is none
	writeDeadline interface {
		SetWriteDeadline(t time.Time) error
	} // nil if conn has none

	closed chan struct{}
	onEnd  func()        // d.wake, made once
	turn   chan struct{} // holds an item while an exchange runs

	// Used by the exchange that runs alone. in and out carry PIN material and
	// are wiped behind each exchange.
	in, out []byte
	// unclean: what was sent last did not end with an answer to it. The channel
	// must be set right before the next message.
	unclean bool
	// owed, if unclean: the device may still answer what was sent last.
	owed bool

	// mu guards the read deadline, which a context that ends moves to the
	// past, and the fields below.
	mu           sync.Mutex
	readDeadline time.Duration // of the last boundRead
	// watched is the context of the exchange that runs, as long as its end is
	// to interrupt a read. The function that a context calls when it ends may
	// run late, in the time of the next exchange: so it asks watched.
	watched      context.Context
	channel      uint32 // written by the exchange that runs alone
	version      Version
	capabilities Capabilities
}

// New sets up a channel on conn with CTAPHID_INIT (§11.2.9.1.3). The Device
// owns conn from then on and closes it in [Device.Close]. If New fails, conn
// stays the caller's, and is not closed.
//
// The error is that of ctx if it ends first, [ErrNoAnswer] if the device does
// not answer within [InitTimeout], or [ErrDeviceGone].
func New(ctx context.Context, conn Conn, opts ...Option) (*Device, error) {
	o, err := applied(opts)
	if err != nil {
		return nil, fmt.Errorf("hid: %w", err)
	}
	d := &Device{
		conn:    conn,
		made:    time.Now(),
		channel: ctap.HIDBroadcast,
		closed:  make(chan struct{}),
		turn:    make(chan struct{}, 1),
		in:      make([]byte, o.in),
		out:     make([]byte, o.out),
	}
	d.onEnd = d.wake
	d.locker, _ = conn.(Locker)
	d.writeDeadline, _ = conn.(interface{ SetWriteDeadline(time.Time) error })

	stop, err := d.begin(ctx)
	if err == nil {
		err = d.initialize(ctap.HIDBroadcast, InitTimeout)
		d.end(stop)
	}
	if err != nil {
		return nil, fmt.Errorf("hid: CTAPHID_INIT: %w", err)
	}
	return d, nil
}

// Close closes the Conn. A running exchange tells the device to cancel and
// returns [ErrClosed], as do those that wait for their turn and all later
// ones. Closing again does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.isClosed() {
		d.mu.Unlock()
		return nil
	}
	close(d.closed)
	_ = d.conn.SetReadDeadline(longAgo)
	d.mu.Unlock()

	// The exchange that runs leaves at once, unless a write or the caller's
	// status function is stuck: closing the Conn ends the one, and nothing the
	// other. The turn is never given back.
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case d.turn <- struct{}{}:
	case <-grace.C:
	}
	if err := d.conn.Close(); err != nil {
		return fmt.Errorf("hid: close: %w", err)
	}
	return nil
}

func (d *Device) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// begin waits for the exchange's turn. stop is for end.
func (d *Device) begin(ctx context.Context) (stop func() bool, err error) {
	if d.isClosed() {
		return nil, ErrClosed
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	select {
	case d.turn <- struct{}{}: // at once, for less than the select below
	default:
		select {
		case d.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ended(ctx)
		case <-d.closed:
			return nil, ErrClosed
		}
	}
	if err := d.lock(ctx); err != nil {
		<-d.turn
		return nil, err
	}
	d.mu.Lock()
	d.watched = ctx
	d.mu.Unlock()
	if ctx.Done() == nil {
		return func() bool { return true }, nil
	}
	return context.AfterFunc(ctx, d.onEnd), nil
}

// end is for what begin let in.
func (d *Device) end(stop func() bool) {
	stop()
	d.unwatch()
	clear(d.in)
	clear(d.out)
	if d.locker != nil {
		// Closing the Conn gives the lock back too; there is nobody to tell.
		_ = d.locker.Unlock()
	}
	<-d.turn
}

// lock keeps other programs out for the length of an exchange.
func (d *Device) lock(ctx context.Context) error {
	for d.locker != nil {
		got, err := d.locker.TryLock()
		if err != nil {
			return d.failure(err)
		}
		if got {
			return nil
		}
		pause := time.NewTimer(lockPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: another program has the device locked", ended(ctx))
		case <-d.closed:
			pause.Stop()
			return ErrClosed
		}
	}
	return nil
}

var longAgo = time.Unix(1, 0)

// What next returns when it has no packet. Neither reaches a caller.
var (
	errInterrupted = errors.New("interrupted")
	errTimeout     = errors.New("time limit")
)

// wake ends a blocked read if nobody needs to wait for it any longer.
func (d *Device) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.interruptionLocked() != nil {
		_ = d.conn.SetReadDeadline(longAgo)
	}
}

// boundRead makes the next read, at now, end at the limit or, unless exact, earlier. It
// returns errTimeout or errInterrupted where nobody needs to read. What makes
// wake end a read is seen here, or wake comes later and ends the read.
func (d *Device) boundRead(now, limit time.Duration, exact bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.interruptionLocked() != nil:
		return errInterrupted
	case now >= limit:
		return errTimeout
	case !exact && now < d.readDeadline && d.readDeadline <= limit:
		// That of an earlier packet will do. To set one for each keeps the
		// runtime busy with its timers.
		return nil
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(limit - d.now())); err != nil {
		return fmt.Errorf("%w: %w", ErrDeviceGone, err)
	}
	d.readDeadline = limit
	return nil
}

// now is the time since the Device was made, by the clock that nobody sets. It
// costs half of what time.Now does, which asks the other clock too.
func (d *Device) now() time.Duration { return time.Since(d.made) }

// unwatch lets the exchange go on reading although its context has ended.
func (d *Device) unwatch() {
	d.mu.Lock()
	d.watched = nil
	d.mu.Unlock()
}

// interruption returns why the exchange that runs need not go on: ErrClosed,
// or the error of its context, or nil if it must.
func (d *Device) interruption() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.interruptionLocked()
}

func (d *Device) interruptionLocked() error {
	switch {
	case d.isClosed():
		return ErrClosed
	case d.watched != nil:
		return ended(d.watched)
	}
	return nil
}

// ended returns the error of a context that has ended, with its cause.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// failure says what an error of the Conn means.
func (d *Device) failure(err error) error {
	switch {
	case d.isClosed():
		return ErrClosed
	case isTimeout(err):
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return fmt.Errorf("%w: %w", ErrDeviceGone, err)
}

// A Version is what a device says of itself in its answer to CTAPHID_INIT.
type Version struct {
	Protocol            byte // of CTAPHID: 2
	Major, Minor, Build byte // of the device, by its maker's own rules
}

// Capabilities are the abilities that a device claims in its answer to
// CTAPHID_INIT. Devices were seen that claim wrongly.
type Capabilities byte

const (
	CapabilityWink Capabilities = ctap.HIDCapabilityWink // CTAPHID_WINK
	CapabilityCBOR Capabilities = ctap.HIDCapabilityCBOR // CTAPHID_CBOR
	CapabilityNMSG Capabilities = ctap.HIDCapabilityNMSG // no CTAPHID_MSG
)

// String returns the specification's names, such as "WINK, CBOR", and the rest
// of the bits as a number; or "none".
func (c Capabilities) String() string {
	var names []string
	for _, known := range []struct {
		bit  Capabilities
		name string
	}{{CapabilityWink, "WINK"}, {CapabilityCBOR, "CBOR"}, {CapabilityNMSG, "NMSG"}} {
		if c&known.bit != 0 {
			names = append(names, known.name)
			c &^= known.bit
		}
	}
	switch {
	case c != 0:
		names = append(names, fmt.Sprintf("%#02x", byte(c)))
	case names == nil:
		return "none"
	}
	return strings.Join(names, ", ")
}

// Capabilities returns what the device claims to be able to do.
func (d *Device) Capabilities() Capabilities {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.capabilities
}

// Version returns what the device says of its versions.
func (d *Device) Version() Version {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// Channel returns the channel that the device has given us. Another one takes
// its place after an exchange that ended without an answer, and when the
// device has forgotten it.
func (d *Device) Channel() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel
}

// MaxMessageSize returns the length in bytes of the largest message that can
// be sent: 7609 with reports of 64 bytes (§11.2.4). What the authenticator
// takes, maxMsgSize in getInfo, is usually less.
func (d *Device) MaxMessageSize() int { return maxMessage(len(d.out)) }
