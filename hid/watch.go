package hid

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// An Event is the arrival or the removal of an authenticator.
type Event struct {
	Kind EventKind
	Info Info // as it was on arrival
}

// An EventKind says what has happened to a device.
type EventKind uint8

const (
	Arrival EventKind = iota + 1 // it is attached
	Removal                      // it was attached
)

// String returns "arrival" or "removal".
func (k EventKind) String() string {
	switch k {
	case Arrival:
		return "arrival"
	case Removal:
		return "removal"
	}
	return fmt.Sprintf("event kind %d", uint8(k))
}

// Watch returns the arrivals and removals of authenticators, beginning with an
// arrival for each one that is attached already. The sequence is without end
// until it has an error: that of ctx when ctx ends, [ErrUnsupported] in a build
// without HID support for its platform, or another of [List]. The error is its
// last element. Breaking out of the loop ends it too; either way nothing is
// left running. The sequence can be used again, and then starts anew.
//
// On Linux the kernel tells what happens. Otherwise, and in a container with a
// user namespace of its own, Watch looks once a second.
// A device that is pulled out and plugged in again while the loop's body runs,
// or between two looks, is a removal and an arrival if the platform can tell it
// from the one before.
//
// An arrival is reported as soon as the kernel has the device. Where udev is
// yet to give the user access to it, [Open] waits for that.
func Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		source := newChanges()
		defer source.Close()
		watch(ctx, source, attachments, yield)
	}
}

// changes tells that devices may have come or gone. What exactly is for the
// list of devices to say: a message that is lost, forged or misunderstood does
// no harm.
type changes interface {
	// wait returns when there may be a change since it was last called, or
	// since the source was opened, or with the error of ctx when ctx ends.
	wait(ctx context.Context) error
	Close() error
}

func watch(ctx context.Context, source changes, list func(context.Context) ([]attachment, error), yield func(Event, error) bool) {
	var known []attachment
	for {
		found, err := list(ctx)
		if err == nil {
			for _, e := range difference(known, found) {
				if !yield(e, nil) {
					return
				}
			}
			known = found
			err = source.wait(ctx)
		}
		if err != nil {
			yield(Event{}, fmt.Errorf("hid: watch: %w", err))
			return
		}
	}
}

// difference returns the removals, then the arrivals, between two lists.
func difference(before, after []attachment) []Event {
	var events []Event
	for _, a := range before {
		if !contains(after, a) {
			events = append(events, Event{Removal, a.Info})
		}
	}
	for _, a := range after {
		if !contains(before, a) {
			events = append(events, Event{Arrival, a.Info})
		}
	}
	return events
}

// contains reports whether the device is in the list. What a device says of
// itself does not tell: its strings may have become readable since.
func contains(list []attachment, device attachment) bool {
	for _, a := range list {
		if a.Path == device.Path && a.instance == device.instance &&
			a.VendorID == device.VendorID && a.ProductID == device.ProductID {
			return true
		}
	}
	return false
}

// lookInterval is for where nobody tells.
const lookInterval = time.Second

// A ticker is a source that knows nothing: there may always be a change.
type ticker struct{}

func newTicker() changes { return ticker{} }

func (ticker) wait(ctx context.Context) error {
	pause := time.NewTimer(lookInterval)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

func (ticker) Close() error { return nil }
