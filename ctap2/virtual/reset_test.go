package virtual

import (
	"bytes"
	"context"
	"slices"
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

// hold is a Person who touches the key for as long as it may ask for.
func hold(context.Context, Prompt) Answer { return Hold }

func TestResetLongTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		key := newKey(t, Config{LongTouchForReset: true, ResetWindow: -1, Presence: c.person})
		if !info[bool](key, infoLongTouchForReset) {
			t.Error("longTouchForReset is false")
		}
		reset := func(person Person, want byte) {
			t.Helper()
			c.next = person
			key.refused(want, ctap.CmdReset, nil)
		}
		reset(Touch, ctap.StatusUserActionTimeout)
		reset(TouchAfter(6*time.Second), ctap.StatusUserActionTimeout)
		reset(TouchFor(5*time.Second-1), ctap.StatusUserActionTimeout)
		reset(Refuse, ctap.StatusOperationDenied)
		reset(Ignore, ctap.StatusUserActionTimeout)
		start := time.Now()
		reset(TouchFor(time.Minute), ctap.StatusUserActionTimeout) // longer than the key waits
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("waited %v", d)
		}
		start = time.Now()
		reset(TouchFor(5*time.Second), ctap.StatusOK)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("waited %v", d)
		}
		if !slices.Equal(c.prompts[:1], []Prompt{{Command: ctap.CmdReset, LongTouch: true}}) {
			t.Errorf("prompts %+v", c.prompts)
		}
		reset(hold, ctap.StatusOK)
		// Nothing else asks for a long one, and a long one does.
		start = time.Now()
		c.next = TouchFor(time.Minute)
		key.make()
		key.ok(ctap.CmdSelection, nil)
		c.next = hold
		key.make()
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v", d)
		}
	})

	// A platform can turn it on.
	key := newKey(t, Config{})
	if info[bool](key, infoLongTouchForReset) {
		t.Error("longTouchForReset is true")
	}
	configurer{platform: key}.do(enableLongTouch, nil)
	if !info[bool](key, infoLongTouchForReset) {
		t.Error("longTouchForReset is false")
	}
	key.refused(ctap.StatusUserActionTimeout, ctap.CmdReset, nil)
	key.SetPresence(hold)
	key.ok(ctap.CmdReset, nil)
	key.SetPresence(Touch)
	key.ok(ctap.CmdReset, nil)
}

func TestTransportsForReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Transports: []string{"usb", "nfc"}, TransportsForReset: []string{"nfc"}, NoU2F: true}
		key := newKey(t, cfg)
		if got := info[[]string](key, infoTransportsForReset); !slices.Equal(got, []string{"nfc"}) {
			t.Errorf("transportsForReset %v", got)
		}
		// Out of time is out of the question then.
		key.refused(ctap.StatusOperationDenied, ctap.CmdReset, nil)
		time.Sleep(time.Minute)
		key.refused(ctap.StatusOperationDenied, ctap.CmdReset, nil)
		card := cardPlatform{reader: reader{t, key.Tap(CardConfig{})}}
		defer card.Remove()
		card.run(t, selectFIDO2)
		if answer := card.exchange([]byte{ctap.CmdReset}); !bytes.Equal(answer, []byte{ctap.StatusOK}) {
			t.Errorf("over NFC: %x", answer)
		}

		cfg.TransportsForReset = []string{"usb"}
		key = newKey(t, cfg)
		other := cardPlatform{reader: reader{t, key.Tap(CardConfig{})}}
		defer other.Remove()
		other.run(t, selectFIDO2)
		if answer := other.exchange([]byte{ctap.CmdReset}); !bytes.Equal(answer, []byte{ctap.StatusOperationDenied}) {
			t.Errorf("over NFC: %x", answer)
		}
		key.ok(ctap.CmdReset, nil)

		// A list that is empty is a key that cannot be reset at all.
		key = newKey(t, Config{TransportsForReset: []string{}})
		key.refused(ctap.StatusOperationDenied, ctap.CmdReset, nil)
		if m := newKey(t, Config{}).ok(ctap.CmdGetInfo, nil); m[infoTransportsForReset] != nil {
			t.Error("transportsForReset is there")
		}
	})
}

// The block after three wrong PINs goes with the PIN.
func TestResetLiftsBlock(t *testing.T) {
	for _, protocol := range bothProtocols {
		key := newKey(t, Config{PIN: testPIN})
		for _, want := range []byte{ctap.StatusPINInvalid, ctap.StatusPINInvalid, ctap.StatusPINAuthBlocked} {
			request, _ := key.tokenRequest(protocol, "000000", permMC, testRPID)
			key.refused(want, ctap.CmdClientPIN, request)
		}
		key.ok(ctap.CmdReset, nil)
		key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))
		key.token(protocol, permMC, testRPID)
	}
}
