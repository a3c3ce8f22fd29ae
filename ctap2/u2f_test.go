package ctap2_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/vectors"
	"github.com/tapstone/fido/pin"
)

// oldKey is a key from before CTAP2: one credential, FIDO U2F Raw Message
// Formats.
type oldKey struct {
	t         testing.TB
	claims    bool // its transport claims CTAP2
	attest    *ecdsa.PrivateKey
	der       []byte
	key       *softKey
	app       []byte
	untouched int    // how often it still answers that a touch is needed
	unknown   []byte // what it says of a handle that is not its own
	counter   uint32
	heard     []byte // instruction and P1 of each request
}

func newOldKey(t testing.TB) *oldKey {
	t.Helper()
	attest, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "U2F"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &attest.PublicKey, attest)
	if err != nil {
		t.Fatal(err)
	}
	return &oldKey{t: t, attest: attest, der: der, key: newSoftKey(t), unknown: []byte{0x6A, 0x80}}
}

func (k *oldKey) Exchange(context.Context, []byte, func(byte)) ([]byte, error) {
	if k.claims {
		return []byte{byte(ctap2.ErrInvalidCommand)}, nil
	}
	return nil, ctap2.ErrUnsupported
}

func (k *oldKey) Close() error { return nil }

func (k *oldKey) touched() bool {
	k.untouched--
	return k.untouched < 0
}

func (k *oldKey) Msg(_ context.Context, apdu []byte) ([]byte, error) {
	if len(apdu) < 7 || apdu[0] != 0 || apdu[3] != 0 || apdu[4] != 0 {
		k.t.Fatalf("APDU %x", apdu)
	}
	k.heard = append(k.heard, apdu[1], apdu[2])
	n := int(binary.BigEndian.Uint16(apdu[5:]))
	if n > 0 && len(apdu) != 7+n+2 || n == 0 && len(apdu) != 7 {
		k.t.Fatalf("APDU %x", apdu)
	}
	data := apdu[7 : 7+n]
	done := []byte{0x90, 0x00}
	sign := func(private *ecdsa.PrivateKey, message []byte) []byte {
		digest := sha256.Sum256(message)
		signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
		if err != nil {
			k.t.Fatal(err)
		}
		return signature
	}
	switch apdu[1] {
	case 0x03:
		return append([]byte("U2F_V2"), done...), nil
	case 0x01:
		if !k.touched() {
			return []byte{0x69, 0x85}, nil
		}
		point, err := k.key.private.PublicKey.Bytes()
		if err != nil {
			k.t.Fatal(err)
		}
		challenge, app := data[:32], data[32:64]
		if k.app == nil { // later ones are for the touch alone
			k.app = bytes.Clone(app)
		}
		reply := append([]byte{0x05}, point...)
		reply = append(append(reply, byte(len(k.key.id))), k.key.id...)
		reply = append(reply, k.der...)
		signature := sign(k.attest, bytes.Join([][]byte{{0}, app, challenge, k.key.id, point}, nil))
		return append(append(reply, signature...), done...), nil
	case 0x02:
		challenge, app, handle := data[:32], data[32:64], data[65:]
		if int(data[64]) != len(handle) {
			k.t.Fatalf("handle of %d bytes, said to be %d", len(handle), data[64])
		}
		if !bytes.Equal(handle, k.key.id) || !bytes.Equal(app, k.app) {
			return k.unknown, nil
		}
		presence := byte(1)
		switch apdu[2] {
		case 0x07:
			return []byte{0x69, 0x85}, nil
		case 0x08:
			presence = 0
		default:
			if !k.touched() {
				return []byte{0x69, 0x85}, nil
			}
		}
		k.counter++
		answer := binary.BigEndian.AppendUint32([]byte{presence}, k.counter)
		signature := sign(k.key.private, bytes.Join([][]byte{app, answer, challenge}, nil))
		return append(append(answer, signature...), done...), nil
	}
	return []byte{0x6D, 0x00}, nil
}

// wrapped is a Transport around another, without abilities of its own.
type wrapped struct{ ctap2.Transport }

func (w wrapped) Unwrap() ctap2.Transport { return w.Transport }

// Quirks 9 and 43: a key that speaks U2F alone, whatever its transport claims,
// behind the same two calls.
func TestQuirk09And43U2F(t *testing.T) {
	for _, claims := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			old := newOldKey(t)
			old.claims = claims
			if _, err := ctap2.Open(t.Context(), old, ctap2.WithoutU2F()); !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("forbidden: %v", err)
			}
			touches, ended := 0, 0
			key := open(t, wrapped{old}, ctap2.WithInteraction(ctap2.Interaction{
				Touch:     func(ctap2.TouchRequest) { touches++ },
				TouchDone: func() { ended++ },
			}))
			if !key.Info().HasVersion("U2F_V2") || len(key.Info().Algorithms) != 1 {
				t.Errorf("%v", key.Info())
			}
			if info, err := key.GetInfo(t.Context()); err != nil || info != key.Info() {
				t.Errorf("%v, %v", info, err)
			}

			old.untouched = 3
			credential, err := key.MakeCredential(t.Context(), registration())
			if err != nil {
				t.Fatal(err)
			}
			if credential.Format != "fido-u2f" || !bytes.Equal(credential.ID, old.key.id) || credential.AuthData.Flags != ctap2.FlagUserPresent|ctap2.FlagAttestedCredentialData {
				t.Errorf("%+v", credential)
			}
			if s, err := attestation.Verify(credential, clientDataHash[:]); err != nil || s.Type != attestation.Basic {
				t.Errorf("attestation: %v", err)
			}
			if touches != 1 || ended != 1 {
				t.Errorf("%d touches announced, %d ended", touches, ended)
			}

			for _, unknown := range [][]byte{{0x6A, 0x80}, {0x67, 0x00}} {
				old.unknown, old.untouched = unknown, 2
				request := signIn()
				allow([]byte("not here"), make([]byte, 300), credential.ID)(request)
				accounts, err := key.GetAssertion(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				verify(t, accounts[0], credential)
				if a := accounts[0].AuthData; a.Flags != ctap2.FlagUserPresent || a.SignCount == 0 {
					t.Errorf("%+v", a)
				}
			}
			request := signIn()
			request.Silent = true
			allow(credential.ID)(request)
			accounts, err := key.GetAssertion(t.Context(), request)
			if err != nil || accounts[0].AuthData.Flags != 0 {
				t.Errorf("silent: %v", err)
			}

			touches = 0
			old.untouched = 1
			request = signIn()
			allow([]byte("not here"))(request)
			if _, err := key.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrNoCredentials) || touches != 1 {
				t.Errorf("nothing matches: %v, %d touches", err, touches)
			}
			old.untouched = 1
			register := registration()
			register.ExcludeList = []ctap2.CredentialDescriptor{{ID: []byte("not here")}, credential.Descriptor()}
			if _, err := key.MakeCredential(t.Context(), register); !errors.Is(err, ctap2.ErrCredentialExcluded) || touches != 2 {
				t.Errorf("excluded: %v, %d touches", err, touches)
			}
			if err := key.Selection(t.Context()); err != nil {
				t.Error(err)
			}

			for names, change := range map[string]func(*ctap2.MakeCredentialRequest){
				"option rk": resident,
				"option uv": mcUV(ctap2.Required),
				"Token":     func(r *ctap2.MakeCredentialRequest) { r.Token = anyToken() },
				"algorithm": func(r *ctap2.MakeCredentialRequest) { r.Algorithms = []cose.Algorithm{cose.EdDSA} },
			} {
				request := registration()
				change(request)
				_, err := key.MakeCredential(t.Context(), request)
				if !errors.Is(err, ctap2.ErrUnsupportedOption) && !errors.Is(err, ctap2.ErrUnsupportedAlgorithm) || !strings.Contains(err.Error(), names) {
					t.Errorf("%s: %v", names, err)
				}
			}
			verified := signIn()
			verified.UserVerification = ctap2.Required
			if _, err := key.GetAssertion(t.Context(), verified); !errors.Is(err, ctap2.ErrUnsupportedOption) || !strings.Contains(err.Error(), "option uv") {
				t.Errorf("verified: %v", err)
			}
			if _, err := key.PINRetries(t.Context()); !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("PIN: %v", err)
			}
			if err := key.Reset(t.Context()); !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("reset: %v", err)
			}

			// Nobody touches.
			old.untouched = 1 << 30
			since := time.Now()
			if _, err := key.MakeCredential(t.Context(), registration()); !errors.Is(err, ctap2.ErrUserActionTimeout) || time.Since(since) > time.Minute {
				t.Errorf("%v after %v", err, time.Since(since))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := key.MakeCredential(ctx, registration()); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			closing := make(chan error)
			go func() {
				_, err := key.MakeCredential(t.Context(), registration())
				closing <- err
			}()
			synctest.Wait()
			if err := key.Close(); err != nil {
				t.Error(err)
			}
			if err := <-closing; !errors.Is(err, ctap2.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// u2fScript answers every U2F request with the same bytes.
type u2fScript struct {
	oldKey
	reply []byte
}

func (s *u2fScript) Msg(_ context.Context, apdu []byte) ([]byte, error) {
	if apdu[1] == 0x03 {
		return []byte("U2F_V2\x90\x00"), nil
	}
	if apdu[2] == 0x07 {
		return []byte{0x69, 0x85}, nil
	}
	return bytes.Clone(s.reply), nil
}

// What a real key registered and signed, as far as it can be known; and every
// way to cut it short.
func TestU2FResponses(t *testing.T) {
	s := &u2fScript{}
	key := open(t, s)
	unframe := func(name string) []byte {
		reports := vectors.KeyReports()[name]
		message := bytes.Clone(reports[7:64])
		length := int(binary.BigEndian.Uint16(reports[5:]))
		for reports = reports[64:]; len(reports) >= 64; reports = reports[64:] {
			message = append(message, reports[5:64]...)
		}
		return message[:length]
	}
	register, authenticate := unframe("CTAP_U2F_REGISTER"), unframe("CTAP_U2F_AUTH")
	s.reply = register
	credential, err := key.MakeCredential(t.Context(), registration())
	if err != nil || len(credential.ID) == 0 || credential.PublicKey.Algorithm != cose.ES256 {
		t.Fatalf("%+v, %v", credential, err)
	}
	request := signIn()
	allow(credential.ID)(request)
	s.reply = authenticate
	accounts, err := key.GetAssertion(t.Context(), request)
	if err != nil || accounts[0].AuthData.SignCount == 0 || len(accounts[0].Signature) < 68 {
		t.Fatalf("%+v, %v", accounts, err)
	}
	for n := range register {
		s.reply = register[:n]
		if c, err := key.MakeCredential(t.Context(), registration()); err == nil && n < len(register)-80 {
			t.Errorf("registration cut at %d: %+v", n, c)
		}
	}
	for n := range 7 {
		s.reply = append(bytes.Clone(authenticate[:n]), 0x90, 0x00)
		if _, err := key.GetAssertion(t.Context(), request); n <= 5 && !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("assertion cut at %d: %v", n, err)
		}
	}
	for _, word := range [][]byte{{0x6D, 0x00}, {0x6F, 0x00}} {
		s.reply = word
		if _, err := key.MakeCredential(t.Context(), registration()); err == nil {
			t.Errorf("%x: no error", word)
		}
	}
}

var _ ctap2.Messenger = (*hid.Device)(nil)

func FuzzU2F(f *testing.F) {
	for name, m := range vectors.KeyReports() {
		if len(m) > 64 && name[:8] == "CTAP_U2F" {
			f.Add(m[7:])
		}
	}
	f.Add([]byte("\x05\x04\x90\x00"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		if bytes.HasSuffix(reply, []byte{0x69, 0x85}) {
			return // a touch is needed, for ever
		}
		s := &u2fScript{reply: reply}
		key := open(t, s)
		if c, err := key.MakeCredential(t.Context(), registration()); err == nil && (len(c.ID) == 0 || c.PublicKey == nil) {
			t.Errorf("%+v", c)
		}
		request := signIn()
		allow([]byte("id"))(request)
		if a, err := key.GetAssertion(t.Context(), request); err == nil && len(a[0].Signature) == 0 {
			t.Errorf("%+v", a)
		}
	})
}

// What U2F cannot do is refused before anything is sent, and an extension that
// is wrong, or required, is not passed over in silence.
func TestU2FRefusals(t *testing.T) {
	old := newOldKey(t)
	key := open(t, old)
	credential, err := key.MakeCredential(t.Context(), registration())
	if err != nil {
		t.Fatal(err)
	}
	old.heard = nil
	for name, test := range map[string]struct {
		token      *ctap2.Token
		extensions []ctap2.Extension
		want       error
	}{
		"token":                {anyToken(), nil, ctap2.ErrUnsupportedOption},
		"required":             {nil, []ctap2.Extension{ctap2.LargeBlobSupport(true)}, ctap2.ErrUnsupported},
		"required protection":  {nil, []ctap2.Extension{ctap2.CredProtectRequired(ctap2.UVRequired)}, ctap2.ErrUnsupported},
		"wrong":                {nil, []ctap2.Extension{ctap2.CredProtect(99)}, ctap2.ErrInvalidRequest},
		"wrong among the good": {nil, []ctap2.Extension{ctap2.MinPINLength(), ctap2.HMACSecretMC()}, ctap2.ErrInvalidRequest},
	} {
		register := registration()
		register.Token, register.Extensions = test.token, test.extensions
		if c, err := key.MakeCredential(t.Context(), register); !errors.Is(err, test.want) || c != nil {
			t.Errorf("%s: registered %v, %v", name, c, err)
		}
	}
	for name, test := range map[string]struct {
		token      *ctap2.Token
		extensions []ctap2.Extension
		want       error
	}{
		"token": {anyToken(), nil, ctap2.ErrUnsupportedOption},
		"wrong": {nil, []ctap2.Extension{ctap2.HMACSecret()}, ctap2.ErrInvalidRequest},
	} {
		request := signIn()
		allow(credential.ID)(request)
		request.Token, request.Extensions = test.token, test.extensions
		if a, err := key.GetAssertion(t.Context(), request); !errors.Is(err, test.want) || a != nil {
			t.Errorf("%s: signed in %v, %v", name, a, err)
		}
	}
	if len(old.heard) != 0 {
		t.Errorf("sent %x", old.heard)
	}
}

// A key that does not speak U2F, or not while it verifies its user always, is
// not sent its messages, also where nothing of the transport says so.
func TestU2FOnOtherKeys(t *testing.T) {
	for name, config := range map[string]virtual.Config{
		"no U2F":   {NoU2F: true},
		"alwaysUv": {AlwaysUV: true, PIN: benchPIN},
	} {
		soft, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		key := open(t, soft)
		defer key.Close()
		var hash [32]byte
		for method, err := range map[string]error{
			"U2FVersion":      second(key.U2FVersion(t.Context())),
			"U2FRegister":     second(key.U2FRegister(t.Context(), hash, hash)),
			"U2FAuthenticate": second(key.U2FAuthenticate(t.Context(), hash, hash, []byte{1})),
			"U2FCheck":        second(key.U2FCheck(t.Context(), hash, []byte{1})),
		} {
			if !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
}

// What a key signed for U2F verifies, and for nothing else.
func TestU2FVerify(t *testing.T) {
	key := open(t, newOldKey(t))
	challenge, application, other := sha256.Sum256([]byte("a challenge")), sha256.Sum256([]byte("https://example.com")), [32]byte{}
	r, err := key.U2FRegister(t.Context(), challenge, application)
	if err != nil {
		t.Fatal(err)
	}
	attested := func(challenge, application [32]byte) error {
		credential, err := r.Credential(application)
		if err != nil {
			t.Fatal(err)
		}
		return second(attestation.Verify(credential, challenge[:]))
	}
	if err := attested(challenge, application); err != nil {
		t.Error(err)
	}
	if attested(other, application) == nil || attested(challenge, other) == nil {
		t.Error("another challenge, or another application")
	}

	a, err := key.U2FAuthenticate(t.Context(), challenge, application, r.KeyHandle)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(r.PublicKey, challenge, application); err != nil {
		t.Error(err)
	}
	counted := *a
	counted.Raw = bytes.Clone(a.Raw)
	counted.Raw[4]++
	for name, err := range map[string]error{
		"challenge":   a.Verify(r.PublicKey, other, application),
		"application": a.Verify(r.PublicKey, challenge, other),
		"counter":     counted.Verify(r.PublicKey, challenge, application),
	} {
		if !errors.Is(err, cose.ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"key":        a.Verify(nil, challenge, application),
		"Raw":        new(ctap2.U2FAuthentication).Verify(r.PublicKey, challenge, application),
		"key handle": second((&ctap2.U2FRegistration{PublicKey: r.PublicKey}).Credential(application)),
		"public key": second((&ctap2.U2FRegistration{KeyHandle: make([]byte, 255)}).Credential(application)),
		"255 bytes":  second((&ctap2.U2FRegistration{PublicKey: r.PublicKey, KeyHandle: make([]byte, 256)}).Credential(application)),
	} {
		if !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("no %s: %v", name, err)
		}
	}
}

// For whoever keeps key handles: U2F's own messages, and what is signed.
func ExampleU2FAuthentication_Verify() {
	ctx := context.Background()
	device, err := virtual.New(virtual.Config{Level: virtual.CTAP1})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ctap2.Open(ctx, device)
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	application := sha256.Sum256([]byte("https://example.com"))
	challenge := sha256.Sum256([]byte("client data of the registration"))
	registration, err := key.U2FRegister(ctx, challenge, application)
	if err != nil {
		log.Fatal(err)
	}
	credential, err := registration.Credential(application)
	if err != nil {
		log.Fatal(err)
	}
	statement, err := attestation.Verify(credential, challenge[:])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("attestation:", statement.Type)

	challenge = sha256.Sum256([]byte("client data of the sign-in"))
	signed, err := key.U2FAuthenticate(ctx, challenge, application, registration.KeyHandle)
	if err != nil {
		log.Fatal(err)
	}
	err = signed.Verify(registration.PublicKey, challenge, application)
	fmt.Printf("present: %v, verified: %v\n", signed.UserPresent, err == nil)
	// Output:
	// attestation: basic
	// present: true, verified: true
}

// Bits next to user presence, which U2F keeps for later, are no flags of
// CTAP2: some would have the rest read as attested credential data.
func TestU2FReservedBits(t *testing.T) {
	for presence, want := range map[byte]ctap2.Flags{0x01: ctap2.FlagUserPresent, 0xFF: ctap2.FlagUserPresent, 0xC4: 0} {
		s := &u2fScript{reply: append([]byte{presence, 0, 0, 0, 7}, 0x30, 0x90, 0x00)}
		request := signIn()
		request.Silent = true
		allow([]byte("id"))(request)
		accounts, err := open(t, s).GetAssertion(t.Context(), request)
		if err != nil || accounts[0].AuthData.Flags != want || accounts[0].AuthData.SignCount != 7 {
			t.Errorf("%#02x: %+v, %v", presence, accounts, err)
		}
	}
}

// Another program can make a key speak U2F again: what its Info said is no reason
// to refuse for good.
func TestU2FSpokenAgain(t *testing.T) {
	soft, err := virtual.New(virtual.Config{PIN: benchPIN, AlwaysUV: true})
	if err != nil {
		t.Fatal(err)
	}
	defer soft.Close()
	open := func() *ctap2.Authenticator {
		a, err := ctap2.Open(t.Context(), soft.Open(), ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
		}))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, other := open(), open()
	if _, err := a.U2FVersion(t.Context()); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Fatal(err)
	}
	if err := other.ToggleAlwaysUV(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if version, err := a.U2FVersion(t.Context()); err != nil || version != "U2F_V2" {
		t.Errorf("%q, %v", version, err)
	}
}
