package virtual

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/tapstone/fido/internal/ctap"
)

// withLargeBlobKey is the input to makeCredential or getAssertion.
func withLargeBlobKey(command byte, input any) params {
	if command == ctap.CmdMakeCredential {
		return params{6: names{"largeBlobKey": input}}
	}
	return params{4: names{"largeBlobKey": input}}
}

func TestLargeBlobKey(t *testing.T) {
	for _, level := range []Level{CTAP21, CTAP23} {
		for _, protocol := range bothProtocols {
			cfg := Config{Path: filepath.Join(t.TempDir(), "key"), Level: level, PIN: testPIN}
			key := newKey(t, cfg)
			make := func(id string, changes ...params) (authData, members) {
				t.Helper()
				token := withToken(ctap.CmdMakeCredential, protocol, key.token(protocol, permMC, testRPID))
				m := key.ok(ctap.CmdMakeCredential, makeRequest(append(changes, residentKey(), account(id, id), token)...))
				return key.parseAuthData(m), m
			}
			keyOf := func(cred authData) []byte {
				t.Helper()
				d, m := key.assert(cred, allow(cred.id), withLargeBlobKey(ctap.CmdGetAssertion, true))
				if len(d.outputs) != 0 {
					t.Errorf("outputs %v", d.outputs)
				}
				if m[assertionLargeBlobKey] == nil {
					return nil
				}
				return value[[]byte](t, m, assertionLargeBlobKey)
			}
			a, m := make("a", withLargeBlobKey(ctap.CmdMakeCredential, true))
			keyA := value[[]byte](t, m, credentialLargeBlobKey)
			b, m := make("b", withLargeBlobKey(ctap.CmdMakeCredential, true))
			keyB := value[[]byte](t, m, credentialLargeBlobKey)
			if len(keyA) != 32 || len(keyB) != 32 || bytes.Equal(keyA, keyB) {
				t.Errorf("keys %x, %x", keyA, keyB)
			}
			if len(a.outputs) != 0 {
				t.Errorf("outputs %v", a.outputs)
			}
			without, m := make("c")
			if m[credentialLargeBlobKey] != nil || keyOf(without) != nil {
				t.Error("a credential has a key that it was made without")
			}
			if _, m := key.assert(a, allow(a.id)); m[assertionLargeBlobKey] != nil {
				t.Error("a key that nobody asked for")
			}
			if err := key.Close(); err != nil {
				t.Fatal(err)
			}
			key = newKey(t, cfg)
			if !bytes.Equal(keyOf(a), keyA) || !bytes.Equal(keyOf(b), keyB) {
				t.Error("other keys in the next process")
			}
			m = key.ok(ctap.CmdGetAssertion, assertRequest(withLargeBlobKey(ctap.CmdGetAssertion, true)))
			key.checkAssertion(without, m)
			if m[assertionLargeBlobKey] != nil {
				t.Error("a key for the account that has none")
			}
			m = key.ok(ctap.CmdGetNextAssertion, nil)
			key.checkAssertion(b, m)
			if got := value[[]byte](t, m, assertionLargeBlobKey); !bytes.Equal(got, keyB) {
				t.Errorf("key %x", got)
			}
		}
	}
}

func TestLargeBlobKeyRefused(t *testing.T) {
	key := newKey(t, Config{})
	cred := key.make(residentKey())
	for input, want := range map[any]byte{
		false: ctap.StatusInvalidOption,
		"yes": ctap.StatusCBORUnexpectedType,
		1:     ctap.StatusCBORUnexpectedType,
		nil:   ctap.StatusCBORUnexpectedType,
	} {
		key.refused(want, ctap.CmdMakeCredential, makeRequest(residentKey(), withLargeBlobKey(ctap.CmdMakeCredential, input)))
		key.refused(want, ctap.CmdGetAssertion, assertRequest(allow(cred.id), withLargeBlobKey(ctap.CmdGetAssertion, input)))
	}
	key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential, makeRequest(withLargeBlobKey(ctap.CmdMakeCredential, true)))
	key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential,
		makeRequest(params{7: names{"rk": false}}, withLargeBlobKey(ctap.CmdMakeCredential, true)))
	// None of them left a credential behind.
	key.assert(cred)
}
