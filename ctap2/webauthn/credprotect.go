package webauthn

import "github.com/tapstone/fido/ctap2"

// credProtectPolicy returns the policy that the name stands for; ok is false if
// there is none.
func (in *ExtensionInputs) credProtectPolicy() (policy ctap2.CredProtectPolicy, ok bool) {
	for policy := ctap2.UVOptional; policy <= ctap2.UVRequired; policy++ {
		if policy.String() == in.CredentialProtectionPolicy {
			return policy, true
		}
	}
	return 0, false
}

// checkCredProtect refuses an unknown policy.
func (in *ExtensionInputs) checkCredProtect() error {
	if _, known := in.credProtectPolicy(); !known && in.CredentialProtectionPolicy != "" {
		return refuse(ErrNotSupported, "unknown credential protection policy %.64q", in.CredentialProtectionPolicy)
	}
	return nil
}

// credProtect is credentialProtectionPolicy (CTAP §12.1).
func (r *registration) credProtect() error {
	in := &r.options.Extensions
	policy, ok := in.credProtectPolicy()
	if !ok {
		return nil
	}
	r.request.Extensions = append(r.request.Extensions, ctap2.CredProtect(policy))
	if !in.EnforceCredentialProtectionPolicy || policy == ctap2.UVOptional {
		return nil
	}
	if !r.info.HasExtension("credProtect") {
		return refuse(ErrConstraint, "the credential protection policy %v is enforced, and the key has none", policy)
	}
	r.after = append(r.after, func(c *ctap2.Credential) error {
		applied, err := ctap2.Output[ctap2.CredProtectPolicy](c.Extensions)
		if err != nil || applied < policy {
			return refuse(ErrNotAllowed, "the key made the credential %v without the policy %v, which is enforced", Base64URL(c.ID), policy)
		}
		return nil
	})
	return nil
}
