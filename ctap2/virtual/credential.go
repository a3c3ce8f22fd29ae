package virtual

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
)

// A credential is one that the key can make assertions with.
type credential struct {
	id           []byte
	rpID         string // empty if the credential was not stored: only its hash is bound to the ID
	rpIDHash     [32]byte
	rpName       string
	user         user
	discoverable bool
	created      uint64 // counts up; 0 if it was not stored
	key          *signingKey
	protect      protectionPolicy
	credBlob     []byte           // nil if there is none
	largeBlobKey []byte           // nil if the credential was made without
	largeBlob    *storedLargeBlob // nil if the credential was made without
	payment      bool             // made with thirdPartyPayment
}

// user is a PublicKeyCredentialUserEntity. Names that are absent are nil.
type user struct {
	id                []byte
	name, displayName *string
}

// entity returns an account as answers have it.
func (u user) entity() map[string]any {
	entity := map[string]any{"id": u.id}
	if u.name != nil {
		entity["name"] = *u.name
	}
	if u.displayName != nil {
		entity["displayName"] = *u.displayName
	}
	return entity
}

// maxNameLength is how many bytes of a name are stored, the fewest that are
// allowed (WebAuthn §5.4.1, §5.4.3). With more of them, answers could outgrow a
// message.
const maxNameLength = 64

// truncated returns as much of a name as is stored, in whole code points
// (WebAuthn §6.4.1).
func truncated(name *string) *string {
	if name == nil || len(*name) <= maxNameLength {
		return name
	}
	n := maxNameLength
	for !utf8.RuneStart((*name)[n]) {
		n--
	}
	short := (*name)[:n]
	return &short
}

// credentialRecord is how a credential is stored.
type credentialRecord struct {
	RPID         string           `cbor:"1,keyasint"`
	RPName       string           `cbor:"2,keyasint,omitempty"`
	UserID       []byte           `cbor:"3,keyasint"`
	UserName     *string          `cbor:"4,keyasint,omitempty"`
	DisplayName  *string          `cbor:"5,keyasint,omitempty"`
	Created      uint64           `cbor:"6,keyasint"`
	Discoverable bool             `cbor:"7,keyasint,omitempty"`
	Algorithm    cose.Algorithm   `cbor:"8,keyasint"`
	Key          []byte           `cbor:"9,keyasint"`
	Protect      protectionPolicy `cbor:"10,keyasint,omitempty"`
	CredBlob     []byte           `cbor:"11,keyasint,omitempty"`
	LargeBlobKey []byte           `cbor:"12,keyasint,omitempty"`
	LargeBlob    *storedLargeBlob `cbor:"13,keyasint,omitempty"`
	Payment      bool             `cbor:"14,keyasint,omitempty"`
}

func (c *credential) record() (record, error) {
	key := c.key.marshal()
	defer clear(key)
	value, err := cbor.Marshal(credentialRecord{
		RPID:         c.rpID,
		RPName:       c.rpName,
		UserID:       c.user.id,
		UserName:     c.user.name,
		DisplayName:  c.user.displayName,
		Created:      c.created,
		Discoverable: c.discoverable,
		Algorithm:    c.key.algorithm,
		Key:          key,
		Protect:      c.protect,
		CredBlob:     c.credBlob,
		LargeBlobKey: c.largeBlobKey,
		LargeBlob:    c.largeBlob,
		Payment:      c.payment,
	})
	return record{Kind: kindCredential, Key: c.id, Value: value}, err
}

// parseCredentialRecord reads a credentialRecord. It does so without reflection,
// as there can be thousands in a file.
func parseCredentialRecord(id, value []byte) (*credential, error) {
	c := &credential{id: bytes.Clone(id)}
	var algorithm cose.Algorithm
	var key []byte
	d := &decoder{Cursor: cbor.NewCursor(value, cbor.Strict)}
	for member := range d.IntMap() {
		switch member {
		case 1:
			c.rpID = d.Text()
		case 2:
			c.rpName = d.Text()
		case 3:
			c.user.id = bytes.Clone(d.Bytes())
		case 4:
			c.user.name = d.optionalText()
		case 5:
			c.user.displayName = d.optionalText()
		case 6:
			c.created = d.Uint()
		case 7:
			c.discoverable = d.Bool()
		case 8:
			algorithm = cose.Algorithm(d.Int())
		case 9:
			key = d.Bytes()
		case 10:
			c.protect = protectionPolicy(d.UintMax(math.MaxUint8))
		case 11:
			c.credBlob = bytes.Clone(d.Bytes())
		case 12:
			c.largeBlobKey = bytes.Clone(d.Bytes())
		case 13:
			if err := cbor.Unmarshal(d.Raw(), &c.largeBlob); err != nil {
				return nil, err
			}
		case 14:
			c.payment = d.Bool()
		}
	}
	if d.Err() != nil {
		return nil, d.Err()
	}
	c.rpIDHash = sha256.Sum256([]byte(c.rpID))
	var err error
	c.key, err = parseSigningKey(algorithm, key)
	return c, err
}

// maxUnsealed is how many credentials that are in their IDs a key remembers: as
// many as a test uses at a time, and little memory.
const maxUnsealed = 16

// storedIDLength is the length of the ID of a credential that is stored, which
// is random. It is not one that a sealed ID can have.
const storedIDLength = 16

// sealed is what the ID of a credential that is not stored holds, encrypted.
type sealed struct {
	Algorithm cose.Algorithm   `cbor:"1,keyasint"`
	Key       []byte           `cbor:"2,keyasint"`
	Protect   protectionPolicy `cbor:"3,keyasint,omitempty"`
	Payment   bool             `cbor:"4,keyasint,omitempty"`
}

// sealedOverhead is how much longer a sealed ID is than the private key in it,
// at most: nonce, tag, and the CBOR around the key.
const sealedOverhead = 12 + 16 + 11

// credentialIDLength returns how long the ID of a credential can be.
func credentialIDLength(alg cose.Algorithm) int {
	if curve, _ := curveOf(alg); curve != nil {
		return sealedOverhead + (curve.Params().BitSize+7)/8
	} else if isEd25519(alg) {
		return sealedOverhead + ed25519.SeedSize
	}
	return storedIDLength
}

// seal gives a credential that is not stored its ID: nonce || AES-256-GCM of a
// sealed, with the hash of the RP ID as associated data, so that the ID opens
// for this key and this relying party alone.
func (s *state) seal(c *credential) error {
	key := c.key.marshal()
	defer clear(key)
	plaintext, err := cbor.Marshal(sealed{c.key.algorithm, key, c.protect, c.payment})
	if err != nil {
		return err
	}
	defer clear(plaintext)
	nonce := randomBytes(s.sealer.NonceSize())
	c.id = s.sealer.Seal(nonce, nonce, plaintext, c.rpIDHash[:])
	return nil
}

// unseal is the reverse of seal; it returns nil if the ID is another key's, or
// another relying party's.
func (s *state) unseal(id []byte, rpIDHash [32]byte) *credential {
	if len(id) < s.sealer.NonceSize()+s.sealer.Overhead() {
		return nil
	}
	nonce, ciphertext := id[:s.sealer.NonceSize()], id[s.sealer.NonceSize():]
	plaintext, err := s.sealer.Open(nil, nonce, ciphertext, rpIDHash[:])
	if err != nil {
		return nil
	}
	defer clear(plaintext)
	var v sealed
	if err := cbor.Unmarshal(plaintext, &v); err != nil {
		return nil
	}
	defer clear(v.Key)
	key, err := parseSigningKey(v.Algorithm, v.Key)
	if err != nil {
		return nil
	}
	return &credential{id: bytes.Clone(id), rpIDHash: rpIDHash, key: key, protect: v.Protect, payment: v.Payment}
}

// newSealer returns what the master secret seals credential IDs with.
func (s *state) newSealer() (cipher.AEAD, error) {
	key, err := s.derive("credential ID")
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// locate returns the credential with an ID if it is this key's and bound to
// the relying party, and nil otherwise.
func (s *state) locate(id []byte, rpIDHash [32]byte) (*credential, error) {
	if c, err := s.find(id); err != nil || c != nil && c.rpIDHash == rpIDHash {
		return c, err
	}
	if c := s.unsealed[string(id)]; c != nil && c.rpIDHash == rpIDHash {
		return c, nil
	}
	c := s.unseal(id, rpIDHash)
	if c != nil {
		if len(s.unsealed) >= maxUnsealed {
			clear(s.unsealed)
		}
		s.unsealed[string(id)] = c
	}
	return c, nil
}

// A signingKey is a private key and the algorithm it is for.
type signingKey struct {
	algorithm cose.Algorithm
	// private is the scalar of an elliptic curve, the seed of Ed25519, PKCS #1
	// of RSA.
	private []byte
	// parsed is nil until the key is used: a file can have thousands of keys of
	// which a process uses a few, and parsing one computes its public key.
	parsed crypto.Signer
}

const rsaBits = 2048

var errCannotSign = errors.New("cannot sign with the algorithm")

// curveOf returns the curve and the hash of an ECDSA algorithm.
func curveOf(alg cose.Algorithm) (elliptic.Curve, crypto.Hash) {
	switch alg {
	case cose.ES256, cose.ESP256:
		return elliptic.P256(), crypto.SHA256
	case cose.ES384, cose.ESP384:
		return elliptic.P384(), crypto.SHA384
	case cose.ES512, cose.ESP512:
		return elliptic.P521(), crypto.SHA512
	}
	return nil, 0
}

func isEd25519(alg cose.Algorithm) bool { return alg == cose.EdDSA || alg == cose.AlgorithmEd25519 }

func canSign(alg cose.Algorithm) bool {
	curve, _ := curveOf(alg)
	return curve != nil || isEd25519(alg) || alg == cose.RS256
}

// newSigningKey generates a key for an algorithm that canSign.
func newSigningKey(alg cose.Algorithm) (*signingKey, error) {
	if curve, _ := curveOf(alg); curve != nil {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		private, err := key.Bytes()
		return &signingKey{alg, private, key}, err
	}
	if isEd25519(alg) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return &signingKey{alg, key.Seed(), key}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, err
	}
	return &signingKey{alg, x509.MarshalPKCS1PrivateKey(key), key}, nil
}

// marshal returns the private key, in memory that is the caller's.
func (k *signingKey) marshal() []byte { return bytes.Clone(k.private) }

// parseSigningKey is the reverse of marshal. It keeps a copy of data, and refuses
// what is no key for the algorithm. Parsing is left to signer, but for RSA, where
// there is no other way to tell.
func parseSigningKey(alg cose.Algorithm, data []byte) (*signingKey, error) {
	k := &signingKey{algorithm: alg, private: bytes.Clone(data)}
	valid := true
	if curve, _ := curveOf(alg); curve != nil {
		order := curve.Params().N.Bytes()
		zero := make([]byte, len(order))
		valid = len(data) == len(order) && bytes.Compare(zero, data) < 0 && bytes.Compare(data, order) < 0
	} else if isEd25519(alg) {
		valid = len(data) == ed25519.SeedSize
	} else if _, err := k.signer(); err != nil {
		return nil, err
	}
	if !valid {
		return nil, fmt.Errorf("bad private key of %v", alg)
	}
	return k, nil
}

// signer returns the key, parsed.
func (k *signingKey) signer() (crypto.Signer, error) {
	if k.parsed != nil {
		return k.parsed, nil
	}
	var key crypto.Signer
	var err error
	if curve, _ := curveOf(k.algorithm); curve != nil {
		key, err = ecdsa.ParseRawPrivateKey(curve, k.private)
	} else if isEd25519(k.algorithm) {
		key = ed25519.NewKeyFromSeed(k.private)
	} else if k.algorithm == cose.RS256 {
		key, err = x509.ParsePKCS1PrivateKey(k.private)
	} else {
		err = fmt.Errorf("%w: %v", errCannotSign, k.algorithm)
	}
	if err != nil {
		return nil, err
	}
	k.parsed = key
	return key, nil
}

// sign signs the concatenation of message.
func (k *signingKey) sign(message ...[]byte) ([]byte, error) {
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	data := bytes.Join(message, nil)
	if isEd25519(k.algorithm) {
		return signer.Sign(rand.Reader, data, crypto.Hash(0))
	}
	hash := crypto.SHA256
	if curve, h := curveOf(k.algorithm); curve != nil {
		hash = h
	}
	digest := hash.New()
	digest.Write(data)
	return signer.Sign(rand.Reader, digest.Sum(nil), hash)
}

// coseKey returns the public key as a COSE_Key.
func (k *signingKey) coseKey() ([]byte, error) {
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	key, err := cose.NewKey(k.algorithm, signer.Public())
	if err != nil {
		return nil, err
	}
	return key.MarshalCBOR()
}

// point returns the public key of an elliptic curve as SEC 1 has it, not
// compressed.
func (k *signingKey) point() ([]byte, error) {
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errCannotSign
	}
	return public.Bytes()
}

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
