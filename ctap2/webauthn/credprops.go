package webauthn

import (
	"slices"

	"github.com/tapstone/fido/ctap2"
)

// CredPropsOutputs say what is known of a new credential (WebAuthn §10.1.3).
type CredPropsOutputs struct {
	RK *bool // whether it is discoverable; nil if that is not known
}

func (r *registration) credProps() error {
	if !r.options.Extensions.CredProps {
		return nil
	}
	r.outputs.CredProps = new(CredPropsOutputs)
	rk := r.request.ResidentKey
	// Some keys of CTAP 2.0 make discoverable credentials unasked.
	if rk || !r.info.Options[ctap2.OptionResidentKey] || newerThan20(r.info) {
		r.outputs.CredProps.RK = &rk
	}
	return nil
}

func newerThan20(info *ctap2.Info) bool {
	return slices.ContainsFunc([]string{"FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_2", "FIDO_2_3"}, info.HasVersion)
}
