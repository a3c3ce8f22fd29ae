package entra_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// microsoftGraph stands in for Graph in the examples: it believes everything.
func microsoftGraph() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "nobody"):
			http.Error(w, `{"error": {"code": "Request_ResourceNotFound", "message": "no such user"}}`, http.StatusNotFound)
		case r.Method == http.MethodGet:
			fmt.Fprint(w, `{"publicKey": {
				"rp": {"id": "login.microsoft.com", "name": "Microsoft"},
				"user": {"id": "T0Y6MQ", "name": "ada@contoso.com", "displayName": "Ada"},
				"challenge": "QTU1MzNDNzAtNkM3Ni00NTRDLUJDQ0YtRTREMDZCNTBFRTRE",
				"pubKeyCredParams": [{"type": "public-key", "alg": -7}],
				"authenticatorSelection": {"requireResidentKey": true, "userVerification": "required"},
				"attestation": "direct", "extensions": {"hmacCreateSecret": true}}}`)
		default:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"id": "-2_GRUg2-HYz6_1YG4YRAQ2", "displayName": "blue key", "model": "NFC key"}`)
		}
	}))
}

// plugIn opens a software key, where a program asks for a real one, and uses the
// function of that name in package keys.
func plugIn(ctx context.Context) (*ctap2.Authenticator, error) {
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		return nil, err
	}
	return ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN:   func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
		Touch: func(ctap2.TouchRequest) { fmt.Println("touch the key") },
	}))
}

// Keys for two users, one of whom there is not.
func Example() {
	graph := microsoftGraph()
	defer graph.Close()
	client := &entra.Client{
		Token:   func(context.Context) (string, error) { return "access.token", nil },
		BaseURL: graph.URL, // a program leaves it empty, or names beta
	}
	results := client.Provision(context.Background(), &entra.Provisioning{
		Assignments: []entra.Assignment{
			{User: "ada@contoso.com", DisplayName: "blue key"},
			{User: "nobody@contoso.com", DisplayName: "red key"},
		},
		Key: func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			fmt.Println("plug in the", a.DisplayName)
			return plugIn(ctx)
		},
	})
	for _, r := range results {
		fmt.Println(r)
	}
	// Output:
	// plug in the blue key
	// touch the key
	// ada@contoso.com: registered
	// nobody@contoso.com: not started: entra: creationOptions: HTTP 404: Request_ResourceNotFound: no such user
}

// Will the key do?
func ExampleCompatible() {
	ctx := context.Background()
	key, err := plugIn(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer key.Close()
	report := entra.Compatible(key.Info())
	if err := report.ProbeAccounts(ctx, key); err != nil {
		fmt.Println(err)
	}
	for _, f := range report.Findings {
		if f.Required {
			fmt.Printf("%v: %v, %v\n", f.Rule, f.Verdict, f.Evidence)
		}
	}
	fmt.Println(report.Err())
	// Output:
	// touch the key
	// touch the key
	// FIDO 2.0: met, versions U2F_V2, FIDO_2_0, FIDO_2_1, FIDO_2_3
	// discoverable credentials: met, option rk: true
	// PIN or built-in user verification: met, option clientPin: true, no option uv
	// hmac-secret: met, extension hmac-secret
	// several accounts: met, two accounts were made and were there
	// <nil>
}

// A user's name has changed.
func ExampleRenameAccount() {
	ctx := context.Background()
	key, err := plugIn(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer key.Close()
	graph := microsoftGraph()
	defer graph.Close()
	client := &entra.Client{Token: func(context.Context) (string, error) { return "access.token", nil }, BaseURL: graph.URL}
	options, err := client.CreationOptions(ctx, "ada@contoso.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := options.Create(ctx, key); err != nil {
		fmt.Println(err)
		return
	}

	renaming, err := entra.RenameAccount(ctx, key, &entra.RenameRequest{
		RPID:    options.PublicKey.RP.ID,
		OldName: "ada@contoso.com",
		Name:    "ada.lovelace@contoso.com",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(renaming.Before.Name, "is now", renaming.After.Name)
	// Output:
	// touch the key
	// ada@contoso.com is now ada.lovelace@contoso.com
}
