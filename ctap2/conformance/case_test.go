package conformance

import (
	"regexp"
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
