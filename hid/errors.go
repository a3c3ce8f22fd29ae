package hid

import (
	"errors"
	"fmt"

	"github.com/tapstone/fido/internal/ctap"
)

// Errors that this package shares with the other transports and with ctap2,
// one value each.
var (
	// ErrDeviceGone: the [Conn] failed, as it does when the key is pulled out.
	// The error that carries it carries the Conn's error too.
	ErrDeviceGone = ctap.ErrDeviceGone
	// ErrClosed: the program closed the [Device].
	ErrClosed = ctap.ErrClosed
	// ErrMessageTooLarge: the message is longer than [Device.MaxMessageSize].
	// Nothing was sent.
	ErrMessageTooLarge = ctap.ErrMessageTooLarge
	// ErrNoAnswer: the device fell silent, or takes no more reports.
	ErrNoAnswer = ctap.ErrNoAnswer
	// ErrUnsupported: the device, or this build, lacks the ability asked for.
	ErrUnsupported = ctap.ErrUnsupported
)

// ErrFraming is in every error about an answer that breaks the rules of
// §11.2.4: a packet out of sequence, a length that no message can have, an
// answer to another command, a message that stops half-way.
var ErrFraming = errors.New("malformed CTAPHID message")

// An Error is the code of a CTAPHID_ERROR answer (§11.2.9.1.6). It is not a
// CTAP status, although some numbers and names are the same: an Error means
// that the device did not process the message.
type Error byte

// The codes that the specification assigns. A device may send others.
const (
	ErrInvalidCmd     Error = ctap.HIDErrInvalidCmd     // also matches ErrUnsupported
	ErrInvalidPar     Error = ctap.HIDErrInvalidPar     // a parameter is not valid
	ErrInvalidLen     Error = ctap.HIDErrInvalidLen     // not a length for this command
	ErrInvalidSeq     Error = ctap.HIDErrInvalidSeq     // packets out of sequence
	ErrMsgTimeout     Error = ctap.HIDErrMsgTimeout     // the rest of the message did not come
	ErrChannelBusy    Error = ctap.HIDErrChannelBusy    // another channel is being served
	ErrLockRequired   Error = ctap.HIDErrLockRequired   // the command needs the lock
	ErrInvalidChannel Error = ctap.HIDErrInvalidChannel // the device does not know the channel
	ErrOther          Error = ctap.HIDErrOther          // none of the others
)

var errorTexts = map[Error]string{
	ErrInvalidCmd:     "ERR_INVALID_CMD: the device does not know the command",
	ErrInvalidPar:     "ERR_INVALID_PAR: the device refuses a parameter",
	ErrInvalidLen:     "ERR_INVALID_LEN: the device refuses the length of the message",
	ErrInvalidSeq:     "ERR_INVALID_SEQ: the device saw packets out of sequence",
	ErrMsgTimeout:     "ERR_MSG_TIMEOUT: the device did not get the whole message in time",
	ErrChannelBusy:    "ERR_CHANNEL_BUSY: the device is serving another program",
	ErrLockRequired:   "ERR_LOCK_REQUIRED: the device wants to be locked first",
	ErrInvalidChannel: "ERR_INVALID_CHANNEL: the device does not know the channel",
	ErrOther:          "ERR_OTHER: the device failed and does not say why",
}

// Error returns the specification's name of the code and what it means.
func (e Error) Error() string {
	if text, ok := errorTexts[e]; ok {
		return text
	}
	return fmt.Sprintf("CTAPHID_ERROR 0x%02x", byte(e))
}

// Is lets ERR_INVALID_CMD match [ErrUnsupported]: a device that claims a
// command it does not know is like one that never claimed it.
func (e Error) Is(target error) bool {
	return e == ErrInvalidCmd && target == ErrUnsupported
}
