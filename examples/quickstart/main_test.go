package main

import (
	"strings"
	"testing"
)

// Without a key, the software authenticator does the main job.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out, openSoftware); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"software", "Touch the key now", "Verified the registration's signature", "Verified the sign-in's signature", "UP",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
