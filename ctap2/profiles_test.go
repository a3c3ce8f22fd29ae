package ctap2_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/nfc"
	"github.com/tapstone/fido/pin"
)

// onReader is the software authenticator on a card reader.
type onReader struct{ *virtual.Card }

func (onReader) Close() error { return nil }

// tap opens the card through nfc and ctap2.
func (d *desk) tap(card *virtual.Card) {
	d.t.Helper()
	if d.Authenticator != nil {
		d.Close()
	}
	device, err := nfc.New(d.t.Context(), onReader{card})
	if err != nil {
		d.t.Fatal(err)
	}
	d.begin(device)
}

// Each typical key lives its life, from the first PIN to the reset: over USB and
// NFC, with each PIN/UV auth protocol it has.
func TestProfiles(t *testing.T) {
	for _, profile := range virtual.Profiles() {
		for _, over := range []string{"usb", "nfc"} {
			for _, protocol := range []pin.Protocol{pin.One, pin.Two} {
				config := profile.Config()
				if config.Level < virtual.CTAP21 && protocol == pin.Two {
					continue // they have none, or the first alone
				}
				if config.Level >= virtual.CTAP21 {
					config.PINProtocols = []pin.Protocol{protocol}
				}
				t.Run(profile.String()+"/"+over+"/"+protocol.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						d := sit(t, config, "618033")
						if over == "nfc" {
							d.Close()
							d.usb.Unplug()
							card := d.soft.Tap(virtual.CardConfig{})
							defer card.Remove()
							d.tap(card)
							d.again = func() { card.Remove(); card.Tap(); d.tap(card) }
						}
						if config.Level == virtual.CTAP1 {
							d.liveU2F()
							return
						}
						d.live(over)
					})
				})
			}
		}
	}
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) refuses(err, want error) {
	d.t.Helper()
	if !errors.Is(err, want) {
		d.t.Errorf("%v, not %v", err, want)
	}
}

func es256(r *ctap2.MakeCredentialRequest) { r.Algorithms = []cose.Algorithm{cose.EdDSA, cose.ES256} }

// live is the life of a CTAP2 key.
func (d *desk) live(over string) {
	t, ctx := d.t, d.t.Context()
	info := d.Info()
	if set, known := info.Options[ctap2.OptionClientPIN]; !known || set {
		t.Fatalf("clientPin %v, %v", set, known)
	}
	d.must(d.SetPIN(ctx, pin.FromString("618033")))
	var extensions []ctap2.Extension
	if info.HasExtension("hmac-secret") {
		extensions = append(extensions, ctap2.HMACSecret())
	}
	if info.HasExtension("largeBlobKey") {
		extensions = append(extensions, ctap2.LargeBlobKey())
	}
	one := d.register(account("one"), es256, mcUV(ctap2.Required), with(extensions...))
	two := d.register(account("two"), es256, mcUV(ctap2.Required))
	if !one.AuthData.Flags.Has(ctap2.FlagUserVerified) {
		t.Error("not verified")
	}
	verify(t, d.signIn(allow(one.ID), gaUV(ctap2.Required))[0], one)
	accounts := d.signIn(gaUV(ctap2.Required))
	if len(accounts) != 2 {
		t.Fatalf("%d accounts", len(accounts))
	}
	verify(t, accounts[0], two)
	verify(t, accounts[1], one)
	excluded := registration()
	es256(excluded)
	excluded.ExcludeList = []ctap2.CredentialDescriptor{one.Descriptor()}
	_, err := d.MakeCredential(ctx, excluded)
	d.refuses(err, ctap2.ErrCredentialExcluded)

	d.liveSecret(one)
	d.liveCredentials(one)
	d.liveFingers()
	d.liveBlobs(one)
	d.liveConfig()

	if d.again != nil {
		d.again()
	} else {
		d.replug()
	}
	d.soft.SetPresence(virtual.TouchFor(6 * time.Second))
	err = d.Reset(ctx)
	if only := info.TransportsForReset; only != nil && !slices.Contains(only, over) {
		var e *ctap2.ResetError
		if !errors.As(err, &e) {
			t.Errorf("reset over %s: %v", over, err)
		}
		return
	}
	d.must(err)
	if info, err := d.GetInfo(ctx); err != nil || info.Options[ctap2.OptionClientPIN] || info.Options[ctap2.OptionUserVerification] {
		t.Errorf("after a reset: %v, %v", info.Options, err)
	}
	_, err = d.GetAssertion(ctx, &ctap2.GetAssertionRequest{RPID: "example.com", ClientDataHash: clientDataHash[:], Silent: true})
	d.refuses(err, ctap2.ErrNoCredentials)
}

func (d *desk) liveSecret(c *ctap2.Credential) {
	if !d.Info().HasExtension("hmac-secret") {
		return
	}
	var first pin.Secret
	for range 2 {
		a := d.signIn(allow(c.ID), gaUV(ctap2.Required), gaWith(ctap2.HMACSecret(make([]byte, 32))))
		secret, err := ctap2.Output[*ctap2.HMACSecretOutput](a[0].Extensions)
		d.must(err)
		if first.Len() != 0 && !first.Equal(secret.Output1) {
			d.t.Error("another secret")
		}
		first = secret.Output1
	}
}

func (d *desk) liveCredentials(c *ctap2.Credential) {
	t, ctx := d.t, d.t.Context()
	full := d.Info().Options[ctap2.OptionCredentialManagement]
	if !full && !d.Info().Options[ctap2.OptionCredentialMgmtPreview] {
		_, err := d.EnumerateCredentials(ctx, nil)
		d.refuses(err, ctap2.ErrUnsupported)
		return
	}
	m, err := d.GetCredsMetadata(ctx, nil)
	d.must(err)
	list, err := d.EnumerateCredentials(ctx, nil)
	d.must(err)
	if len(list) != 2 || m.ExistingResidentCredentialsCount != 2 {
		t.Fatalf("%d listed, %+v", len(list), m)
	}
	rename := &ctap2.UpdateUserInformationRequest{
		Credential: c.Descriptor(),
		User:       ctap2.User{ID: []byte("one"), Name: "renamed@example.com"},
	}
	err = d.UpdateUserInformation(ctx, rename)
	if !full {
		d.refuses(err, ctap2.ErrUnsupported)
	} else {
		d.must(err)
	}
	d.must(d.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: ctap2.CredentialDescriptor{
		ID: list[slices.IndexFunc(list, func(s *ctap2.StoredCredential) bool { return !bytes.Equal(s.Credential.ID, c.ID) })].Credential.ID,
	}}))
	list, err = d.EnumerateCredentials(ctx, nil)
	d.must(err)
	if len(list) != 1 || (list[0].User.Name == "renamed@example.com") != full {
		t.Errorf("%+v", list)
	}
}

func (d *desk) liveFingers() {
	t, ctx := d.t, d.t.Context()
	_, final := d.Info().Options[ctap2.OptionBioEnroll]
	_, preview := d.Info().Options[ctap2.OptionUserVerificationMgmtPreview]
	if !final && !preview {
		_, err := d.EnumerateEnrollments(ctx, nil)
		d.refuses(err, ctap2.ErrUnsupported)
		return
	}
	sensor, err := d.GetFingerprintSensorInfo(ctx)
	d.must(err)
	before, err := d.EnumerateEnrollments(ctx, nil)
	d.must(err)
	d.soft.SetFinger(virtual.Samples(virtual.SampleGood, virtual.SampleTooFast, virtual.SampleTooLeft))
	d.samples = nil
	finger, err := d.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb"})
	d.must(err)
	if n := sensor.MaxCaptureSamplesRequiredForEnroll + 2; len(d.samples) != n || d.samples[1].Status != ctap2.SampleTooFast {
		t.Errorf("%d samples of %d: %+v", len(d.samples), n, d.samples)
	}
	d.must(d.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: finger.TemplateID, FriendlyName: "left thumb"}))
	after, err := d.EnumerateEnrollments(ctx, nil)
	d.must(err)
	i := slices.IndexFunc(after, func(f ctap2.Fingerprint) bool { return bytes.Equal(f.TemplateID, finger.TemplateID) })
	if len(after) != len(before)+1 || i < 0 || after[i].FriendlyName != "left thumb" {
		t.Errorf("%+v, then %+v", before, after)
	}
	// It is good for a sign-in.
	asked := len(d.asked)
	d.Forget()
	d.signIn(gaUV(ctap2.Required))
	if !d.Info().Options[ctap2.OptionUserVerification] || len(d.asked) != asked {
		t.Errorf("uv %v, asked for the PIN %d times", d.Info().Options, len(d.asked)-asked)
	}
	d.must(d.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: finger.TemplateID}))
	err = d.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: finger.TemplateID})
	d.refuses(err, ctap2.ErrInvalidOption)
	if info, err := d.GetInfo(ctx); err != nil || info.Options[ctap2.OptionUserVerification] != (len(before) > 0) {
		t.Errorf("%v, %v", info.Options, err)
	}
}

func (d *desk) liveBlobs(c *ctap2.Credential) {
	t, ctx := d.t, d.t.Context()
	descriptor := c.Descriptor()
	byName := &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &descriptor, Data: []byte("a certificate")}
	if !d.Info().Options[ctap2.OptionLargeBlobs] {
		_, err := d.GetLargeBlob(ctx, byName)
		d.refuses(err, ctap2.ErrUnsupported)
		return
	}
	_, err := d.GetLargeBlob(ctx, byName)
	d.refuses(err, ctap2.ErrNoLargeBlob)
	d.must(d.PutLargeBlob(ctx, byName))
	for _, r := range []*ctap2.LargeBlobRequest{byName, {Key: c.LargeBlobKey}} {
		if got, err := d.GetLargeBlob(ctx, r); err != nil || string(got) != "a certificate" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if n, err := d.CollectLargeBlobs(ctx, nil); n != 0 || err != nil {
		t.Errorf("%d collected, %v", n, err)
	}
	d.must(d.DeleteLargeBlob(ctx, byName))
	_, err = d.GetLargeBlob(ctx, byName)
	d.refuses(err, ctap2.ErrNoLargeBlob)
}

func (d *desk) liveConfig() {
	t, ctx := d.t, d.t.Context()
	if !d.Info().Options[ctap2.OptionAuthenticatorConfig] {
		d.refuses(d.ToggleAlwaysUV(ctx, nil), ctap2.ErrUnsupported)
		return
	}
	was := d.Info().Options[ctap2.OptionAlwaysUV]
	d.must(d.ToggleAlwaysUV(ctx, nil))
	info, err := d.GetInfo(ctx)
	d.must(err)
	if info.Options[ctap2.OptionAlwaysUV] == was {
		t.Error("alwaysUv as before")
	}
	if _, ok := info.Options[ctap2.OptionEnterpriseAttestation]; ok {
		d.must(d.EnableEnterpriseAttestation(ctx, nil))
		c := d.register(es256, func(r *ctap2.MakeCredentialRequest) { r.EnterpriseAttestation = 2 })
		if !c.EnterpriseAttestation {
			t.Error("no enterprise attestation")
		}
	}
	if info.VendorPrototypeConfigCommands != nil {
		_, err := d.VendorPrototype(ctx, &ctap2.VendorPrototypeRequest{CommandID: info.VendorPrototypeConfigCommands[0]})
		d.must(err)
	}
	if slices.Contains(info.AuthenticatorConfigCommands, 4) {
		d.must(d.EnableLongTouchForReset(ctx, nil))
	}
	d.must(d.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{NewMinPINLength: 8, MinPINLengthRPIDs: []string{"example.com"}}))
	_, err = d.GetCredsMetadata(context.WithoutCancel(ctx), nil)
	if !d.Info().Options[ctap2.OptionUserVerification] {
		d.refuses(err, ctap2.ErrPINChangeRequired)
	}
	d.must(d.ChangePIN(ctx, pin.FromString("618033"), pin.FromString("61803398")))
	d.pins = []string{"61803398"}
	if info, err := d.GetInfo(ctx); err != nil || info.MinPINLength != 8 || info.ForcePINChange {
		t.Errorf("minPINLength %d, forcePINChange %v, %v", info.MinPINLength, info.ForcePINChange, err)
	}
	c := d.register(es256, resident, with(ctap2.MinPINLength()))
	if n, err := ctap2.Output[ctap2.MinPINLengthOutput](c.Extensions); n != 8 || err != nil {
		t.Errorf("extension minPinLength %d, %v", n, err)
	}
}

// liveU2F is the life of a key that speaks U2F alone.
func (d *desk) liveU2F() {
	t, ctx := d.t, d.t.Context()
	if v, err := d.U2FVersion(ctx); v != "U2F_V2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	d.soft.SetPresence(virtual.TouchAfter(time.Second))
	request := registration()
	es256(request)
	c, err := d.MakeCredential(ctx, request)
	d.must(err)
	if c.Format != "fido-u2f" || len(d.touches) != 1 || d.ended != 1 {
		t.Errorf("%s, %d touches, %d ended", c.Format, len(d.touches), d.ended)
	}
	a := d.signIn(allow(append(randomIDs(3, 64), c.ID)...))
	verify(t, a[0], c)
	request.ExcludeList = []ctap2.CredentialDescriptor{c.Descriptor()}
	_, err = d.MakeCredential(ctx, request)
	d.refuses(err, ctap2.ErrCredentialExcluded)
	_, err = d.GetAssertion(ctx, signIn())
	d.refuses(err, ctap2.ErrNoCredentials)
	wanted := signIn()
	allow(c.ID)(wanted)
	wanted.UserVerification = ctap2.Required
	_, err = d.GetAssertion(ctx, wanted)
	d.refuses(err, ctap2.ErrUnsupportedOption)
	for _, err := range []error{
		d.SetPIN(ctx, pin.FromString("618033")), d.Reset(ctx), d.ToggleAlwaysUV(ctx, nil),
		d.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: c.Descriptor()}),
	} {
		d.refuses(err, ctap2.ErrUnsupported)
	}

	// Its own messages.
	challenge, application := clientDataHash, c.AuthData.RPIDHash
	r, err := d.U2FRegister(ctx, challenge, application)
	d.must(err)
	if known, err := d.U2FCheck(ctx, application, r.KeyHandle); !known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
	signed, err := d.U2FAuthenticate(ctx, challenge, application, r.KeyHandle)
	d.must(err)
	data := slices.Concat(application[:], signed.Raw[:5], challenge[:])
	if err := r.PublicKey.Verify(data, signed.Signature); err != nil || !signed.UserPresent {
		t.Errorf("present %v, %v", signed.UserPresent, err)
	}
	application[0] ^= 1
	if known, err := d.U2FCheck(ctx, application, r.KeyHandle); known || err != nil {
		t.Errorf("known elsewhere %v, %v", known, err)
	}
	_, err = d.U2FAuthenticate(ctx, challenge, application, r.KeyHandle)
	d.refuses(err, ctap2.ErrU2FWrongData)
	_, err = d.U2FAuthenticate(ctx, challenge, application, nil)
	d.refuses(err, ctap2.ErrInvalidRequest)
}
