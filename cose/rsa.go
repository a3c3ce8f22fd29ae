package cose

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // for RS1
	"fmt"
	"math"
	"math/big"
	"math/bits"
)

// Bounds of an RSA modulus in bits. RFC 8812 §2 and RFC 8230 §6 set the
// lower; the upper bounds the work that a stranger's key can ask for, and is
// the one that crypto/tls has.
const (
	minModulus = 2048
	maxModulus = 8192
)

// rsaScheme is RSASSA-PKCS1-v1_5 (RFC 8812 §2) or, with pss, RSASSA-PSS with a
// salt as long as the hash (RFC 8230 §2). Its public keys are *rsa.PublicKey.
type rsaScheme struct {
	hash crypto.Hash
	pss  bool
}

func (rsaScheme) Decode(k *Key) (crypto.PublicKey, error) {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: k.E}, nil
}

func (rsaScheme) Encode(pub crypto.PublicKey) (*Key, error) {
	p, ok := pub.(*rsa.PublicKey)
	if !ok || p == nil || p.N == nil || p.N.Sign() < 0 {
		return nil, fmt.Errorf("%T, not *rsa.PublicKey", pub)
	}
	return &Key{Type: RSA, N: p.N.Bytes(), E: p.E}, nil
}

func (s rsaScheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	p, hashed := pub.(*rsa.PublicKey), digest(s.hash, message)
	if s.pss {
		return rsa.VerifyPSS(p, s.hash, hashed, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return rsa.VerifyPKCS1v15(p, s.hash, hashed, signature) == nil
}

// checkRSA checks the numbers of an RSA key.
func (k *Key) checkRSA() error {
	if len(k.N) == 0 || k.N[0] == 0 {
		return fmt.Errorf("%w: RSA modulus is missing or has leading zeros", ErrInvalidKey)
	}
	if n := (len(k.N)-1)*8 + bits.Len8(k.N[0]); n < minModulus || n > maxModulus {
		return fmt.Errorf("%w: RSA modulus of %d bits, not %d to %d", ErrInvalidKey, n, minModulus, maxModulus)
	}
	if k.N[len(k.N)-1]&1 == 0 {
		return fmt.Errorf("%w: RSA modulus is even", ErrInvalidKey)
	}
	if k.E < 3 || k.E > math.MaxInt32 || k.E&1 == 0 {
		return fmt.Errorf("%w: RSA exponent %d", ErrInvalidKey, k.E)
	}
	return nil
}
