package conformance

import (
	"crypto/sha256"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of clientPIN.
const (
	cpProtocol, cpSubcommand, cpKeyAgreement, cpParam, cpNewPIN, cpHash, cpPermissions, cpRPID = 1, 2, 3, 4, 5, 6, 9, 10
)

// An agreement is a secret shared with the authenticator, and the platform's half
// of it.
type agreement struct {
	secret *pin.SharedSecret
	key    *cose.Key
}

// agree is getKeyAgreement.
func (x *trial) agree() agreement {
	reply, err := x.key.Command(x.ctx, ctap.CmdClientPIN, x.encoded(members{cpProtocol: x.protocol(), cpSubcommand: ctap.PINGetKeyAgreement}))
	x.must(err)
	var answer struct {
		Key *cose.Key `cbor:"1,keyasint"`
	}
	x.must(cbor.Unmarshal(reply, &answer))
	if answer.Key == nil {
		x.fatalf("getKeyAgreement answered without keyAgreement")
	}
	key, secret, err := x.protocol().Encapsulate(answer.Key)
	x.must(err)
	return agreement{secret, key}
}

func (a agreement) encrypt(x *trial, plaintext []byte) []byte {
	b, err := a.secret.Encrypt(plaintext)
	x.must(err)
	return b
}

// hash is pinHashEnc.
func (a agreement) hash(x *trial, entered string) []byte {
	sum := sha256.Sum256([]byte(entered))
	return a.encrypt(x, sum[:ctap.PINHashLength])
}

// padded is a PIN as newPinEnc has it, before it is encrypted.
func padded(entered string) []byte { return append([]byte(entered), make([]byte, 64-len(entered))...) }

// setPIN is a request of setPIN.
func (a agreement) setPIN(newPINEnc []byte) members {
	return members{
		cpProtocol: a.secret.Protocol(), cpSubcommand: ctap.PINSetPIN, cpKeyAgreement: a.key,
		cpNewPIN: newPINEnc, cpParam: a.secret.Authenticate(newPINEnc),
	}
}

// changePIN is a request of changePIN.
func (a agreement) changePIN(newPINEnc, hashEnc []byte) members {
	m := a.setPIN(newPINEnc)
	m[cpSubcommand], m[cpHash], m[cpParam] = ctap.PINChangePIN, hashEnc, a.secret.Authenticate(newPINEnc, hashEnc)
	return m
}

// getToken is a request of getPinToken, which others add to.
func (a agreement) getToken(x *trial, entered string, edits ...edit) members {
	return edited(members{
		cpProtocol: a.secret.Protocol(), cpSubcommand: ctap.PINGetPINToken, cpKeyAgreement: a.key, cpHash: a.hash(x, entered),
	}, edits)
}

// usingPIN makes getPinToken a getPinUvAuthTokenUsingPinWithPermissions.
func usingPIN(permissions ctap2.Permission, rpID string) edit {
	return func(m members) {
		m[cpSubcommand], m[cpPermissions] = ctap.PINGetTokenUsingPIN, permissions
		if rpID != "" {
			m[cpRPID] = rpID
		}
	}
}

// usingUV makes getPinToken a getPinUvAuthTokenUsingUvWithPermissions.
func usingUV(permissions ctap2.Permission, rpID string) edit {
	return func(m members) {
		usingPIN(permissions, rpID)(m)
		m[cpSubcommand] = ctap.PINGetTokenUsingUV
		delete(m, cpHash)
	}
}

func (x *trial) clientPIN(m members) error { return x.command(ctap.CmdClientPIN, m) }

// legacy is getPinToken.
func (x *trial) legacy(a agreement, entered string, edits ...edit) error {
	return x.clientPIN(a.getToken(x, entered, edits...))
}

// legacyToken is the token that getPinToken yields.
func (x *trial) legacyToken() *ctap2.Token {
	token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{
		Permissions: ctap2.PermissionCredentialManagement, Method: ctap2.LegacyPINMethod,
	})
	x.must(err)
	x.asked.protocol = true
	return token
}

// wrongPIN is as long as the PIN, and not it.
func (x *trial) wrongPIN() string {
	wrong := []byte(x.pin())
	for i := range wrong {
		wrong[i] ^= 1 // a digit stays one
	}
	return string(wrong)
}

// mistype enters n wrong PINs; power cycles keep three from being in a row.
func (x *trial) mistype(n int) {
	for i := range n {
		if i%2 == 0 {
			x.powerCycle()
		}
		x.mistypeInARow(1)
	}
}

// mistypeInARow enters n wrong PINs without a power cycle between.
func (x *trial) mistypeInARow(n int) {
	for range n {
		if x.legacy(x.agree(), x.wrongPIN()) == nil {
			x.fatalf("the wrong PIN is right")
		}
	}
}

// coseMembers is a key agreement key whatever is wrong with it.
func coseMembers(key *cose.Key) members {
	return members{1: 2, 3: -25, -1: 1, -2: key.X, -3: key.Y}
}
