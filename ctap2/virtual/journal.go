package virtual

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
)

// A journal is a file of records that grows by batches: each put appends one,
// and it counts whole or not at all. The batches are in order: the last record
// for a key holds.
//
//	file   = magic (7) version (1) salt (8) start (4) end (4) crc (4), batch...
//	batch  = length of payload (4) crc (4) payload
//	payload = record...
//	record = kind (1) length of key (uvarint) key
//	         0 (delete), or 1 + length of value (uvarint), value
//
// Integers are big-endian. The checksums are CRC-32C: the header's covers all
// before it, a batch's the salt, the length and the payload. The salt is there
// so that no value, and a value may be a stranger's choice, can contain what
// passes for a batch. Files of version 1 have neither start nor end.
//
// Of one kind there can be thousands of records, of which a process needs a few.
// Compaction puts these on a shelf: to the front of the file, with an index
// behind them, and all others behind that, from start to end. Opening reads from
// there, and lookup what is wanted of the rest.
//
// A crash in the middle of an append leaves a batch that is no good with
// nothing good behind it: it never counted, and opening cuts it off. A bad batch
// with a good one behind it, or before end, is another matter, damage, and
// refused: by opening, or by who first reads what is on the shelf.
//
// A journal is not safe for use by several goroutines. One process at a time
// has it open, where the platform can see to it (a lock on a file beside it).
type journal struct {
	path  string
	lock  io.Closer
	file  journalFile
	salt  [journalSaltLength]byte
	many  shelving
	shelf shelf

	size int64 // where the next batch goes
	live int64 // bytes of the records that hold
	few  int64 // those of them that are never shelved
	// sizes has the lengths of the records that hold, but for those that are on
	// the shelf: 0 says that such a one is deleted.
	sizes map[recordKey]int
	// floor is how much must be waste before a compaction is worth while.
	floor int64
	// broken is why there is no more use in this journal: what its file holds
	// is not known, or there is no file.
	broken error
}

// journalFile is the part of *os.File that a journal appends with.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// A record is a value under a key. A nil Value deletes the key; an empty one
// does not. Kind tells apart what the keys of different things would mix up.
type record struct {
	Kind       byte
	Key, Value []byte
}

type recordKey struct {
	kind byte
	key  string
}

const (
	journalMagic      = "fidokey"
	journalVersion    = 2
	journalSaltLength = 8
	journalHeader     = len(journalMagic) + 1 + journalSaltLength + 4 + 4 + 4
	batchHeader       = 8

	// maxBatch is the longest payload. It bounds how far behind a bad batch a
	// good one is looked for, too.
	maxBatch = 1 << 20
	// maxJournal is the longest file.
	maxJournal = 16 << 20
	// journalReserve is how much of it is for what a key must always be able to
	// write down.
	journalReserve = 64 << 10
	// compactionFloor keeps small journals from being rewritten all the time, and
	// closingFloor those that are closed: the next to open reads what is left.
	compactionFloor = 64 << 10
	closingFloor    = 4 << 10
	// compactionBatch is how long the batches of a compacted journal get
	// before the next begins.
	compactionBatch = 64 << 10
)

// ErrInUse is what New returns for a Config.Path whose key is open already.
var ErrInUse = errors.New("in use by another process, or open already")

var (
	errJournalDamaged = errors.New("journal damaged")
	errJournalFull    = errors.New("journal full")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal opens the journal at path, or makes an empty one of mode 0600, and
// returns what it holds, but for the shelf, in memory that is the caller's. A nil
// value is of a record on the shelf that is deleted. The folder must exist.
//
// The error wraps errJournalDamaged, and says at which offset, for a file that
// is not a journal or has lost more than its last append; the file is then as it
// was. It wraps ErrInUse if another process, or this one, has the
// journal open.
func openJournal(path string, many shelving) (*journal, map[recordKey][]byte, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // compaction replaces the file, not a link to it
	}
	lock, err := lockJournal(path + ".lock")
	if err != nil {
		return nil, nil, err
	}
	j := &journal{path: path, lock: lock, many: many, sizes: make(map[recordKey]int), floor: compactionFloor}
	records, err := j.open()
	if err != nil {
		j.close()
		return nil, nil, err
	}
	return j, records, nil
}

// open opens the file, with the lock held.
func (j *journal) open() (map[recordKey][]byte, error) {
	// Left behind by a crash in a compaction, or before anything was stored.
	if err := os.Remove(j.newPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	switch info, err := os.Stat(j.path); {
	case errors.Is(err, os.ErrNotExist):
		return j.create()
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("journal: %s is not a file", j.path)
	case info.Size() > maxJournal:
		return nil, fmt.Errorf("%w: %d bytes are more than it can have", errJournalDamaged, info.Size())
	}
	if err := j.reopen(); err != nil {
		return nil, err
	}
	header, err := j.readAt(0, int64(journalHeader))
	if err != nil {
		return nil, err
	}
	if j.size < int64(journalHeader) && bytes.HasPrefix([]byte(journalMagic), header[:min(len(header), len(journalMagic))]) {
		return j.create() // an empty file, or less than a header
	}
	_, start, end, err := j.parseHeader(header)
	if err != nil {
		return nil, err
	}
	data, err := j.readAt(start, j.size-start)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	records, size, err := j.parse(data, start, end)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			wipeAll(records)
		}
	}()
	shelf, err := parseShelf(records[recordKey{kindShelf, ""}], start)
	if err != nil {
		return nil, err
	}
	if size < j.size {
		j.size = size
		if err = errors.Join(j.file.Truncate(size), j.file.Sync()); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	j.begin(shelf)
	j.shelf.read = make(map[uint32][]entry)
	for key, value := range records {
		if key.kind == kindShelf || value == nil && (key.kind != j.many.kind || len(shelf.pages) == 0) {
			delete(records, key)
			continue
		}
		j.count(record{key.kind, []byte(key.key), value})
	}
	j.shelf.read = nil
	return records, nil
}

// create writes a file in which there is nothing.
func (j *journal) create() (map[recordKey][]byte, error) {
	rand.Read(j.salt[:])
	return make(map[recordKey][]byte), j.rewrite(nil)
}

// readAt reads so many bytes at an offset, fewer if the file ends before.
func (j *journal) readAt(at, length int64) ([]byte, error) {
	data := make([]byte, max(0, min(length, j.size-at)))
	n, err := j.file.ReadAt(data, at)
	switch {
	case n == len(data):
		return data, nil
	case err == io.EOF: // it was longer
		err = damagedAt(at + int64(n))
	default:
		err = fmt.Errorf("journal: %w", err)
	}
	clear(data)
	return nil, err
}

// parseHeader returns the length of the header, start and end.
func (j *journal) parseHeader(header []byte) (length, start, end int64, err error) {
	if len(header) < len(journalMagic)+1 || string(header[:len(journalMagic)]) != journalMagic {
		return 0, 0, 0, damagedAt(0)
	}
	length = int64(journalHeader)
	switch version := header[len(journalMagic)]; version {
	case 1:
		length -= 8
	case journalVersion:
	default:
		return 0, 0, 0, fmt.Errorf("journal has version %d, which is not known here", version)
	}
	if int64(len(header)) < length {
		return 0, 0, 0, damagedAt(0)
	}
	header, sum := header[:length-4], header[length-4:length]
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(header, castagnoli) {
		return 0, 0, 0, damagedAt(0)
	}
	header = header[len(journalMagic)+1:]
	header = header[copy(j.salt[:], header):]
	if len(header) == 0 {
		return length, length, length, nil
	}
	start, end = int64(binary.BigEndian.Uint32(header)), int64(binary.BigEndian.Uint32(header[4:]))
	if start < length || end < start || j.size < end {
		return 0, 0, 0, damagedAt(0)
	}
	return length, start, end, nil
}

// parse reads the batches in data, which is what the file has at an offset and
// behind it. It returns their records, nil for those that are deleted, and where
// the last good batch ends, which is not before end.
func (j *journal) parse(data []byte, offset, end int64) (map[recordKey][]byte, int64, error) {
	records := make(map[recordKey][]byte)
	at := 0
	for at < len(data) {
		payload, ok := j.batch(data[at:])
		if !ok {
			if offset+int64(at) < end || j.anyBatch(data[at+1:]) {
				wipeAll(records)
				return nil, 0, damagedAt(offset + int64(at))
			}
			break
		}
		if !apply(records, payload) {
			wipeAll(records)
			return nil, 0, damagedAt(offset + int64(at))
		}
		at += batchHeader + len(payload)
	}
	return records, offset + int64(at), nil
}

func wipeAll(records map[recordKey][]byte) {
	for _, value := range records {
		clear(value)
	}
}

func damagedAt(offset int64) error {
	return fmt.Errorf("%w at offset %d", errJournalDamaged, offset)
}

// batch returns the payload of the batch at the start of data, if it is good.
func (j *journal) batch(data []byte) ([]byte, bool) {
	if len(data) < batchHeader {
		return nil, false
	}
	length := binary.BigEndian.Uint32(data)
	if length == 0 || length > maxBatch || int(length) > len(data)-batchHeader {
		return nil, false
	}
	payload := data[batchHeader : batchHeader+int(length)]
	return payload, binary.BigEndian.Uint32(data[4:]) == j.checksum(data[:4], payload)
}

func (j *journal) checksum(length, payload []byte) uint32 {
	sum := crc32.Update(0, castagnoli, j.salt[:])
	sum = crc32.Update(sum, castagnoli, length)
	return crc32.Update(sum, castagnoli, payload)
}

// anyBatch reports whether there is, or may be, a good batch somewhere in data,
// which begins inside a bad one. An append that was cut short leaves no more
// than a batch, so that more than that cannot be what it left.
func (j *journal) anyBatch(data []byte) bool {
	if len(data) >= batchHeader+maxBatch {
		return true
	}
	for at := range data {
		if _, ok := j.batch(data[at:]); ok {
			return true
		}
	}
	return false
}

// apply brings records up to a payload. It reports whether the payload is well
// formed.
func apply(records map[recordKey][]byte, payload []byte) bool {
	for len(payload) > 0 {
		r, rest, ok := cutRecord(payload)
		if !ok {
			return false
		}
		payload = rest
		k := recordKey{r.Kind, string(r.Key)}
		clear(records[k])
		if r.Value == nil {
			records[k] = nil
		} else {
			records[k] = append(make([]byte, 0, len(r.Value)), r.Value...)
		}
	}
	return true
}

// cutRecord cuts a record off the front of data, whose memory it shares.
func cutRecord(data []byte) (r record, rest []byte, ok bool) {
	if len(data) == 0 {
		return r, nil, false
	}
	r.Kind = data[0]
	if r.Key, rest, ok = cutBytes(data[1:], 0); !ok {
		return r, nil, false
	}
	r.Value, rest, ok = cutBytes(rest, 1)
	return r, rest, ok
}

// cutBytes cuts a byte string off the front of data, whose length is written
// as a number that is greater by bias; nil is one whose length is less than
// nothing.
func cutBytes(data []byte, bias uint64) (cut, rest []byte, ok bool) {
	length, n := binary.Uvarint(data)
	if n <= 0 {
		return nil, nil, false
	}
	data = data[n:]
	if length < bias {
		return nil, data, true
	}
	length -= bias
	if length > uint64(len(data)) {
		return nil, nil, false
	}
	return data[:length:length], data[length:], true
}

// appendRecord appends a record as it is written.
func appendRecord(b []byte, r record) []byte {
	b = append(b, r.Kind)
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	if r.Value == nil {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Value))+1)
	return append(b, r.Value...)
}

// encode returns a batch of records, in memory that holds nothing else, so
// that it can be wiped.
func (j *journal) encode(records []record) []byte {
	size := batchHeader
	for _, r := range records {
		size += recordSize(r)
	}
	b := make([]byte, batchHeader, size)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	header, payload := b[:batchHeader], b[batchHeader:]
	binary.BigEndian.PutUint32(header, uint32(len(payload)))
	binary.BigEndian.PutUint32(header[4:], j.checksum(header[:4], payload))
	return b
}

// put makes the changes of records, in their order, all or none of them. When it
// returns without error they are on disk.
//
// It refuses more than fits into the journal, 16 MiB, or into one put, 1 MiB,
// with an error that wraps errJournalFull. After that, and after a failed
// write, the journal is as before. After a failed sync nobody knows what is on
// disk: the journal takes no more, and must be opened again to find out.
func (j *journal) put(records ...record) error {
	return j.putWithin(maxJournal, records...)
}

// putWithin is put for a file that may get no longer than limit.
func (j *journal) putWithin(limit int64, records ...record) error {
	if j.broken != nil {
		return j.broken
	}
	if len(records) == 0 {
		return nil
	}
	b := j.encode(records)
	defer clear(b)
	if len(b) > batchHeader+maxBatch {
		return fmt.Errorf("%w: %d bytes at once", errJournalFull, len(b))
	}
	over := j.size + int64(len(b)) - limit
	if over > 0 && over <= j.dead() || j.waste() > max(j.floor, j.live/2) {
		_ = j.compact() // the file does as it is
		if j.broken != nil {
			return j.broken
		}
		over = j.size + int64(len(b)) - limit
	}
	if over > 0 {
		return fmt.Errorf("%w: %d bytes are in use", errJournalFull, j.size)
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		// A part of the batch is no worse than after a crash, but the next
		// one must not come behind it.
		if undo := errors.Join(j.file.Truncate(j.size), j.file.Sync()); undo != nil {
			j.broken = fmt.Errorf("journal: append failed and cannot be undone: %w", errors.Join(err, undo))
			return j.broken
		}
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		j.broken = fmt.Errorf("journal: sync failed: %w", err)
		return j.broken
	}
	j.size += int64(len(b))
	for _, r := range records {
		j.count(r)
	}
	return nil
}

// count keeps account of a record that is in the file.
func (j *journal) count(r record) {
	key := recordKey{r.Kind, string(r.Key)}
	shelved := r.Kind == j.many.kind && len(j.shelf.pages) > 0
	old, ok := j.sizes[key]
	if !ok && shelved {
		old = j.shelvedSize(r.Key)
	}
	size := 0
	if r.Value != nil {
		size = recordSize(r)
	}
	j.live += int64(size - old)
	if r.Kind != j.many.kind {
		j.few += int64(size - old)
	}
	if size > 0 || shelved {
		j.sizes[key] = size
	} else {
		delete(j.sizes, key)
	}
}

// recordSize returns how long a record with a value is when written.
func recordSize(r record) int {
	var b [2 * binary.MaxVarintLen64]byte
	n := binary.PutUvarint(b[:], uint64(len(r.Key)))
	n += binary.PutUvarint(b[n:], uint64(len(r.Value))+1)
	return 1 + n + len(r.Key) + len(r.Value)
}

// dead returns how many bytes of the file a compaction would save, and the index,
// which it makes anew.
func (j *journal) dead() int64 {
	return j.size - int64(journalHeader) - j.live
}

// waste returns how many bytes opening would not read if the file were compacted,
// and how many it would be shorter by besides: the news that a record on the shelf
// is deleted can be much shorter than the record.
func (j *journal) waste() int64 {
	if !j.shelves() {
		return j.dead()
	}
	shelved := j.live - (j.few - j.shelf.directory) // that hold, wherever they are
	return j.size - j.shelf.start - j.few + max(0, j.shelf.live-shelved)
}

// compact rewrites the file without what is dead. If it cannot, the file stays as
// it is, which is no reason to refuse a put; it tries again when as much
// again is waste.
func (j *journal) compact() error {
	records, err := j.reread()
	if err == nil {
		err = j.rewrite(records)
	}
	wipeAll(records)
	j.floor = compactionFloor
	if err != nil {
		j.floor += j.waste()
	}
	return err
}

// tidy saves the next to open the journal much of the reading. Its error is that
// of a journal that is damaged.
func (j *journal) tidy() error {
	if j.broken != nil || j.waste() <= closingFloor {
		return nil
	}
	if err := j.compact(); errors.Is(err, errJournalDamaged) {
		return err
	}
	return nil
}

// reread returns what the file holds, the shelf too. The journal itself keeps no
// copy, as there are secrets in it.
func (j *journal) reread() (map[recordKey][]byte, error) {
	if j.broken != nil {
		return nil, j.broken
	}
	header, err := j.readAt(0, int64(journalHeader))
	if err != nil {
		return nil, err
	}
	length, _, end, err := j.parseHeader(header)
	if err != nil {
		return nil, err
	}
	return j.rereadFrom(length, end)
}

// rereadFrom returns what the file holds at an offset and behind it.
func (j *journal) rereadFrom(offset, end int64) (map[recordKey][]byte, error) {
	data, err := j.readAt(offset, j.size-offset)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	records, size, err := j.parse(data, offset, end)
	if err == nil && size != j.size {
		wipeAll(records)
		return nil, damagedAt(size)
	}
	maps.DeleteFunc(records, func(key recordKey, value []byte) bool { return key.kind == kindShelf || value == nil })
	return records, err
}

// replace replaces all records but those of one kind, which must not be that of
// the shelf: all or none of them. It needs no room in the file. When it returns
// without error the change is on disk.
func (j *journal) replace(keep byte, records ...record) error {
	if j.broken != nil {
		return j.broken
	}
	all, err := j.rereadFrom(j.shelf.start, j.size)
	if err != nil {
		return err
	}
	defer wipeAll(all)
	for key, value := range all {
		if key.kind != keep {
			clear(value)
			delete(all, key)
		}
	}
	for _, r := range records {
		all[recordKey{r.Kind, string(r.Key)}] = bytes.Clone(r.Value)
	}
	if err := j.rewrite(all); err != nil {
		return err
	}
	j.floor = compactionFloor
	return nil
}

// rewrite replaces the file by one that holds records and nothing else. The
// new one is complete and on disk before it takes the old one's name, so that a
// crash leaves one or the other, and they say the same. If rewrite fails, the
// old one is in use as before, or the journal is broken.
func (j *journal) rewrite(records map[recordKey][]byte) error {
	shelf, err := j.writeNew(records)
	if err != nil {
		os.Remove(j.newPath())
		return fmt.Errorf("journal: %w", err)
	}
	// Not every platform renames over a file that is open.
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
	if err := os.Rename(j.newPath(), j.path); err != nil {
		os.Remove(j.newPath())
		return errors.Join(fmt.Errorf("journal: %w", err), j.reopen())
	}
	if err := syncFolder(filepath.Dir(j.path)); err != nil {
		// The old file may come back, without what would be appended from
		// now on.
		j.broken = fmt.Errorf("journal: sync failed: %w", err)
		return j.broken
	}
	j.begin(shelf)
	for key, value := range records {
		if key.kind != j.many.kind || len(shelf.pages) == 0 {
			j.count(record{key.kind, []byte(key.key), value})
		}
	}
	return j.reopen()
}

// begin keeps account of nothing but a shelf.
func (j *journal) begin(shelf shelf) {
	j.shelf, j.live, j.few = shelf, shelf.live, shelf.directory
	clear(j.sizes)
}

func (j *journal) newPath() string { return j.path + ".new" }

// writeNew writes a file with records, under its temporary name, and returns its
// shelf.
func (j *journal) writeNew(records map[recordKey][]byte) (_ shelf, err error) {
	file, err := os.OpenFile(j.newPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return shelf{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	w := &batchWriter{journal: j, file: file, size: int64(journalHeader)}
	s := shelf{start: w.size}
	few := func(recordKey) bool { return true }
	if j.shelves() {
		few = func(key recordKey) bool { return key.kind != j.many.kind }
		if s, err = w.shelve(records); err != nil {
			return shelf{}, err
		}
	}
	for key, value := range records {
		if few(key) {
			w.add(record{key.kind, []byte(key.key), value})
		}
	}
	if err := w.flush(); err != nil {
		return shelf{}, err
	}
	header := append([]byte(journalMagic), journalVersion)
	header = append(header, j.salt[:]...)
	header = binary.BigEndian.AppendUint32(header, uint32(s.start))
	header = binary.BigEndian.AppendUint32(header, uint32(w.size))
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	if _, err := file.WriteAt(header, 0); err != nil {
		return shelf{}, err
	}
	return s, file.Sync()
}

// A batchWriter writes records in batches of some length.
type batchWriter struct {
	journal *journal
	file    io.WriterAt
	size    int64 // where the batch goes
	batch   []record
	length  int // of the batch
	err     error
}

// add returns where in the file the record begins.
func (w *batchWriter) add(r record) int64 {
	if w.length > 0 && w.length+recordSize(r) > compactionBatch {
		w.err = w.flush()
	}
	at := w.size + batchHeader + int64(w.length)
	w.batch = append(w.batch, r)
	w.length += recordSize(r)
	return at
}

// flush writes the batch. It returns the first error of all writing.
func (w *batchWriter) flush() error {
	if w.err != nil || len(w.batch) == 0 {
		return w.err
	}
	b := w.journal.encode(w.batch)
	defer clear(b)
	_, w.err = w.file.WriteAt(b, w.size)
	w.size += int64(len(b))
	w.batch, w.length = w.batch[:0], 0
	return w.err
}

// reopen opens the file for appending. If it cannot, the journal is broken.
func (j *journal) reopen() error {
	file, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if err == nil {
		j.file = file
		j.size, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		j.broken = fmt.Errorf("journal: %w", err)
	}
	return j.broken
}

// syncFolder makes a renaming durable.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // cannot be asked of a folder there
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// close closes the file and lets others open it.
func (j *journal) close() error {
	if j.broken == nil {
		j.broken = fmt.Errorf("journal: %w", os.ErrClosed)
	}
	var errs []error
	if j.file != nil {
		errs = append(errs, j.file.Close())
		j.file = nil
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close())
		j.lock = nil
	}
	return errors.Join(errs...)
}
