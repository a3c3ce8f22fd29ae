package attestation_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
)

// An issuer is a certificate and its key: of a maker of keys, or of a key.
type issuer struct {
	*x509.Certificate
	key crypto.Signer
}

// Times of the makers' certificates. The tests look at them at noon.
var (
	morning = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	noon    = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	evening = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	night   = time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)
)

var (
	oidAAGUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}
	oidSerial = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 2}
)

var model = ctap2.AAGUID{0xf0, 0x0d, 15: 1}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSAKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate of a template for a new key. It is signed by the
// issuer, or by itself.
func (by *issuer) issue(t testing.TB, template *x509.Certificate) *issuer {
	t.Helper()
	return by.issueFor(t, template, newKey(t))
}

func (by *issuer) issueFor(t testing.TB, template *x509.Certificate, key crypto.Signer) *issuer {
	t.Helper()
	made := &issuer{template, key}
	if by == nil {
		by = made
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, made.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if made.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made
}

// authority is a template of one that may issue certificates.
func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             morning,
		NotAfter:              evening,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// leaf is a template of one that keeps to §8.2.1.
func leaf() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject: pkix.Name{
			Country:            []string{"ZZ"},
			Organization:       []string{"Maker"},
			OrganizationalUnit: []string{"Authenticator Attestation"},
			CommonName:         "Model 1",
		},
		NotBefore:             morning,
		NotAfter:              evening,
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{octets(oidAAGUID, model[:])},
	}
}

// octets is an extension that holds an octet string.
func octets(id asn1.ObjectIdentifier, value []byte) pkix.Extension {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: id, Value: der}
}

// numbers is a byte string that is written as a list of numbers.
func numbers(b []byte) []int {
	list := make([]int, len(b))
	for i, v := range b {
		list[i] = int(v)
	}
	return list
}

// An attested is a registration that somebody vouches for.
type attested struct {
	format  string
	aaguid  ctap2.AAGUID
	signer  crypto.Signer       // nil: the credential's own key
	path    []*x509.Certificate // x5c
	alg     cose.Algorithm
	id      []byte         // nil: some
	content map[string]any // members of the statement to set, or with nil to leave out
}

// object returns the attestation object and the hash of the client data.
func (a attested) object(t testing.TB) (object, clientDataHash []byte) {
	t.Helper()
	own := newKey(t)
	public, err := cose.NewKey(cose.ES256, own.Public())
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := public.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("client data"))
	rpID := sha256.Sum256([]byte("example.com"))
	id := a.id
	if id == nil {
		id = []byte("credential")
	}
	authData := slices.Concat(rpID[:], []byte{0x41, 0, 0, 0, 1}, a.aaguid[:],
		binary.BigEndian.AppendUint16(nil, uint16(len(id))), id, encoded)

	signed := slices.Concat(authData, hash[:])
	statement := map[string]any{}
	if a.format == "fido-u2f" {
		signed = slices.Concat([]byte{0}, rpID[:], hash[:], id, []byte{4}, public.X, public.Y)
	} else {
		statement["alg"] = a.alg
	}
	if a.signer == nil {
		a.signer = own
	}
	digest := sha256.Sum256(signed)
	if statement["sig"], err = a.signer.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	var x5c [][]byte
	for _, c := range a.path {
		x5c = append(x5c, c.Raw)
	}
	if x5c != nil {
		statement["x5c"] = x5c
	}
	for name, value := range a.content {
		statement[name] = value
	}
	object, err = cbor.Marshal(map[string]any{"fmt": a.format, "attStmt": statement, "authData": authData})
	if err != nil {
		t.Fatal(err)
	}
	return object, hash[:]
}

// verify reads and verifies the registration.
func (a attested) verify(t testing.TB) (*attestation.Statement, error) {
	t.Helper()
	object, hash := a.object(t)
	credential, err := attestation.ParseObject(object)
	if err != nil {
		t.Fatal(err)
	}
	return attestation.Verify(credential, hash)
}

// packed is a registration of model with a key that chain vouches for, the leaf
// first.
func packed(chain ...*issuer) attested {
	a := attested{format: "packed", aaguid: model, alg: cose.ES256, signer: chain[0].key}
	for _, c := range chain {
		a.path = append(a.path, c.Certificate)
	}
	return a
}

// statement returns the statement of packed.
func statement(t testing.TB, chain ...*issuer) *attestation.Statement {
	t.Helper()
	s, err := packed(chain...).verify(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pool is roots to trust.
func pool(roots ...*issuer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, r := range roots {
		p.AddCert(r.Certificate)
	}
	return p
}
