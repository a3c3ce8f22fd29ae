package entra

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// A State is how far the registration of a key got, or what is left of it. It
// says what is the case, not what went wrong.
type State uint8

// States.
const (
	// NotStarted: neither Entra nor the key has been asked for anything, or the
	// answer was no.
	NotStarted State = iota
	// OptionsFetched: Entra gave creation options. No credential was made.
	OptionsFetched
	// CredentialMade: the key holds a credential that Entra does not know.
	CredentialMade
	// Registered: the key holds a credential, and Entra knows it.
	Registered
	// RegistrationUnknown: the key holds a credential, and whether Entra knows it
	// could not be found out: Client.Find tells, once it gets through.
	RegistrationUnknown
	// CredentialUnknown: the key fell silent, and whether it holds a credential
	// is not known. Entra does not know one.
	CredentialUnknown
	// Removed: there was a credential, and neither the key nor Entra has it now.
	Removed
)

// String says it in words.
func (s State) String() string {
	return [...]string{
		"not started",
		"options fetched, no credential made",
		"credential on the key, not registered",
		"registered",
		"credential on the key, unknown whether it is registered",
		"not registered, unknown whether the key holds a credential",
		"removed",
		"unknown state",
	}[min(s, Removed+1)]
}

// An Assignment says whose a key shall be.
type Assignment struct {
	User        string // object ID, or user principal name
	DisplayName string // what Entra's lists shall call the key, in up to 30 characters; empty: Graph's choice
}

// A Result is what became of one Assignment.
type Result struct {
	Assignment
	State State
	// Err is why it did not go further; nil for a user that is Registered.
	Err error

	AAGUID       ctap2.AAGUID
	CredentialID []byte  // from CredentialMade on
	Method       *Method // from Registered on; without ID if Graph did not get to say it
	// Compatibility is what the key said of itself; nil if it got no turn.
	Compatibility *Compatibility
	// Warnings is what went well and may still make trouble.
	Warnings []string
}

// String returns one line.
func (r Result) String() string {
	text := r.User + ": " + r.State.String()
	for _, w := range r.Warnings {
		text += "; " + w
	}
	if r.Err != nil {
		text += ": " + r.Err.Error()
	}
	return text
}

// A Provisioning gives keys to users.
type Provisioning struct {
	Assignments []Assignment
	// Key opens the key for a user, after asking for it to be plugged in. It can
	// prepare it too: set a PIN, say. It must not be nil, and not return nil
	// without an error.
	Key func(ctx context.Context, a Assignment) (*ctap2.Authenticator, error)
	// Done is called with each key that Key returned and what became of it. It
	// can do what comes last, such as demand that the PIN be changed. Then it
	// closes the key. Nil: the key is closed.
	Done func(ctx context.Context, key *ctap2.Authenticator, r *Result)

	// Accept decides whether a key may be used. Nil: if Compatibility.Err is nil.
	Accept func(*Compatibility) error
	// Policy refuses keys that Entra would, or that one does not want, before
	// Entra is told of them. The rules of Entra with attestation enforced are
	// Required, Metadata of the FIDO Alliance, and a MinimumLevel of
	// attestation.Certified. Nil: left to Entra.
	Policy *attestation.Policy
	// Discard is asked whether a credential that was not registered shall be
	// deleted from the key, which takes credential management. It is not asked as
	// long as Entra may know the credential. Nil: it shall.
	Discard func(ctx context.Context, r Result) bool
	// Progress hears of each change of a State, and of the last Err.
	Progress func(Result)
}

// margin is how long a challenge has to be good for when a person is asked to
// touch a key: as long as keys wait, and time to tell Entra.
const margin = time.Minute

// Provision gives keys to users, and returns what became of each, in the order
// of the Assignments; a user that something went wrong for does not keep the
// others from theirs. When ctx ends it returns what is known by then.
//
// First it fetches the options for all, so that a wrong name is found before
// somebody goes to look for a key. Then it is key by key: Key, Accept, a touch,
// the Policy, Register, Done. Options that are too old by then are fetched anew,
// once.
//
// Without a Key, all fail with ErrInvalidRequest, and nobody is asked for
// anything. A nil Provisioning has no Assignments.
func (c *Client) Provision(ctx context.Context, p *Provisioning) []Result {
	if p == nil {
		return nil
	}
	rounds := make([]*round, len(p.Assignments))
	for i, a := range p.Assignments {
		r := &round{client: c, p: p, result: Result{Assignment: a}}
		rounds[i] = r
		if p.Key == nil {
			r.fail(invalid("Provisioning without Key"))
			continue
		}
		if err := checkDisplayName(a.DisplayName); err != nil {
			r.fail(err)
			continue
		}
		if err := r.fetch(ctx); err != nil {
			r.fail(err)
		}
	}
	results := make([]Result, len(rounds))
	for i, r := range rounds {
		if r.result.Err == nil {
			r.run(ctx)
		}
		results[i] = r.result
	}
	return results
}

// A round is one Assignment's.
type round struct {
	client  *Client
	p       *Provisioning
	options *Options
	result  Result
}

// is notes a state.
func (r *round) is(s State) {
	if r.result.State == s {
		return
	}
	r.result.State = s
	r.report()
}

func (r *round) report() {
	if r.p.Progress != nil {
		r.p.Progress(r.result)
	}
}

// fail notes why it goes no further.
func (r *round) fail(err error) {
	r.result.Err = err
	r.report()
}

func (r *round) fetch(ctx context.Context) error {
	options, err := r.client.CreationOptions(ctx, r.result.User)
	if err != nil {
		return err
	}
	r.options = options
	r.is(OptionsFetched)
	return nil
}

// run does what needs the key.
func (r *round) run(ctx context.Context) {
	if ctx.Err() != nil {
		r.fail(fmt.Errorf("entra: %w", context.Cause(ctx)))
		return
	}
	key, err := r.p.Key(ctx, r.result.Assignment)
	if err == nil && key == nil {
		err = invalid("Provisioning.Key returned neither a key nor an error")
	}
	if err != nil {
		r.fail(err)
		return
	}
	if err := r.use(ctx, key); err != nil {
		r.fail(err)
	}
	if r.p.Done == nil {
		key.Close()
		return
	}
	r.p.Done(ctx, key, &r.result)
}

func (r *round) use(ctx context.Context, key *ctap2.Authenticator) error {
	if err := r.accept(key); err != nil {
		return err
	}
	if r.options.old() {
		if err := r.fetch(ctx); err != nil {
			return err
		}
	}
	registration, err := r.create(ctx, key)
	if err != nil {
		return err
	}
	if err := r.judge(registration); err != nil {
		return r.discard(ctx, key, err)
	}
	method, err := r.client.Register(ctx, r.result.User, registration)
	switch {
	case err == nil:
		r.result.Method = method
		r.is(Registered)
		return nil
	case errors.Is(err, ErrUncertain):
		r.is(RegistrationUnknown)
		return err
	}
	return r.discard(ctx, key, err)
}

// old reports whether the challenge may not outlast a touch.
func (o *Options) old() bool { return !o.Expires.IsZero() && time.Until(o.Expires) < margin }

// accept looks at what is known of the key before it is touched.
func (r *round) accept(key *ctap2.Authenticator) error {
	r.result.Compatibility = Compatible(key.Info())
	r.result.AAGUID = r.result.Compatibility.AAGUID
	accept := r.p.Accept
	if accept == nil {
		accept = (*Compatibility).Err
	}
	if err := accept(r.result.Compatibility); err != nil {
		return err
	}
	if r.p.Policy == nil {
		return nil
	}
	lists := attestation.Policy{Allow: r.p.Policy.Allow, Block: r.p.Policy.Block}
	return lists.Check(&attestation.Statement{AAGUID: r.result.AAGUID})
}

// create makes the credential.
func (r *round) create(ctx context.Context, key *ctap2.Authenticator) (*Registration, error) {
	before := key.Info().RemainingDiscoverableCredentials
	registration, err := r.options.Create(ctx, key)
	if err != nil {
		if !madeNothing(ctx, key, before, err) {
			r.is(CredentialUnknown)
		}
		return nil, err
	}
	registration.DisplayName = r.result.DisplayName
	r.result.CredentialID = registration.Response.ID
	r.is(CredentialMade)
	return registration, nil
}

// madeNothing reports whether it is certain that a key which failed to make a
// credential holds none. before is how many more it had room for.
func madeNothing(ctx context.Context, key *ctap2.Authenticator, before *int, err error) bool {
	var asked *webauthn.Error
	var status *ctap2.Error
	var pin *ctap2.PINError
	if !errors.As(err, &asked) || errors.As(err, &status) || errors.As(err, &pin) {
		return true // it was not asked, or refused
	}
	for _, unsent := range []error{
		webauthn.ErrConstraint, webauthn.ErrNotSupported, webauthn.ErrSecurity, webauthn.ErrType,
		ctap2.ErrInvalidRequest, ctap2.ErrMessageTooLarge,
	} {
		if errors.Is(err, unsent) {
			return true
		}
	}
	if before == nil {
		return false
	}
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	info, err := key.GetInfo(ask)
	return err == nil && info.RemainingDiscoverableCredentials != nil && *info.RemainingDiscoverableCredentials == *before
}

// judge looks at what the key made before Entra is told of it.
func (r *round) judge(registration *Registration) error {
	credential, err := attestation.ParseObject(registration.Response.AttestationObject)
	if err != nil {
		return fmt.Errorf("entra: %w", err)
	}
	// A single byte of CBOR is a small number.
	if level := credential.AuthData.Extensions["credProtect"]; len(level) == 1 && ctap2.CredProtectPolicy(level[0]) > ctap2.UVOptional {
		r.result.Warnings = append(r.result.Warnings, fmt.Sprintf(
			"the key protects the credential by %v, with which it may not do for the Windows lock screen", ctap2.CredProtectPolicy(level[0])))
	}
	if r.p.Policy == nil {
		return nil
	}
	hash := sha256.Sum256(registration.Response.ClientDataJSON)
	statement, err := attestation.Verify(credential, hash[:])
	if err != nil {
		return fmt.Errorf("entra: %w", err)
	}
	return r.p.Policy.Check(statement)
}

// discard takes back what is on the key, if that is wanted, and returns why.
func (r *round) discard(ctx context.Context, key *ctap2.Authenticator, why error) error {
	r.result.Err = why
	if r.p.Discard != nil && !r.p.Discard(ctx, r.result) {
		return why
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := key.DeleteCredential(cleanup, &ctap2.DeleteCredentialRequest{
		Credential: ctap2.CredentialDescriptor{ID: r.result.CredentialID},
	})
	if err != nil {
		return fmt.Errorf("%w; and the credential could not be deleted from the key: %w", why, err)
	}
	r.is(Removed)
	return why
}
