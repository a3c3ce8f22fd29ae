package webauthn

import "github.com/tapstone/fido/ctap2"

func (r *registration) credBlob() error {
	blob := r.options.Extensions.CredBlob
	if blob == nil {
		return nil
	}
	stored := new(bool)
	r.outputs.CredBlob = stored
	// One that is too long is not stored; it is no reason to make no credential.
	if len(blob) > r.info.MaxCredBlobLength {
		return nil
	}
	r.request.Extensions = append(r.request.Extensions, ctap2.CredBlob(blob))
	r.after = append(r.after, func(c *ctap2.Credential) error {
		said, err := ctap2.Output[ctap2.CredBlobStored](c.Extensions)
		*stored = err == nil && bool(said)
		return nil
	})
	return nil
}

func (a *authentication) getCredBlob() error {
	if !a.options.Extensions.GetCredBlob {
		return nil
	}
	a.request.Extensions = append(a.request.Extensions, ctap2.CredBlob(nil))
	a.after = append(a.after, func(assertion *ctap2.Assertion) {
		if blob, err := ctap2.Output[ctap2.CredBlobOutput](assertion.Extensions); err == nil {
			a.outputs.GetCredBlob = append(Base64URL{}, blob...)
		}
	})
	return nil
}
