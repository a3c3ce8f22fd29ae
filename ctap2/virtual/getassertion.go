package virtual

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of the answer to getAssertion and getNextAssertion (§6.2).
const (
	assertionCredential          = 0x01
	assertionAuthData            = 0x02
	assertionSignature           = 0x03
	assertionUser                = 0x04
	assertionNumberOfCredentials = 0x05
	assertionLargeBlobKey        = 0x07
	assertionUnsignedOutputs     = 0x08 // unsignedExtensionOutputs
)

// getAssertionRequest is the parameters of getAssertion (§6.2). What is absent
// is nil.
type getAssertionRequest struct {
	rpID              *string                    // 0x01
	clientDataHash    []byte                     // 0x02
	allowList         [][]byte                   // 0x03
	extensions        map[string]cbor.RawMessage // 0x04
	options           options                    // 0x05
	pinUVAuthParam    []byte                     // 0x06
	pinUVAuthProtocol *uint64                    // 0x07
}

func (a *Authenticator) parseGetAssertion(params []byte) (*getAssertionRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(getAssertionRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.rpID = d.optionalText()
		case 0x02:
			r.clientDataHash = d.hash()
		case 0x03:
			r.allowList = d.descriptors(&a.cfg)
		case 0x04:
			r.extensions = d.extensionInputs()
		case 0x05:
			r.options = d.options()
		case 0x06:
			r.pinUVAuthParam = d.Bytes()
		case 0x07:
			r.pinUVAuthProtocol = d.optionalUint()
		}
	}
	d.require(r.rpID != nil, r.clientDataHash != nil)
	return r, d.end()
}

// assertions is a getAssertion under way, and what it leaves behind for
// getNextAssertion.
type assertions struct {
	*getAssertionRequest
	rpIDHash     [32]byte
	protocol     pin.Protocol // of pinUVAuthParam, if there is one
	userPresent  bool
	userVerified bool
	credentials  []*credential // applicable ones, in the order in which they are used
	next         int           // credentialCounter
	last         time.Time     // when the last one was used
	token        *token        // that authenticated the request, nil if none did
	outputs      map[string]assertionOutput
	counted      bool // an extension has counted the assertion with what it stored
}

// assertionTimeout is how long after an assertion the next may be asked for
// (§6.3).
const assertionTimeout = ctap.AssertionStateTimeoutSeconds * time.Second

// forgetAssertions ends the state that getNextAssertion goes on with.
func (a *Authenticator) forgetAssertions() {
	if a.volatile.assertions != nil {
		a.volatile.assertions.wipe()
		a.volatile.assertions = nil
	}
}

func (ga *assertions) wipe() {
	for _, o := range ga.outputs {
		o.wipe()
	}
}

// getAssertion is authenticatorGetAssertion, by the steps of §6.2.2.
func (a *Authenticator) getAssertion(op *operation, params []byte) (reply, error) {
	r, err := a.parseGetAssertion(params)
	if err != nil {
		return nil, err
	}
	ga := &assertions{
		getAssertionRequest: r,
		rpIDHash:            sha256.Sum256([]byte(*r.rpID)),
		outputs:             make(map[string]assertionOutput),
	}
	op.lone = len(r.allowList) == 1
	prompt := Prompt{RPID: *r.rpID}
	// Steps 1 and 2.
	if ga.protocol, err = a.checkParam(op, prompt, r.pinUVAuthParam, r.pinUVAuthProtocol); err != nil {
		return nil, err
	}
	// Steps 4 and 5.
	uv, err := a.getAssertionOptions(ga)
	if err != nil {
		return nil, err
	}
	// Step 6.
	if a.protectedByUV() {
		switch {
		case r.pinUVAuthParam != nil:
			if err := a.verifyParam(ga.protocol, r.pinUVAuthParam, ctap.PermissionGetAssertion, *r.rpID, r.clientDataHash); err != nil {
				return nil, err
			}
			ga.userVerified = true
			ga.token = a.token()
		case uv:
			if err := a.verifyUser(op, prompt); err != nil {
				return nil, err
			}
			ga.userVerified = true
			ga.userPresent = !a.cfg.NoUserPresence // step 8
		}
	}
	// Step 7.
	if ga.credentials, err = a.applicable(ga); err != nil {
		return nil, err
	}
	if len(ga.credentials) == 0 {
		// CTAP 2.0 has a person touch the key before it says so (its §5.2 step 7).
		if a.cfg.Level == CTAP20 && !ga.userPresent && !isFalse(r.options.up) {
			if err := a.consent(op, prompt); err != nil {
				return nil, err
			}
		}
		return nil, refusal(ctap.StatusNoCredentials)
	}
	// Steps 8 and 9.
	if !ga.userPresent && !isFalse(r.options.up) {
		if ga.token == nil || !a.userPresentFlag() {
			if err := a.consent(op, prompt); err != nil {
				return nil, err
			}
		}
		ga.userPresent = !a.cfg.NoUserPresence
		a.spendToken()
	}
	// Step 10.
	if err := a.assertionExtensions(ga); err != nil {
		ga.wipe()
		return nil, err
	}
	// Steps 11 to 13.
	if r.allowList != nil {
		ga.credentials = ga.credentials[:1]
	}
	answer, err := a.assert(ga)
	if err != nil || len(ga.credentials) == 1 {
		ga.wipe()
		return answer, err
	}
	answer[assertionNumberOfCredentials] = len(ga.credentials)
	// The parameters are parts of the caller's message. Of those that stay,
	// the hash is the one that getNextAssertion looks at.
	ga.clientDataHash = bytes.Clone(ga.clientDataHash)
	ga.extensions, ga.pinUVAuthParam = nil, nil
	a.volatile.assertions = ga
	return answer, nil
}

// getAssertionOptions is steps 4 and 5. It reports whether to verify the user
// by the key's own means.
func (a *Authenticator) getAssertionOptions(ga *assertions) (uv bool, err error) {
	hasParam := ga.pinUVAuthParam != nil
	// Step 4.
	if uv, err = a.uvOption(ga.options, hasParam); err != nil {
		return false, err
	}
	if ga.options.rk != nil || isTrue(ga.options.up) && a.cfg.NoUserPresence {
		return false, refusal(ctap.StatusUnsupportedOption)
	}
	// Step 5.
	if !a.alwaysUV() || isFalse(ga.options.up) {
		return uv, nil
	}
	if !a.protectedByUV() {
		return false, a.uvDemanded(false)
	}
	if hasParam || uv {
		return uv, nil
	}
	if a.uvConfigured() {
		return true, nil
	}
	return false, a.uvDemanded(false)
}

// applicable is step 7: it returns the credentials that the request may use,
// those of an allowList in its order, others newest first.
//
// An allowList that is empty names no credential, and so finds none: a platform
// must not send one, and what it then gets is not an assertion of an account
// that it never listed.
func (a *Authenticator) applicable(ga *assertions) ([]*credential, error) {
	var found []*credential
	if ga.allowList != nil {
		for _, id := range ga.allowList {
			c, err := a.state.locate(id, ga.rpIDHash)
			if err != nil {
				return nil, err
			}
			if c != nil && c.protect.allows(true, ga.userVerified) {
				found = append(found, c)
			}
		}
		return found, nil
	}
	accounts, err := a.state.accounts(ga.rpIDHash)
	for _, c := range slices.Backward(accounts) {
		if c.protect.allows(false, ga.userVerified) {
			found = append(found, c)
		}
	}
	return found, err
}

// assertionExtensions is step 10.
func (a *Authenticator) assertionExtensions(ga *assertions) error {
	for _, e := range a.extensions {
		input, asked := ga.extensions[e.id]
		if !asked || e.getAssertion == nil {
			continue
		}
		output, err := e.getAssertion(a, ga, input)
		if err != nil {
			return err
		}
		if output != nil {
			ga.outputs[e.id] = output
		}
	}
	return nil
}

// assert makes the assertion of the next credential (step 13).
func (a *Authenticator) assert(ga *assertions) (reply, error) {
	c := ga.credentials[ga.next]
	outputs := newExtensionOutputs()
	for _, e := range a.extensions {
		o, asked := ga.outputs[e.id]
		if !asked {
			continue
		}
		output, err := o.output(a, ga, c)
		if err != nil {
			return nil, err
		}
		outputs.put(e, e.getAssertionMember, output)
	}
	// The counter is written down before it is used: a relying party that saw
	// a value must not see it again after a crash.
	signCount := a.state.signCount
	if !ga.counted {
		var err error
		if signCount, err = a.state.nextSignCount(); err != nil {
			return nil, err
		}
	}
	ga.counted = false
	authData, err := a.authenticatorData(authenticatorData{
		rpIDHash:     ga.rpIDHash,
		userPresent:  ga.userPresent,
		userVerified: ga.userVerified,
		signCount:    signCount,
		outputs:      outputs.signed,
	})
	if err != nil {
		return nil, err
	}
	signature, err := c.key.sign(authData, ga.clientDataHash)
	if err != nil {
		return nil, err
	}
	ga.next++
	ga.last = time.Now()
	answer := reply{
		assertionCredential: map[string]any{"id": c.id, "type": publicKeyType},
		assertionAuthData:   authData,
		assertionSignature:  signature,
	}
	// An account with an empty ID is left out, on which clients were seen to
	// choke: google/CTAP2-test-tool, get_assertion_empty_user_id.
	if c.discoverable && len(c.user.id) > 0 {
		answer[assertionUser] = ga.userOf(c)
	}
	outputs.addTo(answer, assertionUnsignedOutputs)
	return answer, nil
}

// userOf returns the account of a discoverable credential. Its names are for
// choosing among several, and only for a user who was verified (§6.2.2 step
// 12).
func (ga *assertions) userOf(c *credential) map[string]any {
	if ga.userVerified && len(ga.credentials) > 1 {
		return c.user.entity()
	}
	return map[string]any{"id": c.user.id}
}

// getNextAssertion is authenticatorGetNextAssertion (§6.3).
func (a *Authenticator) getNextAssertion(params []byte) (reply, error) {
	if err := noParameters(params); err != nil {
		a.forgetAssertions()
		return nil, err
	}
	ga := a.volatile.assertions
	if ga == nil {
		return nil, refusal(ctap.StatusNotAllowed)
	}
	// State does not outlive the token that authenticated it (§6).
	if time.Since(ga.last) > assertionTimeout || ga.token != nil && ga.token != a.token() {
		a.forgetAssertions()
		return nil, refusal(ctap.StatusNotAllowed)
	}
	answer, err := a.assert(ga)
	if err != nil || ga.next == len(ga.credentials) {
		a.forgetAssertions()
	}
	return answer, err
}
