package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"filippo.io/age/plugin"
	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// A credential is what files are encrypted to. Its text is an age identity, such
// as AGE-PLUGIN-FIDO2PRF-1…, and no secret: the key has that.
type credential struct {
	id         []byte
	rpID       string
	transports []string
}

const identityVersion = 1

// site is the relying party of credentials that this program makes. It is its
// own client, and so may speak for it.
const site = "age.example"

// newCredential has the key make a credential, which takes no room on it.
func newCredential(ctx context.Context, key *ctap2.Authenticator) (*credential, error) {
	userID := make([]byte, 32) // another for each: some keys replace the credential of the same user
	rand.Read(userID)
	response, err := clientFor(site, key).Create(ctx, &webauthn.CreationOptions{
		RP:                     webauthn.RelyingParty{ID: site, Name: "age"},
		User:                   webauthn.User{ID: userID, Name: "age", DisplayName: "age"},
		Challenge:              challenge(),
		PubKeyCredParams:       []webauthn.CredentialParameters{{Type: "public-key", Algorithm: cose.EdDSA}, {Type: "public-key", Algorithm: cose.ES256}},
		AuthenticatorSelection: webauthn.AuthenticatorSelection{ResidentKey: webauthn.Discouraged, UserVerification: webauthn.Required},
		Extensions:             webauthn.ExtensionInputs{PRF: new(webauthn.PRFInputs)},
	})
	if err != nil {
		return nil, err
	}
	if !*response.ClientExtensionResults.PRF.Enabled {
		return nil, errors.New("the key yields no secrets (it lacks the extension hmac-secret)")
	}
	return &credential{id: response.ID, rpID: site, transports: response.Transports}, nil
}

// prf returns the function of the credential, which takes the key to evaluate.
func (c *credential) prf(ctx context.Context, key *ctap2.Authenticator) prf {
	return func(values *webauthn.PRFValues) (*webauthn.PRFResults, error) {
		response, err := clientFor(c.rpID, key).Get(ctx, &webauthn.RequestOptions{
			RPID:             c.rpID,
			Challenge:        challenge(),
			AllowCredentials: []webauthn.CredentialDescriptor{{Type: "public-key", ID: c.id}},
			UserVerification: webauthn.Required,
			Extensions:       webauthn.ExtensionInputs{PRF: &webauthn.PRFInputs{Eval: values}},
		})
		if err != nil {
			return nil, err
		}
		if response.ClientExtensionResults.PRF.Results == nil {
			return nil, errors.New("the key gave no secrets")
		}
		return response.ClientExtensionResults.PRF.Results, nil
	}
}

func clientFor(rpID string, key *ctap2.Authenticator) *webauthn.Client {
	return &webauthn.Client{Origin: "https://" + rpID, Authenticators: []*ctap2.Authenticator{key}}
}

// challenge is for the signature, which nobody looks at here.
func challenge() []byte {
	c := make([]byte, 32)
	rand.Read(c)
	return c
}

// identity returns the text: a version, ID, RP ID and transports, each in CBOR,
// one after the other.
func (c *credential) identity() (string, error) {
	var data []byte
	for _, v := range []any{identityVersion, c.id, c.rpID, c.transports} {
		item, err := cbor.Marshal(v)
		if err != nil {
			return "", err
		}
		data = append(data, item...)
	}
	return plugin.EncodeIdentity("fido2prf", data), nil
}

// parseIdentity reads what identity returns.
func parseIdentity(text string) (*credential, error) {
	name, data, err := plugin.ParseIdentity(text)
	if err != nil {
		return nil, err
	}
	if name != "fido2prf" {
		return nil, fmt.Errorf("an age identity of another kind: %s", name)
	}
	c := new(credential)
	var version int
	for _, v := range []any{&version, &c.id, &c.rpID, &c.transports} {
		if data, err = cbor.UnmarshalFirst(data, v); err != nil {
			return nil, fmt.Errorf("malformed age identity: %w", err)
		}
		if version != identityVersion {
			return nil, fmt.Errorf("an age identity of version %d", version)
		}
	}
	return c, nil
}
