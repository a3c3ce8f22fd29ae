package webauthn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/pin"
)

// Sign in to a server: from its JSON to the response in JSON. A software key
// stands in for the one that hid.Open returns, and a string for the server.
func Example() {
	ctx := context.Background()
	key := openKey(ctx)
	defer key.Close()
	fromServer := []byte(`{"publicKey": {"challenge": "xdj_CBfpXyEBnA", "rpId": "example.com", "userVerification": "preferred"}}`)

	client := webauthn.Client{Origin: "https://login.example.com", Authenticators: []*ctap2.Authenticator{key}}
	options, err := webauthn.ParseRequestOptions(fromServer)
	if err != nil {
		log.Fatal(err)
	}
	response, err := client.Get(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	toServer, err := json.Marshal(response)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(json.Valid(toServer), string(response.ClientDataJSON))
	// Output:
	// PIN for example.com
	// touch your key
	// true {"type":"webauthn.get","challenge":"xdj_CBfpXyEBnA","origin":"https://login.example.com","crossOrigin":false}
}

// openKey returns a key that is registered at example.com.
func openKey(ctx context.Context) *ctap2.Authenticator {
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		log.Fatal(err)
	}
	quiet := true
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(_ context.Context, r ctap2.PINRequest) (pin.Secret, error) {
			if !quiet {
				fmt.Println("PIN for", r.RPID)
			}
			return pin.FromString("271828"), nil
		},
		Touch: func(ctap2.TouchRequest) {
			if !quiet {
				fmt.Println("touch your key")
			}
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	client := webauthn.Client{Origin: "https://login.example.com", Authenticators: []*ctap2.Authenticator{key}}
	_, err = client.Create(ctx, &webauthn.CreationOptions{
		RP:                     webauthn.RelyingParty{ID: "example.com", Name: "Example"},
		User:                   webauthn.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Challenge:              []byte("a challenge"),
		AuthenticatorSelection: webauthn.AuthenticatorSelection{ResidentKey: webauthn.Required},
	})
	if err != nil {
		log.Fatal(err)
	}
	key.Forget() // the PIN
	quiet = false
	return key
}

// A secret of a credential, to encrypt with. It takes the key to have it again.
func ExamplePRFInputs() {
	ctx := context.Background()
	key := openKey(ctx)
	defer key.Close()
	client := webauthn.Client{Origin: "https://login.example.com", Authenticators: []*ctap2.Authenticator{key}}

	response, err := client.Get(ctx, &webauthn.RequestOptions{
		RPID:       "example.com",
		Challenge:  []byte("a challenge of the server"),
		Extensions: webauthn.ExtensionInputs{PRF: &webauthn.PRFInputs{Eval: &webauthn.PRFValues{First: []byte("file 1")}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer response.ClientExtensionResults.Wipe()
	results := response.ClientExtensionResults.PRF.Results
	if results == nil {
		log.Fatal("this key has no secret to give, or cannot verify its user")
	}
	fmt.Println(results.First.Len(), "bytes:", results.First)
	// Output:
	// PIN for example.com
	// touch your key
	// 32 bytes: [secret]
}
