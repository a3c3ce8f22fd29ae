package conformance_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
)

// TestConfigLacks: a run that cannot be is refused before anything is opened.
func TestConfigLacks(t *testing.T) {
	never := func(context.Context) (ctap2.Transport, error) {
		t.Error("the authenticator was opened")
		return nil, context.Canceled
	}
	for says, config := range map[string]conformance.Config{
		"Target.Open":                           {},
		"Operator.PowerCycle or Operator.Reset": {Destructive: true, Target: conformance.Target{Open: never}},
	} {
		report, err := conformance.Check(t.Context(), config)
		if report != nil || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestNoPowerCycle: with another way to reset the authenticator, the cases that
// need a power cycle are left out, and the others run.
func TestNoPowerCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := virtual.New(virtual.ProfileCTAP23.Config())
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		target := memory(key)
		target.Operator.PowerCycle = nil
		target.Operator.Reset = func(ctx context.Context) error {
			key.PowerCycle()
			_, err := key.Exchange(ctx, []byte{0x07}, nil)
			return err
		}
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target, Destructive: true,
			Only: func(c conformance.Case) bool { return c.ID == "ga-power-cycle" || c.ID == "mc-param-wrong" },
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := result(t, report, "ga-power-cycle"); r.Outcome != conformance.Skipped || !strings.Contains(r.Message, "power cycle") {
			t.Errorf("%s: %s", r.Outcome, r.Message)
		}
		if r := result(t, report, "mc-param-wrong"); r.Outcome != conformance.Passed {
			t.Errorf("%s: %s", r.Outcome, r.Message)
		}
	})
}

// TestConfigCases: what the events count is known before the run. It includes what
// does not apply and what is left out, but not what is taken over.
func TestConfigCases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []conformance.Event
		config := conformance.Config{
			Target: target(t, virtual.Config{NoClientPIN: true}),
			Only: func(c conformance.Case) bool {
				return strings.HasPrefix(c.ID, "enc-") || strings.HasPrefix(c.ID, "gpt-") || c.ID == "hid-ping-one"
			},
			Event: func(e conformance.Event) { events = append(events, e) },
		}
		counted := func(previous int) *conformance.Report {
			t.Helper()
			events = nil
			want := config.Cases()
			report, err := conformance.Check(t.Context(), config)
			if err != nil || len(want) == 0 || len(report.Results) != len(want)+previous {
				t.Fatalf("%v, %d results, %d of them from before, not %d", err, len(report.Results), previous, len(want))
			}
			ran := map[string]bool{}
			for _, e := range events {
				if e.Kind == conformance.CaseEnd {
					ran[e.Result.ID] = true
				}
				if (e.Kind == conformance.Begin || e.Kind == conformance.CaseBegin || e.Kind == conformance.CaseEnd) && e.Total != len(want) {
					t.Errorf("%s counts %d cases, not %d", e.Kind, e.Total, len(want))
				}
			}
			for _, c := range want {
				if !ran[c.ID] {
					t.Errorf("%s has not run", c.ID)
				}
			}
			return report
		}
		all := len(config.Cases())
		report := counted(0)
		left := report.Count(conformance.Skipped)
		if left == 0 || report.Count(conformance.NotApplicable) == 0 || report.Count(conformance.Passed) == 0 {
			t.Errorf("%d left out, %d not applicable, %d passed", left, report.Count(conformance.NotApplicable), report.Count(conformance.Passed))
		}
		config.Previous = report
		if got := len(config.Cases()); got != left {
			t.Errorf("%d of %d again, not %d", got, all, left)
		}
		counted(all - left)
	})
}

// TestMaxWait: what says of itself that it waits for nothing does not.
func TestMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := virtual.Config{BuiltInUV: virtual.UVNotConfigured}
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target(t, config), Destructive: true, OneVariant: true, Only: chosen,
		})
		if err != nil {
			t.Fatal(err)
		}
		const atMost = 10 * time.Second // polling, and what a transport does not say
		for _, r := range report.Results {
			if r.Duration > atMost {
				t.Errorf("%s took %v", r.ID, r.Duration)
			}
		}
	})
}
