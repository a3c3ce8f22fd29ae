package virtual

import "context"

// A Conn is a connection to an authenticator that can be closed without it. It is
// a Transport and a Messenger of package ctap2. All methods are safe for use by
// several goroutines.
type Conn struct {
	key   *Authenticator
	life  context.Context // ends with Close
	close context.CancelFunc
}

// Open connects to the key, as USB.Open does to one in a USB port. Closing the
// connection leaves the key as it is, to be opened again:
//
//	key, err := ctap2.Open(ctx, dev.Open(), …)
//	…
//	err = key.Close() // closes the connection, and not dev
//
// Any number of connections may be open. Open cannot fail: that the key is closed
// shows when a command does.
func (a *Authenticator) Open() *Conn {
	c := &Conn{key: a}
	c.life, c.close = context.WithCancel(context.Background())
	return c
}

// Exchange is that of the Authenticator, and ends with the connection.
func (c *Conn) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	return c.connected(ctx, func(ctx context.Context) ([]byte, error) { return c.key.Exchange(ctx, message, status) })
}

// Msg is that of the Authenticator, and ends with the connection.
func (c *Conn) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	return c.connected(ctx, func(ctx context.Context) ([]byte, error) { return c.key.Msg(ctx, apdu) })
}

// Close ends the connection, and neither the key nor its other connections. A
// command under way over it is cancelled, as by the end of its context; it and
// every later one fail with an error for which errors.Is(err, hid.ErrClosed)
// holds. A Person may call Close, and so may a status function. Closing twice is
// closing once; there is no error.
func (c *Conn) Close() error {
	c.close()
	return nil
}

// connected runs a command as long as the connection is there.
func (c *Conn) connected(ctx context.Context, command func(context.Context) ([]byte, error)) ([]byte, error) {
	if c.life.Err() != nil {
		return nil, errConnClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	answer, err := command(ctx)
	if c.life.Err() != nil {
		return nil, errConnClosed
	}
	return answer, err
}
