package virtual

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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

// twins are two keys that are told the same: what one keeps in a file, the other
// has in memory. They are to be the same key.
type twins struct {
	*testing.T
	cfg          Config // of the one with the file
	memory, file *platform
	random       *rand.Rand
	signing      *signingKey
	ids          [][]byte // of all there ever were
}

const twinRPs = 7

func newTwins(t *testing.T, seed uint64) *twins {
	signing, err := newSigningKey(cose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	w := &twins{
		T: t, cfg: Config{Path: filepath.Join(t.TempDir(), "key"), Credentials: 1000},
		random: rand.New(rand.NewPCG(seed, 7)), signing: signing,
	}
	w.memory, w.file = newKey(t, Config{}), newKey(t, w.cfg)
	w.commit(w.memory, record{Kind: kindMaster, Value: bytes.Clone(w.file.state.master)})
	return w
}

func (w *twins) commit(key *platform, recs ...record) {
	w.Helper()
	if key.state.journal != nil {
		if _, ok := key.state.journal.file.(unsynced); !ok {
			key.state.journal.file = unsynced{key.state.journal.file}
		}
	}
	if err := key.state.commit(recs...); err != nil {
		w.Fatal(err)
	}
}

func (w *twins) rpID() string { return fmt.Sprintf("%d.example", w.random.IntN(twinRPs)) }

// id is that of a credential, now and then of one that was deleted, or never there.
func (w *twins) id() []byte {
	if n := w.random.IntN(len(w.ids) + 2); n < len(w.ids) {
		return w.ids[n]
	}
	return randomBytes(storedIDLength)
}

func (w *twins) find(key *platform, id []byte) *credential {
	w.Helper()
	c, err := key.state.find(id)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *twins) accounts(key *platform, rpID string) []*credential {
	w.Helper()
	accounts, err := key.state.accounts(sha256.Sum256([]byte(rpID)))
	if err != nil {
		w.Fatal(err)
	}
	return accounts
}

// store makes a credential, in place of that of the same account if there is one.
func (w *twins) store() {
	w.Helper()
	c := &credential{rpID: w.rpID(), user: user{id: []byte{byte(w.random.IntN(20))}}, discoverable: w.random.IntN(5) > 0, key: w.signing}
	c.rpIDHash = sha256.Sum256([]byte(c.rpID))
	if w.random.IntN(3) == 0 {
		c.largeBlob = new(storedLargeBlob)
	}
	var recs []record
	for _, old := range w.accounts(w.memory, c.rpID) {
		if c.discoverable && bytes.Equal(old.user.id, c.user.id) {
			recs = append(recs, record{Kind: kindCredential, Key: old.id})
		}
	}
	if ok, err := w.file.state.store(c, w.cfg.Credentials); err != nil || !ok {
		w.Fatal(ok, err)
	}
	rec, err := c.record()
	if err != nil {
		w.Fatal(err)
	}
	w.commit(w.memory, append(recs, rec)...)
	w.ids = append(w.ids, c.id)
}

// change renames a credential, writes its blob, or deletes it.
func (w *twins) change() {
	w.Helper()
	id, what := w.id(), w.random.IntN(3)
	name, blob := fmt.Sprint(w.random.IntN(1000)), make([]byte, w.random.IntN(3000))
	for _, key := range []*platform{w.memory, w.file} {
		c := w.find(key, id)
		switch {
		case c == nil:
		case what == 0:
			renamed := *c
			renamed.user.name = &name
			rec, err := renamed.record()
			if err != nil {
				w.Fatal(err)
			}
			w.commit(key, rec)
		case what == 1 && c.largeBlob != nil:
			if ok, err := key.state.storeLargeBlob(c, &storedLargeBlob{Written: true, Blob: blob}, 20_000); err != nil {
				w.Fatal(ok, err)
			}
		case what == 2:
			w.commit(key, record{Kind: kindCredential, Key: id})
		}
	}
}

// fail has a disk that fails in the middle of a change, which is then none.
func (w *twins) fail() {
	w.Helper()
	c := w.find(w.file, w.id())
	if c == nil {
		return
	}
	rec, err := c.record()
	if err != nil {
		w.Fatal(err)
	}
	bad := &faultyFile{journalFile: w.file.state.journal.file, write: w.random.IntN(100)}
	w.file.state.journal.file = bad
	err = w.file.state.commit(record{Kind: kindCredential, Key: c.id}, signCountRecord(w.file.state.signCount), rec)
	if w.file.state.journal.file == bad {
		if !errors.Is(err, errDisk) {
			w.Fatalf("commit = %v", err)
		}
		w.file.state.journal.file = bad.journalFile
	}
}

// reset makes them new, and one key again.
func (w *twins) reset() {
	w.Helper()
	for _, key := range []*platform{w.file, w.memory} {
		if err := key.state.reset(&key.cfg); err != nil {
			w.Fatal(err)
		}
	}
	w.commit(w.memory, record{Kind: kindMaster, Value: bytes.Clone(w.file.state.master)})
}

// reopen ends the process that has the file open, as one should or by a crash,
// and begins the next.
func (w *twins) reopen(crash bool) {
	w.Helper()
	if !crash {
		if err := w.file.Close(); err != nil {
			w.Fatal(err)
		}
	} else {
		data, err := os.ReadFile(w.cfg.Path)
		if err != nil {
			w.Fatal(err)
		}
		mustClose(w.T, w.file.state.journal)
		w.cfg.Path = filepath.Join(w.TempDir(), "copy")
		writeFile(w.T, w.cfg.Path, data)
	}
	w.file = newKey(w.T, w.cfg)
}

// sameCredentials expects the same credentials in the same order.
func (w *twins) sameCredentials(what any, got, want []*credential) {
	w.Helper()
	equal := func(a, b *credential) bool {
		if a == nil || b == nil {
			return a == b
		}
		one, err := a.record()
		other, otherErr := b.record()
		if err := errors.Join(err, otherErr); err != nil {
			w.Fatal(err)
		}
		return bytes.Equal(one.Key, other.Key) && bytes.Equal(one.Value, other.Value) && a.rpIDHash == b.rpIDHash
	}
	if !slices.EqualFunc(got, want, equal) {
		w.Fatalf("%v: %d credentials %v, want %d %v", what, len(got), got, len(want), want)
	}
}

func (w *twins) lookUp() {
	w.Helper()
	id, rpID := w.id(), w.rpID()
	w.sameCredentials("by ID", []*credential{w.find(w.file, id)}, []*credential{w.find(w.memory, id)})
	if w.random.IntN(2) == 0 {
		w.sameCredentials(rpID, w.accounts(w.file, rpID), w.accounts(w.memory, rpID))
	}
}

// expectSame compares what the keys know without a look at the credentials.
func (w *twins) expectSame() {
	w.Helper()
	got, want := w.file.state.kept.tally, w.memory.state.kept.tally
	// The number of one that was deleted may be given again.
	if got.Created > want.Created {
		w.Fatalf("credential %d is the newest, want %d", got.Created, want.Created)
	}
	got.Created = want.Created
	if got != want {
		w.Fatalf("tally %+v, want %+v", got, want)
	}
	if !bytes.Equal(w.file.state.listDigest(), w.memory.state.listDigest()) {
		w.Fatal("another digest of the list")
	}
}

// expectAll compares all that they keep.
func (w *twins) expectAll() {
	w.Helper()
	for _, id := range w.ids {
		w.sameCredentials("by ID", []*credential{w.find(w.file, id)}, []*credential{w.find(w.memory, id)})
	}
	for n := range twinRPs {
		rpID := fmt.Sprintf("%d.example", n)
		w.sameCredentials(rpID, w.accounts(w.file, rpID), w.accounts(w.memory, rpID))
	}
	got, err := w.file.state.discoverable()
	want, wantErr := w.memory.state.discoverable()
	if err := errors.Join(err, wantErr); err != nil {
		w.Fatal(err)
	}
	w.sameCredentials("discoverable", got, want)
	w.sameCredentials("stored", w.file.stored(), w.memory.stored())
	if last := w.file.stored(); len(last) > 0 && last[len(last)-1].created > w.file.state.kept.tally.Created {
		w.Fatal("a credential is newer than the newest")
	}
}

// Whatever was changed, in whatever order, and however the process ended: a key
// that has its credentials on a shelf is the one that has them in memory.
func TestStoreIsThatOfMemory(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, seed)
			shelved := 0
			for range 600 {
				switch n := w.random.IntN(100); {
				case n < 35:
					w.store()
				case n < 65:
					w.change()
				case n < 85:
					w.lookUp()
				case n < 89:
					w.file.state.journal.compact()
				case n < 91:
					w.file.state.journal.tidy()
				case n < 95:
					w.reopen(false)
				case n < 98:
					w.reopen(true)
				case n < 99:
					w.fail()
				default:
					w.expectAll()
				}
				if w.random.IntN(200) == 0 {
					w.reset()
				}
				w.expectSame()
				if !w.file.state.kept.whole {
					shelved++
				}
			}
			if shelved < 200 {
				t.Errorf("the shelf was in use for %d steps", shelved)
			}
			w.expectAll()
			w.reopen(false)
			w.expectAll()
			w.expectSame()
		})
	}
}

// stockedFile makes a file with n credentials on its shelf, and returns what New
// opens it with.
func stockedFile(t *testing.T, n int) Config {
	t.Helper()
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), Credentials: 20_000}
	key := newKey(t, cfg)
	key.stock(n, "")
	key.state.journal.compact()
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// New does not read the shelf, let alone keep it: it opens a file in which there
// is something else instead, and takes no more memory with many credentials than
// with few.
func TestNewReadsNoShelf(t *testing.T) {
	taken := func(cfg Config) uint64 {
		var before, after runtime.MemStats
		least := uint64(1 << 62)
		for range 3 { // others may take some, too
			runtime.ReadMemStats(&before)
			key := newKey(t, cfg)
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
			if err := key.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return least
	}
	few, many := taken(stockedFile(t, 10)), stockedFile(t, 10_000)
	if n := taken(many); n > few+32<<10 {
		t.Errorf("New takes %d bytes with 10,000 credentials, %d with 10", n, few)
	}

	data, err := os.ReadFile(many.Path)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, many)
	start := key.state.journal.shelf.start
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	if int64(len(data))-start > 16<<10 {
		t.Errorf("%d bytes are behind the shelf", int64(len(data))-start)
	}
	clear(data[journalHeader:start])
	writeFile(t, many.Path, data)
	key = newKey(t, many)
	key.make()
	if n := key.state.kept.tally.Discoverable; n != 10_000 {
		t.Errorf("%d credentials", n)
	}
}

// Whoever asks for relying parties that have no accounts, and for credentials that
// there are none of, leaves nothing in memory.
func TestStoreForgetsStrangers(t *testing.T) {
	key := newKey(t, stockedFile(t, 500))
	held := func() [3]int {
		return [3]int{len(key.state.kept.byID), len(key.state.kept.byRP), len(key.state.kept.known)}
	}
	before := held()
	for i := range 300 {
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(params{1: fmt.Sprintf("%d.invalid", i)}))
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(randomBytes(storedIDLength), randomBytes(60))))
	}
	for range 2 { // and an account that comes and goes
		gone := key.make(residentKey())
		key.assert(gone)
		if err := key.state.commit(record{Kind: kindCredential, Key: gone.id}); err != nil {
			t.Fatal(err)
		}
	}
	if after := held(); key.state.kept.whole || after != before {
		t.Errorf("%v credentials, relying parties and known ones after %v", after, before)
	}
}

// unreadable is a disk that can be written to and not read.
type unreadable struct{ journalFile }

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// What has been asked for once is in memory: it is not read again, and serves even
// if it could not be.
func TestStoreReadsOnce(t *testing.T) {
	cfg := stockedFile(t, 500)
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key := &platform{t, a}
	of := func(rpID string) params { return assertRequest(params{1: rpID}) }
	key.ok(ctap.CmdGetAssertion, of("17.example"))
	key.state.journal.file = unreadable{key.state.journal.file}
	key.ok(ctap.CmdGetAssertion, of("17.example"))
	key.ok(ctap.CmdGetAssertion, merge(of("17.example"), []params{allow(key.state.kept.byRP[sha256.Sum256([]byte("17.example"))][0].id)}))
	key.refused(ctap.StatusOther, ctap.CmdGetAssertion, of("18.example"))
	if _, err := key.state.discoverable(); !errors.Is(err, errDisk) {
		t.Errorf("discoverable = %v", err)
	}
	key.state.journal.file = key.state.journal.file.(unreadable).journalFile
	key.stored() // reads all
	key.state.journal.file = unreadable{key.state.journal.file}
	key.ok(ctap.CmdGetAssertion, of("18.example"))
	if all, err := key.state.discoverable(); err != nil || len(all) != 500 {
		t.Errorf("%d are discoverable, %v", len(all), err)
	}
	if err := key.Close(); !errors.Is(err, errDisk) {
		t.Errorf("Close = %v", err)
	}
}

// An ID that begins like the hash of a relying party makes no account of it, nor
// two of one.
func TestStoreNamesAlike(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key")}
	key := newKey(t, cfg)
	signing, err := newSigningKey(cose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("a.example"))
	for i, c := range []credential{{rpID: "a.example", discoverable: true}, {rpID: "a.example"}, {rpID: "b.example", discoverable: true}} {
		c.id, c.user.id, c.created, c.key = append(hash[:storedIDLength-1:storedIDLength-1], byte(i)), []byte{1}, uint64(i+1), signing
		rec, err := c.record()
		if err != nil {
			t.Fatal(err)
		}
		if err := key.state.commit(rec); err != nil {
			t.Fatal(err)
		}
	}
	key.state.journal.compact()
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	if c, err := key.state.find(hash[:storedIDLength]); err != nil || c != nil {
		t.Errorf("the hash is the ID of %v, %v", c, err)
	}
	accounts, err := key.state.accounts(hash)
	if err != nil || len(accounts) != 1 || accounts[0].created != 1 {
		t.Errorf("accounts %v, %v", accounts, err)
	}
	if n := len(key.stored()); n != 3 {
		t.Errorf("%d credentials", n)
	}
}

// A file with credentials of before there were shelves is that of the same key.
func TestStoreOfVersionOne(t *testing.T) {
	cfg := stockedFile(t, 10_000)
	j, _ := mustOpen(t, cfg.Path)
	records := mustReread(t, j)
	mustClose(t, j)
	writeFile(t, cfg.Path, versionOne(records))
	var digest []byte
	for _, shelved := range []bool{false, true} {
		key := newKey(t, cfg)
		if key.state.kept.whole == shelved || key.state.kept.tally.Stored != 10_000 {
			t.Fatalf("%d credentials, all in memory: %v", key.state.kept.tally.Stored, key.state.kept.whole)
		}
		if digest != nil && !bytes.Equal(digest, key.state.listDigest()) {
			t.Error("another digest of the list")
		}
		digest = bytes.Clone(key.state.listDigest())
		key.ok(ctap.CmdGetAssertion, assertRequest(params{1: "1234.example"}))
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// damagedFile returns a file that has two accounts of each of three relying
// parties, one of "b.example" damaged, and its credentials' IDs.
func damagedFile(t *testing.T) (cfg Config, ids map[string][][]byte) {
	t.Helper()
	cfg = Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, ResetWindow: -1}
	key := newKey(t, cfg)
	ids = make(map[string][][]byte)
	signing, err := newSigningKey(cose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	for _, rpID := range []string{"a.example", "b.example", "c.example"} {
		for i := range 2 {
			c := &credential{rpID: rpID, rpIDHash: sha256.Sum256([]byte(rpID)), user: user{id: []byte{byte(i)}}, discoverable: true, key: signing}
			if ok, err := key.state.store(c, 10); err != nil || !ok {
				t.Fatal(ok, err)
			}
			ids[rpID] = append(ids[rpID], c.id)
		}
	}
	key.state.journal.compact()
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, ids["b.example"][0])
	at += bytes.Index(data[at:], []byte("b.example"))
	data[at] ^= 1
	writeFile(t, cfg.Path, data)
	return cfg, ids
}

// A credential that is damaged is one that nobody signs in with. The commands that
// need it fail, the others do not; and nothing makes it worse.
func TestStoreDamaged(t *testing.T) {
	cfg, ids := damagedFile(t)
	before, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is the same in the next process
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		key := &platform{t, a}
		token := func(rpID string, command byte, permission uint64) params {
			return withToken(command, pin.Two, key.token(pin.Two, permission, rpID))
		}
		of := func(rpID string) params { return params{1: rpID} }
		key.ok(ctap.CmdGetInfo, nil)
		for _, rpID := range []string{"a.example", "c.example"} {
			key.ok(ctap.CmdGetAssertion, assertRequest(of(rpID)))
			key.ok(ctap.CmdGetNextAssertion, nil)
			key.ok(ctap.CmdGetAssertion, assertRequest(of(rpID), allow(ids[rpID]...)))
		}
		good, bad := ids["b.example"][1], ids["b.example"][0]
		key.ok(ctap.CmdGetAssertion, assertRequest(of("b.example"), allow(good)))
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(of("d.example")))

		key.refused(ctap.StatusOther, ctap.CmdGetAssertion, assertRequest(of("b.example")))
		key.refused(ctap.StatusOther, ctap.CmdGetAssertion, assertRequest(of("b.example"), allow(bad)))
		rp := params{2: names{"id": "b.example", "name": "b"}}
		key.refused(ctap.StatusOther, ctap.CmdMakeCredential, makeRequest(rp, exclude(bad), token("b.example", ctap.CmdMakeCredential, permMC)))
		key.refused(ctap.StatusOther, ctap.CmdMakeCredential, makeRequest(rp, residentKey(), token("b.example", ctap.CmdMakeCredential, permMC)))
		m := key.manager(pin.Two, permCM, "")
		if n := value[int](t, m.do(getMetadata, nil), managedExisting); n != 6 {
			t.Errorf("%d credentials", n)
		}
		m.fails(ctap.StatusOther, rpsBegin, nil)
		m.fails(ctap.StatusOther, credsBegin, rpIDHash("b.example"))
		m.fails(ctap.StatusOther, deleteCred, credentialID(bad))
		m.fails(ctap.StatusOther, updateUser, withUser(bad, names{"id": []byte{0}, "name": "?"}))
		if n := len(m.credentials("a.example")); n != 2 {
			t.Errorf("%d credentials of another", n)
		}
		// Nobody else is kept from being made, or deleted.
		fresh := key.make(residentKey(), token(testRPID, ctap.CmdMakeCredential, permMC))
		m = key.manager(pin.Two, permCM, "")
		m.do(deleteCred, credentialID(fresh.id))

		key.state.journal.compact()
		if err := key.Close(); !errors.Is(err, errJournalDamaged) {
			t.Errorf("Close = %v", err)
		}
		if after, err := os.ReadFile(cfg.Path); err != nil || !bytes.HasPrefix(after, before) {
			t.Error("what was in the file is there no more", err)
		}
	}
}

// Where the index is damaged, what is new, and so not in it, is stored and found
// all the same.
func TestStoreDamagedIndex(t *testing.T) {
	cfg := stockedFile(t, 10)
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, pageKey)+len(pageKey)+10] ^= 1
	writeFile(t, cfg.Path, data)
	signing, err := newSigningKey(cose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, cfg)
	for range 50 {
		ok, err := key.state.store(&credential{rpID: testRPID, user: user{id: []byte{1}}, key: signing}, 1000)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	// Close would have compacted the file, and so has seen the damage.
	if err := key.Close(); !errors.Is(err, errJournalDamaged) {
		t.Errorf("Close = %v", err)
	}
	key = newKey(t, cfg)
	if n := key.state.kept.tally.Stored; n != 60 {
		t.Errorf("%d credentials, want 60", n)
	}
	if len(key.state.kept.byID) != 50 {
		t.Errorf("%d in memory, want 50", len(key.state.kept.byID))
	}
	if err := key.Close(); !errors.Is(err, errJournalDamaged) {
		t.Errorf("Close = %v", err)
	}
}

// What a file says of its credentials is no reason to take more memory than it has.
func TestStoreTallyOfStranger(t *testing.T) {
	for _, tally := range []tally{{Discoverable: math.MaxInt, Stored: math.MaxInt}, {Discoverable: -1, Stored: -1}} {
		cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
		key := newKey(t, cfg)
		key.stock(10, "")
		key.state.journal.many.note = func() ([]byte, error) { return cbor.Marshal(tally) }
		key.state.journal.compact()
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		a, err := New(cfg)
		if err != nil {
			continue // that is fair
		}
		key = &platform{t, a}
		if n := len(key.manager(pin.Two, permCM, "").relyingParties()); n != 10 {
			t.Errorf("%d relying parties", n)
		}
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A key that becomes too large for a shelf while it is in use still has what was
// on it.
func TestStoreOutgrown(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), Credentials: 1000}
	key := newKey(t, cfg)
	name := strings.Repeat("x", 60_000)
	key.stock(80, name)
	want := key.stored()
	key.state.journal.compact()
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	key.stock(20, name)
	for range 60 {
		c, err := key.state.find(want[0].id)
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		rec, err := c.record()
		if err != nil {
			t.Fatal(err)
		}
		if err := key.state.commit(rec); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(key.state.journal.shelf.pages); n > 0 {
		t.Fatalf("there still is a shelf, of %d pages", n)
	}
	if c := key.locate(want[50].id, want[50].rpIDHash); c == nil || !bytes.Equal(c.id, want[50].id) {
		t.Error("a credential that was on the shelf is not found")
	}
	accounts, err := key.state.accounts(want[60].rpIDHash)
	if err != nil || len(accounts) == 0 || !bytes.Equal(accounts[0].id, want[60].id) {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	if key = newKey(t, cfg); len(key.stored()) != 100 {
		t.Errorf("%d credentials in the next process", len(key.stored()))
	}
}
