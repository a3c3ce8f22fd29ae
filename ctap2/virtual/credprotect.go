package virtual

import (
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A protectionPolicy is the credProtect value of a credential (§12.1). Zero is
// one that was made without the extension, and means the same as the first.
type protectionPolicy uint8

const (
	userVerificationOptional                     protectionPolicy = 1
	userVerificationOptionalWithCredentialIDList protectionPolicy = 2
	userVerificationRequired                     protectionPolicy = 3
)

// credProtect is the extension "credProtect" (§12.1).
var credProtect = extension{
	id:    "credProtect",
	since: CTAP21PRE,
	makeCredential: func(_ *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		d := inputDecoder(input)
		policy := d.Uint()
		if policy < uint64(userVerificationOptional) || policy > uint64(userVerificationRequired) {
			// The specification leaves values it does not define open.
			d.refuse(ctap.StatusInvalidParameter)
		}
		if err := d.end(); err != nil {
			return nil, err
		}
		mc.cred.protect = protectionPolicy(policy)
		return policy, nil
	},
}

// allows reports whether a credential may be found and used: withID if the
// platform named it, with user verification or without (§6.2.2 step 7).
func (p protectionPolicy) allows(withID, userVerified bool) bool {
	switch p {
	case userVerificationRequired:
		return userVerified
	case userVerificationOptionalWithCredentialIDList:
		return userVerified || withID
	}
	return true
}
