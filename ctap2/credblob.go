package ctap2

import "github.com/tapstone/fido/internal/cbor"

// CredBlobStored is the output of CredBlob in a registration: whether the key
// keeps the blob.
type CredBlobStored bool

// CredBlobOutput is the output of CredBlob in an assertion: what was stored
// with the credential, empty if nothing was.
type CredBlobOutput []byte

type credBlob struct{ blob []byte }

// CredBlob is the extension credBlob (§12.2). With a blob it belongs in a
// registration, and stores the blob with the credential: its output is a
// CredBlobStored. With nil it belongs in an assertion, and asks for the blob:
// its output is a CredBlobOutput. Nothing is sent to a key that does not list
// the extension.
//
// A blob longer than the Info's MaxCredBlobLength makes the command fail with
// ErrInvalidRequest, since the key would make the credential without it.
func CredBlob(blob []byte) Extension { return credBlob{blob} }

func (credBlob) Identifier() string { return "credBlob" }

func (e credBlob) Input(c *ExtensionContext) (any, error) {
	if c.Registering() != (e.blob != nil) {
		return nil, invalid("credBlob: a blob belongs in a registration, and only there")
	}
	if !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	if !c.Registering() {
		return true, nil
	}
	if limit := c.Info().MaxCredBlobLength; limit > 0 && len(e.blob) > limit {
		return nil, invalid("credBlob: a blob of %d bytes, the key takes %d", len(e.blob), limit)
	}
	return e.blob, nil
}

func (credBlob) Output(c *ExtensionContext, output []byte) (any, error) {
	d := cbor.NewCursor(output, cbor.Lenient)
	if c.Registering() {
		stored := CredBlobStored(d.Bool())
		return stored, d.Err()
	}
	blob := CredBlobOutput(d.Bytes())
	return blob, d.Err()
}
