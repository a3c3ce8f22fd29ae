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
	var label, salt, user, format, verify string
	var credentials []string
	c := &cobra.Command{
		Use:   "secret SITE --label TEXT",
		Short: "Derive a secret from a credential, for scripts",
		Long: `Secret has a credential derive a secret of 32 bytes from a salt (hmac-secret): the
same one each time, which nobody has without the key. Encrypt a disk or a backup
with it. The credential must have been registered with --secret.
SITE is its domain, or its origin.

A key keeps two secrets for each credential: one is used after user verification,
and one without. The first is used here, unless --uv discouraged asks for the other.`,
		Example: `  fidoctl secret example.com --label backup
  fidoctl secret example.com --label disk --format raw | cryptsetup open --key-file - /dev/sdb1 data`,
		Args: cobra.ExactArgs(1),
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			salted := sha256.Sum256([]byte(label))
			request := ctap2.GetAssertionRequest{RPID: rpIDOf(args[0]), ClientDataHash: random(32)}
			switch {
			case (label == "") == (salt == ""):
				return nil, usagef("say one of --label and --salt")
			case salt != "":
				b, err := hex.DecodeString(salt)
				if err != nil || len(b) != len(salted) {
					return nil, usagef("--salt is not 32 bytes in hexadecimal")
				}
				copy(salted[:], b)
			}
			switch verify {
			case "required":
				request.UserVerification = ctap2.Required
			case "discouraged":
				request.UserVerification = ctap2.Discouraged
			default:
				return nil, usagef("--uv %q is neither required nor discouraged", verify)
			}
			switch format {
			case "hex", "base64", "raw":
			default:
				return nil, usagef("--format %q is none of hex, base64 and raw", format)
			}
			for _, s := range credentials {
				id, err := credentialID(s)
				if err != nil {
					return nil, err
				}
				request.AllowList = append(request.AllowList, ctap2.CredentialDescriptor{ID: id})
			}
			if format == "raw" && p.out.terminal && !p.json {
				return nil, usagef("--format raw is not for a terminal: it would be on the screen")
			}
			request.Extensions = []ctap2.Extension{ctap2.HMACSecret(salted[:])}
			return p.secret(ctx, key, &request, user, format)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&label, "label", "", "what the secret is for: the salt is the SHA-256 of this `text`")
	flags.StringVar(&salt, "salt", "", "the salt itself, 32 bytes in `hex`")
	flags.StringVar(&format, "format", "hex", "`how` to write it: hex, base64 or raw")
	flags.StringVar(&verify, "uv", "required", "`whether` to verify the user: required or discouraged")
	flags.StringVar(&user, "user", "", "the account's `name`: nobody else's secret will do")
	flags.StringSliceVar(&credentials, "credential", nil, "the `ID` of a credential that the key does not keep")
	complete(c, "format", func(context.Context) []string { return []string{"hex", "base64", "raw"} })
	complete(c, "uv", func(context.Context) []string { return []string{"required", "discouraged"} })
	return c
}

func (p *program) secret(ctx context.Context, key *session, request *ctap2.GetAssertionRequest, user, format string) (result, error) {
	if user != "" {
		var listed [][]byte
		for _, c := range request.AllowList {
			listed = append(listed, c.ID)
		}
		id, err := p.credentialOfUser(ctx, key, request.RPID, user, listed)
		if err != nil {
			return nil, err
		}
		if id != nil {
			request.AllowList = []ctap2.CredentialDescriptor{{ID: id}}
			user = ""
		}
	}
	assertions, err := key.GetAssertion(ctx, request)
	if err != nil {
		return nil, err
	}
	chosen := 0
	if len(assertions) > 1 || user != "" {
		var accounts []ctap2.User
		for _, a := range assertions {
			accounts = append(accounts, a.User)
		}
		if chosen, err = p.chooseAccount(ctx, accounts, user); err != nil {
			return nil, err
		}
	}
	output, err := ctap2.Output[*ctap2.HMACSecretOutput](assertions[chosen].Extensions)
	if err != nil {
		return nil, fmt.Errorf("hmac-secret: %w", err)
	}
	return secretResult{Site: request.RPID, ID: assertions[chosen].Credential.ID, Secret: output.Output1.Bytes(), format: format}, nil
}
