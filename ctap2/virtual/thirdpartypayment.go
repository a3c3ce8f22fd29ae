package virtual

import "github.com/tapstone/fido/internal/cbor"

const thirdPartyPaymentID = "thirdPartyPayment"

// thirdPartyPayment is the extension of that identifier (§12.9). It has no
// output but in assertions: whether the credential was made with it.
var thirdPartyPayment = extension{
	id:    thirdPartyPaymentID,
	since: CTAP23,
	makeCredential: func(_ *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		d := inputDecoder(input)
		mc.cred.payment = d.Bool()
		return nil, d.end()
	},
	getAssertion: func(_ *Authenticator, _ *assertions, input cbor.RawMessage) (assertionOutput, error) {
		d := inputDecoder(input)
		asked := d.Bool()
		if err := d.end(); err != nil || !asked {
			return nil, err
		}
		return outputFunc(func(_ *Authenticator, _ *assertions, c *credential) (any, error) {
			return c.payment, nil
		}), nil
	},
}
