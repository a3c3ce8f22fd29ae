package main

import (
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2/virtual"
)

func TestPolicyPerson(t *testing.T) {
	key := newKey(t, testPIN)
	s := person(t, key, "policy")
	s.sees("Touch the key (fidoctl.invalid)")
	s.sees("attestation   basic, in the format packed")
	s.sees("The key passes.")
	s.ends(0)
	s = person(t, key, "policy", "--block", virtualModel)
	s.sees("The key does not pass: ")
	s.sees("block list")
	s.ends(refused.exit)
	s = person(t, key, "--virtual-person", "absent", "policy")
	s.sees("Touch the key")
	s.types(ctrlC)
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
}

// virtualModel is the software key's AAGUID, in its usual kind.
const virtualModel = "a46047dc-c37c-4f85-b5fa-4745fd9c5b4b"

func TestPolicyScript(t *testing.T) {
	key := newKey(t, "")
	config := virtual.ProfileCTAP23.Config()
	config.Path = key
	device, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	maker := open(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: device.AttestationRoot().Raw}))).Name()
	device.Close()
	other, err := virtual.New(virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stranger := open(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.AttestationRoot().Raw}))).Name()
	other.Close()

	var r policyResult
	for _, args := range [][]string{
		{}, {"--required"}, {"--allow", virtualModel}, {"--required", "--roots", maker}, {"--block", "00000000-0000-0000-0000-000000000000"},
	} {
		script(t, key, &r, append([]string{"policy"}, args...)...)
		if !r.Passed || r.AAGUID.String() != virtualModel || r.Attestation != "basic" || len(r.Certificates) != 1 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	for _, args := range [][]string{
		{"--block", virtualModel}, {"--allow", "00000000-0000-0000-0000-000000000001"}, {"--required", "--roots", stranger},
	} {
		out := pipe(t, key, "", append([]string{"--json", "policy"}, args...)...)
		decode(t, out.out, &r)
		if out.code != refused.exit || r.Passed || r.Reason == "" {
			t.Errorf("%v: %+v", args, out)
		}
	}
	if out := pipe(t, key, "", "policy", "--block", virtualModel); !strings.Contains(out.err, "Without --required, a key that lies") {
		t.Errorf("%+v", out)
	}
	if out := pipe(t, key, "", "policy", "--required", "--allow", virtualModel); strings.Contains(out.err, "lies") {
		t.Errorf("%+v", out)
	}
	// Which key it is, it tells where it may, and it is not touched in vain.
	if e := scriptFails(t, key, notSetUp, "--virtual-person", "absent", "policy", "--enterprise"); !strings.Contains(e.Next, "config enterprise-attestation") {
		t.Errorf("%+v", e)
	}
	for _, profile := range []string{"ctap2.0", "u2f"} {
		out := pipe(t, key+profile, "", "--json", "--virtual-profile", profile, "policy", "--enterprise")
		decode(t, out.out, &r)
		if out.code != refused.exit || r.Passed || r.Reason != "no enterprise attestation was given" {
			t.Errorf("%s: %+v", profile, out)
		}
	}
	var d done
	script(t, key, &d, "pin", "set")
	script(t, key, &d, "config", "enterprise-attestation")
	script(t, key, &r, "policy", "--enterprise")
	if len(r.Serial) == 0 {
		t.Errorf("%+v", r)
	}
	scriptFails(t, key, usage, "policy", "--allow", "a46047dc")
	scriptFails(t, key, usage, "policy", "--level", "high")
	scriptFails(t, key, failure, "policy", "--roots", filepath.Join(t.TempDir(), "none"))
	scriptFails(t, key, notValid, "policy", "--roots", key)
	if e := scriptFails(t, key, usage, "--virtual-person", "absent", "policy", "--level", "L1"); !strings.Contains(e.What, "--metadata") {
		t.Errorf("%+v", e)
	}
	scriptFails(t, key, notValid, "policy", "--metadata", maker)
}
