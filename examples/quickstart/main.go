// Quickstart registers with a security key and signs in with it, and says what
// happens in words. Plug in a key and run it:
//
//	go run ./examples/quickstart
//
// Without a key it uses the software authenticator of package virtual, over
// the same framing. Nothing is kept on a real key.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/pin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, openDevice); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// opener opens a key, and says whether it is a software one.
type opener func(ctx context.Context, out io.Writer) (device *hid.Device, isSoftware bool, err error)

func run(ctx context.Context, out io.Writer, open opener) error {
	device, isSoftware, err := open(ctx, out)
	if err != nil {
		return err
	}
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN:       askPIN,
		Touch:     func(ctap2.TouchRequest) { fmt.Fprintln(out, "  Touch the key now …") },
		TouchDone: func() { fmt.Fprintln(out, "  … thank you.") },
	}))
	if err != nil {
		return errors.Join(err, device.Close())
	}
	defer key.Close()
	describe(out, key.Info())
	return registerAndSignIn(ctx, out, key, isSoftware)
}

// registerAndSignIn is what a relying party and its client do together: the
// one hands out a challenge, the other has the key sign it.
func registerAndSignIn(ctx context.Context, out io.Writer, key *ctap2.Authenticator, isSoftware bool) error {
	const site = "example.com"
	fmt.Fprintf(out, "\nRegistering at %s.\n", site)
	hash := clientDataHash("webauthn.create", site)
	credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash: hash,
		RP:             ctap2.RelyingParty{ID: site, Name: "Example"},
		User:           ctap2.User{ID: []byte("user 1"), Name: "ada@example.com", DisplayName: "Ada"},
		Algorithms:     []cose.Algorithm{cose.ES256, cose.EdDSA},
		// A discoverable credential takes room on the key for good. A trial
		// leaves nothing behind on a real one.
		ResidentKey: isSoftware,
	})
	if err != nil {
		return err
	}
	switch statement, err := attestation.Verify(credential, hash); {
	case errors.Is(err, attestation.ErrFormat):
		fmt.Fprintf(out, "  The key vouches for it in the format %q.\n", credential.Format)
	case err != nil:
		return err
	default:
		fmt.Fprintf(out, "  Verified the registration's signature (attestation: %v).\n", statement.Type)
	}
	fmt.Fprintf(out, "  Registered: %v, credential %x…\n", credential.PublicKey, credential.ID[:min(8, len(credential.ID))])

	fmt.Fprintf(out, "\nSigning in at %s.\n", site)
	hash = clientDataHash("webauthn.get", site)
	accounts, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID:           site,
		ClientDataHash: hash,
		AllowList:      []ctap2.CredentialDescriptor{credential.Descriptor()},
	})
	if err != nil {
		return err
	}
	if err := accounts[0].Verify(credential.PublicKey, hash); err != nil {
		return err
	}
	fmt.Fprintln(out, "  Verified the sign-in's signature with the public key of the registration.")
	fmt.Fprintf(out, "  Signed in (%v).\n", accounts[0].AuthData.Flags)
	return nil
}

// openDevice opens the first key that is plugged in, or a software one.
func openDevice(ctx context.Context, out io.Writer) (device *hid.Device, isSoftware bool, err error) {
	keys, err := hid.List(ctx)
	switch {
	case errors.Is(err, hid.ErrUnsupported):
		fmt.Fprintln(out, "This build cannot reach USB keys on this system.")
	case err != nil:
		return nil, false, err
	case len(keys) > 0:
		fmt.Fprintf(out, "Found a key: %s %s at %s\n", keys[0].Manufacturer, keys[0].Product, keys[0].Path)
		device, err = hid.Open(ctx, keys[0].Path)
		return device, false, err
	}
	fmt.Fprint(out, "No security key is plugged in. ")
	return openSoftware(ctx, out)
}

// openSoftware opens a software key, through the framing of a USB key.
func openSoftware(ctx context.Context, out io.Writer) (device *hid.Device, isSoftware bool, err error) {
	fmt.Fprintln(out, "This is a software key, which is gone when the program ends.")
	software, err := virtual.New(virtual.Config{})
	if err != nil {
		return nil, true, err
	}
	port, err := software.PlugIn(virtual.USBConfig{}).Open()
	if err != nil {
		return nil, true, err
	}
	device, err = hid.New(ctx, port)
	return device, true, err
}

// describe says what a key can do.
func describe(out io.Writer, info *ctap2.Info) {
	fmt.Fprintf(out, "It speaks %s, model %v.\n", strings.Join(info.Versions, ", "), info.AAGUID)
	can := []string{"sign in"}
	if info.Options[ctap2.OptionResidentKey] {
		can = append(can, "keep passkeys")
	}
	if isSet, canBe := info.Options[ctap2.OptionClientPIN]; isSet {
		can = append(can, "ask for its PIN")
	} else if canBe {
		can = append(can, "take a PIN (none is set)")
	}
	if _, ok := info.Options[ctap2.OptionUserVerification]; ok {
		can = append(can, "recognise its user")
	}
	if info.HasExtension("hmac-secret") {
		can = append(can, "yield secrets for encryption")
	}
	fmt.Fprintf(out, "It can %s.\n", strings.Join(can, ", "))
}

// askPIN reads the PIN from the terminal, without showing it.
func askPIN(ctx context.Context, request ctap2.PINRequest) (pin.Secret, error) {
	if request.Previous != nil {
		fmt.Fprintln(os.Stderr, request.Previous)
	}
	fmt.Fprint(os.Stderr, "PIN of the key: ")
	defer fmt.Fprintln(os.Stderr)
	terminal := int(os.Stdin.Fd())
	state, err := term.GetState(terminal)
	if err != nil {
		return pin.Secret{}, err
	}
	type entry struct {
		line []byte
		err  error
	}
	entered := make(chan entry, 1)
	go func() { // which ends with the program if nothing is entered
		line, err := term.ReadPassword(terminal)
		entered <- entry{line, err}
	}()
	select {
	case e := <-entered:
		return pin.NewSecret(e.line), e.err
	case <-ctx.Done():
		return pin.Secret{}, errors.Join(context.Cause(ctx), term.Restore(terminal, state))
	}
}

// clientDataHash makes client data as a browser would, with a fresh challenge,
// and returns what the key signs of it: its SHA-256.
func clientDataHash(ceremony, site string) []byte {
	clientData := fmt.Sprintf(`{"type":%q,"challenge":%q,"origin":%q}`, ceremony, rand.Text(), "https://"+site)
	hash := sha256.Sum256([]byte(clientData))
	return hash[:]
}
