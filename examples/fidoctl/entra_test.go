package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// graph is as much of Microsoft Graph as fidoctl meets. Package entra's tests
// have one that checks what it is sent.
type graph struct {
	mu      sync.Mutex
	methods map[string]string // a user's one key: its credential's ID
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer secret-token" {
		w.WriteHeader(401)
		return
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	user, _ := url.PathUnescape(path[1])
	switch {
	case !strings.HasSuffix(user, "@contoso.com"):
		w.WriteHeader(404)
		fmt.Fprint(w, `{"error": {"code": "Request_ResourceNotFound", "message": "no such user"}}`)
	case len(path) == 5 && path[4] == "creationOptions":
		fmt.Fprintf(w, `{"challengeTimeoutDateTime": "2099-01-01T00:00:00Z", "publicKey": {
			"rp": {"id": "login.microsoft.com", "name": "Microsoft"}, "user": {"id": %q, "name": %q, "displayName": "Somebody"},
			"challenge": "c2FsdA", "pubKeyCredParams": [{"type": "public-key", "alg": -7}], "excludeCredentials": [],
			"authenticatorSelection": {"requireResidentKey": true, "userVerification": "required"}, "attestation": "direct",
			"extensions": {"hmacCreateSecret": true, "credentialProtectionPolicy": "userVerificationOptional"}}}`, base64.RawURLEncoding.EncodeToString([]byte("OF:"+user)), user)
	case r.Method == "POST" && user == "refused@contoso.com":
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error": {"code": "badRequest", "message": "no attestation"}}`)
	case r.Method == "POST":
		var body struct {
			DisplayName         string
			PublicKeyCredential struct{ ID string }
		}
		json.NewDecoder(r.Body).Decode(&body)
		g.methods[user] = body.PublicKeyCredential.ID
		w.WriteHeader(201)
		fmt.Fprintf(w, `{"id": %q, "displayName": %q, "model": "Software", "aaGuid": "a46047dc"}`, g.methods[user], body.DisplayName)
	case r.Method == "DELETE":
		delete(g.methods, user)
		w.WriteHeader(204)
	case g.methods[user] == "":
		fmt.Fprint(w, `{"value": []}`)
	default:
		fmt.Fprintf(w, `{"value": [{"id": %q, "displayName": "blue key", "createdDateTime": "2026-01-02T03:04:05Z", "model": "Software"}]}`, g.methods[user])
	}
}

// newGraph returns the flags that reach one.
func newGraph(t *testing.T) []string {
	t.Helper()
	server := httptest.NewServer(&graph{methods: make(map[string]string)})
	t.Cleanup(server.Close)
	return []string{"--graph", server.URL, "--token-file", open(t, "secret-token\n").Name()}
}

func TestEntraPerson(t *testing.T) {
	t.Parallel()
	key, graph := newKey(t, ""), newGraph(t)
	users := open(t, "\ufeff# whose, and which\nada@contoso.com, blue key\n").Name() // as Excel writes it
	entra := func(args ...string) *screen {
		t.Helper()
		return person(t, key, append(append([]string{"entra"}, args...), graph...)...)
	}
	s := person(t, key, "entra", "check")
	s.sees("required  FIDO 2.0: versions")
	s.sees("The key meets the requirements of Entra ID and Windows as far as it says; run --probe for: several accounts.")
	s.ends(0)

	s = entra("provision", users)
	s.sees("ada@contoso.com: options fetched")
	s.sees("Attach the key for ada@contoso.com (blue key), and no other, then press Enter.")
	s.types("\n")
	s.sees("New PIN (4 to 63 characters): ")
	s.types(testPIN + "\n")
	s.sees("Repeat the new PIN: ")
	s.types(testPIN + "\n")
	s.sees("Touch the key (login.microsoft.com)")
	s.sees("ada@contoso.com: registered")
	s.ends(0)

	s = person(t, key, "entra", "rename", "ada@contoso.com", "ada.lovelace@contoso.com")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("Renamed ada@contoso.com to ada.lovelace@contoso.com.")
	s.ends(0)
	s = person(t, key, "entra", "rename", "ada.lovelace@contoso.com", "ada@contoso.com")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.ends(0)

	s = entra("keys", "ada@contoso.com")
	s.sees("blue key")
	s.sees("1 key")
	s.ends(0)

	s = entra("deprovision", "ada@contoso.com")
	s.sees("PIN")
	s.types(testPIN + "\n")
	s.sees("ada@contoso.com will no longer be able to sign in with this key. Continue? [y/N] ")
	s.types("y\n")
	s.sees("ada@contoso.com: removed")
	s.ends(0)
	if n := len(listed(t, key).Credentials); n != 0 {
		t.Errorf("%d credentials are left", n)
	}
}

func TestEntraScript(t *testing.T) {
	t.Parallel()
	key, graph := newKey(t, ""), newGraph(t)
	var c compatibleResult
	script(t, key, &c, "entra", "check")
	if !c.Compatible || len(c.Findings) < 5 {
		t.Errorf("%+v", c)
	}
	r := pipe(t, key+".old", "", "--json", "--virtual-profile", "u2f", "entra", "check")
	decode(t, r.out, &c)
	if r.code != refused.exit || c.Compatible {
		t.Errorf("%+v", r)
	}

	// A key without a PIN gets a random one, and has to have another.
	pins := filepath.Join(t.TempDir(), "pins.csv")
	users := open(t, "ada@contoso.com,blue key,1\nzoe@example.com,red key,2\n").Name()
	r = pipe(t, key, "", append([]string{"--json", "--yes", "entra", "provision", users, "--random-pins", pins, "--force-pin-change"}, graph...)...)
	var p provisionedResult
	decode(t, r.out, &p)
	if r.code != notFound.exit || len(p.Results) != 2 || p.Results[0].State != "registered" || p.Results[0].Error != nil ||
		p.Results[0].MethodID == "" || p.Results[1].State != "not started" || p.Results[1].Error == nil {
		t.Fatalf("exit %d: %s%s", r.code, r.out, r.err)
	}
	noted, err := os.ReadFile(pins)
	if err != nil {
		t.Fatal(err)
	}
	user, pin, _ := strings.Cut(strings.TrimSpace(string(noted)), ",")
	if user != "ada@contoso.com" || len(pin) != 6 || strings.Contains(r.out+r.err, pin) {
		t.Errorf("%q\n%s%s", noted, r.out, r.err)
	}
	if r := pipe(t, key, pin+"\n"+testPIN+"\n", "--pin-stdin", "pin", "change"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	var i infoResult
	script(t, key, &i, "info")
	if i.ForcePINChange {
		t.Errorf("%+v", i)
	}
	// One more account, on the key that has a PIN now.
	script(t, key, &p, append([]string{"entra", "provision", open(t, "bob@contoso.com,blue key,"+key).Name()}, graph...)...)
	if len(listed(t, key).Credentials) != 2 {
		t.Errorf("%+v", p)
	}
	scriptFails(t, key, notFound, "entra", "rename", "zoe@contoso.com", "eve@contoso.com")
	var d done
	script(t, key, &d, "entra", "rename", "bob@contoso.com", "robert@contoso.com")

	var m entraMethodsResult
	script(t, "", &m, append([]string{"entra", "keys", "ada@contoso.com"}, graph...)...)
	if len(m.Keys) != 1 || m.Keys[0].MethodID != p.Results[0].MethodID && m.Keys[0].MethodID == "" {
		t.Errorf("%+v", m)
	}
	script(t, "", &p, append([]string{"entra", "deprovision", "ada@contoso.com", "--without-key", "--method", m.Keys[0].MethodID}, graph...)...)
	if p.Results[0].State != "credential on the key, not registered" {
		t.Errorf("%+v", p)
	}

	for _, c := range []struct {
		want kind
		args []string
	}{
		{usage, []string{"entra", "keys", "ada@contoso.com"}},
		{notFound, append([]string{"entra", "keys", "ada@example.com"}, graph...)},
		{noAccess, append(append([]string{"entra", "keys", "ada@contoso.com"}, graph...), "--token-file", open(t, "another").Name())},
		{failure, append(append([]string{"entra", "keys", "ada@contoso.com"}, graph...), "--token-file", filepath.Join(t.TempDir(), "none"))},
		{usage, append([]string{"entra", "deprovision", "ada@contoso.com", "--without-key"}, graph...)},
		{usage, append([]string{"entra", "deprovision", "ada@contoso.com", "--credential", "?"}, graph...)},
		{notFound, append([]string{"entra", "deprovision", "zoe@contoso.com"}, graph...)},
		{usage, append([]string{"entra", "provision", open(t, "ada@contoso.com").Name()}, graph...)},
		{usage, append([]string{"entra", "provision", open(t, "").Name()}, graph...)},
		{usage, append([]string{"entra", "provision", open(t, `"`).Name()}, graph...)},
		{failure, append([]string{"entra", "provision", "/no/such/file"}, graph...)},
		{notValid, append([]string{"entra", "provision", users, "--metadata", users}, graph...)},
	} {
		scriptFails(t, key, c.want, c.args...)
	}
	// What to do about the token is said so that it can be done.
	for content, want := range map[string]string{
		"\n":                             "The token file is empty",
		`{"accessToken":"secret-token"}`: "--query accessToken --output tsv",
	} {
		e := scriptFails(t, "", usage, append(append([]string{"entra", "keys", "ada@contoso.com"}, graph...), "--token-file", open(t, content).Name())...)
		if !strings.Contains(e.What+e.Next, want) || strings.Contains(e.Detail, "secret-token") {
			t.Errorf("%q: %+v", content, e)
		}
	}
	if e := scriptFails(t, "", usage, "entra", "keys", "ada@contoso.com"); !strings.Contains(e.What, "--query accessToken --output tsv") {
		t.Errorf("%+v", e)
	}
	// What Graph has against a registration.
	r = pipe(t, key, testPIN+"\n", append([]string{"--json", "--yes", "--pin-stdin", "entra", "provision", open(t, "refused@contoso.com,blue key,1\n").Name()}, graph...)...)
	decode(t, r.out, &p)
	if r.code != refused.exit || p.Results[0].Error.Means != "No attestation." {
		t.Errorf("%+v", r)
	}
}
