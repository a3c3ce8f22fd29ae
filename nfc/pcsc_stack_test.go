//go:build linux && !android && ((pcsclite && cgo) || 386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64)

package nfc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
)

// The tests here go through a real PC/SC service whose two readers take cards
// over TCP: pcscd with the driver of vsmartcard-vpcd. .ci/pcsc sets it up.
// Without it they are skipped; with FIDO_PCSC=require that is a failure.
func needPCSC(t *testing.T) {
	t.Helper()
	if os.Getenv("FIDO_PCSC") == "" {
		t.Skip("FIDO_PCSC is not set: .ci/pcsc runs this")
	}
	until := time.Now().Add(10 * time.Second)
	for {
		readers, err := Readers(t.Context())
		if err == nil && len(readers) == 2 {
			return
		}
		if time.Now().After(until) {
			if os.Getenv("FIDO_PCSC") == "require" {
				t.Fatalf("no PC/SC service with two virtual readers: %v, %v", readers, err)
			}
			t.Skipf("no PC/SC service with two virtual readers: %v, %v", readers, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Answers to reset of cards that know one protocol.
var (
	atrT0 = []byte{0x3B, 0x80, 0x80, 0x00}
	atrT1 = []byte{0x3B, 0x80, 0x80, 0x01, 0x01}
)

// An inserted card is one in a virtual reader.
type inserted struct {
	reader  int
	conn    net.Conn
	done    chan struct{}
	removed bool
	// atAPDU, unless nil, is called before each APDU, and ends the connection
	// if it returns false.
	atAPDU atomic.Pointer[func(apdu []byte) bool]
	apdus  atomic.Int64
}

// insert puts a card into a virtual reader, and waits until the service has
// seen it.
func insert(t *testing.T, reader int, atr []byte, card func([]byte) ([]byte, error), reset func()) *inserted {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 35963+reader))
	if err != nil {
		t.Fatal(err)
	}
	i := &inserted{reader: reader, conn: conn, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		defer conn.Close()
		if err := i.serve(atr, card, reset); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			t.Log("card:", err)
		}
	}()
	t.Cleanup(func() { i.remove(t) })
	i.await(t, true)
	return i
}

// await waits until the service has seen that the card came or went.
func (i *inserted) await(t *testing.T, present bool) {
	t.Helper()
	until := time.Now().Add(10 * time.Second)
	for {
		readers, err := Readers(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if readers[i.reader].Card == present {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after 10 s: %v", readers)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// remove takes the card out, and waits until the service has seen it.
func (i *inserted) remove(t *testing.T) {
	if !i.removed {
		i.removed = true
		i.conn.Close()
		<-i.done
		i.await(t, false)
	}
}

// serve speaks the protocol of vpcd: a length of two bytes, and an APDU, or one
// byte for the contacts.
func (i *inserted) serve(atr []byte, card func([]byte) ([]byte, error), reset func()) error {
	raw, err := i.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var length [2]byte
	for {
		// Or the other side's small packets wait for an acknowledgement.
		quick := func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) }
		_ = raw.Control(quick)
		if _, err := io.ReadFull(i.conn, length[:]); err != nil {
			return err
		}
		_ = raw.Control(quick)
		command := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(i.conn, command); err != nil {
			return err
		}
		var response []byte
		switch {
		case len(command) == 1 && command[0] == 4:
			response = atr
		case len(command) == 1:
			if reset != nil {
				reset() // off, on, or both
			}
			continue
		default:
			i.apdus.Add(1)
			if at := i.atAPDU.Load(); at != nil && !(*at)(command) {
				return nil
			}
			if response, err = card(command); err != nil {
				return err
			}
		}
		if _, err := i.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(response))), response...)); err != nil {
			return err
		}
	}
}

// overT0 gives a card T=0: a command with data gets no data back, but is told
// how much there is to fetch.
func overT0(t *testing.T, card func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	var held []byte
	return func(command []byte) ([]byte, error) {
		if len(command) < 5 || len(command) > 5 && len(command) != 5+int(command[4]) {
			t.Errorf("no TPDU of T=0: %x", command)
			return sw(0x6700), nil
		}
		if command[1] == insMore && held != nil {
			response := held
			held = nil
			if n := len(response) - 2; n != int(command[4]) && n&0xFF != int(command[4]) {
				t.Errorf("asked for %d of %d bytes", command[4], n)
			}
			return response, nil
		}
		held = nil
		response, err := card(command)
		if len(command) == 5 || len(response) <= 2 || err != nil {
			return response, err
		}
		held = response
		return []byte{0x61, byte(len(response) - 2)}, nil
	}
}

// readerName returns the name of a virtual reader.
func readerName(t *testing.T, reader int) string {
	t.Helper()
	readers, err := Readers(t.Context())
	if err != nil || len(readers) != 2 {
		t.Fatalf("%v, %v", readers, err)
	}
	return readers[reader].Name
}

// openReader opens the card in a virtual reader, which belongs to the caller.
func openReader(t *testing.T, reader int) *Device {
	t.Helper()
	d, err := Open(t.Context(), readerName(t, reader))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// stacks are the kinds of cards and protocols.
var stacks = []struct {
	name   string
	t0     bool
	faults virtual.CardFaults
}{
	{"T=1, extended", false, virtual.CardFaults{}},
	{"T=1, short", false, virtual.CardFaults{RefuseExtended: true, RefuseLeInChain: true}},
	{"T=1, short, other class", false, virtual.CardFaults{RefuseExtended: true, Only00GetResponse: true, ChainSelect: true}},
	{"T=1, no updates", false, virtual.CardFaults{NoStatusUpdates: true}},
	{"T=0", true, virtual.CardFaults{}},
}

// insertVirtual puts a software key into the first reader.
func insertVirtual(t *testing.T, key *virtual.Authenticator, t0 bool, faults virtual.CardFaults) (*virtual.Card, *inserted) {
	t.Helper()
	card := key.Tap(virtual.CardConfig{Faults: faults})
	reset := func() { _ = card.Reset() }
	if t0 {
		return card, insert(t, 0, atrT0, overT0(t, card.Transmit), reset)
	}
	return card, insert(t, 0, atrT1, card.Transmit, reset)
}

func TestPCSCCeremony(t *testing.T) {
	needPCSC(t)
	for _, stack := range stacks {
		t.Run(stack.name, func(t *testing.T) {
			_, i := insertVirtual(t, newVirtual(t, nil), stack.t0, stack.faults)
			ceremony(t, openKey(t, openReader(t, 0), ctap2.Interaction{}))
			t.Logf("%d APDUs", i.apdus.Load())
		})
	}
}

// A touch that takes three seconds, told as it is waited for.
func TestPCSCTouch(t *testing.T) {
	needPCSC(t)
	for _, stack := range stacks {
		if stack.faults.RefuseExtended {
			continue // it makes no difference to a wait
		}
		t.Run(stack.name, func(t *testing.T) {
			insertVirtual(t, newVirtual(t, virtual.TouchAfter(3*time.Second)), stack.t0, stack.faults)
			var touch, done int
			key := openKey(t, openReader(t, 0), ctap2.Interaction{
				Touch: func(ctap2.TouchRequest) { touch++ }, TouchDone: func() { done++ },
			})
			if _, err := key.MakeCredential(t.Context(), registration()); err != nil {
				t.Fatal(err)
			}
			want := 1
			if stack.faults.NoStatusUpdates {
				want = 0
			}
			if touch != want || done != want {
				t.Errorf("told %d times to touch, %d times that it is enough", touch, done)
			}
		})
	}
}

// A deadline that ends while the card waits for a touch.
func TestPCSCCancel(t *testing.T) {
	needPCSC(t)
	for _, stack := range stacks {
		t.Run(stack.name, func(t *testing.T) {
			key := newVirtual(t, virtual.Ignore)
			card, _ := insertVirtual(t, key, stack.t0, stack.faults)
			client := openKey(t, openReader(t, 0), ctap2.Interaction{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := client.MakeCredential(ctx, registration())
			mustMatch(t, err, context.DeadlineExceeded)
			if took := time.Since(start); took > 10*time.Second { // a touch is waited for for 30 s
				t.Errorf("it took %v", took)
			}
			key.SetPresence(nil)
			if stack.faults.NoStatusUpdates {
				_ = card.Reset() // or it waits for the touch for half a minute
				return
			}
			ceremony(t, client)
		})
	}
}

// The card is taken away at each APDU of a registration, and put back.
func TestPCSCRemoved(t *testing.T) {
	needPCSC(t)
	key := newVirtual(t, nil)
	for at := int64(1); ; at++ {
		card, i := insertVirtual(t, key, false, virtual.CardFaults{RefuseExtended: true})
		d := openReader(t, 0)
		client := openKey(t, d, ctap2.Interaction{})
		first := i.apdus.Load()
		stop := func([]byte) bool { return i.apdus.Load() < first+at }
		i.atAPDU.Store(&stop)
		_, err := client.MakeCredential(t.Context(), registration())
		card.Remove()
		i.remove(t)
		if err == nil {
			if at < 8 {
				t.Errorf("%d APDUs were enough", at)
			}
			break
		}
		mustMatch(t, err, ErrDeviceGone)
		// What is there when it is back is another card, for all we know.
		_, i = insertVirtual(t, key, false, virtual.CardFaults{})
		_, err = d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrDeviceGone)
		client.Close()
		d = openReader(t, 0)
		if _, err := d.Exchange(t.Context(), getInfo, nil); err != nil {
			t.Fatal(err)
		}
		d.Close()
		i.remove(t)
	}
}

// Another program resets the card, and one keeps it to itself.
func TestPCSCOthers(t *testing.T) {
	needPCSC(t)
	insertVirtual(t, newVirtual(t, nil), false, virtual.CardFaults{})
	d := openReader(t, 0)
	client := openKey(t, d, ctap2.Interaction{})
	ceremony(t, client)

	p, err := establish()
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	other, err := p.connect(readerName(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := resetCard(other); err != nil {
		t.Fatal(err)
	}
	_, err = d.Exchange(t.Context(), []byte{0x06, 0xA2, 1, 2, 2, 2}, nil) // getKeyAgreement
	mustMatch(t, err, ErrReset)
	ceremony(t, client)

	if other, err = p.connect(readerName(t, 0)); err != nil {
		t.Fatal(err)
	}
	if err := resetCard(other); err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetInfo(t.Context()); err != nil { // sent again by itself
		t.Error(err)
	}

	if other, err = p.connect(readerName(t, 0)); err != nil {
		t.Fatal(err)
	}
	if err := other.begin(); err != nil {
		t.Fatal(err)
	}
	// A response has no more room than it needs: a program may keep many.
	selection := command{cla: claISO, ins: insSelect, p1: p1ByName, data: aid}
	response, err := other.transmit(selection.short(aid, 0))
	if err != nil || !bytes.HasSuffix(response, sw(0x9000)) || cap(response) > 1024 {
		t.Errorf("%x in %d bytes, %v", response, cap(response), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = d.Exchange(ctx, getInfo, nil)
	mustMatch(t, err, context.DeadlineExceeded)
	if err := other.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Exchange(t.Context(), getInfo, nil); err != nil {
		t.Error(err)
	}
	if err := other.disconnect(); err != nil {
		t.Error(err)
	}
}

func TestPCSCReaders(t *testing.T) {
	needPCSC(t)
	_, err := Open(t.Context(), "no such reader")
	mustMatch(t, err, ErrNoReader)
	_, err = Open(t.Context(), readerName(t, 0))
	mustMatch(t, err, ErrNoCard)
	_, err = OpenFirst(t.Context())
	mustMatch(t, err, ErrNoCard)

	// A card of another kind, and behind it one of ours.
	insert(t, 0, atrT1, func([]byte) ([]byte, error) { return sw(0x6A82), nil }, nil)
	_, err = Open(t.Context(), readerName(t, 0))
	mustMatch(t, err, ErrNotFIDO)
	_, err = OpenFirst(t.Context())
	mustMatch(t, err, ErrNotFIDO)
	c := &testCard{}
	insert(t, 1, atrT1, c.Transmit, nil)
	d, err := OpenFirst(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Reader() != readerName(t, 1) {
		t.Errorf("opened %q", d.Reader())
	}
	readers, err := Readers(t.Context())
	if err != nil || !bytes.Equal(readers[1].ATR, atrT1) {
		t.Errorf("%+v, %v", readers, err)
	}
}

func TestPCSCWatch(t *testing.T) {
	needPCSC(t)
	first := insert(t, 0, atrT1, (&testCard{}).Transmit, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	names := []string{readerName(t, 0), readerName(t, 1)}
	var second *inserted
	want := []struct {
		reader   int
		inserted bool
		then     func()
	}{
		{0, true, func() { second = insert(t, 1, atrT1, (&testCard{}).Transmit, nil) }},
		{1, true, func() { first.remove(t) }},
		{0, false, func() { second.remove(t) }},
		{1, false, func() { insert(t, 0, atrT1, (&testCard{}).Transmit, nil) }},
		{0, true, func() { time.AfterFunc(100*time.Millisecond, cancel) }},
	}
	n := 0
	for e, err := range Watch(ctx) {
		if err != nil {
			mustMatch(t, err, context.Canceled)
			break
		}
		if n == len(want) || e.Name != names[want[n].reader] || e.Inserted != want[n].inserted {
			t.Fatalf("event %d: %+v", n, e)
		}
		want[n].then()
		n++
	}
	if n != len(want) {
		t.Errorf("%d events", n)
	}
}

// The library says what is wrong where no service runs.
func TestPCSCNoService(t *testing.T) {
	if os.Getenv("PCSCLITE_CSOCK_NAME") != "" { // in the child
		_, err := Readers(t.Context())
		fmt.Println(errors.Is(err, ErrNoService), err)
		return
	}
	needPCSC(t)
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPCSCNoService$")
	command.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME=/nowhere/pcscd.comm")
	out, err := command.CombinedOutput()
	if !strings.Contains(string(out), "true nfc: readers: no smart card service") {
		t.Errorf("%s, %v", out, err)
	}
}

// A program that we did not write, through the same service: python-fido2 over
// pyscard, as Debian has them. It sends whole APDUs over T=0, too, which a
// reader takes that makes TPDUs of them.
func TestPCSCPython(t *testing.T) {
	needPCSC(t)
	for _, test := range []struct {
		protocol, length string
		atr              []byte
		faults           virtual.CardFaults
	}{
		{"T=1", "extended", atrT1, virtual.CardFaults{}},
		{"T=0", "short", atrT0, virtual.CardFaults{RefuseExtended: true}},
	} {
		t.Run(test.protocol+", "+test.length, func(t *testing.T) {
			key, err := virtual.New(virtual.Config{PIN: testPIN, Presence: virtual.TouchAfter(200 * time.Millisecond), Transports: []string{"nfc"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { key.Close() })
			card := key.Tap(virtual.CardConfig{Faults: test.faults})
			i := insert(t, 0, test.atr, card.Transmit, func() { _ = card.Reset() })
			var long, chained, polls atomic.Int64
			count := func(apdu []byte) bool {
				switch {
				case len(apdu) > 5+0xFF+1:
					long.Add(1)
				case apdu[0] == claCTAP|claChain:
					chained.Add(1)
				case apdu[0] == claCTAP && apdu[1] == insGetResponse:
					polls.Add(1)
				}
				return true
			}
			i.atAPDU.Store(&count)
			// Debian's own Python: another that comes first in PATH does not
			// find Debian's packages.
			out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-B", "../internal/interop/testdata/python_pcsc.py",
				readerName(t, 0), test.protocol, test.length, testPIN).CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatal("python_pcsc.py:", err)
			}
			extended := test.length == "extended"
			if (long.Load() > 0) != extended || (chained.Load() > 0) == extended || polls.Load() == 0 {
				t.Errorf("%d long APDUs, %d of chains, %d polls", long.Load(), chained.Load(), polls.Load())
			}
		})
	}
}

// The largest message and the largest answer, 200 times in a row.
func TestPCSCLargest(t *testing.T) {
	needPCSC(t)
	for _, test := range []struct {
		name           string
		atr            []byte
		shortOnly      bool
		length, answer int
	}{
		// The protocol of the virtual reader ends at 65535 bytes, with the
		// status word.
		{"extended", atrT1, false, maxMessage, 65533},
		{"short", atrT1, true, 7609, 7609},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := counting(test.answer)
			c := &testCard{shortOnly: test.shortOnly}
			c.answer = func(a apdu) answer {
				if !bytes.Equal(a.data, counting(test.length)) {
					t.Errorf("%d bytes arrived, or others", len(a.data))
				}
				return answer{reply, 0x9000}
			}
			i := insert(t, 0, test.atr, c.Transmit, nil)
			d := openReader(t, 0)
			message := counting(test.length)
			const times = 200
			start := time.Now()
			for n := range times {
				got, err := d.Exchange(t.Context(), message, nil)
				if err != nil || !bytes.Equal(got, reply) {
					t.Fatalf("exchange %d: %d bytes, %v", n, len(got), err)
				}
			}
			took := time.Since(start)
			t.Logf("%d bytes there and %d back, %d times: %.0f messages a second, %.0f APDUs a second", test.length, test.answer, times,
				times/took.Seconds(), float64(i.apdus.Load())/took.Seconds())
		})
	}
}
