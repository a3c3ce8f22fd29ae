package virtual

import (
	"context"
	"fmt"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// An operation is a command under way.
type operation struct {
	ctx     context.Context // ends when the platform cancels
	power   context.Context // ends when the key loses power
	command byte
	// transport is how the command came, as getInfo names it: over USB or NFC
	// if the key is plugged in or tapped, and otherwise the first of
	// Config.Transports.
	transport string
	lone      bool // the allowList of a getAssertion has one entry; for a fault

	notify func(byte)
	turn   chan struct{} // the key's
}

// Transports that tokens and resets know about (WebAuthn §5.8.4).
const (
	transportUSB = "usb"
	transportNFC = "nfc"
)

// A port is a key as one transport reaches it.
type port struct {
	*Authenticator
	transport string
}

// Exchange is that of the Authenticator, which is told how the command came.
func (p port) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	return p.exchangeOver(ctx, p.transport, message, status)
}

// enter waits until a channel takes its one value. What it returns is begin's.
func (op *operation) enter(gate chan struct{}) error {
	select {
	case gate <- struct{}{}:
		return nil
	case <-op.ctx.Done():
		return refusal(ctap.StatusKeepaliveCancel)
	case <-op.power.Done():
		return context.Cause(op.power)
	}
}

// keepalive tells the platform that the key is still there. It returns the reason
// if the key has lost its power; the command must then end, and touch nothing of
// the key's.
func (op *operation) keepalive(status byte) error {
	if op.notify != nil && op.power.Err() == nil {
		op.notifyOutOfTurn(status)
	}
	return context.Cause(op.power)
}

// notifyOutOfTurn gives up the turn for the call, which may unplug the key. It has
// it again even if notify panics, or ends its goroutine, as one does that fails a
// test: deferred functions of the command follow.
func (op *operation) notifyOutOfTurn(status byte) {
	<-op.turn
	defer func() { op.turn <- struct{}{} }()
	op.notify(status)
}

// A refusal is the status byte that a command ends with.
type refusal byte

func (s refusal) Error() string { return fmt.Sprintf("status %#02x", byte(s)) }

// A reply is the map that a command answers with; nil if it has no output.
type reply map[uint64]any

// A decoder reads the parameters of a command. The whole of them is canonical
// CBOR before the first is read, so that what stops its Cursor is a value of
// the wrong type and nothing else. What else is wrong with a value is noted
// with refuse, and reading goes on: a wrong type anywhere comes first.
type decoder struct {
	*cbor.Cursor
	refusal refusal
}

// parameters starts to read the CBOR map behind a command byte, or that there
// is none, which is the same as an empty one. Messages that are not canonical
// are refused with INVALID_CBOR (§8).
func parameters(params []byte) (*decoder, error) {
	if len(params) == 0 {
		params = []byte{0xA0}
	}
	d := &decoder{Cursor: cbor.NewCursor(params, cbor.Strict)}
	if d.Err() != nil {
		return nil, refusal(ctap.StatusInvalidCBOR)
	}
	return d, nil
}

// noParameters reads the parameters of a command that has none. Members that a
// key does not know are ignored everywhere (§8), and so they are here.
func noParameters(params []byte) error {
	d, err := parameters(params)
	if err != nil {
		return err
	}
	for range d.IntMap() {
		d.Skip()
	}
	return d.end()
}

func (d *decoder) refuse(s refusal) {
	if d.refusal == 0 {
		d.refusal = s
	}
}

// require refuses parameters that lack one that must be there.
func (d *decoder) require(present ...bool) {
	for _, p := range present {
		if !p {
			d.refuse(ctap.StatusMissingParameter)
		}
	}
}

// end returns what is wrong with the parameters.
func (d *decoder) end() error {
	if d.Err() != nil {
		return refusal(ctap.StatusCBORUnexpectedType)
	}
	if d.refusal != 0 {
		return d.refusal
	}
	return nil
}

// optionalUint and the like read a value whose absence means something.
func (d *decoder) optionalUint() *uint64 {
	v := d.Uint()
	return &v
}

func (d *decoder) optionalText() *string {
	v := d.Text()
	return &v
}

func (d *decoder) optionalBool() *bool {
	v := d.Bool()
	return &v
}

// rawMap reads a map without looking into it.
func (d *decoder) rawMap() cbor.RawMessage {
	if d.IsMap() {
		return d.Raw()
	}
	for range d.IntMap() { // stops the Cursor
	}
	return nil
}

// hash reads a clientDataHash, which is 32 bytes long.
func (d *decoder) hash() []byte {
	b := d.Bytes()
	if len(b) != ctap.ClientDataHashLength {
		d.refuse(ctap.StatusInvalidLength)
	}
	return b
}

// extensionInputs reads the extensions map.
func (d *decoder) extensionInputs() map[string]cbor.RawMessage {
	inputs := make(map[string]cbor.RawMessage)
	for id := range d.TextMap() {
		inputs[string(id)] = d.Raw()
	}
	return inputs
}

// options of makeCredential and getAssertion. Others are not understood, and
// treated as absent (§6.1.2 step 5).
type options struct {
	rk, up, uv *bool
}

func (d *decoder) options() options {
	var o options
	for key := range d.TextMap() {
		switch string(key) {
		case "rk":
			o.rk = d.optionalBool()
		case "up":
			o.up = d.optionalBool()
		case "uv":
			o.uv = d.optionalBool()
		}
	}
	return o
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// descriptors reads an allowList or an excludeList, and returns the IDs of the
// credentials of type "public-key" in it: not nil, even if there are none.
func (d *decoder) descriptors(cfg *Config) [][]byte {
	ids := [][]byte{}
	if cfg.Level >= CTAP21PRE && d.Len() > cfg.MaxCredentialCountInList {
		d.refuse(ctap.StatusLimitExceeded)
	}
	for range d.Array() {
		id, kind := d.descriptor(cfg)
		d.require(id != nil, kind != nil)
		if cfg.Level >= CTAP21PRE && len(id) > cfg.MaxCredentialIDLength {
			d.refuse(ctap.StatusLimitExceeded)
		}
		if kind != nil && *kind == publicKeyType {
			ids = append(ids, id)
		}
	}
	return ids
}

// descriptor reads a PublicKeyCredentialDescriptor. What it lacks is nil.
func (d *decoder) descriptor(cfg *Config) (id []byte, kind *string) {
	for key := range d.TextMap() {
		switch string(key) {
		case "id":
			id = d.Bytes()
		case "type":
			kind = d.optionalText()
		case "transports":
			for range d.Array() {
				d.Text()
			}
			if cfg.Faults.has(RefuseTransports) {
				d.refuse(ctap.StatusInvalidParameter)
			}
		}
	}
	return id, kind
}

// user reads a PublicKeyCredentialUserEntity. What it lacks is nil.
func (d *decoder) user() (u user) {
	for key := range d.TextMap() {
		switch string(key) {
		case "id":
			u.id = d.Bytes()
		case "name":
			u.name = d.optionalText()
		case "displayName":
			u.displayName = d.optionalText()
		}
	}
	return u
}

// publicKeyType is the one type of credential that exists.
const publicKeyType = "public-key"
