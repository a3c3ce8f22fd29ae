package conformance

import (
	"fmt"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// unknownRP makes a getAssertion one for a relying party that nobody has an
// account with.
func unknownRP() edit { return set(1, fmt.Sprintf("%x.example", random(8))) }

func (d *drivers) getAssertion() {
	d.getAssertionParameters()
	d.getAssertionVerification()
	d.allowList()

	person := func(id string, s setup, g Gesture, edits ...edit) {
		d.add(id, s.and(userPresence).person(g), func(x *trial) error {
			credential := x.create(notResident)
			x.person(g)
			return x.ga(append(edits, set(gaAllowList, list(credential)))...)
		})
	}
	harmless := plain.leavesNoTrace()
	silent := gaOption("up", false)
	person("ga-up-false", harmless, Decline, silent)
	person("ga-touch-denied", harmless, Decline)
	person("ga-touch-timeout", harmless.and(from21).waits(timeout), NoTouch)
	d.add("ga-touch-cancelled", harmless.and(userPresence).person(NoTouch), func(x *trial) error {
		credential := x.create(notResident)
		x.cancel()
		return x.ga(set(gaAllowList, list(credential)))
	})
	d.add("ga-none", harmless, func(x *trial) error { return x.ga(unknownRP()) })
	// CTAP 2.0 asks for a touch first.
	d.add("ga-none-refused", harmless.and(from21, userPresence).person(Decline), func(x *trial) error {
		x.person(Decline)
		return x.ga(unknownRP())
	})
	d.add("ga-none-silent", harmless, func(x *trial) error { return x.ga(unknownRP(), silent) })
}

func (d *drivers) getAssertionParameters() {
	// with is a getAssertion of a credential that is there.
	with := func(id string, s setup, edits ...edit) {
		d.add(id, s, func(x *trial) error {
			return x.ga(append([]edit{set(gaAllowList, list(x.create(notResident)))}, edits...)...)
		})
	}
	harmless := plain.leavesNoTrace()
	bare := gaGate
	bare.setup = harmless
	d.malformed("ga", harmless, ctap.CmdGetAssertion)
	d.wrongTypes("ga", bare, map[string]edit{
		"rpId":              set(1, []byte("example.com")),
		"clientDataHash":    set(2, "hash"),
		"allowList":         set(gaAllowList, fields{}),
		"extensions":        set(gaExtensions, []any{}),
		"options":           set(gaOptions, []any{"up"}),
		"pinUvAuthParam":    set(gaParam, "param"),
		"pinUvAuthProtocol": set(gaProtocol, "two"),
		"option":            gaOption("up", 1),
	})
	d.missing("ga", bare, map[string]int{"rpId": 1, "clientDataHash": 2})
	with("ga-hash-length", harmless, set(2, make([]byte, 33)))
	d.emptyParam("ga", gaGate)
	with("ga-protocol-missing", harmless.and(clientPIN), set(gaParam, make([]byte, 32)))
	with("ga-uv-unsupported", harmless.and(noBuiltInUV, from21), gaOption("uv", true))
	with("ga-20-uv", harmless.and(noBuiltInUV, only20), gaOption("uv", true))
	with("ga-20-protocol", withPIN.and(only20).leavesNoTrace(), set(gaParam, make([]byte, 16)), set(gaProtocol, 2))
	with("ga-uv-unconfigured", harmless.and(builtInUV, lacks(ctap2.OptionUserVerification)), gaOption("uv", true))
	d.add("ga-uv-with-param", gaGate.setup.and(noBuiltInUV, from21), func(x *trial) error {
		m := gaGate.request(x)
		m[gaOptions] = fields{"uv": true}
		return x.command(ctap.CmdGetAssertion, gaGate.sign(m, x.pinToken(ctap2.PermissionGetAssertion, "example.com")))
	})
	with("ga-rk", harmless.and(from21), gaOption("rk", true))
	with("ga-rk-false", harmless.and(from21), gaOption("rk", false))
	with("ga-option-unknown", harmless, gaOption("quux", true))
}

func (d *drivers) getAssertionVerification() {
	silent := gaOption("up", false)
	asserted := func(id string, s setup, edits ...edit) {
		d.add(id, s, func(x *trial) error {
			return x.ga(append([]edit{set(gaAllowList, list(x.create(notResident)))}, edits...)...)
		})
	}
	ask := func(id string, s setup) {
		d.add(id, s, func(x *trial) error { return x.ga() })
	}
	always := withPIN.alwaysUV().leavesNoTrace()
	unready := lacks(ctap2.OptionUserVerification)
	ask("ga-alwaysuv-unprotected", plain.alwaysUV().and(clientPIN, mcGaWithPIN))
	ask("ga-alwaysuv-unprotected-no-pin", plain.alwaysUV().and(noClientPIN))
	asserted("ga-alwaysuv-no-param", always.and(mcGaWithPIN, unready))
	asserted("ga-alwaysuv-up-false", always.and(mcGaWithPIN), silent)
	asserted("ga-alwaysuv-builtin", withFinger.alwaysUV().leavesNoTrace())
	ask("ga-alwaysuv-nomcga", always.and(noMcGa, unready))
	asserted("ga-no-uv", gaGate.setup)

	d.tokenRows("ga", gaGate)
	d.add("ga-param-silent", gaGate.setup, func(x *trial) error {
		m := gaGate.good(x)
		m[gaOptions] = fields{"up": false}
		x.must(x.command(ctap.CmdGetAssertion, m))
		delete(m, gaOptions)
		return x.command(ctap.CmdGetAssertion, m)
	})
	d.uvRows("ga", gaGate, gaOptions)
}

func (d *drivers) allowList() {
	// allowed is a getAssertion with an allowList made of a credential.
	allowed := func(id string, s setup, l func(x *trial, credential []byte) []any, change ...func(*ctap2.MakeCredentialRequest)) {
		d.add(id, s, func(x *trial) error {
			credential := x.create(append([]func(*ctap2.MakeCredentialRequest){notResident}, change...)...)
			return x.ga(set(gaAllowList, l(x, credential)))
		})
	}
	harmless := plain.leavesNoTrace()
	just := func(_ *trial, credential []byte) []any { return list(credential) }
	always := func(elements ...any) func(*trial, []byte) []any {
		return func(*trial, []byte) []any { return elements }
	}
	// Before CTAP 2.1 it may be discoverable all the same.
	d.add("ga-not-rk-no-list", plain.and(from21), func(x *trial) error {
		x.create(notResident)
		return x.ga()
	})
	allowed("ga-not-rk", harmless, just)
	allowed("ga-allow-unknown", harmless, func(x *trial, _ []byte) []any { return x.listEndingWith(random(32)) })
	allowed("ga-allow-other-rp", harmless, just, at("example.org"))
	d.add("ga-allow-other-rp-rk", plain.and(residentKeys), func(x *trial) error {
		return x.ga(set(gaAllowList, list(x.create(at("example.org")))))
	})
	allowed("ga-allow-other-type", harmless, func(_ *trial, credential []byte) []any {
		return []any{fields{"type": "private-key", "id": credential}}
	})
	allowed("ga-allow-forged", harmless, func(_ *trial, credential []byte) []any {
		credential[len(credential)/2] ^= 1
		return list(credential)
	})
	allowed("ga-allow-last", harmless, func(x *trial, credential []byte) []any { return x.listEndingWith(credential) })
	allowed("ga-allow-empty", harmless, func(*trial, []byte) []any { return []any{} })
	allowed("ga-allow-element", harmless, func(_ *trial, credential []byte) []any { return []any{credential} })
	allowed("ga-allow-type-id", harmless, always(fields{"type": "public-key", "id": "1"}))
	allowed("ga-allow-missing-id", harmless, always(fields{"type": "public-key"}))
	allowed("ga-allow-missing-type", harmless, func(_ *trial, credential []byte) []any { return []any{fields{"id": credential}} })
	allowed("ga-allow-transports", harmless, func(_ *trial, credential []byte) []any {
		return []any{fields{"type": "public-key", "id": credential, "transports": []string{"usb"}}}
	})
	allowed("ga-allow-limit", harmless.and(from21, listFits), func(x *trial, credential []byte) []any {
		return list(append([][]byte{credential}, x.tooMany()[1:]...)...)
	})
	allowed("ga-allow-id-limit", harmless.and(idFits), func(x *trial, credential []byte) []any {
		return list(random(x.info.MaxCredentialIDLength + 1))
	})

	protects := extension("credProtect")
	noList := func([]byte) edit { return func(members) {} }
	inList := func(credential []byte) edit { return set(gaAllowList, list(credential)) }
	verified := func([]byte) edit { return gaOption("uv", true) }
	protect := func(id string, s setup, policy ctap2.CredProtectPolicy, request func(credential []byte) edit) {
		d.add(id, s.and(residentKeys, protects), func(x *trial) error { return x.ga(request(x.create(protected(policy)))) })
	}
	protect("ga-protect2-no-list", plain, ctap2.UVOptionalWithCredentialIDList, noList)
	protect("ga-protect2-list", plain, ctap2.UVOptionalWithCredentialIDList, inList)
	protect("ga-protect2-uv", withFinger, ctap2.UVOptionalWithCredentialIDList, verified)
	protect("ga-protect3-list", plain, ctap2.UVRequired, inList)
	protect("ga-protect3-uv", withFinger, ctap2.UVRequired, verified)
}

func (x *trial) next() error { return x.raw(ctap.CmdGetNextAssertion, nil) }

func (d *drivers) getNextAssertion() {
	accounts := plain.and(residentKeys)
	// begun goes on after a getAssertion that found n accounts.
	begun := func(id string, n int, s setup, goOn func(x *trial) error) {
		d.add(id, s, func(x *trial) error {
			for i := range n {
				x.create(account(string(rune('a' + i))))
			}
			x.several(x.asserted())
			return goOn(x)
		})
	}
	begun("gna-next", 2, accounts, (*trial).next)
	d.add("gna-without-begin", plain.leavesNoTrace(), (*trial).next)
	begun("gna-one", 1, accounts, (*trial).next)
	d.add("gna-allow-list", accounts, func(x *trial) error {
		first, second := x.create(account("a")), x.create(account("b"))
		if x.info.MaxCredentialCountInList == 1 {
			x.skip("takes lists of one credential alone")
		}
		x.must(x.ga(set(gaAllowList, list(first, second))))
		return x.next()
	})
	begun("gna-exhausted", 2, accounts, func(x *trial) error {
		x.must(x.next())
		return x.next()
	})
	const limit = ctap.AssertionStateTimeoutSeconds * time.Second
	begun("gna-timer", 2, accounts.waits(limit+time.Second), func(x *trial) error {
		if x.onNFC() {
			x.skip("on a reader the timer is optional")
		}
		x.sleep(limit + time.Second)
		return x.next()
	})
	begun("gna-timer-restarts", 3, accounts.waits(limit+limit), func(x *trial) error {
		x.sleep(limit - time.Second)
		x.must(x.next())
		x.sleep(limit - time.Second)
		return x.next()
	})
	begun("gna-interleaved", 2, accounts, func(x *trial) error {
		x.must(x.raw(ctap.CmdGetInfo, nil))
		return x.next()
	})
	begun("gna-interleaved-failed", 2, accounts, func(x *trial) error {
		if x.ga(set(1, "example.org")) == nil {
			x.fatalf("a credential for example.org")
		}
		return x.next()
	})
	begun("gna-power-cycle", 2, accounts.powerCycle(), func(x *trial) error {
		return x.firstAfterPower(ctap.CmdGetNextAssertion, nil)
	})
	d.add("gna-token-expired", withPIN.and(residentKeys, mcGaWithPIN, from21).waits(afterMaxUse), func(x *trial) error {
		x.create(account("a"))
		x.create(account("b"))
		m := gaGate.sign(gaRequest(gaOption("up", false)), x.token(ctap2.PermissionGetAssertion, "example.com"))
		x.expire(func() error { return x.command(ctap.CmdGetAssertion, m) })
		return x.next()
	})
}
