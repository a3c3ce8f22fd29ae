package webauthn

import (
	"crypto/x509"
	"encoding/json"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// A RegistrationResponse is what Create returns, and its JSON what a relying
// party expects (WebAuthn §5.1, RegistrationResponseJSON): id, rawId, type,
// authenticatorAttachment, clientExtensionResults, and response with the rest.
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

// ExtensionOutputs are the client extension outputs of both ceremonies
// (WebAuthn §5.8). Absent ones are nil or false. What the key says in the
// authenticator data stands there.
type ExtensionOutputs struct {
	CredProps        *CredPropsOutputs
	PRF              *PRFOutputs
	LargeBlob        *LargeBlobOutputs
	CredBlob         *bool     // whether it was stored
	GetCredBlob      Base64URL // empty and not nil if none was stored
	HMACCreateSecret *bool     // whether the new credential can yield secrets
	HMACGetSecret    *HMACSecretOutputs
	AppID            *bool // whether AppID was used in place of the RP ID
	AppIDExclude     bool  // whether AppIDExclude was considered
}

// Wipe overwrites the secrets: the results of PRF and HMACGetSecret.
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
		m["credProps"] = map[string]bool{"rk": o.CredProps.RK}
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
	if s := o.HMACGetSecret; s != nil && secrets {
		outputs := map[string]Base64URL{"output1": s.Output1.Bytes()}
		if s.Output2.Len() > 0 {
			outputs["output2"] = s.Output2.Bytes()
		}
		m["hmacGetSecret"] = outputs
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
// the results of PRF and HMACGetSecret.
func (r RegistrationResponse) MarshalJSON() ([]byte, error) { return r.json(false) }

// MarshalJSON returns the response for a relying party, without the secrets:
// the results of PRF and HMACGetSecret.
func (r AuthenticationResponse) MarshalJSON() ([]byte, error) { return r.json(false) }

// JSONWithSecrets returns what MarshalJSON does and the secrets, as the
// specification has it, for a relying party that is to learn them. One that
// encrypts on the person's own machine takes them from ClientExtensionResults,
// and sends what MarshalJSON returns.
func (r RegistrationResponse) JSONWithSecrets() ([]byte, error) { return r.json(true) }

// JSONWithSecrets returns what MarshalJSON does and the secrets, as the
// specification has it, for a relying party that is to learn them. One that
// encrypts on the person's own machine takes them from ClientExtensionResults,
// and sends what MarshalJSON returns.
func (r AuthenticationResponse) JSONWithSecrets() ([]byte, error) { return r.json(true) }

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
		r.outputs.Wipe()
		return nil, r.failure(err)
	}
	transports := slices.Clone(r.info.Transports)
	slices.Sort(transports)
	return &RegistrationResponse{
		ID:                     c.ID,
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
		ID:                     assertion.Credential.ID,
		ClientDataJSON:         a.clientData,
		AuthenticatorData:      assertion.AuthData.Raw,
		Signature:              assertion.Signature,
		UserHandle:             assertion.User.ID,
		ClientExtensionResults: a.outputs,
	}
}
