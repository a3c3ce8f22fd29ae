package virtual

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// uses is a platform with a token.
type uses struct {
	*platform
	protocol pin.Protocol
	token    pin.Secret
}

func (u uses) make() byte {
	status, _ := u.call(ctap.CmdMakeCredential, makeRequest(withToken(ctap.CmdMakeCredential, u.protocol, u.token)))
	return status
}

func (u uses) silent(rpID string) byte {
	status, _ := u.call(ctap.CmdGetAssertion, assertRequest(params{1: rpID, 5: names{"up": false}},
		withToken(ctap.CmdGetAssertion, u.protocol, u.token)))
	return status
}

func (u uses) want(got, want byte) {
	u.Helper()
	if got != want {
		u.Fatalf("status %#02x, want %#02x", got, want)
	}
}

func TestTokenPermissions(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN})
			// One touch spends a token: its permissions and its verification.
			u := uses{key, protocol, key.token(protocol, permMC|permGA, testRPID)}
			u.want(u.make(), ctap.StatusOK)
			u.want(u.make(), ctap.StatusPINAuthInvalid)
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
			// A touch of another request spends it too.
			u.token = key.token(protocol, permMC, testRPID)
			key.make()
			u.want(u.make(), ctap.StatusPINAuthInvalid)

			u.token = key.token(protocol, permGA, testRPID)
			u.want(u.make(), ctap.StatusPINAuthInvalid)
			u.want(u.silent(testRPID), ctap.StatusNoCredentials)
			u.token = key.token(protocol, permMC, testRPID)
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
			// Permissions that nobody has defined buy nothing.
			u.token = key.token(protocol, 0x80, "")
			u.want(u.make(), ctap.StatusPINAuthInvalid)

			// A token is for one relying party, and one protocol.
			u.token = key.token(protocol, permGA, testRPID)
			u.want(u.silent("example.net"), ctap.StatusPINAuthInvalid)
			u.protocol = 3 - protocol
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
			u.protocol = protocol
			// A newer one kills it.
			old := u.token
			u.token = key.token(protocol, permGA, testRPID)
			u.want(u.silent(testRPID), ctap.StatusNoCredentials)
			u.token = old
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
			// So does the end of power.
			u.token = key.token(protocol, permGA, testRPID)
			key.PowerCycle()
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
		})
	}
}

// CTAP 2.1 has not defined pcmr: it is ignored, as permissions are that nobody
// has.
func TestTokenUndefinedPermissions(t *testing.T) {
	key := newKey(t, Config{Level: CTAP21, PIN: testPIN})
	u := uses{key, pin.Two, key.token(pin.Two, permMC|ctap.PermissionPersistentCredentialMgmtRO, testRPID)}
	u.want(u.make(), ctap.StatusOK)
	u.token = key.token(pin.Two, ctap.PermissionPersistentCredentialMgmtRO, "")
	u.want(u.make(), ctap.StatusPINAuthInvalid)
}

func TestLegacyToken(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	u := uses{key, pin.Two, key.token(pin.Two, 0, "")}
	// It is bound to the first relying party that it is used for.
	u.want(u.silent("example.net"), ctap.StatusNoCredentials)
	u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
	u.want(u.make(), ctap.StatusPINAuthInvalid)
	u.token = key.token(pin.Two, 0, "")
	u.want(u.make(), ctap.StatusOK)
	u.want(u.make(), ctap.StatusPINAuthInvalid)

	key = newKey(t, Config{PIN: testPIN, NoMCGAPermissionsWithClientPIN: true})
	u = uses{key, pin.Two, key.token(pin.Two, 0, "")}
	u.want(u.make(), ctap.StatusPINAuthInvalid)
}

// Tokens of CTAP 2.0 last.
func TestOldKeyToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Level: CTAP20, PIN: testPIN})
		u := uses{key, pin.One, key.token(pin.One, 0, "")}
		time.Sleep(time.Hour)
		u.want(u.make(), ctap.StatusOK)
		u.want(u.silent("example.net"), ctap.StatusNoCredentials)
		if !key.token(pin.One, 0, "").Equal(u.token) {
			t.Error("another token")
		}
		u.want(u.make(), ctap.StatusOK)
		key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.One, testPIN, "314159"))
		u.want(u.make(), ctap.StatusPINAuthInvalid)
	})
}

func TestTokenTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN})
		u := uses{platform: key, protocol: pin.Two}
		fresh := func() { u.token = key.token(pin.Two, permMC|permGA, testRPID) }

		// Used within 30 seconds or not at all.
		fresh()
		time.Sleep(timeLimitUSB - 1)
		u.want(u.silent(testRPID), ctap.StatusNoCredentials)
		fresh()
		time.Sleep(timeLimitUSB)
		u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
		// A use that fails is none.
		fresh()
		key.refused(ctap.StatusPINAuthInvalid, ctap.CmdMakeCredential, makeRequest(params{8: testHash, 9: pin.Two}))
		time.Sleep(timeLimitUSB)
		u.want(u.make(), ctap.StatusPINAuthInvalid)

		// Once used, ten minutes, used or not.
		fresh()
		u.want(u.silent(testRPID), ctap.StatusNoCredentials)
		time.Sleep(maxUsageTimePeriod - 1)
		u.want(u.silent(testRPID), ctap.StatusNoCredentials)
		time.Sleep(time.Nanosecond)
		u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)
	})
}

// A token that was obtained over NFC has less time.
func TestTokenTimersNFC(t *testing.T) {
	for _, protocol := range bothProtocols {
		synctest.Test(t, func(t *testing.T) {
			var c counter
			key := newKey(t, Config{PIN: testPIN, BuiltInUV: UVConfigured, Presence: c.person})
			card := cardPlatform{reader: reader{t, key.Tap(CardConfig{})}, extended: true}
			defer card.Remove()
			card.run(t, selectU2F)
			u := uses{platform: key, protocol: protocol}
			fresh := func(request params, secret *pin.SharedSecret) {
				t.Helper()
				answer := card.exchange(message(t, ctap.CmdClientPIN, request))
				var m members
				if err := cbor.Unmarshal(answer[1:], &m); err != nil {
					t.Fatal(err)
				}
				u.token = key.openToken(m, secret)
			}
			fresh(key.tokenRequest(protocol, testPIN, permMC|permGA, testRPID))
			time.Sleep(19800*time.Millisecond - 1)
			u.want(u.silent(testRPID), ctap.StatusNoCredentials)
			fresh(key.tokenRequest(protocol, testPIN, permMC|permGA, testRPID))
			time.Sleep(19800 * time.Millisecond)
			u.want(u.silent(testRPID), ctap.StatusPINAuthInvalid)

			if protocol != pin.Two { // the only one that uvTokenRequest knows
				return
			}
			fresh(key.uvTokenRequest(permMC | permGA))
			u.want(u.silent(testRPID), ctap.StatusNoCredentials)
			time.Sleep(19800 * time.Millisecond)
			u.want(u.make(), ctap.StatusOK)
			if c.took() != 1 {
				t.Error("no touch after the finger was forgotten")
			}
		})
	}
}

// With built-in user verification the user is present, for 30 seconds.
func TestTokenUserPresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		key := newKey(t, Config{BuiltInUV: UVConfigured, Presence: c.person})
		u := uses{key, pin.Two, key.uvToken(permMC | permGA)}
		u.want(u.make(), ctap.StatusOK)
		if c.took() != 0 {
			t.Error("a touch in spite of the finger")
		}
		u.want(u.make(), ctap.StatusPINAuthInvalid) // it is spent as well

		u.token = key.uvToken(permMC | permGA)
		u.want(u.silent(testRPID), ctap.StatusNoCredentials)
		time.Sleep(timeLimitUSB)
		u.want(u.make(), ctap.StatusOK)
		if c.took() != 1 {
			t.Error("no touch after the finger was forgotten")
		}
	})
}

// A token vouches for a touch only in a request that it authenticates, and ends
// when there is nobody left whom the key could verify.
func TestTokenOfUnprotectedKey(t *testing.T) {
	for _, protocol := range bothProtocols {
		var c counter
		key := newKey(t, Config{BuiltInUV: UVConfigured, Presence: c.person})
		finger := key.state.fingerprints[0].id
		request, secret := key.uvTokenRequest(permBE | permMC | permGA)
		e := enroller{key, ctap.CmdBioEnrollment, pin.Two, key.openToken(key.ok(ctap.CmdClientPIN, request), secret)}
		e.do(removeFinger, params{1: finger})
		if key.Authenticator.token() != nil {
			t.Error("the token outlives the finger")
		}
		rubbish := params{8: []byte("rubbish"), 9: protocol}
		key.issueToken(&operation{}, protocol, true, permMC|permGA, nil) // as if it did not
		cred := key.make(rubbish)
		if n := c.took(); n != 1 {
			t.Errorf("makeCredential: %d touches", n)
		}
		key.issueToken(&operation{}, protocol, true, permMC|permGA, nil)
		key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential, makeRequest(rubbish, exclude(cred.id)))
		if n := c.took(); n != 1 {
			t.Errorf("makeCredential of what is excluded: %d touches", n)
		}
		key.issueToken(&operation{}, protocol, true, permMC|permGA, nil)
		key.assert(cred, allow(cred.id), params{6: []byte("rubbish"), 7: protocol})
		if n := c.took(); n != 1 {
			t.Errorf("getAssertion: %d touches", n)
		}
	}
}

// A touch spends all that a token says of its user (§6.5.5.7), but for the
// permission to write large blobs.
func TestTokenSpent(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured})
	key.uvToken(permMC | permLBW)
	key.spendToken()
	if tok := key.Authenticator.token(); tok.userPresent || tok.userVerified || tok.permissions != permLBW || key.userPresentFlag() {
		t.Errorf("after a touch: present %v, verified %v, permissions %#x", tok.userPresent, tok.userVerified, tok.permissions)
	}
}
