package virtual

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
)

// A store is the credentials that a key keeps. Of a key in a file it has those in
// memory that have changed since the file was compacted, or were asked for; the
// others are on the journal's shelf.
type store struct {
	byID map[string]*credential
	// byRP has those that are discoverable by the hashes of their RP IDs, oldest
	// first.
	byRP map[[sha256.Size]byte][]*credential
	// known are the relying parties of whom byRP has all, and whole says that it
	// does of all.
	known map[[sha256.Size]byte]bool
	whole bool
	tally tally
}

// A tally is what a key knows of its credentials without a look at them. It is on
// the shelf.
type tally struct {
	Stored       int    `cbor:"1,keyasint,omitempty"`
	Discoverable int    `cbor:"2,keyasint,omitempty"`
	LargeBlobs   int    `cbor:"3,keyasint,omitempty"` // bytes of all
	Created      uint64 `cbor:"4,keyasint,omitempty"` // number of the newest
	// Listed is listDigest.
	Listed [sha256.Size]byte `cbor:"5,keyasint"`
}

func newStore() store {
	return store{
		byID:  make(map[string]*credential),
		byRP:  make(map[[sha256.Size]byte][]*credential),
		known: make(map[[sha256.Size]byte]bool),
		whole: true,
	}
}

// credentialGroup is by what a credential is found on the shelf: the relying
// party's hash, if it is discoverable.
func credentialGroup(value []byte) ([]byte, error) {
	d := &decoder{Cursor: cbor.NewCursor(value, cbor.Strict)}
	var rpID string
	discoverable := false
	for member := range d.IntMap() {
		switch member {
		case 1:
			rpID = d.Text()
		case 7:
			discoverable = d.Bool()
		}
	}
	if d.Err() != nil || !discoverable {
		return nil, d.Err()
	}
	hash := sha256.Sum256([]byte(rpID))
	return hash[:], nil
}

// note is the note on the shelf.
func (s *state) note() ([]byte, error) { return cbor.Marshal(s.kept.tally) }

// loadCredentials reads what opening a file has found of them: all, or what has
// changed since there is a shelf.
func (s *state) loadCredentials(live map[recordKey][]byte) error {
	if s.journal != nil && s.journal.shelf.note != nil {
		s.kept.whole = false
		if err := cbor.Unmarshal(s.journal.shelf.note, &s.kept.tally); err != nil {
			return fmt.Errorf("note on credentials: %w", err)
		}
	}
	newest := s.kept.tally.Created // on the shelf
	var found []*credential
	for key, value := range live {
		if key.kind != kindCredential {
			continue
		}
		var c *credential
		if value != nil {
			var err error
			if c, err = parseCredentialRecord([]byte(key.key), value); err != nil {
				return fmt.Errorf("credential: %w", err)
			}
			s.count(c, 1)
			found = append(found, c)
		}
		if c != nil && c.created > newest {
			continue
		}
		old, err := s.shelved([]byte(key.key), func(id []byte) bool { return string(id) == key.key })
		if err != nil {
			return err
		}
		for _, c := range old {
			s.count(c, -1)
		}
	}
	// They come in no order, and one by one they would be put in place slowly.
	slices.SortFunc(found, byCreation)
	for _, c := range found {
		s.kept.add(c)
	}
	return nil
}

// shelved returns the credentials on the shelf that have an ID, or a relying
// party's hash, of which wanted says that their IDs are of interest. If there is
// no shelf any more all are in memory afterwards.
func (s *state) shelved(name []byte, wanted func(id []byte) bool) ([]*credential, error) {
	if s.kept.whole {
		return nil, nil
	}
	if len(s.journal.shelf.pages) == 0 { // there was too much for one when the file was compacted
		return nil, s.loadAll()
	}
	recs, err := s.journal.lookup(name)
	defer wipe(recs)
	var found []*credential
	for _, rec := range recs {
		if !wanted(rec.Key) {
			continue
		}
		c, err := parseCredentialRecord(rec.Key, rec.Value)
		if err != nil {
			return nil, fmt.Errorf("stored key: credential: %w", err)
		}
		found = append(found, c)
	}
	return found, err
}

// missing reports whether a credential on the shelf is one that the key has, and
// not in memory.
func (s *state) missing(id []byte) bool {
	return s.kept.byID[string(id)] == nil && !s.journal.superseded(id)
}

// find returns the stored credential with an ID, nil if there is none.
func (s *state) find(id []byte) (*credential, error) {
	if c := s.kept.byID[string(id)]; c != nil {
		return c, nil
	}
	found, err := s.shelved(id, func(shelved []byte) bool { return bytes.Equal(id, shelved) && s.missing(id) })
	if err != nil || len(found) == 0 {
		return s.kept.byID[string(id)], err
	}
	s.kept.add(found[0])
	return found[0], nil
}

// accounts returns the discoverable credentials of a relying party, oldest
// first. The list is the store's.
func (s *state) accounts(rpIDHash [sha256.Size]byte) ([]*credential, error) {
	if s.kept.whole || s.kept.known[rpIDHash] {
		return s.kept.byRP[rpIDHash], nil
	}
	found, err := s.shelved(rpIDHash[:], s.missing)
	if err != nil {
		return nil, err
	}
	for _, c := range found {
		if c.discoverable && c.rpIDHash == rpIDHash {
			s.kept.add(c)
		}
	}
	// Of one without accounts nothing is remembered: anybody can name many.
	if len(s.kept.byRP[rpIDHash]) > 0 {
		s.kept.known[rpIDHash] = true
	}
	return s.kept.byRP[rpIDHash], nil
}

// discoverable returns the credentials that are managed, oldest first.
func (s *state) discoverable() ([]*credential, error) {
	if err := s.loadAll(); err != nil {
		return nil, err
	}
	var all []*credential
	for _, of := range s.kept.byRP {
		all = append(all, of...)
	}
	slices.SortFunc(all, byCreation)
	return all, nil
}

// loadAll takes all credentials off the shelf.
func (s *state) loadAll() error {
	if s.kept.whole {
		return nil
	}
	live, err := s.journal.reread()
	if err != nil {
		return err
	}
	defer wipeAll(live)
	var found []*credential
	for key, value := range live {
		if key.kind != kindCredential || s.kept.byID[key.key] != nil {
			continue
		}
		c, err := parseCredentialRecord([]byte(key.key), value)
		if err != nil {
			return fmt.Errorf("stored key: credential: %w", err)
		}
		found = append(found, c)
	}
	slices.SortFunc(found, byCreation)
	for _, c := range found {
		s.kept.add(c)
	}
	s.kept.whole = true
	return nil
}

// applyCredential brings the store up to a record. One that replaces another, or
// deletes it, comes when that has been found, and so is in memory.
func (s *state) applyCredential(rec record) error {
	var c *credential
	if rec.Value != nil {
		var err error
		if c, err = parseCredentialRecord(rec.Key, rec.Value); err != nil {
			return fmt.Errorf("credential: %w", err)
		}
	}
	if old := s.kept.byID[string(rec.Key)]; old != nil {
		s.kept.remove(old)
		s.count(old, -1)
	}
	if c != nil {
		s.kept.add(c)
		s.count(c, 1)
	}
	return nil
}

// count brings the tally up to a credential that has come, by 1, or gone, by -1.
func (s *state) count(c *credential, by int) {
	t := &s.kept.tally
	t.Stored += by
	t.Created = max(t.Created, c.created)
	if c.largeBlob != nil {
		t.LargeBlobs += by * len(c.largeBlob.Blob)
	}
	if c.discoverable {
		t.Discoverable += by
		s.relist(c)
	}
}

func byCreation(a, b *credential) int { return cmp.Compare(a.created, b.created) }

func (s *store) add(c *credential) {
	s.byID[string(c.id)] = c
	if c.discoverable {
		of := s.byRP[c.rpIDHash]
		at, _ := slices.BinarySearchFunc(of, c, byCreation)
		s.byRP[c.rpIDHash] = slices.Insert(of, at, c)
	}
}

// remove is the reverse of add.
func (s *store) remove(c *credential) {
	delete(s.byID, string(c.id))
	if !c.discoverable {
		return
	}
	of := s.byRP[c.rpIDHash]
	at := slices.Index(of, c)
	if of = slices.Delete(of, at, at+1); len(of) > 0 {
		s.byRP[c.rpIDHash] = of
		return
	}
	delete(s.byRP, c.rpIDHash)
	delete(s.known, c.rpIDHash)
}

// store gives a credential its ID and writes it down. A discoverable one
// replaces that of the same account (§6.1.2 step 17). It reports false if
// there is no room.
func (s *state) store(c *credential, capacity int) (ok bool, err error) {
	var recs []record
	if c.discoverable {
		accounts, err := s.accounts(c.rpIDHash)
		if err != nil {
			return false, err
		}
		for _, old := range accounts {
			if bytes.Equal(old.user.id, c.user.id) {
				recs = append(recs, record{Kind: kindCredential, Key: old.id})
			}
		}
	}
	if s.kept.tally.Stored-len(recs) >= capacity {
		return false, nil
	}
	c.id = randomBytes(storedIDLength)
	c.created = s.kept.tally.Created + 1
	rec, err := c.record()
	if err != nil {
		return false, err
	}
	err = s.commit(append(recs, rec)...)
	if errors.Is(err, errJournalFull) {
		return false, nil
	}
	return true, err
}
