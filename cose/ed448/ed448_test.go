package ed448_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"testing"

	"github.com/cloudflare/circl/sign/ed448"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/ed448"
	"github.com/tapstone/fido/internal/vectors"
)

func TestWebAuthnVector(t *testing.T) {
	found := false
	for _, c := range vectors.WebAuthn() {
		data := c.CredentialPublicKey()
		k, err := cose.ParseKey(data)
		if err != nil {
			t.Fatal(err)
		}
		if k.Algorithm != cose.AlgorithmEd448 {
			continue
		}
		found = true
		if got, err := k.MarshalCBOR(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: encoded as %x, %v", c.Name, got, err)
		}
		want := ed448.NewKeyFromSeed(c.Registration.CredentialPrivateKey).Public()
		if pub, err := k.PublicKey(); err != nil || !reflect.DeepEqual(pub, want) {
			t.Errorf("%s: public key %v, %v", c.Name, pub, err)
		}
		message, signature := c.SignedMessage(), c.Authentication.Signature
		if err := k.Verify(message, signature); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		for at := 0; at < len(signature); at += 5 {
			signature[at] ^= 1
			if err := k.Verify(message, signature); !errors.Is(err, cose.ErrSignature) {
				t.Errorf("%s: signature changed at %d: %v", c.Name, at, err)
			}
			signature[at] ^= 1
		}
	}
	if !found {
		t.Error("no case with Ed448")
	}
}

func TestSignVerify(t *testing.T) {
	pub, private, err := ed448.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	signature := ed448.Sign(private, message, "")
	k, err := cose.NewKey(cose.AlgorithmEd448, pub)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Verify(message, signature); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{
		"nil":             nil,
		"cut short":       signature[:113],
		"trailing byte":   append(bytes.Clone(signature), 0),
		"of a context":    ed448.Sign(private, message, "context"),
		"of the pre-hash": ed448.SignPh(private, message, ""),
	} {
		if err := k.Verify(message, bad); !errors.Is(err, cose.ErrSignature) {
			t.Errorf("signature %s: %v", name, err)
		}
	}
	if err := k.Verify([]byte("massage"), signature); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another message: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	notReduced := bytes.Repeat([]byte{0xFF}, 57)
	notReduced[56] = 0
	unusedBits := make([]byte, 57)
	unusedBits[0], unusedBits[56] = 1, 1
	for name, point := range map[string]ed448.PublicKey{
		"nil":         nil,
		"short":       make(ed448.PublicKey, 56),
		"long":        make(ed448.PublicKey, 58),
		"not reduced": notReduced,
		"unused bits": unusedBits,
	} {
		if _, err := cose.NewKey(cose.AlgorithmEd448, point); !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%s: %v", name, err)
		}
		k := &cose.Key{Type: cose.OKP, Algorithm: cose.AlgorithmEd448, Curve: cose.Ed448, X: point}
		if err := k.Verify(nil, make([]byte, 114)); !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if len(point) != 57 {
			continue
		}
		data, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cose.ParseKey(data); !errors.Is(err, cose.ErrNotOnCurve) {
			t.Errorf("%s: ParseKey: %v", name, err)
		}
	}
	if _, err := cose.NewKey(cose.AlgorithmEd448, make(ed25519.PublicKey, 32)); !errors.Is(err, cose.ErrInvalidKey) {
		t.Errorf("Ed25519: %v", err)
	}
}
