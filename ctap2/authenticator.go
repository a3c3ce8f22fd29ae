package ctap2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A Transport carries CTAP messages to one authenticator. Packages hid and nfc
// offer it, and so does the software authenticator in package virtual; whoever
// reaches keys another way implements it.
//
// Exchange sends a message (command byte and CBOR) and returns the reply
// (status byte and CBOR), which the caller owns. It is called by one goroutine
// at a time. It calls status, unless nil, with the byte of each keepalive
// (§11.2.9.1.7) as it arrives, from the calling goroutine. It returns an error
// only where there is no reply. When ctx ends it tells the authenticator to
// cancel and still returns the reply, if one arrives within a bound of its
// own: the operation may have succeeded. Close may be called at any time, and
// ends a running Exchange with an error that wraps ErrClosed.
type Transport interface {
	Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error)
	Close() error
}

// An Authenticator is one open key. Its methods are safe for several
// goroutines: each runs whole before the next begins, so that sequences which
// keep state in the key are never interleaved. A caller that waits for its
// turn stops waiting when its context ends.
//
// It remembers the key's Info until something was done through it that changes
// what the key can do, or the key contradicts it; and a PIN that the key
// accepted until Forget, Close, a PIN change, a reset, or a refusal by the key.
type Authenticator struct {
	transport   Transport
	interaction Interaction
	rules       cbor.Rules
	noU2F       bool
	only        pin.Protocol // of WithPINUVAuthProtocol; 0: any
	u2f         bool         // the key speaks U2F alone; set by Open

	turn  chan struct{} // holds one value while a ceremony runs
	info  atomic.Pointer[Info]
	stale atomic.Bool // info must be fetched before it is used again
	noPIN atomic.Bool // the key has said that it takes no PIN
	moved atomic.Bool // what info says of the credential store is no longer true

	life  context.Context // ends with Close
	close context.CancelCauseFunc

	mu        sync.Mutex
	pinHash   pin.Secret // of the PIN last accepted
	forgotten int        // how often Forget was called
}

// An Option changes what Open returns.
type Option func(*Authenticator)

// WithInteraction says how to reach the person at the key. Without it, no PIN
// can be asked for and nothing is said when the key waits for a touch.
func WithInteraction(i Interaction) Option {
	return func(a *Authenticator) { a.interaction = i }
}

// WithStrictCBOR refuses, with ErrMalformed, every reply that is not CTAP2
// canonical CBOR (§8). Real keys send map keys out of order and work well
// otherwise: this is for conformance work.
func WithStrictCBOR() Option {
	return func(a *Authenticator) { a.rules = cbor.Strict }
}

// WithPINUVAuthProtocol uses the PIN/UV auth protocol p alone (§6.5.4), and not
// the first of the key's that is known. What needs one fails with an error that
// wraps ErrUnsupported if the key does not have it. This is for conformance
// work too: a key must keep to both.
func WithPINUVAuthProtocol(p pin.Protocol) Option {
	return func(a *Authenticator) { a.only = p }
}

// Open asks the authenticator behind t for its Info and returns it ready for
// use. From then on t belongs to the Authenticator, which closes it; if Open
// fails, t stays the caller's. A nil t is an ErrInvalidRequest.
//
// A key that speaks CTAP1/U2F alone is opened all the same if t is a
// [Messenger]. Otherwise, or with WithoutU2F, it is refused with an error that
// wraps ErrUnsupported.
func Open(ctx context.Context, t Transport, options ...Option) (*Authenticator, error) {
	if t == nil {
		return nil, invalid("no Transport")
	}
	a := &Authenticator{transport: t, turn: make(chan struct{}, 1)}
	a.life, a.close = context.WithCancelCause(context.Background())
	for _, o := range options {
		o(a)
	}
	c, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	_, err = c.fetchInfo()
	// What a transport says of itself can be wrong: the key has the last word.
	if errors.Is(err, ErrInvalidCommand) || errors.Is(err, ErrUnsupported) {
		if !a.noU2F && c.openU2F() == nil {
			return a, nil
		}
		err = fmt.Errorf("%w: %w", err, ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Info returns what the key said about itself when it was last asked: by Open,
// by GetInfo, or on the way to a command after something had changed. After a
// method that changes the key, such as SetPIN or ToggleAlwaysUV, it still says
// how the key was before: read it with CurrentInfo then.
func (a *Authenticator) Info() *Info { return a.info.Load() }

// Transport returns what Open was given.
func (a *Authenticator) Transport() Transport { return a.transport }

// Forget wipes the PIN that the Authenticator remembers, so that the next
// command that needs one asks for it. It does not wait for a command that runs;
// that one's PIN is not remembered either.
func (a *Authenticator) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgotten++
	a.pinHash.Wipe()
}

// Close wipes what is remembered and closes the transport. A command that runs
// ends with an error that wraps ErrClosed, and so do those that wait for their
// turn and later ones; the context of a PIN prompt ends.
func (a *Authenticator) Close() error {
	if a.life.Err() != nil {
		return nil
	}
	a.close(ErrClosed)
	a.Forget()
	return a.transport.Close()
}

// Command sends any command with any parameters, for what this package has no
// method for: parameters are one CBOR item in canonical form, or empty. It
// returns the reply without its status byte, which is empty or one CBOR item,
// checked as every reply is. A status other than success is an [*Error].
// The Info is fetched anew before it is used again.
func (a *Authenticator) Command(ctx context.Context, command byte, parameters []byte) ([]byte, error) {
	c, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	a.stale.Store(true)
	if command == ctap.CmdClientPIN || command == ctap.CmdReset {
		a.Forget() // the PIN may change
	}
	reply, err := c.exchange(append([]byte{command}, parameters...), 0, TouchPresence)
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	if err := cbor.Check(reply, a.rules); err != nil {
		return nil, malformed(command, err)
	}
	return reply, nil
}

// A ceremony is one call of a method: it has the key to itself, and what it
// agreed with the key (§6.5.5.4) dies with it. A shared secret must not live
// longer: another program's wrong PIN makes the key take a new one, and a
// right PIN under the old secret would cost a try.
type ceremony struct {
	ctx  context.Context
	a    *Authenticator
	info *Info
	rpID string // the relying party it is for; empty for others

	fresh     bool // info was fetched in this ceremony
	forgotten int  // the Authenticator's when this began

	discoverable bool // the credential that is being made

	waiting bool  // the key waits for its user, for the reason touch
	touch   Touch // why the next command waits
	touched bool  // the key has waited for its user, and no longer does
	missed  error // why a finger is asked for again

	secret   *pin.SharedSecret
	platform *cose.Key
	lent     bool // an extension of the command uses secret
}

// A prompt is the key under which the context of an Interaction.PIN says which
// Authenticator asks.
type prompt struct{ a *Authenticator }

// begin waits for the ceremony's turn.
func (a *Authenticator) begin(ctx context.Context) (*ceremony, error) {
	select {
	case a.turn <- struct{}{}:
	default:
		if ctx.Value(prompt{a}) != nil { // the turn would never come
			return nil, invalid("called from within Interaction.PIN")
		}
		select {
		case a.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("ctap2: %w", context.Cause(ctx))
		case <-a.life.Done():
			return nil, fmt.Errorf("ctap2: %w", ErrClosed)
		}
	}
	if a.life.Err() != nil {
		<-a.turn
		return nil, fmt.Errorf("ctap2: %w", ErrClosed)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return &ceremony{ctx: ctx, a: a, info: a.info.Load(), forgotten: a.forgotten}, nil
}

// beginInformed is begin for what is decided by the key's Info.
func (a *Authenticator) beginInformed(ctx context.Context) (*ceremony, error) {
	c, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	if !a.u2f && (c.info == nil || a.stale.Load()) {
		if _, err := c.fetchInfo(); err != nil {
			c.end()
			return nil, err
		}
	}
	return c, nil
}

func (c *ceremony) end() {
	c.forgetSecret()
	<-c.a.turn
}

func (c *ceremony) forgetSecret() {
	if c.secret != nil {
		c.secret.Wipe()
		c.secret, c.platform = nil, nil
	}
}

// encode returns a message: the command byte, and parameters unless nil.
func encode(command byte, parameters any) ([]byte, error) {
	if parameters == nil {
		return []byte{command}, nil
	}
	encoded, err := cbor.Marshal(parameters)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	return append([]byte{command}, encoded...), nil
}

// send encodes a command and exchanges it.
func (c *ceremony) send(command, subcommand byte, parameters any, touch Touch) ([]byte, error) {
	message, err := encode(command, parameters)
	if err != nil {
		return nil, err
	}
	return c.exchange(message, subcommand, touch)
}

// exchange sends a message and returns the reply behind its status byte. The
// person is told when the key waits for them, and when it no longer does.
func (c *ceremony) exchange(message []byte, subcommand byte, touch Touch) ([]byte, error) {
	if c.a.u2f {
		return nil, fmt.Errorf("ctap2: %s: %w: the key speaks U2F alone", commandName(message[0], subcommand), ErrUnsupported)
	}
	if limit := c.info.maxMsgSize(); c.info != nil && len(message) > limit {
		return nil, fmt.Errorf("ctap2: %s: %w: %d bytes, the key takes %d",
			commandName(message[0], subcommand), ErrMessageTooLarge, len(message), limit)
	}
	c.touch = touch
	reply, err := c.a.transport.Exchange(c.ctx, message, c.keepalive)
	c.stopWaiting()
	if err != nil {
		return nil, fmt.Errorf("ctap2: %s: %w", commandName(message[0], subcommand), err)
	}
	if len(reply) == 0 {
		return nil, malformed(message[0], fmt.Errorf("%w: empty", ErrMalformed))
	}
	if reply[0] != ctap.StatusOK {
		e := &Error{Command: message[0], Subcommand: subcommand, Status: Status(reply[0])}
		if c.ctx.Err() != nil {
			e.cause = context.Cause(c.ctx)
		}
		return nil, e
	}
	return reply[1:], nil
}

// keepalive tells the person what the key does.
func (c *ceremony) keepalive(status byte) {
	i := &c.a.interaction
	switch status {
	case ctap.KeepaliveUPNeeded:
		if !c.waiting {
			c.waiting = true
			if i.Touch != nil {
				long := c.touch == TouchReset && c.info.LongTouchForReset
				r := TouchRequest{Authenticator: c.a, For: c.touch, RPID: c.rpID, Long: long}
				if c.touch == TouchVerification {
					r.Previous = c.missed
				}
				i.Touch(r)
			}
		}
	case ctap.KeepaliveProcessing:
		c.stopWaiting()
		if i.Processing != nil {
			i.Processing()
		}
	}
}

func (c *ceremony) stopWaiting() {
	if !c.waiting {
		return
	}
	c.waiting, c.touched = false, true
	if done := c.a.interaction.TouchDone; done != nil {
		done()
	}
}

// maxMsgSize is the largest command the key takes (§6.4, maxMsgSize).
func (i *Info) maxMsgSize() int {
	if i == nil || i.MaxMsgSize == 0 {
		return ctap.DefaultMaxMsgSize
	}
	return i.MaxMsgSize
}

// protocol is the PIN/UV auth protocol to use: the first of the key's that is
// known. Keys with a PIN and no list speak protocol one.
func (c *ceremony) protocol() (pin.Protocol, error) {
	offered := c.info.PINUVAuthProtocols
	if len(offered) == 0 {
		offered = []pin.Protocol{pin.One}
	}
	for _, p := range offered {
		if p.Known() && (c.a.only == 0 || p == c.a.only) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("ctap2: %w: PIN/UV auth protocols %v", ErrUnsupported, offered)
}

// optionOn reports whether an option is present and true.
func (i *Info) optionOn(name string) bool { return i.Options[name] }

// optionKnown reports whether an option is present.
func (i *Info) optionKnown(name string) bool { _, ok := i.Options[name]; return ok }
