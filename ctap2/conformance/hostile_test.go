package conformance_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A spoiler is a key whose replies somebody changes, but for that to the getInfo
// with which each connection begins.
type spoiler struct {
	*virtual.Conn
	honest int
	spoil  func(ctx context.Context, reply []byte) ([]byte, error)
}

func (s *spoiler) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := s.Conn.Exchange(ctx, message, status)
	if s.honest > 0 || err != nil {
		s.honest--
		return reply, err
	}
	return s.spoil(ctx, reply)
}

// spoilers are what a hostile key does with its replies.
func spoilers() map[string]func(ctx context.Context, reply []byte) ([]byte, error) {
	dice := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		return b
	}
	count := 0
	return map[string]func(ctx context.Context, reply []byte) ([]byte, error){
		"silent": func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"gone":     func(context.Context, []byte) ([]byte, error) { return nil, ctap2.ErrDeviceGone },
		"empty":    func(context.Context, []byte) ([]byte, error) { return nil, nil },
		"no data":  func(context.Context, []byte) ([]byte, error) { return []byte{0}, nil },
		"enormous": func(context.Context, []byte) ([]byte, error) { return make([]byte, 1<<20), nil },
		"claims": func(context.Context, []byte) ([]byte, error) {
			return []byte("\x00\xA1\x01\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), nil
		},
		"nothing in it": func(context.Context, []byte) ([]byte, error) {
			return []byte("\x00\xA8\x01\xF6\x02\xF6\x03\xF6\x04\xF6\x05\xF6\x06\xF6\x07\xF6\x08\xF6"), nil
		},
		"other types": func(context.Context, []byte) ([]byte, error) {
			return []byte("\x00\xA8\x01\xA0\x02\x80\x03\xA0\x04\x63abc\x05\x80\x06\x20\x07\x43abc\x08\xF5"), nil
		},
		"random": func(context.Context, []byte) ([]byte, error) {
			return append([]byte{0}, random(dice.IntN(200))...), nil
		},
		"statuses": func(context.Context, []byte) ([]byte, error) {
			count++
			return []byte{byte(count)}, nil
		},
		"cut": func(_ context.Context, reply []byte) ([]byte, error) { return reply[:dice.IntN(len(reply)+1)], nil },
		"changed": func(_ context.Context, reply []byte) ([]byte, error) {
			reply = bytes.Clone(reply)
			for range 3 {
				reply[dice.IntN(len(reply))] = byte(dice.Uint32())
			}
			return reply, nil
		},
	}
}

// TestHostileReplies: whatever a key replies, a run ends, and finds fault.
func TestHostileReplies(t *testing.T) {
	for name := range spoilers() {
		for _, destructive := range []bool{false, true} {
			title := name
			if destructive {
				title += " destructive"
			}
			t.Run(title, func(t *testing.T) {
				ends(t, func(t *testing.T) conformance.Config {
					config := virtual.ProfileCTAP23.Config()
					config.PIN = "271828"
					key, err := virtual.New(config)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { key.Close() })
					target := memory(key)
					target.Open = func(context.Context) (ctap2.Transport, error) {
						return &spoiler{key.Open(), 1, spoilers()[name]}, nil
					}
					// Otherwise a run would end with the first resets.
					target.Operator.Reset = func(ctx context.Context) error {
						key.PowerCycle()
						_, err := key.Exchange(ctx, []byte{0x07}, nil)
						return err
					}
					return conformance.Config{Target: target, Destructive: destructive, PIN: pin.FromString(config.PIN)}
				})
			})
		}
	}
}

// TestHostileInfo: whatever numbers a key says of itself, a run ends, and takes
// no memory by them.
func TestHostileInfo(t *testing.T) {
	lengths := []int{0x0D, 0x1D} // of PINs, which can keep most cases from running
	limits := []int{0x05, 0x07, 0x08, 0x0B, 0x0F, 0x10, 0x11, 0x14, 0x17}
	for _, number := range []uint64{0, 20, 1<<64 - 1} {
		for _, members := range [][]int{lengths, limits} {
			t.Run(fmt.Sprintf("%d in %#x", number, members), func(t *testing.T) {
				ends(t, func(t *testing.T) conformance.Config {
					target := target(t, virtual.ProfileCTAP23.Config())
					open := target.Open
					target.Open = func(ctx context.Context) (ctap2.Transport, error) {
						key, err := open(ctx)
						return boaster{key, members, number}, err
					}
					return conformance.Config{Target: target, Destructive: true, OneVariant: true}
				})
			})
		}
	}
}

// A boaster has a number of its own in members of getInfo.
type boaster struct {
	ctap2.Transport
	members []int
	number  uint64
}

func (b boaster) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := b.Transport.Exchange(ctx, message, status)
	if err != nil || message[0] != ctap.CmdGetInfo || len(reply) < 2 {
		return reply, err
	}
	var info map[int]any
	if err := cbor.Unmarshal(reply[1:], &info); err != nil {
		return nil, err
	}
	for _, member := range b.members {
		info[member] = b.number
	}
	changed, err := cbor.Marshal(info)
	return append([]byte{0}, changed...), err
}

// ends runs all cases and expects that the run ends in bounded time and says
// that something is wrong. A goroutine that is left behind fails the bubble.
func ends(t *testing.T, config func(t *testing.T) conformance.Config) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config := config(t)
		config.MaxWait = -1
		if only := config.Only; testing.Short() { // every eighth case
			config.Only = func(c conformance.Case) bool {
				return crc32.ChecksumIEEE([]byte(c.ID))%8 == 0 && (only == nil || only(c))
			}
		}
		start := time.Now()
		report, err := conformance.Check(t.Context(), config)
		if took := time.Since(start); took > 6*time.Hour {
			t.Errorf("took %v", took)
		}
		switch {
		case report == nil && err == nil:
			t.Error("neither a report nor an error")
		case report == nil:
		case err == nil && report.Count(conformance.Failed) == 0 && !testing.Short():
			t.Error("nothing was wrong")
		}
	})
}

// scripted are the reports of a device that sends what next returns, a thousand
// times a second.
type scripted struct {
	next func(last []byte) []byte // nil: nothing

	mu       sync.Mutex
	last     []byte // the report that was written last
	deadline time.Time
	closed   chan struct{}
}

func (s *scripted) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond) // as on the wire, or no time passes
	s.mu.Lock()
	report := s.next(s.last)
	left := time.Until(s.deadline)
	s.mu.Unlock()
	if report != nil {
		return copy(p, report), nil
	}
	select {
	case <-s.closed:
		return 0, os.ErrClosed
	case <-time.After(left):
		return 0, os.ErrDeadlineExceeded
	}
}

func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = bytes.Clone(p)
	return len(p), nil
}

func (s *scripted) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}

func (s *scripted) Close() error {
	close(s.closed)
	return nil
}

// frame is a report for the channel of the last.
func frame(last []byte, command byte, length int, data ...byte) []byte {
	report := make([]byte, 64)
	copy(report, last[:4])
	report[4] = command
	binary.BigEndian.PutUint16(report[5:], uint16(length))
	copy(report[7:], data)
	return report
}

// initialized answers CTAPHID_INIT, so that there is a channel to be hostile on.
func initialized(last []byte) []byte {
	return frame(last, 0x86, 17, append(bytes.Clone(last[7:15]), 0, 0, 0, 9, 2, 0, 0, 0, 5)...)
}

// TestHostileReports: whatever reports a key sends, a run ends, and finds fault.
func TestHostileReports(t *testing.T) {
	for name, next := range map[string]func(last []byte) []byte{
		"silent":       func([]byte) []byte { return nil },
		"empty":        func([]byte) []byte { return []byte{} },
		"short":        func([]byte) []byte { return []byte{1, 2, 3} },
		"zeros":        func([]byte) []byte { return make([]byte, 64) },
		"echo":         bytes.Clone,
		"keepalives":   func(last []byte) []byte { return frame(last, 0xBB, 1, 1) },
		"errors":       func(last []byte) []byte { return frame(last, 0xBF, 1, 0x7F) },
		"no error":     func(last []byte) []byte { return frame(last, 0xBF, 0) },
		"enormous":     func(last []byte) []byte { return frame(last, last[4], 0xFFFF) },
		"unfinished":   func(last []byte) []byte { return frame(last, last[4], 7609) },
		"continuation": func(last []byte) []byte { return frame(last, 5, 0) },
		"other channel": func(last []byte) []byte {
			report := frame(last, last[4], 0)
			report[0] ^= 0x55
			return report
		},
		"channel 0": func(last []byte) []byte {
			return frame(last, 0x86, 17, append(bytes.Clone(last[7:15]), make([]byte, 9)...)...)
		},
		"keepalives after INIT": func(last []byte) []byte {
			if last[4] == 0x86 {
				return initialized(last)
			}
			return frame(last, 0xBB, 1, 2)
		},
		"silent after INIT": func(last []byte) []byte {
			if last[4] == 0x86 {
				return initialized(last)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ends(t, func(t *testing.T) conformance.Config {
				target := target(t, virtual.Config{})
				target.HID = func(context.Context) (conformance.Reports, error) {
					return &scripted{next: func(last []byte) []byte {
						if last == nil {
							return nil
						}
						return next(last)
					}, closed: make(chan struct{})}, nil
				}
				return conformance.Config{Target: target, Destructive: true, Only: about("CTAPHID")}
			})
			// The same key, as the client sees it.
			ends(t, func(t *testing.T) conformance.Config {
				return conformance.Config{Target: conformance.Target{
					Open: func(ctx context.Context) (ctap2.Transport, error) {
						s := &scripted{next: func(last []byte) []byte {
							if last == nil {
								return nil
							}
							return next(last)
						}, closed: make(chan struct{})}
						device, err := hid.New(ctx, s)
						if err != nil {
							s.Close()
							return nil, err
						}
						return device, nil
					},
				}}
			})
		})
	}
}

func about(group string) func(conformance.Case) bool {
	return func(c conformance.Case) bool { return c.Group == group }
}

// A badCard answers what it likes.
type badCard struct {
	answer func(closed <-chan struct{}, command []byte) ([]byte, error)
	closed chan struct{}
}

func (c badCard) Transmit(command []byte) ([]byte, error) { return c.answer(c.closed, command) }

func (c badCard) Close() error {
	close(c.closed)
	return nil
}

// TestHostileCards: whatever a card answers, a run ends, and finds fault.
func TestHostileCards(t *testing.T) {
	constant := func(answer string) func(<-chan struct{}, []byte) ([]byte, error) {
		return func(<-chan struct{}, []byte) ([]byte, error) { return []byte(answer), nil }
	}
	for name, answer := range map[string]func(closed <-chan struct{}, command []byte) ([]byte, error){
		"silent": func(closed <-chan struct{}, _ []byte) ([]byte, error) {
			<-closed
			return nil, os.ErrClosed
		},
		"gone":        func(<-chan struct{}, []byte) ([]byte, error) { return nil, ctap2.ErrDeviceGone },
		"nothing":     constant(""),
		"one byte":    constant("\x90"),
		"OK":          constant("\x90\x00"),
		"FIDO_2_0":    constant("FIDO_2_0\x90\x00"),
		"no":          constant("\x6F\x00"),
		"more":        constant("\x61\x00"),
		"more and OK": constant("\x00\x61\x10"),
		"waits": func(_ <-chan struct{}, command []byte) ([]byte, error) {
			if command[1] == 0xA4 {
				return []byte("FIDO_2_0\x90\x00"), nil
			}
			return []byte("\x02\x91\x00"), nil
		},
		"processes": func(_ <-chan struct{}, command []byte) ([]byte, error) {
			if command[1] == 0xA4 {
				return []byte("FIDO_2_0\x90\x00"), nil
			}
			return []byte("\x01\x91\x00"), nil
		},
		"enormous": func(<-chan struct{}, []byte) ([]byte, error) { return append(make([]byte, 1<<22), 0x90, 0), nil },
		"enormous pieces": func(<-chan struct{}, []byte) ([]byte, error) {
			return append(make([]byte, 1<<16), 0x61, 0), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ends(t, func(t *testing.T) conformance.Config {
				target := target(t, virtual.Config{})
				target.NFC = func(context.Context) (conformance.Card, error) {
					return badCard{answer, make(chan struct{})}, nil
				}
				return conformance.Config{Target: target, Destructive: true, Only: about("NFC")}
			})
		})
	}
}
