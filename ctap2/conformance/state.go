package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// rank puts states in the order in which the fewest resets lead from one to the
// next.
func (s state) rank() int {
	n := 0
	for i, set := range []bool{s.pin, s.uv, s.alwaysUV} {
		if set {
			n |= 1 << i
		}
	}
	return n
}

// close closes the authenticator, if it is open.
func (h *harness) close() {
	if h.key != nil {
		_ = h.key.Close() // whatever is wrong with it, it is opened anew
		h.key = nil
	}
}

// outOfReach is the error of a Target.Open or of an Operator that failed: nothing
// can be prepared any more.
type outOfReach struct{ error }

func (o outOfReach) Unwrap() error { return o.error }

// open opens it anew.
func (h *harness) open(ctx context.Context, options ...ctap2.Option) error {
	h.close()
	transport, err := h.config.Target.Open(ctx)
	if err != nil {
		return outOfReach{err}
	}
	return h.reopen(ctx, transport, options...)
}

// reopen asks for the Info of an authenticator that is open, and takes over what
// remembers nothing of the case before.
func (h *harness) reopen(ctx context.Context, transport ctap2.Transport, options ...ctap2.Option) error {
	key, err := ctap2.Open(ctx, h.watched(transport), append(options, ctap2.WithInteraction(ctap2.Interaction{
		PIN:   h.askedPIN,
		Touch: func(ctap2.TouchRequest) { h.waiting() },
	}))...)
	if err != nil {
		_ = transport.Close()
		return err
	}
	h.key = key
	return nil
}

// waiting is called when the authenticator waits for the person.
func (h *harness) waiting() {
	h.tell(Event{Kind: Waiting, Case: h.at, Gesture: h.doing})
	if h.operator.Waiting != nil {
		h.operator.Waiting(h.doing)
	}
	h.touches++
	if h.onTouch != nil {
		h.onTouch()
	}
}

// do has the person do something from now on.
func (h *harness) do(ctx context.Context, g Gesture) error {
	if h.doing == g {
		return nil
	}
	h.tell(Event{Kind: Person, Case: h.at, Gesture: g})
	if err := h.unhurried(func() error { return h.operator.gesture(ctx, g) }); err != nil {
		return outOfReach{err}
	}
	h.doing = g
	if g == WrongFinger || g == NoTouch && h.state.uv {
		h.changed = true // the counter of tries
	}
	return nil
}

// powerCycle takes the power and gives it back. The authenticator is closed.
func (h *harness) powerCycle(ctx context.Context) error {
	h.close()
	h.tell(Event{Kind: Person, Case: h.at, Message: "power cycle"})
	if err := h.unhurried(func() error { return h.operator.powerCycle(ctx) }); err != nil {
		return outOfReach{err}
	}
	return nil
}

// reset makes the authenticator as it left the factory.
func (h *harness) reset(ctx context.Context) error {
	h.tell(Event{Kind: Preparing, Case: h.at, Message: "reset"})
	err := h.resetNow(ctx)
	if err == nil && h.key.Info().Options[ctap2.OptionBioEnroll] {
		// A reset that leaves fingers has a case that fails; the others go on. What
		// cannot be removed is seen below.
		_ = h.removeFingers(ctx)
		err = h.resetNow(ctx)
	}
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	info := h.key.Info()
	h.factory = state{uv: info.Options[ctap2.OptionUserVerification], alwaysUV: info.Options[ctap2.OptionAlwaysUV]}
	h.everReset, h.known, h.state = true, true, h.factory
	h.changed, h.credentials, h.doubtful = false, 0, ""
	return nil
}

// removeFingers removes what is enrolled, and leaves a PIN behind.
func (h *harness) removeFingers(ctx context.Context) error {
	if err := h.key.SetPIN(ctx, pin.FromString(h.pin())); err != nil {
		return err
	}
	token, err := h.key.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment, Method: ctap2.PINMethod})
	if err != nil {
		return err
	}
	defer token.Wipe()
	fingers, err := h.key.EnumerateEnrollments(ctx, token)
	if err != nil {
		return err
	}
	for _, finger := range fingers {
		if err := h.key.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: finger.TemplateID, Token: token}); err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) resetNow(ctx context.Context) error {
	if h.operator.Reset != nil {
		h.close()
		if err := h.unhurried(func() error { return h.operator.Reset(ctx) }); err != nil {
			return outOfReach{err}
		}
		return h.open(ctx)
	}
	if err := h.powerCycle(ctx); err != nil {
		return err
	}
	if err := h.open(ctx); err != nil {
		return err
	}
	if info := h.key.Info(); info.AAGUID != h.origin.AAGUID || info.FirmwareVersion != h.origin.FirmwareVersion {
		return outOfReach{errors.New("another authenticator is there after the power cycle, and was left alone")}
	}
	gesture := Touch
	if h.key.Info().LongTouchForReset {
		gesture = LongTouch
	}
	if err := h.do(ctx, gesture); err != nil {
		return err
	}
	if err := h.key.Reset(ctx); err != nil {
		return err
	}
	if _, err := h.key.GetInfo(ctx); err != nil {
		return err
	}
	return h.do(ctx, Touch)
}

// prepare brings the authenticator into the state that a case needs, opens it
// for the variant, and sees whether the case applies.
func (h *harness) prepare(ctx context.Context, c *Case, wanted state, v variant) error {
	if err := h.do(ctx, Touch); err != nil {
		return err
	}
	if !ctap2Spoken.holds(h.origin) {
		if !c.setup.u2f {
			return notApplicable("%s", ctap2Spoken.not)
		}
	} else if !c.setup.anyState {
		err := wanted.attainable(h.origin)
		if err == nil && h.config.Destructive {
			err = h.arrange(ctx, wanted)
		}
		if err != nil {
			return err
		}
	}
	if err := h.open(ctx, ctap2.WithPINUVAuthProtocol(v.protocol)); err != nil {
		return err
	}
	info := h.key.Info()
	if !h.config.Destructive && !c.setup.anyState {
		if err := wanted.foundIn(info); err != nil {
			return err
		}
	}
	for _, cond := range c.setup.conds {
		if !cond.holds(info) {
			return notApplicable("%s", cond.not)
		}
	}
	if err := h.below(c); err != nil {
		return err
	}
	return h.guardPIN(ctx, c)
}

// below sees whether there is what the case needs below the messages.
func (h *harness) below(c *Case) error {
	t := &h.config.Target
	if c.setup.below == "hid" && t.HID == nil || c.setup.below == "nfc" && t.NFC == nil {
		return notApplicable("the authenticator is not on %s, or its transport does not show that", strings.ToUpper(c.setup.below))
	}
	return nil
}

// attainable sees whether an authenticator can be in a state at all.
func (s state) attainable(info *ctap2.Info) error {
	switch {
	case s.pin && !clientPIN.holds(info):
		return notApplicable("has no PIN")
	case s.uv && !builtInUV.holds(info):
		return notApplicable("has no built-in user verification")
	case s.alwaysUV && !togglesAlways.holds(info):
		return notApplicable("has no alwaysUv")
	}
	return nil
}

// foundIn sees whether an authenticator that must not be changed is in the state
// that a case needs.
func (s state) foundIn(info *ctap2.Info) error {
	switch {
	case s.pin && !info.Options[ctap2.OptionClientPIN]:
		return skipped("no PIN is set")
	case s.uv && !info.Options[ctap2.OptionUserVerification]:
		return skipped("built-in user verification is not set up")
	case s.alwaysUV && !info.Options[ctap2.OptionAlwaysUV]:
		return skipped("alwaysUv is not on")
	case !s.alwaysUV && info.Options[ctap2.OptionAlwaysUV]:
		return skipped("alwaysUv is on")
	}
	return nil
}

// arrange brings about a state.
func (h *harness) arrange(ctx context.Context, wanted state) error {
	if h.everReset && h.factory.uv && !wanted.uv {
		return notApplicable("built-in user verification is always set up")
	}
	h.recount(ctx)
	if h.known && !h.changed && h.state == wanted && h.clean(ctx) {
		return nil
	}
	// A reset helps against alwaysUv only where the authenticator comes without it.
	if !h.known || h.changed || h.credentials > 0 || h.state.pin && !wanted.pin || h.state.uv && !wanted.uv ||
		h.state.alwaysUV != wanted.alwaysUV && h.factory.alwaysUV == wanted.alwaysUV {
		if err := h.reset(ctx); err != nil {
			return err
		}
		if h.factory.uv && !wanted.uv {
			return notApplicable("built-in user verification is always set up")
		}
	}
	err := h.advance(ctx, wanted)
	h.changed = false
	var no inapplicable
	h.known = err == nil || errors.As(err, &no) // and as far as state says
	return err
}

// advance leads from a state to another that has more.
func (h *harness) advance(ctx context.Context, wanted state) error {
	if h.key == nil {
		if err := h.open(ctx); err != nil {
			return err
		}
	}
	if wanted.pin && !h.state.pin {
		h.tell(Event{Kind: Preparing, Case: h.at, Message: "set a PIN"})
		if err := h.key.SetPIN(ctx, pin.FromString(h.pin())); err != nil {
			return fmt.Errorf("setPIN on the way: %w", err)
		}
		h.state.pin = true
	}
	if wanted.uv && !h.state.uv {
		if !h.state.pin {
			return notApplicable("has no built-in user verification that can be set up without a PIN")
		}
		h.tell(Event{Kind: Preparing, Case: h.at, Message: "enroll a finger"})
		_, err := h.key.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{})
		if errors.Is(err, ctap2.ErrUnsupported) {
			return notApplicable("built-in user verification cannot be set up by a platform")
		}
		if err != nil {
			return fmt.Errorf("enrollment on the way: %w", err)
		}
		h.state.uv = true
	}
	if wanted.alwaysUV != h.state.alwaysUV {
		h.tell(Event{Kind: Preparing, Case: h.at, Message: "toggle alwaysUv"})
		var refused *ctap2.Error
		switch err := h.key.ToggleAlwaysUV(ctx, nil); {
		case errors.As(err, &refused) || errors.Is(err, ctap2.ErrUnsupported):
			return notApplicable("alwaysUv cannot be changed: %v", err)
		case err != nil:
			return fmt.Errorf("toggleAlwaysUv on the way: %w", err)
		}
		h.state.alwaysUV = wanted.alwaysUV
	}
	return nil
}

// recount counts the credential that was made last, if that is discoverable though
// nobody asked for it: before CTAP 2.1 it may be (§6.1.2 step 18).
func (h *harness) recount(ctx context.Context) {
	if h.doubtful == "" {
		return
	}
	request, err := cbor.Marshal(gaRequest(set(1, h.doubtful), gaOption("up", false)))
	if err == nil && h.key != nil {
		_, err = h.key.Command(ctx, ctap.CmdGetAssertion, request)
	}
	if !errors.Is(err, ctap2.ErrNoCredentials) {
		h.credentials++
	}
	h.doubtful = ""
}

// clean deletes the credentials of the case before, where that takes less than a
// reset, and reports whether there are none.
func (h *harness) clean(ctx context.Context) bool {
	if h.credentials == 0 {
		return true
	}
	if h.key == nil || !h.state.pin || h.state.alwaysUV || !credMgmt.holds(h.key.Info()) || !permissions.holds(h.key.Info()) {
		return false
	}
	token, err := h.key.Token(ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionCredentialManagement, Method: ctap2.PINMethod,
	})
	if err != nil {
		return false
	}
	defer token.Wipe()
	stored, err := h.key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{Token: token})
	if err != nil {
		return false
	}
	for _, c := range stored {
		err := h.key.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: c.Credential, Token: token})
		if err != nil {
			return false
		}
	}
	h.credentials = 0
	return true
}

// pin is the PIN that the run has set, or that its caller knows. Four digits are
// too few for some authenticators, and neighbours in a row are refused by others.
func (h *harness) pin() string {
	if !h.config.Destructive {
		return string(h.config.PIN.Bytes())
	}
	return digits(thePIN, h.origin)
}

// digits makes a PIN as long as the authenticator demands, and no longer than it
// allows, as far as a PIN can be that long.
func digits(pin string, info *ctap2.Info) string {
	n := min(max(len(pin), info.MinPINLength), maxPINLength(info), ctap.PINMaxBytes)
	return strings.Repeat(pin, n)[:n]
}

// PINs of a destructive run.
const thePIN, otherPIN = "271828", "161803"
