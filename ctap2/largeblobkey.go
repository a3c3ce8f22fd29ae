package ctap2

type largeBlobKey struct{}

// LargeBlobKey is the extension largeBlobKey (§12.3). In a registration, which is
// refused with ErrInvalidRequest unless it is one of a ResidentKey, it gives the
// credential a key of its own for large blobs; in an assertion it asks for that
// key. There is no output to read with Output: the key is in
// Credential.LargeBlobKey and Assertion.LargeBlobKey, for whoever holds them to
// wipe. GetLargeBlob and PutLargeBlob use the extension themselves. Nothing is
// sent to a key that does not list it.
func LargeBlobKey() Extension { return largeBlobKey{} }

func (largeBlobKey) Identifier() string { return "largeBlobKey" }

func (e largeBlobKey) Input(c *ExtensionContext) (any, error) {
	if c.Registering() && !c.c.discoverable {
		return nil, invalid("largeBlobKey: no ResidentKey")
	}
	if !c.Info().HasExtension(e.Identifier()) {
		return nil, nil
	}
	return true, nil
}

func (largeBlobKey) Output(*ExtensionContext, []byte) (any, error) { return nil, nil }

func wipeLargeBlobKeys(assertions []*Assertion) {
	for _, a := range assertions {
		a.LargeBlobKey.Wipe()
	}
}
