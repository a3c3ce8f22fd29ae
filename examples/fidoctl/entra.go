package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/csv"
	"errors"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/attestation/metadata"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/pin"
)

type compatibleResult struct {
	Compatible bool           `json:"compatible" doc:"as far as the key says"`
	Unknown    []string       `json:"unknown" doc:"required rules that the key says nothing about; --probe finds out"`
	AAGUID     ctap2.AAGUID   `json:"aaguid"`
	Findings   []entraFinding `json:"findings"`
}

type entraFinding struct {
	Rule     string `json:"rule"`
	Required bool   `json:"required" doc:"by Entra ID or Windows; others are advice"`
	Verdict  string `json:"verdict" doc:"met, not met or unknown"`
	Evidence string `json:"evidence" doc:"what the key says"`
	For      string `json:"for" doc:"what it is needed for"`
}

func (r compatibleResult) text(w *printer) {
	for _, f := range r.Findings {
		c, weight := faint, "advice"
		switch {
		case f.Verdict == entra.Met.String():
			c = green
		case f.Required && f.Verdict == entra.NotMet.String():
			c = red
		}
		if f.Required {
			weight = "required"
		}
		w.in(c, "%-8s", f.Verdict)
		w.printf(" %-8s  %s: %s\n                   for %s\n", weight, f.Rule, f.Evidence, f.For)
	}
	switch {
	case !r.Compatible:
		w.in(red, "The key does not meet the requirements of Entra ID and Windows.\n")
	case len(r.Unknown) > 0:
		w.printf("The key meets the requirements of Entra ID and Windows as far as it says; run --probe for: %s.\n", list(r.Unknown))
	default:
		w.in(green, "The key meets the requirements of Entra ID and Windows.\n")
	}
}

type provisionedResult struct {
	Results []entraKey `json:"results"`
}

type entraKey struct {
	User         string     `json:"user"`
	DisplayName  string     `json:"displayName,omitempty" doc:"of the key, in Entra's lists"`
	State        string     `json:"state" doc:"what the key and Entra have now"`
	AAGUID       string     `json:"aaguid,omitempty"`
	CredentialID hexBytes   `json:"credentialId,omitempty"`
	MethodID     string     `json:"methodId,omitempty" doc:"Entra's ID of the key"`
	Warnings     []string   `json:"warnings,omitempty"`
	Error        *errorText `json:"error,omitempty" doc:"why it went no further, as an error below"`
}

func entraKeyOf(r entra.Result) entraKey {
	k := entraKey{User: r.User, DisplayName: r.DisplayName, State: r.State.String(), CredentialID: r.CredentialID, Warnings: r.Warnings}
	if r.AAGUID != (ctap2.AAGUID{}) {
		k.AAGUID = r.AAGUID.String()
	}
	if r.Method != nil {
		k.MethodID = r.Method.ID
	}
	if r.Err != nil {
		k.Error = errorTextOf(r.Err)
	}
	return k
}

func (r provisionedResult) text(w *printer) {
	for _, k := range r.Results {
		c := green
		if k.Error != nil {
			c = red
		}
		w.in(c, "%s: %s\n", k.User, k.State)
		for _, warning := range k.Warnings {
			w.printf("  %s\n", warning)
		}
		if k.Error != nil {
			w.printf("  %s\n", strings.TrimSpace(k.Error.What+" "+k.Error.Next))
			w.in(faint, "  (%s)\n", k.Error.Detail)
		}
	}
}

type entraMethodsResult struct {
	Keys []entraMethod `json:"keys"`
}

type entraMethod struct {
	MethodID    string    `json:"methodId"`
	DisplayName string    `json:"displayName"`
	Created     time.Time `json:"created"`
	AAGUID      string    `json:"aaguid"`
	Model       string    `json:"model"`
}

func (r entraMethodsResult) text(w *printer) {
	for _, m := range r.Keys {
		w.in(bold, "%s\n", cmp.Or(m.DisplayName, "an unnamed key"))
		w.printf("  %s %s, since %s\n  %s\n", m.Model, m.AAGUID, m.Created.Format(time.DateOnly), m.MethodID)
	}
	w.printf("%s\n", count(len(r.Keys), "key", "keys"))
}

// entraSite is the relying party that Microsoft's accounts on a key are for.
const entraSite = "login.microsoft.com"

// getToken is one way to get an access token for Graph.
const getToken = "az account get-access-token --resource-type ms-graph --query accessToken --output tsv"

// graphFlags say how to reach Microsoft Graph.
type graphFlags struct {
	tokenFile, url string
	challenge      time.Duration
}

func (g *graphFlags) add(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&g.tokenFile, "token-file", "", "the `file` with the access token for Graph, read again for each call")
	c.Flags().StringVar(&g.url, "graph", "", "the `URL` of Graph, such as https://graph.microsoft.com/beta; v1.0 by default")
	return c
}

func (g *graphFlags) client() (*entra.Client, error) {
	if g.tokenFile == "" {
		return nil, usagef("--token-file is missing; '%s > token' writes one", getToken)
	}
	return &entra.Client{
		BaseURL: g.url, ChallengeTimeout: g.challenge,
		Token: func(context.Context) (string, error) {
			data, err := os.ReadFile(g.tokenFile)
			if err != nil {
				return "", fmt.Errorf("%w: %w", errFile, err)
			}
			token := strings.TrimSpace(string(data))
			if token == "" {
				return "", usagef("the token file is empty; '%s > token' writes one", getToken)
			}
			return token, nil
		},
	}, nil
}

func (p *program) entraCommand() *cobra.Command {
	var probe bool
	check := &cobra.Command{
		Use:   "check",
		Short: "Check a key against the requirements of Entra ID and Windows",
		Long: `Check compares what the key says about itself with what Microsoft requires. A key
does not say whether it can have several accounts: --probe makes two, with two
touches, and deletes them. The exit status is 12 if the key does not qualify.`,
		Example: "  fidoctl entra check\n  fidoctl entra check --probe",
		Args:    arguments,
		RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
			return checkEntra(ctx, key, probe)
		}),
	}
	check.Flags().BoolVar(&probe, "probe", false, "find out whether the key can have several accounts")
	return group("entra", "Hand out keys for Microsoft Entra ID, and take them back", "  fidoctl entra check",
		check, p.entraProvisionCommand(), p.entraKeysCommand(), p.entraDeprovisionCommand(), p.entraRenameCommand())
}

func checkEntra(ctx context.Context, key *session, probe bool) (result, error) {
	report := entra.Compatible(key.Info())
	if probe {
		if err := report.ProbeAccounts(ctx, key.Authenticator); err != nil {
			return nil, err
		}
	}
	r := compatibleResult{Compatible: report.Err() == nil, AAGUID: report.AAGUID, Unknown: []string{}}
	for _, f := range report.Findings {
		r.Findings = append(r.Findings, entraFinding{f.Rule, f.Required, f.Verdict.String(), f.Evidence, f.For})
		if f.Required && f.Verdict == entra.Unknown {
			r.Unknown = append(r.Unknown, f.Rule)
		}
	}
	if !r.Compatible {
		return r, shown{refused}
	}
	return r, nil
}

// A handout is what the flags of provision say.
type handout struct {
	graphFlags
	metadata, pins string
	forceChange    bool
	device         string // that --device names
	devices        map[entra.Assignment]string
	noted          *os.File // for the random PINs
	current        *session
	used           []usedKey
}

// A usedKey is a key that somebody has got in this run.
type usedKey struct {
	name         string
	credentialID []byte // nil if it got none
}

func (p *program) entraProvisionCommand() *cobra.Command {
	var h handout
	c := &cobra.Command{
		Use:   "provision FILE",
		Short: "Register keys for users, from a CSV file",
		Long: `Provision registers a key for each line of a CSV file: the user, the name of the key
in Entra's lists, and, optionally, which key it is, as for --device. It asks for the
keys one after the other, sets a PIN on those that have none, and reports for each
what the key and Entra have now. FILE may be -. No key is given to two users. With
--yes it does not ask for the next key, so that each of several lines must say which
key it is.

    ada@contoso.com,blue key
    bob@contoso.com,red key,26817291

A random PIN is written to its file before it is set. If the key fails then, "fidoctl
pin check" shows whether the PIN is set; if it is not, delete its line.

The access token needs the permission UserAuthenticationMethod.ReadWrite.All. The
Azure CLI's own for a person may lack it; that of an application which an
administrator has granted it to has it (az login --service-principal).`,
		Example: `  fidoctl entra provision users.csv --token-file token
  fidoctl entra provision users.csv --token-file token --random-pins pins.csv --force-pin-change`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := p.provision(cmd.Context(), &h, args[0])
			if r != nil {
				p.show(r)
			}
			return err
		},
	}
	flags := h.add(c).Flags()
	flags.DurationVar(&h.challenge, "challenge-timeout", 0, "how `long` Entra waits for the keys; more than 5 minutes needs Graph's beta")
	flags.StringVar(&h.metadata, "metadata", "", "refuse the keys that Entra would: a `file` from https://mds3.fidoalliance.org/")
	flags.StringVar(&h.pins, "random-pins", "", "give keys without a PIN a random one, and add user and PIN to this `file`, which nobody else may read")
	flags.BoolVar(&h.forceChange, "force-pin-change", false, "require the users to change the PIN before they use the key")
	return c
}

func (p *program) provision(ctx context.Context, h *handout, file string) (result, error) {
	client, err := h.client()
	if err != nil {
		return nil, err
	}
	data, err := p.readFile(file)
	if err != nil {
		return nil, err
	}
	work := entra.Provisioning{
		Key: func(ctx context.Context, a entra.Assignment) (*ctap2.Authenticator, error) {
			return p.nextKey(ctx, h, a)
		},
		Done:     func(ctx context.Context, _ *ctap2.Authenticator, r *entra.Result) { h.done(ctx, p, r) },
		Progress: func(r entra.Result) { p.err.printf("%s: %s\n", r.User, r.State) },
	}
	reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte(byteOrderMark))))
	reader.Comment, reader.FieldsPerRecord, reader.TrimLeadingSpace = '#', -1, true
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, usagef("%s is not a CSV file: %w", file, err)
	}
	for i, row := range rows {
		if len(row) < 2 || len(row) > 3 {
			return nil, usagef("line %d of %s has %s, and must have a user, a name for the key and, optionally, which key", i+1, file, count(len(row), "field", "fields"))
		}
		if p.yes && len(rows) > 1 && deviceIn(row) == "" {
			return nil, usagef("line %d of %s does not say which key it is, as it must with --yes", i+1, file)
		}
	}
	if len(rows) == 0 {
		return nil, usagef("there are no users in %s", file)
	}
	if h.metadata != "" {
		data, err := p.readFile(h.metadata)
		if err != nil {
			return nil, err
		}
		known, err := metadata.Parse(data, &metadata.Options{})
		if err != nil {
			return nil, err
		}
		work.Policy = &attestation.Policy{Required: true, Metadata: known, MinimumLevel: attestation.Certified}
	}
	if h.pins != "" {
		if h.noted, err = openPINs(h.pins); err != nil {
			return nil, err
		}
		defer h.noted.Close()
	}
	p.handsOut, h.device = true, p.device
	defer p.forget()
	var r provisionedResult
	var failed error
	for len(rows) > 0 {
		// The library tells of a row by its user and name alone: those that begin
		// with the same two are for another call.
		work.Assignments, h.devices = nil, make(map[entra.Assignment]string)
		for _, row := range rows {
			a := entra.Assignment{User: row[0], DisplayName: row[1]}
			if _, ok := h.devices[a]; ok {
				break
			}
			work.Assignments, h.devices[a] = append(work.Assignments, a), deviceIn(row)
		}
		rows = rows[len(work.Assignments):]
		for _, one := range client.Provision(ctx, &work) {
			r.Results = append(r.Results, entraKeyOf(one))
			if failed == nil {
				failed = one.Err
			}
		}
	}
	if failed != nil {
		return r, shown{explain(failed).kind}
	}
	return r, nil
}

// nextKey opens the key for a user, and sees to it that it has a PIN.
func (p *program) nextKey(ctx context.Context, h *handout, a entra.Assignment) (*ctap2.Authenticator, error) {
	p.forget() // the PIN of the key before costs this one a try
	p.device = cmp.Or(h.devices[a], h.device)
	if err := p.pause(ctx, "Attach the key for %s (%s), and no other, then press Enter.", a.User, a.DisplayName); err != nil {
		return nil, err
	}
	key, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	err = h.unused(ctx, p, key)
	if set, ok := key.Info().Options[ctap2.OptionClientPIN]; err == nil && ok && !set {
		err = p.firstPIN(ctx, h, key, a.User)
	}
	if err != nil {
		p.given.Wipe()
		return nil, errors.Join(err, key.close())
	}
	h.current = key
	h.used = append(h.used, usedKey{name: key.name})
	return key.Authenticator, nil
}

// unused refuses a key that somebody has got before: one that holds a credential
// of this run, which it says without a touch. Where nobody has been asked for
// another key, one of the same name is the same one.
func (h *handout) unused(ctx context.Context, p *program, key *session) error {
	var made []ctap2.CredentialDescriptor
	for _, u := range h.used {
		if p.yes && u.name == key.name {
			return errUsedBefore
		}
		if u.credentialID != nil {
			made = append(made, ctap2.CredentialDescriptor{ID: u.credentialID})
		}
	}
	if len(made) == 0 {
		return nil
	}
	_, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID: entraSite, ClientDataHash: random(32), AllowList: made, UserVerification: ctap2.Discouraged, Silent: true,
	})
	if err == nil {
		return errUsedBefore
	}
	return nil // a key that cannot be asked so is refused by its name alone
}

// deviceIn is the key that a row names, if it does.
func deviceIn(row []string) string {
	if len(row) < 3 {
		return ""
	}
	return row[2]
}

// firstPIN sets the PIN of a key that is handed out.
func (p *program) firstPIN(ctx context.Context, h *handout, key *session, user string) error {
	if h.pins == "" {
		entered, err := p.newPIN(ctx, key.Info())
		if err != nil {
			return err
		}
		p.given = entered // which the caller wipes
		return key.SetPIN(ctx, entered)
	}
	// Some keys refuse some PINs, and do not say which.
	for tries := 10; ; tries-- {
		chosen, err := randomPIN(key.Info())
		if err != nil {
			return err
		}
		p.given.Wipe()
		p.given = chosen
		end, err := h.note(user, chosen)
		if err != nil {
			return err
		}
		err = key.SetPIN(ctx, chosen)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ctap2.ErrPINPolicyViolation):
			p.err.printf("It is not known whether the PIN for %s in the last line of %s is set: \"fidoctl pin check\" shows it. If it is not, delete the line.\n", user, h.pins)
			return err
		}
		if cut := h.noted.Truncate(end); cut != nil {
			return errors.Join(err, fmt.Errorf("%w: delete the last line, for %s: %w", errFile, user, cut))
		}
		if tries == 0 {
			return err
		}
	}
}

// openPINs opens the file that random PINs are added to.
func openPINs(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFile, err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("PINs cannot be kept in %s", name)
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		err = fmt.Errorf("others may read %s: use chmod 600", name)
	default:
		return file, nil
	}
	return nil, errors.Join(fmt.Errorf("%w: %w", errFile, err), file.Close())
}

// note writes down who has which PIN, for good, and returns how long the file
// was before.
func (h *handout) note(user string, chosen pin.Secret) (end int64, err error) {
	info, err := h.noted.Stat()
	if err == nil {
		end = info.Size()
		w := csv.NewWriter(h.noted)
		err = w.Write([]string{user, string(chosen.Bytes())})
		w.Flush()
		err = cmp.Or(err, w.Error())
	}
	if err == nil {
		err = h.noted.Sync()
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFile, err)
	}
	return end, nil
}

// done does what comes last with a key.
func (h *handout) done(ctx context.Context, p *program, r *entra.Result) {
	p.forget()
	h.used[len(h.used)-1].credentialID = r.CredentialID
	if h.forceChange && r.State == entra.Registered {
		if err := h.current.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{ForceChangePIN: true}); err != nil {
			r.Warnings = append(r.Warnings, "the PIN need not be changed: "+explain(err).What)
		}
	}
	if err := h.current.close(); err != nil {
		r.Warnings = append(r.Warnings, explain(err).What)
	}
}

// randomPIN returns a PIN of digits, as long as the key wants and six at least.
func randomPIN(info *ctap2.Info) (pin.Secret, error) {
	digits := make([]byte, max(6, info.MinPINLength))
	for i := range digits {
		n, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			return pin.Secret{}, err
		}
		digits[i] = '0' + byte(n.Int64())
	}
	return pin.NewSecret(digits), nil
}

func (p *program) entraKeysCommand() *cobra.Command {
	var g graphFlags
	return g.add(&cobra.Command{
		Use:     "keys USER",
		Short:   "List the keys that Entra has for a user",
		Example: "  fidoctl entra keys ada@contoso.com --token-file token",
		Args:    named,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			methods, err := client.Methods(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r := entraMethodsResult{[]entraMethod{}}
			for _, m := range methods {
				r.Keys = append(r.Keys, entraMethod{m.ID, m.DisplayName, m.CreatedDateTime, m.AAGUID, m.Model})
			}
			p.show(r)
			return nil
		},
	})
}

func (p *program) entraDeprovisionCommand() *cobra.Command {
	var g graphFlags
	var method, credential string
	var withoutKey bool
	c := &cobra.Command{
		Use:   "deprovision USER",
		Short: "Remove a user's key",
		Long: `Deprovision removes a key from Entra, and then deletes the account from the key. It
takes the account with the user's name on the attached key, unless --method or
--credential says which one. With --without-key, it only removes the key from Entra.`,
		Example: `  fidoctl entra deprovision ada@contoso.com --token-file token
  fidoctl entra deprovision ada@contoso.com --token-file token --without-key --method 7ebzDmVTSreLsJkrjm1mNA2`,
		Args: named,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			d := entra.Deprovisioning{User: args[0], MethodID: method}
			if credential != "" {
				if d.CredentialID, err = credentialID(credential); err != nil {
					return err
				}
			}
			if !withoutKey {
				return p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
					return p.deprovision(ctx, client, &d, key)
				})(cmd, args)
			}
			if method == "" && credential == "" {
				return usagef("give --method or --credential to say which key")
			}
			r, err := p.deprovision(cmd.Context(), client, &d, nil)
			if r != nil {
				p.show(r)
			}
			return err
		},
	}
	flags := g.add(c).Flags()
	flags.StringVar(&method, "method", "", "which key, by its `ID` in Entra (fidoctl entra keys)")
	flags.StringVar(&credential, "credential", "", "which key, by the credential's `ID`")
	flags.BoolVar(&withoutKey, "without-key", false, "the key is not at hand")
	return c
}

func (p *program) deprovision(ctx context.Context, client *entra.Client, d *entra.Deprovisioning, key *session) (result, error) {
	if key != nil {
		d.Key = key.Authenticator
		if d.MethodID == "" && d.CredentialID == nil {
			credentials, token, err := key.credentials(ctx, entraSite)
			if err != nil {
				return nil, err
			}
			defer wipe(token, credentials)
			c, err := find(credentials, d.User)
			if err != nil {
				return nil, err
			}
			d.CredentialID = c.Credential.ID
		}
	}
	if err := p.confirm(ctx, "%s will no longer be able to sign in with this key. Continue?", d.User); err != nil {
		return nil, err
	}
	outcome := client.Deprovision(ctx, d)
	r := provisionedResult{[]entraKey{entraKeyOf(outcome)}}
	if outcome.Err != nil {
		return r, shown{explain(outcome.Err).kind}
	}
	return r, nil
}

func (p *program) entraRenameCommand() *cobra.Command {
	var displayName string
	c := &cobra.Command{
		Use:   "rename OLD NEW",
		Short: "Rename an account on a key, for a user whose name has changed",
		Long: `Rename changes the name that is shown when an account is chosen, and checks that the
credential works as before. Entra identifies the account by an ID, which stays;
Microsoft's own advice is to register the key again.`,
		Example: "  fidoctl entra rename ada@contoso.com ada.lovelace@contoso.com",
		Args:    named,
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			renamed, err := entra.RenameAccount(ctx, key.Authenticator, &entra.RenameRequest{
				RPID: entraSite, OldName: args[0], Name: args[1], DisplayName: displayName,
			})
			if err != nil {
				return nil, err
			}
			return done{fmt.Sprintf("Renamed %s to %s.", renamed.Before.Name, renamed.After.Name)}, nil
		}),
	}
	c.Flags().StringVar(&displayName, "display-name", "", "the person's `name`")
	return c
}
