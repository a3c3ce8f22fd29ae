package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestSecretPerson(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	s := person(t, key, "secret", "example.com", "--label", "backup")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("Touch the key (example.com)")
	s.sees("Which account? [1-2] ")
	s.types("\n")
	s.sees("Nothing was changed.")
	s.ends(interrupted.exit)
	s = person(t, key, "secret", "example.org", "--label", "backup")
	s.sees("PIN")
	s.types(testPIN + "\n")
	out := s.ends(0)
	var r secretResult
	script(t, key, &r, "secret", "example.org", "--label", "backup")
	if !strings.HasSuffix(out, "\n"+r.Secret.String()+"\n") && !strings.HasSuffix(out, r.Secret.String()+"\n") {
		t.Errorf("%q does not end with %v", out, r.Secret)
	}
}

func TestSecretScript(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	var one, other secretResult
	script(t, key, &one, "secret", "example.com", "--user", "ada", "--label", "backup")
	if len(one.Secret) != 32 {
		t.Fatalf("%+v", one)
	}
	for what, args := range map[string][]string{
		"another label":        {"example.com", "--user", "ada", "--label", "disk"},
		"another account":      {"example.com", "--user", "bob", "--label", "backup"},
		"without verification": {"example.com", "--uv", "discouraged", "--label", "backup", "--credential", one.ID.String()},
	} {
		script(t, key, &other, append([]string{"secret"}, args...)...)
		if one.Secret.String() == other.Secret.String() {
			t.Errorf("%s: the same secret", what)
		}
	}
	hash := sha256.Sum256([]byte("backup"))
	salt := hex.EncodeToString(hash[:])
	script(t, key, &other, "secret", "example.com", "--user", "ada", "--salt", salt)
	if one.Secret.String() != other.Secret.String() {
		t.Error("the label's hash is not the salt")
	}
	raw := pipe(t, key, testPIN+"\n", "--pin-stdin", "secret", "example.com", "--user", "ada", "--label", "backup", "--format", "raw")
	encoded := pipe(t, key, testPIN+"\n", "--pin-stdin", "secret", "example.com", "--user", "ada", "--label", "backup", "--format", "base64")
	if raw.out != string(one.Secret) || encoded.out != base64.StdEncoding.EncodeToString(one.Secret)+"\n" {
		t.Errorf("%q, %q", raw.out, encoded.out)
	}
	for _, args := range [][]string{
		{"example.com"}, {"example.com", "--label", "a", "--salt", salt}, {"example.com", "--salt", salt[2:]}, {"example.com", "--label", "a", "--format", "rot13"},
		{"example.com", "--label", "a", "--uv", "preferred"}, {"example.com", "--label", "a", "--credential", "?"}, {"example.com", "--label", "a"},
	} {
		scriptFails(t, key, usage, append([]string{"secret"}, args...)...)
	}
	scriptFails(t, key, notFound, "secret", "example.net", "--label", "a")
	var r registerResult
	key += ".old"
	script(t, key, &r, "--virtual-profile", "u2f", "register", "example.net", "ada")
	scriptFails(t, key, unsupported, "--virtual-profile", "u2f", "secret", "example.net", "--label", "a", "--uv", "discouraged", "--credential", r.ID.String())
}
