package nfc

import (
	"syscall"
	"time"
	"unsafe"

	"github.com/ebfe/scard"
)

const newsReader = `\\?PnP?\Notification`

// Package scard leaves the names that it gives to SCardGetStatusChange to the
// garbage collector on Windows, while the system may still read them. So this
// file calls it itself, in a context of its own.
var (
	winscard            = syscall.NewLazyDLL("winscard.dll")
	winEstablishContext = winscard.NewProc("SCardEstablishContext")
	winReleaseContext   = winscard.NewProc("SCardReleaseContext")
	winCancel           = winscard.NewProc("SCardCancel")
	winGetStatusChange  = winscard.NewProc("SCardGetStatusChangeW")
)

type waiter struct{ handle uintptr }

// called makes an error of what a function of PC/SC returns.
func called(result, _ uintptr, _ error) error {
	if code := pcscCode(result); code != 0 {
		return code
	}
	return nil
}

func (w *waiter) establish(*scard.Context) error {
	return called(winEstablishContext.Call(uintptr(scard.ScopeSystem), 0, 0, uintptr(unsafe.Pointer(&w.handle))))
}

func (w *waiter) release() { _ = called(winReleaseContext.Call(w.handle)) }

func (w *waiter) cancel() error { return called(winCancel.Call(w.handle)) }

// A winReaderState is an SCARD_READERSTATEW.
type winReaderState struct {
	reader  *uint16
	user    uintptr
	current uint32
	event   uint32
	length  uint32
	atr     [36]byte
}

func (w *waiter) wait(states []readerState, timeout time.Duration) error {
	all := make([]winReaderState, len(states))
	for i, s := range states {
		name, err := syscall.UTF16PtrFromString(s.name)
		if err != nil {
			return pcscUnknownReader
		}
		all[i] = winReaderState{reader: name, current: s.known}
	}
	err := called(winGetStatusChange.Call(w.handle, uintptr(timeout.Milliseconds()), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all))))
	if err != nil {
		return err
	}
	for i := range all {
		s := &all[i]
		states[i].flags, states[i].atr = s.event, append([]byte(nil), s.atr[:min(int(s.length), len(s.atr))]...)
	}
	return nil
}
