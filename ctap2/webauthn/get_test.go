package webauthn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// Several accounts: the caller chooses, knowing their names if the user was
// verified.
func TestChooseAccount(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	for _, name := range []string{"ada", "bob", "eve"} {
		d.mustCreate(fmt.Sprintf(`{"user": {"id": %q, "name": %q, "displayName": ""}}`, encode([]byte(name)), name),
			`{"authenticatorSelection": {"residentKey": "required"}}`)
	}
	var seen []webauthn.Account
	choose := func(i int, err error) func(context.Context, []webauthn.Account) (int, error) {
		return func(_ context.Context, accounts []webauthn.Account) (int, error) {
			seen = accounts
			return i, err
		}
	}
	for i, name := range []string{"eve", "bob", "ada"} { // the most recent first
		d.ChooseAccount = choose(i, nil)
		a, _ := d.mustGet()
		if string(a.user) != name || len(seen) != 3 || seen[i].Name != name {
			t.Errorf("%d: %q of %v", i, a.user, seen)
		}
	}
	d.ChooseAccount = choose(2, nil)
	d.mustGet(`{"userVerification": "discouraged"}`)
	if seen[2].Name != "" || string(seen[2].ID) != "ada" {
		t.Errorf("names without verification: %v", seen)
	}
	changed := errors.New("changed my mind")
	for _, choice := range []func(context.Context, []webauthn.Account) (int, error){choose(3, nil), choose(-1, nil), choose(0, changed), nil} {
		d.ChooseAccount = choice
		_, err := d.get(`{"extensions": {"prf": {"eval": {"first": "AAAA"}}}}`)
		refused(t, err, errNotAllowed)
	}
	d.ChooseAccount = choose(0, changed)
	_, err := d.get()
	refused(t, err, errNotAllowed, changed)
}

// A list of what nobody can have is not the absence of a list.
func TestAllowCredentials(t *testing.T) {
	d := sit(t, virtual.Config{})
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	_, err := d.get(`{"allowCredentials": [{"type": "private-key", "id": "AAAA"}]}`)
	refused(t, err, errNotAllowed)
	d.mustGet(fmt.Sprintf(`{"allowCredentials": [{"type": "private-key", "id": "AAAA"}, {"type": "public-key", "id": %q}]}`, a.response.ID))
	d.mustGet(`{"allowCredentials": []}`)
	d.touches = 0
	_, err = d.get(allow("allowCredentials", "AAAA"))
	refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
	if d.touches != 1 {
		t.Errorf("%d touches", d.touches)
	}
}

// A U2F key signs in where it can.
func TestU2FOnly(t *testing.T) {
	d := sit(t, virtual.Config{Level: virtual.CTAP1})
	a := d.mustCreate(`{"extensions": {"prf": {}, "largeBlob": {}, "credBlob": "AAAA", "credProps": true, "hmacCreateSecret": true, "minPinLength": true}}`)
	if got, want := asJSON(t, a.results), `{"credBlob":false,"credProps":{"rk":false},"hmacCreateSecret":false,"largeBlob":{"supported":false},"prf":{"enabled":false}}`; got != want {
		t.Errorf("extension results %s", got)
	}
	signed, results := d.mustGet(allow("allowCredentials", a.response.ID),
		`{"extensions": {"prf": {"eval": {"first": "AAAA"}}, "getCredBlob": true, "largeBlob": {"read": true}}}`)
	if got := asJSON(t, results); got != `{"largeBlob":{},"prf":{}}` || signed.user == nil || len(signed.user) != 0 {
		t.Errorf("extension results %s", got)
	}
	_, err := d.get()
	refused(t, err, errNotAllowed)
	_, err = d.get(allow("allowCredentials", a.response.ID), `{"userVerification": "required"}`)
	refused(t, err, errConstraint)
}

// What a site notices if somebody changed something on the way.
func TestSiteRefuses(t *testing.T) {
	d := sit(t, virtual.Config{})
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	try := func(change func(*webauthn.AuthenticationResponse)) error {
		response, err := d.get(allow("allowCredentials", a.response.ID))
		if err != nil {
			t.Fatal(err)
		}
		change(response)
		_, _, err = d.signIn(t, []byte(asJSON(t, response)))
		return err
	}
	if err := try(func(*webauthn.AuthenticationResponse) {}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*webauthn.AuthenticationResponse){
		"signature":         func(r *webauthn.AuthenticationResponse) { r.Signature[len(r.Signature)-1] ^= 1 },
		"authenticatorData": func(r *webauthn.AuthenticationResponse) { r.AuthenticatorData[36] ^= 1 },
		"clientDataJSON":    func(r *webauthn.AuthenticationResponse) { r.ClientDataJSON = slices.Insert(r.ClientDataJSON, 1, ' ') },
		"challenge":         func(*webauthn.AuthenticationResponse) { d.challenge = "AAAA" },
		"credential":        func(r *webauthn.AuthenticationResponse) { r.ID = []byte{1} },
	} {
		if err := try(change); err == nil {
			t.Errorf("a changed %s was accepted", name)
		}
	}
	d.origin = "https://example.com"
	if err := try(func(*webauthn.AuthenticationResponse) {}); err == nil {
		t.Error("another origin was accepted")
	}
}
