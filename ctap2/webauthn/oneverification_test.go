package webauthn_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// A sign-in that takes several commands verifies the user once.
func TestOneVerification(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"PIN":                    {PIN: testPIN},
		"PIN without permission": {PIN: testPIN, NoPINUVAuthToken: true, Extensions: []string{"credProtect", "hmac-secret"}},
		"fingerprint":            {BuiltInUV: virtual.UVConfigured},
		"alwaysUv":               {PIN: testPIN, AlwaysUV: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			r := d.record()
			other := encode(make([]byte, 16))
			for _, policy := range []string{"userVerificationOptional", "userVerificationRequired"} {
				a := d.mustCreate(`{"extensions": {"prf": {}, "credentialProtectionPolicy": "` + policy + `"}}`)
				list := allow("allowCredentials", other, a.response.ID)
				r.forget()
				_, results := d.mustGet(list, fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, a.response.ID))
				secret(t, results, "first")
				if n, searches := r.tokens(t), len(r.sent(t, 0x02)); n != 1 || searches != 2 {
					t.Errorf("prf, %s: %d verifications, %d assertions", policy, n, searches)
				}
			}
			r.forget()
			_, err := d.get(allow("allowCredentials", other, encode(make([]byte, 17))), fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, other))
			refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
			if n, searches := r.tokens(t), len(r.sent(t, 0x02)); n != 1 || searches != 2 {
				t.Errorf("prf of none: %d verifications, %d assertions", n, searches)
			}
			if config.Extensions != nil {
				return
			}
			a := d.mustCreate(`{"extensions": {"largeBlob": {"support": "required"}}, "authenticatorSelection": {"residentKey": "required"}}`)
			list := allow("allowCredentials", a.response.ID)
			r.forget()
			_, results := d.mustGet(list, `{"extensions": {"largeBlob": {"write": "AAAA"}}}`)
			if n := r.tokens(t); asJSON(t, results) != `{"largeBlob":{"written":true}}` || n != 1 {
				t.Errorf("largeBlob: %v, %d verifications", results, n)
			}
			// Where the assertion takes none, the write alone does.
			r.forget()
			signed, results := d.mustGet(list, `{"userVerification": "discouraged", "extensions": {"largeBlob": {"write": "AAAA"}}}`)
			if n := r.tokens(t); asJSON(t, results) != `{"largeBlob":{"written":true}}` || n != 1 || signed.authData.Flags.Has(ctap2.FlagUserVerified) != config.AlwaysUV {
				t.Errorf("largeBlob, discouraged: %v, %d verifications", results, n)
			}
			r.forget()
			d.mustGet(list)
			if n := r.tokens(t); n != 1 {
				t.Errorf("nothing asked for: %d verifications", n)
			}
		})
	}
}

// A blob that turns out too large for a message costs no second verification.
func TestTooLargeVerification(t *testing.T) {
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured, Extensions: []string{"largeBlob"}})
	a := d.mustCreate(`{"extensions": {"largeBlob": {"support": "required"}}, "authenticatorSelection": {"residentKey": "required"}}`)
	r := d.record()
	_, results := d.mustGet(allow("allowCredentials", a.response.ID), fmt.Sprintf(`{"extensions": {"largeBlob": {"write": %q}}}`, encode(incompressible(20000))))
	if n := r.tokens(t); asJSON(t, results) != `{"largeBlob":{"written":false}}` || n != 1 {
		t.Errorf("%v, %d verifications", results, n)
	}
}

// A key whose sensor makes no tokens is not asked for its PIN instead.
func TestSensorWithoutTokens(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN, BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true})
	a := d.mustCreate(`{"extensions": {"prf": {}}}`)
	_, results := d.mustGet(allow("allowCredentials", a.response.ID, encode(make([]byte, 16))), fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, a.response.ID))
	if secret(t, results, "first"); d.asked != 0 {
		t.Errorf("asked for the PIN %d times", d.asked)
	}
}

// A program that cannot ask for a PIN gets what there is without one.
func TestNoPINPrompt(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}, "extensions": {"largeBlob": {}, "prf": {}}}`)
	key, err := ctap2.Open(t.Context(), d.soft)
	if err != nil {
		t.Fatal(err)
	}
	d.Authenticators = []*ctap2.Authenticator{key}
	list := allow("allowCredentials", a.response.ID, "AAAA")
	signed, results := d.mustGet(allow("allowCredentials", a.response.ID), `{"extensions": {"largeBlob": {"write": "AAAA"}}}`)
	if asJSON(t, results) != `{"largeBlob":{"written":false}}` || signed.authData.Flags.Has(ctap2.FlagUserVerified) {
		t.Errorf("%v", results)
	}
	_, err = d.get(list, fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, a.response.ID))
	refused(t, err, errConstraint, ctap2.ErrNoPIN)
	// A discoverable credential would take the PIN: one that is but preferred is
	// not made.
	wish := `{"user": {"id": "BAUG", "name": "", "displayName": ""}, "extensions": {"credProps": true}, "authenticatorSelection": {"residentKey": %q, "userVerification": %q}}`
	for _, uv := range []string{"preferred", "discouraged"} {
		if a := d.mustCreate(fmt.Sprintf(wish, "preferred", uv)); asJSON(t, a.results) != `{"credProps":{"rk":false}}` {
			t.Errorf("%s: %v", uv, a.results)
		}
	}
	for _, tt := range [][]any{{"required", "discouraged"}, {"preferred", "required"}} {
		_, err = d.create(fmt.Sprintf(wish, tt...))
		refused(t, err, errConstraint, ctap2.ErrNoPIN)
	}
}

// The token may end before it is used: another program has obtained one.
func TestTokenEnds(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}, "extensions": {"largeBlob": {}}}`)
	list, write := allow("allowCredentials", a.response.ID), `{"extensions": {"largeBlob": {"write": "AAAA"}}}`
	r := d.record()
	for _, command := range []byte{0x02, 0x0C} {
		refusals := 2
		r.answer = func(message []byte) []byte {
			if message[0] == command && refusals > 0 && (command == 0x02 || len(message) > 40) {
				refusals--
				return []byte{byte(ctap2.ErrPINAuthInvalid)}
			}
			return nil
		}
		if _, results := d.mustGet(list, write); asJSON(t, results) != `{"largeBlob":{"written":true}}` {
			t.Errorf("command %02x: %v", command, results)
		}
		if refusals != 0 {
			t.Errorf("command %02x: %d refusals left", command, refusals)
		}
	}
}

// A credential for the RP ID goes before one for the AppID, also one that the
// key admits to only after user verification.
func TestAppIDProtected(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"PIN":         {PIN: testPIN},
		"fingerprint": {BuiltInUV: virtual.UVConfigured},
	} {
		for _, wish := range []string{"required", "preferred", "discouraged"} {
			t.Run(name+" "+wish, func(t *testing.T) {
				d := sit(t, config)
				old, err := d.key.U2FRegister(t.Context(), [32]byte{}, sum(appID))
				if err != nil {
					t.Fatal(err)
				}
				handle := encode(old.KeyHandle)
				d.accounts[handle] = &account{key: old.PublicKey}
				a := d.mustCreate(`{"extensions": {"credentialProtectionPolicy": "userVerificationRequired"}}`)
				r := d.record()
				in := fmt.Sprintf(`{"userVerification": %q, "extensions": {"appid": %q}}`, wish, appID)
				signed, results := d.mustGet(in, allow("allowCredentials", handle, a.response.ID))
				want, n := a, 1
				if wish == "discouraged" {
					want, n = d.accounts[handle], 0
				}
				if signed != want || results["appid"] != (want != a) || r.tokens(t) != n {
					t.Errorf("%v, %d verifications", results, r.tokens(t))
				}
				// Without the other, what was made with the U2F API signs.
				r.forget()
				signed, results = d.mustGet(in, allow("allowCredentials", handle, encode(make([]byte, 16))))
				if signed != d.accounts[handle] || results["appid"] != true {
					t.Errorf("%v", results)
				}
				if searches := len(r.sent(t, 0x02)); searches != 3+n {
					t.Errorf("%d assertions", searches)
				}
			})
		}
	}
}

// What was found is the only credential that is asked for; the consent to
// telling that there is one takes no verification.
func TestAppIDRequests(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	old, err := d.key.U2FRegister(t.Context(), [32]byte{}, sum(appID))
	if err != nil {
		t.Fatal(err)
	}
	handle := encode(old.KeyHandle)
	d.accounts[handle] = &account{key: old.PublicKey}
	r := d.record()
	d.mustGet(fmt.Sprintf(`{"extensions": {"appid": %q}}`, appID), allow("allowCredentials", "AAAA", handle))
	assertions := r.sent(t, 0x02)
	if list := assertions[len(assertions)-1][3]; len(list) == 0 || list[0] != 0x81 {
		t.Errorf("list %x", list)
	}
	r.forget()
	_, err = d.create(fmt.Sprintf(`{"extensions": {"appidExclude": %q}}`, appID), allow("excludeCredentials", handle, "AAAA"))
	refused(t, err, errInvalidState)
	if n := r.tokens(t); n != 0 {
		t.Errorf("%d verifications", n)
	}
}

// A list and what the program gave along do not mix up accounts.
func TestAccountCredentialID(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	want := make(map[string]string)
	for _, name := range []string{"ada", "bob"} {
		a := d.mustCreate(fmt.Sprintf(`{"user": {"id": %q, "name": %q, "displayName": ""}}`, encode([]byte(name)), name),
			`{"authenticatorSelection": {"residentKey": "required"}}`)
		want[name] = a.response.ID
	}
	d.ChooseAccount = func(_ context.Context, accounts []webauthn.Account) (int, error) {
		for _, a := range accounts {
			if a.CredentialID.String() != want[a.Name] {
				t.Errorf("%s has %v", a.Name, a.CredentialID)
			}
			a.CredentialID[0] ^= 1 // the program's own
		}
		return 1, nil
	}
	if a, _ := d.mustGet(); string(a.user) != "ada" {
		t.Errorf("signed in as %s", a.user)
	}
}
