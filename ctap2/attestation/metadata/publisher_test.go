package metadata_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tapstone/fido/ctap2/attestation/metadata"
)

// today is when the tests look at the metadata.
var today = time.Date(2026, 2, 15, 12, 0, 0, 0, time.UTC)

// A publisher signs metadata as the FIDO Alliance does.
type publisher struct {
	root, leaf *x509.Certificate
	rootKey    crypto.Signer
	key        crypto.Signer // of leaf
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t testing.TB, template, by *x509.Certificate, key crypto.PublicKey, byKey crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by, key, byKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             today.AddDate(-1, 0, 0),
		NotAfter:              today.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// newPublisher returns one whose certificate is good for a year around today.
func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{rootKey: newKey(t), key: newKey(t)}
	root := authority("Root")
	p.root = certify(t, root, root, p.rootKey.Public(), p.rootKey)
	p.leaf = certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "mds.example.org"},
		NotBefore:    today.AddDate(0, -6, 0),
		NotAfter:     today.AddDate(0, 6, 0),
		DNSNames:     []string{"mds.example.org"},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, p.root, p.key.Public(), p.rootKey)
	return p
}

// options trusts the publisher.
func (p *publisher) options() *metadata.Options {
	roots := x509.NewCertPool()
	roots.AddCert(p.root)
	return &metadata.Options{Roots: roots, Time: today}
}

// sign returns the file with a payload.
func (p *publisher) sign(t testing.TB, payload []byte) []byte {
	t.Helper()
	return signWith(t, jose.ES256, p.key, payload, p.leaf)
}

// signWith signs by any key, and claims that it is that of x5c.
func signWith(t testing.TB, algorithm jose.SignatureAlgorithm, key any, payload []byte, x5c ...*x509.Certificate) []byte {
	t.Helper()
	options := &jose.SignerOptions{}
	if x5c != nil {
		var chain []string
		for _, c := range x5c {
			chain = append(chain, base64.StdEncoding.EncodeToString(c.Raw))
		}
		options.WithHeader("x5c", chain)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	file, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(file)
}

// A tree is JSON to be.
type tree map[string]any

func (m tree) json(t testing.TB) []byte {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// payload is one with entries.
func payload(entries ...any) tree {
	if entries == nil {
		entries = []any{}
	}
	return tree{"legalHeader": "terms", "no": 7, "nextUpdate": "2026-03-01", "entries": entries}
}
