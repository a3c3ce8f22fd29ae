// Package metadata reads what the FIDO Alliance publishes about models of
// security keys: the Metadata Service, version 3 (MDS3): who made a key, which
// roots vouch for it, how far it was certified, and whether it is still to be
// trusted.
//
// The metadata are one signed file, the BLOB. This package does not fetch it: the
// FIDO Alliance serves it at https://mds3.fidoalliance.org/, a new one about once
// a month. Keep the file, and the number of the last one that was good:
//
//	blob, err := metadata.Parse(file, &metadata.Options{Previous: number})
//	…
//	number = blob.Number
//
// [Parse] trusts nothing in the file that is not signed by the FIDO Alliance: the
// signature, and the chain of certificates to the root that the FIDO Alliance
// uses, are checked first. It refuses an older file than the previous one, and one
// that should long have been replaced.
//
// A [Blob] finds the [Entry] of a model by AAGUID, and of a U2F key without one
// by its attestation certificate. Most programs do not look themselves and
// give it to a policy:
//
//	policy := &attestation.Policy{Required: true, Metadata: blob, MinimumLevel: attestation.L2}
//
// Sections cited are those of the FIDO Metadata Service 3.1.1 (MDS).
package metadata

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Errors of Parse.
var (
	// ErrMalformed: not a metadata BLOB, or too large.
	ErrMalformed = errors.New("metadata: malformed")
	// ErrUntrusted: no path leads from the signer's certificate to a root, or
	// it is somebody else's certificate.
	ErrUntrusted = errors.New("metadata: signer is not trusted")
	// ErrSignature: the signature is not the signer's, or of an algorithm that
	// metadata are not signed with.
	ErrSignature = errors.New("metadata: invalid signature")
	// ErrRollback: the file is older than the previous one.
	ErrRollback = errors.New("metadata: older than the previous file")
	// ErrStale: the file should have been replaced by a newer one.
	ErrStale = errors.New("metadata: out of date")
)

// Limits of Parse, far beyond what is published.
const (
	// MaxSize is how large a file may be, in bytes.
	MaxSize = 64 << 20

	// maxHeader bounds x5c, which takes less than half of that, and so the work
	// that an RSA key in there can ask for before anybody vouches for it.
	maxHeader  = 16 << 10
	maxEntries = 1 << 16
)

// Options of Parse. The zero value takes the file of the FIDO Alliance as it is
// to be taken today.
type Options struct {
	// Roots are trusted to certify the signer. Nil is the root that the FIDO
	// Alliance uses, GlobalSign's R3, which expires in March 2029.
	Roots *x509.CertPool
	// Name is the domain name that the signer's certificate must be for. Empty
	// is any, as is right for a root that certifies nobody else; GlobalSign's
	// does, so with nil Roots it is "mds.fidoalliance.org".
	Name string
	// Time is when the certificates and the file must be good; zero is now.
	Time time.Time
	// Grace is how long a file is accepted after the day when its successor was
	// due.
	Grace time.Duration
	// Previous is the Number of the file that this one replaces; zero if there
	// is none. The same file again is accepted.
	Previous uint64
}

// fidoSigner is whose certificate signs the metadata.
const fidoSigner = "mds.fidoalliance.org"

// globalSignRootR3 is the root that the FIDO Alliance names. Its SHA-256
// fingerprint is in the tests.
//
//go:embed globalsign-root-r3.pem
var globalSignRootR3 []byte

// Parse verifies and reads a metadata BLOB: a JWT, in compact serialization
// (MDS §3.1.7), by the rules of MDS §3.2. The chain of certificates must be in
// the file itself (x5c); whether one of them was revoked is not looked up.
func Parse(file []byte, o *Options) (*Blob, error) {
	if o == nil {
		o = &Options{}
	}
	at := o.Time
	if at.IsZero() {
		at = time.Now()
	}
	payload, err := verify(bytes.TrimSpace(file), o, at)
	if err != nil {
		return nil, err
	}
	blob, err := parsePayload(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	due := blob.NextUpdate.AddDate(0, 0, 1) // that day is not over yet
	switch {
	case blob.Number < o.Previous:
		return nil, fmt.Errorf("%w: number %d after %d", ErrRollback, blob.Number, o.Previous)
	case !at.Before(due.Add(o.Grace)):
		return nil, fmt.Errorf("%w: the next one was due by %s", ErrStale, blob.NextUpdate.Format(time.DateOnly))
	}
	return blob, nil
}

// verify returns the payload of a token whose signer is trusted.
func verify(token []byte, o *Options, at time.Time) ([]byte, error) {
	if len(token) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(token))
	}
	if i := bytes.IndexByte(token, '.'); i < 0 || i > maxHeader {
		return nil, fmt.Errorf("%w: not a JWT", ErrMalformed)
	}
	jws, err := jose.ParseSignedCompact(string(token), []jose.SignatureAlgorithm{
		jose.RS256, jose.ES256, // those of MDS; others in case it moves on
		jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES384, jose.ES512,
	})
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, fmt.Errorf("%w: algorithm %.32q", ErrSignature, algorithm.Got)
	case err != nil: // with the header in it
		return nil, fmt.Errorf("%w: %.200v", ErrMalformed, err)
	}

	options := x509.VerifyOptions{
		Roots:       o.Roots,
		DNSName:     o.Name,
		CurrentTime: at,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if o.Roots == nil {
		options.Roots = x509.NewCertPool()
		options.Roots.AppendCertsFromPEM(globalSignRootR3)
		if o.Name == "" {
			options.DNSName = fidoSigner
		}
	}
	chains, err := jws.Signatures[0].Protected.Certificates(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return payload, nil
}
