package secp256k1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/secp256k1"
)

func TestSignVerify(t *testing.T) {
	if !cose.ES256K.Available() {
		t.Fatal("not available")
	}
	private, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	hash := sha256.Sum256(message)
	signature := k1ecdsa.Sign(private, hash[:]).Serialize()

	k, err := cose.NewKey(cose.ES256K, private.PubKey())
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := k.PublicKey(); err != nil || !private.PubKey().IsEqual(pub.(*secp256k1.PublicKey)) {
		t.Errorf("public key became %v, %v", pub, err)
	}
	data, err := k.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := cose.ParseKey(data)
	if err != nil || !reflect.DeepEqual(parsed, k) {
		t.Fatalf("parsed as %#v, %v", parsed, err)
	}
	if err := parsed.Verify(message, signature); err != nil {
		t.Error(err)
	}
	if err := cose.Verify(cose.ES256K, private.PubKey(), message, signature); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{
		"nil":           nil,
		"cut short":     signature[:len(signature)-1],
		"trailing byte": append(bytes.Clone(signature), 0),
	} {
		if err := parsed.Verify(message, bad); !errors.Is(err, cose.ErrSignature) {
			t.Errorf("signature %s: %v", name, err)
		}
	}
	if err := parsed.Verify([]byte("massage"), signature); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another message: %v", err)
	}

	parsed.Y[31] ^= 1
	if err := parsed.Verify(message, signature); !errors.Is(err, cose.ErrNotOnCurve) {
		t.Errorf("off curve: %v", err)
	}
	if data, err = parsed.MarshalCBOR(); err != nil {
		t.Fatal(err)
	}
	if _, err := cose.ParseKey(data); !errors.Is(err, cose.ErrNotOnCurve) {
		t.Errorf("off curve: %v", err)
	}
}

func TestNewKeyRefuses(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []any{nil, (*secp256k1.PublicKey)(nil), new(secp256k1.PublicKey), p256.Public()} {
		if _, err := cose.NewKey(cose.ES256K, pub); !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%T: %v", pub, err)
		}
	}
}
