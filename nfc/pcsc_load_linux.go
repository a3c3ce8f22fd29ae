//go:build !android && !(pcsclite && cgo) && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64)

package nfc

const (
	pcscLibrary = "libpcsclite.so.1"
	newsReader  = `\\?PnP?\Notification`
)

// pcsc-lite's own types: all that is a number has the size of a pointer.
type (
	dword  = uintptr
	long   = uintptr
	ioWord = uintptr
)

// An scardReaderState is an SCARD_READERSTATE.
type scardReaderState struct {
	reader  *byte
	user    uintptr
	current dword
	event   dword
	length  dword
	atr     [maxATR]byte
}

func newReaderStates(states []readerState, names []*byte) []scardReaderState {
	all := make([]scardReaderState, len(states))
	for i, s := range states {
		all[i] = scardReaderState{reader: names[i], current: dword(s.known)}
	}
	return all
}

func (s *scardReaderState) get() (flags uint32, atr []byte) {
	return uint32(s.event), append([]byte(nil), s.atr[:min(int(s.length), len(s.atr))]...)
}
