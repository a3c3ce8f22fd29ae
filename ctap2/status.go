package ctap2

import (
	"fmt"

	"github.com/tapstone/fido/internal/ctap"
)

// A Status is the byte with which an authenticator answers a command (§8.2).
// It is an error value: errors.Is(err, ctap2.ErrPINInvalid) finds it inside
// whatever a method returned. Values without a name are kept as they came.
type Status byte

// The statuses of the specification, under its names.
const (
	ErrInvalidCommand         Status = ctap.StatusInvalidCommand
	ErrInvalidParameter       Status = ctap.StatusInvalidParameter
	ErrInvalidLength          Status = ctap.StatusInvalidLength
	ErrInvalidSeq             Status = ctap.StatusInvalidSeq
	ErrTimeout                Status = ctap.StatusTimeout
	ErrChannelBusy            Status = ctap.StatusChannelBusy
	ErrLockRequired           Status = ctap.StatusLockRequired
	ErrInvalidChannel         Status = ctap.StatusInvalidChannel
	ErrCBORParsing            Status = ctap.StatusCBORParsing // drafts only
	ErrCBORUnexpectedType     Status = ctap.StatusCBORUnexpectedType
	ErrInvalidCBOR            Status = ctap.StatusInvalidCBOR
	ErrInvalidCBORType        Status = ctap.StatusInvalidCBORType // drafts only
	ErrMissingParameter       Status = ctap.StatusMissingParameter
	ErrLimitExceeded          Status = ctap.StatusLimitExceeded
	ErrUnsupportedExtension   Status = ctap.StatusUnsupportedExtension // CTAP 2.0 only
	ErrFPDatabaseFull         Status = ctap.StatusFPDatabaseFull
	ErrLargeBlobStorageFull   Status = ctap.StatusLargeBlobStorageFull
	ErrCredentialExcluded     Status = ctap.StatusCredentialExcluded
	ErrProcessing             Status = ctap.StatusProcessing
	ErrInvalidCredential      Status = ctap.StatusInvalidCredential
	ErrUserActionPending      Status = ctap.StatusUserActionPending
	ErrOperationPending       Status = ctap.StatusOperationPending
	ErrNoOperations           Status = ctap.StatusNoOperations
	ErrUnsupportedAlgorithm   Status = ctap.StatusUnsupportedAlgorithm
	ErrOperationDenied        Status = ctap.StatusOperationDenied
	ErrKeyStoreFull           Status = ctap.StatusKeyStoreFull
	ErrNotBusy                Status = ctap.StatusNotBusy            // CTAP 2.0 only
	ErrNoOperationPending     Status = ctap.StatusNoOperationPending // CTAP 2.0 only
	ErrUnsupportedOption      Status = ctap.StatusUnsupportedOption
	ErrInvalidOption          Status = ctap.StatusInvalidOption
	ErrKeepaliveCancel        Status = ctap.StatusKeepaliveCancel
	ErrNoCredentials          Status = ctap.StatusNoCredentials
	ErrUserActionTimeout      Status = ctap.StatusUserActionTimeout
	ErrNotAllowed             Status = ctap.StatusNotAllowed
	ErrPINInvalid             Status = ctap.StatusPINInvalid
	ErrPINBlocked             Status = ctap.StatusPINBlocked
	ErrPINAuthInvalid         Status = ctap.StatusPINAuthInvalid
	ErrPINAuthBlocked         Status = ctap.StatusPINAuthBlocked
	ErrPINNotSet              Status = ctap.StatusPINNotSet
	ErrPUATRequired           Status = ctap.StatusPUATRequired // PIN_REQUIRED in CTAP 2.0
	ErrPINPolicyViolation     Status = ctap.StatusPINPolicyViolation
	ErrPINTokenExpired        Status = ctap.StatusPINTokenExpired // CTAP 2.0, reserved since 2.1
	ErrRequestTooLarge        Status = ctap.StatusRequestTooLarge
	ErrActionTimeout          Status = ctap.StatusActionTimeout
	ErrUPRequired             Status = ctap.StatusUPRequired
	ErrUVBlocked              Status = ctap.StatusUVBlocked
	ErrIntegrityFailure       Status = ctap.StatusIntegrityFailure
	ErrInvalidSubcommand      Status = ctap.StatusInvalidSubcommand
	ErrUVInvalid              Status = ctap.StatusUVInvalid
	ErrUnauthorizedPermission Status = ctap.StatusUnauthorizedPermission
	ErrOther                  Status = ctap.StatusOther
)

// statusTexts holds each status's name and what it means to a person.
var statusTexts = map[Status][2]string{
	ctap.StatusOK:             {"OK", "success"},
	ErrInvalidCommand:         {"INVALID_COMMAND", "the key does not know this command"},
	ErrInvalidParameter:       {"INVALID_PARAMETER", "a parameter is not valid"},
	ErrInvalidLength:          {"INVALID_LENGTH", "a length is not valid"},
	ErrInvalidSeq:             {"INVALID_SEQ", "out of sequence"},
	ErrTimeout:                {"TIMEOUT", "the message timed out"},
	ErrChannelBusy:            {"CHANNEL_BUSY", "the key is busy"},
	ErrLockRequired:           {"LOCK_REQUIRED", "the command needs the channel locked"},
	ErrInvalidChannel:         {"INVALID_CHANNEL", "the command is not allowed on this channel"},
	ErrCBORParsing:            {"CBOR_PARSING", "the key could not parse the request"},
	ErrCBORUnexpectedType:     {"CBOR_UNEXPECTED_TYPE", "a parameter has the wrong type"},
	ErrInvalidCBOR:            {"INVALID_CBOR", "the key could not parse the request"},
	ErrInvalidCBORType:        {"INVALID_CBOR_TYPE", "a parameter has the wrong type"},
	ErrMissingParameter:       {"MISSING_PARAMETER", "a parameter is missing"},
	ErrLimitExceeded:          {"LIMIT_EXCEEDED", "a list or a value is over the key's limit"},
	ErrUnsupportedExtension:   {"UNSUPPORTED_EXTENSION", "the key does not know this extension"},
	ErrFPDatabaseFull:         {"FP_DATABASE_FULL", "no room for another fingerprint"},
	ErrLargeBlobStorageFull:   {"LARGE_BLOB_STORAGE_FULL", "no room for the blob"},
	ErrCredentialExcluded:     {"CREDENTIAL_EXCLUDED", "the key is registered already"},
	ErrProcessing:             {"PROCESSING", "the key is still working"},
	ErrInvalidCredential:      {"INVALID_CREDENTIAL", "the credential is not valid for this key"},
	ErrUserActionPending:      {"USER_ACTION_PENDING", "the key waits for its user"},
	ErrOperationPending:       {"OPERATION_PENDING", "an operation is pending"},
	ErrNoOperations:           {"NO_OPERATIONS", "no operation is pending"},
	ErrUnsupportedAlgorithm:   {"UNSUPPORTED_ALGORITHM", "the key knows none of the algorithms"},
	ErrOperationDenied:        {"OPERATION_DENIED", "the user declined, or did not confirm in time"},
	ErrKeyStoreFull:           {"KEY_STORE_FULL", "no room for another credential"},
	ErrNotBusy:                {"NOT_BUSY", "nothing to cancel"},
	ErrNoOperationPending:     {"NO_OPERATION_PENDING", "no operation is pending"},
	ErrUnsupportedOption:      {"UNSUPPORTED_OPTION", "the key does not support an option"},
	ErrInvalidOption:          {"INVALID_OPTION", "an option is not valid here"},
	ErrKeepaliveCancel:        {"KEEPALIVE_CANCEL", "cancelled"},
	ErrNoCredentials:          {"NO_CREDENTIALS", "the key holds no credential for this"},
	ErrUserActionTimeout:      {"USER_ACTION_TIMEOUT", "nobody touched the key in time"},
	ErrNotAllowed:             {"NOT_ALLOWED", "not allowed now"},
	ErrPINInvalid:             {"PIN_INVALID", "the PIN is wrong"},
	ErrPINBlocked:             {"PIN_BLOCKED", "too many wrong PINs: only a reset of the key helps"},
	ErrPINAuthInvalid:         {"PIN_AUTH_INVALID", "the PIN/UV authentication is not valid"},
	ErrPINAuthBlocked:         {"PIN_AUTH_BLOCKED", "too many wrong PINs in a row: unplug the key and plug it in again, or lift it and tap again"},
	ErrPINNotSet:              {"PIN_NOT_SET", "no PIN is set"},
	ErrPUATRequired:           {"PUAT_REQUIRED", "the key demands user verification"},
	ErrPINPolicyViolation:     {"PIN_POLICY_VIOLATION", "the PIN breaks a rule of the key, or must be changed first"},
	ErrPINTokenExpired:        {"PIN_TOKEN_EXPIRED", "the PIN token has expired"},
	ErrRequestTooLarge:        {"REQUEST_TOO_LARGE", "the request is too large for the key"},
	ErrActionTimeout:          {"ACTION_TIMEOUT", "the operation timed out"},
	ErrUPRequired:             {"UP_REQUIRED", "a touch is required"},
	ErrUVBlocked:              {"UV_BLOCKED", "built-in user verification is blocked until the PIN is entered"},
	ErrIntegrityFailure:       {"INTEGRITY_FAILURE", "a checksum does not match"},
	ErrInvalidSubcommand:      {"INVALID_SUBCOMMAND", "the key does not know this subcommand"},
	ErrUVInvalid:              {"UV_INVALID", "built-in user verification did not recognise the user"},
	ErrUnauthorizedPermission: {"UNAUTHORIZED_PERMISSION", "the key does not grant this permission"},
	ErrOther:                  {"OTHER", "the key reports an error it does not explain"},
}

// String returns the specification's name without prefix, such as
// "PIN_INVALID", or the byte if it has none.
func (s Status) String() string {
	if t, ok := statusTexts[s]; ok {
		return t[0]
	}
	switch {
	case s >= ctap.StatusExtensionFirst && s <= ctap.StatusExtensionLast:
		return fmt.Sprintf("EXTENSION_%02X", byte(s))
	case s >= ctap.StatusVendorFirst:
		return fmt.Sprintf("VENDOR_%02X", byte(s))
	}
	return fmt.Sprintf("status 0x%02X", byte(s))
}

// Error returns the name and what it means.
func (s Status) Error() string {
	if t, ok := statusTexts[s]; ok {
		return t[0] + ": " + t[1]
	}
	return s.String()
}
