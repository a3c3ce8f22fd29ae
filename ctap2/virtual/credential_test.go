package virtual

import (
	"testing"

	"github.com/tapstone/fido/internal/ctap"
)

// A key remembers some of the credentials that it does not store, and is none the
// wiser for it: they are as many as there are IDs, of one relying party each, and
// gone with a reset.
func TestUnsealedRemembered(t *testing.T) {
	key := newKey(t, Config{ResetWindow: -1})
	var creds []authData
	for range 3 * maxUnsealed {
		creds = append(creds, key.make())
	}
	for range 2 {
		for _, c := range creds {
			key.assert(c, allow(c.id))
			key.assert(c, allow(c.id))
			key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(params{1: otherRPID}, allow(c.id)))
			if n := len(key.state.unsealed); n == 0 || n > maxUnsealed {
				t.Fatalf("%d are remembered", n)
			}
		}
	}
	last := creds[len(creds)-1]
	key.ok(ctap.CmdReset, nil)
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(last.id)))
}
