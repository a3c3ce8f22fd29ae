package metadata_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/attestation/metadata"
)

// The example of the FIDO Metadata Service 3.0, with its root, from
// https://fidoalliance.org/specs/mds/fido-metadata-service-v3.0-ps-20210518.html.
var (
	//go:embed testdata/mds3-example.jwt
	example []byte
	//go:embed testdata/mds3-example-root.pem
	exampleRoot []byte
)

func exampleOptions() *metadata.Options {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(exampleRoot)
	return &metadata.Options{
		Roots: roots,
		Time:  time.Date(2021, 5, 18, 0, 0, 0, 0, time.UTC),
		Grace: 500 * 24 * time.Hour, // it was out of date when it was published
	}
}

func Example() {
	// The file and the root of an example that the FIDO Alliance published; a
	// program takes the file from https://mds3.fidoalliance.org/, and no options.
	blob, err := metadata.Parse(example, exampleOptions())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("number", blob.Number)
	aaguid := ctap2.AAGUID{0x01, 0x32, 0xd1, 0x10, 0xbf, 0x4e, 0x42, 0x08, 0xa4, 0x03, 0xab, 0x4f, 0x5f, 0x12, 0xef, 0xe5}
	if entry := blob.ByAAGUID(aaguid); entry != nil {
		fmt.Println(entry.MetadataStatement.Description, entry.MetadataStatement.KeyProtection)
	}

	policy := &attestation.Policy{Metadata: blob, MinimumLevel: attestation.L1}
	statement := &attestation.Statement{Type: attestation.Self, AAGUID: aaguid} // as Verify returned it
	fmt.Println(policy.Check(statement))
	// Output:
	// number 15
	// FIDO Alliance Sample FIDO2 Authenticator [hardware secure_element]
	// attestation: "FIDO Alliance Sample FIDO2 Authenticator" refused: no certificate vouches for the key, and every key of this model has one
}

// globalSignKey is the identifier of the key of GlobalSign's root R3.
const globalSignKey = "8ff04b7fa82e4524ae4d50fa639a8bdee2dd1bbc"

// globalSign returns the root that is built in.
func globalSign(t *testing.T) *x509.Certificate {
	t.Helper()
	file, err := os.ReadFile("globalsign-root-r3.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(file)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatal("not one certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// The root that is built in is the one that the FIDO Alliance names, and not
// everybody whom it certifies is the FIDO Alliance.
func TestBuiltInRoot(t *testing.T) {
	root := globalSign(t)
	const fingerprint = "cbb522d7b7f127ad6a0113865bdf1cd4102e7d0759af635a7cf4720dc963c53b"
	if sum := sha256.Sum256(root.Raw); hex.EncodeToString(sum[:]) != fingerprint {
		t.Errorf("fingerprint %x", sum)
	}
	if id := hex.EncodeToString(root.SubjectKeyId); id != globalSignKey {
		t.Errorf("key identifier %s", id)
	}

	p := newPublisher(t)
	signed := p.sign(t, payload().json(t))
	_, err := metadata.Parse(signed, &metadata.Options{Time: today})
	var name x509.HostnameError
	if !errors.Is(err, metadata.ErrUntrusted) || !errors.As(err, &name) || name.Host != "mds.fidoalliance.org" {
		t.Errorf("another name: %v", err)
	}
	_, err = metadata.Parse(signed, &metadata.Options{Time: today, Name: "mds.example.org"})
	var unknown x509.UnknownAuthorityError
	if !errors.Is(err, metadata.ErrUntrusted) || !errors.As(err, &unknown) {
		t.Errorf("another root: %v", err)
	}
	if _, err := metadata.Parse(signed, nil); !errors.Is(err, metadata.ErrUntrusted) {
		t.Errorf("no options: %v", err)
	}
}

func TestParse(t *testing.T) {
	p := newPublisher(t)
	file := p.sign(t, payload().json(t))
	blob, err := metadata.Parse(append(file, "\r\n"...), p.options())
	if err != nil {
		t.Fatal(err)
	}
	if blob.Number != 7 || blob.LegalHeader != "terms" || len(blob.Entries) != 0 || len(blob.Faulty) != 0 ||
		!blob.NextUpdate.Equal(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", blob)
	}

	// An RSA key, as the FIDO Alliance has it, under an intermediate.
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	betweenKey := newKey(t)
	between := certify(t, authority("Between"), p.root, betweenKey.Public(), p.rootKey)
	leaf := certify(t, p.leaf, between, rsaKey.Public(), betweenKey)
	signed := signWith(t, jose.RS256, rsaKey, payload().json(t), leaf, between)
	if _, err := metadata.Parse(signed, p.options()); err != nil {
		t.Error(err)
	}
	// The certificates may be for a name, and the root may be the signer.
	options := p.options()
	options.Name = "mds.example.org"
	if _, err := metadata.Parse(file, options); err != nil {
		t.Error(err)
	}
	if _, err := metadata.Parse(signWith(t, jose.ES256, p.rootKey, payload().json(t), p.root), p.options()); err != nil {
		t.Error(err)
	}
}

// Files that somebody else made, or changed.
func TestParseRefuses(t *testing.T) {
	p := newPublisher(t)
	data := payload().json(t)
	file := string(p.sign(t, data))
	parts := strings.Split(file, ".")
	other := newPublisher(t)
	encode := base64.RawURLEncoding.EncodeToString
	header := func(json string) string { return encode([]byte(json)) + "." + parts[1] + "." + parts[2] }
	x5c := base64.StdEncoding.EncodeToString(p.leaf.Raw)
	with := func(change func(*metadata.Options)) *metadata.Options {
		o := p.options()
		change(o)
		return o
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		file    string
		options *metadata.Options
		want    error
		says    string
	}{
		"alg none":                 {encode([]byte(`{"alg":"none","x5c":["`+x5c+`"]}`)) + "." + parts[1] + ".", p.options(), metadata.ErrSignature, `algorithm "none"`},
		"alg None":                 {header(`{"alg":"None","x5c":["` + x5c + `"]}`), p.options(), metadata.ErrSignature, `algorithm "None"`},
		"no alg":                   {header(`{"x5c":["` + x5c + `"]}`), p.options(), metadata.ErrSignature, "algorithm"},
		"HMAC with the public key": {string(signWith(t, jose.HS256, p.leaf.RawSubjectPublicKeyInfo, data, p.leaf)), p.options(), metadata.ErrSignature, `algorithm "HS256"`},
		"long alg":                 {header(`{"alg":"` + strings.Repeat("x", 1000) + `","x5c":["` + x5c + `"]}`), p.options(), metadata.ErrSignature, "algorithm"},
		"other alg, same key":      {header(`{"alg":"RS256","x5c":["` + x5c + `"]}`), p.options(), metadata.ErrSignature, ""},
		"wrong key":                {string(signWith(t, jose.ES256, newKey(t), data, p.leaf)), p.options(), metadata.ErrSignature, ""},
		"wrong kind of key":        {string(signWith(t, jose.RS256, rsaKey, data, p.leaf)), p.options(), metadata.ErrSignature, ""},
		"tampered payload":         {parts[0] + "." + encode(bytes.Replace(data, []byte(`"no":7`), []byte(`"no":8`), 1)) + "." + parts[2], p.options(), metadata.ErrSignature, ""},
		"tampered header":          {header(`{"alg":"ES256","typ":"JWT","x5c":["` + x5c + `"]}`), p.options(), metadata.ErrSignature, ""},
		"no signature":             {parts[0] + "." + parts[1] + ".", p.options(), metadata.ErrSignature, ""},
		"signature of another":     {parts[0] + "." + parts[1] + "." + strings.Split(string(other.sign(t, data)), ".")[2], p.options(), metadata.ErrSignature, ""},

		"no x5c":                         {string(signWith(t, jose.ES256, p.key, data)), p.options(), metadata.ErrUntrusted, "x5c"},
		"x5c of another root":            {string(other.sign(t, data)), p.options(), metadata.ErrUntrusted, "unknown authority"},
		"root appended":                  {string(signWith(t, jose.ES256, other.key, data, other.leaf, p.root)), p.options(), metadata.ErrUntrusted, "unknown authority"},
		"leaf is another's":              {string(signWith(t, jose.ES256, other.key, data, other.leaf, p.leaf)), p.options(), metadata.ErrUntrusted, "unknown authority"},
		"no roots":                       {file, with(func(o *metadata.Options) { o.Roots = x509.NewCertPool() }), metadata.ErrUntrusted, "unknown authority"},
		"expired certificate":            {file, with(func(o *metadata.Options) { o.Time = p.leaf.NotAfter.Add(time.Second) }), metadata.ErrUntrusted, "expired"},
		"certificate to come":            {file, with(func(o *metadata.Options) { o.Time = p.leaf.NotBefore.Add(-time.Second) }), metadata.ErrUntrusted, "not yet valid"},
		"certificate for TLS of another": {file, with(func(o *metadata.Options) { o.Name = "mds.fidoalliance.org" }), metadata.ErrUntrusted, "mds.fidoalliance.org"},

		"empty":               {"", p.options(), metadata.ErrMalformed, ""},
		"text":                {"<html>", p.options(), metadata.ErrMalformed, "not a JWT"},
		"two parts":           {parts[0] + "." + parts[1], p.options(), metadata.ErrMalformed, ""},
		"JSON serialization":  {`{"payload":".","signatures":[]}`, p.options(), metadata.ErrMalformed, ""},
		"header not JSON":     {encode([]byte("x")) + "." + parts[1] + "." + parts[2], p.options(), metadata.ErrMalformed, ""},
		"x5c not certificate": {header(`{"alg":"ES256","x5c":["` + strings.Repeat("AAAA", 1000) + `"]}`), p.options(), metadata.ErrMalformed, ""},
		"huge":                {strings.Repeat("x", metadata.MaxSize+1), p.options(), metadata.ErrMalformed, "67108865 bytes"},
		"huge header":         {strings.Repeat("x", 1<<14+1) + "." + parts[1] + "." + parts[2], p.options(), metadata.ErrMalformed, "not a JWT"},

		"before the previous":   {file, with(func(o *metadata.Options) { o.Previous = 8 }), metadata.ErrRollback, "number 7 after 8"},
		"the previous":          {file, with(func(o *metadata.Options) { o.Previous = 7 }), nil, ""},
		"the day of the update": {file, with(func(o *metadata.Options) { o.Time = time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC) }), nil, ""},
		"the day after":         {file, with(func(o *metadata.Options) { o.Time = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) }), metadata.ErrStale, "due by 2026-03-01"},
		"with grace": {file, with(func(o *metadata.Options) {
			o.Time, o.Grace = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), time.Hour
		}), nil, ""},
		"after that": {file, with(func(o *metadata.Options) {
			o.Time, o.Grace = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC), time.Hour
		}), metadata.ErrStale, ""},
	} {
		_, err := metadata.Parse([]byte(tt.file), tt.options)
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Whoever signs it, a file that is none.
	for name, data := range map[string]string{
		"not JSON":             "x",
		"a list":               "[]",
		"null":                 "null",
		"no number":            `{"nextUpdate":"2026-03-01","entries":[]}`,
		"negative number":      `{"no":-1,"nextUpdate":"2026-03-01","entries":[]}`,
		"no next update":       `{"no":1,"entries":[]}`,
		"next update tomorrow": `{"no":1,"nextUpdate":"tomorrow","entries":[]}`,
		"entries in an object": `{"no":1,"nextUpdate":"2026-03-01","entries":{}}`,
		"too many entries":     `{"no":1,"nextUpdate":"2026-03-01","entries":[` + strings.Repeat("0,", 1<<16) + `0]}`,
		"behind it":            `{"no":1,"nextUpdate":"2026-03-01","entries":[]}{}`,
	} {
		if _, err := metadata.Parse(p.sign(t, []byte(data)), p.options()); !errors.Is(err, metadata.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that is from the network, or signed, or both, and neither.
func FuzzParse(f *testing.F) {
	p := newPublisher(f)
	f.Add(example, false)
	f.Add(payload(tree{"aaguid": "0132d110-bf4e-4208-a403-ab4f5f12efe5", "statusReports": []any{tree{"status": "REVOKED", "effectiveDate": "2026-01-01"}}}).json(f), true)
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(string(example), ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(claims, true)
	f.Fuzz(func(t *testing.T, data []byte, signed bool) {
		if signed {
			data = p.sign(t, data)
		}
		blob, err := metadata.Parse(data, p.options())
		if err != nil {
			for _, known := range []error{metadata.ErrMalformed, metadata.ErrSignature, metadata.ErrUntrusted, metadata.ErrRollback, metadata.ErrStale} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Error(err)
			return
		}
		if !signed {
			t.Error("a signature that was guessed")
		}
		for _, e := range blob.Entries {
			blob.Model(&attestation.Statement{AAGUID: e.AAGUID, Certificates: []*x509.Certificate{p.leaf}})
		}
	})
}
