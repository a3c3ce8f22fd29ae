package ctap2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/internal/vectors"
	"github.com/tapstone/fido/pin"
)

// recording is a hid.Conn that answers each CTAP command with the reports of a
// real key, on whatever channel is in use.
type recording struct {
	t       testing.TB
	replies map[string][]byte // by command byte, and subcommand of clientPIN
	request []byte
	left    int // bytes of the request still to come
	queue   []byte
	heard   []string
}

func newRecording(t testing.TB) *recording {
	r := vectors.KeyReports()
	return &recording{t: t, replies: map[string][]byte{
		"\x04":     r["CTAP_CBOR_INFO"],
		"\x06\x01": r["CTAP_CBOR_RETRIES"],
		"\x06\x02": r["CTAP_CBOR_AUTHKEY"],
		"\x06\x03": r["CTAP_CBOR_STATUS"],
		"\x06\x05": r["CTAP_CBOR_PINTOKEN"],
		"\x06\x09": r["CTAP_CBOR_PINTOKEN"],
		"\x01":     append(bytes.Clone(r["CTAP_KEEPALIVE"]), r["CTAP_CBOR_CRED"]...),
		"\x02":     append(bytes.Clone(r["CTAP_KEEPALIVE"]), r["CTAP_CBOR_ASSERT"]...),
		"\x07":     r["CTAP_CBOR_STATUS"],
		"\x0B":     append(bytes.Clone(r["CTAP_KEEPALIVE"]), r["CTAP_CBOR_STATUS"]...),
		"init":     r["CTAP_INIT"],
	}}
}

func (r *recording) Write(report []byte) (int, error) {
	channel := report[:4]
	if report[4] == ctap.HIDInitBit|ctap.HIDInit {
		reply := bytes.Clone(r.replies["init"])
		copy(reply[7:], report[7:15]) // our nonce, not the recorded one
		r.queue = append(r.queue, reply...)
		return len(report), nil
	}
	if report[4]&ctap.HIDInitBit != 0 {
		r.request, r.left = nil, int(binary.BigEndian.Uint16(report[5:]))
		report = report[7:]
	} else {
		report = report[5:]
	}
	n := min(len(report), r.left)
	r.request, r.left = append(r.request, report[:n]...), r.left-n
	if r.left > 0 {
		return ctap.HIDReportSize, nil
	}
	key := string(r.request[:1])
	if key == "\x06" {
		at := bytes.IndexByte(r.request, 0x02) // the subcommand's key follows the protocol's
		if r.request[2] == 0x01 {
			at = 4
		}
		key += string(r.request[at+1])
	}
	r.heard = append(r.heard, key)
	reply, ok := r.replies[key]
	if !ok {
		r.t.Errorf("no recording for % x", r.request)
	}
	reply = bytes.Clone(reply)
	for i := 0; i < len(reply); i += ctap.HIDReportSize {
		copy(reply[i:], channel)
	}
	r.queue = append(r.queue, reply...)
	return ctap.HIDReportSize, nil
}

func (r *recording) Read(p []byte) (int, error) {
	if len(r.queue) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, r.queue[:ctap.HIDReportSize])
	r.queue = r.queue[ctap.HIDReportSize:]
	return n, nil
}

func (r *recording) SetReadDeadline(time.Time) error { return nil }

func (r *recording) Close() error { return nil }

var _ io.ReadWriteCloser = (*recording)(nil)

// What real keys answered, through hid and ctap2.
func TestRealKeyReports(t *testing.T) {
	ctx := t.Context()
	conn := newRecording(t)
	device, err := hid.New(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	touches := 0
	key, err := ctap2.Open(ctx, device, ctap2.WithInteraction(ctap2.Interaction{
		PIN:   func(_ context.Context, _ ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("1234"), nil },
		Touch: func(ctap2.TouchRequest) { touches++ },
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()

	info := key.Info()
	t.Run("getInfo", func(t *testing.T) {
		if info.AAGUID.String() != "f8a011f3-8c0a-4d15-8006-17111f9edc7d" {
			t.Errorf("AAGUID %v", info.AAGUID)
		}
		if !info.HasVersion("FIDO_2_3") || !info.HasVersion("U2F_V2") || len(info.Versions) != 5 {
			t.Errorf("versions %v", info.Versions)
		}
		if !info.HasExtension("hmac-secret-mc") || !info.HasExtension("previewSign") || len(info.Extensions) != 8 {
			t.Errorf("extensions %v", info.Extensions)
		}
		if len(info.Options) != 14 || !info.Options[ctap2.OptionResidentKey] || !info.Options[ctap2.OptionPersistentCredMgmtRO] {
			t.Errorf("options %v", info.Options)
		}
		if on, known := info.Options[ctap2.OptionClientPIN]; !known || on {
			t.Error("clientPin is false, not absent, in this reply")
		}
		if _, known := info.Options[ctap2.OptionUserVerification]; known {
			t.Error("uv is absent in this reply")
		}
		if info.MaxMsgSize != 1536 || info.MaxCredentialCountInList != 8 || info.MaxCredentialIDLength != 128 {
			t.Errorf("limits %d %d %d", info.MaxMsgSize, info.MaxCredentialCountInList, info.MaxCredentialIDLength)
		}
		if len(info.PINUVAuthProtocols) != 2 || info.PINUVAuthProtocols[0] != pin.Two {
			t.Errorf("protocols %v", info.PINUVAuthProtocols)
		}
		if len(info.Transports) != 3 || info.Transports[2] != "smart-card" {
			t.Errorf("transports %v", info.Transports)
		}
		if want := []cose.Algorithm{cose.ES256, cose.EdDSA, cose.ES384}; len(info.Algorithms) != 3 || info.Algorithms[0] != want[0] || info.Algorithms[1] != want[1] || info.Algorithms[2] != want[2] {
			t.Errorf("algorithms %v", info.Algorithms)
		}
		if info.MaxSerializedLargeBlobArray != 4096 || info.ForcePINChange || info.MinPINLength != 4 || info.MaxCredBlobLength != 32 ||
			info.MaxRPIDsForSetMinPINLength != 1 || info.LongTouchForReset != true || info.MaxPINLength != 63 {
			t.Errorf("%+v", info)
		}
		if info.RemainingDiscoverableCredentials == nil || *info.RemainingDiscoverableCredentials != 100 {
			t.Error("remainingDiscoverableCredentials")
		}
		if info.PINComplexityPolicy == nil || !*info.PINComplexityPolicy || info.PINComplexityPolicyURL != "https://example.com" {
			t.Errorf("PIN complexity policy %v %q", info.PINComplexityPolicy, info.PINComplexityPolicyURL)
		}
		if len(info.EncIdentifier) != 32 || len(info.EncCredStoreState) != 32 {
			t.Errorf("encIdentifier %x, encCredStoreState %x", info.EncIdentifier, info.EncCredStoreState)
		}
		if len(info.TransportsForReset) != 2 || len(info.AttestationFormats) != 1 || len(info.AuthenticatorConfigCommands) != 3 ||
			info.FirmwareVersion != 1 || info.UVCountSinceLastPINEntry != nil {
			t.Errorf("%+v", info)
		}
		if !bytes.HasPrefix(info.Raw, []byte{0xb8, 26}) {
			t.Error("not the reply with 26 members")
		}
		if len(info.Unknown) != 0 {
			t.Errorf("unknown members %v", info.Unknown)
		}
	})

	hash := make([]byte, 32)
	t.Run("makeCredential", func(t *testing.T) {
		touches = 0
		credential, err := key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
			ClientDataHash: hash,
			RP:             ctap2.RelyingParty{ID: "localhost"},
			User:           ctap2.User{ID: []byte{1}},
			Algorithms:     []cose.Algorithm{cose.ES256},
		})
		if err != nil {
			t.Fatal(err)
		}
		if credential.Format != "packed" || len(credential.ID) != 64 || credential.PublicKey.Algorithm != cose.ES256 ||
			credential.AuthData.Flags != ctap2.FlagUserPresent|ctap2.FlagUserVerified|ctap2.FlagAttestedCredentialData {
			t.Errorf("%+v", credential.AuthData)
		}
		if touches != 1 {
			t.Errorf("%d touches announced", touches)
		}
	})
	t.Run("getAssertion", func(t *testing.T) {
		assertions, err := key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
			RPID: "localhost", ClientDataHash: hash, UserVerification: ctap2.Discouraged,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(assertions) != 1 || len(assertions[0].Credential.ID) != 64 || assertions[0].AuthData.SignCount == 0 {
			t.Errorf("%+v", assertions)
		}
		_, err = key.GetAssertion(ctx, &ctap2.GetAssertionRequest{
			RPID: "example.com", ClientDataHash: hash, UserVerification: ctap2.Discouraged,
		})
		if !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("assertion for another relying party: %v", err)
		}
	})
	t.Run("clientPIN", func(t *testing.T) {
		retries, err := key.PINRetries(ctx)
		if err != nil || retries.Retries != 8 || retries.PowerCycle {
			t.Errorf("%+v, %v", retries, err)
		}
		_, err = key.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionGetAssertion, RPID: "localhost"})
		if !errors.Is(err, ctap2.ErrNotSetUp) {
			t.Errorf("token of a key without a PIN: %v", err)
		}
		if err := key.SetPIN(ctx, pin.FromString("1234")); err != nil {
			t.Error(err)
		}
	})
	if err := key.Selection(ctx); err != nil {
		t.Error(err)
	}
	if err := key.Reset(ctx); err != nil {
		t.Error(err)
	}
}
