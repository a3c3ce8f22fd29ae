package nfc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/tapstone/fido/nfc"
)

// Ask the first FIDO card of this machine what it is.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dev, err := nfc.OpenFirst(ctx)
	switch {
	case errors.Is(err, nfc.ErrNoService), errors.Is(err, nfc.ErrNoReader):
		fmt.Println("attach a reader") // and install pcscd, on Linux
		return
	case errors.Is(err, nfc.ErrNoCard), errors.Is(err, nfc.ErrNotFIDO):
		fmt.Println("lay your key on the reader")
		return
	case err != nil:
		log.Fatal(err)
	}
	defer dev.Close()
	fmt.Println(dev.Reader(), dev.Version())

	answer, err := dev.Exchange(ctx, []byte{0x04}, nil) // getInfo
	fmt.Printf("% x, %v\n", answer, err)
}

// Wait until a FIDO card is laid on any reader.
func ExampleWatch() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for event, err := range nfc.Watch(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if !event.Inserted {
			continue
		}
		dev, err := nfc.Open(ctx, event.Name)
		if errors.Is(err, nfc.ErrNotFIDO) {
			continue
		}
		if err != nil {
			log.Print(err) // gone again, perhaps
			continue
		}
		defer dev.Close()
		fmt.Println(event.Name, dev.Version())
		return
	}
}

// Speak to a card that is in no reader of this machine: here, one in memory.
func ExampleNew() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dev, err := nfc.New(ctx, simulated{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	fmt.Println(dev.Version())

	answer, err := dev.Exchange(ctx, []byte{0x04}, nil) // getInfo
	fmt.Printf("% x, %v\n", answer, err)
	// Output:
	// FIDO_2_0
	// 00 a1 01 81 68 46 49 44 4f 5f 32 5f 30, <nil>
}

// simulated is a card that answers every message with a getInfo of one version.
type simulated struct{}

func (simulated) Transmit(command []byte) ([]byte, error) {
	switch command[1] {
	case 0xA4: // SELECT
		return []byte("FIDO_2_0\x90\x00"), nil
	case 0x10: // NFCCTAP_MSG
		return []byte("\x00\xa1\x01\x81\x68FIDO_2_0\x90\x00"), nil
	}
	return []byte{0x6D, 0x00}, nil
}

func (simulated) Close() error { return nil }
