package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// Two users get keys, one of them a second one, and the third gets none: an old
// key is not one for Entra.
func TestProvision(t *testing.T) {
	client := graphClient(t)
	var out bytes.Buffer
	users := []string{"ada@contoso.com", "bob@contoso.com"}
	if err := provision(t.Context(), &out, client, softwareKey, "blue key", users); err != nil {
		t.Fatal(err)
	}
	if err := provision(t.Context(), &out, client, softwareKey, "red key", users[:1]); err != nil {
		t.Fatal(err)
	}
	oldKey := func(ctx context.Context, _ io.Writer) (*ctap2.Authenticator, error) {
		device, err := virtual.New(virtual.Config{Level: virtual.CTAP1})
		if err != nil {
			return nil, err
		}
		return ctap2.Open(ctx, device)
	}
	err := provision(t.Context(), &out, client, oldKey, "old key", []string{"eve@contoso.com"})
	if !errors.Is(err, entra.ErrIncompatible) || !strings.Contains(err.Error(), "eve@contoso.com") {
		t.Errorf("an old key: %v", err)
	}
	for _, line := range []string{
		"Plug in the key for bob@contoso.com.", "ada@contoso.com: registered", "bob@contoso.com: registered", "eve@contoso.com: options fetched",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, &out)
		}
	}
	if strings.Contains(out.String(), "t0ken") {
		t.Errorf("the token is in\n%s", &out)
	}
}

func graphClient(t *testing.T) *entra.Client {
	t.Helper()
	graph, err := newGraph()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(graph)
	t.Cleanup(server.Close)
	return &entra.Client{Token: func(context.Context) (string, error) { return "t0ken", nil }, BaseURL: server.URL}
}

// The stand-in knows a key that a user has, and takes a challenge once.
func TestGraph(t *testing.T) {
	client := graphClient(t)
	key, err := softwareKey(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	options, err := client.CreationOptions(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	registration, err := options.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	registration.DisplayName = "blue key"
	method, err := client.Register(t.Context(), "ada", registration)
	if err != nil || method.DisplayName != "blue key" {
		t.Fatalf("%+v, %v", method, err)
	}
	if method, err := client.Register(t.Context(), "ada", registration); err == nil {
		t.Errorf("the same registration again: %+v", method)
	}
	if options, err = client.CreationOptions(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	if _, err := options.Create(t.Context(), key); !errors.Is(err, webauthn.ErrInvalidState) {
		t.Errorf("the same key again: %v", err)
	}
}
