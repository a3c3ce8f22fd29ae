package webauthn

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// A registration is what Create wants of one key.
type registration struct {
	*ceremony
	key     *ctap2.Authenticator
	info    *ctap2.Info
	options *CreationOptions
	request ctap2.MakeCredentialRequest
	outputs ExtensionOutputs
	before  []func() error                    // before the request
	after   []func(c *ctap2.Credential) error // with what came of it
}

// registrationExtensions are the client's parts of extensions in a registration:
// each adds to the request for one key, or says why that key is not suitable.
var registrationExtensions = []func(*registration) error{
	(*registration).appIDExclude,
	(*registration).credProps,
	(*registration).credProtect,
	(*registration).hmacSecret,
	(*registration).largeBlob,
	(*registration).credBlob,
	(*registration).minPINLength,
	(*registration).pinComplexityPolicy,
	(*registration).payment,
	(*registration).others,
}

// Create registers a credential (WebAuthn §5.1.3). It asks the key that is
// suitable, or the one of several that Select chooses, and returns when the person
// has touched it, or has declined, or time was up: after what the options say,
// within 5 to 10 minutes, or earlier, when ctx ends. All errors are of type
// *Error.
//
// A key has a shorter patience, most of them 30 seconds. One that says then that
// time was up (CTAP2_ERR_USER_ACTION_TIMEOUT) is asked again, and its Interaction
// tells of another touch. But most keys say CTAP2_ERR_OPERATION_DENIED, as if the
// person had declined, which cannot be told apart: the ceremony ends with
// ErrNotAllowed, which wraps ctap2.ErrOperationDenied. A program that wants to go
// on offers to try again.
//
// Nil options, a user.id that is not of 1 to 64 bytes, an empty challenge, and a
// value that an option cannot have, are an ErrType, an RP ID that is not the Origin's an
// ErrSecurity. If the key holds one of ExcludeCredentials the error is
// ErrInvalidState, after a touch. Without attestation, the statement is left out
// of the response, unless it is one that the credential signed itself and that
// does not tell the model of the key.
//
// A discoverable credential that is but preferred, and takes room or a PIN that
// cannot be had, becomes another. A key that lists what a site insists on, and
// then does not do it, has made a credential all the same: the error says which.
func (c *Client) Create(ctx context.Context, options *CreationOptions) (*RegistrationResponse, error) {
	if options == nil {
		return nil, refuse(ErrType, "the options are nil")
	}
	if n := len(options.User.ID); n < 1 || n > 64 {
		return nil, refuse(ErrType, "user.id of %d bytes, not 1 to 64", n)
	}
	if c.EnterpriseAttestation > 2 {
		return nil, refuse(ErrType, "the Client's EnterpriseAttestation is %d, not 0 to 2", c.EnterpriseAttestation)
	}
	algorithms, err := options.algorithms()
	if err != nil {
		return nil, err
	}
	ongoing, err := c.begin(ctx, TypeCreate, options.RP.ID, options.Challenge, options.Timeout)
	if err != nil {
		return nil, err
	}
	defer ongoing.end()
	in := &options.Extensions
	err = cmp.Or(
		options.check(),
		ongoing.origin.checkAppID(in.AppIDExclude),
		in.PRF.checkRegistration(),
		in.checkCredProtect(),
		in.LargeBlob.checkRegistration(),
	)
	if err != nil {
		return nil, err
	}
	if options.AuthenticatorSelection.AuthenticatorAttachment == Platform {
		return nil, refuse(ErrNotAllowed, "the relying party wants a platform authenticator, which no security key is")
	}
	response, err := ongoing.register(options, algorithms)
	if err != nil {
		return nil, ofKey(err)
	}
	return response, nil
}

// register is Create once the request is known to be in order.
func (c *ceremony) register(options *CreationOptions, algorithms []cose.Algorithm) (*RegistrationResponse, error) {
	r, err := pick(c, func(key *ctap2.Authenticator, info *ctap2.Info) (*registration, error) {
		return c.planRegistration(key, info, options, algorithms)
	})
	if err != nil {
		return nil, err
	}
	for _, do := range r.before {
		if err := do(); err != nil {
			return nil, err
		}
	}
	credential, err := r.makeCredential()
	if err != nil && r.mayMakeAnother(err) {
		undiscoverable := *options
		undiscoverable.AuthenticatorSelection.ResidentKey = Discouraged
		if other, refused := c.planRegistration(r.key, r.info, &undiscoverable, algorithms); refused == nil {
			r = other
			credential, err = r.makeCredential()
		}
	}
	if err != nil {
		return nil, c.failure(err)
	}
	defer credential.LargeBlobKey.Wipe()
	for _, do := range r.after {
		if err := do(credential); err != nil {
			wipeSecrets(credential.Extensions)
			return nil, err
		}
	}
	return r.response(credential)
}

func (r *registration) makeCredential() (credential *ctap2.Credential, err error) {
	err = r.patiently(func() error {
		credential, err = r.key.MakeCredential(r.ctx, &r.request)
		return err
	})
	return credential, err
}

// mayMakeAnother reports whether the key failed to make a discoverable
// credential for want of room or of a PIN, and may make one that it does not
// store. Keys of CTAP 2.0 do not tell beforehand that they are full.
func (r *registration) mayMakeAnother(err error) bool {
	return r.request.ResidentKey && r.options.AuthenticatorSelection.ResidentKey == Preferred &&
		(errors.Is(err, ctap2.ErrKeyStoreFull) || errors.Is(err, ctap2.ErrNoPIN))
}

// planRegistration returns what to ask of a key, or why it is not suitable.
func (c *ceremony) planRegistration(key *ctap2.Authenticator, info *ctap2.Info, options *CreationOptions, algorithms []cose.Algorithm) (*registration, error) {
	selection := options.AuthenticatorSelection
	r := &registration{ceremony: c, key: key, info: info, options: options}
	r.request = ctap2.MakeCredentialRequest{
		ClientDataHash:   c.clientDataHash(),
		RP:               ctap2.RelyingParty{ID: c.rpID, Name: options.RP.Name},
		User:             ctap2.User{ID: options.User.ID, Name: options.User.Name, DisplayName: options.User.DisplayName},
		Algorithms:       algorithms,
		ExcludeList:      descriptors(options.ExcludeCredentials),
		UserVerification: userVerification(selection.UserVerification),
	}
	discoverable := info.Options[ctap2.OptionResidentKey]
	switch selection.ResidentKey {
	case Required:
		r.request.ResidentKey = true
	case Preferred:
		full := info.RemainingDiscoverableCredentials != nil && *info.RemainingDiscoverableCredentials == 0
		r.request.ResidentKey = discoverable && !full
	case Discouraged:
	default:
		r.request.ResidentKey = selection.RequireResidentKey
	}
	switch err := checkVerification(r.request.UserVerification, info); {
	case r.request.ResidentKey && !discoverable:
		return nil, refuse(ErrConstraint, "a discoverable credential is required, and the key makes none")
	case err != nil:
		return nil, err
	case info.Algorithms != nil && !slices.ContainsFunc(algorithms, func(a cose.Algorithm) bool { return slices.Contains(info.Algorithms, a) }):
		return nil, refuse(ErrNotSupported, "the key has none of the algorithms %v", algorithms)
	}
	r.wantAttestation()
	for _, extend := range registrationExtensions {
		if err := extend(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// wantAttestation tells the key which attestation the relying party wants, as
// far as it takes wishes.
func (r *registration) wantAttestation() {
	formats := r.options.AttestationFormats
	switch r.options.Attestation {
	case AttestationIndirect, AttestationDirect:
	case AttestationEnterprise:
		if r.info.Options[ctap2.OptionEnterpriseAttestation] {
			r.request.EnterpriseAttestation = r.client.EnterpriseAttestation
		}
	default:
		formats = []string{AttestationNone}
	}
	// Keys from before CTAP 2.2 do not know the member, and some keys refuse
	// members that they do not know.
	if len(r.info.AttestationFormats) > 1 || r.info.HasVersion("FIDO_2_3") {
		r.request.AttestationFormats = formats
	}
}

// convey replaces the attestation statement by none if the relying party wants
// none (WebAuthn §5.1.3, attestation conveyance). The AAGUID stays.
func (r *registration) convey(c *ctap2.Credential) {
	switch r.options.Attestation {
	case AttestationIndirect, AttestationDirect, AttestationEnterprise:
		return
	}
	var statement struct {
		X5C cbor.RawMessage `cbor:"x5c"`
	}
	if c.Format == "packed" && c.AuthData.AAGUID == (ctap2.AAGUID{}) &&
		cbor.Unmarshal(c.AttestationStatement, &statement) == nil && statement.X5C == nil {
		return // self attestation, which tells nothing
	}
	c.Format, c.AttestationStatement = "none", []byte{0xA0} // an empty map
}
