package main

import (
	"strings"
	"testing"
)

func TestResetPerson(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	// Somebody who knows the PIN sees what would be lost, and thinks again.
	s := person(t, key, "reset")
	s.sees("A reset cannot be undone.")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("ada at example.com")
	s.sees("bob at example.com")
	s.sees("3 credentials in all")
	s.sees("Erase " + key + "? [y/N] ")
	s.types("n\n")
	s.sees("Nothing was changed.")
	s.ends(interrupted.exit)

	// Nobody touches it, and somebody gives up.
	s = person(t, key, "--virtual-person", "absent", "reset", "--yes")
	s.sees("Touch the key: it will be erased")
	s.types(ctrlC)
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
	if n := len(listed(t, key).Credentials); n != 3 {
		t.Errorf("%d credentials are left", n)
	}

	// Somebody who has forgotten the PIN goes on without it.
	s = person(t, key, "reset")
	s.sees("leave it empty")
	s.sees("PIN (8 tries left): ")
	s.types("\n")
	s.sees("[y/N] ")
	s.types("y\n")
	s.sees("unplugged and plugged in again")
	s.sees("You have ten seconds.")
	s.sees("Touch the key: it will be erased")
	s.sees("The key has been reset.")
	s.ends(0)

	s = person(t, key, "reset")
	s.sees("without a PIN, the key does not list them")
	s.sees("[y/N] ")
	s.types("n\n")
	s.ends(interrupted.exit)
}

func TestResetScript(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	scriptFails(t, key, usage, "reset") // without --yes
	if e := scriptFails(t, key, noTouch, "--virtual-person", "unwilling", "reset", "--yes"); e.What != "The key was not reset." {
		t.Errorf("%+v", e)
	}
	var d done
	script(t, key, &d, "config", "long-touch")
	script(t, key, &d, "reset") // which holds on for five seconds
	var l listResult
	script(t, key, &l, "list")
	if l.Keys[0].PIN != "not set" {
		t.Errorf("%+v", l)
	}
	// A wrong PIN does not stand in the way.
	key = withCredentials(t)
	r := pipe(t, key, "999999\n", "--pin-stdin", "reset")
	if r.code != usage.exit || !strings.Contains(r.err, "cannot be listed: The PIN is wrong.") {
		t.Errorf("%+v", r)
	}
	scriptFails(t, key+".old", unsupported, "--virtual-profile", "u2f", "reset", "--yes")
}

// Where no PIN is asked for, nobody is told to leave it empty: what they type would
// answer the next question.
func TestResetWithoutPrompt(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var d done
	script(t, key, &d, "config", "force-pin-change")
	s := person(t, key, "reset")
	s.sees("cannot be listed: The PIN must be changed first.")
	s.sees("[y/N] ")
	s.types("n\n")
	if all := s.ends(interrupted.exit); strings.Contains(all, "enter the PIN") {
		t.Errorf("%s", all)
	}
}
