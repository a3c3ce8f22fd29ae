package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A reader is an authenticator on a card reader, APDU by APDU (§11.3). Its
// methods end the trial when what comes is no response.
type reader struct {
	x     *trial
	card  Card
	mute  bool // what passes is not written down: it may hold PIN material
	shut  func()
	spent int // responses
}

const (
	// perCommand is how long an answer may take: a person may be asked to touch
	// the card, which need not say that it waits.
	perCommand = time.Minute
	// maxResponse bounds what is put together of pieces.
	maxResponse = 1 << 17
	// maxResponses bounds how many commands of one trial are answered: a card
	// that is never done ends before its time does.
	maxResponses = 1 << 12
	// shownBytes is how much of a response is written down.
	shownBytes = 1024
)

// Status words.
const (
	wordOK         = 0x9000
	wordUpdate     = 0x9100
	wordLength     = 0x6700
	wordConditions = 0x6985
	wordWrongData  = 0x6A80
	wordNotFound   = 0x6A82
	wordP1P2       = 0x6A86
	wordINS        = 0x6D00
	wordCLA        = 0x6E00
)

// Classes and instructions.
const (
	claISO, claCTAP, claChain = 0x00, 0x80, 0x10

	insSelect, insGetResponse            = 0xA4, 0xC0
	insMsg, insCTAPResponse, insControl  = 0x10, 0x11, 0x12
	insRegister, insAuthenticate, insU2F = 0x01, 0x02, 0x03
	p1Updates, p1Cancel, p1End           = 0x80, 0x11, 0x01
)

var fidoAID = []byte{0xA0, 0x00, 0x00, 0x06, 0x47, 0x2F, 0x00, 0x01}

// reader closes the authenticator and connects to the card in its place, until
// the trial ends.
func (x *trial) reader() *reader {
	x.h.close()
	card, err := x.h.config.Target.NFC(x.ctx)
	x.must(err)
	r := &reader{x: x, card: card}
	r.shut = sync.OnceFunc(func() { _ = card.Close() })
	x.ends = append(x.ends, r.shut)
	return r
}

// selected is reader, with the applet selected.
func (x *trial) selected() *reader {
	r := x.reader()
	r.selectApplet()
	return r
}

func (r *reader) selectApplet() (version string) {
	data, word := r.ask(short(claISO, insSelect, 4, 0, fidoAID, 0))
	if word != wordOK {
		r.x.fatalf("answers SELECT with %04X", word)
	}
	return string(data)
}

// short makes a command APDU of short length. The last byte of it is le, the
// number of bytes that the response may have, 0 for 256; without one, there is
// none.
func short(class, instruction, p1, p2 byte, data []byte, le ...byte) []byte {
	apdu := []byte{class, instruction, p1, p2}
	if len(data) > 0 {
		apdu = append(append(apdu, byte(len(data))), data...)
	}
	return append(apdu, le...)
}

// extended makes one of extended length, whose response may be as long as it
// likes.
func extended(class, instruction, p1, p2 byte, data []byte) []byte {
	apdu := []byte{class, instruction, p1, p2, 0}
	if len(data) > 0 {
		apdu = append(binary.BigEndian.AppendUint16(apdu, uint16(len(data))), data...)
	}
	return append(apdu, 0, 0)
}

// describeAPDU says what a command is.
func describeAPDU(apdu []byte) string {
	if len(apdu) < 4 {
		return fmt.Sprintf("APDU of %d bytes", len(apdu))
	}
	name := fmt.Sprintf("INS %02X", apdu[1])
	switch class := apdu[0] &^ claChain; {
	case class == claISO && apdu[1] == insSelect:
		name = "SELECT"
	case apdu[1] == insGetResponse:
		name = "GET RESPONSE"
	case class == claCTAP && apdu[1] == insMsg:
		name = "NFCCTAP_MSG"
	case class == claCTAP && apdu[1] == insCTAPResponse:
		name = "NFCCTAP_GETRESPONSE"
	case class == claCTAP && apdu[1] == insControl:
		name = "NFCCTAP_CONTROL"
	case class == claISO && apdu[1] == insRegister:
		name = "U2F_REGISTER"
	case class == claISO && apdu[1] == insAuthenticate:
		name = "U2F_AUTHENTICATE"
	case class == claISO && apdu[1] == insU2F:
		name = "U2F_VERSION"
	}
	if apdu[0]&claChain != 0 {
		name += ", to be continued"
	}
	return fmt.Sprintf("%s, APDU of %d bytes", name, len(apdu))
}

// try sends a command. Its error is that of a reader that did not carry it.
func (r *reader) try(command []byte) (data []byte, word uint16, err error) {
	if r.spent++; r.spent > maxResponses {
		r.x.fatalf("has answered %d commands and is not done", maxResponses)
	}
	ctx, cancel := context.WithTimeout(r.x.ctx, perCommand)
	defer cancel()
	if err := context.Cause(ctx); err != nil {
		r.x.fatalf("%w", err)
	}
	type response struct {
		apdu []byte
		err  error
	}
	done := make(chan response, 1)
	go func() {
		apdu, err := r.card.Transmit(bytes.Clone(command))
		done <- response{apdu, err}
	}()
	e := Exchange{Command: describeAPDU(command), Request: hex.EncodeToString(command)}
	defer func() {
		if !r.mute {
			r.x.h.note(e)
		}
	}()
	var answer response
	select {
	case answer = <-done:
	case <-ctx.Done():
		r.shut() // which wakes Transmit
		e.Error = errNoAnswer.Error()
		r.x.fatalf("%w to %s", errNoAnswer, e.Command)
	}
	n := len(answer.apdu) - 2
	switch {
	case answer.err != nil:
		e.Error = answer.err.Error()
		return nil, 0, answer.err
	case n < 0:
		e.Error = fmt.Sprintf("response of %d bytes", len(answer.apdu))
		r.x.fatalf("answers %s with %d bytes", e.Command, len(answer.apdu))
	}
	data, word = answer.apdu[:n], binary.BigEndian.Uint16(answer.apdu[n:])
	e.Status = fmt.Sprintf("%04X, %d bytes", word, n)
	e.Reply = hex.EncodeToString(data[:min(n, shownBytes)])
	return data, word, nil
}

// transmit is try, with a reader that carries everything.
func (r *reader) transmit(command []byte) (data []byte, word uint16) {
	data, word, err := r.try(command)
	if err != nil {
		r.x.fatalf("%s: %w", describeAPDU(command), err)
	}
	return data, word
}

// malformed is transmit for what some readers do not carry.
func (r *reader) malformed(command []byte) (data []byte, word uint16) {
	data, word, err := r.try(command)
	if err != nil {
		r.x.skip("the reader does not carry it: %v", err)
	}
	return data, word
}

// ask sends a command and fetches the whole of its answer.
func (r *reader) ask(command []byte) (data []byte, word uint16) {
	data, word = r.transmit(command)
	pieces, word := r.rest(command[0]&claCTAP, word)
	return append(bytes.Clone(data), pieces...), word
}

// rest fetches what there is more of an answer (§11.3.6).
func (r *reader) rest(class byte, word uint16) ([]byte, uint16) {
	var all []byte
	for word&0xFF00 == 0x6100 {
		var data []byte
		data, word = r.transmit(short(class, insGetResponse, 0, 0, nil, byte(word)))
		if len(data) == 0 && word&0xFF00 == 0x6100 {
			r.x.fatalf("says that there is more of an answer and sends none of it")
		}
		if all = append(all, data...); len(all) > maxResponse {
			r.x.fatalf("sends %d bytes, and more", len(all))
		}
	}
	return all, word
}

// message sends a CTAP message in one APDU and returns what answers it: its
// status, and the rest.
func (r *reader) message(command []byte) (status byte, reply []byte) {
	return r.status(r.ask(extended(claCTAP, insMsg, 0, 0, command)))
}

// status checks that an answer is one to a CTAP message.
func (r *reader) status(data []byte, word uint16) (status byte, reply []byte) {
	if word != wordOK || len(data) == 0 {
		r.x.fatalf("answers a CTAP message with %04X and %d bytes", word, len(data))
	}
	return data[0], data[1:]
}

// works checks that getInfo does.
func (r *reader) works() {
	if status, reply := r.message([]byte{ctap.CmdGetInfo}); status != ctap.StatusOK || len(reply) == 0 {
		r.x.fatalf("getInfo is answered with status %02X and %d bytes", status, len(reply))
	}
}

// wordIs returns nil if a status word is one of those.
func wordIs(got uint16, want ...uint16) error {
	text, opposed := "", true
	for _, w := range want {
		opposed = opposed && succeeds(got) != succeeds(w)
		if got == w {
			return nil
		}
		if text != "" {
			text += " or "
		}
		text += fmt.Sprintf("%04X", w)
	}
	text = fmt.Sprintf("answers %04X, must be %s", got, text)
	if opposed {
		return opposite(text)
	}
	return otherwise(text)
}

// succeeds reports whether a status word is that of a success, or of one that
// goes on.
func succeeds(word uint16) bool { return word == wordOK || word == wordUpdate || word&0xFF00 == 0x6100 }

// refuses returns nil if a status word says no, whatever the reason.
func refuses(data []byte, word uint16) error {
	if len(data) == 0 && !succeeds(word) {
		return nil
	}
	return opposite(fmt.Sprintf("answers %04X and %d bytes, must be refused", word, len(data)))
}

// A line is a reader as a transport of ctap2, for what takes a client.
type line struct{ r *reader }

func (l line) Close() error { return nil }

// Exchange writes nothing down: ctap2's own trace does.
func (l line) Exchange(_ context.Context, message []byte, _ func(byte)) (reply []byte, err error) {
	l.r.mute = true
	defer func() {
		l.r.mute = false
		// What ends a trial must not end what ctap2 has begun.
		switch ended := recover().(type) {
		case nil:
		case verdict:
			err = ended.err
		default:
			panic(ended)
		}
	}()
	status, reply := l.r.message(message)
	return append([]byte{status}, reply...), nil
}
