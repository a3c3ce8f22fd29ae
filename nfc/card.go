package nfc

import (
	"errors"

	"github.com/tapstone/fido/internal/ctap"
)

// A Card is a connection to one smart card, which command APDUs go to and
// response APDUs come from. A reader implements it, and so can a simulator, a
// card at the end of a network, or a phone's NFC interface: whatever carries
// whole APDUs (ISO/IEC 7816-4 §5.1).
//
// A Device calls Transmit, and the methods of a [Transactor], from one
// goroutine at a time, and Close once, also while one of them is blocked.
type Card interface {
	// Transmit sends a command APDU and returns the response APDU, whose last
	// two bytes are the status word. It returns 61xx and 6Cxx as they are. The
	// response is the caller's; command must not be kept, it may hold PIN
	// material.
	//
	// Transmit waits as long as the card takes, a minute if a person has to
	// touch it: the Device does not wait longer than its context allows, leaves
	// Transmit behind if need be, and calls it again when it has returned. It
	// has to return in the end, at the latest when the card or its reader is
	// gone.
	//
	// Errors that the Device understands are those that wrap [ErrDeviceGone],
	// [ErrReset] and [ErrExtendedLength]. Any other means that this APDU could
	// not be carried, or its response not, and that the next may be.
	Transmit(command []byte) ([]byte, error)
	// Close releases the card. It wakes a blocked Transmit if the platform can
	// do that. If not, it does not wait for it: the card is released when
	// Transmit returns.
	Close() error
}

// A Transactor is a [Card] that other programs can reach at the same time, as
// with PC/SC. A Device begins a transaction before each exchange and ends it
// behind it, and never lets one lie idle.
type Transactor interface {
	// Begin keeps other programs from the card. It waits until it has it to
	// itself, and can be left behind as Transmit can.
	Begin() error
	// End lets them again.
	End() error
}

// What a [Card] says with its errors.
var (
	// ErrReset: the card lost its state, since another program or the operating
	// system reset it, or another program selected another application on it.
	// PIN/UV tokens and agreed keys are gone, and perhaps it is another card.
	//
	// A Card's Transmit returns it, once for each reset, when the command was
	// not carried out or not answered; Transmit can be called again.
	// A Device selects the FIDO application again before it passes the error
	// on, so that the next exchange can begin anew.
	ErrReset = ctap.ErrReset
	// ErrExtendedLength: the reader or the protocol of the card cannot carry an
	// APDU of extended length, and none was sent. A Device then sends short
	// ones.
	ErrExtendedLength = errors.New("no APDUs of extended length")
)
