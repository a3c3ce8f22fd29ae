package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTracePerson(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	s := person(t, key, "trace")
	s.sees("command=authenticatorGetInfo")
	s.sees("status=OK")
	s.sees("speaks")
	s.ends(0)
	s = person(t, key, "trace", "pin", "check")
	s.sees("subcommand=getPINRetries")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("subcommand=getPinUvAuthTokenUsingPinWithPermissions")
	s.sees("redacted(")
	s.sees("The PIN is right.")
	s.ends(0)
	s = person(t, key, "--virtual-person", "absent", "trace", "register", "example.com", "ada", "--resident-key", "discouraged")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("Touch the key")
	s.types(ctrlC)
	s.sees("command=authenticatorMakeCredential")
	s.sees("KEEPALIVE_CANCEL")
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
}

func TestTraceScript(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	files := t.TempDir()
	log, recording := filepath.Join(files, "log"), filepath.Join(files, "recording")
	var r registerResult
	script(t, key, &r, "trace", "--output", log, "--accounts", "--record", recording, "register", "example.com", "ada")
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), `"command":"authenticatorMakeCredential"`) || !strings.Contains(string(text), "ada") ||
		strings.Contains(string(text), testPIN) {
		t.Errorf("%v\n%s", err, text)
	}
	// Played back it is the same, without the key.
	var again registerResult
	script(t, "", &again, "trace", "--play", recording, "--output", log, "register", "example.com", "ada")
	if again.ID.String() != r.ID.String() {
		t.Errorf("%+v is not %+v", again, r)
	}
	scriptFails(t, "", notValid, "trace", "--play", recording, "--output", log, "signin", "example.com")
	scriptFails(t, "", failure, "trace", "--play", log, "info")
	scriptFails(t, "", failure, "trace", "--play", filepath.Join(files, "none"), "info")
	scriptFails(t, key, failure, "trace", "--record", files, "info")
	scriptFails(t, key, failure, "trace", "--output", files, "info")
	scriptFails(t, key, usage, "trace", "trace", "info")
	scriptFails(t, key, usage, "trace", "frobnicate")
	scriptFails(t, key, usage, "trace", "--record", recording, "reset", "--yes")
	scriptFails(t, key, usage, "trace", "--record", recording, "--play", recording, "info")
	if r := pipe(t, key, "", "trace", "reset", "--yes"); r.code != 0 || !strings.Contains(r.err, "command=authenticatorReset") {
		t.Errorf("%+v", r)
	}
}
