package hidtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/hid/hidtest"
)

// A key whose first answer loses a report, and whose second one is the last
// thing that it says.
func Example() {
	ctx := context.Background()
	key := hidtest.New(nil)
	dev, err := hid.New(ctx, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dev.Close()

	long := hidtest.Success(make([]byte, 150)) // three reports
	key.Handle(hidtest.Answers{hidtest.CommandCBOR: hidtest.Keepalive(2).Then(long).Lose(2)}.Handle)
	_, err = dev.Exchange(ctx, []byte{0x04}, func(status byte) { fmt.Println("keepalive", status) })
	fmt.Println(errors.Is(err, hid.ErrFraming), err)

	key.Handle(hidtest.Answers{hidtest.CommandCBOR: long.Insert(1, hidtest.Unplug())}.Handle)
	_, err = dev.Exchange(ctx, []byte{0x04}, nil)
	fmt.Println(errors.Is(err, hid.ErrDeviceGone), err)

	for _, m := range key.Received() {
		fmt.Println(m)
	}
	// Output:
	// keepalive 2
	// true hid: CTAPHID_CBOR: malformed CTAPHID message: packet 1 where 0 is due
	// true hid: CTAPHID_CBOR: device gone: hidtest: unplugged
	// CTAPHID_INIT ffffffff (8)
	// CTAPHID_CBOR 11 04
	// CTAPHID_INIT 11 (8)
	// CTAPHID_INIT ffffffff (8)
	// CTAPHID_CBOR 12 04
}

// A program must show its user why a key refuses a reset.
func ExampleScript() {
	var t *testing.T // the test's own

	info := []byte("\xa2\x01\x81\x68FIDO_2_0\x03\x50\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	key := hidtest.New(hidtest.Script(t,
		hidtest.Step{Command: 0x04, Answer: hidtest.Success(info)},
		hidtest.Step{Command: 0x07, Answer: hidtest.Keepalive(2).Then(hidtest.Status(0x30))}, // NOT_ALLOWED
	))
	dev, err := hid.New(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	authenticator, err := ctap2.Open(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	defer authenticator.Close()
	if err := authenticator.Reset(t.Context()); !errors.Is(err, ctap2.ErrNotAllowed) {
		t.Error(err)
	}
}
