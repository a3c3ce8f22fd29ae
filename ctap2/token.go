package ctap2

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A Permission is what a pinUvAuthToken may be used for (§6.5.5.7), a set of
// bits.
type Permission uint8

// Permissions.
const (
	PermissionMakeCredential                 Permission = ctap.PermissionMakeCredential             // mc, needs an RP ID
	PermissionGetAssertion                   Permission = ctap.PermissionGetAssertion               // ga, needs an RP ID
	PermissionCredentialManagement           Permission = ctap.PermissionCredentialManagement       // cm, RP ID optional
	PermissionBioEnrollment                  Permission = ctap.PermissionBioEnrollment              // be
	PermissionLargeBlobWrite                 Permission = ctap.PermissionLargeBlobWrite             // lbw
	PermissionAuthenticatorConfig            Permission = ctap.PermissionAuthenticatorConfig        // acfg
	PermissionPersistentCredentialManagement Permission = ctap.PermissionPersistentCredentialMgmtRO // pcmr, CTAP 2.2, alone
)

// String returns the specification's short names, such as "mc|ga".
func (p Permission) String() string {
	var names []string
	for i, name := range []string{"mc", "ga", "cm", "be", "lbw", "acfg", "pcmr", "0x80"} {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// A Method is a way to obtain a pinUvAuthToken.
type Method uint8

// Methods.
const (
	// AnyMethod is built-in user verification where it is set up, then the PIN.
	AnyMethod Method = iota
	// PINMethod is the PIN: getPinUvAuthTokenUsingPinWithPermissions, or
	// getPinToken on keys without permissions.
	PINMethod
	// UVMethod is getPinUvAuthTokenUsingUvWithPermissions.
	UVMethod
	// LegacyPINMethod is getPinToken (§6.5.5.7.1), which asks for no
	// permissions: the token has mc and ga, or, on a key from before
	// permissions, all there are.
	LegacyPINMethod
)

// A TokenRequest says what a token shall be for.
type TokenRequest struct {
	Permissions Permission // at least one
	RPID        string     // required for mc and ga, optional for cm
	Method      Method
}

// A Token is a pinUvAuthToken that the caller holds, for many commands under
// one verification. The key limits its life: it must be used soon (30 seconds
// over USB), it ends after ten minutes, when the key is unplugged, or when
// another token is made; and a touch spends mc and ga (§6.5.2.1). What the key
// then answers, also to a command or for a relying party that the token is not
// for, is ErrPINAuthInvalid.
//
// A token with permission pcmr is another matter: it is persistent, and lists
// the key's credentials until a reset or another PIN, without asking anybody.
// It also opens what the key says of itself in secret: [Info.Identifier] and
// [Info.CredStoreState].
type Token struct {
	protocol    pin.Protocol
	secret      pin.Secret
	permissions Permission
	rpID        string
}

// Permissions returns what the token was asked for.
func (t *Token) Permissions() Permission { return t.permissions }

// RPID returns the relying party the token is bound to; it may be empty.
func (t *Token) RPID() string { return t.rpID }

// Protocol returns the PIN/UV auth protocol it belongs to, which is sent along
// with every pinUvAuthParam.
func (t *Token) Protocol() pin.Protocol { return t.protocol }

// Authenticate returns the pinUvAuthParam for the concatenation of message,
// for commands sent with Command. It is nil if the token was wiped.
func (t *Token) Authenticate(message ...[]byte) []byte {
	return t.protocol.Authenticate(t.secret, message...)
}

// Secret returns a copy of the token itself, the caller's to wipe. It is for
// tokens with permission pcmr, which outlive the program: NewToken makes a
// Token of it again.
func (t *Token) Secret() pin.Secret { return t.secret.Clone() }

// NewToken returns the Token that Secret, Protocol and the rest were taken from.
// It takes the secret over.
func NewToken(protocol pin.Protocol, secret pin.Secret, permissions Permission, rpID string) *Token {
	return &Token{protocol, secret, permissions, rpID}
}

// refused says what PIN_AUTH_INVALID means of a caller's token, if that is what
// err is. The key alone knows which: before permissions, and after getPinToken,
// a token is for more than was asked.
func (t *Token) refused(err error) error {
	return meaning(err, ErrPINAuthInvalid,
		"%v is not for this, was spent by a touch, or ended by another command or program: get another", t)
}

// Wipe overwrites the token. Commands that are given it afterwards fail.
func (t *Token) Wipe() { t.secret.Wipe() }

// Format implements fmt.Formatter.
func (t *Token) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "pinUvAuthToken(%v %s)", t.permissions, t.rpID)
}

// Token obtains a pinUvAuthToken (§6.5.5.7), with the person's PIN or built-in
// verification. The caller wipes it when done.
//
// It refuses a request without permissions, with mc or ga and no RP ID, or with
// pcmr next to others or by LegacyPINMethod, with ErrInvalidRequest; it returns
// ErrNotSetUp, ErrNoPIN, ErrPINChangeRequired, a [*PINError], ErrUnsupported for
// pcmr on a key that does not have it, or what the key answers, such as
// ErrUnauthorizedPermission.
func (a *Authenticator) Token(ctx context.Context, request *TokenRequest) (*Token, error) {
	const (
		bound = PermissionMakeCredential | PermissionGetAssertion
		pcmr  = PermissionPersistentCredentialManagement
	)
	switch {
	case request == nil:
		return nil, invalid("no TokenRequest")
	case request.Permissions == 0:
		return nil, invalid("no permissions")
	case request.Permissions&bound != 0 && request.RPID == "":
		return nil, invalid("permissions %v need an RP ID", request.Permissions)
	case request.Permissions != pcmr && request.Permissions&pcmr != 0:
		return nil, invalid("permission %v goes with no other", pcmr)
	case request.Permissions == pcmr && request.Method == LegacyPINMethod:
		return nil, invalid("permission %v by getPinToken, which knows none", pcmr)
	}
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	c.rpID = request.RPID
	if request.Permissions == pcmr && !c.info.optionOn(OptionPersistentCredMgmtRO) {
		// A key of before permissions would give a token that can do anything.
		return nil, fmt.Errorf("ctap2: permission %v: %w", pcmr, ErrUnsupported)
	}
	return doubting(c, func() (*Token, error) {
		switch request.Method {
		case AnyMethod:
			return c.token(request.Permissions, request.RPID)
		case UVMethod:
			return c.uvToken(request.Permissions, request.RPID)
		case PINMethod:
			return c.pinToken(request.Permissions, request.RPID, false)
		case LegacyPINMethod:
			return c.pinToken(request.Permissions, request.RPID, true)
		}
		return nil, invalid("method %d", request.Method)
	})
}

// token obtains a token by built-in user verification, and by the PIN where
// that is not set up, blocked or used up.
func (c *ceremony) token(permissions Permission, rpID string) (*Token, error) {
	uv := c.info.optionOn(OptionUserVerification) && c.info.optionOn(OptionPINUVAuthToken) && c.info.grantsByUV(permissions)
	switch {
	case uv:
		t, err := c.uvToken(permissions, rpID)
		failed := errors.Is(err, ErrUVBlocked) || errors.Is(err, ErrUVInvalid)
		if !failed || !c.info.grantsByPIN(permissions) || !c.canAskPIN() {
			return t, err
		}
		c.forgetSecret() // it may have become stale while fingers were tried
	case !c.info.grantsByPIN(permissions):
		return nil, c.info.notSetUp(permissions)
	}
	return c.pinToken(permissions, rpID, false)
}

// notSetUp is ErrNotSetUp, and what to do about it, if a PIN would do.
func (i *Info) notSetUp(p Permission) error {
	if i.optionKnown(OptionClientPIN) && !i.optionOn(OptionClientPIN) && i.yieldsByPIN(p) {
		return fmt.Errorf("%w: set a PIN first", ErrNotSetUp)
	}
	return ErrNotSetUp
}

// grantsByPIN reports whether a PIN is set and yields these permissions
// (§6.5.5.7.2).
func (i *Info) grantsByPIN(p Permission) bool {
	return i.optionOn(OptionClientPIN) && i.yieldsByPIN(p)
}

// yieldsByPIN is grantsByPIN of a key whether a PIN is set or not.
func (i *Info) yieldsByPIN(p Permission) bool {
	const mcga = PermissionMakeCredential | PermissionGetAssertion
	return p&mcga == 0 || !i.optionOn(OptionNoMcGaPermissionsWithClientPIN)
}

// grantsByUV reports whether built-in verification yields these permissions
// (§6.5.5.7.3).
func (i *Info) grantsByUV(p Permission) bool {
	return (p&PermissionBioEnrollment == 0 || i.optionOn(OptionUVBioEnroll)) &&
		(p&PermissionAuthenticatorConfig == 0 || i.optionOn(OptionUVAuthenticatorConfig))
}

// uvToken is getPinUvAuthTokenUsingUvWithPermissions, repeated as often as the
// key prefers while it does not recognise the user.
func (c *ceremony) uvToken(permissions Permission, rpID string) (*Token, error) {
	c.missed = nil
	for attempts := c.info.uvAttempts(); ; attempts-- {
		t, err := c.requestToken(&clientPINParameters{
			Subcommand:  ctap.PINGetTokenUsingUV,
			Permissions: permissions,
			RPID:        rpID,
		}, pin.Secret{}, TouchVerification)
		if attempts <= 1 || !errors.Is(err, ErrUVInvalid) {
			return t, err
		}
		c.missed = err
	}
}

// uvAttempts is how often built-in user verification is tried before the PIN:
// as often as the key prefers, and never more than uvRetries can be (§6.5.3).
func (i *Info) uvAttempts() int {
	const unsaid, most = 3, 25
	if i.PreferredPlatformUVAttempts == 0 {
		return unsaid
	}
	return min(i.PreferredPlatformUVAttempts, most)
}

// pinToken obtains a token with the PIN that is remembered, or else with the
// one that the person enters.
func (c *ceremony) pinToken(permissions Permission, rpID string, legacy bool) (*Token, error) {
	switch {
	case !c.info.optionOn(OptionClientPIN):
		return nil, c.info.notSetUp(permissions)
	case c.info.ForcePINChange:
		return nil, ErrPINChangeRequired
	}
	p := &clientPINParameters{Subcommand: ctap.PINGetPINToken}
	if !legacy && c.info.optionOn(OptionPINUVAuthToken) {
		p.Subcommand, p.Permissions, p.RPID = ctap.PINGetTokenUsingPIN, permissions, rpID
	}
	hash := c.remembered()
	defer func() { hash.Wipe() }()
	var previous *PINError
	for {
		if hash.Len() == 0 {
			entered, err := c.askPIN(previous)
			if err != nil {
				return nil, err
			}
			hash = entered
		}
		t, err := c.requestToken(p, hash, "")
		if err == nil {
			t.permissions, t.rpID = permissions, rpID // getPinToken was told neither
			c.remember(hash.Clone())
			return t, nil
		}
		err = c.pinError(err)
		if !errors.As(err, &previous) || !errors.Is(err, ErrPINInvalid) || previous.Retries == 0 || previous.PowerCycle {
			return nil, err
		}
		refused := hash
		hash = pin.Secret{}
		if c.a.interaction.PIN == nil {
			refused.Wipe()
			return nil, err
		}
		hash, err = c.askPIN(previous)
		same := hash.Equal(refused)
		refused.Wipe()
		if err != nil {
			return nil, err
		}
		if same {
			return nil, previous
		}
	}
}

// canAskPIN reports whether a PIN can be had.
func (c *ceremony) canAskPIN() bool {
	hash := c.remembered()
	defer hash.Wipe()
	return c.a.interaction.PIN != nil || hash.Len() > 0
}

// askPIN asks the person and returns the hash of what they entered. Nobody is
// asked for a PIN that the key does not take.
func (c *ceremony) askPIN(previous *PINError) (pin.Secret, error) {
	ask := c.a.interaction.PIN
	if ask == nil {
		return pin.Secret{}, ErrNoPIN
	}
	if c.ctx.Err() != nil {
		return pin.Secret{}, fmt.Errorf("ctap2: %w", context.Cause(c.ctx))
	}
	if c.a.noPIN.Load() { // it has said so: is that still true?
		if left, err := c.pinRetries(); err == nil && left.refused() != nil {
			return pin.Secret{}, left.refused()
		}
		c.a.noPIN.Store(false)
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(c.ctx, prompt{c.a}, true))
	defer cancel(nil)
	defer context.AfterFunc(c.a.life, func() { cancel(ErrClosed) })()
	entered, err := ask(ctx, PINRequest{Authenticator: c.a, RPID: c.rpID, Previous: previous, Retries: c.pinRetries})
	defer entered.Wipe()
	// A wrong PIN makes the key take a new key agreement key: the one entered
	// before this prompt, or another program's while it stood open.
	c.forgetSecret()
	if c.a.life.Err() != nil {
		return pin.Secret{}, fmt.Errorf("ctap2: %w", ErrClosed)
	}
	if err != nil {
		return pin.Secret{}, fmt.Errorf("ctap2: PIN prompt: %w", err)
	}
	hash, err := hashPIN(entered)
	if entered.Len() == 0 {
		err = fmt.Errorf("it returned a Secret that is empty or was wiped, not a new one: %w", err)
	}
	if err != nil {
		return pin.Secret{}, fmt.Errorf("ctap2: PIN prompt: %w", err)
	}
	return hash, nil
}

// requestToken sends one of the three subcommands that yield a token, with the
// hash of a PIN unless it is empty, and decrypts the token. That the card was reset
// is seen to once, but only before a PIN or a finger could have cost a try.
func (c *ceremony) requestToken(p *clientPINParameters, hash pin.Secret, touch Touch) (*Token, error) {
	secret, platform, err := c.sharedSecret()
	if errors.Is(err, ErrReset) {
		secret, platform, err = c.sharedSecret()
	}
	if err != nil {
		return nil, err
	}
	p.Protocol, p.KeyAgreement = secret.Protocol(), platform
	if hash.Len() > 0 {
		if p.PINHashEnc, err = secret.Encrypt(hash.Bytes()); err != nil {
			return nil, err
		}
	}
	reply, err := c.clientPIN(p, touch)
	if err != nil {
		return nil, err
	}
	if reply.pinUVAuthToken == nil {
		return nil, malformed(ctap.CmdClientPIN, noMember("pinUvAuthToken"))
	}
	token, err := secret.Decrypt(reply.pinUVAuthToken)
	if err != nil || !secret.Protocol().TokenLength(len(token)) {
		clear(token)
		return nil, malformed(ctap.CmdClientPIN, fmt.Errorf("%w: pinUvAuthToken of %d bytes", ErrMalformed, len(reply.pinUVAuthToken)))
	}
	return &Token{secret.Protocol(), pin.NewSecret(token), p.Permissions, p.RPID}, nil
}
