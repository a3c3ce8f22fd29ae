package main

import (
	"strings"
	"testing"

	"github.com/tapstone/fido/hid"
)

func TestList(t *testing.T) {
	key := newKey(t, "")
	var r listResult
	script(t, key, &r, "list")
	k := r.Keys[0]
	if len(r.Keys) != 1 || k.Name != key || k.Transport != "virtual" || k.PIN != "not set" || k.Fingerprints != "none" || k.AAGUID[0] == 0 {
		t.Errorf("%+v", r)
	}
	s := person(t, newKey(t, testPIN), "list")
	s.sees("set (8 tries left)")
	s.ends(0)
	script(t, key+".old", &r, "--virtual-profile", "u2f", "list")
	if r.Keys[0].PIN != "unsupported" || r.Keys[0].Fingerprints != "unsupported" {
		t.Errorf("%+v", r)
	}
	if out := pipe(t, "", "", "--device", "no such key", "list"); out.code != 0 || !strings.Contains(out.out, "No security key is attached.") {
		t.Errorf("%+v", out)
	}
	e := scriptFails(t, "", noKey, "--device", "no such key", "info")
	if !strings.Contains(e.Next, "--virtual") {
		t.Errorf("%+v", e)
	}
	scriptFails(t, key, usage, "--device", "both", "list")
	scriptFails(t, key, usage, "--virtual-profile", "fido9", "list")
	scriptFails(t, key, usage, "--virtual-person", "nobody", "list")
	scriptFails(t, open(t, "not a key").Name(), failure, "list")
}

func TestUdevRules(t *testing.T) {
	if r := pipe(t, "", "", "udev-rules"); r.code != 0 || r.out != hid.UdevRules() {
		t.Errorf("%+v", r)
	}
	var r rulesResult
	script(t, "", &r, "udev-rules")
	if r.Rules != hid.UdevRules() {
		t.Errorf("%+v", r)
	}
}
