package keys

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid"
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
