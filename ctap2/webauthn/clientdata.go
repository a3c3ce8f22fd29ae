package webauthn

import (
	"fmt"
	"unicode/utf8"
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
