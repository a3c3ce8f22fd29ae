package ctap2_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// desk is a software key in a USB port, opened through hid and ctap2, and the
// person in front of it.
type desk struct {
	*ctap2.Authenticator
	t        testing.TB
	soft     *virtual.Authenticator
	usb      *virtual.USB
	messages [][]byte // what ctap2 sent
	before   func(message []byte)
	plug     func(hid.Conn) hid.Conn // what is between the device and the cable
	again    func()                  // takes a card away and back

	pins    []string // what the person enters, one after the other; the last for good
	asked   []ctap2.PINRequest
	touches []ctap2.TouchRequest
	samples []ctap2.SampleFeedback
	ended   int  // TouchDone
	looks   bool // the person looks how many tries are left
}

// Exchange counts what goes over the wire.
type counted struct {
	ctap2.Transport
	d *desk
}

func (c counted) Unwrap() ctap2.Transport { return c.Transport }

func (c counted) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	c.d.messages = append(c.d.messages, bytes.Clone(message))
	if c.d.before != nil {
		c.d.before(message)
	}
	return c.Transport.Exchange(ctx, message, status)
}

// chosen gives a key whose test leaves it open the PIN/UV auth protocol that
// FIDO_TEST_PIN_PROTOCOL names, so that every test can run with each: .ci/run
// runs them once more with protocol one alone.
func chosen(config virtual.Config) virtual.Config {
	if os.Getenv("FIDO_TEST_PIN_PROTOCOL") == "1" && config.PINProtocols == nil {
		config.PINProtocols = []pin.Protocol{pin.One}
	}
	return config
}

func sit(t testing.TB, config virtual.Config, pins ...string) *desk {
	t.Helper()
	soft, err := virtual.New(chosen(config))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, soft: soft, usb: soft.PlugIn(virtual.USBConfig{}), pins: pins}
	t.Cleanup(func() {
		if d.Authenticator != nil {
			d.Close()
		}
		d.usb.Unplug()
		soft.Close()
	})
	d.open()
	return d
}

func (d *desk) open(options ...ctap2.Option) {
	d.t.Helper()
	wire, err := d.usb.Open()
	if err != nil {
		d.t.Fatal(err)
	}
	var conn hid.Conn = wire
	if d.plug != nil {
		conn = d.plug(conn)
	}
	device, err := hid.New(d.t.Context(), conn)
	if err != nil {
		d.t.Fatal(err)
	}
	d.begin(device, options...)
}

// begin opens the key behind a device.
func (d *desk) begin(device ctap2.Transport, options ...ctap2.Option) {
	d.t.Helper()
	interaction := ctap2.Interaction{
		Touch:     func(r ctap2.TouchRequest) { d.touches = append(d.touches, r) },
		TouchDone: func() { d.ended++ },
		Sample:    func(s ctap2.SampleFeedback) { d.samples = append(d.samples, s) },
	}
	if d.pins != nil {
		interaction.PIN = d.enter
	}
	options = append([]ctap2.Option{ctap2.WithInteraction(interaction), ctap2.WithStrictCBOR()}, options...)
	var err error
	d.Authenticator, err = ctap2.Open(d.t.Context(), counted{device, d}, options...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.messages = nil
}

// altered is a key with some of its answers replaced, or lost.
type altered struct {
	ctap2.Transport
	alter func(message, reply []byte) ([]byte, error)
}

func (a altered) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := a.Transport.Exchange(ctx, message, status)
	if err != nil {
		return nil, err
	}
	return a.alter(message, reply)
}

// alter opens the key anew, with its answers altered.
func (d *desk) alter(alter func(message, reply []byte) ([]byte, error)) {
	d.t.Helper()
	d.Close()
	d.begin(altered{d.soft, alter})
}

// replug pulls the key out and opens it anew.
func (d *desk) replug() {
	d.t.Helper()
	d.Close()
	d.usb.Unplug()
	d.usb.PlugIn()
	d.open()
}

func (d *desk) enter(_ context.Context, r ctap2.PINRequest) (pin.Secret, error) {
	d.asked = append(d.asked, r)
	if d.looks {
		if _, err := r.Retries(); err != nil {
			d.t.Error(err)
		}
	}
	if len(d.pins) == 0 {
		return pin.Secret{}, errors.New("nothing more to enter")
	}
	entered := d.pins[0]
	if len(d.pins) > 1 {
		d.pins = d.pins[1:]
	}
	return pin.FromString(entered), nil
}

// sent lists the commands since the last call, "01" or "06.09".
func (d *desk) sent() []string {
	var list []string
	for _, m := range d.messages {
		name := fmt.Sprintf("%02x", m[0])
		if m[0] == ctap.CmdClientPIN {
			at := 2 // subCommand first, or behind pinUvAuthProtocol
			if m[at] == 0x01 {
				at += 2
			}
			name += fmt.Sprintf(".%02x", m[at+1])
		}
		list = append(list, name)
	}
	d.messages = nil
	return list
}

func (d *desk) expect(want ...string) {
	d.t.Helper()
	if got := d.sent(); !slices.Equal(got, want) {
		d.t.Errorf("sent %v, want %v", got, want)
	}
}

func (d *desk) register(change ...func(*ctap2.MakeCredentialRequest)) *ctap2.Credential {
	d.t.Helper()
	request := registration()
	for _, f := range change {
		f(request)
	}
	credential, err := d.MakeCredential(d.t.Context(), request)
	if err != nil {
		d.t.Fatal(err)
	}
	if s, err := attestation.Verify(credential, request.ClientDataHash); err != nil || s.Type != attestation.Basic {
		d.t.Errorf("attestation: %v", err)
	}
	return credential
}

func (d *desk) signIn(change ...func(*ctap2.GetAssertionRequest)) []*ctap2.Assertion {
	d.t.Helper()
	request := signIn()
	for _, f := range change {
		f(request)
	}
	accounts, err := d.GetAssertion(d.t.Context(), request)
	if err != nil {
		d.t.Fatal(err)
	}
	return accounts
}

func verify(t testing.TB, a *ctap2.Assertion, c *ctap2.Credential) {
	t.Helper()
	if !bytes.Equal(a.Credential.ID, c.ID) {
		t.Errorf("assertion by %x, not %x", a.Credential.ID, c.ID)
	}
	if err := a.Verify(c.PublicKey, clientDataHash[:]); err != nil {
		t.Error(err)
	}
	wrong := clientDataHash
	wrong[0] ^= 1
	if err := a.Verify(c.PublicKey, wrong[:]); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("signature for other client data: %v", err)
	}
}

func resident(r *ctap2.MakeCredentialRequest) { r.ResidentKey = true }

func account(id string) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) {
		r.ResidentKey = true
		r.User = ctap2.User{ID: []byte(id), Name: id + "@example.com", DisplayName: "The " + id}
	}
}

func allow(ids ...[]byte) func(*ctap2.GetAssertionRequest) {
	return func(r *ctap2.GetAssertionRequest) {
		for _, id := range ids {
			r.AllowList = append(r.AllowList, ctap2.CredentialDescriptor{ID: id})
		}
	}
}

func exclude(ids ...[]byte) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) {
		for _, id := range ids {
			r.ExcludeList = append(r.ExcludeList, ctap2.CredentialDescriptor{ID: id})
		}
	}
}

func mcUV(v ctap2.UserVerification) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.UserVerification = v }
}

func gaUV(v ctap2.UserVerification) func(*ctap2.GetAssertionRequest) {
	return func(r *ctap2.GetAssertionRequest) { r.UserVerification = v }
}

func randomIDs(n, length int) [][]byte {
	ids := make([][]byte, n)
	for i := range ids {
		ids[i] = make([]byte, length)
		rand.Read(ids[i])
	}
	return ids
}

// each runs a test with a key of each PIN/UV auth protocol.
func each(t *testing.T, test func(t *testing.T, config virtual.Config)) {
	for _, p := range []pin.Protocol{pin.One, pin.Two} {
		t.Run(p.String(), func(t *testing.T) { test(t, virtual.Config{PINProtocols: []pin.Protocol{p}}) })
	}
}

func TestRegisterAndSignIn(t *testing.T) {
	d := sit(t, virtual.Config{})
	credential := d.register(resident)
	if credential.AuthData.Flags != ctap2.FlagUserPresent|ctap2.FlagAttestedCredentialData || credential.Format != "packed" {
		t.Errorf("%+v", credential.AuthData)
	}
	d.expect("01")
	accounts := d.signIn()
	d.expect("02")
	if len(accounts) != 1 {
		t.Fatalf("%d accounts", len(accounts))
	}
	verify(t, accounts[0], credential)
	if string(accounts[0].User.ID) != "\x01\x02\x03" || accounts[0].User.Name != "" {
		t.Errorf("user %+v: a name without verification", accounts[0].User)
	}
	touch := ctap2.TouchRequest{Authenticator: d.Authenticator, For: ctap2.TouchPresence, RPID: "example.com"}
	if want := []ctap2.TouchRequest{touch, touch}; !slices.Equal(d.touches, want) || d.ended != 2 {
		t.Errorf("touches %v, %d ended", d.touches, d.ended)
	}
	object, err := credential.AttestationObject()
	if err != nil || !bytes.HasPrefix(object, []byte("\xa3cfmtfpackedgattStmt")) {
		t.Errorf("attestation object %x, %v", object, err)
	}
	if s, err := attestation.Verify(credential, clientDataHash[:]); err != nil || len(s.Certificates) == 0 {
		t.Error(err)
	}
}

// A key remembers server-side credentials by their ID alone.
func TestServerSideCredential(t *testing.T) {
	d := sit(t, virtual.Config{NoResidentKeys: true})
	credential := d.register()
	accounts := d.signIn(allow(credential.ID))
	verify(t, accounts[0], credential)
	if _, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Errorf("discoverable: %v", err)
	}
	request := registration()
	request.ResidentKey = true
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUnsupportedOption) {
		t.Errorf("discoverable on a key that has none: %v", err)
	}
}

func TestAlgorithms(t *testing.T) {
	all := []cose.Algorithm{cose.ES256, cose.ES384, cose.ES512, cose.EdDSA, cose.RS256}
	d := sit(t, virtual.Config{Algorithms: all})
	for _, alg := range all {
		credential := d.register(func(r *ctap2.MakeCredentialRequest) {
			r.Algorithms = []cose.Algorithm{-65000, alg} // the first is nobody's
			r.ResidentKey = true
			r.User.ID = []byte(alg.String())
		})
		if credential.PublicKey.Algorithm != alg {
			t.Errorf("%v instead of %v", credential.PublicKey.Algorithm, alg)
		}
		verify(t, d.signIn(allow(credential.ID))[0], credential)
	}
	request := registration()
	request.Algorithms = []cose.Algorithm{cose.PS256}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUnsupportedAlgorithm) {
		t.Error(err)
	}
}

func TestSeveralAccounts(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "271828")
		var credentials []*ctap2.Credential
		for _, id := range []string{"ada", "grace", "hedy"} {
			credentials = append(credentials, d.register(account(id)))
		}
		d.sent()
		accounts := d.signIn()
		d.expect("06.02", "06.09", "02", "08", "08")
		if len(accounts) != 3 {
			t.Fatalf("%d accounts", len(accounts))
		}
		for i, a := range accounts {
			verify(t, a, credentials[2-i]) // the last one first
			if want := []string{"hedy", "grace", "ada"}[i]; a.User.Name != want+"@example.com" || a.User.DisplayName != "The "+want || string(a.User.ID) != want {
				t.Errorf("account %d: %+v", i, a.User)
			}
			if !a.AuthData.Flags.Has(ctap2.FlagUserVerified) {
				t.Errorf("account %d: %v", i, a.AuthData.Flags)
			}
		}
		if len(d.asked) != 1 {
			t.Errorf("asked for the PIN %d times", len(d.asked))
		}
		if again := d.register(account("ada")); bytes.Equal(again.ID, credentials[0].ID) {
			t.Error("the same credential again")
		}
		if n := len(d.signIn()); n != 3 {
			t.Errorf("%d accounts after one was registered anew", n)
		}

		// Another program between one account and the next.
		other := open(t, d.soft)
		d.before = func(message []byte) {
			if message[0] == ctap.CmdGetNextAssertion {
				if _, err := other.GetInfo(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		if accounts, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrInterrupted) || !errors.Is(err, ctap2.ErrNotAllowed) || accounts != nil {
			t.Errorf("%v, %v", accounts, err)
		}
	})
}

func TestPIN(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		d := sit(t, config, "1234")
		ctx := t.Context()
		if retries, err := d.PINRetries(ctx); err != nil || retries.Retries != 8 || retries.PowerCycle {
			t.Errorf("%+v, %v", retries, err)
		}
		if err := d.ChangePIN(ctx, pin.FromString("1234"), pin.FromString("5678")); !errors.Is(err, ctap2.ErrPINNotSet) {
			t.Errorf("change of no PIN: %v", err)
		}
		d.sent()
		for entered, want := range map[string]error{"123": pin.ErrTooShort, "12345\x00": pin.ErrZeroByte, "1\xff34": pin.ErrNotUTF8} {
			if err := d.SetPIN(ctx, pin.FromString(entered)); !errors.Is(err, want) {
				t.Errorf("%q: %v", entered, err)
			}
		}
		d.GetInfo(ctx)
		d.sent()

		first := pin.FromString("a\u0308bcd") // four code points once normalized
		if err := d.SetPIN(ctx, first); err != nil {
			t.Fatal(err)
		}
		d.expect("06.02", "06.03")
		if first.Len() == 0 {
			t.Error("wiped the caller's PIN")
		}
		if info, err := d.GetInfo(ctx); err != nil || !info.Options[ctap2.OptionClientPIN] || info != d.Info() {
			t.Errorf("info after setting a PIN: %v, %v", info, err)
		}
		// The PIN that was set is remembered: nobody is asked.
		credential := d.register(resident)
		if !credential.AuthData.Flags.Has(ctap2.FlagUserVerified) || len(d.asked) != 0 {
			t.Errorf("%v, asked %d times", credential.AuthData.Flags, len(d.asked))
		}
		d.sent()

		d.GetInfo(ctx)
		d.sent()
		if err := d.ChangePIN(ctx, pin.FromString("\u00e4bcd"), pin.FromString("1234")); err != nil {
			t.Fatal(err)
		}
		d.expect("06.02", "06.04")
		err := d.ChangePIN(ctx, pin.FromString("4321"), pin.FromString("5678"))
		var refused *ctap2.PINError
		if !errors.As(err, &refused) || refused.Retries != 7 || refused.PowerCycle || !errors.Is(err, ctap2.ErrPINInvalid) {
			t.Errorf("change with a wrong PIN: %v", err)
		}
		// A refusal makes the Authenticator forget.
		verify(t, d.signIn()[0], credential)
		if len(d.asked) != 1 {
			t.Errorf("asked %d times", len(d.asked))
		}
		if retries, err := d.PINRetries(ctx); err != nil || retries.Retries != 8 {
			t.Errorf("%+v, %v", retries, err)
		}
		d.Forget()
		verify(t, d.signIn()[0], credential)
		if len(d.asked) != 2 {
			t.Errorf("asked %d times after Forget", len(d.asked))
		}
		d.sent()
		if err := d.SetPIN(ctx, pin.FromString("4321")); !errors.Is(err, ctap2.ErrPINAuthInvalid) || !strings.Contains(err.Error(), "setPIN: a PIN is set already: use ChangePIN") {
			t.Errorf("set where one is set: %v", err)
		}
		d.expect("04") // is that still so?
		d.signIn()
		if len(d.asked) != 2 {
			t.Errorf("asked %d times: a PIN that was not changed is forgotten", len(d.asked))
		}
	})
}

// Another program has reset the key since: what the Info said of its PIN is not
// held against the caller.
func TestSetPINAfterAnotherProgramsReset(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", ResetWindow: -1})
	other := &desk{t: t, soft: d.soft, usb: d.usb}
	other.open()
	defer other.Close()
	if err := other.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.SetPIN(t.Context(), pin.FromString("314159")); err != nil {
		t.Error(err)
	}
	d.expect("04", "06.02", "06.03")
}

// Another program has set a PIN since the Info: what the key answers is said in
// the same words.
func TestSetPINAfterAnotherProgram(t *testing.T) {
	d := sit(t, virtual.Config{})
	if err := open(t, d.soft).SetPIN(t.Context(), pin.FromString("314159")); err != nil {
		t.Fatal(err)
	}
	const want = "ctap2: setPIN: a PIN is set already: use ChangePIN (PIN_AUTH_INVALID)"
	for _, sent := range [][]string{{"06.02", "06.03"}, {"04"}} {
		err := d.SetPIN(t.Context(), pin.FromString("271828"))
		if !errors.Is(err, ctap2.ErrPINAuthInvalid) || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
		d.expect(sent...)
	}
}

// A key without the option is not asked about PINs, nor one without built-in
// user verification about that.
func TestNoClientPIN(t *testing.T) {
	d := sit(t, virtual.Config{NoClientPIN: true, BuiltInUV: virtual.UVConfigured})
	set, other := pin.FromString("271828"), pin.FromString("314159")
	for method, err := range map[string]error{
		"SetPIN":     d.SetPIN(t.Context(), set),
		"ChangePIN":  d.ChangePIN(t.Context(), set, other),
		"PINRetries": second(d.PINRetries(t.Context())),
		"UVRetries":  second(sit(t, virtual.Config{}).UVRetries(t.Context())),
	} {
		if !errors.Is(err, ctap2.ErrUnsupported) {
			t.Errorf("%s: %v", method, err)
		}
	}
	d.expect()
	if left, err := d.UVRetries(t.Context()); err != nil || left == 0 {
		t.Errorf("%d, %v", left, err)
	}
}

// A PIN that breaks a rule of length: which one it is, and what it takes.
func TestPINLengthTexts(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", MinPINLength: 6}, "12")
	_, asked := d.MakeCredential(t.Context(), func() *ctap2.MakeCredentialRequest {
		r := registration()
		r.ResidentKey = true
		return r
	}())
	none := sit(t, virtual.Config{MinPINLength: 6})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{d.ChangePIN(t.Context(), pin.FromString("12"), pin.FromString("314159")), "ctap2: current PIN: pin: PIN is too short: at least 4 characters"},
		{d.ChangePIN(t.Context(), pin.FromString("271828"), pin.FromString("12345")), "ctap2: new PIN: pin: PIN is too short: at least 6 characters"},
		{none.SetPIN(t.Context(), pin.FromString("12345")), "ctap2: new PIN: pin: PIN is too short: at least 6 characters"},
		{asked, "ctap2: PIN prompt: pin: PIN is too short: at least 4 characters"},
	} {
		if !errors.Is(tt.err, pin.ErrTooShort) || tt.err.Error() != tt.want {
			t.Errorf("%v, want %q", tt.err, tt.want)
		}
	}
}

// Quirk 34: wrong PINs, with the tries left; what unblocks the key is said.
func TestQuirk34WrongPIN(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "0000", "1111", "271828")
		credential := d.register(resident)
		if len(d.asked) != 3 {
			t.Fatalf("asked %d times", len(d.asked))
		}
		if d.asked[0].Previous != nil || d.asked[1].Previous.Retries != 7 || d.asked[2].Previous.Retries != 6 || d.asked[0].RPID != "example.com" {
			t.Errorf("%+v", d.asked)
		}
		// Each wrong PIN made the key take a new key agreement key.
		d.expect("06.02", "06.09", "06.01", "06.02", "06.09", "06.01", "06.02", "06.09", "01")

		// A program that knows one PIN only spends one try.
		d.Forget()
		d.asked, d.pins = nil, []string{"9999"}
		_, err := d.GetAssertion(t.Context(), signIn())
		var refused *ctap2.PINError
		if !errors.As(err, &refused) || refused.Retries != 7 || len(d.asked) != 2 {
			t.Errorf("%v after %d questions", err, len(d.asked))
		}
		for tries, left := 0, 6; left > 0; tries++ {
			_, err := d.GetAssertion(t.Context(), signIn())
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			if refused.PowerCycle {
				if !errors.Is(err, ctap2.ErrPINAuthBlocked) {
					t.Errorf("%v", err)
				}
				// The right PIN does not help either, and costs nothing.
				d.pins = []string{"271828"}
				if _, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrPINAuthBlocked) {
					t.Error(err)
				}
				d.pins = []string{"9999"}
				left = refused.Retries - 1
				d.replug()
				continue
			}
			if refused.Retries != left && !errors.Is(err, ctap2.ErrPINBlocked) {
				t.Errorf("%d left, want %d", refused.Retries, left)
			}
			left = refused.Retries - 1
			if tries > 20 {
				t.Fatal("never blocked")
			}
		}
		_, err = d.GetAssertion(t.Context(), signIn())
		for !errors.Is(err, ctap2.ErrPINBlocked) {
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			d.replug()
			_, err = d.GetAssertion(t.Context(), signIn())
		}
		if !errors.As(err, &refused) || refused.Retries != 0 || !bytes.Contains([]byte(err.Error()), []byte("reset")) {
			t.Errorf("%v", err)
		}
		_ = credential
		if err := d.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if info, err := d.GetInfo(t.Context()); err != nil || info.Options[ctap2.OptionClientPIN] {
			t.Errorf("PIN after reset: %v", err)
		}
		if _, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("credential after reset: %v", err)
		}
	})
}

// A PIN that the key has said is blocked is not asked for, nor sent, until the
// key says otherwise.
func TestBlockedPINIsNotAskedFor(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN, config.ResetWindow = "271828", -1
		d := sit(t, config, "0000", "1111", "2222", "271828")
		request := signIn()
		request.UserVerification = ctap2.Required
		refused := func(want error, retries int, asked int, sent ...string) {
			t.Helper()
			d.asked = nil
			d.sent()
			_, err := d.GetAssertion(t.Context(), request)
			var e *ctap2.PINError
			if !errors.As(err, &e) || !errors.Is(err, want) || e.Retries != retries || len(d.asked) != asked {
				t.Errorf("%v (%+v) after %d questions, want %v", err, e, len(d.asked), want)
			}
			d.expect(sent...)
		}
		refused(ctap2.ErrPINAuthBlocked, 5, 3, "06.02", "06.09", "06.01", "06.02", "06.09", "06.01", "06.02", "06.09", "06.01")
		refused(ctap2.ErrPINAuthBlocked, 5, 0, "06.01")
		d.soft.PowerCycle()
		d.register(resident) // it is good again, and so is the PIN

		// Another program has blocked it, which a prompt finds that looks, and the
		// PIN that it returns all the same does not change.
		d.Forget()
		other := &desk{t: t, soft: d.soft, usb: d.usb}
		other.open()
		defer other.Close()
		for range 8 {
			if err := other.ChangePIN(t.Context(), pin.FromString("9999"), pin.FromString("314159")); errors.Is(err, ctap2.ErrPINAuthBlocked) {
				d.soft.PowerCycle()
			} else if errors.Is(err, ctap2.ErrPINBlocked) {
				break
			}
		}
		if left, err := other.PINRetries(t.Context()); err != nil || left.Retries != 0 {
			t.Fatalf("%+v, %v", left, err)
		}
		d.looks = true
		refused(ctap2.ErrPINBlocked, 0, 1, "06.01", "06.02", "06.09")
		refused(ctap2.ErrPINBlocked, 0, 0, "06.01")

		if err := other.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := other.SetPIN(t.Context(), pin.FromString("314159")); err != nil {
			t.Fatal(err)
		}
		d.pins = []string{"314159"}
		if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("after a reset: %v", err)
		}
	})
}

// Where several keys share an Interaction, each request says whose it is.
func TestSharedInteraction(t *testing.T) {
	var asked, touched []*ctap2.Authenticator
	shared := ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(_ context.Context, r ctap2.PINRequest) (pin.Secret, error) {
			asked = append(asked, r.Authenticator)
			return pin.FromString("271828"), nil
		},
		Touch: func(r ctap2.TouchRequest) { touched = append(touched, r.Authenticator) },
	})
	var keys []*ctap2.Authenticator
	for range 2 {
		keys = append(keys, open(t, sit(t, virtual.Config{PIN: "271828"}).Transport(), shared))
	}
	request := registration()
	request.UserVerification = ctap2.Required
	for _, key := range keys {
		if _, err := key.MakeCredential(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(asked, keys) || !slices.Equal(touched, keys) {
		t.Errorf("asked %v, touched %v, of %v", asked, touched, keys)
	}
}

func TestPINPrompt(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828"})
	if _, err := d.MakeCredential(t.Context(), registration()); err != nil {
		t.Errorf("a key that needs no verification for this: %v", err)
	}
	request := registration()
	request.ResidentKey = true
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrNoPIN) {
		t.Errorf("no way to ask: %v", err)
	}
	d.pins = []string{}
	d.Close()
	d.open()
	if _, err := d.MakeCredential(t.Context(), request); err == nil || !bytes.Contains([]byte(err.Error()), []byte("nothing more to enter")) {
		t.Errorf("a prompt that fails: %v", err)
	}
	d.pins = []string{"123"}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, pin.ErrTooShort) {
		t.Errorf("a PIN that no key has: %v", err)
	}
	if retries, err := d.PINRetries(t.Context()); err != nil || retries.Retries != 8 {
		t.Errorf("a try was lost: %+v, %v", retries, err)
	}
	asked := d.asked[len(d.asked)-1]
	if asked.Retries == nil {
		t.Error("no way to show the tries left")
	}

	// One Secret for all questions: it is wiped after the first.
	secret := pin.FromString("271828")
	key := open(t, d.soft, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return secret, nil },
	}))
	for _, want := range []error{nil, pin.ErrTooShort} {
		_, err := key.MakeCredential(t.Context(), request)
		key.Forget()
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "a Secret that is empty or was wiped") {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// A prompt that calls a method of the key that asks would wait for itself.
func TestPINPromptCallsItsKey(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	another := sit(t, virtual.Config{PIN: benchPIN})
	asked := 0
	var key *ctap2.Authenticator
	key = open(t, d.soft, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(ctx context.Context, _ ctap2.PINRequest) (pin.Secret, error) {
			asked++
			derived, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			for _, c := range []context.Context{ctx, derived} {
				if _, err := key.PINRetries(c); !errors.Is(err, ctap2.ErrInvalidRequest) {
					t.Errorf("the same key: %v", err)
				}
				if _, err := another.PINRetries(c); err != nil {
					t.Errorf("another key: %v", err)
				}
			}
			return pin.FromString(benchPIN), nil
		},
	}))
	if _, err := key.EnumerateRPs(t.Context(), nil); err != nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// Nobody is asked for a PIN that is of no use any longer.
func TestPINPromptAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	d := sit(t, virtual.Config{PIN: "271828", BuiltInUV: virtual.UVConfigured, Verification: func(context.Context, virtual.Prompt) virtual.Answer {
		return virtual.LockOut
	}}, "271828")
	d.alter(func(message, reply []byte) ([]byte, error) {
		if reply[0] != ctap.StatusOK {
			cancel(reason) // as it gives up built-in verification
		}
		return reply, nil
	})
	if _, err := d.MakeCredential(ctx, registration()); !errors.Is(err, reason) || len(d.asked) != 0 {
		t.Errorf("%v, asked %d times", err, len(d.asked))
	}
}

// Which secret Preferred yields turns with what is set up on the key: what is
// locked with it without a PIN cannot be opened with one.
func TestHMACSecretPreferred(t *testing.T) {
	d := sit(t, virtual.Config{})
	credential := d.register(with(ctap2.HMACSecret()))
	secret := func(v ctap2.UserVerification) pin.Secret {
		t.Helper()
		a := d.signIn(allow(credential.ID), gaUV(v), gaWith(ctap2.HMACSecret(make([]byte, 32))))
		o, err := ctap2.Output[*ctap2.HMACSecretOutput](a[0].Extensions)
		if err != nil {
			t.Fatal(err)
		}
		return o.Output1
	}
	before := secret(ctap2.Preferred)
	request := signIn()
	request.UserVerification = ctap2.Required
	request.Extensions = []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))}
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNotSetUp) {
		t.Errorf("required, before there is a PIN: %v", err)
	}
	if err := d.SetPIN(t.Context(), pin.FromString("271828")); err != nil {
		t.Fatal(err)
	}
	if secret(ctap2.Preferred).Equal(before) || !secret(ctap2.Required).Equal(secret(ctap2.Preferred)) || !secret(ctap2.Discouraged).Equal(before) {
		t.Error("the doc of HMACSecret says otherwise")
	}
}

func TestHMACSecret(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "271828")
		credential := d.register(func(r *ctap2.MakeCredentialRequest) {
			r.ResidentKey = true
			r.Extensions = []ctap2.Extension{ctap2.HMACSecret()}
		})
		if enabled, err := ctap2.Output[ctap2.HMACSecretEnabled](credential.Extensions); err != nil || !bool(enabled) {
			t.Errorf("%v, %v", enabled, err)
		}
		salt1, salt2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		secrets := func(v ctap2.UserVerification, salts ...[]byte) (out [2][]byte) {
			t.Helper()
			d.sent()
			accounts := d.signIn(gaUV(v), func(r *ctap2.GetAssertionRequest) {
				r.Extensions = []ctap2.Extension{ctap2.HMACSecret(salts...)}
			})
			verify(t, accounts[0], credential)
			o, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions)
			if err != nil {
				t.Fatal(err)
			}
			out = [2][]byte{bytes.Clone(o.Output1.Bytes()), bytes.Clone(o.Output2.Bytes())}
			o.Wipe()
			if o.Output1.Len() != 0 || o.Output2.Len() != 0 {
				t.Error("not wiped")
			}
			return out
		}
		one := secrets(ctap2.Required, salt1)
		d.expect("06.02", "06.09", "02") // one key agreement for both
		both := secrets(ctap2.Required, salt1, salt2)
		again := secrets(ctap2.Required, salt2, salt1)
		if len(one[0]) != 32 || one[1] != nil || len(both[0]) != 32 || len(both[1]) != 32 {
			t.Fatalf("lengths of %x %x", one, both)
		}
		if !bytes.Equal(one[0], both[0]) || !bytes.Equal(both[0], again[1]) || !bytes.Equal(both[1], again[0]) || bytes.Equal(both[0], both[1]) {
			t.Errorf("one %x both %x again %x", one, both, again)
		}
		without := secrets(ctap2.Discouraged, salt1)
		d.expect("06.02", "02")
		if bytes.Equal(without[0], one[0]) {
			t.Error("the same secret without verification")
		}

		for name, e := range map[string]ctap2.Extension{
			"short salt":     ctap2.HMACSecret(salt1[1:]),
			"three salts":    ctap2.HMACSecret(salt1, salt1, salt1),
			"no salt at all": ctap2.HMACSecret(),
		} {
			request := signIn()
			request.Extensions = []ctap2.Extension{e}
			if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		request := registration()
		request.Extensions = []ctap2.Extension{ctap2.HMACSecret(salt1)}
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("salts in a registration: %v", err)
		}
	})
}

func TestCredProtect(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		d := sit(t, config, "271828")
		for _, policy := range []ctap2.CredProtectPolicy{ctap2.UVOptional, ctap2.UVOptionalWithCredentialIDList, ctap2.UVRequired} {
			t.Run(policy.String(), func(t *testing.T) {
				site := fmt.Sprintf("site%d.example", policy)
				here := func(r *ctap2.GetAssertionRequest) { r.RPID = site }
				credential := d.register(func(r *ctap2.MakeCredentialRequest) {
					r.RP.ID = site
					r.ResidentKey = true
					r.Extensions = []ctap2.Extension{ctap2.CredProtect(policy)}
					if policy == ctap2.UVRequired {
						r.Extensions[0] = ctap2.CredProtectRequired(policy)
					}
				})
				if got, err := ctap2.Output[ctap2.CredProtectPolicy](credential.Extensions); err != nil || got != policy {
					t.Errorf("%v, %v", got, err)
				}
				verify(t, d.signIn(here)[0], credential)
				try := func(want bool, change ...func(*ctap2.GetAssertionRequest)) {
					t.Helper()
					request := signIn()
					for _, f := range append(change, here, gaUV(ctap2.Discouraged)) {
						f(request)
					}
					_, err := d.GetAssertion(t.Context(), request)
					if (err == nil) != want || err != nil && !errors.Is(err, ctap2.ErrNoCredentials) {
						t.Error(err)
					}
				}
				try(policy == ctap2.UVOptional)
				try(policy != ctap2.UVRequired, allow(credential.ID))
			})
		}
		request := registration()
		request.Extensions = []ctap2.Extension{ctap2.CredProtect(4)}
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("policy 4: %v", err)
		}
	})
}

func TestExtensionsOfOthers(t *testing.T) {
	d := sit(t, virtual.Config{})
	request := registration()
	request.Extensions = []ctap2.Extension{ctap2.RawExtension{ID: "credProtect", CBOR: []byte{0x02}}, ctap2.RawExtension{ID: "unheardOf", CBOR: []byte{0xf5}}}
	credential, err := d.MakeCredential(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := ctap2.Output[[]byte](credential.Extensions); err != nil || !bytes.Equal(out, []byte{2}) {
		t.Errorf("%x, %v", out, err)
	}
	for name, e := range map[string][]ctap2.Extension{
		"not CBOR": {ctap2.RawExtension{ID: "x", CBOR: []byte{0xff}}},
		"twice":    {ctap2.CredProtect(1), ctap2.CredProtect(2)},
	} {
		request.Extensions = e
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) && !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLists(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = "271828"
		config.MaxMsgSize = 1200
		d := sit(t, config, "271828")
		credential := d.register(resident)
		other := randomIDs(100, len(credential.ID))
		long := randomIDs(3, 1000)
		for _, n := range []int{0, 1, 100} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				with := slices.Concat(long, other[:n])
				with = slices.Insert(with, len(with)/2, credential.ID)
				if n == 0 {
					with = nil
				}
				d.touches = nil
				verify(t, d.signIn(allow(with...))[0], credential)
				if len(d.touches) != 1 {
					t.Errorf("%d touches", len(d.touches))
				}
				// None of them: a touch all the same, one.
				if n > 0 {
					d.touches = nil
					request := signIn()
					allow(other[:n]...)(request)
					if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) {
						t.Error(err)
					}
					if len(d.touches) != 1 {
						t.Errorf("%d touches where nothing matches", len(d.touches))
					}
				}

				request := registration()
				for _, id := range other[:n] {
					request.ExcludeList = append(request.ExcludeList, ctap2.CredentialDescriptor{ID: id})
				}
				request.User.ID = fmt.Appendf(nil, "user %d", n)
				if _, err := d.MakeCredential(t.Context(), request); err != nil {
					t.Errorf("none of the excluded is here: %v", err)
				}
				if n == 0 {
					return
				}
				d.touches = nil
				request.ExcludeList = append(request.ExcludeList, credential.Descriptor())
				if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrCredentialExcluded) {
					t.Errorf("one of the excluded is here: %v", err)
				}
				if len(d.touches) != 1 {
					t.Errorf("%d touches for an excluded credential", len(d.touches))
				}
			})
		}
	})
}

// Quirk 39: parts by count and bytes, as few as possible; one touch.
func TestQuirk39Transactions(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", MaxCredentialCountInList: 8}, "271828")
	credential := d.register(resident)
	ids := randomIDs(20, 64)
	d.sent()
	ids[12] = credential.ID
	verify(t, d.signIn(allow(ids...))[0], credential)
	d.expect("06.02", "06.09", "02", "02", "02")
	ids[12], ids[19] = ids[19], credential.ID
	verify(t, d.signIn(allow(ids...))[0], credential)
	d.expect("06.02", "06.09", "02", "02", "02")

	d = sit(t, virtual.Config{PIN: "271828", MaxCredentialCountInList: 20}, "271828")
	credential = d.register(resident)
	d.sent()
	ids[19] = credential.ID
	verify(t, d.signIn(allow(ids...))[0], credential)
	d.expect("06.02", "06.09", "02")

	// 40 IDs of 241 bytes: four fit into a message of 1200 bytes.
	d = sit(t, virtual.Config{MaxMsgSize: 1200, MaxCredentialIDLength: 241, MaxCredentialCountInList: 40})
	credential = d.register(resident)
	ids = append(randomIDs(39, 241), credential.ID)
	d.sent()
	verify(t, d.signIn(allow(ids...))[0], credential)
	if n := len(d.sent()); n != 10 {
		t.Errorf("%d messages for 40 IDs, four a message", n)
	}
	// Longer than the key's longest: none is sent, and someone touches still.
	d.touches = nil
	request := signIn()
	allow(randomIDs(3, 242)...)(request)
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) || len(d.touches) != 1 {
		t.Errorf("%v, %d touches", err, len(d.touches))
	}
	d.expect("0b")
	request.Silent = true
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) || len(d.touches) != 1 {
		t.Errorf("%v, %d touches", err, len(d.touches))
	}
	d.expect()
}

func TestSilent(t *testing.T) {
	d := sit(t, virtual.Config{})
	credential := d.register()
	d.touches = nil
	accounts := d.signIn(allow(credential.ID), func(r *ctap2.GetAssertionRequest) { r.Silent = true })
	if accounts[0].AuthData.Flags.Has(ctap2.FlagUserPresent) || len(d.touches) != 0 {
		t.Errorf("%v, %d touches", accounts[0].AuthData.Flags, len(d.touches))
	}
	verify(t, accounts[0], credential)
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	d := sit(t, virtual.Config{})
	for name, change := range map[string]func(*ctap2.MakeCredentialRequest){
		"short hash":     func(r *ctap2.MakeCredentialRequest) { r.ClientDataHash = r.ClientDataHash[1:] },
		"no RP ID":       func(r *ctap2.MakeCredentialRequest) { r.RP.ID = "" },
		"no user":        func(r *ctap2.MakeCredentialRequest) { r.User.ID = nil },
		"long user":      func(r *ctap2.MakeCredentialRequest) { r.User.ID = make([]byte, 65) },
		"no algorithms":  func(r *ctap2.MakeCredentialRequest) { r.Algorithms = nil },
		"no excluded ID": func(r *ctap2.MakeCredentialRequest) { r.ExcludeList = []ctap2.CredentialDescriptor{{}} },
		"a wiped token":  func(r *ctap2.MakeCredentialRequest) { r.Token = new(ctap2.Token) },
		"unknown wish":   func(r *ctap2.MakeCredentialRequest) { r.UserVerification = 3 },
		"blob, not kept": func(r *ctap2.MakeCredentialRequest) { r.Extensions = []ctap2.Extension{ctap2.LargeBlobKey()} },
	} {
		request := registration()
		change(request)
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*ctap2.GetAssertionRequest){
		"short hash":    func(r *ctap2.GetAssertionRequest) { r.ClientDataHash = nil },
		"no RP ID":      func(r *ctap2.GetAssertionRequest) { r.RPID = "" },
		"no allowed ID": func(r *ctap2.GetAssertionRequest) { r.AllowList = []ctap2.CredentialDescriptor{{}} },
		"unknown wish":  func(r *ctap2.GetAssertionRequest) { r.UserVerification = 3 },
	} {
		request := signIn()
		change(request)
		if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.expect()
}

// What is missing altogether is refused as well, and does not panic.
func TestNilArguments(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828"}, "271828")
	ctx := t.Context()
	register, assert := registration(), signIn()
	register.Extensions, assert.Extensions = []ctap2.Extension{nil}, []ctap2.Extension{nil}
	credential := d.register(resident)
	signed := d.signIn()[0]
	d.sent()
	for name, err := range map[string]error{
		"Open":                      second(ctap2.Open(ctx, nil)),
		"MakeCredential":            second(d.MakeCredential(ctx, nil)),
		"MakeCredential, extension": second(d.MakeCredential(ctx, register)),
		"GetAssertion":              second(d.GetAssertion(ctx, nil)),
		"GetAssertion, extension":   second(d.GetAssertion(ctx, assert)),
		"Token":                     second(d.Token(ctx, nil)),
		"EnrollFingerprint":         second(d.EnrollFingerprint(ctx, nil)),
		"SetFriendlyName":           d.SetFriendlyName(ctx, nil),
		"RemoveEnrollment":          d.RemoveEnrollment(ctx, nil),
		"DeleteCredential":          d.DeleteCredential(ctx, nil),
		"UpdateUserInformation":     d.UpdateUserInformation(ctx, nil),
		"GetLargeBlob":              second(d.GetLargeBlob(ctx, nil)),
		"PutLargeBlob":              d.PutLargeBlob(ctx, nil),
		"DeleteLargeBlob":           d.DeleteLargeBlob(ctx, nil),
		"WriteLargeBlobArray":       d.WriteLargeBlobArray(ctx, nil),
		"SetMinPINLength":           d.SetMinPINLength(ctx, nil),
		"VendorPrototype":           second(d.VendorPrototype(ctx, nil)),
		"Verify, no AuthData":       new(ctap2.Assertion).Verify(credential.PublicKey, clientDataHash[:]),
		"Verify, no key":            signed.Verify(nil, clientDataHash[:]),
		"AttestationObject":         second(new(ctap2.Credential).AttestationObject()),
	} {
		if !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, sent := range d.sent() {
		if sent == "01" || sent == "02" {
			t.Errorf("sent %s", sent)
		}
	}
}

// Quirk 10: what the key says it takes is the limit of a command, 1024 bytes
// where it says nothing or zero; framing has another limit, which a key may
// exceed in what it says (quirk 46). What is over either is not sent.
func TestQuirk10MessageSize(t *testing.T) {
	for maxMsgSize, limit := range map[int]int{-1: 1024, 0: 1024, 1200: 1200, 100_000: 7609} {
		info := basicInfo()
		if maxMsgSize >= 0 {
			info[5] = maxMsgSize
		}
		largest := 0
		c := newCanned(t, info)
		c.on(0x42, func(message []byte) []byte {
			largest = max(largest, len(message))
			return []byte{0}
		})
		soft, err := virtual.New(virtual.Config{})
		if err != nil {
			t.Fatal(err)
		}
		usb := soft.PlugIn(virtual.USBConfig{})
		conn, err := usb.Open()
		if err != nil {
			t.Fatal(err)
		}
		device, err := hid.New(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		key := open(t, framed{c, device})
		for _, size := range []int{limit - 1, limit, limit + 1} {
			_, err := key.Command(t.Context(), 0x42, make([]byte, size-1))
			if size <= limit && err != nil || size > limit && !errors.Is(err, ctap2.ErrMessageTooLarge) {
				t.Errorf("maxMsgSize %v, %d bytes: %v", maxMsgSize, size, err)
			}
		}
		if largest != limit {
			t.Errorf("maxMsgSize %v: the largest message that was sent has %d bytes", maxMsgSize, largest)
		}
		device.Close()
		usb.Unplug()
		soft.Close()
	}
}

// framed is a canned key that sends what it is asked through a real channel
// first, for the limits of framing.
type framed struct {
	*canned
	device *hid.Device
}

func (f framed) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if _, err := f.device.Exchange(ctx, message, status); err != nil {
		return nil, err
	}
	return f.canned.Exchange(ctx, message, status)
}

// Quirk 39 where built-in verification is an option of the command: a
// credential that needs it is found all the same.
func TestQuirk39BuiltInWithoutToken(t *testing.T) {
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true, MaxCredentialCountInList: 8})
	credential := d.register(resident, mcUV(ctap2.Required), func(r *ctap2.MakeCredentialRequest) {
		r.Extensions = []ctap2.Extension{ctap2.CredProtect(ctap2.UVRequired)}
	})
	ids := randomIDs(20, len(credential.ID))
	ids[0] = credential.ID
	verify(t, d.signIn(gaUV(ctap2.Required), allow(ids...))[0], credential)
	request := registration()
	request.UserVerification = ctap2.Required
	for _, id := range ids {
		request.ExcludeList = append(request.ExcludeList, ctap2.CredentialDescriptor{ID: id})
	}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrCredentialExcluded) {
		t.Errorf("excluded: %v", err)
	}
}

// A second search, which costs a finger for each part, is for credProtect alone.
func TestQuirk39OneFinger(t *testing.T) {
	fingers := 0
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured, NoPINUVAuthToken: true, MaxCredentialCountInList: 1, Extensions: []string{"hmac-secret"},
		Verification: func(context.Context, virtual.Prompt) virtual.Answer {
			fingers++
			return virtual.Approve
		}})
	d.register(mcUV(ctap2.Required), exclude(randomIDs(20, 64)...))
	if fingers != 1 {
		t.Errorf("asked for %d fingers", fingers)
	}
}

// Quirk 39: an ID that fits into a search and not into the command.
func TestQuirk39OneLongID(t *testing.T) {
	d := sit(t, virtual.Config{PIN: "271828", MaxMsgSize: 1024, MaxCredentialIDLength: 1023}, "271828")
	d.register(mcUV(ctap2.Required), exclude(randomIDs(1, 885)...))
	d.expect("06.02", "06.09", "02", "01")
}

// Quirk 42: what keys answer besides NO_CREDENTIALS to an ID that another key
// made.
func TestQuirk42ForeignIDs(t *testing.T) {
	for _, status := range []ctap2.Status{ctap2.ErrInvalidCredential, ctap2.ErrLimitExceeded, ctap2.ErrRequestTooLarge} {
		d := sit(t, virtual.Config{MaxCredentialCountInList: 1})
		d.alter(func(message, reply []byte) ([]byte, error) {
			if message[0] == ctap.CmdGetAssertion && reply[0] == byte(ctap2.ErrNoCredentials) {
				reply[0] = byte(status)
			}
			return reply, nil
		})
		credential := d.register(exclude(randomIDs(2, 64)...))
		verify(t, d.signIn(allow(append(randomIDs(2, 64), credential.ID)...))[0], credential)
		request := signIn()
		allow(randomIDs(1, 64)...)(request)
		d.touches = nil
		_, err := d.GetAssertion(t.Context(), request)
		if status == ctap2.ErrInvalidCredential {
			if !errors.Is(err, ctap2.ErrNoCredentials) || len(d.touches) != 1 {
				t.Errorf("%v after %d touches", err, len(d.touches))
			}
		} else if !errors.Is(err, status) { // of the command, which has more in it than a list
			t.Error(err)
		}
	}
	// One such ID makes a whole list invalid to some: what else is in it is found.
	for _, most := range []int{3, 20} {
		d := sit(t, virtual.Config{MaxCredentialCountInList: most})
		credential := d.register()
		foreign := randomIDs(5, 64)
		d.alter(func(message, reply []byte) ([]byte, error) {
			if message[0] == ctap.CmdGetAssertion && slices.ContainsFunc(foreign, func(id []byte) bool { return bytes.Contains(message, id) }) {
				return []byte{byte(ctap2.ErrInvalidCredential)}, nil
			}
			return reply, nil
		})
		verify(t, d.signIn(allow(append([][]byte{credential.ID}, foreign...)...))[0], credential)
		request := registration()
		exclude(append([][]byte{credential.ID}, foreign...)...)(request)
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrCredentialExcluded) {
			t.Errorf("%d in a list: %v", most, err)
		}
	}
}

// Quirk 39: what is in the command counts, not what is usual; one ID that fits
// is asked for, however long.
func TestQuirk39Sizes(t *testing.T) {
	d := sit(t, virtual.Config{MaxMsgSize: 1024, MaxCredentialCountInList: 20})
	credential := d.register(resident)
	large := ctap2.RawExtension{ID: "x", CBOR: append([]byte{0x59, 0x02, 0x58}, make([]byte, 600)...)}
	verify(t, d.signIn(allow(append(randomIDs(7, 64), credential.ID)...), func(r *ctap2.GetAssertionRequest) {
		r.Extensions = []ctap2.Extension{large}
	})[0], credential)

	d = sit(t, virtual.Config{MaxMsgSize: 1024, MaxCredentialIDLength: 1023})
	request := signIn()
	request.RPID = "a.io"
	allow(randomIDs(1, 925)...)(request)
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Error(err)
	}
	d.expect("02", "0b")
	// Too long for any message: the key cannot hold them.
	request.AllowList = nil
	allow(randomIDs(3, 1000)...)(request)
	if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) {
		t.Error(err)
	}
	d.expect("0b")
}

// Nobody can probe unseen for discoverable credentials either.
func TestNoCredentialsAfterATouch(t *testing.T) {
	d := sit(t, virtual.Config{})
	if _, err := d.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrNoCredentials) || len(d.touches) != 1 {
		t.Errorf("%v, %d touches", err, len(d.touches))
	}
}
