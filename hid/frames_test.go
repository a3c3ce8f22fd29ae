package hid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid/hidtest"
	"github.com/tapstone/fido/internal/ctap"
)

// at calls f at the nth moment before or behind a report, in either direction,
// and then never again. It returns how many moments there were.
func (s *stepped) at(n int, f func()) (count *int) {
	count = new(int)
	s.step = func() {
		*count++
		if *count == n+1 {
			f()
		}
	}
	return count
}

// everyMoment runs test with 0, 1, 2 and so on, until there is no such moment.
// test returns how many there were. Each run is a bubble of its own, which
// fails if it leaves a goroutine behind.
func everyMoment(t *testing.T, test func(t *testing.T, n int) int) {
	t.Helper()
	n := 0
	for moments := 1; n <= moments; n++ {
		synctest.Test(t, func(t *testing.T) {
			moments = test(t, n)
			if t.Failed() {
				t.Logf("at moment %d", n)
			}
		})
		if t.Failed() {
			return
		}
	}
	if n < 10 {
		t.Fatalf("only %d moments", n)
	}
}

var (
	question = counting(200) // four packets
	reply    = append([]byte{0}, question...)
)

// A context that ends before or behind any packet leads to the answer, if the
// key has one, or to the context's error, and never spoils the next exchange.
func TestCancelAtEveryPacket(t *testing.T) {
	var (
		finished = hidtest.Answers{ctap.HIDCBOR: hidtest.Keepalive(ctap.KeepaliveProcessing, ctap.KeepaliveUPNeeded).Then(hidtest.Default())}
		obedient = hidtest.Answers{
			ctap.HIDCBOR:   hidtest.Keepalive(ctap.KeepaliveUPNeeded, ctap.KeepaliveUPNeeded),
			ctap.HIDCancel: hidtest.Status(ctap.StatusKeepaliveCancel),
		}
		deaf = hidtest.Answers{
			ctap.HIDCBOR: hidtest.Keepalive(ctap.KeepaliveUPNeeded),
			ctap.HIDPing: hidtest.Silence(),
		}
	)
	for name, test := range map[string]struct {
		device  hidtest.Answers
		command string
		want    []byte // once the key has the whole message
	}{
		"finished":  {finished, "cbor", reply},
		"obedient":  {obedient, "cbor", []byte{ctap.StatusKeepaliveCancel}},
		"deaf":      {deaf, "cbor", nil},
		"ping":      {finished, "ping", nil},
		"deaf ping": {deaf, "ping", nil},
	} {
		t.Run(name, func(t *testing.T) {
			everyMoment(t, func(t *testing.T, n int) int {
				k := hidtest.New(nil)
				s := &stepped{Device: k}
				d := newDevice(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				k.Handle(test.device.Handle)
				taken(k)
				var cancelled time.Time
				count := s.at(n, func() { cancelled = time.Now(); cancel() })
				timer := time.AfterFunc(4*time.Second, cancel) // beyond the last moment
				var answer []byte
				var err error
				if test.command == "ping" {
					answer, err = d.Ping(ctx, question)
				} else {
					answer, err = d.Exchange(ctx, question, nil)
				}
				timer.Stop()
				if took := time.Since(cancelled); !cancelled.IsZero() && took > CancelTimeout {
					t.Errorf("it went on for %v", took)
				}
				log := taken(k)
				switch {
				case n < 6 && (err == nil || len(log) > 0): // before the last of four packets
					t.Errorf("the key got %q", log)
				case err != nil:
					mustMatch(t, err, context.Canceled)
					if test.want != nil && len(log) > 0 {
						t.Error("the answer was thrown away")
					}
				case test.command == "cbor" && !bytes.Equal(answer, test.want):
					t.Errorf("answer %x", answer)
				case test.command == "ping" && !bytes.Equal(answer, question):
					t.Errorf("echo %x", answer)
				}

				s.step = nil
				k.Handle(nil)
				k.Send(message(d.Channel(), ctap.HIDKeepalive, []byte{ctap.KeepaliveUPNeeded}))
				mustAnswer(t, d, getInfo)
				// What may still come was flushed, or left behind.
				switch cancelled := slices.Contains(log, "CTAPHID_CANCEL 11"); {
				case err == nil && cancelled:
					mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_CBOR 11 04")
				case err != nil: // at least one packet was sent
					mustTake(t, k, "CTAPHID_INIT 11 (8)", "CTAPHID_INIT ffffffff (8)", "CTAPHID_CBOR 12 04")
				default:
					mustTake(t, k, "CTAPHID_CBOR 11 04")
				}
				return *count
			})
		})
	}
}

// TestQuirk13: a key that is pulled out before or behind any packet.
func TestQuirk13UnplugAtEveryPacket(t *testing.T) {
	everyMoment(t, func(t *testing.T, n int) int {
		k := hidtest.New(hidtest.Answers{ctap.HIDCBOR: hidtest.Keepalive(ctap.KeepaliveProcessing).Then(hidtest.Default())}.Handle)
		s := &stepped{Device: k}
		count := s.at(n, k.Unplug)
		d, err := New(t.Context(), s)
		if err == nil {
			defer d.Close()
			var answer []byte
			answer, err = d.Exchange(t.Context(), question, nil)
			if err == nil && !bytes.Equal(answer, reply) {
				t.Errorf("answer %x", answer)
			}
			if err == nil && *count > n {
				_, err = d.Exchange(t.Context(), question, nil)
			}
		}
		if err != nil || *count > n {
			mustMatch(t, err, ErrDeviceGone, hidtest.ErrUnplugged)
		}
		return *count
	})
}

// A Device that is closed before or behind any packet.
func TestCloseAtEveryPacket(t *testing.T) {
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("waits=%v", waits), func(t *testing.T) {
			everyMoment(t, func(t *testing.T, n int) int {
				response := hidtest.Keepalive(ctap.KeepaliveProcessing)
				if !waits {
					response = response.Then(hidtest.Default())
				}
				k := hidtest.New(hidtest.Answers{ctap.HIDCBOR: response}.Handle)
				s := &stepped{Device: k}
				d := newDevice(t, s)
				taken(k)
				closing := make(chan error, 1)
				var started time.Time
				count := s.at(n, func() {
					started = time.Now()
					go func() { closing <- d.Close() }()
					synctest.Wait() // until it waits for the exchange
				})
				answer, err := d.Exchange(t.Context(), question, nil)
				if started.IsZero() { // beyond the last moment
					return *count
				}
				if err == nil {
					if !bytes.Equal(answer, reply) {
						t.Errorf("answer %x", answer)
					}
				} else {
					mustMatch(t, err, ErrClosed)
				}
				if err := <-closing; err != nil {
					t.Error(err)
				}
				if took := time.Since(started); took > 0 {
					t.Errorf("it took %v", took)
				}
				if log := taken(k); waits && len(log) > 0 && log[len(log)-1] != "CTAPHID_CANCEL 11" {
					t.Errorf("the key is not told to stop: %q", log)
				}
				_, err = d.Exchange(t.Context(), question, nil)
				mustMatch(t, err, ErrClosed)
				if err := d.Close(); err != nil {
					t.Errorf("closing again: %v", err)
				}
				return *count
			})
		})
	}
}

// Reports of the smallest size: each message, CTAPHID_INIT too, has many.
func TestSmallReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil, hidtest.WithReportSizes(8, 9))
		k.Send(message(ctap.HIDBroadcast, ctap.HIDInit, counting(17)))
		d := newDevice(t, k, WithReportSizes(8, 9))
		if got, want := d.MaxMessageSize(), 2+128*4; got != want {
			t.Errorf("MaxMessageSize = %d, want %d", got, want)
		}
		mustAnswer(t, d, counting(300))
		data := counting(1 + 128*3)
		if echo, err := d.Ping(t.Context(), data); err != nil || !bytes.Equal(echo, data) {
			t.Error(err)
		}
		// What can be sent need not fit into an answer.
		longer := hidtest.Default().Garble(0, func(report []byte) {
			binary.BigEndian.PutUint16(report[5:], uint16(len(data)+1))
		})
		k.Handle(hidtest.Answers{ctap.HIDPing: longer}.Handle)
		_, err := d.Ping(t.Context(), data)
		mustMatch(t, err, ErrFraming)
	})
}

// A nonce in several packets may begin like ours.
func TestSmallReportsForeignNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil, hidtest.WithReportSizes(8, 64))
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			return hidtest.Default().Garble(3, func(report []byte) { report[5] ^= 1 }).Then( // the last byte of the nonce
				hidtest.Reply(m.Data[:3]),
				// Ours, but broken off: a whole one follows.
				hidtest.Default().Cut(2),
				hidtest.Error(ctap.HIDErrOther),
				hidtest.Default(),
			)
		})
		if d := newDevice(t, k, WithReportSizes(8, 64)); d.Channel() != 0x13 {
			t.Errorf("channel %x", d.Channel())
		}
	})
}

func TestReportSizes(t *testing.T) {
	for _, sizes := range [][2]int{{7, 64}, {64, 7}, {64, 1025}, {1025, 64}, {0, 0}, {-1, 64}} {
		if _, err := New(t.Context(), hidtest.New(nil), WithReportSizes(sizes[0], sizes[1])); err == nil {
			t.Errorf("%v is accepted", sizes)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil, hidtest.WithReportSizes(1024, 1024))
		d := newDevice(t, k, WithReportSizes(1024, 1024))
		if d.MaxMessageSize() != 0xFFFF { // BCNT's limit
			t.Errorf("MaxMessageSize = %d", d.MaxMessageSize())
		}
		if _, err := d.Ping(t.Context(), counting(d.MaxMessageSize())); err != nil {
			t.Error(err)
		}
	})
}

// Empty and short reads are passed over.
func TestShortReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		d := newDevice(t, k)
		k.Handle(func(m hidtest.Message) hidtest.Answer {
			parts := []hidtest.Answer{hidtest.Reports(make([]byte, 63))}
			for range maxIdleReads {
				parts = append(parts, message(0x999, m.Command, nil), hidtest.Reports(nil))
			}
			idle := hidtest.Reports(make([][]byte, maxIdleReads-2)...)
			answer := hidtest.Default()
			for n := 3; n >= 0; n-- { // in front of each of its reports
				answer = answer.Insert(n, idle)
			}
			return hidtest.Silence().Then(append(parts, answer)...)
		})
		answer, err := d.Exchange(t.Context(), question, nil)
		if err != nil || !bytes.Equal(answer, reply) {
			t.Fatalf("Exchange = %x, %v", answer, err)
		}
	})
}

// A Conn whose reads bring nothing and do not wait is given up.
func TestReadsWithoutEnd(t *testing.T) {
	d, err := New(t.Context(), &idle{})
	if d != nil {
		t.Error("a Device")
	}
	mustMatch(t, err, ErrNoAnswer, io.ErrNoProgress)
}

type idle struct{ echo }

func (*idle) Read([]byte) (int, error) { return 0, nil }

// A Conn that delivers reports although the deadline is over: the context and
// the limits hold all the same.
func TestDeadlineIgnored(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	_, err := New(ctx, &flood{read: func() {
		if reads++; reads == 1000 {
			cancel()
		}
	}})
	mustMatch(t, err, context.Canceled)

	synctest.Test(t, func(t *testing.T) {
		_, err := New(t.Context(), &flood{read: func() { time.Sleep(time.Millisecond) }})
		mustMatch(t, err, ErrNoAnswer)
	})
}

type flood struct {
	echo
	read func()
}

func (f *flood) Read(p []byte) (int, error) { f.read(); return len(p), nil }

// A deadline is not set for each packet, and one that is left of an earlier wait
// does not shorten a later one.
func TestReadDeadlineKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := hidtest.New(nil)
		c := &deadlines{Device: k}
		d := newDevice(t, c)
		for range 3 {
			mustAnswer(t, d, counting(3000)) // 51 reports each way
		}
		if c.set > 6 {
			t.Errorf("%d deadlines for three exchanges", c.set)
		}

		const nearly = AnswerTimeout - time.Millisecond
		time.Sleep(nearly)
		k.Handle(always(hidtest.Default().Delay(0, nearly).Delay(1, PacketTimeout-time.Millisecond)))
		mustAnswer(t, d, question)
		k.Handle(always(hidtest.Silence()))
		start := time.Now()
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
		if took := time.Since(start); took != AnswerTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

type deadlines struct {
	*hidtest.Device
	set int
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set++
	return d.Device.SetReadDeadline(t)
}

// A Conn that can bound its writes is asked to.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := New(t.Context(), &stuck{})
		mustMatch(t, err, ErrNoAnswer, os.ErrDeadlineExceeded)
		if took := time.Since(start); took != PacketTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// A write that tells the device to cancel gets no more time than the call has left.
func TestCancelWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := hidtest.Keepalive(bytes.Repeat([]byte{ctap.KeepaliveUPNeeded}, 40)...).Pace(cancelAgain / 2)
		k := hidtest.New(nil)
		c := &writeDeadlines{Device: k}
		d := newDevice(t, c)
		k.Handle(always(busy))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		end := time.Now().Add(time.Second + CancelTimeout)
		_, err := d.Exchange(ctx, getInfo, func(byte) { c.cancels = nil })
		mustMatch(t, err, context.DeadlineExceeded)
		if len(c.cancels) < 2 {
			t.Fatalf("told %d times", len(c.cancels))
		}
		for _, deadline := range c.cancels {
			if !deadline.Equal(end) {
				t.Errorf("%v after the end of the call", deadline.Sub(end))
			}
		}
	})
}

type writeDeadlines struct {
	*hidtest.Device
	cancels []time.Time
}

func (d *writeDeadlines) SetWriteDeadline(t time.Time) error {
	d.cancels = append(d.cancels, t)
	return nil
}

type stuck struct {
	echo
	deadline time.Time
}

func (s *stuck) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *stuck) Write([]byte) (int, error) {
	time.Sleep(time.Until(s.deadline))
	return 0, os.ErrDeadlineExceeded
}

func TestConnFailures(t *testing.T) {
	_, err := New(t.Context(), &noDeadline{})
	mustMatch(t, err, ErrDeviceGone, os.ErrNoDeadline)
	_, err = New(t.Context(), &failing{write: io.ErrUnexpectedEOF})
	mustMatch(t, err, ErrDeviceGone, io.ErrUnexpectedEOF)
	_, err = New(t.Context(), &failing{})
	mustMatch(t, err, ErrDeviceGone, io.ErrShortWrite)

	errClose := errors.New("close failed")
	d, err := New(t.Context(), &failsToClose{err: errClose})
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, d.Close(), errClose)
}

type noDeadline struct{ echo }

func (*noDeadline) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

type failing struct {
	echo
	write error
}

func (f *failing) Write(p []byte) (int, error) { return len(p) - 1, f.write }

type failsToClose struct {
	echo
	err error
}

func (f *failsToClose) Close() error { return f.err }

// What is written fills the report, with zeros behind the data, and does not
// stay in memory.
func TestPaddingAndWiping(t *testing.T) {
	e := &echo{}
	d, err := New(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{0xA5}, 60)
	if _, err := d.Ping(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0, 0, 0, 1, 0, 0xA5, 0xA5, 0xA5}, make([]byte, 56)...)
	if !bytes.Equal(e.reports[1][:], want) {
		t.Errorf("last packet %x, want %x", e.reports[1], want)
	}
	if bytes.Contains(d.out, []byte{0xA5}) || bytes.Contains(d.in, []byte{0xA5}) {
		t.Error("the message is left in a buffer")
	}
}

// FuzzExchange lets a device send anything: the first byte of each 64 says to
// which channel, the rest is the report. Whatever it is, calls end, and take
// no more memory than the largest message.
func FuzzExchange(f *testing.F) {
	seed := func(rs ...[]byte) {
		var b []byte
		for _, r := range rs {
			b = append(b, 0)
			b = append(b, r[4:]...)
			b = append(b, 0, 0, 0)
		}
		f.Add(b, 100)
	}
	seed(reports(64, 1, ctap.HIDCBOR, counting(150))...)
	seed(reports(64, 1, ctap.HIDKeepalive, []byte{2})...)
	for code := range byte(12) {
		seed(reports(64, 1, ctap.HIDError, []byte{code})...)
	}
	seed(append(reports(64, 1, ctap.HIDKeepalive, []byte{1}), reports(64, 1, ctap.HIDCBOR, counting(7609))...)...)
	f.Fuzz(func(t *testing.T, data []byte, cancelAt int) {
		h := &hostile{data: data}
		d, err := New(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.read = func() {
			if cancelAt--; cancelAt == 0 {
				cancel()
			}
		}
		for range 3 {
			answer, err := d.Exchange(ctx, getInfo, func(byte) {})
			if err == nil && (len(answer) == 0 || len(answer) > ctap.MaxFramedMessage) {
				t.Fatalf("an answer of %d bytes", len(answer))
			}
			if err != nil && answer != nil {
				t.Fatal("an answer and an error")
			}
			if _, err := d.Ping(ctx, data[:min(len(data), 100)]); err == nil && len(h.data) == 0 {
				break
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A hostile answers CTAPHID_INIT and then sends data, and nothing behind it.
type hostile struct {
	echo
	open bool
	data []byte
	read func()
}

func (h *hostile) Read(p []byte) (int, error) {
	if !h.open {
		h.open = true
		return h.echo.Read(p)
	}
	if h.read != nil {
		h.read()
	}
	if len(h.data) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	var report [64]byte
	n := copy(report[:], h.data)
	h.data = h.data[n:]
	switch report[0] & 7 {
	case 6:
		copy(p, []byte{0xFF, 0xFF, 0xFF, 0xFF})
	case 7:
		copy(p, []byte{0, 0, 0, 2})
	default:
		copy(p, []byte{0, 0, 0, 1})
	}
	return 4 + copy(p[4:], report[1:61]), nil
}

func (h *hostile) Write(p []byte) (int, error) {
	if !h.open {
		return h.echo.Write(p)
	}
	return len(p), nil
}
