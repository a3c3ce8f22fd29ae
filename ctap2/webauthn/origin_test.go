package webauthn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// Which RP ID an origin may use, and what the origin is called in client data.
func TestRPID(t *testing.T) {
	d := sit(t, virtual.Config{})
	for _, tt := range []struct{ origin, rpID, text, used string }{
		{"https://example.com", "", "https://example.com", "example.com"},
		{"https://example.com", "example.com", "https://example.com", "example.com"},
		{"https://login.example.com", "example.com", "https://login.example.com", "example.com"},
		{"https://a.b.example.co.uk:8443", "example.co.uk", "https://a.b.example.co.uk:8443", "example.co.uk"},
		{"HTTPS://Login.Example.COM:443/", "", "https://login.example.com", "login.example.com"},
		{"http://localhost:8080", "", "http://localhost:8080", "localhost"},
		{"http://localhost:80", "localhost", "http://localhost", "localhost"},
		{"http://app.localhost", "", "http://app.localhost", "app.localhost"},
		{"https://localhost:443", "", "https://localhost", "localhost"},
		{"https://intranet", "", "https://intranet", "intranet"},
		{"https://github.io", "github.io", "https://github.io", "github.io"}, // equal: nobody else's
		{"https://me.github.io", "", "https://me.github.io", "me.github.io"},
		{"https://x.city.kawasaki.jp", "city.kawasaki.jp", "https://x.city.kawasaki.jp", "city.kawasaki.jp"},
		{"https://a_b.example.com:080", "", "https://a_b.example.com:80", "a_b.example.com"},
		{"https://xn--bcher-kva.example", "", "https://xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"https://1.2.3.example", "", "https://1.2.3.example", "1.2.3.example"},
	} {
		d.site = newSite(tt.text, tt.used)
		d.Origin = tt.origin
		id := `{"rp": {"name": "a site"}}`
		if tt.rpID != "" {
			id = fmt.Sprintf(`{"rp": {"id": %q, "name": "a site"}}`, tt.rpID)
		}
		d.mustCreate(id, `{"authenticatorSelection": {"residentKey": "required"}}`)
		d.mustGet(fmt.Sprintf(`{"rpId": %q}`, tt.rpID))
	}
}

func TestRPIDRefused(t *testing.T) {
	d := sit(t, virtual.Config{})
	for _, tt := range []struct{ origin, rpID, why string }{
		{"https://login.example.com", "example.org", "is not a suffix"},
		{"https://example.com", "login.example.com", "is not a suffix"},
		{"https://notexample.com", "example.com", "is not a suffix"},
		{"https://example.com", "com", "is a public suffix"},
		{"https://example.co.uk", "co.uk", "is a public suffix"},
		{"https://example.co.uk", "uk", "is a public suffix"},
		{"https://me.github.io", "github.io", "is a public suffix"},
		{"https://me.github.io", "io", "is a public suffix"},
		{"http://app.localhost", "localhost", "is a public suffix"},
		{"https://x.kawasaki.jp", "kawasaki.jp", "is a public suffix"},
		{"https://example.com", "Example.com", "lower case"},
		{"https://example.com", "example.com.", "not a domain"},
		{"https://example.com", ".com", "not a domain"},
		{"https://example.com", "https://example.com", "not a domain"},
		{"https://example.com", "bücher.example", "not a domain"},
		{"https://example.com", strings.Repeat("a", 64) + ".com", "not a domain"},
		{"https://example.com", strings.Repeat("a.", 127) + "com", "not a domain"},
		{"https://127.0.0.1", "", "not a domain"},
		{"https://[::1]", "", "not a domain"},
		{"https://0x7f.1", "", "not a domain"},
		{"https://127.0x1", "", "not a domain"},
		{"https://127.0x", "", "not a domain"},
		{"https://bücher.example", "", "not a domain"},
		{"https://example.\u212Aom", "", "not a domain"}, // Kelvin, k in lower case
		{"https://\u212Aids.example.com", "", "not a domain"},
		{"https://example.com.", "", "not a domain"},
		{"https://a..example.com", "", "not a domain"},
		{"https://a%20b.com", "", "not an origin"},
		{"http://example.com", "", "not a secure context"},
		{"http://localhost.example.com", "", "not a secure context"},
		{"ftp://localhost", "", "not a secure context"},
		{"https://example.com:65536", "", "out of range"},
		{"https://example.com/login", "", "not an origin"},
		{"https://example.com/" + strings.Repeat("login", 1<<16), "", "not an origin"},
		{"https://example.com?a", "", "not an origin"},
		{"https://example.com?", "", "not an origin"},
		{"https://example.com#a", "", "not an origin"},
		{"https://user@example.com", "", "not an origin"},
		{"https:example.com", "", "not an origin"},
		{"example.com", "", "not an origin"},
		{"android:apk-key-hash:AAAA", "", "not an origin"},
		{"null", "", "not an origin"},
		{"", "", "not an origin"},
		{":", "", "not an origin"},
	} {
		d.Origin = tt.origin
		_, err := d.create(fmt.Sprintf(`{"rp": {"id": %q, "name": "a site"}}`, tt.rpID))
		refused(t, err, errSecurity)
		if !strings.Contains(err.Error(), tt.why) || len(err.Error()) > 400 {
			t.Errorf("%s, %s: %v", tt.origin, tt.rpID, err)
		}
		_, err = d.get(fmt.Sprintf(`{"rpId": %q}`, tt.rpID))
		refused(t, err, errSecurity)
	}
	if d.touches != 0 {
		t.Errorf("%d touches", d.touches)
	}
}

// Client data of frames.
func TestCrossOrigin(t *testing.T) {
	d := sit(t, virtual.Config{})
	d.TopOrigin, d.topOrigin = "https://Shop.example.org:443", "https://shop.example.org"
	d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	d.mustGet()
	d.TopOrigin = "shop.example.org"
	_, err := d.get()
	refused(t, err, errSecurity)
	d.TopOrigin, d.CrossOrigin = "", true
	response, err := d.get()
	if err != nil || !strings.HasSuffix(string(response.ClientDataJSON), `,"crossOrigin":true}`) {
		t.Errorf("%s %v", response.ClientDataJSON, err)
	}
}

// The list that says which sites may use another's RP ID.
func TestRelatedOrigins(t *testing.T) {
	d := sit(t, virtual.Config{})
	var document string
	var failure error
	d.RelatedOrigins = func(_ context.Context, rpID string) ([]byte, error) {
		if rpID != "example.org" {
			t.Errorf("asked for %q", rpID)
		}
		return []byte(document), failure
	}
	create := func() error {
		_, err := d.create(`{"rp": {"id": "example.org", "name": "another site"}}`)
		return err
	}
	five := `"https://one.com", "https://two.com", "https://three.com", "https://four.com", "https://five.com"`
	for _, tt := range []struct {
		document string
		ok       bool
	}{
		{`{"origins": ["https://login.example.com"]}`, true},
		{`{"origins": ["https://other.test", "HTTPS://login.example.com:443/"], "more": 1}`, true},
		{`{"origins": ["not an origin", "http://one.com", "https://localhost", "https://co.uk", "https://login.example.com"]}`, true},
		{`{"origins": ["https://one.com", "https://one.net", "https://a.one.org", ` + five[:len(five)-20] + `, "https://login.example.com"]}`, true},
		{`{"origins": [` + five + `, "https://example.net", "https://login.example.com"]}`, false},
		{`{"origins": [` + strings.Replace(five, "five.com", "example.net", 1) + `, "https://six.com", "https://login.example.com"]}`, true},
		{`{"origins": ["https://example.com", "https://login.example.com:8443", "http://login.example.com"]}`, false},
		{`{"origins": []}`, false},
		{`{"origins": "https://login.example.com"}`, false},
		{`{"Origins": ["https://login.example.com"]}`, false},
		{`["https://login.example.com"]`, false},
		{`{"origins": [1, "https://login.example.com"]}`, false},
		{`{"origins": [null, "https://login.example.com"]}`, false},
		{`{"origins": ["https://login.example.com/a/path?x#y"]}`, true},
		{`{"origins": ["https://login.example.com:8443/a/path", "https://LOGIN.example.com/"]}`, true},
		{`{"origins": ["http://one.com", "ftp://two.com", "https://three.com:8443/x", "https://four.com/", "https://a_b.five.com", "https://login.example.com"]}`, false},
		{`{"origins": ["https://1.2.3.4", "https://1.2.5.6", "https://1.2.7.8", "https://1.2.9.10", "https://1.2.11.12", "https://[::1]", "https://com", "mailto:x@one.com", "", "https://login.example.com"]}`, true},
		{``, false},
	} {
		document = tt.document
		if err := create(); tt.ok && err != nil {
			t.Errorf("%s: %v", document, err)
		} else if !tt.ok {
			refused(t, err, errSecurity)
		}
	}
	// Hosts need not be in ASCII there.
	d.Origin = "https://xn--bcher-kva.example"
	for host, ok := range map[string]bool{
		"xn--bcher-kva.example": true, "bücher.example": true, "BU\u0308CHER.example:443": true, "b%C3%BCcher\u3002example": true,
		"bucher.example": false, "bücher.example:444": false, "xn--bücher.example": false, "a.bücher.example": false,
	} {
		document = fmt.Sprintf(`{"origins": ["https://r3---a_b.example.net", "https://%s/"]}`, host)
		if err := create(); ok && err != nil {
			t.Errorf("%s: %v", host, err)
		} else if !ok {
			refused(t, err, errSecurity)
		}
	}
	d.Origin = "https://login.example.com"
	failure = errors.New("404")
	refused(t, create(), errSecurity, failure)
	_, err := d.create(`{"rp": {"id": "not a domain", "name": ""}}`)
	refused(t, err, errSecurity)
	// It is not asked for what the origin may do anyway.
	if _, err := d.create(`{"rp": {"id": "example.com", "name": ""}}`); err != nil {
		t.Error(err)
	}
	// A local page is related to nobody.
	local := &webauthn.Client{Origin: "http://app.localhost", Authenticators: d.Authenticators, RelatedOrigins: func(context.Context, string) ([]byte, error) {
		t.Error("asked for a local page")
		return []byte(`{"origins": ["http://app.localhost"]}`), nil
	}}
	_, err = local.Get(t.Context(), &webauthn.RequestOptions{RPID: "example.org", Challenge: []byte{1}})
	refused(t, err, errSecurity)
	// The key signs for the RP ID, the client for the origin.
	document, failure = `{"origins": ["https://login.example.com"]}`, nil
	d.rpID = "example.org"
	d.mustCreate()

	var keys []*ctap2.Authenticator
	_, err = (&webauthn.Client{Origin: "https://example.com", Authenticators: keys}).Get(t.Context(), &webauthn.RequestOptions{Challenge: []byte{1}})
	refused(t, err, errNotAllowed)
}
