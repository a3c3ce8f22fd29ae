package webauthn

import "github.com/tapstone/fido/ctap2"

// minPINLength and pinComplexityPolicy have no output of the client's: the key's
// is signed, in the authenticator data.
func (r *registration) minPINLength() error {
	if r.options.Extensions.MinPINLength {
		r.request.Extensions = append(r.request.Extensions, ctap2.MinPINLength())
	}
	return nil
}

func (r *registration) pinComplexityPolicy() error {
	if r.options.Extensions.PINComplexityPolicy {
		r.request.Extensions = append(r.request.Extensions, ctap2.PINComplexityPolicy())
	}
	return nil
}
