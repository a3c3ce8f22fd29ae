package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// Members of largeBlobs.
const lbGet, lbSetFragment, lbOffset, lbLength, lbParam, lbProtocol = 1, 2, 3, 4, 5, 6

// withDigest is a serialized large-blob array, as far as an authenticator can
// tell.
func withDigest(contents []byte) []byte {
	sum := sha256.Sum256(contents)
	return slices.Concat(contents, sum[:ctap.LargeBlobDigestLength])
}

// initialBlobs is the array that nobody has written to (§6.10.3).
var initialBlobs = withDigest([]byte{0x80})

// fragment is a write at an offset; length is left out if it is 0.
func fragment(contents []byte, offset, length int) members {
	m := members{lbSetFragment: contents, lbOffset: offset}
	if length != 0 {
		m[lbLength] = length
	}
	return m
}

// whole is the write of an array in one fragment.
func whole(array []byte) members { return fragment(array, 0, len(array)) }

var lbSet = gate{
	command: ctap.CmdLargeBlobs, param: lbParam, protocol: lbProtocol,
	request: func(*trial) members { return whole(withDigest([]byte{0x80})) },
	message: func(m members) []byte {
		contents, _ := m[lbSetFragment].([]byte)
		offset, _ := m[lbOffset].(int)
		message := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdLargeBlobs, 0)
		message = binary.LittleEndian.AppendUint32(message, uint32(offset))
		sum := sha256.Sum256(contents)
		return append(message, sum[:]...)
	},
	permission: ctap2.PermissionLargeBlobWrite, other: ctap2.PermissionCredentialManagement,
	setup: withPIN.and(largeBlobs),
}

// maxFragment is maxFragmentLength, or less where not every transport carries
// that.
func (x *trial) maxFragment() int { return max(carried(x.info)-ctap.LargeBlobFragmentOverhead, 1) }

// mostBlobs is the longest array, maxSerializedLargeBlobArray.
func (x *trial) mostBlobs() int {
	if x.info.MaxSerializedLargeBlobArray == 0 {
		x.fatalf("getInfo has no maxSerializedLargeBlobArray")
	}
	return x.info.MaxSerializedLargeBlobArray
}

// get reads at most n bytes at an offset.
func (x *trial) get(n, offset int) []byte {
	var answer struct {
		Config *[]byte `cbor:"1,keyasint"`
	}
	x.read(ctap.CmdLargeBlobs, members{lbGet: n, lbOffset: offset}, &answer)
	if answer.Config == nil {
		x.fatalf("largeBlobs answers a get without config")
	}
	if len(*answer.Config) > n {
		x.fatalf("largeBlobs answers a get of %d bytes with %d", n, len(*answer.Config))
	}
	return *answer.Config
}

// blobs reads the whole array, n bytes at a time.
func (x *trial) blobs(n int) []byte {
	const enough = 1 << 20 // whatever it says
	var all []byte
	for most := min(x.mostBlobs(), enough); len(all) <= most; {
		next := x.get(n, len(all))
		all = append(all, next...)
		if len(next) < n {
			return all
		}
	}
	x.fatalf("the array does not end at maxSerializedLargeBlobArray, or after %d bytes", enough)
	return nil
}

// write writes an array, n bytes at a time, without a token.
func (x *trial) write(array []byte, n int) {
	for at := 0; at < len(array); at += n {
		length := 0
		if at == 0 {
			length = len(array)
		}
		x.must(x.command(ctap.CmdLargeBlobs, fragment(array[at:min(at+n, len(array))], at, length)))
	}
}

// wantBlobs compares the array.
func (x *trial) wantBlobs(want []byte, what string) {
	if got := x.blobs(x.maxFragment()); !bytes.Equal(got, want) {
		x.errorf("%s: the array has %d bytes, or others, must have %d", what, len(got), len(want))
	}
}

func (d *drivers) largeBlobs() {
	s := plain.and(largeBlobs)
	harmless := s.inAnyState().leavesNoTrace()
	array := withDigest(bytes.Repeat([]byte("large blob"), 10))
	all := len(array)
	first, second := fragment(array[:60], 0, all), fragment(array[60:], 60, 0)

	d.malformed("lb", harmless, ctap.CmdLargeBlobs)
	d.wrongTypes("lb", lbSet, map[string]edit{
		"get":               set(lbGet, "all"),
		"set":               set(lbSetFragment, "array"),
		"offset":            set(lbOffset, "0"),
		"length":            set(lbLength, "17"),
		"pinUvAuthParam":    set(lbParam, "param"),
		"pinUvAuthProtocol": set(lbProtocol, "two"),
	})
	// send sends one request, which may depend on the authenticator.
	send := func(id string, s setup, request func(x *trial) members) {
		d.add(id, s, func(x *trial) error { return x.command(ctap.CmdLargeBlobs, request(x)) })
	}
	// sequence sends requests, of which all but the last succeed.
	sequence := func(id string, s setup, requests ...members) {
		d.add(id, s, func(x *trial) error {
			for _, m := range requests[:len(requests)-1] {
				x.must(x.command(ctap.CmdLargeBlobs, m))
			}
			return x.command(ctap.CmdLargeBlobs, requests[len(requests)-1])
		})
	}
	get := func(n, offset int, edits ...edit) members {
		return edited(members{lbGet: n, lbOffset: offset}, edits)
	}
	sequence("lb-unsupported", plain.and(not(largeBlobs, "has largeBlobs"), from21).inAnyState().leavesNoTrace(), get(17, 0))
	sequence("lb-missing-offset", harmless, members{lbGet: 17})
	sequence("lb-neither", harmless, members{lbOffset: 0})
	sequence("lb-both", s, edited(whole(array), []edit{set(lbGet, 17)}))
	sequence("lb-get", harmless, get(17, 0))
	sequence("lb-get-length", harmless, get(17, 0, set(lbLength, 17)))
	sequence("lb-get-param", harmless, get(17, 0, set(lbParam, make([]byte, 32))))
	sequence("lb-get-protocol", harmless, get(17, 0, set(lbProtocol, 2)))
	send("lb-get-too-long", harmless.and(framed), func(x *trial) members { return get(x.maxFragment()+1, 0) })
	send("lb-get-most", harmless, func(x *trial) members { return get(x.maxFragment(), 0) })
	send("lb-get-end", harmless, func(x *trial) members { return get(17, len(x.blobs(x.maxFragment()))) })
	send("lb-get-beyond", harmless, func(x *trial) members { return get(17, len(x.blobs(x.maxFragment()))+1) })

	sequence("lb-set-unprotected", s, whole(array))
	sequence("lb-set-alwaysuv", plain.alwaysUV().and(largeBlobs), whole(array))
	send("lb-set-too-long", s.and(framed), func(x *trial) members {
		return fragment(make([]byte, x.maxFragment()+1), 0, x.mostBlobs())
	})
	sequence("lb-set-no-length", s, fragment(array, 0, 0))
	send("lb-set-length-most", s, func(x *trial) members { return fragment(array, 0, x.mostBlobs()) })
	send("lb-set-length-too-long", s, func(x *trial) members { return fragment(array, 0, x.mostBlobs()+1) })
	sequence("lb-set-length-too-short", s, whole(array[:16]))
	sequence("lb-set-next", s, first, second)
	sequence("lb-set-next-length", s, first, fragment(array[60:], 60, all))
	sequence("lb-set-next-offset", s, first, fragment(array[61:], 61, 0))
	sequence("lb-set-next-again", s, first, fragment(array[60:70], 60, 0), fragment(array[60:70], 60, 0))
	sequence("lb-set-next-without-first", s, second)
	sequence("lb-set-next-complete", s, first, second, fragment([]byte{1}, all, 0))
	sequence("lb-set-overflow", s, fragment(array, 0, all-1))
	sequence("lb-set-next-overflow", s, first, fragment(append(slices.Clone(array[60:]), 0), 60, 0))
	spoilt := slices.Clone(array)
	spoilt[all-1] ^= 1
	sequence("lb-set-digest", s, whole(spoilt))
	sequence("lb-set-restart", s, first, whole(array))
	d.add("lb-set-digest-keeps", s, func(x *trial) error {
		if x.command(ctap.CmdLargeBlobs, whole(spoilt)) == nil {
			x.errorf("a wrong digest is right")
		}
		x.wantBlobs(initialBlobs, "after a write with a wrong digest")
		return nil
	})
	between := func(id string, s setup, live func(x *trial)) {
		d.add("lb-set-next-"+id, s, func(x *trial) error {
			x.must(x.command(ctap.CmdLargeBlobs, first))
			live(x)
			return x.command(ctap.CmdLargeBlobs, second)
		})
	}
	between("interleaved", s, func(x *trial) { x.must(x.raw(ctap.CmdGetInfo, nil)) })
	between("power-cycle", s.powerCycle(), (*trial).powerCycle)
	d.add("lb-set-next-token-expired", lbSet.setup.waits(afterMaxUse), func(x *trial) error {
		x.expire(func() error { return lbSet.signed(x, first) })
		return lbSet.signed(x, second)
	})
	d.gated("lb-set", lbSet)
	d.add("lb-set-param-of-offset", lbSet.setup, func(x *trial) error {
		x.must(lbSet.signed(x, first))
		m := lbSet.sign(fragment(array[60:], 61, 0), x.hold(lbSet.permission, ""))
		m[lbOffset] = 60
		return x.command(ctap.CmdLargeBlobs, m)
	})
	d.changeAfter("lb-set-param-of-fragment", lbSet, set(lbSetFragment, withDigest([]byte{0x81})))
	d.storedBlobs(s, array)
}

// longArray is an array of n bytes, of which no two parts are the same.
func longArray(n int) []byte {
	contents := make([]byte, 0, n)
	for i := uint32(0); len(contents) < n; i++ {
		contents = binary.BigEndian.AppendUint32(contents, i)
	}
	return withDigest(contents[:n-ctap.LargeBlobDigestLength])
}

// storedBlobs adds what is read of what was written.
func (d *drivers) storedBlobs(s setup, array []byte) {
	d.require("lb-initial", s, func(x *trial) { x.wantBlobs(initialBlobs, "nothing was written") })
	d.require("lb-written", s, func(x *trial) {
		x.write(array, x.maxFragment())
		x.wantBlobs(array, "after a write")
	})
	d.require("lb-read-fragments", s, func(x *trial) {
		x.write(array, x.maxFragment())
		for _, n := range []int{1, 7, len(array) - 1, len(array), len(array) + 1} {
			if got := x.blobs(n); !bytes.Equal(got, array) {
				x.errorf("read in fragments of %d bytes the array is another", n)
			}
		}
	})
	d.require("lb-read-end", s, func(x *trial) {
		x.write(array, x.maxFragment())
		if got := x.get(10, len(array)); len(got) != 0 {
			x.errorf("%d bytes follow the end of the array", len(got))
		}
		if got := x.get(10, len(array)-3); !bytes.Equal(got, array[len(array)-3:]) {
			x.errorf("of the last three bytes, %d are read, or others", len(got))
		}
	})
	d.require("lb-read-none", s.inAnyState().leavesNoTrace(), func(x *trial) {
		if got := x.get(0, 0); len(got) != 0 {
			x.errorf("a get of 0 bytes is answered with %d", len(got))
		}
	})
	d.require("lb-write-fragments", s, func(x *trial) {
		for _, n := range []int{1, 17, len(array) - 1} {
			x.write(initialBlobs, len(initialBlobs))
			x.write(array, n)
			x.wantBlobs(array, "after a write in fragments")
		}
	})
	d.require("lb-write-token", lbSet.setup, func(x *trial) {
		x.must(lbSet.signed(x, fragment(array[:60], 0, len(array))))
		x.must(lbSet.signed(x, fragment(array[60:], 60, 0)))
		x.wantBlobs(array, "after a write with a token")
	})
	d.require("lb-shorter", s, func(x *trial) {
		x.write(array, x.maxFragment())
		short := withDigest([]byte{0x81, 0x00})
		x.write(short, x.maxFragment())
		x.wantBlobs(short, "after a shorter one was written")
	})
	d.require("lb-opaque", s, func(x *trial) {
		garbage := withDigest([]byte{0xFF, 0x00, 0xFF})
		x.write(garbage, x.maxFragment())
		x.wantBlobs(garbage, "after a write of what is no CBOR")
	})
	bounded := condition{"has room for more large blobs than are worth the time, or for less than it must", func(info *ctap2.Info) bool {
		most := info.MaxSerializedLargeBlobArray
		return most >= ctap.LargeBlobMinArray && most <= 64<<10
	}}
	d.require("lb-largest", s.and(bounded), func(x *trial) {
		most := longArray(x.mostBlobs())
		x.write(most, x.maxFragment())
		x.wantBlobs(most, "after a write of the longest")
	})
	// kept writes an array and does what must not change it.
	kept := func(id string, s setup, live func(x *trial)) {
		d.require(id, s, func(x *trial) {
			x.write(array, x.maxFragment())
			live(x)
			x.wantBlobs(array, "after what must not change it")
		})
	}
	other := longArray(200)
	start := func(x *trial) { x.must(x.command(ctap.CmdLargeBlobs, fragment(other[:100], 0, len(other)))) }
	kept("lb-unfinished", s, start)
	kept("lb-power-cycle", s.powerCycle(), (*trial).powerCycle)
	kept("lb-unfinished-power-cycle", s.powerCycle(), func(x *trial) {
		start(x)
		x.powerCycle()
	})
	kept("lb-wrong-digest", s, func(x *trial) {
		spoilt := slices.Clone(other)
		spoilt[0] ^= 1
		if x.command(ctap.CmdLargeBlobs, whole(spoilt)) == nil {
			x.errorf("a wrong digest is right")
		}
	})
	kept("lb-overflow", s, func(x *trial) {
		start(x)
		if x.command(ctap.CmdLargeBlobs, fragment(append(slices.Clone(other[100:]), 0), 100, 0)) == nil {
			x.errorf("more is taken than length says")
		}
	})
	kept("lb-out-of-order", s, func(x *trial) {
		start(x)
		if x.command(ctap.CmdLargeBlobs, fragment(other[101:], 101, 0)) == nil {
			x.errorf("a byte is missing between two fragments")
		}
	})
	d.require("lb-restart", s, func(x *trial) {
		start(x)
		x.write(array, 50)
		x.wantBlobs(array, "after a write that began anew")
	})
	d.require("lb-set-refused", lbSet.setup, func(x *trial) {
		if x.command(ctap.CmdLargeBlobs, whole(array)) == nil {
			x.errorf("written without pinUvAuthParam")
		}
		x.wantBlobs(initialBlobs, "after a write without pinUvAuthParam")
	})
	d.require("lb-reset", s.powerCycle(), func(x *trial) {
		x.write(array, x.maxFragment())
		x.reset()
		x.wantBlobs(initialBlobs, "after a reset")
	})
}
