package ctap2_test

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// store is a canned key with a large-blob array. It keeps the array as bytes,
// and knows nothing of what is in it.
type store struct {
	*canned
	*issuer
	t        testing.TB
	fragment int
	array    []byte
	pending  []byte
	open     bool // takes writes without a token

	gets, sets int
	read       func(config []byte) []byte // changes what is read
	status     byte                       // what it answers to a write
}

// emptyArray is the initial serialized large-blob array (§6.10.2).
const emptyArray = "80 76be8b528d0075f7aae98d6fa57a6d3c"

func newStore(t testing.TB, p pin.Protocol, change ...func(info members)) *store {
	t.Helper()
	info := basicInfo()
	info[2] = []string{"largeBlobKey"}
	info[4] = map[string]bool{"clientPin": true, "pinUvAuthToken": true, "largeBlobs": true, "credMgmt": true}
	info[5], info[6], info[11] = 1200, []int{int(p)}, 4096
	for _, f := range change {
		f(info)
	}
	maxMsgSize, said := info[5].(int)
	if !said {
		maxMsgSize = 1024
	}
	s := &store{canned: newCanned(t, info), t: t, fragment: min(maxMsgSize, ctap.MaxFramedMessage) - 64, array: raw(t, emptyArray)}
	s.issuer = withTokens(t, s.canned, p)
	s.on(ctap.CmdLargeBlobs, s.largeBlobs)
	return s
}

func withoutPIN(info members) {
	info[4] = map[string]bool{"clientPin": false, "pinUvAuthToken": true, "largeBlobs": true}
}

func (s *store) largeBlobs(message []byte) []byte {
	var request struct {
		Get      *int         `cbor:"1,keyasint"`
		Set      []byte       `cbor:"2,keyasint"`
		Offset   *int         `cbor:"3,keyasint"`
		Length   *int         `cbor:"4,keyasint"`
		Param    []byte       `cbor:"5,keyasint"`
		Protocol pin.Protocol `cbor:"6,keyasint"`
	}
	if err := cbor.Check(message[1:], cbor.Strict); err != nil {
		s.t.Error(err)
	}
	if err := cbor.Unmarshal(message[1:], &request); err != nil || request.Offset == nil || (request.Get == nil) == (request.Set == nil) {
		s.t.Errorf("%x: %v", message, err)
		return []byte{byte(ctap2.ErrInvalidParameter)}
	}
	offset := *request.Offset
	if request.Get != nil {
		s.gets++
		if *request.Get != s.fragment || request.Param != nil || request.Length != nil {
			s.t.Errorf("%x: asks for %d bytes, the most are %d", message, *request.Get, s.fragment)
		}
		if offset > len(s.array) {
			return []byte{byte(ctap2.ErrInvalidParameter)}
		}
		config := s.array[offset:min(offset+*request.Get, len(s.array))]
		if s.read != nil {
			config = s.read(config)
		}
		return ok(s.t, members{1: config})
	}
	s.sets++
	hash := sha256.Sum256(request.Set)
	covered := slices.Concat(bytes.Repeat([]byte{0xFF}, 32), []byte{0x0C, 0x00},
		binary.LittleEndian.AppendUint32(nil, uint32(offset)), hash[:])
	switch {
	case s.status != 0:
		return []byte{s.status}
	case len(request.Set) > s.fragment:
		return []byte{byte(ctap2.ErrInvalidLength)}
	case request.Param == nil && !s.open:
		return []byte{byte(ctap2.ErrPUATRequired)}
	case request.Param != nil && !s.verify(request.Protocol, request.Param, covered):
		return []byte{byte(ctap2.ErrPINAuthInvalid)}
	case (offset == 0) != (request.Length != nil):
		return []byte{byte(ctap2.ErrInvalidParameter)}
	case offset == 0:
		s.pending = make([]byte, 0, *request.Length)
	case offset != len(s.pending):
		return []byte{byte(ctap2.ErrInvalidSeq)}
	}
	if s.pending = append(s.pending, request.Set...); len(s.pending) == cap(s.pending) {
		s.array = s.pending
	}
	return []byte{0}
}

// expectTransfers wants so many reads and writes since the last call.
func (s *store) expectTransfers(gets, sets int) {
	s.t.Helper()
	if s.gets != gets || s.sets != sets {
		s.t.Errorf("%d reads and %d writes, want %d and %d", s.gets, s.sets, gets, sets)
	}
	s.gets, s.sets = 0, 0
}

// hold puts elements into the array.
func (s *store) hold(elements ...[]byte) {
	s.array = serialized(elements...)
}

// serialized is an array of fewer than 24 elements, and its digest.
func serialized(elements ...[]byte) []byte {
	return reseal(append([]byte{0x80 | byte(len(elements))}, slices.Concat(elements...)...))
}

// elements are what is in the array, encoded.
func (s *store) elements() [][]byte {
	s.t.Helper()
	hash := sha256.Sum256(s.array[:len(s.array)-16])
	if !bytes.Equal(hash[:16], s.array[len(s.array)-16:]) {
		s.t.Errorf("the digest of %x is wrong", s.array)
	}
	var list [][]byte
	d := cbor.NewCursor(s.array[:len(s.array)-16], cbor.Lenient)
	for range d.Array() {
		list = append(list, d.Raw())
	}
	if d.Err() != nil {
		s.t.Errorf("%x: %v", s.array, d.Err())
	}
	return list
}

// sealed makes a large-blob map of its own accord (§6.10.3).
func sealed(t testing.TB, key, compressed []byte, origSize uint64, more ...members) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	rand.Read(nonce)
	data := binary.LittleEndian.AppendUint64([]byte("blob"), origSize)
	m := members{1: aead.Seal(nil, nonce, compressed, data), 2: nonce, 3: origSize}
	for _, other := range more {
		maps.Copy(m, other)
	}
	b, err := cbor.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

func blobKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// byKey is a request with the key at hand.
func byKey(n byte, data ...byte) *ctap2.LargeBlobRequest {
	return &ctap2.LargeBlobRequest{Key: pin.NewSecret(blobKey(n)), Data: data}
}

func eachStore(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	for _, p := range []pin.Protocol{pin.One, pin.Two} {
		t.Run(p.String(), func(t *testing.T) { test(t, newStore(t, p)) })
	}
}

func TestLargeBlob(t *testing.T) {
	eachStore(t, func(t *testing.T, s *store) {
		key := open(t, s, anyPIN())
		ctx := t.Context()
		random := make([]byte, 3000)
		rand.Read(random)
		if _, err := key.GetLargeBlob(ctx, byKey(1)); !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("an empty store: %v", err)
		}
		s.expectTransfers(1, 0)
		for _, data := range [][]byte{[]byte("first"), {}, random, bytes.Repeat([]byte("again "), 20_000)} {
			if err := key.PutLargeBlob(ctx, byKey(1, data...)); err != nil {
				t.Fatalf("%d bytes: %v", len(data), err)
			}
			s.issuer.expect(ctap.PermissionLargeBlobWrite)
			got, err := key.GetLargeBlob(ctx, byKey(1))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
			if n := len(s.elements()); n != 1 {
				t.Errorf("%d elements for one credential", n)
			}
		}
		if err := key.PutLargeBlob(ctx, byKey(2, 'x')); err != nil {
			t.Fatal(err)
		}
		if err := key.DeleteLargeBlob(ctx, byKey(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := key.GetLargeBlob(ctx, byKey(1)); !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("a deleted blob: %v", err)
		}
		if err := key.DeleteLargeBlob(ctx, byKey(1)); !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("deleted twice: %v", err)
		}
		if got, err := key.GetLargeBlob(ctx, byKey(2)); err != nil || string(got) != "x" {
			t.Errorf("the other one: %q, %v", got, err)
		}
		if err := key.DeleteLargeBlob(ctx, byKey(2)); err != nil || !bytes.Equal(s.array, raw(t, emptyArray)) {
			t.Errorf("empty again: %x, %v", s.array, err)
		}
		request := byKey(3, 1)
		if err := key.PutLargeBlob(ctx, request); err != nil || !bytes.Equal(request.Key.Bytes(), blobKey(3)) {
			t.Errorf("the caller's key was touched, %v", err)
		}
	})
}

// What others have made is read, whatever else their maps hold; what is not a
// large-blob map is passed over, and kept byte for byte in a write.
func TestLargeBlobOfOthers(t *testing.T) {
	s := newStore(t, pin.Two)
	data := []byte("made by another platform")
	alien := [][]byte{
		raw(t, "f6"), raw(t, "01"), raw(t, "43010203"), raw(t, "80"), raw(t, "c2 40"),
		raw(t, "a3 01 40 02 4b 0102030405060708090a0b 03 00"),     // nonce of 11 bytes
		raw(t, "a2 01 40 02 4c 0102030405060708090a0b0c"),         // no origSize
		raw(t, "a3 01 40 02 4c 0102030405060708090a0b0c 03 20"),   // negative
		raw(t, "a3 01 60 02 4c 0102030405060708090a0b0c 03 00"),   // text
		raw(t, "a3 01 40 02 4c 0102030405060708090a0b0c 03 00"),   // no room for a tag
		raw(t, "a3 03 1801 02 4c 0102030405060708090a0b0c 01 40"), // not canonical
		sealed(t, blobKey(9), deflated(t, data), uint64(len(data))),
	}
	ours := sealed(t, blobKey(1), deflated(t, data), uint64(len(data)), members{4: "a member of its own", -1: []int{1}})
	s.hold(slices.Insert(slices.Clone(alien), 6, ours)...)
	key := open(t, s, anyPIN())
	if got, err := key.GetLargeBlob(t.Context(), byKey(1)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	blobs, err := key.LargeBlobArray(t.Context())
	if err != nil || len(blobs) != len(alien)+1 || !bytes.Equal(blobs[6].Raw, ours) {
		t.Fatalf("%d elements, %v", len(blobs), err)
	}
	for i, b := range blobs {
		if well := i == 6 || i >= 10; (b.Nonce != nil) != well || well != (b.Ciphertext != nil) {
			t.Errorf("element %d: %+v", i, b)
		}
		if got, err := b.Open(pin.NewSecret(blobKey(1))); (err == nil) != (i == 6) || err != nil && !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("element %d: %q, %v", i, got, err)
		}
	}
	if blobs[6].OrigSize != uint64(len(data)) {
		t.Errorf("%+v", blobs[6])
	}
	if err := key.PutLargeBlob(t.Context(), byKey(1, 'n', 'e', 'w')); err != nil {
		t.Fatal(err)
	}
	array, err := key.LargeBlobArray(t.Context())
	if err != nil || len(array) != len(alien)+1 {
		t.Fatalf("%d elements, %v", len(array), err)
	}
	for i, want := range alien {
		if !bytes.Equal(array[i].Raw, want) {
			t.Errorf("element %d is %x, was %x", i, array[i].Raw, want)
		}
	}
	if err := key.DeleteLargeBlob(t.Context(), byKey(1)); err != nil || !bytes.Equal(s.array, serialized(alien...)) {
		t.Errorf("%x, %v", s.array, err)
	}
}

// A backup and its way back; elements that are not CBOR are refused.
func TestWriteLargeBlobArray(t *testing.T) {
	eachStore(t, func(t *testing.T, s *store) {
		key := open(t, s, anyPIN())
		ctx := t.Context()
		one, err := ctap2.SealLargeBlob(pin.NewSecret(blobKey(1)), []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		two := ctap2.LargeBlob{Raw: raw(t, "a1 01 02")}
		if err := key.WriteLargeBlobArray(ctx, &ctap2.WriteLargeBlobArrayRequest{Blobs: ctap2.LargeBlobs{two, one}}); err != nil {
			t.Fatal(err)
		}
		s.issuer.expect(ctap.PermissionLargeBlobWrite)
		s.expectTransfers(0, 1)
		if list := s.elements(); len(list) != 2 || !bytes.Equal(list[0], two.Raw) || !bytes.Equal(list[1], one.Raw) {
			t.Errorf("%x", list)
		}
		if got, err := key.GetLargeBlob(ctx, byKey(1)); err != nil || string(got) != "one" {
			t.Errorf("%q, %v", got, err)
		}
		for name, broken := range map[string][]byte{"nothing": nil, "two items": {1, 2}, "half an item": {0x82, 1}, "no CBOR": {0xff}} {
			err := key.WriteLargeBlobArray(ctx, &ctap2.WriteLargeBlobArrayRequest{Blobs: ctap2.LargeBlobs{{Raw: broken}}})
			if !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.gets, s.sets = 0, 0
		if err := key.WriteLargeBlobArray(ctx, new(ctap2.WriteLargeBlobArrayRequest)); err != nil || !bytes.Equal(s.array, raw(t, emptyArray)) {
			t.Errorf("%x, %v", s.array, err)
		}
		s.expectTransfers(0, 1)
	})
}

// Fragments are as long as the key takes, and no longer; the end of the array
// is a fragment shorter than asked for, which may be one of nothing.
func TestLargeBlobFragments(t *testing.T) {
	// padded is an array of n bytes in all.
	padded := func(n int) ctap2.LargeBlobs {
		const around = 1 + 3 + 16 // the array's head, the element's, and the digest
		length := n - around
		return ctap2.LargeBlobs{{Raw: append([]byte{0x59, byte(length >> 8), byte(length)}, make([]byte, length)...)}}
	}
	for _, maxMsgSize := range []int{64 + 17, 400, 1200, 7609, 100_000} {
		s := newStore(t, pin.Two, withoutPIN, func(info members) { info[5], info[11] = maxMsgSize, 20_000 })
		s.open = true
		key := open(t, s)
		for _, n := range []int{s.fragment - 1, s.fragment, s.fragment + 1, 2*s.fragment - 1, 2 * s.fragment, 2*s.fragment + 1, 900} {
			if n < 300 { // its length would take a byte fewer
				n += 17 * s.fragment
			}
			blobs := padded(n)
			if err := key.WriteLargeBlobArray(t.Context(), &ctap2.WriteLargeBlobArrayRequest{Blobs: blobs}); err != nil {
				t.Fatalf("maxMsgSize %d, %d bytes: %v", maxMsgSize, n, err)
			}
			if len(s.array) != n {
				t.Fatalf("maxMsgSize %d, %d bytes: wrote %d", maxMsgSize, n, len(s.array))
			}
			s.expectTransfers(0, (n+s.fragment-1)/s.fragment)
			if got, err := key.LargeBlobArray(t.Context()); err != nil || len(got) != 1 || !bytes.Equal(got[0].Raw, blobs[0].Raw) {
				t.Fatalf("maxMsgSize %d, %d bytes: %v", maxMsgSize, n, err)
			}
			s.expectTransfers(n/s.fragment+1, 0)
		}
		if maxMsgSize < 200 { // no room for a clientPIN
			continue
		}
		// A token adds the most there is to add to a fragment.
		s = newStore(t, pin.Two, func(info members) { info[5], info[11] = maxMsgSize, 20_000 })
		key = open(t, s, anyPIN())
		if err := key.WriteLargeBlobArray(t.Context(), &ctap2.WriteLargeBlobArrayRequest{Blobs: padded(19_000)}); err != nil {
			t.Errorf("maxMsgSize %d, with a token: %v", maxMsgSize, err)
		}
		for _, m := range s.messages {
			if m[0] == ctap.CmdLargeBlobs && (len(m) > maxMsgSize || len(m) > ctap.MaxFramedMessage) {
				t.Fatalf("a message of %d bytes, the key takes %d", len(m), maxMsgSize)
			}
		}
	}
}

// Quirk 10: where there is no room for a fragment, there is an error.
func TestQuirk10NoRoomForFragments(t *testing.T) {
	for _, maxMsgSize := range []int{1, 63, 64, 65, 80} {
		s := newStore(t, pin.Two, withoutPIN, func(info members) { info[5] = maxMsgSize })
		key := open(t, s)
		for name, err := range map[string]error{
			"read":  second(key.LargeBlobArray(t.Context())),
			"write": key.WriteLargeBlobArray(t.Context(), new(ctap2.WriteLargeBlobArrayRequest)),
			"get":   second(key.GetLargeBlob(t.Context(), byKey(1))),
			"put":   key.PutLargeBlob(t.Context(), byKey(1)),
		} {
			if !errors.Is(err, ctap2.ErrMalformed) {
				t.Errorf("maxMsgSize %d, %s: %v", maxMsgSize, name, err)
			}
		}
		s.expectTransfers(0, 0)
	}
	s := newStore(t, pin.Two, func(info members) { info[5] = 0 }) // 1024
	s.fragment = 960
	if _, err := open(t, s).LargeBlobArray(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a key reads out is held against what it was asked for, and has an end.
func TestLargeBlobHostileReads(t *testing.T) {
	for name, reply := range map[string][]byte{
		"nothing":              {},
		"status alone":         {0},
		"null":                 {0, 0xf6},
		"empty map":            {0, 0xa0},
		"array":                {0, 0x80},
		"null config":          ok(t, members{1: nil}),
		"text config":          ok(t, members{1: "x"}),
		"number":               ok(t, members{1: 1}),
		"another member":       ok(t, members{2: []byte{1}}),
		"more than asked":      ok(t, members{1: make([]byte, 1137)}),
		"full for ever":        ok(t, members{1: make([]byte, 1136)}),
		"trailing byte":        append(ok(t, members{1: raw(t, emptyArray)}), 0),
		"intact, not an array": ok(t, members{1: reseal(raw(t, "a0"))}),
		"intact, cut short":    ok(t, members{1: reseal(raw(t, "82 01"))}),
		"intact, two items":    ok(t, members{1: reseal(raw(t, "80 80"))}),
		"intact, duplicates":   ok(t, members{1: reseal(raw(t, "81 a2 01 01 01 01"))}),
		"intact, endless":      ok(t, members{1: reseal(raw(t, "9f ff"))}),
		"intact, four billion": ok(t, members{1: reseal(raw(t, "9a ffffffff"))}),
	} {
		s := newStore(t, pin.Two)
		calls := 0
		s.on(ctap.CmdLargeBlobs, func([]byte) []byte {
			calls++
			return slices.Clone(reply)
		})
		key := open(t, s, anyPIN())
		for what, err := range map[string]error{
			"read":   second(key.LargeBlobArray(t.Context())),
			"get":    second(key.GetLargeBlob(t.Context(), byKey(1))),
			"put":    key.PutLargeBlob(t.Context(), byKey(1)),
			"delete": key.DeleteLargeBlob(t.Context(), byKey(1)),
		} {
			if !errors.Is(err, ctap2.ErrMalformed) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		if calls > 4*5 {
			t.Errorf("%s: asked %d times", name, calls)
		}
	}
	s := newStore(t, pin.Two)
	s.on(ctap.CmdLargeBlobs, func([]byte) []byte { return []byte{byte(ctap2.ErrOther)} })
	if _, err := open(t, s).LargeBlobArray(t.Context()); !errors.Is(err, ctap2.ErrOther) {
		t.Error(err)
	}
	// More than was asked for is refused, even if it would be the array.
	s = newStore(t, pin.Two)
	whole := serialized(append([]byte{0x59, 0x05, 0x00}, make([]byte, 0x500)...))
	s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
		config := whole
		whole = []byte{}
		return ok(t, members{1: config})
	})
	if _, err := open(t, s).LargeBlobArray(t.Context()); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("all at once: %v", err)
	}
	// A key that claims to hold gigabytes does not make us read them.
	s = newStore(t, pin.Two, func(info members) { info[5], info[11] = 7609, int64(1<<31) })
	calls := 0
	s.on(ctap.CmdLargeBlobs, func([]byte) []byte {
		calls++
		return ok(t, members{1: make([]byte, 7545)})
	})
	if _, err := open(t, s).LargeBlobArray(t.Context()); !errors.Is(err, ctap2.ErrMalformed) || calls > 100 {
		t.Errorf("%v after %d reads", err, calls)
	}
}

// reseal returns an array with its digest.
func reseal(array []byte) []byte {
	hash := sha256.Sum256(array)
	return append(array, hash[:16]...)
}

// A wrong digest means that a write was torn, and there is nothing. But if the
// array came in pieces, another program's write may have come between two.
func TestLargeBlobDigest(t *testing.T) {
	for name, array := range map[string][]byte{
		"wrong":     append(raw(t, "81 01"), make([]byte, 16)...),
		"too short": make([]byte, 15),
		"alone":     reseal(nil),
		"no bytes":  {},
	} {
		s := newStore(t, pin.Two)
		s.array = array
		key := open(t, s, anyPIN())
		if blobs, err := key.LargeBlobArray(t.Context()); err != nil || len(blobs) != 0 {
			t.Errorf("%s: %v, %v", name, blobs, err)
		}
		s.expectTransfers(1, 0)
		if err := key.PutLargeBlob(t.Context(), byKey(1, 'x')); err != nil || len(s.elements()) != 1 {
			t.Errorf("%s: %x, %v", name, s.array, err)
		}
	}

	one := sealed(t, blobKey(1), deflated(t, []byte("one")), 3)
	padding := append([]byte{0x59, 0x06, 0x00}, make([]byte, 0x600)...)
	before, after := serialized(padding, one), serialized(padding, padding, one)
	s := newStore(t, pin.Two)
	s.array = before
	s.read = func(config []byte) []byte {
		s.array, s.read = after, nil // between the first piece and the second
		return config
	}
	key := open(t, s, anyPIN())
	if got, err := key.GetLargeBlob(t.Context(), byKey(1)); err != nil || string(got) != "one" {
		t.Errorf("another program wrote while this one read: %q, %v", got, err)
	}
	s.array[5] ^= 1 // for good
	s.gets = 0
	if _, err := key.GetLargeBlob(t.Context(), byKey(1)); !errors.Is(err, ctap2.ErrNoLargeBlob) {
		t.Error(err)
	}
	s.expectTransfers(2*3, 0)
}

// What a write answers is reported, and no more is sent.
func TestLargeBlobWriteFails(t *testing.T) {
	for _, status := range []ctap2.Status{ctap2.ErrInvalidSeq, ctap2.ErrIntegrityFailure, ctap2.ErrLargeBlobStorageFull, ctap2.ErrUnauthorizedPermission} {
		s := newStore(t, pin.Two)
		s.status = byte(status)
		data := make([]byte, 2000)
		rand.Read(data)
		if err := open(t, s, anyPIN()).PutLargeBlob(t.Context(), byKey(1, data...)); !errors.Is(err, status) {
			t.Error(err)
		}
		s.expectTransfers(1, 1)
	}
	// Another program between two fragments costs one write more, if it does not
	// come again.
	for interruptions := range 3 {
		s := newStore(t, pin.Two)
		n := interruptions
		s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
			if s.sets%2 == 1 && message[2] == 0x02 && n > 0 {
				n--
				s.pending = nil
			}
			return s.largeBlobs(message)
		})
		data := make([]byte, 2000)
		rand.Read(data)
		err := open(t, s, anyPIN()).PutLargeBlob(t.Context(), byKey(1, data...))
		if interruptions == 2 && (!errors.Is(err, ctap2.ErrInterrupted) || !errors.Is(err, ctap2.ErrInvalidSeq)) || interruptions < 2 && err != nil {
			t.Errorf("interrupted %d times: %v", interruptions, err)
		}
		s.expectTransfers(1+min(interruptions, 1), 2+2*min(interruptions, 1))
	}
	// One that the key would refuse after many fragments is not begun.
	s := newStore(t, pin.Two)
	data := make([]byte, 4096)
	rand.Read(data)
	if err := open(t, s, anyPIN()).PutLargeBlob(t.Context(), byKey(1, data...)); !errors.Is(err, ctap2.ErrLargeBlobStorageFull) {
		t.Error(err)
	}
	s.expectTransfers(1, 0)
	// An answer to a write is CBOR, if it is one.
	s = newStore(t, pin.Two)
	s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
		if message[2] == 0x01 {
			return s.largeBlobs(message)
		}
		return []byte{0, 0xff}
	})
	key := open(t, s, anyPIN())
	if err := key.PutLargeBlob(t.Context(), byKey(1)); !errors.Is(err, ctap2.ErrMalformed) {
		t.Error(err)
	}
	s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
		if message[2] == 0x01 {
			return s.largeBlobs(message)
		}
		return []byte{0, 0xa0}
	})
	if err := key.PutLargeBlob(t.Context(), byKey(1)); err != nil {
		t.Error(err)
	}
}

// A key that is not protected takes a write without a token; one that has got a
// PIN since the Info was fetched demands it.
func TestLargeBlobWithoutToken(t *testing.T) {
	s := newStore(t, pin.Two, withoutPIN)
	s.open = true
	key := open(t, s, anyPIN())
	if err := key.PutLargeBlob(t.Context(), byKey(1, 'x')); err != nil {
		t.Fatal(err)
	}
	s.issuer.expect()
	s.expectTransfers(1, 1)

	s.open = false
	s.on(ctap.CmdGetInfo, newStore(t, pin.Two).replies[ctap.CmdGetInfo])
	if err := key.PutLargeBlob(t.Context(), byKey(1, 'y')); err != nil {
		t.Fatal(err)
	}
	s.issuer.expect(ctap.PermissionLargeBlobWrite)
	s.expectTransfers(2, 2)

	s = newStore(t, pin.Two, withoutPIN)
	key = open(t, s, anyPIN())
	s.on(ctap.CmdGetInfo, func([]byte) []byte { return []byte{byte(ctap2.ErrOther)} })
	if err := key.PutLargeBlob(t.Context(), byKey(1, 'y')); !errors.Is(err, ctap2.ErrOther) {
		t.Errorf("the Info cannot be had: %v", err)
	}
	// alwaysUv, and nothing to verify anyone with.
	s = newStore(t, pin.Two, withoutPIN, func(info members) { info[4].(map[string]bool)["alwaysUv"] = true })
	if err := open(t, s, anyPIN()).PutLargeBlob(t.Context(), byKey(1, 'y')); !errors.Is(err, ctap2.ErrNotSetUp) {
		t.Error(err)
	}
	s.expectTransfers(0, 0)
}

// A token that the caller holds serves, and another program's token makes one
// that was obtained be obtained again, without another touch.
func TestLargeBlobTokens(t *testing.T) {
	s := newStore(t, pin.Two)
	key := open(t, s, anyPIN())
	token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionLargeBlobWrite})
	if err != nil {
		t.Fatal(err)
	}
	s.issuer.expect(ctap.PermissionLargeBlobWrite)
	request := byKey(1, 'x')
	request.Token = token
	if err := key.PutLargeBlob(t.Context(), request); err != nil {
		t.Error(err)
	}
	if err := key.WriteLargeBlobArray(t.Context(), &ctap2.WriteLargeBlobArrayRequest{Token: token}); err != nil {
		t.Error(err)
	}
	s.issuer.expect()
	token.Wipe()
	if err := key.DeleteLargeBlob(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
		t.Errorf("with a wiped token: %v", err)
	}

	a := newAssertions(t, s, blobKey(5))
	calls := 0
	s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
		if calls++; calls == 1 { // the first read
			s.token = pin.NewSecret(bytes.Repeat([]byte{0x72}, 32))
		}
		return s.largeBlobs(message)
	})
	if err := key.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	s.issuer.expect(0x12, 0x12)
	if a.signed != 1 {
		t.Errorf("%d touches", a.signed)
	}
	if got, err := key.GetLargeBlob(t.Context(), byKey(5)); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// assertions make a canned key sign.
type assertions struct {
	key    []byte // largeBlobKey; nil: none
	extra  members
	total  int
	signed int
	asked  []cbor.RawMessage // extension inputs
	allow  int               // length of the last allowList
}

func newAssertions(t testing.TB, s *store, largeBlobKey []byte) *assertions {
	t.Helper()
	a := &assertions{key: largeBlobKey}
	soft := newSoftKey(t)
	reply := func(message []byte) []byte {
		auth := soft.authData(t, "example.com", 0x01, false, nil)
		m := members{1: map[string]any{"id": soft.id, "type": "public-key"}, 2: auth, 3: []byte{1}}
		if a.key != nil {
			m[7] = a.key
		}
		maps.Copy(m, a.extra)
		return ok(t, m)
	}
	s.on(ctap.CmdGetAssertion, func(message []byte) []byte {
		var request struct {
			ClientDataHash []byte            `cbor:"2,keyasint"`
			AllowList      []cbor.RawMessage `cbor:"3,keyasint"`
			Extensions     cbor.RawMessage   `cbor:"4,keyasint"`
			Param          []byte            `cbor:"6,keyasint"`
			Protocol       pin.Protocol      `cbor:"7,keyasint"`
		}
		if err := cbor.Unmarshal(message[1:], &request); err != nil {
			t.Error(err)
		}
		if request.Param != nil && !s.verify(request.Protocol, request.Param, request.ClientDataHash) {
			return []byte{byte(ctap2.ErrPINAuthInvalid)}
		}
		a.signed++
		a.asked, a.allow = append(a.asked, request.Extensions), len(request.AllowList)
		body := reply(message)
		if a.total > 1 {
			var m map[int]cbor.RawMessage
			if err := cbor.Unmarshal(body[1:], &m); err != nil {
				t.Error(err)
			}
			m[5] = cbor.RawMessage{byte(a.total)}
			return ok(t, m)
		}
		return body
	})
	s.on(ctap.CmdGetNextAssertion, reply)
	return a
}

// Where the key for the blob is not at hand an assertion obtains it, under one
// token with the write (quirk 45).
func TestQuirk45LargeBlobByCredential(t *testing.T) {
	eachStore(t, func(t *testing.T, s *store) {
		a := newAssertions(t, s, blobKey(1))
		key := open(t, s, anyPIN())
		commands := func() (list []byte) {
			for _, m := range s.messages {
				list = append(list, m[0])
			}
			s.messages = nil
			return list
		}
		commands()
		request := &ctap2.LargeBlobRequest{
			RPID: "example.com", Credential: &ctap2.CredentialDescriptor{ID: []byte("credential-id-01")}, Data: make([]byte, 1000),
		}
		rand.Read(request.Data)
		if err := key.PutLargeBlob(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		if sent := commands(); !bytes.Equal(sent, []byte{6, 6, 2, 12, 12}) {
			t.Errorf("to write a blob: %x", sent)
		}
		s.issuer.expect(ctap.PermissionGetAssertion | ctap.PermissionLargeBlobWrite)
		got, err := key.GetLargeBlob(t.Context(), request)
		if err != nil || !bytes.Equal(got, request.Data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if sent := commands(); !bytes.Equal(sent, []byte{6, 6, 2, 12}) {
			t.Errorf("to read it: %x", sent)
		}
		s.issuer.expect(ctap.PermissionGetAssertion)
		if _, err := key.GetLargeBlob(t.Context(), byKey(1)); err != nil {
			t.Error(err)
		}
		if sent := commands(); !bytes.Equal(sent, []byte{12}) {
			t.Errorf("to read it with the key at hand: %x", sent)
		}
		if a.allow != 1 {
			t.Errorf("an allow list of %d", a.allow)
		}
		request.Credential = nil
		if err := key.DeleteLargeBlob(t.Context(), request); err != nil || a.allow != 0 {
			t.Errorf("an allow list of %d, %v", a.allow, err)
		}
		for _, input := range a.asked {
			if !bytes.Equal(input, []byte("\xa1\x6clargeBlobKey\xf5")) {
				t.Errorf("extensions %x", input)
			}
		}
	})
}

func TestLargeBlobByCredentialFails(t *testing.T) {
	request := func(change ...func(r *ctap2.LargeBlobRequest)) *ctap2.LargeBlobRequest {
		r := &ctap2.LargeBlobRequest{RPID: "example.com"}
		for _, f := range change {
			f(r)
		}
		return r
	}
	do := func(t *testing.T, s *store, r *ctap2.LargeBlobRequest, want error) {
		t.Helper()
		key := open(t, s, anyPIN())
		for name, err := range map[string]error{
			"get":    second(key.GetLargeBlob(t.Context(), r)),
			"put":    key.PutLargeBlob(t.Context(), r),
			"delete": key.DeleteLargeBlob(t.Context(), r),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		s.expectTransfers(0, 0)
	}
	t.Run("several accounts", func(t *testing.T) {
		s := newStore(t, pin.Two)
		a := newAssertions(t, s, blobKey(1))
		a.total = 2
		do(t, s, request(), ctap2.ErrInvalidRequest)
	})
	t.Run("no largeBlobKey", func(t *testing.T) {
		s := newStore(t, pin.Two)
		newAssertions(t, s, nil)
		do(t, s, request(), ctap2.ErrNoLargeBlobKey)
	})
	t.Run("no such credential", func(t *testing.T) {
		s := newStore(t, pin.Two)
		s.on(ctap.CmdGetAssertion, func([]byte) []byte { return []byte{byte(ctap2.ErrNoCredentials)} })
		s.on(ctap.CmdMakeCredential, func([]byte) []byte { return []byte{byte(ctap2.ErrPINAuthInvalid)} }) // a touch
		do(t, s, request(), ctap2.ErrNoCredentials)
	})
	t.Run("no large blobs", func(t *testing.T) {
		s := newStore(t, pin.Two, func(info members) { delete(info[4].(map[string]bool), "largeBlobs") })
		do(t, s, request(), ctap2.ErrUnsupported)
		do(t, s, byKey(1), ctap2.ErrUnsupported)
		key := open(t, s, anyPIN())
		for name, err := range map[string]error{
			"read":    second(key.LargeBlobArray(t.Context())),
			"write":   key.WriteLargeBlobArray(t.Context(), new(ctap2.WriteLargeBlobArrayRequest)),
			"collect": second(key.CollectLargeBlobs(t.Context(), nil)),
		} {
			if !errors.Is(err, ctap2.ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.issuer.expect()
	})
	t.Run("no extension for their keys", func(t *testing.T) {
		s := newStore(t, pin.Two, func(info members) { delete(info, 2) })
		do(t, s, request(), ctap2.ErrUnsupported)
		if _, err := open(t, s).GetLargeBlob(t.Context(), byKey(1)); !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("with the key at hand: %v", err)
		}
	})
	t.Run("requests that cannot be sent", func(t *testing.T) {
		s := newStore(t, pin.Two)
		for _, r := range []*ctap2.LargeBlobRequest{
			{}, {Key: pin.NewSecret(make([]byte, 31))}, {Key: pin.NewSecret(make([]byte, 33)), RPID: "example.com"},
			request(func(r *ctap2.LargeBlobRequest) { r.Credential = new(ctap2.CredentialDescriptor) }),
		} {
			do(t, s, r, ctap2.ErrInvalidRequest)
		}
		if err := open(t, s).PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Data: make([]byte, 1<<20+1)}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Error(err)
		}
		if _, err := ctap2.SealLargeBlob(pin.NewSecret(blobKey(1)), make([]byte, 1<<20+1)); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Error(err)
		}
		if _, err := ctap2.SealLargeBlob(pin.Secret{}, nil); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Error(err)
		}
		if _, err := new(ctap2.LargeBlob).Open(pin.Secret{}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Error(err)
		}
	})
}

// What was encrypted under the right key and is no data of the right length is
// an error, and costs no more memory than it may.
func TestLargeBlobInflate(t *testing.T) {
	data := bytes.Repeat([]byte("large blob "), 100)
	compressed, size := deflated(t, data), uint64(len(data))
	bomb := deflated(t, make([]byte, 8<<20))
	for name, tt := range map[string]struct {
		compressed []byte
		origSize   uint64
		want       bool
	}{
		"as it should be":      {compressed, size, true},
		"one byte fewer":       {compressed, size - 1, false},
		"one byte more":        {compressed, size + 1, false},
		"none":                 {compressed, 0, false},
		"cut short":            {compressed[:len(compressed)-3], size, false},
		"not compressed":       {data, size, false},
		"empty":                {nil, 0, false},
		"a MiB":                {deflated(t, make([]byte, 1<<20)), 1 << 20, true},
		"a MiB and a byte":     {deflated(t, make([]byte, 1<<20+1)), 1<<20 + 1, false},
		"a bomb that says so":  {bomb, 8 << 20, false},
		"a bomb that does not": {bomb, 1 << 20, false},
		"more than possible":   {[]byte{3, 0}, 1 << 20, false},
		"absurd":               {compressed, 1 << 63, false},
	} {
		s := newStore(t, pin.Two, func(info members) { info[5], info[11] = 7609, 16384 })
		s.hold(sealed(t, blobKey(2), compressed, size), sealed(t, blobKey(1), tt.compressed, tt.origSize))
		key := open(t, s, anyPIN())
		var got []byte
		var err error
		grown := allocated(func() { got, err = key.GetLargeBlob(t.Context(), byKey(1)) })
		if (err == nil) != tt.want || err == nil && uint64(len(got)) != tt.origSize || err != nil && !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if grown > 3<<20 {
			t.Errorf("%s: allocates %d bytes", name, grown)
		}
		// It is the credential's all the same, and can be replaced.
		if err := key.PutLargeBlob(t.Context(), byKey(1, 'x')); err != nil || len(s.elements()) != 2 {
			t.Errorf("%s: %x, %v", name, s.array, err)
		}
	}
}

// Blobs of credentials that are gone are collected, and what is no blob; those
// of credentials that are there stay as they are.
func TestCollectLargeBlobs(t *testing.T) {
	eachStore(t, func(t *testing.T, s *store) {
		soft := newSoftKey(t)
		public := soft.authData(t, "example.com", 0x41, true, nil)[37+16+2+len(soft.id):]
		keys := [][]byte{blobKey(1), nil, blobKey(3)}
		rpIDHash := sha256.Sum256([]byte("example.com"))
		next := 0
		var listed [][]byte
		credential := func() members {
			m := members{6: map[string]any{"id": []byte{1}}, 7: map[string]any{"id": []byte{byte(next)}, "type": "public-key"},
				8: cbor.RawMessage(public), 9: len(keys)}
			if keys[next] != nil {
				m[11] = keys[next]
			}
			next++
			return m
		}
		s.on(ctap.CmdCredentialManagement, func(message []byte) []byte {
			switch message[3] { // subCommand, which comes first
			case ctap.CredMgmtEnumerateRPsBegin:
				next = 0
				return ok(t, members{3: map[string]any{"id": "example.com"}, 4: rpIDHash[:], 5: 1})
			case ctap.CredMgmtEnumerateCredentialsBegin, ctap.CredMgmtEnumerateCredentialsGetNext:
				listed = append(listed, ok(t, credential()))
				return listed[len(listed)-1]
			}
			return []byte{byte(ctap2.ErrInvalidSubcommand)}
		})
		one, two, three := sealed(t, blobKey(1), deflated(t, nil), 0), sealed(t, blobKey(2), deflated(t, nil), 0), sealed(t, blobKey(3), []byte("no data"), 9)
		alien := raw(t, "01") // another vendor's, or of a format to come
		s.hold(two, one, alien, three, two)
		key := open(t, s, anyPIN())
		if n, err := key.CollectLargeBlobs(t.Context(), nil); err != nil || n != 2 || !bytes.Equal(s.array, serialized(one, alien, three)) {
			t.Errorf("%d, %v: %x", n, err, s.array)
		}
		s.expectTransfers(1, 1)
		s.issuer.expect(ctap.PermissionCredentialManagement | ctap.PermissionLargeBlobWrite)
		for i, reply := range listed {
			if keys[i] != nil && bytes.Contains(reply, keys[i]) {
				t.Errorf("the largeBlobKey of credential %d stays behind", i)
			}
		}
		if n, err := key.CollectLargeBlobs(t.Context(), nil); err != nil || n != 0 {
			t.Errorf("nothing left: %d, %v", n, err)
		}
		s.expectTransfers(1, 0)

		all := keys
		keys = [][]byte{nil} // or left out of the list
		if n, err := key.CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrUnsupported) || n != 0 {
			t.Errorf("no keys listed: %d, %v", n, err)
		}
		s.expectTransfers(1, 0)
		s.hold(alien)
		if n, err := key.CollectLargeBlobs(t.Context(), nil); err != nil || n != 0 {
			t.Errorf("no keys listed, and no blobs: %d, %v", n, err)
		}
		s.expectTransfers(1, 0)

		keys = all
		s.hold(two)
		s.status = byte(ctap2.ErrOther)
		if n, err := key.CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrOther) || n != 0 {
			t.Errorf("the write fails: %d, %v", n, err)
		}
		s.status = 0
		s.gets, s.sets = 0, 0
		list := s.replies[ctap.CmdCredentialManagement]
		for _, subcommand := range []byte{ctap.CredMgmtEnumerateRPsBegin, ctap.CredMgmtEnumerateCredentialsBegin, ctap.CredMgmtEnumerateCredentialsGetNext} {
			s.on(ctap.CmdCredentialManagement, func(message []byte) []byte {
				if message[3] == subcommand {
					return []byte{byte(ctap2.ErrOther)}
				}
				return list(message)
			})
			if n, err := key.CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrOther) || n != 0 {
				t.Errorf("subcommand %d fails: %d, %v", subcommand, n, err)
			}
		}
		s.expectTransfers(0, 0) // not with half a list
		s.on(ctap.CmdCredentialManagement, list)
		s.on(ctap.CmdLargeBlobs, func([]byte) []byte { return []byte{byte(ctap2.ErrOther)} })
		if n, err := key.CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrOther) || n != 0 {
			t.Errorf("the read fails: %d, %v", n, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("changed my mind")
		s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
			cancel(reason)
			return s.largeBlobs(message)
		})
		if n, err := key.CollectLargeBlobs(ctx, nil); !errors.Is(err, reason) || n != 0 {
			t.Errorf("cancelled: %d, %v", n, err)
		}
		s.expectTransfers(1, 0)
	})
	s := newStore(t, pin.Two, func(info members) {
		info[4] = map[string]bool{"clientPin": true, "pinUvAuthToken": true, "largeBlobs": true, "credentialMgmtPreview": true}
	})
	if _, err := open(t, s, anyPIN()).CollectLargeBlobs(t.Context(), nil); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("with the preview, which lists no keys: %v", err)
	}
	s.issuer.expect()
}

// What a key has read out is never a panic, never more than it was, and never
// lost by a write.
func FuzzLargeBlobArray(f *testing.F) {
	data := []byte("large blob")
	one := sealed(f, blobKey(1), deflated(f, data), uint64(len(data)))
	f.Add(false, raw(f, emptyArray))
	f.Add(true, raw(f, "80"))
	f.Add(true, serialized(one)[:len(serialized(one))-16])
	f.Add(true, append(raw(f, "83 f6 01"), one...))
	f.Add(true, append(raw(f, "82 a3 01 40 02 4c 0102030405060708090a0b0c 03 00"), one...))
	f.Add(true, append(raw(f, "82"), slices.Concat(one, one)...))
	f.Add(true, append([]byte{0x81}, sealed(f, blobKey(1), []byte{3, 0}, 1<<20)...))
	f.Add(true, append([]byte{0x81}, sealed(f, blobKey(1), deflated(f, make([]byte, 1<<16)), 1<<16)...))
	f.Add(true, append(raw(f, "82 c2 30"), one...)) // tags are for nobody to write, and kept
	f.Add(true, raw(f, "9f ff"))
	f.Add(true, bytes.Repeat([]byte{0x81}, 100))
	f.Fuzz(func(t *testing.T, digest bool, array []byte) {
		if digest {
			array = reseal(slices.Clone(array))
		}
		s := newStore(t, pin.Two, withoutPIN, func(info members) { info[5], info[11] = 256, 1<<16 })
		s.open, s.array = true, array
		key := open(t, s)
		blobs, err := key.LargeBlobArray(t.Context())
		if err != nil {
			if !errors.Is(err, ctap2.ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		got, getErr := key.GetLargeBlob(t.Context(), byKey(1))
		if getErr == nil && len(got) > 1<<20 {
			t.Errorf("inflates to %d bytes", len(got))
		}
		if err := key.PutLargeBlob(t.Context(), byKey(1, 'x')); err != nil {
			if !errors.Is(err, ctap2.ErrLargeBlobStorageFull) {
				t.Error(err)
			}
			return
		}
		var kept ctap2.LargeBlobs
		for _, b := range blobs {
			if _, err := b.Open(pin.NewSecret(blobKey(1))); errors.Is(err, ctap2.ErrNoLargeBlob) {
				kept = append(kept, b)
			}
		}
		after, err := key.LargeBlobArray(t.Context())
		if err != nil || len(after) != len(kept)+1 {
			t.Fatalf("%d elements of %d, %v", len(after), len(kept)+1, err)
		}
		for i := range kept {
			if fmt.Sprint(after[i]) != fmt.Sprint(kept[i]) {
				t.Errorf("element %d is %v, was %v", i, after[i], kept[i])
			}
		}
		if got, err := key.GetLargeBlob(t.Context(), byKey(1)); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// allocated returns how many bytes do allocates.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
