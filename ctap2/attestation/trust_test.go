package attestation_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/attestation"
)

// Each way in which a trust path fails has its error, and no other one's.
func TestTrust(t *testing.T) {
	self := (*issuer)(nil)
	root := self.issue(t, authority("Root"))
	between := root.issue(t, authority("Between"))
	signer := between.issue(t, leaf())

	lasting := func(template *x509.Certificate) *x509.Certificate {
		template.NotAfter = night
		return template
	}
	brief := func(template *x509.Certificate) *x509.Certificate {
		template.NotAfter = noon.Add(-time.Hour)
		return template
	}
	impostor := self.issue(t, authority("Root"))                // the name is the same
	stranger := self.issue(t, authority("Stranger"))            // nobody knows
	briefBetween := root.issue(t, brief(authority("Between")))  // which has expired before its leaf
	briefRoot := self.issue(t, brief(authority("Former root"))) // which has
	late := root.issue(t, lasting(leaf()))                      // outlives the root
	notCA := authority("Not an authority")
	notCA.IsCA = false
	notAuthority := root.issue(t, notCA)

	confined := authority("Confined")
	confined.PermittedDNSDomainsCritical = true
	confined.PermittedDNSDomains = []string{"example.com"}
	confinedCA := root.issue(t, confined)
	outside := leaf()
	outside.DNSNames = []string{"example.org"}
	inside := leaf()
	inside.DNSNames = []string{"key.example.com"}

	peculiar := leaf()
	peculiar.ExtraExtensions = append(peculiar.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
	odd := leaf() // with what TLS would stumble over
	odd.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	odd.ExtraExtensions = append(odd.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Value: []byte{5, 0}})

	tests := map[string]struct {
		chain []*issuer
		roots *x509.CertPool
		at    time.Time
		want  error // nil, or what the error is; nothing else
		says  string
	}{
		"through an intermediate": {[]*issuer{signer, between}, pool(root), noon, nil, ""},
		"root in the statement":   {[]*issuer{signer, between, root}, pool(root), noon, nil, ""},
		"out of order":            {[]*issuer{signer, root, between}, pool(root), noon, nil, ""},
		"several roots":           {[]*issuer{signer, between}, pool(stranger, impostor, root), noon, nil, ""},
		"intermediate as root":    {[]*issuer{signer}, pool(between), noon, nil, ""},
		"the leaf itself":         {[]*issuer{signer}, pool(signer), noon, nil, ""},
		"other key usage":         {[]*issuer{root.issue(t, odd)}, pool(root), noon, nil, ""},
		"inside its constraints":  {[]*issuer{confinedCA.issue(t, inside), confinedCA}, pool(root), noon, nil, ""},

		"expired":              {[]*issuer{signer, between}, pool(root), night, attestation.ErrExpired, "has expired"},
		"the leaf, expired":    {[]*issuer{signer}, pool(signer), night, attestation.ErrExpired, "has expired"},
		"not valid yet":        {[]*issuer{signer, between}, pool(root), morning.Add(-time.Hour), attestation.ErrExpired, "not yet valid"},
		"expired intermediate": {[]*issuer{briefBetween.issue(t, leaf()), briefBetween}, pool(root), noon, attestation.ErrExpired, "has expired"},
		"expired root":         {[]*issuer{briefRoot.issue(t, leaf())}, pool(briefRoot), noon, attestation.ErrExpired, "has expired"},
		"outlived root":        {[]*issuer{late}, pool(root), evening.Add(time.Hour), attestation.ErrExpired, "has expired"},

		"wrong issuer":           {[]*issuer{signer, between}, pool(stranger), noon, attestation.ErrIssuer, "unknown authority"},
		"issuer of that name":    {[]*issuer{impostor.issue(t, leaf())}, pool(root), noon, attestation.ErrIssuer, "verification failure"},
		"its own issuer":         {[]*issuer{self.issue(t, leaf())}, pool(root), noon, attestation.ErrIssuer, "unknown authority"},
		"no roots":               {[]*issuer{signer, between}, nil, noon, attestation.ErrIssuer, "unknown authority"},
		"without intermediate":   {[]*issuer{signer}, pool(root), noon, attestation.ErrIssuer, "unknown authority"},
		"expired, of a stranger": {[]*issuer{signer, between}, pool(stranger), night, attestation.ErrExpired, "has expired"},

		"other intermediate":      {[]*issuer{signer, stranger}, pool(root), noon, attestation.ErrChain, ""},
		"forged intermediate":     {[]*issuer{signer, impostor.issue(t, authority("Between"))}, pool(root), noon, attestation.ErrChain, ""},
		"intermediate is no CA":   {[]*issuer{notAuthority.issue(t, leaf()), notAuthority}, pool(root), noon, attestation.ErrChain, ""},
		"outside its constraints": {[]*issuer{confinedCA.issue(t, outside), confinedCA}, pool(root), noon, attestation.ErrUntrusted, "not permitted"},
		"unknown and critical":    {[]*issuer{root.issue(t, peculiar)}, pool(root), noon, attestation.ErrUntrusted, "unhandled critical extension"},
	}
	kinds := []error{attestation.ErrExpired, attestation.ErrChain, attestation.ErrIssuer}
	for name, tt := range tests {
		err := statement(t, tt.chain...).Trust(tt.roots, tt.at)
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, attestation.ErrUntrusted) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		for _, kind := range kinds {
			if errors.Is(err, kind) != (tt.want == kind) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
	}
}

// A chain with SHA-1 in it is no chain.
func TestTrustRefusesSHA1(t *testing.T) {
	root := (*issuer)(nil).issueFor(t, authority("Old root"), newRSAKey(t))
	child := leaf()
	if err := statement(t, root.issue(t, child)).Trust(pool(root), noon); err != nil {
		t.Error(err)
	}
	child.SignatureAlgorithm = x509.SHA1WithRSA
	err := statement(t, root.issue(t, child)).Trust(pool(root), noon)
	if !errors.Is(err, attestation.ErrUntrusted) || !strings.Contains(err.Error(), "insecure algorithm SHA1-RSA") {
		t.Error(err)
	}
}

// A stranger's RSA key does not get to ask for any amount of work.
func TestRSAKeys(t *testing.T) {
	root := (*issuer)(nil).issue(t, authority("Root"))
	for bits, want := range map[uint]bool{8192: true, 8193: false} {
		modulus := new(big.Int).Lsh(big.NewInt(1), bits-1)
		long := root.issueFor(t, authority("Long"), holder{&rsa.PublicKey{N: modulus.SetBit(modulus, 0, 1), E: 1<<31 - 1}})
		_, err := packed(root.issue(t, leaf()), long).verify(t)
		if (err == nil) != want || !want && (!errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), "RSA key of 8193 bits")) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

// A holder has a public key, and cannot sign with it.
type holder struct{ key crypto.PublicKey }

func (h holder) Public() crypto.PublicKey { return h.key }

func (holder) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// The zero time is now.
func TestTrustNow(t *testing.T) {
	template := authority("Root")
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	root := (*issuer)(nil).issue(t, template)
	child := leaf()
	child.NotBefore, child.NotAfter = template.NotBefore, template.NotAfter
	s := statement(t, root.issue(t, child))
	if err := s.Trust(pool(root), time.Time{}); err != nil {
		t.Error(err)
	}
	if err := s.Trust(pool(root), noon); !errors.Is(err, attestation.ErrExpired) {
		t.Errorf("years ago: %v", err)
	}
}
