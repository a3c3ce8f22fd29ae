// Package anykey gives the examples a security key: the one that is plugged in,
// or a software one.
package anykey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"

	"golang.org/x/term"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// Open opens the key that is plugged in, of several the one that is touched
// first, and without one what Software does. What the person is to do is said
// on out.
func Open(ctx context.Context, out io.Writer, file string) (*ctap2.Authenticator, error) {
	_, key, err := keys.Choose(ctx, prompt(out))
	if errors.Is(err, keys.ErrNoKey) {
		fmt.Fprintf(out, "%v. A software key takes its place.\n", err)
		return Software(ctx, out, file)
	}
	return key, err
}

// Software opens a software key, whose user touches it, with the right finger,
// whenever it asks. The file keeps it, and is made if it is not there. Without
// the name of one, the key is gone when it is closed.
func Software(ctx context.Context, out io.Writer, file string) (*ctap2.Authenticator, error) {
	device, err := virtual.New(virtual.Config{Path: file, BuiltInUV: virtual.UVConfigured})
	if err != nil {
		return nil, err
	}
	key, err := ctap2.Open(ctx, device, prompt(out))
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return key, nil
}

// Next waits for a key to be plugged in, and opens it. One that is there already
// is not the next one.
func Next(ctx context.Context, out io.Writer) (*ctap2.Authenticator, error) {
	there, _ := keys.List(ctx)                // what fails for good is Watch's to say
	for event, err := range keys.Watch(ctx) { // which begins with those
		switch {
		case err != nil:
			return nil, err
		case !event.Arrived:
		case slices.ContainsFunc(there, func(k keys.Key) bool { return k.Name() == event.Key.Name() }):
			there = slices.DeleteFunc(there, func(k keys.Key) bool { return k.Name() == event.Key.Name() })
		default:
			return keys.Open(ctx, event.Key, prompt(out))
		}
	}
	return nil, keys.ErrNoKey
}

func prompt(out io.Writer) ctap2.Option {
	return ctap2.WithInteraction(ctap2.Interaction{
		PIN:   func(ctx context.Context, r ctap2.PINRequest) (pin.Secret, error) { return askPIN(ctx, out, r) },
		Touch: func(ctap2.TouchRequest) { fmt.Fprintln(out, "Touch the key.") },
	})
}

// askPIN reads the PIN from the terminal, without showing it. Standard input may
// be something else.
func askPIN(ctx context.Context, out io.Writer, r ctap2.PINRequest) (pin.Secret, error) {
	if r.Previous != nil {
		fmt.Fprintln(out, r.Previous)
	}
	fmt.Fprint(out, "PIN of the key: ")
	defer fmt.Fprintln(out)
	name := "/dev/tty"
	if runtime.GOOS == "windows" {
		name = "CONIN$"
	}
	terminal, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return pin.Secret{}, err
	}
	state, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return pin.Secret{}, errors.Join(err, terminal.Close())
	}
	type entry struct {
		line []byte
		err  error
	}
	entered := make(chan entry, 1)
	go func() { // which ends with the program if nothing is entered
		defer terminal.Close()
		line, err := term.ReadPassword(int(terminal.Fd()))
		entered <- entry{line, err}
	}()
	select {
	case e := <-entered:
		return pin.NewSecret(e.line), e.err
	case <-ctx.Done():
		return pin.Secret{}, errors.Join(context.Cause(ctx), term.Restore(int(terminal.Fd()), state))
	}
}
