//go:build guest && !libusb

package guest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
)

// Programs that others wrote drive the key: libfido2's and OpenSSH's.
func TestForeignClients(t *testing.T) {
	t.Run("fido2-token", testFIDO2Token)
	t.Run("fido2-cred and fido2-assert", testFIDO2CredAssert)
	t.Run("ssh-keygen", testSSHKeygen)
}

// foreign runs a program and returns all that it says. It has no terminal, so
// that it reads from its input what it would ask there; ssh-keygen runs the
// program askpass instead.
func foreign(t *testing.T, input, askpass string, command ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(limited(t), command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// works runs what has to succeed.
func works(t *testing.T, input string, command ...string) string {
	t.Helper()
	out, err := foreign(t, input, "", command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

func testFIDO2Token(t *testing.T) {
	for _, config := range []virtual.Config{
		{},
		{Level: virtual.CTAP20, Algorithms: []cose.Algorithm{cose.ES256}},
		{NoClientPIN: true, Transports: []string{"usb", "nfc"}, MaxMsgSize: 2048, MaxCredentialCountInList: 3, FirmwareVersion: 0x50403},
	} {
		key, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		p := sockets[0].plugIn(t, key)
		path := found(t).Path
		want := fmt.Sprintf("%s: vendor=%#04x, product=%#04x", path, vendorID, productID)
		if out := works(t, "", "/usr/bin/fido2-token", "-L"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, want) {
			t.Errorf("-L: %s", out)
		}
		compareInfo(t, path)
		p.pullOut()
		key.Close()
	}

	key, err := virtual.New(virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	sockets[0].plugIn(t, key)
	path := found(t).Path
	const first = "314159"
	change := func(from string) string { return from + "\n" + keyPIN + "\n" + keyPIN + "\n" }
	works(t, first+"\n"+first+"\n", "/usr/bin/fido2-token", "-S", path)
	if out, err := foreign(t, change(keyPIN), "", "/usr/bin/fido2-token", "-C", path); err == nil || !strings.Contains(out, "FIDO_ERR_PIN_INVALID") {
		t.Errorf("changed with a wrong PIN: %v: %s", err, out)
	}
	if got := compareInfo(t, path)["pin retries"]; got != "7" {
		t.Errorf("pin retries after a wrong PIN: %s", got)
	}
	works(t, change(first), "/usr/bin/fido2-token", "-C", path)
	if got := compareInfo(t, path)["pin retries"]; got != "8" {
		t.Errorf("pin retries after the right PIN: %s", got)
	}
	a := client(t, open(t), nothing)
	signIn(t, a, register(t, a), 1) // with the PIN that fido2-token set
}

// compareInfo holds what fido2-token says about the key against what package
// ctap2 says, and returns the former.
func compareInfo(t *testing.T, path string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for line := range strings.Lines(works(t, "", "/usr/bin/fido2-token", "-I", path)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[name] = value
	}
	dev := open(t)
	a := client(t, dev, nothing)
	info := a.Info()
	var algorithms, options, protocols []string
	for _, algorithm := range info.Algorithms {
		algorithms = append(algorithms, strings.ToLower(algorithm.String())+" (public-key)")
	}
	for name, on := range info.Options {
		if !on {
			name = "no" + name
		}
		options = append(options, name)
	}
	for _, protocol := range info.PINUVAuthProtocols {
		protocols = append(protocols, fmt.Sprint(uint8(protocol)))
	}
	sorted := func(list []string) string {
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	got["options"] = sorted(strings.Split(got["options"], ", "))
	want := map[string]string{
		"proto":               "0x02",
		"version strings":     strings.Join(info.Versions, ", "),
		"extension strings":   strings.Join(info.Extensions, ", "),
		"transport strings":   strings.Join(info.Transports, ", "),
		"algorithms":          strings.Join(algorithms, ", "),
		"aaguid":              hex.EncodeToString(info.AAGUID[:]),
		"options":             sorted(options),
		"pin protocols":       strings.Join(protocols, ", "),
		"fwversion":           fmt.Sprintf("%#x", info.FirmwareVersion),
		"maxmsgsiz":           fmt.Sprint(info.MaxMsgSize),
		"maxcredcntlst":       fmt.Sprint(info.MaxCredentialCountInList),
		"maxcredlen":          fmt.Sprint(info.MaxCredentialIDLength),
		"maxlargeblob":        fmt.Sprint(info.MaxSerializedLargeBlobArray),
		"pin change required": fmt.Sprint(info.ForcePINChange),
	}
	if info.MinPINLength != 0 {
		want["minpinlen"] = fmt.Sprint(info.MinPINLength)
	}
	if info.RemainingDiscoverableCredentials != nil {
		want["remaining rk(s)"] = fmt.Sprint(*info.RemainingDiscoverableCredentials)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: fido2-token says %q, ctap2 %q", name, got[name], value)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return got
}

// exchange runs fido2-cred or fido2-assert, which read lines and write lines. A
// verification does so on its input and output, which are the place of the PIN
// for what talks to the key.
func exchange(t *testing.T, input []string, command ...string) (output []string, said string, err error) {
	t.Helper()
	text := strings.Join(input, "\n") + "\n"
	if command[1] == "-V" {
		said, err = foreign(t, text, "", command...)
		return strings.Split(strings.TrimSpace(said), "\n"), said, err
	}
	folder := t.TempDir()
	in, out := filepath.Join(folder, "in"), filepath.Join(folder, "out")
	write(t, in, text)
	if said, err = foreign(t, keyPIN+"\n", "", slices.Insert(command, 2, "-i", in, "-o", out)...); err != nil {
		return nil, said, err
	}
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(written)), "\n"), said, nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func testFIDO2CredAssert(t *testing.T) {
	sockets[0].plugIn(t, newKey(t))
	path := found(t).Path
	clientData := base64.StdEncoding.EncodeToString(hash[:])
	salt := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	for _, algorithm := range []cose.Algorithm{cose.ES256, cose.EdDSA} {
		kind := strings.ToLower(algorithm.String())
		// run returns at least so many lines; asksPIN is whether it must ask
		// for the PIN.
		run := func(t *testing.T, asksPIN bool, atLeast int, input []string, command ...string) []string {
			t.Helper()
			output, said, err := exchange(t, input, command...)
			if err != nil || len(output) < atLeast {
				t.Fatalf("%q: %v, %d lines\n%s", command, err, len(output), said)
			}
			if strings.Contains(said, "Enter PIN") != asksPIN {
				t.Errorf("%q said %q", command, said)
			}
			return output
		}
		// refuses runs a verification that must not succeed.
		refuses := func(t *testing.T, input []string, command ...string) {
			t.Helper()
			if _, said, err := exchange(t, input, command...); err == nil || !strings.Contains(said, "_verify: FIDO_ERR") {
				t.Errorf("%q: %v\n%s", command, err, said)
			}
		}
		forged := func(lines []string) []string {
			return append([]string{salt}, lines[1:]...) // other client data
		}
		// verified is the second half of a registration.
		verified := func(t *testing.T, made []string, options ...string) (id, publicKey, file string) {
			t.Helper()
			command := append(append([]string{"/usr/bin/fido2-cred", "-V"}, options...), kind)
			refuses(t, forged(made), command...)
			lines := run(t, false, 4, made, command...)
			publicKey = strings.Join(lines[1:], "\n") + "\n"
			file = filepath.Join(t.TempDir(), "public")
			write(t, file, publicKey)
			return lines[0], publicKey, file
		}

		t.Run(kind, func(t *testing.T) {
			made := run(t, false, 7, []string{clientData, "example.com", "ada", "AQ=="}, "/usr/bin/fido2-cred", "-M", path, kind)
			id, _, public := verified(t, made)
			asserted := run(t, false, 4, []string{clientData, "example.com", id}, "/usr/bin/fido2-assert", "-G", "-p", path)
			run(t, false, 0, asserted, "/usr/bin/fido2-assert", "-V", "-p", public, kind)
			refuses(t, forged(asserted), "/usr/bin/fido2-assert", "-V", "-p", public, kind)
			refuses(t, asserted, "/usr/bin/fido2-assert", "-V", "-v", public, kind) // was without the PIN
		})

		// -r, resident; -h, hmac-secret; -v, with the PIN.
		t.Run(kind+" with everything", func(t *testing.T) {
			made := run(t, true, 7, []string{clientData, "example.com", "ada", "AQ=="}, "/usr/bin/fido2-cred", "-M", "-r", "-h", "-v", path, kind)
			_, publicKey, public := verified(t, made, "-h", "-v")
			asserted := run(t, true, 5, []string{clientData, "example.com", salt}, "/usr/bin/fido2-assert", "-G", "-r", "-p", "-h", "-v", path)
			run(t, false, 0, asserted, "/usr/bin/fido2-assert", "-V", "-p", "-h", "-v", public, kind)
			refuses(t, forged(asserted), "/usr/bin/fido2-assert", "-V", "-p", "-h", "-v", public, kind)

			// Package ctap2 signs in with what fido2-cred made, and gets the
			// secret that fido2-assert got.
			block, _ := pem.Decode([]byte(publicKey))
			if block == nil {
				t.Fatal(publicKey)
			}
			parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			credentialKey, err := cose.NewKey(algorithm, parsed)
			if err != nil {
				t.Fatal(err)
			}
			secret := signIn(t, client(t, open(t), nothing), &ctap2.Credential{PublicKey: credentialKey}, 1)
			if got := asserted[len(asserted)-1]; got != base64.StdEncoding.EncodeToString(secret) {
				t.Errorf("another hmac-secret: %q", asserted)
			}
		})
	}
}

func testSSHKeygen(t *testing.T) {
	for _, kind := range []string{"ed25519-sk", "ecdsa-sk"} {
		for _, options := range [][]string{nil, {"-O", "verify-required", "-O", "resident"}} {
			t.Run(fmt.Sprint(kind, options), func(t *testing.T) {
				key := newKey(t)
				sockets[0].plugIn(t, key)
				found(t)
				folder := t.TempDir()
				file := func(name string) string { return filepath.Join(folder, name) }
				write(t, file("ask"), "#!/bin/sh\necho "+keyPIN+"\n")
				write(t, file("ask wrong"), "#!/bin/sh\necho 314159\n")
				keygen := func(input, askpass string, arguments ...string) (string, error) {
					t.Helper()
					return foreign(t, input, file(askpass), append([]string{"/usr/bin/ssh-keygen"}, arguments...)...)
				}
				arguments := []string{"-t", kind, "-N", "", "-C", "ada", "-f", file("id")}
				if out, err := keygen("", "ask", append(arguments, options...)...); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				write(t, file("message"), "message")
				sign := []string{"-Y", "sign", "-f", file("id"), "-n", "file", file("message")}
				if out, err := keygen("", "ask", sign...); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				public, err := os.ReadFile(file("id.pub"))
				if err != nil {
					t.Fatal(err)
				}
				write(t, file("allowed"), "ada "+string(public))
				verify := []string{"-Y", "verify", "-f", file("allowed"), "-I", "ada", "-n", "file", "-s", file("message.sig")}
				good := fmt.Sprintf("Good \"file\" signature for ada with %s key", strings.ToUpper(kind))
				if out, err := keygen("message", "", verify...); err != nil || !strings.Contains(out, good) {
					t.Errorf("%v: %s", err, out)
				}
				if out, err := keygen("massage", "", verify...); err == nil || !strings.Contains(out, "incorrect signature") {
					t.Errorf("another message: %v: %s", err, out)
				}

				// No signature without a touch, nor without the PIN where it
				// is required.
				if err := os.Remove(file("message.sig")); err != nil {
					t.Fatal(err)
				}
				askpass := "ask wrong"
				if options == nil {
					askpass = "ask"
					key.SetPresence(virtual.Refuse)
				}
				if out, err := keygen("", askpass, sign...); err == nil || !strings.Contains(out, "Couldn't sign message") {
					t.Errorf("signed: %v: %s", err, out)
				}
			})
		}
	}
}
