package webauthn_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/internal/vectors"
)

// The client data of the specification's vectors, to the byte. Some of them have
// a member that is there so that nobody relies on its absence: what stands in
// front of it is what a verifier without a JSON parser compares (WebAuthn
// §5.8.1.2).
func TestClientDataVectors(t *testing.T) {
	exact := 0
	check := func(name, kind string, challenge, want []byte) {
		var v struct {
			CrossOrigin bool
			TopOrigin   string
		}
		if err := json.Unmarshal(want, &v); err != nil {
			t.Fatal(err)
		}
		d := webauthn.ClientData{Type: kind, Challenge: challenge, Origin: "https://example.org", CrossOrigin: v.CrossOrigin, TopOrigin: v.TopOrigin}
		got := d.Serialize()
		if bytes.Equal(got, want) {
			exact++
			return
		}
		if rest, ok := bytes.CutPrefix(want, got[:len(got)-1]); !ok || !bytes.HasPrefix(rest, []byte(`,"extraData":"`)) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	cases := vectors.WebAuthn()
	for _, c := range cases {
		check(c.Name, webauthn.TypeCreate, c.Registration.Challenge, c.Registration.ClientDataJSON)
		check(c.Name, webauthn.TypeGet, c.Authentication.Challenge, c.Authentication.ClientDataJSON)
	}
	if len(cases) < 10 || exact < 10 {
		t.Errorf("%d cases, %d without a further member", len(cases), exact)
	}
}

// What is escaped, and what is not: encoding/json would escape more.
func TestClientDataString(t *testing.T) {
	d := webauthn.ClientData{Type: "a\"\\\x00\x1f\n\u007f<>&\u2028é\xff", Origin: "o"}
	const want = `{"type":"a\"\\\u0000\u001f\u000a` + "\u007f<>&\u2028é\uFFFD" + `","challenge":"","origin":"o","crossOrigin":false}`
	if got := string(d.Serialize()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !json.Valid(d.Serialize()) {
		t.Error("not JSON")
	}
}
