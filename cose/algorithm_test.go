package cose_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
)

func TestAlgorithms(t *testing.T) {
	for _, test := range []struct {
		alg       cose.Algorithm
		number    int32
		name      string
		available bool
	}{
		{cose.ES256, -7, "ES256", true},
		{cose.EdDSA, -8, "EdDSA", true},
		{cose.ESP256, -9, "ESP256", true},
		{cose.AlgorithmEd25519, -19, "Ed25519", true},
		{cose.ECDHESHKDF256, -25, "ECDH-ES+HKDF-256", false},
		{cose.ES384, -35, "ES384", true},
		{cose.ES512, -36, "ES512", true},
		{cose.PS256, -37, "PS256", true},
		{cose.PS384, -38, "PS384", true},
		{cose.PS512, -39, "PS512", true},
		{cose.ES256K, -47, "ES256K", false},
		{cose.MLDSA44, -48, "ML-DSA-44", false},
		{cose.MLDSA65, -49, "ML-DSA-65", false},
		{cose.MLDSA87, -50, "ML-DSA-87", false},
		{cose.ESP384, -51, "ESP384", true},
		{cose.ESP512, -52, "ESP512", true},
		{cose.AlgorithmEd448, -53, "Ed448", false},
		{cose.RS256, -257, "RS256", true},
		{cose.RS384, -258, "RS384", true},
		{cose.RS512, -259, "RS512", true},
		{cose.RS1, -65535, "RS1", false},
		{-999, -999, "Algorithm(-999)", false},
	} {
		if int32(test.alg) != test.number || test.alg.String() != test.name || test.alg.Available() != test.available {
			t.Errorf("%d %v, available %v; want %+v", test.alg, test.alg, test.alg.Available(), test)
		}
		if slices.Contains(cose.Algorithms(), test.alg) != test.available {
			t.Errorf("Algorithms() and Available disagree about %v", test.alg)
		}
	}
	if !slices.IsSortedFunc(cose.Algorithms(), func(a, b cose.Algorithm) int { return int(b - a) }) {
		t.Errorf("not in order: %v", cose.Algorithms())
	}
}

// A key of an algorithm that a package would add says which package.
func TestNotImported(t *testing.T) {
	for pkg, m := range map[string]members{"cose/secp256k1": es256k, "cose/mldsa": akp} {
		k, err := cose.ParseKey(m.encode(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Verify(nil, nil); !errors.Is(err, cose.ErrUnsupportedAlgorithm) || !strings.Contains(err.Error(), pkg) {
			t.Errorf("%v: %v", k, err)
		}
	}
}

// echo is an algorithm of a program's own. A key verifies its own bytes.
type echo struct{}

const testAlgorithm cose.Algorithm = -70001

var errNoEcho = errors.New("no echo")

func (echo) Decode(k *cose.Key) (crypto.PublicKey, error) {
	if k.Type != cose.AKP || len(k.Pub) == 0 {
		return nil, errNoEcho
	}
	return k.Pub, nil
}

func (echo) Encode(pub crypto.PublicKey) (*cose.Key, error) {
	b, ok := pub.([]byte)
	if !ok {
		return nil, errNoEcho
	}
	return &cose.Key{Type: cose.AKP, Pub: b}, nil
}

func (echo) Verify(pub crypto.PublicKey, _, signature []byte) bool {
	return bytes.Equal(pub.([]byte), signature)
}

func init() { cose.Register(testAlgorithm, echo{}) }

func TestRegister(t *testing.T) {
	data := members{1: 7, 3: int(testAlgorithm), -1: []byte("echo")}.encode(t)
	k, err := cose.ParseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.MarshalCBOR(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("encoded as %x, %v", again, err)
	}
	if err := k.Verify(nil, []byte("echo")); err != nil {
		t.Error(err)
	}
	if err := k.Verify(nil, []byte("shout")); !errors.Is(err, cose.ErrSignature) {
		t.Error(err)
	}
	if !testAlgorithm.Available() || testAlgorithm.String() != "Algorithm(-70001)" {
		t.Errorf("%v, available %v", testAlgorithm, testAlgorithm.Available())
	}
	if _, err := cose.NewKey(testAlgorithm, []byte("echo")); err != nil {
		t.Error(err)
	}
	// What a Scheme objects to is an invalid key, and still its own error.
	_, errParse := cose.ParseKey(members{1: 7, 3: int(testAlgorithm)}.encode(t))
	_, errNew := cose.NewKey(testAlgorithm, 1)
	for _, err := range []error{errParse, errNew} {
		if !errors.Is(err, cose.ErrInvalidKey) || !errors.Is(err, errNoEcho) {
			t.Error(err)
		}
	}
}

func TestRegisterPanics(t *testing.T) {
	for name, register := range map[string]func(){
		"nil":                 func() { cose.Register(-70002, nil) },
		"twice":               func() { cose.Register(testAlgorithm, echo{}) },
		"one of this package": func() { cose.Register(cose.ES256, echo{}) },
		"the key agreement's": func() { cose.Register(cose.ECDHESHKDF256, echo{}) },
		"attestation's RS1":   func() { cose.Register(cose.RS1, echo{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
	if cose.Algorithm(-70002).Available() {
		t.Error("a refused algorithm became available")
	}
}
