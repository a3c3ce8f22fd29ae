// Package attestation says who vouches for a credential: it verifies the
// attestation statement that came with a registration (WebAuthn §6.5, §8), and
// decides whether that is good enough.
//
// There are three questions, one after the other. [Verify] answers whether the
// statement belongs to this registration. It takes what MakeCredential returned;
// a relying party, which holds the attestation object that a browser sent it,
// reads that first:
//
//	credential, err := attestation.ParseObject(object)
//	…
//	statement, err := attestation.Verify(credential, clientDataHash)
//
// [Statement.Trust] answers whether its certificate descends from a maker's.
// Without that, a statement of type Basic is only a claim: anybody can make
// certificates.
//
//	err = statement.Trust(roots, time.Now())
//
// A [Policy] answers whether this model of key may be used here. It asks Trust
// itself, and says in words what it does not like:
//
//	policy := &attestation.Policy{
//		Required:     true,
//		Metadata:     blob, // of package metadata, which knows the makers' roots
//		MinimumLevel: attestation.L1,
//	}
//	err = policy.Check(statement)
//
// The statements of roaming keys are of the formats "packed", "fido-u2f" and
// "none". Those of platforms, such as "tpm", "android-key" and "apple", are
// ErrFormat. An attestation says something about the key at the time of the
// registration: keep what it said, and look again when the metadata change.
package attestation

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/ctap2"
)

// A Type is an attestation type (WebAuthn §6.5.3).
type Type uint8

// Types.
const (
	None  Type = iota // nobody vouches
	Self              // signed with the credential's own key
	Basic             // signed with a key that a certificate vouches for
)

// String returns the name in words.
func (t Type) String() string {
	return [...]string{"none", "self", "basic"}[min(t, Basic)]
}

// Errors of ParseObject and Verify.
var (
	// ErrFormat: a statement of a format that this package does not verify.
	ErrFormat = errors.New("attestation: format not supported")
	// ErrInvalid: a statement that does not belong to the registration, or
	// breaks the rules of its format.
	ErrInvalid = errors.New("attestation: statement is not valid")
	// ErrAAGUID: the certificate is for another model of key than the
	// authenticator data say. It comes wrapped in ErrInvalid.
	ErrAAGUID = errors.New("certificate is for another AAGUID")
)

// A Statement is one that Verify found valid.
type Statement struct {
	Type Type
	// AAGUID is the model of the key as the statement signs it. A statement of
	// format "fido-u2f" signs none, whatever the authenticator data say: then it
	// is the one in the certificate (§8.2.1), and zero if that has none. Unless
	// Type is Basic, it is the key's own word.
	AAGUID ctap2.AAGUID
	// Certificates is the trust path, the one that vouches first; empty unless
	// Type is Basic.
	Certificates []*x509.Certificate
	// SerialNumber tells this key from all others of its model. Only enterprise
	// attestation has it (§8.2.2); nil otherwise.
	SerialNumber []byte
}

// ParseObject reads an attestation object (§6.5.4), as it is in the
// attestationObject of a RegistrationResponseJSON, of any format. The result has
// no Extensions and no largeBlobKey. What is not an attestation object with a
// credential in it is ErrInvalid, and so is a credential ID of more than 1023
// bytes (§7.1).
func ParseObject(object []byte) (*ctap2.Credential, error) {
	var o struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  cbor.ByteString `cbor:"authData"`
	}
	if err := decMode.Unmarshal(object, &o); err != nil {
		return nil, fmt.Errorf("%w: attestation object: %w", ErrInvalid, err)
	}
	const (
		mapType         = 5
		maxCredentialID = 1023
	)
	switch {
	case o.Format == "":
		return nil, fmt.Errorf("%w: attestation object without fmt", ErrInvalid)
	case len(o.Statement) == 0 || o.Statement[0]>>5 != mapType:
		return nil, fmt.Errorf("%w: attestation object without attStmt", ErrInvalid)
	}
	data, err := ctap2.ParseAuthenticatorData([]byte(o.AuthData))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: attestation object: %w", ErrInvalid, err)
	case data.PublicKey == nil:
		return nil, fmt.Errorf("%w: attestation object without a credential", ErrInvalid)
	case len(data.CredentialID) > maxCredentialID:
		return nil, fmt.Errorf("%w: credential ID of %d bytes", ErrInvalid, len(data.CredentialID))
	}
	return &ctap2.Credential{
		ID:                   data.CredentialID,
		PublicKey:            data.PublicKey,
		AuthData:             data,
		Format:               o.Format,
		AttestationStatement: o.Statement,
	}, nil
}

// Verify checks the attestation statement of a credential that MakeCredential
// or ParseObject returned, made for clientDataHash (32 bytes). It refuses formats
// other than "packed", "fido-u2f" and "none" with ErrFormat, and what does not
// hold with an error that wraps ErrInvalid and says why.
//
// Verify looks at the statement alone. That the authenticator data are for the
// right RP ID, and that the user was there, is the relying party's to check:
// Expectation.Check of package webauthn does, which has an example of the whole.
func Verify(credential *ctap2.Credential, clientDataHash []byte) (*Statement, error) {
	if credential == nil {
		return nil, fmt.Errorf("%w: no credential", ErrInvalid)
	}
	var verify func(r *registration) (*Statement, error)
	switch credential.Format {
	case "none":
		verify = verifyNone
	case "packed":
		verify = verifyPacked
	case "fido-u2f":
		verify = verifyFIDOU2F
	default:
		return nil, fmt.Errorf("%w: %.32q", ErrFormat, credential.Format)
	}
	const hashLength = 32
	switch {
	case len(clientDataHash) != hashLength:
		return nil, fmt.Errorf("%w: client data hash of %d bytes", ErrInvalid, len(clientDataHash))
	case credential.AuthData == nil || credential.AuthData.PublicKey == nil:
		return nil, fmt.Errorf("%w: no credential", ErrInvalid)
	}
	s, err := verify(&registration{credential.AuthData, clientDataHash, credential.AttestationStatement})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, credential.Format, err)
	}
	return s, nil
}

// A registration is what a statement is checked against, and the statement.
type registration struct {
	data           *ctap2.AuthenticatorData
	clientDataHash []byte
	statement      []byte
}

// verifyNone is §8.7: the statement is an empty map.
func verifyNone(r *registration) (*Statement, error) {
	if !bytes.Equal(r.statement, []byte{0xA0}) {
		return nil, errors.New("statement is not empty")
	}
	return &Statement{Type: None, AAGUID: r.data.AAGUID}, nil
}

var decMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
}()

// statement is what the formats of roaming keys have in common.
type statement struct {
	algorithm int64
	signature []byte
	hasX5C    bool
	chain     []*x509.Certificate // x5c
}

// Bounds of the work that a stranger's statement can ask for.
const (
	// maxCertificates is how many a statement may hold. Real ones hold one to
	// three.
	maxCertificates = 8
	// maxModulus is that of an RSA key in bits, as for credentials (package cose).
	maxModulus = 8192
)

// parseStatement reads byte strings as such: into a []byte, package cbor would
// read a list of numbers, too.
func parseStatement(data []byte) (*statement, error) {
	var wire struct {
		Algorithm int64           `cbor:"alg"`
		Signature cbor.ByteString `cbor:"sig"`
		X5C       cbor.RawMessage `cbor:"x5c"`
	}
	if err := decMode.Unmarshal(data, &wire); err != nil {
		return nil, err
	}
	s := &statement{algorithm: wire.Algorithm, signature: []byte(wire.Signature), hasX5C: wire.X5C != nil}
	if !s.hasX5C {
		return s, nil
	}
	var x5c []cbor.ByteString // which null would leave empty
	if err := decMode.Unmarshal(wire.X5C, &x5c); err != nil {
		return nil, fmt.Errorf("x5c: %w", err)
	}
	if len(x5c) == 0 || len(x5c) > maxCertificates {
		return nil, fmt.Errorf("x5c of %d certificates", len(x5c))
	}
	for _, der := range x5c {
		certificate, err := x509.ParseCertificate([]byte(der))
		if err != nil {
			return nil, err
		}
		if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxModulus {
			return nil, fmt.Errorf("certificate with an RSA key of %d bits", key.N.BitLen())
		}
		s.chain = append(s.chain, certificate)
	}
	return s, nil
}
