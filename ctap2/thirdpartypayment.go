package ctap2

import "github.com/tapstone/fido/internal/cbor"

// ThirdPartyPaymentOutput is the output of ThirdPartyPayment in an assertion:
// whether the credential was made with the extension.
type ThirdPartyPaymentOutput bool

type thirdPartyPayment struct{}

// ThirdPartyPayment is the extension thirdPartyPayment (§12.9, CTAP 2.2). In a
// registration it marks the credential as one that others than its relying
// party may ask to confirm a payment, and has no output. In an assertion it
// asks for that mark: its output is a ThirdPartyPaymentOutput. Nothing is sent
// to a key that does not list the extension.
func ThirdPartyPayment() Extension { return thirdPartyPayment{} }

func (thirdPartyPayment) Identifier() string { return "thirdPartyPayment" }

func (e thirdPartyPayment) Input(c *ExtensionContext) (any, error) {
	if !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	return true, nil
}

func (thirdPartyPayment) Output(_ *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	marked := ThirdPartyPaymentOutput(d.Bool())
	return marked, d.Err()
}
