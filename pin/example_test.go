package pin_test

import (
	"fmt"

	"github.com/tapstone/fido/pin"
)

// Both sides of key agreement: what the platform encrypts, the authenticator
// decrypts.
func Example() {
	authenticator, err := pin.NewKeyAgreement(pin.Two)
	if err != nil {
		fmt.Println(err)
		return
	}
	platformKey, platform, err := pin.Two.Encapsulate(authenticator.PublicKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	shared, err := authenticator.Decapsulate(platformKey)
	if err != nil {
		fmt.Println(err)
		return
	}

	entered := pin.FromString("1234")
	padded, err := pin.Pad(entered)
	if err != nil {
		fmt.Println(err)
		return
	}
	newPINEnc, err := platform.Encrypt(padded.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(newPINEnc), "bytes on the wire")

	plain, err := shared.Decrypt(newPINEnc)
	if err != nil {
		fmt.Println(err)
		return
	}
	received, err := pin.Unpad(plain)
	fmt.Println(received.Equal(entered), received, err)
	// Output:
	// 80 bytes on the wire
	// true [secret] <nil>
}
