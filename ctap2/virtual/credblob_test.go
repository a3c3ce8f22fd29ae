package virtual

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// withCredBlob is the input to makeCredential, and for true to getAssertion.
func withCredBlob(command byte, input any) params {
	if command == ctap.CmdMakeCredential {
		return params{6: names{"credBlob": input}}
	}
	return params{4: names{"credBlob": input}}
}

// credBlobOf is the output of an assertion.
func (p *platform) credBlobOf(d authData) []byte {
	p.Helper()
	var blob []byte
	if err := cbor.Unmarshal(d.outputs["credBlob"], &blob); err != nil || d.outputs["credBlob"][0]>>5 != 2 {
		p.Fatalf("output %x, %v", d.outputs["credBlob"], err)
	}
	return blob
}

func TestCredBlob(t *testing.T) {
	for _, level := range []Level{CTAP21, CTAP23} {
		path := filepath.Join(t.TempDir(), "key")
		key := newKey(t, Config{Path: path, Level: level})
		if n := value[int](t, key.ok(ctap.CmdGetInfo, nil), infoMaxCredBlobLength); n != 32 {
			t.Errorf("maxCredBlobLength %d", n)
		}
		creds := make(map[string]authData)
		for name, test := range map[string]struct {
			blob    []byte
			rk      bool
			storing bool
		}{
			"short":            {[]byte("blob"), true, true},
			"longest":          {bytes.Repeat([]byte{1}, 32), true, true},
			"empty":            {[]byte{}, true, true},
			"too long":         {bytes.Repeat([]byte{1}, 33), true, false},
			"not discoverable": {[]byte("blob"), false, false},
		} {
			cred := key.make(account(name, name), withCredBlob(ctap.CmdMakeCredential, test.blob), params{7: names{"rk": test.rk}})
			var stored bool
			if err := cbor.Unmarshal(cred.outputs["credBlob"], &stored); err != nil || stored != test.storing {
				t.Errorf("%s: output %v, %v", name, stored, err)
			}
			if !stored {
				test.blob = nil
			}
			creds[string(test.blob)+name] = cred
			d, _ := key.assert(cred, allow(cred.id), withCredBlob(ctap.CmdGetAssertion, true))
			if got := key.credBlobOf(d); !bytes.Equal(got, test.blob) {
				t.Errorf("%s: credBlob %x", name, got)
			}
		}
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, Config{Path: path, Level: level})
		cred := creds["blobshort"]
		d, _ := key.assert(cred, allow(cred.id), withCredBlob(ctap.CmdGetAssertion, true))
		if got := key.credBlobOf(d); string(got) != "blob" {
			t.Errorf("credBlob %x in the next process", got)
		}
		// One that is not asked for does not come.
		for _, change := range []params{nil, withCredBlob(ctap.CmdGetAssertion, false)} {
			if d, _ := key.assert(cred, allow(cred.id), change); len(d.outputs) != 0 {
				t.Errorf("outputs %v", d.outputs)
			}
		}
		// A credential made without has an empty one.
		cred = key.make(residentKey(), account("none", "none"))
		if len(cred.outputs) != 0 {
			t.Errorf("outputs %v", cred.outputs)
		}
		d, _ = key.assert(cred, allow(cred.id), withCredBlob(ctap.CmdGetAssertion, true))
		if got := key.credBlobOf(d); len(got) != 0 {
			t.Errorf("credBlob %x", got)
		}
	}
}

// Each account of getNextAssertion has its own.
func TestCredBlobNext(t *testing.T) {
	for _, protocol := range bothProtocols {
		key := newKey(t, Config{PIN: testPIN, MaxCredBlobLength: 100})
		var creds []authData
		for _, id := range []string{"a", "b"} {
			token := withToken(ctap.CmdMakeCredential, protocol, key.token(protocol, permMC, testRPID))
			creds = append(creds, key.make(residentKey(), account(id, id), token, withCredBlob(ctap.CmdMakeCredential, bytes.Repeat([]byte(id), 100))))
		}
		token := withToken(ctap.CmdGetAssertion, protocol, key.token(protocol, permGA, testRPID))
		m := key.ok(ctap.CmdGetAssertion, assertRequest(token, withCredBlob(ctap.CmdGetAssertion, true)))
		if got := key.credBlobOf(key.checkAssertion(creds[1], m)); !bytes.Equal(got, bytes.Repeat([]byte("b"), 100)) {
			t.Errorf("credBlob %q", got)
		}
		m = key.ok(ctap.CmdGetNextAssertion, nil)
		if got := key.credBlobOf(key.checkAssertion(creds[0], m)); !bytes.Equal(got, bytes.Repeat([]byte("a"), 100)) {
			t.Errorf("credBlob %q", got)
		}
	}
}

func TestCredBlobRefused(t *testing.T) {
	key := newKey(t, Config{})
	cred := key.make()
	for _, input := range []any{"blob", true, nil, 1} {
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, makeRequest(residentKey(), withCredBlob(ctap.CmdMakeCredential, input)))
	}
	for _, input := range []any{"blob", []byte{1}, nil, 1} {
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdGetAssertion, assertRequest(allow(cred.id), withCredBlob(ctap.CmdGetAssertion, input)))
	}
	for _, cfg := range []Config{{Level: CTAP20}, {NoResidentKeys: true}, {Extensions: []string{}}} {
		key := newKey(t, cfg)
		if key.ok(ctap.CmdGetInfo, nil)[infoMaxCredBlobLength] != nil {
			t.Error("getInfo has maxCredBlobLength")
		}
		if cred := key.make(withCredBlob(ctap.CmdMakeCredential, []byte{1})); len(cred.outputs) != 0 {
			t.Errorf("outputs %v", cred.outputs)
		}
	}
}
