package virtual

import (
	"context"
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Whatever comes in, a key answers with a status, and with a map that is
// canonical if the status is 0.
func FuzzRequest(f *testing.F) {
	key := newKey(f, Config{BuiltInUV: UVConfigured, PIN: testPIN})
	cred := key.make()
	input, _ := key.saltInput(pin.Two, salt1)
	token, _ := key.tokenRequest(pin.One, testPIN, permMC, testRPID)
	uvToken, _ := key.uvTokenRequest(permMC)
	for _, seed := range []struct {
		command    byte
		parameters any
	}{
		{ctap.CmdGetInfo, nil},
		{ctap.CmdSelection, nil},
		{ctap.CmdReset, nil},
		{ctap.CmdGetNextAssertion, nil},
		{ctap.CmdMakeCredential, makeRequest(exclude(cred.id), protect(2), params{10: 1, 11: []string{"none"}})},
		{ctap.CmdMakeCredential, makeRequest(params{7: names{"rk": true, "uv": true}})},
		{ctap.CmdMakeCredential, makeRequest(params{8: testHash, 9: 1})},
		{ctap.CmdGetAssertion, assertRequest(allow(cred.id), withSalts(input))},
		{ctap.CmdGetAssertion, assertRequest(params{5: names{"up": false}})},
		{ctap.CmdClientPIN, params{1: 2, subCommand: ctap.PINGetKeyAgreement}},
		{ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, testPIN)},
		{ctap.CmdClientPIN, token},
		{ctap.CmdClientPIN, uvToken},
	} {
		f.Add(message(f, seed.command, seed.parameters))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		answer, err := key.Exchange(context.Background(), msg, nil)
		if err != nil || len(answer) == 0 {
			t.Fatalf("answer %x, %v", answer, err)
		}
		if len(answer) == 1 {
			return
		}
		if answer[0] != ctap.StatusOK {
			t.Fatalf("status %#02x with output", answer[0])
		}
		if err := cbor.Check(answer[1:], cbor.Strict); err != nil {
			t.Fatal(err)
		}
	})
}
