package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

type triesResult struct {
	PIN         int  `json:"pin" doc:"wrong PINs that can be entered before only a reset helps"`
	PowerCycle  bool `json:"powerCycle" doc:"no PIN is taken until the key is unplugged"`
	Fingerprint *int `json:"fingerprint,omitempty" doc:"failed fingerprints that are left before the PIN is needed"`
}

func (r triesResult) text(w *printer) {
	w.printf("PIN          %s left\n", count(r.PIN, "try", "tries"))
	if r.PowerCycle {
		w.printf("             none until the key is unplugged\n")
	}
	if r.Fingerprint != nil {
		w.printf("fingerprint  %s left\n", count(*r.Fingerprint, "try", "tries"))
	}
}

func (p *program) pinCommand() *cobra.Command {
	return group("pin", "Set, change and check the PIN", `  fidoctl pin set
  fidoctl pin tries`,
		&cobra.Command{
			Use:   "set",
			Short: "Set the first PIN of a key",
			Example: `  fidoctl pin set
  fidoctl pin set --pin-fd 3 3<pin-file`,
			Args: arguments,
			RunE: p.withKey(p.setPIN),
		},
		&cobra.Command{
			Use:   "change",
			Short: "Change the PIN",
			Long:  "Change replaces the PIN. In a file, the current PIN is the first line, and the new\none the second.",
			Example: `  fidoctl pin change
  fidoctl pin change --pin-fd 3 3<pin-file`,
			Args: arguments,
			RunE: p.withKey(p.changePIN),
		},
		&cobra.Command{
			Use:   "check",
			Short: "Check whether a PIN is right",
			Long:  "Check has the key verify a PIN. The right one restores the tries that wrong ones\nhave cost, and unlocks the fingerprint reader.",
			Example: `  fidoctl pin check
  fidoctl pin check --json --pin-fd 3 3<pin-file`,
			Args: arguments,
			RunE: p.withKey(checkKeyPIN),
		},
		&cobra.Command{
			Use:     "tries",
			Short:   "Show how many tries are left",
			Example: "  fidoctl pin tries",
			Args:    arguments,
			RunE:    p.withKey(tries),
		},
	)
}

func (p *program) setPIN(ctx context.Context, key *session, _ []string) (result, error) {
	if err := hasPIN(key.Info(), false); err != nil {
		return nil, err
	}
	entered, err := p.newPIN(ctx, key.Info())
	if err != nil {
		return nil, err
	}
	defer entered.Wipe()
	if err := key.SetPIN(ctx, entered); err != nil {
		return nil, err
	}
	return done{"The PIN is set."}, nil
}

func (p *program) changePIN(ctx context.Context, key *session, _ []string) (result, error) {
	if err := hasPIN(key.Info(), true); err != nil {
		return nil, err
	}
	retries := func() (ctap2.PINRetries, error) { return key.PINRetries(ctx) }
	current, err := p.currentPIN(ctx, "Current PIN", nil, retries)
	if err != nil {
		return nil, err
	}
	defer func() { current.Wipe() }()
	replacement, err := p.newPIN(ctx, key.Info())
	if err != nil {
		return nil, err
	}
	defer replacement.Wipe()
	for {
		err := key.ChangePIN(ctx, current, replacement)
		if err == nil {
			return done{"The PIN is changed."}, nil
		}
		var wrong *ctap2.PINError
		if !errors.As(err, &wrong) || !errors.Is(err, ctap2.ErrPINInvalid) || wrong.PowerCycle || wrong.Retries == 0 {
			return nil, err
		}
		current.Wipe()
		if current, err = p.currentPIN(ctx, "Current PIN", wrong, retries); err != nil {
			return nil, err
		}
	}
}

// checkKeyPIN obtains a token with the PIN, and throws it away.
func checkKeyPIN(ctx context.Context, key *session, _ []string) (result, error) {
	if err := hasPIN(key.Info(), true); err != nil {
		return nil, err
	}
	request := ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: trialSite, Method: ctap2.PINMethod}
	if key.Info().Options[ctap2.OptionNoMcGaPermissionsWithClientPIN] {
		request.Permissions, request.RPID = ctap2.PermissionCredentialManagement, ""
	}
	token, err := key.Token(ctx, &request)
	if err != nil {
		return nil, err
	}
	token.Wipe()
	return done{"The PIN is right."}, nil
}

func tries(ctx context.Context, key *session, _ []string) (result, error) {
	retries, err := key.PINRetries(ctx)
	if err != nil {
		return nil, err
	}
	r := triesResult{PIN: retries.Retries, PowerCycle: retries.PowerCycle}
	if _, ok := key.Info().Options[ctap2.OptionUserVerification]; ok {
		if n, err := key.UVRetries(ctx); err == nil {
			r.Fingerprint = &n
		}
	}
	return r, nil
}

// hasPIN refuses a key on which it is not as wanted.
func hasPIN(info *ctap2.Info, want bool) error {
	switch set, ok := info.Options[ctap2.OptionClientPIN]; {
	case !ok:
		return ctap2.ErrUnsupported
	case set && !want:
		return errPINIsSet
	case !set && want:
		return ctap2.ErrPINNotSet
	}
	return nil
}

// trialSite is the relying party of what is done for no site at all. Names
// under .invalid are never anybody's.
const trialSite = "fidoctl.invalid"
