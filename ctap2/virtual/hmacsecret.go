package virtual

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

const hmacSecretID = "hmac-secret"

// hmacSecret is the extension of that identifier (§12.7). Every credential has its
// secrets, as the specification recommends, whether makeCredential was asked
// for them or not.
var hmacSecret = extension{
	id:    hmacSecretID,
	since: CTAP20,
	makeCredential: func(_ *Authenticator, _ *newCredential, input cbor.RawMessage) (any, error) {
		d := inputDecoder(input)
		asked := d.Bool()
		if err := d.end(); err != nil || !asked {
			return nil, err
		}
		return true, nil
	},
	getAssertion: func(a *Authenticator, ga *assertions, input cbor.RawMessage) (assertionOutput, error) {
		r, err := parseHMACSecret(input)
		if err != nil {
			return nil, err
		}
		if isFalse(ga.options.up) {
			return nil, refusal(ctap.StatusUnsupportedOption)
		}
		return a.decryptSalts(r)
	},
}

const hmacSecretMCID = "hmac-secret-mc"

// hmacSecretMC is the extension of that identifier (§12.8): hmac-secret for a
// credential that is being made, if that is asked for as well.
var hmacSecretMC = extension{
	id:    hmacSecretMCID,
	since: CTAP23,
	suits: func(cfg *Config) bool { return slices.Contains(cfg.Extensions, hmacSecretID) },
	makeCredential: func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		r, err := parseHMACSecret(input)
		if err != nil {
			return nil, err
		}
		if mc.outputs[hmacSecretID] != true {
			return nil, refusal(ctap.StatusMissingParameter)
		}
		return a.decryptSalts(r)
	},
}

// hmacSecretRequest is the input of hmac-secret to getAssertion, and of
// hmac-secret-mc.
type hmacSecretRequest struct {
	keyAgreement cbor.RawMessage // 0x01
	saltEnc      []byte          // 0x02
	saltAuth     []byte          // 0x03
	protocol     *uint64         // 0x04
}

func parseHMACSecret(input cbor.RawMessage) (*hmacSecretRequest, error) {
	r := new(hmacSecretRequest)
	d := inputDecoder(input)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.keyAgreement = d.rawMap()
		case 0x02:
			r.saltEnc = d.Bytes()
		case 0x03:
			r.saltAuth = d.Bytes()
		case 0x04:
			r.protocol = d.optionalUint()
		}
	}
	d.require(r.keyAgreement != nil, r.saltEnc != nil, r.saltAuth != nil)
	return r, d.end()
}

// salts is what remains of an hmac-secret input: one or two salts of 32 bytes
// each, and the secret that the output is encrypted with.
type salts struct {
	secret *pin.SharedSecret
	salts  pin.Secret
}

func (a *Authenticator) decryptSalts(r *hmacSecretRequest) (*salts, error) {
	number := uint64(pin.One) // what its absence means
	if r.protocol != nil {
		number = *r.protocol
	}
	p, ok := a.protocol(number)
	if !ok {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	secret, err := a.decapsulate(p, r.keyAgreement)
	if err != nil {
		return nil, err
	}
	if !secret.Verify(r.saltAuth, r.saltEnc) {
		secret.Wipe()
		return nil, refusal(ctap.StatusPINAuthInvalid)
	}
	plaintext, err := secret.Decrypt(r.saltEnc)
	if err != nil || len(plaintext) != ctap.HMACSecretSaltLength && len(plaintext) != 2*ctap.HMACSecretSaltLength {
		clear(plaintext)
		secret.Wipe()
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	return &salts{secret, pin.NewSecret(plaintext)}, nil
}

func (s *salts) wipe() {
	s.secret.Wipe()
	s.salts.Wipe()
}

func (s *salts) output(a *Authenticator, ga *assertions, c *credential) (any, error) {
	return s.created(a, c, ga.userVerified)
}

// created returns HMAC-SHA-256(CredRandom, salt) for each salt, encrypted.
func (s *salts) created(a *Authenticator, c *credential, userVerified bool) (any, error) {
	random, err := a.state.credRandom(c, userVerified)
	if err != nil {
		return nil, err
	}
	defer clear(random)
	both := s.salts.Bytes()
	var outputs []byte
	for i := 0; i < len(both); i += ctap.HMACSecretSaltLength {
		mac := hmac.New(sha256.New, random)
		mac.Write(both[i : i+ctap.HMACSecretSaltLength])
		outputs = mac.Sum(outputs)
	}
	defer clear(outputs)
	return s.secret.Encrypt(outputs)
}

// credRandom returns CredRandomWithUV or CredRandomWithoutUV of a credential.
// Both are derived from the master secret, which only a reset changes, and are
// in no credential ID and no record.
func (s *state) credRandom(c *credential, userVerified bool) ([]byte, error) {
	purpose := "CredRandomWithoutUV"
	if userVerified {
		purpose = "CredRandomWithUV"
	}
	return s.derive(purpose, c.rpIDHash[:], c.id)
}
