package virtual

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

// A program that keeps several keys has to say which it cannot have.
func TestNewNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	refused := func(want error) {
		t.Helper()
		a, err := New(Config{Path: path})
		if err == nil {
			a.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("New = %v, want %v of %s", err, want, path)
		}
	}
	if err := os.WriteFile(path, []byte("something else, and long enough to be a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(errJournalDamaged)
	if runtime.GOOS == "windows" {
		return // no lock there
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	newKey(t, Config{Path: path})
	refused(ErrInUse)
}

func TestApplyBadRecords(t *testing.T) {
	good := newKey(t, Config{})
	cred := good.make(residentKey())
	rec, err := good.stored()[0].record()
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
		"credential key, great":   {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Key = elliptic.P256().Params().N.Bytes() })},
		"credential key, short":   {Kind: kindCredential, Key: cred.id, Value: with(func(r *credentialRecord) { r.Key = r.Key[1:] })},
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

// locate is state.locate.
func (p *platform) locate(id []byte, rpIDHash [32]byte) *credential {
	p.Helper()
	c, err := p.state.locate(id, rpIDHash)
	if err != nil {
		p.Fatal(err)
	}
	return c
}

// stored returns the credentials that the key keeps, oldest first.
func (p *platform) stored() []*credential {
	p.Helper()
	if err := p.state.loadAll(); err != nil {
		p.Fatal(err)
	}
	return slices.SortedFunc(maps.Values(p.state.kept.byID), byCreation)
}

// stock puts n discoverable credentials into a key at once, all with one private
// key, in the order of their names.
func (p *platform) stock(n int, rpName string) {
	p.Helper()
	key, err := newSigningKey(cose.ES256)
	if err != nil {
		p.Fatal(err)
	}
	var recs []record
	for i := range n {
		c := &credential{id: randomBytes(storedIDLength), rpID: fmt.Sprintf("%d.example", i), rpName: rpName,
			user: user{id: randomBytes(8)}, discoverable: true, created: p.state.kept.tally.Created + 1 + uint64(len(recs)), key: key}
		rec, err := c.record()
		if err != nil {
			p.Fatal(err)
		}
		recs = append(recs, rec)
		if len(recs)*(len(rpName)+200) > maxBatch/2 || i == n-1 {
			if err := p.state.commit(recs...); err != nil {
				p.Fatal(err)
			}
			recs = nil
		}
	}
}

// Credentials are found, and listed in the order in which they were made, in the
// next process too, and after one was replaced and another deleted.
func TestManyCredentials(t *testing.T) {
	const n = 1000
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), Credentials: n}
	key := newKey(t, cfg)
	key.stock(n, "")
	check := func(want []*credential) {
		t.Helper()
		if tally := key.state.kept.tally; tally.Stored != len(want) || tally.Discoverable != len(want) {
			t.Fatalf("%d credentials, %d discoverable, want %d", tally.Stored, tally.Discoverable, len(want))
		}
		// Here and there one, before all are in memory.
		for i := 0; i < len(want); i += 100 {
			found := key.locate(want[i].id, want[i].rpIDHash)
			accounts, err := key.state.accounts(want[i].rpIDHash)
			if found == nil || err != nil || !slices.Equal(accounts, []*credential{found}) {
				t.Fatalf("credential %d: found %v, of %v, %v", i, found != nil, accounts, err)
			}
		}
		all := key.stored()
		if len(all) != len(want) {
			t.Fatalf("%d credentials, want %d", len(all), len(want))
		}
		digest := bytes.Clone(key.state.listDigest()) // as the changes have left it
		clear(key.state.listDigest())
		for i, c := range all {
			found := key.locate(want[i].id, want[i].rpIDHash)
			if c.rpID != want[i].rpID || found != c || !slices.Equal(key.state.kept.byRP[c.rpIDHash], []*credential{c}) {
				t.Fatalf("credential %d is of %s, want %s; found %v", i, c.rpID, want[i].rpID, found == c)
			}
			key.state.relist(c)
		}
		if len(key.state.kept.byRP) != len(want) {
			t.Fatalf("%d relying parties, want %d", len(key.state.kept.byRP), len(want))
		}
		if !bytes.Equal(digest, key.state.listDigest()) {
			t.Fatal("the digest of the list is not that of its credentials")
		}
	}
	want := key.stored()
	check(want)

	deleted, renamed := want[n/2], *want[n/4]
	renamed.user.name = new(string)
	rec, err := renamed.record()
	if err != nil {
		t.Fatal(err)
	}
	if err := key.state.commit(rec, record{Kind: kindCredential, Key: deleted.id}); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, n/2, n/2+1)
	check(want)
	if c := key.locate(deleted.id, deleted.rpIDHash); c != nil {
		t.Error("a deleted credential is found")
	}
	if c := key.locate(renamed.id, deleted.rpIDHash); c != nil {
		t.Error("a credential is found for another relying party")
	}
	if c := key.locate(renamed.id, renamed.rpIDHash); c.user.name == nil {
		t.Error("the name is lost")
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	check(want)
	key.ok(ctap.CmdReset, nil)
	check(nil)
	if c := key.locate(renamed.id, renamed.rpIDHash); c != nil {
		t.Error("a credential survives a reset")
	}
}

// A signature counter costs a few bytes of the file, whatever else is in it: it is
// appended, and the rewriting that comes with time is in proportion.
func TestSignInWritesLittle(t *testing.T) {
	const n, atMost = 40_000, 64
	path := filepath.Join(t.TempDir(), "key")
	key := newKey(t, Config{Path: path, Credentials: 1000})
	key.stock(1000, "")
	cred := key.stored()[0]
	key.ok(ctap.CmdGetAssertion, assertRequest(params{1: cred.rpID}, allow(cred.id))) // shelves them
	stat := func() os.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	before := stat()
	key.ok(ctap.CmdGetAssertion, assertRequest(params{1: cred.rpID}, allow(cred.id)))
	after := stat()
	if grown := after.Size() - before.Size(); !os.SameFile(before, after) || grown <= 0 || grown > atMost {
		t.Errorf("a sign-in: another file, or one that grew by %d bytes", grown)
	}

	// The counter alone, which is all that a sign-in writes.
	written, rewritten := int64(0), 0
	for range n {
		if _, ok := key.state.journal.file.(unsynced); !ok { // a compaction made a new one
			key.state.journal.file = unsynced{key.state.journal.file}
		}
		before := key.state.journal.size
		if _, err := key.state.nextSignCount(); err != nil {
			t.Fatal(err)
		}
		grown := key.state.journal.size - before
		if grown < 0 {
			grown = key.state.journal.size
			rewritten++
		}
		written += grown
	}
	if written > n*atMost || rewritten == 0 {
		t.Errorf("%d bytes for each of %d counters, %d times the whole file", written/n, n, rewritten)
	}
	if total := stat().Size(); total != key.state.journal.size {
		t.Errorf("the file has %d bytes, %d are known", total, key.state.journal.size)
	}
	t.Logf("%.1f bytes for each counter, %d times the whole file, which has %d at least", float64(written)/n, rewritten, key.state.journal.live)
}

// A key whose file has no room for another credential still makes assertions,
// takes PINs, and can be emptied.
func TestFullFile(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, Credentials: 1 << 20, ResetWindow: -1}
	key := newKey(t, cfg)
	root := key.AttestationRoot()
	key.state.journal.file = unsynced{key.state.journal.file}
	long := strings.Repeat("x", 60_000)
	key.stock(200, long)
	for size := len(long); size > 0; size /= 2 {
		signing := key.stored()[0].key
		for {
			c := &credential{rpID: testRPID, rpName: long[:size], user: user{id: randomBytes(8)}, discoverable: true, key: signing}
			ok, err := key.state.store(c, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
		}
	}
	token := key.token(pin.Two, permMC, testRPID)
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, token)))
	for range 5000 { // more than there is in reserve
		if _, ok := key.state.journal.file.(unsynced); !ok { // a compaction made a new one
			key.state.journal.file = unsynced{key.state.journal.file}
		}
		key.ok(ctap.CmdGetAssertion, assertRequest(allow(key.stored()[len(key.stored())-1].id)))
	}
	m := key.manager(pin.Two, ctap.PermissionCredentialManagement, "")
	m.do(deleteCred, credentialID(key.stored()[0].id))
	key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	key.ok(ctap.CmdReset, nil)
	if len(key.stored()) > 0 || key.options()["clientPin"] || key.state.journal.size > compactionFloor {
		t.Errorf("%d credentials, options %v and a file of %d bytes after a reset", len(key.stored()), key.options(), key.state.journal.size)
	}
	key.make(residentKey())
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	if len(key.stored()) != 1 || key.options()["clientPin"] || !key.AttestationRoot().Equal(root) {
		t.Errorf("%d credentials, options %v in the next process, or another attestation root", len(key.stored()), key.options())
	}
}

// A file of a key that had a PIN makes none of a key that cannot have one.
func TestFileWithPINOfKeyWithout(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
	if err := newKey(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
	without := cfg
	without.PIN, without.NoClientPIN = "", true
	key := newKey(t, without)
	if _, ok := key.options()["clientPin"]; ok {
		t.Errorf("options %v", key.options())
	}
	key.make(residentKey())
	array := serialized(1, 40)
	key.ok(ctap.CmdLargeBlobs, fragment(array, 0, 40))
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	newKey(t, cfg).token(pin.Two, permMC, testRPID) // it is still there
}

// New does not build a key that the settings in its file contradict.
func TestFileBeyondConfig(t *testing.T) {
	for name, test := range map[string]struct {
		setting params
		cfg     Config
		fits    Config
		want    string
	}{
		"alwaysUv, no way":    {params{1: ctap.ConfigToggleAlwaysUV}, Config{NoClientPIN: true}, Config{}, "alwaysUv"},
		"alwaysUv, no tokens": {params{1: ctap.ConfigToggleAlwaysUV}, Config{NoMCGAPermissionsWithClientPIN: true}, Config{BuiltInUV: UVNotConfigured}, "alwaysUv"},
		"alwaysUv, level":     {params{1: ctap.ConfigToggleAlwaysUV}, Config{Level: CTAP1}, Config{Level: CTAP21}, "alwaysUv"},
		"alwaysUv, CTAP 2.0":  {params{1: ctap.ConfigToggleAlwaysUV}, Config{Level: CTAP20}, Config{NoClientPIN: true, BuiltInUV: UVConfigured}, "alwaysUv"},
		"minimum PIN":         {params{1: ctap.ConfigSetMinPINLength, 2: params{1: 20}}, Config{MaxPINLength: 19}, Config{MaxPINLength: 20}, "MaxPINLength"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		key := newKey(t, Config{Path: path})
		key.ok(ctap.CmdConfig, test.setting)
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		test.cfg.Path, test.fits.Path = path, path
		if a, err := New(test.cfg); err == nil {
			a.Close()
			t.Errorf("%s: New succeeded", name)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		newKey(t, test.fits).Close()
	}
}

// A file without room is a storage that is full, and says so with the status of
// whatever was to be stored.
func TestFileFullStatuses(t *testing.T) {
	full := func(cfg Config) *platform {
		t.Helper()
		cfg.Path = filepath.Join(t.TempDir(), "key")
		key := newKey(t, cfg)
		t.Cleanup(func() { key.state.journal.broken = errJournalFull }) // its size is a lie
		return key
	}
	fill := func(key *platform) { key.state.journal.size = maxJournal - journalReserve }

	key := full(Config{})
	array := serialized(1, 40)
	fill(key)
	key.refused(ctap.StatusLargeBlobStorageFull, ctap.CmdLargeBlobs, fragment(array, 0, 40))
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdConfig, params{1: ctap.ConfigSetMinPINLength, 2: params{1: 5}})
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdConfig, params{1: ctap.ConfigToggleAlwaysUV})

	key = full(Config{Extensions: []string{"largeBlob"}})
	cred, _ := key.makeBlob("required")
	fill(key)
	before := key.state.signCount
	if key.writeBlob(cred, []byte("blob")) {
		t.Error("a blob is written")
	}
	if key.state.signCount != before+1 {
		t.Errorf("signature counter %d after %d", key.state.signCount, before)
	}

	for _, protocol := range bothProtocols {
		key = full(Config{PIN: testPIN, BuiltInUV: UVConfigured, FingerprintSamples: 1})
		e := key.enroller(protocol)
		ids, _ := e.fingers()
		fill(key)
		e.fails(ctap.StatusFPDatabaseFull, setName, params{1: ids[0], 2: "thumb"})
		e.fails(ctap.StatusFPDatabaseFull, enrollBegin, nil)
		e.do(removeFinger, params{1: ids[0]})
	}
}

// What a record was made of, or read from, does not stay in memory.
func TestRecordsWiped(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}.withDefaults()
	key := newKey(t, cfg)
	cred := key.make(withToken(ctap.CmdMakeCredential, pin.Two, key.token(pin.Two, permMC, testRPID)), residentKey())
	rec, err := key.stored()[0].record()
	if err != nil {
		t.Fatal(err)
	}
	if err := key.state.commit(rec); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rec.Value, make([]byte, len(rec.Value))) {
		t.Error("a record is still there after it was written down")
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}

	j, live := mustOpen(t, cfg.Path)
	defer j.close()
	s := &state{aaguid: cfg.AAGUID, journal: j}
	if err := s.load(&cfg, live); err != nil {
		t.Fatal(err)
	}
	for key, value := range live {
		if !bytes.Equal(value, make([]byte, len(value))) {
			t.Errorf("a record of kind %d is still there after it was read", key.kind)
		}
	}
	if c, err := s.locate(cred.id, sha256.Sum256([]byte(testRPID))); err != nil || c == nil || string(c.user.id) != "ada" || len(s.master) == 0 || len(s.pin.Hash) == 0 {
		t.Error("something else was wiped as well")
	}
}
