package cose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // SHA-256 for ES256
	_ "crypto/sha512" // SHA-384 and SHA-512 for the other two
	"fmt"
	"slices"
)

// ecdsaScheme is ECDSA with ASN.1 DER signatures. Its public keys are
// *ecdsa.PublicKey.
type ecdsaScheme struct {
	crv   Curve
	curve elliptic.Curve
	hash  crypto.Hash
}

var (
	es256 = ecdsaScheme{P256, elliptic.P256(), crypto.SHA256}
	es384 = ecdsaScheme{P384, elliptic.P384(), crypto.SHA384}
	es512 = ecdsaScheme{P521, elliptic.P521(), crypto.SHA512}
)

func (s ecdsaScheme) Decode(k *Key) (crypto.PublicKey, error) {
	pub, err := ecdsa.ParseUncompressedPublicKey(s.curve, k.uncompressed())
	if err != nil {
		return nil, ErrNotOnCurve
	}
	return pub, nil
}

func (s ecdsaScheme) Encode(pub crypto.PublicKey) (*Key, error) {
	p, ok := pub.(*ecdsa.PublicKey)
	if !ok || p == nil || p.Curve != s.curve || p.X == nil || p.Y == nil {
		return nil, fmt.Errorf("%T, not *ecdsa.PublicKey on %v", pub, s.crv)
	}
	point, err := p.Bytes()
	if err != nil {
		return nil, ErrNotOnCurve
	}
	return uncompressedKey(s.crv, point), nil
}

func (s ecdsaScheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	return ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest(s.hash, message), signature)
}

// uncompressed returns the point of an EC2 key as SEC 1 §2.3.3 has it:
// 0x04 || x || y.
func (k *Key) uncompressed() []byte {
	return slices.Concat([]byte{4}, k.X, k.Y)
}

// uncompressedKey is the reverse of uncompressed.
func uncompressedKey(crv Curve, point []byte) *Key {
	x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
	return &Key{Type: EC2, Curve: crv, X: x, Y: y}
}
