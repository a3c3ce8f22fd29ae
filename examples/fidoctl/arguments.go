package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// arguments holds what is given against the words behind the command's name in
// its Use: SITE must be there, [SITE] may be, SITE… is one or more, and on|off one
// of the two. Flags come last.
func arguments(cmd *cobra.Command, given []string) error {
	usage := cmd.Parent().CommandPath() + " " + cmd.Use
	for _, name := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(name, "--") {
			break
		}
		words := strings.Split(name, "|")
		switch {
		case len(given) == 0 && strings.HasPrefix(name, "["):
			return nil
		case len(given) == 0 && len(words) > 1:
			return fmt.Errorf("say %s: %q", either(words), usage)
		case len(given) == 0:
			return fmt.Errorf("%s is missing: %q", strings.TrimSuffix(name, "…"), usage)
		case len(words) > 1 && !slices.Contains(words, given[0]):
			return fmt.Errorf("say %s, not %q", either(words), given[0])
		case strings.HasSuffix(name, "…"):
			return nil
		}
		given = given[1:]
	}
	if len(given) > 0 { // which are not repeated: one may be a PIN
		return fmt.Errorf("too many arguments: %q", usage)
	}
	return nil
}

// named refuses empty arguments besides, as of an unset variable in a script:
// what has no name on the key would match them.
func named(cmd *cobra.Command, given []string) error {
	if slices.Contains(given, "") {
		return errors.New("a name is empty")
	}
	return arguments(cmd, given)
}
