//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A bench is the key that every client gets: the software authenticator, with
// one credential and a PIN, and what it answers.
type bench struct {
	key        *virtual.Authenticator
	credential []byte
	replies    map[byte][]byte // by command
}

func newBench(ctx context.Context) (*bench, error) {
	key, err := virtual.New(virtual.Config{})
	if err != nil {
		return nil, err
	}
	b := &bench{key: key, replies: make(map[byte][]byte)}
	client, err := ctap2.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	if err := client.SetPIN(ctx, pin.FromString("271828")); err != nil {
		return nil, err
	}
	hash := sha256.Sum256(nil)
	credential, err := client.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: hash[:],
		RP:             ctap2.RelyingParty{ID: "example.com"},
		User:           ctap2.User{ID: []byte{1}, Name: "ada@example.com"},
		Algorithms:     []cose.Algorithm{cose.ES256},
	})
	if err != nil {
		return nil, err
	}
	b.credential = credential.AuthData.CredentialID
	if _, err := client.GetInfo(ctx); err != nil {
		return nil, err
	}
	_, err = client.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID:             "example.com",
		ClientDataHash:   hash[:],
		AllowList:        []ctap2.CredentialDescriptor{{ID: b.credential}},
		UserVerification: ctap2.Discouraged,
	})
	return b, err
}

// Exchange makes a bench the ctap2.Transport that it records its key's replies
// from.
func (b *bench) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := b.key.Exchange(ctx, message, status)
	b.replies[message[0]] = slices.Clone(reply)
	return reply, err
}

func (b *bench) Close() error { return b.key.Close() }

// A peer is the key at the other end of a client's socket, which it serves until
// the client has closed it.
type peer func(socket *os.File) error

// socket returns the client's end of a new socket, and serves the other. wait is
// for when the client has ended.
func (p peer) socket() (client *os.File, wait func() error, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	client, server := os.NewFile(uintptr(pair[0]), "client"), os.NewFile(uintptr(pair[1]), "server")
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- p(server)
	}()
	return client, func() error {
		client.Close()
		err := <-done
		for _, end := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE} {
			if errors.Is(err, end) {
				return nil
			}
		}
		return fmt.Errorf("the key: %w", err)
	}, nil
}

// canned answers each message with the reply that is on record, and
// CTAPHID_PING with what it was sent. It waits before each report, as USB does.
func (b *bench) canned(wait time.Duration) peer {
	return func(socket *os.File) error {
		var (
			report  [ctap.HIDReportSize]byte
			command byte
			length  int
			message []byte
		)
		for {
			if _, err := socket.Read(report[:]); err != nil {
				return err
			}
			channel := binary.BigEndian.Uint32(report[:])
			if report[4]&ctap.HIDInitBit != 0 {
				command, length = report[4], int(binary.BigEndian.Uint16(report[5:]))
				message = append(message[:0], report[7:]...)
			} else {
				message = append(message, report[5:]...)
			}
			if len(message) < length {
				continue
			}
			var reply []byte
			switch command &^ ctap.HIDInitBit {
			case ctap.HIDInit:
				reply = append(message[:ctap.HIDNonceLength:ctap.HIDNonceLength], initReply...)
			case ctap.HIDCBOR:
				reply = b.replies[message[0]]
			case ctap.HIDPing:
				reply = message[:length]
			}
			for _, r := range reports(channel, command, reply) {
				time.Sleep(wait)
				if _, err := socket.Write(r); err != nil {
					return err
				}
			}
		}
	}
}

// initReply is the reply to CTAPHID_INIT behind the nonce: channel 1, versions,
// capabilities.
var initReply = []byte{0, 0, 0, 1, 2, 1, 0, 0, ctap.HIDCapabilityCBOR | ctap.HIDCapabilityNMSG}

// reports frames a message.
func reports(channel uint32, command byte, message []byte) (out [][]byte) {
	for sequence := -1; sequence < 0 || len(message) > 0; sequence++ {
		report := make([]byte, ctap.HIDReportSize)
		binary.BigEndian.PutUint32(report, channel)
		data := report[5:]
		if report[4] = byte(sequence); sequence < 0 {
			report[4] = command
			binary.BigEndian.PutUint16(report[5:], uint16(len(message)))
			data = report[7:]
		}
		message = message[copy(data, message):]
		out = append(out, report)
	}
	return out
}

// save writes the replies to a folder, in reports, for the clients to have them
// in memory.
func (b *bench) save(folder string) error {
	for name, reply := range map[string][][]byte{
		"init":         reports(ctap.HIDBroadcast, ctap.HIDInit|ctap.HIDInitBit, append(make([]byte, ctap.HIDNonceLength), initReply...)),
		"getInfo":      reports(1, ctap.HIDCBOR|ctap.HIDInitBit, b.replies[ctap.CmdGetInfo]),
		"getAssertion": reports(1, ctap.HIDCBOR|ctap.HIDInitBit, b.replies[ctap.CmdGetAssertion]),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), bytes.Join(reply, nil), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// virtual is a peer: the software authenticator in a USB port.
func (b *bench) virtual(socket *os.File) error {
	usb := b.key.PlugIn(virtual.USBConfig{})
	defer usb.Unplug()
	conn, err := usb.Open()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = relay(socket, conn) }) // ends when conn is closed
	defer wg.Wait()
	defer conn.Close()
	return relay(conn, socket)
}

// relay carries reports from one end to the other until either is gone.
func relay(to io.Writer, from io.Reader) error {
	var report [ctap.HIDReportSize]byte
	for {
		if _, err := from.Read(report[:]); err != nil {
			return err
		}
		if _, err := to.Write(report[:]); err != nil {
			return err
		}
	}
}
