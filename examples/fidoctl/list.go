package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
)

type listResult struct {
	Keys []keyResult `json:"keys"`
	// NoCards is why there are no cards among them.
	NoCards *errorText `json:"noCards,omitempty" doc:"why cards cannot be seen, as an error below"`
}

func (p *program) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the attached keys and their state",
		Long: `List shows every key on USB and NFC: what it is, and whether it has a PIN and
fingerprints. It opens each of them, and needs no touch.`,
		Example: `  fidoctl list
  fidoctl list --json`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.list(cmd.Context())
			if err != nil {
				return err
			}
			p.show(r)
			return nil
		},
	}
}

func (p *program) list(ctx context.Context) (result, error) {
	r := listResult{Keys: []keyResult{}}
	if p.virtual != "" || p.playing != nil {
		s, err := p.open(ctx)
		if err != nil {
			return nil, err
		}
		k := keyResult{Name: s.name, Transport: "virtual"}
		err = s.state(ctx, &k)
		r.Keys = append(r.Keys, k)
		return r, errors.Join(err, s.close())
	}
	attached, err := keys.List(ctx)
	if err != nil && len(attached) == 0 {
		return nil, err
	}
	for _, key := range attached {
		if p.device != "" && p.device != key.Name() && p.device != key.Serial() {
			continue
		}
		k := attachedKey(key)
		if err := p.stateOf(ctx, key, &k); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			if key.Reader != nil && errors.Is(err, nfc.ErrNotFIDO) {
				continue // somebody's bank card
			}
			k.Error = errorTextOf(err)
		}
		r.Keys = append(r.Keys, k)
	}
	if err := cards(ctx); err != nil {
		r.NoCards = errorTextOf(err)
	}
	return r, nil
}

func (p *program) stateOf(ctx context.Context, key keys.Key, k *keyResult) error {
	a, err := keys.Open(ctx, key, p.options()...)
	if err != nil {
		return err
	}
	s := &session{p: p, key: key}
	if err := s.take(ctx, a); err != nil {
		return err
	}
	return errors.Join(s.state(ctx, k), s.close())
}

// state adds what only an open key tells.
func (s *session) state(ctx context.Context, k *keyResult) error {
	info := s.Info()
	k.AAGUID, k.Versions = info.AAGUID, orEmpty(info.Versions)
	k.PIN, k.Fingerprints = "unsupported", "unsupported"
	if enrolled, ok := info.Options[ctap2.OptionUserVerification]; ok {
		k.Fingerprints = "none"
		if enrolled {
			k.Fingerprints = "enrolled"
		}
	}
	set, ok := info.Options[ctap2.OptionClientPIN]
	switch {
	case !ok:
		return nil
	case !set:
		k.PIN = "not set"
		return nil
	}
	retries, err := s.PINRetries(ctx)
	if err != nil {
		return err
	}
	k.TriesLeft = &retries.Retries
	switch {
	case retries.Retries == 0:
		k.PIN = "blocked"
	case retries.PowerCycle:
		k.PIN = "locked"
	case info.ForcePINChange:
		k.PIN = "to be changed"
	default:
		k.PIN = "set"
	}
	return nil
}

func (r listResult) text(w *printer) {
	if len(r.Keys) == 0 {
		w.printf("No security key is attached.\n")
	}
	for _, k := range r.Keys {
		w.in(bold, "%s", k.Name)
		if k.Product != "" {
			w.printf("  %s %s", k.Manufacturer, k.Product)
		}
		if k.Serial != "" {
			w.printf("  serial %s", k.Serial)
		}
		w.printf("\n")
		if k.Error != nil {
			w.in(red, "  %s", k.Error.What)
			w.printf(" %s\n", k.Error.Next)
			continue
		}
		w.printf("  model         %s\n  speaks        %s\n", k.AAGUID, list(k.Versions))
		tries := ""
		if k.TriesLeft != nil {
			tries = fmt.Sprintf(" (%s left)", count(*k.TriesLeft, "try", "tries"))
		}
		w.printf("  PIN           %s%s\n  fingerprints  %s\n", k.PIN, tries, k.Fingerprints)
	}
	if r.NoCards != nil {
		w.in(faint, "Cards and NFC keys are not listed. %s %s\n", r.NoCards.What, r.NoCards.Next)
	}
}

type rulesResult struct {
	Rules string `json:"rules" doc:"the content of the file"`
}

func (r rulesResult) text(w *printer) { fmt.Fprint(w, r.Rules) }

func (p *program) udevRulesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "udev-rules",
		Short: "Print the udev rules that let users use their keys (Linux)",
		Long: `Udev-rules prints what to install on a Linux machine whose own rules do not let
its users use security keys. Desktops have such rules already.`,
		Example: `  fidoctl udev-rules | sudo tee /etc/udev/rules.d/70-fido.rules
  sudo udevadm control --reload`,
		Args: arguments,
		RunE: func(*cobra.Command, []string) error {
			p.show(rulesResult{hid.UdevRules()})
			return nil
		},
	}
}
