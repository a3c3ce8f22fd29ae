package ctap2_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
)

// canned is a Transport that answers each command with a prepared reply: raw
// bytes after the status 0, or a status.
type canned struct {
	replies  map[byte]func(message []byte) []byte
	messages [][]byte
}

func (c *canned) Exchange(_ context.Context, message []byte, _ func(byte)) ([]byte, error) {
	c.messages = append(c.messages, slices.Clone(message))
	reply, ok := c.replies[message[0]]
	if !ok {
		return []byte{byte(ctap2.ErrInvalidCommand)}, nil
	}
	return reply(message), nil
}

func (c *canned) Close() error { return nil }

func (c *canned) on(command byte, reply func(message []byte) []byte) { c.replies[command] = reply }

func ok(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0}, b...)
}

func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type members = map[int]any

// basicInfo is a getInfo reply with what is required, and nothing else.
func basicInfo() members {
	return members{1: []string{"FIDO_2_0"}, 3: make([]byte, 16)}
}

func newCanned(t testing.TB, info any) *canned {
	c := &canned{replies: map[byte]func([]byte) []byte{}}
	c.on(0x04, func([]byte) []byte { return ok(t, info) })
	return c
}

func open(t testing.TB, c ctap2.Transport, options ...ctap2.Option) *ctap2.Authenticator {
	t.Helper()
	key, err := ctap2.Open(t.Context(), c, options...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// softKey makes authenticator data and signatures for canned replies.
type softKey struct {
	private *ecdsa.PrivateKey
	id      []byte
}

func newSoftKey(t testing.TB) *softKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &softKey{private, []byte("credential-id-01")}
}

func (s *softKey) authData(t testing.TB, rpID string, flags byte, attested bool, extensions []byte) []byte {
	t.Helper()
	hash := sha256.Sum256([]byte(rpID))
	data := binary.BigEndian.AppendUint32(append(hash[:], flags), 1)
	if attested {
		key, err := cose.NewKey(cose.ES256, &s.private.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := key.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, make([]byte, 16)...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(s.id)))
		data = append(append(data, s.id...), encoded...)
	}
	return append(data, extensions...)
}

func (s *softKey) sign(t testing.TB, authData, hash []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(slices.Concat(authData, hash))
	signature, err := ecdsa.SignASN1(rand.Reader, s.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

var clientDataHash = sha256.Sum256([]byte("client data"))

func registration() *ctap2.MakeCredentialRequest {
	return &ctap2.MakeCredentialRequest{
		ClientDataHash: clientDataHash[:],
		RP:             ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:           ctap2.User{ID: []byte{1, 2, 3}, Name: "ada"},
		Algorithms:     []cose.Algorithm{cose.ES256},
	}
}

func signIn() *ctap2.GetAssertionRequest {
	return &ctap2.GetAssertionRequest{RPID: "example.com", ClientDataHash: clientDataHash[:]}
}

// Quirk 23: what real keys send although they should not is accepted; what
// could be read in two ways is refused; strict mode refuses both.
func TestQuirk23CanonicalForm(t *testing.T) {
	aaguid := "50" + strings.Repeat("00", 16)
	versions := "81 68 4649444f5f325f30"
	for _, tt := range []struct {
		name, reply     string
		lenient, strict bool
	}{
		{"canonical", "a2 01" + versions + "03" + aaguid, true, true},
		{"members out of order", "a2 03" + aaguid + "01" + versions, true, false},
		{"options out of order", "a3 01" + versions + "03" + aaguid + "04 a2 64 706c6174 f4 62 726b f5", true, false},
		{"unknown member", "a3 01" + versions + "03" + aaguid + "18fe a1 01 f6", true, true},
		{"unknown member null", "a3 01" + versions + "03" + aaguid + "18fe f6", true, true},
		{"unknown text member", "a3 01" + versions + "03" + aaguid + "6178 01", true, true},
		{"unknown option", "a3 01" + versions + "03" + aaguid + "04 a1 63 6e6577 f5", true, true},
		{"unknown algorithm", "a3 01" + versions + "03" + aaguid + "0a 81 a2 63616c67 39ffff 6474797065 6a7075626c69632d6b6579", true, true},
		{"unknown transport", "a3 01" + versions + "03" + aaguid + "09 81 65 6c61736572", true, true},
		{"duplicate member", "a3 01" + versions + "03" + aaguid + "03" + aaguid, false, false},
		{"duplicate option", "a3 01" + versions + "03" + aaguid + "04 a2 62 726b f5 62 726b f4", false, false},
		{"indefinite map", "bf 01" + versions + "03" + aaguid + "ff", false, false},
		{"indefinite array", "a2 01 9f 68 4649444f5f325f30 ff 03" + aaguid, false, false},
		{"trailing byte", "a2 01" + versions + "03" + aaguid + "00", false, false},
	} {
		c := &canned{replies: map[byte]func([]byte) []byte{
			0x04: func([]byte) []byte { return append([]byte{0}, raw(t, tt.reply)...) },
		}}
		for strict, want := range map[bool]bool{false: tt.lenient, true: tt.strict} {
			var options []ctap2.Option
			if strict {
				options = append(options, ctap2.WithStrictCBOR())
			}
			key, err := ctap2.Open(t.Context(), c, options...)
			if (err == nil) != want || err != nil && !errors.Is(err, ctap2.ErrMalformed) {
				t.Errorf("%s, strict %v: %v", tt.name, strict, err)
			}
			if err == nil && strings.Contains(tt.name, "unknown member") && len(key.Info().Unknown[0xfe]) == 0 {
				t.Errorf("%s: not kept", tt.name)
			}
			if err == nil && tt.name == "unknown option" && !key.Info().Options["new"] {
				t.Errorf("%s: not kept", tt.name)
			}
			if err == nil && tt.name == "unknown algorithm" && key.Info().Algorithms[0] != -65536 {
				t.Errorf("%s: not kept: %v", tt.name, key.Info().Algorithms)
			}
		}
	}
}

// Quirk 23: a status that nobody has named keeps its byte.
func TestQuirk23UnknownStatus(t *testing.T) {
	c := newCanned(t, basicInfo())
	c.on(0x07, func([]byte) []byte { return []byte{0xF3} })
	err := open(t, c).Reset(t.Context())
	var e *ctap2.Error
	if !errors.As(err, &e) || e.Status != 0xF3 || !errors.Is(err, ctap2.Status(0xF3)) || !strings.Contains(err.Error(), "F3") {
		t.Error(err)
	}
}

// Quirk 24: null, an empty map, a missing or wrongly typed member of any reply
// is an error, never an empty success.
func TestQuirk24MissingMembers(t *testing.T) {
	s := newSoftKey(t)
	mcAuth := s.authData(t, "example.com", 0x41, true, nil)
	gaAuth := s.authData(t, "example.com", 0x01, false, nil)
	good := map[string]members{
		"getInfo": basicInfo(),
		"makeCredential": {1: "packed", 2: mcAuth, 3: map[string]any{
			"alg": -7, "sig": s.sign(t, mcAuth, clientDataHash[:])}},
		"getAssertion": {1: map[string]any{"id": s.id, "type": "public-key"}, 2: gaAuth,
			3: s.sign(t, gaAuth, clientDataHash[:]), 4: map[string]any{"id": []byte{1}}},
		"getPINRetries": {3: 8},
		"getUVRetries":  {5: 3},
	}
	commands := map[string]byte{"getInfo": 4, "makeCredential": 1, "getAssertion": 2, "getPINRetries": 6, "getUVRetries": 6}
	optional := map[string][]int{"getAssertion": {4}}

	info := basicInfo()
	info[4] = map[string]bool{"clientPin": false, "uv": false} // it can, and nothing is set up
	run := func(name string, reply []byte) error {
		c := newCanned(t, info)
		c.on(commands[name], func([]byte) []byte { return reply })
		key, err := ctap2.Open(t.Context(), c)
		if err != nil {
			return err
		}
		switch name {
		case "makeCredential":
			_, err = key.MakeCredential(t.Context(), registration())
		case "getAssertion":
			_, err = key.GetAssertion(t.Context(), signIn())
		case "getPINRetries":
			_, err = key.PINRetries(t.Context())
		case "getUVRetries":
			_, err = key.UVRetries(t.Context())
		}
		return err
	}
	refuse := func(name, what string, reply []byte) {
		t.Helper()
		if err := run(name, reply); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("%s, %s: %v", name, what, err)
		}
	}
	for name, reply := range good {
		if err := run(name, ok(t, reply)); err != nil {
			t.Errorf("%s, as it should be: %v", name, err)
		}
		refuse(name, "no bytes", nil)
		refuse(name, "status alone", []byte{0})
		refuse(name, "null", []byte{0, 0xf6})
		refuse(name, "empty map", []byte{0, 0xa0})
		refuse(name, "array", []byte{0, 0x80})
		for member := range reply {
			for what, v := range map[string]any{"null": nil, "boolean": true, "float": 1.5, "array of numbers": []int{1, 2}} {
				spoiled := maps.Clone(reply)
				spoiled[member] = v
				refuse(name, what, ok(t, spoiled))
			}
			if slices.Contains(optional[name], member) {
				continue
			}
			spoiled := maps.Clone(reply)
			delete(spoiled, member)
			spoiled[0x77] = 1 // so that the map is not empty
			refuse(name, "a member missing", ok(t, spoiled))
		}
	}
	for what, v := range map[string]any{
		"credential without id":   map[string]any{"type": "public-key"},
		"credential with no id":   map[string]any{"id": []byte{}, "type": "public-key"},
		"credential with text id": map[string]any{"id": "x", "type": "public-key"},
	} {
		spoiled := maps.Clone(good["getAssertion"])
		spoiled[1] = v
		refuse("getAssertion", what, ok(t, spoiled))
	}
	spoiled := maps.Clone(good["getAssertion"])
	spoiled[4] = map[string]any{"name": "ada"}
	refuse("getAssertion", "user without id", ok(t, spoiled))
	spoiled = maps.Clone(good["getAssertion"])
	spoiled[5] = int64(1 << 40)
	refuse("getAssertion", "a trillion credentials", ok(t, spoiled))
	spoiled = maps.Clone(good["makeCredential"])
	spoiled[2] = gaAuth
	refuse("makeCredential", "no attested credential data", ok(t, spoiled))
}

// Commands without output may answer with nothing.
func TestQuirk24NoOutput(t *testing.T) {
	c := newCanned(t, basicInfo())
	for _, reply := range [][]byte{{0}, {0, 0xa0}} {
		c.on(0x07, func([]byte) []byte { return reply })
		if err := open(t, c).Reset(t.Context()); err != nil {
			t.Errorf("%x: %v", reply, err)
		}
	}
}

// Quirk 25: members that keys leave out, and what stands for them.
func TestQuirk25BareInfo(t *testing.T) {
	s := newSoftKey(t)
	info := basicInfo()
	info[7] = 0
	c := newCanned(t, info)
	auth := s.authData(t, "example.com", 0x01, false, nil)
	c.on(0x02, func(message []byte) []byte {
		var p struct {
			AllowList []struct {
				ID []byte `cbor:"id"`
			} `cbor:"3,keyasint"`
		}
		if err := cbor.Unmarshal(message[1:], &p); err != nil {
			t.Error(err)
		}
		if len(p.AllowList) != 1 {
			t.Errorf("%d credentials in a list, the key takes one", len(p.AllowList))
		}
		if string(p.AllowList[0].ID) != string(s.id) {
			return []byte{byte(ctap2.ErrNoCredentials)}
		}
		return ok(t, members{2: auth, 3: s.sign(t, auth, clientDataHash[:])})
	})
	key := open(t, c)
	request := signIn()
	request.AllowList = []ctap2.CredentialDescriptor{{ID: []byte("another")}, {ID: []byte("one more")}, {ID: s.id}}
	request.Extensions = []ctap2.Extension{ctap2.HMACSecret(make([]byte, 32))} // not listed: not sent
	accounts, err := key.GetAssertion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if string(accounts[0].Credential.ID) != string(s.id) {
		t.Errorf("%+v", accounts[0].Credential)
	}
	if _, err := ctap2.Output[*ctap2.HMACSecretOutput](accounts[0].Extensions); !errors.Is(err, ctap2.ErrNoOutput) {
		t.Errorf("hmac-secret on a key without it: %v", err)
	}
}

// Quirk 26: one credential allowed, none named; nobody's name either.
func TestQuirk26AssertionWithoutCredential(t *testing.T) {
	s := newSoftKey(t)
	c := newCanned(t, basicInfo())
	auth := s.authData(t, "example.com", 0x01, false, nil)
	c.on(0x02, func([]byte) []byte { return ok(t, members{2: auth, 3: s.sign(t, auth, clientDataHash[:])}) })
	key := open(t, c)
	request := signIn()
	request.AllowList = []ctap2.CredentialDescriptor{{ID: s.id}}
	accounts, err := key.GetAssertion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if a := accounts[0]; string(a.Credential.ID) != string(s.id) || a.Credential.Type != "public-key" || a.User.ID != nil {
		t.Errorf("%+v", a)
	}
	if _, err := key.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("none allowed, none named: %v", err)
	}
}

// Quirk 27: reserved flags are kept; another relying party's hash and a key
// off its curve are refused.
func TestQuirk27AuthenticatorData(t *testing.T) {
	s := newSoftKey(t)
	c := newCanned(t, basicInfo())
	key := open(t, c)
	register := func(authData []byte) (*ctap2.Credential, error) {
		c.on(0x01, func([]byte) []byte { return ok(t, members{1: "none", 2: authData, 3: map[string]int{}}) })
		return key.MakeCredential(t.Context(), registration())
	}
	credential, err := register(s.authData(t, "example.com", 0x41|0x22, true, nil))
	if err != nil || credential.AuthData.Flags != 0x63 {
		t.Errorf("reserved flags: %v", err)
	}
	if _, err := register(s.authData(t, "example.org", 0x41, true, nil)); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("another relying party: %v", err)
	}
	off := s.authData(t, "example.com", 0x41, true, nil)
	off[len(off)-1] ^= 1
	if _, err := register(off); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("key off its curve: %v", err)
	}
	whole := s.authData(t, "example.com", 0xC1, true, raw(t, "a1 6178 01"))
	for n := range whole {
		if _, err := register(whole[:n]); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("cut at %d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, err := register(append(whole, 0)); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
	auth := s.authData(t, "example.org", 0x01, false, nil)
	c.on(0x02, func([]byte) []byte {
		return ok(t, members{1: map[string]any{"id": s.id, "type": "public-key"}, 2: auth, 3: s.sign(t, auth, clientDataHash[:])})
	})
	if _, err := key.GetAssertion(t.Context(), signIn()); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("assertion for another relying party: %v", err)
	}
}

// Quirk 28: an output that nobody asked for is kept, and one that cannot be
// read costs nobody their credential.
func TestQuirk28UnaskedOutput(t *testing.T) {
	s := newSoftKey(t)
	info := basicInfo()
	info[2] = []string{"credProtect", "hmac-secret"}
	c := newCanned(t, info)
	outputs := raw(t, "a3 6178 f6 6b 6372656450726f74656374 61 78 6b 686d61632d736563726574 01")
	authData := s.authData(t, "example.com", 0xC1, true, outputs)
	c.on(0x01, func([]byte) []byte {
		return ok(t, members{1: "none", 2: authData, 3: map[string]int{}, 6: map[string]any{"unsigned": []int{1}}})
	})
	request := registration()
	request.Extensions = []ctap2.Extension{ctap2.CredProtect(ctap2.UVRequired)}
	credential, err := open(t, c).MakeCredential(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if string(credential.AuthData.Extensions["x"]) != "\xf6" || string(credential.UnsignedExtensions["unsigned"]) != "\x81\x01" {
		t.Errorf("outputs %v, %v", credential.AuthData.Extensions, credential.UnsignedExtensions)
	}
	if _, err := ctap2.Output[ctap2.CredProtectPolicy](credential.Extensions); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("a policy that is text: %v", err)
	}
	if _, err := ctap2.Output[ctap2.HMACSecretEnabled](credential.Extensions); !errors.Is(err, ctap2.ErrNoOutput) {
		t.Errorf("an output that was not asked for: %v", err)
	}
}

// Quirk 29: a version that was never defined is a version like any other.
func TestQuirk29UndefinedVersion(t *testing.T) {
	info := basicInfo()
	info[1] = []string{"FIDO_2_2"}
	c := newCanned(t, info)
	c.on(0x0B, func([]byte) []byte { return []byte{0} })
	key := open(t, c)
	if !key.Info().HasVersion("FIDO_2_2") {
		t.Error(key.Info().Versions)
	}
	if err := key.Selection(t.Context()); err != nil {
		t.Errorf("selection on a key that claims more than 2.1: %v", err)
	}
}

// Quirk 23: what nobody has defined may be of any type.
func TestQuirk23UnknownTypes(t *testing.T) {
	for name, change := range map[string]func(members){
		"option":        func(m members) { m[4] = map[string]any{"rk": true, "example": 3} },
		"certification": func(m members) { m[0x13] = map[string]any{"FIPS": "L2", "FIDO": 1} },
		"identifier":    func(m members) { m[0x19], m[0x1E] = make([]byte, 48), make([]byte, 16) },
	} {
		info := basicInfo()
		change(info)
		if _, err := ctap2.Open(t.Context(), newCanned(t, info)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	info := basicInfo()
	info[4] = map[string]any{"rk": 1}
	if _, err := ctap2.Open(t.Context(), newCanned(t, info)); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("an option that is a number: %v", err)
	}
}

// An answer to another question is none: a credential that was not allowed, a
// user who was not verified although that was required.
func TestAnswersAreHeldAgainstTheRequest(t *testing.T) {
	s := newSoftKey(t)
	info := basicInfo()
	info[4] = map[string]bool{"uv": true}
	c := newCanned(t, info)
	auth := s.authData(t, "example.com", 0x01, false, nil)
	c.on(0x02, func([]byte) []byte {
		return ok(t, members{1: map[string]any{"id": s.id, "type": "public-key"}, 2: auth, 3: s.sign(t, auth, clientDataHash[:])})
	})
	made := s.authData(t, "example.com", 0x41, true, nil)
	c.on(0x01, func([]byte) []byte { return ok(t, members{1: "none", 2: made, 3: map[string]int{}}) })
	key := open(t, c)
	for _, n := range []int{1, 2} {
		request := signIn()
		request.UserVerification = ctap2.Discouraged
		allow(randomIDs(n, 32)...)(request)
		if _, err := key.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("not among the %d allowed: %v", n, err)
		}
	}
	request := signIn()
	request.UserVerification = ctap2.Required
	if _, err := key.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("not verified: %v", err)
	}
	register := registration()
	register.UserVerification = ctap2.Required
	if _, err := key.MakeCredential(t.Context(), register); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("registered, not verified: %v", err)
	}
}

// Whatever a key answers to a cancellation, the caller finds their own reason.
func TestCancelledWithAnyStatus(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	c := newCanned(t, basicInfo())
	c.on(0x01, func([]byte) []byte {
		cancel(reason)
		return []byte{byte(ctap2.ErrUserActionTimeout)}
	})
	_, err := open(t, c).MakeCredential(ctx, registration())
	if !errors.Is(err, reason) || !errors.Is(err, ctap2.ErrUserActionTimeout) || !strings.HasSuffix(err.Error(), ": changed my mind") {
		t.Error(err)
	}
}

// Quirk 42: only NO_CREDENTIALS means that a part of a list matches nothing.
func TestQuirk42OnlyNoCredentials(t *testing.T) {
	c := newCanned(t, basicInfo())
	c.on(0x02, func([]byte) []byte { return []byte{byte(ctap2.ErrOther)} })
	request := signIn()
	allow(randomIDs(3, 32)...)(request)
	if _, err := open(t, c).GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrOther) {
		t.Error(err)
	}
	if n := len(c.messages); n != 2 {
		t.Errorf("%d messages: went on after an error", n)
	}
}

// What getInfo does not say, Info does where the specification says what it is then.
func TestInfoDefaults(t *testing.T) {
	limits := func(info *ctap2.Info) [4]int {
		return [...]int{info.MaxMsgSize, info.MaxCredentialCountInList, info.MinPINLength, info.MaxPINLength}
	}
	info := basicInfo()
	if got, want := limits(open(t, newCanned(t, info)).Info()), [...]int{1024, 1, 4, 63}; got != want {
		t.Errorf("%d, want %d", got, want)
	}
	info[0x05], info[0x07], info[0x0D], info[0x1D] = 2048, 8, 6, 50
	if got, want := limits(open(t, newCanned(t, info)).Info()), [...]int{2048, 8, 6, 50}; got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// Members of getInfo that nothing is decided by cost nobody their key, whatever
// is in them.
func TestQuirk23MembersForPeople(t *testing.T) {
	for name, spoiled := range map[int64]any{0x12: uint64(1) << 32, 0x13: []string{"FIDO"}, 0x1C: "https://example.com"} {
		info := basicInfo()
		info[0x12], info[0x13], info[0x1C] = 2, map[string]int{"FIDO": 3}, []byte("https://example.org")
		info[0x1D] = 50 // read behind it
		info[int(name)] = spoiled
		got := open(t, newCanned(t, info)).Info()
		if got.MaxPINLength != 50 || (got.UVModality == 0) != (name == 0x12) || (got.Certifications == nil) != (name == 0x13) ||
			(got.PINComplexityPolicyURL == "") != (name == 0x1C) {
			t.Errorf("member %#x: %+v", name, got)
		}
		if want := ok(t, spoiled)[1:]; len(got.Unknown) != 1 || !bytes.Equal(got.Unknown[name], want) {
			t.Errorf("member %#x is kept as %x, want %x", name, got.Unknown, want)
		}
		if _, err := ctap2.Open(t.Context(), newCanned(t, info), ctap2.WithStrictCBOR()); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("member %#x, strictly: %v", name, err)
		}
	}
}

// lateOutput counts how often an output is read.
type lateOutput struct{ read *int }

func (lateOutput) Identifier() string                         { return "x" }
func (lateOutput) Input(*ctap2.ExtensionContext) (any, error) { return true, nil }
func (o lateOutput) Output(*ctap2.ExtensionContext, []byte) (any, error) {
	*o.read++
	return nil, nil
}

// Outputs, which may be secrets, are read when all assertions are what was asked
// for, not before.
func TestOutputsAreReadLast(t *testing.T) {
	for verified, want := range map[bool]int{false: 0, true: 2} {
		info := basicInfo()
		info[4] = map[string]bool{"uv": true}
		c := newCanned(t, info)
		s := newSoftKey(t)
		n := 0
		reply := func([]byte) []byte {
			flags := byte(0x85)
			if n++; n == 2 && !verified {
				flags = 0x81
			}
			m := members{1: map[string]any{"id": []byte{byte(n)}, "type": "public-key"},
				2: s.authData(t, "example.com", flags, false, raw(t, "a1 6178 01")), 3: []byte{1}}
			if n == 1 {
				m[5] = 2
			}
			return ok(t, m)
		}
		c.on(0x02, reply)
		c.on(0x08, reply)
		read := 0
		request := signIn()
		request.UserVerification = ctap2.Required
		request.Extensions = []ctap2.Extension{lateOutput{&read}}
		if _, err := open(t, c).GetAssertion(t.Context(), request); (err == nil) != verified || read != want {
			t.Errorf("second one verified: %v: %v, %d outputs read", verified, err, read)
		}
	}
}
