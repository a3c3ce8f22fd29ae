package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Conditions of the algorithms of makeCredential and getAssertion.
var (
	// undemanding is an authenticator that makes a credential for anybody who
	// touches it. One without a PIN always does; a case that leaves no trace
	// may find another.
	undemanding = condition{"verifies its user for each credential", func(info *ctap2.Info) bool {
		protected := info.Options[ctap2.OptionClientPIN] || info.Options[ctap2.OptionUserVerification]
		return !protected || uvNotRequired.holds(info)
	}}
	twoProtocols = condition{"has one PIN/UV auth protocol", func(info *ctap2.Info) bool {
		return slices.Contains(info.PINUVAuthProtocols, pin.One) && slices.Contains(info.PINUVAuthProtocols, pin.Two)
	}}
	// fewCredentials bounds the cases that fill the store: there is a touch for
	// each credential.
	fewCredentials = condition{"does not say that it has room for thirty credentials or fewer", func(info *ctap2.Info) bool {
		room := info.RemainingDiscoverableCredentials
		return room != nil && *room <= 30
	}}
	// listFits and idFits say that what is over a limit of lists is not over
	// that of messages.
	listFits = condition{"has no limit to lists that fits into a message", func(info *ctap2.Info) bool {
		n := info.MaxCredentialCountInList
		return n > 0 && n < (carried(info)-256)/48
	}}
	idFits = condition{"has no limit to credential IDs that fits into a message", func(info *ctap2.Info) bool {
		n := info.MaxCredentialIDLength
		return n > 0 && n <= carried(info)-512
	}}
)

// timeout is longer than an authenticator waits for its user (§6.5.2.1, user
// present time limit).
const timeout = 31 * time.Second

// simple adds a row that is about one makeCredential.
func (d *drivers) simple(id string, s setup, edits ...edit) {
	d.add(id, s, func(x *trial) error { return x.mc(edits...) })
}

func params(elements ...any) edit { return set(4, elements) }

func mcOption(name string, value any) edit { return set(mcOptions, fields{name: value}) }

func gaOption(name string, value any) edit { return set(gaOptions, fields{name: value}) }

func at(rpID string) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.RP.ID = rpID }
}

func account(id string) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.User = ctap2.User{ID: []byte(id), Name: id} }
}

func (d *drivers) makeCredential() {
	d.makeCredentialParameters()
	d.makeCredentialVerification()
	d.excludeList()

	d.add("mc-touch-denied", plain.and(userPresence).person(Decline), func(x *trial) error {
		x.person(Decline)
		return x.mc()
	})
	d.add("mc-touch-timeout", plain.and(userPresence, from21).person(NoTouch).waits(timeout), func(x *trial) error {
		x.person(NoTouch)
		return x.mc()
	})
	d.add("mc-touch-cancelled", plain.and(userPresence).person(NoTouch), func(x *trial) error {
		x.cancel()
		return x.mc()
	})
	// The last credential is that of the account of mcRequest.
	full := func(id string, edits ...edit) {
		d.add(id, plain.and(residentKeys, fewCredentials), func(x *trial) error {
			for i := range *x.info.RemainingDiscoverableCredentials - 1 {
				x.create(account(fmt.Sprint("account ", i)))
			}
			x.create()
			return x.mc(edits...)
		})
	}
	rk, other := mcOption("rk", true), set(3, fields{"id": []byte("grace")})
	full("mc-store-full", rk, other)
	full("mc-store-full-overwrite", rk)
	full("mc-store-full-not-rk", other)
	format := func(id string, formats ...any) {
		d.simple(id, plain.and(from23, undemanding).leavesNoTrace(), set(11, formats))
	}
	format("mc-format-none", "none")
	format("mc-format-unknown", "wax seal")
	d.simple("mc-format-empty", plain.and(from23, undemanding).leavesNoTrace(), set(11, []any{}))
}

func (d *drivers) makeCredentialParameters() {
	harmless := plain.leavesNoTrace()
	d.malformed("mc", harmless, ctap.CmdMakeCredential)
	bare := mcGate
	types := func(s setup, members map[string]edit) {
		bare.setup = s
		d.wrongTypes("mc", bare, members)
	}
	types(harmless, map[string]edit{
		"clientDataHash":    set(1, "hash"),
		"rp":                set(2, "example.com"),
		"user":              set(3, []any{}),
		"pubKeyCredParams":  set(4, fields{"type": "public-key", "alg": -7}),
		"excludeList":       set(mcExcludeList, fields{}),
		"extensions":        set(mcExtensions, []any{}),
		"options":           set(mcOptions, []any{"up"}),
		"pinUvAuthParam":    set(mcParam, "param"),
		"pinUvAuthProtocol": set(mcProtocol, "two"),
		"rp-id":             set(2, fields{"id": []byte("example.com")}),
		"rp-name":           set(2, fields{"id": "example.com", "name": []byte("Example")}),
		"user-id":           set(3, fields{"id": "ada"}),
		"user-name":         set(3, fields{"id": []byte{1}, "name": []byte("ada")}),
		"user-displayName":  set(3, fields{"id": []byte{1}, "displayName": []byte("Ada")}),
		"option":            mcOption("up", 1),
	})
	types(harmless.and(from21), map[string]edit{"enterpriseAttestation": set(10, "yes")})
	types(harmless.and(from23), map[string]edit{
		"attestationFormatsPreference": set(11, "packed"),
		"format":                       set(11, []any{[]byte("packed")}),
	})
	d.missing("mc", bare, map[string]int{"clientDataHash": 1, "rp": 2, "user": 3, "pubKeyCredParams": 4})
	d.simple("mc-missing-rp-id", harmless, set(2, fields{"name": "Example"}))
	d.simple("mc-missing-user-id", harmless, set(3, fields{"name": "ada"}))
	d.simple("mc-hash-length", harmless, set(1, clientDataHash[:31]))
	d.simple("mc-user-id-length", harmless, set(3, fields{"id": make([]byte, 65)}))
	made := plain.and(undemanding).leavesNoTrace()
	d.simple("mc-protocol-alone", made, set(mcProtocol, 2))

	es256 := fields{"type": "public-key", "alg": int(cose.ES256)}
	d.simple("mc-alg-unknown", harmless, params(fields{"type": "public-key", "alg": -65000}))
	d.simple("mc-alg-none", harmless, set(4, []any{}))
	d.simple("mc-alg-other-type", harmless, params(fields{"type": "private-key", "alg": int(cose.ES256)}))
	d.simple("mc-alg-other-type-first", made, params(fields{"type": "private-key", "alg": int(cose.ES256)}, es256))
	d.simple("mc-alg-second", made, params(fields{"type": "public-key", "alg": -65000}, es256))
	d.simple("mc-alg-element", harmless, params("ES256"))
	d.simple("mc-alg-missing-alg", harmless, params(fields{"type": "public-key"}))
	d.simple("mc-alg-missing-type", harmless, params(fields{"alg": int(cose.ES256)}))
	d.simple("mc-alg-type-alg", harmless, params(fields{"type": "public-key", "alg": "ES256"}))
	d.simple("mc-alg-type-type", harmless, params(fields{"type": 1, "alg": int(cose.ES256)}))
	d.simple("mc-alg-bad-after-good", harmless.and(from21), params(es256, fields{"type": "public-key"}))

	d.emptyParam("mc", mcGate)
	d.simple("mc-protocol-missing", harmless.and(clientPIN), set(mcParam, make([]byte, 32)))

	d.simple("mc-uv-unsupported", harmless.and(noBuiltInUV, from21), mcOption("uv", true))
	d.simple("mc-uv-unconfigured", harmless.and(builtInUV, lacks(ctap2.OptionUserVerification)), mcOption("uv", true))
	d.simple("mc-uv-false", made, mcOption("uv", false))
	d.add("mc-uv-with-param", withPIN.and(noBuiltInUV, mcGaWithPIN, from21).leavesNoTrace(), func(x *trial) error {
		m := mcGate.sign(mcRequest(mcOption("uv", true)), x.pinToken(ctap2.PermissionMakeCredential, "example.com"))
		return x.command(ctap.CmdMakeCredential, m)
	})
	notResidentKeys := lacks(ctap2.OptionResidentKey)
	d.simple("mc-rk-unsupported", plain.and(notResidentKeys), mcOption("rk", true)) // one that makes it all the same keeps it
	// One that does not name the option has none to take, whatever it says.
	d.simple("mc-rk-false", made.and(option(ctap2.OptionResidentKey), notResidentKeys), mcOption("rk", false))
	d.simple("mc-up-false", harmless.and(from21), mcOption("up", false))
	d.simple("mc-up-true", made.and(from21, userPresence), mcOption("up", true))
	d.simple("mc-option-unknown", made, mcOption("quux", true))
}

func (d *drivers) makeCredentialVerification() {
	always := withPIN.alwaysUV().leavesNoTrace()
	d.simple("mc-alwaysuv-unprotected", plain.alwaysUV().and(clientPIN, mcGaWithPIN))
	d.simple("mc-alwaysuv-unprotected-no-pin", plain.alwaysUV().and(noClientPIN))
	d.simple("mc-alwaysuv-no-param", always.and(mcGaWithPIN, lacks(ctap2.OptionUserVerification)))
	d.simple("mc-alwaysuv-builtin", withFinger.alwaysUV().leavesNoTrace())
	d.add("mc-alwaysuv-param", always.and(mcGaWithPIN), func(x *trial) error {
		return x.command(ctap.CmdMakeCredential, mcGate.good(x))
	})
	d.simple("mc-alwaysuv-nomcga", always.and(noMcGa, lacks(ctap2.OptionUserVerification)))

	rk := mcOption("rk", true)
	discoverable := func(s setup) setup { return s.and(uvNotRequired, residentKeys) }
	d.simple("mc-uvnotrqd-rk", discoverable(withPIN).and(mcGaWithPIN), rk)
	d.simple("mc-uvnotrqd-rk-no-pin", discoverable(fingerOnly).and(noClientPIN), rk)
	d.simple("mc-uvnotrqd-rk-nomcga", discoverable(withFinger).and(noMcGa), rk)
	d.simple("mc-uvnotrqd-rk-unprotected", discoverable(plain), rk)
	d.simple("mc-uvnotrqd-not-rk", withPIN.and(uvNotRequired).leavesNoTrace())
	d.simple("mc-uvrqd", withPIN.and(uvRequired, mcGaWithPIN).leavesNoTrace())
	d.simple("mc-uvrqd-no-pin", fingerOnly.and(uvRequired, noClientPIN))
	d.simple("mc-uvrqd-nomcga", withFinger.and(uvRequired, noMcGa).leavesNoTrace())
	d.simple("mc-uvrqd-unprotected", plain.and(uvRequired))
	d.simple("mc-20-pin-set", withPIN.and(only20).leavesNoTrace())

	param := func(protocol int) []edit { return []edit{set(mcParam, make([]byte, 16)), set(mcProtocol, protocol)} }
	d.simple("mc-20-pin-not-set", plain.and(only20, clientPIN), param(1)...)
	d.simple("mc-20-protocol", withPIN.and(only20).leavesNoTrace(), param(2)...)
	d.simple("mc-20-uv", plain.and(only20, noBuiltInUV).leavesNoTrace(), mcOption("uv", true))
	d.add("mc-20-token", withPIN.and(only20).leavesNoTrace(), func(x *trial) error {
		token := x.legacyToken()
		x.must(x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(set(2, fields{"id": "example.org"})), token)))
		return x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), token))
	})

	d.tokenRows("mc", mcGate)
	d.uvRows("mc", mcGate, mcOptions)
}

func (d *drivers) excludeList() {
	// exclude is a makeCredential with an excludeList of a credential.
	exclude := func(id string, s setup, change func(*ctap2.MakeCredentialRequest), edits ...edit) {
		d.add(id, s, func(x *trial) error {
			return x.mc(append([]edit{set(mcExcludeList, list(x.create(change)))}, edits...)...)
		})
	}
	harmless := plain.leavesNoTrace()
	made := plain.and(undemanding).leavesNoTrace()
	exclude("mc-exclude-hit", plain.and(residentKeys), account("ada"))
	exclude("mc-exclude-hit-not-rk", made, notResident)
	d.add("mc-exclude-hit-last", made, func(x *trial) error {
		return x.mc(set(mcExcludeList, x.listEndingWith(x.create(notResident))))
	})
	excluded := func(id string, g Gesture, wait time.Duration) {
		d.add(id, made.and(userPresence).person(g).waits(wait), func(x *trial) error {
			credential := x.create(notResident)
			x.person(g)
			return x.mc(set(mcExcludeList, list(credential)))
		})
	}
	excluded("mc-exclude-denied", Decline, 0)
	excluded("mc-exclude-timeout", NoTouch, timeout)
	protects := extension("credProtect")
	hidden := func(policy ctap2.CredProtectPolicy) func(*ctap2.MakeCredentialRequest) {
		return func(r *ctap2.MakeCredentialRequest) {
			notResident(r)
			protected(policy)(r)
		}
	}
	exclude("mc-exclude-protect3", made.and(protects), hidden(ctap2.UVRequired))
	exclude("mc-exclude-protect3-uv", withFinger.and(protects).leavesNoTrace(), hidden(ctap2.UVRequired), mcOption("uv", true))
	exclude("mc-exclude-protect2", made.and(protects), hidden(ctap2.UVOptionalWithCredentialIDList))
	exclude("mc-exclude-other-rp", made, func(r *ctap2.MakeCredentialRequest) {
		notResident(r)
		at("example.org")(r)
	})
	exclude("mc-exclude-other-rp-rk", plain.and(residentKeys), at("example.org"))
	d.add("mc-exclude-unknown", made, func(x *trial) error { return x.mc(set(mcExcludeList, x.listEndingWith(random(32)))) })
	d.add("mc-exclude-other-type", made, func(x *trial) error {
		return x.mc(set(mcExcludeList, []any{fields{"type": "private-key", "id": x.create(notResident)}}))
	})
	d.simple("mc-exclude-empty", made, set(mcExcludeList, []any{}))
	d.simple("mc-exclude-element", harmless, set(mcExcludeList, []any{[]byte{1}}))
	d.simple("mc-exclude-type-id", harmless, set(mcExcludeList, []any{fields{"type": "public-key", "id": "1"}}))
	d.simple("mc-exclude-missing-id", harmless, set(mcExcludeList, []any{fields{"type": "public-key"}}))
	d.simple("mc-exclude-missing-type", harmless, set(mcExcludeList, []any{fields{"id": []byte{1}}}))
	transports := func(value any) edit {
		return set(mcExcludeList, []any{fields{"type": "public-key", "id": random(16), "transports": value}})
	}
	d.simple("mc-exclude-transports", made, transports([]string{"usb", "carrier pigeon"}))
	d.simple("mc-exclude-type-transports", harmless, transports("usb"))
	d.add("mc-exclude-limit", harmless.and(from21, listFits), func(x *trial) error {
		return x.mc(set(mcExcludeList, list(x.tooMany()...)))
	})
	d.add("mc-exclude-id-limit", harmless.and(idFits), func(x *trial) error {
		return x.mc(set(mcExcludeList, list(random(x.info.MaxCredentialIDLength+1))))
	})
}

// listEndingWith is a list of as many credentials as go into one, three at most.
// All but the last are unknown.
func (x *trial) listEndingWith(credential []byte) []any {
	ids := [][]byte{random(16), random(64), credential}
	most := min(len(ids), max(x.info.MaxCredentialCountInList, 1))
	return list(ids[len(ids)-most:]...)
}

// tooMany is one credential more than go into a list. They are unknown.
func (x *trial) tooMany() [][]byte {
	var ids [][]byte
	for range x.info.MaxCredentialCountInList + 1 {
		ids = append(ids, random(16))
	}
	return ids
}

// emptyParam adds the rows of a pinUvAuthParam of no bytes.
func (d *drivers) emptyParam(prefix string, g gate) {
	add := func(id string, s setup, prepare func(x *trial)) {
		d.add(prefix+"-empty-param-"+id, s, func(x *trial) error {
			m := g.request(x)
			m[g.param], m[g.protocol] = []byte{}, x.protocol()
			prepare(x)
			return x.command(g.command, m)
		})
	}
	set := g.setup
	add("no-pin", plain.and(clientPIN), func(*trial) {})
	add("pin", set, func(*trial) {})
	set = set.and(userPresence)
	add("denied", set.person(Decline), func(x *trial) { x.person(Decline) })
	add("timeout", set.and(from21).person(NoTouch).waits(timeout), func(x *trial) { x.person(NoTouch) })
	add("cancelled", set.person(NoTouch), func(x *trial) { x.cancel() })
}

// tokenRows adds the rows of a pinUvAuthParam for a relying party. What is
// before CTAP 2.1 has tokens that nothing spends or replaces.
func (d *drivers) tokenRows(prefix string, g gate) {
	d.paramRows(prefix, g)
	add := func(id string, s setup, run func(x *trial) error) { d.add(prefix+"-param-"+id, s, run) }
	change := func(id string, f func(x *trial, m members)) {
		add(id, g.setup, func(x *trial) error {
			m := g.good(x)
			f(x, m)
			return x.command(g.command, m)
		})
	}
	change("good", func(*trial, members) {})
	change("short", func(_ *trial, m members) { m[g.param] = m[g.param].([]byte)[:len(m[g.param].([]byte))-1] })
	change("long", func(_ *trial, m members) { m[g.param] = append(m[g.param].([]byte), 0) })
	change("other-hash", func(_ *trial, m members) {
		for key, value := range m {
			if hash, ok := value.([]byte); ok && key != g.param {
				m[key] = append([]byte{hash[0] ^ 1}, hash[1:]...)
			}
		}
	})
	add("no-token", g.setup.powerCycle(), func(x *trial) error {
		m := g.request(x)
		m[g.param], m[g.protocol] = make([]byte, paramLength(x)), x.protocol()
		x.powerCycle()
		return x.command(g.command, m)
	})
	add("other-rp", g.setup.and(permissions), func(x *trial) error {
		m := g.request(x)
		return x.command(g.command, g.sign(m, x.token(g.permission, "example.org")))
	})
	// The same bytes are no token of the other protocol.
	add("other-protocol", g.setup.and(twoProtocols), func(x *trial) error {
		m := g.request(x)
		token, other := x.token(g.permission, g.rpID), pin.One+pin.Two-x.protocol()
		m[g.param], m[g.protocol] = other.Authenticate(token.Secret(), g.message(m)), other
		return x.command(g.command, m)
	})
	add("spent", g.setup.and(from21, userPresence), func(x *trial) error {
		m := g.good(x)
		x.must(x.command(g.command, m))
		return x.command(g.command, m)
	})
	add("replaced", g.setup.and(from21), func(x *trial) error {
		m := g.good(x)
		x.token(g.permission, g.rpID)
		return x.command(g.command, m)
	})
	add("unprotected", plain.and(from21, clientPIN), func(x *trial) error {
		m := g.request(x)
		m[g.param], m[g.protocol] = make([]byte, paramLength(x)), x.protocol()
		return x.command(g.command, m)
	})
}

// paramLength is the length of a pinUvAuthParam.
func paramLength(x *trial) int { return 16 * int(x.protocol()) }

// uvRows adds the rows of the option uv.
func (d *drivers) uvRows(prefix string, g gate, options int) {
	add := func(id string, s setup, run func(x *trial, try func() error) error) {
		d.add(prefix+"-uv-"+id, s, func(x *trial) error {
			m := g.request(x)
			m[options] = fields{"uv": true}
			return run(x, func() error { return x.command(g.command, m) })
		})
	}
	person := func(id string, s setup, g Gesture) {
		add(id, s.person(g), func(x *trial, try func() error) error {
			x.person(g)
			return try()
		})
	}
	const maxUVRetries = 25 // §6.5.2.3
	// lockOut has nobody recognised until no try is left, and returns what the
	// last one ended with.
	lockOut := func(x *trial, try func() error) error {
		x.person(WrongFinger)
		for range maxUVRetries {
			err := try()
			if err == nil {
				x.fatalf("verified by a finger that is not enrolled")
			}
			left, unknown := x.key.UVRetries(x.ctx)
			x.must(unknown)
			if left == 0 {
				return err
			}
		}
		x.fatalf("tries are left after %d that failed", maxUVRetries)
		return nil
	}
	blocked := func(x *trial, try func() error) error {
		_ = lockOut(x, try) // what it ends with is for other rows to judge
		x.person(Touch)
		return try()
	}
	orPIN, alone := withFinger.and(mcGaWithPIN), fingerOnly.and(noClientPIN)
	add("good", withFinger.leavesNoTrace(), func(_ *trial, try func() error) error { return try() })
	person("wrong", orPIN, WrongFinger)
	person("wrong-no-pin", alone, WrongFinger)
	person("wrong-nomcga", withFinger.and(noMcGa), WrongFinger)
	add("last-no-pin", alone.person(WrongFinger), lockOut)
	add("blocked", orPIN.person(WrongFinger), blocked)
	add("blocked-no-pin", alone.person(WrongFinger), blocked)
	person("timeout", withFinger.waits(timeout), NoTouch)
	add("cancelled", withFinger.person(NoTouch).leavesNoTrace(), func(x *trial, try func() error) error {
		x.cancel()
		return try()
	})
}
