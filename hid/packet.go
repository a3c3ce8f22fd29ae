package hid

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A message travels in an initialization packet, which says its command and
// length, and up to 128 continuation packets (§11.2.4). Each packet fills one
// report: a header, then data, then zeros.
const (
	initHeader = 7 // CID(4) CMD(1) BCNT(2)
	contHeader = 5 // CID(4) SEQ(1)
)

// maxMessage returns the length in bytes of the largest message that reports
// of the given size carry: 7609 if they have 64 bytes. BCNT has 16 bits.
func maxMessage(reportSize int) int {
	return min(reportSize-initHeader+(ctap.HIDMaxSequence+1)*(reportSize-contHeader), math.MaxUint16)
}

// A packet is one report, taken apart.
type packet struct {
	start    bool // an initialization packet
	command  byte // if start, without the bit that says so
	length   int  // if start, of the whole message
	sequence byte // if not start
	data     []byte
}

// parse takes a report of full size apart. The packet shares its memory.
func parse(report []byte) (channel uint32, p packet) {
	channel = binary.BigEndian.Uint32(report)
	if kind := report[4]; kind&ctap.HIDInitBit == 0 {
		return channel, packet{sequence: kind, data: report[contHeader:]}
	}
	p = packet{
		start:   true,
		command: report[4] &^ ctap.HIDInitBit,
		length:  int(binary.BigEndian.Uint16(report[5:])),
		data:    report[initHeader:],
	}
	p.data = p.data[:min(p.length, len(p.data))]
	return channel, p
}

// failed returns the error that a packet stands for, nil if it is not a
// CTAPHID_ERROR.
func (p packet) failed() error {
	switch {
	case !p.start || p.command != ctap.HIDError:
		return nil
	case len(p.data) == 0:
		return fmt.Errorf("%w: CTAPHID_ERROR without a code", ErrFraming)
	}
	return Error(p.data[0])
}

// send writes a message. If the caller need not wait any longer it stops
// before the next packet: a device that has not got the whole message does
// nothing, and gives up on it by itself.
func (d *Device) send(channel uint32, command byte, message []byte) error {
	rest := d.fill(channel, command|ctap.HIDInitBit, message)
	for sequence := byte(0); ; sequence++ {
		if err := d.interruption(); err != nil {
			return err
		}
		if err := d.write(PacketTimeout); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		rest = d.fill(channel, sequence, rest)
	}
}

// fill makes the packet that carries the start of message and returns what did
// not fit. kind is a command with its high bit set, or a sequence number.
func (d *Device) fill(channel uint32, kind byte, message []byte) []byte {
	clear(d.out)
	binary.BigEndian.PutUint32(d.out, channel)
	d.out[4] = kind
	header := contHeader
	if kind&ctap.HIDInitBit != 0 {
		binary.BigEndian.PutUint16(d.out[5:], uint16(len(message)))
		header = initHeader
	}
	return message[copy(d.out[header:], message):]
}

// assemble reads the rest of the message that p starts, into one buffer of the
// length that p announces. until, unless zero, bounds the whole of it.
func (d *Device) assemble(channel uint32, p packet, until time.Duration) ([]byte, error) {
	if p.length > maxMessage(len(d.in)) {
		return nil, fmt.Errorf("%w: a length of %d bytes", ErrFraming, p.length)
	}
	message := make([]byte, p.length)
	n := copy(message, p.data)
	command := p.command // p and what it shares memory with change below
	var ended error
	fail := func(err error) ([]byte, error) {
		clear(message)
		if ended != nil {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return nil, err
	}
	for sequence := byte(0); n < len(message); {
		now := d.now()
		limit := now + PacketTimeout
		if until != 0 {
			limit = min(limit, until)
		}
		p, err := d.next(channel, now, limit)
		switch {
		case err == errInterrupted:
			reason := d.interruption()
			if reason == ErrClosed || command == ctap.HIDInit {
				return fail(reason)
			}
			// The command was carried out and its answer is on the way:
			// cancelling comes too late, and dropping the answer helps nobody.
			ended = reason
			until = d.now() + CancelTimeout
			d.unwatch()
			continue
		case err == errTimeout:
			return fail(fmt.Errorf("%w: %w beyond byte %d of %d", ErrFraming, ErrNoAnswer, n, len(message)))
		case err != nil:
			return fail(err)
		case p.failed() != nil:
			return fail(p.failed())
		case p.start:
			return fail(fmt.Errorf("%w: %s begins within another message", ErrFraming, commandName(p.command)))
		case p.sequence != sequence:
			return fail(fmt.Errorf("%w: packet %d where %d is due", ErrFraming, p.sequence, sequence))
		}
		n += copy(message[n:], p.data)
		sequence++
	}
	return message, nil
}
