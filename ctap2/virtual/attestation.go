package virtual

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Attestation is a kind of attestation statement.
type Attestation uint8

const (
	// AttestationBasic: format "packed", signed with an attestation key whose
	// certificate the key issued itself when it was new, under a root that
	// AttestationRoot returns.
	AttestationBasic Attestation = iota
	// AttestationSelf: format "packed", signed with the credential's own key.
	AttestationSelf
	// AttestationNone: format "none".
	AttestationNone
	// attestationEnterprise is AttestationBasic with the certificate that says
	// which key it is. It takes Config.EnterpriseAttestation.
	attestationEnterprise
)

// Formats of attestation statements (WebAuthn §8).
const (
	formatPacked = "packed"
	formatNone   = "none"
)

// attestation is what basic attestation needs.
type attestation struct {
	key        *signingKey
	leaf       []byte
	enterprise []byte // the leaf with the serial number; nil in files of before there was one
	root       *x509.Certificate
}

// attestationRecord is how it is stored. The root's private key signed one
// two certificates and was forgotten.
type attestationRecord struct {
	Key        []byte `cbor:"1,keyasint"`
	Leaf       []byte `cbor:"2,keyasint"`
	Root       []byte `cbor:"3,keyasint"`
	Enterprise []byte `cbor:"4,keyasint,omitempty"`
}

var (
	oidAAGUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4} // id-fido-gen-ce-aaguid
	oidSerial = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 2} // id-fido-gen-ce-sernum
)

// serialLength is that of what stands for one key in enterprise attestation. It
// is random, and stays the same through resets.
const serialLength = 16

// newAttestation makes a root and two attestation certificates for one key that
// keep to the requirements of packed attestation (WebAuthn §8.2.1), the second
// to those of enterprise attestation (WebAuthn §8.2.2).
func newAttestation(aaguid [16]byte) (record, error) {
	rootSubject, err := distinguishedName("Root", "Software authenticator root")
	if err != nil {
		return record{}, err
	}
	leafSubject, err := distinguishedName("Authenticator Attestation", "Software authenticator attestation")
	if err != nil {
		return record{}, err
	}
	// Attestation certificates outlive clocks that are wrong, tests' among them.
	notBefore := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return record{}, err
	}
	root := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		RawSubject:            rootSubject,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return record{}, err
	}

	key, err := newSigningKey(cose.ES256)
	if err != nil {
		return record{}, err
	}
	aaguidValue, err := asn1.Marshal(aaguid[:])
	if err != nil {
		return record{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		RawSubject:            leafSubject,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidAAGUID, Value: aaguidValue}},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.parsed.Public(), rootKey)
	if err != nil {
		return record{}, err
	}
	serialValue, err := asn1.Marshal(randomBytes(serialLength))
	if err != nil {
		return record{}, err
	}
	leaf.SerialNumber = big.NewInt(3)
	leaf.ExtraExtensions = append(leaf.ExtraExtensions, pkix.Extension{Id: oidSerial, Value: serialValue})
	enterpriseDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.parsed.Public(), rootKey)
	if err != nil {
		return record{}, err
	}
	keyBytes := key.marshal()
	defer clear(keyBytes)
	value, err := cbor.Marshal(attestationRecord{keyBytes, leafDER, rootDER, enterpriseDER})
	return record{Kind: kindAttestation, Key: bytes.Clone(aaguid[:]), Value: value}, err
}

// distinguishedName returns the DER of one, with strings of the types that
// packed attestation demands of a subject (WebAuthn §8.2.1): a pkix.Name would
// make them all PrintableStrings.
func distinguishedName(unit, commonName string) ([]byte, error) {
	var name pkix.RDNSequence
	for _, attribute := range []struct {
		arc   int // below id-at
		tag   int
		value string
	}{
		{6, asn1.TagPrintableString, "ZZ"},                 // C; no country: user-assigned in ISO 3166
		{10, asn1.TagUTF8String, "Software authenticator"}, // O
		{11, asn1.TagUTF8String, unit},                     // OU
		{3, asn1.TagUTF8String, commonName},                // CN
	} {
		name = append(name, pkix.RelativeDistinguishedNameSET{{
			Type:  asn1.ObjectIdentifier{2, 5, 4, attribute.arc},
			Value: asn1.RawValue{Tag: attribute.tag, Bytes: []byte(attribute.value)},
		}})
	}
	return asn1.Marshal(name)
}

func parseAttestationRecord(value []byte) (*attestation, error) {
	var r attestationRecord
	if err := cbor.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	defer clear(r.Key)
	key, err := parseSigningKey(cose.ES256, r.Key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(r.Root)
	if err != nil {
		return nil, err
	}
	return &attestation{key, r.Leaf, r.Enterprise, root}, nil
}

// AttestationRoot returns the certificate that verifiers trust in order to
// believe the key's basic and enterprise attestation, and that of its U2F
// registrations: the issuer of the one certificate in x5c. It stays the same for
// a key kept in a file, but for a file of before there was enterprise
// attestation: New with Config.EnterpriseAttestation has to make a new root for
// it, once, as the old one's private key is gone, and attestations of before
// still verify under the old one alone. Keys with neither return nil.
func (a *Authenticator) AttestationRoot() *x509.Certificate {
	if a.cfg.Attestation != AttestationBasic && a.cfg.NoU2F {
		return nil
	}
	return a.state.attestation.root
}

// attestsForEnterprise is step 9 of makeCredential: it reports whether a
// credential gets enterprise attestation for what the parameter asks
// (§6.1.2, §7.1).
func (a *Authenticator) attestsForEnterprise(rpID string, asked uint64) (bool, error) {
	if !a.options()[optionEnterprise] {
		return false, refusal(ctap.StatusInvalidParameter)
	}
	switch asked {
	case ctap.EnterpriseVendorFacilitated:
		return slices.Contains(a.cfg.EnterpriseRPIDs, rpID), nil
	case ctap.EnterprisePlatformManaged:
		return true, nil
	}
	return false, refusal(ctap.StatusInvalidOption)
}

// attestationKind returns the kind of attestation statement for a new credential
// (§6.1.2 step 19). The key has one format, so that there is no choice by
// attestationFormatsPreference; but a platform that wants no other than "none"
// gets it, enterprise or not.
func (a *Authenticator) attestationKind(mc *newCredential) Attestation {
	switch {
	case a.cfg.Level >= CTAP23 && slices.Equal(mc.attestationFormats, []string{formatNone}):
		return AttestationNone
	case mc.enterprise:
		return attestationEnterprise
	}
	return a.cfg.Attestation
}

// attest returns the attestation statement of a new credential (§6.1.2 step
// 19) and its format.
func (a *Authenticator) attest(kind Attestation, key *signingKey, authData, clientDataHash []byte) (format string, statement map[string]any, err error) {
	if kind == AttestationNone {
		return formatNone, map[string]any{}, nil
	}
	statement = make(map[string]any)
	switch kind {
	case AttestationBasic:
		key = a.state.attestation.key
		statement["x5c"] = [][]byte{a.state.attestation.leaf}
	case attestationEnterprise:
		key = a.state.attestation.key
		statement["x5c"] = [][]byte{a.state.attestation.enterprise}
	}
	signature, err := key.sign(authData, clientDataHash)
	if err != nil {
		return "", nil, err
	}
	statement["alg"] = int64(key.algorithm)
	statement["sig"] = signature
	return formatPacked, statement, nil
}
