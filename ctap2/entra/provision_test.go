package entra_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/pin"
)

// A drawer has a key for each user.
type drawer struct {
	t      *testing.T
	config func(user string) virtual.Config
	wrap   func(user string, device ctap2.Transport) ctap2.Transport
	keys   map[string]*ctap2.Authenticator
}

func newDrawer(t *testing.T) *drawer {
	return &drawer{
		t:      t,
		config: func(string) virtual.Config { return virtual.Config{} },
		wrap:   func(_ string, device ctap2.Transport) ctap2.Transport { return device },
		keys:   make(map[string]*ctap2.Authenticator),
	}
}

// key is for Provisioning.Key. A user who comes again gets the same one.
func (d *drawer) key(_ context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
	if key := d.keys[a.User]; key != nil {
		return key, nil
	}
	config := d.config(a.User)
	if !config.NoClientPIN {
		config.PIN = keyPIN
	}
	device, err := virtual.New(config)
	if err != nil {
		return nil, err
	}
	d.keys[a.User] = openDevice(d.t, d.wrap(a.User, device))
	return d.keys[a.User], nil
}

// holds returns how many credentials for Entra the user's key has.
func (d *drawer) holds(user string) int {
	d.t.Helper()
	key := d.keys[user]
	if key == nil {
		return 0
	}
	stored, err := key.EnumerateCredentials(d.t.Context(), &ctap2.EnumerateCredentialsRequest{RPID: rpID})
	if err != nil {
		d.t.Errorf("%s: %v", user, err)
	}
	return len(stored)
}

// keep leaves the key open, for the test to look at.
func keep(context.Context, *ctap2.Authenticator, *entra.Result) {}

// Ten keys for ten users, while everything goes wrong that can: what was done and
// what was not is reported for every user, and is so.
func TestProvisionTen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var users []string
		var assignments []entra.Assignment
		for _, name := range []string{"fine", "busy", "slow", "expired", "lost", "half", "refused", "twice", "nobody", "silent"} {
			users = append(users, name+"@contoso.com")
			assignments = append(assignments, entra.Assignment{User: name + "@contoso.com", DisplayName: name + "'s key"})
		}
		g := newGraph(t, slices.DeleteFunc(slices.Clone(users), func(u string) bool { return strings.HasPrefix(u, "nobody") })...)
		drawer := newDrawer(t)

		p := &entra.Provisioning{Assignments: assignments, Done: keep}
		p.Key = func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			switch name, _, _ := strings.Cut(a.User, "@"); name {
			case "busy":
				g.fail("register", fault{status: 429, retryAfter: "25"})
			case "slow":
				g.fail("register", fault{status: 503}, fault{status: 503})
			case "expired":
				time.Sleep(10 * time.Minute) // it is in another building
			case "lost":
				g.fail("register", fault{hang: true})
			case "half":
				g.fail("register", fault{cut: true})
			case "refused":
				g.fail("register", fault{status: 400, message: "attestation of this model is not accepted"})
			case "twice":
				g.fail("register", fault{before: true})
			case "silent":
				g.fail("register", fault{hang: true})
				g.fail("list", fault{status: 503, retryAfter: "3600"})
			}
			return drawer.key(ctx, a)
		}
		var progress []string
		p.Progress = func(r entra.Result) {
			progress = append(progress, r.String())
			g.hides(r.String())
		}
		g.fail("creationOptions", fault{status: 429, retryAfter: "2"}, fault{cut: true})

		results := g.api().Provision(t.Context(), p)

		for i, want := range []struct {
			state      entra.State
			onKey      int
			registered int
			says       string
		}{
			{entra.Registered, 1, 1, ""},
			{entra.Registered, 1, 1, ""},
			{entra.Registered, 1, 1, ""},
			{entra.Registered, 1, 1, ""},
			{entra.Registered, 1, 1, ""},
			{entra.Registered, 1, 1, ""},
			{entra.Removed, 0, 0, "attestation of this model is not accepted"},
			{entra.Registered, 1, 1, ""},
			{entra.NotStarted, 0, 0, "Request_ResourceNotFound"},
			{entra.RegistrationUnknown, 1, 1, "it may have been carried out"},
		} {
			r := results[i]
			if r.User != users[i] || r.State != want.state || (r.Err == nil) != (want.says == "") || r.Err != nil && !strings.Contains(r.Err.Error(), want.says) {
				t.Errorf("%v, want %v %s", r, want.state, want.says)
			}
			if n := drawer.holds(r.User); n != want.onKey {
				t.Errorf("%s: %d credentials on the key", r.User, n)
			}
			if want.state == entra.NotStarted {
				continue
			}
			methods := g.methods(r.User)
			if len(methods) != want.registered {
				t.Errorf("%s: %d methods", r.User, len(methods))
			}
			if want.state == entra.Registered && (r.Method == nil || r.Method.ID != methods[0].ID || methods[0].DisplayName != assignments[i].DisplayName) {
				t.Errorf("%s: %+v, %+v", r.User, r.Method, methods)
			}
			if r.CredentialID == nil || r.AAGUID == (ctap2.AAGUID{}) || r.Compatibility == nil || len(r.Warnings) > 0 {
				t.Errorf("%+v", r)
			}
			g.hides(fmt.Sprintf("%v %+v %#v", r, r, r))
		}
		if n := g.made("creationOptions expired@contoso.com"); n != 2 {
			t.Errorf("options for the expired challenge were fetched %d times", n)
		}
		if len(progress) < 30 {
			t.Errorf("progress %q", progress)
		}

		// Later, it can be found out what nobody knew.
		client := g.api()
		unknown := results[9]
		m, err := client.Find(t.Context(), unknown.User, unknown.CredentialID)
		if err != nil {
			t.Fatal(err)
		}

		// And one of them gives the key back, by way of the same faults.
		g.fail("delete", fault{status: 429, retryAfter: "3"}, fault{hang: true})
		r := client.Deprovision(t.Context(), &entra.Deprovisioning{User: unknown.User, MethodID: m.ID, Key: drawer.keys[unknown.User]})
		if r.State != entra.Removed || r.Err != nil || len(g.methods(unknown.User)) != 0 || drawer.holds(unknown.User) != 0 {
			t.Errorf("%v", r)
		}
	})
}

// provisionAda provisions one user, and returns what became of it.
func provisionAda(t *testing.T, g *graph, d *drawer, p *entra.Provisioning) entra.Result {
	t.Helper()
	p.Assignments = []entra.Assignment{{User: ada, DisplayName: "blue key"}}
	if p.Key == nil {
		p.Key = d.key
	}
	if p.Done == nil {
		p.Done = keep
	}
	results := g.api().Provision(t.Context(), p)
	g.hides(results[0].String())
	return results[0]
}

// Each stop on the way leaves what its State says.
func TestProvisionStops(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		config     virtual.Config
		faults     map[string][]fault
		p          entra.Provisioning
		wrap       func(t *testing.T, device ctap2.Transport) ctap2.Transport
		state      entra.State
		is         error
		onKey      int
		registered int
	}{
		"no key": {
			p:     entra.Provisioning{Key: func(context.Context, entra.Assignment) (*ctap2.Authenticator, error) { return nil, broken }},
			state: entra.OptionsFetched, is: broken,
		},
		"no options":            {faults: map[string][]fault{"creationOptions": {{status: 403}}}, state: entra.NotStarted},
		"malformed options":     {faults: map[string][]fault{"creationOptions": {{body: "{}"}}}, state: entra.NotStarted, is: entra.ErrMalformed},
		"no discoverable ones":  {config: virtual.Config{NoResidentKeys: true}, state: entra.OptionsFetched, is: entra.ErrIncompatible, onKey: -1},
		"no hmac-secret":        {config: virtual.Config{Extensions: []string{"credProtect"}}, state: entra.OptionsFetched, is: entra.ErrIncompatible},
		"accepted all the same": {config: virtual.Config{NoClientPIN: true}, p: entra.Provisioning{Accept: func(*entra.Compatibility) error { return nil }}, state: entra.OptionsFetched, is: webauthn.ErrConstraint},
		"not accepted":          {p: entra.Provisioning{Accept: func(*entra.Compatibility) error { return broken }}, state: entra.OptionsFetched, is: broken},
		"model not allowed":     {p: entra.Provisioning{Policy: &attestation.Policy{Allow: []ctap2.AAGUID{{1}}}}, state: entra.OptionsFetched, is: attestation.ErrNotAllowed},
		"not trusted":           {p: entra.Provisioning{Policy: &attestation.Policy{Required: true, Roots: x509.NewCertPool()}}, state: entra.Removed, is: attestation.ErrUntrusted},
		"not attested":          {config: virtual.Config{Attestation: virtual.AttestationSelf}, p: entra.Provisioning{Policy: &attestation.Policy{Required: true}}, state: entra.Removed, is: attestation.ErrNotAttested},
		"not touched":           {config: virtual.Config{Presence: virtual.Ignore}, state: entra.OptionsFetched, is: ctap2.ErrOperationDenied},
		"declined":              {config: virtual.Config{Presence: virtual.Refuse}, state: entra.OptionsFetched, is: ctap2.ErrOperationDenied},
		"a key without ES256":   {config: virtual.Config{Algorithms: []cose.Algorithm{cose.EdDSA}}, state: entra.OptionsFetched},
		"refused": {
			faults: map[string][]fault{"register": {{status: 403}}},
			state:  entra.Removed,
		},
		"refused, and kept": {
			faults: map[string][]fault{"register": {{status: 403}}},
			p: entra.Provisioning{Discard: func(_ context.Context, r entra.Result) bool {
				return r.State != entra.CredentialMade || r.Err == nil || r.CredentialID == nil
			}},
			state: entra.CredentialMade, onKey: 1,
		},
		"refused, and cannot be deleted": {
			config: virtual.Config{NoCredentialManagement: true},
			faults: map[string][]fault{"register": {{status: 403}}},
			state:  entra.CredentialMade, is: ctap2.ErrUnsupported, onKey: -1,
		},
		"server's clock is ahead of its word": {
			faults: map[string][]fault{"creationOptions": {{refuse: time.Hour}}},
			state:  entra.Removed,
		},
		"the key is pulled out when it was touched": {
			wrap: func(_ *testing.T, device ctap2.Transport) ctap2.Transport {
				return &pulled{Transport: device, after: true}
			},
			state: entra.CredentialUnknown, is: ctap2.ErrDeviceGone, onKey: -1,
		},
		"it fails, and can say that it made none": {
			wrap: func(_ *testing.T, device ctap2.Transport) ctap2.Transport {
				return &pulled{Transport: device, back: true}
			},
			state: entra.OptionsFetched, is: ctap2.ErrDeviceGone,
		},
		"it fails, and says that it made one": {
			wrap: func(_ *testing.T, device ctap2.Transport) ctap2.Transport {
				return &pulled{Transport: device, after: true, back: true}
			},
			state: entra.CredentialUnknown, is: ctap2.ErrDeviceGone, onKey: 1,
		},
		"an old key fails": {
			config: virtual.Config{Level: virtual.CTAP20},
			wrap: func(_ *testing.T, device ctap2.Transport) ctap2.Transport {
				return &pulled{Transport: device, back: true}
			},
			state: entra.CredentialUnknown, is: ctap2.ErrDeviceGone, onKey: -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				drawer := newDrawer(t)
				drawer.config = func(string) virtual.Config { return test.config }
				if test.wrap != nil {
					drawer.wrap = func(_ string, device ctap2.Transport) ctap2.Transport { return test.wrap(t, device) }
				}
				for call, faults := range test.faults {
					g.fail(call, faults...)
				}
				p := test.p
				r := provisionAda(t, g, drawer, &p)
				if r.State != test.state || r.Err == nil || test.is != nil && !errors.Is(r.Err, test.is) {
					t.Errorf("%v", r)
				}
				if n := len(g.methods(ada)); n != test.registered {
					t.Errorf("%d methods", n)
				}
				if test.onKey >= 0 {
					if key := drawer.keys[ada]; key != nil && key.Info().Options[ctap2.OptionClientPIN] {
						if n := drawer.holds(ada); n != test.onKey {
							t.Errorf("%d credentials on the key", n)
						}
					}
				}
				if made := r.CredentialID != nil; made != (test.state == entra.CredentialMade || test.state == entra.Removed) {
					t.Errorf("credential %x", r.CredentialID)
				}
			})
		})
	}
}

// A pulled transport loses the answer to makeCredential, or the command itself,
// and with it the key unless that comes back.
type pulled struct {
	ctap2.Transport
	after, back, gone bool
}

func (p *pulled) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if p.gone {
		return nil, ctap2.ErrDeviceGone
	}
	if message[0] != 0x01 {
		return p.Transport.Exchange(ctx, message, status)
	}
	if p.after {
		if _, err := p.Transport.Exchange(ctx, message, status); err != nil {
			return nil, err
		}
	}
	p.gone = !p.back
	return nil, ctap2.ErrDeviceGone
}

// What the PIN prompt ends with is no doubt about the key.
func TestProvisionNoPIN(t *testing.T) {
	declined := errors.New("the person pressed Escape")
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		device, err := virtual.New(virtual.Config{PIN: keyPIN})
		if err != nil {
			t.Fatal(err)
		}
		key, err := ctap2.Open(t.Context(), device, ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.Secret{}, declined },
		}))
		if err != nil {
			t.Fatal(err)
		}
		p := &entra.Provisioning{Key: func(context.Context, entra.Assignment) (*ctap2.Authenticator, error) { return key, nil }}
		p.Done = func(_ context.Context, key *ctap2.Authenticator, _ *entra.Result) { key.Close() }
		if r := provisionAda(t, g, nil, p); r.State != entra.OptionsFetched || !errors.Is(r.Err, declined) {
			t.Errorf("%v", r)
		}
	})
}

// The key is closed if nobody wants it.
func TestProvisionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		drawer := newDrawer(t)
		p := &entra.Provisioning{Assignments: []entra.Assignment{{User: ada, DisplayName: "key"}}, Key: drawer.key}
		if r := g.api().Provision(t.Context(), p)[0]; r.State != entra.Registered {
			t.Errorf("%v", r)
		}
		if _, err := drawer.keys[ada].GetInfo(t.Context()); !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

// Done comes last, with what became of it.
func TestProvisionDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		drawer := newDrawer(t)
		done := 0
		r := provisionAda(t, g, drawer, &entra.Provisioning{Done: func(ctx context.Context, key *ctap2.Authenticator, r *entra.Result) {
			done++
			if r.State != entra.Registered || r.Err != nil {
				t.Errorf("%v", r)
			}
			r.Err = key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{NewMinPINLength: 6, ForceChangePIN: true})
		}})
		if r.Err != nil || done != 1 || drawer.keys[ada].Info().MinPINLength == 6 {
			t.Errorf("%v, done %d times", r, done)
		}
		info, err := drawer.keys[ada].GetInfo(t.Context())
		if err != nil || !info.ForcePINChange {
			t.Errorf("%v", err)
		}
	})
}

// A bad name is found before anybody looks for a key.
func TestProvisionNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		results := g.api().Provision(t.Context(), &entra.Provisioning{
			Assignments: []entra.Assignment{{User: ada, DisplayName: strings.Repeat("k", 31)}, {User: "", DisplayName: "key"}, {User: "eve", DisplayName: "key"}},
			Key: func(context.Context, entra.Assignment) (*ctap2.Authenticator, error) {
				t.Error("asked for a key")
				return nil, errors.New("no")
			},
		})
		for i, r := range results {
			if r.State != entra.NotStarted || r.Err == nil || errors.Is(r.Err, entra.ErrInvalidRequest) != (i < 2) {
				t.Errorf("%v", r)
			}
		}
	})
}

// Without a Key nothing is asked for, and without a key nothing is made.
func TestProvisionNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		p := &entra.Provisioning{Assignments: []entra.Assignment{{User: ada, DisplayName: "key"}}}
		if r := g.api().Provision(t.Context(), p)[0]; r.State != entra.NotStarted || !errors.Is(r.Err, entra.ErrInvalidRequest) || g.made("creationOptions") != 0 {
			t.Errorf("%v", r)
		}
		p.Key = func(context.Context, entra.Assignment) (*ctap2.Authenticator, error) { return nil, nil }
		p.Done = func(context.Context, *ctap2.Authenticator, *entra.Result) {
			t.Error("Done with a key that is not there")
		}
		if r := g.api().Provision(t.Context(), p)[0]; r.State != entra.OptionsFetched || !errors.Is(r.Err, entra.ErrInvalidRequest) {
			t.Errorf("%v", r)
		}
		if results := g.api().Provision(t.Context(), nil); len(results) != 0 {
			t.Errorf("%v", results)
		}
	})
}

// When the context ends, each user is still accounted for.
func TestProvisionCancelled(t *testing.T) {
	gone := errors.New("going home")
	users := []string{"a@contoso.com", "b@contoso.com", "c@contoso.com"}
	for name, test := range map[string]struct {
		fault fault
		after time.Duration
		want  []entra.State
	}{
		"during the touch":    {fault{}, 5 * time.Second, []entra.State{entra.OptionsFetched, entra.OptionsFetched, entra.OptionsFetched}},
		"while Graph is busy": {fault{status: 429, retryAfter: "60"}, 30 * time.Second, []entra.State{entra.Removed, entra.OptionsFetched, entra.OptionsFetched}},
		"without an answer":   {fault{hang: true}, 30 * time.Second, []entra.State{entra.RegistrationUnknown, entra.OptionsFetched, entra.OptionsFetched}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, users...)
				g.fail("register", test.fault)
				drawer := newDrawer(t)
				drawer.config = func(string) virtual.Config { return virtual.Config{Presence: virtual.TouchAfter(10 * time.Second)} }
				p := &entra.Provisioning{Key: drawer.key, Done: keep}
				for _, u := range users {
					p.Assignments = append(p.Assignments, entra.Assignment{User: u, DisplayName: "key"})
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(test.after, func() { cancel(gone) })
				for i, r := range g.api().Provision(ctx, p) {
					if r.State != test.want[i] || !errors.Is(r.Err, gone) {
						t.Errorf("%v, want %v", r, test.want[i])
					}
				}
				if test.want[0] == entra.RegistrationUnknown && drawer.holds(users[0]) != 1 {
					t.Error("a credential that Entra may know was deleted")
				}
				if test.want[0] == entra.Removed && drawer.holds(users[0]) != 0 {
					t.Error("a credential was left behind")
				}
			})
		})
	}
}

// A credential that may not do for Windows is registered, with a warning.
func TestProvisionCredProtect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.credProtect = "userVerificationRequired"
		drawer := newDrawer(t)
		r := provisionAda(t, g, drawer, &entra.Provisioning{})
		if r.State != entra.Registered || len(r.Warnings) != 1 || !strings.Contains(r.String(), "userVerificationRequired") {
			t.Errorf("%v", r)
		}
	})
}

// The Policy accepts what it ought to.
func TestProvisionPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		device, err := virtual.New(virtual.Config{PIN: keyPIN})
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(device.AttestationRoot())
		key := openDevice(t, device)
		r := provisionAda(t, g, nil, &entra.Provisioning{
			Key:    func(context.Context, entra.Assignment) (*ctap2.Authenticator, error) { return key, nil },
			Policy: &attestation.Policy{Required: true, Roots: roots, Allow: []ctap2.AAGUID{key.Info().AAGUID}},
		})
		if r.State != entra.Registered || r.Err != nil {
			t.Errorf("%v", r)
		}
	})
}

// An expired challenge is fetched anew before the touch, once; a touch that comes
// after the end of it makes no credential.
func TestProvisionExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		drawer := newDrawer(t)
		slow := func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			time.Sleep(time.Hour)
			return drawer.key(ctx, a)
		}
		r := provisionAda(t, g, drawer, &entra.Provisioning{Key: slow})
		if r.State != entra.Registered || g.made("creationOptions") != 2 {
			t.Errorf("%v, options fetched %d times", r, g.made("creationOptions"))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		drawer := newDrawer(t)
		slow := func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			time.Sleep(time.Hour)
			g.fail("creationOptions", fault{status: 403})
			return drawer.key(ctx, a)
		}
		r := provisionAda(t, g, drawer, &entra.Provisioning{Key: slow})
		if r.State != entra.OptionsFetched || r.Err == nil || drawer.holds(ada) != 0 {
			t.Errorf("%v", r)
		}
	})
}

func TestStateString(t *testing.T) {
	seen := make(map[string]bool)
	for s := entra.NotStarted; s <= entra.Removed+1; s++ {
		if text := s.String(); text == "" || seen[text] {
			t.Errorf("%d: %q", s, text)
		} else {
			seen[text] = true
		}
	}
	if (entra.State(200)).String() != (entra.Removed + 1).String() {
		t.Error(entra.State(200))
	}
}
