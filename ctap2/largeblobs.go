package ctap2

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A LargeBlobRequest says which credential's large blob to read, write or
// delete, by the credential's key for large blobs or by its name.
type LargeBlobRequest struct {
	// Key is the credential's largeBlobKey, 32 bytes, if it is at hand; then
	// nothing is asked of the person to read. It stays the caller's.
	Key pin.Secret

	// Without a Key, an assertion by the credential obtains it, with a touch
	// and with what verification the key is set up for. Credential may be nil if
	// the key holds one discoverable credential for RPID.
	RPID       string
	Credential *CredentialDescriptor

	Data []byte // what PutLargeBlob writes, at most 1 MiB; may be empty

	// Token is a token that the caller holds: with permission lbw to write and
	// delete, with permission ga for RPID where there is no Key, which may be
	// one token. Without it, what the key demands is obtained.
	Token *Token
}

// A WriteLargeBlobArrayRequest replaces the large-blob array.
type WriteLargeBlobArrayRequest struct {
	Blobs LargeBlobs
	Token *Token // with permission lbw; nil: obtained if the key demands one
}

// LargeBlobs is the large-blob array of a key (§6.10.3): the blobs of all of its
// credentials, in the order in which they are stored.
type LargeBlobs []LargeBlob

// A LargeBlob is an element of the array. Raw is what the array holds and what
// is written to it; the other fields are read out of it, and zero in an element
// that is not a large-blob map.
type LargeBlob struct {
	Ciphertext []byte // AES-256-GCM, the tag of 16 bytes at its end
	Nonce      []byte // 12 bytes
	OrigSize   uint64 // bytes of the data before it was compressed
	Raw        []byte // CBOR
}

const (
	// maxLargeBlob is the largest blob that is written, or inflated: what
	// §6.10.4 would have a platform take at least.
	maxLargeBlob = 1 << 20
	// maxLargeBlobArray bounds what is read from a key, whatever it says of
	// itself: the largest there are hold a few kilobytes.
	maxLargeBlobArray = 1 << 19
)

// SealLargeBlob compresses data and encrypts it under a credential's
// largeBlobKey (§6.10.5). It refuses a key that is not of 32 bytes, and data of
// more than 1 MiB, with ErrInvalidRequest.
func SealLargeBlob(key pin.Secret, data []byte) (LargeBlob, error) {
	if len(data) > maxLargeBlob {
		return LargeBlob{}, invalid("a large blob of %d bytes", len(data))
	}
	aead, err := newLargeBlobCipher(key)
	if err != nil {
		return LargeBlob{}, err
	}
	return sealLargeBlob(aead, data)
}

func sealLargeBlob(aead cipher.AEAD, data []byte) (LargeBlob, error) {
	compressed := deflate(data)
	defer clear(compressed)
	b := LargeBlob{Nonce: make([]byte, ctap.LargeBlobNonceLength), OrigSize: uint64(len(data))}
	rand.Read(b.Nonce) // never fails
	b.Ciphertext = aead.Seal(nil, b.Nonce, compressed, b.associatedData())
	var err error
	b.Raw, err = cbor.Marshal(struct {
		Ciphertext []byte `cbor:"1,keyasint"`
		Nonce      []byte `cbor:"2,keyasint"`
		OrigSize   uint64 `cbor:"3,keyasint"`
	}{b.Ciphertext, b.Nonce, b.OrigSize})
	return b, err
}

// Open decrypts a blob with a credential's largeBlobKey and inflates it
// (§6.10.4). It returns ErrNoLargeBlob if the blob is another credential's; an
// error that wraps ErrMalformed if it does not inflate to OrigSize, or to more
// than 1 MiB; ErrInvalidRequest for a key that is not of 32 bytes.
func (b *LargeBlob) Open(key pin.Secret) ([]byte, error) {
	aead, err := newLargeBlobCipher(key)
	if err != nil {
		return nil, err
	}
	return b.open(aead)
}

func (b *LargeBlob) open(aead cipher.AEAD) ([]byte, error) {
	compressed, ok := b.decrypt(aead)
	if !ok {
		return nil, ErrNoLargeBlob
	}
	defer clear(compressed)
	data, err := inflate(compressed, b.OrigSize)
	if err != nil {
		return nil, fmt.Errorf("ctap2: large blob: %w", err)
	}
	return data, nil
}

// opens reports whether the blob was encrypted under the cipher's key.
func (b *LargeBlob) opens(aead cipher.AEAD) bool {
	compressed, ok := b.decrypt(aead)
	clear(compressed)
	return ok
}

func (b *LargeBlob) decrypt(aead cipher.AEAD) (compressed []byte, ok bool) {
	if len(b.Nonce) != ctap.LargeBlobNonceLength {
		return nil, false
	}
	compressed, err := aead.Open(nil, b.Nonce, b.Ciphertext, b.associatedData())
	return compressed, err == nil
}

func (b *LargeBlob) associatedData() []byte {
	return binary.LittleEndian.AppendUint64([]byte("blob"), b.OrigSize)
}

func newLargeBlobCipher(key pin.Secret) (cipher.AEAD, error) {
	if key.Len() != ctap.LargeBlobKeyLength {
		return nil, invalid("a largeBlobKey of %d bytes", key.Len())
	}
	block, err := aes.NewCipher(key.Bytes())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// without returns the elements that the key does not open, in their order.
func (l LargeBlobs) without(key cipher.AEAD) LargeBlobs {
	kept := make(LargeBlobs, 0, len(l)+1)
	for i := range l {
		if !l[i].opens(key) {
			kept = append(kept, l[i])
		}
	}
	return kept
}

// serialize returns the serialized large-blob array (§6.10.2): the array, and
// the first 16 bytes of its SHA-256. The elements stay as they are, also where
// an encoder would not have them.
func (l LargeBlobs) serialize() ([]byte, error) {
	const majorArray = 4 << 5
	serialized, err := cbor.Marshal(uint(len(l)))
	if err != nil {
		return nil, err
	}
	serialized[0] |= majorArray // the head of an array is that of its length
	for i, b := range l {
		if err := cbor.Check(b.Raw, cbor.Lenient); err != nil {
			return nil, invalid("Blobs[%d].Raw: %v", i, err)
		}
		serialized = append(serialized, b.Raw...)
	}
	digest := sha256.Sum256(serialized)
	return append(serialized, digest[:ctap.LargeBlobDigestLength]...), nil
}

// parseLargeBlobs reads a serialized large-blob array. whole reports that its
// digest is its own.
func parseLargeBlobs(serialized []byte) (list LargeBlobs, whole bool, err error) {
	n := len(serialized) - ctap.LargeBlobDigestLength
	if n < 1 {
		return nil, false, nil
	}
	digest := sha256.Sum256(serialized[:n])
	if !bytes.Equal(digest[:ctap.LargeBlobDigestLength], serialized[n:]) {
		return nil, false, nil
	}
	d := cbor.NewCursor(serialized[:n], cbor.Lenient)
	list = make(LargeBlobs, 0, d.Len())
	for range d.Array() {
		b := LargeBlob{Raw: d.Raw()}
		b.parse()
		list = append(list, b)
	}
	return list, true, d.Err()
}

// parse reads the element as a large-blob map (§6.10.3), if it is one.
func (b *LargeBlob) parse() {
	m := LargeBlob{Raw: b.Raw}
	var sized bool
	d := cbor.NewCursor(m.Raw, cbor.Lenient)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			m.Ciphertext = d.Bytes()
		case 0x02:
			m.Nonce = d.BytesLen(ctap.LargeBlobNonceLength)
		case 0x03:
			m.OrigSize, sized = d.Uint(), true
		}
	}
	if d.Err() == nil && m.Ciphertext != nil && m.Nonce != nil && sized {
		*b = m
	}
}

// GetLargeBlob reads the large blob of a credential (§6.10.4). It returns
// ErrNoLargeBlob if there is none, ErrNoLargeBlobKey if the credential cannot
// have one, and an error that wraps ErrMalformed if the array is not one or the
// blob does not inflate.
//
// A key that keeps blobs with its credentials instead of in an array, and has
// the extension largeBlob for it (§12.4), is asked through that: by RPID, since
// there are no keys.
//
// As all methods for a credential's large blob it refuses, with
// ErrInvalidRequest, a Key that is not of 32 bytes, a request with neither Key
// nor RPID, and, after the touch, one that several accounts match. It returns
// ErrUnsupported if the key has no large blobs, ErrNoCredentials if it does not
// hold the credential, and what GetAssertion and Token return.
func (a *Authenticator) GetLargeBlob(ctx context.Context, r *LargeBlobRequest) ([]byte, error) {
	c, err := a.beginLargeBlob(ctx, r)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if c.info.largeBlobsByExtension() {
		assertion, err := c.largeBlobAssertion(r, r.Token, LargeBlobRead())
		if err != nil {
			return nil, err
		}
		content, err := Output[LargeBlobContent](assertion.Extensions)
		if errors.Is(err, ErrNoOutput) {
			return nil, ErrNoLargeBlob
		}
		return content, err
	}
	key, err := c.largeBlobCipher(r, r.Token)
	if err != nil {
		return nil, err
	}
	blobs, err := c.readLargeBlobs()
	if err != nil {
		return nil, err
	}
	for i := range blobs {
		data, err := blobs[i].open(key)
		if !errors.Is(err, ErrNoLargeBlob) {
			return data, err
		}
	}
	return nil, ErrNoLargeBlob
}

// PutLargeBlob writes the large blob of a credential, in place of one that it
// has (§6.10.5, §6.10.6). All else in the array is kept as it is, byte for byte,
// also what is not a large-blob map. If the array would grow over the Info's
// MaxSerializedLargeBlobArray the error wraps ErrLargeBlobStorageFull; Data of
// more than 1 MiB is refused with ErrInvalidRequest.
//
// The key replaces its array as a whole, when all of it has arrived: a write
// that fails leaves the old one. But what another program writes between this
// method's reading and its writing is lost: the protocol has nothing to prevent
// it. Other methods of this Authenticator do not come between. A write that
// another program interrupts is done anew, once; then the error wraps
// ErrInterrupted.
//
// A key with the extension largeBlob writes only for a Credential that is named,
// and says only whether it did: if not, for whichever reason, the error wraps
// ErrLargeBlobStorageFull. Data that, compressed, does not fit into a message to
// such a key is not sent: the error wraps ErrMessageTooLarge.
func (a *Authenticator) PutLargeBlob(ctx context.Context, r *LargeBlobRequest) error {
	if r != nil && len(r.Data) > maxLargeBlob {
		return invalid("Data of %d bytes", len(r.Data))
	}
	c, err := a.beginLargeBlob(ctx, r)
	if err != nil {
		return err
	}
	defer c.end()
	if c.info.largeBlobsByExtension() {
		if r.Credential == nil {
			return invalid("no Credential")
		}
		assertion, err := c.largeBlobAssertion(r, r.Token, LargeBlobWrite(r.Data))
		if err != nil {
			return err
		}
		written, err := Output[LargeBlobWritten](assertion.Extensions)
		if err == nil && !bool(written) {
			return &Error{Command: ctap.CmdGetAssertion, Status: ErrLargeBlobStorageFull}
		}
		return err
	}
	return c.changeLargeBlob(r, func(others LargeBlobs, _ bool, key cipher.AEAD) (LargeBlobs, error) {
		sealed, err := sealLargeBlob(key, r.Data)
		return append(others, sealed), err
	})
}

// DeleteLargeBlob removes the large blob of a credential from the array; Data is
// not looked at. It returns ErrNoLargeBlob if there is none, and otherwise does
// as PutLargeBlob. A key with the extension largeBlob cannot do it:
// ErrUnsupported.
func (a *Authenticator) DeleteLargeBlob(ctx context.Context, r *LargeBlobRequest) error {
	c, err := a.beginLargeBlob(ctx, r)
	if err != nil {
		return err
	}
	defer c.end()
	if c.info.largeBlobsByExtension() {
		return fmt.Errorf("ctap2: %w: the key deletes a large blob with its credential", ErrUnsupported)
	}
	return c.changeLargeBlob(r, func(others LargeBlobs, existed bool, _ cipher.AEAD) (LargeBlobs, error) {
		if !existed {
			return nil, ErrNoLargeBlob
		}
		return others, nil
	})
}

// LargeBlobArray reads the whole array (§6.10.2), which takes no verification:
// to list it, or to keep a copy of it. An array that was never written, or is
// corrupt, which its digest shows, is empty. It returns ErrUnsupported if the
// key has none, and an error that wraps ErrMalformed if it is intact and not
// CBOR.
func (a *Authenticator) LargeBlobArray(ctx context.Context) (LargeBlobs, error) {
	c, err := a.beginLargeBlobs(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return c.readLargeBlobs()
}

// WriteLargeBlobArray replaces the whole array (§6.10.2), with all that other
// programs have in it. Of each element, its Raw is written: it refuses one that
// is not CBOR with ErrInvalidRequest. Otherwise it returns what PutLargeBlob
// does.
func (a *Authenticator) WriteLargeBlobArray(ctx context.Context, r *WriteLargeBlobArrayRequest) error {
	if r == nil {
		return invalid("no WriteLargeBlobArrayRequest")
	}
	c, err := a.beginLargeBlobs(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	return c.writingLargeBlobs(PermissionLargeBlobWrite, "", r.Token, func(t *Token) error {
		return c.writeLargeBlobs(r.Blobs, t)
	})
}

// CollectLargeBlobs removes from the array what none of the key's discoverable
// credentials opens (§6.10.7): the blobs of credentials that were deleted. What
// is not a large-blob map may be another program's, and stays. It returns how
// many elements it removed. Without a token, which may be nil, one with
// permissions cm and lbw is obtained.
//
// It returns ErrUnsupported if the key cannot list the keys of its credentials:
// not with the preview of credential management. It also does if there are
// credentials and blobs, and no credential is listed with a key: a key that
// leaves them out would lose every blob. Otherwise it returns what
// EnumerateCredentials and PutLargeBlob do.
func (a *Authenticator) CollectLargeBlobs(ctx context.Context, token *Token) (removed int, err error) {
	c, err := a.beginLargeBlobs(ctx)
	if err != nil {
		return 0, err
	}
	defer c.end()
	if !c.info.optionOn(OptionCredentialManagement) {
		return 0, fmt.Errorf("ctap2: %w: no credential management", ErrUnsupported)
	}
	err = c.authorized(PermissionCredentialManagement|PermissionLargeBlobWrite, "", token, func(t *Token) error {
		keys, credentials, err := c.largeBlobCiphers(t)
		if err != nil {
			return err
		}
		blobs, err := c.readLargeBlobs()
		if err != nil {
			return err
		}
		kept := make(LargeBlobs, 0, len(blobs))
		for i := range blobs {
			if c.ctx.Err() != nil {
				return fmt.Errorf("ctap2: %w", context.Cause(c.ctx))
			}
			if blobs[i].Nonce == nil || slices.ContainsFunc(keys, blobs[i].opens) {
				kept = append(kept, blobs[i])
			}
		}
		removed = len(blobs) - len(kept)
		switch {
		case removed == 0:
			return nil
		case len(keys) == 0 && credentials > 0:
			return fmt.Errorf("ctap2: %w: the key lists no credential with a largeBlobKey: whether it has none, or leaves them out, is not known (WriteLargeBlobArray writes regardless)", ErrUnsupported)
		}
		return c.writeLargeBlobs(kept, t)
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// largeBlobCiphers returns a cipher for each discoverable credential that has a
// largeBlobKey, and how many there are with or without one.
func (c *ceremony) largeBlobCiphers(t *Token) (ciphers []cipher.AEAD, credentials int, err error) {
	parties, err := c.enumerateRPs(t)
	if err != nil {
		return nil, 0, err
	}
	for _, rp := range parties {
		list, err := c.enumerateCredentials(rp, t, maxStored-credentials)
		if err != nil {
			return nil, 0, err
		}
		credentials += len(list)
		for _, s := range list {
			if s.LargeBlobKey.Len() == 0 {
				continue
			}
			aead, err := newLargeBlobCipher(s.LargeBlobKey)
			s.LargeBlobKey.Wipe()
			if err != nil {
				return nil, 0, err
			}
			ciphers = append(ciphers, aead)
		}
	}
	return ciphers, credentials, nil
}

// largeBlobsByExtension reports whether the key keeps large blobs with its
// credentials (§12.4) and has no array.
func (i *Info) largeBlobsByExtension() bool {
	return !i.optionOn(OptionLargeBlobs) && i.HasExtension("largeBlob")
}

func (a *Authenticator) beginLargeBlob(ctx context.Context, r *LargeBlobRequest) (*ceremony, error) {
	switch {
	case r == nil:
		return nil, invalid("no LargeBlobRequest")
	case r.Key.Len() != 0 && r.Key.Len() != ctap.LargeBlobKeyLength:
		return nil, invalid("Key of %d bytes", r.Key.Len())
	case r.Key.Len() == 0 && r.RPID == "":
		return nil, invalid("neither Key nor RPID")
	case r.Credential != nil && len(r.Credential.ID) == 0:
		return nil, invalid("Credential has no ID")
	}
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	c.rpID = r.RPID
	switch {
	case c.info.largeBlobsByExtension():
		if r.RPID == "" {
			err = invalid("no RPID: the key keeps large blobs with its credentials")
		}
	case !c.info.optionOn(OptionLargeBlobs), r.Key.Len() == 0 && !c.info.HasExtension("largeBlobKey"):
		err = errNoLargeBlobs
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func (a *Authenticator) beginLargeBlobs(ctx context.Context) (*ceremony, error) {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	if !c.info.optionOn(OptionLargeBlobs) {
		c.end()
		return nil, errNoLargeBlobs
	}
	return c, nil
}

var errNoLargeBlobs = fmt.Errorf("ctap2: %w: no large blobs", ErrUnsupported)

// largeBlobAssertion returns an assertion by the credential, for what an
// extension brings along. What is signed is the hash of nothing, good for no
// relying party.
func (c *ceremony) largeBlobAssertion(r *LargeBlobRequest, t *Token, e Extension) (*Assertion, error) {
	hash := sha256.Sum256(nil)
	request := &GetAssertionRequest{RPID: r.RPID, ClientDataHash: hash[:], Extensions: []Extension{e}, Token: t}
	if r.Credential != nil {
		request.AllowList = []CredentialDescriptor{*r.Credential}
	}
	accounts, err := c.signIn(request)
	if err != nil {
		return nil, err
	}
	if len(accounts) > 1 {
		wipeLargeBlobKeys(accounts)
		return nil, invalid("no Credential, and %d accounts to choose from", len(accounts))
	}
	return accounts[0], nil
}

// largeBlobCipher returns the cipher under the credential's largeBlobKey, which
// an assertion obtains unless the caller has it.
func (c *ceremony) largeBlobCipher(r *LargeBlobRequest, t *Token) (cipher.AEAD, error) {
	if r.Key.Len() != 0 {
		return newLargeBlobCipher(r.Key)
	}
	assertion, err := c.largeBlobAssertion(r, t, LargeBlobKey())
	if err != nil {
		return nil, err
	}
	defer assertion.LargeBlobKey.Wipe()
	if assertion.LargeBlobKey.Len() == 0 {
		return nil, ErrNoLargeBlobKey
	}
	return newLargeBlobCipher(assertion.LargeBlobKey)
}

// changeLargeBlob replaces the array by what change makes of the elements that
// are not the credential's. One token serves the assertion, which spends its
// permission ga and no other, and the write (§6.5.2.1).
func (c *ceremony) changeLargeBlob(r *LargeBlobRequest, change func(others LargeBlobs, existed bool, key cipher.AEAD) (LargeBlobs, error)) error {
	permissions, rpID := PermissionLargeBlobWrite, ""
	if r.Key.Len() == 0 {
		permissions, rpID = permissions|PermissionGetAssertion, r.RPID
	}
	var key cipher.AEAD // kept for a second run: the person has touched for it
	return c.writingLargeBlobs(permissions, rpID, r.Token, func(t *Token) error {
		if key == nil {
			var err error
			if key, err = c.largeBlobCipher(r, t); err != nil {
				return err
			}
		}
		for again := false; ; again = true {
			blobs, err := c.readLargeBlobs()
			if err != nil {
				return err
			}
			others := blobs.without(key)
			if blobs, err = change(others, len(others) < len(blobs), key); err != nil {
				return err
			}
			err = c.writeLargeBlobs(blobs, t)
			if again || !errors.Is(err, ErrInterrupted) {
				return err
			}
		}
	})
}

// writingLargeBlobs runs what ends in a write, with a token if the key demands
// one for that (§6.10.2): a protected one does, and one with alwaysUv.
func (c *ceremony) writingLargeBlobs(permissions Permission, rpID string, held *Token, run func(*Token) error) error {
	if held == nil && !c.info.protected() && !c.info.optionOn(OptionAlwaysUV) {
		err := run(nil)
		if !errors.Is(err, ErrPUATRequired) {
			return err
		}
		if _, err := c.fetchInfo(); err != nil { // someone has set a PIN meanwhile
			return err
		}
	}
	return c.authorized(permissions, rpID, held, run)
}

// largeBlobsParameters is the request of authenticatorLargeBlobs (§6.10.2).
type largeBlobsParameters struct {
	Get               int          `cbor:"1,keyasint,omitempty"`
	Set               []byte       `cbor:"2,keyasint,omitempty"`
	Offset            int          `cbor:"3,keyasint"`
	Length            int          `cbor:"4,keyasint,omitempty"` // of all fragments, with the first
	PINUVAuthParam    []byte       `cbor:"5,keyasint,omitempty"`
	PINUVAuthProtocol pin.Protocol `cbor:"6,keyasint,omitempty"`
}

// maxLargeBlobFragment is how many bytes are read or written at once (§6.10.2,
// maxFragmentLength), as far as messages can be framed. A key that leaves no
// room for an empty array breaks the specification, which has messages of 1024
// bytes at least.
func (i *Info) maxLargeBlobFragment() (int, error) {
	n := min(i.maxMsgSize(), ctap.MaxFramedMessage) - ctap.LargeBlobFragmentOverhead
	if n < ctap.LargeBlobMinSerialized {
		return 0, fmt.Errorf("ctap2: %w: large blobs and maxMsgSize %d", ErrMalformed, i.maxMsgSize())
	}
	return n, nil
}

// maxLargeBlobArray is how long the serialized array can be.
func (i *Info) maxLargeBlobArray() int {
	return min(max(i.MaxSerializedLargeBlobArray, ctap.LargeBlobMinArray), maxLargeBlobArray)
}

// readLargeBlobs reads the array. A wrong digest means that a write was torn,
// and the array counts as empty (§6.10.2). But where it was read in pieces,
// another program may have written between two of them: it is read once more
// then, lest that program's work be taken for nothing and overwritten.
func (c *ceremony) readLargeBlobs() (LargeBlobs, error) {
	for again := false; ; again = true {
		serialized, pieces, err := c.readSerializedLargeBlobs()
		if err != nil {
			return nil, err
		}
		blobs, whole, err := parseLargeBlobs(serialized)
		if err != nil {
			return nil, malformed(ctap.CmdLargeBlobs, err)
		}
		if whole || again || pieces == 1 {
			return blobs, nil
		}
	}
}

func (c *ceremony) readSerializedLargeBlobs() (serialized []byte, pieces int, err error) {
	fragment, err := c.info.maxLargeBlobFragment()
	if err != nil {
		return nil, 0, err
	}
	for pieces = 1; ; pieces++ {
		body, err := c.send(ctap.CmdLargeBlobs, 0, &largeBlobsParameters{Get: fragment, Offset: len(serialized)}, TouchPresence)
		if err != nil {
			return nil, 0, err
		}
		var config []byte
		d := cbor.NewCursor(body, c.a.rules)
		for key := range d.IntMap() {
			if key == 0x01 {
				config = d.Bytes()
			}
		}
		switch {
		case d.Err() != nil:
			err = d.Err()
		case config == nil:
			err = noMember("config")
		case len(config) > fragment:
			err = fmt.Errorf("%w: %d bytes, asked for %d", ErrMalformed, len(config), fragment)
		case len(serialized)+len(config) > c.info.maxLargeBlobArray():
			err = fmt.Errorf("%w: more than %d bytes", ErrMalformed, c.info.maxLargeBlobArray())
		}
		if err != nil {
			return nil, 0, malformed(ctap.CmdLargeBlobs, err)
		}
		serialized = append(serialized, config...)
		if len(config) < fragment {
			return serialized, pieces, nil
		}
	}
}

// writeLargeBlobs writes the array, authenticated with t unless nil: for each
// fragment, over 32 bytes that keep it from being the hash of client data, the
// command, a zero, the offset, and the fragment's hash. A key that has lost the
// fragments before was asked for something else meanwhile.
func (c *ceremony) writeLargeBlobs(blobs LargeBlobs, t *Token) error {
	fragment, err := c.info.maxLargeBlobFragment()
	if err != nil {
		return err
	}
	serialized, err := blobs.serialize()
	if err != nil {
		return err
	}
	if len(serialized) > c.info.maxLargeBlobArray() {
		return &Error{Command: ctap.CmdLargeBlobs, Status: ErrLargeBlobStorageFull}
	}
	for offset := 0; offset < len(serialized); offset += fragment {
		p := &largeBlobsParameters{Set: serialized[offset:min(offset+fragment, len(serialized))], Offset: offset}
		if offset == 0 {
			p.Length = len(serialized)
		}
		if t != nil {
			hash := sha256.Sum256(p.Set)
			message := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdLargeBlobs, 0x00)
			message = binary.LittleEndian.AppendUint32(message, uint32(offset))
			p.PINUVAuthParam, p.PINUVAuthProtocol = t.Authenticate(message, hash[:]), t.protocol
		}
		body, err := c.send(ctap.CmdLargeBlobs, 0, p, TouchPresence)
		if offset > 0 && errors.Is(err, ErrInvalidSeq) {
			err = fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
		if err != nil {
			return err
		}
		if len(body) > 0 {
			if err := cbor.Check(body, c.a.rules); err != nil {
				return malformed(ctap.CmdLargeBlobs, err)
			}
		}
	}
	return nil
}

// deflate compresses data with DEFLATE (RFC 1951), which has no header.
func deflate(data []byte) []byte {
	// With room for data that cannot be compressed the buffer does not grow, and
	// leaves no copy behind.
	b := bytes.NewBuffer(make([]byte, 0, len(data)+len(data)/256+64))
	w, _ := flate.NewWriter(b, flate.BestCompression) // fails for levels that do not exist
	_, _ = w.Write(data)                              // to memory
	_ = w.Close()
	return b.Bytes()
}

// inflate reverses deflate, if the result has size bytes, and not more than is
// good for anyone.
func inflate(compressed []byte, size uint64) ([]byte, error) {
	const bestRatio = 1032 // DEFLATE does no better
	if size > maxLargeBlob || size > uint64(len(compressed))*bestRatio {
		return nil, fmt.Errorf("%w: %d bytes deflated to %d", ErrMalformed, size, len(compressed))
	}
	r := flate.NewReader(bytes.NewReader(compressed))
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	if err == nil {
		var more [1]byte
		if _, err = io.ReadFull(r, more[:]); err == io.EOF {
			return data, nil
		}
	}
	clear(data)
	return nil, fmt.Errorf("%w: does not inflate to %d bytes", ErrMalformed, size)
}
