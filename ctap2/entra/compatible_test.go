package entra_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

func TestCompatible(t *testing.T) {
	all := []string{entra.RuleFIDO2, entra.RuleResidentKey, entra.RuleUserVerification, entra.RuleHMACSecret}
	for name, test := range map[string]struct {
		config virtual.Config
		broken []string
		advice []string // advice that is not met
	}{
		"CTAP 2.3":         {virtual.Config{}, nil, nil},
		"CTAP 2.0":         {virtual.ProfileCTAP20.Config(), nil, []string{"credProtect", "credential management", "setMinPINLength", "minPinLength", "PIN/UV auth protocol two"}},
		"CTAP 2.1":         {virtual.ProfileCTAP21.Config(), nil, nil},
		"enterprise":       {virtual.ProfileEnterprise.Config(), nil, nil},
		"preview":          {virtual.ProfileCTAP21PRE.Config(), nil, []string{"credential management", "fingerprint enrolment", "setMinPINLength", "minPinLength", "PIN/UV auth protocol two"}},
		"nothing at all":   {virtual.Config{NoResidentKeys: true, NoClientPIN: true, Extensions: []string{}}, all[1:], []string{"credProtect", "credential management", "setMinPINLength", "minPinLength", "PIN/UV auth protocol two"}},
		"fingerprint only": {virtual.Config{NoClientPIN: true, BuiltInUV: virtual.UVNotConfigured}, nil, nil},
		"EdDSA only":       {virtual.Config{Algorithms: []cose.Algorithm{cose.EdDSA}}, nil, []string{"ES256 or RS256"}},
		"no attestation":   {virtual.Config{Attestation: virtual.AttestationNone}, nil, []string{"packed attestation"}},
	} {
		t.Run(name, func(t *testing.T) {
			device, err := virtual.New(test.config)
			if err != nil {
				t.Fatal(err)
			}
			key := openDevice(t, device)
			c := entra.Compatible(key.Info())
			var broken, advice []string
			for _, f := range c.Findings {
				if f.Evidence == "" || f.For == "" {
					t.Errorf("%+v", f)
				}
				if f.Verdict != entra.NotMet {
					continue
				}
				if f.Required {
					broken = append(broken, f.Rule)
				} else {
					advice = append(advice, f.Rule)
				}
			}
			if !slices.Equal(broken, test.broken) || test.advice != nil && !slices.Equal(advice, test.advice) {
				t.Errorf("broken %q, advice %q\n%v", broken, advice, c)
			}
			if err := c.Err(); errors.Is(err, entra.ErrIncompatible) != (test.broken != nil) || (err == nil) != (test.broken == nil) {
				t.Errorf("error %v", err)
			}
			for _, rule := range test.broken {
				if !strings.Contains(c.Err().Error(), rule) {
					t.Errorf("%v does not name %s", c.Err(), rule)
				}
			}
			if f := c.Finding(entra.RuleAccounts); f.Verdict != entra.Unknown || !f.Required {
				t.Errorf("%+v", f)
			}
		})
	}
}

// A key that speaks U2F alone has none of it.
func TestCompatibleU2F(t *testing.T) {
	device, err := virtual.New(virtual.ProfileU2F.Config())
	if err != nil {
		t.Fatal(err)
	}
	c := entra.Compatible(openDevice(t, device).Info())
	for _, rule := range []string{entra.RuleFIDO2, entra.RuleResidentKey, entra.RuleUserVerification, entra.RuleHMACSecret} {
		if c.Finding(rule).Verdict != entra.NotMet {
			t.Errorf("%v", c.Finding(rule))
		}
	}
	if f := c.Finding("nothing"); f != (entra.Finding{}) {
		t.Errorf("%+v", f)
	}
}

// What a key says of itself is shown, and does not take over the terminal.
func TestCompatibleString(t *testing.T) {
	c := entra.Compatible(&ctap2.Info{
		Versions:   []string{"FIDO_2_0\x1b[2J", "FIDO_2_1", strings.Repeat("x", 1000)},
		Extensions: []string{"hmac-secret"},
		Options:    map[string]bool{"rk": true, "clientPin": false},
	})
	text := c.String()
	for _, want := range []string{"option rk: true", "option clientPin: false, no option uv", "versions FIDO_2_0", "extension hmac-secret (", "no extension credProtect", "unknown  required several accounts", "unknown  advice   ES256"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") || len(text) > 4000 {
		t.Errorf("%q", text)
	}
	if v := entra.Verdict(77).String(); v != "not met" {
		t.Errorf("%s", v)
	}
}

// An odd transport answers some commands in place of the key.
type odd struct {
	ctap2.Transport
	answer func(n int, message []byte) []byte // nil: as the key does; n counts the messages that begin with the same byte
	change func(n int, message, reply []byte) []byte
	count  map[byte]int
}

func (o *odd) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if o.count == nil {
		o.count = make(map[byte]int)
	}
	o.count[message[0]]++
	n := o.count[message[0]]
	if o.answer != nil {
		if reply := o.answer(n, message); reply != nil {
			return reply, nil
		}
	}
	if o.change != nil {
		return o.changed(ctx, n, message, status)
	}
	return o.Transport.Exchange(ctx, message, status)
}

func (o *odd) changed(ctx context.Context, n int, message []byte, status func(byte)) ([]byte, error) {
	reply, err := o.Transport.Exchange(ctx, message, status)
	if err == nil {
		reply = o.change(n, message, reply)
	}
	return reply, err
}

func TestProbeAccounts(t *testing.T) {
	const makeCredential, credentialManagement = 0x01, 0x0A
	for name, test := range map[string]struct {
		config  virtual.Config
		odd     func(o *odd)
		verdict entra.Verdict
		is      error
		left    int // accounts that cannot be deleted
	}{
		"two accounts":  {verdict: entra.Met},
		"a fingerprint": {config: virtual.Config{BuiltInUV: virtual.UVConfigured}, verdict: entra.Met},
		"the preview":   {config: virtual.Config{Level: virtual.CTAP21PRE}, verdict: entra.Met},
		"the second takes the place of the first": {
			odd:     func(o *odd) { o.Transport = rewrite{o.Transport, theSame} },
			verdict: entra.NotMet,
		},
		"the second is refused": {
			odd: func(o *odd) {
				o.answer = func(n int, message []byte) []byte {
					if message[0] == makeCredential && n == 2 {
						return []byte{byte(ctap2.ErrKeyStoreFull)}
					}
					return nil
				}
			},
			verdict: entra.NotMet,
		},
		"the key is full":          {config: virtual.Config{Credentials: 1}, is: ctap2.ErrKeyStoreFull},
		"no credential management": {config: virtual.Config{NoCredentialManagement: true}, is: ctap2.ErrUnsupported},
		"no PIN set":               {config: virtual.Config{PIN: "none"}, is: ctap2.ErrNotSetUp},
		"nobody there":             {config: virtual.Config{Presence: virtual.Refuse}, is: ctap2.ErrOperationDenied},
		"a list that fails": {
			odd: func(o *odd) {
				o.answer = func(n int, message []byte) []byte {
					if message[0] == credentialManagement && n == 2 {
						return []byte{byte(ctap2.ErrOther)}
					}
					return nil
				}
			},
			is: ctap2.ErrOther,
		},
		"what cannot be deleted": {
			odd: func(o *odd) {
				o.answer = func(_ int, message []byte) []byte {
					if message[0] == credentialManagement && bytes.HasPrefix(message[1:], []byte{0xA4, 0x01, 0x06}) {
						return []byte{byte(ctap2.ErrOther)}
					}
					return nil
				}
			},
			verdict: entra.Met, is: ctap2.ErrOther, left: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := test.config
				switch {
				case config.PIN == "none":
					config.PIN = ""
				case config.BuiltInUV == virtual.UVNone:
					config.PIN = keyPIN
				}
				device, err := virtual.New(config)
				if err != nil {
					t.Fatal(err)
				}
				o := &odd{Transport: device}
				if test.odd != nil {
					test.odd(o)
				}
				key := openDevice(t, o)
				c := entra.Compatible(key.Info())
				err = c.ProbeAccounts(t.Context(), key)
				if (err == nil) != (test.is == nil) || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("error %v", err)
				}
				f := c.Finding(entra.RuleAccounts)
				if f.Verdict != test.verdict {
					t.Errorf("%v", f)
				}
				if broken := c.Err() != nil; broken != (test.verdict == entra.NotMet) {
					t.Errorf("error %v", c.Err())
				}
				o.answer = nil
				if config.NoCredentialManagement || config.PIN == "" && config.BuiltInUV == virtual.UVNone {
					return
				}
				stored, err := key.EnumerateCredentials(t.Context(), nil)
				if err != nil || len(stored) != test.left {
					t.Errorf("%d accounts left, %v", len(stored), err)
				}
				if test.left == 0 {
					return
				}
				// What was left does not count, and is cleared up.
				o.Transport = rewrite{device, theSame}
				if err := c.ProbeAccounts(t.Context(), key); err != nil || c.Finding(entra.RuleAccounts).Verdict != entra.NotMet {
					t.Errorf("%v, %v", c.Finding(entra.RuleAccounts), err)
				}
				if stored, err := key.EnumerateCredentials(t.Context(), nil); err != nil || len(stored) != 0 {
					t.Errorf("%d accounts left, %v", len(stored), err)
				}
			})
		})
	}
}

// rewrite changes messages on their way to the key.
type rewrite struct {
	ctap2.Transport
	message func([]byte) []byte
}

func (r rewrite) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	return r.Transport.Exchange(ctx, r.message(message), status)
}

// theSame makes a second account of a probe the first one.
func theSame(message []byte) []byte {
	return bytes.Replace(message, []byte("Gprobe 2"), []byte("Gprobe 1"), 1)
}

// A probe that is interrupted leaves nothing behind.
func TestProbeAccountsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		touches := 0
		person := func(ctx context.Context, p virtual.Prompt) virtual.Answer {
			if touches++; touches == 2 {
				cancel(gone)
				return virtual.Ignore(ctx, p)
			}
			return virtual.Approve
		}
		device, err := virtual.New(virtual.Config{PIN: keyPIN, Presence: person})
		if err != nil {
			t.Fatal(err)
		}
		key := openDevice(t, device)
		c := entra.Compatible(key.Info())
		if err := c.ProbeAccounts(ctx, key); !errors.Is(err, gone) {
			t.Errorf("error %v", err)
		}
		if stored, err := key.EnumerateCredentials(t.Context(), nil); err != nil || len(stored) != 0 {
			t.Errorf("%d accounts left, %v", len(stored), err)
		}
	})
}

// The PIN is asked for once.
func TestProbeAccountsPIN(t *testing.T) {
	device, err := virtual.New(virtual.Config{PIN: keyPIN})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	key, err := ctap2.Open(t.Context(), device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
			asked++
			return pin.FromString(keyPIN), nil
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if err := entra.Compatible(key.Info()).ProbeAccounts(t.Context(), key); err != nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}
