package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// A Client calls Microsoft Graph. Its methods are safe for several goroutines
// as long as none changes a field. They name a user by object ID or by user
// principal name; an *Error is what a call failed with.
//
// A call that Graph was too busy for, or that failed on its side or on the way,
// is made again: not before Retry-After, or else after growing pauses, and within
// Patience.
type Client struct {
	// Token returns an access token for Graph, without "Bearer " and what else
	// may be around it: letters, digits and "-._~+/=" (RFC 6750 §2.1). Others
	// are refused with ErrToken. It is called for each attempt, and keeps the
	// token itself as long as it is good. The permission is
	// UserAuthenticationMethod.ReadWrite.All, or the narrower
	// UserAuthMethod-Passkey.ReadWrite.All, which the application that the token
	// is for must have been granted.
	Token func(ctx context.Context) (string, error)
	// BaseURL is Graph's, with its version: "https://graph.microsoft.com/beta",
	// or that of a national cloud. What is not https is refused with
	// ErrInvalidRequest, unless it is on this machine. Empty:
	// "https://graph.microsoft.com/v1.0".
	BaseURL string
	// ChallengeTimeout is how long the challenge of creation options shall last,
	// from 5 minutes to 30 days. Only beta takes it. Zero: Graph's choice, which
	// is 5 minutes.
	ChallengeTimeout time.Duration
	// HTTP makes the requests. Redirects are not followed. Nil: one as
	// http.DefaultClient.
	HTTP *http.Client
	// AttemptTimeout is how long one attempt may take. Zero: 30 seconds.
	AttemptTimeout time.Duration
	// Patience is how long a call may wait for another attempt, all in all. A
	// Retry-After that is longer ends it at once. Zero: 2 minutes.
	Patience time.Duration
}

const (
	defaultBaseURL        = "https://graph.microsoft.com/v1.0"
	defaultAttemptTimeout = 30 * time.Second
	defaultPatience       = 2 * time.Minute

	firstPause = time.Second
	mostPause  = 30 * time.Second

	maxAnswer = 1 << 20 // bytes; creation options have about ten thousand
)

// A call is one of Graph's, for one user.
type call struct {
	name   string // for errors
	method string
	url    string
	body   []byte // JSON; nil: none
}

// call returns one for what is below the user's fido2Methods.
func (c *Client) call(name, method, user, below string) (*call, error) {
	base := c.BaseURL
	if base == "" {
		base = defaultBaseURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, invalid("BaseURL is no URL such as %s", defaultBaseURL)
	}
	host := u.Hostname()
	if u.Scheme != "https" && (u.Scheme != "http" || host != "localhost" && host != "127.0.0.1" && host != "::1") {
		return nil, invalid("BaseURL is not https")
	}
	if c.Token == nil {
		return nil, invalid("no Token")
	}
	segment, err := pathSegment("user", user)
	if err != nil {
		return nil, err
	}
	users := "/users/" + segment
	if strings.HasPrefix(user, "$") { // which Graph takes for a query option there
		users = "/users('" + url.PathEscape(strings.ReplaceAll(user, "'", "''")) + "')"
	}
	return &call{name, method, strings.TrimSuffix(base, "/") + users + "/authentication/fido2Methods" + below, nil}, nil
}

// pathSegment returns a name as a segment of a URL's path.
func pathSegment(what, name string) (string, error) {
	if name == "" || name == "." || name == ".." {
		return "", invalid("%s %q", what, name)
	}
	return url.PathEscape(name), nil
}

// An answer is a successful one.
type answer struct {
	status int
	date   time.Time // by Graph's clock; zero if it does not say
	body   []byte
}

// patience is what is left of a Client's, in one call.
type patience struct {
	until time.Time
	pause time.Duration
}

func (c *Client) patience() *patience {
	d := c.Patience
	if d == 0 {
		d = defaultPatience
	}
	return &patience{until: time.Now().Add(d), pause: firstPause}
}

// wait waits until another attempt may be made. It reports false if there shall
// be none.
func (p *patience) wait(ctx context.Context, failed *Error) bool {
	if !failed.temporary() {
		return false
	}
	// Half of the pause is chance, so that clients which failed together do not
	// come back together.
	pause := max(failed.RetryAfter, p.pause/2+rand.N(p.pause/2))
	p.pause = min(2*p.pause, mostPause)
	if time.Now().Add(pause).After(p.until) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		failed.err = context.Cause(ctx)
		return false
	}
}

// do makes a call that can be repeated, until it succeeds or there is no point
// in another attempt.
func (c *Client) do(ctx context.Context, p *patience, r *call) (*answer, error) {
	uncertain := false
	for {
		a, failed := c.attempt(ctx, r)
		if failed == nil {
			return a, nil
		}
		uncertain = uncertain || failed.Uncertain
		if !p.wait(ctx, failed) {
			failed.Uncertain = uncertain
			return nil, failed
		}
	}
}

// attempt sends a request once.
func (c *Client) attempt(ctx context.Context, r *call) (*answer, *Error) {
	failed := &Error{Call: r.name}
	fail := func(err error) (*answer, *Error) {
		failed.err = err
		if ctx.Err() != nil {
			failed.err, failed.final = context.Cause(ctx), true
		}
		return nil, failed
	}
	timeout := c.AttemptTimeout
	if timeout == 0 {
		timeout = defaultAttemptTimeout
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	token, err := c.Token(limited)
	if err != nil {
		err = fmt.Errorf("access token: %w", err)
	} else {
		err = checkToken(token)
	}
	if err != nil {
		failed.final = true
		return fail(err)
	}
	if ctx.Err() != nil {
		return fail(nil)
	}
	// What was not written was not carried out. A RoundTripper that calls neither
	// function leaves it open.
	var connecting, wrote atomic.Bool
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GetConn:      func(string) { connecting.Store(true) },
		WroteHeaders: func() { wrote.Store(true) },
	})
	request, err := http.NewRequestWithContext(traced, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		failed.final = true
		return fail(errors.New("the request cannot be made"))
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if r.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http().Do(request)
	if err != nil {
		var wrapped *url.Error // has the URL, whose query may be Graph's secret
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		failed.Uncertain = r.method != http.MethodGet && (wrote.Load() || !connecting.Load())
		return fail(err)
	}
	defer response.Body.Close()
	failed.Status = response.StatusCode
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		failed.describe(response, body, token)
		failed.Uncertain = r.method != http.MethodGet && !failed.refused()
		return fail(nil)
	}
	a := &answer{status: response.StatusCode, body: body}
	a.date, _ = http.ParseTime(response.Header.Get("Date"))
	switch {
	case r.method != http.MethodGet:
		return a, nil // the status says it: it was done
	case err == nil && len(body) > maxAnswer:
		failed.final = true
		return fail(fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxAnswer))
	case err != nil:
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		failed.Status = 0 // that was not a whole answer
		return fail(err)
	}
	return a, nil
}

// checkToken refuses what is no access token (RFC 6750 §2.1), without telling
// what it is.
func checkToken(token string) error {
	const others = "-._~+/="
	for _, r := range token {
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(others, r):
		case unicode.IsSpace(r):
			return fmt.Errorf("%w: there is a space or a line break in it", ErrToken)
		case r == '{' || r == '"':
			return fmt.Errorf("%w: it looks like JSON", ErrToken)
		default:
			return fmt.Errorf("%w: there is a character in it that tokens do not have", ErrToken)
		}
	}
	if token == "" {
		return fmt.Errorf("%w: it is empty", ErrToken)
	}
	return nil
}

func (c *Client) http() *http.Client {
	var client http.Client
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// describe reads what a response says of a failure.
func (e *Error) describe(response *http.Response, body []byte, token string) {
	var graph struct {
		Error struct {
			Code       string
			Message    string
			InnerError struct {
				RequestID string `json:"request-id"`
			}
		}
	}
	if json.Unmarshal(body, &graph) == nil {
		g := &graph.Error
		e.Code = clean(strings.ReplaceAll(g.Code, token, "…"), 60)
		e.Message = clean(strings.ReplaceAll(g.Message, token, "…"), 300)
		e.RequestID = clean(g.InnerError.RequestID, 60)
	}
	if e.RequestID == "" {
		e.RequestID = clean(response.Header.Get("request-id"), 60)
	}
	e.RetryAfter = retryAfter(response.Header)
}

// retryAfter returns what the header of that name says, be it in seconds or a
// date, which is by the clock of the header Date.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(at.Sub(now), 0)
}
