package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tapstone/fido/ctap2"
)

// A Target is the authenticator that is checked, and what can be done to it.
// Open alone is required.
type Target struct {
	// Open opens the authenticator. It is called again after each power cycle,
	// and when a case has left the connection in a state from which nothing
	// follows; what it returned before is closed then.
	Open func(ctx context.Context) (ctap2.Transport, error)
	// Over is the transport of Open by its name in getInfo, such as "usb" or
	// "nfc"; empty: it is not known. Some authenticators can be reset over some
	// of them alone.
	Over string
	// HID opens the reports of an authenticator on USB, for the cases about
	// CTAPHID; nil: there are none. What Open returned is closed before.
	HID func(ctx context.Context) (Reports, error)
	// NFC connects to the card, for the cases about APDUs; nil: there is none.
	// What Open returned is closed before.
	NFC func(ctx context.Context) (Card, error)
	// EnterpriseRPID is a relying party on the list that the authenticator has for
	// vendor-facilitated enterprise attestation (§7.1.2), which it tells nobody;
	// empty: none is known.
	EnterpriseRPID string
	// Operator is whoever is at the authenticator.
	Operator Operator
}

// Reports are the HID reports of an authenticator: package hid's Conn, in short.
// Read and Write carry one report of 64 bytes, without a report ID. For reports of
// another length there is one more method, which says how many bytes they have:
//
//	ReportSize() int
type Reports interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// A Card takes a command APDU and returns the response, status word included:
// package nfc's Card, in short.
type Card interface {
	Transmit(command []byte) ([]byte, error)
	Close() error
}

// A Gesture is what a person does when the authenticator asks for something.
type Gesture string

// Gestures.
const (
	// Touch: whenever it asks, it gets a touch, or an enrolled finger. This is
	// what the person does unless told otherwise.
	Touch Gesture = "touch"
	// NoTouch: it is left alone, whatever it asks for.
	NoTouch Gesture = "no touch"
	// LongTouch: whenever it asks, it gets a touch of five seconds or more.
	LongTouch Gesture = "long touch"
	// Decline: the person says no, which takes a display, or a button for it.
	Decline Gesture = "decline"
	// WrongFinger: it gets a finger that is not enrolled.
	WrongFinger Gesture = "wrong finger"
	// PoorSample: the finger is put down so that the sample is of no use.
	PoorSample Gesture = "poor sample"
)

// ErrCannot is what an Operator returns for what nobody can do there. The case
// that asks for it is then left out, with the reason. Where it is asked for
// between cases, to reset the authenticator, nothing can follow: the run ends.
var ErrCannot = errors.New("conformance: the operator cannot do that")

// An Operator is whoever is at the authenticator: a person who is told at a
// terminal, a robot, or the program that simulates it. Every field may be nil.
// The time that they take, up to half an hour, does not count as the
// authenticator's.
type Operator struct {
	// Gesture says what to do from now on, whenever the authenticator asks; it
	// returns when that is understood. Nil: Touch is all that the person does.
	Gesture func(ctx context.Context, g Gesture) error
	// Waiting says that the authenticator waits for the person.
	Waiting func(g Gesture)
	// PowerCycle takes its power and gives it back: it is unplugged and plugged
	// in again, or taken off the reader. Nil: nobody does, and a run that is
	// Destructive takes Reset.
	PowerCycle func(ctx context.Context) error
	// Reset makes the authenticator as it left the factory. Nil: authenticatorReset
	// does, after a power cycle. It is for those who have another way, and
	// where the transport of the run is none of those that take a reset.
	Reset func(ctx context.Context) error
	// Wait lets time pass. Nil: it passes by itself.
	Wait func(ctx context.Context, d time.Duration) error
	// SpendPINTries is asked before wrong PINs are entered at an authenticator
	// that was not reset for this run, and that many tries are left. The right
	// PIN follows, which gives them back. Nil: no.
	SpendPINTries func(ctx context.Context, tries, left int) bool
}

func (o *Operator) gesture(ctx context.Context, g Gesture) error {
	if o.Gesture == nil {
		if g == Touch {
			return nil
		}
		return fmt.Errorf("%w: %s", ErrCannot, g)
	}
	return o.Gesture(ctx, g)
}

func (o *Operator) powerCycle(ctx context.Context) error {
	if o.PowerCycle == nil {
		return fmt.Errorf("%w: power cycle", ErrCannot)
	}
	return o.PowerCycle(ctx)
}

func (o *Operator) wait(ctx context.Context, d time.Duration) error {
	if o.Wait != nil {
		return o.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
