package webauthn_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/internal/vectors"
)

// The salts are those of the specification's vectors, on every key that makes
// of them what the vectors say: package ctap2 tests the rest.
func TestPRFVectors(t *testing.T) {
	v := vectors.PRF()
	for _, c := range []vectors.PRFCase{v.ProtocolOneOneSalt, v.ProtocolTwoOneSalt, v.ProtocolTwoTwoSalts} {
		values := webauthn.PRFValues{First: webauthn.Base64URL(c.EvalFirst), Second: webauthn.Base64URL(c.EvalSecond)}
		want := [][]byte{c.Salt1}
		if c.Salt2 != nil {
			want = append(want, c.Salt2)
		}
		if got := webauthn.Salts(&values); !slices.EqualFunc(got, want, slices.Equal[[]byte]) {
			t.Errorf("salts %x, want %x", got, want)
		}
	}
}

// secret returns one of the results of prf, as the site reads them.
func secret(t testing.TB, results map[string]any, name string) string {
	t.Helper()
	prf, _ := results["prf"].(map[string]any)
	values, _ := prf["results"].(map[string]any)
	s, _ := values[name].(string)
	if len(decode(t, s)) != 32 {
		t.Fatalf("%s is %q of %v", name, s, results)
	}
	return s
}

func TestPRF(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"2.3":         {PIN: testPIN},
		"2.1":         {PIN: testPIN, Level: virtual.CTAP21},
		"2.0":         {PIN: testPIN, Level: virtual.CTAP20},
		"fingerprint": {BuiltInUV: virtual.UVConfigured},
	} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			evaluates := config.Level == 0 // hmac-secret-mc
			eval := `{"extensions": {"prf": {"eval": {"first": "Zmlyc3Q", "second": ""}}}}`
			a := d.mustCreate(eval, `{"authenticatorSelection": {"userVerification": "discouraged"}}`)
			if !evaluates {
				if got := asJSON(t, a.results); got != `{"prf":{"enabled":true}}` {
					t.Error(got)
				}
			} else if !a.authData.Flags.Has(ctap2.FlagUserVerified) {
				t.Error("evaluated without verification")
			}
			list := allow("allowCredentials", a.response.ID)
			_, results := d.mustGet(list, eval, `{"userVerification": "discouraged"}`)
			first, second := secret(t, results, "first"), secret(t, results, "second")
			if first == second || evaluates && (first != secret(t, a.results, "first") || second != secret(t, a.results, "second")) {
				t.Errorf("results %v, at first %v", results, a.results)
			}
			_, results = d.mustGet(list, `{"extensions": {"prf": {"eval": {"first": ""}}}}`)
			if secret(t, results, "first") != second {
				t.Errorf("another result of the same input: %v", results)
			}
			if !a.authData.Flags.Has(ctap2.FlagUserVerified) {
				t.Error("evaluated without verification")
			}

			// What a native program gets of the hashed salt is the same.
			salt := sha256.Sum256([]byte("WebAuthn PRF\x00first"))
			for _, salts := range []webauthn.HMACSecretSalts{{Salt1: salt[:]}, {Salt1: salt[:], Salt2: salt[:]}} {
				response, err := d.getSecrets(a.response.ID, &salts)
				if err != nil {
					t.Fatal(err)
				}
				out, second := response.ClientExtensionResults.HMACGetSecret, ""
				if salts.Salt2 != nil {
					second = first
				}
				if encode(out.Output1.Bytes()) != first || encode(out.Output2.Bytes()) != second {
					t.Errorf("hmacGetSecret with %d bytes of a second salt: other secrets", len(salts.Salt2))
				}
				for _, show := range []func() ([]byte, error){response.MarshalJSON, response.JSONWithSecrets} {
					if data, err := show(); err != nil || !strings.Contains(string(data), `"clientExtensionResults":{}`) {
						t.Errorf("in the JSON for the site: %s %v", data, err)
					}
				}
			}
		})
	}
}

// Where nothing is to be evaluated, or the user cannot be verified, nothing is.
func TestPRFWithoutResults(t *testing.T) {
	d := sit(t, virtual.Config{})
	a := d.mustCreate(`{"extensions": {"prf": {"eval": {"first": "AAAA"}}, "hmacCreateSecret": true}}`)
	if got := asJSON(t, a.results); got != `{"hmacCreateSecret":true,"prf":{"enabled":true}}` {
		t.Error(got)
	}
	list := allow("allowCredentials", a.response.ID)
	for _, in := range []string{`{}`, `{"eval": {"first": "AAAA"}}`, `{"evalByCredential": {}}`} {
		if _, results := d.mustGet(list, `{"extensions": {"prf": `+in+`}}`); asJSON(t, results) != `{"prf":{}}` {
			t.Errorf("%s: %v", in, results)
		}
	}
	poor := sit(t, virtual.Config{Extensions: []string{}})
	a = poor.mustCreate(`{"extensions": {"prf": {}, "hmacCreateSecret": true}}`)
	if got := asJSON(t, a.results); got != `{"hmacCreateSecret":false,"prf":{"enabled":false}}` {
		t.Error(got)
	}
}

// The values for the credential that will sign, which has to be found out
// first.
func TestPRFByCredential(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	other := sit(t, virtual.Config{PIN: testPIN})
	wish := `{"extensions": {"prf": {}, "credentialProtectionPolicy": %q}}`
	for _, policy := range []string{"userVerificationOptional", "userVerificationRequired"} {
		a, foreign := d.mustCreate(fmt.Sprintf(wish, policy)), other.mustCreate(fmt.Sprintf(wish, policy))
		own, elsewhere := a.response.ID, foreign.response.ID
		_, results := d.mustGet(allow("allowCredentials", own), `{"extensions": {"prf": {"eval": {"first": "AAAA", "second": "BBBB"}}}}`)
		first, second := secret(t, results, "first"), secret(t, results, "second")
		for _, tt := range []struct {
			list, prf, want string
		}{
			{allow("allowCredentials", own), fmt.Sprintf(`{"evalByCredential": {%q: {"first": "AAAA"}}}`, own), first},
			{allow("allowCredentials", own, elsewhere), fmt.Sprintf(`{"evalByCredential": {%q: {"first": "AAAA"}}}`, own), first},
			{allow("allowCredentials", elsewhere, own), fmt.Sprintf(`{"evalByCredential": {%q: {"first": "AAAA"}, %q: {"first": "BBBB"}}}`, elsewhere, own), second},
			{allow("allowCredentials", elsewhere, own), fmt.Sprintf(`{"eval": {"first": "BBBB"}, "evalByCredential": {%q: {"first": "AAAA"}}}`, elsewhere), second},
			{allow("allowCredentials", elsewhere, own), fmt.Sprintf(`{"eval": {"first": "BBBB"}, "evalByCredential": {%q: {"first": "AAAA"}}}`, own), first},
		} {
			d.touches = 0
			signed, results := d.mustGet(tt.list, `{"extensions": {"prf": `+tt.prf+`}}`)
			if signed != a || secret(t, results, "first") != tt.want || d.touches != 1 {
				t.Errorf("%s, %s: %v, %d touches", policy, tt.prf, results, d.touches)
			}
		}
		_, results = d.mustGet(allow("allowCredentials", own, elsewhere), fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, elsewhere))
		if asJSON(t, results) != `{"prf":{}}` {
			t.Errorf("none for this credential: %v", results)
		}
		_, err := d.get(allow("allowCredentials", elsewhere, "AAAA"), fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, elsewhere))
		refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
	}
}

// What a site sends costs what it is long, not the square of that.
func TestPRFManyCredentials(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	const n = 2000
	options := &webauthn.RequestOptions{RPID: "example.com", Challenge: []byte{1}, Extensions: webauthn.ExtensionInputs{PRF: &webauthn.PRFInputs{EvalByCredential: make(map[string]webauthn.PRFValues)}}}
	for i := range n {
		id := binary.BigEndian.AppendUint64(nil, uint64(i))
		options.AllowCredentials = append(options.AllowCredentials, webauthn.CredentialDescriptor{Type: "public-key", ID: id})
		options.Extensions.PRF.EvalByCredential[encode(id)] = webauthn.PRFValues{First: []byte{}}
	}
	d.Authenticators = nil // all keys together take as long as one
	allocations := testing.AllocsPerRun(1, func() {
		_, err := d.Get(t.Context(), options)
		refused(t, err, errNotAllowed)
	})
	if allocations > 50*n {
		t.Errorf("%.0f allocations for %d credentials", allocations, n)
	}
}

// An ID has one spelling, so that no two values stand for one credential, and
// is that of a credential that may be asked for.
func TestPRFSpelling(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	for _, tt := range []struct {
		id       []byte
		spelling string
	}{
		{[]byte{0xFB, 0xEF, 0xFF}, "++//"}, {[]byte{0xFB, 0xEF, 0xFF}, "--__\n"}, {[]byte{0xFB, 0xEF, 0xFF}, "--__ "},
		{[]byte{1}, "AQ=="}, {[]byte{1}, "AR"}, {[]byte{1}, "AQ\r"},
	} {
		for i, spelling := range []string{tt.spelling, encode(tt.id)} {
			in := asJSON(t, map[string]any{"extensions": map[string]any{"prf": map[string]any{"evalByCredential": map[string]any{
				encode(tt.id): map[string]string{"first": "AAAA"}, spelling: map[string]string{"first": "BBBB"},
			}}}})
			_, err := d.get(allow("allowCredentials", encode(tt.id)), in)
			refused(t, err, []error{errSyntax, errNotAllowed}[i])
		}
	}
	_, err := d.get(`{"extensions": {"prf": {"evalByCredential": {"AAAA": {"first": "AAAA"}}}},
		"allowCredentials": [{"type": "private-key", "id": "AAAA"}, {"type": "public-key", "id": "AAAB"}]}`)
	refused(t, err, errSyntax)
}

// A key without the function is not asked for verification on its account.
func TestPRFOfAnother(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN, Extensions: []string{}})
	a := d.mustCreate()
	signed, results := d.mustGet(allow("allowCredentials", a.response.ID), `{"userVerification": "discouraged", "extensions": {"prf": {"eval": {"first": "AAAA"}}}}`)
	if asJSON(t, results) != `{"prf":{}}` || signed.authData.Flags.Has(ctap2.FlagUserVerified) {
		t.Errorf("%v", results)
	}
}

// A spy sees the secrets that an extension returns.
type spy struct {
	ctap2.Extension
	seen *[]*ctap2.HMACSecretOutput
}

func (s spy) Output(c *ctap2.ExtensionContext, output []byte) (any, error) {
	v, err := s.Extension.Output(c, output)
	if secrets, ok := v.(*ctap2.HMACSecretOutput); ok {
		*s.seen = append(*s.seen, secrets)
	}
	return v, err
}

// Secrets that nobody gets are wiped.
func TestSecretsAreWiped(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	for _, name := range []string{"ada", "bob", "eve"} {
		d.mustCreate(fmt.Sprintf(`{"user": {"id": %q, "name": %q, "displayName": ""}}`, encode([]byte(name)), name),
			`{"authenticatorSelection": {"residentKey": "required"}, "extensions": {"prf": {}, "largeBlob": {}}}`)
	}
	var seen []*ctap2.HMACSecretOutput
	options, err := webauthn.ParseRequestOptions(d.request(`{"userVerification": "required"}`))
	if err != nil {
		t.Fatal(err)
	}
	options.Extensions.Others = []ctap2.Extension{spy{ctap2.HMACSecret(make([]byte, 32)), &seen}}
	changed := errors.New("changed my mind")
	for _, failure := range []error{nil, changed} {
		seen = nil
		d.ChooseAccount = func(context.Context, []webauthn.Account) (int, error) { return 1, failure }
		response, err := d.Get(t.Context(), options)
		if !errors.Is(err, failure) || len(seen) != 3 {
			t.Fatalf("%d secrets, %v", len(seen), err)
		}
		for i, s := range seen {
			if got := s.Output1.Len(); (got == 32) != (failure == nil && i == 1) {
				t.Errorf("%v: %d bytes of secret %d", failure, got, i)
			}
		}
		if failure == nil {
			if s, err := ctap2.Output[*ctap2.HMACSecretOutput](response.ClientExtensionResults.Others); err != nil || s != seen[1] {
				t.Errorf("the program's own output: %v", err)
			}
		}
	}

	// Keys of large blobs go no further than here.
	var credential *ctap2.Credential
	var assertion *ctap2.Assertion
	var secrets *ctap2.HMACSecretOutput
	var spoilt bool
	defer webauthn.Watch(func(c *ctap2.Credential) {
		if credential = c; c.LargeBlobKey.Len() != 32 {
			t.Error("no key")
		}
		secrets, _ = ctap2.Output[*ctap2.HMACSecretOutput](c.Extensions)
		if spoilt {
			c.AttestationStatement = []byte{0xFF}
		}
	}, func(a *ctap2.Assertion) {
		if assertion = a; a.LargeBlobKey.Len() != 32 {
			t.Error("no key")
		}
	})()
	wish := `{"attestation": "direct", "authenticatorSelection": {"residentKey": "required"}, "extensions": {"largeBlob": {}, "prf": {"eval": {"first": "AAAA"}}}}`
	a := d.mustCreate(wish)
	if credential.LargeBlobKey.Len() != 0 || secrets.Output1.Len() != 32 {
		t.Error("the new credential's key is left, or its secret is not")
	}
	d.mustGet(allow("allowCredentials", a.response.ID), `{"extensions": {"largeBlob": {"read": true}}}`)
	if assertion.LargeBlobKey.Len() != 0 {
		t.Error("the credential's key is left")
	}

	// A key that does not do what it says makes a failure of the registration.
	poor := sit(t, virtual.Config{PIN: testPIN, Extensions: []string{"hmac-secret", "hmac-secret-mc"}})
	poor.record().change = map[byte]func(map[int]cbor.RawMessage){0x04: func(members map[int]cbor.RawMessage) {
		members[2] = cbor.RawMessage("\x83\x6bcredProtect\x6bhmac-secret\x6ehmac-secret-mc")
	}}
	if _, err := poor.key.GetInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	creation, err := webauthn.ParseCreationOptions(poor.creation(`{"extensions": {"hmacCreateSecret": true, "credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": true}}`))
	if err != nil {
		t.Fatal(err)
	}
	seen = nil
	creation.Extensions.Others = []ctap2.Extension{spy{ctap2.HMACSecretMC(make([]byte, 32)), &seen}}
	_, err = poor.Create(t.Context(), creation)
	refused(t, err, errNotAllowed)
	if len(seen) != 1 || seen[0].Output1.Len() != 0 {
		t.Error("secrets of a failure are left")
	}

	spoilt = true
	_, err = d.create(wish)
	refused(t, err, errNotAllowed)
	if secrets.Output1.Len() != 0 {
		t.Error("secrets of a failure are left")
	}
}

func TestPRFRefusals(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	a := d.mustCreate(`{"extensions": {"prf": {}}}`)
	_, err := d.create(`{"extensions": {"prf": {"evalByCredential": {"AAAA": {"first": "AAAA"}}}}}`)
	refused(t, err, errNotSupported)
	list := allow("allowCredentials", a.response.ID)
	_, err = d.get(`{"extensions": {"prf": {"evalByCredential": {"AAAA": {"first": "AAAA"}}}}}`)
	refused(t, err, errNotSupported)
	for _, id := range []string{"AAAA", "", "-", a.response.ID + "!"} {
		_, err = d.get(list, fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, id))
		refused(t, err, errSyntax)
	}
	salt := make([]byte, 32)
	for _, salts := range []webauthn.HMACSecretSalts{{}, {Salt1: salt[1:]}, {Salt1: salt, Salt2: []byte{}}} {
		_, err = d.getSecrets(a.response.ID, &salts)
		refused(t, err, errType)
	}
	options, err := webauthn.ParseRequestOptions(d.request(list, `{"extensions": {"prf": {}, "hmacGetSecret": {"salt1": "AAAA"}}}`))
	if err != nil || options.Extensions.HMACGetSecret != nil {
		t.Fatalf("salts of a site: %v %v", options, err)
	}
	options.Extensions.HMACGetSecret = &webauthn.HMACSecretSalts{Salt1: salt}
	_, err = d.Get(t.Context(), options)
	refused(t, err, errNotSupported)
	// Values that Go has, and JSON has not.
	options.Extensions = webauthn.ExtensionInputs{PRF: &webauthn.PRFInputs{Eval: &webauthn.PRFValues{Second: salt}}}
	_, err = d.Get(t.Context(), options)
	refused(t, err, errType)
	options.Extensions.PRF = &webauthn.PRFInputs{EvalByCredential: map[string]webauthn.PRFValues{a.response.ID: {}}}
	_, err = d.Get(t.Context(), options)
	refused(t, err, errType)
	_, err = d.Create(t.Context(), &webauthn.CreationOptions{
		User: webauthn.User{ID: salt}, Challenge: salt,
		Extensions: webauthn.ExtensionInputs{PRF: &webauthn.PRFInputs{Eval: new(webauthn.PRFValues)}},
	})
	refused(t, err, errType)
	// The search for the credential fails as the rest would.
	d.key.Close()
	_, err = d.get(list)
	refused(t, err, errNotAllowed, ctap2.ErrClosed)
}

// Secrets are in no text and no JSON but the one that is for them.
func TestSecretsAreNotShown(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	wish := `{"extensions": {"prf": {"eval": {"first": "AAAA", "second": "BBBB"}}}}`
	created, err := d.create(wish)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := d.get(allow("allowCredentials", created.ID.String()), wish)
	if err != nil {
		t.Fatal(err)
	}
	salt := make([]byte, 32)
	native, err := d.getSecrets(created.ID.String(), &webauthn.HMACSecretSalts{Salt1: salt, Salt2: salt})
	if err != nil {
		t.Fatal(err)
	}
	results := signed.ClientExtensionResults.PRF.Results
	outputs := native.ClientExtensionResults.HMACGetSecret
	for _, s := range [][]byte{results.First.Bytes(), results.Second.Bytes(), outputs.Output1.Bytes(), outputs.Output2.Bytes()} {
		if len(s) != 32 {
			t.Fatalf("a secret of %d bytes", len(s))
		}
		for _, v := range []any{created, *created, signed, *signed, native, *native} {
			for _, text := range []string{asJSON(t, v), fmt.Sprintf("%v %+v %#v %x %s", v, v, v, v, v)} {
				if strings.Contains(text, encode(s)) || strings.Contains(text, fmt.Sprintf("%x", s)) || strings.Contains(text, fmt.Sprint(s)) {
					t.Errorf("shown: %s", text)
				}
			}
		}
	}
	data, err := signed.JSONWithSecrets()
	if err != nil || !strings.Contains(string(data), results.First.String()) && !strings.Contains(string(data), encode(results.First.Bytes())) {
		t.Errorf("%s %v", data, err)
	}
	signed.ClientExtensionResults.Wipe()
	native.ClientExtensionResults.Wipe()
	if results.First.Len() != 0 || results.Second.Len() != 0 || outputs.Output1.Len() != 0 || outputs.Output2.Len() != 0 {
		t.Error("not wiped")
	}
}
