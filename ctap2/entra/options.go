package entra

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2/webauthn"
)

// Options are the creation options that Graph gives for one user
// (webauthnCredentialCreationOptions).
type Options struct {
	// PublicKey are the options for the key. Its ExcludeCredentials hold every
	// credential ID that those in the answer can stand for, and its
	// AuthenticatorSelection says nothing about the attachment, on which
	// Graph's answers do not agree.
	PublicKey *webauthn.CreationOptions
	// Expires is when Entra stops accepting the challenge, by this machine's
	// clock where they come from a Client, and by Graph's where from
	// ParseOptions; zero if the answer does not say.
	Expires time.Time
}

// ParseOptions reads Graph's answer to creationOptions. It refuses with
// ErrMalformed what is no such answer; the error says which member.
func ParseOptions(data []byte) (*Options, error) {
	answer, err := object("", data)
	if err != nil {
		return nil, err
	}
	if value, ok := answer["value"]; ok && answer["publicKey"] == nil {
		if answer, err = object("value", value); err != nil { // as the documentation of beta has it
			return nil, err
		}
	}
	options := new(Options)
	if options.Expires, err = parseExpiry(answer["challengeTimeoutDateTime"]); err != nil {
		return nil, err
	}
	publicKey, err := object("publicKey", answer["publicKey"])
	if err != nil {
		return nil, err
	}
	exclude, err := parseExclude(publicKey["excludeCredentials"])
	if err != nil {
		return nil, err
	}
	delete(publicKey, "excludeCredentials") // not in WebAuthn's base64url
	rest, err := json.Marshal(publicKey)
	if err != nil {
		return nil, malformed("publicKey")
	}
	if options.PublicKey, err = webauthn.ParseCreationOptions(rest); err != nil {
		return nil, fmt.Errorf("%w: publicKey: %w", ErrMalformed, err)
	}
	if options.PublicKey.RP.ID == "" {
		return nil, malformed("publicKey.rp.id")
	}
	options.PublicKey.ExcludeCredentials = exclude
	// A key in the hand is what there is, and v1.0's documentation shows "platform".
	options.PublicKey.AuthenticatorSelection.AuthenticatorAttachment = ""
	return options, nil
}

// object reads the members of a JSON object, by their exact names.
func object(name string, data []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil || members == nil {
		return nil, malformed(name)
	}
	return members, nil
}

func parseExpiry(data json.RawMessage) (expires time.Time, err error) {
	if data == nil || string(data) == "null" {
		return expires, nil
	}
	if json.Unmarshal(data, &expires) != nil {
		err = malformed("challengeTimeoutDateTime")
	}
	return expires, err
}

func parseExclude(data json.RawMessage) ([]webauthn.CredentialDescriptor, error) {
	var list []struct {
		Type string
		ID   string
	}
	if data != nil && json.Unmarshal(data, &list) != nil {
		return nil, malformed("publicKey.excludeCredentials")
	}
	var descriptors []webauthn.CredentialDescriptor
	for i, d := range list {
		ids := CredentialIDs(d.ID)
		if ids == nil {
			return nil, malformed(fmt.Sprintf("publicKey.excludeCredentials[%d].id", i))
		}
		for _, id := range ids {
			descriptors = append(descriptors, webauthn.CredentialDescriptor{Type: d.Type, ID: id})
		}
	}
	return descriptors, nil
}

// CredentialIDs returns every credential ID that a text of Graph's can stand
// for, nil if there is none. Graph writes them in three ways, and does not say
// in which: in base64url, in standard base64, and in base64url with the number
// of pads that are missing at its end, as "7ebzDmVTSreLsJkrjm1mNA2". The first
// and the third cannot always be told apart: a text of 44 characters that ends
// in 1 is one ID of 33 bytes or another of 32.
func CredentialIDs(text string) [][]byte {
	var ids [][]byte
	read := func(encoding *base64.Encoding, s string) {
		id, err := encoding.Strict().DecodeString(s)
		if err == nil && len(id) > 0 && !strings.ContainsAny(s, "\r\n") { // which package base64 skips
			ids = append(ids, id)
		}
	}
	encoding, padded := base64.RawURLEncoding, base64.URLEncoding
	if strings.ContainsAny(text, "+/") {
		encoding, padded = base64.RawStdEncoding, base64.StdEncoding
	}
	if strings.HasSuffix(text, "=") {
		read(padded, text)
		return ids
	}
	read(encoding, text)
	if n := len(text) - 1; n > 0 {
		switch pads := int(text[n]) - '0'; pads {
		case 0, 1, 2:
			if (n+pads)%4 == 0 {
				read(base64.RawURLEncoding, text[:n])
			}
		}
	}
	return ids
}

// excludes reports whether the options name a credential as one that the user
// has already.
func (o *Options) excludes(id []byte) bool {
	return slices.ContainsFunc(o.PublicKey.ExcludeCredentials, func(d webauthn.CredentialDescriptor) bool {
		return slices.Equal(d.ID, id)
	})
}
