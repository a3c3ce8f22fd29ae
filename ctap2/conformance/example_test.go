package conformance_test

import (
	"context"
	"fmt"
	"log"
	"slices"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
)

// plugged is a software authenticator that stays when a connection to it ends.
type plugged struct{ *virtual.Authenticator }

func (plugged) Close() error { return nil }

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
			Open: func(context.Context) (ctap2.Transport, error) { return plugged{key}, nil },
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
