package pin

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/vectors"
)

func keyAgreement(t *testing.T, p Protocol, scalar []byte) *KeyAgreement {
	t.Helper()
	key, err := ecdh.P256().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	return &KeyAgreement{p, key}
}

// The published hmac-secret vectors run through key agreement, encryption and
// authentication of both protocols, on both sides.
func TestPublishedVectors(t *testing.T) {
	v := vectors.PRF()
	for _, tt := range []struct {
		name     string
		protocol Protocol
		c        vectors.PRFCase
	}{
		{"one, one salt", One, v.ProtocolOneOneSalt},
		{"two, one salt", Two, v.ProtocolTwoOneSalt},
		{"two, two salts", Two, v.ProtocolTwoTwoSalts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			platform := keyAgreement(t, tt.protocol, v.PlatformPrivateKey)
			authenticator := keyAgreement(t, tt.protocol, v.AuthenticatorPrivateKey)
			public := authenticator.PublicKey()
			if !bytes.Equal(public.X, v.AuthenticatorPublicKey.X) || !bytes.Equal(public.Y, v.AuthenticatorPublicKey.Y) {
				t.Fatal("another public key")
			}
			secret, err := platform.Decapsulate(public)
			if err != nil {
				t.Fatal(err)
			}
			same, err := authenticator.Decapsulate(platform.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			want := tt.c.SharedSecret
			for _, s := range []*SharedSecret{secret, same} {
				got := s.hmacKey.Bytes()
				if tt.protocol == Two {
					got = slices.Concat(got, s.aesKey.Bytes())
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("shared secret %x, want %x", got, want)
				}
			}

			salts := slices.Concat(tt.c.Salt1, tt.c.Salt2)
			if plain, err := same.Decrypt(tt.c.SaltEnc); err != nil || !bytes.Equal(plain, salts) {
				t.Errorf("salts %x, %v", plain, err)
			}
			outputs := slices.Concat(tt.c.Output1, tt.c.Output2)
			if plain, err := secret.Decrypt(tt.c.OutputEnc); err != nil || !bytes.Equal(plain, outputs) {
				t.Errorf("outputs %x, %v", plain, err)
			}
			mac := hmac.New(sha256.New, v.CredRandom)
			mac.Write(tt.c.Salt1)
			if !bytes.Equal(mac.Sum(nil), tt.c.Output1) {
				t.Error("output1 is not what the credential's secret gives")
			}
			encrypted, err := secret.Encrypt(salts)
			if err != nil {
				t.Fatal(err)
			}
			if tt.protocol == One && !bytes.Equal(encrypted, tt.c.SaltEnc) {
				t.Errorf("saltEnc %x, want %x", encrypted, tt.c.SaltEnc)
			}
			if len(encrypted) != len(tt.c.SaltEnc) {
				t.Errorf("saltEnc of %d bytes, want %d", len(encrypted), len(tt.c.SaltEnc))
			}
			if plain, err := same.Decrypt(encrypted); err != nil || !bytes.Equal(plain, salts) {
				t.Errorf("round trip %x, %v", plain, err)
			}
		})
	}
}

func TestBothSides(t *testing.T) {
	for p, lengths := range map[Protocol]struct{ mac, pin, hash int }{One: {16, 64, 16}, Two: {32, 80, 32}} {
		t.Run(p.String(), func(t *testing.T) {
			key, err := NewKeyAgreement(p)
			if err != nil {
				t.Fatal(err)
			}
			platform, ours, err := p.Encapsulate(key.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := key.Decapsulate(platform)
			if err != nil {
				t.Fatal(err)
			}
			if ours.Protocol() != p || theirs.Protocol() != p {
				t.Error("protocol")
			}
			mac := ours.Authenticate([]byte("a"), []byte("b"))
			if len(mac) != lengths.mac || !theirs.Verify(mac, []byte("ab")) {
				t.Errorf("authentication of %d bytes does not verify", len(mac))
			}
			if theirs.Verify(mac, []byte("ac")) || theirs.Verify(mac[1:], []byte("ab")) || theirs.Verify(nil, []byte("ab")) {
				t.Error("wrong authentication verifies")
			}
			for plain, want := range map[int]int{64: lengths.pin, 16: lengths.hash} {
				c, err := ours.Encrypt(make([]byte, plain))
				if err != nil || len(c) != want {
					t.Errorf("%d bytes encrypt to %d, want %d (%v)", plain, len(c), want, err)
				}
			}
			again, err := ours.Encrypt(make([]byte, 16))
			if err != nil {
				t.Fatal(err)
			}
			if c, _ := ours.Encrypt(make([]byte, 16)); bytes.Equal(c, again) != (p == One) {
				t.Error("initialization vector")
			}
			if _, err := ours.Encrypt(make([]byte, 15)); err == nil {
				t.Error("encrypts half a block")
			}
			for _, n := range []int{1, 15, 17} {
				if _, err := ours.Decrypt(make([]byte, n)); !errors.Is(err, ErrCiphertext) {
					t.Errorf("decrypts %d bytes: %v", n, err)
				}
			}

			token := NewSecret(bytes.Repeat([]byte{7}, 32))
			param := p.Authenticate(token, []byte("hash"))
			if len(param) != lengths.mac || !p.Verify(token, param, []byte("ha"), []byte("sh")) || p.Verify(token, param, []byte("h")) {
				t.Error("pinUvAuthParam")
			}

			ours.Wipe()
			if _, err := ours.Encrypt(make([]byte, 16)); err == nil {
				t.Error("a wiped secret encrypts")
			}
			if _, err := ours.Decrypt(make([]byte, 32)); err == nil {
				t.Error("a wiped secret decrypts")
			}
			if ours.Authenticate([]byte("a")) != nil {
				t.Error("a wiped secret authenticates")
			}
			token.Wipe()
			empty := hmac.New(sha256.New, nil)
			empty.Write([]byte("a"))
			for name, nobody := range map[string]Secret{"wiped": token, "zero": {}, "empty": FromString("")} {
				if p.Authenticate(nobody, []byte("a")) != nil {
					t.Errorf("a token that is %s authenticates", name)
				}
				for _, signature := range [][]byte{nil, {}, empty.Sum(nil)[:lengths.mac]} {
					if p.Verify(nobody, signature, []byte("a")) || ours.Verify(signature, []byte("a")) {
						t.Errorf("a token that is %s, or a wiped secret, verifies %x", name, signature)
					}
				}
			}
		})
	}
}

func TestBadKeyAgreementKeys(t *testing.T) {
	key, err := NewKeyAgreement(Two)
	if err != nil {
		t.Fatal(err)
	}
	good := key.PublicKey()
	for name, spoil := range map[string]func(*cose.Key){
		"off the curve": func(k *cose.Key) { k.Y = bytes.Clone(k.Y); k.Y[31] ^= 1 },
		"infinity":      func(k *cose.Key) { k.X, k.Y = make([]byte, 32), make([]byte, 32) },
		"short":         func(k *cose.Key) { k.X = k.X[1:] },
		"long":          func(k *cose.Key) { k.X = append([]byte{0}, k.X...) },
		"other curve":   func(k *cose.Key) { k.Curve = cose.P384 },
		"other type":    func(k *cose.Key) { k.Type = cose.OKP },
	} {
		bad := *good
		spoil(&bad)
		if _, _, err := Two.Encapsulate(&bad); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := key.Decapsulate(nil); !errors.Is(err, ErrKey) {
		t.Errorf("nil: %v", err)
	}
}

func TestUnknownProtocol(t *testing.T) {
	p := Protocol(3)
	if _, err := NewKeyAgreement(p); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if _, _, err := p.Encapsulate(&cose.Key{}); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if p.Known() || p.TokenLength(32) || p.Authenticate(FromString("x")) != nil || p.Verify(FromString("x"), nil) {
		t.Error("protocol 3 works")
	}
	if !strings.Contains(p.String(), "3") {
		t.Error(p.String())
	}
}

func TestTokenLength(t *testing.T) {
	for n, want := range map[int][2]bool{0: {}, 16: {true, false}, 32: {true, true}, 48: {}, 64: {}} {
		if One.TokenLength(n) != want[0] || Two.TokenLength(n) != want[1] {
			t.Errorf("%d", n)
		}
	}
}

func TestNothingPrints(t *testing.T) {
	key, err := NewKeyAgreement(Two)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := Two.Encapsulate(key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	hidden := fmt.Sprintf("%x", secret.hmacKey.Bytes())
	decimal := strings.Trim(fmt.Sprint(secret.hmacKey.Bytes()), "[]")
	for _, v := range []any{secret, *secret, key, *key, struct{ s *SharedSecret }{secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, hidden) || strings.Contains(got, decimal) {
				t.Errorf("%T with %s prints the key: %s", v, verb, got)
			}
		}
	}
}

func BenchmarkEncapsulate(b *testing.B) {
	key, err := NewKeyAgreement(Two)
	if err != nil {
		b.Fatal(err)
	}
	peer := key.PublicKey()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Two.Encapsulate(peer); err != nil {
			b.Fatal(err)
		}
	}
}
