package attestation_test

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

//go:embed testdata/published.json
var published []byte

// Registrations of real keys, with the roots of their makers.
func TestPublished(t *testing.T) {
	var file struct {
		Cases []struct {
			Name, Source, Type, AAGUID        string // AAGUID: in a certificate of a U2F key
			Root                              []byte
			ClientDataJSON, AttestationObject string
		}
	}
	if err := json.Unmarshal(published, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 7 {
		t.Errorf("%d cases", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			object, err := base64.RawURLEncoding.DecodeString(c.AttestationObject)
			if err != nil {
				t.Fatal(err)
			}
			clientData, err := base64.RawURLEncoding.DecodeString(c.ClientDataJSON)
			if err != nil {
				t.Fatal(err)
			}
			hash := sha256.Sum256(clientData)
			made, err := attestation.ParseObject(object)
			if err != nil {
				t.Fatal(err)
			}
			s, err := attestation.Verify(made, hash[:])
			if err != nil {
				t.Fatal(err)
			}
			if s.Type.String() != c.Type {
				t.Errorf("attestation type %v", s.Type)
			}
			if s.Type != attestation.Basic {
				return
			}
			want := made.AuthData.AAGUID.String()
			if made.Format == "fido-u2f" {
				want = cmp.Or(c.AAGUID, ctap2.AAGUID{}.String())
			}
			if s.AAGUID.String() != want {
				t.Errorf("model %v, want %s", s.AAGUID, want)
			}
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			if c.Root == nil {
				if err := s.Trust(x509.NewCertPool(), at); !errors.Is(err, attestation.ErrIssuer) {
					t.Error(err)
				}
				return
			}
			root, err := x509.ParseCertificate(c.Root)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(root)
			if err := s.Trust(roots, at); err != nil {
				t.Error(err)
			}
			if err := s.Trust(roots, at.AddDate(100, 0, 0)); !errors.Is(err, attestation.ErrExpired) {
				t.Errorf("a hundred years later: %v", err)
			}
			made.AuthData.AAGUID[0] ^= 1
			made.AuthData.RPIDHash[0] ^= 1 // of U2F, which does not sign the AAGUID
			made.AuthData.Raw[0] ^= 1
			if _, err := attestation.Verify(made, hash[:]); !errors.Is(err, attestation.ErrInvalid) {
				t.Errorf("for another relying party: %v", err)
			}
		})
	}
}
