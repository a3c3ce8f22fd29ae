package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A choice is the value of a flag that takes one of a few words.
type choice struct {
	value *string
	flag  string
	words []string
}

func (c choice) String() string { return *c.value }
func (choice) Type() string     { return "string" }

// Set implements the interface of flags' values.
func (c choice) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return badValue(fmt.Sprintf("--%s must be %s, not %q", c.flag, either(c.words), word))
	}
	*c.value = word
	return nil
}

// oneOf adds a flag that takes one of a few words; value has its default.
func oneOf(cmd *cobra.Command, value *string, flag, usage string, words ...string) {
	cmd.Flags().Var(choice{value, flag, words}, flag, usage+": "+either(words))
	complete(cmd, flag, always(words))
}

// A single is the value of a flag that says which key is meant: the second of two
// would silently win, and an empty one mean any.
type single struct {
	value *string
	flag  string
}

func (s single) String() string { return *s.value }
func (single) Type() string     { return "string" }

// Set implements the interface of flags' values.
func (s single) Set(name string) error {
	switch {
	case name == "":
		return badValue(fmt.Sprintf("--%s needs a name: an empty one would be any key", s.flag))
	case *s.value != "" && *s.value != name: // completion reads them twice
		return badValue(fmt.Sprintf("--%s is given twice, and a command works with one key", s.flag))
	}
	*s.value = name
	return nil
}

// A limit is the value of a flag that says how long something may take. Package
// flag's own takes a negative one, and has no word for a number without a unit.
type limit struct {
	value *time.Duration
	flag  string
}

func (l limit) String() string { return l.value.String() }
func (limit) Type() string     { return "duration" }

// Set implements the interface of flags' values.
func (l limit) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return badValue(fmt.Sprintf("--%s needs a time with its unit, such as 5s, not %q", l.flag, text))
	}
	*l.value = d
	return nil
}

// A badValue is the error of a flag's value, in words that name the flag.
type badValue string

func (b badValue) Error() string { return string(b) }

// flagError returns the error of a command line in which the flags are wrong,
// without what package strconv and others have to say.
func flagError(_ *cobra.Command, err error) error {
	var bad badValue
	if errors.As(err, &bad) {
		return bad
	}
	if text, _, ok := strings.Cut(err.Error(), " flag: "); ok && strings.HasPrefix(text, "invalid argument ") {
		return errors.New(text)
	}
	return err
}

// alternatives are flags of which one excludes the other.
var alternatives = [][2]string{{"device", "virtual"}, {"pin-fd", "pin-stdin"}, {"record", "play"}, {"label", "salt"}}

// checkAlternatives refuses both of two alternatives.
func checkAlternatives(cmd *cobra.Command) error {
	for _, pair := range alternatives {
		one, other := cmd.Flags().Lookup(pair[0]), cmd.Flags().Lookup(pair[1])
		if one != nil && one.Changed && other != nil && other.Changed {
			return fmt.Errorf("give either --%s or --%s, not both", pair[0], pair[1])
		}
	}
	return nil
}

// either puts alternatives in a row.
func either(words []string) string {
	last := len(words) - 1
	return list(words[:last]) + " or " + words[last]
}
