// Package keys finds the security keys of this machine, whichever way they are
// attached, and opens them.
//
// [List] tells what is there, [Find] looks one up by the name that a person
// gives, [Open] opens it, and [Watch] tells what comes and goes:
//
//	key, err := keys.Find(ctx, "/dev/hidraw3") // or a serial number, or a reader's name
//	authenticator, err := keys.Open(ctx, key, ctap2.WithInteraction(prompt))
//
// Where several keys are plugged in and nobody has said which, [Choose] opens
// them all, and the one that is touched wins.
//
// A key that was unplugged, for a reset say, is found again by [Again].
//
// The package brings both transports along: on Linux the program is dynamically
// linked then, as package nfc explains. A program that knows its keys to be on
// USB imports package hid alone.
package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// Errors of finding a key.
var (
	// ErrNoKey: there is no key, none of that name, or none is left to choose.
	ErrNoKey = errors.New("keys: no security key")
	// ErrAmbiguous: the name is that of several keys.
	ErrAmbiguous = errors.New("keys: several security keys have this name")
)

// A Key is a security key that is attached to this machine. Exactly one of its
// fields is set. It cannot be compared: what tells it from the others that are
// attached, in a map for instance, is its name.
type Key struct {
	_ [0]func() // two Keys of one security key would not be equal

	HID *hid.Info
	// Reader is a smart card reader with a card in it. Whether that is a FIDO
	// card shows when it is opened: asking each card disturbs other programs.
	Reader *nfc.Reader
}

// Name returns what Find takes: the path of the device, or the name of the
// reader.
func (k Key) Name() string {
	switch {
	case k.HID != nil:
		return k.HID.Path
	case k.Reader != nil:
		return k.Reader.Name
	}
	return ""
}

// Serial returns the serial number, empty if the key does not tell.
func (k Key) Serial() string {
	if k.HID != nil {
		return k.HID.Serial
	}
	return ""
}

// String returns the name, and what the key says it is.
func (k Key) String() string {
	if k.HID == nil {
		return k.Name()
	}
	s := fmt.Sprintf("%s: %s %s (%04x:%04x)", k.HID.Path, k.HID.Manufacturer, k.HID.Product, k.HID.VendorID, k.HID.ProductID)
	if k.HID.Serial != "" {
		s += " " + k.HID.Serial
	}
	return s
}

// same reports whether both are, as far as can be told without opening them,
// the same key, perhaps plugged in again: by serial number if it has one, by
// model if not; a card by its reader.
func (k Key) same(l Key) bool {
	switch {
	case k.HID != nil && l.HID != nil:
		return k.HID.VendorID == l.HID.VendorID && k.HID.ProductID == l.HID.ProductID && k.HID.Serial == l.HID.Serial
	case k.Reader != nil && l.Reader != nil:
		return k.Reader.Name == l.Reader.Name
	}
	return false
}

// machine is what this package needs of the transports.
type machine struct {
	listHID     func(context.Context) ([]hid.Info, error)
	listReaders func(context.Context) ([]nfc.Reader, error)
	openHID     func(ctx context.Context, path string) (ctap2.Transport, error)
	openReader  func(ctx context.Context, name string) (ctap2.Transport, error)
	watchHID    func(context.Context) iter.Seq2[hid.Event, error]
	watchNFC    func(context.Context) iter.Seq2[nfc.Event, error]
}

var thisMachine = machine{
	listHID:     hid.List,
	listReaders: nfc.Readers,
	openHID:     func(ctx context.Context, path string) (ctap2.Transport, error) { return hid.Open(ctx, path) },
	openReader:  func(ctx context.Context, name string) (ctap2.Transport, error) { return nfc.Open(ctx, name) },
	watchHID:    hid.Watch,
	watchNFC:    nfc.Watch,
}

// List returns the keys on USB and the readers with a card in them. It opens
// none. It is no error if there are none, nor if only one of the two can be
// listed because the build lacks the other or no smart card service runs. With
// any other error, List still returns what it found.
func List(ctx context.Context) ([]Key, error) { return thisMachine.list(ctx) }

func (m *machine) list(ctx context.Context) ([]Key, error) {
	usb, errHID := m.listUSB(ctx)
	cards, errNFC := m.listCards(ctx)
	return append(usb, cards...), problem(errHID, errNFC)
}

func (m *machine) listUSB(ctx context.Context) (keys []Key, err error) {
	devices, err := m.listHID(ctx)
	for _, d := range devices {
		keys = append(keys, Key{HID: &d})
	}
	return keys, err
}

func (m *machine) listCards(ctx context.Context) (keys []Key, err error) {
	readers, err := m.listReaders(ctx)
	for _, r := range readers {
		if r.Card {
			keys = append(keys, Key{Reader: &r})
		}
	}
	return keys, err
}

// problem joins what went wrong on both sides: that one of them is not there at
// all is no problem as long as the other is.
func problem(errHID, errNFC error) error {
	noHID := errors.Is(errHID, hid.ErrUnsupported)
	noNFC := errors.Is(errNFC, nfc.ErrUnsupported) || errors.Is(errNFC, nfc.ErrNoService)
	switch {
	case noHID && noNFC:
	case noHID:
		errHID = nil
	case noNFC:
		errNFC = nil
	}
	return errors.Join(errHID, errNFC)
}

// Find returns the key with that path, reader name or serial number. It refuses
// a name that no key has with ErrNoKey, and the serial number of several with
// ErrAmbiguous.
func Find(ctx context.Context, name string) (Key, error) { return thisMachine.find(ctx, name) }

func (m *machine) find(ctx context.Context, name string) (Key, error) {
	keys, err := m.list(ctx)
	var found []Key
	for _, k := range keys {
		if k.Name() == name {
			return k, nil
		}
		if name != "" && k.Serial() == name {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Key{}, fmt.Errorf("%w: %q", ErrAmbiguous, name)
	}
	return Key{}, errors.Join(fmt.Errorf("%w: %q", ErrNoKey, name), err)
}

// Open opens a key. Errors are those of hid.Open or nfc.Open, and of ctap2.Open.
func Open(ctx context.Context, key Key, options ...ctap2.Option) (*ctap2.Authenticator, error) {
	return thisMachine.open(ctx, key, options)
}

func (m *machine) open(ctx context.Context, key Key, options []ctap2.Option) (*ctap2.Authenticator, error) {
	var device ctap2.Transport
	var err error
	switch {
	case key.HID != nil:
		device, err = m.openHID(ctx, key.HID.Path)
	case key.Reader != nil:
		device, err = m.openReader(ctx, key.Reader.Name)
	default:
		err = ErrNoKey
	}
	if err != nil {
		return nil, err
	}
	authenticator, err := ctap2.Open(ctx, device, options...)
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return authenticator, nil
}

// Choose opens the one key that is attached, or, of several, the one that is
// touched first (see [Select]); the others are closed again. Keys that cannot
// be opened, such as cards that are not FIDO cards, do not count. If none can,
// the error wraps ErrNoKey and says why.
//
// The keys share the options, an Interaction among them: its Touch and TouchDone
// are called once for each key, at the same time, and must take care of what they
// share; TouchRequest.Authenticator tells which key it is. A program that calls
// keys by their names opens each by [Open], with an Interaction of its own, and
// calls Select.
func Choose(ctx context.Context, options ...ctap2.Option) (Key, *ctap2.Authenticator, error) {
	return thisMachine.choose(ctx, options)
}

func (m *machine) choose(ctx context.Context, options []ctap2.Option) (Key, *ctap2.Authenticator, error) {
	listed, err := m.list(ctx)
	// All at once: one that does not answer is no reason for the others to wait.
	opened, errs := make([]*ctap2.Authenticator, len(listed)), make([]error, len(listed))
	var opening sync.WaitGroup
	for i, k := range listed {
		opening.Go(func() { opened[i], errs[i] = m.open(ctx, k, options) })
	}
	opening.Wait()
	problems := []error{ErrNoKey, err}
	var keys []Key
	var open []*ctap2.Authenticator
	for i, k := range listed {
		if errs[i] != nil {
			problems = append(problems, fmt.Errorf("%s: %w", k.Name(), errs[i]))
			continue
		}
		keys, open = append(keys, k), append(open, opened[i])
	}
	if len(open) == 0 {
		return Key{}, nil, errors.Join(problems...)
	}
	chosen, err := Select(ctx, open)
	for i, a := range open {
		if err != nil || i != chosen {
			_ = a.Close()
		}
	}
	if err != nil {
		return Key{}, nil, err
	}
	return keys[chosen], open[chosen], nil
}

// An Event is the arrival or the removal of a key.
type Event struct {
	Key     Key
	Arrived bool // or else removed
}

// Pauses before the smart card service is tried again.
const (
	servicePause = 3 * time.Second
	refusalPause = time.Minute // each refusal is a line in the service's log
)

// Watch returns what comes and goes on USB and in smart card readers, beginning
// with what is there. The sequence ends when the loop over it does, or with an
// error, which comes last: that of ctx when ctx ends, or one of hid.Watch.
// Nothing is left running.
//
// Keys on USB are watched also where cards cannot be: in a build without PC/SC,
// and where no smart card service runs, or it refuses this user, or it fails;
// [nfc.Readers] tells which. Cards that were there are removed then, and come
// again with the service, which is tried every three seconds, after a refusal
// every minute. In a build without HID support an error of nfc.Watch ends the
// sequence.
//
// A loop that is given its sequence as an argument can be tested with another
// one, of Events that the test makes up.
func Watch(ctx context.Context) iter.Seq2[Event, error] { return thisMachine.watch(ctx) }

func (m *machine) watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		inner, cancel := context.WithCancel(ctx)
		events := make(chan Event)
		noUSB := make(chan struct{})
		var errHID, errNFC error
		var watchers sync.WaitGroup
		// pass returns with what error the sequence ended.
		pass := func(sequence iter.Seq2[Event, error]) error {
			for e, err := range sequence {
				if err != nil {
					return err
				}
				select {
				case events <- e:
				case <-inner.Done():
					return nil
				}
			}
			return nil
		}
		watchers.Go(func() {
			if errHID = pass(m.watchUSB(inner)); errors.Is(errHID, hid.ErrUnsupported) {
				close(noUSB)
			} else {
				cancel()
			}
		})
		watchers.Go(func() { errNFC = pass(m.watchCards(inner, noUSB)) })
		go func() {
			watchers.Wait()
			close(events)
		}()
		defer func() { // also where yield does not return
			cancel()
			for range events {
			}
		}()
		for e := range events {
			if !yield(e, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Event{}, fmt.Errorf("keys: %w", context.Cause(ctx)))
			return
		}
		if errors.Is(errNFC, context.Canceled) { // the end of USB was its end
			errNFC = nil
		}
		yield(Event{}, problem(errHID, errNFC))
	}
}

func (m *machine) watchUSB(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for e, err := range m.watchHID(ctx) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !yield(Event{Key{HID: &e.Info}, e.Kind == hid.Arrival}, nil) {
				return
			}
		}
	}
}

// watchCards tries again where nfc.Watch fails, unless the build has no PC/SC or
// alone is closed, which says that there is nothing else to watch.
func (m *machine) watchCards(ctx context.Context, alone <-chan struct{}) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			var there []Key
			var failure error
			for e, err := range m.watchNFC(ctx) {
				if failure = err; err != nil {
					break
				}
				there = slices.DeleteFunc(there, func(k Key) bool { return k.Name() == e.Name })
				key := Key{Reader: &e.Reader}
				if e.Inserted {
					there = append(there, key)
				}
				if !yield(Event{key, e.Inserted}, nil) {
					return
				}
			}
			if ctx.Err() != nil || errors.Is(failure, nfc.ErrUnsupported) {
				yield(Event{}, failure)
				return
			}
			for _, key := range there {
				if !yield(Event{Key: key}, nil) {
					return
				}
			}
			pause := servicePause
			if errors.Is(failure, fs.ErrPermission) {
				pause = refusalPause
			}
			select {
			case <-time.After(pause):
				continue
			case <-alone:
			case <-ctx.Done():
				failure = fmt.Errorf("keys: %w", context.Cause(ctx))
			}
			yield(Event{}, failure)
			return
		}
	}
}

// Again waits until the same key is there, and returns it as it is now: under
// another path perhaps. With gone, it waits for its removal first, as for a key
// that is to be unplugged and plugged in again. The same key is one of the same
// model with the same serial number; without a serial number it is one of the
// same model, and a card is the card in the same reader. Other keys of the same
// model that are attached when Again is called are not taken for it.
//
// The error is that of ctx when ctx ends, or of listing or watching the keys that
// are attached as this one is: what is wrong with cards is no matter of a key on
// USB. A smart card service that does not run, or fails meanwhile, is waited for;
// its cards count as removed. A zero Key is refused with ErrNoKey.
func Again(ctx context.Context, key Key, gone bool) (Key, error) {
	return thisMachine.again(ctx, key, gone)
}

func (m *machine) again(ctx context.Context, key Key, gone bool) (Key, error) {
	var list func(context.Context) ([]Key, error)
	var watch iter.Seq2[Event, error]
	switch {
	case key.HID != nil:
		list, watch = m.listUSB, m.watchUSB(ctx)
	case key.Reader != nil:
		list = func(ctx context.Context) ([]Key, error) {
			cards, err := m.listCards(ctx)
			return cards, problem(nil, err) // Windows stops its service with the last reader
		}
		watch = m.watchCards(ctx, nil)
	default:
		return Key{}, ErrNoKey
	}
	listed, err := list(ctx)
	if err != nil {
		return Key{}, err
	}
	there := slices.ContainsFunc(listed, func(k Key) bool { return k.same(key) && k.Name() == key.Name() })
	gone = gone && there // it may be gone already
	// Others of the same model may be attached beside it. One that has its serial
	// number is it, though, unless it is where it was.
	others := make(map[string]bool)
	for _, k := range listed {
		if k.same(key) && k.Name() != key.Name() && (there || k.Serial() == "") {
			others[k.Name()] = true
		}
	}
	var missed atomic.Bool
	if gone {
		defer lookFor(ctx, key, list, &missed)()
	}
	for e, err := range watch {
		switch {
		case err != nil:
			return Key{}, err
		case !e.Key.same(key):
		case others[e.Key.Name()]:
			if !e.Arrived {
				delete(others, e.Key.Name()) // whatever comes there next may be it
			}
		case !e.Arrived:
			gone = gone && e.Key.Name() != key.Name()
		case !gone || missed.Load():
			return e.Key, nil
		}
	}
	return Key{}, ErrNoKey
}

// lookFor looks whether a key is still there, and says in missed when it is
// not: a key that goes before the watch has begun is a removal that nobody
// reports. The function it returns ends that.
func lookFor(ctx context.Context, key Key, list func(context.Context) ([]Key, error), missed *atomic.Bool) (end func()) {
	const interval = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for !missed.Load() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			listed, err := list(ctx)
			missed.Store(err == nil && !slices.ContainsFunc(listed, func(k Key) bool { return k.same(key) && k.Name() == key.Name() }))
		}
	})
	return func() {
		cancel()
		looking.Wait()
	}
}
