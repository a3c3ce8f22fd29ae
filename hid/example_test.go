package hid_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/tapstone/fido/hid"
)

// Blink every authenticator that is attached to this machine.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	infos, err := hid.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range infos {
		fmt.Println(info.Path, info.Manufacturer, info.Product)
		dev, err := hid.Open(ctx, info.Path)
		if err != nil {
			log.Print(err) // in use, perhaps, or not ours to use
			continue
		}
		if err := dev.Wink(ctx); err != nil {
			log.Print(err)
		}
		dev.Close()
	}
}

// Speak to a device that is not a HID device of this machine: here, one at the
// other end of a pipe.
func ExampleNew() {
	conn, device := net.Pipe()
	go simulate(device)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dev, err := hid.New(ctx, conn)
	if err != nil {
		conn.Close()
		log.Fatal(err)
	}
	defer dev.Close()
	fmt.Printf("channel %08x\n", dev.Channel())

	answer, err := dev.Exchange(ctx, []byte{0x04}, nil) // getInfo
	fmt.Printf("% x, %v\n", answer, err)
	// Output:
	// channel 00000001
	// 00 a1 01 81 68 46 49 44 4f 5f 32 5f 30, <nil>
}

// simulate is a device with one channel that answers everything with a getInfo
// of one version.
func simulate(conn net.Conn) {
	report := make([]byte, 64)
	for {
		if _, err := conn.Read(report); err != nil {
			return
		}
		answer := append([]byte{0, 0, 0, 1, 0x90, 0, 13}, "\x00\xa1\x01\x81\x68FIDO_2_0"...)
		if nonce := report[7:15]; report[4] == 0x86 { // CTAPHID_INIT
			answer = bytes.Join([][]byte{{0xFF, 0xFF, 0xFF, 0xFF, 0x86, 0, 17}, nonce, {0, 0, 0, 1, 2, 1, 0, 0, 4}}, nil)
		}
		if _, err := conn.Write(append(answer, make([]byte, 64-len(answer))...)); err != nil {
			return
		}
	}
}
