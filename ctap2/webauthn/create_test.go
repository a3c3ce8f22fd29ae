package webauthn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

const (
	errNotAllowed   = webauthn.ErrNotAllowed
	errInvalidState = webauthn.ErrInvalidState
	errSecurity     = webauthn.ErrSecurity
	errNotSupported = webauthn.ErrNotSupported
	errConstraint   = webauthn.ErrConstraint
	errAbort        = webauthn.ErrAbort
	errEncoding     = webauthn.ErrEncoding
	errType         = webauthn.ErrType
	errSyntax       = webauthn.ErrSyntax
)

func newest(context.Context, []ctap2.User) (int, error) { return 0, nil }

// A key that holds one of the site's credentials is not registered again, and
// says so after a touch.
func TestExcludeCredentials(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"2.3": {}, "2.0": {Level: virtual.CTAP20}, "U2F": {Level: virtual.CTAP1}, "PIN": {PIN: testPIN},
	} {
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			a := d.mustCreate()
			d.touches = 0
			_, err := d.create(allow("excludeCredentials", "AAAA", a.response.ID))
			refused(t, err, errInvalidState, ctap2.ErrCredentialExcluded)
			if d.touches != d.touch() {
				t.Errorf("%d touches", d.touches)
			}
			d.mustCreate(allow("excludeCredentials", "AAAA"))
			// A descriptor of a type that nobody knows is none.
			d.mustCreate(fmt.Sprintf(`{"excludeCredentials": [{"type": "private-key", "id": %q}]}`, a.response.ID))
		})
	}
}

// Which credential a key is asked for, by what the site says and the key can.
func TestResidentKey(t *testing.T) {
	for _, tt := range []struct {
		selection string
		config    virtual.Config
		rk        bool
		want      error
	}{
		{`{"residentKey": "preferred"}`, virtual.Config{}, true, nil},
		{`{"residentKey": "preferred"}`, virtual.Config{NoResidentKeys: true}, false, nil},
		{`{"residentKey": "preferred", "requireResidentKey": true}`, virtual.Config{NoResidentKeys: true}, false, nil},
		{`{"residentKey": "preferred"}`, virtual.Config{Level: virtual.CTAP1}, false, nil},
		{`{"residentKey": "required"}`, virtual.Config{NoResidentKeys: true}, false, errConstraint},
		{`{"residentKey": "discouraged", "requireResidentKey": true}`, virtual.Config{}, false, nil},
		{`{"requireResidentKey": true}`, virtual.Config{}, true, nil},
		{`{"requireResidentKey": true}`, virtual.Config{Level: virtual.CTAP1}, false, errConstraint},
		{`{"residentKey": "perhaps", "requireResidentKey": true}`, virtual.Config{}, true, nil},
		{`{}`, virtual.Config{}, false, nil},
	} {
		d := sit(t, tt.config)
		response, err := d.create(`{"authenticatorSelection": `+tt.selection+`}`, `{"extensions": {"credProps": true}}`)
		if tt.want != nil {
			refused(t, err, tt.want)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.selection, err)
			continue
		}
		if response.ClientExtensionResults.CredProps.RK != tt.rk {
			t.Errorf("%s: rk %t", tt.selection, !tt.rk)
		}
	}
}

// A full key makes no discoverable credential where one is but preferred.
func TestFullKey(t *testing.T) {
	d := sit(t, virtual.Config{Credentials: 1})
	d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	other := `{"user": {"id": "BAUG", "name": "bob", "displayName": ""}}`
	_, err := d.create(`{"authenticatorSelection": {"residentKey": "required"}}`, other)
	refused(t, err, errConstraint, ctap2.ErrKeyStoreFull)
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "preferred"}, "extensions": {"credProps": true}}`, other)
	if got := asJSON(t, a.results); got != `{"credProps":{"rk":false}}` {
		t.Error(got)
	}
}

func TestAlgorithms(t *testing.T) {
	d := sit(t, virtual.Config{Algorithms: []cose.Algorithm{cose.ES384, cose.ES256}})
	for _, tt := range []struct {
		params string
		alg    cose.Algorithm
		want   error
	}{
		{`[]`, cose.ES256, nil},
		{`null`, cose.ES256, nil},
		{`[{"type": "public-key", "alg": -35}, {"type": "public-key", "alg": -7}]`, cose.ES384, nil},
		{`[{"type": "other", "alg": -35}, {"type": "public-key", "alg": -7}]`, cose.ES256, nil},
		{`[{"type": "public-key", "alg": -70000}, {"type": "public-key", "alg": -7}]`, cose.ES256, nil},
		{`[{"type": "other", "alg": -7}]`, 0, errNotSupported},
		{`[{"type": "public-key", "alg": -8}]`, 0, errNotSupported},
	} {
		response, err := d.create(`{"pubKeyCredParams": ` + tt.params + `}`)
		if tt.want != nil {
			refused(t, err, tt.want)
		} else if err != nil || response.PublicKeyAlgorithm != tt.alg {
			t.Errorf("%s: %v", tt.params, err)
		}
	}
	old := sit(t, virtual.Config{Level: virtual.CTAP20}) // it does not list them
	_, err := old.create(`{"pubKeyCredParams": [{"type": "public-key", "alg": -257}]}`)
	refused(t, err, errNotSupported, ctap2.ErrUnsupportedAlgorithm)
}

// Keys are roaming authenticators.
func TestAttachment(t *testing.T) {
	d := sit(t, virtual.Config{})
	d.mustCreate(`{"authenticatorSelection": {"authenticatorAttachment": "cross-platform"}, "hints": ["security-key", "unheard-of"]}`)
	d.mustCreate(`{"authenticatorSelection": {"authenticatorAttachment": "unheard-of"}}`)
	_, err := d.create(`{"authenticatorSelection": {"authenticatorAttachment": "platform"}}`)
	refused(t, err, errNotAllowed)
}

// Attestation conveyance: what the site gets of the statement.
func TestAttestation(t *testing.T) {
	zero := [16]byte{}
	for _, tt := range []struct {
		name, wish, format string
		config             virtual.Config
	}{
		{"absent", ``, "none", virtual.Config{}},
		{"none", `"none"`, "none", virtual.Config{}},
		{"none of an old key", `"none"`, "none", virtual.Config{Level: virtual.CTAP20}},
		{"unknown counts as absent", `"unheard-of"`, "none", virtual.Config{}},
		{"indirect", `"indirect"`, "packed", virtual.Config{}},
		{"direct", `"direct"`, "packed", virtual.Config{}},
		{"enterprise without", `"enterprise"`, "packed", virtual.Config{}},
		{"a key that gives none", `"direct"`, "none", virtual.Config{Attestation: virtual.AttestationNone}},
		{"self with an AAGUID", `"none"`, "none", virtual.Config{Attestation: virtual.AttestationSelf, Level: virtual.CTAP21}},
		{"U2F", `"direct"`, "fido-u2f", virtual.Config{Level: virtual.CTAP1}},
		{"U2F, none", `"none"`, "none", virtual.Config{Level: virtual.CTAP1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := sit(t, tt.config)
			var wish []string
			if tt.wish != "" {
				wish = []string{`{"attestation": ` + tt.wish + `}`}
			}
			a := d.mustCreate(wish...)
			if a.format != tt.format {
				t.Errorf("format %s", a.format)
			}
			if (a.aaguid == zero) != (tt.config.Level == virtual.CTAP1) {
				t.Errorf("AAGUID %v", a.aaguid)
			}
		})
	}
}

// An attestation that identifies the key goes to a site that asks for it, if
// the program lets it.
func TestEnterpriseAttestation(t *testing.T) {
	d := sit(t, virtual.Config{EnterpriseAttestation: true, PIN: testPIN})
	wish := `{"attestation": "enterprise"}`
	d.EnterpriseAttestation = 2
	plain := d.mustCreate(wish) // not enabled on the key
	if err := d.key.EnableEnterpriseAttestation(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	certificates := make(map[string]bool)
	for _, level := range []uint{0, 2} {
		d.EnterpriseAttestation = level
		a := d.mustCreate(wish)
		certificates[statementOf(t, a)] = true
		if same := statementOf(t, a) == statementOf(t, plain); same != (level == 0) {
			t.Errorf("level %d: the ordinary certificate: %t", level, same)
		}
	}
	d.EnterpriseAttestation = 2
	if a := d.mustCreate(`{"attestation": "direct"}`); statementOf(t, a) != statementOf(t, plain) {
		t.Error("the site had not asked for it")
	}
}

func TestCreateRefusals(t *testing.T) {
	d := sit(t, virtual.Config{NoClientPIN: true})
	_, err := d.create(`{"user": {"id": "", "name": "", "displayName": ""}}`)
	refused(t, err, errType)
	_, err = d.create(fmt.Sprintf(`{"user": {"id": %q, "name": "", "displayName": ""}}`, encode(make([]byte, 65))))
	refused(t, err, errType)
	_, err = d.create(`{"challenge": ""}`)
	refused(t, err, errType)
	_, err = d.create(`{"authenticatorSelection": {"userVerification": "required"}}`)
	refused(t, err, errConstraint)
	d.soft.SetPresence(virtual.Refuse)
	_, err = d.create()
	refused(t, err, errNotAllowed, ctap2.ErrOperationDenied)
	if d.touches != 1 {
		t.Errorf("%d touches", d.touches)
	}
	d.key.Close()
	_, err = d.create()
	refused(t, err, errNotAllowed, ctap2.ErrClosed)
	d.Authenticators = nil
	_, err = d.create()
	refused(t, err, errNotAllowed)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = d.Create(ctx, &webauthn.CreationOptions{User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1}})
	refused(t, err, errAbort)
}
