package hid

import (
	"encoding/binary"
	"testing"

	"github.com/tapstone/fido/hid/hidtest"
)

// newDevice opens a Device, which is closed behind the test.
func newDevice(t testing.TB, conn Conn, opts ...Option) *Device {
	t.Helper()
	d, err := New(t.Context(), conn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// always answers every message alike.
func always(answer hidtest.Answer) hidtest.Handler {
	return func(hidtest.Message) hidtest.Answer { return answer }
}

// silent is a device that says nothing.
var silent = always(hidtest.Silence())

// message is one on a channel and with a command of its own.
func message(channel uint32, command byte, data []byte) hidtest.Answer {
	return hidtest.Messages(hidtest.Message{Channel: channel, Command: command, Data: data})
}

// taken returns the messages that the key got since it was last asked.
func taken(k *hidtest.Device) []string {
	var all []string
	for _, m := range k.Received() {
		all = append(all, m.String())
	}
	return all
}

// A stepped is a key that calls step, unless nil, before and behind each
// report, in both directions.
type stepped struct {
	*hidtest.Device
	step func()
}

func (s *stepped) stepped() {
	if s.step != nil {
		s.step()
	}
}

func (s *stepped) Read(p []byte) (int, error) {
	s.stepped()
	defer s.stepped()
	return s.Device.Read(p)
}

func (s *stepped) Write(p []byte) (int, error) {
	s.stepped()
	defer s.stepped()
	return s.Device.Write(p)
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

// counting returns n bytes that differ from their neighbours.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}
