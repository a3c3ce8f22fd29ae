package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/attestation/metadata"
)

type policyResult struct {
	Passed       bool         `json:"passed"`
	Reason       string       `json:"reason,omitempty" doc:"why not"`
	AAGUID       ctap2.AAGUID `json:"aaguid" doc:"the model; zero if it is not known"`
	Format       string       `json:"format" doc:"of the attestation"`
	Attestation  string       `json:"attestation" doc:"who vouches for the key: none, self or basic"`
	Serial       hexBytes     `json:"serial,omitempty" doc:"of the key, in an enterprise attestation"`
	Certificates []string     `json:"certificates" doc:"the subjects, the one that vouches first"`
	Model        string       `json:"model,omitempty" doc:"its name in the metadata"`
	Level        string       `json:"level,omitempty" doc:"its level of certification in the metadata"`
}

func (r policyResult) text(w *printer) {
	w.printf("model         %s\n", r.AAGUID)
	if r.Model != "" {
		w.printf("              %s (%s)\n", r.Model, r.Level)
	}
	w.printf("attestation   %s, in the format %s\n", r.Attestation, r.Format)
	for _, c := range r.Certificates {
		w.printf("certificate   %s\n", c)
	}
	if len(r.Serial) > 0 {
		w.printf("serial        %s\n", r.Serial)
	}
	if r.Passed {
		w.in(green, "The key passes.\n")
	} else {
		w.in(red, "The key does not pass: %s\n", r.Reason)
	}
}

func (p *program) policyCommand() *cobra.Command {
	var allow, block []string
	var roots, blob, level string
	var required, enterprise bool
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check the key's model and who vouches for it",
		Long: `Policy has the key attest what it is, and says whether that meets the rules of the
flags. The key has to be touched, and stores nothing. The exit status is 12 if the
key does not pass. Without --required, a key that lies about its model gets past
--allow and --block. A software key (--virtual) is its own manufacturer's, who is
trusted unless --roots says whom to trust.`,
		Example: `  fidoctl policy
  fidoctl policy --allow a46047dc-c37c-4f85-b5fa-4745fd9c5b4b
  fidoctl policy --required --roots maker.pem
  fidoctl policy --metadata blob.jwt --level L1`,
		Args: arguments,
		RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
			if level != "" && blob == "" {
				return nil, usagef("--level needs --metadata, which says the level of each model")
			}
			if enabled, known := key.Info().Options[ctap2.OptionEnterpriseAttestation]; enterprise && known && !enabled {
				return nil, errEnterprise
			}
			policy := attestation.Policy{Required: required}
			var err error
			if policy.Allow, err = aaguids(allow); err != nil {
				return nil, err
			}
			if policy.Block, err = aaguids(block); err != nil {
				return nil, err
			}
			if level != "" {
				policy.MinimumLevel = attestation.Certified + attestation.Level(slices.Index(levelNames(), level))
			}
			if blob != "" {
				data, err := p.readFile(blob)
				if err != nil {
					return nil, err
				}
				if policy.Metadata, err = metadata.Parse(data, &metadata.Options{}); err != nil {
					return nil, err
				}
			}
			if roots != "" {
				pem, err := p.readFile(roots)
				if err != nil {
					return nil, err
				}
				policy.Roots = x509.NewCertPool()
				if !policy.Roots.AppendCertsFromPEM(pem) {
					return nil, fmt.Errorf("%w: %s", errRoots, roots)
				}
			} else if key.virtual != nil && key.virtual.AttestationRoot() != nil {
				policy.Roots = x509.NewCertPool() // its own maker
				policy.Roots.AddCert(key.virtual.AttestationRoot())
			}
			if !required && len(allow)+len(block) > 0 {
				p.err.printf("Without --required, a key that lies about its model gets past the lists.\n")
			}
			return checkPolicy(ctx, key, &policy, enterprise)
		}),
	}
	flags := c.Flags()
	flags.StringSliceVar(&allow, "allow", nil, "the `AAGUIDs` of the models that pass; no others do")
	flags.StringSliceVar(&block, "block", nil, "the `AAGUIDs` of models that do not pass")
	flags.BoolVar(&required, "required", false, "refuse keys that no certificate vouches for")
	flags.StringVar(&roots, "roots", "", "a `file` with certificates of manufacturers, in PEM")
	flags.StringVar(&blob, "metadata", "", "a `file` from https://mds3.fidoalliance.org/, with manufacturers and models")
	oneOf(c, &level, "level", "with --metadata, the lowest `certification` that passes", levelNames()...)
	flags.BoolVar(&enterprise, "enterprise", false, "refuse keys that give no attestation which identifies them")
	return c
}

func levelNames() []string {
	var names []string
	for l := attestation.Certified; l <= attestation.L3Plus; l++ {
		names = append(names, l.String())
	}
	return names
}

func checkPolicy(ctx context.Context, key *session, policy *attestation.Policy, enterprise bool) (result, error) {
	request := ctap2.MakeCredentialRequest{
		ClientDataHash:   random(32),
		RP:               ctap2.RelyingParty{ID: trialSite},
		User:             ctap2.User{ID: random(16), Name: "fidoctl"},
		Algorithms:       []cose.Algorithm{cose.ES256, cose.EdDSA, cose.RS256},
		UserVerification: ctap2.Discouraged,
	}
	if enterprise && key.Info().Options[ctap2.OptionEnterpriseAttestation] { // others may not know the parameter
		request.EnterpriseAttestation = 2
	}
	credential, err := key.MakeCredential(ctx, &request)
	if err != nil {
		return nil, err
	}
	statement, err := attestation.Verify(credential, request.ClientDataHash)
	if err != nil {
		return nil, err
	}
	r := policyResult{AAGUID: statement.AAGUID, Format: credential.Format, Attestation: statement.Type.String(),
		Serial: statement.SerialNumber, Certificates: []string{}}
	for _, c := range statement.Certificates {
		r.Certificates = append(r.Certificates, c.Subject.String())
	}
	if policy.Metadata != nil {
		if model := policy.Metadata.Model(statement); model != nil {
			r.Model, r.Level = model.Description, model.Level(time.Now()).String()
		}
	}
	err = policy.Check(statement)
	if err == nil && enterprise && !credential.EnterpriseAttestation {
		err = errors.New("no enterprise attestation was given")
	}
	if err != nil {
		r.Reason = err.Error()
		return r, shown{refused}
	}
	r.Passed = true
	return r, nil
}

// aaguids reads them in the form of UUIDs.
func aaguids(texts []string) ([]ctap2.AAGUID, error) {
	var all []ctap2.AAGUID
	for _, s := range texts {
		var a ctap2.AAGUID
		b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		if err != nil || copy(a[:], b) != len(a) || len(b) != len(a) {
			return nil, usagef("%q is not an AAGUID", s)
		}
		all = append(all, a)
	}
	return all, nil
}
