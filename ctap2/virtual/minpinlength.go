package virtual

import (
	"slices"

	"github.com/tapstone/fido/internal/cbor"
)

const minPINLengthID = "minPinLength"

// minPINLength is the extension of that identifier (§12.5). Relying parties
// that setMinPINLength did not name get no output.
var minPINLength = extension{
	id:    minPINLengthID,
	since: CTAP21,
	makeCredential: func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		asked, err := asksForPINPolicy(a, mc, input)
		if err != nil || !asked {
			return nil, err
		}
		return a.state.settings.MinPINLength, nil
	},
}

// asksForPINPolicy reports whether the input of minPinLength or
// pinComplexityPolicy asks for its output, and the relying party may have it.
func asksForPINPolicy(a *Authenticator, mc *newCredential, input cbor.RawMessage) (bool, error) {
	d := inputDecoder(input)
	asked := d.Bool()
	if err := d.end(); err != nil {
		return false, err
	}
	return asked && slices.Contains(a.state.settings.MinPINLengthRPIDs, *mc.rpID), nil
}
