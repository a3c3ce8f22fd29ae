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
	"github.com/tapstone/fido/pin"
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

// Of several keys, those that cannot verify their user now are out where that is
// required.
func TestSelectVerifying(t *testing.T) {
	d := sit(t, virtual.Config{}) // no PIN is set
	renew, _ := d.plugIn(virtual.Config{PIN: testPIN, ForcePINChange: true})
	only, _ := d.plugIn(virtual.Config{PIN: testPIN, BuiltInUV: virtual.UVConfigured, ForcePINChange: true})
	d.Authenticators = append(d.Authenticators, renew, only)
	required := `{"authenticatorSelection": {"userVerification": "required"}}`
	a := d.mustCreate(required)
	if signed, _ := d.mustGet(`{"userVerification": "required"}`, allow("allowCredentials", a.response.ID)); signed != a {
		t.Error("another key signed")
	}
	d.Authenticators = d.Authenticators[:2]
	_, err := d.create(required)
	refused(t, err, errNotAllowed, errConstraint, ctap2.ErrNotSetUp, ctap2.ErrPINChangeRequired)
	offered := 0
	d.Select = func(_ context.Context, keys []*ctap2.Authenticator) (int, error) {
		offered = len(keys)
		return 0, nil
	}
	d.mustCreate(`{"authenticatorSelection": {"userVerification": "preferred"}}`)
	if offered != 2 {
		t.Errorf("%d keys offered where verification is not required", offered)
	}
}

// Several keys that are silent hold nobody up, and each other neither.
func TestSelectSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{})
		busy, waiting := make(chan struct{}), make([]*ctap2.Authenticator, 3)
		for i := range waiting {
			soft, err := virtual.New(virtual.Config{Presence: virtual.Ignore, PresenceTimeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer soft.Close()
			if waiting[i], err = ctap2.Open(t.Context(), soft); err != nil {
				t.Fatal(err)
			}
			defer waiting[i].Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, key := range waiting {
			go func() {
				key.Selection(ctx)
				busy <- struct{}{}
			}()
		}
		synctest.Wait()
		d.Authenticators = append(waiting, d.key)
		since := time.Now()
		d.mustCreate()
		if took := time.Since(since).Truncate(time.Second); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		d.Authenticators = waiting
		_, err := d.create()
		refused(t, err, errNotAllowed, context.DeadlineExceeded)
		if !strings.Contains(err.Error(), "the key is silent") {
			t.Error(err)
		}
		// The end of the caller's context is the caller's.
		reason := errors.New("closed the window")
		aborted, abort := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { abort(reason) })
		options, err := webauthn.ParseCreationOptions(d.creation())
		if err != nil {
			t.Fatal(err)
		}
		gone := d.open(d.soft)
		gone.Close()
		d.Authenticators = append(d.Authenticators, gone) // for another reason
		_, err = d.Create(aborted, options)
		refused(t, err, errAbort, reason)
		cancel()
		for range waiting {
			<-busy
		}
	})
}

// A key that loses patience before the relying party is asked again; one that
// says so at once is not.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{})
		d.record().frank = true
		a := d.mustCreate()
		for name, ceremony := range map[string]func() error{
			"create": func() error { _, err := d.create(`{"timeout": 400000}`); return err },
			"get": func() error {
				_, err := d.get(`{"timeout": 400000}`, allow("allowCredentials", a.response.ID))
				return err
			},
			"none": func() error { _, err := d.get(`{"timeout": 400000}`, allow("allowCredentials", "AAAA")); return err },
		} {
			d.soft.SetPresence(virtual.Ignore)
			since := time.Now()
			refused(t, ceremony(), errNotAllowed, context.DeadlineExceeded)
			if took := time.Since(since).Truncate(time.Second); took != 400*time.Second {
				t.Errorf("%s: %v", name, took)
			}
			asked := 0
			d.soft.SetPresence(func(ctx context.Context, p virtual.Prompt) virtual.Answer {
				if asked++; asked == 3 {
					return virtual.Approve
				}
				return virtual.Ignore(ctx, p)
			})
			if err := ceremony(); (err != nil) != (name == "none") || asked != 3 {
				t.Errorf("%s: asked %d times: %v", name, asked, err)
			}
		}
	})
	d := sit(t, virtual.Config{})
	r := d.record()
	r.answer = func(message []byte) []byte {
		if message[0] == 0x01 {
			return []byte{byte(ctap2.ErrUserActionTimeout)}
		}
		return nil
	}
	_, err := d.create()
	refused(t, err, errNotAllowed, ctap2.ErrUserActionTimeout)
	if n := len(r.sent(t, 0x01)); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// Patience with a fingerprint: what was obtained before is good no longer.
func TestPatienceVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sit(t, virtual.Config{BuiltInUV: virtual.UVConfigured})
		a := d.mustCreate(`{"extensions": {"prf": {}, "credentialProtectionPolicy": "userVerificationRequired"}}`)
		asked := 0
		late := func(ctx context.Context, p virtual.Prompt) virtual.Answer {
			if asked++; asked == 2 {
				return virtual.Approve
			}
			return virtual.Ignore(ctx, p)
		}
		d.soft.SetVerification(late)
		in := fmt.Sprintf(`{"extensions": {"prf": {"evalByCredential": {%q: {"first": "AAAA"}}}}}`, a.response.ID)
		_, results := d.mustGet(in, allow("allowCredentials", "AAAA", a.response.ID))
		if secret(t, results, "first"); asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// The plan is made again with what the key says now: another program may have
// set a PIN.
func TestStaleInfo(t *testing.T) {
	d := sit(t, virtual.Config{})
	other := d.open(d.soft)
	required := `{"authenticatorSelection": {"userVerification": "required"}}`
	_, err := d.create(required)
	refused(t, err, errConstraint, ctap2.ErrNotSetUp)
	_, direct := other.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionMakeCredential, RPID: "example.com"})
	if want := "webauthn: ConstraintError: " + direct.Error(); err.Error() != want || !strings.HasSuffix(want, ": set a PIN first") {
		t.Errorf("%q, want %q", err, want)
	}
	if err := other.SetPIN(t.Context(), pin.FromString(testPIN)); err != nil {
		t.Fatal(err)
	}
	d.mustCreate(required)
}

// A key whose PIN is not for registrations and sign-ins does not verify.
func TestPINForManagement(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN, BuiltInUV: virtual.UVNotConfigured, NoMCGAPermissionsWithClientPIN: true})
	_, err := d.create(`{"authenticatorSelection": {"userVerification": "required"}}`)
	refused(t, err, errConstraint, ctap2.ErrNotSetUp)
	if strings.Contains(err.Error(), "PIN") {
		t.Errorf("a PIN is set, and would not do: %v", err)
	}
	a := d.mustCreate(`{"authenticatorSelection": {"residentKey": "discouraged"}, "extensions": {"prf": {"eval": {"first": "AAAA"}}}}`)
	if got := asJSON(t, a.results); got != `{"prf":{"enabled":true}}` {
		t.Error(got)
	}
	if _, results := d.mustGet(allow("allowCredentials", a.response.ID), `{"extensions": {"prf": {"eval": {"first": "AAAA"}}}}`); asJSON(t, results) != `{"prf":{}}` {
		t.Errorf("%v", results)
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

// It is one too where a function of the caller's says that the context has ended,
// and not why.
func TestAbortInPrompt(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	ctx, abort := context.WithCancelCause(t.Context())
	key, err := ctap2.Open(t.Context(), d.soft, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(ctx context.Context, _ ctap2.PINRequest) (pin.Secret, error) {
			abort(errors.New("closed the window"))
			return pin.Secret{}, ctx.Err()
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	d.Authenticators = []*ctap2.Authenticator{key}
	options, err := webauthn.ParseCreationOptions(d.creation())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Create(ctx, options)
	refused(t, err, errAbort, context.Canceled)
}

// What a site is told of the keys that are there is that they will not do.
func TestSiteName(t *testing.T) {
	name := func(err error) webauthn.ErrorName {
		t.Helper()
		var e *webauthn.Error
		if !errors.As(err, &e) {
			t.Fatalf("error %v", err)
		}
		return e.SiteName()
	}
	d := sit(t, virtual.Config{})
	a := d.mustCreate()
	poor := sit(t, virtual.Config{NoResidentKeys: true, Extensions: []string{}})
	two := sit(t, virtual.Config{NoResidentKeys: true, Extensions: []string{}})
	second, _ := two.plugIn(virtual.Config{Level: virtual.CTAP1})
	two.Authenticators = append(two.Authenticators, second)
	for _, tt := range []struct {
		*desk
		wish string
		own  webauthn.ErrorName
		site webauthn.ErrorName
	}{
		{d, `{"pubKeyCredParams": [{"type": "public-key", "alg": -257}]}`, errNotSupported, errNotAllowed},
		{d, `{"authenticatorSelection": {"userVerification": "required"}}`, errConstraint, errNotAllowed},
		{d, `{"extensions": {"largeBlob": {"support": "required"}}}`, errNotSupported, errNotAllowed},
		{poor, `{"authenticatorSelection": {"residentKey": "required"}}`, errConstraint, errNotAllowed},
		{two, `{"authenticatorSelection": {"residentKey": "required"}}`, errConstraint, errNotAllowed},
		{poor, `{"extensions": {"credentialProtectionPolicy": "userVerificationRequired", "enforceCredentialProtectionPolicy": true}}`, errConstraint, errNotAllowed},
		{d, allow("excludeCredentials", a.response.ID), errInvalidState, errInvalidState},
		// What is wrong with the request is the same with each key, and with none.
		{d, `{"rp": {"id": "example.org"}}`, errSecurity, errSecurity},
		{d, `{"pubKeyCredParams": [{"type": "other", "alg": -7}]}`, errNotSupported, errNotSupported},
		{d, `{"user": {"id": ""}}`, errType, errType},
	} {
		_, err := tt.create(tt.wish)
		refused(t, err, tt.own)
		if got := name(err); got != tt.site {
			t.Errorf("%s: %s", tt.wish, got)
		}
	}
	_, err := poor.get()
	refused(t, err, errNotAllowed, ctap2.ErrNoCredentials)
	ctx, cancel := context.WithCancel(t.Context())
	d.soft.SetPresence(func(ctx context.Context, p virtual.Prompt) virtual.Answer {
		cancel()
		return virtual.Ignore(ctx, p)
	})
	options, err := webauthn.ParseCreationOptions(d.creation())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Create(ctx, options)
	refused(t, err, errAbort)
	if got := name(err); got != errAbort {
		t.Error(got)
	}
}

// What is wrong with a request does not depend on the keys, nor is one asked.
func TestRequestErrors(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	gone, _ := d.plugIn(virtual.Config{})
	gone.Close()
	r := d.record()
	for _, keys := range [][]*ctap2.Authenticator{nil, {d.key}, {d.key, gone}, {gone}} {
		d.Authenticators = keys
		for wish, want := range map[string]webauthn.ErrorName{
			`{"extensions": {"appidExclude": "https://evil.example"}}`:                                                errSecurity,
			`{"extensions": {"prf": {"evalByCredential": {}}}}`:                                                       errNotSupported,
			`{"extensions": {"credentialProtectionPolicy": "unheard-of", "enforceCredentialProtectionPolicy": true}}`: errNotSupported,
			`{"extensions": {"largeBlob": {"read": true}}}`:                                                           errNotSupported,
			`{"authenticatorSelection": {"authenticatorAttachment": "platform"}}`:                                     errNotAllowed,
		} {
			_, err := d.create(wish)
			refused(t, err, want)
		}
		for wish, want := range map[string]webauthn.ErrorName{
			`{"extensions": {"appid": "https://evil.example"}}`:                                                                  errSecurity,
			`{"extensions": {"prf": {"evalByCredential": {"AAAA": {"first": "AAAA"}}}}}`:                                         errNotSupported,
			`{"extensions": {"largeBlob": {"support": "required"}}}`:                                                             errNotSupported,
			`{"allowCredentials": [{"type": "private-key", "id": "AAAA"}]}`:                                                      errNotAllowed,
			`{"extensions": {"prf": {"evalByCredential": {"AAA=": {"first": "AAAA"}}}},` + allow("allowCredentials", "AAAA")[1:]: errSyntax,
		} {
			_, err := d.get(wish)
			refused(t, err, want)
		}
		d.EnterpriseAttestation = 3
		_, err := d.create()
		refused(t, err, errType)
		d.EnterpriseAttestation = 0
	}
	if len(r.messages) != 0 {
		t.Errorf("the key was asked: %x", r.messages)
	}
}

// The names of what goes wrong with a PIN, and with what a key lacks.
func TestErrorNames(t *testing.T) {
	d := sit(t, virtual.Config{})
	for status, want := range map[ctap2.Status]webauthn.ErrorName{
		ctap2.ErrPINNotSet: errConstraint, ctap2.ErrUnsupportedOption: errConstraint, ctap2.ErrKeyStoreFull: errConstraint,
		ctap2.ErrUnsupportedAlgorithm: errNotSupported, ctap2.ErrCredentialExcluded: errInvalidState, ctap2.ErrOperationDenied: errNotAllowed,
	} {
		r := d.record()
		r.answer = func(message []byte) []byte {
			if message[0] == 0x01 {
				return []byte{byte(status)}
			}
			return nil
		}
		_, err := d.create()
		refused(t, err, want, status)
	}
	d.record()
	for _, unable := range []error{ctap2.ErrNoPIN, ctap2.ErrPINNotSet, ctap2.ErrPINChangeRequired, ctap2.ErrNotSetUp, ctap2.ErrUnsupported} {
		options, err := webauthn.ParseCreationOptions(d.creation())
		if err != nil {
			t.Fatal(err)
		}
		options.Extensions.Others = []ctap2.Extension{failing{unable}}
		want := errConstraint
		if errors.Is(unable, ctap2.ErrUnsupported) {
			want = errNotSupported
		}
		_, err = d.Create(t.Context(), options)
		refused(t, err, want, unable)
	}
}

// A failing extension cannot be sent.
type failing struct{ err error }

func (failing) Identifier() string                                  { return "failing" }
func (f failing) Input(*ctap2.ExtensionContext) (any, error)        { return nil, f.err }
func (failing) Output(*ctap2.ExtensionContext, []byte) (any, error) { return nil, nil }

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
