package conformance

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// On a reader of its own a case minds nothing that the authenticator keeps.
var (
	onReader = plain.inAnyState().leavesNoTrace().orU2F().over("nfc")
	// ctapOnReader is for authenticators that speak CTAP2.
	ctapOnReader = onReader.and(ctap2Spoken)
	u2fOnReader  = onReader.and(u2fSpoken)
	// leftOnReader is for commands that wait for a touch that never comes.
	leftOnReader = ctapOnReader.and(waitsForTouch).person(NoTouch)
)

// getInfoAPDU is getInfo in one APDU of short length.
func getInfoAPDU(le ...byte) []byte {
	return short(claCTAP, insMsg, 0, 0, []byte{ctap.CmdGetInfo}, le...)
}

// info is getInfo without what is new in every answer.
func (r *reader) info(data []byte, word uint16) members {
	status, reply := r.status(data, word)
	var info members
	if err := cbor.Unmarshal(reply, &info); status != ctap.StatusOK || err != nil {
		r.x.fatalf("answers getInfo with status %02X and %x", status, reply)
	}
	delete(info, 0x19) // encIdentifier
	delete(info, 0x1E) // encCredStoreState
	return info
}

// search is a message longer than a packet, to which the answer is that there
// are no credentials.
func (x *trial) search() []byte {
	request := gaRequest(set(1, strings.Repeat("long.", 60)+"example"), set(gaOptions, fields{"up": false}))
	return append([]byte{ctap.CmdGetAssertion}, x.encoded(request)...)
}

// found checks the answer to search.
func (r *reader) found(data []byte, word uint16) error {
	if status, _ := r.status(data, word); status != ctap.StatusNoCredentials {
		return otherwise(fmt.Sprintf("status %02X", status))
	}
	return nil
}

// chain sends a message in pieces and returns the answer to the last.
func (r *reader) chain(message []byte, size int) (data []byte, word uint16) {
	r.begin(message[:len(message)-1], size)
	last := (len(message) - 1) / size * size
	if rest := message[last:]; len(rest) > 0 {
		return r.ask(short(claCTAP, insMsg, 0, 0, rest, 0))
	}
	return nil, 0
}

// begin sends the whole pieces of a message, each to be continued.
func (r *reader) begin(message []byte, size int) {
	for piece := range slices.Chunk(message, size) {
		if len(piece) < size {
			return
		}
		if data, word := r.transmit(short(claCTAP|claChain, insMsg, 0, 0, piece)); word != wordOK || len(data) > 0 {
			r.x.fatalf("answers a command that is to be continued with %04X and %d bytes", word, len(data))
		}
	}
}

func (d *drivers) nfc() {
	d.nfcSelect()
	d.nfcMsg()
	d.nfcChain()
	d.nfcAnswer()
	d.nfcRefused()
	d.nfcUpdates()
	d.nfcU2F()
	d.nfcState()
}

func (d *drivers) nfcSelect() {
	d.add("nfc-select", onReader, func(x *trial) error {
		if version := x.reader().selectApplet(); version != "U2F_V2" && version != "FIDO_2_0" {
			return otherwise(fmt.Sprintf("answers %q", version))
		}
		return nil
	})
	d.add("nfc-select-version", onReader, func(x *trial) error {
		want := "FIDO_2_0"
		if u2fSpoken.holds(x.info) {
			want = "U2F_V2"
		}
		if version := x.reader().selectApplet(); version != want {
			return otherwise(fmt.Sprintf("answers %q, must be %q", version, want))
		}
		return nil
	})
	d.add("nfc-select-again", onReader, func(x *trial) error {
		r := x.reader()
		if one, two := r.selectApplet(), r.selectApplet(); one != two {
			return otherwise(fmt.Sprintf("answers %q, then %q", one, two))
		}
		return nil
	})
	d.add("nfc-select-no-le", onReader, func(x *trial) error {
		_, word := x.reader().ask(short(claISO, insSelect, 4, 0, fidoAID))
		return wordIs(word, wordOK)
	})
	d.add("nfc-select-extended", onReader, func(x *trial) error {
		_, word := x.reader().ask(extended(claISO, insSelect, 4, 0, fidoAID))
		return wordIs(word, wordOK)
	})
	other := func(id string, aid []byte) {
		d.add(id, onReader, func(x *trial) error {
			data, word := x.reader().transmit(short(claISO, insSelect, 4, 0, aid, 0))
			if len(data) > 0 {
				return refuses(data, word)
			}
			return wordIs(word, wordNotFound)
		})
	}
	other("nfc-select-unknown", []byte{0xF0, 'n', 'o', 'b', 'o', 'd', 'y'})
	other("nfc-select-longer", append(bytes.Clone(fidoAID), 0x01))
	other("nfc-select-last-byte", append(bytes.Clone(fidoAID[:7]), 0x7F))
	d.add("nfc-select-p1", onReader, func(x *trial) error {
		data, word := x.reader().transmit(short(claISO, insSelect, 0x55, 0, fidoAID, 0))
		return refuses(data, word)
	})
	d.add("nfc-select-unknown-keeps", ctapOnReader, func(x *trial) error {
		r := x.selected()
		r.transmit(short(claISO, insSelect, 4, 0, []byte{0xF0, 'n', 'o', 'b', 'o', 'd', 'y'}, 0))
		data, word := r.ask(getInfoAPDU(0))
		if len(data) == 0 || word != wordOK {
			return otherwise(fmt.Sprintf("getInfo is answered with %04X then", word))
		}
		return nil
	})
	unselected := func(id string, s setup, apdu []byte) {
		d.add(id, s.powerCycle(), func(x *trial) error {
			x.h.close()
			if err := x.h.powerCycle(x.ctx); err != nil {
				return err
			}
			return refuses(x.reader().transmit(apdu))
		})
	}
	unselected("nfc-unselected-msg", ctapOnReader, getInfoAPDU(0))
	unselected("nfc-unselected-u2f", u2fOnReader, short(claISO, insU2F, 0, 0, nil, 0))
	unselected("nfc-unselected-poll", ctapOnReader, short(claCTAP, insCTAPResponse, 0, 0, nil, 0))

	end := short(claCTAP, insControl, p1End, 0, nil)
	d.add("nfc-control-end", ctapOnReader.and(from21), func(x *trial) error {
		r := x.selected()
		data, word := r.transmit(end)
		if len(data) > 0 {
			return otherwise(fmt.Sprintf("answers %d bytes", len(data)))
		}
		return wordIs(word, wordOK)
	})
	d.add("nfc-control-end-ends", ctapOnReader.and(from21), func(x *trial) error {
		r := x.selected()
		r.transmit(end)
		return refuses(r.transmit(getInfoAPDU(0)))
	})
	d.add("nfc-control-select", ctapOnReader.and(from21), func(x *trial) error {
		r := x.selected()
		r.transmit(end)
		r.selectApplet()
		r.works()
		return nil
	})
	d.add("nfc-control-p1", ctapOnReader.and(from21), func(x *trial) error {
		r := x.selected()
		_, word := r.transmit(short(claCTAP, insControl, 0x02, 0, nil))
		r.works() // and still selected
		return wordIs(word, wordP1P2)
	})
	d.add("nfc-control-data", ctapOnReader.and(from21), func(x *trial) error {
		_, word := x.selected().transmit(short(claCTAP, insControl, p1End, 0, []byte{1}))
		return wordIs(word, wordLength)
	})
}

func (d *drivers) nfcMsg() {
	d.add("nfc-msg-short", ctapOnReader, func(x *trial) error {
		r := x.selected()
		if info := r.info(r.ask(getInfoAPDU(0))); info[1] == nil {
			return otherwise("no versions")
		}
		return nil
	})
	d.add("nfc-msg-extended", ctapOnReader, func(x *trial) error {
		r := x.selected()
		if info := r.info(r.transmit(extended(claCTAP, insMsg, 0, 0, []byte{ctap.CmdGetInfo}))); info[1] == nil {
			return otherwise("no versions")
		}
		return nil
	})
	d.add("nfc-msg-same", ctapOnReader, func(x *trial) error {
		r := x.selected()
		one := r.info(r.ask(getInfoAPDU(0)))
		two := r.info(r.transmit(extended(claCTAP, insMsg, 0, 0, []byte{ctap.CmdGetInfo})))
		if !reflect.DeepEqual(one, two) {
			return otherwise(fmt.Sprintf("answers %v in short length, %v in extended length", one, two))
		}
		return nil
	})
	d.add("nfc-msg-updates", ctapOnReader, func(x *trial) error {
		r := x.selected()
		data, word := r.ask(extended(claCTAP, insMsg, p1Updates, 0, []byte{ctap.CmdGetInfo}))
		r.info(r.polled(data, word))
		return nil
	})
	d.add("nfc-msg-long", ctapOnReader.and(lacks("alwaysUv")), func(x *trial) error {
		r := x.selected()
		return r.found(r.ask(extended(claCTAP, insMsg, 0, 0, x.search())))
	})
	d.add("nfc-msg-status", ctapOnReader, func(x *trial) error {
		r := x.selected()
		if status, reply := r.status(r.ask(short(claCTAP, insMsg, 0, 0, []byte{0x0F}, 0))); status != ctap.StatusInvalidCommand || len(reply) > 0 {
			return otherwise(fmt.Sprintf("status %02X and %d bytes", status, len(reply)))
		}
		return nil
	})
	d.add("nfc-msg-empty", ctapOnReader, func(x *trial) error {
		r := x.selected()
		data, word := r.ask(short(claCTAP, insMsg, 0, 0, nil, 0))
		r.works()
		if word == wordOK && len(data) == 1 && data[0] != ctap.StatusOK {
			return nil // a status of CTAP says so, too
		}
		return refuses(data, word)
	})
	for id, parameters := range map[string][2]byte{"nfc-msg-p1": {0x41, 0}, "nfc-msg-p2": {0, 0x01}} {
		d.add(id, ctapOnReader, func(x *trial) error {
			r := x.selected()
			_, word := r.transmit(short(claCTAP, insMsg, parameters[0], parameters[1], []byte{ctap.CmdGetInfo}, 0))
			r.works()
			return wordIs(word, wordP1P2)
		})
	}
}

// polled fetches the answer to a command that is told as it comes (§11.3.7.2).
func (r *reader) polled(data []byte, word uint16) ([]byte, uint16) {
	told := false
	for limit := time.Now().Add(perCommand); word == wordUpdate && time.Now().Before(limit); {
		if r.pending(data, word) == ctap.KeepaliveUPNeeded && !told {
			told = true
			r.x.h.waiting()
		}
		r.x.sleep(50 * time.Millisecond)
		data, word = r.ask(short(claCTAP, insCTAPResponse, 0, 0, nil, 0))
	}
	return data, word
}

// pending checks that a command is under way and returns the status it is in.
func (r *reader) pending(data []byte, word uint16) (status byte) {
	if word != wordUpdate || len(data) != 1 || data[0] != ctap.KeepaliveProcessing && data[0] != ctap.KeepaliveUPNeeded {
		r.x.fatalf("answers %04X and %x, where a command is under way", word, data)
	}
	return data[0]
}

func (d *drivers) nfcChain() {
	chained := ctapOnReader.and(lacks("alwaysUv"))
	for id, size := range map[string]int{"nfc-chain": 240, "nfc-chain-255": 255, "nfc-chain-16": 16, "nfc-chain-1": 1} {
		d.add(id, chained, func(x *trial) error {
			r := x.selected()
			return r.found(r.chain(x.search(), size))
		})
	}
	d.add("nfc-chain-again", chained, func(x *trial) error {
		r := x.selected()
		for range 2 { // the second begins anew
			if err := r.found(r.chain(x.search(), 100)); err != nil {
				return err
			}
		}
		r.works()
		return nil
	})
	// What drops a chain: a whole getInfo that follows is not the end of it.
	dropped := func(id string, s setup, between func(r *reader)) {
		d.add(id, s, func(x *trial) error {
			r := x.selected()
			r.begin(x.search(), 100)
			between(r)
			r.info(r.ask(getInfoAPDU(0)))
			return nil
		})
	}
	dropped("nfc-chain-then-select", ctapOnReader, func(r *reader) { r.selectApplet() })
	dropped("nfc-chain-then-poll", ctapOnReader, func(r *reader) { r.transmit(short(claCTAP, insCTAPResponse, 0, 0, nil, 0)) })
	dropped("nfc-chain-then-u2f", u2fOnReader.and(ctap2Spoken), func(r *reader) {
		if _, word := r.ask(short(claISO, insU2F, 0, 0, nil, 0)); word != wordOK {
			r.x.fatalf("answers U2F_VERSION with %04X", word)
		}
	})
	dropped("nfc-chain-then-unknown", ctapOnReader, func(r *reader) { r.transmit(short(claCTAP, 0x1F, 0, 0, nil, 0)) })
	d.add("nfc-chain-power", ctapOnReader.powerCycle(), func(x *trial) error {
		x.selected().begin(x.search(), 100)
		x.end()
		if err := x.h.powerCycle(x.ctx); err != nil {
			return err
		}
		r := x.selected()
		r.info(r.ask(getInfoAPDU(0)))
		return nil
	})
	d.add("nfc-chain-too-long", ctapOnReader.and(smallMessages), func(x *trial) error {
		r := x.selected()
		message := append([]byte{ctap.CmdGetAssertion}, make([]byte, maxMsgSize(x.info)+250)...)
		for piece := range slices.Chunk(message, 250) {
			data, word := r.transmit(short(claCTAP|claChain, insMsg, 0, 0, piece))
			if word != wordOK {
				r.works() // it was refused on the way
				return refuses(data, word)
			}
		}
		data, word := r.ask(short(claCTAP, insMsg, 0, 0, []byte{0}, 0))
		r.works()
		if word == wordOK && len(data) == 1 && data[0] != ctap.StatusOK {
			return nil
		}
		return refuses(data, word)
	})
}

// smallMessages keeps a case from sending a message for minutes.
var smallMessages = condition{"takes messages of more than 4096 bytes", func(info *ctap2.Info) bool {
	return maxMsgSize(info) <= 4096
}}

func (d *drivers) nfcAnswer() {
	d.add("nfc-answer-pieces", ctapOnReader, func(x *trial) error {
		r := x.selected()
		whole, word := r.transmit(extended(claCTAP, insMsg, 0, 0, []byte{ctap.CmdGetInfo}))
		r.info(whole, word)
		data, word := r.transmit(getInfoAPDU(0))
		if len(whole) <= 256 {
			x.skip("getInfo has %d bytes, which one response holds", len(whole))
		}
		if len(data) != 256 || word&0xFF00 != 0x6100 {
			return otherwise(fmt.Sprintf("answers %04X and %d bytes of %d", word, len(data), len(whole)))
		}
		if waiting := byte(min(len(whole)-256, 256)); byte(word) != waiting {
			return otherwise(fmt.Sprintf("answers %04X, where %d bytes wait", word, len(whole)-256))
		}
		rest, word := r.rest(claCTAP, word)
		if word != wordOK || len(rest) != len(whole)-256 {
			return otherwise(fmt.Sprintf("sends %d bytes more, of %d, and %04X", len(rest), len(whole)-256, word))
		}
		return nil
	})
	d.add("nfc-answer-le", ctapOnReader, func(x *trial) error {
		r := x.selected()
		data, word := r.transmit(getInfoAPDU(16))
		if len(data) != 16 || word&0xFF00 != 0x6100 {
			return otherwise(fmt.Sprintf("answers %04X and %d bytes to an Le of 16", word, len(data)))
		}
		all := bytes.Clone(data)
		for word&0xFF00 == 0x6100 && len(all) < maxResponse {
			data, word = r.transmit(short(claCTAP, insGetResponse, 0, 0, nil, 32))
			if len(data) == 0 || len(data) > 32 {
				return otherwise(fmt.Sprintf("answers %04X and %d bytes to an Le of 32", word, len(data)))
			}
			all = append(all, data...)
		}
		r.info(all, word)
		return nil
	})
	d.add("nfc-answer-extended", ctapOnReader, func(x *trial) error {
		r := x.selected()
		_, word := r.transmit(extended(claCTAP, insMsg, 0, 0, []byte{ctap.CmdGetInfo}))
		return wordIs(word, wordOK)
	})
	d.add("nfc-answer-nothing", ctapOnReader, func(x *trial) error {
		r := x.selected()
		r.info(r.ask(getInfoAPDU(0)))
		return refuses(r.transmit(short(claCTAP, insGetResponse, 0, 0, nil, 0)))
	})
	d.add("nfc-answer-dropped", ctapOnReader, func(x *trial) error {
		r := x.selected()
		r.transmit(getInfoAPDU(16))
		r.transmit(short(claCTAP, insCTAPResponse, 0, 0, nil, 0))
		return refuses(r.transmit(short(claCTAP, insGetResponse, 0, 0, nil, 0)))
	})
	d.add("nfc-answer-select", ctapOnReader, func(x *trial) error {
		r := x.selected()
		r.transmit(getInfoAPDU(16))
		r.selectApplet()
		return refuses(r.transmit(short(claCTAP, insGetResponse, 0, 0, nil, 0)))
	})
	d.add("nfc-answer-anew", ctapOnReader, func(x *trial) error {
		r := x.selected()
		r.transmit(getInfoAPDU(16))
		r.info(r.ask(getInfoAPDU(0))) // from its beginning
		return nil
	})
}

func (d *drivers) nfcRefused() {
	refused := func(id string, s setup, word uint16, apdu ...byte) {
		d.add(id, s, func(x *trial) error {
			r := x.selected()
			data, got := r.malformed(apdu)
			if ctap2Spoken.holds(x.info) {
				r.works()
			}
			if len(data) > 0 {
				return refuses(data, got)
			}
			return wordIs(got, word)
		})
	}
	refused("nfc-ins-unknown", ctapOnReader, wordINS, short(claCTAP, 0x1F, 0, 0, nil, 0)...)
	refused("nfc-ins-u2f", ctapOnReader, wordINS, short(claCTAP, 0x03, 0, 0, nil, 0)...)
	refused("nfc-ins-unknown-iso", onReader, wordINS, short(claISO, 0x1E, 0, 0, nil, 0)...)
	refused("nfc-cla-unknown", onReader, wordCLA, short(0xA0, insMsg, 0, 0, []byte{ctap.CmdGetInfo}, 0)...)
	refused("nfc-length-lc", ctapOnReader, wordLength, claCTAP, insMsg, 0, 0, 10, ctap.CmdGetInfo)
	refused("nfc-length-lc-extended", ctapOnReader, wordLength, claCTAP, insMsg, 0, 0, 0, 1, 0, ctap.CmdGetInfo)
	refused("nfc-length-rest", ctapOnReader, wordLength, claCTAP, insMsg, 0, 0, 1, ctap.CmdGetInfo, 0, 0, 0)
	refused("nfc-length-header", onReader, wordLength, claCTAP, insMsg, 0)
}

// wait sends what waits for a touch, which nobody gives, and returns when the
// card says that it waits.
func (r *reader) wait() {
	r.x.person(NoTouch)
	data, word := r.transmit(short(claCTAP, insMsg, p1Updates, 0, r.x.touching(), 0))
	if word == wordOK {
		// A key without a button takes the tap for a touch, and one may be without
		// NFCCTAP_GETRESPONSE.
		r.x.skip(tapIsTouch)
	}
	for r.pending(data, word) != ctap.KeepaliveUPNeeded {
		data, word = r.transmit(short(claCTAP, insCTAPResponse, 0, 0, nil, 0))
	}
	r.x.h.waiting()
}

// cancel ends it.
func (r *reader) cancel() (data []byte, word uint16) {
	return r.ask(short(claCTAP, insCTAPResponse, p1Cancel, 0, nil, 0))
}

func (r *reader) cancelled() error {
	if status, reply := r.status(r.cancel()); status != ctap.StatusKeepaliveCancel || len(reply) > 0 {
		return otherwise(fmt.Sprintf("status %02X and %d bytes", status, len(reply)))
	}
	return nil
}

func (d *drivers) nfcUpdates() {
	poll := short(claCTAP, insCTAPResponse, 0, 0, nil, 0)
	d.add("nfc-poll-nothing", ctapOnReader, func(x *trial) error {
		_, word := x.selected().transmit(poll)
		return wordIs(word, wordConditions)
	})
	d.add("nfc-poll-cancel-nothing", ctapOnReader, func(x *trial) error {
		r := x.selected()
		_, word := r.cancel()
		r.works()
		return wordIs(word, wordConditions)
	})
	d.add("nfc-poll-after-answer", ctapOnReader, func(x *trial) error {
		r := x.selected()
		data, word := r.ask(extended(claCTAP, insMsg, p1Updates, 0, []byte{ctap.CmdGetInfo}))
		r.info(r.polled(data, word))
		_, word = r.transmit(poll)
		return wordIs(word, wordConditions)
	})
	d.add("nfc-poll-status", leftOnReader, func(x *trial) error {
		r := x.selected()
		r.wait()
		for range 5 {
			r.pending(r.transmit(poll))
		}
		return r.cancelled()
	})
	d.add("nfc-poll-in-time", leftOnReader, func(x *trial) error {
		r := x.selected()
		r.wait()
		slowest := time.Duration(0)
		for range 5 {
			start := time.Now()
			r.pending(r.transmit(poll))
			slowest = max(slowest, time.Since(start))
		}
		if err := r.cancelled(); err != nil {
			return err
		}
		if slowest > time.Second { // 800 ms, and what the way takes
			return otherwise(fmt.Sprintf("takes %v", slowest))
		}
		return nil
	})
	d.add("nfc-poll-cancel", leftOnReader, func(x *trial) error {
		r := x.selected()
		r.wait()
		return r.cancelled()
	})
	d.add("nfc-poll-cancel-ends", leftOnReader, func(x *trial) error {
		r := x.selected()
		r.wait()
		if err := r.cancelled(); err != nil {
			return err
		}
		r.works()
		_, word := r.transmit(poll)
		return wordIs(word, wordConditions)
	})
	d.add("nfc-poll-cancel-again", leftOnReader, func(x *trial) error {
		r := x.selected()
		for range 2 {
			r.wait()
			if err := r.cancelled(); err != nil {
				return err
			}
		}
		return nil
	})
	d.add("nfc-poll-touch", ctapOnReader.and(waitsForTouch), func(x *trial) error {
		r := x.selected()
		data, word := r.ask(short(claCTAP, insMsg, p1Updates, 0, x.touching(), 0))
		status, _ := r.status(r.polled(data, word))
		return touched(status)
	})
	d.add("nfc-poll-unasked", ctapOnReader.and(waitsForTouch), func(x *trial) error {
		r := x.selected()
		x.h.waiting() // the card cannot say
		data, word := r.ask(short(claCTAP, insMsg, 0, 0, x.touching(), 0))
		if word == wordUpdate {
			return otherwise("answers 9100, which nobody has asked for")
		}
		status, _ := r.status(data, word)
		return touched(status)
	})
	d.add("nfc-poll-p1", leftOnReader, func(x *trial) error {
		r := x.selected()
		r.wait()
		_, word := r.transmit(short(claCTAP, insCTAPResponse, 0x22, 0, nil, 0))
		r.cancel()
		return wordIs(word, wordP1P2)
	})
	over := func(id string, next func(r *reader)) {
		d.add(id, leftOnReader, func(x *trial) error {
			r := x.selected()
			r.wait()
			next(r)
			_, word := r.transmit(poll)
			return wordIs(word, wordConditions)
		})
	}
	over("nfc-poll-select", func(r *reader) { r.selectApplet() })
	over("nfc-poll-other-command", func(r *reader) { r.works() })
}

// touched is what a command of trial.touching ends with when there was a touch.
func touched(status byte) error {
	switch status {
	case ctap.StatusOK, ctap.StatusPINNotSet, ctap.StatusPINInvalid:
		return nil
	}
	return otherwise(fmt.Sprintf("status %02X", status))
}

func (d *drivers) nfcU2F() {
	version := func(id string, apdu []byte) {
		d.add(id, u2fOnReader, func(x *trial) error {
			data, word := x.selected().ask(apdu)
			if string(data) != "U2F_V2" {
				return otherwise(fmt.Sprintf("answers %q and %04X", data, word))
			}
			return wordIs(word, wordOK)
		})
	}
	version("nfc-u2f-version", short(claISO, insU2F, 0, 0, nil, 0))
	version("nfc-u2f-version-no-le", short(claISO, insU2F, 0, 0, nil))
	version("nfc-u2f-version-extended", extended(claISO, insU2F, 0, 0, nil))
	word := func(id string, s setup, want uint16, apdu []byte) {
		d.add(id, s, func(x *trial) error {
			data, got := x.selected().transmit(apdu)
			if len(data) > 0 {
				return refuses(data, got)
			}
			return wordIs(got, want)
		})
	}
	unknown := slices.Concat(make([]byte, 64), []byte{64}, make([]byte, 64))
	word("nfc-u2f-unknown-handle", u2fOnReader, wordWrongData, short(claISO, insAuthenticate, 7, 0, unknown, 0))
	word("nfc-u2f-unknown-handle-extended", u2fOnReader, wordWrongData, extended(claISO, insAuthenticate, 7, 0, unknown))
	word("nfc-u2f-wrong-length", u2fOnReader, wordLength, short(claISO, insRegister, 0, 0, make([]byte, 63), 0))
	word("nfc-u2f-none", ctapOnReader.and(not(u2fSpoken, "speaks U2F"), lacks("alwaysUv")), wordINS, short(claISO, insU2F, 0, 0, nil, 0))
	word("nfc-u2f-only", onReader.and(onlyU2F), wordCLA, getInfoAPDU(0))
	register := func(id string, apdu func() []byte) {
		d.add(id, u2fOnReader, func(x *trial) error {
			r := x.selected()
			request := apdu()
			for try := 0; ; try++ {
				data, word := r.ask(request)
				switch {
				case word == wordOK && len(data) > 67 && data[0] == 5:
					return nil
				case word != wordConditions || try == 150:
					return otherwise(fmt.Sprintf("answers %04X and %d bytes", word, len(data)))
				case try == 0:
					x.h.waiting()
				}
				x.sleep(200 * time.Millisecond)
			}
		})
	}
	register("nfc-u2f-register", func() []byte { return short(claISO, insRegister, 0, 0, random(64), 0) })
	register("nfc-u2f-register-extended", func() []byte { return extended(claISO, insRegister, 0, 0, random(64)) })
}

// client opens the authenticator through the reader.
func (r *reader) client() {
	x := r.x
	x.must(x.h.reopen(x.ctx, line{r}, ctap2.WithStrictCBOR(), ctap2.WithPINUVAuthProtocol(x.prefers)))
	x.key = x.h.key
}

func (d *drivers) nfcState() {
	// A token that is used after something that ends it.
	token := func(id string, s setup, between func(r *reader) *reader) {
		d.add(id, s.over("nfc"), func(x *trial) error {
			r := x.selected()
			r.client()
			request := mcGate.sign(mcRequest(), x.pinToken(mcGate.permission, mcGate.rpID))
			r = between(r)
			message := append([]byte{ctap.CmdMakeCredential}, x.encoded(request)...)
			if status, _ := r.message(message); status != ctap.StatusPINAuthInvalid {
				return otherwise(fmt.Sprintf("status %02X", status))
			}
			return nil
		})
	}
	withToken := withPIN.and(permissions, mcGaWithPIN)
	token("nfc-token-select", withToken, func(r *reader) *reader {
		r.selectApplet()
		return r
	})
	token("nfc-token-control", withToken, func(r *reader) *reader {
		r.transmit(short(claCTAP, insControl, p1End, 0, nil))
		r.selectApplet()
		return r
	})
	token("nfc-token-power", withToken.powerCycle(), func(r *reader) *reader {
		x := r.x
		x.end()
		x.must(x.h.powerCycle(x.ctx))
		return x.selected()
	})
	d.add("nfc-pin-blocked-select", withPIN.spends(3).over("nfc"), func(x *trial) error {
		r := x.selected()
		r.client()
		x.blockPIN()
		r.selectApplet()
		return x.pinBlocked()
	})
	d.add("nfc-next-assertion-select", plain.and(residentKeys).over("nfc"), func(x *trial) error {
		x.create()
		x.create(func(r *ctap2.MakeCredentialRequest) { r.User.ID = []byte{4, 5, 6} })
		x.mustShow(gaRequest())
		r := x.selected()
		request := append([]byte{ctap.CmdGetAssertion}, x.encoded(gaRequest())...)
		x.h.waiting()
		if status, _ := r.message(request); status != ctap.StatusOK {
			x.fatalf("getAssertion is answered with status %02X", status)
		}
		r.selectApplet()
		if status, _ := r.message([]byte{ctap.CmdGetNextAssertion}); status != ctap.StatusNotAllowed {
			return otherwise(fmt.Sprintf("status %02X", status))
		}
		return nil
	})
}

// blockPIN enters three wrong PINs in a row: none is looked at any more before the
// power is gone (§6.5.2.2).
func (x *trial) blockPIN() {
	if left := x.tries(); left <= ctap.PINMaxConsecutiveMismatches {
		x.skip("has %d tries of the PIN, which are gone then", left)
	}
	x.mistypeInARow(ctap.PINMaxConsecutiveMismatches)
}

// pinBlocked sees whether it is so still.
func (x *trial) pinBlocked() error {
	if got, _ := statusOf(x.legacy(x.agree(), x.pin())); got != "PIN_AUTH_BLOCKED" {
		return otherwise("the right PIN is answered with " + got)
	}
	return nil
}
