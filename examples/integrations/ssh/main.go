// Ssh signs a file as ssh-keygen does, with a credential that this library has a
// security key make.
//
//	go run ./ssh notes.txt
//	ssh-keygen -Y check-novalidate -n file -s notes.txt.sig <notes.txt
//
// The first makes id_fido and id_fido.pub, if they are not there: key files of
// OpenSSH, which ssh -i takes as well, to log in with. Without a security key, a
// software key takes its place, which id_fido.key keeps.
//
// A signer in this program is an ssh.Signer of golang.org/x/crypto/ssh, so that
// SSH clients in Go sign in with it too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	keyFile := flag.String("f", "id_fido", "`file` of the SSH key; it is made if it is not there")
	namespace := flag.String("n", "file", "what the signature is for")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(ctx, *keyFile, *namespace, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "ssh:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keyFile, namespace, file string) error {
	key, err := anykey.Open(ctx, os.Stdout, keyFile+".key")
	if err != nil {
		return err
	}
	defer key.Close()
	return signFile(ctx, key, keyFile, namespace, file)
}

// signFile signs the file with the SSH key, or with a new one, and writes the
// signature to a file beside it.
func signFile(ctx context.Context, key *ctap2.Authenticator, keyFile, namespace, file string) error {
	c, err := readCredential(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if c, err = newCredential(ctx, key, cose.EdDSA, cose.ES256); err == nil {
			err = c.write(keyFile)
		}
	}
	if err != nil {
		return err
	}
	message, err := os.Open(file)
	if err != nil {
		return err
	}
	defer message.Close()
	signature, err := sign(&signer{ctx: ctx, key: key, credential: c}, namespace, message)
	if err != nil {
		return err
	}
	return os.WriteFile(file+".sig", signature, 0o644)
}
