package attestation

import (
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
)

// verifyFIDOU2F is §8.6. The statement covers the credential, but not the
// authenticator data as such: an AAGUID in there is nobody's word, and is left
// out of the result.
func verifyFIDOU2F(r *registration) (*Statement, error) {
	st, err := parseStatement(r.statement)
	if err != nil {
		return nil, err
	}
	if len(st.chain) != 1 {
		return nil, fmt.Errorf("%d certificates, not one", len(st.chain))
	}
	key := r.data.PublicKey
	if key.Type != cose.EC2 || key.Curve != cose.P256 {
		return nil, fmt.Errorf("a credential key of type %v", key)
	}
	signed := slices.Concat([]byte{0x00}, r.data.RPIDHash[:], r.clientDataHash, r.data.CredentialID, []byte{0x04}, key.X, key.Y)
	if err := cose.Verify(cose.ES256, st.chain[0].PublicKey, signed, st.signature); err != nil {
		return nil, err
	}
	return &Statement{Type: Basic, Certificates: st.chain}, nil
}
