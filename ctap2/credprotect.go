package ctap2

import (
	"fmt"

	"github.com/tapstone/fido/internal/cbor"
)

// A CredProtectPolicy says when a key lets a credential be used (§12.1). It is
// also the output of CredProtect: the policy that the key applied.
type CredProtectPolicy uint8

// Policies.
const (
	UVOptional                     CredProtectPolicy = 1 // always
	UVOptionalWithCredentialIDList CredProtectPolicy = 2 // without verification only if its ID is given
	UVRequired                     CredProtectPolicy = 3 // only after user verification
)

// String returns the name in WebAuthn's spelling.
func (p CredProtectPolicy) String() string {
	switch p {
	case UVOptional:
		return "userVerificationOptional"
	case UVOptionalWithCredentialIDList:
		return "userVerificationOptionalWithCredentialIDList"
	case UVRequired:
		return "userVerificationRequired"
	}
	return fmt.Sprintf("credProtect policy %d", uint8(p))
}

type credProtect struct {
	policy   CredProtectPolicy
	required bool
}

// CredProtect is the extension credProtect of a registration (§12.1). Its
// output is a CredProtectPolicy. Nothing is sent to a key that does not list
// the extension, which makes a credential without protection, and in a
// getAssertion.
func CredProtect(policy CredProtectPolicy) Extension { return credProtect{policy, false} }

// CredProtectRequired is CredProtect for a credential that must not be made
// without protection: a key that does not list the extension is not asked for
// one, and the error wraps ErrUnsupported.
func CredProtectRequired(policy CredProtectPolicy) Extension { return credProtect{policy, true} }

func (credProtect) Identifier() string { return "credProtect" }

func (e credProtect) Input(c *ExtensionContext) (any, error) {
	if e.policy < UVOptional || e.policy > UVRequired {
		return nil, invalid("%v does not exist", e.policy)
	}
	listed := c.Info().HasExtension(e.Identifier())
	switch {
	case !c.Registering() || !listed && !e.required:
		return nil, nil
	case !listed:
		return nil, fmt.Errorf("ctap2: %w", ErrUnsupported)
	}
	return uint8(e.policy), nil
}

func (credProtect) Output(_ *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	p := CredProtectPolicy(d.UintMax(uint64(UVRequired)))
	return p, d.Err()
}
