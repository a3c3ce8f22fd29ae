package metadata_test

import (
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/attestation/metadata"
)

// The example of the specification, member by member.
func TestExample(t *testing.T) {
	blob, err := metadata.Parse(example, exampleOptions())
	if err != nil {
		t.Fatal(err)
	}
	if len(blob.Entries) != 2 || len(blob.Faulty) != 0 {
		t.Fatalf("%d entries, faulty: %v", len(blob.Entries), blob.Faulty)
	}
	if e := blob.Entries[0]; e.AAID != "1234#5678" || e.AAGUID != (ctap2.AAGUID{}) || e.MetadataStatement.ProtocolFamily != "uaf" || !*e.MetadataStatement.IsKeyRestricted {
		t.Errorf("%+v", e)
	}
	e := blob.Entries[1]
	if e.AAGUID.String() != "0132d110-bf4e-4208-a403-ab4f5f12efe5" || blob.ByAAGUID(e.AAGUID) != e {
		t.Errorf("model %v", e.AAGUID)
	}
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if !e.TimeOfLastStatusChange.Equal(day("2019-01-04")) || len(e.StatusReports) != 2 {
		t.Errorf("%+v", e)
	}
	r := e.StatusReports[1]
	if r.Status != attestation.StatusFIDOCertifiedL1 || !r.EffectiveDate.Equal(day("2020-11-19")) || !r.SunsetDate.IsZero() ||
		r.CertificationDescriptor != "FIDO Alliance Sample FIDO2 Authenticator" || r.CertificateNumber != "FIDO2100020151221001" ||
		r.CertificationPolicyVersion != "1.0.1" || r.CertificationRequirementsVersion != "1.0.1" {
		t.Errorf("%+v", r)
	}
	s := e.MetadataStatement
	if s.AAGUID != e.AAGUID || s.Description != "FIDO Alliance Sample FIDO2 Authenticator" || len(s.AlternativeDescriptions) != 3 ||
		s.AuthenticatorVersion != 5 || s.ProtocolFamily != "fido2" || s.Schema != 3 || !slices.Equal(s.UPV, []metadata.Version{{Major: 1}}) ||
		!slices.Equal(s.AttestationTypes, []string{metadata.AttestationBasicFull}) || !slices.Equal(s.MatcherProtection, []string{"on_chip"}) ||
		s.CryptoStrength != 128 || !slices.Equal(s.AttachmentHint, []string{"external", "wired", "wireless", "nfc"}) ||
		!slices.Equal(s.AuthenticationAlgorithms, []string{"secp256r1_ecdsa_sha256_raw", "rsassa_pkcsv15_sha256_raw"}) ||
		s.IsKeyRestricted != nil || !strings.HasPrefix(s.Icon, "data:image/png;base64,") {
		t.Errorf("%+v", s)
	}
	var info struct {
		Versions   []string
		MaxMsgSize int
	}
	if err := json.Unmarshal(s.AuthenticatorGetInfo, &info); err != nil || info.MaxMsgSize != 1200 {
		t.Errorf("%+v, %v", info, err)
	}
	var ways [][]struct{ UserVerificationMethod string }
	if err := json.Unmarshal(s.UserVerificationDetails, &ways); err != nil || len(ways) != 4 {
		t.Errorf("%v, %v", ways, err)
	}
	if len(s.AttestationRootCertificates) != 1 {
		t.Fatalf("%d roots", len(s.AttestationRootCertificates))
	}
	root, err := x509.ParseCertificate(s.AttestationRootCertificates[0])
	if err != nil {
		t.Fatal(err)
	}

	// A trust anchor may be the attestation certificate itself.
	statement := &attestation.Statement{Type: attestation.Basic, AAGUID: e.AAGUID, Certificates: []*x509.Certificate{root}}
	at := day("2026-01-01")
	if err := (&attestation.Policy{Required: true, Metadata: blob, MinimumLevel: attestation.L1, Time: at}).Check(statement); err != nil {
		t.Error(err)
	}
	if err := (&attestation.Policy{Metadata: blob, MinimumLevel: attestation.L2, Time: at}).Check(statement); !errors.Is(err, attestation.ErrLevel) {
		t.Error(err)
	}
}

// keyIdentifier is what metadata call a certificate's key.
func keyIdentifier(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(info.Key.Bytes)
	return hex.EncodeToString(sum[:])
}

// rewrite returns a certificate with another signature of its issuer's, by ECDSA
// with P-256, that everybody can make of the one it has: s and n-s are as good.
func rewrite(t *testing.T, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	var parts struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(c.Raw, &parts); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(parts.Signature.Bytes, &signature); err != nil {
		t.Fatal(err)
	}
	signature.S.Sub(elliptic.P256().Params().N, signature.S)
	der, err := asn1.Marshal(signature)
	if err != nil {
		t.Fatal(err)
	}
	parts.Signature = asn1.BitString{Bytes: der, BitLength: 8 * len(der)}
	if der, err = asn1.Marshal(parts); err != nil {
		t.Fatal(err)
	}
	rewritten, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return rewritten
}

// Models and what a policy makes of them.
func TestModel(t *testing.T) {
	p := newPublisher(t)
	maker := newPublisher(t) // whose leaf is an attestation certificate here
	makerCA := certify(t, authority("Maker CA"), maker.root, maker.key.Public(), maker.rootKey)
	third := certify(t, &x509.Certificate{SerialNumber: big.NewInt(4), NotBefore: maker.leaf.NotBefore, NotAfter: maker.leaf.NotAfter},
		makerCA, newKey(t).Public(), maker.key)
	second := certify(t, &x509.Certificate{SerialNumber: big.NewInt(3), NotBefore: maker.leaf.NotBefore, NotAfter: maker.leaf.NotAfter},
		maker.root, newKey(t).Public(), maker.rootKey)
	b64 := func(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }
	root := b64(maker.root)
	roots := []string{"", "  " + root[:64] + "\n\t" + root[64:] + "\r\n"}[1:] // as makers write it
	report := func(members tree) []any { return []any{members} }
	aaguid := func(n byte) string { return ctap2.AAGUID{15: n}.String() }
	description := func(more tree) tree {
		more["description"] = "Model"
		return more
	}
	blob, err := metadata.Parse(p.sign(t, payload(
		tree{"aaguid": aaguid(1), "metadataStatement": description(tree{"attestationTypes": []string{"basic_full"}, "attestationRootCertificates": roots}),
			"statusReports": report(tree{"status": "FIDO_CERTIFIED_L3plus", "effectiveDate": "2025-01-01", "sunsetDate": "2026-02-16"}), "unknown": 1},
		tree{"aaguid": aaguid(2), "metadataStatement": description(tree{"attestationTypes": []string{"basic_surrogate"}})},
		tree{"aaguid": aaguid(3), "metadataStatement": description(tree{"attestationRootCertificates": []string{"AAAA"}})},
		tree{"aaguid": aaguid(4), "statusReports": report(tree{"status": "REVOKED", "effectiveDate": ""})},
		tree{"aaguid": aaguid(5), "metadataStatement": description(tree{"attestationRootCertificates": roots}),
			"statusReports": report(tree{"status": "ATTESTATION_KEY_COMPROMISE", "effectiveDate": "2026-01-01", "batchCertificate": b64(maker.leaf)})},
		tree{"aaguid": aaguid(6), "statusReports": report(tree{"status": "ATTESTATION_KEY_COMPROMISE", "certificate": root})},
		tree{"aaguid": aaguid(7), "statusReports": report(tree{"status": "ATTESTATION_KEY_COMPROMISE", "certificate": "AAAA"})},
		tree{"aaguid": aaguid(8), "statusReports": report(tree{"status": "USER_VERIFICATION_BYPASS", "certificate": b64(p.root)})},
		tree{"attestationCertificateKeyIdentifiers": []string{strings.ToUpper(keyIdentifier(t, maker.leaf))},
			"metadataStatement": description(tree{"attestationRootCertificates": roots}), "statusReports": report(tree{"status": "FIDO_CERTIFIED_L3"})},
		tree{"attestationCertificateKeyIdentifiers": []string{keyIdentifier(t, maker.leaf)}}, // not the first
		tree{"attestationCertificateKeyIdentifiers": []string{globalSignKey}, "metadataStatement": tree{"description": "Root R3"}},
		tree{"aaguid": aaguid(1)},
		tree{"aaid": "1234#5678", "aaguid": nil, "metadataStatement": nil},
		tree{"aaguid": "1234"},
		tree{"aaguid": aaguid(9), "statusReports": report(tree{"status": "REVOKED", "effectiveDate": "yesterday"})},
		tree{"aaguid": aaguid(9), "metadataStatement": tree{"attestationRootCertificates": []string{"%"}}},
		tree{"aaguid": aaguid(11), "metadataStatement": tree{"cryptoStrength": "128", "attestationRootCertificates": roots}, "statusReports": report(tree{"status": "REVOKED", "effectiveDate": "2025-01-01"})},
		tree{"aaguid": aaguid(12), "url": 1, "statusReports": []any{1, tree{"status": "UPDATE_AVAILABLE", "effectiveDate": 1}, tree{"status": "REVOKED", "url": 1}}},
		tree{"aaguid": "1234", "attestationCertificateKeyIdentifiers": []any{1, keyIdentifier(t, p.leaf)}, "statusReports": report(tree{"status": "REVOKED"}), "timeOfLastStatusChange": "today"},
		tree{"aaguid": aaguid(13), "statusReports": report(tree{"status": "ATTESTATION_KEY_COMPROMISE", "batchCertificate": "%", "certificate": b64(p.root)})},
		"entry",
	).json(t)), p.options())
	if err != nil {
		t.Fatal(err)
	}
	faults := []string{"entry 13: not an AAGUID", "entry 14: parsing time", "entry 15: illegal base64", "entry 16: json: ", "entry 17: json: ",
		"entry 18: json: ", "entry 19: illegal base64", "entry 20: json: "}
	if len(blob.Entries) != 21 || len(blob.Faulty) != len(faults) {
		t.Errorf("%d entries, %v", len(blob.Entries), blob.Faulty)
	}
	if e := blob.ByAAGUID(ctap2.AAGUID{15: 11}); e == nil || e.MetadataStatement != nil {
		t.Errorf("with a faulty statement: %+v", e)
	}
	for i, says := range faults {
		if i < len(blob.Faulty) && !strings.HasPrefix(blob.Faulty[i].Error(), "metadata: "+says) {
			t.Error(blob.Faulty[i])
		}
	}

	basic := func(n byte, path ...*x509.Certificate) *attestation.Statement {
		return &attestation.Statement{Type: attestation.Basic, AAGUID: ctap2.AAGUID{15: n}, Certificates: path}
	}
	self := func(n byte) *attestation.Statement {
		return &attestation.Statement{Type: attestation.Self, AAGUID: ctap2.AAGUID{15: n}}
	}
	u2f := func(path ...*x509.Certificate) *attestation.Statement {
		return &attestation.Statement{Type: attestation.Basic, Certificates: path}
	}
	makers := x509.NewCertPool()
	makers.AddCert(maker.root)
	for name, tt := range map[string]struct {
		policy attestation.Policy
		of     *attestation.Statement
		want   error
	}{
		"genuine":                {attestation.Policy{Required: true, MinimumLevel: attestation.L3Plus}, basic(1, maker.leaf), nil},
		"after the sunset":       {attestation.Policy{MinimumLevel: attestation.L1, Time: today.AddDate(0, 0, 1)}, basic(1, maker.leaf), attestation.ErrLevel},
		"another maker's":        {attestation.Policy{Required: true}, basic(1, p.leaf), attestation.ErrIssuer},
		"expired":                {attestation.Policy{Required: true, Time: today.AddDate(1, 0, 0)}, basic(1, maker.leaf), attestation.ErrExpired},
		"self, not its way":      {attestation.Policy{}, self(1), attestation.ErrNotAttested},
		"self, its way":          {attestation.Policy{}, self(2), nil},
		"self, required":         {attestation.Policy{Required: true}, self(2), attestation.ErrNotAttested},
		"roots unusable":         {attestation.Policy{Required: true, Roots: makers}, basic(3, maker.leaf), attestation.ErrIssuer},
		"revoked":                {attestation.Policy{}, basic(4, maker.leaf), attestation.ErrUnsafe},
		"revoked, self":          {attestation.Policy{}, self(4), attestation.ErrUnsafe},
		"batch, written anew":    {attestation.Policy{}, basic(5, rewrite(t, maker.leaf)), attestation.ErrUnsafe},
		"batch compromised":      {attestation.Policy{}, basic(5, maker.leaf), attestation.ErrUnsafe},
		"another batch":          {attestation.Policy{}, basic(5, second), nil},
		"issuer compromised":     {attestation.Policy{}, basic(6, second), attestation.ErrUnsafe},
		"issuer not compromised": {attestation.Policy{}, basic(6, p.root), nil},
		"who knows which":        {attestation.Policy{}, basic(7, second), attestation.ErrUnsafe},
		"not about a batch":      {attestation.Policy{}, basic(8, second), attestation.ErrUnsafe},
		"unknown":                {attestation.Policy{Required: true}, basic(10, third, makerCA), attestation.ErrUnknownModel},
		"faulty date":            {attestation.Policy{}, basic(9, maker.leaf), attestation.ErrUnsafe},
		"faulty statement":       {attestation.Policy{}, basic(11, maker.leaf), attestation.ErrUnsafe},
		"faulty statement, self": {attestation.Policy{Required: true}, self(11), attestation.ErrNotAttested},
		"faulty members":         {attestation.Policy{}, basic(12, maker.leaf), attestation.ErrUnsafe},
		"faulty AAGUID":          {attestation.Policy{}, u2f(p.leaf), attestation.ErrUnsafe},
		"faulty batch":           {attestation.Policy{}, basic(13, maker.leaf), attestation.ErrUnsafe},
		"U2F":                    {attestation.Policy{Required: true}, u2f(maker.leaf), nil},
		"U2F, with an AAGUID":    {attestation.Policy{Required: true}, basic(10, maker.leaf), nil},
		"U2F, by its issuer":     {attestation.Policy{Required: true}, u2f(third, makerCA), nil},
		"U2F, another's added":   {attestation.Policy{Required: true}, u2f(second, maker.leaf), attestation.ErrUnknownModel},
		"certified as a U2F key": {attestation.Policy{MinimumLevel: attestation.L1, Roots: makers}, basic(2, maker.leaf), attestation.ErrLevel},
		"U2F, certified":         {attestation.Policy{MinimumLevel: attestation.L3}, u2f(maker.leaf), nil},
		"revoked as a U2F key":   {attestation.Policy{}, basic(6, p.leaf), attestation.ErrUnsafe},
		"U2F, unknown":           {attestation.Policy{Required: true}, u2f(second), attestation.ErrUnknownModel},
		"no model at all":        {attestation.Policy{}, &attestation.Statement{}, nil},
	} {
		tt.policy.Metadata = blob
		if tt.policy.Time.IsZero() {
			tt.policy.Time = today
		}
		if err := tt.policy.Check(tt.of); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// A certificate that says itself what its key's identifier is.
	if e := blob.ByCertificate(globalSign(t)); e == nil || e.MetadataStatement.Description != "Root R3" {
		t.Errorf("%+v", e)
	}
	if blob.ByCertificate(&x509.Certificate{}) != nil {
		t.Error("an entry of no key")
	}
}

// A maker's own file is read as what the FIDO Alliance has of it.
func TestStatement(t *testing.T) {
	var s metadata.Statement
	if err := json.Unmarshal([]byte(`{"description":"Own","aaguid":"0132D110BF4E4208A403AB4F5F12EFE5","isKeyRestricted":false,"upv":[{"major":1,"minor":3}]}`), &s); err != nil {
		t.Fatal(err)
	}
	if s.Description != "Own" || s.AAGUID.String() != "0132d110-bf4e-4208-a403-ab4f5f12efe5" || *s.IsKeyRestricted || s.UPV[0].Minor != 3 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{`[]`, `{"aaguid":"0132d110"}`, `{"aaguid":"x132d110-bf4e-4208-a403-ab4f5f12efe5"}`, `{"description":1}`} {
		if err := json.Unmarshal([]byte(bad), new(metadata.Statement)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
