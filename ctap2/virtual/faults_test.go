package virtual

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// raw exchanges a message and returns the map of the answer as it is encoded.
func (p *platform) raw(command byte, parameters any) []byte {
	p.Helper()
	answer, err := p.Exchange(p.Context(), message(p, command, parameters), nil)
	if err != nil || answer[0] != ctap.StatusOK {
		p.Fatalf("answer % x, %v", answer[:1], err)
	}
	return answer[1:]
}

func TestFaultKeysOutOfOrder(t *testing.T) {
	key := newKey(t, Config{Faults: KeysOutOfOrder | UnknownMembers, BuiltInUV: UVConfigured})
	info := key.raw(ctap.CmdGetInfo, nil)
	for what, answer := range map[string][]byte{
		"getInfo":        info,
		"makeCredential": key.raw(ctap.CmdMakeCredential, makeRequest()),
		"clientPIN":      key.raw(ctap.CmdClientPIN, params{subCommand: ctap.PINGetRetries}),
	} {
		if cbor.Check(answer, cbor.Strict) == nil {
			t.Errorf("%s is canonical", what)
		}
		if err := cbor.Check(answer, cbor.Lenient); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if i, j := bytes.Index(info, []byte("\x64plat")), bytes.Index(info, []byte("\x62rk")); i < 0 || j < i {
		t.Error("options are in order")
	}
}

func TestDescendingLongMap(t *testing.T) {
	m := reply{}
	for i := range uint64(30) {
		m[i] = i
	}
	encoded, err := descending(m)
	if err != nil {
		t.Fatal(err)
	}
	var got map[uint64]uint64
	if err := cbor.Unmarshal(encoded, &got); err != nil || len(got) != 30 {
		t.Errorf("%d pairs, %v", len(got), err)
	}
	if _, err := descending(reply{1: reply{2: make(chan int)}}); err == nil {
		t.Error("a channel was encoded")
	}
	if _, err := descending(reply{1: map[any]any{1: 1}}); err != nil {
		t.Error(err)
	}
}

func TestFaultUnknownMembers(t *testing.T) {
	key := newKey(t, Config{Faults: UnknownMembers})
	m := key.ok(ctap.CmdGetInfo, nil)
	for _, member := range []uint64{infoExtensions, infoTransports} {
		if list := value[[]string](t, m, member); !slices.Contains(list, unknownName) {
			t.Errorf("member %#02x is %v", member, list)
		}
	}
	if m[unknownKey] == nil || !key.options()[unknownName] || len(value[[]names](t, m, infoAlgorithms)) != 4 {
		t.Errorf("getInfo %v", m)
	}
	if m := key.ok(ctap.CmdMakeCredential, makeRequest()); m[unknownKey] == nil {
		t.Error("makeCredential without an unknown member")
	}
	// The second getInfo has no more than the first.
	if list := value[[]string](t, key.ok(ctap.CmdGetInfo, nil), infoTransports); len(list) != 2 {
		t.Errorf("transports %v", list)
	}
}

func TestFaultMembers(t *testing.T) {
	ask := map[byte]func(*platform) (any, uint64){
		ctap.CmdGetInfo:        func(*platform) (any, uint64) { return nil, infoAAGUID },
		ctap.CmdMakeCredential: func(*platform) (any, uint64) { return makeRequest(residentKey()), 2 },
		ctap.CmdGetAssertion:   func(*platform) (any, uint64) { return assertRequest(), 2 },
		ctap.CmdClientPIN:      func(*platform) (any, uint64) { return params{1: 2, subCommand: ctap.PINGetKeyAgreement}, 1 },
	}
	for _, fault := range []Fault{NullMember, MissingMember, EmptyMap} {
		key := newKey(t, Config{Faults: fault})
		for _, command := range []byte{ctap.CmdGetInfo, ctap.CmdMakeCredential, ctap.CmdGetAssertion, ctap.CmdClientPIN} {
			parameters, member := ask[command](key)
			m := key.ok(command, parameters)
			switch fault {
			case NullMember:
				if !bytes.Equal(m[member], []byte{0xF6}) {
					t.Errorf("command %#02x: member %x", command, m[member])
				}
			case MissingMember:
				if m[member] != nil {
					t.Errorf("command %#02x: member %x", command, m[member])
				}
			case EmptyMap:
				if m == nil || len(m) != 0 {
					t.Errorf("command %#02x: members %v", command, m)
				}
			}
		}
	}
}

// Whatever is the matter with a key, it answers, and with CBOR.
func TestFaultPairs(t *testing.T) {
	for first := Fault(1); first <= TouchTimesOut; first <<= 1 {
		for second := first; second <= TouchTimesOut; second <<= 1 {
			key := newKey(t, Config{Faults: first | second})
			exchange := func(command byte, parameters any) {
				t.Helper()
				answer, err := key.Exchange(t.Context(), message(t, command, parameters), nil)
				if err != nil || len(answer) > 1 && cbor.Check(answer[1:], cbor.Lenient) != nil {
					t.Errorf("faults %#x, command %#02x: answer %x, %v", first|second, command, answer, err)
				}
				if (first | second).has(EmptyMap) && len(answer) > 1 && !bytes.Equal(answer[1:], []byte{0xA0}) {
					t.Errorf("faults %#x, command %#02x: answer %x", first|second, command, answer)
				}
			}
			exchange(ctap.CmdGetInfo, nil)
			for _, id := range []string{"a", "b"} {
				exchange(ctap.CmdMakeCredential, makeRequest(residentKey(), account(id, id)))
			}
			exchange(ctap.CmdGetAssertion, assertRequest())
			exchange(ctap.CmdGetNextAssertion, nil)
			exchange(ctap.CmdGetAssertion, assertRequest(allow(key.stored()[0].id)))
			exchange(ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetRetries})
			exchange(ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetKeyAgreement})
			exchange(ctap.CmdLargeBlobs, params{1: 17, 3: 0})
			exchange(ctap.CmdSelection, nil)
			exchange(ctap.CmdReset, nil)
		}
	}
}

func TestFaultSparseInfo(t *testing.T) {
	m := newKey(t, Config{Faults: OmitExtensions | OmitPINProtocols | OmitLimits}).ok(ctap.CmdGetInfo, nil)
	for _, member := range []uint64{infoExtensions, infoPINUVAuthProtocols, infoMaxMsgSize, infoMaxCredentialCountInList, infoMaxCredentialIDLength, infoAlgorithms} {
		if m[member] != nil {
			t.Errorf("member %#02x is there", member)
		}
	}
	versions := value[[]string](t, newKey(t, Config{Faults: ReportFIDO22}).ok(ctap.CmdGetInfo, nil), infoVersions)
	if !slices.Contains(versions, "FIDO_2_2") {
		t.Errorf("versions %v", versions)
	}
}

func TestFaultAssertion(t *testing.T) {
	key := newKey(t, Config{Faults: OmitCredential | OmitUser})
	creds := makeAccounts(key)
	m := key.ok(ctap.CmdGetAssertion, assertRequest(allow(creds[0].id)))
	if m[assertionCredential] != nil || m[assertionUser] != nil {
		t.Errorf("members %v", m)
	}
	for _, command := range []byte{ctap.CmdGetAssertion, ctap.CmdGetNextAssertion} {
		var parameters any
		if command == ctap.CmdGetAssertion {
			parameters = assertRequest()
		}
		if m := key.ok(command, parameters); m[assertionCredential] == nil || m[assertionUser] != nil {
			t.Errorf("members %v", m)
		}
	}
}

func TestFaultAuthenticatorData(t *testing.T) {
	key := newKey(t, Config{Faults: ReservedFlags | UnaskedExtension, Attestation: AttestationSelf})
	cred := key.make()
	key.wantFlags(cred, flagUP|flagAT|flagED|reservedFlags)
	d, _ := key.assert(cred, allow(cred.id))
	key.wantFlags(d, flagUP|flagED|reservedFlags)
	if cred.outputs[unaskedExtension] == nil || d.outputs[unaskedExtension] == nil {
		t.Errorf("outputs %v, %v", cred.outputs, d.outputs)
	}

	key = newKey(t, Config{Faults: WrongRPIDHash})
	data := value[[]byte](t, key.ok(ctap.CmdMakeCredential, makeRequest()), 2)
	if hash := sha256.Sum256([]byte(testRPID)); bytes.Equal(data[:32], hash[:]) {
		t.Error("the right RP ID hash")
	}

	key = newKey(t, Config{Faults: OffCurveKey})
	data = value[[]byte](t, key.ok(ctap.CmdMakeCredential, makeRequest()), 2)
	n := int(data[53])<<8 | int(data[54])
	if _, err := cose.ParseKey(data[55+n:]); !errors.Is(err, cose.ErrNotOnCurve) {
		t.Errorf("public key: %v", err)
	}
}

func TestFaultRequests(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN, Faults: RefuseUVWithParam | RefuseUP | PINRetriesNeedProtocol | RefuseTransports})
	param := withToken(ctap.CmdMakeCredential, pin.Two, key.token(pin.Two, permMC, testRPID))
	key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential, makeRequest(param, params{7: names{"uv": true}}))
	key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential, makeRequest(param, params{7: names{"up": true}}))
	key.refused(ctap.StatusMissingParameter, ctap.CmdClientPIN, params{subCommand: ctap.PINGetRetries})
	key.ok(ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetRetries})
	key.refused(ctap.StatusInvalidParameter, ctap.CmdGetAssertion,
		assertRequest(params{3: []names{{"id": []byte{1}, "type": "public-key", "transports": []string{"usb"}}}}))
	key.make(param)

	// None of them is what a key without faults does.
	key = newKey(t, Config{PIN: testPIN})
	param = withToken(ctap.CmdMakeCredential, pin.Two, key.token(pin.Two, permMC, testRPID))
	cred := key.make(param, params{7: names{"uv": true, "up": true}})
	key.wantFlags(cred, flagUP|flagUV|flagAT)
}

// Who declines is denied all the same, and what the key times out with by the
// specification it still does.
func TestFaultTouchTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Faults: TouchTimesOut})
		cred := key.make()
		for command, parameters := range map[byte]any{
			ctap.CmdMakeCredential: makeRequest(),
			ctap.CmdGetAssertion:   assertRequest(allow(cred.id)),
			ctap.CmdSelection:      nil,
		} {
			key.SetPresence(Ignore)
			key.refused(ctap.StatusUserActionTimeout, command, parameters)
			key.SetPresence(Refuse)
			key.refused(ctap.StatusOperationDenied, command, parameters)
		}
	})
}

func TestFaultLargeBlobs(t *testing.T) {
	array := serialized(1, 60)
	get := func(key *platform, n, offset int) []byte {
		t.Helper()
		return value[[]byte](t, key.ok(ctap.CmdLargeBlobs, params{1: n, 3: offset}), largeBlobsConfig)
	}
	key := newKey(t, Config{Faults: WrongLargeBlobDigest})
	if got := get(key, 17, 0); len(got) != 17 || validLargeBlobArray(got) {
		t.Errorf("array %x", got)
	}
	key.ok(ctap.CmdLargeBlobs, fragment(array, 0, 60))
	if got := get(key, 100, 0); len(got) != 60 || validLargeBlobArray(got) {
		t.Errorf("array %x", got)
	}
	if !bytes.Equal(key.state.largeBlobs, array) || !validLargeBlobArray(initialLargeBlobArray) {
		t.Error("the stored array is wrong as well")
	}

	key = newKey(t, Config{Faults: LongLargeBlobFragment})
	key.ok(ctap.CmdLargeBlobs, fragment(array, 0, 60))
	for _, n := range []int{0, 10, 60, 100} {
		if got := get(key, n, 0); len(got) != n+1 {
			t.Errorf("%d bytes for %d", len(got), n)
		}
	}

	key = newKey(t, Config{Faults: MissingMember})
	if m := key.ok(ctap.CmdLargeBlobs, params{1: 17, 3: 0}); len(m) != 0 {
		t.Errorf("members %v", m)
	}
}
