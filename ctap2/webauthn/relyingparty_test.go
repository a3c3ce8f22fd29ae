package webauthn_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/pin"
)

// The relying party's side of a registration.
func ExampleExpectation_Check() {
	// What the relying party has handed out, and what came back. The challenge is
	// of crypto/rand, 16 bytes at least, and good for one registration.
	challenge := []byte("a challenge of the server")
	algorithms := []webauthn.CredentialParameters{{Algorithm: cose.ES256}, {Algorithm: cose.RS256}}
	fromBrowser := register(challenge, algorithms)

	var response webauthn.RegistrationResponse
	if err := json.Unmarshal(fromBrowser, &response); err != nil {
		log.Fatal(err)
	}
	credential, err := attestation.ParseObject(response.AttestationObject)
	if err != nil {
		log.Fatal(err)
	}
	expected := webauthn.Expectation{
		Type: webauthn.TypeCreate, RPID: "example.com", Origins: []string{"https://login.example.com"},
		Challenge: challenge,
	}
	if _, err := expected.Check(response.ClientDataJSON, credential.AuthData); err != nil {
		log.Fatal(err)
	}
	account := credential.AuthData
	if !slices.ContainsFunc(algorithms, func(p webauthn.CredentialParameters) bool { return p.Algorithm == account.PublicKey.Algorithm }) {
		log.Fatal("not an algorithm that was asked for")
	}
	hash := sha256.Sum256(response.ClientDataJSON)
	statement, err := attestation.Verify(credential, hash[:])
	if err != nil {
		log.Fatal(err)
	}
	// Which keys it accepts, a relying party says with an attestation.Policy. A
	// CredentialID that one of its accounts has already, it refuses. With the new
	// account it keeps the CredentialID, the SignCount, FlagBackupEligible, and the
	// PublicKey, which goes through MarshalCBOR and cose.ParseKey.
	fmt.Println(account.PublicKey.Algorithm, "attestation:", statement.Type)
	// Output: ES256 attestation: basic
}

// The relying party's side of a sign-in.
func ExampleAuthenticationResponse_Verify() {
	// What came back, and what the relying party has kept of the registration.
	challenge := []byte("another challenge of the server")
	fromBrowser, account := signIn(challenge)

	var response webauthn.AuthenticationResponse
	if err := json.Unmarshal(fromBrowser, &response); err != nil {
		log.Fatal(err)
	}
	if !bytes.Equal(response.ID, account.CredentialID) { // by which it has looked up the account
		log.Fatal("no such account")
	}
	expected := webauthn.Expectation{
		RPID: "example.com", Origins: []string{"https://login.example.com"},
		Challenge: challenge, UserVerification: true,
	}
	client, data, err := response.Verify(&expected, account.PublicKey)
	if err != nil {
		log.Fatal(err)
	}
	if data.SignCount <= account.SignCount && (data.SignCount != 0 || account.SignCount != 0) {
		log.Fatal("there may be a copy of the key")
	}
	if (data.Flags ^ account.Flags).Has(ctap2.FlagBackupEligible) {
		log.Fatal("not the kind of credential that was registered")
	}
	account.SignCount = data.SignCount // for the next time
	fmt.Println("signed in at", client.Origin)
	// Output: signed in at https://login.example.com
}

// register is the browser's side of a registration.
func register(challenge []byte, algorithms []webauthn.CredentialParameters) (fromBrowser []byte) {
	ctx := context.Background()
	browser := openBrowser(ctx)
	made, err := browser.Create(ctx, &webauthn.CreationOptions{
		RP:               webauthn.RelyingParty{ID: "example.com", Name: "Example"},
		User:             webauthn.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Challenge:        challenge,
		PubKeyCredParams: algorithms,
		Attestation:      webauthn.AttestationDirect,
	})
	if err != nil {
		log.Fatal(err)
	}
	if fromBrowser, err = json.Marshal(made); err != nil {
		log.Fatal(err)
	}
	return fromBrowser
}

// signIn is the browser's side of a sign-in, with a key that was registered
// before.
func signIn(challenge []byte) (fromBrowser []byte, account *ctap2.AuthenticatorData) {
	ctx := context.Background()
	browser := openBrowser(ctx)
	made, err := browser.Create(ctx, &webauthn.CreationOptions{
		RP:        webauthn.RelyingParty{ID: "example.com", Name: "Example"},
		User:      webauthn.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Challenge: []byte("a challenge of the server"),
	})
	if err != nil {
		log.Fatal(err)
	}
	if account, err = ctap2.ParseAuthenticatorData(made.AuthenticatorData); err != nil {
		log.Fatal(err)
	}
	signed, err := browser.Get(ctx, &webauthn.RequestOptions{
		RPID: "example.com", Challenge: challenge, UserVerification: webauthn.Required,
		AllowCredentials: []webauthn.CredentialDescriptor{{ID: made.ID}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if fromBrowser, err = json.Marshal(signed); err != nil {
		log.Fatal(err)
	}
	return fromBrowser, account
}

// openBrowser returns a client with a software key, whose PIN it knows.
func openBrowser(ctx context.Context) *webauthn.Client {
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
	}))
	if err != nil {
		log.Fatal(err)
	}
	return &webauthn.Client{Origin: "https://login.example.com", Authenticators: []*ctap2.Authenticator{key}}
}
