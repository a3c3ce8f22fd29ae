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
	other := blobKey(f, Config{}) // a key has one of largeBlobKey and largeBlob
	cred := key.make()
	discoverable := key.make(params{7: names{"rk": true, "uv": true}, 6: names{"thirdPartyPayment": true}})
	manager := key.manager(pin.Two, permPCMR, "")
	input, _ := key.saltInput(pin.Two, salt1)
	mcInput, _ := key.saltInput(pin.One, salt1, salt2)
	token, _ := key.tokenRequest(pin.One, testPIN, permMC, testRPID)
	blobCred, _ := other.makeBlob("required")
	array := serialized(1, 40)
	blobToken := key.token(pin.Two, permLBW, "")
	uvToken, _ := key.uvTokenRequest(permMC)
	for _, seed := range []struct {
		command    byte
		parameters any
	}{
		{ctap.CmdGetInfo, nil},
		{ctap.CmdCredentialManagement, manager.request(getMetadata, nil)},
		{ctap.CmdCredentialManagement, manager.request(rpsBegin, nil)},
		{ctap.CmdCredentialManagement, params{1: rpsNext}},
		{ctap.CmdCredentialManagement, manager.request(credsBegin, rpIDHash(testRPID))},
		{ctap.CmdCredentialManagement, params{1: credsNext}},
		{ctap.CmdCredentialManagement, manager.request(deleteCred, credentialID(discoverable.id))},
		{ctap.CmdCredentialManagement, manager.request(updateUser, withUser(discoverable.id, names{"id": []byte("ada"), "name": "?"}))},
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
		{ctap.CmdMakeCredential, makeRequest(residentKey(), params{6: names{"largeBlobKey": true, "credBlob": salt1, "hmac-secret": true, "hmac-secret-mc": mcInput}})},
		{ctap.CmdMakeCredential, makeRequest(blobSupport(names{"support": "preferred"}))},
		{ctap.CmdGetAssertion, assertRequest(params{4: names{"largeBlobKey": true, "credBlob": true, "largeBlob": names{"read": true}}})},
		{ctap.CmdGetAssertion, assertRequest(allow(blobCred.id), blobWriting(salt1, 40))},
		{ctap.CmdBioEnrollment, params{1: 1, 2: sensorInfo}},
		{ctap.CmdBioEnrollment, params{1: 1, 2: setName, 3: params{1: []byte{1}, 2: "x"}, 4: 2, 5: testHash}},
		{ctap.CmdBioEnrollment, params{1: 1, 2: enrollBegin, 3: params{3: 1000}, 4: 2, 5: testHash}},
		{ctap.CmdConfig, params{1: toggleAlwaysUV}},
		{ctap.CmdConfig, params{1: minPINLengthSub, 2: params{1: 6, 2: []string{testRPID}, 4: true}, 3: 1, 4: testHash[:16]}},
		{ctap.CmdLargeBlobs, params{1: 17, 3: 0}},
		{ctap.CmdLargeBlobs, authorized(array, 0, 40, pin.Two, blobToken)},
		{ctap.CmdLargeBlobs, authorized(array[:20], 0, 40, pin.Two, blobToken)},
		{ctap.CmdLargeBlobs, fragment(array[20:], 20, 40)},
	} {
		f.Add(message(f, seed.command, seed.parameters))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, key := range []*platform{key, other} {
			answer, err := key.Exchange(context.Background(), msg, nil)
			if err != nil || len(answer) == 0 {
				t.Fatalf("answer %x, %v", answer, err)
			}
			if len(answer) == 1 {
				continue
			}
			if answer[0] != ctap.StatusOK {
				t.Fatalf("status %#02x with output", answer[0])
			}
			if err := cbor.Check(answer[1:], cbor.Strict); err != nil {
				t.Fatal(err)
			}
		}
	})
}
