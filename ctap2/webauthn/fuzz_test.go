package webauthn_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/tapstone/fido/ctap2/webauthn"
)

// Options are refused with ErrEncoding, or go to JSON and back unchanged, but
// for empty lists, which JSON does not tell from none.
func FuzzOptions(f *testing.F) {
	for _, seed := range []string{
		fullCreation,
		`{"publicKey": ` + fullCreation + `}`,
		`{"challenge": "AAAA", "allowCredentials": [{"id": "AQ==", "type": "public-key", "transports": ["usb"]}], "rpId": "example.com"}`,
		`{"challenge": "+/8=", "extensions": {"prf": {"evalByCredential": {"": {"first": ""}}}, "largeBlob": {"write": "AA"}}}`,
		`{"publicKey": null, "challenge": null}`, `{"challenge": ["AAAA"]}`, `[]`, ``, `"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		creation, err := webauthn.ParseCreationOptions(data)
		roundTrip(t, creation, err)
		request, err := webauthn.ParseRequestOptions(data)
		roundTrip(t, request, err)
	})
}

func roundTrip[T any](t *testing.T, options *T, err error) {
	if err != nil {
		if !errors.Is(err, webauthn.ErrEncoding) || options != nil {
			t.Fatalf("error %v", err)
		}
		return
	}
	for range 2 { // empty lists are gone after the first
		data, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		again := new(T)
		if err := json.Unmarshal(data, again); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(data) {
			t.Fatalf("%s, then %s %v", data, second, err)
		}
		if reflect.DeepEqual(again, options) {
			return
		}
		options = again
	}
	t.Fatalf("changes each time: %+v", options)
}

// Responses are refused with ErrEncoding, or go to JSON and back.
func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		`{"id": "AQ", "rawId": "AQ", "type": "public-key", "response": {"clientDataJSON": "AQ", "attestationObject": "AQ", "transports": ["usb"], "publicKeyAlgorithm": -7}}`,
		`{"id": "AQ", "response": {"clientDataJSON": "AQ", "authenticatorData": "AQ", "signature": "AQ", "userHandle": null}, "clientExtensionResults": {
			"credProps": {"rk": true}, "prf": {"enabled": true, "results": {"first": "AQ", "second": "Ag"}}, "largeBlob": {"supported": true, "blob": "", "written": false},
			"credBlob": true, "getCredBlob": "", "hmacCreateSecret": true, "appid": false, "appidExclude": true}}`,
		`{"id": null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var created, createdAgain webauthn.RegistrationResponse
		if err := created.UnmarshalJSON(data); err != nil && !errors.Is(err, webauthn.ErrEncoding) {
			t.Fatal(err)
		} else if err == nil {
			first, _ := created.JSONWithSecrets()
			err = createdAgain.UnmarshalJSON(first)
			if second, _ := createdAgain.JSONWithSecrets(); err != nil || string(second) != string(first) {
				t.Fatalf("%s, then %s %v", first, second, err)
			}
		}
		var signed, signedAgain webauthn.AuthenticationResponse
		if err := signed.UnmarshalJSON(data); err != nil && !errors.Is(err, webauthn.ErrEncoding) {
			t.Fatal(err)
		} else if err == nil {
			first, _ := signed.JSONWithSecrets()
			err = signedAgain.UnmarshalJSON(first)
			if second, _ := signedAgain.JSONWithSecrets(); err != nil || string(second) != string(first) {
				t.Fatalf("%s, then %s %v", first, second, err)
			}
		}
	})
}
