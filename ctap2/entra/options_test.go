package entra_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// sample is an answer of Graph's, with credential IDs in all its spellings; it
// takes the challenge.
const sample = `{
	"@odata.context": "https://graph.microsoft.com/beta/$metadata#microsoft.graph.webauthnCredentialCreationOptions",
	"challengeTimeoutDateTime": "2024-06-13T11:26:35.1234567Z",
	"publicKey": {
		"rp": {"id": "login.microsoft.com", "name": "Microsoft"},
		"user": {"id": "T0Y6AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v", "name": "john@contoso.com", "displayName": "John Doe"},
		"challenge": "%s",
		"pubKeyCredParams": [{"type": "public-key", "alg": -7}, {"type": "public-key", "alg": -257}],
		"timeout": 60000,
		"excludeCredentials": [
			{"type": "public-key", "id": "TZ2KrDEawbrIGQsnheGZ/BG9Nfnb7blSGwQYMGyJIhM=", "transports": []},
			{"type": "public-key", "id": "7ebzDmVTSreLsJkrjm1mNA2", "transports": ["usb"]},
			{"type": "public-key", "id": "7ebzDmVTSreLsJkrjm1mNA"},
			{"type": "public-key", "id": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1"}
		],
		"authenticatorSelection": {"authenticatorAttachment": "cross-platform", "requireResidentKey": true, "userVerification": "required"},
		"attestation": "direct",
		"extensions": {"hmacCreateSecret": true, "enforceCredentialProtectionPolicy": true, "credentialProtectionPolicy": "userVerificationOptional"}
	}
}`

func TestParseOptions(t *testing.T) {
	challenge := bytes.Repeat([]byte("eyJhbGciOiJSU0Et"), 325)[:5198] // as long as Entra's
	text := base64.RawURLEncoding.EncodeToString(challenge)
	if len(text) != 6931 {
		t.Fatalf("a challenge of %d characters", len(text))
	}
	for name, data := range map[string]string{
		"as it comes": fmt.Sprintf(sample, text),
		"in a value":  `{"value": ` + fmt.Sprintf(sample, text) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			options, err := entra.ParseOptions([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			o := options.PublicKey
			if !options.Expires.Equal(time.Date(2024, 6, 13, 11, 26, 35, 123456700, time.UTC)) {
				t.Errorf("expires %v", options.Expires)
			}
			if o.RP.ID != "login.microsoft.com" || o.User.Name != "john@contoso.com" || len(o.User.ID) != 51 || !bytes.Equal(o.Challenge, challenge) ||
				len(o.PubKeyCredParams) != 2 || o.Timeout != 60000 || o.Attestation != "direct" || !o.AuthenticatorSelection.RequireResidentKey ||
				o.AuthenticatorSelection.UserVerification != "required" || !o.Extensions.HMACCreateSecret ||
				o.Extensions.CredentialProtectionPolicy != "userVerificationOptional" {
				t.Errorf("%+v", o)
			}
			if o.AuthenticatorSelection.AuthenticatorAttachment != "" {
				t.Errorf("attachment %q", o.AuthenticatorSelection.AuthenticatorAttachment)
			}
			var ids []string
			for _, d := range o.ExcludeCredentials {
				ids = append(ids, hex.EncodeToString(d.ID))
			}
			want := []string{
				"4d9d8aac311ac1bac8190b2785e199fc11bd35f9dbedb9521b0418306c892213",
				"ede6f30e65534ab78bb0992b8e6d6634",
				"ede6f30e65534ab78bb0992b8e6d6634",
				strings.Repeat("00", 32) + "35", // both that it can be
				strings.Repeat("00", 32),
			}
			if !slices.Equal(ids, want) {
				t.Errorf("excluded %q", ids)
			}
		})
	}
}

// The attachment is what Graph's answers do not agree on; without an expiry there
// is none.
func TestParseOptionsAbsent(t *testing.T) {
	data := strings.NewReplacer(
		`"cross-platform"`, `"platform"`,
		`"2024-06-13T11:26:35.1234567Z"`, `null`,
	).Replace(fmt.Sprintf(sample, "AAAA"))
	options, err := entra.ParseOptions([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if !options.Expires.IsZero() || options.PublicKey.AuthenticatorSelection.AuthenticatorAttachment != "" {
		t.Errorf("%v, %+v", options.Expires, options.PublicKey.AuthenticatorSelection)
	}
}

func TestParseOptionsMalformed(t *testing.T) {
	good := fmt.Sprintf(sample, "AAAA")
	if _, err := entra.ParseOptions([]byte(good)); err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, test := range []struct{ data, says string }{
		{"", "malformed"},
		{"null", "malformed"},
		{"[]", "malformed"},
		{good[:len(good)/2], "malformed"},
		{`{"value": 1}`, "value"},
		{`{}`, "publicKey"},
		{`{"publicKey": null}`, "publicKey"},
		{change(`"publicKey": {`, `"publicKey": [], "x": {`), "publicKey"},
		{change(`"2024-06-13T11:26:35.1234567Z"`, `"tomorrow"`), "challengeTimeoutDateTime"},
		{change(`"2024-06-13T11:26:35.1234567Z"`, `17`), "challengeTimeoutDateTime"},
		{change(`"rp": {"id": "login.microsoft.com",`, `"rp": {`), "publicKey.rp.id"},
		{change(`"challenge": "AAAA"`, `"challenge": "A"`), "challenge"},
		{change(`"id": "7ebzDmVTSreLsJkrjm1mNA2"`, `"id": "7ebzDmVTSreLsJkrjm1mNA3"`), "publicKey.excludeCredentials[1].id"},
		{change(`"id": "7ebzDmVTSreLsJkrjm1mNA2"`, `"id": ""`), "publicKey.excludeCredentials[1].id"},
		{change(`"id": "7ebzDmVTSreLsJkrjm1mNA2"`, `"id": 3`), "publicKey.excludeCredentials"},
		{change(`"excludeCredentials": [`, `"excludeCredentials": {}, "x": [`), "publicKey.excludeCredentials"},
		{change(`"alg": -7`, `"alg": "ES256"`), "pubKeyCredParams"},
	} {
		options, err := entra.ParseOptions([]byte(test.data))
		if !errors.Is(err, entra.ErrMalformed) || options != nil {
			t.Errorf("%.60s: %v", test.data, err)
			continue
		}
		if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q does not say %q", err, test.says)
		}
	}
}

func TestCredentialIDs(t *testing.T) {
	for text, want := range map[string][]string{
		// The documentation's.
		"7ebzDmVTSreLsJkrjm1mNA2":  {"ede6f30e65534ab78bb0992b8e6d6634"},
		"7ebzDmVTSreLsJkrjm1mNA==": {"ede6f30e65534ab78bb0992b8e6d6634"},
		"7ebzDmVTSreLsJkrjm1mNA":   {"ede6f30e65534ab78bb0992b8e6d6634"},
		"-2_GRUg2-HYz6_1YG4YRAQ2":  {"fb6fc6454836f87633ebfd581b861101"},
		"+2/GRUg2+HYz6/1YG4YRAQ==": {"fb6fc6454836f87633ebfd581b861101"},
		"AAAA0":                    {"000000"},         // no pads are missing
		"AAA1":                     {"000035", "0000"}, // either
		"AAA0":                     {"000034"},         // three characters and no pad are nothing
		"AA2":                      {"00"},             // the plain reading leaves bits over
		"AA==":                     {"00"},
		"":                         nil,
		"0":                        nil,
		"A":                        nil,
		"AB":                       nil, // bits left over
		"AA=":                      nil,
		"AA===":                    nil,
		"=":                        nil,
		"AA=A":                     nil,
		"A+_A":                     nil, // two alphabets
		"AA\n==":                   nil,
		"AAA3":                     {"000037"},
		"ÄÄÄÄ":                     nil,
	} {
		var got []string
		for _, id := range entra.CredentialIDs(text) {
			got = append(got, hex.EncodeToString(id))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Whatever the length of an ID, each of its spellings can be read.
func TestCredentialIDsSpellings(t *testing.T) {
	for n := 1; n <= 200; n++ {
		id := make([]byte, n)
		for i := range id {
			id[i] = byte(i*89 + n)
		}
		for way := range 3 {
			text := spell(id, way)
			ids := entra.CredentialIDs(text)
			if !slices.ContainsFunc(ids, func(other []byte) bool { return bytes.Equal(other, id) }) || len(ids) > 2 {
				t.Errorf("%d bytes as %q: %x", n, text, ids)
			}
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(sample, "AAAA")))
	f.Add([]byte(`{"value": {"publicKey": {"rp": {"id": "a"}, "user": {"id": "AA"}, "challenge": "AA"}}}`))
	f.Add([]byte(`{"challengeTimeoutDateTime": "2024-06-13T11:26:35Z", "publicKey": {"rp": {}, "user": {}, "excludeCredentials": [{"id": "AA2"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		options, err := entra.ParseOptions(data)
		if err != nil {
			if !errors.Is(err, entra.ErrMalformed) || options != nil {
				t.Errorf("%v", err)
			}
			return
		}
		if options.PublicKey.RP.ID == "" {
			t.Error("no RP ID")
		}
		if slices.ContainsFunc(options.PublicKey.ExcludeCredentials, func(d webauthn.CredentialDescriptor) bool { return len(d.ID) == 0 }) {
			t.Error("an empty credential ID")
		}
	})
}

func FuzzCredentialIDs(f *testing.F) {
	for _, s := range []string{"7ebzDmVTSreLsJkrjm1mNA2", "7ebzDmVTSreLsJkrjm1mNA==", "AAA1", "+/8="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, id := range entra.CredentialIDs(text) {
			if text != spell(id, 0) && text != spell(id, 1) && text != spell(id, 2) && text != base64.URLEncoding.EncodeToString(id) &&
				text != base64.RawStdEncoding.EncodeToString(id) {
				t.Errorf("%q is not %x", text, id)
			}
		}
	})
}
