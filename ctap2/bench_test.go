package ctap2_test

import (
	"context"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/internal/vectors"
)

// loop is a hid.Conn that answers every message with the same recorded reports
// and allocates nothing, so that a benchmark sees the client alone, framing
// included.
type loop struct {
	init, reply []byte
	left        int // bytes of the request still to come
	next        []byte
}

func (l *loop) Write(report []byte) (int, error) {
	if report[4] == ctap.HIDInitBit|ctap.HIDInit {
		copy(l.init[7:], report[7:15])
		l.next = l.init
		return len(report), nil
	}
	if report[4]&ctap.HIDInitBit != 0 {
		l.left = int(binary.BigEndian.Uint16(report[5:])) - 57
	} else {
		l.left -= 59
	}
	if l.left <= 0 {
		l.next = l.reply
	}
	return len(report), nil
}

func (l *loop) Read(p []byte) (int, error) {
	if len(l.next) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, l.next[:ctap.HIDReportSize])
	l.next = l.next[ctap.HIDReportSize:]
	return n, nil
}

func (l *loop) SetReadDeadline(time.Time) error { return nil }

func (l *loop) Close() error { return nil }

// replaying opens a key that answers with a recording.
func replaying(t testing.TB, recording string) *ctap2.Authenticator {
	t.Helper()
	reports := vectors.KeyReports()
	l := &loop{init: reports["CTAP_INIT"], reply: reports["CTAP_CBOR_INFO"]}
	device, err := hid.New(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	l.reply = reports[recording]
	for i := 0; i < len(l.reply); i += ctap.HIDReportSize {
		binary.BigEndian.PutUint32(l.reply[i:], device.Channel())
	}
	return key
}

func benchmark(b *testing.B, recording string, run func(ctx context.Context, key *ctap2.Authenticator) error) {
	key := replaying(b, recording)
	b.ReportAllocs()
	for b.Loop() {
		if err := run(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

// getInfoOnce gets a CTAP 2.3 reply with 26 members.
func getInfoOnce(ctx context.Context, key *ctap2.Authenticator) error {
	_, err := key.GetInfo(ctx)
	return err
}

func getAssertionOnce(ctx context.Context, key *ctap2.Authenticator) error {
	request := signIn()
	request.RPID = "localhost"
	request.UserVerification = ctap2.Discouraged
	_, err := key.GetAssertion(ctx, request)
	return err
}

func BenchmarkGetInfo(b *testing.B) { benchmark(b, "CTAP_CBOR_INFO", getInfoOnce) }

func BenchmarkMakeCredential(b *testing.B) {
	request := registration()
	request.RP.ID = "localhost"
	request.Algorithms = []cose.Algorithm{cose.ES256}
	benchmark(b, "CTAP_CBOR_CRED", func(ctx context.Context, key *ctap2.Authenticator) error {
		_, err := key.MakeCredential(ctx, request)
		return err
	})
}

func BenchmarkGetAssertion(b *testing.B) { benchmark(b, "CTAP_CBOR_ASSERT", getAssertionOnce) }

// What a command may allocate, framing included.
func TestAllocations(t *testing.T) {
	for _, test := range []struct {
		recording string
		run       func(ctx context.Context, key *ctap2.Authenticator) error
		most      float64
	}{
		{"CTAP_CBOR_INFO", getInfoOnce, 25},
		{"CTAP_CBOR_ASSERT", getAssertionOnce, 20},
	} {
		key := replaying(t, test.recording)
		got := testing.AllocsPerRun(100, func() {
			if err := test.run(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		})
		if got > test.most {
			t.Errorf("%s: %v allocations, at most %v", test.recording, got, test.most)
		}
	}
}
