package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tapstone/fido/ctap2"
)

// An account is what a key has at a site: a user, and the credential.
type account struct {
	id   hexBytes
	user ctap2.User
}

// name is what the account is called.
func (a account) name() string {
	return cmp.Or(a.user.Name, a.user.DisplayName, "account "+hexBytes(a.user.ID).short())
}

// has reports whether the beginning of an ID, as long as is needed to mistake no
// name for one, is that of the account's credential.
func (a account) has(beginning string) bool {
	return len(beginning) >= 8 && strings.HasPrefix(a.id.String(), strings.TrimSuffix(beginning, "…"))
}

// accountOf returns which account of a site a person means: by its name, or by the
// beginning of its credential's ID.
func accountOf(accounts []account, user, site string) (int, error) {
	var found []int
	for i, a := range accounts {
		if a.name() == user {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		for i, a := range accounts {
			if a.has(user) {
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("%w: no account %q at %s", errNoCredential, user, site)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, i := range found {
		ids = append(ids, accounts[i].id.short())
	}
	return 0, fmt.Errorf("%w: several accounts %q at %s: %s", errSeveralCredentials, user, site, list(ids))
}

// chooseAccount returns the account that user means, or has the person choose.
// Where names are the same, the IDs tell them apart.
func (p *program) chooseAccount(ctx context.Context, accounts []account, user, site string) (int, error) {
	if user != "" {
		return accountOf(accounts, user, site)
	}
	var names []string
	for i, a := range accounts {
		name := a.name()
		same := func(other account) bool { return other.name() == name }
		if slices.ContainsFunc(accounts[:i], same) || slices.ContainsFunc(accounts[i+1:], same) {
			name += " (" + a.id.short() + ")"
		}
		names = append(names, name)
	}
	if !p.interactive() {
		return 0, usagef("several accounts: %s; choose one with --user", list(names))
	}
	return p.choose(ctx, "Which account?", names)
}

// listedAccount returns the account that a person means, of those that the key
// keeps for a site: one whose ID is listed, if any are. It is nil if the key
// cannot tell.
func (p *program) listedAccount(ctx context.Context, key *session, rpID, user string, listed [][]byte) (*account, error) {
	accounts, err := p.accounts(ctx, key, rpID)
	for _, silent := range []error{ctap2.ErrUnsupported, ctap2.ErrNotSetUp, ctap2.ErrPINNotSet} {
		if errors.Is(err, silent) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if len(listed) > 0 {
		accounts = slices.DeleteFunc(accounts, func(a account) bool {
			return !slices.ContainsFunc(listed, func(id []byte) bool { return bytes.Equal(id, a.id) })
		})
	}
	i, err := accountOf(accounts, user, rpID)
	if err != nil {
		return nil, err
	}
	return &accounts[i], nil
}

// accounts lists what the key keeps for a site. The PIN that this takes is good
// for what the command does next.
func (p *program) accounts(ctx context.Context, key *session, rpID string) ([]account, error) {
	p.keepsPIN = true
	credentials, token, err := key.credentials(ctx, rpID)
	if err != nil {
		return nil, err
	}
	defer wipe(token, credentials)
	var accounts []account
	for _, c := range credentials {
		accounts = append(accounts, account{c.Credential.ID, c.User})
	}
	return accounts, nil
}
