package webauthn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

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

func newest(context.Context, []webauthn.Account) (int, error) { return 0, nil }

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
		if got := response.ClientExtensionResults.CredProps.RK; got == nil || *got != tt.rk {
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

// A full key of CTAP 2.0 says so when it is asked.
func TestFullOldKey(t *testing.T) {
	d := sit(t, virtual.Config{Credentials: 1, Level: virtual.CTAP20})
	d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	other := `{"user": {"id": "BAUG", "name": "bob", "displayName": ""}, "extensions": {"credProps": true}}`
	_, err := d.create(`{"authenticatorSelection": {"residentKey": "required"}}`, other)
	refused(t, err, errConstraint, ctap2.ErrKeyStoreFull)
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "preferred"}}`, other)
	if got := asJSON(t, a.results); got != `{"credProps":{}}` {
		t.Error(got)
	}
	d.mustGet(allow("allowCredentials", a.response.ID))

	// Another that was full since it was asked, and what only discoverable
	// credentials can have.
	for support, want := range map[string]string{"preferred": `{"credProps":{"rk":false},"largeBlob":{"supported":false}}`, "required": ""} {
		d = sit(t, virtual.Config{})
		r, full := d.record(), 0
		r.answer = func(message []byte) []byte {
			if message[0] == 0x01 {
				if full++; full == 1 {
					return []byte{byte(ctap2.ErrKeyStoreFull)}
				}
			}
			return nil
		}
		response, err := d.create(`{"authenticatorSelection": {"residentKey": "preferred"}, "extensions": {"credProps": true, "largeBlob": {"support": "` + support + `"}}}`)
		if want == "" {
			refused(t, err, errConstraint, ctap2.ErrKeyStoreFull)
		} else if err != nil || !strings.Contains(asJSON(t, response), `"clientExtensionResults":`+want) {
			t.Errorf("%s %v", asJSON(t, response), err)
		}
	}
}

// A key that is full of others is not asked twice.
func TestFullOfOthers(t *testing.T) {
	d := sit(t, virtual.Config{NoResidentKeys: true})
	r := d.record()
	r.answer = func(message []byte) []byte {
		if message[0] == 0x01 {
			return []byte{byte(ctap2.ErrKeyStoreFull)}
		}
		return nil
	}
	_, err := d.create(`{"authenticatorSelection": {"residentKey": "preferred"}}`)
	refused(t, err, errConstraint, ctap2.ErrKeyStoreFull)
	if n := len(r.sent(t, 0x01)); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// What is known of a credential that need not be discoverable.
func TestCredProps(t *testing.T) {
	for _, tt := range []struct {
		config virtual.Config
		want   string
	}{
		{virtual.Config{}, `{"rk":false}`},
		{virtual.Config{Level: virtual.CTAP21}, `{"rk":false}`},
		{virtual.Config{Level: virtual.CTAP21PRE}, `{"rk":false}`},
		{virtual.Config{Level: virtual.CTAP20}, `{}`},
		{virtual.Config{Level: virtual.CTAP20, NoResidentKeys: true}, `{"rk":false}`},
		{virtual.Config{Level: virtual.CTAP1}, `{"rk":false}`},
	} {
		a := sit(t, tt.config).mustCreate(`{"extensions": {"credProps": true}}`)
		if got := asJSON(t, a.results["credProps"]); got != tt.want {
			t.Errorf("level %v: %s", tt.config.Level, got)
		}
	}
}

// The key is told of the site's wishes where it knows of such.
func TestAttestationFormats(t *testing.T) {
	two, err := cbor.Marshal([]string{"packed", "none"})
	if err != nil {
		t.Fatal(err)
	}
	wishes := []string{`{}`, `{"attestation": "none", "attestationFormats": ["packed"]}`, `{"attestation": "direct"}`, `{"attestation": "direct", "attestationFormats": ["packed", "none"]}`}
	formats := [][]string{{"none"}, {"none"}, nil, {"packed", "none"}}
	for name, tt := range map[string]struct {
		config virtual.Config
		lists  cbor.RawMessage
		told   bool
	}{
		"2.3":               {virtual.Config{}, nil, true},
		"2.1":               {virtual.Config{Level: virtual.CTAP21}, nil, false},
		"2.1 with a choice": {virtual.Config{Level: virtual.CTAP21}, two, true},
		"2.0":               {virtual.Config{Level: virtual.CTAP20}, nil, false},
	} {
		d := sit(t, tt.config)
		r := d.record()
		r.change = map[byte]func(map[int]cbor.RawMessage){0x04: func(members map[int]cbor.RawMessage) {
			if tt.lists != nil {
				members[0x16] = tt.lists
			}
		}}
		if _, err := d.key.GetInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, wish := range wishes {
			r.forget()
			if _, err := d.create(wish); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var sent []string
			if member, ok := r.sent(t, 0x01)[0][11]; ok {
				if err := cbor.Unmarshal(member, &sent); err != nil {
					t.Fatal(err)
				}
			}
			if want := formats[i]; tt.told && !slices.Equal(sent, want) || !tt.told && sent != nil {
				t.Errorf("%s, %s: %q", name, wish, sent)
			}
		}
	}
}

// Transports are sorted, each there once (WebAuthn §5.2.1.1).
func TestTransports(t *testing.T) {
	list, err := cbor.Marshal([]string{"usb", "nfc", "usb", "ble"})
	if err != nil {
		t.Fatal(err)
	}
	d := sit(t, virtual.Config{})
	r := d.record()
	r.change = map[byte]func(map[int]cbor.RawMessage){0x04: func(members map[int]cbor.RawMessage) { members[9] = list }}
	if _, err := d.key.GetInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.mustCreate().response.Response.Transports; !slices.Equal(got, []string{"ble", "nfc", "usb"}) {
		t.Errorf("transports %q", got)
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
	_, err = d.Create(t.Context(), nil)
	refused(t, err, errType)
	_, err = d.Get(t.Context(), nil)
	refused(t, err, errType)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = d.Create(ctx, &webauthn.CreationOptions{User: webauthn.User{ID: []byte{1}}, Challenge: []byte{1}})
	refused(t, err, errAbort)
}
