package main

import (
	"strings"
	"testing"
)

// Flags that take one of a few words take no other: a misspelt one must not mean
// the default.
func TestChoices(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--uv must be required, preferred or discouraged, not \"Required\".", []string{"signin", "example.com", "--uv", "Required"}},
		{"--uv must be required, preferred or discouraged, not \"\".", []string{"signin", "example.com", "--uv", ""}},
		{"--uv must be required, preferred or discouraged, not \"bogus\".", []string{"register", "example.com", "bob", "--uv", "bogus"}},
		{"--resident-key must be required, preferred or discouraged, not \"never\".", []string{"register", "example.com", "bob", "--resident-key", "never"}},
		{"--attestation must be none, direct or enterprise, not \"all\".", []string{"register", "example.com", "bob", "--attestation", "all"}},
		{"--protect must be optional, listed or required, not \"well\".", []string{"register", "example.com", "bob", "--protect", "well"}},
		{"--uv must be required or discouraged, not \"preferred\".", []string{"secret", "example.com", "--label", "disk", "--uv", "preferred"}},
		{"--format must be hex, base64 or raw, not \"rot13\".", []string{"secret", "example.com", "--label", "disk", "--format", "rot13"}},
		{"--virtual-profile must be u2f, ctap2.0,", []string{"--virtual-profile", "ctap4", "info"}},
		{"--virtual-person must be ready, slow,", []string{"--virtual-person", "eve", "info"}},
		{"--level must be ", []string{"policy", "--level", "L9"}},
	} {
		r := pipe(t, key, testPIN+"\n", append([]string{"--pin-stdin"}, c.args...)...)
		if r.code != usage.exit || !strings.HasPrefix(r.err, c.want) || r.out != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	if n := len(listed(t, key).Credentials); n != 1 {
		t.Errorf("%d credentials", n)
	}
}

// A command line that is wrong is told so in words that name what is wrong.
func TestUsageTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		args []string
	}{
		{"Too many arguments: \"fidoctl info\".", []string{"info", "here"}},
		{"Too many arguments: \"fidoctl verify SITE REGISTRATION [SIGNIN]\".", []string{"verify", "a", "b", "c", "d"}},
		{"SITE is missing: \"fidoctl register SITE [USER]\".", []string{"register"}},
		{"USER is missing: without --options", []string{"register", "example.com"}},
		{"FILE is missing: \"fidoctl blob put CREDENTIAL FILE\".", []string{"blob", "put", "ada"}},
		{"CREDENTIAL is missing: \"fidoctl credentials delete CREDENTIAL…\".", []string{"credentials", "delete"}},
		{"NEW is missing: \"fidoctl conformance compare OLD NEW\".", []string{"conformance", "compare", "old.json"}},
		{"Say on or off: \"fidoctl config always-uv on|off\".", []string{"config", "always-uv"}},
		{"Say on or off, not \"perhaps\".", []string{"config", "always-uv", "perhaps"}},
		{"Fidoctl pin needs a subcommand.", []string{"pin"}},
		{"Give either --device or --virtual, not both.", []string{"--device", "a", "--virtual", "b", "list"}},
		{"Give either --pin-fd or --pin-stdin, not both.", []string{"--pin-fd", "3", "--pin-stdin", "list"}},
		{"Give either --record or --play, not both.", []string{"trace", "--record", "a", "--play", "b"}},
		{"Give either --label or --salt, not both.", []string{"secret", "example.com", "--label", "a", "--salt", "b"}},
		{"--virtual is given twice, and a command works with one key.", []string{"--virtual", "a", "--virtual", "b", "list"}},
		{"--device is given twice, and a command works with one key.", []string{"--device", "a", "list", "--device", "b"}},
		{"--virtual needs a name", []string{"--virtual", "", "list"}},
		{"--timeout needs a time with its unit, such as 5s, not \"soon\".", []string{"--timeout", "soon", "list"}},
		{"--timeout needs a time with its unit, such as 5s, not \"5\".", []string{"--timeout", "5", "list"}},
		{"--timeout needs a time with its unit, such as 5s, not \"-5s\".", []string{"--timeout=-5s", "list"}},
		{"Invalid argument \"soon\" for \"--max-wait\".", []string{"conformance", "--max-wait", "soon"}},
		{"Unknown command \"lst\" for \"fidoctl credentials\", perhaps list.", []string{"credentials", "lst"}},
		{"Unknown command \"credntials\" for \"fidoctl\", perhaps credentials.", []string{"credntials"}},
		{"--algorithm \"foo\" is none of [ES256 EdDSA", []string{"--virtual", newKey(t, ""), "register", "example.com", "ada", "--algorithm", "foo"}},
		{"Unknown flag: --frobnicate.", []string{"--frobnicate"}},
		{"No terminal to confirm on; use --yes.", []string{"--virtual", newKey(t, ""), "reset"}},
	} {
		if r := pipe(t, "", "", c.args...); r.code != usage.exit || !strings.HasPrefix(strings.TrimPrefix(r.err, lossOf(r.err)), c.want) || r.out != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	// A PIN that somebody gives as an argument is not repeated.
	if r := pipe(t, "", "", "pin", "check", testPIN); strings.Contains(r.err, testPIN) {
		t.Errorf("%+v", r)
	}
}

// Completion reads the flags twice.
func TestCompletionWithKey(t *testing.T) {
	t.Parallel()
	r := pipe(t, "", "", "__complete", "--virtual", newKey(t, ""), "credentials", "")
	if r.code != 0 || !strings.Contains(r.out, "rename\t") {
		t.Errorf("%+v", r)
	}
}

// lossOf is what a reset says before it asks.
func lossOf(text string) string {
	const last = "does not list them\n"
	if i := strings.Index(text, last); i >= 0 {
		return text[:i+len(last)]
	}
	return ""
}
