package entra_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
)

// account makes one of Entra's on a key.
func account(t *testing.T, key *ctap2.Authenticator, name string, policy ctap2.CredProtectPolicy) *ctap2.Credential {
	t.Helper()
	hash := sha256.Sum256(nil)
	credential, err := key.MakeCredential(t.Context(), &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:],
		RP:             ctap2.RelyingParty{ID: rpID, Name: "Microsoft"},
		User:           ctap2.User{ID: []byte("OF: " + name), Name: name, DisplayName: "Old Name"},
		Algorithms:     []cose.Algorithm{cose.ES256},
		ResidentKey:    true,
		Extensions:     []ctap2.Extension{ctap2.CredProtect(policy)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// signIn signs in with a credential, one of several accounts, and returns what
// the key calls it.
func signIn(t *testing.T, key *ctap2.Authenticator, credential *ctap2.Credential) ctap2.User {
	t.Helper()
	hash := sha256.Sum256([]byte("sign in"))
	assertions, err := key.GetAssertion(t.Context(), &ctap2.GetAssertionRequest{
		RPID: rpID, ClientDataHash: hash[:], UserVerification: ctap2.Required,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range assertions {
		if bytes.Equal(a.Credential.ID, credential.ID) {
			if err := a.Verify(credential.PublicKey, hash[:]); err != nil {
				t.Error(err)
			}
			return a.User
		}
	}
	t.Fatalf("not among %d accounts", len(assertions))
	return ctap2.User{}
}

func TestRenameAccount(t *testing.T) {
	const long = "somebody.with.a.very.long.name.that.does.not.fit@subsidiary.contoso.example.com"
	for name, test := range map[string]struct {
		policy  ctap2.CredProtectPolicy
		config  virtual.Config
		request entra.RenameRequest
		want    ctap2.User
	}{
		"by user.id":       {request: entra.RenameRequest{UserID: []byte("OF: ada@contoso.com"), Name: "grace@contoso.com"}, want: ctap2.User{Name: "grace@contoso.com", DisplayName: "Old Name"}},
		"by name":          {request: entra.RenameRequest{OldName: ada, Name: "grace@contoso.com", DisplayName: "Grace"}, want: ctap2.User{Name: "grace@contoso.com", DisplayName: "Grace"}},
		"display name":     {request: entra.RenameRequest{OldName: ada, DisplayName: "Grace"}, want: ctap2.User{Name: ada, DisplayName: "Grace"}},
		"level 2":          {policy: ctap2.UVOptionalWithCredentialIDList, request: entra.RenameRequest{OldName: ada, Name: "g"}, want: ctap2.User{Name: "g", DisplayName: "Old Name"}},
		"level 3":          {policy: ctap2.UVRequired, request: entra.RenameRequest{OldName: ada, Name: "g"}, want: ctap2.User{Name: "g", DisplayName: "Old Name"}},
		"alwaysUv":         {config: virtual.Config{AlwaysUV: true}, request: entra.RenameRequest{OldName: ada, Name: "g"}, want: ctap2.User{Name: "g", DisplayName: "Old Name"}},
		"longer than kept": {request: entra.RenameRequest{OldName: ada, Name: long}, want: ctap2.User{Name: long[:64], DisplayName: "Old Name"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := test.config
			touches := 0
			config.Presence = func(context.Context, virtual.Prompt) virtual.Answer { touches++; return virtual.Approve }
			key := openKey(t, config)
			account(t, key, "bob@contoso.com", ctap2.UVOptional)
			credential := account(t, key, ada, max(test.policy, ctap2.UVOptional))
			touches = 0
			request := test.request
			request.RPID = rpID
			renaming, err := entra.RenameAccount(t.Context(), key, &request)
			if err != nil {
				t.Fatal(err)
			}
			if touches != 0 {
				t.Errorf("%d touches", touches)
			}
			test.want.ID = []byte("OF: " + ada)
			for _, user := range []ctap2.User{renaming.After, signIn(t, key, credential)} {
				if !bytes.Equal(user.ID, test.want.ID) || user.Name != test.want.Name || user.DisplayName != test.want.DisplayName {
					t.Errorf("%q, want %q", user, test.want)
				}
			}
			if renaming.Before.Name != ada || !bytes.Equal(renaming.CredentialID, credential.ID) {
				t.Errorf("%+v", renaming)
			}
		})
	}
}

// The only account need not be named.
func TestRenameAccountOnly(t *testing.T) {
	key := openKey(t, virtual.Config{})
	account(t, key, ada, ctap2.UVOptional)
	if r, err := entra.RenameAccount(t.Context(), key, &entra.RenameRequest{RPID: rpID, Name: "g"}); err != nil || r.After.Name != "g" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRenameAccountRefused(t *testing.T) {
	for name, test := range map[string]struct {
		config  virtual.Config
		request entra.RenameRequest
		is      error
		text    string
	}{
		"no RP ID":         {request: entra.RenameRequest{OldName: ada, Name: "g"}, is: entra.ErrInvalidRequest},
		"no name":          {request: entra.RenameRequest{RPID: rpID, OldName: ada}, is: entra.ErrInvalidRequest},
		"several accounts": {request: entra.RenameRequest{RPID: rpID, Name: "g"}, is: entra.ErrInvalidRequest},
		"no such account":  {request: entra.RenameRequest{RPID: rpID, OldName: "eve", Name: "g"}, is: entra.ErrNotOnKey, text: "it has others for login.microsoft.com"},
		"another site":     {request: entra.RenameRequest{RPID: "login.example", Name: "g"}, is: entra.ErrNotOnKey, text: "it has none for login.example"},
		"no management":    {config: virtual.Config{NoCredentialManagement: true}, request: entra.RenameRequest{RPID: rpID, OldName: ada, Name: "g"}, is: ctap2.ErrUnsupported},
		"the preview":      {config: virtual.Config{Level: virtual.CTAP21PRE}, request: entra.RenameRequest{RPID: rpID, OldName: ada, Name: "g"}, is: ctap2.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			key := openKey(t, test.config)
			account(t, key, "bob@contoso.com", ctap2.UVOptional)
			credential := account(t, key, ada, ctap2.UVOptional)
			renaming, err := entra.RenameAccount(t.Context(), key, &test.request)
			if !errors.Is(err, test.is) || renaming != nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%+v, %v", renaming, err)
			}
			if user := signIn(t, key, credential); user.Name != ada {
				t.Errorf("the account is called %q", user.Name)
			}
		})
	}
}

// A key that does something else than it says is found out.
func TestRenameAccountChecked(t *testing.T) {
	const getAssertion, credentialManagement = 0x02, 0x0A
	hash := sha256.Sum256([]byte(rpID))
	listing := func(message []byte) bool { // enumerateCredentialsBegin
		return message[0] == credentialManagement && bytes.HasPrefix(message[1:], []byte{0xA4, 0x01, 0x04})
	}
	replace := func(old, new string) func(*odd) {
		return func(o *odd) {
			lists := 0
			o.change = func(_ int, message, reply []byte) []byte {
				if listing(message) {
					if lists++; lists == 2 {
						return bytes.ReplaceAll(reply, []byte(old), []byte(new))
					}
				}
				return reply
			}
		}
	}
	refuse := func(times int) func(*odd) {
		return func(o *odd) {
			o.answer = func(n int, message []byte) []byte {
				if message[0] == getAssertion && n <= times {
					return []byte{byte(ctap2.ErrUnsupportedOption)}
				}
				return nil
			}
		}
	}
	for name, test := range map[string]struct {
		odd  func(*odd)
		says string // empty: it is fine
	}{
		"another name":    {replace("grace@contoso.com", "gruce@contoso.com"), "another name"},
		"another user.id": {replace("OF: ada", "OF: eve"), "another user.id"},
		"the account is gone": {func(o *odd) {
			lists := 0
			o.change = func(_ int, message, reply []byte) []byte {
				if listing(message) {
					if lists++; lists == 2 {
						return []byte{byte(ctap2.ErrNoCredentials)}
					}
				}
				return reply
			}
		}, "does not hold"},
		"no second list": {func(o *odd) {
			lists := 0
			o.change = func(_ int, message, reply []byte) []byte {
				if listing(message) {
					if lists++; lists == 2 {
						return []byte{byte(ctap2.ErrOther)}
					}
				}
				return reply
			}
		}, "OTHER"},
		"no silent signature": {refuse(1), ""},
		"no signature":        {refuse(9), "does not sign"},
		"a wrong signature": {func(o *odd) {
			o.change = func(_ int, message, reply []byte) []byte {
				if i := bytes.Index(reply, hash[:]); message[0] == getAssertion && i >= 0 {
					reply[i+36] ^= 1 // signCount, which is signed
				}
				return reply
			}
		}, "with another key"},
	} {
		t.Run(name, func(t *testing.T) {
			device, err := virtual.New(virtual.Config{PIN: keyPIN})
			if err != nil {
				t.Fatal(err)
			}
			o := &odd{Transport: device}
			key := openDevice(t, o)
			account(t, key, ada, ctap2.UVOptional)
			test.odd(o)
			renaming, err := entra.RenameAccount(t.Context(), key, &entra.RenameRequest{RPID: rpID, OldName: ada, Name: "grace@contoso.com"})
			if (err != nil) != (test.says != "") || err != nil && (!strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "was renamed")) {
				t.Errorf("error %v", err)
			}
			if renaming == nil || renaming.Before.Name != ada {
				t.Errorf("%+v", renaming)
			}
		})
	}
}
