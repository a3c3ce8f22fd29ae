//go:build linux

package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"time"
)

// A memory is a hid.Conn that answers with reports from files, so that nothing
// is measured but the library.
type memory struct {
	init         []byte // one report; it lacks the nonce
	info, assert []byte // the reports of an answer

	command byte // of the request
	left    int  // bytes of it that are still to come
	next    []byte
}

func newMemory(folder string) (*memory, error) {
	m := new(memory)
	for name, reply := range map[string]*[]byte{"init": &m.init, "getInfo": &m.info, "getAssertion": &m.assert} {
		var err error
		if *reply, err = os.ReadFile(filepath.Join(folder, name)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *memory) Write(report []byte) (int, error) {
	switch {
	case report[4] == 0x86:
		copy(m.init[7:], report[7:15])
		m.next = m.init
		return len(report), nil
	case report[4]&0x80 != 0:
		m.command, m.left = report[7], int(binary.BigEndian.Uint16(report[5:]))-57
	default:
		m.left -= 59
	}
	switch {
	case m.left > 0:
	case m.command == 4:
		m.next = m.info
	default:
		m.next = m.assert
	}
	return len(report), nil
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.next) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, m.next[:64])
	m.next = m.next[64:]
	return n, nil
}

func (m *memory) SetReadDeadline(time.Time) error { return nil }
func (m *memory) Close() error                    { return nil }
