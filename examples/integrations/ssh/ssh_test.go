package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

const message = "I, the undersigned\n"

// Files are signed, with a key that was made before, so that
// golang.org/x/crypto/ssh and OpenSSH, if it is installed, verify them.
func TestSignFile(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.EdDSA, cose.ES256} {
		t.Run(alg.String(), func(t *testing.T) {
			dir := t.TempDir()
			keyFile, file := filepath.Join(dir, "id"), filepath.Join(dir, "letter")
			write(t, file, message)
			withKey(t, keyFile+".key", func(key *ctap2.Authenticator) {
				c, err := newCredential(t.Context(), key, alg)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.write(keyFile); err != nil {
					t.Fatal(err)
				}
			})
			withKey(t, keyFile+".key", func(key *ctap2.Authenticator) {
				if err := signFile(t.Context(), key, keyFile, "file", file); err != nil {
					t.Fatal(err)
				}
			})
			public := read(t, keyFile+".pub")
			verify(t, public, read(t, file+".sig"))
			sshKeygen(t, dir, public)
		})
	}
}

// verify is PROTOCOL.sshsig, with the verification of golang.org/x/crypto/ssh.
func verify(t *testing.T, public, file []byte) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	var f signatureFile
	if err := ssh.Unmarshal(bytes.TrimPrefix(block.Bytes, []byte("SSHSIG")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Version != 1 || !bytes.Equal(f.PublicKey, key.Marshal()) || f.Namespace != "file" {
		t.Errorf("%+v", f)
	}
	signature := new(ssh.Signature)
	if err := ssh.Unmarshal(f.Signature, signature); err != nil {
		t.Fatal(err)
	}
	signed := func(message string) []byte {
		hash := sha512.Sum512([]byte(message))
		return slices.Concat([]byte("SSHSIG\x00\x00\x00\x04file\x00\x00\x00\x00\x00\x00\x00\x06sha512\x00\x00\x00\x40"), hash[:])
	}
	if err := key.Verify(signed(message), signature); err != nil {
		t.Error(err)
	}
	if err := key.Verify(signed("another"), signature); err == nil {
		t.Error("the signature is good for another message")
	}
}

// sshKeygen has OpenSSH verify the letter, and read the key file.
func sshKeygen(t *testing.T, dir string, public []byte) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("FIDO_INTEROP") == "require" {
			t.Fatalf("FIDO_INTEROP=require, and this needs openssh-client: %v", err)
		}
		t.Logf("not verified by OpenSSH: %v", err)
		return
	}
	run := func(stdin string, args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), "ssh-keygen", args...)
		command.Dir, command.Stdin = dir, strings.NewReader(stdin)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	write(t, filepath.Join(dir, "signers"), "ada@example.com "+string(public))
	by := []string{"-Y", "verify", "-f", "signers", "-I", "ada@example.com", "-n", "file", "-s", "letter.sig"}
	if out, err := run(message, by...); err != nil {
		t.Errorf("ssh-keygen: %v\n%s", err, out)
	}
	if _, err := run("another", by...); err == nil {
		t.Error("ssh-keygen: the signature is good for another message")
	}
	if out, err := run("", "-y", "-f", "id"); err != nil || strings.TrimSpace(out) != strings.TrimSpace(string(public)) {
		t.Errorf("ssh-keygen reads %q, %v", out, err)
	}
}

// The signer logs in to an SSH server.
func TestLogin(t *testing.T) {
	withKey(t, "", func(key *ctap2.Authenticator) {
		for _, alg := range []cose.Algorithm{cose.EdDSA, cose.ES256} {
			c, err := newCredential(t.Context(), key, alg)
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "localhost:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			served := make(chan error, 1)
			go func() { served <- serve(listener, c.public) }()
			client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{
				User:            "ada",
				Auth:            []ssh.AuthMethod{ssh.PublicKeys(&signer{ctx: t.Context(), key: key, credential: c})},
				HostKeyCallback: ssh.InsecureIgnoreHostKey(), // the test is the host
			})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
}

// serve lets one client in that has the key.
func serve(listener net.Listener, public ssh.PublicKey) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), public.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	_, hostKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	host, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		return err
	}
	config.AddHostKey(host)
	_, _, _, err = ssh.NewServerConn(conn, config)
	return err
}

// Key files that are none of ours, or none at all, are refused.
func TestReadCredential(t *testing.T) {
	name := filepath.Join(t.TempDir(), "id")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := &cose.Key{Algorithm: cose.EdDSA, X: make([]byte, 32)}
	public, err := publicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&credential{id: []byte{1, 2, 3}, public: public}).write(name); err != nil {
		t.Fatal(err)
	}
	good, _ := pem.Decode(read(t, name))
	if c, err := readCredential(name); err != nil || !bytes.Equal(c.id, []byte{1, 2, 3}) {
		t.Errorf("%+v, %v", c, err)
	}
	bad := map[string][]byte{
		"text":                []byte("no key"),
		"a key in the file":   pem.EncodeToMemory(block),
		"another type":        pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: good.Bytes}),
		"another application": pem.EncodeToMemory(&pem.Block{Type: good.Type, Bytes: bytes.ReplaceAll(good.Bytes, []byte("ssh:"), []byte("git:"))}),
	}
	for i := range good.Bytes[:len(good.Bytes)-blockSize] {
		bad["cut"+string(rune(i))] = pem.EncodeToMemory(&pem.Block{Type: good.Type, Bytes: good.Bytes[:i]})
	}
	for what, data := range bad {
		write(t, name, string(data))
		if c, err := readCredential(name); err == nil {
			t.Errorf("%q: %+v", what, c)
		}
	}
}

func withKey(t *testing.T, file string, do func(*ctap2.Authenticator)) {
	t.Helper()
	key, err := anykey.Software(t.Context(), t.Output(), file)
	if err != nil {
		t.Fatal(err)
	}
	do(key)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
