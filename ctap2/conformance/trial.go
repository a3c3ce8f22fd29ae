package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A trial is one run of one case: an open authenticator, and what is done with
// it. Its methods end the trial when something that should just work does not.
type trial struct {
	h       *harness
	c       *Case
	ctx     context.Context
	key     *ctap2.Authenticator
	info    *ctap2.Info // as the case finds it
	prefers pin.Protocol
	method  ctap2.Method
	asked   *uses
	held    map[ctap2.Permission]*ctap2.Token // the tokens of hold
	found   []string                          // what errorf noted
	ends    []func()                          // what end does
}

// An otherwise is an answer below the messages, where there are no statuses,
// that is another than the requirement has.
type otherwise string

func (o otherwise) Error() string { return string(o) }

// An opposite is one, too: a success where the requirement has an error, or an
// error where it has a success.
type opposite string

func (o opposite) Error() string { return string(o) }

// A verdict ends a trial: it is the value of a panic that perform recovers.
type verdict struct{ err error }

// perform runs the case and says how it ended.
func (x *trial) perform() (result Result) {
	h := x.h
	h.touches, h.onTouch, h.raised = 0, nil, 0
	h.last, h.irregular = nil, nil
	defer func() {
		h.onTouch = nil
		x.end()
		switch ended := recover().(type) {
		case nil:
		case verdict:
			result = x.result(ended.err)
		default:
			panic(ended)
		}
		if len(x.found) > 0 && result.Outcome != Failed {
			result = Result{Outcome: Failed, Message: x.found[0]}
			if x.c.Either && x.c.Status == "" {
				result = Result{Outcome: Passed, Remark: x.found[0]}
			}
		}
		if h.irregular != nil && result.Outcome != Failed {
			result = Result{Outcome: Failed, Message: fmt.Sprintf("an answer is not canonical: %v", h.irregular)}
		}
		if result.Outcome == Failed {
			result.Exchanges = slices.Clone(h.last)
		}
	}()
	x.learnTap()
	err := x.c.run(x)
	var other otherwise
	var opposed opposite
	if errors.As(err, &other) && x.c.permits(false) || errors.As(err, &opposed) && x.c.permits(true) {
		return Result{Outcome: Passed, Remark: err.Error()}
	}
	got, known := statusOf(err)
	if !known {
		return x.result(err)
	}
	if wrong := x.c.expects(got); wrong != nil && x.c.permits(x.c.opposes(got)) {
		return Result{Outcome: Passed, Remark: wrong.Error()}
	} else if wrong != nil {
		return Result{Outcome: Failed, Message: wrong.Error()}
	}
	return Result{Outcome: Passed}
}

// end closes what is open besides the key, the last first.
func (x *trial) end() {
	for _, end := range slices.Backward(x.ends) {
		end()
	}
	x.ends = nil
}

func (x *trial) result(err error) Result {
	var no inapplicable
	if errors.As(err, &no) {
		return Result{Outcome: no.outcome, Message: no.why}
	}
	if errors.Is(err, ErrCannot) {
		return Result{Outcome: Skipped, Message: err.Error()}
	}
	return Result{Outcome: Failed, Message: err.Error()}
}

// statusOf is the name of the status that err comes from, or a status word.
func statusOf(err error) (name string, known bool) {
	var status *ctap2.Error
	var word ctap2.U2FStatus
	switch {
	case err == nil:
		return "OK", true
	case errors.As(err, &status):
		return status.Status.String(), true
	case errors.As(err, &word):
		return fmt.Sprintf("%04X", uint16(word)), true
	}
	return "", false
}

// must ends the trial if something that should just work does not.
func (x *trial) must(err error) {
	if err != nil {
		panic(verdict{fmt.Errorf("on the way: %w", err)})
	}
}

// fatalf ends the trial, which has failed.
func (x *trial) fatalf(format string, args ...any) {
	panic(verdict{fmt.Errorf(format, args...)})
}

// errorf notes that the trial has failed, or, where the requirement is a
// recommendation, what there is to remark. It goes on.
func (x *trial) errorf(format string, args ...any) {
	x.found = append(x.found, fmt.Sprintf(format, args...))
}

// skip ends the trial: as it turns out, the case does not apply.
func (x *trial) skip(format string, args ...any) {
	panic(verdict{notApplicable(format, args...)})
}

// protocol is the PIN/UV auth protocol of this variant.
func (x *trial) protocol() pin.Protocol {
	x.asked.protocol = true
	return x.prefers
}

// pin is the PIN that is set, where one is.
func (x *trial) pin() string { return x.h.pin() }

// otherPIN is another, as long.
func (x *trial) otherPIN() string { return digits(otherPIN, x.info) }

// person has the person do something from now on, until the trial ends.
func (x *trial) person(g Gesture) {
	if g == NoTouch && x.h.tapTouches {
		x.skip(tapIsTouch)
	}
	if err := x.h.do(x.ctx, g); err != nil {
		panic(verdict{err})
	}
}

// touches is how often the authenticator has waited for its user in this trial.
func (x *trial) touches() int { return x.h.touches }

// sleep lets time pass.
func (x *trial) sleep(d time.Duration) { x.must(x.h.operator.wait(x.ctx, d)) }

// powerCycle takes the authenticator's power, gives it back, and opens it again.
func (x *trial) powerCycle() {
	if err := x.h.powerCycle(x.ctx); err != nil {
		panic(verdict{err})
	}
	x.must(x.h.open(x.ctx, ctap2.WithPINUVAuthProtocol(x.prefers)))
	x.key = x.h.key
}

// reset resets the authenticator and opens it again. What the trial knew of it is
// as good as gone.
func (x *trial) reset() {
	if err := x.h.reset(x.ctx); err != nil {
		panic(verdict{err})
	}
	x.must(x.h.open(x.ctx, ctap2.WithPINUVAuthProtocol(x.prefers)))
	x.key = x.h.key
	clear(x.held)
}

// fresh is getInfo as it is now.
func (x *trial) fresh() *ctap2.Info {
	info, err := x.key.GetInfo(x.ctx)
	x.must(err)
	return info
}

// cancel has the platform give up as soon as the authenticator waits for its
// user, who leaves it alone.
func (x *trial) cancel() {
	x.person(NoTouch)
	// Some transports do not say that it waits.
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	x.ctx, x.h.onTouch = ctx, cancel
}

// patience is how long an authenticator may take until it waits for its user.
const patience = 5 * time.Second

// tapIsTouch is why a case does not apply that leaves the authenticator alone.
const tapIsTouch = "does not wait for a touch on a reader"

// learnTap sees, once in a run, whether an authenticator on a reader takes the tap
// for a touch, as it may for two minutes (§5): nobody can leave that one alone.
func (x *trial) learnTap() {
	if x.h.tapKnown || !x.onNFC() || !slices.Contains(x.c.setup.gestures, NoTouch) {
		return
	}
	whole := x.ctx
	x.cancel()
	var err error
	if ctap2Spoken.holds(x.info) {
		message := x.touching()
		err = x.raw(message[0], message[1:])
	} else {
		_, err = x.apdu(0, u2fRegister, 0, registration("example.com"))
	}
	x.ctx = whole
	x.h.tapKnown = true
	x.h.tapTouches = err == nil || errors.Is(err, ctap2.ErrPINNotSet) || errors.Is(err, ctap2.ErrPINInvalid)
	// A wait that could not be cancelled ends with the connection.
	x.must(x.h.open(x.ctx, ctap2.WithPINUVAuthProtocol(x.prefers)))
	x.key = x.h.key
	x.h.touches, x.h.onTouch, x.h.last = 0, nil, nil // as if nothing had been
	x.person(Touch)
}

// raw sends a command with parameters as they are.
func (x *trial) raw(command byte, parameters []byte) error {
	_, err := x.key.Command(x.ctx, command, parameters)
	return err
}

// members are those of a map with numbers for keys.
type members = map[int]any

// fields are those of a map with text for keys.
type fields = map[string]any

// ask sends a command and returns the members of the answer.
func (x *trial) ask(command byte, parameters members) (members, error) {
	reply, err := x.key.Command(x.ctx, command, x.encoded(parameters))
	if command == ctap.CmdGetAssertion && errors.Is(err, ctap2.ErrNoCredentials) {
		x.mustShow(parameters)
	}
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	var answer members
	x.must(cbor.Unmarshal(reply, &answer))
	return answer, nil
}

func (x *trial) command(command byte, parameters members) error {
	_, err := x.ask(command, parameters)
	return err
}

func (x *trial) encoded(v any) []byte {
	b, err := cbor.Marshal(v)
	x.must(err)
	return b
}

// token obtains a pinUvAuthToken the way this run does.
func (x *trial) token(permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.asked.method = true
	if x.method == ctap2.UVMethod && !grantedByUV(x.info, permissions) {
		x.skip("built-in user verification yields no token with permission %v", permissions)
	}
	return x.tokenBy(x.method, permissions, rpID)
}

// grantedByUV reports whether built-in user verification yields a token with
// permissions for which there is an option of their own (§6.5.5.7.3).
func grantedByUV(info *ctap2.Info, permissions ctap2.Permission) bool {
	return (permissions&ctap2.PermissionBioEnrollment == 0 || info.Options[ctap2.OptionUVBioEnroll]) &&
		(permissions&ctap2.PermissionAuthenticatorConfig == 0 || info.Options[ctap2.OptionUVAuthenticatorConfig])
}

// hold is token, but for one that this trial has already.
func (x *trial) hold(permissions ctap2.Permission, rpID string) *ctap2.Token {
	if x.held[permissions] == nil {
		x.held[permissions] = x.token(permissions, rpID)
	}
	return x.held[permissions]
}

// pinToken obtains one with the PIN, where built-in user verification would
// change what the row is about.
func (x *trial) pinToken(permissions ctap2.Permission, rpID string) *ctap2.Token {
	return x.tokenBy(ctap2.PINMethod, permissions, rpID)
}

func (x *trial) tokenBy(method ctap2.Method, permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.asked.protocol = true
	token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{Permissions: permissions, RPID: rpID, Method: method})
	x.must(err)
	return token
}
