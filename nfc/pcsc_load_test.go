//go:build (darwin && !cgo) || (linux && !android && !(pcsclite && cgo) && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64))

package nfc

import "testing"

// resetCard ends a connection with a reset of the card.
func resetCard(h pcscHandle) error {
	l := h.(*loadedHandle)
	return l.lib.call(scardDisconnect, uintptr(l.handle), 1)
}

func TestLoad(t *testing.T) {
	_, err := load("libno-such-library.so.1")
	mustMatch(t, err, ErrNoService)
	_, err = load("libc.so.6")
	mustMatch(t, err, ErrNoService)
}
