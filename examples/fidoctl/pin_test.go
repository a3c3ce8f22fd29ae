package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/tapstone/fido/ctap2"
)

func TestPINPerson(t *testing.T) {
	key := newKey(t, "")
	s := person(t, key, "pin", "set")
	s.sees("New PIN (4 to 63 characters): ")
	s.types("12\n")
	s.sees("too short")
	s.sees("New PIN")
	s.types(testPIN + "\n")
	s.sees("Repeat the new PIN: ")
	s.types("271829\n")
	s.sees("differ")
	s.sees("New PIN")
	s.types(testPIN + "\n")
	s.sees("Repeat")
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
	s.types("999999\n")
	s.sees("The same PIN again: it was not sent.")
	s.sees("PIN (7 tries left): ")
	s.types(testPIN + "\n")
	s.sees("The PIN is right.")
	s.ends(0)

	s = person(t, key, "pin", "change")
	s.sees("Current PIN (8 tries left): ")
	s.types("999999\n")
	s.sees("New PIN")
	s.types("314159\n")
	s.sees("Repeat")
	s.types("314159\n")
	s.sees("wrong")
	s.sees("Current PIN (7 tries left): ")
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
	if e := scriptFails(t, key, notSetUp, "pin", "check"); e.Next != "To set one: fidoctl pin set." {
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
	cmd.ExtraFiles = append(cmd.ExtraFiles, open(t, "\ufeff"+testPIN+"\r\n314159\r\n")) // as Notepad writes it
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

// What the key cannot do costs no try of the PIN.
func TestNoTryForNothing(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	for _, c := range []struct {
		profile string
		args    []string
	}{
		{"ctap2.0", []string{"fingerprint", "list"}}, {"ctap2.0", []string{"config", "force-pin-change"}},
		{"ctap2.0", []string{"config", "min-pin-length", "6", "-y"}}, {"ctap2.0", []string{"config", "long-touch", "-y"}},
		{"ctap2.1", []string{"config", "enterprise-attestation", "-y"}},
	} {
		r := pipe(t, key+c.profile, testPIN+"\n", "--virtual-profile", c.profile, "--pin-stdin", "pin", "set")
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		r = pipe(t, key+c.profile, "999999\n", append([]string{"--virtual-profile", c.profile, "--pin-stdin"}, c.args...)...)
		if r.code != unsupported.exit {
			t.Errorf("%v: %+v", c, r)
		}
		if err := os.Remove(key + c.profile); err != nil {
			t.Fatal(err)
		}
	}
}

// A PIN that is blocked, or locked, is not asked for, whatever the command.
func TestPINNotAskedFor(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	for tries := 8; tries > 0; tries-- {
		pipe(t, key, "999999\n", "pin", "check", "--pin-stdin")
	}
	commands := [][]string{
		{"pin", "check"}, {"pin", "change"}, {"register", "example.org", "ada"}, {"signin", "example.com", "--uv", "required"},
		{"credentials", "list"}, {"secret", "example.com", "--label", "disk"}, {"blob", "list"}, {"fingerprint", "add"}, {"config", "always-uv", "on"},
	}
	for _, args := range commands {
		s := person(t, key, args...)
		s.sees("The PIN is blocked.")
		s.sees("fidoctl reset")
		if all := s.ends(locked.exit); strings.Contains(all, "PIN (") {
			t.Errorf("%v:\n%s", args, all)
		}
	}
	for _, args := range commands { // nobody is told to give one either
		if r := pipe(t, key, "", append(args, "--yes")...); r.code != locked.exit || !strings.HasPrefix(r.err, "The PIN is blocked.") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	s := person(t, key, "conformance", "--cases", "^"+caseWithPIN(t)+"$")
	s.sees("The PIN is blocked: the cases that need it are left out.")
	if all := s.ends(0); strings.Contains(all, "leave it empty") {
		t.Errorf("%s", all)
	}
	s = person(t, key, "reset")
	s.sees("which cannot be listed: The PIN is blocked.")
	s.sees("[y/N] ")
	s.types("n\n")
	if all := s.ends(interrupted.exit); strings.Contains(all, "leave it empty") {
		t.Errorf("%s", all)
	}

	// Locked, it is until it is unplugged: as another run plugs the software key in
	// anew, the key is made up.
	_, terminal, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	p := &program{in: terminal, pinFD: -1, err: &printer{w: io.Discard}}
	locked := func() (ctap2.PINRetries, error) { return ctap2.PINRetries{Retries: 5, PowerCycle: true}, nil }
	if _, err := p.currentPIN(t.Context(), "PIN", nil, locked); !errors.Is(err, ctap2.ErrPINAuthBlocked) {
		t.Error(err)
	}
}

// A PIN that no key can have is asked for again, with the rule that it breaks, and
// costs no try.
func TestPINAskedForAgain(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	for _, args := range [][]string{{"pin", "check"}, {"pin", "change"}, {"register", "example.com", "ada"}, {"signin", "example.com", "--uv", "required"}} {
		s := person(t, key, args...)
		s.sees("PIN (8 tries left): ")
		s.types("12\n")
		s.sees("The PIN is too short: it has at least 4 characters.")
		s.sees("PIN (8 tries left): ")
		s.types(strings.Repeat("1", 64) + "\n")
		s.sees("The PIN is too long: it has at most 63 characters, in 63 bytes.")
		s.sees("PIN (8 tries left): ")
		s.types(testPIN + "\n")
		if args[1] == "change" {
			s.sees("New PIN (4 to 63 characters): ")
			s.types("12\n")
			s.sees("The PIN is too short: it has at least 4 characters.")
			s.sees("New PIN (4 to 63 characters): ")
			s.types("\n")
			s.ends(interrupted.exit)
			continue
		}
		s.ends(0)
	}
}
