package keys_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

const (
	loadKeys = 50
	// loadStored is how many discoverable credentials fit into a key, and
	// loadSealed how many others a worker keeps in mind: few, so that the heap
	// has its size early on.
	loadStored = 3
	loadSealed = 6
	// loadPause is the longest pause between two of a key's commands. It leaves
	// most of one processor to others.
	loadPause = 400 * time.Millisecond
	// loadHeap is how many bytes of heap a key may take, with its USB port, its
	// client, and all that the worker remembers.
	loadHeap = 128 << 10

	loadPIN  = "271828"
	wrongPIN = "314159"
)

// loadRPs are the relying parties of all keys.
var loadRPs = []string{"one.example", "two.example", "three.example"}

// TestMixedLoad has 50 keys registered with, signed in with, given wrong PINs,
// cancelled and unplugged, for two seconds, or as long as the environment
// variable FIDO_LOAD says (1h). Every other key is in a file, and some of its
// plugs are new processes. What a key has acknowledged it must know for good, and
// its signature counter never goes back; neither the heap nor the number of
// goroutines grows.
//
//	FIDO_LOAD=1h go test -v -timeout 2h -run TestMixedLoad ./ctap2/keys
func TestMixedLoad(t *testing.T) {
	duration := 2 * time.Second
	if s := os.Getenv("FIDO_LOAD"); s != "" {
		var err error
		if duration, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	before := runtime.NumGoroutine()
	var load load
	for i := range loadKeys {
		cfg := virtual.Config{PIN: loadPIN, Credentials: loadStored}
		if i%2 == 0 {
			cfg.Path = filepath.Join(t.TempDir(), "key")
		}
		w := &worker{load: &load, cfg: cfg}
		if err := w.plugIn(t.Context()); err != nil {
			t.Fatal(err)
		}
		load.workers = append(load.workers, w)
	}
	idle := load.sample(t, 0)

	end := time.Now().Add(duration)
	var running sync.WaitGroup
	for i, w := range load.workers {
		running.Go(func() {
			if err := w.run(t.Context(), end); err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	var samples []sample
	const steps = 12
	for i := range steps {
		time.Sleep(time.Until(end.Add(-duration * time.Duration(steps-1-i) / steps)))
		samples = append(samples, load.sample(t, duration*time.Duration(i+1)/steps))
	}
	running.Wait()
	for i, w := range load.workers {
		if err := w.useAll(t.Context()); err != nil {
			t.Errorf("key %d at the end: %v", i, err)
		}
	}
	settled(idle.goroutines)
	last := load.sample(t, duration)
	if last.goroutines > idle.goroutines {
		t.Errorf("%d goroutines at the end, %d at the start", last.goroutines, idle.goroutines)
	}
	if last.heap > loadKeys*loadHeap {
		t.Errorf("%d bytes of heap for each key", last.heap/loadKeys)
	}
	// A run of ten minutes has filled the keys in its first quarter.
	if quarter := samples[steps/4-1]; duration >= 10*time.Minute && last.heap > quarter.heap+quarter.heap/10 {
		t.Errorf("%d bytes of heap at the end, %d after a quarter of the time", last.heap, quarter.heap)
	}
	for _, w := range load.workers {
		if err := w.pullOut(); err != nil {
			t.Error(err)
		}
	}
	if n := settled(before); n > before {
		t.Errorf("%d goroutines when all is closed, %d before", n, before)
	}
}

// Kinds of what a worker does.
type kind int

const (
	registration kind = iota
	signIn
	discovery
	mistake
	cancellation
	removal
	clearing
	kinds
)

// share is how often each is done, in percent. Room is made when there is none.
var share = [kinds]int{registration: 15, signIn: 45, discovery: 15, mistake: 10, cancellation: 10, removal: 5}

func (k kind) String() string {
	return [...]string{"register", "sign in", "sign in without a list", "wrong PIN", "cancel", "unplug", "make room"}[k]
}

// load is what the workers have in common: nothing that a key uses.
type load struct {
	workers []*worker
	done    [kinds]atomic.Int64
	// quiet is held by whoever measures, and shared by whoever does something.
	quiet sync.RWMutex
}

// sample is what the process takes while no key does anything.
type sample struct {
	heap       uint64 // bytes in use
	goroutines int
}

func (l *load) sample(t *testing.T, at time.Duration) sample {
	l.quiet.Lock()
	defer l.quiet.Unlock()
	s := sample{goroutines: runtime.NumGoroutine()}
	for range 2 { // what has a finalizer, or is in a pool, takes two
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap = m.HeapAlloc
	known := 0
	for _, w := range l.workers {
		known += len(w.stored) + len(w.sealed)
	}
	line := fmt.Sprintf("%7v: %.2f MB of heap, %d goroutines, %d credentials;", at.Round(100*time.Millisecond), float64(s.heap)/1e6, s.goroutines, known)
	for k := range kinds {
		line += fmt.Sprintf(" %s: %d", k, l.done[k].Load())
	}
	t.Log(line)
	return s
}

// settled returns the number of goroutines, once it is no more than want, or has
// had a second to become so.
func settled(want int) int {
	for range 100 {
		if runtime.NumGoroutine() <= want {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return runtime.NumGoroutine()
}

// A worker is a key, and the program and the person in front of it.
type worker struct {
	*load
	cfg    virtual.Config
	soft   *virtual.Authenticator
	usb    *virtual.USB
	key    *ctap2.Authenticator
	random *rand.Rand

	pin   string // what the person enters
	touch func() // what happens when the key blinks; nil: a touch

	stored, sealed []registered // what the key has acknowledged
	signCount      uint32
	users          uint64
}

// registered is what a relying party remembers.
type registered struct {
	rpID string
	id   []byte
	key  *cose.Key
}

// plugIn is a program that opens the key, after another has ended.
func (w *worker) plugIn(ctx context.Context) (err error) {
	w.pin, w.touch = loadPIN, nil
	if w.soft == nil {
		if w.soft, err = virtual.New(w.cfg); err != nil {
			return err
		}
		w.usb = w.soft.PlugIn(virtual.USBConfig{})
	}
	w.usb.PlugIn()
	conn, err := w.usb.Open()
	if err != nil {
		return err
	}
	device, err := hid.New(ctx, conn)
	if err != nil {
		return err
	}
	w.key, err = ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(w.pin), nil },
		Touch: func(ctap2.TouchRequest) {
			if w.touch != nil {
				w.touch()
			}
		},
	}))
	return err
}

// pullOut ends the program, and the key with it.
func (w *worker) pullOut() error {
	err := w.key.Close()
	w.usb.Unplug()
	err = errors.Join(err, w.soft.Close())
	w.soft = nil
	return err
}

// run does everything once, and then whatever comes.
func (w *worker) run(ctx context.Context, end time.Time) error {
	w.random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for k := range kinds {
		if err := w.act(ctx, k); err != nil {
			return err
		}
	}
	for time.Now().Before(end) {
		time.Sleep(time.Duration(w.random.Int64N(int64(loadPause))))
		k, n := kind(0), w.random.IntN(100)
		for n >= share[k] {
			n -= share[k]
			k++
		}
		if err := w.act(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) act(ctx context.Context, k kind) error {
	w.quiet.RLock()
	defer w.quiet.RUnlock()
	do := [...]func(context.Context) error{w.register, w.signIn, w.discover, w.mistype, w.cancel, w.remove, w.makeRoom}[k]
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	w.done[k].Add(1)
	return nil
}

var loadHash = make([]byte, 32)

// register makes a credential, for a new account, and forgets an old one where
// there is no room.
func (w *worker) register(ctx context.Context) error {
	w.users++
	resident := w.random.IntN(2) == 0
	rpID := loadRPs[w.random.IntN(len(loadRPs))]
	request := &ctap2.MakeCredentialRequest{
		ClientDataHash: loadHash,
		RP:             ctap2.RelyingParty{ID: rpID},
		User:           ctap2.User{ID: fmt.Appendf(nil, "user %d", w.users), Name: "ada"},
		Algorithms:     []cose.Algorithm{cose.ES256},
		ResidentKey:    resident,
	}
	if w.random.IntN(4) == 0 {
		request.Algorithms[0] = cose.EdDSA
	}
	cred, err := w.key.MakeCredential(ctx, request)
	if errors.Is(err, ctap2.ErrKeyStoreFull) && resident {
		w.done[clearing].Add(1)
		if err = w.makeRoom(ctx); err == nil {
			cred, err = w.key.MakeCredential(ctx, request)
		}
	}
	if err != nil {
		return err
	}
	known := registered{rpID, cred.ID, cred.PublicKey}
	if resident {
		w.stored = append(w.stored, known)
		return nil
	}
	if w.sealed = append(w.sealed, known); len(w.sealed) > loadSealed {
		w.sealed = slices.Delete(w.sealed, 0, 1)
	}
	return nil
}

// makeRoom deletes what the key was made to store and could not acknowledge,
// because it was pulled out, and one more.
func (w *worker) makeRoom(ctx context.Context) error {
	listed, err := w.key.EnumerateCredentials(ctx, nil)
	if err != nil {
		return err
	}
	ids := make(map[string]bool)
	for _, c := range listed {
		ids[string(c.Credential.ID)] = true
	}
	for _, known := range w.stored {
		if !ids[string(known.id)] {
			return fmt.Errorf("credential %x is not listed", known.id)
		}
		delete(ids, string(known.id))
	}
	if len(w.stored) > 0 {
		ids[string(w.stored[0].id)] = true
		w.stored = slices.Delete(w.stored, 0, 1)
	}
	for id := range ids {
		request := &ctap2.DeleteCredentialRequest{Credential: ctap2.CredentialDescriptor{ID: []byte(id)}}
		if err := w.key.DeleteCredential(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

// signIn uses one of the credentials.
func (w *worker) signIn(ctx context.Context) error {
	known := slices.Concat(w.stored, w.sealed)
	if len(known) == 0 {
		return nil
	}
	return w.use(ctx, known[w.random.IntN(len(known))])
}

func (w *worker) use(ctx context.Context, known registered) error {
	list, err := w.key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID: known.rpID, ClientDataHash: loadHash, AllowList: []ctap2.CredentialDescriptor{{ID: known.id}},
	})
	if err != nil {
		return err
	}
	return w.check(list[0], known)
}

// check verifies an assertion, and that the counter goes on.
func (w *worker) check(a *ctap2.Assertion, known registered) error {
	if err := a.Verify(known.key, loadHash); err != nil {
		return err
	}
	if a.AuthData.SignCount <= w.signCount {
		return fmt.Errorf("signature counter %d after %d", a.AuthData.SignCount, w.signCount)
	}
	w.signCount = a.AuthData.SignCount
	return nil
}

// discover signs in with all discoverable credentials of a relying party.
func (w *worker) discover(ctx context.Context) error {
	rpID := loadRPs[w.random.IntN(len(loadRPs))]
	known := make(map[string]registered)
	for _, r := range w.stored {
		if r.rpID == rpID {
			known[string(r.id)] = r
		}
	}
	list, err := w.key.GetAssertion(ctx, &ctap2.GetAssertionRequest{RPID: rpID, ClientDataHash: loadHash})
	if len(known) == 0 && errors.Is(err, ctap2.ErrNoCredentials) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range list {
		r, ok := known[string(a.Credential.ID)]
		if !ok { // one that could not be acknowledged
			w.signCount = max(w.signCount, a.AuthData.SignCount)
			continue
		}
		delete(known, string(a.Credential.ID))
		if err := w.check(a, r); err != nil {
			return err
		}
	}
	if len(known) > 0 {
		return fmt.Errorf("%d credentials of %s did not sign", len(known), rpID)
	}
	return nil
}

// mistype enters a wrong PIN, and then the right one.
func (w *worker) mistype(ctx context.Context) error {
	w.key.Forget()
	w.pin = wrongPIN
	request := &ctap2.GetAssertionRequest{RPID: loadRPs[0], ClientDataHash: loadHash, UserVerification: ctap2.Required}
	_, err := w.key.GetAssertion(ctx, request)
	w.pin = loadPIN
	if !errors.Is(err, ctap2.ErrPINInvalid) {
		return fmt.Errorf("a wrong PIN: %v", err)
	}
	if _, err = w.key.GetAssertion(ctx, request); err != nil && !errors.Is(err, ctap2.ErrNoCredentials) {
		return err
	}
	retries, err := w.key.PINRetries(ctx)
	if err == nil && retries.Retries != 8 {
		err = fmt.Errorf("%d tries left after the right PIN", retries.Retries)
	}
	return err
}

// cancel gives up when the key blinks.
func (w *worker) cancel(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.soft.SetPresence(virtual.Ignore)
	defer w.soft.SetPresence(nil)
	w.touch = cancel
	err := w.ask(ctx)
	w.touch = nil
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cancelled: %v", err)
	}
	return nil
}

// ask makes the key wait for a touch, for a registration or a choice.
func (w *worker) ask(ctx context.Context) error {
	if w.random.IntN(2) == 0 {
		return w.key.Selection(ctx)
	}
	_, err := w.key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: loadHash,
		RP:             ctap2.RelyingParty{ID: loadRPs[0]},
		User:           ctap2.User{ID: []byte("nobody")},
		Algorithms:     []cose.Algorithm{cose.ES256},
	})
	return err
}

// remove pulls the key out, while it blinks or in the middle of a command that
// may then have been carried out or not, and plugs it in again. If it is in a
// file, that may be another process; all that it knew it knows then, too.
func (w *worker) remove(ctx context.Context) error {
	if w.random.IntN(2) == 0 {
		w.soft.SetPresence(virtual.Ignore)
		w.touch = w.usb.Unplug
		err := w.ask(ctx)
		w.soft.SetPresence(nil)
		if !errors.Is(err, ctap2.ErrDeviceGone) {
			return fmt.Errorf("unplugged: %v", err)
		}
	} else {
		w.usb.SetFaults(virtual.USBFaults{UnplugAfter: 1 + w.random.IntN(40)})
		for err := error(nil); err == nil; {
			if err = w.register(ctx); err == nil {
				err = w.signIn(ctx)
			}
			if err != nil && !errors.Is(err, ctap2.ErrDeviceGone) {
				return err
			}
		}
		w.usb.SetFaults(virtual.USBFaults{})
	}
	err := w.key.Close()
	another := w.cfg.Path != "" && w.random.IntN(2) == 0
	if another {
		err = errors.Join(err, w.pullOut())
	}
	if err := errors.Join(err, w.plugIn(ctx)); err != nil {
		return err
	}
	if another {
		return w.useAll(ctx)
	}
	return nil
}

// useAll uses all that the key has acknowledged.
func (w *worker) useAll(ctx context.Context) error {
	for _, known := range slices.Concat(w.stored, w.sealed) {
		if err := w.use(ctx, known); err != nil {
			return fmt.Errorf("credential %x, which was acknowledged: %w", known.id, err)
		}
	}
	return nil
}
