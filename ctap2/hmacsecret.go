package ctap2

import (
	"fmt"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// HMACSecretEnabled is the output of HMACSecret in a registration: whether the
// credential can yield secrets.
type HMACSecretEnabled bool

// HMACSecretOutput is the output of HMACSecret in an assertion, and of
// HMACSecretMC.
type HMACSecretOutput struct {
	Output1 pin.Secret // 32 bytes
	Output2 pin.Secret // 32 bytes; empty unless there were two salts
}

// Wipe overwrites both outputs.
func (o *HMACSecretOutput) Wipe() {
	o.Output1.Wipe()
	o.Output2.Wipe()
}

// hmacSecretInput is the input of hmac-secret in getAssertion (§12.7), and of
// hmac-secret-mc (§12.8).
type hmacSecretInput struct {
	KeyAgreement *cose.Key    `cbor:"1,keyasint"`
	SaltEnc      []byte       `cbor:"2,keyasint"`
	SaltAuth     []byte       `cbor:"3,keyasint"`
	Protocol     pin.Protocol `cbor:"4,keyasint,omitempty"`
}

type hmacSecret struct {
	mc    bool       // hmac-secret-mc
	salts pin.Secret // 0, 32 or 64 bytes
	err   error
}

// HMACSecret is the extension hmac-secret (§12.7). Without salts it belongs in a
// registration, and asks for a credential that can yield secrets: its output is
// an HMACSecretEnabled. With one or two salts of 32 bytes each it belongs in an
// assertion, and asks for one secret per salt: its output is a
// *HMACSecretOutput. Nothing is sent to a key that does not list the extension,
// and there is no output: a program that cannot do without looks at
// [Info.HasExtension] first.
//
// A key has two secrets for each credential, one after user verification and one
// without, so that the same salt gives another output with than without. A
// program that will need the same output again asks with UserVerification
// Required each time. Preferred, the zero value, does without as long as the key
// has no PIN, and changes to the other output on the day that one is set: what
// was encrypted under the first is then lost.
//
// Salts of another length or number make the command fail with
// ErrInvalidRequest.
func HMACSecret(salts ...[]byte) Extension { return newHMACSecret(false, salts) }

// HMACSecretMC is the extension hmac-secret-mc (§12.8, CTAP 2.2): next to
// HMACSecret() in a registration, it asks for the secrets of the new credential
// at once, one for each of one or two salts of 32 bytes. Its output is a
// *HMACSecretOutput. Nothing is sent to a key that does not list the extension.
// An assertion then yields the same secrets if the user was verified in both, or
// in neither: a program asks with UserVerification Required in both, for the
// reason that HMACSecret gives.
//
// No salts, and salts of another length or number, make the command fail with
// ErrInvalidRequest.
func HMACSecretMC(salts ...[]byte) Extension { return newHMACSecret(true, salts) }

func newHMACSecret(mc bool, salts [][]byte) Extension {
	joined := make([]byte, 0, 2*ctap.HMACSecretSaltLength)
	for _, s := range salts {
		if len(s) != ctap.HMACSecretSaltLength {
			return hmacSecret{mc: mc, err: invalid("hmac-secret: salt of %d bytes", len(s))}
		}
		joined = append(joined, s...)
	}
	if len(salts) > 2 {
		return hmacSecret{mc: mc, err: invalid("hmac-secret: %d salts", len(salts))}
	}
	return hmacSecret{mc: mc, salts: pin.NewSecret(joined)}
}

func (e hmacSecret) Identifier() string {
	if e.mc {
		return "hmac-secret-mc"
	}
	return "hmac-secret"
}

func (e hmacSecret) Input(c *ExtensionContext) (any, error) {
	switch {
	case e.err != nil:
		return nil, e.err
	case e.mc && (!c.Registering() || e.salts.Len() == 0):
		return nil, invalid("hmac-secret-mc: belongs in a registration, with salts")
	case !e.mc && c.Registering() != (e.salts.Len() == 0):
		return nil, invalid("hmac-secret: salts belong in an assertion, and only there")
	case !c.Info().HasExtension(e.Identifier()):
		return nil, nil
	case e.salts.Len() == 0:
		return true, nil
	}
	secret, platform, err := c.SharedSecret()
	if err != nil {
		return nil, err
	}
	in := hmacSecretInput{KeyAgreement: platform}
	if in.SaltEnc, err = secret.Encrypt(e.salts.Bytes()); err != nil {
		return nil, err
	}
	in.SaltAuth = secret.Authenticate(in.SaltEnc)
	if secret.Protocol() != pin.One { // 2.0 keys know no fourth member
		in.Protocol = secret.Protocol()
	}
	return in, nil
}

func (e hmacSecret) Output(c *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	if e.salts.Len() == 0 {
		enabled := d.Bool()
		return HMACSecretEnabled(enabled), d.Err()
	}
	var out *HMACSecretOutput
	encrypted := d.Bytes()
	if d.Err() != nil {
		return out, d.Err()
	}
	secret := c.c.secret
	if secret == nil { // never asked for: nothing to decrypt it with
		return out, fmt.Errorf("%w: unasked", ErrMalformed)
	}
	plain, err := secret.Decrypt(encrypted)
	if err != nil || len(plain) != e.salts.Len() {
		clear(plain)
		return out, fmt.Errorf("%w: %d bytes", ErrMalformed, len(encrypted))
	}
	out = &HMACSecretOutput{Output1: pin.NewSecret(plain[:32:32])}
	if len(plain) == 64 {
		out.Output2 = pin.NewSecret(plain[32:])
	}
	return out, nil
}
