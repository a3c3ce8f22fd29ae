package webauthn

import (
	"encoding/json"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// Values of options. One that is none of them counts as absent, as the
// specification has it: servers may know more than this package does.
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

// CredentialParameters name an algorithm (WebAuthn §5.3). Those of another type
// than "public-key" are ignored; if there are none but such, Create refuses the
// options with ErrNotSupported.
type CredentialParameters struct {
	Type      string         `json:"type"`
	Algorithm cose.Algorithm `json:"alg"`
}

// A CredentialDescriptor names a credential (WebAuthn §5.8.3). One of another
// type than "public-key" is ignored; if AllowCredentials has none but such, Get
// refuses the options with ErrNotAllowed. Transports are ignored: each key is
// asked.
type CredentialDescriptor struct {
	Type       string    `json:"type"`
	ID         Base64URL `json:"id"`
	Transports []string  `json:"transports,omitempty"`
}

// AuthenticatorSelection says which keys will do (WebAuthn §5.4.4).
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
	// §12.1), by the name of a [ctap2.CredProtectPolicy]. If it is enforced, a
	// key that has no such policies will not do, unless the policy is
	// "userVerificationOptional".
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
// are null, may be missing; members that it does not know are ignored. Numbers
// may have a fraction or an exponent; a timeout that is too large is the largest.
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
		p.require("type")
		p.require("alg")
		var parameters CredentialParameters
		p.read("type", &parameters.Type)
		p.read("alg", (*int32)(&parameters.Algorithm))
		options.PubKeyCredParams = append(options.PubKeyCredParams, parameters)
	}
	o.read("timeout", &options.Timeout)
	options.ExcludeCredentials = o.descriptors("excludeCredentials")
	if s, ok := o.object("authenticatorSelection"); ok {
		s.read("authenticatorAttachment", &options.AuthenticatorSelection.AuthenticatorAttachment)
		s.read("residentKey", &options.AuthenticatorSelection.ResidentKey)
		s.read("requireResidentKey", &options.AuthenticatorSelection.RequireResidentKey)
		s.read("userVerification", &options.AuthenticatorSelection.UserVerification)
	}
	o.read("hints", &options.Hints)
	o.read("attestation", &options.Attestation)
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
	o.read("userVerification", &options.UserVerification)
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
		e.require("type")
		e.require("id")
		var d CredentialDescriptor
		e.read("type", &d.Type)
		e.read("id", &d.ID)
		e.read("transports", &d.Transports)
		if len(d.ID) == 0 {
			e.at("id").fail("empty")
		}
		list = append(list, d)
	}
	return list
}

func (o object) extensions() (in ExtensionInputs) {
	o, ok := o.object("extensions")
	if !ok {
		return in
	}
	o.read("credProps", &in.CredProps)
	o.read("credentialProtectionPolicy", &in.CredentialProtectionPolicy)
	o.read("enforceCredentialProtectionPolicy", &in.EnforceCredentialProtectionPolicy)
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
	for _, p := range o.PubKeyCredParams {
		if p.Type == publicKeyType {
			list = append(list, p.Algorithm)
		}
	}
	if list == nil {
		return nil, refuse(ErrNotSupported, "pubKeyCredParams has no entry of type %q", publicKeyType)
	}
	return list, nil
}

// descriptors returns the entries of a type that keys know.
func descriptors(list []CredentialDescriptor) []ctap2.CredentialDescriptor {
	var known []ctap2.CredentialDescriptor
	for _, d := range list {
		if d.Type == publicKeyType {
			known = append(known, ctap2.CredentialDescriptor{ID: d.ID})
		}
	}
	return known
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
