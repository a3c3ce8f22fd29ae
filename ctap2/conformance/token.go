package conformance

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// onNFC sees whether the messages come over NFC, which has shorter limits.
func (x *trial) onNFC() bool {
	t := &x.h.config.Target
	return t.NFC != nil || t.HID == nil && slices.Equal(x.info.Transports, []string{"nfc"})
}

// Limits of a token (§6.5.2.1), with a second on top. A token that is used every
// keepUsing outlives a rolling timer, which authenticators may have.
const (
	afterInitialUse    = (ctap.InitialTokenUseSecondsUSB + 1) * time.Second
	afterInitialUseNFC = 20 * time.Second
	afterMaxUse        = (ctap.MaxTokenSeconds + 1) * time.Second
	keepUsing          = 15 * time.Second
)

// keep uses a token again and again for so long. It ends the trial if the token does
// not live that long: the maximum may be any that is not above ten minutes.
func (x *trial) keep(d time.Duration, use func() error) {
	for left := d; left > 0; left -= keepUsing {
		err := use()
		if left < d && errors.Is(err, ctap2.ErrPINAuthInvalid) {
			x.skip("a token that is used lives for less than %v", d)
		}
		x.must(err)
		x.sleep(min(left, keepUsing))
	}
}

// expire uses a token again and again until it is too old.
func (x *trial) expire(use func() error) {
	x.keep(ctap.MaxTokenSeconds*time.Second, use)
	x.sleep(time.Second)
}

// tokens adds the rows about the life of a token.
func (d *drivers) tokens() {
	base := withPIN.and(permissions, mcGaWithPIN)
	// silent is a getAssertion that does not spend the token, again and again.
	use := func(id string, s setup, live func(x *trial, silent func() error) error) {
		d.add("tok-"+id, s, func(x *trial) error {
			credential := x.create(notResident)
			token := x.token(ctap2.PermissionGetAssertion, "example.com")
			m := gaGate.sign(gaRequest(set(gaAllowList, list(credential)), gaOption("up", false)), token)
			silent := func() error { return x.command(ctap.CmdGetAssertion, m) }
			if err := live(x, silent); err != nil {
				return err
			}
			return silent()
		})
	}
	use("unused", base.waits(afterInitialUse), func(x *trial, _ func() error) error {
		x.sleep(afterInitialUse)
		return nil
	})
	use("unused-nfc", base.waits(afterInitialUseNFC), func(x *trial, _ func() error) error {
		if !x.onNFC() {
			x.skip("the authenticator is not on NFC")
		}
		x.sleep(afterInitialUseNFC)
		return nil
	})
	use("used", base.waits(9*time.Minute), func(x *trial, silent func() error) error {
		for range 9 * time.Minute / keepUsing {
			if err := silent(); err != nil {
				return err
			}
			x.sleep(keepUsing)
		}
		return nil
	})
	use("old", base.waits(afterMaxUse), func(x *trial, silent func() error) error {
		x.must(silent())
		x.sleep(afterMaxUse)
		return nil
	})
	use("power-cycle", base.powerCycle(), func(x *trial, _ func() error) error {
		x.powerCycle()
		return nil
	})
	use("pin-changed", base, func(x *trial, _ func() error) error {
		x.changePIN()
		return nil
	})

	// both uses one token for an assertion and for another command.
	both := func(id string, s setup, permission ctap2.Permission, run func(x *trial, assertion members, token *ctap2.Token) error) {
		d.add("tok-"+id, s, func(x *trial) error {
			credential := x.create(notResident)
			token := x.token(permission|ctap2.PermissionGetAssertion, "example.com")
			return run(x, gaGate.sign(gaRequest(set(gaAllowList, list(credential))), token), token)
		})
	}
	setsMin := base.and(setsMinPINLength)
	const acfg, lbw = ctap2.PermissionAuthenticatorConfig, ctap2.PermissionLargeBlobWrite
	both("config", setsMin, acfg, func(x *trial, assertion members, token *ctap2.Token) error {
		same := &ctap2.SetMinPINLengthRequest{NewMinPINLength: x.info.MinPINLength, Token: token}
		x.must(x.key.SetMinPINLength(x.ctx, same))
		return x.command(ctap.CmdGetAssertion, assertion)
	})
	both("forced", setsMin, acfg, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.key.SetMinPINLength(x.ctx, &ctap2.SetMinPINLengthRequest{ForceChangePIN: true, Token: token}))
		return x.command(ctap.CmdGetAssertion, assertion)
	})
	both("touch-acfg", base.and(togglesAlways, authnrCfg, userPresence), acfg, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.command(ctap.CmdGetAssertion, assertion))
		return x.key.ToggleAlwaysUV(x.ctx, token)
	})
	both("touch-lbw", base.and(largeBlobs, userPresence), lbw, func(x *trial, assertion members, token *ctap2.Token) error {
		x.must(x.command(ctap.CmdGetAssertion, assertion))
		return x.writeEmptyArray(token)
	})
}

// tokenAnswers adds the requirements on the tokens themselves.
func (d *drivers) tokenAnswers() {
	harmless := withPIN.and(mcGaWithPIN).leavesNoTrace()
	d.add("token-length", harmless.and(from21), func(x *trial) error {
		a := x.agree()
		token, err := a.secret.Decrypt(x.encryptedToken(a))
		x.must(err)
		defer clear(token)
		if n := len(token); n != 32 && (n != 16 || x.protocol() != pin.One) {
			x.errorf("a token of %d bytes", n)
		}
		return nil
	})
	d.add("token-differs", harmless.and(from21), func(x *trial) error {
		a := x.agree()
		one, err := a.secret.Decrypt(x.encryptedToken(a))
		x.must(err)
		defer clear(one)
		other, err := a.secret.Decrypt(x.encryptedToken(a))
		x.must(err)
		defer clear(other)
		if bytes.Equal(one, other) {
			x.errorf("the same token twice")
		}
		return nil
	})
	d.add("token-iv", harmless.and(protocolTwo), func(x *trial) error {
		a := x.agreeBy(pin.Two)
		one, other := x.encryptedToken(a), x.encryptedToken(a)
		if len(one) < 16 || len(other) < 16 || bytes.Equal(one[:16], other[:16]) {
			x.errorf("the IVs are %.16x and %.16x", one, other)
		}
		return nil
	})

	base := withPIN.and(permissions, mcGaWithPIN)
	refused := func(x *trial, err error, what string) {
		if !errors.Is(err, ctap2.ErrPINAuthInvalid) {
			x.errorf("%s is answered with %v, must be PIN_AUTH_INVALID", what, err)
		}
	}
	// silently asserts with a token, which does not spend it, again and again.
	silently := func(x *trial, run func(use func(*ctap2.Token) error)) {
		credential := x.create(notResident)
		run(func(token *ctap2.Token) error {
			return x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(set(gaAllowList, list(credential)), gaOption("up", false)), token))
		})
	}
	d.add("token-replaced", base, func(x *trial) error {
		silently(x, func(use func(*ctap2.Token) error) {
			old := x.token(ctap2.PermissionGetAssertion, "example.com")
			x.must(use(old))
			x.must(use(x.token(ctap2.PermissionGetAssertion, "example.com")))
			refused(x, use(old), "a token that was replaced")
		})
		return nil
	})
	d.add("token-replaced-legacy", base, func(x *trial) error {
		silently(x, func(use func(*ctap2.Token) error) {
			old := x.token(ctap2.PermissionGetAssertion, "example.com")
			x.must(x.legacy(x.agree(), x.pin()))
			refused(x, use(old), "a token that getPinToken has replaced")
		})
		return nil
	})
	d.add("token-kept", base.spends(1), func(x *trial) error {
		silently(x, func(use func(*ctap2.Token) error) {
			token := x.token(ctap2.PermissionGetAssertion, "example.com")
			x.mistypeInARow(1)
			x.must(use(token))
		})
		return nil
	})
	d.add("token-spent-mc", base.and(userPresence), func(x *trial) error {
		token := x.token(ctap2.PermissionMakeCredential, "example.com")
		x.must(x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), token)))
		refused(x, x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), token)), "a second credential with one token")
		return nil
	})
	d.add("token-spent-ga", base.and(userPresence), func(x *trial) error {
		credential := x.create(notResident)
		m := gaGate.sign(gaRequest(set(gaAllowList, list(credential))), x.token(ctap2.PermissionGetAssertion, "example.com"))
		x.must(x.command(ctap.CmdGetAssertion, m))
		refused(x, x.command(ctap.CmdGetAssertion, m), "a second touch with one token")
		return nil
	})

	// The person goes away once there is a token: is a touch waited for?
	asked := func(id string, s setup, g gate, token func(x *trial) *ctap2.Token, wants bool) {
		d.add("token-"+id, s.and(userPresence).person(NoTouch).waits(timeout), func(x *trial) error {
			m := g.request(x)
			m = g.sign(m, token(x))
			x.person(NoTouch)
			err := x.command(g.command, m)
			if !wants {
				return err
			}
			if !errors.Is(err, ctap2.ErrUserActionTimeout) && !errors.Is(err, ctap2.ErrOperationDenied) {
				x.errorf("without a touch it is answered with %v", err)
			}
			return nil
		})
	}
	for id, g := range map[string]gate{"touch-pin": gaGate, "touch-pin-mc": mcGate} {
		asked(id, base, g, func(x *trial) *ctap2.Token { return x.pinToken(g.permission, g.rpID) }, true)
	}
	finger := withFinger.and(permissions)
	for id, g := range map[string]gate{"touch-uv": gaGate, "touch-uv-mc": mcGate} {
		asked(id, finger, g, func(x *trial) *ctap2.Token { return x.tokenBy(ctap2.UVMethod, g.permission, g.rpID) }, false)
	}
	asked("touch-uv-late", finger.waits(afterInitialUse+timeout), gaGate, func(x *trial) (token *ctap2.Token) {
		// It is used, and outlives the initial limit. The flag does not.
		silently(x, func(use func(*ctap2.Token) error) {
			token = x.tokenBy(ctap2.UVMethod, gaGate.permission, gaGate.rpID)
			x.keep(afterInitialUse, func() error { return use(token) })
		})
		return token
	}, true)

	d.permissionMatrix(refused)
}

// protocolTwo is an authenticator that has that.
var protocolTwo = condition{"has no PIN/UV auth protocol two", func(info *ctap2.Info) bool {
	return slices.Contains(info.PINUVAuthProtocols, pin.Two)
}}

// encryptedToken is a token as it comes, obtained with the PIN.
func (x *trial) encryptedToken(a agreement) []byte {
	m := a.getToken(x, x.pin())
	if permissions.holds(x.info) {
		usingPIN(ctap2.PermissionGetAssertion, "example.com")(m)
	}
	answer, err := x.ask(ctap.CmdClientPIN, m)
	x.must(err)
	token, _ := answer[2].([]byte)
	return token
}

// A privilege is a command that takes a permission.
type privilege struct {
	name       string
	permission ctap2.Permission
	rpID       string
	needs      condition
	use        func(x *trial, token *ctap2.Token) error
}

var privileges = []privilege{
	{"mc", ctap2.PermissionMakeCredential, "example.com", mcGaWithPIN, func(x *trial, token *ctap2.Token) error {
		return x.command(ctap.CmdMakeCredential, mcGate.sign(mcRequest(), token))
	}},
	{"ga", ctap2.PermissionGetAssertion, "example.com", mcGaWithPIN, func(x *trial, token *ctap2.Token) error {
		return x.command(ctap.CmdGetAssertion, gaGate.sign(gaRequest(), token))
	}},
	{"cm", ctap2.PermissionCredentialManagement, "", credMgmt, func(x *trial, token *ctap2.Token) error {
		return x.command(cmMeta.command, cmMeta.sign(cmMeta.request(x), token))
	}},
	{"be", ctap2.PermissionBioEnrollment, "", bioEnroll, func(x *trial, token *ctap2.Token) error {
		return x.command(bioList.command, bioList.sign(bioRequest(ctap.BioEnumerateEnrollments, nil), token))
	}},
	{"lbw", ctap2.PermissionLargeBlobWrite, "", largeBlobs, (*trial).writeEmptyArray},
	{"acfg", ctap2.PermissionAuthenticatorConfig, "", setsMinPINLength, func(x *trial, token *ctap2.Token) error {
		same := subcommand(ctap.ConfigSetMinPINLength, members{1: x.info.MinPINLength})
		return x.command(cfgMin.command, cfgMin.sign(same, token))
	}},
}

// permissionMatrix adds a requirement for each permission: what it is for it
// opens, and nothing else.
func (d *drivers) permissionMatrix(refused func(x *trial, err error, what string)) {
	for _, own := range privileges {
		d.add("permission-"+own.name, withPIN.and(permissions, own.needs), func(x *trial) error {
			token := x.token(own.permission, own.rpID)
			for _, p := range privileges {
				if p.permission != own.permission && p.needs.holds(x.info) {
					refused(x, p.use(x, token), "what takes permission "+p.name)
				}
			}
			if err := own.use(x, token); errors.Is(err, ctap2.ErrPINAuthInvalid) { // there may be nothing to find
				x.errorf("what takes permission %s is answered with PIN_AUTH_INVALID", own.name)
			}
			return nil
		})
	}
	d.add("permission-pcmr", withPIN.and(permissions, persistentRead), func(x *trial) error {
		token := x.token(ctap2.PermissionPersistentCredentialManagement, "")
		for _, p := range privileges {
			if p.name != "cm" && p.needs.holds(x.info) {
				refused(x, p.use(x, token), "what takes permission "+p.name)
			}
		}
		return nil
	})
}

// changePIN changes the PIN.
func (x *trial) changePIN() {
	x.must(x.key.ChangePIN(x.ctx, pin.FromString(x.pin()), pin.FromString(x.otherPIN())))
}

// writeEmptyArray writes a large-blob array without entries.
func (x *trial) writeEmptyArray(token *ctap2.Token) error {
	return x.command(ctap.CmdLargeBlobs, lbSet.sign(whole(initialBlobs), token))
}
