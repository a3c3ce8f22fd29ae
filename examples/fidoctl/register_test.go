package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRegisterAndSignInPerson(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	files := t.TempDir()
	ada, signed := filepath.Join(files, "ada.json"), filepath.Join(files, "signed.json")

	s := person(t, key, "register", "example.com", "ada", "--out", ada, "--virtual-person", "slow")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("Touch the key (example.com)")
	s.sees("Registered ada at example.com.")
	s.sees("kept on the key")
	s.ends(0)

	s = person(t, key, "signin", "example.com", "--out", signed)
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Signed in at example.com.")
	s.sees("user verified  yes")
	s.ends(0)

	s = person(t, "", "verify", "example.com", ada, signed)
	s.sees("The registration at example.com is valid.")
	s.sees("attestation    basic")
	s.sees("The sign-in with it is valid.")
	s.ends(0)

	// A second account: which one?
	s = person(t, key, "register", "example.com", "bob")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Registered bob")
	s.ends(0)
	s = person(t, key, "signin", "example.com")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("1  bob")
	s.sees("2  ada")
	s.sees("Which account? [1-2] ")
	s.types("3\n")
	s.sees("Which account? [1-2] ")
	s.types("2\n")
	s.sees("Signed in at example.com as ada.")
	s.ends(0)
}

// The key waits for somebody who is not there; Ctrl-C ends that, on the key as
// well.
func TestInterruptedTouch(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	s := person(t, key, "register", "example.com", "ada", "--virtual-person", "absent")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Touch the key")
	s.types(ctrlC)
	s.sees("Interrupted.")
	s.ends(interrupted.exit)
	if r := listed(t, key); len(r.Credentials) != 0 {
		t.Errorf("%+v", r)
	}
	// And while somebody is asked for a PIN, after which the terminal shows again
	// what is typed.
	cmd := command(t, "--virtual", key, "pin", "check")
	shell := command(t)
	shell.Path, shell.Args = "/bin/sh", []string{"sh", "-c", "trap : INT; " + cmd.Path + ` --virtual "$1" pin check; stty -a; cat`, "sh", key}
	s = onScreen(t, shell)
	s.sees("PIN (8 tries left): ")
	s.types(ctrlC)
	s.sees("Interrupted.")
	s.sees(" echo ")
	s.types("\x04")
	s.ends(0)
}

func TestRegisterAndSignInScript(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	files := t.TempDir()
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada", "--algorithm", "EdDSA", "--user-id", "00ff", "--protect", "required")
	if r.Site != "example.com" || r.User != "ada" || !*r.Discoverable || !r.UserVerified || r.Algorithm != "EdDSA" || r.Attestation != "basic" {
		t.Errorf("%+v", r)
	}
	var response struct{ RawID, Type string }
	if err := json.Unmarshal(r.Registration, &response); err != nil || response.Type != "public-key" {
		t.Errorf("%v: %s", err, r.Registration)
	}
	var c credentialResult
	script(t, key, &c, "credentials", "show", response.RawID)
	if c.ID.String() != r.ID.String() || c.UserID.String() != "00ff" || c.Protection != "userVerificationRequired" {
		t.Errorf("%+v", c)
	}

	// The result itself is good to verify, too.
	write := func(name string, v any) string {
		t.Helper()
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.Join(files, name)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	var s signinResult
	script(t, key, &s, "signin", "https://example.com", "--uv", "required")
	if !s.UserPresent || !s.UserVerified || s.UserID.String() != "00ff" || s.Counter == 0 {
		t.Errorf("%+v", s)
	}
	registered, signed := write("registered", map[string]any{"registration": r.Registration}), write("signed", map[string]any{"authentication": s.Authentication})
	var v verifyResult
	script(t, "", &v, "verify", "https://example.com", registered, signed)
	if v.Attestation != "basic" || v.Signin == nil || !v.Signin.UserVerified || v.Signin.Origin != "https://example.com" {
		t.Errorf("%+v", v)
	}
	public := filepath.Join(files, "public.pem")
	script(t, "", &v, "verify", "example.com", registered, "--public-key", public)
	if data, err := os.ReadFile(public); err != nil || string(data) != v.PublicKey || !strings.HasPrefix(v.PublicKey, "-----BEGIN PUBLIC KEY-----\n") {
		t.Errorf("%q, %v", data, err)
	}

	// What a site refuses.
	scriptFails(t, "", notValid, "verify", "example.org", registered, signed)
	scriptFails(t, "", notValid, "verify", "example.com", signed)
	scriptFails(t, "", notValid, "verify", "example.com", registered, registered)
	var other registerResult
	script(t, key, &other, "register", "example.com", "bob")
	scriptFails(t, "", notValid, "verify", "example.com", write("other", map[string]any{"registration": other.Registration}), signed)
	scriptFails(t, "", failure, "verify", "example.com", filepath.Join(files, "none"))
	for _, text := range []string{"", "[]", "{}", `{"registration": {}}`} {
		file := open(t, text).Name()
		if e := scriptFails(t, "", notValid, "verify", "example.com", file); e.Next == "" || !strings.Contains(e.Detail, file) {
			t.Errorf("%q: %+v", text, e)
		}
	}
	if r := pipe(t, "", "", "verify", "example.org", registered); !strings.HasPrefix(r.err, "The response is not valid.\n  Do not trust it.\n  (") || !strings.Contains(r.err, "another site than") {
		t.Errorf("no reason: %+v", r)
	}

	// Several accounts, and nobody to ask.
	if e := scriptFails(t, key, usage, "signin", "example.com", "--uv", "required"); !strings.Contains(e.What, "everal accounts: bob, ada; choose one with --user.") {
		t.Errorf("%+v", e)
	}
	script(t, key, &s, "signin", "example.com", "--user", "ada")
	if s.User != "ada" || s.ID.String() != r.ID.String() {
		t.Errorf("%+v", s)
	}
	scriptFails(t, key, notFound, "signin", "example.com", "--user", "zoe")
	scriptFails(t, key, notFound, "signin", "example.net")

	// A credential that the key does not keep.
	script(t, key, &r, "register", "example.net", "ada", "--resident-key", "discouraged")
	if *r.Discoverable {
		t.Errorf("%+v", r)
	}
	scriptFails(t, key, notFound, "signin", "example.net")
	script(t, key, &s, "signin", "example.net", "--credential", r.ID.String())

	for _, args := range [][]string{
		{"register", "example.com"},
		{"register", "example.com", "ada", "--user-id", "xyz"},
		{"register", "example.com", "ada", "--algorithm", "ROT13"},
		{"register", "example.com", "ada", "--protect", "well"},
		{"register", "http://example.com", "ada"},
		{"signin", "example.com", "--credential", "?"},
	} {
		scriptFails(t, key, usage, args...)
	}
	scriptFails(t, key, noTouch, "--virtual-person", "unwilling", "register", "example.com", "ada")
	scriptFails(t, key, noTouch, "--virtual-person", "absent", "--timeout", "1s", "register", "example.com", "ada")
	scriptFails(t, key, failure, "register", "example.com", "ada", "--out", files)
}

// The options and the responses are those of sites.
func TestOptionsOfASite(t *testing.T) {
	key := newKey(t, testPIN)
	files := t.TempDir()
	options := open(t, `{"publicKey": {"rp": {"id": "example.com", "name": "Example"},
		"user": {"id": "AP8", "name": "ada@example.com", "displayName": "Ada"}, "challenge": "c2FsdA",
		"pubKeyCredParams": [{"type": "public-key", "alg": -7}],
		"authenticatorSelection": {"residentKey": "required", "userVerification": "required"}, "attestation": "none"}}`).Name()
	response := filepath.Join(files, "response")
	var r registerResult
	script(t, key, &r, "register", "login.example.com", "--options", options, "--out", response)
	if r.User != "ada@example.com" || r.Discoverable != nil || r.Attestation != "none" || !r.UserVerified {
		t.Errorf("%+v", r)
	}
	request := open(t, `{"rpId": "example.com", "challenge": "c3VnYXI", "userVerification": "required"}`).Name()
	var s signinResult
	script(t, key, &s, "signin", "login.example.com", "--options", request, "--out", filepath.Join(files, "signed"))
	var v verifyResult
	script(t, "", &v, "verify", "example.com", response, filepath.Join(files, "signed"))
	if v.Registration.Challenge != "c2FsdA" || v.Signin.Challenge != "c3VnYXI" || v.Signin.Origin != "https://login.example.com" {
		t.Errorf("%+v", v)
	}
	scriptFails(t, key, usage, "register", "example.org", "--options", options)
	scriptFails(t, key, usage, "register", "example.com", "--options", open(t, "{}").Name())
	scriptFails(t, key, failure, "signin", "example.com", "--options", filepath.Join(files, "none"))
}

// Two accounts of one name are told apart by their IDs, and the second one is no
// surprise.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var one, other registerResult
	script(t, key, &one, "register", "example.com", "ada")
	s := person(t, key, "register", "example.com", "ada")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("The key has an account ada at example.com already (" + one.ID.short() + "): it keeps both.")
	s.sees("Registered ada at example.com.")
	if all := s.ends(0); strings.Count(all, "PIN (") != 1 || strings.Count(all, "Touch") != 1 {
		t.Errorf("more is asked of the person:\n%s", all)
	}
	for _, c := range listed(t, key).Credentials {
		if c.ID.String() != one.ID.String() {
			other.ID = c.ID
		}
	}
	s = person(t, key, "signin", "example.com")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("1  ada (" + other.ID.short() + ")")
	s.sees("2  ada (" + one.ID.short() + ")")
	s.sees("Which account? [1-2] ")
	s.types("2\n")
	s.sees("Signed in at example.com as ada.")
	s.sees(one.ID.String())
	s.ends(0)

	// For a script the ID is the name.
	e := scriptFails(t, key, usage, "signin", "example.com", "--user", "ada")
	if !strings.HasPrefix(e.What, `Several accounts "ada" at example.com: `) || !strings.Contains(e.What, one.ID.short()) || !strings.Contains(e.Next, "fidoctl credentials list") {
		t.Errorf("%+v", e)
	}
	var signed signinResult
	script(t, key, &signed, "signin", "example.com", "--user", one.ID.short())
	if signed.ID.String() != one.ID.String() || signed.User != "ada" {
		t.Errorf("%+v", signed)
	}
	var secret secretResult
	script(t, key, &secret, "secret", "example.com", "--label", "disk", "--user", other.ID.String()[:8])
	if secret.ID.String() != other.ID.String() {
		t.Errorf("%+v", secret)
	}
	scriptFails(t, key, notFound, "signin", "example.com", "--user", one.ID.String()[:7])

	// What the person has said already is no news: a user ID replaces an account.
	if r := pipe(t, key, testPIN+"\n", "--pin-stdin", "register", "example.com", "ada", "--user-id", "01"); r.code != 0 || strings.Contains(r.err, "already") {
		t.Errorf("%+v", r)
	}
}

// What is not found is named, with the place and the command that lists what there is.
func TestNoSuchAccount(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var r registerResult
	script(t, key, &r, "register", "example.com", "ada")
	script(t, key, &r, "register", "login.example.com", "robert")
	for _, c := range []struct {
		what, next string
		args       []string
	}{
		{`No account "robert" at example.com.`, "fidoctl credentials list", []string{"signin", "example.com", "--user", "robert"}},
		{`No account "zoe" at login.example.com.`, "fidoctl credentials list", []string{"secret", "login.example.com", "--label", "disk", "--user", "zoe"}},
		{`No credential "zoe" on the key.`, "fidoctl credentials list", []string{"credentials", "show", "zoe"}},
		{`No fingerprint "thumb" on the key.`, "fidoctl fingerprint list", []string{"fingerprint", "remove", "thumb", "--yes"}},
	} {
		if e := scriptFails(t, key, notFound, c.args...); e.What != c.what || !strings.Contains(e.Next, c.next) {
			t.Errorf("%v: %+v", c.args, e)
		}
	}
}

// The sign-in of another credential is told from a signature that is wrong.
func TestVerifyAnotherCredential(t *testing.T) {
	t.Parallel()
	key, folder := newKey(t, testPIN), t.TempDir()
	ada, bob, signed := filepath.Join(folder, "ada"), filepath.Join(folder, "bob"), filepath.Join(folder, "signed")
	var one, other registerResult
	script(t, key, &one, "register", "example.com", "ada", "--out", ada)
	script(t, key, &other, "register", "example.com", "bob", "--out", bob)
	var s signinResult
	script(t, key, &s, "signin", "example.com", "--user", "ada", "--out", signed)
	want := "The sign-in is with credential " + one.ID.String() + ", not with the registered one, " + other.ID.String() + "."
	if e := scriptFails(t, "", notValid, "verify", "example.com", bob, signed); e.What != want {
		t.Errorf("%+v", e)
	}
	var v verifyResult
	script(t, "", &v, "verify", "example.com", ada, signed)
}

// SITE means one RP ID, and one origin, whatever the command.
func TestSiteOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"example.com":                       {"https://example.com", "example.com"},
		"Case.example":                      {"https://case.example", "case.example"},
		"https://Case.example/login?x=1#in": {"https://case.example", "case.example"},
		"http://localhost:8080":             {"http://localhost:8080", "localhost"},
		"localhost:8080":                    {"https://localhost:8080", "localhost"},
		"bücher.example":                    {"https://xn--bcher-kva.example", "xn--bcher-kva.example"},
		"a_b.example":                       {"https://a_b.example", "a_b.example"},
		"MyApp":                             {"https://myapp", "MyApp"}, "ssh:1234": {"https://ssh:1234", "ssh:1234"}, "https://[::1]:8080": {"", "https://[::1]:8080"},
		"ssh:": {"", "ssh:"}, "ssh:/": {"", "ssh:/"}, "https:": {"", "https:"}, "pam://host": {"", "pam://host"},
		"": {"", ""}, "ada@example.com": {"", "ada@example.com"}, "ssh:host": {"", "ssh:host"},
	} {
		origin, _, err := siteOf(text)
		if origin != want[0] || (err != nil) != (origin == "") || rpIDOf(text) != want[1] {
			t.Errorf("%q: %q, %q, %v", text, origin, rpIDOf(text), err)
		}
	}
	key := newKey(t, testPIN)
	for _, args := range [][]string{{"register", "ssh:", "ada"}, {"register", "pam://host", "ada"}, {"signin", "https:"}, {"register", "", "ada"}} {
		if e := scriptFails(t, key, usage, args...); !strings.Contains(e.What, "is no site") || !strings.Contains(e.What, "fidoctl secret") {
			t.Errorf("%v: %+v", args, e)
		}
	}
	for _, s := range []string{"1.2.3.4", "http://example.com"} {
		if e := scriptFails(t, key, usage, "register", s, "ada"); e.What != "This site may not do that." {
			t.Errorf("%s: %+v", s, e)
		}
	}
	var r registerResult
	var v verifyResult
	file := filepath.Join(t.TempDir(), "ada")
	script(t, key, &r, "register", "Case.example", "ada", "--out", file)
	if r.Site != "case.example" {
		t.Errorf("%+v", r)
	}
	script(t, "", &v, "verify", "Case.example", file)
	script(t, key, new(signinResult), "signin", "CASE.example/login")
	script(t, key, new(secretResult), "secret", "Case.Example", "--label", "disk")
	script(t, key, new(credentialResult), "credentials", "show", "Case.example")
	var all credentialsResult
	if script(t, key, &all, "credentials", "list", "Case.example"); len(all.Credentials) != 1 {
		t.Errorf("%+v", all)
	}
}

// A credential is not replaced unasked, on keys that list what they have and on
// those that tell of it without a touch.
func TestReplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ profile, pin string }{{"ctap2.3", testPIN}, {"ctap2.3", ""}, {"ctap2.0", ""}} {
		key := newKey(t, c.pin)
		if c.profile != "ctap2.3" {
			key += ".old"
		}
		register := func(args ...string) run {
			t.Helper()
			return pipe(t, key, testPIN+"\n", append([]string{"--virtual-profile", c.profile, "--pin-stdin", "register"}, args...)...)
		}
		again := []string{"example.com", "ada", "--user-id", "0102"}
		if r := register(again...); r.code != 0 || strings.Contains(r.err, "already") {
			t.Errorf("%v: %+v", c, r)
		}
		if r := register(again...); r.code != usage.exit || !strings.Contains(r.err, "replaces that credential for good") || strings.Contains(r.err, "Touch") {
			t.Errorf("%v: %+v", c, r)
		}
		options := open(t, `{"rp": {"id": "example.com", "name": "Example"}, "user": {"id": "AQI", "name": "ada", "displayName": "Ada"},
			"challenge": "c2FsdA", "pubKeyCredParams": [{"type": "public-key", "alg": -7}], "authenticatorSelection": {"requireResidentKey": true}}`).Name()
		if r := register("login.example.com", "--options", options); r.code != usage.exit {
			t.Errorf("%v: %+v", c, r)
		}
		// What replaces nothing asks nothing.
		for _, args := range [][]string{{"example.com", "ada"}, append(again, "--resident-key", "discouraged"), {"example.org", "ada", "--user-id", "0102"}} {
			if r := register(args...); r.code != 0 {
				t.Errorf("%v: %+v", c, r)
			}
		}
		if r := register(append(again, "--yes")...); r.code != 0 || !strings.Contains(r.err, "replaces that credential for good") {
			t.Errorf("%v: %+v", c, r)
		}
	}
	key := newKey(t, testPIN)
	// Where the PIN cannot be had, a credential that may be kept elsewhere is.
	options := open(t, `{"rp": {"id": "example.com", "name": "Example"}, "user": {"id": "AQI", "name": "ada", "displayName": "Ada"},
		"challenge": "c2FsdA", "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
		"authenticatorSelection": {"residentKey": "preferred", "userVerification": "discouraged"}}`).Name()
	if r := pipe(t, key, "", "register", "example.com", "--options", options); r.code != 0 {
		t.Errorf("%+v", r)
	}
	script(t, key, new(registerResult), "register", "example.com", "ada", "--user-id", "01")
	s := person(t, key, "register", "example.com", "ada", "--user-id", "01")
	s.sees("PIN (8 tries left): ")
	s.types(testPIN + "\n")
	s.sees("The key has this account at example.com already, as ada (")
	s.sees("Replace it? [y/N] ")
	s.types("\n")
	s.sees("Nothing was changed.")
	s.ends(interrupted.exit)
}

// What was asked for and cannot be had is not left out in silence.
func TestRegisterWithout(t *testing.T) {
	t.Parallel()
	key := newKey(t, "")
	if e := scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "register", "a.example", "ada", "--protect", "required"); !strings.Contains(e.What, "credential protection") {
		t.Errorf("%+v", e)
	}
	if e := scriptFails(t, key+".u2f", unsupported, "--virtual-profile", "u2f", "register", "a.example", "ada", "--resident-key", "required"); !strings.Contains(e.What, "discoverable") {
		t.Errorf("%+v", e)
	}
	scriptFails(t, key, notSetUp, "register", "a.example", "ada", "--attestation", "enterprise")
	if r := pipe(t, key+".old", "", "--virtual-profile", "ctap2.0", "register", "a.example", "ada", "--attestation", "enterprise"); r.code != 0 || !strings.Contains(r.err, "no enterprise attestation") {
		t.Errorf("%+v", r)
	}
	if r := pipe(t, key, "", "register", "a.example", strings.Repeat("long ", 13)); r.code != 0 || !strings.Contains(r.err, "more than 64 bytes") {
		t.Errorf("%+v", r)
	}
	if e := scriptFails(t, key, usage, "register", "a.example", "ada", "--user-id", strings.Repeat("00", 65)); !strings.Contains(e.What, "65 bytes, not 1 to 64") {
		t.Errorf("%+v", e)
	}
}
