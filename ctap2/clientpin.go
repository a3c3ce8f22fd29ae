package ctap2

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// clientPINParameters is the request of authenticatorClientPIN (§6.5.5).
type clientPINParameters struct {
	Protocol       pin.Protocol `cbor:"1,keyasint,omitempty"`
	Subcommand     byte         `cbor:"2,keyasint"`
	KeyAgreement   *cose.Key    `cbor:"3,keyasint,omitempty"`
	PINUVAuthParam []byte       `cbor:"4,keyasint,omitempty"`
	NewPINEnc      []byte       `cbor:"5,keyasint,omitempty"`
	PINHashEnc     []byte       `cbor:"6,keyasint,omitempty"`
	Permissions    Permission   `cbor:"9,keyasint,omitempty"`
	RPID           string       `cbor:"10,keyasint,omitempty"`
}

// clientPINReply is the reply of authenticatorClientPIN. Absent members are
// nil.
type clientPINReply struct {
	keyAgreement   *cose.Key
	pinUVAuthToken []byte
	pinRetries     *int
	powerCycle     bool
	uvRetries      *int
}

func (c *ceremony) clientPIN(p *clientPINParameters, touch Touch) (*clientPINReply, error) {
	body, err := c.send(ctap.CmdClientPIN, p.Subcommand, p, touch)
	if err != nil {
		return nil, err
	}
	reply := new(clientPINReply)
	if len(body) == 0 { // setPIN and changePIN have no output
		return reply, nil
	}
	d := cbor.NewCursor(body, c.a.rules)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			if k := new(cose.Key); d.Err() == nil {
				raw := d.Raw()
				if err := k.UnmarshalCBOR(raw); err != nil {
					return nil, malformed(ctap.CmdClientPIN, fmt.Errorf("%w: keyAgreement: %w", ErrMalformed, err))
				}
				reply.keyAgreement = k
			}
		case 0x02:
			reply.pinUVAuthToken = d.Bytes()
		case 0x03:
			n := int(d.UintMax(math.MaxUint8))
			reply.pinRetries = &n
		case 0x04:
			reply.powerCycle = d.Bool()
		case 0x05:
			n := int(d.UintMax(math.MaxUint8))
			reply.uvRetries = &n
		}
	}
	if d.Err() != nil {
		return nil, malformed(ctap.CmdClientPIN, d.Err())
	}
	return reply, nil
}

// PINRetries is what getPINRetries answers (§6.5.5.2).
type PINRetries struct {
	// Retries is how many wrong PINs are left before only a reset helps.
	Retries int
	// PowerCycle reports that the key takes no PIN until it was unplugged.
	PowerCycle bool
}

// refused is the error that a PIN ends in while the key takes none, and nil
// while it does.
func (r PINRetries) refused() error {
	status := ErrPINAuthBlocked
	switch {
	case r.Retries == 0:
		status = ErrPINBlocked
	case !r.PowerCycle:
		return nil
	}
	return &PINError{Retries: r.Retries, PowerCycle: r.PowerCycle, err: &Error{
		Command: ctap.CmdClientPIN, Subcommand: ctap.PINGetRetries, Status: status,
	}}
}

// beginPIN is beginInformed for a subcommand that a key has if it lists the
// option, on or off (§6.4).
func (a *Authenticator) beginPIN(ctx context.Context, subcommand byte, option string) (*ceremony, error) {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	if !c.info.optionKnown(option) {
		c.end()
		return nil, fmt.Errorf("ctap2: %s: %w", commandName(ctap.CmdClientPIN, subcommand), ErrUnsupported)
	}
	return c, nil
}

// PINRetries asks how many tries are left for the PIN (§6.5.5.2). As all methods
// for the PIN it returns ErrUnsupported if the key lacks option clientPin.
func (a *Authenticator) PINRetries(ctx context.Context) (PINRetries, error) {
	c, err := a.beginPIN(ctx, ctap.PINGetRetries, OptionClientPIN)
	if err != nil {
		return PINRetries{}, err
	}
	defer c.end()
	return c.pinRetries()
}

func (c *ceremony) pinRetries() (PINRetries, error) {
	p, err := c.protocol() // some keys demand it here too
	if err != nil {
		return PINRetries{}, err
	}
	reply, err := c.clientPIN(&clientPINParameters{Protocol: p, Subcommand: ctap.PINGetRetries}, "")
	if err != nil {
		return PINRetries{}, err
	}
	if reply.pinRetries == nil {
		return PINRetries{}, malformed(ctap.CmdClientPIN, noMember("pinRetries"))
	}
	return PINRetries{*reply.pinRetries, reply.powerCycle}, nil
}

// UVRetries asks how many tries are left for built-in user verification
// (§6.5.5.3). It returns ErrUnsupported if the key lacks option uv.
func (a *Authenticator) UVRetries(ctx context.Context) (int, error) {
	c, err := a.beginPIN(ctx, ctap.PINGetUVRetries, OptionUserVerification)
	if err != nil {
		return 0, err
	}
	defer c.end()
	p, err := c.protocol()
	if err != nil {
		return 0, err
	}
	reply, err := c.clientPIN(&clientPINParameters{Protocol: p, Subcommand: ctap.PINGetUVRetries}, "")
	if err != nil {
		return 0, err
	}
	if reply.uvRetries == nil {
		return 0, malformed(ctap.CmdClientPIN, noMember("uvRetries"))
	}
	return *reply.uvRetries, nil
}

// sharedSecret agrees on a secret with the key, once in a ceremony
// (§6.5.5.4): one transaction.
func (c *ceremony) sharedSecret() (*pin.SharedSecret, *cose.Key, error) {
	if c.secret != nil {
		return c.secret, c.platform, nil
	}
	p, err := c.protocol()
	if err != nil {
		return nil, nil, err
	}
	reply, err := c.clientPIN(&clientPINParameters{Protocol: p, Subcommand: ctap.PINGetKeyAgreement}, "")
	if errors.Is(err, ErrReset) { // while a prompt stood open, say
		reply, err = c.clientPIN(&clientPINParameters{Protocol: p, Subcommand: ctap.PINGetKeyAgreement}, "")
	}
	if err != nil {
		return nil, nil, err
	}
	if reply.keyAgreement == nil {
		return nil, nil, malformed(ctap.CmdClientPIN, noMember("keyAgreement"))
	}
	platform, secret, err := p.Encapsulate(reply.keyAgreement)
	if err != nil {
		return nil, nil, malformed(ctap.CmdClientPIN, fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	c.secret, c.platform = secret, platform
	return secret, platform, nil
}

// SetPIN sets the first PIN of a key that has none (§6.5.5.5). The PIN is
// UTF-8; it is normalized, and refused, before anything is sent, with the
// errors of package pin if it breaks the key's rules of length. It stays the
// caller's, to be wiped.
//
// Where a PIN is set already the error wraps ErrPINAuthInvalid, as keys answer
// then: ChangePIN replaces it.
func (a *Authenticator) SetPIN(ctx context.Context, newPIN pin.Secret) error {
	const isSet = "a PIN is set already: use ChangePIN"
	c, err := a.beginPIN(ctx, ctap.PINSetPIN, OptionClientPIN)
	if err != nil {
		return err
	}
	defer c.end()
	if c.info.optionOn(OptionClientPIN) && !c.fresh { // another program may have reset the key
		if _, err := c.fetchInfo(); err != nil {
			return err
		}
	}
	if c.info.optionOn(OptionClientPIN) {
		return &Error{
			Command: ctap.CmdClientPIN, Subcommand: ctap.PINSetPIN, Status: ErrPINAuthInvalid, detail: isSet,
		}
	}
	padded, hash, err := c.preparePIN(newPIN)
	if err != nil {
		return err
	}
	defer padded.Wipe()
	c.changing()
	if err := c.setPIN(ctap.PINSetPIN, padded, pin.Secret{}); err != nil {
		hash.Wipe()
		return meaning(err, ErrPINAuthInvalid, isSet) // since the Info, by another program
	}
	c.remember(hash)
	return nil
}

// ChangePIN replaces the PIN (§6.5.5.6). Both PINs are UTF-8 and stay the
// caller's. A wrong current PIN is a [*PINError]; a new PIN that breaks the
// rules of length, or a current one that no key takes, is refused, before
// anything is sent, with the errors of package pin.
func (a *Authenticator) ChangePIN(ctx context.Context, currentPIN, newPIN pin.Secret) error {
	c, err := a.beginPIN(ctx, ctap.PINChangePIN, OptionClientPIN)
	if err != nil {
		return err
	}
	defer c.end()
	padded, hash, err := c.preparePIN(newPIN)
	if err != nil {
		return err
	}
	defer padded.Wipe()
	current, err := hashPIN(currentPIN)
	if err != nil {
		hash.Wipe()
		return fmt.Errorf("ctap2: current PIN: %w", err)
	}
	defer current.Wipe()
	c.changing()
	err = c.setPIN(ctap.PINChangePIN, padded, current)
	if errors.Is(err, ErrPINAuthInvalid) {
		// The key has taken a new key agreement key since. It checks the
		// authentication before it looks at the PIN, so no try was lost.
		c.forgetSecret()
		err = c.setPIN(ctap.PINChangePIN, padded, current)
	}
	if err != nil {
		hash.Wipe()
		return c.pinError(err)
	}
	c.remember(hash)
	return nil
}

// setPIN sends setPIN, or changePIN with the hash of the current PIN.
func (c *ceremony) setPIN(subcommand byte, padded, currentHash pin.Secret) error {
	secret, platform, err := c.sharedSecret()
	if err != nil {
		return err
	}
	p := &clientPINParameters{Protocol: secret.Protocol(), Subcommand: subcommand, KeyAgreement: platform}
	if p.NewPINEnc, err = secret.Encrypt(padded.Bytes()); err != nil {
		return err
	}
	if subcommand == ctap.PINChangePIN {
		if p.PINHashEnc, err = secret.Encrypt(currentHash.Bytes()); err != nil {
			return err
		}
	}
	p.PINUVAuthParam = secret.Authenticate(p.NewPINEnc, p.PINHashEnc)
	_, err = c.clientPIN(p, "")
	return err
}

// preparePIN returns a new PIN padded, and its hash.
func (c *ceremony) preparePIN(newPIN pin.Secret) (padded, hash pin.Secret, err error) {
	normal, err := pin.Normalize(newPIN)
	if err == nil {
		defer normal.Wipe()
		err = pin.Check(normal, c.info.MinPINLength, c.info.MaxPINLength)
	}
	if err != nil {
		return pin.Secret{}, pin.Secret{}, fmt.Errorf("ctap2: new PIN: %w", err)
	}
	padded, err = pin.Pad(normal)
	return padded, pin.Hash(normal), err
}

// hashPIN returns the hash of a PIN that was set earlier, perhaps under other
// rules. One that no key ever took is refused, so that it does not cost a try.
func hashPIN(entered pin.Secret) (pin.Secret, error) {
	normal, err := pin.Normalize(entered)
	if err != nil {
		return pin.Secret{}, err
	}
	defer normal.Wipe()
	if err := pin.Check(normal, 0, 0); err != nil {
		return pin.Secret{}, err
	}
	return pin.Hash(normal), nil
}

// changing says that the PIN, or what the key can do, is about to change, and
// that nothing known of either holds any longer, even if no answer comes.
func (c *ceremony) changing() {
	c.a.stale.Store(true)
	c.forgetPIN()
}

// remembered returns a copy of the hash of the PIN that the key accepted last,
// empty if there is none.
func (c *ceremony) remembered() pin.Secret {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	return c.a.pinHash.Clone()
}

// remember keeps the hash of a PIN that the key has accepted, unless Forget was
// called meanwhile.
func (c *ceremony) remember(hash pin.Secret) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	if c.a.forgotten != c.forgotten {
		hash.Wipe()
		return
	}
	c.a.pinHash.Wipe()
	c.a.pinHash = hash
}

func (c *ceremony) forgetPIN() {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.a.pinHash.Wipe()
}

// pinError turns the statuses of a refused PIN into a PINError with the tries
// left, and forgets the PIN that was remembered.
func (c *ceremony) pinError(err error) error {
	if !errors.Is(err, ErrPINInvalid) && !errors.Is(err, ErrPINAuthBlocked) && !errors.Is(err, ErrPINBlocked) {
		return err
	}
	c.forgetPIN()
	e := &PINError{Retries: -1, PowerCycle: errors.Is(err, ErrPINAuthBlocked), err: err}
	if errors.Is(err, ErrPINBlocked) {
		e.Retries = 0
	} else if left, err := c.pinRetries(); err == nil {
		e.Retries, e.PowerCycle = left.Retries, e.PowerCycle || left.PowerCycle
	}
	c.a.noPIN.Store(e.Retries == 0 || e.PowerCycle)
	return e
}
