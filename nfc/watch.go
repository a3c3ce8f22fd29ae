package nfc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// An Event says that a card came or went.
type Event struct {
	Reader        // as it is now
	Inserted bool // or else removed, perhaps with its reader
}

// Watch returns the cards that are inserted into this machine's readers or laid
// on them, and those that are taken away, as it happens. It begins with those
// that are there. It touches no card: whether one is a FIDO card shows when it
// is opened.
//
// The sequence ends when the loop over it does, or when ctx ends, with the
// error of ctx, or with one of [Readers]. The error comes last, with an empty
// Event. What happens while the loop's body runs is not lost, but several
// changes of one reader may come as one removal and one insertion.
func Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		p, err := within(ctx, establish, func(p pcscContext) { _ = p.release() })
		if err == nil {
			w := watch{context: p, over: make(chan struct{})}
			err = w.run(ctx, func(e Event) bool { return yield(e, nil) })
		}
		if err != nil {
			yield(Event{}, fmt.Errorf("nfc: watch: %w", whenOpening(err)))
		}
	}
}

type watch struct {
	context pcscContext
	states  []readerState // of the readers that are there

	mu   sync.Mutex // no cancel behind release
	over chan struct{}
}

// run returns nil when yield wants no more.
func (w *watch) run(ctx context.Context, yield func(Event) bool) error {
	stop := context.AfterFunc(ctx, w.cancel)
	defer func() {
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		close(w.over)
		_ = w.context.release()
	}()
	for {
		if err := ended(ctx); err != nil {
			return err
		}
		if going, err := w.list(yield); err != nil || !going {
			return err
		}
		states := w.states
		if newsReader != "" {
			states = append(slices.Clip(states), readerState{name: newsReader, known: uint32(len(states)) << stateCounter})
		}
		if len(states) == 0 {
			sleep(ctx, waitSlice)
			continue
		}
		err := w.context.wait(states, waitSlice)
		switch {
		case ctx.Err() != nil:
			return ended(ctx)
		case errors.Is(err, pcscUnknownReader):
			sleep(ctx, waitSlice/20) // it was unplugged, and is not in the next list
			continue
		case errors.Is(err, pcscTimeout):
			continue
		case err != nil:
			return err
		}
		copy(w.states, states)
		for i := range w.states {
			if !w.states[i].report(yield) {
				return nil
			}
		}
	}
}

// list brings the states up to date with the readers that are there.
func (w *watch) list(yield func(Event) bool) (bool, error) {
	names, err := w.context.readers()
	if err != nil {
		return false, err
	}
	for i := 0; i < len(w.states); {
		s := w.states[i]
		if slices.Contains(names, s.name) {
			i++
			continue
		}
		w.states = slices.Delete(w.states, i, i+1)
		if s.known&statePresent != 0 && !yield(Event{Reader: Reader{Name: s.name}}) {
			return false, nil
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(w.states, func(s readerState) bool { return s.name == name }) {
			w.states = append(w.states, readerState{name: name})
		}
	}
	return true, nil
}

// report tells what has changed.
func (s *readerState) report(yield func(Event) bool) bool {
	if s.flags&stateChanged == 0 || s.flags&stateUnknown != 0 {
		return true // an unknown one is not in the next list
	}
	was, is := s.known, s.flags&^stateChanged
	s.known = is
	// The counter tells if a card has taken the place of another.
	had, has := was&statePresent != 0, is&statePresent != 0
	if had && (!has || was>>stateCounter != is>>stateCounter) && !yield(Event{Reader: Reader{Name: s.name}}) {
		return false
	}
	if has && (!had || was>>stateCounter != is>>stateCounter) {
		return yield(Event{Reader: s.reader(), Inserted: true})
	}
	return true
}

// cancel ends the wait when the context has ended. One that has just begun may
// not hear it: so it is told again until it is over.
func (w *watch) cancel() {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		w.mu.Lock()
		select {
		case <-w.over:
			w.mu.Unlock()
			return
		default:
			_ = w.context.cancel()
			w.mu.Unlock()
		}
		select {
		case <-w.over:
		case <-again.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}
