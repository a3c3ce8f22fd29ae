package virtual

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

const (
	// messageTimeout is how long the key waits for the next packet of a
	// message before it gives the channel up (§11.2.5.2).
	messageTimeout = 500 * time.Millisecond
	// maxChannels bounds what a host that only ever allocates can occupy.
	maxChannels = 256
	// queueLength is how many unread input reports a connection keeps. Linux
	// keeps 63 for each open hidraw node, which is enough for a real key,
	// whose reports are a millisecond or more apart. This one sends the 129
	// reports of the largest message at once, so its reader needs room for
	// those, for as many of another conversation, and for keepalives.
	queueLength = 512
	// foreignChannel is the channel of the other program of the faults
	// ForeignReports and ForeignInit. It is never allocated.
	foreignChannel = 0xFEEDF1D0
	// winkRecovery is how long a key with the fault WinkBreaksCBOR takes to
	// get over a WINK.
	winkRecovery = 250 * time.Millisecond
	// minReportSize leaves an initialization packet one byte of data.
	minReportSize = 8
)

// USBConfig says what a key is on USB besides an authenticator. The zero value
// is a key that keeps to the specification.
type USBConfig struct {
	// ReportSize is the length in bytes of every report, both ways: 8 to 64,
	// or 0 for 64. It also sets the largest message: 7609 bytes at 64.
	ReportSize int

	// Vendor has a function for each vendor command that the key knows, 0x40
	// to 0x7F (§11.2.9.3). It gets the data of the request, which is its to
	// keep, and returns the data of the reply. An error is answered with
	// CTAPHID_ERROR, ERR_OTHER. It runs in a goroutine of the USB, never two
	// at a time and never beside a CTAPHID_CBOR command.
	Vendor map[byte]func(data []byte) ([]byte, error)

	// Wink, if not nil, is called for every CTAPHID_WINK. It must not call
	// methods of the USB or its connections.
	Wink func()

	// Faults are there from the start. SetFaults changes them.
	Faults USBFaults
}

// USBFaults are ways to be a key that does not keep to §11.2, or one on a bad
// cable. They combine freely; the zero value has none.
type USBFaults struct {
	// ForeignReports sends, before each report of the key, one like it for a
	// channel of another program.
	ForeignReports bool

	// ForeignInit sends, before each reply to CTAPHID_INIT on the broadcast
	// channel, one with another nonce and another channel: another program was
	// faster.
	ForeignInit bool

	// Busy is how many of the next requests, other than CTAPHID_INIT, are
	// answered with CTAPHID_ERROR, ERR_CHANNEL_BUSY.
	Busy int

	// IgnoreCancel lets a command go on as if no CTAPHID_CANCEL had come.
	IgnoreCancel bool

	// NoKeepalives sends no CTAPHID_KEEPALIVE while a command runs. With
	// IgnoreCancel it is a key that has hung itself up; when the command ends
	// after all, its reply comes unasked.
	NoKeepalives bool

	// LateAnswers keeps the reply to a command that was cancelled until the next
	// request on its channel, other than CTAPHID_INIT, and sends it in front of
	// that one's reply.
	LateAnswers bool

	// WinkSilent never replies to CTAPHID_WINK.
	WinkSilent bool

	// WinkBreaksCBOR loses a CTAPHID_CBOR request that is the first after a
	// CTAPHID_WINK: it is neither run nor answered. A pause of 250 ms, or a
	// CTAPHID_INIT, prevents that.
	WinkBreaksCBOR bool

	// FlipCapabilities are the capability bits (§11.2.9.1.3) that the reply to
	// CTAPHID_INIT tells wrong.
	FlipCapabilities byte

	// UnplugAfter pulls the key out when so many reports, counting both
	// directions, have crossed the cable since the key was plugged in or
	// SetFaults was called. 0 is never. A key that is pulled out after an output
	// report no longer acts on it.
	UnplugAfter int

	// Filter, if not nil, sees every report on the cable, after the faults
	// above, and returns the reports that arrive in its place: none if it is
	// lost, two if it is doubled, others if it is garbled or delayed. A key that
	// falls silent in the middle of a reply is a Filter that returns nothing
	// from some n on; n counts the reports of that direction, from 0, since the
	// key was plugged in or SetFaults was called. The report belongs to the
	// Filter. What it returns is cut to the report size; output reports are
	// filled up with zeros, and input reports may be short or empty. Filter must
	// not call methods of the USB or its connections.
	Filter func(d USBDirection, n int, report []byte) [][]byte
}

// USBDirection is the way a report goes.
type USBDirection uint8

// The two directions, by their names in the HID specification.
const (
	USBOutput USBDirection = iota // from the host to the key
	USBInput                      // from the key to the host
)

// A USB is an authenticator in a USB port that exists only in this program. It
// speaks CTAPHID (CTAP 2.3 §11.2): CTAPHID_INIT, PING, WINK, LOCK, CBOR, CANCEL,
// MSG and the vendor commands of its USBConfig. A key without U2F refuses
// CTAPHID_MSG with ERR_INVALID_CMD, and CAPABILITY_NMSG says so; one of U2F
// alone has no CAPABILITY_CBOR and refuses CTAPHID_CBOR likewise.
//
// Open gives what a program gets that opens the key's device node. Any number
// of connections may be open; as with a real node they share the one key, and
// each hears every report it sends.
//
// All methods are safe for use by several goroutines, and all may be called
// while the authenticator asks its user for something, by the function that is
// asked, too.
type USB struct {
	core       usbCore
	config     USBConfig
	reportSize int

	mu      sync.Mutex
	plugged bool
	conns   map[*USBConn]struct{}

	// The key's own state, which pulling it out clears.
	transaction *usbTransaction // nil: idle
	channels    []uint32        // least recently used first
	locked      uint32          // the channel that holds the lock
	lockedUntil time.Time
	winked      time.Time
	late        *usbMessage // the reply that LateAnswers holds back

	lastChannel uint32 // counts on, so that no old channel is right after plugging in again

	faults  USBFaults
	crossed [2]int // reports that crossed the cable, by direction

	// One goroutine at most is at work on the authenticator: a command that
	// was aborted may take time to notice, and the next must wait for it.
	working    bool
	powerCycle bool            // before anything else
	next       *usbTransaction // what to run then
}

// usbCore is what the USB needs of an Authenticator.
type usbCore interface {
	Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error)
	Msg(ctx context.Context, apdu []byte) ([]byte, error)
	PowerCycle()
	protocols() (u2f, ctap2 bool)
}

// A usbMessage is what a channel sends or receives as one (§11.2.4).
type usbMessage struct {
	channel uint32
	command byte
	data    []byte
}

// A usbTransaction is a request from its first packet to the last of its reply
// (§11.2.5.1). There is never more than one.
type usbTransaction struct {
	usbMessage
	length   int  // of the request; data grows to it
	sequence byte // of the packet that is due

	due   time.Time   // when the request's next packet is too late
	timer *time.Timer // for that; while the command runs, for its keepalives

	ctx       context.Context // of the command that runs; nil until it does
	cancel    context.CancelFunc
	cancelled bool
	status    byte // what the last keepalive said, or the next will
}

// PlugIn puts the authenticator into a USB port, which powers it up, as
// PowerCycle does. What Open then returns takes the place of a key's device
// node:
//
//	usb := key.PlugIn(virtual.USBConfig{})
//	defer usb.Unplug()
//	conn, err := usb.Open()
//	…
//	dev, err := hid.New(ctx, conn)
//
// An authenticator has one plug: it should not be in two ports at a time. PlugIn
// cannot fail; Open does for a ReportSize that is out of range.
func (a *Authenticator) PlugIn(config USBConfig) *USB {
	return newUSB(port{a, transportUSB}, config)
}

func newUSB(core usbCore, config USBConfig) *USB {
	u := &USB{core: core, config: config, reportSize: config.ReportSize}
	if u.reportSize == 0 {
		u.reportSize = ctap.HIDReportSize
	}
	u.SetFaults(config.Faults)
	u.PlugIn()
	return u
}

// PlugIn plugs a key in again that Unplug, or the fault UnplugAfter, pulled
// out: the authenticator is powered up, without the channels and the volatile
// state that it had. The connections from before stay broken. PlugIn does
// nothing if the key is plugged in.
func (u *USB) PlugIn() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.plugged {
		return
	}
	u.plugged = true
	u.crossed = [2]int{}
	u.conns = make(map[*USBConn]struct{})
	u.cyclePower()
}

// Unplug pulls the key out. A command that runs is cancelled, the
// authenticator is power-cycled, and every connection is broken: its Write
// fails at once, its Read when it has returned what the host had received
// already, as a hidraw node does, both with an error for which
// errors.Is(err, hid.ErrDeviceGone) holds. Unplug does nothing if the key is
// not plugged in.
//
// Unplug leaves nothing running but a command that does not notice its
// cancellation at once; the power cycle then follows that command.
func (u *USB) Unplug() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.plugged {
		return
	}
	u.pullOut()
	u.cyclePower()
}

// SetFaults replaces the faults of the key and restarts the counts of
// UnplugAfter and Filter.
func (u *USB) SetFaults(faults USBFaults) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = faults
	u.crossed = [2]int{}
}

// Open opens a connection to the key. It fails if the key is not plugged in,
// with an error for which errors.Is(err, hid.ErrDeviceGone) holds, and if
// USBConfig.ReportSize is out of range.
func (u *USB) Open() (*USBConn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reportSize < minReportSize || u.reportSize > ctap.HIDReportSize {
		return nil, fmt.Errorf("virtual: report size %d is not within %d and %d",
			u.reportSize, minReportSize, ctap.HIDReportSize)
	}
	if !u.plugged {
		return nil, errUnplugged
	}
	c := &USBConn{usb: u}
	c.changed.L = &u.mu
	u.conns[c] = struct{}{}
	return c, nil
}

var (
	errUnplugged  = fmt.Errorf("virtual: key unplugged: %w", ctap.ErrDeviceGone)
	errConnClosed = fmt.Errorf("virtual: %w", ctap.ErrClosed)
)

// The rest of USB runs with mu held.

// pullOut breaks the connections and clears what does not outlive the key's
// power. The authenticator's own volatile state is left to the caller.
func (u *USB) pullOut() {
	u.plugged = false
	for c := range u.conns {
		c.gone = true
		c.changed.Broadcast()
	}
	u.conns = nil
	u.abort()
	u.channels = nil
	u.locked = 0
	u.winked = time.Time{}
	u.late = nil
}

// receive acts on an output report.
func (u *USB) receive(report []byte) {
	channel := binary.BigEndian.Uint32(report)
	if report[4]&ctap.HIDInitBit == 0 {
		u.receiveContinuation(channel, report[4], report[5:])
		return
	}
	u.receiveInitialization(usbMessage{channel, report[4] &^ ctap.HIDInitBit, report[7:]},
		int(binary.BigEndian.Uint16(report[5:])))
}

// receiveInitialization acts on the first packet of a message of length bytes.
func (u *USB) receiveInitialization(packet usbMessage, length int) {
	channel, command := packet.channel, packet.command
	if command == ctap.HIDCancel {
		// Never answered, not even with an error (§11.2.9.1.5).
		u.receiveCancel(channel)
		return
	}
	if channel == ctap.HIDBroadcast {
		if command != ctap.HIDInit {
			u.sendError(channel, ctap.HIDErrInvalidChannel)
			return
		}
	} else if i := slices.Index(u.channels, channel); i < 0 { // 0 is never among them
		u.sendError(channel, ctap.HIDErrInvalidChannel)
		return
	} else {
		u.channels = append(slices.Delete(u.channels, i, i+1), channel)
	}

	t := u.transaction
	if command == ctap.HIDInit && (length <= len(packet.data) || t == nil || t.channel == channel) {
		// INIT is no transaction: another channel's, and another's lock, do
		// not stand in its way, and they survive it. Only where reports are so
		// short that INIT needs several is it a message like others.
		if length != ctap.HIDNonceLength {
			u.sendError(channel, ctap.HIDErrInvalidLen)
			return
		}
		if t != nil && t.channel == channel {
			u.abort()
		}
		if length <= len(packet.data) {
			u.initialize(channel, packet.data[:length])
		} else {
			u.begin(packet, length)
		}
		return
	}

	if t != nil {
		if t.channel == channel && t.ctx == nil {
			// A message begins in the middle of another.
			u.abort()
			u.sendError(channel, ctap.HIDErrInvalidSeq)
			return
		}
		u.sendError(channel, ctap.HIDErrChannelBusy)
		return
	}
	if u.locked != 0 && u.locked != channel && time.Now().Before(u.lockedUntil) {
		u.sendError(channel, ctap.HIDErrChannelBusy)
		return
	}
	if u.faults.Busy > 0 {
		u.faults.Busy--
		u.sendError(channel, ctap.HIDErrChannelBusy)
		return
	}
	if u.late != nil && u.late.channel == channel {
		late := *u.late
		u.late = nil
		u.send(late)
		if !u.plugged { // UnplugAfter
			return
		}
	}
	if code := u.check(command, length); code != 0 {
		u.sendError(channel, code)
		return
	}
	u.begin(packet, length)
}

// check returns the error code for a request that is known from its first
// packet to be wrong, 0 if it is not.
func (u *USB) check(command byte, length int) byte {
	valid := true
	u2f, ctap2 := u.core.protocols()
	switch command {
	case ctap.HIDPing:
	case ctap.HIDMsg:
		if !u2f {
			return ctap.HIDErrInvalidCmd
		}
	case ctap.HIDWink:
		valid = length == 0
	case ctap.HIDLock:
		valid = length == 1
	case ctap.HIDCBOR:
		if !ctap2 {
			return ctap.HIDErrInvalidCmd
		}
		valid = length >= 1
	default:
		if command < ctap.HIDVendorFirst || u.config.Vendor[command] == nil {
			return ctap.HIDErrInvalidCmd
		}
	}
	if !valid || length > u.maxMessage() {
		return ctap.HIDErrInvalidLen
	}
	return 0
}

// maxMessage returns the length of the longest message (§11.2.4).
func (u *USB) maxMessage() int {
	return u.reportSize - 7 + (ctap.HIDMaxSequence+1)*(u.reportSize-5)
}

// begin starts the transaction of the request whose first packet is given.
func (u *USB) begin(packet usbMessage, length int) {
	t := &usbTransaction{usbMessage: packet, length: length}
	t.data = make([]byte, 0, length)
	u.transaction = t
	u.extend(t, packet.data)
}

// receiveContinuation acts on a further packet of a message. One that
// continues nothing is ignored (§11.2.5.4).
func (u *USB) receiveContinuation(channel uint32, sequence byte, data []byte) {
	t := u.transaction
	if t == nil || t.channel != channel || t.ctx != nil {
		return
	}
	if sequence != t.sequence {
		u.abort()
		u.sendError(channel, ctap.HIDErrInvalidSeq)
		return
	}
	t.sequence++
	u.extend(t, data)
}

// extend adds the data of a packet to the request, and executes the request
// when it is complete.
func (u *USB) extend(t *usbTransaction, data []byte) {
	t.data = append(t.data, data[:min(len(data), t.length-len(t.data))]...)
	if len(t.data) == t.length {
		t.stop()
		u.execute(t)
		return
	}
	t.due = time.Now().Add(messageTimeout)
	if t.timer != nil {
		t.timer.Reset(messageTimeout)
		return
	}
	t.timer = time.AfterFunc(messageTimeout, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		// A packet may have come after the timer fired and before this had
		// the lock.
		if u.transaction == t && t.ctx == nil && !time.Now().Before(t.due) {
			u.abort()
			u.sendError(t.channel, ctap.HIDErrMsgTimeout)
		}
	})
}

// execute acts on a complete request.
func (u *USB) execute(t *usbTransaction) {
	switch t.command {
	case ctap.HIDInit:
		u.transaction = nil
		u.initialize(t.channel, t.data)
	case ctap.HIDPing:
		u.reply(t, t.data)
	case ctap.HIDWink:
		u.winked = time.Now()
		if u.config.Wink != nil {
			u.config.Wink()
		}
		if u.faults.WinkSilent {
			u.transaction = nil
			return
		}
		u.reply(t, nil)
	case ctap.HIDLock:
		if t.data[0] > ctap.HIDMaxLockSeconds {
			u.transaction = nil
			u.sendError(t.channel, ctap.HIDErrInvalidPar)
			return
		}
		u.locked = t.channel
		u.lockedUntil = time.Now().Add(time.Duration(t.data[0]) * time.Second)
		u.reply(t, nil)
	case ctap.HIDCBOR:
		broken := u.faults.WinkBreaksCBOR && time.Since(u.winked) < winkRecovery
		u.winked = time.Time{}
		if broken {
			u.transaction = nil
			return
		}
		u.start(t)
	default:
		u.start(t)
	}
}

// initialize answers INIT (§11.2.9.1.3): on the broadcast channel with a new
// channel, on any other with that one.
func (u *USB) initialize(channel uint32, nonce []byte) {
	allocated := channel
	if channel == ctap.HIDBroadcast {
		allocated = u.allocate()
		if u.faults.ForeignInit {
			other := bytes.Clone(nonce)
			other[0] ^= 0xFF
			u.send(u.initReply(channel, other, foreignChannel))
		}
	}
	u.winked = time.Time{}
	u.send(u.initReply(channel, nonce, allocated))
}

func (u *USB) initReply(channel uint32, nonce []byte, allocated uint32) usbMessage {
	capabilities := byte(ctap.HIDCapabilityWink)
	u2f, ctap2 := u.core.protocols()
	if ctap2 {
		capabilities |= ctap.HIDCapabilityCBOR
	}
	if !u2f {
		capabilities |= ctap.HIDCapabilityNMSG
	}
	data := make([]byte, 0, ctap.HIDInitLength)
	data = append(data, nonce...)
	data = binary.BigEndian.AppendUint32(data, allocated)
	data = append(data, ctap.HIDVersion)
	data = append(data, 1, 2, 3) // the device's own version
	data = append(data, capabilities^u.faults.FlipCapabilities)
	return usbMessage{channel, ctap.HIDInit, data}
}

// allocate returns a new channel. If the table is full, the channel that was
// idle for longest makes room.
func (u *USB) allocate() uint32 {
	if len(u.channels) == maxChannels {
		i := slices.IndexFunc(u.channels, func(channel uint32) bool {
			busy := u.transaction != nil && u.transaction.channel == channel
			return !busy && channel != u.locked
		})
		u.channels = slices.Delete(u.channels, i, i+1)
	}
	for {
		u.lastChannel++
		switch {
		case u.lastChannel == 0, u.lastChannel == ctap.HIDBroadcast, u.lastChannel == foreignChannel:
		case slices.Contains(u.channels, u.lastChannel):
		default:
			u.channels = append(u.channels, u.lastChannel)
			return u.lastChannel
		}
	}
}

// start has the authenticator, or a vendor command's function, run a request.
func (u *USB) start(t *usbTransaction) {
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.status = ctap.KeepaliveProcessing
	if t.command == ctap.HIDCBOR {
		t.timer = time.AfterFunc(keepaliveInterval, func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.keepalive(t, t.status)
		})
	}
	u.next = t
	u.workApart()
}

// keepalive tells the host that a command still runs.
func (u *USB) keepalive(t *usbTransaction, status byte) {
	if u.transaction != t {
		return
	}
	t.status = status
	if !u.faults.NoKeepalives {
		u.send(usbMessage{t.channel, ctap.HIDKeepalive, []byte{status}})
	}
	if u.transaction == t { // the key may have been pulled out meanwhile
		t.timer.Reset(keepaliveInterval)
	}
}

// cyclePower power-cycles the authenticator: now, or after the command that is
// at work on it. It gives mu up meanwhile, and so is only called at a method's
// end.
func (u *USB) cyclePower() {
	u.powerCycle = true
	if u.working {
		return
	}
	u.working = true
	u.cyclePowerNow()
	u.working = false
	u.workApart() // with mu given up, a command may have come
}

func (u *USB) cyclePowerNow() {
	u.powerCycle = false
	u.mu.Unlock()
	defer u.mu.Lock()
	u.core.PowerCycle()
}

// workApart has a goroutine do what there is to do on the authenticator, until
// there is nothing more.
func (u *USB) workApart() {
	if u.working || !u.powerCycle && u.next == nil {
		return
	}
	u.working = true
	go func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		for u.powerCycle || u.next != nil {
			if u.powerCycle {
				u.cyclePowerNow()
				continue
			}
			t := u.next
			u.next = nil
			data, err := u.run(t)
			u.finish(t, data, err)
		}
		u.working = false
	}()
}

// run runs a command. It gives mu up meanwhile.
func (u *USB) run(t *usbTransaction) ([]byte, error) {
	u.mu.Unlock()
	defer u.mu.Lock()
	defer t.cancel()
	switch t.command {
	case ctap.HIDCBOR:
	case ctap.HIDMsg:
		return u.core.Msg(t.ctx, t.data)
	default:
		return u.config.Vendor[t.command](t.data)
	}
	return u.core.Exchange(t.ctx, t.data, func(status byte) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if status != t.status {
			u.keepalive(t, status)
		}
	})
}

// finish replies with what a command returned. Nobody waits for it if the
// transaction was aborted.
func (u *USB) finish(t *usbTransaction, data []byte, err error) {
	if u.transaction != t {
		return
	}
	t.stop()
	switch {
	case err != nil && t.cancelled:
		data = []byte{ctap.StatusKeepaliveCancel}
	case err != nil || len(data) > u.maxMessage():
		u.transaction = nil
		u.sendError(t.channel, ctap.HIDErrOther)
		return
	}
	if t.cancelled && u.faults.LateAnswers {
		u.transaction = nil
		u.late = &usbMessage{t.channel, t.command, data}
		return
	}
	u.reply(t, data)
}

// receiveCancel cancels the CBOR command that runs on the channel, if one
// does (§11.2.9.1.5). The command's own reply says what became of it.
func (u *USB) receiveCancel(channel uint32) {
	t := u.transaction
	if t == nil || t.channel != channel || t.command != ctap.HIDCBOR || t.ctx == nil || u.faults.IgnoreCancel {
		return
	}
	t.cancelled = true
	t.cancel()
	if u.next == t {
		// It still waits for a command that was aborted before.
		u.next = nil
		u.finish(t, nil, context.Canceled)
	}
}

// abort ends the transaction without a reply.
func (u *USB) abort() {
	t := u.transaction
	if t == nil {
		return
	}
	u.transaction = nil
	t.stop()
	if t.ctx != nil {
		t.cancel()
	}
	if u.next == t {
		u.next = nil
	}
}

// stop stops the timer of the transaction.
func (t *usbTransaction) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// reply ends the transaction with its reply.
func (u *USB) reply(t *usbTransaction, data []byte) {
	u.transaction = nil
	u.send(usbMessage{t.channel, t.command, data})
}

func (u *USB) sendError(channel uint32, code byte) {
	u.send(usbMessage{channel, ctap.HIDError, []byte{code}})
}

// send sends a message of at most maxMessage bytes in input reports.
func (u *USB) send(m usbMessage) {
	header := binary.BigEndian.AppendUint32(nil, m.channel)
	header = append(header, m.command|ctap.HIDInitBit)
	header = binary.BigEndian.AppendUint16(header, uint16(len(m.data)))
	for sequence := byte(0); ; sequence++ {
		report := make([]byte, u.reportSize)
		n := copy(report, header)
		m.data = m.data[copy(report[n:], m.data):]
		if u.faults.ForeignReports {
			foreign := bytes.Clone(report)
			binary.BigEndian.PutUint32(foreign, foreignChannel)
			u.input(foreign)
		}
		u.input(report)
		if len(m.data) == 0 {
			return
		}
		header = append(header[:4], sequence)
	}
}

// input sends an input report to every connection.
func (u *USB) input(report []byte) {
	for _, report := range u.cross(USBInput, report) {
		report = report[:min(len(report), u.reportSize)]
		for c := range u.conns {
			// A full queue loses the newest, as a hidraw node's does.
			if len(c.queue) < queueLength {
				c.queue = append(c.queue, report)
				c.changed.Broadcast()
			}
		}
	}
	u.unplugIfDue()
}

// output receives an output report from a connection.
func (u *USB) output(report []byte) {
	arrived := u.cross(USBOutput, bytes.Clone(report))
	u.unplugIfDue()
	for _, report := range arrived {
		if !u.plugged {
			return
		}
		whole := make([]byte, u.reportSize)
		copy(whole, report)
		u.receive(whole)
	}
}

// cross counts a report and returns what the cable makes of it.
func (u *USB) cross(d USBDirection, report []byte) [][]byte {
	if !u.plugged {
		return nil
	}
	n := u.crossed[d]
	u.crossed[d]++
	if u.faults.Filter == nil {
		return [][]byte{report}
	}
	return u.faults.Filter(d, n, report)
}

func (u *USB) unplugIfDue() {
	limit := u.faults.UnplugAfter
	if u.plugged && limit > 0 && u.crossed[USBInput]+u.crossed[USBOutput] >= limit {
		u.pullOut()
		u.powerCycle = true
		u.workApart()
	}
}

// A USBConn is an open connection to a key in a USB port. It is a hid.Conn.
// All methods are safe for use by several goroutines.
type USBConn struct {
	usb *USB

	// Guarded by usb.mu, which changed.L is.
	changed sync.Cond
	queue   [][]byte
	closed  bool
	gone    bool
	expired bool // the read deadline has passed
	timer   *time.Timer
}

// ReportSize returns the length in bytes of every report, both ways.
func (c *USBConn) ReportSize() int { return c.usb.reportSize }

// Read waits for one input report and copies it to p, which should have room
// for it: what does not fit is lost. It returns the number of bytes, which is
// the report size unless a Filter changed that. There is no report ID in front.
//
// It fails with an error for which errors.Is holds for os.ErrDeadlineExceeded
// after the read deadline, for hid.ErrDeviceGone when the key was unplugged,
// and for hid.ErrClosed after Close.
//
// A connection keeps 512 reports that have not been read. A program that reads
// none for longer misses later ones, its own replies among them.
func (c *USBConn) Read(p []byte) (int, error) {
	c.usb.mu.Lock()
	defer c.usb.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, errConnClosed
		case c.expired:
			return 0, os.ErrDeadlineExceeded
		case len(c.queue) > 0:
			n := copy(p, c.queue[0])
			c.queue[0] = nil
			c.queue = c.queue[1:]
			return n, nil
		case c.gone:
			return 0, errUnplugged
		}
		c.changed.Wait()
	}
}

// Write sends one output report, which has exactly the report size, without a
// report ID in front. It never waits: the key has acted on the report, or begun
// to, when Write returns. The errors are those of Read, but for the deadline.
func (c *USBConn) Write(p []byte) (int, error) {
	c.usb.mu.Lock()
	defer c.usb.mu.Unlock()
	switch {
	case c.closed:
		return 0, errConnClosed
	case c.gone:
		return 0, errUnplugged
	case len(p) != c.usb.reportSize:
		return 0, fmt.Errorf("virtual: output report of %d bytes, where the key's have %d", len(p), c.usb.reportSize)
	}
	c.usb.output(p)
	return len(p), nil
}

// SetReadDeadline sets when Read gives up, one that waits already included.
// The zero time is never. It fails only after Close.
func (c *USBConn) SetReadDeadline(t time.Time) error {
	c.usb.mu.Lock()
	defer c.usb.mu.Unlock()
	if c.closed {
		return errConnClosed
	}
	c.stopTimer()
	c.expired = false
	if t.IsZero() {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		c.expired = true
		c.changed.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		c.usb.mu.Lock()
		defer c.usb.mu.Unlock()
		if c.timer == timer {
			c.expired = true
			c.changed.Broadcast()
		}
	})
	c.timer = timer
	return nil
}

func (c *USBConn) stopTimer() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// Close closes the connection. A Read that waits fails. The key notices
// nothing: a command that this connection began goes on, as on a real one. A
// second Close does nothing.
func (c *USBConn) Close() error {
	c.usb.mu.Lock()
	defer c.usb.mu.Unlock()
	c.closed = true
	c.stopTimer()
	c.queue = nil
	delete(c.usb.conns, c)
	c.changed.Broadcast()
	return nil
}
