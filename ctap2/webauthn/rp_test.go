package webauthn_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

// A site is a relying party that knows the standard's JSON and nothing of
// package webauthn (WebAuthn §7.1, §7.2).
type site struct {
	origin, rpID string
	requireUV    bool
	topOrigin    string

	challenge string // the last one given out
	accounts  map[string]*account
}

// account is a credential that the site knows, by its ID in base64url.
type account struct {
	key      *cose.Key
	format   string
	aaguid   ctap2.AAGUID
	authData *ctap2.AuthenticatorData
	results  map[string]any
	response registrationJSON
	user     []byte
}

type registrationJSON struct {
	ID, RawID, Type, AuthenticatorAttachment string
	ClientExtensionResults                   map[string]any
	Response                                 struct {
		ClientDataJSON, AuthenticatorData, PublicKey, AttestationObject string
		Transports                                                      []string
		PublicKeyAlgorithm                                              int
	}
}

type authenticationJSON struct {
	ID, RawID, Type, AuthenticatorAttachment string
	ClientExtensionResults                   map[string]any
	Response                                 struct{ ClientDataJSON, AuthenticatorData, Signature, UserHandle string }
}

func newSite(origin, rpID string) *site {
	return &site{origin: origin, rpID: rpID, accounts: make(map[string]*account)}
}

// creation returns options in JSON: the site's, changed by what is given, which
// may be nested.
func (s *site) creation(changes ...string) []byte {
	return s.options(map[string]any{
		"rp":               map[string]any{"id": s.rpID, "name": "A site"},
		"user":             map[string]any{"id": "AQID", "name": "ada@example.com", "displayName": "Ada"},
		"pubKeyCredParams": []any{map[string]any{"type": "public-key", "alg": -7}, map[string]any{"type": "public-key", "alg": -8}, map[string]any{"type": "public-key", "alg": -257}},
	}, changes)
}

// request returns options in JSON for a sign-in, with the accounts that are
// named.
func (s *site) request(changes ...string) []byte {
	return s.options(map[string]any{"rpId": s.rpID}, changes)
}

func (s *site) options(o map[string]any, changes []string) []byte {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	s.challenge = encode(challenge)
	o["challenge"] = s.challenge
	for _, change := range changes {
		if err := json.Unmarshal([]byte(change), &o); err != nil {
			panic(err)
		}
	}
	data, err := json.Marshal(map[string]any{"publicKey": o})
	if err != nil {
		panic(err)
	}
	return data
}

// allow is a change that lists credentials.
func allow(member string, ids ...string) string {
	list := make([]map[string]any, len(ids))
	for i, id := range ids {
		list[i] = map[string]any{"type": "public-key", "id": id, "transports": []string{"usb", "unheard-of"}}
	}
	data, _ := json.Marshal(map[string]any{member: list})
	return string(data)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		t.Fatalf("not base64url without padding: %q", s)
	}
	return b
}

// checkClientData checks type, challenge and origin, and returns the hash.
func (s *site) checkClientData(kind string, data []byte) ([]byte, error) {
	var d struct {
		Type, Challenge, Origin, TopOrigin string
		CrossOrigin                        bool
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	switch {
	case d.Type != kind:
		return nil, fmt.Errorf("type %q", d.Type)
	case d.Challenge != s.challenge:
		return nil, errors.New("another challenge")
	case d.Origin != s.origin:
		return nil, fmt.Errorf("origin %q", d.Origin)
	case d.TopOrigin != s.topOrigin || d.CrossOrigin != (s.topOrigin != ""):
		return nil, fmt.Errorf("top origin %q", d.TopOrigin)
	}
	hash := sha256.Sum256(data)
	return hash[:], nil
}

func (s *site) checkAuthData(d *ctap2.AuthenticatorData, rpID string) error {
	switch {
	case d.RPIDHash != sha256.Sum256([]byte(rpID)):
		return errors.New("another RP ID")
	case !d.Flags.Has(ctap2.FlagUserPresent):
		return errors.New("nobody was present")
	case s.requireUV && !d.Flags.Has(ctap2.FlagUserVerified):
		return errors.New("nobody was verified")
	}
	return nil
}

// register is WebAuthn §7.1.
func (s *site) register(t testing.TB, data []byte) (*account, error) {
	t.Helper()
	var r registrationJSON
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Type != "public-key" || r.ID != r.RawID || r.AuthenticatorAttachment != "cross-platform" || r.ClientExtensionResults == nil || r.Response.Transports == nil {
		t.Errorf("response %s", data)
	}
	hash, err := s.checkClientData("webauthn.create", decode(t, r.Response.ClientDataJSON))
	if err != nil {
		return nil, err
	}
	var object struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  []byte          `cbor:"authData"`
	}
	if err := cbor.Unmarshal(decode(t, r.Response.AttestationObject), &object); err != nil {
		return nil, err
	}
	if encode(object.AuthData) != r.Response.AuthenticatorData {
		return nil, errors.New("two kinds of authenticator data")
	}
	d, err := ctap2.ParseAuthenticatorData(object.AuthData)
	if err != nil {
		return nil, err
	}
	if err := s.checkAuthData(d, s.rpID); err != nil {
		return nil, err
	}
	if encode(d.CredentialID) != r.ID || int(d.PublicKey.Algorithm) != r.Response.PublicKeyAlgorithm {
		return nil, errors.New("another credential")
	}
	public, err := x509.ParsePKIXPublicKey(decode(t, r.Response.PublicKey))
	if err != nil {
		return nil, err
	}
	key, err := cose.NewKey(d.PublicKey.Algorithm, public)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(marshal(t, key), marshal(t, d.PublicKey)) {
		return nil, errors.New("another public key")
	}
	if err := checkStatement(object.Format, object.Statement, d, hash); err != nil {
		return nil, err
	}
	a := &account{key: key, format: object.Format, aaguid: d.AAGUID, authData: d, results: r.ClientExtensionResults, response: r}
	s.accounts[r.ID] = a
	return a, nil
}

func marshal(t testing.TB, key *cose.Key) []byte {
	t.Helper()
	b, err := key.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkStatement checks that an attestation statement signs this registration.
func checkStatement(format string, statement []byte, d *ctap2.AuthenticatorData, hash []byte) error {
	var s struct {
		Algorithm cose.Algorithm `cbor:"alg"`
		Signature []byte         `cbor:"sig"`
		X5C       [][]byte       `cbor:"x5c"`
	}
	if err := cbor.Unmarshal(statement, &s); err != nil {
		return err
	}
	signed := slices.Concat(d.Raw, hash)
	switch {
	case format == "none":
		if !bytes.Equal(statement, []byte{0xA0}) {
			return errors.New("a statement in format none")
		}
		return nil
	case format == "packed" && s.X5C == nil:
		return d.PublicKey.Verify(signed, s.Signature)
	case format == "fido-u2f":
		s.Algorithm = cose.ES256
		point := slices.Concat([]byte{4}, d.PublicKey.X, d.PublicKey.Y)
		signed = slices.Concat([]byte{0}, d.RPIDHash[:], hash, d.CredentialID, point)
	case format != "packed":
		return fmt.Errorf("format %q", format)
	}
	certificate, err := x509.ParseCertificate(s.X5C[0])
	if err != nil {
		return err
	}
	return cose.Verify(s.Algorithm, certificate.PublicKey, signed, s.Signature)
}

// signIn is WebAuthn §7.2.
func (s *site) signIn(t testing.TB, data []byte) (*account, map[string]any, error) {
	t.Helper()
	var r authenticationJSON
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, nil, err
	}
	if r.Type != "public-key" || r.ID != r.RawID || r.AuthenticatorAttachment != "cross-platform" || r.ClientExtensionResults == nil {
		t.Errorf("response %s", data)
	}
	a := s.accounts[r.ID]
	if a == nil {
		return nil, nil, errors.New("unknown credential")
	}
	hash, err := s.checkClientData("webauthn.get", decode(t, r.Response.ClientDataJSON))
	if err != nil {
		return nil, nil, err
	}
	raw := decode(t, r.Response.AuthenticatorData)
	d, err := ctap2.ParseAuthenticatorData(raw)
	if err != nil {
		return nil, nil, err
	}
	rpID := s.rpID
	if r.ClientExtensionResults["appid"] == true {
		rpID = appID
	}
	if err := s.checkAuthData(d, rpID); err != nil {
		return nil, nil, err
	}
	if err := a.key.Verify(slices.Concat(raw, hash), decode(t, r.Response.Signature)); err != nil {
		return nil, nil, err
	}
	a.authData, a.user = d, decode(t, r.Response.UserHandle)
	return a, r.ClientExtensionResults, nil
}

// A desk has a software key on it, and a client that uses it for a site.
type desk struct {
	*webauthn.Client
	*site
	t    testing.TB
	soft *virtual.Authenticator
	key  *ctap2.Authenticator

	touches int
	asked   int // for the PIN
}

const testPIN = "271828"

func sum(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// sit returns a desk with a key that is reached over CTAPHID, so that all
// messages are as they are on a cable.
func sit(t testing.TB, config virtual.Config) *desk {
	t.Helper()
	d := &desk{t: t, site: newSite("https://login.example.com", "example.com")}
	d.key, d.soft = d.plugIn(config)
	d.Client = &webauthn.Client{Origin: "https://login.example.com", Authenticators: []*ctap2.Authenticator{d.key}}
	return d
}

func (d *desk) plugIn(config virtual.Config) (*ctap2.Authenticator, *virtual.Authenticator) {
	d.t.Helper()
	soft, err := virtual.New(config)
	if err != nil {
		d.t.Fatal(err)
	}
	usb := soft.PlugIn(virtual.USBConfig{})
	conn, err := usb.Open()
	if err != nil {
		d.t.Fatal(err)
	}
	device, err := hid.New(d.t.Context(), conn)
	if err != nil {
		d.t.Fatal(err)
	}
	key := d.open(device)
	d.t.Cleanup(func() {
		key.Close()
		usb.Unplug()
		soft.Close()
	})
	return key, soft
}

func (d *desk) open(transport ctap2.Transport) *ctap2.Authenticator {
	d.t.Helper()
	key, err := ctap2.Open(d.t.Context(), transport, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
			d.asked++
			return pin.FromString(testPIN), nil
		},
		Touch: func(ctap2.TouchRequest) { d.touches++ },
	}))
	if err != nil {
		d.t.Fatal(err)
	}
	return key
}

// touch is how often a person is told of one touch: a U2F key is touched before
// anybody has to be told.
func (d *desk) touch() int {
	if d.key.Info().HasVersion("FIDO_2_0") {
		return 1
	}
	return 0
}

// create registers, through JSON both ways, but for the secrets of the response.
func (d *desk) create(changes ...string) (*webauthn.RegistrationResponse, error) {
	d.t.Helper()
	options, err := webauthn.ParseCreationOptions(d.creation(changes...))
	if err != nil {
		d.t.Fatal(err)
	}
	return d.Create(d.t.Context(), options)
}

func (d *desk) get(changes ...string) (*webauthn.AuthenticationResponse, error) {
	d.t.Helper()
	options, err := webauthn.ParseRequestOptions(d.request(changes...))
	if err != nil {
		d.t.Fatal(err)
	}
	return d.Get(d.t.Context(), options)
}

// getSecrets signs in with salts of the program's own.
func (d *desk) getSecrets(id string, salts *webauthn.HMACSecretSalts) (*webauthn.AuthenticationResponse, error) {
	d.t.Helper()
	options, err := webauthn.ParseRequestOptions(d.request(allow("allowCredentials", id)))
	if err != nil {
		d.t.Fatal(err)
	}
	options.Extensions.HMACGetSecret = salts
	return d.Get(d.t.Context(), options)
}

// mustCreate registers at the site.
func (d *desk) mustCreate(changes ...string) *account {
	d.t.Helper()
	response, err := d.create(changes...)
	if err != nil {
		d.t.Fatal(err)
	}
	data, err := response.JSONWithSecrets()
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := d.register(d.t, data)
	if err != nil {
		d.t.Fatalf("%v: %s", err, data)
	}
	return a
}

// mustGet signs in at the site.
func (d *desk) mustGet(changes ...string) (*account, map[string]any) {
	d.t.Helper()
	response, err := d.get(changes...)
	if err != nil {
		d.t.Fatal(err)
	}
	data, err := response.JSONWithSecrets()
	if err != nil {
		d.t.Fatal(err)
	}
	a, results, err := d.signIn(d.t, data)
	if err != nil {
		d.t.Fatalf("%v: %s", err, data)
	}
	return a, results
}

// refused checks the names of an error, and that it is an *Error of the first.
func refused(t testing.TB, err error, names ...error) {
	t.Helper()
	var e *webauthn.Error
	if !errors.As(err, &e) || e.Name != names[0] {
		t.Fatalf("error %v, want %v", err, names[0])
	}
	for _, name := range names {
		if !errors.Is(err, name) {
			t.Errorf("error %v does not wrap %v", err, name)
		}
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// statementOf returns the attestation certificate of a registration.
func statementOf(t testing.TB, a *account) string {
	t.Helper()
	var object struct {
		Statement struct {
			X5C [][]byte `cbor:"x5c"`
		} `cbor:"attStmt"`
	}
	if err := cbor.Unmarshal(decode(t, a.response.Response.AttestationObject), &object); err != nil || len(object.Statement.X5C) == 0 {
		t.Fatalf("no certificate: %v", err)
	}
	return string(object.Statement.X5C[0])
}
