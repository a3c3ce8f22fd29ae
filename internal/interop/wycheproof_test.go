package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/tapstone/fido/cose"
	_ "github.com/tapstone/fido/cose/ed448"
	_ "github.com/tapstone/fido/cose/mldsa"
	_ "github.com/tapstone/fido/cose/secp256k1"
	"github.com/tapstone/fido/internal/cbor"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

// group is what the vector files' groups have in common, and the parameters
// of RSASSA-PSS.
type group struct {
	PublicKey json.RawMessage
	SHA       string
	MGFSHA    string
	SaltLen   int `json:"sLen"`
	Tests     []struct {
		ID      int `json:"tcId"`
		Comment string
		Flags   []string
		Msg     hexBytes
		Sig     hexBytes
		Ctx     hexBytes // ML-DSA
		Result  string
	}
}

// ec2, okp, akp and rsa return the group's public key as a COSE_Key.

func ec2(alg cose.Algorithm, curve cose.Curve) func(*testing.T, *group) []byte {
	return func(t *testing.T, g *group) []byte {
		var pub struct{ Uncompressed hexBytes }
		decode(t, g.PublicKey, &pub)
		point := pub.Uncompressed[1:]
		return encode(t, map[int]any{1: 2, 3: alg, -1: curve, -2: []byte(point[:len(point)/2]), -3: []byte(point[len(point)/2:])})
	}
}

func okp(alg cose.Algorithm, curve cose.Curve) func(*testing.T, *group) []byte {
	return func(t *testing.T, g *group) []byte {
		var pub struct{ PK hexBytes }
		decode(t, g.PublicKey, &pub)
		return encode(t, map[int]any{1: 1, 3: alg, -1: curve, -2: []byte(pub.PK)})
	}
}

func akp(alg cose.Algorithm) func(*testing.T, *group) []byte {
	return func(t *testing.T, g *group) []byte {
		var pub hexBytes
		decode(t, g.PublicKey, &pub)
		return encode(t, map[int]any{1: 7, 3: alg, -1: []byte(pub)})
	}
}

func rsa(alg cose.Algorithm) func(*testing.T, *group) []byte {
	return func(t *testing.T, g *group) []byte {
		var pub struct{ Modulus, PublicExponent hexBytes }
		decode(t, g.PublicKey, &pub)
		// ASN.1 integers have a sign; COSE's do not.
		n, e := bytes.TrimLeft(pub.Modulus, "\x00"), bytes.TrimLeft(pub.PublicExponent, "\x00")
		return encode(t, map[int]any{1: 3, 3: alg, -1: n, -2: e})
	}
}

func TestWycheproof(t *testing.T) {
	for _, test := range []struct {
		file string
		key  func(*testing.T, *group) []byte
	}{
		{"ecdsa_secp256r1_sha256", ec2(cose.ES256, cose.P256)},
		{"ecdsa_secp256r1_sha256", ec2(cose.ESP256, cose.P256)},
		{"ecdsa_secp384r1_sha384", ec2(cose.ES384, cose.P384)},
		{"ecdsa_secp384r1_sha384", ec2(cose.ESP384, cose.P384)},
		{"ecdsa_secp521r1_sha512", ec2(cose.ES512, cose.P521)},
		{"ecdsa_secp521r1_sha512", ec2(cose.ESP512, cose.P521)},
		{"ecdsa_secp256k1_sha256", ec2(cose.ES256K, cose.Secp256k1)},
		{"ed25519", okp(cose.EdDSA, cose.Ed25519)},
		{"ed25519", okp(cose.AlgorithmEd25519, cose.Ed25519)},
		{"ed448", okp(cose.AlgorithmEd448, cose.Ed448)},
		{"mldsa_44_verify", akp(cose.MLDSA44)},
		{"mldsa_65_verify", akp(cose.MLDSA65)},
		{"mldsa_87_verify", akp(cose.MLDSA87)},
		{"rsa_signature_2048_sha256", rsa(cose.RS256)},
		{"rsa_signature_2048_sha384", rsa(cose.RS384)},
		{"rsa_signature_2048_sha512", rsa(cose.RS512)},
		{"rsa_signature_3072_sha256", rsa(cose.RS256)},
		{"rsa_signature_3072_sha384", rsa(cose.RS384)},
		{"rsa_signature_3072_sha512", rsa(cose.RS512)},
		{"rsa_signature_4096_sha256", rsa(cose.RS256)},
		{"rsa_signature_4096_sha384", rsa(cose.RS384)},
		{"rsa_signature_4096_sha512", rsa(cose.RS512)},
		{"rsa_signature_8192_sha256", rsa(cose.RS256)},
		{"rsa_signature_8192_sha384", rsa(cose.RS384)},
		{"rsa_signature_8192_sha512", rsa(cose.RS512)},
		{"rsa_pss_2048_sha256_mgf1_32", rsa(cose.PS256)},
		{"rsa_pss_3072_sha256_mgf1_32", rsa(cose.PS256)},
		{"rsa_pss_4096_sha256_mgf1_32", rsa(cose.PS256)},
		{"rsa_pss_2048_sha384_mgf1_48", rsa(cose.PS384)},
		{"rsa_pss_4096_sha384_mgf1_48", rsa(cose.PS384)},
		{"rsa_pss_4096_sha512_mgf1_64", rsa(cose.PS512)},
	} {
		run(t, test.file, test.key, true)
	}
}

// Signatures that are right under parameters which COSE or WebAuthn does not
// have: each must be refused.
func TestWycheproofOtherParameters(t *testing.T) {
	for _, test := range []struct {
		file string
		key  func(*testing.T, *group) []byte
	}{
		{"ecdsa_secp256r1_sha256_p1363", ec2(cose.ES256, cose.P256)}, // r || s, as in COSE messages
		{"ecdsa_secp384r1_sha384_p1363", ec2(cose.ES384, cose.P384)},
		{"ecdsa_secp521r1_sha512_p1363", ec2(cose.ES512, cose.P521)},
		{"ecdsa_secp256k1_sha256_p1363", ec2(cose.ES256K, cose.Secp256k1)},
		{"ecdsa_secp256r1_sha512", ec2(cose.ES256, cose.P256)}, // another hash
		{"ecdsa_secp384r1_sha256", ec2(cose.ES384, cose.P384)},
		{"rsa_pss_2048_sha256_mgf1_0", rsa(cose.PS256)}, // another salt length
		{"rsa_pss_2048_sha256_mgf1sha1_20", rsa(cose.PS256)},
		{"rsa_pss_4096_sha512_mgf1_32", rsa(cose.PS512)},
	} {
		run(t, test.file, test.key, false)
	}
}

// run verifies a file's signatures. Where the algorithm is the file's, a valid
// signature must pass and an invalid one must not, and an "acceptable" one may
// do either. Where it is another, a valid one must not pass, and the others
// say nothing.
func run(t *testing.T, file string, key func(*testing.T, *group) []byte, same bool) {
	data, err := fs.ReadFile(wycheproof.TestVectors, file+"_test.json")
	if err != nil {
		t.Error(err)
		return
	}
	var vectors struct {
		TestGroups    []group
		NumberOfTests int
	}
	decode(t, data, &vectors)
	tests := 0
	for _, g := range vectors.TestGroups {
		k, errKey := cose.ParseKey(key(t, &g))
		if errKey != nil && !errors.Is(errKey, cose.ErrInvalidKey) {
			t.Errorf("%s: %v", file, errKey)
		}
		for _, test := range g.Tests {
			tests++
			// COSE signs with the empty context.
			valid := test.Result == "valid" && same && len(test.Ctx) == 0
			open := test.Result == "acceptable" || !same && test.Result == "invalid"
			err := errKey
			if err == nil {
				err = k.Verify(test.Msg, test.Sig)
			}
			switch {
			case open:
			case valid && err != nil:
				t.Errorf("%s %d (%s %v): refused: %v", file, test.ID, test.Comment, test.Flags, err)
			case !valid && err == nil:
				t.Errorf("%s %d (%s %v): accepted", file, test.ID, test.Comment, test.Flags)
			case err != nil && errKey == nil && !errors.Is(err, cose.ErrSignature):
				t.Errorf("%s %d: %v", file, test.ID, err)
			}
		}
	}
	if tests == 0 || tests != vectors.NumberOfTests {
		t.Errorf("%s: %d tests, want %d", file, tests, vectors.NumberOfTests)
	}
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, members map[int]any) []byte {
	t.Helper()
	data, err := cbor.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
