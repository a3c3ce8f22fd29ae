//go:build (darwin && !cgo) || (linux && !android && !(pcsclite && cgo) && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64))

package nfc

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// This file calls PC/SC in a library that is loaded when it is first needed, so
// that nothing but Go is needed to build, and a program starts on a machine
// without the library. What differs between the systems is in pcscLibrary,
// dword, long and readerStates.

// The functions of PC/SC, in the order of pcscNames.
const (
	scardEstablishContext = iota
	scardReleaseContext
	scardCancel
	scardListReaders
	scardGetStatusChange
	scardConnect
	scardReconnect
	scardDisconnect
	scardBeginTransaction
	scardEndTransaction
	scardTransmit
	scardFunctions
)

var pcscNames = [scardFunctions]string{
	"SCardEstablishContext", "SCardReleaseContext", "SCardCancel", "SCardListReaders", "SCardGetStatusChange",
	"SCardConnect", "SCardReconnect", "SCardDisconnect", "SCardBeginTransaction", "SCardEndTransaction", "SCardTransmit",
}

const (
	scopeSystem = 2
	shareShared = 2
	protocolT0  = 1
	protocolT1  = 2
	leaveCard   = 0
	maxATR      = 33
)

// A library is the addresses of the functions.
type library [scardFunctions]uintptr

var loadPCSC = sync.OnceValues(func() (*library, error) { return load(pcscLibrary) })

func load(name string) (*library, error) {
	handle, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: the library of PC/SC cannot be loaded, is it installed? %w", ErrNoService, err)
	}
	var l library
	for i, function := range pcscNames {
		if l[i], err = purego.Dlsym(handle, function); err != nil {
			return nil, fmt.Errorf("%w: %s is not the library of PC/SC: %w", ErrNoService, name, err)
		}
	}
	return &l, nil
}

// call calls a function with pointers and numbers as PC/SC has them.
//
//go:uintptrescapes
func (l *library) call(function int, args ...uintptr) error {
	result, _, _ := purego.SyscallN(l[function], args...)
	if code := pcscCode(result); code != 0 { // a long's upper half is of no use
		return code
	}
	return nil
}

type loadedContext struct {
	lib    *library
	handle long
}

func establishContext() (pcscContext, error) {
	lib, err := loadPCSC()
	if err != nil {
		return nil, err
	}
	c := &loadedContext{lib: lib}
	if err := lib.call(scardEstablishContext, scopeSystem, 0, 0, uintptr(unsafe.Pointer(&c.handle))); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *loadedContext) release() error {
	return c.lib.call(scardReleaseContext, uintptr(c.handle))
}

func (c *loadedContext) cancel() error {
	return c.lib.call(scardCancel, uintptr(c.handle))
}

func (c *loadedContext) readers() ([]string, error) {
	for {
		var length dword
		err := c.lib.call(scardListReaders, uintptr(c.handle), 0, 0, uintptr(unsafe.Pointer(&length)))
		if err == pcscNoReadersAvailable || err == nil && length == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		list := make([]byte, length)
		err = c.lib.call(scardListReaders, uintptr(c.handle), 0, uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&length)))
		if err == pcscInsufficientBuffer {
			continue // a reader came just now
		}
		if err == pcscNoReadersAvailable {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var names []string
		for name := range bytes.SplitSeq(list[:min(int(length), len(list))], []byte{0}) {
			if len(name) > 0 {
				names = append(names, string(name))
			}
		}
		return names, nil
	}
}

func (c *loadedContext) wait(states []readerState, timeout time.Duration) error {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	names := make([]*byte, len(states))
	for i, s := range states {
		names[i] = cString(s.name)
		pinner.Pin(names[i])
	}
	memory := newReaderStates(states, names)
	err := c.lib.call(scardGetStatusChange, uintptr(c.handle), uintptr(timeout.Milliseconds()), uintptr(unsafe.Pointer(&memory[0])), uintptr(len(states)))
	if err != nil {
		return err
	}
	for i := range states {
		states[i].flags, states[i].atr = memory[i].get()
	}
	return nil
}

// cString returns the first byte of s and a zero behind it.
func cString(s string) *byte { return &append([]byte(s), 0)[0] }

func (c *loadedContext) connect(reader string) (pcscHandle, error) {
	h := &loadedHandle{lib: c.lib}
	err := c.lib.call(scardConnect, uintptr(c.handle), uintptr(unsafe.Pointer(cString(reader))), shareShared,
		protocolT0|protocolT1, uintptr(unsafe.Pointer(&h.handle)), uintptr(unsafe.Pointer(&h.protocol)))
	if err != nil {
		return nil, err
	}
	return h, nil
}

type loadedHandle struct {
	lib      *library
	handle   long
	protocol dword
	response [maxAnswer + 2]byte // to the command that is sent
}

func (h *loadedHandle) t0() bool { return h.protocol == protocolT0 }

// An ioRequest is an SCARD_IO_REQUEST: the protocol, and its own length.
type ioRequest struct{ protocol, length ioWord }

func (h *loadedHandle) transmit(command []byte) ([]byte, error) {
	send := ioRequest{ioWord(h.protocol), ioWord(unsafe.Sizeof(ioRequest{}))}
	defer clear(h.response[:])
	length := dword(len(h.response))
	err := h.lib.call(scardTransmit, uintptr(h.handle), uintptr(unsafe.Pointer(&send)),
		uintptr(unsafe.Pointer(&command[0])), uintptr(len(command)), 0,
		uintptr(unsafe.Pointer(&h.response)), uintptr(unsafe.Pointer(&length)))
	if err != nil {
		return nil, err
	}
	return bytes.Clone(h.response[:min(int(length), len(h.response))]), nil
}

func (h *loadedHandle) reconnect() error {
	return h.lib.call(scardReconnect, uintptr(h.handle), shareShared, protocolT0|protocolT1, leaveCard, uintptr(unsafe.Pointer(&h.protocol)))
}

func (h *loadedHandle) begin() error { return h.lib.call(scardBeginTransaction, uintptr(h.handle)) }

func (h *loadedHandle) end() error {
	return h.lib.call(scardEndTransaction, uintptr(h.handle), leaveCard)
}

func (h *loadedHandle) disconnect() error {
	return h.lib.call(scardDisconnect, uintptr(h.handle), leaveCard)
}
