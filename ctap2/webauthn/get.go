package webauthn

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/tapstone/fido/ctap2"
)

// An authentication is what Get wants of one key.
type authentication struct {
	*ceremony
	key     *ctap2.Authenticator
	info    *ctap2.Info
	options *RequestOptions
	request ctap2.GetAssertionRequest
	outputs ExtensionOutputs
	before  []func() error             // before the request
	after   []func(a *ctap2.Assertion) // with what came of it
	// tooLarge takes out of the request what it can do without, for a key that
	// the request is too large for; nil if there is no such thing.
	tooLarge func()
}

// authenticationExtensions are the client's parts of extensions in a sign-in:
// each adds to the request for one key, or says why that key will not do.
var authenticationExtensions = []func(*authentication) error{
	(*authentication).appID, // first: it may change the RP ID
	(*authentication).prf,
	(*authentication).hmacGetSecret,
	(*authentication).largeBlob,
	(*authentication).getCredBlob,
	(*authentication).payment,
}

// Get signs in (WebAuthn §5.1.4). It asks the key that will do, or the one of
// several that Select chooses, has ChooseAccount choose if the key knows several
// accounts, and returns as Create does. If the key knows none the error is
// ErrNotAllowed and wraps ctap2.ErrNoCredentials, after a touch.
func (c *Client) Get(ctx context.Context, options *RequestOptions) (*AuthenticationResponse, error) {
	ongoing, err := c.begin(ctx, TypeGet, options.RPID, options.Challenge, options.Timeout)
	if err != nil {
		return nil, err
	}
	defer ongoing.end()
	a, err := pick(ongoing, func(key *ctap2.Authenticator, info *ctap2.Info) (*authentication, error) {
		return ongoing.planAuthentication(key, info, options)
	})
	if err != nil {
		return nil, err
	}
	for _, do := range a.before {
		if err := do(); err != nil {
			return nil, err
		}
	}
	assertions, err := a.key.GetAssertion(ongoing.ctx, &a.request)
	if errors.Is(err, ctap2.ErrMessageTooLarge) && a.tooLarge != nil {
		a.tooLarge()
		assertions, err = a.key.GetAssertion(ongoing.ctx, &a.request)
	}
	if err != nil {
		return nil, ongoing.failure(err)
	}
	defer func() {
		for _, assertion := range assertions {
			assertion.LargeBlobKey.Wipe()
		}
	}()
	i, err := ongoing.choose(assertions)
	for j, assertion := range assertions {
		if err != nil || i != j {
			wipeSecrets(assertion)
		}
	}
	if err != nil {
		return nil, err
	}
	for _, do := range a.after {
		do(assertions[i])
	}
	return a.response(assertions[i]), nil
}

// planAuthentication returns what to ask of a key, or why it will not do.
func (c *ceremony) planAuthentication(key *ctap2.Authenticator, info *ctap2.Info, options *RequestOptions) (*authentication, error) {
	a := &authentication{ceremony: c, key: key, info: info, options: options}
	a.request = ctap2.GetAssertionRequest{
		RPID:             c.rpID,
		ClientDataHash:   c.clientDataHash(),
		AllowList:        descriptors(options.AllowCredentials),
		UserVerification: userVerification(options.UserVerification),
	}
	switch {
	case len(options.AllowCredentials) > 0 && len(a.request.AllowList) == 0:
		return nil, refuse(ErrNotAllowed, "allowCredentials has no entry of type %q", publicKeyType)
	case len(options.AllowCredentials) == 0 && !info.Options[ctap2.OptionResidentKey]:
		return nil, refuse(ErrNotAllowed, "no allowCredentials, and the key has no discoverable credentials")
	case a.request.UserVerification == ctap2.Required && !canVerify(info):
		return nil, refuse(ErrConstraint, "user verification is required, and the key has no means of it")
	}
	for _, extend := range authenticationExtensions {
		if err := extend(a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// choose returns the index of the account to sign in with.
func (c *ceremony) choose(assertions []*ctap2.Assertion) (int, error) {
	if len(assertions) == 1 {
		return 0, nil
	}
	if c.client.ChooseAccount == nil {
		return 0, refuse(ErrNotAllowed, "the key knows %d accounts, and the Client has no ChooseAccount", len(assertions))
	}
	accounts := make([]ctap2.User, len(assertions))
	for i, a := range assertions {
		accounts[i] = a.User
	}
	i, err := c.client.ChooseAccount(c.ctx, accounts)
	if err != nil {
		return 0, c.failure(err)
	}
	if i < 0 || i >= len(accounts) {
		return 0, refuse(ErrNotAllowed, "ChooseAccount returned %d, of %d accounts", i, len(accounts))
	}
	return i, nil
}

// find returns the credential of a list that the key holds for rpID, without a
// touch; ok is false if there is none. What is signed is the hash of nothing,
// good for no relying party. A credential that the key does not admit to
// without user verification is found only with it.
func (c *ceremony) find(key *ctap2.Authenticator, rpID string, list []ctap2.CredentialDescriptor, uv ctap2.UserVerification) (found ctap2.CredentialDescriptor, ok bool, err error) {
	hash := sha256.Sum256(nil)
	if u2fOnly(key.Info()) {
		for _, d := range list {
			known, err := key.U2FCheck(c.ctx, sha256.Sum256([]byte(rpID)), d.ID)
			if err != nil || known {
				return d, known, err
			}
		}
		return found, false, nil
	}
	assertions, err := key.GetAssertion(c.ctx, &ctap2.GetAssertionRequest{
		RPID:             rpID,
		ClientDataHash:   hash[:],
		AllowList:        list,
		UserVerification: uv,
		Silent:           true,
	})
	if errors.Is(err, ctap2.ErrNoCredentials) {
		return found, false, nil
	}
	if err != nil {
		return found, false, err
	}
	return assertions[0].Credential, true, nil
}
