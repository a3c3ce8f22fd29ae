package virtual

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// makeCredentialRequest is the parameters of makeCredential (§6.1). What is
// absent is nil.
type makeCredentialRequest struct {
	clientDataHash        []byte                     // 0x01
	rpID                  *string                    // 0x02
	rpName                *string                    // 0x02
	user                  user                       // 0x03
	pubKeyCredParams      []credentialParameter      // 0x04
	excludeList           [][]byte                   // 0x05
	extensions            map[string]cbor.RawMessage // 0x06
	options               options                    // 0x07
	pinUVAuthParam        []byte                     // 0x08
	pinUVAuthProtocol     *uint64                    // 0x09
	enterpriseAttestation *uint64                    // 0x0A
	attestationFormats    []string                   // 0x0B, attestationFormatsPreference
}

// credentialParameter is an element of pubKeyCredParams. Either may be missing.
type credentialParameter struct {
	kind      *string
	algorithm *int64
}

func (a *Authenticator) parseMakeCredential(params []byte) (*makeCredentialRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(makeCredentialRequest)
	var hasRP, hasUser bool
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.clientDataHash = d.hash()
		case 0x02:
			hasRP = true
			r.parseRP(d)
		case 0x03:
			hasUser = true
			r.parseUser(d)
		case 0x04:
			r.parseParams(d)
		case 0x05:
			r.excludeList = d.descriptors(&a.cfg)
		case 0x06:
			r.extensions = d.extensionInputs()
		case 0x07:
			r.options = d.options()
		case 0x08:
			r.pinUVAuthParam = d.Bytes()
		case 0x09:
			r.pinUVAuthProtocol = d.optionalUint()
		case 0x0A:
			r.enterpriseAttestation = d.optionalUint()
		case 0x0B:
			for range d.Array() {
				r.attestationFormats = append(r.attestationFormats, d.Text())
			}
		}
	}
	d.require(r.clientDataHash != nil, hasRP, hasUser, r.pubKeyCredParams != nil)
	return r, d.end()
}

func (r *makeCredentialRequest) parseRP(d *decoder) {
	for key := range d.TextMap() {
		switch string(key) {
		case "id":
			r.rpID = d.optionalText()
		case "name":
			r.rpName = d.optionalText()
		}
	}
	d.require(r.rpID != nil)
}

func (r *makeCredentialRequest) parseUser(d *decoder) {
	r.user = d.user()
	// CTAP knows no shortest ID (§6.1). That it is not empty is for the client
	// to see to (WebAuthn §5.1.3).
	if len(r.user.id) > ctap.MaxUserIDLength {
		d.refuse(ctap.StatusInvalidLength)
	}
	d.require(r.user.id != nil)
}

func (r *makeCredentialRequest) parseParams(d *decoder) {
	r.pubKeyCredParams = []credentialParameter{}
	for range d.Array() {
		var p credentialParameter
		for key := range d.TextMap() {
			switch string(key) {
			case "type":
				p.kind = d.optionalText()
			case "alg":
				alg := d.Int()
				p.algorithm = &alg
			}
		}
		r.pubKeyCredParams = append(r.pubKeyCredParams, p)
	}
}

// newCredential is a makeCredential under way.
type newCredential struct {
	*makeCredentialRequest
	protocol      pin.Protocol // of pinUVAuthParam, if there is one
	authenticated bool         // by pinUVAuthParam
	algorithm     cose.Algorithm
	rk            bool
	enterprise    bool // with enterprise attestation
	userPresent   bool
	userVerified  bool
	cred          *credential
	outputs       map[string]any // what the extensions returned, by identifier
}

// Members of the answer to makeCredential that extensions give (§6.1).
const (
	credentialLargeBlobKey    = 0x05
	credentialUnsignedOutputs = 0x06 // unsignedExtensionOutputs
)

// wipe forgets the secrets of outputs.
func (mc *newCredential) wipe() {
	for _, output := range mc.outputs {
		if o, ok := output.(creationOutput); ok {
			o.wipe()
		}
	}
}

// makeCredential is authenticatorMakeCredential, by the steps of §6.1.2.
func (a *Authenticator) makeCredential(op *operation, params []byte) (reply, error) {
	r, err := a.parseMakeCredential(params)
	if err != nil {
		return nil, err
	}
	mc := &newCredential{makeCredentialRequest: r, outputs: make(map[string]any)}
	prompt := Prompt{RPID: *r.rpID}
	if r.user.name != nil {
		prompt.UserName = *r.user.name
	}
	// Steps 1 and 2.
	if mc.protocol, err = a.checkParam(op, prompt, r.pinUVAuthParam, r.pinUVAuthProtocol); err != nil {
		return nil, err
	}
	// Step 3.
	if mc.algorithm, err = a.chooseAlgorithm(r.pubKeyCredParams); err != nil {
		return nil, err
	}
	// Steps 4 to 10.
	uv, err := a.makeCredentialOptions(mc)
	if err != nil {
		return nil, err
	}
	// Step 11. Step 10, which goes around it, is about requests for which it
	// would do nothing.
	if a.protectedByUV() {
		switch {
		case r.pinUVAuthParam != nil:
			if err := a.verifyParam(mc.protocol, r.pinUVAuthParam, ctap.PermissionMakeCredential, *r.rpID, r.clientDataHash); err != nil {
				return nil, err
			}
			mc.authenticated = true
			mc.userVerified = true
		case uv:
			if err := a.verifyUser(op, prompt); err != nil {
				return nil, err
			}
			mc.userVerified = true
			mc.userPresent = !a.cfg.NoUserPresence // step 13
		}
	}
	if err := a.checkExcludeList(op, prompt, mc); err != nil {
		return nil, err
	}
	// Steps 13 and 14.
	if !mc.userPresent {
		if !mc.authenticated || !a.userPresentFlag() {
			if err := a.consent(op, prompt); err != nil {
				return nil, err
			}
		}
		mc.userPresent = !a.cfg.NoUserPresence
		a.spendToken()
	}
	return a.create(op, mc)
}

// checkParam is steps 1 and 2 of makeCredential and getAssertion. CTAP 2.0 has
// other statuses for a parameter that is of no use (its §5.1 and §5.2).
func (a *Authenticator) checkParam(op *operation, prompt Prompt, param []byte, number *uint64) (pin.Protocol, error) {
	if param == nil {
		return 0, nil
	}
	if len(param) == 0 && a.supportsPINUVAuth() {
		// How platforms that do not know authenticatorSelection ask the
		// person to choose one of several keys.
		if err := a.consent(op, prompt); err != nil {
			return 0, err
		}
		if a.pinSet() {
			return 0, refusal(ctap.StatusPINInvalid)
		}
		return 0, refusal(ctap.StatusPINNotSet)
	}
	if number == nil {
		return 0, refusal(ctap.StatusMissingParameter)
	}
	p, ok := a.protocol(*number)
	switch {
	case !ok && a.cfg.Level < CTAP21:
		return 0, refusal(ctap.StatusPINAuthInvalid)
	case !ok:
		return 0, refusal(ctap.StatusInvalidParameter)
	case a.cfg.Level < CTAP21 && !a.pinSet():
		return 0, refusal(ctap.StatusPINNotSet)
	}
	return p, nil
}

// chooseAlgorithm is step 3: the first that the key has, but all are looked at.
func (a *Authenticator) chooseAlgorithm(params []credentialParameter) (chosen cose.Algorithm, err error) {
	for _, p := range params {
		if p.kind == nil || *p.kind == publicKeyType && p.algorithm == nil {
			return 0, refusal(ctap.StatusInvalidCBOR)
		}
		if *p.kind != publicKeyType || chosen != 0 {
			continue
		}
		if i := slices.IndexFunc(a.cfg.Algorithms, func(alg cose.Algorithm) bool { return int64(alg) == *p.algorithm }); i >= 0 {
			chosen = a.cfg.Algorithms[i]
		}
	}
	if chosen == 0 {
		return 0, refusal(ctap.StatusUnsupportedAlgorithm)
	}
	return chosen, nil
}

// uvOption is what makeCredential and getAssertion do about the option "uv"
// (§6.1.2 step 5, §6.2.2 step 4).
func (a *Authenticator) uvOption(o options, hasParam bool) (bool, error) {
	if hasParam {
		if a.cfg.Faults.has(RefuseUVWithParam) && o.uv != nil {
			return false, refusal(ctap.StatusInvalidOption)
		}
		return false, nil
	}
	if isTrue(o.uv) && !a.uvConfigured() {
		if a.cfg.Level < CTAP21 && a.cfg.BuiltInUV == UVNone {
			// Known but not supported, as CTAP 2.0 put it.
			return false, refusal(ctap.StatusUnsupportedOption)
		}
		return false, refusal(ctap.StatusInvalidOption)
	}
	return isTrue(o.uv), nil
}

// makeCredentialOptions is steps 5 to 9. It reports whether to verify the user
// by the key's own means.
func (a *Authenticator) makeCredentialOptions(mc *newCredential) (uv bool, err error) {
	hasParam := mc.pinUVAuthParam != nil
	// Step 5.
	if uv, err = a.uvOption(mc.options, hasParam); err != nil {
		return false, err
	}
	mc.rk = isTrue(mc.options.rk)
	if mc.rk && a.cfg.NoResidentKeys || isTrue(mc.options.up) && a.cfg.NoUserPresence {
		return false, refusal(ctap.StatusUnsupportedOption)
	}
	if isFalse(mc.options.up) || mc.options.up != nil && a.cfg.Faults.has(RefuseUP) {
		return false, refusal(ctap.StatusInvalidOption)
	}
	// Step 6.
	if a.alwaysUV() {
		if !a.protectedByUV() {
			return false, a.uvDemanded(false)
		}
		if !hasParam && a.uvConfigured() {
			uv = true
		}
		if !hasParam && !uv {
			return false, a.uvDemanded(false)
		}
	}
	// Steps 7 and 8.
	if a.protectedByUV() && !uv && !hasParam && (mc.rk || !a.options()[optionMakeCredUVNotRequired]) {
		return false, a.uvDemanded(true)
	}
	// Step 9. CTAP 2.0 did not have the parameter, and its keys ignore it.
	if mc.enterpriseAttestation != nil && a.cfg.Level >= CTAP21 {
		mc.enterprise, err = a.attestsForEnterprise(*mc.rpID, *mc.enterpriseAttestation)
	}
	return uv, err
}

// checkExcludeList is step 12.
func (a *Authenticator) checkExcludeList(op *operation, prompt Prompt, mc *newCredential) error {
	rpIDHash := sha256.Sum256([]byte(*mc.rpID))
	for _, id := range mc.excludeList {
		c, err := a.state.locate(id, rpIDHash)
		if err != nil {
			return err
		}
		if c == nil || !c.protect.allows(true, mc.userVerified) {
			continue
		}
		present := mc.userPresent || mc.authenticated && a.userPresentFlag()
		if !present {
			// Whatever the person does, but not whatever the platform does.
			if _, err := a.touch(op, prompt); err != nil {
				return err
			}
		}
		return refusal(ctap.StatusCredentialExcluded)
	}
	return nil
}

// create is steps 15 to 19.
func (a *Authenticator) create(op *operation, mc *newCredential) (reply, error) {
	c := &credential{
		rpID:         *mc.rpID,
		rpIDHash:     sha256.Sum256([]byte(*mc.rpID)),
		user:         user{mc.user.id, truncated(mc.user.name), truncated(mc.user.displayName)},
		discoverable: mc.rk,
	}
	if mc.rpName != nil {
		c.rpName = *truncated(mc.rpName)
	}
	mc.cred = c
	defer mc.wipe()
	// Step 15.
	for _, e := range a.extensions {
		input, asked := mc.extensions[e.id]
		if !asked || e.makeCredential == nil {
			continue
		}
		output, err := e.makeCredential(a, mc, input)
		if err != nil {
			return nil, err
		}
		if output != nil {
			mc.outputs[e.id] = output
		}
	}
	// Step 16.
	if mc.algorithm == cose.RS256 {
		// Finding the primes takes long.
		if err := op.keepalive(ctap.KeepaliveProcessing); err != nil {
			return nil, err
		}
	}
	var err error
	if c.key, err = newSigningKey(mc.algorithm); err != nil {
		return nil, err
	}
	// Steps 17 and 18. Neither the key of RS256 nor a large blob fits into a
	// credential ID: such a credential is stored even if it is not
	// discoverable.
	if c.discoverable || mc.algorithm == cose.RS256 || c.largeBlob != nil {
		ok, err := a.state.store(c, a.cfg.Credentials)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, refusal(ctap.StatusKeyStoreFull)
		}
	} else if err := a.state.seal(c); err != nil {
		return nil, err
	}
	// Step 19.
	outputs, err := a.creationOutputs(mc)
	if err != nil {
		return nil, err
	}
	authData, err := a.newCredentialData(mc, outputs.signed)
	if err != nil {
		return nil, err
	}
	kind := a.attestationKind(mc)
	format, statement, err := a.attest(kind, c.key, authData, mc.clientDataHash)
	if err != nil {
		return nil, err
	}
	answer := reply{0x01: format, 0x02: authData, 0x03: statement}
	if kind == attestationEnterprise {
		answer[0x04] = true // epAtt
	}
	outputs.addTo(answer, credentialUnsignedOutputs)
	return answer, nil
}

// creationOutputs returns the outputs of the extensions for a credential that
// has its ID.
func (a *Authenticator) creationOutputs(mc *newCredential) (*extensionOutputs, error) {
	outputs := newExtensionOutputs()
	for _, e := range a.extensions {
		output := mc.outputs[e.id]
		if o, ok := output.(creationOutput); ok {
			var err error
			if output, err = o.created(a, mc.cred, mc.userVerified); err != nil {
				return nil, err
			}
		}
		outputs.put(e, e.makeCredentialMember, output)
	}
	return outputs, nil
}

// newCredentialData returns authenticator data with the new credential in it,
// and outputs of extensions.
func (a *Authenticator) newCredentialData(mc *newCredential, outputs map[string]any) ([]byte, error) {
	key, err := mc.cred.key.coseKey()
	if err != nil {
		return nil, err
	}
	if a.cfg.Faults.has(OffCurveKey) {
		key[len(key)-1] ^= 1 // in y of an EC2 key, in x of an OKP key
	}
	attested := slices.Clone(a.cfg.AAGUID[:])
	attested = binary.BigEndian.AppendUint16(attested, uint16(len(mc.cred.id)))
	attested = append(attested, mc.cred.id...)
	attested = append(attested, key...)
	return a.authenticatorData(authenticatorData{
		rpIDHash:     mc.cred.rpIDHash,
		userPresent:  mc.userPresent,
		userVerified: mc.userVerified,
		signCount:    a.state.signCount,
		attested:     attested,
		outputs:      outputs,
	})
}

// authenticatorData is what goes into authenticator data (WebAuthn §6.1).
type authenticatorData struct {
	rpIDHash     [32]byte
	userPresent  bool
	userVerified bool
	signCount    uint32
	attested     []byte // attested credential data, nil if there is none
	outputs      map[string]any
}

func (a *Authenticator) authenticatorData(d authenticatorData) ([]byte, error) {
	a.cfg.Faults.disturb(&d)
	var flags byte
	if a.cfg.Faults.has(ReservedFlags) {
		flags |= reservedFlags
	}
	if d.userPresent {
		flags |= ctap.FlagUserPresent
	}
	if d.userVerified {
		flags |= ctap.FlagUserVerified
	}
	if d.attested != nil {
		flags |= ctap.FlagAttestedCredentialData
	}
	if len(d.outputs) > 0 {
		flags |= ctap.FlagExtensionData
	}
	data := append(d.rpIDHash[:], flags)
	data = binary.BigEndian.AppendUint32(data, d.signCount)
	data = append(data, d.attested...)
	if len(d.outputs) > 0 {
		outputs, err := cbor.Marshal(d.outputs)
		if err != nil {
			return nil, err
		}
		data = append(data, outputs...)
	}
	return data, nil
}
