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
			if rp.IDHash != sha256.Sum256([]byte(rp.RP.ID)) {
				t.Errorf("hash of %q", rp.RP.ID)
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
		token = anyToken()
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
