// Package ctap holds what both sides of the protocol, and the transports
// between them, must agree on: the numbers that the Client to Authenticator
// Protocol assigns, untyped, and the error values that more than one package
// exports. It holds no wire structures: the client and the software
// authenticator each write theirs from the specification.
package ctap

// Commands (CTAP 2.3 §6, "authenticator API").
const (
	CmdMakeCredential       = 0x01
	CmdGetAssertion         = 0x02
	CmdGetInfo              = 0x04
	CmdClientPIN            = 0x06
	CmdReset                = 0x07
	CmdGetNextAssertion     = 0x08
	CmdBioEnrollment        = 0x09
	CmdCredentialManagement = 0x0A
	CmdSelection            = 0x0B
	CmdLargeBlobs           = 0x0C
	CmdConfig               = 0x0D

	// Prototypes of FIDO_2_1_PRE keys, in the vendor range.
	CmdBioEnrollmentPreview        = 0x40
	CmdCredentialManagementPreview = 0x41

	CmdVendorFirst = 0x40
	CmdVendorLast  = 0xBF
)

// Subcommands of authenticatorClientPIN (§6.5.5).
const (
	PINGetRetries                = 0x01
	PINGetKeyAgreement           = 0x02
	PINSetPIN                    = 0x03
	PINChangePIN                 = 0x04
	PINGetPINToken               = 0x05
	PINGetTokenUsingUV           = 0x06 // getPinUvAuthTokenUsingUvWithPermissions
	PINGetUVRetries              = 0x07
	PINGetTokenUsingPIN          = 0x09 // getPinUvAuthTokenUsingPinWithPermissions
	PINMaxRetries                = 8    // §6.5.2.2
	PINMaxConsecutiveMismatches  = 3    // §6.5.2.2
	PINDefaultMinLength          = 4    // code points, §6.4 minPINLength
	PINDefaultMaxLength          = 63   // code points, §6.4 maxPINLength
	PINMaxBytes                  = 63   // §6.5.1
	PINPaddedLength              = 64   // §6.5.5.5
	PINHashLength                = 16   // LEFT(SHA-256(PIN), 16)
	DefaultMaxMsgSize            = 1024 // §6.4 maxMsgSize
	ClientDataHashLength         = 32   // §6.1
	MaxUserIDLength              = 64   // WebAuthn §5.4.3
	HMACSecretSaltLength         = 32   // §12.7
	MaxFramedMessage             = 7609 // the largest CTAPHID message, §11.2.4
	InitialTokenUseSecondsUSB    = 30   // §6.5.2.1
	InitialTokenUseSecondsNFC    = 19.8 // §6.5.2.1
	MaxTokenSeconds              = 600  // §6.5.2.1
	AssertionStateTimeoutSeconds = 30   // §6.2.2
	LongTouchSeconds             = 5    // §6.6, longTouchForReset
	ResetWindowSeconds           = 10   // §6.6, after power-up
)

// Subcommands of authenticatorCredentialManagement (§6.8).
const (
	CredMgmtGetCredsMetadata            = 0x01
	CredMgmtEnumerateRPsBegin           = 0x02
	CredMgmtEnumerateRPsGetNextRP       = 0x03
	CredMgmtEnumerateCredentialsBegin   = 0x04
	CredMgmtEnumerateCredentialsGetNext = 0x05 // enumerateCredentialsGetNextCredential
	CredMgmtDeleteCredential            = 0x06
	CredMgmtUpdateUserInformation       = 0x07 // not among the preview's
)

// Subcommands of authenticatorBioEnrollment (§6.7), and what its replies hold.
const (
	BioEnrollBegin                = 0x01
	BioEnrollCaptureNextSample    = 0x02
	BioCancelCurrentEnrollment    = 0x03
	BioEnumerateEnrollments       = 0x04
	BioSetFriendlyName            = 0x05
	BioRemoveEnrollment           = 0x06
	BioGetFingerprintSensorInfo   = 0x07
	BioModalityFingerprint        = 0x01
	BioFingerprintKindTouch       = 0x01
	BioFingerprintKindSwipe       = 0x02
	BioSampleGood                 = 0x00 // lastEnrollSampleStatus, CTAP2_ENROLL_FEEDBACK_FP_…
	BioSampleTooHigh              = 0x01
	BioSampleTooLow               = 0x02
	BioSampleTooLeft              = 0x03
	BioSampleTooRight             = 0x04
	BioSampleTooFast              = 0x05
	BioSampleTooSlow              = 0x06
	BioSamplePoorQuality          = 0x07
	BioSampleTooSkewed            = 0x08
	BioSampleTooShort             = 0x09
	BioSampleMergeFailure         = 0x0A
	BioSampleExists               = 0x0B
	BioSampleNoUserActivity       = 0x0D
	BioSampleNoUserPresenceChange = 0x0E
)

// Lengths of authenticatorLargeBlobs (§6.10).
const (
	LargeBlobMinArray         = 1024 // the least maxSerializedLargeBlobArray
	LargeBlobMinSerialized    = 17   // an empty array and its digest
	LargeBlobDigestLength     = 16   // LEFT(SHA-256(array), 16)
	LargeBlobFragmentOverhead = 64   // maxFragmentLength = maxMsgSize - 64
	LargeBlobKeyLength        = 32
	LargeBlobNonceLength      = 12
)

// Subcommands of authenticatorConfig (§6.11).
const (
	ConfigEnableEnterpriseAttestation = 0x01
	ConfigToggleAlwaysUV              = 0x02
	ConfigSetMinPINLength             = 0x03
	ConfigEnableLongTouchForReset     = 0x04
	ConfigVendorPrototype             = 0xFF
)

// Enterprise attestation, as makeCredential asks for it (§7.1).
const (
	EnterpriseVendorFacilitated = 1
	EnterprisePlatformManaged   = 2
)

// Permissions of a pinUvAuthToken (§6.5.5.7).
const (
	PermissionMakeCredential             = 0x01 // mc
	PermissionGetAssertion               = 0x02 // ga
	PermissionCredentialManagement       = 0x04 // cm
	PermissionBioEnrollment              = 0x08 // be
	PermissionLargeBlobWrite             = 0x10 // lbw
	PermissionAuthenticatorConfig        = 0x20 // acfg
	PermissionPersistentCredentialMgmtRO = 0x40 // pcmr, CTAP 2.2
)

// Status codes (§8.2, "Status codes"). Names are the specification's without
// CTAP1_ERR_ and CTAP2_ERR_.
const (
	StatusOK                     = 0x00
	StatusInvalidCommand         = 0x01
	StatusInvalidParameter       = 0x02
	StatusInvalidLength          = 0x03
	StatusInvalidSeq             = 0x04
	StatusTimeout                = 0x05
	StatusChannelBusy            = 0x06
	StatusLockRequired           = 0x0A
	StatusInvalidChannel         = 0x0B
	StatusCBORParsing            = 0x10 // drafts only
	StatusCBORUnexpectedType     = 0x11
	StatusInvalidCBOR            = 0x12
	StatusInvalidCBORType        = 0x13 // drafts only
	StatusMissingParameter       = 0x14
	StatusLimitExceeded          = 0x15
	StatusUnsupportedExtension   = 0x16 // CTAP 2.0 only
	StatusFPDatabaseFull         = 0x17
	StatusLargeBlobStorageFull   = 0x18
	StatusCredentialExcluded     = 0x19
	StatusProcessing             = 0x21
	StatusInvalidCredential      = 0x22
	StatusUserActionPending      = 0x23
	StatusOperationPending       = 0x24
	StatusNoOperations           = 0x25
	StatusUnsupportedAlgorithm   = 0x26
	StatusOperationDenied        = 0x27
	StatusKeyStoreFull           = 0x28
	StatusNotBusy                = 0x29 // CTAP 2.0 only
	StatusNoOperationPending     = 0x2A // CTAP 2.0 only
	StatusUnsupportedOption      = 0x2B
	StatusInvalidOption          = 0x2C
	StatusKeepaliveCancel        = 0x2D
	StatusNoCredentials          = 0x2E
	StatusUserActionTimeout      = 0x2F
	StatusNotAllowed             = 0x30
	StatusPINInvalid             = 0x31
	StatusPINBlocked             = 0x32
	StatusPINAuthInvalid         = 0x33
	StatusPINAuthBlocked         = 0x34
	StatusPINNotSet              = 0x35
	StatusPUATRequired           = 0x36 // PIN_REQUIRED in CTAP 2.0
	StatusPINPolicyViolation     = 0x37
	StatusPINTokenExpired        = 0x38 // CTAP 2.0, reserved since 2.1
	StatusRequestTooLarge        = 0x39
	StatusActionTimeout          = 0x3A
	StatusUPRequired             = 0x3B
	StatusUVBlocked              = 0x3C
	StatusIntegrityFailure       = 0x3D
	StatusInvalidSubcommand      = 0x3E
	StatusUVInvalid              = 0x3F
	StatusUnauthorizedPermission = 0x40
	StatusOther                  = 0x7F
	StatusSpecLast               = 0xDF
	StatusExtensionFirst         = 0xE0
	StatusExtensionLast          = 0xEF
	StatusVendorFirst            = 0xF0
	StatusVendorLast             = 0xFF
)

// Keepalive status, as CTAPHID_KEEPALIVE and NFC's SW 9100 carry it (§11.2.9.1.7).
const (
	KeepaliveProcessing = 1
	KeepaliveUPNeeded   = 2
)

// Flags of authenticator data (WebAuthn §6.1).
const (
	FlagUserPresent            = 0x01 // UP
	FlagUserVerified           = 0x04 // UV
	FlagBackupEligible         = 0x08 // BE
	FlagBackupState            = 0x10 // BS
	FlagAttestedCredentialData = 0x40 // AT
	FlagExtensionData          = 0x80 // ED
)
