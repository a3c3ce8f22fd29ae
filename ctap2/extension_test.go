package ctap2_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestCredBlob(t *testing.T) {
	d := sit(t, virtual.Config{})
	blob := bytes.Repeat([]byte{7}, d.Info().MaxCredBlobLength)
	with7 := d.register(account("one"), with(ctap2.CredBlob(blob)))
	if stored, err := ctap2.Output[ctap2.CredBlobStored](with7.Extensions); !bool(stored) || err != nil {
		t.Errorf("stored %v, %v", stored, err)
	}
	d.register(account("two"))
	for _, a := range d.signIn(gaWith(ctap2.CredBlob(nil))) {
		var want []byte
		if bytes.Equal(a.Credential.ID, with7.ID) {
			want = blob
		}
		if got, err := ctap2.Output[ctap2.CredBlobOutput](a.Extensions); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x of %x, %v", got, a.Credential.ID, err)
		}
	}
	d.sent()
	request := registration()
	request.Extensions = []ctap2.Extension{ctap2.CredBlob(append(blob, 7))}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
		t.Errorf("too long: %v", err)
	}
	request.Extensions = []ctap2.Extension{ctap2.CredBlob(nil)}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
		t.Errorf("none to store: %v", err)
	}
	assertion := signIn()
	assertion.Extensions = []ctap2.Extension{ctap2.CredBlob(blob)}
	if _, err := d.GetAssertion(t.Context(), assertion); !errors.Is(err, ctap2.ErrInvalidRequest) {
		t.Errorf("one in an assertion: %v", err)
	}
	d.expect()
}

// A key that does not list an extension is not bothered with it, and outputs of
// the wrong type are no reason to lose a credential.
func TestExtensionsNotListed(t *testing.T) {
	d := sit(t, virtual.Config{Extensions: []string{}})
	salt := make([]byte, 32)
	c := d.register(resident, with(ctap2.CredBlob([]byte{1}), ctap2.MinPINLength(), ctap2.PINComplexityPolicy(),
		ctap2.ThirdPartyPayment(), ctap2.HMACSecret(), ctap2.HMACSecretMC(salt)))
	a := d.signIn(gaWith(ctap2.CredBlob(nil), ctap2.MinPINLength(), ctap2.PINComplexityPolicy(), ctap2.ThirdPartyPayment()))
	if c.AuthData.Extensions != nil || a[0].AuthData.Extensions != nil {
		t.Errorf("%v, %v", c.AuthData.Extensions, a[0].AuthData.Extensions)
	}
	d.expect("01", "02")
	request := registration()
	request.Extensions = []ctap2.Extension{ctap2.CredProtectRequired(ctap2.UVRequired)}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("credProtect required: %v", err)
	}
	d.expect()
	for _, e := range []ctap2.Extension{
		ctap2.CredBlob(nil), ctap2.MinPINLength(), ctap2.PINComplexityPolicy(), ctap2.ThirdPartyPayment(),
	} {
		key := new(ctap2.ExtensionContext)
		if _, err := e.Output(key, []byte{0x61, 'x'}); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("%s: %v", e.Identifier(), err)
		}
	}
}

func TestHMACSecretMC(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, config, benchPIN)
		one, two := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		c := d.register(resident, with(ctap2.HMACSecret(), ctap2.HMACSecretMC(one, two)))
		d.expect("06.02", "06.09", "01") // one key agreement for both
		if on, err := ctap2.Output[ctap2.HMACSecretEnabled](c.Extensions); !bool(on) || err != nil {
			t.Error(on, err)
		}
		made, err := ctap2.Output[*ctap2.HMACSecretOutput](c.Extensions)
		if err != nil {
			t.Fatal(err)
		}
		accounts := d.signIn(gaUV(ctap2.Required), gaWith(ctap2.HMACSecret(one, two)))
		again, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions)
		if err != nil || !again.Output1.Equal(made.Output1) || !again.Output2.Equal(made.Output2) || made.Output1.Equal(made.Output2) {
			t.Errorf("other secrets later: %v", err)
		}
		for _, salts := range [][][]byte{{}, {one[1:]}, {one, two, one}} {
			request := registration()
			request.Extensions = []ctap2.Extension{ctap2.HMACSecret(), ctap2.HMACSecretMC(salts...)}
			if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Errorf("%d salts: %v", len(salts), err)
			}
		}
		assertion := signIn()
		assertion.Extensions = []ctap2.Extension{ctap2.HMACSecretMC(one)}
		if _, err := d.GetAssertion(t.Context(), assertion); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("in an assertion: %v", err)
		}
	})
}

func TestThirdPartyPayment(t *testing.T) {
	d := sit(t, virtual.Config{PIN: benchPIN}, benchPIN)
	for _, pays := range []bool{true, false} {
		var extensions []ctap2.Extension
		if pays {
			extensions = append(extensions, ctap2.ThirdPartyPayment())
		}
		c := d.register(resident, with(extensions...))
		a := d.signIn(allow(c.ID), gaWith(ctap2.ThirdPartyPayment()))
		if got, err := ctap2.Output[ctap2.ThirdPartyPaymentOutput](a[0].Extensions); bool(got) != pays || err != nil {
			t.Errorf("%v, %v, not %v", got, err, pays)
		}
		list, err := d.EnumerateCredentials(t.Context(), nil)
		if err != nil || len(list) != 1 || list[0].ThirdPartyPayment != pays {
			t.Errorf("%+v, %v", list, err)
		}
	}
}

// secretive is a canned key with hmac-secret that answers with an output of the
// test's choice, encrypted if there is a key to do so.
func secretive(t *testing.T, p pin.Protocol, extensions []string, plain []byte) (c *canned, input *map[int]cbor.RawMessage) {
	t.Helper()
	info := basicInfo()
	info[2], info[6] = extensions, []int{int(p)}
	c = newCanned(t, info)
	agreement, err := pin.NewKeyAgreement(p)
	if err != nil {
		t.Fatal(err)
	}
	c.on(ctap.CmdClientPIN, func([]byte) []byte { return ok(t, members{1: agreement.PublicKey()}) })
	s := newSoftKey(t)
	input = new(map[int]cbor.RawMessage)
	c.on(ctap.CmdGetAssertion, func(message []byte) []byte {
		var request struct {
			Extensions map[string]cbor.RawMessage `cbor:"4,keyasint"`
		}
		if err := cbor.Unmarshal(message[1:], &request); err != nil {
			t.Error(err)
		}
		output := plain
		if encoded, sent := request.Extensions["hmac-secret"]; sent {
			*input = nil
			if err := cbor.Unmarshal(encoded, input); err != nil {
				t.Fatal(err)
			}
			peer, err := cose.ParseKey((*input)[1])
			if err != nil {
				t.Fatal(err)
			}
			shared, err := agreement.Decapsulate(peer)
			if err != nil {
				t.Fatal(err)
			}
			if output, err = shared.Encrypt(plain); err != nil {
				t.Fatal(err)
			}
		}
		outputs, err := cbor.Marshal(map[string][]byte{"hmac-secret": output})
		if err != nil {
			t.Fatal(err)
		}
		return ok(t, members{1: map[string]any{"id": s.id, "type": "public-key"}, 2: s.authData(t, "example.com", 0x81, false, outputs), 3: []byte{1}})
	})
	return c, input
}

// A hostile output of another length is no secret, nor is one that nobody asked
// for; and a key of CTAP 2.0 is not sent the number of a protocol.
func TestHMACSecretReplies(t *testing.T) {
	for _, p := range []pin.Protocol{pin.One, pin.Two} {
		for _, listed := range []bool{true, false} {
			for _, n := range []int{0, 16, 32, 48, 64, 96} {
				extensions := []string{"hmac-secret"}
				if !listed {
					extensions = []string{"x"}
				}
				c, input := secretive(t, p, extensions, make([]byte, n))
				request := signIn()
				request.Extensions = []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))}
				accounts, err := open(t, c).GetAssertion(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				o, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions)
				if good := listed && n == 32; good != (err == nil) || good != (o != nil) || !good && !errors.Is(err, ctap2.ErrMalformed) {
					t.Errorf("%v, listed %v, %d bytes: %v", p, listed, n, err)
				}
				if _, numbered := (*input)[4]; listed && numbered != (p != pin.One) {
					t.Errorf("%v: sent %v", p, *input)
				}
			}
		}
	}
}

// An output that is not there names its type, and the one that is, or what the
// key lacks.
func TestNoOutput(t *testing.T) {
	d := sit(t, virtual.Config{})
	secret := ctap2.HMACSecret(make([]byte, 32))
	c := d.register(with(ctap2.HMACSecret()))
	a := d.signIn(allow(c.ID), gaWith(secret))
	poor := sit(t, virtual.Config{Extensions: []string{}})
	lacking := poor.signIn(allow(poor.register().ID), gaWith(ctap2.CredBlob(nil), secret))
	old := open(t, newOldKey(t))
	register, request := registration(), signIn()
	with(ctap2.CredProtect(ctap2.UVRequired))(register)
	made, err := old.MakeCredential(t.Context(), register)
	if err != nil {
		t.Fatal(err)
	}
	allow(made.ID)(request)
	gaWith(secret)(request)
	signed, err := old.GetAssertion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"ctap2: no output of this extension: ctap2.CredBlobStored":                                                 second(ctap2.Output[ctap2.CredBlobStored](c.Extensions)),
		"ctap2: no output of this extension: ctap2.HMACSecretOutput; there is one of type *ctap2.HMACSecretOutput": second(ctap2.Output[ctap2.HMACSecretOutput](a[0].Extensions)),
		"ctap2: no output of this extension: *ctap2.HMACSecretOutput; the key does not list credBlob, hmac-secret": second(ctap2.Output[*ctap2.HMACSecretOutput](lacking[0].Extensions)),
		"ctap2: no output of this extension: *ctap2.HMACSecretOutput; the key does not list hmac-secret":           second(ctap2.Output[*ctap2.HMACSecretOutput](signed[0].Extensions)),
		"ctap2: no output of this extension: ctap2.CredProtectPolicy; the key does not list credProtect":           second(ctap2.Output[ctap2.CredProtectPolicy](made.Extensions)),
	} {
		if !errors.Is(err, ctap2.ErrNoOutput) || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What a key does not list, or has no use for in an assertion, is not sent.
func TestExtensionsAreSentWhereTheyBelong(t *testing.T) {
	names := []string{"minPinLength", "pinComplexityPolicy", "thirdPartyPayment"}
	extensions := []ctap2.Extension{ctap2.MinPINLength(), ctap2.PINComplexityPolicy(), ctap2.ThirdPartyPayment()}
	for _, listed := range []bool{true, false} {
		info := basicInfo()
		if listed {
			info[2] = names
		}
		c := newCanned(t, info)
		for _, command := range []byte{ctap.CmdMakeCredential, ctap.CmdGetAssertion} {
			c.on(command, func([]byte) []byte { return []byte{byte(ctap2.ErrOther)} })
		}
		key := open(t, c)
		register, assert := registration(), signIn()
		register.Extensions, assert.Extensions = extensions, extensions
		if _, err := key.MakeCredential(t.Context(), register); !errors.Is(err, ctap2.ErrOther) {
			t.Error(err)
		}
		if _, err := key.GetAssertion(t.Context(), assert); !errors.Is(err, ctap2.ErrOther) {
			t.Error(err)
		}
		for i, name := range names {
			for j, command := range []byte{ctap.CmdMakeCredential, ctap.CmdGetAssertion} {
				m := c.messages[1+j]
				want := listed && (command == ctap.CmdMakeCredential || i == 2)
				if got := bytes.Contains(m, []byte(name)); m[0] != command || got != want {
					t.Errorf("listed %v, command %#02x: %s is sent: %v", listed, command, name, got)
				}
			}
		}
	}
}
