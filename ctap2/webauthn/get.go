package webauthn

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"

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
	// permissions are what all of the sign-in takes, for one token.
	permissions ctap2.Permission
}

// authenticationExtensions are the client's parts of extensions in a sign-in:
// each adds to the request for one key, or says why that key is not suitable.
var authenticationExtensions = []func(*authentication) error{
	(*authentication).appID, // first: it may change the RP ID
	(*authentication).prf,
	(*authentication).hmacGetSecret,
	(*authentication).largeBlob,
	(*authentication).getCredBlob,
	(*authentication).payment,
	(*authentication).others,
}

// Get signs in (WebAuthn §5.1.4). It asks the key that is suitable, or the one of
// several that Select chooses, has ChooseAccount choose if the key knows several
// accounts, and returns as Create does, also where nobody touches the key. Nil
// options, an empty challenge, and a value that an option cannot have, are an
// ErrType. If the key knows no account the error
// is ErrNotAllowed and wraps ctap2.ErrNoCredentials: after a touch, or at once
// from a key that can know none, having no discoverable credentials.
func (c *Client) Get(ctx context.Context, options *RequestOptions) (*AuthenticationResponse, error) {
	if options == nil {
		return nil, refuse(ErrType, "the options are nil")
	}
	ongoing, err := c.begin(ctx, TypeGet, options.RPID, options.Challenge, options.Timeout)
	if err != nil {
		return nil, err
	}
	defer ongoing.end()
	in := &options.Extensions
	err = cmp.Or(
		options.check(),
		ongoing.origin.checkAppID(in.AppID),
		in.PRF.checkAuthentication(options.AllowCredentials),
		in.HMACGetSecret.check(in.PRF),
		in.LargeBlob.checkAuthentication(options.AllowCredentials),
	)
	if err != nil {
		return nil, err
	}
	response, err := ongoing.authenticate(options)
	if err != nil {
		return nil, ofKey(err)
	}
	return response, nil
}

// authenticate is Get once the request is known to be in order.
func (c *ceremony) authenticate(options *RequestOptions) (*AuthenticationResponse, error) {
	a, err := pick(c, func(key *ctap2.Authenticator, info *ctap2.Info) (*authentication, error) {
		return c.planAuthentication(key, info, options)
	})
	if err != nil {
		return nil, err
	}
	defer a.dropToken()
	for _, do := range a.before {
		if err := do(); err != nil {
			return nil, err
		}
	}
	assertions, err := a.getAssertion()
	if err != nil {
		return nil, c.failure(err)
	}
	defer func() {
		for _, assertion := range assertions {
			assertion.LargeBlobKey.Wipe()
		}
	}()
	i, err := c.choose(assertions)
	for j, assertion := range assertions {
		if err != nil || i != j {
			wipeSecrets(assertion.Extensions)
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

// getAssertion sends the request, and again without what the key has no use for.
func (a *authentication) getAssertion() (assertions []*ctap2.Assertion, err error) {
	for {
		held := a.request.Token != nil
		err = a.patiently(func() error {
			assertions, err = a.key.GetAssertion(a.ctx, &a.request)
			return err
		})
		switch {
		case errors.Is(err, ctap2.ErrMessageTooLarge) && a.tooLarge != nil:
			a.tooLarge()
			a.tooLarge = nil
		case errors.Is(err, ctap2.ErrPINAuthInvalid) && held: // it has ended, or another program has obtained one
			a.dropToken()
		default:
			return assertions, err
		}
	}
}

// authorize obtains one token for a sign-in that takes several commands, so that
// the user is verified once. Where that is not to happen, or not with a token,
// there is none, and each command does what it takes.
func (a *authentication) authorize() error {
	on := a.info.Options
	switch {
	case a.request.Token != nil, !verifies(a.info):
		return nil
	case on[ctap2.OptionUserVerification] && !on[ctap2.OptionPINUVAuthToken]:
		return nil
	case a.request.UserVerification == ctap2.Discouraged && !on[ctap2.OptionAlwaysUV]:
		return nil
	}
	err := a.patiently(func() error {
		token, err := a.key.Token(a.ctx, &ctap2.TokenRequest{Permissions: a.permissions, RPID: a.request.RPID})
		a.request.Token = token
		return err
	})
	if err != nil {
		for _, target := range []error{ctap2.ErrNotSetUp, ctap2.ErrPINNotSet, ctap2.ErrPINChangeRequired, ctap2.ErrNoPIN} {
			if errors.Is(err, target) {
				return nil // the assertion may do without
			}
		}
		return a.failure(err)
	}
	return nil
}

func (a *authentication) dropToken() {
	if a.request.Token != nil {
		a.request.Token.Wipe()
		a.request.Token = nil
	}
}

// planAuthentication returns what to ask of a key, or why it is not suitable.
func (c *ceremony) planAuthentication(key *ctap2.Authenticator, info *ctap2.Info, options *RequestOptions) (*authentication, error) {
	a := &authentication{ceremony: c, key: key, info: info, options: options, permissions: ctap2.PermissionGetAssertion}
	a.request = ctap2.GetAssertionRequest{
		RPID:             c.rpID,
		ClientDataHash:   c.clientDataHash(),
		AllowList:        descriptors(options.AllowCredentials),
		UserVerification: userVerification(options.UserVerification),
	}
	if len(a.request.AllowList) == 0 && !info.Options[ctap2.OptionResidentKey] {
		return nil, refuse(ErrNotAllowed, "no allowCredentials, and the key has no discoverable ones: %w", ctap2.ErrNoCredentials)
	}
	if err := checkVerification(a.request.UserVerification, info); err != nil {
		return nil, err
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
	accounts := make([]Account, len(assertions))
	for i, a := range assertions {
		accounts[i] = Account{a.User, slices.Clone(a.Credential.ID)}
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

// find returns the credential of a request's list that the key holds, without a
// touch; ok is false if there is none. What is signed is the hash of nothing,
// good for no relying party. A credential that the key does not admit to
// without user verification is found only with it, or with a Token, which that
// does not spend.
func (c *ceremony) find(key *ctap2.Authenticator, request *ctap2.GetAssertionRequest) (found ctap2.CredentialDescriptor, ok bool, err error) {
	if u2fOnly(key.Info()) {
		for _, d := range request.AllowList {
			known, err := key.U2FCheck(c.ctx, sha256.Sum256([]byte(request.RPID)), d.ID)
			if err != nil || known {
				return d, known, err
			}
		}
		return found, false, nil
	}
	hash := sha256.Sum256(nil)
	request.ClientDataHash, request.Silent = hash[:], true
	assertions, err := key.GetAssertion(c.ctx, request)
	if errors.Is(err, ctap2.ErrNoCredentials) {
		return found, false, nil
	}
	if err != nil {
		return found, false, err
	}
	return assertions[0].Credential, true, nil
}
