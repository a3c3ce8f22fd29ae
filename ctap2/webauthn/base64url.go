package webauthn

import (
	"encoding/base64"
	"errors"
	"strings"
)

// A Base64URL is a byte string that JSON holds in base64url without padding
// (WebAuthn §3, "Base64url Encoding").
type Base64URL []byte

var errBase64URL = errors.New("not base64url")

// UnmarshalText reads base64url. Servers are known to send the standard
// alphabet, and padding: both are accepted. All else that is not one byte
// string's encoding is refused, such as bits left over at the end.
func (b *Base64URL) UnmarshalText(text []byte) error {
	s := strings.TrimRight(string(text), "=")
	if pads := len(text) - len(s); pads > 0 && (pads > 2 || len(text)%4 != 0) {
		return errBase64URL
	}
	encoding := base64.RawURLEncoding
	if strings.ContainsAny(s, "+/") {
		encoding = base64.RawStdEncoding
	}
	if strings.ContainsAny(s, "\r\n") { // package base64 skips them
		return errBase64URL
	}
	decoded, err := encoding.Strict().DecodeString(s)
	if err != nil {
		return errBase64URL
	}
	*b = decoded
	return nil
}

// MarshalText returns base64url without padding.
func (b Base64URL) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// String returns what MarshalText does.
func (b Base64URL) String() string { return base64.RawURLEncoding.EncodeToString(b) }
