package ctap2

import "github.com/tapstone/fido/internal/cbor"

// PINComplexityPolicyOutput is the output of PINComplexityPolicy: whether the
// key enforces a policy beyond the length of PINs.
type PINComplexityPolicyOutput bool

type pinComplexityPolicy struct{}

// PINComplexityPolicy is the extension pinComplexityPolicy of a registration
// (§12.6, CTAP 2.3). Its output is a PINComplexityPolicyOutput; there is none
// unless the key was configured for that relying party (SetMinPINLength).
// Nothing is sent to a key that does not list the extension, and in a
// getAssertion.
func PINComplexityPolicy() Extension { return pinComplexityPolicy{} }

func (pinComplexityPolicy) Identifier() string { return "pinComplexityPolicy" }

func (e pinComplexityPolicy) Input(c *ExtensionContext) (any, error) {
	if !c.Registering() || !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	return true, nil
}

func (pinComplexityPolicy) Output(_ *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	enforced := PINComplexityPolicyOutput(d.Bool())
	return enforced, d.Err()
}
