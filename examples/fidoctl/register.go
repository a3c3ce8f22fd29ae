package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// registerResult is a registration, in a form to read and in the one that the
// site gets.
type registerResult struct {
	Site         string          `json:"site" doc:"the relying party's ID"`
	User         string          `json:"user"`
	ID           hexBytes        `json:"id" doc:"the credential's"`
	Algorithm    string          `json:"algorithm"`
	Discoverable *bool           `json:"discoverable,omitempty" doc:"the key keeps it, so that no ID is needed to sign in; missing if a site's options do not ask"`
	UserVerified bool            `json:"userVerified"`
	AAGUID       ctap2.AAGUID    `json:"aaguid" doc:"the key's model, if it says so here"`
	Attestation  string          `json:"attestation" doc:"who vouches for the key: none, self, basic, or a format that is not known"`
	Registration json.RawMessage `json:"registration" doc:"for the site: RegistrationResponseJSON of WebAuthn, with base64url"`
}

func (r registerResult) text(w *printer) {
	w.in(green, "Registered %s at %s.\n", r.User, r.Site)
	w.printf("  credential     %s\n", r.ID)
	switch {
	case r.Discoverable == nil:
	case *r.Discoverable:
		w.printf("                 kept on the key\n")
	default:
		w.printf("                 not kept on the key: the site must store it\n")
	}
	w.printf("  algorithm      %s\n  user verified  %s\n  attestation    %s\n", r.Algorithm, yesNo(r.UserVerified), r.Attestation)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// registration is what the flags of the command say.
type registration struct {
	origin, rpID                         string // rpID unless the options say another one
	user, displayName, userID            string
	residentKey, verify, protect, attest string
	algorithms                           []string
	secret, blob                         bool
	options, out                         string
}

func (p *program) registerCommand() *cobra.Command {
	r := registration{residentKey: webauthn.Preferred, verify: webauthn.Preferred, attest: webauthn.AttestationDirect}
	c := &cobra.Command{
		Use:   "register SITE [USER]",
		Short: "Register the key with a site",
		Long: `Register makes a credential for an account at a site, as a browser does when the
site asks for it. SITE is its domain, or its address such as http://localhost:8080.
With --options, a site's own options are used (PublicKeyCredentialCreationOptions
in JSON), which name the user; --out gets the response for the site. It asks before
the key replaces a credential of the same account, as far as the key tells of it.`,
		Example: `  fidoctl register example.com ada@example.com --display-name 'Ada Lovelace'
  fidoctl register example.com ada --out ada.json && fidoctl verify example.com ada.json
  fidoctl register example.com --options options.json --out response.json`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.origin, r.rpID, err = siteOf(args[0]); err != nil {
				return err
			}
			switch {
			case len(args) == 2:
				r.user = args[1]
			case r.options == "":
				return usagef("USER is missing: without --options, say whose account it is")
			}
			return p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) { return p.register(ctx, key, &r) })(cmd, args)
		},
	}
	flags := c.Flags()
	flags.StringVar(&r.displayName, "display-name", "", "the person's `name`")
	flags.StringVar(&r.userID, "user-id", "", "the account's ID in `hex`; random by default")
	oneOf(c, &r.residentKey, "resident-key", "`whether` the key keeps the credential", webauthn.Required, webauthn.Preferred, webauthn.Discouraged)
	oneOf(c, &r.verify, "uv", "`whether` to verify the user", webauthn.Required, webauthn.Preferred, webauthn.Discouraged)
	oneOf(c, &r.protect, "protect", "`whether` its use needs user verification (credProtect)", "optional", "listed", "required")
	oneOf(c, &r.attest, "attestation", "`how` the key is attested", webauthn.AttestationNone, webauthn.AttestationDirect, webauthn.AttestationEnterprise)
	flags.StringSliceVar(&r.algorithms, "algorithm", []string{"ES256", "EdDSA", "RS256"}, "`names` of algorithms, the preferred one first")
	flags.BoolVar(&r.secret, "secret", true, "let fidoctl secret use the credential")
	flags.BoolVar(&r.blob, "blob", true, "let fidoctl blob use the credential")
	flags.StringVar(&r.options, "options", "", "a `file` with the site's options, - for standard input")
	flags.StringVar(&r.out, "out", "", "write the response for the site to this `file`")
	return c
}

// protections are the policies of credProtect, by the words for them.
var protections = map[string]ctap2.CredProtectPolicy{
	"optional": ctap2.UVOptional, "listed": ctap2.UVOptionalWithCredentialIDList, "required": ctap2.UVRequired,
}

// creationOptions returns what a site would ask for.
func (r *registration) creationOptions(p *program) (*webauthn.CreationOptions, error) {
	if r.options != "" {
		data, err := p.readFile(r.options)
		if err != nil {
			return nil, err
		}
		return webauthn.ParseCreationOptions(data)
	}
	o := &webauthn.CreationOptions{
		RP:                     webauthn.RelyingParty{ID: r.rpID, Name: r.rpID},
		User:                   webauthn.User{ID: random(16), Name: r.user, DisplayName: r.displayName},
		Challenge:              random(32),
		AuthenticatorSelection: webauthn.AuthenticatorSelection{ResidentKey: r.residentKey, UserVerification: r.verify},
		Attestation:            r.attest,
	}
	if r.userID != "" {
		id, err := hex.DecodeString(r.userID)
		if err != nil {
			return nil, usagef("--user-id must be hexadecimal")
		}
		o.User.ID = id
	}
	for _, name := range r.algorithms {
		algorithm, ok := algorithmNamed(name)
		if !ok {
			return nil, usagef("--algorithm %q is none of %v", name, cose.Algorithms())
		}
		o.PubKeyCredParams = append(o.PubKeyCredParams, webauthn.CredentialParameters{Type: "public-key", Algorithm: algorithm})
	}
	if r.protect != "" {
		o.Extensions.CredentialProtectionPolicy = protections[r.protect].String()
		o.Extensions.EnforceCredentialProtectionPolicy = true
	}
	if r.secret {
		o.Extensions.HMACCreateSecret = true
	}
	if r.blob {
		o.Extensions.LargeBlob = &webauthn.LargeBlobInputs{Support: webauthn.Preferred}
	}
	o.Extensions.CredProps = true
	return o, nil
}

func (p *program) register(ctx context.Context, key *session, r *registration) (result, error) {
	options, err := r.creationOptions(p)
	if err != nil {
		return nil, err
	}
	file, err := newOutFile(r.out)
	if err != nil {
		return nil, err
	}
	defer file.drop()
	r.rpID = cmp.Or(options.RP.ID, r.rpID)
	if enabled, known := key.Info().Options[ctap2.OptionEnterpriseAttestation]; r.options == "" && r.attest == webauthn.AttestationEnterprise && !enabled {
		if known {
			return nil, errEnterprise
		}
		p.err.printf("This key has no enterprise attestation: it gives another one.\n")
	}
	if err := p.lookBefore(ctx, key, r, options); err != nil {
		return nil, err
	}
	if len(options.User.Name) > certainName || len(options.User.DisplayName) > certainName {
		p.err.printf("A name has more than %d bytes: the key may keep only its beginning.\n", certainName)
	}
	client := p.client(key, r.origin)
	client.EnterpriseAttestation = 2 // platform-managed: this is the platform, and the person has said so
	response, err := client.Create(ctx, options)
	if err != nil {
		return nil, err
	}
	defer response.ClientExtensionResults.Wipe()
	forSite, err := json.Marshal(response)
	if err != nil {
		return nil, err
	}
	unwritten := file.fill(forSite) // the credential is there all the same
	out := registerResult{Site: r.rpID, User: options.User.Name, ID: hexBytes(response.ID), Registration: forSite}
	statement, credential, err := vouched(response.AttestationObject, response.ClientDataJSON)
	if p.playing != nil && credential != nil { // it was signed for the challenge of then
		statement, err = credential.Format, nil
	}
	if err != nil {
		return out, errors.Join(unwritten, err)
	}
	out.Attestation = statement
	out.Algorithm = credential.PublicKey.Algorithm.String()
	out.AAGUID = credential.AuthData.AAGUID
	out.UserVerified = credential.AuthData.Flags.Has(ctap2.FlagUserVerified)
	if props := response.ClientExtensionResults.CredProps; props != nil {
		out.Discoverable = props.RK
	}
	return out, unwritten
}

// certainName is how many bytes of a name every key keeps (WebAuthn §6.4.1).
const certainName = 64

// lookBefore asks before the key replaces a credential, of which it keeps one for
// each user ID of a site (§6.1.2), and says that it has an account of this name,
// which a random user ID does not replace. No recording tells of either.
func (p *program) lookBefore(ctx context.Context, key *session, r *registration, options *webauthn.CreationOptions) error {
	if p.recording {
		return nil
	}
	chosen := r.options != "" || r.userID != ""
	selection := options.AuthenticatorSelection
	keeps := selection.ResidentKey == webauthn.Required || selection.ResidentKey == webauthn.Preferred || selection.ResidentKey == "" && selection.RequireResidentKey
	accounts, err := p.accountsBefore(ctx, key, r, chosen && keeps)
	if chosen && errors.Is(err, ctap2.ErrNoPIN) && selection.ResidentKey == webauthn.Preferred {
		return nil // then the key is not to keep this one either
	}
	if err != nil {
		return err
	}
	for _, a := range accounts {
		excluded := slices.ContainsFunc(options.ExcludeCredentials, func(d webauthn.CredentialDescriptor) bool { return bytes.Equal(d.ID, a.id) })
		switch {
		case keeps && !excluded && bytes.Equal(a.user.ID, options.User.ID):
			p.err.printf("The key has this account at %s already, as %s (%s). Registering it again replaces that credential for good.\n", r.rpID, a.name(), a.id.short())
			if err := p.confirm(ctx, "Replace it?"); err != nil {
				return err
			}
		case !chosen && a.user.Name == r.user:
			p.err.printf("The key has an account %s at %s already (%s): it keeps both.\n", r.user, r.rpID, a.id.short())
		}
	}
	return nil
}

// accountsBefore lists the accounts that the key has at a site. Where one may be
// replaced, and it is not settled that it shall be, that may take another finger.
// Otherwise it takes nothing more of the person than the PIN, which registering
// takes as well.
func (p *program) accountsBefore(ctx context.Context, key *session, r *registration, replaces bool) ([]account, error) {
	on := key.Info().Options
	lists := on[ctap2.OptionCredentialManagement] && (on[ctap2.OptionClientPIN] || on[ctap2.OptionUserVerification])
	asksPIN := on[ctap2.OptionClientPIN] && !on[ctap2.OptionUserVerification] && !on[ctap2.OptionNoMcGaPermissionsWithClientPIN] &&
		r.verify != webauthn.Discouraged
	switch {
	case lists && (replaces && !p.yes || asksPIN && r.options == ""):
		return p.accounts(ctx, key, r.rpID)
	case lists || !replaces || !on[ctap2.OptionResidentKey]:
		return nil, nil
	}
	// Without a touch, a key tells of what it has not been told to protect.
	assertions, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID: r.rpID, ClientDataHash: random(32), UserVerification: ctap2.Discouraged, Silent: true,
	})
	if err != nil {
		return nil, context.Cause(ctx) // it has none, or does not say
	}
	var accounts []account
	for _, a := range assertions {
		accounts = append(accounts, account{a.Credential.ID, a.User})
	}
	return accounts, nil
}

// vouched checks the signature of a registration, and says who vouches for it.
// The credential comes with an error about the signature, too.
func vouched(object, clientDataJSON []byte) (string, *ctap2.Credential, error) {
	credential, err := attestation.ParseObject(object)
	if err != nil {
		return "", nil, err
	}
	hash := sha256.Sum256(clientDataJSON)
	statement, err := attestation.Verify(credential, hash[:])
	if errors.Is(err, attestation.ErrFormat) {
		return credential.Format, credential, nil
	}
	if err != nil {
		return "", credential, err
	}
	return statement.Type.String(), credential, nil
}

// client is the WebAuthn client for a site.
func (p *program) client(key *session, origin string) *webauthn.Client {
	return &webauthn.Client{Origin: origin, Authenticators: []*ctap2.Authenticator{key.Authenticator}}
}

func algorithmNamed(name string) (cose.Algorithm, bool) {
	for _, a := range cose.Algorithms() {
		if strings.EqualFold(a.String(), name) {
			return a, true
		}
	}
	return 0, false
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// credentialID reads a credential's ID: in hexadecimal as fidoctl writes it, or
// in base64url as sites do.
func credentialID(s string) ([]byte, error) {
	if id, err := hex.DecodeString(s); err == nil && len(id) > 0 {
		return id, nil
	}
	if id, err := base64.RawURLEncoding.DecodeString(s); err == nil && len(id) > 0 {
		return id, nil
	}
	return nil, usagef("%q is not a credential ID in hexadecimal or base64url", s)
}
