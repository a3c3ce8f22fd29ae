package secp256k1_test

import (
	"fmt"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/secp256k1"
)

// Importing the package is all there is to do: keys of the algorithm verify
// from then on.
func Example() {
	fmt.Println(cose.ES256K, cose.ES256K.Available())
	// Output: ES256K true
}
