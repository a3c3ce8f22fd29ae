package virtual

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// The tests are a platform that speaks raw CTAP: maps of numbers in, maps of
// numbers out.
type (
	params  = map[uint64]any
	names   = map[string]any
	members = map[uint64]cbor.RawMessage
)

const (
	testPIN  = "271828"
	testRPID = "example.com"
)

var testHash = bytes.Repeat([]byte{0xCD}, 32)

// platform talks to one key.
type platform struct {
	testing.TB
	*Authenticator
}

func newKey(t testing.TB, cfg Config) *platform {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &platform{t, a}
}

// message encodes a request; parameters that are nil are absent.
func message(t testing.TB, command byte, parameters any) []byte {
	t.Helper()
	msg := []byte{command}
	if parameters == nil {
		return msg
	}
	encoded, err := cbor.Marshal(parameters)
	if err != nil {
		t.Fatal(err)
	}
	return append(msg, encoded...)
}

func (p *platform) exchange(ctx context.Context, msg []byte, status func(byte)) (byte, members) {
	p.Helper()
	answer, err := p.Exchange(ctx, msg, status)
	if err != nil {
		p.Fatalf("Exchange: %v", err)
	}
	if len(answer) == 1 {
		return answer[0], nil
	}
	if answer[0] != ctap.StatusOK {
		p.Fatalf("status %#02x with output", answer[0])
	}
	if err := cbor.Check(answer[1:], cbor.Strict); err != nil && p.cfg.Faults == 0 {
		p.Fatalf("answer is not canonical: %v", err)
	}
	var m members
	if err := cbor.Unmarshal(answer[1:], &m); err != nil {
		p.Fatal(err)
	}
	return answer[0], m
}

func (p *platform) call(command byte, parameters any) (byte, members) {
	p.Helper()
	return p.exchange(p.Context(), message(p, command, parameters), nil)
}

// ok is call for what must succeed.
func (p *platform) ok(command byte, parameters any) members {
	p.Helper()
	status, m := p.call(command, parameters)
	if status != ctap.StatusOK {
		p.Fatalf("command %#02x: status %#02x", command, status)
	}
	return m
}

// refused is call for what must not.
func (p *platform) refused(want, command byte, parameters any) {
	p.Helper()
	if status, _ := p.call(command, parameters); status != want {
		p.Fatalf("command %#02x: status %#02x, want %#02x", command, status, want)
	}
}

// value decodes a member.
func value[T any](t testing.TB, m members, key uint64) T {
	t.Helper()
	var v T
	raw, ok := m[key]
	if !ok {
		t.Fatalf("member %#02x is missing", key)
	}
	if err := cbor.Unmarshal(raw, &v); err != nil {
		t.Fatalf("member %#02x: %v", key, err)
	}
	return v
}

func (p *platform) options() map[string]bool {
	p.Helper()
	return value[map[string]bool](p, p.ok(ctap.CmdGetInfo, nil), infoOptions)
}

// makeRequest is a makeCredential that succeeds, changed by each of changes.
func makeRequest(changes ...params) params {
	return merge(params{
		1: testHash,
		2: names{"id": testRPID, "name": "Example"},
		3: names{"id": []byte("ada"), "name": "ada@example.com", "displayName": "Ada"},
		4: []names{{"alg": -7, "type": "public-key"}},
	}, changes)
}

// assertRequest is a getAssertion, changed by each of changes.
func assertRequest(changes ...params) params {
	return merge(params{1: testRPID, 2: testHash}, changes)
}

// merge applies changes; a nil value removes the member.
func merge(request params, changes []params) params {
	for _, change := range changes {
		for k, v := range change {
			request[k] = v
			if v == nil {
				delete(request, k)
			}
		}
	}
	return request
}

func residentKey() params { return params{7: names{"rk": true}} }

func account(id, name string) params { return params{3: names{"id": []byte(id), "name": name}} }

func descriptor(id []byte) names { return names{"id": id, "type": "public-key"} }

func allow(ids ...[]byte) params {
	list := []names{}
	for _, id := range ids {
		list = append(list, descriptor(id))
	}
	return params{3: list}
}

func exclude(ids ...[]byte) params { return params{5: allow(ids...)[3]} }

// authData is authenticator data taken apart.
type authData struct {
	raw       []byte
	flags     byte
	signCount uint32
	aaguid    []byte
	id        []byte
	key       *cose.Key
	outputs   map[string]cbor.RawMessage
}

func (p *platform) parseAuthData(m members) authData {
	p.Helper()
	raw := value[[]byte](p, m, 2)
	rpIDHash := sha256.Sum256([]byte(testRPID))
	if len(raw) < 37 || !bytes.Equal(raw[:32], rpIDHash[:]) {
		p.Fatalf("authenticator data %x", raw)
	}
	d := authData{raw: raw, flags: raw[32], signCount: binary.BigEndian.Uint32(raw[33:])}
	rest := raw[37:]
	if d.flags&ctap.FlagAttestedCredentialData != 0 {
		n := int(binary.BigEndian.Uint16(rest[16:]))
		d.aaguid, d.id, rest = rest[:16], rest[18:18+n], rest[18+n:]
		n, err := cbor.Prefix(rest, cbor.Strict)
		if err != nil {
			p.Fatal(err)
		}
		if d.key, err = cose.ParseKey(rest[:n]); err != nil {
			p.Fatal(err)
		}
		rest = rest[n:]
	}
	if d.flags&ctap.FlagExtensionData != 0 {
		if err := cbor.Unmarshal(rest, &d.outputs); err != nil {
			p.Fatal(err)
		}
		rest = nil
	}
	if len(rest) != 0 {
		p.Fatalf("%d bytes behind authenticator data", len(rest))
	}
	return d
}

// make makes a credential.
func (p *platform) make(changes ...params) authData {
	p.Helper()
	return p.parseAuthData(p.ok(ctap.CmdMakeCredential, makeRequest(changes...)))
}

// assert makes an assertion of cred and checks it.
func (p *platform) assert(cred authData, changes ...params) (authData, members) {
	p.Helper()
	m := p.ok(ctap.CmdGetAssertion, assertRequest(changes...))
	return p.checkAssertion(cred, m), m
}

func (p *platform) checkAssertion(cred authData, m members) authData {
	p.Helper()
	d := p.parseAuthData(m)
	if err := cred.key.Verify(slices.Concat(d.raw, testHash), value[[]byte](p, m, 3)); err != nil {
		p.Fatal(err)
	}
	if id := value[map[string]any](p, m, 1)["id"]; !bytes.Equal(id.([]byte), cred.id) {
		p.Fatalf("credential %x, want %x", id, cred.id)
	}
	return d
}

func (p *platform) wantFlags(d authData, want byte) {
	p.Helper()
	if d.flags != want {
		p.Fatalf("flags %#02x, want %#02x", d.flags, want)
	}
}

const (
	flagUP = ctap.FlagUserPresent
	flagUV = ctap.FlagUserVerified
	flagAT = ctap.FlagAttestedCredentialData
	flagED = ctap.FlagExtensionData

	permMC = ctap.PermissionMakeCredential
	permGA = ctap.PermissionGetAssertion

	subCommand = 2 // member of a clientPIN request
)

// agree agrees on a secret with the key.
func (p *platform) agree(protocol pin.Protocol) (*cose.Key, *pin.SharedSecret) {
	p.Helper()
	m := p.ok(ctap.CmdClientPIN, params{1: protocol, subCommand: ctap.PINGetKeyAgreement})
	peer, err := cose.ParseKey(m[1])
	if err != nil {
		p.Fatal(err)
	}
	mine, secret, err := protocol.Encapsulate(peer)
	if err != nil {
		p.Fatal(err)
	}
	return mine, secret
}

func (p *platform) encrypt(s *pin.SharedSecret, plaintext []byte) []byte {
	p.Helper()
	ciphertext, err := s.Encrypt(plaintext)
	if err != nil {
		p.Fatal(err)
	}
	return ciphertext
}

func padded(newPIN string) []byte {
	return append([]byte(newPIN), make([]byte, 64-len(newPIN))...)
}

func pinHash(s string) []byte { return pin.Hash(pin.FromString(s)).Bytes() }

func (p *platform) setPINRequest(protocol pin.Protocol, padded []byte) params {
	p.Helper()
	mine, secret := p.agree(protocol)
	enc := p.encrypt(secret, padded)
	return params{1: protocol, subCommand: ctap.PINSetPIN, 3: mine, 4: secret.Authenticate(enc), 5: enc}
}

func (p *platform) changePINRequest(protocol pin.Protocol, oldPIN, newPIN string) params {
	p.Helper()
	mine, secret := p.agree(protocol)
	enc, hash := p.encrypt(secret, padded(newPIN)), p.encrypt(secret, pinHash(oldPIN))
	return params{1: protocol, subCommand: ctap.PINChangePIN, 3: mine, 4: secret.Authenticate(enc, hash), 5: enc, 6: hash}
}

// tokenRequest is a request for a token with a PIN, and the secret that opens
// the answer. Without permissions it is the superseded getPinToken.
func (p *platform) tokenRequest(protocol pin.Protocol, userPIN string, permissions uint64, rpID string) (params, *pin.SharedSecret) {
	p.Helper()
	mine, secret := p.agree(protocol)
	r := params{1: protocol, subCommand: ctap.PINGetPINToken, 3: mine, 6: p.encrypt(secret, pinHash(userPIN))}
	if permissions != 0 {
		r[subCommand] = ctap.PINGetTokenUsingPIN
		r[9] = permissions
	}
	if rpID != "" {
		r[10] = rpID
	}
	return r, secret
}

// token obtains a token.
func (p *platform) token(protocol pin.Protocol, permissions uint64, rpID string) pin.Secret {
	p.Helper()
	request, secret := p.tokenRequest(protocol, testPIN, permissions, rpID)
	return p.openToken(p.ok(ctap.CmdClientPIN, request), secret)
}

// uvTokenRequest is a request for a token by built-in user verification.
func (p *platform) uvTokenRequest(permissions uint64) (params, *pin.SharedSecret) {
	p.Helper()
	mine, secret := p.agree(pin.Two)
	return params{1: pin.Two, subCommand: ctap.PINGetTokenUsingUV, 3: mine, 9: permissions, 10: testRPID}, secret
}

func (p *platform) uvToken(permissions uint64) pin.Secret {
	p.Helper()
	request, secret := p.uvTokenRequest(permissions)
	return p.openToken(p.ok(ctap.CmdClientPIN, request), secret)
}

func (p *platform) openToken(m members, secret *pin.SharedSecret) pin.Secret {
	p.Helper()
	plaintext, err := secret.Decrypt(value[[]byte](p, m, 2))
	if err != nil || len(plaintext) != 32 {
		p.Fatalf("token of %d bytes, %v", len(plaintext), err)
	}
	return pin.NewSecret(plaintext)
}

// withToken are the parameters that authenticate a request with a token.
func withToken(command byte, protocol pin.Protocol, token pin.Secret) params {
	param := protocol.Authenticate(token, testHash)
	if command == ctap.CmdMakeCredential {
		return params{8: param, 9: protocol}
	}
	return params{6: param, 7: protocol}
}

func (p *platform) pinRetries() int {
	p.Helper()
	return value[int](p, p.ok(ctap.CmdClientPIN, params{subCommand: ctap.PINGetRetries}), pinRetriesLeft)
}

func (p *platform) uvRetries() int {
	p.Helper()
	return value[int](p, p.ok(ctap.CmdClientPIN, params{subCommand: ctap.PINGetUVRetries}), pinUVRetriesLeft)
}

// counter is a Person who counts prompts and does what next says.
type counter struct {
	next    Person
	prompts []Prompt
}

func (c *counter) person(ctx context.Context, prompt Prompt) Answer {
	c.prompts = append(c.prompts, prompt)
	if c.next == nil {
		return Approve
	}
	return c.next(ctx, prompt)
}

// took returns the number of prompts since it was last called.
func (c *counter) took() int {
	n := len(c.prompts)
	c.prompts = nil
	return n
}
