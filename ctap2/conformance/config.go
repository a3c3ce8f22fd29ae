package conformance

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// configures is the ability to carry out a subcommand of authenticatorConfig: by
// authenticatorConfigCommands, or, where that is not said, by the option of it.
func configures(number uint64, name string) condition {
	return condition{"authenticatorConfig has no " + name, func(info *ctap2.Info) bool {
		if info.AuthenticatorConfigCommands != nil {
			return slices.Contains(info.AuthenticatorConfigCommands, number)
		}
		switch number {
		case ctap.ConfigEnableEnterpriseAttestation:
			return option(ctap2.OptionEnterpriseAttestation).holds(info)
		case ctap.ConfigToggleAlwaysUV:
			return togglesAlways.holds(info)
		case ctap.ConfigVendorPrototype:
			return len(info.VendorPrototypeConfigCommands) > 0
		}
		return false
	}}
}

var (
	enablesEA    = configures(ctap.ConfigEnableEnterpriseAttestation, "enableEnterpriseAttestation")
	toggles      = configures(ctap.ConfigToggleAlwaysUV, "toggleAlwaysUv")
	enablesLong  = configures(ctap.ConfigEnableLongTouchForReset, "enableLongTouchForReset")
	vendorConfig = configures(ctap.ConfigVendorPrototype, "vendorPrototype")

	setsPolicy = condition{"has no pinComplexityPolicy that can be put in force", func(info *ctap2.Info) bool {
		return info.PINComplexityPolicy != nil && !*info.PINComplexityPolicy && setsMinPINLength.holds(info)
	}}
	tellsRPs = condition{"has no extension for minPinLengthRPIDs", func(info *ctap2.Info) bool {
		return extension("minPinLength").holds(info) || extension("pinComplexityPolicy").holds(info)
	}}
	// The request must fit into a message.
	fewRPs = condition{"takes more minPinLengthRPIDs than fit into a message", func(info *ctap2.Info) bool {
		return info.MaxRPIDsForSetMinPINLength <= 32
	}}
	// The run has to know a PIN that is longer.
	raises = condition{"has no room for a longer PIN", func(info *ctap2.Info) bool {
		return len(digits(thePIN, info)) < min(maxPINLength(info), ctap.PINMaxBytes)
	}}
)

func maxPINLength(info *ctap2.Info) int { return cmp.Or(info.MaxPINLength, ctap.PINDefaultMaxLength) }

func cfgGate(can condition, number int, params func(x *trial) members) gate {
	return gate{
		command: ctap.CmdConfig, param: subParam, protocol: subProtocol,
		request: func(x *trial) members {
			if params == nil {
				return subcommand(number, nil)
			}
			return subcommand(number, params(x))
		},
		message: func(m members) []byte {
			return slices.Concat(bytes.Repeat([]byte{0xFF}, 32), []byte{ctap.CmdConfig}, sub(m, subCommand))
		},
		permission: ctap2.PermissionAuthenticatorConfig, other: ctap2.PermissionCredentialManagement,
		setup: withPIN.and(authnrCfg, can),
	}
}

var (
	cfgEA     = cfgGate(enablesEA, ctap.ConfigEnableEnterpriseAttestation, nil)
	cfgAlways = cfgGate(toggles, ctap.ConfigToggleAlwaysUV, nil)
	cfgMin    = cfgGate(setsMinPINLength, ctap.ConfigSetMinPINLength, func(x *trial) members { return members{1: len(x.pin())} })
	cfgLong   = cfgGate(enablesLong, ctap.ConfigEnableLongTouchForReset, nil)
	// Nobody knows what the commands do that it has.
	cfgVendor = cfgGate(vendorConfig, ctap.ConfigVendorPrototype, func(x *trial) members { return members{1: x.notVendors()} })
)

// setMin is setMinPINLength, which must succeed.
func (x *trial) setMin(params members) {
	x.must(cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, params)))
}

// notVendors is a vendorCommandId that the authenticator does not have.
func (x *trial) notVendors() uint64 {
	for {
		id := binary.BigEndian.Uint64(random(8))
		if !slices.Contains(x.info.VendorPrototypeConfigCommands, id) {
			return id
		}
	}
}

// trivialPIN breaks every policy that there is on how complex a PIN must be.
func trivialPIN(x *trial) string { return strings.Repeat("7", len(x.pin())) }

func (d *drivers) config() {
	harmless := plain.and(authnrCfg).inAnyState().leavesNoTrace()
	d.malformed("cfg", harmless, ctap.CmdConfig)
	d.wrongTypes("cfg", cfgMin, map[string]edit{
		"subCommand":          set(subCommand, "setMinPINLength"),
		"subCommandParams":    set(subParams, []any{}),
		"pinUvAuthProtocol":   set(subProtocol, "two"),
		"pinUvAuthParam":      set(subParam, "param"),
		"newMinPINLength":     param(subParams, 1, "6"),
		"minPinLengthRPIDs":   param(subParams, 2, "example.com"),
		"rpid":                param(subParams, 2, []any{[]byte("example.com")}),
		"forceChangePin":      param(subParams, 3, 1),
		"pinComplexityPolicy": param(subParams, 4, 1),
	})
	bare := func(id string, s setup, m members) {
		d.add(id, s, func(x *trial) error { return x.command(ctap.CmdConfig, m) })
	}
	unprotected := func(id string, g gate, s setup) {
		s.conds = slices.Clone(g.setup.conds)
		d.add(id, s, func(x *trial) error { return x.command(ctap.CmdConfig, g.request(x)) })
	}
	toggle := subcommand(ctap.ConfigToggleAlwaysUV, nil)
	// A subcommand would be carried out by one that has it, and does not say so.
	bare("cfg-unsupported", plain.and(not(authnrCfg, "has authnrCfg"), from21).inAnyState().leavesNoTrace(), subcommand(5, nil))
	bare("cfg-missing-subCommand", harmless, members{})
	bare("cfg-unknown-subcommand", harmless, subcommand(5, nil))
	for prefix, g := range map[string]gate{"cfg-ea": cfgEA, "cfg-always": cfgAlways, "cfg-min": cfgMin, "cfg-long": cfgLong} {
		d.gated(prefix, g)
		unprotected(prefix+"-unprotected", g, plain)
	}
	both := cfgLong
	both.setup = both.setup.and(toggles)
	d.changeAfter("cfg-param-of-sub", both, set(subCommand, ctap.ConfigToggleAlwaysUV))
	d.alone("cfg-min", cfgMin)
	d.add("cfg-min-param-of-other", cfgMin.setup, func(x *trial) error {
		m := cfgMin.good(x)
		param(subParams, 1, len(x.pin())+1)(m)
		return x.command(ctap.CmdConfig, m)
	})
	bare("cfg-ea-unsupported", plain.and(authnrCfg, not(enablesEA, enablesEA.not), absent(ctap2.OptionEnterpriseAttestation)),
		subcommand(ctap.ConfigEnableEnterpriseAttestation, nil))
	d.add("cfg-ea-again", cfgEA.setup, func(x *trial) error {
		x.must(cfgEA.signed(x, cfgEA.request(x)))
		return cfgEA.signed(x, cfgEA.request(x))
	})
	// Nothing but an attempt tells whether alwaysUv can be turned off, where the
	// authenticator comes with it.
	off := func(id string, only bool) {
		d.add(id, plain.alwaysUV().and(authnrCfg, toggles), func(x *trial) error {
			err := x.command(ctap.CmdConfig, toggle)
			if name, _ := statusOf(err); x.h.factory.alwaysUV && !only && name == "OPERATION_DENIED" {
				x.skip("alwaysUv cannot be turned off")
			}
			if only && (!x.h.factory.alwaysUV || err == nil) {
				x.skip("alwaysUv can be turned off")
			}
			return err
		})
	}
	off("cfg-always-only", true)
	off("cfg-always-off-unprotected", false)
	bare("cfg-always-unsupported", plain.and(authnrCfg, not(toggles, "has toggleAlwaysUv"), absent(ctap2.OptionAlwaysUV)), toggle)
	unprotected("cfg-always-off-no-param", cfgAlways, withPIN.alwaysUV())
	unprotected("cfg-min-alwaysuv", cfgMin, plain.alwaysUV())

	minimum := func(id string, s setup, params func(x *trial) members) {
		d.add("cfg-min-"+id, s, func(x *trial) error {
			return cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, params(x)))
		})
	}
	s := cfgMin.setup
	d.add("cfg-min-less", s, func(x *trial) error {
		x.setMin(members{1: len(x.pin())})
		return cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, members{1: len(x.pin()) - 1}))
	})
	d.add("cfg-min-same", s, func(x *trial) error {
		x.setMin(members{1: len(x.pin())})
		return cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, members{1: len(x.pin())}))
	})
	minimum("more-than-max", s, func(x *trial) members { return members{1: maxPINLength(x.info) + 1} })
	minimum("nothing", s, func(*trial) members { return nil })
	bare("cfg-min-force-no-pin", plain.and(authnrCfg, setsMinPINLength), subcommand(ctap.ConfigSetMinPINLength, members{3: true}))
	minimum("rpids-too-many", s.and(tellsRPs, fewRPs), func(x *trial) members {
		var ids []string
		for i := range x.info.MaxRPIDsForSetMinPINLength + 1 {
			ids = append(ids, string(rune('a'+i%26))+string(rune('a'+i/26))+".example")
		}
		return members{2: ids}
	})
	minimum("rpids-unsupported", s.and(noExtension("minPinLength"), noExtension("pinComplexityPolicy")), func(*trial) members {
		return members{2: []string{"example.com"}}
	})
	after := func(id string, s setup, params func(x *trial) members) {
		d.add("cfg-min-"+id, s.and(mcGaWithPIN), func(x *trial) error {
			x.setMin(params(x))
			return x.legacy(x.agree(), x.pin(), usingPIN(ctap2.PermissionGetAssertion, "example.com"))
		})
	}
	after("force", s, func(*trial) members { return members{3: true} })
	after("raised", s.and(raises), func(x *trial) members { return members{1: len(x.pin()) + 1} })
	after("raised-enough", s, func(x *trial) members { return members{1: len(x.pin())} })
	after("complexity-enough", s.and(setsPolicy), func(*trial) members { return members{4: true} })
	d.add("cfg-min-complexity", plain.and(authnrCfg, setsPolicy, mcGaWithPIN), func(x *trial) error {
		entered := trivialPIN(x)
		x.must(x.allowed(x.trySetPIN(entered)))
		x.held[cfgMin.permission] = x.tokenOf(entered, cfgMin.permission)
		x.setMin(members{4: true})
		return x.legacy(x.agree(), entered, usingPIN(ctap2.PermissionGetAssertion, "example.com"))
	})
	unlisted := condition{"may have enableLongTouchForReset", func(info *ctap2.Info) bool {
		return !enablesLong.holds(info) && (info.AuthenticatorConfigCommands != nil || !from23.holds(info))
	}}
	bare("cfg-long-unsupported", plain.and(authnrCfg, unlisted), subcommand(ctap.ConfigEnableLongTouchForReset, nil))
	d.add("cfg-vendor-unsupported", plain.and(authnrCfg, not(vendorConfig, "has vendorPrototype")).inAnyState().leavesNoTrace(), func(x *trial) error {
		return x.command(ctap.CmdConfig, cfgVendor.request(x))
	})
	d.add("cfg-vendor-unknown", cfgVendor.setup, func(x *trial) error { return cfgVendor.signed(x, cfgVendor.request(x)) })
	d.change("cfg-vendor-missing-vendorCommandId", cfgVendor, set(subParams, members{}))
	d.configured()
	d.configuredPIN()
	d.configuredReset()
}

// tokenOf is a token for a PIN that is not that of the run.
func (x *trial) tokenOf(entered string, permissions ctap2.Permission) *ctap2.Token {
	a := x.agree()
	reply, err := x.key.Command(x.ctx, ctap.CmdClientPIN, x.encoded(a.getToken(x, entered, usingPIN(permissions, ""))))
	x.must(err)
	var answer struct {
		Token []byte `cbor:"2,keyasint"`
	}
	x.must(cbor.Unmarshal(reply, &answer))
	token, err := a.secret.Decrypt(answer.Token)
	x.must(err)
	return ctap2.NewToken(a.secret.Protocol(), pin.NewSecret(token), permissions, "")
}

// configured adds what getInfo says of what was configured.
func (d *drivers) configured() {
	d.require("cfg-commands", plain.and(authnrCfg, from23).inAnyState().leavesNoTrace(), func(x *trial) {
		commands := x.info.AuthenticatorConfigCommands
		if commands == nil {
			x.skip("getInfo has no authenticatorConfigCommands")
		}
		for number, c := range map[uint64]struct {
			name string
			said bool
		}{
			ctap.ConfigEnableEnterpriseAttestation: {"ep", option(ctap2.OptionEnterpriseAttestation).holds(x.info)},
			ctap.ConfigSetMinPINLength:             {"setMinPINLength", x.info.Options[ctap2.OptionSetMinPINLength]},
			ctap.ConfigVendorPrototype:             {"vendorPrototypeConfigCommands", len(x.info.VendorPrototypeConfigCommands) > 0},
		} {
			if slices.Contains(commands, number) != c.said {
				x.errorf("authenticatorConfigCommands and %s disagree on 0x%02X", c.name, number)
			}
		}
		if slices.Contains(commands, ctap.ConfigToggleAlwaysUV) && !togglesAlways.holds(x.info) {
			x.errorf("authenticatorConfigCommands has toggleAlwaysUv, and option alwaysUv is absent")
		}
		sorted := slices.Sorted(slices.Values(commands))
		if len(slices.Compact(sorted)) != len(x.info.AuthenticatorConfigCommands) {
			x.errorf("authenticatorConfigCommands has a subcommand twice")
		}
	})
	d.require("cfg-absent", plain.and(from21, not(authnrCfg, "has authnrCfg")).inAnyState().leavesNoTrace(), func(x *trial) {
		if len(x.info.AuthenticatorConfigCommands) > 0 || x.info.Options[ctap2.OptionSetMinPINLength] || x.info.Options[ctap2.OptionUVAuthenticatorConfig] {
			x.errorf("authnrCfg is not true, and getInfo has what belongs to it")
		}
	})
	always := func(x *trial, want bool) {
		info := x.fresh()
		if got, ok := info.Options[ctap2.OptionAlwaysUV]; !ok || got != want {
			x.errorf("option alwaysUv is not %t", want)
		}
		if want && info.Options[ctap2.OptionMakeCredUVNotRequired] {
			x.errorf("option makeCredUvNotRqd is true besides alwaysUv")
		}
	}
	d.require("cfg-always-twice", cfgAlways.setup, func(x *trial) {
		before := x.info.Options[ctap2.OptionMakeCredUVNotRequired]
		for _, want := range []bool{true, false} {
			x.must(cfgAlways.signed(x, cfgAlways.request(x)))
			always(x, want)
		}
		if x.fresh().Options[ctap2.OptionMakeCredUVNotRequired] != before {
			x.errorf("option makeCredUvNotRqd is not what it was before")
		}
	})
	d.require("cfg-always-power-cycle", cfgAlways.setup.powerCycle(), func(x *trial) {
		x.must(cfgAlways.signed(x, cfgAlways.request(x)))
		x.powerCycle()
		always(x, true)
	})
	d.require("cfg-always-reset", cfgAlways.setup.powerCycle(), func(x *trial) {
		x.must(cfgAlways.signed(x, cfgAlways.request(x)))
		x.reset()
		always(x, x.h.factory.alwaysUV)
	})
	d.require("cfg-always-no-param-keeps", withPIN.alwaysUV().and(authnrCfg, toggles), func(x *trial) {
		if x.command(ctap.CmdConfig, cfgAlways.request(x)) == nil {
			x.errorf("toggled without pinUvAuthParam")
		}
		always(x, true)
	})
	d.require("cfg-always-u2f", plain.alwaysUV().and(toggles, noBuiltInUV), func(x *trial) {
		if u2fSpoken.holds(x.fresh()) {
			x.errorf("versions has U2F_V2 besides alwaysUv")
		}
	})
	ep := func(x *trial, want bool) {
		if got, ok := x.fresh().Options[ctap2.OptionEnterpriseAttestation]; !ok || got != want {
			x.errorf("option ep is not %t", want)
		}
	}
	d.require("cfg-ea-shown", cfgEA.setup, func(x *trial) {
		ep(x, false)
		for range 2 {
			x.must(cfgEA.signed(x, cfgEA.request(x)))
			ep(x, true)
		}
	})
	d.require("cfg-ea-power-cycle", cfgEA.setup.powerCycle(), func(x *trial) {
		x.must(cfgEA.signed(x, cfgEA.request(x)))
		x.powerCycle()
		ep(x, true)
	})
	d.require("cfg-ea-reset", cfgEA.setup.powerCycle(), func(x *trial) {
		x.must(cfgEA.signed(x, cfgEA.request(x)))
		x.reset()
		ep(x, false)
	})
	d.require("cfg-ea-no-param-keeps", cfgEA.setup, func(x *trial) {
		if x.command(ctap.CmdConfig, cfgEA.request(x)) == nil {
			x.errorf("enabled without pinUvAuthParam")
		}
		ep(x, false)
	})
	d.require("cfg-vendor-listed", plain.and(authnrCfg, vendorConfig).inAnyState().leavesNoTrace(), func(x *trial) {
		ids := slices.Clone(x.info.VendorPrototypeConfigCommands)
		slices.Sort(ids)
		if len(ids) == 0 || len(slices.Compact(ids)) != len(x.info.VendorPrototypeConfigCommands) {
			x.errorf("vendorPrototypeConfigCommands is empty, or has an ID twice")
		}
	})
}

// wantMin compares minPINLength.
func (x *trial) wantMin(want int) {
	if got := cmp.Or(x.fresh().MinPINLength, ctap.PINDefaultMinLength); got != want {
		x.errorf("minPINLength is %d, must be %d", got, want)
	}
}

// wantForced compares forcePINChange.
func (x *trial) wantForced(want bool) {
	if x.fresh().ForcePINChange != want {
		x.errorf("forcePINChange is not %t", want)
	}
}

// longerPIN is one digit longer than the PIN.
func (x *trial) longerPIN() string { return x.pin() + "9" }

// configuredPIN adds what setMinPINLength does.
func (d *drivers) configuredPIN() {
	s := cfgMin.setup
	raising := s.and(raises)
	d.require("cfg-min-shown", s, func(x *trial) {
		x.setMin(members{1: len(x.pin())})
		x.wantMin(len(x.pin()))
		x.wantForced(false)
	})
	d.require("cfg-min-keeps", s, func(x *trial) {
		x.setMin(members{1: len(x.pin())})
		if cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, members{1: len(x.pin()) - 1})) == nil {
			x.errorf("minPINLength is lowered")
		}
		x.wantMin(len(x.pin()))
	})
	d.require("cfg-min-power-cycle", raising.powerCycle(), func(x *trial) {
		x.setMin(members{1: len(x.pin()) + 1})
		x.powerCycle()
		x.wantMin(len(x.pin()) + 1)
		x.wantForced(true)
	})
	d.require("cfg-min-reset", raising.powerCycle(), func(x *trial) {
		x.setMin(members{1: len(x.pin()) + 1})
		x.reset()
		x.wantMin(cmp.Or(x.info.MinPINLength, ctap.PINDefaultMinLength))
		x.wantForced(false)
	})
	d.require("cfg-min-no-param-keeps", raising, func(x *trial) {
		before := cmp.Or(x.info.MinPINLength, ctap.PINDefaultMinLength)
		if x.command(ctap.CmdConfig, subcommand(ctap.ConfigSetMinPINLength, members{1: len(x.pin()) + 1})) == nil {
			x.errorf("minPINLength is set without pinUvAuthParam")
		}
		x.wantMin(before)
	})
	d.require("cfg-min-set-pin", plain.and(authnrCfg, setsMinPINLength, raises), func(x *trial) {
		least := len(x.pin()) + 1
		x.must(x.command(ctap.CmdConfig, subcommand(ctap.ConfigSetMinPINLength, members{1: least})))
		x.wantMin(least)
		if x.trySetPIN(x.pin()) == nil {
			x.errorf("setPIN takes a PIN that is too short")
		}
		x.must(x.trySetPIN(x.longerPIN()))
	})
	d.require("cfg-min-raised-change", raising, func(x *trial) {
		x.setMin(members{1: len(x.pin()) + 1})
		x.wantForced(true)
		if x.tryChangePIN(x.pin(), x.otherPIN()) == nil {
			x.errorf("changePIN takes a PIN that is too short")
		}
		x.wantForced(true)
		x.must(x.tryChangePIN(x.pin(), x.longerPIN()))
		x.wantForced(false)
		x.tokenOf(x.longerPIN(), cfgMin.permission)
	})
	d.require("cfg-min-forced-change", s, func(x *trial) {
		x.setMin(members{3: true})
		x.wantForced(true)
		if x.tryChangePIN(x.pin(), x.pin()) == nil {
			x.errorf("the PIN that must be changed is set again")
		}
		x.wantForced(true)
		x.must(x.tryChangePIN(x.pin(), x.otherPIN()))
		x.wantForced(false)
		x.tokenOf(x.otherPIN(), cfgMin.permission)
	})
	d.require("cfg-min-forced-power-cycle", s.powerCycle(), func(x *trial) {
		x.setMin(members{3: true})
		x.powerCycle()
		x.wantForced(true)
	})
	d.require("cfg-min-not-forced", s, func(x *trial) {
		x.setMin(members{1: len(x.pin()), 3: false})
		x.wantForced(false)
		x.tokenOf(x.pin(), cfgMin.permission)
	})
	d.require("cfg-min-policy-shown", s.and(setsPolicy), func(x *trial) {
		x.setMin(members{4: true})
		policy := func() {
			if p := x.fresh().PINComplexityPolicy; p == nil || !*p {
				x.errorf("pinComplexityPolicy is not true")
			}
		}
		policy()
		x.setMin(members{4: false})
		policy()
		if x.tryChangePIN(x.pin(), trivialPIN(x)) == nil {
			x.errorf("changePIN takes a PIN of one digit over and over")
		}
	})
	d.require("cfg-min-policy-reset", s.and(setsPolicy).powerCycle(), func(x *trial) {
		x.setMin(members{4: true})
		x.reset()
		if p := x.fresh().PINComplexityPolicy; p == nil || *p {
			x.errorf("pinComplexityPolicy is not false after a reset")
		}
	})
	told := s.and(extension("minPinLength"), mcGaWithPIN, listsRPIDs)
	// tells compares the output of minPinLength for a relying party; 0: there is
	// none.
	tells := func(x *trial, rpID string, want int) {
		made := x.register(at(rpID), notResident, withExtension(ctap2.MinPINLength()))
		got, err := ctap2.Output[ctap2.MinPINLengthOutput](made.Extensions)
		if want == 0 && err == nil || want != 0 && (err != nil || int(got) != want) {
			x.errorf("the output of minPinLength for %s is %d (%v), must be %d", rpID, got, err, want)
		}
	}
	d.require("cfg-min-rpids-told", told, func(x *trial) {
		x.setMin(members{1: len(x.pin()), 2: []string{"example.com"}})
		tells(x, "example.com", len(x.pin()))
		tells(x, "example.org", 0)
	})
	d.require("cfg-min-rpids-replaced", told, func(x *trial) {
		least := cmp.Or(x.info.MinPINLength, ctap.PINDefaultMinLength)
		x.setMin(members{2: []string{"example.com"}})
		x.setMin(members{2: []string{"example.org"}})
		tells(x, "example.com", 0)
		tells(x, "example.org", least)
	})
	d.require("cfg-min-rpids-kept", told.powerCycle(), func(x *trial) {
		x.setMin(members{2: []string{"example.com"}})
		x.setMin(members{1: len(x.pin())})
		x.powerCycle()
		tells(x, "example.com", len(x.pin()))
	})
	d.require("cfg-min-rpids-reset", told.powerCycle(), func(x *trial) {
		x.setMin(members{2: []string{"example.com"}})
		x.reset()
		x.must(x.trySetPIN(x.pin())) // it may be in need of one
		tells(x, "example.com", 0)
	})
}

// trySetPIN is setPIN with whatever PIN.
func (x *trial) trySetPIN(entered string) error {
	a := x.agree()
	return x.clientPIN(a.setPIN(a.encrypt(x, padded(entered))))
}

// tryChangePIN is changePIN with whatever PINs.
func (x *trial) tryChangePIN(from, to string) error {
	a := x.agree()
	return x.clientPIN(a.changePIN(a.encrypt(x, padded(to)), a.hash(x, from)))
}

// configuredReset adds what enableLongTouchForReset does.
func (d *drivers) configuredReset() {
	s := cfgLong.setup
	long := func(x *trial, want bool) {
		if x.fresh().LongTouchForReset != want {
			x.errorf("longTouchForReset is not %t", want)
		}
	}
	d.require("cfg-long-shown", s, func(x *trial) {
		x.must(cfgLong.signed(x, cfgLong.request(x)))
		long(x, true)
	})
	d.require("cfg-long-power-cycle", s.powerCycle(), func(x *trial) {
		x.must(cfgLong.signed(x, cfgLong.request(x)))
		x.powerCycle()
		long(x, true)
	})
	d.require("cfg-long-reset", s.and(mcGaWithPIN).powerCycle().person(LongTouch), func(x *trial) {
		credential := x.create(notResident)
		x.must(cfgLong.signed(x, cfgLong.request(x)))
		x.powerCycle()
		// A touch, and no more.
		if x.raw(ctap.CmdReset, nil) == nil {
			x.fatalf("a short touch resets")
		}
		if x.ga(set(gaAllowList, list(credential)), set(gaOptions, fields{"up": false})) != nil {
			x.errorf("the credential is gone")
		}
		x.reset()
		long(x, x.info.LongTouchForReset)
	})
}
