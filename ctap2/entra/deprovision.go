package entra

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/tapstone/fido/ctap2"
)

// A Deprovisioning takes a key from a user.
type Deprovisioning struct {
	User string // object ID, or user principal name
	// MethodID is which key, by the ID of a Method. Empty: it is looked up by
	// CredentialID.
	MethodID string
	// CredentialID is the credential on the key. Nil: it is read from MethodID, if
	// that is not a UUID, as Graph's documentation of version 1.0 has it.
	CredentialID []byte
	// Key is the key itself, for the credential to be deleted from it too. Nil:
	// it is not at hand.
	Key *ctap2.Authenticator
}

// Deprovision makes Entra forget a key, so that nobody signs in with it any more,
// and then the key the credential. The State that it returns is what is left:
// Registered if Entra did not do it, RegistrationUnknown if it did not answer,
// CredentialMade if the key was not at hand or did not do it, Removed.
//
// What Entra does not know, and has forgotten before, say, is ErrNotRegistered,
// unless the key is at hand and holds it. If the key is at hand, and nothing tells
// which credential it is, Entra is not asked, and that is ErrInvalidRequest.
func (c *Client) Deprovision(ctx context.Context, d *Deprovisioning) Result {
	if d == nil {
		return Result{Err: invalid("no Deprovisioning")}
	}
	r := Result{Assignment: Assignment{User: d.User}, CredentialID: d.CredentialID}
	r.State, r.Err = c.forget(ctx, d)
	if r.State != CredentialMade || d.Key == nil {
		return r
	}
	ids := [][]byte{d.CredentialID}
	if len(d.CredentialID) == 0 {
		ids = CredentialIDs(d.MethodID)
	}
	for _, id := range ids {
		err := d.Key.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: ctap2.CredentialDescriptor{ID: id}})
		switch {
		case err == nil:
			r.State, r.CredentialID, r.Err = Removed, id, nil
			return r
		case !errors.Is(err, ctap2.ErrNoCredentials):
			r.Err = fmt.Errorf("entra: the credential could not be deleted from the key: %w", err)
			return r
		}
	}
	if r.Err == nil {
		r.Err = ErrNotOnKey
	}
	return r
}

// uuid is the form of IDs that name no credential. They can be read as base64url,
// too.
var uuid = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// forget makes Entra forget a key, and returns what is left.
func (c *Client) forget(ctx context.Context, d *Deprovisioning) (State, error) {
	methodID := d.MethodID
	if d.Key != nil && len(d.CredentialID) == 0 && methodID != "" && (uuid.MatchString(methodID) || CredentialIDs(methodID) == nil) {
		return Registered, invalid("CredentialID is needed: MethodID does not tell which credential it is")
	}
	if methodID == "" {
		if len(d.CredentialID) == 0 {
			return Registered, invalid("neither MethodID nor CredentialID")
		}
		m, err := c.Find(ctx, d.User, d.CredentialID)
		switch {
		case errors.Is(err, ErrNotRegistered):
			return CredentialMade, err
		case err != nil:
			return Registered, err
		case m.ID == "":
			return Registered, invalid("MethodID is needed: Graph's IDs do not tell which key it is")
		}
		methodID = m.ID
	}
	err := c.Delete(ctx, d.User, methodID)
	switch {
	case err == nil || errors.Is(err, ErrNotRegistered):
		return CredentialMade, err
	case errors.Is(err, ErrUncertain):
		return RegistrationUnknown, err
	}
	return Registered, err
}
