// Entra gives security keys to users of Microsoft Entra ID.
//
//	export GRAPH_TOKEN=$(az account get-access-token --resource-type ms-graph --query accessToken --output tsv)
//	go run ./entra ada@contoso.com bob@contoso.com
//
// The token has the permission UserAuthenticationMethod.ReadWrite.All. The Azure
// CLI's own for a person may lack it; that of an application which an
// administrator has granted it to has it (az login --service-principal). The keys
// have a PIN already, or a finger. Each is to be plugged in when it is its user's
// turn, again if it was there before. What became of each is said at the end, and
// the exit status is 1 unless all went well.
//
// Without a token it is a trial, with software keys and a stand-in for Graph that
// knows everybody.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/signal"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	displayName := flag.String("name", "security key", "what Entra's lists shall call the keys")
	graph := flag.String("graph", "", "another `URL` of Graph, such as https://graph.microsoft.com/beta")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(ctx, *graph, os.Getenv("GRAPH_TOKEN"), *displayName, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "entra:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, graphURL, token, displayName string, users []string) error {
	client := &entra.Client{Token: func(context.Context) (string, error) { return token, nil }, BaseURL: graphURL}
	if token != "" {
		return provision(ctx, os.Stdout, client, anykey.Next, displayName, users)
	}
	fmt.Println("GRAPH_TOKEN is not set: this is a trial.")
	graph, err := newGraph()
	if err != nil {
		return err
	}
	server := httptest.NewServer(graph)
	defer server.Close()
	client.BaseURL, token = server.URL, "trial"
	return provision(ctx, os.Stdout, client, softwareKey, displayName, users)
}

// An opener opens the next key, and says on out what the person is to do.
type opener func(ctx context.Context, out io.Writer) (*ctap2.Authenticator, error)

func softwareKey(ctx context.Context, out io.Writer) (*ctap2.Authenticator, error) {
	return anykey.Software(ctx, out, "")
}

// provision gives each of the users the next key, and says what became of it. The
// error is that of those that have none.
func provision(ctx context.Context, out io.Writer, client *entra.Client, next opener, displayName string, users []string) error {
	assignments := make([]entra.Assignment, len(users))
	for i, user := range users {
		assignments[i] = entra.Assignment{User: user, DisplayName: displayName}
	}
	results := client.Provision(ctx, &entra.Provisioning{
		Assignments: assignments,
		Key: func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			fmt.Fprintf(out, "Plug in the key for %s.\n", a.User)
			return next(ctx, out)
		},
	})
	var failed []error
	for _, r := range results {
		fmt.Fprintln(out, r)
		if r.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.User, r.Err))
		}
	}
	return errors.Join(failed...)
}
