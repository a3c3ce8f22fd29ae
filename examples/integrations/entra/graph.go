package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// A graph stands in for Microsoft Graph in trials. It is a relying party on
// go-webauthn in Graph's clothes, and knows whoever it is asked about.
type graph struct {
	rp *webauthn.WebAuthn

	mu    sync.Mutex
	users map[string]*user
}

type user struct {
	id          []byte
	name        string
	credentials []webauthn.Credential
	session     *webauthn.SessionData // until an answer comes
}

func (u *user) WebAuthnID() []byte                         { return u.id }
func (u *user) WebAuthnName() string                       { return u.name }
func (u *user) WebAuthnDisplayName() string                { return u.name }
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func newGraph() (http.Handler, error) {
	rp, err := webauthn.New(&webauthn.Config{
		RPID:                  "login.microsoft.com",
		RPDisplayName:         "Microsoft",
		RPOrigins:             []string{"https://login.microsoft.com"},
		AttestationPreference: protocol.PreferDirectAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification:   protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, err
	}
	g := &graph{rp: rp, users: make(map[string]*user)}
	mux := http.NewServeMux()
	const methods = "/users/{name}/authentication/fido2Methods"
	mux.HandleFunc("GET "+methods+"/creationOptions", g.creationOptions)
	mux.HandleFunc("POST "+methods, g.register)
	return mux, nil
}

func (g *graph) creationOptions(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := r.PathValue("name")
	u := g.users[name]
	if u == nil {
		u = &user{id: []byte(rand.Text()), name: name}
		g.users[name] = u
	}
	options, session, err := g.rp.BeginRegistration(u,
		webauthn.WithExclusions(webauthn.Credentials(u.credentials).CredentialDescriptors()),
		webauthn.WithExtensions(protocol.AuthenticationExtensions{
			"hmacCreateSecret":                  true,
			"credentialProtectionPolicy":        "userVerificationOptional",
			"enforceCredentialProtectionPolicy": true,
		}))
	if err != nil {
		refuse(w, err)
		return
	}
	u.session = session
	answer(w, http.StatusOK, map[string]any{
		"publicKey":                options.Response,
		"challengeTimeoutDateTime": time.Now().Add(5 * time.Minute).UTC(),
	})
}

func (g *graph) register(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var body struct {
		DisplayName         string         `json:"displayName"`
		PublicKeyCredential map[string]any `json:"publicKeyCredential"`
	}
	u := g.users[r.PathValue("name")]
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil || u == nil || u.session == nil {
		refuse(w, protocol.ErrBadRequest)
		return
	}
	// What Graph does without, and WebAuthn does not.
	body.PublicKeyCredential["type"] = "public-key"
	body.PublicKeyCredential["rawId"] = body.PublicKeyCredential["id"]
	session := *u.session
	u.session = nil
	data, err := json.Marshal(body.PublicKeyCredential)
	if err != nil {
		refuse(w, err)
		return
	}
	response, err := protocol.ParseCredentialCreationResponseBytes(data)
	if err != nil {
		refuse(w, err)
		return
	}
	credential, err := g.rp.CreateCredential(u, session, response)
	if err != nil {
		refuse(w, err)
		return
	}
	u.credentials = append(u.credentials, *credential)
	answer(w, http.StatusCreated, map[string]any{
		"id": response.ID, "displayName": body.DisplayName, "createdDateTime": time.Now().UTC(), "attestationLevel": "attested",
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who is gone needs no answer
}

func refuse(w http.ResponseWriter, err error) {
	answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"code": "badRequest", "message": err.Error()}})
}
