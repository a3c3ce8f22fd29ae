package nfc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
)

// The tests here are named for the faults of real cards and readers that this
// package has to live with, by their number.

func mustMatch(t *testing.T, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("error %v, want one that matches %v", err, target)
		}
	}
}

// SELECT announces its answer with 61xx, and the answer does not rule CTAP2
// out.
func TestQuirk14Select(t *testing.T) {
	c := &testCard{version: "U2F_V2"}
	first := true
	c.script = func(command []byte) ([]byte, error) {
		if first && command[1] == insSelect {
			first = false
			c.cla, c.rest, c.restSW, c.selected = 0, []byte("U2F_V2"), 0x9000, true
			return sw(0x6106), nil
		}
		return nil, nil
	}
	d := mustNew(t, c)
	if d.Version() != VersionU2F {
		t.Errorf("Version = %q", d.Version())
	}
	mustAnswer(t, d, getInfo)
	mustTake(t, c, selectAPDU, "00c0000006", getInfoAPDU)

	if d := mustNew(t, &testCard{version: "FIDO_2_0"}); d.Version() != VersionFIDO2 {
		t.Errorf("Version = %q", d.Version())
	}
	// What more a card says is for people to read.
	for version, want := range map[string]string{
		"FIDO_2_0\x1b]0;owned\a \xff1":     "FIDO_2_0]0;owned 1",
		"FIDO_" + strings.Repeat("x", 200): "FIDO_" + strings.Repeat("x", maxVersion-5),
	} {
		if d := mustNew(t, &testCard{version: version}); d.Version() != want {
			t.Errorf("Version = %q", d.Version())
		}
	}
}

func TestQuirk15ResponseChaining(t *testing.T) {
	c := &testCard{}
	d := mustNew(t, c)
	c.taken()
	// 61 00 stands for 256 or more.
	c.answer = func(apdu) answer { return answer{counting(1 + 3*256), 0x9000} }
	for range 2 {
		got, err := d.Exchange(t.Context(), getInfo, nil)
		if err != nil || !bytes.Equal(got, counting(1+3*256)) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		mustTake(t, c, getInfoAPDU, "80c0000000", "80c0000000", "80c0000001")
	}
	got, err := d.Msg(t.Context(), unhex("00030000 000000"))
	if err != nil || !bytes.Equal(got, append(counting(1+3*256), 0x90, 0)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	mustTake(t, c, "0003000000", "00c0000000", "00c0000000", "00c0000001")
}

// Some cards want GET RESPONSE in the other class. One refusal is enough to
// learn it, for each kind of command.
func TestQuirk15OtherClass(t *testing.T) {
	for name, moreCLA := range map[string]func(byte) byte{
		"always 00": func(byte) byte { return 0 },
		"always 80": func(byte) byte { return 0x80 },
		"swapped":   func(cla byte) byte { return cla ^ 0x80 },
	} {
		t.Run(name, func(t *testing.T) {
			c := &testCard{part: 20, moreCLA: moreCLA}
			d := mustNew(t, c)
			c.taken()
			for i := range 3 {
				mustAnswer(t, d, counting(30))
				wrong := slices.Contains(c.taken(), "80c000000b")
				if want := moreCLA(0x80) == 0x80 || i == 0; wrong != want {
					t.Errorf("exchange %d: asked with class 80: %v", i, wrong)
				}
				if got, err := d.Msg(t.Context(), append(unhex("00030000 1e"), counting(30)...)); err != nil || len(got) != 33 {
					t.Fatalf("%x, %v", got, err)
				}
				wrong = slices.Contains(c.taken(), "00c000000b")
				if want := moreCLA(0) == 0 || i == 0; wrong != want {
					t.Errorf("message %d: asked with class 00: %v", i, wrong)
				}
			}
		})
	}
	t.Run("neither", func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.part, c.moreCLA = 20, func(byte) byte { return 0x42 }
		c.taken()
		_, err := d.Exchange(t.Context(), counting(30), nil)
		mustMatch(t, err, ErrClaNotSupported)
		if got := c.taken(); !slices.Equal(got[1:], []string{"80c000000b", "00c000000b"}) {
			t.Errorf("the card got %q", got)
		}
	})
}

// Fragments have no Le, the last one has. The test card refuses others.
func TestQuirk16CommandChaining(t *testing.T) {
	c := &testCard{shortOnly: true}
	d := mustNew(t, c)
	for _, n := range []int{shortData, shortData + 1, 2 * shortData, 2*shortData + 1, 7609} {
		mustAnswer(t, d, counting(n))
	}
	c.taken()
	mustAnswer(t, d, counting(2*shortData+1))
	if got := c.taken(); len(got) != 4 || !strings.HasPrefix(got[0], "90108000f0") || !strings.HasSuffix(got[0], "(245)") ||
		!strings.HasSuffix(got[1], "(245)") || got[2] != "8010800001e100" {
		t.Errorf("the card got %q", got)
	}
}

func TestQuirk16WrongLe(t *testing.T) {
	c := &testCard{}
	c.answer = func(a apdu) answer {
		if a.le != 3 {
			return answer{sw: 0x6C03}
		}
		return answer{[]byte{0, 1, 2}, 0x9000}
	}
	d := mustNew(t, c)
	c.taken()
	got, err := d.Exchange(t.Context(), getInfo, nil)
	if err != nil || !bytes.Equal(got, []byte{0, 1, 2}) {
		t.Fatalf("%x, %v", got, err)
	}
	mustTake(t, c, getInfoAPDU, "801080000104"+"03")

	// Once: a card that is never content does not keep us busy.
	c.answer = func(apdu) answer { return answer{sw: 0x6C03} }
	_, err = d.Exchange(t.Context(), getInfo, nil)
	mustMatch(t, err, StatusWord(0x6C03))
	mustTake(t, c, getInfoAPDU, "801080000104"+"03")

	// Of a part of the response, and of an APDU of extended length.
	c.answer = nil
	c.part = 10
	c.script = func(command []byte) ([]byte, error) {
		if command[1] == insMore && command[4] != 9 {
			return sw(0x6C09), nil
		}
		return nil, nil
	}
	mustAnswer(t, d, counting(16))
	c.script = func(command []byte) ([]byte, error) {
		if a := parseAPDU(command); a.extended && a.le != 77 {
			return sw(0x6C4D), nil
		}
		return nil, nil
	}
	mustAnswer(t, d, counting(300))
}

// A card that does not take extended length says so in one of these ways, and a
// reader that does not fails.
func TestQuirk17ShortOnly(t *testing.T) {
	message := counting(300)
	for name, refuse := range map[string]func() ([]byte, error){
		"6700":       func() ([]byte, error) { return sw(0x6700), nil },
		"6D00":       func() ([]byte, error) { return sw(0x6D00), nil },
		"6E00":       func() ([]byte, error) { return sw(0x6E00), nil },
		"reader":     func() ([]byte, error) { return nil, errors.New("wrong length") },
		"impossible": func() ([]byte, error) { return nil, ErrExtendedLength },
	} {
		t.Run(name, func(t *testing.T) {
			c := &testCard{}
			c.script = func(command []byte) ([]byte, error) {
				if len(command) > 261 {
					return refuse()
				}
				return nil, nil
			}
			d := mustNew(t, c)
			mustAnswer(t, d, getInfo) // short and well, which says nothing
			c.taken()
			mustAnswer(t, d, message)
			if got := c.taken(); !strings.HasSuffix(got[0], "(309)") || !strings.HasPrefix(got[1], "90108000f0") {
				t.Fatalf("the card got %q", got)
			}
			for range 2 { // it is remembered
				mustAnswer(t, d, message)
				if got := c.taken(); !strings.HasPrefix(got[0], "90108000f0") {
					t.Fatalf("the card got %q", got)
				}
			}
			// Beyond a reset too.
			c.selected = false
			_, err := d.Exchange(t.Context(), message, nil)
			mustMatch(t, err, ErrReset)
			c.taken()
			mustAnswer(t, d, message)
			if got := c.taken(); !strings.HasPrefix(got[0], "90108000f0") {
				t.Fatalf("the card got %q", got)
			}
		})
	}
	t.Run("taken", func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		mustAnswer(t, d, message)
		mustAnswer(t, d, counting(maxMessage))
		if got := c.taken(); len(got) != 2 || !strings.HasPrefix(got[1], "8010800000fff6") || !strings.HasSuffix(got[1], "(65535)") {
			t.Errorf("the card got %q", got)
		}
	})
	// A message that is no longer than one that was carried is not sent twice
	// when its response is lost: the card may have done what it says.
	t.Run("response lost", func(t *testing.T) {
		c := &testCard{}
		done := 0
		c.answer = func(apdu) answer { done++; return answer{[]byte{0}, 0x9000} }
		d := mustNew(t, c)
		parity := errors.New("parity")
		exchange := func(length int, lost bool) error {
			t.Helper()
			if lost {
				c.script = func(command []byte) ([]byte, error) {
					if command[1] == insSelect {
						return nil, nil
					}
					c.script = nil
					_, _ = c.Transmit(command)
					return nil, parity
				}
			}
			_, err := d.Exchange(t.Context(), counting(length), nil)
			return err
		}
		if err := exchange(300, false); err != nil {
			t.Fatal(err)
		}
		for _, length := range []int{300, 250} {
			done = 0
			mustMatch(t, exchange(length, true), ErrNoAnswer, parity)
			if done != 1 {
				t.Errorf("%d bytes: carried out %d times", length, done)
			}
		}
		c.taken()
		if err := exchange(300, false); err != nil {
			t.Fatal(err)
		}
		if got := c.taken(); len(got) != 2 || got[0] != selectAPDU || !strings.HasSuffix(got[1], "(309)") {
			t.Errorf("the card got %q", got)
		}
		// One that is longer may have been too long for the reader.
		if err := exchange(301, true); err != nil {
			t.Error(err)
		}
	})
	// What fails either way does not count against extended length.
	t.Run("nothing learned", func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.answer = func(apdu) answer { return answer{sw: 0x6700} }
		c.script = func(command []byte) ([]byte, error) {
			if command[0]&claChain != 0 {
				return sw(0x6700), nil
			}
			return nil, nil
		}
		_, err := d.Exchange(t.Context(), message, nil)
		mustMatch(t, err, ErrWrongLength)
		c.answer, c.script = nil, nil
		c.taken()
		mustAnswer(t, d, message)
		// Selected anew, lest the card waits for the rest of the chain.
		if got := c.taken(); len(got) != 2 || got[0] != selectAPDU || !strings.HasSuffix(got[1], "(309)") {
			t.Errorf("the card got %q", got)
		}
	})
}

// pending makes the card say that it is at work until done returns an answer.
func (c *testCard) pending(status byte, done func(cancelled bool) *answer) {
	c.answer = func(a apdu) answer {
		if a.ins == insMsg && a.p1&p1MayPend == 0 {
			return answer{sw: 0x6700} // nobody said that it may answer so
		}
		if a.ins == insMsg || a.ins == insGetResponse {
			if r := done(a.ins == insGetResponse && a.p1 == p1Cancel); r != nil {
				return *r
			}
			return answer{[]byte{status}, 0x9100}
		}
		return answer{sw: 0x6D00}
	}
}

func TestQuirk18Pending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		start := time.Now()
		c.pending(ctap.KeepaliveUPNeeded, func(bool) *answer {
			if time.Since(start) < 3*time.Second {
				return nil
			}
			return &answer{counting(400), 0x9000} // in parts
		})
		heard := 0
		got, err := d.Exchange(t.Context(), getInfo, func(status byte) {
			if heard++; status != ctap.KeepaliveUPNeeded {
				t.Errorf("status %d", status)
			}
		})
		if err != nil || !bytes.Equal(got, counting(400)) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if log := c.taken(); heard < 20 || len(log) != heard+2 || log[1] != pollAPDU || log[len(log)-1] != "80c0000090" {
			t.Errorf("heard %d times, the card got %q", heard, log)
		}
		c.answer = nil
		mustAnswer(t, d, getInfo) // nothing was left unclean
		mustTake(t, c, getInfoAPDU)

		// A status that is missing is not made up.
		polls := 0
		c.answer = func(apdu) answer {
			if polls++; polls < 3 {
				return answer{nil, 0x9100}
			}
			return answer{[]byte{0}, 0x9000}
		}
		if _, err := d.Exchange(t.Context(), getInfo, func(byte) { t.Error("status heard") }); err != nil {
			t.Error(err)
		}
	})
}

// The card answers the cancelling with KEEPALIVE_CANCEL, or with the result of
// the operation if that was over first, at once or after it was asked again.
func TestQuirk18Cancel(t *testing.T) {
	for _, result := range [][]byte{{ctap.StatusKeepaliveCancel}, append([]byte{0}, counting(300)...)} {
		for late := range 3 {
			synctest.Test(t, func(t *testing.T) {
				c := &testCard{}
				d := mustNew(t, c)
				c.taken()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				told := 0
				c.pending(ctap.KeepaliveUPNeeded, func(cancelled bool) *answer {
					if cancelled {
						if told++; told > late {
							return &answer{result, 0x9000}
						}
					}
					return nil
				})
				heard := 0
				got, err := d.Exchange(ctx, getInfo, func(byte) {
					if heard++; heard == 2 {
						cancel()
					}
				})
				if err != nil || !bytes.Equal(got, result) || heard != 2 {
					t.Fatalf("%x, %v; heard %d times", got, err, heard)
				}
				log := c.taken()
				if want := slices.Concat([]string{getInfoAPDU, pollAPDU}, slices.Repeat([]string{cancelAPDU}, 1+late)); !slices.Equal(log[:min(len(want), len(log))], want) {
					t.Errorf("the card got %q", log)
				}
				c.answer = nil
				mustAnswer(t, d, getInfo)
				mustTake(t, c, getInfoAPDU)
			})
		}
	}
}

// A card that ignores the cancelling does not keep the call, and what it was
// doing is ended before the next message.
func TestQuirk18IgnoredCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.pending(ctap.KeepaliveUPNeeded, func(bool) *answer { return nil })
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("tired"))
		defer cancel()
		start := time.Now()
		_, err := d.Exchange(ctx, getInfo, nil)
		mustMatch(t, err, context.DeadlineExceeded, context.Cause(ctx))
		if took := time.Since(start); took > 3*time.Second+CancelTimeout {
			t.Errorf("it took %v", took)
		}
		c.taken()
		c.answer = nil
		mustAnswer(t, d, getInfo)
		mustTake(t, c, selectAPDU, getInfoAPDU)
	})
}

// A card without NFCCTAP_GETRESPONSE answers when it was touched, and not
// before.
func TestQuirk18Blocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		c.script = func([]byte) ([]byte, error) {
			time.Sleep(30 * time.Second)
			return nil, nil
		}
		mustAnswer(t, d, getInfo)
		c.script = nil
		mustTake(t, c, getInfoAPDU)
	})
}

// Another program resets the card, or Windows does.
func TestQuirk19Reset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		reset := func() {
			done := false
			c.script = func([]byte) ([]byte, error) {
				if done {
					return nil, nil
				}
				done, c.selected = true, false
				return nil, fmt.Errorf("reader: %w", ErrReset)
			}
		}
		d := mustNew(t, c)
		mustAnswer(t, d, getInfo)
		c.taken()

		// What was agreed with the card is void, so nothing is sent again...
		reset()
		_, err := d.Exchange(t.Context(), counting(10), nil)
		mustMatch(t, err, ErrReset)
		if got := c.taken(); len(got) != 2 || got[1] != selectAPDU {
			t.Errorf("the card got %q", got)
		}
		// ... and the next exchange is as good as any.
		mustAnswer(t, d, counting(10))
		c.taken()

		// What rests on nothing is sent again, once.
		reset()
		mustAnswer(t, d, getInfo)
		mustTake(t, c, getInfoAPDU, selectAPDU, getInfoAPDU)
		reset()
		if got, err := d.Msg(t.Context(), unhex("00030000 00")); err != nil || !bytes.Equal(got, []byte{0, 0x90, 0}) {
			t.Errorf("%x, %v", got, err)
		}
		c.taken()
		c.script = func([]byte) ([]byte, error) { return nil, ErrReset }
		_, err = d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrReset)
		if got := c.taken(); len(got) != 3 {
			t.Errorf("the card got %q", got)
		}
		c.script = nil
		mustAnswer(t, d, getInfo)
		c.taken()

		// Not if the card was at work: it may have been touched.
		polls := 0
		c.pending(ctap.KeepaliveUPNeeded, func(bool) *answer {
			if polls++; polls == 3 {
				c.script = func([]byte) ([]byte, error) {
					c.script, c.answer, c.selected = nil, nil, false
					return nil, ErrReset
				}
			}
			return nil
		})
		_, err = d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, ErrReset)
		mustAnswer(t, d, getInfo)
	})
}

// Another program has selected another application, which knows nothing of ours
// and says so in its own way.
func TestQuirk19Deselected(t *testing.T) {
	for _, code := range []uint16{0x6985, 0x6986, 0x6D00, 0x6E00, 0x6999, 0x6700, 0x6884, 0x6982, 0x6A81, 0x6A82, 0x6A86, 0x6B00} {
		c := &testCard{}
		c.answer = func(a apdu) answer { return answer{sw: code} }
		d := mustNew(t, c)
		c.taken()

		// A card that answered nothing else yet means it.
		_, err := d.Exchange(t.Context(), getInfo, nil)
		mustMatch(t, err, StatusWord(code))
		if errors.Is(err, ErrUnsupported) != (code == 0x6D00 || code == 0x6E00) || errors.Is(err, ErrReset) {
			t.Errorf("error %v", err)
		}
		mustTake(t, c, getInfoAPDU)

		c.answer = nil
		mustAnswer(t, d, getInfo)
		c.taken()
		other := func(command []byte) ([]byte, error) {
			if command[1] == insSelect {
				c.script = nil
				return nil, nil
			}
			return sw(code), nil
		}
		c.script = other
		mustAnswer(t, d, getInfo)
		mustTake(t, c, getInfoAPDU, selectAPDU, getInfoAPDU)
		c.script = other
		_, err = d.Exchange(t.Context(), counting(10), nil)
		mustMatch(t, err, ErrReset, StatusWord(code))
		mustAnswer(t, d, counting(10))

		// In U2F, 6985 is an answer like any other (quirk 43), and others are.
		c.taken()
		c.script = other
		got, err := d.Msg(t.Context(), unhex("00030000 00"))
		want := []byte{0, 0x90, 0}
		if !slices.Contains([]uint16{0x6986, 0x6D00, 0x6E00, 0x6999}, code) {
			want = sw(code)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%04x: %x, %v", code, got, err)
		}
	}
}

// A card that fails behind the first part of its response has carried the command
// out: it is not another application's.
func TestQuirk19FailsLater(t *testing.T) {
	c := &testCard{}
	d := mustNew(t, c)
	mustAnswer(t, d, getInfo)
	c.taken()
	c.script = func(command []byte) ([]byte, error) {
		if command[1] == insMore {
			return sw(0x6F00), nil
		}
		return sw(0x6110), nil
	}
	_, err := d.Exchange(t.Context(), counting(10), nil)
	mustMatch(t, err, StatusWord(0x6F00))
	if got := c.taken(); errors.Is(err, ErrReset) || slices.Contains(got, selectAPDU) {
		t.Errorf("%v; the card got %q", err, got)
	}
}

// The wait for a card ends with the context, although nothing can interrupt a
// reader. The response that comes later belongs to nobody.
func TestQuirk20Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.taken()
		wtx := make(chan struct{})
		c.script = func(command []byte) ([]byte, error) {
			if command[1] == insMsg {
				<-wtx
			}
			return nil, nil
		}
		exchange := func(limit time.Duration, want ...error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			_, err := d.Exchange(ctx, getInfo, nil)
			mustMatch(t, err, want...)
			if took := time.Since(start); took > limit+CancelTimeout {
				t.Errorf("it took %v", took)
			}
		}
		exchange(3*time.Second, context.DeadlineExceeded)
		exchange(3*time.Second, context.DeadlineExceeded) // waits for the first
		if _, err := d.Exchange(t.Context(), getInfo, nil); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("error %v", err)
		}
		if got := c.taken(); len(got) != 0 {
			t.Errorf("the card got %q behind the back of the first command", got)
		}
		close(wtx)
		mustAnswer(t, d, counting(10))
		if got := c.taken(); len(got) != 3 || got[1] != selectAPDU {
			t.Errorf("the card got %q", got)
		}

		// Without a deadline, the card's silence ends it.
		wtx = make(chan struct{})
		start := time.Now()
		_, err := d.Exchange(context.Background(), getInfo, nil)
		mustMatch(t, err, ErrNoAnswer)
		if took := time.Since(start); took != AnswerTimeout {
			t.Errorf("it took %v", took)
		}
		close(wtx)
	})
}

// A response that comes within CancelTimeout is the result.
func TestQuirk20LateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &testCard{}
		d := mustNew(t, c)
		c.script = func([]byte) ([]byte, error) {
			time.Sleep(3*time.Second + CancelTimeout/2)
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if got, err := d.Exchange(ctx, getInfo, nil); err != nil || len(got) != 2 {
			t.Errorf("%x, %v", got, err)
		}
		c.script = nil
		c.taken()
		mustAnswer(t, d, getInfo)
		mustTake(t, c, getInfoAPDU)
	})
}

func TestQuirk21NotFIDO(t *testing.T) {
	for name, response := range map[string][]byte{
		"6A82":         sw(0x6A82),
		"6D00":         sw(0x6D00),
		"6999":         sw(0x6999),
		"anything":     sw(0x9000),
		"other answer": append([]byte("EVIL\x1b[2J"), 0x90, 0),
	} {
		t.Run(name, func(t *testing.T) {
			c := &testCard{script: func([]byte) ([]byte, error) { return response, nil }}
			_, err := New(t.Context(), c)
			mustMatch(t, err, ErrNotFIDO)
			if strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%q", err)
			}
			if c.closes != 0 {
				t.Error("New closed a card that is still the caller's")
			}
		})
	}
}

// Wherever the card is taken away, the error says so, now and ever after.
func TestQuirk22Removed(t *testing.T) {
	message := counting(600)
	for at := range 20 {
		synctest.Test(t, func(t *testing.T) {
			c := &testCard{shortOnly: true, part: 80}
			d, err := New(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			polls := 0
			c.pending(ctap.KeepaliveProcessing, func(bool) *answer {
				if polls++; polls == 4 {
					return &answer{message, 0x9000}
				}
				return nil
			})
			n := 0
			removed := errors.New("removed")
			c.script = func([]byte) ([]byte, error) {
				if n++; n > at {
					return nil, fmt.Errorf("%w: %w", ErrDeviceGone, removed)
				}
				return nil, nil
			}
			_, err = d.Exchange(t.Context(), message, nil)
			if n <= at {
				if err != nil {
					t.Fatal(err)
				}
				if at < 10 {
					t.Fatalf("only %d APDUs", n)
				}
			} else {
				mustMatch(t, err, ErrDeviceGone, removed)
				c.script = nil // and put back
				c.taken()
				_, err = d.Exchange(t.Context(), getInfo, nil)
				mustMatch(t, err, ErrDeviceGone)
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				mustTake(t, c)
			}
			d.Close()
			if c.closes != 1 {
				t.Errorf("closed %d times", c.closes)
			}
		})
	}
}
