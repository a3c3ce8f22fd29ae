package webauthn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

func TestCredProtect(t *testing.T) {
	for _, tt := range []struct {
		wish   string
		config virtual.Config
		signed string // what the key says of it, in CBOR
		want   error
	}{
		{`{"credentialProtectionPolicy": "userVerificationOptional", "enforceCredentialProtectionPolicy": true}`, virtual.Config{}, "\x01", nil},
		{`{"credentialProtectionPolicy": "userVerificationOptionalWithCredentialIDList"}`, virtual.Config{}, "\x02", nil},
		{`{"credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": true}`, virtual.Config{}, "\x03", nil},
		{`{"credentialProtectionPolicy": "userVerificationRequired"}`, virtual.Config{Level: virtual.CTAP20}, "", nil},
		{`{"credentialProtectionPolicy": "userVerificationOptional", "enforceCredentialProtectionPolicy": true}`, virtual.Config{Level: virtual.CTAP20}, "", nil},
		{`{"credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": true}`, virtual.Config{Level: virtual.CTAP20}, "", errConstraint},
		{`{"credentialProtectionPolicy": "unheard-of"}`, virtual.Config{}, "", nil},
		{`{"credentialProtectionPolicy": "unheard-of", "enforceCredentialProtectionPolicy": true}`, virtual.Config{}, "", errNotSupported},
	} {
		d := sit(t, tt.config)
		response, err := d.create(`{"extensions": ` + tt.wish + `}`)
		if tt.want != nil {
			refused(t, err, tt.want)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.wish, err)
			continue
		}
		data, err := ctap2.ParseAuthenticatorData(response.AuthenticatorData)
		if err != nil || string(data.Extensions["credProtect"]) != tt.signed {
			t.Errorf("%s: %x %v", tt.wish, data.Extensions, err)
		}
		if got := asJSON(t, response); !bytes.Contains([]byte(got), []byte(`"clientExtensionResults":{}`)) {
			t.Errorf("%s: %s", tt.wish, got)
		}
	}
}

func TestLargeBlob(t *testing.T) {
	withCredentials := []string{"largeBlob", "credProtect"}
	for name, config := range map[string]virtual.Config{
		"array":                    {},
		"array, PIN":               {PIN: testPIN},
		"array, fingerprint":       {BuiltInUV: virtual.UVConfigured},
		"with the credential":      {Extensions: withCredentials},
		"with the credential, PIN": {Extensions: withCredentials, PIN: testPIN},
	} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			a := d.mustCreate(`{"extensions": {"largeBlob": {"support": "required"}}, "authenticatorSelection": {"residentKey": "required"}}`)
			if got := asJSON(t, a.results); got != `{"largeBlob":{"supported":true}}` {
				t.Fatal(got)
			}
			list := allow("allowCredentials", a.response.ID)
			read := `{"extensions": {"largeBlob": {"read": true}}}`
			if _, results := d.mustGet(list, read); asJSON(t, results) != `{"largeBlob":{}}` {
				t.Errorf("before: %v", results)
			}
			for _, blob := range []string{encode(bytes.Repeat([]byte("a large blob "), 100)), encode([]byte("another")), ""} {
				if _, results := d.mustGet(list, fmt.Sprintf(`{"extensions": {"largeBlob": {"write": %q}}}`, blob)); asJSON(t, results) != `{"largeBlob":{"written":true}}` {
					t.Errorf("written: %v", results)
				}
				for _, how := range []string{list, `{}`} {
					if _, results := d.mustGet(how, read); asJSON(t, results) != fmt.Sprintf(`{"largeBlob":{"blob":%q}}`, blob) {
						t.Errorf("read: %v", results)
					}
				}
			}
			// More than fits, and more than anybody takes: the sign-in succeeds.
			for _, n := range []int{20000, 1<<20 + 1} {
				blob := encode(incompressible(n))
				if _, results := d.mustGet(list, fmt.Sprintf(`{"extensions": {"largeBlob": {"write": %q}}}`, blob)); asJSON(t, results) != `{"largeBlob":{"written":false}}` {
					t.Errorf("%d bytes: %v", n, results)
				}
			}
			if _, results := d.mustGet(list, read); asJSON(t, results) != `{"largeBlob":{"blob":""}}` {
				t.Errorf("after: %v", results)
			}
			if _, results := d.mustGet(list, `{"extensions": {"largeBlob": {}}}`); asJSON(t, results) != `{}` {
				t.Errorf("nothing asked: %v", results)
			}
		})
	}
}

// incompressible returns bytes that do not become fewer.
func incompressible(n int) []byte {
	b := make([]byte, n)
	state := uint32(1)
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return b
}

func TestLargeBlobSupport(t *testing.T) {
	d := sit(t, virtual.Config{})
	none := sit(t, virtual.Config{Extensions: []string{}})
	for _, tt := range []struct {
		*desk
		support, residentKey, want string
		err                        error
	}{
		{d, `{}`, "required", `{"largeBlob":{"supported":true}}`, nil},
		{d, `{"support": "preferred"}`, "preferred", `{"largeBlob":{"supported":true}}`, nil},
		{d, `{"support": "unheard-of"}`, "required", `{"largeBlob":{"supported":true}}`, nil},
		{d, `{"support": "preferred"}`, "discouraged", `{"largeBlob":{"supported":false}}`, nil},
		{d, `{"support": "required"}`, "discouraged", ``, errNotSupported},
		{none, `{"support": "preferred"}`, "required", `{"largeBlob":{"supported":false}}`, nil},
		{none, `{"support": "required"}`, "required", ``, errNotSupported},
		{d, `{"read": true}`, "required", ``, errNotSupported},
		{d, `{"write": "AAAA"}`, "required", ``, errNotSupported},
	} {
		wish := fmt.Sprintf(`{"extensions": {"largeBlob": %s}, "authenticatorSelection": {"residentKey": %q}}`, tt.support, tt.residentKey)
		if tt.err != nil {
			_, err := tt.create(wish)
			refused(t, err, tt.err)
		} else if a := tt.mustCreate(wish); asJSON(t, a.results) != tt.want {
			t.Errorf("%s: %v", wish, a.results)
		}
	}
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`) // without the extension
	list := allow("allowCredentials", a.response.ID)
	if _, results := d.mustGet(list, `{"extensions": {"largeBlob": {"read": true}}}`); asJSON(t, results) != `{"largeBlob":{}}` {
		t.Errorf("%v", results)
	}
	if _, results := d.mustGet(list, `{"extensions": {"largeBlob": {"write": "AAAA"}}}`); asJSON(t, results) != `{"largeBlob":{"written":false}}` {
		t.Errorf("%v", results)
	}
	for _, wish := range []string{`{"support": "required"}`, `{"read": true, "write": "AAAA"}`} {
		_, err := d.get(list, `{"extensions": {"largeBlob": `+wish+`}}`)
		refused(t, err, errNotSupported)
	}
	for _, list := range []string{`{}`, allow("allowCredentials", a.response.ID, "AAAA")} {
		_, err := d.get(list, `{"extensions": {"largeBlob": {"write": "AAAA"}}}`)
		refused(t, err, errNotSupported)
	}
}

func TestCredBlob(t *testing.T) {
	d := sit(t, virtual.Config{})
	discoverable := `{"authenticatorSelection": {"residentKey": "required"}}`
	for i, tt := range []struct{ blob, stored, got string }{
		{encode([]byte("a blob")), `{"credBlob":true}`, `{"getCredBlob":"YSBibG9i"}`},
		{"", `{"credBlob":true}`, `{"getCredBlob":""}`},
		{encode(make([]byte, 33)), `{"credBlob":false}`, `{"getCredBlob":""}`},
	} {
		a := d.mustCreate(discoverable, fmt.Sprintf(`{"user": {"id": %q, "name": "", "displayName": ""}, "extensions": {"credBlob": %q}}`, encode([]byte{byte(i)}), tt.blob))
		if got := asJSON(t, a.results); got != tt.stored {
			t.Errorf("%q: %s", tt.blob, got)
		}
		_, results := d.mustGet(allow("allowCredentials", a.response.ID), `{"extensions": {"getCredBlob": true}}`)
		if got := asJSON(t, results); got != tt.got {
			t.Errorf("%q: %s", tt.blob, got)
		}
	}
	poor := sit(t, virtual.Config{Extensions: []string{}})
	a := poor.mustCreate(discoverable, `{"extensions": {"credBlob": "AAAA"}}`)
	_, results := poor.mustGet(`{"extensions": {"getCredBlob": true}}`)
	if asJSON(t, a.results) != `{"credBlob":false}` || asJSON(t, results) != `{}` {
		t.Errorf("%v %v", a.results, results)
	}
}

// Extensions of which the key tells the site itself.
func TestSignedOutputs(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	err := d.key.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{MinPINLengthRPIDs: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	a := d.mustCreate(`{"extensions": {"minPinLength": true, "pinComplexityPolicy": true, "payment": {"isPayment": true}, "unheardOf": {"a": 1}}}`)
	if got := a.authData.Extensions["minPinLength"]; !slices.Equal(got, []byte{4}) || asJSON(t, a.results) != `{}` {
		t.Errorf("minPinLength %x, %v", got, a.results)
	}
	if got := a.authData.Extensions["pinComplexityPolicy"]; !slices.Equal(got, []byte{0xF4}) {
		t.Errorf("pinComplexityPolicy %x", got)
	}
	plain := d.mustCreate(`{"extensions": {"payment": {"isPayment": false}}}`)
	for _, tt := range []struct {
		*account
		marked bool
	}{{a, true}, {plain, false}} {
		signed, _ := d.mustGet(allow("allowCredentials", tt.response.ID), `{"extensions": {"payment": {"isPayment": true}}}`)
		var marked bool
		if err := cbor.Unmarshal(signed.authData.Extensions["thirdPartyPayment"], &marked); err != nil || marked != tt.marked {
			t.Errorf("thirdPartyPayment %t %v", marked, err)
		}
	}
}

// A boaster lists extensions that the key behind it does not have.
type boaster struct {
	ctap2.Transport
	extensions []string
}

func (b boaster) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := b.Transport.Exchange(ctx, message, status)
	if err != nil || message[0] != 0x04 {
		return reply, err
	}
	var info map[int]cbor.RawMessage
	if err := cbor.Unmarshal(reply[1:], &info); err != nil {
		return nil, err
	}
	if info[2], err = cbor.Marshal(b.extensions); err != nil {
		return nil, err
	}
	body, err := cbor.Marshal(info)
	return append([]byte{0}, body...), err
}

// A key that promises more than it keeps: the site is told, and the ceremonies
// succeed.
func TestBoaster(t *testing.T) {
	for _, blobs := range []string{"largeBlob", "largeBlobKey"} {
		d := sit(t, virtual.Config{PIN: testPIN})
		poor, err := virtual.New(virtual.Config{PIN: testPIN, Extensions: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		defer poor.Close()
		d.Authenticators[0] = d.open(boaster{poor, []string{"credBlob", "credProtect", "hmac-secret", "hmac-secret-mc", "minPinLength", "thirdPartyPayment", blobs}})
		a := d.mustCreate(`{"extensions": {"credBlob": "", "credentialProtectionPolicy": "userVerificationRequired",
			"hmacCreateSecret": true, "prf": {"eval": {"first": "AAAA"}}, "largeBlob": {"support": "preferred"}, "minPinLength": true}}`)
		if got := asJSON(t, a.results); got != `{"credBlob":false,"hmacCreateSecret":false,"largeBlob":{"supported":false},"prf":{"enabled":false}}` {
			t.Error(got)
		}
		for in, want := range map[string]string{
			`{"prf": {"eval": {"first": "AAAA"}}, "getCredBlob": true, "largeBlob": {"read": true}}`: `{"largeBlob":{},"prf":{}}`,
			`{"largeBlob": {"write": "AAAA"}}`: `{"largeBlob":{"written":false}}`,
		} {
			if _, results := d.mustGet(allow("allowCredentials", a.response.ID), `{"extensions": `+in+`}`); asJSON(t, results) != want {
				t.Errorf("%s: %v", in, results)
			}
		}
		response, err := d.getSecrets(a.response.ID, &webauthn.HMACSecretSalts{Salt1: make([]byte, 32)})
		if err != nil || response.ClientExtensionResults.HMACGetSecret != nil {
			t.Errorf("secrets of a key that has none: %v", err)
		}
	}
}

// What a site insists on, and the key has said that it does, is there, or the
// site does not get the credential. The program is told that it exists.
func TestInsisted(t *testing.T) {
	poor, err := virtual.New(virtual.Config{PIN: testPIN, Extensions: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer poor.Close()
	d := sit(t, virtual.Config{PIN: testPIN})
	d.Authenticators[0] = d.open(boaster{poor, []string{"credProtect", "largeBlob"}})
	var id []byte
	defer webauthn.Watch(func(c *ctap2.Credential) { id = c.ID }, func(*ctap2.Assertion) {})()
	check := func(wish string) {
		t.Helper()
		id = nil
		d.mustCreate(wish) // not insisted on
		made := id
		_, err := d.create(strings.NewReplacer("preferred", "required", "false", "true").Replace(wish))
		refused(t, err, errNotAllowed)
		if !strings.Contains(err.Error(), "the key made the credential ") || strings.Contains(err.Error(), encode(made)) {
			t.Error(err)
		}
	}
	check(`{"extensions": {"credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": false}}`)
	check(`{"extensions": {"largeBlob": {"support": "preferred"}}}`)
	d.mustCreate(`{"extensions": {"credentialProtectionPolicy": "userVerificationOptional", "enforceCredentialProtectionPolicy": true}}`)

	d = sit(t, virtual.Config{PIN: testPIN})
	r := d.record()
	r.change = map[byte]func(map[int]cbor.RawMessage){0x01: func(members map[int]cbor.RawMessage) { delete(members, 5) }}
	check(`{"extensions": {"largeBlob": {"support": "preferred"}}, "authenticatorSelection": {"residentKey": "required"}}`)
}

// The key is told whether the site insists on large blobs.
func TestLargeBlobInput(t *testing.T) {
	d := sit(t, virtual.Config{Extensions: []string{"largeBlob"}})
	r := d.record()
	for support, want := range map[string]string{"required": "required", "preferred": "preferred", "": "preferred", "unheard-of": "preferred"} {
		r.forget()
		d.mustCreate(fmt.Sprintf(`{"extensions": {"largeBlob": {"support": %q}}}`, support))
		var sent map[string]struct{ Support string }
		if err := cbor.Unmarshal(r.sent(t, 0x01)[0][6], &sent); err != nil || sent["largeBlob"].Support != want {
			t.Errorf("%q: %v %v", support, sent, err)
		}
	}
}

// The largest blob, and a refusal that has nothing to do with its size.
func TestLargestBlob(t *testing.T) {
	for _, extensions := range [][]string{nil, {"largeBlob"}} {
		d := sit(t, virtual.Config{Extensions: extensions})
		a := d.mustCreate(`{"extensions": {"largeBlob": {}}, "authenticatorSelection": {"residentKey": "required"}}`)
		list := allow("allowCredentials", a.response.ID)
		for n, want := range map[int]string{1 << 20: `{"largeBlob":{"written":true}}`, 1<<20 + 1: `{"largeBlob":{"written":false}}`} {
			write := fmt.Sprintf(`{"extensions": {"largeBlob": {"write": %q}}}`, encode(make([]byte, n)))
			if _, results := d.mustGet(list, write); asJSON(t, results) != want {
				t.Errorf("%d bytes: %v", n, results)
			}
		}
		r := d.record()
		r.answer = func(message []byte) []byte {
			if message[0] == 0x02 {
				return []byte{byte(ctap2.ErrOperationDenied)}
			}
			return nil
		}
		_, err := d.get(list, `{"extensions": {"largeBlob": {"write": "AAAA"}}}`)
		refused(t, err, errNotAllowed, ctap2.ErrOperationDenied)
		if n := len(r.sent(t, 0x02)); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}

// Extensions of the program's own.
func TestOthers(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	creation, err := webauthn.ParseCreationOptions(d.creation(`{"authenticatorSelection": {"residentKey": "required"}, "extensions": {"Others": [1]}}`))
	if err != nil || creation.Extensions.Others != nil {
		t.Fatalf("%+v %v", creation, err)
	}
	plain, err := d.Create(t.Context(), creation)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctap2.Output[ctap2.CredProtectPolicy](plain.ClientExtensionResults.Others); !errors.Is(err, ctap2.ErrNoOutput) {
		t.Error(err)
	}
	creation.Extensions.Others = []ctap2.Extension{ctap2.CredProtect(ctap2.UVRequired), ctap2.CredBlob([]byte("a blob"))}
	made, err := d.Create(t.Context(), creation)
	if err != nil {
		t.Fatal(err)
	}
	if policy, err := ctap2.Output[ctap2.CredProtectPolicy](made.ClientExtensionResults.Others); policy != ctap2.UVRequired || err != nil {
		t.Errorf("%v %v", policy, err)
	}
	request, err := webauthn.ParseRequestOptions(d.request(`{"userVerification": "required"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Extensions.Others = []ctap2.Extension{ctap2.CredBlob(nil)}
	signed, err := d.Get(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if blob, err := ctap2.Output[ctap2.CredBlobOutput](signed.ClientExtensionResults.Others); string(blob) != "a blob" || err != nil {
		t.Errorf("%q %v", blob, err)
	}
	if got := asJSON(t, signed); !strings.Contains(got, `"clientExtensionResults":{}`) {
		t.Errorf("in JSON: %s", got)
	}
	request.Extensions.GetCredBlob = true
	_, err = d.Get(t.Context(), request)
	refused(t, err, errNotAllowed, ctap2.ErrInvalidRequest)
}

const appID = "https://www.example.com/u2f/app-id.json"

// Credentials that were made with the U2F API, on keys with CTAP2 and without.
func TestAppID(t *testing.T) {
	for name, config := range map[string]virtual.Config{"U2F": {Level: virtual.CTAP1}, "2.3": {}, "2.0": {Level: virtual.CTAP20}, "PIN": {PIN: testPIN}} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			old, err := d.key.U2FRegister(t.Context(), [32]byte{}, sum(appID))
			if err != nil {
				t.Fatal(err)
			}
			handle := encode(old.KeyHandle)
			d.accounts[handle] = &account{key: old.PublicKey}
			wish := fmt.Sprintf(`{"extensions": {"appid": %q}}`, appID)
			d.touches = 0
			signed, results := d.mustGet(wish, allow("allowCredentials", "AAAA", handle))
			if signed != d.accounts[handle] || asJSON(t, results) != `{"appid":true}` || d.touches != d.touch() {
				t.Errorf("%v, %d touches", results, d.touches)
			}
			// The RP ID goes first.
			a := d.mustCreate()
			d.touches = 0
			signed, results = d.mustGet(wish, allow("allowCredentials", handle, a.response.ID))
			if signed != a || asJSON(t, results) != `{"appid":false}` || d.touches != d.touch() {
				t.Errorf("%v, %d touches", results, d.touches)
			}
			_, err = d.get(wish, allow("allowCredentials", "AAAA"))
			refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
			_, err = d.get(allow("allowCredentials", handle)) // without the extension
			refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)

			exclude := fmt.Sprintf(`{"extensions": {"appidExclude": %q}}`, appID)
			d.touches = 0
			_, err = d.create(exclude, allow("excludeCredentials", "AAAA", handle))
			refused(t, err, errInvalidState)
			if d.touches != d.touch() {
				t.Errorf("%d touches", d.touches)
			}
			for _, list := range []string{`{}`, allow("excludeCredentials", "AAAA")} {
				if a := d.mustCreate(exclude, list); asJSON(t, a.results) != `{"appidExclude":true}` {
					t.Errorf("%v", a.results)
				}
			}
			d.mustCreate(allow("excludeCredentials", handle)) // without the extension
			d.soft.SetPresence(virtual.Refuse)
			if config.Level != virtual.CTAP1 { // U2F keys cannot decline
				_, err = d.create(exclude, allow("excludeCredentials", handle))
				refused(t, err, errNotAllowed, ctap2.ErrOperationDenied)
			}
		})
	}
}

func TestAppIDRefusals(t *testing.T) {
	d := sit(t, virtual.Config{})
	discoverable := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	for _, id := range []string{"https://example.com", "https://login.example.com/x", "https://a.b.example.com:8443/?x"} {
		_, results := d.mustGet(fmt.Sprintf(`{"extensions": {"appid": %q}}`, id))
		if asJSON(t, results) != `{"appid":false}` {
			t.Errorf("%s: %v", id, results)
		}
		d.mustGet(fmt.Sprintf(`{"extensions": {"appid": %q}}`, id), allow("allowCredentials", discoverable.response.ID))
	}
	for _, id := range []string{"https://example.org", "http://login.example.com", "https://com", "example.com", "https://", ":", "https://u@example.com", "https://co.uk"} {
		_, err := d.get(fmt.Sprintf(`{"extensions": {"appid": %q}}`, id))
		refused(t, err, errSecurity)
		_, err = d.create(fmt.Sprintf(`{"extensions": {"appidExclude": %q}}`, id))
		refused(t, err, errSecurity)
	}
	local := &webauthn.Client{Origin: "http://localhost:8080", Authenticators: d.Authenticators}
	_, err := local.Create(t.Context(), &webauthn.CreationOptions{
		User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1},
		Extensions: webauthn.ExtensionInputs{AppIDExclude: "http://localhost:8080"},
	})
	if err != nil {
		t.Error(err)
	}
}
