package ctap2

import (
	"math"

	"github.com/tapstone/fido/internal/cbor"
)

// MinPINLengthOutput is the output of MinPINLength: the key's minimum, in code
// points.
type MinPINLengthOutput int

type minPINLength struct{}

// MinPINLength is the extension minPinLength of a registration (§12.5): the key
// tells the relying party how long its PINs have to be. Its output is a
// MinPINLengthOutput; there is none unless the key was configured for that
// relying party (SetMinPINLength). Nothing is sent to a key that does not list
// the extension, and in a getAssertion.
func MinPINLength() Extension { return minPINLength{} }

func (minPINLength) Identifier() string { return "minPinLength" }

func (e minPINLength) Input(c *ExtensionContext) (any, error) {
	if !c.Registering() || !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	return true, nil
}

func (minPINLength) Output(_ *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	n := MinPINLengthOutput(d.UintMax(math.MaxUint8))
	return n, d.Err()
}
