package entra

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// probeRPID is the relying party of the accounts that ProbeAccounts makes: a name
// that nobody can have (RFC 2606).
const probeRPID = "accounts.probe.invalid"

// cleanupTimeout bounds what has to be undone after the caller's context ended.
const cleanupTimeout = 30 * time.Second

// ProbeAccounts finds out whether a key can have several accounts of one relying
// party, and puts that into its Finding: it makes two, which takes two touches,
// counts them, and deletes them again.
//
// What it would leave behind it does not begin: the key needs credential
// management, and a PIN or a fingerprint; otherwise the error is that of package
// ctap2, and the Finding stays unknown. If the accounts cannot be deleted, an
// error says so, next to a Finding that is known; another probe of the key
// deletes them.
func (c *Compatibility) ProbeAccounts(ctx context.Context, key *ctap2.Authenticator) (err error) {
	if err := deleteProbes(ctx, key); err != nil { // of one that was interrupted
		return fmt.Errorf("entra: probe for several accounts: %w", err)
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if failed := deleteProbes(cleanup, key); failed != nil {
			err = errors.Join(err, fmt.Errorf("entra: the key still has accounts for %s: %w", probeRPID, failed))
		}
	}()
	verdict, evidence, err := probeAccounts(ctx, key)
	if err != nil {
		return fmt.Errorf("entra: probe for several accounts: %w", err)
	}
	for i := range c.Findings {
		if f := &c.Findings[i]; f.Rule == RuleAccounts {
			f.Verdict, f.Evidence = verdict, evidence
		}
	}
	return nil
}

func probeAccounts(ctx context.Context, key *ctap2.Authenticator) (Verdict, string, error) {
	hash := sha256.Sum256([]byte(probeRPID)) // nobody looks at the signature
	for i := byte(1); i <= 2; i++ {
		_, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
			ClientDataHash: hash[:],
			RP:             ctap2.RelyingParty{ID: probeRPID, Name: "probe"},
			User:           ctap2.User{ID: []byte{'p', 'r', 'o', 'b', 'e', ' ', '0' + i}, Name: fmt.Sprintf("probe %d", i)},
			Algorithms:     []cose.Algorithm{cose.ES256, cose.RS256, cose.EdDSA},
			ResidentKey:    true,
		})
		if i == 2 && errors.Is(err, ctap2.ErrKeyStoreFull) {
			room, roomErr := key.GetCredsMetadata(ctx, nil)
			if roomErr == nil && room.MaxPossibleRemainingResidentCredentialsCount > 0 {
				return NotMet, "a second account was refused, although there is room", nil
			}
		}
		if err != nil {
			return Unknown, "", err
		}
	}
	stored, err := probes(ctx, key)
	switch {
	case err != nil:
		return Unknown, "", err
	case len(stored) < 2:
		return NotMet, "a second account took the place of the first", nil
	}
	return Met, "two accounts were made and were there", nil
}

// probes returns the accounts of probes on the key.
func probes(ctx context.Context, key *ctap2.Authenticator) ([]*ctap2.StoredCredential, error) {
	return key.EnumerateCredentials(ctx, &ctap2.EnumerateCredentialsRequest{RPID: probeRPID})
}

func deleteProbes(ctx context.Context, key *ctap2.Authenticator) error {
	stored, err := probes(ctx, key)
	if err != nil {
		return err
	}
	for _, s := range stored {
		if err := key.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: s.Credential}); err != nil {
			return err
		}
	}
	return nil
}
