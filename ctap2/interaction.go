package ctap2

import (
	"context"

	"github.com/tapstone/fido/pin"
)

// An Interaction reaches the person at the key. Every field may be nil.
//
// The functions are called by the goroutine that called the method, while the
// key waits: Touch, TouchDone, Processing and Sample must return at once. Of the
// same Authenticator, they may call Info, Transport and Forget, and no other
// method: it would wait for the one that called them.
//
// Where several keys share an Interaction, its functions run concurrently, once
// per key, and have to guard what they share. The requests say which key it is;
// where that matters to TouchDone and Processing too, give each key an
// Interaction of its own.
type Interaction struct {
	// PIN asks the person for the key's PIN. The Secret it returns belongs to
	// the Authenticator, which wipes it: each call returns a new one. An error
	// ends the method that needed the PIN, wrapped in what that method returns;
	// so does a PIN that no key takes, such as one of three digits or an empty
	// one, with package pin's error: it is not sent and costs no try. The context
	// also ends with Close. A method of the same Authenticator that is called
	// with it, or with one made from it, returns ErrInvalidRequest at once.
	//
	// After a wrong PIN it is called again, with Previous set, until the PIN is
	// right, the key is blocked, it returns an error, or it returns the PIN
	// that was just refused: a function that knows only one PIN spends one try.
	// It is not called while the Authenticator remembers a PIN, nor once the
	// method's context has ended. While the key takes no PIN, since too many were
	// wrong, nobody is asked for one: the method returns the PINError at once.
	PIN func(ctx context.Context, request PINRequest) (pin.Secret, error)
	// Touch says that the key now waits for its user.
	Touch func(request TouchRequest)
	// TouchDone says that it no longer does. It is called once for each Touch.
	TouchDone func()
	// Processing says, about ten times a second, that the key is working.
	Processing func()
	// Sample says what became of one sample of a finger that is being enrolled
	// (EnrollFingerprint).
	Sample func(feedback SampleFeedback)
}

// A PINRequest is one question for a PIN.
type PINRequest struct {
	Authenticator *Authenticator // the key whose PIN it is
	// RPID is the relying party that the PIN is needed for; empty for others.
	RPID string
	// Previous is set when the PIN entered before was wrong.
	Previous *PINError
	// Retries asks the key how many tries are left, for a prompt that shows
	// them: it costs a transaction. Where it finds 0, or PowerCycle, the key
	// takes no PIN: a prompt returns an error instead of asking. Valid until the
	// function returns.
	Retries func() (PINRetries, error)
}

// A TouchRequest says what the key waits for.
type TouchRequest struct {
	Authenticator *Authenticator // the key that waits
	For           Touch
	RPID          string // empty where there is none
	// Long says that the touch has to last, for five seconds or more: some keys
	// are erased by nothing less (§6.6, longTouchForReset).
	Long bool
	// Previous says why a finger is asked for again by the same method: an error
	// that wraps ErrUVInvalid, since the key did not recognise the one before.
	Previous error
}

// Touch is what a touch of the key does.
type Touch string

// Reasons for a touch.
const (
	TouchPresence     Touch = "presence"     // confirm that someone is there
	TouchVerification Touch = "verification" // fingerprint or the like, on the key itself
	TouchSelection    Touch = "selection"    // choose this key among several
	TouchReset        Touch = "reset"        // erase the key
	TouchEnrollment   Touch = "enrollment"   // a sample of the finger that is being enrolled
)
