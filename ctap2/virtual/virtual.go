// Package virtual is a software authenticator: a security key made of Go,
// written from the CTAP 2.3 specification for the other side of the wire. It
// keeps credentials, a PIN and retry counters, checks what the specification
// has an authenticator check, in the order of its algorithms, and says so with
// the status bytes a real key would use.
//
// # A key in your tests
//
// The zero Config is a modern key whose owner touches it whenever it blinks. An
// [Authenticator] has the Exchange and Close methods that package ctap2 asks of
// a transport, so that it takes the place of an opened device:
//
//	dev, err := virtual.New(virtual.Config{PIN: "271828"})
//	…
//	defer dev.Close()
//	key, err := ctap2.Open(ctx, dev, …)
//
// Closing an Authenticator is the end of the key. One that is opened several times
// has a method Open: dev.Open() is a connection, a [Conn], that takes the place of
// dev in the last line, and closing that leaves the key as it is.
//
// No library is needed to talk to one: Exchange takes the message of a CTAP
// transport, a command byte and a CBOR map, and returns the answer, a status
// byte and a CBOR map. Msg takes a request of U2F and returns its response, both
// APDUs. PlugIn puts the key into a USB port instead, for what speaks CTAPHID;
// Tap holds it to a card reader, for what speaks APDUs.
//
// # The person
//
// Every wait for a touch asks a [Person], a function. There are ready-made
// ones: [Touch], [TouchAfter], [TouchFor], [Refuse], [Ignore]; one of your own can look at
// the [Prompt], count, or wait for a channel of your test. SetPresence changes
// it while the key runs. Nothing in the package sleeps on a clock of its own:
// inside testing/synctest a thirty-second timeout takes no time.
//
//	dev, err := virtual.New(virtual.Config{Presence: virtual.Ignore})
//	…
//	dev.SetPresence(virtual.TouchAfter(2 * time.Second))
//
// A key with a fingerprint reader is Config{BuiltInUV: virtual.UVConfigured};
// its reader asks Config.Verification the same way. Who enrols a fingerprint
// asks a [Finger], Config.Finger: [Samples] is one that does not get it right
// each time.
//
// # Other keys
//
// A [Profile] has the Config of a typical key, from U2F alone to CTAP 2.3.
// Config takes abilities away one by one, down to Config{Level: CTAP1}, and
// [Fault] holds the misbehaviours of keys in the field, for programs that must
// live with them. Config.Path keeps the key in a file, across processes; whoever
// can read that file has the key.
//
// PowerCycle does to the key what pulling it out and putting it back does. It does
// not break connections: a ctap2.Authenticator that was opened before works on,
// where that of a real key fails and has to be opened again. A program is tested
// for that with a key that is plugged in, by PlugIn: Unplug of its [USB] breaks
// the connections as well.
//
// # Many keys, and full ones
//
// Keys share nothing, no lock either: hundreds work side by side. One that is
// idle has no goroutine, and takes some 10 KB of memory. A sign-in takes little
// longer than its signature, and no longer with ten thousand discoverable
// credentials than with ten. Neither does New, for a key in a file: it reads
// what changed of late, and credentials when they are asked for. Asking a Person
// of one's own costs about a third of a signature more, a write to a file what
// the disk takes. The benchmarks measure it:
//
//	go test -run - -bench 'SignIn|Store' ./ctap2/virtual
//
// # What it is not
//
// It is no place for credentials that matter: its secrets are in the memory of
// your process, and in the clear in its file.
//
// It is not on every transport either: there is no Bluetooth, and no hybrid.
package virtual

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Level is a published level of the protocol.
type Level int

// The levels a key can have, oldest first. CTAP 2.2 is missing because no
// version string was ever defined for it (§6.4).
const (
	// CTAP1 keys speak U2F and nothing else: they have no PIN, no discoverable
	// credentials, no extensions, and Exchange answers INVALID_COMMAND to all
	// that it gets.
	CTAP1 Level = iota + 1
	// CTAP20 keys have no pinUvAuthToken option, know PIN/UV auth protocol one
	// alone and issue tokens with getPinToken alone, which last until power is
	// lost; there is no credProtect, no authenticatorSelection, and getInfo
	// ends at pinUvAuthProtocols.
	CTAP20
	// CTAP21PRE keys were built to a draft, and say FIDO_2_1_PRE. They are
	// those of CTAP 2.0 with credProtect, the prototypes of
	// authenticatorCredentialManagement and, where they have a fingerprint
	// reader, of authenticatorBioEnrollment (§6.12, §6.13), for which a token
	// of getPinToken is good too, and a getInfo that ends at algorithms.
	CTAP21PRE
	// CTAP21 keys lack what getInfo and makeCredential have gained since.
	CTAP21
	// CTAP23 is the level of the zero Config.
	CTAP23
)

// BuiltInUV says whether a key can verify its user without a platform, by
// fingerprint say.
type BuiltInUV uint8

const (
	// UVNone: there is no such method; getInfo has no option "uv".
	UVNone BuiltInUV = iota
	// UVNotConfigured: there is one, and nobody is enrolled: "uv" is false.
	UVNotConfigured
	// UVConfigured: there is one and it is ready: "uv" is true.
	UVConfigured
)

// Config says what kind of key to build. The zero Config is a modern key:
// U2F_V2, FIDO_2_0, FIDO_2_1 and FIDO_2_3, both PIN/UV auth protocols, a PIN that
// can be set, discoverable credentials, every extension of this package but
// largeBlob, basic attestation, and a person who touches it at once. It has no
// built-in user verification, and every command of CTAP 2.3 that does not need
// that.
type Config struct {
	// Path names the file that keeps the key; it is created if it is not
	// there, in a folder that has to be. Empty: the key lives in memory and is
	// gone with it. What the file holds of a key it holds on to; the rest of
	// Config is taken from Config each time. New refuses a Config for which the
	// file has a setting that it does not leave room for: alwaysUv, and a minimum
	// PIN length.
	//
	// Beside the file there is another of its name and ".lock", which stays
	// and holds nothing, and now and then one of its name and ".new", which
	// takes its place, and holds the same secrets if a crash leaves it behind.
	Path string

	// Level is the newest level of the protocol that the key speaks. Zero:
	// CTAP23.
	Level Level
	// NoU2F: the key does not speak CTAP1/U2F besides CTAP2, which others do:
	// they have the version U2F_V2, and Msg, CTAPHID_MSG and a card's U2F
	// commands work, as long as alwaysUv is not on (§7.2.4). U2F is about user
	// presence and ES256: it needs the former, and has the latter whatever
	// Algorithms says.
	NoU2F bool
	// AAGUID is the model of the key. Zero: one that stands for this package.
	AAGUID [16]byte
	// FirmwareVersion as getInfo reports it. Zero: 1.
	FirmwareVersion uint64
	// Transports as getInfo reports them, at least one. Nil: "usb".
	Transports []string
	// Attestation is the kind of attestation statement that makeCredential
	// gives. Zero: AttestationBasic.
	Attestation Attestation
	// Algorithms that the key can sign with, at least one, preferred first, out
	// of ES256, ES384, ES512, their fully specified twins, EdDSA, Ed25519 and
	// RS256. Nil: ES256 and EdDSA.
	Algorithms []cose.Algorithm
	// Extensions that the key has, by identifier (§12). Nil: all of the key's
	// level that go with the rest of Config, but for "largeBlob". Empty and not
	// nil: none.
	//
	// "largeBlobKey" comes with authenticatorLargeBlobs. It takes discoverable
	// credentials and, in a key with a PIN or built-in user verification,
	// pinUvAuthToken. "largeBlob" is instead of it: a key has one of them at
	// most (§12.4). "hmac-secret-mc" takes "hmac-secret", and "credBlob"
	// discoverable credentials.
	Extensions []string

	// MaxMsgSize is the length in bytes of the longest message that is not
	// refused with REQUEST_TOO_LARGE. Zero: 7609, all that CTAPHID can frame.
	// Below 1024 the key breaks the specification (§6.4).
	MaxMsgSize int
	// MaxCredentialCountInList is the most entries that an allowList or an
	// excludeList may have before it is refused with LIMIT_EXCEEDED. Zero: 8.
	// CTAP20 keys neither report nor have a limit.
	MaxCredentialCountInList int
	// MaxCredentialIDLength is the length in bytes of the longest credential
	// ID in such a list; longer ones are refused likewise. Zero: 128. It must
	// have room for the key's own IDs: 16 bytes of credentials that are stored,
	// as those of RS256 always are, and otherwise up to 71 with P-256 and
	// Ed25519, 87 with P-384 and 105 with P-521.
	MaxCredentialIDLength int
	// Credentials is the number of credentials that fit into the key's
	// storage; another one is refused with KEY_STORE_FULL. Zero: 25. It counts
	// discoverable ones, and those of RS256, and with a large blob, that do not
	// fit into a credential ID.
	Credentials int
	// MaxSerializedLargeBlobArray is the length in bytes, from 1024 to 524288,
	// of the longest large-blob array that the key stores; the write of a
	// longer one is refused with LARGE_BLOB_STORAGE_FULL. Zero: 4096. In a key
	// with the extension "largeBlob" it is the limit for the blobs of all
	// credentials together; one that does not fit is not written, nor is one
	// that is less than MaxCredBlobLength and 1024 bytes shorter than MaxMsgSize.
	MaxSerializedLargeBlobArray int
	// MaxCredBlobLength is the length in bytes, from 32 to 1024, of the longest
	// credBlob that a credential can have. Zero: 32.
	MaxCredBlobLength int

	// NoResidentKeys: the key makes no discoverable credentials ("rk" false).
	NoResidentKeys bool
	// NoUserPresence: the key cannot be touched ("up" false). It asks for no
	// touch, and does not claim one in authenticator data.
	NoUserPresence bool
	// NoCredentialManagement: discoverable credentials cannot be listed,
	// deleted and renamed (no option "credMgmt", nor "credentialMgmtPreview").
	// Otherwise they can on keys that make any, from CTAP21PRE on.
	NoCredentialManagement bool
	// CredentialManagementPreview: the key answers to the prototype of
	// authenticatorCredentialManagement too, 0x41 (option
	// "credentialMgmtPreview"), as keys do for the platforms of before CTAP
	// 2.1. CTAP21PRE keys answer to nothing else whatever it says.
	CredentialManagementPreview bool
	// NoPersistentCredMgmtRO: there is no permission to read what
	// authenticatorCredentialManagement lists with a token that survives power
	// (no option "perCredMgmtRO"), and with it no encIdentifier and no
	// encCredStoreState in getInfo. They came after CTAP21.
	NoPersistentCredMgmtRO bool
	// NoClientPIN: the key has no PIN (no option "clientPin").
	NoClientPIN bool
	// NoPINUVAuthToken: no permissions can be asked for (no option
	// "pinUvAuthToken"). A PIN then buys a token with getPinToken alone, which
	// is good for makeCredential and getAssertion, for the first relying party
	// that it is used with, and spent by a touch (§6.5.5.7.1); only that of a
	// key older than CTAP21 has no such bounds. Built-in user verification
	// works through the option "uv" alone.
	NoPINUVAuthToken bool
	// PINProtocols that the key has, at least one, preferred first. Nil: two
	// and one.
	PINProtocols []pin.Protocol
	// PIN is set in a key that is new, in Unicode Normalization Form C,
	// whichever it has here; a reset removes it. Empty: none.
	PIN string
	// MinPINLength in Unicode code points, as long as setMinPINLength has not
	// raised it. Zero: 4.
	MinPINLength int
	// MaxPINLength in Unicode code points, at most 63. Zero: 63.
	MaxPINLength int
	// PINComplexityPolicy: setPIN and changePIN refuse PINs of one character
	// that repeats and of neighbours in a row, such as 1234 and 9876, with
	// PIN_POLICY_VIOLATION, and so does New. Others can be told to by
	// setMinPINLength, from CTAP23 on.
	PINComplexityPolicy bool
	// PINComplexityPolicyURL as getInfo reports it. Empty: not at all.
	PINComplexityPolicyURL string
	// ForcePINChange: Config.PIN must be changed before it is good for a
	// token. It is gone with that PIN.
	ForcePINChange bool
	// BuiltInUV is the key's own way to verify the user: a fingerprint reader.
	// UVConfigured is a finger that is enrolled in a key that is new; later it
	// is authenticatorBioEnrollment that says who is, where there is one.
	BuiltInUV BuiltInUV
	// NoBioEnrollment: platforms have no part in who is enrolled (no option
	// "bioEnroll"), and BuiltInUV stays what it is here. Otherwise they do on
	// keys with built-in user verification from CTAP21PRE on, but for those with
	// NoClientPIN, at which nobody could be enrolled once nobody is, and, from
	// CTAP21 on, NoPINUVAuthToken.
	NoBioEnrollment bool
	// BioEnrollmentPreview: the key answers to the prototype of
	// authenticatorBioEnrollment too, 0x40 (option
	// "userVerificationMgmtPreview"). CTAP21PRE keys answer to nothing else
	// whatever it says.
	BioEnrollmentPreview bool
	// NoUVBioEnroll: a finger buys no token for authenticatorBioEnrollment (no
	// option "uvBioEnroll").
	NoUVBioEnroll bool
	// FingerprintKind is that of the reader. Zero: FingerprintTouch.
	FingerprintKind FingerprintKind
	// FingerprintSamples is the number of good samples that an enrolment takes.
	// Zero: 4.
	FingerprintSamples int
	// Fingerprints is the number of fingerprints that fit into the key's
	// storage; another one is refused with FP_DATABASE_FULL. Zero: 5, or as many
	// as one message can list.
	Fingerprints int
	// MaxTemplateFriendlyName is the length in bytes of the longest name that a
	// fingerprint can have; a longer one is refused with INVALID_LENGTH. Zero:
	// 64, or as many as there are in a message that lists them all: Fingerprints
	// times 20 bytes more than this, and 64 bytes, must not be more than
	// MaxMsgSize.
	MaxTemplateFriendlyName int
	// UVRequiredForNonDiscoverable takes the option "makeCredUvNotRqd" away:
	// once the key can verify its user, it does so for every new credential.
	UVRequiredForNonDiscoverable bool
	// AlwaysUV: the key verifies its user for everything that needs a touch, as
	// long as toggleAlwaysUv has not changed that. There must be a way to, be it
	// one that nobody has set up.
	AlwaysUV bool
	// NoToggleAlwaysUV: AlwaysUV stays what it is here. If it is false, there is
	// no option "alwaysUv".
	NoToggleAlwaysUV bool
	// NoMCGAPermissionsWithClientPIN: a PIN buys no token for makeCredential
	// and getAssertion. A key that has a PIN and no built-in user verification
	// then makes no discoverable credential, and verifies its user for nothing:
	// platforms have to live with that, too.
	NoMCGAPermissionsWithClientPIN bool

	// NoAuthenticatorConfig: there is no authenticatorConfig (no option
	// "authnrCfg"). Otherwise there is from CTAP21 on, if the key has tokens with
	// permissions, and a PIN or a finger buys one for it. What it changes is gone
	// with a reset.
	NoAuthenticatorConfig bool
	// NoUVAcfg: a finger buys no token for authenticatorConfig (no option
	// "uvAcfg").
	NoUVAcfg bool
	// MaxRPIDsForSetMinPINLength is the number of relying parties that
	// setMinPINLength can name, which are then told of the minimum and of the
	// complexity policy; more are refused with KEY_STORE_FULL. Zero: 8.
	MaxRPIDsForSetMinPINLength int
	// VendorConfigCommands are the vendorCommandIds that vendorPrototype takes;
	// others are refused with INVALID_SUBCOMMAND. getInfo lists them in 9 bytes
	// each, for which MaxMsgSize has to have room besides some 768 bytes. Nil:
	// there is no such subcommand.
	VendorConfigCommands []uint64
	// VendorConfig carries one of them out and returns the status that it ends
	// with. It gets subCommandParams as the platform sent them. While it runs
	// the key is busy. Nil: all succeed.
	VendorConfig func(id uint64, subCommandParams []byte) (status byte)
	// EnterpriseAttestation: the key is capable of enterprise attestation, of
	// both kinds, with a certificate that has a serial number (option "ep"),
	// once enableEnterpriseAttestation has been called. It takes
	// authenticatorConfig, from CTAP21 on, and AttestationBasic.
	EnterpriseAttestation bool
	// EnterpriseRPIDs are the relying parties for which enterprise attestation
	// can be vendor-facilitated (§7.1.2). They take EnterpriseAttestation.
	EnterpriseRPIDs []string
	// LongTouchForReset: a reset takes a touch of five seconds. Others can be
	// told to by enableLongTouchForReset, from CTAP23 on.
	LongTouchForReset bool
	// TransportsForReset are the only ones over which a reset is possible;
	// others refuse it with OPERATION_DENIED. It came after CTAP21. Nil: all,
	// and getInfo does not say so. Messages that come through Exchange came over
	// the first of Transports.
	TransportsForReset []string

	// Presence is the person who is asked to touch the key. Nil: Touch.
	Presence Person
	// Verification is the person who is asked for a finger, or whatever
	// BuiltInUV is. Nil: Touch, which is the right finger.
	Verification Person
	// Finger is asked for the samples of an enrolment. Nil: good ones, at once.
	Finger Finger
	// PresenceTimeout is how long the key waits for a person. Zero: 30 s.
	PresenceTimeout time.Duration
	// ResetWindow is how long after power-up a reset is allowed. Zero: 10 s,
	// as the specification demands of keys without a display (§6.6).
	// Negative: without end.
	ResetWindow time.Duration

	// Faults are the misbehaviours that the key has. Zero: none.
	Faults Fault
}

// defaultAAGUID is the model of this package's keys, a random UUID.
var defaultAAGUID = [16]byte{0x6d, 0x8a, 0x1c, 0x52, 0x1f, 0x0e, 0x4b, 0x3a, 0x9c, 0x37, 0x5e, 0xd1, 0x20, 0x44, 0xf6, 0xb9}

// withDefaults returns the configuration with nothing left to default, on
// slices of its own.
func (c Config) withDefaults() Config {
	set(&c.Level, CTAP23)
	set(&c.AAGUID, defaultAAGUID)
	set(&c.FirmwareVersion, 1)
	set(&c.MaxMsgSize, ctap.MaxFramedMessage)
	set(&c.MaxCredentialCountInList, 8)
	set(&c.MaxCredentialIDLength, 128)
	set(&c.Credentials, 25)
	set(&c.MaxSerializedLargeBlobArray, 4096)
	set(&c.MaxCredBlobLength, leastMaxCredBlobLength)
	set(&c.MinPINLength, ctap.PINDefaultMinLength)
	set(&c.MaxPINLength, ctap.PINDefaultMaxLength)
	set(&c.FingerprintKind, FingerprintTouch)
	set(&c.FingerprintSamples, 4)
	c.defaultFingerprints()
	set(&c.MaxRPIDsForSetMinPINLength, 8)
	set(&c.PresenceTimeout, 30*time.Second)
	set(&c.ResetWindow, 10*time.Second)
	c.Transports = orDefault(c.Transports, "usb")
	c.Algorithms = orDefault(c.Algorithms, cose.ES256, cose.EdDSA)
	if c.Extensions == nil {
		c.Extensions = c.defaultExtensions()
	}
	c.Extensions = slices.Clone(c.Extensions)
	c.VendorConfigCommands = slices.Clone(c.VendorConfigCommands)
	c.EnterpriseRPIDs = slices.Clone(c.EnterpriseRPIDs)
	c.TransportsForReset = slices.Clone(c.TransportsForReset)
	if c.Level < CTAP21 {
		c.NoPINUVAuthToken = true
		c.UVRequiredForNonDiscoverable = true
		c.PINProtocols = orDefault(c.PINProtocols, pin.One)
	}
	if c.Level == CTAP1 {
		c.NoResidentKeys = true
		c.NoClientPIN = true
	} else if c.NoUserPresence {
		c.NoU2F = true
	}
	c.PINProtocols = orDefault(c.PINProtocols, pin.Two, pin.One)
	// One that cannot be normalized is no PIN, which check says.
	if normalized, err := pin.Normalize(pin.FromString(c.PIN)); err == nil {
		c.PIN = string(normalized.Bytes())
	}
	c.Finger = c.Finger.orGood()
	return c
}

// set gives a field that was left zero its default.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func orDefault[T any](list []T, values ...T) []T {
	if list == nil {
		return values
	}
	return slices.Clone(list)
}

// repeats reports whether a list has an element twice.
func repeats[T comparable](list []T) bool {
	for i, element := range list {
		if slices.Contains(list[:i], element) {
			return true
		}
	}
	return false
}

// check reports what is wrong with a configuration that has its defaults.
func (c *Config) check() error {
	if c.Level < CTAP1 || c.Level > CTAP23 {
		return fmt.Errorf("virtual: Config.Level %d is none of CTAP1, CTAP20, CTAP21PRE, CTAP21, CTAP23", c.Level)
	}
	if c.Level == CTAP1 && (c.NoU2F || c.NoUserPresence || c.BuiltInUV != UVNone) {
		return errors.New("virtual: Config has what a key that speaks U2F alone cannot have")
	}
	if c.Level < CTAP21 && (c.AlwaysUV || c.NoMCGAPermissionsWithClientPIN || c.ForcePINChange) {
		return errors.New("virtual: Config has an option that there was not before CTAP 2.1")
	}
	if c.Level < CTAP21PRE && c.CredentialManagementPreview {
		return errors.New("virtual: Config.CredentialManagementPreview is set in a key older than the prototype")
	}
	if len(c.Algorithms) == 0 || len(c.Transports) == 0 || len(c.PINProtocols) == 0 {
		return errors.New("virtual: Config.Algorithms, Config.Transports or Config.PINProtocols is empty and not nil")
	}
	if repeats(c.Algorithms) || repeats(c.Transports) || repeats(c.PINProtocols) || repeats(c.Extensions) {
		return errors.New("virtual: Config lists something twice")
	}
	for _, alg := range c.Algorithms {
		if !canSign(alg) {
			return fmt.Errorf("virtual: Config.Algorithms: cannot sign with %v", alg)
		}
	}
	known := extensionsFor(c)
	for _, id := range c.Extensions {
		if !slices.Contains(known, id) {
			return fmt.Errorf("virtual: Config.Extensions: no extension %q at this level, or with the rest of Config", id)
		}
	}
	for _, p := range c.PINProtocols {
		if !p.Known() || c.Level < CTAP21 && p != pin.One {
			return fmt.Errorf("virtual: Config.PINProtocols: unknown or not of this level: %v", p)
		}
	}
	if c.MaxMsgSize < 0 || c.MaxCredentialCountInList < 0 || c.MaxCredentialIDLength < 0 || c.Credentials < 0 || c.PresenceTimeout < 0 {
		return errors.New("virtual: Config has a negative limit")
	}
	for _, alg := range c.Algorithms {
		if n := credentialIDLength(alg); n > c.MaxCredentialIDLength {
			return fmt.Errorf("virtual: Config.MaxCredentialIDLength is less than the %d bytes of the key's own IDs", n)
		}
	}
	if c.MaxSerializedLargeBlobArray < ctap.LargeBlobMinArray || c.MaxSerializedLargeBlobArray > greatestLargeBlobArray {
		return fmt.Errorf("virtual: Config.MaxSerializedLargeBlobArray is not from %d to %d", ctap.LargeBlobMinArray, greatestLargeBlobArray)
	}
	if c.MaxCredBlobLength < leastMaxCredBlobLength || c.MaxCredBlobLength > greatestMaxCredBlobLength {
		return fmt.Errorf("virtual: Config.MaxCredBlobLength is not from %d to %d", leastMaxCredBlobLength, greatestMaxCredBlobLength)
	}
	if c.MinPINLength < ctap.PINDefaultMinLength || c.MinPINLength > c.MaxPINLength || c.MaxPINLength > ctap.PINMaxBytes {
		return errors.New("virtual: Config.MinPINLength and Config.MaxPINLength are not from 4 to 63")
	}
	if c.BuiltInUV > UVConfigured || c.Attestation > AttestationNone || c.FingerprintKind > FingerprintSwipe {
		return errors.New("virtual: Config.BuiltInUV, Config.Attestation or Config.FingerprintKind is unknown")
	}
	if err := c.checkConfigurable(); err != nil {
		return err
	}
	if c.AlwaysUV && !c.canVerify() {
		return errors.New("virtual: Config.AlwaysUV is set in a key that has no way to verify its user")
	}
	if c.PIN != "" {
		if c.NoClientPIN {
			return errors.New("virtual: Config.PIN is set in a key without one")
		}
		if err := pin.Check(pin.FromString(c.PIN), c.MinPINLength, c.MaxPINLength); err != nil {
			return fmt.Errorf("virtual: Config.PIN: %w", err)
		}
		if c.PINComplexityPolicy && trivial(pin.FromString(c.PIN)) {
			return errors.New("virtual: Config.PIN: Config.PINComplexityPolicy refuses it")
		}
	}
	return nil
}

// An Authenticator is a software security key, plugged in from New on. Its
// methods may be called from several goroutines; it carries out one command at
// a time, and others wait for their turn.
type Authenticator struct {
	cfg        Config
	extensions []extension

	// line holds one value while a command runs. So does turn, but for the calls
	// of its status function; it also does while the key loses or gets its power.
	// All below it, down to mu, belongs to whoever put it there.
	line       chan struct{}
	turn       chan struct{}
	state      *state
	volatile   volatile
	storageErr error

	u2f atomic.Bool // speaksU2F, as of the last command

	mu           sync.Mutex
	power        context.Context // ends when the key is unplugged or closed, with the reason as its cause
	unplug       context.CancelCauseFunc
	closed       bool
	presence     Person
	unask        context.CancelFunc // ends the question of a blink; nil if there was none
	verification Person
	finger       Finger
}

// volatile is what a key loses with its power.
type volatile struct {
	poweredUp    time.Time
	keyAgreement map[pin.Protocol]*pin.KeyAgreement
	token        *token      // the pinUvAuthToken in use, nil if there is none
	blobWrite    *blobWrite  // the large-blob array that is being written, nil if none is
	enrollment   *enrollment // the fingerprint that is being enrolled, nil if none is
	mismatches   int         // wrong PINs in a row
	assertions   *assertions // what getNextAssertion goes on with, nil if nothing
	blink        *blink      // for a touch that U2F requests wait for, nil if none does
	listing      *listing    // what credentialManagement goes on with, nil if nothing
}

// New builds the key that cfg describes and plugs it in. With Config.Path it
// is the one that the file holds. It refuses a Config that contradicts itself,
// and a file that it cannot read: but for most credentials, which are read when a
// command needs them, and then may turn out to be damaged. On Unix, but for AIX,
// Solaris and illumos, it refuses a file that is open already, by this process or
// another one, with an error that wraps ErrInUse; elsewhere, as on Windows, it
// cannot tell, and a file that is open twice is damaged.
func New(cfg Config) (*Authenticator, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s, err := openState(&cfg)
	if err != nil {
		return nil, fmt.Errorf("virtual: %w", err)
	}
	a := &Authenticator{
		cfg:          cfg,
		line:         make(chan struct{}, 1),
		turn:         make(chan struct{}, 1),
		state:        s,
		presence:     cfg.Presence,
		verification: cfg.Verification,
		finger:       cfg.Finger,
	}
	for _, e := range extensions {
		if slices.Contains(cfg.Extensions, e.id) {
			a.extensions = append(a.extensions, e)
		}
	}
	a.u2f.Store(a.speaksU2F())
	if err := a.powerUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("virtual: %w", err), s.close())
	}
	return a, nil
}

// powerUp starts from a volatile state that is new, and lets commands in unless
// the key was closed meanwhile.
func (a *Authenticator) powerUp() error {
	a.stopUsingToken()
	a.forgetAssertions()
	a.volatile = volatile{
		poweredUp:    time.Now(),
		keyAgreement: make(map[pin.Protocol]*pin.KeyAgreement),
	}
	for _, p := range a.cfg.PINProtocols {
		if err := a.regenerate(p); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.power, a.unplug = context.WithCancelCause(context.Background())
	}
	return nil
}

// PowerCycle unplugs the key and plugs it in again. A command under way fails
// with an error for which errors.Is(err, hid.ErrDeviceGone) holds. Later ones do
// not, those over a Conn from before included; it is USB.Unplug that breaks
// connections, as with a real key. Tokens, key agreement keys, the block after
// three wrong PINs in a row and what getNextAssertion would have returned are gone,
// and the time in which a reset is allowed starts again. A closed key stays closed.
//
// A Person may call it, and so may the status function of Exchange.
func (a *Authenticator) PowerCycle() {
	unplug := func() (closed bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unplug(fmt.Errorf("virtual: %w", ctap.ErrDeviceGone))
		return a.closed
	}
	unplug()
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	// Another PowerCycle may have plugged it in again meanwhile.
	if unplug() {
		return
	}
	if err := a.powerUp(); err != nil {
		a.noteStorageError(err)
	}
}

// Close unplugs the key for good and closes its file. A command under way, and
// every later one, fails with an error for which errors.Is(err, hid.ErrClosed)
// holds. Close returns what first went wrong with the file since New, where
// a command could answer no more than the status OTHER. Closing twice is closing
// once. A Person may call Close, and so may the status function of Exchange.
func (a *Authenticator) Close() error {
	a.mu.Lock()
	again := a.closed
	a.closed = true
	closed := fmt.Errorf("virtual: %w", ctap.ErrClosed)
	a.unplug(closed)
	// A PowerCycle that still waits was first, and its reason is not that of
	// the commands to come.
	a.power, a.unplug = context.WithCancelCause(context.Background())
	a.unplug(closed)
	a.mu.Unlock()
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	if again {
		return nil
	}
	a.stopUsingToken()
	a.forgetAssertions()
	if a.state.journal != nil && a.storageErr == nil {
		a.storageErr = a.state.journal.tidy()
	}
	if err := errors.Join(a.storageErr, a.state.close()); err != nil {
		return fmt.Errorf("virtual: %w", err)
	}
	return nil
}

// Exchange carries out one command. The message is a command byte followed by
// a CBOR map of parameters, which may be absent if there are none; the answer
// is a status byte followed, if that is 0, by a CBOR map, which is absent if
// the command has no output. Exchange does not hold on to message once it has
// returned, and the answer is the caller's.
//
// While the command runs, status, if it is not nil, is called with 2 at once
// and every 100 ms as long as the key waits for a person, and with 1 before it
// does something that takes long. It is called by the goroutine that called
// Exchange, and the command waits for it. It may call PowerCycle and Close, which
// end the command, but an Exchange within it waits until its own context ends: the
// key is busy.
//
// The end of ctx cancels the command as CTAPHID_CANCEL does: if it is still
// waiting, for a person or for its turn, the answer is the status
// KEEPALIVE_CANCEL; if not, it is what it would have been. A bad request too
// is answered with a status. Exchange returns an error only if the key is
// closed, or unplugged by PowerCycle meanwhile.
func (a *Authenticator) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	return a.exchangeOver(ctx, a.cfg.Transports[0], message, status)
}

// exchangeOver is Exchange for a command that comes over a transport.
func (a *Authenticator) exchangeOver(ctx context.Context, transport string, message []byte, status func(byte)) ([]byte, error) {
	a.mu.Lock()
	op := &operation{ctx: ctx, power: a.power, transport: transport, notify: status, turn: a.turn}
	a.mu.Unlock()
	switch err := a.begin(op); {
	case err == refusal(ctap.StatusKeepaliveCancel):
		return []byte{ctap.StatusKeepaliveCancel}, nil
	case err != nil:
		return nil, err
	}
	defer a.end()
	answer, err := a.run(op, message)
	a.u2f.Store(a.speaksU2F())
	var refused refusal
	switch cause := context.Cause(op.power); {
	case err == nil:
		return answer, nil
	case errors.As(err, &refused):
	case cause != nil && errors.Is(err, cause):
		return nil, cause
	default:
		a.noteStorageError(err)
		refused = ctap.StatusOther
	}
	return []byte{byte(refused)}, nil
}

// begin waits for a command's turn, which end gives back. It returns
// KEEPALIVE_CANCEL if the platform cancels first, and the reason if the key
// loses its power.
func (a *Authenticator) begin(op *operation) error {
	if err := op.enter(a.line); err != nil {
		return err
	}
	if err := op.enter(a.turn); err != nil {
		<-a.line
		return err
	}
	err := context.Cause(op.power)
	if err == nil && op.ctx.Err() != nil {
		err = refusal(ctap.StatusKeepaliveCancel)
	}
	if err != nil {
		a.end()
	}
	return err
}

func (a *Authenticator) end() {
	<-a.turn
	<-a.line
}

// forgetSequences ends what stateful commands would go on with.
func (a *Authenticator) forgetSequences() {
	a.forgetAssertions()
	a.volatile.listing = nil
}

// noteStorageError remembers the first thing that went wrong where no status
// says what it was.
func (a *Authenticator) noteStorageError(err error) {
	if a.storageErr == nil {
		a.storageErr = err
	}
}

// run carries out one command and returns its answer.
func (a *Authenticator) run(op *operation, message []byte) ([]byte, error) {
	if a.cfg.Level == CTAP1 {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	if len(message) == 0 {
		return nil, refusal(ctap.StatusInvalidLength)
	}
	op.command = message[0]
	// A platform must not interleave anything with a stateful command (§6); a
	// key that has its state still afterwards hides that it did.
	switch op.command {
	case ctap.CmdGetNextAssertion:
		a.volatile.listing = nil
	case ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview:
		a.forgetAssertions() // and, by subcommand, listing
	default:
		a.forgetSequences()
	}
	if op.command != ctap.CmdLargeBlobs {
		a.volatile.blobWrite = nil
	}
	if len(message) > a.cfg.MaxMsgSize {
		a.forgetSequences()
		return nil, refusal(ctap.StatusRequestTooLarge)
	}
	answer, err := a.dispatch(op, message[1:])
	if err != nil {
		return nil, err
	}
	return a.encode(op, answer)
}

func (a *Authenticator) dispatch(op *operation, params []byte) (reply, error) {
	switch op.command {
	case ctap.CmdMakeCredential:
		return a.makeCredential(op, params)
	case ctap.CmdGetAssertion:
		return a.getAssertion(op, params)
	case ctap.CmdGetInfo:
		return a.getInfo(params)
	case ctap.CmdClientPIN:
		return a.clientPIN(op, params)
	case ctap.CmdReset:
		return a.reset(op, params)
	case ctap.CmdGetNextAssertion:
		return a.getNextAssertion(params)
	case ctap.CmdSelection:
		return a.selection(op, params)
	case ctap.CmdLargeBlobs:
		return a.largeBlobs(params)
	case ctap.CmdBioEnrollment, ctap.CmdBioEnrollmentPreview:
		return a.bioEnrollment(op, params)
	case ctap.CmdConfig:
		return a.config(params)
	case ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview:
		return a.credentialManagement(op, params)
	}
	return nil, refusal(ctap.StatusInvalidCommand)
}
