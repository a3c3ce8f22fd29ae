package hid_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/tapstone/fido/hid"
)

// Wait for a key to be plugged in, for half a minute at most.
func ExampleWatch() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for event, err := range hid.Watch(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if event.Kind != hid.Arrival {
			continue
		}
		dev, err := hid.Open(ctx, event.Info.Path)
		if err != nil {
			log.Print(err) // perhaps the next one
			continue
		}
		fmt.Println("opened", event.Info.Product)
		dev.Close()
		break
	}
}
