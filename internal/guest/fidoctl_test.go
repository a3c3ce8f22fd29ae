//go:build guest && !libusb

package guest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/virtual"
)

// fidoctl is the binary of the tests of examples/fidoctl, which is the program
// itself if its environment says so.
const (
	fidoctl          = "/usr/bin/fidoctl"
	fidoctlAsProgram = "FIDOCTL_TEST_AS_PROGRAM=1"
)

func TestFidoctl(t *testing.T) {
	t.Run("a key from its first PIN to a reset", testFidoctlDevice)
	t.Run("what it writes fido2-token reads, and the other way round", testFidoctlAndToken)
}

// testFidoctlDevice runs fidoctl's own test of an attached key, which asks for
// the key to be pulled out and plugged in again by lines in a pipe.
func testFidoctlDevice(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			key, err := virtual.New(virtual.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			p := s.plugIn(t, key)
			pipe := filepath.Join(t.TempDir(), "replug")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			asked, err := os.OpenFile(pipe, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), fidoctl, "-test.run", "^TestDevice$", "-test.v", "-test.timeout", "3m")
			cmd.Env = append(os.Environ(), "FIDOCTL_TEST_DEVICE="+found(t).Path, "FIDOCTL_TEST_REPLUG=echo >"+pipe)
			ended := make(chan error, 1)
			go func() {
				out, err := cmd.CombinedOutput()
				if err != nil || !bytes.Contains(out, []byte("--- PASS: TestDevice")) {
					err = fmt.Errorf("%v\n%s", err, out)
				}
				asked.Close() // nobody will ask
				ended <- err
			}()
			for {
				if _, err := asked.Read(make([]byte, 1)); err != nil {
					break
				}
				p.pullOut()
				time.Sleep(time.Second) // nobody is faster
				p = s.plugIn(t, key)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// fidoctl runs fidoctl as a script does, with the test's PIN, and reads what it
// says into v, unless v is nil.
func (k *token) fidoctl(t *testing.T, v any, arguments ...string) {
	t.Helper()
	k.fidoctlPIN(t, keyPIN, 0, v, arguments...)
}

// fidoctlPIN does the same with PINs, one a line, and an exit status.
func (k *token) fidoctlPIN(t *testing.T, pins string, status int, v any, arguments ...string) {
	t.Helper()
	cmd := exec.CommandContext(limited(t), fidoctl, slices.Concat([]string{"--device", k.path, "--json", "--yes", "--pin-stdin"}, arguments)...)
	cmd.Env = append(os.Environ(), fidoctlAsProgram)
	cmd.Stdin = strings.NewReader(pins + "\n")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		t.Fatalf("fidoctl %q: %v\n%s%s", arguments, err, out, said.String())
	}
	if v != nil {
		if err := json.Unmarshal(out, v); err != nil {
			t.Fatalf("fidoctl %q: %v\n%s", arguments, err, out)
		}
	}
}

// hexadecimal is how fidoctl writes bytes.
type hexadecimal []byte

func (h *hexadecimal) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// testFidoctlAndToken drives one key, without a PIN at first, with both.
func testFidoctlAndToken(t *testing.T) {
	key, err := virtual.New(virtual.Config{
		BuiltInUV: virtual.UVNotConfigured, FingerprintSamples: 3,
		CredentialManagementPreview: true, BioEnrollmentPreview: true, // what fido2-token knows
	})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	sockets[0].plugIn(t, key)
	k := &token{key, found(t).Path}
	t.Run("PIN", k.bothPIN)
	t.Run("credentials", k.bothCredentials)
	t.Run("large blobs", k.bothLargeBlobs)
	t.Run("fingerprints", k.bothFingerprints)
	t.Run("minimum PIN length", k.bothMinPINLength)
}

func (k *token) bothPIN(t *testing.T) {
	const first = "314159"
	k.fidoctlPIN(t, first, 0, nil, "pin", "set")
	works(t, first+"\n"+keyPIN+"\n"+keyPIN+"\n", fido2Token, "-C", k.path)
	k.fidoctl(t, nil, "pin", "check")
	k.fidoctlPIN(t, keyPIN+"\n"+first, 0, nil, "pin", "change")
	works(t, first+"\n"+keyPIN+"\n"+keyPIN+"\n", fido2Token, "-C", k.path)

	const wrong = 5 // exit status of a wrong PIN
	k.fidoctlPIN(t, first, wrong, nil, "pin", "check")
	if got := compareInfo(t, k.path)["pin retries"]; got != "7" {
		t.Errorf("fido2-token says %s tries", got)
	}
	k.fails(t, first+"\n", "FIDO_ERR_PIN_INVALID", "-L", "-r")
	var tries struct{ PIN int }
	if k.fidoctl(t, &tries, "pin", "tries"); tries.PIN != 6 {
		t.Errorf("fidoctl says %d tries", tries.PIN)
	}
	k.fidoctl(t, nil, "pin", "check")
}

func (k *token) bothCredentials(t *testing.T) {
	type credential struct {
		ID, UserID              hexadecimal
		Site, User, DisplayName string
	}
	// agree compares what the two list, and returns it.
	agree := func(want int) []credential {
		t.Helper()
		var list struct {
			Credentials []credential
			Room        int
		}
		k.fidoctl(t, &list, "credentials", "list")
		counts := []string{fmt.Sprintf("existing rk(s): %d", want), fmt.Sprintf("remaining rk(s): %d", list.Room)}
		if said := k.says(t, "-I", "-c"); !slices.Equal(said, counts) || len(list.Credentials) != want {
			t.Errorf("-I -c: %q; fidoctl: %+v; want %d", said, list, want)
		}
		for _, c := range list.Credentials {
			line(t, k.says(t, "-L", "-r"), c.Site)
			line(t, k.says(t, "-L", "-k", c.Site), encoded(c.ID), c.DisplayName, encoded(c.UserID))
		}
		return list.Credentials
	}
	// Ada is fidoctl's, and stays for the blobs; bob is too, and eve is
	// fido2-cred's.
	var ada, bob credential
	k.fidoctl(t, &ada, "register", "example.com", "ada", "--display-name", "Ada", "--user-id", "616461")
	k.fidoctl(t, &bob, "register", "example.org", "bob", "--display-name", "Bob", "--user-id", "626f62")
	in := filepath.Join(t.TempDir(), "in")
	write(t, in, encoded(hash[:])+"\nexample.net\neve\n"+encoded([]byte("eve"))+"\n")
	works(t, keyPIN+"\n", "/usr/bin/fido2-cred", "-M", "-r", "-i", in, "-o", in+".out", k.path)
	k.fidoctl(t, nil, "credentials", "rename", "eve", "--display-name", "Eve")
	var eve credential
	for _, c := range agree(3) {
		switch c.Site {
		case "example.com":
			if !bytes.Equal(c.ID, ada.ID) || c.User != "ada" || c.DisplayName != "Ada" || string(c.UserID) != "ada" {
				t.Errorf("%+v", c)
			}
		case "example.net":
			if eve = c; c.User != "eve" || c.DisplayName != "Eve" || string(c.UserID) != "eve" {
				t.Errorf("%+v", c)
			}
		}
	}
	k.says(t, "-S", "-c", "-i", encoded(bob.ID), "-k", encoded([]byte("bob")), "-n", "robert", "-p", "Robert")
	var shown credential
	if k.fidoctl(t, &shown, "credentials", "show", "robert"); !bytes.Equal(shown.ID, bob.ID) || shown.DisplayName != "Robert" {
		t.Errorf("renamed by fido2-token: %+v", shown)
	}
	k.fidoctl(t, nil, "signin", "example.net") // which fido2-cred registered

	k.fidoctl(t, nil, "credentials", "delete", "eve")
	k.fails(t, keyPIN+"\n", "FIDO_ERR_NO_CREDENTIALS", "-D", "-i", encoded(eve.ID))
	agree(2)
	k.says(t, "-D", "-i", encoded(bob.ID))
	if left := agree(1); !bytes.Equal(left[0].ID, ada.ID) {
		t.Errorf("left: %+v", left)
	}
}

func (k *token) bothLargeBlobs(t *testing.T) {
	const site = "example.com"
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	// libfido2 writes nothing that compresses to a few bytes.
	letter, note, short := strings.Repeat("a letter\n", 300), "a note of no more than one line\n", "-\n"
	write(t, file("letter"), letter)
	write(t, file("note"), note)
	write(t, file("short"), short)
	// theirs reads by fido2-token.
	theirs := func(want string) {
		t.Helper()
		k.says(t, "-G", "-b", "-n", site, file("out"))
		if got, err := os.ReadFile(file("out")); err != nil || string(got) != want {
			t.Errorf("fido2-token reads %d bytes: %v", len(got), err)
		}
		if err := os.Remove(file("out")); err != nil {
			t.Error(err)
		}
	}
	listed := func(sizes ...int) {
		t.Helper()
		var list struct {
			Blobs []struct {
				Site, User string
				Size       int
			}
			Other int
		}
		k.fidoctl(t, &list, "blob", "list")
		var got []int
		for _, blob := range list.Blobs {
			got = append(got, blob.Size)
		}
		// One line of fido2-token's is the sum.
		said := k.says(t, "-L", "-b")
		if !slices.Equal(got, sizes) || list.Other != 0 || max(0, len(said)-1) != len(sizes) {
			t.Errorf("%+v, and fido2-token says %q; want %v", list, said, sizes)
		}
	}
	listed()
	k.fidoctl(t, nil, "blob", "put", site, file("letter"))
	listed(len(letter))
	theirs(letter)
	k.says(t, "-S", "-b", "-n", site, file("note"))
	var read struct{ Blob []byte }
	if k.fidoctl(t, &read, "blob", "get", site); string(read.Blob) != note {
		t.Errorf("fidoctl reads %q", read.Blob)
	}
	listed(len(note))
	k.says(t, "-D", "-b", "-n", site)
	listed()
	k.fidoctl(t, nil, "blob", "put", site, file("short"))
	theirs(short)
	k.fidoctl(t, nil, "blob", "delete", site)
	listed()
}

func (k *token) bothFingerprints(t *testing.T) {
	type finger struct {
		ID   hexadecimal
		Name string
	}
	// agree compares what the two list, and returns it.
	agree := func() []finger {
		t.Helper()
		var list struct{ Fingerprints []finger }
		k.fidoctl(t, &list, "fingerprint", "list")
		var lines []string
		for i, f := range list.Fingerprints {
			lines = append(lines, fmt.Sprintf("%02d: %s %s", i, encoded(f.ID), f.Name))
		}
		if said := k.says(t, "-L", "-e"); !slices.Equal(said, lines) {
			t.Errorf("-L -e: %q, want %q", said, lines)
		}
		return list.Fingerprints
	}
	var thumb finger
	k.fidoctl(t, &thumb, "fingerprint", "add", "thumb")
	if all := agree(); len(all) != 1 || !bytes.Equal(all[0].ID, thumb.ID) || all[0].Name != "thumb" {
		t.Errorf("%+v", all)
	}
	k.says(t, "-S", "-e")
	var list struct{ Fingerprints []finger }
	k.fidoctl(t, &list, "fingerprint", "list")
	if len(list.Fingerprints) != 2 {
		t.Fatalf("fido2-token enrolled %+v", list)
	}
	index := list.Fingerprints[1].ID
	k.says(t, "-S", "-e", "-i", encoded(index), "-n", "index")
	k.fidoctl(t, nil, "fingerprint", "rename", "thumb", "left thumb")
	if all := agree(); len(all) != 2 || all[0].Name != "left thumb" || all[1].Name != "index" {
		t.Errorf("%+v", all)
	}
	k.says(t, "-D", "-e", "-i", encoded(thumb.ID))
	if all := agree(); len(all) != 1 || !bytes.Equal(all[0].ID, index) {
		t.Errorf("%+v", all)
	}
	k.fidoctl(t, nil, "fingerprint", "remove", "index")
	k.fails(t, keyPIN+"\n", "FIDO_ERR_INVALID_OPTION", "-L", "-e") // which is how it says that there is none
	if k.fidoctl(t, &list, "fingerprint", "list"); len(list.Fingerprints) != 0 {
		t.Errorf("%+v", list)
	}
}

func (k *token) bothMinPINLength(t *testing.T) {
	length := func() (info struct {
		MinPINLength   int
		ForcePINChange bool
	}) {
		t.Helper()
		k.fidoctl(t, &info, "info")
		return info
	}
	k.fidoctl(t, nil, "config", "min-pin-length", "5")
	if got := compareInfo(t, k.path); got["minpinlen"] != "5" || got["pin change required"] != "false" {
		t.Errorf("fido2-token says %q", got)
	}
	k.says(t, "-S", "-l", "6")
	if got := length(); got.MinPINLength != 6 || got.ForcePINChange {
		t.Errorf("fidoctl says %+v", got)
	}
	k.fails(t, keyPIN+"\n", "FIDO_ERR_PIN_POLICY_VIOLATION", "-S", "-l", "5")
	k.fidoctl(t, nil, "config", "min-pin-length", "8") // longer than the PIN
	if got := compareInfo(t, k.path); got["minpinlen"] != "8" || got["pin change required"] != "true" {
		t.Errorf("fido2-token says %q", got)
	}
	if got := length(); got.MinPINLength != 8 || !got.ForcePINChange {
		t.Errorf("fidoctl says %+v", got)
	}
}
