// Package ed448 adds Ed448 to package cose: EdDSA on edwards448 as RFC 8032
// §5.2 has it, with the empty context (RFC 9864). Import it for that effect
// alone:
//
//	import _ "github.com/tapstone/fido/cose/ed448"
//
// Public keys are of the type ed448.PublicKey of
// github.com/cloudflare/circl/sign/ed448.
package ed448

import (
	"bytes"
	"crypto"
	"fmt"

	"github.com/cloudflare/circl/ecc/goldilocks"
	"github.com/cloudflare/circl/sign/ed448"

	"github.com/tapstone/fido/cose"
)

func init() { cose.Register(cose.AlgorithmEd448, scheme{}) }

type scheme struct{}

func (scheme) Decode(k *cose.Key) (crypto.PublicKey, error) {
	if _, err := goldilocks.FromBytes(k.X); err != nil {
		return nil, cose.ErrNotOnCurve
	}
	return ed448.PublicKey(bytes.Clone(k.X)), nil
}

func (scheme) Encode(pub crypto.PublicKey) (*cose.Key, error) {
	p, ok := pub.(ed448.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%T, not ed448.PublicKey", pub)
	}
	return &cose.Key{Type: cose.OKP, Curve: cose.Ed448, X: bytes.Clone(p)}, nil
}

func (scheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	return ed448.Verify(pub.(ed448.PublicKey), message, signature, "")
}
