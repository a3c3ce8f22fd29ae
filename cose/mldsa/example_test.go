package mldsa_test

import (
	"fmt"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/mldsa"
)

// Importing the package is all there is to do: keys of the algorithm verify
// from then on.
func Example() {
	fmt.Println(cose.MLDSA44, cose.MLDSA44.Available())
	// Output: ML-DSA-44 true
}
