package webauthn

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// PRFInputs are the inputs of prf (WebAuthn §10.1.4), a pseudo-random function
// that each credential has its own of: secrets to encrypt with, which take the
// key to have again.
//
// The function is the one that keys evaluate after user verification. Where it
// is evaluated the user is verified, whatever UserVerification says, if the key
// is set up for that; otherwise there are no results.
type PRFInputs struct {
	// Eval is what to evaluate the function for. In a registration not all keys
	// do: then a sign-in gets the results.
	Eval *PRFValues `json:"eval,omitempty"`
	// EvalByCredential has the values for some of a sign-in's AllowCredentials
	// instead, by their IDs in base64url without padding: other spellings, and
	// IDs that are not in AllowCredentials, are refused with ErrSyntax.
	EvalByCredential map[string]PRFValues `json:"evalByCredential,omitempty"`
}

// PRFValues are one or two inputs of any length. First may be empty, and is
// refused with ErrType if it is nil.
type PRFValues struct {
	First  Base64URL `json:"first"`
	Second Base64URL `json:"second,omitzero"` // nil: there is none
}

// PRFOutputs are the outputs of prf.
type PRFOutputs struct {
	// Enabled says, in a registration, whether the new credential has the
	// function.
	Enabled *bool
	// Results are nil if there are none.
	Results *PRFResults
}

// PRFResults are secrets, for the holder to wipe.
type PRFResults struct {
	First, Second pin.Secret // 32 bytes each; Second empty unless there was a second input
}

// salts returns what the key is given in place of the values, which keeps sites
// away from the secrets of other programs.
func (v *PRFValues) salts() [][]byte {
	var list [][]byte
	for _, value := range []Base64URL{v.First, v.Second} {
		if value == nil {
			break
		}
		salt := sha256.Sum256(slices.Concat([]byte("WebAuthn PRF\x00"), value))
		list = append(list, salt[:])
	}
	return list
}

func (o object) prf() *PRFInputs {
	o, ok := o.object("prf")
	if !ok {
		return nil
	}
	in := new(PRFInputs)
	if eval, ok := o.object("eval"); ok {
		in.Eval = new(PRFValues)
		*in.Eval = eval.prfValues()
	}
	if by, ok := o.object("evalByCredential"); ok {
		in.EvalByCredential = make(map[string]PRFValues, len(by.members))
		for _, id := range slices.Sorted(maps.Keys(by.members)) {
			by.require(id)
			if values, ok := by.object(id); ok {
				in.EvalByCredential[id] = values.prfValues()
			}
		}
	}
	return in
}

func (o object) prfValues() (v PRFValues) {
	o.require("first")
	o.read("first", &v.First)
	o.read("second", &v.Second)
	return v
}

func (v *PRFValues) check() error {
	if v != nil && v.First == nil {
		return refuse(ErrType, "prf: no first value")
	}
	return nil
}

func (in *PRFInputs) checkRegistration() error {
	switch {
	case in == nil:
		return nil
	case in.EvalByCredential != nil:
		return refuse(ErrNotSupported, "prf.evalByCredential belongs in a sign-in")
	}
	return in.Eval.check()
}

// checkAuthentication checks, among others, that each key of EvalByCredential is
// the only spelling of an allowed ID.
func (in *PRFInputs) checkAuthentication(allowed []CredentialDescriptor) error {
	switch {
	case in == nil:
		return nil
	case len(in.EvalByCredential) > 0 && len(allowed) == 0:
		return refuse(ErrNotSupported, "prf.evalByCredential takes allowCredentials")
	}
	ids := make(map[string]bool, len(allowed))
	for _, d := range allowed {
		ids[d.ID.String()] = true
	}
	for id, values := range in.EvalByCredential {
		if !ids[id] {
			return refuse(ErrSyntax, "prf.evalByCredential has the key %.64q, which is the id of none of allowCredentials", id)
		}
		if err := values.check(); err != nil {
			return err
		}
	}
	return in.Eval.check()
}

// hmacSecret is prf and hmacCreateSecret in a registration: both are the
// extension hmac-secret.
func (r *registration) hmacSecret() error {
	in := &r.options.Extensions
	if in.PRF == nil && !in.HMACCreateSecret {
		return nil
	}
	r.request.Extensions = append(r.request.Extensions, ctap2.HMACSecret())
	enabled := new(bool)
	if in.HMACCreateSecret {
		r.outputs.HMACCreateSecret = enabled
	}
	evaluate := false
	if in.PRF != nil {
		r.outputs.PRF = &PRFOutputs{Enabled: enabled}
		evaluate = in.PRF.Eval != nil && r.info.HasExtension("hmac-secret-mc") && verifies(r.info)
	}
	if evaluate {
		r.request.UserVerification = ctap2.Required
		r.request.Extensions = append(r.request.Extensions, ctap2.HMACSecretMC(in.PRF.Eval.salts()...))
	}
	r.after = append(r.after, func(c *ctap2.Credential) error {
		has, err := ctap2.Output[ctap2.HMACSecretEnabled](c.Extensions)
		*enabled = err == nil && bool(has)
		if evaluate {
			r.outputs.PRF.Results = results(c.Extensions)
		}
		return nil
	})
	return nil
}

// prf is prf in a sign-in.
func (a *authentication) prf() error {
	in := a.options.Extensions.PRF
	if in == nil {
		return nil
	}
	a.outputs.PRF = new(PRFOutputs)
	if in.Eval == nil && len(in.EvalByCredential) == 0 || !a.info.HasExtension("hmac-secret") || !verifies(a.info) {
		return nil
	}
	a.request.UserVerification = ctap2.Required
	a.before = append(a.before, func() error {
		values := in.Eval
		if len(in.EvalByCredential) > 0 {
			id, err := a.answering()
			if err != nil {
				return err
			}
			if own, ok := in.EvalByCredential[id.String()]; ok {
				values = &own
			}
		}
		if values == nil {
			return nil
		}
		a.request.Extensions = append(a.request.Extensions, ctap2.HMACSecret(values.salts()...))
		a.after = append(a.after, func(assertion *ctap2.Assertion) {
			a.outputs.PRF.Results = results(assertion.Extensions)
		})
		return nil
	})
	return nil
}

// answering returns the ID of the allowed credential that will sign, and makes
// it the only one that is allowed; nil if the key holds none of them. Salts go
// out with the request, so it has to be known before.
func (a *authentication) answering() (Base64URL, error) {
	list := a.request.AllowList
	if len(list) > 1 {
		if err := a.authorize(); err != nil {
			return nil, err
		}
		found, ok, err := a.find(a.key, &ctap2.GetAssertionRequest{RPID: a.request.RPID, AllowList: list, UserVerification: ctap2.Discouraged, Token: a.request.Token})
		if err == nil && !ok && a.request.Token == nil { // perhaps one that the key does not admit to
			found, ok, err = a.find(a.key, &ctap2.GetAssertionRequest{RPID: a.request.RPID, AllowList: list, UserVerification: ctap2.Required})
		}
		if err != nil {
			return nil, a.failure(err)
		}
		if !ok {
			return nil, nil
		}
		a.request.AllowList = []ctap2.CredentialDescriptor{found}
	}
	return a.request.AllowList[0].ID, nil
}

// results returns the outputs of hmac-secret or hmac-secret-mc as those of prf.
func results(outputs ctap2.Outputs) *PRFResults {
	secrets, err := ctap2.Output[*ctap2.HMACSecretOutput](outputs)
	if err != nil {
		return nil
	}
	return &PRFResults{First: secrets.Output1, Second: secrets.Output2}
}

// wipeSecrets overwrites what the extensions returned along with a credential or
// an assertion that nobody gets.
func wipeSecrets(outputs ctap2.Outputs) {
	if secrets, err := ctap2.Output[*ctap2.HMACSecretOutput](outputs); err == nil {
		secrets.Wipe()
	}
}
