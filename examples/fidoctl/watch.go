package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2/keys"
)

type eventResult struct {
	Event     string `json:"event" doc:"arrival or removal"`
	Name      string `json:"name" doc:"for --device"`
	Transport string `json:"transport" doc:"as in list"`
	Product   string `json:"product,omitempty"`
	Serial    string `json:"serial,omitempty"`
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
held to a reader or taken away, until it is interrupted.`,
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
