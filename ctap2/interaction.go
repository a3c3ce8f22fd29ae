package ctap2

import (
	"context"

	"github.com/tapstone/fido/pin"
)

// An Interaction reaches the person at the key. Every field may be nil.
//
// The functions are called by the goroutine that called the method, while the
// key waits: Touch, TouchDone, Processing and Sample must return at once. Of the
// same Authenticator, they may call Info and Transport, and no other method.
//
// Where several keys share an Interaction, its functions run concurrently, once
// per key, and have to guard what they share. The requests say which key it is;
// where that matters to TouchDone and Processing too, give each key an
// Interaction of its own.
type Interaction struct {
	// PIN asks the person for the key's PIN. The Secret it returns belongs to
	// the Authenticator, which wipes it. An error ends the method that needed
	// the PIN, wrapped in what that method returns; so does a PIN that no key
	// takes, such as one of three digits, with package pin's error: it is not
	// sent and costs no try. The context also ends with Close.
	//
	// After a wrong PIN it is called again, with Previous set, until the PIN is
	// right, the key is blocked, it returns an error, or it returns the PIN
	// that was just refused: a function that knows only one PIN spends one try.
	// While the Authenticator remembers a PIN, it is not called. Nor is it after
	// the key has said that it takes no PIN, for as long as that is so: the
	// method returns the PINError without a question.
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
