package main

import (
	"strings"
	"testing"
)

func TestFingerprintPerson(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	s := person(t, key, "--virtual-person", "clumsy", "fingerprint", "add", "right thumb")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	for _, progress := range []string{
		"[--------------------] 0 of 4  touch the sensor",
		"[--------------------] 0 of 4  too fast: lift, and try again more slowly",
		"[#####---------------] 1 of 4  good",
		"[#####---------------] 1 of 4  too far to the left",
		"[##########----------] 2 of 4  good",
		"[###############-----] 3 of 4  good",
		"[####################] 4 of 4  good",
	} {
		s.sees(progress)
	}
	s.sees(`Added fingerprint "right thumb".`)
	s.ends(0)

	// The finger does in place of the PIN.
	s = person(t, key, "fingerprint", "list")
	s.sees("Put your finger on the key's sensor")
	s.sees("right thumb")
	s.sees("1 fingerprint")
	s.ends(0)
	s = person(t, key, "fingerprint", "rename", "right thumb", "thumb")
	s.sees(`Renamed to "thumb".`)
	s.ends(0)
	s = person(t, key, "fingerprint", "remove", "thumb")
	s.sees(`Remove fingerprint "thumb"? [y/N] `)
	s.types("y\n")
	s.sees(`Removed fingerprint "thumb".`)
	s.ends(0)
}

// Ctrl-C in the middle leaves no half of a finger behind.
func TestInterruptedEnrollment(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	s := person(t, key, "--virtual-person", "slow", "fingerprint", "add")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("1 of 4")
	s.types(ctrlC)
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
	var r fingerprintsResult
	script(t, key, &r, "fingerprint", "list")
	if len(r.Fingerprints) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestFingerprintScript(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var thumb, other fingerprintResult
	script(t, key, &thumb, "fingerprint", "add", "thumb")
	script(t, key, &other, "fingerprint", "add")
	if thumb.Name != "thumb" || other.Name != "" || len(other.ID) == 0 {
		t.Errorf("%+v, %+v", thumb, other)
	}
	var d done
	script(t, key, &d, "fingerprint", "rename", other.ID.String(), "thumb")
	scriptFails(t, key, usage, "fingerprint", "remove", "thumb", "--yes") // which are two
	scriptFails(t, key, usage, "fingerprint", "remove", other.ID.String())
	script(t, key, &d, "fingerprint", "remove", other.ID.String())
	scriptFails(t, key, notFound, "fingerprint", "remove", other.ID.String(), "--yes")
	scriptFails(t, key, notFound, "fingerprint", "rename", "index", "thumb")
	var all fingerprintsResult
	script(t, key, &all, "fingerprint", "list")
	if len(all.Fingerprints) != 1 || all.Fingerprints[0].Name != "thumb" {
		t.Errorf("%+v", all)
	}
	// Progress is told line by line where there is no terminal. The PIN that is given
	// goes before the finger that would do as well.
	r := pipe(t, key, testPIN+"\n", "--pin-stdin", "fingerprint", "add")
	if r.code != 0 || strings.Count(r.err, "\n[") != 4-1 || !strings.Contains(r.err, "4 of 4  good\n") {
		t.Errorf("%+v", r)
	}
	scriptFails(t, key, noTouch, "--virtual-person", "absent", "--timeout", "2s", "fingerprint", "add")
	scriptFails(t, newKey(t, ""), notSetUp, "fingerprint", "add")
	scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "fingerprint", "list")
	scriptFails(t, key, usage, "fingerprint", "add", "--pin-fd", "8", strings.Repeat("long ", 100))
}

// A PIN that is given goes before fingers: nobody may be there to have one read.
func TestPINBeforeFinger(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	script(t, key, new(registerResult), "register", "example.com", "ada")
	script(t, key, new(fingerprintResult), "fingerprint", "add")
	for _, args := range [][]string{
		{"credentials", "list"}, {"blob", "list"}, {"fingerprint", "list"}, {"config", "always-uv", "on"}, {"config", "min-pin-length", "6", "--yes"},
	} {
		r := pipe(t, key, testPIN+"\n", append([]string{"--virtual-person", "absent", "--timeout", "20s", "--pin-stdin"}, args...)...)
		if r.code != 0 || strings.Contains(r.err, "sensor") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := pipe(t, key, testPIN+"\n", "--pin-stdin", "secret", "example.com", "--label", "disk"); r.code != 0 || strings.Contains(r.err, "sensor") {
		t.Errorf("%+v", r)
	}
}
