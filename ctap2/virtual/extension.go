package virtual

import "github.com/tapstone/fido/internal/cbor"

// An extension is what the commands know of an extension (§12). Its functions
// get the input that the platform sent, which is canonical CBOR of any type;
// either may be nil.
type extension struct {
	id    string
	since Level
	// makeCredential may change the credential before it gets its ID. It
	// returns the output for authenticator data, nil for none.
	makeCredential func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (output any, err error)
	// getAssertion reads the input once and returns what gives each
	// assertion its output, nil if none gets one.
	getAssertion func(a *Authenticator, ga *assertions, input cbor.RawMessage) (assertionOutput, error)
}

// An assertionOutput gives the output for the assertion of one credential, nil
// for none. getNextAssertion may ask for more until wipe is called.
type assertionOutput interface {
	output(a *Authenticator, ga *assertions, c *credential) (any, error)
	wipe()
}

// extensions are all there are, in the order in which they are carried out.
var extensions = []extension{credProtect, hmacSecret}

// extensionsOf returns the identifiers of a level's.
func extensionsOf(level Level) []string {
	var ids []string
	for _, e := range extensions {
		if e.since <= level {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// inputDecoder reads an extension's input, which is checked already.
func inputDecoder(input cbor.RawMessage) *decoder {
	return &decoder{Cursor: cbor.NewCursor(input, cbor.Strict)}
}
