package virtual

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// What a card knows, by CLA and INS (§11.3.3 to §11.3.7, and ISO/IEC 7816-4 for
// those of CLA 00).
const (
	cardCLA      = 0x00
	cardCLACTAP  = 0x80
	cardCLAChain = 0x10 // set in the CLA of all commands of a chain but the last

	cardSelect      = 0xA4 // SELECT
	cardGetResponse = 0xC0 // GET RESPONSE: the rest of an answer
	cardMsg         = 0x10 // NFCCTAP_MSG
	cardPoll        = 0x11 // NFCCTAP_GETRESPONSE: what has become of a command
	cardControl     = 0x12 // NFCCTAP_CONTROL

	cardSelectByName = 0x04 // P1 of SELECT
	cardMsgUpdates   = 0x80 // P1 of NFCCTAP_MSG: the client knows NFCCTAP_GETRESPONSE
	cardPollCancel   = 0x11 // P1 of NFCCTAP_GETRESPONSE
	cardControlEnd   = 0x01 // P1 of NFCCTAP_CONTROL: End CTAP_MSG
)

// Status words.
const (
	swOK                  = 0x9000
	swMore                = 0x6100 // the low byte says how many bytes wait
	swUpdate              = 0x9100 // §11.3.7.2
	swWrongLength         = 0x6700
	swChainingUnsupported = 0x6884
	swConditions          = 0x6985
	swNotAllowed          = 0x6986
	swWrongData           = 0x6A80
	swNotFound            = 0x6A82
	swWrongP1P2           = 0x6A86
	swWrongParameters     = 0x6B00 // GET RESPONSE's word for it
	swWrongLe             = 0x6C00 // the low byte says the right one
	swUnknownINS          = 0x6D00
	swUnknownCLA          = 0x6E00
	swInternal            = 0x6F00
)

const (
	// maxCardRequest bounds what a chain of commands can pile up: as much as
	// one command of extended length holds. The authenticator's own limit is
	// its maxMsgSize.
	maxCardRequest = 0xFFFF
	// A response has at most so many bytes, by the form of its command.
	maxShortResponse    = 0x100
	maxExtendedResponse = 0x10000
)

var (
	cardAID = []byte{0xA0, 0x00, 0x00, 0x06, 0x47, 0x2F, 0x00, 0x01}

	// cardATR is what PC/SC part 3 makes of a contactless card: T=0 and T=1,
	// and historical bytes that say: selection by full name, command chaining,
	// extended lengths.
	cardATR = []byte{0x3B, 0x85, 0x80, 0x01, 0x80, 0x73, 0x80, 0x01, 0xC0, 0xB6}
)

// CardConfig says what a key is on a reader besides an authenticator. The zero
// value is a card that keeps to the specification, on a reader that takes
// whatever ISO/IEC 7816-4 allows.
type CardConfig struct {
	// ATR is the answer to reset that the reader reports. Nil: that of a
	// contactless card with T=0 and T=1.
	ATR []byte

	// ShortReader is a reader that fails to send commands of extended length.
	ShortReader bool

	// Faults are there from the start. SetFaults changes them.
	Faults CardFaults
}

// CardFaults are ways to be a card that does not keep to §11.3, or one that
// nobody holds still. They combine freely; the zero value has none.
type CardFaults struct {
	// ClaimU2F has SELECT answer "U2F_V2" though the key does not speak U2F.
	ClaimU2F bool

	// ChainSelect has SELECT answer with no data and 61xx.
	ChainSelect bool

	// Only00GetResponse and Only80GetResponse refuse GET RESPONSE of the other
	// class with SW 6E00. What it was to fetch waits on.
	Only00GetResponse, Only80GetResponse bool

	// RefuseLeInChain refuses a command of a chain, but for the last, that has
	// an Le field, with SW 6700, and the chain with it.
	RefuseLeInChain bool

	// WrongLe answers a short command with 6Cxx if its Le is not the length of
	// what there is to send, up to 256 bytes, and sends that when the same
	// command comes next with the Le that xx says.
	WrongLe bool

	// RefuseExtended refuses commands of extended length with SW 6700, though
	// the ATR says otherwise and the reader sends them.
	RefuseExtended bool

	// NoStatusUpdates is a card without NFCCTAP_GETRESPONSE, which is silent as
	// long as a command takes, whatever the client said.
	NoStatusUpdates bool

	// IgnoreCancel takes a cancelling NFCCTAP_GETRESPONSE for one that asks.
	IgnoreCancel bool

	// NoApplet has SELECT answer 6A82, as a card of another kind does.
	NoApplet bool

	// RemoveAfter takes the card away when so many commands were answered since
	// Tap or SetFaults was called: the next is lost on the way. 0 is never.
	RemoveAfter int
}

// A Card is an authenticator on a card reader that exists only in this program.
// Open gives what a program gets that connects to a card, one of package nfc's.
// It speaks CTAP over ISO/IEC 7816-4 (CTAP 2.3 §11.3): SELECT, NFCCTAP_MSG,
// NFCCTAP_GETRESPONSE, NFCCTAP_CONTROL and, as they are, U2F's commands; of short
// and extended length, and in chains of them. SELECT answers "U2F_V2" if the key
// speaks U2F, be it besides CTAP2, and "FIDO_2_0" if not (§11.3.3). A key
// without U2F refuses U2F's commands with SW 6D00; one of U2F alone refuses all
// of NFCCTAP, which are of a class that it does not know, with SW 6E00.
//
// The person is asked for a touch as over USB: a key whose user presence is
// the tap itself is one whose Person is Touch.
//
// All methods are safe for use by several goroutines, and all may be called by
// the Person who is asked, too. The card deals with one command at a time.
type Card struct {
	core   cardCore
	config CardConfig

	// turn holds one value while a command, or a loss of power, is dealt with.
	// All below it, down to mu, belongs to whoever put it there.
	turn     chan struct{}
	selected bool
	request  []byte       // of a chain that is not complete
	last     [2]byte      // CLA and INS of the last command
	response []byte       // what GET RESPONSE will fetch
	held     *cardHeld    // what WrongLe keeps back
	running  *cardCommand // what NFCCTAP_GETRESPONSE asks about; nil if there is nothing

	mu        sync.Mutex
	present   bool
	laid      int             // how often the card was put on the reader
	resets    int             // how often it was reset there
	field     context.Context // ends when the card loses its power, with the reason as its cause
	leave     context.CancelCauseFunc
	powerLost bool // and the authenticator does not know it yet
	faults    CardFaults
	answered  int
}

// cardCore is what the Card needs of an Authenticator.
type cardCore interface {
	Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error)
	msg(ctx context.Context, cmd *commandAPDU) (data []byte, word uint16, err error)
	PowerCycle()
	protocols() (u2f, ctap2 bool)
	deselect(ctx context.Context) error
}

// A cardCommand is a CTAP command that the authenticator carries out.
type cardCommand struct {
	cancel context.CancelFunc
	status chan byte // the newest that nobody has heard, if any
	told   byte      // the one heard last
	done   chan struct{}

	// After done.
	answer []byte
	err    error
}

// cardHeld is an answer and the command that gets it, without its Le.
type cardHeld struct{ command, answer []byte }

// Tap holds the authenticator to a card reader, which powers it up, as
// PowerCycle does. What Open then returns takes the place of a connection to the
// card:
//
//	card := key.Tap(virtual.CardConfig{})
//	defer card.Remove()
//	conn, err := card.Open()
//	…
//	dev, err := nfc.New(ctx, conn)
//
// A simulator of readers, which has no connections, calls Transmit of the Card.
//
// Config.Transports should say "nfc". An authenticator should not be on two
// readers, or on a reader and in a USB port, at a time.
func (a *Authenticator) Tap(config CardConfig) *Card {
	return newCard(port{a, transportNFC}, config)
}

func newCard(core cardCore, config CardConfig) *Card {
	c := &Card{
		core:   core,
		config: config,
		turn:   make(chan struct{}, 1),
	}
	c.config.ATR = slices.Clone(orDefault(config.ATR, cardATR...))
	c.SetFaults(config.Faults)
	c.Tap()
	return c
}

// deselect ends what outlives no selection of the applet: the token, what is
// still to be got of assertions and enumerations, what is still to come of a
// large-blob array and of an enrolment, and the wait for a touch of U2F. The
// wrong PINs in a row stay, or selecting would be a way around the block that
// only a power cycle lifts (§6.5.2.2). It fails if ctx ends first, or the key is
// closed or unplugged.
func (a *Authenticator) deselect(ctx context.Context) error {
	a.mu.Lock()
	op := &operation{ctx: ctx, power: a.power}
	a.mu.Unlock()
	if err := a.begin(op); err != nil {
		return err
	}
	defer a.end()
	a.stopUsingToken()
	a.forgetSequences()
	a.volatile.blobWrite = nil
	a.volatile.enrollment = nil
	a.stopBlinking()
	return nil
}

var (
	errRemoved   = fmt.Errorf("virtual: card removed: %w", ctap.ErrDeviceGone)
	errCardReset = fmt.Errorf("virtual: card reset: %w", ctap.ErrDeviceGone)
)

// Tap puts a card back on the reader that Remove, or the fault RemoveAfter,
// took away. The authenticator is powered up, the applet not selected. Tap
// does nothing if the card is there.
func (c *Card) Tap() {
	c.mu.Lock()
	if c.present {
		c.mu.Unlock()
		return
	}
	c.present = true
	c.laid++
	c.answered = 0
	c.field, c.leave = context.WithCancelCause(context.Background())
	c.powerLost = true
	c.mu.Unlock()
	c.begin()
	c.end()
}

// Remove takes the card away. A command that runs is cancelled, the
// authenticator is power-cycled, and Transmit fails, one that waits included,
// with an error for which errors.Is(err, hid.ErrDeviceGone) holds. Remove does
// nothing if the card is not there.
func (c *Card) Remove() {
	c.mu.Lock()
	c.remove()
	c.mu.Unlock()
	c.begin()
	c.end()
}

// remove is Remove but for the power cycle. It is called with mu held.
func (c *Card) remove() {
	if c.present {
		c.present = false
		c.powerLost = true
		c.leave(errRemoved)
	}
}

// Reset cuts the card's power and restores it, as a reader does when a
// program asks for that, or Windows when a transaction was idle for too long.
// A Transmit that waits fails, and every connection tells of it, once. Reset
// fails if the card is not there, with the error that Transmit has then.
func (c *Card) Reset() error {
	c.mu.Lock()
	if !c.present {
		c.mu.Unlock()
		return errRemoved
	}
	c.resets++
	c.leave(errCardReset)
	c.field, c.leave = context.WithCancelCause(context.Background())
	c.powerLost = true
	c.mu.Unlock()
	c.begin()
	c.end()
	return nil
}

// ATR returns the answer to reset, whether the card is there or not.
func (c *Card) ATR() []byte { return slices.Clone(c.config.ATR) }

// SetFaults replaces the faults of the card, from the next command on, and
// restarts the count of RemoveAfter.
func (c *Card) SetFaults(faults CardFaults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = faults
	c.answered = 0
}

// Transmit sends one command APDU and returns the response APDU: up to 256
// bytes of data, or 65536 if the command has extended length, and the two bytes
// of the status word. The command stays the caller's.
//
// It waits as long as the card does: for a person, up to Config.PresenceTimeout,
// if the client has not said that it knows NFCCTAP_GETRESPONSE, and up to 100
// ms if it has.
//
// What a card refuses it refuses with a status word. Transmit fails if the card
// is not there, is taken away or reset, or the authenticator power-cycled,
// meanwhile, with an error for which errors.Is(err, hid.ErrDeviceGone) holds;
// if the authenticator is closed, with one for which errors.Is(err,
// hid.ErrClosed) does; and if a ShortReader is to send a command of extended
// length.
func (c *Card) Transmit(command []byte) ([]byte, error) { return c.transmit(command, nil) }

// transmit is Transmit over a connection, or over none.
func (c *Card) transmit(command []byte, conn *CardConn) ([]byte, error) {
	select {
	case c.turn <- struct{}{}:
	case <-conn.closed():
		return nil, errConnClosed
	}
	c.settle()
	defer c.end()
	c.mu.Lock()
	if err := conn.lost(); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if c.faults.RemoveAfter > 0 && c.answered >= c.faults.RemoveAfter {
		c.remove()
	}
	present, field, faults := c.present, c.field, c.faults
	c.mu.Unlock()
	if !present {
		return nil, errRemoved
	}

	apdu, ok := parseAPDU(command)
	if c.config.ShortReader && apdu.extended {
		return nil, errors.New("virtual: the reader sends no APDU of extended length")
	}
	var response []byte
	var err error
	switch {
	case !ok, apdu.extended && faults.RefuseExtended:
		response = statusWord(swWrongLength)
	default:
		response, err = c.process(&cardTurn{apdu, field, conn.closed(), faults})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.answered++
	} else if lost := conn.lost(); lost != nil {
		err = lost
	}
	return response, err
}

// begin waits for the turn and makes up for what the authenticator has missed.
func (c *Card) begin() {
	c.turn <- struct{}{}
	c.settle()
}

// end is for what happened meanwhile, too: it must not wait for the next
// command.
func (c *Card) end() {
	c.settle()
	<-c.turn
}

// settle power-cycles the authenticator if the card has lost its power.
func (c *Card) settle() {
	c.mu.Lock()
	lost := c.powerLost
	c.powerLost = false
	c.mu.Unlock()
	if !lost {
		return
	}
	c.selected = false
	c.request, c.response, c.held = nil, nil, nil
	c.abandon()
	c.core.PowerCycle()
}

// A commandAPDU is a command (ISO/IEC 7816-4 §5.1) taken apart.
type commandAPDU struct {
	class, instruction, p1, p2 byte
	data                       []byte
	le                         int    // how many bytes the answer may have, 0 if the command does not say
	extended                   bool   // Lc and Le have their long form
	head                       []byte // the whole command but for Le
}

// parseAPDU reports whether a command has the length that it says it has. If
// not, extended is still known.
func parseAPDU(b []byte) (cmd commandAPDU, ok bool) {
	if len(b) < 4 {
		return cmd, false
	}
	cmd = commandAPDU{class: b[0], instruction: b[1], p1: b[2], p2: b[3], head: b[:4]}
	rest := b[4:]
	if len(rest) == 0 {
		return cmd, true
	}
	field, most := 1, maxShortResponse
	if rest[0] == 0 && len(rest) > 1 {
		// The long form: a zero byte in front of the first of Lc and Le.
		cmd.extended = true
		field, most = 2, maxExtendedResponse
		rest = rest[1:]
	}
	number := func() (n int) {
		for _, digit := range rest[:field] {
			n = n<<8 | int(digit)
		}
		rest = rest[field:]
		return n
	}
	if len(rest) > field {
		n := number()
		if n == 0 || n > len(rest) {
			return cmd, false
		}
		cmd.data, rest = rest[:n], rest[n:]
		cmd.head = b[:len(b)-len(rest)]
		if len(rest) == 0 {
			return cmd, true
		}
	}
	if len(rest) != field {
		return cmd, false
	}
	if cmd.le = number(); cmd.le == 0 {
		cmd.le = most
	}
	return cmd, true
}

// room returns how many bytes the answer may have. A client that does not say
// expects one all the same: every CTAP command has one.
func (cmd *commandAPDU) room() int {
	switch {
	case cmd.le > 0:
		return cmd.le
	case cmd.extended:
		return maxExtendedResponse
	}
	return maxShortResponse
}

func statusWord(sw uint16, data ...byte) []byte {
	return binary.BigEndian.AppendUint16(data, sw)
}

// A cardTurn is a command and the circumstances in which it came.
type cardTurn struct {
	commandAPDU
	field  context.Context
	closed <-chan struct{} // when nobody waits for the answer any more
	faults CardFaults
}

// process answers a command. A chain, an answer in parts and a command that
// runs are over when anything comes that does not go on with them.
func (c *Card) process(t *cardTurn) ([]byte, error) {
	held := c.held
	c.held = nil
	if held != nil && bytes.Equal(held.command, t.head) {
		return c.deliver(t, held.answer), nil
	}
	chained := t.class&cardCLAChain != 0
	t.class &^= cardCLAChain
	isCTAP := t.class == cardCLACTAP
	u2f, ctap2 := c.core.protocols()
	isU2F := !isCTAP && t.instruction >= u2fRegister && t.instruction <= u2fVersion
	if c.last != [2]byte{t.class, t.instruction} {
		c.request = nil
	}
	c.last = [2]byte{t.class, t.instruction}
	if !isCTAP || t.instruction != cardPoll {
		c.abandon()
	}
	response := c.response
	c.response = nil

	switch {
	case !isCTAP && t.class != cardCLA, isCTAP && !ctap2:
		return statusWord(swUnknownCLA), nil
	case chained && !(isCTAP && t.instruction == cardMsg) && !(isU2F && u2f):
		return statusWord(swChainingUnsupported), nil
	case !isCTAP && t.instruction == cardSelect:
		return c.selectApplet(t)
	case !c.selected:
		return statusWord(swConditions), nil
	case t.instruction == cardGetResponse:
		return c.getResponse(t, response), nil
	case isU2F:
		return c.u2f(t, chained)
	case isCTAP && t.instruction == cardMsg:
		return c.message(t, chained)
	case isCTAP && t.instruction == cardPoll && !t.faults.NoStatusUpdates:
		return c.poll(t)
	case isCTAP && t.instruction == cardControl:
		return c.control(t)
	}
	return statusWord(swUnknownINS), nil
}

// selectApplet is applet selection (§11.3.3).
func (c *Card) selectApplet(t *cardTurn) ([]byte, error) {
	switch {
	case t.p1 != cardSelectByName || t.p2 != 0:
		return statusWord(swWrongP1P2), nil
	case t.faults.NoApplet || !bytes.Equal(t.data, cardAID):
		// Whatever was selected remains so.
		return statusWord(swNotFound), nil
	}
	if err := c.deselect(t); err != nil {
		return nil, err
	}
	c.selected = true
	version := []byte(versionFIDO2)
	if u2f, _ := c.core.protocols(); u2f || t.faults.ClaimU2F {
		version = []byte(versionU2F)
	}
	if t.faults.ChainSelect {
		c.response = version
		return statusWord(swMore | uint16(len(version))), nil
	}
	return c.deliver(t, version), nil
}

// control is NFCCTAP_CONTROL. Its one function ends CTAP until the applet is
// selected again (§11.3.4).
func (c *Card) control(t *cardTurn) ([]byte, error) {
	switch {
	case t.p1 != cardControlEnd || t.p2 != 0:
		return statusWord(swWrongP1P2), nil
	case len(t.data) > 0:
		return statusWord(swWrongLength), nil
	}
	if err := c.deselect(t); err != nil {
		return nil, err
	}
	c.selected = false
	return statusWord(swOK), nil
}

// deselect ends the selection for the authenticator.
func (c *Card) deselect(t *cardTurn) error {
	err := c.core.deselect(t.field)
	if t.field.Err() != nil {
		return context.Cause(t.field)
	}
	return err
}

// getResponse is GET RESPONSE (§11.3.6).
func (c *Card) getResponse(t *cardTurn, response []byte) []byte {
	switch isCTAP := t.class == cardCLACTAP; {
	case isCTAP && t.faults.Only00GetResponse, !isCTAP && t.faults.Only80GetResponse:
		c.response = response
		return statusWord(swUnknownCLA)
	case t.p1 != 0 || t.p2 != 0:
		return statusWord(swWrongParameters)
	case len(t.data) > 0:
		return statusWord(swWrongLength)
	case len(response) == 0:
		return statusWord(swConditions)
	}
	return c.deliver(t, response)
}

// deliver answers with as much of data as the command has room for, and keeps
// the rest for GET RESPONSE (§11.3.6).
func (c *Card) deliver(t *cardTurn, data []byte) []byte {
	if t.faults.WrongLe && !t.extended {
		if n := min(len(data), maxShortResponse); n != t.room() {
			c.held = &cardHeld{bytes.Clone(t.head), data}
			return statusWord(swWrongLe | uint16(n&0xFF))
		}
	}
	n := min(len(data), t.room())
	c.response = data[n:]
	sw := uint16(swOK)
	if rest := len(c.response); rest > 0 {
		// 00 stands for 256 and more.
		sw = swMore | uint16(min(rest, maxShortResponse)&0xFF)
	}
	return statusWord(sw, bytes.Clone(data[:n])...)
}

// message is NFCCTAP_MSG (§11.3.7.1), or one command of a chain of it.
func (c *Card) message(t *cardTurn, chained bool) ([]byte, error) {
	if t.p1&^cardMsgUpdates != 0 || t.p2 != 0 {
		c.request = nil
		return statusWord(swWrongP1P2), nil
	}
	if response := c.assemble(t, chained); response != nil {
		return response, nil
	}
	c.start(t.field, t.data)
	return c.await(t, t.p1&cardMsgUpdates != 0 && !t.faults.NoStatusUpdates)
}

// assemble puts what came before in a chain in front of a command's data. It
// returns the response to a command that is not the last of its chain, and to
// one that is not a part of it.
func (c *Card) assemble(t *cardTurn, chained bool) []byte {
	request := c.request
	c.request = nil
	if len(request)+len(t.data) > maxCardRequest || chained && t.le > 0 && t.faults.RefuseLeInChain {
		return statusWord(swWrongLength)
	}
	t.data = append(request, t.data...)
	if chained {
		c.request = t.data
		return statusWord(swOK)
	}
	return nil
}

// u2f is a U2F command, or one command of a chain of it. It waits for nobody.
func (c *Card) u2f(t *cardTurn, chained bool) ([]byte, error) {
	if response := c.assemble(t, chained); response != nil {
		return response, nil
	}
	data, word, err := c.core.msg(t.field, &t.commandAPDU)
	switch {
	case t.field.Err() != nil:
		return nil, context.Cause(t.field)
	case err != nil:
		return nil, err
	case word != swOK:
		return statusWord(word), nil
	}
	return c.deliver(t, data), nil
}

// poll is NFCCTAP_GETRESPONSE (§11.3.7.2).
func (c *Card) poll(t *cardTurn) ([]byte, error) {
	cancel := t.p1 == cardPollCancel
	switch {
	case t.p1 != 0 && !cancel || t.p2 != 0:
		return statusWord(swWrongP1P2), nil
	case len(t.data) > 0:
		return statusWord(swWrongLength), nil
	case c.running == nil:
		return statusWord(swConditions), nil
	case cancel && !t.faults.IgnoreCancel:
		// The answer says whether it came in time, as after CTAPHID_CANCEL.
		c.running.cancel()
		return c.await(t, false)
	}
	return c.await(t, true)
}

// start has the authenticator carry out a command.
func (c *Card) start(field context.Context, message []byte) {
	ctx, cancel := context.WithCancel(field)
	r := &cardCommand{
		cancel: cancel,
		status: make(chan byte, 1),
		told:   ctap.KeepaliveProcessing,
		done:   make(chan struct{}),
	}
	c.running = r
	go func() {
		defer close(r.done)
		defer cancel()
		r.answer, r.err = c.core.Exchange(ctx, message, r.hear)
	}()
}

// hear takes note of a status; the authenticator never sends two at a time.
func (r *cardCommand) hear(status byte) {
	select {
	case <-r.status:
	default:
	}
	r.status <- status
}

// abandon ends a command that nobody asks about any more. Its answer is lost.
func (c *Card) abandon() {
	if c.running != nil {
		c.running.cancel()
		c.running = nil
	}
}

// await answers with what the running command returned. If the client may hear
// of its status, that is the answer when there is news, and after 100 ms at the
// latest: §11.3.2 has cards answer within 800.
func (c *Card) await(t *cardTurn, updates bool) ([]byte, error) {
	r := c.running
	var news <-chan byte
	var late <-chan time.Time
	if updates {
		timer := time.NewTimer(keepaliveInterval)
		defer timer.Stop()
		news, late = r.status, timer.C
	}
	for waiting := true; waiting; {
		select {
		case <-r.done:
			waiting = false
		case <-t.field.Done():
			waiting = false
		case <-t.closed:
			return nil, errConnClosed
		case status := <-news:
			waiting = status == r.told
			r.told = status
		case <-late:
			waiting = false
		}
	}
	if t.field.Err() != nil {
		return nil, context.Cause(t.field)
	}
	select {
	case <-r.done:
	default:
		return statusWord(swUpdate, r.told), nil
	}
	c.running = nil
	if r.err != nil {
		return nil, r.err
	}
	return c.deliver(t, r.answer), nil
}
