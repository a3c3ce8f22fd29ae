package hid

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A scriptedSource is a kernel that has something to say as often as the test
// lets it.
type scriptedSource struct {
	hints  chan struct{}
	closed bool
}

func (s *scriptedSource) wait(ctx context.Context) error {
	select {
	case <-s.hints:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

func (s *scriptedSource) Close() error { s.closed = true; return nil }

func device(path, instance string) attachment {
	return attachment{Info{Path: path, VendorID: 0xF055}, instance}
}

func TestWatch(t *testing.T) {
	renamed := device("b", "2")
	renamed.Serial = "readable now"
	script := [][]attachment{
		{device("a", "1"), device("b", "2")},
		{device("a", "1"), device("b", "2")}, // a hint about something else
		{device("a", "1"), renamed},
		{device("a", "1"), device("b", "3")}, // pulled out and plugged in again
		{device("b", "3"), device("c", "4")},
		nil,
	}
	want := "arrival a, arrival b, removal b, arrival b, removal a, arrival c, removal b, removal c"

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := &scriptedSource{hints: make(chan struct{}, 1)}
	list := func(context.Context) ([]attachment, error) {
		now := script[0]
		if script = script[1:]; len(script) > 0 {
			source.hints <- struct{}{}
		}
		return now, nil
	}
	var got []string
	last := errors.New("none")
	watch(ctx, source, list, func(e Event, err error) bool {
		if err != nil {
			last = err
			return true
		}
		got = append(got, fmt.Sprintf("%v %s", e.Kind, e.Info.Path))
		if len(got) == 8 {
			cancel()
		}
		return true
	})
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	mustMatch(t, last, context.Canceled)
}

// The loop's break ends it, wherever it is.
func TestWatchBreak(t *testing.T) {
	source := &scriptedSource{hints: make(chan struct{}, 9)}
	lists := 0
	list := func(context.Context) ([]attachment, error) {
		lists++
		source.hints <- struct{}{}
		return []attachment{device("a", fmt.Sprint(lists)), device("b", "1")}, nil
	}
	for stop := 1; stop <= 4; stop++ {
		n := 0
		watch(t.Context(), source, list, func(_ Event, err error) bool {
			if err != nil || n == stop {
				t.Fatal("called again", err)
			}
			n++
			return n < stop
		})
	}
}

func TestWatchErrors(t *testing.T) {
	broken := errors.New("broken")
	n := 0
	watch(t.Context(), &scriptedSource{}, func(context.Context) ([]attachment, error) { return nil, broken },
		func(e Event, err error) bool {
			n++
			mustMatch(t, err, broken)
			if e != (Event{}) || !strings.HasPrefix(err.Error(), "hid: watch: ") {
				t.Error(e, err)
			}
			return true
		})
	if n != 1 {
		t.Errorf("%d elements", n)
	}
}

// Through the exported function: it can be used again, and ends with its
// context or with the loop.
func TestWatchHere(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	events := Watch(ctx)
	go cancel()
	for range 2 {
		var last error
		for _, err := range events {
			last = err
		}
		mustMatch(t, last, context.Canceled)
	}
}

func TestWatchTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		start := time.Now()
		var looked []time.Duration
		list := func(context.Context) ([]attachment, error) {
			looked = append(looked, time.Since(start))
			return nil, nil
		}
		source := newTicker()
		defer source.Close()
		watch(ctx, source, list, func(_ Event, err error) bool {
			mustMatch(t, err, context.DeadlineExceeded)
			return true
		})
		if want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}; !reflect.DeepEqual(looked, want) {
			t.Errorf("looked after %v", looked)
		}
	})
}

func TestEventKindString(t *testing.T) {
	for kind, want := range map[EventKind]string{Arrival: "arrival", Removal: "removal", 0: "event kind 0"} {
		if got := kind.String(); got != want {
			t.Errorf("%d: %s", kind, got)
		}
	}
}
