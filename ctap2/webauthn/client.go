package webauthn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tapstone/fido/ctap2"
)

// A Client is a WebAuthn client for one site (WebAuthn §5.1): it does for a Go
// program what a browser does for a page. Its methods are safe for several
// goroutines as long as none changes a field; each has a key to itself.
type Client struct {
	// Origin is the site that the options come from, such as
	// "https://example.com" or "http://localhost:8080". It is what a person
	// trusts, and must never be taken from the options.
	Origin string
	// CrossOrigin and TopOrigin tell the relying party that the request came
	// from a frame of Origin in a page of another site.
	CrossOrigin bool
	TopOrigin   string

	// Authenticators are the keys that may be used. They stay the caller's, to
	// be closed. Several are first asked for their Info, a transaction each, all
	// at once: one that was unplugged, or does not answer in three seconds, is
	// out.
	Authenticators []*ctap2.Authenticator
	// Select chooses one of several suitable keys, by its index. The function of
	// that name in package keys asks for a touch. It is not called for a single
	// one.
	Select func(ctx context.Context, keys []*ctap2.Authenticator) (int, error)

	// ChooseAccount chooses one of several accounts to sign in with, by its
	// index. The key's most recent one comes first.
	ChooseAccount func(ctx context.Context, accounts []Account) (int, error)

	// RelatedOrigins fetches https://RPID/.well-known/webauthn, where a site
	// says which others may use its RP ID (WebAuthn §5.11). It is called for an
	// RP ID that the Origin has no right to by itself, if that is one of https,
	// and returns the body of a response with status 200 and content type
	// application/json. The request carries no credentials and no referrer, and
	// does not follow a redirect to anything but https; the caller limits the
	// length. Nil: such an RP ID is refused.
	RelatedOrigins func(ctx context.Context, rpID string) ([]byte, error)

	// EnterpriseAttestation is what a relying party gets that asks for an
	// attestation which identifies the key: 1 vendor-facilitated, 2
	// platform-managed (CTAP §7.1). 0: one that does not. Create refuses others
	// with ErrType.
	EnterpriseAttestation uint
}

// An Account is one that a key can sign in to.
type Account struct {
	ctap2.User             // its names are empty unless the user was verified
	CredentialID Base64URL // of the credential that would sign
}

// Bounds of the time that a ceremony may take (WebAuthn §15.1). What a relying
// party wants is a hint; a program sets its own bound with the context.
const (
	leastTimeout = 5 * time.Minute
	mostTimeout  = 10 * time.Minute
)

const (
	// infoPatience is how long one of several keys may take for its Info.
	infoPatience = 3 * time.Second
	// keyPatience is the least that a key waits for its user before it may be
	// asked again: one that gives up at once has another reason.
	keyPatience = 5 * time.Second
)

// A ceremony is one call of Create or Get.
type ceremony struct {
	client     *Client
	caller     context.Context
	ctx        context.Context // the caller's, with the ceremony's own bound
	end        context.CancelFunc
	origin     origin
	rpID       string
	clientData []byte // serialized
}

// begin does what comes before a key is asked. The ceremony has to be ended.
func (c *Client) begin(ctx context.Context, kind, rpID string, challenge Base64URL, timeout uint32) (*ceremony, error) {
	ongoing := &ceremony{client: c, caller: ctx, ctx: ctx}
	if ctx.Err() != nil {
		return nil, ongoing.failure(context.Cause(ctx))
	}
	if len(challenge) == 0 {
		return nil, refuse(ErrType, "challenge is empty")
	}
	var err error
	if ongoing.origin, err = parseOrigin(c.Origin); err != nil {
		return nil, err
	}
	data := ClientData{Type: kind, Challenge: challenge, Origin: ongoing.origin.text, CrossOrigin: c.CrossOrigin || c.TopOrigin != ""}
	if c.TopOrigin != "" {
		top, err := parseOrigin(c.TopOrigin)
		if err != nil {
			return nil, err
		}
		data.TopOrigin = top.text
	}
	ongoing.clientData = data.Serialize()
	bound := min(max(time.Duration(timeout)*time.Millisecond, leastTimeout), mostTimeout)
	ongoing.ctx, ongoing.end = context.WithTimeoutCause(ctx, bound, fmt.Errorf("nothing happened for %v: %w", bound, context.DeadlineExceeded))
	if ongoing.rpID, err = c.relyingParty(ongoing.ctx, ongoing.origin, rpID); err != nil {
		if cause := context.Cause(ongoing.ctx); cause != nil {
			err = ongoing.failure(cause)
		}
		ongoing.end()
		return nil, err
	}
	return ongoing, nil
}

func (c *ceremony) clientDataHash() []byte {
	hash := sha256.Sum256(c.clientData)
	return hash[:]
}

// patiently does what waits for the user, again where the key has lost patience
// before the relying party: most do after 30 seconds. Most of those say that the
// user declined, which has to be believed.
func (c *ceremony) patiently(do func() error) error {
	for {
		since := time.Now()
		err := do()
		timedOut := errors.Is(err, ctap2.ErrUserActionTimeout) || errors.Is(err, ctap2.ErrActionTimeout)
		if !timedOut || time.Since(since) < keyPatience || c.ctx.Err() != nil {
			return err
		}
	}
}

// A candidate is a key that may be used, and what it says of itself.
type candidate struct {
	key  *ctap2.Authenticator
	info *ctap2.Info
	err  error
}

// candidates returns the Client's keys. Whether a single one is still there, and
// is what it was, shows soon enough.
func (c *ceremony) candidates() []candidate {
	list := make([]candidate, len(c.client.Authenticators))
	if len(list) == 1 {
		key := c.client.Authenticators[0]
		info, err := key.CurrentInfo(c.ctx)
		return []candidate{{key, info, err}}
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, infoPatience, fmt.Errorf("the key is silent: %w", context.DeadlineExceeded))
	defer cancel()
	var asking sync.WaitGroup
	for i, key := range c.client.Authenticators {
		asking.Go(func() {
			info, err := key.GetInfo(ctx)
			list[i] = candidate{key, info, err}
		})
	}
	asking.Wait()
	return list
}

// pick returns the plan for the key to use: the only one for which there is a
// plan, or the one that the caller selects.
func pick[P any](c *ceremony, plan func(*ctap2.Authenticator, *ctap2.Info) (P, error)) (picked P, err error) {
	var keys []*ctap2.Authenticator
	var plans []P
	var why []error
	candidates := c.candidates()
	for _, k := range candidates {
		if k.err != nil {
			why = append(why, c.failure(k.err))
			continue
		}
		p, err := plan(k.key, k.info)
		if err != nil && len(candidates) == 1 { // another program may have set a PIN since
			if info, failed := k.key.GetInfo(c.ctx); failed == nil {
				p, err = plan(k.key, info)
			}
		}
		if err != nil {
			why = append(why, err)
			continue
		}
		keys, plans = append(keys, k.key), append(plans, p)
	}
	switch {
	case c.ctx.Err() != nil:
		return picked, c.failure(context.Cause(c.ctx))
	case len(plans) == 1:
		return plans[0], nil
	case len(plans) == 0 && len(why) == 0:
		return picked, refuse(ErrNotAllowed, "the Client has no Authenticators")
	case len(plans) == 0:
		return picked, unsuitable(why)
	case c.client.Select == nil:
		return picked, refuse(ErrNotAllowed, "%d keys are suitable, and the Client has no Select", len(keys))
	}
	i, err := c.client.Select(c.ctx, keys)
	if err != nil {
		return picked, c.failure(err)
	}
	if i < 0 || i >= len(plans) {
		return picked, refuse(ErrNotAllowed, "Select returned %d, of %d keys", i, len(keys))
	}
	return plans[i], nil
}

// unsuitable returns why none of several keys is suitable, each reason once.
func unsuitable(why []error) error {
	var distinct []error
	said := make(map[string]bool)
	for _, err := range why {
		if !said[err.Error()] {
			said[err.Error()] = true
			distinct = append(distinct, err)
		}
	}
	if len(distinct) == 1 {
		return distinct[0]
	}
	return &Error{Name: ErrNotAllowed, err: errors.Join(distinct...)}
}

// What keys can do.

func u2fOnly(info *ctap2.Info) bool {
	return len(info.Versions) == 1 && info.HasVersion("U2F_V2")
}

// checkVerification refuses a key that cannot verify its user now, where that is
// required.
func checkVerification(wish ctap2.UserVerification, info *ctap2.Info) error {
	switch {
	case wish != ctap2.Required:
	case !verifies(info):
		if set, can := info.Options[ctap2.OptionClientPIN]; can && !set {
			return refuse(ErrConstraint, "%w: set a PIN first", ctap2.ErrNotSetUp)
		}
		return refuse(ErrConstraint, "%w", ctap2.ErrNotSetUp)
	case info.ForcePINChange && !info.Options[ctap2.OptionUserVerification]:
		return refuse(ErrConstraint, "%w", ctap2.ErrPINChangeRequired)
	}
	return nil
}

// verifies reports whether the key has a way to verify its user that is set up.
func verifies(info *ctap2.Info) bool {
	return info.Options[ctap2.OptionUserVerification] ||
		info.Options[ctap2.OptionClientPIN] && !info.Options[ctap2.OptionNoMcGaPermissionsWithClientPIN]
}
