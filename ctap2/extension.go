package ctap2

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// An Extension is one extension (§12, WebAuthn §9) of one request: a value
// that knows its identifier, its input and how to read its output. This
// package's are [CredProtect] and [HMACSecret]; [RawExtension] sends any
// other; a program can implement its own.
//
// One value may serve many requests: what the key returns is kept in the
// response, where [Output] finds it.
type Extension interface {
	// Identifier returns the extension identifier, such as "credProtect".
	Identifier() string
	// Input returns what to send under the identifier: anything that
	// fxamacker/cbor encodes, or nil to send nothing. It may be called again
	// for a repeated command.
	Input(c *ExtensionContext) (any, error)
	// Output reads the key's output, one CBOR item, for each response that has
	// one under the identifier. Its value is what Output[T] returns; an error
	// goes along with a value of the same type, zero or nil.
	Output(c *ExtensionContext, output []byte) (any, error)
}

// An ExtensionContext is what an Extension may know and use while a command is
// prepared and its response read. It is valid during the call.
type ExtensionContext struct {
	c       *ceremony
	command byte
}

// Registering reports whether the command is makeCredential; otherwise it is
// getAssertion.
func (x *ExtensionContext) Registering() bool { return x.command == ctap.CmdMakeCredential }

// Info returns the key's Info.
func (x *ExtensionContext) Info() *Info { return x.c.info }

// SharedSecret agrees on a secret with the key (§6.5.5.4), or returns the one
// that this command has agreed on already, and the platform's public key that
// belongs to it. It must not be wiped.
func (x *ExtensionContext) SharedSecret() (*pin.SharedSecret, *cose.Key, error) {
	x.c.lent = true
	return x.c.sharedSecret()
}

// A RawExtension passes an encoded input through, and its output: a program
// finds it with Output[[]byte], which is the first one's, or, as every output,
// in AuthenticatorData.Extensions.
type RawExtension struct {
	ID   string
	CBOR []byte // one item, in canonical form
}

// Identifier returns ID.
func (r RawExtension) Identifier() string { return r.ID }

// Input returns CBOR, and refuses with ErrInvalidRequest what is not one item in
// canonical form.
func (r RawExtension) Input(*ExtensionContext) (any, error) {
	if err := cbor.Check(r.CBOR, cbor.Strict); err != nil {
		return nil, invalid("%v", err)
	}
	return cbor.RawMessage(r.CBOR), nil
}

// Output returns the output as it is encoded, a []byte.
func (r RawExtension) Output(_ *ExtensionContext, output []byte) (any, error) { return output, nil }

// Outputs are the outputs of the extensions of a request, as they were read
// from one response.
type Outputs struct {
	list     []output
	unlisted []string // extensions without output that the key does not list
}

type output struct {
	value any
	err   error
}

// Output returns the extension output of type T: each extension's doc names
// its type, which is T to the letter: there is no HMACSecretOutput where there
// is a *HMACSecretOutput. If the key returned none, the error wraps ErrNoOutput, and
// names those extensions of the request that the key does not list; if it could
// not be read, it is the error of that. The response itself is valid either way.
func Output[T any](o Outputs) (T, error) {
	err := fmt.Errorf("%w: %v", ErrNoOutput, reflect.TypeFor[T]())
	if len(o.unlisted) > 0 {
		err = fmt.Errorf("%w; the key does not list %s", err, strings.Join(o.unlisted, ", "))
	}
	for _, out := range o.list {
		switch v := out.value.(type) {
		case T:
			return v, out.err
		case *T:
			err = fmt.Errorf("%w; there is one of type %T", err, v)
		}
	}
	var zero T
	return zero, err
}

// extensionInputs collects what the extensions send; nil if that is nothing.
func (c *ceremony) extensionInputs(command byte, extensions []Extension) (map[string]any, error) {
	var inputs map[string]any
	for _, e := range extensions {
		if e == nil {
			return nil, invalid("a nil Extension")
		}
		in, err := e.Input(&ExtensionContext{c, command})
		if err != nil {
			return nil, fmt.Errorf("%w (extension %s)", err, e.Identifier())
		}
		if in == nil {
			continue
		}
		if _, twice := inputs[e.Identifier()]; twice {
			return nil, invalid("extension %s is given twice", e.Identifier())
		}
		if inputs == nil {
			inputs = make(map[string]any, len(extensions))
		}
		inputs[e.Identifier()] = in
	}
	return inputs, nil
}

// extensionOutputs lets each extension read its output, whether signed as part
// of the authenticator data or not. One that cannot be read is not an error of
// the command: the credential exists.
func (c *ceremony) extensionOutputs(command byte, extensions []Extension, signed, unsigned map[string][]byte) Outputs {
	var o Outputs
	for _, e := range extensions {
		raw, ok := signed[e.Identifier()]
		if !ok {
			raw, ok = unsigned[e.Identifier()]
		}
		if !ok {
			if id := e.Identifier(); !c.info.HasExtension(id) {
				o.unlisted = append(o.unlisted, id)
			}
			continue
		}
		v, err := e.Output(&ExtensionContext{c, command}, raw)
		if err != nil {
			err = fmt.Errorf("ctap2: output of extension %s: %w", e.Identifier(), err)
		}
		o.list = append(o.list, output{v, err})
	}
	return o
}

// readOutputs reads a map of unsigned extension outputs.
func readOutputs(d *cbor.Cursor) map[string][]byte {
	m := make(map[string][]byte, d.Len())
	for name := range d.TextMap() {
		m[cbor.String(name)] = d.Raw()
	}
	return m
}
