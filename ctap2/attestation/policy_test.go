package attestation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

// catalogue is metadata for tests.
type catalogue map[ctap2.AAGUID]*attestation.Model

func (c catalogue) Model(s *attestation.Statement) *attestation.Model { return c[s.AAGUID] }

func TestPolicy(t *testing.T) {
	root := (*issuer)(nil).issue(t, authority("Root"))
	stranger := (*issuer)(nil).issue(t, authority("Stranger"))
	basic := statement(t, root.issue(t, leaf()))
	foreign := statement(t, stranger.issue(t, leaf()))
	anonymous := leaf()
	anonymous.ExtraExtensions = nil
	u2f := packed(root.issue(t, anonymous))
	u2f.format = "fido-u2f"
	old, err := u2f.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	u2f = packed(root.issue(t, leaf()))
	u2f.format = "fido-u2f"
	asU2F, err := u2f.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	self, err := attested{format: "packed", aaguid: model, alg: cose.ES256}.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	none := &attestation.Statement{Type: attestation.None, AAGUID: model}

	known := func(change func(*attestation.Model)) catalogue {
		m := &attestation.Model{
			Description: "Model 1",
			Roots:       pool(root),
			Reports: []attestation.Report{
				{Status: attestation.StatusFIDOCertified, From: morning},
				{Status: attestation.StatusFIDOCertifiedL2, From: morning},
				{Status: "SOMETHING_NEW", From: morning},
			},
		}
		if change != nil {
			change(m)
		}
		return catalogue{model: m}
	}
	reported := func(reports ...attestation.Report) catalogue {
		return known(func(m *attestation.Model) { m.Reports = append(m.Reports, reports...) })
	}
	other := ctap2.AAGUID{1}
	tests := map[string]struct {
		policy attestation.Policy
		of     *attestation.Statement
		want   error // nil if accepted
		says   string
	}{
		"zero: basic":   {attestation.Policy{}, basic, nil, ""},
		"zero: foreign": {attestation.Policy{}, foreign, nil, ""},
		"zero: self":    {attestation.Policy{}, self, nil, ""},
		"zero: none":    {attestation.Policy{}, none, nil, ""},

		"required: basic":     {attestation.Policy{Required: true, Roots: pool(root)}, basic, nil, ""},
		"required: U2F":       {attestation.Policy{Required: true, Roots: pool(root)}, old, nil, ""},
		"required: self":      {attestation.Policy{Required: true, Roots: pool(root)}, self, attestation.ErrNotAttested, "type self"},
		"required: none":      {attestation.Policy{Required: true, Roots: pool(root)}, none, attestation.ErrNotAttested, "type none"},
		"required: foreign":   {attestation.Policy{Required: true, Roots: pool(root)}, foreign, attestation.ErrIssuer, "issued by somebody else"},
		"required: no roots":  {attestation.Policy{Required: true}, basic, attestation.ErrUntrusted, "not trusted"},
		"required: expired":   {attestation.Policy{Required: true, Roots: pool(root), Time: night}, basic, attestation.ErrExpired, "expired"},
		"roots alone: basic":  {attestation.Policy{Roots: pool(root)}, basic, nil, ""},
		"roots alone: self":   {attestation.Policy{Roots: pool(root)}, self, nil, ""},
		"roots alone: forged": {attestation.Policy{Roots: pool(root)}, foreign, attestation.ErrIssuer, "issued by somebody else"},

		"allowed":          {attestation.Policy{Allow: []ctap2.AAGUID{other, model}}, basic, nil, ""},
		"not allowed":      {attestation.Policy{Allow: []ctap2.AAGUID{other}}, basic, attestation.ErrNotAllowed, "model f00d0000-0000-0000-0000-000000000001 refused: the model is not on the allow list"},
		"U2F, not allowed": {attestation.Policy{Allow: []ctap2.AAGUID{model}}, old, attestation.ErrNotAllowed, "key without an AAGUID refused"},
		"U2F allowed":      {attestation.Policy{Allow: []ctap2.AAGUID{{}}}, old, nil, ""},
		"as U2F, allowed":  {attestation.Policy{Required: true, Roots: pool(root), Allow: []ctap2.AAGUID{model}}, asU2F, nil, ""},
		"as U2F, blocked":  {attestation.Policy{Required: true, Roots: pool(root), Block: []ctap2.AAGUID{model}}, asU2F, attestation.ErrBlocked, "block list"},
		"blocked":          {attestation.Policy{Block: []ctap2.AAGUID{model}}, self, attestation.ErrBlocked, "block list"},
		"not blocked":      {attestation.Policy{Block: []ctap2.AAGUID{other}}, self, nil, ""},
		"blocked, allowed": {attestation.Policy{Allow: []ctap2.AAGUID{model}, Block: []ctap2.AAGUID{model}}, basic, attestation.ErrBlocked, "block list"},

		"metadata: known":              {attestation.Policy{Required: true, Metadata: known(nil)}, basic, nil, ""},
		"metadata: their roots first":  {attestation.Policy{Required: true, Metadata: known(nil), Roots: pool(stranger)}, foreign, attestation.ErrIssuer, `"Model 1" refused: not trusted`},
		"metadata: no roots of theirs": {attestation.Policy{Required: true, Metadata: known(func(m *attestation.Model) { m.Roots = nil }), Roots: pool(root)}, basic, nil, ""},
		"metadata: unusable roots":     {attestation.Policy{Required: true, Metadata: known(func(m *attestation.Model) { m.Roots = pool() }), Roots: pool(root)}, basic, attestation.ErrIssuer, ""},
		"metadata: unknown":            {attestation.Policy{Required: true, Metadata: catalogue{}}, basic, attestation.ErrUnknownModel, "no other roots"},
		"metadata: unknown, roots":     {attestation.Policy{Required: true, Metadata: catalogue{}, Roots: pool(root)}, basic, nil, ""},
		"metadata: unknown, anything":  {attestation.Policy{Metadata: catalogue{}}, foreign, nil, ""},
		"metadata: forged":             {attestation.Policy{Metadata: known(nil)}, foreign, attestation.ErrIssuer, ""},
		"metadata: self, has roots":    {attestation.Policy{Metadata: known(nil)}, self, attestation.ErrNotAttested, "every key of this model has one"},
		"metadata: self, may":          {attestation.Policy{Metadata: known(func(m *attestation.Model) { m.SelfAttestation = true })}, self, nil, ""},
		"metadata: self, no roots":     {attestation.Policy{Metadata: known(func(m *attestation.Model) { m.Roots = nil })}, self, nil, ""},
		"metadata: none":               {attestation.Policy{Metadata: known(nil)}, none, nil, ""},

		"level: reached":     {attestation.Policy{Metadata: known(nil), MinimumLevel: attestation.L2}, basic, nil, ""},
		"level: surpassed":   {attestation.Policy{Metadata: known(nil), MinimumLevel: attestation.L1Plus}, basic, nil, ""},
		"level: too low":     {attestation.Policy{Metadata: known(nil), MinimumLevel: attestation.L2Plus}, basic, attestation.ErrLevel, "L2, not L2+"},
		"level: self":        {attestation.Policy{Metadata: known(func(m *attestation.Model) { m.SelfAttestation = true }), MinimumLevel: attestation.L1}, self, attestation.ErrNotAttested, "type self"},
		"level: unknown":     {attestation.Policy{Metadata: catalogue{}, Roots: pool(root), MinimumLevel: attestation.L1}, basic, attestation.ErrUnknownModel, "certification"},
		"level: no metadata": {attestation.Policy{Roots: pool(root), MinimumLevel: attestation.L1}, basic, attestation.ErrUnknownModel, "certification"},
		"level: to come": {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusFIDOCertifiedL3, From: evening}), MinimumLevel: attestation.L3},
			basic, attestation.ErrLevel, "L2, not L3"},
		"level: has ended": {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusFIDOCertifiedL3, Until: noon}), MinimumLevel: attestation.L3},
			basic, attestation.ErrLevel, "L2, not L3"},
		"level: taken back": {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusNotFIDOCertified, From: noon}), MinimumLevel: attestation.Certified},
			basic, attestation.ErrLevel, "not certified, not certified without a level"},

		"revoked":           {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusRevoked, From: morning})}, basic, attestation.ErrUnsafe, "REVOKED since 2020-01-01"},
		"revoked, no date":  {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusRevoked})}, none, attestation.ErrUnsafe, "unsafe: REVOKED"},
		"revoked tomorrow":  {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusRevoked, From: evening})}, basic, nil, ""},
		"update available":  {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusUpdateAvailable})}, basic, nil, ""},
		"unknown is not it": {attestation.Policy{Metadata: reported(attestation.Report{Status: "REVOKED?"})}, basic, nil, ""},
		"tolerated": {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusUserKeyPhysicalCompromise}), Tolerate: []attestation.Status{attestation.StatusUserKeyPhysicalCompromise}},
			basic, nil, ""},
		"other tolerated": {attestation.Policy{Metadata: reported(attestation.Report{Status: attestation.StatusRevoked}), Tolerate: []attestation.Status{attestation.StatusUserKeyPhysicalCompromise}},
			basic, attestation.ErrUnsafe, "REVOKED"},
	}
	for _, status := range []attestation.Status{
		attestation.StatusUserVerificationBypass, attestation.StatusAttestationKeyCompromise, attestation.StatusRetired,
		attestation.StatusUserKeyRemoteCompromise, attestation.StatusUserKeyPhysicalCompromise,
	} {
		test := tests["revoked"]
		test.policy.Metadata, test.says = reported(attestation.Report{Status: status, From: morning}), string(status)
		tests[string(status)] = test
	}
	reasons := []error{
		attestation.ErrNotAttested, attestation.ErrNotAllowed, attestation.ErrBlocked,
		attestation.ErrUnknownModel, attestation.ErrUnsafe, attestation.ErrLevel, attestation.ErrUntrusted,
	}
	for name, tt := range tests {
		if tt.policy.Time.IsZero() {
			tt.policy.Time = noon
		}
		err := tt.policy.Check(tt.of)
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var refusal *attestation.PolicyError
		if !errors.As(err, &refusal) || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
			continue
		}
		if text := err.Error(); !strings.Contains(text, tt.says) || strings.Count(text, "attestation: ") != 1 || refusal.AAGUID != tt.of.AAGUID {
			t.Errorf("%s: %v", name, err)
		}
		for _, reason := range reasons {
			if errors.Is(err, reason) != (reason == tt.want || errors.Is(tt.want, reason)) {
				t.Errorf("%s: %v is %v, too", name, err, reason)
			}
		}
	}
}

// What is not there does not pass.
func TestPolicyOfNothing(t *testing.T) {
	var refusal *attestation.PolicyError
	if err := (*attestation.Policy)(nil).Check(&attestation.Statement{AAGUID: model}); !errors.As(err, &refusal) ||
		refusal.AAGUID != model || !strings.HasSuffix(err.Error(), "refused: no Policy") {
		t.Errorf("no Policy: %v", err)
	}
	for _, p := range []*attestation.Policy{nil, {}} {
		if err := p.Check(nil); !errors.As(err, &refusal) || !strings.HasSuffix(err.Error(), "refused: no Statement") {
			t.Errorf("no Statement: %v", err)
		}
	}
}

// Without a time, the rules of today apply.
func TestPolicyNow(t *testing.T) {
	soon := catalogue{model: {Reports: []attestation.Report{{Status: attestation.StatusRevoked, From: time.Now().Add(time.Hour)}}}}
	since := catalogue{model: {Reports: []attestation.Report{{Status: attestation.StatusRevoked, From: time.Now().Add(-time.Hour)}}}}
	none := &attestation.Statement{AAGUID: model}
	if err := (&attestation.Policy{Metadata: soon}).Check(none); err != nil {
		t.Error(err)
	}
	if err := (&attestation.Policy{Metadata: since}).Check(none); !errors.Is(err, attestation.ErrUnsafe) {
		t.Error(err)
	}
}

func TestLevel(t *testing.T) {
	report := func(status attestation.Status, from time.Time) attestation.Report {
		return attestation.Report{Status: status, From: from}
	}
	for name, tt := range map[string]struct {
		reports []attestation.Report
		want    attestation.Level
	}{
		"no report":     {nil, attestation.NotCertified},
		"functional":    {[]attestation.Report{report(attestation.StatusFIDOCertified, morning)}, attestation.Certified},
		"self-made":     {[]attestation.Report{report(attestation.StatusSelfAssertionSubmitted, morning)}, attestation.NotCertified},
		"FIPS":          {[]attestation.Report{report(attestation.StatusFIPS140CertifiedL3, morning)}, attestation.NotCertified},
		"highest":       {[]attestation.Report{report(attestation.StatusFIDOCertifiedL3Plus, morning), report(attestation.StatusFIDOCertifiedL1, noon)}, attestation.L3Plus},
		"before":        {[]attestation.Report{report(attestation.StatusNotFIDOCertified, morning), report(attestation.StatusFIDOCertifiedL1, noon)}, attestation.L1},
		"in any order":  {[]attestation.Report{report(attestation.StatusNotFIDOCertified, noon), report(attestation.StatusFIDOCertifiedL1, morning)}, attestation.NotCertified},
		"without dates": {[]attestation.Report{report(attestation.StatusFIDOCertifiedL2Plus, time.Time{}), report(attestation.StatusNotFIDOCertified, time.Time{})}, attestation.NotCertified},
	} {
		m := &attestation.Model{Reports: tt.reports}
		if got := m.Level(noon); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	var names []string
	for l := attestation.NotCertified; l <= attestation.L3Plus+1; l++ {
		names = append(names, l.String())
	}
	if got, want := strings.Join(names, ", "), "not certified, certified without a level, L1, L1+, L2, L2+, L3, L3+, L3+"; got != want {
		t.Errorf("levels %s", got)
	}
}

// A policy says what it does not like, in words for a person, and as an error
// for the program.
func ExamplePolicy() {
	yours := ctap2.AAGUID{0x2f, 0xc0, 0x57, 0x9f, 0x81, 0x13, 0x47, 0xea, 0xb1, 0x16, 0xbb, 0x5a, 0x8d, 0xb9, 0x20, 0x2a}
	statement := &attestation.Statement{Type: attestation.None, AAGUID: yours} // as Verify returned it

	policy := &attestation.Policy{Required: true}
	err := policy.Check(statement)
	fmt.Println(err)
	fmt.Println(errors.Is(err, attestation.ErrNotAttested))

	policy = &attestation.Policy{Block: []ctap2.AAGUID{yours}}
	fmt.Println(policy.Check(statement))
	// Output:
	// attestation: model 2fc0579f-8113-47ea-b116-bb5a8db9202a refused: no certificate vouches for the key (attestation type none)
	// true
	// attestation: model 2fc0579f-8113-47ea-b116-bb5a8db9202a refused: the model is on the block list
}
