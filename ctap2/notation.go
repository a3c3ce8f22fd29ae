package ctap2

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A scribe writes an item in diagnostic notation, and overwrites in the item
// itself what may not be seen: with zeros, and text with letters, so that it
// stays as well formed as it was. It goes on where a Cursor would stop, for
// what is wrong with a message is what people want to see, and overwrites all
// that comes behind a place where it cannot.
type scribe struct {
	command byte
	style   style
	data    []byte
	off     int
	broken  bool
	lost    int // bytes behind what broke it
	text    []byte
}

// style says what a scribe leaves out.
type style uint8

const (
	discreet  style = iota // what is hidden or personal
	accounts               // what is hidden
	comparing              // what may be another in a second session, lengths included
)

// describe returns the text for an item, empty for none, and a copy of it in
// which what the text leaves out is overwritten.
func describe(command byte, item []byte, sh *shape, style style) (text string, overwritten []byte) {
	const most = 128
	if len(item) == 0 {
		return "", nil
	}
	s := &scribe{command: command, style: style, data: slices.Clone(item)}
	s.item(sh, 0)
	s.end()
	if err := cbor.Check(item, cbor.Lenient); err != nil {
		s.text = s.text[:0]
		s.hex(s.data[:min(most, len(s.data))])
		if more := len(s.data) - most; more > 0 {
			s.comment(fmt.Sprintf("and %d bytes more", more))
		}
		s.comment(err.Error())
	}
	return string(s.text), s.data
}

func (s *scribe) write(format string, args ...any) { s.text = fmt.Appendf(s.text, format, args...) }

func (s *scribe) hex(b []byte) {
	s.text = append(hex.AppendEncode(append(s.text, "h'"...), b), '\'')
}

func (s *scribe) comment(text string) {
	if text != "" {
		s.write(" /%s/", text)
	}
}

// stop overwrites the rest, of which nothing is known.
func (s *scribe) stop() {
	if !s.broken {
		s.broken, s.lost = true, len(s.data)-s.off
	}
	clear(s.data[s.off:])
	s.off = len(s.data)
}

// end is where the data should end.
func (s *scribe) end() {
	if s.off < len(s.data) {
		s.stop()
	}
}

// Major types (RFC 8949 §3.1).
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

// indefinite is the additional information that stands for no length.
const indefinite = 31

// head reads an initial byte and its argument.
func (s *scribe) head() (major, info byte, arg uint64) {
	if s.off == len(s.data) {
		s.stop()
		return majorSimple, 0, 0
	}
	major, info = s.data[s.off]>>5, s.data[s.off]&0x1F
	s.off++
	switch {
	case info < 24:
		arg = uint64(info)
	case info <= 27:
		n := 1 << (info - 24)
		if n > len(s.data)-s.off {
			s.stop()
			break
		}
		for _, b := range s.data[s.off : s.off+n] {
			arg = arg<<8 | uint64(b)
		}
		s.off += n
	case info != indefinite || major < majorBytes || major > majorMap:
		s.stop()
	}
	if (major == majorBytes || major == majorText) && arg > uint64(len(s.data)-s.off) {
		s.stop()
	}
	return major, info, arg
}

// more reports whether element i of n is there.
func (s *scribe) more(i, n uint64, info byte) bool {
	const stop = 0xFF
	switch {
	case s.broken:
		return false
	case info != indefinite:
		return i < n
	case s.off < len(s.data) && s.data[s.off] == stop:
		s.off++
		return false
	}
	return true
}

// item writes one item.
func (s *scribe) item(sh *shape, depth int) {
	const deepest = 16 // as for a Cursor
	if s.style == comparing && (sh.sight == personal || sh.sight == fresh || sh.inside != nil) {
		start := len(s.text)
		defer func() { s.text = append(s.text[:start], "…"...) }()
	}
	if sh.choose != nil {
		n, _ := cbor.Prefix(s.data[s.off:], cbor.Lenient)
		sh = sh.choose(s.data[s.off : s.off+n])
	}
	major, info, arg := s.head()
	nests := info == indefinite || major == majorArray || major == majorMap || major == majorTag
	if nests && depth == deepest {
		s.stop()
	}
	if s.broken {
		return
	}
	switch major {
	case majorUint:
		s.write("%d", arg)
		if sh.value != nil && arg <= math.MaxInt64 {
			s.comment(sh.value(s.command, int64(arg)))
		}
	case majorNegInt:
		v := new(big.Int).Not(new(big.Int).SetUint64(arg))
		s.write("%d", v)
		if sh.value != nil && v.IsInt64() {
			s.comment(sh.value(s.command, v.Int64()))
		}
	case majorBytes, majorText:
		if info != indefinite {
			s.string(sh, major, int(arg))
			break
		}
		if sh.inside != nil { // its parts do not keep to the pieces
			sh = &shape{sight: hidden}
		}
		for i := uint64(0); s.more(i, 0, info); i++ {
			s.item(sh, depth+1)
		}
	case majorArray:
		s.write("[")
		for i := uint64(0); s.more(i, arg, info); i++ {
			s.comma(i)
			s.item(sh.element(), depth+1)
		}
		s.write("]")
	case majorMap:
		s.write("{")
		for i := uint64(0); s.more(i, arg, info); i++ {
			s.comma(i)
			member := s.key(sh, depth+1)
			s.write(": ")
			s.item(member, depth+1)
		}
		s.write("}")
	case majorTag:
		s.write("%d(", arg)
		s.item(sh, depth+1)
		s.write(")")
	case majorSimple:
		switch {
		case info >= 25: // CTAP has no floating-point numbers
			s.write("float'%0*x'", 2<<(info-24), arg)
		case arg >= 20 && arg <= 23:
			s.write("%s", [...]string{"false", "true", "null", "undefined"}[arg-20])
		default:
			s.write("simple(%d)", arg)
		}
	}
}

func (s *scribe) comma(i uint64) {
	if i > 0 {
		s.write(", ")
	}
}

// key writes a key, and returns the shape of what it is the key of.
func (s *scribe) key(sh *shape, depth int) *shape {
	start := s.off
	s.item(&shape{sight: shown}, depth)
	if s.broken {
		return new(shape)
	}
	var key any
	d := cbor.NewCursor(s.data[start:s.off], cbor.Lenient)
	switch s.data[start] >> 5 {
	case majorUint, majorNegInt:
		if n := d.Int(); n == int64(int32(n)) {
			key = int(n)
			s.comment(sh.member(key).name)
		}
	case majorText:
		key = d.Text()
	}
	return sh.member(key)
}

// string writes a string of n bytes.
func (s *scribe) string(sh *shape, major byte, n int) {
	b := s.data[s.off : s.off+n]
	s.off += n
	switch {
	case n > 0 && major == majorBytes && sh.inside != nil:
		in := &scribe{command: s.command, style: s.style, data: b}
		sh.inside(in)
		s.text = append(s.text, in.text...)
	case n > 0 && (sh.sight == hidden || sh.sight == personal && s.style != accounts):
		s.redact(b, major)
	case major == majorBytes:
		s.hex(b)
	default:
		s.write("%q", b)
	}
}

// redact overwrites a string.
func (s *scribe) redact(b []byte, major byte) {
	filler := byte(0)
	if major == majorText {
		filler = 'x'
	}
	for i := range b {
		b[i] = filler
	}
	if s.style == comparing {
		s.write("…")
	} else {
		s.write("redacted(%d)", len(b))
	}
}

// part writes the next n bytes, which have a name, and returns them.
func (s *scribe) part(n int, name string) []byte {
	if s.broken || n > len(s.data)-s.off {
		s.stop()
		return nil
	}
	b := s.data[s.off : s.off+n]
	s.off += n
	s.space()
	s.hex(b)
	s.comment(name)
	return b
}

func (s *scribe) space() {
	if len(s.text) > 0 {
		s.write(" ")
	}
}

// embedded writes the next bytes, which are an item.
func (s *scribe) embedded(sh *shape, name string) {
	s.space()
	s.write("<<")
	s.item(sh, 0)
	s.write(">>")
	s.comment(name)
}

// authData writes authenticator data (WebAuthn §6.1) by its parts.
func (s *scribe) authData() {
	_, err := ParseAuthenticatorData(slices.Clone(s.data))
	s.part(32, "rpIdHash")
	var flags Flags
	for _, b := range s.part(1, "flags") {
		flags = Flags(b)
		s.comment(flags.String())
	}
	s.part(4, "signCount")
	if flags.Has(FlagAttestedCredentialData) {
		s.part(16, "aaguid")
		length := 0
		for _, b := range s.part(2, "credentialIdLength") {
			length = length<<8 | int(b)
		}
		s.part(length, "credentialId")
		s.embedded(publicKey, "credentialPublicKey")
	}
	if flags.Has(FlagExtensionData) {
		s.embedded(&shape{members: extensions}, "extensions")
	}
	s.end()
	if s.lost > 0 {
		s.space()
		s.write("redacted(%d)", s.lost)
	}
	if err != nil {
		s.comment(err.Error())
	}
}

// largeBlobArray writes the serialized large-blob array (§6.10.2), whose digest
// is made to fit the overwritten one. A fragment of one is redacted as a whole.
func (s *scribe) largeBlobArray() {
	end, err := cbor.Prefix(s.data, cbor.Lenient)
	digest := func() []byte {
		sum := sha256.Sum256(s.data[:end])
		return sum[:ctap.LargeBlobDigestLength]
	}
	if err != nil || !bytes.Equal(digest(), s.data[end:]) {
		s.redact(s.data, majorBytes)
		return
	}
	s.embedded(&shape{each: largeBlobEntry}, "")
	s.part(ctap.LargeBlobDigestLength, "digest")
	copy(s.data[end:], digest())
}
