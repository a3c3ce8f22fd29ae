package conformance

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// keyAgreements adds the requirements on the authenticator's key agreement key.
func (d *drivers) keyAgreements() {
	base := plain.and(clientPINCommand).leavesNoTrace()
	d.add("ka-shape", base, func(x *trial) error {
		// {1: {1: 2, 3: -25, -1: 1, -2: x, -3: y}}
		const head, between = "\xA1\x01\xA5\x01\x02\x03\x38\x18\x20\x01\x21\x58\x20", "\x22\x58\x20"
		reply := x.keyAgreement(x.protocol())
		at := len(head) + 32
		if len(reply) != at+len(between)+32 || !bytes.HasPrefix(reply, []byte(head)) || !bytes.HasPrefix(reply[at:], []byte(between)) {
			x.fatalf("keyAgreement is %x", reply)
		}
		point := append(append([]byte{4}, reply[len(head):at]...), reply[at+len(between):]...)
		if _, err := ecdh.P256().NewPublicKey(point); err != nil {
			x.errorf("keyAgreement: %v", err)
		}
		return nil
	})
	d.add("ka-power-cycle", base.powerCycle(), func(x *trial) error {
		before := x.keyAgreement(x.protocol())
		x.powerCycle()
		if bytes.Equal(before, x.keyAgreement(x.protocol())) {
			x.errorf("the key agreement key outlives a power cycle")
		}
		return nil
	})
	d.add("ka-wrong-pin", withPIN.spends(1).leavesNoTrace(), func(x *trial) error {
		before := x.keyAgreement(x.protocol())
		x.mistypeInARow(1)
		if bytes.Equal(before, x.keyAgreement(x.protocol())) {
			x.errorf("the key agreement key outlives a wrong PIN")
		}
		return nil
	})
}

// pinCounters adds the requirements on the tries of the PIN, and of built-in user
// verification.
func (d *drivers) pinCounters() {
	left := func(x *trial, want int, after string) {
		if got := x.tries(); got != want {
			x.errorf("%d tries of the PIN are left after %s, must be %d", got, after, want)
		}
	}
	d.add("retries-most", plain.and(clientPIN), func(x *trial) error {
		if n := x.tries(); n < 1 || n > ctap.PINMaxRetries {
			x.errorf("%d tries of a PIN that nobody has entered", n)
		}
		return nil
	})
	counts := func(id string, s setup, run func(x *trial, before int)) {
		d.add("retries-"+id, s, func(x *trial) error {
			run(x, x.tries())
			return nil
		})
	}
	spends := withPIN.leavesNoTrace()
	counts("wrong", spends.spends(2), func(x *trial, before int) {
		x.mistypeInARow(1)
		left(x, before-1, "a wrong PIN")
		x.mistypeInARow(1)
		left(x, before-2, "two wrong PINs")
	})
	counts("power-cycle", spends.spends(1).powerCycle(), func(x *trial, before int) {
		x.mistypeInARow(1)
		x.powerCycle()
		left(x, before-1, "a wrong PIN and a power cycle")
	})
	counts("right", spends.spends(2), func(x *trial, before int) {
		x.mistypeInARow(2)
		x.must(x.legacy(x.agree(), x.pin()))
		left(x, before, "the right PIN")
	})
	counts("change", withPIN.spends(2), func(x *trial, before int) {
		x.mistypeInARow(2)
		x.changePIN()
		left(x, before, "the right PIN in changePIN")
	})
	counts("change-refused", withPIN.spends(1), func(x *trial, before int) {
		x.mistypeInARow(1)
		a := x.agree()
		if x.clientPIN(a.changePIN(a.encrypt(x, padded("314")), a.hash(x, x.pin()))) == nil {
			x.errorf("a PIN of three characters is accepted")
		}
		left(x, before, "the right PIN in a changePIN whose new PIN is refused")
	})
	counts("blocked", withPIN.spends(ctap.PINMaxRetries).powerCycle(), func(x *trial, _ int) {
		x.mistypeUntil(0)
		if x.legacy(x.agree(), x.pin()) == nil {
			x.errorf("the right PIN unblocks the PIN")
		}
		left(x, 0, "the right PIN where it is blocked")
		x.powerCycle()
		left(x, 0, "a power cycle")
	})
	counts("auth-blocked", withPIN.spends(3), func(x *trial, before int) {
		x.mistypeInARow(3)
		for range 2 {
			if x.legacy(x.agree(), x.wrongPIN()) == nil {
				x.errorf("the wrong PIN is right")
			}
		}
		left(x, before-3, "five wrong PINs in a row, the last two of which were not looked at")
	})
	counts("state", withPIN.and(from21).spends(3).powerCycle(), func(x *trial, _ int) {
		blocked := func(want bool, when string) {
			answer, err := x.retries()
			x.must(err)
			// It is optional as long as it is false.
			if got, _ := answer[cpPowerCycle].(bool); got != want {
				x.errorf("powerCycleState %s is %v", when, answer[cpPowerCycle])
			}
		}
		blocked(false, "at first")
		x.mistypeInARow(2)
		blocked(false, "after two wrong PINs")
		x.mistypeInARow(1)
		if answer, err := x.retries(); err == nil && answer[cpPowerCycle] == nil {
			x.skip("does not say whether it needs a power cycle")
		}
		blocked(true, "after three wrong PINs in a row")
		x.powerCycle()
		blocked(false, "after a power cycle")
	})
	counts("malformed", spends, func(x *trial, before int) {
		for _, member := range []int{cpKeyAgreement, cpHash} {
			if x.clientPIN(edited(x.agree().getToken(x, x.pin()), []edit{drop(member)})) == nil {
				x.errorf("a request without member %d is accepted", member)
			}
		}
		left(x, before, "requests in which something is missing")
	})

	uvLeft := func(x *trial, want int, after string) {
		if got := x.uvTries(); got != want {
			x.errorf("%d tries of built-in user verification are left after %s, must be %d", got, after, want)
		}
	}
	d.add("uvretries-most", withFinger.and(from21), func(x *trial) error {
		if n := x.uvTries(); n < 1 || n > 25 {
			x.errorf("%d tries of built-in user verification that nobody has failed", n)
		}
		return nil
	})
	uv := func(id string, s setup, run func(x *trial, before int)) {
		d.add("uvretries-"+id, s, func(x *trial) error {
			run(x, x.uvTries())
			return nil
		})
	}
	mistaken := withFinger.and(permissions, from21).person(WrongFinger)
	uv("power-cycle", mistaken.powerCycle(), func(x *trial, before int) {
		x.loseUV(before - 1)
		lost := x.uvTries()
		x.powerCycle()
		uvLeft(x, lost, "a power cycle")
	})
	uv("right", mistaken, func(x *trial, before int) {
		x.loseUV(before - 1)
		x.person(Touch)
		x.must(x.legacy(x.agree(), "", usingUV(ctap2.PermissionGetAssertion, "example.com")))
		uvLeft(x, before, "the right finger")
	})
	uv("pin", mistaken, func(x *trial, before int) {
		x.loseUV(before - 1)
		x.must(x.legacy(x.agree(), x.pin()))
		uvLeft(x, before, "the right PIN")
	})
}

// pins adds the requirements on the PIN itself.
func (d *drivers) pins() {
	first := plain.and(clientPIN)
	isRight := func(x *trial, entered string) {
		if err := x.legacy(x.agree(), entered); err != nil {
			x.errorf("the right PIN is refused: %v", err)
		}
	}
	isWrong := func(x *trial, entered string) {
		if err := x.legacy(x.agree(), entered); !errors.Is(err, ctap2.ErrPINInvalid) {
			x.errorf("the wrong PIN is answered with %v", err)
		}
	}
	optionIs := func(x *trial, want bool) {
		if got := x.fresh().Options[ctap2.OptionClientPIN]; got != want {
			x.errorf("the option clientPin is %v", got)
		}
	}
	d.add("pin-refused", first, func(x *trial) error {
		if x.trySetPIN("123") == nil {
			x.errorf("a PIN of three characters is accepted")
		}
		optionIs(x, false)
		x.must(x.trySetPIN(x.pin()))
		return nil
	})
	d.add("pin-power-cycle", first.powerCycle().spends(1), func(x *trial) error {
		x.must(x.trySetPIN(x.pin()))
		x.powerCycle()
		isRight(x, x.pin())
		isWrong(x, x.wrongPIN())
		return nil
	})
	d.add("pin-longest", first.spends(1).and(condition{"takes no PIN of 63 characters", func(info *ctap2.Info) bool {
		return info.MaxPINLength == 0 || info.MaxPINLength >= ctap.PINMaxBytes
	}}), func(x *trial) error {
		longest := strings.Repeat("2718281", 9)
		x.must(x.allowed(x.trySetPIN(longest)))
		isRight(x, longest)
		isWrong(x, longest[:62]+"2")
		return nil
	})
	d.add("pin-code-points", first.and(condition{"has a minimum PIN length above 15", func(info *ctap2.Info) bool {
		return info.MinPINLength <= 15
	}}), func(x *trial) error {
		shortest := string([]rune(strings.Repeat("🦊🦉🐝", 5))[:max(x.info.MinPINLength, ctap.PINDefaultMinLength)])
		x.must(x.allowed(x.trySetPIN(shortest)))
		isRight(x, shortest)
		return nil
	})
	d.add("pin-changed", withPIN.spends(1), func(x *trial) error {
		x.changePIN()
		isWrong(x, x.pin())
		isRight(x, x.otherPIN())
		return nil
	})
	d.add("pin-change-refused", withPIN, func(x *trial) error {
		a := x.agree()
		if x.clientPIN(a.changePIN(a.encrypt(x, padded("314")), a.hash(x, x.pin()))) == nil {
			x.errorf("a PIN of three characters is accepted")
		}
		isRight(x, x.pin())
		return nil
	})
	d.add("pin-change-forged", withPIN, func(x *trial) error {
		a := x.agree()
		m := a.changePIN(a.encrypt(x, padded(x.otherPIN())), a.hash(x, x.pin()))
		m[cpParam].([]byte)[5] ^= 0x10
		if x.clientPIN(m) == nil {
			x.errorf("a forged request is accepted")
		}
		isRight(x, x.pin())
		return nil
	})
	d.add("pin-change-keeps", withPIN.and(residentKeys, mcGaWithPIN), func(x *trial) error {
		stored, wrapped := x.create(), x.create(notResident, account("4"))
		x.changePIN()
		for _, credential := range [][]byte{stored, wrapped} {
			if err := x.ga(set(gaAllowList, list(credential))); err != nil {
				x.errorf("a credential is not there any more: %v", err)
			}
		}
		return nil
	})
	d.add("pin-force-over", withPIN.and(setsMinPINLength), func(x *trial) error {
		x.forcePINChange()
		if !x.fresh().ForcePINChange {
			x.errorf("forcePINChange is not true after setMinPINLength has forced a change")
		}
		x.changePIN()
		if x.fresh().ForcePINChange {
			x.errorf("forcePINChange is true after the change")
		}
		isRight(x, x.otherPIN())
		return nil
	})
	d.add("pin-protocols", first.and(twoProtocols), func(x *trial) error {
		a := x.agreeBy(pin.One)
		x.must(x.clientPIN(a.setPIN(a.encrypt(x, padded(x.pin())))))
		x.must(x.legacy(x.agreeBy(pin.Two), x.pin()))
		return nil
	})
}
