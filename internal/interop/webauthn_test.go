//go:build linux

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-webauthn/webauthn/metadata"
	"github.com/go-webauthn/webauthn/metadata/providers/memory"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	server "github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

const (
	siteOrigin = "https://login.example.com"
	siteRPID   = "example.com"
	siteAppID  = "https://example.com/app-id.json"
	sitePIN    = "271828"
)

// TestWebAuthn registers and signs in at sites of other people's make: at
// go-webauthn, whose JSON and package webauthn's go back and forth as they are,
// and at python-fido2, which is given the same responses. Debian's python3-fido2
// is needed for the latter.
func TestWebAuthn(t *testing.T) {
	var said transcript
	t.Run("go-webauthn", func(t *testing.T) {
		for i := 0; ; i++ {
			c, ok := nthCombination(i)
			if !ok {
				break
			}
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				c.test(t, &said)
			})
		}
		t.Run("U2F", func(t *testing.T) { testU2FOnly(t, &said) })
		t.Run("appid", func(t *testing.T) { testAppID(t, &said) })
		t.Run("tampered", func(t *testing.T) { testTampered(t, &said) })
	})
	t.Run("python-fido2", said.toPythonFIDO2)
}

// A combination is what a site may want of a key.
type combination struct {
	alg            webauthncose.COSEAlgorithmIdentifier
	discoverable   bool
	verification   protocol.UserVerificationRequirement
	attestation    protocol.ConveyancePreference
	prf, largeBlob bool
	credProtect    protocol.CredentialProtectionPolicy
}

// nthCombination counts through all combinations, from 0, until it is not ok.
func nthCombination(n int) (c combination, ok bool) {
	c = combination{
		alg:          digit(&n, webauthncose.AlgES256, webauthncose.AlgEdDSA, webauthncose.AlgRS256),
		discoverable: digit(&n, true, false),
		verification: digit(&n, protocol.VerificationRequired, protocol.VerificationPreferred, protocol.VerificationDiscouraged),
		attestation:  digit(&n, protocol.PreferDirectAttestation, protocol.PreferNoAttestation),
		prf:          digit(&n, true, false),
		largeBlob:    digit(&n, true, false),
		credProtect: digit(&n, "", protocol.CredentialProtectionPolicyUserVerificationOptionalWithCredentialIDList,
			protocol.CredentialProtectionPolicyUserVerificationRequired),
	}
	return c, n == 0
}

// digit takes the last digit off n, and returns what it stands for.
func digit[T any](n *int, values ...T) T {
	v := values[*n%len(values)]
	*n /= len(values)
	return v
}

func (c combination) String() string {
	words := []string{cose.Algorithm(c.alg).String(), string(c.verification), string(c.attestation)}
	for word, on := range map[string]bool{"discoverable": c.discoverable, "prf": c.prf, "largeBlob": c.largeBlob, string(c.credProtect): c.credProtect != ""} {
		if on {
			words = append(words, word)
		}
	}
	slices.Sort(words[3:])
	return strings.Join(words, ",")
}

func (c combination) test(t *testing.T, said *transcript) {
	d := sit(t, said, virtual.Config{PIN: sitePIN, Algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA, cose.RS256}})
	ada, bob := &account{name: "ada"}, &account{name: "bob"}
	d.accounts = []*account{ada, bob}

	// The key has a PIN, which it is not asked to check if the site can do
	// without, and nothing else takes it.
	verified := c.verification != protocol.VerificationDiscouraged || c.prf
	wishes := []server.RegistrationOption{
		server.WithCredentialParameters([]protocol.CredentialParameter{{Type: protocol.PublicKeyCredentialType, Algorithm: c.alg}}),
		server.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey:      map[bool]protocol.ResidentKeyRequirement{true: "required", false: "discouraged"}[c.discoverable],
			UserVerification: c.verification,
		}),
		server.WithConveyancePreference(c.attestation),
		server.WithExtensions(server.WithExtensionCredProps()),
	}
	want := server.CredentialExtensions{RK: &c.discoverable, CredProtect: c.credProtect}
	var registering, first, second []server.ExtensionOption // in a registration, and in two sign-ins
	if c.prf {
		eval := server.WithExtensionPRF(protocol.PRFValues{First: []byte("first"), Second: []byte("second")})
		registering, first = append(registering, eval), append(first, eval)
		second = append(second, server.WithExtensionPRF(protocol.PRFValues{First: []byte("second")}))
		want.PRFEnabled, want.HMACSecret = new(true), new(true)
	}
	if c.largeBlob {
		support := map[bool]protocol.LargeBlobSupport{true: "required", false: "preferred"}[c.discoverable]
		registering = append(registering, server.WithExtensionLargeBlobSupport(support))
		want.LargeBlobSupported = &c.discoverable
	}
	if c.largeBlob && c.discoverable {
		first = append(first, server.WithExtensionLargeBlobWrite([]byte("a large blob")))
		second = append(second, server.WithExtensionLargeBlobRead())
	}
	if c.credProtect != "" {
		registering = append(registering, server.WithExtensionCredentialProtectionPolicy(c.credProtect, true))
	}
	wishes = append(wishes, server.WithExtensions(registering...))
	registration, results := d.mustRegister(ada, wishes...)
	if !reflect.DeepEqual(registration.Extensions, want) {
		t.Errorf("extensions %s, want %s", marshal(t, registration.Extensions), marshal(t, want))
	}
	if registration.Attestation.PublicKeyAlgorithm != int64(c.alg) {
		t.Errorf("algorithm %d", registration.Attestation.PublicKeyAlgorithm)
	}
	wantFormat := map[protocol.ConveyancePreference]string{"none": "none", "direct": "packed"}[c.attestation]
	if registration.AttestationFormat != wantFormat {
		t.Errorf("attestation %s, want %s", registration.AttestationFormat, wantFormat)
	}
	if registration.Flags.UserVerified != (verified || c.discoverable) {
		t.Errorf("flags %+v", registration.Flags)
	}

	// A key tells nobody unverified of a credential that takes user verification.
	_, err := d.register(ada, append(wishes, server.WithExclusions(ada.descriptors()))...)
	if hidden := c.credProtect == protocol.CredentialProtectionPolicyUserVerificationRequired && !registration.Flags.UserVerified; hidden {
		if err != nil {
			t.Errorf("a registration that excludes a credential that the key does not tell of: %v", err)
		}
	} else if !errors.Is(err, webauthn.ErrInvalidState) {
		t.Errorf("a registration that excludes the credential: %v", err)
	}

	signIn := func(user *account, extensions ...server.ExtensionOption) (*protocol.AuthenticationExtensionsClientOutputs, error) {
		s, err := d.signIn(user, server.WithUserVerification(c.verification), server.WithAssertionExtensions(extensions...))
		if err != nil {
			return nil, err
		}
		who, response := d.acceptSignIn(s)
		if who != ada {
			t.Errorf("signed in as %s", who.name)
		}
		if got := response.Response.AuthenticatorData.Flags.UserVerified(); got != verified {
			t.Errorf("user verified: %t", got)
		}
		return &response.ClientExtensionResults, nil
	}
	signedIn, err := signIn(ada, first...)
	if c.credProtect == protocol.CredentialProtectionPolicyUserVerificationRequired && !verified {
		if !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("sign-in without the verification that the credential takes: %v", err)
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if c.prf && (results.PRF.Results == nil || len(results.PRF.Results.Second) != 32 || !reflect.DeepEqual(results.PRF.Results, signedIn.PRF.Results)) {
		t.Errorf("prf gives %s in the registration, and %s in a sign-in", marshal(t, results.PRF), marshal(t, signedIn.PRF))
	}
	if !c.discoverable {
		return
	}

	// Of several accounts the key offers those that it may tell of.
	d.mustRegister(bob, server.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired))
	d.choose = ada
	if c.credProtect != "" && !verified {
		d.choose = bob
		s, err := d.signIn(nil, server.WithUserVerification(c.verification))
		if err != nil {
			t.Fatal(err)
		}
		if who, _ := d.acceptSignIn(s); who != bob {
			t.Errorf("signed in as %s", who.name)
		}
		return
	}
	signedIn, err = signIn(nil, second...)
	if err != nil {
		t.Fatal(err)
	}
	if c.prf && !bytes.Equal(signedIn.PRF.Results.First, results.PRF.Results.Second) {
		t.Errorf("prf gives %s without a list", marshal(t, signedIn.PRF))
	}
	if c.largeBlob && string(signedIn.LargeBlob.Blob) != "a large blob" {
		t.Errorf("large blob %q", signedIn.LargeBlob.Blob)
	}
}

// A key that speaks U2F alone does what it can.
func testU2FOnly(t *testing.T, said *transcript) {
	for attestation, format := range map[protocol.ConveyancePreference]string{"none": "none", "direct": "fido-u2f"} {
		d := sit(t, said, virtual.Config{Level: virtual.CTAP1})
		ada := &account{name: "ada"}
		d.accounts = []*account{ada}
		wish := server.WithConveyancePreference(attestation)
		credential, _ := d.mustRegister(ada, wish)
		if credential.AttestationFormat != format {
			t.Errorf("attestation %s", credential.AttestationFormat)
		}
		s, err := d.signIn(ada)
		if err != nil {
			t.Fatal(err)
		}
		d.acceptSignIn(s)
		if _, err := d.register(ada, wish, server.WithExclusions(ada.descriptors())); !errors.Is(err, webauthn.ErrInvalidState) {
			t.Errorf("a registration that excludes the credential: %v", err)
		}
		if _, err := d.register(ada, server.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired)); !errors.Is(err, webauthn.ErrConstraint) {
			t.Errorf("a discoverable credential: %v", err)
		}
		if _, err := d.signIn(ada, server.WithUserVerification(protocol.VerificationRequired)); !errors.Is(err, webauthn.ErrConstraint) {
			t.Errorf("a sign-in with user verification: %v", err)
		}
	}
}

// A credential that was made with the U2F API signs in, and is found where it is
// excluded.
func testAppID(t *testing.T, said *transcript) {
	for _, config := range []virtual.Config{{Level: virtual.CTAP1}, {}} {
		d := sit(t, said, config)
		old, err := d.key.U2FRegister(t.Context(), [32]byte{}, sha256.Sum256([]byte(siteAppID)))
		if err != nil {
			t.Fatal(err)
		}
		public := slices.Concat([]byte{4}, old.PublicKey.X, old.PublicKey.Y) // as U2F servers keep it
		ada := &account{name: "ada", credentials: []server.Credential{{ID: old.KeyHandle, PublicKey: public, AttestationFormat: "fido-u2f"}}}
		d.accounts = []*account{ada}
		s, err := d.signIn(ada, server.WithAssertionExtensions(server.WithExtensionAppID(siteAppID)))
		if err != nil {
			t.Fatal(err)
		}
		s.U2FKey = public
		if _, response := d.acceptSignIn(s); !*response.ClientExtensionResults.AppID {
			t.Error("signed in under the RP ID")
		}
		if _, err := d.signIn(ada); !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("sign-in without appid: %v", err)
		}
		exclude := []server.RegistrationOption{
			server.WithExclusions(ada.descriptors()),
			server.WithExtensions(server.WithExtensionAppIDExclude(siteAppID)),
		}
		if _, err := d.register(ada, exclude...); !errors.Is(err, webauthn.ErrInvalidState) {
			t.Errorf("a registration that excludes the credential: %v", err)
		}
		d.mustRegister(ada, server.WithExclusions(ada.descriptors()))
	}
}

// What was changed on the way is refused, which says that the sites look.
func testTampered(t *testing.T, said *transcript) {
	d := sit(t, said, virtual.Config{PIN: sitePIN})
	ada, bob := &account{name: "ada"}, &account{name: "bob"}
	d.accounts = []*account{ada, bob}
	registerAs := func(user *account) *ceremony {
		c, err := d.register(user, server.WithConveyancePreference("direct"), server.WithAuthenticatorSelection(
			protocol.AuthenticatorSelection{ResidentKey: "required", UserVerification: "required"}))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	register := func() *ceremony { return registerAs(bob) }
	signIn := func() *ceremony {
		c, err := d.signIn(ada, server.WithUserVerification("required"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	refuse := func(name string, c *ceremony, byGoWebAuthn, byPythonFIDO2 string) {
		var err error
		if c.Attestation != "" {
			_, _, err = d.finishRegistration(c)
		} else {
			_, _, _, err = d.finishSignIn(c)
		}
		if err == nil || !strings.Contains(inFull(err), byGoWebAuthn) {
			t.Errorf("%s: go-webauthn: error %v, want %q", name, err, byGoWebAuthn)
		}
		c.refused = byPythonFIDO2
		said.add(c)
	}
	d.acceptRegistration(registerAs(ada))
	d.acceptSignIn(signIn())

	const created, signed = "attestationObject", "authenticatorData"
	hash := sha256.Sum256([]byte(siteRPID))
	rpID, aaguid := string(hash[:]), string(ada.credentials[0].Authenticator.AAGUID)
	for _, tt := range []struct {
		name         string
		begin        func() *ceremony
		member       string
		change       func([]byte) []byte
		byGoWebAuthn string // in part
		byPython     string // the same, or empty if python-fido2 does not mind
	}{
		{"type", register, "clientDataJSON", swap("webauthn.create", "webauthn.get"), "ceremony type", "Incorrect type"},
		{"origin", register, "clientDataJSON", swap("login.example.com", "login.example.org"), "validating origin", "Invalid origin"},
		{"client data", register, "clientDataJSON", swap(":false", ": false"), "Signature validation", "InvalidSignature"},
		{"RP ID", register, created, flip(rpID[:31], 0), "RP Hash mismatch", "Wrong RP ID hash"},
		{"user presence", register, created, swap(rpID+"\x45", rpID+"\x44"), "presence required", "User Present flag not set"},
		{"user verification", register, created, swap(rpID+"\x45", rpID+"\x41"), "verification required", "User verification required"},
		{"counter", register, created, flip(rpID, 1), "Signature validation", "InvalidSignature"},
		{"AAGUID", register, created, flip(aaguid[:15], 0), "Certificate AAGUID", "AAGUID in Authenticator data"},
		{"signature", register, created, flip("csig", 12), "Signature validation", "InvalidSignature"},
		{"type", signIn, "clientDataJSON", swap("webauthn.get", "webauthn.create"), "ceremony type", "Incorrect type"},
		{"origin", signIn, "clientDataJSON", swap("login.example.com", "login.example.org"), "validating origin", "Invalid origin"},
		{"client data", signIn, "clientDataJSON", swap(":false", ": false"), "assertion signature", "Invalid signature"},
		{"RP ID", signIn, signed, flip(rpID[:31], 0), "RP Hash mismatch", "Wrong RP ID hash"},
		{"user presence", signIn, signed, swap(rpID+"\x05", rpID+"\x04"), "presence required", "User Present flag not set"},
		{"user verification", signIn, signed, swap(rpID+"\x05", rpID+"\x01"), "verification required", "User verification required"},
		{"counter", signIn, signed, flip(rpID, 1), "assertion signature", "Invalid signature"},
		{"signature", signIn, "signature", flip("", 12), "assertion signature", "Invalid signature"},
		{"user", signIn, "userHandle", swap("ada", "bob"), "User handle and User ID do not match", ""},
	} {
		c := tt.begin()
		c.edit(t, tt.member, tt.change)
		refuse(tt.name, c, tt.byGoWebAuthn, tt.byPython)
	}
	for _, begin := range []func() *ceremony{register, signIn} {
		c := begin()
		c.Challenge = begin().Challenge
		c.session.Challenge = c.Challenge
		refuse("challenge", c, "validating challenge", "Wrong challenge")
	}
	// Attestation that leads to another root.
	other := sit(t, said, virtual.Config{})
	d.site, d.root = other.site, other.root
	refuse("root", register(), "trust chain", "UntrustedAttestation")
}

// swap replaces what is there once.
func swap(from, to string) func([]byte) []byte {
	return func(data []byte) []byte { return bytes.Replace(data, []byte(from), []byte(to), 1) }
}

// flip changes a bit, in the byte that is at an offset from the end of what
// stands before it.
func flip(before string, offset int) func([]byte) []byte {
	return func(data []byte) []byte {
		data = slices.Clone(data)
		data[bytes.Index(data, []byte(before))+len(before)+offset] ^= 1
		return data
	}
}

// edit changes a member of the response.
func (c *ceremony) edit(t *testing.T, member string, change func([]byte) []byte) {
	t.Helper()
	credential := decodeObject(t, c.Response)
	response := credential["response"].(map[string]any)
	data, err := base64.RawURLEncoding.DecodeString(response[member].(string))
	if err != nil {
		t.Fatal(err)
	}
	changed := change(data)
	if bytes.Equal(changed, data) {
		t.Fatalf("nothing to change in %s, %x", member, data)
	}
	response[member] = base64.RawURLEncoding.EncodeToString(changed)
	c.Response = marshal(t, credential)
}

// An account is a user of a site.
type account struct {
	name        string
	credentials []server.Credential
}

func (a *account) WebAuthnID() []byte                       { return []byte("id of " + a.name) }
func (a *account) WebAuthnName() string                     { return a.name }
func (a *account) WebAuthnDisplayName() string              { return a.name }
func (a *account) WebAuthnCredentials() []server.Credential { return a.credentials }

func (a *account) descriptors() []protocol.CredentialDescriptor {
	return server.Credentials(a.credentials).CredentialDescriptors()
}

// A desk has a key on it, and a client that uses it at a site.
type desk struct {
	t        *testing.T
	key      *ctap2.Authenticator
	client   webauthn.Client
	site     *server.WebAuthn
	root     []byte // of the key's attestation
	accounts []*account
	choose   *account // of several
	said     *transcript
}

func sit(t *testing.T, said *transcript, config virtual.Config) *desk {
	t.Helper()
	soft, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	usb := soft.PlugIn(virtual.USBConfig{})
	conn, err := usb.Open()
	if err != nil {
		t.Fatal(err)
	}
	device, err := hid.New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(sitePIN), nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		key.Close()
		usb.Unplug()
		soft.Close()
	})
	d := &desk{t: t, key: key, said: said, root: soft.AttestationRoot().Raw}
	d.client = webauthn.Client{Origin: siteOrigin, Authenticators: []*ctap2.Authenticator{key}, ChooseAccount: d.chooseAccount}
	d.site = site(t, key.Info().AAGUID, soft.AttestationRoot())
	return d
}

// site is a relying party that knows one model of key, and the root of its
// attestation.
func site(t *testing.T, aaguid ctap2.AAGUID, root *x509.Certificate) *server.WebAuthn {
	mds, err := memory.New(memory.WithValidateEntryPermitZeroAAGUID(true), memory.WithMetadata(map[uuid.UUID]*metadata.Entry{
		uuid.UUID(aaguid): {MetadataStatement: metadata.Statement{
			AttestationTypes:            metadata.AuthenticatorAttestationTypes{metadata.BasicFull},
			AttestationRootCertificates: []*x509.Certificate{root},
		}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	rp, err := server.New(&server.Config{RPID: siteRPID, RPDisplayName: "Example", RPOrigins: []string{siteOrigin}, MDS: mds})
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

func (d *desk) chooseAccount(_ context.Context, accounts []webauthn.Account) (int, error) {
	i := slices.IndexFunc(accounts, func(u webauthn.Account) bool { return bytes.Equal(u.ID, d.choose.WebAuthnID()) })
	if i < 0 {
		return 0, errors.New("the account is not on offer")
	}
	return i, nil
}

// A ceremony is what a site remembers of the options that it sent, and the
// response that came back.
type ceremony struct {
	user    *account // nil: the key says who it is
	session *server.SessionData
	refused string // what python-fido2 says; empty if it is to accept the response

	RPID             string             `json:"rpID"`
	AppID            string             `json:"appID"`
	Challenge        string             `json:"challenge"`
	UserVerification string             `json:"userVerification"`
	Attestation      string             `json:"attestation"`
	Root             webauthn.Base64URL `json:"root"`
	U2FKey           webauthn.Base64URL `json:"u2fKey"` // of a credential that is not from a registration here
	Response         json.RawMessage    `json:"response"`
}

func (d *desk) ceremony(user *account, session *server.SessionData) *ceremony {
	verification := session.UserVerification
	if verification == "" {
		verification = protocol.VerificationPreferred
	}
	return &ceremony{
		user: user, session: session, RPID: session.RelyingPartyID, AppID: session.Extensions.AppID,
		Challenge: session.Challenge, UserVerification: string(verification), Root: d.root,
	}
}

// register has the site make options and the key a credential. The error is the
// client's.
func (d *desk) register(user *account, wishes ...server.RegistrationOption) (*ceremony, error) {
	d.t.Helper()
	options, session, err := d.site.BeginRegistration(user, wishes...)
	if err != nil {
		d.t.Fatal(err)
	}
	parsed, err := webauthn.ParseCreationOptions(marshal(d.t, options))
	if err != nil {
		d.t.Fatal(err)
	}
	response, err := d.client.Create(d.t.Context(), parsed)
	if err != nil {
		return nil, err
	}
	c := d.ceremony(user, session)
	c.Attestation = string(options.Response.Attestation)
	// As browsers do, which do not keep the secrets to themselves.
	if c.Response, err = response.JSONWithSecrets(); err != nil {
		d.t.Fatal(err)
	}
	return c, nil
}

// signIn has the site make options, for one user or for anybody, and the key
// sign.
func (d *desk) signIn(user *account, wishes ...server.LoginOption) (*ceremony, error) {
	d.t.Helper()
	options, session, err := d.site.BeginDiscoverableLogin(wishes...)
	if user != nil {
		options, session, err = d.site.BeginLogin(user, wishes...)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	parsed, err := webauthn.ParseRequestOptions(marshal(d.t, options))
	if err != nil {
		d.t.Fatal(err)
	}
	response, err := d.client.Get(d.t.Context(), parsed)
	if err != nil {
		return nil, err
	}
	c := d.ceremony(user, session)
	if c.Response, err = response.JSONWithSecrets(); err != nil {
		d.t.Fatal(err)
	}
	return c, nil
}

// finishRegistration is the site's verdict on a response.
func (d *desk) finishRegistration(c *ceremony) (*server.Credential, *protocol.ParsedCredentialCreationData, error) {
	response, err := protocol.ParseCredentialCreationResponseBytes(c.Response)
	if err != nil {
		return nil, nil, err
	}
	credential, err := d.site.CreateCredential(c.user, *c.session, response)
	return credential, response, err
}

func (d *desk) finishSignIn(c *ceremony) (*account, *server.Credential, *protocol.ParsedCredentialAssertionData, error) {
	response, err := protocol.ParseCredentialRequestResponseBytes(c.Response)
	if err != nil {
		return nil, nil, nil, err
	}
	if c.user != nil {
		credential, err := d.site.ValidateLogin(c.user, *c.session, response)
		return c.user, credential, response, err
	}
	user, credential, err := d.site.ValidatePasskeyLogin(func(_, handle []byte) (server.User, error) {
		i := slices.IndexFunc(d.accounts, func(a *account) bool { return bytes.Equal(a.WebAuthnID(), handle) })
		if i < 0 {
			return nil, errors.New("nobody's user handle")
		}
		return d.accounts[i], nil
	}, *c.session, response)
	if err != nil {
		return nil, nil, nil, err
	}
	return user.(*account), credential, response, nil
}

// acceptRegistration is for responses that a site must accept.
func (d *desk) acceptRegistration(c *ceremony) (*server.Credential, *protocol.ParsedCredentialCreationData) {
	d.t.Helper()
	credential, response, err := d.finishRegistration(c)
	if err != nil {
		d.t.Fatalf("go-webauthn: %s\n%s", inFull(err), c.Response)
	}
	c.user.credentials = append(c.user.credentials, *credential)
	d.said.add(c)
	return credential, response
}

func (d *desk) acceptSignIn(c *ceremony) (*account, *protocol.ParsedCredentialAssertionData) {
	d.t.Helper()
	user, credential, response, err := d.finishSignIn(c)
	if err != nil {
		d.t.Fatalf("go-webauthn: %s\n%s", inFull(err), c.Response)
	}
	if credential.Authenticator.CloneWarning {
		d.t.Error("the signature counter tells of a clone")
	}
	i := slices.IndexFunc(user.credentials, func(c server.Credential) bool { return bytes.Equal(c.ID, credential.ID) })
	user.credentials[i] = *credential
	d.said.add(c)
	return user, response
}

func (d *desk) mustRegister(user *account, wishes ...server.RegistrationOption) (*server.Credential, *protocol.AuthenticationExtensionsClientOutputs) {
	d.t.Helper()
	r, err := d.register(user, wishes...)
	if err != nil {
		d.t.Fatal(err)
	}
	credential, response := d.acceptRegistration(r)
	return credential, &response.ClientExtensionResults
}

// inFull is what go-webauthn has to say of an error.
func inFull(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Sprintf("%s (%s)", e.Details, e.DevInfo)
	}
	return err.Error()
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A transcript is what the sites were told, in order.
type transcript struct {
	mu         sync.Mutex
	ceremonies []*ceremony
}

func (s *transcript) add(c *ceremony) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ceremonies = append(s.ceremonies, c)
}

// toPythonFIDO2 has python-fido2 judge all responses.
func (s *transcript) toPythonFIDO2(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's own, as in TestPythonFIDO2
	const probe = `import fido2; assert fido2.__version__.startswith("0.9."), fido2.__version__`
	if _, err := exec.Command(python, "-c", probe).Output(); err != nil {
		missing(t, "python3-fido2", err)
	}
	var in, stderr bytes.Buffer
	for _, c := range s.ceremonies {
		in.Write(append(marshal(t, c), '\n'))
	}
	cmd := exec.CommandContext(t.Context(), python, "-B", "testdata/python_server.py")
	cmd.Stdin, cmd.Stderr = &in, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	verdicts := json.NewDecoder(bytes.NewReader(out))
	for _, c := range s.ceremonies {
		var said string
		if err := verdicts.Decode(&said); err != nil {
			t.Fatal(err)
		}
		switch {
		case c.refused == "" && said != "":
			t.Errorf("python-fido2: %s\n%s", said, marshal(t, c))
		case c.refused != "" && !strings.Contains(said, c.refused):
			t.Errorf("python-fido2: %q, want %q\n%s", said, c.refused, marshal(t, c))
		}
	}
	t.Logf("python-fido2 saw %d responses", len(s.ceremonies))
}
