package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// keptTries is how many tries of the PIN a run leaves that is not Destructive,
// whatever happens.
const keptTries = 3

func skipped(format string, args ...any) error {
	return inapplicable{Skipped, fmt.Sprintf(format, args...)}
}

// askedPIN is what the client gets when it asks for the PIN. One that the
// authenticator has refused is not entered again.
func (h *harness) askedPIN(_ context.Context, request ctap2.PINRequest) (pin.Secret, error) {
	if h.config.Destructive {
		return pin.FromString(h.pin()), nil
	}
	h.refused = h.refused || request.Previous != nil
	switch {
	case h.refused:
		return pin.Secret{}, skipped("the PIN that the run was given is not the authenticator's")
	case h.config.PIN.Len() == 0:
		return pin.Secret{}, skipped("the PIN is not known")
	case h.entered && !h.doubted:
		return pin.FromString(h.pin()), nil
	}
	retries, err := request.Retries()
	if err == nil {
		err = enough(retries)
	}
	return pin.FromString(h.pin()), err
}

// enough sees whether a PIN can be entered that may be wrong.
func enough(retries ctap2.PINRetries) error {
	switch {
	case retries.PowerCycle:
		return skipped("takes no PIN before a power cycle")
	case retries.Retries <= keptTries:
		return skipped("has %d tries of the PIN left", retries.Retries)
	}
	return nil
}

// enterPIN enters the right PIN, which gives back all tries, at an authenticator
// that is not the run's to reset, and returns how many there are.
func (h *harness) enterPIN(ctx context.Context) (left int, err error) {
	retries, err := h.key.PINRetries(ctx)
	if err == nil && (!h.entered || h.doubted) {
		err = enough(retries)
	}
	if err != nil {
		return 0, err
	}
	token, err := h.key.Token(ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionCredentialManagement, Method: ctap2.LegacyPINMethod,
	})
	if errors.Is(err, ctap2.ErrPINChangeRequired) {
		return 0, skipped("the PIN must be changed first")
	}
	if err != nil {
		return 0, err
	}
	token.Wipe()
	h.entered, h.doubted = true, false
	retries, err = h.key.PINRetries(ctx)
	return retries.Retries, err
}

// affords sees whether wrong PINs leave a try, unless they are to take all: an
// authenticator may have fewer than eight (§6.5.2.2).
func (h *harness) affords(ctx context.Context, wrong int) error {
	if wrong == 0 || wrong == ctap.PINMaxRetries {
		return nil
	}
	retries, err := h.key.PINRetries(ctx)
	if err == nil && retries.Retries <= wrong { // what else is wrong is for other cases to say
		return notApplicable("takes up to %d wrong PINs, and %d block the PIN", wrong, retries.Retries)
	}
	return nil
}

// guardPIN sees, before a case, whether it may enter the wrong PINs that it takes;
// and, in a run that is not Destructive, whether the PIN is the right one.
func (h *harness) guardPIN(ctx context.Context, c *Case) error {
	s := c.setup
	if h.config.Destructive {
		return h.affords(ctx, s.tries)
	}
	if !s.state.pin || h.entered && !h.doubted && s.tries == 0 {
		return nil
	}
	left, err := h.enterPIN(ctx)
	if err != nil || s.tries == 0 {
		return err
	}
	if left-s.tries < keptTries {
		return skipped("takes %d tries of the PIN, and %d are left", s.tries, left)
	}
	ask, agreed := h.operator.SpendPINTries, false
	_ = h.unhurried(func() error {
		agreed = ask != nil && ask(ctx, s.tries, left)
		return nil
	})
	if !agreed {
		return skipped("takes %d tries of the PIN", s.tries)
	}
	return nil
}

// restorePIN gives back, after such a case, what it took. It does so even if the
// run is to end.
func (h *harness) restorePIN(ctx context.Context, c *Case) error {
	if h.config.Destructive || c.setup.tries == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := h.open(ctx)
	h.doubted = false // they are known, and few
	if err == nil {
		_, err = h.enterPIN(ctx)
	}
	if err != nil {
		return fmt.Errorf("giving back the tries of the PIN: %w", err)
	}
	return nil
}
