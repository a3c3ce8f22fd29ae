package main

import (
	"os"
	"path/filepath"
	"regexp"
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
	if all := s.ends(interrupted.exit); !regexp.MustCompile(`Touch the key \(example\.com\) …(\^C)?\ntime=`).MatchString(all) {
		t.Errorf("behind the prompt: %q", all)
	}
}

// What replaces secrets in a recording is not taken for them.
func TestTraceSecret(t *testing.T) {
	t.Parallel()
	key, recording, log := newKey(t, testPIN), filepath.Join(t.TempDir(), "recording"), os.DevNull
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	var d done
	script(t, key, &d, "blob", "put", "ada", open(t, "a note").Name())
	for _, args := range [][]string{{"secret", "example.com", "--label", "disk"}, {"blob", "get", "example.com"}, {"blob", "list"}} {
		if r := pipe(t, key, testPIN+"\n", append([]string{"--pin-stdin", "trace", "--record", recording, "--output", log}, args...)...); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
		if e := scriptFails(t, "", usage, append([]string{"trace", "--play", recording, "--output", log}, args...)...); !strings.Contains(e.What, "A recording holds no ") {
			t.Errorf("%v: %+v", args, e)
		}
	}
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
	if e := scriptFails(t, "", notValid, "trace", "--play", log, "info"); e.Next == "" || !strings.Contains(e.Detail, log) {
		t.Errorf("%+v", e)
	}
	scriptFails(t, "", failure, "trace", "--play", filepath.Join(files, "none"), "info")
	// A recording that cannot begin leaves the old one, and no new one.
	old, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{recording, filepath.Join(files, "new")} {
		scriptFails(t, "", noKey, "--device", "none", "trace", "--record", name, "--output", name+".log", "info")
	}
	if now, err := os.ReadFile(recording); err != nil || string(now) != string(old) {
		t.Errorf("%v\n%s", err, now)
	}
	if left, err := filepath.Glob(filepath.Join(files, "new*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
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
