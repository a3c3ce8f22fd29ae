package keys_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
)

// deskKeys is how many keys the hubs of a provisioning desk hold, and more.
const deskKeys = 200

// keyHeap is how many bytes of heap an open key may take while nobody uses it.
const keyHeap = 64 << 10

// attached is a key in a USB port and the program that has it open.
type attached struct {
	soft *virtual.Authenticator
	usb  *virtual.USB
	*ctap2.Authenticator
}

func attach(t testing.TB, cfg virtual.Config, port virtual.USBConfig) *attached {
	t.Helper()
	soft, err := virtual.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	usb := soft.PlugIn(port)
	conn, err := usb.Open()
	if err != nil {
		t.Fatal(err)
	}
	device, err := hid.New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ctap2.Open(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		key.Close()
		usb.Unplug()
		soft.Close()
	})
	return &attached{soft, usb, key}
}

func (k *attached) register(ctx context.Context, user string) (*ctap2.Credential, error) {
	return k.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: make([]byte, 32),
		RP:             ctap2.RelyingParty{ID: "example.com"},
		User:           ctap2.User{ID: []byte(user), Name: user},
		Algorithms:     []cose.Algorithm{cose.ES256},
		ResidentKey:    true,
	})
}

// use signs in with a credential and verifies it.
func (k *attached) use(ctx context.Context, c *ctap2.Credential) error {
	hash := make([]byte, 32)
	list, err := k.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID: "example.com", ClientDataHash: hash, AllowList: []ctap2.CredentialDescriptor{c.Descriptor()},
	})
	if err != nil {
		return err
	}
	return list[0].Verify(c.PublicKey, hash)
}

// heap returns how many bytes are in use when garbage is gone.
func heap() uint64 {
	for range 2 { // what has a finalizer, or is in a pool, takes two
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What an open key costs while nobody uses it: alone, and with its USB port, the
// connection to it and the client, also when it has been used.
func TestIdleKeys(t *testing.T) {
	goroutines, bytes := runtime.NumGoroutine(), heap()
	check := func(what string) {
		t.Helper()
		each := (int64(heap()) - int64(bytes)) / deskKeys
		more := settled(goroutines) - goroutines
		t.Logf("%s: %d bytes of heap each, %d goroutines in all", what, each, more)
		if each > keyHeap {
			t.Errorf("%s: %d bytes of heap each", what, each)
		}
		if more > deskKeys/20 { // none, but the runtime may start some of its own
			t.Errorf("%s: %d goroutines", what, more)
		}
	}
	var alone []*virtual.Authenticator
	for range deskKeys {
		soft, err := virtual.New(virtual.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		alone = append(alone, soft)
	}
	check("alone")
	runtime.KeepAlive(alone)

	goroutines, bytes = runtime.NumGoroutine(), heap()
	var desk []*attached
	for range deskKeys {
		desk = append(desk, attach(t, virtual.Config{}, virtual.USBConfig{}))
	}
	check("on USB, open")
	for _, key := range desk {
		c, err := key.register(t.Context(), "ada")
		if err == nil {
			err = key.use(t.Context(), c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check("on USB, used")
	runtime.KeepAlive(desk)
}

// 200 registrations at a time end with 200 credentials, each of its own key.
func TestProvision(t *testing.T) {
	var desk []*attached
	for range deskKeys {
		desk = append(desk, attach(t, virtual.Config{}, virtual.USBConfig{}))
	}
	made := make([]*ctap2.Credential, len(desk))
	var registrations sync.WaitGroup
	for i, key := range desk {
		registrations.Go(func() {
			var err error
			if made[i], err = key.register(t.Context(), fmt.Sprint("user ", i)); err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	registrations.Wait()
	if t.Failed() {
		t.FailNow()
	}
	ids := make(map[string]bool)
	for i, key := range desk {
		ids[string(made[i].ID)] = true
		if err := key.use(t.Context(), made[i]); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if len(ids) != len(desk) {
		t.Errorf("%d credentials of %d keys", len(ids), len(desk))
	}
}

// Of 200 keys that blink the one that is touched is found, and the others are
// told to stop, and do.
func TestSelectAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const touched = 137
		var blinking, cancelled atomic.Int32
		var open []*ctap2.Authenticator
		for i := range deskKeys {
			person := func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
				blinking.Add(1)
				<-ctx.Done()
				cancelled.Add(1)
				return virtual.Nothing
			}
			if i == touched {
				person = virtual.TouchAfter(3 * time.Second)
			}
			open = append(open, attach(t, virtual.Config{Presence: person}, virtual.USBConfig{}).Authenticator)
		}
		since := time.Now()
		if i, err := keys.Select(t.Context(), open); err != nil || i != touched {
			t.Errorf("key %d, %v", i, err)
		}
		for i, key := range open {
			if _, err := key.GetInfo(t.Context()); err != nil {
				t.Errorf("key %d afterwards: %v", i, err)
			}
		}
		if took := time.Since(since); took > 4*time.Second { // a key that was not cancelled waits for 30
			t.Errorf("took %v", took)
		}
		if blinking.Load() != deskKeys-1 || cancelled.Load() != deskKeys-1 {
			t.Errorf("%d other keys blinked and %d stopped", blinking.Load(), cancelled.Load())
		}
	})
}

// Keys share no lock: while some hold all of theirs, in each layer at least one,
// the others do all that they can do.
func TestKeysShareNoLock(t *testing.T) {
	release := make(chan struct{})
	holding := make(chan string, 3)
	hold := func(what string) {
		holding <- what
		<-release
	}
	var held sync.WaitGroup
	busy := func(key *attached, command func(*attached) error) {
		held.Go(func() {
			if err := command(key); err != nil {
				t.Error(err)
			}
		})
	}
	register := func(k *attached) error {
		_, err := k.register(t.Context(), "busy")
		return err
	}
	// The person: the turns of client, device and key.
	person := func(context.Context, virtual.Prompt) virtual.Answer {
		hold("a person")
		return virtual.Approve
	}
	busy(attach(t, virtual.Config{Presence: person}, virtual.USBConfig{}), register)
	// The cable: the lock of the port, and of the connections to it.
	port := virtual.USBConfig{Wink: func() { hold("a port") }}
	busy(attach(t, virtual.Config{}, port), func(k *attached) error {
		return k.Transport().(*hid.Device).Wink(t.Context())
	})
	// The file.
	cfg := virtual.Config{Path: filepath.Join(t.TempDir(), "key"), Presence: person}
	busy(attach(t, cfg, virtual.USBConfig{}), register)
	for range cap(holding) {
		<-holding
	}

	var others sync.WaitGroup
	for range 20 {
		key := attach(t, virtual.Config{Path: filepath.Join(t.TempDir(), "key")}, virtual.USBConfig{})
		others.Go(func() {
			c, err := key.register(t.Context(), "ada")
			if err == nil {
				err = key.use(t.Context(), c)
			}
			if err == nil {
				err = key.Transport().(*hid.Device).Wink(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
			key.usb.Unplug()
		})
	}
	done := make(chan struct{})
	go func() {
		others.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("other keys wait for those that are busy")
	}
	close(release)
	held.Wait()
	<-done
}

// BenchmarkSignIn measures a sign-in through the client, which does not verify it:
// "ratio" is its time over that of a bare ECDSA signature and the SHA-256 of the
// same data. The two take turns, and the times are medians.
func BenchmarkSignIn(b *testing.B) {
	soft, err := virtual.New(virtual.Config{})
	if err != nil {
		b.Fatal(err)
	}
	memory, err := ctap2.Open(b.Context(), soft)
	if err != nil {
		b.Fatal(err)
	}
	defer memory.Close()
	for name, key := range map[string]*attached{
		"memory": {Authenticator: memory},
		"usb":    attach(b, virtual.Config{}, virtual.USBConfig{}),
	} {
		b.Run(name, func(b *testing.B) {
			c, err := key.register(b.Context(), "ada")
			if err != nil {
				b.Fatal(err)
			}
			request := &ctap2.GetAssertionRequest{
				RPID: "example.com", ClientDataHash: make([]byte, 32), AllowList: []ctap2.CredentialDescriptor{c.Descriptor()},
			}
			bare, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 37+len(request.ClientDataHash)) // authenticator data and client data hash
			var signIn, signing []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if _, err := key.GetAssertion(b.Context(), request); err != nil {
					b.Fatal(err)
				}
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
