package webauthn_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/pin"
)

// Responses go to JSON and back, with all that JSON has of them.
func TestResponseRoundTrip(t *testing.T) {
	yes, no := true, false
	secret := func(b byte) pin.Secret { return pin.NewSecret([]byte{b, 32: b}) }
	for name, outputs := range map[string]webauthn.ExtensionOutputs{
		"nothing": {},
		"little":  {CredProps: new(webauthn.CredPropsOutputs), PRF: new(webauthn.PRFOutputs), LargeBlob: new(webauthn.LargeBlobOutputs)},
		"all": {
			CredProps:        &webauthn.CredPropsOutputs{RK: &yes},
			PRF:              &webauthn.PRFOutputs{Enabled: &no, Results: &webauthn.PRFResults{First: secret(1), Second: secret(2)}},
			LargeBlob:        &webauthn.LargeBlobOutputs{Supported: &yes, Blob: []byte{}, Written: &no},
			CredBlob:         &yes,
			GetCredBlob:      []byte{},
			HMACCreateSecret: &yes,
			AppID:            &no,
			AppIDExclude:     true,
		},
		"one secret": {PRF: &webauthn.PRFOutputs{Results: &webauthn.PRFResults{First: secret(1)}}},
	} {
		registration := webauthn.RegistrationResponse{
			ID: []byte{1}, ClientDataJSON: []byte{2}, AttestationObject: []byte{3}, AuthenticatorData: []byte{4},
			Transports: []string{"nfc", "usb"}, PublicKey: []byte{5}, PublicKeyAlgorithm: cose.EdDSA, ClientExtensionResults: outputs,
		}
		authentication := webauthn.AuthenticationResponse{
			ID: []byte{1}, ClientDataJSON: []byte{2}, AuthenticatorData: []byte{3}, Signature: []byte{4}, UserHandle: []byte{5}, ClientExtensionResults: outputs,
		}
		data, err := registration.JSONWithSecrets()
		if err != nil {
			t.Fatal(err)
		}
		var registered webauthn.RegistrationResponse
		if err := json.Unmarshal(data, &registered); err != nil || !reflect.DeepEqual(registered, registration) {
			t.Errorf("%s: %+v %v", name, registered, err)
		}
		if data, err = authentication.JSONWithSecrets(); err != nil {
			t.Fatal(err)
		}
		var signed webauthn.AuthenticationResponse
		if err := json.Unmarshal(data, &signed); err != nil || !reflect.DeepEqual(signed, authentication) {
			t.Errorf("%s: %+v %v", name, signed, err)
		}
	}
}

// Those of keys do as well.
func TestResponseOfKey(t *testing.T) {
	for name, config := range map[string]virtual.Config{"2.3": {PIN: testPIN}, "U2F": {Level: virtual.CTAP1}} {
		d := sit(t, config)
		wish := `{"extensions": {"prf": {"eval": {"first": "AAAA"}}, "credProps": true}}`
		made, err := d.create(wish)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := d.get(wish, allow("allowCredentials", made.ID.String()))
		if err != nil {
			t.Fatal(err)
		}
		var again webauthn.RegistrationResponse
		data, _ := made.JSONWithSecrets()
		if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(&again, made) {
			t.Errorf("%s: %+v %v", name, again, err)
		}
		var signedAgain webauthn.AuthenticationResponse
		data, _ = signed.JSONWithSecrets()
		if err := json.Unmarshal(data, &signedAgain); err != nil || !reflect.DeepEqual(&signedAgain, signed) {
			t.Errorf("%s: %+v %v", name, signedAgain, err)
		}
		// The ID is the caller's to change.
		before := made.AuthenticatorData.String()
		if made.ID[0]++; made.AuthenticatorData.String() != before {
			t.Errorf("%s: the ID is a part of the authenticator data", name)
		}
	}
}

// An error names the member, and leaves the response as it was.
func TestResponseErrors(t *testing.T) {
	const created = `{"id": "AQ", "rawId": "AQ", "type": "public-key", "response": {"clientDataJSON": "AQ", "attestationObject": "AQ"}}`
	const signed = `{"id": "AQ", "response": {"clientDataJSON": "AQ", "authenticatorData": "AQ", "signature": "AQ", "userHandle": null}}`
	for _, tt := range []struct{ old, changed, want string }{
		{"", "", ""},
		{`"id": "AQ", `, ``, "id: missing"},
		{`"id": "AQ"`, `"id": 1`, "id: not a string"},
		{`"rawId": "AQ"`, `"rawId": "AR"`, "rawId: not base64url"},
		{`"rawId": "AQ"`, `"rawId": "Ag"`, "rawId: not the id"},
		{`"type": "public-key"`, `"type": "password"`, `type: not "public-key"`},
		{`"response"`, `"Response"`, "response: missing"},
		{`{"clientDataJSON": "AQ", "attestationObject": "AQ"}`, `[]`, "response: not an object"},
		{`"clientDataJSON"`, `"clientData"`, "response.clientDataJSON: missing"},
		{`"attestationObject": "AQ"`, `"attestationObject": null`, "response.attestationObject: missing"},
		{`"type"`, `"clientExtensionResults": {"credProps": {"rk": 1}}, "type"`, "clientExtensionResults.credProps.rk: not a boolean"},
		{`"type"`, `"clientExtensionResults": {"prf": {"results": {}}}, "type"`, "clientExtensionResults.prf.results.first: missing"},
		{`"type"`, `"clientExtensionResults": {"unheard-of": 1}, "type"`, ""},
	} {
		var r webauthn.RegistrationResponse
		err := json.Unmarshal([]byte(strings.Replace(created, tt.old, tt.changed, 1)), &r)
		if tt.want == "" {
			if err != nil || len(r.ID) != 1 {
				t.Errorf("%s: %v", tt.changed, err)
			}
			continue
		}
		refused(t, err, errEncoding)
		if got := err.Error(); got != "webauthn: EncodingError: "+tt.want || r.ID != nil {
			t.Errorf("%s: %s, %v", tt.changed, got, r)
		}
	}
	for _, member := range []string{"id", "response", "clientDataJSON", "authenticatorData", "signature"} {
		var r webauthn.AuthenticationResponse
		err := json.Unmarshal([]byte(strings.Replace(signed, `"`+member+`"`, `"x"`, 1)), &r)
		refused(t, err, errEncoding)
		if !strings.HasSuffix(err.Error(), member+": missing") || r.ID != nil {
			t.Errorf("%v, %v", err, r)
		}
	}
	var r webauthn.AuthenticationResponse
	if err := json.Unmarshal([]byte(signed), &r); err != nil {
		t.Error(err)
	}
}

// Each thing that a relying party looks at is looked at.
func TestExpectation(t *testing.T) {
	d := sit(t, virtual.Config{})
	made, err := d.create()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ctap2.ParseAuthenticatorData(made.AuthenticatorData)
	if err != nil {
		t.Fatal(err)
	}
	var client struct{ Challenge, Origin string }
	if err := json.Unmarshal(made.ClientDataJSON, &client); err != nil {
		t.Fatal(err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(client.Challenge)
	if err != nil {
		t.Fatal(err)
	}
	good := webauthn.Expectation{Type: webauthn.TypeCreate, RPID: "example.com", Challenge: challenge}
	for name, tt := range map[string]struct {
		change func(x *webauthn.Expectation)
		client string
		want   bool
	}{
		"good":              {func(*webauthn.Expectation) {}, "", true},
		"no challenge":      {func(x *webauthn.Expectation) { x.Challenge = nil }, "", true},
		"another type":      {func(x *webauthn.Expectation) { x.Type = webauthn.TypeGet }, "", false},
		"another site":      {func(x *webauthn.Expectation) { x.RPID = "example.org" }, "", false},
		"another challenge": {func(x *webauthn.Expectation) { x.Challenge = []byte{1} }, "", false},
		"empty challenge":   {func(x *webauthn.Expectation) { x.Challenge = []byte{} }, `{"type":"webauthn.create","origin":"https://example.com"}`, false},
		"not verified":      {func(x *webauthn.Expectation) { x.UserVerification = true }, "", false},
		"not JSON":          {func(*webauthn.Expectation) {}, "{", false},
		"elsewhere":         {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","challenge":"AA","origin":"https://example.com.evil.test"}`, false},
		"names in capitals": {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"TYPE":"webauthn.create","CHALLENGE":"AA","ORIGIN":"https://example.com"}`, false},
		"two origins":       {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","challenge":"AA","origin":"https://evil.test","Origin":"https://example.com"}`, false},
		"in a frame or not": {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","challenge":"AA","origin":"https://example.com","crossOrigin":true,"cro\u017f\u017fOrigin":false}`, false},
		"none of its own":   {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","origin":"https://example.com"}`, false},
		"byte order mark":   {func(x *webauthn.Expectation) { x.Challenge = nil }, "\ufeff" + `{"type":"webauthn.create","challenge":"AA","origin":"https://example.com"}`, true},
		"long origin":       {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","challenge":"AA","origin":"` + strings.Repeat("x", 1<<16) + `"}`, false},
		"no origin":         {func(x *webauthn.Expectation) { x.Challenge = nil }, `{"type":"webauthn.create","challenge":"AA","origin":"http://example.com"}`, false},
	} {
		x := good
		tt.change(&x)
		clientData := []byte(tt.client)
		if tt.client == "" {
			clientData = made.ClientDataJSON
		}
		got, err := x.Check(clientData, parsed)
		if (err == nil) != tt.want || (got != nil) != tt.want || err != nil && !errors.Is(err, webauthn.ErrNotValid) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err != nil && (len(err.Error()) > 300 || strings.Count(err.Error(), "webauthn: ") != 1) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// For another site, it is none that was made with the U2F API either.
	for _, kind := range []string{webauthn.TypeCreate, webauthn.TypeGet} {
		x := good
		x.Type, x.AppID = kind, appID
		parsed.RPIDHash = sum(appID)
		clientData := []byte(strings.Replace(string(made.ClientDataJSON), webauthn.TypeCreate, kind, 1))
		if _, err := x.Check(clientData, parsed); (err == nil) != (kind == webauthn.TypeGet) {
			t.Errorf("%s for an AppID: %v", kind, err)
		}
		x.AppID += "/"
		if _, err := x.Check(clientData, parsed); !errors.Is(err, webauthn.ErrNotValid) {
			t.Errorf("%s for another AppID: %v", kind, err)
		}
		parsed.RPIDHash = sum("example.com")
		if _, err := x.Check(clientData, parsed); err != nil {
			t.Errorf("%s for the site: %v", kind, err)
		}
	}
	parsed.Flags &^= ctap2.FlagUserPresent
	if _, err := good.Check(made.ClientDataJSON, parsed); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("nobody was there: %v", err)
	}
}

// Which origins a response may come from: what the RP ID's own rule lets in, or
// the origins of a list, and pages of other sites only where that is expected.
func TestExpectedOrigins(t *testing.T) {
	data := &ctap2.AuthenticatorData{RPIDHash: sum("example.com"), Flags: ctap2.FlagUserPresent}
	list := []string{"https://example.com", "android:apk-key-hash:AAAA", "https://example.org"}
	tops := []string{"https://shop.test"}
	for _, kind := range []string{webauthn.TypeCreate, webauthn.TypeGet} {
		for _, tt := range []struct {
			client string
			x      webauthn.Expectation
			want   bool
		}{
			{`"origin":"https://example.com"`, webauthn.Expectation{}, true},
			{`"origin":"https://users.example.com:8443"`, webauthn.Expectation{}, true},
			{`"origin":"https://example.org"`, webauthn.Expectation{}, false},
			{`"origin":"android:apk-key-hash:AAAA"`, webauthn.Expectation{}, false},
			{`"origin":"https://example.com"`, webauthn.Expectation{Origins: list}, true},
			{`"origin":"https://example.org"`, webauthn.Expectation{Origins: list}, true},
			{`"origin":"android:apk-key-hash:AAAA"`, webauthn.Expectation{Origins: list}, true},
			{`"origin":"https://users.example.com"`, webauthn.Expectation{Origins: list}, false},
			{`"origin":"https://example.com:8443"`, webauthn.Expectation{Origins: list}, false},
			{`"origin":"http://example.com"`, webauthn.Expectation{Origins: list}, false},
			{`"origin":"https://example.com"`, webauthn.Expectation{Origins: []string{}}, false},

			{`"origin":"https://example.com","crossOrigin":false`, webauthn.Expectation{}, true},
			{`"origin":"https://example.com","crossOrigin":true`, webauthn.Expectation{}, false},
			{`"origin":"https://example.com","topOrigin":"https://shop.test"`, webauthn.Expectation{}, false},
			{`"origin":"https://example.com","crossOrigin":true`, webauthn.Expectation{TopOrigins: tops}, false},
			{`"origin":"https://example.com","crossOrigin":true`, webauthn.Expectation{CrossOrigin: true}, true},
			{`"origin":"https://example.com"`, webauthn.Expectation{CrossOrigin: true, TopOrigins: tops}, true},
			{`"origin":"https://example.com","crossOrigin":true`, webauthn.Expectation{CrossOrigin: true, TopOrigins: tops}, true},
			{`"origin":"https://example.com","crossOrigin":true,"topOrigin":"https://any.test"`, webauthn.Expectation{CrossOrigin: true}, true},
			{`"origin":"https://example.com","crossOrigin":true,"topOrigin":"https://shop.test"`, webauthn.Expectation{CrossOrigin: true, TopOrigins: tops}, true},
			{`"origin":"https://example.com","crossOrigin":true,"topOrigin":"https://any.test"`, webauthn.Expectation{CrossOrigin: true, TopOrigins: tops}, false},
			{`"origin":"https://example.org","crossOrigin":true`, webauthn.Expectation{CrossOrigin: true}, false},
		} {
			tt.x.Type, tt.x.RPID = kind, "example.com"
			got, err := tt.x.Check([]byte(`{"type":"`+kind+`","challenge":"AA",`+tt.client+`}`), data)
			if (err == nil) != tt.want || (got != nil) != tt.want || err != nil && !errors.Is(err, webauthn.ErrNotValid) {
				t.Errorf("%s, %s, %+v: %v", kind, tt.client, tt.x, err)
			}
		}
	}
}

// A credential that is backed up is one that can be.
func TestExpectedBackup(t *testing.T) {
	x := webauthn.Expectation{Type: webauthn.TypeGet, RPID: "example.com"}
	client := []byte(`{"type":"webauthn.get","challenge":"AA","origin":"https://example.com"}`)
	for flags, want := range map[ctap2.Flags]bool{
		0: true, ctap2.FlagBackupEligible: true, ctap2.FlagBackupEligible | ctap2.FlagBackupState: true, ctap2.FlagBackupState: false,
	} {
		data := &ctap2.AuthenticatorData{RPIDHash: sum("example.com"), Flags: ctap2.FlagUserPresent | flags}
		if _, err := x.Check(client, data); (err == nil) != want || err != nil && !errors.Is(err, webauthn.ErrNotValid) {
			t.Errorf("%v: %v", flags, err)
		}
	}
}

// A relying party's side of a sign-in: what was expected, and signed with the key
// of the registration.
func TestVerifySignIn(t *testing.T) {
	d := sit(t, virtual.Config{})
	a := d.mustCreate()
	response, err := d.get(allow("allowCredentials", a.response.ID))
	if err != nil {
		t.Fatal(err)
	}
	good := webauthn.Expectation{RPID: "example.com", Challenge: decode(t, d.challenge)}
	client, data, err := response.Verify(&good, a.key)
	if err != nil || client.Origin != d.origin || client.Type != webauthn.TypeGet || data.SignCount == 0 || good.Type != "" {
		t.Errorf("%+v, %+v, %v", client, data, err)
	}
	for name, change := range map[string]func(r *webauthn.AuthenticationResponse, x *webauthn.Expectation, key *cose.Key){
		"another challenge": func(_ *webauthn.AuthenticationResponse, x *webauthn.Expectation, _ *cose.Key) {
			x.Challenge = []byte{1}
		},
		"another site": func(_ *webauthn.AuthenticationResponse, x *webauthn.Expectation, _ *cose.Key) {
			x.RPID = "login.example.com"
		},
		"no authenticator data": func(r *webauthn.AuthenticationResponse, _ *webauthn.Expectation, _ *cose.Key) {
			r.AuthenticatorData = nil
		},
		"another signature": func(r *webauthn.AuthenticationResponse, _ *webauthn.Expectation, _ *cose.Key) { r.Signature[20] ^= 1 },
		"another counter": func(r *webauthn.AuthenticationResponse, _ *webauthn.Expectation, _ *cose.Key) {
			r.AuthenticatorData[36] ^= 1
		},
		"client data not signed": func(r *webauthn.AuthenticationResponse, _ *webauthn.Expectation, _ *cose.Key) {
			r.ClientDataJSON = append(r.ClientDataJSON, ' ')
		},
		"another credential": func(_ *webauthn.AuthenticationResponse, _ *webauthn.Expectation, key *cose.Key) {
			*key = *d.mustCreate().key
		},
		"a registration": func(r *webauthn.AuthenticationResponse, x *webauthn.Expectation, _ *cose.Key) {
			x.Type = webauthn.TypeCreate
			r.ClientDataJSON = []byte(strings.Replace(string(r.ClientDataJSON), webauthn.TypeGet, x.Type, 1))
		},
	} {
		r, x, key := *response, good, *a.key
		r.ClientDataJSON, r.AuthenticatorData, r.Signature = slices.Clone(r.ClientDataJSON), slices.Clone(r.AuthenticatorData), slices.Clone(r.Signature)
		change(&r, &x, &key)
		if client, data, err := r.Verify(&x, &key); !errors.Is(err, webauthn.ErrNotValid) || client != nil || data != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := (*webauthn.AuthenticationResponse)(nil).Verify(&good, a.key); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("no response: %v", err)
	}
	if _, _, err := response.Verify(&good, nil); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("no key: %v", err)
	}
	// A relying party that does not find its challenge has none to compare.
	for what, x := range map[string]*webauthn.Expectation{
		"no Expectation":  nil,
		"no Challenge":    {RPID: "example.com"},
		"empty Challenge": {RPID: "example.com", Challenge: []byte{}},
	} {
		client, data, err := response.Verify(x, a.key)
		if !errors.Is(err, webauthn.ErrNotValid) || client != nil || data != nil || !strings.Contains(err.Error(), "no "+what[strings.LastIndex(what, " ")+1:]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := (*webauthn.Expectation)(nil).Check(response.ClientDataJSON, data); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("Check without an Expectation: %v", err)
	}
	if _, err := (&webauthn.Expectation{Type: webauthn.TypeGet, RPID: "example.com"}).Check(response.ClientDataJSON, nil); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("Check without authenticator data: %v", err)
	}
}

// A sign-in with a credential that was made with the U2F API is valid if it says
// that it is one.
func TestVerifyAppID(t *testing.T) {
	d := sit(t, virtual.Config{Level: virtual.CTAP1})
	old, err := d.key.U2FRegister(t.Context(), [32]byte{}, sum(appID))
	if err != nil {
		t.Fatal(err)
	}
	response, err := d.get(fmt.Sprintf(`{"extensions": {"appid": %q}}`, appID), allow("allowCredentials", encode(old.KeyHandle)))
	if err != nil {
		t.Fatal(err)
	}
	x := webauthn.Expectation{RPID: "example.com", AppID: appID, Challenge: decode(t, d.challenge)}
	if _, _, err := response.Verify(&x, old.PublicKey); err != nil {
		t.Error(err)
	}
	*response.ClientExtensionResults.AppID = false
	if _, _, err := response.Verify(&x, old.PublicKey); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("used without saying so: %v", err)
	}
	*response.ClientExtensionResults.AppID = true
	x.AppID = ""
	if _, _, err := response.Verify(&x, old.PublicKey); !errors.Is(err, webauthn.ErrNotValid) {
		t.Errorf("used without being asked for: %v", err)
	}
}
