package virtual

import (
	"unicode/utf8"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/pin"
)

const pinComplexityPolicyID = "pinComplexityPolicy"

// pinComplexityPolicy is the extension of that identifier (§12.6), for the same
// relying parties as minPinLength.
var pinComplexityPolicy = extension{
	id:    pinComplexityPolicyID,
	since: CTAP23,
	suits: func(cfg *Config) bool { return !cfg.NoClientPIN },
	makeCredential: func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		asked, err := asksForPINPolicy(a, mc, input)
		if err != nil || !asked {
			return nil, err
		}
		return a.state.settings.PINComplexityPolicy, nil
	},
}

// hasPINComplexityPolicy reports whether the key knows a policy, be it on or
// off (§6.4, pinComplexityPolicy).
func (a *Authenticator) hasPINComplexityPolicy() bool {
	return a.cfg.PINComplexityPolicy || a.cfg.Level >= CTAP23 && a.options()[optionSetMinPINLength]
}

// trivial reports whether a PIN is one that the policy refuses: one character
// again and again, or neighbours in a row, up or down, such as 1234 or dcba.
func trivial(newPIN pin.Secret) bool {
	rest := newPIN.Bytes()
	previous, n := utf8.DecodeRune(rest)
	first := true
	var step rune
	for rest = rest[n:]; len(rest) > 0; rest = rest[n:] {
		var r rune
		r, n = utf8.DecodeRune(rest)
		if first {
			step, first = r-previous, false
		}
		if r-previous != step || step < -1 || step > 1 {
			return false
		}
		previous = r
	}
	return true
}
