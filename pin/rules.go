package pin

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/tapstone/fido/internal/ctap"
)

// Rules that a PIN can break (§6.5.1).
var (
	ErrNotUTF8  = errors.New("pin: PIN is not UTF-8")
	ErrTooShort = errors.New("pin: PIN is too short")
	ErrTooLong  = errors.New("pin: PIN is too long")
	// ErrZeroByte: the PIN contains a zero byte. The specification forbids one
	// at the end, where it would vanish in the padding; authenticators cut the
	// PIN at the first.
	ErrZeroByte = errors.New("pin: PIN contains a zero byte")
)

// Normalize returns the PIN in Unicode Normalization Form C, in which every
// platform enters it, in a Secret of its own. It refuses bytes that are not
// UTF-8 with ErrNotUTF8.
func Normalize(pin Secret) (Secret, error) {
	if !utf8.Valid(pin.Bytes()) {
		return Secret{}, ErrNotUTF8
	}
	// No character grows to more than three times its bytes, as U+1D160 does. A
	// buffer that had to grow would be left behind with a piece of the PIN.
	const growth = 3
	return NewSecret(norm.NFC.Append(make([]byte, 0, growth*pin.Len()), pin.Bytes()...)), nil
}

// Check reports which rule a normalized PIN breaks: between minLength and
// maxLength Unicode code points, at most 63 bytes, no zero byte. Zero lengths
// mean the specification's defaults, 4 and 63 (§6.4, minPINLength and
// maxPINLength). The error says the limit, and nothing of the PIN.
func Check(pin Secret, minLength, maxLength int) error {
	if minLength <= 0 {
		minLength = ctap.PINDefaultMinLength
	}
	if maxLength <= 0 {
		maxLength = ctap.PINDefaultMaxLength
	}
	b := pin.Bytes()
	switch n := utf8.RuneCount(b); {
	case !utf8.Valid(b):
		return ErrNotUTF8
	case bytes.IndexByte(b, 0) >= 0:
		return ErrZeroByte
	case n < minLength:
		return fmt.Errorf("%w: at least %d characters", ErrTooShort, minLength)
	case n > maxLength || len(b) > ctap.PINMaxBytes:
		return fmt.Errorf("%w: at most %d characters, and %d bytes in UTF-8", ErrTooLong, maxLength, ctap.PINMaxBytes)
	}
	return nil
}

// Pad returns the PIN followed by zero bytes, 64 bytes in all, as newPinEnc
// carries it encrypted (§6.5.5.5). It refuses more than 63 bytes with
// ErrTooLong.
func Pad(pin Secret) (Secret, error) {
	if pin.Len() > ctap.PINMaxBytes {
		return Secret{}, ErrTooLong
	}
	padded := make([]byte, ctap.PINPaddedLength)
	copy(padded, pin.Bytes())
	return NewSecret(padded), nil
}

// Unpad is the authenticator's side of Pad: the bytes before the first zero.
// It refuses anything but 64 bytes, and 64 bytes without a zero, with
// ErrTooLong.
func Unpad(padded []byte) (Secret, error) {
	n := bytes.IndexByte(padded, 0)
	if len(padded) != ctap.PINPaddedLength || n < 0 {
		return Secret{}, ErrTooLong
	}
	return NewSecret(bytes.Clone(padded[:n])), nil
}

// Hash returns LEFT(SHA-256(pin), 16), which stands for the PIN on the wire.
func Hash(pin Secret) Secret {
	sum := sha256.Sum256(pin.Bytes())
	hash := NewSecret(bytes.Clone(sum[:ctap.PINHashLength]))
	clear(sum[:])
	return hash
}
