package webauthn

// CredPropsOutputs say what is known of a new credential (WebAuthn §10.1.3).
type CredPropsOutputs struct {
	RK bool // whether it is discoverable
}

func (r *registration) credProps() error {
	if r.options.Extensions.CredProps {
		r.outputs.CredProps = &CredPropsOutputs{RK: r.request.ResidentKey}
	}
	return nil
}
