package ctap2

import (
	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A shape is what is known of one item of a message: what its members are
// called, and who may see it. It is what Trace and Record have in common.
//
// The zero shape is that of what nobody knows, which may be a secret: numbers
// are shown, the keys of maps too, strings are not.
type shape struct {
	name    string
	sight   sight
	members members                            // of a map; those that are not here are unknown
	each    *shape                             // elements of an array
	value   func(command byte, v int64) string // what a number means, empty if nothing
	inside  func(*scribe)                      // writes what a byte string holds
	choose  func(item []byte) *shape           // the shape, where the item itself says it
}

// members are the shapes of the members of a map by key, an int or a string.
type members map[any]*shape

// sight says who may see the strings of an item.
type sight uint8

const (
	hidden   sight = iota // nobody: it is a secret, or not known to be none
	personal              // who asks for accounts
	fresh                 // everybody, but it is another one in each session
	shown                 // everybody
)

// member returns the shape of a map's member. Where no member is listed, they
// are seen as the map is.
func (sh *shape) member(key any) *shape {
	switch m := sh.members[key]; {
	case m != nil:
		return m
	case sh.members == nil:
		return &shape{sight: sh.sight}
	}
	return new(shape)
}

// element returns the shape of an array's elements.
func (sh *shape) element() *shape {
	if sh.each == nil {
		return &shape{sight: sh.sight}
	}
	return sh.each
}

// named is a shape's value that is the String of a type.
func named[T interface {
	~uint8 | ~int32
	String() string
}](_ byte, v int64) string {
	if int64(T(v)) != v {
		return ""
	}
	return T(v).String()
}

// shapes returns those of a command's parameters and of its reply. Since the
// previews' bytes are in the vendors' range, a message there is a preview's only
// if its subcommand is.
func shapes(command, subcommand byte) (request, reply *shape) {
	if subcommandName(command, int64(subcommand)) != "" {
		command = published(command)
	}
	m, ok := messages[[2]byte{command, subcommand}]
	if !ok {
		m = messages[[2]byte{command}]
	}
	return &shape{members: m.request}, &shape{members: m.reply}
}

// published returns the command that a preview's has become.
func published(command byte) byte {
	switch command {
	case ctap.CmdBioEnrollmentPreview:
		return ctap.CmdBioEnrollment
	case ctap.CmdCredentialManagementPreview:
		return ctap.CmdCredentialManagement
	}
	return command
}

// subcommandOf returns the subcommand of a request, 0 if it has none.
func subcommandOf(message []byte) (subcommand byte) {
	var at int64
	switch published(message[0]) {
	case ctap.CmdClientPIN, ctap.CmdBioEnrollment:
		at = 2
	case ctap.CmdCredentialManagement, ctap.CmdConfig:
		at = 1
	default:
		return 0
	}
	d := cbor.NewCursor(message[1:], cbor.Lenient)
	for key := range d.IntMap() {
		if key == at {
			subcommand = byte(d.UintMax(0xFF))
		}
	}
	return subcommand
}

// subcommandName is the value of subCommand: empty for one without a name.
func subcommandName(command byte, v int64) string {
	if v < 1 || v > 0xFF {
		return ""
	}
	return commandNames[[2]byte{published(command), byte(v)}]
}

// COSE_Key, by its kty. In keyAgreement it is an ephemeral key.
var (
	coseType      = &shape{name: "kty", value: named[cose.KeyType]}
	coseAlgorithm = &shape{name: "alg", value: named[cose.Algorithm]}
	coseCurve     = &shape{name: "crv", value: named[cose.Curve]}

	keyAgreement = &shape{name: "keyAgreement", members: members{1: coseType, 3: coseAlgorithm,
		-1: coseCurve, -2: {name: "x", sight: fresh}, -3: {name: "y", sight: fresh}}}
	curveKey = &shape{members: members{1: coseType, 3: coseAlgorithm,
		-1: coseCurve, -2: {name: "x", sight: shown}, -3: {name: "y", sight: shown}}}
	rsaKey = &shape{members: members{1: coseType, 3: coseAlgorithm,
		-1: {name: "n", sight: shown}, -2: {name: "e", sight: shown}}}
	akpKey = &shape{members: members{1: coseType, 3: coseAlgorithm, -1: {name: "pub", sight: shown}}}

	publicKey = &shape{name: "publicKey", choose: func(item []byte) *shape {
		d := cbor.NewCursor(item, cbor.Lenient)
		for label := range d.IntMap() {
			if label != 1 {
				continue
			}
			switch cose.KeyType(d.Int()) {
			case cose.RSA:
				return rsaKey
			case cose.AKP:
				return akpKey
			}
		}
		return curveKey
	}}
)

// Inputs and outputs of extensions (§12), signed or not. Those that are not
// here have no strings, or none that anybody may see: what credBlob keeps is the
// caller's, and often a key.
var extensions = members{
	"credProtect":    {value: named[CredProtectPolicy]},
	"largeBlob":      {members: members{"support": {sight: shown}}},
	"hmac-secret":    hmacSecretSalts,
	"hmac-secret-mc": hmacSecretSalts,
}

var hmacSecretSalts = &shape{members: members{
	1: keyAgreement, 2: {name: "saltEnc"}, 3: {name: "saltAuth"}, 4: pinUVAuthProtocol}}

// Members that several messages have.
var (
	subCommand        = &shape{name: "subCommand", value: subcommandName}
	pinUVAuthProtocol = &shape{name: "pinUvAuthProtocol"}
	pinUVAuthParam    = &shape{name: "pinUvAuthParam"}
	clientDataHashOf  = &shape{name: "clientDataHash", sight: fresh}
	party             = &shape{name: "rp", sight: shown}
	account           = &shape{name: "user", sight: personal}
	authData          = &shape{name: "authData", inside: (*scribe).authData}
	largeBlobKeyOf    = &shape{name: "largeBlobKey"}
	unsignedOutputs   = &shape{name: "unsignedExtensionOutputs", members: extensions}
	algorithmAndType  = &shape{members: members{"alg": coseAlgorithm, "type": {sight: shown}}}
	templateID        = &shape{name: "templateId", sight: shown}
	friendlyName      = &shape{name: "templateFriendlyName", sight: personal}
	modality          = &shape{name: "modality"}
	getModality       = &shape{name: "getModality"}
)

// messages are the members of each command's request and reply (§6), by command
// and subcommand; 0 stands for those subcommands that are not there.
var messages = map[[2]byte]struct{ request, reply members }{
	{ctap.CmdMakeCredential}: {
		members{1: clientDataHashOf, 2: party, 3: account,
			4: {name: "pubKeyCredParams", each: algorithmAndType},
			5: {name: "excludeList", sight: shown},
			6: {name: "extensions", members: extensions},
			7: {name: "options"}, 8: pinUVAuthParam, 9: pinUVAuthProtocol,
			10: {name: "enterpriseAttestation"},
			11: {name: "attestationFormatsPreference", sight: shown}},
		members{1: {name: "fmt", sight: shown}, 2: authData, 3: {name: "attStmt", sight: shown},
			4: {name: "epAtt"}, 5: largeBlobKeyOf, 6: unsignedOutputs},
	},
	{ctap.CmdGetAssertion}: {
		members{1: {name: "rpId", sight: shown}, 2: clientDataHashOf,
			3: {name: "allowList", sight: shown},
			4: {name: "extensions", members: extensions},
			5: {name: "options"}, 6: pinUVAuthParam, 7: pinUVAuthProtocol},
		assertionMembers,
	},
	{ctap.CmdGetNextAssertion}: {nil, assertionMembers},
	{ctap.CmdGetInfo}: {nil, members{
		1: {name: "versions", sight: shown}, 2: {name: "extensions", sight: shown},
		3: {name: "aaguid", sight: shown}, 4: {name: "options"}, 5: {name: "maxMsgSize"},
		6: {name: "pinUvAuthProtocols"}, 7: {name: "maxCredentialCountInList"},
		8: {name: "maxCredentialIdLength"}, 9: {name: "transports", sight: shown},
		10: {name: "algorithms", each: algorithmAndType},
		11: {name: "maxSerializedLargeBlobArray"}, 12: {name: "forcePINChange"},
		13: {name: "minPINLength"}, 14: {name: "firmwareVersion"}, 15: {name: "maxCredBlobLength"},
		16: {name: "maxRPIDsForSetMinPINLength"}, 17: {name: "preferredPlatformUvAttempts"},
		18: {name: "uvModality"}, 19: {name: "certifications"},
		20: {name: "remainingDiscoverableCredentials"}, 21: {name: "vendorPrototypeConfigCommands"},
		22: {name: "attestationFormats", sight: shown}, 23: {name: "uvCountSinceLastPinEntry"},
		24: {name: "longTouchForReset"}, 25: {name: "encIdentifier"},
		26: {name: "transportsForReset", sight: shown}, 27: {name: "pinComplexityPolicy"},
		28: {name: "pinComplexityPolicyURL", sight: shown}, 29: {name: "maxPINLength"},
		30: {name: "encCredStoreState"}, 31: {name: "authenticatorConfigCommands"},
	}},
	{ctap.CmdClientPIN}: {
		members{1: pinUVAuthProtocol, 2: subCommand, 3: keyAgreement, 4: pinUVAuthParam,
			5: {name: "newPinEnc"}, 6: {name: "pinHashEnc"},
			9: {name: "permissions", value: named[Permission]}, 10: {name: "rpId", sight: shown}},
		members{1: keyAgreement, 2: {name: "pinUvAuthToken"}, 3: {name: "pinRetries"},
			4: {name: "powerCycleState"}, 5: {name: "uvRetries"}},
	},
	{ctap.CmdBioEnrollment}: {
		members{1: modality, 2: subCommand,
			3: {name: "subCommandParams", members: members{
				1: templateID, 2: friendlyName, 3: {name: "timeoutMilliseconds"}}},
			4: pinUVAuthProtocol, 5: pinUVAuthParam, 6: getModality},
		members{1: modality, 2: {name: "fingerprintKind"},
			3: {name: "maxCaptureSamplesRequiredForEnroll"}, 4: templateID,
			5: {name: "lastEnrollSampleStatus"}, 6: {name: "remainingSamples"},
			7: {name: "templateInfos", each: &shape{members: members{1: templateID, 2: friendlyName}}},
			8: {name: "maxTemplateFriendlyName"}},
	},
	{ctap.CmdBioEnrollmentPreview}: {members{6: getModality}, members{1: modality}}, // getModality has no subcommand
	{ctap.CmdCredentialManagement}: {
		members{1: subCommand,
			2: {name: "subCommandParams", members: members{
				1: {name: "rpIDHash", sight: shown}, 2: {name: "credentialID", sight: shown}, 3: account}},
			3: pinUVAuthProtocol, 4: pinUVAuthParam},
		members{1: {name: "existingResidentCredentialsCount"},
			2: {name: "maxPossibleRemainingResidentCredentialsCount"},
			3: party, 4: {name: "rpIDHash", sight: shown}, 5: {name: "totalRPs"}, 6: account,
			7: {name: "credentialID", sight: shown}, 8: publicKey, 9: {name: "totalCredentials"},
			10: {name: "credProtect", value: named[CredProtectPolicy]}, 11: largeBlobKeyOf,
			12: {name: "thirdPartyPayment"}},
	},
	{ctap.CmdLargeBlobs}: {
		members{1: {name: "get"}, 2: {name: "set", inside: (*scribe).largeBlobArray},
			3: {name: "offset"}, 4: {name: "length"}, 5: pinUVAuthParam, 6: pinUVAuthProtocol},
		members{1: {name: "config", inside: (*scribe).largeBlobArray}},
	},
	{ctap.CmdConfig}: {configMembers(members{1: {name: "newMinPINLength"},
		2: {name: "minPinLengthRPIDs", sight: shown}, 3: {name: "forceChangePin"},
		4: {name: "pinComplexityPolicy"}}), nil},
	{ctap.CmdConfig, ctap.ConfigVendorPrototype}: {configMembers(members{1: {name: "vendorCommandId"}}), nil},
}

var assertionMembers = members{1: {name: "credential", sight: shown}, 2: authData,
	3: {name: "signature", sight: shown}, 4: account, 5: {name: "numberOfCredentials"},
	6: {name: "userSelected"}, 7: largeBlobKeyOf, 8: unsignedOutputs}

func configMembers(params members) members {
	return members{1: subCommand, 2: {name: "subCommandParams", members: params},
		3: pinUVAuthProtocol, 4: pinUVAuthParam}
}

// largeBlobEntry is an element of the large-blob array (§6.10.2).
var largeBlobEntry = &shape{members: members{1: {name: "ciphertext"}, 2: {name: "nonce"}, 3: {name: "origSize"}}}
