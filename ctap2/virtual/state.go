package virtual

import (
	"bytes"
	"crypto/cipher"
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
	kindMaster          byte = 1  // master secret, 32 bytes
	kindPIN             byte = 2  // pinRecord
	kindRetries         byte = 3  // retriesRecord
	kindSignCount       byte = 4  // signature counter, 4 bytes, big-endian
	kindCredential      byte = 5  // by credential ID: credentialRecord
	kindAttestation     byte = 6  // by AAGUID: attestationRecord
	kindPersistentToken byte = 7  // persistentPinUvAuthToken, 32 bytes
	kindFingerprint     byte = 8  // by template ID: fingerprintRecord
	kindSettings        byte = 9  // settings, if they are not those of the factory
	kindLargeBlobArray  byte = 10 // serialized large-blob array, if it is not the initial one
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
	pinRetries int
	uvRetries  int
	// uvCount is how often the key tried to verify its user since a PIN was
	// entered last (uvCountSinceLastPinEntry of getInfo).
	uvCount   uint32
	signCount uint32
	kept      store
	// unsealed has some of the credentials that were not stored, by their IDs:
	// those used of late, as parsing a private key takes a third of the time of a
	// signature.
	unsealed    map[string]*credential
	sealer      cipher.AEAD // for the IDs of credentials that are not stored
	attestation *attestation
	// fingerprints are in the order in which they were enrolled.
	fingerprints []fingerprint
	settings     settings
	factory      settings // what a reset makes of them
	// persistentToken is the persistentPinUvAuthToken. There is always one.
	persistentToken pin.Secret
	largeBlobs      []byte // serialized large-blob array; nil if it is the initial one
}

// pinRecord is what a key knows of its PIN.
type pinRecord struct {
	Hash            []byte `cbor:"1,keyasint,omitempty"` // CurrentStoredPIN; empty if none is set
	CodePointLength int    `cbor:"2,keyasint,omitempty"` // PINCodePointLength
	ForceChange     bool   `cbor:"3,keyasint,omitempty"` // forcePINChange of getInfo
	Trivial         bool   `cbor:"4,keyasint,omitempty"` // a PIN complexity policy would refuse it
}

// openState loads a key, or makes a new one.
func openState(cfg *Config) (*state, error) {
	s := &state{aaguid: cfg.AAGUID}
	var live map[recordKey][]byte
	if cfg.Path != "" {
		var err error
		if s.journal, live, err = openJournal(cfg.Path, shelving{kindCredential, credentialGroup, s.note}); err != nil {
			if errors.Is(err, ErrInUse) || errors.Is(err, errJournalDamaged) {
				err = fmt.Errorf("%s: %w", cfg.Path, err) // other errors name it
			}
			return nil, err
		}
	}
	if err := s.load(cfg, live); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// load reads what a file holds, which it wipes, and gives a new key what it needs.
func (s *state) load(cfg *Config, live map[recordKey][]byte) error {
	defer wipeAll(live)
	s.factory = factorySettings(cfg)
	s.settings = s.factory
	s.kept = newStore()
	for key, value := range live {
		rec := record{Kind: key.kind, Key: []byte(key.key), Value: value}
		if rec.Kind == kindCredential {
			continue
		}
		if err := s.apply(rec); err != nil {
			return fmt.Errorf("stored key: %w", err)
		}
	}
	if err := s.loadCredentials(live); err != nil {
		return fmt.Errorf("stored key: %w", err)
	}
	if err := s.settings.check(cfg); err != nil {
		return err
	}
	if s.master == nil {
		recs, err := factoryRecords(cfg, cfg.PIN)
		if err != nil {
			return err
		}
		if cfg.BuiltInUV == UVConfigured && cfg.managesFingerprints() {
			rec, err := s.newFingerprint(randomBytes(templateIDLength)).record()
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		if err := s.commit(recs...); err != nil {
			return err
		}
	}
	// Files of keys that were made before there was one lack it.
	if s.persistentToken.Bytes() == nil {
		if err := s.commit(newPersistentToken()); err != nil {
			return err
		}
	}
	if s.attestation == nil || cfg.EnterpriseAttestation && s.attestation.enterprise == nil {
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
	s.persistentToken.Wipe()
	s.sealer, s.unsealed = nil, nil
	if s.journal == nil {
		return nil
	}
	return s.journal.close()
}

// commit makes changes, all of them or none. It wipes their values: apply keeps
// copies of what it needs.
func (s *state) commit(recs ...record) error {
	defer wipe(recs)
	if s.journal != nil {
		limit := int64(maxJournal)
		if slices.ContainsFunc(recs, record.fillsUp) {
			limit -= journalReserve
		}
		if err := s.journal.putWithin(limit, recs...); err != nil {
			return err
		}
	}
	return s.applyAll(recs)
}

// fillsUp reports whether a record is of those that can be as many, or as long,
// as a file has room for. They leave a reserve to all others, so that a full key
// still counts, takes a PIN, and lets go of what it holds.
func (r record) fillsUp() bool {
	switch r.Kind {
	case kindCredential, kindFingerprint, kindSettings, kindLargeBlobArray:
		return r.Value != nil
	}
	return false
}

func wipe(recs []record) {
	for _, rec := range recs {
		clear(rec.Value)
	}
}

func (s *state) applyAll(recs []record) error {
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
		s.unsealed = make(map[string]*credential)
		var err error
		if s.sealer, err = s.newSealer(); err != nil {
			return err
		}
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
		// Files of before there was uvCount lack it.
		if n := len(rec.Value); n != 2 && n != 6 || rec.Value[0] > ctap.PINMaxRetries || rec.Value[1] > maxUVRetries {
			return errors.New("bad retry counters")
		}
		s.pinRetries, s.uvRetries, s.uvCount = int(rec.Value[0]), int(rec.Value[1]), 0
		if count := rec.Value[2:]; len(count) > 0 {
			s.uvCount = binary.BigEndian.Uint32(count)
		}
	case kindSignCount:
		if len(rec.Value) != 4 {
			return errors.New("bad signature counter")
		}
		s.signCount = binary.BigEndian.Uint32(rec.Value)
	case kindCredential:
		return s.applyCredential(rec)
	case kindAttestation:
		if !bytes.Equal(rec.Key, s.aaguid[:]) {
			return nil
		}
		var err error
		if s.attestation, err = parseAttestationRecord(rec.Value); err != nil {
			return fmt.Errorf("attestation: %w", err)
		}
	case kindPersistentToken:
		if len(rec.Value) != tokenLength {
			return errors.New("bad persistent token")
		}
		s.persistentToken.Wipe()
		s.persistentToken = pin.NewSecret(bytes.Clone(rec.Value))
	case kindFingerprint:
		return s.applyFingerprint(rec)
	case kindSettings:
		return s.applySettings(rec)
	case kindLargeBlobArray:
		if rec.Value != nil && !validLargeBlobArray(rec.Value) {
			return errors.New("bad large-blob array")
		}
		s.largeBlobs = bytes.Clone(rec.Value)
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
		p.Trivial = trivial(pin.FromString(factoryPIN))
	}
	pinRec, err := p.record()
	if err != nil {
		return nil, err
	}
	return []record{
		{Kind: kindMaster, Value: randomBytes(masterLength)},
		pinRec,
		retriesRecord(ctap.PINMaxRetries, maxUVRetries, 0),
		signCountRecord(0),
		newPersistentToken(),
	}, nil
}

func (p pinRecord) record() (record, error) {
	value, err := cbor.Marshal(p)
	return record{Kind: kindPIN, Value: value}, err
}

// retriesRecord is pinRetries and uvRetries, a byte each, and uvCount, 4 bytes,
// big-endian.
func retriesRecord(pinRetries, uvRetries int, uvCount uint32) record {
	value := binary.BigEndian.AppendUint32([]byte{byte(pinRetries), byte(uvRetries)}, uvCount)
	return record{Kind: kindRetries, Value: value}
}

func signCountRecord(n uint32) record {
	return record{Kind: kindSignCount, Value: binary.BigEndian.AppendUint32(nil, n)}
}

// reset makes the key a new one, but for its attestation keys. What a newer
// version has stored besides goes with the rest.
func (s *state) reset(cfg *Config) error {
	fresh, err := factoryRecords(cfg, "")
	if err != nil {
		return err
	}
	defer wipe(fresh)
	if s.journal != nil {
		// A file that is full has no room for the news that it is empty.
		if err := s.journal.replace(kindAttestation, fresh...); err != nil {
			return err
		}
	}
	s.kept = newStore()
	s.fingerprints = nil
	s.settings = s.factory
	s.largeBlobs = nil
	return s.applyAll(fresh)
}

// pinSet reports whether the key has a PIN. That of a file counts for nothing in
// a key that cannot have one.
func (a *Authenticator) pinSet() bool { return !a.cfg.NoClientPIN && len(a.state.pin.Hash) > 0 }

// setPIN replaces the PIN, and makes all tries of it available again: no others
// (§6.5.5.5 step 12). Nothing forces the new one to be changed. What also changes
// comes with it or not at all.
func (s *state) setPIN(newPIN pin.Secret, also ...record) error {
	rec, err := pinRecord{
		Hash:            pin.Hash(newPIN).Bytes(),
		CodePointLength: utf8.RuneCount(newPIN.Bytes()),
		Trivial:         trivial(newPIN),
	}.record()
	if err != nil {
		return err
	}
	return s.commit(append(also, rec, retriesRecord(ctap.PINMaxRetries, s.uvRetries, 0))...)
}

func (s *state) setRetries(pinRetries, uvRetries int) error {
	return s.commit(retriesRecord(pinRetries, uvRetries, s.uvCount))
}

// resetRetries makes all tries available again, and begins to count anew, as
// follows the entry of the right PIN.
func (s *state) resetRetries() error {
	return s.commit(retriesRecord(ctap.PINMaxRetries, maxUVRetries, 0))
}

// countUV writes a try of built-in user verification down before it is made.
// What it returns gives the try back.
func (s *state) countUV() (undo record, err error) {
	undo = retriesRecord(s.pinRetries, s.uvRetries, s.uvCount)
	return undo, s.commit(retriesRecord(s.pinRetries, s.uvRetries-1, s.uvCount+1))
}

// nextSignCount returns the signature counter of the next assertion. There is
// one counter for all credentials, because those that are not discoverable have
// no place for their own.
func (s *state) nextSignCount() (uint32, error) {
	err := s.commit(signCountRecord(s.signCount + 1))
	return s.signCount, err
}

// derive returns a key of 32 bytes for one purpose; context is public.
func (s *state) derive(purpose string, context ...[]byte) ([]byte, error) {
	return hkdf.Key(sha256.New, s.master, slices.Concat(context...), purpose, 32)
}
