package nfc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
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
			w := watch{context: p}
			err = w.run(ctx, func(e Event) bool { return yield(e, nil) })
		}
		if err != nil {
			yield(Event{}, fmt.Errorf("nfc: watch: %w", whenListing(err)))
		}
	}
}

type watch struct {
	context pcscContext
	states  []readerState // of the readers that are there
	left    chan error    // of the call that the end of the context left behind
}

// maxStates is how many pcsc-lite waits for at once. It has no more readers.
const maxStates = 16

// run returns nil when yield wants no more.
func (w *watch) run(ctx context.Context, yield func(Event) bool) error {
	defer func() {
		if w.left != nil {
			go w.releaseBehind()
			return
		}
		_ = w.context.release()
	}()
	for {
		if going, err := w.list(ctx, yield); err != nil || !going {
			return err
		}
		states := w.states
		if newsReader != "" && len(states) < maxStates {
			states = append(slices.Clip(states), readerState{name: newsReader, known: uint32(len(states)) << stateCounter})
		}
		if len(states) == 0 {
			sleep(ctx, waitSlice)
			continue
		}
		err := w.call(ctx, func() error { return w.context.wait(states, waitSlice) })
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
		unknown := false
		for i := range w.states {
			unknown = unknown || w.states[i].flags&stateUnknown != 0
			if !w.states[i].report(yield) {
				return nil
			}
		}
		if unknown {
			sleep(ctx, waitSlice/20) // it may be in the list all the same
		}
	}
}

// call makes a call of PC/SC, which the end of ctx leaves behind.
func (w *watch) call(ctx context.Context, f func() error) error {
	if err := ended(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		w.left = done
		return ended(ctx)
	}
}

// releaseBehind ends the use of the context when the call that was left behind has
// returned, which nobody waits for. A wait that has just begun may not hear that
// it is cancelled: so it is told again.
func (w *watch) releaseBehind() {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for w.left != nil {
		_ = w.context.cancel()
		select {
		case <-w.left:
			w.left = nil
		case <-again.C:
		}
	}
	_ = w.context.release()
}

// list brings the states up to date with the readers that are there.
func (w *watch) list(ctx context.Context, yield func(Event) bool) (bool, error) {
	var names []string
	err := w.call(ctx, func() (err error) {
		names, err = w.context.readers()
		return err
	})
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
		return true // an unknown one is hardly in the next list
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

func sleep(ctx context.Context, d time.Duration) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}
