package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// A server is a relying party on go-webauthn, for trials: it keeps its users in
// memory, and lets anybody register for any name.
type server struct {
	*webauthn.WebAuthn

	mu       sync.Mutex
	users    map[string]*user
	sessions map[string]*webauthn.SessionData // by cookie, until an answer comes
}

// A user is a webauthn.User.
type user struct {
	id          []byte
	name        string
	credentials []webauthn.Credential
}

func (u *user) WebAuthnID() []byte                         { return u.id }
func (u *user) WebAuthnName() string                       { return u.name }
func (u *user) WebAuthnDisplayName() string                { return u.name }
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

// newServer returns the server of an origin whose host is rpID.
func newServer(origin, rpID string) (http.Handler, error) {
	rp, err := webauthn.New(&webauthn.Config{RPID: rpID, RPDisplayName: "Example", RPOrigins: []string{origin}})
	if err != nil {
		return nil, err
	}
	s := &server{WebAuthn: rp, users: make(map[string]*user), sessions: make(map[string]*webauthn.SessionData)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /users/{name}/registration/options", s.begin(func(u *user) (any, *webauthn.SessionData, error) {
		// A trial leaves nothing behind on the key.
		return s.BeginRegistration(u, webauthn.WithResidentKeyRequirement(protocol.ResidentKeyRequirementDiscouraged),
			webauthn.WithExclusions(webauthn.Credentials(u.credentials).CredentialDescriptors()))
	}))
	mux.HandleFunc("POST /users/{name}/registration", s.finish(func(u *user, session webauthn.SessionData, r *http.Request) error {
		credential, err := s.FinishRegistration(u, session, r)
		if err == nil {
			u.credentials = append(u.credentials, *credential)
		}
		return err
	}))
	mux.HandleFunc("POST /users/{name}/signin/options", s.begin(func(u *user) (any, *webauthn.SessionData, error) {
		return s.BeginLogin(u)
	}))
	mux.HandleFunc("POST /users/{name}/signin", s.finish(func(u *user, session webauthn.SessionData, r *http.Request) error {
		_, err := s.FinishLogin(u, session, r)
		return err
	}))
	return mux, nil
}

// begin sends options, and remembers for whom.
func (s *server) begin(options func(*user) (any, *webauthn.SessionData, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name := r.PathValue("name")
		if s.users[name] == nil {
			s.users[name] = &user{id: []byte(rand.Text()), name: name}
		}
		o, session, err := options(s.users[name])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		cookie := rand.Text()
		s.sessions[cookie] = session
		http.SetCookie(w, &http.Cookie{Name: "session", Value: cookie, Path: "/", HttpOnly: true})
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o) // who is gone needs no answer
	}
}

// finish takes one answer to the options.
func (s *server) finish(check func(*user, webauthn.SessionData, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		cookie, err := r.Cookie("session")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		session, u := s.sessions[cookie.Value], s.users[r.PathValue("name")]
		delete(s.sessions, cookie.Value)
		if session == nil || u == nil {
			http.Error(w, "nothing was asked", http.StatusBadRequest)
			return
		}
		if err := check(u, *session, r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
