package webauthn

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/tapstone/fido/ctap2"
)

// Types of client data (WebAuthn §5.8.1).
const (
	TypeCreate = "webauthn.create"
	TypeGet    = "webauthn.get"
)

// ClientData is what a client vouches for, and the key signs the hash of
// (WebAuthn §5.8.1).
type ClientData struct {
	Type      string // TypeCreate or TypeGet
	Challenge Base64URL
	Origin    string
	// CrossOrigin says that the request came from a frame of another origin than
	// the page, whose origin TopOrigin is, if it is known.
	CrossOrigin bool
	TopOrigin   string
}

// Serialize returns the client data in JSON, to the byte as WebAuthn §5.8.1.1
// prescribes it, so that a verifier can do without a JSON parser.
func (d *ClientData) Serialize() []byte {
	b := appendString([]byte(`{"type":`), d.Type)
	b = appendString(append(b, `,"challenge":`...), d.Challenge.String())
	b = appendString(append(b, `,"origin":`...), d.Origin)
	b = fmt.Appendf(b, `,"crossOrigin":%t`, d.CrossOrigin)
	if d.TopOrigin != "" {
		b = appendString(append(b, `,"topOrigin":`...), d.TopOrigin)
	}
	return append(b, '}')
}

// appendString appends a string in quotes: CCDToString (WebAuthn §5.8.1.1). It
// escapes less than encoding/json does.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// ErrNotValid is what Expectation.Check wraps with the reason.
var ErrNotValid = errors.New("webauthn: the response is not valid")

// An Expectation is what a relying party looks at in a response besides its
// signature and, for a registration, its attestation (WebAuthn §7.1 steps 6 to
// 17, §7.2 steps 10 to 18).
type Expectation struct {
	Type string // TypeCreate or TypeGet
	RPID string
	// AppID is the one of the request's extension appid (WebAuthn §10.1.1), empty
	// if it had none: a sign-in may be for the AppID in place of the RPID. In a
	// registration it is without effect.
	AppID string
	// Challenge is the one that was handed out. Nil: not looked at, which only a
	// tool may do that was not told it.
	Challenge        Base64URL
	UserVerification bool // the user must have been verified
}

// Check returns the client data of a response if it and the authenticator data
// are as expected, made at an origin that may use the RP ID, by a user who was
// there; and an error that wraps ErrNotValid otherwise. For a registration, data
// are the AuthData of what attestation.ParseObject returns.
func (x *Expectation) Check(clientDataJSON []byte, data *ctap2.AuthenticatorData) (*ClientData, error) {
	refused := func(format string, args ...any) (*ClientData, error) {
		return nil, fmt.Errorf("%w: %s", ErrNotValid, fmt.Sprintf(format, args...))
	}
	var client struct {
		Type        string    `json:"type"`
		Challenge   Base64URL `json:"challenge"`
		Origin      string    `json:"origin"`
		CrossOrigin bool      `json:"crossOrigin"`
		TopOrigin   string    `json:"topOrigin"`
	}
	if err := json.Unmarshal(clientDataJSON, &client); err != nil {
		return refused("clientDataJSON: %v", err)
	}
	made, err := parseOrigin(client.Origin)
	ours := data.RPIDHash == sha256.Sum256([]byte(x.RPID)) ||
		x.Type == TypeGet && x.AppID != "" && data.RPIDHash == sha256.Sum256([]byte(x.AppID))
	switch {
	case client.Type != x.Type:
		return refused("the type is %.64q, not %q", client.Type, x.Type)
	case x.Challenge != nil && !bytes.Equal(client.Challenge, x.Challenge):
		return refused("the challenge is another")
	case !ours:
		return refused("it is for another site than %q", x.RPID)
	case err != nil:
		return refused("it was made at %.64q: %v", client.Origin, err)
	case !made.mayClaim(x.RPID):
		return refused("it was made at %.64q, which may not use %q", client.Origin, x.RPID)
	case !data.Flags.Has(ctap2.FlagUserPresent):
		return refused("the user was not there")
	case x.UserVerification && !data.Flags.Has(ctap2.FlagUserVerified):
		return refused("the user was not verified")
	}
	return &ClientData{client.Type, client.Challenge, client.Origin, client.CrossOrigin, client.TopOrigin}, nil
}
