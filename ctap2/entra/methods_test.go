package entra_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// create makes a credential for ada on a new key.
func create(t *testing.T, client *entra.Client) *entra.Registration {
	t.Helper()
	options, err := client.CreationOptions(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	registration, err := options.Create(t.Context(), openKey(t, virtual.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	registration.DisplayName = "blue key"
	return registration
}

func TestRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		client := g.api()
		registration := create(t, client)
		m, err := client.Register(t.Context(), ada, registration)
		if err != nil {
			t.Fatal(err)
		}
		if m.ID != suffixed(registration.Response.ID) || m.DisplayName != "blue key" || m.AttestationLevel != "attested" || m.Model != "NFC key" ||
			m.AAGUID == "" || m.CreatedDateTime.IsZero() || len(m.AttestationCertificates) != 1 {
			t.Errorf("%+v", m)
		}
		list, err := client.Methods(t.Context(), ada)
		if err != nil || len(list) != 1 || list[0].ID != m.ID || list[0].DisplayName != "blue key" {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// Whatever happens to the request or its answer, the credential is registered
// once, or it is said that nobody knows.
func TestRegisterFaults(t *testing.T) {
	for name, test := range map[string]struct {
		register, list, options []fault
		uuids                   bool
		attempts                int
		is                      error // of the error, if there is one
		status                  int
		registered              bool
		noID                    bool
	}{
		"429":                                   {register: []fault{{status: 429, retryAfter: "20"}}, attempts: 2, registered: true},
		"503":                                   {register: []fault{{status: 503}, {status: 503}}, attempts: 3, registered: true},
		"lost before it was carried out":        {register: []fault{{before: true}}, attempts: 2, registered: true},
		"lost after it was carried out":         {register: []fault{{hang: true}}, attempts: 1, registered: true},
		"504, and it was not carried out":       {register: []fault{{status: 504}}, attempts: 2, registered: true},
		"half an answer":                        {register: []fault{{cut: true}}, attempts: 1, registered: true},
		"an answer that is not JSON":            {register: []fault{{body: "thanks"}}, attempts: 1, registered: true},
		"an answer without ID":                  {register: []fault{{body: "{}"}}, attempts: 1, registered: true},
		"the same, and no list":                 {register: []fault{{body: "{}"}}, list: []fault{{status: 403}}, attempts: 1, registered: true, noID: true},
		"lost, and IDs are not credentials":     {register: []fault{{hang: true}}, uuids: true, attempts: 1, registered: true, noID: true},
		"lost, and the list is slow":            {register: []fault{{hang: true}}, list: []fault{{status: 429, retryAfter: "10"}, {cut: true}}, attempts: 1, registered: true},
		"lost, and the list is not to be had":   {register: []fault{{hang: true}}, list: []fault{{status: 403}}, attempts: 1, is: entra.ErrUncertain, registered: true},
		"lost, and so are the options":          {register: []fault{{hang: true}}, options: []fault{{status: 403}}, uuids: true, attempts: 1, is: entra.ErrUncertain, registered: true},
		"lost, and Graph is busy for long":      {register: []fault{{hang: true}}, list: []fault{{status: 503, retryAfter: "3000"}}, attempts: 1, is: entra.ErrUncertain, registered: true},
		"refused":                               {register: []fault{{status: 400, message: "no"}}, attempts: 1, status: 400},
		"refused after an answer was lost":      {register: []fault{{before: true}, {status: 400}}, attempts: 2, is: entra.ErrUncertain, status: 400},
		"busy for long":                         {register: []fault{{status: 503, retryAfter: "3000"}}, attempts: 1, status: 503},
		"failing for long":                      {register: []fault{{status: 500, retryAfter: "3000"}}, attempts: 1, is: entra.ErrUncertain, status: 500},
		"carried out twice, the first was lost": {register: []fault{{hang: true}}, list: []fault{{body: `{"value": []}`}}, attempts: 2, registered: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				g.uuids = test.uuids
				client := g.api()
				registration := create(t, client)
				g.fail("register", test.register...)
				g.fail("list", test.list...)
				g.fail("creationOptions", test.options...)
				m, err := client.Register(t.Context(), ada, registration)
				if n := g.made("register"); n != test.attempts {
					t.Errorf("%d attempts", n)
				}
				if n := len(g.methods(ada)); (n == 1) != test.registered || n > 1 {
					t.Errorf("%d methods", n)
				}
				if test.is == nil && test.status == 0 {
					if err != nil {
						t.Fatal(err)
					}
					if (m.ID == "") != test.noID {
						t.Errorf("%+v", m)
					}
					return
				}
				if err == nil {
					t.Fatalf("no error, %+v", m)
				}
				if test.is != nil && !errors.Is(err, test.is) || test.is == nil && errors.Is(err, entra.ErrUncertain) {
					t.Errorf("error %v", err)
				}
				var failed *entra.Error
				if !errors.As(err, &failed) || failed.Status != test.status {
					t.Errorf("error %v", err)
				}
				g.hides(fmt.Sprintf("%v %+v %#v", err, err, failed))
			})
		})
	}
}

func TestRegisterDisplayName(t *testing.T) {
	client := &entra.Client{}
	for _, name := range []string{"", strings.Repeat("é", 31)} {
		registration := &entra.Registration{DisplayName: name, Response: new(webauthn.RegistrationResponse)}
		_, err := client.Register(t.Context(), ada, registration)
		if named := name != ""; !errors.Is(err, entra.ErrInvalidRequest) || strings.Contains(err.Error(), "display name") != named {
			t.Errorf("%q: %v", name, err) // without a Token
		}
		if err := client.Rename(t.Context(), ada, "x", name); !errors.Is(err, entra.ErrInvalidRequest) {
			t.Errorf("%q: %v", name, err)
		}
	}
	registration := &entra.Registration{DisplayName: "key", Response: new(webauthn.RegistrationResponse)}
	if _, err := client.Register(t.Context(), ada, registration); !errors.Is(err, entra.ErrInvalidRequest) { // no Token
		t.Errorf("%v", err)
	}
}

// What goes to Graph is what its type has.
func TestRegistrationJSON(t *testing.T) {
	r := &entra.Registration{DisplayName: "Red Key", Response: &webauthn.RegistrationResponse{
		ID: []byte{0xFB, 0xFF}, ClientDataJSON: []byte("{}"), AttestationObject: []byte{0xA0}, AuthenticatorData: []byte{1},
		Transports: []string{"usb"}, PublicKey: []byte{2},
	}}
	enabled := true
	r.Response.ClientExtensionResults.HMACCreateSecret = &enabled
	got, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"displayName":"Red Key","publicKeyCredential":{"id":"-_8","response":{"clientDataJSON":"e30","attestationObject":"oA"},"clientExtensionResults":{"hmacCreateSecret":true}}}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
	for _, v := range []any{r, *r} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%T: %s %v", v, got, err)
		}
	}
	r.DisplayName = ""
	if got, err := json.Marshal(r); err != nil || string(got) != strings.Replace(want, `"displayName":"Red Key",`, "", 1) {
		t.Errorf("%s %v", got, err)
	}
	r.Response = nil
	if got, err := json.Marshal(r); !errors.Is(err, entra.ErrInvalidRequest) {
		t.Errorf("%s %v", got, err)
	}
}

func TestCreateExpired(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGraph(t, ada)
			options, err := g.api().CreationOptions(t.Context(), ada)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Minute)
			if _, err := options.Create(t.Context(), openKey(t, virtual.Config{})); err != entra.ErrExpired { // the key was not asked
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("during the touch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newGraph(t, ada)
			options, err := g.api().CreationOptions(t.Context(), ada)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(4*time.Minute + 50*time.Second)
			key := openKey(t, virtual.Config{Presence: virtual.Ignore})
			_, err = options.Create(t.Context(), key)
			if !errors.Is(err, entra.ErrExpired) || !errors.Is(err, ctap2.ErrKeepaliveCancel) {
				t.Errorf("error %v", err)
			}
			g.hides(err.Error())
		})
	})
}

// The user has the key already, however Graph spells that.
func TestCreateExcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		client, key := g.api(), openKey(t, virtual.Config{})
		for i := range 3 {
			for range i { // others come first, so that each spelling has its turn
				id := make([]byte, 32)
				id[0] = byte(i)
				g.users[ada].credentials = append(g.users[ada].credentials, id)
			}
			options, err := client.CreationOptions(t.Context(), ada)
			if err != nil {
				t.Fatal(err)
			}
			registration, err := options.Create(t.Context(), key)
			if i > 0 {
				if !errors.Is(err, webauthn.ErrInvalidState) || !errors.Is(err, ctap2.ErrCredentialExcluded) {
					t.Errorf("error %v", err)
				}
				first := g.users[ada].credentials
				first[0], first[len(first)-1] = first[len(first)-1], first[0]
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			registration.DisplayName = "key"
			if _, err := client.Register(t.Context(), ada, registration); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.perPage = 3
		for i := range 10 {
			g.users[ada].methods = append(g.users[ada].methods, entra.Method{ID: fmt.Sprintf("AAA%d", i), DisplayName: fmt.Sprint(i)})
		}
		list, err := g.api().Methods(t.Context(), ada)
		if err != nil || len(list) != 10 || list[9].DisplayName != "9" {
			t.Errorf("%d methods, %v", len(list), err)
		}
		g.perPage = 1
		for range 20 {
			g.users[ada].methods = append(g.users[ada].methods, entra.Method{ID: "AAAA"})
		}
		if _, err := g.api().Methods(t.Context(), ada); !errors.Is(err, entra.ErrMalformed) {
			t.Errorf("error %v", err)
		}
	})
}

// The next page may be at Graph's usual port, by name.
func TestPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.fail("list", fault{body: `{"value": [], "@odata.nextLink": "http://LOCALHOST:80/beta/users/` + ada + `/authentication/fido2Methods"}`})
		if _, err := g.api().Methods(t.Context(), ada); err != nil || len(g.calls) != 2 {
			t.Errorf("%v, %d calls", err, len(g.calls))
		}
	})
}

// Users are found whatever their names are made of.
func TestUserNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"$ada@contoso.com", "$o'hara@contoso.com", "o'hara@contoso.com", "ada_x.com#EXT#@contoso.com", "a/b"}
		g := newGraph(t, names...)
		for _, name := range names {
			if _, err := g.api().Methods(t.Context(), name); err != nil || g.made("list "+name) != 1 {
				t.Errorf("%s: %v, %q", name, err, g.calls)
			}
		}
	})
}

// The token goes to no other server than Graph's.
func TestForeignPage(t *testing.T) {
	for _, next := range []string{"https://localhost/beta/x", "http://evil.example/beta/x", "http://localhost:443/beta/x", "http://u:p@localhost/x", "%zz", "//localhost/x"} {
		synctest.Test(t, func(t *testing.T) {
			g := newGraph(t, ada)
			g.fail("list", fault{body: fmt.Sprintf(`{"value": [], "@odata.nextLink": %q}`, next)})
			if _, err := g.api().Methods(t.Context(), ada); !errors.Is(err, entra.ErrMalformed) || len(g.calls) != 1 {
				t.Errorf("%s: error %v, %d calls", next, err, len(g.calls))
			}
		})
	}
}

func TestListMalformed(t *testing.T) {
	for _, body := range []string{"{", "{}", `{"value": 1}`, `{"value": [{"id": 1}]}`, "[]"} {
		synctest.Test(t, func(t *testing.T) {
			g := newGraph(t, ada)
			g.fail("list", fault{body: body})
			if _, err := g.api().Methods(t.Context(), ada); !errors.Is(err, entra.ErrMalformed) {
				t.Errorf("%s: error %v", body, err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		client := g.api()
		registration := create(t, client)
		if _, err := client.Find(t.Context(), ada, registration.Response.ID); !errors.Is(err, entra.ErrNotRegistered) {
			t.Errorf("error %v", err)
		}
		if _, err := client.Register(t.Context(), ada, registration); err != nil {
			t.Fatal(err)
		}
		if m, err := client.Find(t.Context(), ada, registration.Response.ID); err != nil || m.DisplayName != "blue key" {
			t.Errorf("%+v, %v", m, err)
		}
		if _, err := client.Find(t.Context(), ada, []byte("another")); !errors.Is(err, entra.ErrNotRegistered) {
			t.Errorf("error %v", err)
		}
		if _, err := client.Find(t.Context(), "eve", []byte("another")); err == nil || errors.Is(err, entra.ErrNotRegistered) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.users[ada].methods = []entra.Method{{ID: "AAA1", DisplayName: "old"}}
		client := g.api()
		g.fail("rename", fault{status: 503}, fault{hang: true}) // it can be repeated
		if err := client.Rename(t.Context(), ada, "AAA1", "new"); err != nil || g.methods(ada)[0].DisplayName != "new" {
			t.Errorf("%+v, %v", g.methods(ada), err)
		}
		g.noRename = true
		err := client.Rename(t.Context(), ada, "AAA1", "newer")
		var failed *entra.Error
		if !errors.As(err, &failed) || failed.Status != http.StatusMethodNotAllowed {
			t.Errorf("error %v", err)
		}
	})
}

func TestDelete(t *testing.T) {
	for name, test := range map[string]struct {
		user, id     string
		faults, list []fault
		is           error
		status       int
		left         int
	}{
		"done":                             {},
		"busy":                             {faults: []fault{{status: 429, retryAfter: "5"}, {status: 503}}},
		"the answer was lost":              {faults: []fault{{hang: true}}},
		"half a connection":                {faults: []fault{{before: true}, {cut: true}}},
		"the answer was lost, and no list": {faults: []fault{{hang: true}}, list: []fault{{status: 403}}, is: entra.ErrUncertain, status: 404},
		"never answers":                    {faults: []fault{{status: 504, retryAfter: "3000"}}, is: entra.ErrUncertain, status: 504, left: 1},
		"forbidden":                        {faults: []fault{{status: 403}}, status: 403, left: 1},
		"no such method":                   {id: "AAAA", is: entra.ErrNotRegistered, status: 404, left: 1},
		"no such user":                     {user: "eve@contoso.com", status: 404, left: 1},
		"a 404 that is not true":           {faults: []fault{{status: 404}}, status: 404, left: 1},
		"no method":                        {id: ".", is: entra.ErrInvalidRequest, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				g.users[ada].methods = []entra.Method{{ID: "AAA1"}}
				g.users[ada].credentials = [][]byte{{0, 0}}
				g.fail("delete", test.faults...)
				g.fail("list", test.list...)
				user, id := ada, "AAA1"
				if test.user != "" {
					user = test.user
				}
				if test.id != "" {
					id = test.id
				}
				err := g.api().Delete(t.Context(), user, id)
				if (err != nil) != (test.is != nil || test.status != 0) {
					t.Errorf("error %v", err)
				}
				for _, is := range []error{entra.ErrUncertain, entra.ErrNotRegistered, entra.ErrInvalidRequest} {
					if errors.Is(err, is) != (test.is == is) {
						t.Errorf("error %v", err)
					}
				}
				var failed *entra.Error
				if errors.As(err, &failed) && failed.Status != test.status {
					t.Errorf("error %v", err)
				}
				if n := len(g.methods(ada)); n != test.left {
					t.Errorf("%d left", n)
				}
			})
		})
	}
}

// What is not there is refused, before anything is sent.
func TestNothing(t *testing.T) {
	client := new(entra.Client)
	for _, r := range []*entra.Registration{nil, {DisplayName: "blue key"}} {
		if _, err := client.Register(t.Context(), ada, r); !errors.Is(err, entra.ErrInvalidRequest) {
			t.Errorf("Register: %v", err)
		}
	}
	if r := client.Deprovision(t.Context(), nil); !errors.Is(r.Err, entra.ErrInvalidRequest) || r.State != entra.NotStarted {
		t.Errorf("Deprovision: %v", r)
	}
	if _, err := entra.RenameAccount(t.Context(), nil, nil); !errors.Is(err, entra.ErrInvalidRequest) {
		t.Errorf("RenameAccount: %v", err)
	}
}

// A request that never left is not uncertain.
func TestNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		client := g.api()
		registration := create(t, client)
		client.Patience = time.Nanosecond
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		cancel(gone)
		g.client.CloseIdleConnections()
		if _, err := client.Register(ctx, ada, registration); !errors.Is(err, gone) || errors.Is(err, entra.ErrUncertain) {
			t.Errorf("error %v", err)
		}
		refused := errors.New("connection refused")
		client.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}}
		if _, err := client.Register(t.Context(), ada, registration); !errors.Is(err, refused) || errors.Is(err, entra.ErrUncertain) {
			t.Errorf("error %v", err)
		}
	})
}
