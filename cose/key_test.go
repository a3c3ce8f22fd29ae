package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/vectors"
)

// members are those of a COSE_Key, to be bent out of shape.
type members map[int64]any

// with returns a copy with one member set, or without it if value is nil.
func (m members) with(label int64, value any) members {
	c := maps.Clone(m)
	if c[label] = value; value == nil {
		delete(c, label)
	}
	return c
}

func (m members) encode(t testing.TB) []byte {
	data, err := cbor.Marshal(map[int64]any(m))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Public keys that stand for their type.
var (
	pointX = unhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296") // P-256's generator
	pointY = unhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
	ec2    = members{1: 2, 3: -7, -1: 1, -2: pointX, -3: pointY}
	okp    = members{1: 1, 3: -8, -1: 6, -2: unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")} // RFC 8032 §7.1
	modN   = append(bytes.Repeat([]byte{0xC5}, 256), 1)[1:]
	rsaKey = members{1: 3, 3: -257, -1: modN, -2: []byte{1, 0, 1}}
	akp    = members{1: 7, 3: -48, -1: make([]byte, 1312)}
	es256k = members{1: 2, 3: -47, -1: 8, -2: unhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
		-3: unhex("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")}
)

func TestParseKey(t *testing.T) {
	for _, test := range []struct {
		from members
		want cose.Key
	}{
		{ec2, cose.Key{Type: cose.EC2, Algorithm: cose.ES256, Curve: cose.P256, X: pointX, Y: pointY}},
		{ec2.with(3, -25), cose.Key{Type: cose.EC2, Algorithm: cose.ECDHESHKDF256, Curve: cose.P256, X: pointX, Y: pointY}},
		{okp, cose.Key{Type: cose.OKP, Algorithm: cose.EdDSA, Curve: cose.Ed25519, X: okp[-2].([]byte)}},
		{rsaKey, cose.Key{Type: cose.RSA, Algorithm: cose.RS256, N: modN, E: 65537}},
		{rsaKey.with(-2, []byte{3}), cose.Key{Type: cose.RSA, Algorithm: cose.RS256, N: modN, E: 3}},
		{rsaKey.with(-2, unhex("7fffffff")), cose.Key{Type: cose.RSA, Algorithm: cose.RS256, N: modN, E: 1<<31 - 1}},
		{akp, cose.Key{Type: cose.AKP, Algorithm: cose.MLDSA44, Pub: akp[-1].([]byte)}},
		{es256k, cose.Key{Type: cose.EC2, Algorithm: cose.ES256K, Curve: cose.Secp256k1,
			X: es256k[-2].([]byte), Y: es256k[-3].([]byte)}},
	} {
		data := test.from.encode(t)
		k, err := cose.ParseKey(data)
		if err != nil {
			t.Errorf("%v: %v", test.want.Algorithm, err)
			continue
		}
		if !reflect.DeepEqual(k, &test.want) {
			t.Errorf("got %#v, want %#v", k, &test.want)
		}
		if got, err := k.MarshalCBOR(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: encoded as %x, %v", k, got, err)
		}
		clear(data)
		if !reflect.DeepEqual(k, &test.want) {
			t.Errorf("%v: the key shares memory with what it was parsed from", k)
		}
	}
}

// Faults of real keys that do not make a key unusable.
func TestParseKeyLenient(t *testing.T) {
	x, y := "215820"+hex.EncodeToString(pointX), "225820"+hex.EncodeToString(pointY)
	want := "a501020326" + "2001" + x + y
	for name, data := range map[string]string{
		"canonical":          want,
		"reversed":           "a5" + y + x + "2001" + "0326" + "0102",
		"long integers":      "a5" + "18011802" + "033806" + "380018" + "01" + x + y,
		"key_ops and kid":    "a7" + "0102" + "024161" + "0326" + "048102" + "2001" + x + y,
		"text and byte keys": "a7" + "0102" + "0326" + "2001" + x + y + "6161f6" + "416180",
	} {
		k, err := cose.ParseKey(unhex(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := k.MarshalCBOR(); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: encoded as %x, %v", name, got, err)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	offCurve := bytes.Clone(pointY)
	offCurve[31] ^= 1
	// 2 is the y of no point: see TestEd25519Point.
	notEd25519 := make([]byte, 32)
	notEd25519[0] = 2
	zeros := make([]byte, 32)
	p256 := unhex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff")
	evenN, zeroN := bytes.Clone(modN), bytes.Clone(modN)
	evenN[255], zeroN[0] = 2, 0

	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":         {nil, cose.ErrInvalidKey},
		"null":            {[]byte{0xF6}, cose.ErrInvalidKey},
		"array":           {[]byte{0x80}, cose.ErrInvalidKey},
		"empty map":       {[]byte{0xA0}, cose.ErrInvalidKey},
		"cut short":       {ec2.encode(t)[:76], cose.ErrInvalidKey},
		"trailing byte":   {append(ec2.encode(t), 0), cose.ErrInvalidKey},
		"duplicate label": {slices.Concat([]byte{0xA6, 1, 2}, ec2.encode(t)[1:]), cose.ErrInvalidKey},
		"no kty":          {ec2.with(1, nil).encode(t), cose.ErrInvalidKey},
		"no alg":          {ec2.with(3, nil).encode(t), cose.ErrInvalidKey},
		"text kty":        {ec2.with(1, "EC").encode(t), cose.ErrInvalidKey},
		"text alg":        {ec2.with(3, "ES256").encode(t), cose.ErrInvalidKey},
		"kty past int32":  {ec2.with(1, int64(1)<<32+2).encode(t), cose.ErrInvalidKey},
		"alg past int32":  {ec2.with(3, -int64(1)<<32-7).encode(t), cose.ErrInvalidKey},
		"alg past int64":  {ec2.with(3, uint64(1)<<63).encode(t), cose.ErrInvalidKey},

		"no crv":           {ec2.with(-1, nil).encode(t), cose.ErrInvalidKey},
		"crv past int32":   {ec2.with(-1, int64(1)<<32+1).encode(t), cose.ErrInvalidKey},
		"text crv":         {ec2.with(-1, "P-256").encode(t), cose.ErrInvalidKey},
		"no x":             {ec2.with(-2, nil).encode(t), cose.ErrInvalidKey},
		"no y":             {ec2.with(-3, nil).encode(t), cose.ErrInvalidKey},
		"compressed point": {ec2.with(-3, true).encode(t), cose.ErrInvalidKey},
		"short x":          {ec2.with(-2, pointX[1:]).encode(t), cose.ErrInvalidKey},
		"x with a zero":    {ec2.with(-2, append([]byte{0}, pointX...)).encode(t), cose.ErrInvalidKey},
		"x and y of 31 and 33": {ec2.with(-2, pointX[:31]).with(-3, append([]byte{pointX[31]}, pointY...)).encode(t),
			cose.ErrInvalidKey},
		"off curve":           {ec2.with(-3, offCurve).encode(t), cose.ErrNotOnCurve},
		"agreement off curve": {ec2.with(3, -25).with(-3, offCurve).encode(t), cose.ErrNotOnCurve},
		"zero point":          {ec2.with(-2, zeros).with(-3, zeros).encode(t), cose.ErrNotOnCurve},
		"x not reduced":       {ec2.with(-2, p256).encode(t), cose.ErrNotOnCurve},
		"ES256 on P-384":      {ec2.with(-1, 2).encode(t), cose.ErrInvalidKey},
		"ES384 on P-256":      {ec2.with(3, -35).encode(t), cose.ErrInvalidKey},
		"ES256 on secp256k1":  {es256k.with(3, -7).encode(t), cose.ErrInvalidKey},
		"ES256K on P-256":     {ec2.with(3, -47).encode(t), cose.ErrInvalidKey},
		"ES256K, short x":     {es256k.with(-2, pointX[1:]).encode(t), cose.ErrInvalidKey},
		"ES256 with OKP":      {ec2.with(1, 1).encode(t), cose.ErrInvalidKey},
		"ES256 of kty 99":     {ec2.with(1, 99).encode(t), cose.ErrInvalidKey},

		"EdDSA with EC2":    {okp.with(1, 2).encode(t), cose.ErrInvalidKey},
		"EdDSA with EC2, y": {okp.with(1, 2).with(-3, pointY).encode(t), cose.ErrInvalidKey},
		"EdDSA on Ed448":    {okp.with(-1, 7).encode(t), cose.ErrInvalidKey},
		"EdDSA on X25519":   {okp.with(-1, 4).encode(t), cose.ErrInvalidKey},
		"EdDSA, short x":    {okp.with(-2, make([]byte, 31)).encode(t), cose.ErrInvalidKey},
		"Ed25519 off curve": {okp.with(3, -19).with(-2, notEd25519).encode(t), cose.ErrNotOnCurve},

		"no n":             {rsaKey.with(-1, nil).encode(t), cose.ErrInvalidKey},
		"n as integer":     {rsaKey.with(-1, 5).encode(t), cose.ErrInvalidKey},
		"n of 2047 bits":   {rsaKey.with(-1, append([]byte{0x7F}, modN[1:]...)).encode(t), cose.ErrInvalidKey},
		"n of 8193 bits":   {rsaKey.with(-1, append([]byte{1}, bytes.Repeat([]byte{1}, 1024)...)).encode(t), cose.ErrInvalidKey},
		"n even":           {rsaKey.with(-1, evenN).encode(t), cose.ErrInvalidKey},
		"n with a zero":    {rsaKey.with(-1, append([]byte{0}, modN...)).encode(t), cose.ErrInvalidKey},
		"n first byte 0":   {rsaKey.with(-1, zeroN).encode(t), cose.ErrInvalidKey},
		"no e":             {rsaKey.with(-2, nil).encode(t), cose.ErrInvalidKey},
		"e empty":          {rsaKey.with(-2, []byte{}).encode(t), cose.ErrInvalidKey},
		"e as integer":     {rsaKey.with(-2, 65537).encode(t), cose.ErrInvalidKey},
		"e 1":              {rsaKey.with(-2, []byte{1}).encode(t), cose.ErrInvalidKey},
		"e even":           {rsaKey.with(-2, []byte{1, 0, 0}).encode(t), cose.ErrInvalidKey},
		"e with a zero":    {rsaKey.with(-2, []byte{0, 1, 0, 1}).encode(t), cose.ErrInvalidKey},
		"e above 2^31":     {rsaKey.with(-2, unhex("80000001")).encode(t), cose.ErrInvalidKey},
		"e of 5 bytes":     {rsaKey.with(-2, unhex("0100000001")).encode(t), cose.ErrInvalidKey},
		"RS256 with EC2":   {rsaKey.with(1, 2).encode(t), cose.ErrInvalidKey},
		"ML-DSA, no pub":   {akp.with(-1, nil).encode(t), cose.ErrInvalidKey},
		"ML-DSA-44 as -65": {akp.with(3, -49).encode(t), cose.ErrInvalidKey},
	} {
		k, err := cose.ParseKey(test.data)
		if k != nil || !errors.Is(err, test.want) || !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%s: %v, %v; want %v", name, k, err, test.want)
		}
		if err != nil && (strings.Count(err.Error(), "cose: ") != 1 || strings.Contains(err.Error(), "%!")) {
			t.Errorf("%s: error reads %q", name, err)
		}
		untouched := cose.Key{E: 7}
		if err := untouched.UnmarshalCBOR(test.data); err == nil || untouched.E != 7 {
			t.Errorf("%s: UnmarshalCBOR: %v, %v", name, untouched, err)
		}
	}
}

// A credential with a key that nobody here knows is kept as it came.
func TestUnknownAlgorithm(t *testing.T) {
	for name, data := range map[string][]byte{
		"EC2":            ec2.with(3, -999).encode(t),
		"compressed":     ec2.with(3, -999).with(-3, true).encode(t),
		"unknown kty":    {0xA3, 0x01, 0x18, 0x63, 0x03, 0x39, 0x03, 0xE6, 0x20, 0x61, 'x'},
		"out of order":   {0xA2, 0x03, 0x39, 0x03, 0xE6, 0x01, 0x02},
		"reserved alg 0": {0xA2, 0x01, 0x02, 0x03, 0x00},
	} {
		var k cose.Key
		if err := k.UnmarshalCBOR(data); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := bytes.Clone(data)
		clear(data)
		for range 2 {
			got, err := k.MarshalCBOR()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: encoded as %x, %v; want %x", name, got, err, want)
			}
			clear(got) // the caller's own
		}
		if err := k.Verify(nil, nil); !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if pub, err := k.PublicKey(); pub != nil || !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
			t.Errorf("%s: PublicKey: %v, %v", name, pub, err)
		}
	}
}

// Keys as authenticators sent them.
func TestRealKeys(t *testing.T) {
	for name, alg := range map[string]cose.Algorithm{
		"CTAP_CBOR_AUTHKEY": cose.ECDHESHKDF256,
		"CTAP_CBOR_CRED":    cose.ES256,
	} {
		// Take the CTAPHID headers off: 7 bytes of the first report, 5 of the others.
		var message []byte
		for report := range slices.Chunk(vectors.KeyReports()[name], 64) {
			message = append(message, report[5:]...)
		}
		message = message[2:]
		start := bytes.Index(message, []byte{0xA5, 0x01, 0x02, 0x03})
		n, err := cbor.Prefix(message[start:], cbor.Strict)
		if err != nil {
			t.Fatal(err)
		}
		data := message[start : start+n]
		k, err := cose.ParseKey(data)
		if err != nil || k.Algorithm != alg {
			t.Errorf("%s: %v, %v", name, k, err)
			continue
		}
		if got, err := k.MarshalCBOR(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: encoded as %x, %v", name, got, err)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	n := new(big.Int).SetBytes(modN)
	for name, test := range map[string]struct {
		alg cose.Algorithm
		pub any
	}{
		"nil":                    {cose.ES256, nil},
		"nil ECDSA":              {cose.ES256, (*ecdsa.PublicKey)(nil)},
		"ECDSA without curve":    {cose.ES256, &ecdsa.PublicKey{X: one, Y: one}},
		"ECDSA without point":    {cose.ES256, &ecdsa.PublicKey{Curve: elliptic.P256()}},
		"ECDSA off curve":        {cose.ES256, &ecdsa.PublicKey{Curve: elliptic.P256(), X: one, Y: one}},
		"ECDSA negative":         {cose.ES256, &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(-1), Y: one}},
		"private key":            {cose.ES256, p256},
		"P-384 for ES256":        {cose.ES256, &p384.PublicKey},
		"P-256 for ES384":        {cose.ES384, &p256.PublicKey},
		"ECDSA for EdDSA":        {cose.EdDSA, &p256.PublicKey},
		"ECDSA for RS256":        {cose.RS256, &p256.PublicKey},
		"ECDSA for ECDH":         {cose.ECDHESHKDF256, &p256.PublicKey},
		"X25519 for ECDH":        {cose.ECDHESHKDF256, x25519.PublicKey()},
		"nil ECDH":               {cose.ECDHESHKDF256, (*ecdh.PublicKey)(nil)},
		"Ed25519, short":         {cose.EdDSA, make(ed25519.PublicKey, 31)},
		"Ed25519, nil":           {cose.EdDSA, ed25519.PublicKey(nil)},
		"Ed25519, off curve":     {cose.EdDSA, append(ed25519.PublicKey{2}, make([]byte, 31)...)},
		"nil RSA":                {cose.RS256, (*rsa.PublicKey)(nil)},
		"RSA without modulus":    {cose.RS256, &rsa.PublicKey{E: 65537}},
		"RSA with zero modulus":  {cose.RS256, &rsa.PublicKey{N: new(big.Int), E: 65537}},
		"RSA negative":           {cose.RS256, &rsa.PublicKey{N: new(big.Int).Neg(n), E: 65537}},
		"RSA of 1024 bits":       {cose.RS256, &rsa.PublicKey{N: new(big.Int).SetBytes(modN[128:]), E: 65537}},
		"RSA with exponent 1":    {cose.RS256, &rsa.PublicKey{N: n, E: 1}},
		"RSA, negative exponent": {cose.PS256, &rsa.PublicKey{N: n, E: -3}},
	} {
		if k, err := cose.NewKey(test.alg, test.pub); k != nil || !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
		if err := cose.Verify(test.alg, test.pub, nil, nil); !errors.Is(err, cose.ErrInvalidKey) {
			t.Errorf("%s: Verify: %v", name, err)
		}
	}
	for _, test := range []struct {
		alg  cose.Algorithm
		want string
	}{
		{cose.ES256, "ecdsa.PublicKey, not *ecdsa.PublicKey on P-256"},
		{cose.EdDSA, "ecdsa.PublicKey, not ed25519.PublicKey"},
		{cose.RS256, "ecdsa.PublicKey, not *rsa.PublicKey"},
		{cose.ECDHESHKDF256, "ecdsa.PublicKey, not *ecdh.PublicKey on P-256"},
	} {
		if _, err := cose.NewKey(test.alg, p256.PublicKey); err == nil || !strings.HasSuffix(err.Error(), ": "+test.want) {
			t.Errorf("%v: %v, want %s", test.alg, err, test.want)
		}
	}
	for _, alg := range []cose.Algorithm{0, -999, cose.ES256K, cose.MLDSA44} {
		if k, err := cose.NewKey(alg, &p256.PublicKey); k != nil || !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
			t.Errorf("%v: %v, %v", alg, k, err)
		}
	}
}

// A Key can be put together by hand, with nothing in it that fits.
func TestKeyByHand(t *testing.T) {
	for name, test := range map[string]struct {
		key  *cose.Key
		want error
	}{
		"nil":               {nil, cose.ErrInvalidKey},
		"zero":              {&cose.Key{}, cose.ErrUnsupportedAlgorithm},
		"only a type":       {&cose.Key{Type: cose.EC2}, cose.ErrUnsupportedAlgorithm},
		"only an algorithm": {&cose.Key{Algorithm: cose.ES256}, cose.ErrInvalidKey},
		"no point":          {&cose.Key{Type: cose.EC2, Algorithm: cose.ES256, Curve: cose.P256}, cose.ErrInvalidKey},
		"no Ed25519 point":  {&cose.Key{Type: cose.OKP, Algorithm: cose.EdDSA, Curve: cose.Ed25519}, cose.ErrInvalidKey},
		"no modulus":        {&cose.Key{Type: cose.RSA, Algorithm: cose.RS256, E: 3}, cose.ErrInvalidKey},
		"no exponent":       {&cose.Key{Type: cose.RSA, Algorithm: cose.RS256, N: modN}, cose.ErrInvalidKey},
		"RSA with a curve":  {&cose.Key{Type: cose.RSA, Algorithm: cose.RS256, Curve: 1, N: modN, E: 3}, cose.ErrInvalidKey},
		"ES256 as OKP": {&cose.Key{Type: cose.OKP, Algorithm: cose.ES256, Curve: cose.P256, X: pointX, Y: pointY},
			cose.ErrInvalidKey},
		"zero point": {&cose.Key{Type: cose.EC2, Algorithm: cose.ES256, Curve: cose.P256, X: make([]byte, 32),
			Y: make([]byte, 32)}, cose.ErrNotOnCurve},
	} {
		if err := test.key.Verify([]byte("message"), []byte("signature")); !errors.Is(err, test.want) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if pub, err := test.key.PublicKey(); pub != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: PublicKey: %v, %v", name, pub, err)
		}
		_, err := test.key.MarshalCBOR()
		if name == "zero point" { // has the shape of one
			test.want = nil
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: MarshalCBOR: %v", name, err)
		}
		_ = test.key.String()
	}
}

func TestStrings(t *testing.T) {
	k := &cose.Key{Type: cose.EC2, Algorithm: cose.ES256, Curve: cose.P256, X: pointX, Y: pointY}
	for got, want := range map[string]string{
		fmt.Sprint(k):                   "ES256 key",
		fmt.Sprint((*cose.Key)(nil)):    "no key",
		cose.KeyType(5).String():        "KeyType(5)",
		cose.AKP.String():               "AKP",
		cose.P521.String():              "P-521",
		cose.Secp256k1.String():         "secp256k1",
		cose.Curve(9).String():          "Curve(9)",
		cose.Curve(0).String():          "Curve(0)",
		cose.Curve(-1).String():         "Curve(-1)",
		cose.AlgorithmEd25519.String():  "Ed25519",
		cose.Algorithm(-70000).String(): "Algorithm(-70000)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What parses, marshals, and parses again into an equal key.
func FuzzParseKey(f *testing.F) {
	for _, m := range []members{ec2, okp, rsaKey, akp, es256k, ec2.with(3, -25), ec2.with(3, -999),
		ec2.with(-3, true), ec2.with(-2, pointY), rsaKey.with(-2, []byte{1})} {
		f.Add(m.encode(f))
	}
	for _, c := range vectors.WebAuthn() {
		f.Add(c.CredentialPublicKey())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := cose.ParseKey(data)
		if err != nil {
			if !errors.Is(err, cose.ErrInvalidKey) {
				t.Fatalf("%v is of no kind", err)
			}
			return
		}
		encoded, err := k.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		again, err := cose.ParseKey(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(k, again) {
			t.Fatalf("%#v became %#v", k, again)
		}
		err = k.Verify(data, data)
		if !errors.Is(err, cose.ErrSignature) && !errors.Is(err, cose.ErrUnsupportedAlgorithm) {
			t.Fatalf("a key signed itself: %v", err)
		}
	})
}

func BenchmarkParseKey(b *testing.B) {
	for name, m := range map[string]members{"ES256": ec2, "EdDSA": okp, "RS256": rsaKey} {
		data := m.encode(b)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cose.ParseKey(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
