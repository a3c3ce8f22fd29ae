package pin

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// A Secret holds bytes that must not be seen: a PIN, a token, a shared secret,
// an output of hmac-secret. Every way of printing one (fmt with any verb, slog,
// JSON, any encoding of text) gives "[secret]". Copies of a Secret share its
// bytes, so that wiping one wipes all. The zero Secret is empty.
//
// The bytes live behind two pointers: when a Secret is an unexported field of
// some other struct, fmt may not call its methods, and prints the first; where
// the verb does not fit it follows that one, and prints the second.
type Secret struct{ p **[]byte }

const printed = "[secret]"

// NewSecret returns a Secret that takes over b: the caller no longer uses it.
func NewSecret(b []byte) Secret {
	p := &b
	return Secret{&p}
}

// FromString returns a Secret with a copy of s. The string itself cannot be
// wiped: a program that reads its PIN as bytes uses NewSecret.
func FromString(s string) Secret { return NewSecret([]byte(s)) }

// Bytes returns the bytes themselves, not a copy: nil if the Secret is empty
// or wiped.
func (s Secret) Bytes() []byte {
	if s.p == nil {
		return nil
	}
	return **s.p
}

// Len returns the number of bytes.
func (s Secret) Len() int { return len(s.Bytes()) }

// Clone returns a Secret with a copy of the bytes, which outlives a Wipe of s.
func (s Secret) Clone() Secret {
	if s.Len() == 0 {
		return Secret{}
	}
	return NewSecret(append([]byte(nil), s.Bytes()...))
}

// Equal compares in constant time. Only the lengths can be learned from it.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), t.Bytes()) == 1
}

// Wipe overwrites the bytes with zeros and forgets them, in every copy of s.
func (s Secret) Wipe() {
	if s.p != nil {
		clear(**s.p)
		**s.p = nil
	}
}

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, printed) }

// String returns "[secret]".
func (s Secret) String() string { return printed }

// GoString returns "[secret]".
func (s Secret) GoString() string { return printed }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(printed) }

// MarshalText implements encoding.TextMarshaler, which JSON and others use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(printed), nil }
