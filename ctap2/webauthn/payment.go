package webauthn

import "github.com/tapstone/fido/ctap2"

// PaymentInputs are the inputs of payment (Secure Payment Confirmation §5), as
// far as a key knows of payments (CTAP §12.9, thirdPartyPayment). A registration
// marks the credential as one that others than its relying party may ask to
// confirm a payment. A sign-in asks for that mark, which the key puts into the
// authenticator data. Client data of type "payment.get", which tell of a
// payment, are not made here: a person has to be shown what they say.
type PaymentInputs struct {
	IsPayment bool `json:"isPayment"`
}

func (o object) payment() *PaymentInputs {
	o, ok := o.object("payment")
	if !ok {
		return nil
	}
	in := new(PaymentInputs)
	o.read("isPayment", &in.IsPayment)
	return in
}

func (in *PaymentInputs) extensions(list []ctap2.Extension) []ctap2.Extension {
	if in != nil && in.IsPayment {
		list = append(list, ctap2.ThirdPartyPayment())
	}
	return list
}

func (r *registration) payment() error {
	r.request.Extensions = r.options.Extensions.Payment.extensions(r.request.Extensions)
	return nil
}

func (a *authentication) payment() error {
	a.request.Extensions = a.options.Extensions.Payment.extensions(a.request.Extensions)
	return nil
}
