package ctap2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/pin"
)

// witness is an extension that looks at the shared secret while it lives.
type witness struct {
	saw func(*ExtensionContext, *pin.SharedSecret)
}

func (witness) Identifier() string { return "witness" }

func (w witness) Input(c *ExtensionContext) (any, error) {
	s, _, err := c.SharedSecret()
	if err == nil {
		w.saw(c, s)
	}
	return nil, err
}

func (witness) Output(*ExtensionContext, []byte) (any, error) { return nil, nil }

// Nothing that a program can print holds a PIN, a token, a shared secret or an
// output: not through fmt, not through slog, not through JSON; not while a
// ceremony runs, and not in its errors.
func TestSecretsDoNotPrint(t *testing.T) {
	ctx := t.Context()
	const right, wrong, next = "correct horse 271828", "wrong horse 314159", "next horse 161803"
	soft, err := virtual.New(virtual.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer soft.Close()

	var out bytes.Buffer
	show := func(values ...any) {
		for _, v := range values {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb+"\n", v)
				fmt.Fprintf(&out, verb+"\n", []any{v})
				fmt.Fprintf(&out, verb+"\n", struct{ V, v any }{v, v})
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("text", "v", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "v", v)
			j, err := json.Marshal(v) // of some values there is no JSON
			fmt.Fprintf(&out, "%s %v\n", j, err)
			if err, ok := v.(error); ok {
				for e := err; e != nil; e = errors.Unwrap(e) {
					fmt.Fprintf(&out, "%s %#v %+v\n", e.Error(), e, e)
				}
			}
		}
	}

	secrets := map[string][]byte{"PIN": []byte(right), "wrong PIN": []byte(wrong), "next PIN": []byte(next)}
	for name, p := range map[string]string{"PIN": right, "wrong PIN": wrong, "next PIN": next} {
		sum := sha256.Sum256([]byte(p))
		secrets[name+"'s hash"] = sum[:16]
	}
	entered := []string{wrong, right}
	var key *Authenticator
	key, err = Open(ctx, soft, WithInteraction(Interaction{
		PIN: func(_ context.Context, r PINRequest) (pin.Secret, error) {
			p := entered[0]
			if len(entered) > 1 {
				entered = entered[1:]
			}
			s := pin.FromString(p)
			show(r, s, &s, key)
			return s, nil
		},
		Touch: func(r TouchRequest) { show(r, key) },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	saw := func(c *ExtensionContext, s *pin.SharedSecret) {
		for _, field := range []string{"hmacKey", "aesKey"} {
			v := reflect.ValueOf(s).Elem().FieldByName(field)
			secrets["shared secret: "+field] = bytes.Clone((*pin.Secret)(unsafe.Pointer(v.UnsafeAddr())).Bytes())
		}
		show(c, *c, s, *s, c.c, *c.c, key)
	}

	rightPIN, nextPIN := pin.FromString(right), pin.FromString(next)
	if err := key.SetPIN(ctx, rightPIN); err != nil {
		t.Fatal(err)
	}
	show(key, rightPIN)
	key.Forget()
	hash := make([]byte, 32)
	mc := &MakeCredentialRequest{
		ClientDataHash: hash, RP: RelyingParty{ID: "example.com"}, User: User{ID: []byte{1}},
		Algorithms: []cose.Algorithm{cose.ES256}, ResidentKey: true,
		Extensions: []Extension{HMACSecret(), CredProtect(UVOptional), witness{saw}},
	}
	credential, err := key.MakeCredential(ctx, mc)
	if err != nil {
		t.Fatal(err)
	}
	show(key, mc, credential, *credential, credential.Extensions, key.Info())
	ga := &GetAssertionRequest{RPID: "example.com", ClientDataHash: hash, Extensions: []Extension{
		HMACSecret(bytes.Repeat([]byte{0x5A}, 32), bytes.Repeat([]byte{0xA5}, 32)), witness{saw}}}
	accounts, err := key.GetAssertion(ctx, ga)
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := Output[*HMACSecretOutput](accounts[0].Extensions)
	if err != nil {
		t.Fatal(err)
	}
	secrets["output 1"], secrets["output 2"] = bytes.Clone(outputs.Output1.Bytes()), bytes.Clone(outputs.Output2.Bytes())
	secrets["salt 1"], secrets["salt 2"] = bytes.Repeat([]byte{0x5A}, 32), bytes.Repeat([]byte{0xA5}, 32)
	show(key, ga, accounts, accounts[0], *accounts[0], accounts[0].Extensions, outputs, *outputs, outputs.Output1)

	token, err := key.Token(ctx, &TokenRequest{Permissions: PermissionGetAssertion, RPID: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	secrets["token"] = bytes.Clone(token.secret.Bytes())
	ga.Token = token
	show(key, token, *token, ga)
	token.Wipe()

	for _, do := range []func() error{
		func() error { return key.ChangePIN(ctx, pin.FromString(wrong), nextPIN) },
		func() error { return key.ChangePIN(ctx, rightPIN, pin.FromString("123")) },
		func() error { return key.SetPIN(ctx, nextPIN) },
		func() error { _, err := key.GetAssertion(ctx, ga); return err }, // with a wiped token
		func() error {
			entered = []string{wrong}
			key.Forget()
			_, err := key.MakeCredential(ctx, mc)
			return err
		},
	} {
		err := do()
		if err == nil {
			t.Error("no error to look at")
		}
		show(err)
	}

	text := out.Bytes()
	for name, secret := range secrets {
		if len(secret) < 16 {
			t.Errorf("%s was not caught: %x", name, secret)
		}
		for form, s := range map[string]string{
			"itself":      string(secret),
			"hexadecimal": fmt.Sprintf("%x", secret),
			"HEXADECIMAL": fmt.Sprintf("%X", secret),
			"decimal":     strings.Trim(fmt.Sprint(secret), "[]"),
			"Go syntax":   strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"),
			"base64":      base64.StdEncoding.EncodeToString(secret)[:20],
		} {
			if at := bytes.Index(text, []byte(s)); at >= 0 {
				t.Errorf("%s in %s: …%s…", name, form, text[max(0, at-100):min(len(text), at+100)])
			}
		}
	}
	if !bytes.Contains(text, []byte("[secret]")) || len(text) < 10_000 {
		t.Error("nothing was printed")
	}
}

// A token that a command obtained is wiped behind it, whether the key took it or
// not: the two of a command that was repeated, and the one of an enrollment.
func TestObtainedTokensAreWiped(t *testing.T) {
	soft, err := virtual.New(virtual.Config{PIN: "271828"})
	if err != nil {
		t.Fatal(err)
	}
	defer soft.Close()
	key, err := Open(t.Context(), soft, WithInteraction(Interaction{
		PIN: func(context.Context, PINRequest) (pin.Secret, error) { return pin.FromString("271828"), nil },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	c, err := key.beginInformed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	var tokens []*Token
	var secrets []*pin.SharedSecret
	err = c.authorized(PermissionCredentialManagement, "", nil, func(token *Token) error {
		if tokens, secrets = append(tokens, token), append(secrets, c.secret); token.secret.Len() == 0 {
			t.Error("wiped before it was used")
		}
		return &Error{Status: ErrPINAuthInvalid}
	})
	if !errors.Is(err, ErrPINAuthInvalid) || len(tokens) != 2 || secrets[0] == secrets[1] {
		t.Fatalf("%v, %d tokens, from one key agreement: %v", err, len(tokens), secrets[0] == secrets[1])
	}
	for i, token := range tokens {
		if token.secret.Len() != 0 {
			t.Errorf("token %d stays", i)
		}
	}

	held := NewToken(pin.Two, pin.NewSecret(make([]byte, 32)), PermissionCredentialManagement, "")
	runs := 0
	err = c.authorized(PermissionCredentialManagement, "", held, func(*Token) error {
		runs++
		return &Error{Status: ErrPINAuthInvalid}
	})
	if !errors.Is(err, ErrPINAuthInvalid) || runs != 1 || held.secret.Len() == 0 {
		t.Errorf("the caller's token: %v, %d runs, %d bytes left", err, runs, held.secret.Len())
	}
}
