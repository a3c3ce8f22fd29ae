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
// verification, no extensions, ES256 only. It is looked up with [As].
type Messenger interface {
	Msg(ctx context.Context, apdu []byte) ([]byte, error)
}

// WithoutU2F makes Open refuse keys that speak CTAP1/U2F alone.
func WithoutU2F() Option { return func(a *Authenticator) { a.noU2F = true } }

// As returns t, or what it wraps, as a T: the first one that is. It is how a
// program reaches what a transport can do besides carrying messages, through
// whatever is wrapped around it:
//
//	if device, ok := ctap2.As[*hid.Device](key.Transport()); ok {
//		err = device.Wink(ctx)
//	}
//
// A Transport that wraps another has a method Unwrap() Transport for it.
func As[T any](t Transport) (found T, ok bool) {
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

// Version, instructions and parameters (FIDO U2F Raw Message Formats §3, §4, §5,
// §6).
const (
	u2fVersion = "U2F_V2"

	u2fInsRegister     = 0x01
	u2fInsAuthenticate = 0x02
	u2fInsVersion      = 0x03

	u2fEnforce   = 0x03 // enforce-user-presence-and-sign
	u2fDontAsk   = 0x08 // dont-enforce-user-presence-and-sign
	u2fCheckOnly = 0x07

	u2fMaxHandle = 255
	u2fPublicKey = 65 // an uncompressed point

	u2fPoll     = 200 * time.Millisecond // between two questions whether someone has touched
	u2fPatience = 30 * time.Second
)

// A U2FStatus is the status word of a U2F response, other than 9000 (FIDO U2F
// Raw Message Formats §3.3). It is an error value, as a [Status] is.
type U2FStatus uint16

// Status words.
const (
	ErrU2FConditionsNotSatisfied U2FStatus = 0x6985 // a touch is needed
	ErrU2FWrongData              U2FStatus = 0x6A80 // not a key handle of this key, or not for this application
	ErrU2FWrongLength            U2FStatus = 0x6700 // some keys say this of a key handle instead
	ErrU2FInsNotSupported        U2FStatus = 0x6D00
	ErrU2FClaNotSupported        U2FStatus = 0x6E00
)

const u2fOK = 0x9000

// Error returns the status word and what it means.
func (s U2FStatus) Error() string {
	text := map[U2FStatus]string{
		ErrU2FConditionsNotSatisfied: ": the key waits for a touch",
		ErrU2FWrongData:              ": the key does not know this key handle",
		ErrU2FWrongLength:            ": wrong length",
		ErrU2FInsNotSupported:        ": the key does not know this command",
		ErrU2FClaNotSupported:        ": the key does not know this class of commands",
	}[s]
	return fmt.Sprintf("status word %04X%s", uint16(s), text)
}

// A U2FRegistration is the response to U2F_REGISTER (FIDO U2F Raw Message
// Formats §4.3).
type U2FRegistration struct {
	PublicKey   *cose.Key // ES256
	KeyHandle   []byte    // at most 255 bytes
	Certificate []byte    // X.509 in DER, the attestation certificate
	Signature   []byte    // by the certificate's key, ECDSA in ASN.1
}

// Credential returns the registration as MakeCredential does from a key that
// speaks U2F alone (§10.2). Package attestation verifies it:
//
//	credential, err := registration.Credential(application)
//	…
//	statement, err := attestation.Verify(credential, challenge[:])
//
// It refuses one without a public key, or with a key handle of other than 1 to
// 255 bytes, with ErrInvalidRequest.
func (r *U2FRegistration) Credential(application [32]byte) (*Credential, error) {
	if len(r.KeyHandle) == 0 || len(r.KeyHandle) > u2fMaxHandle {
		return nil, invalid("key handle of %d bytes", len(r.KeyHandle))
	}
	key, err := r.PublicKey.MarshalCBOR()
	if err != nil {
		return nil, invalid("public key: %v", err)
	}
	data := append(application[:], byte(FlagUserPresent|FlagAttestedCredentialData))
	data = append(data, make([]byte, 4+16)...) // signCount, aaguid
	data = binary.BigEndian.AppendUint16(data, uint16(len(r.KeyHandle)))
	data = append(append(data, r.KeyHandle...), key...)
	credential := &Credential{Format: "fido-u2f", AuthData: new(AuthenticatorData)}
	if err := credential.AuthData.parse(data, cbor.Strict); err != nil {
		return nil, fmt.Errorf("ctap2: U2F registration: %w", err)
	}
	credential.ID, credential.PublicKey = credential.AuthData.CredentialID, credential.AuthData.PublicKey
	credential.AttestationStatement, err = cbor.Marshal(map[string]any{
		"x5c": [][]byte{r.Certificate},
		"sig": r.Signature,
	})
	return credential, err
}

// A U2FAuthentication is the response to U2F_AUTHENTICATE (FIDO U2F Raw Message
// Formats §5.4).
type U2FAuthentication struct {
	UserPresent bool
	Counter     uint32
	Signature   []byte // ECDSA in ASN.1
	// Raw is the response as it came, less its status word: a byte of user
	// presence, the counter, the signature.
	Raw []byte
}

// Verify checks the signature over what U2FAuthenticate was given and what came
// back with it (FIDO U2F Raw Message Formats §5.4), with the public key of the
// registration. It returns nil, an error of package cose, or ErrInvalidRequest if
// there is no key or no Raw. Whether somebody was there, and the counter has
// grown, is the caller's to check.
func (a *U2FAuthentication) Verify(key *cose.Key, challenge, application [32]byte) error {
	const signed = 1 + 4 // user presence, counter
	switch {
	case len(a.Raw) < signed:
		return invalid("no Raw")
	case key == nil:
		return invalid("no key")
	}
	return key.Verify(slices.Concat(application[:], a.Raw[:signed], challenge[:]), a.Signature)
}

// U2FVersion asks a key which version of U2F it speaks: "U2F_V2" (FIDO U2F Raw
// Message Formats §6). It and the other methods for U2F messages serve keys that
// speak U2F, alone or next to CTAP2, behind a Transport that is a [Messenger];
// otherwise, also where getInfo does not list the version, the error wraps
// ErrUnsupported and no U2F message is sent. MakeCredential and GetAssertion need none
// of them: they are for whoever keeps U2F key handles.
func (a *Authenticator) U2FVersion(ctx context.Context) (string, error) {
	c, err := a.beginU2F(ctx)
	if err != nil {
		return "", err
	}
	defer c.end()
	reply, err := c.u2f(u2fInsVersion, 0, nil)
	return string(reply), err
}

// U2FRegister makes a key pair for an application, both parameters being SHA-256
// hashes (FIDO U2F Raw Message Formats §4). It waits for a touch, for 30 seconds
// at most: then the error wraps ErrUserActionTimeout.
func (a *Authenticator) U2FRegister(ctx context.Context, challenge, application [32]byte) (*U2FRegistration, error) {
	c, err := a.beginU2F(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return c.u2fRegister(challenge[:], application)
}

// U2FAuthenticate signs with the key pair of a key handle (FIDO U2F Raw Message
// Formats §5, enforce-user-presence-and-sign). It waits for a touch as
// U2FRegister does. A key handle of another key, or for another application, is
// ErrU2FWrongData, from some keys ErrU2FWrongLength.
func (a *Authenticator) U2FAuthenticate(ctx context.Context, challenge, application [32]byte, keyHandle []byte) (*U2FAuthentication, error) {
	if len(keyHandle) == 0 || len(keyHandle) > u2fMaxHandle {
		return nil, invalid("key handle of %d bytes", len(keyHandle))
	}
	c, err := a.beginU2F(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return c.u2fAuthenticate(challenge[:], application, keyHandle, true)
}

// U2FCheck reports, without a touch, whether a key handle is this key's and for
// this application (FIDO U2F Raw Message Formats §5.1, check-only).
func (a *Authenticator) U2FCheck(ctx context.Context, application [32]byte, keyHandle []byte) (bool, error) {
	c, err := a.beginU2F(ctx)
	if err != nil {
		return false, err
	}
	defer c.end()
	return c.u2fKnows(application, keyHandle)
}

// beginU2F is begin for U2F's own messages. A key that speaks CTAP2 lists U2F
// among its versions, unless alwaysUv is on (§7.2.4).
func (a *Authenticator) beginU2F(ctx context.Context) (*ceremony, error) {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	if !c.info.HasVersion(u2fVersion) && !c.fresh { // another program may have changed that
		_, err = c.fetchInfo()
	}
	if err == nil && !c.info.HasVersion(u2fVersion) {
		err = fmt.Errorf("ctap2: U2F: %w by this key", ErrUnsupported)
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// openU2F asks a key that does not know getInfo whether it speaks U2F, and
// says of it what getInfo would.
func (c *ceremony) openU2F() error {
	reply, err := c.u2f(u2fInsVersion, 0, nil)
	if err != nil {
		return err
	}
	if string(reply) != u2fVersion {
		return fmt.Errorf("ctap2: U2F version %q: %w", reply, ErrUnsupported)
	}
	c.info = &Info{
		Versions:                 []string{u2fVersion},
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
	messenger, ok := As[Messenger](c.a.transport)
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
	if word != u2fOK {
		return nil, fmt.Errorf("ctap2: U2F: %w", U2FStatus(word))
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
		if !errors.Is(err, ErrU2FConditionsNotSatisfied) {
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
		if !errors.Is(err, ErrU2FConditionsNotSatisfied) {
			return nil, fmt.Errorf("ctap2: U2F: %w", err)
		}
	}
}

// u2fKnows asks, without a touch, whether the key made a handle.
func (c *ceremony) u2fKnows(application [32]byte, handle []byte) (bool, error) {
	if len(handle) > u2fMaxHandle {
		return false, nil
	}
	_, err := c.u2f(u2fInsAuthenticate, u2fCheckOnly, u2fAuthentication(make([]byte, 32), application, handle))
	switch {
	case err == nil || errors.Is(err, ErrU2FConditionsNotSatisfied):
		return true, nil
	case errors.Is(err, ErrU2FWrongData) || errors.Is(err, ErrU2FWrongLength):
		return false, nil
	}
	return false, err
}

func u2fAuthentication(challenge []byte, application [32]byte, handle []byte) []byte {
	return slices.Concat(challenge, application[:], []byte{byte(len(handle))}, handle)
}

// u2fVerifies refuses a request for user verification, which U2F does not have.
func u2fVerifies(command byte, wish UserVerification, held *Token) error {
	switch {
	case wish == Required:
		return noU2FOption(command, "option uv: a key that speaks U2F alone does not verify its user")
	case held != nil:
		return noU2FOption(command, "Token: a key that speaks U2F alone takes none")
	}
	return nil
}

func noU2FOption(command byte, detail string) error {
	return &Error{Command: command, Status: ErrUnsupportedOption, detail: detail}
}

// registerU2F is makeCredential on a U2F key (§10.2).
func (c *ceremony) registerU2F(r *MakeCredentialRequest) (*Credential, error) {
	refuse := func(s Status) (*Credential, error) {
		return nil, &Error{Command: ctap.CmdMakeCredential, Status: s}
	}
	switch {
	case !slices.Contains(r.Algorithms, cose.ES256):
		return refuse(ErrUnsupportedAlgorithm)
	case r.ResidentKey:
		return nil, noU2FOption(ctap.CmdMakeCredential, "option rk: a key that speaks U2F alone keeps no credentials")
	}
	if err := u2fVerifies(ctap.CmdMakeCredential, r.UserVerification, r.Token); err != nil {
		return nil, err
	}
	if _, err := c.extensionInputs(ctap.CmdMakeCredential, r.Extensions); err != nil {
		return nil, err // none is sent, but a wrong one is wrong here too
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
	registration, err := c.u2fRegister(r.ClientDataHash, application)
	if err != nil {
		return nil, err
	}
	credential, err := registration.Credential(application)
	if err != nil {
		return nil, err
	}
	credential.Extensions = c.extensionOutputs(ctap.CmdMakeCredential, r.Extensions, nil, nil)
	return credential, nil
}

func (c *ceremony) u2fRegister(challenge []byte, application [32]byte) (*U2FRegistration, error) {
	reply, err := c.u2fTouch(u2fInsRegister, 0, slices.Concat(challenge, application[:]), TouchPresence)
	if err != nil {
		return nil, err
	}
	r, err := parseU2FRegistration(reply)
	if err != nil {
		return nil, fmt.Errorf("ctap2: reply to U2F_REGISTER: %w", err)
	}
	return r, nil
}

func (c *ceremony) u2fAuthenticate(challenge []byte, application [32]byte, handle []byte, touch bool) (*U2FAuthentication, error) {
	request := u2fAuthentication(challenge, application, handle)
	var reply []byte
	var err error
	if touch {
		reply, err = c.u2fTouch(u2fInsAuthenticate, u2fEnforce, request, TouchPresence)
	} else {
		reply, err = c.u2f(u2fInsAuthenticate, u2fDontAsk, request)
	}
	if err != nil {
		return nil, err
	}
	if len(reply) <= 5 {
		return nil, fmt.Errorf("ctap2: reply to U2F_AUTHENTICATE: %w: %d bytes", ErrMalformed, len(reply))
	}
	return &U2FAuthentication{
		UserPresent: reply[0]&ctap.FlagUserPresent != 0,
		Counter:     binary.BigEndian.Uint32(reply[1:]),
		Signature:   reply[5:],
		Raw:         reply,
	}, nil
}

// touchU2F waits for a touch by a registration that is thrown away (§10.2).
func (c *ceremony) touchU2F(touch Touch) error {
	_, err := c.u2fTouch(u2fInsRegister, 0, make([]byte, 64), touch)
	return err
}

func parseU2FRegistration(reply []byte) (*U2FRegistration, error) {
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
	if _, err := key.PublicKey(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return &U2FRegistration{key, handle, certificate.FullBytes, signature}, nil
}

// signInU2F is getAssertion on a U2F key (§10.3).
func (c *ceremony) signInU2F(r *GetAssertionRequest) ([]*Assertion, error) {
	if err := u2fVerifies(ctap.CmdGetAssertion, r.UserVerification, r.Token); err != nil {
		return nil, err
	}
	if _, err := c.extensionInputs(ctap.CmdGetAssertion, r.Extensions); err != nil {
		return nil, err
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
		reply, err := c.u2fAuthenticate(r.ClientDataHash, application, d.ID, !r.Silent)
		if err != nil {
			return nil, err
		}
		a := &Assertion{
			Credential: CredentialDescriptor{ID: slices.Clone(d.ID), Type: publicKeyType},
			AuthData:   new(AuthenticatorData),
			Signature:  reply.Signature,
			Extensions: c.extensionOutputs(ctap.CmdGetAssertion, r.Extensions, nil, nil),
		}
		// What was signed is authenticator data already, but for bits that U2F
		// keeps for later.
		data := slices.Concat(application[:], []byte{reply.Raw[0] & byte(FlagUserPresent)}, reply.Raw[1:5])
		if err := a.AuthData.parse(data, cbor.Strict); err != nil {
			return nil, malformed(ctap.CmdGetAssertion, err)
		}
		return []*Assertion{a}, nil
	}
	return nil, c.noCredentials(r.Silent)
}
