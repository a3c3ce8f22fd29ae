package webauthn

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// ErrNotValid is what Expectation.Check and AuthenticationResponse.Verify wrap
// with the reason.
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
	// Challenge is the one that was handed out. Nil: Check does not look at it,
	// which is for a tool that was not told it. A relying party that does not find
	// its challenge has to refuse the response by itself, or any old one will do.
	// AuthenticationResponse.Verify refuses an Expectation without a Challenge.
	Challenge        Base64URL
	UserVerification bool // the user must have been verified

	// Origins are those that a response may come from, compared as they stand:
	// "https://example.com" as browsers write it, without a slash, and with a port
	// only if it is not the usual one. What an app gives as its origin, and related
	// origins (WebAuthn §5.11), have to be listed here. Nil: any that a browser lets
	// use the RP ID, which is https with the domain itself or one below it, on any
	// port, and http too if the domain is localhost. A site that does not trust all
	// that is served below its domain lists its own.
	Origins []string
	// CrossOrigin accepts a response that was made in a frame, in a page of another
	// origin, which may trick a person into it. Browsers tell the page's origin if
	// they can: TopOrigins are those that it may be, compared as they stand. Nil: any.
	CrossOrigin bool
	TopOrigins  []string
}

// Check returns the client data of a response if it and the authenticator data
// are as expected, by a user who was there, and not of a credential that is
// backed up and cannot be; and an error that wraps ErrNotValid otherwise. For a
// registration, data are the AuthData of what attestation.ParseObject returns.
//
// What remains of a registration is the relying party's: that the algorithm is one
// of PubKeyCredParams, that no account has the credential ID yet, and what it
// wants of the attestation and of extensions.
func (x *Expectation) Check(clientDataJSON []byte, data *ctap2.AuthenticatorData) (*ClientData, error) {
	refused := func(format string, args ...any) (*ClientData, error) {
		return nil, fmt.Errorf("%w: %s", ErrNotValid, fmt.Sprintf(format, args...))
	}
	if x == nil {
		return refused("there is no Expectation")
	}
	if data == nil {
		return refused("there are no authenticator data")
	}
	client, err := readClientData(clientDataJSON)
	if err != nil {
		return refused("%s", strings.TrimPrefix(err.Error(), "webauthn: "))
	}
	made, err := parseOrigin(client.Origin)
	ours := data.RPIDHash == sha256.Sum256([]byte(x.RPID)) ||
		x.Type == TypeGet && x.AppID != "" && data.RPIDHash == sha256.Sum256([]byte(x.AppID))
	switch {
	case client.Type != x.Type:
		return refused("the type is %.64q, not %q", client.Type, x.Type)
	case x.Challenge != nil && (len(x.Challenge) == 0 || !bytes.Equal(client.Challenge, x.Challenge)):
		return refused("the challenge is another")
	case !ours:
		return refused("it is for another site than %q", x.RPID)
	case x.Origins != nil && !slices.Contains(x.Origins, client.Origin):
		return refused("it was made at %.64q, none of %q", client.Origin, x.Origins)
	case x.Origins == nil && err != nil:
		return refused("it was made at %.64q: %s", client.Origin, strings.TrimPrefix(err.Error(), "webauthn: "))
	case x.Origins == nil && !made.mayClaim(x.RPID):
		return refused("it was made at %.64q, which may not use %q", client.Origin, x.RPID)
	case !x.CrossOrigin && (client.CrossOrigin || client.TopOrigin != ""):
		return refused("it was made in a frame, in a page of another origin: topOrigin %.64q", client.TopOrigin)
	case client.TopOrigin != "" && x.TopOrigins != nil && !slices.Contains(x.TopOrigins, client.TopOrigin):
		return refused("it was made in a page of %.64q, none of %q", client.TopOrigin, x.TopOrigins)
	case !data.Flags.Has(ctap2.FlagUserPresent):
		return refused("the user was not there")
	case x.UserVerification && !data.Flags.Has(ctap2.FlagUserVerified):
		return refused("the user was not verified")
	case data.Flags.Has(ctap2.FlagBackupState) && !data.Flags.Has(ctap2.FlagBackupEligible):
		return refused("the credential is backed up, and not of a kind that can be")
	}
	return client, nil
}

// readClientData reads client data by the exact names of the members. Members
// whose names differ in case are not the client's word for anything.
func readClientData(text []byte) (*ClientData, error) {
	var err error
	d := new(ClientData)
	o := readObject("clientDataJSON", bytes.TrimPrefix(text, []byte("\ufeff")), &err) // which "UTF-8 decode" drops
	for _, name := range []string{"type", "challenge", "origin"} {
		o.require(name)
	}
	o.read("type", &d.Type)
	o.read("challenge", &d.Challenge)
	o.read("origin", &d.Origin)
	o.read("crossOrigin", &d.CrossOrigin)
	o.read("topOrigin", &d.TopOrigin)
	return d, err
}
