//go:build guest && !libusb

package guest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
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
	t.Run("fido2-cred and fido2-assert by U2F", testFIDO2CredAssertU2F)
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

func parsePublicKey(t *testing.T, algorithm cose.Algorithm, text string) *cose.Key {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(algorithm, parsed)
	if err != nil {
		t.Fatal(err)
	}
	return key
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
			credential := &ctap2.Credential{PublicKey: parsePublicKey(t, algorithm, publicKey)}
			secret := signIn(t, client(t, open(t), nothing), credential, 1)
			if got := asserted[len(asserted)-1]; got != base64.StdEncoding.EncodeToString(secret) {
				t.Errorf("another hmac-secret: %q", asserted)
			}
		})
	}
}

// By U2F_REGISTER and U2F_AUTHENTICATE: -u demands them, and a key of U2F alone
// is spoken to so in any case.
func testFIDO2CredAssertU2F(t *testing.T) {
	for _, test := range []struct {
		name    string
		config  virtual.Config
		options []string
	}{
		{"beside CTAP2", virtual.Config{PIN: keyPIN}, []string{"-u"}},
		{"alone", virtual.ProfileU2F.Config(), []string{"-u"}},
		{"alone, unasked", virtual.ProfileU2F.Config(), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := virtual.New(test.config)
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			p := sockets[0].plugIn(t, key)
			defer p.pullOut()
			path := found(t).Path
			run := func(input []string, command ...string) []string {
				t.Helper()
				output, said, err := exchange(t, input, command...)
				if err != nil || strings.Contains(said, "PIN") {
					t.Fatalf("%q: %v\n%s", command, err, said)
				}
				return output
			}
			device := func(program, letter string, options ...string) []string {
				return slices.Concat([]string{"/usr/bin/" + program, letter}, test.options, options, []string{path})
			}

			clientData := base64.StdEncoding.EncodeToString(hash[:])
			made := run([]string{clientData, "example.com", "ada", "AQ=="}, device("fido2-cred", "-M")...)
			if len(made) != 7 || made[2] != "fido-u2f" {
				t.Fatalf("fido2-cred made %q", made)
			}
			verified := run(made, "/usr/bin/fido2-cred", "-V", "es256")
			id, publicKey := verified[0], strings.Join(verified[1:], "\n")+"\n"
			made[0] = base64.StdEncoding.EncodeToString(make([]byte, 32)) // other client data
			if _, said, err := exchange(t, made, "/usr/bin/fido2-cred", "-V", "es256"); err == nil {
				t.Errorf("verified: %s", said)
			}
			signedIn := func(id, publicKey string) {
				t.Helper()
				asserted := run([]string{clientData, "example.com", id}, device("fido2-assert", "-G", "-p")...)
				public := filepath.Join(t.TempDir(), "public")
				write(t, public, publicKey)
				run(asserted, "/usr/bin/fido2-assert", "-V", "-p", public, "es256")
				asserted[0] = made[0]
				if _, said, err := exchange(t, asserted, "/usr/bin/fido2-assert", "-V", "-p", public, "es256"); err == nil {
					t.Errorf("verified: %s", said)
				}
			}
			signedIn(id, publicKey)

			// Package ctap2 signs in with what fido2-cred made, and fido2-assert
			// with what package ctap2 makes.
			a := client(t, open(t), nothing)
			handle, err := base64.StdEncoding.DecodeString(id)
			if err != nil {
				t.Fatal(err)
			}
			accounts, err := a.GetAssertion(limited(t), &ctap2.GetAssertionRequest{
				RPID: "example.com", ClientDataHash: hash[:], UserVerification: ctap2.Discouraged,
				AllowList: []ctap2.CredentialDescriptor{{ID: handle}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := accounts[0].Verify(parsePublicKey(t, cose.ES256, publicKey), hash[:]); err != nil {
				t.Error(err)
			}
			credential, err := a.MakeCredential(limited(t), &ctap2.MakeCredentialRequest{
				ClientDataHash: hash[:], RP: ctap2.RelyingParty{ID: "example.com"}, User: ctap2.User{ID: []byte{2}, Name: "bob"},
				Algorithms: []cose.Algorithm{cose.ES256}, UserVerification: ctap2.Discouraged,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			public, err := credential.PublicKey.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			signedIn(base64.StdEncoding.EncodeToString(credential.ID), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
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
