package conformance

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCases: what the tables say of a case is whole, and each has its code.
func TestCases(t *testing.T) {
	section := regexp.MustCompile(`^(§[0-9]|[A-Z][A-Za-z0-9. ]+ §[0-9])`)
	name := regexp.MustCompile(`^[a-z0-9]+(-[A-Za-z0-9]+)*$`)
	d := drivers{of: map[string]driver{}}
	d.all()
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.ID] {
			t.Errorf("%s: two rows", c.ID)
		}
		seen[c.ID] = true
		if !name.MatchString(c.ID) || c.Group == "" || c.Command == "" || c.Requirement == "" || !section.MatchString(c.Section) {
			t.Errorf("not a whole row: %+v", c)
		}
		if c.run == nil {
			t.Errorf("%s: no driver", c.ID)
		}
	}
	for id := range d.of {
		if !seen[id] {
			t.Errorf("%s: no row", id)
		}
	}
	for _, id := range d.twice {
		t.Errorf("%s: two drivers", id)
	}
	if len(seen) < 300 {
		t.Errorf("%d cases", len(seen))
	}
}

// TestOpen: one asterisk permits another error and no success in its place, two
// permit that, too.
func TestOpen(t *testing.T) {
	const table = "| ID | command | condition | status | section |\n" +
		"| error | c | r | NOT_ALLOWED | §6 |\n" +
		"| error-open | c | r | NOT_ALLOWED | §6 * |\n" +
		"| error-either | c | r | NOT_ALLOWED | §6 ** |\n" +
		"| ok-either | c | r | OK | §6 ** |\n" +
		"| word-open | c | r | 6A86 | §6 * |\n"
	permitted := map[string]string{
		"error-open": "INVALID_SEQ", "error-either": "INVALID_SEQ OK", "ok-either": "INVALID_SEQ", "word-open": "INVALID_SEQ",
	}
	all := rows(table)
	if len(all) != 5 {
		t.Fatalf("%d rows", len(all))
	}
	for _, c := range all {
		if c.Section != "§6" {
			t.Errorf("%s: section %q", c.ID, c.Section)
		}
		for _, got := range []string{"INVALID_SEQ", "OK"} {
			if c.expects(got) == nil {
				continue
			}
			want := slices.Contains(strings.Fields(permitted[c.ID]), got)
			if permits := c.permits(c.opposes(got)); permits != want {
				t.Errorf("%s: %s is permitted: %t", c.ID, got, permits)
			}
		}
	}
}
