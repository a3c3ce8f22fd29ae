package cose

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"math/big"
	"slices"
)

// ed25519Scheme is Ed25519 of RFC 8032 §5.1, neither prehashed nor with a
// context. Its public keys are ed25519.PublicKey.
type ed25519Scheme struct{}

func (ed25519Scheme) Decode(k *Key) (crypto.PublicKey, error) {
	if !onEd25519(k.X) {
		return nil, ErrNotOnCurve
	}
	return ed25519.PublicKey(bytes.Clone(k.X)), nil
}

func (ed25519Scheme) Encode(pub crypto.PublicKey) (*Key, error) {
	p, ok := pub.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%T, not ed25519.PublicKey", pub)
	}
	return &Key{Type: OKP, Curve: Ed25519, X: bytes.Clone(p)}, nil
}

func (ed25519Scheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	return ed25519.Verify(pub.(ed25519.PublicKey), message, signature)
}

// prime25519 is 2^255 - 19, the field's.
var prime25519 = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// onEd25519 reports whether point, of 32 bytes, decodes (RFC 8032 §5.1.3).
// The standard library finds that out in the first verification only, and
// does not tell it from a wrong signature.
//
// The point is the little-endian y, and the sign of x in the last bit. An x
// exists if x² = (y²-1) / (dy²+1) is a square, where d = -121665/121666. It is
// one exactly if (y²-1) · (121666-121665y²) · 121666 is, which differs from
// it by a factor that is a square.
func onEd25519(point []byte) bool {
	b := bytes.Clone(point)
	slices.Reverse(b)
	negative := b[0]&0x80 != 0
	b[0] &= 0x7F
	y := new(big.Int).SetBytes(b)
	if y.Cmp(prime25519) >= 0 {
		return false
	}
	n := big.NewInt(121666)
	square := y.Mul(y, y)
	v := new(big.Int).Mul(square, big.NewInt(-121665))
	v.Add(v, n).Mul(v, n)
	v.Mul(v, square.Sub(square, big.NewInt(1))).Mod(v, prime25519)
	switch big.Jacobi(v, prime25519) {
	case 1:
		return true
	case 0: // x is 0, which has no sign
		return !negative
	}
	return false
}
