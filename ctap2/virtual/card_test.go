package virtual

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// cardStub stands in for the authenticator in a card.
type cardStub struct{ coreStub }

func (c *cardStub) deselect(context.Context) error {
	c.note("deselect")
	return nil
}

// msg answers U2F_REGISTER with as many bytes as it says, and U2F_AUTHENTICATE
// with its data.
func (c *cardStub) msg(_ context.Context, cmd *commandAPDU) ([]byte, uint16, error) {
	switch {
	case !c.u2f:
		return nil, swUnknownINS, nil
	case cmd.instruction == u2fRegister:
		return make([]byte, binary.BigEndian.Uint16(append(cmd.data, 0, 0))), swOK, nil
	case cmd.instruction == u2fAuthenticate:
		return bytes.Clone(cmd.data), swOK, nil
	}
	return []byte(versionU2F), swOK, nil
}

func (c *cardStub) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if len(message) == 0 {
		return []byte{ctap.StatusInvalidLength}, nil
	}
	return c.coreStub.Exchange(ctx, message, status)
}

// A reader is a program that has a card on a reader, and a hex editor.
type reader struct {
	testing.TB
	*Card
}

func (r reader) transmit(command []byte) []byte {
	r.Helper()
	before := bytes.Clone(command)
	response, err := r.Transmit(command)
	if err != nil {
		r.Fatalf("Transmit %x: %v", command, err)
	}
	if !bytes.Equal(command, before) {
		r.Fatalf("Transmit %x changed its argument", before)
	}
	return response
}

// run plays a conversation: "> command" is sent and "< response" is its
// response. A line that starts with "= " is a pause.
func (r reader) run(t *testing.T, script string) {
	t.Helper()
	var response []byte
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		switch line[0] {
		case '>':
			response = r.transmit(parseReport(t, line[1:]))
		case '<':
			if !bytes.Equal(response, parseReport(t, line[1:])) {
				t.Fatalf("response %x\n    want %s", response, line[1:])
			}
		case '=':
			d, err := time.ParseDuration(strings.TrimSpace(line[1:]))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		default:
			t.Fatalf("bad line %q", line)
		}
	}
}

func (r reader) expectGone(t *testing.T) {
	t.Helper()
	if response, err := r.Transmit(parseReport(t, apduSelect)); !errors.Is(err, ctap.ErrDeviceGone) {
		t.Errorf("Transmit to no card = %x, %v", response, err)
	}
}

const (
	apduSelect  = "00a40400 08 a0000006472f0001 00"
	selectFIDO2 = "> " + apduSelect + "\n< 4649444f5f325f30 9000\n"
	selectU2F   = "> " + apduSelect + "\n< 5532465f5632 9000\n"
)

func TestParseAPDU(t *testing.T) {
	for _, test := range []struct {
		apdu     string
		data     string
		le       int
		extended bool
		bad      bool
	}{
		{apdu: "80100000"},
		{apdu: "80100000 00", le: 256},
		{apdu: "80100000 01", le: 1},
		{apdu: "80100000 01 04", data: "04"},
		{apdu: "80100000 01 04 00", data: "04", le: 256},
		{apdu: "80100000 02 0405 ff", data: "0405", le: 255},
		{apdu: "80100000 ff 04*255", data: "04*255"},
		{apdu: "80100000 000000", le: 65536, extended: true},
		{apdu: "80100000 000100", le: 256, extended: true},
		{apdu: "80100000 000001 04", data: "04", extended: true},
		{apdu: "80100000 000001 04 0000", data: "04", le: 65536, extended: true},
		{apdu: "80100000 000100 04*256 0001", data: "04*256", le: 1, extended: true},
		{apdu: "80100000 00ffff 04*65535 0000", data: "04*65535", le: 65536, extended: true},

		{apdu: "", bad: true},
		{apdu: "801000", bad: true},
		{apdu: "80100000 02 04", bad: true},
		{apdu: "80100000 01 04 0000", bad: true},
		{apdu: "80100000 0000", bad: true, extended: true},
		{apdu: "80100000 000000 0000", bad: true, extended: true},
		{apdu: "80100000 000002 04", bad: true, extended: true},
		{apdu: "80100000 000001 04 00", bad: true, extended: true},
		{apdu: "80100000 000001 04 000000", bad: true, extended: true},
	} {
		command := parseReport(t, test.apdu)
		cmd, ok := parseAPDU(command)
		if ok == test.bad || cmd.extended != test.extended {
			t.Errorf("%s: ok %v, extended %v", test.apdu, ok, cmd.extended)
		}
		if test.bad {
			continue
		}
		if !bytes.Equal(cmd.data, parseReport(t, test.data)) || cmd.le != test.le {
			t.Errorf("%s: data %x, Le %d", test.apdu, cmd.data, cmd.le)
		}
		if !bytes.HasPrefix(command, cmd.head) || len(cmd.head) < 4+len(cmd.data) {
			t.Errorf("%s: head %x", test.apdu, cmd.head)
		}
	}
}

func TestCardConversations(t *testing.T) {
	for _, test := range []struct {
		name    string
		config  CardConfig
		u2f     bool
		noCTAP2 bool
		script  string
	}{
		{name: "selection", script: `
			> 00a40400 08 a0000006472f0001       // without Le
			< 4649444f5f325f30 9000
			> 00a40400 000008 a0000006472f0001 0000
			< 4649444f5f325f30 9000
			> 00a40400 08 a0000006472f0001 04    // room for half of it
			< 4649444f 6104
			> 00c00000 04
			< 5f325f30 9000
		`},
		{name: "another application", script: `
			> 00a40400 07 d2760000850101 00
			< 6a82
			> 80100000 01 04 00                  // nothing is selected
			< 6985
			` + selectFIDO2 + `
			> 00a40400 08 a0000006472f0002 00
			< 6a82
			> 80100000 01 01 00                  // the applet still is
			< 0001 9000
		`},
		{name: "selection of another kind", script: `
			> 00a40000 02 3f00 00
			< 6a86
			> 00a4040c 08 a0000006472f0001 00
			< 6a86
		`},
		{name: "before selection", script: `
			> 80100000 01 04 00
			< 6985
			> 00c00000 00
			< 6985
			> 80110000 00
			< 6985
			> 80120100
			< 6985
			> 00030000 00
			< 6985
		`},
		{name: "what a card does not know", script: selectFIDO2 + `
			> 00030000 00                        // U2F's version
			< 6d00
			> 00010000 000040 aa*64 0000         // and registration
			< 6d00
			> 80130000
			< 6d00
			> 80a40400 08 a0000006472f0001 00
			< 6d00
			> 00100000 01 04 00
			< 6d00
			> 01100000 01 04 00                  // another logical channel
			< 6e00
			> 84100000 01 04 00                  // secure messaging
			< 6e00
			> ff100000 01 04 00
			< 6e00
			> 80
			< 6700
			> 80100000 05 04 00
			< 6700
		`},
		{name: "parameters", script: selectFIDO2 + `
			> 80100100 01 01 00
			< 6a86
			> 80108100 01 01 00
			< 6a86
			> 80100001 01 01 00
			< 6a86
			> 80110100 00
			< 6a86
			> 80110001 00
			< 6a86
			> 80110000 01 00 00
			< 6700
			> 80120000
			< 6a86
			> 80120101
			< 6a86
			> 80120100 01 00
			< 6700
			> 80120100 00                        // Le does no harm
			< 9000
		`},
		{name: "deselection", script: selectFIDO2 + `
			> 80120100
			< 9000
			> 80100000 01 01 00
			< 6985
			> 80120100
			< 6985
			` + selectFIDO2 + `
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "a message of no length", script: selectFIDO2 + `
			> 80100000
			< 03 9000
			> 80100000 00
			< 03 9000
			> 90100000
			< 9000
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "answers to short commands come in parts", script: selectFIDO2 + `
			> 80100000 03 020100 00
			< 00*256 9000
			> 80100000 03 020101                 // without Le
			< 00*256 6101
			> 80c00000 01
			< 00 9000
			> 80c00000 00                        // that was all
			< 6985
			> 80100000 03 020402 00              // 1026
			< 00*256 6100
			> 80c00000 00
			< 00*256 6100
			> 00c00000 00                        // either class
			< 00*256 6100
			> 80c00000 ff
			< 00*255 6103
			> 80c00000 02
			< 00*2 6101
			> 80c00000                           // no Le is as much as there is
			< 00 9000
			> 80100000 03 020010 04
			< 00*4 610c
			> 80c00000 000000                    // a long Le
			< 00*12 9000
		`},
		{name: "answers to extended commands come whole", script: selectFIDO2 + `
			> 80100000 000003 020402 0000
			< 00*1026 9000
			> 80100000 000003 02ffff 0000
			< 00*65535 9000
			> 80100000 000003 020402             // without Le
			< 00*1026 9000
			> 80100000 000003 020402 0400
			< 00*1024 6102
			> 80c00000 0003ff
			< 00*2 9000
		`},
		{name: "any other command ends an answer in parts", script: selectFIDO2 + `
			> 80100000 03 020101 00
			< 00*256 6101
			> 80130000
			< 6d00
			> 80c00000 00
			< 6985
			> 80100000 03 020101 00
			< 00*256 6101
			> 80c00000 01 00 00                  // a GET RESPONSE that is none
			< 6700
			> 80c00000 00
			< 6985
			> 80100000 03 020101 00
			< 00*256 6101
			> 80c00001 00
			< 6b00
			> 80c00000 00
			< 6985
		`},
		{name: "chains", script: selectFIDO2 + `
			> 90100000 02 0100
			< 9000
			> 90100000 ff aa*255
			< 9000
			> 90100000 01 bb 00                  // Le is not needed and does no harm
			< 9000
			> 80100000 01 cc 00
			< 00 0100 aa*253 6104
			> 80c00000 04
			< aa*2 bb cc 9000
			> 90100000 000002 0107               // one end of each length
			< 9000
			> 80100000 01 cc 00
			< 00 0107cc 9000
			> 90100000 01 01
			< 9000
			> 80100000 000100 cc*256 0000
			< 00 01 cc*256 9000
		`},
		{name: "any other command ends a chain", script: selectFIDO2 + `
			> 90100000 02 01aa
			< 9000
			> 80110000 00
			< 6985
			> 80100000 01 01 00
			< 0001 9000
			> 90100000 02 01aa
			< 9000
			> 90100001 01 bb
			< 6a86
			> 80100000 01 01 00
			< 0001 9000
			> 90100000 02 01aa
			` + selectFIDO2 + `
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "chains of what has none", script: selectFIDO2 + `
			> 10a40400 04 a0000006
			< 6884
			> 90110000
			< 6884
			> 10c00000
			< 6884
		`},
		{name: "a chain without end", script: selectFIDO2 + `
			> 90100000 00ffff 01 aa*65534
			< 9000
			> 90100000 01 bb
			< 6700
			> 80100000 01 01 00                  // it is gone
			< 0001 9000
		`},
		{name: "U2F besides CTAP2", u2f: true, script: `
			> 00030000 00                        // nothing is selected
			< 6985
			` + selectU2F + `
			> 00020300 02 aabb                   // without Le
			< aabb 9000
			> 00020300 000002 aabb 0000
			< aabb 9000
			> 00010000 02 0101 00                // 257 bytes
			< 00*256 6101
			> 00c00000 01
			< 00 9000
			> 00010000 000002 0101 0000
			< 00*257 9000
			> 00010000 000002 0101 0100
			< 00*256 6101
			> 00c00000 000000
			< 00 9000
			> 80100000 01 01 00
			< 0001 9000
			> 80020300 01 aa 00                  // of the other class
			< 6d00
			> 00000000
			< 6d00
			> 00040000
			< 6d00
		`},
		{name: "chains of U2F", u2f: true, script: selectU2F + `
			> 10020300 ff aa*255
			< 9000
			> 00020300 01 bb 00
			< aa*255 bb 9000
			> 10020300 01 aa
			< 9000
			> 00010000 02 0001                   // another command
			< 00 9000
			> 10020300 01 aa
			< 9000
			> 80100000 01 01 00
			< 0001 9000
			> 90100000 01 01
			< 9000
			> 00020300 01 bb
			< bb 9000
			> 10020300 00ffff aa*65535
			< 9000
			> 10020300 01 bb
			< 6700
			> 00020300 01 bb                     // it is gone
			< bb 9000
		`},
		{name: "a U2F command ends what was not over", u2f: true, script: selectU2F + `
			> 80108000 01 05 00
			< 02 9100
			> 00020300 01 bb
			< bb 9000
			> 80110000 00
			< 6985
			> 80100000 03 020101 00
			< 00*256 6101
			> 00020300 01 bb
			< bb 9000
			> 80c00000 00
			< 6985
		`},
		{name: "U2F alone", u2f: true, noCTAP2: true, script: `
			> 80100000 01 04 00
			< 6e00
			` + selectU2F + `
			> 80100000 01 04 00
			< 6e00
			> 90100000 01 04
			< 6e00
			> 80110000 00
			< 6e00
			> 80120100
			< 6e00
			> 00010000 02 0101 00
			< 00*256 6101
			> 80c00000 01                        // which ends it
			< 6e00
			> 00c00000 01
			< 6985
			> 00020300 02 aabb 00
			< aabb 9000
		`},
		{name: "quirk 16, in U2F", u2f: true, config: CardConfig{Faults: CardFaults{WrongLe: true, RefuseLeInChain: true}}, script: `
			> 00a40400 08 a0000006472f0001 06
			< 5532465f5632 9000
			> 00020300 02 aabb 00
			< 6c02
			> 00020300 02 aabb 02
			< aabb 9000
			> 10020300 01 aa 00
			< 6700
		`},
		{name: "quirk 14: SELECT answers 61xx", config: CardConfig{Faults: CardFaults{ChainSelect: true}}, script: `
			> 00a40400 08 a0000006472f0001 00
			< 6108
			> 00c00000 08
			< 4649444f5f325f30 9000
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "quirk 14: SELECT answers U2F_V2", config: CardConfig{Faults: CardFaults{ClaimU2F: true}}, script: `
			> 00a40400 08 a0000006472f0001 00
			< 5532465f5632 9000
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "quirk 15: 80 C0 only", config: CardConfig{Faults: CardFaults{Only80GetResponse: true}}, script: selectFIDO2 + `
			> 80100000 03 020101 00
			< 00*256 6101
			> 00c00000 01
			< 6e00
			> 80c00000 01
			< 00 9000
		`},
		{name: "quirk 15: 00 C0 only", config: CardConfig{Faults: CardFaults{Only00GetResponse: true}}, script: selectFIDO2 + `
			> 80100000 03 020101 00
			< 00*256 6101
			> 80c00000 01
			< 6e00
			> 00c00000 01
			< 00 9000
		`},
		{name: "quirk 16: no Le in a chain", config: CardConfig{Faults: CardFaults{RefuseLeInChain: true}}, script: selectFIDO2 + `
			> 90100000 01 01
			< 9000
			> 90100000 01 aa 00
			< 6700
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "quirk 16: the right Le", config: CardConfig{Faults: CardFaults{WrongLe: true}}, script: `
			> 00a40400 08 a0000006472f0001 00
			< 6c08
			> 00a40400 08 a0000006472f0001 08
			< 4649444f5f325f30 9000
			> 80100000 01 01
			< 6c02
			> 80100000 01 01 03                  // wrong again
			< 6c02
			> 80100000 01 01 02
			< 0001 9000
			> 80100000 03 020102 10
			< 6c00
			> 80100000 03 020102 00
			< 00*256 6102
			> 80c00000 00
			< 6c02
			> 80c00000 02
			< 00*2 9000
			> 80c00000 02
			< 6985
			> 80100000 01 01                     // another command ends it
			< 6c02
			> 80100000 02 0102 03
			< 000102 9000
			> 80100000 000001 01 0000            // and extended length knows none of it
			< 0001 9000
		`},
		{name: "quirk 17: a card without extended length", config: CardConfig{Faults: CardFaults{RefuseExtended: true}}, script: `
			> 00a40400 000008 a0000006472f0001 0000
			< 6700
			` + selectFIDO2 + `
			> 80100000 000001 01 0000
			< 6700
			> 80100000 01 01 00
			< 0001 9000
		`},
		{name: "quirk 21: a card without the applet", config: CardConfig{Faults: CardFaults{NoApplet: true}}, script: `
			> 00a40400 08 a0000006472f0001 00
			< 6a82
			> 80100000 01 01 00
			< 6985
		`},

		{name: "status updates", script: selectFIDO2 + `
			> 80108000 01 01 00                  // a quick one
			< 0001 9000
			> 80110000 00
			< 6985
			> 80108000 01 04 00                  // 250 ms, of which nothing is heard
			< 01 9100
			> 80110000 00
			< 01 9100
			> 80110000
			< 00 9000
			> 80108000 01 05 00                  // a touch
			< 02 9100
			= 9s
			> 80110000 00
			< 02 9100
			= 1s
			> 80110000 00
			< 00 9000
			> 80110000 00
			< 6985
		`},
		{name: "no status updates for who knows none", script: selectFIDO2 + `
			> 80100000 01 05 00
			< 00 9000
		`},
		{name: "cancelling", script: selectFIDO2 + `
			> 80108000 01 05 00
			< 02 9100
			> 80111100 00
			< 2d 9000
			> 80111100 00
			< 6985
			> 80108000 01 08 00                  // too late
			< 01 9100
			> 80111100 00
			< 00 9000
		`},
		{name: "a long answer to a poll", script: selectFIDO2 + `
			> 80108000 01 04 00
			< 01 9100
			= 1s
			> 80110000 01
			< 00 9000
		`},
		{name: "any other command ends a command", script: selectFIDO2 + `
			> 80108000 01 05 00
			< 02 9100
			> 80100000 01 01 00
			< 0001 9000
			> 80110000 00
			< 6985
			> 80108000 01 05 00
			< 02 9100
			> 80120100
			< 9000
			> 80110000 00
			< 6985
		`},
		{name: "quirk 18: no status updates", config: CardConfig{Faults: CardFaults{NoStatusUpdates: true}}, script: selectFIDO2 + `
			> 80108000 01 05 00
			< 00 9000
			> 80110000 00
			< 6d00
		`},
		{name: "quirk 18: a card that ignores cancel", config: CardConfig{Faults: CardFaults{IgnoreCancel: true}}, script: selectFIDO2 + `
			> 80108000 01 05 00
			< 02 9100
			> 80111100 00
			< 02 9100
			= 10s
			> 80111100 00
			< 00 9000
		`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				card := newCard(&cardStub{coreStub{u2f: test.u2f, noCTAP2: test.noCTAP2}}, test.config)
				defer card.Remove()
				reader{t, card}.run(t, test.script)
			})
		})
	}
}

// Quirk 17.
func TestCardShortReader(t *testing.T) {
	card := newCard(&cardStub{}, CardConfig{ShortReader: true})
	defer card.Remove()
	r := reader{t, card}
	if response, err := r.Transmit(parseReport(t, "00a40400 000008 a0000006472f0001 0000")); err == nil {
		t.Errorf("the reader sent an extended command: %x", response)
	}
	r.run(t, selectFIDO2)
}

func TestCardATR(t *testing.T) {
	card := newCard(&cardStub{}, CardConfig{})
	defer card.Remove()
	atr := card.ATR()
	check := byte(0)
	for _, b := range atr[1:] {
		check ^= b
	}
	if atr[0] != 0x3B || check != 0 || int(atr[1]&0x0F) != len(atr)-5 {
		t.Errorf("ATR %x", atr)
	}
	atr[0] = 0
	if card.ATR()[0] == 0 {
		t.Error("ATR is not a copy")
	}
	t0 := []byte{0x3B, 0x80, 0x80}
	if card := newCard(&cardStub{}, CardConfig{ATR: t0}); !bytes.Equal(card.ATR(), t0) {
		t.Errorf("ATR %x", card.ATR())
	}
}

func TestCardRefusesWithTheCore(t *testing.T) {
	core := &cardStub{}
	r := reader{t, newCard(core, CardConfig{})}
	r.run(t, selectFIDO2)
	if response, err := r.Transmit(parseReport(t, "80100000 01 03 00")); err == nil {
		t.Errorf("a command that failed has the response %x", response)
	}
	r.run(t, "> 80100000 01 01 00\n< 0001 9000")
	r.Remove()
}

// Power and selection end what they must, in the right order.
func TestCardPower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &cardStub{}
		r := reader{t, newCard(core, CardConfig{})}
		defer r.Remove()
		r.Tap() // is there
		core.expect(t, "power")

		touch := selectFIDO2 + "> 80108000 01 05 00\n< 02 9100"
		r.run(t, touch)
		core.expect(t, "power", "deselect", "begin 5")
		r.Remove()
		synctest.Wait()
		core.mu.Lock()
		slices.Sort(core.log[3:]) // the command sees the field go as soon as the key does
		core.mu.Unlock()
		core.expect(t, "power", "deselect", "begin 5", "end 5", "power")
		r.Remove() // is not there
		r.expectGone(t)
		if err := r.Reset(); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("Reset of no card: %v", err)
		}
		core.log = nil
		r.Tap()
		r.run(t, "> 80110000 00\n< 6985\n> 80100000 01 01 00\n< 6985")
		core.expect(t, "power")

		// So does a reset, and selecting once more.
		r.run(t, selectFIDO2+"> 90100000 01 aa\n< 9000")
		if err := r.Reset(); err != nil {
			t.Fatal(err)
		}
		r.run(t, "> 80100000 01 01 00\n< 6985\n"+selectFIDO2+"> 80100000 01 01 00\n< 0001 9000")
		r.run(t, touch)
		core.log = nil
		r.run(t, selectFIDO2)
		synctest.Wait()
		slices.Sort(core.log) // the command may need a while to notice
		core.expect(t, "deselect", "end 5")
		r.Remove()
	})
}

// A command that waits does not hold up what ends it (quirk 22).
func TestCardRemovedDuringTransmit(t *testing.T) {
	for _, test := range []struct {
		name    string
		command byte
		end     func(c *Card)
	}{
		{"removed", stubTouch, (*Card).Remove},
		{"reset", stubTouch, func(c *Card) { c.Reset() }},
		{"removed, put back", stubTouch, func(c *Card) { c.Remove(); c.Tap() }},
		{"stuck", stubStuck, (*Card).Remove},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := reader{t, newCard(&cardStub{}, CardConfig{})}
				r.run(t, selectFIDO2)
				go func() {
					time.Sleep(time.Second)
					test.end(r.Card)
				}()
				begin := time.Now()
				response, err := r.Transmit([]byte{0x80, 0x10, 0, 0, 1, test.command, 0})
				if !errors.Is(err, ctap.ErrDeviceGone) || time.Since(begin) != time.Second {
					t.Errorf("after %v: %x, %v", time.Since(begin), response, err)
				}
				r.Remove()
				time.Sleep(time.Minute) // until what was stuck is not
			})
		})
	}
}

// Quirk 22, at each command of a conversation.
func TestCardRemoveAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &cardStub{}
		r := reader{t, newCard(core, CardConfig{Faults: CardFaults{RemoveAfter: 1}})}
		r.run(t, selectFIDO2)
		core.log = nil
		r.expectGone(t)
		core.expect(t, "power") // at once
		r.expectGone(t)
		for n := 2; n <= 4; n++ {
			r.Tap()
			r.SetFaults(CardFaults{RemoveAfter: n})
			for range n {
				r.run(t, selectFIDO2)
			}
			r.expectGone(t)
		}
		// It can be put back, for as many commands.
		r.Tap()
		for range 4 {
			r.run(t, selectFIDO2)
		}
		r.expectGone(t)
	})
}

func TestCardFromSeveralGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{t, newCard(&cardStub{}, CardConfig{})}
		r.run(t, selectFIDO2)
		done := make(chan error)
		for range 4 {
			go func() {
				for range 50 {
					response, err := r.Transmit([]byte{0x80, 0x10, 0, 0, 1, stubEcho, 0})
					if err != nil && !errors.Is(err, ctap.ErrDeviceGone) {
						done <- fmt.Errorf("%x, %w", response, err)
						return
					}
				}
				done <- nil
			}()
			go func() {
				for range 20 {
					r.Remove()
					r.Tap()
					r.Reset()
				}
				done <- nil
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		r.run(t, selectFIDO2)
		r.Remove()
	})
}

// cardPlatform is a platform that reaches its key over a card.
type cardPlatform struct {
	reader
	extended bool
	updates  byte // P1 of NFCCTAP_MSG
}

// exchange sends a message and returns the answer.
func (p cardPlatform) exchange(msg []byte) []byte {
	p.Helper()
	var response []byte
	if p.extended {
		apdu := binary.BigEndian.AppendUint16([]byte{0x80, 0x10, p.updates, 0, 0}, uint16(len(msg)))
		response = p.transmit(append(append(apdu, msg...), 0, 0))
	} else {
		for len(msg) > 200 {
			apdu := append([]byte{0x90, 0x10, p.updates, 0, 200}, msg[:200]...)
			if response := p.transmit(apdu); !bytes.Equal(response, []byte{0x90, 0}) {
				p.Fatalf("response to a part: %x", response)
			}
			msg = msg[200:]
		}
		apdu := append([]byte{0x80, 0x10, p.updates, 0, byte(len(msg))}, msg...)
		response = p.transmit(append(apdu, 0))
	}
	var answer []byte
	for {
		n := len(response) - 2
		sw := binary.BigEndian.Uint16(response[n:])
		switch {
		case sw == swOK:
			return append(answer, response[:n]...)
		case sw&0xFF00 == swMore && !p.extended:
			answer = append(answer, response[:n]...)
			response = p.transmit([]byte{0x80, 0xC0, 0, 0, byte(sw)})
		case sw == swUpdate && p.updates != 0 && n == 1:
			poll := []byte{0x80, 0x11, 0, 0, 0}
			if p.extended {
				poll = []byte{0x80, 0x11, 0, 0, 0, 0, 0}
			}
			response = p.transmit(poll)
		default:
			p.Fatalf("response %x", response)
		}
	}
}

// The Authenticator itself, not its stub.
func TestCardAuthenticator(t *testing.T) {
	for _, p := range []cardPlatform{{}, {extended: true}, {updates: cardMsgUpdates}, {extended: true, updates: cardMsgUpdates}} {
		t.Run(fmt.Sprintf("extended=%v,updates=%02x", p.extended, p.updates), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Without what getInfo encrypts anew each time.
				key := newKey(t, Config{
					PIN: testPIN, NoU2F: true, NoPersistentCredMgmtRO: true,
					Transports: []string{"nfc"}, Presence: TouchAfter(3 * time.Second),
				})
				p.reader = reader{t, key.Tap(CardConfig{})}
				defer p.Remove()
				p.run(t, selectFIDO2)

				info, err := key.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := p.exchange([]byte{ctap.CmdGetInfo}); !bytes.Equal(got, info) {
					t.Errorf("getInfo %x\n   want %x", got, info)
				}
				token := key.token(pin.Two, permMC, testRPID)
				long := [][]byte{bytes.Repeat([]byte{1}, 120), bytes.Repeat([]byte{2}, 120), bytes.Repeat([]byte{3}, 120)}
				request := message(t, ctap.CmdMakeCredential, makeRequest(exclude(long...),
					withToken(ctap.CmdMakeCredential, pin.Two, token)))
				begin := time.Now()
				if answer := p.exchange(request); answer[0] != ctap.StatusOK || len(answer) <= 256 {
					t.Fatalf("makeCredential: %x", answer)
				}
				if time.Since(begin) < 3*time.Second {
					t.Error("nobody was waited for")
				}
			})
		})
	}
}

func TestCardCancelsTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore, NoU2F: true})
		r := reader{t, key.Tap(CardConfig{})}
		defer r.Remove()
		r.run(t, selectFIDO2+`
			> 80108000 01 0b 00
			< 02 9100
			> 80110000 00
			< 02 9100
			> 80111100 00
			< 2d 9000
			> 80108000 01 0b 00
			< 02 9100
			= 31s
			> 80110000 00
			< 2f 9000
		`)
	})
}

// A token, the rest of the assertions, a large-blob array and an enrolment that
// are not complete end with the selection; the block after three wrong PINs ends
// with the power alone.
func TestCardReselection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN, NoU2F: true, BuiltInUV: UVNotConfigured})
		card := key.Tap(CardConfig{})
		defer card.Remove()
		r := reader{t, card}
		makeWith := func(token pin.Secret) params {
			return makeRequest(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, token))
		}

		for _, end := range []string{selectFIDO2, "> 80120100\n< 9000", "> 00a40400 01 00\n< 6a82"} {
			r.run(t, selectFIDO2)
			token := key.token(pin.Two, permMC, testRPID)
			r.run(t, end)
			if strings.Contains(end, "6a82") {
				key.ok(ctap.CmdMakeCredential, makeWith(token))
				continue
			}
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdMakeCredential, makeWith(token))
		}

		key.ok(ctap.CmdMakeCredential, merge(makeWith(key.token(pin.Two, permMC, testRPID)), []params{account("bob", "bob@example.com")}))
		key.ok(ctap.CmdGetAssertion, assertRequest())
		r.run(t, selectFIDO2)
		key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)

		array := serialized(1, 40)
		open := newKey(t, Config{NoU2F: true}) // on which it is not the token's end that ends it
		openCard := open.Tap(CardConfig{})
		defer openCard.Remove()
		open.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 40))
		reader{t, openCard}.run(t, selectFIDO2)
		open.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 20, 0))

		e := key.enroller(pin.Two)
		id := value[[]byte](t, e.do(enrollBegin, nil), bioTemplateID)
		r.run(t, selectFIDO2)
		key.enroller(pin.Two).fails(ctap.StatusInvalidOption, enrollNext, params{1: id})

		for _, want := range []byte{ctap.StatusPINInvalid, ctap.StatusPINInvalid, ctap.StatusPINAuthBlocked, ctap.StatusPINAuthBlocked} {
			request, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
			key.refused(want, ctap.CmdClientPIN, request)
			r.run(t, selectFIDO2)
		}
		if err := r.Reset(); err != nil {
			t.Fatal(err)
		}
		key.token(pin.Two, permMC, testRPID)
	})
}

// So does the wait for a touch of U2F, and a touch that nobody has asked for
// since.
func TestCardReselectionStopsBlinking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		c.next = TouchAfter(time.Second)
		key := newKey(t, Config{Presence: c.person})
		card := key.Tap(CardConfig{})
		defer card.Remove()
		r := reader{t, card}
		r.run(t, selectU2F)
		key.wantWord(swConditions, registerAPDU(testApplication))
		time.Sleep(2 * time.Second)
		r.run(t, selectU2F)
		key.wantWord(swConditions, registerAPDU(testApplication))
		synctest.Wait()
		if n := c.took(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(2 * time.Second)
		key.register(testApplication)
	})
}

// The person takes the card away instead of touching it, or resets it.
func TestCardPersonRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{NoU2F: true})
		card := key.Tap(CardConfig{})
		r := reader{t, card}
		for _, end := range []func(){card.Remove, func() { card.Reset() }} {
			card.Tap()
			key.SetPresence(func(ctx context.Context, _ Prompt) Answer {
				end()
				<-ctx.Done()
				return Nothing
			})
			r.run(t, selectFIDO2)
			if response, err := r.Transmit(parseReport(t, "80100000 01 0b 00")); !errors.Is(err, ctap.ErrDeviceGone) {
				t.Errorf("%x, %v", response, err)
			}
		}
		card.Tap()
		r.run(t, selectFIDO2)
		key.PowerCycle() // which the card does not hear of
		r.run(t, "> 80120100\n< 9000")
	})
}

func TestCardOfClosedKey(t *testing.T) {
	key := newKey(t, Config{NoU2F: true})
	r := reader{t, key.Tap(CardConfig{})}
	r.run(t, selectFIDO2)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"80100000 01 04 00", "00a40400 08 a0000006472f0001 00", "80120100"} {
		if response, err := r.Transmit(parseReport(t, command)); !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("%s: %x, %v", command, response, err)
		}
	}
	r.Remove()
}

// Whatever comes in, a card answers with a status word that it knows and as
// much data as there is room for, and a well-behaved client gets on with it
// afterwards.
func FuzzCard(f *testing.F) {
	known := []uint16{
		swOK, swUpdate, swWrongLength, swChainingUnsupported, swConditions, swNotFound,
		swWrongP1P2, swWrongParameters, swUnknownINS, swUnknownCLA,
	}
	// A command each: its length in two bytes, and its bytes.
	seed := func(faults byte, commands ...string) {
		data := []byte{faults}
		for _, c := range append([]string{apduSelect}, commands...) {
			b, err := hex.DecodeString(strings.ReplaceAll(c, " ", ""))
			if err != nil {
				f.Fatal(err)
			}
			data = append(binary.BigEndian.AppendUint16(data, uint16(len(b))), b...)
		}
		f.Add(data)
	}
	seed(0, "80100000 01 04 00", "80c00000 00", "00c00000 00")
	seed(0, "90100000 01 02", "80100000 000002 0101 0000", "80120100")
	seed(0, "80108000 01 05 00", "80110000 00", "80111100 00")
	seed(1, "80108000 01 05 00", "80110000 00")
	seed(0, "80108000 01 06 00", "80111100 00")
	seed(2, "80100000 03 020101 00", "80c00000 00", "80c00000 01")
	seed(4, "80100000 000003 02ffff 0000", "80108000 01 07 00", "80110000 00")
	seed(0, "", "80", "80100000 00", "80100000 0000", "80100000 02 04")
	seed(32, "00030000 00", "10020300 02 aabb", "00020300 01 cc 00", "00010000 02 0101 00", "00c00000 01")
	seed(34, "00010000 000002 0101 0000", "00020300 02 aabb 01", "10010000 01 01", "90100000 01 01")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			core := &cardStub{coreStub{u2f: data[0]&32 != 0}}
			core.during = func() {}
			card := newCard(core, CardConfig{Faults: CardFaults{
				ChainSelect:     data[0]&1 != 0,
				WrongLe:         data[0]&2 != 0,
				NoStatusUpdates: data[0]&4 != 0,
				RefuseLeInChain: data[0]&8 != 0,
				IgnoreCancel:    data[0]&16 != 0,
			}})
			defer card.Remove()
			for rest := data[1:]; len(rest) >= 2; {
				n := min(int(binary.BigEndian.Uint16(rest)), len(rest)-2)
				command := rest[2 : 2+n]
				rest = rest[2+n:]
				response, err := card.Transmit(command)
				if err != nil {
					if errors.Is(err, errStub) || errors.Is(err, context.Canceled) {
						continue // as the stub was asked to: stubError, stubFails
					}
					t.Fatalf("Transmit %x: %v", command, err)
				}
				cmd, _ := parseAPDU(command)
				if len(response) < 2 || len(response)-2 > cmd.room() {
					t.Fatalf("%d bytes for %x", len(response), command)
				}
				sw := binary.BigEndian.Uint16(response[len(response)-2:])
				if !slices.Contains(known, sw) && sw&0xFF00 != swMore && sw&0xFF00 != swWrongLe {
					t.Fatalf("SW %04x for %x", sw, command)
				}
				if len(card.request) > maxCardRequest {
					t.Fatalf("%d bytes of a chain", len(card.request))
				}
			}
			card.SetFaults(CardFaults{})
			selection := selectFIDO2
			if core.u2f {
				selection = selectU2F
			}
			reader{t, card}.run(t, selection+"> 80100000 01 01 00\n< 0001 9000")
			time.Sleep(time.Minute) // until what was stuck is not
		})
	})
}
