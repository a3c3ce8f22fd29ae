package virtual

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type journalState = map[recordKey][]byte

func mustOpen(t *testing.T, path string) (*journal, journalState) {
	t.Helper()
	j, state, err := openJournal(path, shelving{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j, state
}

func mustPut(t *testing.T, j *journal, records ...record) {
	t.Helper()
	if err := j.put(records...); err != nil {
		t.Fatal(err)
	}
}

// unsynced saves tests the time of a sync that nobody needs: they end without a
// power cut.
type unsynced struct{ journalFile }

func (unsynced) Sync() error { return nil }

func mustPutUnsynced(t *testing.T, j *journal, records ...record) {
	t.Helper()
	if _, ok := j.file.(unsynced); !ok { // a compaction made a new one
		j.file = unsynced{j.file}
	}
	mustPut(t, j, records...)
}

func mustClose(t *testing.T, j *journal) {
	t.Helper()
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}

// change does to a state what put is to do to a journal.
func change(state journalState, records ...record) journalState {
	state = maps.Clone(state)
	for _, r := range records {
		key := recordKey{r.Kind, string(r.Key)}
		if r.Value == nil {
			delete(state, key)
		} else {
			state[key] = bytes.Clone(r.Value)
		}
	}
	return state
}

func equalStates(a, b journalState) bool {
	return maps.EqualFunc(a, b, func(a, b []byte) bool { return bytes.Equal(a, b) && a != nil && b != nil })
}

func expectState(t *testing.T, got, want journalState) {
	t.Helper()
	if !equalStates(got, want) {
		t.Fatalf("state %v, want %v", got, want)
	}
}

func counter32(n int) record {
	return record{Kind: 1, Key: []byte("signatures"), Value: binary.BigEndian.AppendUint32(nil, uint32(n))}
}

// batches are what sampleJournal puts.
var batches = [][]record{
	{{1, []byte("a"), []byte("one")}, {2, []byte("a"), []byte("another kind")}, {1, nil, []byte("no key")}},
	{{1, []byte("empty"), []byte{}}},
	{counter32(1)},
	{{1, []byte("a"), nil}, {1, []byte("b"), bytes.Repeat([]byte{0}, 130)}},
	{{1, []byte("b"), []byte("first")}, {1, []byte("b"), []byte("then")}, {1, []byte("never there"), nil}},
	{counter32(2)},
}

// sampleJournal returns the contents of a journal that got batches, where each
// of them ends, and the state after each, with the state before all in front.
func sampleJournal(t *testing.T) (data []byte, ends []int, states []journalState) {
	path := filepath.Join(t.TempDir(), "key")
	j, state := mustOpen(t, path)
	ends, states = []int{int(j.size)}, []journalState{state}
	for _, records := range batches {
		mustPut(t, j, records...)
		state = change(state, records...)
		ends, states = append(ends, int(j.size)), append(states, state)
	}
	mustClose(t, j)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if ends[len(ends)-1] != len(data) {
		t.Fatalf("%d bytes, but batches end at %v", len(data), ends)
	}
	return data, ends, states
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJournalReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, state := mustOpen(t, path)
	expectState(t, state, journalState{})
	mustPut(t, j)
	want := state
	for _, records := range batches {
		mustPut(t, j, records...)
		want = change(want, records...)
		mustClose(t, j)
		j, state = mustOpen(t, path)
		expectState(t, state, want)
		for _, value := range state { // it is the caller's
			clear(value)
		}
	}
	if v, ok := want[recordKey{1, "empty"}]; !ok || v == nil {
		t.Error("the sample has no empty value")
	}
}

// A crash in the middle of an append leaves a part of it, or the right length
// and nothing written, or some blocks of it. All before it must be there, and
// what comes next must fit on.
func TestJournalCutShort(t *testing.T) {
	data, ends, states := sampleJournal(t)
	path := filepath.Join(t.TempDir(), "key")
	try := func(data []byte, want journalState) {
		t.Helper()
		writeFile(t, path, data)
		j, state, err := openJournal(path, shelving{})
		if err != nil {
			t.Fatal(err)
		}
		expectState(t, state, want)
		if fileSize(t, path) != j.size {
			t.Fatal("not cut off")
		}
		mustPutUnsynced(t, j, counter32(99))
		mustClose(t, j)
		j, state = mustOpen(t, path)
		expectState(t, state, change(want, counter32(99)))
		mustClose(t, j)
	}
	for n := range len(data) + 1 {
		whole := 0 // batches
		for whole+1 < len(ends) && ends[whole+1] <= n {
			whole++
		}
		try(data[:n], states[whole])
	}
	for i := 1; i < len(ends); i++ {
		begin, end := ends[i-1], ends[i]
		for hole := begin; hole < end; hole += 5 {
			torn := bytes.Clone(data[:end])
			clear(torn[hole:])
			if !bytes.Equal(torn, data[:end]) {
				try(torn, states[i-1])
			}
			torn = bytes.Clone(data[:end])
			clear(torn[begin : hole+1])
			if !bytes.Equal(torn, data[:end]) {
				try(torn, states[i-1])
			}
		}
	}
}

// A flipped bit is an error that says where, but in the last batch, where it
// looks like a crash.
func TestJournalDamaged(t *testing.T) {
	data, ends, states := sampleJournal(t)
	path := filepath.Join(t.TempDir(), "key")
	for i := range data {
		for _, bit := range []int{0, 7} {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1 << bit
			writeFile(t, path, damaged)
			j, state, err := openJournal(path, shelving{})
			if err == nil {
				mustClose(t, j)
			}
			last := len(ends) - 1
			switch {
			case i >= ends[last-1]:
				if err != nil {
					t.Fatalf("bit %d of byte %d, in the last batch: %v", bit, i, err)
				}
				expectState(t, state, states[last-1])
			case err == nil:
				t.Fatalf("bit %d of byte %d: no error", bit, i)
			default:
				if i == len(journalMagic) { // the version
					continue
				}
				where := 0
				for _, end := range ends {
					if end <= i {
						where = end
					}
				}
				if !errors.Is(err, errJournalDamaged) || !strings.HasSuffix(err.Error(), fmt.Sprintf("offset %d", where)) {
					t.Fatalf("bit %d of byte %d, in what begins at %d: %v", bit, i, where, err)
				}
				if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
					t.Fatal("the damaged file was changed", err)
				}
			}
		}
	}
}

// What a compaction has written was on disk before it counted: none of it is
// taken for an append that was cut short, whatever is behind.
func TestJournalDamagedCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	mustPut(t, j, batches[0]...)
	j.compact()
	mustClose(t, j)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1
		writeFile(t, path, damaged)
		if _, _, err := openJournal(path, shelving{}); err == nil || i != len(journalMagic) && !errors.Is(err, errJournalDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		writeFile(t, path, data[:i])
		if j, _, err := openJournal(path, shelving{}); i < journalHeader {
			mustClose(t, j) // of a file without a header nobody knows
		} else if !errors.Is(err, errJournalDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// More than an append can leave is not taken for one that was cut short.
func TestJournalMuchDamaged(t *testing.T) {
	data, ends, states := sampleJournal(t)
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, append(bytes.Clone(data), make([]byte, batchHeader+maxBatch)...))
	j, state, err := openJournal(path, shelving{})
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, state, states[len(states)-1])
	if int(j.size) != ends[len(ends)-1] {
		t.Errorf("size %d", j.size)
	}
	mustClose(t, j)
	writeFile(t, path, append(bytes.Clone(data), make([]byte, batchHeader+maxBatch+1)...))
	if _, _, err := openJournal(path, shelving{}); !errors.Is(err, errJournalDamaged) {
		t.Errorf("openJournal = %v", err)
	}
}

func TestJournalForeignFiles(t *testing.T) {
	folder := t.TempDir()
	data, _, _ := sampleJournal(t)
	newer := bytes.Clone(data)
	newer[len(journalMagic)]++
	for name, content := range map[string][]byte{
		"text":       []byte("hello, world: this is no journal"),
		"short text": []byte("hello"),
		"newer":      newer,
		"odd batch":  handmade([]byte{1, 5, 'a'}),
		"odd key":    handmade([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}),
		"odd value":  handmade([]byte{1, 1, 'a', 5, 'b'}),
		"no value":   handmade([]byte{1, 1, 'a'}),
		"no length":  handmade([]byte{1, 0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder, name)
			writeFile(t, path, content)
			if j, _, err := openJournal(path, shelving{}); err == nil {
				j.close()
				t.Fatal("no error")
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Error("the file was changed", err)
			}
		})
	}
	t.Run("folder", func(t *testing.T) {
		if _, _, err := openJournal(folder, shelving{}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no folder", func(t *testing.T) {
		if _, _, err := openJournal(filepath.Join(folder, "none", "key"), shelving{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("openJournal = %v", err)
		}
	})
	t.Run("huge", func(t *testing.T) {
		path := filepath.Join(folder, "huge")
		writeFile(t, path, data)
		if err := os.Truncate(path, maxJournal+1); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openJournal(path, shelving{}); !errors.Is(err, errJournalDamaged) {
			t.Errorf("openJournal = %v", err)
		}
	})
}

// handmade returns a journal of one batch with any payload, sealed as put seals
// its own.
func handmade(payload []byte) []byte {
	j := &journal{salt: [journalSaltLength]byte{1, 2, 3}}
	data := append([]byte(journalMagic), journalVersion)
	data = append(data, j.salt[:]...)
	for range 2 { // start and end
		data = binary.BigEndian.AppendUint32(data, uint32(journalHeader))
	}
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	length := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	data = append(data, length...)
	data = binary.BigEndian.AppendUint32(data, j.checksum(length, payload))
	return append(data, payload...)
}

// A value that is itself a batch must not pass for one when the batch that
// holds it is cut short.
func TestJournalValueThatLooksLikeABatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	stranger, _ := mustOpen(t, filepath.Join(t.TempDir(), "other"))
	value := stranger.encode([]record{{1, []byte("pin"), []byte("off")}})
	j, _ := mustOpen(t, path)
	mustPut(t, j, counter32(1))
	want := int64(j.size)
	mustPut(t, j, record{2, []byte("blob"), bytes.Repeat(value, 10)})
	mustClose(t, j)
	if err := os.Truncate(path, j.size-1); err != nil {
		t.Fatal(err)
	}
	j, state := mustOpen(t, path)
	expectState(t, state, change(journalState{}, counter32(1)))
	if j.size != want {
		t.Errorf("size %d, want %d", j.size, want)
	}
}

func TestJournalAppendIsSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	defer j.close()
	mustPut(t, j, record{2, []byte("credential"), make([]byte, 10<<10)}, counter32(0))
	before := fileSize(t, path)
	for n := 1; n <= 10; n++ {
		mustPut(t, j, counter32(n))
		if grown := fileSize(t, path) - before; grown > 32*int64(n) {
			t.Fatalf("%d bytes for %d counters", grown, n)
		}
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestJournalCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, want := mustOpen(t, path)
	random := rand.New(rand.NewPCG(1, 2))
	compactions := 0
	for n := range 1000 {
		records := []record{counter32(n)}
		if key := []byte{byte(random.IntN(40))}; random.IntN(4) == 0 {
			records = append(records, record{3, key, nil})
		} else {
			records = append(records, record{3, key, make([]byte, random.IntN(5000))})
		}
		before := fileSize(t, path)
		mustPutUnsynced(t, j, records...)
		want = change(want, records...)
		after := fileSize(t, path)
		if after != j.size {
			t.Fatalf("size %d, but the file has %d", j.size, after)
		}
		var live int64
		for key, value := range want {
			live += int64(len(appendRecord(nil, record{key.kind, []byte(key.key), value})))
		}
		if live != j.live {
			t.Fatalf("live %d, want %d", j.live, live)
		}
		if dead := after - live; dead > max(live, compactionFloor)+5000+100 { // and what is put behind it
			t.Fatalf("%d bytes live and %d dead", live, dead)
		}
		if after < before {
			compactions++
			// Nothing else is left, and the copy is good.
			mustClose(t, j)
			var state journalState
			j, state = mustOpen(t, path)
			expectState(t, state, want)
		}
	}
	if compactions < 5 {
		t.Errorf("%d compactions", compactions)
	}
	if names, err := filepath.Glob(path + "*"); err != nil || len(names) > 2 { // with the lock
		t.Errorf("files %v, %v", names, err)
	}
	// What was deleted is gone from the file, not merely from the state.
	secret := []byte("-the private key-")
	mustPut(t, j, record{2, []byte("c"), secret})
	mustPut(t, j, record{2, []byte("c"), nil})
	if err := j.rewrite(mustReread(t, j)); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || bytes.Contains(data, secret) {
		t.Error("a deleted value outlives a compaction", err)
	}
}

func mustReread(t *testing.T, j *journal) journalState {
	t.Helper()
	records, err := j.reread()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// A crash in a compaction leaves the old file, and the new one, whole or not,
// beside it; or the new one in the old one's place.
func TestJournalCrashInCompaction(t *testing.T) {
	data, _, states := sampleJournal(t)
	want := states[len(states)-1]
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, data)
	j, state := mustOpen(t, path)
	if _, err := j.writeNew(state); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	compacted, err := os.ReadFile(j.newPath())
	if err != nil {
		t.Fatal(err)
	}
	if len(compacted) >= len(data) {
		t.Fatal("the sample has nothing to compact")
	}
	for n := 0; n <= len(compacted); n += 5 {
		writeFile(t, path, data)
		writeFile(t, j.newPath(), compacted[:n])
		j, state := mustOpen(t, path)
		expectState(t, state, want)
		if _, err := os.Stat(j.newPath()); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("left behind: %v", err)
		}
		mustClose(t, j)
	}
	writeFile(t, path, compacted)
	_, state = mustOpen(t, path)
	expectState(t, state, want)
}

// A compaction that fails costs space, not data.
func TestJournalCompactionFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	value := record{2, []byte("blob"), make([]byte, 20<<10)}
	obstacle := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(name, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	obstacle(j.newPath())
	for range 20 {
		mustPut(t, j, value)
	}
	if fileSize(t, path) < 400<<10 {
		t.Fatal("compacted all the same")
	}
	if j.floor <= compactionFloor {
		t.Error("it would try again each time")
	}
	if err := os.RemoveAll(j.newPath()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mustPut(t, j, value)
	}
	if fileSize(t, path) > 200<<10 {
		t.Error("never compacted")
	}
	mustClose(t, j)
	j, state := mustOpen(t, path)
	expectState(t, state, change(journalState{}, value))
	mustClose(t, j)

	// Where even opening is in the way of what lies there.
	obstacle(j.newPath())
	if _, _, err := openJournal(path, shelving{}); err == nil {
		t.Error("opened")
	}
}

// The file is damaged or replaced while it is open: no compaction makes that
// worse, and where the file cannot be opened again, put says so.
func TestJournalFileDisturbed(t *testing.T) {
	folder := t.TempDir()
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(folder, "damaged")
		j, _ := mustOpen(t, path)
		mustPut(t, j, counter32(1))
		mustPut(t, j, counter32(2))
		j.file.WriteAt([]byte{0xff}, int64(journalHeader+batchHeader))
		before := fileSize(t, path)
		j.compact()
		if fileSize(t, path) != before {
			t.Error("compacted")
		}
		mustPut(t, j, counter32(3))
		if err := os.Truncate(path, before-1); err != nil {
			t.Fatal(err)
		}
		j.compact()
		if fileSize(t, path) != before-1 {
			t.Error("compacted")
		}
	})
	t.Run("in the way", func(t *testing.T) {
		path := filepath.Join(folder, "renamed")
		j, _ := mustOpen(t, path)
		mustPut(t, j, counter32(1))
		records := mustReread(t, j)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := j.rewrite(records); err == nil {
			t.Error("renamed over a folder")
		}
		if err := j.put(counter32(2)); err == nil {
			t.Error("put into nothing")
		}
	})
}

func TestJournalFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	big := record{1, []byte("k"), make([]byte, maxBatch)}
	for recordSize(big) > maxBatch {
		big.Value = big.Value[1:]
	}
	mustPut(t, j, big)
	before := fileSize(t, path)
	tooBig := record{1, []byte("k"), append(big.Value, 0)}
	if err := j.put(tooBig); !errors.Is(err, errJournalFull) {
		t.Errorf("put of too much = %v", err)
	}
	if fileSize(t, path) != before {
		t.Error("something was written")
	}

	// All is live: compaction would make no room, and is not tried.
	j.file = unsynced{j.file}
	for n := 0; ; n++ {
		err := j.put(record{2, []byte{byte(n)}, big.Value})
		if errors.Is(err, errJournalFull) {
			break
		}
		if err != nil || n > maxJournal/maxBatch {
			t.Fatal(n, err)
		}
	}
	if fileSize(t, path) > maxJournal {
		t.Errorf("%d bytes", fileSize(t, path))
	}
	if _, ok := j.file.(unsynced); !ok {
		t.Error("the file was rewritten, and is no shorter")
	}
	mustPut(t, j, record{2, []byte{0}, nil})
	// Now it does.
	mustPut(t, j, record{2, []byte("new"), big.Value[:maxBatch-32]})
	mustClose(t, j)
	_, state := mustOpen(t, path)
	if _, ok := state[recordKey{2, "new"}]; !ok || len(state) < 12 {
		t.Errorf("%d records", len(state))
	}
}

// A faultyFile is a disk with problems.
type faultyFile struct {
	journalFile
	write    int // how many bytes of a write reach the disk; -1 for all
	sync     error
	truncate error
}

var errDisk = errors.New("disk")

func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	if f.write < 0 {
		return f.journalFile.WriteAt(p, at)
	}
	n, _ := f.journalFile.WriteAt(p[:min(f.write, len(p))], at)
	return n, errDisk
}

func (f *faultyFile) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.journalFile.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.journalFile.Truncate(size)
}

func TestJournalPutFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		file   faultyFile
		usable bool // afterwards
	}{
		{"nothing written", faultyFile{write: 0}, true},
		{"some written", faultyFile{write: 10}, true},
		{"all written", faultyFile{write: 1000}, true},
		{"some written, and no way back", faultyFile{write: 10, truncate: errDisk}, false},
		{"not synced", faultyFile{write: -1, sync: errDisk}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			j, _ := mustOpen(t, path)
			mustPut(t, j, counter32(1))
			good := j.file
			test.file.journalFile = good
			j.file = &test.file
			if err := j.put(counter32(2), record{2, []byte("k"), make([]byte, 100)}); !errors.Is(err, errDisk) {
				t.Fatalf("put = %v", err)
			}
			j.file = good
			err := j.put(record{3, []byte("later"), []byte("yes")})
			if (err == nil) != test.usable {
				t.Fatalf("put afterwards = %v", err)
			}
			if err != nil && !errors.Is(err, errDisk) {
				t.Errorf("put afterwards = %v: not why", err)
			}
			mustClose(t, j)
			_, state := mustOpen(t, path)
			want := change(journalState{}, counter32(1))
			if test.usable {
				want = change(want, record{3, []byte("later"), []byte("yes")})
			} else if all := change(want, counter32(2), record{2, []byte("k"), make([]byte, 100)}); equalStates(state, all) {
				want = all // nobody knew; but it is all or nothing
			}
			expectState(t, state, want)
		})
	}
}

func TestJournalClosed(t *testing.T) {
	j, _ := mustOpen(t, filepath.Join(t.TempDir(), "key"))
	mustClose(t, j)
	mustClose(t, j)
	if err := j.put(counter32(1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("put = %v", err)
	}
}

func TestJournalLocked(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no lock here")
	}
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	mustPut(t, j, counter32(1))
	if err := j.rewrite(mustReread(t, j)); err != nil { // the lock outlives a compaction
		t.Fatal(err)
	}
	if _, _, err := openJournal(path, shelving{}); !errors.Is(err, ErrInUse) {
		t.Errorf("openJournal = %v", err)
	}
	mustClose(t, j)
	_, state := mustOpen(t, path)
	expectState(t, state, change(journalState{}, counter32(1)))
}

func TestJournalFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes here")
	}
	path := filepath.Join(t.TempDir(), "key")
	j, _ := mustOpen(t, path)
	check := func() {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	check()
	if err := j.rewrite(mustReread(t, j)); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestJournalBehindLink(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "key"), filepath.Join(folder, "link")
	first, _ := mustOpen(t, path)
	mustClose(t, first)
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	j, _ := mustOpen(t, link)
	mustPut(t, j, counter32(1))
	if err := j.rewrite(mustReread(t, j)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	_, state := mustOpen(t, path)
	expectState(t, state, change(journalState{}, counter32(1)))
}

func FuzzJournal(f *testing.F) {
	good := handmade([]byte{1, 1, 'a', 2, 'b', 1, 1, 'c', 0})
	f.Add(good[:journalHeader+5], uint8(0), uint16(0))
	f.Add(append(bytes.Clone(good), good[journalHeader:]...), uint8(0), uint16(1))
	f.Add(append(bytes.Clone(good), 0, 0, 0, 9, 1), uint8(0), uint16(2))
	f.Add(good[journalHeader:], uint8(1), uint16(3))
	f.Add([]byte{1, 1, 'a', 3, 'b', 'c', 2, 0, 0}, uint8(2), uint16(4))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint8(2), uint16(5))
	f.Add([]byte{5, 1, 'a', 4, 'b', '|', 'c', 5, 1, 'b', 2, '|', 5, 0, 1, 5, 1, 'd', 0, 5, 1, 'd', 2, '!'}, uint8(2), uint16(100))
	f.Add([]byte{5, 1, 'a', 4, 'b', '|', 'c', 5, 1, 'b', 4, 'b', '|', 'd'}, uint8(2), uint16(60))
	f.Add([]byte{0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5, 1, 'a', 0}, uint8(2), uint16(6))
	f.Add(make([]byte, 2*entryLength), uint8(3), uint16(7))
	f.Add([]byte("a name..\x00\x00\x00\x1c\x00\x00\x00\x20crc."), uint8(3), uint16(8))
	f.Fuzz(func(t *testing.T, data []byte, sealed uint8, at uint16) {
		names := [][]byte{nil}
		switch sealed {
		case 1: // a good header, and then that
			data = append(handmade(nil)[:journalHeader], data...)
		case 2: // a good batch of that
			data = handmade(data)
		case 3: // a shelf whose index is that
			for name := range slices.Chunk(data, entryLength) {
				names = append(names, name[:min(len(name), 8)])
			}
			data = hostileShelf(nil, data)
		}
		path := filepath.Join(t.TempDir(), "key")
		writeFile(t, path, data)
		j, state, err := openJournal(path, testShelving())
		if err != nil {
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
				t.Fatal("refused, and changed all the same", err)
			}
			return
		}
		defer func() { j.close() }()
		held := 0
		for key, value := range state {
			held += len(key.key) + len(value)
			names = append(names, []byte(key.key))
			if value == nil { // on the shelf, and deleted
				delete(state, key)
			}
		}
		if held > len(data) {
			t.Fatalf("%d bytes out of %d", held, len(data))
		}
		for _, name := range names {
			found, err := j.lookup(name)
			held := 0
			for _, r := range found {
				held += recordSize(r)
				if !bytes.Contains(data, appendRecord(nil, r)) {
					t.Fatalf("%q finds %v, which is not in the file", name, r)
				}
			}
			if held > len(data) || err != nil && !errors.Is(err, errJournalDamaged) {
				t.Fatalf("%q finds %d bytes out of %d, %v", name, held, len(data), err)
			}
		}
		mustPut(t, j, counter32(1))
		want := change(state, counter32(1))
		// find looks for all that is, and is on the shelf, by key and by group.
		find := func(j *journal) (missing, err error) {
			for key, value := range want {
				if key.kind != j.many.kind || len(j.shelf.pages) == 0 || j.superseded([]byte(key.key)) {
					continue
				}
				names := [][]byte{[]byte(key.key)}
				if group, _ := j.many.group(value); group != nil {
					names = append(names, group)
				}
				for _, name := range names {
					found, lookupErr := j.lookup(name)
					err = errors.Join(err, lookupErr)
					if lookupErr == nil && !slices.ContainsFunc(found, func(r record) bool { return string(r.Key) == key.key && bytes.Equal(r.Value, value) }) {
						missing = fmt.Errorf("%q is not found by %q", key.key, name)
					}
				}
			}
			return missing, err
		}
		all, err := j.reread()
		if err == nil {
			expectState(t, all, want)
			err = j.rewrite(all)
		}
		if errors.Is(err, errNoGroup) {
			return // and so no shelf
		}
		if err != nil {
			t.Fatal(err)
		}
		expectShelf := func() {
			t.Helper()
			if missing, err := find(j); missing != nil || err != nil {
				t.Fatal(missing, err)
			}
			expectState(t, mustReread(t, j), want)
		}
		expectShelf()
		mustPut(t, j, counter32(2))
		want = change(want, counter32(2))
		mustClose(t, j)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		j, _, err = openJournal(path, testShelving())
		if err != nil {
			t.Fatal(err)
		}
		expectShelf()
		mustClose(t, j)

		// With one byte that is another, what is found is right all the same.
		whole[int(at)%len(whole)] ^= byte(at>>8) | 1
		writeFile(t, path, whole)
		if j, _, err = openJournal(path, testShelving()); err == nil {
			if missing, err := find(j); missing != nil || err != nil && !errors.Is(err, errJournalDamaged) {
				t.Fatal(missing, err)
			}
			mustClose(t, j)
		} else {
			j = new(journal)
		}
	})
}

// A replacement leaves one kind, and the new records, in a file of no more than
// their size; or all as it was.
func TestJournalReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := mustOpen(t, path)
	kept := record{Kind: 3, Key: []byte("kept"), Value: []byte("value")}
	mustPut(t, j, kept, record{Kind: 1, Key: []byte("a"), Value: make([]byte, 1000)}, record{Kind: 2, Value: []byte("old")}, record{Kind: 200, Value: []byte("newer version's")})
	fresh := []record{{Kind: 2, Value: []byte("new")}, {Kind: 4, Value: []byte{}}}
	before := mustReread(t, j)

	// Something is in the way of the new file.
	if err := os.MkdirAll(filepath.Join(j.newPath(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := j.replace(3, fresh...); err == nil {
		t.Error("replaced in spite of it")
	}
	expectState(t, mustReread(t, j), before)
	if err := os.RemoveAll(j.newPath()); err != nil {
		t.Fatal(err)
	}

	if err := j.replace(3, fresh...); err != nil {
		t.Fatal(err)
	}
	want := change(journalState{}, append(fresh, kept)...)
	expectState(t, mustReread(t, j), want)
	if j.dead() != batchHeader || fileSize(t, path) != j.size || string(fresh[0].Value) != "new" {
		t.Errorf("%d bytes are dead, size %d", j.dead(), j.size)
	}
	mustPut(t, j, record{Kind: 5, Value: []byte("next")})
	want = change(want, record{Kind: 5, Value: []byte("next")})
	mustClose(t, j)
	if err := j.replace(3, fresh...); err == nil {
		t.Error("a closed journal is replaced")
	}
	j, got := mustOpen(t, path)
	expectState(t, got, want)

	// The file is not what it was when it was opened.
	if err := os.WriteFile(path, []byte("fidokex"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.replace(3, fresh...); !errors.Is(err, errJournalDamaged) {
		t.Errorf("replaced a file that is damaged: %v", err)
	}
	mustClose(t, j)
}
