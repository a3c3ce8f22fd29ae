package virtual

import (
	"context"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A Person is asked each time the key waits for the human in front of it, and
// returns what he or she does. It is called in a goroutine of its own. When ctx
// ends, because the platform cancelled, time is up, or the key lost its power,
// nobody is interested any more, and it must return. It may call all methods of
// the key; PowerCycle and Close end the command that asks.
type Person func(ctx context.Context, prompt Prompt) Answer

// A Prompt says what a person is asked for.
type Prompt struct {
	// Command is the command byte of the request that asks.
	Command byte
	// Verification tells a request to verify the user (a finger on the
	// sensor) from one for a touch.
	Verification bool
	// RPID is the relying party that it is for; empty where there is none, as
	// in a reset.
	RPID string
	// Application is the application parameter of a U2F request, which is all
	// that it says of who it is for: the SHA-256 of the relying party's ID.
	// Command is then that of the CTAP2 command of the same purpose.
	Application [32]byte
	// UserName is the name of the account that makeCredential is for, if the
	// request has one.
	UserName string
	// LongTouch asks for a touch of five seconds or more, as a reset does on
	// keys with longTouchForReset. Nothing but Hold will do.
	LongTouch bool
	// Samples is the number of good samples that the enrolment of a fingerprint
	// still takes, for a [Finger].
	Samples int
}

// An Answer is what a person does.
type Answer uint8

const (
	// Nothing: the person goes away; the key does not wait until time is up.
	Nothing Answer = iota
	// Approve: a touch, or the right finger. For Prompt.LongTouch it is too
	// short, and as good as Nothing.
	Approve
	// Deny: the person says no, or it is the wrong finger.
	Deny
	// LockOut: wrong fingers until no try is left (uvRetries 0). For a touch
	// it is the same as Deny.
	LockOut
	// Hold: a touch of five seconds or more. Where nobody asked for a long one,
	// it is the same as Approve.
	Hold
)

// Touch is a Person who touches the key at once, with the right finger.
func Touch(context.Context, Prompt) Answer { return Approve }

// Refuse is a Person who says no to a touch, and has the wrong finger.
func Refuse(context.Context, Prompt) Answer { return Deny }

// Ignore is a Person who does nothing until time is up.
func Ignore(ctx context.Context, _ Prompt) Answer {
	<-ctx.Done()
	return Nothing
}

// TouchAfter returns a Person who touches the key after a while.
func TouchAfter(d time.Duration) Person {
	return func(ctx context.Context, _ Prompt) Answer {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return Approve
		case <-ctx.Done():
			return Nothing
		}
	}
}

// TouchFor returns a Person who touches the key at once, and holds on for d if
// that is what the key asks for: five seconds will do.
func TouchFor(d time.Duration) Person {
	return func(ctx context.Context, prompt Prompt) Answer {
		if !prompt.LongTouch {
			return Approve
		}
		answer := TouchAfter(d)(ctx, prompt)
		if answer == Approve && d >= ctap.LongTouchSeconds*time.Second {
			answer = Hold
		}
		return answer
	}
}

// orTouch returns the person, or the one that nil stands for. Where it can, the
// key does not ask that one: a goroutine for an answer that is known takes a third
// of the time of a signature.
func (p Person) orTouch() Person {
	if p == nil {
		return Touch
	}
	return p
}

// SetPresence changes the person who is asked to touch the key, from the next
// time on. Nil is Touch. A command that waits goes on waiting for the one before;
// a U2F request does not wait: the next one asks p, unless the one before has
// touched the key already.
func (a *Authenticator) SetPresence(p Person) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.presence = p
	if a.unask != nil {
		a.unask()
	}
}

// SetVerification changes the person whom built-in user verification asks,
// from the next time on. Nil is Touch.
func (a *Authenticator) SetVerification(p Person) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.verification = p
}

// keepaliveInterval is how often a key that waits says so (§11.2.9.1.7).
const keepaliveInterval = 100 * time.Millisecond

// ask waits for the person that prompt is for, and returns Approve if it is done
// what prompt asks for. It returns Nothing when time is up, and an error if the
// platform cancels or the key loses its power first.
func (a *Authenticator) ask(op *operation, prompt Prompt) (Answer, error) {
	prompt.Command = op.command
	a.stopBlinking() // there is one thing to touch
	a.mu.Lock()
	person := a.presence
	if prompt.Verification {
		person = a.verification
	}
	a.mu.Unlock()
	if person == nil && !prompt.LongTouch {
		return atOnce(op)
	}
	person = person.orTouch()
	answer, err := await(op, a.cfg.PresenceTimeout, Nothing, func(ctx context.Context) Answer { return person(ctx, prompt) })
	switch {
	case answer == Hold:
		answer = Approve
	case answer == Approve && prompt.LongTouch:
		answer = Nothing
	}
	return answer, err
}

// atOnce is the answer of Touch.
func atOnce(op *operation) (Answer, error) {
	if err := op.keepalive(ctap.KeepaliveUPNeeded); err != nil {
		return Nothing, err
	}
	if op.ctx.Err() != nil {
		return Nothing, refusal(ctap.StatusKeepaliveCancel)
	}
	return Approve, nil
}

// await waits for what somebody does, and returns nothing when time is up or
// that is all. It returns an error if the platform cancels or the key loses its
// power first.
func await[T comparable](op *operation, limit time.Duration, nothing T, act func(context.Context) T) (T, error) {
	// The key blinks, and then somebody acts.
	if err := op.keepalive(ctap.KeepaliveUPNeeded); err != nil {
		return nothing, err
	}
	ctx, cancel := context.WithCancel(op.ctx)
	defer cancel()
	answers := make(chan T, 1)
	go func() { answers <- act(ctx) }()

	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	tick := time.NewTicker(keepaliveInterval)
	defer tick.Stop()
	for {
		select {
		case answer := <-answers:
			if answer == nothing && op.ctx.Err() != nil {
				return nothing, refusal(ctap.StatusKeepaliveCancel)
			}
			return answer, nil
		case <-tick.C:
			if err := op.keepalive(ctap.KeepaliveUPNeeded); err != nil {
				return nothing, err
			}
		case <-timeout.C:
			return nothing, nil
		case <-op.power.Done():
			return nothing, context.Cause(op.power)
		case <-op.ctx.Done():
			// A touch that came first counts: the operation was decided.
			select {
			case answer := <-answers:
				if answer != nothing {
					return answer, nil
				}
			default:
			}
			return nothing, refusal(ctap.StatusKeepaliveCancel)
		}
	}
}

// touch requests evidence of user interaction.
func (a *Authenticator) touch(op *operation, prompt Prompt) (Answer, error) {
	if a.cfg.NoUserPresence {
		return Approve, nil
	}
	return a.ask(op, prompt)
}

// consent is touch for makeCredential and getAssertion, whose algorithms
// answer OPERATION_DENIED both to a person who declines and to one who does
// nothing (§6.1.2 steps 1 and 14, §6.2.2 steps 1 and 9). USER_ACTION_TIMEOUT is
// for the commands that say so, for those of CTAP 2.0, and for a fault.
func (a *Authenticator) consent(op *operation, prompt Prompt) error {
	err := a.confirm(op, prompt)
	if err == refusal(ctap.StatusUserActionTimeout) && a.cfg.Level >= CTAP21 && !a.cfg.Faults.has(TouchTimesOut) {
		return refusal(ctap.StatusOperationDenied)
	}
	return err
}

// confirm is touch for the commands that tell a person who declines from one
// who does nothing (§6.6, §6.9).
func (a *Authenticator) confirm(op *operation, prompt Prompt) error {
	switch answer, err := a.touch(op, prompt); {
	case err != nil:
		return err
	case answer == Approve:
		return nil
	case answer == Nothing:
		return refusal(ctap.StatusUserActionTimeout)
	}
	return refusal(ctap.StatusOperationDenied)
}
