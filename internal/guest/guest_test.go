//go:build guest

package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

// child, in the environment, makes the test binary another program: it does
// what the word says with the device of the first argument.
const child = "FIDO_GUEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(child); what != "" {
		if err := runChild(what, os.Args[1]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("FIDO_GUEST") != "1" {
		fmt.Println("these tests plug devices in and out: .ci/guest runs them in a virtual machine")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// here returns the sockets that this build can reach.
func here() iter.Seq2[string, socket] {
	return func(yield func(string, socket) bool) {
		for _, s := range sockets {
			if (s.usb || !libusb) && !yield(s.name, s) {
				return
			}
		}
	}
}

const keyPIN = "271828"

func newKey(t *testing.T) *virtual.Authenticator {
	t.Helper()
	key, err := virtual.New(virtual.Config{PIN: keyPIN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

// limited is a context for one test, so that none hangs.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// found waits for the one device.
func found(t *testing.T) hid.Info {
	t.Helper()
	var infos []hid.Info
	eventually(t, "one device in the list", func() bool {
		var err error
		if infos, err = hid.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(infos) == 1
	})
	return infos[0]
}

// open opens the one device. Right after it was plugged in, or closed by
// somebody who had taken it away from the kernel, it may still be on the move.
func open(t *testing.T) *hid.Device {
	t.Helper()
	var dev *hid.Device
	eventually(t, "opened", func() (ok bool) {
		infos, err := hid.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(infos) != 1 {
			return false
		}
		dev, err = hid.Open(limited(t), infos[0].Path)
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	t.Cleanup(func() { dev.Close() })
	return dev
}

func askPIN(context.Context, ctap2.PINRequest) (pin.Secret, error) {
	return pin.FromString(keyPIN), nil
}

// client opens an Authenticator. touch is called when the key waits.
func client(t *testing.T, dev *hid.Device, touch func()) *ctap2.Authenticator {
	t.Helper()
	a, err := ctap2.Open(limited(t), dev, ctap2.WithInteraction(ctap2.Interaction{
		PIN:   askPIN,
		Touch: func(ctap2.TouchRequest) { touch() },
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func nothing() {}

var hash = sha256.Sum256([]byte("client data"))

func register(t *testing.T, a *ctap2.Authenticator) *ctap2.Credential {
	t.Helper()
	credential, err := a.MakeCredential(limited(t), &ctap2.MakeCredentialRequest{
		ClientDataHash:   hash[:],
		RP:               ctap2.RelyingParty{ID: "example.com"},
		User:             ctap2.User{ID: []byte{1}, Name: "ada"},
		Algorithms:       []cose.Algorithm{cose.ES256},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// signIn returns the hmac-secret for a salt.
func signIn(t *testing.T, a *ctap2.Authenticator, credential *ctap2.Credential, salt byte) []byte {
	t.Helper()
	accounts, err := a.GetAssertion(limited(t), &ctap2.GetAssertionRequest{
		RPID:             "example.com",
		ClientDataHash:   hash[:],
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret(bytes.Repeat([]byte{salt}, 32))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(accounts) != 1 || !accounts[0].AuthData.Flags.Has(ctap2.FlagUserVerified) {
		t.Fatalf("%d accounts", len(accounts))
	}
	if err := accounts[0].Verify(credential.PublicKey, hash[:]); err != nil {
		t.Error(err)
	}
	secret, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Output1.Bytes()
}

func TestList(t *testing.T) {
	if infos, err := hid.List(t.Context()); len(infos) != 0 || err != nil {
		t.Fatalf("without a key: %v, %v", infos, err)
	}
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			p := s.plugIn(t, newKey(t))
			info := found(t)
			if info.Bus != hid.BusUSB || info.VendorID != vendorID || info.ProductID != productID ||
				info.Product != product || info.Serial != serial || info.InputReport != 64 || info.OutputReport != 64 ||
				s.usb && info.Manufacturer != "tapstone" || strings.HasPrefix(info.Path, "/dev/hidraw") == libusb {
				t.Errorf("%+v", info)
			}
			p.pullOut()
			eventually(t, "an empty list", func() bool {
				infos, err := hid.List(t.Context())
				return len(infos) == 0 && err == nil
			})
			if _, err := hid.Open(limited(t), info.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open what is gone: %v", err)
			}
		})
	}
}

// Register, sign in with the PIN, hmac-secret, cancel while the key waits for a
// touch, pull it out while it does, plug it in again and go on.
func TestKey(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			p := s.plugIn(t, key)
			var touch func()
			a := client(t, open(t), func() { touch() })
			touch = nothing
			credential := register(t, a)
			secret := signIn(t, a, credential, 1)
			if !bytes.Equal(secret, signIn(t, a, credential, 1)) || bytes.Equal(secret, signIn(t, a, credential, 2)) {
				t.Error("hmac-secret is not a function of the salt")
			}

			key.SetPresence(virtual.Ignore)
			request := &ctap2.GetAssertionRequest{RPID: "example.com", ClientDataHash: hash[:], UserVerification: ctap2.Discouraged}
			ctx, cancel := context.WithCancel(limited(t))
			touch = cancel
			if _, err := a.GetAssertion(ctx, request); !errors.Is(err, ctap2.ErrKeepaliveCancel) && !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			touch = func() { go p.pullOut() }
			if _, err := a.GetAssertion(limited(t), request); !errors.Is(err, ctap2.ErrDeviceGone) {
				t.Errorf("pulled out: %v", err)
			}
			p.pullOut() // to the end
			if err := a.Close(); err != nil {
				t.Logf("close: %v", err)
			}

			key.SetPresence(virtual.Touch)
			s.plugIn(t, key)
			a = client(t, open(t), nothing)
			if !bytes.Equal(secret, signIn(t, a, credential, 1)) {
				t.Error("another key after plugging it in again")
			}
		})
	}
}

// The largest message, 200 times in a row. uhid has room for 32 output reports
// and loses the rest, whoever writes them.
func TestPing(t *testing.T) {
	for name, s := range here() {
		if !s.usb {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s.plugIn(t, newKey(t))
			dev := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			message := make([]byte, dev.MaxMessageSize())
			if len(message) != 7609 {
				t.Errorf("%d bytes", len(message))
			}
			const rounds = 200
			start := time.Now()
			for round := range rounds {
				for i := range message {
					message[i] = byte(i*7 + i>>8 + round)
				}
				if _, err := dev.Ping(ctx, message); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			took := time.Since(start)
			t.Logf("%d messages of %d bytes in %v: %.1f messages/s, %.0f reports/s", rounds, len(message), took.Round(time.Millisecond),
				rounds/took.Seconds(), rounds*2*129/took.Seconds())
		})
	}
}

// Quirk 12: two programs, one device.
func TestQuirk12TwoProcesses(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			s.plugIn(t, key)
			dev := open(t)
			path := found(t).Path
			if libusb {
				// One program has it all to itself, and the other is told so.
				if out, err := startChild(t, "exchange", path).output(); err == nil || !strings.Contains(out, "in use by another program") {
					t.Errorf("opened twice: %v: %s", err, out)
				}
				if err := dev.Close(); err != nil {
					t.Fatal(err)
				}
				eventually(t, "opened by the other", func() bool {
					_, err := startChild(t, "exchange", path).output()
					return err == nil
				})
				return
			}
			// Both at the same time, with messages of many packets.
			c := startChild(t, "ping", path)
			for round := range 50 {
				message := bytes.Repeat([]byte{byte(round)}, 1500)
				if _, err := dev.Ping(limited(t), message); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			if out, err := c.output(); err != nil {
				t.Errorf("the other: %v: %s", err, out)
			}

			// The other waits while an exchange of ours waits for a touch.
			touched, waiting := make(chan struct{}), make(chan struct{})
			key.SetPresence(func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
				close(waiting)
				select {
				case <-touched:
					return virtual.Approve
				case <-ctx.Done():
					return virtual.Nothing
				}
			})
			selection := make(chan error, 1)
			go func() {
				answer, err := dev.Exchange(limited(t), []byte{0x0B}, nil)
				if err == nil && !bytes.Equal(answer, []byte{0}) {
					err = fmt.Errorf("answer %x", answer)
				}
				selection <- err
			}()
			<-waiting
			if out, err := startChild(t, "exchange", path).output(); err == nil || !strings.Contains(out, "another program has the device locked") {
				t.Errorf("not kept out: %v: %s", err, out)
			}
			close(touched)
			if err := <-selection; err != nil {
				t.Error(err)
			}
			if out, err := startChild(t, "exchange", path).output(); err != nil {
				t.Errorf("kept out for ever: %v: %s", err, out)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(limited(t))
			next, stop := iter.Pull2(hid.Watch(ctx))
			defer stop()
			expect := func(kind hid.EventKind) hid.Info {
				t.Helper()
				event, err, ok := next()
				if !ok || err != nil || event.Kind != kind || event.Info.Product != product {
					t.Fatalf("%+v, %v; want %v", event, err, kind)
				}
				return event.Info
			}
			key := newKey(t)
			p := s.plugIn(t, key)
			for range 2 {
				info := expect(hid.Arrival)
				p.pullOut()
				if gone := expect(hid.Removal); gone.Path != info.Path {
					t.Errorf("%s came, %s went", info.Path, gone.Path)
				}
				p = s.plugIn(t, key)
			}
			// One whose user has it open does not go away, and one that is
			// pulled out and plugged in again meanwhile did.
			expect(hid.Arrival)
			dev := open(t)
			if err := dev.Close(); err != nil {
				t.Fatal(err)
			}
			p.pullOut()
			p = s.plugIn(t, key)
			found(t)
			expect(hid.Removal)
			expect(hid.Arrival)
			p.pullOut()
			expect(hid.Removal)
			cancel()
			if _, err, ok := next(); !ok || !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", err, ok)
			}
			if _, _, ok := next(); ok {
				t.Error("goes on behind its end")
			}
		})
	}
}

// nobody is a user without rights.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

// A running child prints lines.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Reader
}

func startChild(t *testing.T, what, path string, attr ...*syscall.SysProcAttr) *running {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = append(os.Environ(), child+"="+what)
	for _, a := range attr {
		cmd.SysProcAttr = a
	}
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &running{t, cmd, bufio.NewReader(pipe)}
}

// output waits for the end.
func (r *running) output() (string, error) {
	var rest bytes.Buffer
	_, _ = rest.ReadFrom(r.lines)
	return rest.String(), r.cmd.Wait()
}

func runChild(what, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch what {
	case "watch":
		fmt.Println("watching")
		for event, err := range hid.Watch(ctx) {
			if err != nil {
				return err
			}
			fmt.Println(event.Kind, event.Info.Path)
			return nil
		}
	case "open":
		fmt.Println("opening")
		dev, err := hid.Open(ctx, path)
		if err != nil {
			return err
		}
		return dev.Close()
	case "ping":
		dev, err := hid.Open(ctx, path)
		if err != nil {
			return err
		}
		for range 50 {
			if _, err := dev.Ping(ctx, bytes.Repeat([]byte{0xAA}, 1500)); err != nil {
				return err
			}
		}
		return dev.Close()
	case "exchange":
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		dev, err := hid.Open(short, path)
		if err != nil {
			return err
		}
		if _, err := dev.Exchange(short, []byte{0x04}, nil); err != nil {
			return err
		}
		return dev.Close()
	}
	return nil
}
