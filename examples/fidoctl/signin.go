package main

import (
	"cmp"
	"context"
	"encoding/json"
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
	User           string          `json:"user,omitempty" doc:"the account's name, if it was chosen among several"`
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
				data, err := readFile(p.in, options)
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
			return p.signin(ctx, key, args[0], user, o, out)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&user, "user", "", "the account's `name`, if there are several")
	flags.StringVar(&verify, "uv", webauthn.Preferred, "`whether` to verify the user: required, preferred or discouraged")
	flags.StringSliceVar(&credentials, "credential", nil, "the `ID` of a credential that the key does not keep")
	flags.StringVar(&options, "options", "", "a `file` with the site's options, - for standard input")
	flags.StringVar(&out, "out", "", "the `file` that what is for the site is written to")
	complete(c, "uv", func(context.Context) []string {
		return []string{webauthn.Required, webauthn.Preferred, webauthn.Discouraged}
	})
	return c
}

func (p *program) signin(ctx context.Context, key *session, site, user string, options *webauthn.RequestOptions, out string) (result, error) {
	r := signinResult{Site: site}
	client := p.client(key, site)
	client.ChooseAccount = func(ctx context.Context, accounts []webauthn.Account) (int, error) {
		users := make([]ctap2.User, len(accounts))
		for i, a := range accounts {
			users[i] = a.User
		}
		i, err := p.chooseAccount(ctx, users, user)
		if err == nil {
			r.User = accounts[i].Name
		}
		return i, err
	}
	response, err := client.Get(ctx, options)
	if err != nil {
		return nil, err
	}
	defer response.ClientExtensionResults.Wipe()
	data, err := ctap2.ParseAuthenticatorData(response.AuthenticatorData)
	if err != nil {
		return nil, err
	}
	r.ID, r.UserID, r.Counter = hexBytes(response.ID), hexBytes(response.UserHandle), data.SignCount
	r.UserPresent, r.UserVerified = data.Flags.Has(ctap2.FlagUserPresent), data.Flags.Has(ctap2.FlagUserVerified)
	if r.Authentication, err = json.Marshal(response); err != nil {
		return nil, err
	}
	return r, writeFile(out, r.Authentication)
}

// chooseAccount returns the account of that name, or has the person choose.
func (p *program) chooseAccount(ctx context.Context, accounts []ctap2.User, user string) (int, error) {
	var names []string
	for _, a := range accounts {
		names = append(names, cmp.Or(a.Name, a.DisplayName, "account "+hexBytes(a.ID).short()))
	}
	if user == "" {
		return p.choose(ctx, "Which account?", names)
	}
	if i := slices.Index(names, user); i >= 0 {
		return i, nil
	}
	return 0, usagef("the key knows %s, and no %q", list(names), user)
}
