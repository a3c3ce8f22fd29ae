// Package secp256k1 adds ES256K to package cose: ECDSA on secp256k1 with
// SHA-256 (RFC 8812 §3.2). Import it for that effect alone:
//
//	import _ "github.com/tapstone/fido/cose/secp256k1"
//
// Public keys are of the type *secp256k1.PublicKey of
// github.com/decred/dcrd/dcrec/secp256k1/v4.
package secp256k1

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tapstone/fido/cose"
)

func init() { cose.Register(cose.ES256K, scheme{}) }

type scheme struct{}

func (scheme) Decode(k *cose.Key) (crypto.PublicKey, error) {
	pub, err := secp256k1.ParsePubKey(slices.Concat([]byte{secp256k1.PubKeyFormatUncompressed}, k.X, k.Y))
	if err != nil {
		return nil, cose.ErrNotOnCurve
	}
	return pub, nil
}

func (scheme) Encode(pub crypto.PublicKey) (*cose.Key, error) {
	p, ok := pub.(*secp256k1.PublicKey)
	if !ok || p == nil {
		return nil, fmt.Errorf("%T, not *secp256k1.PublicKey", pub)
	}
	point := p.SerializeUncompressed()
	return &cose.Key{Type: cose.EC2, Curve: cose.Secp256k1, X: point[1:33], Y: point[33:]}, nil
}

func (scheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	s, err := ecdsa.ParseDERSignature(signature)
	if err != nil {
		return false
	}
	hash := sha256.Sum256(message)
	return s.Verify(hash[:], pub.(*secp256k1.PublicKey))
}
