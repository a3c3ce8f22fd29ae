package virtual

import (
	"bytes"
	"crypto/subtle"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of the answer to clientPIN (§6.5.5).
const (
	pinKeyAgreement    = 0x01
	pinUVAuthToken     = 0x02
	pinRetriesLeft     = 0x03
	pinPowerCycleState = 0x04
	pinUVRetriesLeft   = 0x05
)

// clientPINRequest is the parameters of clientPIN (§6.5.5). What is absent is
// nil.
type clientPINRequest struct {
	protocol       *uint64         // 0x01
	subCommand     *uint64         // 0x02
	keyAgreement   cbor.RawMessage // 0x03
	pinUVAuthParam []byte          // 0x04
	newPINEnc      []byte          // 0x05
	pinHashEnc     []byte          // 0x06
	permissions    *uint64         // 0x09
	rpID           *string         // 0x0A
}

func parseClientPIN(params []byte) (*clientPINRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(clientPINRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.protocol = d.optionalUint()
		case 0x02:
			r.subCommand = d.optionalUint()
		case 0x03:
			r.keyAgreement = d.rawMap()
		case 0x04:
			r.pinUVAuthParam = d.Bytes()
		case 0x05:
			r.newPINEnc = d.Bytes()
		case 0x06:
			r.pinHashEnc = d.Bytes()
		case 0x09:
			r.permissions = d.optionalUint()
		case 0x0A:
			r.rpID = d.optionalText()
		}
	}
	d.require(r.subCommand != nil)
	return r, d.end()
}

// clientPIN is authenticatorClientPIN (§6.5.5).
func (a *Authenticator) clientPIN(op *operation, params []byte) (reply, error) {
	if !a.hasKeyAgreement() {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	r, err := parseClientPIN(params)
	if err != nil {
		return nil, err
	}
	hasPIN := !a.cfg.NoClientPIN
	hasUV := a.cfg.BuiltInUV != UVNone
	hasToken := a.options()[optionPINUVAuthToken]
	switch sub := *r.subCommand; {
	case sub == ctap.PINGetRetries && hasPIN:
		return a.getPINRetries(r)
	case sub == ctap.PINGetKeyAgreement:
		return a.getKeyAgreement(r)
	case sub == ctap.PINSetPIN && hasPIN:
		return nil, a.setPIN(r)
	case sub == ctap.PINChangePIN && hasPIN:
		return nil, a.changePIN(r)
	case sub == ctap.PINGetPINToken && hasPIN:
		return a.getPINToken(op, r)
	case sub == ctap.PINGetTokenUsingUV && hasUV && hasToken:
		return a.getTokenUsingUV(op, r)
	case sub == ctap.PINGetUVRetries && hasUV && a.cfg.Level >= CTAP21PRE:
		return reply{pinUVRetriesLeft: a.state.uvRetries}, nil
	case sub == ctap.PINGetTokenUsingPIN && hasPIN && hasToken:
		return a.getTokenUsingPIN(op, r)
	case a.cfg.Level < CTAP21: // had no status for it
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	return nil, refusal(ctap.StatusInvalidSubcommand)
}

// getPINRetries is §6.5.5.2.
func (a *Authenticator) getPINRetries(r *clientPINRequest) (reply, error) {
	if a.cfg.Faults.has(PINRetriesNeedProtocol) && r.protocol == nil {
		return nil, refusal(ctap.StatusMissingParameter)
	}
	answer := reply{pinRetriesLeft: a.state.pinRetries}
	if a.cfg.Level >= CTAP21 {
		answer[pinPowerCycleState] = a.powerCycleNeeded()
	}
	return answer, nil
}

// powerCycleNeeded reports whether three wrong PINs in a row have blocked PINs
// until power is lost.
func (a *Authenticator) powerCycleNeeded() bool {
	return a.volatile.mismatches >= ctap.PINMaxConsecutiveMismatches
}

// getKeyAgreement is §6.5.5.4.
func (a *Authenticator) getKeyAgreement(r *clientPINRequest) (reply, error) {
	p, err := a.needProtocol(r)
	if err != nil {
		return nil, err
	}
	return reply{pinKeyAgreement: a.volatile.keyAgreement[p].PublicKey()}, nil
}

// regenerate makes a new key agreement key (§6.5.4).
func (a *Authenticator) regenerate(p pin.Protocol) error {
	k, err := pin.NewKeyAgreement(p)
	if err != nil {
		return err
	}
	a.volatile.keyAgreement[p] = k
	return nil
}

// needProtocol returns the request's protocol, and refuses a request without
// it, or without a parameter whose presence is false: MISSING_PARAMETER comes
// before INVALID_PARAMETER.
func (a *Authenticator) needProtocol(r *clientPINRequest, present ...bool) (pin.Protocol, error) {
	for _, p := range append(present, r.protocol != nil) {
		if !p {
			return 0, refusal(ctap.StatusMissingParameter)
		}
	}
	p, ok := a.protocol(*r.protocol)
	if !ok {
		return 0, refusal(ctap.StatusInvalidParameter)
	}
	return p, nil
}

// decapsulate returns the secret shared with a platform's key agreement key.
func (a *Authenticator) decapsulate(p pin.Protocol, keyAgreement cbor.RawMessage) (*pin.SharedSecret, error) {
	peer, err := cose.ParseKey(keyAgreement)
	if err != nil {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	secret, err := a.volatile.keyAgreement[p].Decapsulate(peer)
	if err != nil {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	return secret, nil
}

// setPIN is §6.5.5.5.
func (a *Authenticator) setPIN(r *clientPINRequest) error {
	p, err := a.needProtocol(r, r.keyAgreement != nil, r.pinUVAuthParam != nil, r.newPINEnc != nil)
	if err != nil {
		return err
	}
	if a.pinSet() {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	secret, err := a.decapsulate(p, r.keyAgreement)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	if !secret.Verify(r.pinUVAuthParam, r.newPINEnc) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	newPIN, err := a.decryptNewPIN(secret, r.newPINEnc)
	if err != nil {
		return err
	}
	defer newPIN.Wipe()
	return a.state.setPIN(newPIN)
}

// decryptNewPIN returns the PIN in newPinEnc if it is one the key accepts.
func (a *Authenticator) decryptNewPIN(secret *pin.SharedSecret, newPINEnc []byte) (pin.Secret, error) {
	padded, err := secret.Decrypt(newPINEnc)
	if err != nil {
		return pin.Secret{}, refusal(ctap.StatusPINAuthInvalid)
	}
	if len(padded) != ctap.PINPaddedLength {
		clear(padded)
		return pin.Secret{}, refusal(ctap.StatusInvalidParameter)
	}
	newPIN := pin.NewSecret(bytes.Clone(bytes.TrimRight(padded, "\x00")))
	clear(padded)
	// The upper limit, that it be UTF-8 without a zero byte inside, and the
	// complexity policy are the additional constraints that a key may have.
	if pin.Check(newPIN, a.state.settings.MinPINLength, a.cfg.MaxPINLength) != nil ||
		a.state.settings.PINComplexityPolicy && trivial(newPIN) {
		newPIN.Wipe()
		return pin.Secret{}, refusal(ctap.StatusPINPolicyViolation)
	}
	return newPIN, nil
}

// changePIN is §6.5.5.6.
func (a *Authenticator) changePIN(r *clientPINRequest) error {
	p, err := a.needProtocol(r, r.keyAgreement != nil, r.pinUVAuthParam != nil, r.newPINEnc != nil, r.pinHashEnc != nil)
	if err != nil {
		return err
	}
	if err := a.pinUsable(); err != nil {
		return err
	}
	secret, err := a.decapsulate(p, r.keyAgreement)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	if !secret.Verify(r.pinUVAuthParam, r.newPINEnc, r.pinHashEnc) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	if err := a.checkPIN(p, secret, r.pinHashEnc); err != nil {
		return err
	}
	newPIN, err := a.decryptNewPIN(secret, r.newPINEnc)
	if err != nil {
		return err
	}
	defer newPIN.Wipe()
	newHash := pin.Hash(newPIN)
	defer newHash.Wipe()
	if a.state.pin.ForceChange && subtle.ConstantTimeCompare(newHash.Bytes(), a.state.pin.Hash) == 1 {
		return refusal(ctap.StatusPINPolicyViolation)
	}
	// Step 20 is resetPersistentPinUvAuthToken. It happens with the change of
	// the PIN or not at all: a crash must not leave the old token behind it.
	if err := a.state.setPIN(newPIN, newPersistentToken()); err != nil {
		return err
	}
	a.stopUsingToken()
	return nil
}

// pinUsable reports why a PIN cannot be tried now. The algorithms take it for
// granted that there is a PIN, and say of the third only that it happens.
func (a *Authenticator) pinUsable() error {
	switch {
	case !a.pinSet():
		return refusal(ctap.StatusPINNotSet)
	case a.state.pinRetries == 0:
		return refusal(ctap.StatusPINBlocked)
	case a.powerCycleNeeded():
		return refusal(ctap.StatusPINAuthBlocked)
	}
	return nil
}

// checkPIN compares the PIN hash that a platform sends with the one stored
// (§6.5.5.6 steps 6 to 8, §6.5.5.7.1 and §6.5.5.7.2 steps 8 to 10). The try is
// written down as lost before it is made.
func (a *Authenticator) checkPIN(p pin.Protocol, secret *pin.SharedSecret, pinHashEnc []byte) error {
	if err := a.state.setRetries(a.state.pinRetries-1, a.state.uvRetries); err != nil {
		return err
	}
	hash, err := secret.Decrypt(pinHashEnc)
	match := err == nil && subtle.ConstantTimeCompare(hash, a.state.pin.Hash) == 1
	clear(hash)
	if match {
		a.volatile.mismatches = 0
		return a.state.resetRetries()
	}
	a.volatile.mismatches++
	if err := a.regenerate(p); err != nil {
		return err
	}
	switch {
	case a.state.pinRetries == 0:
		return refusal(ctap.StatusPINBlocked)
	case a.powerCycleNeeded():
		return refusal(ctap.StatusPINAuthBlocked)
	}
	return refusal(ctap.StatusPINInvalid)
}

// getPINToken is the superseded getPinToken (§6.5.5.7.1).
func (a *Authenticator) getPINToken(op *operation, r *clientPINRequest) (reply, error) {
	p, err := a.needProtocol(r, r.keyAgreement != nil, r.pinHashEnc != nil)
	if err != nil {
		return nil, err
	}
	if r.permissions != nil || r.rpID != nil {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	var permissions uint64
	if !a.cfg.NoMCGAPermissionsWithClientPIN {
		permissions = ctap.PermissionMakeCredential | ctap.PermissionGetAssertion
	}
	return a.tokenForPIN(op, p, r, refusal(ctap.StatusPINInvalid), permissions)
}

// getTokenUsingPIN is getPinUvAuthTokenUsingPinWithPermissions (§6.5.5.7.2).
func (a *Authenticator) getTokenUsingPIN(op *operation, r *clientPINRequest) (reply, error) {
	p, permissions, err := a.needPermissions(r, false, r.pinHashEnc != nil)
	if err != nil {
		return nil, err
	}
	return a.tokenForPIN(op, p, r, refusal(ctap.StatusPINPolicyViolation), permissions)
}

// tokenForPIN is what both have in common; mustChange is what they answer if
// the PIN has to be changed first.
func (a *Authenticator) tokenForPIN(op *operation, p pin.Protocol, r *clientPINRequest, mustChange error, permissions uint64) (reply, error) {
	if err := a.pinUsable(); err != nil {
		return nil, err
	}
	secret, err := a.decapsulate(p, r.keyAgreement)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	if err := a.checkPIN(p, secret, r.pinHashEnc); err != nil {
		return nil, err
	}
	if a.state.pin.ForceChange {
		return nil, mustChange
	}
	return a.newToken(op, p, secret, false, permissions, r.rpID)
}

// newToken issues a token and returns it encrypted. The one that pcmr is asked
// for is there already, and leaves the one in use alone (§6.5.5.7.2 step 12,
// §6.5.5.7.3 step 11).
func (a *Authenticator) newToken(op *operation, p pin.Protocol, secret *pin.SharedSecret, userIsPresent bool, permissions uint64, rpID *string) (reply, error) {
	value := a.state.persistentToken
	if permissions != ctap.PermissionPersistentCredentialMgmtRO {
		value = a.issueToken(op, p, userIsPresent, permissions, rpID).value
	}
	encrypted, err := secret.Encrypt(value.Bytes())
	if err != nil {
		return nil, err
	}
	return reply{pinUVAuthToken: encrypted}, nil
}

// getTokenUsingUV is getPinUvAuthTokenUsingUvWithPermissions (§6.5.5.7.3).
func (a *Authenticator) getTokenUsingUV(op *operation, r *clientPINRequest) (reply, error) {
	p, permissions, err := a.needPermissions(r, true)
	if err != nil {
		return nil, err
	}
	if !a.uvConfigured() {
		return nil, refusal(ctap.StatusNotAllowed)
	}
	if a.state.uvRetries == 0 {
		return nil, refusal(ctap.StatusUVBlocked)
	}
	// The algorithm does not say when to look at the platform's key. Before
	// anyone is asked for a finger is better than after.
	secret, err := a.decapsulate(p, r.keyAgreement)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	var prompt Prompt
	if r.rpID != nil {
		prompt.RPID = *r.rpID
	}
	switch err := a.performBuiltInUV(op, prompt, preferredPlatformUVAttempts <= 1); {
	case err == errUVTimeout:
		return nil, refusal(ctap.StatusUserActionTimeout)
	case err == errUVFailed && a.state.uvRetries == 0:
		return nil, refusal(ctap.StatusUVBlocked)
	case err == errUVFailed:
		return nil, refusal(ctap.StatusUVInvalid)
	case err != nil:
		return nil, err
	}
	return a.newToken(op, p, secret, !a.cfg.NoUserPresence, permissions, r.rpID)
}

// needsRPID are the permissions that are for one relying party (§6.5.5.7).
const needsRPID = ctap.PermissionMakeCredential | ctap.PermissionGetAssertion

// needPermissions is steps 1 to 4 of §6.5.5.7.2 and §6.5.5.7.3: it returns the
// request's protocol and its permissions, without those that are undefined.
func (a *Authenticator) needPermissions(r *clientPINRequest, usingUV bool, present ...bool) (pin.Protocol, uint64, error) {
	present = append(present, r.keyAgreement != nil, r.permissions != nil)
	if r.permissions != nil && *r.permissions&needsRPID != 0 {
		present = append(present, r.rpID != nil)
	}
	p, err := a.needProtocol(r, present...)
	if err != nil {
		return 0, 0, err
	}
	if *r.permissions == 0 {
		return 0, 0, refusal(ctap.StatusInvalidParameter)
	}
	requested := *r.permissions & a.definedPermissions()
	if requested&^a.authorizedPermissions(usingUV) != 0 {
		return 0, 0, refusal(ctap.StatusUnauthorizedPermission)
	}
	if pcmr := uint64(ctap.PermissionPersistentCredentialMgmtRO); requested&pcmr != 0 && requested != pcmr {
		return 0, 0, refusal(ctap.StatusUnauthorizedPermission)
	}
	return p, requested, nil
}

// definedPermissions are those that the key's level knows (§6.5.5.7).
func (a *Authenticator) definedPermissions() uint64 {
	defined := uint64(ctap.PermissionMakeCredential | ctap.PermissionGetAssertion |
		ctap.PermissionCredentialManagement | ctap.PermissionBioEnrollment |
		ctap.PermissionLargeBlobWrite | ctap.PermissionAuthenticatorConfig)
	if a.cfg.Level >= CTAP23 {
		defined |= ctap.PermissionPersistentCredentialMgmtRO
	}
	return defined
}

// authorizedPermissions are those that a token can have, by the options of
// getInfo (§6.5.5.7.2 step 4, §6.5.5.7.3 step 4).
func (a *Authenticator) authorizedPermissions(usingUV bool) uint64 {
	o := a.options()
	var authorized uint64
	if usingUV || !o[optionNoMCGAPermissions] {
		authorized |= ctap.PermissionMakeCredential | ctap.PermissionGetAssertion
	}
	if o[optionCredMgmt] {
		authorized |= ctap.PermissionCredentialManagement
	}
	if o[optionPerCredMgmtRO] {
		authorized |= ctap.PermissionPersistentCredentialMgmtRO
	}
	if o[optionLargeBlobs] {
		authorized |= ctap.PermissionLargeBlobWrite
	}
	if _, supported := o[optionBioEnroll]; supported && !usingUV || o[optionUVBioEnroll] {
		authorized |= ctap.PermissionBioEnrollment
	}
	if o[optionAuthnrCfg] && !usingUV || o[optionUVAcfg] {
		authorized |= ctap.PermissionAuthenticatorConfig
	}
	return authorized
}
