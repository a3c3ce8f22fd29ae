package ctap2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func at(rpID string) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.RP = ctap2.RelyingParty{ID: rpID, Name: "The " + rpID} }
}

// fill registers n discoverable credentials of parties relying parties and
// returns them by ID.
func (d *desk) fill(n, parties int) map[string]*ctap2.Credential {
	d.t.Helper()
	credentials := map[string]*ctap2.Credential{}
	for i := range n {
		c := d.register(account(fmt.Sprintf("user-%d", i)), at(fmt.Sprintf("rp%d.example", i%parties)))
		credentials[string(c.ID)] = c
	}
	d.messages, d.asked = nil, nil
	return credentials
}

func TestEnumerateCredentials(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, config, benchPIN)
		if list, err := d.EnumerateCredentials(t.Context(), nil); err != nil || len(list) != 0 {
			t.Errorf("an empty key lists %v, %v", list, err)
		}
		if list, err := d.EnumerateRPs(t.Context(), nil); err != nil || len(list) != 0 {
			t.Errorf("an empty key lists %v, %v", list, err)
		}
		made := d.fill(10, 3)
		rps, err := d.EnumerateRPs(t.Context(), nil)
		if err != nil || len(rps) != 3 {
			t.Fatalf("%v, %v", rps, err)
		}
		for _, rp := range rps {
			if rp.IDHash != sha256.Sum256([]byte(rp.ID)) {
				t.Errorf("hash of %q", rp.ID)
			}
		}
		list, err := d.EnumerateCredentials(t.Context(), nil)
		if err != nil || len(list) != len(made) {
			t.Fatalf("%d of %d, %v", len(list), len(made), err)
		}
		for _, s := range list {
			c := made[string(s.Credential.ID)]
			if c == nil {
				t.Fatalf("unknown credential %x", s.Credential.ID)
			}
			want, _ := c.PublicKey.MarshalCBOR()
			got, _ := s.PublicKey.MarshalCBOR()
			if s.RP.IDHash != c.AuthData.RPIDHash || !bytes.Equal(got, want) || s.User.Name == "" || s.Credential.Type != "public-key" {
				t.Errorf("%+v", s)
			}
		}
		hash := sha256.Sum256([]byte("rp0.example"))
		for _, r := range []*ctap2.EnumerateCredentialsRequest{{RPID: "rp0.example"}, {RPIDHash: &hash}, {RPID: "rp0.example", RPIDHash: &hash}} {
			if list, err := d.EnumerateCredentials(t.Context(), r); err != nil || len(list) != 4 {
				t.Errorf("%d of rp0, %v", len(list), err)
			}
		}
		if list, err := d.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: "elsewhere.example"}); err != nil || len(list) != 0 {
			t.Errorf("%v of elsewhere, %v", list, err)
		}
		if _, err := d.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: "rp1.example", RPIDHash: &hash}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("hash of another: %v", err)
		}
		m, err := d.GetCredsMetadata(t.Context(), nil)
		if err != nil || m.ExistingResidentCredentialsCount != 10 || m.MaxPossibleRemainingResidentCredentialsCount != 15 {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestDeleteAndRename(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, config, benchPIN)
		one := d.register(account("one"))
		two := d.register(account("two"))
		rename := &ctap2.UpdateUserInformationRequest{
			Credential: one.Descriptor(),
			User:       ctap2.User{ID: []byte("one"), Name: "new@example.com", DisplayName: "New"},
		}
		if err := d.UpdateUserInformation(t.Context(), rename); err != nil {
			t.Fatal(err)
		}
		accounts := d.signIn(gaUV(ctap2.Required), allow(one.ID))
		verify(t, accounts[0], one)
		list, err := d.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: "example.com"})
		if err != nil || len(list) != 2 {
			t.Fatal(list, err)
		}
		i := slices.IndexFunc(list, func(s *ctap2.StoredCredential) bool { return bytes.Equal(s.Credential.ID, one.ID) })
		if list[i].User.Name != "new@example.com" || list[i].User.DisplayName != "New" || list[1-i].User.Name != "two@example.com" {
			t.Errorf("%+v, %+v", list[0].User, list[1].User)
		}
		rename.User.ID = []byte("someone else")
		if err := d.UpdateUserInformation(t.Context(), rename); !errors.Is(err, ctap2.ErrInvalidParameter) {
			t.Errorf("another's user ID: %v", err)
		}
		if err := d.DeleteCredential(t.Context(), &ctap2.DeleteCredentialRequest{Credential: one.Descriptor()}); err != nil {
			t.Fatal(err)
		}
		if err := d.DeleteCredential(t.Context(), &ctap2.DeleteCredentialRequest{Credential: one.Descriptor()}); !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("deleted twice: %v", err)
		}
		accounts = d.signIn()
		if len(accounts) != 1 {
			t.Fatalf("%d accounts", len(accounts))
		}
		verify(t, accounts[0], two)
		for _, err := range []error{
			d.DeleteCredential(t.Context(), &ctap2.DeleteCredentialRequest{}),
			d.UpdateUserInformation(t.Context(), &ctap2.UpdateUserInformationRequest{User: rename.User}),
			d.UpdateUserInformation(t.Context(), &ctap2.UpdateUserInformationRequest{Credential: two.Descriptor()}),
		} {
			if !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Error(err)
			}
		}
	})
}

// Between begin and next nothing may be sent: what other goroutines of this
// program want waits, and what another program did is said.
func TestQuirk41Sequences(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	d.fill(4, 2)
	next := ctap.CredMgmtEnumerateCredentialsGetNext

	var done chan error
	d.before = func(message []byte) {
		if done == nil && message[0] == ctap.CmdCredentialManagement && message[3] == byte(next) {
			done = make(chan error, 1)
			go func() { _, err := d.GetInfo(t.Context()); done <- err }()
		}
	}
	if list, err := d.EnumerateCredentials(t.Context(), nil); err != nil || len(list) != 4 {
		t.Errorf("%d, %v", len(list), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := d.sent(); slices.Index(got, "04") < len(got)-1 {
		t.Errorf("getInfo came between: %v", got)
	}

	// Another program has a channel of its own, and the same key.
	other := open(t, d.soft)
	d.before = func(message []byte) {
		if message[0] == ctap.CmdCredentialManagement && message[3] == byte(next) {
			if _, err := other.GetInfo(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	list, err := d.EnumerateCredentials(t.Context(), nil)
	if !errors.Is(err, ctap2.ErrInterrupted) || !errors.Is(err, ctap2.ErrNotAllowed) || list != nil {
		t.Errorf("%v, %v", list, err)
	}
	d.before = nil
	if list, err := d.EnumerateCredentials(t.Context(), nil); err != nil || len(list) != 4 {
		t.Errorf("%d, %v", len(list), err)
	}

	// A key may say of an empty store that it has none, or that it has 0.
	key := canned41(t, members{5: 0}, members{9: 0})
	if list, err := key.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{Token: anyToken()}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := key.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: "x", Token: anyToken()}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func anyToken() *ctap2.Token {
	return ctap2.NewToken(pin.Two, pin.NewSecret(make([]byte, 32)), ctap2.PermissionCredentialManagement, "")
}

// canned41 is a key that answers each begin with a prepared reply, and each next
// with the same again.
func canned41(t *testing.T, rps, credentials any) *ctap2.Authenticator {
	info := basicInfo()
	info[4] = map[string]bool{"credMgmt": true, "clientPin": true}
	c := newCanned(t, info)
	c.on(ctap.CmdCredentialManagement, func(message []byte) []byte {
		if message[3] <= ctap.CredMgmtEnumerateRPsGetNextRP {
			return ok(t, rps)
		}
		return ok(t, credentials)
	})
	return open(t, c)
}

func TestCredentialManagementReplies(t *testing.T) {
	key := newSoftKey(t)
	public, err := cose.NewKey(cose.ES256, &key.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	rp := func(change func(members)) members {
		m := members{3: map[string]any{"id": "example.com"}, 4: make([]byte, 32), 5: 1}
		change(m)
		return m
	}
	credential := func(change func(members)) members {
		m := members{
			6: map[string]any{"id": []byte{1}}, 7: map[string]any{"id": []byte{2}, "type": "public-key"},
			8: public, 9: 1, 10: 2,
		}
		change(m)
		return m
	}
	same := func(members) {}
	for name, test := range map[string]struct {
		rps, credentials any
		want             error
	}{
		"good":                   {rp(same), credential(same), nil},
		"party without ID":       {rp(func(m members) { m[3] = map[string]any{} }), credential(same), nil},
		"null":                   {nil, credential(same), ctap2.ErrMalformed},
		"no total":               {rp(func(m members) { delete(m, 5) }), credential(same), ctap2.ErrMalformed},
		"absurd total":           {rp(func(m members) { m[5] = 1 << 20 }), credential(same), ctap2.ErrMalformed},
		"no hash":                {rp(func(m members) { delete(m, 4) }), credential(same), ctap2.ErrMalformed},
		"short hash":             {rp(func(m members) { m[4] = make([]byte, 31) }), credential(same), ctap2.ErrMalformed},
		"party is a text":        {rp(func(m members) { m[3] = "example.com" }), credential(same), ctap2.ErrMalformed},
		"no total of them":       {rp(same), credential(func(m members) { delete(m, 9) }), ctap2.ErrMalformed},
		"no user":                {rp(same), credential(func(m members) { delete(m, 6) }), ctap2.ErrMalformed},
		"no credential":          {rp(same), credential(func(m members) { delete(m, 7) }), ctap2.ErrMalformed},
		"no public key":          {rp(same), credential(func(m members) { delete(m, 8) }), ctap2.ErrMalformed},
		"bad public key":         {rp(same), credential(func(m members) { m[8] = map[int]int{1: 2} }), ctap2.ErrMalformed},
		"bad policy":             {rp(same), credential(func(m members) { m[10] = "x" }), ctap2.ErrMalformed},
		"short large-blob key":   {rp(same), credential(func(m members) { m[11] = make([]byte, 31) }), ctap2.ErrMalformed},
		"large-blob key, then x": {rp(same), credential(func(m members) { m[11] = make([]byte, 32); m[12] = 1 }), ctap2.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := canned41(t, test.rps, test.credentials).EnumerateCredentials(t.Context(),
				&ctap2.EnumerateCredentialsRequest{Token: anyToken()})
			if !errors.Is(err, test.want) || (len(list) == 1) != (test.want == nil) {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
	if _, err := canned41(t, members{1: 3}, nil).GetCredsMetadata(t.Context(), anyToken()); !errors.Is(err, ctap2.ErrMalformed) {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		token *ctap2.Token
		want  error
	}{"wiped": {ctap2.NewToken(pin.Two, pin.Secret{}, ctap2.PermissionCredentialManagement, ""), ctap2.ErrInvalidRequest}, "none": {nil, ctap2.ErrNoPIN}} {
		if _, err := canned41(t, nil, nil).GetCredsMetadata(t.Context(), test.token); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(t, newCanned(t, basicInfo())).EnumerateRPs(t.Context(), anyToken()); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Error(err)
	}
}

// A list can be left in the middle, and the key is as before.
func TestEnumerateCancelled(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	d.fill(6, 2)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	d.before = func([]byte) {
		if len(d.messages) == 7 {
			cancel(enough)
		}
	}
	if list, err := d.EnumerateCredentials(ctx, nil); !errors.Is(err, enough) || list != nil {
		t.Errorf("%v, %v", list, err)
	}
	if n := len(d.messages); n > 7 {
		t.Errorf("%d messages", n)
	}
	d.before = nil
	if list, err := d.EnumerateCredentials(t.Context(), nil); err != nil || len(list) != 6 {
		t.Errorf("%d, %v", len(list), err)
	}
}

// A thousand credentials take a thousand and a few transactions, each as long as
// the one before.
func TestEnumerateThousand(t *testing.T) {
	const n, parties = 1000, 50
	d := sit(t, virtual.Config{PIN: benchPIN, Credentials: n}, benchPIN)
	d.fill(n, parties)
	list, err := d.EnumerateCredentials(t.Context(), nil)
	if err != nil || len(list) != n {
		t.Fatalf("%d, %v", len(list), err)
	}
	if got := len(d.messages); got != 2+parties+n {
		t.Errorf("%d transactions", got)
	}
	seen := map[string]bool{}
	for _, s := range list {
		seen[string(s.Credential.ID)] = true
	}
	if len(seen) != n {
		t.Errorf("%d different", len(seen))
	}
}

// BenchmarkEnumerateCredentials: the time for each credential is to be the
// same for both sizes.
func BenchmarkEnumerateCredentials(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := sit(b, virtual.Config{PIN: benchPIN, Credentials: n}, benchPIN)
			d.fill(n, 10)
			token, err := d.Token(b.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionCredentialManagement})
			if err != nil {
				b.Fatal(err)
			}
			key := open(b, d.soft)
			for b.Loop() {
				if _, err := key.EnumerateCredentials(b.Context(), &ctap2.EnumerateCredentialsRequest{Token: token}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/credential")
		})
	}
}

// A persistent token lists, without asking anybody, also after the key was
// pulled out; it opens the identifier and the state of the store; and it does
// nothing else.
func TestPersistentToken(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, config, benchPIN)
		d.fill(3, 2)
		if _, err := d.Token(t.Context(), &ctap2.TokenRequest{
			Permissions: ctap2.PermissionPersistentCredentialManagement | ctap2.PermissionCredentialManagement,
		}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("pcmr with cm: %v", err)
		}
		if _, err := d.Token(t.Context(), &ctap2.TokenRequest{
			Permissions: ctap2.PermissionPersistentCredentialManagement, Method: ctap2.LegacyPINMethod,
		}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("pcmr by getPinToken, which knows no permissions: %v", err)
		}
		token, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionPersistentCredentialManagement})
		if err != nil {
			t.Fatal(err)
		}
		kept := token.Secret()
		token.Wipe()
		d.replug()
		d.asked = nil
		token = ctap2.NewToken(config.PINProtocols[0], kept, ctap2.PermissionPersistentCredentialManagement, "")

		list, err := d.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{Token: token})
		if err != nil || len(list) != 3 || len(d.asked) != 0 {
			t.Fatalf("%d, %v, asked %d times", len(list), err, len(d.asked))
		}
		if err := d.DeleteCredential(t.Context(), &ctap2.DeleteCredentialRequest{Credential: list[0].Credential, Token: token}); !errors.Is(err, ctap2.ErrPINAuthInvalid) {
			t.Errorf("delete: %v", err)
		}
		read := func() (id, state [16]byte) {
			t.Helper()
			info, err := d.GetInfo(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if id, err = info.Identifier(token); err != nil {
				t.Fatal(err)
			}
			if state, err = info.CredStoreState(token); err != nil {
				t.Fatal(err)
			}
			return id, state
		}
		id, state := read()
		if again, same := read(); again != id || same != state {
			t.Error("changed by themselves")
		}
		d.register(account("new"))
		again, changed := read()
		if again != id || changed == state {
			t.Errorf("identifier %x and %x, state %x and %x", id, again, state, changed)
		}
		token.Wipe()
		if _, err := d.Info().Identifier(token); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("wiped: %v", err)
		}
		for name, token := range map[string]*ctap2.Token{"none": nil, "of permission cm": anyToken()} {
			if _, err := d.Info().Identifier(token); !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Errorf("token %s: %v", name, err)
			}
		}
		token = ctap2.NewToken(pin.Two, pin.NewSecret(make([]byte, 32)), ctap2.PermissionPersistentCredentialManagement, "")
		if _, err := (&ctap2.Info{EncIdentifier: []byte{}}).Identifier(token); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("empty: %v", err)
		}
		if _, err := (&ctap2.Info{}).Identifier(token); !errors.Is(err, ctap2.ErrUnsupported) {
			t.Errorf("absent: %v", err)
		}
		if _, err := (&ctap2.Info{EncCredStoreState: make([]byte, 31)}).CredStoreState(token); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("short: %v", err)
		}
	})
}

// What the Info says of the store costs a transaction only when it is looked at.
func TestCurrentInfo(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	left := func() int {
		t.Helper()
		info, err := d.CurrentInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return *info.RemainingDiscoverableCredentials
	}
	if n := left(); n != 25 {
		t.Errorf("room for %d", n)
	}
	d.expect()
	c := d.register(resident)
	d.expect("06.02", "06.09", "01")
	d.signIn()
	d.expect("06.02", "06.09", "02")
	if n := left() + left(); n != 48 {
		t.Errorf("room for %d", n)
	}
	d.expect("04")
	if err := d.DeleteCredential(t.Context(), &ctap2.DeleteCredentialRequest{Credential: c.Descriptor()}); err != nil {
		t.Fatal(err)
	}
	d.sent()
	if n := left(); n != 25 {
		t.Errorf("room for %d", n)
	}
	d.expect("04")
}

// commands are the command bytes of what was sent since the last call.
func (c *canned) commands() (list []byte) {
	for _, m := range c.messages {
		list = append(list, m[0])
	}
	c.messages = nil
	return list
}

// managed is a canned key with credential management and a PIN.
func managed(t *testing.T) (*canned, *issuer) {
	t.Helper()
	info := basicInfo()
	info[4], info[6] = map[string]bool{"credMgmt": true, "clientPin": true, "pinUvAuthToken": true}, []int{2}
	c := newCanned(t, info)
	return c, withTokens(t, c, pin.Two)
}

// Half a list is no list.
func TestEnumerateRPsInterrupted(t *testing.T) {
	c, _ := managed(t)
	c.on(ctap.CmdCredentialManagement, func(m []byte) []byte {
		if m[3] == ctap.CredMgmtEnumerateRPsBegin {
			return ok(t, members{3: map[string]any{"id": "a"}, 4: make([]byte, 32), 5: 2})
		}
		return []byte{byte(ctap2.ErrNotAllowed)}
	})
	if list, err := open(t, c).EnumerateRPs(t.Context(), anyToken()); !errors.Is(err, ctap2.ErrInterrupted) || list != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// What the preview lacks is not asked for, and no PIN for it either.
func TestUpdateUserInformationPreview(t *testing.T) {
	info := basicInfo()
	info[4] = map[string]bool{"credentialMgmtPreview": true, "clientPin": true}
	c := newCanned(t, info)
	issuer := withTokens(t, c, pin.One)
	key := open(t, c, anyPIN())
	c.commands()
	err := key.UpdateUserInformation(t.Context(), &ctap2.UpdateUserInformationRequest{
		Credential: ctap2.CredentialDescriptor{ID: []byte{1}}, User: ctap2.User{ID: []byte{1}}})
	if sent := c.commands(); !errors.Is(err, ctap2.ErrUnsupported) || len(sent) != 0 {
		t.Errorf("%v, sent %x", err, sent)
	}
	issuer.expect()
}

// An older key would give a token that can do anything, and keep it for ever.
func TestPersistentTokenUnsupported(t *testing.T) {
	for name, options := range map[string]map[string]bool{
		"before permissions": {"clientPin": true, "credentialMgmtPreview": true},
		"CTAP 2.1":           {"clientPin": true, "credMgmt": true, "pinUvAuthToken": true},
		"false":              {"clientPin": true, "credMgmt": true, "pinUvAuthToken": true, "perCredMgmtRO": false},
	} {
		info := basicInfo()
		info[4], info[6] = options, []int{2}
		c := newCanned(t, info)
		withTokens(t, c, pin.Two)
		key := open(t, c, ctap2.WithInteraction(ctap2.Interaction{PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
			t.Errorf("%s: asks for the PIN", name)
			return pin.FromString(benchPIN), nil
		}}))
		c.commands()
		_, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionPersistentCredentialManagement})
		if sent := c.commands(); !errors.Is(err, ctap2.ErrUnsupported) || len(sent) != 0 {
			t.Errorf("%s: %v, sent %x", name, err, sent)
		}
	}
}

// Some keys that hold nothing list a relying party of zeros and no number: they
// are asked how many credentials there are.
func TestQuirk41EmptyStoreWithoutTotal(t *testing.T) {
	for name, test := range map[string]struct {
		metadata []byte
		want     error
		options  []ctap2.Option
		sent     int
	}{
		"none":             {ok(t, members{1: 0, 2: 50}), nil, nil, 2},
		"says it as error": {[]byte{byte(ctap2.ErrNoCredentials)}, nil, nil, 2},
		"some":             {ok(t, members{1: 3, 2: 47}), ctap2.ErrMalformed, nil, 2},
		"does not say":     {ok(t, members{2: 47}), ctap2.ErrMalformed, nil, 2},
		"fails":            {[]byte{byte(ctap2.ErrOther)}, ctap2.ErrOther, nil, 2},
		"strict":           {ok(t, members{1: 0, 2: 50}), ctap2.ErrMalformed, []ctap2.Option{ctap2.WithStrictCBOR()}, 1},
	} {
		c, _ := managed(t)
		c.on(ctap.CmdCredentialManagement, func(m []byte) []byte {
			if m[3] == ctap.CredMgmtGetCredsMetadata {
				return bytes.Clone(test.metadata)
			}
			return ok(t, members{3: map[string]any{"id": "", "name": ""}, 4: make([]byte, 32)})
		})
		key := open(t, c, test.options...)
		c.commands()
		list, err := key.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{Token: anyToken()})
		if !errors.Is(err, test.want) || len(list) != 0 || len(c.commands()) != test.sent {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	c, _ := managed(t)
	c.on(ctap.CmdCredentialManagement, func([]byte) []byte { return []byte{byte(ctap2.ErrNoCredentials)} })
	if _, err := open(t, c).GetCredsMetadata(t.Context(), anyToken()); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Error(err)
	}
}

// storedReply is a credential as a key lists it, with a key for large blobs.
func storedReply(t *testing.T, total int) members {
	t.Helper()
	public, err := cose.NewKey(cose.ES256, &newSoftKey(t).private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return members{6: map[string]any{"id": []byte{1}}, 7: map[string]any{"id": []byte{2}, "type": "public-key"},
		8: public, 9: total, 11: blobKey(0x77)}
}

// What a key claims to list is bounded as a whole, not for each relying party.
func TestEnumerateCredentialsBound(t *testing.T) {
	const each = 1<<13 + 1
	reply, sent := ok(t, storedReply(t, each)), 0
	answer := func(m []byte) []byte {
		if m[3] <= ctap.CredMgmtEnumerateRPsGetNextRP {
			return ok(t, members{3: map[string]any{"id": "a"}, 4: make([]byte, 32), 5: 2})
		}
		sent++
		return bytes.Clone(reply)
	}
	c, _ := managed(t)
	c.on(ctap.CmdCredentialManagement, answer)
	list, err := open(t, c).EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{Token: anyToken()})
	if !errors.Is(err, ctap2.ErrMalformed) || list != nil || sent != each+1 {
		t.Errorf("%d, %v, after %d", len(list), err, sent)
	}
	s := newStore(t, pin.Two)
	s.on(ctap.CmdCredentialManagement, answer)
	sent = 0
	if _, err := open(t, s, anyPIN()).CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrMalformed) || sent != each+1 {
		t.Errorf("to collect large blobs: %v, after %d", err, sent)
	}
}

// No largeBlobKey stays behind in a reply that is refused.
func TestEnumerateCredentialsWipesRefused(t *testing.T) {
	for name, change := range map[string]func(members){
		"wrong type behind it": func(m members) { m[12] = 1 },
		"wrong length":         func(m members) { m[11] = blobKey(0x77)[1:] },
		"no user":              func(m members) { delete(m, 6) },
		"no total":             func(m members) { delete(m, 9) },
		"absurd total":         func(m members) { m[9] = 1 << 20 },
	} {
		c, _ := managed(t)
		m := storedReply(t, 1)
		change(m)
		reply := ok(t, m)
		c.on(ctap.CmdCredentialManagement, func([]byte) []byte { return reply })
		_, err := open(t, c).EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: "x", Token: anyToken()})
		if !errors.Is(err, ctap2.ErrMalformed) || bytes.Contains(reply, blobKey(0x77)[1:]) {
			t.Errorf("%s: %v, reply %x", name, err, reply)
		}
	}
}

// A token that another program has killed in the middle of a list: the list is
// begun anew under a token of a new key agreement, and nothing of the first is
// in it or stays behind.
func TestEnumerateCredentialsAnew(t *testing.T) {
	c, issuer := managed(t)
	m := storedReply(t, 1)
	var replies [][]byte
	begins := 0
	c.on(ctap.CmdCredentialManagement, func(message []byte) []byte {
		switch message[3] {
		case ctap.CredMgmtEnumerateRPsBegin:
			return ok(t, members{3: map[string]any{"id": "a"}, 4: make([]byte, 32), 5: 2})
		case ctap.CredMgmtEnumerateRPsGetNextRP:
			return ok(t, members{3: map[string]any{"id": "b"}, 4: bytes.Repeat([]byte{1}, 32)})
		}
		if begins++; begins == 2 {
			return []byte{byte(ctap2.ErrPINAuthInvalid)}
		}
		replies = append(replies, ok(t, m))
		return replies[len(replies)-1]
	})
	key := open(t, c, anyPIN())
	c.commands()
	list, err := key.EnumerateCredentials(t.Context(), nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d, %v", len(list), err)
	}
	if sent := c.commands(); !bytes.Equal(sent, raw(t, "0606 0a0a0a0a 0606 0a0a0a0a")) {
		t.Errorf("sent %x", sent)
	}
	issuer.expect(ctap.PermissionCredentialManagement, ctap.PermissionCredentialManagement)
	for i, reply := range replies {
		if got := bytes.Contains(reply, blobKey(0x77)); got != (i > 0) {
			t.Errorf("the largeBlobKey is in reply %d: %v", i, got)
		}
	}
	for _, s := range list {
		s.LargeBlobKey.Wipe()
	}
}

// The token for the list of one relying party is good for no other.
func TestEnumerateCredentialsTokenIsBound(t *testing.T) {
	for rpID, bound := range map[string]bool{"example.com": true, "": false} {
		c, _ := managed(t)
		c.on(ctap.CmdCredentialManagement, func([]byte) []byte { return []byte{byte(ctap2.ErrNoCredentials)} })
		key := open(t, c, anyPIN())
		if _, err := key.EnumerateCredentials(t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: rpID}); err != nil {
			t.Error(err)
		}
		request := c.messages[len(c.messages)-2] // before the one that lists
		if got := bytes.Contains(request, raw(t, "0a6b 6578616d706c652e636f6d")); request[0] != ctap.CmdClientPIN || got != bound {
			t.Errorf("RP ID %q: token asked for with %x", rpID, request)
		}
	}
}
