package virtual

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A coreStub stands in for the authenticator. The first byte of a message
// says what it does with it.
type coreStub struct {
	mu     sync.Mutex
	log    []string // what was asked of it, in order
	during func()   // called in the middle of stubCallback

	u2f, noCTAP2 bool
}

var errStub = errors.New("stub")

func (c *coreStub) protocols() (u2f, ctap2 bool) { return c.u2f, !c.noCTAP2 }

// Msg answers with the request, but for one that is empty.
func (c *coreStub) Msg(_ context.Context, apdu []byte) ([]byte, error) {
	if len(apdu) == 0 {
		return nil, errStub
	}
	return statusWord(swOK, bytes.Clone(apdu)...), nil
}

const (
	stubEcho     = 0x01 // answers at once with status OK and the message
	stubLong     = 0x02 // answers at once with as many bytes as the message says
	stubError    = 0x03 // fails
	stubSlow     = 0x04 // takes 250 ms
	stubTouch    = 0x05 // 10 s of waiting for a touch; can be cancelled
	stubFails    = 0x06 // like stubTouch, but an error follows a cancellation
	stubStuck    = 0x07 // takes 2 s, whatever happens
	stubTooLate  = 0x08 // succeeds although it was cancelled
	stubCallback = 0x09 // calls during
)

func (c *coreStub) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	c.note("begin %x", message[0])
	defer c.note("end %x", message[0])
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch message[0] {
	case stubEcho:
		return append([]byte{ctap.StatusOK}, message...), nil
	case stubLong:
		return make([]byte, binary.BigEndian.Uint16(append(message[1:], 0, 0))), nil
	case stubError:
		return nil, errStub
	case stubSlow:
		time.Sleep(250 * time.Millisecond)
	case stubTouch:
		status(ctap.KeepaliveProcessing)
		status(ctap.KeepaliveUPNeeded)
		status(ctap.KeepaliveUPNeeded)
		if wait(10*time.Second) != nil {
			return []byte{ctap.StatusKeepaliveCancel}, nil
		}
	case stubFails:
		return nil, wait(10 * time.Second)
	case stubStuck:
		time.Sleep(2 * time.Second)
	case stubTooLate:
		wait(10 * time.Second)
	case stubCallback:
		c.during()
		wait(10 * time.Second)
	}
	return []byte{ctap.StatusOK}, nil
}

func (c *coreStub) PowerCycle() { c.note("power") }

func (c *coreStub) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func (c *coreStub) expect(t *testing.T, log ...string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.log, log) {
		t.Errorf("the authenticator saw %q, want %q", c.log, log)
	}
}

// parseReport reads a report written by hand: hex digits, spaces anywhere,
// and XX*N for N times the byte XX.
func parseReport(t *testing.T, s string) []byte {
	t.Helper()
	var report []byte
	for field := range strings.FieldsSeq(s) {
		digits, times, repeated := strings.Cut(field, "*")
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("bad report %q: %v", s, err)
		}
		n := 1
		if repeated {
			if n, err = strconv.Atoi(times); err != nil {
				t.Fatalf("bad report %q: %v", s, err)
			}
		}
		report = append(report, bytes.Repeat(b, n)...)
	}
	return report
}

func whole(report []byte, size int) []byte {
	return append(report, make([]byte, size-len(report))...)
}

// A host is a program that holds a connection and a hex editor.
type host struct {
	t    *testing.T
	conn *USBConn
	size int
}

func connect(t *testing.T, u *USB) *host {
	t.Helper()
	conn, err := u.Open()
	if err != nil {
		t.Fatal(err)
	}
	return &host{t, conn, u.reportSize}
}

func (h *host) send(report string) {
	h.t.Helper()
	p := whole(parseReport(h.t, report), h.size)
	if n, err := h.conn.Write(p); n != len(p) || err != nil {
		h.t.Fatalf("Write %q = %d, %v", report, n, err)
	}
}

func (h *host) hear(want string) {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(time.Minute))
	p := make([]byte, h.size+1)
	n, err := h.conn.Read(p)
	if err != nil {
		h.t.Fatalf("waiting for %q: %v", want, err)
	}
	if !bytes.Equal(p[:n], whole(parseReport(h.t, want), h.size)) {
		h.t.Fatalf("heard %x\n want %s", bytes.TrimRight(p[:n], "\x00"), want)
	}
}

func (h *host) hearNothing(d time.Duration) {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(d))
	p := make([]byte, h.size)
	if n, err := h.conn.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Fatalf("Read in silence = %x, %v", bytes.TrimRight(p[:n], "\x00"), err)
	}
}

// run plays a conversation, one step a line: "> report" is sent, "< report" is
// heard next, and "= duration" is silence.
func (h *host) run(script string) {
	h.t.Helper()
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		switch rest := line[1:]; line[0] {
		case '>':
			h.send(rest)
		case '<':
			h.hear(rest)
		case '=':
			d, err := time.ParseDuration(strings.TrimSpace(rest))
			if err != nil {
				h.t.Fatal(err)
			}
			h.hearNothing(d)
		default:
			h.t.Fatalf("bad line %q", line)
		}
	}
}

// allocate makes channels 1 and 2.
const allocate = `
	> ffffffff 86 0008 0102030405060708
	< ffffffff 86 0011 0102030405060708 00000001 02 010203 0d
	> ffffffff 86 0008 a1a2a3a4a5a6a7a8
	< ffffffff 86 0011 a1a2a3a4a5a6a7a8 00000002 02 010203 0d
`

func TestUSBConversations(t *testing.T) {
	echo := map[byte]func([]byte) ([]byte, error){
		0x40: func(data []byte) ([]byte, error) { return data, nil },
		0x7F: func(data []byte) ([]byte, error) { return nil, errors.New("refused") },
	}
	for _, test := range []struct {
		name    string
		config  USBConfig
		u2f     bool
		noCTAP2 bool
		script  string
	}{
		{name: "INIT resynchronizes an allocated channel", script: allocate + `
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
		`},
		{name: "INIT of a wrong length", script: allocate + `
			> ffffffff 86 0007 01020304050607
			< ffffffff bf 0001 03
			> 00000001 86 0009 010203040506070809
			< 00000001 bf 0001 03
			> ffffffff 86 1db9
			< ffffffff bf 0001 03
		`},
		{name: "channels that do not exist", script: allocate + `
			> 00000000 86 0008 0102030405060708
			< 00000000 bf 0001 0b
			> 00000000 81 0001 77
			< 00000000 bf 0001 0b
			> 00000003 86 0008 0102030405060708
			< 00000003 bf 0001 0b
			> 00000003 81 0001 77
			< 00000003 bf 0001 0b
			> ffffffff 81 0001 77
			< ffffffff bf 0001 0b
			> 00000003 00 77
			> 00000003 91 0000
			= 1s
		`},
		{name: "PING", script: allocate + `
			> 00000001 81 0000
			< 00000001 81 0000
			> 00000001 81 0039 aa*57
			< 00000001 81 0039 aa*57
			> 00000001 81 003a aa*57
			> 00000001 00 bb
			< 00000001 81 003a aa*57
			< 00000001 00 bb
			> 00000001 81 0075 aa*57
			> 00000001 00 bb*59
			= 499ms
			> 00000001 01 cc
			< 00000001 81 0075 aa*57
			< 00000001 00 bb*59
			< 00000001 01 cc
		`},
		{name: "what follows a message in its last packet is no part of it", script: allocate + `
			> 00000001 81 003a aa*57
			> 00000001 00 bb cc*58
			< 00000001 81 003a aa*57
			< 00000001 00 bb
		`},
		{name: "unknown commands", config: USBConfig{Vendor: echo}, script: allocate + `
			> 00000001 83 0005 0003000000    // MSG
			< 00000001 bf 0001 01
			> 00000001 bc 0001 00            // SYNC, obsolete
			< 00000001 bf 0001 01
			> 00000001 bb 0001 01            // KEEPALIVE
			< 00000001 bf 0001 01
			> 00000001 bf 0001 01            // ERROR
			< 00000001 bf 0001 01
			> 00000001 c1 0000               // a vendor command that it lacks
			< 00000001 bf 0001 01
			> 00000001 83 0100 aa*57         // its continuations are spurious
			< 00000001 bf 0001 01
			> 00000001 00 bb*59
			= 1s
		`},
		{name: "U2F besides CTAP2", u2f: true, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 05
			> 00000001 83 0005 0003000000
			< 00000001 83 0007 0003000000 9000
			> 00000001 83 003a aa*57
			> 00000001 00 bb
			< 00000001 83 003c aa*57
			< 00000001 00 bb 9000
			> 00000001 91 0000               // which is for CBOR
			> 00000001 83 0000
			< 00000001 bf 0001 7f
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
			> 00000001 83 1dba aa*57
			< 00000001 bf 0001 03
		`},
		{name: "U2F alone", u2f: true, noCTAP2: true, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 01
			> 00000001 90 0001 04
			< 00000001 bf 0001 01
			> 00000001 83 0005 0003000000
			< 00000001 83 0007 0003000000 9000
		`},
		{name: "quirk 9: U2F alone, and says CBOR", config: USBConfig{Faults: USBFaults{FlipCapabilities: 0x04}}, u2f: true, noCTAP2: true, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 05
			> 00000001 90 0001 04
			< 00000001 bf 0001 01
		`},
		{name: "wrong lengths", script: allocate + `
			> 00000001 81 1dba aa*57         // 7610
			< 00000001 bf 0001 03
			> 00000001 81 ffff aa*57
			< 00000001 bf 0001 03
			> 00000001 88 0001 00
			< 00000001 bf 0001 03
			> 00000001 84 0000
			< 00000001 bf 0001 03
			> 00000001 84 0002 0101
			< 00000001 bf 0001 03
			> 00000001 90 0000
			< 00000001 bf 0001 03
			> 00000001 00 bb*59
			= 1s
		`},
		{name: "a wrong sequence number ends the message", script: allocate + `
			> 00000001 81 0100 aa*57
			> 00000001 01 bb*59
			< 00000001 bf 0001 04
			> 00000001 00 bb*59
			> 00000001 01 bb*59
			= 1s
			> 00000001 81 0001 77
			< 00000001 81 0001 77
		`},
		{name: "a doubled packet ends the message", script: allocate + `
			> 00000001 81 0100 aa*57
			> 00000001 00 bb*59
			> 00000001 00 bb*59
			< 00000001 bf 0001 04
			= 1s
		`},
		{name: "a message in the middle of another ends both", script: allocate + `
			> 00000001 81 0100 aa*57
			> 00000001 81 0001 77
			< 00000001 bf 0001 04
			> 00000001 00 bb*59
			= 1s
			> 00000001 81 0001 77
			< 00000001 81 0001 77
		`},
		{name: "a message that stops", script: allocate + `
			> 00000001 81 0100 aa*57
			= 499ms
			< 00000001 bf 0001 05
			> 00000001 00 bb*59
			= 1s
			> 00000001 81 0100 aa*57
			= 499ms
			> 00000001 00 bb*59
			= 499ms
			< 00000001 bf 0001 05
			= 1s
		`},
		{name: "a transaction keeps other channels out", script: allocate + `
			> 00000001 81 003a aa*57
			> 00000002 81 003a cc*57
			< 00000002 bf 0001 06
			> 00000002 00 dd
			> 00000002 91 0000
			> 00000001 00 bb
			< 00000001 81 003a aa*57
			< 00000001 00 bb
			= 1s
			> 00000002 81 0001 77
			< 00000002 81 0001 77
		`},
		{name: "INIT of others does not disturb a transaction", script: allocate + `
			> 00000001 81 003a aa*57
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			> 00000002 86 0008 1112131415161718
			< 00000002 86 0011 1112131415161718 00000002 02 010203 0d
			> 00000001 00 bb
			< 00000001 81 003a aa*57
			< 00000001 00 bb
		`},
		{name: "INIT on the channel aborts a message", script: allocate + `
			> 00000001 81 0100 aa*57
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			> 00000001 00 bb*59
			= 1s
		`},
		{name: "WINK", script: allocate + `
			> 00000001 88 0000
			< 00000001 88 0000
		`},
		{name: "LOCK", script: allocate + `
			> 00000001 84 0001 0b
			< 00000001 bf 0001 02
			> 00000001 84 0001 03
			< 00000001 84 0000
			> 00000001 81 0001 77
			< 00000001 81 0001 77
			> 00000002 81 0001 77
			< 00000002 bf 0001 06
			> 00000002 84 0001 00            // not its lock to release
			< 00000002 bf 0001 06
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			= 2999ms
			> 00000002 81 0001 77
			< 00000002 bf 0001 06
			= 1ms
			> 00000002 81 0001 77
			< 00000002 81 0001 77
		`},
		{name: "LOCK is extended and released", script: allocate + `
			> 00000001 84 0001 0a
			< 00000001 84 0000
			= 9s
			> 00000001 84 0001 0a
			< 00000001 84 0000
			= 9s
			> 00000002 81 0001 77
			< 00000002 bf 0001 06
			> 00000001 84 0001 00
			< 00000001 84 0000
			> 00000002 81 0001 77
			< 00000002 81 0001 77
		`},
		{name: "CBOR", script: allocate + `
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
			> 00000001 90 003a 01 aa*56
			> 00000001 00 bb
			< 00000001 90 003b 0001 aa*55
			< 00000001 00 aabb
		`},
		{name: "CBOR that fails", script: allocate + `
			> 00000001 90 0001 03
			< 00000001 bf 0001 7f
			> 00000001 90 0003 02 1dba       // an answer of 7610 bytes
			< 00000001 bf 0001 7f
			> 00000001 81 0001 77
			< 00000001 81 0001 77
		`},
		{name: "keepalives while a command runs", script: allocate + `
			> 00000001 90 0001 04
			= 99ms
			< 00000001 bb 0001 01
			= 99ms
			< 00000001 bb 0001 01
			= 49ms
			< 00000001 90 0001 00
			= 1s
		`},
		{name: "keepalives when the status changes", script: allocate + `
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			= 99ms
			< 00000001 bb 0001 02
			> 00000001 91 0000
			< 00000001 90 0001 2d
			= 1s
		`},
		{name: "CANCEL", script: allocate + `
			> 00000001 91 0000               // nothing to cancel
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			> 00000002 91 0000               // not its own
			= 99ms
			< 00000001 bb 0001 02
			> 00000001 91 0000
			> 00000001 91 0000
			< 00000001 90 0001 2d
			= 1s
			> 00000001 90 0001 06            // a core that answers with an error
			= 99ms
			< 00000001 bb 0001 01
			> 00000001 91 0000
			< 00000001 90 0001 2d
			> 00000001 90 0001 08            // cancelled too late
			= 99ms
			< 00000001 bb 0001 01
			> 00000001 91 0000
			< 00000001 90 0001 00
			> 00000001 90 003a 01 aa*56      // not in the middle of a message
			> 00000001 91 0000
			> 00000001 00 bb
			< 00000001 90 003b 0001 aa*55
			< 00000001 00 aabb
		`},
		{name: "a command keeps everyone out", script: allocate + `
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			> 00000002 90 0001 01
			< 00000002 bf 0001 06
			> 00000001 81 0001 77
			< 00000001 bf 0001 06
			> 00000001 00 77
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			= 99ms
			< 00000001 bb 0001 02
			> 00000001 91 0000
			< 00000001 90 0001 2d
		`},
		{name: "INIT aborts a command", script: allocate + `
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			= 1s
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
		`},
		{name: "a command waits for an aborted one that does not end", script: allocate + `
			> 00000001 90 0001 07
			= 50ms
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			= 1800ms
			> 00000001 90 0003 01aabb
			= 99ms
			< 00000001 bb 0001 01
			= 49ms
			< 00000001 90 0004 0001aabb
		`},
		{name: "vendor commands", config: USBConfig{Vendor: echo}, script: allocate + `
			> 00000001 c0 0003 112233
			< 00000001 c0 0003 112233
			> 00000001 ff 0000
			< 00000001 bf 0001 7f
		`},
		{name: "short reports", config: USBConfig{ReportSize: 8}, script: `
			> ffffffff 86 0008 01
			> ffffffff 00 020304
			> ffffffff 01 050607
			= 499ms
			> ffffffff 02 08
			< ffffffff 86 0011 01
			< ffffffff 00 020304
			< ffffffff 01 050607
			< ffffffff 02 080000
			< ffffffff 03 000102
			< ffffffff 04 010203
			< ffffffff 05 0d
			> 00000001 81 0181 aa            // 385 = 1 + 128*3
			> 00000001 91 0000
			> ffffffff 86 0008 01            // too long for one report: a message like others
			< ffffffff bf 0001 06
			= 499ms
			< 00000001 bf 0001 05
			> 00000001 81 0182 aa
			< 00000001 bf 0001 03
			> ffffffff 86 0008 01
			= 499ms
			< ffffffff bf 0001 05
		`},

		{name: "fault: foreign reports", config: USBConfig{Faults: USBFaults{ForeignReports: true}}, script: `
			> ffffffff 86 0008 0102030405060708
			< feedf1d0 86 0011 0102030405060708 00000001 02 010203 0d
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 0d
			> 00000001 81 003a aa*57
			> 00000001 00 bb
			< feedf1d0 81 003a aa*57
			< 00000001 81 003a aa*57
			< feedf1d0 00 bb
			< 00000001 00 bb
		`},
		{name: "fault: foreign INIT", config: USBConfig{Faults: USBFaults{ForeignInit: true}}, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 fe02030405060708 feedf1d0 02 010203 0d
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 0d
			> 00000001 86 0008 0102030405060708
			< 00000001 86 0011 0102030405060708 00000001 02 010203 0d
		`},
		{name: "fault: busy", config: USBConfig{Faults: USBFaults{Busy: 2}}, script: allocate + `
			> 00000001 90 0003 01aabb
			< 00000001 bf 0001 06
			> 00000001 81 0001 77
			< 00000001 bf 0001 06
			> 00000001 81 0001 77
			< 00000001 81 0001 77
		`},
		{name: "fault: ignores CANCEL", config: USBConfig{Faults: USBFaults{IgnoreCancel: true}}, script: allocate + `
			> 00000001 90 0001 04
			> 00000001 91 0000
			= 99ms
			< 00000001 bb 0001 01
			= 99ms
			< 00000001 bb 0001 01
			= 49ms
			< 00000001 90 0001 00
		`},
		{name: "fault: hangs", config: USBConfig{Faults: USBFaults{IgnoreCancel: true, NoKeepalives: true}}, script: allocate + `
			> 00000001 90 0001 05
			= 5s
			> 00000001 91 0000
			= 4999ms
			< 00000001 90 0001 00
		`},
		{name: "fault: late answers", config: USBConfig{Faults: USBFaults{LateAnswers: true}}, script: allocate + `
			> 00000001 90 0003 01aabb        // on time, as nobody cancelled it
			< 00000001 90 0004 0001aabb
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			> 00000001 91 0000
			= 5s
			> 00000002 81 0001 77
			< 00000002 81 0001 77
			> 00000001 90 0003 01aabb
			< 00000001 90 0001 2d
			< 00000001 90 0004 0001aabb
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
		`},
		{name: "fault: never answers WINK", config: USBConfig{Faults: USBFaults{WinkSilent: true}}, script: allocate + `
			> 00000001 88 0000
			= 1s
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
		`},
		{name: "fault: WINK breaks CBOR", config: USBConfig{Faults: USBFaults{WinkBreaksCBOR: true}}, script: allocate + `
			> 00000001 88 0000
			< 00000001 88 0000
			> 00000001 90 0003 01aabb
			= 1s
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
			> 00000001 88 0000
			< 00000001 88 0000
			= 250ms
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
			> 00000001 88 0000
			< 00000001 88 0000
			> 00000001 86 0008 0102030405060708
			< 00000001 86 0011 0102030405060708 00000001 02 010203 0d
			> 00000001 90 0003 01aabb
			< 00000001 90 0004 0001aabb
		`},
		{name: "fault: wrong capabilities", config: USBConfig{Faults: USBFaults{FlipCapabilities: 0x0c}}, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 01
		`},
		{name: "fault: lost, doubled, garbled, silent", config: USBConfig{Faults: USBFaults{
			Filter: func(d USBDirection, n int, report []byte) [][]byte {
				switch {
				case d == USBOutput && n == 2: // lost
					return nil
				case d == USBOutput && n == 3: // doubled, and short, and long
					return [][]byte{report[:8], append(bytes.Clone(report), 0xff)}
				case d == USBInput && n == 1: // garbled
					report[7] ^= 0xff
				case d == USBInput && n == 3: // with an empty one behind, and too long
					return [][]byte{append(report, 0xff), {}}
				case d == USBInput && n > 3:
					return nil
				}
				return [][]byte{report}
			},
		}}, script: `
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000001 02 010203 0d
			> 00000001 81 0001 77
			< 00000001 81 0001 88
			> 00000001 81 0001 77
			= 1s
			> 00000001 81 0001 77
			< 00000001 81 0001 77
			< 00000001 81 0001 77
		`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUSB(&coreStub{u2f: test.u2f, noCTAP2: test.noCTAP2}, test.config)
				defer u.Unplug()
				h := connect(t, u)
				h.run(test.script)
				if test.config.Faults.Filter != nil {
					p := make([]byte, 64)
					if n, err := h.conn.Read(p); n != 0 || err != nil {
						t.Errorf("Read of an empty report = %d, %v", n, err)
					}
				}
				h.hearNothing(time.Millisecond)
			})
		})
	}
}

// A command that waits for an aborted one to end is cancelled, or aborted
// itself, before the authenticator hears of it.
func TestUSBCommandThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &coreStub{}
		u := newUSB(core, USBConfig{})
		defer u.Unplug()
		connect(t, u).run(allocate + `
			> 00000001 90 0001 07
			= 1ms
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			> 00000001 90 0003 01aabb
			> 00000001 91 0000
			< 00000001 90 0001 2d
			> 00000001 90 0003 01aabb
			> 00000001 86 0008 1112131415161718
			< 00000001 86 0011 1112131415161718 00000001 02 010203 0d
			= 5s
		`)
		core.expect(t, "power", "begin 7", "end 7")
	})
}

func TestUSBLargestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		h := connect(t, u)
		h.run(allocate)
		h.send("00000001 81 1db9 fe*57")
		for sequence := range 128 {
			h.send(fmt.Sprintf("00000001 %02x %02x*59", sequence, sequence))
		}
		h.hear("00000001 81 1db9 fe*57")
		for sequence := range 128 {
			h.hear(fmt.Sprintf("00000001 %02x %02x*59", sequence, sequence))
		}
		h.send("00000001 90 0003 02 1db9")
		h.hear("00000001 90 1db9")
		for sequence := range 128 {
			h.hear(fmt.Sprintf("00000001 %02x", sequence))
		}
		h.hearNothing(time.Second)
	})
}

func TestUSBConnectionsShareTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		a, b := connect(t, u), connect(t, u)
		a.run(allocate)
		b.run(strings.ReplaceAll(allocate, ">", "//"))
		b.send("00000002 90 0001 05")
		for _, h := range []*host{a, b} {
			h.hear("00000002 bb 0001 02")
		}
		a.send("00000001 90 0003 01aabb")
		b.hear("00000001 bf 0001 06")
		// The key does not know who holds a channel, nor that one has gone.
		b.conn.Close()
		a.run(`
			< 00000001 bf 0001 06
			= 99ms
			< 00000002 bb 0001 02
			> 00000002 91 0000
			< 00000002 90 0001 2d
		`)
		c := connect(t, u)
		c.run(`
			> 00000001 81 0001 77
			< 00000001 81 0001 77
		`)
	})
}

func TestUSBQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		a, idle := connect(t, u), connect(t, u)
		a.run(allocate) // 2 reports
		for i := range queueLength {
			ping := fmt.Sprintf("00000001 81 0002 %04x", i)
			a.send(ping)
			a.hear(ping)
		}
		idle.run(strings.ReplaceAll(allocate, ">", "//"))
		for i := range queueLength - 2 {
			idle.hear(fmt.Sprintf("00000001 81 0002 %04x", i))
		}
		idle.hearNothing(time.Second)
		a.send("00000001 81 0002 ffff")
		idle.hear("00000001 81 0002 ffff")
	})
}

func TestUSBChannelTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		h := connect(t, u)
		init := func(channel int) {
			t.Helper()
			h.send("ffffffff 86 0008 0102030405060708")
			h.hear(fmt.Sprintf("ffffffff 86 0011 0102030405060708 %08x 02 010203 0d", channel))
		}
		for i := range maxChannels {
			init(1 + i)
		}
		h.run(`
			> 00000001 84 0001 0a            // the oldest holds the lock,
			< 00000001 84 0000
			> 00000001 90 0001 05            // runs a command,
			< 00000001 bb 0001 02
			> 00000002 91 0000               // CANCEL is no use of a channel
			> 00000003 81 0001 77
			< 00000003 bf 0001 06
		`)
		for i := range maxChannels - 2 {
			init(maxChannels + 1 + i)
		}
		h.run(`
			> 00000002 81 0001 77            // evicted
			< 00000002 bf 0001 0b
			> 00000003 81 0001 77            // used, so it stayed
			< 00000003 bf 0001 06
			> 00000001 91 0000
			< 00000001 90 0001 2d
			> 00000001 84 0001 00
			< 00000001 84 0000
			> 00000003 81 0001 77
			< 00000003 81 0001 77
		`)
	})
}

func TestUSBChannelNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		h := connect(t, u)
		h.run(allocate)
		u.lastChannel = ctap.HIDBroadcast - 1
		h.run(`
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
		`)
		u.lastChannel = foreignChannel - 1
		h.run(`
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 feedf1d1 02 010203 0d
		`)
	})
}

func TestUSBWinkIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		winks := 0
		u := newUSB(&coreStub{}, USBConfig{Wink: func() { winks++ }})
		defer u.Unplug()
		h := connect(t, u)
		h.run(allocate + `
			> 00000001 88 0000
			< 00000001 88 0000
		`)
		if winks != 1 {
			t.Errorf("%d winks", winks)
		}
	})
}

// expectGone checks that a connection is broken, and stays so.
func expectGone(t *testing.T, conn *USBConn) {
	t.Helper()
	p := make([]byte, 64)
	for range 2 {
		if _, err := conn.Read(p); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("Read = %v", err)
		}
		if _, err := conn.Write(p); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("Write = %v", err)
		}
	}
}

func TestUSBUnplug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &coreStub{}
		u := newUSB(core, USBConfig{})
		h := connect(t, u)
		h.run(allocate + `
			> 00000001 84 0001 0a
			< 00000001 84 0000
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
		`)
		waiting := make(chan error)
		go func() {
			_, err := h.conn.Read(make([]byte, 64))
			waiting <- err
		}()
		synctest.Wait()
		u.Unplug()
		u.Unplug()
		if err := <-waiting; !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("Read that waited = %v", err)
		}
		expectGone(t, h.conn)
		if _, err := u.Open(); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("Open = %v", err)
		}
		core.expect(t, "power", "begin 5", "end 5", "power")

		u.PlugIn()
		u.PlugIn()
		core.expect(t, "power", "begin 5", "end 5", "power", "power")
		expectGone(t, h.conn)
		again := connect(t, u)
		again.run(`
			> 00000001 81 0001 77            // a channel of the time before
			< 00000001 bf 0001 0b
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			> 00000003 81 0001 77            // the lock is gone
			< 00000003 81 0001 77
		`)
		u.Unplug()
	})
}

// What the host had received before the key went is still read.
func TestUSBUnplugKeepsWhatArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		h := connect(t, u)
		h.run(allocate + `> 00000001 81 0001 77`)
		u.Unplug()
		h.hear("00000001 81 0001 77")
		expectGone(t, h.conn)
	})
}

func TestUSBUnplugWhileTheUserIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &coreStub{}
		u := newUSB(core, USBConfig{})
		core.during = u.Unplug
		h := connect(t, u)
		h.run(allocate + `> 00000001 90 0001 09`)
		expectGone(t, h.conn)
		core.expect(t, "power", "begin 9", "end 9", "power")
	})
}

// A command that outlives the unplugging keeps the authenticator to itself: the
// power cycle and whatever comes after plugging in again wait for it.
func TestUSBUnplugWithStuckCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &coreStub{}
		u := newUSB(core, USBConfig{})
		h := connect(t, u)
		h.run(allocate + `> 00000001 90 0001 07`)
		core.expect(t, "power", "begin 7")
		u.Unplug()
		expectGone(t, h.conn)
		u.PlugIn()
		again := connect(t, u)
		again.run(`
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			> 00000003 90 0003 01aabb
			= 99ms
			< 00000003 bb 0001 01
		`)
		core.expect(t, "power", "begin 7")
		time.Sleep(2 * time.Second)
		core.expect(t, "power", "begin 7", "end 7", "power", "begin 1", "end 1")
		u.Unplug()
	})
}

// A coreStub whose power cycle takes so long that a command arrives meanwhile.
type slowStart struct{ coreStub }

func (c *slowStart) PowerCycle() {
	time.Sleep(time.Second)
	c.note("power")
}

func TestUSBCommandDuringPowerCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &slowStart{}
		u := newUSB(core, USBConfig{})
		u.Unplug()
		go func() {
			time.Sleep(time.Millisecond)
			h := connect(t, u)
			h.run(allocate + `
				> 00000001 90 0001 05
				= 99ms
				< 00000001 bb 0001 01
			`)
		}()
		begin := time.Now()
		u.PlugIn()
		if time.Since(begin) > time.Second {
			t.Error("PlugIn ran the command")
		}
		core.expect(t, "power", "power", "power", "begin 5")
		u.Unplug()
		time.Sleep(time.Minute)
	})
}

func TestUSBUnplugAtEveryReport(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(`
		> ffffffff 86 0008 0102030405060708
		< ffffffff 86 0011 0102030405060708 00000001 02 010203 0d
		> 00000001 81 003a aa*57
		> 00000001 00 bb
		< 00000001 81 003a aa*57
		< 00000001 00 bb
		> 00000001 90 0001 05
		< 00000001 bb 0001 02
		> 00000001 91 0000
		< 00000001 90 0001 2d
		> 00000001 90 003a 01 aa*56
		> 00000001 00 bb
		< 00000001 90 003b 0001 aa*55
		< 00000001 00 aabb`), "\n")
	for n := 1; n <= len(lines); n++ {
		synctest.Test(t, func(t *testing.T) {
			core := &coreStub{}
			u := newUSB(core, USBConfig{Faults: USBFaults{UnplugAfter: n}})
			h := connect(t, u)
			idle := connect(t, u)
			h.run(strings.Join(lines[:n], "\n"))
			expectGone(t, h.conn)
			for _, line := range lines[:n] {
				if report, ok := strings.CutPrefix(strings.TrimSpace(line), "<"); ok {
					idle.hear(report)
				}
			}
			expectGone(t, idle.conn)
			synctest.Wait()
			if last := core.log[len(core.log)-1]; last != "power" {
				t.Errorf("unplugged after %d reports: the last the authenticator saw is %q", n, last)
			}
			acted := strings.Join(core.log, " ")
			if n == 12 && strings.Contains(acted, "begin 1") {
				t.Error("acted on a report that came with the unplugging")
			}

			u.SetFaults(USBFaults{})
			u.PlugIn()
			connect(t, u).run(fmt.Sprintf(`
				> ffffffff 86 0008 0102030405060708
				< ffffffff 86 0011 0102030405060708 %08x 02 010203 0d
			`, min(n, 2)))
			u.Unplug()
		})
	}
}

// The key may go while it sends what LateAnswers kept, or where a Filter made
// two reports of one.
func TestUSBUnplugWithOtherFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &coreStub{}
		u := newUSB(core, USBConfig{Faults: USBFaults{LateAnswers: true}})
		h := connect(t, u)
		h.run(allocate + `
			> 00000001 90 0001 05
			< 00000001 bb 0001 02
			> 00000001 91 0000
			= 1s
		`)
		u.SetFaults(USBFaults{UnplugAfter: 2})
		h.run(`
			> 00000001 90 0003 01aabb
			< 00000001 90 0001 2d
		`)
		expectGone(t, h.conn)
		core.expect(t, "power", "begin 5", "end 5", "power")

		u.SetFaults(USBFaults{UnplugAfter: 2, Filter: func(_ USBDirection, _ int, report []byte) [][]byte {
			return [][]byte{report, report}
		}})
		u.PlugIn()
		h = connect(t, u)
		h.run(`
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
		`)
		expectGone(t, h.conn)
	})
}

func TestUSBConnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		conn := connect(t, u).conn
		p := make([]byte, 64)
		read := func() <-chan error {
			done := make(chan error, 1)
			go func() {
				_, err := conn.Read(p)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		set := func(t0 time.Time) {
			t.Helper()
			if err := conn.SetReadDeadline(t0); err != nil {
				t.Error(err)
			}
		}

		// It wakes a Read that waits, when it passes and when it has passed.
		done := read()
		set(time.Now().Add(time.Second))
		begin := time.Now()
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("Read = %v after %v", err, time.Since(begin))
		}
		set(time.Time{})
		done = read()
		set(time.Now().Add(-time.Second))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %v", err)
		}
		// It holds until it is moved, whatever has arrived.
		conn.Write(whole(parseReport(t, "ffffffff 86 0008 01"), 64))
		if err := <-read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %v", err)
		}
		set(time.Now().Add(time.Second))
		if err := <-read(); err != nil {
			t.Errorf("Read = %v", err)
		}
		// One that was replaced does not count.
		set(time.Now().Add(time.Second))
		set(time.Now().Add(time.Hour))
		set(time.Time{})
		done = read()
		time.Sleep(2 * time.Hour)
		select {
		case err := <-done:
			t.Errorf("Read without deadline = %v", err)
		default:
		}
		conn.Close()
		if err := <-done; !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("Read = %v", err)
		}
	})
}

func TestUSBConnClosed(t *testing.T) {
	u := newUSB(&coreStub{}, USBConfig{})
	defer u.Unplug()
	conn := connect(t, u).conn
	conn.SetReadDeadline(time.Now().Add(time.Hour))
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	p := make([]byte, 64)
	if _, err := conn.Read(p); !errors.Is(err, ctap.ErrClosed) {
		t.Errorf("Read = %v", err)
	}
	if _, err := conn.Write(p); !errors.Is(err, ctap.ErrClosed) {
		t.Errorf("Write = %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); !errors.Is(err, ctap.ErrClosed) {
		t.Errorf("SetReadDeadline = %v", err)
	}
}

func TestUSBConnSizes(t *testing.T) {
	u := newUSB(&coreStub{}, USBConfig{})
	defer u.Unplug()
	h := connect(t, u)
	for _, n := range []int{0, 63, 65} {
		if _, err := h.conn.Write(make([]byte, n)); err == nil {
			t.Errorf("Write of %d bytes", n)
		}
	}
	h.run(allocate + `
		> 00000001 81 0004 11223344
		> 00000001 81 0004 55667788
	`)
	p := make([]byte, 9)
	if n, err := h.conn.Read(p); n != 9 || err != nil {
		t.Errorf("Read = %d, %v", n, err)
	}
	h.hear("00000001 81 0004 55667788")
}

// Two programs, each with a connection and a channel, at the same time.
func TestUSBConcurrentPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUSB(&coreStub{}, USBConfig{})
		defer u.Unplug()
		var programs sync.WaitGroup
		for id := range 2 {
			conn := connect(t, u).conn
			programs.Go(func() { pingAgainAndAgain(t, conn, byte(id)) })
		}
		programs.Wait()
	})
}

func pingAgainAndAgain(t *testing.T, conn *USBConn, id byte) {
	write := func(report ...byte) {
		if _, err := conn.Write(whole(report, 64)); err != nil {
			t.Error(err)
		}
	}
	// reply returns the first report that begins as one of those wanted.
	reply := func(wanted ...[]byte) []byte {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		p := make([]byte, 64)
		for {
			if _, err := conn.Read(p); err != nil {
				t.Errorf("program %d: %v", id, err)
				return nil
			}
			for _, w := range wanted {
				if bytes.HasPrefix(p, w) {
					return p
				}
			}
		}
	}
	init := append(bytes.Repeat([]byte{0xff}, 4), 0x86, 0, 17, id)
	write(append(bytes.Repeat([]byte{0xff}, 4), 0x86, 0, 8, id)...)
	channel := reply(init)
	if channel == nil {
		return
	}
	channel = channel[15:19]
	for done := 0; done < 100; {
		write(append(bytes.Clone(channel), 0x81, 0, 58, id)...)
		write(append(bytes.Clone(channel), 0)...)
		r := reply(append(bytes.Clone(channel), 0x81), append(bytes.Clone(channel), 0xbf))
		switch {
		case r == nil:
			return
		case r[4] == 0x81:
			done++
		case r[7] == ctap.HIDErrChannelBusy:
			time.Sleep(time.Millisecond)
		default:
			t.Errorf("program %d: error %02x", id, r[7])
			return
		}
	}
}

func TestUSBOpenRefusesReportSize(t *testing.T) {
	for _, size := range []int{-1, 7, 65} {
		u := newUSB(&coreStub{}, USBConfig{ReportSize: size})
		if _, err := u.Open(); err == nil {
			t.Errorf("Open with reports of %d bytes", size)
		}
		u.Unplug()
	}
}

// A USBConn says how long its reports are, for who has not made it: the suite of
// package conformance asks.
func TestUSBReportSize(t *testing.T) {
	for configured, want := range map[int]int{0: 64, 32: 32} {
		u := newUSB(&coreStub{}, USBConfig{ReportSize: configured})
		conn, err := u.Open()
		if err != nil {
			t.Fatal(err)
		}
		if n := conn.ReportSize(); n != want {
			t.Errorf("ReportSize() = %d, want %d", n, want)
		}
		if n, err := conn.Write(make([]byte, conn.ReportSize())); n != want || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		u.Unplug()
	}
}

// message hears a whole message and returns its command and data.
func (h *host) message() (command byte, data []byte) {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(time.Minute))
	p := make([]byte, h.size)
	if _, err := h.conn.Read(p); err != nil {
		h.t.Fatal(err)
	}
	command, length := p[4]&^ctap.HIDInitBit, int(binary.BigEndian.Uint16(p[5:]))
	data = append(data, p[7:]...)
	for len(data) < length {
		if _, err := h.conn.Read(p); err != nil {
			h.t.Fatal(err)
		}
		data = append(data, p[5:]...)
	}
	return command, data[:length]
}

// The Authenticator itself, not its stub.
func TestUSBAuthenticator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Without what getInfo encrypts anew each time.
		key, err := New(Config{Presence: Ignore, NoU2F: true, NoPersistentCredMgmtRO: true})
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		usb := key.PlugIn(USBConfig{})
		h := connect(t, usb)
		h.run(allocate + `> 00000001 90 0001 04`)
		info, err := key.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if command, data := h.message(); command != ctap.HIDCBOR || !bytes.Equal(data, info) {
			t.Errorf("getInfo: command %02x, %x", command, data)
		}
		h.run(`
			> 00000001 90 0001 0b
			< 00000001 bb 0001 02
			= 99ms
			< 00000001 bb 0001 02
			> 00000001 91 0000
			< 00000001 90 0001 2d
		`)

		// Only a key that was just plugged in can be reset (§6.6).
		key.SetPresence(Touch)
		h.run(`
			= 10s
			> 00000001 90 0001 07
			< 00000001 90 0001 30
		`)
		usb.Unplug()
		expectGone(t, h.conn)
		time.Sleep(time.Minute)
		usb.PlugIn()
		h = connect(t, usb)
		h.run(`
			> ffffffff 86 0008 0102030405060708
			< ffffffff 86 0011 0102030405060708 00000003 02 010203 0d
			> 00000003 90 0001 07
			< 00000003 bb 0001 02
			< 00000003 90 0001 00
		`)

		// The person pulls it out instead of touching it.
		key.SetPresence(func(ctx context.Context, _ Prompt) Answer {
			usb.Unplug()
			<-ctx.Done()
			return Nothing
		})
		h.run(`
			> 00000003 90 0001 0b
			< 00000003 bb 0001 02
		`)
		expectGone(t, h.conn)
	})
}

func FuzzUSB(f *testing.F) {
	// A report each: its length, and its bytes up to the zeros at its end.
	seed := func(reports ...string) {
		var data []byte
		for _, r := range reports {
			b, err := hex.DecodeString(r)
			if err != nil {
				f.Fatal(err)
			}
			data = append(append(data, byte(len(b))), b...)
		}
		f.Add(data)
	}
	seed("ffffffff8600080102030405060708", "0000000181003a", "0000000100", "0000000190000105", "00000001910000")
	seed("ffffffff8600080102030405060708", "0000000190000104", "ff", "00000001910000", "0000000184000101")
	seed("ffffffff8600080102030405060708", "ffffffff8600080102030405060708", "00000001810100", "0000000286000801", "0000000281000001")
	seed("00000000860008", "0000000188", "00000001c0000101", "ff", "ff")
	seed("ffffffff8600080102030405060708", "0000000183000500030000", "0000000183004700010000000040", "0000000100", "0000000183")
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			core := &coreStub{u2f: true}
			core.during = func() {}
			u := newUSB(core, USBConfig{Vendor: map[byte]func([]byte) ([]byte, error){
				0x40: func(data []byte) ([]byte, error) { return data, nil },
			}})
			defer u.Unplug()
			conn := connect(t, u).conn
			idle := connect(t, u).conn
			p := make([]byte, 64)
			drain := func(d time.Duration) (last []byte) {
				conn.SetReadDeadline(time.Now().Add(d))
				for {
					n, err := conn.Read(p)
					if err != nil {
						return last
					}
					command := p[4] &^ ctap.HIDInitBit
					if n != 64 || p[4] != command && binary.BigEndian.Uint16(p[5:]) > ctap.MaxFramedMessage {
						t.Fatalf("a report %x", p[:n])
					}
					last = bytes.Clone(p[:n])
				}
			}
			for len(data) > 0 {
				n := min(int(data[0]), len(data)-1)
				report := data[1 : 1+n]
				data = data[1+n:]
				if n == 1 { // a pause instead
					drain(time.Duration(report[0]) * 10 * time.Millisecond)
					continue
				}
				if n > 64 {
					continue
				}
				if _, err := conn.Write(whole(bytes.Clone(report), 64)); err != nil {
					t.Fatal(err)
				}
				drain(time.Microsecond)
			}
			if len(u.channels) > maxChannels || len(idle.queue) > queueLength {
				t.Fatalf("%d channels, %d reports", len(u.channels), len(idle.queue))
			}
			// Whatever it was, the key is there for the next program.
			drain(time.Minute)
			conn.Write(whole(parseReport(t, "ffffffff 86 0008 0102030405060708"), 64))
			reply := drain(time.Microsecond)
			if !bytes.HasPrefix(reply, parseReport(t, "ffffffff 86 0011 0102030405060708")) {
				t.Fatalf("reply to INIT %x", reply)
			}
			channel := reply[15:19]
			conn.Write(whole(append(bytes.Clone(channel), 0x81, 0, 1, 0x77), 64))
			if reply := drain(time.Microsecond); !bytes.HasPrefix(reply, append(bytes.Clone(channel), 0x81, 0, 1, 0x77)) {
				t.Fatalf("reply to PING %x", reply)
			}
		})
	})
}
