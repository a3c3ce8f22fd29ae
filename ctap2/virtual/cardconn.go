package virtual

import (
	"context"
	"fmt"

	"github.com/tapstone/fido/internal/ctap"
)

// A CardConn is a program's connection to a Card, as the readers of package nfc
// have one. It is a Card of that package, and its methods are safe for use by
// several goroutines.
type CardConn struct {
	card  *Card
	life  context.Context // ends with Close
	close context.CancelFunc

	// Guarded by card.mu.
	laid   int // the card.laid that the connection is to
	resets int // the last card.resets that it has told of
}

var errConnReset = fmt.Errorf("virtual: %w", ctap.ErrReset)

// Open connects to the card. It fails if the card is not there, with an error for
// which errors.Is(err, nfc.ErrDeviceGone) holds. Opening and closing leave the
// card on the reader, with its power and all that it holds.
//
// Any number of connections may be open. They share the one card and its selected
// applet, without the transactions that PC/SC has: a command over one ends a chain,
// an answer in parts or a wait for a touch of another.
func (c *Card) Open() (*CardConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.present {
		return nil, errRemoved
	}
	conn := &CardConn{card: c, laid: c.laid, resets: c.resets}
	conn.life, conn.close = context.WithCancel(context.Background())
	return conn, nil
}

// Transmit is that of the Card as long as the connection is there. Once the card
// was taken away it fails for good, with an error for which errors.Is(err,
// nfc.ErrDeviceGone) holds: a card that Tap puts back has to be opened again. After
// Card.Reset it fails once, with one for which errors.Is(err, nfc.ErrReset) does,
// and then finds the applet not selected. After Close it is nfc.ErrClosed.
func (c *CardConn) Transmit(command []byte) ([]byte, error) {
	return c.card.transmit(command, c)
}

// Close closes the connection. A Transmit that waits fails at once. The card
// notices nothing: it goes on with a command that it has begun, until the next
// one comes, over another connection. A second Close does nothing, and there is
// no error.
func (c *CardConn) Close() error {
	c.close()
	return nil
}

// closed is closed by Close. That of no connection never is.
func (c *CardConn) closed() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.life.Done()
}

// lost returns why the connection, if it is one, cannot carry a command. It is
// called with card.mu held.
func (c *CardConn) lost() error {
	switch {
	case c == nil:
		return nil
	case c.life.Err() != nil:
		return errConnClosed
	case !c.card.present || c.laid != c.card.laid:
		return errRemoved
	case c.resets != c.card.resets:
		c.resets = c.card.resets
		return errConnReset
	}
	return nil
}
