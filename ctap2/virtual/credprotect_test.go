package virtual

import (
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func protect(policy any) params { return params{6: names{"credProtect": policy}} }

func TestCredProtectInput(t *testing.T) {
	key := newKey(t, Config{})
	for _, policy := range []uint8{1, 2, 3} {
		cred := key.make(protect(policy))
		key.wantFlags(cred, flagUP|flagAT|flagED)
		var got uint8
		if err := cbor.Unmarshal(cred.outputs["credProtect"], &got); err != nil || got != policy || len(cred.outputs) != 1 {
			t.Errorf("outputs %v, %v", cred.outputs, err)
		}
	}
	key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, makeRequest(protect(0)))
	key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, makeRequest(protect(4)))
	key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(protect("3")))
	key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(protect(nil)))
	// It means nothing to getAssertion.
	cred := key.make()
	d, _ := key.assert(cred, allow(cred.id), params{4: names{"credProtect": "?"}})
	key.wantFlags(d, flagUP)
}

func TestCredProtectAssertion(t *testing.T) {
	for _, test := range []struct {
		policy uint8
		// whether an assertion succeeds without user verification
		listed, unlisted bool
	}{{1, true, true}, {2, true, false}, {3, false, false}} {
		key := newKey(t, Config{BuiltInUV: UVConfigured})
		verified := params{5: names{"uv": true}}
		rk := key.make(protect(test.policy), params{7: names{"rk": true, "uv": true}})
		sealed := key.make(protect(test.policy))
		check := func(what string, want bool, changes ...params) {
			t.Helper()
			status, _ := key.call(ctap.CmdGetAssertion, assertRequest(changes...))
			if want && status != ctap.StatusOK || !want && status != ctap.StatusNoCredentials {
				t.Errorf("policy %d, %s: status %#02x", test.policy, what, status)
			}
		}
		check("unlisted", test.unlisted)
		check("listed", test.listed, allow(rk.id))
		check("listed, sealed", test.listed, allow(sealed.id))
		check("unlisted, verified", true, verified)
		check("listed, verified", true, verified, allow(rk.id))
		check("listed, sealed, verified", true, verified, allow(sealed.id))
	}
}

// A credential that needs verification does not exclude a request without.
func TestCredProtectExcludeList(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	for _, policy := range []uint8{2, 3} {
		cred := key.make(protect(policy))
		want := byte(ctap.StatusCredentialExcluded)
		if policy == 3 {
			want = ctap.StatusOK
		}
		key.refused(want, ctap.CmdMakeCredential, makeRequest(exclude(cred.id)))
		token := key.token(pin.Two, permMC, testRPID)
		key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential,
			makeRequest(exclude(cred.id), withToken(ctap.CmdMakeCredential, pin.Two, token)))
	}
}
