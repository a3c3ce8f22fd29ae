package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2/keys"
)

type eventResult struct {
	Event     string     `json:"event" doc:"arrival, removal, or no cards, first of all"`
	Name      string     `json:"name,omitempty" doc:"for --device; with arrival and removal"`
	Transport string     `json:"transport,omitempty" doc:"as in list; likewise"`
	Product   string     `json:"product,omitempty"`
	Serial    string     `json:"serial,omitempty"`
	NoCards   *errorText `json:"noCards,omitempty" doc:"with no cards: why they cannot be seen, as an error below"`
}

func (r eventResult) text(w *printer) {
	sign := "+"
	if r.Event == "removal" {
		sign = "-"
	}
	w.printf("%s %s", sign, r.Name)
	for _, s := range []string{r.Product, r.Serial} {
		if s != "" {
			w.printf("  %s", s)
		}
	}
	w.printf("\n")
}

func (p *program) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Show when keys come and go",
		Long: `Watch shows the keys that are attached, and then each that is plugged in or unplugged,
held to a reader or taken away. Ctrl-C or --timeout ends it, and then it exits with 0.`,
		Example: `  fidoctl watch
  fidoctl watch --json | while read event; do …; done`,
		Args: arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := p.watch(cmd.Context())
			if cmd.Context().Err() != nil {
				return nil // which is how it ends
			}
			return err
		},
	}
}

func (p *program) watch(ctx context.Context) error {
	if p.virtual != "" { // which stays where it is
		key, err := p.open(ctx)
		if err != nil {
			return err
		}
		p.show(eventResult{Event: "arrival", Name: key.name, Transport: "virtual"})
		<-ctx.Done()
		return key.close()
	}
	if err := cards(ctx); err != nil && ctx.Err() == nil {
		p.noCards(err)
	}
	for e, err := range keys.Watch(ctx) {
		if err != nil {
			return err
		}
		k := attachedKey(e.Key)
		r := eventResult{Event: "removal", Name: k.Name, Transport: k.Transport, Product: k.Product, Serial: k.Serial}
		if e.Arrived {
			r.Event = "arrival"
		}
		p.show(r)
	}
	return nil
}

// noCards says that only keys on USB will be seen, and why.
func (p *program) noCards(err error) {
	why := errorTextOf(err)
	p.err.in(faint, "Cards and NFC keys are not seen. %s %s\n", why.What, why.Next)
	if p.json {
		p.show(eventResult{Event: "no cards", NoCards: why})
	}
}
