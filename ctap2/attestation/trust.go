package attestation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Errors of Trust. The other three are each an ErrUntrusted, too.
var (
	// ErrUntrusted: no path leads from the statement's certificate to a root.
	ErrUntrusted = errors.New("attestation: not trusted")
	// ErrExpired: there is a path, and a certificate on it has expired or is not
	// valid yet.
	ErrExpired = fmt.Errorf("%w: certificate is not valid at that time", ErrUntrusted)
	// ErrChain: a certificate of the statement is not signed by the next one.
	ErrChain = fmt.Errorf("%w: chain of certificates is broken", ErrUntrusted)
	// ErrIssuer: none of the roots has issued the statement's last certificate.
	ErrIssuer = fmt.Errorf("%w: issued by somebody else", ErrUntrusted)
)

// Trust returns nil if the statement's certificate descends from one of roots,
// or is one of them, at a time; the zero time is now. Otherwise, and for
// statements without a certificate, the error wraps ErrUntrusted and says why.
//
// The path is crypto/x509's: validity, signatures (none with SHA-1), basic and
// name constraints and path length hold, and so do critical extensions: an
// unknown one is refused. Extended key usages are not looked at, as attestation
// has none. Revocation lists are not fetched; the metadata tell which models have
// lost their keys. Nil roots are no roots, not those of the operating system,
// which vouch for web sites.
func (s *Statement) Trust(roots *x509.CertPool, at time.Time) error {
	if len(s.Certificates) == 0 {
		return fmt.Errorf("%w: attestation type %v has no certificate", ErrUntrusted, s.Type)
	}
	if roots == nil {
		roots = x509.NewCertPool()
	}
	options := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range s.Certificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := s.Certificates[0].Verify(options); err != nil {
		return fmt.Errorf("%w: %w", s.untrusted(err, options), err)
	}
	return nil
}

// untrusted returns which error it is that crypto/x509 found. That tells expiry
// from the rest for the first certificate alone; whether it was another's is
// seen by going back to the time when the first was issued.
func (s *Statement) untrusted(found error, options x509.VerifyOptions) error {
	var invalid x509.CertificateInvalidError
	if errors.As(found, &invalid) && invalid.Reason == x509.Expired {
		return ErrExpired
	}
	for i, c := range s.Certificates[1:] {
		if s.Certificates[i].CheckSignatureFrom(c) != nil {
			return ErrChain
		}
	}
	options.CurrentTime = s.Certificates[0].NotBefore
	_, err := s.Certificates[0].Verify(options)
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return ErrExpired
	case errors.As(found, &unknown):
		return ErrIssuer
	}
	return ErrUntrusted
}
