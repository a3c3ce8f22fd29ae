package entra

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/tapstone/fido/ctap2"
)

// A RenameRequest says what an account on a key is called from now on.
type RenameRequest struct {
	// RPID is Entra's, as creation options have it: "login.microsoft.com".
	RPID string
	// UserID is the user.id of creation options, OldName the name that the key
	// has now: which account it is. With neither, the key must have a single one.
	UserID  []byte
	OldName string
	// Name and DisplayName are the new ones; an empty one stays as it is.
	Name, DisplayName string
}

// A Renaming is what RenameAccount did.
type Renaming struct {
	CredentialID  []byte
	Before, After ctap2.User // as the key has it: it may cut names that are long
}

// RenameAccount gives the account that a key holds another name, for a user
// whose name has changed: what a person sees when they choose an account. Then it
// has the credential sign, and verifies that with the public key that the key
// listed before, without a touch if the key does that.
//
// Entra knows the account by its UserID, which stays, and need not be told.
// Microsoft does not say so: its advice is to register the key anew.
//
// Keys without credential management, or with its preview alone, cannot do it:
// ErrUnsupported of package ctap2. ErrNotOnKey says that there is no such
// account, ErrInvalidRequest that several fit. If the key took the name and
// something is wrong afterwards, the Renaming comes along with the error.
func RenameAccount(ctx context.Context, key *ctap2.Authenticator, r *RenameRequest) (*Renaming, error) {
	switch {
	case r == nil:
		return nil, invalid("no RenameRequest")
	case r.RPID == "":
		return nil, invalid("no RPID")
	case r.Name == "" && r.DisplayName == "":
		return nil, invalid("no new name")
	}
	account, err := r.find(ctx, key)
	if err != nil {
		return nil, err
	}
	user := account.User
	if r.Name != "" {
		user.Name = r.Name
	}
	if r.DisplayName != "" {
		user.DisplayName = r.DisplayName
	}
	err = key.UpdateUserInformation(ctx, &ctap2.UpdateUserInformationRequest{Credential: account.Credential, User: user})
	if err != nil {
		return nil, fmt.Errorf("entra: rename: %w", err)
	}
	renaming := &Renaming{CredentialID: account.Credential.ID, Before: account.User, After: user}
	if err := renaming.check(ctx, key, account); err != nil {
		return renaming, fmt.Errorf("entra: the account was renamed, and then: %w", err)
	}
	return renaming, nil
}

// find returns the account on the key.
func (r *RenameRequest) find(ctx context.Context, key *ctap2.Authenticator) (*ctap2.StoredCredential, error) {
	stored, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPID: r.RPID})
	if err != nil {
		return nil, fmt.Errorf("entra: rename: %w", err)
	}
	var found []*ctap2.StoredCredential
	for _, s := range stored {
		s.LargeBlobKey.Wipe()
		if (r.UserID == nil || bytes.Equal(s.User.ID, r.UserID)) && (r.OldName == "" || cutFrom(s.User.Name, r.OldName)) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		if len(stored) == 0 {
			return nil, fmt.Errorf("%w: it has none for %s", ErrNotOnKey, r.RPID)
		}
		return nil, fmt.Errorf("%w: it has others for %s, none that fits", ErrNotOnKey, r.RPID)
	case 1:
		return found[0], nil
	}
	return nil, invalid("the key has %d accounts for %s that fit", len(found), r.RPID)
}

// check looks whether the key has the new name, and whether the credential is
// what it was.
func (r *Renaming) check(ctx context.Context, key *ctap2.Authenticator, before *ctap2.StoredCredential) error {
	stored, err := key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPIDHash: &before.RP.IDHash})
	if err != nil {
		return err
	}
	var after *ctap2.StoredCredential
	for _, s := range stored {
		s.LargeBlobKey.Wipe()
		if bytes.Equal(s.Credential.ID, before.Credential.ID) {
			after = s
		}
	}
	if after == nil {
		return ErrNotOnKey
	}
	wanted := r.After
	r.After = after.User
	switch {
	case !bytes.Equal(after.User.ID, before.User.ID):
		return errors.New("the account has another user.id")
	case !cutFrom(after.User.Name, wanted.Name) || !cutFrom(after.User.DisplayName, wanted.DisplayName):
		return errors.New("the key has another name than it was given")
	}
	return signs(ctx, key, before)
}

// cutFrom reports whether a name is what a key may make of another: it may cut
// those of more than 64 bytes, between two characters (WebAuthn §6.4.1).
func cutFrom(name, whole string) bool {
	const kept = 64
	return name == whole || len(whole) > kept && len(name) > kept-4 && len(name) <= len(whole) && name == whole[:len(name)]
}

// signs has a credential sign, and verifies it.
func signs(ctx context.Context, key *ctap2.Authenticator, credential *ctap2.StoredCredential) error {
	hash := make([]byte, 32)
	rand.Read(hash)
	request := &ctap2.GetAssertionRequest{
		RPID:           credential.RP.ID,
		ClientDataHash: hash,
		AllowList:      []ctap2.CredentialDescriptor{credential.Credential},
		Silent:         true,
	}
	if credential.CredProtect == ctap2.UVRequired {
		request.UserVerification = ctap2.Required
	}
	assertions, err := key.GetAssertion(ctx, request)
	if err != nil { // not all keys do it without a touch
		request.Silent = false
		assertions, err = key.GetAssertion(ctx, request)
	}
	if err != nil {
		return fmt.Errorf("the credential does not sign: %w", err)
	}
	if err := assertions[0].Verify(credential.PublicKey, hash); err != nil {
		return fmt.Errorf("the credential signs with another key: %w", err)
	}
	return nil
}
