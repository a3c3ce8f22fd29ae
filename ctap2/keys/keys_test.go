package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// desk is a machine with software keys at it.
type desk struct {
	machine
	devices []hid.Info
	readers []nfc.Reader
	hidErr  error
	nfcErr  error
	soft    map[string]*virtual.Authenticator
	hid     chan hid.Event
	nfc     chan nfc.Event
}

func newDesk(t *testing.T) *desk {
	d := &desk{soft: map[string]*virtual.Authenticator{}, hid: make(chan hid.Event), nfc: make(chan nfc.Event)}
	d.listHID = func(context.Context) ([]hid.Info, error) { return d.devices, d.hidErr }
	d.listReaders = func(context.Context) ([]nfc.Reader, error) { return d.readers, d.nfcErr }
	open := func(_ context.Context, name string) (ctap2.Transport, error) {
		if d.soft[name] == nil {
			return nil, fmt.Errorf("%s: %w", name, nfc.ErrNotFIDO)
		}
		return d.soft[name], nil
	}
	d.openHID, d.openReader = open, open
	d.watchHID = func(ctx context.Context) iter.Seq2[hid.Event, error] { return events(ctx, d.hid, d.hidErr) }
	d.watchNFC = func(ctx context.Context) iter.Seq2[nfc.Event, error] { return events(ctx, d.nfc, d.nfcErr) }
	for i, serial := range []string{"A1", "B2", "B2", ""} {
		d.devices = append(d.devices, hid.Info{Path: fmt.Sprintf("/dev/hidraw%d", i), VendorID: 0x1050, ProductID: uint16(i), Product: "Key", Serial: serial})
	}
	d.readers = []nfc.Reader{{Name: "Reader 0"}, {Name: "Reader 1", Card: true}}
	return d
}

// plug puts a key behind a name.
func (d *desk) plug(t *testing.T, name string, person virtual.Person) {
	t.Helper()
	soft, err := virtual.New(virtual.Config{Presence: person})
	if err != nil {
		t.Fatal(err)
	}
	d.soft[name] = soft
}

func events[T any](ctx context.Context, source chan T, err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if err != nil {
			yield(zero, err)
			return
		}
		for {
			select {
			case e, ok := <-source:
				if !ok {
					yield(zero, errors.New("broken"))
					return
				}
				if !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				yield(zero, ctx.Err())
				return
			}
		}
	}
}

func TestListAndFind(t *testing.T) {
	d := newDesk(t)
	list, err := d.list(t.Context())
	if err != nil || len(list) != 5 || list[4].Name() != "Reader 1" || list[0].HID.Path != "/dev/hidraw0" {
		t.Fatalf("%v, %v", list, err)
	}
	for name, want := range map[string]string{"/dev/hidraw2": "/dev/hidraw2", "A1": "/dev/hidraw0", "Reader 1": "Reader 1"} {
		if k, err := d.find(t.Context(), name); err != nil || k.Name() != want {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	for name, want := range map[string]error{"B2": ErrAmbiguous, "C3": ErrNoKey, "": ErrNoKey, "Reader 0": ErrNoKey} {
		if _, err := d.find(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if s := list[0].String(); !strings.Contains(s, "/dev/hidraw0") || !strings.Contains(s, "1050:0000") || !strings.Contains(s, "A1") {
		t.Error(s)
	}
	if reflect.TypeFor[Key]().Comparable() {
		t.Error("two Keys of one key are not equal, but can be compared")
	}
	if list[4].String() != "Reader 1" || list[4].Serial() != "" || (Key{}).Name() != "" {
		t.Error(list[4])
	}
}

// One side that is not there is no problem; both are, and so is one that fails.
func TestOneSideMissing(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		hid, nfc error
		want     error
	}{
		{nil, nil, nil},
		{hid.ErrUnsupported, nil, nil},
		{nil, nfc.ErrUnsupported, nil},
		{nil, nfc.ErrNoService, nil},
		{hid.ErrUnsupported, nfc.ErrNoService, hid.ErrUnsupported},
		{hid.ErrUnsupported, nfc.ErrUnsupported, hid.ErrUnsupported},
		{broken, nil, broken},
		{nil, broken, broken},
		{hid.ErrUnsupported, broken, broken},
	} {
		d := newDesk(t)
		d.hidErr, d.nfcErr = tt.hid, tt.nfc
		list, err := d.list(t.Context())
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) || len(list) == 0 {
			t.Errorf("%v, %v: %v", tt.hid, tt.nfc, err)
		}
		if tt.want == nil || tt.hid == nil {
			continue // watching has no end
		}
		for _, err := range d.watch(t.Context()) {
			if !errors.Is(err, tt.want) {
				t.Errorf("watch %v, %v: %v", tt.hid, tt.nfc, err)
			}
		}
	}
}

func TestOpenAndChoose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		ctx := t.Context()
		if _, _, err := d.choose(ctx, nil); !errors.Is(err, ErrNoKey) || !errors.Is(err, nfc.ErrNotFIDO) {
			t.Errorf("none opens: %v", err)
		}
		d.plug(t, "/dev/hidraw1", virtual.TouchAfter(time.Hour))
		key, a, err := d.choose(ctx, nil)
		if err != nil || key.Name() != "/dev/hidraw1" {
			t.Fatalf("one opens: %v, %v", key, err)
		}
		a.Close()
		d.plug(t, "/dev/hidraw1", virtual.TouchAfter(time.Hour))
		d.plug(t, "Reader 1", virtual.TouchAfter(time.Second))
		key, a, err = d.choose(ctx, nil)
		if err != nil || key.Reader == nil {
			t.Fatalf("the one that is touched: %v, %v", key, err)
		}
		if _, err := a.GetInfo(ctx); err != nil {
			t.Error(err)
		}
		if _, err := d.soft["/dev/hidraw1"].Exchange(ctx, []byte{4}, nil); !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("the other one is open still: %v", err)
		}
		a.Close()
		for _, name := range []string{"/dev/hidraw1", "Reader 1"} {
			d.plug(t, name, virtual.Refuse)
		}
		if _, _, err := d.choose(ctx, nil); !errors.Is(err, ErrNoKey) || !errors.Is(err, ctap2.ErrOperationDenied) {
			t.Errorf("all declined: %v", err)
		}
		if _, err := d.open(ctx, Key{}, nil); !errors.Is(err, ErrNoKey) {
			t.Errorf("no key: %v", err)
		}
		gone, err := virtual.New(virtual.Config{Faults: virtual.NullMember})
		if err != nil {
			t.Fatal(err)
		}
		d.soft["/dev/hidraw0"] = gone
		if _, err := d.open(ctx, Key{HID: &d.devices[0]}, nil); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("a key that cannot be used: %v", err)
		}
		if _, err := gone.Exchange(ctx, []byte{4}, nil); !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("left open: %v", err)
		}
	})
}

// The keys among which one is chosen share an Interaction, which hears of each.
func TestChooseTouches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.plug(t, "/dev/hidraw0", virtual.TouchAfter(time.Hour))
		d.plug(t, "/dev/hidraw1", virtual.TouchAfter(time.Second))
		var mu sync.Mutex
		done, touches := 0, map[*ctap2.Authenticator]int{}
		_, a, err := d.choose(t.Context(), []ctap2.Option{ctap2.WithInteraction(ctap2.Interaction{
			Touch: func(r ctap2.TouchRequest) {
				mu.Lock()
				defer mu.Unlock()
				touches[r.Authenticator]++
			},
			TouchDone: func() {
				mu.Lock()
				defer mu.Unlock()
				done++
			},
		})})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if len(touches) != 2 || touches[a] != 1 || done != 2 {
			t.Errorf("touches %v, %d done", touches, done)
		}
	})
}

// Of a desk full of keys, some of which do not answer, the one that is touched is
// found in the time that one of them takes to open.
func TestChooseAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, touched, slow = 200, 137, 3 * time.Second
		d := newDesk(t)
		d.devices, d.readers = nil, nil
		for i := range n {
			path := fmt.Sprintf("/dev/hidraw%d", i)
			d.devices = append(d.devices, hid.Info{Path: path})
			if i%4 != 0 {
				d.plug(t, path, virtual.TouchAfter(time.Hour))
			}
		}
		d.soft[d.devices[touched].Path].SetPresence(virtual.TouchAfter(time.Second))
		open := d.openHID
		d.openHID = func(ctx context.Context, path string) (ctap2.Transport, error) {
			time.Sleep(slow)
			return open(ctx, path)
		}
		since := time.Now()
		key, a, err := d.choose(t.Context(), nil)
		if err != nil || key.Name() != d.devices[touched].Path {
			t.Fatalf("%v, %v", key, err)
		}
		if took := time.Since(since); took > slow+2*time.Second {
			t.Errorf("took %v", took)
		}
		a.Close()
		for path, soft := range d.soft {
			if _, err := soft.Exchange(t.Context(), []byte{4}, nil); !errors.Is(err, ctap2.ErrClosed) {
				t.Errorf("%s is open still: %v", path, err)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		go func() {
			d.hid <- hid.Event{Kind: hid.Arrival, Info: d.devices[0]}
			synctest.Wait() // each side's events keep their order, not both sides'
			d.nfc <- nfc.Event{Reader: d.readers[1], Inserted: true}
			synctest.Wait()
			d.hid <- hid.Event{Kind: hid.Removal, Info: d.devices[0]}
		}()
		var got []string
		for e, err := range d.watch(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, fmt.Sprint(e.Key.Name(), e.Arrived)); len(got) == 3 {
				break
			}
		}
		if want := []string{"/dev/hidraw0true", "Reader 1true", "/dev/hidraw0false"}; !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}

		// The end of ctx, and of USB.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		last := func() (err error) {
			n := 0
			for _, e := range d.watch(ctx) {
				err = e
				n++
			}
			if n != 1 {
				t.Errorf("%d events", n)
			}
			return err
		}
		if err := last(); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ctx = t.Context()
		close(d.hid)
		if err := last(); err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "broken") {
			t.Error(err)
		}
	})
}

// A smart card service that fails, in whatever way, takes its cards with it, and
// nothing else; when it is back, so are they.
func TestWatchWithoutService(t *testing.T) {
	for _, failure := range []error{nfc.ErrNoService, fs.ErrPermission, errors.New("broken")} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			since := time.Now()
			tries := 0
			d.watchNFC = func(ctx context.Context) iter.Seq2[nfc.Event, error] {
				return func(yield func(nfc.Event, error) bool) {
					tries++
					if tries != 2 { // when it is not back yet
						for _, name := range []string{"Reader 1", "Reader 2", "Reader 3"} {
							if !yield(nfc.Event{Reader: nfc.Reader{Name: name, Card: true}, Inserted: true}, nil) {
								return
							}
						}
						if !yield(nfc.Event{Reader: nfc.Reader{Name: "Reader 2"}}, nil) {
							return
						}
						select {
						case <-time.After(time.Minute):
						case <-ctx.Done():
						}
					}
					yield(nfc.Event{}, failure)
				}
			}
			go func() {
				time.Sleep(61 * time.Second)
				select {
				case d.hid <- hid.Event{Kind: hid.Arrival, Info: d.devices[0]}:
				case <-ctx.Done():
				}
			}()
			want := []string{
				"Reader 1 true", "Reader 2 true", "Reader 3 true", "Reader 2 false",
				"Reader 1 false", "Reader 3 false",
				"/dev/hidraw0 true",
				"Reader 1 true", "Reader 2 true", "Reader 3 true", "Reader 2 false",
			}
			var got []string
			for e, err := range d.watch(ctx) {
				if err != nil {
					t.Errorf("%v: %v", failure, err)
					break
				}
				if got = append(got, fmt.Sprint(e.Key.Name(), " ", e.Arrived)); len(got) == len(want) {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v: %q", failure, got)
			}
			// Each refusal is a line in the service's log.
			if took := time.Since(since) - time.Minute; (took > time.Minute) != (failure == fs.ErrPermission) {
				t.Errorf("%v: back after %v", failure, took)
			}
		})
	}
}

// The end of ctx is no removal.
func TestWatchEndsWithCards(t *testing.T) {
	for range 20 { // or it may be by chance
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go func() { d.nfc <- nfc.Event{Reader: d.readers[1], Inserted: true} }()
			for e, err := range d.watch(ctx) {
				if err == nil && !e.Arrived {
					t.Errorf("%v is gone", e.Key)
				}
			}
		})
	}
}

// A key is found again under another path, by its serial number or its model.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		moved := d.devices[0]
		moved.Path = "/dev/hidraw9"
		send := func(events ...hid.Event) {
			go func() {
				for _, e := range events {
					select {
					case d.hid <- e:
					case <-t.Context().Done():
					}
				}
			}()
		}
		arrival := func(i hid.Info) hid.Event { return hid.Event{Kind: hid.Arrival, Info: i} }
		removal := func(i hid.Info) hid.Event { return hid.Event{Kind: hid.Removal, Info: i} }
		key := Key{HID: &d.devices[0]}

		send(arrival(d.devices[0]), arrival(d.devices[1]), removal(d.devices[1]), removal(d.devices[0]), arrival(d.devices[1]), arrival(moved))
		if k, err := d.again(t.Context(), key, true); err != nil || k.Name() != "/dev/hidraw9" {
			t.Errorf("unplugged and plugged in again: %v, %v", k, err)
		}
		send(arrival(d.devices[1]), arrival(d.devices[0]))
		if k, err := d.again(t.Context(), key, false); err != nil || k.Name() != "/dev/hidraw0" {
			t.Errorf("there: %v, %v", k, err)
		}
		d.devices = d.devices[1:]
		send(arrival(moved))
		if k, err := d.again(t.Context(), key, true); err != nil || k.Name() != "/dev/hidraw9" {
			t.Errorf("gone already: %v, %v", k, err)
		}
		reader := Key{Reader: &d.readers[1]}
		go func() { d.nfc <- nfc.Event{Reader: d.readers[1], Inserted: true} }()
		if k, err := d.again(t.Context(), reader, false); err != nil || k.Reader == nil {
			t.Errorf("card: %v, %v", k, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.again(ctx, key, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("never: %v", err)
		}
		d.hidErr = errors.New("broken")
		if _, err := d.again(t.Context(), key, true); !errors.Is(err, d.hidErr) {
			t.Error(err)
		}
	})
}

// What this machine has, whatever that is, is listed without a failure that is
// not explained.
func TestThisMachine(t *testing.T) {
	list, err := List(t.Context())
	t.Logf("%v, %v", list, err)
	if err != nil && len(list) == 0 && err.Error() == "" {
		t.Error("an error without a text")
	}
	if _, err := Find(t.Context(), "no such key"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range Watch(ctx) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if _, err := Again(ctx, Key{HID: &hid.Info{}}, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Key{HID: &hid.Info{Path: "/nowhere"}}); err == nil {
		t.Error("opened nothing")
	}
	if _, err := Open(t.Context(), Key{Reader: &nfc.Reader{Name: "none"}}); err == nil {
		t.Error("opened nothing")
	}
}
