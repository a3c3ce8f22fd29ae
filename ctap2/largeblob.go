package ctap2

import (
	"fmt"

	"github.com/tapstone/fido/internal/cbor"
)

// LargeBlobSupported is the output of LargeBlobSupport: whether the credential
// can have a large blob.
type LargeBlobSupported bool

// LargeBlobContent is the output of LargeBlobRead: the credential's large blob.
type LargeBlobContent []byte

// LargeBlobWritten is the output of LargeBlobWrite: whether the key has stored
// the blob.
type LargeBlobWritten bool

// largeBlob is the extension largeBlob, in what its three uses share.
type largeBlob struct{}

func (largeBlob) Identifier() string { return "largeBlob" }

type largeBlobSupport struct {
	largeBlob
	required bool
}

// LargeBlobSupport is the extension largeBlob of a registration (§12.4, CTAP
// 2.3): it asks for a credential that can have a large blob, which the key keeps
// with it. Its output is a LargeBlobSupported. Nothing is sent to a key that
// does not list the extension; if the blob is required, no credential is made
// then, and the error wraps ErrUnsupported.
func LargeBlobSupport(required bool) Extension { return largeBlobSupport{required: required} }

func (e largeBlobSupport) Input(c *ExtensionContext) (any, error) {
	if !c.Registering() {
		return nil, invalid("largeBlob: support belongs in a registration")
	}
	if !c.Info().HasExtension(e.Identifier()) {
		if e.required {
			return nil, fmt.Errorf("ctap2: %w", ErrUnsupported)
		}
		return nil, nil
	}
	support := "preferred"
	if e.required {
		support = "required"
	}
	return map[string]string{"support": support}, nil
}

func (largeBlobSupport) Output(_ *ExtensionContext, output []byte) (any, error) {
	supported, err := readLargeBlobFlag(output, "supported")
	return LargeBlobSupported(supported), err
}

type largeBlobRead struct{ largeBlob }

// LargeBlobRead is the extension largeBlob of an assertion (§12.4, CTAP 2.3): it
// asks for the credential's large blob. Its output is a LargeBlobContent of at
// most 1 MiB; if there is no blob the error wraps ErrNoOutput or ErrNoLargeBlob.
// Nothing is sent to a key that does not list the extension: GetLargeBlob also
// reads from one that has an array of large blobs.
func LargeBlobRead() Extension { return largeBlobRead{} }

func (e largeBlobRead) Input(c *ExtensionContext) (any, error) {
	if c.Registering() {
		return nil, invalid("largeBlob: reading belongs in an assertion")
	}
	if !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	return map[string]bool{"read": true}, nil
}

func (largeBlobRead) Output(_ *ExtensionContext, output []byte) (any, error) {
	var blob []byte
	var size uint64
	var sized bool
	d := cbor.NewCursor(output, cbor.Lenient)
	for name := range d.TextMap() {
		switch string(name) {
		case "blob":
			blob = d.Bytes()
		case "originalSize":
			size, sized = d.Uint(), true
		}
	}
	err := d.Err()
	switch {
	case err != nil:
	case blob == nil && !sized:
		err = ErrNoLargeBlob
	case blob == nil:
		err = noMember("blob")
	case !sized:
		err = noMember("originalSize")
	default:
		blob, err = inflate(blob, size)
	}
	if err != nil {
		return LargeBlobContent(nil), err
	}
	return LargeBlobContent(blob), nil
}

type largeBlobWrite struct {
	largeBlob
	data []byte
}

// LargeBlobWrite is the extension largeBlob of an assertion (§12.4, CTAP 2.3):
// it stores data as the credential's large blob, in place of one that it has.
// The credential has to be named in the AllowList. Its output is a
// LargeBlobWritten. Data of more than 1 MiB makes the command fail with
// ErrInvalidRequest, and compressed data that does not fit into a message, with
// ErrMessageTooLarge. Nothing is sent to a key that does not list the extension:
// PutLargeBlob also writes to one that has an array of large blobs.
func LargeBlobWrite(data []byte) Extension { return largeBlobWrite{data: data} }

func (e largeBlobWrite) Input(c *ExtensionContext) (any, error) {
	switch {
	case c.Registering():
		return nil, invalid("largeBlob: writing belongs in an assertion")
	case len(e.data) > maxLargeBlob:
		return nil, invalid("largeBlob: %d bytes", len(e.data))
	}
	if !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	compressed := deflate(e.data)
	defer clear(compressed)
	encoded, err := cbor.Marshal(struct {
		Write        []byte `cbor:"write"`
		OriginalSize int    `cbor:"originalSize"`
	}{compressed, len(e.data)})
	return cbor.RawMessage(encoded), err
}

func (largeBlobWrite) Output(_ *ExtensionContext, output []byte) (any, error) {
	written, err := readLargeBlobFlag(output, "written")
	return LargeBlobWritten(written), err
}

// readLargeBlobFlag reads an output that has one boolean member.
func readLargeBlobFlag(output []byte, member string) (flag bool, err error) {
	found := false
	d := cbor.NewCursor(output, cbor.Lenient)
	for name := range d.TextMap() {
		if string(name) == member {
			flag, found = d.Bool(), true
		}
	}
	if d.Err() == nil && !found {
		return false, noMember(member)
	}
	return flag, d.Err()
}
