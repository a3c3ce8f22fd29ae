package webauthn_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// Everything there is.
const fullCreation = `{
	"rp": {"id": "example.com", "name": "Example", "icon": "https://example.com/icon.png"},
	"user": {"id": "AQID", "name": "ada@example.com", "displayName": "Ada"},
	"challenge": "_-__",
	"pubKeyCredParams": [{"type": "public-key", "alg": -8}, {"alg": -7, "type": "other"}],
	"timeout": 60000,
	"excludeCredentials": [{"type": "public-key", "id": "BAUG", "transports": ["usb", "nfc"]}, {"type": "x", "id": "Bw"}],
	"authenticatorSelection": {"authenticatorAttachment": "cross-platform", "residentKey": "preferred", "requireResidentKey": true, "userVerification": "required"},
	"hints": ["security-key"],
	"attestation": "direct",
	"attestationFormats": ["packed", "none"],
	"extensions": {
		"credProps": true,
		"credentialProtectionPolicy": "userVerificationOptional",
		"enforceCredentialProtectionPolicy": true,
		"prf": {"eval": {"first": "AA", "second": ""}, "evalByCredential": {"AQ": {"first": ""}}},
		"largeBlob": {"support": "required", "read": true, "write": ""},
		"credBlob": "",
		"getCredBlob": true,
		"minPinLength": true,
		"hmacCreateSecret": true,
		"pinComplexityPolicy": true,
		"hmacGetSecret": {"salt1": "AA", "salt2": "AQ"},
		"appid": "https://example.com/1",
		"appidExclude": "https://example.com/2",
		"payment": {"isPayment": true, "total": {}},
		"unheardOf": [1]
	},
	"unheardOf": {}
}`

var creation = webauthn.CreationOptions{
	RP:                 webauthn.RelyingParty{ID: "example.com", Name: "Example"},
	User:               webauthn.User{ID: []byte{1, 2, 3}, Name: "ada@example.com", DisplayName: "Ada"},
	Challenge:          []byte{0xFF, 0xEF, 0xFF},
	PubKeyCredParams:   []webauthn.CredentialParameters{{Type: "public-key", Algorithm: cose.EdDSA}},
	Timeout:            60000,
	ExcludeCredentials: []webauthn.CredentialDescriptor{{Type: "public-key", ID: []byte{4, 5, 6}, Transports: []string{"usb", "nfc"}}},
	AuthenticatorSelection: webauthn.AuthenticatorSelection{
		AuthenticatorAttachment: webauthn.CrossPlatform, ResidentKey: webauthn.Preferred, RequireResidentKey: true, UserVerification: webauthn.Required,
	},
	Hints:              []string{"security-key"},
	Attestation:        webauthn.AttestationDirect,
	AttestationFormats: []string{"packed", "none"},
	Extensions: webauthn.ExtensionInputs{
		CredProps:                         true,
		CredentialProtectionPolicy:        "userVerificationOptional",
		EnforceCredentialProtectionPolicy: true,
		PRF: &webauthn.PRFInputs{
			Eval:             &webauthn.PRFValues{First: []byte{0}, Second: []byte{}},
			EvalByCredential: map[string]webauthn.PRFValues{"AQ": {First: []byte{}}},
		},
		LargeBlob:           &webauthn.LargeBlobInputs{Support: webauthn.Required, Read: true, Write: []byte{}},
		CredBlob:            []byte{},
		GetCredBlob:         true,
		MinPINLength:        true,
		PINComplexityPolicy: true,
		HMACCreateSecret:    true,
		AppID:               "https://example.com/1",
		AppIDExclude:        "https://example.com/2",
		Payment:             &webauthn.PaymentInputs{IsPayment: true},
	},
}

func TestParseCreationOptions(t *testing.T) {
	for _, data := range []string{
		fullCreation,
		`{"publicKey": ` + fullCreation + `, "mediation": "optional"}`,
		`{"@odata.context": "x", "challengeTimeoutDateTime": "2026-01-01T00:00:00Z", "publicKey":` + fullCreation + `}`,
	} {
		got, err := webauthn.ParseCreationOptions([]byte(data))
		if err != nil || !reflect.DeepEqual(*got, creation) {
			t.Errorf("%+v %v", got, err)
		}
	}
	// There and back.
	var again webauthn.CreationOptions
	if err := json.Unmarshal([]byte(asJSON(t, creation)), &again); err != nil || !reflect.DeepEqual(again, creation) {
		t.Errorf("%+v %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"rp": 1}`), &again); !errors.Is(err, errEncoding) || !reflect.DeepEqual(again, creation) {
		t.Errorf("a failure changed the options: %v", err)
	}
	// Little is required, and null is nothing.
	minimal := webauthn.CreationOptions{User: webauthn.User{ID: []byte{}}, Challenge: []byte{}}
	for _, data := range []string{
		`{"rp": {}, "user": {"id": ""}, "challenge": ""}`,
		`{"rp": {"id": null, "name": null}, "user": {"id": "", "name": null, "displayName": null}, "challenge": "", "pubKeyCredParams": null, "timeout": null,
		 "excludeCredentials": null, "authenticatorSelection": null, "hints": null, "attestation": null, "attestationFormats": null, "extensions": null}`,
		`{"RP": {"id": "x"}, "rp": {"ID": "x"}, "user": {"id": "", "Name": "x"}, "challenge": "", "Extensions": {"credProps": true}}`,
		`{"rp": {}, "user": {"id": ""}, "challenge": "", "extensions": {"prf": null, "largeBlob": null, "hmacGetSecret": null, "payment": null, "credBlob": null}, "publicKey": null}`,
	} {
		if got, err := webauthn.ParseCreationOptions([]byte(data)); err != nil || !reflect.DeepEqual(*got, minimal) {
			t.Errorf("%s: %+v %v", data, got, err)
		}
	}
	if err := json.Unmarshal([]byte(asJSON(t, minimal)), &again); err != nil || !reflect.DeepEqual(again, minimal) {
		t.Errorf("%+v %v", again, err)
	}
}

func TestParseRequestOptions(t *testing.T) {
	const full = `{"challenge": "AAAA", "timeout": 1, "rpId": "example.com", "allowCredentials": [{"id": "AQ", "type": "public-key"}],
		"userVerification": "discouraged", "hints": [], "extensions": {"appid": "https://example.com"}}`
	want := webauthn.RequestOptions{
		Challenge: make([]byte, 3), Timeout: 1, RPID: "example.com",
		AllowCredentials: []webauthn.CredentialDescriptor{{Type: "public-key", ID: []byte{1}}},
		UserVerification: webauthn.Discouraged, Hints: []string{},
		Extensions: webauthn.ExtensionInputs{AppID: "https://example.com"},
	}
	for _, data := range []string{full, `{"publicKey": ` + full + `}`} {
		if got, err := webauthn.ParseRequestOptions([]byte(data)); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v %v", got, err)
		}
	}
	want.Hints = nil // which JSON does not tell from an empty list
	var again webauthn.RequestOptions
	if err := json.Unmarshal([]byte(asJSON(t, want)), &again); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%+v %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{}`), &again); !errors.Is(err, errEncoding) {
		t.Error(err)
	}
}

// An error names the member.
func TestParseErrors(t *testing.T) {
	for member, value := range map[string]string{
		"the options are not JSON":                                                   ``,
		"not an object":                                                              `[]`,
		"publicKey: not an object":                                                   `{"publicKey": "x"}`,
		"publicKey.challenge: missing":                                               `{"publicKey": {}}`,
		"challenge: missing":                                                         `{"challenge": null}`,
		"challenge: not a string":                                                    `{"challenge": 1}`,
		"challenge: not base64url":                                                   `{"challenge": "A"}`,
		"timeout: not a number, or negative":                                         `{"challenge": "", "timeout": -1}`,
		"rpId: not a string":                                                         `{"challenge": "", "rpId": {}}`,
		"allowCredentials: not a list":                                               `{"challenge": "", "allowCredentials": {}}`,
		"allowCredentials[0]: not an object":                                         `{"challenge": "", "allowCredentials": ["AAAA"]}`,
		"allowCredentials[1].id: missing":                                            `{"challenge": "", "allowCredentials": [{"type": "", "id": "AA"}, {"type": ""}]}`,
		"allowCredentials[0].type: missing":                                          `{"challenge": "", "allowCredentials": [{"id": "AA"}]}`,
		"allowCredentials[0].id: empty":                                              `{"challenge": "", "allowCredentials": [{"type": "", "id": ""}]}`,
		"allowCredentials[0].transports: not a list of strings":                      `{"challenge": "", "allowCredentials": [{"type": "", "id": "AA", "transports": "usb"}]}`,
		"hints: not a list of strings":                                               `{"challenge": "", "hints": [1]}`,
		"extensions: not an object":                                                  `{"challenge": "", "extensions": []}`,
		"extensions.prf.eval.first: missing":                                         `{"challenge": "", "extensions": {"prf": {"eval": {}}}}`,
		"extensions.prf.evalByCredential.AQ: missing":                                `{"challenge": "", "extensions": {"prf": {"evalByCredential": {"AQ": null}}}}`,
		"extensions.prf.evalByCredential.AQ.first: not a string":                     `{"challenge": "", "extensions": {"prf": {"evalByCredential": {"AQ": {"first": 1}}}}}`,
		"extensions.largeBlob.read: not a boolean":                                   `{"challenge": "", "extensions": {"largeBlob": {"read": 1}}}`,
		`timeout: not a number, or negative `:                                        `{"challenge": "", "timeout": "60000"}`,
		`extensions.prf.evalByCredential."\x1b[2J\n\u202e": missing`:                 `{"challenge": "", "extensions": {"prf": {"evalByCredential": {"\u001b[2J\n\u202e": null}}}}`,
		`extensions.prf.evalByCredential."` + strings.Repeat("A", 64) + `": missing`: `{"challenge": "", "extensions": {"prf": {"evalByCredential": {"` + strings.Repeat("A", 100000) + `": null}}}}`,
		"extensions.payment.isPayment: not a boolean":                                `{"challenge": "", "extensions": {"payment": {"isPayment": "yes"}}}`,
	} {
		_, err := webauthn.ParseRequestOptions([]byte(value))
		refused(t, err, errEncoding)
		if got := err.Error(); got != "webauthn: EncodingError: "+strings.TrimSpace(member) {
			t.Errorf("%s: %s", value, got)
		}
	}
	for member, value := range map[string]string{
		"rp: missing":                       `{"user": {"id": ""}, "challenge": ""}`,
		"rp: not an object":                 `{"rp": "x", "user": {"id": ""}, "challenge": ""}`,
		"user: missing":                     `{"rp": {}, "challenge": ""}`,
		"user.id: missing":                  `{"rp": {}, "user": {"name": ""}, "challenge": ""}`,
		"user.id: not base64url":            `{"rp": {}, "user": {"id": "a b"}, "challenge": ""}`,
		"pubKeyCredParams[0].alg: missing":  `{"rp": {}, "user": {"id": ""}, "challenge": "", "pubKeyCredParams": [{"type": ""}]}`,
		"pubKeyCredParams[0].type: missing": `{"rp": {}, "user": {"id": ""}, "challenge": "", "pubKeyCredParams": [{"alg": -7}]}`,
		"pubKeyCredParams[0].alg: not a whole number, or too large": `{"rp": {}, "user": {"id": ""}, "challenge": "", "pubKeyCredParams": [{"type": "", "alg": 2147483648}]}`,
		"authenticatorSelection.requireResidentKey: not a boolean":  `{"rp": {}, "user": {"id": ""}, "challenge": "", "authenticatorSelection": {"requireResidentKey": "true"}}`,
	} {
		_, err := webauthn.ParseCreationOptions([]byte(value))
		refused(t, err, errEncoding)
		if got := err.Error(); got != "webauthn: EncodingError: "+member {
			t.Errorf("%s: %s", value, got)
		}
	}
}

// Numbers are what JSON can write, and a timeout is no reason to refuse the rest.
func TestNumbers(t *testing.T) {
	for number, want := range map[string]uint32{
		"60000": 60000, "60000.0": 60000, "6e4": 60000, "0.06E+6": 60000, "1.5": 1, "0": 0, "-0": 0,
		"4294967295": 4294967295, "4294967296": 4294967295, "1e999": 4294967295,
	} {
		options, err := webauthn.ParseRequestOptions([]byte(`{"challenge": "", "timeout": ` + number + `}`))
		if err != nil || options.Timeout != want {
			t.Errorf("%s: %+v %v", number, options, err)
		}
	}
	for number, want := range map[string]cose.Algorithm{"-7": cose.ES256, "-7.0": cose.ES256, "-0.7e1": cose.ES256, "-2147483648": -2147483648, "-7.5": 0, "1e999": 0, "-2147483649": 0} {
		options, err := webauthn.ParseCreationOptions([]byte(`{"rp": {}, "user": {"id": ""}, "challenge": "", "pubKeyCredParams": [{"type": "", "alg": ` + number + `}]}`))
		if want == 0 {
			refused(t, err, errEncoding)
		} else if err != nil || options.PubKeyCredParams[0].Algorithm != want {
			t.Errorf("%s: %+v %v", number, options, err)
		}
	}
}

func TestBase64URL(t *testing.T) {
	for text, want := range map[string]string{
		"":         "",
		"YQ":       "a",
		"YQ==":     "a",
		"YWE=":     "aa",
		"_-_-":     "\xff\xef\xfe",
		"/+/+":     "\xff\xef\xfe",
		"_w":       "\xff",
		"/w==":     "\xff",
		"YWJjZGVm": "abcdef",
	} {
		var b webauthn.Base64URL
		if err := b.UnmarshalText([]byte(text)); err != nil || string(b) != want {
			t.Errorf("%q: %q %v", text, b, err)
		}
		if back := b.String(); back != strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text) {
			t.Errorf("%q: back %q", text, back)
		}
	}
	for _, text := range []string{"Y", "YQ=", "YQ===", "YWJj====", "====", "=", "YR", "YQ\n", "Y\nQ", "YQ\r", " YQ", "Y=Q", "_/", "+-__", "YQ==YQ==", "é"} {
		b := webauthn.Base64URL("before")
		if err := b.UnmarshalText([]byte(text)); err == nil || string(b) != "before" {
			t.Errorf("%q: %q %v", text, b, err)
		}
	}
}

// Options in the shape of Microsoft Graph's, with a challenge of 5 KB and
// credential IDs in the standard alphabet.
func TestGraphOptions(t *testing.T) {
	challenge := strings.Repeat("eyJ0eXAiOiJKV1QifQ", 385) + "A"
	got, err := webauthn.ParseCreationOptions([]byte(`{"@odata.context": "x", "challengeTimeoutDateTime": "2026-01-01T00:00:00Z", "publicKey": {
		"rp": {"id": "login.microsoft.com", "name": "Microsoft"},
		"user": {"id": "T0Y6AQID", "name": "ada@example.com", "displayName": "Ada"},
		"challenge": "` + challenge + `",
		"pubKeyCredParams": [{"type": "public-key", "alg": -7}, {"type": "public-key", "alg": -257}],
		"timeout": 60000,
		"excludeCredentials": [{"id": "7ebzDmVTSreLsJkrjm1mNA==", "type": "public-key", "transports": []}, {"id": "+/+/", "type": "public-key"}],
		"authenticatorSelection": {"authenticatorAttachment": "cross-platform", "requireResidentKey": true, "userVerification": "required"},
		"attestation": "direct",
		"extensions": {"hmacCreateSecret": true, "enforceCredentialProtectionPolicy": true, "credentialProtectionPolicy": "userVerificationOptional"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Challenge.String() != challenge || len(got.Challenge) != 5198 {
		t.Errorf("a challenge of %d bytes", len(got.Challenge))
	}
	if ids := got.ExcludeCredentials; len(ids) != 2 || ids[0].ID.String() != "7ebzDmVTSreLsJkrjm1mNA" || ids[1].ID.String() != "-_-_" {
		t.Errorf("%v", ids)
	}
}

// Values that JSON has and this package does not know are absent. A list that
// names none but unknown types is not an empty one.
func TestUnknownInJSON(t *testing.T) {
	got, err := webauthn.ParseCreationOptions([]byte(`{"rp": {}, "user": {"id": ""}, "challenge": "", "attestation": "x",
		"pubKeyCredParams": [{"type": "x", "alg": -7}], "excludeCredentials": [{"type": "x", "id": "AQ"}],
		"authenticatorSelection": {"authenticatorAttachment": "x", "residentKey": "x", "userVerification": "Required"},
		"extensions": {"largeBlob": {"support": "x"}, "credentialProtectionPolicy": "x"}}`))
	want := webauthn.CreationOptions{
		User: webauthn.User{ID: []byte{}}, Challenge: []byte{}, PubKeyCredParams: []webauthn.CredentialParameters{{Type: "x", Algorithm: cose.ES256}},
		Extensions: webauthn.ExtensionInputs{LargeBlob: &webauthn.LargeBlobInputs{Support: webauthn.Preferred}},
	}
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for list, want := range map[string][]webauthn.CredentialDescriptor{
		`[{"type": "x", "id": "AQ"}]`:                                     {{Type: "x", ID: []byte{1}}},
		`[{"type": "x", "id": "AQ"}, {"type": "public-key", "id": "Ag"}]`: {{Type: "public-key", ID: []byte{2}}},
	} {
		got, err := webauthn.ParseRequestOptions([]byte(`{"challenge": "", "userVerification": "x", "allowCredentials": ` + list + `}`))
		if err != nil || got.UserVerification != "" || !reflect.DeepEqual(got.AllowCredentials, want) {
			t.Errorf("%s: %+v %v", list, got, err)
		}
	}
}

// An empty type in JSON is a type that keys do not know; only a Go program that
// leaves it out means a public key.
func TestEmptyTypeInJSON(t *testing.T) {
	d := sit(t, virtual.Config{})
	a := d.mustCreate()
	_, err := d.create(`{"pubKeyCredParams": [{"type": "", "alg": -7}]}`)
	refused(t, err, errNotSupported)
	made, err := d.create(`{"pubKeyCredParams": [{"type": "", "alg": -7}, {"type": "public-key", "alg": -8}]}`)
	if err != nil || made.PublicKeyAlgorithm != cose.EdDSA {
		t.Errorf("%+v %v", made, err)
	}
	d.mustCreate(fmt.Sprintf(`{"excludeCredentials": [{"type": "", "id": %q}]}`, a.response.ID))
	_, err = d.get(fmt.Sprintf(`{"allowCredentials": [{"type": "", "id": %q}]}`, a.response.ID))
	refused(t, err, errNotAllowed)

	// It is as unknown after a round trip.
	options, err := webauthn.ParseCreationOptions(d.creation(`{"pubKeyCredParams": [{"type": "", "alg": -7}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if options, err = webauthn.ParseCreationOptions([]byte(asJSON(t, options))); err != nil {
		t.Fatal(err)
	}
	_, err = d.Create(t.Context(), options)
	refused(t, err, errNotSupported)
}

// Values that a program misspelt are refused, before a key is asked, and named.
func TestUnknownInGo(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	r := d.record()
	for says, change := range map[string]func(o *webauthn.CreationOptions){
		`userVerification is "Required"`:   func(o *webauthn.CreationOptions) { o.AuthenticatorSelection.UserVerification = "Required" },
		`residentKey is "yes"`:             func(o *webauthn.CreationOptions) { o.AuthenticatorSelection.ResidentKey = "yes" },
		`authenticatorAttachment is "usb"`: func(o *webauthn.CreationOptions) { o.AuthenticatorSelection.AuthenticatorAttachment = "usb" },
		`attestation is "all"`:             func(o *webauthn.CreationOptions) { o.Attestation = "all" },
		`largeBlob.support is "discouraged"`: func(o *webauthn.CreationOptions) {
			o.Extensions.LargeBlob = &webauthn.LargeBlobInputs{Support: webauthn.Discouraged}
		},
		`credential protection policy "required"`: func(o *webauthn.CreationOptions) { o.Extensions.CredentialProtectionPolicy = "required" },
		`excludeCredentials[1] is of type "key"`: func(o *webauthn.CreationOptions) {
			o.ExcludeCredentials = []webauthn.CredentialDescriptor{{ID: []byte{1}}, {Type: "key", ID: []byte{1}}}
		},
		`pubKeyCredParams[1] is of type "key"`: func(o *webauthn.CreationOptions) {
			o.PubKeyCredParams = []webauthn.CredentialParameters{{Algorithm: cose.ES256}, {Type: "key", Algorithm: cose.ES256}}
		},
	} {
		options := &webauthn.CreationOptions{User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1}}
		change(options)
		_, err := d.Create(t.Context(), options)
		want := webauthn.ErrType
		if strings.HasPrefix(says, "pubKeyCredParams") || strings.HasPrefix(says, "credential protection") {
			want = webauthn.ErrNotSupported
		}
		refused(t, err, want)
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	for says, options := range map[string]*webauthn.RequestOptions{
		`userVerification is "REQUIRED"`:       {Challenge: []byte{1}, UserVerification: "REQUIRED"},
		`allowCredentials[1] is of type "key"`: {Challenge: []byte{1}, AllowCredentials: []webauthn.CredentialDescriptor{{ID: []byte{1}}, {Type: "key", ID: []byte{2}}}},
	} {
		_, err := d.Get(t.Context(), options)
		want := webauthn.ErrType
		if strings.HasPrefix(says, "allowCredentials") {
			want = webauthn.ErrNotAllowed
		}
		refused(t, err, want)
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if len(r.messages) != 0 {
		t.Errorf("the key was asked: %x", r.messages)
	}
}

// A credential, or an algorithm, without a type is a public key: here, and for
// the browser that is sent the options.
func TestNoType(t *testing.T) {
	d := sit(t, virtual.Config{})
	made, err := d.Create(t.Context(), &webauthn.CreationOptions{
		User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1}, PubKeyCredParams: []webauthn.CredentialParameters{{Algorithm: cose.ES256}},
	})
	if err != nil {
		t.Fatal(err)
	}
	list := []webauthn.CredentialDescriptor{{ID: made.ID}}
	again := webauthn.CreationOptions{
		User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1}, PubKeyCredParams: []webauthn.CredentialParameters{{Algorithm: cose.ES256}},
		ExcludeCredentials: list,
	}
	_, err = d.Create(t.Context(), &again)
	refused(t, err, errInvalidState)
	signed, err := d.Get(t.Context(), &webauthn.RequestOptions{Challenge: []byte{1}, AllowCredentials: list})
	if err != nil || !bytes.Equal(signed.ID, made.ID) {
		t.Errorf("%v %v", signed, err)
	}
	var back webauthn.CreationOptions
	if err := json.Unmarshal([]byte(asJSON(t, again)), &back); err != nil || back.ExcludeCredentials[0].Type != "public-key" || back.PubKeyCredParams[0].Type != "public-key" {
		t.Errorf("%+v %v", back, err)
	}
}
