package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// A session is one key, opened for a command.
type session struct {
	*ctap2.Authenticator
	name string

	p       *program
	key     keys.Key // of a real one
	virtual *virtual.Authenticator
	usb     *virtual.USB // the port that the virtual one is in
}

// open opens the key that the command line chooses.
func (p *program) open(ctx context.Context) (*session, error) {
	s := &session{p: p}
	p.choosing = false
	switch {
	case p.playing != nil:
		s.name = "recording"
		return s, s.attach(ctx, p.playing)
	case p.virtual != "":
		s.name = p.virtual
		return s.openVirtual(ctx)
	}
	var a *ctap2.Authenticator
	var err error
	if p.device != "" {
		if s.key, err = keys.Find(ctx, p.device); err == nil {
			a, err = keys.Open(ctx, s.key, p.options()...)
		}
	} else {
		s.key, a, err = keys.Choose(ctx, p.options()...)
	}
	if err != nil {
		return nil, err
	}
	s.name = s.key.Name()
	return s, s.take(ctx, a)
}

func (p *program) options() []ctap2.Option {
	return []ctap2.Option{ctap2.WithInteraction(p.interaction())}
}

// take makes the session one with an open key. If it is to be traced, it is
// opened once more, behind what traces it.
func (s *session) take(ctx context.Context, a *ctap2.Authenticator) error {
	if s.p.wrap == nil {
		s.Authenticator = a
		return nil
	}
	return s.attach(ctx, a.Transport())
}

// attach opens what is behind a transport, which is closed if that fails.
func (s *session) attach(ctx context.Context, t ctap2.Transport) error {
	if s.p.wrap != nil {
		t = s.p.wrap(t)
	}
	a, err := ctap2.Open(ctx, t, s.p.options()...)
	if err != nil {
		return errors.Join(err, t.Close())
	}
	s.Authenticator = a
	return nil
}

// openVirtual reads the software key, or makes it, and puts it into a port.
func (s *session) openVirtual(ctx context.Context) (*session, error) {
	var config virtual.Config
	for _, p := range virtual.Profiles() {
		if p.String() == s.p.profile {
			config = p.Config()
		}
	}
	config.Path = s.p.virtual
	people[s.p.person](&config)
	var err error
	s.virtual, err = virtual.New(config)
	switch {
	case errors.Is(err, fs.ErrNotExist): // the file itself would be created
		return nil, fmt.Errorf("%w: the folder %s does not exist", errNoFolder, filepath.Dir(config.Path))
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errVirtual, err)
	}
	s.usb = s.virtual.PlugIn(virtual.USBConfig{})
	if err := s.openPort(ctx); err != nil {
		return nil, errors.Join(err, s.virtual.Close())
	}
	return s, nil
}

func (s *session) openPort(ctx context.Context) error {
	conn, err := s.usb.Open()
	if err != nil {
		return err
	}
	device, err := hid.New(ctx, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return s.attach(ctx, device)
}

// method is how to verify the user where the command can say it: a PIN that was
// given goes before fingers, which nobody may be there to have read.
func (s *session) method() ctap2.Method {
	if s.p.hasPINs() && s.Info().Options[ctap2.OptionClientPIN] {
		return ctap2.PINMethod
	}
	return ctap2.AnyMethod
}

// given obtains a token with a PIN that was given. Without one it is nil: commands
// then verify the user as they need it.
func (s *session) given(ctx context.Context, permissions ctap2.Permission, rpID string) (*ctap2.Token, error) {
	if s.method() != ctap2.PINMethod {
		return nil, nil
	}
	return s.Token(ctx, &ctap2.TokenRequest{Permissions: permissions, RPID: rpID, Method: ctap2.PINMethod})
}

// close closes what is open: after a replug that failed, not the key itself.
func (s *session) close() (err error) {
	if s.Authenticator != nil {
		err = s.Close()
	}
	if s.virtual != nil {
		err = errors.Join(err, s.virtual.Close())
	}
	return err
}

// replug has the person take the key away and put it back, and opens it again.
func (s *session) replug(ctx context.Context) error {
	err := s.Close()
	s.Authenticator = nil
	if err != nil {
		return err
	}
	switch {
	case s.virtual != nil:
		s.p.err.printf("The software key is unplugged and plugged in again.\n")
		s.usb.Unplug()
		s.usb.PlugIn()
		return s.openPort(ctx)
	case s.key.Reader != nil:
		s.p.err.printf("Lift the key from the reader, and put it back.\n")
	default:
		s.p.err.printf("Unplug the key, and plug it in again.\n")
	}
	if s.key, err = keys.Again(ctx, s.key, true); err != nil {
		return err
	}
	a, err := keys.Open(ctx, s.key, s.p.options()...)
	if err != nil {
		return err
	}
	return s.take(ctx, a)
}

// people are who can touch the software key.
var people = map[string]func(*virtual.Config){
	"ready": func(c *virtual.Config) { c.Presence = virtual.TouchFor(longTouch) },
	"slow": func(c *virtual.Config) {
		c.Presence, c.Verification = virtual.TouchAfter(3*time.Second), virtual.TouchAfter(3*time.Second)
		c.Finger = func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
			select {
			case <-time.After(time.Second):
				return virtual.SampleGood
			case <-ctx.Done():
				return virtual.SampleNoUserActivity
			}
		}
	},
	"clumsy": func(c *virtual.Config) {
		c.Finger = virtual.Samples(virtual.SampleTooFast, virtual.SampleGood, virtual.SampleTooLeft, virtual.SampleGood)
	},
	"unwilling": func(c *virtual.Config) { c.Presence, c.Verification = virtual.Refuse, virtual.Refuse },
	"absent": func(c *virtual.Config) {
		c.Presence, c.Verification = virtual.Ignore, virtual.Ignore
		c.Finger = func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
			<-ctx.Done()
			return virtual.SampleNoUserActivity
		}
	},
}

// longTouch is how long somebody touches a key that asks for a long touch.
const longTouch = 5 * time.Second

func personNames() []string { return []string{"ready", "slow", "clumsy", "unwilling", "absent"} }

// defaultProfile has something for each command.
var defaultProfile = virtual.ProfileCTAP23.String()

func profileNames() []string {
	var names []string
	for _, p := range virtual.Profiles() {
		names = append(names, p.String())
	}
	return names
}

// deviceNames are the values for --device.
func (p *program) deviceNames(ctx context.Context) []string {
	attached, _ := keys.List(ctx)
	var names []string
	for _, k := range attached {
		names = append(names, k.Name())
		if k.Serial() != "" {
			names = append(names, k.Serial())
		}
	}
	return names
}

// attachedKey is what the list shows of a key, before it is opened.
func attachedKey(k keys.Key) keyResult {
	r := keyResult{Name: k.Name(), Serial: k.Serial(), Transport: "nfc", Versions: []string{}}
	if d := k.HID; d != nil {
		r.Transport = strings.ToLower(d.Bus.String())
		r.Manufacturer, r.Product = d.Manufacturer, d.Product
		r.VendorID, r.ProductID = d.VendorID, d.ProductID
	}
	return r
}

// cards says why cards cannot be seen; nil if they can.
func cards(ctx context.Context) error {
	_, err := nfc.Readers(ctx)
	return err
}

// list puts words in a row.
func list(words []string) string { return strings.Join(words, ", ") }
