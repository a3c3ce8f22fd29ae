package ctap2_test

import (
	"crypto/sha256"
	"strings"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of clientPIN.
const (
	cpProtocol, cpSubcommand, cpKeyAgreement, cpParam, cpNewPIN, cpHash, cpPermissions, cpRPID = 1, 2, 3, 4, 5, 6, 9, 10
)

// An agreement is a secret shared with the key, and the platform's half of it.
type agreement struct {
	secret *pin.SharedSecret
	key    *cose.Key
}

// agree is getKeyAgreement.
func (x *trial) agree() agreement {
	x.Helper()
	reply, err := x.key.Command(x.ctx, ctap.CmdClientPIN, encoded(x, members{cpProtocol: x.protocol(), cpSubcommand: ctap.PINGetKeyAgreement}))
	x.must(err)
	var answer struct {
		Key *cose.Key `cbor:"1,keyasint"`
	}
	x.must(cbor.Unmarshal(reply, &answer))
	key, secret, err := x.protocol().Encapsulate(answer.Key)
	x.must(err)
	return agreement{secret, key}
}

func (a agreement) encrypt(x *trial, plaintext []byte) []byte {
	x.Helper()
	b, err := a.secret.Encrypt(plaintext)
	x.must(err)
	return b
}

// hash is pinHashEnc.
func (a agreement) hash(x *trial, entered string) []byte {
	x.Helper()
	sum := sha256.Sum256([]byte(entered))
	return a.encrypt(x, sum[:ctap.PINHashLength])
}

// padded is a PIN as newPinEnc has it, before it is encrypted.
func padded(entered string) []byte { return append([]byte(entered), make([]byte, 64-len(entered))...) }

// setPIN is a request of setPIN.
func (a agreement) setPIN(newPINEnc []byte) members {
	return members{
		cpProtocol: a.secret.Protocol(), cpSubcommand: ctap.PINSetPIN, cpKeyAgreement: a.key,
		cpNewPIN: newPINEnc, cpParam: a.secret.Authenticate(newPINEnc),
	}
}

// changePIN is a request of changePIN.
func (a agreement) changePIN(newPINEnc, hashEnc []byte) members {
	m := a.setPIN(newPINEnc)
	m[cpSubcommand], m[cpHash], m[cpParam] = ctap.PINChangePIN, hashEnc, a.secret.Authenticate(newPINEnc, hashEnc)
	return m
}

// getToken is a request of getPinToken, which others add to.
func (a agreement) getToken(x *trial, entered string, edits ...edit) members {
	return edited(members{
		cpProtocol: a.secret.Protocol(), cpSubcommand: ctap.PINGetPINToken, cpKeyAgreement: a.key, cpHash: a.hash(x, entered),
	}, edits)
}

// usingPIN makes getPinToken a getPinUvAuthTokenUsingPinWithPermissions.
func usingPIN(permissions ctap2.Permission, rpID string) edit {
	return func(m members) {
		m[cpSubcommand], m[cpPermissions] = ctap.PINGetTokenUsingPIN, permissions
		if rpID != "" {
			m[cpRPID] = rpID
		}
	}
}

// usingUV makes getPinToken a getPinUvAuthTokenUsingUvWithPermissions.
func usingUV(permissions ctap2.Permission, rpID string) edit {
	return func(m members) {
		usingPIN(permissions, rpID)(m)
		m[cpSubcommand] = ctap.PINGetTokenUsingUV
		delete(m, cpHash)
	}
}

func (x *trial) clientPIN(m members) error {
	x.Helper()
	return x.command(ctap.CmdClientPIN, m)
}

// legacy is getPinToken.
func (x *trial) legacy(a agreement, entered string, edits ...edit) error {
	x.Helper()
	return x.clientPIN(a.getToken(x, entered, edits...))
}

// legacyToken is the token that getPinToken yields.
func (x *trial) legacyToken() *ctap2.Token {
	x.Helper()
	token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionCredentialManagement, RPID: "", Method: ctap2.LegacyPINMethod,
	})
	x.must(err)
	x.asked.protocol = true
	return token
}

const otherPIN = "161803"

// mistype enters n wrong PINs; power cycles keep three from being in a row.
func (x *trial) mistype(n int) {
	x.Helper()
	for i := range n {
		if i%2 == 0 {
			x.soft.PowerCycle()
		}
		if x.legacy(x.agree(), otherPIN) == nil {
			x.Fatal("the wrong PIN is right")
		}
	}
}

// mistypeInARow enters n wrong PINs without a power cycle between.
func (x *trial) mistypeInARow(n int) {
	x.Helper()
	for range n {
		if x.legacy(x.agree(), otherPIN) == nil {
			x.Fatal("the wrong PIN is right")
		}
	}
}

// A pinCommand is one of the subcommands that check a PIN.
type pinCommand func(x *trial, entered string) error

// wrongPINRows adds the rows of a PIN that is wrong, and of a key that has had
// enough of that.
func (d *drivers) wrongPINRows(prefix string, command pinCommand) {
	add := func(id string, config virtual.Config, run func(x *trial) error) { d.add(prefix+"-"+id, config, run) }
	add("good", withPIN, func(x *trial) error { return command(x, thePIN) })
	add("not-set", virtual.Config{}, func(x *trial) error { return command(x, thePIN) })
	add("wrong", withPIN, func(x *trial) error { return command(x, otherPIN) })
	add("wrong-third", withPIN, func(x *trial) error {
		x.mistypeInARow(2)
		return command(x, otherPIN)
	})
	add("wrong-eighth", withPIN, func(x *trial) error {
		x.mistype(ctap.PINMaxRetries - 1)
		return command(x, otherPIN)
	})
	add("auth-blocked", withPIN, func(x *trial) error {
		x.mistypeInARow(3)
		return command(x, thePIN)
	})
	add("blocked", withPIN, func(x *trial) error {
		x.mistype(ctap.PINMaxRetries)
		return command(x, thePIN)
	})
}

// agreementRows adds the rows of the required members, and of what can be wrong
// with the key agreement.
func (d *drivers) agreementRows(prefix string, config virtual.Config, request func(x *trial) members, required map[string]int) {
	spoil := func(id string, f func(x *trial, m members)) {
		d.add(prefix+"-"+id, config, func(x *trial) error {
			m := request(x)
			f(x, m)
			return x.clientPIN(m)
		})
	}
	spoil("protocol-unsupported", func(_ *trial, m members) { m[cpProtocol] = 3 })
	spoil("key-off-curve", func(_ *trial, m members) {
		key := *m[cpKeyAgreement].(*cose.Key)
		key.Y = append([]byte{key.Y[0] ^ 1}, key.Y[1:]...)
		m[cpKeyAgreement] = coseMembers(&key)
	})
	spoil("key-no-type", func(_ *trial, m members) {
		key := coseMembers(m[cpKeyAgreement].(*cose.Key))
		delete(key, 1)
		m[cpKeyAgreement] = key
	})
	spoil("key-other-curve", func(_ *trial, m members) {
		key := coseMembers(m[cpKeyAgreement].(*cose.Key))
		key[-1] = 2 // P-384
		m[cpKeyAgreement] = key
	})
	spoil("key-incomplete", func(_ *trial, m members) {
		key := coseMembers(m[cpKeyAgreement].(*cose.Key))
		delete(key, -3)
		m[cpKeyAgreement] = key
	})
	for name, key := range required {
		spoil("missing-"+name, func(_ *trial, m members) { delete(m, key) })
	}
}

// coseMembers is a key agreement key whatever is wrong with it.
func coseMembers(key *cose.Key) members {
	return members{1: 2, 3: -25, -1: 1, -2: key.X, -3: key.Y}
}

func (d *drivers) clientPIN() {
	plain := virtual.Config{}
	d.malformed("pin", plain, ctap.CmdClientPIN)
	for name, spoil := range map[string]edit{
		"pinUvAuthProtocol": set(cpProtocol, "two"),
		"subCommand":        set(cpSubcommand, "getPinToken"),
		"keyAgreement":      set(cpKeyAgreement, []byte{4}),
		"pinUvAuthParam":    set(cpParam, "param"),
		"newPinEnc":         set(cpNewPIN, "pin"),
		"pinHashEnc":        set(cpHash, "hash"),
		"permissions":       set(cpPermissions, "ga"),
		"rpId":              set(cpRPID, []byte("example.com")),
	} {
		d.add("pin-type-"+name, withPIN, func(x *trial) error {
			return x.legacy(x.agree(), thePIN, usingPIN(ctap2.PermissionGetAssertion, "example.com"), spoil)
		})
	}
	bare := func(id string, config virtual.Config, m members) {
		d.add(id, config, func(x *trial) error { return x.clientPIN(m) })
	}
	finger := virtual.Config{BuiltInUV: virtual.UVConfigured}
	bare("pin-missing-subCommand", plain, members{cpProtocol: 2})
	bare("pin-unknown-subcommand", plain, members{cpProtocol: 2, cpSubcommand: 8})
	bare("pin-zero-subcommand", plain, members{cpProtocol: 2, cpSubcommand: 0})
	bare("pin-retries-unsupported", virtual.Config{NoClientPIN: true}, members{cpProtocol: 2, cpSubcommand: ctap.PINGetRetries})
	bare("pin-unsupported", virtual.Config{NoClientPIN: true, Extensions: []string{"credProtect"}},
		members{cpProtocol: 2, cpSubcommand: ctap.PINGetRetries})
	bare("pin-20-unknown-subcommand", virtual.Config{Level: virtual.CTAP20, PIN: thePIN}, members{cpProtocol: 1, cpSubcommand: ctap.PINGetTokenUsingPIN})
	bare("pin-retries", plain, members{cpSubcommand: ctap.PINGetRetries})
	bare("pin-uv-retries", finger, members{cpSubcommand: ctap.PINGetUVRetries})
	bare("pin-uv-retries-unsupported", plain, members{cpSubcommand: ctap.PINGetUVRetries})
	bare("pin-ka-missing-protocol", plain, members{cpSubcommand: ctap.PINGetKeyAgreement})
	bare("pin-ka-unsupported", plain, members{cpProtocol: 3, cpSubcommand: ctap.PINGetKeyAgreement})
	bare("pin-ka-20-protocol-two", virtual.Config{Level: virtual.CTAP20}, members{cpProtocol: 2, cpSubcommand: ctap.PINGetKeyAgreement})

	d.setPIN()
	d.changePIN()
	d.getPINToken()
	d.getTokenUsingPIN()
	d.getTokenUsingUV()
}

func (d *drivers) setPIN() {
	plain, long := virtual.Config{}, virtual.Config{MinPINLength: 6}
	d.agreementRows("set", plain, func(x *trial) members {
		a := x.agree()
		return a.setPIN(a.encrypt(x, padded(thePIN)))
	}, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinUvAuthParam": cpParam, "newPinEnc": cpNewPIN,
	})
	set := func(id string, config virtual.Config, plaintext []byte) {
		d.add("set-"+id, config, func(x *trial) error {
			a := x.agree()
			return x.clientPIN(a.setPIN(a.encrypt(x, plaintext)))
		})
	}
	set("good", plain, padded(thePIN))
	set("already", withPIN, padded(thePIN))
	set("enc-length", plain, padded(thePIN)[:48])
	set("too-short", plain, padded("123"))
	set("code-points", plain, padded("🦊🦉🐝"))
	set("too-short-min", long, padded("27182"))
	set("at-min", long, padded("🦊🦉🐝🦊🦉🐝"))
	set("complexity", virtual.Config{PINComplexityPolicy: true}, padded("777777"))
	set("too-long", plain, []byte(strings.Repeat("1234", 16)))
	d.add("set-param-wrong", plain, func(x *trial) error {
		a := x.agree()
		m := a.setPIN(a.encrypt(x, padded(thePIN)))
		m[cpParam].([]byte)[5] ^= 0x10
		return x.clientPIN(m)
	})
	d.add("set-stale-secret", plain, func(x *trial) error {
		a := x.agree()
		x.soft.PowerCycle()
		return x.clientPIN(a.setPIN(a.encrypt(x, padded(thePIN))))
	})
	d.add("set-enc-block", plain, func(x *trial) error {
		a := x.agree()
		return x.clientPIN(a.setPIN(a.encrypt(x, padded(thePIN))[:63]))
	})
}

func (d *drivers) changePIN() {
	const newPIN = "314159"
	request := func(x *trial) members {
		a := x.agree()
		return a.changePIN(a.encrypt(x, padded(newPIN)), a.hash(x, thePIN))
	}
	d.agreementRows("chg", withPIN, request, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinUvAuthParam": cpParam, "newPinEnc": cpNewPIN,
		"pinHashEnc": cpHash,
	})
	d.wrongPINRows("chg", func(x *trial, entered string) error {
		a := x.agree()
		return x.clientPIN(a.changePIN(a.encrypt(x, padded(newPIN)), a.hash(x, entered)))
	})
	forged := func(x *trial) error {
		m := request(x)
		m[cpParam].([]byte)[5] ^= 0x10
		return x.clientPIN(m)
	}
	d.add("chg-param-wrong", withPIN, forged)
	d.add("chg-param-wrong-free", withPIN, func(x *trial) error {
		for range ctap.PINMaxRetries {
			if forged(x) == nil {
				x.Error("a forged request changed the PIN")
			}
		}
		answer, err := x.ask(ctap.CmdClientPIN, members{cpProtocol: x.protocol(), cpSubcommand: ctap.PINGetRetries})
		if err == nil && answer[3] != uint64(ctap.PINMaxRetries) {
			x.Errorf("%v tries left", answer[3])
		}
		return err
	})
	d.add("chg-enc-block", withPIN, func(x *trial) error {
		a := x.agree()
		return x.clientPIN(a.changePIN(a.encrypt(x, padded(newPIN))[:63], a.hash(x, thePIN)))
	})
	change := func(id string, config virtual.Config, plaintext []byte) {
		d.add("chg-"+id, config, func(x *trial) error {
			a := x.agree()
			return x.clientPIN(a.changePIN(a.encrypt(x, plaintext), a.hash(x, thePIN)))
		})
	}
	forced := virtual.Config{PIN: thePIN, ForcePINChange: true}
	change("enc-length", withPIN, padded(newPIN)[:48])
	change("too-short", withPIN, padded("314"))
	change("complexity", virtual.Config{PIN: thePIN, PINComplexityPolicy: true}, padded("456789"))
	change("same", withPIN, padded(thePIN))
	change("same-forced", forced, padded(thePIN))
	change("other-forced", forced, padded(newPIN))
}

func (d *drivers) getPINToken() {
	d.agreementRows("gpt", withPIN, func(x *trial) members { return x.agree().getToken(x, thePIN) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinHashEnc": cpHash,
	})
	d.wrongPINRows("gpt", func(x *trial, entered string) error { return x.legacy(x.agree(), entered) })
	add := func(id string, config virtual.Config, run func(x *trial) error) { d.add("gpt-"+id, config, run) }
	add("permissions", withPIN, func(x *trial) error {
		return x.legacy(x.agree(), thePIN, set(cpPermissions, ctap2.PermissionGetAssertion))
	})
	add("rpId", withPIN, func(x *trial) error { return x.legacy(x.agree(), thePIN, set(cpRPID, "example.com")) })
	add("auth-blocked-power-cycle", withPIN, func(x *trial) error {
		x.mistypeInARow(3)
		x.soft.PowerCycle()
		return x.legacy(x.agree(), thePIN)
	})
	add("blocked-power-cycle", withPIN, func(x *trial) error {
		x.mistype(ctap.PINMaxRetries)
		x.soft.PowerCycle()
		return x.legacy(x.agree(), thePIN)
	})
	add("right-resets", withPIN, func(x *trial) error {
		x.mistypeInARow(2)
		x.must(x.legacy(x.agree(), thePIN))
		x.mistypeInARow(1)
		return x.legacy(x.agree(), otherPIN)
	})
	add("hash-length", withPIN, hashLength())
	add("stale-secret", withPIN, func(x *trial) error {
		a := x.agree()
		if x.legacy(a, otherPIN) == nil {
			x.Error("the wrong PIN is right")
		}
		return x.legacy(a, thePIN)
	})
	add("forced", virtual.Config{PIN: thePIN, ForcePINChange: true}, func(x *trial) error { return x.legacy(x.agree(), thePIN) })
	add("nomcga", noMCGA, func(x *trial) error {
		return x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), x.legacyToken()))
	})
	add("no-cm", withPIN, func(x *trial) error {
		return x.command(ctap.CmdCredentialManagement, cmMeta.sign(cmMeta.request(x), x.legacyToken()))
	})
	add("first-rp", withPIN, func(x *trial) error {
		x.create()
		x.create(at("example.org"))
		token, silent := x.legacyToken(), gaOption("up", false)
		x.must(x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(silent, set(1, "example.org")), token)))
		return x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(silent), token))
	})
}

// hashLength enters a PIN whose hash is one block and a half.
func hashLength(edits ...edit) func(x *trial) error {
	return func(x *trial) error {
		a := x.agree()
		return x.legacy(a, thePIN, append(edits, set(cpHash, a.encrypt(x, make([]byte, 32))[:24+16*(int(x.protocol())-1)]))...)
	}
}

func (d *drivers) getTokenUsingPIN() {
	ga := usingPIN(ctap2.PermissionGetAssertion, "example.com")
	d.agreementRows("upt", withPIN, func(x *trial) members { return x.agree().getToken(x, thePIN, ga) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinHashEnc": cpHash, "permissions": cpPermissions,
	})
	d.wrongPINRows("upt", func(x *trial, entered string) error { return x.legacy(x.agree(), entered, ga) })
	add := func(id string, config virtual.Config, permissions ctap2.Permission, rpID string) {
		d.add("upt-"+id, config, func(x *trial) error { return x.legacy(x.agree(), thePIN, usingPIN(permissions, rpID)) })
	}
	d.permissionRows(withPIN, add)
	for name, lacking := range map[string]struct {
		permission ctap2.Permission
		config     virtual.Config
	}{
		"cm":   {ctap2.PermissionCredentialManagement, virtual.Config{PIN: thePIN, NoCredentialManagement: true}},
		"be":   {ctap2.PermissionBioEnrollment, withPIN},
		"lbw":  {ctap2.PermissionLargeBlobWrite, virtual.Config{PIN: thePIN, Extensions: []string{"credProtect"}}},
		"acfg": {ctap2.PermissionAuthenticatorConfig, virtual.Config{PIN: thePIN, NoAuthenticatorConfig: true}},
		"pcmr": {ctap2.PermissionPersistentCredentialManagement, virtual.Config{PIN: thePIN, NoPersistentCredMgmtRO: true}},
	} {
		add("no-"+name, lacking.config, lacking.permission, "")
	}
	add("unsupported", virtual.Config{PIN: thePIN, NoPINUVAuthToken: true}, ctap2.PermissionGetAssertion, "example.com")
	add("nomcga-mc", noMCGA, ctap2.PermissionMakeCredential, "example.com")
	add("nomcga-ga", noMCGA, ctap2.PermissionGetAssertion, "example.com")
	add("unknown", withPIN, ctap2.PermissionGetAssertion|0x80, "example.com")
	add("cm-no-rp", withPIN, ctap2.PermissionCredentialManagement, "")
	forced := virtual.Config{PIN: thePIN, ForcePINChange: true}
	add("forced", forced, ctap2.PermissionGetAssertion, "example.com")
	d.add("upt-forced-wrong", forced, func(x *trial) error { return x.legacy(x.agree(), otherPIN, ga) })
	d.add("upt-hash-length", withPIN, hashLength(ga))
}

// permissionRows adds the rows of permissions that the two subcommands share.
func (d *drivers) permissionRows(config virtual.Config, add func(id string, config virtual.Config, permissions ctap2.Permission, rpID string)) {
	add("missing-rpId-mc", config, ctap2.PermissionMakeCredential, "")
	add("missing-rpId-ga", config, ctap2.PermissionGetAssertion, "")
	add("zero", config, 0, "example.com")
	add("pcmr-and-cm", config, ctap2.PermissionPersistentCredentialManagement|ctap2.PermissionCredentialManagement, "")
}

func (d *drivers) getTokenUsingUV() {
	ga := usingUV(ctap2.PermissionGetAssertion, "example.com")
	d.agreementRows("uvt", withFinger, func(x *trial) members { return x.agree().getToken(x, "", ga) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "permissions": cpPermissions,
	})
	add := func(id string, config virtual.Config, permissions ctap2.Permission, rpID string) {
		d.add("uvt-"+id, config, func(x *trial) error { return x.legacy(x.agree(), "", usingUV(permissions, rpID)) })
	}
	d.permissionRows(withFinger, add)
	add("good", withFinger, ctap2.PermissionGetAssertion, "example.com")
	add("unsupported", withPIN, ctap2.PermissionGetAssertion, "example.com")
	add("unconfigured", virtual.Config{PIN: thePIN, BuiltInUV: virtual.UVNotConfigured}, ctap2.PermissionGetAssertion, "example.com")
	add("nomcga", noMCGA, ctap2.PermissionMakeCredential, "example.com")
	add("forced", virtual.Config{PIN: thePIN, BuiltInUV: virtual.UVConfigured, ForcePINChange: true}, ctap2.PermissionGetAssertion, "example.com")

	for name, lacking := range map[string]struct {
		permission ctap2.Permission
		without    func(c *virtual.Config)
	}{
		"cm":   {ctap2.PermissionCredentialManagement, func(c *virtual.Config) { c.NoCredentialManagement = true }},
		"be":   {ctap2.PermissionBioEnrollment, func(c *virtual.Config) { c.NoUVBioEnroll = true }},
		"lbw":  {ctap2.PermissionLargeBlobWrite, func(c *virtual.Config) { c.Extensions = []string{"credProtect"} }},
		"acfg": {ctap2.PermissionAuthenticatorConfig, func(c *virtual.Config) { c.NoUVAcfg = true }},
		"pcmr": {ctap2.PermissionPersistentCredentialManagement, func(c *virtual.Config) { c.NoPersistentCredMgmtRO = true }},
	} {
		config := withFinger
		lacking.without(&config)
		add("no-"+name, config, lacking.permission, "")
	}
	run := func(id string, prepare func(x *trial)) {
		d.add("uvt-"+id, withFinger, func(x *trial) error {
			prepare(x)
			return x.legacy(x.agree(), "", ga)
		})
	}
	blocked := func(x *trial) {
		x.soft.SetVerification(lockOut)
		if x.legacy(x.agree(), "", ga) == nil {
			x.Error("locked out, and verified")
		}
		x.soft.SetVerification(virtual.Touch)
	}
	run("wrong", func(x *trial) { x.soft.SetVerification(virtual.Refuse) })
	run("last", func(x *trial) { x.soft.SetVerification(lockOut) })
	run("blocked", blocked)
	run("blocked-power-cycle", func(x *trial) {
		blocked(x)
		x.soft.PowerCycle()
	})
	run("blocked-pin", func(x *trial) {
		blocked(x)
		x.must(x.legacy(x.agree(), thePIN))
	})
	run("pin-blocked", func(x *trial) { x.mistype(ctap.PINMaxRetries) })
	run("timeout", func(x *trial) { x.soft.SetVerification(virtual.Ignore) })
	d.add("uvt-cancelled", withFinger, func(x *trial) error {
		m := x.agree().getToken(x, "", ga)
		x.cancel()
		return x.clientPIN(m)
	})
}

// tokens adds the rows about the life of a token.
func (d *drivers) tokens() {
	// silent is a getAssertion that does not spend the token, again and again.
	use := func(id string, config virtual.Config, live func(x *trial, silent func() error)) {
		d.add("tok-"+id, config, func(x *trial) error {
			m := gaGate.good(x)
			m[gaOptions] = fields{"up": false}
			silent := func() error { return x.command(ctap.CmdGetAssertion, m) }
			live(x, silent)
			return silent()
		})
	}
	use("unused", withPIN, func(x *trial, _ func() error) { time.Sleep((ctap.InitialTokenUseSecondsUSB + 1) * time.Second) })
	use("unused-nfc", virtual.Config{PIN: thePIN, Transports: []string{"nfc"}}, func(*trial, func() error) { time.Sleep(20 * time.Second) })
	use("used", withPIN, func(x *trial, silent func() error) {
		x.must(silent())
		time.Sleep(9 * time.Minute)
	})
	use("old", withPIN, func(x *trial, silent func() error) {
		x.must(silent())
		time.Sleep((ctap.MaxTokenSeconds + 1) * time.Second)
	})
	use("power-cycle", withPIN, func(x *trial, _ func() error) { x.soft.PowerCycle() })
	use("pin-changed", withPIN, func(x *trial, _ func() error) {
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(thePIN), pin.FromString("314159")))
	})

	// both uses one token for an assertion and for another command.
	both := func(id string, permission ctap2.Permission, run func(x *trial, assertion members, token *ctap2.Token) error) {
		d.add("tok-"+id, withPIN, func(x *trial) error {
			m := gaGate.request(x)
			token := x.token(permission|ctap2.PermissionGetAssertion, "example.com")
			return run(x, gaGate.sign(m, token), token)
		})
	}
	both("config", ctap2.PermissionAuthenticatorConfig, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.command(ctap.CmdConfig, cfgLong.sign(cfgLong.request(x), token)))
		return x.command(ctap.CmdGetAssertion, assertion)
	})
	both("forced", ctap2.PermissionAuthenticatorConfig, func(x *trial, assertion members, token *ctap2.Token) error {
		m := cfgMin.request(x)
		m[subParams] = members{3: true}
		x.must(x.command(ctap.CmdConfig, cfgMin.sign(m, token)))
		return x.command(ctap.CmdGetAssertion, assertion)
	})
	both("touch-acfg", ctap2.PermissionAuthenticatorConfig, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.command(ctap.CmdGetAssertion, assertion))
		return x.command(ctap.CmdConfig, cfgAlways.sign(cfgAlways.request(x), token))
	})
	both("touch-lbw", ctap2.PermissionLargeBlobWrite, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.command(ctap.CmdGetAssertion, assertion))
		return x.command(ctap.CmdLargeBlobs, lbSet.sign(lbSet.request(x), token))
	})
}
