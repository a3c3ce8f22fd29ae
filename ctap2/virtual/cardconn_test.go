package virtual

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/nfc"
)

var _ nfc.Card = (*CardConn)(nil)

// A program is connected to a card.
type program struct {
	*testing.T
	*CardConn
}

func openCard(t *testing.T, card *Card) program {
	t.Helper()
	conn, err := card.Open()
	if err != nil {
		t.Fatal(err)
	}
	return program{t, conn}
}

// send has the stub carry out a command.
func (p program) send(command byte) ([]byte, error) {
	return p.Transmit([]byte{cardCLACTAP, cardMsg, 0, 0, 1, command, 0})
}

// fails expects that a command is lost, and why.
func (p program) fails(command byte, want error) {
	p.Helper()
	if response, err := p.send(command); !errors.Is(err, want) {
		p.Errorf("command %d: %x, %v, want %v", command, response, err, want)
	}
}

// works expects that the card carries a command out, or that its applet is not
// selected.
func (p program) works(selected bool) {
	p.Helper()
	want := statusWord(swConditions)
	if selected {
		want = statusWord(swOK, ctap.StatusOK, stubEcho)
	}
	if response, err := p.send(stubEcho); err != nil || !bytes.Equal(response, want) {
		p.Errorf("response %x, %v, want %x", response, err, want)
	}
}

// Closing a connection leaves the card on the reader, with its applet selected,
// and who else is connected to it.
func TestCardConnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &cardStub{}
		card := newCard(core, CardConfig{Faults: CardFaults{RemoveAfter: 3}})
		defer card.Remove()
		reader{t, card}.run(t, selectFIDO2)
		first, second := openCard(t, card), openCard(t, card)
		first.works(true)
		for range 2 {
			if err := first.Close(); err != nil {
				t.Error(err)
			}
		}
		second.works(true)
		core.log = nil
		for range 16 {
			first.fails(stubTouch, nfc.ErrClosed) // and does not reach the card
		}
		core.expect(t)
		openCard(t, card).fails(stubEcho, nfc.ErrDeviceGone)
		second.fails(stubEcho, nfc.ErrDeviceGone)
		first.fails(stubEcho, nfc.ErrClosed)
	})
}

// A Transmit that waits ends with its connection, be it for its turn that it waits.
// The card goes on with what it has begun until the next command comes.
func TestCardConnClosedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core := &cardStub{}
		card := newCard(core, CardConfig{})
		defer card.Remove()
		reader{t, card}.run(t, selectFIDO2)
		conn, behind, other := openCard(t, card), openCard(t, card), openCard(t, card)
		core.log = nil
		start := time.Now()
		var begun, queued sync.WaitGroup
		begun.Go(func() { conn.fails(stubTouch, nfc.ErrClosed) })
		synctest.Wait()
		queued.Go(func() { behind.fails(stubTouch, nfc.ErrClosed) })
		synctest.Wait()
		behind.Close()
		queued.Wait()
		conn.Close()
		begun.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("ended after %v", d)
		}
		synctest.Wait()
		core.expect(t, "begin 5")
		other.works(true)
		synctest.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("the card was busy for %v", d)
		}
	})
}

// A connection does not outlive the card's stay on the reader.
func TestCardConnRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		card := newCard(&cardStub{}, CardConfig{})
		reader{t, card}.run(t, selectFIDO2)
		conn := openCard(t, card)
		go func() {
			time.Sleep(time.Second)
			card.Remove()
		}()
		conn.fails(stubTouch, nfc.ErrDeviceGone)
		synctest.Wait()
		if _, err := card.Open(); !errors.Is(err, nfc.ErrDeviceGone) {
			t.Errorf("Open without a card: %v", err)
		}
		conn.fails(stubEcho, nfc.ErrDeviceGone)
		card.Tap()
		defer card.Remove()
		conn.fails(stubEcho, nfc.ErrDeviceGone)

		card.SetFaults(CardFaults{RemoveAfter: 1})
		again := openCard(t, card)
		again.works(false)
		conn.fails(stubEcho, nfc.ErrDeviceGone) // and is no command to the card
		openCard(t, card)
		again.fails(stubEcho, nfc.ErrDeviceGone)
		card.Tap()
		again.fails(stubEcho, nfc.ErrDeviceGone)
		card.Remove()
		card.Tap()
		openCard(t, card).works(false)
	})
}

// Every connection hears once of a reset, the one that waits at once.
func TestCardConnReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		card := newCard(&cardStub{}, CardConfig{})
		defer card.Remove()
		reader{t, card}.run(t, selectFIDO2)
		waiting, idle := openCard(t, card), openCard(t, card)
		go func() {
			time.Sleep(time.Second)
			card.Reset()
		}()
		waiting.fails(stubTouch, nfc.ErrReset)
		waiting.works(false)
		idle.fails(stubEcho, nfc.ErrReset)
		idle.works(false)
		openCard(t, card).works(false)
	})
}

// A device of package nfc gets over a reset of its card, and leaves it on the
// reader when it is closed.
func TestCardConnOfDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Transports: []string{"nfc"}})
		card := key.Tap(CardConfig{})
		defer card.Remove()
		for range 2 {
			device, err := nfc.New(t.Context(), openCard(t, card).CardConn)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if answer, err := device.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); err != nil || answer[0] != ctap.StatusOK {
					t.Errorf("getInfo: %x, %v", answer, err)
				}
				if err := card.Reset(); err != nil {
					t.Error(err)
				}
			}
			if _, err := device.Exchange(t.Context(), []byte{ctap.CmdClientPIN, 0xA0}, nil); !errors.Is(err, nfc.ErrReset) {
				t.Errorf("after a reset: %v", err)
			}
			if err := device.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
