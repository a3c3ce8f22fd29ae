package webauthn

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// Values of options. In JSON one that is none of them counts as absent, as the
// specification has it: servers may know more than this package does. Create and
// Get refuse it with ErrType: a program that says "Required" means something.
const (
	Required    = "required"    // ResidentKey, UserVerification, LargeBlobInputs.Support
	Preferred   = "preferred"   // the same
	Discouraged = "discouraged" // ResidentKey, UserVerification

	CrossPlatform = "cross-platform" // AuthenticatorAttachment
	Platform      = "platform"

	AttestationNone       = "none"
	AttestationIndirect   = "indirect"
	AttestationDirect     = "direct"
	AttestationEnterprise = "enterprise"
)

const publicKeyType = "public-key"

// emptyType stands for an empty type in JSON, which keys do not know: in Go, an
// empty one is a public key.
const emptyType = "(empty)"

// Values that options of a kind can have.
var (
	requirements = []string{Required, Preferred, Discouraged}
	attachments  = []string{CrossPlatform, Platform}
	conveyances  = []string{AttestationNone, AttestationIndirect, AttestationDirect, AttestationEnterprise}
	supports     = []string{Required, Preferred}
)

// CreationOptions are what a relying party wants of a registration (WebAuthn
// §5.4, PublicKeyCredentialCreationOptions). Zero values mean "absent".
type CreationOptions struct {
	RP        RelyingParty `json:"rp"`
	User      User         `json:"user"`
	Challenge Base64URL    `json:"challenge"` // of any length but 0
	// PubKeyCredParams lists algorithms, the preferred one first. None are
	// ES256 and RS256.
	PubKeyCredParams       []CredentialParameters `json:"pubKeyCredParams,omitempty"`
	Timeout                uint32                 `json:"timeout,omitempty"` // in milliseconds
	ExcludeCredentials     []CredentialDescriptor `json:"excludeCredentials,omitempty"`
	AuthenticatorSelection AuthenticatorSelection `json:"authenticatorSelection,omitzero"`
	Hints                  []string               `json:"hints,omitempty"` // all keys are security keys: without effect
	Attestation            string                 `json:"attestation,omitempty"`
	AttestationFormats     []string               `json:"attestationFormats,omitempty"` // best first
	Extensions             ExtensionInputs        `json:"extensions,omitzero"`
}

// RequestOptions are what a relying party wants of a sign-in (WebAuthn §5.5,
// PublicKeyCredentialRequestOptions). Zero values mean "absent".
type RequestOptions struct {
	Challenge        Base64URL              `json:"challenge"`         // of any length but 0
	Timeout          uint32                 `json:"timeout,omitempty"` // in milliseconds
	RPID             string                 `json:"rpId,omitempty"`    // empty: the origin's host
	AllowCredentials []CredentialDescriptor `json:"allowCredentials,omitempty"`
	UserVerification string                 `json:"userVerification,omitempty"`
	Hints            []string               `json:"hints,omitempty"` // without effect
	Extensions       ExtensionInputs        `json:"extensions,omitzero"`
}

// A RelyingParty is the site that a credential is for (WebAuthn §5.4.2).
type RelyingParty struct {
	ID   string `json:"id,omitempty"` // empty: the origin's host
	Name string `json:"name"`
}

// A User is the account that a credential is for (WebAuthn §5.4.3).
type User struct {
	ID          Base64URL `json:"id"` // 1 to 64 bytes
	Name        string    `json:"name"`
	DisplayName string    `json:"displayName"`
}

// CredentialParameters name an algorithm (WebAuthn §5.3). Type is "public-key",
// which an empty string means, but not in JSON, where it is another type. Those of
// another type are left out in reading JSON, unless there are none but such; Create
// refuses them with ErrNotSupported.
type CredentialParameters struct {
	Type      string         `json:"type"`
	Algorithm cose.Algorithm `json:"alg"`
}

// A CredentialDescriptor names a credential (WebAuthn §5.8.3). Type is
// "public-key", which an empty string means, but not in JSON, where it is another
// type. Those of another type are left out in reading JSON, but for
// AllowCredentials that has none but such, which is not the same as an empty one.
// Get refuses them with ErrNotAllowed, Create with ErrType. Transports are ignored:
// each key is asked.
type CredentialDescriptor struct {
	Type       string    `json:"type"`
	ID         Base64URL `json:"id"`
	Transports []string  `json:"transports,omitempty"`
}

// MarshalJSON writes an empty Type as what it means.
func (p CredentialParameters) MarshalJSON() ([]byte, error) {
	type members CredentialParameters
	p.Type = cmp.Or(p.Type, publicKeyType)
	return json.Marshal(members(p))
}

// MarshalJSON writes an empty Type as what it means.
func (d CredentialDescriptor) MarshalJSON() ([]byte, error) {
	type members CredentialDescriptor
	d.Type = cmp.Or(d.Type, publicKeyType)
	return json.Marshal(members(d))
}

// AuthenticatorSelection says which keys are suitable (WebAuthn §5.4.4).
type AuthenticatorSelection struct {
	AuthenticatorAttachment string `json:"authenticatorAttachment,omitempty"`
	// ResidentKey says whether the credential shall be discoverable. Without it,
	// RequireResidentKey says whether it must be.
	ResidentKey        string `json:"residentKey,omitempty"`
	RequireResidentKey bool   `json:"requireResidentKey,omitempty"`
	UserVerification   string `json:"userVerification,omitempty"`
}

// ExtensionInputs are the client extension inputs of both ceremonies (WebAuthn
// §5.7.1). Those that belong to the other ceremony are ignored, but for members
// of PRF and LargeBlob, which are refused with ErrNotSupported; what this package
// does not know is ignored in JSON.
type ExtensionInputs struct {
	// CredProps asks whether the new credential is discoverable (WebAuthn
	// §10.1.3).
	CredProps bool `json:"credProps,omitempty"`
	// CredentialProtectionPolicy says when the new credential may be used (CTAP
	// §12.1), by the name of a [ctap2.CredProtectPolicy]; Create refuses another
	// with ErrNotSupported, and in JSON it is ignored unless it is enforced. If it
	// is enforced, a key that has no such policies is not suitable, unless the
	// policy is "userVerificationOptional".
	CredentialProtectionPolicy        string `json:"credentialProtectionPolicy,omitempty"`
	EnforceCredentialProtectionPolicy bool   `json:"enforceCredentialProtectionPolicy,omitempty"`

	PRF       *PRFInputs       `json:"prf,omitempty"`
	LargeBlob *LargeBlobInputs `json:"largeBlob,omitempty"`

	// CredBlob is stored with the new credential, GetCredBlob asks for it in a
	// sign-in (CTAP §12.2).
	CredBlob    Base64URL `json:"credBlob,omitzero"`
	GetCredBlob bool      `json:"getCredBlob,omitempty"`
	// MinPINLength asks the key to say in the authenticator data how long its
	// PINs have to be (CTAP §12.5).
	MinPINLength bool `json:"minPinLength,omitempty"`
	// PINComplexityPolicy asks it to say there whether they have to be more than
	// long (CTAP §12.6).
	PINComplexityPolicy bool `json:"pinComplexityPolicy,omitempty"`
	// HMACCreateSecret asks for a credential that can yield secrets, HMACGetSecret
	// for one or two of them (CTAP §12.7). Sites use PRF: HMACGetSecret is the
	// program's own, and not taken from JSON.
	HMACCreateSecret bool             `json:"hmacCreateSecret,omitempty"`
	HMACGetSecret    *HMACSecretSalts `json:"-"`

	// AppID is the FIDO AppID of credentials that were made with the U2F API,
	// whose key handles AllowCredentials has (WebAuthn §10.1.1); AppIDExclude is
	// the same for ExcludeCredentials (WebAuthn §10.1.2).
	AppID        string `json:"appid,omitempty"`
	AppIDExclude string `json:"appidExclude,omitempty"`

	Payment *PaymentInputs `json:"payment,omitempty"`

	// Others are the program's own: extensions that this package does not know.
	// ExtensionOutputs.Others has what the key returns. One that stands for the
	// same identifier as an input above makes the ceremony fail.
	Others []ctap2.Extension `json:"-"`
}

// ParseCreationOptions reads CreationOptions in JSON (WebAuthn §5.1.9): the
// object itself, or one that holds it as its member publicKey, as servers send
// it. It refuses with ErrEncoding what is not JSON, a member of the wrong type,
// and a required one that is missing, which the error names: rp, user, user.id,
// challenge, and what elements of lists consist of. Other members, and such as
// are null, may be missing; members, values and types of credentials that it does
// not know are ignored. Numbers may have a fraction or an exponent; a timeout that
// is too large is the largest.
func ParseCreationOptions(data []byte) (*CreationOptions, error) {
	var err error
	o := readOptions(data, &err)
	rp, _ := o.object("rp")
	user, _ := o.object("user")
	o.require("rp")
	o.require("user")
	o.require("challenge")
	user.require("id")
	options := new(CreationOptions)
	rp.read("id", &options.RP.ID)
	rp.read("name", &options.RP.Name)
	user.read("id", &options.User.ID)
	user.read("name", &options.User.Name)
	user.read("displayName", &options.User.DisplayName)
	o.read("challenge", &options.Challenge)
	for _, p := range o.objects("pubKeyCredParams") {
		parameters := CredentialParameters{Type: p.credentialType()}
		p.require("alg")
		p.read("alg", (*int32)(&parameters.Algorithm))
		options.PubKeyCredParams = append(options.PubKeyCredParams, parameters)
	}
	if known := ofKnownType(options.PubKeyCredParams, CredentialParameters.isKnown); known != nil {
		options.PubKeyCredParams = known
	}
	o.read("timeout", &options.Timeout)
	options.ExcludeCredentials = ofKnownType(o.descriptors("excludeCredentials"), CredentialDescriptor.isKnown)
	if s, ok := o.object("authenticatorSelection"); ok {
		s.readValue("authenticatorAttachment", &options.AuthenticatorSelection.AuthenticatorAttachment, attachments)
		s.readValue("residentKey", &options.AuthenticatorSelection.ResidentKey, requirements)
		s.read("requireResidentKey", &options.AuthenticatorSelection.RequireResidentKey)
		s.readValue("userVerification", &options.AuthenticatorSelection.UserVerification, requirements)
	}
	o.read("hints", &options.Hints)
	o.readValue("attestation", &options.Attestation, conveyances)
	o.read("attestationFormats", &options.AttestationFormats)
	options.Extensions = o.extensions()
	if err != nil {
		return nil, err
	}
	return options, nil
}

// ParseRequestOptions reads RequestOptions in JSON (WebAuthn §5.1.10), as
// ParseCreationOptions does. Required are challenge, and what elements of lists
// consist of.
func ParseRequestOptions(data []byte) (*RequestOptions, error) {
	var err error
	o := readOptions(data, &err)
	o.require("challenge")
	options := new(RequestOptions)
	o.read("challenge", &options.Challenge)
	o.read("timeout", &options.Timeout)
	o.read("rpId", &options.RPID)
	options.AllowCredentials = o.descriptors("allowCredentials")
	if known := ofKnownType(options.AllowCredentials, CredentialDescriptor.isKnown); known != nil {
		options.AllowCredentials = known
	}
	o.readValue("userVerification", &options.UserVerification, requirements)
	o.read("hints", &options.Hints)
	options.Extensions = o.extensions()
	if err != nil {
		return nil, err
	}
	return options, nil
}

// UnmarshalJSON does what ParseCreationOptions does.
func (o *CreationOptions) UnmarshalJSON(data []byte) error {
	parsed, err := ParseCreationOptions(data)
	if err == nil {
		*o = *parsed
	}
	return err
}

// UnmarshalJSON does what ParseRequestOptions does.
func (o *RequestOptions) UnmarshalJSON(data []byte) error {
	parsed, err := ParseRequestOptions(data)
	if err == nil {
		*o = *parsed
	}
	return err
}

// readOptions returns the object that the options are, be it the member
// publicKey of another.
func readOptions(data []byte, failed *error) object {
	if !json.Valid(data) {
		object{err: failed}.fail("the options are not JSON")
		return object{err: failed}
	}
	o := readObject("", data, failed)
	if wrapped := o.raw("publicKey"); wrapped != nil {
		return readObject("publicKey", wrapped, failed)
	}
	return o
}

func (o object) descriptors(name string) []CredentialDescriptor {
	var list []CredentialDescriptor
	for _, e := range o.objects(name) {
		d := CredentialDescriptor{Type: e.credentialType()}
		e.require("id")
		e.read("id", &d.ID)
		e.read("transports", &d.Transports)
		if len(d.ID) == 0 {
			e.at("id").fail("empty")
		}
		list = append(list, d)
	}
	return list
}

// credentialType returns the type of an element of a list.
func (o object) credentialType() string {
	var kind string
	o.require("type")
	o.read("type", &kind)
	return cmp.Or(kind, emptyType)
}

func (o object) extensions() (in ExtensionInputs) {
	o, ok := o.object("extensions")
	if !ok {
		return in
	}
	o.read("credProps", &in.CredProps)
	o.read("credentialProtectionPolicy", &in.CredentialProtectionPolicy)
	o.read("enforceCredentialProtectionPolicy", &in.EnforceCredentialProtectionPolicy)
	if _, known := in.credProtectPolicy(); !known && !in.EnforceCredentialProtectionPolicy {
		in.CredentialProtectionPolicy = ""
	}
	in.PRF = o.prf()
	in.LargeBlob = o.largeBlob()
	o.read("credBlob", &in.CredBlob)
	o.read("getCredBlob", &in.GetCredBlob)
	o.read("minPinLength", &in.MinPINLength)
	o.read("pinComplexityPolicy", &in.PINComplexityPolicy)
	o.read("hmacCreateSecret", &in.HMACCreateSecret)
	o.read("appid", &in.AppID)
	o.read("appidExclude", &in.AppIDExclude)
	in.Payment = o.payment()
	return in
}

// algorithms returns those to ask a key for (WebAuthn §5.1.3, step 10).
func (o *CreationOptions) algorithms() ([]cose.Algorithm, error) {
	if len(o.PubKeyCredParams) == 0 {
		return []cose.Algorithm{cose.ES256, cose.RS256}, nil
	}
	var list []cose.Algorithm
	for i, p := range o.PubKeyCredParams {
		if !p.isKnown() {
			return nil, refuse(ErrNotSupported, "pubKeyCredParams[%d] is of type %.64q, not %q", i, p.Type, publicKeyType)
		}
		list = append(list, p.Algorithm)
	}
	return list, nil
}

// check refuses values that an option cannot have.
func (o *CreationOptions) check() error {
	selection := &o.AuthenticatorSelection
	return cmp.Or(
		checkValue("attestation", o.Attestation, conveyances),
		checkValue("authenticatorSelection.authenticatorAttachment", selection.AuthenticatorAttachment, attachments),
		checkValue("authenticatorSelection.residentKey", selection.ResidentKey, requirements),
		checkValue("authenticatorSelection.userVerification", selection.UserVerification, requirements),
		checkTypes(ErrType, "excludeCredentials", o.ExcludeCredentials),
	)
}

// check refuses values that an option cannot have.
func (o *RequestOptions) check() error {
	return cmp.Or(
		checkValue("userVerification", o.UserVerification, requirements),
		checkTypes(ErrNotAllowed, "allowCredentials", o.AllowCredentials),
	)
}

func checkValue(member, value string, known []string) error {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return refuse(ErrType, "%s is %.64q, none of %q", member, value, known)
}

func checkTypes(name ErrorName, member string, list []CredentialDescriptor) error {
	for i, d := range list {
		if !d.isKnown() {
			return refuse(name, "%s[%d] is of type %.64q, not %q", member, i, d.Type, publicKeyType)
		}
	}
	return nil
}

func (p CredentialParameters) isKnown() bool { return p.Type == "" || p.Type == publicKeyType }

func (d CredentialDescriptor) isKnown() bool { return d.Type == "" || d.Type == publicKeyType }

// ofKnownType returns the entries of a list that are of a type that keys know;
// nil if there are none.
func ofKnownType[T any](list []T, isKnown func(T) bool) (known []T) {
	for _, entry := range list {
		if isKnown(entry) {
			known = append(known, entry)
		}
	}
	return known
}

// descriptors returns the list as package ctap2 has it.
func descriptors(list []CredentialDescriptor) []ctap2.CredentialDescriptor {
	var all []ctap2.CredentialDescriptor
	for _, d := range list {
		all = append(all, ctap2.CredentialDescriptor{ID: d.ID})
	}
	return all
}

// userVerification returns the wish as package ctap2 names it.
func userVerification(wish string) ctap2.UserVerification {
	switch wish {
	case Required:
		return ctap2.Required
	case Discouraged:
		return ctap2.Discouraged
	}
	return ctap2.Preferred
}
