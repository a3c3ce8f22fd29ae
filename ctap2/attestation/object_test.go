package attestation_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/vectors"
)

// What MakeCredential returned and what a relying party reads from its
// attestation object are verified alike.
func TestParseObject(t *testing.T) {
	made, _, hash := register(t, virtual.AttestationBasic)
	object, err := made.AttestationObject()
	if err != nil {
		t.Fatal(err)
	}
	read, err := attestation.ParseObject(object)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read.ID, made.ID) || read.Format != made.Format || !bytes.Equal(read.AttestationStatement, made.AttestationStatement) ||
		!bytes.Equal(read.AuthData.Raw, made.AuthData.Raw) || read.PublicKey == nil {
		t.Errorf("%+v, want %+v", read, made)
	}
	if again, err := read.AttestationObject(); err != nil || !bytes.Equal(again, object) {
		t.Errorf("%x, %v", again, err)
	}
	if _, err := attestation.Verify(read, hash); err != nil {
		t.Error(err)
	}

	encode := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	empty := map[string]any{}
	assertion := slices.Clone(made.AuthData.Raw[:37])
	assertion[32] &^= byte(ctap2.FlagAttestedCredentialData)
	for name, tt := range map[string]struct {
		object []byte
		says   string
	}{
		"empty":                    {nil, "attestation object"},
		"not a map":                {encode([]int{1}), "attestation object"},
		"behind it":                {append(slices.Clone(object), 0), "attestation object"},
		"cut short":                {object[:len(object)-1], "attestation object"},
		"fmt twice":                {slices.Concat([]byte{0xA4}, object[1:], encode("fmt"), encode("none")), "attestation object"},
		"no fmt":                   {encode(map[string]any{"attStmt": empty, "authData": made.AuthData.Raw}), "without fmt"},
		"fmt is null":              {encode(map[string]any{"fmt": nil, "attStmt": empty, "authData": made.AuthData.Raw}), "without fmt"},
		"fmt in capitals":          {encode(map[string]any{"FMT": "none", "attStmt": empty, "authData": made.AuthData.Raw}), "without fmt"},
		"no attStmt":               {encode(map[string]any{"fmt": "none", "authData": made.AuthData.Raw}), "without attStmt"},
		"attStmt is null":          {encode(map[string]any{"fmt": "none", "attStmt": nil, "authData": made.AuthData.Raw}), "without attStmt"},
		"attStmt is a list":        {encode(map[string]any{"fmt": "none", "attStmt": []int{}, "authData": made.AuthData.Raw}), "without attStmt"},
		"authData is a list":       {encode(map[string]any{"fmt": "none", "attStmt": empty, "authData": numbers(made.AuthData.Raw)}), "authData"},
		"no authData":              {encode(map[string]any{"fmt": "none", "attStmt": empty}), "authenticator data of 0 bytes"},
		"authData of an assertion": {encode(map[string]any{"fmt": "none", "attStmt": empty, "authData": assertion}), "without a credential"},
	} {
		_, err := attestation.ParseObject(tt.object)
		if !errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for length, want := range map[int]bool{1023: true, 1024: false} {
		object, _ := attested{format: "none", id: make([]byte, length)}.object(t)
		_, err := attestation.ParseObject(object)
		if (err == nil) != want || !want && (!errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), "credential ID of 1024 bytes")) {
			t.Errorf("credential ID of %d bytes: %v", length, err)
		}
	}
	for name, c := range map[string]*ctap2.Credential{
		"no authenticator data": {Format: "none", AttestationStatement: []byte{0xA0}},
		"no public key":         {Format: "none", AttestationStatement: []byte{0xA0}, AuthData: &ctap2.AuthenticatorData{}},
	} {
		if _, err := attestation.Verify(c, hash); !errors.Is(err, attestation.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attestation.Verify(read, hash[:31]); !errors.Is(err, attestation.ErrInvalid) || !strings.Contains(err.Error(), "31 bytes") {
		t.Error(err)
	}
	read.Format = strings.Repeat("x", 1000)
	if _, err := attestation.Verify(read, hash); !errors.Is(err, attestation.ErrFormat) || len(err.Error()) > 100 {
		t.Error(err)
	}
}

// Nothing that is sent as an attestation object brings a relying party down.
func FuzzParseObject(f *testing.F) {
	for _, c := range vectors.WebAuthn() {
		f.Add([]byte(c.Registration.AttestationObject))
	}
	hash := make([]byte, 32)
	f.Fuzz(func(t *testing.T, object []byte) {
		made, err := attestation.ParseObject(object)
		if err != nil {
			if !errors.Is(err, attestation.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		s, err := attestation.Verify(made, hash)
		switch {
		case err == nil:
			_ = (&attestation.Policy{Required: true}).Check(s)
			_ = s.Trust(nil, noon)
		case !errors.Is(err, attestation.ErrInvalid) && !errors.Is(err, attestation.ErrFormat):
			t.Error(err)
		}
	})
}
