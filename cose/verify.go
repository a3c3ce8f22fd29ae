package cose

import (
	"crypto"
	"fmt"
)

// Verify checks that signature is one of message by k. The message is given
// whole, not hashed: in an assertion, the authenticator data followed by the
// hash of the client data (WebAuthn §6.3.3). ECDSA signatures are ASN.1 DER.
//
// It fails with [ErrSignature] if the signature is not, with
// [ErrUnsupportedAlgorithm] if k's algorithm is not available, and with
// [ErrInvalidKey] if k is not a valid key.
func (k *Key) Verify(message, signature []byte) error {
	pub, err := k.PublicKey()
	if err != nil {
		return err
	}
	if !k.Algorithm.Available() {
		return fmt.Errorf("%w: %v does not sign for credentials", ErrUnsupportedAlgorithm, k.Algorithm)
	}
	return k.Algorithm.verify(pub, message, signature)
}

// Verify checks that signature is one of message by pub, which is of a type
// that NewKey takes for alg. It is meant for keys that come in certificates,
// which is why it accepts [RS1] as well. Keys are held to the same rules as
// in [NewKey] and errors are those of [Key.Verify].
func Verify(alg Algorithm, pub crypto.PublicKey, message, signature []byte) error {
	k, err := NewKey(alg, pub)
	if err != nil {
		return err
	}
	if algorithms[alg].purpose == agreement {
		return fmt.Errorf("%w: %v does not sign", ErrUnsupportedAlgorithm, alg)
	}
	if pub, err = k.PublicKey(); err != nil {
		return err
	}
	return alg.verify(pub, message, signature)
}

// verify checks a signature by a key that alg's scheme decoded.
func (a Algorithm) verify(pub crypto.PublicKey, message, signature []byte) error {
	if !algorithms[a].scheme.Verify(pub, message, signature) {
		return fmt.Errorf("%w (%v)", ErrSignature, a)
	}
	return nil
}

// digest hashes message.
func digest(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
