package hid

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// resyncTimeout is the part of InitTimeout for CTAPHID_INIT on our own channel.
const resyncTimeout = InitTimeout / 3

var errNoInit = fmt.Errorf("%w to CTAPHID_INIT", ErrNoAnswer)

// resync makes sure that no answer to an earlier message can be taken for one
// to the next. CTAPHID_INIT on the channel aborts what the device is doing for
// us, and what arrives before its reply is dropped. Some devices answer an
// aborted message all the same, later: so if an answer is owed we leave the
// channel to it and take a new one. So we do if there is no reply: some devices
// know CTAPHID_INIT on the broadcast channel only, and some that have forgotten
// a channel do not say so.
func (d *Device) resync() error {
	err := d.initialize(d.channel, resyncTimeout)
	if err == ErrInvalidChannel || err == errNoInit || err == nil && d.owed {
		return d.initialize(ctap.HIDBroadcast, InitTimeout-resyncTimeout)
	}
	return err
}

// initialize sends CTAPHID_INIT (§11.2.9.1.3): on the broadcast channel it
// asks for a channel of our own, on our channel it starts it anew.
func (d *Device) initialize(channel uint32, within time.Duration) error {
	for {
		if err := d.initializeOnce(channel, within); err != ErrChannelBusy {
			return err
		}
		if err := d.pause(channel); err != nil {
			return err
		}
	}
}

func (d *Device) initializeOnce(channel uint32, within time.Duration) error {
	var nonce [ctap.HIDNonceLength]byte
	rand.Read(nonce[:]) // never fails
	if err := d.send(channel, ctap.HIDInit, nonce[:]); err != nil {
		return err
	}
	// An absolute limit: a device that ignores CTAPHID_INIT may well go on
	// sending keepalives for what it should have given up.
	limit := d.now() + within
	for {
		p, err := d.next(channel, d.now(), limit)
		switch {
		case err == errInterrupted:
			return d.interruption()
		case err == errTimeout:
			return errNoInit
		case err != nil:
			return err
		}
		switch err := p.failed(); {
		case err == ErrChannelBusy, err == ErrInvalidChannel && channel != ctap.HIDBroadcast:
			return err
		case !p.start || p.command != ctap.HIDInit || !bytes.HasPrefix(nonce[:], p.data[:min(len(p.data), len(nonce))]):
			// Another program's, on the broadcast channel; the rest of
			// something abandoned, on ours.
			continue
		}
		reply, err := d.assemble(channel, p, limit)
		var code Error
		switch {
		case errors.Is(err, ErrFraming) || errors.As(err, &code):
			continue // a reply may still come
		case err != nil:
			return err
		case len(reply) < len(nonce) || !bytes.Equal(reply[:len(nonce)], nonce[:]):
			continue // a nonce in several packets that began like ours
		}
		return d.adopt(reply)
	}
}

// adopt takes over what the device says in the reply to our CTAPHID_INIT.
func (d *Device) adopt(reply []byte) error {
	// Later versions may say more.
	if len(reply) < ctap.HIDInitLength {
		return fmt.Errorf("%w: a reply to CTAPHID_INIT of %d bytes", ErrFraming, len(reply))
	}
	channel := binary.BigEndian.Uint32(reply[ctap.HIDNonceLength:])
	if channel == 0 || channel == ctap.HIDBroadcast {
		return fmt.Errorf("%w: channel %08x, which is reserved", ErrFraming, channel)
	}
	d.mu.Lock()
	d.channel = channel
	d.version = Version{Protocol: reply[12], Major: reply[13], Minor: reply[14], Build: reply[15]}
	d.capabilities = Capabilities(reply[16])
	d.mu.Unlock()
	d.unclean = false
	return nil
}
