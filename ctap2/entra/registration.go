package entra

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// A Registration is a credential that a key has made for Entra. Its JSON is what
// Graph takes (fido2AuthenticationMethod).
type Registration struct {
	// DisplayName is what people shall call the key, in up to 30 characters.
	// Empty: Graph's choice.
	DisplayName string
	// Response is what the key made. Graph takes a part of it.
	Response *webauthn.RegistrationResponse
}

// Create makes the credential on a key, which waits for a touch. The RP ID is the
// one of the options, and the origin is that of its sign-in page: Graph, which
// the options come from, is not where people sign in.
//
// The errors are those of webauthn.Client.Create. One wraps ErrExpired if the
// challenge expires before the key is touched, and no credential was made then;
// webauthn.ErrInvalidState says that the user has this key already.
func (o *Options) Create(ctx context.Context, key *ctap2.Authenticator) (*Registration, error) {
	if !o.Expires.IsZero() {
		if !time.Now().Before(o.Expires) {
			return nil, ErrExpired
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, o.Expires, ErrExpired)
		defer cancel()
	}
	client := webauthn.Client{
		Origin:         "https://" + o.PublicKey.RP.ID,
		Authenticators: []*ctap2.Authenticator{key},
	}
	response, err := client.Create(ctx, o.PublicKey)
	if err != nil {
		return nil, err
	}
	response.ClientExtensionResults.Wipe() // there is nobody to have the secrets
	return &Registration{Response: response}, nil
}

// MarshalJSON returns the body of a request to register the credential. Without
// a Response it fails with ErrInvalidRequest.
func (r Registration) MarshalJSON() ([]byte, error) {
	if r.Response == nil {
		return nil, invalid("a Registration without Response")
	}
	whole, err := json.Marshal(r.Response)
	if err != nil {
		return nil, err
	}
	var response struct {
		ClientExtensionResults json.RawMessage `json:"clientExtensionResults"`
	}
	if err := json.Unmarshal(whole, &response); err != nil {
		return nil, err
	}
	// Graph's type has no more members than these.
	var body struct {
		DisplayName         string `json:"displayName,omitempty"`
		PublicKeyCredential struct {
			ID       webauthn.Base64URL `json:"id"`
			Response struct {
				ClientDataJSON    webauthn.Base64URL `json:"clientDataJSON"`
				AttestationObject webauthn.Base64URL `json:"attestationObject"`
			} `json:"response"`
			ClientExtensionResults json.RawMessage `json:"clientExtensionResults"`
		} `json:"publicKeyCredential"`
	}
	body.DisplayName = r.DisplayName
	credential := &body.PublicKeyCredential
	credential.ID = r.Response.ID
	credential.Response.ClientDataJSON = r.Response.ClientDataJSON
	credential.Response.AttestationObject = r.Response.AttestationObject
	credential.ClientExtensionResults = response.ClientExtensionResults
	return json.Marshal(body)
}
