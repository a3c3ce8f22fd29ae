package ctap2

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// CredsMetadata is what getCredsMetadata answers (§6.8.2).
type CredsMetadata struct {
	// ExistingResidentCredentialsCount is how many discoverable credentials
	// the key holds.
	ExistingResidentCredentialsCount int
	// MaxPossibleRemainingResidentCredentialsCount is how many more would fit
	// at best.
	MaxPossibleRemainingResidentCredentialsCount int
}

// A StoredRP is a relying party that the key holds discoverable credentials
// for.
type StoredRP struct {
	// RelyingParty is what the key stored. A key may cut an ID of more than 32
	// bytes (§6.8.7): IDHash is what tells parties apart.
	RelyingParty
	IDHash [32]byte // SHA-256 of the RP ID
}

// A StoredCredential is a discoverable credential, as the key lists it.
type StoredCredential struct {
	RP           StoredRP
	User         User
	Credential   CredentialDescriptor
	PublicKey    *cose.Key
	CredProtect  CredProtectPolicy // 0 if the key does not say
	LargeBlobKey pin.Secret        // 32 bytes, or empty; the caller's to wipe

	// ThirdPartyPayment reports that the credential was made with that
	// extension (CTAP 2.2).
	ThirdPartyPayment bool
}

// An EnumerateCredentialsRequest says whose credentials to list: those of one
// relying party, named by its ID or by its ID's hash, or, with neither, all.
type EnumerateCredentialsRequest struct {
	RPID     string
	RPIDHash *[32]byte
	Token    *Token // with permission cm or pcmr; nil: obtained
}

// A DeleteCredentialRequest names a credential to delete.
type DeleteCredentialRequest struct {
	Credential CredentialDescriptor
	Token      *Token // with permission cm; nil: obtained
}

// An UpdateUserInformationRequest says what the account of a credential is
// called from now on. User.ID must be the one that it has.
type UpdateUserInformationRequest struct {
	Credential CredentialDescriptor
	User       User
	Token      *Token // with permission cm; nil: obtained
}

// maxStored bounds how many relying parties a key can claim to list, and how
// many credentials for all of them: ten times as many as the largest keys hold.
const maxStored = 1 << 14

// GetCredsMetadata asks how many discoverable credentials the key holds and how
// many more would fit (§6.8.2). Without a token, which may be nil, one with
// permission cm is obtained. Some early keys answer ErrNoCredentials when they
// hold none, and do not say how many would fit.
//
// As all methods of credential management it returns ErrUnsupported if the key
// lacks the command, ErrNotSetUp if it has no PIN yet, and what Token returns.
func (a *Authenticator) GetCredsMetadata(ctx context.Context, token *Token) (CredsMetadata, error) {
	var m CredsMetadata
	err := a.manageCredentials(ctx, ctap.CredMgmtGetCredsMetadata, "", token, func(c *ceremony, t *Token) error {
		reply, err := c.credentialManagement(ctap.CredMgmtGetCredsMetadata, nil, t)
		if err != nil {
			return err
		}
		if reply.existing == nil || reply.remaining == nil {
			return malformed(ctap.CmdCredentialManagement, noMember("existingResidentCredentialsCount"))
		}
		m = CredsMetadata{*reply.existing, *reply.remaining}
		return nil
	})
	return m, err
}

// EnumerateRPs lists the relying parties that the key holds discoverable
// credentials for (§6.8.3), in its own order: none is no error. Without a
// token, which may be nil, one with permission cm is obtained.
//
// The list is read in one go. If another program comes between, the key loses
// its place and the error wraps ErrInterrupted.
func (a *Authenticator) EnumerateRPs(ctx context.Context, token *Token) ([]StoredRP, error) {
	var list []StoredRP
	err := a.manageCredentials(ctx, ctap.CredMgmtEnumerateRPsBegin, "", token, func(c *ceremony, t *Token) (err error) {
		list, err = c.enumerateRPs(t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// EnumerateCredentials lists discoverable credentials (§6.8.4), those of one
// relying party or all: none is no error. r may be nil. A list of all costs
// one transaction for each relying party and one for each credential.
//
// The list is read in one go. If another program comes between, the key loses
// its place and the error wraps ErrInterrupted.
func (a *Authenticator) EnumerateCredentials(ctx context.Context, r *EnumerateCredentialsRequest) ([]*StoredCredential, error) {
	if r == nil {
		r = new(EnumerateCredentialsRequest)
	}
	hash := r.RPIDHash
	if r.RPID != "" {
		sum := sha256.Sum256([]byte(r.RPID))
		if hash != nil && *hash != sum {
			return nil, invalid("RPIDHash is not that of RPID")
		}
		hash = &sum
	}
	var list []*StoredCredential
	wipe := func() {
		for _, s := range list {
			s.LargeBlobKey.Wipe()
		}
		list = nil
	}
	err := a.manageCredentials(ctx, ctap.CredMgmtEnumerateCredentialsBegin, r.RPID, r.Token, func(c *ceremony, t *Token) error {
		wipe() // what was read under a token that the key then gave up
		parties := []StoredRP{{RelyingParty: RelyingParty{ID: r.RPID}}}
		if hash != nil {
			parties[0].IDHash = *hash
		} else {
			var err error
			if parties, err = c.enumerateRPs(t); err != nil {
				return err
			}
		}
		for _, rp := range parties {
			credentials, err := c.enumerateCredentials(rp, t, maxStored-len(list))
			if err != nil {
				return err
			}
			list = append(list, credentials...)
		}
		return nil
	})
	if err != nil {
		wipe()
	}
	return list, err
}

// DeleteCredential deletes a discoverable credential (§6.8.5). If the key does
// not hold it, the error wraps ErrNoCredentials. A large blob of the credential
// stays behind: CollectLargeBlobs removes it.
func (a *Authenticator) DeleteCredential(ctx context.Context, r *DeleteCredentialRequest) error {
	switch {
	case r == nil:
		return invalid("no DeleteCredentialRequest")
	case len(r.Credential.ID) == 0:
		return invalid("no Credential.ID")
	}
	id := r.Credential.wire()
	return a.manageCredentials(ctx, ctap.CredMgmtDeleteCredential, "", r.Token, func(c *ceremony, t *Token) error {
		a.moved.Store(true)
		_, err := c.credentialManagement(ctap.CredMgmtDeleteCredential, &credMgmtParameters{
			CredentialID: &id,
		}, t)
		return err
	})
}

// UpdateUserInformation gives the account of a discoverable credential other
// names, which is what a person sees when they sign in (§6.8.6): an empty one
// takes the old one away. The credential itself stays what it was.
//
// If the key does not hold the credential, the error wraps ErrNoCredentials; if
// User.ID is not the account's, ErrInvalidParameter. Keys with the preview of
// credential management alone cannot do it: ErrUnsupported.
func (a *Authenticator) UpdateUserInformation(ctx context.Context, r *UpdateUserInformationRequest) error {
	switch {
	case r == nil:
		return invalid("no UpdateUserInformationRequest")
	case len(r.Credential.ID) == 0:
		return invalid("no Credential.ID")
	case len(r.User.ID) == 0 || len(r.User.ID) > ctap.MaxUserIDLength:
		return invalid("User.ID of %d bytes", len(r.User.ID))
	}
	id, user := r.Credential.wire(), userEntity(r.User)
	return a.manageCredentials(ctx, ctap.CredMgmtUpdateUserInformation, "", r.Token, func(c *ceremony, t *Token) error {
		a.moved.Store(true)
		_, err := c.credentialManagement(ctap.CredMgmtUpdateUserInformation, &credMgmtParameters{
			CredentialID: &id,
			User:         &user,
		}, t)
		return err
	})
}

// manageCredentials runs what begins with a subcommand, under a token.
func (a *Authenticator) manageCredentials(ctx context.Context, subcommand byte, rpID string, held *Token, run func(*ceremony, *Token) error) error {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	c.rpID = rpID
	if _, err := c.info.credentialManagementCommand(subcommand); err != nil {
		return err
	}
	return c.authorized(PermissionCredentialManagement, rpID, held, func(t *Token) error { return run(c, t) })
}

// credentialManagementCommand returns the command byte under which the key
// knows a subcommand.
func (i *Info) credentialManagementCommand(subcommand byte) (byte, error) {
	switch {
	case i.optionOn(OptionCredentialManagement):
		return ctap.CmdCredentialManagement, nil
	case i.optionOn(OptionCredentialMgmtPreview) && subcommand != ctap.CredMgmtUpdateUserInformation:
		return ctap.CmdCredentialManagementPreview, nil
	}
	return 0, fmt.Errorf("ctap2: %s: %w", commandName(ctap.CmdCredentialManagement, subcommand), ErrUnsupported)
}

// credMgmtParameters is the subCommandParams of authenticatorCredentialManagement
// (§6.8).
type credMgmtParameters struct {
	RPIDHash     []byte      `cbor:"1,keyasint,omitempty"`
	CredentialID *descriptor `cbor:"2,keyasint,omitempty"`
	User         *userEntity `cbor:"3,keyasint,omitempty"`
}

// credMgmtReply is its reply. Absent members are nil.
type credMgmtReply struct {
	existing, remaining *int
	total               *int // totalRPs or totalCredentials

	rp         StoredRP
	credential StoredCredential
	hasHash    bool
}

func (c *ceremony) credentialManagement(subcommand byte, p *credMgmtParameters, t *Token) (*credMgmtReply, error) {
	command, err := c.info.credentialManagementCommand(subcommand)
	if err != nil {
		return nil, err
	}
	var parameters any
	if p != nil {
		parameters = p
	}
	body, err := c.subcommand(command, subcommand, nil, parameters, t)
	if err != nil {
		return nil, err
	}
	reply := new(credMgmtReply)
	if len(body) == 0 { // deleteCredential and updateUserInformation have no output
		return reply, nil
	}
	if err := reply.parse(body, c.a.rules); err != nil {
		clear(body) // there may be a largeBlobKey in it
		return nil, malformed(command, err)
	}
	return reply, nil
}

func (r *credMgmtReply) parse(body []byte, rules cbor.Rules) error {
	d := cbor.NewCursor(body, rules)
	count := func() *int {
		n := int(d.UintMax(math.MaxInt32))
		return &n
	}
	s := &r.credential
	var err error
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.existing = count()
		case 0x02:
			r.remaining = count()
		case 0x03:
			r.rp.RelyingParty, err = readRP(d)
		case 0x04:
			r.hasHash = copy(r.rp.IDHash[:], d.BytesLen(len(r.rp.IDHash))) > 0
		case 0x05, 0x09:
			r.total = count()
		case 0x06:
			s.User, err = readUser(d)
		case 0x07:
			s.Credential, err = readDescriptor(d)
		case 0x08:
			if raw := d.Raw(); d.Err() == nil {
				if s.PublicKey, err = cose.ParseKey(raw); err != nil {
					err = fmt.Errorf("%w: publicKey: %w", ErrMalformed, err)
				}
			}
		case 0x0A:
			s.CredProtect = CredProtectPolicy(d.UintMax(math.MaxUint8))
		case 0x0B:
			s.LargeBlobKey = pin.NewSecret(d.BytesLen(ctap.LargeBlobKeyLength))
		case 0x0C:
			s.ThirdPartyPayment = d.Bool()
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

func (c *ceremony) enumerateRPs(t *Token) ([]StoredRP, error) {
	var list []StoredRP
	err := c.enumerate(ctap.CredMgmtEnumerateRPsBegin, ctap.CredMgmtEnumerateRPsGetNextRP, nil, t, maxStored, func(r *credMgmtReply) error {
		if !r.hasHash {
			return noMember("rpIDHash")
		}
		list = append(list, r.rp)
		return nil
	})
	return list, err
}

// enumerateCredentials lists those of one relying party, at most limit.
func (c *ceremony) enumerateCredentials(rp StoredRP, t *Token, limit int) ([]*StoredCredential, error) {
	var list []*StoredCredential
	p := &credMgmtParameters{RPIDHash: rp.IDHash[:]}
	err := c.enumerate(ctap.CredMgmtEnumerateCredentialsBegin, ctap.CredMgmtEnumerateCredentialsGetNext, p, t, limit, func(r *credMgmtReply) error {
		s := &r.credential
		switch {
		case s.Credential.ID == nil:
			return noMember("credentialID")
		case s.User.ID == nil:
			return noMember("user")
		case s.PublicKey == nil:
			return noMember("publicKey")
		}
		s.RP = rp
		list = append(list, s)
		return nil
	})
	if err != nil {
		for _, s := range list {
			s.LargeBlobKey.Wipe()
		}
		return nil, err
	}
	return list, nil
}

// enumerate sends begin, and next as often as the first reply promises, which
// may be limit times. Nothing may be sent between, which the ceremony sees to as
// far as this program goes.
func (c *ceremony) enumerate(begin, next byte, p *credMgmtParameters, t *Token, limit int, add func(*credMgmtReply) error) error {
	reply, err := c.credentialManagement(begin, p, t)
	if errors.Is(err, ErrNoCredentials) {
		return nil
	}
	if err != nil {
		return err
	}
	if reply.total == nil && begin == ctap.CredMgmtEnumerateRPsBegin && c.a.rules == cbor.Lenient {
		// Some keys that hold nothing answer with a relying party of zeros.
		if empty, err := c.holdsNoCredentials(t); empty || err != nil {
			return err
		}
	}
	switch {
	case reply.total == nil:
		reply.credential.LargeBlobKey.Wipe()
		return malformed(ctap.CmdCredentialManagement, noMember("totalRPs or totalCredentials"))
	case *reply.total > limit:
		reply.credential.LargeBlobKey.Wipe()
		return malformed(ctap.CmdCredentialManagement, fmt.Errorf("%w: a list of %d", ErrMalformed, *reply.total))
	}
	for left := *reply.total; left > 0; left-- {
		if err := add(reply); err != nil {
			reply.credential.LargeBlobKey.Wipe()
			return malformed(ctap.CmdCredentialManagement, err)
		}
		if left == 1 {
			break
		}
		reply, err = c.credentialManagement(next, nil, nil)
		if errors.Is(err, ErrNotAllowed) {
			return fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holdsNoCredentials asks whether the key holds no discoverable credential.
func (c *ceremony) holdsNoCredentials(t *Token) (bool, error) {
	reply, err := c.credentialManagement(ctap.CredMgmtGetCredsMetadata, nil, t)
	if errors.Is(err, ErrNoCredentials) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return reply.existing != nil && *reply.existing == 0, nil
}

// subcommandParameters is the request of authenticatorCredentialManagement
// (§6.8) and authenticatorConfig (§6.11).
type subcommandParameters struct {
	Subcommand     byte            `cbor:"1,keyasint"`
	Parameters     cbor.RawMessage `cbor:"2,keyasint,omitempty"`
	Protocol       pin.Protocol    `cbor:"3,keyasint,omitempty"`
	PINUVAuthParam []byte          `cbor:"4,keyasint,omitempty"`
}

// subcommand sends a subcommand of one of the two with parameters unless nil,
// authenticated with t unless nil: over prefix, the subcommand, and the
// parameters as they are sent.
func (c *ceremony) subcommand(command, subcommand byte, prefix []byte, p any, t *Token) ([]byte, error) {
	request := &subcommandParameters{Subcommand: subcommand}
	if p != nil {
		encoded, err := cbor.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
		}
		request.Parameters = encoded
	}
	if t != nil {
		request.Protocol = t.protocol
		request.PINUVAuthParam = t.Authenticate(prefix, []byte{subcommand}, request.Parameters)
	}
	return c.send(command, subcommand, request, TouchPresence)
}
