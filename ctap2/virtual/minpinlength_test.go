package virtual

import (
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// output returns what an extension gave a new credential, nil for nothing.
func (p *platform) output(id string, input any, changes ...params) any {
	p.Helper()
	raw, ok := p.make(append(changes, params{6: names{id: input}})...).outputs[id]
	if !ok {
		return nil
	}
	var v any
	if err := cbor.Unmarshal(raw, &v); err != nil {
		p.Fatal(err)
	}
	return v
}

func rp(id string) params { return params{2: names{"id": id}} }

func TestMinPINLengthExtension(t *testing.T) {
	for name, cfg := range map[string]Config{"2.3": {}, "2.1": {Level: CTAP21}} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, cfg)
			if v := key.output("minPinLength", true); v != nil {
				t.Errorf("nobody was named, and the output is %v", v)
			}
			c := configurer{platform: key}
			c.do(minPINLengthSub, params{1: 6, 2: []string{"example.org", testRPID}})
			if v := key.output("minPinLength", true); v != uint64(6) {
				t.Errorf("output %v", v)
			}
			if v := key.output("minPinLength", false); v != nil {
				t.Errorf("not asked, and the output is %v", v)
			}
			for _, input := range []any{1, "x", nil, []byte{}, []bool{true}} {
				key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(params{6: names{"minPinLength": input}}))
			}
			c.do(minPINLengthSub, params{2: []string{"example.org"}})
			if v := key.output("minPinLength", true); v != nil {
				t.Errorf("named no more, and the output is %v", v)
			}
			key.ok(ctap.CmdReset, nil)
			c.do(minPINLengthSub, params{2: []string{testRPID}})
			if v := key.output("minPinLength", true); v != uint64(4) {
				t.Errorf("after a reset the output is %v", v)
			}
		})
	}
	// An assertion has none.
	key := newKey(t, Config{})
	configurer{platform: key}.do(minPINLengthSub, params{2: []string{testRPID}})
	cred := key.make()
	if d, _ := key.assert(cred, allow(cred.id), params{4: names{"minPinLength": true}}); len(d.outputs) != 0 {
		t.Errorf("outputs %v", d.outputs)
	}
}
