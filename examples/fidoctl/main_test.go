package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/tapstone/fido/ctap2/virtual"
)

// The tests run fidoctl as people and scripts do, in a process of its own: this
// binary, started with the variable below.
const asProgram = "FIDOCTL_TEST_AS_PROGRAM"

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

const testPIN = "271828"

// patience bounds what a test waits for. Nothing takes nearly as long.
const patience = time.Minute

// newKey makes a software key with a PIN, or without one, and returns the flags
// that name it.
func newKey(t *testing.T, pin string) string {
	t.Helper()
	// A process that another test starts meanwhile holds the file, with its lock,
	// until it is the program that it is to be.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	config := virtual.ProfileCTAP23.Config()
	config.Path = filepath.Join(t.TempDir(), "key.json")
	config.PIN = pin
	key, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	return config.Path
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "NO_COLOR=", "TERM=xterm", "WT_SESSION=",
		"GORACE=atexit_sleep_ms=0") // the race detector would have each process wait a second at its end
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return 0
}

// A run of fidoctl behind pipes.
type run struct {
	out, err string
	code     int
}

// pipe runs fidoctl on a key behind pipes; stdin is what it can read.
func pipe(t *testing.T, key, stdin string, args ...string) run {
	t.Helper()
	if key != "" {
		args = append([]string{"--virtual", key}, args...)
	}
	cmd := command(t, args...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	code := exitCode(t, cmd.Run())
	if strings.Contains(out.String()+problems.String(), "\x1b[0m") {
		t.Errorf("%v: colours in a pipe", args)
	}
	return run{out.String(), problems.String(), code}
}

// script runs fidoctl as a script does, with --json and with the test's PIN,
// and reads the result into v. It has to succeed.
func script(t *testing.T, key string, v any, args ...string) {
	t.Helper()
	r := pipe(t, key, testPIN+"\n", append([]string{"--json", "--pin-stdin", "--yes"}, args...)...)
	if r.code != 0 {
		t.Fatalf("%v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
	decode(t, r.out, v)
}

// scriptFails does the same for a command that has to fail, as kind.
func scriptFails(t *testing.T, key string, want kind, args ...string) errorText {
	t.Helper()
	r := pipe(t, key, testPIN+"\n", append([]string{"--json", "--pin-stdin"}, args...)...)
	var e errorResult
	decode(t, r.out, &e)
	if r.code != want.exit || e.Error.Exit != want.exit || e.Error.Kind != want.name || e.Error.What == "" || e.Error.Detail == "" {
		t.Errorf("%v: exit %d, not %d\n%s%s", args, r.code, want.exit, r.out, r.err)
	}
	return e.Error
}

// decode reads the one line of JSON that a command writes, whose members are
// all those of v.
func decode(t *testing.T, line string, v any) {
	t.Helper()
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		t.Errorf("not one line:\n%s", line)
	}
	reflect.ValueOf(v).Elem().SetZero() // of an earlier result
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
}

// UnmarshalText is for the tests alone.
func (b *hexBytes) UnmarshalText(text []byte) error {
	decoded, err := hex.DecodeString(string(text))
	*b = decoded
	return err
}

// A screen is a terminal with fidoctl in it.
type screen struct {
	t       *testing.T
	cmd     *exec.Cmd
	tty     *os.File
	mu      sync.Mutex
	arrived *sync.Cond
	all     string
	seen    int // of all
	closed  bool
	late    bool
}

// person runs fidoctl on a key in a pseudo-terminal.
func person(t *testing.T, key string, args ...string) *screen {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no pseudo-terminals")
	}
	if key != "" {
		args = append([]string{"--virtual", key}, args...)
	}
	return onScreen(t, command(t, args...))
}

func onScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	s := &screen{t: t, cmd: cmd}
	s.arrived = sync.NewCond(&s.mu)
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	// A terminal throws away what is written between Ctrl-C and its reaching
	// the screen, which may be the answer to it.
	noFlush := exec.Command("stty", "noflsh")
	noFlush.Stdin = tty
	if out, err := noFlush.CombinedOutput(); err != nil {
		t.Fatalf("stty: %v: %s", err, out)
	}
	s.tty = tty
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.late = true
		s.cmd.Process.Kill()
	})
	t.Cleanup(func() {
		timer.Stop()
		s.cmd.Process.Kill()
		tty.Close()
	})
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := tty.Read(b)
			s.mu.Lock()
			s.all += string(b[:n])
			s.closed = err != nil
			s.arrived.Broadcast()
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// sees waits for a text behind what was seen before.
func (s *screen) sees(text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if i := strings.Index(s.all[s.seen:], text); i >= 0 {
			s.seen += i + len(text)
			return
		}
		if s.closed {
			s.t.Fatalf("no %q (late: %v) behind\n%q", text, s.late, s.all)
		}
		s.arrived.Wait()
	}
}

func (s *screen) types(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.tty, text); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits until the program has ended, with a status, and returns all that
// was on the screen, without colours.
func (s *screen) ends(code int) string {
	s.t.Helper()
	got := exitCode(s.t, s.cmd.Wait())
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		s.arrived.Wait()
	}
	if got != code {
		s.t.Errorf("exit %d, not %d:\n%s", got, code, s.all)
	}
	if strings.Contains(s.all, testPIN) {
		s.t.Errorf("the PIN is on the screen:\n%s", s.all)
	}
	return regexp.MustCompile("\x1b\\[[0-9]*[mK]").ReplaceAllString(strings.ReplaceAll(s.all, "\r\n", "\n"), "")
}

const ctrlC = "\x03"

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not as it was (go test -update, if that is right):\n%s", name, got)
	}
}

// open returns a file with a content, open at its start.
func open(t *testing.T, content string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}
