package webauthn

import (
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

// HMACSecretSalts are the inputs of hmacGetSecret (CTAP §12.7): what the key
// makes secrets of, without the hashing of PRFInputs. That hashing keeps a site
// away from the secrets of programs: these salts are a program's own business,
// and neither they nor what comes of them are part of any JSON.
type HMACSecretSalts struct {
	Salt1 []byte // 32 bytes
	Salt2 []byte // 32 bytes, or nil
}

// HMACSecretOutputs are secrets, for the holder to wipe. A key makes others of
// the same salts with user verification than without.
type HMACSecretOutputs struct {
	Output1, Output2 pin.Secret // 32 bytes each; Output2 empty unless there was a second salt
}

// check refuses salts that no key takes, and two kinds in one request.
func (in *HMACSecretSalts) check(prf *PRFInputs) error {
	switch {
	case in == nil:
	case prf != nil:
		return refuse(ErrNotSupported, "prf and hmacGetSecret in one request")
	case len(in.Salt1) != 32 || in.Salt2 != nil && len(in.Salt2) != 32:
		return refuse(ErrType, "hmacGetSecret: a salt is not of 32 bytes")
	}
	return nil
}

func (a *authentication) hmacGetSecret() error {
	in := a.options.Extensions.HMACGetSecret
	if in == nil {
		return nil
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
