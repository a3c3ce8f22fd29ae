package conformance

import (
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
)

// A setup says what a case asks of the authenticator: what it must be able to
// do, and the state in which the case finds it. Its methods return a changed
// copy.
//
// The zero setup is an authenticator without PIN, without enrolled finger, with
// alwaysUv off, and without discoverable credentials.
type setup struct {
	state    state
	conds    []condition
	gestures []Gesture
	power    bool
	wait     time.Duration
	tries    int
	below    string
	u2f      bool
	harmless bool
	anyState bool
}

// A state is what a destructive run can bring about before a case.
type state struct {
	pin      bool // the PIN of the run is set
	uv       bool // built-in user verification is configured
	alwaysUV bool
}

var (
	plain      = setup{}
	withPIN    = setup{state: state{pin: true}}
	withFinger = setup{state: state{pin: true, uv: true}}
	fingerOnly = setup{state: state{uv: true}} // without a PIN
)

// and adds conditions.
func (s setup) and(conds ...condition) setup {
	s.conds = append(slices.Clone(s.conds), conds...)
	return s
}

// alwaysUV turns that option on.
func (s setup) alwaysUV() setup {
	s.state.alwaysUV = true
	return s
}

// person adds what the person must do besides touching.
func (s setup) person(gestures ...Gesture) setup {
	s.gestures = append(slices.Clone(s.gestures), gestures...)
	return s
}

// powerCycle says that trial.powerCycle will be called.
func (s setup) powerCycle() setup {
	s.power = true
	return s
}

// waits says how long the case takes at most, where that is longer than an
// exchange.
func (s setup) waits(d time.Duration) setup {
	s.wait = max(s.wait, d)
	return s
}

// spends says how many wrong PINs will be entered at most.
func (s setup) spends(tries int) setup {
	s.tries = max(s.tries, tries)
	return s
}

// over asks for what is below the messages, "hid" or "nfc".
func (s setup) over(transport string) setup {
	s.below = transport
	return s
}

// orU2F says that the case applies to an authenticator that speaks U2F alone,
// too.
func (s setup) orU2F() setup {
	s.u2f = true
	return s
}

// leavesNoTrace says that the case changes nothing that the authenticator
// keeps, but for counters, and does not mind what it holds. The state still is
// what must be there, but an authenticator with a PIN will do where it has none.
func (s setup) leavesNoTrace() setup {
	s.harmless = true
	return s
}

// inAnyState says that the case minds no PIN, no finger, and not alwaysUv.
func (s setup) inAnyState() setup {
	s.anyState = true
	return s
}

func (s setup) needs() Needs {
	return Needs{
		Destructive: !s.harmless, PIN: s.state.pin, UV: s.state.uv, Gestures: s.gestures,
		PowerCycle: s.power, Wait: s.wait, PINTries: s.tries, Transport: s.below,
	}
}

// A condition is something that an authenticator must be able to do, or must
// not, for a case to apply to it.
type condition struct {
	not   string // why a case does not apply
	holds func(info *ctap2.Info) bool
}

// not is the opposite of a condition.
func not(c condition, why string) condition {
	return condition{why, func(info *ctap2.Info) bool { return !c.holds(info) }}
}

// option is an option that is present, whatever it says now.
func option(name string) condition {
	return condition{"has no option " + name, func(info *ctap2.Info) bool {
		_, ok := info.Options[name]
		return ok
	}}
}

// optionOn is an option that is true.
func optionOn(name string) condition {
	return condition{"option " + name + " is not true", func(info *ctap2.Info) bool { return info.Options[name] }}
}

// lacks is the lack of an option, or one that is false.
func lacks(name string) condition {
	return condition{"option " + name + " is true", func(info *ctap2.Info) bool { return !info.Options[name] }}
}

// absent is the lack of an option.
func absent(name string) condition {
	return not(option(name), "has the option "+name)
}

func extension(identifier string) condition {
	return condition{"has no extension " + identifier, func(info *ctap2.Info) bool {
		return slices.Contains(info.Extensions, identifier)
	}}
}

func noExtension(identifier string) condition {
	return not(extension(identifier), "has the extension "+identifier)
}

func version(names ...string) condition {
	return condition{"does not speak " + names[0], func(info *ctap2.Info) bool {
		return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(info.Versions, name) })
	}}
}

// Levels of the protocol, by the versions that tell them.
var (
	ctap2Spoken = condition{"speaks U2F alone", version("FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_3").holds}
	from21      = version("FIDO_2_1", "FIDO_2_3")
	from23      = version("FIDO_2_3")
	prototype   = condition{"is no key of the CTAP 2.1 draft", func(info *ctap2.Info) bool {
		return slices.Contains(info.Versions, "FIDO_2_1_PRE") && !from21.holds(info)
	}}
	only20 = condition{"speaks more than CTAP 2.0", func(info *ctap2.Info) bool {
		return ctap2Spoken.holds(info) && !from21.holds(info) && !prototype.holds(info)
	}}
	u2fSpoken = version("U2F_V2")
	onlyU2F   = not(ctap2Spoken, "speaks CTAP2")
)

// Abilities.
var (
	residentKeys   = optionOn(ctap2.OptionResidentKey)
	clientPIN      = option(ctap2.OptionClientPIN)
	noClientPIN    = absent(ctap2.OptionClientPIN)
	builtInUV      = option(ctap2.OptionUserVerification)
	noBuiltInUV    = absent(ctap2.OptionUserVerification)
	permissions    = optionOn(ctap2.OptionPINUVAuthToken)
	noPermissions  = lacks(ctap2.OptionPINUVAuthToken)
	credMgmt       = optionOn(ctap2.OptionCredentialManagement)
	authnrCfg      = optionOn(ctap2.OptionAuthenticatorConfig)
	largeBlobs     = optionOn(ctap2.OptionLargeBlobs)
	bioEnroll      = option(ctap2.OptionBioEnroll)
	uvNotRequired  = optionOn(ctap2.OptionMakeCredUVNotRequired)
	uvRequired     = lacks(ctap2.OptionMakeCredUVNotRequired)
	noMcGa         = optionOn(ctap2.OptionNoMcGaPermissionsWithClientPIN)
	mcGaWithPIN    = lacks(ctap2.OptionNoMcGaPermissionsWithClientPIN)
	userPresence   = condition{"cannot be touched", func(info *ctap2.Info) bool { up, ok := info.Options[ctap2.OptionUserPresence]; return up || !ok }}
	togglesAlways  = option(ctap2.OptionAlwaysUV)
	persistentRead = optionOn(ctap2.OptionPersistentCredMgmtRO)
)
