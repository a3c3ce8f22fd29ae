package webauthn

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// A RegistrationResponse is what Create returns, and its JSON what a relying
// party expects (WebAuthn §5.1, RegistrationResponseJSON): id, rawId, type,
// authenticatorAttachment, clientExtensionResults, and response with the rest.
//
// In one that was read from JSON all is the client's word, and need not agree: ID,
// AuthenticatorData, PublicKey and PublicKeyAlgorithm repeat what AttestationObject
// has. A relying party takes them from there: attestation.ParseObject returns them.
type RegistrationResponse struct {
	ID                Base64URL // of the new credential
	ClientDataJSON    Base64URL
	AttestationObject Base64URL // CBOR (WebAuthn §6.5.4)
	AuthenticatorData Base64URL // what the attestation object holds of it
	// Transports are those that the key says it has, sorted; none if it does not
	// say.
	Transports []string
	// PublicKey is a SubjectPublicKeyInfo in DER, which x509.ParsePKIXPublicKey
	// reads; nil where there is none for the algorithm.
	PublicKey          Base64URL
	PublicKeyAlgorithm cose.Algorithm

	ClientExtensionResults ExtensionOutputs
}

// An AuthenticationResponse is what Get returns, and its JSON what a relying
// party expects (WebAuthn §5.1, AuthenticationResponseJSON), as a
// RegistrationResponse is.
type AuthenticationResponse struct {
	ID                Base64URL // of the credential that signed
	ClientDataJSON    Base64URL
	AuthenticatorData Base64URL
	Signature         Base64URL
	UserHandle        Base64URL // the user.id of the registration; nil if the key did not say

	ClientExtensionResults ExtensionOutputs
}

// Verify checks what a sign-in says and who has signed it (WebAuthn §7.2): that it
// is as expected, whose Type is taken to be TypeGet, and that it was signed with
// the key of the registration, publicKey, which the relying party has kept by the
// credential's ID. An AppID is accepted only if the response says that it was used.
// It returns what the client and the key say, or an error that wraps ErrNotValid,
// also where there is no response, no Challenge to expect, or no publicKey.
//
// What is in the relying party's own records it compares itself: that r.ID is one
// of AllowCredentials, if it had sent any, and that of the account that UserHandle
// names; the SignCount, which does not go back, but stays zero on many keys; that
// FlagBackupEligible is as it was at the registration; and what it wants of
// extensions.
func (r *AuthenticationResponse) Verify(expected *Expectation, publicKey *cose.Key) (*ClientData, *ctap2.AuthenticatorData, error) {
	if r == nil {
		return nil, nil, fmt.Errorf("%w: there is no response", ErrNotValid)
	}
	if expected == nil {
		return nil, nil, fmt.Errorf("%w: there is no Expectation", ErrNotValid)
	}
	if len(expected.Challenge) == 0 {
		return nil, nil, fmt.Errorf("%w: there is no Challenge to compare its own with", ErrNotValid)
	}
	x := *expected
	x.Type = TypeGet
	if used := r.ClientExtensionResults.AppID; used == nil || !*used {
		x.AppID = ""
	}
	data, err := ctap2.ParseAuthenticatorData(r.AuthenticatorData)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotValid, err)
	}
	client, err := x.Check(r.ClientDataJSON, data)
	if err != nil {
		return nil, nil, err
	}
	if publicKey == nil {
		return nil, nil, fmt.Errorf("%w: there is no public key", ErrNotValid)
	}
	hash := sha256.Sum256(r.ClientDataJSON)
	if err := (&ctap2.Assertion{AuthData: data, Signature: r.Signature}).Verify(publicKey, hash[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotValid, err)
	}
	return client, data, nil
}

// ExtensionOutputs are the client extension outputs of both ceremonies
// (WebAuthn §5.8). Absent ones are nil or false. What the key says in the
// authenticator data stands there.
type ExtensionOutputs struct {
	CredProps        *CredPropsOutputs
	PRF              *PRFOutputs
	LargeBlob        *LargeBlobOutputs
	CredBlob         *bool              // whether it was stored
	GetCredBlob      Base64URL          // empty and not nil if none was stored
	HMACCreateSecret *bool              // whether the new credential can yield secrets
	HMACGetSecret    *HMACSecretOutputs // not in JSON
	AppID            *bool              // whether AppID was used in place of the RP ID
	AppIDExclude     bool               // whether AppIDExclude was considered
	// Others has all that extensions returned, if there were Others, for
	// ctap2.Output to find. It is not in JSON.
	Others ctap2.Outputs
}

// Wipe overwrites the secrets: the results of PRF and HMACGetSecret. Those of
// Others are the program's to wipe.
func (o *ExtensionOutputs) Wipe() {
	if o.PRF != nil && o.PRF.Results != nil {
		o.PRF.Results.First.Wipe()
		o.PRF.Results.Second.Wipe()
	}
	if o.HMACGetSecret != nil {
		o.HMACGetSecret.Output1.Wipe()
		o.HMACGetSecret.Output2.Wipe()
	}
}

// json returns the outputs as JSON has them (AuthenticationExtensionsClientOutputsJSON).
func (o *ExtensionOutputs) json(secrets bool) map[string]any {
	m := make(map[string]any)
	if o.CredProps != nil {
		props := make(map[string]any)
		if o.CredProps.RK != nil {
			props["rk"] = *o.CredProps.RK
		}
		m["credProps"] = props
	}
	if o.PRF != nil {
		prf := make(map[string]any)
		if o.PRF.Enabled != nil {
			prf["enabled"] = *o.PRF.Enabled
		}
		if r := o.PRF.Results; r != nil && secrets {
			results := map[string]Base64URL{"first": r.First.Bytes()}
			if r.Second.Len() > 0 {
				results["second"] = r.Second.Bytes()
			}
			prf["results"] = results
		}
		m["prf"] = prf
	}
	if b := o.LargeBlob; b != nil {
		blob := make(map[string]any)
		if b.Supported != nil {
			blob["supported"] = *b.Supported
		}
		if b.Blob != nil {
			blob["blob"] = b.Blob
		}
		if b.Written != nil {
			blob["written"] = *b.Written
		}
		m["largeBlob"] = blob
	}
	if o.CredBlob != nil {
		m["credBlob"] = *o.CredBlob
	}
	if o.GetCredBlob != nil {
		m["getCredBlob"] = o.GetCredBlob
	}
	if o.HMACCreateSecret != nil {
		m["hmacCreateSecret"] = *o.HMACCreateSecret
	}
	if o.AppID != nil {
		m["appid"] = *o.AppID
	}
	if o.AppIDExclude {
		m["appidExclude"] = true
	}
	return m
}

// MarshalJSON returns the response for a relying party, without the secrets:
// the results of PRF.
func (r RegistrationResponse) MarshalJSON() ([]byte, error) { return r.json(false) }

// MarshalJSON returns the response for a relying party, without the secrets:
// the results of PRF.
func (r AuthenticationResponse) MarshalJSON() ([]byte, error) { return r.json(false) }

// JSONWithSecrets returns what MarshalJSON does and the results of PRF, as the
// specification has it, for a relying party that is to learn them. One that
// encrypts on the person's own machine takes them from ClientExtensionResults,
// and sends what MarshalJSON returns.
func (r RegistrationResponse) JSONWithSecrets() ([]byte, error) { return r.json(true) }

// JSONWithSecrets returns what MarshalJSON does and the results of PRF, as the
// specification has it, for a relying party that is to learn them. One that
// encrypts on the person's own machine takes them from ClientExtensionResults,
// and sends what MarshalJSON returns.
func (r AuthenticationResponse) JSONWithSecrets() ([]byte, error) { return r.json(true) }

// UnmarshalJSON reads what MarshalJSON and JSONWithSecrets write, or another
// client's RegistrationResponseJSON. It refuses with ErrEncoding what is not one,
// and names what is missing or wrong; what it does not know is ignored.
// authenticatorData, publicKey, publicKeyAlgorithm and transports may be missing,
// as in the responses of old clients.
func (r *RegistrationResponse) UnmarshalJSON(data []byte) error {
	var err error
	var read RegistrationResponse
	response := readCredential(data, &read.ID, &read.ClientExtensionResults, &err)
	response.require("clientDataJSON")
	response.require("attestationObject")
	response.read("clientDataJSON", &read.ClientDataJSON)
	response.read("attestationObject", &read.AttestationObject)
	response.read("authenticatorData", &read.AuthenticatorData)
	response.read("transports", &read.Transports)
	if len(read.Transports) == 0 {
		read.Transports = nil
	}
	response.read("publicKey", &read.PublicKey)
	response.read("publicKeyAlgorithm", (*int32)(&read.PublicKeyAlgorithm))
	if err == nil {
		*r = read
	}
	return err
}

// UnmarshalJSON reads what MarshalJSON and JSONWithSecrets write, or another
// client's AuthenticationResponseJSON, as that of RegistrationResponse does.
// userHandle may be missing.
func (r *AuthenticationResponse) UnmarshalJSON(data []byte) error {
	var err error
	var read AuthenticationResponse
	response := readCredential(data, &read.ID, &read.ClientExtensionResults, &err)
	response.require("clientDataJSON")
	response.require("authenticatorData")
	response.require("signature")
	response.read("clientDataJSON", &read.ClientDataJSON)
	response.read("authenticatorData", &read.AuthenticatorData)
	response.read("signature", &read.Signature)
	response.read("userHandle", &read.UserHandle)
	if err == nil {
		*r = read
	}
	return err
}

// readCredential reads what both responses consist of, and returns its member
// response.
func readCredential(data []byte, id *Base64URL, outputs *ExtensionOutputs, failed *error) object {
	o := readObject("", data, failed)
	o.require("id")
	o.read("id", id)
	raw := *id
	if o.read("rawId", &raw); !bytes.Equal(raw, *id) {
		o.at("rawId").fail("not the id")
	}
	kind := publicKeyType
	if o.read("type", &kind); kind != publicKeyType {
		o.at("type").fail("not %q", publicKeyType)
	}
	if results, ok := o.object("clientExtensionResults"); ok {
		*outputs = results.outputs()
	}
	o.require("response")
	if response, ok := o.object("response"); ok {
		return response
	}
	return object{err: failed}
}

// outputs reads what ExtensionOutputs.json writes.
func (o object) outputs() (out ExtensionOutputs) {
	if props, ok := o.object("credProps"); ok {
		out.CredProps = new(CredPropsOutputs)
		props.read("rk", &out.CredProps.RK)
	}
	if prf, ok := o.object("prf"); ok {
		out.PRF = new(PRFOutputs)
		prf.read("enabled", &out.PRF.Enabled)
		if results, ok := prf.object("results"); ok {
			v := results.prfValues()
			out.PRF.Results = &PRFResults{First: pin.NewSecret(v.First)}
			if v.Second != nil {
				out.PRF.Results.Second = pin.NewSecret(v.Second)
			}
		}
	}
	if blob, ok := o.object("largeBlob"); ok {
		out.LargeBlob = new(LargeBlobOutputs)
		blob.read("supported", &out.LargeBlob.Supported)
		blob.read("blob", &out.LargeBlob.Blob)
		blob.read("written", &out.LargeBlob.Written)
	}
	o.read("credBlob", &out.CredBlob)
	o.read("getCredBlob", &out.GetCredBlob)
	o.read("hmacCreateSecret", &out.HMACCreateSecret)
	o.read("appid", &out.AppID)
	o.read("appidExclude", &out.AppIDExclude)
	return out
}

func (r RegistrationResponse) json(secrets bool) ([]byte, error) {
	transports := r.Transports
	if transports == nil {
		transports = []string{}
	}
	return json.Marshal(credentialJSON(r.ID, &r.ClientExtensionResults, secrets, struct {
		ClientDataJSON     Base64URL      `json:"clientDataJSON"`
		AuthenticatorData  Base64URL      `json:"authenticatorData"`
		Transports         []string       `json:"transports"`
		PublicKey          Base64URL      `json:"publicKey,omitempty"`
		PublicKeyAlgorithm cose.Algorithm `json:"publicKeyAlgorithm"`
		AttestationObject  Base64URL      `json:"attestationObject"`
	}{r.ClientDataJSON, r.AuthenticatorData, transports, r.PublicKey, r.PublicKeyAlgorithm, r.AttestationObject}))
}

func (r AuthenticationResponse) json(secrets bool) ([]byte, error) {
	return json.Marshal(credentialJSON(r.ID, &r.ClientExtensionResults, secrets, struct {
		ClientDataJSON    Base64URL `json:"clientDataJSON"`
		AuthenticatorData Base64URL `json:"authenticatorData"`
		Signature         Base64URL `json:"signature"`
		UserHandle        Base64URL `json:"userHandle,omitempty"`
	}{r.ClientDataJSON, r.AuthenticatorData, r.Signature, r.UserHandle}))
}

// credentialJSON returns what both responses consist of.
func credentialJSON(id Base64URL, outputs *ExtensionOutputs, secrets bool, response any) any {
	return struct {
		ID                      Base64URL      `json:"id"`
		RawID                   Base64URL      `json:"rawId"`
		Type                    string         `json:"type"`
		AuthenticatorAttachment string         `json:"authenticatorAttachment"`
		ClientExtensionResults  map[string]any `json:"clientExtensionResults"`
		Response                any            `json:"response"`
	}{id, id, publicKeyType, CrossPlatform, outputs.json(secrets), response}
}

// response returns what came of a registration.
func (r *registration) response(c *ctap2.Credential) (*RegistrationResponse, error) {
	r.convey(c)
	object, err := c.AttestationObject()
	if err != nil {
		wipeSecrets(c.Extensions)
		return nil, r.failure(err)
	}
	transports := slices.Clone(r.info.Transports)
	slices.Sort(transports)
	return &RegistrationResponse{
		ID:                     slices.Clone(c.ID), // it is a part of AuthenticatorData
		ClientDataJSON:         r.clientData,
		AttestationObject:      object,
		AuthenticatorData:      c.AuthData.Raw,
		Transports:             slices.Compact(transports),
		PublicKey:              publicKeyInfo(c.PublicKey),
		PublicKeyAlgorithm:     c.PublicKey.Algorithm,
		ClientExtensionResults: r.outputs,
	}, nil
}

// publicKeyInfo returns a key as a SubjectPublicKeyInfo (WebAuthn §5.2.1.1), nil
// where package x509 has none.
func publicKeyInfo(key *cose.Key) Base64URL {
	public, err := key.PublicKey()
	if err != nil {
		return nil
	}
	info, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil
	}
	return info
}

// response returns what came of a sign-in.
func (a *authentication) response(assertion *ctap2.Assertion) *AuthenticationResponse {
	return &AuthenticationResponse{
		ID:                     slices.Clone(assertion.Credential.ID),
		ClientDataJSON:         a.clientData,
		AuthenticatorData:      assertion.AuthData.Raw,
		Signature:              assertion.Signature,
		UserHandle:             assertion.User.ID,
		ClientExtensionResults: a.outputs,
	}
}
