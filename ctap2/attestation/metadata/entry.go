package metadata

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

// An Entry is what the FIDO Alliance says about a model (MDS §3.1.1). It is
// known by its AAGUID (FIDO2), its key identifiers (U2F) or its AAID (UAF). In
// one that could not be read in full, what could not is absent.
type Entry struct {
	AAID   string       `json:"aaid"`
	AAGUID ctap2.AAGUID `json:"aaguid"` // zero if there is none
	// AttestationCertificateKeyIdentifiers are 20 bytes each, in hexadecimal.
	AttestationCertificateKeyIdentifiers []string       `json:"attestationCertificateKeyIdentifiers"`
	MetadataStatement                    *Statement     `json:"metadataStatement"` // nil if there is none
	StatusReports                        []StatusReport `json:"statusReports"`
	TimeOfLastStatusChange               time.Time      `json:"timeOfLastStatusChange"`
}

// A StatusReport is a status of a model, and since when it has it (MDS §3.1.3).
// What is absent is zero, and so is what could not be read: a report without a
// date holds at all times, and one without certificates is about every key.
type StatusReport struct {
	Status               attestation.Status `json:"status"`
	EffectiveDate        time.Time          `json:"effectiveDate"`
	SunsetDate           time.Time          `json:"sunsetDate"` // when it ends
	AuthenticatorVersion uint64             `json:"authenticatorVersion"`
	// BatchCertificate and Certificate are of the attestation keys that the
	// report is about, DER. The latter is from before version 3.1.
	BatchCertificate                 []byte   `json:"batchCertificate"`
	Certificate                      []byte   `json:"certificate"`
	URL                              string   `json:"url"`
	CertificationDescriptor          string   `json:"certificationDescriptor"`
	CertificateNumber                string   `json:"certificateNumber"`
	CertificationPolicyVersion       string   `json:"certificationPolicyVersion"`
	CertificationProfiles            []string `json:"certificationProfiles"`
	CertificationRequirementsVersion string   `json:"certificationRequirementsVersion"`
}

// A Statement is the maker's description of a model (FIDO Metadata Statement,
// "Metadata Keys"). Members that are lists of strings hold names of the FIDO
// Registry of Predefined Values, such as "secure_element"; other members than
// these are ignored. It can be read from a maker's own file with encoding/json.
type Statement struct {
	LegalHeader                          string            `json:"legalHeader"`
	AAID                                 string            `json:"aaid"`
	AAGUID                               ctap2.AAGUID      `json:"aaguid"`
	AttestationCertificateKeyIdentifiers []string          `json:"attestationCertificateKeyIdentifiers"`
	Description                          string            `json:"description"`             // in English
	AlternativeDescriptions              map[string]string `json:"alternativeDescriptions"` // by language
	FriendlyNames                        map[string]string `json:"friendlyNames"`           // by language
	AuthenticatorVersion                 uint64            `json:"authenticatorVersion"`    // firmware
	ProtocolFamily                       string            `json:"protocolFamily"`          // "fido2", "u2f" or "uaf"
	Schema                               int               `json:"schema"`
	UPV                                  []Version         `json:"upv"`
	AuthenticationAlgorithms             []string          `json:"authenticationAlgorithms"`
	PublicKeyAlgAndEncodings             []string          `json:"publicKeyAlgAndEncodings"`
	AttestationTypes                     []string          `json:"attestationTypes"` // of Attestation…
	KeyProtection                        []string          `json:"keyProtection"`
	IsKeyRestricted                      *bool             `json:"isKeyRestricted"`                 // nil: true
	IsFreshUserVerificationRequired      *bool             `json:"isFreshUserVerificationRequired"` // nil: true
	MatcherProtection                    []string          `json:"matcherProtection"`
	CryptoStrength                       int               `json:"cryptoStrength"` // bits; 0: not known
	AttachmentHint                       []string          `json:"attachmentHint"`
	TCDisplay                            []string          `json:"tcDisplay"`
	MultiDeviceCredentialSupport         string            `json:"multiDeviceCredentialSupport"`
	// AttestationRootCertificates are DER, as the maker wrote it: crypto/x509
	// does not take each of them.
	AttestationRootCertificates [][]byte `json:"attestationRootCertificates"`
	Icon                        string   `json:"icon"`     // a data: URL of an image
	IconDark                    string   `json:"iconDark"` // for dark backgrounds

	// UserVerificationDetails are the ways of user verification, JSON: a list of
	// alternatives, each a list of methods that go together.
	UserVerificationDetails json.RawMessage `json:"userVerificationDetails"`
	// AuthenticatorGetInfo is a getInfo reply, JSON with names for keys.
	AuthenticatorGetInfo json.RawMessage `json:"authenticatorGetInfo"`
}

// Types of attestation (FIDO Registry of Predefined Values).
const (
	AttestationBasicFull      = "basic_full"      // with a certificate
	AttestationBasicSurrogate = "basic_surrogate" // with the credential's own key
	AttestationAttCA          = "attca"           // with a certificate that a privacy CA issued
	AttestationECDAA          = "ecdaa"
	AttestationAnonCA         = "anonca"
	AttestationNone           = "none"
)

// A Version is one of the protocol (Statement §3.1).
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

// UnmarshalJSON reads a MetadataBLOBPayloadEntry. If a member cannot be read, it
// reads the others, and returns the first error.
func (e *Entry) UnmarshalJSON(data []byte) error {
	type plain Entry // without this method
	var wire struct {
		plain
		AAGUID                 json.RawMessage   `json:"aaguid"`
		MetadataStatement      json.RawMessage   `json:"metadataStatement"`
		StatusReports          []json.RawMessage `json:"statusReports"`
		TimeOfLastStatusChange json.RawMessage   `json:"timeOfLastStatusChange"`
	}
	err := json.Unmarshal(data, &wire) // goes on after a wrong type, but not after an UnmarshalText that fails
	*e = Entry(wire.plain)
	err = cmp.Or(err, read(wire.AAGUID, (*aaguid)(&e.AAGUID)))
	for _, report := range wire.StatusReports {
		var r StatusReport
		err = cmp.Or(err, read(report, &r))
		e.StatusReports = append(e.StatusReports, r)
	}
	failed := read(wire.MetadataStatement, &e.MetadataStatement)
	if failed != nil {
		e.MetadataStatement = nil
	}
	return cmp.Or(err, failed, read(wire.TimeOfLastStatusChange, (*date)(&e.TimeOfLastStatusChange)))
}

// UnmarshalJSON reads a StatusReport. If a member cannot be read, it reads the
// others, and returns the first error.
func (r *StatusReport) UnmarshalJSON(data []byte) error {
	type plain StatusReport
	var wire struct {
		plain
		EffectiveDate    json.RawMessage `json:"effectiveDate"`
		SunsetDate       json.RawMessage `json:"sunsetDate"`
		BatchCertificate json.RawMessage `json:"batchCertificate"`
		Certificate      json.RawMessage `json:"certificate"`
	}
	err := json.Unmarshal(data, &wire)
	*r = StatusReport(wire.plain)
	err = cmp.Or(err, read(wire.EffectiveDate, (*date)(&r.EffectiveDate)), read(wire.SunsetDate, (*date)(&r.SunsetDate)))
	failed := cmp.Or(read(wire.BatchCertificate, (*der)(&r.BatchCertificate)), read(wire.Certificate, (*der)(&r.Certificate)))
	if failed != nil { // the other one alone would be about fewer keys
		r.BatchCertificate, r.Certificate = nil, nil
	}
	return cmp.Or(err, failed)
}

// read sets what v points to to a member's value, if there is one.
func read(value json.RawMessage, v any) error {
	if value == nil {
		return nil
	}
	return json.Unmarshal(value, v)
}

// UnmarshalJSON reads a MetadataStatement.
func (s *Statement) UnmarshalJSON(data []byte) error {
	type plain Statement
	wire := struct {
		*plain
		AAGUID                      aaguid `json:"aaguid"`
		AttestationRootCertificates []der  `json:"attestationRootCertificates"`
	}{plain: (*plain)(s)}
	err := json.Unmarshal(data, &wire)
	s.AAGUID = ctap2.AAGUID(wire.AAGUID)
	for _, certificate := range wire.AttestationRootCertificates {
		s.AttestationRootCertificates = append(s.AttestationRootCertificates, certificate)
	}
	return err
}

// A date is "2026-01-31", in UTC. An empty one is absent.
type date time.Time

func (d *date) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	t, err := time.Parse(time.DateOnly, string(text))
	*d = date(t)
	return err
}

// An aaguid is in the form of a UUID.
type aaguid ctap2.AAGUID

func (a *aaguid) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "-", ""))
	if err != nil || len(b) != len(a) {
		return errors.New("not an AAGUID")
	}
	*a = aaguid(b)
	return nil
}

// A der is a certificate in base64. Makers put in line breaks and spaces.
type der []byte

func (d *der) UnmarshalText(text []byte) (err error) {
	*d, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	return err
}
