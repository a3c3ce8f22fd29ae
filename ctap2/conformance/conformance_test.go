package conformance_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
)

func target(t *testing.T, config virtual.Config) conformance.Target {
	t.Helper()
	key, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	target := memory(key)
	if len(config.EnterpriseRPIDs) > 0 {
		target.EnterpriseRPID = config.EnterpriseRPIDs[0]
	}
	// What comes without a transport came over the first.
	target.Over = "usb"
	if len(config.Transports) > 0 {
		target.Over = config.Transports[0]
	}
	if over := config.TransportsForReset; len(over) > 0 && !slices.Contains(over, target.Over) {
		target.Operator.Reset = func(ctx context.Context) error {
			defer key.PowerCycle()
			return resetOver(ctx, over[0], key)
		}
	}
	return target
}

// memory is a key that is reached without a transport.
func memory(key *virtual.Authenticator) conformance.Target {
	done := func() {}
	return conformance.Target{
		Open: func(context.Context) (ctap2.Transport, error) { return key.Open(), nil },
		Operator: conformance.Operator{
			Gesture: func(_ context.Context, g conformance.Gesture) error {
				done()
				var doing context.Context
				doing, done = context.WithCancel(context.Background())
				gesture(doing, key, g)
				return nil
			},
			PowerCycle: func(context.Context) error { key.PowerCycle(); return nil },
		},
	}
}

// gesture is what the person at a software authenticator does, until doing ends.
func gesture(doing context.Context, key *virtual.Authenticator, g conformance.Gesture) {
	presence, verification, finger := virtual.Person(virtual.Touch), virtual.Person(virtual.Touch), virtual.Samples()
	switch g {
	case conformance.NoTouch:
		away := func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
			select {
			case <-ctx.Done():
			case <-doing.Done(): // a U2F message is over by then, and the light still on
			}
			return virtual.Nothing
		}
		presence, verification = away, away
		finger = func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
			<-ctx.Done()
			return virtual.SampleNoUserActivity
		}
	case conformance.LongTouch:
		presence = virtual.TouchFor(5 * time.Second)
	case conformance.Decline:
		presence, verification = virtual.Refuse, virtual.Refuse
	case conformance.WrongFinger:
		verification = virtual.Refuse
	case conformance.PoorSample:
		finger = func(context.Context, virtual.Prompt) virtual.SampleStatus { return virtual.SamplePoorQuality }
	}
	key.SetPresence(presence)
	key.SetVerification(verification)
	key.SetFinger(finger)
}

// targets are the keys that the cases are tried on: the profiles, and the
// variants, by name.
func targets() map[string]virtual.Config {
	all := map[string]virtual.Config{}
	for _, profile := range virtual.Profiles() {
		all[profile.String()] = profile.Config()
	}
	maps.Copy(all, variants)
	return all
}

// variants are keys that lack, or have, what makes a case apply that applies to
// no profile.
var variants = map[string]virtual.Config{
	"default": {},
	"no U2F":  {NoU2F: true},
	"sparse": {
		BuiltInUV: virtual.UVNotConfigured, Extensions: []string{"credProtect"}, NoCredentialManagement: true,
		NoAuthenticatorConfig: true, NoPersistentCredMgmtRO: true, NoUVBioEnroll: true,
	},
	"no PIN":           {NoClientPIN: true},
	"no clientPIN":     {NoClientPIN: true, Extensions: []string{"credProtect"}},
	"no permissions":   {NoPINUVAuthToken: true, Attestation: virtual.AttestationSelf},
	"PIN without mcga": {BuiltInUV: virtual.UVNotConfigured, NoMCGAPermissionsWithClientPIN: true},
	"largeBlob":        {Extensions: []string{"largeBlob"}, MaxSerializedLargeBlobArray: 1024, NoToggleAlwaysUV: true},
	"only alwaysUv":    {AlwaysUV: true, NoToggleAlwaysUV: true},
	"NFC":              {Transports: []string{"nfc"}},
	"reset over NFC": {
		Transports: []string{"usb", "nfc"}, TransportsForReset: []string{"nfc"}, NoResidentKeys: true,
	},
	"finger alone":              {NoClientPIN: true, BuiltInUV: virtual.UVConfigured},
	"finger alone, none":        {NoClientPIN: true, BuiltInUV: virtual.UVNotConfigured, Attestation: virtual.AttestationNone},
	"finger alone, UV required": {NoClientPIN: true, BuiltInUV: virtual.UVConfigured, UVRequiredForNonDiscoverable: true},
	"PIN without mcga, UV required": {
		BuiltInUV: virtual.UVNotConfigured, NoMCGAPermissionsWithClientPIN: true, UVRequiredForNonDiscoverable: true,
	},
}

// chosen are the cases that FIDO_CASES matches, a regular expression; unset: all.
func chosen(c conformance.Case) bool { return wanted.MatchString(c.ID) }

var wanted = regexp.MustCompile(os.Getenv("FIDO_CASES"))

// shortTargets are the keys of a short run, which together have most of what cases
// ask for: the first over each transport.
var shortTargets = []string{"ctap2.3", "ctap2.0", "ctap2.1-pre", "enterprise", "largeBlob", "no permissions", "sparse"}

// TestVirtual: the software authenticator passes all cases that apply to it, and
// each case applies to one of the keys at least. The profiles are reached over
// each transport, the variants for what differs there. With -short it is
// some keys and one variant, for the race detector.
func TestVirtual(t *testing.T) {
	applied := map[string]bool{}
	for name, config := range targets() {
		if testing.Short() && !slices.Contains(shortTargets, name) {
			continue
		}
		for _, transport := range []string{"memory", "hid", "nfc"} {
			title := name
			if transport != "memory" {
				title += " over " + transport
			}
			only := chosen
			if testing.Short() && name != shortTargets[0] && transport != "memory" {
				continue
			}
			if _, variant := variants[name]; variant && transport != "memory" {
				only = func(c conformance.Case) bool { return chosen(c) && ofTransports.MatchString(c.ID) }
			}
			t.Run(title, func(t *testing.T) {
				for _, r := range check(t, transport, config, only) {
					if r.Outcome == conformance.Passed || r.Outcome == conformance.Failed {
						applied[r.ID] = true
					}
				}
			})
		}
	}
	for _, c := range conformance.Cases() {
		if chosen(c) && !applied[c.ID] && !testing.Short() {
			t.Errorf("%s applies to none of the keys", c.ID)
		}
	}
}

// ofTransports are the cases in which the transport has a part.
var ofTransports = regexp.MustCompile(`^(hid|nfc|u2f|rst|info)-`)

// check runs cases against a key, in no time of the clock on the wall.
func check(t *testing.T, transport string, config virtual.Config, only func(conformance.Case) bool) []conformance.Result {
	t.Helper()
	var report *conformance.Report
	var err error
	synctest.Test(t, func(t *testing.T) {
		report, err = conformance.Check(t.Context(), conformance.Config{
			Target: over(t, transport, config), Destructive: true, MaxWait: -1, Only: only,
			OneVariant: testing.Short(),
		})
	})
	if err != nil {
		t.Error(err)
	}
	if report == nil {
		return nil
	}
	for _, r := range report.Results {
		switch {
		case r.Outcome == conformance.Failed:
			t.Errorf("%s: %s %s", r.ID, r.Message, r.Variant)
			for _, e := range r.Exchanges {
				t.Log(e)
			}
		case r.Remark != "":
			t.Errorf("%s: %s", r.ID, r.Remark)
		case r.Outcome == conformance.Skipped:
			t.Errorf("%s: skipped: %s", r.ID, r.Message)
		}
	}
	return report.Results
}
