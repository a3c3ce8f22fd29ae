package conformance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// TestHarmless: a run that is not Destructive leaves a key as it was.
func TestHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := virtual.ProfileCTAP23.Config()
		config.PIN = "27182818"
		config.BuiltInUV = virtual.UVConfigured
		soft, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		key, err := ctap2.Open(t.Context(), soft, ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(config.PIN), nil },
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, account := range []string{"ada", "grace"} {
			_, err := key.MakeCredential(t.Context(), &ctap2.MakeCredentialRequest{
				ClientDataHash: make([]byte, 32), RP: ctap2.RelyingParty{ID: "example.com"},
				User: ctap2.User{ID: []byte(account), Name: account}, Algorithms: []cose.Algorithm{cose.ES256}, ResidentKey: true,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		before := everything(t, key)
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: memory(soft), MaxWait: -1, PIN: pin.FromString(config.PIN), Only: chosen,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.Results {
			if r.Outcome == conformance.Failed {
				t.Errorf("%s: %s %s", r.ID, r.Message, r.Variant)
			}
		}
		if passed := report.Count(conformance.Passed); passed < 100 {
			t.Errorf("%d cases that leave no trace", passed)
		}
		if after := everything(t, key); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// everything is what a key shows of what it keeps.
func everything(t *testing.T, key *ctap2.Authenticator) string {
	t.Helper()
	var all strings.Builder
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	info, err := key.GetInfo(ctx)
	must(err)
	fmt.Fprintln(&all, info.Versions, info.Options, info.ForcePINChange, info.MinPINLength,
		*info.RemainingDiscoverableCredentials, info.LongTouchForReset, *info.PINComplexityPolicy)
	retries, err := key.PINRetries(ctx)
	must(err)
	uvRetries, err := key.UVRetries(ctx)
	must(err)
	fmt.Fprintln(&all, retries, uvRetries)
	blobs, err := key.LargeBlobArray(ctx)
	must(err)
	fmt.Fprintf(&all, "%+v\n", blobs)
	stored, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{})
	must(err)
	for _, c := range stored {
		fmt.Fprintf(&all, "%+v\n", *c)
	}
	token, err := key.Token(ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionBioEnrollment, Method: ctap2.PINMethod,
	})
	must(err)
	fingers, err := key.EnumerateEnrollments(ctx, token)
	must(err)
	fmt.Fprintf(&all, "%x\n", fingers)
	return all.String()
}
