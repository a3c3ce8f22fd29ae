package attestation_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

// What §8.2.1 and §8.2.2 demand of the certificate.
func TestPackedCertificate(t *testing.T) {
	root := (*issuer)(nil).issue(t, authority("Root"))
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		says   string // "" if it verifies
	}{
		"as it should be": {func(*x509.Certificate) {}, ""},
		"no AAGUID":       {func(c *x509.Certificate) { c.ExtraExtensions = nil }, ""},
		"serial number": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, octets(oidSerial, []byte("0001")))
		}, ""},
		"no country":                {func(c *x509.Certificate) { c.Subject.Country = nil }, "country"},
		"country in words":          {func(c *x509.Certificate) { c.Subject.Country = []string{"Sweden"} }, "country"},
		"two countries":             {func(c *x509.Certificate) { c.Subject.Country = []string{"SE", "FI"} }, "country"},
		"no organization":           {func(c *x509.Certificate) { c.Subject.Organization = nil }, "organization"},
		"no common name":            {func(c *x509.Certificate) { c.Subject.CommonName = "" }, "common name"},
		"no organizational unit":    {func(c *x509.Certificate) { c.Subject.OrganizationalUnit = nil }, "Authenticator Attestation"},
		"other organizational unit": {func(c *x509.Certificate) { c.Subject.OrganizationalUnit[0] = "authenticator attestation" }, "Authenticator Attestation"},
		"authority":                 {func(c *x509.Certificate) { c.IsCA = true }, "may sign"},
		"no basic constraints":      {func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "may sign"},
		"other AAGUID": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = octets(oidAAGUID, bytes.Repeat([]byte{7}, 16))
		}, "another AAGUID: 07070707"},
		"long AAGUID": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = octets(oidAAGUID, append(model[:], 0))
		}, "another AAGUID"},
		"no octets in AAGUID": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = octets(oidAAGUID, nil)
		}, "another AAGUID"},
		"AAGUID not in an octet string": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = pkix.Extension{Id: oidAAGUID, Value: model[:]}
		}, "AAGUID: extension is not an octet string"},
		"AAGUID with a tail": {func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = append(c.ExtraExtensions[0].Value, 0)
		}, "AAGUID: extension is not an octet string"},
		"critical AAGUID": {func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }, "AAGUID: extension is critical"},
		"malformed serial number": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidSerial, Value: []byte{1}})
		}, "serial number of the key: extension is not an octet string"},
	} {
		template := leaf()
		tt.change(template)
		s, err := packed(root.issue(t, template)).verify(t)
		if tt.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if s.Type != attestation.Basic || s.AAGUID != model || len(s.Certificates) != 1 || (s.SerialNumber != nil) != (name == "serial number") {
				t.Errorf("%s: %+v", name, s)
			}
			continue
		}
		if !errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, attestation.ErrAAGUID) != strings.Contains(tt.says, "another AAGUID") {
			t.Errorf("%s: ErrAAGUID or not: %v", name, err)
		}
	}

	old := root.issue(t, leaf())
	old.Certificate = firstVersion(t, old.Certificate, root)
	if _, err := packed(old).verify(t); !errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("version 1: %v", err)
	}
}

// firstVersion returns a certificate as X.509 was before it had extensions.
func firstVersion(t *testing.T, c *x509.Certificate, by *issuer) *x509.Certificate {
	t.Helper()
	type body struct {
		Version                                      int `asn1:"optional,explicit,default:0,tag:0"`
		SerialNumber                                 *big.Int
		Algorithm                                    pkix.AlgorithmIdentifier
		Issuer, Validity, Subject, SubjectsPublicKey asn1.RawValue
		Extensions                                   []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
	}
	var b body
	if _, err := asn1.Unmarshal(c.RawTBSCertificate, &b); err != nil {
		t.Fatal(err)
	}
	b.Version, b.Extensions = 0, nil
	der, err := asn1.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(der)
	signature, err := by.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: der}, b.Algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}); err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// Formats mean what they are: a statement of one is not one of another, and the
// AAGUID that a U2F statement does not sign is not believed, but the one in its
// certificate is.
func TestFIDOU2F(t *testing.T) {
	root := (*issuer)(nil).issue(t, authority("Root"))
	batch := root.issue(t, &x509.Certificate{SerialNumber: leaf().SerialNumber, Subject: pkix.Name{CommonName: "U2F"}, NotBefore: morning, NotAfter: evening})
	u2f := packed(batch)
	u2f.format = "fido-u2f"
	s, err := u2f.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if s.Type != attestation.Basic || s.AAGUID != (ctap2.AAGUID{}) {
		t.Errorf("%+v", s)
	}
	if err := s.Trust(pool(root), noon); err != nil {
		t.Error(err)
	}
	// The model is the one that the maker says it is.
	u2f = packed(root.issue(t, leaf()))
	u2f.format, u2f.aaguid = "fido-u2f", ctap2.AAGUID{1}
	if s, err := u2f.verify(t); err != nil || s.AAGUID != model {
		t.Errorf("%+v, %v", s, err)
	}
	certified := func(e pkix.Extension) func(*attested) {
		return func(a *attested) {
			template := leaf()
			template.ExtraExtensions[0] = e
			c := root.issue(t, template)
			a.path, a.signer = []*x509.Certificate{c.Certificate}, c.key
		}
	}
	for name, change := range map[string]func(a *attested){
		"short AAGUID":     certified(octets(oidAAGUID, model[1:])),
		"long AAGUID":      certified(octets(oidAAGUID, append(model[:], 0))),
		"no octets":        certified(octets(oidAAGUID, nil)),
		"AAGUID bare":      certified(pkix.Extension{Id: oidAAGUID, Value: model[:]}),
		"critical AAGUID":  certified(pkix.Extension{Id: oidAAGUID, Value: octets(oidAAGUID, model[:]).Value, Critical: true}),
		"two certificates": func(a *attested) { a.path = append(a.path, root.Certificate) },
		"no certificate":   func(a *attested) { a.path = nil },
		"null certificate": func(a *attested) { a.content = map[string]any{"x5c": nil} },
		"RSA key":          func(a *attested) { a.signer = newRSAKey(t) },
		"other signer":     func(a *attested) { a.signer = newKey(t) },
		"packed signature": func(a *attested) { a.format = "packed" },
	} {
		a := u2f
		change(&a)
		if _, err := a.verify(t); !errors.Is(err, attestation.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
