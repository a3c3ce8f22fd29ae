package attestation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
)

// A Policy says which keys are good enough. The zero value accepts every
// statement that verifies; each field that is set refuses some.
//
// As long as attestation is not Required, a key that lies about its model gets
// past every rule about models: it does not let anybody vouch for it. The lists
// are then a guide for honest users, no more.
type Policy struct {
	// Required refuses statements that no certificate vouches for, and those
	// whose certificate does not lead to a root.
	Required bool

	// Allow, unless empty, is all models that are accepted. U2F keys have the
	// zero AAGUID, unless their certificate names another.
	Allow []ctap2.AAGUID
	// Block is models that are not accepted.
	Block []ctap2.AAGUID

	// Roots are trusted to issue certificates to any model that the Metadata
	// name no roots of. A statement whose certificate does not lead to them is
	// refused, even if attestation is not Required. Nil: not looked at.
	Roots *x509.CertPool
	// Metadata know models, and the roots of each: the certificate of a model
	// with roots of its own must lead to these. Models that they report as
	// unsafe are refused: revoked, retired, or compromised in one way or the
	// other. Models that they do not know are accepted, unless another rule
	// needs to know. Nil: not looked at.
	Metadata Metadata
	// MinimumLevel refuses models that are not certified that far. It needs
	// Metadata, and a certificate that leads to a root.
	MinimumLevel Level
	// Tolerate lists reports on account of which no model is refused, such as
	// StatusUserKeyPhysicalCompromise.
	Tolerate []Status

	// Time is when the rules are applied; zero is now.
	Time time.Time
}

// Metadata know models of keys. A Blob of package metadata does; write another
// one to know models that the FIDO Alliance does not, or to override what it
// says.
type Metadata interface {
	// Model returns what is known of the model that a statement, which Verify
	// found valid, is of, and nil if nothing is.
	Model(s *Statement) *Model
}

// Reasons of a PolicyError. Others are ErrUntrusted and what wraps it.
var (
	// ErrNotAttested: a certificate is required, and the statement has none.
	ErrNotAttested = errors.New("no certificate vouches for the key")
	// ErrNotAllowed: the Policy has an allow list, and the model is not on it.
	ErrNotAllowed = errors.New("the model is not on the allow list")
	// ErrBlocked: the model is on the block list.
	ErrBlocked = errors.New("the model is on the block list")
	// ErrUnknownModel: the metadata do not know the model, or there are none,
	// where they are needed.
	ErrUnknownModel = errors.New("the model is not in the metadata")
	// ErrUnsafe: the metadata report that the model is not to be trusted.
	ErrUnsafe = errors.New("the model is reported as unsafe")
	// ErrLevel: the model is not certified as far as MinimumLevel.
	ErrLevel = errors.New("the model's certification is too low")
)

// A PolicyError is a refusal by a Policy. It wraps the reason.
type PolicyError struct {
	AAGUID      ctap2.AAGUID // of the Statement
	Description string       // the model's name in the metadata; "" if they do not know it
	Reason      error
}

// Error names the model and says why it is refused.
func (e *PolicyError) Error() string {
	model := "model " + e.AAGUID.String()
	switch {
	case e.Description != "":
		model = fmt.Sprintf("%q", e.Description)
	case e.AAGUID == ctap2.AAGUID{}:
		model = "key without an AAGUID"
	}
	return "attestation: " + model + " refused: " + strings.TrimPrefix(e.Reason.Error(), "attestation: ")
}

// Unwrap returns the Reason.
func (e *PolicyError) Unwrap() error { return e.Reason }

// Check returns nil if the policy accepts a statement that Verify found valid,
// and a *PolicyError otherwise. A nil Policy is not one that accepts everything,
// which the zero value is: it refuses, as does any Policy a nil Statement.
func (p *Policy) Check(s *Statement) error {
	switch {
	case s == nil:
		return &PolicyError{Reason: errors.New("no Statement")}
	case p == nil:
		return &PolicyError{AAGUID: s.AAGUID, Reason: errors.New("no Policy")}
	}
	var model *Model
	if p.Metadata != nil {
		model = p.Metadata.Model(s)
	}
	at := p.Time
	if at.IsZero() {
		at = time.Now()
	}
	for _, rule := range []func(*Statement, *Model, time.Time) error{p.listed, p.attested, p.safe, p.certified} {
		if err := rule(s, model, at); err != nil {
			refusal := &PolicyError{AAGUID: s.AAGUID, Reason: err}
			if model != nil {
				refusal.Description = model.Description
			}
			return refusal
		}
	}
	return nil
}

// listed is the rule of Allow and Block.
func (p *Policy) listed(s *Statement, _ *Model, _ time.Time) error {
	switch {
	case slices.Contains(p.Block, s.AAGUID):
		return ErrBlocked
	case len(p.Allow) > 0 && !slices.Contains(p.Allow, s.AAGUID):
		return ErrNotAllowed
	}
	return nil
}

// attested is the rule of Required and of the roots.
func (p *Policy) attested(s *Statement, model *Model, at time.Time) error {
	required := p.Required || p.MinimumLevel > NotCertified
	roots := p.Roots
	if model != nil && model.Roots != nil {
		roots = model.Roots
	}
	switch {
	case s.Type == Self && model != nil && model.Roots != nil && !model.SelfAttestation:
		return fmt.Errorf("%w, and every key of this model has one", ErrNotAttested)
	case s.Type != Basic && required:
		return fmt.Errorf("%w (attestation type %v)", ErrNotAttested, s.Type)
	case s.Type != Basic || roots == nil && !required:
		return nil
	case roots == nil && p.Metadata != nil && model == nil:
		return fmt.Errorf("%w, and no other roots are given", ErrUnknownModel)
	}
	return s.Trust(roots, at)
}

// safe is the rule of Metadata and Tolerate.
func (p *Policy) safe(_ *Statement, model *Model, at time.Time) error {
	if model == nil {
		return nil
	}
	for _, r := range model.Reports {
		if r.inForce(at) && slices.Contains(adverse, r.Status) && !slices.Contains(p.Tolerate, r.Status) {
			since := ""
			if !r.From.IsZero() {
				since = " since " + r.From.Format(time.DateOnly)
			}
			return fmt.Errorf("%w: %s%s", ErrUnsafe, r.Status, since)
		}
	}
	return nil
}

// certified is the rule of MinimumLevel.
func (p *Policy) certified(_ *Statement, model *Model, at time.Time) error {
	switch {
	case p.MinimumLevel == NotCertified:
		return nil
	case model == nil:
		return fmt.Errorf("%w, which are needed for its certification", ErrUnknownModel)
	}
	if level := model.Level(at); level < p.MinimumLevel {
		return fmt.Errorf("%w: %v, not %v", ErrLevel, level, p.MinimumLevel)
	}
	return nil
}
