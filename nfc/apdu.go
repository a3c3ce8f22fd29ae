package nfc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Command APDUs of §11.3 and ISO/IEC 7816-4.
const (
	claISO   = 0x00 // SELECT, U2F
	claCTAP  = 0x80
	claChain = 0x10 // set in all APDUs of a chain but the last

	insSelect      = 0xA4
	insMsg         = 0x10 // NFCCTAP_MSG, §11.3.7.1
	insGetResponse = 0x11 // NFCCTAP_GETRESPONSE, §11.3.7.2
	insControl     = 0x12 // NFCCTAP_CONTROL, §11.3.4
	insMore        = 0xC0 // GET RESPONSE of ISO/IEC 7816-4

	p1ByName     = 0x04 // SELECT by DF name
	p1MayPend    = 0x80 // NFCCTAP_MSG: the client knows NFCCTAP_GETRESPONSE
	p1Cancel     = 0x11 // NFCCTAP_GETRESPONSE: give up
	p1ControlEnd = 0x01 // NFCCTAP_CONTROL: the client is done
)

var aid = []byte{0xA0, 0x00, 0x00, 0x06, 0x47, 0x2F, 0x00, 0x01} // §11.3.3

const (
	// shortData is how many bytes of data go into a short APDU. There is room
	// for 255, but some readers do not take an APDU that is quite so long.
	shortData = 240
	// maxMessage fits an extended APDU of 65535 bytes, and more is a length
	// that not all of PC/SC can express.
	maxMessage = 0xFFFF - 9
	// maxAnswer is what the longest Le asks for.
	maxAnswer = 0x10000
)

// A command is a command APDU that asks for as much response as there is.
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
}

// short encodes a short APDU (ISO/IEC 7816-4 §5.1) with the last data of the
// command. le 0 asks for 256 bytes.
func (c *command) short(data []byte, le byte) []byte {
	apdu := make([]byte, 0, 6+len(data))
	apdu = append(apdu, c.cla, c.ins, c.p1, c.p2)
	if len(data) > 0 {
		apdu = append(apdu, byte(len(data)))
		apdu = append(apdu, data...)
	}
	return append(apdu, le)
}

// fragment encodes a short APDU that others follow. It has no Le: some cards
// answer it as if it were the whole command.
func (c *command) fragment(data []byte) []byte {
	apdu := make([]byte, 0, 5+len(data))
	apdu = append(apdu, c.cla|claChain, c.ins, c.p1, c.p2, byte(len(data)))
	return append(apdu, data...)
}

// extended encodes an APDU of extended length, with data. le 0 asks for 65536
// bytes.
func (c *command) extended(le byte) []byte {
	apdu := make([]byte, 0, 9+len(c.data))
	apdu = append(apdu, c.cla, c.ins, c.p1, c.p2, 0)
	apdu = binary.BigEndian.AppendUint16(apdu, uint16(len(c.data)))
	apdu = append(apdu, c.data...)
	return append(apdu, 0, le)
}

// perform has the card carry out a command and returns the whole response,
// whatever the length and the number of the APDUs that it takes.
func (x *exchange) perform(c *command) ([]byte, StatusWord, error) {
	data, sw, err := x.send(c)
	if err != nil || sw.sw1() != sw1More {
		return data, sw, err
	}
	return x.more(c.cla, data, sw)
}

// send sends a command. Its response may be the first part only.
func (x *exchange) send(c *command) ([]byte, StatusWord, error) {
	if len(c.data) <= shortData {
		return x.sendLast(func(le byte) []byte { return c.short(c.data, le) })
	}
	if x.d.chain {
		return x.sendChain(c)
	}
	data, sw, err := x.sendLast(c.extended)
	switch {
	case x.abandoned || x.gaveUp != nil:
		return data, sw, err
	case err == nil && sw != ErrWrongLength && sw != ErrInsNotSupported && sw != ErrClaNotSupported:
		x.d.carried = max(x.d.carried, len(c.data))
		return data, sw, nil
	case err != nil && !errors.Is(err, ErrExtendedLength) && (len(c.data) <= x.d.carried || !errors.Is(err, ErrNoAnswer)):
		return data, sw, err // the card may have carried it out
	}
	// The reader or the card does not take so long an APDU. If it has another
	// complaint, it has it about a chain as well, and nothing is learned.
	data, sw, err = x.sendChain(c)
	x.d.chain = err == nil && !x.partial
	return data, sw, err
}

// sendChain sends a command in fragments (§11.3.6).
func (x *exchange) sendChain(c *command) ([]byte, StatusWord, error) {
	rest := c.data
	for len(rest) > shortData {
		if err := x.interrupted(); err != nil {
			return nil, 0, err
		}
		x.partial = true
		_, sw, err := x.transmit(c.fragment(rest[:shortData]))
		if err != nil || sw != swOK {
			return nil, sw, err
		}
		rest = rest[shortData:]
	}
	if err := x.interrupted(); err != nil {
		return nil, 0, err
	}
	data, sw, err := x.sendLast(func(le byte) []byte { return c.short(rest, le) })
	x.partial = err != nil
	return data, sw, err
}

// sendLast sends an APDU with Le, and once more if the card wants another Le.
func (x *exchange) sendLast(encode func(le byte) []byte) ([]byte, StatusWord, error) {
	data, sw, err := x.transmit(encode(0))
	if err == nil && sw.sw1() == sw1WrongLe {
		return x.transmit(encode(byte(sw)))
	}
	return data, sw, err
}

// more fetches the rest of a response with GET RESPONSE, in the class of the
// command (§11.3.6). Some cards want that of the other kind of command.
func (x *exchange) more(cla byte, data []byte, sw StatusWord) ([]byte, StatusWord, error) {
	for n := 0; sw.sw1() == sw1More; n++ {
		part, next, err := x.getMore(cla, sw)
		if err == nil && n == 0 && len(part) == 0 && next.refused() {
			// Once, and the other way round again if that is no better.
			x.d.swapped[cla>>7] = !x.d.swapped[cla>>7]
			part, next, err = x.getMore(cla, sw)
			if err == nil && next.refused() {
				x.d.swapped[cla>>7] = !x.d.swapped[cla>>7]
			}
		}
		if err != nil {
			return nil, 0, err
		}
		if len(part) == 0 && next.sw1() == sw1More {
			return nil, 0, fmt.Errorf("%w: a part without data", ErrMalformed)
		}
		if len(data)+len(part) > maxAnswer {
			return nil, 0, fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxAnswer)
		}
		data = append(data, part...)
		clear(part)
		sw = next
	}
	return data, sw, nil
}

func (x *exchange) getMore(cla byte, sw StatusWord) ([]byte, StatusWord, error) {
	c := command{cla: cla & claCTAP, ins: insMore}
	if x.d.swapped[cla>>7] {
		c.cla ^= claCTAP
	}
	first := byte(sw) // 0 is 256 in both
	return x.sendLast(func(le byte) []byte {
		if le == 0 {
			le = first
		}
		return c.short(nil, le)
	})
}

// refused reports whether there is nothing to fetch in this class.
func (s StatusWord) refused() bool {
	return s != swOK && s != swPending && s.sw1() != sw1More
}
