package virtual

import (
	"bytes"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

var (
	salt1 = bytes.Repeat([]byte{1}, 32)
	salt2 = bytes.Repeat([]byte{2}, 32)
)

// saltInput is the input for salts, and the secret that opens the output.
func (p *platform) saltInput(protocol pin.Protocol, salts ...[]byte) (params, *pin.SharedSecret) {
	p.Helper()
	mine, secret := p.agree(protocol)
	enc := p.encrypt(secret, bytes.Join(salts, nil))
	input := params{1: mine, 2: enc, 3: secret.Authenticate(enc)}
	if protocol != pin.One {
		input[4] = protocol
	}
	return input, secret
}

func withSalts(input any) params { return params{4: names{"hmac-secret": input}} }

// hmacOutputs opens the output in authenticator data.
func (p *platform) hmacOutputs(d authData, secret *pin.SharedSecret) []byte {
	p.Helper()
	return p.openOutputs(d.outputs["hmac-secret"], secret)
}

func (p *platform) openOutputs(output cbor.RawMessage, secret *pin.SharedSecret) []byte {
	p.Helper()
	var enc []byte
	if err := cbor.Unmarshal(output, &enc); err != nil {
		p.Fatal(err)
	}
	outputs, err := secret.Decrypt(enc)
	if err != nil {
		p.Fatal(err)
	}
	return outputs
}

// It needs neither a PIN nor a token, but somebody to agree on a secret with.
func TestHMACSecretAlone(t *testing.T) {
	for _, level := range []Level{CTAP20, CTAP23} {
		key := newKey(t, Config{Level: level, NoClientPIN: true, PINProtocols: []pin.Protocol{pin.One}})
		if protocols := value[[]int](t, key.ok(ctap.CmdGetInfo, nil), infoPINUVAuthProtocols); len(protocols) != 1 {
			t.Errorf("protocols %v", protocols)
		}
		cred := key.make(params{6: names{"hmac-secret": true}})
		input, secret := key.saltInput(pin.One, salt1)
		d, _ := key.assert(cred, allow(cred.id), withSalts(input))
		if n := len(key.hmacOutputs(d, secret)); n != 32 {
			t.Errorf("%d bytes for a salt", n)
		}
		refusal := byte(ctap.StatusInvalidSubcommand)
		if level == CTAP20 {
			refusal = ctap.StatusInvalidParameter
		}
		for _, sub := range []int{ctap.PINGetRetries, ctap.PINSetPIN, ctap.PINGetPINToken, ctap.PINGetTokenUsingPIN} {
			key.refused(refusal, ctap.CmdClientPIN, params{1: 1, subCommand: sub})
		}
	}
}

func TestHMACSecret(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	secretFor := func(cred authData, protocol pin.Protocol, verified bool, salts ...[]byte) []byte {
		t.Helper()
		changes := []params{allow(cred.id)}
		if verified {
			changes = append(changes, withToken(ctap.CmdGetAssertion, protocol, key.token(protocol, permGA, testRPID)))
		}
		input, secret := key.saltInput(protocol, salts...)
		d, _ := key.assert(cred, append(changes, withSalts(input))...)
		out := key.hmacOutputs(d, secret)
		if len(out) != 32*len(salts) || len(d.outputs) != 1 {
			t.Fatalf("%d bytes for %d salts", len(out), len(salts))
		}
		return out
	}
	sealed := key.make(params{6: names{"hmac-secret": true}})
	if !bytes.Equal(sealed.outputs["hmac-secret"], []byte{0xF5}) {
		t.Errorf("outputs %v", sealed.outputs)
	}
	stored := key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, key.token(pin.Two, permMC, testRPID)))
	if len(stored.outputs) != 0 {
		t.Errorf("outputs %v", stored.outputs)
	}
	seen := make(map[string]bool)
	for _, cred := range []authData{sealed, stored} {
		for _, verified := range []bool{false, true} {
			one := secretFor(cred, pin.One, verified, salt1)
			both := secretFor(cred, pin.Two, verified, salt1, salt2)
			if !bytes.Equal(both[:32], one) {
				t.Error("protocols or calls disagree on the secret of a salt")
			}
			if swapped := secretFor(cred, pin.One, verified, salt2, salt1); !bytes.Equal(swapped[32:], one) {
				t.Error("the order of the salts matters")
			}
			seen[string(one)] = true
			seen[string(both[32:])] = true
		}
	}
	// Two salts, two credentials, with and without verification.
	if len(seen) != 8 {
		t.Errorf("%d different secrets", len(seen))
	}
}

func TestHMACSecretRefused(t *testing.T) {
	key := newKey(t, Config{})
	cred := key.make()
	for name, test := range map[string]struct {
		change func(input params) any
		want   byte
	}{
		"not a map":         {func(params) any { return true }, ctap.StatusCBORUnexpectedType},
		"no keyAgreement":   {func(in params) any { delete(in, 1); return in }, ctap.StatusMissingParameter},
		"no saltEnc":        {func(in params) any { delete(in, 2); return in }, ctap.StatusMissingParameter},
		"no saltAuth":       {func(in params) any { delete(in, 3); return in }, ctap.StatusMissingParameter},
		"saltEnc of text":   {func(in params) any { in[2] = "x"; return in }, ctap.StatusCBORUnexpectedType},
		"other protocol":    {func(in params) any { in[4] = 1; return in }, ctap.StatusPINAuthInvalid},
		"protocol left out": {func(in params) any { delete(in, 4); return in }, ctap.StatusPINAuthInvalid},
		"unknown protocol":  {func(in params) any { in[4] = 3; return in }, ctap.StatusInvalidParameter},
		"bad key": {func(in params) any {
			in[1] = &cose.Key{Type: cose.EC2, Algorithm: -25, Curve: 1, X: salt1, Y: salt2}
			return in
		}, ctap.StatusInvalidParameter},
		"saltAuth of another": {func(in params) any { in[3] = salt1; return in }, ctap.StatusPINAuthInvalid},
		"saltAuth cut short":  {func(in params) any { in[3] = in[3].([]byte)[:16]; return in }, ctap.StatusPINAuthInvalid},
		"saltAuth empty":      {func(in params) any { in[3] = []byte{}; return in }, ctap.StatusPINAuthInvalid},
		"salt of 16 bytes":    {func(params) any { in, _ := key.saltInput(pin.Two, salt1[:16]); return in }, ctap.StatusInvalidParameter},
		"no salt":             {func(params) any { in, _ := key.saltInput(pin.Two); return in }, ctap.StatusInvalidParameter},
		"three salts":         {func(params) any { in, _ := key.saltInput(pin.Two, salt1, salt2, salt1); return in }, ctap.StatusInvalidParameter},
		"not a block of bytes": {func(params) any {
			mine, s := key.agree(pin.Two)
			return params{1: mine, 2: salt1[:17], 3: s.Authenticate(salt1[:17]), 4: 2}
		}, ctap.StatusInvalidParameter},
	} {
		t.Run(name, func(t *testing.T) {
			input, _ := key.saltInput(pin.Two, salt1)
			key.refused(test.want, ctap.CmdGetAssertion, assertRequest(allow(cred.id), withSalts(test.change(input))))
		})
	}
	input, _ := key.saltInput(pin.One, salt1)
	key.refused(ctap.StatusUnsupportedOption, ctap.CmdGetAssertion,
		assertRequest(allow(cred.id), withSalts(input), params{5: names{"up": false}}))

	key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(params{6: names{"hmac-secret": 1}}))
	if cred := key.make(params{6: names{"hmac-secret": false}}); len(cred.outputs) != 0 {
		t.Errorf("outputs %v", cred.outputs)
	}
}

// Each account of getNextAssertion has its own secret, under one shared secret,
// which does not survive the last of them.
func TestHMACSecretNext(t *testing.T) {
	key := newKey(t, Config{})
	creds := makeAccounts(key)
	input, secret := key.saltInput(pin.Two, salt1)
	m := key.ok(ctap.CmdGetAssertion, assertRequest(withSalts(input)))
	ga := key.volatile.assertions
	seen := make(map[string]bool)
	for i := range creds {
		if i > 0 {
			m = key.ok(ctap.CmdGetNextAssertion, nil)
		}
		seen[string(key.hmacOutputs(key.checkAssertion(creds[2-i], m), secret))] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different secrets", len(seen))
	}
	if s := ga.outputs["hmac-secret"].(*salts); s.salts.Len() != 0 {
		t.Error("salts are still there")
	}
}

// withNewSalts is the input of hmac-secret-mc, next to what it takes of
// hmac-secret.
func withNewSalts(input any) params {
	return params{6: names{"hmac-secret": true, "hmac-secret-mc": input}}
}

// The secrets of a new credential are those of its assertions.
func TestHMACSecretMC(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN, Algorithms: []cose.Algorithm{cose.ES256, cose.RS256}})
			verified := func(command byte) params {
				permission := uint64(permMC)
				if command == ctap.CmdGetAssertion {
					permission = permGA
				}
				return withToken(command, protocol, key.token(protocol, permission, testRPID))
			}
			for name, test := range map[string]struct {
				rk, uv bool
				alg    int
			}{
				"sealed":           {alg: -7},
				"sealed, verified": {alg: -7, uv: true},
				"RSA":              {alg: -257},
				"discoverable":     {alg: -7, uv: true, rk: true},
			} {
				for _, salts := range [][][]byte{{salt1}, {salt1, salt2}} {
					input, secret := key.saltInput(protocol, salts...)
					change := []params{withNewSalts(input), {4: []names{{"alg": test.alg, "type": "public-key"}}, 7: names{"rk": test.rk}}}
					if test.uv {
						change = append(change, verified(ctap.CmdMakeCredential))
					}
					cred := key.make(change...)
					if !bytes.Equal(cred.outputs["hmac-secret"], []byte{0xF5}) || len(cred.outputs) != 2 {
						t.Fatalf("%s: outputs %v", name, cred.outputs)
					}
					got := key.openOutputs(cred.outputs["hmac-secret-mc"], secret)
					if len(got) != 32*len(salts) {
						t.Fatalf("%s: %d bytes for %d salts", name, len(got), len(salts))
					}
					for _, uv := range []bool{false, true} {
						input, secret := key.saltInput(protocol, salts...)
						change := []params{allow(cred.id), withSalts(input)}
						if uv {
							change = append(change, verified(ctap.CmdGetAssertion))
						}
						d, _ := key.assert(cred, change...)
						if same := bytes.Equal(key.hmacOutputs(d, secret), got); same != (uv == test.uv) {
							t.Errorf("%s, verified %t: the same is %t", name, uv, same)
						}
					}
				}
			}
		})
	}
}

func TestHMACSecretMCRefused(t *testing.T) {
	key := newKey(t, Config{Credentials: 1})
	input, _ := key.saltInput(pin.Two, salt1)
	for name, test := range map[string]struct {
		inputs names
		want   byte
	}{
		"no hmac-secret":          {names{"hmac-secret-mc": input}, ctap.StatusMissingParameter},
		"hmac-secret not wanted":  {names{"hmac-secret": false, "hmac-secret-mc": input}, ctap.StatusMissingParameter},
		"hmac-secret of a number": {names{"hmac-secret": 1, "hmac-secret-mc": input}, ctap.StatusCBORUnexpectedType},
		"not a map":               {names{"hmac-secret": true, "hmac-secret-mc": true}, ctap.StatusCBORUnexpectedType},
		"members of other types":  {names{"hmac-secret": true, "hmac-secret-mc": params{1: "key", 2: 7, 3: false}}, ctap.StatusCBORUnexpectedType},
		"empty":                   {names{"hmac-secret": true, "hmac-secret-mc": params{}}, ctap.StatusMissingParameter},
		"saltAuth of another":     {names{"hmac-secret": true, "hmac-secret-mc": merge(params{}, []params{input, {3: salt1}})}, ctap.StatusPINAuthInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			key := &platform{t, key.Authenticator}
			key.refused(test.want, ctap.CmdMakeCredential, makeRequest(residentKey(), params{6: test.inputs}))
		})
	}
	for _, salts := range [][][]byte{{}, {salt1[:16]}, {salt1, salt2[:16]}, {salt1, salt2, salt1}} {
		input, _ := key.saltInput(pin.Two, salts...)
		key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, makeRequest(residentKey(), withNewSalts(input)))
	}
	// Nothing was stored until now, and no secrets stay where there is no room.
	key.make(residentKey())
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(residentKey(), account("b", "b"), withNewSalts(input)))

	// Keys without it ignore it.
	for _, cfg := range []Config{{Level: CTAP21}, {Extensions: []string{"hmac-secret"}}} {
		key := newKey(t, cfg)
		if cred := key.make(withNewSalts(true)); len(cred.outputs) != 1 {
			t.Errorf("outputs %v", cred.outputs)
		}
	}
}
