package virtual

import "github.com/tapstone/fido/internal/ctap"

// selection is authenticatorSelection (§6.9).
func (a *Authenticator) selection(op *operation, params []byte) (reply, error) {
	if a.cfg.Level < CTAP21 {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	if err := noParameters(params); err != nil {
		return nil, err
	}
	return nil, a.confirm(op, Prompt{})
}
