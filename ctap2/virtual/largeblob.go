package virtual

import (
	"errors"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

const largeBlobID = "largeBlob"

// largeBlob is the extension of that identifier (§12.4): a blob per credential,
// which the platform has compressed, that comes and goes with an assertion. A
// key has it or largeBlobKey. Only credentials that were made with the extension
// have a place for one.
var largeBlob = extension{
	id:       largeBlobID,
	since:    CTAP23,
	suits:    func(cfg *Config) bool { return !slices.Contains(cfg.Extensions, largeBlobKeyID) },
	unsigned: true,
	makeCredential: func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (any, error) {
		support, err := parseLargeBlobSupport(input)
		if err != nil {
			return nil, err
		}
		// Nobody who merely prefers it should go without a credential that
		// would not have been stored.
		if support == "preferred" && !mc.rk && a.remainingCredentials() == 0 {
			return map[string]any{"supported": false}, nil
		}
		mc.cred.largeBlob = new(storedLargeBlob)
		return map[string]any{"supported": true}, nil
	},
	getAssertion: func(_ *Authenticator, ga *assertions, input cbor.RawMessage) (assertionOutput, error) {
		r, err := parseLargeBlob(input)
		switch {
		case err != nil:
			return nil, err
		case r.write == nil:
			return outputFunc(readLargeBlob), nil
		case len(ga.allowList) != 1:
			return outputFunc(refuseLargeBlob), nil
		}
		return outputFunc(r.writeLargeBlob), nil
	},
}

// parseLargeBlobSupport reads the input of makeCredential. Whatever is wrong
// with it is INVALID_CBOR (§12.4).
func parseLargeBlobSupport(input cbor.RawMessage) (string, error) {
	d := inputDecoder(input)
	var support string
	for key := range d.TextMap() {
		if string(key) == "support" {
			support = d.Text()
		}
	}
	if d.end() != nil || support != "required" && support != "preferred" {
		return "", refusal(ctap.StatusInvalidCBOR)
	}
	return support, nil
}

// largeBlobRequest is the input of getAssertion. To read, write is nil.
type largeBlobRequest struct {
	write        []byte
	originalSize uint64
}

// parseLargeBlob reads the input of getAssertion: read and nothing else, or
// write and originalSize. Whatever is wrong with it is INVALID_CBOR (§12.4).
func parseLargeBlob(input cbor.RawMessage) (*largeBlobRequest, error) {
	d := inputDecoder(input)
	r := new(largeBlobRequest)
	var read *bool
	var originalSize *uint64
	for key := range d.TextMap() {
		switch string(key) {
		case "read":
			read = d.optionalBool()
		case "write":
			r.write = d.Bytes()
		case "originalSize":
			originalSize = d.optionalUint()
		}
	}
	writes := r.write != nil
	if d.end() != nil || isFalse(read) || (read != nil) == writes || (originalSize != nil) != writes {
		return nil, refusal(ctap.StatusInvalidCBOR)
	}
	if writes {
		r.originalSize = *originalSize
	}
	return r, nil
}

// storedLargeBlob is the place for the large blob of a credential.
type storedLargeBlob struct {
	Written      bool   `cbor:"1,keyasint,omitempty"`
	Blob         []byte `cbor:"2,keyasint,omitempty"`
	OriginalSize uint64 `cbor:"3,keyasint,omitempty"`
}

// readLargeBlob returns the blob of a credential, if one was written.
func readLargeBlob(_ *Authenticator, _ *assertions, c *credential) (any, error) {
	if c.largeBlob == nil || !c.largeBlob.Written {
		return nil, nil
	}
	blob := append([]byte{}, c.largeBlob.Blob...) // not nil, which is not a byte string
	return map[string]any{"blob": blob, "originalSize": c.largeBlob.OriginalSize}, nil
}

// refuseLargeBlob is the output for a blob that is for nobody in particular:
// that of an assertion for which there could be several credentials.
func refuseLargeBlob(*Authenticator, *assertions, *credential) (any, error) {
	return map[string]any{"written": false}, nil
}

// answerReserve is how many bytes of an answer are for what is neither a large
// blob nor a credBlob.
const answerReserve = 1024

// writeLargeBlob stores the blob with a credential, if there is room. Neither a
// touch nor a verified user is needed: §12.4 asks for none beyond what the
// assertion itself takes, and an assertion can do without both.
func (r *largeBlobRequest) writeLargeBlob(a *Authenticator, ga *assertions, c *credential) (any, error) {
	written := false
	if c.largeBlob != nil && len(r.write) <= a.cfg.MaxMsgSize-answerReserve-a.cfg.MaxCredBlobLength {
		blob := &storedLargeBlob{Written: true, Blob: r.write, OriginalSize: r.originalSize}
		var err error
		if written, err = a.state.storeLargeBlob(c, blob, a.cfg.MaxSerializedLargeBlobArray); err != nil {
			return nil, err
		}
		ga.counted = written
	}
	return map[string]any{"written": written}, nil
}

// storeLargeBlob replaces the blob of a stored credential, and counts the
// assertion that it comes with: both or neither. It reports false if the blobs of
// all would then be longer than capacity, or there is no room in the file.
func (s *state) storeLargeBlob(c *credential, blob *storedLargeBlob, capacity int) (ok bool, err error) {
	if s.kept.tally.LargeBlobs-len(c.largeBlob.Blob)+len(blob.Blob) > capacity {
		return false, nil
	}
	changed := *c
	changed.largeBlob = blob
	rec, err := changed.record()
	if err != nil {
		return false, err
	}
	err = s.commit(rec, signCountRecord(s.signCount+1))
	if errors.Is(err, errJournalFull) {
		return false, nil
	}
	return err == nil, err
}
