package virtual

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestConfigRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"level":             {Level: 22},
		"option of a later": {Level: CTAP20, AlwaysUV: true},
		"algorithm":         {Algorithms: []cose.Algorithm{cose.ES256, cose.PS256}},
		"extension":         {Extensions: []string{"telepathy"}},
		"extension, level":  {Level: CTAP20, Extensions: []string{"credProtect"}},
		"protocol":          {PINProtocols: []pin.Protocol{3}},
		"protocol, twice":   {PINProtocols: []pin.Protocol{1, 1}},
		"protocol, level":   {Level: CTAP20, PINProtocols: []pin.Protocol{2}},
		"limit":             {Credentials: -1},
		"minimum PIN":       {MinPINLength: 3},
		"maximum PIN":       {MinPINLength: 64},
		"UV":                {BuiltInUV: 9},
		"attestation":       {Attestation: 9},
		"PIN without PIN":   {PIN: testPIN, NoClientPIN: true},
		"short PIN":         {PIN: testPIN, MinPINLength: 7},
		"PIN of no UTF-8":   {PIN: "271828\xFF"},
		"no algorithm":      {Algorithms: []cose.Algorithm{}},
		"algorithm, twice":  {Algorithms: []cose.Algorithm{cose.ES256, cose.ES256}},
		"no transport":      {Transports: []string{}},
		"transport, twice":  {Transports: []string{"usb", "nfc", "usb"}},
		"no protocol":       {PINProtocols: []pin.Protocol{}},
		"extension, twice":  {Extensions: []string{"credProtect", "credProtect"}},
		"ID length":         {MaxCredentialIDLength: 64},
		"small blobs":       {MaxSerializedLargeBlobArray: 1023},
		"large blobs":       {MaxSerializedLargeBlobArray: greatestLargeBlobArray + 1},
		"small credBlob":    {MaxCredBlobLength: 31},
		"large credBlob":    {MaxCredBlobLength: greatestMaxCredBlobLength + 1},
		"both large blobs":  {Extensions: []string{"largeBlobKey", "largeBlob"}},
		"blob key, no rk":   {Extensions: []string{"largeBlobKey"}, NoResidentKeys: true},
		"blob key, PIN":     {Extensions: []string{"largeBlobKey"}, NoPINUVAuthToken: true},
		"credBlob, no rk":   {Extensions: []string{"credBlob"}, NoResidentKeys: true},
		"secret of nothing": {Extensions: []string{"hmac-secret-mc"}},
		"largeBlob, level":  {Level: CTAP21, Extensions: []string{"largeBlob"}},
		"no way to verify":  {AlwaysUV: true, NoClientPIN: true},
		"many fingers":      {BuiltInUV: UVConfigured, Fingerprints: 200, MaxTemplateFriendlyName: 64},
		"too many fingers":  {BuiltInUV: UVConfigured, Fingerprints: 500},
		"long finger names": {BuiltInUV: UVConfigured, MaxTemplateFriendlyName: math.MaxInt},
		"many commands":     {VendorConfigCommands: make([]uint64, 1000)},
		"PIN not for that":  {AlwaysUV: true, PIN: testPIN, NoMCGAPermissionsWithClientPIN: true},
	} {
		if a, err := New(cfg); err == nil {
			a.Close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}

func TestExchangeBadMessages(t *testing.T) {
	key := newKey(t, Config{MaxMsgSize: 1024})
	for name, test := range map[string]struct {
		msg  []byte
		want byte
	}{
		"empty":              {nil, ctap.StatusInvalidLength},
		"unassigned command": {[]byte{0x03}, ctap.StatusInvalidCommand},
		"vendor command":     {[]byte{0x41, 0xA0}, ctap.StatusInvalidCommand},
		"too long":           {append([]byte{ctap.CmdGetInfo}, make([]byte, 1024)...), ctap.StatusRequestTooLarge},
		"no map":             {[]byte{ctap.CmdGetInfo, 0x80}, ctap.StatusCBORUnexpectedType},
		"half a map":         {[]byte{ctap.CmdMakeCredential, 0xA1}, ctap.StatusInvalidCBOR},
		"keys out of order":  {[]byte{ctap.CmdGetAssertion, 0xA2, 2, 0, 1, 0}, ctap.StatusInvalidCBOR},
		"long integer":       {[]byte{ctap.CmdClientPIN, 0xA1, 2, 0x18, 1}, ctap.StatusInvalidCBOR},
		"duplicate key":      {[]byte{ctap.CmdClientPIN, 0xA2, 2, 1, 2, 1}, ctap.StatusInvalidCBOR},
		"trailing byte":      {[]byte{ctap.CmdClientPIN, 0xA1, 2, 1, 0}, ctap.StatusInvalidCBOR},
		"indefinite length":  {[]byte{ctap.CmdClientPIN, 0xBF, 2, 1, 0xFF}, ctap.StatusInvalidCBOR},
		"parameters absent":  {[]byte{ctap.CmdClientPIN}, ctap.StatusMissingParameter},
		"null":               {[]byte{ctap.CmdClientPIN, 0xA1, 2, 0xF6}, ctap.StatusCBORUnexpectedType},
		"unknown members":    {[]byte{ctap.CmdGetInfo, 0xA1, 0x18, 0x77, 0xF6}, ctap.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := key.Exchange(t.Context(), test.msg, nil)
			if err != nil || answer[0] != test.want {
				t.Fatalf("answer % x, %v; want status %#02x", answer[:1], err, test.want)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.PowerCycle()
	if _, err := a.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); !errors.Is(err, ctap.ErrClosed) {
		t.Fatalf("Exchange on a closed key: %v", err)
	}
}

func TestKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(350 * time.Millisecond)})
		var heard []time.Duration
		start := time.Now()
		status, _ := key.exchange(t.Context(), []byte{ctap.CmdSelection}, func(status byte) {
			if status != ctap.KeepaliveUPNeeded {
				t.Errorf("keepalive %d", status)
			}
			heard = append(heard, time.Since(start))
		})
		if status != ctap.StatusOK {
			t.Fatalf("status %#02x", status)
		}
		want := []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
		if !slices.Equal(heard, want) {
			t.Fatalf("keepalives at %v, want %v", heard, want)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore})
		cancelled := func(command byte, parameters any) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if status, _ := key.exchange(ctx, message(t, command, parameters), nil); status != ctap.StatusKeepaliveCancel {
				t.Errorf("command %#02x: status %#02x", command, status)
			}
		}
		cancelled(ctap.CmdSelection, nil)
		cancelled(ctap.CmdReset, nil)
		cancelled(ctap.CmdMakeCredential, makeRequest())
		cancelled(ctap.CmdMakeCredential, makeRequest(params{8: []byte{}}))
		key.SetPresence(Touch)
		cred := key.make()
		key.SetPresence(Ignore)
		cancelled(ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
		// An excluded credential too: only what the person does is no matter.
		cancelled(ctap.CmdMakeCredential, makeRequest(exclude(cred.id)))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if status, _ := key.exchange(ctx, []byte{ctap.CmdGetInfo}, nil); status != ctap.StatusKeepaliveCancel {
			t.Errorf("cancelled before: status %#02x", status)
		}
	})
}

// A touch that comes before the cancellation decides, even if the key learns of
// both at once.
func TestCancelAfterTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(150 * time.Millisecond)})
		for range 20 { // the key has a choice each time
			ctx, cancel := context.WithCancel(t.Context())
			start := time.Now()
			status, _ := key.exchange(ctx, []byte{ctap.CmdSelection}, func(byte) {
				if time.Since(start) > 0 {
					time.Sleep(100 * time.Millisecond)
					synctest.Wait() // the touch is in
					cancel()
				}
			})
			if status != ctap.StatusOK {
				t.Fatalf("status %#02x", status)
			}
		}
	})
}

func TestOneCommandAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(time.Second)})
		var wg sync.WaitGroup
		start := time.Now()
		for range 3 {
			wg.Go(func() {
				if status, _ := key.exchange(t.Context(), []byte{ctap.CmdSelection}, nil); status != ctap.StatusOK {
					t.Errorf("status %#02x", status)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if status, _ := key.exchange(ctx, []byte{ctap.CmdGetInfo}, nil); status != ctap.StatusKeepaliveCancel {
			t.Errorf("command that waits for its turn: status %#02x", status)
		}
		wg.Wait()
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("three touches of a second took %v", d)
		}
	})
}

func TestUnpluggedWhileWaiting(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(*Authenticator)
		want error
	}{
		"PowerCycle": {(*Authenticator).PowerCycle, ctap.ErrDeviceGone},
		"Close":      {func(a *Authenticator) { a.Close() }, ctap.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newKey(t, Config{Presence: Ignore})
				var wg sync.WaitGroup
				for range 2 { // one that waits for a touch, one for its turn
					wg.Go(func() {
						if _, err := key.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); !errors.Is(err, test.want) {
							t.Errorf("Exchange: %v, want %v", err, test.want)
						}
					})
				}
				synctest.Wait()
				test.do(key.Authenticator)
				wg.Wait()
				if _, err := key.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); (err == nil) != (name == "PowerCycle") {
					t.Errorf("Exchange afterwards: %v", err)
				}
			})
		})
	}
}

// The functions that a command waits for may end it.
func TestUnpluggedFromWithin(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(*Authenticator)
		want error
	}{
		"PowerCycle": {(*Authenticator).PowerCycle, ctap.ErrDeviceGone},
		"Close":      {func(a *Authenticator) { a.Close() }, ctap.ErrClosed},
	} {
		t.Run("status: "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newKey(t, Config{Presence: TouchAfter(time.Second)})
				calls := 0
				_, err := key.Exchange(t.Context(), []byte{ctap.CmdSelection}, func(byte) {
					calls++
					if calls == 3 {
						test.do(key.Authenticator)
					}
				})
				if !errors.Is(err, test.want) || calls != 3 {
					t.Errorf("%v after %d calls, want %v", err, calls, test.want)
				}
				if _, err := key.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); (err == nil) != (name == "PowerCycle") {
					t.Errorf("Exchange afterwards: %v", err)
				}
			})
		})
		t.Run("person: "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var key *platform
				key = newKey(t, Config{Presence: func(context.Context, Prompt) Answer {
					test.do(key.Authenticator)
					return Approve
				}})
				if _, err := key.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
			})
		})
	}
}

// The status function is called by the goroutine that called Exchange, so that a
// test may fail in it, which ends that goroutine, and the command. The key is as
// good as before then, and as busy until then.
func TestStatusFunctionEndsItsGoroutine(t *testing.T) {
	for name, person := range map[string]Person{"nobody asked": nil, "asked": Ignore} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newKey(t, Config{Presence: person})
				var first, second sync.WaitGroup
				ended := false
				first.Go(func() {
					key.Exchange(t.Context(), []byte{ctap.CmdSelection}, func(byte) {
						second.Go(func() {
							key.ok(ctap.CmdGetInfo, nil)
							ended = true
						})
						synctest.Wait()
						if ended {
							t.Error("another command had the key meanwhile")
						}
						runtime.Goexit()
					})
					t.Error("the status function is called by another goroutine")
				})
				first.Wait()
				second.Wait()
			})
		})
	}
}

// Within the status function the key is busy.
func TestExchangeFromWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		status, _ := key.exchange(t.Context(), []byte{ctap.CmdSelection}, func(byte) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if status, _ := key.exchange(ctx, []byte{ctap.CmdGetInfo}, nil); status != ctap.StatusKeepaliveCancel {
				t.Errorf("status %#02x", status)
			}
		})
		if status != ctap.StatusOK {
			t.Errorf("status %#02x", status)
		}
	})
}

// A key that loses its power in the call before something that takes long does
// not begin it.
func TestUnpluggedWhileProcessing(t *testing.T) {
	key := newKey(t, Config{Algorithms: []cose.Algorithm{cose.RS256}})
	request := makeRequest(params{4: []names{{"alg": -257, "type": "public-key"}}})
	var heard []byte
	_, err := key.Exchange(t.Context(), message(t, ctap.CmdMakeCredential, request), func(status byte) {
		heard = append(heard, status)
		if status == ctap.KeepaliveProcessing {
			key.PowerCycle()
		}
	})
	if !errors.Is(err, ctap.ErrDeviceGone) || !slices.Equal(heard, []byte{ctap.KeepaliveUPNeeded, ctap.KeepaliveProcessing}) {
		t.Errorf("%v, keepalives %v", err, heard)
	}
	if n := len(key.stored()); n != 0 {
		t.Errorf("%d credentials", n)
	}
}

// Whoever unplugs a key first, a closed one is closed.
func TestClosedWhileUnplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		closed := func() {
			t.Helper()
			if _, err := key.Exchange(t.Context(), []byte{ctap.CmdGetInfo}, nil); !errors.Is(err, ctap.ErrClosed) {
				t.Errorf("Exchange: %v", err)
			}
		}
		key.turn <- struct{}{} // a command that takes long
		var wg sync.WaitGroup
		wg.Go(key.PowerCycle)
		synctest.Wait()
		wg.Go(func() { key.Close() })
		synctest.Wait()
		closed()
		<-key.turn
		wg.Wait()
		closed()
	})
}

// Of two who unplug it at once, the second takes the power away that the first
// gave.
func TestPowerCycleTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		key.turn <- struct{}{} // the first
		var wg sync.WaitGroup
		wg.Go(key.PowerCycle)
		synctest.Wait()
		if err := key.powerUp(); err != nil {
			t.Fatal(err)
		}
		between := key.power
		<-key.turn
		wg.Wait()
		if between.Err() == nil {
			t.Error("a command of the time between would go on")
		}
		key.ok(ctap.CmdGetInfo, nil)
	})
}

func TestSelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		key.ok(ctap.CmdSelection, nil)
		key.SetPresence(nil)
		key.ok(ctap.CmdSelection, nil)
		key.SetPresence(Refuse)
		key.refused(ctap.StatusOperationDenied, ctap.CmdSelection, nil)
		key.SetPresence(Ignore)
		start := time.Now()
		key.refused(ctap.StatusUserActionTimeout, ctap.CmdSelection, nil)
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("waited %v", d)
		}
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdSelection, []int{})

		old := newKey(t, Config{Level: CTAP20})
		old.refused(ctap.StatusInvalidCommand, ctap.CmdSelection, nil)
	})
}

// Nobody is asked where the answer is known, but the key blinks all the same, and
// what happens while it does counts.
func TestTouchAtOnce(t *testing.T) {
	key := newKey(t, Config{})
	var heard []byte
	exchange := func(then func()) (byte, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if then == nil {
			then = cancel
		}
		heard = nil
		answer, err := key.Exchange(ctx, []byte{ctap.CmdSelection}, func(status byte) {
			heard = append(heard, status)
			then()
		})
		if err != nil {
			return 0, err
		}
		return answer[0], nil
	}
	if status, err := exchange(func() {}); err != nil || status != ctap.StatusOK {
		t.Errorf("status %#02x, %v", status, err)
	}
	if !slices.Equal(heard, []byte{ctap.KeepaliveUPNeeded}) {
		t.Errorf("keepalives %v", heard)
	}
	if status, err := exchange(nil); err != nil || status != ctap.StatusKeepaliveCancel {
		t.Errorf("cancelled: status %#02x, %v", status, err)
	}
	if _, err := exchange(key.PowerCycle); !errors.Is(err, ctap.ErrDeviceGone) {
		t.Errorf("unplugged: %v", err)
	}
	key.ok(ctap.CmdSelection, nil)
}

func TestPresenceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore, PresenceTimeout: 5 * time.Second})
		start := time.Now()
		// Unlike selection, makeCredential and getAssertion do not tell a
		// timeout from a refusal.
		key.refused(ctap.StatusOperationDenied, ctap.CmdMakeCredential, makeRequest())
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

// A Person sees what the request is about.
func TestPrompt(t *testing.T) {
	var c counter
	key := newKey(t, Config{Presence: c.person})
	cred := key.make()
	key.assert(cred, allow(cred.id))
	want := []Prompt{
		{Command: ctap.CmdMakeCredential, RPID: testRPID, UserName: "ada@example.com"},
		{Command: ctap.CmdGetAssertion, RPID: testRPID},
	}
	if !slices.Equal(c.prompts, want) {
		t.Fatalf("prompts %+v", c.prompts)
	}
}

func TestNoUserPresence(t *testing.T) {
	var c counter
	key := newKey(t, Config{NoUserPresence: true, Presence: c.person})
	if key.options()["up"] {
		t.Error("option up")
	}
	cred := key.make()
	key.wantFlags(cred, flagAT)
	d, _ := key.assert(cred, allow(cred.id))
	key.wantFlags(d, 0)
	key.refused(ctap.StatusUnsupportedOption, ctap.CmdMakeCredential, makeRequest(params{7: names{"up": true}}))
	key.refused(ctap.StatusUnsupportedOption, ctap.CmdGetAssertion, assertRequest(params{5: names{"up": true}}))
	if c.took() != 0 {
		t.Error("somebody was asked for a touch")
	}
}

// No answer is longer than maxMsgSize, however much there is to tell.
func TestLongestAnswersFit(t *testing.T) {
	fits := func(key *platform, command byte, parameters any) {
		t.Helper()
		answer, err := key.Exchange(t.Context(), message(t, command, parameters), nil)
		if err != nil || answer[0] != ctap.StatusOK || len(answer) > key.cfg.MaxMsgSize {
			t.Errorf("answer of %d bytes with status %#02x, %v; maxMsgSize is %d", len(answer), answer[0], err, key.cfg.MaxMsgSize)
		}
	}

	for _, cfg := range []Config{
		{Fingerprints: 300},
		{Fingerprints: 89, MaxTemplateFriendlyName: 64},
		{MaxMsgSize: 1024, MaxTemplateFriendlyName: 172},
		{MaxMsgSize: 300, Extensions: []string{}},
		{MaxMsgSize: 128, Extensions: []string{}},
	} {
		cfg.PIN, cfg.BuiltInUV = testPIN, UVNotConfigured
		key := newKey(t, cfg)
		for range key.cfg.Fingerprints {
			f := key.state.newFingerprint(randomBytes(templateIDLength))
			f.name = strings.Repeat("x", key.cfg.MaxTemplateFriendlyName)
			rec, err := f.record()
			if err != nil {
				t.Fatal(err)
			}
			if err := key.state.commit(rec); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := key.enumerateEnrollments()
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := cbor.Marshal(answer)
		if err != nil || 1+len(encoded) > key.cfg.MaxMsgSize {
			t.Errorf("%d fingerprints of %d bytes take %d, %v; maxMsgSize is %d",
				key.cfg.Fingerprints, key.cfg.MaxTemplateFriendlyName, 1+len(encoded), err, key.cfg.MaxMsgSize)
		}
	}

	key := newKey(t, Config{
		Extensions:        []string{"credProtect", "credBlob", "hmac-secret", "largeBlob", "thirdPartyPayment"},
		MaxCredBlobLength: 1024, MaxSerializedLargeBlobArray: 65536,
	})
	cred := key.make(residentKey(), params{6: names{"credBlob": bytes.Repeat([]byte{1}, 1024), "largeBlob": names{"support": "required"}}})
	longest := key.cfg.MaxMsgSize - 1024 - 1024
	if key.writeBlob(cred, bytes.Repeat([]byte{7}, longest+1)) {
		t.Error("a blob is written that leaves no room for a credBlob")
	}
	if !key.writeBlob(cred, bytes.Repeat([]byte{7}, longest)) {
		t.Error("a blob is not written")
	}
	fits(key, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{4: names{"largeBlob": names{"read": true}, "credBlob": true}}))

	commands := make([]uint64, 100)
	for i := range commands {
		commands[i] = 1<<63 + uint64(i)
	}
	cfg := ProfileCTAP23.Config()
	cfg.VendorConfigCommands = commands
	fits(newKey(t, cfg), ctap.CmdGetInfo, nil)
	for _, profile := range Profiles()[1:] {
		fits(newKey(t, profile.Config()), ctap.CmdGetInfo, nil)
	}
}
