package conformance_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
)

// A run that erases the authenticator needs somebody who takes its power; whoever
// touches it is told by Operator.Gesture where that is not all there is to do.
func ExampleCheck() {
	key, err := virtual.New(virtual.ProfileCTAP23.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	chosen := []string{"enc-unknown-command", "mc-param-wrong", "mc-touch-denied", "hid-ping-one"}
	report, err := conformance.Check(context.Background(), conformance.Config{
		Target: conformance.Target{
			Open: func(context.Context) (ctap2.Transport, error) { return key.Open(), nil },
			Operator: conformance.Operator{
				PowerCycle: func(context.Context) error {
					key.PowerCycle()
					return nil
				},
			},
		},
		Destructive: true,
		Only:        func(c conformance.Case) bool { return slices.Contains(chosen, c.ID) },
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range report.Results {
		fmt.Printf("%s, %s: %s\n", r.ID, r.Section, r.Outcome)
		if r.Message != "" {
			fmt.Println("  " + r.Message)
		}
	}
	// Output:
	// enc-unknown-command, §8.1: passed
	// mc-param-wrong, §6.1.2 step 11.1: passed
	// mc-touch-denied, §6.1.2 step 14: skipped
	//   conformance: the operator cannot do that: decline
	// hid-ping-one, §11.2.9.1.4: not applicable
	//   the authenticator is not on HID, or its transport does not show that
}

// A run over CTAPHID, which is checked as well, with a program in place of the
// person.
func ExampleOperator() {
	key, err := virtual.New(virtual.ProfileCTAP23.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	usb := key.PlugIn(virtual.USBConfig{})
	defer usb.Unplug()
	comeBack := func() {}
	defer func() { comeBack() }()
	chosen := []string{"mc-touch-denied", "uvt-wrong", "bio-begin-poor", "hid-ping-one", "hid-msg-register"}
	report, err := conformance.Check(context.Background(), conformance.Config{
		Target: conformance.Target{
			Over: "usb",
			Open: func(ctx context.Context) (ctap2.Transport, error) {
				conn, err := usb.Open()
				if err != nil {
					return nil, err
				}
				return hid.New(ctx, conn)
			},
			HID: func(context.Context) (conformance.Reports, error) { return usb.Open() },
			Operator: conformance.Operator{
				Gesture: func(_ context.Context, g conformance.Gesture) error {
					comeBack()
					var away context.Context
					away, comeBack = context.WithCancel(context.Background())
					touch, verify, sample := virtual.Person(virtual.Touch), virtual.Person(virtual.Touch), virtual.Samples()
					switch g {
					case conformance.NoTouch:
						touch = func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
							select {
							case <-ctx.Done():
							case <-away.Done(): // a U2F key blinks on after its answer
							}
							return virtual.Nothing
						}
						verify, sample = touch, noSample
					case conformance.LongTouch:
						touch = virtual.TouchFor(5 * time.Second)
					case conformance.Decline:
						touch, verify = virtual.Refuse, virtual.Refuse
					case conformance.WrongFinger:
						verify = virtual.Refuse
					case conformance.PoorSample:
						sample = func(context.Context, virtual.Prompt) virtual.SampleStatus { return virtual.SamplePoorQuality }
					}
					key.SetPresence(touch)
					key.SetVerification(verify)
					key.SetFinger(sample)
					return nil
				},
				PowerCycle: func(context.Context) error {
					usb.Unplug()
					usb.PlugIn()
					return nil
				},
			},
		},
		Destructive: true,
		Only:        func(c conformance.Case) bool { return slices.Contains(chosen, c.ID) },
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range report.Results {
		fmt.Printf("%s: %s\n", r.ID, r.Outcome)
	}
	// Output:
	// mc-touch-denied: passed
	// uvt-wrong: passed
	// bio-begin-poor: passed
	// hid-ping-one: passed
	// hid-msg-register: passed
}

// noSample is nobody at the sensor, until time is up.
func noSample(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
	<-ctx.Done()
	return virtual.SampleNoUserActivity
}
