package virtual

import (
	"testing"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestTrivialPIN(t *testing.T) {
	for userPIN, want := range map[string]bool{
		"1111": true, "00000000": true, "1234": true, "9876": true, "abcdef": true, "zyxw": true, "ääää": true, "🔑🔑🔑🔑": true,
		"1112": false, "1235": false, "4321234": false, "7890": false, "2468": false, "1221": false, "112233": false, "abcdfe": false,
		"271828": false, "1234a": false, "äöäö": false,
	} {
		if got := trivial(pin.FromString(userPIN)); got != want {
			t.Errorf("%q is trivial: %v", userPIN, got)
		}
	}
}

func TestPINComplexityPolicy(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{})
			c := configurer{platform: key}
			c.do(minPINLengthSub, params{4: false}) // asks for nothing
			if info[bool](key, infoPINComplexityPolicy) {
				t.Error("the policy is on")
			}
			c.do(minPINLengthSub, params{4: true})
			c.do(minPINLengthSub, params{4: false}) // does not lift it
			if !info[bool](key, infoPINComplexityPolicy) {
				t.Error("the policy is off")
			}
			for _, weak := range []string{"1234", "7777"} {
				key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.setPINRequest(protocol, padded(weak)))
			}
			key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))
			key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "654321"))
			key.ok(ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "314159"))
			key.ok(ctap.CmdReset, nil)
			if info[bool](key, infoPINComplexityPolicy) {
				t.Error("the policy is on after a reset")
			}
			key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded("1234")))
		})
	}
}

// Who has a PIN that the policy would not have let pass has to change it.
func TestPINComplexityPolicyForcesChange(t *testing.T) {
	for userPIN, want := range map[string]bool{testPIN: false, "123456": true} {
		for _, factory := range []bool{true, false} {
			cfg := Config{}
			if factory {
				cfg.PIN = userPIN
			}
			key := newKey(t, cfg)
			if !factory {
				key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(userPIN)))
			}
			request, secret := key.tokenRequest(pin.Two, userPIN, permACFG, "")
			c := configurer{key, pin.Two, key.openToken(key.ok(ctap.CmdClientPIN, request), secret)}
			c.do(minPINLengthSub, params{4: true})
			if got := info[bool](key, infoForcePINChange); got != want {
				t.Errorf("%q: forcePINChange is %v", userPIN, got)
			}
			if !want {
				c.do(minPINLengthSub, nil) // the token is in use still
				continue
			}
			c.fails(ctap.StatusPINAuthInvalid, minPINLengthSub, nil)
			key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, userPIN, testPIN))
			key.token(pin.Two, permMC, testRPID)
		}
	}
}

// From the factory, for good.
func TestPINComplexityPolicyFactory(t *testing.T) {
	key := newKey(t, Config{PINComplexityPolicy: true, NoAuthenticatorConfig: true, PINComplexityPolicyURL: "https://example.com/pin"})
	for range 2 {
		if !info[bool](key, infoPINComplexityPolicy) || string(info[[]byte](key, infoPINComplexityPolicyURL)) != "https://example.com/pin" {
			t.Error("getInfo says nothing of the policy")
		}
		key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded("1234")))
		key.ok(ctap.CmdReset, nil)
	}
}

func TestPINComplexityPolicyExtension(t *testing.T) {
	key := newKey(t, Config{})
	c := configurer{platform: key}
	if v := key.output("pinComplexityPolicy", true); v != nil {
		t.Errorf("nobody was named, and the output is %v", v)
	}
	c.do(minPINLengthSub, params{2: []string{testRPID}})
	if v := key.output("pinComplexityPolicy", true); v != false {
		t.Errorf("output %v", v)
	}
	c.do(minPINLengthSub, params{4: true})
	if v := key.output("pinComplexityPolicy", true); v != true {
		t.Errorf("output %v", v)
	}
	if v := key.output("pinComplexityPolicy", false); v != nil {
		t.Errorf("not asked, and the output is %v", v)
	}
	key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(params{6: names{"pinComplexityPolicy": 1}}))
	// Both at once.
	d := key.make(params{6: names{"pinComplexityPolicy": true, "minPinLength": true}})
	if len(d.outputs) != 2 {
		t.Errorf("outputs %v", d.outputs)
	}
	// CTAP 2.1 does not know it.
	old := newKey(t, Config{Level: CTAP21})
	configurer{platform: old}.do(minPINLengthSub, params{2: []string{testRPID}})
	if v := old.output("pinComplexityPolicy", true); v != nil {
		t.Errorf("output %v", v)
	}
}
