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
