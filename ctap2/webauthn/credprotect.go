package webauthn

import "github.com/tapstone/fido/ctap2"

// credProtect is credentialProtectionPolicy (CTAP §12.1). An unknown policy that
// is not enforced is ignored.
func (r *registration) credProtect() error {
	in := &r.options.Extensions
	if in.CredentialProtectionPolicy == "" {
		return nil
	}
	for policy := ctap2.UVOptional; policy <= ctap2.UVRequired; policy++ {
		if policy.String() != in.CredentialProtectionPolicy {
			continue
		}
		if in.EnforceCredentialProtectionPolicy && policy > ctap2.UVOptional && !r.info.HasExtension("credProtect") {
			return refuse(ErrConstraint, "the credential protection policy %v is enforced, and the key has none", policy)
		}
		r.request.Extensions = append(r.request.Extensions, ctap2.CredProtect(policy))
		return nil
	}
	if in.EnforceCredentialProtectionPolicy {
		return refuse(ErrNotSupported, "unknown credential protection policy %q", in.CredentialProtectionPolicy)
	}
	return nil
}
