package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
)

// A redirection that was forgotten costs no try: whatever this process and the
// runtime have open is not read.
func TestForgottenRedirection(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	for _, fd := range []string{"3", "4", "5", "6", "7", "63", "-1", "99999"} {
		if r := pipe(t, key, "", "--pin-fd", fd, "pin", "check"); r.code != usage.exit || !strings.Contains(r.err, "--pin-fd "+fd) {
			t.Errorf("%s: %+v", fd, r)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := command(t, "--virtual", key, "--pin-fd", "3", "pin", "check")
	cmd.ExtraFiles = []*os.File{null}
	if code := exitCode(t, cmd.Run()); runtime.GOOS != "windows" && code != usage.exit {
		t.Errorf("a device: exit %d", code)
	}
	cmd = command(t, "--virtual", key, "--pin-stdin", "list") // which takes none
	cmd.Stdin = null
	if code := exitCode(t, cmd.Run()); code != 0 {
		t.Errorf("no PIN where none is taken: exit %d", code)
	}
	var r triesResult
	script(t, key, &r, "pin", "tries")
	if r.PIN != 8 {
		t.Errorf("%+v", r)
	}
}

// A PIN that is typed where a file was meant is not shown either.
func TestPINFromTerminal(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	for _, flags := range [][]string{{"--pin-stdin"}, {"--pin-fd", "0"}} {
		s := person(t, key, append(flags, "pin", "check")...)
		s.sees("PIN: ")
		s.types(testPIN + "\n")
		s.sees("The PIN is right.")
		s.ends(0)
	}
	scriptFails(t, key, usage, "blob", "put", "ada", "-")
	scriptFails(t, "", usage, "verify", "example.com", "-")
}

// An empty name, as of an unset variable, is no name.
func TestEmptyNames(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	var f fingerprintResult
	script(t, key, &r, "register", "example.com", "")
	script(t, key, &f, "fingerprint", "add")
	for _, args := range [][]string{
		{"credentials", "delete", ""}, {"credentials", "rename", "", "--user", "eve"}, {"fingerprint", "remove", ""},
		{"blob", "delete", ""}, {"blob", "put", "", os.DevNull}, {"entra", "deprovision", ""}, {"--device", "", "info"},
	} {
		scriptFails(t, "", usage, append([]string{"--virtual", key}, args...)...)
	}
	scriptFails(t, "", usage, "--device", "", "reset", "--yes")
	scriptFails(t, "", usage, "--virtual", "", "reset", "--yes")
	if n := len(listed(t, key).Credentials); n != 1 {
		t.Errorf("%d credentials", n)
	}
}

// inProcess is a program whose key is traced by wrap each time it is opened.
func inProcess(key string, wrap func(opened int, t ctap2.Transport) ctap2.Transport) (*program, *bytes.Buffer) {
	var said bytes.Buffer
	opened := 0
	p := &program{in: os.Stdin, out: &printer{w: &said}, err: &printer{w: &said}, virtual: key, profile: defaultProfile, person: "ready", yes: true, pinFD: -1}
	p.wrap = func(t ctap2.Transport) ctap2.Transport {
		opened++
		return wrap(opened, t)
	}
	return p, &said
}

// silent is a key that does not answer.
type silent struct{ ctap2.Transport }

func (silent) Exchange(context.Context, []byte, func(byte)) ([]byte, error) {
	return nil, ctap2.ErrDeviceGone
}

// A key that cannot be opened again after it was plugged in is an error, and
// the file of a software key is free again.
func TestResetReopenFails(t *testing.T) {
	key := newKey(t, testPIN)
	p, said := inProcess(key, func(opened int, t ctap2.Transport) ctap2.Transport {
		if opened > 1 {
			return silent{t}
		}
		return t
	})
	if code := p.run(t.Context(), []string{"reset"}); code != connection.exit {
		t.Errorf("exit %d: %s", code, said)
	}
	config := virtual.ProfileCTAP23.Config()
	config.Path = key
	again, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// What is plugged in again may be another key, and is not erased then.
func TestResetAnotherKey(t *testing.T) {
	config := virtual.ProfileCTAP23.Config() // without a PIN
	other, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	p, said := inProcess(newKey(t, testPIN), func(opened int, t ctap2.Transport) ctap2.Transport {
		if opened > 1 {
			return other
		}
		return t
	})
	if code := p.run(t.Context(), []string{"reset"}); code != refused.exit || !strings.Contains(said.String(), "not the key that was shown") {
		t.Errorf("exit %d: %s", code, said)
	}
}

// One account alone is no other one's.
func TestUserAlone(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	scriptFails(t, key, notFound, "signin", "example.com", "--user", "bob")
	scriptFails(t, key, notFound, "signin", "example.com", "--user", "bob", "--credential", r.ID.String())
	scriptFails(t, key, notFound, "secret", "example.com", "--user", "bob", "--label", "disk")
	var s signinResult
	script(t, key, &s, "signin", "example.com", "--user", "ada")
	if s.User != "ada" || s.ID.String() != r.ID.String() {
		t.Errorf("%+v", s)
	}
	var one, other secretResult
	script(t, key, &one, "secret", "example.com", "--user", "ada", "--label", "disk")
	script(t, key, &other, "secret", "https://example.com", "--label", "disk")
	if one.Secret.String() != other.Secret.String() {
		t.Error("the origin's secret is another one")
	}
	// A key that lists nothing says no names.
	script(t, key+".old", &r, "--virtual-profile", "ctap2.0", "register", "example.com", "ada")
	scriptFails(t, key+".old", notFound, "--virtual-profile", "ctap2.0", "signin", "example.com", "--user", "bob")
	s2 := person(t, key, "secret", "example.com", "--label", "disk", "--format", "raw")
	s2.sees("not for a terminal")
	s2.ends(usage.exit)
}

// Files are opened before the key is asked, and what was done is said even if it
// cannot be written.
func TestOutFile(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	folder := t.TempDir()
	scriptFails(t, key, failure, "register", "example.com", "ada", "--out", folder)
	scriptFails(t, key, failure, "signin", "example.com", "--out", filepath.Join(folder, "no", "where"))
	if n := len(listed(t, key).Credentials); n != 0 {
		t.Errorf("%d credentials", n)
	}
	name := filepath.Join(folder, "out")
	scriptFails(t, key, notFound, "signin", "example.com", "--out", name)
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	if err := os.WriteFile(name, []byte(strings.Repeat("long ", 10000)), 0o644); err != nil {
		t.Fatal(err)
	}
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada", "--out", name)
	data, err := os.ReadFile(name)
	if err != nil || !json.Valid(data) {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	got := pipe(t, key, testPIN+"\n", "--pin-stdin", "register", "example.com", "bob", "--out", "/dev/full")
	if got.code != failure.exit || !strings.Contains(got.out, "Registered bob at example.com.") {
		t.Errorf("%+v", got)
	}
}

// No output goes where the software key is, by whatever name.
func TestOutFileIsKey(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	folder := filepath.Dir(key)
	if err := os.WriteFile(key+".new", nil, 0o600); err != nil { // as a killed process leaves it
		t.Fatal(err)
	}
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{key, key + ".lock", key + ".new", filepath.Join(folder, "..", filepath.Base(folder), "key.json")}
	unmade := filepath.Join(folder, "unmade.json")
	if runtime.GOOS != "windows" {
		hard, soft, dangling := filepath.Join(folder, "hard"), filepath.Join(folder, "soft"), filepath.Join(folder, "dangling")
		if err := errors.Join(os.Link(key, hard), os.Symlink("key.json", soft), os.Symlink("unmade.json", dangling)); err != nil {
			t.Fatal(err)
		}
		names = append(names, hard, soft)
		scriptFails(t, unmade, usage, "register", "example.com", "ada", "--out", dangling)
		scriptFails(t, dangling, usage, "trace", "--record", unmade)
		for _, file := range []string{key, key + ".lock"} {
			scriptFails(t, soft, usage, "trace", "--record", file)
		}
	}
	scriptFails(t, unmade, usage, "trace", "--record", unmade)
	if _, err := os.Stat(unmade); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, name := range names {
		for _, args := range [][]string{
			{"register", "example.com", "ada", "--out", name}, {"signin", "example.com", "--out", name}, {"blob", "get", "ada", "--out", name},
			{"trace", "--record", name, "info"}, {"trace", "--output", name, "info"}, {"conformance", "--report", "a.json", "--report", name},
			{"entra", "provision", "users.csv", "--random-pins", name},
		} {
			if e := scriptFails(t, key, usage, args...); !strings.Contains(e.What, "is a file of the software key") {
				t.Errorf("%v: %+v", args, e)
			}
		}
		scriptFails(t, "", usage, "trace", "--record", name, "info", "--virtual", key) // which is known only then
		scriptFails(t, "", usage, "trace", "--output", name, "--virtual", key, "info")
	}
	if after, err := os.ReadFile(key); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key is another one now: %v", err)
	}
	script(t, key, new(triesResult), "pin", "tries")
}

// Each flag that names a file is known as one to be read or to be written.
func TestOutFlags(t *testing.T) {
	inputs := []string{"metadata", "options", "play", "resume", "roots", "token-file", "virtual"}
	p := &program{out: &printer{}, err: &printer{}}
	var found []string
	everyCommand(p.command(), func(c *cobra.Command) {
		for _, flag := range regexp.MustCompile(`--([a-z-]+) file `).FindAllStringSubmatch(c.Flags().FlagUsages()+c.PersistentFlags().FlagUsages(), -1) {
			if !slices.Contains(inputs, flag[1]) {
				found = append(found, flag[1])
			}
		}
	})
	slices.Sort(found)
	if found = slices.Compact(found); !slices.Equal(found, outFlags) {
		t.Errorf("%v, not %v", found, outFlags)
	}
}

func TestBlobIsReplaced(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	var d done
	one, two := open(t, "one").Name(), open(t, "number two").Name()
	if r := pipe(t, key, testPIN+"\n", "--pin-stdin", "blob", "put", "ada", one); r.code != 0 {
		t.Errorf("the first one asks: %+v", r)
	}
	s := person(t, key, "blob", "put", "ada", two)
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("Replace the blob of ada (3 bytes)? [y/N] ")
	s.types("n\n")
	s.ends(interrupted.exit)
	scriptFails(t, key, usage, "blob", "put", "ada", two)
	script(t, key, &d, "blob", "put", "ada", two)
	if err := os.WriteFile(two, random(5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := scriptFails(t, key, full, "blob", "put", "ada", two, "--yes"); !strings.Contains(e.Detail, "5000 bytes, and the key keeps 4096 of all blobs together") {
		t.Errorf("%+v", e)
	}
}

func TestHandout(t *testing.T) {
	t.Parallel()
	key, graph := newKey(t, ""), newGraph(t)
	provision := func(lines string, args ...string) run {
		t.Helper()
		return pipe(t, key, "", append(append([]string{"--json", "--yes", "entra", "provision", open(t, lines).Name()}, args...), graph...)...)
	}
	pins := filepath.Join(t.TempDir(), "pins.csv")
	two := "ada@contoso.com,blue key\nbob@contoso.com,red key\n"
	if r := provision(two, "--random-pins", pins); r.code != usage.exit || !strings.Contains(r.out, "line 1") {
		t.Errorf("nobody is asked for the second key: %+v", r)
	}
	for _, name := range []string{t.TempDir(), os.DevNull} {
		if r := provision("ada@contoso.com,blue key\n", "--random-pins", name); r.code != failure.exit {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if runtime.GOOS != "windows" {
		public := open(t, "").Name()
		if err := os.Chmod(public, 0o644); err != nil {
			t.Fatal(err)
		}
		if r := provision("ada@contoso.com,blue key\n", "--random-pins", public); r.code != failure.exit || !strings.Contains(r.out, "others may read") {
			t.Errorf("%+v", r)
		}
	}
	// The software key is one and the same, whatever the lines call it.
	r := provision("ada@contoso.com,blue key,1\nbob@contoso.com,red key,2\nada@contoso.com,blue key,3\n", "--random-pins", pins)
	var p provisionedResult
	decode(t, r.out, &p)
	if r.code != refused.exit || len(p.Results) != 3 || p.Results[0].State != "registered" || p.Results[1].Error == nil || p.Results[2].Error == nil {
		t.Errorf("%+v", r)
	}
	noted, err := os.ReadFile(pins)
	if err != nil || strings.Count(string(noted), "\n") != 1 || !strings.HasPrefix(string(noted), "ada@contoso.com,") {
		t.Errorf("%q, %v", noted, err)
	}
}

// The PIN is in the file before the key has it: a key that falls silent leaves a
// line, and a person who knows what that is worth.
func TestPINThatMayNotBeSet(t *testing.T) {
	soft, err := virtual.New(virtual.ProfileCTAP23.Config())
	if err != nil {
		t.Fatal(err)
	}
	transport := &struct{ ctap2.Transport }{soft}
	a, err := ctap2.Open(t.Context(), transport)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	transport.Transport = silent{soft}
	name := filepath.Join(t.TempDir(), "pins.csv")
	file, err := openPINs(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var said bytes.Buffer
	p := &program{err: &printer{w: &said}}
	h := &handout{pins: name, noted: file}
	if err := p.firstPIN(t.Context(), h, &session{Authenticator: a, p: p}, "ada"); !errors.Is(err, ctap2.ErrDeviceGone) {
		t.Error(err)
	}
	noted, err := os.ReadFile(name)
	if err != nil || string(noted) != "ada,"+string(p.given.Bytes())+"\n" || !strings.Contains(said.String(), "delete the line") {
		t.Errorf("%q, %v: %s", noted, err, &said)
	}
}

// Ctrl-\ ends a question as Ctrl-C does, so that the terminal is left as it was.
func TestQuit(t *testing.T) {
	t.Parallel()
	s := person(t, newKey(t, testPIN), "pin", "check")
	s.sees("PIN (8 tries left): ")
	s.types("\x1c")
	s.sees("Interrupted.")
	if all := s.ends(interrupted.exit); strings.Contains(all, "told to stop") { // no key was waiting
		t.Errorf("%q", all)
	}
}

// Somebody who presses Enter and leaves the key where it is gets no second user
// on it.
func TestHandoutOfTheSameKey(t *testing.T) {
	t.Parallel()
	key, graph := newKey(t, testPIN), newGraph(t)
	users := open(t, "ada@contoso.com,blue key\nbob@contoso.com,red key\n").Name()
	s := person(t, key, append([]string{"entra", "provision", users}, graph...)...)
	s.sees("press Enter.")
	s.types("\n")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("ada@contoso.com: registered")
	s.sees("press Enter.")
	s.types("\n")
	s.sees("used earlier in this run")
	s.ends(refused.exit)
	if n := len(listed(t, key).Credentials); n != 1 {
		t.Errorf("%d credentials", n)
	}
}

// JSON on a terminal cannot steer it, and says the same.
func TestEscaped(t *testing.T) {
	const text = "{\"a\":\"\u009b31m\u007f\u202e\U000e0001 ä\"}"
	got := escaped(text)
	if got != `{"a":"\u009b31m\u007f\u202e\udb40\udc01 ä"}` {
		t.Errorf("%s", got)
	}
	var one, other any
	if json.Unmarshal([]byte(text), &one) != nil || json.Unmarshal([]byte(got), &other) != nil || one.(map[string]any)["a"] != other.(map[string]any)["a"] {
		t.Errorf("%q, %q", one, other)
	}
}

func TestGraphUnreachable(t *testing.T) {
	if e := explain(&entra.Error{Call: "creationOptions"}); e.exit != connection.exit || e.What != "Microsoft Graph cannot be reached." {
		t.Errorf("%+v", e)
	}
}

// The file of a software key is made, and its folder is not.
func TestNoFolder(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "nodir")
	e := scriptFails(t, filepath.Join(folder, "key.json"), failure, "info")
	if e.What != "The folder "+folder+" does not exist." {
		t.Errorf("%+v", e)
	}
}
