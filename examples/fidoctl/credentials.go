package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

// credentialResult is a credential that the key keeps.
type credentialResult struct {
	ID          hexBytes `json:"id"`
	Site        string   `json:"site" doc:"the relying party's ID"`
	SiteName    string   `json:"siteName,omitempty"`
	User        string   `json:"user,omitempty" doc:"the account's name"`
	DisplayName string   `json:"displayName,omitempty"`
	UserID      hexBytes `json:"userId"`
	Algorithm   string   `json:"algorithm"`
	Protection  string   `json:"protection,omitempty" doc:"userVerificationOptional, …OptionalWithCredentialIDList or …Required"`
	CanHaveBlob bool     `json:"canHaveBlob"`
	Payment     bool     `json:"payment" doc:"sites other than this one may use it to confirm a payment"`
}

func credentialOf(c *ctap2.StoredCredential) credentialResult {
	r := credentialResult{
		ID: c.Credential.ID, Site: c.RP.ID, SiteName: c.RP.Name, User: c.User.Name, DisplayName: c.User.DisplayName,
		UserID: c.User.ID, CanHaveBlob: c.LargeBlobKey.Len() > 0, Payment: c.ThirdPartyPayment,
	}
	if c.PublicKey != nil {
		r.Algorithm = c.PublicKey.Algorithm.String()
	}
	if c.CredProtect != 0 {
		r.Protection = c.CredProtect.String()
	}
	return r
}

// String names the credential to a person.
func (r credentialResult) String() string {
	return fmt.Sprintf("%s at %s (%s)", cmp.Or(r.User, r.DisplayName, "an unnamed account"), r.Site, r.ID.short())
}

func (r credentialResult) text(w *printer) {
	for _, row := range [][2]string{
		{"site", r.Site}, {"", r.SiteName}, {"user", r.User}, {"", r.DisplayName}, {"user ID", r.UserID.String()},
		{"ID", r.ID.String()}, {"algorithm", r.Algorithm}, {"protection", r.Protection},
		{"blob", map[bool]string{true: "can have one", false: "cannot have one"}[r.CanHaveBlob]},
		{"payment", map[bool]string{true: "other sites may use it to confirm one"}[r.Payment]},
	} {
		if row[1] != "" {
			w.printf("%-11s %s\n", row[0], row[1])
		}
	}
}

type credentialsResult struct {
	Credentials []credentialResult `json:"credentials"`
	Room        *int               `json:"room,omitempty" doc:"how many more fit, if the key says so"`
}

func (r credentialsResult) text(w *printer) {
	for i, c := range r.Credentials {
		if i == 0 || c.Site != r.Credentials[i-1].Site {
			w.in(bold, "%s", c.Site)
			if c.SiteName != "" && c.SiteName != c.Site {
				w.printf(" (%s)", c.SiteName)
			}
			w.printf("\n")
		}
		name := cmp.Or(c.User, "an unnamed account")
		if c.DisplayName != "" && c.DisplayName != name {
			name += ", " + c.DisplayName
		}
		w.printf("  %-18s %s\n", c.ID.short(), name)
	}
	w.printf("%s", count(len(r.Credentials), "credential", "credentials"))
	if r.Room != nil {
		w.printf("; room for %d more", *r.Room)
	}
	w.printf("\n")
}

type deletedResult struct {
	Deleted []credentialResult `json:"deleted"`
}

func (r deletedResult) text(w *printer) {
	for _, c := range r.Deleted {
		w.in(green, "Deleted %s.\n", c)
	}
}

func (p *program) credentialsCommand() *cobra.Command {
	const which = `CREDENTIAL is the beginning of its ID, its site or its account's name, as long as
only one fits.`
	var name, displayName string
	all := &cobra.Command{
		Use:   "list [SITE]",
		Short: "List the credentials that the key keeps, by site",
		Example: `  fidoctl credentials list
  fidoctl credentials list example.com
  fidoctl credentials list --json | jq -r '.credentials[].user'`,
		Args: arguments,
		RunE: p.withKey(listCredentials),
	}
	show := &cobra.Command{
		Use:     "show CREDENTIAL",
		Short:   "Show everything about a credential",
		Long:    which,
		Example: "  fidoctl credentials show 3f2a9c1b\n  fidoctl credentials show ada@example.com",
		Args:    named,
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			credentials, token, err := key.credentials(ctx, "")
			if err != nil {
				return nil, err
			}
			defer wipe(token, credentials)
			c, err := find(credentials, args[0])
			if err != nil {
				return nil, err
			}
			return credentialOf(c), nil
		}),
	}
	rename := &cobra.Command{
		Use:   "rename CREDENTIAL --user NAME",
		Short: "Rename the account of a credential",
		Long:  "Rename changes the names that are shown when signing in; the site does not learn\nof it.\n" + which,
		Example: `  fidoctl credentials rename ada --user ada@example.com
  fidoctl credentials rename ada --display-name 'Ada Lovelace'`,
		Args: named,
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			if !changed("user") && !changed("display-name") {
				return usagef("give --user or --display-name, or both")
			}
			return p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
				return renameCredential(ctx, key, args[0], func(u *ctap2.User) {
					if changed("user") {
						u.Name = name
					}
					if changed("display-name") {
						u.DisplayName = displayName
					}
				})
			})(cmd, args)
		},
	}
	rename.Flags().StringVar(&name, "user", "", "the account's `name`")
	rename.Flags().StringVar(&displayName, "display-name", "", "the person's `name`")
	remove := &cobra.Command{
		Use:   "delete CREDENTIAL…",
		Short: "Delete credentials for good",
		Long:  "Delete asks before it deletes credentials and their blobs. They cannot be restored:\nmake sure that there is another way to sign in.\n" + which,
		Example: `  fidoctl credentials delete 3f2a9c1b
  fidoctl credentials delete ada@example.com --yes`,
		Args: named,
		RunE: p.withKey(p.deleteCredentials),
	}
	return group("credentials", "List, rename and delete credentials", "  fidoctl credentials list", all, show, rename, remove)
}

// credentials lists what the key keeps, by site, under a token for more such
// commands, which the caller wipes.
func (s *session) credentials(ctx context.Context, site string) ([]*ctap2.StoredCredential, *ctap2.Token, error) {
	permissions := ctap2.PermissionCredentialManagement
	if s.Info().Options[ctap2.OptionLargeBlobs] {
		permissions |= ctap2.PermissionLargeBlobWrite
	}
	if !s.Info().Options[ctap2.OptionCredentialManagement] && !s.Info().Options[ctap2.OptionCredentialMgmtPreview] {
		return nil, nil, ctap2.ErrUnsupported // before the PIN is asked for
	}
	token, err := s.Token(ctx, &ctap2.TokenRequest{Permissions: permissions, Method: s.method()})
	if err != nil {
		return nil, nil, err
	}
	credentials, err := s.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPID: site, Token: token})
	if err != nil {
		token.Wipe()
		return nil, nil, err
	}
	slices.SortStableFunc(credentials, func(a, b *ctap2.StoredCredential) int {
		return cmp.Or(cmp.Compare(a.RP.ID, b.RP.ID), cmp.Compare(a.User.Name, b.User.Name))
	})
	return credentials, token, nil
}

// wipe overwrites what credentials returned.
func wipe(token *ctap2.Token, credentials []*ctap2.StoredCredential) {
	token.Wipe()
	for _, c := range credentials {
		c.LargeBlobKey.Wipe()
	}
}

// find returns the one credential that a person means.
func find(credentials []*ctap2.StoredCredential, name string) (*ctap2.StoredCredential, error) {
	id, _ := base64.RawURLEncoding.DecodeString(name)
	rpID := rpIDOf(name)
	var found []*ctap2.StoredCredential
	for _, c := range credentials {
		hex := hexBytes(c.Credential.ID).String()
		switch {
		case hex == name, len(id) > 0 && bytes.Equal(id, c.Credential.ID):
			return c, nil
		case len(name) >= 4 && strings.HasPrefix(hex, strings.TrimSuffix(name, "…")), c.RP.ID == name, c.RP.ID == rpID, c.User.Name == name:
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: no credential %q on the key", errNoCredential, name)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, c := range found {
		ids = append(ids, hexBytes(c.Credential.ID).short())
	}
	return nil, fmt.Errorf("%w: several credentials %q on the key: %s", errSeveralCredentials, name, list(ids))
}

func listCredentials(ctx context.Context, key *session, args []string) (result, error) {
	site := ""
	if len(args) > 0 {
		site = rpIDOf(args[0])
	}
	credentials, token, err := key.credentials(ctx, site)
	if err != nil {
		return nil, err
	}
	defer wipe(token, credentials)
	metadata, err := key.GetCredsMetadata(ctx, token)
	if err != nil {
		return nil, err
	}
	r := credentialsResult{Credentials: []credentialResult{}, Room: &metadata.MaxPossibleRemainingResidentCredentialsCount}
	for _, c := range credentials {
		r.Credentials = append(r.Credentials, credentialOf(c))
	}
	return r, nil
}

func renameCredential(ctx context.Context, key *session, name string, change func(*ctap2.User)) (result, error) {
	credentials, token, err := key.credentials(ctx, "")
	if err != nil {
		return nil, err
	}
	defer wipe(token, credentials)
	c, err := find(credentials, name)
	if err != nil {
		return nil, err
	}
	change(&c.User)
	err = key.UpdateUserInformation(ctx, &ctap2.UpdateUserInformationRequest{Credential: c.Credential, User: c.User, Token: token})
	if err != nil {
		return nil, err
	}
	return done{fmt.Sprintf("Renamed: %s.", credentialOf(c))}, nil
}

func (p *program) deleteCredentials(ctx context.Context, key *session, args []string) (result, error) {
	credentials, token, err := key.credentials(ctx, "")
	if err != nil {
		return nil, err
	}
	defer wipe(token, credentials)
	var doomed []*ctap2.StoredCredential
	for _, name := range args {
		c, err := find(credentials, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(doomed, c) {
			doomed = append(doomed, c)
		}
	}
	p.err.printf("This cannot be undone. You will not be able to sign in with\n")
	for _, c := range doomed {
		p.err.printf("  %s\n", credentialOf(c))
	}
	if err := p.confirm(ctx, "Delete %s from the key?", map[bool]string{true: "it", false: "them"}[len(doomed) == 1]); err != nil {
		return nil, err
	}
	var r deletedResult
	for _, c := range doomed {
		if err := key.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: c.Credential, Token: token}); err != nil {
			return r.orNil(), err
		}
		r.Deleted = append(r.Deleted, credentialOf(c))
		if c.LargeBlobKey.Len() == 0 || !key.Info().Options[ctap2.OptionLargeBlobs] {
			continue
		}
		err := key.DeleteLargeBlob(ctx, &ctap2.LargeBlobRequest{Key: c.LargeBlobKey, Token: token})
		if err != nil && !errors.Is(err, ctap2.ErrNoLargeBlob) {
			return r, err
		}
	}
	return r, nil
}

// orNil is what to show of what was deleted before something went wrong.
func (r deletedResult) orNil() result {
	if len(r.Deleted) == 0 {
		return nil
	}
	return r
}
