package ctap2

import (
	"errors"
	"fmt"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Errors that do not come from the authenticator as a [Status]. The first
// six are the transports' own values: errors.Is answers the same for
// ctap2.ErrDeviceGone and hid.ErrDeviceGone.
var (
	// ErrDeviceGone: the key was unplugged, or the card removed.
	ErrDeviceGone = ctap.ErrDeviceGone
	// ErrClosed: Close was called.
	ErrClosed = ctap.ErrClosed
	// ErrMessageTooLarge: the request is larger than the key or the transport
	// takes. Nothing was sent.
	ErrMessageTooLarge = ctap.ErrMessageTooLarge
	// ErrNoAnswer: the key fell silent.
	ErrNoAnswer = ctap.ErrNoAnswer
	// ErrReset: a card lost its state, and with it its tokens, since another
	// program or the operating system reset it. MakeCredential and GetAssertion
	// have tried again by then, unless it was when a token was obtained, which
	// may have cost a try of the PIN; other methods can be called again.
	ErrReset = ctap.ErrReset
	// ErrUnsupported: the key lacks what was asked for; it was not asked.
	ErrUnsupported = ctap.ErrUnsupported

	// ErrMalformed: a reply breaks the specification: not CBOR, a member
	// missing or of the wrong type, a key that is not on its curve, another
	// relying party's hash.
	ErrMalformed = cbor.ErrMalformed
	// ErrInvalidRequest: the caller's request cannot be sent as it is; the
	// text says which field. Nothing was sent.
	ErrInvalidRequest = errors.New("ctap2: invalid request")
	// ErrNotSetUp: verification was required, and the key has neither a PIN
	// nor built-in user verification set up that would do. Where a PIN can be
	// set, the text says so.
	ErrNotSetUp = errors.New("ctap2: user verification is required and not set up on this key")
	// ErrNoPIN: the PIN is needed, and the program gave no way to ask for it
	// (Interaction.PIN).
	ErrNoPIN = errors.New("ctap2: the PIN is needed and there is no way to ask for it")
	// ErrPINChangeRequired: the key demands that its PIN be changed before it
	// is used again (forcePINChange). Call ChangePIN.
	ErrPINChangeRequired = errors.New("ctap2: the key demands a new PIN before it is used again")
	// ErrInterrupted: another program came between the messages of one call: of
	// an enumeration (§6.8), a list of assertions (§6.3) or a write of several
	// messages (§6.10). What was read is incomplete, and not returned; what was
	// written is not stored. Call the method again.
	ErrInterrupted = errors.New("ctap2: interrupted by another program")
	// ErrNoLargeBlob: the key holds no large blob of this credential.
	ErrNoLargeBlob = errors.New("ctap2: no large blob of this credential")
	// ErrNoLargeBlobKey: the credential was registered without the extension
	// LargeBlobKey, and can have no large blob.
	ErrNoLargeBlobKey = errors.New("ctap2: the credential was registered without a key for large blobs")
	// ErrNoOutput: the authenticator returned no output for an extension, or
	// none of the type that was asked for.
	ErrNoOutput = errors.New("ctap2: no output of this extension")
)

// An Error is a command that the authenticator answered with a status other
// than success.
type Error struct {
	Command    byte   // command byte, such as 0x01 for makeCredential
	Subcommand byte   // 0 if there is none
	Status     Status // never 0
	cause      error  // the context's error, where the status is its consequence
	detail     string // what the status means here, if that is more than it says
}

// Error returns the command's name, the status and what it means, and why the
// context ended if that is what the status answers.
func (e *Error) Error() string {
	text := "ctap2: " + commandName(e.Command, e.Subcommand) + ": "
	if e.detail != "" {
		text += e.detail + " (" + e.Status.String() + ")"
	} else {
		text += e.Status.Error()
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the Status, and the error of the context if its end is what
// the status answers.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Status, e.cause}
	}
	return []error{e.Status}
}

// commandName returns the specification's name of a command, or of its
// subcommand where that has one.
func commandName(command, subcommand byte) string {
	switch command { // the previews are named as what they became
	case ctap.CmdBioEnrollmentPreview:
		command = ctap.CmdBioEnrollment
	case ctap.CmdCredentialManagementPreview:
		command = ctap.CmdCredentialManagement
	}
	if name, ok := commandNames[[2]byte{command, subcommand}]; ok {
		return name
	}
	if name, ok := commandNames[[2]byte{command, 0}]; ok {
		return name
	}
	return fmt.Sprintf("command 0x%02X", command)
}

var commandNames = map[[2]byte]string{
	{ctap.CmdMakeCredential}:       "authenticatorMakeCredential",
	{ctap.CmdGetAssertion}:         "authenticatorGetAssertion",
	{ctap.CmdGetInfo}:              "authenticatorGetInfo",
	{ctap.CmdClientPIN}:            "authenticatorClientPIN",
	{ctap.CmdReset}:                "authenticatorReset",
	{ctap.CmdGetNextAssertion}:     "authenticatorGetNextAssertion",
	{ctap.CmdBioEnrollment}:        "authenticatorBioEnrollment",
	{ctap.CmdCredentialManagement}: "authenticatorCredentialManagement",
	{ctap.CmdSelection}:            "authenticatorSelection",
	{ctap.CmdLargeBlobs}:           "authenticatorLargeBlobs",
	{ctap.CmdConfig}:               "authenticatorConfig",

	{ctap.CmdClientPIN, ctap.PINGetRetries}:       "getPINRetries",
	{ctap.CmdClientPIN, ctap.PINGetKeyAgreement}:  "getKeyAgreement",
	{ctap.CmdClientPIN, ctap.PINSetPIN}:           "setPIN",
	{ctap.CmdClientPIN, ctap.PINChangePIN}:        "changePIN",
	{ctap.CmdClientPIN, ctap.PINGetPINToken}:      "getPinToken",
	{ctap.CmdClientPIN, ctap.PINGetTokenUsingUV}:  "getPinUvAuthTokenUsingUvWithPermissions",
	{ctap.CmdClientPIN, ctap.PINGetUVRetries}:     "getUVRetries",
	{ctap.CmdClientPIN, ctap.PINGetTokenUsingPIN}: "getPinUvAuthTokenUsingPinWithPermissions",

	{ctap.CmdBioEnrollment, ctap.BioEnrollBegin}:              "enrollBegin",
	{ctap.CmdBioEnrollment, ctap.BioEnrollCaptureNextSample}:  "enrollCaptureNextSample",
	{ctap.CmdBioEnrollment, ctap.BioCancelCurrentEnrollment}:  "cancelCurrentEnrollment",
	{ctap.CmdBioEnrollment, ctap.BioEnumerateEnrollments}:     "enumerateEnrollments",
	{ctap.CmdBioEnrollment, ctap.BioSetFriendlyName}:          "setFriendlyName",
	{ctap.CmdBioEnrollment, ctap.BioRemoveEnrollment}:         "removeEnrollment",
	{ctap.CmdBioEnrollment, ctap.BioGetFingerprintSensorInfo}: "getFingerprintSensorInfo",

	{ctap.CmdCredentialManagement, ctap.CredMgmtGetCredsMetadata}:            "getCredsMetadata",
	{ctap.CmdCredentialManagement, ctap.CredMgmtEnumerateRPsBegin}:           "enumerateRPsBegin",
	{ctap.CmdCredentialManagement, ctap.CredMgmtEnumerateRPsGetNextRP}:       "enumerateRPsGetNextRP",
	{ctap.CmdCredentialManagement, ctap.CredMgmtEnumerateCredentialsBegin}:   "enumerateCredentialsBegin",
	{ctap.CmdCredentialManagement, ctap.CredMgmtEnumerateCredentialsGetNext}: "enumerateCredentialsGetNextCredential",
	{ctap.CmdCredentialManagement, ctap.CredMgmtDeleteCredential}:            "deleteCredential",
	{ctap.CmdCredentialManagement, ctap.CredMgmtUpdateUserInformation}:       "updateUserInformation",

	{ctap.CmdConfig, ctap.ConfigEnableEnterpriseAttestation}: "enableEnterpriseAttestation",
	{ctap.CmdConfig, ctap.ConfigToggleAlwaysUV}:              "toggleAlwaysUv",
	{ctap.CmdConfig, ctap.ConfigSetMinPINLength}:             "setMinPINLength",
	{ctap.CmdConfig, ctap.ConfigEnableLongTouchForReset}:     "enableLongTouchForReset",
	{ctap.CmdConfig, ctap.ConfigVendorPrototype}:             "vendorPrototype",
}

// A PINError is a PIN that was refused: wrong, or not tried any more. It wraps
// the [Error] with the status: [ErrPINInvalid], [ErrPINAuthBlocked] or
// [ErrPINBlocked].
type PINError struct {
	// Retries is how many wrong PINs are left before only a reset helps, or -1
	// if the key did not say.
	Retries int
	// PowerCycle reports that the key takes no PIN until it was unplugged and
	// plugged in again, or lifted from the reader.
	PowerCycle bool

	err error
}

// Error says what happened, how many tries are left and what to do next.
func (e *PINError) Error() string {
	var tries string
	switch {
	case e.Retries == 1:
		tries = ", 1 try left"
	case e.Retries > 1:
		tries = fmt.Sprintf(", %d tries left", e.Retries)
	}
	switch {
	case errors.Is(e.err, ErrPINBlocked) || e.Retries == 0:
		return "ctap2: the PIN is blocked: only a reset of the key helps, which erases its credentials"
	case errors.Is(e.err, ErrPINAuthBlocked) || e.PowerCycle:
		return "ctap2: too many wrong PINs in a row" + tries +
			": unplug the key and plug it in again, or lift it and tap again"
	}
	return "ctap2: wrong PIN" + tries
}

// Unwrap returns the refused command's error.
func (e *PINError) Unwrap() error { return e.err }

// meaning says what a status of the key means here, if that is what err is.
func meaning(err error, status Status, format string, args ...any) error {
	var e *Error
	if errors.As(err, &e) && e.Status == status {
		e.detail = fmt.Sprintf(format, args...)
	}
	return err
}

// invalid is the error for a request that cannot be sent.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidRequest, fmt.Sprintf(format, args...))
}

// malformed is the error for a reply that breaks the specification.
func malformed(command byte, err error) error {
	return fmt.Errorf("ctap2: reply to %s: %w", commandName(command, 0), err)
}

// noMember is what is wrong with a reply that lacks a required member.
func noMember(name string) error { return fmt.Errorf("%w: no %s", ErrMalformed, name) }
