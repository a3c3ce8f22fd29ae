package entra_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

const (
	accessToken = "eyJ0eXAiOiJKV1QifQ.c2VjcmV0LWFjY2Vzcy10b2tlbg"
	keyPIN      = "horse staple"
	rpID        = "login.microsoft.com"
)

// A fault is what goes wrong with one request.
type fault struct {
	status     int           // answered in place of carrying it out; 0: carried out
	retryAfter string        // header
	message    string        // Graph's, along with the status
	before     bool          // the connection ends before it is carried out
	hang       bool          // carried out, and no answer comes
	cut        bool          // carried out, and half of the answer comes
	body       string        // answered in place of the answer's own body
	refuse     time.Duration // the challenge expires this much earlier than it says
}

// A graph is a server in Microsoft Graph's shape, as far as keys go. It checks
// what is sent to it as Entra does.
type graph struct {
	t      *testing.T
	client *http.Client
	base   string // the client's BaseURL

	mu          sync.Mutex
	users       map[string]*user
	challenges  map[string]*challenge // by the text of the key's client data
	faults      map[string][]fault    // by call, the next one first
	calls       []string              // "creationOptions ada@contoso.com"
	times       []time.Time           // when they came
	secrets     []string              // challenges, user handles
	skew        time.Duration         // of its clock
	uuids       bool                  // the IDs of methods are UUIDs
	perPage     int
	noRename    bool
	credProtect string // policy in the options
}

type user struct {
	handle      []byte
	credentials [][]byte
	methods     []entra.Method
}

type challenge struct {
	user    string
	expires time.Time
}

// newGraph starts one that knows the users, for a test in a bubble of
// testing/synctest: it is reached through pipes.
func newGraph(t *testing.T, users ...string) *graph {
	t.Helper()
	g := &graph{
		t: t, base: "http://localhost/beta",
		users:       make(map[string]*user),
		challenges:  make(map[string]*challenge),
		faults:      make(map[string][]fault),
		credProtect: "userVerificationOptional",
	}
	for _, name := range users {
		handle := append([]byte("OF:"), make([]byte, 48)...)
		rand.Read(handle[3:])
		g.users[name] = &user{handle: handle}
		g.secrets = append(g.secrets, base64.RawURLEncoding.EncodeToString(handle))
	}
	pipes := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: g, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(pipes)
	transport := &http.Transport{DialContext: pipes.dial}
	g.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return g
}

// pipes is a listener that is reached without a network.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "graph"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.connections <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fail has the next requests of a call fail.
func (g *graph) fail(call string, faults ...fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults[call] = append(g.faults[call], faults...)
}

// made returns how often a call was made, for all users or one.
func (g *graph) made(call string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, c := range g.calls {
		if c == call || strings.HasPrefix(c, call+" ") {
			n++
		}
	}
	return n
}

func (g *graph) methods(name string) []entra.Method {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.users[name].methods)
}

// api returns a Client of it.
func (g *graph) api() *entra.Client {
	return &entra.Client{
		Token:   func(context.Context) (string, error) { return accessToken, nil },
		BaseURL: g.base,
		HTTP:    g.client,
	}
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().Add(g.skew)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")

	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	quoted := len(path) > 1 && strings.HasPrefix(path[1], "users('") && strings.HasSuffix(path[1], "')")
	if quoted {
		path = slices.Concat(path[:1], []string{"users", path[1][len("users('") : len(path[1])-len("')")]}, path[2:])
	}
	if len(path) < 5 || path[0] != "beta" || path[1] != "users" || path[3] != "authentication" || path[4] != "fido2Methods" {
		g.refuse(w, 404, "Request_ResourceNotFound", "no such path")
		return
	}
	name, err := url.PathUnescape(path[2])
	if quoted {
		name = strings.ReplaceAll(name, "''", "'")
	}
	if err != nil || !quoted && strings.HasPrefix(name, "$") {
		g.refuse(w, 400, "badRequest", "path")
		return
	}
	below := ""
	if len(path) > 5 {
		if below, err = url.PathUnescape(path[5]); err != nil {
			g.refuse(w, 400, "badRequest", "path")
			return
		}
	}
	call := map[string]string{"GET": "list", "POST": "register", "DELETE": "delete", "PATCH": "rename"}[r.Method]
	if strings.HasPrefix(below, "creationOptions") {
		call = "creationOptions"
	}
	g.calls = append(g.calls, call+" "+name)
	g.times = append(g.times, time.Now())

	var f fault
	if faults := g.faults[call]; len(faults) > 0 {
		f, g.faults[call] = faults[0], faults[1:]
	}
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	switch {
	case f.before:
		panic(http.ErrAbortHandler)
	case f.status != 0:
		w.Header().Set("Location", g.base+"/elsewhere")
		g.refuse(w, f.status, "serviceError", f.message)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+accessToken {
		g.refuse(w, 401, "InvalidAuthenticationToken", "Access token is empty or wrong: "+r.Header.Get("Authorization"))
		return
	}
	u := g.users[name]
	if u == nil {
		g.refuse(w, 404, "Request_ResourceNotFound", "Resource '"+name+"' does not exist")
		return
	}
	recorder := &recorder{header: w.Header()}
	switch call {
	case "creationOptions":
		g.creationOptions(recorder, name, below, r.URL.RawQuery, now, f)
	case "list":
		g.list(recorder, r, u)
	case "register":
		g.register(recorder, name, body, now)
	case "delete":
		g.remove(recorder, u, below)
	case "rename":
		g.rename(recorder, u, below, body)
	}
	if f.hang {
		g.mu.Unlock()
		<-r.Context().Done()
		g.mu.Lock()
		return
	}
	answer := recorder.body.Bytes()
	if f.body != "" {
		answer = []byte(f.body)
	}
	if len(answer) > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	}
	w.WriteHeader(recorder.status)
	if f.cut {
		w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	}
	w.Write(answer)
}

// A recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func (g *graph) refuse(w http.ResponseWriter, status int, code, message string) {
	g.answer(w, status, map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"innerError": map[string]string{"date": "2025-12-08T16:35:25", "request-id": "b8090437-0868-45d4-a511-0977e3237ee0"},
	}})
}

func (g *graph) answer(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		g.t.Error(err)
	}
	w.WriteHeader(status)
	w.Write(encoded)
}

// spell writes a credential ID in one of the three ways that Graph has.
func spell(id []byte, way int) string {
	switch way % 3 {
	case 0:
		return base64.StdEncoding.EncodeToString(id)
	case 1:
		return suffixed(id)
	}
	return base64.RawURLEncoding.EncodeToString(id)
}

// suffixed has the number of pads at the end.
func suffixed(id []byte) string {
	padded := base64.URLEncoding.EncodeToString(id)
	body := strings.TrimRight(padded, "=")
	return body + strconv.Itoa(len(padded)-len(body))
}

func (g *graph) creationOptions(w http.ResponseWriter, name, below, query string, now time.Time, f fault) {
	minutes := 5
	if rest, ok := strings.CutPrefix(below, "creationOptions(challengeTimeoutInMinutes="); ok {
		var err error
		if minutes, err = strconv.Atoi(strings.TrimSuffix(rest, ")")); err != nil || minutes < 5 || minutes > 43200 {
			g.refuse(w, 400, "badRequest", "challengeTimeoutInMinutes")
			return
		}
	} else if below != "creationOptions" || query != "" {
		g.refuse(w, 405, "methodNotAllowed", "The method is not supported for this URL.")
		return
	}
	u := g.users[name]
	text := make([]byte, 5198) // a JWE is text of this length
	rand.Read(text)
	for i := range text {
		text[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[text[i]%64]
	}
	encoded := base64.RawURLEncoding.EncodeToString(text)
	expires := now.Add(time.Duration(minutes) * time.Minute)
	g.challenges[encoded] = &challenge{name, expires.Add(-f.refuse)}
	g.secrets = append(g.secrets, encoded, string(text))
	exclude := []any{}
	for i, id := range u.credentials {
		exclude = append(exclude, map[string]any{"type": "public-key", "id": spell(id, i), "transports": []string{"usb"}})
	}
	g.answer(w, 200, map[string]any{
		"@odata.context":           "https://graph.microsoft.com/beta/$metadata#microsoft.graph.webauthnCredentialCreationOptions",
		"challengeTimeoutDateTime": expires.UTC().Format(time.RFC3339),
		"publicKey": map[string]any{
			"rp":                 map[string]any{"id": rpID, "name": "Microsoft"},
			"user":               map[string]any{"id": base64.RawURLEncoding.EncodeToString(u.handle), "name": name, "displayName": "Some Body"},
			"challenge":          encoded,
			"pubKeyCredParams":   []any{map[string]any{"type": "public-key", "alg": -7}, map[string]any{"type": "public-key", "alg": -257}},
			"timeout":            60000,
			"excludeCredentials": exclude,
			"authenticatorSelection": map[string]any{
				"authenticatorAttachment": "cross-platform", "requireResidentKey": true, "userVerification": "required",
			},
			"attestation": "direct",
			"extensions": map[string]any{
				"hmacCreateSecret": true, "enforceCredentialProtectionPolicy": true, "credentialProtectionPolicy": g.credProtect,
			},
		},
	})
}

func (g *graph) list(w http.ResponseWriter, r *http.Request, u *user) {
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
	page := append([]entra.Method{}, u.methods[min(skip, len(u.methods)):]...)
	var value []any
	for _, m := range page {
		value = append(value, map[string]any{
			"id": m.ID, "displayName": m.DisplayName, "createdDateTime": m.CreatedDateTime, "aaGuid": m.AAGUID,
			"model": "NFC key", "attestationCertificates": []string{"dbe793efdf1945e2df25d93653a1e8a3268a9075"}, "attestationLevel": "attested",
		})
	}
	answer := map[string]any{"value": append([]any{}, value...)}
	if g.perPage > 0 && len(value) > g.perPage {
		answer["value"] = value[:g.perPage]
		answer["@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d", strings.Replace(r.URL.Path, "/beta", g.base, 1), skip+g.perPage)
	}
	g.answer(w, 200, answer)
}

// register does what Entra does with a new credential.
func (g *graph) register(w http.ResponseWriter, name string, body []byte, now time.Time) {
	var request struct {
		DisplayName         string `json:"displayName"`
		PublicKeyCredential struct {
			ID       string `json:"id"`
			Response struct {
				ClientDataJSON    string `json:"clientDataJSON"`
				AttestationObject string `json:"attestationObject"`
			} `json:"response"`
			ClientExtensionResults map[string]any `json:"clientExtensionResults"`
		} `json:"publicKeyCredential"`
	}
	refuse := func(message string) { g.refuse(w, 400, "badRequest", message) }
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields() // Graph's types are closed
	if err := decoder.Decode(&request); err != nil {
		refuse(err.Error())
		return
	}
	if len([]rune(request.DisplayName)) > 30 {
		refuse("displayName")
		return
	}
	credential := request.PublicKeyCredential
	encoding := base64.RawURLEncoding.Strict()
	id, err := encoding.DecodeString(credential.ID)
	clientData, err2 := encoding.DecodeString(credential.Response.ClientDataJSON)
	object, err3 := encoding.DecodeString(credential.Response.AttestationObject)
	if err != nil || err2 != nil || err3 != nil {
		refuse("not base64url without padding")
		return
	}
	var client struct{ Type, Challenge, Origin string }
	if err := json.Unmarshal(clientData, &client); err != nil || client.Type != "webauthn.create" || client.Origin != "https://"+rpID {
		refuse("client data")
		return
	}
	issued := g.challenges[client.Challenge]
	delete(g.challenges, client.Challenge) // good for once
	if issued == nil || issued.user != name || now.After(issued.expires) {
		refuse("The challenge has expired or is unknown: " + client.Challenge) // echoed, as a careless server would
		return
	}
	parsed, err := attestation.ParseObject(object)
	if err != nil || !bytes.Equal(parsed.ID, id) || parsed.Format != "packed" {
		refuse("attestation object")
		return
	}
	hash := sha256.Sum256(clientData)
	if _, err := attestation.Verify(parsed, hash[:]); err != nil {
		refuse("attestation statement")
		return
	}
	if parsed.AuthData.RPIDHash != sha256.Sum256([]byte(rpID)) || !parsed.AuthData.Flags.Has(ctap2.FlagUserPresent|ctap2.FlagUserVerified) {
		refuse("authenticator data")
		return
	}
	if results := credential.ClientExtensionResults; len(results) != 1 || results["hmacCreateSecret"] != true {
		refuse(fmt.Sprintf("clientExtensionResults %v", slices.Sorted(maps.Keys(results))))
		return
	}
	u := g.users[name]
	m := entra.Method{ID: suffixed(id), DisplayName: request.DisplayName, CreatedDateTime: now.UTC(), AAGUID: parsed.AuthData.AAGUID.String()}
	if g.uuids {
		m.ID = fmt.Sprintf("73ecec75-b546-cd6a-d74d-%012d", len(u.methods))
	}
	u.credentials = append(u.credentials, id)
	u.methods = append(u.methods, m)
	g.answer(w, 201, map[string]any{
		"@odata.type": "#microsoft.graph.fido2AuthenticationMethod", "id": m.ID, "displayName": m.DisplayName,
		"createdDateTime": m.CreatedDateTime, "aaGuid": m.AAGUID, "model": "NFC key",
		"attestationCertificates": []string{"dbe793efdf1945e2df25d93653a1e8a3268a9075"}, "attestationLevel": "attested",
	})
}

func (g *graph) remove(w http.ResponseWriter, u *user, id string) {
	for i, m := range u.methods {
		if m.ID == id {
			u.methods = slices.Delete(u.methods, i, i+1)
			u.credentials = slices.Delete(u.credentials, i, i+1)
			w.WriteHeader(204)
			return
		}
	}
	g.refuse(w, 404, "itemNotFound", "no such method")
}

func (g *graph) rename(w http.ResponseWriter, u *user, id string, body []byte) {
	var change struct{ DisplayName string }
	if g.noRename || json.Unmarshal(body, &change) != nil {
		g.refuse(w, 405, "methodNotAllowed", "The method is not supported for this URL.")
		return
	}
	for i := range u.methods {
		if u.methods[i].ID == id {
			u.methods[i].DisplayName = change.DisplayName
			w.WriteHeader(204)
			return
		}
	}
	g.refuse(w, 404, "itemNotFound", "no such method")
}

// hides fails the test if a text has a secret in it.
func (g *graph) hides(text string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range append(g.secrets, accessToken, keyPIN) {
		// Parts of it are secrets too.
		if part := secret[:min(len(secret), 24)]; strings.Contains(text, part) {
			g.t.Errorf("a secret (%.12q…) in %.300q", part, text)
		}
	}
}

// openKey returns an open software key with the PIN.
func openKey(t *testing.T, config virtual.Config) *ctap2.Authenticator {
	t.Helper()
	if config.BuiltInUV == virtual.UVNone && !config.NoClientPIN {
		config.PIN = keyPIN
	}
	device, err := virtual.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return openDevice(t, device)
}

func openDevice(t *testing.T, transport ctap2.Transport) *ctap2.Authenticator {
	t.Helper()
	key, err := ctap2.Open(t.Context(), transport, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(keyPIN), nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}
