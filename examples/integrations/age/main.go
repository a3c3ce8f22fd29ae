// Age encrypts a file to a security key, in the format of age. Whoever wants to
// read it has to have the key, and its PIN or finger.
//
//	go run ./age <notes.txt >notes.txt.age
//	go run ./age -d <notes.txt.age
//
// The first makes a credential on the key, and writes to age-identity.txt which
// it is: an age identity that is no secret, to be kept with the files. Without a
// key, a software key takes its place, which age-identity.txt.key keeps.
//
// The secret comes from the extension prf of package webauthn, and the rest from
// age: prf.go brings them together. With the same identity the files open in the
// age command, by age-plugin-fido2prf, and in typage, its sibling in JavaScript.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"

	"filippo.io/age"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	decryption := flag.Bool("d", false, "decrypt")
	identity := flag.String("i", "age-identity.txt", "`file` with the identity; it is made if it is not there")
	flag.Parse()
	if err := run(ctx, *identity, *decryption); err != nil {
		fmt.Fprintln(os.Stderr, "age:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, identity string, decryption bool) error {
	key, err := anykey.Open(ctx, os.Stderr, identity+".key")
	if err != nil {
		return err
	}
	defer key.Close()
	if decryption {
		return decrypt(ctx, key, identity, os.Stdout, os.Stdin)
	}
	return encrypt(ctx, key, identity, os.Stdout, os.Stdin)
}

// encrypt encrypts to the credential of the identity, or to a new one.
func encrypt(ctx context.Context, key *ctap2.Authenticator, identity string, to io.Writer, from io.Reader) error {
	c, err := readIdentity(identity)
	if errors.Is(err, fs.ErrNotExist) {
		if c, err = newCredential(ctx, key); err == nil {
			err = writeIdentity(identity, c)
		}
	}
	if err != nil {
		return err
	}
	w, err := age.Encrypt(to, c.prf(ctx, key))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, from); err != nil {
		return err
	}
	return w.Close()
}

func decrypt(ctx context.Context, key *ctap2.Authenticator, identity string, to io.Writer, from io.Reader) error {
	c, err := readIdentity(identity)
	if err != nil {
		return err
	}
	r, err := age.Decrypt(from, c.prf(ctx, key))
	if err != nil {
		return err
	}
	_, err = io.Copy(to, r)
	return err
}

func readIdentity(file string) (*credential, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseIdentity(string(bytes.TrimSpace(text)))
}

func writeIdentity(file string, c *credential) error {
	text, err := c.identity()
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text+"\n"), 0o600)
}
