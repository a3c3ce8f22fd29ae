package virtual

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestMakeCredentialRefused(t *testing.T) {
	long := bytes.Repeat([]byte{1}, 129)
	for _, test := range []struct {
		name   string
		want   byte
		change params
		cfg    Config
	}{
		{"no clientDataHash", ctap.StatusMissingParameter, params{1: nil}, Config{}},
		{"no rp", ctap.StatusMissingParameter, params{2: nil}, Config{}},
		{"no user", ctap.StatusMissingParameter, params{3: nil}, Config{}},
		{"no pubKeyCredParams", ctap.StatusMissingParameter, params{4: nil}, Config{}},
		{"no rp.id", ctap.StatusMissingParameter, params{2: names{"name": "x"}}, Config{}},
		{"no user.id", ctap.StatusMissingParameter, params{3: names{"name": "x"}}, Config{}},
		{"clientDataHash of text", ctap.StatusCBORUnexpectedType, params{1: "hash"}, Config{}},
		{"clientDataHash of integers", ctap.StatusCBORUnexpectedType, params{1: make([]int, 32)}, Config{}},
		{"clientDataHash of 31 bytes", ctap.StatusInvalidLength, params{1: testHash[1:]}, Config{}},
		{"rp of text", ctap.StatusCBORUnexpectedType, params{2: testRPID}, Config{}},
		{"rp.id of bytes", ctap.StatusCBORUnexpectedType, params{2: names{"id": []byte(testRPID)}}, Config{}},
		{"rp.name of integer", ctap.StatusCBORUnexpectedType, params{2: names{"id": testRPID, "name": 1}}, Config{}},
		{"user an array", ctap.StatusCBORUnexpectedType, params{3: []int{}}, Config{}},
		{"user.id of text", ctap.StatusCBORUnexpectedType, params{3: names{"id": "ada"}}, Config{}},
		{"user.id null", ctap.StatusCBORUnexpectedType, params{3: names{"id": cbor.RawMessage{0xF6}}}, Config{}},
		{"user.id of 65 bytes", ctap.StatusInvalidLength, params{3: names{"id": long[:65]}}, Config{}},
		{"displayName of bytes", ctap.StatusCBORUnexpectedType, params{3: names{"id": []byte{1}, "displayName": []byte{1}}}, Config{}},
		{"pubKeyCredParams a map", ctap.StatusCBORUnexpectedType, params{4: names{}}, Config{}},
		{"pubKeyCredParams of integers", ctap.StatusCBORUnexpectedType, params{4: []int{-7}}, Config{}},
		{"pubKeyCredParams empty", ctap.StatusUnsupportedAlgorithm, params{4: []names{}}, Config{}},
		{"alg of text", ctap.StatusCBORUnexpectedType, params{4: []names{{"alg": "ES256", "type": "public-key"}}}, Config{}},
		{"no alg", ctap.StatusInvalidCBOR, params{4: []names{{"type": "public-key"}}}, Config{}},
		{"no type", ctap.StatusInvalidCBOR, params{4: []names{{"alg": -7}}}, Config{}},
		{"bad element behind a good one", ctap.StatusInvalidCBOR, params{4: []names{{"alg": -7, "type": "public-key"}, {"alg": -8}}}, Config{}},
		{"unknown algorithm", ctap.StatusUnsupportedAlgorithm, params{4: []names{{"alg": -257, "type": "public-key"}}}, Config{}},
		{"unknown type", ctap.StatusUnsupportedAlgorithm, params{4: []names{{"alg": -7, "type": "private-key"}}}, Config{}},
		{"excludeList a map", ctap.StatusCBORUnexpectedType, params{5: names{}}, Config{}},
		{"excludeList without id", ctap.StatusMissingParameter, params{5: []names{{"type": "public-key"}}}, Config{}},
		{"excludeList without type", ctap.StatusMissingParameter, params{5: []names{{"id": []byte{1}}}}, Config{}},
		{"excludeList with transports of text", ctap.StatusCBORUnexpectedType, params{5: []names{{"id": []byte{1}, "type": "public-key", "transports": "usb"}}}, Config{}},
		{"excludeList too long", ctap.StatusLimitExceeded, exclude(long[:1], long[:1], long[:1]), Config{MaxCredentialCountInList: 2}},
		{"excludeList with a long ID", ctap.StatusLimitExceeded, exclude(long), Config{}},
		{"extensions an array", ctap.StatusCBORUnexpectedType, params{6: []int{}}, Config{}},
		{"options an array", ctap.StatusCBORUnexpectedType, params{7: []int{}}, Config{}},
		{"option of integer", ctap.StatusCBORUnexpectedType, params{7: names{"rk": 1}}, Config{}},
		{"up false", ctap.StatusInvalidOption, params{7: names{"up": false}}, Config{}},
		{"rk unsupported", ctap.StatusUnsupportedOption, residentKey(), Config{NoResidentKeys: true}},
		{"uv unsupported", ctap.StatusInvalidOption, params{7: names{"uv": true}}, Config{}},
		{"uv unsupported in 2.0", ctap.StatusUnsupportedOption, params{7: names{"uv": true}}, Config{Level: CTAP20}},
		{"uv not configured", ctap.StatusInvalidOption, params{7: names{"uv": true}}, Config{BuiltInUV: UVNotConfigured}},
		{"pinUvAuthParam of text", ctap.StatusCBORUnexpectedType, params{8: "x"}, Config{}},
		{"pinUvAuthParam without protocol", ctap.StatusMissingParameter, params{8: testHash}, Config{}},
		{"pinUvAuthParam with unknown protocol", ctap.StatusInvalidParameter, params{8: testHash, 9: 3}, Config{}},
		{"pinUvAuthParam with other protocol", ctap.StatusInvalidParameter, params{8: testHash, 9: 2}, Config{PINProtocols: []pin.Protocol{1}}},
		{"pinUvAuthParam without any UV", ctap.StatusInvalidParameter, params{8: []byte{}, 9: 1}, Config{NoClientPIN: true, Extensions: []string{}}},
		{"pinUvAuthProtocol negative", ctap.StatusCBORUnexpectedType, params{8: testHash, 9: -1}, Config{}},
		{"pinUvAuthParam wrong", ctap.StatusPINAuthInvalid, params{8: testHash, 9: 2}, Config{PIN: testPIN}},
		{"no pinUvAuthParam, no PIN", ctap.StatusPINNotSet, params{8: []byte{}, 9: 1}, Config{}},
		{"no pinUvAuthParam, PIN", ctap.StatusPINInvalid, params{8: []byte{}}, Config{PIN: testPIN}},
		{"2.0, pinAuth, no PIN", ctap.StatusPINNotSet, params{8: testHash, 9: 1}, Config{Level: CTAP20}},
		{"2.0, pinAuth, no PIN but UV", ctap.StatusPINNotSet, params{8: testHash, 9: 1}, Config{Level: CTAP20, BuiltInUV: UVConfigured}},
		{"2.0, pinAuth, no PIN at all", ctap.StatusPINNotSet, params{8: testHash, 9: 1}, Config{Level: CTAP20, NoClientPIN: true}},
		{"2.0, pinAuth wrong", ctap.StatusPINAuthInvalid, params{8: testHash, 9: 1}, Config{Level: CTAP20, PIN: testPIN}},
		{"2.0, unknown pinProtocol", ctap.StatusPINAuthInvalid, params{8: testHash, 9: 77}, Config{Level: CTAP20, PIN: testPIN}},
		{"2.0, unknown pinProtocol, no PIN", ctap.StatusPINAuthInvalid, params{8: testHash, 9: 2}, Config{Level: CTAP20}},
		{"enterpriseAttestation", ctap.StatusInvalidParameter, params{10: 1}, Config{}},
		{"attestation formats of text", ctap.StatusCBORUnexpectedType, params{11: "none"}, Config{}},

		{"rk with a PIN", ctap.StatusPUATRequired, residentKey(), Config{PIN: testPIN}},
		{"rk with UV alone", ctap.StatusOperationDenied, residentKey(), Config{BuiltInUV: UVConfigured, NoClientPIN: true}},
		{"rk with a PIN without mc", ctap.StatusOperationDenied, residentKey(), Config{PIN: testPIN, NoMCGAPermissionsWithClientPIN: true}},
		{"without makeCredUvNotRqd", ctap.StatusPUATRequired, nil, Config{PIN: testPIN, UVRequiredForNonDiscoverable: true}},
		{"2.0 with a PIN", ctap.StatusPUATRequired, nil, Config{PIN: testPIN, Level: CTAP20}},
		{"alwaysUv without PIN", ctap.StatusPUATRequired, nil, Config{AlwaysUV: true}},
		{"alwaysUv with PIN", ctap.StatusPUATRequired, nil, Config{AlwaysUV: true, PIN: testPIN}},
		{"alwaysUv with nothing", ctap.StatusOperationDenied, nil, Config{AlwaysUV: true, NoClientPIN: true, BuiltInUV: UVNotConfigured}},
		{"alwaysUv, PIN without mc", ctap.StatusOperationDenied, nil, Config{AlwaysUV: true, PIN: testPIN, NoMCGAPermissionsWithClientPIN: true, BuiltInUV: UVNotConfigured}},

		{"declined", ctap.StatusOperationDenied, nil, Config{Presence: Refuse}},
		{"locked out", ctap.StatusOperationDenied, nil, Config{Presence: func(context.Context, Prompt) Answer { return LockOut }}},
		{"ignored", ctap.StatusOperationDenied, nil, Config{Presence: func(context.Context, Prompt) Answer { return Nothing }}},
		{"2.0, declined", ctap.StatusOperationDenied, nil, Config{Level: CTAP20, Presence: Refuse}},
		{"2.0, ignored", ctap.StatusUserActionTimeout, nil, Config{Level: CTAP20, Presence: func(context.Context, Prompt) Answer { return Nothing }}},
		{"2.0, no pinAuth, ignored", ctap.StatusUserActionTimeout, params{8: []byte{}}, Config{Level: CTAP20, Presence: func(context.Context, Prompt) Answer { return Nothing }}},
		{"no pinUvAuthParam, declined", ctap.StatusOperationDenied, params{8: []byte{}}, Config{Presence: Refuse}},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := newKey(t, test.cfg)
			key.refused(test.want, ctap.CmdMakeCredential, makeRequest(test.change))
			if n := len(key.stored()); n != 0 {
				t.Errorf("%d credentials stored", n)
			}
		})
	}
}

func TestMakeCredential(t *testing.T) {
	for _, test := range []struct {
		name   string
		change params
		cfg    Config
		alg    cose.Algorithm
		flags  byte
	}{
		{"plain", nil, Config{}, cose.ES256, flagUP | flagAT},
		{"discoverable", residentKey(), Config{}, cose.ES256, flagUP | flagAT},
		{"options spelled out", params{7: names{"rk": false, "up": true, "uv": false, "unknown": 1}}, Config{}, cose.ES256, flagUP | flagAT},
		{"key's order does not matter", params{4: []names{{"alg": 1, "type": "x"}, {"alg": -8, "type": "public-key"}, {"alg": -7, "type": "public-key"}}}, Config{}, cose.EdDSA, flagUP | flagAT},
		{"2.0 ignores enterpriseAttestation", params{10: 1}, Config{Level: CTAP20}, cose.ES256, flagUP | flagAT},
		{"no protection, so the parameter is not looked at", params{8: testHash, 9: 1}, Config{}, cose.ES256, flagUP | flagAT},
		{"nor is an empty one", params{8: []byte{}, 9: 1}, Config{NoClientPIN: true}, cose.ES256, flagUP | flagAT},
		{"no PIN needed", nil, Config{PIN: testPIN}, cose.ES256, flagUP | flagAT},
		{"built-in UV", params{7: names{"uv": true, "rk": true}}, Config{BuiltInUV: UVConfigured}, cose.ES256, flagUP | flagUV | flagAT},
		{"built-in UV by alwaysUv", nil, Config{BuiltInUV: UVConfigured, AlwaysUV: true}, cose.ES256, flagUP | flagUV | flagAT},
		{"extension unknown", params{6: names{"telepathy": true}}, Config{}, cose.ES256, flagUP | flagAT},
		{"extension switched off", params{6: names{"credProtect": 3}}, Config{Extensions: []string{}}, cose.ES256, flagUP | flagAT},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c counter
			test.cfg.Presence, test.cfg.Verification = c.person, c.person
			key := newKey(t, test.cfg)
			cred := key.make(test.change)
			key.wantFlags(cred, test.flags)
			if c.took() != 1 {
				t.Errorf("the person was asked %d times", c.took())
			}
			if cred.key.Algorithm != test.alg || cred.signCount != 0 || !bytes.Equal(cred.aaguid, defaultAAGUID[:]) {
				t.Errorf("credential %+v", cred)
			}
			if len(cred.id) > key.cfg.MaxCredentialIDLength {
				t.Errorf("ID of %d bytes", len(cred.id))
			}
			d, _ := key.assert(cred, allow(cred.id))
			if d.signCount != 1 {
				t.Errorf("signature counter %d", d.signCount)
			}
		})
	}
}

func TestAlgorithms(t *testing.T) {
	algorithms := []cose.Algorithm{
		cose.ES256, cose.ES384, cose.ES512, cose.EdDSA, cose.RS256,
		cose.ESP256, cose.ESP384, cose.ESP512, cose.AlgorithmEd25519,
	}
	key := newKey(t, Config{Algorithms: algorithms, Attestation: AttestationSelf})
	for _, alg := range algorithms {
		t.Run(alg.String(), func(t *testing.T) {
			request := makeRequest(params{4: []names{{"alg": alg, "type": "public-key"}}})
			var heard []byte
			status, m := key.exchange(t.Context(), message(t, ctap.CmdMakeCredential, request), func(b byte) { heard = append(heard, b) })
			if status != ctap.StatusOK {
				t.Fatalf("status %#02x", status)
			}
			if slow := slices.Contains(heard, ctap.KeepaliveProcessing); slow != (alg == cose.RS256) {
				t.Errorf("keepalives %v", heard)
			}
			cred := key.parseAuthData(m)
			if cred.key.Algorithm != alg {
				t.Errorf("algorithm %v", cred.key.Algorithm)
			}
			statement := value[names](t, m, 3)
			if err := cred.key.Verify(slices.Concat(cred.raw, testHash), statement["sig"].([]byte)); err != nil {
				t.Errorf("self attestation: %v", err)
			}
			key.assert(cred, allow(cred.id))
		})
	}
	// What did not fit into its ID was stored, and is nonetheless not
	// discoverable.
	if n := len(key.stored()); n != 1 {
		t.Errorf("%d credentials stored", n)
	}
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest())
}

func TestBasicAttestation(t *testing.T) {
	key := newKey(t, Config{AAGUID: [16]byte{9, 8, 7}})
	m := key.ok(ctap.CmdMakeCredential, makeRequest())
	if format := value[string](t, m, 1); format != "packed" {
		t.Fatalf("format %q", format)
	}
	var statement struct {
		Alg cose.Algorithm `cbor:"alg"`
		Sig []byte         `cbor:"sig"`
		X5C [][]byte       `cbor:"x5c"`
	}
	if err := cbor.Unmarshal(m[3], &statement); err != nil {
		t.Fatal(err)
	}
	if len(statement.X5C) != 1 {
		t.Fatalf("%d certificates", len(statement.X5C))
	}
	leaf, err := x509.ParseCertificate(statement.X5C[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(key.AttestationRoot())
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	if leaf.Version != 3 || leaf.IsCA || !leaf.BasicConstraintsValid ||
		!slices.Equal(leaf.Subject.OrganizationalUnit, []string{"Authenticator Attestation"}) ||
		len(leaf.Subject.Country) != 1 || len(leaf.Subject.Organization) != 1 || leaf.Subject.CommonName == "" {
		t.Errorf("certificate breaks the rules of packed attestation: %v", leaf.Subject)
	}
	var subject []asn1.RawValue
	if _, err := asn1.Unmarshal(leaf.RawSubject, &subject); err != nil {
		t.Fatal(err)
	}
	for i, tag := range []int{asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagUTF8String, asn1.TagUTF8String} {
		var attribute struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if _, err := asn1.Unmarshal(subject[i].Bytes, &attribute); err != nil || attribute.Value.Tag != tag {
			t.Errorf("%v: string of type %d, want %d (%v)", attribute.Type, attribute.Value.Tag, tag, err)
		}
	}
	wantAAGUID := append([]byte{0x04, 0x10}, key.cfg.AAGUID[:]...)
	found := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(oidAAGUID) && !e.Critical && bytes.Equal(e.Value, wantAAGUID)
	})
	if !found {
		t.Errorf("certificate without AAGUID: %v", leaf.Extensions)
	}
	data := slices.Concat(value[[]byte](t, m, 2), testHash)
	if err := cose.Verify(statement.Alg, leaf.PublicKey, data, statement.Sig); err != nil {
		t.Error(err)
	}
}

func TestNoAttestation(t *testing.T) {
	key := newKey(t, Config{Attestation: AttestationNone})
	if key.AttestationRoot() == nil {
		t.Error("no root for U2F registrations")
	}
	key = newKey(t, Config{Attestation: AttestationNone, NoU2F: true})
	if key.AttestationRoot() != nil {
		t.Error("a root without basic attestation")
	}
	check := func(m members, want string) {
		t.Helper()
		format, statement := value[string](t, m, 1), value[names](t, m, 3)
		if format != want || (len(statement) == 0) != (want == "none") {
			t.Errorf("attestation %q %v", format, statement)
		}
	}
	check(key.ok(ctap.CmdMakeCredential, makeRequest()), "none")

	// A platform that wants no other than "none" gets it (§6.1.2 step 19).
	key = newKey(t, Config{})
	check(key.ok(ctap.CmdMakeCredential, makeRequest(params{11: []string{"none"}})), "none")
	check(key.ok(ctap.CmdMakeCredential, makeRequest(params{11: []string{"tpm", "none"}})), "packed")
	check(key.ok(ctap.CmdMakeCredential, makeRequest(params{11: []string{}})), "packed")
	key = newKey(t, Config{Level: CTAP21})
	check(key.ok(ctap.CmdMakeCredential, makeRequest(params{11: []string{"none"}})), "packed")
}

func TestExcludeList(t *testing.T) {
	var c counter
	key := newKey(t, Config{Presence: c.person})
	sealed, stored := key.make(), key.make(residentKey())
	c.took()
	for name, id := range map[string][]byte{"sealed": sealed.id, "stored": stored.id} {
		for _, person := range []Person{Touch, Refuse, func(context.Context, Prompt) Answer { return Nothing }} {
			c.next = person
			key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential, makeRequest(exclude([]byte{1}, id)))
			if n := c.took(); n != 1 {
				t.Errorf("%s: the person was asked %d times", name, n)
			}
		}
	}
	c.next = nil
	key.make(exclude([]byte{1}, bytes.Repeat([]byte{1}, len(sealed.id))))
	key.make(params{5: []names{{"id": sealed.id, "type": "private-key"}}})
	// Another relying party's credential is none of this one's.
	key.ok(ctap.CmdMakeCredential, makeRequest(exclude(sealed.id), params{2: names{"id": "example.net"}}))
	key.ok(ctap.CmdMakeCredential, makeRequest(exclude(stored.id), params{2: names{"id": "example.net"}}))
}

// The user was there already, in getting the token: no second touch.
func TestExcludeListUserPresent(t *testing.T) {
	var c counter
	key := newKey(t, Config{BuiltInUV: UVConfigured, Presence: c.person})
	cred := key.make()
	c.took()
	token := key.uvToken(permMC)
	key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential,
		makeRequest(exclude(cred.id), withToken(ctap.CmdMakeCredential, pin.Two, token)))
	key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential, makeRequest(exclude(cred.id), params{7: names{"uv": true}}))
	if n := c.took(); n != 0 {
		t.Errorf("the person was asked for a touch %d times", n)
	}
}

// Names are cut between code points, and no others than the long ones.
func TestLongNames(t *testing.T) {
	fits := strings.Repeat("x", 64)
	for name, want := range map[string]string{
		"":                            "",
		"Ada":                         "Ada",
		fits:                          fits,
		fits + "y":                    fits,
		fits[:63] + "é":               fits[:63],
		fits[:62] + "é":               fits[:62] + "é",
		fits[:61] + "🔑":               fits[:61],
		strings.Repeat("🔑", 500):      strings.Repeat("🔑", 16),
		strings.Repeat("é", 32) + "!": strings.Repeat("é", 32),
	} {
		key := newKey(t, Config{})
		key.make(residentKey(), params{2: names{"id": testRPID, "name": name}, 3: names{"id": []byte{1}, "name": name, "displayName": name}})
		c := key.stored()[0]
		if c.rpName != want || *c.user.name != want || *c.user.displayName != want {
			t.Errorf("%.80q is stored as %.80q, %.80q, %.80q", name, c.rpName, *c.user.name, *c.user.displayName)
		}
	}
}

// However long the names, answers fit into the smallest message there is.
func TestAnswersFit(t *testing.T) {
	algorithms := []cose.Algorithm{cose.RS256, cose.ES512, cose.EdDSA}
	for _, attestation := range []Attestation{AttestationBasic, AttestationSelf} {
		key := newKey(t, Config{
			Algorithms: algorithms, Attestation: attestation, PIN: testPIN, MaxMsgSize: ctap.DefaultMaxMsgSize,
		})
		exchange := func(command byte, parameters any) {
			t.Helper()
			answer, err := key.Exchange(t.Context(), message(t, command, parameters), nil)
			if err != nil || answer[0] != ctap.StatusOK || len(answer) > ctap.DefaultMaxMsgSize {
				t.Errorf("command %#02x: status %#02x, %d bytes, %v", command, answer[0], len(answer), err)
			}
		}
		long := strings.Repeat("x", 300)
		for _, alg := range algorithms {
			token := key.token(pin.Two, permMC, testRPID)
			exchange(ctap.CmdMakeCredential, makeRequest(withToken(ctap.CmdMakeCredential, pin.Two, token), params{
				3: names{"id": bytes.Repeat([]byte{byte(-alg)}, 64), "name": long, "displayName": long},
				4: []names{{"alg": alg, "type": "public-key"}},
				6: names{"credProtect": 3, "hmac-secret": true},
				7: names{"rk": true},
			}))
		}
		input, _ := key.saltInput(pin.Two, salt1, salt2)
		token := key.token(pin.Two, permGA, testRPID)
		exchange(ctap.CmdGetAssertion, assertRequest(withSalts(input), withToken(ctap.CmdGetAssertion, pin.Two, token)))
		for range algorithms[1:] {
			exchange(ctap.CmdGetNextAssertion, nil)
		}
	}
}

// A credential for an account without an ID is one like any other, but that no
// assertion says so.
func TestEmptyUserID(t *testing.T) {
	key := newKey(t, Config{Path: filepath.Join(t.TempDir(), "key")})
	key.make(residentKey(), account("", "Emma"))
	cred := key.make(residentKey(), account("", "Emma")) // takes its place
	for _, change := range []params{nil, allow(cred.id)} {
		_, m := key.assert(cred, change)
		if m[assertionUser] != nil || m[assertionNumberOfCredentials] != nil {
			t.Errorf("members %v", m)
		}
	}
	cfg := key.cfg
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	newKey(t, cfg).assert(cred)
}

// The longest IDs are no longer than Config is told.
func TestCredentialIDLength(t *testing.T) {
	for _, alg := range []cose.Algorithm{
		cose.ES256, cose.ES384, cose.ES512, cose.EdDSA, cose.RS256,
		cose.ESP256, cose.ESP384, cose.ESP512, cose.AlgorithmEd25519,
	} {
		n := credentialIDLength(alg)
		cfg := Config{Algorithms: []cose.Algorithm{alg}, MaxCredentialIDLength: n - 1}
		if a, err := New(cfg); err == nil {
			a.Close()
			t.Errorf("%v: room for %d bytes is enough", alg, n-1)
		}
		cfg.MaxCredentialIDLength = n
		key := newKey(t, cfg)
		cred := key.make(params{6: names{"credProtect": 2, "thirdPartyPayment": true}, 4: []names{{"alg": alg, "type": "public-key"}}})
		if len(cred.id) > n || len(cred.id) < n-1 {
			t.Errorf("%v: ID of %d bytes, %d at most", alg, len(cred.id), n)
		}
		key.assert(cred, allow(cred.id))
	}
}

func TestKeyStoreFull(t *testing.T) {
	key := newKey(t, Config{Credentials: 2, Algorithms: []cose.Algorithm{cose.ES256, cose.RS256}})
	key.make(residentKey(), account("a", "a"))
	key.make(residentKey(), account("b", "b"))
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(residentKey(), account("c", "c")))
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(params{4: []names{{"alg": -257, "type": "public-key"}}}))
	key.make(account("c", "c"))                // needs no room
	key.make(residentKey(), account("b", "B")) // takes the place of the other
	if n := value[int](t, key.ok(ctap.CmdGetInfo, nil), infoRemainingDiscoverableCredentials); n != 0 {
		t.Errorf("room for %d credentials", n)
	}
}

func TestOverwrite(t *testing.T) {
	key := newKey(t, Config{})
	server := key.make()
	old := key.make(residentKey())
	again := key.make(residentKey())
	key.assert(again)
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(old.id)))
	key.assert(server, allow(server.id))
	// Another relying party may know the same account.
	key.ok(ctap.CmdMakeCredential, makeRequest(residentKey(), params{2: names{"id": "example.net"}}))
	key.assert(again)
}

// A finger is no touch that a key claims which says that it cannot be touched.
func TestNoUserPresenceWithFinger(t *testing.T) {
	key := newKey(t, Config{NoUserPresence: true, BuiltInUV: UVConfigured, PIN: testPIN})
	cred := key.make(params{7: names{"uv": true}})
	key.wantFlags(cred, flagUV|flagAT)
	token := key.uvToken(permMC)
	if key.userPresentFlag() {
		t.Error("a token says that the user is present")
	}
	key.wantFlags(key.make(withToken(ctap.CmdMakeCredential, pin.Two, token)), flagUV|flagAT)
	d, _ := key.assert(cred, allow(cred.id), params{5: names{"uv": true}})
	key.wantFlags(d, flagUV)
	d, _ = key.assert(cred, allow(cred.id), withToken(ctap.CmdGetAssertion, pin.Two, key.uvToken(permGA)))
	key.wantFlags(d, flagUV)
}
