package ctap2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A GetAssertionRequest signs in. Zero values mean "absent".
type GetAssertionRequest struct {
	RPID           string
	ClientDataHash []byte // SHA-256 of the client data, 32 bytes; required
	// AllowList names the credentials that may sign; any number. Without it the
	// key looks for discoverable ones.
	AllowList  []CredentialDescriptor
	Extensions []Extension

	UserVerification UserVerification
	// Token is a token that the caller holds, with permission ga for RPID.
	// Without it, verification is obtained as UserVerification says.
	Token *Token
	// Silent asks for an assertion without a touch (option up: false), whose
	// flag UP is not set, and without user verification unless there is a Token
	// or it is Required. Relying parties do not accept it; it tells whether a
	// credential is on the key.
	Silent bool
}

// An Assertion is a signature by one credential.
type Assertion struct {
	Credential CredentialDescriptor
	AuthData   *AuthenticatorData
	Signature  []byte
	// User is the account: empty if the key did not say, and without names
	// unless the user was verified.
	User User
	// UserSelected reports that the user chose this account on the key's own
	// display: it is the only one returned.
	UserSelected bool

	Extensions   Outputs    // read with Output
	LargeBlobKey pin.Secret // 32 bytes, or empty
	// UnsignedExtensions holds extension outputs outside the authenticator
	// data by identifier, each encoded in CBOR (CTAP 2.2).
	UnsignedExtensions map[string][]byte
}

// Verify checks the signature over the authenticator data and clientDataHash
// with the credential's public key (WebAuthn §7.2, step 21). It returns nil, an
// error of package cose, or ErrInvalidRequest if there is no AuthData or no key.
// Whether the flags and the RP ID hash are those a relying party wants is the
// caller's to check.
func (a *Assertion) Verify(key *cose.Key, clientDataHash []byte) error {
	switch {
	case a.AuthData == nil:
		return invalid("no AuthData")
	case key == nil:
		return invalid("no key")
	}
	signed := make([]byte, 0, len(a.AuthData.Raw)+len(clientDataHash))
	signed = append(append(signed, a.AuthData.Raw...), clientDataHash...)
	return key.Verify(signed, a.Signature)
}

// getAssertionParameters is the request of authenticatorGetAssertion (§6.2).
type getAssertionParameters struct {
	RPID              string          `cbor:"1,keyasint"`
	ClientDataHash    []byte          `cbor:"2,keyasint"`
	AllowList         []descriptor    `cbor:"3,keyasint,omitempty"`
	Extensions        map[string]any  `cbor:"4,keyasint,omitempty"`
	Options           map[string]bool `cbor:"5,keyasint,omitempty"`
	PINUVAuthParam    []byte          `cbor:"6,keyasint,omitempty"`
	PINUVAuthProtocol pin.Protocol    `cbor:"7,keyasint,omitempty"`
}

// encode returns the message with the parameters as cbor.Marshal encodes them, for a
// quarter of the time: nothing else is sent so often, and nothing but options and
// extensions needs reflection.
func (p *getAssertionParameters) encode() ([]byte, error) {
	members := 2
	for _, there := range []bool{
		len(p.AllowList) > 0, len(p.Extensions) > 0, len(p.Options) > 0, len(p.PINUVAuthParam) > 0, p.PINUVAuthProtocol != 0,
	} {
		if there {
			members++
		}
	}
	size := searchOverhead + len(p.RPID) + listOverhead // of all but extensions
	for _, d := range p.AllowList {
		size += d.encodedSize()
	}
	b := append(make([]byte, 0, size), ctap.CmdGetAssertion)
	b = cbor.AppendMap(b, members)
	b = cbor.AppendText(cbor.AppendUint(b, 0x01), p.RPID)
	b = cbor.AppendBytes(cbor.AppendUint(b, 0x02), p.ClientDataHash)
	if n := len(p.AllowList); n > 0 {
		b = cbor.AppendArray(cbor.AppendUint(b, 0x03), n)
		for _, d := range p.AllowList {
			b = cbor.AppendMap(b, 2)
			b = cbor.AppendBytes(cbor.AppendText(b, "id"), d.ID)
			b = cbor.AppendText(cbor.AppendText(b, "type"), d.Type)
		}
	}
	if len(p.Extensions) > 0 {
		encoded, err := cbor.Marshal(p.Extensions)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
		}
		b = append(cbor.AppendUint(b, 0x04), encoded...)
	}
	if len(p.Options) > 0 {
		encoded, err := cbor.Marshal(p.Options)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
		}
		b = append(cbor.AppendUint(b, 0x05), encoded...)
	}
	if len(p.PINUVAuthParam) > 0 {
		b = cbor.AppendBytes(cbor.AppendUint(b, 0x06), p.PINUVAuthParam)
	}
	if p.PINUVAuthProtocol != 0 {
		b = cbor.AppendUint(cbor.AppendUint(b, 0x07), uint64(p.PINUVAuthProtocol))
	}
	return b, nil
}

// maxAssertions bounds what numberOfCredentials can promise: no key holds as
// many credentials for one relying party.
const maxAssertions = 4096

func (r *GetAssertionRequest) check() error {
	switch {
	case r == nil:
		return invalid("no GetAssertionRequest")
	case r.RPID == "":
		return invalid("no RPID")
	case len(r.ClientDataHash) != ctap.ClientDataHashLength:
		return invalid("ClientDataHash of %d bytes", len(r.ClientDataHash))
	case r.UserVerification > Discouraged:
		return invalid("UserVerification %d", r.UserVerification)
	}
	return checkList("AllowList", r.AllowList)
}

// GetAssertion signs in (§6.2): it waits for a touch, obtains what
// verification the request and the key ask for, and returns one assertion for
// each account that matches, the key's most recent first; never none without
// an error.
//
// An AllowList too long for one message is searched silently, so that one
// touch suffices. Where the key holds no credential the error wraps
// ErrNoCredentials, after a touch, so that nobody can probe for credentials
// unseen. When ctx ends while the key waits, the key is told to cancel and the
// error wraps context.Cause(ctx), also if the first of several accounts had
// signed by then. If another program comes between one account and the next
// (§6.3), the error wraps ErrInterrupted.
//
// A key that nobody touches gives up by itself, and the error wraps
// ErrOperationDenied or ErrUserActionTimeout, as for MakeCredential.
func (a *Authenticator) GetAssertion(ctx context.Context, r *GetAssertionRequest) ([]*Assertion, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	c.rpID = r.RPID
	if a.u2f {
		return c.signInU2F(r)
	}
	return c.signIn(r)
}

// signIn is GetAssertion on a key that speaks CTAP2, as a part of a ceremony.
func (c *ceremony) signIn(r *GetAssertionRequest) ([]*Assertion, error) {
	p := &getAssertionParameters{RPID: r.RPID, ClientDataHash: r.ClientDataHash}
	allow := c.usable(r.AllowList)
	if len(r.AllowList) > 0 && len(allow) == 0 { // this key made none of them
		return nil, c.noCredentials(r.Silent)
	}
	n := &need{wish: r.UserVerification, must: (*Info).alwaysVerifies, held: r.Token, permissions: PermissionGetAssertion}
	// A silent request asks nothing of anybody, unless told to.
	unasked := r.Silent && r.UserVerification != Required
	if unasked {
		n.wish, n.must = Discouraged, func(*Info) bool { return false }
	}
	v, err := c.decide(n)
	if err != nil {
		return nil, err
	}
	defer func() { v.wipe() }()

	var assertions []*Assertion
	run := func(v verification) error {
		assertions, err = c.getAssertions(p, r, allow, v)
		return err
	}
	switch {
	case !unasked:
		err = c.perform(&v, n, run)
	case v.held:
		err = v.token.refused(run(v))
	default:
		err = run(v)
	}
	switch {
	case err == nil:
		return assertions, nil
	case errors.Is(err, ErrNoCredentials) || len(allow) == 1 && errors.Is(err, ErrInvalidCredential):
		return nil, c.noCredentials(r.Silent)
	}
	return nil, err
}

// noCredentials returns ErrNoCredentials, after a touch, unless there was one
// or none was wanted.
func (c *ceremony) noCredentials(silent bool) error {
	if !silent && !c.touched {
		if err := c.waitForTouch(TouchPresence); err != nil {
			return err
		}
	}
	return &Error{Command: ctap.CmdGetAssertion, Status: ErrNoCredentials}
}

func (c *ceremony) sendGetAssertion(p *getAssertionParameters, touch Touch) ([]byte, error) {
	message, err := p.encode()
	if err != nil {
		return nil, err
	}
	return c.exchange(message, 0, touch)
}

// getAssertions sends getAssertion and as many getNextAssertion as there are
// further accounts.
func (c *ceremony) getAssertions(p *getAssertionParameters, r *GetAssertionRequest, allow []descriptor, v verification) ([]*Assertion, error) {
	var err error
	if p.Extensions, err = c.extensionInputs(ctap.CmdGetAssertion, r.Extensions); err != nil {
		return nil, err
	}
	p.Options, p.PINUVAuthParam, p.PINUVAuthProtocol = nil, nil, 0
	if r.Silent {
		p.Options = map[string]bool{OptionUserPresence: false}
	}
	touch := TouchPresence
	switch {
	case v.token != nil:
		p.PINUVAuthParam, p.PINUVAuthProtocol = v.token.Authenticate(p.ClientDataHash), v.token.protocol
	case v.uv:
		touch = TouchVerification
		if p.Options == nil {
			p.Options = make(map[string]bool, 1)
		}
		p.Options[OptionUserVerification] = true
	}
	message, err := c.encodeListed(p.encode, &p.AllowList, allow, v)
	if err != nil {
		return nil, err
	}
	if len(allow) > 0 && len(p.AllowList) == 0 { // all were searched
		return nil, &Error{Command: ctap.CmdGetAssertion, Status: ErrNoCredentials}
	}
	body, err := c.exchange(message, 0, touch)
	if len(p.AllowList) > 1 && errors.Is(err, ErrInvalidCredential) { // one of them is, whatever the others are
		found, failed := c.search(slices.Collect(slices.Chunk(p.AllowList, 1)), v)
		if failed != nil {
			return nil, failed
		}
		p.AllowList = []descriptor{found}
		body, err = c.sendGetAssertion(p, touch)
	}
	if err != nil {
		return nil, err
	}
	rpIDHash := sha256.Sum256([]byte(p.RPID))
	first, total, err := c.parseAssertion(body, p.AllowList, rpIDHash)
	if err != nil {
		clear(body) // there may be a largeBlobKey in it
		return nil, malformed(ctap.CmdGetAssertion, err)
	}
	assertions := []*Assertion{first}
	fail := func(err error) ([]*Assertion, error) {
		wipeLargeBlobKeys(assertions)
		return nil, err
	}
	for uint64(len(assertions)) < total {
		body, err := c.send(ctap.CmdGetNextAssertion, 0, nil, touch)
		if errors.Is(err, ErrNotAllowed) {
			err = fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
		if err != nil {
			return fail(err)
		}
		next, _, err := c.parseAssertion(body, p.AllowList, rpIDHash)
		if err != nil {
			clear(body)
			return fail(malformed(ctap.CmdGetNextAssertion, err))
		}
		assertions = append(assertions, next)
	}
	for _, a := range assertions { // all of them, before a secret is decrypted
		if err := a.AuthData.answers(rpIDHash, r.UserVerification); err != nil {
			return fail(malformed(ctap.CmdGetAssertion, err))
		}
	}
	for _, a := range assertions {
		a.Extensions = c.extensionOutputs(ctap.CmdGetAssertion, r.Extensions, a.AuthData.Extensions, a.UnsignedExtensions)
	}
	return assertions, nil
}

// parseAssertion reads a reply; total is numberOfCredentials. allowed is what
// the credential may be if the reply does not say: a key may leave it out when
// one was allowed.
func (c *ceremony) parseAssertion(body []byte, allowed []descriptor, rpIDHash [32]byte) (a *Assertion, total uint64, err error) {
	var parsed struct { // in one allocation
		Assertion
		authData AuthenticatorData
	}
	a = &parsed.Assertion
	var authData []byte
	d := cbor.NewCursor(body, c.a.rules)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			a.Credential, err = readDescriptor(d)
		case 0x02:
			authData = d.Bytes()
		case 0x03:
			a.Signature = d.Bytes()
		case 0x04:
			a.User, err = readUser(d)
		case 0x05:
			total = d.UintMax(maxAssertions)
		case 0x06:
			a.UserSelected = d.Bool()
		case 0x07:
			a.LargeBlobKey = pin.NewSecret(d.BytesLen(32))
		case 0x08:
			a.UnsignedExtensions = readOutputs(d)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	switch {
	case d.Err() != nil:
		return nil, 0, d.Err()
	case authData == nil:
		return nil, 0, noMember("authData")
	case len(a.Signature) == 0:
		return nil, 0, noMember("signature")
	case a.Credential.ID == nil && len(allowed) == 1:
		a.Credential = CredentialDescriptor{ID: allowed[0].ID, Type: publicKeyType}
	case a.Credential.ID == nil:
		return nil, 0, noMember("credential")
	case len(allowed) > 0 && !slices.ContainsFunc(allowed, func(d descriptor) bool { return bytes.Equal(d.ID, a.Credential.ID) }):
		return nil, 0, fmt.Errorf("%w: a credential that was not allowed", ErrMalformed)
	}
	a.AuthData = &parsed.authData
	if err := a.AuthData.parse(authData, c.a.rules); err != nil {
		return nil, 0, err
	}
	return a, total, a.AuthData.answers(rpIDHash, Preferred)
}
