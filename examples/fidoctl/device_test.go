package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/conformance"
)

// TestDevice does with a key that is attached to this machine what the other
// tests do with one in a file. It is for keys that hold nothing, such as those
// of examples/virtualkey: FIDOCTL_TEST_DEVICE names one for --device. If
// FIDOCTL_TEST_REPLUG is a shell command that takes the key away and puts it
// back, the key is reset in the end.
func TestDevice(t *testing.T) {
	device, replug := os.Getenv("FIDOCTL_TEST_DEVICE"), os.Getenv("FIDOCTL_TEST_REPLUG")
	if device == "" {
		t.Skip("no FIDOCTL_TEST_DEVICE")
	}
	do := func(v any, args ...string) {
		t.Helper()
		script(t, "", v, append([]string{"--device", device}, args...)...)
	}
	// Whoever attaches it may just be doing so.
	for begin := time.Now(); pipe(t, "", "", "--device", device, "info").code != 0 && time.Since(begin) < 10*time.Second; {
		time.Sleep(100 * time.Millisecond)
	}
	var l listResult
	do(&l, "list")
	if len(l.Keys) != 1 || l.Keys[0].PIN != "not set" {
		t.Fatalf("not a key that holds nothing: %+v", l)
	}
	var i infoResult
	do(&i, "info")
	if i.Name != device || i.AAGUID != l.Keys[0].AAGUID {
		t.Errorf("%+v", i)
	}
	var d done
	do(&d, "pin", "set")
	do(&d, "pin", "check")
	files := t.TempDir()
	registered, signed := filepath.Join(files, "registered"), filepath.Join(files, "signed")
	var r registerResult
	do(&r, "register", "example.com", "ada", "--out", registered)
	var s signinResult
	do(&s, "signin", "example.com", "--out", signed)
	var v verifyResult
	do(&v, "verify", "example.com", registered, signed)
	var c credentialsResult
	do(&c, "credentials", "list")
	if len(c.Credentials) != 1 || c.Credentials[0].ID.String() != r.ID.String() {
		t.Errorf("%+v", c)
	}
	// The suite reaches an attached key below the messages, too. Nobody is there
	// to leave the key alone, or to lift it.
	checked := pipe(t, "", testPIN+"\n", "--device", device, "--json", "--yes", "--pin-stdin", "conformance", "--quick",
		"--max-wait", "0", "--cases", "^(info|enc|gpt)-|^hid-(init-(nonce|length|version|channel|unique)|ping-packet|cbor-getinfo)$|^nfc-(select|msg)")
	if checked.code != 0 {
		t.Fatalf("%+v", checked)
	}
	below := 0
	for _, e := range stream(t, checked.out) {
		if e.Kind == conformance.CaseEnd && e.Result.Needs.Transport != "" && e.Result.Outcome == conformance.Passed {
			below++
		}
	}
	if below < 5 {
		t.Errorf("%d cases of the transport passed\n%s", below, checked.out)
	}
	do(&d, "credentials", "rename", "ada", "--user", "ada@example.com")
	var gone deletedResult
	do(&gone, "credentials", "delete", "ada@example.com")
	if replug == "" {
		return
	}
	if asked := replugging(t, replug, "--device", device, "--yes", "reset"); asked != 1 {
		t.Errorf("taken away %d times", asked)
	}
	do(&l, "list")
	if l.Keys[0].PIN != "not set" {
		t.Errorf("%+v", l)
	}
	// The suite's resets, and what it sets up for them.
	report := filepath.Join(files, "report.json")
	asked := replugging(t, replug, "--device", device, "--yes", "conformance", "--destructive", "--quick", "--max-wait", "0",
		"--cases", "^rst-(touch|pin|credentials)$", "--report", report)
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var results conformance.Report
	if err := json.Unmarshal(data, &results); err != nil {
		t.Fatal(err)
	}
	for _, r := range results.Results {
		if r.Outcome != conformance.Passed {
			t.Errorf("%s: %s %s", r.ID, r.Outcome, r.Message)
		}
	}
	if len(results.Results) != 3 || asked < 3 {
		t.Errorf("%d results, taken away %d times", len(results.Results), asked)
	}
}

// replugging runs a command that must succeed, takes the key away and puts it back
// whenever that asks for it, and returns how often it did.
func replugging(t *testing.T, replug string, args ...string) (asked int) {
	t.Helper()
	cmd := command(t, args...)
	told, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(told); lines.Scan(); {
		line := lines.Text()
		said.WriteString(line + "\n")
		if !strings.Contains(line, "nplug the key") && !strings.Contains(line, "Lift the key") {
			continue
		}
		asked++
		time.Sleep(time.Second) // nobody is faster, and fidoctl has to be watching
		if out, err := exec.Command("/bin/sh", "-c", replug).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if code := exitCode(t, cmd.Wait()); code != 0 {
		t.Fatalf("%q: exit %d\n%s", args, code, said.String())
	}
	return asked
}
