package ctap

import "errors"

// Errors that the transports and ctap2 both export, one value each, so that
// errors.Is answers the same whichever package a program has at hand.
var (
	// ErrDeviceGone: the device was unplugged, or the card removed.
	ErrDeviceGone = errors.New("device gone")
	// ErrClosed: the program closed the device.
	ErrClosed = errors.New("device closed")
	// ErrMessageTooLarge: the message cannot be framed; nothing was sent.
	ErrMessageTooLarge = errors.New("message too large")
	// ErrNoAnswer: the device fell silent.
	ErrNoAnswer = errors.New("device does not answer")
	// ErrReset: the card lost its state, since another program or the operating
	// system reset it.
	ErrReset = errors.New("the card was reset, its PIN/UV tokens are gone")
	// ErrUnsupported: the device, or this build, lacks the ability asked for.
	ErrUnsupported = errors.New("not supported")
)
