package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// A refusing key answers setPIN with a status as long as refuse says so.
type refusing struct {
	*virtual.Conn
	refuse func() bool
}

func (r refusing) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if message[0] == 0x06 && bytes.Contains(message, []byte{0x02, 0x03}) && r.refuse() {
		return []byte{0x37}, nil
	}
	return r.Conn.Exchange(ctx, message, status)
}

// TestPreparation: a case that cannot be prepared has failed, and the run goes on
// with the next, unless that happens again and again, or the key is gone.
func TestPreparation(t *testing.T) {
	gone := errors.New("no such device")
	cases := []string{"enc-no-parameters", "mc-param-wrong", "ga-param-wrong", "cm-meta-good", "cm-rps-good"}
	for name, want := range map[string]struct {
		refuse func(setPINs int) bool
		opens  int // that succeed; 0: all
		failed []string
		passed int
		err    string
	}{
		"once":   {refuse: func(n int) bool { return n == 1 }, failed: cases[1:2], passed: 4},
		"twice":  {refuse: func(n int) bool { return n < 3 }, failed: cases[1:3], passed: 3},
		"always": {refuse: func(int) bool { return true }, failed: cases[1:3], passed: 1, err: "3 cases in a row"},
		"gone":   {opens: 3, passed: 1, err: gone.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key, err := virtual.New(virtual.ProfileCTAP23.Config())
				if err != nil {
					t.Fatal(err)
				}
				defer key.Close()
				target := memory(key)
				opens, setPINs := 0, 0
				target.Open = func(context.Context) (ctap2.Transport, error) {
					if opens++; want.opens > 0 && opens > want.opens {
						return nil, gone
					}
					return refusing{key.Open(), func() bool {
						setPINs++
						return want.refuse != nil && want.refuse(setPINs)
					}}, nil
				}
				report, err := conformance.Check(t.Context(), conformance.Config{
					Target: target, Destructive: true, OneVariant: true,
					Only: func(c conformance.Case) bool { return slices.Contains(cases, c.ID) },
				})
				if want.err == "" && err != nil || want.err != "" && (err == nil || !strings.Contains(err.Error(), want.err)) {
					t.Errorf("ends with %v, not %s", err, want.err)
				}
				if passed := report.Count(conformance.Passed); passed != want.passed {
					t.Errorf("%d have passed, not %d", passed, want.passed)
				}
				var failed []string
				for _, r := range report.Results {
					if r.Outcome != conformance.Failed {
						continue
					}
					failed = append(failed, r.ID)
					if !strings.HasPrefix(r.Message, "the authenticator could not be prepared: setPIN") || len(r.Exchanges) == 0 {
						t.Errorf("%s: %s, %d exchanges", r.ID, r.Message, len(r.Exchanges))
					}
				}
				if !slices.Equal(failed, want.failed) {
					t.Errorf("%v have failed, not %v", failed, want.failed)
				}
			})
		})
	}
}

// TestSlowPerson: the time that a person takes is not the authenticator's.
func TestSlowPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := target(t, virtual.ProfileCTAP23.Config())
		plug := target.Operator.PowerCycle
		target.Operator.PowerCycle = func(ctx context.Context) error {
			time.Sleep(10 * time.Minute)
			if err := ctx.Err(); err != nil {
				return err
			}
			return plug(ctx)
		}
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target, Destructive: true, Only: func(c conformance.Case) bool { return c.ID == "rst-touch" || c.ID == "ga-power-cycle" },
		})
		if err != nil || report.Count(conformance.Passed) != 2 {
			t.Errorf("%v, %+v", err, report)
		}
	})
}

// TestResets: no key is reset again and again for a state that it cannot be in.
func TestResets(t *testing.T) {
	for name, test := range map[string]struct {
		config virtual.Config
		cases  string
		most   int
	}{
		"no PIN":           {virtual.Config{NoClientPIN: true}, "gpt-", 1},
		"no finger":        {virtual.ProfileCTAP20.Config(), "uvt-", 2},
		"alwaysUv, always": {virtual.Config{AlwaysUV: true, NoToggleAlwaysUV: true}, "mc-type-", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resets := 0
				_, err := conformance.Check(t.Context(), conformance.Config{
					Target: target(t, test.config), Destructive: true, MaxWait: -1,
					Only: func(c conformance.Case) bool { return strings.HasPrefix(c.ID, test.cases) },
					Event: func(e conformance.Event) {
						if e.Kind == conformance.Preparing && e.Message == "reset" {
							resets++
						}
					},
				})
				if err != nil || resets > test.most {
					t.Errorf("%v, %d resets", err, resets)
				}
			})
		})
	}
}

// TestPreviousHarmless: what does not apply to a key as it is found may apply to
// one that was reset.
func TestPreviousHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := virtual.ProfileCTAP23.Config()
		config.PIN = "271828"
		config.UVRequiredForNonDiscoverable = true
		check := conformance.Config{
			Target: target(t, config), Only: func(c conformance.Case) bool { return c.ID == "mc-two" || c.ID == "enc-unknown-command" },
		}
		var err error
		check.Previous, err = conformance.Check(t.Context(), check)
		if err != nil || result(t, check.Previous, "mc-two").Outcome != conformance.NotApplicable {
			t.Fatal(err, check.Previous)
		}
		check.Destructive = true
		report, err := conformance.Check(t.Context(), check)
		if err != nil || len(report.Results) != 2 || report.Count(conformance.Passed) != 2 {
			t.Error(err, report)
		}
	})
}
