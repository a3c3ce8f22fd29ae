package conformance

import (
	"fmt"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Types of members, as they are read from CBOR.
func isA[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

func listOf(element func(any) bool) func(any) bool {
	return func(v any) bool {
		list, ok := v.([]any)
		return ok && !slices.ContainsFunc(list, func(e any) bool { return !element(e) })
	}
}

func mapOf(value func(any) bool) func(any) bool {
	return func(v any) bool {
		m, ok := v.(map[any]any)
		for name, e := range m {
			ok = ok && isA[string](name) && value(e)
		}
		return ok
	}
}

var (
	isUint, isBool, isBytes = isA[uint64], isA[bool], isA[[]byte]
	texts, uints            = listOf(isA[string]), listOf(isA[uint64])
)

// infoTypes are the types of what getInfo answers (§6.4).
var infoTypes = map[int]func(any) bool{
	0x01: texts, 0x02: texts, 0x03: isBytes, 0x04: mapOf(isBool), 0x05: isUint, 0x06: uints, 0x07: isUint,
	0x08: isUint, 0x09: texts, 0x0A: listOf(isA[map[any]any]), 0x0B: isUint, 0x0C: isBool, 0x0D: isUint, 0x0E: isUint,
	0x0F: isUint, 0x10: isUint, 0x11: isUint, 0x12: isUint, 0x13: mapOf(isUint), 0x14: isUint, 0x15: uints,
	0x16: texts, 0x17: isUint, 0x18: isBool, 0x19: isBytes, 0x1A: texts, 0x1B: isBool, 0x1C: isBytes, 0x1D: isUint,
	0x1E: isBytes, 0x1F: uints,
}

// says are the members of the getInfo that the case found.
func (x *trial) says() members {
	var m members
	x.must(cbor.Unmarshal(x.info.Raw, &m))
	return m
}

func (d *drivers) getInfo() {
	harmless := plain.leavesNoTrace()
	d.require("info-canonical", harmless, func(x *trial) {
		if err := cbor.Check(x.info.Raw, cbor.Strict); err != nil {
			x.errorf("%v", err)
		}
	})
	d.require("info-types", harmless, func(x *trial) {
		for number, value := range x.says() {
			if right, known := infoTypes[number]; known && !right(value) {
				x.errorf("member %#02x is of another type: %v", number, value)
			}
		}
	})
	d.require("info-versions", harmless, func(x *trial) {
		if slices.Contains(x.info.Versions, "FIDO_2_2") {
			x.errorf("lists FIDO_2_2, which does not exist")
		}
	})
	d.require("info-lists", harmless, func(x *trial) {
		says := x.says()
		for _, number := range []int{0x01, 0x02, 0x06, 0x09, 0x0A, 0x16} {
			list, there := says[number].([]any)
			var seen []string
			for _, element := range list {
				text := fmt.Sprint(element)
				if slices.Contains(seen, text) {
					x.errorf("member %#02x has %v twice", number, element)
				}
				seen = append(seen, text)
			}
			if there && len(list) == 0 && number != 0x02 {
				x.errorf("member %#02x is empty", number)
			}
		}
	})
	d.require("info-max-msg-size", harmless, func(x *trial) {
		if maxMsgSize(x.info) < ctap.DefaultMaxMsgSize {
			x.errorf("maxMsgSize is %d", x.info.MaxMsgSize)
		}
	})
	d.require("info-limits", harmless, func(x *trial) {
		says := x.says()
		for _, number := range []int{0x07, 0x08, 0x11} {
			if limit, there := says[number]; there && limit == uint64(0) {
				x.errorf("member %#02x is 0", number)
			}
		}
	})
	d.require("info-large-blobs", harmless, func(x *trial) {
		most, there := x.says()[0x0B].(uint64)
		// The extension largeBlob has no array, but the same limit may be told.
		if on := x.info.Options[ctap2.OptionLargeBlobs]; on && !there || there && !on && !x.info.HasExtension("largeBlob") {
			x.errorf("the option largeBlobs is %v, maxSerializedLargeBlobArray %d", on, most)
		}
		if there && most < 1024 {
			x.errorf("maxSerializedLargeBlobArray is %d", most)
		}
	})
	d.require("info-cred-blob", harmless, func(x *trial) {
		most, there := x.says()[0x0F].(uint64)
		if there != x.info.HasExtension("credBlob") {
			x.errorf("the extension credBlob and maxCredBlobLength do not come together")
		}
		if there && most < 32 {
			x.errorf("maxCredBlobLength is %d", most)
		}
	})
	d.require("info-pin-lengths", harmless.and(clientPIN, from21), func(x *trial) {
		least, there := x.says()[0x0D].(uint64)
		if !there {
			x.fatalf("there is no minPINLength")
		}
		most, there := x.says()[0x1D].(uint64)
		if !there {
			most = ctap.PINDefaultMaxLength
		}
		if least < ctap.PINDefaultMinLength || most > ctap.PINDefaultMaxLength || least > most {
			x.errorf("minPINLength is %d, maxPINLength %d", least, most)
		}
	})
	d.require("info-client-pin", plain.and(clientPIN), func(x *trial) {
		if x.info.Options[ctap2.OptionClientPIN] {
			x.errorf("clientPin is true, and no PIN is set")
		}
		x.must(x.trySetPIN(x.pin()))
		if !x.fresh().Options[ctap2.OptionClientPIN] {
			x.errorf("clientPin is false, and a PIN is set")
		}
	})
	d.require("info-dependent-options", harmless, func(x *trial) {
		for dependent, on := range map[string]string{
			ctap2.OptionNoMcGaPermissionsWithClientPIN: ctap2.OptionClientPIN,
			ctap2.OptionSetMinPINLength:                ctap2.OptionClientPIN,
			ctap2.OptionUVBioEnroll:                    ctap2.OptionBioEnroll,
			ctap2.OptionUVAuthenticatorConfig:          ctap2.OptionAuthenticatorConfig,
		} {
			if option(dependent).holds(x.info) && !option(on).holds(x.info) {
				x.errorf("there is an option %s, and none %s", dependent, on)
			}
		}
	})
	d.require("info-token-option", harmless.and(permissions), func(x *trial) {
		if !clientPIN.holds(x.info) && !builtInUV.holds(x.info) {
			x.errorf("pinUvAuthToken without a PIN or built-in user verification")
		}
	})
	d.require("info-protocols", harmless.and(from21), func(x *trial) {
		needed := clientPIN.holds(x.info) || permissions.holds(x.info)
		if _, there := x.says()[0x06]; needed && !there {
			x.errorf("there are no pinUvAuthProtocols")
		}
	})
	d.require("info-always-uv", withPIN.alwaysUV().leavesNoTrace(), func(x *trial) {
		if x.info.Options[ctap2.OptionMakeCredUVNotRequired] {
			x.errorf("alwaysUv and makeCredUvNotRqd are both true")
		}
	})
	d.require("info-aaguid", harmless.and(undemanding), func(x *trial) {
		if got := x.attested(x.made()).AAGUID; got != x.info.AAGUID {
			x.errorf("makeCredential says %v, getInfo %v", got, x.info.AAGUID)
		}
	})
	d.require("info-over", harmless, func(x *trial) {
		over := x.h.config.Target.Over
		if over == "" || x.info.Transports == nil {
			x.skip("transports are not told, or the one of this run is not known")
		}
		if !slices.Contains(x.info.Transports, over) {
			x.errorf("%s is not in transports", over)
		}
	})
	d.require("info-no-touch", harmless.person(NoTouch), func(x *trial) {
		x.person(NoTouch)
		x.fresh()
		x.wantNoTouch(0)
	})
	d.infoAlgorithms()

	counted := condition{"does not count user verification", func(info *ctap2.Info) bool { return info.UVCountSinceLastPINEntry != nil }}
	d.require("info-uv-count", withFinger.and(counted, permissions, mcGaWithPIN), func(x *trial) {
		count := func(method ctap2.Method) int {
			x.tokenBy(method, ctap2.PermissionGetAssertion, "example.com").Wipe()
			n := x.fresh().UVCountSinceLastPINEntry
			if n == nil {
				x.fatalf("uvCountSinceLastPinEntry is gone")
			}
			return *n
		}
		if n := count(ctap2.PINMethod); n != 0 {
			x.errorf("is %d after a PIN", n)
		}
		count(ctap2.UVMethod)
		if n := count(ctap2.UVMethod); n != 2 {
			x.errorf("is %d after a finger was recognised twice", n)
		}
		if n := count(ctap2.PINMethod); n != 0 {
			x.errorf("is %d after another PIN", n)
		}
	})
}

func (d *drivers) infoAlgorithms() {
	listed := condition{"does not list algorithms", func(info *ctap2.Info) bool { return len(info.Algorithms) > 0 }}
	harmless := plain.and(listed).leavesNoTrace()
	d.require("info-algorithms", harmless, func(x *trial) {
		for _, alg := range x.info.Algorithms {
			if !alg.Available() {
				continue
			}
			made := x.register(notResident, only(alg))
			if made.PublicKey.Algorithm != alg {
				x.errorf("%v gives a key for %v", alg, made.PublicKey.Algorithm)
			}
			x.wantSignature(x.asserted(set(gaAllowList, list(made.ID))), made)
		}
	})
	d.add("info-algorithm-unlisted", harmless, func(x *trial) error {
		for _, alg := range []cose.Algorithm{cose.ES256K, cose.PS256, cose.ES512, cose.ES384, cose.RS256} {
			if slices.Contains(x.info.Algorithms, alg) {
				continue
			}
			err := x.mc(params(fields{"type": "public-key", "alg": int(alg)}))
			if got, _ := statusOf(err); got != "UNSUPPORTED_ALGORITHM" {
				x.errorf("%v, which is not listed: answered %s", alg, got)
			}
		}
		return nil
	})
	limited := condition{"does not tell how long credential IDs are", func(info *ctap2.Info) bool { return info.MaxCredentialIDLength > 0 }}
	d.require("info-max-credential-id", plain.and(limited, listed, residentKeys), func(x *trial) {
		for _, alg := range x.info.Algorithms {
			for _, kind := range []func(*ctap2.MakeCredentialRequest){notResident, account("ada")} {
				if id := x.create(kind, only(alg)); len(id) > x.info.MaxCredentialIDLength {
					x.errorf("a credential of %v has an ID of %d bytes", alg, len(id))
				}
			}
		}
	})
}

func only(alg cose.Algorithm) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.Algorithms = []cose.Algorithm{alg} }
}
