package virtual

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// A journal is a file of records that grows by batches: each put appends one,
// and it counts whole or not at all. Opening it reads the batches in order, of
// which the last record for a key holds.
//
//	file   = magic (7) version (1) salt (8) crc (4), batch...
//	batch  = length of payload (4) crc (4) payload
//	payload = record...
//	record = kind (1) length of key (uvarint) key
//	         0 (delete), or 1 + length of value (uvarint), value
//
// Integers are big-endian. The checksums are CRC-32C: the header's covers all
// before it, a batch's the salt, the length and the payload. The salt is there
// so that no value, and a value may be a stranger's choice, can contain what
// passes for a batch.
//
// A crash in the middle of an append leaves a batch that is no good with
// nothing good behind it: it never counted, and opening cuts it off. A bad batch
// with a good one behind it is another matter, damage, and refused.
//
// A journal is not safe for use by several goroutines. One process at a time
// has it open, where the platform can see to it (a lock on a file beside it).
type journal struct {
	path string
	lock io.Closer
	file journalFile
	salt [journalSaltLength]byte

	size  int64 // where the next batch goes
	live  int64 // bytes of the records that hold
	sizes map[recordKey]int
	// floor is how much must be dead before it is thrown out.
	floor int64
	// broken is why there is no more use in this journal: what its file holds
	// is not known, or there is no file.
	broken error
}

// journalFile is the part of *os.File that a journal appends with.
type journalFile interface {
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
	journalVersion    = 1
	journalSaltLength = 8
	journalHeader     = len(journalMagic) + 1 + journalSaltLength + 4
	batchHeader       = 8

	// maxBatch is the longest payload. It bounds how far behind a bad batch a
	// good one is looked for, too.
	maxBatch = 1 << 20
	// maxJournal is the longest file.
	maxJournal = 16 << 20
	// journalReserve is how much of it is for what a key must always be able to
	// write down.
	journalReserve = 64 << 10
	// compactionFloor keeps small journals from being rewritten all the time.
	compactionFloor = 64 << 10
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
// returns what it holds, in memory that is the caller's. The folder must exist.
//
// The error wraps errJournalDamaged, and says at which offset, for a file that
// is not a journal or has lost more than its last append; the file is then as it
// was. It wraps ErrInUse if another process, or this one, has the
// journal open.
func openJournal(path string) (*journal, map[recordKey][]byte, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // compaction replaces the file, not a link to it
	}
	lock, err := lockJournal(path + ".lock")
	if err != nil {
		return nil, nil, err
	}
	j := &journal{path: path, lock: lock, sizes: make(map[recordKey]int), floor: compactionFloor}
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
	data, err := j.read()
	if err != nil {
		return nil, err
	}
	defer clear(data)
	if len(data) < journalHeader && bytes.HasPrefix([]byte(journalMagic), data[:min(len(data), len(journalMagic))]) {
		// No file, an empty one, or less than a header: nothing to lose.
		rand.Read(j.salt[:])
		return make(map[recordKey][]byte), j.rewrite(nil)
	}
	records, size, err := j.parse(data)
	if err != nil {
		return nil, err
	}
	if err := j.reopen(); err != nil {
		return nil, err
	}
	if j.size = int64(size); size < len(data) {
		if err := errors.Join(j.file.Truncate(j.size), j.file.Sync()); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	j.sizes = make(map[recordKey]int, len(records))
	for key, value := range records {
		j.count(record{key.kind, []byte(key.key), value})
	}
	return records, nil
}

// read returns the whole file, nothing if there is none.
func (j *journal) read() ([]byte, error) {
	info, err := os.Stat(j.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("journal: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("journal: %s is not a file", j.path)
	case info.Size() > maxJournal:
		return nil, fmt.Errorf("%w: %d bytes are more than it can have", errJournalDamaged, info.Size())
	}
	data, err := os.ReadFile(j.path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return data, nil
}

// parse reads the file's data, and returns what it holds and where its last good
// batch ends.
func (j *journal) parse(data []byte) (map[recordKey][]byte, int, error) {
	if len(data) < journalHeader || string(data[:len(journalMagic)]) != journalMagic {
		return nil, 0, damagedAt(0)
	}
	if version := data[len(journalMagic)]; version != journalVersion {
		return nil, 0, fmt.Errorf("journal has version %d, which is not known here", version)
	}
	if binary.BigEndian.Uint32(data[journalHeader-4:]) != crc32.Checksum(data[:journalHeader-4], castagnoli) {
		return nil, 0, damagedAt(0)
	}
	copy(j.salt[:], data[len(journalMagic)+1:])

	records := make(map[recordKey][]byte)
	at := journalHeader
	for at < len(data) {
		payload, ok := j.batch(data[at:])
		if !ok {
			if j.anyBatch(data[at+1:]) {
				return nil, 0, damagedAt(at)
			}
			break
		}
		if !apply(records, payload) {
			return nil, 0, damagedAt(at)
		}
		at += batchHeader + len(payload)
	}
	return records, at, nil
}

func damagedAt(offset int) error {
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
		kind := payload[0]
		key, rest, ok := cutBytes(payload[1:], 0)
		if !ok {
			return false
		}
		value, rest, ok := cutBytes(rest, 1)
		if !ok {
			return false
		}
		payload = rest
		k := recordKey{kind, string(key)}
		if old, ok := records[k]; ok {
			clear(old)
		}
		if value == nil {
			delete(records, k)
		} else {
			records[k] = append(make([]byte, 0, len(value)), value...)
		}
	}
	return true
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
	if 0 < over && over <= j.dead() {
		j.compact()
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
	if dead := j.dead(); dead > j.live && dead > j.floor {
		j.compact()
	}
	return nil
}

// count keeps account of a record that is in the file.
func (j *journal) count(r record) {
	key := recordKey{r.Kind, string(r.Key)}
	j.live -= int64(j.sizes[key])
	if r.Value == nil {
		delete(j.sizes, key)
		return
	}
	j.sizes[key] = recordSize(r)
	j.live += int64(j.sizes[key])
}

// recordSize returns how long a record with a value is when written.
func recordSize(r record) int {
	var b [2 * binary.MaxVarintLen64]byte
	n := binary.PutUvarint(b[:], uint64(len(r.Key)))
	n += binary.PutUvarint(b[n:], uint64(len(r.Value))+1)
	return 1 + n + len(r.Key) + len(r.Value)
}

// dead returns how many bytes of the file a compaction would save.
func (j *journal) dead() int64 {
	return j.size - int64(journalHeader) - j.live
}

// compact rewrites the file without what is dead. If it cannot, the file stays as
// it is, which is no reason to refuse a put; it tries again when as much
// again is dead.
func (j *journal) compact() {
	records, err := j.reread()
	if err == nil {
		err = j.rewrite(records)
	}
	for _, value := range records {
		clear(value)
	}
	j.floor = compactionFloor
	if err != nil {
		j.floor += j.dead()
	}
}

// reread returns what the file holds. The journal itself keeps no copy, as there
// are secrets in it.
func (j *journal) reread() (map[recordKey][]byte, error) {
	data, err := j.read()
	if err != nil {
		return nil, err
	}
	defer clear(data)
	records, size, err := j.parse(data)
	if err == nil && int64(size) != j.size {
		err = damagedAt(size)
	}
	return records, err
}

// replace replaces all records but those of one kind, all or none of them. It
// needs no room in the file. When it returns without error the change is on disk.
func (j *journal) replace(keep byte, records ...record) error {
	if j.broken != nil {
		return j.broken
	}
	all, err := j.reread()
	if err != nil {
		return err
	}
	defer func() {
		for _, value := range all {
			clear(value)
		}
	}()
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
	j.live, j.sizes, j.floor = 0, make(map[recordKey]int), compactionFloor
	for key, value := range all {
		j.count(record{key.kind, []byte(key.key), value})
	}
	return nil
}

// rewrite replaces the file by one that holds records and nothing else. The
// new one is complete and on disk before it takes the old one's name, so that a
// crash leaves one or the other, and they say the same. If rewrite fails, the
// old one is in use as before, or the journal is broken.
func (j *journal) rewrite(records map[recordKey][]byte) error {
	if err := j.writeNew(records); err != nil {
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
	return j.reopen()
}

func (j *journal) newPath() string { return j.path + ".new" }

// writeNew writes a file with records, under its temporary name.
func (j *journal) writeNew(records map[recordKey][]byte) (err error) {
	file, err := os.OpenFile(j.newPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	header := append([]byte(journalMagic), journalVersion)
	header = append(header, j.salt[:]...)
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	if _, err := file.Write(header); err != nil {
		return err
	}
	var batch []record
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		b := j.encode(batch)
		defer clear(b)
		_, err := file.Write(b)
		batch, size = batch[:0], 0
		return err
	}
	for key, value := range records {
		r := record{key.kind, []byte(key.key), value}
		if size += recordSize(r); size > compactionBatch {
			if err := flush(); err != nil {
				return err
			}
			size = recordSize(r)
		}
		batch = append(batch, r)
	}
	if err := flush(); err != nil {
		return err
	}
	return file.Sync()
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
