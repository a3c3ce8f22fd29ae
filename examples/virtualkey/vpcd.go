package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/tapstone/fido/ctap2/virtual"
)

// Messages of one byte that vpcd, the virtual smart card reader of pcscd, sends
// a card. All others are command APDUs. Each has its length in front, in two
// bytes.
const (
	vpcdPowerOff = 0
	vpcdPowerOn  = 1
	vpcdReset    = 2
	vpcdGetATR   = 4
)

// attachVPCD puts the key on vpcd's reader. A nil atr is the card's own.
func attachVPCD(ctx context.Context, key *virtual.Authenticator, addr netip.AddrPort, atr []byte, out io.Writer) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("%w: start pcscd with vpcd, its virtual reader", err)
	}
	fmt.Fprintln(out, "attached to vpcd at", addr)
	return serveVPCD(ctx, conn, key.Tap(virtual.CardConfig{ATR: atr}))
}

// serveVPCD answers vpcd until ctx ends, which is no error, or the connection
// does, and takes the card away. It closes the connection.
func serveVPCD(ctx context.Context, conn net.Conn, card *virtual.Card) error {
	served, fail := context.WithCancelCause(ctx)
	// A command may wait for a touch; the end of the connection ends that too.
	context.AfterFunc(served, func() {
		conn.Close()
		card.Remove()
	})
	messages := make(chan []byte)
	go func() {
		defer close(messages)
		for {
			message, err := readVPCD(conn)
			if err != nil {
				fail(fmt.Errorf("vpcd: %w", err))
				return
			}
			messages <- message
		}
	}()
	for message := range messages {
		answer, err := answerVPCD(card, message)
		if err == nil && answer != nil {
			answer = append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
			_, err = conn.Write(answer)
		}
		if err != nil {
			fail(err)
		}
	}
	card.Remove()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(served)
}

// readVPCD reads one message.
func readVPCD(conn net.Conn) ([]byte, error) {
	header := make([]byte, 2)
	if err := readAcknowledged(conn, header); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(header))
	return message, readAcknowledged(conn, message)
}

// readAcknowledged fills p. vpcd sends the length and what it is the length of
// in two segments, and the system of vpcd keeps the second until the first is
// acknowledged: 40 ms an APDU if ours takes its time.
func readAcknowledged(conn net.Conn, p []byte) error {
	for len(p) > 0 {
		n, err := conn.Read(p)
		if err != nil {
			return err
		}
		p = p[n:]
		acknowledge(conn)
	}
	return nil
}

// answerVPCD returns the answer to a message, nil if it has none.
func answerVPCD(card *virtual.Card, message []byte) ([]byte, error) {
	if len(message) > 1 {
		response, err := card.Transmit(message)
		if len(response) > 0xFFFF {
			err = errors.Join(err, errors.New("response too long for vpcd"))
		}
		return response, err
	}
	if len(message) == 1 {
		switch message[0] {
		case vpcdPowerOff, vpcdPowerOn, vpcdReset:
			return nil, card.Reset()
		case vpcdGetATR:
			return card.ATR(), nil
		}
	}
	return nil, nil
}
