package ctap2_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Quirk 32: the four paths to a verified user, and what each costs.
func TestQuirk32Paths(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config virtual.Config
		sent   []string // for a registration, and for a sign-in
		touch  []ctap2.Touch
		pin    bool
	}{
		{"built-in, with token", virtual.Config{BuiltInUV: virtual.UVConfigured},
			[]string{"06.02", "06.06", ""}, []ctap2.Touch{ctap2.TouchVerification, ctap2.TouchPresence}, false},
		{"built-in, without token", virtual.Config{BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true},
			[]string{""}, []ctap2.Touch{ctap2.TouchVerification}, false},
		{"PIN, with permissions", virtual.Config{PIN: "271828"},
			[]string{"06.02", "06.09", ""}, []ctap2.Touch{ctap2.TouchPresence}, true},
		{"PIN, of the old kind", virtual.Config{PIN: "271828", NoPINUVAuthToken: true},
			[]string{"06.02", "06.05", ""}, []ctap2.Touch{ctap2.TouchPresence}, true},
		{"CTAP 2.0", virtual.Config{PIN: "271828", Level: virtual.CTAP20},
			[]string{"06.02", "06.05", ""}, []ctap2.Touch{ctap2.TouchPresence}, true},
		{"built-in and PIN", virtual.Config{BuiltInUV: virtual.UVConfigured, PIN: "271828"},
			[]string{"06.02", "06.06", ""}, []ctap2.Touch{ctap2.TouchVerification, ctap2.TouchPresence}, false},
		{"built-in not set up, PIN", virtual.Config{BuiltInUV: virtual.UVNotConfigured, PIN: "271828"},
			[]string{"06.02", "06.09", ""}, []ctap2.Touch{ctap2.TouchPresence}, true},
	} {
		protocols := []pin.Protocol{pin.One, pin.Two}
		if tt.config.Level == virtual.CTAP20 {
			protocols = protocols[:1]
		}
		for _, p := range protocols {
			t.Run(tt.name+", "+p.String(), func(t *testing.T) {
				config := tt.config
				config.PINProtocols = []pin.Protocol{p}
				d := sit(t, config, "271828")
				check := func(command string) {
					t.Helper()
					want := slices.Clone(tt.sent)
					want[len(want)-1] = command
					d.expect(want...)
					var touches []ctap2.Touch
					for _, r := range d.touches {
						touches = append(touches, r.For)
					}
					// A touch that the key took along with a fingerprint is not asked
					// for again.
					if !slices.Equal(touches, tt.touch) && !slices.Equal(touches, tt.touch[:1]) {
						t.Errorf("%s: touches %v, want %v", command, touches, tt.touch)
					}
					d.touches = nil
				}
				credential := d.register(resident, mcUV(ctap2.Required))
				check("01")
				if !credential.AuthData.Flags.Has(ctap2.FlagUserVerified | ctap2.FlagUserPresent) {
					t.Errorf("%v", credential.AuthData.Flags)
				}
				accounts := d.signIn(gaUV(ctap2.Required))
				check("02")
				verify(t, accounts[0], credential)
				if !accounts[0].AuthData.Flags.Has(ctap2.FlagUserVerified | ctap2.FlagUserPresent) {
					t.Errorf("%v", accounts[0].AuthData.Flags)
				}
				if tt.pin != (len(d.asked) == 1) {
					t.Errorf("asked for the PIN %d times", len(d.asked))
				}
			})
		}
	}
}

// Quirk 31: what makes a key insist.
func TestQuirk31Demands(t *testing.T) {
	discouraged := mcUV(ctap2.Discouraged)
	for _, tt := range []struct {
		name        string
		config      virtual.Config
		plain       []string // registration of a server-side credential, discouraged
		resident    []string // of a discoverable one
		signIn      []string // discouraged
		verifiedAll bool
	}{
		{"no PIN", virtual.Config{}, []string{"01"}, []string{"01"}, []string{"02"}, false},
		{"makeCredUvNotRqd", virtual.Config{PIN: "271828"},
			[]string{"01"}, []string{"06.02", "06.09", "01"}, []string{"02"}, false},
		{"no makeCredUvNotRqd", virtual.Config{PIN: "271828", UVRequiredForNonDiscoverable: true},
			[]string{"06.02", "06.09", "01"}, []string{"06.02", "06.09", "01"}, []string{"02"}, false},
		{"alwaysUv", virtual.Config{PIN: "271828", AlwaysUV: true},
			[]string{"06.02", "06.09", "01"}, []string{"06.02", "06.09", "01"}, []string{"06.02", "06.09", "02"}, true},
		{"noMcGaPermissionsWithClientPin", virtual.Config{PIN: "271828", BuiltInUV: virtual.UVConfigured, NoMCGAPermissionsWithClientPIN: true},
			[]string{"01"}, []string{"06.02", "06.06", "01"}, []string{"02"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := sit(t, tt.config, "271828")
			d.register(discouraged)
			d.expect(tt.plain...)
			d.register(discouraged, resident)
			d.expect(tt.resident...)
			accounts := d.signIn(gaUV(ctap2.Discouraged))
			d.expect(tt.signIn...)
			if accounts[0].AuthData.Flags.Has(ctap2.FlagUserVerified) != tt.verifiedAll {
				t.Errorf("%v", accounts[0].AuthData.Flags)
			}
		})
	}

	t.Run("required, not set up", func(t *testing.T) {
		for _, config := range []virtual.Config{{}, {NoClientPIN: true}, {BuiltInUV: virtual.UVNotConfigured}, {AlwaysUV: true}} {
			d := sit(t, config, "271828")
			request := registration()
			request.UserVerification = ctap2.Required
			if config.AlwaysUV {
				request.UserVerification = ctap2.Discouraged
			}
			if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrNotSetUp) {
				t.Error(err)
			}
			d.expect("04") // is that still so?
		}
	})
	t.Run("a PIN that is not for this", func(t *testing.T) {
		d := sit(t, virtual.Config{PIN: "271828", NoMCGAPermissionsWithClientPIN: true}, "271828")
		request := registration()
		request.UserVerification = ctap2.Required
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrNotSetUp) {
			t.Error(err)
		}
		d.expect("04")
		if _, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"}); !errors.Is(err, ctap2.ErrNotSetUp) || len(d.asked) != 0 {
			t.Errorf("%v after %d questions for a PIN that cannot do", err, len(d.asked))
		}
		d.expect("04")
		d.register(mcUV(ctap2.Preferred))
		d.expect("01")
	})
	t.Run("forcePINChange", func(t *testing.T) {
		d := sit(t, virtual.Config{PIN: "271828", ForcePINChange: true}, "271828")
		request := registration()
		request.ResidentKey = true
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrPINChangeRequired) || len(d.asked) != 0 {
			t.Errorf("%v after %d questions", err, len(d.asked))
		}
		d.expect("04")
		if err := d.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("314159")); err != nil {
			t.Fatal(err)
		}
		d.register(resident)
		d.expect("06.02", "06.04", "04", "06.02", "06.09", "01")
	})
}

// Quirk 30: uv and pinUvAuthParam never go together, and makeCredential never
// has an option up.
func TestQuirk30OptionsApart(t *testing.T) {
	for _, config := range []virtual.Config{
		{PIN: "271828"},
		{BuiltInUV: virtual.UVConfigured},
		{BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true},
		{BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true, PIN: "271828"},
		{},
	} {
		config.Faults = virtual.RefuseUP | virtual.RefuseUVWithParam | virtual.RefuseTransports | virtual.PINRetriesNeedProtocol
		d := sit(t, config, "271828")
		d.before = func(message []byte) {
			if message[0] != ctap.CmdMakeCredential && message[0] != ctap.CmdGetAssertion {
				return
			}
			var p map[int]cbor.RawMessage
			if err := cbor.Unmarshal(message[1:], &p); err != nil {
				t.Fatal(err)
			}
			options, param := 7, 8
			if message[0] == ctap.CmdGetAssertion {
				options, param = 5, 6
			}
			if bytes.Contains(p[options], []byte("uv")) && p[param] != nil {
				t.Errorf("uv and pinUvAuthParam: %x", message)
			}
			if message[0] == ctap.CmdMakeCredential && bytes.Contains(p[options], []byte("up")) {
				t.Errorf("up in makeCredential: %x", message)
			}
		}
		credential := d.register(resident)
		d.register(func(r *ctap2.MakeCredentialRequest) {
			r.ExcludeList = []ctap2.CredentialDescriptor{{ID: []byte("not here")}}
		})
		verify(t, d.signIn(allow(credential.ID))[0], credential)
		verify(t, d.signIn()[0], credential)
	}
}

// Quirk 33: a finger that is not recognised is asked for again, then the PIN.
func TestQuirk33BuiltInFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config virtual.Config
		legacy bool
	}{
		{"with token", virtual.Config{}, false},
		{"without token", virtual.Config{NoPINUVAuthToken: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := tt.config
			config.BuiltInUV, config.PIN = virtual.UVConfigured, "271828"
			wrong := 1
			config.Verification = func(context.Context, virtual.Prompt) virtual.Answer {
				if wrong > 0 {
					wrong--
					return virtual.Deny
				}
				return virtual.Approve
			}
			d := sit(t, config, "271828")
			credential := d.register(resident, mcUV(ctap2.Required))
			if !credential.AuthData.Flags.Has(ctap2.FlagUserVerified) || len(d.asked) != 0 {
				t.Errorf("%v, asked %d times", credential.AuthData.Flags, len(d.asked))
			}
			// Never recognised: blocked, and the PIN steps in, and unblocks.
			wrong = 1000
			accounts := d.signIn(gaUV(ctap2.Required))
			verify(t, accounts[0], credential)
			if !accounts[0].AuthData.Flags.Has(ctap2.FlagUserVerified) || len(d.asked) != 1 {
				t.Errorf("%v, asked %d times", accounts[0].AuthData.Flags, len(d.asked))
			}
			wrong = 0
			verify(t, d.signIn(gaUV(ctap2.Required))[0], credential)
			if len(d.asked) != 1 {
				t.Errorf("asked %d times", len(d.asked))
			}
			if left, err := d.UVRetries(t.Context()); err != nil || left == 0 {
				t.Errorf("%d tries left, %v", left, err)
			}
		})
	}
	t.Run("no PIN to fall back on", func(t *testing.T) {
		d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured, Verification: virtual.Refuse})
		request := registration()
		request.UserVerification = ctap2.Required
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUVInvalid) && !errors.Is(err, ctap2.ErrUVBlocked) {
			t.Error(err)
		}
	})
}

// Quirk 33: a key that demands verification after all gets it.
func TestQuirk33PUATRequired(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", UVRequiredForNonDiscoverable: true}, "271828")
	d.register(resident)
	// What the Info says is not what the key does.
	lying := *d.Info()
	lying.Options = map[string]bool{ctap2.OptionClientPIN: true, ctap2.OptionPINUVAuthToken: true, ctap2.OptionMakeCredUVNotRequired: true}
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: lying.Options, 6: []int{int(d.Info().PINUVAuthProtocols[0])}})
	for _, command := range []byte{0x01, 0x02, 0x06} {
		c.on(command, func(message []byte) []byte {
			reply, err := d.soft.Exchange(t.Context(), message, nil)
			if err != nil {
				t.Error(err)
			}
			return reply
		})
	}
	key := open(t, c, ctap2.WithInteraction(ctap2.Interaction{PIN: d.enter}))
	d.asked = nil
	request := registration()
	request.UserVerification = ctap2.Discouraged
	made, err := key.MakeCredential(t.Context(), request)
	if err != nil || !made.AuthData.Flags.Has(ctap2.FlagUserVerified) || len(d.asked) != 1 {
		t.Errorf("%v, asked %d times", err, len(d.asked))
	}
}

// Quirk 36: the first protocol of the key's list that we know.
func TestQuirk36ProtocolOrder(t *testing.T) {
	for _, order := range [][]pin.Protocol{{pin.One, pin.Two}, {pin.Two, pin.One}} {
		d := sit(t, virtual.Config{PIN: "271828", PINProtocols: order}, "271828")
		token, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if token.Protocol() != order[0] {
			t.Errorf("%v of %v", token.Protocol(), order)
		}
	}
	d := sit(t, virtual.Config{PIN: "271828"}, "271828")
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: d.Info().Options, 6: []int{9, 1000, 1}})
	c.on(0x06, func(message []byte) []byte {
		reply, err := d.soft.Exchange(t.Context(), message, nil)
		if err != nil {
			t.Error(err)
		}
		return reply
	})
	key := open(t, c, ctap2.WithInteraction(ctap2.Interaction{PIN: d.enter}))
	token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
	if err != nil || token.Protocol() != pin.One {
		t.Errorf("%v, %v", token, err)
	}
	c = newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: d.Info().Options, 6: []int{9}})
	if _, err := open(t, c).PINRetries(t.Context()); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("protocol 9 alone: %v", err)
	}
	// Quirk 25: no list at all, and a PIN: protocol one.
	d = sit(t, virtual.Config{PIN: "271828", Faults: virtual.OmitPINProtocols | virtual.OmitLimits | virtual.OmitExtensions}, "271828")
	token, err = d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
	if err != nil || token.Protocol() != pin.One {
		t.Errorf("%v, %v", token, err)
	}
}

func TestWithPINUVAuthProtocol(t *testing.T) {
	for _, p := range []pin.Protocol{pin.One, pin.Two} {
		for _, offered := range [][]pin.Protocol{{pin.One, pin.Two}, {pin.Two, pin.One}, {pin.One}, {pin.Two}} {
			soft, err := virtual.New(virtual.Config{PIN: "271828", PINProtocols: offered})
			if err != nil {
				t.Fatal(err)
			}
			defer soft.Close()
			key := open(t, soft, ctap2.WithPINUVAuthProtocol(p), ctap2.WithInteraction(ctap2.Interaction{
				PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
			}))
			token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
			if !slices.Contains(offered, p) {
				if !errors.Is(err, ctap2.ErrUnsupported) {
					t.Errorf("%v of %v: %v", p, offered, err)
				}
			} else if err != nil || token.Protocol() != p {
				t.Errorf("%v of %v: %v, %v", p, offered, token, err)
			}
		}
	}
}

// Quirk 38: getPINRetries always names the protocol.
func TestQuirk38PINRetries(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", Faults: virtual.PINRetriesNeedProtocol})
	if retries, err := d.PINRetries(t.Context()); err != nil || retries.Retries != 8 {
		t.Errorf("%+v, %v", retries, err)
	}
	d = sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured})
	if left, err := d.UVRetries(t.Context()); err != nil || left == 0 {
		t.Errorf("%d, %v", left, err)
	}
}

// Quirk 37: one question for a PIN that stays valid, a new token each time.
func TestQuirk37AskedOnce(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828"}, "271828")
	for range 5 {
		d.register(resident)
		d.signIn()
	}
	if len(d.asked) != 1 {
		t.Errorf("asked %d times", len(d.asked))
	}
	// Changed by another program: the remembered PIN is refused, and asked for.
	other := &desk{t: t, soft: d.soft, usb: d.usb}
	other.open()
	defer other.Close()
	if err := other.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("314159")); err != nil {
		t.Fatal(err)
	}
	d.pins = []string{"314159"}
	d.signIn()
	if len(d.asked) != 2 || d.asked[1].Previous == nil || d.asked[1].Previous.Retries != 7 {
		t.Errorf("%+v", d.asked)
	}
}

// Quirk 44: another program's wrong PIN makes the key take a new key agreement
// key. A right PIN is never sent under a stale secret, and what is, fails
// safe and is done again.
func TestQuirk44StaleSecret(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "271828")
		credential := d.register(resident, func(r *ctap2.MakeCredentialRequest) {
			r.Extensions = []ctap2.Extension{ctap2.HMACSecret()}
		})
		other := &desk{t: t, soft: d.soft, usb: d.usb, pins: []string{"0000"}}
		other.open()
		defer other.Close()
		spoil := func() {
			_, err := other.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
			if !errors.Is(err, ctap2.ErrPINInvalid) {
				t.Errorf("wrong PIN: %v", err)
			}
		}
		unspoil := func() {
			t.Helper()
			d.replug()
			d.pins = []string{"271828"}
			d.signIn()
			other.Close()
			other.open()
			if r, err := d.PINRetries(t.Context()); err != nil || r.Retries != 8 {
				t.Fatalf("%+v, %v", r, err)
			}
		}

		spoil()
		d.sent()
		verify(t, d.signIn()[0], credential)
		d.expect("06.02", "06.09", "02")
		if r, err := d.PINRetries(t.Context()); err != nil || r.Retries != 8 {
			t.Errorf("the right PIN did not count: %+v, %v", r, err)
		}

		// In the middle of a ceremony, after key agreement.
		unspoil()
		once := func(command, subcommand byte) {
			d.before = func(message []byte) {
				if message[0] == command && (subcommand == 0 || message[5] == subcommand) {
					d.before = nil
					spoil()
				}
			}
		}
		once(ctap.CmdClientPIN, ctap.PINChangePIN)
		if err := d.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("314159")); err != nil {
			t.Errorf("changePIN under a stale secret: %v", err)
		}
		if err := d.ChangePIN(t.Context(), pin.FromString("314159"), pin.FromString("271828")); err != nil {
			t.Error(err)
		}

		unspoil()
		once(ctap.CmdGetAssertion, 0)
		d.sent()
		accounts := d.signIn(gaUV(ctap2.Discouraged), func(r *ctap2.GetAssertionRequest) {
			r.Extensions = []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))}
		})
		d.expect("06.02", "02", "06.02", "02")
		if _, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions); err != nil {
			t.Error(err)
		}
	})
}

// Quirk 45: what spends a token.
func TestQuirk45Tokens(t *testing.T) {
	const mcga = ctap2.PermissionMakeCredential | ctap2.PermissionGetAssertion
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "271828")
		get := func(p ctap2.Permission) *ctap2.Token {
			t.Helper()
			token, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: p, RPID: "example.com"})
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		with := func(token *ctap2.Token) func(*ctap2.GetAssertionRequest) {
			return func(r *ctap2.GetAssertionRequest) { r.Token = token }
		}
		refused := func(what string, token *ctap2.Token) {
			t.Helper()
			request := signIn()
			request.Token = token
			if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrPINAuthInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		token := get(mcga)
		if token.Permissions() != mcga || token.RPID() != "example.com" || token.Permissions().String() != "mc|ga" {
			t.Errorf("%v", token)
		}
		credential := d.register(resident, func(r *ctap2.MakeCredentialRequest) { r.Token = token })
		refused("spent by a registration", token)

		token = get(ctap2.PermissionGetAssertion)
		for range 3 { // searches do not spend it
			d.signIn(with(token), allow(credential.ID), func(r *ctap2.GetAssertionRequest) { r.Silent = true })
		}
		d.sent()
		verify(t, d.signIn(with(token))[0], credential)
		d.expect("02")
		refused("spent by a sign-in", token)

		older := get(mcga)
		newer := get(mcga)
		refused("killed by a newer one", older)
		verify(t, d.signIn(with(newer))[0], credential)

		// A token of the library's own that another program's has killed is
		// replaced, once, and nobody is asked again.
		rival := &desk{t: t, soft: d.soft, usb: d.usb, pins: []string{"271828"}}
		rival.open()
		defer rival.Close()
		d.before = func(message []byte) {
			if message[0] == ctap.CmdGetAssertion {
				d.before = nil
				if _, err := rival.Token(t.Context(), &ctap2.TokenRequest{Permissions: mcga, RPID: "example.com"}); err != nil {
					t.Error(err)
				}
			}
		}
		d.sent()
		d.asked = nil
		verify(t, d.signIn()[0], credential)
		d.expect("06.02", "06.09", "02", "06.02", "06.09", "02")
		if len(d.asked) != 0 {
			t.Errorf("asked %d times", len(d.asked))
		}

		ga := get(ctap2.PermissionGetAssertion)
		request := registration()
		request.Token = ga
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrPINAuthInvalid) ||
			!strings.Contains(err.Error(), "pinUvAuthToken(ga example.com) is not for this, was spent") {
			t.Errorf("without permission mc: %v", err)
		}
		if _, err := d.EnumerateRPs(t.Context(), ga); !errors.Is(err, ctap2.ErrPINAuthInvalid) ||
			!strings.Contains(err.Error(), "pinUvAuthToken(ga example.com) is not for this, was spent") {
			t.Errorf("without permission cm: %v", err)
		}
		other := signIn()
		other.RPID, other.Token = "other.example", get(ctap2.PermissionGetAssertion)
		if _, err := d.GetAssertion(t.Context(), other); !errors.Is(err, ctap2.ErrPINAuthInvalid) {
			t.Errorf("for another relying party: %v", err)
		}
		ga.Wipe()
		other.Token = ga
		if _, err := d.GetAssertion(t.Context(), other); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("wiped: %v", err)
		}
	})
}

func TestTokenMethods(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", BuiltInUV: virtual.UVConfigured}, "271828")
	for method, want := range map[ctap2.Method]string{
		ctap2.AnyMethod: "06.06", ctap2.UVMethod: "06.06", ctap2.PINMethod: "06.09", ctap2.LegacyPINMethod: "06.05",
	} {
		d.sent()
		token, err := d.Token(t.Context(), &ctap2.TokenRequest{
			Permissions: ctap2.PermissionMakeCredential | ctap2.PermissionGetAssertion, RPID: "example.com", Method: method})
		if err != nil {
			t.Fatal(err)
		}
		d.expect("06.02", want)
		length := 32
		if token.Protocol() == pin.One {
			length = 16
		}
		if param := token.Authenticate([]byte("a"), []byte("b")); len(param) != length || !bytes.Equal(param, token.Authenticate([]byte("ab"))) {
			t.Errorf("pinUvAuthParam %x", param)
		}
		d.register(func(r *ctap2.MakeCredentialRequest) { r.Token = token })
		token.Wipe()
		if param := token.Authenticate([]byte("a")); param != nil {
			t.Errorf("a wiped token gives %x", param)
		}
	}
	for name, r := range map[string]*ctap2.TokenRequest{
		"no permissions": {RPID: "example.com"},
		"no RP ID":       {Permissions: ctap2.PermissionMakeCredential},
		"no such method": {Permissions: ctap2.PermissionGetAssertion, RPID: "example.com", Method: 9},
	} {
		if _, err := d.Token(t.Context(), r); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d = sit(t, virtual.Config{PIN: "271828", NoPersistentCredMgmtRO: true}, "271828")
	if _, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionPersistentCredentialManagement}); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("a permission that this key has not: %v", err)
	}
	d.expect() // nor is a PIN asked for: a key of before permissions would give a token for everything
}

// Quirk 40: no transports in a descriptor, whichever list it is in.
func TestQuirk40NoTransports(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", Faults: virtual.RefuseTransports, MaxCredentialCountInList: 2}, "271828")
	credential := d.register(resident)
	ids := append(randomIDs(5, 32), credential.ID)
	d.sent()
	verify(t, d.signIn(allow(ids...))[0], credential)
	request := registration()
	for _, id := range ids {
		request.ExcludeList = append(request.ExcludeList, ctap2.CredentialDescriptor{ID: id})
	}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrCredentialExcluded) {
		t.Error(err)
	}
	for _, m := range d.messages {
		if bytes.Contains(m, []byte("transports")) {
			t.Errorf("%x", m)
		}
	}
}

// Quirk 33: the attempts that a key prefers are bounded by what uvRetries can
// be.
func TestQuirk33AttemptsAreBounded(t *testing.T) {
	d := sit(t, virtual.Config{})
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"uv": true, "pinUvAuthToken": true}, 6: []int{int(d.Info().PINUVAuthProtocols[0])}, 0x11: 2_000_000_000})
	attempts := 0
	c.on(0x06, func(message []byte) []byte {
		if message[5] == ctap.PINGetKeyAgreement {
			reply, err := d.soft.Exchange(t.Context(), message, nil)
			if err != nil {
				t.Error(err)
			}
			return reply
		}
		if attempts++; attempts > 100 {
			return []byte{byte(ctap2.ErrOther)}
		}
		return []byte{byte(ctap2.ErrUVInvalid)}
	})
	_, err := open(t, c).Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"})
	if !errors.Is(err, ctap2.ErrUVInvalid) || attempts != 25 {
		t.Errorf("%v after %d attempts", err, attempts)
	}
}

// Quirk 44: a PIN prompt can stand open for long; what was agreed with the key
// before it is not used after it.
func TestQuirk44PromptStandsOpen(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", BuiltInUV: virtual.UVConfigured, Verification: virtual.Refuse})
	other := &desk{t: t, soft: d.soft, usb: d.usb, pins: []string{"0000"}}
	other.open()
	defer other.Close()
	asked := 0
	key := open(t, d.soft, ctap2.WithInteraction(ctap2.Interaction{PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
		if asked++; asked == 1 {
			if _, err := other.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x", Method: ctap2.PINMethod}); !errors.Is(err, ctap2.ErrPINInvalid) {
				t.Errorf("wrong PIN: %v", err)
			}
		}
		return pin.FromString("271828"), nil
	}}))
	if _, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x"}); err != nil || asked != 1 {
		t.Errorf("the right PIN: %v, asked %d times", err, asked)
	}
}

// What the Info says is doubted where the key says otherwise.
func TestInfoIsDoubted(t *testing.T) {
	d := sit(t, virtual.Config{UVRequiredForNonDiscoverable: true}, "271828")
	other := open(t, d.soft)
	if err := other.SetPIN(t.Context(), pin.FromString("271828")); err != nil {
		t.Fatal(err)
	}
	d.register()
	d.expect("01", "04", "06.02", "06.09", "01")

	d = sit(t, virtual.Config{PIN: "271828", ForcePINChange: true}, "314159")
	other = open(t, d.soft)
	if err := other.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("314159")); err != nil {
		t.Fatal(err)
	}
	d.register(resident)
	d.expect("04", "06.02", "06.09", "01")

	d = sit(t, virtual.Config{PIN: "271828"}, "271828")
	if err := open(t, d.soft).Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := registration()
	request.UserVerification = ctap2.Required
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrNotSetUp) {
		t.Errorf("a PIN that is gone: %v", err)
	}

	// Nor is a PIN needed any longer where none is required.
	for _, change := range [][]func(*ctap2.MakeCredentialRequest){{}, {resident, mcUV(ctap2.Discouraged)}} {
		d = sit(t, virtual.Config{PIN: "271828"}, "271828")
		if err := open(t, d.soft).Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.register(change...)
		d.expect("06.02", "06.09", "04", "01")
		if len(d.asked) != 1 {
			t.Errorf("asked %d times", len(d.asked))
		}
	}
}

// Another program has removed the last finger.
func TestFingerIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		config virtual.Config
		sent   []string
	}{
		"with token":    {virtual.Config{}, []string{"06.02", "06.06", "04", "06.02", "06.09", "01"}},
		"without token": {virtual.Config{Level: virtual.CTAP21PRE, NoPINUVAuthToken: true}, []string{"01", "04", "06.02", "06.05", "01"}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config.BuiltInUV, tt.config.PIN = virtual.UVConfigured, "271828"
			d := sit(t, tt.config, "271828")
			other := &desk{t: t, soft: d.soft, usb: d.usb, pins: []string{"271828"}}
			other.open()
			defer other.Close()
			list, err := other.EnumerateEnrollments(t.Context(), nil)
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			if err := other.RemoveEnrollment(t.Context(), &ctap2.RemoveEnrollmentRequest{TemplateID: list[0].TemplateID}); err != nil {
				t.Fatal(err)
			}
			d.register(mcUV(ctap2.Required))
			d.expect(tt.sent...)
		})
	}

	// NOT_ALLOWED for another reason is the key's own business.
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured, PIN: "271828"}, "271828")
	d.alter(func(message, reply []byte) ([]byte, error) {
		if message[0] == ctap.CmdClientPIN && len(message) > 60 {
			return []byte{byte(ctap2.ErrNotAllowed)}, nil
		}
		return reply, nil
	})
	if _, err := d.MakeCredential(t.Context(), registration()); !errors.Is(err, ctap2.ErrNotAllowed) {
		t.Error(err)
	}
	d.expect("06.02", "06.06", "04")
}

// Another program demands a new PIN; a PIN that breaks a rule is another matter.
func TestPINChangeIsDemanded(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828"}, "271828")
	other := open(t, d.soft, anyPIN())
	if err := other.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{ForceChangePIN: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.MakeCredential(t.Context(), registration()); !errors.Is(err, ctap2.ErrPINChangeRequired) || len(d.asked) != 1 {
			t.Errorf("%v, asked %d times", err, len(d.asked))
		}
	}

	d = sit(t, virtual.Config{PIN: "271828"}, "271828")
	d.alter(func(message, reply []byte) ([]byte, error) {
		if message[0] == ctap.CmdClientPIN && len(message) > 60 {
			return []byte{byte(ctap2.ErrPINPolicyViolation)}, nil
		}
		return reply, nil
	})
	if _, err := d.MakeCredential(t.Context(), registration()); !errors.Is(err, ctap2.ErrPINPolicyViolation) || len(d.asked) != 1 {
		t.Errorf("%v, asked %d times", err, len(d.asked))
	}
}

// Quirk 44: the remembered PIN, after fingers that were tried for long.
func TestQuirk44FingersFirst(t *testing.T) {
	for name, config := range map[string]virtual.Config{"with token": {}, "without token": {NoPINUVAuthToken: true}} {
		t.Run(name, func(t *testing.T) {
			var other *ctap2.Authenticator
			fingers, wrong := 0, false
			config.BuiltInUV, config.PIN = virtual.UVConfigured, "271828"
			config.Verification = func(context.Context, virtual.Prompt) virtual.Answer {
				if fingers++; wrong {
					return virtual.Deny
				}
				return virtual.Approve
			}
			d := sit(t, config, "271828")
			if _, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x", Method: ctap2.PINMethod}); err != nil {
				t.Fatal(err)
			}
			other = open(t, d.soft, ctap2.WithInteraction(ctap2.Interaction{
				PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("0000"), nil },
			}))
			d.before = func(message []byte) {
				if fingers < 3 || message[0] != ctap.CmdClientPIN {
					return
				}
				d.before = nil
				_, err := other.Token(t.Context(), &ctap2.TokenRequest{Permissions: 2, RPID: "x", Method: ctap2.PINMethod})
				if !errors.Is(err, ctap2.ErrPINInvalid) {
					t.Error(err)
				}
			}
			wrong, d.asked = true, nil
			d.register(resident, mcUV(ctap2.Required), with(ctap2.HMACSecret(), ctap2.HMACSecretMC(make([]byte, 32))))
			if d.before != nil || len(d.asked) != 0 {
				t.Errorf("%d fingers, asked %d times", fingers, len(d.asked))
			}
		})
	}
}

// A card that was reset before the PIN was sent costs nobody a second question. One
// that was reset behind it may have counted a try: it is not sent again.
func TestResetBeforeToken(t *testing.T) {
	for _, test := range []struct {
		token bool
		want  []string
	}{
		{false, []string{"06.02", "06.02", "06.09", "01"}},
		{true, []string{"06.02", "06.09"}},
	} {
		d := sit(t, virtual.Config{PIN: "271828"}, "271828")
		done := false
		d.alter(func(message, reply []byte) ([]byte, error) {
			if message[0] == ctap.CmdClientPIN && !done && (len(message) > 60) == test.token {
				done = true
				return nil, ctap2.ErrReset
			}
			return reply, nil
		})
		request := registration()
		mcUV(ctap2.Required)(request)
		_, err := d.MakeCredential(t.Context(), request)
		if errors.Is(err, ctap2.ErrReset) != test.token || (err != nil) != test.token {
			t.Error(err)
		}
		d.expect(test.want...)
		if len(d.asked) != 1 {
			t.Errorf("asked %d times", len(d.asked))
		}
	}
}

// A person hears why a finger is asked for again.
func TestTouchRequestPrevious(t *testing.T) {
	check := func(d *desk) {
		t.Helper()
		if len(d.touches) != 4 {
			t.Fatalf("touches %+v", d.touches)
		}
		for i, want := range []error{nil, ctap2.ErrUVInvalid, ctap2.ErrUVInvalid, nil} {
			if r := d.touches[i]; !errors.Is(r.Previous, want) || (want != nil) != (r.For == ctap2.TouchVerification && i > 0) {
				t.Errorf("%d: %+v", i, r)
			}
		}
	}
	wrong := 3
	config := virtual.Config{BuiltInUV: virtual.UVConfigured, PIN: "271828", Verification: func(context.Context, virtual.Prompt) virtual.Answer {
		if wrong--; wrong >= 0 {
			return virtual.Deny
		}
		return virtual.Approve
	}}
	d := sit(t, config, "271828")
	d.register(mcUV(ctap2.Required))
	check(d)

	wrong, config.NoPINUVAuthToken = 0, true
	d = sit(t, config, "271828")
	refused := 0
	d.alter(func(message, reply []byte) ([]byte, error) {
		if message[0] == ctap.CmdMakeCredential && refused < 3 {
			refused++
			return []byte{byte(ctap2.ErrUVInvalid)}, nil
		}
		return reply, nil
	})
	d.register(mcUV(ctap2.Required))
	check(d)
}

// A change of PIN whose outcome is unknown: the old one is not tried unasked.
func TestRememberedPINAfterLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{PIN: "271828"}, "271828")
		d.register(resident)
		d.usb.SetFaults(virtual.USBFaults{Filter: func(direction virtual.USBDirection, n int, report []byte) [][]byte {
			if direction == virtual.USBInput && n >= 2 { // behind the two reports of key agreement
				return nil
			}
			return [][]byte{report}
		}})
		if err := d.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("314159")); !errors.Is(err, ctap2.ErrNoAnswer) {
			t.Error(err)
		}
		d.usb.SetFaults(virtual.USBFaults{})
		d.asked, d.pins = nil, []string{"314159"}
		d.signIn()
		if len(d.asked) != 1 || d.asked[0].Previous != nil {
			t.Errorf("the remembered PIN was tried unasked: %+v", d.asked)
		}
		// A command that this package has no method for may change it too.
		if _, err := d.Command(t.Context(), ctap.CmdClientPIN, []byte{0xa0}); !errors.Is(err, ctap2.ErrMissingParameter) {
			t.Error(err)
		}
		if d.signIn(); len(d.asked) != 2 {
			t.Errorf("asked %d times", len(d.asked))
		}
	})
}

// A silent request asks neither for a PIN nor for a finger, unless it is told
// to.
func TestSilentAsksNobody(t *testing.T) {
	request := signIn()
	request.Silent = true
	allow(randomIDs(1, 32)...)(request)
	for _, config := range []virtual.Config{{PIN: "271828"}, {BuiltInUV: virtual.UVConfigured}, {BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true}, {PIN: "271828", AlwaysUV: true}} {
		d := sit(t, config, "271828")
		if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) && !errors.Is(err, ctap2.ErrPUATRequired) {
			t.Errorf("%+v: %v", config, err)
		}
		if len(d.asked) != 0 || len(d.touches) != 0 {
			t.Errorf("%+v: %d questions, touches %v", config, len(d.asked), d.touches)
		}
	}
	d := sit(t, virtual.Config{PIN: "271828"}, "271828")
	credential := d.register()
	accounts := d.signIn(allow(credential.ID), gaUV(ctap2.Required), func(r *ctap2.GetAssertionRequest) { r.Silent = true })
	if f := accounts[0].AuthData.Flags; f != ctap2.FlagUserVerified {
		t.Errorf("silent and required: %v", f)
	}
}

// A key from before permissions decides itself what its tokens are for.
func TestLegacyTokenPermissions(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", NoPINUVAuthToken: true}, "271828")
	token, err := d.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionCredentialManagement})
	if err != nil || token.Permissions() != ctap2.PermissionCredentialManagement {
		t.Errorf("%v, %v", token, err)
	}
}

// Built-in verification fails, and there is no way to ask for the PIN: the
// error is the key's.
func TestNoPromptToFallBackOn(t *testing.T) {
	for _, config := range []virtual.Config{{}, {NoPINUVAuthToken: true}} {
		config.BuiltInUV, config.PIN, config.Verification = virtual.UVConfigured, "271828", virtual.Refuse
		d := sit(t, config)
		if _, err := d.MakeCredential(t.Context(), registration()); errors.Is(err, ctap2.ErrNoPIN) || err == nil {
			t.Error(err)
		}
	}
}

// The Info that Token decides by is doubted, too.
func TestTokenDoubtsTheInfo(t *testing.T) {
	for name, change := range map[string]func(info members, late bool){
		"a PIN was set":     func(info members, late bool) { info[4] = map[string]bool{"clientPin": late, "pinUvAuthToken": true} },
		"a PIN was changed": func(info members, late bool) { info[12] = !late },
	} {
		info := basicInfo()
		info[4], info[6] = map[string]bool{"clientPin": true, "pinUvAuthToken": true}, []int{2}
		change(info, false)
		c := newCanned(t, info)
		withTokens(t, c, pin.Two)
		key := open(t, c, anyPIN())
		c.commands()
		for _, late := range []bool{false, true, true} { // another program
			change(info, late)
			_, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionCredentialManagement})
			if (err == nil) != late {
				t.Errorf("%s: %v: %v", name, late, err)
			}
		}
		if sent := c.commands(); !bytes.Equal(sent, raw(t, "04 040606 0606")) {
			t.Errorf("%s: sent %x", name, sent)
		}
	}
}

// PIN_AUTH_INVALID under the caller's token is no reason to try again, which
// some keys count, unless an extension used what was agreed with the key.
func TestHeldTokenIsTriedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		extensions []ctap2.Extension
		sent       string
	}{
		"nothing agreed":     {nil, "02"},
		"a secret in use":    {[]ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))}, "0602 0602"},
		"none in use by any": {[]ctap2.Extension{ctap2.LargeBlobKey()}, "02"},
	} {
		info := basicInfo()
		info[2], info[4], info[6] = []string{"hmac-secret", "largeBlobKey"}, map[string]bool{"clientPin": true, "pinUvAuthToken": true}, []int{2}
		c := newCanned(t, info)
		withTokens(t, c, pin.Two)
		c.on(ctap.CmdGetAssertion, func([]byte) []byte { return []byte{byte(ctap2.ErrPINAuthInvalid)} })
		key := open(t, c)
		c.commands()
		request := signIn()
		request.Extensions, request.Token = test.extensions, anyToken()
		_, err := key.GetAssertion(t.Context(), request)
		if sent := c.commands(); !errors.Is(err, ctap2.ErrPINAuthInvalid) || !bytes.Equal(sent, raw(t, test.sent)) {
			t.Errorf("%s: %v, sent %x", name, err, sent)
		}
	}

	// Within a command that obtained the token itself, key agreement included.
	s := newStore(t, pin.Two)
	newAssertions(t, s, blobKey(1))
	key := open(t, s, anyPIN())
	sign := s.canned.replies[ctap.CmdGetAssertion]
	s.on(ctap.CmdGetAssertion, func(m []byte) []byte {
		s.on(ctap.CmdGetAssertion, sign)
		return []byte{byte(ctap2.ErrPINAuthInvalid)}
	})
	s.commands()
	err := key.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Data: []byte("x")})
	if sent := s.commands(); err != nil || !bytes.Equal(sent, raw(t, "060602 060602 0c0c")) {
		t.Errorf("%v, sent %x", err, sent)
	}
}
