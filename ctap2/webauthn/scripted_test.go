package webauthn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
)

// A scripted key makes one kind of credential.
type scripted struct {
	aaguid    [16]byte
	format    string
	key       []byte                          // COSE_Key
	statement func(authData, hash []byte) any // attStmt
}

func (scripted) Close() error { return nil }

func (s scripted) Exchange(_ context.Context, message []byte, _ func(byte)) ([]byte, error) {
	var reply any
	switch message[0] {
	case 0x04:
		reply = map[int]any{1: []string{"FIDO_2_0"}, 3: s.aaguid[:]}
	case 0x01:
		var request struct {
			Hash []byte              `cbor:"1,keyasint"`
			RP   struct{ ID string } `cbor:"2,keyasint"`
		}
		if err := cbor.Unmarshal(message[1:], &request); err != nil {
			return nil, err
		}
		rpIDHash := sha256.Sum256([]byte(request.RP.ID))
		authData := slices.Concat(rpIDHash[:], []byte{0x41, 0, 0, 0, 1}, s.aaguid[:], []byte{0, 4, 'h', 'e', 'r', 'e'}, s.key)
		reply = map[int]any{1: s.format, 2: authData, 3: s.statement(authData, request.Hash)}
	default:
		return []byte{0x01}, nil
	}
	body, err := cbor.Marshal(reply)
	return append([]byte{0}, body...), err
}

// Self attestation by a key that does not tell its model is kept, if the site
// wants none: it tells nothing.
func TestSelfAttestation(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(cose.ES256, &private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	self := func(authData, hash []byte) any {
		digest := sha256.Sum256(slices.Concat(authData, hash))
		signature, _ := ecdsa.SignASN1(rand.Reader, private, digest[:])
		return map[string]any{"alg": -7, "sig": signature}
	}
	for _, tt := range []struct {
		scripted
		want string
	}{
		{scripted{format: "packed", statement: self}, "packed"},
		{scripted{format: "packed", statement: self, aaguid: [16]byte{1}}, "none"},
		{scripted{format: "packed", statement: func(a, h []byte) any {
			s := self(a, h).(map[string]any)
			s["x5c"] = []string{}
			return s
		}}, "none"},
		{scripted{format: "tpm", statement: self}, "none"},
	} {
		tt.key = marshal(t, key)
		d := &desk{t: t, site: newSite("https://example.com", "example.com")}
		d.key = d.open(tt.scripted)
		d.Client = &webauthn.Client{Origin: d.origin, Authenticators: []*ctap2.Authenticator{d.key}}
		a := d.mustCreate(`{"attestation": "none"}`)
		if a.format != tt.want || a.aaguid != tt.aaguid {
			t.Errorf("%s, AAGUID %v: %s, AAGUID %v", tt.format, tt.aaguid, a.format, a.aaguid)
		}
	}
}

// A public key that package x509 does not know is left to those who read CBOR.
func TestUnknownPublicKey(t *testing.T) {
	coordinate := make([]byte, 32)
	key, err := cbor.Marshal(map[int]any{1: 2, 3: -47, -1: 8, -2: coordinate, -3: coordinate})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, site: newSite("https://example.com", "example.com")}
	d.key = d.open(scripted{format: "none", key: key, statement: func(_, _ []byte) any { return map[string]any{} }})
	d.Client = &webauthn.Client{Origin: d.origin, Authenticators: []*ctap2.Authenticator{d.key}}
	response, err := d.create(`{"pubKeyCredParams": [{"type": "public-key", "alg": -47}]}`)
	if err != nil || response.PublicKey != nil || response.PublicKeyAlgorithm != cose.ES256K {
		t.Errorf("%v %v", response, err)
	}
}

// A breaking key does not survive a certain number of messages.
type breaking struct {
	ctap2.Transport
	left *int
}

var errBroken = errors.New("broken")

func (b breaking) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if *b.left--; *b.left < 0 {
		return nil, errBroken
	}
	return b.Transport.Exchange(ctx, message, status)
}

// Wherever a ceremony breaks off, it says why.
func TestBreaking(t *testing.T) {
	d := sit(t, virtual.Config{PIN: testPIN})
	a, other := d.mustCreate(`{"extensions": {"prf": {}}}`), encode(make([]byte, 16))
	left := 1
	d.Authenticators[0] = d.open(breaking{d.soft, &left})
	for name, ceremony := range map[string]func() error{
		"appidExclude": func() error {
			_, err := d.create(`{"extensions": {"appidExclude": "https://example.com"}}`, allow("excludeCredentials", other))
			return err
		},
		"appid": func() error {
			_, err := d.get(`{"extensions": {"appid": "https://example.com"}}`, allow("allowCredentials", a.response.ID))
			return err
		},
		"prf": func() error {
			_, err := d.get(`{"extensions": {"prf": {"evalByCredential": {"`+other+`": {"first": "AAAA"}}}}}`, allow("allowCredentials", other, a.response.ID))
			return err
		},
	} {
		for n := 0; ; n++ {
			if n > 20 {
				t.Fatalf("%s: more than 20 messages", name)
			}
			left = n
			err := ceremony()
			if err == nil {
				if n < 3 {
					t.Errorf("%s: only %d messages", name, n)
				}
				break
			}
			refused(t, err, errNotAllowed, errBroken)
		}
	}
}
