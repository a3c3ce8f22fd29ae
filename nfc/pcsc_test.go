package nfc

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A service is the smart card service of a machine in memory, with one context
// for all, and readers in the order of their names.
type service struct {
	err error // of establish

	mu      sync.Mutex
	changed *sync.Cond
	slots   map[string]*slot
	events  int // how many changes there were
	cancels int
	open    int // contexts and handles
	block   chan struct{}
	waits   []error // what the next waits return
	lists   []error
	deaf    int // cancellings that are not heard
	waited  int
	hang    chan struct{} // no call returns before it is closed
}

type slot struct {
	card    Card
	t0      bool
	count   uint32
	connect error // instead of connecting
	reset   bool  // by another program
	ignored bool  // it is listed, and its state unknown
}

func (s *service) use(t *testing.T) {
	before := establish
	establish = func() (pcscContext, error) {
		if s.block != nil {
			<-s.block
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return nil, s.err
		}
		s.open++
		return &serviceContext{service: s}, nil
	}
	t.Cleanup(func() {
		establish = before
		time.Sleep(time.Second) // for what a call that was given up has left behind
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open != 0 {
			t.Errorf("%d contexts and handles were not released", s.open)
		}
	})
}

// newService is to be called in the bubble.
func newService(t *testing.T, slots map[string]*slot) *service {
	s := &service{slots: slots}
	s.changed = sync.NewCond(&s.mu)
	s.use(t)
	return s
}

// change does something to the readers.
func (s *service) change(f func(slots map[string]*slot)) {
	s.mu.Lock()
	f(s.slots)
	s.events++
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *service) put(reader string, card Card) {
	s.change(func(slots map[string]*slot) {
		slots[reader].card = card
		slots[reader].count++
	})
}

type serviceContext struct {
	*service
	cancelled bool
	waiting   bool
}

func (c *serviceContext) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	return nil
}

func (c *serviceContext) cancel() error {
	c.answer()
	c.mu.Lock()
	c.cancels++
	if c.waiting && c.cancels > c.deaf {
		c.cancelled = true
	}
	c.mu.Unlock()
	c.changed.Broadcast()
	return nil
}

// answer returns when the service answers.
func (s *service) answer() {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (s *service) setHang(hang chan struct{}) {
	s.mu.Lock()
	s.hang = hang
	s.mu.Unlock()
}

func (c *serviceContext) readers() ([]string, error) {
	c.answer()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lists) > 0 {
		err := c.lists[0]
		c.lists = c.lists[1:]
		return nil, err
	}
	var names []string
	for name := range c.slots {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (c *serviceContext) wait(states []readerState, timeout time.Duration) error {
	c.answer()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(states) > 16 {
		return pcscCode(0x80100004) // SCARD_E_INVALID_PARAMETER, of pcsc-lite
	}
	if c.waited++; c.waited > 10_000 {
		return errors.New("the processor does nothing else")
	}
	if len(c.waits) > 0 {
		err := c.waits[0]
		c.waits = c.waits[1:]
		return err
	}
	over := false
	timer := time.AfterFunc(timeout, func() {
		c.mu.Lock()
		over = true
		c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	c.cancelled, c.waiting = false, true
	defer func() { c.waiting = false }()
	for {
		news := false
		for i := range states {
			s := &states[i]
			s.flags = s.known &^ stateChanged
			slot := c.slots[s.name]
			switch {
			case s.name == newsReader:
				if int(s.known>>stateCounter) != len(c.slots) {
					s.flags |= stateChanged
				}
			case slot == nil || slot.ignored:
				s.flags = stateUnknown | stateChanged
			case slot.card != nil:
				s.flags, s.atr = slot.count<<stateCounter|statePresent, []byte{0x3B, byte(slot.count)}
			default:
				s.flags, s.atr = slot.count<<stateCounter|0x10, nil
			}
			if s.flags != s.known {
				s.flags |= stateChanged
			}
			news = news || s.flags&stateChanged != 0
		}
		switch {
		case news:
			return nil
		case c.cancelled:
			return pcscCancelled
		case over || timeout == 0:
			return pcscTimeout
		}
		c.changed.Wait()
	}
}

func (c *serviceContext) connect(reader string) (pcscHandle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slot := c.slots[reader]
	switch {
	case slot == nil:
		return nil, pcscUnknownReader
	case slot.connect != nil:
		return nil, slot.connect
	case slot.card == nil:
		return nil, pcscNoSmartcard
	}
	c.open++
	return &serviceHandle{service: c.service, slot: slot, card: slot.card}, nil
}

type serviceHandle struct {
	*service
	slot     *slot
	card     Card
	begun    bool
	lastSeen [][]byte
}

func (h *serviceHandle) t0() bool { return h.slot.t0 }

// ready returns what the service says of the card before a call.
func (h *serviceHandle) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.slot.card != h.card:
		return pcscRemovedCard
	case h.slot.reset:
		return pcscResetCard
	}
	return nil
}

func (h *serviceHandle) transmit(command []byte) ([]byte, error) {
	if err := h.ready(); err != nil {
		return nil, err
	}
	if !h.begun {
		return nil, errors.New("no transaction")
	}
	h.lastSeen = append(h.lastSeen, bytes.Clone(command))
	if h.slot.t0 {
		// What a card with T=0 gets as Le; the response is announced.
		if n := len(command); n < 5 || command[4] == 0 && n > 5 || n > 5 && n != 5+int(command[4]) {
			return nil, errors.New("no TPDU")
		}
	}
	return h.card.Transmit(command)
}

func (h *serviceHandle) reconnect() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slot.card != h.card {
		return pcscRemovedCard
	}
	h.slot.reset = false
	h.begun = false
	return nil
}

func (h *serviceHandle) begin() error {
	if err := h.ready(); err != nil {
		return err
	}
	h.begun = true
	return nil
}

func (h *serviceHandle) end() error {
	if !h.begun {
		return pcscNotTransacted
	}
	h.begun = false
	return nil
}

func (h *serviceHandle) disconnect() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	return nil
}

func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, map[string]*slot{})
		if readers, err := Readers(t.Context()); err != nil || len(readers) != 0 {
			t.Errorf("%v, %v", readers, err)
		}
		s.slots["B"] = &slot{card: &testCard{}, count: 7}
		s.slots["A"] = &slot{}
		readers, err := Readers(t.Context())
		if err != nil || len(readers) != 2 || readers[0].Name != "A" || readers[0].Card || readers[0].ATR != nil ||
			readers[1].Name != "B" || !readers[1].Card || !bytes.Equal(readers[1].ATR, []byte{0x3B, 7}) {
			t.Errorf("%v, %v", readers, err)
		}
		s.waits = []error{pcscTimeout}
		if readers, err := Readers(t.Context()); err != nil || len(readers) != 2 {
			t.Errorf("%v, %v", readers, err)
		}
		s.waits = []error{pcscCommError} // with the service, which went in the middle
		_, err = Readers(t.Context())
		mustMatch(t, err, ErrNoService, pcscCommError)
		s.lists = []error{pcscServiceStopped}
		_, err = Readers(t.Context())
		mustMatch(t, err, ErrNoService)
		for code, want := range map[pcscCode]error{
			pcscNoService: ErrNoService, pcscSecurityViolation: fs.ErrPermission, pcscNoAccess: fs.ErrPermission,
			0x80104242: pcscCode(0x80104242),
		} {
			s.err = code
			_, err = Readers(t.Context())
			mustMatch(t, err, want, code)
			for _, err := range Watch(t.Context()) {
				mustMatch(t, err, want, code)
			}
			_, err = OpenFirst(t.Context())
			mustMatch(t, err, want, code)
			_, err = Open(t.Context(), "B")
			mustMatch(t, err, want, code)
		}
		s.err = pcscNoService
		_, err = Readers(t.Context())
		advice := map[bool]string{true: ": install and start pcscd"}[runtime.GOOS != "windows" && runtime.GOOS != "darwin"]
		if want := "nfc: readers: no smart card service: SCARD_E_NO_SERVICE" + advice; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		if s := pcscCode(0x80104242).Error(); s != "PC/SC error 0x80104242" {
			t.Error(s)
		}
	})
}

func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		newService(t, map[string]*slot{
			"empty": {}, "card": {card: c}, "other": {card: &testCard{script: func([]byte) ([]byte, error) { return sw(0x6A82), nil }}},
			"in use": {connect: pcscSharingViolation}, "mute": {connect: pcscUnresponsiveCard}, "gone": {connect: pcscReaderUnavailable},
		})
		d, err := Open(t.Context(), "card")
		if err != nil {
			t.Fatal(err)
		}
		mustAnswer(t, d, counting(300))
		mustAnswer(t, d, getInfo)
		if d.Reader() != "card" {
			t.Errorf("Reader = %q", d.Reader())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]error{
			"empty": ErrNoCard, "no such": ErrNoReader, "gone": ErrNoReader, "in use": ErrInUse, "mute": ErrNoAnswer, "other": ErrNotFIDO,
		} {
			_, err := Open(t.Context(), name)
			mustMatch(t, err, want)
			for _, other := range []error{ErrNoService, ErrNoReader, ErrNoCard, ErrInUse, ErrNotFIDO, ErrDeviceGone} {
				if other != want && errors.Is(err, other) {
					t.Errorf("%q: %v", name, err)
				}
			}
		}
	})
}

// OpenCard leaves what it connects to as it is, FIDO card or not.
func TestOpenCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got [][]byte
		card := &testCard{script: func(command []byte) ([]byte, error) {
			got = append(got, bytes.Clone(command))
			return sw(0x6A82), nil
		}}
		newService(t, map[string]*slot{"card": {card: card}, "empty": {}})
		c, err := OpenCard(t.Context(), "card")
		if err != nil {
			t.Fatal(err)
		}
		command := []byte{0x00, 0xB0, 0x00, 0x00}
		if err := c.(Transactor).Begin(); err != nil {
			t.Fatal(err)
		}
		if response, err := c.Transmit(command); err != nil || !bytes.Equal(response, sw(0x6A82)) {
			t.Errorf("Transmit = %x, %v", response, err)
		}
		if len(got) != 1 || !bytes.Equal(got[0], command) {
			t.Errorf("the card got %x", got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_, err = OpenCard(t.Context(), "empty")
		mustMatch(t, err, ErrNoCard)
	})
}

// A service that does not answer does not keep a call, and what it gives in the
// end is given back.
func TestOpenDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, map[string]*slot{"card": {card: &testCard{}}})
		s.block = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, call := range []func() error{
			func() error { _, err := Open(ctx, "card"); return err },
			func() error { _, err := Readers(ctx); return err },
			func() (last error) {
				for _, err := range Watch(ctx) {
					last = err
				}
				return last
			},
		} {
			mustMatch(t, call(), context.DeadlineExceeded)
		}
		s.block <- struct{}{}
		synctest.Wait()
	})
}

// A key that refuses the FIDO application to this reader is not shown as a
// failure when the right one is looked for.
func TestQuirk21OpenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := &testCard{script: func([]byte) ([]byte, error) { return sw(0x6A82), nil }}
		c, second := &testCard{}, &testCard{}
		s := newService(t, map[string]*slot{})
		_, err := OpenFirst(t.Context())
		mustMatch(t, err, ErrNoReader)

		s.slots["A"] = &slot{}
		_, err = OpenFirst(t.Context())
		mustMatch(t, err, ErrNoCard)

		s.slots["B"] = &slot{card: refusing}
		_, err = OpenFirst(t.Context())
		mustMatch(t, err, ErrNotFIDO)

		s.slots["C"] = &slot{card: &testCard{}, connect: pcscSharingViolation}
		_, err = OpenFirst(t.Context())
		mustMatch(t, err, ErrNotFIDO, ErrInUse)

		s.slots["D"], s.slots["E"] = &slot{card: c}, &slot{card: second}
		d, err := OpenFirst(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.Reader() != "D" {
			t.Errorf("Reader = %q", d.Reader())
		}
		d.Close()
		mustTake(t, second) // the cards behind it are not touched
		refusing.taken()
		if d, err = Open(t.Context(), "E"); err != nil {
			t.Fatal(err)
		}
		d.Close()
		mustTake(t, refusing) // with a name, no other card is

		hang := make(chan struct{})
		s.slots["B"].card = &testCard{script: func([]byte) ([]byte, error) { <-hang; return sw(0x6A82), nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = OpenFirst(ctx)
		mustMatch(t, err, context.DeadlineExceeded)
		close(hang)
		synctest.Wait()
	})
}

// With T=0 a command with data has no Le, its response is announced, and there
// is no extended length.
func TestQuirk19T0(t *testing.T) {
	for apdu, want := range map[string]string{
		"80120100":            "8012010000",
		"00c00000ff":          "00c00000ff",
		"00c0000000":          "00c0000000",
		"80108000020102":      "80108000020102",
		"801080000104" + "00": "801080000104",
	} {
		if got, err := tpdu(unhex(apdu)); err != nil || !bytes.Equal(got, unhex(want)) {
			t.Errorf("%s: %x, %v", apdu, got, err)
		}
	}
	_, err := tpdu(unhex("80108000000001040000"))
	mustMatch(t, err, ErrExtendedLength)

	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		c.script = func(command []byte) ([]byte, error) {
			// T=0 knows no response to a command with data.
			if len(command) > 5 && command[0]&claChain == 0 {
				c.mu.Lock()
				defer c.mu.Unlock()
				a := parseAPDU(append(bytes.Clone(command), 0))
				a.data, c.chain = append(c.chain, a.data...), nil
				r := c.reply(a)
				c.cla, c.rest, c.restSW = a.cla, r.data, r.sw
				return []byte{0x61, byte(min(len(r.data), 256))}, nil
			}
			return nil, nil
		}
		newService(t, map[string]*slot{"T=0": {card: c, t0: true}})
		d, err := Open(t.Context(), "T=0")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		mustAnswer(t, d, getInfo)
		mustAnswer(t, d, counting(700))
	})
}

// The service says that the card was reset: the connection and the transaction
// are taken up again.
func TestQuirk19Reconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		s := newService(t, map[string]*slot{"R": {card: c}})
		d, err := Open(t.Context(), "R")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		reset := func() { s.slots["R"].reset, c.selected = true, false }

		reset() // between two exchanges
		_, err = d.Exchange(t.Context(), counting(10), nil)
		mustMatch(t, err, ErrReset)
		mustAnswer(t, d, counting(10))
		reset()
		mustAnswer(t, d, getInfo)

		// In the middle of one.
		c.pending(ctap.KeepaliveUPNeeded, func(bool) *answer { return nil })
		_, err = d.Exchange(t.Context(), counting(10), func(byte) { c.answer = nil; reset() })
		mustMatch(t, err, ErrReset)
		mustAnswer(t, d, counting(10))

		// And gone, when it is to be taken up again.
		reset()
		c.pending(ctap.KeepaliveUPNeeded, func(bool) *answer { return nil })
		mustAnswerOrReset := func(byte) { reset(); s.put("R", nil) }
		_, err = d.Exchange(t.Context(), getInfo, mustAnswerOrReset)
		mustMatch(t, err, ErrDeviceGone)
	})
}

// The error that a reader gives when the card goes in the middle of a command
// does not tell. The reader's state does, a little later.
func TestQuirk22CommError(t *testing.T) {
	for name, test := range map[string]struct {
		after func(s *service)
		want  error
	}{
		"there":    {func(*service) {}, ErrNoAnswer},
		"gone":     {func(s *service) { s.put("R", nil) }, ErrDeviceGone},
		"and back": {func(s *service) { s.put("R", nil); s.put("R", &testCard{}) }, ErrDeviceGone},
		"reader":   {func(s *service) { s.change(func(slots map[string]*slot) { delete(slots, "R") }) }, ErrDeviceGone},
	} {
		for i := range 4 { // at once or later, with an error or an empty response
			delay, empty := time.Duration(i/2)*settling/2, i%2 == 1
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &testCard{}
					s := newService(t, map[string]*slot{"R": {card: c}})
					d, err := Open(t.Context(), "R")
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					c.script = func([]byte) ([]byte, error) {
						c.script = nil
						if delay == 0 && name != "and back" {
							test.after(s)
						} else {
							time.AfterFunc(settling/2, func() { test.after(s) })
						}
						if empty {
							return []byte{}, nil
						}
						return nil, pcscCommError
					}
					_, err = d.Exchange(t.Context(), getInfo, nil)
					mustMatch(t, err, test.want, pcscCommError)
				})
			})
		}
	}
}

// Close does not wait for PC/SC; what is with the card releases it.
func TestCloseInTransmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		s := newService(t, map[string]*slot{"R": {card: c}})
		d, err := Open(t.Context(), "R")
		if err != nil {
			t.Fatal(err)
		}
		block := make(chan struct{})
		c.script = func([]byte) ([]byte, error) { <-block; return nil, nil }
		done := make(chan error)
		go func() {
			_, err := d.Exchange(t.Context(), getInfo, nil)
			done <- err
		}()
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		mustMatch(t, <-done, ErrClosed)
		if s.open != 2 {
			t.Errorf("released in the middle of a call: %d open", s.open)
		}
		close(block)
		synctest.Wait()
		if s.open != 0 {
			t.Errorf("%d open", s.open)
		}
		if err := d.card.Close(); err != nil {
			t.Error(err)
		}
		if _, err := d.card.Transmit(getInfo); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		s := newService(t, map[string]*slot{"A": {card: c}, "B": {}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := make(chan string)
		var last error
		go func() {
			defer close(events)
			for e, err := range Watch(ctx) {
				if err != nil {
					last = err
					continue
				}
				if e.Inserted != (e.ATR != nil) || e.Inserted != e.Card {
					t.Errorf("%+v", e)
				}
				events <- map[bool]string{true: "+", false: "-"}[e.Inserted] + e.Name
			}
		}()
		next := func(want string) {
			t.Helper()
			if got := <-events; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		quiet := func() {
			t.Helper()
			synctest.Wait()
			select {
			case e := <-events:
				t.Errorf("%s, which nobody expects", e)
			default:
			}
		}
		next("+A")
		quiet()
		s.put("B", c)
		next("+B")
		s.put("A", nil)
		next("-A")
		quiet()
		s.mu.Lock() // two changes at once
		s.slots["B"].count += 2
		s.mu.Unlock()
		s.change(func(map[string]*slot) {})
		next("-B")
		next("+B")
		s.change(func(slots map[string]*slot) { slots["C"] = &slot{card: c}; slots["A"].card = c; slots["A"].count++ })
		next("+A")
		next("+C")
		s.change(func(slots map[string]*slot) { delete(slots, "B"); delete(slots, "C") })
		next("-B")
		next("-C")
		quiet()
		s.change(func(slots map[string]*slot) { clear(slots) })
		next("-A")
		time.Sleep(10 * waitSlice)
		quiet()
		s.change(func(slots map[string]*slot) { slots["D"] = &slot{card: c} })
		next("+D")
		quiet()

		s.deaf = s.cancels + 2 // a wait that has just begun
		start := time.Now()
		cancel()
		if _, more := <-events; more || !errors.Is(last, context.Canceled) {
			t.Errorf("%v", last)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		s := newService(t, map[string]*slot{"A": {card: c}, "B": {card: c}})
		for n := 1; n <= 4; n++ { // the loop has enough, at any event
			seen := 0
			for e, err := range Watch(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if seen++; seen == n {
					break
				}
				if seen == 2 {
					s.mu.Lock()
					s.slots["A"].count += 2
					s.mu.Unlock()
				}
				_ = e
			}
			if seen != n {
				t.Errorf("%d events, want %d", seen, n)
			}
		}
		// At the removal of a reader.
		removals := 0
		for e := range Watch(t.Context()) {
			if !e.Inserted {
				removals++
				break
			}
			s.change(func(slots map[string]*slot) { delete(slots, "B") })
		}
		if removals != 1 {
			t.Errorf("%d removals", removals)
		}
		// The service goes, or a reader between two calls.
		s.change(func(slots map[string]*slot) { slots["A"] = &slot{card: c} })
		s.waits = []error{pcscUnknownReader, pcscTimeout}
		var errs []error
		for _, err := range Watch(t.Context()) {
			errs = append(errs, err)
			s.waits = []error{pcscServiceStopped}
		}
		if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], ErrNoService) {
			t.Errorf("%v", errs)
		}
		for _, code := range []error{pcscNoService, pcscCommError} {
			s.lists = []error{code}
			for _, err := range Watch(t.Context()) {
				mustMatch(t, err, ErrNoService, code)
			}
		}
	})
}

// A service that does not answer does not keep Watch, wherever it stops.
func TestWatchHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, map[string]*slot{"A": {card: &testCard{}}})
		for _, at := range []time.Duration{0, waitSlice / 2, waitSlice} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start, hang := time.Now(), make(chan struct{})
			var last error
			for _, err := range Watch(ctx) {
				if last = err; err == nil {
					time.AfterFunc(at, func() { s.setHang(hang) })
				}
			}
			mustMatch(t, last, context.DeadlineExceeded)
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("it took %v", took)
			}
			close(hang)
			s.setHang(nil)
		}
	})
}

// A reader that is listed although its state is unknown neither keeps the
// processor busy nor hides the others.
func TestWatchIgnoredReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, map[string]*slot{"A": {ignored: true}, "B": {}})
		time.AfterFunc(5*time.Second, func() { s.put("B", &testCard{}) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var inserted []string
		for e, err := range Watch(ctx) {
			if err != nil {
				mustMatch(t, err, context.DeadlineExceeded)
				break
			}
			inserted = append(inserted, e.Name)
		}
		if !slices.Equal(inserted, []string{"B"}) || s.waited > 200 {
			t.Errorf("%q inserted, after %d waits", inserted, s.waited)
		}
	})
}

// With as many readers as pcsc-lite has, there is no room to wait for others.
func TestWatchMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := map[string]*slot{}
		for i := range maxStates {
			slots[string(rune('A'+i))] = &slot{card: &testCard{}}
		}
		newService(t, slots)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		inserted := 0
		for _, err := range Watch(ctx) {
			if err != nil {
				mustMatch(t, err, context.DeadlineExceeded)
				break
			}
			inserted++
		}
		if inserted != maxStates {
			t.Errorf("%d of %d cards", inserted, maxStates)
		}
	})
}
