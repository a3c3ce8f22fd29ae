package nfc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tapstone/fido/internal/ctap"
)

// A testCard is a card in memory. Unless told otherwise it takes APDUs of both
// lengths and answers a message with status 0 and the message.
type testCard struct {
	version   string
	shortOnly bool              // refuses extended length with shortSW
	shortSW   uint16            // 6700 if it is 0
	part      int               // most data in a response; 256 if it is 0
	moreCLA   func(byte) byte   // the class of GET RESPONSE that it wants, by that of the command
	answer    func(apdu) answer // instead of the echo, for all but SELECT
	// script comes before everything. Nil, nil: as usual.
	script func([]byte) ([]byte, error)

	mu       sync.Mutex
	log      []string
	chain    []byte
	rest     []byte // of the response
	restSW   uint16
	cla      byte // of the command that rest is of
	selected bool
	closes   int
	begins   int
	ends     int
}

type apdu struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // -1 for none
	extended         bool
}

type answer struct {
	data []byte
	sw   uint16
}

func parseAPDU(b []byte) apdu {
	a := apdu{cla: b[0], ins: b[1], p1: b[2], p2: b[3], le: -1}
	b = b[4:]
	switch {
	case len(b) == 0:
	case len(b) == 1:
		a.le = int(b[0])
	case b[0] != 0:
		n := int(b[0])
		a.data = b[1 : 1+n]
		if b = b[1+n:]; len(b) > 0 {
			a.le = int(b[0])
		}
	default:
		a.extended = true
		n := int(b[1])<<8 | int(b[2])
		a.data = b[3 : 3+n]
		a.le = int(b[3+n])<<8 | int(b[4+n])
	}
	return a
}

func (c *testCard) Transmit(command []byte) ([]byte, error) {
	if c.script != nil {
		if r, err := c.script(command); r != nil || err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.logCommand(command)
			return r, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logCommand(command)
	a := parseAPDU(command)
	if a.extended && c.shortOnly {
		if c.shortSW == 0 {
			c.shortSW = 0x6700
		}
		return sw(c.shortSW), nil
	}
	if a.ins == insMore {
		want := c.cla & 0x80
		if c.moreCLA != nil {
			want = c.moreCLA(want)
		}
		if len(c.rest) == 0 || a.cla != want {
			return sw(0x6E00), nil
		}
		return c.next(a), nil
	}
	c.rest = nil
	if a.cla&claChain != 0 {
		if a.le >= 0 {
			return sw(0x6700), nil
		}
		c.chain = append(c.chain, a.data...)
		return sw(0x9000), nil
	}
	a.data = append(c.chain, a.data...)
	c.chain = nil
	c.cla = a.cla
	r := c.reply(a)
	c.rest, c.restSW = r.data, r.sw
	if len(r.data) == 0 || a.extended {
		c.rest = nil
		return append(bytes.Clone(r.data), sw(r.sw)...), nil
	}
	return c.next(a), nil
}

func (c *testCard) reply(a apdu) answer {
	if a.ins == insSelect && a.p1 == p1ByName {
		if !bytes.Equal(a.data, aid) {
			return answer{sw: 0x6A82}
		}
		c.selected = true
		version := c.version
		if version == "" {
			version = VersionU2F
		}
		return answer{[]byte(version), 0x9000}
	}
	if !c.selected {
		return answer{sw: 0x6D00}
	}
	switch {
	case a.ins == insControl:
		c.selected = false
		return answer{sw: 0x9000}
	case c.answer != nil:
		return c.answer(a)
	}
	return answer{append([]byte{0}, a.data...), 0x9000}
}

// next returns the next part of the response.
func (c *testCard) next(a apdu) []byte {
	n := c.part
	if n == 0 {
		n = 256
	}
	if a.le > 0 {
		n = min(n, a.le)
	}
	n = min(n, len(c.rest))
	part := bytes.Clone(c.rest[:n])
	c.rest = c.rest[n:]
	if len(c.rest) > 0 {
		return append(part, 0x61, byte(min(len(c.rest), 256)))
	}
	return append(part, sw(c.restSW)...)
}

func (c *testCard) logCommand(b []byte) {
	s := hex.EncodeToString(b)
	if len(s) > 32 {
		s = fmt.Sprintf("%s…(%d)", s[:16], len(b))
	}
	c.log = append(c.log, s)
}

func (c *testCard) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closes++
	return nil
}

// taken returns the APDUs that the card got since it was last asked.
func (c *testCard) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}

// A sharedCard is one that others can use.
type sharedCard struct {
	*testCard
	begin func() error
}

func (c sharedCard) Begin() error {
	if c.begin != nil {
		if err := c.begin(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begins++
	return nil
}

func (c sharedCard) End() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends++
	return nil
}

func sw(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

const (
	selectAPDU  = "00a4040008a0000006472f000100"
	getInfoAPDU = "801080000104" + "00"
	pollAPDU    = "8011000000"
	cancelAPDU  = "8011110000"
	endAPDU     = "80120100"
)

var getInfo = []byte{ctap.CmdGetInfo}

// mustNew opens a Device on the card, which is closed behind the test.
func mustNew(t testing.TB, c Card) *Device {
	t.Helper()
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// counting returns n bytes that differ from their neighbours.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}

func mustTake(t *testing.T, c *testCard, want ...string) {
	t.Helper()
	if got := c.taken(); !slices.Equal(got, want) {
		t.Fatalf("the card got %q, want %q", got, want)
	}
}

func mustAnswer(t *testing.T, d *Device, message []byte) {
	t.Helper()
	answer, err := d.Exchange(t.Context(), message, nil)
	if want := append([]byte{0}, message...); err != nil || !bytes.Equal(answer, want) {
		t.Fatalf("Exchange(%d bytes) = %d bytes, %v", len(message), len(answer), err)
	}
}
