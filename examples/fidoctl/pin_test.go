package main

import (
	"strings"
	"testing"
)

func TestPINPerson(t *testing.T) {
	key := newKey(t, "")
	s := person(t, key, "pin", "set")
	s.sees("New PIN (4 to 63 characters): ")
	s.types("12\n")
	s.sees("too short")
	s.sees("New PIN")
	s.types(testPIN + "\n")
	s.sees("The same again: ")
	s.types("271829\n")
	s.sees("differ")
	s.sees("New PIN")
	s.types(testPIN + "\n")
	s.sees("again")
	s.types(testPIN + "\n")
	s.sees("The PIN is set.")
	s.ends(0)

	s = person(t, key, "pin", "set")
	s.sees("has a PIN already")
	s.sees("fidoctl pin change")
	s.ends(refused.exit)

	s = person(t, key, "pin", "check")
	s.sees("PIN (8 tries left): ")
	s.types("999999\n")
	s.sees("wrong")
	s.sees("PIN (7 tries left): ")
	s.types(testPIN + "\n")
	s.sees("The PIN is right.")
	s.ends(0)

	s = person(t, key, "pin", "change")
	s.sees("PIN (8 tries left): ")
	s.types("999999\n")
	s.sees("New PIN")
	s.types("314159\n")
	s.sees("again")
	s.types("314159\n")
	s.sees("wrong")
	s.sees("PIN (7 tries left): ")
	s.types(testPIN + "\n")
	s.sees("The PIN is changed.")
	s.ends(0)

	s = person(t, key, "pin", "check")
	s.sees("PIN (")
	s.types("314159\n")
	s.sees("right")
	s.ends(0)
	s = person(t, key, "pin", "tries")
	s.sees("8 tries left")
	s.ends(0)
}

// Three wrong PINs in a row lock the key until it is plugged in again, which
// the next run does with a software key; eight are all there are.
func TestPINLocks(t *testing.T) {
	key := newKey(t, testPIN)
	s := person(t, key, "pin", "check")
	for _, left := range []string{"8", "7", "6"} {
		s.sees("PIN (" + left + " tries left): ")
		s.types("99999" + left + "\n")
	}
	s.sees("The key is locked.")
	s.sees("5 tries are left.")
	s.sees("Unplug it")
	s.ends(locked.exit)

	for _, left := range []int{4, 3, 2, 1} {
		r := pipe(t, key, "999999\n", "pin", "check", "--pin-stdin", "--json")
		var e errorResult
		decode(t, r.out, &e)
		if r.code != verification.exit || e.Error.TriesLeft == nil || *e.Error.TriesLeft != left || e.Error.Status != "PIN_INVALID" {
			t.Errorf("exit %d, %+v", r.code, e.Error)
		}
	}
	var l listResult
	script(t, key, &l, "list")
	if *l.Keys[0].TriesLeft != 1 {
		t.Errorf("%+v", l)
	}
	r := pipe(t, key, "999999\n", "pin", "check", "--pin-stdin")
	if r.code != locked.exit || !strings.Contains(r.err, "fidoctl reset") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	script(t, key, &l, "list")
	if l.Keys[0].PIN != "blocked" {
		t.Errorf("%+v", l)
	}
}

func TestPINScript(t *testing.T) {
	t.Parallel()
	key := newKey(t, "")
	if e := scriptFails(t, key, notSetUp, "pin", "check"); e.Next != "fidoctl pin set" {
		t.Errorf("%+v", e)
	}
	var d done
	script(t, key, &d, "pin", "set")
	script(t, key, &d, "pin", "check")
	if d.Done != "The PIN is right." {
		t.Errorf("%+v", d)
	}
	// The two PINs are two lines, of a file of their own.
	cmd := command(t, "--virtual", key, "--pin-fd", "3", "pin", "change")
	cmd.ExtraFiles = append(cmd.ExtraFiles, open(t, testPIN+"\n314159\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	scriptFails(t, key, verification, "pin", "check")
	var n triesResult
	script(t, key, &n, "pin", "tries")
	if n.PIN != 7 || n.Fingerprint == nil {
		t.Errorf("%+v", n)
	}
	if r := pipe(t, key, "", "pin", "tries"); r.out != "PIN          7 tries left\nfingerprint  5 tries left\n" {
		t.Errorf("%q", r.out)
	}

	// A PIN that cannot be had, or that no key takes.
	for _, c := range []struct {
		stdin string
		flags []string
		want  kind
	}{
		{"", nil, usage},
		{"", []string{"--pin-stdin"}, usage},
		{"\n", []string{"--pin-stdin"}, usage},
		{strings.Repeat("1", 2000) + "\n", []string{"--pin-stdin"}, usage},
		{"", []string{"--pin-fd", "9"}, usage},
		{testPIN, []string{"--pin-fd", "0", "--pin-stdin"}, usage},
		{"314159\n\n", []string{"--pin-stdin"}, usage},
		{"314159\n12\n", []string{"--pin-stdin"}, refused},
		{"314159\n1\x002345\n", []string{"--pin-stdin"}, refused},
		{"314159\n\xff\xfe1234\n", []string{"--pin-stdin"}, refused},
		{"314159\n" + strings.Repeat("1", 64) + "\n", []string{"--pin-stdin"}, refused},
	} {
		if r := pipe(t, key, c.stdin, append(c.flags, "pin", "change")...); r.code != c.want.exit {
			t.Errorf("%q, %v: exit %d, not %d: %s", c.stdin, c.flags, r.code, c.want.exit, r.err)
		}
	}
	// There is no other way to say a PIN.
	if r := pipe(t, key, "", "pin", "check", "314159"); r.code != usage.exit {
		t.Errorf("a PIN as an argument: exit %d", r.code)
	}
}

func TestPINUnsupported(t *testing.T) {
	key := newKey(t, "") + ".u2f"
	for _, c := range [][]string{{"set"}, {"change"}, {"check"}, {"tries"}} {
		scriptFails(t, key, unsupported, append([]string{"--virtual-profile", "u2f", "pin"}, c...)...)
	}
}
