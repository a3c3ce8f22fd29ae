package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tapstone/fido/ctap2"
)

// keyPatience is the least that a key waits for its user before it may be asked
// again: one that gives up at once has another reason.
const keyPatience = 5 * time.Second

// errChosen ends the wait of the keys that were not touched.
var errChosen = errors.New("another key was chosen")

// Select makes all keys wait for a touch and returns the index of the one that
// is touched first; the others are cancelled, and all are ready for use again
// when it returns. It uses authenticatorSelection, and a registration that
// cannot succeed on keys from before CTAP 2.1 (see
// [ctap2.Authenticator.Selection]). A key that gives up waiting is asked again
// until ctx ends; one that gives up at once, or fails, as by being unplugged, or
// whose user declines, is out. If none is left the error wraps ErrNoKey and
// theirs.
//
// Of a single key no touch is asked. Of several, Touch and TouchDone of each one's
// Interaction are called, at the same time: where keys share an Interaction, its
// functions must take care of what they share.
//
// Select does not take a key that arrives while it waits. A program that wants
// that does what Select does, with one goroutine more for each that arrives: each
// calls Selection of its key, and the first that returns nil cancels the context
// of all.
func Select(ctx context.Context, keys []*ctap2.Authenticator) (int, error) {
	switch len(keys) {
	case 0:
		return 0, ErrNoKey
	case 1:
		return 0, nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex
		chosen = -1
		failed = []error{ErrNoKey}
	)
	for i, key := range keys {
		wait.Go(func() {
			err := patientSelection(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed = append(failed, err)
			case chosen < 0: // a second touch in the same moment comes too late
				chosen = i
				stop(errChosen)
			}
		})
	}
	wait.Wait()
	if chosen >= 0 {
		return chosen, nil
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("keys: %w", context.Cause(ctx))
	}
	return 0, errors.Join(failed...)
}

// patientSelection asks again where the key has lost patience.
func patientSelection(ctx context.Context, key *ctap2.Authenticator) error {
	for {
		since := time.Now()
		err := key.Selection(ctx)
		timedOut := errors.Is(err, ctap2.ErrUserActionTimeout) || errors.Is(err, ctap2.ErrActionTimeout)
		if !timedOut || time.Since(since) < keyPatience || ctx.Err() != nil {
			return err
		}
	}
}
