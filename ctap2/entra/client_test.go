package entra_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2/entra"
)

const ada = "ada@contoso.com"

// What is temporary is tried again, as late as Graph wants it.
func TestRetries(t *testing.T) {
	soon := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for name, test := range map[string]struct {
		faults func() []fault
		least  time.Duration
	}{
		"429 with seconds":   {func() []fault { return []fault{{status: 429, retryAfter: "17"}} }, 17 * time.Second},
		"503 with a date":    {func() []fault { return []fault{{status: 503, retryAfter: soon(40 * time.Second)}} }, 40 * time.Second},
		"500, then 502":      {func() []fault { return []fault{{status: 500}, {status: 502}} }, time.Second},
		"a date in the past": {func() []fault { return []fault{{status: 503, retryAfter: soon(-time.Hour)}} }, 0},
		"nonsense":           {func() []fault { return []fault{{status: 429, retryAfter: "later"}} }, 0},
		"no connection":      {func() []fault { return []fault{{before: true}, {before: true}} }, time.Second},
		"no answer":          {func() []fault { return []fault{{hang: true}} }, 30 * time.Second},
		"half an answer":     {func() []fault { return []fault{{cut: true}} }, 0},
		"one after the other": {func() []fault {
			return []fault{{status: 429, retryAfter: "3"}, {cut: true}, {hang: true}, {status: 503}}
		}, 33 * time.Second},
		"0 does not mean hurry": {func() []fault { return []fault{{status: 429, retryAfter: "0"}, {status: 429, retryAfter: "0"}} }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				faults := test.faults()
				g.fail("creationOptions", faults...)
				start := time.Now()
				options, err := g.api().CreationOptions(t.Context(), ada)
				if err != nil {
					t.Fatal(err)
				}
				if options.PublicKey.RP.ID != rpID {
					t.Errorf("RP ID %q", options.PublicKey.RP.ID)
				}
				if n := g.made("creationOptions"); n != len(faults)+1 {
					t.Errorf("%d attempts", n)
				}
				if d := time.Since(start); d < test.least || d > test.least+15*time.Second {
					t.Errorf("it took %v, at least %v expected", d, test.least)
				}
			})
		})
	}
}

// What is not temporary is not tried again, and each failure says what it is.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		fault    fault
		client   func(*entra.Client)
		user     string
		want     []string // in the text
		is       error
		attempts int
	}{
		"forbidden": {
			fault: fault{status: 403, message: "Insufficient privileges"},
			want:  []string{"creationOptions", "403", "serviceError", "Insufficient privileges", "b8090437-0868-45d4-a511-0977e3237ee0"}, attempts: 1,
		},
		"unknown user": {user: "eve@contoso.com", want: []string{"404", "Request_ResourceNotFound"}, attempts: 1},
		"wrong token":  {client: func(c *entra.Client) { c.Token = func(context.Context) (string, error) { return "wrong", nil } }, want: []string{"401"}, attempts: 1},
		"redirect":     {fault: fault{status: 302}, want: []string{"302"}, attempts: 1},
		"no token": {client: func(c *entra.Client) {
			c.Token = func(context.Context) (string, error) { return "", io.ErrUnexpectedEOF }
		}, want: []string{"access token"}, is: io.ErrUnexpectedEOF},
		"not JSON":       {fault: fault{body: "<html>"}, is: entra.ErrMalformed, want: []string{"200"}, attempts: 1},
		"cut JSON":       {fault: fault{body: `{"publicKey": {`}, is: entra.ErrMalformed, attempts: 1},
		"too long":       {fault: fault{body: strings.Repeat(" ", 1<<20) + "{}"}, is: entra.ErrMalformed, want: []string{"more than 1048576 bytes"}, attempts: 1},
		"too impatient":  {fault: fault{status: 429, retryAfter: "600"}, want: []string{"429"}, attempts: 1},
		"secret message": {fault: fault{status: 400, message: "bad token " + accessToken + "\n\x1b[31m" + strings.Repeat("x", 400)}, want: []string{"bad token …"}, attempts: 1},
		"long message":   {fault: fault{status: 400, message: strings.Repeat("word ", 200)}, want: []string{"word …"}, attempts: 1},
		"empty token":    {client: func(c *entra.Client) { c.Token = func(context.Context) (string, error) { return "", nil } }, is: entra.ErrToken, want: []string{"empty"}},
		"always busy":    {client: func(c *entra.Client) { c.Patience = time.Nanosecond }, fault: fault{status: 503}, want: []string{"503"}, attempts: 1},
		"slow": {
			client: func(c *entra.Client) { c.AttemptTimeout, c.Patience = 3*time.Second, time.Nanosecond },
			fault:  fault{hang: true}, is: context.DeadlineExceeded, want: []string{"no answer within 3s"}, attempts: 1,
		},
		"plain HTTP":              {client: func(c *entra.Client) { c.BaseURL = "http://graph.example/v1.0" }, is: entra.ErrInvalidRequest, want: []string{"not https"}},
		"no URL":                  {client: func(c *entra.Client) { c.BaseURL = "graph" }, is: entra.ErrInvalidRequest},
		"a password in the URL":   {client: func(c *entra.Client) { c.BaseURL = "https://a:b@graph.example" }, is: entra.ErrInvalidRequest},
		"no Token":                {client: func(c *entra.Client) { c.Token = nil }, is: entra.ErrInvalidRequest},
		"no user":                 {user: " ", client: nil, want: []string{"404"}, attempts: 1},
		"user that is a path":     {user: "..", is: entra.ErrInvalidRequest},
		"timeout below 5 minutes": {client: func(c *entra.Client) { c.ChallengeTimeout = time.Minute }, is: entra.ErrInvalidRequest},
		"timeout above 30 days":   {client: func(c *entra.Client) { c.ChallengeTimeout = 31 * 24 * time.Hour }, is: entra.ErrInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				g.fail("creationOptions", test.fault)
				client := g.api()
				client.Patience = 20 * time.Second
				if test.client != nil {
					test.client(client)
				}
				if test.user == "" {
					test.user = ada
				}
				start := time.Now()
				options, err := client.CreationOptions(t.Context(), test.user)
				if err == nil {
					t.Fatalf("no error, %+v", options)
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v is no %v", err, test.is)
				}
				if errors.Is(err, entra.ErrUncertain) {
					t.Errorf("a question cannot be uncertain: %v", err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q lacks %q", err, want)
					}
				}
				if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 500 {
					t.Errorf("error %q", err)
				}
				g.hides(err.Error())
				g.hides(fmt.Sprintf("%+v %#v", err, err))
				if test.attempts > 0 && g.made("creationOptions") != test.attempts {
					t.Errorf("%d attempts", g.made("creationOptions"))
				}
				if time.Since(start) > 30*time.Second {
					t.Errorf("it took %v", time.Since(start))
				}
			})
		})
	}
}

// What is no token is not sent, and not told.
func TestTokens(t *testing.T) {
	ask := func(token string) (int, error) {
		sent := 0
		client := entra.Client{
			Token: func(context.Context) (string, error) { return token, nil },
			HTTP: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				sent++
				return nil, errors.New("sent")
			})},
			Patience: time.Nanosecond,
		}
		_, err := client.CreationOptions(t.Context(), ada)
		return sent, err
	}
	for _, token := range []string{accessToken, "EwBgA8l6+BAAUO/9chh8==", "a~b"} {
		if sent, err := ask(token); sent != 1 || errors.Is(err, entra.ErrToken) {
			t.Errorf("%q: sent %d times, %v", token, sent, err)
		}
	}
	for token, want := range map[string]string{
		"": "it is empty",
		"{\n\"accessToken\": \"" + accessToken + "\"}": "it looks like JSON",
		`"` + accessToken + `"`:                        "it looks like JSON",
		"Bearer " + accessToken:                        "a space",
		accessToken + "\nexpiresOn":                    "a line break",
		accessToken + "\x00":                           "a character",
		"\ufeff" + accessToken:                         "a character", // files of some editors begin with it
	} {
		sent, err := ask(token)
		if sent != 0 || !errors.Is(err, entra.ErrToken) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), accessToken) {
			t.Errorf("%q: sent %d times, %v", token, sent, err)
		}
	}
}

func TestErrorFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.fail("creationOptions", fault{status: 429, retryAfter: "600", message: "slow down"})
		_, err := g.api().CreationOptions(t.Context(), ada)
		var failed *entra.Error
		if !errors.As(err, &failed) {
			t.Fatalf("%T", err)
		}
		if failed.Call != "creationOptions" || failed.Status != 429 || failed.Code != "serviceError" || failed.Message != "slow down" ||
			failed.RequestID == "" || failed.RetryAfter != 10*time.Minute || failed.Uncertain {
			t.Errorf("%+v", failed)
		}
	})
}

// The caller's context ends an attempt and a pause.
func TestContext(t *testing.T) {
	gone := errors.New("somebody pressed a key")
	for name, fault := range map[string]fault{"attempt": {hang: true}, "pause": {status: 429, retryAfter: "60"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGraph(t, ada)
				g.fail("creationOptions", fault)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(7*time.Second, func() { cancel(gone) })
				start := time.Now()
				_, err := g.api().CreationOptions(ctx, ada)
				if !errors.Is(err, gone) {
					t.Errorf("error %v", err)
				}
				if d := time.Since(start); d != 7*time.Second {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

// Names go into URLs whole.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"guest_fabrikam.com#EXT#@contoso.com", "a/b?c=d@contoso.com", "87d349ed-44d7-43e1-9a83-5f2406dee5bd", "jörg@contoso.com"}
		g := newGraph(t, names...)
		client := g.api()
		for _, name := range names {
			for _, timeout := range []time.Duration{0, 30 * 24 * time.Hour} {
				client.ChallengeTimeout = timeout
				options, err := client.CreationOptions(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				if options.PublicKey.User.Name != name {
					t.Errorf("options for %q", options.PublicKey.User.Name)
				}
				if left := time.Until(options.Expires); left < max(timeout, 5*time.Minute)-2*time.Second || left > max(timeout, 5*time.Minute)+2*time.Second {
					t.Errorf("they expire in %v", left)
				}
			}
		}
	})
}

// It is this machine's clock that tells when a challenge expires.
func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.skew = -3 * time.Hour
		options, err := g.api().CreationOptions(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(options.Expires); left < 299*time.Second || left > 301*time.Second {
			t.Errorf("they expire in %v", left)
		}
	})
}

func TestTokenForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraph(t, ada)
		g.fail("creationOptions", fault{status: 503}, fault{status: 503})
		client, asked := g.api(), 0
		client.Token = func(context.Context) (string, error) { asked++; return accessToken, nil }
		if _, err := client.CreationOptions(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		if asked != 3 {
			t.Errorf("asked for a token %d times", asked)
		}
	})
}

// Clients that failed together do not come back together.
func TestJitter(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			g := newGraph(t, ada)
			g.fail("creationOptions", fault{status: 503})
			start := time.Now()
			if _, err := g.api().CreationOptions(t.Context(), ada); err != nil {
				t.Fatal(err)
			}
			seen[time.Since(start)] = true
		})
	}
	if len(seen) < 2 {
		t.Errorf("pauses %v", seen)
	}
}

// The default client is one of https.
func TestDefaultBaseURL(t *testing.T) {
	var asked *http.Request
	client := &entra.Client{
		Token: func(context.Context) (string, error) { return accessToken, nil },
		HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked = r
			return nil, errors.New("no network")
		})},
		Patience: time.Nanosecond,
	}
	if _, err := client.CreationOptions(t.Context(), ada); err == nil || strings.Contains(err.Error(), "http") {
		t.Errorf("error %v", err)
	}
	if u := asked.URL.String(); u != "https://graph.microsoft.com/v1.0/users/ada@contoso.com/authentication/fido2Methods/creationOptions" {
		t.Errorf("URL %s", u)
	}
	if asked.Header.Get("Authorization") != "Bearer "+accessToken || asked.Header.Get("Accept") != "application/json" || asked.Method != "GET" {
		t.Errorf("request %v", asked.Header)
	}
	// What it cannot know whether it was sent is uncertain.
	if err := client.Delete(t.Context(), ada, "x"); !errors.Is(err, entra.ErrUncertain) {
		t.Errorf("error %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
