package webauthn

import "github.com/tapstone/fido/ctap2"

// Watch shows what comes of requests to a key, until it is called off.
func Watch(registered func(*ctap2.Credential), signed func(*ctap2.Assertion)) (off func()) {
	registrations, authentications := registrationExtensions, authenticationExtensions
	registrationExtensions = append(registrations[:len(registrations):len(registrations)], func(r *registration) error {
		r.after = append(r.after, func(c *ctap2.Credential) error {
			registered(c)
			return nil
		})
		return nil
	})
	authenticationExtensions = append(authentications[:len(authentications):len(authentications)], func(a *authentication) error {
		a.after = append(a.after, signed)
		return nil
	})
	return func() { registrationExtensions, authenticationExtensions = registrations, authentications }
}

// Salts are what the key is given in place of the values.
func Salts(v *PRFValues) [][]byte { return v.salts() }
