package webauthn

import "github.com/tapstone/fido/ctap2"

// others passes the program's own extensions on to the key.
func (r *registration) others() error {
	if list := r.options.Extensions.Others; len(list) > 0 {
		r.request.Extensions = append(r.request.Extensions, list...)
		r.after = append(r.after, func(c *ctap2.Credential) error {
			r.outputs.Others = c.Extensions
			return nil
		})
	}
	return nil
}

func (a *authentication) others() error {
	if list := a.options.Extensions.Others; len(list) > 0 {
		a.request.Extensions = append(a.request.Extensions, list...)
		a.after = append(a.after, func(assertion *ctap2.Assertion) { a.outputs.Others = assertion.Extensions })
	}
	return nil
}
