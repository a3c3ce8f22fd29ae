package keys_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
)

// Find a key by the name that a person gave.
func Example() {
	ctx := context.Background()
	key, err := keys.Find(ctx, "no such key")
	if errors.Is(err, keys.ErrNoKey) {
		fmt.Println("plug it in")
		return
	}
	authenticator, err := keys.Open(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer authenticator.Close()
	fmt.Println(authenticator.Info().Versions)
	// Output: plug it in
}

// Have all keys open that are attached.
func ExampleWatch() {
	ctx := context.Background()
	open := make(map[string]*ctap2.Authenticator)
	defer func() {
		for _, authenticator := range open {
			authenticator.Close()
		}
	}()
	for event, err := range keys.Watch(ctx) {
		if err != nil {
			log.Println(err)
			return
		}
		name := event.Key.Name()
		if authenticator := open[name]; authenticator != nil { // it goes
			authenticator.Close()
			delete(open, name)
		}
		if !event.Arrived {
			continue
		}
		authenticator, err := keys.Open(ctx, event.Key)
		if err != nil {
			log.Println(name, err) // perhaps a card that is not a FIDO card
			continue
		}
		open[name] = authenticator
	}
}

// Say of each key that it waits for a touch, and when it no longer does. Software
// keys stand in for those that [keys.List] finds and [keys.Open] opens.
func ExampleSelect() {
	ctx := context.Background()
	var waiting sync.WaitGroup // nobody touches a key before both blink
	var open []*ctap2.Authenticator
	for name, person := range map[string]virtual.Person{
		"the red key": virtual.Ignore,
		"the blue key": func(context.Context, virtual.Prompt) virtual.Answer {
			waiting.Wait()
			return virtual.Approve
		},
	} {
		device, err := virtual.New(virtual.Config{Presence: person})
		if err != nil {
			log.Fatal(err)
		}
		waiting.Add(1)
		key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
			Touch: func(ctap2.TouchRequest) {
				fmt.Println("touch", name)
				waiting.Done()
			},
			TouchDone: func() { fmt.Println(name, "waits no longer") },
		}))
		if err != nil {
			log.Fatal(err)
		}
		defer key.Close()
		open = append(open, key)
	}
	if _, err := keys.Select(ctx, open); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// touch the red key
	// touch the blue key
	// the blue key waits no longer
	// the red key waits no longer
}
