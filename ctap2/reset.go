package ctap2

import (
	"context"
	"errors"
	"strings"

	"github.com/tapstone/fido/internal/ctap"
)

// Reset erases the key: its credentials, its PIN, its fingerprints and its
// settings (§6.6). It waits for a touch, which the Info's LongTouchForReset
// makes a long one; the TouchRequest says so.
//
// Keys without a display take a reset only in the first ten seconds after they
// were plugged in, or held to the reader, and some only over the
// TransportsForReset of their Info: a program asks the person to unplug the key
// and plug it in again, opens it and calls Reset at once. A key that does not
// take it, or that nobody touches for long enough, is a [*ResetError], which
// says what to do.
func (a *Authenticator) Reset(ctx context.Context) error {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	c.changing()
	_, err = c.send(ctap.CmdReset, 0, nil, TouchReset)
	if errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrOperationDenied) || errors.Is(err, ErrUserActionTimeout) {
		return &ResetError{Transports: c.info.TransportsForReset, LongTouch: c.info.LongTouchForReset, err: err}
	}
	return err
}

// A ResetError is a reset that the key did not take, and what it takes. It
// wraps the [Error] with the status: [ErrNotAllowed] where it came too late,
// [ErrOperationDenied] or [ErrUserActionTimeout] where the touch was missing or
// too short; a key answers one or the other over a transport that it takes no
// reset over.
type ResetError struct {
	Transports []string // the only ones it takes a reset over, such as "usb"; nil: any
	LongTouch  bool     // the touch has to last for five seconds

	err error
}

// Error says what to do next.
func (e *ResetError) Error() string {
	text := "ctap2: the key was not reset: nobody touched it"
	switch {
	case errors.Is(e.err, ErrNotAllowed):
		text = "ctap2: the key is reset only in the ten seconds after it was plugged in: unplug it, plug it in again and try at once"
	case e.LongTouch:
		text = "ctap2: the key was not reset: touch it for at least five seconds"
	}
	if len(e.Transports) > 0 {
		text += "; it takes a reset over " + strings.Join(e.Transports, " and ") + " alone"
	}
	return text
}

// Unwrap returns the refused command's error.
func (e *ResetError) Unwrap() error { return e.err }
