package mldsa_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"filippo.io/mldsa"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/mldsa"
)

func TestSignVerify(t *testing.T) {
	parameters := map[cose.Algorithm]mldsa.Parameters{
		cose.MLDSA44: mldsa.MLDSA44(),
		cose.MLDSA65: mldsa.MLDSA65(),
		cose.MLDSA87: mldsa.MLDSA87(),
	}
	message := []byte("message")
	for alg, p := range parameters {
		private, err := mldsa.GenerateKey(p)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := private.Sign(nil, message, nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := cose.NewKey(alg, private.Public())
		if err != nil {
			t.Fatal(err)
		}
		if pub, err := k.PublicKey(); err != nil || !private.PublicKey().Equal(pub) {
			t.Errorf("%v: public key became %v, %v", alg, pub, err)
		}
		data, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := cose.ParseKey(data)
		if err != nil || !reflect.DeepEqual(parsed, k) {
			t.Fatalf("%v: parsed as %v, %v", alg, parsed, err)
		}
		if err := parsed.Verify(message, signature); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		if err := cose.Verify(alg, private.Public(), message, signature); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		ofContext, err := private.Sign(nil, message, &mldsa.Options{Context: "context"})
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"nil":           nil,
			"cut short":     signature[:len(signature)-1],
			"trailing byte": append(bytes.Clone(signature), 0),
			"of a context":  ofContext,
		} {
			if err := parsed.Verify(message, bad); !errors.Is(err, cose.ErrSignature) {
				t.Errorf("%v, signature %s: %v", alg, name, err)
			}
		}
		if err := parsed.Verify([]byte("massage"), signature); !errors.Is(err, cose.ErrSignature) {
			t.Errorf("%v: another message: %v", alg, err)
		}
		for other := range parameters {
			if _, err := cose.NewKey(other, private.Public()); (err == nil) != (other == alg) {
				t.Errorf("%v key as %v: %v", alg, other, err)
			}
		}
	}
	for _, pub := range []any{nil, (*mldsa.PublicKey)(nil), new(mldsa.PublicKey), make([]byte, 1312)} {
		if _, err := cose.NewKey(cose.MLDSA44, pub); !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%T: %v", pub, err)
		}
	}
}
