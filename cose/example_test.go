package cose_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"
	"slices"

	"github.com/tapstone/fido/cose"
)

func Example() {
	// What an authenticator does: it makes a key pair, hands out the public
	// key as a COSE_Key, and signs authenticator data and the client data hash.
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	public, err := cose.NewKey(cose.ES256, private.Public())
	if err != nil {
		log.Fatal(err)
	}
	encoded, err := public.MarshalCBOR()
	if err != nil {
		log.Fatal(err)
	}
	authenticatorData := make([]byte, 37)
	clientDataHash := sha256.Sum256([]byte(`{"type":"webauthn.get"}`))
	message := slices.Concat(authenticatorData, clientDataHash[:])
	digest := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	if err != nil {
		log.Fatal(err)
	}

	// What a relying party does.
	key, err := cose.ParseKey(encoded)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key, key.Algorithm.Available())
	fmt.Println(key.Verify(message, signature))
	fmt.Println(key.Verify(message[1:], signature))
	// Output:
	// ES256 key true
	// <nil>
	// cose: invalid signature (ES256)
}
