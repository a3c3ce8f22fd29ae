// Package webauthn is WebAuthn Level 3 for Go programs: it takes the options
// that a server sends, in JSON, asks a security key, and returns the JSON that
// the server expects, as a browser does.
//
//	client := webauthn.Client{Origin: "https://example.com", Authenticators: []*ctap2.Authenticator{key}}
//	options, err := webauthn.ParseRequestOptions(fromServer)
//	response, err := client.Get(ctx, options)
//	toServer, err := json.Marshal(response)
//
// [Client.Create] registers in the same way. How the person is asked for a PIN
// and told to touch the key is said once, where the key is opened: with
// ctap2.WithInteraction.
//
// # The site
//
// A browser knows which site a request comes from, and so must the program: the
// [Client]'s Origin is the server that it got the options from. What protects
// against phishing is that the key signs the Origin, and that the Origin has to
// be entitled to the RP ID in the options. A program that takes the Origin from
// the options as well has given that away.
//
// # Several keys, several accounts
//
// Where more than one key is open, unsuitable ones are left out, such as one that
// cannot verify its user where that is required. Of the others Client.Select
// chooses:
//
//	client.Authenticators, client.Select = []*ctap2.Authenticator{one, other}, keys.Select
//
// A key that holds several accounts for the site returns them all, and
// Client.ChooseAccount chooses one. Without the function that is needed,
// ErrNotAllowed is returned: a program can leave it out if it never has more than
// one suitable key, or account.
//
// # Extensions
//
// [ExtensionInputs] lists those that a key can do. The options of the server
// have them, and a program can add what is its own business, such as the secret
// to decrypt a file with:
//
//	options.Extensions.PRF = &webauthn.PRFInputs{Eval: &webauthn.PRFValues{First: salt}}
//	response, err := client.Get(ctx, options)
//	if results := response.ClientExtensionResults.PRF.Results; results != nil { // otherwise the key gave none
//		secret := results.First
//	}
//
// Secrets are of type pin.Secret, and not in the JSON of a response. Where the
// server is to learn the results of PRF, JSONWithSecrets returns them too.
// Extensions that the list does not have are its Others.
//
// # Errors
//
// All errors of a [Client] are of type *[Error], which has the name that a browser's
// would have and wraps what package ctap2 returned:
//
//	switch {
//	case errors.Is(err, webauthn.ErrInvalidState): // the key is registered already
//	case errors.Is(err, ctap2.ErrNoCredentials): // the key is not registered here
//	case errors.Is(err, ctap2.ErrPINBlocked):
//	}
//
// The reasons, and names such as ErrConstraint, tell what keys a person has, which
// browsers hide from sites. A program that relays errors to one should hand on
// nothing but what [Error.SiteName] returns, and not before the person has done
// something: an error that comes at once, such as that the only key is unsuitable,
// tells as much by its timing.
//
// # The relying party's side
//
// Both responses can be read from JSON. A registration is looked at by
// [Expectation.Check], and by package attestation, which verifies its signature; a
// sign-in by [AuthenticationResponse.Verify], which does both. Both say what they
// leave to the relying party: what is in its own records, such as the accounts and
// their credentials, and what it wants of extensions. So is handing out each
// challenge once. The examples show where that belongs. Which origins are
// acceptable is up to the site: see Origins of [Expectation].
//
// # What is not here
//
// Platform authenticators, phones over hybrid transports, conditional mediation.
package webauthn
