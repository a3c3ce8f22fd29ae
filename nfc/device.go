package nfc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
)

// How long a Device waits for the card, whatever the context allows.
const (
	// AnswerTimeout bounds the wait for the response to one APDU, and for other
	// programs to let go of the card. It is long because a card that does not
	// know NFCCTAP_GETRESPONSE says nothing while it waits for a touch.
	AnswerTimeout = 2 * time.Minute
	// CancelTimeout bounds the time from the end of a context to the return of
	// the call, while the card is given the chance to say how far it came.
	CancelTimeout = time.Second

	pollPause  = 100 * time.Millisecond // between two NFCCTAP_GETRESPONSE
	endTimeout = time.Second            // for NFCCTAP_CONTROL at the end
)

// A Device is one authenticator that speaks through a [Card]. Its methods are
// safe from several goroutines; one exchange runs at a time, and the others
// wait for their turn or for the end of their context.
type Device struct {
	card       Card
	transactor Transactor // nil if card is none
	reader     string

	closed chan struct{}
	turn   chan struct{} // holds an item while an exchange runs

	// Used by the exchange that runs alone.
	carrier *carrier // of the last exchange; may still be with the card
	// unclean: the last command did not come to its end, and the card may
	// still be at it. The application is to be selected anew.
	unclean bool
	// spoken: the application has answered since it was selected.
	spoken bool
	chain  bool // APDUs of extended length do not get through
	// carried is how much data has got through in an APDU of extended length,
	// at most. With more, a reader's failure may be for want of room.
	carried int
	// swapped: GET RESPONSE takes the other class, for commands of class 00 and
	// of class 80.
	swapped [2]bool
	gone    error // why there is no card any longer

	mu      sync.Mutex // guards closing, and version
	version string
}

// New selects the FIDO application of the card (§11.3.3). The Device owns card
// from then on and closes it in [Device.Close]. If New fails, card stays the
// caller's, and is not closed; its Transmit may still be running if the
// context has ended.
//
// The error is [ErrNotFIDO] if the card has no such application, with the
// [StatusWord] that it gave, and otherwise one of [Device.Exchange].
func New(ctx context.Context, card Card) (*Device, error) {
	d, err := newDevice(ctx, card)
	if err != nil {
		return nil, fmt.Errorf("nfc: %w", err)
	}
	return d, nil
}

func newDevice(ctx context.Context, card Card) (*Device, error) {
	d := &Device{card: card, closed: make(chan struct{}), turn: make(chan struct{}, 1)}
	d.transactor, _ = card.(Transactor)
	x, err := d.begin(ctx)
	if err == nil {
		err = x.reselect()
		x.end()
	}
	if err != nil {
		return nil, fmt.Errorf("SELECT: %w", err)
	}
	return d, nil
}

// The answers to SELECT (§11.3.3).
const (
	VersionU2F   = "U2F_V2"   // U2F, and perhaps CTAP2: getInfo tells
	VersionFIDO2 = "FIDO_2_0" // CTAP2, of whatever version, and no U2F
)

const maxVersion = 64 // bytes

// Version returns what the card said when the FIDO application was selected:
// [VersionU2F] or [VersionFIDO2]. A few cards say more, of which it has the
// first 64 bytes, without characters that do not print.
func (d *Device) Version() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// printable leaves out what could move a terminal's cursor.
func printable(b []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, b))
}

// Reader returns the name of the reader that [Open] or [OpenFirst] opened, and
// is empty if the Device comes from [New].
func (d *Device) Reader() string { return d.reader }

// MaxMessageSize returns the length in bytes of the largest message that can
// be sent: 65526. What the authenticator takes, maxMsgSize in getInfo, is
// usually less.
func (d *Device) MaxMessageSize() int { return maxMessage }

// Close ends the use of the application with NFCCTAP_CONTROL (§11.3.4), with
// which its PIN/UV tokens end, and closes the Card. A running exchange tells
// the card to cancel and returns [ErrClosed], as do those that wait for their
// turn and all later ones. Closing again does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.isClosed() {
		d.mu.Unlock()
		return nil
	}
	close(d.closed)
	d.mu.Unlock()

	// The exchange that runs leaves soon, unless the caller's status function
	// is stuck. The turn is never given back.
	grace := time.NewTimer(CancelTimeout + endTimeout)
	defer grace.Stop()
	select {
	case d.turn <- struct{}{}:
		d.deselect()
	case <-grace.C:
	}
	if err := d.card.Close(); err != nil {
		return fmt.Errorf("nfc: close: %w", err)
	}
	return nil
}

// deselect says good-bye. Nobody waits for the answer to be a friendly one.
func (d *Device) deselect() {
	if d.gone != nil {
		return
	}
	x := &exchange{d: d, ctx: context.Background(), gaveUp: ErrClosed, limit: time.Now().Add(endTimeout)}
	if x.begin() == nil {
		_, _, _ = x.transmit([]byte{claCTAP, insControl, p1ControlEnd, 0})
	}
	if x.carrier != nil {
		close(x.carrier.commands)
		_, _ = await(x, x.carrier.done)
	}
}

func (d *Device) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// A carrier calls the Card, in a goroutine of its own: Transmit takes as long
// as it takes, and neither a context nor Close can hurry it. It lives as long
// as one exchange, or until the call returns that the exchange left behind. The
// next exchange waits for that, so there is never more than one.
type carrier struct {
	begun     chan error    // the transaction has begun, or not
	commands  chan []byte   // APDUs; closed by the exchange at its end
	responses chan response // one for each
	done      chan struct{} // closed at the end of the transaction
}

type response struct {
	apdu []byte
	err  error
}

func (d *Device) carry() *carrier {
	c := &carrier{
		begun: make(chan error, 1), commands: make(chan []byte, 1), responses: make(chan response, 1),
		done: make(chan struct{}),
	}
	go func() {
		defer close(c.done)
		if d.transactor != nil {
			if err := d.transactor.Begin(); err != nil {
				c.begun <- err
				return
			}
			// It ends with the connection at the latest; there is nobody to tell.
			defer func() { _ = d.transactor.End() }()
		}
		c.begun <- nil
		for command := range c.commands {
			apdu, err := d.card.Transmit(command)
			clear(command)
			c.responses <- response{apdu, err}
		}
	}()
	return c
}

// An exchange is what happens in one turn.
type exchange struct {
	d       *Device
	ctx     context.Context
	carrier *carrier
	// gaveUp is why nobody waits any longer, once that is so, and limit until
	// when the card may still say how far it came.
	gaveUp error
	limit  time.Time
	// abandoned: the carrier is left behind with the card.
	abandoned bool
	// partial: the card may wait for the rest of a chain.
	partial bool
	sent    int // APDUs of the command that runs
}

// begin waits for the exchange's turn. The caller ends it.
func (d *Device) begin(ctx context.Context) (*exchange, error) {
	if d.isClosed() {
		return nil, ErrClosed
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx)
	case <-d.closed:
		return nil, ErrClosed
	}
	if d.gone != nil {
		<-d.turn
		return nil, d.gone
	}
	x := &exchange{d: d, ctx: ctx}
	if err := x.begin(); err != nil {
		x.end()
		return nil, err
	}
	return x, nil
}

// begin begins the transaction, when nothing is left from the last exchange.
func (x *exchange) begin() error {
	if last := x.d.carrier; last != nil {
		if _, err := await(x, last.done); err != nil {
			return fmt.Errorf("%w: the card has not ended an earlier command", err)
		}
		x.d.carrier = nil
	}
	x.carrier = x.d.carry()
	x.d.carrier = x.carrier
	err, waited := await(x, x.carrier.begun)
	if waited != nil {
		return fmt.Errorf("%w: another program uses the card", waited)
	}
	if err != nil {
		return x.failure(err)
	}
	return nil
}

// end is for what begin let in.
func (x *exchange) end() {
	if x.carrier != nil {
		close(x.carrier.commands)
	}
	<-x.d.turn
}

// interrupted returns why nobody waits any longer, nil if somebody does.
func (x *exchange) interrupted() error {
	if x.gaveUp == nil {
		switch err := ended(x.ctx); {
		case x.d.isClosed():
			x.giveUp(ErrClosed)
		case err != nil:
			x.giveUp(err)
		}
	}
	return x.gaveUp
}

func (x *exchange) giveUp(reason error) {
	x.gaveUp, x.limit = reason, time.Now().Add(CancelTimeout)
}

// await waits for what has to come before a command can be sent.
func await[T any](x *exchange, c <-chan T) (T, error) {
	select {
	case v := <-c:
		return v, nil
	default:
	}
	var none T
	timer, done, closed := x.timer()
	defer timer.Stop()
	select {
	case v := <-c:
		return v, nil
	case <-done:
		return none, ended(x.ctx)
	case <-closed:
		return none, ErrClosed
	case <-timer.C:
		return none, ErrNoAnswer
	}
}

// timer is for a wait: it runs for as long as the card may take, and the
// channels say that nobody waits any longer, as long as somebody does.
func (x *exchange) timer() (timer *time.Timer, done, closed <-chan struct{}) {
	if x.gaveUp != nil {
		return time.NewTimer(time.Until(x.limit)), nil, nil
	}
	return time.NewTimer(AnswerTimeout), x.ctx.Done(), x.d.closed
}

// transmit sends an APDU and returns the response to it. If the context ends
// meanwhile, the response has a little longer to come.
func (x *exchange) transmit(apdu []byte) ([]byte, StatusWord, error) {
	if x.interrupted() != nil && !time.Now().Before(x.limit) {
		return nil, 0, x.gaveUp
	}
	x.sent++
	x.carrier.commands <- apdu
	timer, done, closed := x.timer()
	defer timer.Stop()
	var r response
	for waiting := true; waiting; {
		select {
		case r = <-x.carrier.responses:
			waiting = false
		case <-done:
			x.giveUp(ended(x.ctx))
			timer.Reset(CancelTimeout)
			done, closed = nil, nil
		case <-closed:
			x.giveUp(ErrClosed)
			timer.Reset(CancelTimeout)
			done, closed = nil, nil
		case <-timer.C:
			x.abandoned = true
			if x.gaveUp != nil {
				return nil, 0, x.gaveUp
			}
			return nil, 0, fmt.Errorf("%w within %v", ErrNoAnswer, AnswerTimeout)
		}
	}
	if r.err != nil {
		return nil, 0, x.failure(r.err)
	}
	n := len(r.apdu) - 2
	if n < 0 || n > maxAnswer {
		return nil, 0, fmt.Errorf("%w: %d bytes", ErrMalformed, len(r.apdu))
	}
	return r.apdu[:n:n], StatusWord(r.apdu[n])<<8 | StatusWord(r.apdu[n+1]), nil
}

// failure says what an error of the Card means.
func (x *exchange) failure(err error) error {
	switch {
	case errors.Is(err, ErrDeviceGone):
		x.d.gone = err
		return err
	case errors.Is(err, ErrReset), errors.Is(err, ErrExtendedLength), errors.Is(err, ErrClosed):
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, err)
}

// reselect selects the FIDO application. What the card was doing for us ends
// with that, and so do tokens and agreed keys.
func (x *exchange) reselect() error {
	x.d.unclean = true
	selection := command{cla: claISO, ins: insSelect, p1: p1ByName, data: aid}
	data, sw, err := x.perform(&selection)
	if errors.Is(err, ErrReset) {
		data, sw, err = x.perform(&selection)
	}
	switch {
	case err != nil:
		return x.reason(err)
	case sw != swOK:
		return fmt.Errorf("%w: %w", ErrNotFIDO, sw)
	}
	// Nothing else has been specified, but later versions may say more.
	version := printable(data[:min(len(data), maxVersion)])
	if !strings.HasPrefix(version, "U2F_") && !strings.HasPrefix(version, "FIDO_") {
		return fmt.Errorf("%w: it answers %.32q", ErrNotFIDO, version)
	}
	x.d.mu.Lock()
	x.d.version = version
	x.d.mu.Unlock()
	x.d.unclean, x.d.spoken, x.partial = false, false, false
	return nil
}

// reason joins why nobody waits any longer, if so, with what happened then.
func (x *exchange) reason(err error) error {
	switch {
	case err == nil || x.gaveUp == nil || errors.Is(err, x.gaveUp):
		return err
	case x.gaveUp == ErrClosed:
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", x.gaveUp, err)
}

// ended returns the error of a context that has ended, with its cause.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
