//go:build linux

// Getinfo opens a HID key and prints what it says of itself: the smallest
// program that is of any use. The measurement looks at its size and at how long
// it takes from start to exit.
//
//	getinfo PATH
//
// PATH is what hid.List returns, or the number of an open socket that carries
// the key's reports.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/devfile"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "getinfo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	device, err := open(ctx, os.Args[1])
	if err != nil {
		return err
	}
	key, err := ctap2.Open(ctx, device)
	if err != nil {
		return err
	}
	defer key.Close()
	fmt.Printf("%+v\n", *key.Info())
	return nil
}

func open(ctx context.Context, path string) (*hid.Device, error) {
	descriptor, err := strconv.Atoi(path)
	if err != nil {
		return hid.Open(ctx, path)
	}
	// Without it, os.File has no read deadlines.
	if err := syscall.SetNonblock(descriptor, true); err != nil {
		return nil, err
	}
	conn, err := devfile.New(os.NewFile(uintptr(descriptor), "key")) // as hid.Open does
	if err != nil {
		return nil, err
	}
	return hid.New(ctx, conn)
}
