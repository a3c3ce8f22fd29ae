package virtual

import (
	"errors"

	"github.com/tapstone/fido/internal/ctap"
)

const (
	// preferredPlatformUVAttempts is how often the platform should try before
	// it falls back to the PIN; being more than 1, it leaves the tries of a
	// request for a token to the platform (§6.5.5.7.3 step 6).
	preferredPlatformUVAttempts = 3
	// maxUVAttemptsForInternalRetries is how often the key itself tries where
	// there is no request for a token (§6.5.2.3).
	maxUVAttemptsForInternalRetries = 3
)

// Reasons for which built-in user verification fails (§6.5.3.1).
var (
	errUVTimeout = errors.New("user action timeout")
	errUVFailed  = errors.New("user not verified")
)

// uvConfigured reports whether there is somebody whom the key can verify by
// itself: where platforms manage fingerprints, it is one that is enrolled.
func (a *Authenticator) uvConfigured() bool {
	if a.cfg.managesFingerprints() {
		return len(a.state.fingerprints) > 0
	}
	return a.cfg.BuiltInUV == UVConfigured
}

// performBuiltInUV verifies the user, which is evidence of user interaction as
// well: a finger on a sensor. It returns nil, errUVTimeout or errUVFailed, or
// another error if the command came to its end. A try is counted before it is
// made, like that of a PIN; one that the platform cancels is given back.
func (a *Authenticator) performBuiltInUV(op *operation, prompt Prompt, internalRetry bool) error {
	prompt.Verification = true
	attempts := 1
	if internalRetry {
		attempts = maxUVAttemptsForInternalRetries
	}
	if !a.cfg.NoClientPIN && a.state.pinRetries == 0 && a.state.uvRetries > 0 {
		if err := a.state.setRetries(0, 0); err != nil {
			return err
		}
	}
	for ; attempts > 0 && a.state.uvRetries > 0; attempts-- {
		undo, err := a.state.countUV()
		if err != nil {
			return err
		}
		answer, err := a.ask(op, prompt)
		if err != nil {
			if err == refusal(ctap.StatusKeepaliveCancel) {
				if err := a.state.commit(undo); err != nil {
					return err
				}
			}
			return err
		}
		switch answer {
		case Approve:
			return a.state.setRetries(a.state.pinRetries, maxUVRetries)
		case Nothing:
			return errUVTimeout
		case LockOut:
			if err := a.state.setRetries(a.state.pinRetries, 0); err != nil {
				return err
			}
		}
	}
	return errUVFailed
}

// verifyUser is performBuiltInUV for the option "uv" of makeCredential and
// getAssertion (§6.1.2 step 11.2, §6.2.2 step 6.2).
func (a *Authenticator) verifyUser(op *operation, prompt Prompt) error {
	switch err := a.performBuiltInUV(op, prompt, true); err {
	case errUVTimeout:
		return refusal(ctap.StatusUserActionTimeout)
	case errUVFailed:
		demanded := a.uvDemanded(true)
		if demanded == refusal(ctap.StatusOperationDenied) && a.state.uvRetries == 0 {
			return refusal(ctap.StatusPINBlocked)
		}
		return demanded
	default:
		return err
	}
}
