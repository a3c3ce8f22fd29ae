// Package cbor is the CTAP2 message encoding (CTAP 2.3 §8): canonical CBOR
// out, and CBOR from devices, which is not always canonical, in.
//
// Encoding is fxamacker/cbor's; the Append functions are for a message that is
// sent so often that reflection counts. Decoding has two doors. Check walks a message
// once and settles everything about its bytes: that the item is complete, of
// definite lengths, shallow, without a duplicate key at any depth and without
// anything behind it. After it, a Cursor reads a reply member by member with
// exact types: null is not a zero value and an array is not a byte string,
// both of which reflection-based decoding lets pass. Unmarshal, for values
// whose Go type the caller brings, is Check followed by fxamacker/cbor.
package cbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	fx "github.com/fxamacker/cbor/v2"
)

// RawMessage is an encoded item, kept as it is.
type RawMessage = fx.RawMessage

// Rules says how much Check demands.
type Rules uint8

const (
	// Lenient accepts what real keys send although they should not: map keys
	// out of order, integers longer than need be, text that is not UTF-8.
	Lenient Rules = iota
	// Strict refuses everything that is not CTAP2 canonical CBOR.
	Strict
)

// Nesting limits: CTAP2 allows four levels (§8); devices get some slack.
const (
	maxDepthStrict  = 4
	maxDepthLenient = 16
)

// ErrMalformed is what every error of Check, Prefix, Cursor and Unmarshal wraps.
var ErrMalformed = errors.New("malformed CBOR")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

var encMode = must(fx.CTAP2EncOptions().EncMode())

var decMode = must(fx.DecOptions{
	DupMapKey:         fx.DupMapKeyEnforcedAPF,
	IndefLength:       fx.IndefLengthForbidden,
	TagsMd:            fx.TagsForbidden,
	MaxNestedLevels:   maxDepthLenient,
	FieldNameMatching: fx.FieldNameMatchingCaseSensitive,
	UTF8:              fx.UTF8DecodeInvalid,
	IntDec:            fx.IntDecConvertNone,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options: cannot happen in a build that passed one test
	}
	return v
}

// Marshal encodes v as CTAP2 canonical CBOR.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, v uint64) []byte { return appendHead(b, majorUint, v) }

// AppendBytes appends a byte string.
func AppendBytes(b, v []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(v))), v...) }

// AppendText appends a text string.
func AppendText(b []byte, v string) []byte {
	return append(appendHead(b, majorText, uint64(len(v))), v...)
}

// AppendArray appends the start of an array of n items, which are the caller's
// to append.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendMap appends the start of a map of n pairs. They are the caller's to
// append, and so is their order.
func AppendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

// appendHead appends an initial byte and its argument, in the fewest bytes.
func appendHead(b []byte, major byte, arg uint64) []byte {
	switch major <<= 5; {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(b, major|24, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), arg)
}

// Unmarshal checks data leniently and decodes it into v, which fxamacker/cbor
// describes: a pointer to a struct with cbor tags, a map, a slice or any.
// Unlike a Cursor it takes null for "leave v as it is".
func Unmarshal(data []byte, v any) error {
	if err := Check(data, Lenient); err != nil {
		return err
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// Check reports whether data is exactly one item that keeps to rules.
func Check(data []byte, rules Rules) error {
	n, err := Prefix(data, rules)
	if err == nil && n != len(data) {
		err = malformed("%d bytes after the item", len(data)-n)
	}
	return err
}

// Prefix returns the length in bytes of the item at the start of data, after
// the checks of Check on it. What follows the item is not looked at.
func Prefix(data []byte, rules Rules) (int, error) {
	return check(data, 0, rules, 0)
}

// Major types.
const (
	majorUint = iota
	majorNegInt
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Simple values, as they stand in an initial byte.
const (
	initialFalse = 0xF4
	initialTrue  = 0xF5
	initialNull  = 0xF6
)

// head reads the initial byte at off and its argument, and returns the offset
// behind both. Strings must fit in data: an argument that promises more than
// there is fails here, before anyone allocates for it.
func head(data []byte, off int) (major byte, arg uint64, next int, err error) {
	if off >= len(data) {
		return 0, 0, 0, malformed("item cut short at byte %d", off)
	}
	initial := data[off]
	major, info := initial>>5, initial&0x1F
	off++
	switch {
	case info < 24:
		arg = uint64(info)
	case info <= 27:
		n := 1 << (info - 24)
		if len(data)-off < n {
			return 0, 0, 0, malformed("item cut short at byte %d", off)
		}
		for _, b := range data[off : off+n] {
			arg = arg<<8 | uint64(b)
		}
		off += n
	case info == 31:
		return 0, 0, 0, malformed("indefinite length at byte %d", off-1)
	default:
		return 0, 0, 0, malformed("reserved initial byte %#02x at byte %d", initial, off-1)
	}
	left := uint64(len(data) - off)
	switch major {
	case majorBytes, majorText, majorArray:
		if arg > left {
			return 0, 0, 0, malformed("length %d at byte %d, %d bytes are left", arg, off, left)
		}
	case majorMap:
		if arg > left/2 {
			return 0, 0, 0, malformed("%d pairs at byte %d, %d bytes are left", arg, off, left)
		}
	}
	return major, arg, off, nil
}

// shortest reports whether the head that ends at next uses the fewest bytes.
func shortest(arg uint64, size int) bool {
	switch size {
	case 1:
		return true
	case 2:
		return arg >= 24
	case 3:
		return arg > 0xFF
	case 5:
		return arg > 0xFFFF
	}
	return arg > 0xFFFFFFFF
}

// span is an item's place in the message.
type span struct{ start, end int }

func check(data []byte, off int, rules Rules, depth int) (int, error) {
	major, arg, next, err := head(data, off)
	if err != nil {
		return 0, err
	}
	if rules == Strict && major != majorSimple && !shortest(arg, next-off) {
		return 0, malformed("not in shortest form at byte %d", off)
	}
	limit := maxDepthLenient
	if rules == Strict {
		limit = maxDepthStrict
	}
	switch major {
	case majorUint, majorNegInt:
		return next, nil
	case majorBytes, majorText:
		end := next + int(arg)
		if rules == Strict && major == majorText && !utf8.Valid(data[next:end]) {
			return 0, malformed("text at byte %d is not UTF-8", off)
		}
		return end, nil
	case majorArray:
		if depth == limit {
			return 0, malformed("nested deeper than %d levels at byte %d", limit, off)
		}
		for range arg {
			if next, err = check(data, next, rules, depth+1); err != nil {
				return 0, err
			}
		}
		return next, nil
	case majorMap:
		if depth == limit {
			return 0, malformed("nested deeper than %d levels at byte %d", limit, off)
		}
		return checkMap(data, next, int(arg), rules, depth+1)
	case majorTag:
		if rules == Strict || depth == limit {
			return 0, malformed("tag at byte %d", off)
		}
		return check(data, next, rules, depth+1)
	default:
		if next-off == 2 && arg < 32 {
			return 0, malformed("reserved simple value at byte %d", off)
		}
		if initial := data[off]; rules == Strict && next-off <= 2 && (initial < initialFalse || initial > initialNull) {
			return 0, malformed("simple value %#02x at byte %d", initial, off)
		}
		return next, nil
	}
}

// checkMap checks n pairs at off. Keys that ascend, as canonical ones do,
// cannot repeat; only a map that breaks the order pays for a sorted list of
// its keys.
func checkMap(data []byte, off, n int, rules Rules, depth int) (int, error) {
	start := off
	var last span
	ascending := true
	for i := range n {
		end, err := check(data, off, rules, depth)
		if err != nil {
			return 0, err
		}
		key := span{off, end}
		if i > 0 && ascending {
			switch order := compareKeys(data, last, key); {
			case order == 0:
				return 0, malformed("duplicate key at byte %d", off)
			case order > 0 && rules == Strict:
				return 0, malformed("keys out of order at byte %d", off)
			case order > 0:
				ascending = false
			}
		}
		if rules == Strict && data[off]>>5 > majorText {
			return 0, malformed("map key at byte %d is neither integer nor string", off)
		}
		last = key
		if off, err = check(data, end, rules, depth); err != nil {
			return 0, err
		}
	}
	if ascending {
		return off, nil
	}
	keys := make([]span, 0, n)
	for at := start; at < off; {
		end := skip(data, at)
		keys = append(keys, span{at, end})
		at = skip(data, end)
	}
	slices.SortFunc(keys, func(a, b span) int { return compareKeys(data, a, b) })
	for i := 1; i < len(keys); i++ {
		if compareKeys(data, keys[i-1], keys[i]) == 0 {
			return 0, malformed("duplicate key at byte %d", max(keys[i-1].start, keys[i].start))
		}
	}
	return off, nil
}

// compareKeys orders two keys as CTAP2 does: by major type, then by length of
// the encoding, then by bytes. Integers and strings are compared by value, so
// that 1 and a longer form of 1 are the same key.
func compareKeys(data []byte, a, b span) int {
	majorA, argA, nextA, _ := head(data, a.start)
	majorB, argB, nextB, _ := head(data, b.start)
	if majorA != majorB {
		return int(majorA) - int(majorB)
	}
	if majorA <= majorText && argA != argB { // a string's argument is its length
		if argA < argB {
			return -1
		}
		return 1
	}
	switch majorA {
	case majorUint, majorNegInt:
		return 0
	case majorBytes, majorText:
		return slices.Compare(data[nextA:a.end], data[nextB:b.end])
	}
	if lenA, lenB := a.end-a.start, b.end-b.start; lenA != lenB {
		return lenA - lenB
	}
	return slices.Compare(data[a.start:a.end], data[b.start:b.end])
}

// skip returns the offset behind the item at off, in data that was checked.
func skip(data []byte, off int) int {
	for pending := 1; pending > 0; pending-- {
		major, arg, next, err := head(data, off)
		if err != nil {
			return len(data)
		}
		off = next
		switch major {
		case majorBytes, majorText:
			off += int(arg)
		case majorArray:
			pending += int(arg)
		case majorMap:
			pending += 2 * int(arg)
		case majorTag:
			pending++
		}
	}
	return off
}
