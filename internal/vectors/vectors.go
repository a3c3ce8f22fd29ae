// Package vectors gives tests the published vectors and recordings in this
// folder, typed. README.md says where each file is from. Only tests import it.
//
// What a function returns is the caller's to change.
package vectors

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
)

//go:embed *.json
var files embed.FS

// Hex is a byte string that the files write in hexadecimal.
type Hex []byte

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

// WebAuthnCase is a registration and an assertion with the credential that it
// made (WebAuthn Level 3, "Test Vectors").
type WebAuthnCase struct {
	Name  string // "packed-es256"
	Title string

	Registration struct {
		Challenge            Hex
		AAGUID               Hex
		CredentialID         Hex `json:"credential_id"`
		CredentialPrivateKey Hex `json:"credential_private_key"` // EC: scalar; EdDSA: seed; RSA: none
		EdDSAPrivateKey      Hex `json:"private_key"`            // moved to CredentialPrivateKey
		ClientDataJSON       Hex
		AttestationObject    Hex

		// Nil where the format has no attestation key, or one that is not published.
		AttestationPrivateKey Hex `json:"attestation_private_key"`
		AttestationCertSerial Hex `json:"attestation_cert_serial_number"`
	}
	Authentication struct {
		Challenge         Hex
		AuthenticatorData Hex
		ClientDataJSON    Hex
		Signature         Hex
	}
}

// CredentialPublicKey returns the COSE_Key in the attestation object.
func (c *WebAuthnCase) CredentialPublicKey() []byte {
	var object struct {
		AuthData []byte `cbor:"authData"`
	}
	must(cbor.Unmarshal(c.Registration.AttestationObject, &object))
	// rpIdHash, flags, signCount; aaguid, credentialIdLength, credentialId.
	rest := object.AuthData[32+1+4+16+2+len(c.Registration.CredentialID):]
	n, err := cbor.Prefix(rest, cbor.Lenient)
	must(err)
	return rest[:n]
}

// SignedMessage returns what the assertion's signature is over.
func (c *WebAuthnCase) SignedMessage() []byte {
	hash := sha256.Sum256(c.Authentication.ClientDataJSON)
	return slices.Concat(c.Authentication.AuthenticatorData, hash[:])
}

// rootCertificate is the one entry of the WebAuthn file that is not a case.
const rootCertificate = "attestation-root-cert"

// WebAuthn returns the cases, sorted by name.
func WebAuthn() []WebAuthnCase {
	cases := read[map[string]WebAuthnCase]("webauthn-l3.json")
	delete(cases, rootCertificate)
	var list []WebAuthnCase
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		c.Name = name
		if c.Registration.CredentialPrivateKey == nil {
			c.Registration.CredentialPrivateKey = c.Registration.EdDSAPrivateKey
		}
		list = append(list, c)
	}
	return list
}

// Root is the authority behind the attestation certificates.
type Root struct {
	PrivateKey  Hex `json:"attestation_ca_key"` // P-256 scalar
	Certificate Hex `json:"attestation_ca_cert"`
}

// WebAuthnRoot returns the trust root of the WebAuthn cases.
func WebAuthnRoot() Root {
	entries := read[map[string]json.RawMessage]("webauthn-l3.json")
	return decode[Root](entries[rootCertificate])
}

// PRFVectors is the prf extension of WebAuthn carried by hmac-secret of CTAP2.
type PRFVectors struct {
	PlatformPrivateKey      Hex                `json:"platform_key_agreement_private_key"` // P-256 scalar
	AuthenticatorPrivateKey Hex                `json:"-"`                                  // P-256 scalar
	AuthenticatorPublicKey  struct{ X, Y Hex } `json:"authenticator_key_agreement_public_key"`
	CredRandom              Hex                `json:"authenticator_cred_random"`

	ProtocolOneOneSalt  PRFCase `json:"protocol_one_one_salt"`
	ProtocolTwoOneSalt  PRFCase `json:"protocol_two_one_salt"`
	ProtocolTwoTwoSalts PRFCase `json:"protocol_two_two_salts"`
}

// PRFCase is one evaluation; what belongs to a second salt is nil if there is
// none.
type PRFCase struct {
	EvalFirst     Hex `json:"prf_eval_first"`
	EvalSecond    Hex `json:"prf_eval_second"`
	SharedSecret  Hex `json:"shared_secret"`
	Salt1, Salt2  Hex
	SaltEnc       Hex `json:"salt_enc"`
	Output1       Hex
	Output2       Hex
	OutputEnc     Hex `json:"output_enc"`
	ResultsFirst  Hex `json:"prf_results_first"`
	ResultsSecond Hex `json:"prf_results_second"`
}

// PRF returns the prf vectors.
func PRF() PRFVectors {
	v := read[PRFVectors]("webauthn-prf-ctap.json")
	// The file gives the rule, not the result.
	key := sha256.Sum256([]byte("WebAuthn PRF test vectors\x05"))
	v.AuthenticatorPrivateKey = key[:]
	return v
}

// KeyReports returns what real keys answered, by the name of the recording.
// "CTAP_NFC_…" and "CTAP_EXTENDED_APDU" are ISO 7816 responses, all others
// 64-byte CTAPHID reports, one after the other. Not all are from one session:
// their channels differ.
func KeyReports() map[string][]byte {
	text := read[map[string]string]("real-key-reports.json")
	delete(text, "source")
	delete(text, "what")
	reports := make(map[string][]byte)
	for name, report := range text {
		var h Hex
		must(h.UnmarshalText([]byte(report)))
		reports[name] = h
	}
	// The source cuts the padding of this one's last report short.
	reports["CTAP_CBOR_BIO_ENROLL"] = append(reports["CTAP_CBOR_BIO_ENROLL"], make([]byte, 8)...)
	return reports
}

func read[T any](file string) T {
	data, err := files.ReadFile(file)
	must(err)
	return decode[T](data)
}

func decode[T any](data []byte) (v T) {
	must(json.Unmarshal(data, &v))
	return v
}

func must(err error) {
	if err != nil {
		panic(err) // the files are part of the build
	}
}
