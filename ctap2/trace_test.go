package ctap2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/nfc"
	"github.com/tapstone/fido/pin"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// sheet is a slog.Handler that keeps the attributes of records.
type sheet struct {
	level   slog.Level
	records []map[string]string
}

func (s *sheet) Enabled(_ context.Context, level slog.Level) bool { return level >= s.level }

func (s *sheet) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]string{"msg": r.Message, "level": r.Level.String()}
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	s.records = append(s.records, attrs)
	return nil
}

func (s *sheet) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s *sheet) WithGroup(string) slog.Handler      { return s }

func newSheet() *sheet { return &sheet{level: slog.LevelDebug} }

func (s *sheet) last(t testing.TB) map[string]string {
	t.Helper()
	if len(s.records) == 0 {
		t.Fatal("nothing was logged")
	}
	return s.records[len(s.records)-1]
}

// lone is a Transport that answers everything alike.
type lone struct {
	reply      []byte
	err        error
	keepalives []byte
	closing    error
}

func (l *lone) Exchange(_ context.Context, _ []byte, status func(byte)) ([]byte, error) {
	for _, k := range l.keepalives {
		if status != nil {
			status(k)
		}
	}
	return l.reply, l.err
}

func (l *lone) Close() error { return l.closing }

// loneMessenger is one that carries U2F messages, too.
type loneMessenger struct{ lone }

func (l *loneMessenger) Msg(context.Context, []byte) ([]byte, error) { return l.reply, l.err }

// traced logs one exchange.
func traced(t testing.TB, message, reply []byte, options ...ctap2.TraceOption) map[string]string {
	t.Helper()
	s := newSheet()
	got, err := ctap2.Trace(&lone{reply: reply}, slog.New(s), options...).Exchange(t.Context(), message, nil)
	if err != nil || !bytes.Equal(got, reply) {
		t.Errorf("reply %x became %x, %v", reply, got, err)
	}
	return s.last(t)
}

// fill returns bytes that nobody may see.
func fill(n int) []byte { return bytes.Repeat([]byte{0xA5}, n) }

const secretName = "ada.lovelace@example.com"

// ecKey is a COSE_Key with its private part, which no key should send.
func ecKey(algorithm int) members {
	return members{1: 2, 3: algorithm, -1: 1, -2: bytes.Repeat([]byte{0x0F}, 4), -3: []byte{0xF0}, -4: fill(32)}
}

// notations are messages of every command with every member, and how they are
// shown. Whatever is made by fill, or is secretName, is secret.
func notations(t testing.TB) []struct {
	name            string
	message, reply  []byte
	request, answer string
} {
	encode := func(v any) []byte { return ok(t, v)[1:] }
	message := func(command byte, parameters any) []byte { return append([]byte{command}, encode(parameters)...) }
	user := map[string]any{"id": fill(16), "name": secretName, "displayName": secretName}
	shownUser := `{"id": redacted(16), "name": redacted(24), "displayName": redacted(24)}`
	descriptor := map[string]any{"id": []byte{1, 2}, "type": "public-key"}
	const shownDescriptor = `{"id": h'0102', "type": "public-key"}`
	const shownKey = `{1 /kty/: 2 /EC2/, 3 /alg/: -7 /ES256/, -1 /crv/: 1 /P-256/, -2 /x/: h'0f0f0f0f', -3 /y/: h'f0', -4: redacted(32)}`
	const shownAgreement = `{1 /kty/: 2 /EC2/, 3 /alg/: -25 /ECDH-ES+HKDF-256/, -1 /crv/: 1 /P-256/, -2 /x/: h'0f0f0f0f', -3 /y/: h'f0', -4: redacted(32)}`
	zeros := strings.Repeat("00", 32)
	salts := members{1: ecKey(-25), 2: fill(48), 3: fill(32), 4: 2}
	const shownSalts = `{1 /keyAgreement/: ` + shownAgreement + `, 2 /saltEnc/: redacted(48), 3 /saltAuth/: redacted(32), 4 /pinUvAuthProtocol/: 2}`
	authData := func(flags byte, parts ...[]byte) []byte {
		return slices.Concat(append([][]byte{make([]byte, 32), {flags, 0, 0, 0, 7}}, parts...)...)
	}
	key := func(m members) []byte { delete(m, -4); return encode(m) }
	array := encode([]any{members{1: fill(40), 2: fill(12), 3: 20}, fill(5)})
	digest := func(b []byte) []byte { sum := sha256.Sum256(b); return append(slices.Clone(b), sum[:16]...) }
	outputs := map[string]any{"credProtect": 2, "credBlob": fill(32), "hmac-secret": fill(48), "thirdPartyPayment": true}
	const shownOutputs = `{"credBlob": redacted(32), "credProtect": 2 /userVerificationOptionalWithCredentialIDList/, "hmac-secret": redacted(48), "thirdPartyPayment": true}`
	rsa := members{1: 3, 3: -257, -1: []byte{0xC0, 1}, -2: []byte{1, 0, 1}}
	akp := members{1: 7, 3: -48, -1: []byte{0xC0, 2}}

	return []struct {
		name            string
		message, reply  []byte
		request, answer string
	}{
		{
			"makeCredential",
			message(0x01, members{
				1: clientDataHash[:], 2: map[string]any{"id": "example.com", "name": "Ex & Co \"1\""}, 3: user,
				4: []any{map[string]any{"alg": -8, "type": "public-key"}}, 5: []any{descriptor},
				6: map[string]any{"credProtect": 3, "credBlob": fill(32), "hmac-secret": true, "hmac-secret-mc": salts,
					"largeBlob": map[string]any{"support": "required"}, "unheard-of": map[string]any{"eval": fill(32), "n": 5, "text": secretName}},
				7: map[string]any{"rk": true}, 8: fill(32), 9: 2, 10: 1, 11: []string{"packed"},
			}),
			ok(t, members{1: "packed", 2: authData(0xC5, []byte("0123456789abcdef"), []byte{0, 3, 1, 2, 3}, encode(ecKey(-7)), encode(outputs)),
				3: map[string]any{"alg": -7, "sig": []byte{1}, "x5c": []any{[]byte{2}}}, 4: false, 5: fill(32),
				6: map[string]any{"largeBlob": map[string]any{"supported": true}}}),
			`{1 /clientDataHash/: h'` + fmt.Sprintf("%x", clientDataHash) + `', 2 /rp/: {"id": "example.com", "name": "Ex & Co \"1\""}, 3 /user/: ` + shownUser +
				`, 4 /pubKeyCredParams/: [{"alg": -8 /EdDSA/, "type": "public-key"}], 5 /excludeList/: [` + shownDescriptor + `], 6 /extensions/: {` +
				`"credBlob": redacted(32), "largeBlob": {"support": "required"}, "unheard-of": {"n": 5, "eval": redacted(32), "text": redacted(24)}, "credProtect": 3 /userVerificationRequired/, "hmac-secret": true, "hmac-secret-mc": ` + shownSalts +
				`}, 7 /options/: {"rk": true}, 8 /pinUvAuthParam/: redacted(32), 9 /pinUvAuthProtocol/: 2, 10 /enterpriseAttestation/: 1, 11 /attestationFormatsPreference/: ["packed"]}`,
			`{1 /fmt/: "packed", 2 /authData/: h'` + zeros + `' /rpIdHash/ h'c5' /flags/ /UP|UV|AT|ED/ h'00000007' /signCount/ h'30313233343536373839616263646566' /aaguid/ h'0003' /credentialIdLength/ h'010203' /credentialId/ <<` +
				shownKey + `>> /credentialPublicKey/ <<` + shownOutputs + `>> /extensions/ /ctap2: malformed CBOR: credential public key: cose: invalid key: ES256 key material of the wrong length/, ` +
				`3 /attStmt/: {"alg": -7, "sig": h'01', "x5c": [h'02']}, 4 /epAtt/: false, 5 /largeBlobKey/: redacted(32), 6 /unsignedExtensionOutputs/: {"largeBlob": {"supported": true}}}`,
		},
		{
			"getAssertion",
			message(0x02, members{1: "example.com", 2: clientDataHash[:], 3: []any{descriptor},
				4: map[string]any{"credBlob": true, "hmac-secret": salts, "largeBlob": map[string]any{"write": fill(20), "originalSize": 30}, "largeBlobKey": true},
				5: map[string]any{"up": false}, 6: []byte{}, 7: 1}),
			ok(t, members{1: descriptor, 2: authData(0x81, encode(outputs)), 3: []byte{9}, 4: user, 5: 2, 6: true, 7: fill(32),
				8: map[string]any{"largeBlob": map[string]any{"blob": fill(50), "originalSize": 60}}}),
			`{1 /rpId/: "example.com", 2 /clientDataHash/: h'` + fmt.Sprintf("%x", clientDataHash) + `', 3 /allowList/: [` + shownDescriptor + `], 4 /extensions/: {"credBlob": true, ` +
				`"largeBlob": {"write": redacted(20), "originalSize": 30}, "hmac-secret": ` + shownSalts + `, "largeBlobKey": true}, 5 /options/: {"up": false}, 6 /pinUvAuthParam/: h'', 7 /pinUvAuthProtocol/: 1}`,
			`{1 /credential/: ` + shownDescriptor + `, 2 /authData/: h'` + zeros + `' /rpIdHash/ h'81' /flags/ /UP|ED/ h'00000007' /signCount/ <<` + shownOutputs + `>> /extensions/, 3 /signature/: h'09', 4 /user/: ` + shownUser +
				`, 5 /numberOfCredentials/: 2, 6 /userSelected/: true, 7 /largeBlobKey/: redacted(32), 8 /unsignedExtensionOutputs/: {"largeBlob": {"blob": redacted(50), "originalSize": 60}}}`,
		},
		{
			"getNextAssertion", []byte{0x08}, ok(t, members{2: []byte{1, 2}, 3: []byte{9}}), ``,
			`{2 /authData/: redacted(2) /ctap2: malformed CBOR: authenticator data of 2 bytes/, 3 /signature/: h'09'}`,
		},
		{
			"getInfo", []byte{0x04},
			ok(t, members{1: []string{"FIDO_2_3"}, 2: []string{"credProtect"}, 3: make([]byte, 16), 4: map[string]bool{"rk": true}, 5: 1200, 6: []int{2, 1}, 7: 8, 8: 128, 9: []string{"usb"},
				10: []any{map[string]any{"alg": -49, "type": "public-key"}, map[string]any{"alg": -70000, "type": "public-key"}}, 11: 1024, 12: false, 13: 4, 14: 5, 15: 32, 16: 1, 17: 3, 18: 2, 19: map[string]int{"FIDO": 1}, 20: 25,
				21: []uint64{1 << 63}, 22: []string{"packed"}, 23: 0, 24: false, 25: fill(32), 26: []string{"usb"}, 27: true, 28: []byte("u"), 29: 63, 30: fill(32), 31: []int{1}, 126: []any{secretName}}),
			``,
			`{1 /versions/: ["FIDO_2_3"], 2 /extensions/: ["credProtect"], 3 /aaguid/: h'` + zeros[:32] + `', 4 /options/: {"rk": true}, 5 /maxMsgSize/: 1200, 6 /pinUvAuthProtocols/: [2, 1], 7 /maxCredentialCountInList/: 8, 8 /maxCredentialIdLength/: 128, 9 /transports/: ["usb"], ` +
				`10 /algorithms/: [{"alg": -49 /ML-DSA-65/, "type": "public-key"}, {"alg": -70000 /Algorithm(-70000)/, "type": "public-key"}], 11 /maxSerializedLargeBlobArray/: 1024, 12 /forcePINChange/: false, 13 /minPINLength/: 4, 14 /firmwareVersion/: 5, 15 /maxCredBlobLength/: 32, 16 /maxRPIDsForSetMinPINLength/: 1, 17 /preferredPlatformUvAttempts/: 3, 18 /uvModality/: 2, 19 /certifications/: {"FIDO": 1}, 20 /remainingDiscoverableCredentials/: 25, ` +
				`21 /vendorPrototypeConfigCommands/: [9223372036854775808], 22 /attestationFormats/: ["packed"], 23 /uvCountSinceLastPinEntry/: 0, 24 /longTouchForReset/: false, 25 /encIdentifier/: redacted(32), 26 /transportsForReset/: ["usb"], 27 /pinComplexityPolicy/: true, 28 /pinComplexityPolicyURL/: h'75', 29 /maxPINLength/: 63, 30 /encCredStoreState/: redacted(32), 31 /authenticatorConfigCommands/: [1], 126: [redacted(24)]}`,
		},
		{
			"clientPIN",
			message(0x06, members{1: 2, 2: 9, 3: ecKey(-25), 4: fill(32), 5: fill(80), 6: fill(32), 9: 5, 10: "example.com"}),
			ok(t, members{1: ecKey(-25), 2: fill(48), 3: 8, 4: false, 5: 3}),
			`{1 /pinUvAuthProtocol/: 2, 2 /subCommand/: 9 /getPinUvAuthTokenUsingPinWithPermissions/, 3 /keyAgreement/: ` + shownAgreement + `, 4 /pinUvAuthParam/: redacted(32), 5 /newPinEnc/: redacted(80), 6 /pinHashEnc/: redacted(32), 9 /permissions/: 5 /mc|cm/, 10 /rpId/: "example.com"}`,
			`{1 /keyAgreement/: ` + shownAgreement + `, 2 /pinUvAuthToken/: redacted(48), 3 /pinRetries/: 8, 4 /powerCycleState/: false, 5 /uvRetries/: 3}`,
		},
		{
			"clientPIN with unknown numbers", message(0x06, members{1: 300, 2: 300, 9: 300}), []byte{0x3E},
			`{1 /pinUvAuthProtocol/: 300, 2 /subCommand/: 300, 9 /permissions/: 300}`, ``,
		},
		{
			"clientPIN with wrong types", message(0x06, members{1: secretName, 2: fill(2), 3: fill(4), 6: []any{fill(16)}}), []byte{0x11},
			`{1 /pinUvAuthProtocol/: redacted(24), 2 /subCommand/: redacted(2), 3 /keyAgreement/: redacted(4), 6 /pinHashEnc/: [redacted(16)]}`, ``,
		},
		{
			"bioEnrollment",
			message(0x09, members{1: 1, 2: 5, 3: members{1: []byte{7}, 2: secretName, 3: 10000}, 4: 2, 5: fill(32), 6: true}),
			ok(t, members{1: 1, 2: 1, 3: 4, 4: []byte{7}, 5: 0, 6: 3, 7: []any{members{1: []byte{7}, 2: secretName}}, 8: 64}),
			`{1 /modality/: 1, 2 /subCommand/: 5 /setFriendlyName/, 3 /subCommandParams/: {1 /templateId/: h'07', 2 /templateFriendlyName/: redacted(24), 3 /timeoutMilliseconds/: 10000}, 4 /pinUvAuthProtocol/: 2, 5 /pinUvAuthParam/: redacted(32), 6 /getModality/: true}`,
			`{1 /modality/: 1, 2 /fingerprintKind/: 1, 3 /maxCaptureSamplesRequiredForEnroll/: 4, 4 /templateId/: h'07', 5 /lastEnrollSampleStatus/: 0, 6 /remainingSamples/: 3, 7 /templateInfos/: [{1 /templateId/: h'07', 2 /templateFriendlyName/: redacted(24)}], 8 /maxTemplateFriendlyName/: 64}`,
		},
		{
			"credentialManagement, preview",
			message(0x41, members{1: 7, 2: members{1: []byte{1}, 2: descriptor, 3: user}, 3: 1, 4: fill(16)}),
			ok(t, members{1: 1, 2: 24, 3: map[string]any{"id": "example.com"}, 4: []byte{1}, 5: 1, 6: user, 7: descriptor, 8: ecKey(-7), 9: 1, 10: 1, 11: fill(32), 12: false}),
			`{1 /subCommand/: 7 /updateUserInformation/, 2 /subCommandParams/: {1 /rpIDHash/: h'01', 2 /credentialID/: ` + shownDescriptor + `, 3 /user/: ` + shownUser + `}, 3 /pinUvAuthProtocol/: 1, 4 /pinUvAuthParam/: redacted(16)}`,
			`{1 /existingResidentCredentialsCount/: 1, 2 /maxPossibleRemainingResidentCredentialsCount/: 24, 3 /rp/: {"id": "example.com"}, 4 /rpIDHash/: h'01', 5 /totalRPs/: 1, 6 /user/: ` + shownUser + `, 7 /credentialID/: ` + shownDescriptor + `, 8 /publicKey/: ` + shownKey +
				`, 9 /totalCredentials/: 1, 10 /credProtect/: 1 /userVerificationOptional/, 11 /largeBlobKey/: redacted(32), 12 /thirdPartyPayment/: false}`,
		},
		{
			"getModality, preview", message(0x40, members{6: true}), ok(t, members{1: 1}), `{6 /getModality/: true}`, `{1 /modality/: 1}`,
		},
		{
			"a vendor's subcommand", message(0x41, members{1: 9, 2: members{1: fill(4), 2: secretName}}), ok(t, members{3: secretName, 7: fill(2)}),
			`{1: 9, 2: {1: redacted(4), 2: redacted(24)}}`, `{3: redacted(24), 7: redacted(2)}`,
		},
		{
			"a vendor's without", message(0x40, members{3: members{1: fill(4)}, 6: fill(2)}), ok(t, members{1: fill(3), 4: fill(5)}),
			`{3: {1: redacted(4)}, 6 /getModality/: redacted(2)}`, `{1 /modality/: redacted(3), 4: redacted(5)}`,
		},
		{
			"RSA key", message(0x0A, members{1: 5}), ok(t, members{8: rsa}), `{1 /subCommand/: 5 /enumerateCredentialsGetNextCredential/}`,
			`{8 /publicKey/: {1 /kty/: 3 /RSA/, 3 /alg/: -257 /RS256/, -1 /n/: h'c001', -2 /e/: h'010001'}}`,
		},
		{
			"AKP key", message(0x0A, members{1: 5}), ok(t, members{8: akp}), `{1 /subCommand/: 5 /enumerateCredentialsGetNextCredential/}`,
			`{8 /publicKey/: {1 /kty/: 7 /AKP/, 3 /alg/: -48 /ML-DSA-44/, -1 /pub/: h'c002'}}`,
		},
		{
			"largeBlobs", message(0x0C, members{2: digest(array), 3: 0, 4: 80, 5: fill(32), 6: 2}), ok(t, members{1: digest(array)}),
			`{2 /set/: <<[{1 /ciphertext/: redacted(40), 2 /nonce/: redacted(12), 3 /origSize/: 20}, redacted(5)]>> h'` + fmt.Sprintf("%x", digest(array)[len(array):]) + `' /digest/, 3 /offset/: 0, 4 /length/: 80, 5 /pinUvAuthParam/: redacted(32), 6 /pinUvAuthProtocol/: 2}`,
			`{1 /config/: <<[{1 /ciphertext/: redacted(40), 2 /nonce/: redacted(12), 3 /origSize/: 20}, redacted(5)]>> h'` + fmt.Sprintf("%x", digest(array)[len(array):]) + `' /digest/}`,
		},
		{
			"largeBlobs, in fragments", message(0x0C, members{2: digest(array)[:40], 3: 0, 4: 80}), ok(t, members{1: digest(array)[1:]}),
			`{2 /set/: redacted(40), 3 /offset/: 0, 4 /length/: 80}`, fmt.Sprintf(`{1 /config/: redacted(%d)}`, len(array)+15),
		},
		{
			"largeBlobs, empty", message(0x0C, members{1: 960, 3: 0}), ok(t, members{1: digest([]byte{0x80})}),
			`{1 /get/: 960, 3 /offset/: 0}`, `{1 /config/: <<[]>> h'76be8b528d0075f7aae98d6fa57a6d3c' /digest/}`,
		},
		{
			"setMinPINLength", message(0x0D, members{1: 3, 2: members{1: 6, 2: []string{"example.com"}, 3: true, 4: true}, 3: 2, 4: fill(32)}), []byte{0},
			`{1 /subCommand/: 3 /setMinPINLength/, 2 /subCommandParams/: {1 /newMinPINLength/: 6, 2 /minPinLengthRPIDs/: ["example.com"], 3 /forceChangePin/: true, 4 /pinComplexityPolicy/: true}, 3 /pinUvAuthProtocol/: 2, 4 /pinUvAuthParam/: redacted(32)}`, ``,
		},
		{
			"vendorPrototype", message(0x0D, members{1: 255, 2: members{1: uint64(1 << 63), 2: fill(8)}, 3: 2, 4: fill(32)}), []byte{0},
			`{1 /subCommand/: 255 /vendorPrototype/, 2 /subCommandParams/: {1 /vendorCommandId/: 9223372036854775808, 2: redacted(8)}, 3 /pinUvAuthProtocol/: 2, 4 /pinUvAuthParam/: redacted(32)}`, ``,
		},
		{
			"unknown command", message(0x50, map[any]any{1: fill(4), -1: []any{secretName, nil, false}, "a": 1.5, uint64(1 << 63): -5}), ok(t, []any{fill(3), 1}),
			`{1: redacted(4), 9223372036854775808: -5, -1: [redacted(24), null, false], "a": float'3ff8000000000000'}`, `[redacted(3), 1]`,
		},
		{
			"what CBOR has besides", append([]byte{0x50}, raw(t, "86 f7 f0 f93c00 c14101 3bffffffffffffffff a1 4101 00")...), []byte{0},
			`[undefined, simple(16), float'3c00', 1(redacted(1)), -18446744073709551616, {h'01': 0}]`, ``,
		},
		{"no parameters, no answer", []byte{0x0B}, nil, ``, ``},
		{"key not on its curve", []byte{0x08}, ok(t, members{2: authData(0x41, make([]byte, 16), []byte{0, 1, 1}, key(ecKey(-7)))}), ``,
			`{2 /authData/: h'` + zeros + `' /rpIdHash/ h'41' /flags/ /UP|AT/ h'00000007' /signCount/ h'` + zeros[:32] + `' /aaguid/ h'0001' /credentialIdLength/ h'01' /credentialId/ <<` +
				strings.Replace(shownKey, ", -4: redacted(32)", "", 1) + `>> /credentialPublicKey/ /ctap2: malformed CBOR: credential public key: cose: invalid key: ES256 key material of the wrong length/}`},
	}
}

// Every member by its name, no secret but its length.
func TestTraceNotation(t *testing.T) {
	for _, tt := range notations(t) {
		t.Run(tt.name, func(t *testing.T) {
			got := traced(t, tt.message, tt.reply)
			if got["request"] != tt.request {
				t.Errorf("request\n%s\nwant\n%s", got["request"], tt.request)
			}
			if got["reply"] != tt.answer {
				t.Errorf("reply\n%s\nwant\n%s", got["reply"], tt.answer)
			}
			for _, secret := range []string{"a5a5", secretName} {
				if strings.Contains(fmt.Sprint(got), secret) {
					t.Errorf("a secret: %v", got)
				}
			}
			if tt.message[0] == 0x41 && got["command"] != "authenticatorCredentialManagement (0x41)" {
				t.Errorf("command %s", got["command"])
			}
			if got["level"] != "DEBUG" || got["msg"] != "exchange" {
				t.Errorf("%v", got)
			}
		})
	}
}

// With ShowAccounts names and IDs are shown, and secrets are not.
func TestTraceShowAccounts(t *testing.T) {
	user := map[string]any{"id": []byte{1, 2}, "name": "ada", "displayName": "Ada\n\x00\u202e"}
	message := append([]byte{0x0A}, ok(t, members{1: 7, 2: members{3: user}, 4: fill(32)})[1:]...)
	got := traced(t, message, []byte{0}, ctap2.ShowAccounts())
	want := `{1 /subCommand/: 7 /updateUserInformation/, 2 /subCommandParams/: {3 /user/: {"id": h'0102', "name": "ada", "displayName": "Ada\n\x00\u202e"}}, 4 /pinUvAuthParam/: redacted(32)}`
	if got["request"] != want {
		t.Errorf("%s\nwant\n%s", got["request"], want)
	}
	if got["command"] != "authenticatorCredentialManagement" || got["subcommand"] != "updateUserInformation" || got["status"] != "OK" || got["duration"] == "" {
		t.Errorf("%v", got)
	}
}

// What became of an exchange besides its reply.
func TestTraceOutcome(t *testing.T) {
	s := newSheet()
	key := &lone{reply: []byte{0x31}, keepalives: []byte{1, 1, 2, 2, 2, 1, 7}}
	var heard []byte
	if _, err := ctap2.Trace(key, slog.New(s)).Exchange(t.Context(), []byte{0x0B}, func(b byte) { heard = append(heard, b) }); err != nil {
		t.Error(err)
	}
	if got := s.last(t); got["status"] != "PIN_INVALID" || got["keepalives"] != "PROCESSING UPNEEDED PROCESSING 0x07" || got["command"] != "authenticatorSelection" {
		t.Errorf("%v", got)
	}
	if !bytes.Equal(heard, key.keepalives) {
		t.Errorf("heard %x", heard)
	}

	key = &lone{err: ctap2.ErrNoAnswer, keepalives: bytes.Repeat([]byte{1, 2}, 10_000)}
	if _, err := ctap2.Trace(key, slog.New(s)).Exchange(t.Context(), []byte{0x0B}, nil); !errors.Is(err, ctap2.ErrNoAnswer) {
		t.Error(err)
	}
	got := s.last(t)
	if _, there := got["status"]; there || got["error"] != ctap2.ErrNoAnswer.Error() || len(got["keepalives"]) > 1000 {
		t.Errorf("%v", got)
	}

	synctest.Test(t, func(t *testing.T) {
		soft, err := virtual.New(virtual.Config{Presence: virtual.TouchAfter(3 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		key := open(t, ctap2.Trace(soft, slog.New(s)))
		if err := key.Selection(t.Context()); err != nil {
			t.Error(err)
		}
		if got := s.last(t); got["duration"] != "3s" || got["keepalives"] != "UPNEEDED" {
			t.Errorf("%v", got)
		}
	})

	if soft := (&lone{}); ctap2.Trace(soft, nil) != ctap2.Transport(soft) {
		t.Error("a trace without a logger")
	}
	records := len(s.records)
	if _, err := ctap2.Trace(&lone{}, slog.New(s)).Exchange(t.Context(), nil, nil); err != nil || len(s.records) != records {
		t.Error("an empty message was logged")
	}
}

// A message that is not CTAP's CBOR is shown as bytes, as many as are of use,
// without secrets as far as anybody can tell what is one.
func TestTraceMalformed(t *testing.T) {
	for _, tt := range []struct{ name, reply, want string }{
		{"duplicate key", "a2 01 03 01 03", `h'a201030103' /malformed CBOR: duplicate key at byte 3/`},
		{"indefinite map", "bf 05 5820" + strings.Repeat("a5", 32) + "02 f5 ff", `h'bf055820` + strings.Repeat("00", 32) + `02f5ff' /malformed CBOR: indefinite length at byte 0/`},
		{"indefinite string", "a1 05 5f 42a5a5 41a5 ff", `h'a1055f4200004100ff' /malformed CBOR: indefinite length at byte 2/`},
		{"indefinite array", "a1 0b 9f 01 61a5 ff", `h'a10b9f016178ff' /malformed CBOR: indefinite length at byte 2/`},
		{"no break", "bf 05 41a5", `h'bf054100' /malformed CBOR: indefinite length at byte 0/`},
		{"cut short", "a2 01 02 05 5820a5a5a5", `h'a20102055820000000' /malformed CBOR: length 32 at byte 6, 3 bytes are left/`},
		{"cut in a head", "a1 05 59a5", `h'a1055900' /malformed CBOR: item cut short at byte 3/`},
		{"cut before a value", "a1 05", `h'a105' /malformed CBOR: 1 pairs at byte 1, 1 bytes are left/`},
		{"cut before a key", "a2 05 00", `h'a20500' /malformed CBOR: 2 pairs at byte 1, 2 bytes are left/`},
		{"reserved byte", "a1 05 1ca5a5", `h'a1051c0000' /malformed CBOR: reserved initial byte 0x1c at byte 2/`},
		{"trailing bytes", "a0 a5a5", `h'a00000' /malformed CBOR: 2 bytes after the item/`},
		{"deep", strings.Repeat("81", 20) + "a5", `h'` + strings.Repeat("81", 17) + `00000000' /malformed CBOR: nested deeper than 16 levels at byte 16/`},
		{"long", "5a0000ffff" + strings.Repeat("a5", 500), `h'5a0000ffff` + strings.Repeat("00", 123) + `' /and 377 bytes more/ /malformed CBOR: length 65535 at byte 5, 500 bytes are left/`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := traced(t, []byte{0x01}, append([]byte{0}, raw(t, tt.reply)...))
			if got["reply"] != tt.want {
				t.Errorf("%s\nwant\n%s", got["reply"], tt.want)
			}
		})
	}
	got := traced(t, append([]byte{0x0A}, raw(t, "a1 01 ff")...), nil)
	if want := `h'a101ff' /malformed CBOR: indefinite length at byte 2/`; got["request"] != want || got["subcommand"] != "" {
		t.Errorf("%v", got)
	}
}

// U2F has no secrets, but what vendors added may have.
func TestTraceU2F(t *testing.T) {
	s := newSheet()
	key := &loneMessenger{lone{reply: raw(t, "5532465f5632 9000")}}
	transport, is := ctap2.Trace(key, slog.New(s)).(ctap2.Messenger)
	if !is {
		t.Fatal("no Messenger")
	}
	for _, tt := range []struct {
		apdu, reply, command, request, answer, status string
	}{
		{"00030000000000", "5532465f5632 9000", "U2F_VERSION", "h'00030000000000'", "h'5532465f5632'", "9000"},
		{"00010000000040", "6985", "U2F_REGISTER", "h'00010000000040'", "", "6985"},
		{"00020700", "90", "U2F_AUTHENTICATE", "h'00020700'", "", "90"},
		{"00400102 a5a5", "a5a5a5 9000", "U2F instruction 0x40", "h'00400102' redacted(2)", "redacted(3)", "9000"},
		{"80030000 a5", "6e00", "U2F instruction 0x03", "h'80030000' redacted(1)", "", "6E00"},
		{"00400102", "", "U2F instruction 0x40", "h'00400102'", "", ""},
	} {
		key.reply = raw(t, tt.reply)
		if got, err := transport.Msg(t.Context(), raw(t, tt.apdu)); err != nil || !bytes.Equal(got, key.reply) {
			t.Errorf("%x, %v", got, err)
		}
		got := s.last(t)
		if got["command"] != tt.command || got["request"] != tt.request || got["reply"] != tt.answer || got["status"] != tt.status {
			t.Errorf("%s: %v", tt.apdu, got)
		}
	}
	key.err = ctap2.ErrDeviceGone
	if _, err := transport.Msg(t.Context(), raw(t, "00030000")); !errors.Is(err, ctap2.ErrDeviceGone) || s.last(t)["error"] == "" {
		t.Errorf("%v, %v", err, s.last(t))
	}
	records := len(s.records)
	if _, err := transport.Msg(t.Context(), []byte{0}); !errors.Is(err, ctap2.ErrDeviceGone) || len(s.records) != records {
		t.Errorf("%v, %v", err, s.last(t))
	}
}

// eachWrapper runs a test with each of the package's wrappers, and with two of
// them around each other.
func eachWrapper(t *testing.T, test func(t *testing.T, wrap func(ctap2.Transport) ctap2.Transport)) {
	t.Helper()
	trace := func(t ctap2.Transport) ctap2.Transport { return ctap2.Trace(t, slog.New(newSheet())) }
	record := func(t ctap2.Transport) ctap2.Transport { return ctap2.Record(t, new(bytes.Buffer)) }
	for name, wrap := range map[string]func(ctap2.Transport) ctap2.Transport{
		"trace":  trace,
		"record": record,
		"both":   func(t ctap2.Transport) ctap2.Transport { return trace(wrapped{record(t)}) },
	} {
		t.Run(name, func(t *testing.T) { test(t, wrap) })
	}
}

// cardOf is a software card as a nfc.Card.
type cardOf struct{ *virtual.Card }

func (c cardOf) Close() error {
	c.Remove()
	return nil
}

// No wrapper loses an ability of what it wraps, or invents one.
func TestWrappersKeepAbilities(t *testing.T) {
	eachWrapper(t, func(t *testing.T, wrap func(ctap2.Transport) ctap2.Transport) {
		soft, err := virtual.New(virtual.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		usb := soft.PlugIn(virtual.USBConfig{})
		defer usb.Unplug()
		conn, err := usb.Open()
		if err != nil {
			t.Fatal(err)
		}
		device, err := hid.New(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		key := open(t, wrap(device))
		defer key.Close()
		if d, is := ctap2.As[*hid.Device](key.Transport()); !is || d != device {
			t.Error("the device is lost")
		}
		winker, is := ctap2.As[interface{ Wink(context.Context) error }](key.Transport())
		if !is || winker.Wink(t.Context()) != nil {
			t.Error("cannot wink any longer")
		}

		card, err := virtual.New(virtual.Config{Transports: []string{"nfc"}})
		if err != nil {
			t.Fatal(err)
		}
		defer card.Close()
		tapped, err := nfc.New(t.Context(), cardOf{card.Tap(virtual.CardConfig{})})
		if err != nil {
			t.Fatal(err)
		}
		reader := wrap(tapped)
		defer reader.Close()
		if d, is := ctap2.As[*nfc.Device](reader); !is || d != tapped {
			t.Error("the card is lost")
		}

		// Every method of a device is found, of whatever name.
		for _, bare := range []ctap2.Transport{device, tapped} {
			outer := wrap(bare)
			_, isMessenger := outer.(ctap2.Messenger)
			if _, is := bare.(ctap2.Messenger); is != isMessenger {
				t.Errorf("%T: Messenger %v, wrapped %v", bare, is, isMessenger)
			}
			for found := outer; found != bare; {
				u, is := found.(interface{ Unwrap() ctap2.Transport })
				if !is {
					t.Fatalf("%T wraps for good", found)
				}
				found = u.Unwrap()
			}
		}

		plain := wrap(&lone{reply: []byte{0}})
		if _, is := plain.(ctap2.Messenger); is {
			t.Error("a Messenger out of nothing")
		}
		if _, is := ctap2.As[ctap2.Messenger](plain); is {
			t.Error("a Messenger out of nothing, found")
		}
		if _, is := ctap2.As[*hid.Device](plain); is {
			t.Error("a device out of nothing")
		}
		if _, is := ctap2.As[ctap2.Messenger](nil); is {
			t.Error("a Messenger out of nil")
		}
		// One that is found inside is one on the outside.
		if _, is := wrap(wrapped{&loneMessenger{}}).(ctap2.Messenger); !is {
			t.Error("a Messenger inside is none outside")
		}
	})
}

// session is a PIN, one registration and one sign-in.
type session struct {
	info     *ctap2.Info
	made     *ctap2.Credential
	accounts []*ctap2.Assertion
	outputs  *ctap2.HMACSecretOutput
	token    *ctap2.Token

	// Of manage.
	stored []*ctap2.StoredCredential
	read   error // of the large blob
}

const (
	sessionPIN = "correct horse 271828"
	nextPIN    = "next horse 161803"
	wrongPIN   = "wrong horse 314159"
)

var (
	salt1 = bytes.Repeat([]byte{0x5A, 0x17}, 16)
	salt2 = bytes.Repeat([]byte{0xC3, 0x71}, 16)
	blob  = bytes.Repeat([]byte("kept"), 8)
	large = bytes.Repeat([]byte("kept at large. "), 20)
	ada   = ctap2.User{ID: []byte("ada's id, 16 byte"), Name: secretName, DisplayName: "Ada Augusta Lovelace"}
)

// run has a session with a key without a PIN, which can be longer, and closes
// it.
func run(ctx context.Context, transport ctap2.Transport, longer ...func(context.Context, *ctap2.Authenticator, *session) error) (*session, error) {
	entered := []string{wrongPIN, sessionPIN}
	key, err := ctap2.Open(ctx, transport, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
			p := entered[0]
			if len(entered) > 1 {
				entered = entered[1:]
			}
			return pin.FromString(p), nil
		},
	}))
	if err != nil {
		return nil, err
	}
	defer key.Close()
	s := &session{info: key.Info()}
	if err := key.SetPIN(ctx, pin.FromString(sessionPIN)); err != nil {
		return nil, err
	}
	key.Forget()
	s.made, err = key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
		ClientDataHash:   clientDataHash[:],
		RP:               ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:             ada,
		Algorithms:       []cose.Algorithm{cose.EdDSA, cose.ES256},
		ResidentKey:      true,
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret(), ctap2.CredProtect(ctap2.UVRequired), ctap2.CredBlob(blob), ctap2.LargeBlobKey()},
	})
	if err != nil {
		return nil, err
	}
	s.accounts, err = key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
		RPID:             "example.com",
		ClientDataHash:   clientDataHash[:],
		UserVerification: ctap2.Required,
		Extensions:       []ctap2.Extension{ctap2.HMACSecret(salt1, salt2), ctap2.CredBlob(nil), ctap2.LargeBlobKey()},
	})
	if err != nil {
		return nil, err
	}
	if s.outputs, err = ctap2.Output[*ctap2.HMACSecretOutput](s.accounts[0].Extensions); err != nil {
		return nil, err
	}
	if s.token, err = key.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "example.com"}); err != nil {
		return nil, err
	}
	for _, f := range longer {
		if err := f(ctx, key, s); err != nil {
			return nil, err
		}
	}
	if err := key.ChangePIN(ctx, pin.FromString(sessionPIN), pin.FromString(nextPIN)); err != nil {
		return nil, err
	}
	return s, key.Close()
}

// manage looks after the credential of a session.
func manage(ctx context.Context, key *ctap2.Authenticator, s *session) (err error) {
	if s.stored, err = key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPID: "example.com"}); err != nil {
		return err
	}
	renamed := ctap2.User{ID: ada.ID, Name: "grace.hopper@example.com"}
	if err := key.UpdateUserInformation(ctx, &ctap2.UpdateUserInformationRequest{Credential: s.made.Descriptor(), User: renamed}); err != nil {
		return err
	}
	r := &ctap2.LargeBlobRequest{Key: s.accounts[0].LargeBlobKey, Data: large}
	if err := key.PutLargeBlob(ctx, r); err != nil {
		return err
	}
	_, s.read = key.GetLargeBlob(ctx, r)
	return nil
}

// wire keeps what goes over it.
type wire struct {
	ctap2.Transport
	exchanges [][2][]byte
}

func (w *wire) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := w.Transport.Exchange(ctx, message, status)
	w.exchanges = append(w.exchanges, [2][]byte{bytes.Clone(message), bytes.Clone(reply)})
	return reply, err
}

func (w *wire) Unwrap() ctap2.Transport { return w.Transport }

// secrets are those of a session, by what they are: in the clear, and as they
// went over the wire.
func secrets(t *testing.T, w *wire, s *session) map[string][]byte {
	t.Helper()
	found := map[string][]byte{
		"salt 1": salt1, "salt 2": salt2, "user ID": ada.ID, "name": []byte(ada.Name), "display name": []byte(ada.DisplayName),
		"output 1": s.outputs.Output1.Bytes(), "output 2": s.outputs.Output2.Bytes(), "token": s.token.Secret().Bytes(),
		"credBlob": blob, "large blob": large, "largeBlobKey": s.made.LargeBlobKey.Bytes(), "new name": []byte("grace.hopper@example.com"),
	}
	for _, p := range []string{sessionPIN, wrongPIN, nextPIN} {
		sum := sha256.Sum256([]byte(p))
		found[p], found["hash of "+p] = []byte(p), sum[:16]
	}
	for i, e := range w.exchanges {
		take := func(what string, v any) {
			if b, _ := v.([]byte); len(b) > 0 {
				found[fmt.Sprintf("%s of exchange %d", what, i)] = b
			}
		}
		var request, reply map[int]any
		if len(e[0]) > 1 {
			if err := cbor.Unmarshal(e[0][1:], &request); err != nil {
				t.Fatal(err)
			}
		}
		if len(e[1]) > 1 {
			if err := cbor.Unmarshal(e[1][1:], &reply); err != nil {
				t.Fatal(err)
			}
		}
		switch e[0][0] {
		case ctap.CmdClientPIN:
			take("pinUvAuthParam", request[4])
			take("newPinEnc", request[5])
			take("pinHashEnc", request[6])
			take("pinUvAuthToken", reply[2])
		case ctap.CmdMakeCredential:
			take("pinUvAuthParam", request[8])
		case ctap.CmdGetAssertion:
			take("pinUvAuthParam", request[6])
			salts := request[4].(map[any]any)["hmac-secret"].(map[any]any)
			take("saltEnc", salts[uint64(2)])
			take("saltAuth", salts[uint64(3)])
			data, err := ctap2.ParseAuthenticatorData(reply[2].([]byte))
			if err != nil {
				t.Fatal(err)
			}
			take("output", data.Extensions["hmac-secret"][2:]) // behind its head
		case ctap.CmdCredentialManagement:
			take("pinUvAuthParam", request[4])
		case ctap.CmdLargeBlobs:
			take("pinUvAuthParam", request[5])
			for _, array := range []any{request[2], reply[1]} {
				array, _ := array.([]byte)
				n, err := cbor.Prefix(array, cbor.Strict)
				if err != nil {
					continue // there is none
				}
				var entries []map[int]any
				if err := cbor.Unmarshal(array[:n], &entries); err != nil {
					t.Fatal(err)
				}
				for _, entry := range entries {
					take("ciphertext", entry[1])
				}
			}
		}
	}
	return found
}

// forms are the ways in which bytes can stand in a text.
func forms(secret []byte) map[string]string {
	return map[string]string{
		"itself":      string(secret),
		"hexadecimal": fmt.Sprintf("%x", secret),
		"HEXADECIMAL": fmt.Sprintf("%X", secret),
		"decimal":     strings.Trim(fmt.Sprint(secret), "[]"),
		"base64":      strings.TrimRight(base64.StdEncoding.EncodeToString(secret), "=")[:len(secret)],
		"base64url":   strings.TrimRight(base64.URLEncoding.EncodeToString(secret), "=")[:len(secret)],
	}
}

// Neither the log nor the recording of a whole session holds a secret.
func TestNoSecretsInTraceAndRecording(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		for _, over := range []string{"memory", "USB"} {
			t.Run(over, func(t *testing.T) {
				soft, err := virtual.New(config)
				if err != nil {
					t.Fatal(err)
				}
				defer soft.Close()
				w := &wire{Transport: soft}
				if over == "USB" {
					usb := soft.PlugIn(virtual.USBConfig{})
					defer usb.Unplug()
					conn, err := usb.Open()
					if err != nil {
						t.Fatal(err)
					}
					if w.Transport, err = hid.New(t.Context(), conn); err != nil {
						t.Fatal(err)
					}
				}
				var text, structured, recording bytes.Buffer
				options := &slog.HandlerOptions{Level: slog.LevelDebug}
				transport := ctap2.Record(w, &recording)
				transport = ctap2.Trace(transport, slog.New(slog.NewTextHandler(&text, options)))
				transport = ctap2.Trace(transport, slog.New(slog.NewJSONHandler(&structured, options)))
				s, err := run(t.Context(), transport, manage)
				if err != nil || s.read != nil {
					t.Fatal(err, s)
				}

				found := secrets(t, w, s)
				if len(found) < 45 {
					t.Errorf("%d secrets only", len(found))
				}
				dump := fmt.Sprintf("%x", w.exchanges)
				for name, secret := range found {
					if len(secret) < 16 {
						t.Errorf("%s is too short to look for: %x", name, secret)
					}
					if strings.Contains(name, "of exchange") && !strings.Contains(dump, fmt.Sprintf("%x", secret)) {
						t.Errorf("%s is not even on the wire", name)
					}
					for form, f := range forms(secret) {
						for where, log := range map[string]*bytes.Buffer{"log": &text, "JSON log": &structured, "recording": &recording} {
							if at := strings.Index(log.String(), f); at >= 0 {
								t.Errorf("%s in %s in the %s: …%s…", name, form, where, log.String()[max(0, at-100):min(log.Len(), at+100)])
							}
						}
					}
				}
				for where, log := range map[string]*bytes.Buffer{"log": &text, "JSON log": &structured, "recording": &recording} {
					for _, shown := range []string{fmt.Sprintf("%x", s.made.ID), fmt.Sprintf("%x", clientDataHash), fmt.Sprintf("%x", s.accounts[0].Signature)} {
						if !strings.Contains(log.String(), shown) {
							t.Errorf("no %s in the %s", shown, where)
						}
					}
				}
			})
		}
	})
}

// What a session looks like, on paper. What differs from one to the next are the
// platform's agreement keys.
func TestTraceGolden(t *testing.T) {
	const recording, golden = "testdata/session.jsonl", "testdata/session.trace"
	if *update {
		soft, err := virtual.New(virtual.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		file, err := os.Create(recording)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := run(t.Context(), ctap2.Record(soft, file)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSheet()
	if _, err := run(t.Context(), ctap2.Trace(replay(t, recording), slog.New(s))); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, r := range s.records {
		fmt.Fprintln(&text, strings.TrimSpace(r["command"]+" "+r["subcommand"]))
		for _, attr := range []string{"request", "keepalives", "status", "reply", "error"} {
			if v, there := r[attr]; there {
				fmt.Fprintf(&text, "\t%s: %s\n", attr, v)
			}
		}
	}
	agreed := regexp.MustCompile(`(-25 /ECDH-ES\+HKDF-256/, -1 /crv/: 1 /P-256/), -2 /x/: h'[0-9a-f]{64}', -3 /y/: h'[0-9a-f]{64}'`)
	got := agreed.ReplaceAllString(text.String(), "$1, …")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") { // git may have changed them
		t.Errorf("the trace is\n%s\nwant\n%s", got, want)
	}
}

// A trace that nobody reads costs nothing.
func TestTraceDisabledAllocatesNothing(t *testing.T) {
	off := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	key := ctap2.Trace(&loneMessenger{lone{reply: []byte{0}}}, off)
	message, apdu := []byte{0x04}, []byte{0, 3, 0, 0, 0, 0, 0}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, _ = key.Exchange(ctx, message, nil)
		_, _ = key.(ctap2.Messenger).Msg(ctx, apdu)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTraceDisabled(b *testing.B) {
	key := ctap2.Trace(&lone{reply: []byte{0}}, slog.New(slog.DiscardHandler))
	message := []byte{0x04}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = key.Exchange(b.Context(), message, nil)
	}
}

func BenchmarkTrace(b *testing.B) {
	key := ctap2.Trace(&lone{reply: ok(b, basicInfo())}, slog.New(newSheet()))
	message := []byte{0x04}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = key.Exchange(b.Context(), message, nil)
	}
}

// A log of what goes over the wire, without secrets, from when somebody wants to
// see it.
func ExampleTrace() {
	ctx := context.Background()
	device, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		log.Fatal(err)
	}
	var level slog.LevelVar // Info
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: &level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{} // another each time
			}
			return a
		},
	}))
	key, err := ctap2.Open(ctx, ctap2.Trace(device, logger))
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	level.Set(slog.LevelDebug)
	if _, err := key.PINRetries(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=DEBUG msg=exchange command=authenticatorClientPIN subcommand=getPINRetries request="{1 /pinUvAuthProtocol/: 2, 2 /subCommand/: 1 /getPINRetries/}" status=OK reply="{3 /pinRetries/: 8, 4 /powerCycleState/: false}"
}

// Authenticator data in chunks, which CTAP2 does not allow and a key may send,
// hides its secrets from a trace and a recording as in one piece.
func TestChunkedAuthDataIsHidden(t *testing.T) {
	secret := []byte("SECRETSECRETSECRETSECRETSECRET!!")
	outputs := append(raw(t, "a1 68 63726564426c6f62 5820"), secret...)
	auth := newSoftKey(t).authData(t, "example.com", 0x81, false, outputs)
	for _, cut := range []int{10, 37, len(auth) - 40, len(auth) - 16} {
		reply := slices.Concat(raw(t, "00 a1 02 5f 58"), []byte{byte(cut)}, auth[:cut], []byte{0x58, byte(len(auth) - cut)}, auth[cut:], []byte{0xFF})
		var recording, log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if _, err := ctap2.Trace(ctap2.Record(&lone{reply: reply}, &recording), logger).Exchange(t.Context(), []byte{0x02, 0xA0}, nil); err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"trace": log.String(), "recording": recording.String()} {
			for form, piece := range forms(secret[:8]) {
				if strings.Contains(text, piece) {
					t.Errorf("cut at %d: the secret is in the %s, %s: %s", cut, where, form, text)
				}
			}
			for form, piece := range forms(secret[24:]) {
				if strings.Contains(text, piece) {
					t.Errorf("cut at %d: the end of the secret is in the %s, %s: %s", cut, where, form, text)
				}
			}
		}
	}
}
