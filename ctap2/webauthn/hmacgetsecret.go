package webauthn

import (
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// HMACSecretSalts are the inputs of hmacGetSecret (CTAP §12.7): what the key
// makes secrets of, without the hashing of PRFInputs.
type HMACSecretSalts struct {
	Salt1 Base64URL `json:"salt1"`          // 32 bytes
	Salt2 Base64URL `json:"salt2,omitzero"` // 32 bytes, or absent
}

// HMACSecretOutputs are secrets, for the holder to wipe. A key makes others of
// the same salts with user verification than without.
type HMACSecretOutputs struct {
	Output1, Output2 pin.Secret // 32 bytes each; Output2 empty unless there was a second salt
}

func (o object) hmacGetSecret() *HMACSecretSalts {
	o, ok := o.object("hmacGetSecret")
	if !ok {
		return nil
	}
	in := new(HMACSecretSalts)
	o.require("salt1")
	o.read("salt1", &in.Salt1)
	o.read("salt2", &in.Salt2)
	return in
}

func (a *authentication) hmacGetSecret() error {
	in := a.options.Extensions.HMACGetSecret
	if in == nil {
		return nil
	}
	if len(in.Salt1) != 32 || in.Salt2 != nil && len(in.Salt2) != 32 {
		return refuse(ErrType, "hmacGetSecret: a salt is not of 32 bytes")
	}
	salts := [][]byte{in.Salt1}
	if in.Salt2 != nil {
		salts = append(salts, in.Salt2)
	}
	a.request.Extensions = append(a.request.Extensions, ctap2.HMACSecret(salts...))
	a.after = append(a.after, func(assertion *ctap2.Assertion) {
		if secrets, err := ctap2.Output[*ctap2.HMACSecretOutput](assertion.Extensions); err == nil {
			a.outputs.HMACGetSecret = &HMACSecretOutputs{secrets.Output1, secrets.Output2}
		}
	})
	return nil
}
