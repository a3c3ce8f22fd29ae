package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

type secretResult struct {
	Site   string   `json:"site"`
	ID     hexBytes `json:"id" doc:"the credential's"`
	Secret hexBytes `json:"secret" doc:"32 bytes"`
	format string
}

func (r secretResult) text(w *printer) {
	switch r.format {
	case "raw":
		w.Write(r.Secret)
	case "base64":
		w.printf("%s\n", base64.StdEncoding.EncodeToString(r.Secret))
	default:
		w.printf("%s\n", r.Secret)
	}
}

func (p *program) secretCommand() *cobra.Command {
	format, verify := "hex", "required"
	var label, salt, user string
	var credentials []string
	c := &cobra.Command{
		Use:   "secret SITE --label TEXT",
		Short: "Derive a secret from a credential, for scripts",
		Long: `Secret has a credential derive a secret of 32 bytes from a salt (hmac-secret): the
same one each time, which nobody can derive without the key. Encrypt a disk or a
backup with it. On many keys the credential must have been registered for that, which
"register" does unless told --secret=false. SITE is its domain, its address, or
another RP ID, such as ssh:.

A key holds two secrets for each credential: one for use with user verification,
and one for use without. This command uses the first, unless --uv discouraged asks
for the other.`,
		Example: `  fidoctl secret example.com --label backup
  fidoctl secret example.com --label disk --format raw | cryptsetup open --key-file - /dev/sdb1 data`,
		Args: arguments,
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			if err := p.notPlayed("secrets"); err != nil {
				return nil, err
			}
			salted := sha256.Sum256([]byte(label))
			request := ctap2.GetAssertionRequest{RPID: rpIDOf(args[0]), ClientDataHash: random(32)}
			switch {
			case (label == "") == (salt == ""):
				return nil, usagef("give either --label or --salt")
			case salt != "":
				b, err := hex.DecodeString(salt)
				if err != nil || len(b) != len(salted) {
					return nil, usagef("--salt is not 32 bytes in hexadecimal")
				}
				copy(salted[:], b)
			}
			request.UserVerification = ctap2.Required
			if verify == "discouraged" {
				request.UserVerification = ctap2.Discouraged
			}
			for _, s := range credentials {
				id, err := credentialID(s)
				if err != nil {
					return nil, err
				}
				request.AllowList = append(request.AllowList, ctap2.CredentialDescriptor{ID: id})
			}
			if format == "raw" && p.out.terminal && !p.json {
				return nil, usagef("--format raw is not for a terminal, which would show the secret")
			}
			request.Extensions = []ctap2.Extension{ctap2.HMACSecret(salted[:])}
			return p.secret(ctx, key, &request, user, format)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&label, "label", "", "what the secret is for: the salt is the SHA-256 of this `text`")
	flags.StringVar(&salt, "salt", "", "the salt itself, 32 bytes in `hex`")
	oneOf(c, &format, "format", "`how` to write it", "hex", "base64", "raw")
	oneOf(c, &verify, "uv", "`whether` to verify the user", "required", "discouraged")
	flags.StringVar(&user, "user", "", "use only this account, given by its `name` or at least the first 8 digits of its credential's ID")
	flags.StringSliceVar(&credentials, "credential", nil, "the `ID` of a credential that the key does not keep")
	return c
}

func (p *program) secret(ctx context.Context, key *session, request *ctap2.GetAssertionRequest, user, format string) (result, error) {
	if user != "" {
		var listed [][]byte
		for _, c := range request.AllowList {
			listed = append(listed, c.ID)
		}
		a, err := p.listedAccount(ctx, key, request.RPID, user, listed)
		if err != nil {
			return nil, err
		}
		if a != nil {
			request.AllowList = []ctap2.CredentialDescriptor{{ID: a.id}}
			user = ""
		}
	}
	if on := key.Info().Options; request.UserVerification == ctap2.Required && !on[ctap2.OptionNoMcGaPermissionsWithClientPIN] {
		var err error
		if request.Token, err = key.given(ctx, ctap2.PermissionGetAssertion, request.RPID); err != nil {
			return nil, err
		}
		if request.Token != nil {
			defer request.Token.Wipe()
		}
	}
	assertions, err := key.GetAssertion(ctx, request)
	if err != nil {
		return nil, err
	}
	chosen := 0
	if len(assertions) > 1 || user != "" {
		var accounts []account
		for _, a := range assertions {
			accounts = append(accounts, account{a.Credential.ID, a.User})
		}
		if chosen, err = p.chooseAccount(ctx, accounts, user, request.RPID); err != nil {
			return nil, err
		}
	}
	output, err := ctap2.Output[*ctap2.HMACSecretOutput](assertions[chosen].Extensions)
	if err != nil {
		return nil, fmt.Errorf("hmac-secret: %w", err)
	}
	return secretResult{Site: request.RPID, ID: assertions[chosen].Credential.ID, Secret: output.Output1.Bytes(), format: format}, nil
}
