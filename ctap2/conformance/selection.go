package conformance

import (
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

func (d *drivers) selection() {
	touched := plain.and(from21, userPresence).leavesNoTrace()
	d.asking("sel", touched, func(x *trial) error { return x.raw(ctap.CmdSelection, nil) })
	d.add("sel-20", plain.and(only20).leavesNoTrace(), func(x *trial) error { return x.raw(ctap.CmdSelection, nil) })
}

// asking adds the rows of a command that asks for a touch and nothing else.
func (d *drivers) asking(prefix string, s setup, command func(x *trial) error) {
	d.add(prefix+"-touch", s, command)
	d.add(prefix+"-denied", s.person(Decline), func(x *trial) error {
		x.person(Decline)
		return command(x)
	})
	d.add(prefix+"-timeout", s.person(NoTouch).waits(timeout), func(x *trial) error {
		x.person(NoTouch)
		return command(x)
	})
	d.add(prefix+"-cancelled", s.person(NoTouch), func(x *trial) error {
		x.cancel()
		return command(x)
	})
}

// longTouch is an authenticator with longTouchForReset, or one that can be told
// to have it.
var longTouch = condition{"has no longTouchForReset", func(info *ctap2.Info) bool {
	return info.LongTouchForReset || slices.Contains(info.AuthenticatorConfigCommands, ctap.ConfigEnableLongTouchForReset)
}}

// erase is authenticatorReset as soon as there is power, over a transport that
// takes it.
func (x *trial) erase() error {
	x.restart()
	return x.raw(ctap.CmdReset, nil)
}

// restart takes the power and gives it back. What needs a long touch for a reset
// gets that.
func (x *trial) restart() {
	if over := x.h.config.Target.Over; over != "" && len(x.info.TransportsForReset) > 0 && !slices.Contains(x.info.TransportsForReset, over) {
		x.skip("cannot be reset over %s", over)
	}
	if x.info.LongTouchForReset && x.h.doing == Touch {
		x.person(LongTouch)
	}
	x.powerCycle()
}

func (d *drivers) reset() {
	s := plain.powerCycle()
	touched := s.and(userPresence)
	d.asking("rst", touched, (*trial).erase)

	const late = (ctap.ResetWindowSeconds + 1) * time.Second
	d.add("rst-late", s.waits(late), func(x *trial) error {
		x.restart()
		x.sleep(late)
		return x.raw(ctap.CmdReset, nil)
	})
	d.add("rst-late-power-cycle", s.waits(late), func(x *trial) error {
		x.restart()
		x.sleep(late)
		return x.erase()
	})
	long := func(id string, s setup, g Gesture) {
		d.add(id, s.and(longTouch).person(g), func(x *trial) error {
			if !x.info.LongTouchForReset {
				x.must(x.key.EnableLongTouchForReset(x.ctx, nil))
			}
			x.restart()
			x.person(g)
			return x.raw(ctap.CmdReset, nil)
		})
	}
	long("rst-long-touch", touched, LongTouch)
	long("rst-long-touch-short", touched.waits(timeout), Touch)
	elsewhere := condition{"can be reset over all transports", func(info *ctap2.Info) bool { return len(info.TransportsForReset) > 0 }}
	d.add("rst-transport", s.and(elsewhere), func(x *trial) error {
		over := x.h.config.Target.Over
		if over == "" || slices.Contains(x.info.TransportsForReset, over) {
			x.skip("the transport is one that takes a reset, or is not known")
		}
		x.powerCycle()
		return x.raw(ctap.CmdReset, nil)
	})
	d.add("rst-credentials", s, func(x *trial) error {
		credential := x.create(notResident)
		x.must(x.erase())
		return x.ga(set(gaAllowList, list(credential)), gaOption("up", false))
	})
	d.add("rst-pin", withPIN.powerCycle(), func(x *trial) error {
		was := x.pin()
		x.must(x.erase())
		return x.legacy(x.agree(), was)
	})
}

// resets adds what a reset does and what becomes of one that is refused, and what
// else selection owes.
func (d *drivers) resets() {
	d.require("sel-answer", plain.and(from21, userPresence).leavesNoTrace(), func(x *trial) {
		answer, err := x.key.Command(x.ctx, ctap.CmdSelection, nil)
		x.must(err)
		if len(answer) > 0 {
			x.errorf("answered with %x", answer)
		}
		x.wantOneTouch(0)
	})
	s := plain.powerCycle()
	d.require("rst-touches", s.and(userPresence), func(x *trial) {
		x.restart()
		before := x.touches()
		answer, err := x.key.Command(x.ctx, ctap.CmdReset, nil)
		x.must(err)
		if len(answer) > 0 {
			x.errorf("answered with %x", answer)
		}
		x.wantOneTouch(before)
	})
	d.require("rst-accounts", s.and(residentKeys), func(x *trial) {
		credential := x.create()
		x.must(x.erase())
		x.wantUnknown(credential)
		if got, _ := statusOf(x.ga(gaOption("up", false))); got != "NO_CREDENTIALS" {
			x.errorf("an account is left: answered %s", got)
		}
	})
	d.require("rst-options", withPIN.powerCycle(), func(x *trial) {
		x.must(x.erase())
		info := x.fresh()
		if info.Options[ctap2.OptionClientPIN] || info.ForcePINChange {
			x.errorf("after a reset clientPin is %v and forcePINChange %v", info.Options[ctap2.OptionClientPIN], info.ForcePINChange)
		}
		if info.AAGUID != x.info.AAGUID {
			x.errorf("after a reset the AAGUID is %v", info.AAGUID)
		}
	})
	d.require("rst-pin-retries", withPIN.spends(1).powerCycle(), func(x *trial) {
		whole, err := x.key.PINRetries(x.ctx)
		x.must(err)
		if x.legacy(x.agree(), x.wrongPIN()) == nil {
			x.fatalf("a wrong PIN was accepted")
		}
		x.must(x.erase())
		for _, set := range []bool{false, true} { // a new PIN gives them back, too
			if set {
				x.must(x.trySetPIN(x.pin()))
			}
			left, err := x.key.PINRetries(x.ctx)
			x.must(err)
			if left.Retries != whole.Retries {
				x.errorf("%d tries are left after a reset, %d were there before", left.Retries, whole.Retries)
			}
		}
	})
	d.require("rst-token", withPIN.and(mcGaWithPIN).powerCycle(), func(x *trial) {
		x.restart()
		request := mcGate.good(x)
		x.must(x.raw(ctap.CmdReset, nil))
		x.must(x.trySetPIN(x.pin()))
		if got, _ := statusOf(x.command(ctap.CmdMakeCredential, request)); got != "PIN_AUTH_INVALID" {
			x.errorf("with a token of before the reset: answered %s", got)
		}
	})
	d.require("rst-fingers", withFinger.and(bioEnroll).powerCycle(), func(x *trial) {
		x.must(x.erase())
		x.wantEnrolled(false)
		x.must(x.trySetPIN(x.pin()))
		request := bioList.sign(bioRequest(ctap.BioEnumerateEnrollments, nil), x.pinToken(bioList.permission, ""))
		if got, _ := statusOf(x.command(bioList.command, request)); got != "INVALID_OPTION" {
			x.errorf("a finger is left: enumerateEnrollments answers %s", got)
		}
	})
	// refused resets, and looks for what was there before.
	refused := func(id string, s setup, g Gesture, wait time.Duration) {
		d.require(id, s.and(residentKeys), func(x *trial) {
			made := x.register()
			x.restart()
			x.person(g)
			x.sleep(wait)
			switch err := x.raw(ctap.CmdReset, nil); {
			case err == nil && wait > 0:
				x.skip("takes a reset at any time, as one with a display may")
			case err == nil:
				x.fatalf("was reset")
			}
			x.person(Touch)
			x.wantAccounts(made)
		})
	}
	const late = (ctap.ResetWindowSeconds + 1) * time.Second
	refused("rst-late-keeps", s.waits(late), Touch, late)
	refused("rst-denied-keeps", s.and(userPresence).person(Decline), Decline, 0)
	refused("rst-timeout-keeps", s.and(userPresence).person(NoTouch).waits(timeout), NoTouch, 0)
}
