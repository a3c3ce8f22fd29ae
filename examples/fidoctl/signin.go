package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// signinResult is a sign-in, in a form to read and in the one that the site
// gets.
type signinResult struct {
	Site           string          `json:"site" doc:"the relying party's ID"`
	ID             hexBytes        `json:"id" doc:"the credential's"`
	User           string          `json:"user,omitempty" doc:"the account's name, if it was chosen among several or given with --user"`
	UserID         hexBytes        `json:"userId,omitempty" doc:"the account's ID, if the key says so"`
	UserPresent    bool            `json:"userPresent"`
	UserVerified   bool            `json:"userVerified"`
	Counter        uint32          `json:"counter" doc:"of signatures; 0 if the key does not count"`
	Authentication json.RawMessage `json:"authentication" doc:"for the site: AuthenticationResponseJSON of WebAuthn, with base64url"`
}

func (r signinResult) text(w *printer) {
	w.in(green, "Signed in at %s%s.\n", r.Site, map[bool]string{true: " as " + r.User}[r.User != ""])
	w.printf("  credential     %s\n  user present   %s\n  user verified  %s\n  counter        %d\n",
		r.ID, yesNo(r.UserPresent), yesNo(r.UserVerified), r.Counter)
}

func (p *program) signinCommand() *cobra.Command {
	verify := webauthn.Preferred
	var user, options, out string
	var credentials []string
	c := &cobra.Command{
		Use:   "signin SITE",
		Short: "Sign in at a site with the key",
		Long: `Signin has the key sign a challenge, as a browser does when a site asks for it.
If the key has several accounts there, it asks which one. With --options, a site's
own options are used (PublicKeyCredentialRequestOptions in JSON), and --out gets the
response for the site.`,
		Example: `  fidoctl signin example.com
  fidoctl signin example.com --user ada@example.com --uv required
  fidoctl signin example.com --options options.json --out response.json`,
		Args: arguments,
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
	flags.StringVar(&user, "user", "", "use only this account, given by its `name` or at least the first 8 digits of its credential's ID")
	oneOf(c, &verify, "uv", "`whether` to verify the user", webauthn.Required, webauthn.Preferred, webauthn.Discouraged)
	flags.StringSliceVar(&credentials, "credential", nil, "the `ID` of a credential that the key does not keep")
	flags.StringVar(&options, "options", "", "a `file` with the site's options, - for standard input")
	flags.StringVar(&out, "out", "", "write the response for the site to this `file`")
	return c
}

func (p *program) signin(ctx context.Context, key *session, site, user string, options *webauthn.RequestOptions, out *outFile) (result, error) {
	origin, rpID, err := siteOf(site)
	if err != nil {
		return nil, err
	}
	rpID = cmp.Or(options.RPID, rpID)
	r := signinResult{Site: rpID}
	if user != "" {
		var listed [][]byte
		for _, c := range options.AllowCredentials {
			listed = append(listed, c.ID)
		}
		a, err := p.listedAccount(ctx, key, rpID, user, listed)
		if err != nil {
			return nil, err
		}
		if a != nil {
			r.User = a.name()
			options.AllowCredentials = []webauthn.CredentialDescriptor{{Type: "public-key", ID: webauthn.Base64URL(a.id)}}
		}
	}
	client := p.client(key, origin)
	client.ChooseAccount = func(ctx context.Context, known []webauthn.Account) (int, error) {
		accounts := make([]account, len(known))
		for i, a := range known {
			accounts[i] = account{hexBytes(a.CredentialID), a.User}
		}
		i, err := p.chooseAccount(ctx, accounts, user, rpID)
		if err == nil {
			r.User = accounts[i].name()
		}
		return i, err
	}
	response, err := client.Get(ctx, options)
	if err != nil {
		return nil, err
	}
	defer response.ClientExtensionResults.Wipe()
	if user != "" && r.User == "" && !(account{id: hexBytes(response.ID)}).has(user) { // the only account, whose name the key did not say
		return nil, fmt.Errorf("%w: the key does not say whether its account at %s is %q", errNoCredential, rpID, user)
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
