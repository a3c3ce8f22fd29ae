package main

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/tapstone/fido/ctap2/webauthn"
)

// A prf evaluates the pseudo-random function of one credential (WebAuthn
// §10.1.4). That makes it an age.Recipient and an age.Identity in one: what
// encrypts is the secret that decrypts.
//
// Its recipient stanza is the one that age's author has published for this, and
// that typage and age-plugin-fido2prf read and write:
//
//	-> age-encryption.org/fido2prf NONCE
//	the file key, encrypted
//
// Each file has its own nonce, and so a secret of its own: who has seen one
// cannot decrypt another file without the key.
type prf func(*webauthn.PRFValues) (*webauthn.PRFResults, error)

const (
	stanzaType  = "age-encryption.org/fido2prf"
	nonceSize   = 16
	fileKeySize = 16
)

// Wrap encrypts a file key.
func (p prf) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	aead, err := p.aead(nonce)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{
		Type: stanzaType,
		Args: []string{base64.RawStdEncoding.EncodeToString(nonce)},
		Body: aead.Seal(nil, make([]byte, aead.NonceSize()), fileKey, nil),
	}}, nil
}

// Unwrap decrypts the file key. Stanzas do not say which credential they are
// for, so it tries each one of the type; that takes a touch.
func (p prf) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != stanzaType {
			continue
		}
		if len(s.Args) != 1 || len(s.Body) != fileKeySize+chacha20poly1305.Overhead {
			return nil, fmt.Errorf("malformed %s stanza", stanzaType)
		}
		nonce, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[0])
		if err != nil || len(nonce) != nonceSize {
			return nil, fmt.Errorf("malformed %s stanza: nonce %q", stanzaType, s.Args[0])
		}
		aead, err := p.aead(nonce)
		if err != nil {
			return nil, err
		}
		fileKey, err := aead.Open(nil, make([]byte, aead.NonceSize()), s.Body, nil)
		if err == nil {
			return fileKey, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// aead returns the cipher for the file with that nonce. It is for one message,
// which is why that is encrypted with a nonce of zeros.
//
// A key gives two secrets for one touch. All go into one file: else a program
// that asks for one in secret would have another file's along with it.
func (p prf) aead(nonce []byte) (cipher.AEAD, error) {
	results, err := p(&webauthn.PRFValues{
		First:  slices.Concat([]byte(stanzaType), []byte{1}, nonce),
		Second: slices.Concat([]byte(stanzaType), []byte{2}, nonce),
	})
	if err != nil {
		return nil, err
	}
	secret := slices.Concat(results.First.Bytes(), results.Second.Bytes())
	results.First.Wipe()
	results.Second.Wipe()
	defer clear(secret)
	key, err := hkdf.Extract(sha256.New, secret, []byte(stanzaType))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return chacha20poly1305.New(key)
}
