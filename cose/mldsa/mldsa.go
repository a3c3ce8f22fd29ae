// Package mldsa adds ML-DSA-44, ML-DSA-65 and ML-DSA-87 of FIPS 204 to package
// cose: the pure variant with the empty context. Import it for that effect
// alone:
//
//	import _ "github.com/tapstone/fido/cose/mldsa"
//
// Public keys are of the type *mldsa.PublicKey of filippo.io/mldsa.
package mldsa

import (
	"crypto"
	"fmt"

	"filippo.io/mldsa"

	"github.com/tapstone/fido/cose"
)

func init() {
	cose.Register(cose.MLDSA44, scheme{mldsa.MLDSA44()})
	cose.Register(cose.MLDSA65, scheme{mldsa.MLDSA65()})
	cose.Register(cose.MLDSA87, scheme{mldsa.MLDSA87()})
}

type scheme struct{ parameters mldsa.Parameters }

func (s scheme) Decode(k *cose.Key) (crypto.PublicKey, error) {
	return mldsa.NewPublicKey(s.parameters, k.Pub)
}

func (s scheme) Encode(pub crypto.PublicKey) (*cose.Key, error) {
	p, ok := pub.(*mldsa.PublicKey)
	// The zero value has no parameters, and Parameters panics on it.
	if !ok || p == nil || *p == (mldsa.PublicKey{}) || p.Parameters() != s.parameters {
		return nil, fmt.Errorf("%T, not *mldsa.PublicKey of %v", pub, s.parameters)
	}
	return &cose.Key{Type: cose.AKP, Pub: p.Bytes()}, nil
}

func (scheme) Verify(pub crypto.PublicKey, message, signature []byte) bool {
	return mldsa.Verify(pub.(*mldsa.PublicKey), message, signature, nil) == nil
}
