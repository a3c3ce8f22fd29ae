package nfc

import (
	"errors"
	"fmt"

	"github.com/tapstone/fido/internal/ctap"
)

// Errors that this package shares with the other transports and with ctap2,
// one value each.
var (
	// ErrDeviceGone: the card was taken away, or its reader was. A [Device]
	// does not come back from it, even if the card does: open another.
	ErrDeviceGone = ctap.ErrDeviceGone
	// ErrClosed: the program closed the [Device].
	ErrClosed = ctap.ErrClosed
	// ErrMessageTooLarge: the message is longer than [Device.MaxMessageSize].
	// Nothing was sent.
	ErrMessageTooLarge = ctap.ErrMessageTooLarge
	// ErrNoAnswer: the card fell silent, or the reader could not get a response
	// out of it. The reader's error is in the same error.
	ErrNoAnswer = ctap.ErrNoAnswer
	// ErrUnsupported: the card, or this build, lacks the ability asked for.
	ErrUnsupported = ctap.ErrUnsupported
)

// Errors of finding and opening a card.
var (
	// ErrNotFIDO: the card has no FIDO application, or does not offer it here:
	// some keys have it on USB and refuse it to the smart card interface that
	// they have there as well. Among several cards that is no failure.
	ErrNotFIDO = errors.New("not a FIDO card")
	// ErrNoService: this machine has no smart card service, or it does not run.
	// On Linux that is pcscd, to be installed and started.
	ErrNoService = errors.New("no smart card service")
	// ErrNoReader: no reader, or none of that name.
	ErrNoReader = errors.New("no smart card reader")
	// ErrNoCard: the reader is empty.
	ErrNoCard = errors.New("no card in the reader")
	// ErrInUse: another program has the card to itself.
	ErrInUse = errors.New("another program uses the card")
)

// ErrMalformed is in every error about a response that breaks the rules of
// ISO/IEC 7816-4 or §11.3: one without a status word, one that never ends, an
// answer without a status.
var ErrMalformed = errors.New("malformed response APDU")

// A StatusWord is what a response APDU ends with: SW1 and SW2, as in 0x9000.
// It is not a CTAP status. As an error it means that the card did not carry the
// message out, and says why.
type StatusWord uint16

// The status words that mean something to this package.
const (
	swOK       StatusWord = 0x9000
	swPending  StatusWord = 0x9100 // NFCCTAP_MSG is still at work (§11.3.7.1)
	sw1More               = 0x61   // SW2 more bytes are there
	sw1WrongLe            = 0x6C   // SW2 is the Le to ask with

	ErrWrongLength            StatusWord = 0x6700 // not a length that the card takes
	ErrConditionsNotSatisfied StatusWord = 0x6985 // U2F: touch needed. Others: not now
	ErrNotSelected            StatusWord = 0x6986 // no application selected
	ErrSelectFailed           StatusWord = 0x6999 // the application cannot be selected
	ErrWrongData              StatusWord = 0x6A80 // U2F: not a key handle of this card
	ErrFileNotFound           StatusWord = 0x6A82 // SELECT: no such application
	ErrInsNotSupported        StatusWord = 0x6D00 // also matches ErrUnsupported
	ErrClaNotSupported        StatusWord = 0x6E00 // also matches ErrUnsupported
)

var statusTexts = map[StatusWord]string{
	ErrWrongLength:            "wrong length",
	ErrConditionsNotSatisfied: "conditions of use not satisfied",
	ErrNotSelected:            "command not allowed",
	ErrSelectFailed:           "selection failed",
	ErrWrongData:              "wrong data",
	ErrFileNotFound:           "no such application",
	ErrInsNotSupported:        "instruction not supported",
	ErrClaNotSupported:        "class not supported",
}

// Error returns the status word and, if it is a usual one, what it means.
func (s StatusWord) Error() string {
	text := fmt.Sprintf("status word %04x", uint16(s))
	if meaning, ok := statusTexts[s]; ok {
		text += ": " + meaning
	}
	return text
}

// Is lets the status words for an unknown instruction or class match
// [ErrUnsupported].
func (s StatusWord) Is(target error) bool {
	return target == ErrUnsupported && (s == ErrInsNotSupported || s == ErrClaNotSupported)
}

func (s StatusWord) sw1() byte { return byte(s >> 8) }

// forgotten reports whether a card answers a command of this class so when the
// FIDO application is no longer the selected one. CTAP knows two status words,
// and says everything else in its answer: so any other is that of another
// application, if it comes at once. Behind a part of a response, or to a part of
// a command, it may be the card's that fails. U2F has several for itself.
func (s StatusWord) forgotten(cla byte, atOnce bool) bool {
	switch s {
	case ErrNotSelected, ErrSelectFailed, ErrInsNotSupported, ErrClaNotSupported:
		return true
	case ErrConditionsNotSatisfied:
		return cla == claCTAP // in U2F it means that a touch is needed
	}
	return cla == claCTAP && atOnce && s != swOK && s != swPending
}
