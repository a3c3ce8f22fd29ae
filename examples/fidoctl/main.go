// Fidoctl manages FIDO2 security keys: it shows what a key is and can do, sets
// its PIN, enrolls fingerprints, lists, renames and deletes the credentials
// that it keeps, registers and signs in, and resets it.
//
//	fidoctl list                          # which keys are there?
//	fidoctl info                          # what can this one do?
//	fidoctl pin set
//	fidoctl register example.com ada
//	fidoctl signin example.com
//	fidoctl credentials list
//	fidoctl help signin                   # each command has examples
//
// It uses the key that is attached; of several, the one that is touched, or the
// one that --device names by its path, its serial number or its reader. Without
// a key, --virtual FILE uses the software authenticator of package virtual, which
// is kept in FILE.
//
// With --json, standard output gets one JSON value per line, which "fidoctl
// help json" explains; what people are told goes to standard error. "fidoctl
// help exit-codes" explains how it ends. A PIN is asked for at the terminal, or
// read from --pin-fd or --pin-stdin, a line for each PIN; there is no argument
// and no environment variable for it, because others can see those.
//
// It holds no protocol: whatever it does to a key is a call into the library,
// with a file for each family of commands. Its command line is cobra's, which
// brings the help and the completion for four shells.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/pin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	context.AfterFunc(ctx, stop) // whoever interrupts twice does not want to wait
	p := &program{in: os.Stdin, out: newPrinter(os.Stdout), err: newPrinter(os.Stderr), profile: defaultProfile, person: "ready", pinFD: -1}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// A program is one run of fidoctl: what the command line says, and the person
// who is reached at the terminal.
type program struct {
	in       *os.File
	out, err *printer

	args     []string // the command line
	device   string
	virtual  string
	profile  string
	person   string
	json     bool
	yes      bool
	pinFD    int
	pinStdin bool
	timeout  time.Duration

	pins      *os.File                              // what pinFD or pinStdin stands for
	wrap      func(ctap2.Transport) ctap2.Transport // set by the command trace
	playing   ctap2.Transport                       // likewise
	recording bool                                  // likewise: with --record or --play
	begin     func() error                          // likewise: opens its files, before the command begins
	outFiles  [][2]string                           // that are to be written: the flags, and the names
	enrolling *enrollment                           // of a fingerprint, while that lasts
	optional  string                                // what to say when a PIN is asked for that may be left empty
	handsOut  bool                                  // entra provision: keys get their first PIN
	given     pin.Secret                            // that PIN, or one to be used twice
	entered   pin.Secret                            // the last one, which may be wrong
	keepsPIN  bool                                  // the PIN that is entered is to be used twice
	touches   sync.Mutex                            // guards the next two
	touching  bool                                  // the person was told to touch the key
	choosing  bool                                  // the person was told to touch one of several keys
	started   bool                                  // the command line was understood
	cancel    context.CancelFunc                    // of the timeout
}

// run carries out a command line and returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	p.args = args
	root := p.command()
	strict(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !p.started {
		err = usageError(err)
	}
	return p.finish(cmd, err)
}

// command returns the whole tree of commands. Its flags have the values that
// they have already as their defaults: the command trace builds a second tree.
func (p *program) command() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "fidoctl",
		Short: "Manage FIDO2 security keys",
		Long: `Fidoctl manages FIDO2 security keys on USB and NFC: PIN, fingerprints,
credentials, settings. Without a key, --virtual FILE uses a software key.`,
		Example: `  fidoctl list
  fidoctl pin set
  fidoctl register example.com ada
  fidoctl --virtual key.json info`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAlternatives(cmd); err != nil {
				return err
			}
			if err := p.checkOutFiles(cmd); err != nil {
				return err
			}
			p.started = true
			if err := p.takePINs(cmd); err != nil {
				return err
			}
			if p.begin != nil {
				if err := p.begin(); err != nil {
					return err
				}
			}
			if p.timeout > 0 {
				ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
				p.cancel = cancel
				cmd.SetContext(ctx)
			}
			return nil
		},
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, ok := debug.ReadBuildInfo(); ok && version {
				p.show(versionOf(info))
				return nil
			}
			return cmd.Help()
		},
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommandGroupID("program")
	root.SetCompletionCommandGroupID("program")

	root.Flags().BoolVar(&version, "version", false, "show which fidoctl this is")
	flags := root.PersistentFlags()
	flags.Var(single{&p.device, "device"}, "device", "use the key with this `name`: path, serial number or reader")
	flags.Var(single{&p.virtual, "virtual"}, "virtual", "use the software key in this `file`, which is created if it is missing")
	flags.Var(choice{&p.profile, "virtual-profile", profileNames()}, "virtual-profile", "the `kind` of software key, which its file does not keep: "+either(profileNames()))
	flags.Var(choice{&p.person, "virtual-person", personNames()}, "virtual-person", "`who` touches the software key: "+either(personNames()))
	flags.BoolVar(&p.json, "json", p.json, "write JSON (see 'fidoctl help json')")
	flags.BoolVarP(&p.yes, "yes", "y", p.yes, "do not ask for confirmation")
	flags.IntVar(&p.pinFD, "pin-fd", p.pinFD, "read PINs from this file `descriptor`, one per line")
	flags.BoolVar(&p.pinStdin, "pin-stdin", p.pinStdin, "read PINs from standard input, one per line")
	flags.Var(limit{&p.timeout, "timeout"}, "timeout", "give up after this `time`, such as 30s; 0: never")
	flags.Lookup("pin-fd").DefValue, flags.Lookup("timeout").DefValue = "0", "0" // not shown
	complete(root, "device", p.deviceNames)
	complete(root, "virtual-profile", always(profileNames()))
	complete(root, "virtual-person", always(personNames()))

	root.AddGroup(&cobra.Group{ID: "key", Title: "The key:"}, &cobra.Group{ID: "use", Title: "Using it:"},
		&cobra.Group{ID: "program", Title: "Other:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("key", p.listCommand(), p.infoCommand(), p.pinCommand(), p.fingerprintCommand(), p.credentialsCommand(),
		p.blobCommand(), p.configCommand(), p.policyCommand(), p.resetCommand())
	add("use", p.registerCommand(), p.signinCommand(), p.verifyCommand(), p.secretCommand(), p.entraCommand())
	add("program", p.watchCommand(), p.traceCommand(), p.conformanceCommand(), p.udevRulesCommand())
	root.AddCommand(jsonHelp(), exitCodesHelp())
	return root
}

// strict has cobra's own commands fail where they would show the general help,
// and exit with 0.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if topic, rest, err := root.Find(args); topic == nil || err != nil || len(rest) > 0 {
					return fmt.Errorf("unknown help topic %q", strings.Join(args, " "))
				}
				return nil
			}
		case "completion":
			c.RunE = needsSubcommand
		}
	}
}

// complete says what the values of a flag can be.
func complete(cmd *cobra.Command, flag string, values func(context.Context) []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return values(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // no such flag
	}
}

// always says so of a flag that takes one of a few words.
func always(words []string) func(context.Context) []string {
	return func(context.Context) []string { return words }
}

// group returns a command that only has others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: subcommand, RunE: needsSubcommand}
	c.AddCommand(commands...)
	return c
}

// subcommand refuses what is none, and says which one may be meant.
func subcommand(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(given[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q for %q, perhaps %s", given[0], cmd.CommandPath(), strings.Join(near, " or "))
	}
	return cobra.NoArgs(cmd, given)
}

func needsSubcommand(cmd *cobra.Command, _ []string) error {
	return usagef("%s needs a subcommand", cmd.CommandPath())
}

// withKey makes a command's function of one that needs an open key, and shows
// what that returns. A result that comes with an error is shown as well.
func (p *program) withKey(do func(ctx context.Context, key *session, args []string) (result, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		key, err := p.open(ctx)
		if err != nil {
			return err
		}
		r, err := do(ctx, key, args)
		p.forget()
		if errors.Is(err, ctap2.ErrNoPIN) { // none would do if it is blocked
			if left, failed := key.PINRetries(ctx); failed == nil && left.Retries == 0 {
				err = ctap2.ErrPINBlocked
			}
		}
		if r != nil {
			p.show(r)
		}
		if closed := key.close(); err == nil {
			err = closed
		}
		return err
	}
}
