package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

func (p *program) configCommand() *cobra.Command {
	var sites []string
	minPINLength := &cobra.Command{
		Use:   "min-pin-length LENGTH",
		Short: "Have PINs be longer",
		Long: `Min-pin-length raises the least length of PINs, which only a reset lowers again. If
the PIN that is set is shorter, it has to be changed before it is used again. The
sites that --tell names may learn the length.`,
		Example: `  fidoctl config min-pin-length 6
  fidoctl config min-pin-length 8 --tell login.example.com`,
		Args: cobra.ExactArgs(1),
		RunE: p.withKey(func(ctx context.Context, key *session, args []string) (result, error) {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return nil, usagef("%q is no length", args[0])
			}
			if info := key.Info(); n > info.MinPINLength && info.Options[ctap2.OptionClientPIN] {
				p.err.printf("If the present PIN is shorter, it will have to be changed before it is used again.\n")
			}
			return p.setUpForGood(ctx, fmt.Sprintf("PINs will have %d characters or more", n), func() error {
				return key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{NewMinPINLength: n, MinPINLengthRPIDs: sites})
			})
		}),
	}
	minPINLength.Flags().StringSliceVar(&sites, "tell", nil, "`sites` that may learn the length, in place of those of before")
	return group("config", "Change how the key behaves", "  fidoctl config always-uv on\n  fidoctl info    # shows what is set",
		&cobra.Command{
			Use:       "always-uv on|off",
			Short:     "Have the key verify its user each time, or where a site wants it",
			Example:   "  fidoctl config always-uv on",
			ValidArgs: []string{"on", "off"},
			Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
			RunE:      p.withKey(alwaysUV),
		},
		minPINLength,
		&cobra.Command{
			Use:   "force-pin-change",
			Short: "Have whoever uses the key next change its PIN first",
			Long:  "Force-pin-change makes the PIN good for one thing alone, to be changed: for keys that\nare handed out with a PIN.",
			Example: `  fidoctl pin set
  fidoctl config force-pin-change`,
			Args: cobra.NoArgs,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				err := key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{ForceChangePIN: true})
				if err != nil {
					return nil, err
				}
				return done{"The PIN has to be changed before it is used again."}, nil
			}),
		},
		&cobra.Command{
			Use:     "pin-complexity",
			Short:   "Have the key refuse PINs that are too simple",
			Example: "  fidoctl config pin-complexity",
			Args:    cobra.NoArgs,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return p.setUpForGood(ctx, "The key will refuse simple PINs", func() error {
					return key.SetMinPINLength(ctx, &ctap2.SetMinPINLengthRequest{PINComplexityPolicy: true})
				})
			}),
		},
		&cobra.Command{
			Use:     "enterprise-attestation",
			Short:   "Let the key tell which one it is, where it is asked for that",
			Example: "  fidoctl config enterprise-attestation",
			Args:    cobra.NoArgs,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return p.setUpForGood(ctx, "The key will tell its serial number to sites that may ask", func() error {
					return key.EnableEnterpriseAttestation(ctx, nil)
				})
			}),
		},
		&cobra.Command{
			Use:     "long-touch",
			Short:   "Have the key ask for a touch of five seconds before it is reset",
			Example: "  fidoctl config long-touch",
			Args:    cobra.NoArgs,
			RunE: p.withKey(func(ctx context.Context, key *session, _ []string) (result, error) {
				return p.setUpForGood(ctx, "A reset will take a touch of five seconds", func() error {
					return key.EnableLongTouchForReset(ctx, nil)
				})
			}),
		})
}

// alwaysUV toggles it if it is not as wanted.
func alwaysUV(ctx context.Context, key *session, args []string) (result, error) {
	want := args[0] == "on"
	is, ok := key.Info().Options[ctap2.OptionAlwaysUV]
	switch {
	case !ok:
		return nil, ctap2.ErrUnsupported
	case is == want:
		return done{"It is " + args[0] + " already."}, nil
	}
	if err := key.ToggleAlwaysUV(ctx, nil); err != nil {
		return nil, err
	}
	return done{"It is " + args[0] + " now."}, nil
}

// setUpForGood asks before it does what only a reset takes back.
func (p *program) setUpForGood(ctx context.Context, what string, do func() error) (result, error) {
	if err := p.confirm(ctx, "%s, until the key is reset. Go on?", what); err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	return done{what + "."}, nil
}
