package virtual

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestReset(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	root := key.AttestationRoot()
	sealed := key.make()
	token := key.token(pin.Two, permMC, testRPID)
	rk := key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, token))
	token = key.token(pin.Two, permGA, testRPID)
	before := key.ok(ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetKeyAgreement})
	wrong, _ := key.tokenRequest(pin.One, "000000", 0, "")
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, wrong)

	key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdReset, 1)
	if m := key.ok(ctap.CmdReset, nil); m != nil {
		t.Errorf("reset answers %v", m)
	}
	if key.options()["clientPin"] {
		t.Error("the PIN is still there")
	}
	if n := key.pinRetries(); n != 8 {
		t.Errorf("%d retries", n)
	}
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest())
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(sealed.id, rk.id)))
	if after := key.ok(ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetKeyAgreement}); bytes.Equal(before[1], after[1]) {
		t.Error("the same key agreement key")
	}
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	key.refused(ctap.StatusPINAuthInvalid, ctap.CmdGetAssertion, assertRequest(withToken(ctap.CmdGetAssertion, pin.Two, token)))
	if !key.AttestationRoot().Equal(root) {
		t.Error("another attestation root")
	}
}

func TestResetWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN})
		time.Sleep(10*time.Second + 1)
		key.refused(ctap.StatusNotAllowed, ctap.CmdReset, nil)
		key.PowerCycle()
		time.Sleep(10 * time.Second)
		key.SetPresence(Refuse)
		key.refused(ctap.StatusOperationDenied, ctap.CmdReset, nil)
		key.PowerCycle()
		key.SetPresence(Ignore)
		key.refused(ctap.StatusUserActionTimeout, ctap.CmdReset, nil)
		if !key.options()["clientPin"] {
			t.Error("the PIN is gone")
		}
		key.PowerCycle()
		// It is the request that has to come in time, not the touch.
		key.SetPresence(TouchAfter(20 * time.Second))
		key.ok(ctap.CmdReset, nil)

		patient := newKey(t, Config{ResetWindow: -1})
		time.Sleep(time.Hour)
		patient.ok(ctap.CmdReset, nil)
	})
}
