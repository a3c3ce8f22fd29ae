package ctap2_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestToggleAlwaysUV(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		d := sit(t, config, benchPIN)
		for _, want := range []bool{true, false, true} { // no token without a PIN
			if err := d.ToggleAlwaysUV(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			d.expect("0d")
			info, err := d.GetInfo(t.Context())
			if err != nil || info.Options[ctap2.OptionAlwaysUV] != want {
				t.Errorf("alwaysUv %v, %v", info.Options[ctap2.OptionAlwaysUV], err)
			}
			d.expect("04")
		}
		if err := d.EnableLongTouchForReset(t.Context(), nil); !errors.Is(err, ctap2.ErrNotSetUp) {
			t.Errorf("alwaysUv, and nobody can be verified: %v", err)
		}
		if err := d.SetPIN(t.Context(), pin.FromString(benchPIN)); err != nil {
			t.Fatal(err)
		}
		d.sent()
		if err := d.ToggleAlwaysUV(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		d.expect("04", "06.02", "06.09", "0d")
	})
}

// Another program sets a PIN while we think there is none.
func TestConfigLearnsOfAPIN(t *testing.T) {
	d := sit(t, virtual.Config{}, benchPIN)
	other := open(t, d.soft)
	if err := other.SetPIN(t.Context(), pin.FromString(benchPIN)); err != nil {
		t.Fatal(err)
	}
	if err := d.EnableLongTouchForReset(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	d.expect("0d", "04", "06.02", "06.09", "0d")
}

func TestSetMinPINLength(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, config, benchPIN)
		registered := d.register(resident, with(ctap2.MinPINLength()))
		if _, err := ctap2.Output[ctap2.MinPINLengthOutput](registered.Extensions); !errors.Is(err, ctap2.ErrNoOutput) {
			t.Errorf("minPinLength for a party that may not know: %v", err)
		}
		err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{
			NewMinPINLength:   6,
			MinPINLengthRPIDs: []string{"example.com"},
		})
		if err != nil {
			t.Fatal(err)
		}
		registered = d.register(resident, with(ctap2.MinPINLength()))
		if n, err := ctap2.Output[ctap2.MinPINLengthOutput](registered.Extensions); n != 6 || err != nil {
			t.Errorf("minPinLength %d, %v", n, err)
		}
		if err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{NewMinPINLength: 5}); !errors.Is(err, ctap2.ErrPINPolicyViolation) ||
			err.Error() != "ctap2: setMinPINLength: the minimum is 6 already, and only a reset lowers it (PIN_POLICY_VIOLATION)" {
			t.Errorf("shorter: %v", err)
		}
		d.sent()
		if err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{
			MinPINLengthRPIDs: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"},
		}); !errors.Is(err, ctap2.ErrKeyStoreFull) ||
			err.Error() != "ctap2: setMinPINLength: the key has room for 8 relying parties, not 9 (KEY_STORE_FULL)" {
			t.Errorf("too many parties: %v", err)
		}
		for _, n := range []int{-1, 64} {
			if err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{NewMinPINLength: n}); !errors.Is(err, ctap2.ErrInvalidRequest) ||
				!strings.HasSuffix(err.Error(), fmt.Sprintf(": NewMinPINLength %d, not 0 to 63", n)) {
				t.Errorf("length %d: %v", n, err)
			}
		}
		d.expect()
		// The PIN that is set is long enough until now.
		if err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{NewMinPINLength: 8}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.MakeCredential(t.Context(), registration()); !errors.Is(err, ctap2.ErrPINChangeRequired) {
			t.Errorf("PIN too short: %v", err)
		}
		if err := d.ChangePIN(t.Context(), pin.FromString(benchPIN), pin.FromString("1234567")); !errors.Is(err, pin.ErrTooShort) {
			t.Errorf("new PIN too short: %v", err)
		}
		if err := d.ChangePIN(t.Context(), pin.FromString(benchPIN), pin.FromString("12345678")); err != nil {
			t.Fatal(err)
		}
		d.register(resident)
		if err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{ForceChangePIN: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.GetCredsMetadata(t.Context(), nil); !errors.Is(err, ctap2.ErrPINChangeRequired) {
			t.Errorf("PIN change forced: %v", err)
		}
	})
}

func TestPINComplexityPolicy(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	err := d.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{
		MinPINLengthRPIDs:   []string{"example.com"},
		PINComplexityPolicy: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := d.GetInfo(t.Context()); err != nil || info.PINComplexityPolicy == nil || !*info.PINComplexityPolicy {
		t.Errorf("%v, %v", info.PINComplexityPolicy, err)
	}
	registered := d.register(resident, with(ctap2.PINComplexityPolicy()))
	if on, err := ctap2.Output[ctap2.PINComplexityPolicyOutput](registered.Extensions); !bool(on) || err != nil {
		t.Errorf("output %v, %v", on, err)
	}
	if err := d.ChangePIN(t.Context(), pin.FromString(benchPIN), pin.FromString("11111111")); !errors.Is(err, ctap2.ErrPINPolicyViolation) {
		t.Errorf("a simple PIN: %v", err)
	}
}

func with(extensions ...ctap2.Extension) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.Extensions = append(r.Extensions, extensions...) }
}

func gaWith(extensions ...ctap2.Extension) func(*ctap2.GetAssertionRequest) {
	return func(r *ctap2.GetAssertionRequest) { r.Extensions = append(r.Extensions, extensions...) }
}

// Subcommands that a key does not have are not sent.
func TestConfigUnsupported(t *testing.T) {
	all := map[string]func(*ctap2.Authenticator) error{
		"enableEnterpriseAttestation": func(k *ctap2.Authenticator) error { return k.EnableEnterpriseAttestation(t.Context(), nil) },
		"toggleAlwaysUv":              func(k *ctap2.Authenticator) error { return k.ToggleAlwaysUV(t.Context(), nil) },
		"setMinPINLength": func(k *ctap2.Authenticator) error {
			return k.SetMinPINLength(t.Context(), new(ctap2.SetMinPINLengthRequest))
		},
		"enableLongTouchForReset": func(k *ctap2.Authenticator) error { return k.EnableLongTouchForReset(t.Context(), nil) },
		"vendorPrototype": func(k *ctap2.Authenticator) error {
			_, err := k.VendorPrototype(t.Context(), &ctap2.VendorPrototypeRequest{CommandID: 1})
			return err
		},
	}
	for name, info := range map[string]members{
		"no option": basicInfo(),
		"none listed": {1: []string{"FIDO_2_3"}, 3: make([]byte, 16), 0x1F: []uint{},
			4: map[string]bool{"authnrCfg": true, "setMinPINLength": true}},
	} {
		c := newCanned(t, info)
		key := open(t, c)
		for subcommand, call := range all {
			if err := call(key); !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("%s, %s: %v", name, subcommand, err)
			}
		}
		if len(c.messages) != 1 {
			t.Errorf("%s: %d messages", name, len(c.messages))
		}
	}
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"authnrCfg": true}})
	if err := all["setMinPINLength"](open(t, c)); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Error(err)
	}
}

func TestVendorPrototype(t *testing.T) {
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"authnrCfg": true}})
	answer := ok(t, members{1: 7})
	c.on(ctap.CmdConfig, func([]byte) []byte { return answer })
	key := open(t, c)
	reply, err := key.VendorPrototype(t.Context(), &ctap2.VendorPrototypeRequest{
		CommandID:  1 << 40,
		Parameters: map[uint64]any{2: "x"},
	})
	if err != nil || !bytes.Equal(reply, answer[1:]) {
		t.Errorf("%x, %v", reply, err)
	}
	if want := raw(t, "0d a2 01 18ff 02 a2 01 1b0000010000000000 02 6178"); !bytes.Equal(c.messages[1], want) {
		t.Errorf("sent %x, want %x", c.messages[1], want)
	}
	answer = []byte{0, 0xFF}
	if _, err := key.VendorPrototype(t.Context(), new(ctap2.VendorPrototypeRequest)); !errors.Is(err, ctap2.ErrMalformed) {
		t.Error(err)
	}
	for _, parameters := range []map[uint64]any{{1: 1}, {2: func() {}}} {
		_, err := key.VendorPrototype(t.Context(), &ctap2.VendorPrototypeRequest{Parameters: parameters})
		if !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Error(err)
		}
	}
}

func TestEnterpriseAttestation(t *testing.T) {
	for kind, parties := range map[uint][]string{1: {"example.com"}, 2: nil} {
		d := sit(t, virtual.Config{EnterpriseAttestation: true, EnterpriseRPIDs: parties})
		enterprise := func(r *ctap2.MakeCredentialRequest) { r.EnterpriseAttestation = kind }
		request := registration()
		enterprise(request)
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidParameter) ||
			!strings.Contains(err.Error(), "EnableEnterpriseAttestation comes first") {
			t.Errorf("before it was enabled: %v", err)
		}
		if err := d.EnableEnterpriseAttestation(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if credential := d.register(enterprise); !credential.EnterpriseAttestation {
			t.Error("none came")
		}
		if credential := d.register(); credential.EnterpriseAttestation {
			t.Error("one came unasked")
		}
		if kind == 1 {
			if credential := d.register(enterprise, at("elsewhere.example")); credential.EnterpriseAttestation {
				t.Error("one came for a party that is not on the key's list")
			}
		}
		d = sit(t, virtual.Config{})
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUnsupported) {
			t.Errorf("a key that cannot: %v", err)
		}
		d.expect()
	}
}

func TestAttestationFormats(t *testing.T) {
	d := sit(t, virtual.Config{})
	request := registration()
	request.AttestationFormats = []string{"none"}
	credential, err := d.MakeCredential(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := attestation.Verify(credential, request.ClientDataHash); err != nil || s.Type != attestation.None || credential.Format != "none" {
		t.Errorf("%+v, %v", s, err)
	}
}

// What a person needs to know of a reset.
func TestResetGuidance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
		d.register(resident)
		time.Sleep(11 * time.Second)
		var e *ctap2.ResetError
		err := d.Reset(t.Context())
		if !errors.As(err, &e) || !errors.Is(err, ctap2.ErrNotAllowed) ||
			err.Error() != "ctap2: the key is reset only in the ten seconds after it was plugged in: unplug it, plug it in again and try at once" {
			t.Errorf("too late: %v", err)
		}
		d.replug()
		if err := d.EnableLongTouchForReset(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		d.replug()
		d.touches = nil
		if err := d.Reset(t.Context()); !errors.As(err, &e) || !e.LongTouch ||
			err.Error() != "ctap2: the key was not reset: touch it for at least five seconds" {
			t.Errorf("a short touch: %v", err)
		}
		if len(d.touches) != 1 || !d.touches[0].Long || d.touches[0].For != ctap2.TouchReset {
			t.Errorf("%+v", d.touches)
		}
		d.replug()
		d.soft.SetPresence(virtual.TouchFor(5 * time.Second))
		if err := d.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if info, err := d.GetInfo(t.Context()); err != nil || info.Options[ctap2.OptionClientPIN] || info.LongTouchForReset {
			t.Errorf("%+v, %v", info, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{Transports: []string{"usb", "nfc"}, TransportsForReset: []string{"nfc"}})
		err := d.Reset(t.Context())
		var e *ctap2.ResetError
		if !errors.As(err, &e) || len(e.Transports) != 1 ||
			err.Error() != "ctap2: the key was not reset: nobody touched it; it takes a reset over nfc alone" {
			t.Errorf("over USB: %v", err)
		}
		d = sit(t, virtual.Config{Presence: virtual.Refuse})
		if err := d.Reset(t.Context()); !errors.Is(err, ctap2.ErrOperationDenied) || err.Error() != "ctap2: the key was not reset: nobody touched it" {
			t.Errorf("refused: %v", err)
		}
	})
}

// A list of no relying parties is not the same as no list.
func TestSetMinPINLengthOfNobody(t *testing.T) {
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"authnrCfg": true, "setMinPINLength": true}})
	c.on(ctap.CmdConfig, func([]byte) []byte { return []byte{0} })
	key := open(t, c)
	for want, parties := range map[string][]string{
		"0d a2 01 03 02 a1 01 06":       nil,
		"0d a2 01 03 02 a2 01 06 02 80": {},
	} {
		err := key.SetMinPINLength(t.Context(), &ctap2.SetMinPINLengthRequest{NewMinPINLength: 6, MinPINLengthRPIDs: parties})
		for _, m := range c.messages {
			if m[0] == ctap.CmdConfig && !bytes.Equal(m, raw(t, want)) {
				t.Errorf("sent %x, want %s", m, want)
			}
		}
		if err != nil {
			t.Error(err)
		}
		c.messages = nil
	}
}

// What a key answers to setMinPINLength is said in its terms; what a token is
// refused with on the way there is not.
func TestSetMinPINLengthRefused(t *testing.T) {
	raise := &ctap2.SetMinPINLengthRequest{NewMinPINLength: 6, MinPINLengthRPIDs: []string{"example.com"}}
	for _, tt := range []struct {
		member int // of the Info
		value  int
		status ctap2.Status
		text   string
	}{
		{0x10, 0, ctap2.ErrKeyStoreFull, "ctap2: setMinPINLength: no room for as many relying parties (KEY_STORE_FULL)"},
		{0x10, 1, ctap2.ErrKeyStoreFull, "ctap2: setMinPINLength: no room for as many relying parties (KEY_STORE_FULL)"},
		{0x0D, 7, ctap2.ErrPINPolicyViolation, "ctap2: setMinPINLength: the minimum is 7 already, and only a reset lowers it (PIN_POLICY_VIOLATION)"},
		{0x0D, 6, ctap2.ErrPINPolicyViolation, "ctap2: setMinPINLength: the key does not take 6 as the minimum (PIN_POLICY_VIOLATION)"},
		{0x0D, 7, ctap2.ErrOther, "ctap2: setMinPINLength: " + ctap2.ErrOther.Error()},
	} {
		info := members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"authnrCfg": true, "setMinPINLength": true}, tt.member: tt.value}
		c := newCanned(t, info)
		c.on(ctap.CmdConfig, func([]byte) []byte { return []byte{byte(tt.status)} })
		if err := open(t, c).SetMinPINLength(t.Context(), raise); !errors.Is(err, tt.status) || err.Error() != tt.text {
			t.Errorf("%#x %d: %v", tt.member, tt.value, err)
		}
	}
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 0x0D: 7,
		4: map[string]bool{"authnrCfg": true, "setMinPINLength": true, "clientPin": true, "pinUvAuthToken": true}})
	c.on(ctap.CmdClientPIN, func([]byte) []byte { return []byte{byte(ctap2.ErrPINPolicyViolation)} })
	err := open(t, c, anyPIN()).SetMinPINLength(t.Context(), raise)
	if want := "ctap2: getKeyAgreement: " + ctap2.ErrPINPolicyViolation.Error(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A key of before CTAP 2.3 does not list its subcommands; options say what it
// has of two, and it is not bothered, nor is the person, with those that it
// lacks.
func TestConfigSaidByOptions(t *testing.T) {
	for option, call := range map[string]func(*ctap2.Authenticator) error{
		"ep":       func(k *ctap2.Authenticator) error { return k.EnableEnterpriseAttestation(t.Context(), nil) },
		"alwaysUv": func(k *ctap2.Authenticator) error { return k.ToggleAlwaysUV(t.Context(), nil) },
	} {
		for _, there := range []bool{false, true} {
			info := basicInfo()
			options := map[string]bool{"authnrCfg": true, "clientPin": true, "pinUvAuthToken": true}
			if there {
				options[option] = false
			}
			info[4], info[6] = options, []int{2}
			c := newCanned(t, info)
			withTokens(t, c, pin.Two)
			c.on(ctap.CmdConfig, func([]byte) []byte { return []byte{0} })
			key := open(t, c, anyPIN())
			c.commands()
			err := call(key)
			if sent := c.commands(); (len(sent) > 0) != there || (err == nil) != there || !there && !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("%s there: %v: %v, sent %x", option, there, err, sent)
			}
		}
	}
}

// A token that the caller holds is used, also where the key demands none.
func TestConfigWithToken(t *testing.T) {
	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"authnrCfg": true}})
	c.on(ctap.CmdConfig, func([]byte) []byte { return []byte{0} })
	secret := bytes.Repeat([]byte{7}, 32)
	token := ctap2.NewToken(pin.Two, pin.NewSecret(secret), ctap2.PermissionAuthenticatorConfig, "")
	if err := open(t, c).EnableLongTouchForReset(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	covered := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdConfig, ctap.ConfigEnableLongTouchForReset)
	param := token.Authenticate(covered)
	if want := append(raw(t, "0d a3 01 04 03 02 04 5820"), param...); !bytes.Equal(c.messages[1], want) {
		t.Errorf("sent %x, want %x", c.messages[1], want)
	}
}

// Built-in verification yields a token for the configuration only where uvAcfg
// says so; the PIN does otherwise.
func TestConfigByFinger(t *testing.T) {
	for uvAcfg, want := range map[bool]byte{false: ctap.PINGetTokenUsingPIN, true: ctap.PINGetTokenUsingUV} {
		info := basicInfo()
		info[4], info[6] = map[string]bool{"authnrCfg": true, "clientPin": true, "uv": true, "pinUvAuthToken": true, "uvAcfg": uvAcfg}, []int{2}
		c := newCanned(t, info)
		withTokens(t, c, pin.Two)
		c.on(ctap.CmdConfig, func([]byte) []byte { return []byte{0} })
		key := open(t, c, anyPIN())
		if err := key.EnableLongTouchForReset(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if m := c.messages[len(c.messages)-2]; m[0] != ctap.CmdClientPIN || !bytes.Equal(m[2:6], []byte{1, 2, 2, want}) {
			t.Errorf("uvAcfg %v: token asked for with %x", uvAcfg, m[:6])
		}
	}
}
