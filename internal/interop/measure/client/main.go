//go:build linux

// Client does one thing with a key many times, with this library, and prints
// the processor time of one, in nanoseconds.
//
//	client [reports of ][polling ]OPERATION TIMES CREDENTIAL REPLIES
//
// "reports of" an operation is to send the same reports once more, and to read the
// answer and do nothing with it: what no client can do without. "Polling" is to wait for
// reports in poll, not in Go's runtime.
//
// REPLIES is a folder with the key's answers, which are then all there is to the
// key. If it is empty, the key is at the other end of the socket that the
// program inherits as descriptor 3, one report in each packet.
//
// The programs in ../testdata do the same with libfido2 and python-fido2.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/internal/devfile"
	"github.com/tapstone/fido/pin"
)

const descriptor = 3

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, operation, times, credential, replies string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	id, err := hex.DecodeString(credential)
	if err != nil {
		return err
	}
	operation, bare := strings.CutPrefix(operation, "reports of ")
	operation, poll := strings.CutPrefix(operation, "polling ")
	conn, err := open(replies, poll)
	if err != nil {
		return err
	}
	recorder := &recorder{Conn: conn}
	if bare {
		conn = recorder
	}
	do, err := prepare(ctx, conn, operation, id)
	if err != nil {
		return err
	}
	if bare {
		recorder.sent = nil
		if err := do(); err != nil {
			return err
		}
		do = recorder.replay
		if err := recorder.Conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
	}
	return measure(n, do)
}

// prepare opens the key and returns the operation.
func prepare(ctx context.Context, conn hid.Conn, operation string, credential []byte) (func() error, error) {
	device, err := hid.New(ctx, conn)
	if err != nil {
		return nil, err
	}
	if operation == "PING" {
		data := make([]byte, device.MaxMessageSize())
		return func() error {
			_, err := device.Ping(ctx, data)
			return err
		}, nil
	}
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
	}))
	if err != nil {
		return nil, err
	}
	verification := ctap2.Discouraged
	switch operation {
	case "getInfo":
		return func() error {
			info, err := key.GetInfo(ctx)
			if err == nil && !info.HasVersion("FIDO_2_1") {
				err = errUnexpected
			}
			return err
		}, nil
	case "getAssertion with PIN":
		verification = ctap2.Required
	}
	hash := make([]byte, 32)
	return func() error {
		if verification == ctap2.Required {
			key.Forget() // libfido2 is told the PIN each time, too
		}
		assertions, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
			RPID:             "example.com",
			ClientDataHash:   hash,
			AllowList:        []ctap2.CredentialDescriptor{{ID: credential}},
			UserVerification: verification,
		})
		if err == nil && (len(assertions) != 1 || len(assertions[0].Signature) == 0) {
			err = errUnexpected
		}
		return err
	}, nil
}

var errUnexpected = errors.New("the reply is not the one expected")

func open(replies string, poll bool) (hid.Conn, error) {
	if replies != "" {
		return newMemory(replies)
	}
	if err := syscall.SetNonblock(descriptor, true); err != nil {
		return nil, err
	}
	if poll {
		return new(polling), nil
	}
	return devfile.New(os.NewFile(descriptor, "key")) // as hid.Open does
}

// A recorder remembers which reports were sent.
type recorder struct {
	hid.Conn
	sent [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent = append(r.sent, bytes.Clone(p))
	return r.Conn.Write(p)
}

// replay sends the same and reads one answer, of which it looks at nothing but where
// it ends: there may be more keepalives before it than the last time.
func (r *recorder) replay() error {
	var report [64]byte
	for _, sent := range r.sent {
		copy(report[:], sent)
		if _, err := r.Conn.Write(report[:]); err != nil {
			return err
		}
	}
	for left := 1; left > 0; {
		if _, err := r.Conn.Read(report[:]); err != nil {
			return err
		}
		switch kind := report[4]; {
		case kind == ctap.HIDKeepalive|ctap.HIDInitBit:
			continue
		case kind&ctap.HIDInitBit != 0:
			length := int(binary.BigEndian.Uint16(report[5:]))
			left = 1 + (max(length-57, 0)+58)/59
		}
		left--
	}
	return nil
}

// measure runs an operation n times, after as many as warm the program up, and
// prints what one costs.
func measure(n int, operation func() error) error {
	var before time.Duration
	for i := -(n/10 + 1); i < n; i++ {
		if i == 0 {
			before = processorTime()
		}
		if err := operation(); err != nil {
			return err
		}
	}
	fmt.Println((processorTime() - before).Nanoseconds() / int64(n))
	return nil
}

// processorTime is what this process has taken, of the system's too.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
