package hid

import (
	"context"
	"fmt"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// Exchange sends a CTAP message with CTAPHID_CBOR (§11.2.9.1.2) and returns
// the answer: message is a command byte and its CBOR parameters, the answer a
// status byte and CBOR, never empty.
//
// status, unless nil, hears the status of each keepalive (§11.2.9.1.7) as it
// arrives: 1 for processing, 2 for waiting for a touch. It is called on the
// caller's goroutine. It must return soon, and must not call the Device; to
// give up from within it, end ctx.
//
// When ctx ends, Exchange sends CTAPHID_CANCEL and returns within
// [CancelTimeout]: with the answer and no error if one arrives, usually status
// 0x2D, but the operation may have succeeded just before; otherwise with the
// error of ctx. If ctx ends before the whole message is sent, the rest is not
// sent, the device does nothing, and the error is that of ctx.
//
// It refuses with [ErrUnsupported] a device that does not claim
// [CapabilityCBOR], and with [ErrMessageTooLarge] a message that cannot be
// framed; neither sends anything. Other errors are [ErrNoAnswer],
// [ErrFraming], [ErrDeviceGone], [ErrClosed] and every [Error]; upon
// ErrChannelBusy the message is sent again until ctx ends, unless the device had
// begun.
func (d *Device) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if d.Capabilities()&CapabilityCBOR == 0 {
		return nil, fmt.Errorf("hid: CTAPHID_CBOR: %w by this device", ErrUnsupported)
	}
	return d.exchange(ctx, request{command: ctap.HIDCBOR, message: message, silence: AnswerTimeout, status: status})
}

// Msg sends a U2F request, an APDU with extended length, with CTAPHID_MSG
// (§11.2.9.1.1) and returns the response with its status word at the end.
//
// Nothing but [Device.Exchange] can be cancelled at the device: when ctx ends
// before an answer has begun to arrive, Msg returns its error at once, and the
// next exchange first aborts what the device may still be doing. It refuses
// with [ErrUnsupported] a device that claims [CapabilityNMSG], without sending
// anything. Other errors are those of Exchange.
func (d *Device) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	if d.Capabilities()&CapabilityNMSG != 0 {
		return nil, fmt.Errorf("hid: CTAPHID_MSG: %w by this device", ErrUnsupported)
	}
	return d.exchange(ctx, request{command: ctap.HIDMsg, message: apdu, silence: AnswerTimeout})
}

// Ping sends data with CTAPHID_PING (§11.2.9.1.4) and returns the echo, which
// is equal to data: another answer is [ErrFraming]. Other errors and the end
// of ctx are as for [Device.Msg].
func (d *Device) Ping(ctx context.Context, data []byte) ([]byte, error) {
	return d.exchange(ctx, request{command: ctap.HIDPing, message: data, silence: AnswerTimeout})
}

// winkTimeout is short: some keys wink and never answer.
const winkTimeout = time.Second

// Wink asks the device to show itself, by blinking for example, with
// CTAPHID_WINK (§11.2.9.2.1). [ErrNoAnswer] after a second is the usual end on
// some devices that did wink. It refuses with [ErrUnsupported] a device that
// does not claim [CapabilityWink], without sending anything. Other errors and
// the end of ctx are as for [Device.Msg].
func (d *Device) Wink(ctx context.Context) error {
	if d.Capabilities()&CapabilityWink == 0 {
		return fmt.Errorf("hid: CTAPHID_WINK: %w by this device", ErrUnsupported)
	}
	_, err := d.exchange(ctx, request{command: ctap.HIDWink, silence: winkTimeout})
	return err
}

// Lock keeps the channels of other programs out for a time, with CTAPHID_LOCK
// (§11.2.9.2.2): 0 to 10 s, rounded up to whole seconds, where 0 ends an
// earlier lock. The lock is the channel's own: when the Device moves to another
// channel, the lock stays in its way until it ends.
//
// Another time is refused with [ErrInvalidPar], without sending anything. Other
// errors and the end of ctx are as for [Device.Msg]; a device without the
// command, which is optional, answers [ErrInvalidCmd].
func (d *Device) Lock(ctx context.Context, duration time.Duration) error {
	if duration < 0 || duration > ctap.HIDMaxLockSeconds*time.Second {
		return fmt.Errorf("hid: CTAPHID_LOCK for %v: %w", duration, ErrInvalidPar)
	}
	seconds := byte((duration + time.Second - 1) / time.Second)
	_, err := d.exchange(ctx, request{command: ctap.HIDLock, message: []byte{seconds}, silence: AnswerTimeout})
	return err
}

// Vendor sends data with a command of the device's maker, 0x40 to 0x7F
// (§11.2.9.3), and returns the answer. Another command is refused with
// [ErrInvalidCmd], without sending anything. Other errors and the end of ctx
// are as for [Device.Msg].
func (d *Device) Vendor(ctx context.Context, command byte, data []byte) ([]byte, error) {
	if command < ctap.HIDVendorFirst || command > ctap.HIDVendorLast {
		return nil, fmt.Errorf("hid: vendor command 0x%02x: %w", command, ErrInvalidCmd)
	}
	return d.exchange(ctx, request{command: command, message: data, silence: AnswerTimeout})
}
