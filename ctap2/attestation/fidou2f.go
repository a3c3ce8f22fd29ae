package attestation

import (
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
)

// verifyFIDOU2F is §8.6. The statement covers the credential, but not the
// authenticator data as such: an AAGUID in there is nobody's word. The one in the
// certificate is the maker's (§8.2.1): a model that has it there, and answers as a
// U2F key, is the same model still.
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
	aaguid, err := octetStringExtension(st.chain[0], aaguidExtension)
	if err != nil {
		return nil, fmt.Errorf("certificate's AAGUID: %w", err)
	}
	s := &Statement{Type: Basic, Certificates: st.chain}
	if copy(s.AAGUID[:], aaguid); aaguid != nil && len(aaguid) != len(s.AAGUID) {
		return nil, fmt.Errorf("certificate's AAGUID: %d bytes", len(aaguid))
	}
	return s, nil
}
