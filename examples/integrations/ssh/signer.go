package main

import (
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"

	"golang.org/x/crypto/ssh"

	"github.com/tapstone/fido/ctap2"
)

// A signer is an ssh.Signer whose private key is on a security key, which takes
// a touch for each signature.
type signer struct {
	ctx context.Context // ssh.Signer has none of its own
	key *ctap2.Authenticator
	*credential
}

func (s *signer) PublicKey() ssh.PublicKey { return s.public }

// Sign signs data (OpenSSH, PROTOCOL.u2f, "SSH U2F Signatures"). The key signs its
// own data and a hash, as it does for websites; SSH puts the hash of the data
// there, and the verifier makes the rest from the public key and what comes with
// the signature.
func (s *signer) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	hash := sha256.Sum256(data)
	assertions, err := s.key.GetAssertion(s.ctx, &ctap2.GetAssertionRequest{
		RPID:             application,
		ClientDataHash:   hash[:],
		AllowList:        []ctap2.CredentialDescriptor{{Type: "public-key", ID: s.id}},
		UserVerification: ctap2.Discouraged, // ssh asks for a touch alone
	})
	if err != nil {
		return nil, err
	}
	signed, signature := assertions[0].AuthData, assertions[0].Signature
	if s.public.Type() == ssh.KeyAlgoSKECDSA256 {
		var ecdsa struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &ecdsa); err != nil {
			return nil, err
		}
		signature = ssh.Marshal(ecdsa)
	}
	result := &ssh.Signature{
		Format: s.public.Type(),
		Blob:   signature,
		Rest: ssh.Marshal(struct {
			Flags   byte
			Counter uint32
		}{byte(signed.Flags), signed.SignCount}),
	}
	if err := s.public.Verify(data, result); err != nil {
		return nil, errors.Join(errors.New("the key made a signature that SSH does not take"), err)
	}
	return result, nil
}
