package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// signinResult is a sign-in, in a form to read and in the one that the site
// gets.
type signinResult struct {
	Site           string          `json:"site"`
	ID             hexBytes        `json:"id" doc:"the credential's"`
	User           string          `json:"user,omitempty" doc:"the account's name, if it was chosen among several or given with --user"`
	UserID         hexBytes        `json:"userId,omitempty" doc:"the account's ID, if the key says so"`
	UserPresent    bool            `json:"userPresent"`
	UserVerified   bool            `json:"userVerified"`
	Counter        uint32          `json:"counter" doc:"of signatures; 0: the key does not count"`
	Authentication json.RawMessage `json:"authentication" doc:"for the site: AuthenticationResponseJSON of WebAuthn, with base64url"`
}

func (r signinResult) text(w *printer) {
	w.in(green, "Signed in at %s%s.\n", r.Site, map[bool]string{true: " as " + r.User}[r.User != ""])
	w.printf("  credential     %s\n  user present   %s\n  user verified  %s\n  counter        %d\n",
		r.ID, yesNo(r.UserPresent), yesNo(r.UserVerified), r.Counter)
}

func (p *program) signinCommand() *cobra.Command {
	var user, verify, options, out string
	var credentials []string
	c := &cobra.Command{
		Use:   "signin SITE",
		Short: "Sign in at a site with the key",
		Long: `Signin has the key sign a challenge, as a browser does when a site asks for it.
If the key knows several accounts there, it asks which one. With --options, a
site's own options are used (PublicKeyCredentialRequestOptions in JSON), and what
is for the site is written to --out.`,
		Example: `  fidoctl signin example.com
  fidoctl signin example.com --user ada@example.com --uv required
  fidoctl signin example.com --options options.json --out response.json`,
		Args: cobra.ExactArgs(1),
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			o := &webauthn.RequestOptions{Challenge: random(32), UserVerification: verify}
			if options != "" {
				data, err := p.readFile(options)
				if err != nil {
					return nil, err
				}
				if o, err = webauthn.ParseRequestOptions(data); err != nil {
					return nil, err
				}
			}
			for _, s := range credentials {
				id, err := credentialID(s)
				if err != nil {
					return nil, err
				}
				o.AllowCredentials = append(o.AllowCredentials, webauthn.CredentialDescriptor{Type: "public-key", ID: id})
			}
			file, err := newOutFile(out)
			if err != nil {
				return nil, err
			}
			defer file.drop()
			return p.signin(ctx, key, args[0], user, o, file)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&user, "user", "", "the account's `name`: sign in as nobody else")
	flags.StringVar(&verify, "uv", webauthn.Preferred, "`whether` to verify the user: required, preferred or discouraged")
	flags.StringSliceVar(&credentials, "credential", nil, "the `ID` of a credential that the key does not keep")
	flags.StringVar(&options, "options", "", "a `file` with the site's options, - for standard input")
	flags.StringVar(&out, "out", "", "the `file` that what is for the site is written to")
	complete(c, "uv", func(context.Context) []string {
		return []string{webauthn.Required, webauthn.Preferred, webauthn.Discouraged}
	})
	return c
}

func (p *program) signin(ctx context.Context, key *session, site, user string, options *webauthn.RequestOptions, out *outFile) (result, error) {
	r := signinResult{Site: site}
	if user != "" {
		var listed [][]byte
		for _, c := range options.AllowCredentials {
			listed = append(listed, c.ID)
		}
		id, err := p.credentialOfUser(ctx, key, cmp.Or(options.RPID, rpIDOf(site)), user, listed)
		if err != nil {
			return nil, err
		}
		if id != nil {
			r.User = user
			options.AllowCredentials = []webauthn.CredentialDescriptor{{Type: "public-key", ID: id}}
		}
	}
	client := p.client(key, site)
	client.ChooseAccount = func(ctx context.Context, accounts []webauthn.Account) (int, error) {
		users := make([]ctap2.User, len(accounts))
		for i, a := range accounts {
			users[i] = a.User
		}
		i, err := p.chooseAccount(ctx, users, user)
		if err == nil {
			r.User = accountName(accounts[i].User)
		}
		return i, err
	}
	response, err := client.Get(ctx, options)
	if err != nil {
		return nil, err
	}
	defer response.ClientExtensionResults.Wipe()
	if user != "" && r.User != user { // the only account, whose name the key did not say
		return nil, fmt.Errorf("%w: %q, as far as the key says", errNoMatch, user)
	}
	data, err := ctap2.ParseAuthenticatorData(response.AuthenticatorData)
	if err != nil {
		return nil, err
	}
	r.ID, r.UserID, r.Counter = hexBytes(response.ID), hexBytes(response.UserHandle), data.SignCount
	r.UserPresent, r.UserVerified = data.Flags.Has(ctap2.FlagUserPresent), data.Flags.Has(ctap2.FlagUserVerified)
	if r.Authentication, err = json.Marshal(response); err != nil {
		return nil, err
	}
	return r, out.fill(r.Authentication)
}

// credentialOfUser returns the ID of the credential that a user has at a site:
// one of those that are listed, if any are. It is nil if the key cannot tell.
func (p *program) credentialOfUser(ctx context.Context, key *session, rpID, user string, listed [][]byte) ([]byte, error) {
	p.keepsPIN = true // for the assertion
	credentials, token, err := key.credentials(ctx, rpID)
	for _, silent := range []error{ctap2.ErrUnsupported, ctap2.ErrNotSetUp, ctap2.ErrPINNotSet} {
		if errors.Is(err, silent) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	defer wipe(token, credentials)
	var found []byte
	for _, c := range credentials {
		id := c.Credential.ID
		isListed := slices.ContainsFunc(listed, func(l []byte) bool { return bytes.Equal(l, id) })
		switch {
		case accountName(c.User) != user, len(listed) > 0 && !isListed:
		case found != nil:
			return nil, fmt.Errorf("%w: %q", errSeveral, user)
		default:
			found = id
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %q", errNoMatch, user)
	}
	return found, nil
}

// accountName is what an account is called.
func accountName(u ctap2.User) string {
	return cmp.Or(u.Name, u.DisplayName, "account "+hexBytes(u.ID).short())
}

// chooseAccount returns the account of that name, or has the person choose.
func (p *program) chooseAccount(ctx context.Context, accounts []ctap2.User, user string) (int, error) {
	var names []string
	for _, a := range accounts {
		names = append(names, accountName(a))
	}
	if user == "" {
		return p.choose(ctx, "Which account?", names)
	}
	i := slices.Index(names, user)
	switch {
	case i < 0:
		return 0, fmt.Errorf("%w: %q", errNoMatch, user)
	case slices.Contains(names[i+1:], user):
		return 0, fmt.Errorf("%w: %q", errSeveral, user)
	}
	return i, nil
}
