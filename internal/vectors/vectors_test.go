package vectors

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"strings"
	"testing"
)

func TestWebAuthn(t *testing.T) {
	cases := WebAuthn()
	if len(cases) != 15 {
		t.Errorf("%d cases, want 15", len(cases))
	}
	for _, c := range cases {
		r, a := c.Registration, c.Authentication
		for what, b := range map[string]Hex{
			"challenge": r.Challenge, "AAGUID": r.AAGUID, "credential ID": r.CredentialID,
			"client data": r.ClientDataJSON, "attestation object": r.AttestationObject,
			"assertion challenge": a.Challenge, "assertion client data": a.ClientDataJSON, "signature": a.Signature,
		} {
			if len(b) == 0 {
				t.Errorf("%s: no %s", c.Name, what)
			}
		}
		if len(a.AuthenticatorData) != 37 {
			t.Errorf("%s: authenticator data of %d bytes", c.Name, len(a.AuthenticatorData))
		}
		if !bytes.Contains(r.AttestationObject, r.CredentialID) {
			t.Errorf("%s: credential ID is not in the attestation object", c.Name)
		}
		if (r.CredentialPrivateKey == nil) != (c.Name == "packed-rs256") {
			t.Errorf("%s: private key of %d bytes", c.Name, len(r.CredentialPrivateKey))
		}
	}
	if _, err := x509.ParseCertificate(WebAuthnRoot().Certificate); err != nil {
		t.Error(err)
	}
}

func TestPRF(t *testing.T) {
	v := PRF()
	key, err := ecdh.P256().NewPrivateKey(v.AuthenticatorPrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	want := append(append([]byte{4}, v.AuthenticatorPublicKey.X...), v.AuthenticatorPublicKey.Y...)
	if !bytes.Equal(key.PublicKey().Bytes(), want) {
		t.Error("the authenticator's private and public key do not belong together")
	}
	for _, c := range []PRFCase{v.ProtocolOneOneSalt, v.ProtocolTwoOneSalt, v.ProtocolTwoTwoSalts} {
		if len(c.Salt1) != 32 || !bytes.Equal(c.Output1, c.ResultsFirst) || !bytes.Equal(c.Output2, c.ResultsSecond) {
			t.Errorf("incomplete case: %+v", c)
		}
	}
}

func TestKeyReports(t *testing.T) {
	reports := KeyReports()
	if len(reports) != 22 {
		t.Errorf("%d recordings, want 22", len(reports))
	}
	for name, report := range reports {
		iso := strings.HasPrefix(name, "CTAP_NFC_") || name == "CTAP_EXTENDED_APDU"
		if len(report) == 0 || !iso && len(report)%64 != 0 {
			t.Errorf("%s: %d bytes", name, len(report))
		}
	}
}
