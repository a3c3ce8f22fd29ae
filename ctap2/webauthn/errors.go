package webauthn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/ctap2"
)

// An ErrorName is the name of a DOMException, or of a JavaScript exception, that
// a browser would throw. It is an error value: errors.Is(err, ErrNotAllowed)
// finds it inside what a method returned.
type ErrorName string

// Names of errors.
const (
	// ErrNotAllowed: the person declined, time was up, or no key of the Client
	// is suitable; also whatever else a key or its transport failed with.
	ErrNotAllowed ErrorName = "NotAllowedError"
	// ErrInvalidState: the key holds one of ExcludeCredentials.
	ErrInvalidState ErrorName = "InvalidStateError"
	// ErrSecurity: the origin may not use WebAuthn, or not this RP ID or AppID.
	ErrSecurity ErrorName = "SecurityError"
	// ErrNotSupported: nothing here does what was asked for: no algorithm that
	// the key has, extension inputs that contradict each other or the ceremony.
	ErrNotSupported ErrorName = "NotSupportedError"
	// ErrConstraint: the key cannot do what was required, such as verify its
	// user, or has no room for another discoverable credential.
	ErrConstraint ErrorName = "ConstraintError"
	// ErrAbort: the caller's context ended.
	ErrAbort ErrorName = "AbortError"
	// ErrEncoding: the options are not the JSON that they ought to be.
	ErrEncoding ErrorName = "EncodingError"
	// ErrType: an option has a value that it cannot have.
	ErrType ErrorName = "TypeError"
	// ErrSyntax: an extension input names something that is not there.
	ErrSyntax ErrorName = "SyntaxError"
)

// Error returns the name.
func (n ErrorName) Error() string { return string(n) }

// An Error is what a browser would throw, and why. It wraps its Name and the
// cause, which it has if a key was asked: errors.Is(err, ctap2.ErrPINBlocked)
// answers as it does in package ctap2.
type Error struct {
	Name  ErrorName
	err   error
	ofKey bool // it says something about the keys that are there
}

// Error returns the name and the reason.
func (e *Error) Error() string { return "webauthn: " + string(e.Name) + ": " + e.err.Error() }

// SiteName returns the name that a browser would show to the site. It hides what
// a site could find out about the person's keys by asking for this and that:
// such errors are ErrNotAllowed there. It keeps ErrInvalidState, which a touch
// has consented to, ErrAbort, and what is wrong with the request itself.
func (e *Error) SiteName() ErrorName {
	if e.ofKey && e.Name != ErrInvalidState && e.Name != ErrAbort {
		return ErrNotAllowed
	}
	return e.Name
}

// ofKey marks the error of a ceremony that has begun to look at keys.
func ofKey(err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.ofKey = true
	}
	return err
}

// Unwrap returns the Name and the cause.
func (e *Error) Unwrap() []error { return []error{e.Name, e.err} }

// refuse returns an Error; the reason is formatted as fmt.Errorf does.
func refuse(name ErrorName, format string, args ...any) error {
	return &Error{Name: name, err: fmt.Errorf(format, args...)}
}

// failure returns the Error for what a key, or a function of the caller's, failed
// with.
func (c *ceremony) failure(err error) error {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	name := ErrNotAllowed
	cause := context.Cause(c.ctx)
	switch {
	case is(ctap2.ErrCredentialExcluded):
		name = ErrInvalidState
	case cause != nil && is(cause, c.ctx.Err()):
		if c.caller.Err() != nil {
			name = ErrAbort
		}
	case is(ctap2.ErrUnsupportedAlgorithm, ctap2.ErrUnsupported):
		name = ErrNotSupported
	case is(ctap2.ErrNotSetUp, ctap2.ErrNoPIN, ctap2.ErrPINNotSet, ctap2.ErrPINChangeRequired,
		ctap2.ErrUnsupportedOption, ctap2.ErrKeyStoreFull):
		name = ErrConstraint
	}
	return &Error{Name: name, err: err}
}
