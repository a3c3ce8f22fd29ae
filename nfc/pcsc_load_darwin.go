//go:build !cgo

package nfc

import (
	"encoding/binary"
	"unsafe"
)

const (
	pcscLibrary = "/System/Library/Frameworks/PCSC.framework/PCSC"
	newsReader  = "" // a reader that comes is found by asking for the list
)

// macOS has numbers of 32 bits, and no padding.
type (
	dword  = uint32
	long   = int32
	ioWord = uint32
)

// An scardReaderState is an SCARD_READERSTATE: two pointers, three numbers and
// an ATR.
type scardReaderState [16 + 12 + maxATR]byte

func newReaderStates(states []readerState, names []*byte) []scardReaderState {
	all := make([]scardReaderState, len(states))
	for i, s := range states {
		binary.LittleEndian.PutUint64(all[i][0:], uint64(uintptr(unsafe.Pointer(names[i]))))
		binary.LittleEndian.PutUint32(all[i][16:], s.known)
	}
	return all
}

func (s *scardReaderState) get() (flags uint32, atr []byte) {
	length := min(int(binary.LittleEndian.Uint32(s[24:])), maxATR)
	return binary.LittleEndian.Uint32(s[20:]), append([]byte(nil), s[28:28+length]...)
}
