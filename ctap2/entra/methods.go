package entra

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Method is a key that Entra knows of a user (fido2AuthenticationMethod).
type Method struct {
	// ID is Graph's. It is also a spelling of the credential ID, or used to be:
	// see CredentialIDs.
	ID              string
	DisplayName     string // the name that people gave it
	CreatedDateTime time.Time
	AAGUID          string
	Model           string // by the maker
	// AttestationCertificates are thumbprints.
	AttestationCertificates []string
	AttestationLevel        string // "attested" or "notAttested"
	PasskeyType             string // "deviceBound" or "synced"; empty in older answers
}

// challengeTimeouts are the bounds of Client.ChallengeTimeout.
const (
	leastChallengeTimeout = 5 * time.Minute
	mostChallengeTimeout  = 43200 * time.Minute
)

// CreationOptions asks for the options to register a key for a user with. The
// challenge is good for a single registration.
func (c *Client) CreationOptions(ctx context.Context, user string) (*Options, error) {
	return c.creationOptions(ctx, c.patience(), user)
}

func (c *Client) creationOptions(ctx context.Context, p *patience, user string) (*Options, error) {
	below := "/creationOptions"
	if d := c.ChallengeTimeout; d != 0 {
		if d < leastChallengeTimeout || d > mostChallengeTimeout {
			return nil, invalid("ChallengeTimeout of %v, not %v to %v", d, leastChallengeTimeout, mostChallengeTimeout)
		}
		below += "(challengeTimeoutInMinutes=" + strconv.FormatInt(int64(d/time.Minute), 10) + ")"
	}
	r, err := c.call("creationOptions", http.MethodGet, user, below)
	if err != nil {
		return nil, err
	}
	a, err := c.do(ctx, p, r)
	if err != nil {
		return nil, err
	}
	options, err := ParseOptions(a.body)
	if err != nil {
		return nil, &Error{Call: r.name, Status: a.status, err: err}
	}
	// The two clocks need not agree.
	if !options.Expires.IsZero() && !a.date.IsZero() {
		options.Expires = time.Now().Add(options.Expires.Sub(a.date))
	}
	return options, nil
}

// maxPages bounds how many pages a list may have: users have few keys.
const maxPages = 20

// Methods lists the keys that Entra knows of a user.
func (c *Client) Methods(ctx context.Context, user string) ([]Method, error) {
	return c.methods(ctx, c.patience(), user)
}

func (c *Client) methods(ctx context.Context, p *patience, user string) ([]Method, error) {
	r, err := c.call("list", http.MethodGet, user, "")
	if err != nil {
		return nil, err
	}
	var list []Method
	first := r.url
	for pages := 1; ; pages++ {
		a, err := c.do(ctx, p, r)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value []Method
			Next  string `json:"@odata.nextLink"`
		}
		if json.Unmarshal(a.body, &page) != nil || page.Value == nil {
			return nil, &Error{Call: r.name, Status: a.status, err: malformed("value")}
		}
		list = append(list, page.Value...)
		if page.Next == "" {
			return list, nil
		}
		if pages == maxPages || !sameHost(first, page.Next) {
			return nil, &Error{Call: r.name, Status: a.status, err: malformed("@odata.nextLink")}
		}
		r.url = page.Next
	}
}

// sameHost reports whether a token for one URL may be sent to another.
func sameHost(a, b string) bool {
	first, err := url.Parse(a)
	if err != nil {
		return false
	}
	second, err := url.Parse(b)
	return err == nil && first.Scheme == second.Scheme && strings.EqualFold(hostPort(first), hostPort(second)) && second.User == nil
}

func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"https": "443", "http": "80"}[u.Scheme]))
}

// Find returns the Method that a credential is, after asking Graph. If Entra
// does not know it, the error is ErrNotRegistered. Where only the creation
// options tell that Entra knows it, the ID of the Method is empty.
func (c *Client) Find(ctx context.Context, user string, credentialID []byte) (*Method, error) {
	return c.find(ctx, c.patience(), user, credentialID)
}

func (c *Client) find(ctx context.Context, p *patience, user string, credentialID []byte) (*Method, error) {
	list, err := c.methods(ctx, p, user)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if slices.ContainsFunc(CredentialIDs(m.ID), func(id []byte) bool { return slices.Equal(id, credentialID) }) {
			return &m, nil
		}
	}
	if len(list) > 0 { // whose IDs may be of another kind
		options, err := c.creationOptions(ctx, p, user)
		if err != nil {
			return nil, err
		}
		if options.excludes(credentialID) {
			return new(Method), nil
		}
	}
	return nil, ErrNotRegistered
}

// Register tells Entra of a credential that Options.Create has made. The Method
// that it returns has no ID if Graph did not get to say it.
//
// An attempt whose answer was lost is looked into, with Find, before there is
// another one. If it cannot be found out what became of it, the error wraps
// ErrUncertain; the credential must not be thrown away then.
func (c *Client) Register(ctx context.Context, user string, registration *Registration) (*Method, error) {
	if registration == nil || registration.Response == nil {
		return nil, invalid("no Registration, or one without Response")
	}
	if err := checkDisplayName(registration.DisplayName); err != nil {
		return nil, err
	}
	r, err := c.call("register", http.MethodPost, user, "")
	if err != nil {
		return nil, err
	}
	if r.body, err = json.Marshal(registration); err != nil {
		return nil, invalid("the registration is not JSON")
	}
	p, uncertain := c.patience(), false
	for {
		a, failed := c.attempt(ctx, r)
		if failed == nil {
			m := new(Method)
			if json.Unmarshal(a.body, m) == nil && m.ID != "" {
				return m, nil
			}
			if m, err := c.find(ctx, p, user, registration.Response.ID); err == nil {
				return m, nil
			}
			return &Method{DisplayName: registration.DisplayName}, nil
		}
		uncertain = uncertain || failed.Uncertain
		again := p.wait(ctx, failed)
		if uncertain {
			m, err := c.find(ctx, p, user, registration.Response.ID)
			switch {
			case err == nil:
				return m, nil
			case !errors.Is(err, ErrNotRegistered):
				again = false
			}
		}
		if !again {
			failed.Uncertain = uncertain
			return nil, failed
		}
	}
}

// Rename gives a key another name in the lists that Entra shows, of 1 to 30
// characters. Graph's SDKs have the call, its reference does not: be prepared for
// HTTP 405.
func (c *Client) Rename(ctx context.Context, user, methodID, displayName string) error {
	if displayName == "" {
		return invalid("no display name")
	}
	if err := checkDisplayName(displayName); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"displayName": displayName})
	if err != nil {
		return invalid("the display name is not JSON")
	}
	return c.change(ctx, c.patience(), "rename", http.MethodPatch, user, methodID, body)
}

// Delete makes Entra forget a key of a user. The key keeps the credential; see
// Deprovision. If the user has no such Method, the error wraps ErrNotRegistered.
func (c *Client) Delete(ctx context.Context, user, methodID string) error {
	p := c.patience()
	err := c.change(ctx, p, "delete", http.MethodDelete, user, methodID, nil)
	var failed *Error
	if !errors.As(err, &failed) || failed.Status != http.StatusNotFound {
		return err
	}
	// That is what a user who does not exist is answered with, too.
	list, listErr := c.methods(ctx, p, user)
	if listErr != nil || slices.ContainsFunc(list, func(m Method) bool { return m.ID == methodID }) {
		return err
	}
	if failed.Uncertain {
		return nil // an earlier attempt did it
	}
	failed.err = ErrNotRegistered
	return failed
}

func (c *Client) change(ctx context.Context, p *patience, name, method, user, methodID string, body []byte) error {
	segment, err := pathSegment("method", methodID)
	if err != nil {
		return err
	}
	r, err := c.call(name, method, user, "/"+segment)
	if err != nil {
		return err
	}
	r.body = body
	_, err = c.do(ctx, p, r)
	return err
}

// checkDisplayName refuses names that Entra does. No name is left to Graph.
func checkDisplayName(name string) error {
	const most = 30
	if n := utf8.RuneCountInString(name); n > most {
		return invalid("a display name of %d characters, not %d at most", n, most)
	}
	return nil
}
