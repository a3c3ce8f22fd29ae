package ctap2

import (
	"errors"
	"maps"
	"slices"
)

// UserVerification says what a request wants of user verification: a PIN, a
// fingerprint or the like. The zero value is Preferred, as in WebAuthn §5.8.6.
type UserVerification uint8

// Wishes for user verification.
const (
	// Preferred verifies the user where the key is set up for it, and the
	// program can ask for a PIN if that is what it takes.
	Preferred UserVerification = iota
	// Required verifies the user, or fails.
	Required
	// Discouraged verifies the user only where the key insists.
	Discouraged
)

// String returns the name in WebAuthn's spelling.
func (v UserVerification) String() string {
	switch v {
	case Preferred:
		return "preferred"
	case Required:
		return "required"
	}
	return "discouraged"
}

// A verification is how a makeCredential or getAssertion shows that its user
// was verified: a pinUvAuthParam under a token, the option uv (built-in
// verification without tokens), or neither. Never both: keys answer
// INVALID_OPTION.
type verification struct {
	token *Token
	held  bool // the token is the caller's
	uv    bool
}

// A need is the verification that a request is to be sent with.
type need struct {
	wish        UserVerification
	must        func(*Info) bool // whether a key refuses the command otherwise
	held        *Token           // the caller's, or nil
	permissions Permission
}

func (v *verification) none() bool { return v.token == nil && !v.uv }

func (v *verification) wipe() {
	if v.token != nil && !v.held {
		v.token.Wipe()
	}
}

// protected reports whether the key is protected by some form of user
// verification (§6.1.2).
func (i *Info) protected() bool {
	return i.optionOn(OptionClientPIN) || i.optionOn(OptionUserVerification)
}

// alwaysVerifies reports whether the key refuses a getAssertion without user
// verification (§6.2.2).
func (i *Info) alwaysVerifies() bool { return i.optionOn(OptionAlwaysUV) }

// verifiesToMakeDiscoverable reports whether the key refuses a makeCredential of a
// discoverable credential without user verification (§6.1.2).
func (i *Info) verifiesToMakeDiscoverable() bool { return i.alwaysVerifies() || i.protected() }

// verifiesToMake is the same for another credential.
func (i *Info) verifiesToMake() bool {
	return i.alwaysVerifies() || i.protected() && !i.optionOn(OptionMakeCredUVNotRequired)
}

// decide chooses whether to verify the user, and does what it takes before the
// command is sent.
func (c *ceremony) decide(n *need) (verification, error) {
	if n.held != nil {
		if n.held.secret.Len() == 0 {
			return verification{}, invalid("the token was wiped")
		}
		return verification{token: n.held, held: true}, nil
	}
	if n.wish == Required || n.must(c.info) || n.wish == Preferred &&
		(c.info.optionOn(OptionUserVerification) || c.info.grantsByPIN(n.permissions) && c.canAskPIN()) {
		v, err := c.verify(n.permissions)
		// What only an outdated Info called for is not set up, and need not be.
		if n.wish == Required || n.must(c.info) || !errors.Is(err, ErrNotSetUp) {
			return v, err
		}
	}
	return verification{}, nil
}

// verify takes the best path to a verified user that the key offers: built-in
// verification with a token, built-in verification as an option of the
// command, a PIN token with permissions, a PIN token of the old kind.
func (c *ceremony) verify(permissions Permission) (verification, error) {
	return doubting(c, func() (verification, error) {
		if c.info.optionOn(OptionUserVerification) && !c.info.optionOn(OptionPINUVAuthToken) {
			return verification{uv: true}, nil
		}
		t, err := c.token(permissions, c.rpID)
		return verification{token: t}, err
	})
}

// doubting obtains what the Info may deny, or the key where the Info does not:
// another program may have set a PIN, removed the last finger, demanded a new
// PIN or reset the key. It asks the key for its Info then, and tries again if
// that has changed; if not, nobody is asked twice.
func doubting[T any](c *ceremony, obtain func() (T, error)) (T, error) {
	var none T
	for {
		got, err := obtain()
		if err == nil {
			return got, nil
		}
		outdated := slices.ContainsFunc([]error{ErrNotSetUp, ErrPINChangeRequired, ErrPINNotSet, ErrPINPolicyViolation, ErrNotAllowed},
			func(sign error) bool { return errors.Is(err, sign) })
		if !outdated || c.fresh {
			return none, err
		}
		before := c.info
		if _, err := c.fetchInfo(); err != nil {
			return none, err
		}
		if maps.Equal(before.Options, c.info.Options) && before.ForcePINChange == c.info.ForcePINChange {
			return none, err
		}
	}
}

// authorized runs a command under a token: the caller's, if held is one, or one
// that is obtained and wiped again. If the key takes it no longer, because
// another program has obtained one meanwhile, that is done once more.
func (c *ceremony) authorized(permissions Permission, rpID string, held *Token, run func(*Token) error) error {
	if held != nil {
		if held.secret.Len() == 0 {
			return invalid("the token was wiped")
		}
		return held.refused(run(held))
	}
	for again := false; ; again = true {
		t, err := doubting(c, func() (*Token, error) { return c.token(permissions, rpID) })
		if err != nil {
			return err
		}
		err = run(t)
		t.Wipe()
		if again || !errors.Is(err, ErrPINAuthInvalid) {
			return err
		}
		c.forgetSecret()
	}
}

// perform runs a command under v, and again where the key's answer shows a
// better way: it demands verification after all, its built-in verification
// did not recognise the user or is blocked (then the PIN, once), or is not set
// up any longer, or what was agreed with it has become stale (once).
func (c *ceremony) perform(v *verification, n *need, run func(verification) error) error {
	attempts := c.info.uvAttempts()
	refreshed := false
	// What the caller's token refers to is nothing that was agreed here.
	agreed := func() bool { return c.secret != nil && (!v.held || c.lent) }
	for {
		err := run(*v)
		if err == nil {
			return nil
		}
		// A key whose built-in verification is blocked asks for the PIN with
		// PUAT_REQUIRED (§6.1.2, §6.2.2).
		uvFailed := v.uv && (errors.Is(err, ErrUVInvalid) || errors.Is(err, ErrUVBlocked) || errors.Is(err, ErrPUATRequired))
		switch {
		case errors.Is(err, ErrPUATRequired) && v.none():
			if !c.fresh {
				if _, err := c.fetchInfo(); err != nil {
					return err
				}
			}
			if *v, err = c.verify(n.permissions); err != nil {
				return err
			}
		case v.uv && (errors.Is(err, ErrInvalidOption) || errors.Is(err, ErrUnsupportedOption)) && !c.fresh: // the last finger was removed?
			if _, err := c.fetchInfo(); err != nil {
				return err
			}
			if c.info.optionOn(OptionUserVerification) {
				return err
			}
			if *v, err = c.decide(n); err != nil {
				return err
			}
		case uvFailed && errors.Is(err, ErrUVInvalid) && attempts > 1:
			attempts--
			c.missed = err
		case uvFailed && c.info.grantsByPIN(n.permissions) && c.canAskPIN():
			c.forgetSecret() // it may have become stale while fingers were tried
			t, err := c.pinToken(n.permissions, c.rpID, false)
			if err != nil {
				return err
			}
			*v = verification{token: t}
		case !refreshed && (errors.Is(err, ErrPINAuthInvalid) && agreed() || errors.Is(err, ErrReset) && !v.held):
			refreshed = true
			c.forgetSecret()
			if v.token != nil && !v.held {
				again, err := c.decide(n)
				if err != nil {
					return err
				}
				v.wipe()
				*v = again
			}
		case v.held:
			return v.token.refused(err)
		default:
			return err
		}
	}
}
