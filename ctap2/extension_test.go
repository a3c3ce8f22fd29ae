package ctap2_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
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
