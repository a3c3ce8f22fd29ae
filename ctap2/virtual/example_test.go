package virtual_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/nfc"
)

// A key that nobody touches, and then somebody does. 0x0B is
// authenticatorSelection, which waits for a touch and does nothing else.
func Example() {
	key, err := virtual.New(virtual.Config{
		PIN:      "271828",
		Presence: virtual.Refuse,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	blink := func(status byte) { fmt.Println("keepalive", status) }
	answer, err := key.Exchange(context.Background(), []byte{0x0B}, blink)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("status %#02x\n", answer[0])

	key.SetPresence(virtual.Touch)
	answer, err = key.Exchange(context.Background(), []byte{0x0B}, blink)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("status %#02x\n", answer[0])
	// Output:
	// keepalive 2
	// status 0x27
	// keepalive 2
	// status 0x00
}

// Programs meet many kinds of keys. One of them has never heard of CTAP2, to
// whose authenticatorGetInfo, 0x04, it answers CTAP1_ERR_INVALID_COMMAND.
func ExampleProfile() {
	for _, profile := range virtual.Profiles() {
		key, err := virtual.New(profile.Config())
		if err != nil {
			log.Fatal(err)
		}
		answer, err := key.Exchange(context.Background(), []byte{0x04}, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: status %#02x\n", profile, answer[0])
		key.Close()
	}
	// Output:
	// u2f: status 0x01
	// ctap2.0: status 0x00
	// ctap2.1-pre: status 0x00
	// ctap2.1: status 0x00
	// ctap2.3: status 0x00
	// enterprise: status 0x00
}

// Register and sign in with a key on a reader.
func ExampleCard() {
	ctx := context.Background()
	software, err := virtual.New(virtual.Config{Transports: []string{"nfc"}})
	if err != nil {
		log.Fatal(err)
	}
	defer software.Close()
	card := software.Tap(virtual.CardConfig{})
	defer card.Remove()

	conn, err := card.Open()
	if err != nil {
		log.Fatal(err)
	}
	device, err := nfc.New(ctx, conn)
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(ctx, device)
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close() // and device and conn with it

	hash := sha256.Sum256([]byte("client data of the registration"))
	credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:],
		RP:             ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:           ctap2.User{ID: []byte("user 1"), Name: "ada@example.com"},
		Algorithms:     []cose.Algorithm{cose.ES256},
	})
	if err != nil {
		log.Fatal(err)
	}
	hash = sha256.Sum256([]byte("client data of the sign-in"))
	assertions, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID:           "example.com",
		ClientDataHash: hash[:],
		AllowList:      []ctap2.CredentialDescriptor{credential.Descriptor()},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = assertions[0].Verify(credential.PublicKey, hash[:])
	fmt.Println("signed in:", err == nil)
	// Output: signed in: true
}
