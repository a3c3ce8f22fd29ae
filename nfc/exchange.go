package nfc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Exchange sends a CTAP message with NFCCTAP_MSG (§11.3.7.1) and returns the
// answer: message is a command byte and its CBOR parameters, the answer a
// status byte and CBOR, never empty.
//
// status, unless nil, hears what a card at work says when it is asked with
// NFCCTAP_GETRESPONSE (§11.3.7.2), every 100 ms: 1 for processing, 2 for
// waiting for a touch. It is called on the caller's goroutine. It must return
// soon, and must not call the Device; to give up from within it, end ctx. A
// card that does not know NFCCTAP_GETRESPONSE says nothing until it is done.
//
// When ctx ends, Exchange tells the card to cancel and returns within
// [CancelTimeout]: with the answer and no error if one arrives, usually status
// 0x2D, but the operation may have succeeded just before; otherwise with the
// error of ctx. If ctx ends before the whole message is sent, the rest is not
// sent, the card does nothing, and the error is that of ctx. After an exchange
// without an answer the next one selects the application anew, which ends its
// PIN/UV tokens.
//
// The error matches [ErrReset] if the card was reset or another program has
// selected another application, as it seems if a card that has answered before
// gives a status word instead: whatever was agreed with the card before is void,
// so the message is not sent again, and the next can be sent. Only a message
// without parameters, which rests on nothing, is sent again in the same call.
// Other errors are [ErrMessageTooLarge], with which nothing is sent,
// [ErrDeviceGone], [ErrNoAnswer], [ErrMalformed], [ErrClosed] and a
// [StatusWord], which matches [ErrUnsupported] if the card has no CTAP2.
func (d *Device) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	c := &command{cla: claCTAP, ins: insMsg, p1: p1MayPend, data: message}
	data, _, err := d.inTurn(ctx, c, request{pends: true, repeats: len(message) <= 1, status: status})
	if err == nil && len(data) == 0 {
		err = fmt.Errorf("%w: an answer without a status", ErrMalformed)
	}
	if err != nil {
		return nil, fmt.Errorf("nfc: NFCCTAP_MSG: %w", err)
	}
	return data, nil
}

// Msg sends a U2F request, an APDU, and returns the response with its status
// word at the end. The length of the APDU may be encoded either way: it goes to
// the card as it takes it, and asks for all the response that there is.
//
// When ctx ends, Msg returns its error within [CancelTimeout], or the response
// if it arrives until then. The request is sent again if the card was reset.
// What is no APDU is refused with [ErrMalformed]. Other errors are those of
// Exchange, except that a status word is none.
func (d *Device) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	c, err := parseCommand(apdu)
	var data []byte
	var sw StatusWord
	if err == nil {
		data, sw, err = d.inTurn(ctx, c, request{repeats: true})
	}
	if err != nil {
		return nil, fmt.Errorf("nfc: U2F request: %w", err)
	}
	return binary.BigEndian.AppendUint16(data, uint16(sw)), nil
}

// parseCommand takes an APDU of any of the forms of ISO/IEC 7816-4 §5.1 apart.
func parseCommand(apdu []byte) (*command, error) {
	if len(apdu) < 4 {
		return nil, fmt.Errorf("%w: a command of %d bytes", ErrMalformed, len(apdu))
	}
	c := &command{cla: apdu[0], ins: apdu[1], p1: apdu[2], p2: apdu[3]}
	rest, lc, le := apdu[4:], 0, 1
	switch {
	case len(rest) <= 1: // at most a Le
		return c, nil
	case rest[0] != 0:
		lc, rest = int(rest[0]), rest[1:]
	case len(rest) == 2:
		return nil, fmt.Errorf("%w: a command with half a length", ErrMalformed)
	default:
		// A Le of two bytes looks like a length without data behind it.
		lc, le, rest = int(rest[1])<<8|int(rest[2]), 2, rest[3:]
		if len(rest) == 0 {
			return c, nil
		}
	}
	if len(rest) != lc && len(rest) != lc+le {
		return nil, fmt.Errorf("%w: a command with %d bytes behind a length of %d", ErrMalformed, len(rest), lc)
	}
	c.data = rest[:lc]
	return c, nil
}

// A request says what there is to know about a command beside its bytes.
type request struct {
	pends   bool       // of CTAP: the card may be at work for long, and must succeed
	repeats bool       // it means the same to a card that was reset
	status  func(byte) // hears what the card says meanwhile; may be nil
}

// inTurn has the card carry out a command, alone, and returns the response.
func (d *Device) inTurn(ctx context.Context, c *command, r request) ([]byte, StatusWord, error) {
	if len(c.data) > maxMessage {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(c.data), maxMessage)
	}
	x, err := d.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer x.end()
	if d.unclean {
		if err := x.reselect(); err != nil {
			return nil, 0, err
		}
	}
	for again := false; ; again = true {
		if err := x.interrupted(); err != nil {
			return nil, 0, err
		}
		data, sw, begun, err := x.run(c, r)
		if x.gaveUp == ErrClosed {
			return nil, 0, ErrClosed
		}
		forgotten := err == nil && sw.forgotten(c.cla, x.sent == 1)
		lost := errors.Is(err, ErrReset) || forgotten && d.spoken
		d.spoken = d.spoken || err == nil && !forgotten
		if !lost || again || x.gaveUp != nil {
			if err == nil && r.pends && sw != swOK {
				err = sw
			}
			return data, sw, x.reason(err)
		}
		if err == nil {
			err = fmt.Errorf("%w: %w", ErrReset, sw)
		}
		if failed := x.reselect(); failed != nil {
			return nil, 0, fmt.Errorf("%w: %w", err, failed)
		}
		if begun || !r.repeats {
			return nil, 0, err
		}
	}
}

// run performs a command to its end. begun says that the card was at work.
func (x *exchange) run(c *command, r request) (data []byte, sw StatusWord, begun bool, err error) {
	x.d.unclean, x.sent = true, 0
	data, sw, err = x.perform(c)
	for told := false; r.pends && err == nil && sw == swPending; {
		begun = true
		if x.interrupted() == nil && r.status != nil && len(data) > 0 {
			r.status(data[0])
		}
		x.pause(told)
		poll := command{cla: claCTAP, ins: insGetResponse}
		if x.interrupted() != nil {
			poll.p1, told = p1Cancel, true
		}
		data, sw, err = x.perform(&poll)
	}
	x.d.unclean = err != nil || x.partial
	return data, sw, begun, err
}

// pause lets some time go by before the card is asked again. It ends early if
// the card is to be told something else.
func (x *exchange) pause(told bool) {
	done, closed := x.ctx.Done(), x.d.closed
	if told {
		done, closed = nil, nil
	}
	pause := time.NewTimer(pollPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-done:
	case <-closed:
	}
}
