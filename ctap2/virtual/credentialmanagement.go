package virtual

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Members of the answer to credentialManagement (§6.8).
const (
	managedExisting          = 0x01 // existingResidentCredentialsCount
	managedRemaining         = 0x02 // maxPossibleRemainingResidentCredentialsCount
	managedRP                = 0x03
	managedRPIDHash          = 0x04
	managedTotalRPs          = 0x05
	managedUser              = 0x06
	managedCredentialID      = 0x07
	managedPublicKey         = 0x08
	managedTotalCredentials  = 0x09
	managedCredProtect       = 0x0A
	managedLargeBlobKey      = 0x0B
	managedThirdPartyPayment = 0x0C
)

// credentialManagementRequest is the parameters of credentialManagement (§6.8).
// What is absent is nil.
type credentialManagementRequest struct {
	subCommand        *uint64         // 0x01
	params            cbor.RawMessage // 0x02, as it was sent
	rpIDHash          []byte          // 0x02, 0x01
	credentialID      []byte          // 0x02, 0x02; empty if it is of an unknown type
	user              user            // 0x02, 0x03
	pinUVAuthProtocol *uint64         // 0x03
	pinUVAuthParam    []byte          // 0x04
}

func (a *Authenticator) parseCredentialManagement(params []byte) (*credentialManagementRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(credentialManagementRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.subCommand = d.optionalUint()
		case 0x02:
			r.params = d.rawMap()
		case 0x03:
			r.pinUVAuthProtocol = d.optionalUint()
		case 0x04:
			r.pinUVAuthParam = d.Bytes()
		}
	}
	d.require(r.subCommand != nil)
	if err := d.end(); err != nil || r.params == nil {
		return r, err
	}
	return r, r.parseParams(&a.cfg)
}

// parseParams reads subCommandParams. What they lack is not refused here: a
// missing pinUvAuthParam comes first.
func (r *credentialManagementRequest) parseParams(cfg *Config) error {
	d := inputDecoder(r.params)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.rpIDHash = d.Bytes()
		case 0x02:
			id, kind := d.descriptor(cfg)
			if kind != nil {
				r.credentialID = id
			}
			if kind != nil && id != nil && *kind != publicKeyType {
				r.credentialID = []byte{}
			}
		case 0x03:
			r.user = d.user()
		}
	}
	return d.end()
}

// complete reports whether a request has what its subcommand cannot do without,
// and returns what pinUvAuthParam authenticates.
func (r *credentialManagementRequest) complete() (complete bool, message []byte) {
	message = []byte{byte(*r.subCommand)}
	switch *r.subCommand {
	case ctap.CredMgmtEnumerateCredentialsBegin:
		complete = r.rpIDHash != nil
	case ctap.CredMgmtDeleteCredential:
		complete = r.credentialID != nil
	case ctap.CredMgmtUpdateUserInformation:
		complete = r.credentialID != nil && r.user.id != nil
	default: // has no parameters: those that it is sent are ignored
		return r.pinUVAuthProtocol != nil, message
	}
	return complete && r.pinUVAuthProtocol != nil, append(message, r.params...)
}

// listing is an enumeration under way.
type listing struct {
	command     byte          // authenticatorCredentialManagement or its prototype
	next        uint64        // the subcommand that goes on with it
	credentials []*credential // those to come; of relying parties, one of each
	last        time.Time     // when the last one was listed
	token       *token        // that authenticated it, nil if it was the persistent one
}

// listingTimeout is how long after an entry of an enumeration the next may be
// asked for. The specification leaves it open, but for assertions (§6.3).
const listingTimeout = ctap.AssertionStateTimeoutSeconds * time.Second

// credentialManagement is authenticatorCredentialManagement (§6.8) and its
// prototype, 0x41, which is the same without updateUserInformation (§6.13).
// Keys that have both take that one too: libfido2 up to 1.14 knows no other
// command byte, and renames by it.
func (a *Authenticator) credentialManagement(op *operation, params []byte) (reply, error) {
	l := a.volatile.listing
	a.volatile.listing = nil // until it has gone on
	option, last := optionCredMgmt, uint64(ctap.CredMgmtUpdateUserInformation)
	options := a.options()
	if op.command == ctap.CmdCredentialManagementPreview {
		option = optionCredMgmtPreview
		if !options[optionCredMgmt] {
			last = ctap.CredMgmtDeleteCredential
		}
	}
	if !options[option] {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	r, err := a.parseCredentialManagement(params)
	if err != nil {
		return nil, err
	}
	switch sub := *r.subCommand; {
	case sub == ctap.CredMgmtEnumerateRPsGetNextRP, sub == ctap.CredMgmtEnumerateCredentialsGetNext:
		return a.nextListed(op, sub, l)
	case sub >= ctap.CredMgmtGetCredsMetadata && sub <= last:
	case a.cfg.Level < CTAP21: // had no status for it
		return nil, refusal(ctap.StatusInvalidParameter)
	default:
		return nil, refusal(ctap.StatusInvalidSubcommand)
	}
	t, err := a.verifyManagement(r)
	if err != nil {
		return nil, err
	}
	switch *r.subCommand {
	case ctap.CredMgmtGetCredsMetadata:
		return a.getCredsMetadata(t)
	case ctap.CredMgmtEnumerateRPsBegin:
		return a.enumerateRPs(op, t)
	case ctap.CredMgmtEnumerateCredentialsBegin:
		return a.enumerateCredentials(op, t, r)
	case ctap.CredMgmtDeleteCredential:
		return nil, a.deleteCredential(t, r)
	}
	return nil, a.updateUserInformation(t, r)
}

// verifyManagement is the steps that all subcommands with a pinUvAuthParam
// begin with (§6.8.2 to §6.8.6). It returns the token, nil if it is the
// persistent one, which is good for what reads.
func (a *Authenticator) verifyManagement(r *credentialManagementRequest) (*token, error) {
	if r.pinUVAuthParam == nil {
		return nil, refusal(ctap.StatusPUATRequired)
	}
	complete, message := r.complete()
	if !complete {
		return nil, refusal(ctap.StatusMissingParameter)
	}
	p, ok := a.protocol(*r.pinUVAuthProtocol)
	if !ok {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	t := a.authenticate(p, r.pinUVAuthParam, message)
	switch {
	case t.can(ctap.PermissionCredentialManagement):
		return t, nil
	case t == nil && *r.subCommand <= ctap.CredMgmtEnumerateCredentialsGetNext && a.authenticatePersistent(p, r.pinUVAuthParam, message):
		return nil, nil
	}
	return nil, refusal(ctap.StatusPINAuthInvalid)
}

// boundTo is a refusal if a token, which may be nil, has a permissions RP ID
// with another hash: any if hash is nil.
func (t *token) boundTo(hash []byte) error {
	if t == nil || t.rpID == nil {
		return nil
	}
	bound := sha256.Sum256([]byte(*t.rpID))
	if !bytes.Equal(bound[:], hash) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	return nil
}

// remainingCredentials returns how many more can be stored.
func (a *Authenticator) remainingCredentials() int {
	return max(0, a.cfg.Credentials-a.state.kept.tally.Stored)
}

// getCredsMetadata is §6.8.2.
func (a *Authenticator) getCredsMetadata(t *token) (reply, error) {
	if err := t.boundTo(nil); err != nil {
		return nil, err
	}
	return reply{
		managedExisting:  a.state.kept.tally.Discoverable,
		managedRemaining: a.remainingCredentials(),
	}, nil
}

// enumerateRPs is enumerateRPsBegin (§6.8.3). A relying party has the name that
// it gave last.
func (a *Authenticator) enumerateRPs(op *operation, t *token) (reply, error) {
	if err := t.boundTo(nil); err != nil {
		return nil, err
	}
	all, err := a.state.discoverable()
	if err != nil {
		return nil, err
	}
	var newest []*credential
	at := make(map[[32]byte]int)
	for _, c := range all {
		if i, ok := at[c.rpIDHash]; ok {
			newest[i] = c
			continue
		}
		at[c.rpIDHash] = len(newest)
		newest = append(newest, c)
	}
	return a.beginListing(managedTotalRPs, listing{
		command: op.command, next: ctap.CredMgmtEnumerateRPsGetNextRP, credentials: newest, token: t,
	})
}

// enumerateCredentials is enumerateCredentialsBegin (§6.8.4).
//
// Its third step in CTAP 2.3 knows no tokens that are bound to this relying
// party, which the permission cm itself (§6.5.5.7) and CTAP 2.1 do: platforms
// use them, and see no more than what they could delete.
func (a *Authenticator) enumerateCredentials(op *operation, t *token, r *credentialManagementRequest) (reply, error) {
	if err := t.boundTo(r.rpIDHash); err != nil {
		return nil, err
	}
	var of []*credential
	if len(r.rpIDHash) == sha256.Size {
		var err error
		if of, err = a.state.accounts([sha256.Size]byte(r.rpIDHash)); err != nil {
			return nil, err
		}
	}
	return a.beginListing(managedTotalCredentials, listing{
		command: op.command, next: ctap.CredMgmtEnumerateCredentialsGetNext, credentials: slices.Clone(of), token: t,
	})
}

// beginListing answers with the first of an enumeration and how many there are.
func (a *Authenticator) beginListing(total uint64, l listing) (reply, error) {
	n := len(l.credentials)
	if n == 0 {
		if a.cfg.Faults.has(ZeroTotals) {
			return reply{total: 0}, nil
		}
		return nil, refusal(ctap.StatusNoCredentials)
	}
	answer, err := a.listed(&l)
	if err != nil {
		return nil, err
	}
	answer[total] = n
	return answer, nil
}

// nextListed is enumerateRPsGetNextRP and enumerateCredentialsGetNextCredential
// (§6.8.3, §6.8.4), which have no parameters and authenticate themselves with
// nothing but that they come next.
func (a *Authenticator) nextListed(op *operation, sub uint64, l *listing) (reply, error) {
	if l == nil || l.command != op.command || l.next != sub || time.Since(l.last) > listingTimeout {
		return nil, refusal(ctap.StatusNotAllowed)
	}
	// State does not outlive the token that authenticated it (§6). The
	// persistent one ends with other commands.
	if l.token != nil && l.token != a.token() {
		return nil, refusal(ctap.StatusNotAllowed)
	}
	return a.listed(l)
}

// listed answers with the next of an enumeration, and keeps the rest.
func (a *Authenticator) listed(l *listing) (reply, error) {
	c := l.credentials[0]
	l.credentials = l.credentials[1:]
	l.last = time.Now()
	if len(l.credentials) > 0 {
		a.volatile.listing = l
	}
	if l.next == ctap.CredMgmtEnumerateRPsGetNextRP {
		rp := map[string]any{"id": c.rpID}
		if c.rpName != "" {
			rp["name"] = c.rpName
		}
		return reply{managedRP: rp, managedRPIDHash: c.rpIDHash[:]}, nil
	}
	key, err := c.key.coseKey()
	if err != nil {
		return nil, err
	}
	answer := reply{
		managedUser:         c.user.entity(),
		managedCredentialID: map[string]any{"id": c.id, "type": publicKeyType},
		managedPublicKey:    cbor.RawMessage(key),
	}
	if a.has(credProtect.id) {
		answer[managedCredProtect] = max(c.protect, userVerificationOptional)
	}
	if c.largeBlobKey != nil {
		answer[managedLargeBlobKey] = c.largeBlobKey
	}
	if a.has(thirdPartyPaymentID) {
		answer[managedThirdPartyPayment] = c.payment
	}
	return answer, nil
}

// managed returns the discoverable credential that a request names, if the
// token may manage it.
func (a *Authenticator) managed(t *token, r *credentialManagementRequest) (*credential, error) {
	c, err := a.state.find(r.credentialID)
	if err != nil {
		return nil, err
	}
	if c == nil || !c.discoverable {
		return nil, refusal(ctap.StatusNoCredentials)
	}
	return c, t.boundTo(c.rpIDHash[:])
}

// deleteCredential is §6.8.5.
func (a *Authenticator) deleteCredential(t *token, r *credentialManagementRequest) error {
	c, err := a.managed(t, r)
	if err != nil {
		return err
	}
	return a.state.commit(record{Kind: kindCredential, Key: c.id})
}

// updateUserInformation is §6.8.6. Names that are absent or empty are removed.
func (a *Authenticator) updateUserInformation(t *token, r *credentialManagementRequest) error {
	c, err := a.managed(t, r)
	if err != nil {
		return err
	}
	if !bytes.Equal(c.user.id, r.user.id) {
		return refusal(ctap.StatusInvalidParameter)
	}
	updated := *c
	updated.user = user{c.user.id, nonEmpty(truncated(r.user.name)), nonEmpty(truncated(r.user.displayName))}
	rec, err := updated.record()
	if err != nil {
		return err
	}
	// Longer names can only be too long for the file.
	if err := a.state.commit(rec); errors.Is(err, errJournalFull) {
		return refusal(ctap.StatusKeyStoreFull)
	} else if err != nil {
		return err
	}
	return nil
}

func nonEmpty(name *string) *string {
	if name == nil || *name == "" {
		return nil
	}
	return name
}
