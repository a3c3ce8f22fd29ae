package virtual

import (
	"path/filepath"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

func payment(input any) names { return names{"thirdPartyPayment": input} }

func TestThirdPartyPayment(t *testing.T) {
	cfg := Config{
		Path:       filepath.Join(t.TempDir(), "key"),
		Algorithms: []cose.Algorithm{cose.ES256, cose.RS256},
	}
	key := newKey(t, cfg)
	type made struct {
		cred    authData
		enabled bool
	}
	var all []made
	for _, rk := range []bool{true, false} {
		for _, alg := range []int{-7, -257} {
			for input, enabled := range map[any]bool{true: true, false: false, nil: false} {
				extensions := names{}
				if input != nil {
					extensions = payment(input)
				}
				cred := key.make(params{4: []names{{"alg": alg, "type": "public-key"}}, 6: extensions, 7: names{"rk": rk}},
					account(string(rune('a'+len(all))), "a"))
				key.wantFlags(cred, flagUP|flagAT) // there is no output
				all = append(all, made{cred, enabled})
			}
		}
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	for i, m := range all {
		d, _ := key.assert(m.cred, allow(m.cred.id), params{4: payment(true)})
		key.wantFlags(d, flagUP|flagED)
		var got bool
		if err := cbor.Unmarshal(d.outputs["thirdPartyPayment"], &got); err != nil || got != m.enabled || len(d.outputs) != 1 {
			t.Errorf("credential %d: outputs %v, %v; want %v", i, d.outputs, err, m.enabled)
		}
		for _, extensions := range []names{{}, payment(false)} {
			d, _ := key.assert(m.cred, allow(m.cred.id), params{4: extensions})
			key.wantFlags(d, flagUP)
		}
	}
	// Each assertion says it of its own credential.
	answer := key.ok(ctap.CmdGetAssertion, assertRequest(params{4: payment(true)}))
	for i := range 6 {
		var got bool
		if err := cbor.Unmarshal(key.parseAuthData(answer).outputs["thirdPartyPayment"], &got); err != nil || got != all[5-i].enabled {
			t.Errorf("account %d: %v, %v", 5-i, got, err)
		}
		if i < 5 {
			answer = key.ok(ctap.CmdGetNextAssertion, nil)
		}
	}

	for _, input := range []any{1, nil, "yes", names{}} {
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(params{6: payment(input)}))
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdGetAssertion, assertRequest(params{4: payment(input)}))
	}
}
