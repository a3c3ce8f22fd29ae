package hid

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

var errUnplugged = errors.New("no such device")

// A key is a Conn to a device in memory. It does what the specification says
// unless a test tells it otherwise.
type key struct {
	in, out      int
	capabilities byte
	// serve, if it returns true, has dealt with a message in place of obey.
	serve func(m message) bool
	// step is called before and behind each report, in both directions.
	step func()

	mu       sync.Mutex
	changed  chan struct{} // closed at each change
	deadline time.Time
	queue    [][]byte
	broken   error             // what Read and Write return
	parts    map[uint32][]byte // messages that are not complete
	wanted   map[uint32]int
	log      []string // the messages and incomplete ones that it got
	channel  uint32   // the last that it gave away
}

type message struct {
	channel uint32
	command byte
	data    []byte
}

func (m message) String() string {
	data := fmt.Sprintf(" %x", m.data)
	if m.command == ctap.HIDInit || len(m.data) > 8 {
		data = fmt.Sprintf(" (%d)", len(m.data))
	}
	if len(m.data) == 0 {
		data = ""
	}
	return fmt.Sprintf("%s %x%s", commandName(m.command), m.channel, data)
}

func newKey() *key {
	return &key{
		in: 64, out: 64,
		capabilities: ctap.HIDCapabilityCBOR | ctap.HIDCapabilityWink,
		changed:      make(chan struct{}),
		parts:        map[uint32][]byte{},
		wanted:       map[uint32]int{},
		channel:      0x10,
	}
}

// device opens a Device on the key, which is closed behind the test.
func (k *key) device(t testing.TB) *Device {
	t.Helper()
	d, err := New(t.Context(), k, WithReportSizes(k.in, k.out))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (k *key) update(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *key) SetReadDeadline(t time.Time) error {
	k.update(func() { k.deadline = t })
	return nil
}

func (k *key) Close() error {
	k.update(func() { k.broken = net.ErrClosed })
	return nil
}

// unplug makes reading and writing fail.
func (k *key) unplug() { k.update(func() { k.broken = errUnplugged }) }

// send queues reports as they are.
func (k *key) send(reports ...[]byte) { k.update(func() { k.queue = append(k.queue, reports...) }) }

// answer queues the reports of a message.
func (k *key) answer(channel uint32, command byte, data []byte) {
	k.send(reports(k.in, channel, command, data)...)
}

// reports frames a message.
func reports(size int, channel uint32, command byte, data []byte) [][]byte {
	first := binary.BigEndian.AppendUint32(nil, channel)
	first = append(first, command|0x80, byte(len(data)>>8), byte(len(data)))
	n := min(len(data), size-7)
	all := [][]byte{append(first, data[:n]...)}
	for seq := byte(0); n < len(data); seq++ {
		m := min(len(data)-n, size-5)
		next := append(binary.BigEndian.AppendUint32(nil, channel), seq)
		all = append(all, append(next, data[n:n+m]...))
		n += m
	}
	for i := range all {
		all[i] = append(all[i], make([]byte, size-len(all[i]))...)
	}
	return all
}

func (k *key) stepped() {
	if k.step != nil {
		k.step()
	}
}

func (k *key) Read(p []byte) (int, error) {
	k.stepped()
	defer k.stepped()
	for {
		k.mu.Lock()
		deadline, changed, broken := k.deadline, k.changed, k.broken
		switch {
		case broken != nil:
			k.mu.Unlock()
			return 0, broken
		case !deadline.IsZero() && !time.Now().Before(deadline):
			k.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(k.queue) > 0:
			n := copy(p, k.queue[0])
			k.queue = k.queue[1:]
			k.mu.Unlock()
			return n, nil
		}
		k.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			expired = time.After(time.Until(deadline))
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

func (k *key) Write(p []byte) (int, error) {
	k.stepped()
	defer k.stepped()
	k.mu.Lock()
	broken := k.broken
	k.mu.Unlock()
	if broken != nil {
		return 0, broken
	}
	if len(p) != k.out {
		return 0, fmt.Errorf("a report of %d bytes", len(p))
	}
	if m, complete := k.collect(p); complete {
		k.mu.Lock()
		k.log = append(k.log, m.String())
		k.mu.Unlock()
		if k.serve == nil || !k.serve(m) {
			k.obey(m)
		}
	}
	return len(p), nil
}

// collect puts a message together.
func (k *key) collect(p []byte) (message, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	channel := binary.BigEndian.Uint32(p)
	if p[4]&0x80 != 0 {
		k.parts[channel] = append([]byte{p[4] &^ 0x80}, p[7:]...)
		k.wanted[channel] = int(binary.BigEndian.Uint16(p[5:]))
	} else {
		k.parts[channel] = append(k.parts[channel], p[5:]...)
	}
	part, wanted := k.parts[channel], k.wanted[channel]
	if len(part) < 1+wanted {
		return message{}, false
	}
	delete(k.parts, channel)
	return message{channel, part[0], part[1 : 1+wanted]}, true
}

// obey does what the specification says.
func (k *key) obey(m message) {
	switch m.command {
	case ctap.HIDInit:
		k.answer(m.channel, m.command, k.welcome(m))
	case ctap.HIDCBOR:
		k.answer(m.channel, m.command, append([]byte{0}, m.data...))
	case ctap.HIDMsg:
		k.answer(m.channel, m.command, append(m.data, 0x90, 0x00))
	case ctap.HIDPing, 0x41:
		k.answer(m.channel, m.command, m.data)
	case ctap.HIDWink, ctap.HIDLock:
		k.answer(m.channel, m.command, nil)
	case ctap.HIDCancel:
	default:
		k.answer(m.channel, ctap.HIDError, []byte{ctap.HIDErrInvalidCmd})
	}
}

// welcome is the reply to CTAPHID_INIT.
func (k *key) welcome(m message) []byte {
	channel := m.channel
	if channel == ctap.HIDBroadcast {
		k.mu.Lock()
		k.channel++
		channel = k.channel
		k.mu.Unlock()
	}
	return append(binary.BigEndian.AppendUint32(m.data[:8:8], channel), 2, 5, 1, 3, k.capabilities)
}

// taken returns the messages that the key got since it was last asked.
func (k *key) taken() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	log := k.log
	k.log = nil
	return log
}

// counting returns n bytes that differ from their neighbours.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}
