package webauthn_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

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
			_, results = d.mustGet(list, fmt.Sprintf(`{"extensions": {"hmacGetSecret": {"salt1": %q}}}`, encode(salt[:])))
			if got := asJSON(t, results); got != fmt.Sprintf(`{"hmacGetSecret":{"output1":%q}}`, first) {
				t.Errorf("hmacGetSecret: %s", got)
			}
			_, results = d.mustGet(list, fmt.Sprintf(`{"extensions": {"hmacGetSecret": {"salt1": %q, "salt2": %q}}}`, encode(salt[:]), encode(salt[:])))
			if got := asJSON(t, results); got != fmt.Sprintf(`{"hmacGetSecret":{"output1":%q,"output2":%q}}`, first, first) {
				t.Errorf("hmacGetSecret: %s", got)
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
	salt := encode(make([]byte, 32))
	_, err = d.get(list, `{"extensions": {"prf": {}, "hmacGetSecret": {"salt1": "`+salt+`"}}}`)
	refused(t, err, errNotSupported)
	for _, in := range []string{`{"salt1": "AAAA"}`, `{"salt1": "` + salt + `", "salt2": ""}`} {
		_, err = d.get(list, `{"extensions": {"hmacGetSecret": `+in+`}}`)
		refused(t, err, errType)
	}
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
	salt := encode(make([]byte, 32))
	native, err := d.get(allow("allowCredentials", created.ID.String()), `{"extensions": {"hmacGetSecret": {"salt1": "`+salt+`", "salt2": "`+salt+`"}}}`)
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
