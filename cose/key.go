// Package cose is the part of COSE (RFC 9052, RFC 9053) that FIDO uses: public
// keys as authenticators send them, and the signatures made with them.
//
// A credential's public key arrives in authenticator data as a COSE_Key.
// [ParseKey] reads it and refuses what is not a public key, [Key.Verify]
// checks a signature by the algorithm that the key names, and
// [Key.MarshalCBOR] gives the encoding to store:
//
//	key, err := cose.ParseKey(credentialPublicKey)
//	…
//	err = key.Verify(slices.Concat(authenticatorData, clientDataHash), signature)
//
// [NewKey] and [Key.PublicKey] lead from the types of the standard library to
// a Key and back. [Verify] checks a signature with a key that never was a
// COSE_Key, such as that of an attestation certificate.
//
// # Algorithms
//
// The package verifies ES256, ES384, ES512, EdDSA (Ed25519), their fully
// specified twins of RFC 9864, and RSA with PKCS #1 v1.5 and PSS, with the
// standard library alone. Others register themselves when their package is
// imported, and cost nothing to a program that does not:
//
//	import _ "github.com/tapstone/fido/cose/secp256k1" // ES256K
//	import _ "github.com/tapstone/fido/cose/ed448"     // Ed448
//	import _ "github.com/tapstone/fido/cose/mldsa"     // ML-DSA-44, -65, -87
//
// [Algorithm.Available] tells what this program can verify, and [Register]
// adds an algorithm of one's own. A key of an algorithm that is not available
// still parses and marshals; only its Verify and PublicKey fail, with
// [ErrUnsupportedAlgorithm].
//
// # What WebAuthn narrows
//
// COSE leaves the curve of ES256, ES384, ES512 and EdDSA open. WebAuthn
// (§5.8.5) does not: they mean P-256, P-384, P-521 and Ed25519, and a key that
// says otherwise is refused, as is a compressed point. ECDSA signatures are
// ASN.1 DER (WebAuthn §6.5.5), not the pair of integers that COSE messages
// carry; those of other algorithms are as their own standards have them.
package cose

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/tapstone/fido/internal/cbor"
)

var (
	// ErrInvalidKey: not the COSE_Key of a public key, or one that contradicts
	// itself.
	ErrInvalidKey = errors.New("cose: invalid key")
	// ErrNotOnCurve: the coordinates have the right length and are not those
	// of a point of the curve. It is an ErrInvalidKey too.
	ErrNotOnCurve = fmt.Errorf("%w: point not on its curve", ErrInvalidKey)
	// ErrUnsupportedAlgorithm: this program cannot do with the algorithm what
	// was asked. Where importing a package would help, the message names it.
	ErrUnsupportedAlgorithm = errors.New("cose: unsupported algorithm")
	// ErrSignature: the signature is not one of the message by the key.
	ErrSignature = errors.New("cose: invalid signature")
)

// KeyType is a COSE key type (kty).
type KeyType int32

// Key types (RFC 9053 §7, RFC 8230 §4; AKP comes with ML-DSA).
const (
	OKP KeyType = 1 // octet key pair: one coordinate
	EC2 KeyType = 2 // elliptic curve with x and y
	RSA KeyType = 3
	AKP KeyType = 7 // algorithm key pair: the algorithm alone says what pub is
)

// String returns the registered name, or KeyType(n).
func (t KeyType) String() string {
	switch t {
	case OKP:
		return "OKP"
	case EC2:
		return "EC2"
	case RSA:
		return "RSA"
	case AKP:
		return "AKP"
	}
	return fmt.Sprintf("KeyType(%d)", int32(t))
}

// Curve is a COSE elliptic curve (crv).
type Curve int32

// Curves (RFC 9053 §7.1, RFC 8812 §3.1).
const (
	P256      Curve = 1
	P384      Curve = 2
	P521      Curve = 3
	X25519    Curve = 4
	X448      Curve = 5
	Ed25519   Curve = 6
	Ed448     Curve = 7
	Secp256k1 Curve = 8
)

var curveNames = [...]string{P256: "P-256", P384: "P-384", P521: "P-521", X25519: "X25519",
	X448: "X448", Ed25519: "Ed25519", Ed448: "Ed448", Secp256k1: "secp256k1"}

// String returns the registered name, or Curve(n).
func (c Curve) String() string {
	if c > 0 && int(c) < len(curveNames) {
		return curveNames[c]
	}
	return fmt.Sprintf("Curve(%d)", int32(c))
}

// Labels of COSE_Key members (RFC 9052 §7.1, RFC 9053 §7, RFC 8230 §4).
const (
	labelType      = 1
	labelAlgorithm = 3

	labelCurve = -1 // EC2, OKP
	labelX     = -2
	labelY     = -3 // EC2

	labelN = -1 // RSA
	labelE = -2

	labelPub = -1 // AKP
)

// Key is a public key: a COSE_Key. Only the fields of its Type are set. A Key
// made by hand is checked when it is used, as a parsed one is when it is
// parsed.
//
// A Key may be used by several goroutines as long as none changes it.
type Key struct {
	Type      KeyType
	Algorithm Algorithm
	Curve     Curve  // EC2 and OKP
	X, Y      []byte // EC2: big-endian coordinates, as long as the curve's field; OKP: X alone
	N         []byte // RSA: modulus, big-endian, without leading zeros
	E         int    // RSA: public exponent
	Pub       []byte // AKP: as the algorithm encodes it

	// encoded is what a key of an algorithm unknown here was parsed from.
	// Which of its members matter is unknown as well, so all are kept.
	encoded []byte
}

// ParseKey reads a COSE_Key: exactly one CBOR map, in any key order. It needs
// kty and alg and, for the algorithms that this package names, a valid public
// key: the key type and curve that the algorithm prescribes, coordinates of
// the exact length and on the curve (the latter checked where the algorithm
// is available), an RSA modulus of 2048 to 8192 bits and an odd exponent of 3
// to 2^31-1. All else is [ErrInvalidKey] or [ErrNotOnCurve]. Members that it
// does not know are skipped.
//
// Of a key of another algorithm only Type and Algorithm are set. MarshalCBOR
// returns the bytes it came in, so that a credential with an exotic key is
// not lost, and Verify fails with [ErrUnsupportedAlgorithm].
//
// The Key shares no memory with data.
func ParseKey(data []byte) (*Key, error) {
	data = bytes.Clone(data)
	var kty, alg int64
	var hasType, hasAlgorithm bool
	c := cbor.NewCursor(data, cbor.Lenient)
	for label := range c.IntMap() {
		switch label {
		case labelType:
			kty, hasType = c.Int(), true
		case labelAlgorithm:
			alg, hasAlgorithm = c.Int(), true
		}
	}
	switch {
	case c.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, c.Err())
	case !hasType || !hasAlgorithm:
		return nil, fmt.Errorf("%w: kty or alg is missing", ErrInvalidKey)
	case kty != int64(int32(kty)) || alg != int64(int32(alg)):
		return nil, fmt.Errorf("%w: kty %d, alg %d", ErrInvalidKey, kty, alg)
	}
	k := &Key{Type: KeyType(kty), Algorithm: Algorithm(alg)}
	if algorithms[k.Algorithm] == nil {
		k.encoded = data
		return k, nil
	}
	if err := k.parseMembers(data); err != nil {
		return nil, err
	}
	if _, err := k.PublicKey(); err != nil && !errors.Is(err, ErrUnsupportedAlgorithm) {
		return nil, err
	}
	return k, nil
}

// parseMembers reads the members that k's type has. It takes a second walk:
// what a label means depends on kty, which real keys do not always send first.
func (k *Key) parseMembers(data []byte) error {
	var exponent []byte
	c := cbor.NewCursor(data, cbor.Lenient)
	for label := range c.IntMap() {
		switch {
		case (k.Type == EC2 || k.Type == OKP) && label == labelCurve:
			crv := c.Int()
			if crv == int64(int32(crv)) {
				k.Curve = Curve(crv)
			}
		case (k.Type == EC2 || k.Type == OKP) && label == labelX:
			k.X = c.Bytes()
		case k.Type == EC2 && label == labelY:
			k.Y = c.Bytes() // a boolean would be a compressed point
		case k.Type == RSA && label == labelN:
			k.N = c.Bytes()
		case k.Type == RSA && label == labelE:
			exponent = c.Bytes()
		case k.Type == AKP && label == labelPub:
			k.Pub = c.Bytes()
		}
	}
	if err := c.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	if k.Type == RSA {
		return k.setExponent(exponent)
	}
	return nil
}

// setExponent sets E from a big-endian integer of up to four bytes. Whether
// that is a sensible exponent is for check; one of 2^31 and more is not, in
// an int of either size.
func (k *Key) setExponent(b []byte) error {
	if len(b) == 0 || len(b) > 4 || b[0] == 0 {
		return fmt.Errorf("%w: RSA exponent of %d bytes, or with leading zeros", ErrInvalidKey, len(b))
	}
	var e uint32
	for _, v := range b {
		e = e<<8 | uint32(v)
	}
	k.E = int(e)
	return nil
}

// UnmarshalCBOR sets k to what ParseKey makes of data.
func (k *Key) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseKey(data)
	if err != nil {
		return err
	}
	*k = *parsed
	return nil
}

// MarshalCBOR returns k in the CTAP2 canonical encoding: kty and alg, then the
// members of its type, and no others. A parsed key of an unknown algorithm is
// returned as it came. It fails with [ErrInvalidKey] if k's type, curve or
// lengths are not what its algorithm prescribes, and with
// [ErrUnsupportedAlgorithm] if the algorithm is unknown and k was not parsed.
func (k *Key) MarshalCBOR() ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	if algorithms[k.Algorithm] == nil {
		if k.encoded == nil {
			return nil, fmt.Errorf("%w: %v", ErrUnsupportedAlgorithm, k.Algorithm)
		}
		return bytes.Clone(k.encoded), nil
	}
	members := map[int64]any{labelType: int32(k.Type), labelAlgorithm: int32(k.Algorithm)}
	switch k.Type {
	case EC2:
		members[labelCurve], members[labelX], members[labelY] = int32(k.Curve), k.X, k.Y
	case OKP:
		members[labelCurve], members[labelX] = int32(k.Curve), k.X
	case RSA:
		e := []byte{byte(k.E >> 24), byte(k.E >> 16), byte(k.E >> 8), byte(k.E)}
		members[labelN], members[labelE] = k.N, bytes.TrimLeft(e, "\x00")
	case AKP:
		members[labelPub] = k.Pub
	default:
		return nil, fmt.Errorf("%w: %v has no encoding known here", ErrInvalidKey, k.Type)
	}
	return cbor.Marshal(members)
}

// NewKey returns pub as a Key for use with alg. It takes *[ecdsa.PublicKey]
// for the ECDSA algorithms, [ed25519.PublicKey] for EdDSA and Ed25519,
// *[rsa.PublicKey] for RSA, P-256's *[ecdh.PublicKey] for
// [ECDHESHKDF256], and for a registered algorithm what its package says. It
// fails with [ErrInvalidKey] if pub is of another type or curve, or a key
// that ParseKey would refuse, and with [ErrUnsupportedAlgorithm] if alg is not
// known to this program.
func NewKey(alg Algorithm, pub crypto.PublicKey) (*Key, error) {
	a, err := alg.lookup()
	if err != nil {
		return nil, err
	}
	k, err := a.scheme.Encode(pub)
	if err != nil {
		return nil, invalid(err)
	}
	k.Algorithm = alg
	if _, err := k.PublicKey(); err != nil {
		return nil, err
	}
	return k, nil
}

// PublicKey returns k as the type that NewKey takes for its algorithm, after
// the checks of ParseKey. It fails with [ErrUnsupportedAlgorithm] if the
// algorithm is not known to this program.
func (k *Key) PublicKey() (crypto.PublicKey, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	a, err := k.Algorithm.lookup()
	if err != nil {
		return nil, err
	}
	pub, err := a.scheme.Decode(k)
	if err != nil {
		return nil, invalid(err)
	}
	return pub, nil
}

// invalid makes sure that what a Scheme objects to is an ErrInvalidKey.
func invalid(err error) error {
	if errors.Is(err, ErrInvalidKey) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalidKey, err)
}

// check compares the shape of k with what its algorithm prescribes. That its
// numbers are a public key is for the Scheme to find out.
func (k *Key) check() error {
	if k == nil {
		return fmt.Errorf("%w: nil", ErrInvalidKey)
	}
	a := algorithms[k.Algorithm]
	if a == nil || a.keyType == 0 {
		return nil
	}
	if k.Type != a.keyType || k.Curve != a.curve {
		return fmt.Errorf("%w: %v with kty %v, crv %v", ErrInvalidKey, k.Algorithm, k.Type, k.Curve)
	}
	var ok bool
	switch k.Type {
	case EC2:
		ok = len(k.X) == a.size && len(k.Y) == a.size
	case OKP:
		ok = len(k.X) == a.size
	case RSA:
		return k.checkRSA()
	case AKP:
		ok = len(k.Pub) == a.size
	}
	if !ok {
		return fmt.Errorf("%w: %v key material of the wrong length", ErrInvalidKey, k.Algorithm)
	}
	return nil
}

// String returns what kind of key k is, without its numbers: "ES256 key".
func (k *Key) String() string {
	if k == nil {
		return "no key"
	}
	return k.Algorithm.String() + " key"
}
