package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

const testPIN = "271828"

func TestParse(t *testing.T) {
	for _, line := range []string{
		"-uhid",
		"-uhid -state key.json -pin-file /dev/fd/3 -touch ask",
		"-gadget /dev/hidg0",
		"-gadget /dev/hidg0 -create -report-length 128 -touch none",
		"-vpcd 127.0.0.1:35963",
		"-vpcd 127.0.0.1:35963 -atr 3b8080",
		"-udp 127.0.0.1:0",
		"-udp 127.0.0.1:0 -profile ctap2.1-pre",
	} {
		if _, err := parse(strings.Fields(line), io.Discard); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{
		"",
		"-state key.json",
		"-uhid -udp 127.0.0.1:8111",
		"-vpcd 127.0.0.1:35963 -udp 127.0.0.1:8111",
		"-uhid device",
		"-uhid -create",
		"-uhid -pin 271828",
		"-uhid -touch sometimes",
		"-uhid -profile fido9",
		"-uhid -atr 3b00",
		"-gadget /dev/hidg0 -create -report-length 63",
		"-gadget /dev/hidg0 -create -report-length 1025",
		"-vpcd 127.0.0.1:35963 -atr 3b8",
		"-vpcd 10.0.0.1:35963",
		"-udp 8111",
		"-udp :8111",
		"-udp 127.0.0.1",
		"-udp 0.0.0.0:8111",
		"-udp 192.0.2.1:8111",
		"-udp 127.0.0.2:8111",
		"-udp localhost:8111",
		"-udp [::1]:8111",
		"-udp [::ffff:127.0.0.1]:8111",
		"-udp 127.0.0.1:65536",
	} {
		if _, err := parse(strings.Fields(line), io.Discard); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	var help strings.Builder
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-pin-file") {
		t.Errorf("help: %v\n%s", err, help.String())
	}
}

// A started program, as run sees it.
type started struct {
	t      *testing.T
	cancel context.CancelFunc
	end    chan error

	mu     sync.Mutex
	output strings.Builder
	wrote  chan struct{} // closed by the first write
	once   sync.Once
}

// start runs the program as a command line says.
func start(t *testing.T, args ...string) *started {
	t.Helper()
	o, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &started{t: t, cancel: cancel, end: make(chan error, 1), wrote: make(chan struct{})}
	go func() { s.end <- run(ctx, o, strings.NewReader(""), s) }()
	t.Cleanup(cancel)
	return s
}

func (s *started) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.once.Do(func() { close(s.wrote) })
	return s.output.Write(p)
}

// attached waits until the key is attached, and returns what the program said.
func (s *started) attached() string {
	s.t.Helper()
	select {
	case <-s.wrote:
	case err := <-s.end:
		s.t.Fatalf("the program ended: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

func (s *started) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.end; err != nil {
		s.t.Errorf("the program ended with %v", err)
	}
}

// file writes a file and returns its name.
func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var (
	testHash = make([]byte, 32)
	askPIN   = ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(testPIN), nil },
	})
)

// register makes a discoverable credential, with a PIN.
func register(t *testing.T, device ctap2.Transport) *ctap2.Credential {
	t.Helper()
	key, err := ctap2.Open(t.Context(), device, askPIN)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := key.MakeCredential(t.Context(), &ctap2.MakeCredentialRequest{
		ClientDataHash:   testHash,
		RP:               ctap2.RelyingParty{ID: "example.com"},
		User:             ctap2.User{ID: []byte("ada"), Name: "ada@example.com"},
		Algorithms:       []cose.Algorithm{cose.EdDSA},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// signIn signs in with it, and closes the device.
func signIn(t *testing.T, device ctap2.Transport, cred *ctap2.Credential) {
	t.Helper()
	key, err := ctap2.Open(t.Context(), device, askPIN)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	accounts, err := key.GetAssertion(t.Context(), &ctap2.GetAssertionRequest{
		RPID: "example.com", ClientDataHash: testHash, UserVerification: ctap2.Required,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts[0].Verify(cred.PublicKey, testHash); err != nil {
		t.Error(err)
	}
}

func TestRunFails(t *testing.T) {
	for name, args := range map[string][]string{
		"no PIN file":          {"-pin-file", filepath.Join(t.TempDir(), "none")},
		"no PIN in it":         {"-pin-file", file(t, "\n271828\n")},
		"a PIN that is no PIN": {"-pin-file", file(t, "27\n")},
		"a folder":             {"-pin-file", t.TempDir()},
		"no state in a file":   {"-state", file(t, "hello")},
	} {
		o, err := parse(append(args, "-udp", "127.0.0.1:0"), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), o, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Nothing listens at port 1, and there is no such node.
	for want, args := range map[string][]string{
		"start pcscd": {"-vpcd", "127.0.0.1:1"},
		"hidg0":       {"-gadget", filepath.Join(t.TempDir(), "hidg0")},
	} {
		o, err := parse(args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), o, strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, keyboard := io.Pipe()
		var out strings.Builder
		person := newTerminal(in, &out)
		ask := func(ctx context.Context) virtual.Answer {
			return person.touch(ctx, virtual.Prompt{Command: 1, RPID: "example.com\x1b[2J", UserName: "ada"})
		}
		// Nobody waits for this line when it is typed.
		go keyboard.Write([]byte("\n"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if answer := ask(ctx); answer != virtual.Nothing || ctx.Err() == nil {
			t.Errorf("an old line: %v", answer)
		}
		for typed, want := range map[string]virtual.Answer{"\n": virtual.Approve, "n\n": virtual.Deny, "what?\n": virtual.Deny} {
			go func() {
				time.Sleep(time.Second)
				keyboard.Write([]byte(typed))
			}()
			if answer := ask(t.Context()); answer != want {
				t.Errorf("%q: %v", typed, answer)
			}
		}
		go func() {
			time.Sleep(time.Second)
			keyboard.Close()
		}()
		for range 2 {
			if answer := ask(t.Context()); answer != virtual.Nothing {
				t.Errorf("end of input: %v", answer)
			}
		}
		if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), `as "ada"`) {
			t.Errorf("%q", out.String())
		}
	})
}

func TestPurpose(t *testing.T) {
	seen := make(map[string]bool)
	for _, command := range []byte{0x01, 0x02, 0x07, 0x0B, 0x42} {
		seen[purpose(command)] = true
	}
	if len(seen) != 5 || !seen["command 0x42"] {
		t.Errorf("%v", seen)
	}
}

// The whole program, with the person at its terminal.
func TestRunAsks(t *testing.T) {
	o, err := parse([]string{"-udp", "127.0.0.1:0", "-touch", "ask"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	in, keyboard := io.Pipe()
	lines, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- run(ctx, o, in, out) }()
	said := make(chan string)
	go func() {
		buffer := make([]byte, 1024)
		for {
			n, err := lines.Read(buffer)
			if err != nil {
				return
			}
			said <- string(buffer[:n])
		}
	}()
	_, addr, _ := strings.Cut(strings.TrimSpace(<-said), "attached at ")
	device := dial(t, netip.MustParseAddrPort(addr))
	go func() {
		for text := range said {
			if strings.HasSuffix(text, "n refuses.\n") {
				keyboard.Write([]byte("\n"))
			}
		}
	}()
	key, err := ctap2.Open(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Selection(t.Context()); err != nil {
		t.Error(err)
	}
	key.Close()
	cancel()
	if err := <-end; err != nil {
		t.Error(err)
	}
	lines.Close()
}
