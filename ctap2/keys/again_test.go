package keys

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// Of two keys of one model without a serial number, the one that stays where it
// is is not the one that was unplugged, even if that was gone when Again began.
func TestAgainBesideATwin(t *testing.T) {
	for name, serial := range map[string]string{"without a serial number": "", "with the same one": "1"} {
		for _, gone := range []bool{false, true} {
			if gone && serial != "" {
				continue // then the other one is it, as far as can be told
			}
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t)
				one := hid.Info{Path: "/dev/hidraw0", VendorID: 1, ProductID: 2, Serial: serial}
				twin, moved := one, one
				twin.Path, moved.Path = "/dev/hidraw1", "/dev/hidraw2"
				events := []hid.Event{{Kind: hid.Arrival, Info: twin}}
				d.devices = []hid.Info{twin}
				if !gone {
					d.devices = append(d.devices, one)
					events = append(events, hid.Event{Kind: hid.Arrival, Info: one}, hid.Event{Kind: hid.Removal, Info: one})
				}
				events = append(events, hid.Event{Kind: hid.Arrival, Info: moved})
				go func() {
					for _, e := range events {
						select {
						case d.hid <- e:
						case <-t.Context().Done():
						}
					}
				}()
				if k, err := d.again(t.Context(), Key{HID: &one}, true); err != nil || k.Name() != moved.Path {
					t.Errorf("%s, gone %v: %v, %v", name, gone, k, err)
				}
			})
		}
	}
}

// A key that is pulled out between the look at what is there and the beginning
// of the watch is gone, although nobody reports a removal.
func TestAgainGoneInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		one := hid.Info{Path: "/dev/hidraw0", VendorID: 1, ProductID: 2, Serial: "1"}
		looked := false
		d.listHID = func(context.Context) ([]hid.Info, error) {
			if looked {
				return nil, nil
			}
			looked = true
			return []hid.Info{one}, nil
		}
		go func() {
			time.Sleep(time.Second)
			d.hid <- hid.Event{Kind: hid.Arrival, Info: one}
		}()
		if k, err := d.again(t.Context(), Key{HID: &one}, true); err != nil || k.Name() != one.Path {
			t.Errorf("%v, %v", k, err)
		}
	})
}

// What is wrong with cards does not matter to a key on USB, nor the other way
// round.
func TestAgainBesideWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.nfcErr = fs.ErrPermission
		go func() { d.hid <- hid.Event{Kind: hid.Arrival, Info: d.devices[0]} }()
		if k, err := d.again(t.Context(), Key{HID: &d.devices[0]}, false); err != nil || k.Name() != "/dev/hidraw0" {
			t.Errorf("on USB: %v, %v", k, err)
		}
		d.hidErr, d.nfcErr = fs.ErrPermission, nil
		card := Key{Reader: &d.readers[1]}
		go func() { d.nfc <- nfc.Event{Reader: d.readers[1], Inserted: true} }()
		if k, err := d.again(t.Context(), card, false); err != nil || k.Name() != "Reader 1" {
			t.Errorf("a card: %v, %v", k, err)
		}
		d.nfcErr = fs.ErrPermission
		if _, err := d.again(t.Context(), card, false); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a card that is refused: %v", err)
		}
		if _, err := d.again(t.Context(), Key{}, false); !errors.Is(err, ErrNoKey) {
			t.Errorf("no key: %v", err)
		}
	})
}

// Windows stops its service with the last reader, and starts it with the next.
func TestAgainAfterTheLastReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		card := d.readers[1]
		d.readers, d.nfcErr = nil, nfc.ErrNoService
		since := time.Now()
		d.watchNFC = func(ctx context.Context) iter.Seq2[nfc.Event, error] {
			if time.Since(since) < time.Minute {
				return events(ctx, d.nfc, nfc.ErrNoService)
			}
			return events(ctx, d.nfc, nil)
		}
		go func() { d.nfc <- nfc.Event{Reader: card, Inserted: true} }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if k, err := d.again(ctx, Key{Reader: &card}, true); err != nil || k.Name() != card.Name {
			t.Errorf("%v, %v", k, err)
		}
		if _, err := d.again(ctx, Key{Reader: &card}, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("never: %v", err)
		}
		d.watchNFC = func(ctx context.Context) iter.Seq2[nfc.Event, error] { return events(ctx, d.nfc, nfc.ErrUnsupported) }
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := d.again(ctx, Key{Reader: &card}, true); !errors.Is(err, nfc.ErrUnsupported) {
			t.Errorf("in a build without PC/SC: %v", err)
		}
	})
}
