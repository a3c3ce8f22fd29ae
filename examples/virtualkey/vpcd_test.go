package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/virtual"
)

// vpcd is the other end of the connection: the reader.
type vpcd struct {
	t    *testing.T
	conn net.Conn
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (v *vpcd) send(message []byte) error {
	// In two segments, as the real one.
	if _, err := v.conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(message)))); err != nil {
		return err
	}
	_, err := v.conn.Write(message)
	return err
}

func (v *vpcd) receive() ([]byte, error) {
	header := make([]byte, 2)
	if _, err := io.ReadFull(v.conn, header); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(header))
	_, err := io.ReadFull(v.conn, message)
	return message, err
}

// expect sends a message in hex digits, and expects an answer.
func (v *vpcd) expect(message, answer string) {
	v.t.Helper()
	if err := v.send(unhex(v.t, message)); err != nil {
		v.t.Fatal(err)
	}
	if got, err := v.receive(); err != nil || !bytes.Equal(got, unhex(v.t, answer)) {
		v.t.Fatalf("answer to %s: %x, %v", message, got, err)
	}
}

// Exchange makes a vpcd a ctap2.Transport, by the simplest way through a card.
func (v *vpcd) Exchange(_ context.Context, message []byte, _ func(byte)) ([]byte, error) {
	apdu := binary.BigEndian.AppendUint16([]byte{0x80, 0x10, 0, 0, 0}, uint16(len(message)))
	if err := v.send(append(append(apdu, message...), 0, 0)); err != nil {
		return nil, err
	}
	response, err := v.receive()
	if err != nil {
		return nil, err
	}
	answer, ok := bytes.CutSuffix(response, []byte{0x90, 0})
	if !ok {
		return nil, fmt.Errorf("response %x", response)
	}
	return answer, nil
}

func (v *vpcd) Close() error { return nil }

const (
	selectApplet = "00a40400 08 a0000006472f0001 00"
	selected     = "5532465f5632 9000"
)

// insert starts the program with a card for a reader of its own.
func insert(t *testing.T, args ...string) (*started, *vpcd) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	program := start(t, append(args, "-vpcd", listener.Addr().String())...)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return program, &vpcd{t, conn}
}

func TestVPCD(t *testing.T) {
	program, reader := insert(t, "-atr", "3b800181", "-pin-file", file(t, testPIN))
	reader.send([]byte{vpcdPowerOn})
	reader.expect("04", "3b800181")
	reader.send(nil)          // nothing
	reader.send([]byte{0x03}) // and what nobody knows
	reader.expect(selectApplet, selected)
	cred := register(t, reader)
	signIn(t, reader, cred)

	// Each loss of power ends the selection.
	for _, control := range []byte{vpcdReset, vpcdPowerOff, vpcdPowerOn} {
		reader.expect(selectApplet, selected)
		reader.send([]byte{control})
		reader.expect("80100000 01 04 00", "6985")
	}
	if !strings.Contains(program.attached(), "attached to vpcd") {
		t.Error(program.attached())
	}
	program.stop()
	if _, err := reader.receive(); err == nil {
		t.Error("the card is still there")
	}
}

// The reader is pulled out, or the program interrupted, while the card waits
// for a touch.
func TestVPCDEndsDuringTouch(t *testing.T) {
	for _, name := range []string{"reader", "program"} {
		t.Run(name, func(t *testing.T) {
			program, reader := insert(t, "-touch", "none")
			reader.expect(selectApplet, selected)
			reader.expect("80108000 01 0b 00", "029100")
			reader.send(unhex(t, "80100000 01 0b 00")) // no news of this one
			if name == "program" {
				program.stop()
				return
			}
			reader.conn.Close()
			if err := <-program.end; err == nil || !strings.HasPrefix(err.Error(), "vpcd: ") {
				t.Errorf("the program ended with %v", err)
			}
		})
	}
}

func TestVPCDCutMessage(t *testing.T) {
	program, reader := insert(t)
	reader.conn.Write([]byte{0, 5, 1, 2})
	reader.conn.Close()
	if err := <-program.end; err == nil || !strings.HasPrefix(err.Error(), "vpcd: ") {
		t.Errorf("the program ended with %v", err)
	}
}

// What is not TCP is served just the same, and a card that fails ends it.
func TestVPCDCardFails(t *testing.T) {
	key, err := virtual.New(virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	reader := &vpcd{t, theirs}
	theirs.SetDeadline(time.Now().Add(time.Minute))
	end := make(chan error)
	go func() { end <- serveVPCD(t.Context(), ours, key.Tap(virtual.CardConfig{})) }()
	reader.expect(selectApplet, selected)
	key.Close()
	reader.send(unhex(t, "80100000 01 04 00"))
	if err := <-end; err == nil || strings.HasPrefix(err.Error(), "vpcd: ") {
		t.Errorf("serveVPCD = %v", err)
	}
}
