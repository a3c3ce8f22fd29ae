package ctap2_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/vectors"
	"github.com/tapstone/fido/pin"
)

// hostile is a Transport that answers getInfo as a capable key does, and then
// every command with the same bytes.
type hostile struct {
	info, reply []byte
	opened      bool
	calls       int
}

func (h *hostile) Exchange(context.Context, []byte, func(byte)) ([]byte, error) {
	if !h.opened {
		h.opened = true
		return bytes.Clone(h.info), nil
	}
	switch h.calls++; {
	case h.calls > 5000:
		panic("asked a hostile key for ever")
	case h.calls > 500: // a list as long as it gets would take too long here
		return nil, nil
	}
	return bytes.Clone(h.reply), nil
}

func (h *hostile) Close() error { return nil }

// everyCommand runs each command whose reply is parsed.
var everyCommand = []func(ctx context.Context, key *ctap2.Authenticator) error{
	func(ctx context.Context, key *ctap2.Authenticator) error { _, err := key.GetInfo(ctx); return err },
	func(ctx context.Context, key *ctap2.Authenticator) error {
		request := registration()
		request.Extensions = []ctap2.Extension{ctap2.CredProtect(ctap2.UVRequired), ctap2.HMACSecret()}
		request.UserVerification = ctap2.Discouraged
		c, err := key.MakeCredential(ctx, request)
		if err == nil {
			_, _ = ctap2.Output[ctap2.CredProtectPolicy](c.Extensions)
			_, err = c.AttestationObject()
		}
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		request := signIn()
		request.UserVerification = ctap2.Discouraged
		a, err := key.GetAssertion(ctx, request)
		if err == nil {
			_ = a[0].Verify(&cose.Key{}, clientDataHash[:])
		}
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		request := signIn()
		for range 10 {
			request.AllowList = append(request.AllowList, ctap2.CredentialDescriptor{ID: []byte("id")})
		}
		request.Extensions = []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))}
		_, err := key.GetAssertion(ctx, request)
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.Token(ctx, &ctap2.TokenRequest{Permissions: 4})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error { _, err := key.PINRetries(ctx); return err },
	func(ctx context.Context, key *ctap2.Authenticator) error { _, err := key.UVRetries(ctx); return err },
	func(ctx context.Context, key *ctap2.Authenticator) error {
		return key.ChangePIN(ctx, pin.FromString("1234"), pin.FromString("5678"))
	},
	func(ctx context.Context, key *ctap2.Authenticator) error { return key.Selection(ctx) },
	func(ctx context.Context, key *ctap2.Authenticator) error { return key.Reset(ctx) },
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.Command(ctx, 0x42, []byte{0xa0})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.GetCredsMetadata(ctx, anyToken())
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{Token: anyToken()})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{Token: anyToken(), RPID: "example.com"})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		return key.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Token: anyToken(), Credential: ctap2.CredentialDescriptor{ID: []byte{1}}})
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.GetFingerprintSensorInfo(ctx)
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{Token: anyToken(), FriendlyName: "x"})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.EnumerateEnrollments(ctx, anyToken())
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.GetLargeBlob(ctx, &ctap2.LargeBlobRequest{Key: pin.NewSecret(make([]byte, 32))})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.CollectLargeBlobs(ctx, anyToken())
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.VendorPrototype(ctx, &ctap2.VendorPrototypeRequest{Token: anyToken()})
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		request := registration()
		request.UserVerification, request.ResidentKey = ctap2.Discouraged, true
		request.Extensions = []ctap2.Extension{
			ctap2.HMACSecret(), ctap2.HMACSecretMC(make([]byte, 32)), ctap2.CredBlob([]byte{1}), ctap2.LargeBlobKey(),
			ctap2.LargeBlobSupport(true), ctap2.MinPINLength(), ctap2.PINComplexityPolicy(), ctap2.ThirdPartyPayment(),
		}
		_, err := key.MakeCredential(ctx, request)
		return err
	},
	func(ctx context.Context, key *ctap2.Authenticator) error {
		request := signIn()
		request.UserVerification = ctap2.Discouraged
		request.Extensions = []ctap2.Extension{
			ctap2.CredBlob(nil), ctap2.LargeBlobKey(), ctap2.LargeBlobRead(), ctap2.ThirdPartyPayment(),
		}
		_, err := key.GetAssertion(ctx, request)
		return err
	},
}

func runHostile(t testing.TB, info []byte, which int, reply []byte, strict bool) error {
	h := &hostile{info: info, reply: reply}
	options := []ctap2.Option{ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("1234"), nil },
	})}
	if strict {
		options = append(options, ctap2.WithStrictCBOR())
	}
	key, err := ctap2.Open(t.Context(), h, options...)
	if err != nil {
		t.Fatal(err)
	}
	return everyCommand[which%len(everyCommand)](t.Context(), key)
}

func capable(t testing.TB) []byte {
	return ok(t, members{
		1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 6: []int{2, 1}, 0x0B: 1 << 19,
		2: []string{"credProtect", "hmac-secret", "hmac-secret-mc", "credBlob", "largeBlobKey", "largeBlob", "minPinLength",
			"pinComplexityPolicy", "thirdPartyPayment"},
		4: map[string]bool{"rk": true, "clientPin": true, "pinUvAuthToken": true, "makeCredUvNotRqd": true, "credMgmt": true,
			"bioEnroll": true, "largeBlobs": true, "authnrCfg": true},
	})
}

// messages returns the recorded replies of real keys, unframed.
func messages() map[string][]byte {
	m := make(map[string][]byte)
	for name, reports := range vectors.KeyReports() {
		var message []byte
		length := 0
		for ; len(reports) >= 64; reports = reports[64:] {
			switch report := reports[:64]; {
			case report[4] == 0x90:
				length = int(report[5])<<8 | int(report[6])
				message = append(message, report[7:]...)
			case report[4]&0x80 == 0:
				message = append(message, report[5:]...)
			}
		}
		if length > 0 && length <= len(message) {
			m[name] = message[:length]
		}
	}
	return m
}

func FuzzReply(f *testing.F) {
	info := capable(f)
	for _, m := range messages() {
		for which := range everyCommand {
			f.Add(uint8(which), false, m)
		}
	}
	s := newSoftKey(f)
	auth := s.authData(f, "example.com", 0xC1, true, []byte("\xa1\x6bhmac-secret\xf5"))
	f.Add(uint8(1), true, ok(f, members{1: "packed", 2: auth, 3: map[string]any{}}))
	auth = s.authData(f, "example.com", 0x01, false, nil)
	f.Add(uint8(2), true, ok(f, members{1: map[string]any{"id": s.id, "type": "public-key"}, 2: auth, 3: []byte{1}, 4: map[string]any{"id": []byte{1}}, 5: 3}))
	f.Add(uint8(9), false, []byte{0x31})
	public, err := cose.NewKey(cose.ES256, &s.private.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	managed := ok(f, members{
		1: 1, 2: 2, 3: map[string]any{"id": "example.com"}, 4: make([]byte, 32), 5: 1, 6: map[string]any{"id": []byte{1}},
		7: map[string]any{"id": s.id, "type": "public-key"}, 8: public, 9: 2, 10: 3, 11: make([]byte, 32), 12: true,
	})
	enrolled := ok(f, members{1: 1, 2: 1, 3: 4, 4: []byte{1, 2}, 5: 1, 6: 0, 7: []any{map[int]any{1: []byte{1}, 2: "x"}}, 8: 32})
	array := ok(f, members{1: append([]byte{0x80}, raw(f, "76be8b528d0075f7aae98d6fa57a6d3c")...)})
	for which := range everyCommand {
		for _, reply := range [][]byte{managed, enrolled, array} {
			f.Add(uint8(which), true, reply)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, strict bool, reply []byte) {
		if err := runHostile(t, info, int(which), reply, strict); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}

func FuzzAuthenticatorData(f *testing.F) {
	s := newSoftKey(f)
	f.Add(s.authData(f, "example.com", 0xC1, true, []byte("\xa1\x6bhmac-secret\xf5")))
	f.Add(s.authData(f, "example.com", 0x01, false, nil))
	for _, c := range vectors.WebAuthn() {
		f.Add([]byte(c.Authentication.AuthenticatorData))
		var object struct {
			AuthData []byte `cbor:"authData"`
		}
		if err := cbor.Unmarshal(c.Registration.AttestationObject, &object); err != nil {
			f.Fatal(err)
		}
		f.Add(object.AuthData)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ctap2.ParseAuthenticatorData(data)
		if err != nil {
			return
		}
		if !bytes.Equal(a.Raw, data) || a.Flags.Has(ctap2.FlagAttestedCredentialData) != (a.PublicKey != nil) || a.PublicKey != nil && len(a.CredentialID) == 0 {
			t.Errorf("%+v", a)
		}
		_ = a.Flags.String()
	})
}

// The authenticator data of the WebAuthn vectors parses, and says what they
// say.
func TestWebAuthnVectors(t *testing.T) {
	list := vectors.WebAuthn()
	if len(list) < 10 {
		t.Fatalf("%d vectors", len(list))
	}
	for _, c := range list {
		t.Run(c.Name, func(t *testing.T) {
			var object struct {
				AuthData []byte `cbor:"authData"`
			}
			if err := cbor.Unmarshal(c.Registration.AttestationObject, &object); err != nil {
				t.Fatal(err)
			}
			a, err := ctap2.ParseAuthenticatorData(object.AuthData)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.AAGUID[:], c.Registration.AAGUID) || !bytes.Equal(a.CredentialID, c.Registration.CredentialID) || !a.Flags.Has(ctap2.FlagAttestedCredentialData) {
				t.Errorf("%+v", a)
			}
			a, err = ctap2.ParseAuthenticatorData(c.Authentication.AuthenticatorData)
			if err != nil || a.PublicKey != nil {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

// What a reply makes the client allocate is bounded by the reply's length,
// whatever it promises.
func TestMemoryIsBounded(t *testing.T) {
	info := capable(t)
	pad := make([]byte, 7000)
	s := newSoftKey(t)
	auth := s.authData(t, "example.com", 0x01, false, nil)
	for name, reply := range map[string][]byte{
		"array of four billion":  append([]byte{0, 0xa1, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff}, pad...),
		"map of four billion":    append([]byte{0, 0xba, 0xff, 0xff, 0xff, 0xff}, pad...),
		"string of 2^62":         append([]byte{0, 0xa1, 0x01, 0x7b, 0x40, 0, 0, 0, 0, 0, 0, 0}, pad...),
		"array of its length":    append([]byte{0, 0xa1, 0x01, 0x99, 7000 >> 8, 7000 & 0xff}, pad...),
		"credentials for ever":   ok(t, members{1: map[string]any{"id": s.id, "type": "public-key"}, 2: auth, 3: []byte{1}, 5: int64(1 << 50)}),
		"nested as deep as long": append([]byte{0}, bytes.Repeat([]byte{0x81}, 7000)...),
	} {
		for which := range everyCommand {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := runHostile(t, info, which, reply, false); err == nil && which < 7 { // the others have no output, or any
				t.Errorf("%s: command %d accepts it", name, which)
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
				t.Errorf("%s: command %d allocates %d bytes for %d", name, which, grown, len(reply))
			}
		}
	}
}
