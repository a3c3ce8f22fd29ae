package metadata

import (
	"bytes"
	"crypto/sha1" // for key identifiers, which are names
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

// A Blob is what the FIDO Alliance says about all models that it knows (MDS
// §3.1.6). It is shared: do not change it.
type Blob struct {
	LegalHeader string // the terms of use
	Number      uint64 // grows with each file
	NextUpdate  time.Time
	Entries     []*Entry
	// Faulty says which entries could not be read in full, and why. What could be
	// read is in Entries all the same, so that a report is not lost with the rest.
	Faulty []error

	byAAGUID        map[ctap2.AAGUID]*Entry
	byKeyIdentifier map[string]*Entry
}

func parsePayload(payload []byte) (*Blob, error) {
	var wire struct {
		LegalHeader string            `json:"legalHeader"`
		Number      *uint64           `json:"no"`
		NextUpdate  date              `json:"nextUpdate"`
		Entries     []json.RawMessage `json:"entries"`
	}
	if err := json.Unmarshal(payload, &wire); err != nil {
		return nil, err
	}
	switch {
	case wire.Number == nil:
		return nil, errors.New("no serial number (no)")
	case time.Time(wire.NextUpdate).IsZero():
		return nil, errors.New("no nextUpdate")
	case len(wire.Entries) > maxEntries:
		return nil, fmt.Errorf("%d entries", len(wire.Entries))
	}
	b := &Blob{
		LegalHeader:     wire.LegalHeader,
		Number:          *wire.Number,
		NextUpdate:      time.Time(wire.NextUpdate),
		byAAGUID:        make(map[ctap2.AAGUID]*Entry, len(wire.Entries)),
		byKeyIdentifier: make(map[string]*Entry),
	}
	for i, data := range wire.Entries {
		e := new(Entry)
		if err := json.Unmarshal(data, e); err != nil {
			b.Faulty = append(b.Faulty, fmt.Errorf("metadata: entry %d: %w", i, err))
		}
		b.Entries = append(b.Entries, e)
		if _, ok := b.byAAGUID[e.AAGUID]; !ok && e.AAGUID != (ctap2.AAGUID{}) {
			b.byAAGUID[e.AAGUID] = e
		}
		for _, id := range e.AttestationCertificateKeyIdentifiers {
			id = strings.ToLower(id)
			if _, ok := b.byKeyIdentifier[id]; !ok {
				b.byKeyIdentifier[id] = e
			}
		}
	}
	return b, nil
}

// ByAAGUID returns the entry of a model, and nil if there is none, as for the
// zero AAGUID of U2F keys.
func (b *Blob) ByAAGUID(aaguid ctap2.AAGUID) *Entry { return b.byAAGUID[aaguid] }

// ByCertificate returns the entry that names the key of an attestation
// certificate (attestationCertificateKeyIdentifiers), as those of U2F keys do, and
// nil if there is none.
func (b *Blob) ByCertificate(certificate *x509.Certificate) *Entry {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(certificate.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil // of a certificate made by hand
	}
	id := sha1.Sum(info.Key.Bytes) // RFC 5280 §4.2.1.2, method 1
	return b.byKeyIdentifier[hex.EncodeToString(id[:])]
}

// Model implements [attestation.Metadata]. It looks for the AAGUID and for the key
// of the certificate; if there is an entry for each, as keys have that speak U2F
// besides, the model is the AAGUID's, with what the other one reports but for its
// own certification. Without an AAGUID the keys of the issuers will do, as far as
// each certificate is signed by the next. What is behind that is anybody's.
func (b *Blob) Model(s *attestation.Statement) *attestation.Model {
	if s.AAGUID == (ctap2.AAGUID{}) {
		for i, certificate := range s.Certificates {
			if i > 0 && s.Certificates[i-1].CheckSignatureFrom(certificate) != nil {
				break
			}
			if e := b.ByCertificate(certificate); e != nil {
				return e.model(s)
			}
		}
		return nil
	}
	e, u2f := b.ByAAGUID(s.AAGUID), (*Entry)(nil)
	if len(s.Certificates) > 0 {
		u2f = b.ByCertificate(s.Certificates[0]) // no further: an issuer may have other models
	}
	switch {
	case e == nil && u2f == nil:
		return nil
	case e == nil:
		return u2f.model(s)
	}
	m := e.model(s)
	if u2f != nil && u2f != e {
		m.Reports = append(m.Reports, slices.DeleteFunc(u2f.model(s).Reports, func(r attestation.Report) bool {
			return strings.Contains(string(r.Status), "CERTIFIED")
		})...)
	}
	return m
}

// model is what the entry says about a statement's model.
func (e *Entry) model(s *attestation.Statement) *attestation.Model {
	m := new(attestation.Model)
	if st := e.MetadataStatement; st != nil {
		m.Description = st.Description
		m.SelfAttestation = slices.Contains(st.AttestationTypes, AttestationBasicSurrogate)
		if len(st.AttestationRootCertificates) > 0 {
			m.Roots = x509.NewCertPool() // which stays empty if none of them can be read
		}
		for _, der := range st.AttestationRootCertificates {
			if root, err := x509.ParseCertificate(der); err == nil {
				m.Roots.AddCert(root)
			}
		}
	}
	for _, r := range e.StatusReports {
		if r.concerns(s.Certificates) {
			m.Reports = append(m.Reports, attestation.Report{Status: r.Status, From: r.EffectiveDate, Until: r.SunsetDate})
		}
	}
	return m
}

// concerns reports whether a report is about keys with that trust path. A
// compromised attestation key may be that of one batch of keys alone: then the
// report names its certificate, or that of its issuer (MDS §3.1.3). It is known by
// its key: who has that can write the same certificate in other bytes, with another
// signature of its issuer's that is as good (ECDSA's n-s for s).
func (r *StatusReport) concerns(path []*x509.Certificate) bool {
	named := [][]byte{r.BatchCertificate, r.Certificate}
	named = slices.DeleteFunc(named, func(der []byte) bool { return len(der) == 0 })
	if r.Status != attestation.StatusAttestationKeyCompromise || len(named) == 0 {
		return true
	}
	for _, der := range named {
		batch, err := x509.ParseCertificate(der)
		if err != nil {
			return true // to be on the safe side
		}
		for _, c := range path {
			if bytes.Equal(c.RawSubjectPublicKeyInfo, batch.RawSubjectPublicKeyInfo) || c.CheckSignatureFrom(batch) == nil {
				return true
			}
		}
	}
	return false
}
