package ctap2_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// Register and sign in, with a PIN. A software key stands in for the one that
// hid.Open returns.
func Example() {
	ctx := context.Background()
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(_ context.Context, r ctap2.PINRequest) (pin.Secret, error) {
			fmt.Println("PIN for", r.RPID)
			return pin.FromString("271828"), nil // a program reads it from a person
		},
		Touch: func(ctap2.TouchRequest) { fmt.Println("touch your key") },
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	hash := sha256.Sum256([]byte("client data of the registration"))
	credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash:   hash[:],
		RP:               ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:             ctap2.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Algorithms:       []cose.Algorithm{cose.EdDSA, cose.ES256},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("registered", credential.PublicKey, credential.AuthData.Flags)

	hash = sha256.Sum256([]byte("client data of the sign-in"))
	accounts, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{RPID: "example.com", ClientDataHash: hash[:]})
	if err != nil {
		log.Fatal(err)
	}
	err = accounts[0].Verify(credential.PublicKey, hash[:])
	fmt.Printf("signed in as %q, verified: %v\n", accounts[0].User.ID, err == nil)
	// Output:
	// PIN for example.com
	// touch your key
	// registered EdDSA key UP|UV|AT
	// touch your key
	// signed in as "user 1", verified: true
}

// A wrong PIN, and what to tell the person.
func ExamplePINError() {
	ctx := context.Background()
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(ctx, device)
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	err = key.ChangePIN(ctx, pin.FromString("000000"), pin.FromString("314159"))
	var wrong *ctap2.PINError
	if errors.As(err, &wrong) {
		fmt.Println(wrong.Retries, "tries left")
	}
	fmt.Println(errors.Is(err, ctap2.ErrPINInvalid), err)
	// Output:
	// 7 tries left
	// true ctap2: wrong PIN, 7 tries left
}

// A secret for disk encryption, bound to a credential and a salt. User
// verification is Required: with less the secret would be another one once the
// key has got a PIN.
func ExampleHMACSecret() {
	ctx := context.Background()
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
	defer key.Close()

	hash := sha256.Sum256(nil) // nobody checks the signature: the secret is what is wanted
	credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash:   hash[:],
		RP:               ctap2.RelyingParty{ID: "disk.example"},
		User:             ctap2.User{ID: []byte("disk 1")},
		Algorithms:       []cose.Algorithm{cose.ES256},
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret()},
	})
	if err != nil {
		log.Fatal(err)
	}

	salt := sha256.Sum256([]byte("volume 1"))
	assertions, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID:             "disk.example",
		ClientDataHash:   hash[:],
		AllowList:        []ctap2.CredentialDescriptor{credential.Descriptor()},
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret(salt[:])},
	})
	if err != nil {
		log.Fatal(err)
	}
	secret, err := ctap2.Output[*ctap2.HMACSecretOutput](assertions[0].Extensions)
	if err != nil {
		log.Fatal(err)
	}
	defer secret.Wipe()
	fmt.Println(secret.Output1.Len(), "bytes:", secret.Output1)
	// Output: 32 bytes: [secret]
}

// One verification for several commands: the caller holds the token.
func ExampleAuthenticator_Token() {
	ctx := context.Background()
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
	defer key.Close()

	token, err := key.Token(ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionMakeCredential,
		RPID:        "example.com",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer token.Wipe()
	hash := sha256.Sum256([]byte("client data"))
	credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:],
		RP:             ctap2.RelyingParty{ID: "example.com"},
		User:           ctap2.User{ID: []byte("user 1")},
		Algorithms:     []cose.Algorithm{cose.ES256},
		Token:          token,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token, credential.AuthData.Flags.Has(ctap2.FlagUserVerified))
	// Output: pinUvAuthToken(mc example.com) true
}

// registered returns an open software key that holds a credential, for the
// examples below.
func registered(extensions ...ctap2.Extension) (*ctap2.Authenticator, *ctap2.Credential) {
	device, err := virtual.New(virtual.Config{PIN: "271828", BuiltInUV: virtual.UVNotConfigured})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(context.Background(), device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
		Sample: func(s ctap2.SampleFeedback) {
			fmt.Printf("%v, %d to go\n", s.Status, s.Remaining)
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	hash := sha256.Sum256(nil)
	credential, err := key.MakeCredential(context.Background(), &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:],
		RP:             ctap2.RelyingParty{ID: "example.com"},
		User:           ctap2.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Algorithms:     []cose.Algorithm{cose.ES256},
		ResidentKey:    true,
		Extensions:     extensions,
	})
	if err != nil {
		log.Fatal(err)
	}
	return key, credential
}

// Ada has a new name, and her key shall show it when she signs in.
func ExampleAuthenticator_UpdateUserInformation() {
	ctx := context.Background()
	key, _ := registered()
	defer key.Close()

	list, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPID: "example.com"})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range list {
		user := c.User
		user.Name = "ada.lovelace@example.com"
		err := key.UpdateUserInformation(ctx, &ctap2.UpdateUserInformationRequest{Credential: c.Credential, User: user})
		fmt.Println(c.User.Name, "is now", user.Name, err)
	}
	// Output: ada@example.com is now ada.lovelace@example.com <nil>
}

// Teach the key a finger. The person is told how each sample went.
func ExampleAuthenticator_EnrollFingerprint() {
	key, _ := registered()
	defer key.Close()

	finger, err := key.EnrollFingerprint(context.Background(), &ctap2.EnrollFingerprintRequest{FriendlyName: "right thumb"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("enrolled:", finger.FriendlyName)
	// Output:
	// good, 3 to go
	// good, 2 to go
	// good, 1 to go
	// good, 0 to go
	// enrolled: right thumb
}

// A few hundred bytes travel with the key, readable for whoever can sign in with
// the credential: a certificate for SSH, say.
func ExampleAuthenticator_PutLargeBlob() {
	ctx := context.Background()
	key, credential := registered(ctap2.LargeBlobKey())
	defer key.Close()

	id := credential.Descriptor()
	request := &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &id, Data: []byte("ssh-ed25519-cert-v01@openssh.com …")}
	if err := key.PutLargeBlob(ctx, request); err != nil {
		log.Fatal(err)
	}
	data, err := key.GetLargeBlob(ctx, &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &id})
	fmt.Println(string(data), err)
	// Output: ssh-ed25519-cert-v01@openssh.com … <nil>
}

// An administrator sets the rules before a key is handed out.
func ExampleAuthenticator_SetMinPINLength() {
	ctx := context.Background()
	key, _ := registered()
	defer key.Close()

	err := key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{
		NewMinPINLength:   8,
		MinPINLengthRPIDs: []string{"login.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = key.GetCredsMetadata(ctx, nil)
	fmt.Println(key.Info().MinPINLength, err)
	// Output: 8 ctap2: the key demands a new PIN before it is used again
}

// A credential store that is listed every hour asks for the PIN once: the token
// is persistent, and good for reading alone.
func ExampleInfo_CredStoreState() {
	ctx := context.Background()
	key, _ := registered()
	defer key.Close()

	token, err := key.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionPersistentCredentialManagement})
	if err != nil {
		log.Fatal(err)
	}
	defer token.Wipe()
	var before [16]byte
	for range 2 {
		info, err := key.GetInfo(ctx)
		if err != nil {
			log.Fatal(err)
		}
		state, err := info.CredStoreState(token)
		if err != nil {
			log.Fatal(err)
		}
		if state == before {
			fmt.Println("nothing new")
			continue
		}
		before = state
		list, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{Token: token})
		if err != nil {
			log.Fatal(err)
		}
		for _, c := range list {
			fmt.Println(c.RP.ID, c.User.Name)
		}
	}
	// Output:
	// example.com ada@example.com
	// nothing new
}
