package virtual

import (
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

const largeBlobKeyID = "largeBlobKey"

// largeBlobKey is the extension of that identifier (§12.3), for discoverable
// credentials alone. A key that has it has authenticatorLargeBlobs too, and one
// that has not has neither: what platforms put into the large-blob array is
// encrypted with these keys.
var largeBlobKey = extension{
	id:    largeBlobKeyID,
	since: CTAP21,
	// A key that can verify its user takes writes with a token alone.
	suits: func(cfg *Config) bool {
		verifies := !cfg.NoClientPIN || cfg.BuiltInUV != UVNone
		return !cfg.NoResidentKeys && !(verifies && cfg.NoPINUVAuthToken)
	},
	makeCredentialMember: credentialLargeBlobKey,
	getAssertionMember:   assertionLargeBlobKey,
	makeCredential: func(_ *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		if err := parseLargeBlobKey(input); err != nil {
			return nil, err
		}
		if !mc.rk {
			return nil, refusal(ctap.StatusInvalidOption)
		}
		mc.cred.largeBlobKey = randomBytes(ctap.LargeBlobKeyLength)
		return mc.cred.largeBlobKey, nil
	},
	getAssertion: func(_ *Authenticator, _ *assertions, input cbor.RawMessage) (assertionOutput, error) {
		if err := parseLargeBlobKey(input); err != nil {
			return nil, err
		}
		return outputFunc(largeBlobKeyOutput), nil
	},
}

// parseLargeBlobKey reads an input, which must be true.
func parseLargeBlobKey(input cbor.RawMessage) error {
	d := inputDecoder(input)
	if !d.Bool() {
		d.refuse(ctap.StatusInvalidOption)
	}
	return d.end()
}

// largeBlobKeyOutput returns the key of a credential, if it has one.
func largeBlobKeyOutput(_ *Authenticator, _ *assertions, c *credential) (any, error) {
	if c.largeBlobKey == nil {
		return nil, nil
	}
	return c.largeBlobKey, nil
}
