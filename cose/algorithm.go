package cose

import (
	"crypto"
	"fmt"
	"slices"
)

// Algorithm is a COSE algorithm identifier (alg).
type Algorithm int32

// Algorithms of the IANA COSE registry that FIDO makes use of. The fully
// specified ones are from RFC 9864. Those of the curves' names carry a prefix
// here, since the curves have the plain names.
const (
	ES256  Algorithm = -7  // ECDSA, P-256, SHA-256
	EdDSA  Algorithm = -8  // Ed25519
	ESP256 Algorithm = -9  // ES256, fully specified
	ES384  Algorithm = -35 // ECDSA, P-384, SHA-384
	ES512  Algorithm = -36 // ECDSA, P-521, SHA-512
	PS256  Algorithm = -37 // RSASSA-PSS, SHA-256
	PS384  Algorithm = -38 // RSASSA-PSS, SHA-384
	PS512  Algorithm = -39 // RSASSA-PSS, SHA-512
	ESP384 Algorithm = -51 // ES384, fully specified
	ESP512 Algorithm = -52 // ES512, fully specified
	RS256  Algorithm = -257
	RS384  Algorithm = -258
	RS512  Algorithm = -259

	AlgorithmEd25519 Algorithm = -19 // EdDSA on Ed25519, fully specified

	ES256K         Algorithm = -47 // ECDSA, secp256k1, SHA-256; package secp256k1
	MLDSA44        Algorithm = -48 // package mldsa
	MLDSA65        Algorithm = -49
	MLDSA87        Algorithm = -50
	AlgorithmEd448 Algorithm = -53 // EdDSA on Ed448; package ed448

	// ECDHESHKDF256 (ECDH-ES + HKDF-256) marks the P-256 keys that PIN/UV auth
	// protocols agree on a secret with (CTAP 2.3 §6.5.6). It signs nothing.
	ECDHESHKDF256 Algorithm = -25

	// RS1 is RSASSA-PKCS1-v1_5 with SHA-1. The attestation keys of older TPMs
	// sign with it, and for these the function Verify accepts it. A
	// credential key that names it verifies nothing, because collisions in
	// SHA-1 are affordable: Key.Verify fails with [ErrUnsupportedAlgorithm].
	RS1 Algorithm = -65535
)

// algorithm is what is known of an Algorithm. One that a program registered
// without a name here has no more than a scheme.
type algorithm struct {
	name    string
	keyType KeyType
	curve   Curve
	size    int // bytes of a coordinate, or of pub
	purpose purpose
	scheme  Scheme // nil until registered
	pkg     string // the package in this directory that registers it
}

type purpose uint8

const (
	credentials purpose = iota
	attestation         // signatures in attestation statements only
	agreement           // no signatures at all
)

// algorithms changes only while packages are initialized, so that reading it
// needs no lock.
var algorithms = map[Algorithm]*algorithm{
	ES256:  {name: "ES256", keyType: EC2, curve: P256, size: 32, scheme: es256},
	ESP256: {name: "ESP256", keyType: EC2, curve: P256, size: 32, scheme: es256},
	ES384:  {name: "ES384", keyType: EC2, curve: P384, size: 48, scheme: es384},
	ESP384: {name: "ESP384", keyType: EC2, curve: P384, size: 48, scheme: es384},
	ES512:  {name: "ES512", keyType: EC2, curve: P521, size: 66, scheme: es512},
	ESP512: {name: "ESP512", keyType: EC2, curve: P521, size: 66, scheme: es512},

	EdDSA:            {name: "EdDSA", keyType: OKP, curve: Ed25519, size: 32, scheme: ed25519Scheme{}},
	AlgorithmEd25519: {name: "Ed25519", keyType: OKP, curve: Ed25519, size: 32, scheme: ed25519Scheme{}},

	PS256: {name: "PS256", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA256, pss: true}},
	PS384: {name: "PS384", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA384, pss: true}},
	PS512: {name: "PS512", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA512, pss: true}},
	RS256: {name: "RS256", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA256}},
	RS384: {name: "RS384", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA384}},
	RS512: {name: "RS512", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA512}},
	RS1:   {name: "RS1", keyType: RSA, scheme: rsaScheme{hash: crypto.SHA1}, purpose: attestation},

	ES256K:         {name: "ES256K", keyType: EC2, curve: Secp256k1, size: 32, pkg: "secp256k1"},
	AlgorithmEd448: {name: "Ed448", keyType: OKP, curve: Ed448, size: 57, pkg: "ed448"},
	MLDSA44:        {name: "ML-DSA-44", keyType: AKP, size: 1312, pkg: "mldsa"},
	MLDSA65:        {name: "ML-DSA-65", keyType: AKP, size: 1952, pkg: "mldsa"},
	MLDSA87:        {name: "ML-DSA-87", keyType: AKP, size: 2592, pkg: "mldsa"},

	ECDHESHKDF256: {name: "ECDH-ES+HKDF-256", keyType: EC2, curve: P256, size: 32, scheme: ecdhScheme{}, purpose: agreement},
}

// String returns the registered name, or Algorithm(n).
func (a Algorithm) String() string {
	if known := algorithms[a]; known != nil && known.name != "" {
		return known.name
	}
	return fmt.Sprintf("Algorithm(%d)", int32(a))
}

// Available reports whether Key.Verify of this program can check signatures
// of a. It cannot for [RS1] and [ECDHESHKDF256], which are not for
// credentials.
func (a Algorithm) Available() bool {
	known := algorithms[a]
	return known != nil && known.scheme != nil && known.purpose == credentials
}

// Algorithms returns the algorithms that are available, in descending order of
// their numbers, which is no order of preference.
func Algorithms() []Algorithm {
	var available []Algorithm
	for a := range algorithms {
		if a.Available() {
			available = append(available, a)
		}
	}
	slices.Sort(available)
	slices.Reverse(available)
	return available
}

// lookup returns what is known of a, its scheme included.
func (a Algorithm) lookup() (*algorithm, error) {
	known := algorithms[a]
	switch {
	case known == nil:
		return nil, fmt.Errorf("%w: %v", ErrUnsupportedAlgorithm, a)
	case known.scheme == nil:
		return nil, fmt.Errorf("%w: %v (import github.com/tapstone/fido/cose/%s)", ErrUnsupportedAlgorithm, a, known.pkg)
	}
	return known, nil
}

// Scheme is how keys of one signature algorithm are read and its signatures
// are checked. A package that brings an algorithm implements it and hands it
// to [Register]. Its methods are called from several goroutines, with input
// from strangers.
type Scheme interface {
	// Decode returns the public key in k, or an error if there is none:
	// [ErrNotOnCurve], or one that says what is wrong. For the algorithms that
	// this package names, Type, Curve and the lengths of X, Y and Pub are
	// known to be right; for others everything is Decode's to check.
	Decode(k *Key) (crypto.PublicKey, error)
	// Encode is the reverse: it returns a new Key with all fields set but
	// Algorithm, or an error if pub is not a key of this algorithm. Decode is
	// asked about the result.
	Encode(pub crypto.PublicKey) (*Key, error)
	// Verify reports whether signature is one of message (not its hash) by
	// pub, which is what Decode returned.
	Verify(pub crypto.PublicKey, message, signature []byte) bool
}

// Register makes an algorithm available. It is to be called from the init
// function of a package, as [crypto.RegisterHash] is, and panics if s is nil
// or alg is registered already.
func Register(alg Algorithm, s Scheme) {
	if s == nil {
		panic("cose: Register: nil Scheme")
	}
	known := algorithms[alg]
	if known == nil {
		known = new(algorithm)
		algorithms[alg] = known
	}
	if known.scheme != nil {
		panic(fmt.Sprintf("cose: Register: %v is registered already", alg))
	}
	known.scheme = s
}
