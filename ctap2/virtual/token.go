package virtual

import (
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Limits of a pinUvAuthToken (§6.5.2.1). Those that depend on the transport are
// the initial usage time limit and the user present time limit at once. The
// rolling timer, which is optional, is not used.
const (
	timeLimitUSB       = ctap.InitialTokenUseSecondsUSB * time.Second
	timeLimitNFC       = time.Duration(ctap.InitialTokenUseSecondsNFC * float64(time.Second))
	maxUsageTimePeriod = ctap.MaxTokenSeconds * time.Second
)

const tokenLength = 32 // both protocols allow it

// A token is a pinUvAuthToken in use, with the state variables of §6.5.2.1.
//
// The specification has a token for each protocol, and resets them all
// whenever it issues one. Only that one is ever known to a platform, so it is
// the only one here, and belongs to the protocol it was issued with.
type token struct {
	protocol     pin.Protocol
	value        pin.Secret
	permissions  uint64
	rpID         *string // the permissions RP ID; nil if none is associated
	userVerified bool
	userPresent  bool
	issued       time.Time // when the usage timer started
	limit        time.Duration
	used         bool
	// permanent tokens are those before CTAP 2.1: they have no permissions and no
	// timer, no touch spends them, and each getPinToken returns the same.
	permanent bool
}

// issueToken is resetPinUvAuthToken for all protocols, followed by
// beginUsingPinUvAuthToken and the assignment of permissions.
func (a *Authenticator) issueToken(op *operation, p pin.Protocol, userIsPresent bool, permissions uint64, rpID *string) *token {
	if t := a.volatile.token; t != nil && t.permanent {
		return t
	}
	a.stopUsingToken()
	limit := timeLimitUSB
	if op.transport == transportNFC {
		limit = timeLimitNFC
	}
	a.volatile.token = &token{
		protocol:     p,
		value:        pin.NewSecret(randomBytes(tokenLength)),
		permissions:  permissions,
		rpID:         rpID,
		userVerified: true,
		userPresent:  userIsPresent,
		issued:       time.Now(),
		limit:        limit,
		permanent:    a.cfg.Level < CTAP21,
	}
	return a.volatile.token
}

// stopUsingToken is stopUsingPinUvAuthToken.
func (a *Authenticator) stopUsingToken() {
	if t := a.volatile.token; t != nil {
		t.value.Wipe()
		a.volatile.token = nil
	}
}

// token returns the token in use, nil if there is none. It is where
// pinUvAuthTokenUsageTimerObserver is: nothing sees a token but through here,
// so that looking at the clock now is as good as a timer.
func (a *Authenticator) token() *token {
	t := a.volatile.token
	if t == nil || t.permanent {
		return t
	}
	age := time.Since(t.issued)
	if age >= maxUsageTimePeriod || !t.used && age >= t.limit {
		a.stopUsingToken()
		return nil
	}
	if age >= t.limit {
		t.userPresent = false
	}
	return t
}

// userPresentFlag is getUserPresentFlagValue.
func (a *Authenticator) userPresentFlag() bool {
	t := a.token()
	return t != nil && t.userPresent
}

// spendToken is what follows a test of user presence: clearUserPresentFlag,
// clearUserVerifiedFlag and clearPinUvAuthTokenPermissionsExceptLbw.
func (a *Authenticator) spendToken() {
	if t := a.token(); t != nil && !t.permanent {
		t.userPresent = false
		t.userVerified = false
		t.permissions &= ctap.PermissionLargeBlobWrite
	}
}

// authenticate is verify(pinUvAuthToken, message, pinUvAuthParam). It returns
// the token in use, nil if the verification fails.
func (a *Authenticator) authenticate(p pin.Protocol, param []byte, message ...[]byte) *token {
	t := a.token()
	if t == nil || t.protocol != p || !p.Verify(t.value, param, message...) {
		return nil
	}
	t.used = true
	return t
}

// can reports whether a token, which may be nil, has a permission.
func (t *token) can(permission uint64) bool {
	return t != nil && (t.permanent || t.permissions&permission != 0)
}

// verifyParam is authenticate for makeCredential and getAssertion, followed by
// the checks that the token is good for permission and rpID. A token without an
// RP ID gets this one.
func (a *Authenticator) verifyParam(p pin.Protocol, param []byte, permission uint64, rpID string, message ...[]byte) error {
	t := a.authenticate(p, param, message...)
	if !t.can(permission) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	if t.permanent {
		return nil
	}
	if !t.userVerified || t.rpID != nil && *t.rpID != rpID {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	if t.rpID == nil {
		t.rpID = &rpID
	}
	return nil
}
