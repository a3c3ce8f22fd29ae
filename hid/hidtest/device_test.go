package hidtest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/hid/hidtest"
)

var _ hid.Conn = (*hidtest.Device)(nil)

// write sends a message on channel 0x22 in reports of 64 bytes.
func write(t *testing.T, key *hidtest.Device, command byte, data []byte) {
	t.Helper()
	report := make([]byte, 64)
	binary.BigEndian.PutUint32(report, 0x22)
	report[4] = command | 0x80
	binary.BigEndian.PutUint16(report[5:], uint16(len(data)))
	data = data[copy(report[7:], data):]
	for sequence := byte(0); ; sequence++ {
		if _, err := key.Write(report); err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			return
		}
		clear(report[4:])
		report[4] = sequence
		data = data[copy(report[5:], data):]
	}
}

// read returns what arrives until the key is silent for an hour: of each
// report, bytes 4 to 7, and when it came.
func read(t *testing.T, key *hidtest.Device) string {
	t.Helper()
	var all []string
	report := make([]byte, 64)
	start := time.Now()
	for {
		if err := key.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		n, err := key.Read(report)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return strings.Join(all, " ")
		case err != nil:
			return strings.Join(append(all, err.Error()), " ")
		case n < 64:
			all = append(all, fmt.Sprintf("%d bytes", n))
			continue
		}
		text := fmt.Sprintf("%x", report[4:8])
		if channel := binary.BigEndian.Uint32(report); channel != 0x22 {
			text += fmt.Sprintf("@%x", channel)
		}
		if came := time.Since(start); came > 0 {
			text += "+" + came.String()
		}
		all = append(all, text)
	}
}

func TestAnswers(t *testing.T) {
	data := bytes.Repeat([]byte{0xAA}, 150)
	long := hidtest.Reply(data)
	foreign := hidtest.Messages(hidtest.Message{Channel: 0x33, Command: hidtest.CommandPing, Data: []byte{5}})
	for _, test := range []struct {
		name   string
		answer hidtest.Answer
		want   string
	}{
		{"default", hidtest.Default(), "90000200"},
		{"zero", hidtest.Answer{}, "90000200"},
		{"silence", hidtest.Silence(), ""},
		{"reply", long, "900096aa 00aaaaaa 01aaaaaa"},
		{"success", hidtest.Success([]byte{7}), "90000200"},
		{"status", hidtest.Status(0x2D), "9000012d"},
		{"error", hidtest.Error(6), "bf000106"},
		{"keepalives", hidtest.Keepalive(1, 2), "bb000101 bb000102"},
		{"messages", foreign, "81000105@33"},
		{"reports", hidtest.Reports([]byte{0, 0, 0, 0x22}, nil), "4 bytes 0 bytes"},
		{"unplug", hidtest.Unplug(), "hidtest: unplugged"},
		{"then", hidtest.Keepalive(1).Then(hidtest.Default(), foreign), "bb000101 90000200 81000105@33"},
		{"insert", long.Insert(1, foreign), "900096aa 81000105@33 00aaaaaa 01aaaaaa"},
		{"insert behind", long.Insert(3, foreign), "900096aa 00aaaaaa 01aaaaaa 81000105@33"},
		{"unplug within", long.Insert(2, hidtest.Unplug()), "900096aa 00aaaaaa hidtest: unplugged"},
		{"lose", long.Lose(1), "900096aa 01aaaaaa"},
		{"lose twice", long.Lose(1).Lose(1), "900096aa"},
		{"lose a late one", long.Pace(time.Second).Lose(1), "900096aa+1s 01aaaaaa+3s"},
		{"repeat", long.Repeat(1), "900096aa 00aaaaaa 00aaaaaa 01aaaaaa"},
		{"swap", long.Swap(1), "900096aa 01aaaaaa 00aaaaaa"},
		{"garble", long.Garble(2, func(r []byte) { r[4]++ }), "900096aa 00aaaaaa 02aaaaaa"},
		{"garble one of two", long.Repeat(0).Garble(0, func(r []byte) { r[4] = 0x81 }).Cut(2), "810096aa 900096aa"},
		{"cut", long.Cut(2), "900096aa 00aaaaaa"},
		{"cut all", long.Cut(0), ""},
		{"delay", long.Delay(1, time.Minute), "900096aa 00aaaaaa+1m0s 01aaaaaa+1m0s"},
		{"pace", long.Pace(time.Second), "900096aa+1s 00aaaaaa+2s 01aaaaaa+3s"},
		{"late unplug", hidtest.Keepalive(1).Then(hidtest.Unplug().Delay(0, time.Second)), "bb000101 hidtest: unplugged"},

		{"no such report", long.Lose(3), "hidtest: there is no report 3 in an answer of 3"},
		{"no such pair", long.Swap(2), "hidtest: there is no report 3 in an answer of 3"},
		{"negative", long.Delay(-1, 1), "hidtest: there is no report -1 in an answer of 3"},
		{"insert too far", long.Insert(4, foreign), "hidtest: there is no report 4 in an answer of 3"},
		{"cut too far", long.Cut(4), "hidtest: there is no report 4 in an answer of 3"},
		{"behind a mistake", foreign.Then(long.Lose(3)).Insert(0, foreign).Lose(0), "hidtest: there is no report 3 in an answer of 3"},
		{"too long", hidtest.Reply(make([]byte, 7610)), "hidtest: CTAPHID_CBOR 22 (7610) does not fit into reports of 64 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := hidtest.New(hidtest.Answers{hidtest.CommandCBOR: test.answer}.Handle)
				write(t, key, hidtest.CommandCBOR, []byte{4})
				if got := read(t, key); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
}

func TestDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := hidtest.New(nil)
		for _, test := range []struct {
			command byte
			data    []byte
			want    string
		}{
			{hidtest.CommandPing, []byte{7}, "81000107"},
			{hidtest.CommandMsg, []byte{7}, "83000307"},
			{hidtest.CommandCBOR, []byte{7}, "90000200"},
			{hidtest.CommandWink, nil, "88000000"},
			{hidtest.CommandLock, []byte{1}, "84000000"},
			{hidtest.CommandCancel, nil, ""},
			{hidtest.CommandInit, make([]byte, 8), "86001100"},
			{hidtest.CommandInit, make([]byte, 7), "bf000103"},
			{0x41, nil, "bf000101"},
		} {
			write(t, key, test.command, test.data)
			if got := read(t, key); got != test.want {
				t.Errorf("command %02x: got %s, want %s", test.command, got, test.want)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	key := hidtest.New(nil, hidtest.WithReportSizes(8, 1024), hidtest.WithCapabilities(0x0C))
	dev, err := hid.New(t.Context(), key, hid.WithReportSizes(8, 1024))
	if err != nil {
		t.Fatal(err)
	}
	if dev.Capabilities() != hid.CapabilityCBOR|hid.CapabilityNMSG || dev.Channel() != 0x11 {
		t.Errorf("capabilities %v, channel %x", dev.Capabilities(), dev.Channel())
	}
	_, err = hid.New(t.Context(), hidtest.New(nil, hidtest.WithReportSizes(7, 64)))
	if !errors.Is(err, hid.ErrDeviceGone) || !strings.Contains(err.Error(), "too short") {
		t.Error(err)
	}
	_, err = hid.New(t.Context(), hidtest.New(nil, hidtest.WithReportSizes(64, 65)))
	if !errors.Is(err, hid.ErrDeviceGone) || !strings.Contains(err.Error(), "want 65") {
		t.Error(err)
	}
}

// The answer to CTAPHID_CANCEL is that to what is cancelled, and what is sent
// on its own answers the latest message.
func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := hidtest.New(hidtest.Answers{
			hidtest.CommandCBOR:   hidtest.Silence(),
			hidtest.CommandCancel: hidtest.Status(0x2D),
		}.Handle)
		write(t, key, hidtest.CommandCBOR, []byte{1})
		time.AfterFunc(time.Second, func() { key.Send(hidtest.Keepalive(2)) })
		if got, want := read(t, key), "bb000102+1s"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		write(t, key, hidtest.CommandCancel, nil)
		if got, want := read(t, key), "9000012d"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// What is delayed does not hold up what comes later, and what is due at the
// same time keeps its order.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := hidtest.New(nil)
		key.Handle(func(m hidtest.Message) hidtest.Answer {
			return hidtest.Status(m.Data[0]).Delay(0, time.Duration(m.Data[1])*time.Second)
		})
		write(t, key, hidtest.CommandCBOR, []byte{1, 3})
		write(t, key, hidtest.CommandCBOR, []byte{2, 0})
		write(t, key, hidtest.CommandCBOR, []byte{3, 3})
		write(t, key, hidtest.CommandCBOR, []byte{4, 1})
		if got, want := read(t, key), "90000102 90000104+1s 90000101+3s 90000103+3s"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Reports on the way to the device.
func TestIntercept(t *testing.T) {
	lose := func(lost int) func(int, []byte) [][]byte {
		return func(n int, r []byte) [][]byte {
			if n == lost {
				return nil
			}
			return [][]byte{r}
		}
	}
	var held []byte
	for _, test := range []struct {
		name      string
		intercept func(n int, report []byte) [][]byte // of three
		want      string                              // how the answer starts
		received  int
	}{
		{"nothing", lose(-1), "900097", 1},
		{"start lost", lose(0), "", 0},
		{"middle lost", lose(1), "bf0001", 0},
		{"end lost", lose(2), "", 0},
		{"repeated", func(_ int, r []byte) [][]byte { return [][]byte{r, r} }, "bf0001", 0},
		{"swapped", func(n int, r []byte) [][]byte {
			switch n {
			case 1:
				held = r
				return nil
			case 2:
				return [][]byte{r, held}
			}
			return [][]byte{r}
		}, "bf0001", 0},
		{"other channel", func(n int, r []byte) [][]byte { r[0] = byte(n); return [][]byte{r} }, "", 0},
		{"too long", func(_ int, r []byte) [][]byte { r[5] = 0xFF; return [][]byte{r} }, "bf0001", 0},
		{"short", func(_ int, r []byte) [][]byte { return [][]byte{r[:4]} }, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := hidtest.New(nil)
				n := -1
				key.Intercept(func(report []byte) [][]byte { n++; return test.intercept(n, report) })
				write(t, key, hidtest.CommandCBOR, make([]byte, 150))
				if got := read(t, key); !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
					t.Errorf("got %s, want %s", got, test.want)
				}
				if got := key.Received(); len(got) != test.received {
					t.Errorf("the key got %v", got)
				}
				key.Intercept(nil)
				write(t, key, hidtest.CommandCBOR, make([]byte, 150))
				if got := key.Received(); len(got) != 1 || len(got[0].Data) != 150 {
					t.Errorf("the key got %v", got)
				}
			})
		})
	}
}

// Reads and writes end with the device, whether they wait or not.
func TestEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(key *hidtest.Device)
		want error
	}{
		"unplugged":                 {(*hidtest.Device).Unplug, hidtest.ErrUnplugged},
		"unplugged by an answer":    {func(key *hidtest.Device) { key.Send(hidtest.Unplug()) }, hidtest.ErrUnplugged},
		"closed":                    {func(key *hidtest.Device) { key.Close() }, os.ErrClosed},
		"unplugged and closed":      {func(key *hidtest.Device) { key.Unplug(); key.Close(); key.Close() }, hidtest.ErrUnplugged},
		"closed and then unplugged": {func(key *hidtest.Device) { key.Close(); key.Unplug() }, os.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := hidtest.New(nil)
				failed := make(chan error)
				go func() {
					_, err := key.Read(make([]byte, 64))
					failed <- err
				}()
				synctest.Wait()
				test.end(key)
				if err := <-failed; !errors.Is(err, test.want) {
					t.Errorf("the Read that waited: %v", err)
				}
				key.Send(hidtest.Keepalive(1))
				if _, err := key.Read(make([]byte, 64)); !errors.Is(err, test.want) {
					t.Errorf("Read: %v", err)
				}
				if _, err := key.Write(make([]byte, 64)); !errors.Is(err, test.want) {
					t.Errorf("Write: %v", err)
				}
				if err := key.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		})
	}
}

// A device that has vanished takes no report, although nobody has read as far.
func TestUnplugUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := hidtest.New(nil)
		key.Send(hidtest.Keepalive(1).Then(hidtest.Unplug().Delay(0, time.Second)))
		if _, err := key.Write(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := key.Write(make([]byte, 64)); !errors.Is(err, hidtest.ErrUnplugged) {
			t.Fatal(err)
		}
	})
}

// What nobody reads or asks for does not pile up for ever.
func TestBounds(t *testing.T) {
	key := hidtest.New(nil)
	many := hidtest.Reports(make([][]byte, 1<<15)...)
	key.Send(many)
	key.Send(many)
	if n, err := key.Read(make([]byte, 64)); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	key.Send(many)
	if _, err := key.Read(nil); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Error(err)
	}

	key = hidtest.New(hidtest.Answers{hidtest.CommandWink: hidtest.Silence()}.Handle)
	for range 5000 {
		write(t, key, hidtest.CommandWink, nil)
	}
	if got := len(key.Received()); got != 4096 {
		t.Errorf("%d messages", got)
	}
	if got := len(key.Received()); got != 0 {
		t.Errorf("%d messages", got)
	}
}

func TestMessageString(t *testing.T) {
	for want, m := range map[string]hidtest.Message{
		"CTAPHID_CANCEL 22":              {Channel: 0x22, Command: hidtest.CommandCancel},
		"CTAPHID_CBOR 22 04":             {Channel: 0x22, Command: hidtest.CommandCBOR, Data: []byte{4}},
		"CTAPHID_PING 22 (9)":            {Channel: 0x22, Command: hidtest.CommandPing, Data: make([]byte, 9)},
		"CTAPHID_INIT ffffffff (8)":      {Channel: 0xFFFFFFFF, Command: hidtest.CommandInit, Data: make([]byte, 8)},
		"CTAPHID command 0x41 22 000000": {Channel: 0x22, Command: 0x41, Data: make([]byte, 3)},
	} {
		if got := m.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// All methods at once, for the race detector.
func TestConcurrent(t *testing.T) {
	key := hidtest.New(nil)
	dev, err := hid.New(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				if _, err := dev.Ping(ctx, []byte{1}); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				key.Send(hidtest.Keepalive(1))
				key.Handle(hidtest.Answers{hidtest.CommandWink: hidtest.Silence()}.Handle)
				key.Intercept(func(report []byte) [][]byte { return [][]byte{report} })
				key.Received()
			}
		})
	}
	wg.Wait()
	wg.Go(key.Unplug)
	wg.Go(func() { dev.Close() })
	wg.Wait()
}
