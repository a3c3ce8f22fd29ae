package cose_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"math/big"
	"reflect"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/vectors"
)

// Every credential of WebAuthn's vectors: its key, its encoding, its assertion.
func TestWebAuthnVectors(t *testing.T) {
	seen := make(map[cose.Algorithm]int)
	for _, c := range vectors.WebAuthn() {
		data := c.CredentialPublicKey()
		k, err := cose.ParseKey(data)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		seen[k.Algorithm]++
		if got, err := k.MarshalCBOR(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: encoded as %x, %v; want %x", c.Name, got, err, data)
		}
		message, signature := c.SignedMessage(), bytes.Clone(c.Authentication.Signature)
		err = k.Verify(message, signature)
		if k.Algorithm == cose.AlgorithmEd448 { // verified in package ed448's tests
			if !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
				t.Errorf("%s: %v without package ed448", c.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		for _, at := range []int{0, len(message) / 2, len(message) - 1} {
			message[at] ^= 0x10
			if err := k.Verify(message, signature); !errors.Is(err, cose.ErrSignature) {
				t.Errorf("%s: message changed at %d: %v", c.Name, at, err)
			}
			message[at] ^= 0x10
		}
		for at := 0; at < len(signature); at += 5 {
			signature[at] ^= 1
			if err := k.Verify(message, signature); !errors.Is(err, cose.ErrSignature) {
				t.Errorf("%s: signature changed at %d: %v", c.Name, at, err)
			}
			signature[at] ^= 1
		}
	}
	want := map[cose.Algorithm]int{cose.ES256: 10, cose.ES384: 1, cose.ES512: 1, cose.RS256: 1, cose.EdDSA: 1, cose.AlgorithmEd448: 1}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("algorithms of the vectors: %v, want %v", seen, want)
	}
}

// signer returns a function that signs a message and returns the public key
// and the signature.
func signer(t testing.TB, key crypto.Signer, opts crypto.SignerOpts) func(message []byte) (crypto.PublicKey, []byte) {
	return func(message []byte) (crypto.PublicKey, []byte) {
		if hash := opts.HashFunc(); hash != 0 {
			h := hash.New()
			h.Write(message)
			message = h.Sum(nil)
		}
		signature, err := key.Sign(rand.Reader, message, opts)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public(), signature
	}
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSignVerify(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pss := func(hash crypto.Hash) crypto.SignerOpts {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	message := []byte("authenticator data and the hash of client data")
	tested := make(map[cose.Algorithm]bool)
	for alg, sign := range map[cose.Algorithm]func([]byte) (crypto.PublicKey, []byte){
		cose.ES256:            signer(t, ecKey(t, elliptic.P256()), crypto.SHA256),
		cose.ESP256:           signer(t, ecKey(t, elliptic.P256()), crypto.SHA256),
		cose.ES384:            signer(t, ecKey(t, elliptic.P384()), crypto.SHA384),
		cose.ESP384:           signer(t, ecKey(t, elliptic.P384()), crypto.SHA384),
		cose.ES512:            signer(t, ecKey(t, elliptic.P521()), crypto.SHA512),
		cose.ESP512:           signer(t, ecKey(t, elliptic.P521()), crypto.SHA512),
		cose.EdDSA:            signer(t, ed, crypto.Hash(0)),
		cose.AlgorithmEd25519: signer(t, ed, crypto.Hash(0)),
		cose.PS256:            signer(t, rs, pss(crypto.SHA256)),
		cose.PS384:            signer(t, rs, pss(crypto.SHA384)),
		cose.PS512:            signer(t, rs, pss(crypto.SHA512)),
		cose.RS256:            signer(t, rs, crypto.SHA256),
		cose.RS384:            signer(t, rs, crypto.SHA384),
		cose.RS512:            signer(t, rs, crypto.SHA512),
		cose.RS1:              signer(t, rs, crypto.SHA1),
	} {
		pub, signature := sign(message)
		k, err := cose.NewKey(alg, pub)
		if err != nil {
			t.Errorf("%v: %v", alg, err)
			continue
		}
		if back, err := k.PublicKey(); err != nil || !reflect.DeepEqual(back, pub) {
			t.Errorf("%v: public key became %v, %v", alg, back, err)
		}
		data, err := k.MarshalCBOR()
		if err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		parsed, err := cose.ParseKey(data)
		if err != nil || !reflect.DeepEqual(parsed, k) {
			t.Errorf("%v: parsed as %#v, %v", alg, parsed, err)
			continue
		}
		if err := cose.Verify(alg, pub, message, signature); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		if err := cose.Verify(alg, pub, message[1:], signature); !errors.Is(err, cose.ErrSignature) {
			t.Errorf("%v: another message: %v", alg, err)
		}
		if alg == cose.RS1 {
			if err := parsed.Verify(message, signature); !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
				t.Errorf("RS1 as a credential key: %v", err)
			}
			continue
		}
		tested[alg] = true
		if err := parsed.Verify(message, signature); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		for name, bad := range map[string][]byte{
			"nil":           nil,
			"one byte":      {0x30},
			"cut short":     signature[:len(signature)-1],
			"trailing byte": append(bytes.Clone(signature), 0),
			"zeros":         make([]byte, len(signature)),
		} {
			if err := parsed.Verify(message, bad); !errors.Is(err, cose.ErrSignature) {
				t.Errorf("%v, signature %s: %v", alg, name, err)
			}
		}
	}
	// COSE fixes the length of the salt to that of the hash.
	pub, signature := signer(t, rs, &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})(message)
	if err := cose.Verify(cose.PS256, pub, message, signature); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("PS256 with a salt of 20 bytes: %v", err)
	}
	for _, alg := range cose.Algorithms() {
		if !tested[alg] && alg != testAlgorithm {
			t.Errorf("%v is available and was not tested", alg)
		}
	}
}

// COSE messages carry r || s. WebAuthn does not.
func TestRawECDSASignature(t *testing.T) {
	message := []byte("message")
	pub, der := signer(t, ecKey(t, elliptic.P256()), crypto.SHA256)(message)
	var s struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &s); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	s.R.FillBytes(raw[:32])
	s.S.FillBytes(raw[32:])
	if err := cose.Verify(cose.ES256, pub, message, raw); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("raw signature: %v", err)
	}
}

func TestKeyAgreementKey(t *testing.T) {
	priv, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := cose.NewKey(cose.ECDHESHKDF256, priv.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := k.PublicKey(); err != nil || !priv.PublicKey().Equal(pub) {
		t.Errorf("public key became %v, %v", pub, err)
	}
	if err := k.Verify(nil, nil); !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
		t.Errorf("Verify: %v", err)
	}
	if err := cose.Verify(cose.ECDHESHKDF256, priv.PublicKey(), nil, nil); !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
		t.Errorf("Verify: %v", err)
	}
}

func BenchmarkVerifyES256(b *testing.B) {
	message := make([]byte, 37+32)
	pub, signature := signer(b, ecKey(b, elliptic.P256()), crypto.SHA256)(message)
	k, err := cose.NewKey(cose.ES256, pub)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Verify(message, signature); err != nil {
			b.Fatal(err)
		}
	}
}
