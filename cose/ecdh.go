package cose

import (
	"crypto"
	"crypto/ecdh"
	"fmt"
)

// ecdhScheme reads the key agreement keys of PIN/UV auth protocols (CTAP 2.3
// §6.5.6), which are on P-256. Its public keys are *ecdh.PublicKey.
type ecdhScheme struct{}

func (ecdhScheme) Decode(k *Key) (crypto.PublicKey, error) {
	pub, err := ecdh.P256().NewPublicKey(k.uncompressed())
	if err != nil {
		return nil, ErrNotOnCurve
	}
	return pub, nil
}

func (ecdhScheme) Encode(pub crypto.PublicKey) (*Key, error) {
	p, ok := pub.(*ecdh.PublicKey)
	if !ok || p == nil || p.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("%T, not *ecdh.PublicKey on P-256", pub)
	}
	return uncompressedKey(P256, p.Bytes()), nil
}

// Verify is never asked: there is nothing to sign with.
func (ecdhScheme) Verify(crypto.PublicKey, []byte, []byte) bool { return false }
