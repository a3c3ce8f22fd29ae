package ctap2

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// AuthenticatorData is what an authenticator signs, along with the hash of the
// client data (WebAuthn §6.1).
type AuthenticatorData struct {
	RPIDHash  [32]byte // SHA-256 of the RP ID
	Flags     Flags
	SignCount uint32

	// Attested credential data (WebAuthn §6.5.2), in a registration.
	AAGUID       AAGUID
	CredentialID []byte
	PublicKey    *cose.Key // nil where there is none

	// Extensions holds extension outputs by identifier, each encoded in CBOR.
	Extensions map[string][]byte

	// Raw is the data as it came, which the signature covers.
	Raw []byte
}

// Flags of authenticator data (WebAuthn §6.1). Reserved bits are kept.
type Flags byte

// Flags.
const (
	FlagUserPresent            Flags = ctap.FlagUserPresent
	FlagUserVerified           Flags = ctap.FlagUserVerified
	FlagBackupEligible         Flags = ctap.FlagBackupEligible
	FlagBackupState            Flags = ctap.FlagBackupState
	FlagAttestedCredentialData Flags = ctap.FlagAttestedCredentialData
	FlagExtensionData          Flags = ctap.FlagExtensionData
)

// Has reports whether all bits of f2 are set in f.
func (f Flags) Has(f2 Flags) bool { return f&f2 == f2 }

// String returns the specification's short names, such as "UP|UV|AT".
func (f Flags) String() string {
	var names []string
	for i, name := range []string{"UP", "RFU1", "UV", "BE", "BS", "RFU2", "AT", "ED"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// authDataHeader is rpIdHash, flags and signCount.
const authDataHeader = 32 + 1 + 4

// ParseAuthenticatorData parses data, which the result keeps and shares. It
// refuses, with ErrMalformed, data that is too short, has bytes left over, or
// holds a public key that package cose refuses, such as one that is not on
// its curve. Keys of unknown algorithms and reserved flags are accepted.
func ParseAuthenticatorData(data []byte) (*AuthenticatorData, error) {
	a := new(AuthenticatorData)
	if err := a.parse(data, cbor.Lenient); err != nil {
		return nil, fmt.Errorf("ctap2: %w", err)
	}
	return a, nil
}

func (a *AuthenticatorData) parse(data []byte, rules cbor.Rules) error {
	if len(data) < authDataHeader {
		return fmt.Errorf("%w: authenticator data of %d bytes", ErrMalformed, len(data))
	}
	a.Raw = data
	copy(a.RPIDHash[:], data)
	a.Flags = Flags(data[32])
	a.SignCount = binary.BigEndian.Uint32(data[33:])
	rest := data[authDataHeader:]
	if a.Flags.Has(FlagAttestedCredentialData) {
		var err error
		if rest, err = a.parseCredential(rest, rules); err != nil {
			return err
		}
	}
	if a.Flags.Has(FlagExtensionData) {
		d := cbor.NewCursor(rest, rules)
		a.Extensions = make(map[string][]byte, d.Len())
		for name := range d.TextMap() {
			a.Extensions[cbor.String(name)] = d.Raw()
		}
		if d.Err() != nil {
			return fmt.Errorf("extension outputs: %w", d.Err())
		}
		return nil
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind authenticator data", ErrMalformed, len(rest))
	}
	return nil
}

// answers reports whether the data answers a request for an RP ID with that
// hash: a key that signs for another, or that did not verify the user although
// that was required, does not.
func (a *AuthenticatorData) answers(rpIDHash [32]byte, wish UserVerification) error {
	switch {
	case a.RPIDHash != rpIDHash:
		return fmt.Errorf("%w: authenticator data for another RP ID", ErrMalformed)
	case wish == Required && !a.Flags.Has(FlagUserVerified):
		return fmt.Errorf("%w: the user was not verified", ErrMalformed)
	}
	return nil
}

// parseCredential parses attested credential data and returns what follows.
func (a *AuthenticatorData) parseCredential(data []byte, rules cbor.Rules) ([]byte, error) {
	const header = 16 + 2
	if len(data) < header {
		return nil, fmt.Errorf("%w: attested credential data of %d bytes", ErrMalformed, len(data))
	}
	copy(a.AAGUID[:], data)
	n := int(binary.BigEndian.Uint16(data[16:]))
	data = data[header:]
	if n == 0 || n > len(data) {
		return nil, fmt.Errorf("%w: credential ID of %d bytes, %d are there", ErrMalformed, n, len(data))
	}
	a.CredentialID, data = data[:n:n], data[n:]
	n, err := cbor.Prefix(data, rules)
	if err != nil {
		return nil, fmt.Errorf("credential public key: %w", err)
	}
	if a.PublicKey, err = cose.ParseKey(data[:n:n]); err != nil {
		return nil, fmt.Errorf("%w: credential public key: %w", ErrMalformed, err)
	}
	return data[n:], nil
}
