// Package attestation says who vouches for a credential: it verifies the
// attestation statement that a registration returned (WebAuthn §6.5, §8).
//
//	statement, err := attestation.Verify(credential, clientDataHash)
//	if err == nil {
//		err = statement.Trust(roots)
//	}
//
// Verify proves that the statement belongs to this registration; Trust that
// its certificate descends from a maker's. Without Trust, a statement of type
// Basic is only a claim.
package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
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

// Errors of Verify and Trust.
var (
	// ErrFormat: a statement of a format that this package does not verify.
	ErrFormat = errors.New("attestation: format not supported")
	// ErrInvalid: a statement that does not belong to the registration, or
	// breaks the rules of its format.
	ErrInvalid = errors.New("attestation: statement is not valid")
	// ErrUntrusted: no path from the statement's certificate to a root.
	ErrUntrusted = errors.New("attestation: not trusted")
)

// A Statement is one that Verify found valid.
type Statement struct {
	Type Type
	// Certificates is the trust path, the one that vouches first; empty unless
	// Type is Basic.
	Certificates []*x509.Certificate
}

// Verify checks the attestation statement of a credential that MakeCredential
// returned for clientDataHash (32 bytes). It refuses formats other than
// "packed", "fido-u2f" and "none" with ErrFormat, and what does not hold with an error
// that wraps ErrInvalid and says why.
func Verify(credential *ctap2.Credential, clientDataHash []byte) (*Statement, error) {
	var s *Statement
	var err error
	switch credential.Format {
	case "none":
		s, err = verifyNone(credential.AttestationStatement)
	case "packed":
		s, err = verifyPacked(credential, clientDataHash)
	case "fido-u2f":
		s, err = verifyFIDOU2F(credential, clientDataHash)
	default:
		return nil, fmt.Errorf("%w: %q", ErrFormat, credential.Format)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, credential.Format, err)
	}
	return s, nil
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

// verifyNone is §8.7: the statement is an empty map.
func verifyNone(statement []byte) (*Statement, error) {
	if !bytes.Equal(statement, []byte{0xA0}) {
		return nil, errors.New("statement is not empty")
	}
	return &Statement{Type: None}, nil
}

// statement is what the formats of roaming keys have in common.
type statement struct {
	Algorithm int64    `cbor:"alg"`
	Signature []byte   `cbor:"sig"`
	X5C       [][]byte `cbor:"x5c"`
}

func parseStatement(data []byte) (*statement, error) {
	s := new(statement)
	if err := decMode.Unmarshal(data, s); err != nil {
		return nil, err
	}
	if s.X5C != nil && len(s.X5C) == 0 {
		return nil, errors.New("x5c is empty")
	}
	return s, nil
}

// certificates parses x5c.
func (s *statement) certificates() ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, len(s.X5C))
	for i, der := range s.X5C {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

// verifyFIDOU2F is §8.6.
func verifyFIDOU2F(credential *ctap2.Credential, clientDataHash []byte) (*Statement, error) {
	st, err := parseStatement(credential.AttestationStatement)
	if err != nil {
		return nil, err
	}
	chain, err := st.certificates()
	if err != nil {
		return nil, err
	}
	key := credential.PublicKey
	if len(chain) != 1 {
		return nil, fmt.Errorf("%d certificates, not one", len(chain))
	}
	if key.Type != cose.EC2 || key.Curve != cose.P256 {
		return nil, fmt.Errorf("a credential key of type %v", key)
	}
	signed := slices.Concat([]byte{0x00}, credential.AuthData.RPIDHash[:], clientDataHash, credential.ID, []byte{0x04}, key.X, key.Y)
	if err := cose.Verify(cose.ES256, chain[0].PublicKey, signed, st.Signature); err != nil {
		return nil, err
	}
	return &Statement{Type: Basic, Certificates: chain}, nil
}

// verifyPacked is §8.2.
func verifyPacked(credential *ctap2.Credential, clientDataHash []byte) (*Statement, error) {
	st, err := parseStatement(credential.AttestationStatement)
	if err != nil {
		return nil, err
	}
	if st.Algorithm != int64(cose.Algorithm(st.Algorithm)) {
		return nil, fmt.Errorf("algorithm %d", st.Algorithm)
	}
	alg := cose.Algorithm(st.Algorithm)
	signed := slices.Concat(credential.AuthData.Raw, clientDataHash)
	if st.X5C == nil {
		if alg != credential.PublicKey.Algorithm {
			return nil, fmt.Errorf("self attestation by %v, the credential's key is for %v",
				alg, credential.PublicKey.Algorithm)
		}
		return &Statement{Type: Self}, credential.PublicKey.Verify(signed, st.Signature)
	}
	chain, err := st.certificates()
	if err != nil {
		return nil, err
	}
	if err := cose.Verify(alg, chain[0].PublicKey, signed, st.Signature); err != nil {
		return nil, err
	}
	return &Statement{Type: Basic, Certificates: chain}, checkPackedCertificate(chain[0], credential.AuthData.AAGUID)
}

// aaguidExtension is id-fido-gen-ce-aaguid.
var aaguidExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}

// checkPackedCertificate is §8.2.1.
func checkPackedCertificate(c *x509.Certificate, aaguid ctap2.AAGUID) error {
	subject := c.Subject
	switch {
	case c.Version != 3:
		return fmt.Errorf("certificate of version %d", c.Version)
	case len(subject.Country) != 1 || len(subject.Organization) != 1 || subject.CommonName == "":
		return errors.New("certificate subject without country, organization or common name")
	case !slices.Equal(subject.OrganizationalUnit, []string{"Authenticator Attestation"}):
		return errors.New(`certificate is not for "Authenticator Attestation"`)
	case !c.BasicConstraintsValid || c.IsCA:
		return errors.New("certificate may sign others")
	}
	for _, e := range c.Extensions {
		if !e.Id.Equal(aaguidExtension) {
			continue
		}
		var value []byte
		if rest, err := asn1.Unmarshal(e.Value, &value); err != nil || len(rest) > 0 || e.Critical {
			return errors.New("certificate's AAGUID extension is malformed")
		}
		if !bytes.Equal(value, aaguid[:]) {
			return errors.New("certificate is for another AAGUID")
		}
	}
	return nil
}

// Trust returns nil if the statement's certificate descends from one of roots,
// today, and an error that wraps ErrUntrusted otherwise, as for statements
// without a certificate.
func (s *Statement) Trust(roots *x509.CertPool) error {
	if len(s.Certificates) == 0 {
		return fmt.Errorf("%w: attestation type %v has no certificate", ErrUntrusted, s.Type)
	}
	between := x509.NewCertPool()
	for _, c := range s.Certificates[1:] {
		between.AddCert(c)
	}
	_, err := s.Certificates[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return nil
}
