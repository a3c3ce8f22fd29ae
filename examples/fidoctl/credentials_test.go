package main

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// withCredentials returns a key with two accounts at example.com, the first of
// which can have a blob, and one at example.org with a hostile name.
func withCredentials(t *testing.T) string {
	t.Helper()
	path := newKey(t, testPIN)
	syscall.ForkLock.RLock() // as in newKey
	defer syscall.ForkLock.RUnlock()
	config := virtual.ProfileCTAP23.Config()
	config.Path = path
	device, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(testPIN), nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ site, user, name string }{
		{"example.com", "ada", "Ada Lovelace"},
		{"example.com", "bob", ""},
		{"example.org", "eve\x1b[2J\nadmin", "Eve"},
	} {
		_, err := key.MakeCredential(t.Context(), &ctap2.MakeCredentialRequest{
			ClientDataHash: make([]byte, 32),
			RP:             ctap2.RelyingParty{ID: c.site, Name: "Example"},
			User:           ctap2.User{ID: []byte{byte(i)}, Name: c.user, DisplayName: c.name},
			Algorithms:     []cose.Algorithm{cose.ES256},
			Extensions:     []ctap2.Extension{ctap2.HMACSecret(), ctap2.LargeBlobKey()}[:2-min(i, 1)],
			ResidentKey:    true,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func listed(t *testing.T, key string) credentialsResult {
	t.Helper()
	var r credentialsResult
	script(t, key, &r, "credentials", "list")
	return r
}

func TestCredentialsPerson(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	id := func(user string) string {
		for _, c := range listed(t, key).Credentials {
			if c.User == user {
				return c.ID.String()
			}
		}
		t.Fatalf("no %s", user)
		return ""
	}
	s := person(t, key, "credentials", "list")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	out := s.ends(0)
	for _, want := range []string{
		"example.com (Example)\n  " + id("ada")[:16] + "…  ada, Ada Lovelace\n",
		"example.org (Example)\n  ", "eve\uFFFD[2J\uFFFDadmin, Eve\n", "3 credentials; room for 97 more\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	s = person(t, key, "credentials", "show", id("ada")[:6])
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Ada Lovelace")
	s.sees("ES256")
	s.sees("can have one")
	s.ends(0)

	s = person(t, key, "credentials", "rename", "bob", "--user", "bob@example.com")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Renamed: bob@example.com at example.com")
	s.ends(0)

	// No is an answer, and so is nothing.
	for _, answer := range []string{"n\n", "\n", "\x04"} {
		s = person(t, key, "credentials", "delete", "ada", "bob@example.com")
		s.sees("PIN")
		s.types(testPIN + "\n")
		s.sees("ada at example.com")
		s.sees("bob@example.com at example.com")
		s.sees("Delete them from the key? [y/N] ")
		s.types(answer)
		s.sees("Nothing was changed.")
		s.ends(interrupted.exit)
	}
	s = person(t, key, "credentials", "delete", "ada")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("[y/N] ")
	s.types("y\n")
	s.sees("Deleted ada at example.com")
	s.ends(0)
	if n := len(listed(t, key).Credentials); n != 2 {
		t.Errorf("%d left", n)
	}
}

func TestCredentialsScript(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	r := listed(t, key)
	if len(r.Credentials) != 3 || *r.Room != 97 {
		t.Fatalf("%+v", r)
	}
	ada := r.Credentials[0]
	if ada.Site != "example.com" || ada.SiteName != "Example" || ada.DisplayName != "Ada Lovelace" || ada.Algorithm != "ES256" || !ada.CanHaveBlob || r.Credentials[1].CanHaveBlob {
		t.Errorf("%+v", ada)
	}
	var one credentialsResult
	script(t, key, &one, "credentials", "list", "example.org")
	if len(one.Credentials) != 1 || one.Credentials[0].User != "eve\x1b[2J\nadmin" {
		t.Errorf("%+v", one)
	}
	var c credentialResult
	script(t, key, &c, "credentials", "show", "example.org")
	if c.ID.String() != one.Credentials[0].ID.String() {
		t.Errorf("%+v", c)
	}
	var d done
	script(t, key, &d, "credentials", "rename", ada.ID.String(), "--display-name", "")
	script(t, key, &c, "credentials", "show", "ada")
	if c.DisplayName != "" || c.User != "ada" {
		t.Errorf("%+v", c)
	}

	scriptFails(t, key, notFound, "credentials", "show", "zoe")
	scriptFails(t, key, usage, "credentials", "show", "example.com") // which are two
	scriptFails(t, key, usage, "credentials", "rename", "ada")
	scriptFails(t, key, usage, "credentials", "delete", "ada") // without --yes

	// With the credential goes its blob.
	if r := pipe(t, key, "hello", "--pin-fd", "3", "blob", "put", "ada", "-"); r.code == 0 {
		t.Error("there is no descriptor 3")
	}
	script(t, key, &d, "blob", "put", "ada", open(t, "hello").Name())
	var gone deletedResult
	script(t, key, &gone, "credentials", "delete", "ada", "example.org", "ada")
	if len(gone.Deleted) != 2 || gone.Deleted[0].User != "ada" {
		t.Errorf("%+v", gone)
	}
	var blobs blobsResult
	script(t, key, &blobs, "blob", "list")
	if len(blobs.Blobs) != 0 || blobs.Other != 0 {
		t.Errorf("%+v", blobs)
	}
	scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "credentials", "list")
	scriptFails(t, key+".new", notSetUp, "credentials", "list")
}
