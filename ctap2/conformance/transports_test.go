package conformance_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

// over is the target of a key that is reached over a transport: "memory", "hid"
// or "nfc".
func over(t *testing.T, transport string, config virtual.Config) conformance.Target {
	t.Helper()
	if transport == "memory" {
		return target(t, config)
	}
	// A key says how it can be reached.
	if name := map[string]string{"hid": "usb", "nfc": "nfc"}[transport]; !slices.Contains(config.Transports, name) {
		config.Transports = append(slices.Clone(config.Transports), name)
	}
	key, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	target := memory(key)
	if len(config.EnterpriseRPIDs) > 0 {
		target.EnterpriseRPID = config.EnterpriseRPIDs[0]
	}
	for _, plug := range []struct {
		transport, name string
		in              func(*testing.T, *virtual.Authenticator, *conformance.Target) (out func())
	}{{"hid", "usb", inPort}, {"nfc", "nfc", onReader}} {
		if plug.transport != transport {
			continue
		}
		out := plug.in(t, key, &target)
		t.Cleanup(out)
		target.Over = plug.name
		if forReset := config.TransportsForReset; len(forReset) > 0 && !slices.Contains(forReset, plug.name) {
			again := target.Operator.PowerCycle
			target.Operator.Reset = func(ctx context.Context) error {
				out()
				if err := resetOver(ctx, forReset[0], key); err != nil {
					return err
				}
				return again(ctx)
			}
		}
	}
	return target
}

// inPort plugs the key in.
func inPort(t *testing.T, key *virtual.Authenticator, target *conformance.Target) (out func()) {
	usb := key.PlugIn(virtual.USBConfig{})
	target.Open = func(ctx context.Context) (ctap2.Transport, error) {
		conn, err := usb.Open()
		if err != nil {
			return nil, err
		}
		return hid.New(ctx, conn)
	}
	target.HID = func(context.Context) (conformance.Reports, error) { return usb.Open() }
	target.Operator.PowerCycle = func(context.Context) error {
		usb.Unplug()
		usb.PlugIn()
		return nil
	}
	return usb.Unplug
}

// onReader lays the key on a reader.
func onReader(t *testing.T, key *virtual.Authenticator, target *conformance.Target) (out func()) {
	card := key.Tap(virtual.CardConfig{})
	target.Open = func(ctx context.Context) (ctap2.Transport, error) {
		conn, err := card.Open()
		if err != nil {
			return nil, err
		}
		return nfc.New(ctx, conn)
	}
	target.NFC = func(context.Context) (conformance.Card, error) { return card.Open() }
	target.Operator.PowerCycle = func(context.Context) error {
		card.Remove()
		card.Tap()
		return nil
	}
	return card.Remove
}

// resetOver resets a key over another transport than that of the run, with a touch
// that will do if it has to be a long one.
func resetOver(ctx context.Context, transport string, key *virtual.Authenticator) error {
	key.SetPresence(virtual.TouchFor(5 * time.Second))
	var target conformance.Target
	plug := inPort
	if transport == "nfc" {
		plug = onReader
	}
	defer plug(nil, key, &target)()
	device, err := target.Open(ctx)
	if err != nil {
		return err
	}
	defer device.Close()
	key.SetPresence(virtual.TouchFor(6 * time.Second)) // longTouchForReset may be on
	defer key.SetPresence(virtual.Touch)
	reply, err := device.Exchange(ctx, []byte{0x07}, nil)
	if err == nil && (len(reply) != 1 || reply[0] != 0) {
		err = fmt.Errorf("reset: %x", reply)
	}
	return err
}

// TestShortReports: the reports of a key may be shorter than those of most.
func TestShortReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := virtual.New(virtual.Config{Transports: []string{"usb"}})
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		target := memory(key)
		target.Over = "usb"
		usb := key.PlugIn(virtual.USBConfig{ReportSize: 32})
		defer usb.Unplug()
		target.HID = func(context.Context) (conformance.Reports, error) { return usb.Open() }
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target, Destructive: true, MaxWait: -1, OneVariant: true,
			Only: func(c conformance.Case) bool { return strings.HasPrefix(c.ID, "hid-") },
		})
		if err != nil {
			t.Fatal(err)
		}
		passed := 0
		for _, r := range report.Results {
			switch r.Outcome {
			case conformance.Passed:
				passed++
			case conformance.NotApplicable:
			default:
				t.Errorf("%s: %s %s", r.ID, r.Outcome, r.Message)
			}
		}
		if passed < 100 {
			t.Errorf("%d cases passed", passed)
		}
	})
}

// TestFaultyReports: the faults that package virtual can have on USB are found.
func TestFaultyReports(t *testing.T) {
	for id, faults := range map[string]virtual.USBFaults{
		"hid-busy-after":           {Busy: 3},
		"hid-cancel-wait":          {IgnoreCancel: true},
		"hid-keepalive-status":     {NoKeepalives: true},
		"hid-cancel-silent":        {LateAnswers: true},
		"hid-wink":                 {WinkSilent: true},
		"hid-wink-cbor":            {WinkBreaksCBOR: true},
		"hid-init-capability-wink": {FlipCapabilities: 0x01},
		"hid-init-capability-cbor": {FlipCapabilities: 0x04},
		"hid-init-capability-nmsg": {FlipCapabilities: 0x08},
		"hid-cbor-getinfo":         {UnplugAfter: 4},
	} {
		t.Run(id, func(t *testing.T) {
			finds(t, id, func(key *virtual.Authenticator, target *conformance.Target) (out func()) {
				usb := key.PlugIn(virtual.USBConfig{Faults: faults})
				target.HID = func(context.Context) (conformance.Reports, error) { return usb.Open() }
				return usb.Unplug
			})
		})
	}
}

// TestFaultyCards: the faults that package virtual can have on a reader are found.
func TestFaultyCards(t *testing.T) {
	for id, faults := range map[string]virtual.CardFaults{
		"nfc-select-version": {ClaimU2F: true},
		"nfc-answer-pieces":  {Only00GetResponse: true},
		"nfc-u2f-register":   {Only80GetResponse: true},
		"nfc-answer-le":      {WrongLe: true},
		"nfc-msg-extended":   {RefuseExtended: true},
		"nfc-poll-nothing":   {NoStatusUpdates: true},
		"nfc-poll-cancel":    {IgnoreCancel: true},
		"nfc-select":         {NoApplet: true},
		"nfc-control-end":    {RemoveAfter: 1},
	} {
		t.Run(id, func(t *testing.T) {
			finds(t, id, func(key *virtual.Authenticator, target *conformance.Target) (out func()) {
				card := key.Tap(virtual.CardConfig{Faults: faults})
				target.NFC = func(context.Context) (conformance.Card, error) { return card.Open() }
				return card.Remove
			})
		})
	}
}

// finds expects that a case fails, and shows what has passed.
func finds(t *testing.T, id string, plug func(*virtual.Authenticator, *conformance.Target) (out func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		key, err := virtual.New(virtual.Config{NoU2F: id == "nfc-select-version"})
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		target := memory(key)
		defer plug(key, &target)()
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target, Destructive: true, MaxWait: -1, Only: func(c conformance.Case) bool { return c.ID == id },
		})
		if err != nil {
			t.Fatal(err)
		}
		result := report.Results[0]
		if result.Outcome != conformance.Failed || len(result.Exchanges) == 0 {
			t.Errorf("%s: %s", result.Outcome, result.Message)
		}
		for _, e := range result.Exchanges {
			if _, err := hex.DecodeString(e.Request + e.Reply); err != nil || e.Command+e.Status+e.Error == "" {
				t.Errorf("not to be read: %+v", e)
			}
		}
	})
}
