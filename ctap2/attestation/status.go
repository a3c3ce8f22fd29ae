package attestation

import (
	"crypto/x509"
	"slices"
	"time"
)

// A Status is what the FIDO Alliance says about a model of key
// (AuthenticatorStatus, Metadata Service 3.1.1 §3.1.4).
type Status string

// Statuses. There may be others, which are to be ignored.
const (
	// Certification (§3.1.4.1).
	StatusNotFIDOCertified       Status = "NOT_FIDO_CERTIFIED"
	StatusSelfAssertionSubmitted Status = "SELF_ASSERTION_SUBMITTED" // the maker certified itself
	StatusFIDOCertified          Status = "FIDO_CERTIFIED"           // functional certification, from before there were levels
	StatusFIDOCertifiedL1        Status = "FIDO_CERTIFIED_L1"
	StatusFIDOCertifiedL1Plus    Status = "FIDO_CERTIFIED_L1plus"
	StatusFIDOCertifiedL2        Status = "FIDO_CERTIFIED_L2"
	StatusFIDOCertifiedL2Plus    Status = "FIDO_CERTIFIED_L2plus"
	StatusFIDOCertifiedL3        Status = "FIDO_CERTIFIED_L3"
	StatusFIDOCertifiedL3Plus    Status = "FIDO_CERTIFIED_L3plus"
	StatusFIPS140CertifiedL1     Status = "FIPS140_CERTIFIED_L1"
	StatusFIPS140CertifiedL2     Status = "FIPS140_CERTIFIED_L2"
	StatusFIPS140CertifiedL3     Status = "FIPS140_CERTIFIED_L3"
	StatusFIPS140CertifiedL4     Status = "FIPS140_CERTIFIED_L4"
	StatusRevoked                Status = "REVOKED" // not to be trusted for any reason

	// Security notifications (§3.1.4.2).
	StatusUserVerificationBypass    Status = "USER_VERIFICATION_BYPASS"     // malware gets past the PIN or fingerprint
	StatusAttestationKeyCompromise  Status = "ATTESTATION_KEY_COMPROMISE"   // others can claim to be this model
	StatusUserKeyRemoteCompromise   Status = "USER_KEY_REMOTE_COMPROMISE"   // credentials can be forged or extracted from afar
	StatusUserKeyPhysicalCompromise Status = "USER_KEY_PHYSICAL_COMPROMISE" // credentials can be extracted by who has the key

	// Information.
	StatusUpdateAvailable Status = "UPDATE_AVAILABLE" // new firmware
	StatusRetired         Status = "RETIRED"          // the maker wants it no longer accepted
)

// adverse are the statuses of models that a policy with metadata refuses.
var adverse = []Status{
	StatusRevoked, StatusRetired, StatusUserVerificationBypass, StatusAttestationKeyCompromise,
	StatusUserKeyRemoteCompromise, StatusUserKeyPhysicalCompromise,
}

// A Level is how far a model of key was certified by the FIDO Alliance. A higher
// one is a greater number.
type Level uint8

// Levels.
const (
	NotCertified Level = iota
	Certified          // functional certification
	L1
	L1Plus
	L2
	L2Plus
	L3
	L3Plus
)

// String returns the level's usual name, such as "L1+".
func (l Level) String() string {
	return [...]string{"not certified", "certified without a level", "L1", "L1+", "L2", "L2+", "L3", "L3+"}[min(l, L3Plus)]
}

var levels = map[Status]Level{
	StatusFIDOCertified:       Certified,
	StatusFIDOCertifiedL1:     L1,
	StatusFIDOCertifiedL1Plus: L1Plus,
	StatusFIDOCertifiedL2:     L2,
	StatusFIDOCertifiedL2Plus: L2Plus,
	StatusFIDOCertifiedL3:     L3,
	StatusFIDOCertifiedL3Plus: L3Plus,
}

// A Report is a status and when it holds.
type Report struct {
	Status Status
	From   time.Time // zero: always has
	Until  time.Time // exclusive; zero: for good
}

func (r Report) inForce(at time.Time) bool {
	return !at.Before(r.From) && (r.Until.IsZero() || at.Before(r.Until))
}

// A Model is what metadata say about a model of key.
type Model struct {
	Description string // a name for people
	// Roots are the issuers of the model's attestation certificates, or these
	// themselves; nil if the metadata name none.
	Roots *x509.CertPool
	// SelfAttestation: keys of this model sign their statements with the
	// credential's own key, at least some.
	SelfAttestation bool
	Reports         []Report
}

// Level returns how far the model is certified at a time: the highest level of
// the reports in force, unless a later one takes that back (NOT_FIDO_CERTIFIED).
// A certification for other firmware counts: the firmware of a key is not known.
func (m *Model) Level(at time.Time) Level {
	reports := slices.Clone(m.Reports)
	slices.SortStableFunc(reports, func(a, b Report) int { return a.From.Compare(b.From) })
	level := NotCertified
	for _, r := range reports {
		switch {
		case !r.inForce(at):
		case r.Status == StatusNotFIDOCertified:
			level = NotCertified
		default:
			level = max(level, levels[r.Status])
		}
	}
	return level
}
