package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

func open(t *testing.T) *browser {
	t.Helper()
	key, err := anykey.Software(t.Context(), t.Output(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	origin, stop, err := serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	b, err := newBrowser(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSignIn(t *testing.T) {
	b := open(t)
	for _, user := range []string{"ada", "bob"} {
		if err := b.register(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"bob", "ada", "ada"} {
		if err := b.signIn(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.register(t.Context(), "ada"); !errors.Is(err, webauthn.ErrInvalidState) {
		t.Errorf("registering again: %v", err)
	}
	if err := b.signIn(t.Context(), "eve"); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("signing in without having registered: %v", err)
	}
	other := open(t)
	b.Authenticators = other.Authenticators
	if err := b.signIn(t.Context(), "ada"); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Errorf("with another key: %v", err)
	}
}

// The server takes an answer once, and not from another site.
func TestServerRefuses(t *testing.T) {
	b := open(t)
	if err := b.register(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	ask := func() *webauthn.RequestOptions {
		fromServer, err := b.post(t.Context(), "/users/ada/signin/options", nil)
		if err != nil {
			t.Fatal(err)
		}
		options, err := webauthn.ParseRequestOptions(fromServer)
		if err != nil {
			t.Fatal(err)
		}
		return options
	}
	answer := func(client *webauthn.Client, options *webauthn.RequestOptions) *webauthn.AuthenticationResponse {
		response, err := client.Get(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	good := answer(&b.Client, ask())
	if _, err := b.post(t.Context(), "/users/ada/signin", good); err != nil {
		t.Fatal(err)
	}
	if _, err := b.post(t.Context(), "/users/ada/signin", good); err == nil || !strings.Contains(err.Error(), "nothing was asked") {
		t.Errorf("the same answer again: %v", err)
	}
	ask()
	if _, err := b.post(t.Context(), "/users/ada/signin", good); err == nil || !strings.Contains(err.Error(), "challenge") {
		t.Errorf("the answer to another challenge: %v", err)
	}
	phisher := &webauthn.Client{Origin: "http://localhost:1", Authenticators: b.Authenticators}
	if _, err := b.post(t.Context(), "/users/ada/signin", answer(phisher, ask())); err == nil || !strings.Contains(err.Error(), "origin") {
		t.Errorf("an answer from another site: %v", err)
	}
}
