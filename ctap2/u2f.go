package ctap2

import (
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A Messenger is a Transport that carries U2F messages as well: an APDU with
// extended length in, the response with its status word at the end out. Through
// it, keys that speak CTAP1/U2F alone are behind MakeCredential and
// GetAssertion (§10), as far as they go: no discoverable credentials, no user
// verification, no extensions, ES256 only.
//
// A Transport that wraps another has a method Unwrap() Transport, through which
// the other's abilities are found.
type Messenger interface {
	Msg(ctx context.Context, apdu []byte) ([]byte, error)
}

// WithoutU2F makes Open refuse keys that speak CTAP1/U2F alone.
func WithoutU2F() Option { return func(a *Authenticator) { a.noU2F = true } }

// ability looks for an ability of a transport, or of what it wraps.
func ability[T any](t Transport) (found T, ok bool) {
	for t != nil {
		if found, ok = t.(T); ok {
			return found, true
		}
		wrapper, wraps := t.(interface{ Unwrap() Transport })
		if !wraps {
			return found, false
		}
		t = wrapper.Unwrap()
	}
	return found, false
}

// Instructions and parameters (FIDO U2F Raw Message Formats §3, §4, §5).
const (
	u2fRegister     = 0x01
	u2fAuthenticate = 0x02
	u2fVersion      = 0x03

	u2fEnforce   = 0x03 // enforce-user-presence-and-sign
	u2fDontAsk   = 0x08 // dont-enforce-user-presence-and-sign
	u2fCheckOnly = 0x07

	u2fMaxHandle = 255
	u2fPublicKey = 65 // an uncompressed point

	u2fPoll     = 200 * time.Millisecond // between two questions whether someone has touched
	u2fPatience = 30 * time.Second
)

// A statusWord is what a U2F response ends with, other than 9000.
type statusWord uint16

const (
	swOK                     = 0x9000
	swConditions  statusWord = 0x6985 // a touch is needed
	swWrongData   statusWord = 0x6A80 // not a handle of this key
	swWrongLength statusWord = 0x6700 // some keys say this of a handle instead
)

func (s statusWord) Error() string { return fmt.Sprintf("status word %04X", uint16(s)) }

// openU2F asks a key that does not know getInfo whether it speaks U2F, and
// says of it what getInfo would.
func (c *ceremony) openU2F() error {
	reply, err := c.u2f(u2fVersion, 0, nil)
	if err != nil {
		return err
	}
	if string(reply) != "U2F_V2" {
		return fmt.Errorf("ctap2: U2F version %q: %w", reply, ErrUnsupported)
	}
	c.info = &Info{
		Versions:                 []string{"U2F_V2"},
		Options:                  map[string]bool{OptionUserPresence: true},
		MaxCredentialCountInList: 1,
		MaxCredentialIDLength:    u2fMaxHandle,
		Algorithms:               []cose.Algorithm{cose.ES256},
		AttestationFormats:       []string{"fido-u2f"},
	}
	c.a.u2f = true
	c.a.info.Store(c.info)
	return nil
}

// u2f sends one request and returns the response without its status word.
func (c *ceremony) u2f(instruction, p1 byte, data []byte) ([]byte, error) {
	messenger, ok := ability[Messenger](c.a.transport)
	if !ok {
		return nil, fmt.Errorf("ctap2: U2F over this transport: %w", ErrUnsupported)
	}
	apdu := []byte{0x00, instruction, p1, 0x00, 0x00, byte(len(data) >> 8), byte(len(data))}
	apdu = append(append(apdu, data...), 0x00, 0x00)
	if len(data) == 0 {
		apdu = []byte{0x00, instruction, p1, 0x00, 0x00, 0x00, 0x00}
	}
	reply, err := messenger.Msg(c.ctx, apdu)
	if err != nil {
		return nil, fmt.Errorf("ctap2: U2F: %w", err)
	}
	if len(reply) < 2 {
		return nil, fmt.Errorf("ctap2: U2F response of %d bytes: %w", len(reply), ErrMalformed)
	}
	reply, word := reply[:len(reply)-2], binary.BigEndian.Uint16(reply[len(reply)-2:])
	if word != swOK {
		return nil, fmt.Errorf("ctap2: U2F: %w", statusWord(word))
	}
	return reply, nil
}

// u2fTouch repeats a request until someone has touched the key. U2F keys do not
// wait themselves, nor do they give up.
func (c *ceremony) u2fTouch(instruction, p1 byte, data []byte, touch Touch) ([]byte, error) {
	defer c.stopWaiting()
	c.touch = touch
	patience := time.NewTimer(u2fPatience)
	defer patience.Stop()
	for {
		reply, err := c.u2f(instruction, p1, data)
		if !errors.Is(err, swConditions) {
			return reply, err
		}
		c.keepalive(ctap.KeepaliveUPNeeded)
		pause := time.NewTimer(u2fPoll)
		select {
		case <-pause.C:
		case <-patience.C:
			err = ErrUserActionTimeout
		case <-c.ctx.Done():
			err = context.Cause(c.ctx)
		case <-c.a.life.Done():
			err = ErrClosed
		}
		pause.Stop()
		if !errors.Is(err, swConditions) {
			return nil, fmt.Errorf("ctap2: U2F: %w", err)
		}
	}
}

// u2fKnows asks, without a touch, whether the key made a handle.
func (c *ceremony) u2fKnows(application [32]byte, handle []byte) (bool, error) {
	if len(handle) > u2fMaxHandle {
		return false, nil
	}
	_, err := c.u2f(u2fAuthenticate, u2fCheckOnly, u2fAuthentication(make([]byte, 32), application, handle))
	switch {
	case err == nil || errors.Is(err, swConditions):
		return true, nil
	case errors.Is(err, swWrongData) || errors.Is(err, swWrongLength):
		return false, nil
	}
	return false, err
}

func u2fAuthentication(challenge []byte, application [32]byte, handle []byte) []byte {
	return slices.Concat(challenge, application[:], []byte{byte(len(handle))}, handle)
}

// registerU2F is makeCredential on a U2F key (§10.2).
func (c *ceremony) registerU2F(r *MakeCredentialRequest) (*Credential, error) {
	refuse := func(s Status) (*Credential, error) {
		return nil, &Error{Command: ctap.CmdMakeCredential, Status: s}
	}
	switch {
	case !slices.Contains(r.Algorithms, cose.ES256):
		return refuse(ErrUnsupportedAlgorithm)
	case r.ResidentKey || r.UserVerification == Required || r.Token != nil:
		return refuse(ErrUnsupportedOption)
	}
	application := sha256.Sum256([]byte(r.RP.ID))
	for _, d := range r.ExcludeList {
		known, err := c.u2fKnows(application, d.ID)
		if err != nil {
			return nil, err
		}
		if known {
			if err := c.touchU2F(TouchPresence); err != nil {
				return nil, err
			}
			return refuse(ErrCredentialExcluded)
		}
	}
	reply, err := c.u2fTouch(u2fRegister, 0, slices.Concat(r.ClientDataHash, application[:]), TouchPresence)
	if err != nil {
		return nil, err
	}
	credential, err := parseRegistration(reply, application)
	if err != nil {
		return nil, fmt.Errorf("ctap2: reply to U2F_REGISTER: %w", err)
	}
	return credential, nil
}

// touchU2F waits for a touch by a registration that is thrown away (§10.2).
func (c *ceremony) touchU2F(touch Touch) error {
	_, err := c.u2fTouch(u2fRegister, 0, make([]byte, 64), touch)
	return err
}

// parseRegistration makes of a registration response (FIDO U2F Raw Message
// Formats §4.3) what a CTAP2 key would have answered.
func parseRegistration(reply []byte, application [32]byte) (*Credential, error) {
	const reserved = 0x05
	header := 1 + u2fPublicKey + 1
	if len(reply) < header || reply[0] != reserved || len(reply) < header+int(reply[header-1]) {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(reply))
	}
	point, handle := reply[1:1+u2fPublicKey], reply[header:header+int(reply[header-1])]
	rest := reply[header+len(handle):]
	var certificate asn1.RawValue
	signature, err := asn1.Unmarshal(rest, &certificate)
	if err != nil || len(signature) == 0 || len(handle) == 0 || point[0] != 0x04 {
		return nil, fmt.Errorf("%w: key handle, certificate or signature", ErrMalformed)
	}
	key := &cose.Key{Type: cose.EC2, Algorithm: cose.ES256, Curve: cose.P256, X: point[1:33], Y: point[33:]}
	encoded, err := key.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	data := append(application[:], byte(FlagUserPresent|FlagAttestedCredentialData))
	data = append(data, make([]byte, 4+16)...) // signCount, aaguid
	data = binary.BigEndian.AppendUint16(data, uint16(len(handle)))
	data = append(append(data, handle...), encoded...)
	credential := &Credential{Format: "fido-u2f", AuthData: new(AuthenticatorData)}
	if err := credential.AuthData.parse(data, cbor.Strict); err != nil {
		return nil, err
	}
	credential.ID, credential.PublicKey = credential.AuthData.CredentialID, credential.AuthData.PublicKey
	credential.AttestationStatement, err = cbor.Marshal(map[string]any{
		"x5c": [][]byte{certificate.FullBytes},
		"sig": signature,
	})
	return credential, err
}

// signInU2F is getAssertion on a U2F key (§10.3).
func (c *ceremony) signInU2F(r *GetAssertionRequest) ([]*Assertion, error) {
	if r.UserVerification == Required || r.Token != nil {
		return nil, &Error{Command: ctap.CmdGetAssertion, Status: ErrUnsupportedOption}
	}
	application := sha256.Sum256([]byte(r.RPID))
	for _, d := range r.AllowList {
		known, err := c.u2fKnows(application, d.ID)
		if err != nil {
			return nil, err
		}
		if !known {
			continue
		}
		request := u2fAuthentication(r.ClientDataHash, application, d.ID)
		var reply []byte
		if r.Silent {
			reply, err = c.u2f(u2fAuthenticate, u2fDontAsk, request)
		} else {
			reply, err = c.u2fTouch(u2fAuthenticate, u2fEnforce, request, TouchPresence)
		}
		if err != nil {
			return nil, err
		}
		// User presence, counter and signature (FIDO U2F Raw Message Formats
		// §5.4): what was signed is authenticator data already.
		if len(reply) <= 5 {
			return nil, fmt.Errorf("ctap2: reply to U2F_AUTHENTICATE: %w: %d bytes", ErrMalformed, len(reply))
		}
		a := &Assertion{
			Credential: CredentialDescriptor{ID: slices.Clone(d.ID), Type: publicKeyType},
			AuthData:   new(AuthenticatorData),
			Signature:  reply[5:],
		}
		data := slices.Concat(application[:], []byte{reply[0] & byte(FlagUserPresent)}, reply[1:5])
		if err := a.AuthData.parse(data, cbor.Strict); err != nil {
			return nil, malformed(ctap.CmdGetAssertion, err)
		}
		return []*Assertion{a}, nil
	}
	return nil, c.noCredentials(r.Silent)
}
