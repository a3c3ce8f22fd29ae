package entra

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Errors of this package.
var (
	// ErrInvalidRequest: the caller's request cannot be sent as it is; the text
	// says why. Nothing was sent.
	ErrInvalidRequest = errors.New("entra: invalid request")
	// ErrToken: what Token returned is no access token: it is empty, or holds
	// what no token does, as the JSON around one does. Nothing was sent.
	ErrToken = errors.New("entra: not an access token")
	// ErrMalformed: an answer of Graph is not what it ought to be; the text says
	// where.
	ErrMalformed = errors.New("entra: malformed answer")
	// ErrUncertain: a request that changes something was sent, and what became
	// of it is not known: it may have been carried out.
	ErrUncertain = errors.New("entra: the request may have been carried out")
	// ErrExpired: the challenge is too old for Entra.
	ErrExpired = errors.New("entra: the challenge has expired")
	// ErrIncompatible: the key lacks what Entra or Windows demands of keys.
	ErrIncompatible = errors.New("entra: the key is not compatible with Entra ID")
	// ErrNotRegistered: Entra does not know the credential.
	ErrNotRegistered = errors.New("entra: the credential is not registered")
	// ErrNotOnKey: the key does not hold the credential.
	ErrNotOnKey = errors.New("entra: the key does not hold the credential")
)

// An Error is a call of Graph that failed. Nothing of the request is in it: no
// access token, no challenge, no credential.
type Error struct {
	// Call is what was called, such as "creationOptions".
	Call string
	// Status is the status of the HTTP response, 0 if there was none.
	Status int
	// Code and Message are Graph's, empty if it gave none. Long runs of letters
	// are cut out of the message, as they may be tokens.
	Code    string
	Message string
	// RequestID is what Microsoft's support asks for.
	RequestID string
	// RetryAfter is how long Graph wants to be left alone; 0 if it does not say.
	RetryAfter time.Duration
	// Uncertain: the call may have been carried out all the same. The Error is
	// an ErrUncertain then.
	Uncertain bool

	err   error
	final bool // another attempt would end likewise
}

// Error says what was called and what came of it.
func (e *Error) Error() string {
	text := "entra: " + e.Call
	if e.Status != 0 {
		text += fmt.Sprintf(": HTTP %d", e.Status)
		if e.Code == "" {
			text = strings.TrimSpace(text + " " + http.StatusText(e.Status))
		}
	}
	for _, part := range []string{e.Code, e.Message} {
		if part != "" {
			text += ": " + part
		}
	}
	if e.err != nil {
		text += ": " + strings.TrimPrefix(e.err.Error(), "entra: ")
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	if e.Uncertain {
		text += "; it may have been carried out"
	}
	return text
}

// Unwrap returns the cause, which is a context's, the connection's or an error
// of this package, and ErrUncertain.
func (e *Error) Unwrap() []error {
	var list []error
	if e.err != nil {
		list = append(list, e.err)
	}
	if e.Uncertain {
		list = append(list, ErrUncertain)
	}
	return list
}

// temporary reports whether another attempt may end differently.
func (e *Error) temporary() bool {
	return !e.final && (e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500)
}

// refused reports whether the status says that nothing was done.
func (e *Error) refused() bool {
	return e.Status >= 300 && e.Status < 500 || e.Status == http.StatusServiceUnavailable
}

// malformed is the error for an answer; name is that of a member.
func malformed(name string) error {
	if name == "" {
		return ErrMalformed
	}
	return fmt.Errorf("%w: %s", ErrMalformed, name)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidRequest, fmt.Sprintf(format, args...))
}

// secretive is what may be a token, a challenge or a credential: it is longer
// than the UUIDs that people want to see.
var secretive = regexp.MustCompile(`[0-9A-Za-z+/=_-]{37,}`)

// clean returns a text of somebody else's in a form fit for an error, on one
// line and of no more than n characters.
func clean(text string, n int) string {
	text = secretive.ReplaceAllString(text, "…")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	runes := []rune(strings.TrimSpace(text))
	if len(runes) > n {
		runes = append(runes[:n], '…')
	}
	return string(runes)
}
