package virtual

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// must is ok for a message that is encoded already, and of which nobody reads the
// answer.
func (p *platform) must(msg []byte) {
	p.Helper()
	answer, err := p.Exchange(p.Context(), msg, nil)
	if err != nil || answer[0] != ctap.StatusOK {
		p.Fatalf("answer % x, %v", answer[:min(len(answer), 1)], err)
	}
}

// BenchmarkSignIn measures a sign-in by what it cannot do without: "ratio" is
// the time of the command over that of an ECDSA signature with a key that is
// parsed, and the SHA-256 of the same data. The two take turns, and the times are
// medians, so that it matters little what else the machine does.
func BenchmarkSignIn(b *testing.B) {
	for _, bench := range []struct {
		name    string
		changes []params
	}{
		{"sealed", nil},
		{"discoverable", []params{residentKey()}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			key := newKey(b, Config{})
			cred := key.make(bench.changes...)
			msg := message(b, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
			bare, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 37+len(testHash)) // authenticator data and client data hash
			var signIn, signing []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				key.must(msg)
				middle := time.Now()
				digest := sha256.Sum256(data)
				if _, err := ecdsa.SignASN1(rand.Reader, bare, digest[:]); err != nil {
					b.Fatal(err)
				}
				signIn, signing = append(signIn, middle.Sub(start)), append(signing, time.Since(middle))
			}
			slices.Sort(signIn)
			slices.Sort(signing)
			median := len(signing) / 2
			b.ReportMetric(float64(signIn[median]), "ns/op")
			b.ReportMetric(float64(signIn[median])/float64(signing[median]), "ratio")
		})
	}
}

// storeSizes are what benchmarks of a store compare.
var storeSizes = []int{10, 10_000}

func storeConfig(path string) Config {
	return Config{Path: path, Credentials: 20_000, ResetWindow: -1}
}

// stockedKey returns a key with n discoverable credentials, three of them of
// testRPID, and the ID of one of those. It is in memory if path is empty.
func stockedKey(b *testing.B, path string, n int) (*platform, []byte) {
	b.Helper()
	key := newKey(b, storeConfig(path))
	key.stock(n-3, "")
	key.make(residentKey(), account("1", "ada"))
	cred := key.make(residentKey(), account("2", "grace"))
	key.make(residentKey(), account("3", "joan"))
	return key, cred.id
}

// BenchmarkStore measures what a key does with few credentials and with many:
// in memory, where no disk hides what it costs, and in a file.
func BenchmarkStore(b *testing.B) {
	for _, n := range storeSizes {
		b.Run(fmt.Sprintf("memory/n=%d", n), func(b *testing.B) { benchmarkStore(b, "", n) })
	}
	for _, n := range storeSizes {
		b.Run(fmt.Sprintf("file/n=%d", n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "key")
			key := benchmarkStore(b, path, n)
			if err := key.Close(); err != nil {
				b.Fatal(err)
			}
			b.Run("open", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := newKey(b, storeConfig(path)).Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
			data, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("reset", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					if err := os.WriteFile(path, data, 0o600); err != nil {
						b.Fatal(err)
					}
					key := newKey(b, storeConfig(path))
					b.StartTimer()
					key.ok(ctap.CmdReset, nil)
					b.StopTimer()
					if err := key.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		})
	}
}

func benchmarkStore(b *testing.B, path string, n int) *platform {
	key, id := stockedKey(b, path, n)
	for _, bench := range []struct {
		name string
		msg  []byte
	}{
		{"getInfo", message(b, ctap.CmdGetInfo, nil)},
		{"allowList", message(b, ctap.CmdGetAssertion, assertRequest(allow(id)))},
		{"discoverable", message(b, ctap.CmdGetAssertion, assertRequest())},
		// The same account again and again: each takes the place of the last.
		{"register", message(b, ctap.CmdMakeCredential, makeRequest(residentKey(), account("3", "joan")))},
	} {
		b.Run(bench.name, func(b *testing.B) {
			key.must(bench.msg)
			b.ReportAllocs()
			for b.Loop() {
				key.must(bench.msg)
			}
		})
	}
	return key
}
