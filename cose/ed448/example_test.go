package ed448_test

import (
	"fmt"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/ed448"
)

// Importing the package is all there is to do: keys of the algorithm verify
// from then on.
func Example() {
	fmt.Println(cose.AlgorithmEd448, cose.AlgorithmEd448.Available())
	// Output: Ed448 true
}
