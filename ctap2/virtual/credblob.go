package virtual

import (
	"bytes"

	"github.com/tapstone/fido/internal/cbor"
)

const credBlobID = "credBlob"

// Lengths that a credBlob may have at most. The first is what every key that has
// the extension must take (§12.2); with more than the second, answers could
// outgrow a message.
const (
	leastMaxCredBlobLength    = 32
	greatestMaxCredBlobLength = 1024
)

// credBlob is the extension of that identifier (§12.2). Only discoverable
// credentials have a place for one.
var credBlob = extension{
	id:    credBlobID,
	since: CTAP21,
	suits: func(cfg *Config) bool { return !cfg.NoResidentKeys },
	makeCredential: func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		d := inputDecoder(input)
		blob := d.Bytes()
		if err := d.end(); err != nil {
			return nil, err
		}
		if !mc.rk || len(blob) > a.cfg.MaxCredBlobLength {
			return false, nil
		}
		mc.cred.credBlob = bytes.Clone(blob)
		return true, nil
	},
	getAssertion: func(_ *Authenticator, _ *assertions, input cbor.RawMessage) (assertionOutput, error) {
		d := inputDecoder(input)
		asked := d.Bool()
		if err := d.end(); err != nil || !asked {
			return nil, err
		}
		return outputFunc(credBlobOutput), nil
	},
}

// credBlobOutput returns the credBlob of a credential, which is empty if it has
// none.
func credBlobOutput(_ *Authenticator, _ *assertions, c *credential) (any, error) {
	if c.credBlob == nil {
		return []byte{}, nil
	}
	return c.credBlob, nil
}
