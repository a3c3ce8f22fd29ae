package virtual

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The kinds of the journals here: one is shelved, the other is not.
const (
	manyKind byte = 5
	fewKind  byte = 9
)

var errNoGroup = errors.New("a value that nobody can read")

// testShelving has the group of a value in front of it, up to a bar.
func testShelving() shelving {
	return shelving{
		kind: manyKind,
		group: func(value []byte) ([]byte, error) {
			if bytes.HasPrefix(value, []byte("!")) {
				return nil, errNoGroup
			}
			group, _, ok := bytes.Cut(value, []byte("|"))
			if !ok {
				return nil, nil
			}
			return group, nil
		},
		note: func() ([]byte, error) { return []byte("note"), nil },
	}
}

func many(key, value string) record { return record{manyKind, []byte(key), []byte(value)} }
func few(key, value string) record  { return record{fewKind, []byte(key), []byte(value)} }

// A shelved journal is one with a shelf, and what is to be in it.
type shelvedJournal struct {
	*testing.T
	*journal
	path string
	want journalState
	ever map[string]bool // keys of the many, those that were deleted too
}

func newShelved(t *testing.T) *shelvedJournal {
	s := &shelvedJournal{T: t, path: filepath.Join(t.TempDir(), "key"), want: journalState{}, ever: make(map[string]bool)}
	s.expectOpen()
	return s
}

// expectOpen opens the journal, and expects what is not on the shelf, or has
// changed since it was made.
func (s *shelvedJournal) expectOpen() {
	s.Helper()
	j, got, err := openJournal(s.path, testShelving())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { j.close() })
	s.journal = j
	want := maps.Clone(s.want)
	if len(j.shelf.pages) > 0 { // expect sees to what is there
		maps.DeleteFunc(want, func(key recordKey, _ []byte) bool {
			return key.kind == manyKind && !j.superseded([]byte(key.key))
		})
	}
	for key, value := range got {
		if value == nil {
			if !j.superseded([]byte(key.key)) || s.want[key] != nil {
				s.Fatalf("%q is said to be deleted", key.key)
			}
			delete(got, key)
		}
	}
	expectState(s.T, got, want)
	s.expect()
}

func (s *shelvedJournal) reopen() {
	s.Helper()
	mustClose(s.T, s.journal)
	s.expectOpen()
}

func (s *shelvedJournal) put(records ...record) {
	s.Helper()
	mustPutUnsynced(s.T, s.journal, records...)
	s.want = change(s.want, records...)
	for _, r := range records {
		if r.Kind == manyKind {
			s.ever[string(r.Key)] = true
		}
	}
}

func (s *shelvedJournal) compact() {
	s.Helper()
	before := s.shelf.note
	s.journal.compact()
	if s.broken != nil || s.floor != compactionFloor || s.waste() > 10*batchHeader {
		s.Fatalf("compaction left %d bytes of waste and a floor of %d: %v", s.waste(), s.floor, s.broken)
	}
	if len(s.shelf.pages) > 0 && string(s.shelf.note) != "note" {
		s.Fatalf("note %q after %q", s.shelf.note, before)
	}
}

// found looks a name up, and returns the records that hold by their keys. Of each
// there is one.
func (s *shelvedJournal) found(name string) (map[string][]byte, error) {
	s.Helper()
	records, err := s.lookup([]byte(name))
	found := make(map[string][]byte)
	for _, r := range records {
		if found[string(r.Key)] != nil {
			s.Errorf("%q finds %q twice", name, r.Key)
		}
		if !s.superseded(r.Key) {
			found[string(r.Key)] = r.Value
		}
	}
	return found, err
}

// expect compares the journal with what is to be in it: all of it, what lookup
// finds, and the books.
func (s *shelvedJournal) expect() {
	s.Helper()
	expectState(s.T, mustReread(s.T, s.journal), s.want)
	sizes := make(map[recordKey]int)
	live, notShelved := int64(0), s.shelf.directory
	groups := make(map[string]map[string][]byte)
	for key, value := range s.want {
		size := recordSize(record{key.kind, []byte(key.key), value})
		live += int64(size)
		if key.kind != manyKind {
			notShelved += int64(size)
		}
		if key.kind != manyKind || s.superseded([]byte(key.key)) || len(s.shelf.pages) == 0 {
			sizes[key] = size
			continue
		}
		found, err := s.found(key.key)
		if got := found[key.key]; err != nil || got == nil || !bytes.Equal(got, value) {
			s.Fatalf("%q is %q, want %q, %v", key.key, got, value, err)
		}
		group, _ := s.many.group(value)
		if group == nil {
			continue
		}
		if groups[string(group)] == nil {
			if groups[string(group)], err = s.found(string(group)); err != nil {
				s.Fatal(err)
			}
		}
		if got := groups[string(group)][key.key]; got == nil || !bytes.Equal(got, value) {
			s.Fatalf("%q is %q by %q, want %q", key.key, got, group, value)
		}
	}
	for key := range s.ever {
		k := recordKey{manyKind, key}
		if s.want[k] != nil {
			continue
		}
		if found, err := s.found(key); err != nil || found[key] != nil {
			s.Fatalf("%q was deleted, and is found: %v", key, err)
		}
		if _, ok := s.sizes[k]; ok {
			sizes[k] = 0
		}
	}
	if s.live != live || s.few != notShelved || !maps.Equal(s.sizes, sizes) {
		s.Fatalf("live %d, few %d, %d sizes; want %d, %d, %d", s.live, s.few, len(s.sizes), live, notShelved, len(sizes))
	}
	if size := fileSize(s.T, s.path); size != s.size {
		s.Fatalf("the file has %d bytes, %d are known", size, s.size)
	}
	if len(s.shelf.pages) > 0 && s.shelves() && s.waste() < s.size-s.shelf.start-notShelved {
		s.Fatalf("waste %d", s.waste())
	}
}

// manyRecords are of all sorts: a group that goes over some pages, groups of one,
// none; keys that are short; names that begin alike, or are alike but for zeros.
func manyRecords() []record {
	var all []record
	for i := range 3 * pageEntries {
		all = append(all, many(fmt.Sprintf("%08d-crowd", i*7919%1000), fmt.Sprintf("a crowd|%d", i)))
	}
	for i := range 100 {
		all = append(all, many(fmt.Sprintf("single %03d", i), fmt.Sprintf("group %d|%d", i, i)))
		all = append(all, many(fmt.Sprintf("%d alone", i), fmt.Sprintf("no group of %d", i)))
	}
	for _, key := range []string{"", "\x00", "a", "a\x00", "a\x00\x00", "ab", "1234567", "12345678", "12345678\x00", "123456789", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"} {
		all = append(all, many(key, "short|"+key))
	}
	return append(all,
		many("the same of one", "the same of all|1"),
		many("the same of another", "the same of all|2"),
		many("the same", "the same|3"),
		many("empty group", "|4"),
		many("empty", ""),
	)
}

// What is on a shelf is not read when the journal is opened, and is found by key
// and by group, as long as nothing else was put in its place. What was deleted
// leaves the file with the next compaction.
func TestShelf(t *testing.T) {
	s := newShelved(t)
	s.put(few("", "one"), few("two", "2"), few("three", ""))
	for part := range slices.Chunk(manyRecords(), 50) {
		s.put(part...)
	}
	s.reopen()
	s.compact()
	if len(s.shelf.pages) < 6 {
		t.Fatalf("%d pages", len(s.shelf.pages))
	}
	s.expect()
	s.reopen()
	if len(s.sizes) != 3 || s.waste() > 10*batchHeader {
		t.Fatalf("opening read %d records, and there are %d bytes of waste", len(s.sizes), s.waste())
	}
	if found, err := s.found("a crowd"); err != nil || len(found) != 3*pageEntries {
		t.Fatalf("%d of a group, %v", len(found), err)
	}

	random := rand.New(rand.NewPCG(3, 4))
	secret := []byte("-what nobody may read-")
	for i, r := range manyRecords() {
		switch random.IntN(8) {
		case 0:
			s.put(record{r.Kind, r.Key, nil})
		case 1:
			s.put(many(string(r.Key), fmt.Sprintf("other %d|%s", i%5, secret)))
		case 2:
			s.put(many(string(r.Key), "soon gone"), few("two", fmt.Sprint(i)), record{r.Kind, r.Key, nil})
		case 3:
			s.put(record{r.Kind, r.Key, nil}, many(string(r.Key), "back again"))
		}
	}
	s.put(many("new", "a crowd|new"), record{manyKind, []byte("never there"), nil}, record{fewKind, []byte("three"), nil})
	s.expect()
	s.reopen()
	s.compact()
	s.expect()
	s.reopen()
	for key, value := range s.want {
		if bytes.Contains(value, secret) {
			s.put(record{key.kind, []byte(key.key), nil})
		}
	}
	s.reopen()
	s.compact()
	s.expect()
	if data, err := os.ReadFile(s.path); err != nil || bytes.Contains(data, secret) || bytes.Contains(data, []byte("soon gone")) {
		t.Error("a deleted value outlives a compaction", err)
	}
}

// Put compacts by itself: not each time, and not never, whatever is put.
func TestShelfCompaction(t *testing.T) {
	s := newShelved(t)
	random := rand.New(rand.NewPCG(5, 6))
	compactions := 0
	for n := range 2000 {
		start := s.shelf.start
		records := []record{counter32(n)}
		if key := fmt.Sprint(random.IntN(300)); random.IntN(3) == 0 {
			records = append(records, record{manyKind, []byte(key), nil})
		} else {
			records = append(records, many(key, fmt.Sprintf("group %d|%s", n%10, make([]byte, random.IntN(2000)))))
		}
		before := s.size
		s.put(records...)
		if s.size < before || s.shelf.start != start {
			compactions++
			s.expect()
			s.reopen()
		}
		// And what is put behind it.
		if s.waste() > max(s.live/2, compactionFloor)+5000 {
			t.Fatalf("%d bytes of waste in %d", s.waste(), s.size)
		}
	}
	if compactions < 5 || compactions > 100 {
		t.Errorf("%d compactions", compactions)
	}
	s.expect()
}

// A shelf of what is long is emptied as its records are deleted, though the news
// of that is short.
func TestShelfOfDeleted(t *testing.T) {
	s := newShelved(t)
	for i := range 100 {
		s.put(many(fmt.Sprint(i), fmt.Sprintf("group|%d %s", i, make([]byte, 10<<10))))
	}
	s.compact()
	for i := range 100 {
		s.put(record{manyKind, []byte(fmt.Sprint(i)), nil})
	}
	if s.size > 200<<10 {
		t.Errorf("%d bytes in a file of which %d are live", s.size, s.live)
	}
	s.expect()
}

// sampleShelf returns a compacted journal with a shelf, and what is in it.
func sampleShelf(t *testing.T) ([]byte, *shelvedJournal) {
	t.Helper()
	s := newShelved(t)
	s.put(few("", "one"), few("two", "2"))
	s.put(many("first", "group|1"), many("second", "group|2"), many("third", "no group"), many("4", "the other|"), many("fifth", ""))
	s.compact()
	s.expect()
	mustClose(t, s.journal)
	data, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return data, s
}

// A byte that is not what was written is found out by who reads it: opening, a
// lookup, or a compaction. Nobody gets another value, or none, instead.
func TestShelfDamaged(t *testing.T) {
	data, s := sampleShelf(t)
	noticed := make(map[string]int)
	for i := range data {
		for _, flip := range []byte{1, 0x80, 0xFF} {
			damaged := bytes.Clone(data)
			damaged[i] ^= flip
			writeFile(t, s.path, damaged)
			j, got, err := openJournal(s.path, testShelving())
			if err != nil {
				if i != len(journalMagic) && !errors.Is(err, errJournalDamaged) { // the version
					t.Fatalf("byte %d: %v", i, err)
				}
				noticed["opening"]++
				continue
			}
			s.journal = j
			expectState(t, got, change(journalState{}, few("", "one"), few("two", "2")))
			var errs []error
			for key, value := range s.want {
				if key.kind != manyKind {
					continue
				}
				names := []string{key.key}
				if group, _ := j.many.group(value); group != nil {
					names = append(names, string(group))
				}
				for _, name := range names {
					found, err := s.found(name)
					if got := found[key.key]; err == nil && (got == nil || !bytes.Equal(got, value)) {
						t.Fatalf("byte %d: %q is %q by %q, want %q", i, key.key, got, name, value)
					}
					errs = append(errs, err)
				}
			}
			if err := errors.Join(errs...); err != nil {
				noticed["lookup"]++
			}
			all, err := j.reread()
			if err == nil {
				expectState(t, all, s.want)
			} else {
				noticed["rereading"]++
			}
			errs = append(errs, err)
			for _, err := range errs {
				if err != nil && !errors.Is(err, errJournalDamaged) {
					t.Fatalf("byte %d: %v", i, err)
				}
			}
			if errors.Join(errs...) == nil {
				t.Fatalf("byte %d: nobody notices", i)
			}
			// A compaction makes nothing good of it, and a put is still possible.
			j.compact()
			mustPutUnsynced(t, j, few("two", "3"))
			mustClose(t, j)
			if after, err := os.ReadFile(s.path); err != nil || !bytes.HasPrefix(after, damaged) {
				t.Fatalf("byte %d: the damaged file was changed, %v", i, err)
			}
		}
	}
	if len(noticed) != 3 {
		t.Errorf("noticed by %v", noticed)
	}
}

// A crash in a compaction leaves the old file and its shelf, or the new one.
func TestShelfCrashInCompaction(t *testing.T) {
	_, s := sampleShelf(t)
	s.expectOpen()
	s.put(record{manyKind, []byte("first"), nil}, many("second", "the other|2"), many("sixth", "group|6"), few("two", "3"))
	data, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.writeNew(mustReread(t, s.journal)); err != nil {
		t.Fatal(err)
	}
	compacted, err := os.ReadFile(s.newPath())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(compacted); n += 3 {
		mustClose(t, s.journal)
		writeFile(t, s.path, data)
		writeFile(t, s.newPath(), compacted[:n])
		s.expectOpen()
		if _, err := os.Stat(s.newPath()); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("left behind: %v", err)
		}
	}
	mustClose(t, s.journal)
	writeFile(t, s.path, compacted)
	s.expectOpen()
	if s.waste() > 10*batchHeader {
		t.Errorf("%d bytes of waste", s.waste())
	}
}

// An append that was cut short takes nothing with it that is on the shelf.
func TestShelfCutShort(t *testing.T) {
	data, s := sampleShelf(t)
	s.expectOpen()
	before := s.want
	s.put(record{manyKind, []byte("first"), nil}, many("second", "the other|2"), many("sixth", "group|6"))
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.want = before
	for n := len(data); n < len(whole); n++ {
		mustClose(t, s.journal)
		writeFile(t, s.path, whole[:n])
		s.expectOpen()
		if s.size != int64(len(data)) {
			t.Fatalf("cut at %d: size %d, want %d", n, s.size, len(data))
		}
	}
}

// A value whose group nobody can tell, or a note that there is none of, is no
// reason to lose anything: there is no compaction.
func TestShelfCannotBeMade(t *testing.T) {
	try := func(t *testing.T, s *shelvedJournal) {
		t.Helper()
		before, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		s.journal.compact()
		after, err := os.ReadFile(s.path)
		if err != nil || !bytes.Equal(before, after) {
			t.Fatal("the file was changed", err)
		}
		if _, err := os.Stat(s.newPath()); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("left behind: %v", err)
		}
		// It is not tried each time from now on.
		if s.floor < compactionFloor+s.waste() {
			t.Errorf("floor %d", s.floor)
		}
		s.expect()
		s.put(few("two", "3"), many("new", "group|new"))
		s.expect()
		s.reopen()
	}
	t.Run("group", func(t *testing.T) {
		_, s := sampleShelf(t)
		s.T = t
		s.expectOpen()
		s.put(many("unreadable", "!"))
		try(t, s)
		s.put(many("unreadable", "readable again"))
		s.compact()
		s.expect()
	})
	t.Run("note", func(t *testing.T) {
		_, s := sampleShelf(t)
		s.T = t
		s.expectOpen()
		s.put(many("second", "group|"))
		s.many.note = func() ([]byte, error) { return nil, errNoGroup }
		try(t, s)
		s.compact()
		s.expect()
	})
}

// Too much for a shelf does without: nothing is lost on the way there and back,
// and at the border the file is not rewritten each time.
func TestShelfTooSmall(t *testing.T) {
	const size = 100 << 10
	s := newShelved(t)
	value := func(i int) record {
		return many(fmt.Sprintf("%d is a key", i), fmt.Sprintf("group %d|%s", i%7, make([]byte, size)))
	}
	n := 0
	for ; s.live+size < maxShelved; n++ {
		s.put(value(n))
	}
	s.compact()
	if len(s.shelf.pages) == 0 {
		t.Fatal("no shelf")
	}
	s.put(value(n))
	if s.shelves() || len(s.shelf.pages) == 0 {
		t.Fatalf("%d bytes are not too much, or the shelf is gone", s.live)
	}
	s.expect()
	s.reopen()
	s.journal.compact()
	if len(s.shelf.pages) != 0 {
		t.Fatal("a shelf with too much on it")
	}
	s.expect()
	s.reopen()
	if s.waste() > closingFloor {
		t.Errorf("%d bytes of waste, and each Close would see to it", s.waste())
	}
	compactions := 0
	for range 10 {
		for _, r := range []record{{manyKind, value(0).Key, nil}, value(0)} {
			s.put(few("two", "2"))
			s.put(r)
			if _, ok := s.file.(unsynced); !ok {
				compactions++
			}
			before := s.shelf.start
			s.put(few("two", "3"))
			if s.shelf.start != before {
				compactions++
			}
		}
	}
	if compactions > 2 {
		t.Errorf("%d compactions", compactions)
	}
	s.put(record{manyKind, value(0).Key, nil})
	s.compact()
	if len(s.shelf.pages) == 0 {
		t.Error("no shelf again")
	}
	s.expect()
	s.reopen()
}

// versionOne returns a file of version 1, which has no start, with records.
func versionOne(records journalState) []byte {
	j := &journal{salt: [journalSaltLength]byte{4, 5, 6}}
	data := append([]byte(journalMagic), 1)
	data = append(data, j.salt[:]...)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	for key, value := range records {
		data = append(data, j.encode([]record{{key.kind, []byte(key.key), value}})...)
	}
	return data
}

// A file of before there were shelves is opened, used, and gets one.
func TestShelfOfVersionOne(t *testing.T) {
	s := newShelved(t)
	s.put(few("two", "2"))
	s.put(manyRecords()...)
	mustClose(t, s.journal)
	writeFile(t, s.path, versionOne(s.want))
	s.expectOpen()
	s.put(few("two", "3"), record{manyKind, []byte("empty"), nil})
	s.expect()
	s.reopen()
	if data, err := os.ReadFile(s.path); err != nil || data[len(journalMagic)] != 1 {
		t.Fatalf("version %d, %v", data[len(journalMagic)], err)
	}
	s.tidy()
	if len(s.shelf.pages) == 0 {
		t.Error("no shelf")
	}
	s.expect()
	s.reopen()
	if data, err := os.ReadFile(s.path); err != nil || data[len(journalMagic)] != journalVersion {
		t.Errorf("version %d, %v", data[len(journalMagic)], err)
	}
}

// hostileShelf returns a journal with a record on the shelf, if there is one, and
// an index of one page, which is data.
func hostileShelf(r *record, data []byte) []byte {
	j := &journal{salt: [journalSaltLength]byte{1, 2, 3}}
	var b []byte
	if r != nil {
		b = j.encode([]record{*r})
	}
	page := journalHeader + len(b)
	b = append(b, j.encode([]record{{kindShelf, pageKey, data}})...)
	start := journalHeader + len(b)
	directory := make([]byte, 4+4+8, 4+4+8+4) // no bytes, no note; less than any name
	directory = binary.BigEndian.AppendUint32(directory, uint32(page))
	b = append(b, j.encode([]record{{kindShelf, nil, directory}})...)
	header := append([]byte(journalMagic), journalVersion)
	header = append(header, j.salt[:]...)
	header = binary.BigEndian.AppendUint32(header, uint32(start))
	header = binary.BigEndian.AppendUint32(header, uint32(journalHeader+len(b)))
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	return append(header, b...)
}

// An index that names one long record again and again does not make a lookup take
// more memory than the file has bytes.
func TestShelfOfStranger(t *testing.T) {
	r := many("a key", fmt.Sprintf("group|%s", make([]byte, 10<<10)))
	b := appendRecord(nil, r)
	j := &journal{salt: [journalSaltLength]byte{1, 2, 3}}
	var one []byte
	one = binary.BigEndian.AppendUint64(one, uint64(newShelfName(r.Key)))
	one = binary.BigEndian.AppendUint32(one, uint32(journalHeader+batchHeader))
	one = binary.BigEndian.AppendUint32(one, uint32(len(b)))
	one = binary.BigEndian.AppendUint32(one, j.checksum(nil, b))
	for n, want := range map[int]error{1: nil, 100: errJournalDamaged} {
		path := filepath.Join(t.TempDir(), "key")
		writeFile(t, path, hostileShelf(&r, bytes.Repeat(one, n)))
		j, _, err := openJournal(path, testShelving())
		if err != nil {
			t.Fatal(err)
		}
		if found, err := j.lookup(r.Key); !errors.Is(err, want) || (len(found) == 1) != (want == nil) {
			t.Errorf("of %d entries %d records are found, %v", n, len(found), err)
		}
		mustClose(t, j)
	}
}
