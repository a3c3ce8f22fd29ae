package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func everyCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, do)
	}
}

// Each command has an example that begins with it, and its output in JSON is
// documented.
func TestHelp(t *testing.T) {
	p := &program{out: &printer{}, err: &printer{}}
	var documented []string
	for _, o := range outputs {
		documented = append(documented, o.commands...)
	}
	everyCommand(p.command(), func(c *cobra.Command) {
		if !c.Runnable() {
			return // a topic
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: %q, %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 88 {
				t.Errorf("%s: %q is long", c.CommandPath(), line)
			}
		}
		name := strings.TrimPrefix(c.CommandPath(), "fidoctl ")
		if c.HasSubCommands() || name == "trace" {
			return
		}
		if !slices.Contains(documented, name) {
			t.Errorf("%s: 'fidoctl help json' does not say what it writes", name)
		}
	})
	golden(t, "json.txt", pipe(t, "", "", "help", "json").out)
	golden(t, "help.txt", pipe(t, "", "", "help").out)
}

// What there is no help for is an error, and so is a shell that is not known.
func TestNoSuchHelp(t *testing.T) {
	for _, args := range [][]string{{"help", "frob"}, {"help", "pin", "frob"}, {"help", "info", "x"}, {"completion"}, {"completion", "foo"}} {
		scriptFails(t, "", usage, args...)
	}
	for _, args := range [][]string{{"help", "pin", "set"}, {"help", "help"}, {"help", "completion", "bash"}} {
		if r := pipe(t, "", "", args...); r.code != 0 || !strings.Contains(r.out, "Usage:\n  fidoctl "+strings.Join(args[1:], " ")) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := pipe(t, "", "", "completion", shell); r.code != 0 || len(r.out) < 1000 {
			t.Errorf("%s: exit %d", shell, r.code)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"cred", "credentials"}, {"pin ", "tries"}, {"config always-uv o", "off"}, {"--virtual-profile ctap", "ctap2.1-pre"},
		{"--virtual-person ", "clumsy"}, {"register example.com ada --uv ", "discouraged"}, {"policy --level ", "L1+"},
	} {
		r := pipe(t, "", "", append([]string{"__complete"}, strings.Split(c.line, " ")...)...)
		if !strings.Contains(r.out, c.want) {
			t.Errorf("%q: %s", c.line, r.out)
		}
	}
}
