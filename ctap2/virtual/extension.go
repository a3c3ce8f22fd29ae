package virtual

import (
	"maps"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
)

// An extension is what the commands know of an extension (§12). Its functions
// get the input that the platform sent, which is canonical CBOR of any type;
// either may be nil.
type extension struct {
	id    string
	since Level
	// suits reports whether the extension goes with the rest of a Config; nil:
	// with all.
	suits func(cfg *Config) bool
	// unsigned: outputs are among the unsignedExtensionOutputs, not in
	// authenticator data.
	unsigned bool
	// The members of the answers that outputs are instead, 0 for none.
	makeCredentialMember uint64
	getAssertionMember   uint64
	// makeCredential may change the credential before it gets its ID. It
	// returns the output, nil for none, which may be a creationOutput.
	makeCredential func(a *Authenticator, mc *newCredential, input cbor.RawMessage) (output any, err error)
	// getAssertion reads the input once and returns what gives each
	// assertion its output, nil if none gets one.
	getAssertion func(a *Authenticator, ga *assertions, input cbor.RawMessage) (assertionOutput, error)
}

// An assertionOutput gives the output for the assertion of one credential, nil
// for none. getNextAssertion may ask for more until wipe is called.
type assertionOutput interface {
	output(a *Authenticator, ga *assertions, c *credential) (any, error)
	wipe()
}

// An outputFunc is an assertionOutput with nothing to wipe.
type outputFunc func(a *Authenticator, ga *assertions, c *credential) (any, error)

func (f outputFunc) output(a *Authenticator, ga *assertions, c *credential) (any, error) {
	return f(a, ga, c)
}

func (f outputFunc) wipe() {}

// A creationOutput gives an output of makeCredential that depends on the ID of
// the new credential, once it has one.
type creationOutput interface {
	created(a *Authenticator, c *credential, userVerified bool) (any, error)
	wipe()
}

// extensions are all there are, in the order in which they are carried out.
var extensions = []extension{credProtect, credBlob, largeBlobKey, largeBlob, minPINLength, pinComplexityPolicy, hmacSecret, hmacSecretMC, thirdPartyPayment}

// extensionsFor returns the identifiers of those that a key can have, by its
// level and what suits the rest of its configuration.
func extensionsFor(cfg *Config) []string {
	var ids []string
	for _, e := range extensions {
		if e.since <= cfg.Level && (e.suits == nil || e.suits(cfg)) {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// defaultExtensions are all of the key's level that suit the rest of its
// configuration, but for largeBlob: largeBlobKey is what it is an alternative to.
func (c Config) defaultExtensions() []string {
	c.Extensions = nil
	for _, e := range extensions {
		if e.since <= c.Level && e.id != largeBlobID {
			c.Extensions = append(c.Extensions, e.id)
		}
	}
	return extensionsFor(&c)
}

// has reports whether the key has an extension.
func (a *Authenticator) has(id string) bool { return slices.Contains(a.cfg.Extensions, id) }

// extensionOutputs are those of one answer, by where they go.
type extensionOutputs struct {
	signed   map[string]any // into authenticator data
	unsigned map[string]any // into unsignedExtensionOutputs
	members  reply
}

func newExtensionOutputs() *extensionOutputs {
	return &extensionOutputs{make(map[string]any), make(map[string]any), make(reply)}
}

// put adds the output of an extension, nil for none; member is its own in the
// answer, 0 if it has none.
func (o *extensionOutputs) put(e extension, member uint64, output any) {
	switch {
	case output == nil:
	case member != 0:
		o.members[member] = output
	case e.unsigned:
		o.unsigned[e.id] = output
	default:
		o.signed[e.id] = output
	}
}

// addTo adds what is not in authenticator data to an answer whose
// unsignedExtensionOutputs is member.
func (o *extensionOutputs) addTo(answer reply, member uint64) {
	maps.Copy(answer, o.members)
	if len(o.unsigned) > 0 {
		answer[member] = o.unsigned
	}
}

// inputDecoder reads an extension's input, which is checked already.
func inputDecoder(input cbor.RawMessage) *decoder {
	return &decoder{Cursor: cbor.NewCursor(input, cbor.Strict)}
}
