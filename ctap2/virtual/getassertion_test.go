package virtual

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestGetAssertionRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		want   byte
		change params
		cfg    Config
	}{
		{"no rpId", ctap.StatusMissingParameter, params{1: nil}, Config{}},
		{"no clientDataHash", ctap.StatusMissingParameter, params{2: nil}, Config{}},
		{"rpId of bytes", ctap.StatusCBORUnexpectedType, params{1: []byte(testRPID)}, Config{}},
		{"clientDataHash of 33 bytes", ctap.StatusInvalidLength, params{2: append([]byte{0}, testHash...)}, Config{}},
		{"allowList of text", ctap.StatusCBORUnexpectedType, params{3: "x"}, Config{}},
		{"allowList of bytes", ctap.StatusCBORUnexpectedType, params{3: [][]byte{{1}}}, Config{}},
		{"allowList too long", ctap.StatusLimitExceeded, allow(slices.Repeat([][]byte{{1}}, 9)...), Config{}},
		{"allowList empty", ctap.StatusNoCredentials, params{3: []names{}}, Config{}},
		{"allowList of strangers", ctap.StatusNoCredentials, allow([]byte{1}, bytes.Repeat([]byte{1}, 70)), Config{}},
		{"extensions of text", ctap.StatusCBORUnexpectedType, params{4: "x"}, Config{}},
		{"option null", ctap.StatusCBORUnexpectedType, params{5: names{"up": nil}}, Config{}},
		{"rk", ctap.StatusUnsupportedOption, params{5: names{"rk": false}}, Config{}},
		{"uv unsupported", ctap.StatusInvalidOption, params{5: names{"uv": true}}, Config{}},
		{"pinUvAuthParam without protocol", ctap.StatusMissingParameter, params{6: testHash}, Config{}},
		{"pinUvAuthParam with unknown protocol", ctap.StatusInvalidParameter, params{6: testHash, 7: 0}, Config{}},
		{"pinUvAuthParam wrong", ctap.StatusPINAuthInvalid, params{6: testHash, 7: 1}, Config{PIN: testPIN}},
		{"no pinUvAuthParam, no PIN", ctap.StatusPINNotSet, params{6: []byte{}}, Config{}},
		{"no pinUvAuthParam, PIN", ctap.StatusPINInvalid, params{6: []byte{}}, Config{PIN: testPIN}},
		{"alwaysUv without PIN", ctap.StatusPUATRequired, nil, Config{AlwaysUV: true}},
		{"alwaysUv with PIN", ctap.StatusPUATRequired, nil, Config{AlwaysUV: true, PIN: testPIN}},
		{"alwaysUv with nothing", ctap.StatusOperationDenied, nil, Config{AlwaysUV: true, NoClientPIN: true, BuiltInUV: UVNotConfigured}},
		{"nothing there", ctap.StatusNoCredentials, nil, Config{Presence: Refuse}},
		{"nothing there, CTAP 2.0", ctap.StatusOperationDenied, nil, Config{Presence: Refuse, Level: CTAP20}},
	} {
		t.Run(test.name, func(t *testing.T) {
			newKey(t, test.cfg).refused(test.want, ctap.CmdGetAssertion, assertRequest(test.change))
		})
	}
	key := newKey(t, Config{})
	cred := key.make()
	key.SetPresence(Refuse)
	key.refused(ctap.StatusOperationDenied, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
	key.SetPresence(func(context.Context, Prompt) Answer { return Nothing })
	key.refused(ctap.StatusOperationDenied, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
	old := newKey(t, Config{Level: CTAP20})
	cred = old.make()
	old.SetPresence(func(context.Context, Prompt) Answer { return Nothing })
	old.refused(ctap.StatusUserActionTimeout, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
	old.refused(ctap.StatusPINNotSet, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{6: testHash, 7: 1}))
	old.refused(ctap.StatusPINAuthInvalid, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{6: testHash, 7: 2}))
}

// A caller may use the buffer of its message for the next one.
func TestMessageIsTheCallers(t *testing.T) {
	key := newKey(t, Config{})
	creds := makeAccounts(key)
	input, secret := key.saltInput(pin.Two, salt1)
	msg := message(t, ctap.CmdGetAssertion, assertRequest(withSalts(input)))
	_, m := key.exchange(t.Context(), msg, nil)
	clear(msg)
	first := key.hmacOutputs(key.checkAssertion(creds[2], m), secret)
	if d := key.checkAssertion(creds[1], key.ok(ctap.CmdGetNextAssertion, nil)); bytes.Equal(key.hmacOutputs(d, secret), first) {
		t.Error("two credentials have the same secret")
	}
}

func TestAllowList(t *testing.T) {
	key := newKey(t, Config{})
	sealed := key.make()
	stored := key.make(residentKey(), account("grace", "grace@example.com"))

	d, m := key.assert(sealed, allow([]byte{1}, sealed.id, stored.id))
	key.wantFlags(d, flagUP)
	if m[assertionUser] != nil || m[assertionNumberOfCredentials] != nil {
		t.Errorf("members %v", m)
	}
	_, m = key.assert(stored, allow(stored.id, sealed.id))
	if user := value[names](t, m, assertionUser); len(user) != 1 || string(user["id"].([]byte)) != "grace" {
		t.Errorf("user %v", user)
	}
	// transports are tolerated, other types passed over.
	key.assert(stored, params{3: []names{
		{"id": sealed.id, "type": "private-key"},
		{"id": stored.id, "type": "public-key", "transports": []string{"usb", "telepathy"}, "unknown": 1},
	}})
	// A credential is bound to its relying party.
	for _, id := range [][]byte{sealed.id, stored.id} {
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(params{1: "example.net"}, allow(id)))
	}
	// So is it to its key.
	newKey(t, Config{}).refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(sealed.id)))
	for i := range sealed.id {
		id := bytes.Clone(sealed.id)
		id[i] ^= 1
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(id)))
	}
}

func TestSilentAssertion(t *testing.T) {
	var c counter
	key := newKey(t, Config{PIN: testPIN, AlwaysUV: true, Presence: c.person})
	token := key.token(pin.Two, permMC|permGA, testRPID)
	cred := key.make(withToken(ctap.CmdMakeCredential, pin.Two, token))
	c.took()
	silent := params{5: names{"up": false}}
	d, _ := key.assert(cred, allow(cred.id), silent)
	key.wantFlags(d, 0)
	// It does not spend a token.
	token = key.token(pin.One, permGA, testRPID)
	for range 2 {
		d, _ = key.assert(cred, allow(cred.id), silent, withToken(ctap.CmdGetAssertion, pin.One, token))
		key.wantFlags(d, flagUV)
	}
	if c.took() != 0 {
		t.Error("somebody was asked for a touch")
	}
}

// makeAccounts makes three discoverable credentials.
func makeAccounts(key *platform) []authData {
	var creds []authData
	for _, id := range []string{"a", "b", "c"} {
		creds = append(creds, key.make(residentKey(), params{3: names{
			"id": []byte(id), "name": id + "@example.com", "displayName": id,
		}}))
	}
	return creds
}

func TestGetNextAssertion(t *testing.T) {
	var c counter
	key := newKey(t, Config{Presence: c.person})
	creds := makeAccounts(key)
	c.took()
	d, m := key.assert(creds[2]) // newest first
	if n := value[int](t, m, assertionNumberOfCredentials); n != 3 {
		t.Errorf("numberOfCredentials %d", n)
	}
	for i, id := range []string{"c", "b", "a"} {
		if i > 0 {
			m = key.ok(ctap.CmdGetNextAssertion, nil)
			d = key.checkAssertion(creds[2-i], m)
			if m[assertionNumberOfCredentials] != nil {
				t.Error("numberOfCredentials again")
			}
		}
		key.wantFlags(d, flagUP)
		if d.signCount != uint32(i+1) {
			t.Errorf("signature counter %d", d.signCount)
		}
		// Without user verification nothing but the ID tells who it is.
		if user := value[names](t, m, assertionUser); len(user) != 1 || string(user["id"].([]byte)) != id {
			t.Errorf("user %v", user)
		}
	}
	key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)
	if n := c.took(); n != 1 {
		t.Errorf("the person was asked %d times", n)
	}
}

func TestUserNamesNeedVerification(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured, NoClientPIN: true, UVRequiredForNonDiscoverable: true})
	verified := params{7: names{"uv": true, "rk": true}}
	key.ok(ctap.CmdMakeCredential, makeRequest(verified))
	m := key.ok(ctap.CmdGetAssertion, assertRequest(params{5: names{"uv": true}}))
	if user := value[names](t, m, assertionUser); len(user) != 1 {
		t.Errorf("user %v: there is no choice to be made", user)
	}
	key.ok(ctap.CmdMakeCredential, makeRequest(verified, account("grace", "grace@example.com")))
	for _, want := range []names{
		{"id": []byte("grace"), "name": "grace@example.com"},
		{"id": []byte("ada"), "name": "ada@example.com", "displayName": "Ada"},
	} {
		command, parameters := byte(ctap.CmdGetNextAssertion), any(nil)
		if want["displayName"] == nil {
			command, parameters = ctap.CmdGetAssertion, assertRequest(params{5: names{"uv": true}})
		}
		m := key.ok(command, parameters)
		key.wantFlags(key.parseAuthData(m), flagUP|flagUV)
		user := value[names](t, m, assertionUser)
		if !maps.EqualFunc(user, want, func(a, b any) bool {
			x, isBytes := a.([]byte)
			return isBytes && bytes.Equal(x, b.([]byte)) || !isBytes && a == b
		}) {
			t.Errorf("user %v, want %v", user, want)
		}
	}
}

func TestGetNextAssertionState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN})
		key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)
		key.SetPresence(Touch)
		token := key.token(pin.Two, permMC, testRPID)
		key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, token))
		token = key.token(pin.Two, permMC, testRPID)
		key.make(residentKey(), account("b", "b"), withToken(ctap.CmdMakeCredential, pin.Two, token))
		token = key.token(pin.Two, permMC, testRPID)
		key.make(residentKey(), account("c", "c"), withToken(ctap.CmdMakeCredential, pin.Two, token))

		for name, disturb := range map[string]func(){
			"getInfo":         func() { key.ok(ctap.CmdGetInfo, nil) },
			"unknown command": func() { key.refused(ctap.StatusInvalidCommand, 0x7F, nil) },
			"getAssertion":    func() { key.refused(ctap.StatusMissingParameter, ctap.CmdGetAssertion, nil) },
			"bad parameters":  func() { key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdGetNextAssertion, 1) },
			"power":           func() { key.PowerCycle() },
			"time":            func() { time.Sleep(30*time.Second + 1) },
		} {
			key.ok(ctap.CmdGetAssertion, assertRequest())
			disturb()
			if status, _ := key.call(ctap.CmdGetNextAssertion, nil); status != ctap.StatusNotAllowed {
				t.Errorf("after %s: status %#02x", name, status)
			}
		}

		// Thirty seconds are allowed, and start again each time.
		key.ok(ctap.CmdGetAssertion, assertRequest())
		for range 2 {
			time.Sleep(30 * time.Second)
			key.ok(ctap.CmdGetNextAssertion, nil)
		}

		// The state does not outlive the token it was reached with.
		token = key.token(pin.Two, permGA, testRPID)
		withSilence := []params{withToken(ctap.CmdGetAssertion, pin.Two, token), {5: names{"up": false}}}
		key.ok(ctap.CmdGetAssertion, assertRequest(withSilence...))
		time.Sleep(maxUsageTimePeriod - time.Second)
		key.ok(ctap.CmdGetAssertion, assertRequest(withSilence...))
		key.ok(ctap.CmdGetNextAssertion, nil)
		time.Sleep(time.Second)
		key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)
	})
}
