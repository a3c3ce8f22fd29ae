package nfc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// onReader is the software authenticator as a Card.
type onReader struct{ *virtual.Card }

func (onReader) Close() error { return nil }

const testPIN = "271828"

// newVirtual returns a software key with a PIN. It makes long credentials:
// with P-521, and with the longest names.
func newVirtual(t testing.TB, presence virtual.Person) *virtual.Authenticator {
	t.Helper()
	key, err := virtual.New(virtual.Config{
		PIN: testPIN, Presence: presence, Transports: []string{"nfc"}, Algorithms: []cose.Algorithm{cose.ES512},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

// openKey opens the authenticator behind a Device and closes both behind the
// test.
func openKey(t testing.TB, d *Device, interaction ctap2.Interaction) *ctap2.Authenticator {
	t.Helper()
	if interaction.PIN == nil {
		interaction.PIN = func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(testPIN), nil }
	}
	key, err := ctap2.Open(t.Context(), d, ctap2.WithInteraction(interaction))
	if err != nil {
		d.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

var clientDataHash = sha256.Sum256([]byte("client data"))

// registration is a request that is longer than a short APDU.
func registration() *ctap2.MakeCredentialRequest {
	return &ctap2.MakeCredentialRequest{
		ClientDataHash:   clientDataHash[:],
		RP:               ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:             ctap2.User{ID: bytes.Repeat([]byte{1}, 64), Name: strings.Repeat("n", 300), DisplayName: strings.Repeat("d", 300)},
		Algorithms:       []cose.Algorithm{cose.ES512},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret()},
	}
}

// ceremony registers, signs in with a PIN, and derives a secret twice.
func ceremony(t testing.TB, key *ctap2.Authenticator) {
	t.Helper()
	credential, err := key.MakeCredential(t.Context(), registration())
	if err != nil {
		t.Fatal(err)
	}
	if enabled, err := ctap2.Output[ctap2.HMACSecretEnabled](credential.Extensions); err != nil || !bool(enabled) {
		t.Fatalf("hmac-secret: %v, %v", enabled, err)
	}
	var secrets [][]byte
	for range 2 {
		assertions, err := key.GetAssertion(t.Context(), &ctap2.GetAssertionRequest{
			RPID: "example.com", ClientDataHash: clientDataHash[:], UserVerification: ctap2.Required,
			AllowList:  []ctap2.CredentialDescriptor{credential.Descriptor()},
			Extensions: []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32), bytes.Repeat([]byte{1}, 32))},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := assertions[0].Verify(credential.PublicKey, clientDataHash[:]); err != nil {
			t.Fatal(err)
		}
		output, err := ctap2.Output[*ctap2.HMACSecretOutput](assertions[0].Extensions)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, append(output.Output1.Bytes(), output.Output2.Bytes()...))
	}
	if len(secrets[0]) != 64 || !bytes.Equal(secrets[0], secrets[1]) {
		t.Errorf("hmac-secret outputs of %d bytes differ", len(secrets[0]))
	}
}

// A key with each of the faults of cards works, through the commands of ctap2.
func TestVirtualCard(t *testing.T) {
	for name, config := range map[string]virtual.CardConfig{
		"none":            {},
		"short reader":    {ShortReader: true},
		"refuse extended": {Faults: virtual.CardFaults{RefuseExtended: true}},
		"chain select":    {Faults: virtual.CardFaults{ChainSelect: true, ClaimU2F: true}},
		"only 00":         {Faults: virtual.CardFaults{Only00GetResponse: true, RefuseExtended: true}},
		"only 80":         {Faults: virtual.CardFaults{Only80GetResponse: true, RefuseExtended: true, ChainSelect: true}},
		"no Le in chain":  {Faults: virtual.CardFaults{RefuseLeInChain: true, RefuseExtended: true}},
		"wrong Le":        {Faults: virtual.CardFaults{WrongLe: true, RefuseExtended: true}},
		"no updates":      {Faults: virtual.CardFaults{NoStatusUpdates: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				card := newVirtual(t, virtual.TouchAfter(3*time.Second)).Tap(config)
				ceremony(t, openKey(t, mustNew(t, onReader{card}), ctap2.Interaction{}))
			})
		})
	}
	t.Run("not there", func(t *testing.T) {
		card := newVirtual(t, nil).Tap(virtual.CardConfig{Faults: virtual.CardFaults{NoApplet: true}})
		_, err := New(t.Context(), onReader{card})
		mustMatch(t, err, ErrNotFIDO, ErrFileNotFound)
	})
	t.Run("removed", func(t *testing.T) {
		for n := 1; ; n++ {
			card := newVirtual(t, nil).Tap(virtual.CardConfig{Faults: virtual.CardFaults{RemoveAfter: n, RefuseExtended: true}})
			d := mustNew(t, onReader{card})
			key, err := ctap2.Open(t.Context(), d)
			if err == nil {
				_, err = key.PINRetries(t.Context())
			}
			if err == nil {
				if n < 3 {
					t.Errorf("%d commands were enough", n)
				}
				return
			}
			mustMatch(t, err, ErrDeviceGone, ctap2.ErrDeviceGone)
		}
	})
}

// Cancelling a touch, with and without NFCCTAP_GETRESPONSE, and what the next
// command finds.
func TestVirtualCardCancel(t *testing.T) {
	for name, faults := range map[string]virtual.CardFaults{
		"polled": {}, "silent": {NoStatusUpdates: true}, "deaf": {IgnoreCancel: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				software := newVirtual(t, virtual.Ignore)
				d := mustNew(t, onReader{software.Tap(virtual.CardConfig{Faults: faults})})
				var touches atomic.Int32
				key := openKey(t, d, ctap2.Interaction{Touch: func(ctap2.TouchRequest) { touches.Add(1) }})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				start := time.Now()
				_, err := key.MakeCredential(ctx, registration())
				mustMatch(t, err, context.DeadlineExceeded)
				if took := time.Since(start); took > 2*time.Second+CancelTimeout {
					t.Errorf("it took %v", took)
				}
				if (touches.Load() == 1) != (name != "silent") {
					t.Errorf("asked for %d touches", touches.Load())
				}
				software.SetPresence(nil)
				ceremony(t, key)
			})
		})
	}
}

// Other programs, and Windows after five seconds (quirk 19), reset the card
// behind our back, while the person looks for the PIN say.
func TestVirtualCardReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		card := newVirtual(t, nil).Tap(virtual.CardConfig{})
		reset := func() {
			if err := card.Reset(); err != nil {
				t.Error(err)
			}
		}
		key := openKey(t, mustNew(t, onReader{card}), ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
				reset()
				return pin.FromString(testPIN), nil
			},
		})
		reset()
		if _, err := key.GetInfo(t.Context()); err != nil {
			t.Error(err)
		}
		ceremony(t, key)
		reset()
		ceremony(t, key)
		token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionMakeCredential, RPID: "example.com"})
		if err != nil {
			t.Fatal(err)
		}
		reset()
		r := registration()
		r.Token = token
		if _, err := key.MakeCredential(t.Context(), r); !errors.Is(err, ErrReset) || !errors.Is(err, ctap2.ErrReset) {
			t.Errorf("with a token of before the reset: %v", err)
		}
		if left, err := key.PINRetries(t.Context()); err != nil || left.Retries != 8 {
			t.Errorf("%+v, %v", left, err)
		}
	})
}
