package entra_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
)

func TestDeprovision(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(t *testing.T, g *graph, d *entra.Deprovisioning)
		faults     map[string][]fault
		state      entra.State
		is         error
		failed     bool // with an error of Graph's
		onKey      int
		registered int
	}{
		"by method":     {state: entra.Removed},
		"by credential": {change: func(_ *testing.T, _ *graph, d *entra.Deprovisioning) { d.MethodID = "" }, state: entra.Removed},
		"by both IDs": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) {
				d.CredentialID = entra.CredentialIDs(d.MethodID)[0]
				g.users[ada].methods[0].ID, d.MethodID = "73ecec75-b546-cd6a-d74d-8bb81e58d4a7", "73ecec75-b546-cd6a-d74d-8bb81e58d4a7"
			},
			state: entra.Removed,
		},
		"by a UUID": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) {
				d.CredentialID = nil
				g.users[ada].methods[0].ID, d.MethodID = "73ECec75-b546-cd6a-d74d-8bb81e58d4a7", "73ECec75-b546-cd6a-d74d-8bb81e58d4a7"
			},
			state: entra.Registered, is: entra.ErrInvalidRequest, onKey: 1, registered: 1,
		},
		"by a UUID, no key": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) {
				d.CredentialID, d.Key = nil, nil
				g.users[ada].methods[0].ID, d.MethodID = "73ecec75-b546-cd6a-d74d-8bb81e58d4a7", "73ecec75-b546-cd6a-d74d-8bb81e58d4a7"
			},
			state: entra.CredentialMade, onKey: 1,
		},
		"by no credential's ID": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) {
				d.CredentialID = nil
				g.users[ada].methods[0].ID, d.MethodID = "method 1", "method 1"
			},
			state: entra.Registered, is: entra.ErrInvalidRequest, onKey: 1, registered: 1,
		},
		"no key at hand": {change: func(_ *testing.T, _ *graph, d *entra.Deprovisioning) { d.Key = nil }, state: entra.CredentialMade, onKey: 1},
		"the wrong key": {
			change: func(t *testing.T, _ *graph, d *entra.Deprovisioning) { d.Key = openKey(t, virtual.Config{}) },
			state:  entra.CredentialMade, is: entra.ErrNotOnKey, onKey: 1,
		},
		"a key that cannot": {
			change: func(t *testing.T, _ *graph, d *entra.Deprovisioning) {
				d.Key = openKey(t, virtual.Config{NoCredentialManagement: true})
			},
			state: entra.CredentialMade, is: ctap2.ErrUnsupported, onKey: 1,
		},
		"forgotten before, key at hand": {
			change: func(_ *testing.T, g *graph, _ *entra.Deprovisioning) { g.users[ada].methods = nil },
			state:  entra.Removed,
		},
		"forgotten before, by credential": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) { g.users[ada].methods, d.MethodID = nil, "" },
			state:  entra.Removed,
		},
		"forgotten before, no key": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) { g.users[ada].methods, d.Key = nil, nil },
			state:  entra.CredentialMade, is: entra.ErrNotRegistered, onKey: 1,
		},
		"another method": {
			change: func(_ *testing.T, _ *graph, d *entra.Deprovisioning) { d.MethodID, d.CredentialID = "AAAA", nil },
			state:  entra.CredentialMade, is: entra.ErrNotRegistered, onKey: 1, registered: 1,
		},
		"nothing said": {
			change: func(_ *testing.T, _ *graph, d *entra.Deprovisioning) { d.MethodID, d.CredentialID = "", nil },
			state:  entra.Registered, is: entra.ErrInvalidRequest, onKey: 1, registered: 1,
		},
		"IDs that do not tell": {
			change: func(_ *testing.T, g *graph, d *entra.Deprovisioning) {
				g.users[ada].methods[0].ID, d.MethodID = "73ecec75", ""
			},
			state: entra.Registered, is: entra.ErrInvalidRequest, onKey: 1, registered: 1,
		},
		"forbidden": {faults: map[string][]fault{"delete": {{status: 403}}}, state: entra.Registered, failed: true, onKey: 1, registered: 1},
		"no list":   {change: func(_ *testing.T, _ *graph, d *entra.Deprovisioning) { d.MethodID = "" }, faults: map[string][]fault{"list": {{status: 403}}}, state: entra.Registered, failed: true, onKey: 1, registered: 1},
		"busy":      {faults: map[string][]fault{"delete": {{status: 429, retryAfter: "7"}, {before: true}}}, state: entra.Removed},
		"no answer": {faults: map[string][]fault{"delete": {{hang: true}}}, state: entra.Removed},
		"not to know": {
			faults: map[string][]fault{"delete": {{hang: true}, {status: 503, retryAfter: "9999"}}},
			state:  entra.RegistrationUnknown, is: entra.ErrUncertain, failed: true, onKey: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				drawer := newDrawer(t)
				made := provisionAda(t, g, drawer, new(entra.Provisioning))
				if made.State != entra.Registered {
					t.Fatal(made)
				}
				d := &entra.Deprovisioning{User: ada, MethodID: made.Method.ID, Key: drawer.keys[ada]}
				if name != "by method" {
					d.CredentialID = made.CredentialID
				}
				if test.change != nil {
					test.change(t, g, d)
				}
				for call, faults := range test.faults {
					g.fail(call, faults...)
				}
				r := g.api().Deprovision(t.Context(), d)
				if r.User != ada || r.State != test.state || (r.Err != nil) != (test.is != nil || test.failed) || test.is != nil && !errors.Is(r.Err, test.is) {
					t.Errorf("%v", r)
				}
				var failed *entra.Error
				if test.failed && !errors.As(r.Err, &failed) {
					t.Errorf("%T", r.Err)
				}
				g.hides(r.String())
				if n := drawer.holds(ada); n != test.onKey {
					t.Errorf("%d credentials on the key", n)
				}
				if n := len(g.methods(ada)); n != test.registered {
					t.Errorf("%d methods", n)
				}
			})
		})
	}
}
