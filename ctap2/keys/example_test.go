package keys_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tapstone/fido/ctap2/keys"
)

// Find a key by the name that a person gave.
func Example() {
	ctx := context.Background()
	key, err := keys.Find(ctx, "no such key")
	if errors.Is(err, keys.ErrNoKey) {
		fmt.Println("plug it in")
		return
	}
	authenticator, err := keys.Open(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer authenticator.Close()
	fmt.Println(authenticator.Info().Versions)
	// Output: plug it in
}
