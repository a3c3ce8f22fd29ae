package webauthn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// Several keys: those that will not do are left out, and the caller selects one
// of the others.
func TestSelect(t *testing.T) {
	d := sit(t, virtual.Config{NoResidentKeys: true})
	second, _ := d.plugIn(virtual.Config{})
	third, _ := d.plugIn(virtual.Config{PIN: testPIN})
	d.Authenticators = append(d.Authenticators, second, third)
	var offered []*ctap2.Authenticator
	answer, failed := 1, error(nil)
	d.Select = func(_ context.Context, keys []*ctap2.Authenticator) (int, error) {
		offered = keys
		return answer, failed
	}
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)
	if len(offered) != 2 || offered[0] != second || offered[1] != third || d.asked != 1 {
		t.Errorf("%d keys offered, PIN asked for %d times", len(offered), d.asked)
	}
	if signed, _ := d.mustGet(); signed != a {
		t.Error("another key signed")
	}
	answer = 0
	_, err := d.get()
	refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
	for _, answer = range []int{-1, 2} {
		_, err = d.get()
		refused(t, err, errNotAllowed)
	}
	failed = errors.New("nobody came")
	_, err = d.get()
	refused(t, err, errNotAllowed, failed)
	d.Select = nil
	_, err = d.get()
	refused(t, err, errNotAllowed)

	// One that will do is not selected, one that is gone will not do.
	third.Close()
	d.Authenticators = append(d.Authenticators[:1], third, second)
	d.mustCreate(`{"authenticatorSelection": {"residentKey": "required"}}`)

	// If none will do, all reasons are told, each once.
	first := d.Authenticators[0]
	d.Authenticators = []*ctap2.Authenticator{first, first, third}
	_, err = d.create(`{"authenticatorSelection": {"residentKey": "required"}}`)
	refused(t, err, errNotAllowed, errConstraint, ctap2.ErrClosed)
	if n := strings.Count(err.Error(), "discoverable"); n != 1 {
		t.Errorf("%d times: %v", n, err)
	}
}

// The time that a ceremony may take.
func TestTimeout(t *testing.T) {
	for _, tt := range []struct {
		wish string
		want time.Duration
	}{
		{`{}`, 5 * time.Minute},
		{`{"timeout": 60000}`, 5 * time.Minute},
		{`{"timeout": 400000}`, 400 * time.Second},
		{`{"timeout": 4294967295}`, 10 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := sit(t, virtual.Config{Presence: virtual.Ignore, PresenceTimeout: time.Hour})
			since := time.Now()
			_, err := d.create(tt.wish)
			refused(t, err, errNotAllowed, context.DeadlineExceeded)
			if !strings.Contains(err.Error(), "nothing happened for "+tt.want.String()) {
				t.Error(err)
			}
			if took := time.Since(since).Truncate(time.Second); took != tt.want {
				t.Errorf("%s: %v", tt.wish, took)
			}
		})
	}
}

// The end of the caller's context is an abortion, whenever it comes.
func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{Presence: virtual.Ignore})
		options, err := webauthn.ParseCreationOptions(d.creation())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = d.Create(ctx, options)
		refused(t, err, errAbort, context.DeadlineExceeded)

		reason := errors.New("closed the window")
		aborted, abort := context.WithCancelCause(t.Context())
		d.RelatedOrigins = func(ctx context.Context, _ string) ([]byte, error) {
			abort(reason)
			return nil, context.Cause(ctx)
		}
		options.RP.ID = "example.org"
		_, err = d.Create(aborted, options)
		refused(t, err, errAbort, reason)

		options.RP.ID = ""
		aborted, abort = context.WithCancelCause(t.Context())
		other, _ := d.plugIn(virtual.Config{})
		d.Authenticators = append(d.Authenticators, other)
		d.Select = func(context.Context, []*ctap2.Authenticator) (int, error) {
			abort(reason)
			return 0, nil
		}
		_, err = d.Create(aborted, options)
		refused(t, err, errAbort, reason)
		_, err = d.Create(aborted, options)
		refused(t, err, errAbort, reason)
	})
}

// Errors hold no secret, and say what to do.
func TestErrorText(t *testing.T) {
	_, err := webauthn.ParseRequestOptions([]byte(`{}`))
	if got := fmt.Sprint(err); got != "webauthn: EncodingError: challenge: missing" {
		t.Error(got)
	}
	if got := fmt.Sprint(webauthn.ErrNotAllowed); got != "NotAllowedError" {
		t.Error(got)
	}
}
