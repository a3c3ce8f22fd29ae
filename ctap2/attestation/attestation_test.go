package attestation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/ed448"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/vectors"
)

// The registrations of the WebAuthn vectors, trust path included.
func TestWebAuthnVectors(t *testing.T) {
	root, err := x509.ParseCertificate(vectors.WebAuthnRoot().Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	types := make(map[attestation.Type]int)
	formats := make(map[string]int)
	for _, c := range vectors.WebAuthn() {
		t.Run(c.Name, func(t *testing.T) {
			made, err := attestation.ParseObject(c.Registration.AttestationObject)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(made.ID, c.Registration.CredentialID) || !bytes.Equal(made.AuthData.AAGUID[:], c.Registration.AAGUID) {
				t.Errorf("credential %x of model %v", made.ID, made.AuthData.AAGUID)
			}
			formats[made.Format]++
			hash := sha256.Sum256(c.Registration.ClientDataJSON)
			s, err := attestation.Verify(made, hash[:])
			if made.Format != "packed" && made.Format != "none" && made.Format != "fido-u2f" {
				if !errors.Is(err, attestation.ErrFormat) || !strings.Contains(err.Error(), made.Format) {
					t.Errorf("%s: %v", made.Format, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			types[s.Type]++
			if signs := made.Format != "fido-u2f"; signs != (s.AAGUID == made.AuthData.AAGUID) || !signs && s.AAGUID != (ctap2.AAGUID{}) {
				t.Errorf("statement for model %v", s.AAGUID)
			}
			if err := s.Trust(roots, time.Time{}); (err == nil) != (s.Type == attestation.Basic) || err != nil && !errors.Is(err, attestation.ErrUntrusted) {
				t.Errorf("%v: %v", s.Type, err)
			}
			if err := s.Trust(x509.NewCertPool(), time.Time{}); !errors.Is(err, attestation.ErrUntrusted) {
				t.Errorf("trusted without a root: %v", err)
			}
			if made.Format != "none" {
				hash[0] ^= 1
				if _, err := attestation.Verify(made, hash[:]); !errors.Is(err, attestation.ErrInvalid) || !errors.Is(err, cose.ErrSignature) {
					t.Errorf("other client data: %v", err)
				}
			}
		})
	}
	for _, want := range []attestation.Type{attestation.None, attestation.Self, attestation.Basic} {
		if types[want] == 0 {
			t.Errorf("no vector of type %v", want)
		}
	}
	for _, want := range []string{"packed", "fido-u2f", "none", "tpm", "android-key", "apple"} {
		if formats[want] == 0 {
			t.Errorf("no vector of format %s", want)
		}
	}
}

// register registers with a software key of the given attestation.
func register(t *testing.T, kind virtual.Attestation) (*ctap2.Credential, *virtual.Authenticator, []byte) {
	t.Helper()
	soft, err := virtual.New(virtual.Config{Attestation: kind})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), soft)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	hash := sha256.Sum256([]byte("client data"))
	made, err := key.MakeCredential(t.Context(), &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:], RP: ctap2.RelyingParty{ID: "example.com"}, User: ctap2.User{ID: []byte{1}},
		Algorithms: []cose.Algorithm{cose.ES256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made, soft, hash[:]
}

func TestStatements(t *testing.T) {
	basic, soft, hash := register(t, virtual.AttestationBasic)
	self, _, _ := register(t, virtual.AttestationSelf)
	for kind, want := range map[virtual.Attestation]attestation.Type{
		virtual.AttestationBasic: attestation.Basic, virtual.AttestationSelf: attestation.Self, virtual.AttestationNone: attestation.None,
	} {
		made, _, hash := register(t, kind)
		s, err := attestation.Verify(made, hash)
		if err != nil || s.Type != want {
			t.Errorf("%v: %v", want, err)
		}
	}
	s, err := attestation.Verify(basic, hash)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(soft.AttestationRoot())
	if err := s.Trust(roots, time.Time{}); err != nil {
		t.Error(err)
	}

	type statement map[string]any
	read := func(c *ctap2.Credential) (m statement) {
		if err := cbor.Unmarshal(c.AttestationStatement, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, tt := range map[string]struct {
		of     *ctap2.Credential
		change func(*ctap2.Credential, statement)
		says   string
	}{
		"format unknown":         {self, func(c *ctap2.Credential, _ statement) { c.Format = "tpm" }, "tpm"},
		"none, not empty":        {self, func(c *ctap2.Credential, _ statement) { c.Format = "none" }, "not empty"},
		"self, other algorithm":  {self, func(_ *ctap2.Credential, m statement) { m["alg"] = -8 }, "EdDSA"},
		"algorithm out of range": {self, func(_ *ctap2.Credential, m statement) { m["alg"] = int64(-1 << 40) }, "algorithm"},
		"self, no signature":     {self, func(_ *ctap2.Credential, m statement) { delete(m, "sig") }, "signature"},
		"signature is text":      {self, func(_ *ctap2.Credential, m statement) { m["sig"] = "x" }, "sig"},
		"signature is a list":    {self, func(_ *ctap2.Credential, m statement) { m["sig"] = numbers(m["sig"].([]byte)) }, "sig"},
		"signature is missing":   {basic, func(_ *ctap2.Credential, m statement) { delete(m, "sig") }, "signature"},
		"certificates are null":  {basic, func(_ *ctap2.Credential, m statement) { m["x5c"] = nil }, "x5c"},
		"certificates are text":  {basic, func(_ *ctap2.Credential, m statement) { m["x5c"] = []string{"x"} }, "x5c"},
		"certificate is a list": {basic, func(_ *ctap2.Credential, m statement) {
			m["x5c"] = [][]int{numbers(soft.AttestationRoot().Raw)}
		}, "x5c"},
		"nine certificates": {basic, func(_ *ctap2.Credential, m statement) {
			m["x5c"] = slices.Repeat([][]byte{soft.AttestationRoot().Raw}, 9)
		}, "x5c of 9"},
		"SHA-1":                  {self, func(_ *ctap2.Credential, m statement) { m["alg"] = cose.RS1 }, "SHA-1"},
		"no certificates":        {basic, func(_ *ctap2.Credential, m statement) { m["x5c"] = [][]byte{} }, "x5c"},
		"not a certificate":      {basic, func(_ *ctap2.Credential, m statement) { m["x5c"] = [][]byte{{1, 2, 3}} }, "x509"},
		"the root's certificate": {basic, func(_ *ctap2.Credential, m statement) { m["x5c"] = [][]byte{soft.AttestationRoot().Raw} }, "signature"},
		"another model": {basic, func(c *ctap2.Credential, _ statement) {
			data := *c.AuthData
			data.AAGUID[0] ^= 1
			c.AuthData = &data
		}, "AAGUID"},
	} {
		c := *tt.of
		m := read(&c)
		tt.change(&c, m)
		var err error
		if c.AttestationStatement, err = cbor.Marshal(m); err != nil {
			t.Fatal(err)
		}
		_, err = attestation.Verify(&c, hash)
		if !errors.Is(err, attestation.ErrInvalid) && !errors.Is(err, attestation.ErrFormat) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := *self
	c.AttestationStatement = bytes.Repeat([]byte{0xff}, 3)
	if _, err := attestation.Verify(&c, hash); !errors.Is(err, attestation.ErrInvalid) {
		t.Errorf("not CBOR: %v", err)
	}
	if _, err := attestation.Verify(nil, hash); !errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), "no credential") {
		t.Errorf("no credential: %v", err)
	}
}

func Example() {
	key, err := virtual.New(virtual.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	clientDataHash := sha256.Sum256([]byte("client data"))
	hash := clientDataHash[:]
	authenticator, err := ctap2.Open(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer authenticator.Close()
	made, err := authenticator.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: hash,
		RP:             ctap2.RelyingParty{ID: "example.com"},
		User:           ctap2.User{ID: []byte{1}},
		Algorithms:     []cose.Algorithm{cose.ES256},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	statement, err := attestation.Verify(made, hash)
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := x509.NewCertPool()
	roots.AddCert(key.AttestationRoot()) // of the maker of the key
	fmt.Println(statement.Type, statement.Trust(roots, time.Now()))
	// Output: basic <nil>
}
