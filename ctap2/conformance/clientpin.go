package conformance

import (
	"crypto/sha256"
	"errors"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of clientPIN.
const (
	cpProtocol, cpSubcommand, cpKeyAgreement, cpParam, cpNewPIN, cpHash, cpPermissions, cpRPID = 1, 2, 3, 4, 5, 6, 9, 10
)

// An agreement is a secret shared with the authenticator, and the platform's half
// of it.
type agreement struct {
	secret *pin.SharedSecret
	key    *cose.Key
}

// agree is getKeyAgreement.
func (x *trial) agree() agreement { return x.agreeBy(x.protocol()) }

func (x *trial) agreeBy(protocol pin.Protocol) agreement {
	var answer struct {
		Key *cose.Key `cbor:"1,keyasint"`
	}
	x.must(cbor.Unmarshal(x.keyAgreement(protocol), &answer))
	if answer.Key == nil {
		x.fatalf("getKeyAgreement answered without keyAgreement")
	}
	key, secret, err := protocol.Encapsulate(answer.Key)
	x.must(err)
	return agreement{secret, key}
}

// keyAgreement is the answer to getKeyAgreement as it came.
func (x *trial) keyAgreement(protocol pin.Protocol) []byte {
	reply, err := x.key.Command(x.ctx, ctap.CmdClientPIN, x.encoded(members{cpProtocol: protocol, cpSubcommand: ctap.PINGetKeyAgreement}))
	x.must(err)
	return reply
}

func (a agreement) encrypt(x *trial, plaintext []byte) []byte {
	b, err := a.secret.Encrypt(plaintext)
	x.must(err)
	return b
}

// hash is pinHashEnc.
func (a agreement) hash(x *trial, entered string) []byte {
	sum := sha256.Sum256([]byte(entered))
	return a.encrypt(x, sum[:ctap.PINHashLength])
}

// padded is a PIN as newPinEnc has it, before it is encrypted.
func padded(entered string) []byte {
	return append([]byte(entered), make([]byte, max(64-len(entered), 0))...)
}

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

func (x *trial) clientPIN(m members) error { return x.command(ctap.CmdClientPIN, m) }

// allowed ends the trial if a PIN is refused that a rule of the authenticator's
// own may forbid (§6.5.5.5 step 10, §6.5.5.6 step 14).
func (x *trial) allowed(err error) error {
	if errors.Is(err, ctap2.ErrPINPolicyViolation) {
		x.skip("has a rule of its own against the PIN, as it may")
	}
	return err
}

// legacy is getPinToken.
func (x *trial) legacy(a agreement, entered string, edits ...edit) error {
	return x.clientPIN(a.getToken(x, entered, edits...))
}

// legacyToken is the token that getPinToken yields.
func (x *trial) legacyToken() *ctap2.Token {
	token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionCredentialManagement, Method: ctap2.LegacyPINMethod,
	})
	x.must(err)
	x.asked.protocol = true
	return token
}

// wrongPIN is as long as the PIN, and not it.
func (x *trial) wrongPIN() string {
	wrong := []byte(x.pin())
	for i := range wrong {
		wrong[i] ^= 1 // a digit stays one
	}
	return string(wrong)
}

// mistypeUntil enters wrong PINs until that many tries are left; power cycles keep
// three from being in a row.
func (x *trial) mistypeUntil(left int) {
	for i, before := 0, x.tries(); before > left; i, before = i+1, before-1 {
		if i%2 == 0 {
			x.powerCycle()
		}
		x.mistypeInARow(1)
		if after := x.tries(); after != before-1 {
			x.fatalf("a wrong PIN leaves %d of %d tries", after, before)
		}
	}
}

// mistypeInARow enters n wrong PINs without a power cycle between.
func (x *trial) mistypeInARow(n int) {
	for range n {
		if x.legacy(x.agree(), x.wrongPIN()) == nil {
			x.fatalf("the wrong PIN is right")
		}
	}
}

// coseMembers is a key agreement key whatever is wrong with it.
func coseMembers(key *cose.Key) members {
	return members{1: 2, 3: -25, -1: 1, -2: key.X, -3: key.Y}
}

// Abilities that the cases of clientPIN are about.
var (
	clientPINCommand = condition{"has no authenticatorClientPIN", func(info *ctap2.Info) bool {
		return clientPIN.holds(info) || builtInUV.holds(info) || extension("hmac-secret").holds(info)
	}}
	setsMinPINLength = optionOn(ctap2.OptionSetMinPINLength)
	// A complexity policy can be turned on.
	complexity = condition{"has no PIN complexity policy", func(info *ctap2.Info) bool {
		return info.PINComplexityPolicy != nil && setsMinPINLength.holds(info)
	}}
	minPINLengthUpTo6 = condition{"has no minimum PIN length of 6", func(info *ctap2.Info) bool {
		return info.MinPINLength <= 6 && maxPINLength(info) >= 6
	}}
)

// forcePINChange has the PIN changed before it is good for a token.
func (x *trial) forcePINChange() {
	x.setMinPINLength(&ctap2.SetMinPINLengthRequest{ForceChangePIN: true})
}

// setMinPINLength sends that subcommand, with a token if there is a PIN to get
// one with.
func (x *trial) setMinPINLength(request *ctap2.SetMinPINLengthRequest) {
	if x.c.setup.state.pin {
		request.Token = x.pinToken(ctap2.PermissionAuthenticatorConfig, "")
	}
	x.must(x.key.SetMinPINLength(x.ctx, request))
}

// A pinCommand is one of the subcommands that check a PIN.
type pinCommand func(x *trial, entered string) error

// wrongPINRows adds the rows of a PIN that is wrong, and of a key that has had
// enough of that. A setup that leaves no trace does where the right PIN gives back
// what was lost.
func (d *drivers) wrongPINRows(prefix string, s setup, command pinCommand) {
	add := func(id string, s setup, run func(x *trial) error) { d.add(prefix+"-"+id, s, run) }
	blocks := s.powerCycle() // which does not help all of them
	blocks.harmless = false
	unset := blocks
	unset.state.pin = false
	add("good", s, func(x *trial) error { return command(x, x.pin()) })
	add("not-set", unset.and(clientPIN), func(x *trial) error { return command(x, x.pin()) })
	add("wrong", s.spends(1), func(x *trial) error { return command(x, x.wrongPIN()) })
	add("wrong-third", blocks.spends(3), func(x *trial) error {
		x.mistypeInARow(2)
		return command(x, x.wrongPIN())
	})
	add("wrong-eighth", blocks.spends(ctap.PINMaxRetries), func(x *trial) error {
		x.mistypeUntil(1)
		return command(x, x.wrongPIN())
	})
	add("auth-blocked", blocks.spends(3), func(x *trial) error {
		x.mistypeInARow(3)
		return command(x, x.pin())
	})
	add("blocked", blocks.spends(ctap.PINMaxRetries), func(x *trial) error {
		x.mistypeUntil(0)
		return command(x, x.pin())
	})
}

// agreementRows adds the rows of the required members, and of what can be wrong
// with the key agreement.
func (d *drivers) agreementRows(prefix string, s setup, request func(x *trial) members, required map[string]int) {
	spoil := func(id string, f func(x *trial, m members)) {
		d.add(prefix+"-"+id, s, func(x *trial) error {
			m := request(x)
			f(x, m)
			return x.clientPIN(m)
		})
	}
	spoil("protocol-unsupported", func(_ *trial, m members) { m[cpProtocol] = 3 })
	spoil("key-off-curve", func(_ *trial, m members) { m[cpKeyAgreement] = offCurve(m[cpKeyAgreement].(*cose.Key)) })
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

// offCurve is a key that is no point of its curve.
func offCurve(key *cose.Key) members {
	m := coseMembers(key)
	m[-3] = append([]byte{key.Y[0] ^ 1}, key.Y[1:]...)
	return m
}

func (d *drivers) clientPIN() {
	anyState := plain.leavesNoTrace()
	d.malformed("pin", anyState.and(clientPINCommand), ctap.CmdClientPIN)
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
		d.add("pin-type-"+name, withPIN.and(permissions).leavesNoTrace(), func(x *trial) error {
			return x.legacy(x.agree(), x.pin(), usingPIN(ctap2.PermissionGetAssertion, "example.com"), spoil)
		})
	}
	bare := func(id string, s setup, request func(x *trial) members) {
		d.add(id, s, func(x *trial) error { return x.clientPIN(request(x)) })
	}
	just := func(m members) func(*trial) members { return func(*trial) members { return m } }
	numbered := func(subcommand int) func(x *trial) members {
		return func(x *trial) members { return members{cpProtocol: x.protocol(), cpSubcommand: subcommand} }
	}
	bare("pin-missing-subCommand", anyState.and(clientPINCommand), func(x *trial) members { return members{cpProtocol: x.protocol()} })
	bare("pin-unknown-subcommand", anyState.and(clientPINCommand, from21), numbered(8))
	bare("pin-zero-subcommand", anyState.and(clientPINCommand, from21), numbered(0))
	bare("pin-retries-unsupported", anyState.and(noClientPIN, clientPINCommand, from21), numbered(ctap.PINGetRetries))
	bare("pin-unsupported", anyState.and(not(clientPINCommand, "has authenticatorClientPIN")),
		just(members{cpProtocol: 2, cpSubcommand: ctap.PINGetRetries}))
	bare("pin-20-unknown-subcommand", anyState.and(clientPINCommand, only20), numbered(ctap.PINGetTokenUsingPIN))
	bare("pin-retries", anyState.and(clientPIN, from21), just(members{cpSubcommand: ctap.PINGetRetries}))
	bare("pin-uv-retries", anyState.and(builtInUV, from21), just(members{cpSubcommand: ctap.PINGetUVRetries}))
	bare("pin-uv-retries-unsupported", anyState.and(noBuiltInUV, clientPINCommand, from21), just(members{cpSubcommand: ctap.PINGetUVRetries}))
	bare("pin-ka-missing-protocol", anyState.and(clientPINCommand), just(members{cpSubcommand: ctap.PINGetKeyAgreement}))
	bare("pin-ka-unsupported", anyState.and(clientPINCommand), just(members{cpProtocol: 3, cpSubcommand: ctap.PINGetKeyAgreement}))
	bare("pin-ka-20-protocol-two", anyState.and(clientPINCommand, only20), just(members{cpProtocol: 2, cpSubcommand: ctap.PINGetKeyAgreement}))

	d.setPIN()
	d.changePIN()
	d.getPINToken()
	d.getTokenUsingPIN()
	d.getTokenUsingUV()
}

func (d *drivers) setPIN() {
	plain := plain.and(clientPIN)
	d.agreementRows("set", plain, func(x *trial) members {
		a := x.agree()
		return a.setPIN(a.encrypt(x, padded(x.pin())))
	}, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinUvAuthParam": cpParam, "newPinEnc": cpNewPIN,
	})
	set := func(id string, s setup, plaintext func(x *trial) []byte) {
		d.add("set-"+id, s, func(x *trial) error {
			newPIN := plaintext(x) // before the agreement, which what it does may replace
			a := x.agree()
			return x.clientPIN(a.setPIN(a.encrypt(x, newPIN)))
		})
	}
	is := func(newPIN string) func(*trial) []byte { return func(*trial) []byte { return padded(newPIN) } }
	thePIN := func(x *trial) []byte { return padded(x.pin()) }
	atLeast6 := func(x *trial) { x.setMinPINLength(&ctap2.SetMinPINLengthRequest{NewMinPINLength: 6}) }
	long := plain.and(setsMinPINLength, minPINLengthUpTo6)
	set("good", plain, thePIN)
	set("already", withPIN.leavesNoTrace(), thePIN)
	set("enc-length", plain, func(x *trial) []byte { return padded(x.pin())[:48] })
	set("too-short", plain, is("123"))
	set("code-points", plain, is("🦊🦉🐝"))
	set("too-short-min", long, func(x *trial) []byte {
		atLeast6(x)
		return padded("27182")
	})
	d.add("set-at-min", long, func(x *trial) error {
		atLeast6(x)
		return x.allowed(x.trySetPIN("🦊🦉🐝🦊🦉🐝"))
	})
	set("complexity", plain.and(complexity), func(x *trial) []byte {
		x.setMinPINLength(&ctap2.SetMinPINLengthRequest{PINComplexityPolicy: true})
		return padded("777777")
	})
	set("too-long", plain, is(strings.Repeat("1234", 16)))
	d.add("set-param-wrong", plain, func(x *trial) error {
		a := x.agree()
		m := a.setPIN(a.encrypt(x, padded(x.pin())))
		return forged(m[cpParam].([]byte), func() error { return x.clientPIN(m) })
	})
	d.add("set-stale-secret", plain.powerCycle(), func(x *trial) error {
		a := x.agree()
		x.powerCycle()
		return x.clientPIN(a.setPIN(a.encrypt(x, padded(x.pin()))))
	})
	d.add("set-enc-block", plain, func(x *trial) error {
		a := x.agree()
		return x.clientPIN(a.setPIN(a.encrypt(x, padded(x.pin()))[:63]))
	})
}

func (d *drivers) changePIN() {
	request := func(x *trial) members {
		a := x.agree()
		return a.changePIN(a.encrypt(x, padded(x.otherPIN())), a.hash(x, x.pin()))
	}
	d.agreementRows("chg", withPIN, request, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinUvAuthParam": cpParam, "newPinEnc": cpNewPIN,
		"pinHashEnc": cpHash,
	})
	d.wrongPINRows("chg", withPIN, func(x *trial, entered string) error {
		a := x.agree()
		return x.clientPIN(a.changePIN(a.encrypt(x, padded(x.otherPIN())), a.hash(x, entered)))
	})
	d.add("chg-param-wrong", withPIN, func(x *trial) error {
		m := request(x)
		return forged(m[cpParam].([]byte), func() error { return x.clientPIN(m) })
	})
	d.add("chg-param-wrong-free", withPIN, func(x *trial) error {
		before := x.tries()
		for range ctap.PINMaxRetries {
			m := request(x)
			m[cpParam].([]byte)[5] ^= 0x10
			if x.clientPIN(m) == nil {
				x.errorf("a forged request changed the PIN")
			}
		}
		answer, err := x.retries()
		if err == nil && answer[cpRetries] != uint64(before) {
			x.errorf("%v of %d tries left", answer[cpRetries], before)
		}
		return err
	})
	d.add("chg-enc-block", withPIN, func(x *trial) error {
		a := x.agree()
		return x.clientPIN(a.changePIN(a.encrypt(x, padded(x.otherPIN()))[:63], a.hash(x, x.pin())))
	})
	change := func(id string, s setup, plaintext func(x *trial) []byte) {
		d.add("chg-"+id, s, func(x *trial) error {
			newPIN := plaintext(x)
			a := x.agree()
			return x.clientPIN(a.changePIN(a.encrypt(x, newPIN), a.hash(x, x.pin())))
		})
	}
	forced := withPIN.and(setsMinPINLength)
	change("enc-length", withPIN, func(x *trial) []byte { return padded(x.otherPIN())[:48] })
	change("too-short", withPIN, func(*trial) []byte { return padded("314") })
	change("complexity", withPIN.and(complexity), func(x *trial) []byte {
		x.setMinPINLength(&ctap2.SetMinPINLengthRequest{PINComplexityPolicy: true})
		return padded("456789")
	})
	d.add("chg-same", withPIN, func(x *trial) error { return x.allowed(x.tryChangePIN(x.pin(), x.pin())) })
	change("same-forced", forced, func(x *trial) []byte {
		x.forcePINChange()
		return padded(x.pin())
	})
	change("other-forced", forced, func(x *trial) []byte {
		x.forcePINChange()
		return padded(x.otherPIN())
	})
}

func (d *drivers) getPINToken() {
	harmless := withPIN.leavesNoTrace()
	d.agreementRows("gpt", harmless, func(x *trial) members { return x.agree().getToken(x, x.pin()) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinHashEnc": cpHash,
	})
	d.wrongPINRows("gpt", harmless, func(x *trial, entered string) error { return x.legacy(x.agree(), entered) })
	add := func(id string, s setup, run func(x *trial) error) { d.add("gpt-"+id, s, run) }
	add("permissions", harmless.and(from21), func(x *trial) error {
		return x.legacy(x.agree(), x.pin(), set(cpPermissions, ctap2.PermissionGetAssertion))
	})
	add("rpId", harmless.and(from21), func(x *trial) error { return x.legacy(x.agree(), x.pin(), set(cpRPID, "example.com")) })
	add("auth-blocked-power-cycle", withPIN.spends(3).powerCycle(), func(x *trial) error {
		x.mistypeInARow(3)
		x.powerCycle()
		return x.legacy(x.agree(), x.pin())
	})
	add("blocked-power-cycle", withPIN.spends(ctap.PINMaxRetries).powerCycle(), func(x *trial) error {
		x.mistypeUntil(0)
		x.powerCycle()
		return x.legacy(x.agree(), x.pin())
	})
	add("right-resets", harmless.spends(4), func(x *trial) error {
		x.mistypeInARow(2)
		x.must(x.legacy(x.agree(), x.pin()))
		x.mistypeInARow(1)
		return x.legacy(x.agree(), x.wrongPIN())
	})
	add("hash-length", harmless.spends(1), hashLength())
	add("stale-secret", harmless.spends(2), func(x *trial) error {
		a := x.agree()
		if x.legacy(a, x.wrongPIN()) == nil {
			x.errorf("the wrong PIN is right")
		}
		return x.legacy(a, x.pin())
	})
	add("forced", withPIN.and(setsMinPINLength), func(x *trial) error {
		x.forcePINChange()
		return x.legacy(x.agree(), x.pin())
	})
	add("nomcga", withFinger.and(noMcGa), func(x *trial) error {
		return x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), x.legacyToken()))
	})
	add("no-cm", harmless.and(credMgmt, from21), func(x *trial) error {
		token := x.legacyToken()
		return x.command(cmMeta.command, cmMeta.sign(cmMeta.request(x), token))
	})
	add("first-rp", withPIN.and(from21, residentKeys, mcGaWithPIN), func(x *trial) error {
		x.create()
		x.create(at("example.org"))
		token, silent := x.legacyToken(), set(gaOptions, fields{"up": false})
		x.must(x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(silent, set(1, "example.org")), token)))
		return x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(silent), token))
	})
}

// hashLength enters a PIN whose hash is one block and a half.
func hashLength(edits ...edit) func(x *trial) error {
	return func(x *trial) error {
		a := x.agree()
		return x.legacy(a, x.pin(), append(edits, set(cpHash, a.encrypt(x, make([]byte, 32))[:24+16*(int(x.protocol())-1)]))...)
	}
}

func (d *drivers) getTokenUsingPIN() {
	ga := usingPIN(ctap2.PermissionGetAssertion, "example.com")
	harmless := withPIN.and(permissions).leavesNoTrace()
	d.agreementRows("upt", harmless.and(mcGaWithPIN), func(x *trial) members { return x.agree().getToken(x, x.pin(), ga) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "pinHashEnc": cpHash, "permissions": cpPermissions,
	})
	d.wrongPINRows("upt", harmless.and(mcGaWithPIN), func(x *trial, entered string) error { return x.legacy(x.agree(), entered, ga) })
	add := func(id string, s setup, permissions ctap2.Permission, rpID string) {
		d.add("upt-"+id, s, func(x *trial) error { return x.legacy(x.agree(), x.pin(), usingPIN(permissions, rpID)) })
	}
	d.permissionRows(harmless, add)
	for name, lacking := range map[string]struct {
		permission ctap2.Permission
		conds      []condition
	}{
		"cm":   {ctap2.PermissionCredentialManagement, []condition{lacks(ctap2.OptionCredentialManagement)}},
		"be":   {ctap2.PermissionBioEnrollment, []condition{absent(ctap2.OptionBioEnroll)}},
		"lbw":  {ctap2.PermissionLargeBlobWrite, []condition{lacks(ctap2.OptionLargeBlobs)}},
		"acfg": {ctap2.PermissionAuthenticatorConfig, []condition{lacks(ctap2.OptionAuthenticatorConfig)}},
		"pcmr": {ctap2.PermissionPersistentCredentialManagement, []condition{lacks(ctap2.OptionPersistentCredMgmtRO), from23}},
	} {
		add("no-"+name, harmless.and(lacking.conds...), lacking.permission, "")
	}
	add("unsupported", withPIN.and(noPermissions, from21).leavesNoTrace(), ctap2.PermissionGetAssertion, "example.com")
	add("nomcga-mc", harmless.and(noMcGa), ctap2.PermissionMakeCredential, "example.com")
	add("nomcga-ga", harmless.and(noMcGa), ctap2.PermissionGetAssertion, "example.com")
	add("unknown", harmless.and(mcGaWithPIN), ctap2.PermissionGetAssertion|0x80, "example.com")
	add("cm-no-rp", harmless.and(credMgmt), ctap2.PermissionCredentialManagement, "")
	forced := func(id string, s setup, enter func(x *trial) string) {
		d.add("upt-"+id, s.and(permissions, mcGaWithPIN, setsMinPINLength), func(x *trial) error {
			x.forcePINChange()
			return x.legacy(x.agree(), enter(x), ga)
		})
	}
	forced("forced", withPIN, (*trial).pin)
	forced("forced-wrong", withPIN.spends(1), (*trial).wrongPIN)
	d.add("upt-hash-length", harmless.and(mcGaWithPIN).spends(1), hashLength(ga))
}

// permissionRows adds the rows of permissions that the two subcommands share.
func (d *drivers) permissionRows(s setup, add func(id string, s setup, permissions ctap2.Permission, rpID string)) {
	add("missing-rpId-mc", s, ctap2.PermissionMakeCredential, "")
	add("missing-rpId-ga", s, ctap2.PermissionGetAssertion, "")
	add("zero", s, 0, "example.com")
	add("pcmr-and-cm", s.and(persistentRead, credMgmt),
		ctap2.PermissionPersistentCredentialManagement|ctap2.PermissionCredentialManagement, "")
}

func (d *drivers) getTokenUsingUV() {
	ga := usingUV(ctap2.PermissionGetAssertion, "example.com")
	harmless := withFinger.and(permissions).leavesNoTrace()
	d.agreementRows("uvt", harmless, func(x *trial) members { return x.agree().getToken(x, "", ga) }, map[string]int{
		"pinUvAuthProtocol": cpProtocol, "keyAgreement": cpKeyAgreement, "permissions": cpPermissions,
	})
	add := func(id string, s setup, permissions ctap2.Permission, rpID string) {
		d.add("uvt-"+id, s, func(x *trial) error { return x.legacy(x.agree(), "", usingUV(permissions, rpID)) })
	}
	d.permissionRows(harmless, add)
	add("good", harmless, ctap2.PermissionGetAssertion, "example.com")
	add("unsupported", withPIN.and(noBuiltInUV, from21).leavesNoTrace(), ctap2.PermissionGetAssertion, "example.com")
	add("unconfigured", withPIN.and(builtInUV, lacks(ctap2.OptionUserVerification), permissions).leavesNoTrace(),
		ctap2.PermissionGetAssertion, "example.com")
	add("nomcga", harmless.and(noMcGa), ctap2.PermissionMakeCredential, "example.com")
	d.add("uvt-forced", withFinger.and(permissions, setsMinPINLength), func(x *trial) error {
		x.forcePINChange()
		return x.legacy(x.agree(), "", ga)
	})
	for name, lacking := range map[string]struct {
		permission ctap2.Permission
		conds      []condition
	}{
		"cm":   {ctap2.PermissionCredentialManagement, []condition{lacks(ctap2.OptionCredentialManagement)}},
		"be":   {ctap2.PermissionBioEnrollment, []condition{lacks(ctap2.OptionUVBioEnroll)}},
		"lbw":  {ctap2.PermissionLargeBlobWrite, []condition{lacks(ctap2.OptionLargeBlobs)}},
		"acfg": {ctap2.PermissionAuthenticatorConfig, []condition{lacks(ctap2.OptionUVAuthenticatorConfig)}},
		"pcmr": {ctap2.PermissionPersistentCredentialManagement, []condition{lacks(ctap2.OptionPersistentCredMgmtRO), from23}},
	} {
		add("no-"+name, harmless.and(lacking.conds...), lacking.permission, "")
	}
	run := func(id string, s setup, prepare func(x *trial)) {
		d.add("uvt-"+id, s, func(x *trial) error {
			prepare(x)
			return x.legacy(x.agree(), "", ga)
		})
	}
	base := withFinger.and(permissions)
	mistaken := base.person(WrongFinger)
	run("wrong", mistaken, func(x *trial) { x.person(WrongFinger) })
	run("last", mistaken, func(x *trial) { x.loseUV(1) })
	run("blocked", mistaken, (*trial).blockUV)
	run("blocked-power-cycle", mistaken.powerCycle(), func(x *trial) {
		x.blockUV()
		x.powerCycle()
	})
	run("blocked-pin", mistaken, func(x *trial) {
		x.blockUV()
		x.must(x.legacy(x.agree(), x.pin()))
	})
	run("pin-blocked", base.spends(ctap.PINMaxRetries).powerCycle(), func(x *trial) { x.mistypeUntil(0) })
	run("timeout", base.person(NoTouch).waits(timeout), func(x *trial) { x.person(NoTouch) })
	d.add("uvt-cancelled", base.person(NoTouch), func(x *trial) error {
		m := x.agree().getToken(x, "", ga)
		x.cancel()
		return x.clientPIN(m)
	})
}

// loseUV shows the wrong finger until that many tries are left. It is what the
// person goes on to show.
func (x *trial) loseUV(left int) {
	x.person(WrongFinger)
	for {
		retries := x.uvTries()
		if retries <= left {
			return
		}
		if x.legacy(x.agree(), "", usingUV(ctap2.PermissionGetAssertion, "example.com")) == nil {
			x.fatalf("the wrong finger is right")
		}
		if after := x.uvTries(); after >= retries {
			x.fatalf("a wrong finger leaves %d of %d tries", after, retries)
		}
	}
}

// blockUV blocks built-in user verification; the person has the right finger
// again afterwards.
func (x *trial) blockUV() {
	x.loseUV(0)
	x.person(Touch)
}

// Members of the answer to clientPIN.
const cpRetries, cpPowerCycle, cpUVRetries = 3, 4, 5

// retries is the answer to getPINRetries.
func (x *trial) retries() (members, error) {
	return x.ask(ctap.CmdClientPIN, members{cpProtocol: x.prefers, cpSubcommand: ctap.PINGetRetries})
}

// tries is how many of the PIN are left.
func (x *trial) tries() int { return x.counter(ctap.PINGetRetries, cpRetries) }

// uvTries is how many of built-in user verification are left.
func (x *trial) uvTries() int { return x.counter(ctap.PINGetUVRetries, cpUVRetries) }

func (x *trial) counter(subcommand, member int) int {
	answer, err := x.ask(ctap.CmdClientPIN, members{cpProtocol: x.prefers, cpSubcommand: subcommand})
	x.must(err)
	n, ok := answer[member].(uint64)
	if !ok || n > 255 {
		x.fatalf("the answer has no member %d that is a small number: %v", member, answer)
	}
	return int(n)
}
