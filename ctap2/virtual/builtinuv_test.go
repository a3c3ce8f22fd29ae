package virtual

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestTokenUsingUV(t *testing.T) {
	var c counter
	key := newKey(t, Config{BuiltInUV: UVConfigured, NoClientPIN: true, NoUVBioEnroll: true, NoUVAcfg: true, Verification: c.person})
	cred := key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, key.uvToken(permMC)))
	key.wantFlags(cred, flagUP|flagUV|flagAT)
	want := Prompt{Command: ctap.CmdClientPIN, Verification: true, RPID: testRPID}
	if len(c.prompts) != 1 || c.prompts[0] != want {
		t.Errorf("prompts %+v", c.prompts)
	}

	for name, test := range map[string]struct {
		change params
		want   byte
	}{
		"no keyAgreement": {params{3: nil}, ctap.StatusMissingParameter},
		"no permissions":  {params{9: nil}, ctap.StatusMissingParameter},
		"no rpId":         {params{10: nil}, ctap.StatusMissingParameter},
		"half a key":      {params{3: params{1: 2}}, ctap.StatusInvalidParameter},
		"permissions 0":   {params{9: 0}, ctap.StatusInvalidParameter},
		"be":              {params{9: 8}, ctap.StatusUnauthorizedPermission},
		"acfg":            {params{9: 32}, ctap.StatusUnauthorizedPermission},
		"pcmr besides mc": {params{9: 65}, ctap.StatusUnauthorizedPermission},
	} {
		request, _ := key.uvTokenRequest(permMC)
		if status, _ := key.call(ctap.CmdClientPIN, merge(request, []params{test.change})); status != test.want {
			t.Errorf("%s: status %#02x, want %#02x", name, status, test.want)
		}
	}
	if len(c.prompts) != 1 {
		t.Error("somebody was asked for a finger in vain")
	}

	none := newKey(t, Config{BuiltInUV: UVNotConfigured})
	request, _ := none.uvTokenRequest(permMC)
	none.refused(ctap.StatusNotAllowed, ctap.CmdClientPIN, request)
}

// A PIN may not buy mc and ga where a finger does.
func TestTokenUsingUVInsteadOfPIN(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN, NoMCGAPermissionsWithClientPIN: true})
	u := uses{key, pin.Two, key.uvToken(permMC | permGA)}
	u.want(u.make(), ctap.StatusOK)
}

func TestUVRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN})
		try := func(person Person, want byte, left int) {
			t.Helper()
			key.SetVerification(person)
			request, _ := key.uvTokenRequest(permMC)
			key.refused(want, ctap.CmdClientPIN, request)
			if n := key.uvRetries(); n != left {
				t.Errorf("%d UV retries, want %d", n, left)
			}
		}
		try(Refuse, ctap.StatusUVInvalid, 4)
		try(Refuse, ctap.StatusUVInvalid, 3)
		try(Touch, ctap.StatusOK, 5)
		try(Ignore, ctap.StatusUserActionTimeout, 4)
		for left := 3; left > 0; left-- {
			try(Refuse, ctap.StatusUVInvalid, left)
		}
		try(Refuse, ctap.StatusUVBlocked, 0)
		try(Touch, ctap.StatusUVBlocked, 0)
		key.PowerCycle()
		try(Touch, ctap.StatusUVBlocked, 0)
		key.token(pin.Two, permMC, testRPID) // the PIN recovers it
		try(Touch, ctap.StatusOK, 5)
		try(func(context.Context, Prompt) Answer { return LockOut }, ctap.StatusUVBlocked, 0)
	})
}

// A try that the platform cancels was none.
func TestUVCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{BuiltInUV: UVConfigured, Verification: Ignore})
		request, _ := key.uvTokenRequest(permMC)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if status, _ := key.exchange(ctx, message(t, ctap.CmdClientPIN, request), nil); status != ctap.StatusKeepaliveCancel {
			t.Errorf("status %#02x", status)
		}
		if n := key.uvRetries(); n != 5 {
			t.Errorf("%d UV retries", n)
		}
	})
}

// Losing power in the middle of a try costs it.
func TestUVUnplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{BuiltInUV: UVConfigured, Verification: Ignore})
		request, _ := key.uvTokenRequest(permMC)
		go key.Exchange(t.Context(), message(t, ctap.CmdClientPIN, request), nil)
		synctest.Wait()
		key.PowerCycle()
		if n := key.uvRetries(); n != 4 {
			t.Errorf("%d UV retries", n)
		}
	})
}

// The option uv makes the key try three times by itself.
func TestUVOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withUV := params{7: names{"uv": true}}
		var c counter
		third := func(ctx context.Context, prompt Prompt) Answer {
			if len(c.prompts)%3 == 0 {
				return Approve
			}
			return Deny
		}
		c.next = third
		key := newKey(t, Config{BuiltInUV: UVConfigured, NoClientPIN: true, Verification: c.person})
		cred := key.make(withUV)
		key.wantFlags(cred, flagUP|flagUV|flagAT)
		d, _ := key.assert(cred, allow(cred.id), params{5: names{"uv": true}})
		key.wantFlags(d, flagUP|flagUV)
		if c.took() != 6 || key.uvRetries() != 5 {
			t.Errorf("%d UV retries", key.uvRetries())
		}
		key.SetVerification(Ignore)
		key.refused(ctap.StatusUserActionTimeout, ctap.CmdMakeCredential, makeRequest(withUV))
		key.SetVerification(Refuse)
		key.refused(ctap.StatusOperationDenied, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{5: names{"uv": true}}))
		key.refused(ctap.StatusPINBlocked, ctap.CmdMakeCredential, makeRequest(withUV))
		key.refused(ctap.StatusPINBlocked, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{5: names{"uv": true}}))

		// Where there is a PIN, it is what comes next.
		key = newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN, Verification: Refuse})
		key.refused(ctap.StatusPUATRequired, ctap.CmdMakeCredential, makeRequest(withUV))
	})
}

// Without pinUvAuthToken the option uv is all there is.
func TestUVWithoutToken(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured, NoPINUVAuthToken: true, NoClientPIN: true, AlwaysUV: true})
	if o := key.options(); o["pinUvAuthToken"] || !o["uv"] {
		t.Errorf("options %v", o)
	}
	cred := key.make()
	key.wantFlags(cred, flagUP|flagUV|flagAT)
	d, _ := key.assert(cred, allow(cred.id))
	key.wantFlags(d, flagUP|flagUV)
}

// No tries of the PIN are left: built-in UV is blocked along with it.
func TestUVBlockedWithPIN(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN})
	for range 8 {
		request, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
		key.call(ctap.CmdClientPIN, request)
		key.PowerCycle()
	}
	request, _ := key.uvTokenRequest(permMC)
	key.refused(ctap.StatusUVBlocked, ctap.CmdClientPIN, request)
	if n := key.uvRetries(); n != 0 {
		t.Errorf("%d UV retries", n)
	}
}

// A PIN that is set makes the tries of a PIN available, and not those of a finger
// (§6.5.5.5 step 12). Its entry does.
func TestSetPINLeavesUVBlocked(t *testing.T) {
	for _, protocol := range bothProtocols {
		key := newKey(t, Config{BuiltInUV: UVConfigured, Verification: func(context.Context, Prompt) Answer { return LockOut }})
		request, _ := key.uvTokenRequest(permMC)
		key.refused(ctap.StatusUVBlocked, ctap.CmdClientPIN, request)
		key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))
		if n := key.uvRetries(); n != 0 {
			t.Errorf("%d tries of a finger after setPIN", n)
		}
		key.token(protocol, permMC, testRPID)
		if n := key.uvRetries(); n != maxUVRetries {
			t.Errorf("%d tries of a finger after the right PIN", n)
		}
	}
}
