package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
)

// Extensions of attestation certificates (§8.2.1, §8.2.2).
var (
	aaguidExtension       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4} // id-fido-gen-ce-aaguid
	serialNumberExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 2} // id-fido-gen-ce-sernum
)

// verifyPacked is §8.2.
func verifyPacked(r *registration) (*Statement, error) {
	st, err := parseStatement(r.statement)
	if err != nil {
		return nil, err
	}
	alg := cose.Algorithm(st.algorithm)
	switch {
	case int64(alg) != st.algorithm:
		return nil, fmt.Errorf("algorithm %d", st.algorithm)
	case alg == cose.RS1: // which package cose verifies for TPMs
		return nil, errors.New("signed with SHA-1")
	}
	signed := slices.Concat(r.data.Raw, r.clientDataHash)
	if !st.hasX5C {
		if key := r.data.PublicKey; alg != key.Algorithm {
			return nil, fmt.Errorf("self attestation by %v, the credential's key is for %v", alg, key.Algorithm)
		}
		return &Statement{Type: Self, AAGUID: r.data.AAGUID}, r.data.PublicKey.Verify(signed, st.signature)
	}
	leaf := st.chain[0]
	if err := cose.Verify(alg, leaf.PublicKey, signed, st.signature); err != nil {
		return nil, err
	}
	if err := checkPackedCertificate(leaf); err != nil {
		return nil, err
	}
	aaguid, err := octetStringExtension(leaf, aaguidExtension)
	if err != nil {
		return nil, fmt.Errorf("certificate's AAGUID: %w", err)
	}
	if aaguid != nil && !bytes.Equal(aaguid, r.data.AAGUID[:]) {
		return nil, fmt.Errorf("%w: %x, the authenticator data say %v", ErrAAGUID, aaguid[:min(len(aaguid), len(r.data.AAGUID))], r.data.AAGUID)
	}
	serialNumber, err := octetStringExtension(leaf, serialNumberExtension)
	if err != nil {
		return nil, fmt.Errorf("certificate's serial number of the key: %w", err)
	}
	return &Statement{Type: Basic, AAGUID: r.data.AAGUID, Certificates: st.chain, SerialNumber: serialNumber}, nil
}

// checkPackedCertificate is §8.2.1, without the AAGUID.
func checkPackedCertificate(c *x509.Certificate) error {
	subject := c.Subject
	switch {
	case c.Version != 3:
		return fmt.Errorf("certificate of version %d", c.Version)
	case len(subject.Country) != 1 || len(subject.Country[0]) != 2:
		return errors.New("certificate subject without a country's code of two letters")
	case len(subject.Organization) != 1 || subject.CommonName == "":
		return errors.New("certificate subject without organization or common name")
	case !slices.Equal(subject.OrganizationalUnit, []string{"Authenticator Attestation"}):
		return errors.New(`certificate is not for "Authenticator Attestation"`)
	case !c.BasicConstraintsValid || c.IsCA:
		return errors.New("certificate may sign others")
	}
	return nil
}

// octetStringExtension returns the octet string that an extension holds, which
// must not be critical, and nil if there is no such extension. There are not two:
// crypto/x509 refuses that.
func octetStringExtension(c *x509.Certificate, id asn1.ObjectIdentifier) ([]byte, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(id) {
			continue
		}
		value := []byte{}
		if rest, err := asn1.Unmarshal(e.Value, &value); err != nil || len(rest) > 0 {
			return nil, errors.New("extension is not an octet string")
		}
		if e.Critical {
			return nil, errors.New("extension is critical")
		}
		return value, nil
	}
	return nil, nil
}
