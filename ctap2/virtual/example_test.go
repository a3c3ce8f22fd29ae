package virtual_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tapstone/fido/ctap2/virtual"
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
