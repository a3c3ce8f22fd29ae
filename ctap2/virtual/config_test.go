package virtual

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

const (
	permACFG = ctap.PermissionAuthenticatorConfig

	enableEnterprise = ctap.ConfigEnableEnterpriseAttestation
	toggleAlwaysUV   = ctap.ConfigToggleAlwaysUV
	minPINLengthSub  = ctap.ConfigSetMinPINLength
	enableLongTouch  = ctap.ConfigEnableLongTouchForReset
	vendorPrototype  = ctap.ConfigVendorPrototype
)

// configurer is a platform with a token for authenticatorConfig; without one if
// protocol is 0.
type configurer struct {
	*platform
	protocol pin.Protocol
	token    pin.Secret
}

func (p *platform) configurer(protocol pin.Protocol) configurer {
	p.Helper()
	return configurer{p, protocol, p.token(protocol, permACFG, "")}
}

// request is a subcommand with parameters, nil for none, changed by each of
// changes.
func (c configurer) request(sub int, parameters any, changes ...params) params {
	c.Helper()
	r := params{1: sub}
	msg := append(bytes.Repeat([]byte{0xFF}, 32), 0x0D, byte(sub))
	if parameters != nil {
		encoded, err := cbor.Marshal(parameters)
		if err != nil {
			c.Fatal(err)
		}
		r[2] = cbor.RawMessage(encoded)
		msg = append(msg, encoded...)
	}
	if c.protocol != 0 {
		r[3] = c.protocol
		r[4] = c.protocol.Authenticate(c.token, msg)
	}
	return merge(r, changes)
}

func (c configurer) do(sub int, parameters any) {
	c.Helper()
	if m := c.ok(ctap.CmdConfig, c.request(sub, parameters)); m != nil {
		c.Errorf("answer %v", m)
	}
}

func (c configurer) fails(want byte, sub int, parameters any, changes ...params) {
	c.Helper()
	c.refused(want, ctap.CmdConfig, c.request(sub, parameters, changes...))
}

// info returns one member of getInfo.
func info[T any](p *platform, member uint64) T {
	p.Helper()
	return value[T](p, p.ok(ctap.CmdGetInfo, nil), member)
}

func TestConfigCommandRefused(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN, VendorConfigCommands: []uint64{7}})
			c := key.configurer(protocol)
			for _, test := range []struct {
				name   string
				want   byte
				sub    int
				params any
				change params
			}{
				{"no subCommand", ctap.StatusMissingParameter, toggleAlwaysUV, nil, params{1: nil}},
				{"subCommand of text", ctap.StatusCBORUnexpectedType, toggleAlwaysUV, nil, params{1: "x"}},
				{"subCommandParams an array", ctap.StatusCBORUnexpectedType, toggleAlwaysUV, nil, params{2: []int{}}},
				{"pinUvAuthParam of text", ctap.StatusCBORUnexpectedType, toggleAlwaysUV, nil, params{4: "x"}},
				{"newMinPINLength negative", ctap.StatusCBORUnexpectedType, minPINLengthSub, params{1: -6}, nil},
				{"minPinLengthRPIDs of text", ctap.StatusCBORUnexpectedType, minPINLengthSub, params{2: "x"}, nil},
				{"minPinLengthRPIDs of bytes", ctap.StatusCBORUnexpectedType, minPINLengthSub, params{2: [][]byte{{1}}}, nil},
				{"forceChangePin of integer", ctap.StatusCBORUnexpectedType, minPINLengthSub, params{3: 1}, nil},
				{"pinComplexityPolicy null", ctap.StatusCBORUnexpectedType, minPINLengthSub, params{4: cbor.RawMessage{0xF6}}, nil},
				{"vendorCommandId of text", ctap.StatusCBORUnexpectedType, vendorPrototype, params{1: "x"}, nil},
				// In the order of §6.11.
				{"unassigned, and no token", ctap.StatusInvalidParameter, 5, nil, params{3: nil, 4: nil}},
				{"not capable of enterprise attestation", ctap.StatusInvalidParameter, enableEnterprise, nil, nil},
				{"no pinUvAuthParam", ctap.StatusPUATRequired, toggleAlwaysUV, nil, params{3: nil, 4: nil}},
				{"no pinUvAuthProtocol", ctap.StatusMissingParameter, toggleAlwaysUV, nil, params{3: nil}},
				{"unknown pinUvAuthProtocol", ctap.StatusInvalidParameter, toggleAlwaysUV, nil, params{3: 9}},
				{"wrong pinUvAuthParam", ctap.StatusPINAuthInvalid, toggleAlwaysUV, nil, params{4: testHash}},
				{"other protocol", ctap.StatusPINAuthInvalid, toggleAlwaysUV, nil, params{3: 3 - protocol}},
				{"other subcommand", ctap.StatusPINAuthInvalid, toggleAlwaysUV, nil, params{1: enableLongTouch}},
				{"parameters not authenticated", ctap.StatusPINAuthInvalid, minPINLengthSub, nil, params{2: params{1: 6}}},
				{"no vendorCommandId", ctap.StatusMissingParameter, vendorPrototype, nil, nil},
				{"unknown vendorCommandId", ctap.StatusInvalidSubcommand, vendorPrototype, params{1: 8}, nil},
			} {
				t.Run(test.name, func(t *testing.T) {
					c.fails(test.want, test.sub, test.params, test.change)
				})
			}
			if o := key.options(); o["alwaysUv"] || info[int](key, infoMinPINLength) != 4 {
				t.Error("something was done")
			}
			if answer, err := key.Exchange(t.Context(), []byte{ctap.CmdConfig, 0xA1}, nil); err != nil || answer[0] != ctap.StatusInvalidCBOR {
				t.Errorf("half a map: %x, %v", answer, err)
			}
			// A token without acfg, and one that a touch has spent.
			c.token = key.token(protocol, permMC|permGA, testRPID)
			c.fails(ctap.StatusPINAuthInvalid, toggleAlwaysUV, nil)
			c.token = key.token(protocol, permACFG|permMC, testRPID)
			c.do(toggleAlwaysUV, nil)
			key.make(withToken(ctap.CmdMakeCredential, protocol, c.token))
			c.fails(ctap.StatusPINAuthInvalid, toggleAlwaysUV, nil)
		})
	}
}

func TestNoAuthenticatorConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"switched off": {NoAuthenticatorConfig: true},
		"2.0":          {Level: CTAP20},
		"2.1-PRE":      {Level: CTAP21PRE},
		"no token":     {NoPINUVAuthToken: true},
		"no UV":        {NoClientPIN: true},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, cfg)
			key.refused(ctap.StatusInvalidCommand, ctap.CmdConfig, params{1: toggleAlwaysUV})
			m := key.ok(ctap.CmdGetInfo, nil)
			for _, member := range []uint64{infoMaxRPIDsForSetMinPINLength, infoLongTouchForReset, infoPINComplexityPolicy, infoAuthenticatorConfigCommands} {
				if m[member] != nil {
					t.Errorf("member %#02x is there", member)
				}
			}
			o := key.options()
			for _, id := range []string{"authnrCfg", "uvAcfg", "setMinPINLength", "alwaysUv", "ep"} {
				if _, ok := o[id]; ok {
					t.Errorf("option %s is there", id)
				}
			}
		})
	}
}

// Which subcommands there are.
func TestConfigCommands(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  Config
		want []int
	}{
		"all": {Config{EnterpriseAttestation: true, VendorConfigCommands: []uint64{1}}, []int{1, 2, 3, 4, 255}},
		"no PIN, no toggle, no touch": {
			Config{BuiltInUV: UVConfigured, NoClientPIN: true, NoToggleAlwaysUV: true, NoUserPresence: true}, []int{},
		},
		"alwaysUv for good": {Config{AlwaysUV: true, NoToggleAlwaysUV: true}, []int{2, 3, 4}},
		"no way to verify":  {Config{NoMCGAPermissionsWithClientPIN: true}, []int{3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, test.cfg)
			if got := info[[]int](key, infoAuthenticatorConfigCommands); !slices.Equal(got, test.want) || got == nil {
				t.Errorf("authenticatorConfigCommands %v, want %v", got, test.want)
			}
		})
	}
	key := newKey(t, Config{Level: CTAP21})
	m := key.ok(ctap.CmdGetInfo, nil)
	for _, member := range []uint64{infoLongTouchForReset, infoPINComplexityPolicy, infoMaxPINLength, infoAuthenticatorConfigCommands} {
		if m[member] != nil {
			t.Errorf("2.1: member %#02x is there", member)
		}
	}
	c := configurer{platform: key}
	c.fails(ctap.StatusInvalidParameter, enableLongTouch, nil)
	c.do(minPINLengthSub, params{1: 6, 4: true}) // and knows nothing of the policy
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded("123456")))
}

func TestToggleAlwaysUV(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{})
			want := func(alwaysUV bool) {
				t.Helper()
				if o := key.options(); o["alwaysUv"] != alwaysUV || o["makeCredUvNotRqd"] == alwaysUV {
					t.Errorf("options %v", o)
				}
			}
			cred := key.make()
			want(false)
			// Nothing protects the key: no token is needed, nor looked at.
			c := configurer{platform: key}
			key.ok(ctap.CmdConfig, c.request(toggleAlwaysUV, nil, params{3: 9, 4: []byte("junk")}))
			want(true)
			key.refused(ctap.StatusPUATRequired, ctap.CmdMakeCredential, makeRequest())
			key.refused(ctap.StatusPUATRequired, ctap.CmdGetAssertion, assertRequest(allow(cred.id)))
			key.assert(cred, allow(cred.id), params{5: names{"up": false}})
			// Only this way out is left without one.
			c.fails(ctap.StatusPUATRequired, minPINLengthSub, params{1: 6})
			c.fails(ctap.StatusPUATRequired, enableLongTouch, nil)
			c.do(toggleAlwaysUV, nil)
			want(false)
			c.do(toggleAlwaysUV, nil)
			key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))
			c.fails(ctap.StatusPUATRequired, toggleAlwaysUV, nil)
			key.make(withToken(ctap.CmdMakeCredential, protocol, key.token(protocol, permMC, testRPID)))
			c = key.configurer(protocol)
			c.do(toggleAlwaysUV, nil) // as often as one likes
			c.do(toggleAlwaysUV, nil)
			c.do(toggleAlwaysUV, nil)
			want(false)
			key.make()
		})
	}

	stubborn := newKey(t, Config{AlwaysUV: true, NoToggleAlwaysUV: true})
	c := configurer{platform: stubborn}
	c.fails(ctap.StatusOperationDenied, toggleAlwaysUV, nil)
	if !stubborn.options()["alwaysUv"] {
		t.Error("alwaysUv is off")
	}
	never := newKey(t, Config{NoToggleAlwaysUV: true})
	if _, ok := never.options()["alwaysUv"]; ok {
		t.Error("alwaysUv is there")
	}
	configurer{platform: never}.fails(ctap.StatusInvalidParameter, toggleAlwaysUV, nil)
	// Config.AlwaysUV is where a key starts from.
	key := newKey(t, Config{AlwaysUV: true})
	configurer{platform: key}.do(toggleAlwaysUV, nil)
	key.make()
	key.ok(ctap.CmdReset, nil)
	if !key.options()["alwaysUv"] {
		t.Error("a reset key has not what it had from the factory")
	}
}

// A finger will do for alwaysUv as soon as there is one.
func TestToggleAlwaysUVFingerprint(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured, NoClientPIN: true})
	c := configurer{key, pin.Two, key.uvToken(permACFG)}
	c.do(toggleAlwaysUV, nil)
	key.wantFlags(key.make(), flagUP|flagUV|flagAT)
	if !key.options()["uvAcfg"] {
		t.Error("no option uvAcfg")
	}
	key = newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN, NoUVAcfg: true})
	if _, ok := key.options()["uvAcfg"]; ok {
		t.Error("option uvAcfg is there")
	}
	request, _ := key.uvTokenRequest(permACFG)
	key.refused(ctap.StatusUnauthorizedPermission, ctap.CmdClientPIN, request)
	key.configurer(pin.Two).do(toggleAlwaysUV, nil)
}

func TestSetMinPINLength(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{})
			c := configurer{platform: key}
			c.do(minPINLengthSub, nil)
			c.do(minPINLengthSub, params{1: 4})
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 3})
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 0})
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 64})
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: uint64(1<<64 - 1)})
			c.do(minPINLengthSub, params{1: 5})
			key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.setPINRequest(protocol, padded("2718")))
			key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))

			// As long as the PIN is, nobody has to change it.
			c = key.configurer(protocol)
			c.do(minPINLengthSub, params{1: 6})
			c.do(minPINLengthSub, params{1: 6})
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 5})
			if info[bool](key, infoForcePINChange) || info[int](key, infoMinPINLength) != 6 {
				t.Error("forcePINChange, or another minPINLength than 6")
			}
			// A longer one makes it too short, and ends all tokens.
			held := key.state.persistentToken.Clone()
			c.do(minPINLengthSub, params{1: 7})
			if !info[bool](key, infoForcePINChange) || info[int](key, infoMinPINLength) != 7 {
				t.Error("no forcePINChange, or another minPINLength than 7")
			}
			c.fails(ctap.StatusPINAuthInvalid, minPINLengthSub, params{1: 7})
			if key.state.persistentToken.Equal(held) {
				t.Error("the persistent token is the same")
			}
			request, _ := key.tokenRequest(protocol, testPIN, permACFG, "")
			key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, request)
			key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "314159"))
			key.ok(ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "3141592"))
			if info[bool](key, infoForcePINChange) {
				t.Error("forcePINChange is still true")
			}
		})
	}
}

func TestForceChangePIN(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{})
			c := configurer{platform: key}
			c.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 3, 3: true}) // which comes first
			c.fails(ctap.StatusPINNotSet, minPINLengthSub, params{1: 8, 3: true})
			c.do(minPINLengthSub, params{3: false})
			if n := info[int](key, infoMinPINLength); n != 4 {
				t.Errorf("half of it was done: minPINLength is %d", n)
			}
			key.ok(ctap.CmdClientPIN, key.setPINRequest(protocol, padded(testPIN)))
			c = key.configurer(protocol)
			c.do(minPINLengthSub, params{3: false})
			c.do(minPINLengthSub, params{3: true})
			c.fails(ctap.StatusPINAuthInvalid, minPINLengthSub, nil)
			legacy, _ := key.tokenRequest(protocol, testPIN, 0, "")
			key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, legacy)
			key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, testPIN))
			key.ok(ctap.CmdClientPIN, key.changePINRequest(protocol, testPIN, "314159"))
			if info[bool](key, infoForcePINChange) {
				t.Error("forcePINChange is still true")
			}
		})
	}

	// While it is pending, a token of a finger does not outlive the command
	// either.
	key := newKey(t, Config{PIN: testPIN, ForcePINChange: true, BuiltInUV: UVConfigured})
	c := configurer{key, pin.Two, key.uvToken(permACFG)}
	c.do(minPINLengthSub, params{1: 5})
	c.fails(ctap.StatusPINAuthInvalid, minPINLengthSub, params{1: 5})
}

func TestMinPINLengthRPIDs(t *testing.T) {
	key := newKey(t, Config{MaxRPIDsForSetMinPINLength: 2})
	c := configurer{platform: key}
	if n := info[int](key, infoMaxRPIDsForSetMinPINLength); n != 2 {
		t.Errorf("maxRPIDsForSetMinPINLength is %d", n)
	}
	c.fails(ctap.StatusKeyStoreFull, minPINLengthSub, params{1: 8, 2: []string{"a", "b", "c"}})
	if n := info[int](key, infoMinPINLength); n != 4 {
		t.Errorf("half of it was done: minPINLength is %d", n)
	}
	want := func(ids ...string) {
		t.Helper()
		if got := key.state.settings.MinPINLengthRPIDs; !slices.Equal(got, ids) {
			t.Errorf("minPinLengthRPIDs %q, want %q", got, ids)
		}
	}
	c.do(minPINLengthSub, params{2: []string{"a", "b"}})
	want("a", "b")
	c.do(minPINLengthSub, params{2: []string{}}) // says nothing
	c.do(minPINLengthSub, params{1: 5})
	want("a", "b")
	c.do(minPINLengthSub, params{2: []string{"c"}})
	want("c")

	// Nobody gets to know what is not said to anybody.
	key = newKey(t, Config{Extensions: []string{"credProtect"}})
	c = configurer{platform: key}
	c.fails(ctap.StatusInvalidParameter, minPINLengthSub, params{1: 3, 2: []string{}})
	c.do(minPINLengthSub, params{1: 6})
	if m := key.ok(ctap.CmdGetInfo, nil); m[infoMaxRPIDsForSetMinPINLength] != nil {
		t.Error("maxRPIDsForSetMinPINLength is there")
	}
}

func TestVendorPrototype(t *testing.T) {
	const id = 0xfedcba9876543210
	var ids []uint64
	var got []byte
	key := newKey(t, Config{
		PIN: testPIN, VendorConfigCommands: []uint64{id, 1},
		VendorConfig: func(id uint64, subCommandParams []byte) byte {
			ids = append(ids, id)
			got = subCommandParams
			if id == 1 {
				return ctap.StatusVendorFirst
			}
			return ctap.StatusOK
		},
	})
	if got := info[[]uint64](key, infoVendorPrototypeConfigCommands); !slices.Equal(got, []uint64{id, 1}) {
		t.Errorf("vendorPrototypeConfigCommands %x", got)
	}
	c := key.configurer(pin.One)
	sent := params{1: uint64(id), 2: []byte{1, 2}, 9: names{"x": true}}
	c.do(vendorPrototype, sent)
	want, err := cbor.Marshal(sent)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the handler got %x, want %x", got, want)
	}
	c.fails(ctap.StatusVendorFirst, vendorPrototype, params{1: 1})
	c.fails(ctap.StatusInvalidSubcommand, vendorPrototype, params{1: 2})
	if !slices.Equal(ids, []uint64{id, 1}) {
		t.Errorf("the handler was called for %x", ids)
	}
	// Without a handler all succeed; without commands there are none.
	configurer{platform: newKey(t, Config{VendorConfigCommands: []uint64{1}})}.do(vendorPrototype, params{1: 1})
	configurer{platform: newKey(t, Config{})}.fails(ctap.StatusInvalidParameter, vendorPrototype, params{1: 1})
}

// A key in a file is configured as it was, until a reset.
func TestSettingsPersist(t *testing.T) {
	cfg := Config{
		Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, EnterpriseAttestation: true,
		MinPINLength: 5, PINComplexityPolicyURL: "https://example.com/pin",
	}
	key := newKey(t, cfg)
	factory := key.ok(ctap.CmdGetInfo, nil)
	c := key.configurer(pin.Two)
	c.do(enableEnterprise, nil)
	c.do(enableEnterprise, nil) // is on already
	c.do(toggleAlwaysUV, nil)
	c.do(enableLongTouch, nil)
	c.do(enableLongTouch, nil)
	c.do(minPINLengthSub, params{2: []string{testRPID}, 4: true})
	c.do(minPINLengthSub, params{1: 8})
	check := func() {
		t.Helper()
		o := key.options()
		if !o["ep"] || !o["alwaysUv"] || o["makeCredUvNotRqd"] {
			t.Errorf("options %v", o)
		}
		m := key.ok(ctap.CmdGetInfo, nil)
		for member, want := range map[uint64]any{
			infoForcePINChange: true, infoMinPINLength: 8, infoLongTouchForReset: true, infoPINComplexityPolicy: true,
			infoPINComplexityPolicyURL: []byte("https://example.com/pin"),
		} {
			encoded, err := cbor.Marshal(want)
			if err != nil || !bytes.Equal(m[member], encoded) {
				t.Errorf("member %#02x is %x, want %x", member, m[member], encoded)
			}
		}
		if got := key.state.settings.MinPINLengthRPIDs; !slices.Equal(got, []string{testRPID}) {
			t.Errorf("minPinLengthRPIDs %q", got)
		}
	}
	check()
	key.PowerCycle()
	check()
	reopen := func() {
		t.Helper()
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, cfg)
	}
	reopen()
	check()
	key.SetPresence(TouchFor(0))
	key.refused(ctap.StatusUserActionTimeout, ctap.CmdReset, nil)
	key.SetPresence(hold)
	key.ok(ctap.CmdReset, nil)
	for range 2 {
		m := key.ok(ctap.CmdGetInfo, nil)
		for _, member := range []uint64{infoEncIdentifier, infoEncCredStoreState, infoOptions} {
			delete(m, member)
			delete(factory, member)
		}
		if !maps.EqualFunc(m, factory, func(a, b cbor.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("after the reset: %x, before: %x", m, factory)
		}
		if o := key.options(); o["ep"] || o["alwaysUv"] {
			t.Errorf("options %v", o)
		}
		reopen()
	}
	// What nobody has configured is what Config says.
	cfg.MinPINLength, cfg.PIN = 7, ""
	reopen()
	if n := info[int](key, infoMinPINLength); n != 7 {
		t.Errorf("minPINLength is %d", n)
	}
}

func TestApplyBadConfiguration(t *testing.T) {
	good := newKey(t, Config{})
	for name, rec := range map[string]record{
		"settings":    {Kind: kindSettings, Value: []byte{0x80}},
		"minimum PIN": {Kind: kindSettings, Value: []byte{0xA1, 3, 3}},
		"maximum PIN": {Kind: kindSettings, Value: []byte{0xA1, 3, 0x18, 64}},
		"fingerprint": {Kind: kindFingerprint, Key: []byte{1}, Value: []byte{0x80}},
		"UV count":    {Kind: kindRetries, Value: []byte{8, 5, 0}},
	} {
		s := &state{aaguid: defaultAAGUID}
		if err := s.load(&good.cfg, map[recordKey][]byte{{rec.Kind, string(rec.Key)}: rec.Value}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMaxPINLength(t *testing.T) {
	key := newKey(t, Config{MaxPINLength: 8})
	if n := info[int](key, infoMaxPINLength); n != 8 {
		t.Errorf("maxPINLength is %d", n)
	}
	configurer{platform: key}.fails(ctap.StatusPINPolicyViolation, minPINLengthSub, params{1: 9})
	key.refused(ctap.StatusPINPolicyViolation, ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(strings.Repeat("7", 9))))
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(strings.Repeat("ä", 8))))
}

// New says what enterprise attestation is missing.
func TestEnterpriseAttestationNeeds(t *testing.T) {
	for _, test := range []struct {
		cfg   Config
		needs string
	}{
		{Config{EnterpriseAttestation: true, Level: CTAP21PRE}, "CTAP21 or later"},
		{Config{EnterpriseAttestation: true, NoAuthenticatorConfig: true}, "authenticatorConfig"},
		{Config{EnterpriseAttestation: true, NoPINUVAuthToken: true}, "PIN/UV auth tokens"},
		{Config{EnterpriseAttestation: true, NoClientPIN: true}, "PIN/UV auth tokens"},
		{Config{EnterpriseAttestation: true, Attestation: AttestationNone}, "AttestationBasic"},
		{Config{EnterpriseRPIDs: []string{testRPID}}, "needs Config.EnterpriseAttestation"},
	} {
		key, err := New(test.cfg)
		if err == nil {
			key.Close()
			t.Errorf("New succeeded without %s", test.needs)
		} else if !strings.Contains(err.Error(), test.needs) {
			t.Errorf("%v, nothing of %s", err, test.needs)
		}
	}
}

func TestConfigurationRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"fingerprint samples":           {FingerprintSamples: -1},
		"fingerprints":                  {Fingerprints: -1},
		"friendly name":                 {MaxTemplateFriendlyName: -1},
		"RP IDs":                        {MaxRPIDsForSetMinPINLength: -1},
		"fingerprint kind":              {FingerprintKind: 3},
		"maximum PIN":                   {MaxPINLength: 64},
		"maximum below minimum":         {MaxPINLength: 5, MinPINLength: 6},
		"PIN too long":                  {MaxPINLength: 5, PIN: testPIN},
		"trivial PIN":                   {PIN: "123456", PINComplexityPolicy: true},
		"policy without PIN":            {NoClientPIN: true, PINComplexityPolicy: true},
		"policy of a later level":       {Level: CTAP21, PINComplexityPolicy: true},
		"URL of a later level":          {Level: CTAP21, PINComplexityPolicyURL: "x"},
		"long touch of a later level":   {Level: CTAP21, LongTouchForReset: true},
		"transports of a later level":   {Level: CTAP21, TransportsForReset: []string{"usb"}},
		"long touch without touch":      {NoUserPresence: true, LongTouchForReset: true},
		"transport that there is not":   {TransportsForReset: []string{"nfc"}},
		"preview without reader":        {BioEnrollmentPreview: true},
		"preview, not managed":          {BuiltInUV: UVConfigured, NoBioEnrollment: true, BioEnrollmentPreview: true},
		"enterprise without config":     {EnterpriseAttestation: true, NoAuthenticatorConfig: true},
		"enterprise without basic":      {EnterpriseAttestation: true, Attestation: AttestationSelf},
		"enterprise, level":             {EnterpriseAttestation: true, Level: CTAP20},
		"enterprise RP IDs alone":       {EnterpriseRPIDs: []string{testRPID}},
		"vendor commands, no config":    {NoAuthenticatorConfig: true, VendorConfigCommands: []uint64{1}},
		"vendor handler, no config":     {NoAuthenticatorConfig: true, VendorConfig: func(uint64, []byte) byte { return 0 }},
		"attestation that is not there": {Attestation: attestationEnterprise},
	} {
		if a, err := New(cfg); err == nil {
			a.Close()
			t.Errorf("%s: New succeeded", name)
		}
	}
}
