package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

func (p *program) configCommand() *cobra.Command {
	var sites []string
	minPINLength := &cobra.Command{
		Use:   "min-pin-length LENGTH",
		Short: "Require longer PINs",
		Long: `Min-pin-length raises the minimum length of PINs, which only a reset lowers again. A
current PIN that is shorter must be changed before it can be used again. The sites
that --tell names are allowed to see the length.`,
		Example: `  fidoctl config min-pin-length 6
  fidoctl config min-pin-length 8 --tell login.example.com`,
		Args: arguments,
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 || n > longestPIN {
				return nil, usagef("LENGTH must be a number of 1 to %d, not %q", longestPIN, args[0])
			}
			rpIDs := make([]string, len(sites))
			for i, s := range sites {
				rpIDs[i] = rpIDOf(s)
			}
			info := key.Info()
			switch {
			case !info.Options[ctap2.OptionSetMinPINLength]: // which the library says
			case n < info.MinPINLength:
				return nil, fmt.Errorf("%w: the minimum is %d already, and can only grow until a reset", errMinimum, info.MinPINLength)
			case len(sites) > info.MaxRPIDsForSetMinPINLength && info.MaxRPIDsForSetMinPINLength > 0: // not all keys say it
				return nil, fmt.Errorf("%w: the key lets at most %s see the length, not %d", errSites, count(info.MaxRPIDsForSetMinPINLength, "site", "sites"), len(sites))
			}
			if n > info.MinPINLength && info.Options[ctap2.OptionClientPIN] {
				p.err.printf("If the current PIN is shorter, it must be changed before it can be used again.\n")
			}
			return p.setUpForGood(ctx, key, ctap2.OptionSetMinPINLength, fmt.Sprintf("New PINs must have at least %d characters", n), func(token *ctap2.Token) error {
				err := key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{NewMinPINLength: n, MinPINLengthRPIDs: rpIDs, Token: token})
				var refusal *ctap2.Error
				switch {
				case !errors.As(err, &refusal) || refusal.Command != authenticatorConfig: // but on the way there
				// What these mean elsewhere is about a PIN, and about credentials.
				case errors.Is(err, ctap2.ErrPINPolicyViolation):
					err = fmt.Errorf("%w: %w: the key does not accept this minimum", err, errMinimum)
				case errors.Is(err, ctap2.ErrKeyStoreFull):
					err = fmt.Errorf("%w: %w: the key has no room for as many sites", err, errSites)
				}
				return err
			})
		}),
	}
	minPINLength.Flags().StringSliceVar(&sites, "tell", nil, "`sites` that are allowed to see the length; they replace the previous ones")
	return group("config", "Change how the key behaves", "  fidoctl config always-uv on\n  fidoctl info    # shows what is set",
		&cobra.Command{
			Use:       "always-uv on|off",
			Short:     "Have the key verify its user always, or only where a site wants it",
			Example:   "  fidoctl config always-uv on",
			ValidArgs: []string{"on", "off"},
			Args:      arguments,
			RunE:      p.withKey(alwaysUV),
		},
		minPINLength,
		&cobra.Command{
			Use:   "force-pin-change",
			Short: "Require the PIN to be changed before the key is used again",
			Long:  "Force-pin-change is for keys that are handed out with a PIN: until it is changed, it\ncan be used for nothing else.",
			Example: `  fidoctl pin set
  fidoctl config force-pin-change`,
			Args: arguments,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return configure(ctx, key, ctap2.OptionSetMinPINLength, "The PIN must be changed before it can be used again.", func(token *ctap2.Token) error {
					return key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{ForceChangePIN: true, Token: token})
				})
			}),
		},
		&cobra.Command{
			Use:     "pin-complexity",
			Short:   "Have the key refuse PINs that are too simple",
			Long:    "A current PIN that is too simple must be changed before it can be used again.",
			Example: "  fidoctl config pin-complexity",
			Args:    arguments,
			RunE:    p.withKey(p.refuseSimplePINs),
		},
		&cobra.Command{
			Use:     "enterprise-attestation",
			Short:   "Let the key identify itself to sites that may ask for it",
			Example: "  fidoctl config enterprise-attestation",
			Args:    arguments,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return p.setUpForGood(ctx, key, ctap2.OptionEnterpriseAttestation, "The key will give its serial number to sites that may ask for it", func(token *ctap2.Token) error {
					return key.EnableEnterpriseAttestation(ctx, token)
				})
			}),
		},
		&cobra.Command{
			Use:     "long-touch",
			Short:   "Require a touch of five seconds to reset the key",
			Example: "  fidoctl config long-touch",
			Args:    arguments,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return p.setUpForGood(ctx, key, ctap2.OptionAuthenticatorConfig, "A reset will require a touch of five seconds", func(token *ctap2.Token) error {
					err := key.EnableLongTouchForReset(ctx, token)
					if errors.Is(err, ctap2.ErrInvalidParameter) { // some say so of a subcommand that they lack
						err = fmt.Errorf("%w: %w", ctap2.ErrUnsupported, err)
					}
					return err
				})
			}),
		})
}

// refuseSimplePINs looks at the key before and after: one that does not know the
// parameter may ignore it.
func (p *program) refuseSimplePINs(ctx context.Context, key *session, _ []string) (result, error) {
	info := key.Info()
	if info.PINComplexityPolicy == nil {
		return nil, ctap2.ErrUnsupported
	}
	if !*info.PINComplexityPolicy && info.Options[ctap2.OptionClientPIN] {
		p.err.printf("If the current PIN is too simple, it must be changed before it can be used again.\n")
	}
	return p.setUpForGood(ctx, key, ctap2.OptionSetMinPINLength, "The key will refuse simple PINs", func(token *ctap2.Token) error {
		if err := key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{PINComplexityPolicy: true, Token: token}); err != nil {
			return err
		}
		now, err := key.GetInfo(ctx)
		if err == nil && (now.PINComplexityPolicy == nil || !*now.PINComplexityPolicy) {
			err = ctap2.ErrUnsupported
		}
		return err
	})
}

// authenticatorConfig is a command's number (§6.11).
const authenticatorConfig = 0x0D

// alwaysUV toggles it if it is not as wanted.
func alwaysUV(ctx context.Context, key *session, args []string) (result, error) {
	want := args[0] == "on"
	is, ok := key.Info().Options[ctap2.OptionAlwaysUV]
	switch {
	case !ok:
		return nil, ctap2.ErrUnsupported
	case is == want:
		return done{"It is already " + args[0] + "."}, nil
	}
	return configure(ctx, key, ctap2.OptionAlwaysUV, "It is "+args[0]+" now.", func(token *ctap2.Token) error { return key.ToggleAlwaysUV(ctx, token) })
}

// setUpForGood asks before it does what only a reset takes back.
func (p *program) setUpForGood(ctx context.Context, key *session, option, what string, do func(*ctap2.Token) error) (result, error) {
	if err := p.confirm(ctx, "%s, until the key is reset. Continue?", what); err != nil {
		return nil, err
	}
	return configure(ctx, key, option, what+".", do)
}

// configure does something that takes an option, with a token, which may be nil, and
// says what.
func configure(ctx context.Context, key *session, option, what string, do func(*ctap2.Token) error) (result, error) {
	if _, known := key.Info().Options[option]; !known {
		return nil, ctap2.ErrUnsupported // before the PIN is asked for
	}
	token, err := key.given(ctx, ctap2.PermissionAuthenticatorConfig, "")
	if err != nil {
		return nil, err
	}
	if token != nil {
		defer token.Wipe()
	}
	if err := do(token); err != nil {
		return nil, err
	}
	return done{what}, nil
}
