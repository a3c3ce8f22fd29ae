package virtual

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// shelving says which records of a journal are put on its shelf: those of a kind,
// if there is a group.
type shelving struct {
	kind byte
	// group returns a name by which a record is found, besides by its key; nil if
	// there is none.
	group func(value []byte) ([]byte, error)
	// note returns what to write on the shelf, for the next to open the journal:
	// what is worth knowing of the records there without a look at them.
	note func() ([]byte, error)
}

// A shelf is the records of a journal that were put in front of the others when
// it was compacted last, or says that there are none.
type shelf struct {
	start int64 // where opening begins to read: the shelf is before that
	live  int64 // bytes of its records
	note  []byte
	pages []page
	// read has the pages that were read, by where they are, while opening looks
	// many names up; nil otherwise.
	read map[uint32][]entry
	// directory is how long the record is from which the shelf is known.
	directory int64
}

// A page is a part of the index of a shelf: entries in the order of their names.
// It is in a batch of its own.
//
//	page  = entry...
//	entry = name (8) offset of the record (4) its length (4) crc (4)
//
// The checksum is of salt and record, so that one can be read without its batch.
type page struct {
	first shelfName // of its first entry
	at    uint32    // where its batch begins
}

type entry struct {
	name            shelfName
	at, length, crc uint32
}

// A shelfName is the start of a key, or of a group's name, with zeros behind
// where that is shorter: what does not tell apart any that are random, or hashes.
type shelfName uint64

func newShelfName(name []byte) shelfName {
	var b [8]byte
	copy(b[:], name)
	return shelfName(binary.BigEndian.Uint64(b[:]))
}

// kindShelf is the kind of the records of a shelf, which no others may have. The
// key of the directory is empty.
//
//	directory = bytes of the records (4) length of note (4) note
//	            (first name (8) offset (4)) of each page
const kindShelf byte = 0

var pageKey = []byte("page")

const (
	entryLength = 8 + 3*4
	pageEntries = 128
	// maxPage is how long the batch of a page can be.
	maxPage = batchHeader + 16 + pageEntries*entryLength
	// maxShelved is how many bytes of records a shelf can hold. With more there
	// would be less room for them, as the index takes some, too.
	maxShelved = maxJournal / 3
)

// shelves reports whether compaction makes a shelf.
func (j *journal) shelves() bool { return j.many.group != nil && j.live <= maxShelved }

// shelve writes those of records that go to the shelf, the index and the
// directory.
func (w *batchWriter) shelve(records map[recordKey][]byte) (shelf, error) {
	j := w.journal
	var s shelf
	var entries []entry
	for key, value := range records {
		if key.kind != j.many.kind {
			continue
		}
		group, err := j.many.group(value)
		if err != nil {
			return s, err
		}
		r := record{key.kind, []byte(key.key), value}
		b := appendRecord(make([]byte, 0, recordSize(r)), r)
		e := entry{newShelfName(r.Key), uint32(w.add(r)), uint32(len(b)), j.checksum(nil, b)}
		clear(b)
		entries = append(entries, e)
		if name := newShelfName(group); group != nil && name != e.name {
			e.name = name
			entries = append(entries, e)
		}
		s.live += int64(e.length)
	}
	if err := w.flush(); err != nil || len(entries) == 0 {
		s.start = w.size
		return s, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	for part := range slices.Chunk(entries, pageEntries) {
		s.pages = append(s.pages, page{part[0].name, uint32(w.size)})
		var b []byte
		for _, e := range part {
			b = binary.BigEndian.AppendUint64(b, uint64(e.name))
			b = binary.BigEndian.AppendUint32(b, e.at)
			b = binary.BigEndian.AppendUint32(b, e.length)
			b = binary.BigEndian.AppendUint32(b, e.crc)
		}
		w.add(record{kindShelf, pageKey, b})
		if err := w.flush(); err != nil {
			return s, err
		}
	}
	s.start = w.size
	var err error
	if s.note, err = j.many.note(); err != nil {
		return s, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(s.live))
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.note)))
	b = append(b, s.note...)
	for _, p := range s.pages {
		b = binary.BigEndian.AppendUint64(b, uint64(p.first))
		b = binary.BigEndian.AppendUint32(b, p.at)
	}
	r := record{Kind: kindShelf, Value: b}
	s.directory = int64(recordSize(r))
	w.add(r)
	return s, nil
}

// parseShelf reads a directory, nil if there is none.
func parseShelf(directory []byte, start int64) (shelf, error) {
	s := shelf{start: start}
	if directory == nil {
		return s, nil
	}
	s.directory = int64(recordSize(record{Kind: kindShelf, Value: directory}))
	if len(directory) < 8 {
		return s, damagedAt(start)
	}
	s.live = int64(binary.BigEndian.Uint32(directory))
	length := binary.BigEndian.Uint32(directory[4:])
	b := directory[8:]
	if s.live > start || uint64(length) > uint64(len(b)) || (len(b)-int(length))%(8+4) != 0 {
		return s, damagedAt(start)
	}
	s.note, b = slices.Clone(b[:length]), b[length:]
	for ; len(b) > 0; b = b[8+4:] {
		p := page{shelfName(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:])}
		if n := len(s.pages); int64(p.at) >= start || n > 0 && p.first < s.pages[n-1].first {
			return s, damagedAt(start)
		}
		s.pages = append(s.pages, p)
	}
	return s, nil
}

// lookup returns the records on the shelf whose key, or group, begins like name,
// in memory that is the caller's. What was appended since is not looked at: see
// superseded.
func (j *journal) lookup(name []byte) ([]record, error) {
	if j.broken != nil {
		return nil, j.broken
	}
	wanted := newShelfName(name)
	// Those of one name can begin in the page before the first that begins
	// with it, and go on in the next.
	i, _ := slices.BinarySearchFunc(j.shelf.pages, wanted, func(p page, name shelfName) int { return cmp.Compare(p.first, name) })
	var found []record
	left := j.shelf.start // no name is of more than all there is
	for i = max(i-1, 0); i < len(j.shelf.pages) && j.shelf.pages[i].first <= wanted; i++ {
		entries, err := j.readPage(j.shelf.pages[i])
		if err != nil {
			wipe(found)
			return nil, err
		}
		at, _ := slices.BinarySearchFunc(entries, wanted, func(e entry, name shelfName) int { return cmp.Compare(e.name, name) })
		for ; at < len(entries) && entries[at].name == wanted; at++ {
			r, err := j.readRecord(entries[at])
			if left -= int64(entries[at].length); left < 0 && err == nil {
				clear(r.Value)
				err = damagedAt(int64(j.shelf.pages[i].at))
			}
			if err != nil {
				wipe(found)
				return nil, err
			}
			found = append(found, r)
		}
	}
	return found, nil
}

func (j *journal) readPage(p page) ([]entry, error) {
	if entries := j.shelf.read[p.at]; entries != nil {
		return entries, nil
	}
	at := int64(p.at)
	data, err := j.readAt(at, min(maxPage, j.shelf.start-at))
	if err != nil {
		return nil, err
	}
	payload, ok := j.batch(data)
	r, rest, well := record{}, []byte(nil), false
	if ok {
		r, rest, well = cutRecord(payload)
	}
	if !well || r.Kind != kindShelf || len(rest) > 0 || len(r.Value)%entryLength != 0 {
		return nil, damagedAt(at)
	}
	entries := make([]entry, 0, pageEntries)
	for b := r.Value; len(b) > 0; b = b[entryLength:] {
		entries = append(entries, entry{
			shelfName(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]),
			binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:]),
		})
	}
	if j.shelf.read != nil {
		j.shelf.read[p.at] = entries
	}
	return entries, nil
}

func (j *journal) readRecord(e entry) (record, error) {
	data, err := j.readAt(int64(e.at), min(int64(e.length), max(0, j.shelf.start-int64(e.at))))
	if err != nil {
		return record{}, err
	}
	r, rest, ok := cutRecord(data)
	if !ok || len(rest) > 0 || r.Kind != j.many.kind || j.checksum(nil, data) != e.crc {
		clear(data)
		return record{}, damagedAt(int64(e.at))
	}
	return r, nil
}

// superseded reports whether a record on the shelf is there no more, or has
// another value: what holds was appended.
func (j *journal) superseded(key []byte) bool {
	_, ok := j.sizes[recordKey{j.many.kind, string(key)}]
	return ok
}

// shelvedSize returns how long the record on the shelf with a key is, 0 if there
// is none, or if it cannot be read: to compact too early or too late does no harm.
func (j *journal) shelvedSize(key []byte) int {
	found, _ := j.lookup(key)
	size := 0
	for _, r := range found {
		if string(r.Key) == string(key) {
			size = recordSize(r)
		}
		clear(r.Value)
	}
	return size
}
