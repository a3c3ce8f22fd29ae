package virtual

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

const permLBW = ctap.PermissionLargeBlobWrite

// serialized is a large-blob array of n bytes with its digest, whose content is
// filled with b.
func serialized(b byte, n int) []byte {
	array := bytes.Repeat([]byte{b}, n-ctap.LargeBlobDigestLength)
	digest := sha256.Sum256(array)
	return append(array, digest[:ctap.LargeBlobDigestLength]...)
}

// fragment is a set of part of an array of length bytes, without user
// verification.
func fragment(part []byte, offset, length int) params {
	r := params{2: part, 3: offset}
	if offset == 0 {
		r[4] = length
	}
	return r
}

// withLargeBlobToken are the parameters that authenticate a fragment.
func withLargeBlobToken(part []byte, offset int, protocol pin.Protocol, token pin.Secret) params {
	hash := sha256.Sum256(part)
	message := append(bytes.Repeat([]byte{0xFF}, 32), 0x0C, 0x00)
	message = binary.LittleEndian.AppendUint32(message, uint32(offset))
	return params{5: protocol.Authenticate(token, message, hash[:]), 6: protocol}
}

// authorized is fragment with a token.
func authorized(part []byte, offset, length int, protocol pin.Protocol, token pin.Secret) params {
	return merge(fragment(part, offset, length), []params{withLargeBlobToken(part, offset, protocol, token)})
}

func (p *platform) readLargeBlobs() []byte {
	p.Helper()
	return value[[]byte](p, p.ok(ctap.CmdLargeBlobs, params{1: p.maxFragmentLength(), 3: 0}), largeBlobsConfig)
}

func (p *platform) wantLargeBlobs(want []byte) {
	p.Helper()
	if got := p.readLargeBlobs(); !bytes.Equal(got, want) {
		p.Fatalf("array %x, want %x", got, want)
	}
}

func TestLargeBlobsInfo(t *testing.T) {
	key := newKey(t, Config{MaxSerializedLargeBlobArray: 2000})
	m := key.ok(ctap.CmdGetInfo, nil)
	if n := value[int](t, m, infoMaxSerializedLargeBlobArray); n != 2000 {
		t.Errorf("maxSerializedLargeBlobArray %d", n)
	}
	if !key.options()["largeBlobs"] {
		t.Error("no option largeBlobs")
	}
	// The command comes and goes with the extension largeBlobKey.
	for name, cfg := range map[string]Config{
		"CTAP 2.0":         {Level: CTAP20},
		"not wanted":       {Extensions: []string{"credProtect"}},
		"largeBlob":        {Extensions: []string{"largeBlob"}},
		"no resident keys": {NoResidentKeys: true},
		"no token":         {NoPINUVAuthToken: true},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, cfg)
			m := key.ok(ctap.CmdGetInfo, nil)
			if _, ok := key.options()["largeBlobs"]; ok || m[infoMaxSerializedLargeBlobArray] != nil {
				t.Error("getInfo has large blobs")
			}
			key.refused(ctap.StatusInvalidCommand, ctap.CmdLargeBlobs, params{1: 17, 3: 0})
			if cfg.Level == CTAP20 || cfg.NoPINUVAuthToken {
				return
			}
			key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
			request, _ := key.tokenRequest(pin.Two, testPIN, permLBW, "")
			key.refused(ctap.StatusUnauthorizedPermission, ctap.CmdClientPIN, request)
		})
	}
	// Nobody verifies users here, and so nobody needs a token.
	key = newKey(t, Config{NoClientPIN: true, NoPINUVAuthToken: true})
	array := serialized(1, 100)
	key.ok(ctap.CmdLargeBlobs, fragment(array, 0, 100))
	key.wantLargeBlobs(array)
}

func TestLargeBlobsGet(t *testing.T) {
	key := newKey(t, Config{MaxMsgSize: 1024})
	key.wantLargeBlobsRefused(t)
	initial := []byte{0x80, 0x76, 0xbe, 0x8b, 0x52, 0x8d, 0x00, 0x75, 0xf7, 0xaa, 0xe9, 0x8d, 0x6f, 0xa5, 0x7a, 0x6d, 0x3c}
	for _, test := range []struct {
		get, offset int
		want        []byte
	}{
		{0, 0, nil}, {1, 0, initial[:1]}, {17, 0, initial}, {18, 0, initial}, {960, 0, initial},
		{1, 16, initial[16:]}, {960, 10, initial[10:]}, {1, 17, nil}, {960, 17, nil},
	} {
		got := value[[]byte](t, key.ok(ctap.CmdLargeBlobs, params{1: test.get, 3: test.offset}), largeBlobsConfig)
		if !bytes.Equal(got, test.want) {
			t.Errorf("get %d at %d: %x", test.get, test.offset, got)
		}
	}
}

// wantLargeBlobsRefused is what every request ends with that does not get as far
// as a token.
func (p *platform) wantLargeBlobsRefused(t *testing.T) {
	part := make([]byte, 17)
	for name, test := range map[string]struct {
		request any
		want    byte
	}{
		"nothing":                      {nil, ctap.StatusInvalidParameter},
		"no map":                       {[]int{1}, ctap.StatusCBORUnexpectedType},
		"get of text":                  {params{1: "x", 3: 0}, ctap.StatusCBORUnexpectedType},
		"set of text":                  {params{2: "x", 3: 0, 4: 17}, ctap.StatusCBORUnexpectedType},
		"negative offset":              {params{1: 1, 3: -1}, ctap.StatusCBORUnexpectedType},
		"negative length":              {params{2: part, 3: 0, 4: -17}, ctap.StatusCBORUnexpectedType},
		"get without offset":           {params{1: 1}, ctap.StatusInvalidParameter},
		"set without offset":           {params{2: part, 4: 17}, ctap.StatusInvalidParameter},
		"neither":                      {params{3: 0}, ctap.StatusInvalidParameter},
		"both":                         {params{1: 1, 2: part, 3: 0, 4: 17}, ctap.StatusInvalidParameter},
		"get with length":              {params{1: 1, 3: 0, 4: 17}, ctap.StatusInvalidParameter},
		"get with param":               {params{1: 1, 3: 0, 5: part}, ctap.StatusInvalidParameter},
		"get with protocol":            {params{1: 1, 3: 0, 6: 2}, ctap.StatusInvalidParameter},
		"get too long":                 {params{1: 961, 3: 0}, ctap.StatusInvalidLength},
		"get too long, beyond the end": {params{1: 961, 3: 18}, ctap.StatusInvalidLength},
		"get beyond the end":           {params{1: 1, 3: 18}, ctap.StatusInvalidParameter},
		"get far beyond the end":       {params{1: 1, 3: uint64(1 << 63)}, ctap.StatusInvalidParameter},
		"set too long":                 {params{2: make([]byte, 961), 3: 0, 4: 17}, ctap.StatusInvalidLength},
		"set too long, out of order":   {params{2: make([]byte, 961), 3: 9}, ctap.StatusInvalidLength},
		"start without length":         {params{2: part, 3: 0}, ctap.StatusInvalidParameter},
		"array too long":               {params{2: part, 3: 0, 4: 4097}, ctap.StatusLargeBlobStorageFull},
		"array far too long":           {params{2: part, 3: 0, 4: uint64(1<<64 - 1)}, ctap.StatusLargeBlobStorageFull},
		"array too short":              {params{2: part, 3: 0, 4: 16}, ctap.StatusInvalidParameter},
		"continuation with length":     {params{2: part, 3: 17, 4: 17}, ctap.StatusInvalidParameter},
		"continuation of nothing":      {params{2: part, 3: 17}, ctap.StatusInvalidSeq},
	} {
		t.Run(name, func(t *testing.T) {
			key := &platform{t, p.Authenticator}
			key.refused(test.want, ctap.CmdLargeBlobs, test.request)
		})
	}
}

// The status of user verification comes behind those of everything that can be
// known without it.
func TestLargeBlobsSetRefused(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN, MaxMsgSize: 1024})
	key.wantLargeBlobsRefused(t)
	array := serialized(1, 17)
	for name, test := range map[string]struct {
		changes params
		want    byte
	}{
		"no param":         {params{5: nil}, ctap.StatusPUATRequired},
		"nothing":          {params{5: nil, 6: nil}, ctap.StatusPUATRequired},
		"no protocol":      {params{6: nil}, ctap.StatusMissingParameter},
		"unknown protocol": {params{6: 3}, ctap.StatusInvalidParameter},
		"other protocol":   {params{6: 1}, ctap.StatusPINAuthInvalid},
		"wrong param":      {params{5: testHash}, ctap.StatusPINAuthInvalid},
		"empty param":      {params{5: []byte{}}, ctap.StatusPINAuthInvalid},
		"other fragment":   {params{2: serialized(2, 17)}, ctap.StatusPINAuthInvalid},
		"other length":     {params{4: 18}, ctap.StatusOK}, // which the param does not cover
		"longer than said": {nil, ctap.StatusInvalidParameter},
	} {
		t.Run(name, func(t *testing.T) {
			key := &platform{t, key.Authenticator}
			part := array
			if name == "longer than said" {
				part = make([]byte, 18)
			}
			request := authorized(part, 0, 17, pin.Two, key.token(pin.Two, permLBW, ""))
			key.refused(test.want, ctap.CmdLargeBlobs, merge(request, []params{test.changes}))
			key.wantLargeBlobs(initialLargeBlobArray)
		})
	}
}

// Every fragment is authenticated, by a token that may write large blobs.
func TestLargeBlobsSet(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN, MaxMsgSize: 1200})
			write := func(token pin.Secret, array []byte) {
				t.Helper()
				offset := 0
				for part := range slices.Chunk(array, 1200-64) {
					key.refused(ctap.StatusPUATRequired, ctap.CmdLargeBlobs, fragment(part, offset, len(array)))
					key.ok(ctap.CmdLargeBlobs, authorized(part, offset, len(array), protocol, token))
					offset += len(part)
				}
			}
			read := func() []byte {
				t.Helper()
				var array []byte
				for {
					part := value[[]byte](t, key.ok(ctap.CmdLargeBlobs, params{1: 1200 - 64, 3: len(array)}), largeBlobsConfig)
					array = append(array, part...)
					if len(part) < 1200-64 {
						return array
					}
				}
			}
			for _, n := range []int{4096, 1200 - 64, 2 * (1200 - 64), 17} {
				array := serialized(byte(n), n)
				write(key.token(protocol, permLBW, ""), array)
				if !bytes.Equal(read(), array) {
					t.Fatalf("an array of %d bytes is not what was written", n)
				}
			}

			// Others may not, nor may one with another fragment's param.
			array := serialized(3, 40)
			token := key.token(protocol, permMC|permGA, testRPID)
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdLargeBlobs, authorized(array, 0, 40, protocol, token))
			token = key.token(protocol, permLBW, "")
			key.ok(ctap.CmdLargeBlobs, authorized(array[:20], 0, 40, protocol, token))
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdLargeBlobs,
				merge(fragment(array[20:], 20, 40), []params{withLargeBlobToken(array[20:], 0, protocol, token)}))
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdLargeBlobs, authorized(array[20:], 20, 40, 3-protocol, token))
			key.ok(ctap.CmdLargeBlobs, authorized(array[20:], 20, 40, protocol, token))
			key.wantLargeBlobs(array)
		})
	}
}

// A touch spends a token but for its permission to write large blobs (quirk 45).
func TestLargeBlobsAfterTouch(t *testing.T) {
	for _, protocol := range bothProtocols {
		for name, cfg := range map[string]Config{"PIN": {PIN: testPIN}, "built-in": {PIN: testPIN, BuiltInUV: UVConfigured}} {
			t.Run(protocol.String()+", "+name, func(t *testing.T) {
				key := newKey(t, cfg)
				cred := key.make()
				var token pin.Secret
				if cfg.BuiltInUV == UVConfigured {
					mine, secret := key.agree(protocol)
					m := key.ok(ctap.CmdClientPIN, params{1: protocol, subCommand: ctap.PINGetTokenUsingUV, 3: mine, 9: permGA | permLBW, 10: testRPID})
					token = key.openToken(m, secret)
				} else {
					token = key.token(protocol, permGA|permLBW, testRPID)
				}
				with := withToken(ctap.CmdGetAssertion, protocol, token)
				key.assert(cred, allow(cred.id), with)
				key.refused(ctap.StatusPINAuthInvalid, ctap.CmdGetAssertion, assertRequest(allow(cred.id), with))
				array := serialized(9, 99)
				key.ok(ctap.CmdLargeBlobs, authorized(array, 0, 99, protocol, token))
				key.wantLargeBlobs(array)
			})
		}
	}
}

func TestLargeBlobsAlwaysUV(t *testing.T) {
	key := newKey(t, Config{AlwaysUV: true})
	array := serialized(1, 17)
	key.refused(ctap.StatusPUATRequired, ctap.CmdLargeBlobs, fragment(array, 0, 17))
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	key.ok(ctap.CmdLargeBlobs, authorized(array, 0, 17, pin.Two, key.token(pin.Two, permLBW, "")))

	key = newKey(t, Config{BuiltInUV: UVConfigured})
	key.refused(ctap.StatusPUATRequired, ctap.CmdLargeBlobs, fragment(array, 0, 17))
}

// An array that did not come whole, or not right, replaces nothing.
func TestLargeBlobsTornWrite(t *testing.T) {
	old, array := serialized(1, 60), serialized(2, 50)
	for name, interruption := range map[string]func(*platform){
		"another command": func(key *platform) { key.ok(ctap.CmdGetInfo, nil) },
		"unknown command": func(key *platform) { key.refused(ctap.StatusInvalidCommand, 0x03, nil) },
		"reading":         func(key *platform) { key.wantLargeBlobs(old) },
		"power":           func(key *platform) { key.PowerCycle() },
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, Config{})
			key.ok(ctap.CmdLargeBlobs, fragment(old, 0, 60))
			key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 50))
			interruption(key)
			key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 20, 50))
			key.wantLargeBlobs(old)
		})
	}

	key := newKey(t, Config{})
	key.ok(ctap.CmdLargeBlobs, fragment(old, 0, 60))
	// Neither a fragment out of order nor one that is too long does any harm.
	key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 50))
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 19, 50))
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 21, 50))
	key.refused(ctap.StatusInvalidParameter, ctap.CmdLargeBlobs, fragment(append(array[20:50:50], 0), 20, 50))
	// A fragment can be empty.
	key.ok(ctap.CmdLargeBlobs, fragment([]byte{}, 20, 50))
	key.ok(ctap.CmdLargeBlobs, fragment(array[20:], 20, 50))
	key.wantLargeBlobs(array)
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment([]byte{}, 50, 50))

	// A new start forgets the last.
	key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 50))
	key.ok(ctap.CmdLargeBlobs, fragment(old[:30], 0, 60))
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 20, 50))
	key.ok(ctap.CmdLargeBlobs, fragment(old[30:], 30, 60))
	key.wantLargeBlobs(old)

	array[0] ^= 1
	key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 50))
	key.refused(ctap.StatusIntegrityFailure, ctap.CmdLargeBlobs, fragment(array[20:], 20, 50))
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment([]byte{}, 50, 50))
	key.wantLargeBlobs(old)
	array[0] ^= 1
	array[49] ^= 1
	key.refused(ctap.StatusIntegrityFailure, ctap.CmdLargeBlobs, fragment(array, 0, 50))
	key.wantLargeBlobs(old)
}

// What has come of an array goes with the token that its start was
// authenticated with.
func TestLargeBlobsTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{PIN: testPIN})
		array := serialized(1, 40)
		token := key.token(pin.Two, permLBW, "")
		key.ok(ctap.CmdLargeBlobs, authorized(array[:20], 0, 40, pin.Two, token))
		time.Sleep(maxUsageTimePeriod - 1)
		key.ok(ctap.CmdLargeBlobs, authorized(array[20:30], 20, 40, pin.Two, token))
		time.Sleep(time.Nanosecond)
		key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, authorized(array[30:], 30, 40, pin.Two, token))
		key.refused(ctap.StatusPINAuthInvalid, ctap.CmdLargeBlobs, authorized(array, 0, 40, pin.Two, token))
		key.wantLargeBlobs(initialLargeBlobArray)
	})
}

// Messages that are shorter than the overhead of a fragment have no room for one
// (quirk 10).
func TestLargeBlobsNoFragment(t *testing.T) {
	for _, size := range []int{50, 64, 65} {
		key := newKey(t, Config{MaxMsgSize: size})
		key.ok(ctap.CmdLargeBlobs, params{1: max(0, size-64), 3: 0})
		key.refused(ctap.StatusInvalidLength, ctap.CmdLargeBlobs, params{1: max(0, size-64) + 1, 3: 0})
	}
}

func TestLargeBlobsPersist(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), MaxSerializedLargeBlobArray: greatestLargeBlobArray, MaxMsgSize: 1 << 20}
	key := newKey(t, cfg)
	array := serialized(1, greatestLargeBlobArray)
	key.ok(ctap.CmdLargeBlobs, fragment(array, 0, len(array)))
	key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 50))
	reopen := func() {
		t.Helper()
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, cfg)
	}
	reopen()
	if got := value[[]byte](t, key.ok(ctap.CmdLargeBlobs, params{1: 1 << 19, 3: 0}), largeBlobsConfig); !bytes.Equal(got, array) {
		t.Error("the array is not the one that was written")
	}
	key.ok(ctap.CmdReset, nil)
	key.wantLargeBlobs(initialLargeBlobArray)
	reopen()
	key.wantLargeBlobs(initialLargeBlobArray)

	if err := key.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	array = serialized(2, 17)
	key.refused(ctap.StatusOther, ctap.CmdLargeBlobs, fragment(array, 0, 17))
	key.wantLargeBlobs(initialLargeBlobArray)
	key.storageErr = nil
	key.state.journal = nil
}
