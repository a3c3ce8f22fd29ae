package virtual

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/tapstone/fido/pin"
)

// newPersistentToken is resetPersistentPinUvAuthToken (§6.5.4).
//
// The specification has a permission that is assigned to the token when a
// platform asks for pcmr, and taken away when the token is reset. That needs no
// variable here: who holds the token has been given the permission, and nobody
// holds one that has been reset.
func newPersistentToken() record {
	return record{Kind: kindPersistentToken, Value: randomBytes(tokenLength)}
}

// authenticatePersistent is verify(persistentPinUvAuthToken, message,
// pinUvAuthParam). The token is one for all protocols: platforms decrypt with it
// what getInfo encrypts, which knows of none.
func (a *Authenticator) authenticatePersistent(p pin.Protocol, param []byte, message ...[]byte) bool {
	return a.options()[optionPerCredMgmtRO] && p.Verify(a.state.persistentToken, param, message...)
}

// addEncrypted adds to getInfo what is for platforms with the persistent token
// (§6.4, encIdentifier and encCredStoreState). The members do not wait for a
// platform to ask for the token, which is there from the first power-up on, as
// it is after a reset: to all others they are random bytes, each time new ones,
// and members that come and go would tell them whether anybody has asked.
func (a *Authenticator) addEncrypted(info reply) error {
	if !a.options()[optionPerCredMgmtRO] {
		return nil
	}
	identifier, err := a.state.encryptPersistent("encIdentifier", nil)
	store, storeErr := a.state.encryptPersistent("encCredStoreState", a.state.listDigest())
	info[infoEncIdentifier] = identifier
	info[infoEncCredStoreState] = store
	return errors.Join(err, storeErr)
}

// listDigest returns a digest of the discoverable credentials as
// authenticatorCredentialManagement lists them: another one as soon as one is
// made, deleted or renamed, and never because of anything else. A platform that
// sees that of an earlier list again has that list again.
//
// It is the XOR of a digest of each, so that a change costs no more with many of
// them than with few. Their order adds nothing: a credential has its place for
// life. Who knew the digests could make lists whose XOR is the same; the master
// secret is in them, and none ever leaves the key.
func (s *state) listDigest() []byte {
	return s.kept.tally.Listed[:]
}

// relist adds a discoverable credential to listDigest, or takes it away again.
func (s *state) relist(c *credential) {
	b := bytes.Clone(s.master)
	defer clear(b)
	for _, part := range [][]byte{c.id, c.user.id, named(c.user.name), named(c.user.displayName)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	digest := sha256.Sum256(b)
	subtle.XORBytes(s.kept.tally.Listed[:], s.kept.tally.Listed[:], digest[:])
}

// named returns a name, and tells one that is empty from none.
func named(name *string) []byte {
	if name == nil {
		return nil
	}
	return append([]byte{'='}, *name...)
}

// encryptPersistent returns a member of getInfo, iv || AES-128-CBC under a key
// that the persistent token gives for that member. The plaintext is 16 bytes
// that stand for what they are of, to this key and until it is reset.
func (s *state) encryptPersistent(member string, of []byte) ([]byte, error) {
	plaintext, err := s.derive(member, of)
	key, keyErr := hkdf.Key(sha256.New, s.persistentToken.Bytes(), make([]byte, sha256.Size), member, 16)
	defer clear(key)
	block, blockErr := aes.NewCipher(key)
	if err := errors.Join(err, keyErr, blockErr); err != nil {
		return nil, err
	}
	encrypted := append(randomBytes(aes.BlockSize), plaintext[:aes.BlockSize]...)
	iv, ciphertext := encrypted[:aes.BlockSize], encrypted[aes.BlockSize:]
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, ciphertext)
	return encrypted, nil
}
