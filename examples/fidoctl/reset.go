package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

func (p *program) resetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset",
		Short: "Erase the key",
		Long: `Reset erases the key: its credentials, its PIN, its fingerprints and its settings.
It first shows what will be lost, for which it asks for the PIN, and has you confirm.
A key can only be reset within ten seconds of being plugged in: reset says when to
unplug it and when to touch it.`,
		Example: `  fidoctl reset
  fidoctl reset --device /dev/hidraw3 --yes`,
		Args: arguments,
		RunE: p.withKey(p.reset),
	}
}

func (p *program) reset(ctx context.Context, key *session, _ []string) (result, error) {
	if p.recording {
		return nil, usagef("a reset takes two sessions, and a recording holds one: trace it without --record and --play")
	}
	if !p.yes {
		if err := p.showLoss(ctx, key); err != nil {
			return nil, err
		}
		if err := p.confirm(ctx, "Erase %s?", key.name); err != nil {
			return nil, err
		}
	}
	shown := key.Info()
	if err := key.replug(ctx); err != nil {
		return nil, err
	}
	if !alike(shown, key.Info()) {
		return nil, errAnotherKey
	}
	p.err.printf("You have ten seconds.\n")
	if err := key.Reset(ctx); err != nil {
		return nil, err
	}
	return done{"The key has been reset."}, nil
}

// alike reports whether a key that was plugged in again can be the one that the
// person was shown: what is compared does not change by that.
func alike(a, b *ctap2.Info) bool {
	if a.AAGUID != b.AAGUID || a.FirmwareVersion != b.FirmwareVersion || a.MinPINLength != b.MinPINLength ||
		!slices.Equal(a.Versions, b.Versions) {
		return false
	}
	for _, option := range []string{ctap2.OptionClientPIN, ctap2.OptionUserVerification} {
		x, hasX := a.Options[option]
		if y, hasY := b.Options[option]; x != y || hasX != hasY {
			return false
		}
	}
	x, y := a.RemainingDiscoverableCredentials, b.RemainingDiscoverableCredentials
	return x == y || x != nil && y != nil && *x == *y
}

// showLoss says what a reset will take away: by name, if the key tells.
func (p *program) showLoss(ctx context.Context, key *session) error {
	p.err.in(bold, "A reset cannot be undone. You will lose:\n")
	p.err.printf("  the PIN, all fingerprints and settings\n  every sign-in with this key, even at sites that it stores nothing for\n")
	info := key.Info()
	if !info.Options[ctap2.OptionClientPIN] && !info.Options[ctap2.OptionUserVerification] {
		if info.Options[ctap2.OptionResidentKey] {
			p.err.printf("  credentials, if there are any: without a PIN, the key does not list them\n")
		}
		return nil
	}
	p.optional = "To see the credentials, enter the PIN; to go on without it, leave it empty."
	defer func() { p.optional = "" }()
	credentials, token, err := key.credentials(ctx, "")
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, errDeclined):
		return nil
	case err != nil:
		p.err.printf("  its credentials, which cannot be listed: %s\n", explain(err).What)
		return nil
	}
	defer wipe(token, credentials)
	for _, c := range credentials {
		p.err.printf("  %s\n", credentialOf(c))
	}
	p.err.printf("  %s in all\n", count(len(credentials), "credential", "credentials"))
	return nil
}
