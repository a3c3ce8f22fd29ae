package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// A bus is an authenticator on USB, report by report (§11.2.4). Its methods end
// the trial when what comes is no CTAPHID.
type bus struct {
	x        *trial
	reports  Reports
	size     int // of a report
	channels map[uint32]bool
	open     map[uint32]bool // channels with a request that nothing has ended
	read     int             // reports
	told     bool            // that the authenticator waits
}

const (
	// promptly is how long an authenticator may take for what needs no person.
	promptly = 5 * time.Second
	// aWhile is how long nothing must come where nothing is to come.
	aWhile = 300 * time.Millisecond
	// maxReports bounds what is read in one trial: that of a device that never
	// stops sending ends before its time does.
	maxReports = 1 << 12
)

var errNoAnswer = errors.New("no answer")

// bus closes the authenticator and opens its reports in its place, until the
// trial ends.
func (x *trial) bus() *bus {
	x.h.close()
	reports, err := x.h.config.Target.HID(x.ctx)
	x.must(err)
	b := &bus{x: x, reports: reports, size: ctap.HIDReportSize, channels: map[uint32]bool{}, open: map[uint32]bool{}}
	if sized, ok := reports.(interface{ ReportSize() int }); ok {
		b.size = sized.ReportSize()
	}
	shut := sync.OnceFunc(func() { _ = reports.Close() })
	// A Read that knows no deadline must not outlast the case.
	stop := context.AfterFunc(x.ctx, shut)
	x.ends = append(x.ends, func() {
		b.leave()
		stop()
		shut()
	})
	if b.size < 8 || b.size > ctap.HIDReportSize {
		x.fatalf("reports of %d bytes", b.size)
	}
	return b
}

// leave ends what the trial has left unfinished, or the next would find the
// authenticator busy.
func (b *bus) leave() {
	for channel := range b.open {
		_, _ = b.reports.Write(b.first(channel, ctap.HIDInit, ctap.HIDNonceLength, random(ctap.HIDNonceLength)))
	}
}

// largest is the length of the largest message.
func (b *bus) largest() int { return b.size - 7 + (ctap.HIDMaxSequence+1)*(b.size-5) }

// A packet is what a report carries.
type packet struct {
	channel  uint32
	first    bool // an initialization packet, and command and length are known
	command  byte
	length   int
	sequence byte
	data     []byte
}

func parsePacket(report []byte) packet {
	p := packet{channel: binary.BigEndian.Uint32(report), first: report[4]&ctap.HIDInitBit != 0}
	if !p.first {
		p.sequence, p.data = report[4], report[5:]
		return p
	}
	p.command = report[4] &^ ctap.HIDInitBit
	p.length = int(binary.BigEndian.Uint16(report[5:]))
	p.data = report[7:]
	return p
}

func (p packet) String() string {
	if !p.first {
		return fmt.Sprintf("continuation %d on %08X", p.sequence, p.channel)
	}
	return fmt.Sprintf("%s on %08X, %d bytes", hidCommand(p.command), p.channel, p.length)
}

// hidCommand is the name of a CTAPHID command.
func hidCommand(command byte) string {
	name, known := map[byte]string{
		ctap.HIDPing: "PING", ctap.HIDMsg: "MSG", ctap.HIDLock: "LOCK", ctap.HIDInit: "INIT", ctap.HIDWink: "WINK",
		ctap.HIDCBOR: "CBOR", ctap.HIDCancel: "CANCEL", ctap.HIDKeepalive: "KEEPALIVE", ctap.HIDError: "ERROR",
	}[command]
	if !known {
		name = fmt.Sprintf("%02X", command)
	}
	return "CTAPHID_" + name
}

// hidErrors are the codes of CTAPHID_ERROR (§11.2.9.1.6).
var hidErrors = map[byte]string{
	ctap.HIDErrInvalidCmd: "ERR_INVALID_CMD", ctap.HIDErrInvalidPar: "ERR_INVALID_PAR", ctap.HIDErrInvalidLen: "ERR_INVALID_LEN",
	ctap.HIDErrInvalidSeq: "ERR_INVALID_SEQ", ctap.HIDErrMsgTimeout: "ERR_MSG_TIMEOUT", ctap.HIDErrChannelBusy: "ERR_CHANNEL_BUSY",
	ctap.HIDErrLockRequired: "ERR_LOCK_REQUIRED", ctap.HIDErrInvalidChannel: "ERR_INVALID_CHANNEL", ctap.HIDErrOther: "ERR_OTHER",
}

// first makes the report of an initialization packet.
func (b *bus) first(channel uint32, command byte, length int, data []byte) []byte {
	report := binary.BigEndian.AppendUint32(make([]byte, 0, b.size), channel)
	report = binary.BigEndian.AppendUint16(append(report, command|ctap.HIDInitBit), uint16(length))
	return b.filled(report, data)
}

// next makes the report of a continuation packet.
func (b *bus) next(channel uint32, sequence byte, data []byte) []byte {
	report := binary.BigEndian.AppendUint32(make([]byte, 0, b.size), channel)
	return b.filled(append(report, sequence), data)
}

// filled adds as much of the data as there is room for, and zeros.
func (b *bus) filled(report, data []byte) []byte {
	report = append(report, data[:min(len(data), b.size-len(report))]...)
	return append(report, make([]byte, b.size-len(report))...)
}

// packets are the reports of a message.
func (b *bus) packets(channel uint32, command byte, data []byte) [][]byte {
	reports := [][]byte{b.first(channel, command, len(data), data)}
	data = data[min(len(data), b.size-7):]
	for sequence := byte(0); len(data) > 0; sequence++ {
		reports = append(reports, b.next(channel, sequence, data))
		data = data[min(len(data), b.size-5):]
	}
	return reports
}

// write sends reports.
func (b *bus) write(reports ...[]byte) {
	for _, report := range reports {
		p := parsePacket(report)
		b.channels[p.channel] = true
		if p.first && p.command != ctap.HIDCancel && p.channel != ctap.HIDBroadcast {
			b.open[p.channel], b.told = true, false
		}
		b.x.h.note(Exchange{Command: p.String(), Request: hex.EncodeToString(report)})
		_, err := b.reports.Write(report)
		if err != nil {
			b.x.fatalf("report cannot be sent: %w", err)
		}
	}
}

// send sends a message.
func (b *bus) send(channel uint32, command byte, data ...byte) {
	b.write(b.packets(channel, command, data)...)
}

// packet returns the next packet on a channel of this trial; false: none came in
// time. Other programs may use other channels.
func (b *bus) packet(until time.Time) (packet, bool) {
	if err := b.reports.SetReadDeadline(until); err != nil {
		b.x.fatalf("reports cannot be read: %w", err)
	}
	for b.read < maxReports {
		b.read++
		if !time.Now().Before(until) {
			return packet{}, false
		}
		report := make([]byte, b.size+1)
		n, err := b.reports.Read(report)
		var timeout interface{ Timeout() bool }
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
			return packet{}, false
		case err != nil:
			b.x.fatalf("reports cannot be read: %w", err)
		case n == 0:
			continue // some USB stacks have them behind each message
		case n != b.size:
			b.x.fatalf("sends a report of %d bytes, must be %d", n, b.size)
		}
		p := parsePacket(report[:n])
		b.x.h.note(Exchange{Status: p.String(), Reply: hex.EncodeToString(report[:n])})
		if b.channels[p.channel] {
			return p, true
		}
	}
	b.x.fatalf("has sent %d reports and does not stop", maxReports)
	return packet{}, false
}

// A message is what packets make up.
type message struct {
	channel uint32
	command byte
	data    []byte
}

func (m message) String() string {
	if m.command == ctap.HIDError && len(m.data) == 1 {
		if name, known := hidErrors[m.data[0]]; known {
			return fmt.Sprintf("CTAPHID_ERROR, %s on %08X", name, m.channel)
		}
	}
	return fmt.Sprintf("%s of %d bytes on %08X", hidCommand(m.command), len(m.data), m.channel)
}

// message returns the next message, a keepalive or an error included; false:
// none begins in time.
func (b *bus) message(until time.Time) (message, bool) {
	p, ok := b.packet(until)
	if !ok {
		return message{}, false
	}
	if !p.first {
		b.x.fatalf("sends a continuation packet that continues nothing")
	}
	if p.length > b.largest() {
		b.x.fatalf("announces %d bytes, more than the %d that a message can have", p.length, b.largest())
	}
	m := message{p.channel, p.command, bytes.Clone(p.data[:min(len(p.data), p.length)])}
	for sequence := byte(0); len(m.data) < p.length; sequence++ {
		part, ok := b.packet(time.Now().Add(promptly))
		switch {
		case !ok:
			b.x.fatalf("sends %d of the %d bytes that %s announces", len(m.data), p.length, p)
		case part.first || part.channel != m.channel:
			b.x.fatalf("sends %s in the middle of %s", part, p)
		case part.sequence != sequence:
			b.x.fatalf("sends %s, where %d follows", part, sequence)
		}
		m.data = append(m.data, part.data[:min(len(part.data), p.length-len(m.data))]...)
	}
	return m, true
}

// waits takes notice of a keepalive.
func (b *bus) waits(m message) {
	if len(m.data) != 1 || m.data[0] != ctap.KeepaliveProcessing && m.data[0] != ctap.KeepaliveUPNeeded {
		b.x.fatalf("sends a CTAPHID_KEEPALIVE with data %x", m.data)
	}
	if m.data[0] == ctap.KeepaliveUPNeeded && !b.told {
		b.told = true
		b.x.h.waiting()
	}
}

// answer waits for what ends the request on a channel, through its keepalives.
func (b *bus) answer(channel uint32) message {
	for {
		m, ok := b.message(time.Now().Add(promptly))
		switch {
		case !ok:
			b.x.fatalf("%w on %08X", errNoAnswer, channel)
		case m.channel != channel:
			b.x.fatalf("sends %s, where an answer on %08X is due", m, channel)
		case m.command == ctap.HIDKeepalive:
			b.waits(m)
		default:
			delete(b.open, channel)
			return m
		}
	}
}

// ask sends a message and waits for the answer.
func (b *bus) ask(channel uint32, command byte, data ...byte) message {
	b.send(channel, command, data...)
	return b.answer(channel)
}

// answered checks that a message is an answer to a command.
func (b *bus) answered(m message, command byte) message {
	if m.command != command {
		b.x.fatalf("answers %s with %s", hidCommand(command), m)
	}
	return m
}

// refused returns nil if a message is an error with that code.
func refused(m message, code byte) error {
	if m.command == ctap.HIDError && len(m.data) == 1 && m.data[0] == code {
		return nil
	}
	text := fmt.Sprintf("answers %s, must be %s", m, hidErrors[code])
	if m.command != ctap.HIDError {
		return opposite(text)
	}
	return otherwise(text)
}

// quiet checks that nothing comes for a while.
func (b *bus) quiet() {
	if m, ok := b.message(time.Now().Add(aWhile)); ok {
		b.x.fatalf("sends %s, where nothing is to come", m)
	}
}

// works checks that a channel does.
func (b *bus) works(channel uint32) {
	data := random(100)
	if m := b.answered(b.ask(channel, ctap.HIDPing, data...), ctap.HIDPing); !bytes.Equal(m.data, data) {
		b.x.fatalf("CTAPHID_PING returns other data")
	}
}

// An initReply is the answer to CTAPHID_INIT (§11.2.9.1.3).
type initReply struct {
	message
	nonce        []byte
	allocated    uint32
	version      byte
	capabilities byte
}

func (r initReply) can(capability byte) bool { return r.capabilities&capability != 0 }

// init sends CTAPHID_INIT. On the broadcast channel other programs may be
// answered, too.
func (b *bus) init(channel uint32) initReply {
	nonce := random(ctap.HIDNonceLength)
	b.send(channel, ctap.HIDInit, nonce...)
	return b.initialized(channel, nonce)
}

// initialized waits for the answer to a CTAPHID_INIT with that nonce.
func (b *bus) initialized(channel uint32, nonce []byte) initReply {
	for limit := time.Now().Add(promptly); time.Now().Before(limit); {
		m := b.answered(b.answer(channel), ctap.HIDInit)
		if len(m.data) < ctap.HIDInitLength {
			b.x.fatalf("answers CTAPHID_INIT with %d bytes", len(m.data))
		}
		if channel == ctap.HIDBroadcast && !bytes.Equal(m.data[:ctap.HIDNonceLength], nonce) {
			continue
		}
		r := initReply{
			message: m, nonce: nonce, allocated: binary.BigEndian.Uint32(m.data[8:]),
			version: m.data[12], capabilities: m.data[16],
		}
		b.channels[r.allocated] = true
		return r
	}
	b.x.fatalf("%w with the nonce of CTAPHID_INIT", errNoAnswer)
	return initReply{}
}

// channel allocates one.
func (b *bus) channel() uint32 { return b.init(ctap.HIDBroadcast).allocated }

// cbor sends a CTAP message and returns what answers it: its status, and the rest.
func (b *bus) cbor(channel uint32, message ...byte) (status byte, reply []byte) {
	b.send(channel, ctap.HIDCBOR, message...)
	return b.status(channel)
}

// status waits for the answer to a CTAP message.
func (b *bus) status(channel uint32) (status byte, reply []byte) {
	m := b.answered(b.answer(channel), ctap.HIDCBOR)
	if len(m.data) == 0 {
		b.x.fatalf("answers CTAPHID_CBOR with no data")
	}
	return m.data[0], m.data[1:]
}
