package ctap2

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A MakeCredentialRequest registers a credential. Zero values mean "absent".
type MakeCredentialRequest struct {
	ClientDataHash []byte // SHA-256 of the client data, 32 bytes; required
	RP             RelyingParty
	User           User
	Algorithms     []cose.Algorithm       // at least one, the preferred first
	ExcludeList    []CredentialDescriptor // credentials that must not be on this key; any number
	Extensions     []Extension

	// ResidentKey asks for a discoverable credential, which the key keeps and
	// finds by RP ID alone.
	ResidentKey      bool
	UserVerification UserVerification
	// Token is a token that the caller holds, with permission mc for RP.ID (and
	// ga, for an ExcludeList that does not fit into one message). Without it,
	// verification is obtained as UserVerification says.
	Token *Token

	// EnterpriseAttestation asks for an attestation that identifies the key:
	// 1 vendor-facilitated, 2 platform-managed (§7.1). It is ErrUnsupported if the
	// key has no option ep; where that is false, the key answers
	// ErrInvalidParameter until EnableEnterpriseAttestation.
	EnterpriseAttestation uint
	// AttestationFormats lists the formats preferred, best first (CTAP 2.2).
	AttestationFormats []string
}

// A Credential is what a registration returns.
type Credential struct {
	ID        []byte
	PublicKey *cose.Key
	AuthData  *AuthenticatorData

	// Format and AttestationStatement, a CBOR map, say who vouches for the
	// credential: package attestation reads them.
	Format               string
	AttestationStatement []byte

	Extensions            Outputs // read with Output
	EnterpriseAttestation bool
	LargeBlobKey          pin.Secret // 32 bytes, or empty
	// UnsignedExtensions holds extension outputs outside the authenticator
	// data by identifier, each encoded in CBOR (CTAP 2.2).
	UnsignedExtensions map[string][]byte
}

// Descriptor returns the credential's name for allow and exclude lists.
func (c *Credential) Descriptor() CredentialDescriptor { return CredentialDescriptor{ID: c.ID} }

// AttestationObject returns the attestation object that a WebAuthn relying
// party expects (WebAuthn §6.5.4), CBOR. It refuses a credential without
// AuthData with ErrInvalidRequest.
func (c *Credential) AttestationObject() ([]byte, error) {
	if c.AuthData == nil {
		return nil, invalid("no AuthData")
	}
	return cbor.Marshal(struct {
		Format    string          `cbor:"fmt"`
		Statement cbor.RawMessage `cbor:"attStmt"`
		AuthData  []byte          `cbor:"authData"`
	}{c.Format, c.AttestationStatement, c.AuthData.Raw})
}

// makeCredentialParameters is the request of authenticatorMakeCredential
// (§6.1).
type makeCredentialParameters struct {
	ClientDataHash        []byte                 `cbor:"1,keyasint"`
	RP                    entity                 `cbor:"2,keyasint"`
	User                  userEntity             `cbor:"3,keyasint"`
	Parameters            []credentialParameters `cbor:"4,keyasint"`
	ExcludeList           []descriptor           `cbor:"5,keyasint,omitempty"`
	Extensions            map[string]any         `cbor:"6,keyasint,omitempty"`
	Options               map[string]bool        `cbor:"7,keyasint,omitempty"`
	PINUVAuthParam        *[]byte                `cbor:"8,keyasint,omitempty"` // an empty one has a meaning
	PINUVAuthProtocol     pin.Protocol           `cbor:"9,keyasint,omitempty"`
	EnterpriseAttestation uint                   `cbor:"10,keyasint,omitempty"`
	AttestationFormats    []string               `cbor:"11,keyasint,omitempty"`
}

func (p *makeCredentialParameters) encode() ([]byte, error) { return encode(ctap.CmdMakeCredential, p) }

func (r *MakeCredentialRequest) check() error {
	switch {
	case r == nil:
		return invalid("no MakeCredentialRequest")
	case len(r.ClientDataHash) != ctap.ClientDataHashLength:
		return invalid("ClientDataHash of %d bytes", len(r.ClientDataHash))
	case r.RP.ID == "":
		return invalid("no RP.ID")
	case len(r.User.ID) == 0 || len(r.User.ID) > ctap.MaxUserIDLength:
		return invalid("User.ID of %d bytes", len(r.User.ID))
	case len(r.Algorithms) == 0:
		return invalid("no Algorithms")
	case r.UserVerification > Discouraged:
		return invalid("UserVerification %d", r.UserVerification)
	}
	return checkList("ExcludeList", r.ExcludeList)
}

// MakeCredential registers a credential (§6.1). It waits for a touch, and
// obtains what verification the request and the key ask for.
//
// A credential of the ExcludeList that is on the key makes it fail with
// ErrCredentialExcluded, after a touch. A request that cannot be sent is an
// ErrInvalidRequest. When ctx ends while the key waits, the key is told to
// cancel and the error wraps context.Cause(ctx); if the key had made the
// credential by then, it is returned.
//
// A key that nobody touches gives up by itself, most after 30 seconds. The error
// then wraps ErrOperationDenied, as CTAP 2.1 and later have it, which also says
// that somebody declined; or ErrUserActionTimeout, from keys of CTAP 2.0, from
// some others, and where the key speaks U2F alone. A program looks for both.
func (a *Authenticator) MakeCredential(ctx context.Context, r *MakeCredentialRequest) (*Credential, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	c.rpID = r.RP.ID
	if a.u2f {
		return c.registerU2F(r)
	}
	if r.EnterpriseAttestation != 0 && !c.info.optionKnown(OptionEnterpriseAttestation) {
		return nil, fmt.Errorf("ctap2: enterprise attestation: %w", ErrUnsupported)
	}
	c.discoverable = r.ResidentKey

	p := &makeCredentialParameters{
		ClientDataHash:        r.ClientDataHash,
		RP:                    entity(r.RP),
		User:                  userEntity(r.User),
		Parameters:            make([]credentialParameters, len(r.Algorithms)),
		EnterpriseAttestation: r.EnterpriseAttestation,
		AttestationFormats:    r.AttestationFormats,
	}
	for i, alg := range r.Algorithms {
		p.Parameters[i] = credentialParameters{alg, publicKeyType}
	}
	exclude := c.usable(r.ExcludeList)
	permissions := PermissionMakeCredential
	if len(exclude) > 0 { // it may have to be searched, which takes permission ga
		permissions |= PermissionGetAssertion
	}
	n := &need{wish: r.UserVerification, must: (*Info).verifiesToMake, held: r.Token, permissions: permissions}
	if r.ResidentKey {
		n.must = (*Info).verifiesToMakeDiscoverable
	}
	v, err := c.decide(n)
	if err != nil {
		return nil, err
	}
	defer func() { v.wipe() }()

	var credential *Credential
	err = c.perform(&v, n, func(v verification) error {
		credential, err = c.makeCredential(p, r, exclude, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return credential, nil
}

func (c *ceremony) makeCredential(p *makeCredentialParameters, r *MakeCredentialRequest, exclude []descriptor, v verification) (*Credential, error) {
	var err error
	if p.Extensions, err = c.extensionInputs(ctap.CmdMakeCredential, r.Extensions); err != nil {
		return nil, err
	}
	// "up" stays out: keys of CTAP 2.0 may refuse it.
	p.Options, p.PINUVAuthParam, p.PINUVAuthProtocol = nil, nil, 0
	if r.ResidentKey {
		p.Options = map[string]bool{OptionResidentKey: true}
	}
	touch := TouchPresence
	switch {
	case v.token != nil:
		param := v.token.Authenticate(p.ClientDataHash)
		p.PINUVAuthParam, p.PINUVAuthProtocol = &param, v.token.protocol
	case v.uv:
		touch = TouchVerification
		if p.Options == nil {
			p.Options = make(map[string]bool, 1)
		}
		p.Options[OptionUserVerification] = true
	}
	message, err := c.encodeListed(p.encode, &p.ExcludeList, exclude, v)
	if err != nil {
		return nil, err
	}
	if r.ResidentKey {
		c.a.moved.Store(true)
	}
	body, err := c.exchange(message, 0, touch)
	if r.EnterpriseAttestation != 0 && !c.info.optionOn(OptionEnterpriseAttestation) {
		err = meaning(err, ErrInvalidParameter, "enterprise attestation is off: EnableEnterpriseAttestation comes first")
	}
	if err != nil {
		return nil, err
	}
	credential, err := parseCredential(body, c.a.rules)
	if err == nil {
		err = credential.AuthData.answers(sha256.Sum256([]byte(p.RP.ID)), r.UserVerification)
	}
	if err != nil {
		clear(body) // there may be a largeBlobKey in it
		return nil, malformed(ctap.CmdMakeCredential, err)
	}
	credential.Extensions = c.extensionOutputs(ctap.CmdMakeCredential, r.Extensions,
		credential.AuthData.Extensions, credential.UnsignedExtensions)
	return credential, nil
}

func parseCredential(body []byte, rules cbor.Rules) (*Credential, error) {
	c := new(Credential)
	var authData []byte
	var format bool
	d := cbor.NewCursor(body, rules)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			c.Format, format = d.Text(), true
		case 0x02:
			authData = d.Bytes()
		case 0x03:
			if !d.IsMap() {
				return nil, fmt.Errorf("%w: attStmt is not a map", ErrMalformed)
			}
			c.AttestationStatement = d.Raw()
		case 0x04:
			c.EnterpriseAttestation = d.Bool()
		case 0x05:
			c.LargeBlobKey = pin.NewSecret(d.BytesLen(32))
		case 0x06:
			c.UnsignedExtensions = readOutputs(d)
		}
	}
	switch {
	case d.Err() != nil:
		return nil, d.Err()
	case !format:
		return nil, noMember("fmt")
	case authData == nil:
		return nil, noMember("authData")
	case c.AttestationStatement == nil:
		return nil, noMember("attStmt")
	}
	c.AuthData = new(AuthenticatorData)
	if err := c.AuthData.parse(authData, rules); err != nil {
		return nil, err
	}
	if c.AuthData.PublicKey == nil {
		return nil, noMember("attested credential data")
	}
	c.ID, c.PublicKey = c.AuthData.CredentialID, c.AuthData.PublicKey
	return c, nil
}
