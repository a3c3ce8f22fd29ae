package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// application is the relying party of credentials for SSH. No browser serves one
// of that name.
const application = "ssh:"

// userPresence is the flag of SSH keys that take a touch.
const userPresence = 0x01

// A credential is an SSH key whose private part is on a security key.
type credential struct {
	id     []byte
	public ssh.PublicKey
}

// newCredential has the key make a credential, with the first algorithm that it
// has.
func newCredential(ctx context.Context, key *ctap2.Authenticator, algorithms ...cose.Algorithm) (*credential, error) {
	challenge := sha256.Sum256([]byte(rand.Text()))
	made, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash:   challenge[:],
		RP:               ctap2.RelyingParty{ID: application},
		User:             ctap2.User{ID: []byte(rand.Text()), Name: "ssh"},
		Algorithms:       algorithms,
		UserVerification: ctap2.Discouraged,
	})
	if err != nil {
		return nil, err
	}
	public, err := publicKey(made.PublicKey)
	if err != nil {
		return nil, err
	}
	return &credential{id: made.ID, public: public}, nil
}

// publicKey returns the public key in the form of SSH (OpenSSH, PROTOCOL.u2f).
func publicKey(key *cose.Key) (ssh.PublicKey, error) {
	switch key.Algorithm {
	case cose.EdDSA:
		return ssh.ParsePublicKey(ssh.Marshal(struct {
			Type        string
			X           []byte
			Application string
		}{ssh.KeyAlgoSKED25519, key.X, application}))
	case cose.ES256:
		return ssh.ParsePublicKey(ssh.Marshal(struct {
			Type, Curve string
			Point       []byte
			Application string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", slices.Concat([]byte{4}, key.X, key.Y), application}))
	}
	return nil, fmt.Errorf("SSH has no %v keys", key.Algorithm)
}

// A key file of OpenSSH (PROTOCOL.key) that is not encrypted: there is no secret
// in this one, which only helps the security key find its own.

const (
	keyFileType  = "OPENSSH PRIVATE KEY"
	keyFileMagic = "openssh-key-v1\x00"
	notEncrypted = "none"
	blockSize    = 8
)

type keyFile struct {
	Cipher, KDF, KDFOptions string
	Keys                    uint32
	Public, Private         []byte
}

// What Private has after two equal numbers and the public key.
type privateKey struct {
	Flags             byte
	KeyHandle         []byte
	Reserved, Comment string
	Padding           []byte `ssh:"rest"`
}

// write writes the key file, and another for the public key.
func (c *credential) write(name string) error {
	public := c.public.Marshal()
	private := slices.Concat(make([]byte, 8), public, ssh.Marshal(privateKey{Flags: userPresence, KeyHandle: c.id}))
	for i := byte(1); len(private)%blockSize != 0; i++ {
		private = append(private, i)
	}
	file := pem.EncodeToMemory(&pem.Block{
		Type:  keyFileType,
		Bytes: append([]byte(keyFileMagic), ssh.Marshal(keyFile{notEncrypted, notEncrypted, "", 1, public, private})...),
	})
	if err := os.WriteFile(name, file, 0o600); err != nil {
		return err
	}
	return os.WriteFile(name+".pub", ssh.MarshalAuthorizedKey(c.public), 0o644)
}

// readCredential reads a key file, of write or of ssh-keygen.
func readCredential(name string) (*credential, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	malformed := fmt.Errorf("%s: not the key file of a security key, or an encrypted one, or not for %q", name, application)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyFileType {
		return nil, malformed
	}
	data, ok := bytes.CutPrefix(block.Bytes, []byte(keyFileMagic))
	var file keyFile
	if !ok || ssh.Unmarshal(data, &file) != nil || file.Cipher != notEncrypted || file.Keys != 1 || len(file.Private) < 8 {
		return nil, malformed
	}
	rest, ok := bytes.CutPrefix(file.Private[8:], file.Public)
	var private privateKey
	isOurs := bytes.HasSuffix(file.Public, ssh.Marshal(struct{ Application string }{application}))
	if !ok || !isOurs || ssh.Unmarshal(rest, &private) != nil {
		return nil, malformed
	}
	public, err := ssh.ParsePublicKey(file.Public)
	if err != nil {
		return nil, errors.Join(malformed, err)
	}
	return &credential{id: private.KeyHandle, public: public}, nil
}
