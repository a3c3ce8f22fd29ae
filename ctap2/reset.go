package ctap2

import (
	"context"

	"github.com/tapstone/fido/internal/ctap"
)

// Reset erases the key: its credentials, its PIN and its settings (§6.6). Keys
// without a display take it only in the first ten seconds after they were
// plugged in, and answer ErrNotAllowed later; all wait for a touch.
func (a *Authenticator) Reset(ctx context.Context) error {
	c, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	c.changing()
	_, err = c.send(ctap.CmdReset, 0, nil, TouchReset)
	return err
}
