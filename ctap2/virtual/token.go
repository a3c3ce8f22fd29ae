package virtual

import (
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Limits of a pinUvAuthToken (§6.5.2.1), those of USB. The rolling timer, which
// is optional, is not used.
const (
	initialUsageTimeLimit = ctap.InitialTokenUseSecondsUSB * time.Second
	userPresentTimeLimit  = ctap.InitialTokenUseSecondsUSB * time.Second
	maxUsageTimePeriod    = ctap.MaxTokenSeconds * time.Second
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
	used         bool
	// permanent tokens are those of CTAP 2.0: they have no permissions and no
	// timer, no touch spends them, and each getPinToken returns the same.
	permanent bool
}

// issueToken is resetPinUvAuthToken for all protocols, followed by
// beginUsingPinUvAuthToken and the assignment of permissions.
func (a *Authenticator) issueToken(p pin.Protocol, userIsPresent bool, permissions uint64, rpID *string) *token {
	if t := a.volatile.token; t != nil && t.permanent {
		return t
	}
	a.stopUsingToken()
	a.volatile.token = &token{
		protocol:     p,
		value:        pin.NewSecret(randomBytes(tokenLength)),
		permissions:  permissions,
		rpID:         rpID,
		userVerified: true,
		userPresent:  userIsPresent,
		issued:       time.Now(),
		permanent:    a.cfg.Level == CTAP20,
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
	if age >= maxUsageTimePeriod || !t.used && age >= initialUsageTimeLimit {
		a.stopUsingToken()
		return nil
	}
	if age >= userPresentTimeLimit {
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

// verifyParam is verify(pinUvAuthToken, message, pinUvAuthParam) followed by
// the checks that the token is good for permission and rpID. A token without an
// RP ID gets this one.
func (a *Authenticator) verifyParam(p pin.Protocol, param []byte, permission uint64, rpID string, message ...[]byte) error {
	t := a.token()
	switch {
	case t == nil, t.protocol != p, !p.Verify(t.value, param, message...):
		return refusal(ctap.StatusPINAuthInvalid)
	case t.permanent:
		return nil
	}
	t.used = true
	if !t.userVerified || t.permissions&permission == 0 || t.rpID != nil && *t.rpID != rpID {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	if t.rpID == nil {
		t.rpID = &rpID
	}
	return nil
}
