package virtual

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A key in a file is the same key in the next process.
func TestPersistence(t *testing.T) {
	cfg := Config{
		Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, BuiltInUV: UVConfigured, Verification: Refuse,
		Algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA, cose.RS256},
	}
	key := newKey(t, cfg)
	sealed := key.make()
	rsa := key.make(params{4: []names{{"alg": -257, "type": "public-key"}}})
	var creds []authData
	for _, id := range []string{"a", "b"} {
		token := key.token(pin.Two, permMC, testRPID)
		creds = append(creds, key.make(residentKey(), account(id, id+"@example.com"), protect(2), params{4: []names{{"alg": -8, "type": "public-key"}}},
			withToken(ctap.CmdMakeCredential, pin.Two, token)))
	}
	input, secret := key.saltInput(pin.Two, salt1)
	d, _ := key.assert(sealed, allow(sealed.id), withSalts(input))
	hmacOutput := key.hmacOutputs(d, secret)
	root := key.AttestationRoot()
	uvRequest, _ := key.uvTokenRequest(permMC)
	key.refused(ctap.StatusUVInvalid, ctap.CmdClientPIN, uvRequest)
	request, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, request)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}

	cfg.PIN = "000000" // is for keys that are new
	key = newKey(t, cfg)
	if n := key.pinRetries(); n != 7 {
		t.Errorf("%d PIN retries", n)
	}
	if n := key.uvRetries(); n != 4 {
		t.Errorf("%d UV retries", n)
	}
	if !key.AttestationRoot().Equal(root) {
		t.Error("another attestation root")
	}
	input, secret = key.saltInput(pin.Two, salt1)
	d, _ = key.assert(sealed, allow(sealed.id), withSalts(input))
	if d.signCount != 2 {
		t.Errorf("signature counter %d", d.signCount)
	}
	if !bytes.Equal(key.hmacOutputs(d, secret), hmacOutput) {
		t.Error("another hmac-secret")
	}
	key.assert(rsa, allow(rsa.id))
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest()) // credProtect
	token := key.token(pin.Two, permGA, testRPID)
	_, m := key.assert(creds[1], withToken(ctap.CmdGetAssertion, pin.Two, token))
	if user := value[names](t, m, assertionUser); user["name"] != "b@example.com" {
		t.Errorf("user %v", user)
	}
	key.checkAssertion(creds[0], key.ok(ctap.CmdGetNextAssertion, nil))

	key.ok(ctap.CmdReset, nil)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	if key.options()["clientPin"] {
		t.Error("a reset key has the PIN of a new one")
	}
	key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(sealed.id, rsa.id, creds[0].id)))
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}

	// Another model in the same file has another attestation certificate.
	cfg.AAGUID = [16]byte{1}
	key = newKey(t, cfg)
	if key.AttestationRoot().Equal(root) {
		t.Error("the attestation root of another model")
	}
	key.make()
}

// The try is lost before the PIN is compared: a copy of the file, taken while
// the key still runs, knows of it.
func TestRetriesSurviveCrash(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Path: filepath.Join(dir, "key"), PIN: testPIN}
	key := newKey(t, cfg)
	for range 2 {
		request, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
		key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, request)
	}
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	crashed := Config{Path: filepath.Join(dir, "copy")}
	if err := os.WriteFile(crashed.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := newKey(t, crashed).pinRetries(); n != 6 {
		t.Errorf("%d retries", n)
	}
}

// What cannot be written down is not done.
func TestStorageFailure(t *testing.T) {
	key, err := New(Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, BuiltInUV: UVConfigured})
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t, key}
	cred := p.make()
	if err := key.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	p.refused(ctap.StatusOther, ctap.CmdMakeCredential, makeRequest(params{7: names{"uv": true, "rk": true}}))
	p.refused(ctap.StatusOther, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
	p.refused(ctap.StatusOther, ctap.CmdReset, nil)
	request, _ := p.tokenRequest(pin.Two, testPIN, permMC, testRPID)
	p.refused(ctap.StatusOther, ctap.CmdClientPIN, request)
	request, _ = p.uvTokenRequest(permMC)
	p.refused(ctap.StatusOther, ctap.CmdClientPIN, request)
	p.refused(ctap.StatusOther, ctap.CmdClientPIN, p.changePINRequest(pin.Two, testPIN, "314159"))
	if key.Close() == nil {
		t.Error("Close does not say what happened")
	}
}

func TestBadFile(t *testing.T) {
	if a, err := New(Config{Path: t.TempDir()}); err == nil {
		a.Close()
		t.Error("a directory is a key")
	}
}

func TestApplyBadRecords(t *testing.T) {
	good := newKey(t, Config{})
	cred := good.make(residentKey())
	rec, err := good.state.credentials[0].record()
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*credentialRecord)) []byte {
		t.Helper()
		var r credentialRecord
		if err := cbor.Unmarshal(rec.Value, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		encoded, err := cbor.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	attestation := func(r attestationRecord) []byte {
		t.Helper()
		encoded, err := cbor.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	longHash, err := pinRecord{Hash: make([]byte, 17)}.record()
	if err != nil {
		t.Fatal(err)
	}
	for name, rec := range map[string]record{
		"master":                  {Kind: kindMaster, Value: []byte{1}},
		"PIN":                     {Kind: kindPIN, Value: []byte{0x80}},
		"PIN length":              longHash,
		"retries":                 {Kind: kindRetries, Value: []byte{9, 0}},
		"UV retries":              {Kind: kindRetries, Value: []byte{8, 26}},
		"counter":                 {Kind: kindSignCount, Value: []byte{1}},
		"persistent token":        {Kind: kindPersistentToken, Value: make([]byte, 31)},
		"large-blob array":        {Kind: kindLargeBlobArray, Value: make([]byte, 17)},
		"short large-blob array":  {Kind: kindLargeBlobArray, Value: make([]byte, 16)},
		"credential":              {Kind: kindCredential, Key: cred.id, Value: []byte{0xF6, 0}},
		"credential algorithm":    {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Algorithm = 0 })},
		"credential key":          {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Key = make([]byte, 32) })},
		"credential key, EdDSA":   {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Algorithm = cose.EdDSA; r.Key = nil })},
		"credential key, RS256":   {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Algorithm = cose.RS256 })},
		"attestation":             {Kind: kindAttestation, Key: defaultAAGUID[:], Value: []byte{0x80}},
		"attestation key":         {Kind: kindAttestation, Key: defaultAAGUID[:], Value: attestation(attestationRecord{})},
		"attestation certificate": {Kind: kindAttestation, Key: defaultAAGUID[:], Value: attestation(attestationRecord{Key: bytes.Repeat([]byte{1}, 32)})},
	} {
		s := &state{aaguid: defaultAAGUID}
		if err := s.load(&good.cfg, map[recordKey][]byte{{rec.Kind, string(rec.Key)}: rec.Value}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A newer version's.
	s := &state{aaguid: defaultAAGUID}
	if err := s.load(&good.cfg, map[recordKey][]byte{{200, "x"}: {1}}); err != nil {
		t.Error(err)
	}
}

func TestRefusalText(t *testing.T) {
	var refused refusal
	if err := error(refusal(0x31)); !errors.As(err, &refused) || err.Error() != "status 0x31" {
		t.Errorf("%v", err)
	}
}
