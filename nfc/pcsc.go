package nfc

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"
)

// A pcscContext is a connection to the smart card service, an SCARDCONTEXT.
// Each platform's backend has a function that establishes one. Errors are a
// pcscCode, unless the service cannot be called at all.
//
// The calls come from one goroutine at a time, but for cancel.
type pcscContext interface {
	readers() ([]string, error)
	// wait waits until a reader's state is not the one that is known of it, and
	// fills the states in. At the end of the time it returns pcscTimeout.
	wait(states []readerState, timeout time.Duration) error
	// cancel ends a wait. If none is on its way it does nothing.
	cancel() error
	connect(reader string) (pcscHandle, error)
	release() error
}

// A pcscHandle is a connection to a card, an SCARDHANDLE, in shared mode.
type pcscHandle interface {
	t0() bool // the protocol is T=0, not T=1
	transmit(command []byte) ([]byte, error)
	reconnect() error
	begin() error
	end() error
	disconnect() error
}

type readerState struct {
	name  string
	known uint32 // flags that the caller knows; 0 if it knows nothing
	flags uint32
	atr   []byte
}

// Flags of a reader's state. The upper 16 bits count insertions and removals.
const (
	stateChanged = 0x0002
	stateUnknown = 0x0004
	statePresent = 0x0020
	stateCounter = 16 // bits to the right of the counter
)

// A pcscCode is what a function of PC/SC returns when it fails.
type pcscCode uint32

const (
	pcscCancelled          pcscCode = 0x80100002
	pcscInvalidHandle      pcscCode = 0x80100003
	pcscInsufficientBuffer pcscCode = 0x80100008
	pcscUnknownReader      pcscCode = 0x80100009
	pcscTimeout            pcscCode = 0x8010000A
	pcscSharingViolation   pcscCode = 0x8010000B
	pcscNoSmartcard        pcscCode = 0x8010000C
	pcscProtoMismatch      pcscCode = 0x8010000F
	pcscCommError          pcscCode = 0x80100013
	pcscNotTransacted      pcscCode = 0x80100016
	pcscReaderUnavailable  pcscCode = 0x80100017
	pcscNoService          pcscCode = 0x8010001D
	pcscServiceStopped     pcscCode = 0x8010001E
	pcscNoAccess           pcscCode = 0x80100027
	pcscNoReadersAvailable pcscCode = 0x8010002E
	pcscUnresponsiveCard   pcscCode = 0x80100066
	pcscUnpoweredCard      pcscCode = 0x80100067
	pcscResetCard          pcscCode = 0x80100068
	pcscRemovedCard        pcscCode = 0x80100069
	pcscSecurityViolation  pcscCode = 0x8010006A
)

// pcscMeanings says what codes are called, and what they mean to a program that
// is about to open a card and to one that has it open; nil if just that it
// failed.
var pcscMeanings = map[pcscCode]struct {
	name          string
	opening, open error
}{
	pcscCancelled:          {"SCARD_E_CANCELLED", nil, nil},
	pcscInvalidHandle:      {"SCARD_E_INVALID_HANDLE", ErrNoService, ErrDeviceGone},
	pcscInsufficientBuffer: {"SCARD_E_INSUFFICIENT_BUFFER", nil, nil},
	pcscUnknownReader:      {"SCARD_E_UNKNOWN_READER", ErrNoReader, ErrDeviceGone},
	pcscTimeout:            {"SCARD_E_TIMEOUT", nil, nil},
	pcscSharingViolation:   {"SCARD_E_SHARING_VIOLATION", ErrInUse, ErrInUse},
	pcscNoSmartcard:        {"SCARD_E_NO_SMARTCARD", ErrNoCard, ErrDeviceGone},
	pcscProtoMismatch:      {"SCARD_E_PROTO_MISMATCH", nil, nil},
	pcscCommError:          {"SCARD_F_COMM_ERROR", nil, nil},
	pcscNotTransacted:      {"SCARD_E_NOT_TRANSACTED", nil, nil},
	pcscReaderUnavailable:  {"SCARD_E_READER_UNAVAILABLE", ErrNoReader, ErrDeviceGone},
	pcscNoService:          {"SCARD_E_NO_SERVICE", ErrNoService, ErrDeviceGone},
	pcscServiceStopped:     {"SCARD_E_SERVICE_STOPPED", ErrNoService, ErrDeviceGone},
	pcscNoAccess:           {"SCARD_E_NO_ACCESS", fs.ErrPermission, fs.ErrPermission},
	pcscNoReadersAvailable: {"SCARD_E_NO_READERS_AVAILABLE", ErrNoReader, ErrDeviceGone},
	pcscUnresponsiveCard:   {"SCARD_W_UNRESPONSIVE_CARD", ErrNoAnswer, nil},
	pcscUnpoweredCard:      {"SCARD_W_UNPOWERED_CARD", ErrNoAnswer, nil},
	pcscResetCard:          {"SCARD_W_RESET_CARD", nil, ErrReset},
	pcscRemovedCard:        {"SCARD_W_REMOVED_CARD", ErrNoCard, ErrDeviceGone},
	pcscSecurityViolation:  {"SCARD_W_SECURITY_VIOLATION", fs.ErrPermission, fs.ErrPermission},
}

func (c pcscCode) Error() string {
	if meaning, ok := pcscMeanings[c]; ok {
		return meaning.name
	}
	return fmt.Sprintf("PC/SC error 0x%08x", uint32(c))
}

// whenOpening says what an error means to a program that opens a card.
func whenOpening(err error) error {
	var code pcscCode
	if errors.As(err, &code) && pcscMeanings[code].opening != nil {
		err = fmt.Errorf("%w: %w", pcscMeanings[code].opening, err)
	}
	if errors.Is(err, ErrNoService) && runtime.GOOS != "windows" && runtime.GOOS != "darwin" { // those have their own
		err = fmt.Errorf("%w: install and start pcscd", err)
	}
	return err
}

// whenListing says what an error means to a program that deals with no card.
func whenListing(err error) error {
	if errors.Is(err, pcscCommError) { // with the service itself
		err = fmt.Errorf("%w: %w", ErrNoService, err)
	}
	return whenOpening(err)
}

// settling is how long it may take the service to find out that a card is gone.
// Without an interrupt from the reader it has to ask it from time to time.
const settling = 600 * time.Millisecond

// A pcscCard is the Card behind Open.
type pcscCard struct {
	context pcscContext
	handle  pcscHandle
	reader  string

	// Used by one call at a time.
	transaction bool
	reset       bool // the card was, and the Device does not know it yet

	mu           sync.Mutex
	busy, closed bool
}

// call makes calls for as long as they take, during which Close may come.
func (c *pcscCard) call(f func() error) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.busy = true
	c.mu.Unlock()

	err := f()

	c.mu.Lock()
	c.busy = false
	closed := c.closed
	c.mu.Unlock()
	if closed {
		_ = c.release() // Close has returned
	}
	return err
}

// Close does not wait for a call to return: PC/SC has no way to interrupt one
// that waits for a card.
func (c *pcscCard) Close() error {
	c.mu.Lock()
	busy := c.busy || c.closed
	c.closed = true
	c.mu.Unlock()
	if busy {
		return nil
	}
	return c.release()
}

func (c *pcscCard) release() error {
	// A handle of a card that is gone need not be closed well.
	_ = c.handle.disconnect()
	return c.context.release()
}

func (c *pcscCard) Begin() error {
	return c.call(func() error {
		err := c.handle.begin()
		if errors.Is(err, pcscResetCard) {
			if err = c.handle.reconnect(); err == nil {
				c.reset = true
				err = c.handle.begin()
			}
		}
		c.transaction = err == nil
		return c.whenOpen(err)
	})
}

func (c *pcscCard) End() error {
	return c.call(func() error {
		c.transaction = false
		return c.handle.end()
	})
}

func (c *pcscCard) Transmit(command []byte) (response []byte, err error) {
	err = c.call(func() error {
		if c.reset {
			c.reset = false
			return ErrReset
		}
		if c.handle.t0() {
			if command, err = tpdu(command); err != nil {
				return err
			}
		}
		response, err = c.handle.transmit(command)
		if err == nil && len(response) < 2 {
			// Some drivers say so when the card goes in the middle.
			err = fmt.Errorf("%w: a response of %d bytes", pcscCommError, len(response))
		}
		if errors.Is(err, pcscResetCard) {
			again := c.handle.reconnect()
			if again == nil && c.transaction {
				again = c.handle.begin()
			}
			if again != nil {
				err = again
			}
		}
		return c.whenOpen(err)
	})
	return response, err
}

// whenOpen says what an error means to the Device.
func (c *pcscCard) whenOpen(err error) error {
	var code pcscCode
	if !errors.As(err, &code) {
		return err
	}
	if meaning := pcscMeanings[code].open; meaning != nil {
		return fmt.Errorf("%w: %w", meaning, err)
	}
	if c.left() {
		return fmt.Errorf("%w: %w", ErrDeviceGone, err)
	}
	return err
}

// left reports whether the card is gone, or just does not answer: the error of
// a call in whose middle it went does not tell.
func (c *pcscCard) left() bool {
	states := []readerState{{name: c.reader}}
	var insertions uint32
	for first := true; ; first = false {
		switch err := c.context.wait(states, settling); { // the first returns at once
		case errors.Is(err, pcscTimeout):
			return false
		case err != nil || states[0].flags&statePresent == 0:
			return true
		case !first:
			// Something else has changed, or the card came back.
			return states[0].flags>>stateCounter != insertions
		}
		insertions = states[0].flags >> stateCounter
		states[0].known = states[0].flags &^ stateChanged
	}
}

// tpdu makes of an APDU what T=0 can carry (ISO/IEC 7816-3 §12.2): there is one
// length only. The response to a command with data is announced with 61xx.
func tpdu(apdu []byte) ([]byte, error) {
	switch {
	case len(apdu) == 4:
		return append(apdu, 0), nil
	case len(apdu) > 5 && apdu[4] == 0:
		return nil, fmt.Errorf("%w with T=0", ErrExtendedLength)
	case len(apdu) == 6+int(apdu[4]):
		return apdu[:len(apdu)-1], nil
	}
	return apdu, nil
}
