package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

func (p *program) traceCommand() *cobra.Command {
	var output, record, play string
	var accounts bool
	c := &cobra.Command{
		Use:   "trace [COMMAND …]",
		Short: "Show the messages between fidoctl and the key",
		Long: `Trace runs another command, "info" by default, and writes each message to the key and
each answer to standard error, without PINs, secrets and the names of accounts. With
--record it also writes them to a file, which --play plays back, so that what a key
did can be examined without the key.`,
		Example: `  fidoctl trace info
  fidoctl trace --record session.jsonl signin example.com
  fidoctl trace --play session.jsonl signin example.com`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if p.wrap != nil {
				return usagef("trace cannot trace itself")
			}
			var log io.Writer = p.err
			if output != "" {
				file, err := create(output)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				log = file
			}
			logger := slog.New(p.handler(log))
			var options []ctap2.TraceOption
			if accounts {
				options = append(options, ctap2.ShowAccounts())
			}
			wrap := func(t ctap2.Transport) ctap2.Transport { return ctap2.Trace(t, logger, options...) }
			if record != "" {
				file, err := create(record)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				inner := wrap
				wrap = func(t ctap2.Transport) ctap2.Transport { return ctap2.Record(inner(t), file) }
			}
			if play != "" {
				data, err := p.readFile(play)
				if err != nil {
					return err
				}
				if p.playing, err = ctap2.Play(bytes.NewReader(data)); err != nil {
					return fmt.Errorf("%w: %w", errFile, err)
				}
			}
			p.wrap, p.recording = wrap, record != "" || play != ""
			if len(args) == 0 {
				args = []string{"info"}
			}
			root := p.command()
			root.SetArgs(args)
			p.started = false
			return root.ExecuteContext(cmd.Context())
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // what is behind the command is its own
	flags.StringVar(&output, "output", "", "write to this `file` instead of standard error")
	flags.StringVar(&record, "record", "", "write a recording to this `file`")
	flags.StringVar(&play, "play", "", "use the recording in this `file` in place of a key")
	flags.BoolVar(&accounts, "accounts", false, "show the names of accounts and fingerprints")
	return c
}

// handler writes records of a trace: as JSON, or for people.
func (p *program) handler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	if p.json {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}
