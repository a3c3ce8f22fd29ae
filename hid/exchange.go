package hid

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A request is a message to the device, with what there is to know about
// waiting for its answer.
type request struct {
	command byte
	message []byte
	silence time.Duration // how long the device may say nothing
	status  func(byte)    // hears keepalives; may be nil
}

// exchange sends a message and returns the answer to it.
func (d *Device) exchange(ctx context.Context, r request) ([]byte, error) {
	answer, err := d.exchangeInTurn(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("hid: %s: %w", commandName(r.command), err)
	}
	return answer, nil
}

func (d *Device) exchangeInTurn(ctx context.Context, r *request) ([]byte, error) {
	if limit := d.MaxMessageSize(); len(r.message) > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(r.message), limit)
	}
	stop, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer d.end(stop)

	if d.unclean {
		if err := d.resync(); err != nil {
			return nil, err
		}
	}
	for renewed := false; ; {
		answer, untouched, err := d.exchangeOnce(r)
		switch {
		case !untouched:
			return answer, err
		case err == ErrChannelBusy:
			err = d.pause(d.channel)
		case err == ErrInvalidChannel && !renewed:
			// The device was replaced behind the Conn, or has given our
			// channel to somebody else.
			renewed = true
			err = d.initialize(ctap.HIDBroadcast, InitTimeout)
		}
		if err != nil {
			return nil, err
		}
	}
}

// exchangeOnce sends a message and waits for the answer. untouched says that
// the device has refused the message outright, so that it cannot have been
// carried out and may be sent again.
func (d *Device) exchangeOnce(r *request) (answer []byte, untouched bool, err error) {
	d.owed = true
	if err := d.send(d.channel, r.command, r.message); err != nil {
		return nil, false, err
	}
	now := d.now()
	var (
		limit  = now + r.silence
		begun  bool  // a keepalive said that the device is at work
		gaveUp error // why nobody waits any longer
		last   time.Duration
	)
	for ; ; now = d.now() {
		p, err := d.next(d.channel, now, limit)
		switch {
		case err == errTimeout && gaveUp != nil:
			return nil, false, gaveUp
		case err == errTimeout:
			return nil, false, fmt.Errorf("%w within %v", ErrNoAnswer, r.silence)
		case err == errInterrupted:
			gaveUp = d.interruption()
			if r.command != ctap.HIDCBOR {
				return nil, false, gaveUp
			}
			d.unwatch()
			last = d.now()
			limit = last + CancelTimeout
			if err := d.cancel(CancelTimeout); err != nil || gaveUp == ErrClosed {
				return nil, false, giveUp(gaveUp, err)
			}
			continue
		case err != nil:
			return nil, false, giveUp(gaveUp, err)
		}

		switch failed := p.failed(); {
		case failed != nil:
			d.owed = false
			return nil, !begun, giveUp(gaveUp, failed)
		case !p.start || p.command == ctap.HIDInit:
			// The rest of something abandoned, or a late reply: the answer can
			// still come, and the limit still holds.
		case p.command == ctap.HIDKeepalive && gaveUp != nil:
			// A device that was told before it had begun may have ignored it.
			if now := d.now(); now-last >= cancelAgain {
				last = now
				if err := d.cancel(limit - now); err != nil {
					return nil, false, giveUp(gaveUp, err)
				}
			}
		case p.command == ctap.HIDKeepalive:
			begun = true
			if r.status != nil && len(p.data) > 0 {
				r.status(p.data[0])
			}
			limit = d.now() + r.silence
		case p.command != r.command:
			return nil, false, giveUp(gaveUp, fmt.Errorf("%w: the answer is to %s", ErrFraming, commandName(p.command)))
		default:
			var until time.Duration
			if gaveUp != nil {
				until = limit
			}
			answer, err := d.assemble(d.channel, p, until)
			if err == nil {
				err = r.check(answer)
			}
			if err != nil {
				return nil, false, giveUp(gaveUp, err)
			}
			// A device may answer a CANCEL that came too late, and some keys
			// fail a command that follows WINK at once: both are over when
			// CTAPHID_INIT is answered.
			d.unclean = gaveUp != nil || r.command == ctap.HIDWink
			d.owed = false
			return answer, false, nil
		}
	}
}

// check looks at what the command says of its answer.
func (r *request) check(answer []byte) error {
	switch {
	case r.command == ctap.HIDCBOR && len(answer) == 0:
		return fmt.Errorf("%w: an answer without a status", ErrFraming)
	case r.command == ctap.HIDPing && !bytes.Equal(answer, r.message):
		clear(answer)
		return fmt.Errorf("%w: the answer is not what was sent", ErrFraming)
	}
	return nil
}

// cancelAgain is the age of a CTAPHID_CANCEL at which a further keepalive
// means that it was not heard.
const cancelAgain = 200 * time.Millisecond

// cancel sends CTAPHID_CANCEL, which has no answer of its own (§11.2.9.1.5).
func (d *Device) cancel(within time.Duration) error {
	d.fill(d.channel, ctap.HIDCancel|ctap.HIDInitBit, nil)
	return d.write(within)
}

// giveUp joins why nobody waits any longer, if so, with what happened then.
func giveUp(reason, err error) error {
	switch {
	case reason == nil:
		return err
	case err == nil || reason == ErrClosed:
		return reason
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// pause lets some time go by after ERR_CHANNEL_BUSY. Whatever arrives
// meanwhile belongs to what was refused, such as a second refusal.
func (d *Device) pause(channel uint32) error {
	limit := d.now() + busyPause
	for {
		switch _, err := d.next(channel, d.now(), limit); {
		case err == nil:
		case err == errTimeout:
			return nil
		case err == errInterrupted:
			return fmt.Errorf("%w: %w", d.interruption(), ErrChannelBusy)
		default:
			return err
		}
	}
}

func commandName(command byte) string {
	switch command {
	case ctap.HIDPing:
		return "CTAPHID_PING"
	case ctap.HIDMsg:
		return "CTAPHID_MSG"
	case ctap.HIDLock:
		return "CTAPHID_LOCK"
	case ctap.HIDInit:
		return "CTAPHID_INIT"
	case ctap.HIDWink:
		return "CTAPHID_WINK"
	case ctap.HIDCBOR:
		return "CTAPHID_CBOR"
	case ctap.HIDCancel:
		return "CTAPHID_CANCEL"
	case ctap.HIDKeepalive:
		return "CTAPHID_KEEPALIVE"
	}
	return fmt.Sprintf("CTAPHID command 0x%02x", command)
}
