package virtual

import (
	"slices"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// reset is authenticatorReset (§6.6) of a key without a display. The touch that
// confirms it has to be a long one if longTouchForReset says so.
func (a *Authenticator) reset(op *operation, params []byte) (reply, error) {
	if err := noParameters(params); err != nil {
		return nil, err
	}
	if over := a.cfg.TransportsForReset; over != nil && !slices.Contains(over, op.transport) {
		return nil, refusal(ctap.StatusOperationDenied)
	}
	if a.cfg.ResetWindow > 0 && time.Since(a.volatile.poweredUp) > a.cfg.ResetWindow {
		return nil, refusal(ctap.StatusNotAllowed)
	}
	if err := a.confirm(op, Prompt{LongTouch: a.state.settings.LongTouchForReset}); err != nil {
		return nil, err
	}
	if err := a.state.reset(&a.cfg); err != nil {
		return nil, err
	}
	a.stopUsingToken()
	a.volatile.enrollment = nil
	a.volatile.mismatches = 0
	for _, p := range a.cfg.PINProtocols {
		if err := a.regenerate(p); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
