// Signin registers at a WebAuthn server, and signs in to it, as a browser does,
// with a security key. The server is one of go-webauthn, in this program, on
// localhost; what the two say to each other is HTTP and WebAuthn's JSON.
//
//	go run ./signin
//
// Without a key it uses the software authenticator of package virtual. Nothing
// is kept on a real one.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/signal"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "signin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	key, err := anykey.Open(ctx, os.Stdout, "")
	if err != nil {
		return err
	}
	defer key.Close()
	origin, stop, err := serve()
	if err != nil {
		return err
	}
	defer stop()
	b, err := newBrowser(origin, key)
	if err != nil {
		return err
	}
	if err := b.register(ctx, "ada"); err != nil {
		return err
	}
	fmt.Println("Registered at", origin)
	if err := b.signIn(ctx, "ada"); err != nil {
		return err
	}
	fmt.Println("Signed in.")
	return nil
}

// serve runs the server, which is where a browser would be pointed at.
func serve() (origin string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return "", nil, err
	}
	// An RP ID is a name, never an address.
	origin = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	handler, err := newServer(origin, "localhost")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	return origin, server.Close, nil
}

// A browser is what sign-in takes of one: a WebAuthn client, and HTTP with
// cookies.
type browser struct {
	webauthn.Client
	http http.Client
}

func newBrowser(origin string, key *ctap2.Authenticator) (*browser, error) {
	jar, err := cookiejar.New(nil)
	return &browser{
		Client: webauthn.Client{Origin: origin, Authenticators: []*ctap2.Authenticator{key}},
		http:   http.Client{Jar: jar},
	}, err
}

func (b *browser) register(ctx context.Context, user string) error {
	fromServer, err := b.post(ctx, "/users/"+user+"/registration/options", nil)
	if err != nil {
		return err
	}
	options, err := webauthn.ParseCreationOptions(fromServer)
	if err != nil {
		return err
	}
	response, err := b.Create(ctx, options)
	if err != nil {
		return err
	}
	_, err = b.post(ctx, "/users/"+user+"/registration", response)
	return err
}

func (b *browser) signIn(ctx context.Context, user string) error {
	fromServer, err := b.post(ctx, "/users/"+user+"/signin/options", nil)
	if err != nil {
		return err
	}
	options, err := webauthn.ParseRequestOptions(fromServer)
	if err != nil {
		return err
	}
	response, err := b.Get(ctx, options)
	if err != nil {
		return err
	}
	_, err = b.post(ctx, "/users/"+user+"/signin", response)
	return err
}

// post sends a value as JSON and returns what comes back.
func (b *browser) post(ctx context.Context, path string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.Origin+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := b.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s: %s: %s", path, response.Status, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}
