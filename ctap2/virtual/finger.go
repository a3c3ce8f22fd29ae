package virtual

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A FingerprintKind is how a finger meets the sensor (§6.7.3, fingerprintKind).
type FingerprintKind uint8

// The kinds there are.
const (
	FingerprintTouch FingerprintKind = ctap.BioFingerprintKindTouch
	FingerprintSwipe FingerprintKind = ctap.BioFingerprintKindSwipe
)

// A SampleStatus is what came of one sample of a finger (§6.7.4,
// lastEnrollSampleStatus). Values without a name are reported as they are.
type SampleStatus uint8

// The statuses there are. Only a good sample brings an enrolment further.
const (
	SampleGood                 SampleStatus = ctap.BioSampleGood
	SampleTooHigh              SampleStatus = ctap.BioSampleTooHigh
	SampleTooLow               SampleStatus = ctap.BioSampleTooLow
	SampleTooLeft              SampleStatus = ctap.BioSampleTooLeft
	SampleTooRight             SampleStatus = ctap.BioSampleTooRight
	SampleTooFast              SampleStatus = ctap.BioSampleTooFast
	SampleTooSlow              SampleStatus = ctap.BioSampleTooSlow
	SamplePoorQuality          SampleStatus = ctap.BioSamplePoorQuality
	SampleTooSkewed            SampleStatus = ctap.BioSampleTooSkewed
	SampleTooShort             SampleStatus = ctap.BioSampleTooShort
	SampleMergeFailure         SampleStatus = ctap.BioSampleMergeFailure
	SampleExists               SampleStatus = ctap.BioSampleExists
	SampleNoUserActivity       SampleStatus = ctap.BioSampleNoUserActivity
	SampleNoUserPresenceChange SampleStatus = ctap.BioSampleNoUserPresenceChange
)

// A Finger is asked for each sample that the enrolment of a fingerprint takes,
// as a [Person] is for a touch: in a goroutine of its own, until ctx ends, when
// it must return. The key does not wait for more once it has returned;
// SampleNoUserActivity is a finger that never came. Prompt.Samples says how many
// good samples are still to come.
type Finger func(ctx context.Context, prompt Prompt) SampleStatus

// Samples returns a Finger that gives these samples, one each time that it is
// asked, and good ones from then on.
func Samples(statuses ...SampleStatus) Finger {
	var asked atomic.Int64
	return func(context.Context, Prompt) SampleStatus {
		if i := asked.Add(1) - 1; i < int64(len(statuses)) {
			return statuses[i]
		}
		return SampleGood
	}
}

// orGood returns the finger, or the one that nil stands for.
func (f Finger) orGood() Finger {
	if f == nil {
		return Samples()
	}
	return f
}

// SetFinger changes the finger that enrolments ask for, from the next sample
// on. Nil is one that gives good samples at once.
func (a *Authenticator) SetFinger(f Finger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finger = f.orGood()
}

// capture asks for a sample, and waits no longer than the platform wants to:
// milliseconds, none for as long as for any person.
func (a *Authenticator) capture(op *operation, remaining int, milliseconds uint64) (SampleStatus, error) {
	a.stopBlinking() // there is one thing to touch
	a.mu.Lock()
	finger := a.finger
	a.mu.Unlock()
	timeout := a.cfg.PresenceTimeout
	if milliseconds > 0 && milliseconds < uint64(timeout/time.Millisecond) {
		timeout = time.Duration(milliseconds) * time.Millisecond
	}
	prompt := Prompt{Command: op.command, Samples: remaining}
	return await(op, timeout, SampleNoUserActivity, func(ctx context.Context) SampleStatus { return finger(ctx, prompt) })
}
