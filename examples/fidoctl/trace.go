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
			var options []ctap2.TraceOption
			if accounts {
				options = append(options, ctap2.ShowAccounts())
			}
			logger := slog.New(p.handler(belowPrompt{p}))
			var log, recorded *outFile
			defer func() { err = errors.Join(err, log.drop(), recorded.drop()) }()
			p.begin = func() (err error) {
				if log, err = newOutFile(output); err != nil {
					return err
				}
				if log != nil {
					logger = slog.New(p.handler(log))
				}
				recorded, err = newOutFile(record)
				return err
			}
			p.wrap = func(t ctap2.Transport) ctap2.Transport {
				t = ctap2.Trace(t, logger, options...)
				if recorded != nil {
					t = ctap2.Record(t, recorded)
				}
				return t
			}
			if play != "" {
				data, err := p.readFile(play)
				if err != nil {
					return err
				}
				if p.playing, err = ctap2.Play(bytes.NewReader(data)); err != nil {
					return fmt.Errorf("%w: %s: %w", errRecording, play, err)
				}
			}
			p.recording = record != "" || play != ""
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

// notPlayed refuses to take from a recording what is not in it, where what was
// put in its place could be taken for it.
func (p *program) notPlayed(what string) error {
	if p.playing == nil {
		return nil
	}
	return usagef("a recording holds no %s: run the command with the key itself", what)
}

// belowPrompt is standard error. What is written there does not stand behind a
// prompt to touch the key.
type belowPrompt struct{ p *program }

// Write implements io.Writer.
func (w belowPrompt) Write(b []byte) (int, error) {
	w.p.touched()
	return w.p.err.Write(b)
}

// handler writes records of a trace: as JSON, or for people.
func (p *program) handler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	if p.json {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}
