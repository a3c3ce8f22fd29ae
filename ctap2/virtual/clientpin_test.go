package virtual

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

var bothProtocols = []pin.Protocol{pin.One, pin.Two}

func TestClientPINRefused(t *testing.T) {
	some := bytes.Repeat([]byte{1}, 64)
	point := params{1: 2, 3: -25}
	for _, test := range []struct {
		name   string
		want   byte
		params params
		cfg    Config
	}{
		{"no subCommand", ctap.StatusMissingParameter, params{1: 2}, Config{}},
		{"subCommand of text", ctap.StatusCBORUnexpectedType, params{2: "x"}, Config{}},
		{"unassigned subCommand", ctap.StatusInvalidSubcommand, params{1: 2, 2: 8}, Config{}},
		{"unassigned subCommand, 2.0", ctap.StatusInvalidParameter, params{1: 1, 2: 8}, Config{Level: CTAP20}},
		{"2.1's subCommand, 2.0", ctap.StatusInvalidParameter, params{1: 1, 2: 9}, Config{Level: CTAP20}},
		{"getUVRetries without UV", ctap.StatusInvalidSubcommand, params{1: 2, 2: 7}, Config{}},
		{"token by UV without UV", ctap.StatusInvalidSubcommand, params{1: 2, 2: 6}, Config{}},
		{"token by UV without tokens", ctap.StatusInvalidSubcommand, params{1: 2, 2: 6}, Config{BuiltInUV: UVConfigured, NoPINUVAuthToken: true}},
		{"getPINRetries without PIN", ctap.StatusInvalidSubcommand, params{1: 2, 2: 1}, Config{BuiltInUV: UVConfigured, NoClientPIN: true}},
		{"token with permissions without tokens", ctap.StatusInvalidSubcommand, params{1: 2, 2: 9}, Config{NoPINUVAuthToken: true}},
		{"getKeyAgreement without protocol", ctap.StatusMissingParameter, params{2: 2}, Config{}},
		{"getKeyAgreement with unknown protocol", ctap.StatusInvalidParameter, params{1: 3, 2: 2}, Config{}},
		{"setPIN without keyAgreement", ctap.StatusMissingParameter, params{1: 2, 2: 3, 4: some, 5: some}, Config{}},
		{"setPIN without pinUvAuthParam", ctap.StatusMissingParameter, params{1: 2, 2: 3, 3: point, 5: some}, Config{}},
		{"setPIN without newPinEnc", ctap.StatusMissingParameter, params{1: 2, 2: 3, 3: point, 4: some}, Config{}},
		{"setPIN without protocol", ctap.StatusMissingParameter, params{2: 3, 3: point, 4: some, 5: some}, Config{}},
		{"setPIN with unknown protocol", ctap.StatusInvalidParameter, params{1: 9, 2: 3, 3: point, 4: some, 5: some}, Config{}},
		{"setPIN with a PIN", ctap.StatusPINAuthInvalid, params{1: 2, 2: 3, 3: point, 4: some, 5: some}, Config{PIN: testPIN}},
		{"setPIN with half a key", ctap.StatusInvalidParameter, params{1: 2, 2: 3, 3: point, 4: some, 5: some}, Config{}},
		{"keyAgreement of bytes", ctap.StatusCBORUnexpectedType, params{1: 2, 2: 3, 3: some, 4: some, 5: some}, Config{}},
		{"changePIN without pinHashEnc", ctap.StatusMissingParameter, params{1: 2, 2: 4, 3: point, 4: some, 5: some}, Config{}},
		{"changePIN without a PIN", ctap.StatusPINNotSet, params{1: 2, 2: 4, 3: point, 4: some, 5: some, 6: some}, Config{}},
		{"changePIN with half a key", ctap.StatusInvalidParameter, params{1: 2, 2: 4, 3: point, 4: some, 5: some, 6: some}, Config{PIN: testPIN}},
		{"getPinToken without pinHashEnc", ctap.StatusMissingParameter, params{1: 2, 2: 5, 3: point}, Config{}},
		{"getPinToken with permissions", ctap.StatusInvalidParameter, params{1: 2, 2: 5, 3: point, 6: some, 9: 1}, Config{PIN: testPIN}},
		{"getPinToken with rpId", ctap.StatusInvalidParameter, params{1: 2, 2: 5, 3: point, 6: some, 10: "x"}, Config{PIN: testPIN}},
		{"getPinToken without a PIN", ctap.StatusPINNotSet, params{1: 2, 2: 5, 3: point, 6: some}, Config{}},
		{"getPinToken with half a key", ctap.StatusInvalidParameter, params{1: 2, 2: 5, 3: point, 6: some}, Config{PIN: testPIN}},
		{"permissions missing", ctap.StatusMissingParameter, params{1: 2, 2: 9, 3: point, 6: some}, Config{PIN: testPIN}},
		{"permissions negative", ctap.StatusCBORUnexpectedType, params{1: 2, 2: 9, 3: point, 6: some, 9: -1}, Config{PIN: testPIN}},
		{"permissions 0", ctap.StatusInvalidParameter, params{1: 2, 2: 9, 3: point, 6: some, 9: 0}, Config{PIN: testPIN}},
		{"mc without rpId", ctap.StatusMissingParameter, params{1: 2, 2: 9, 3: point, 6: some, 9: 1}, Config{PIN: testPIN}},
		{"ga without rpId", ctap.StatusMissingParameter, params{1: 2, 2: 9, 3: point, 6: some, 9: 2}, Config{PIN: testPIN}},
		{"mc not by PIN", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 1, 10: "x"}, Config{PIN: testPIN, NoMCGAPermissionsWithClientPIN: true}},
		{"ga not by PIN", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 2, 10: "x"}, Config{PIN: testPIN, NoMCGAPermissionsWithClientPIN: true}},
		{"cm", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 4}, Config{PIN: testPIN, NoCredentialManagement: true}},
		{"cm without rk", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 4}, Config{PIN: testPIN, NoResidentKeys: true}},
		{"be", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 8}, Config{PIN: testPIN}},
		{"be, not managed", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 8}, Config{PIN: testPIN, BuiltInUV: UVConfigured, NoBioEnrollment: true}},
		{"lbw", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 16}, Config{PIN: testPIN, Extensions: []string{}}},
		{"acfg", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 32}, Config{PIN: testPIN, NoAuthenticatorConfig: true}},
		{"pcmr", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 64}, Config{PIN: testPIN, NoPersistentCredMgmtRO: true}},
		{"pcmr without cm", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 64}, Config{PIN: testPIN, NoCredentialManagement: true}},
		{"pcmr besides cm", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 68}, Config{PIN: testPIN}},
		{"pcmr besides mc", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 65, 10: "x"}, Config{PIN: testPIN}},
		{"cm besides mc", ctap.StatusUnauthorizedPermission, params{1: 2, 2: 9, 3: point, 6: some, 9: 5, 10: "x"}, Config{PIN: testPIN, NoCredentialManagement: true}},
		{"token without a PIN", ctap.StatusPINNotSet, params{1: 2, 2: 9, 3: point, 6: some, 9: 1, 10: "x"}, Config{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newKey(t, test.cfg).refused(test.want, ctap.CmdClientPIN, test.params)
		})
	}
}

func TestSetPIN(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{})
			if m := key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN))); m != nil {
				t.Errorf("setPIN answers %v", m)
			}
			if !key.options()["clientPin"] {
				t.Error("clientPin is false")
			}
			key.token(protocol, permMC, testRPID)
		})
	}
}

func TestNewPINRules(t *testing.T) {
	full := strings.Repeat("x", 64)
	for name, test := range map[string]struct {
		pin  []byte
		want byte
		min  int
	}{
		"four digits":                  {padded("1234"), ctap.StatusOK, 0},
		"three digits":                 {padded("123"), ctap.StatusPINPolicyViolation, 0},
		"empty":                        {padded(""), ctap.StatusPINPolicyViolation, 0},
		"four code points of 16 bytes": {padded("🔑🔑🔑🔑"), ctap.StatusOK, 0},
		"one code point of 4 bytes":    {padded("🔑"), ctap.StatusPINPolicyViolation, 0},
		"63 bytes":                     {padded(full[:63]), ctap.StatusOK, 0},
		"64 bytes":                     {padded(full), ctap.StatusPINPolicyViolation, 0},
		"zero byte inside":             {padded("12\x0034"), ctap.StatusPINPolicyViolation, 0},
		"not UTF-8":                    {padded("1234\xFF"), ctap.StatusPINPolicyViolation, 0},
		"five of six":                  {padded("12345"), ctap.StatusPINPolicyViolation, 6},
		"six of six":                   {padded("123456"), ctap.StatusOK, 6},
		"padded to 48 bytes":           {padded("1234")[:48], ctap.StatusInvalidParameter, 0},
		"padded to 80 bytes":           {append(padded("1234"), make([]byte, 16)...), ctap.StatusInvalidParameter, 0},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, Config{MinPINLength: test.min})
			key.refused(test.want, ctap.CmdClientPIN, key.setPINRequest(pin.Two, test.pin))
			if set := key.options()["clientPin"]; set != (test.want == ctap.StatusOK) {
				t.Errorf("clientPin is %v", set)
			}
		})
	}
}

func TestSetPINAuthentication(t *testing.T) {
	key := newKey(t, Config{})
	request := key.setPINRequest(pin.Two, padded(testPIN))
	request[4].([]byte)[0] ^= 1
	key.refused(ctap.StatusPINAuthInvalid, ctap.CmdClientPIN, request)

	// Authentic, and yet no ciphertext.
	mine, secret := key.agree(pin.Two)
	junk := make([]byte, 15)
	key.refused(ctap.StatusPINAuthInvalid, ctap.CmdClientPIN,
		params{1: pin.Two, subCommand: ctap.PINSetPIN, 3: mine, 4: secret.Authenticate(junk), 5: junk})

	// A point that is not on the curve.
	request = key.setPINRequest(pin.Two, padded(testPIN))
	encoded, err := cbor.Marshal(request[3])
	if err != nil {
		t.Fatal(err)
	}
	encoded[len(encoded)-1] ^= 1
	request[3] = cbor.RawMessage(encoded)
	key.refused(ctap.StatusInvalidParameter, ctap.CmdClientPIN, request)
}

func TestChangePIN(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN})
			token := key.token(protocol, permMC, testRPID)
			key.ok(ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "314159"))
			// Tokens are gone, and the old PIN is wrong.
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdMakeCredential, makeRequest(withToken(ctap.CmdMakeCredential, protocol, token)))
			request, _ := key.tokenRequest(protocol, testPIN, permMC, testRPID)
			key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, request)
			request, _ = key.tokenRequest(protocol, "314159", permMC, testRPID)
			key.ok(ctap.CmdClientPIN, request)
		})
	}
}

func TestChangePINRefused(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	request := key.changePINRequest(pin.One, testPIN, "314159")
	request[4].([]byte)[0] ^= 1
	key.refused(ctap.StatusPINAuthInvalid, ctap.CmdClientPIN, request)
	if n := key.pinRetries(); n != 8 {
		t.Errorf("%d retries: a forged request must not cost one", n)
	}
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, key.changePINRequest(pin.One, "000000", "314159"))
	if n := key.pinRetries(); n != 7 {
		t.Errorf("%d retries", n)
	}
	// The right old PIN gives the tries back even if the new one is no good.
	key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.changePINRequest(pin.One, testPIN, "1"))
	if n := key.pinRetries(); n != 8 {
		t.Errorf("%d retries", n)
	}
}

func TestForcePINChange(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN, ForcePINChange: true})
	legacy, _ := key.tokenRequest(pin.Two, testPIN, 0, "")
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, legacy)
	request, _ := key.tokenRequest(pin.Two, testPIN, permMC, testRPID)
	key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, request)
	if n := key.pinRetries(); n != 8 {
		t.Errorf("%d retries after right PINs", n)
	}
	key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, testPIN))
	key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	if value[bool](t, key.ok(ctap.CmdGetInfo, nil), infoForcePINChange) {
		t.Error("forcePINChange is still true")
	}
	request, _ = key.tokenRequest(pin.Two, "314159", permMC, testRPID)
	key.ok(ctap.CmdClientPIN, request)
	// Nothing forces it any more, so the same PIN is as good as another.
	key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, "314159", "314159"))

	// It is about the PIN of the Config and no other.
	reset := newKey(t, Config{PIN: testPIN, ForcePINChange: true})
	reset.ok(ctap.CmdReset, nil)
	for name, key := range map[string]*platform{"reset": reset, "without PIN": newKey(t, Config{ForcePINChange: true})} {
		for range 2 {
			if value[bool](t, key.ok(ctap.CmdGetInfo, nil), infoForcePINChange) {
				t.Errorf("%s: forcePINChange is true", name)
			}
			if !key.options()["clientPin"] {
				key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
			}
		}
		key.token(pin.Two, permMC, testRPID)
	}
}

// The PIN of the Config is what a platform makes of it.
func TestPINNormalized(t *testing.T) {
	key := newKey(t, Config{PIN: "Re\u0301sume\u0301"})
	request, _ := key.tokenRequest(pin.Two, "R\u00E9sum\u00E9", permMC, testRPID)
	key.ok(ctap.CmdClientPIN, request)
	// Normalized it is too short.
	if a, err := New(Config{PIN: "ae\u0301u\u0301"}); err == nil {
		a.Close()
		t.Error("a PIN of three code points was accepted")
	}
}

func TestWrongPIN(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	wrong := func(want byte) {
		t.Helper()
		request, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
		key.refused(want, ctap.CmdClientPIN, request)
	}
	retries := func(want int, powerCycle bool) {
		t.Helper()
		m := key.ok(ctap.CmdClientPIN, params{subCommand: ctap.PINGetRetries})
		if n, p := value[int](t, m, pinRetriesLeft), value[bool](t, m, pinPowerCycleState); n != want || p != powerCycle {
			t.Errorf("%d retries, power cycle %v; want %d, %v", n, p, want, powerCycle)
		}
	}
	retries(8, false)
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINInvalid)
	retries(6, false)
	key.token(pin.One, permMC, testRPID) // the right one sets both counters back
	retries(8, false)
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINAuthBlocked)
	retries(5, true)
	// Now the right PIN is of no use either, and nothing costs a try.
	request, _ := key.tokenRequest(pin.Two, testPIN, permMC, testRPID)
	key.refused(ctap.StatusPINAuthBlocked, ctap.CmdClientPIN, request)
	key.refused(ctap.StatusPINAuthBlocked, ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	retries(5, true)
	key.PowerCycle()
	retries(5, false)
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINAuthBlocked)
	key.PowerCycle()
	wrong(ctap.StatusPINInvalid)
	wrong(ctap.StatusPINBlocked)
	retries(0, false)
	key.PowerCycle()
	request, _ = key.tokenRequest(pin.Two, testPIN, permMC, testRPID)
	key.refused(ctap.StatusPINBlocked, ctap.CmdClientPIN, request)
	key.refused(ctap.StatusPINBlocked, ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	key.ok(ctap.CmdReset, nil)
	retries(8, false)
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
}

// After a wrong PIN the key has another key agreement key, so that the right
// PIN under the old secret is wrong.
func TestWrongPINRegenerates(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	stale, _ := key.tokenRequest(pin.Two, testPIN, permMC, testRPID)
	other, _ := key.tokenRequest(pin.One, testPIN, permMC, testRPID)
	wrong, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, wrong)
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, stale)
	if n := key.pinRetries(); n != 6 {
		t.Errorf("%d retries", n)
	}
	// The other protocol's key is another matter.
	key.ok(ctap.CmdClientPIN, other)
}

// A PIN hash that does not decrypt is a wrong PIN.
func TestPINHashJunk(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	for _, junk := range [][]byte{{}, make([]byte, 15), make([]byte, 16), make([]byte, 33)} {
		mine, _ := key.agree(pin.Two)
		key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, params{1: pin.Two, subCommand: ctap.PINGetPINToken, 3: mine, 6: junk})
		key.PowerCycle()
	}
	if n := key.pinRetries(); n != 4 {
		t.Errorf("%d retries", n)
	}
}

func TestOldKeyPINRetries(t *testing.T) {
	key := newKey(t, Config{Level: CTAP20})
	m := key.ok(ctap.CmdClientPIN, params{1: 1, subCommand: ctap.PINGetRetries})
	if len(m) != 1 || value[int](t, m, pinRetriesLeft) != 8 {
		t.Errorf("getRetries answers %v", m)
	}
}
