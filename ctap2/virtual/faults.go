package virtual

import (
	"bytes"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A Fault is a misbehaviour of keys in the field, or several: faults are
// combined with |. Programs that talk to keys must live with some, and must
// notice others.
type Fault uint32

const (
	// KeysOutOfOrder: maps in answers have their keys in descending order. COSE
	// keys and authenticator data keep theirs.
	KeysOutOfOrder Fault = 1 << iota
	// UnknownMembers: answers have a member, and getInfo has an extension, an
	// option, a transport, an algorithm and a credential type, that nobody has
	// ever heard of.
	UnknownMembers
	// NullMember: a member that the answer must have is null: the AAGUID of
	// getInfo, authData, the first member of clientPIN's, bioEnrollment's,
	// credentialManagement's and largeBlobs' answers.
	NullMember
	// MissingMember: that member is not there.
	MissingMember
	// EmptyMap: answers that have members have none.
	EmptyMap
	// OmitExtensions: getInfo has no extensions. They work.
	OmitExtensions
	// OmitPINProtocols: getInfo has no pinUvAuthProtocols.
	OmitPINProtocols
	// OmitLimits: getInfo has no maxMsgSize, maxCredentialCountInList,
	// maxCredentialIdLength and algorithms.
	OmitLimits
	// OmitCredential: an assertion for an allowList of one does not say which
	// credential it is of, as CTAP 2.0 allowed.
	OmitCredential
	// OmitUser: an assertion does not say which account it is of.
	OmitUser
	// ReservedFlags: reserved bits are set in the flags of authenticator data.
	ReservedFlags
	// WrongRPIDHash: authenticator data is for another relying party. Signatures
	// are right.
	WrongRPIDHash
	// OffCurveKey: the public key of a new ES256, ES384 or ES512 credential is
	// not a point of its curve. Keys of other algorithms are merely not the
	// right ones: every other encoding of Ed25519 is a point.
	OffCurveKey
	// UnaskedExtension: authenticator data has the output of an extension that
	// was not asked for.
	UnaskedExtension
	// ReportFIDO22: getInfo reports the version FIDO_2_2, which does not exist.
	ReportFIDO22
	// RefuseUVWithParam: the option "uv" next to a pinUvAuthParam is refused
	// with INVALID_OPTION.
	RefuseUVWithParam
	// RefuseUP: the option "up" in makeCredential is refused with INVALID_OPTION
	// even if it is true.
	RefuseUP
	// PINRetriesNeedProtocol: getPINRetries without pinUvAuthProtocol is refused
	// with MISSING_PARAMETER.
	PINRetriesNeedProtocol
	// RefuseTransports: transports in an allowList or an excludeList are refused
	// with INVALID_PARAMETER.
	RefuseTransports
	// WrongLargeBlobDigest: what largeBlobs returns does not end with the
	// digest of what comes before. Platforms take it for an empty array.
	WrongLargeBlobDigest
	// LongLargeBlobFragment: largeBlobs returns a byte more than it was asked
	// for, even if there is none.
	LongLargeBlobFragment
	// WrongLengthForHandle: U2F_AUTHENTICATE answers 6700 in place of 6A80 to a
	// key handle that is not one of the key's.
	WrongLengthForHandle
	// ZeroTotals: where authenticatorCredentialManagement has no relying party
	// or no credential to list, it says so with a total of 0 and not with
	// NO_CREDENTIALS.
	ZeroTotals
	// TouchTimesOut: makeCredential and getAssertion that nobody touches the key
	// for end with USER_ACTION_TIMEOUT, as they do on keys older than CTAP21, and
	// not with OPERATION_DENIED.
	TouchTimesOut
)

func (f Fault) has(fault Fault) bool { return f&fault != 0 }

// reservedFlags are the bits of WebAuthn §6.1 without a meaning.
const reservedFlags = 0x22

// disturb brings the faults into authenticator data.
func (f Fault) disturb(d *authenticatorData) {
	if f.has(WrongRPIDHash) {
		d.rpIDHash[0] ^= 1
	}
	if f.has(UnaskedExtension) {
		if _, asked := d.outputs[unaskedExtension]; !asked {
			d.outputs[unaskedExtension] = true
		}
	}
}

// disturbLargeBlobs brings the faults into a serialized large-blob array, which
// stays as it is.
func (f Fault) disturbLargeBlobs(array []byte) []byte {
	if !f.has(WrongLargeBlobDigest) {
		return array
	}
	array = bytes.Clone(array)
	array[len(array)-1] ^= 1
	return array
}

// disturbFragment brings the faults into a part of it of which length bytes were
// asked for.
func (f Fault) disturbFragment(fragment []byte, length uint64) []byte {
	if !f.has(LongLargeBlobFragment) {
		return fragment
	}
	long := make([]byte, length+1)
	copy(long, fragment)
	return long
}

const (
	unaskedExtension = "minPinLength"
	unknownKey       = 0x7E
	unknownName      = "example.unknown"
)

// encode returns the answer to a command.
func (a *Authenticator) encode(op *operation, answer reply) ([]byte, error) {
	out := []byte{ctap.StatusOK}
	if answer == nil {
		return out, nil
	}
	encoded, err := a.cfg.Faults.encode(op, answer)
	return append(out, encoded...), err
}

func (f Fault) encode(op *operation, answer reply) ([]byte, error) {
	if f == 0 {
		return cbor.Marshal(answer)
	}
	if f.has(UnknownMembers) {
		addUnknown(op, answer)
	}
	if f.has(ReportFIDO22) && op.command == ctap.CmdGetInfo {
		answer[infoVersions] = append(answer[infoVersions].([]string), "FIDO_2_2")
	}
	f.omit(op, answer) // last: the others need what it takes away
	if f.has(KeysOutOfOrder) {
		return descending(answer)
	}
	return cbor.Marshal(answer)
}

// omit takes members out of an answer.
func (f Fault) omit(op *operation, answer reply) {
	needed := uint64(assertionAuthData) // and that of makeCredential
	switch op.command {
	case ctap.CmdGetInfo:
		needed = infoAAGUID
		if f.has(OmitExtensions) {
			delete(answer, infoExtensions)
		}
		if f.has(OmitPINProtocols) {
			delete(answer, infoPINUVAuthProtocols)
		}
		if f.has(OmitLimits) {
			delete(answer, infoMaxMsgSize)
			delete(answer, infoMaxCredentialCountInList)
			delete(answer, infoMaxCredentialIDLength)
			delete(answer, infoAlgorithms)
		}
	case ctap.CmdClientPIN, ctap.CmdBioEnrollment, ctap.CmdBioEnrollmentPreview,
		ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview:
		needed = unknownKey
		for key := range answer {
			needed = min(needed, key)
		}
	case ctap.CmdLargeBlobs:
		needed = largeBlobsConfig
	case ctap.CmdGetAssertion, ctap.CmdGetNextAssertion:
		if f.has(OmitCredential) && op.lone {
			delete(answer, assertionCredential)
		}
		if f.has(OmitUser) {
			delete(answer, assertionUser)
		}
	}
	if f.has(NullMember) {
		answer[needed] = nil
	}
	if f.has(MissingMember) {
		delete(answer, needed)
	}
	if f.has(EmptyMap) {
		clear(answer)
	}
}

// addUnknown adds what no client knows.
func addUnknown(op *operation, answer reply) {
	answer[unknownKey] = []any{map[string]any{unknownName: []byte{1, 2, 3}}}
	if op.command != ctap.CmdGetInfo {
		return
	}
	for _, key := range []uint64{infoExtensions, infoTransports} {
		if list, ok := answer[key].([]string); ok {
			answer[key] = append(slices.Clone(list), unknownName)
		}
	}
	if options, ok := answer[infoOptions].(map[string]bool); ok {
		options[unknownName] = true
	}
	if algorithms, ok := answer[infoAlgorithms].([]map[string]any); ok {
		answer[infoAlgorithms] = append(algorithms,
			map[string]any{"alg": -70000, "type": publicKeyType},
			map[string]any{"alg": 1, "type": unknownName})
	}
}

// descending encodes a value with the keys of its maps in descending order.
func descending(v any) (cbor.RawMessage, error) {
	switch v := v.(type) {
	case reply:
		return descendingMap(v)
	case map[string]any:
		return descendingMap(v)
	case map[string]bool:
		return descendingMap(v)
	}
	encoded, err := cbor.Marshal(v)
	return encoded, err
}

func descendingMap[K comparable, V any](m map[K]V) (cbor.RawMessage, error) {
	var pairs [][]byte
	for k, v := range m {
		key, err := cbor.Marshal(k)
		if err != nil {
			return nil, err
		}
		value, err := descending(v)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, append(key, value...))
	}
	// Canonical order is that of the encoded keys, and no key of this package
	// is a prefix of another.
	slices.SortFunc(pairs, func(a, b []byte) int { return bytes.Compare(b, a) })
	head := []byte{0xA0 | byte(len(pairs))}
	if len(pairs) > 23 {
		head = []byte{0xB8, byte(len(pairs))}
	}
	return append(head, bytes.Join(pairs, nil)...), nil
}
