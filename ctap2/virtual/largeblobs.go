package virtual

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/tapstone/fido/internal/ctap"
)

// largeBlobsConfig is the member of the answer to largeBlobs that has one
// (§6.10.2).
const largeBlobsConfig = 0x01

// greatestLargeBlobArray is the longest array that a Config may ask for; a record
// of the file has room for more.
const greatestLargeBlobArray = 512 << 10

// largeBlobsRequest is the parameters of largeBlobs (§6.10.2). What is absent is
// nil.
type largeBlobsRequest struct {
	get               *uint64 // 0x01
	set               []byte  // 0x02
	offset            *uint64 // 0x03
	length            *uint64 // 0x04
	pinUVAuthParam    []byte  // 0x05
	pinUVAuthProtocol *uint64 // 0x06
}

func parseLargeBlobs(params []byte) (*largeBlobsRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(largeBlobsRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.get = d.optionalUint()
		case 0x02:
			r.set = d.Bytes()
		case 0x03:
			r.offset = d.optionalUint()
		case 0x04:
			r.length = d.optionalUint()
		case 0x05:
			r.pinUVAuthParam = d.Bytes()
		case 0x06:
			r.pinUVAuthProtocol = d.optionalUint()
		}
	}
	return r, d.end()
}

// largeBlobs is authenticatorLargeBlobs, by the steps of §6.10.2.
func (a *Authenticator) largeBlobs(params []byte) (reply, error) {
	if !a.options()[optionLargeBlobs] {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	r, err := parseLargeBlobs(params)
	if err != nil {
		return nil, err
	}
	// Steps 1 to 3.
	if r.offset == nil || (r.get == nil) == (r.set == nil) {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	if r.get != nil {
		return a.getLargeBlobs(r)
	}
	return nil, a.setLargeBlobs(r)
}

// maxFragmentLength is the longest part of the array that one message carries
// (§6.10.2): nothing at all where messages are shorter than a platform may
// expect.
func (a *Authenticator) maxFragmentLength() uint64 {
	return uint64(max(0, a.cfg.MaxMsgSize-ctap.LargeBlobFragmentOverhead))
}

// getLargeBlobs is step 4.
func (a *Authenticator) getLargeBlobs(r *largeBlobsRequest) (reply, error) {
	// A platform must not interleave anything with a stateful command (§6): not
	// reading either.
	a.volatile.blobWrite = nil
	if r.length != nil || r.pinUVAuthParam != nil || r.pinUVAuthProtocol != nil {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	if *r.get > a.maxFragmentLength() {
		return nil, refusal(ctap.StatusInvalidLength)
	}
	array := a.state.largeBlobArray()
	if *r.offset > uint64(len(array)) {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	array = a.cfg.Faults.disturbLargeBlobs(array)
	rest := array[*r.offset:]
	fragment := rest[:min(*r.get, uint64(len(rest)))]
	return reply{largeBlobsConfig: a.cfg.Faults.disturbFragment(fragment, *r.get)}, nil
}

// blobWrite is a large-blob array of which not all has come yet. The one that
// is stored stays until all of it has, and is right.
type blobWrite struct {
	expectedLength uint64
	buffer         []byte // as long as expectedNextOffset
	token          *token // that authenticated the first fragment, nil if none did
}

// setLargeBlobs is step 5.
func (a *Authenticator) setLargeBlobs(r *largeBlobsRequest) error {
	length := uint64(len(r.set))
	if length > a.maxFragmentLength() {
		return refusal(ctap.StatusInvalidLength)
	}
	w := a.volatile.blobWrite
	if *r.offset == 0 {
		switch {
		case r.length == nil:
			return refusal(ctap.StatusInvalidParameter)
		case *r.length > uint64(a.cfg.MaxSerializedLargeBlobArray):
			return refusal(ctap.StatusLargeBlobStorageFull)
		case *r.length < ctap.LargeBlobMinSerialized:
			return refusal(ctap.StatusInvalidParameter)
		}
		w = &blobWrite{expectedLength: *r.length}
		a.volatile.blobWrite = w
	} else if r.length != nil {
		return refusal(ctap.StatusInvalidParameter)
	}
	// State does not outlive the token that authenticated it (§6).
	if w == nil || w.token != nil && w.token != a.token() {
		a.volatile.blobWrite = nil
		return refusal(ctap.StatusInvalidSeq)
	}
	if *r.offset != uint64(len(w.buffer)) {
		return refusal(ctap.StatusInvalidSeq)
	}
	token, err := a.authorizeLargeBlobs(r)
	if err != nil {
		return err
	}
	if *r.offset == 0 {
		w.token = token
	}
	if *r.offset+length > w.expectedLength {
		return refusal(ctap.StatusInvalidParameter)
	}
	w.buffer = append(w.buffer, r.set...)
	if uint64(len(w.buffer)) < w.expectedLength {
		return nil
	}
	a.volatile.blobWrite = nil
	if !validLargeBlobArray(w.buffer) {
		return refusal(ctap.StatusIntegrityFailure)
	}
	err = a.state.commit(record{Kind: kindLargeBlobArray, Value: w.buffer})
	if errors.Is(err, errJournalFull) {
		return refusal(ctap.StatusLargeBlobStorageFull)
	}
	return err
}

// authorizeLargeBlobs is the step of setLargeBlobs about user verification. It
// returns the token that authenticates the request, nil if there is no need for
// one.
func (a *Authenticator) authorizeLargeBlobs(r *largeBlobsRequest) (*token, error) {
	if !a.protectedByUV() && !a.options()[optionAlwaysUV] {
		return nil, nil
	}
	switch {
	case r.pinUVAuthParam == nil:
		return nil, refusal(ctap.StatusPUATRequired)
	case r.pinUVAuthProtocol == nil:
		return nil, refusal(ctap.StatusMissingParameter)
	}
	p, ok := a.protocol(*r.pinUVAuthProtocol)
	if !ok {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	message := bytes.Repeat([]byte{0xFF}, 32)
	message = append(message, ctap.CmdLargeBlobs, 0x00)
	message = binary.LittleEndian.AppendUint32(message, uint32(*r.offset))
	hash := sha256.Sum256(r.set)
	t := a.authenticate(p, r.pinUVAuthParam, message, hash[:])
	if !t.can(ctap.PermissionLargeBlobWrite) {
		return nil, refusal(ctap.StatusPINAuthInvalid)
	}
	return t, nil
}

// initialLargeBlobArray is what a key has before anything was written: an empty
// array and its digest (§6.10.3).
var initialLargeBlobArray = []byte{
	0x80,
	0x76, 0xBE, 0x8B, 0x52, 0x8D, 0x00, 0x75, 0xF7, 0xAA, 0xE9, 0x8D, 0x6F, 0xA5, 0x7A, 0x6D, 0x3C,
}

// largeBlobArray returns the stored serialized large-blob array.
func (s *state) largeBlobArray() []byte {
	if s.largeBlobs == nil {
		return initialLargeBlobArray
	}
	return s.largeBlobs
}

// validLargeBlobArray reports whether a serialized array ends with its digest.
// What else is in it is no business of the key's.
func validLargeBlobArray(array []byte) bool {
	n := len(array) - ctap.LargeBlobDigestLength
	if n < ctap.LargeBlobMinSerialized-ctap.LargeBlobDigestLength {
		return false
	}
	digest := sha256.Sum256(array[:n])
	return bytes.Equal(digest[:ctap.LargeBlobDigestLength], array[n:])
}
