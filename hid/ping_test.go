package hid

import (
	"testing"
	"time"
)

// An echo is a Conn that sends back what it gets, which is what CTAPHID_PING
// wants, and answers CTAPHID_INIT.
type echo struct {
	reports  [129][64]byte
	from, to int
}

func (e *echo) Write(p []byte) (int, error) {
	if e.from == e.to {
		e.from, e.to = 0, 0
	}
	if p[4] == 0x86 {
		e.reports[0] = [64]byte{0xFF, 0xFF, 0xFF, 0xFF, 0x86, 0, 17}
		copy(e.reports[0][7:], p[7:15])
		copy(e.reports[0][15:], []byte{0, 0, 0, 1, 2, 5, 1, 3, 5})
	} else {
		copy(e.reports[e.to][:], p)
	}
	e.to++
	return len(p), nil
}

func (e *echo) Read(p []byte) (int, error) {
	n := copy(p, e.reports[e.from][:])
	e.from++
	return n, nil
}

func (*echo) SetReadDeadline(time.Time) error { return nil }
func (*echo) Close() error                    { return nil }

func BenchmarkPingLargest(b *testing.B) {
	d, err := New(b.Context(), &echo{})
	if err != nil {
		b.Fatal(err)
	}
	data := counting(d.MaxMessageSize())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Ping(b.Context(), data); err != nil {
			b.Fatal(err)
		}
	}
}

// One buffer for the answer, whatever its length, and two for the context.
func TestPingLargestAllocations(t *testing.T) {
	d, err := New(t.Context(), &echo{})
	if err != nil {
		t.Fatal(err)
	}
	data := counting(d.MaxMessageSize())
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := d.Ping(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 3 {
		t.Errorf("%v allocations, at most 3", allocations)
	}
}

func BenchmarkExchange(b *testing.B) {
	d, err := New(b.Context(), &echo{})
	if err != nil {
		b.Fatal(err)
	}
	message := counting(300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Exchange(b.Context(), message, nil); err != nil {
			b.Fatal(err)
		}
	}
}
