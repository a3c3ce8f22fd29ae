package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// verifyResult is what a registration says, and a sign-in with it.
type verifyResult struct {
	Site         string       `json:"site" doc:"the relying party's ID"`
	ID           hexBytes     `json:"id" doc:"the credential's"`
	Algorithm    string       `json:"algorithm"`
	Attestation  string       `json:"attestation" doc:"who vouches for the key: none, self, basic, or a format that is not known"`
	PublicKey    string       `json:"publicKey,omitempty" doc:"the credential's, in PEM, if there is such a form of it"`
	Registration checkedPart  `json:"registration"`
	Signin       *checkedPart `json:"signin,omitempty" doc:"if a sign-in was given"`
}

type checkedPart struct {
	UserPresent  bool   `json:"userPresent"`
	UserVerified bool   `json:"userVerified"`
	Counter      uint32 `json:"counter"`
	Challenge    string `json:"challenge" doc:"base64url, to be compared with the one that was sent"`
	Origin       string `json:"origin"`
}

func (r verifyResult) text(w *printer) {
	w.in(green, "The registration at %s is valid.\n", r.Site)
	w.printf("  credential     %s\n  algorithm      %s\n  attestation    %s\n", r.ID, r.Algorithm, r.Attestation)
	r.Registration.text(w)
	if r.Signin != nil {
		w.in(green, "The sign-in with it is valid.\n")
		r.Signin.text(w)
	}
}

func (c checkedPart) text(w *printer) {
	w.printf("  origin         %s\n  challenge      %s\n  user verified  %s\n  counter        %d\n", c.Origin, c.Challenge, yesNo(c.UserVerified), c.Counter)
}

func (p *program) verifyCommand() *cobra.Command {
	var publicKey string
	c := &cobra.Command{
		Use:   "verify SITE REGISTRATION [SIGNIN]",
		Short: "Check what register and signin wrote",
		Long: `Verify does what a site does with a registration and with a sign-in: it checks that
they are for this site, that the user was present, and the signatures. It takes
files that "register" and "signin" wrote with --out or --json, or a browser's. It
needs no key. A site also compares the challenge with the one that it sent.`,
		Example: `  fidoctl register example.com ada --out ada.json
  fidoctl signin example.com --out signin.json
  fidoctl verify example.com ada.json signin.json`,
		Args: arguments,
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := newOutFile(publicKey)
			if err != nil {
				return err
			}
			defer file.drop()
			r, err := p.verify(args[0], args[1:])
			if err != nil {
				return err
			}
			if file != nil && r.PublicKey == "" {
				return fmt.Errorf("%w: %s has no form in PEM", cose.ErrUnsupportedAlgorithm, r.Algorithm)
			}
			p.show(r)
			return file.fill([]byte(r.PublicKey))
		},
	}
	c.Flags().StringVar(&publicKey, "public-key", "", "write the credential's public key to this `file`, in PEM")
	return c
}

// inPEM returns a public key as other programs read it; nothing if it is of an
// algorithm that has no such form.
func inPEM(key *cose.Key) string {
	public, err := key.PublicKey()
	if err != nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// A webauthnResponse is RegistrationResponseJSON or AuthenticationResponseJSON,
// or one of them as the commands show it.
type webauthnResponse struct {
	Registration   *webauthnResponse `json:"registration"`
	Authentication *webauthnResponse `json:"authentication"`

	RawID    webauthn.Base64URL `json:"rawId"`
	Response struct {
		ClientDataJSON    webauthn.Base64URL `json:"clientDataJSON"`
		AttestationObject webauthn.Base64URL `json:"attestationObject"`
		AuthenticatorData webauthn.Base64URL `json:"authenticatorData"`
		Signature         webauthn.Base64URL `json:"signature"`
	} `json:"response"`
}

func (p *program) response(name string) (*webauthnResponse, error) {
	data, err := p.readFile(name)
	if err != nil {
		return nil, err
	}
	r := new(webauthnResponse)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%w: %s is no response in JSON: %w", webauthn.ErrNotValid, name, err)
	}
	switch {
	case r.Registration != nil:
		r = r.Registration
	case r.Authentication != nil:
		r = r.Authentication
	}
	if len(r.Response.ClientDataJSON) == 0 {
		return nil, fmt.Errorf("%w: %s holds no response", webauthn.ErrNotValid, name)
	}
	return r, nil
}

func (p *program) verify(site string, files []string) (*verifyResult, error) {
	rpID := rpIDOf(site)
	registered, err := p.response(files[0])
	if err != nil {
		return nil, err
	}
	statement, credential, err := vouched(registered.Response.AttestationObject, registered.Response.ClientDataJSON)
	if err != nil {
		return nil, err
	}
	part, err := checked(webauthn.TypeCreate, rpID, registered.Response.ClientDataJSON, credential.AuthData)
	if err != nil {
		return nil, err
	}
	r := &verifyResult{Site: rpID, ID: credential.ID, Algorithm: credential.PublicKey.Algorithm.String(), Attestation: statement,
		PublicKey: inPEM(credential.PublicKey), Registration: *part}
	if len(files) == 1 {
		return r, nil
	}
	signed, err := p.response(files[1])
	if err != nil {
		return nil, err
	}
	if len(signed.RawID) > 0 && !bytes.Equal(signed.RawID, credential.ID) {
		return nil, fmt.Errorf("%w: the sign-in is with credential %s, not with the registered one, %s",
			errAnotherCredential, hexBytes(signed.RawID), hexBytes(credential.ID))
	}
	data, err := ctap2.ParseAuthenticatorData(signed.Response.AuthenticatorData)
	if err != nil {
		return nil, err
	}
	if r.Signin, err = checked(webauthn.TypeGet, rpID, signed.Response.ClientDataJSON, data); err != nil {
		return nil, err
	}
	hash := sha256.Sum256(signed.Response.ClientDataJSON)
	assertion := ctap2.Assertion{AuthData: data, Signature: signed.Response.Signature}
	return r, assertion.Verify(credential.PublicKey, hash[:])
}

// checked is what a site looks at besides the signature.
func checked(kind, rpID string, clientDataJSON []byte, data *ctap2.AuthenticatorData) (*checkedPart, error) {
	expected := webauthn.Expectation{Type: kind, RPID: rpID}
	client, err := expected.Check(clientDataJSON, data)
	if err != nil {
		return nil, err
	}
	return &checkedPart{
		UserPresent: true, UserVerified: data.Flags.Has(ctap2.FlagUserVerified), Counter: data.SignCount,
		Challenge: client.Challenge.String(), Origin: client.Origin,
	}, nil
}
