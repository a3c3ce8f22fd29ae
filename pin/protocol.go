package pin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tapstone/fido/cose"
)

// A Protocol is a PIN/UV auth protocol by its number (§6.5.6, §6.5.7).
type Protocol uint8

// The two protocols that exist.
const (
	One Protocol = 1
	Two Protocol = 2
)

// Known reports whether p is One or Two.
func (p Protocol) Known() bool { return p == One || p == Two }

// String returns "PIN/UV auth protocol one", and so on.
func (p Protocol) String() string {
	switch p {
	case One:
		return "PIN/UV auth protocol one"
	case Two:
		return "PIN/UV auth protocol two"
	}
	return fmt.Sprintf("PIN/UV auth protocol %d", uint8(p))
}

// Errors of key agreement and encryption.
var (
	// ErrProtocol: a protocol that is neither One nor Two.
	ErrProtocol = errors.New("pin: unknown PIN/UV auth protocol")
	// ErrKey: a peer's key agreement key that is not a point of P-256.
	ErrKey = errors.New("pin: bad key agreement key")
	// ErrCiphertext: a ciphertext whose length its protocol cannot produce.
	ErrCiphertext = errors.New("pin: bad ciphertext length")
)

// Authenticate returns the pinUvAuthParam that authenticates the concatenation
// of message under a pinUvAuthToken: 16 bytes with protocol one, 32 with two.
// It returns nil if p is not known, or token is empty or wiped: everybody knows
// the empty key.
func (p Protocol) Authenticate(token Secret, message ...[]byte) []byte {
	if !p.Known() || token.Len() == 0 {
		return nil
	}
	mac := hmac.New(sha256.New, token.Bytes())
	for _, m := range message {
		mac.Write(m)
	}
	sum := mac.Sum(nil)
	if p == One {
		return sum[:16]
	}
	return sum
}

// Verify reports, in constant time, whether signature authenticates the
// concatenation of message under token. Under a token that is empty or wiped
// nothing does.
func (p Protocol) Verify(token Secret, signature []byte, message ...[]byte) bool {
	want := p.Authenticate(token, message...)
	return want != nil && hmac.Equal(signature, want)
}

// TokenLength reports whether a pinUvAuthToken of protocol p may have n bytes:
// 16 or 32 with protocol one, 32 with two.
func (p Protocol) TokenLength(n int) bool {
	return n == 32 && p.Known() || n == 16 && p == One
}

// Encapsulate is the platform's side of key agreement: it makes an ephemeral
// key and returns its public half, to be sent, and the secret shared with the
// authenticator whose key is peer. It refuses a peer that is not an EC2 key on
// P-256 with ErrKey.
func (p Protocol) Encapsulate(peer *cose.Key) (*cose.Key, *SharedSecret, error) {
	k, err := NewKeyAgreement(p)
	if err != nil {
		return nil, nil, err
	}
	s, err := k.Decapsulate(peer)
	if err != nil {
		return nil, nil, err
	}
	return k.PublicKey(), s, nil
}

// A KeyAgreement is a key agreement key, as an authenticator holds one for
// each protocol from power-up, or from the last wrong PIN, on.
type KeyAgreement struct {
	protocol Protocol
	key      *ecdh.PrivateKey
}

// NewKeyAgreement generates a key. It refuses an unknown protocol with
// ErrProtocol.
func NewKeyAgreement(p Protocol) (*KeyAgreement, error) {
	if !p.Known() {
		return nil, ErrProtocol
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	return &KeyAgreement{p, key}, nil
}

// PublicKey returns the public half: EC2, P-256, labelled with algorithm -25,
// which says nothing about how the key is used (§6.5.5.4).
func (k *KeyAgreement) PublicKey() *cose.Key {
	point := k.key.PublicKey().Bytes()
	return &cose.Key{
		Type:      cose.EC2,
		Algorithm: cose.ECDHESHKDF256,
		Curve:     cose.P256,
		X:         point[1:33],
		Y:         point[33:],
	}
}

// Decapsulate returns the secret shared with the owner of peer. It refuses a
// peer that is not an EC2 key on P-256 with ErrKey.
func (k *KeyAgreement) Decapsulate(peer *cose.Key) (*SharedSecret, error) {
	if peer == nil || peer.Type != cose.EC2 || peer.Curve != cose.P256 || len(peer.X) != 32 || len(peer.Y) != 32 {
		return nil, ErrKey
	}
	point := make([]byte, 0, 65)
	point = append(append(append(point, 4), peer.X...), peer.Y...)
	public, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, ErrKey
	}
	z, err := k.key.ECDH(public)
	if err != nil {
		return nil, ErrKey
	}
	defer clear(z)
	return newSharedSecret(k.protocol, z)
}

// Format implements fmt.Formatter: a KeyAgreement prints its protocol alone.
func (k *KeyAgreement) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "key agreement key of %v", k.protocol)
}

// A SharedSecret is what platform and authenticator share for one ceremony.
type SharedSecret struct {
	protocol Protocol
	hmacKey  Secret
	aesKey   Secret
}

// newSharedSecret is the kdf of the protocols (§6.5.6, §6.5.7) on the x
// coordinate of the ECDH point.
func newSharedSecret(p Protocol, z []byte) (*SharedSecret, error) {
	s := &SharedSecret{protocol: p}
	if p == One {
		sum := sha256.Sum256(z)
		s.hmacKey = NewSecret(sum[:])
		s.aesKey = s.hmacKey
	} else {
		salt := make([]byte, 32)
		for _, half := range []struct {
			key  *Secret
			info string
		}{{&s.hmacKey, "CTAP2 HMAC key"}, {&s.aesKey, "CTAP2 AES key"}} {
			key, err := hkdf.Key(sha256.New, z, salt, half.info, 32)
			if err != nil {
				return nil, fmt.Errorf("pin: %w", err)
			}
			*half.key = NewSecret(key)
		}
	}
	return s, nil
}

// Protocol returns the protocol that the secret belongs to.
func (s *SharedSecret) Protocol() Protocol { return s.protocol }

// Encrypt encrypts plaintext, whose length is a multiple of 16 bytes, with
// AES-256-CBC. The result is as long with protocol one (zero IV), and 16 bytes
// longer with two (random IV in front).
func (s *SharedSecret) Encrypt(plaintext []byte) ([]byte, error) {
	if len(plaintext)%aes.BlockSize != 0 {
		return nil, errors.New("pin: plaintext is not a whole number of blocks")
	}
	block, err := aes.NewCipher(s.aesKey.Bytes())
	if err != nil {
		return nil, errWiped
	}
	out := make([]byte, aes.BlockSize, aes.BlockSize+len(plaintext))
	if s.protocol == Two {
		if _, err := rand.Read(out); err != nil {
			return nil, fmt.Errorf("pin: %w", err)
		}
	}
	iv := out[:aes.BlockSize]
	out = out[:aes.BlockSize+len(plaintext)]
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out[aes.BlockSize:], plaintext)
	if s.protocol == One {
		return out[aes.BlockSize:], nil
	}
	return out, nil
}

// Decrypt reverses Encrypt; the caller wipes the result. It refuses with
// ErrCiphertext what is not a whole number of blocks (and, with protocol two,
// at least the IV).
func (s *SharedSecret) Decrypt(ciphertext []byte) ([]byte, error) {
	var zero [aes.BlockSize]byte
	iv := zero[:]
	if s.protocol == Two {
		if len(ciphertext) < aes.BlockSize {
			return nil, ErrCiphertext
		}
		iv, ciphertext = ciphertext[:aes.BlockSize], ciphertext[aes.BlockSize:]
	}
	if len(ciphertext)%aes.BlockSize != 0 {
		return nil, ErrCiphertext
	}
	block, err := aes.NewCipher(s.aesKey.Bytes())
	if err != nil {
		return nil, errWiped
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, ciphertext)
	return out, nil
}

var errWiped = errors.New("pin: shared secret was wiped")

// Authenticate returns the authentication of the concatenation of message:
// 16 bytes with protocol one, 32 with two, and nil if the secret was wiped.
func (s *SharedSecret) Authenticate(message ...[]byte) []byte {
	return s.protocol.Authenticate(s.hmacKey, message...)
}

// Verify reports, in constant time, whether signature is what Authenticate
// returns for message. A wiped secret verifies nothing.
func (s *SharedSecret) Verify(signature []byte, message ...[]byte) bool {
	return s.protocol.Verify(s.hmacKey, signature, message...)
}

// Wipe overwrites the keys. The secret is of no use afterwards: it encrypts,
// decrypts, authenticates and verifies nothing.
func (s *SharedSecret) Wipe() {
	s.hmacKey.Wipe()
	s.aesKey.Wipe()
}

// Format implements fmt.Formatter: a SharedSecret prints its protocol alone.
func (s *SharedSecret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "shared secret of %v", s.protocol) }
