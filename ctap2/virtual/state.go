package virtual

import (
	"bytes"
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Kinds of records that a key consists of. They are in files: a number, once
// used, keeps its meaning.
const (
	kindMaster      byte = 1 // master secret, 32 bytes
	kindPIN         byte = 2 // pinRecord
	kindRetries     byte = 3 // pinRetries, uvRetries: a byte each
	kindSignCount   byte = 4 // signature counter, 4 bytes, big-endian
	kindCredential  byte = 5 // by credential ID: credentialRecord
	kindAttestation byte = 6 // by AAGUID: attestationRecord
)

const (
	masterLength = 32
	// maxUVRetries is the number of tries of built-in user verification, of 1
	// to 25 (§6.5.2.3).
	maxUVRetries = 5
)

// state is what a key keeps without power. Each change is a batch of records:
// they reach the file first, if there is one, and then the fields, by the same
// function that reads the file. So a field never holds what a crash would
// undo, and the file never lacks what a field holds.
type state struct {
	journal *journal // nil in memory
	aaguid  [16]byte

	master []byte
	pin    pinRecord
	// pinRetries is written down before a PIN is compared: losing power
	// in between must not buy another try.
	pinRetries  int
	uvRetries   int
	signCount   uint32
	credentials []*credential // oldest first
	attestation *attestation
}

// pinRecord is what a key knows of its PIN.
type pinRecord struct {
	Hash            []byte `cbor:"1,keyasint,omitempty"` // CurrentStoredPIN; empty if none is set
	CodePointLength int    `cbor:"2,keyasint,omitempty"` // PINCodePointLength
	ForceChange     bool   `cbor:"3,keyasint,omitempty"` // forcePINChange of getInfo
}

// openState loads a key, or makes a new one.
func openState(cfg *Config) (*state, error) {
	s := &state{aaguid: cfg.AAGUID}
	var live map[recordKey][]byte
	if cfg.Path != "" {
		var err error
		if s.journal, live, err = openJournal(cfg.Path); err != nil {
			return nil, err
		}
	}
	if err := s.load(cfg, live); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *state) load(cfg *Config, live map[recordKey][]byte) error {
	for key, value := range live {
		if err := s.apply(record{Kind: key.kind, Key: []byte(key.key), Value: value}); err != nil {
			return fmt.Errorf("stored key: %w", err)
		}
	}
	if s.master == nil {
		recs, err := factoryRecords(cfg, cfg.PIN)
		if err != nil {
			return err
		}
		if err := s.commit(recs...); err != nil {
			return err
		}
	}
	if s.attestation == nil {
		rec, err := newAttestation(cfg.AAGUID)
		if err != nil {
			return err
		}
		return s.commit(rec)
	}
	return nil
}

// close closes the file and forgets the secrets that stand for all others.
func (s *state) close() error {
	clear(s.master)
	clear(s.pin.Hash)
	if s.journal == nil {
		return nil
	}
	return s.journal.close()
}

// commit makes changes, all of them or none.
func (s *state) commit(recs ...record) error {
	if s.journal != nil {
		if err := s.journal.put(recs...); err != nil {
			return err
		}
	}
	for _, rec := range recs {
		if err := s.apply(rec); err != nil {
			return err
		}
	}
	return nil
}

// apply brings the fields up to a record. Records that it does not know are a
// newer version's, and left alone.
func (s *state) apply(rec record) error {
	switch rec.Kind {
	case kindMaster:
		if len(rec.Value) != masterLength {
			return errors.New("bad master secret")
		}
		clear(s.master)
		s.master = bytes.Clone(rec.Value)
	case kindPIN:
		var p pinRecord
		if err := cbor.Unmarshal(rec.Value, &p); err != nil {
			return fmt.Errorf("PIN: %w", err)
		}
		if len(p.Hash) != 0 && len(p.Hash) != ctap.PINHashLength {
			return errors.New("PIN: bad length")
		}
		clear(s.pin.Hash)
		s.pin = p
	case kindRetries:
		if len(rec.Value) != 2 || rec.Value[0] > ctap.PINMaxRetries || rec.Value[1] > maxUVRetries {
			return errors.New("bad retry counters")
		}
		s.pinRetries, s.uvRetries = int(rec.Value[0]), int(rec.Value[1])
	case kindSignCount:
		if len(rec.Value) != 4 {
			return errors.New("bad signature counter")
		}
		s.signCount = binary.BigEndian.Uint32(rec.Value)
	case kindCredential:
		s.credentials = slices.DeleteFunc(s.credentials, func(c *credential) bool { return bytes.Equal(c.id, rec.Key) })
		if rec.Value == nil {
			return nil
		}
		c, err := parseCredentialRecord(rec.Key, rec.Value)
		if err != nil {
			return fmt.Errorf("credential: %w", err)
		}
		at, _ := slices.BinarySearchFunc(s.credentials, c, func(a, b *credential) int {
			return cmp.Compare(a.created, b.created)
		})
		s.credentials = slices.Insert(s.credentials, at, c)
	case kindAttestation:
		if !bytes.Equal(rec.Key, s.aaguid[:]) {
			return nil
		}
		var err error
		if s.attestation, err = parseAttestationRecord(rec.Value); err != nil {
			return fmt.Errorf("attestation: %w", err)
		}
	}
	return nil
}

// factoryRecords are those of a key that nobody has used yet.
func factoryRecords(cfg *Config, factoryPIN string) ([]record, error) {
	var p pinRecord
	if factoryPIN != "" {
		p.ForceChange = cfg.ForcePINChange
		p.Hash = pin.Hash(pin.FromString(factoryPIN)).Bytes()
		p.CodePointLength = utf8.RuneCountInString(factoryPIN)
	}
	pinRec, err := p.record()
	if err != nil {
		return nil, err
	}
	return []record{
		{Kind: kindMaster, Value: randomBytes(masterLength)},
		pinRec,
		retriesRecord(ctap.PINMaxRetries, maxUVRetries),
		signCountRecord(0),
	}, nil
}

func (p pinRecord) record() (record, error) {
	value, err := cbor.Marshal(p)
	return record{Kind: kindPIN, Value: value}, err
}

func retriesRecord(pinRetries, uvRetries int) record {
	return record{Kind: kindRetries, Value: []byte{byte(pinRetries), byte(uvRetries)}}
}

func signCountRecord(n uint32) record {
	return record{Kind: kindSignCount, Value: binary.BigEndian.AppendUint32(nil, n)}
}

// reset makes the key a new one, but for its attestation key.
func (s *state) reset(cfg *Config) error {
	var recs []record
	for _, c := range s.credentials {
		recs = append(recs, record{Kind: kindCredential, Key: c.id})
	}
	fresh, err := factoryRecords(cfg, "")
	if err != nil {
		return err
	}
	return s.commit(append(recs, fresh...)...)
}

// pinSet reports whether the key has a PIN.
func (s *state) pinSet() bool { return len(s.pin.Hash) > 0 }

// setPIN replaces the PIN, and makes all tries available again. Nothing forces
// the new one to be changed.
func (s *state) setPIN(newPIN pin.Secret) error {
	rec, err := pinRecord{
		Hash:            pin.Hash(newPIN).Bytes(),
		CodePointLength: utf8.RuneCount(newPIN.Bytes()),
	}.record()
	if err != nil {
		return err
	}
	return s.commit(rec, retriesRecord(ctap.PINMaxRetries, maxUVRetries))
}

func (s *state) setRetries(pinRetries, uvRetries int) error {
	return s.commit(retriesRecord(pinRetries, uvRetries))
}

// nextSignCount returns the signature counter of the next assertion. There is
// one counter for all credentials, because those that are not discoverable have
// no place for their own.
func (s *state) nextSignCount() (uint32, error) {
	err := s.commit(signCountRecord(s.signCount + 1))
	return s.signCount, err
}

// nextCreated returns the creation number of the next stored credential.
func (s *state) nextCreated() uint64 {
	if len(s.credentials) == 0 {
		return 1
	}
	return s.credentials[len(s.credentials)-1].created + 1
}

// derive returns a key of 32 bytes for one purpose; context is public.
func (s *state) derive(purpose string, context ...[]byte) ([]byte, error) {
	return hkdf.Key(sha256.New, s.master, slices.Concat(context...), purpose, 32)
}
