package cbor

import (
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode/utf8"
)

// A Cursor reads one checked item, front to back, without reflection. Each
// method reads the item it stands on and steps behind it. The first item of
// another type than the one asked for stops the Cursor: from then on every
// method returns a zero value and Err says what was wrong and where, so that
// a decoder reads straight through and asks once, at the end.
//
// What Bytes and Raw return shares memory with the message.
type Cursor struct {
	data []byte
	off  int
	path [maxDepthLenient]int64 // integer keys on the way here; text keys are -1<<63
	deep int
	err  error
}

const textKey = math.MinInt64

// NewCursor checks data against rules and returns a Cursor at its start. If
// the check fails, the Cursor is one that has stopped.
func NewCursor(data []byte, rules Rules) *Cursor {
	c := &Cursor{data: data}
	c.err = Check(data, rules)
	return c
}

// Err returns what stopped the Cursor, nil if nothing did.
func (c *Cursor) Err() error { return c.err }

// fail stops the Cursor.
func (c *Cursor) fail(want string) {
	if c.err != nil {
		return
	}
	var where strings.Builder
	for _, key := range c.path[:c.deep] {
		switch {
		case key == textKey:
			where.WriteString("named member: ")
		case key < 0:
			fmt.Fprintf(&where, "member %d: ", key)
		default:
			fmt.Fprintf(&where, "member %#02x: ", key)
		}
	}
	got := "the end"
	if c.off < len(c.data) {
		got = [...]string{"an unsigned integer", "a negative integer", "a byte string", "a text string",
			"an array", "a map", "a tag", "a simple value"}[c.data[c.off]>>5]
		if c.data[c.off] == initialNull {
			got = "null"
		}
	}
	c.err = malformed("%s%s, not %s", where.String(), got, want)
}

// next reads a head of the given major type.
func (c *Cursor) next(major byte, want string) (arg uint64, ok bool) {
	if c.err != nil {
		return 0, false
	}
	got, arg, next, err := head(c.data, c.off)
	if err != nil || got != major {
		c.fail(want)
		return 0, false
	}
	c.off = next
	return arg, true
}

// Uint reads an unsigned integer.
func (c *Cursor) Uint() uint64 {
	v, _ := c.next(majorUint, "an unsigned integer")
	return v
}

// UintMax reads an unsigned integer of at most limit.
func (c *Cursor) UintMax(limit uint64) uint64 {
	at := c.off
	v, ok := c.next(majorUint, "an unsigned integer")
	if ok && v > limit {
		c.off = at
		c.fail(fmt.Sprintf("one of at most %d", limit))
		return 0
	}
	return v
}

// Int reads a signed integer.
func (c *Cursor) Int() int64 {
	if c.err != nil {
		return 0
	}
	major, arg, next, err := head(c.data, c.off)
	if err != nil || major > majorNegInt || arg > math.MaxInt64 {
		c.fail("an integer of 64 bits")
		return 0
	}
	c.off = next
	if major == majorNegInt {
		return -1 - int64(arg)
	}
	return int64(arg)
}

// Bool reads true or false.
func (c *Cursor) Bool() bool {
	if c.err != nil {
		return false
	}
	if !c.IsBool() {
		c.fail("a boolean")
		return false
	}
	c.off++
	return c.data[c.off-1] == initialTrue
}

// Bytes reads a byte string. It is never nil unless the Cursor has stopped.
func (c *Cursor) Bytes() []byte {
	n, ok := c.next(majorBytes, "a byte string")
	if !ok {
		return nil
	}
	c.off += int(n)
	return c.data[c.off-int(n) : c.off : c.off]
}

// BytesLen reads a byte string of exactly n bytes.
func (c *Cursor) BytesLen(n int) []byte {
	at := c.off
	b := c.Bytes()
	if c.err == nil && len(b) != n {
		c.off = at
		c.fail(fmt.Sprintf("one of %d bytes but of %d", n, len(b)))
		return nil
	}
	return b
}

// TextBytes reads a text string as the bytes it has in the message.
func (c *Cursor) TextBytes() []byte {
	n, ok := c.next(majorText, "a text string")
	if !ok {
		return nil
	}
	c.off += int(n)
	return c.data[c.off-int(n) : c.off : c.off]
}

// Text reads a text string. Identifiers of the specification cost no
// allocation; bytes that are not UTF-8, as keys leave them when they cut a
// name, become U+FFFD.
func (c *Cursor) Text() string { return String(c.TextBytes()) }

// String returns the text string that b is the bytes of, as Text does.
func String(b []byte) string {
	if len(b) < len(identifiers) {
		for _, s := range identifiers[len(b)] {
			if s == string(b) {
				return s
			}
		}
	}
	if !utf8.Valid(b) {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(b)
}

// Raw returns the item as it is encoded.
func (c *Cursor) Raw() RawMessage {
	if c.err != nil {
		return nil
	}
	start := c.off
	c.off = skip(c.data, c.off)
	return RawMessage(c.data[start:c.off:c.off])
}

// Skip steps over the item.
func (c *Cursor) Skip() {
	if c.err == nil {
		c.off = skip(c.data, c.off)
	}
}

// IsMap reports whether the Cursor stands on a map.
func (c *Cursor) IsMap() bool {
	return c.err == nil && c.off < len(c.data) && c.data[c.off]>>5 == majorMap
}

// IsBool reports whether the Cursor stands on true or false.
func (c *Cursor) IsBool() bool {
	return c.err == nil && c.off < len(c.data) && c.data[c.off]&^1 == initialFalse
}

// IsUint reports whether the Cursor stands on an unsigned integer.
func (c *Cursor) IsUint() bool {
	return c.err == nil && c.off < len(c.data) && c.data[c.off]>>5 == majorUint
}

// Len returns the number of items of the array, or of pairs of the map, that
// the Cursor stands on, without reading it; 0 if it stands on neither. It is
// never more than the bytes that are left.
func (c *Cursor) Len() int {
	if c.err != nil {
		return 0
	}
	major, arg, _, err := head(c.data, c.off)
	if err != nil || major != majorArray && major != majorMap {
		return 0
	}
	return int(arg)
}

// Array reads an array: the body of the loop reads one item each time, or
// none, in which case it is stepped over. The value is the item's index.
func (c *Cursor) Array() iter.Seq[int] {
	return func(yield func(int) bool) {
		n, _ := c.next(majorArray, "an array")
		for i := range int(n) {
			at := c.off
			more := yield(i)
			if c.err != nil {
				return
			}
			if c.off == at {
				c.off = skip(c.data, c.off)
			}
			if !more {
				for range int(n) - i - 1 {
					c.off = skip(c.data, c.off)
				}
				return
			}
		}
	}
}

// IntMap reads a map with integer keys: the body of the loop reads the value
// of the key it is given, or steps over it by reading nothing. Keys of other
// types are unknown members, and skipped.
func (c *Cursor) IntMap() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		c.pairs(func(major byte, arg uint64) (more bool) {
			if major > majorNegInt || arg > math.MaxInt64 {
				return true
			}
			key := int64(arg)
			if major == majorNegInt {
				key = -1 - key
			}
			c.path[c.deep-1] = key
			return yield(key)
		})
	}
}

// TextMap reads a map with text keys, like IntMap. The key shares memory with
// the message.
func (c *Cursor) TextMap() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c.pairs(func(major byte, arg uint64) (more bool) {
			if major != majorText {
				return true
			}
			c.path[c.deep-1] = textKey
			return yield(c.data[c.off-int(arg) : c.off : c.off])
		})
	}
}

// pairs walks the map the Cursor stands on. member is called behind each key, with
// the head of it, and reports whether to go on; a value that it leaves unread is
// stepped over.
func (c *Cursor) pairs(member func(major byte, arg uint64) (more bool)) {
	n, ok := c.next(majorMap, "a map")
	if !ok {
		return
	}
	c.deep++
	defer func() { c.deep-- }()
	more := true
	for range int(n) {
		major, arg, next, err := head(c.data, c.off)
		switch {
		case err != nil: // a member read on behind its own value
			return
		case major <= majorNegInt:
			c.off = next
		case major <= majorText:
			c.off = next + int(arg)
		default:
			c.off = skip(c.data, c.off)
		}
		value := c.off
		if more {
			if more = member(major, arg); c.err != nil {
				return
			}
		}
		if c.off == value {
			c.off = skip(c.data, value)
		}
	}
}

// identifiers are the text strings that every key sends, by length: one copy
// serves all.
var identifiers = func() (m [31][]string) {
	for _, s := range []string{
		"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_3",
		"credProtect", "credBlob", "largeBlobKey", "largeBlob", "minPinLength", "pinComplexityPolicy",
		"hmac-secret", "hmac-secret-mc", "thirdPartyPayment",
		"plat", "rk", "clientPin", "up", "uv", "pinUvAuthToken", "noMcGaPermissionsWithClientPin",
		"largeBlobs", "ep", "bioEnroll", "userVerificationMgmtPreview", "uvBioEnroll", "authnrCfg",
		"uvAcfg", "credMgmt", "credentialMgmtPreview", "perCredMgmtRO", "setMinPINLength",
		"makeCredUvNotRqd", "alwaysUv",
		"usb", "nfc", "ble", "hybrid", "internal", "smart-card", "cable",
		"public-key", "packed", "none", "fido-u2f", "tpm", "apple", "android-key", "android-safetynet",
		"id", "type", "name", "displayName", "alg", "sig", "x5c", "",
	} {
		m[len(s)] = append(m[len(s)], s)
	}
	return m
}()
