package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/tapstone/fido/ctap2/virtual"
)

// reportSize is the length in bytes of every report.
const reportSize = 64

// reportDescriptor is that of a security key (CTAP 2.3 §11.2.8.2): usage page
// FIDO, usage CTAPHID, and one report of 64 bytes each way.
var reportDescriptor = []byte{
	0x06, 0xD0, 0xF1, // usage page
	0x09, 0x01, // usage
	0xA1, 0x01, // collection: application
	0x09, 0x20, // usage: data in
	0x15, 0x00, // logical minimum 0
	0x26, 0xFF, 0x00, // logical maximum 255
	0x75, 0x08, // report size, in bits
	0x95, reportSize, // report count
	0x81, 0x02, // input: data, variable, absolute
	0x09, 0x21, // usage: data out
	0x15, 0x00,
	0x26, 0xFF, 0x00,
	0x75, 0x08,
	0x95, reportSize,
	0x91, 0x02, // output: data, variable, absolute
	0xC0, // end of collection
}

// What the key is called, and numbers for private use out of pid.codes.
const (
	deviceName     = "Software security key"
	deviceVendor   = 0x1209
	deviceProduct  = 0x0001
	deviceVersion  = 0x0100
	deviceMaker    = "tapstone/fido"
	deviceSerial   = "virtualkey"
	configuredName = "FIDO"
)

// carry plugs the key into a bus and carries reports between the two until ctx
// ends, which is no error, or the bus fails. Each Read and Write of the bus is
// one report without report ID, the output reports and the input reports of
// the key; a shorter output report is filled up with zeros. Close wakes both.
func carry(ctx context.Context, key *virtual.Authenticator, bus io.ReadWriteCloser) error {
	usb := key.PlugIn(virtual.USBConfig{})
	port, err := usb.Open()
	if err != nil {
		return errors.Join(err, bus.Close())
	}
	carried, fail := context.WithCancelCause(ctx)
	var both sync.WaitGroup
	// The port takes a report at once, whatever the key is at: this goroutine
	// never keeps the bus waiting.
	both.Go(func() {
		for {
			report := make([]byte, reportSize)
			if _, err := bus.Read(report); err != nil {
				fail(err)
				return
			}
			if _, err := port.Write(report); err != nil {
				fail(err)
				return
			}
		}
	})
	both.Go(func() {
		report := make([]byte, reportSize)
		for {
			if _, err := port.Read(report); err != nil {
				fail(err)
				return
			}
			if _, err := bus.Write(report); err != nil {
				fail(err)
				return
			}
		}
	})
	<-carried.Done()
	err = bus.Close()
	usb.Unplug()
	both.Wait()
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(context.Cause(carried), err)
}
