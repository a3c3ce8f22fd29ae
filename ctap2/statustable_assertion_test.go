package ctap2_test

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
)

// Keys that many rows are about.
var (
	withPIN    = virtual.Config{PIN: thePIN}
	withFinger = virtual.Config{PIN: thePIN, BuiltInUV: virtual.UVConfigured}
	fingerOnly = virtual.Config{NoClientPIN: true, BuiltInUV: virtual.UVConfigured}
	noMCGA     = virtual.Config{PIN: thePIN, BuiltInUV: virtual.UVConfigured, NoMCGAPermissionsWithClientPIN: true}
)

// lockOut is a person whom the reader does not recognise until no try is left.
func lockOut(context.Context, virtual.Prompt) virtual.Answer { return virtual.LockOut }

// splice replaces the one occurrence of old.
func splice(x *trial, b []byte, old, new string) []byte {
	x.Helper()
	if bytes.Count(b, []byte(old)) != 1 {
		x.Fatalf("%q is not once in %q", old, b)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func (d *drivers) encoding() {
	bare := func(id string, command byte) {
		d.add(id, virtual.Config{}, func(x *trial) error { return x.raw(command, nil) })
	}
	bare("enc-unknown-command", 0x0F)
	bare("enc-unassigned-command", 0x03)
	bare("enc-vendor-command", 0x42)
	bare("enc-no-parameters", ctap.CmdGetAssertion)

	info := func(id string, parameters ...byte) {
		d.add(id, virtual.Config{}, func(x *trial) error { return x.raw(ctap.CmdGetInfo, parameters) })
	}
	info("enc-unwanted-parameters", 0xA0)
	info("enc-unwanted-malformed", 0x5C)

	// Each is a getAssertion that would succeed.
	bytesOf := func(id string, change func(x *trial, good []byte) []byte) {
		d.add(id, virtual.Config{}, func(x *trial) error {
			x.create()
			return x.raw(ctap.CmdGetAssertion, change(x, encoded(x, gaRequest())))
		})
	}
	const rpID, hash = "\x01\x6bexample.com", "\x02\x58\x20"
	bytesOf("enc-empty-map", func(*trial, []byte) []byte { return []byte{0xA0} })
	bytesOf("enc-not-a-map", func(x *trial, _ []byte) []byte {
		return encoded(x, []any{1, "example.com", 2, clientDataHash[:]})
	})
	bytesOf("enc-truncated", func(_ *trial, good []byte) []byte { return good[:len(good)-1] })
	bytesOf("enc-trailing", func(_ *trial, good []byte) []byte { return append(good, 0) })
	bytesOf("enc-key-order", func(x *trial, good []byte) []byte {
		return slices.Concat(good[:1], good[1+len(rpID):], good[1:1+len(rpID)])
	})
	bytesOf("enc-duplicate-key", func(x *trial, good []byte) []byte {
		return splice(x, good, "\xA2"+rpID, "\xA3"+rpID+rpID)
	})
	bytesOf("enc-long-integer", func(x *trial, good []byte) []byte { return splice(x, good, rpID, "\x18"+rpID) })
	bytesOf("enc-long-length", func(x *trial, good []byte) []byte { return splice(x, good, hash, "\x02\x59\x00\x20") })
	bytesOf("enc-indefinite-map", func(x *trial, good []byte) []byte {
		return append(splice(x, good, "\xA2"+rpID, "\xBF"+rpID), 0xFF)
	})
	bytesOf("enc-indefinite-string", func(x *trial, good []byte) []byte {
		return append(splice(x, good, hash, "\x02\x5F\x58\x20"), 0xFF)
	})
	bytesOf("enc-tag", func(x *trial, good []byte) []byte { return splice(x, good, hash, "\x02\xC2\x58\x20") })
	bytesOf("enc-reserved", func(x *trial, good []byte) []byte { return splice(x, good, "\x6bexample.com", "\x7cexample.com") })
	bytesOf("enc-not-utf8", func(x *trial, good []byte) []byte { return splice(x, good, "example", "ex\xC3mple") })
	bytesOf("enc-too-deep", func(x *trial, _ []byte) []byte {
		return encoded(x, gaRequest(set(gaExtensions, fields{"x": []any{[]any{[]any{1}}}})))
	})
	bytesOf("enc-null", func(x *trial, _ []byte) []byte { return encoded(x, gaRequest(set(gaAllowList, nil))) })
	bytesOf("enc-unknown-member", func(x *trial, _ []byte) []byte { return encoded(x, gaRequest(set(0x77, "?"))) })

	// The client, which sends nothing that is too long, is not told the limit.
	d.add("enc-too-large", virtual.Config{MaxMsgSize: 600, Faults: virtual.OmitLimits}, func(x *trial) error {
		return x.mc(set(2, fields{"id": "example.com", "name": string(bytes.Repeat([]byte("x"), 600))}))
	})
}

// simple adds a row that is about one request to a new key.
func (d *drivers) simple(id string, config virtual.Config, edits ...edit) {
	d.add(id, config, func(x *trial) error { return x.mc(edits...) })
}

func params(elements ...any) edit { return set(4, elements) }

func option(name string, value any) edit { return set(mcOptions, fields{name: value}) }

func gaOption(name string, value any) edit { return set(gaOptions, fields{name: value}) }

func (d *drivers) makeCredential() {
	plain := virtual.Config{}
	bare := mcGate
	bare.config.PIN = ""
	d.malformed("mc", plain, ctap.CmdMakeCredential)
	d.wrongTypes("mc", bare, map[string]edit{
		"clientDataHash":               set(1, "hash"),
		"rp":                           set(2, "example.com"),
		"user":                         set(3, []any{}),
		"pubKeyCredParams":             set(4, fields{"type": "public-key", "alg": -7}),
		"excludeList":                  set(mcExcludeList, fields{}),
		"extensions":                   set(mcExtensions, []any{}),
		"options":                      set(mcOptions, []any{"rk"}),
		"pinUvAuthParam":               set(mcParam, "param"),
		"pinUvAuthProtocol":            set(mcProtocol, "two"),
		"enterpriseAttestation":        set(10, "yes"),
		"attestationFormatsPreference": set(11, "packed"),
		"rp-id":                        set(2, fields{"id": []byte("example.com")}),
		"rp-name":                      set(2, fields{"id": "example.com", "name": []byte("Example")}),
		"user-id":                      set(3, fields{"id": "ada"}),
		"user-name":                    set(3, fields{"id": []byte{1}, "name": []byte("ada")}),
		"user-displayName":             set(3, fields{"id": []byte{1}, "displayName": []byte("Ada")}),
		"option":                       option("rk", 1),
		"format":                       set(11, []any{[]byte("packed")}),
	})
	d.missing("mc", bare, map[string]int{"clientDataHash": 1, "rp": 2, "user": 3, "pubKeyCredParams": 4})
	d.simple("mc-missing-rp-id", plain, set(2, fields{"name": "Example"}))
	d.simple("mc-missing-user-id", plain, set(3, fields{"name": "ada"}))
	d.simple("mc-hash-length", plain, set(1, clientDataHash[:31]))
	d.simple("mc-user-id-length", plain, set(3, fields{"id": make([]byte, 65)}))
	d.simple("mc-protocol-alone", plain, set(mcProtocol, 2))

	es256 := fields{"type": "public-key", "alg": int(cose.ES256)}
	d.simple("mc-alg-unknown", plain, params(fields{"type": "public-key", "alg": -65000}))
	d.simple("mc-alg-none", plain, set(4, []any{}))
	d.simple("mc-alg-other-type", plain, params(fields{"type": "private-key", "alg": int(cose.ES256)}))
	d.simple("mc-alg-second", plain, params(fields{"type": "public-key", "alg": -65000}, es256))
	d.simple("mc-alg-element", plain, params("ES256"))
	d.simple("mc-alg-missing-alg", plain, params(fields{"type": "public-key"}))
	d.simple("mc-alg-missing-type", plain, params(fields{"alg": int(cose.ES256)}))
	d.simple("mc-alg-type-alg", plain, params(fields{"type": "public-key", "alg": "ES256"}))
	d.simple("mc-alg-type-type", plain, params(fields{"type": 1, "alg": int(cose.ES256)}))
	d.simple("mc-alg-bad-after-good", plain, params(es256, fields{"type": "public-key"}))

	d.emptyParam("mc", mcGate)
	d.simple("mc-protocol-missing", withPIN, set(mcParam, make([]byte, 32)))

	noUV := virtual.Config{BuiltInUV: virtual.UVNotConfigured}
	d.simple("mc-uv-unsupported", plain, option("uv", true))
	d.simple("mc-uv-unconfigured", noUV, option("uv", true))
	d.simple("mc-uv-false", plain, option("uv", false))
	d.add("mc-uv-with-param", withPIN, func(x *trial) error {
		m := mcGate.sign(mcRequest(option("uv", true)), x.pinToken(ctap2.PermissionMakeCredential, "example.com"))
		return x.command(ctap.CmdMakeCredential, m)
	})
	d.simple("mc-rk-unsupported", virtual.Config{NoResidentKeys: true}, option("rk", true))
	d.simple("mc-rk-false", virtual.Config{NoResidentKeys: true}, option("rk", false))
	d.simple("mc-up-false", plain, option("up", false))
	d.simple("mc-up-true", plain, option("up", true))
	d.simple("mc-option-unknown", plain, option("quux", true))

	d.simple("mc-alwaysuv-unprotected", virtual.Config{AlwaysUV: true})
	d.simple("mc-alwaysuv-unprotected-no-pin", virtual.Config{AlwaysUV: true, NoClientPIN: true, BuiltInUV: virtual.UVNotConfigured})
	d.simple("mc-alwaysuv-no-param", virtual.Config{AlwaysUV: true, PIN: thePIN})
	d.simple("mc-alwaysuv-builtin", virtual.Config{AlwaysUV: true, PIN: thePIN, BuiltInUV: virtual.UVConfigured})
	alwaysUV := mcGate
	alwaysUV.config.AlwaysUV = true
	d.add("mc-alwaysuv-param", alwaysUV.config, func(x *trial) error { return x.command(ctap.CmdMakeCredential, alwaysUV.good(x)) })
	d.simple("mc-alwaysuv-nomcga", virtual.Config{
		AlwaysUV: true, PIN: thePIN, BuiltInUV: virtual.UVNotConfigured, NoMCGAPermissionsWithClientPIN: true,
	})
	rk := option("rk", true)
	d.simple("mc-uvnotrqd-rk", withPIN, rk)
	d.simple("mc-uvnotrqd-rk-no-pin", fingerOnly, rk)
	d.simple("mc-uvnotrqd-rk-nomcga", noMCGA, rk)
	d.simple("mc-uvnotrqd-rk-unprotected", plain, rk)
	d.simple("mc-uvnotrqd-not-rk", withPIN)
	required := func(c virtual.Config) virtual.Config {
		c.UVRequiredForNonDiscoverable = true
		return c
	}
	d.simple("mc-uvrqd", required(withPIN))
	d.simple("mc-uvrqd-no-pin", required(fingerOnly))
	d.simple("mc-uvrqd-nomcga", required(noMCGA))
	d.simple("mc-uvrqd-unprotected", required(plain))
	d.simple("mc-20-pin-set", virtual.Config{Level: virtual.CTAP20, PIN: thePIN})

	old := virtual.Config{Level: virtual.CTAP20}
	param := func(protocol int) []edit { return []edit{set(mcParam, make([]byte, 16)), set(mcProtocol, protocol)} }
	d.simple("mc-20-pin-not-set", old, param(1)...)
	d.simple("mc-20-protocol", virtual.Config{Level: virtual.CTAP20, PIN: thePIN}, param(2)...)
	d.simple("mc-20-uv", old, option("uv", true))
	d.add("mc-20-token", virtual.Config{Level: virtual.CTAP20, PIN: thePIN}, func(x *trial) error {
		token := x.legacyToken()
		x.must(x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(set(2, fields{"id": "example.org"})), token)))
		return x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), token))
	})

	d.tokenRows("mc", mcGate)
	d.uvRows("mc", mcGate, mcOptions)

	exclude := func(id string, config virtual.Config, change []func(*ctap2.MakeCredentialRequest), edits ...edit) {
		d.add(id, config, func(x *trial) error {
			return x.mc(append([]edit{set(mcExcludeList, list(x.create(change...)))}, edits...)...)
		})
	}
	type changes = []func(*ctap2.MakeCredentialRequest)
	finger := virtual.Config{BuiltInUV: virtual.UVConfigured}
	exclude("mc-exclude-hit", plain, nil)
	exclude("mc-exclude-hit-not-rk", plain, changes{notResident})
	d.add("mc-exclude-hit-last", plain, func(x *trial) error {
		return x.mc(set(mcExcludeList, list(random(16), random(64), x.create())))
	})
	for id, person := range map[string]virtual.Person{"mc-exclude-denied": virtual.Refuse, "mc-exclude-timeout": virtual.Ignore} {
		d.add(id, plain, func(x *trial) error {
			credential := x.create()
			x.people(person)
			return x.mc(set(mcExcludeList, list(credential)))
		})
	}
	exclude("mc-exclude-protect3", plain, changes{protected(ctap2.UVRequired)})
	exclude("mc-exclude-protect3-uv", finger, changes{protected(ctap2.UVRequired)}, option("uv", true))
	exclude("mc-exclude-protect2", plain, changes{protected(ctap2.UVOptionalWithCredentialIDList)})
	exclude("mc-exclude-other-rp", plain, changes{at("example.org")})
	d.simple("mc-exclude-unknown", plain, set(mcExcludeList, list(random(16), random(64))))
	d.add("mc-exclude-other-type", plain, func(x *trial) error {
		return x.mc(set(mcExcludeList, []any{fields{"type": "private-key", "id": x.create()}}))
	})
	d.simple("mc-exclude-empty", plain, set(mcExcludeList, []any{}))
	d.simple("mc-exclude-element", plain, set(mcExcludeList, []any{[]byte{1}}))
	d.simple("mc-exclude-type-id", plain, set(mcExcludeList, []any{fields{"type": "public-key", "id": "1"}}))
	d.simple("mc-exclude-missing-id", plain, set(mcExcludeList, []any{fields{"type": "public-key"}}))
	d.simple("mc-exclude-missing-type", plain, set(mcExcludeList, []any{fields{"id": []byte{1}}}))
	transports := func(value any) edit {
		return set(mcExcludeList, []any{fields{"type": "public-key", "id": random(16), "transports": value}})
	}
	d.simple("mc-exclude-transports", plain, transports([]string{"usb", "carrier pigeon"}))
	d.simple("mc-exclude-type-transports", plain, transports("usb"))
	d.simple("mc-exclude-limit", virtual.Config{MaxCredentialCountInList: 2}, set(mcExcludeList, list(random(16), random(16), random(16))))
	d.simple("mc-exclude-id-limit", virtual.Config{MaxCredentialIDLength: 128}, set(mcExcludeList, list(random(129))))

	d.simple("mc-touch-denied", virtual.Config{Presence: virtual.Refuse})
	d.simple("mc-touch-timeout", virtual.Config{Presence: virtual.Ignore})
	d.add("mc-touch-cancelled", plain, func(x *trial) error {
		x.cancel()
		return x.mc()
	})
	full := virtual.Config{Credentials: 1}
	other := set(3, fields{"id": []byte("grace")})
	storeFull := func(id string, edits ...edit) {
		d.add(id, full, func(x *trial) error {
			x.create()
			return x.mc(edits...)
		})
	}
	storeFull("mc-store-full", rk, other)
	storeFull("mc-store-full-overwrite", rk)
	storeFull("mc-store-full-not-rk", other)
	d.simple("mc-format-none", plain, set(11, []any{"none"}))
	d.simple("mc-format-unknown", plain, set(11, []any{"wax seal"}))
	d.simple("mc-format-empty", plain, set(11, []any{}))
}

// emptyParam adds the rows of a pinUvAuthParam of no bytes.
func (d *drivers) emptyParam(prefix string, g gate) {
	add := func(id string, config virtual.Config, prepare func(x *trial)) {
		d.add(prefix+"-empty-param-"+id, config, func(x *trial) error {
			m := g.request(x)
			m[g.param], m[g.protocol] = []byte{}, x.protocol()
			prepare(x)
			return x.command(g.command, m)
		})
	}
	add("no-pin", virtual.Config{}, func(*trial) {})
	add("pin", withPIN, func(*trial) {})
	add("denied", withPIN, func(x *trial) { x.people(virtual.Refuse) })
	add("timeout", withPIN, func(x *trial) { x.people(virtual.Ignore) })
	add("cancelled", withPIN, func(x *trial) { x.cancel() })
}

// tokenRows adds the rows of a pinUvAuthParam for a relying party.
func (d *drivers) tokenRows(prefix string, g gate) {
	d.paramRows(prefix, g)
	add := func(id string, run func(x *trial) error) { d.add(prefix+"-param-"+id, g.config, run) }
	change := func(id string, f func(x *trial, m members)) {
		add(id, func(x *trial) error {
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
	add("no-token", func(x *trial) error {
		m := g.request(x)
		m[g.param], m[g.protocol] = make([]byte, paramLength(x)), x.protocol()
		x.soft.PowerCycle()
		return x.command(g.command, m)
	})
	add("other-rp", func(x *trial) error {
		m := g.request(x)
		return x.command(g.command, g.sign(m, x.token(g.permission, "example.org")))
	})
	// The same bytes are no token of the other protocol.
	add("other-protocol", func(x *trial) error {
		m := g.request(x)
		token, other := x.token(g.permission, g.rpID), 3-x.protocol()
		m[g.param], m[g.protocol] = other.Authenticate(token.Secret(), g.message(m)), other
		return x.command(g.command, m)
	})
	add("spent", func(x *trial) error {
		m := g.good(x)
		x.must(x.command(g.command, m))
		return x.command(g.command, m)
	})
	add("replaced", func(x *trial) error {
		m := g.good(x)
		x.token(g.permission, g.rpID)
		return x.command(g.command, m)
	})
	d.add(prefix+"-param-unprotected", virtual.Config{}, func(x *trial) error {
		m := g.request(x)
		m[g.param], m[g.protocol] = make([]byte, paramLength(x)), x.protocol()
		return x.command(g.command, m)
	})
}

// paramLength is the length of a pinUvAuthParam.
func paramLength(x *trial) int { return 16 * int(x.protocol()) }

// uvRows adds the rows of the option uv.
func (d *drivers) uvRows(prefix string, g gate, options int) {
	add := func(id string, config virtual.Config, prepare func(x *trial, again func() error)) {
		d.add(prefix+"-uv-"+id, config, func(x *trial) error {
			m := g.request(x)
			m[options] = fields{"uv": true}
			try := func() error { return x.command(g.command, m) }
			prepare(x, try)
			return try()
		})
	}
	person := func(p virtual.Person) func(*trial, func() error) {
		return func(x *trial, _ func() error) { x.soft.SetVerification(p) }
	}
	blocked := func(x *trial, try func() error) {
		x.soft.SetVerification(lockOut)
		if try() == nil {
			x.Error("locked out, and verified")
		}
		x.soft.SetVerification(virtual.Touch)
	}
	add("good", withFinger, func(*trial, func() error) {})
	add("wrong", withFinger, person(virtual.Refuse))
	add("wrong-no-pin", fingerOnly, person(virtual.Refuse))
	add("wrong-nomcga", noMCGA, person(virtual.Refuse))
	add("last-no-pin", fingerOnly, person(lockOut))
	add("blocked", withFinger, blocked)
	add("blocked-no-pin", fingerOnly, blocked)
	add("timeout", withFinger, person(virtual.Ignore))
	add("cancelled", withFinger, func(x *trial, _ func() error) { x.cancel() })
}

func (d *drivers) getAssertion() {
	plain := virtual.Config{}
	bare := gaGate
	bare.config.PIN = ""
	d.malformed("ga", plain, ctap.CmdGetAssertion)
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

	// with is a getAssertion when there is a credential.
	with := func(id string, config virtual.Config, edits ...edit) {
		d.add(id, config, func(x *trial) error {
			x.create()
			return x.ga(edits...)
		})
	}
	with("ga-hash-length", plain, set(2, make([]byte, 33)))
	d.emptyParam("ga", gaGate)
	with("ga-protocol-missing", withPIN, set(gaParam, make([]byte, 32)))
	with("ga-uv-unsupported", plain, gaOption("uv", true))
	d.add("ga-20-uv", virtual.Config{Level: virtual.CTAP20}, func(x *trial) error { return x.ga(gaOption("uv", true)) })
	d.add("ga-20-protocol", virtual.Config{Level: virtual.CTAP20, PIN: thePIN}, func(x *trial) error {
		return x.ga(set(gaParam, make([]byte, 16)), set(gaProtocol, 2))
	})
	with("ga-uv-unconfigured", virtual.Config{BuiltInUV: virtual.UVNotConfigured}, gaOption("uv", true))
	d.add("ga-uv-with-param", withPIN, func(x *trial) error {
		x.create()
		m := gaGate.sign(gaRequest(gaOption("uv", true)), x.pinToken(ctap2.PermissionGetAssertion, "example.com"))
		return x.command(ctap.CmdGetAssertion, m)
	})
	with("ga-rk", plain, gaOption("rk", true))
	with("ga-rk-false", plain, gaOption("rk", false))
	with("ga-option-unknown", plain, gaOption("quux", true))
	silent := gaOption("up", false)
	person := func(id string, config virtual.Config, p virtual.Person, edits ...edit) {
		d.add(id, config, func(x *trial) error {
			x.create()
			x.people(p)
			return x.ga(edits...)
		})
	}
	person("ga-up-false", plain, virtual.Refuse, silent)

	d.add("ga-alwaysuv-unprotected", virtual.Config{AlwaysUV: true}, func(x *trial) error { return x.ga() })
	d.add("ga-alwaysuv-unprotected-no-pin", virtual.Config{AlwaysUV: true, NoClientPIN: true, BuiltInUV: virtual.UVNotConfigured},
		func(x *trial) error { return x.ga() })
	alwaysUV := virtual.Config{AlwaysUV: true, PIN: thePIN}
	with("ga-alwaysuv-no-param", alwaysUV)
	with("ga-alwaysuv-up-false", alwaysUV, silent)
	with("ga-alwaysuv-builtin", virtual.Config{AlwaysUV: true, PIN: thePIN, BuiltInUV: virtual.UVConfigured})
	d.add("ga-alwaysuv-nomcga", virtual.Config{
		AlwaysUV: true, PIN: thePIN, BuiltInUV: virtual.UVNotConfigured, NoMCGAPermissionsWithClientPIN: true,
	}, func(x *trial) error { return x.ga() })
	with("ga-no-uv", withPIN)
	d.tokenRows("ga", gaGate)
	d.add("ga-param-silent", withPIN, func(x *trial) error {
		m := gaGate.good(x)
		m[gaOptions] = fields{"up": false}
		x.must(x.command(ctap.CmdGetAssertion, m))
		delete(m, gaOptions)
		return x.command(ctap.CmdGetAssertion, m)
	})
	d.uvRows("ga", gaGate, gaOptions)

	none := func(id string, edits ...edit) {
		d.add(id, plain, func(x *trial) error {
			x.create(at("example.org"))
			x.people(virtual.Refuse)
			return x.ga(edits...)
		})
	}
	d.add("ga-none", plain, func(x *trial) error { return x.ga() })
	none("ga-none-refused")
	none("ga-none-silent", silent)
	// allowed is a getAssertion with an allowList made of a credential.
	allowed := func(id string, config virtual.Config, l func(credential []byte) []any, change ...func(*ctap2.MakeCredentialRequest)) {
		d.add(id, config, func(x *trial) error { return x.ga(set(gaAllowList, l(x.create(change...)))) })
	}
	just := func(credential []byte) []any { return list(credential) }
	d.add("ga-not-rk-no-list", plain, func(x *trial) error {
		x.create(notResident)
		return x.ga()
	})
	allowed("ga-not-rk", plain, just, notResident)
	allowed("ga-allow-unknown", plain, func([]byte) []any { return list(random(16), random(64)) })
	allowed("ga-allow-other-rp", plain, just, at("example.org"))
	allowed("ga-allow-other-type", plain, func(credential []byte) []any {
		return []any{fields{"type": "private-key", "id": credential}}
	})
	allowed("ga-allow-forged", plain, func(credential []byte) []any {
		credential[len(credential)/2] ^= 1
		return list(credential)
	}, notResident)
	allowed("ga-allow-last", plain, func(credential []byte) []any { return list(random(16), random(64), credential) })
	allowed("ga-allow-empty", plain, func([]byte) []any { return []any{} })
	allowed("ga-allow-element", plain, func(credential []byte) []any { return []any{credential} })
	allowed("ga-allow-type-id", plain, func([]byte) []any { return []any{fields{"type": "public-key", "id": "1"}} })
	allowed("ga-allow-missing-id", plain, func([]byte) []any { return []any{fields{"type": "public-key"}} })
	allowed("ga-allow-missing-type", plain, func(credential []byte) []any { return []any{fields{"id": credential}} })
	allowed("ga-allow-transports", plain, func(credential []byte) []any {
		return []any{fields{"type": "public-key", "id": credential, "transports": []string{"usb"}}}
	})
	allowed("ga-allow-limit", virtual.Config{MaxCredentialCountInList: 2}, func(credential []byte) []any {
		return list(credential, random(16), random(16))
	})
	allowed("ga-allow-id-limit", virtual.Config{MaxCredentialIDLength: 128}, func(credential []byte) []any {
		return list(credential, random(129))
	})

	protect := func(id string, config virtual.Config, policy ctap2.CredProtectPolicy, request func(credential []byte) edit) {
		d.add(id, config, func(x *trial) error { return x.ga(request(x.create(protected(policy)))) })
	}
	noList := func([]byte) edit { return func(members) {} }
	inList := func(credential []byte) edit { return set(gaAllowList, list(credential)) }
	verified := func([]byte) edit { return gaOption("uv", true) }
	finger := virtual.Config{BuiltInUV: virtual.UVConfigured}
	protect("ga-protect2-no-list", plain, ctap2.UVOptionalWithCredentialIDList, noList)
	protect("ga-protect2-list", plain, ctap2.UVOptionalWithCredentialIDList, inList)
	protect("ga-protect2-uv", finger, ctap2.UVOptionalWithCredentialIDList, verified)
	protect("ga-protect3-list", plain, ctap2.UVRequired, inList)
	protect("ga-protect3-uv", finger, ctap2.UVRequired, verified)

	person("ga-touch-denied", plain, virtual.Refuse)
	person("ga-touch-timeout", plain, virtual.Ignore)
	d.add("ga-touch-cancelled", plain, func(x *trial) error {
		x.create()
		x.cancel()
		return x.ga()
	})
}

func (d *drivers) getNextAssertion() {
	// accounts asserts when there are n, before do.
	accounts := func(id string, n int, do func(x *trial, next func() error) error) {
		d.add(id, virtual.Config{}, func(x *trial) error {
			for i := range n {
				x.create(account(string(rune('a' + i))))
			}
			x.must(x.ga())
			return do(x, func() error { return x.raw(ctap.CmdGetNextAssertion, nil) })
		})
	}
	accounts("gna-next", 2, func(_ *trial, next func() error) error { return next() })
	d.add("gna-without-begin", virtual.Config{}, func(x *trial) error { return x.raw(ctap.CmdGetNextAssertion, nil) })
	accounts("gna-one", 1, func(_ *trial, next func() error) error { return next() })
	d.add("gna-allow-list", virtual.Config{}, func(x *trial) error {
		x.must(x.ga(set(gaAllowList, list(x.create(account("a")), x.create(account("b"))))))
		return x.raw(ctap.CmdGetNextAssertion, nil)
	})
	accounts("gna-exhausted", 2, func(x *trial, next func() error) error {
		x.must(next())
		return next()
	})
	accounts("gna-timer", 2, func(_ *trial, next func() error) error {
		time.Sleep(31 * time.Second)
		return next()
	})
	accounts("gna-timer-restarts", 3, func(x *trial, next func() error) error {
		time.Sleep(29 * time.Second)
		x.must(next())
		time.Sleep(29 * time.Second)
		return next()
	})
	accounts("gna-interleaved", 2, func(x *trial, next func() error) error {
		x.must(x.raw(ctap.CmdGetInfo, nil))
		return next()
	})
	accounts("gna-interleaved-failed", 2, func(x *trial, next func() error) error {
		if x.ga(set(1, "example.org")) == nil {
			x.Error("a credential for example.org")
		}
		return next()
	})
	accounts("gna-power-cycle", 2, func(x *trial, next func() error) error {
		x.soft.PowerCycle()
		return next()
	})
	d.add("gna-token-expired", withPIN, func(x *trial) error {
		x.create(account("b"))
		m := gaGate.good(x)
		m[gaOptions] = fields{"up": false}
		x.must(x.command(ctap.CmdGetAssertion, m))
		time.Sleep((ctap.MaxTokenSeconds - 1) * time.Second)
		x.must(x.command(ctap.CmdGetAssertion, m))
		time.Sleep(2 * time.Second)
		return x.raw(ctap.CmdGetNextAssertion, nil)
	})
}

func (d *drivers) selectionAndReset() {
	for prefix, command := range map[string]byte{"sel": ctap.CmdSelection, "rst": ctap.CmdReset} {
		add := func(id string, config virtual.Config, prepare func(x *trial)) {
			d.add(prefix+"-"+id, config, func(x *trial) error {
				prepare(x)
				return x.raw(command, nil)
			})
		}
		add("touch", virtual.Config{}, func(*trial) {})
		add("denied", virtual.Config{Presence: virtual.Refuse}, func(*trial) {})
		add("timeout", virtual.Config{Presence: virtual.Ignore}, func(*trial) {})
		add("cancelled", virtual.Config{}, func(x *trial) { x.cancel() })
	}
	d.add("sel-20", virtual.Config{Level: virtual.CTAP20}, func(x *trial) error { return x.raw(ctap.CmdSelection, nil) })

	reset := func(x *trial) error { return x.raw(ctap.CmdReset, nil) }
	late := (ctap.ResetWindowSeconds + 1) * time.Second
	d.add("rst-late", virtual.Config{}, func(x *trial) error {
		time.Sleep(late)
		return reset(x)
	})
	d.add("rst-late-power-cycle", virtual.Config{}, func(x *trial) error {
		time.Sleep(late)
		x.soft.PowerCycle()
		return reset(x)
	})
	d.add("rst-long-touch", virtual.Config{LongTouchForReset: true, Presence: virtual.TouchFor(5 * time.Second)}, reset)
	d.add("rst-long-touch-short", virtual.Config{LongTouchForReset: true}, reset)
	d.add("rst-transport", virtual.Config{Transports: []string{"usb", "nfc"}, TransportsForReset: []string{"nfc"}}, reset)
	d.add("rst-credentials", virtual.Config{}, func(x *trial) error {
		credential := x.create(notResident)
		x.must(reset(x))
		return x.ga(set(gaAllowList, list(credential)))
	})
	d.add("rst-pin", withPIN, func(x *trial) error {
		x.must(reset(x))
		return x.legacy(x.agree(), thePIN)
	})
}
