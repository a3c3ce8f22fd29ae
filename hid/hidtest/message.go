package hidtest

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tapstone/fido/internal/ctap"
)

// Commands of CTAPHID (§11.2.9).
const (
	CommandPing      = ctap.HIDPing
	CommandMsg       = ctap.HIDMsg
	CommandLock      = ctap.HIDLock
	CommandInit      = ctap.HIDInit
	CommandWink      = ctap.HIDWink
	CommandCBOR      = ctap.HIDCBOR
	CommandCancel    = ctap.HIDCancel
	CommandKeepalive = ctap.HIDKeepalive
	CommandError     = ctap.HIDError
)

// A Message is a CTAPHID message, in either direction.
type Message struct {
	Channel uint32
	Command byte // 0x01 to 0x7F
	Data    []byte
}

// String returns the command's name, the channel in hexadecimal, and the data
// if it is at most 8 bytes and no nonce, otherwise its length in brackets.
func (m Message) String() string {
	name, ok := map[byte]string{
		CommandPing:      "CTAPHID_PING",
		CommandMsg:       "CTAPHID_MSG",
		CommandLock:      "CTAPHID_LOCK",
		CommandInit:      "CTAPHID_INIT",
		CommandWink:      "CTAPHID_WINK",
		CommandCBOR:      "CTAPHID_CBOR",
		CommandCancel:    "CTAPHID_CANCEL",
		CommandKeepalive: "CTAPHID_KEEPALIVE",
		CommandError:     "CTAPHID_ERROR",
	}[m.Command]
	if !ok {
		name = fmt.Sprintf("CTAPHID command 0x%02x", m.Command)
	}
	switch {
	case len(m.Data) == 0:
		return fmt.Sprintf("%s %x", name, m.Channel)
	case m.Command == CommandInit || len(m.Data) > 8:
		return fmt.Sprintf("%s %x (%d)", name, m.Channel, len(m.Data))
	}
	return fmt.Sprintf("%s %x %x", name, m.Channel, m.Data)
}

// Headers of a report that starts a message and of one that continues it
// (§11.2.4).
const (
	startHeader = 7 // CID(4) CMD(1) BCNT(2)
	nextHeader  = 5 // CID(4) SEQ(1)
)

// longest returns the length of the longest message in reports of the given
// size.
func longest(size int) int {
	return min(size-startHeader+(ctap.HIDMaxSequence+1)*(size-nextHeader), math.MaxUint16)
}

// reports frames the message.
func (m Message) reports(size int) ([][]byte, error) {
	if len(m.Data) > longest(size) {
		return nil, fmt.Errorf("hidtest: %v does not fit into reports of %d bytes", m, size)
	}
	report := make([]byte, size)
	binary.BigEndian.PutUint32(report, m.Channel)
	report[4] = m.Command | ctap.HIDInitBit
	binary.BigEndian.PutUint16(report[5:], uint16(len(m.Data)))
	rest := m.Data[copy(report[startHeader:], m.Data):]
	all := [][]byte{report}
	for sequence := byte(0); len(rest) > 0; sequence++ {
		report = make([]byte, size)
		binary.BigEndian.PutUint32(report, m.Channel)
		report[4] = sequence
		rest = rest[copy(report[nextHeader:], rest):]
		all = append(all, report)
	}
	return all, nil
}
