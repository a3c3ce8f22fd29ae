package ctap2_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A touch means "this one", on keys of every age.
func TestSelection(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config virtual.Config
		sent   string
	}{
		{"2.3", virtual.Config{}, "0b"},
		{"2.1", virtual.Config{Level: virtual.CTAP21, PIN: "271828"}, "0b"},
		{"2.0, PIN set", virtual.Config{Level: virtual.CTAP20, PIN: "271828"}, "01"},
		{"2.0, no PIN set", virtual.Config{Level: virtual.CTAP20}, "01"},
		{"2.0, no PIN at all", virtual.Config{Level: virtual.CTAP20, NoClientPIN: true}, "01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := sit(t, tt.config)
				if err := d.Selection(t.Context()); err != nil {
					t.Error(err)
				}
				d.expect(tt.sent)
				if len(d.touches) != 1 || d.touches[0] != (ctap2.TouchRequest{Authenticator: d.Authenticator, For: ctap2.TouchSelection}) || d.ended != 1 {
					t.Errorf("touches %v", d.touches)
				}
				d.soft.SetPresence(virtual.Refuse)
				if err := d.Selection(t.Context()); !errors.Is(err, ctap2.ErrOperationDenied) {
					t.Errorf("refused: %v", err)
				}
				d.soft.SetPresence(virtual.Ignore)
				since := time.Now()
				err := d.Selection(t.Context())
				if !errors.Is(err, ctap2.ErrUserActionTimeout) && !errors.Is(err, ctap2.ErrOperationDenied) || time.Since(since) < 10*time.Second {
					t.Errorf("ignored: %v", err)
				}
				if _, err := d.GetAssertion(t.Context(), func() *ctap2.GetAssertionRequest {
					r := signIn()
					r.RPID, r.Silent = "touch.invalid", true
					return r
				}()); !errors.Is(err, ctap2.ErrNoCredentials) {
					t.Errorf("the touch left a credential behind: %v", err)
				}
			})
		})
	}
}

// A key may claim 2.1 and not know the command.
func TestSelectionUnknown(t *testing.T) {
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"clientPin": true}})
	c.on(0x01, func([]byte) []byte { return []byte{byte(ctap2.ErrPINAuthInvalid)} })
	if err := open(t, c).Selection(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(c.messages); n != 3 {
		t.Errorf("%d messages", n)
	}
	c = newCanned(t, members{1: []string{"FIDO_2_1_PRE"}, 3: make([]byte, 16), 4: map[string]bool{"clientPin": true}, 6: []int{7}})
	if err := open(t, c).Selection(t.Context()); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("no protocol that we know: %v", err)
	}
}

// Quirk 39 on old keys: nothing matches, one touch all the same.
func TestQuirk39OldKeys(t *testing.T) {
	d := sit(t, virtual.Config{Level: virtual.CTAP20, PIN: "271828"}, "271828")
	request := signIn()
	allow(randomIDs(1, 300)...)(request)
	request.UserVerification = ctap2.Discouraged
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Error(err)
	}
	if len(d.touches) != 1 {
		t.Errorf("%d touches", len(d.touches))
	}
	d.soft.SetPresence(virtual.Refuse)
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrOperationDenied) {
		t.Errorf("the touch refused: %v", err)
	}
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{PIN: "271828"}, "271828")
		d.register(resident)
		d.touches = nil
		if err := d.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(d.touches) != 1 || d.touches[0].For != ctap2.TouchReset {
			t.Errorf("touches %v", d.touches)
		}
		d.sent()
		if _, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("credential survived: %v", err)
		}
		d.expect("04", "02", "0b") // what the key is may have changed: asked again, once
		if d.Info().Options[ctap2.OptionClientPIN] {
			t.Error("PIN survived")
		}
		time.Sleep(11 * time.Second)
		if err := d.Reset(t.Context()); !errors.Is(err, ctap2.ErrNotAllowed) {
			t.Errorf("long after it was plugged in: %v", err)
		}
		d.replug()
		if err := d.Reset(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCommand(t *testing.T) {
	d := sit(t, virtual.Config{})
	reply, err := d.Command(t.Context(), 0x04, nil)
	if err != nil || len(reply) == 0 {
		t.Errorf("%x, %v", reply, err)
	}
	d.expect("04")
	if reply, err := d.Command(t.Context(), 0x0B, nil); err != nil || len(reply) != 0 {
		t.Errorf("selection: %x, %v", reply, err)
	}
	var refused *ctap2.Error
	if _, err := d.Command(t.Context(), 0x77, []byte{0xa0}); !errors.As(err, &refused) || refused.Command != 0x77 || refused.Status != ctap2.ErrInvalidCommand {
		t.Errorf("%v", err)
	}
	if _, err := d.Command(t.Context(), 0x02, []byte{0xff}); !errors.Is(err, ctap2.ErrInvalidCBOR) {
		t.Errorf("%v", err)
	}
	c := newCanned(t, basicInfo())
	c.on(0x50, func([]byte) []byte { return []byte{0, 0xff} })
	if _, err := open(t, c).Command(t.Context(), 0x50, nil); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("%v", err)
	}
	if d.Transport() == nil {
		t.Error("no transport")
	}
}

// Quirk 9: a key whose capability bits claim CTAP2, and that does not know
// getInfo, is one without CTAP2; as is one whose bits deny it.
func TestQuirk09NotCTAP2(t *testing.T) {
	c := &canned{replies: map[byte]func([]byte) []byte{}}
	if _, err := ctap2.Open(t.Context(), c); !errors.Is(err, ctap2.ErrUnsupported) || !errors.Is(err, ctap2.ErrInvalidCommand) {
		t.Error(err)
	}
	soft, err := virtual.New(virtual.Config{NoU2F: true})
	if err != nil {
		t.Fatal(err)
	}
	defer soft.Close()
	usb := soft.PlugIn(virtual.USBConfig{Faults: virtual.USBFaults{FlipCapabilities: byte(hid.CapabilityCBOR)}})
	defer usb.Unplug()
	conn, err := usb.Open()
	if err != nil {
		t.Fatal(err)
	}
	device, err := hid.New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, err := ctap2.Open(t.Context(), device); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("bits that deny CTAP2: %v", err)
	}
}

// A reset takes the PIN with it: it is not remembered any longer.
func TestResetForgetsThePIN(t *testing.T) {
	info := basicInfo()
	info[4], info[6] = map[string]bool{"clientPin": true, "pinUvAuthToken": true}, []int{2}
	c := newCanned(t, info)
	withTokens(t, c, pin.Two)
	c.on(ctap.CmdReset, func([]byte) []byte { return []byte{0} })
	asked := 0
	key := open(t, c, ctap2.WithInteraction(ctap2.Interaction{PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
		asked++
		return pin.FromString(benchPIN), nil
	}}))
	for i, reset := range []bool{false, true, false} {
		if reset {
			if err := key.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for range 2 {
			if _, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment}); err != nil {
				t.Fatal(err)
			}
		}
		if want := 1 + i/2; asked != want {
			t.Errorf("asked %d times, want %d", asked, want)
		}
	}
}
