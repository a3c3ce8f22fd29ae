package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/examples/integrations/internal/anykey"
	"github.com/tapstone/fido/pin"
)

// The key that encrypted a file decrypts it, when it is plugged in again.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	identity, file := filepath.Join(dir, "identity"), filepath.Join(dir, "key")
	const secret = "the secret of the cellar"
	var encrypted, encryptedAgain, decrypted bytes.Buffer
	withKey(t, file, func(key *ctap2.Authenticator) {
		for _, to := range []*bytes.Buffer{&encrypted, &encryptedAgain} {
			if err := encrypt(t.Context(), key, identity, to, strings.NewReader(secret)); err != nil {
				t.Fatal(err)
			}
		}
	})
	if nonce := bytes.Split(encrypted.Bytes(), []byte("\n"))[1]; bytes.Contains(encryptedAgain.Bytes(), nonce) {
		t.Errorf("two files begin with %s", nonce)
	}
	withKey(t, file, func(key *ctap2.Authenticator) {
		if err := decrypt(t.Context(), key, identity, &decrypted, &encrypted); err != nil {
			t.Fatal(err)
		}
		if decrypted.String() != secret {
			t.Errorf("decrypted %q", &decrypted)
		}
		// Another credential of the key is no good, nor is another key.
		other := filepath.Join(dir, "other")
		if err := encrypt(t.Context(), key, other, io.Discard, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
		err := decrypt(t.Context(), key, other, io.Discard, bytes.NewReader(encryptedAgain.Bytes()))
		if !errors.As(err, new(*age.NoIdentityMatchError)) {
			t.Errorf("with another credential: %v", err)
		}
	})
	withKey(t, "", func(key *ctap2.Authenticator) {
		err := decrypt(t.Context(), key, identity, io.Discard, bytes.NewReader(encryptedAgain.Bytes()))
		if !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("with another key: %v", err)
		}
	})
}

func withKey(t *testing.T, file string, do func(*ctap2.Authenticator)) {
	t.Helper()
	key, err := anykey.Software(t.Context(), t.Output(), file)
	if err != nil {
		t.Fatal(err)
	}
	do(key)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
}

// What typage 0.3.1 made, of npm's package age-encryption, in Node.js, with
// testPRF for a key.
const (
	typageIdentity = "AGE-PLUGIN-FIDO2PRF-1Q922PGDZ5WJ2TF484Z5642AV4KH2LV93K2EKKCT8V5HX27RPD4CXCEVZVDHXVCMRW4EKY5D8E3S"
	typageFile     = `-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGFnZS1lbmNyeXB0aW9uLm9yZy9maWRv
MnByZiBvSG52Nm1ZNkk5M2pGbEdHSHVOT053CjcrVVBqQUxGU2dzOXpaeDhVdnFi
RzZWcjM1TTBvdHhCYVBueWt1YVUxZ2sKLS0tIFQ2TmQzdWczWFEvdWJITEkzWGpH
VHF3NzE2YkdhS1REZ2FzcEFpNXgySUkKmodh7+gj9ju6pMVFtVLW5I5hSxHhwTUY
RoBJgo9ryDChwPkBnERzW9pvd7bEbjzgw8Q=
-----END AGE ENCRYPTED FILE-----
`
)

// testPRF is the function as a key with the secret 00, 01, … 1F has it.
func testPRF(values *webauthn.PRFValues) (*webauthn.PRFResults, error) {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	evaluate := func(value []byte) pin.Secret {
		salt := sha256.Sum256(slices.Concat([]byte("WebAuthn PRF\x00"), value))
		mac := hmac.New(sha256.New, secret)
		mac.Write(salt[:])
		return pin.NewSecret(mac.Sum(nil))
	}
	return &webauthn.PRFResults{First: evaluate(values.First), Second: evaluate(values.Second)}, nil
}

func TestTypage(t *testing.T) {
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(typageFile)), prf(testPRF))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "Hello from typage\n" {
		t.Errorf("%q, %v", text, err)
	}
	c, err := parseIdentity(typageIdentity)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.id) != 20 || c.id[1] != 0xA1 || c.rpID != "age.example" || !slices.Equal(c.transports, []string{"nfc", "usb"}) {
		t.Errorf("%+v", c)
	}
	if text, err := c.identity(); err != nil || text != typageIdentity {
		t.Errorf("%s, %v", text, err)
	}
}

// Stanzas for others are passed over, and those that are not what they should
// be end it.
func TestUnwrap(t *testing.T) {
	asked := 0
	p := prf(func(values *webauthn.PRFValues) (*webauthn.PRFResults, error) {
		asked++
		return testPRF(values)
	})
	fileKey := bytes.Repeat([]byte{7}, fileKeySize)
	stanzas, err := p.Wrap(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	good := stanzas[0]
	changed := func(change func(*age.Stanza)) *age.Stanza {
		s := &age.Stanza{Type: good.Type, Args: slices.Clone(good.Args), Body: slices.Clone(good.Body)}
		change(s)
		return s
	}
	foreign := changed(func(s *age.Stanza) { s.Type = "X25519" })
	tampered := changed(func(s *age.Stanza) { s.Body[0] ^= 1 })
	asked = 0
	if got, err := p.Unwrap([]*age.Stanza{foreign, tampered, good}); err != nil || !bytes.Equal(got, fileKey) || asked != 2 {
		t.Errorf("%x, %v, asked %d times", got, err, asked)
	}
	for _, stanzas := range [][]*age.Stanza{nil, {foreign}, {tampered}} {
		if _, err := p.Unwrap(stanzas); !errors.Is(err, age.ErrIncorrectIdentity) {
			t.Errorf("%d stanzas: %v", len(stanzas), err)
		}
	}
	asked = 0
	for name, s := range map[string]*age.Stanza{
		"no nonce":       changed(func(s *age.Stanza) { s.Args = nil }),
		"two arguments":  changed(func(s *age.Stanza) { s.Args = append(s.Args, "") }),
		"short nonce":    changed(func(s *age.Stanza) { s.Args[0] = s.Args[0][:20] }),
		"loose encoding": changed(func(s *age.Stanza) { s.Args[0] = strings.Repeat("A", 21) + "B" }),
		"long body":      changed(func(s *age.Stanza) { s.Body = append(s.Body, 0) }),
	} {
		if _, err := p.Unwrap([]*age.Stanza{s, good}); err == nil || errors.Is(err, age.ErrIncorrectIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != 0 {
		t.Errorf("the key was asked %d times for what cannot be", asked)
	}
}

func TestParseIdentity(t *testing.T) {
	_, data, err := plugin.ParseIdentity(typageIdentity)
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{
		"", typageIdentity[:len(typageIdentity)-1],
		plugin.EncodeIdentity("yubikey", data),
		plugin.EncodeIdentity("fido2prf", slices.Concat([]byte{2}, data[1:])), // version 2
	}
	for i := range data {
		bad = append(bad, plugin.EncodeIdentity("fido2prf", data[:i]))
	}
	for _, text := range bad {
		if c, err := parseIdentity(text); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
