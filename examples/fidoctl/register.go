package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	Site         string          `json:"site"`
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
	site, user, displayName, userID      string
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
site asks for it. SITE is its domain, or its origin such as http://localhost:8080.
With --options, a site's own options are used (PublicKeyCredentialCreationOptions
in JSON), which name the user; --out gets the response for the site.`,
		Example: `  fidoctl register example.com ada@example.com --display-name 'Ada Lovelace'
  fidoctl register example.com ada --out ada.json && fidoctl verify example.com ada.json
  fidoctl register example.com --options options.json --out response.json`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.site = args[0]
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
		RP:                     webauthn.RelyingParty{Name: r.site},
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
			return nil, usagef("--algorithm %q is not supported", name)
		}
		o.PubKeyCredParams = append(o.PubKeyCredParams, webauthn.CredentialParameters{Type: "public-key", Algorithm: algorithm})
	}
	if r.protect != "" {
		o.Extensions.CredentialProtectionPolicy = protections[r.protect].String()
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
	if err := p.warnOfNamesake(ctx, key, r); err != nil {
		return nil, err
	}
	client := p.client(key, r.site)
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
	out := registerResult{Site: r.site, User: options.User.Name, ID: hexBytes(response.ID), Registration: forSite}
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

// warnOfNamesake says that the key has an account of this name at the site already,
// which a random user ID does not replace. It looks only where that takes nothing
// more of the person than the PIN, which registering takes as well, and where no
// recording tells of it.
func (p *program) warnOfNamesake(ctx context.Context, key *session, r *registration) error {
	o := key.Info().Options
	if r.options != "" || r.userID != "" || r.verify == webauthn.Discouraged || p.recording || !o[ctap2.OptionCredentialManagement] ||
		!o[ctap2.OptionClientPIN] || o[ctap2.OptionUserVerification] || o[ctap2.OptionNoMcGaPermissionsWithClientPIN] {
		return nil
	}
	accounts, err := p.accounts(ctx, key, rpIDOf(r.site))
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.user.Name == r.user {
			p.err.printf("The key has an account %s at %s already (%s): it keeps both.\n", r.user, r.site, a.id.short())
		}
	}
	return nil
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
func (p *program) client(key *session, site string) *webauthn.Client {
	origin := site
	if !strings.Contains(site, "://") {
		origin = "https://" + site
	}
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
