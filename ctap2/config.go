package ctap2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A SetMinPINLengthRequest changes the rules for PINs (§6.11.4). Zero values
// leave alone what they stand for.
type SetMinPINLengthRequest struct {
	// NewMinPINLength in code points, at most 63. It can only grow, until a
	// reset.
	NewMinPINLength int
	// MinPINLengthRPIDs are the relying parties that may learn the minimum
	// length, with the extension MinPINLength: at most as many as the Info's
	// MaxRPIDsForSetMinPINLength. They replace those of an earlier request. An
	// empty list that is not nil is sent as such, for keys that forget the old
	// one then; others do nothing.
	MinPINLengthRPIDs []string
	// ForceChangePIN demands that the PIN be changed before it is used again.
	ForceChangePIN bool
	// PINComplexityPolicy makes the key refuse PINs that are too simple, which
	// cannot be taken back until a reset (CTAP 2.3).
	PINComplexityPolicy bool

	Token *Token // with permission acfg; nil: obtained if the key demands one
}

// A VendorPrototypeRequest is a vendor's own configuration command (§6.11.6).
type VendorPrototypeRequest struct {
	// CommandID is one of the Info's VendorPrototypeConfigCommands.
	CommandID uint64
	// Parameters are further members of subCommandParams, which are the
	// vendor's, by key: 2 and above. Anything that fxamacker/cbor encodes.
	Parameters map[uint64]any

	Token *Token // with permission acfg; nil: obtained if the key demands one
}

// EnableEnterpriseAttestation lets the key give an attestation that identifies
// it where it is asked for one (§6.11.1, §7.1), until a reset. CurrentInfo shows
// it as the option ep; Info still says what was before. Without a token, which
// may be nil, one with permission acfg is obtained if the key demands one.
//
// As all methods that configure the key it returns ErrUnsupported if the Info
// says that the key lacks the command or the subcommand, what Token returns, and
// what the key answers: ErrInvalidSubcommand or ErrInvalidParameter, from some,
// for a subcommand that they lack without saying so.
func (a *Authenticator) EnableEnterpriseAttestation(ctx context.Context, token *Token) error {
	return a.configure(ctx, ctap.ConfigEnableEnterpriseAttestation, nil, token)
}

// ToggleAlwaysUV turns on, or off again, that the key verifies its user for
// everything that takes a touch (§6.11.2). The Info's option alwaysUv says which
// it is: a key on which it is not there cannot change it, and one whose makers
// decided may answer ErrOperationDenied. Info still says what it was before:
// read it with CurrentInfo. A token is as for EnableEnterpriseAttestation.
func (a *Authenticator) ToggleAlwaysUV(ctx context.Context, token *Token) error {
	return a.configure(ctx, ctap.ConfigToggleAlwaysUV, nil, token)
}

// SetMinPINLength changes the rules for PINs (§6.11.4). The key answers
// ErrPINPolicyViolation to a shorter minimum than it has, ErrKeyStoreFull to
// more relying parties than fit, ErrPINNotSet to ForceChangePIN without a PIN.
// If the PIN that is set is shorter than the new minimum, it must be changed:
// the next use of it returns ErrPINChangeRequired. CurrentInfo has the new
// rules; Info still has the old ones.
//
// It refuses a negative length, and one that is more than 63, with
// ErrInvalidRequest, and more relying parties than the Info says there is room
// for with an error that wraps ErrKeyStoreFull, before anybody is asked for a
// PIN.
func (a *Authenticator) SetMinPINLength(ctx context.Context, r *SetMinPINLengthRequest) error {
	switch {
	case r == nil:
		return invalid("no SetMinPINLengthRequest")
	case r.NewMinPINLength < 0 || r.NewMinPINLength > ctap.PINMaxBytes:
		return invalid("NewMinPINLength %d, not 0 to %d", r.NewMinPINLength, ctap.PINMaxBytes)
	}
	if room := a.Info().MaxRPIDsForSetMinPINLength; room > 0 && len(r.MinPINLengthRPIDs) > room {
		return &Error{
			Command: ctap.CmdConfig, Subcommand: ctap.ConfigSetMinPINLength, Status: ErrKeyStoreFull,
			detail: fmt.Sprintf("the key has room for %d relying parties, not %d", room, len(r.MinPINLengthRPIDs)),
		}
	}
	err := a.configure(ctx, ctap.ConfigSetMinPINLength, &setMinPINLengthParameters{
		NewMinPINLength:     r.NewMinPINLength,
		MinPINLengthRPIDs:   r.MinPINLengthRPIDs,
		ForceChangePIN:      r.ForceChangePIN,
		PINComplexityPolicy: r.PINComplexityPolicy,
	}, r.Token)
	var e *Error
	if errors.As(err, &e) && e.Command == ctap.CmdConfig { // and not on the way to a token
		err = meaning(err, ErrKeyStoreFull, "no room for as many relying parties")
		switch least := a.Info().MinPINLength; {
		case r.NewMinPINLength == 0:
		case r.NewMinPINLength < least:
			err = meaning(err, ErrPINPolicyViolation, "the minimum is %d already, and only a reset lowers it", least)
		default:
			err = meaning(err, ErrPINPolicyViolation, "the key does not take %d as the minimum", r.NewMinPINLength)
		}
	}
	return err
}

// EnableLongTouchForReset makes the key demand a touch of five seconds or more
// for a reset (§6.11.5), until that reset. A token is as for
// EnableEnterpriseAttestation.
func (a *Authenticator) EnableLongTouchForReset(ctx context.Context, token *Token) error {
	return a.configure(ctx, ctap.ConfigEnableLongTouchForReset, nil, token)
}

// VendorPrototype runs a vendor's own configuration command (§6.11.6). It
// returns what the key answers, one CBOR item, or nothing. Parameters under the
// key 1, which is the command's, are refused with ErrInvalidRequest.
func (a *Authenticator) VendorPrototype(ctx context.Context, r *VendorPrototypeRequest) ([]byte, error) {
	const vendorCommandID = 1
	if r == nil {
		return nil, invalid("no VendorPrototypeRequest")
	}
	p := map[uint64]any{vendorCommandID: r.CommandID}
	for key, value := range r.Parameters {
		if key <= vendorCommandID {
			return nil, invalid("Parameters[%d]", key)
		}
		p[key] = value
	}
	var reply []byte
	err := a.config(ctx, ctap.ConfigVendorPrototype, p, r.Token, &reply)
	return reply, err
}

// setMinPINLengthParameters is the subCommandParams of setMinPINLength.
type setMinPINLengthParameters struct {
	NewMinPINLength     int      `cbor:"1,keyasint,omitempty"`
	MinPINLengthRPIDs   []string `cbor:"2,keyasint,omitzero"` // an empty one has a meaning
	ForceChangePIN      bool     `cbor:"3,keyasint,omitempty"`
	PINComplexityPolicy bool     `cbor:"4,keyasint,omitempty"`
}

func (a *Authenticator) configure(ctx context.Context, subcommand byte, parameters any, held *Token) error {
	return a.config(ctx, subcommand, parameters, held, new([]byte))
}

// config sends a subcommand of authenticatorConfig (§6.11). What the Info said
// of the key is not true any longer then, whatever comes back.
func (a *Authenticator) config(ctx context.Context, subcommand byte, parameters any, held *Token, reply *[]byte) error {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.info.configures(subcommand); err != nil {
		return err
	}
	run := func(t *Token) error {
		a.stale.Store(true)
		// The 32 bytes keep what is authenticated here from being the hash of
		// client data, say.
		prefix := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdConfig)
		body, err := c.subcommand(ctap.CmdConfig, subcommand, prefix, parameters, t)
		if err != nil {
			return err
		}
		if len(body) > 0 {
			if err := cbor.Check(body, a.rules); err != nil {
				return malformed(ctap.CmdConfig, err)
			}
			*reply = body
		}
		return nil
	}
	if held == nil && !c.info.configNeedsToken(subcommand) {
		err := run(nil)
		if !errors.Is(err, ErrPUATRequired) {
			return err
		}
		if _, err := c.fetchInfo(); err != nil { // someone has set a PIN meanwhile
			return err
		}
	}
	return c.authorized(PermissionAuthenticatorConfig, "", held, run)
}

// configures reports whether the key has a subcommand. Keys of before CTAP 2.3
// do not list them, but three have an option.
func (i *Info) configures(subcommand byte) error {
	missing := !i.optionOn(OptionAuthenticatorConfig) ||
		subcommand == ctap.ConfigEnableEnterpriseAttestation && !i.optionKnown(OptionEnterpriseAttestation) ||
		subcommand == ctap.ConfigToggleAlwaysUV && !i.optionKnown(OptionAlwaysUV) ||
		subcommand == ctap.ConfigSetMinPINLength && !i.optionOn(OptionSetMinPINLength) ||
		i.AuthenticatorConfigCommands != nil && !slices.Contains(i.AuthenticatorConfigCommands, uint64(subcommand))
	if missing {
		return fmt.Errorf("ctap2: %s: %w", commandName(ctap.CmdConfig, subcommand), ErrUnsupported)
	}
	return nil
}

// configNeedsToken reports whether the key demands a token (§6.11 step 4): one
// that is protected does, and one with alwaysUv, but for taking that back where
// no user verification is set up.
func (i *Info) configNeedsToken(subcommand byte) bool {
	if i.protected() {
		return true
	}
	return i.optionOn(OptionAlwaysUV) && subcommand != ctap.ConfigToggleAlwaysUV
}
