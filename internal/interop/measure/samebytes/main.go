//go:build linux

// Samebytes does what getinfo does to the socket, CTAPHID_INIT and getInfo, and
// nothing with what it reads: the floor under a Go program that asks a key
// anything, from start to exit.
//
//	samebytes SOCKET
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "samebytes:", err)
		os.Exit(1)
	}
}

func run(socket string) error {
	descriptor, err := strconv.Atoi(socket)
	if err != nil {
		return err
	}
	if err := syscall.SetNonblock(descriptor, true); err != nil {
		return err
	}
	key := os.NewFile(uintptr(descriptor), "key")
	reply, err := exchange(key, 0xFFFFFFFF, 0x86, make([]byte, 8))
	if err != nil {
		return err
	}
	if reply, err = exchange(key, binary.BigEndian.Uint32(reply[8:]), 0x90, []byte{4}); err != nil {
		return err
	}
	_, err = fmt.Printf("%x\n", reply)
	return err
}

func exchange(key *os.File, channel uint32, command byte, message []byte) ([]byte, error) {
	var report [64]byte
	binary.BigEndian.PutUint32(report[:], channel)
	report[4] = command
	report[6] = byte(len(message))
	copy(report[7:], message)
	if _, err := key.Write(report[:]); err != nil {
		return nil, err
	}
	if _, err := key.Read(report[:]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(report[5:]))
	reply := append([]byte(nil), report[7:]...)
	for len(reply) < length {
		if _, err := key.Read(report[:]); err != nil {
			return nil, err
		}
		reply = append(reply, report[5:]...)
	}
	return reply[:length], nil
}
