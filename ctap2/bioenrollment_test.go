package ctap2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// issuer is the part of a canned key that gives tokens to whoever has any PIN.
type issuer struct {
	t        testing.TB
	protocol pin.Protocol
	token    pin.Secret
	issued   []uint64 // the permissions asked for; 0 for getPinToken
}

// withTokens makes a canned key with a PIN issue tokens.
func withTokens(t testing.TB, c *canned, p pin.Protocol) *issuer {
	t.Helper()
	i := &issuer{t: t, protocol: p, token: pin.NewSecret(bytes.Repeat([]byte{0x70}, 32))}
	agreement, err := pin.NewKeyAgreement(p)
	if err != nil {
		t.Fatal(err)
	}
	c.on(ctap.CmdClientPIN, func(message []byte) []byte {
		var request struct {
			Protocol     pin.Protocol    `cbor:"1,keyasint"`
			Subcommand   byte            `cbor:"2,keyasint"`
			KeyAgreement cbor.RawMessage `cbor:"3,keyasint"`
			Permissions  uint64          `cbor:"9,keyasint"`
		}
		if err := cbor.Unmarshal(message[1:], &request); err != nil || request.Protocol != p {
			t.Errorf("clientPIN %x: %v", message, err)
		}
		if request.Subcommand == ctap.PINGetKeyAgreement {
			return ok(t, members{1: agreement.PublicKey()})
		}
		peer, err := cose.ParseKey(request.KeyAgreement)
		if err != nil {
			t.Error(err)
			return []byte{byte(ctap2.ErrOther)}
		}
		shared, err := agreement.Decapsulate(peer)
		if err != nil {
			t.Error(err)
			return []byte{byte(ctap2.ErrOther)}
		}
		encrypted, err := shared.Encrypt(i.token.Bytes())
		if err != nil {
			t.Error(err)
		}
		i.issued = append(i.issued, request.Permissions)
		return ok(t, members{2: encrypted})
	})
	return i
}

// verify holds a pinUvAuthParam against what it has to cover.
func (i *issuer) verify(p pin.Protocol, param []byte, message ...[]byte) bool {
	return p == i.protocol && p.Verify(i.token, param, message...)
}

// expect wants these tokens to have been issued since the last call.
func (i *issuer) expect(permissions ...uint64) {
	i.t.Helper()
	if !slices.Equal(i.issued, permissions) {
		i.t.Errorf("tokens with permissions %x, want %x", i.issued, permissions)
	}
	i.issued = nil
}

func anyPIN() ctap2.Option {
	return ctap2.WithInteraction(ctap2.Interaction{PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) {
		return pin.FromString(benchPIN), nil
	}})
}

// sensor is a canned key with a fingerprint sensor that gives one sample after
// the other, the last for good.
type sensor struct {
	*canned
	*issuer
	command byte
	preview bool
	samples []members // answers to enrollBegin and enrollCaptureNextSample
	replies map[byte][]byte
	before  func(subcommand byte)

	sent     []byte            // subcommands
	params   []cbor.RawMessage // of the same
	contexts []context.Context // of the same
}

func sample(status ctap2.SampleStatus, remaining int) members {
	return members{5: uint8(status), 6: remaining}
}

var templateID = []byte{7, 8, 9}

func newSensor(t testing.TB, p pin.Protocol, preview bool) *sensor {
	options := map[string]bool{"clientPin": true, "pinUvAuthToken": true, "bioEnroll": false}
	if preview {
		options = map[string]bool{"clientPin": true, "userVerificationMgmtPreview": false}
	}
	info := basicInfo()
	info[4], info[6] = options, []int{int(p)}
	s := &sensor{canned: newCanned(t, info), preview: preview, command: ctap.CmdBioEnrollment, replies: map[byte][]byte{
		ctap.BioCancelCurrentEnrollment:  {0},
		ctap.BioSetFriendlyName:          {0},
		ctap.BioRemoveEnrollment:         {0},
		ctap.BioEnumerateEnrollments:     ok(t, members{7: []members{{1: templateID, 2: "thumb"}, {1: []byte{1}}}}),
		ctap.BioGetFingerprintSensorInfo: ok(t, members{1: 1, 2: 2, 3: 12, 8: 16}),
	}}
	if preview {
		s.command = ctap.CmdBioEnrollmentPreview
	}
	s.samples = []members{sample(ctap2.SampleGood, 1), sample(ctap2.SampleGood, 0)}
	s.issuer = withTokens(t, s.canned, p)
	return s
}

func (s *sensor) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if message[0] != s.command {
		if message[0] == ctap.CmdBioEnrollment || message[0] == ctap.CmdBioEnrollmentPreview {
			s.t.Errorf("command %#02x", message[0])
		}
		return s.canned.Exchange(ctx, message, status)
	}
	var request struct {
		Modality   byte            `cbor:"1,keyasint"`
		Subcommand byte            `cbor:"2,keyasint"`
		Params     cbor.RawMessage `cbor:"3,keyasint"`
		Protocol   pin.Protocol    `cbor:"4,keyasint"`
		Param      []byte          `cbor:"5,keyasint"`
	}
	if err := cbor.Check(message[1:], cbor.Strict); err != nil {
		s.t.Error(err)
	}
	if err := cbor.Unmarshal(message[1:], &request); err != nil || request.Modality != 1 {
		s.t.Errorf("%x: %v", message, err)
	}
	s.sent, s.params, s.contexts = append(s.sent, request.Subcommand), append(s.params, request.Params), append(s.contexts, ctx)
	switch request.Subcommand {
	case ctap.BioCancelCurrentEnrollment, ctap.BioGetFingerprintSensorInfo:
		if request.Param != nil || request.Protocol != 0 {
			s.t.Errorf("subcommand %d is authenticated", request.Subcommand)
		}
	default:
		if !s.verify(request.Protocol, request.Param, []byte{1, request.Subcommand}, request.Params) {
			return []byte{byte(ctap2.ErrPINAuthInvalid)}, nil
		}
	}
	if s.before != nil {
		s.before(request.Subcommand)
	}
	if reply, ok := s.replies[request.Subcommand]; ok {
		return slices.Clone(reply), nil
	}
	if status != nil {
		status(ctap.KeepaliveUPNeeded)
	}
	if ctx.Err() != nil {
		return []byte{byte(ctap2.ErrKeepaliveCancel)}, nil
	}
	answer := maps.Clone(s.samples[0])
	if len(s.samples) > 1 {
		s.samples = s.samples[1:]
	}
	if _, said := answer[4]; request.Subcommand == ctap.BioEnrollBegin && !said {
		answer[4] = templateID
	}
	return ok(s.t, answer), nil
}

func (s *sensor) expectSent(want ...byte) {
	s.t.Helper()
	if !bytes.Equal(s.sent, want) {
		s.t.Errorf("sent %v, want %v", s.sent, want)
	}
	s.sent, s.params, s.contexts = nil, nil, nil
}

// eachSensor runs a test with a key of each PIN/UV auth protocol, and with one
// that has the preview of the command.
func eachSensor(t *testing.T, test func(t *testing.T, s *sensor)) {
	t.Helper()
	for _, p := range []pin.Protocol{pin.One, pin.Two} {
		t.Run(p.String(), func(t *testing.T) { test(t, newSensor(t, p, false)) })
	}
	t.Run("preview", func(t *testing.T) { test(t, newSensor(t, pin.One, true)) })
}

func TestEnrollFingerprint(t *testing.T) {
	eachSensor(t, func(t *testing.T, s *sensor) {
		s.samples = []members{
			sample(ctap2.SampleGood, 3), sample(ctap2.SampleTooFast, 3), sample(ctap2.SampleNoUserActivity, 3),
			sample(ctap2.SampleGood, 2), sample(0x20, 2), sample(ctap2.SampleGood, 1), sample(ctap2.SampleGood, 0),
		}
		var heard []ctap2.SampleFeedback
		var touches []ctap2.Touch
		done := 0
		key := open(t, s, ctap2.WithInteraction(ctap2.Interaction{
			PIN:       func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
			Touch:     func(r ctap2.TouchRequest) { touches = append(touches, r.For) },
			TouchDone: func() { done++ },
			Sample:    func(f ctap2.SampleFeedback) { heard = append(heard, f) },
		}))
		fingerprint, err := key.EnrollFingerprint(t.Context(), &ctap2.EnrollFingerprintRequest{
			FriendlyName: "left thumb", Timeout: 10*time.Second + time.Microsecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(fingerprint.TemplateID, templateID) || fingerprint.FriendlyName != "left thumb" {
			t.Errorf("%+v", fingerprint)
		}
		want := []string{"3 good", "3 too fast", "3 nobody", "2 good", "2 not good", "1 good", "0 good"}
		if len(heard) != len(want) {
			t.Fatalf("heard of %d samples: %v", len(heard), heard)
		}
		for i, f := range heard {
			if text := fmt.Sprint(f.Remaining, " ", f.Status); !strings.HasPrefix(text, want[i]) || !bytes.Equal(f.TemplateID, templateID) || f.Authenticator != key {
				t.Errorf("sample %d: %q, want %q", i, text, want[i])
			}
		}
		if len(touches) != 7 || done != 7 || slices.ContainsFunc(touches, func(r ctap2.Touch) bool { return r != ctap2.TouchEnrollment }) {
			t.Errorf("touches %v, %d done", touches, done)
		}
		if begin := raw(t, "a1 03 192711"); !bytes.Equal(s.params[1], begin) { // rounded up
			t.Errorf("enrollBegin with %x", s.params[1])
		}
		if next := raw(t, "a2 01 43070809 03 192711"); !bytes.Equal(s.params[2], next) {
			t.Errorf("enrollCaptureNextSample with %x", s.params[2])
		}
		s.expectSent(7, 1, 2, 2, 2, 2, 2, 2, 5)
		if s.preview {
			s.issuer.expect(0)
		} else {
			s.issuer.expect(ctap.PermissionBioEnrollment)
		}

		// The Info says other things of uv and bioEnroll now.
		asked := len(s.messages)
		if _, err := key.GetFingerprintSensorInfo(t.Context()); err != nil || s.messages[asked][0] != ctap.CmdGetInfo {
			t.Errorf("after an enrollment: %x, %v", s.messages[asked:], err)
		}
	})
}

// Without a name and a time there is nothing to say with the first sample, and
// nothing to ask before it. A token that the caller holds is used and left.
func TestEnrollFingerprintWithToken(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	s.samples = []members{sample(ctap2.SampleGood, 0)}
	key := open(t, s, anyPIN())
	token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment})
	if err != nil {
		t.Fatal(err)
	}
	s.issuer.expect(ctap.PermissionBioEnrollment)
	for range 2 {
		if f, err := key.EnrollFingerprint(t.Context(), &ctap2.EnrollFingerprintRequest{Token: token}); err != nil || f.FriendlyName != "" {
			t.Fatalf("%v, %v", f, err)
		}
		if s.params[0] != nil {
			t.Errorf("enrollBegin with %x", s.params[0])
		}
		s.expectSent(1)
	}
	if list, err := key.EnumerateEnrollments(t.Context(), token); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	s.issuer.expect()
	token.Wipe()
	if _, err := key.EnrollFingerprint(t.Context(), &ctap2.EnrollFingerprintRequest{Token: token}); !errors.Is(err, ctap2.ErrInvalidRequest) {
		t.Errorf("with a wiped token: %v", err)
	}
}

// Whatever comes between the first sample and the last, the key is told to drop
// the finger; where it has begun none, it is not.
func TestEnrollFingerprintFails(t *testing.T) {
	good := sample(ctap2.SampleGood, 2)
	without := func(member int) members {
		m := maps.Clone(good)
		delete(m, member)
		m[0x77] = 1
		return m
	}
	endless := []members{sample(ctap2.SamplePoorQuality, 2)}
	for name, tt := range map[string]struct {
		samples   []members
		replies   map[byte][]byte
		want      error
		sent      []byte // but for the cancelCurrentEnrollment at the end
		cancelled bool
	}{
		"full": {nil, map[byte][]byte{1: {byte(ctap2.ErrFPDatabaseFull)}}, ctap2.ErrFPDatabaseFull, []byte{1}, false},
		"timeout in the middle": {[]members{good}, map[byte][]byte{2: {byte(ctap2.ErrUserActionTimeout)}},
			ctap2.ErrUserActionTimeout, []byte{1, 2, 2, 2, 2, 2}, true},
		"token gone in the middle": {[]members{good}, map[byte][]byte{2: {byte(ctap2.ErrPINAuthInvalid)}},
			ctap2.ErrPINAuthInvalid, []byte{1, 2}, true},
		"nobody comes": {[]members{sample(ctap2.SampleNoUserActivity, 2)}, nil, ctap2.ErrUserActionTimeout, []byte{1, 2, 2, 2, 2}, true},
		"nobody comes any more": {[]members{good, sample(ctap2.SampleNoUserActivity, 1)}, nil,
			ctap2.ErrUserActionTimeout, []byte{1, 2, 2, 2, 2, 2}, true},
		"never enough":           {endless, nil, ctap2.ErrMalformed, append([]byte{1}, bytes.Repeat([]byte{2}, 254)...), true},
		"absurdly many":          {[]members{sample(ctap2.SampleGood, 256)}, nil, ctap2.ErrMalformed, []byte{1}, true},
		"absurdly many, later":   {[]members{good, sample(ctap2.SampleGood, math.MaxInt)}, nil, ctap2.ErrMalformed, []byte{1, 2}, true},
		"no ID":                  {[]members{{4: []byte{}, 5: 0, 6: 2}}, nil, ctap2.ErrMalformed, []byte{1}, true},
		"ID a text":              {[]members{{4: "x", 5: 0, 6: 2}}, nil, ctap2.ErrMalformed, []byte{1}, true},
		"no status":              {[]members{without(5)}, nil, ctap2.ErrMalformed, []byte{1}, true},
		"no status, later":       {[]members{good, without(5)}, nil, ctap2.ErrMalformed, []byte{1, 2}, true},
		"no remaining":           {[]members{without(6)}, nil, ctap2.ErrMalformed, []byte{1}, true},
		"no remaining, later":    {[]members{good, without(6)}, nil, ctap2.ErrMalformed, []byte{1, 2}, true},
		"nothing, later":         {[]members{good}, map[byte][]byte{2: {0}}, ctap2.ErrMalformed, []byte{1, 2}, true},
		"null, later":            {[]members{good}, map[byte][]byte{2: {0, 0xf6}}, ctap2.ErrMalformed, []byte{1, 2}, true},
		"no bytes at all, later": {[]members{good}, map[byte][]byte{2: nil}, ctap2.ErrMalformed, []byte{1, 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSensor(t, pin.Two, false)
			if tt.samples != nil {
				s.samples = tt.samples
			}
			maps.Copy(s.replies, tt.replies)
			fingerprint, err := open(t, s, anyPIN()).EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest))
			if !errors.Is(err, tt.want) || fingerprint != nil {
				t.Errorf("%v, %v", fingerprint, err)
			}
			if tt.cancelled {
				tt.sent = append(tt.sent, 3)
			}
			s.expectSent(tt.sent...)
			s.issuer.expect(ctap.PermissionBioEnrollment)
		})
	}
}

// Another program makes a token while ours is on its way: before the first
// sample, another one is obtained, once.
func TestEnrollFingerprintStaleToken(t *testing.T) {
	for stale, want := range map[int]error{1: nil, 2: ctap2.ErrPINAuthInvalid} {
		s := newSensor(t, pin.Two, false)
		issue := s.canned.replies[ctap.CmdClientPIN]
		s.on(ctap.CmdClientPIN, func(message []byte) []byte {
			reply := issue(message)
			if n := len(s.issued); n > 0 && n <= stale {
				s.token = pin.NewSecret(bytes.Repeat([]byte{byte(n)}, 32))
			}
			return reply
		})
		_, err := open(t, s, anyPIN()).EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest))
		if want == nil && err != nil || !errors.Is(err, want) {
			t.Errorf("stale %d times: %v", stale, err)
		}
		s.issuer.expect(ctap.PermissionBioEnrollment, ctap.PermissionBioEnrollment)
		if want == nil {
			s.expectSent(1, 1, 2)
		} else {
			s.expectSent(1, 1)
		}
	}
}

// A caller who gives up, at the first sample or later, gets their own reason,
// and the key hears of it under a context that has an end of its own.
func TestEnrollFingerprintCancelled(t *testing.T) {
	reason := errors.New("changed my mind")
	for name, tt := range map[string]struct {
		at   byte // at the first of these subcommands
		sent []byte
	}{
		"at the first sample":  {1, []byte{1, 3}},
		"at the second":        {2, []byte{1, 2, 3}},
		"between both":         {0, []byte{1, 3}},
		"before the first one": {7, []byte{7}}, // nor is anybody asked for the PIN
	} {
		t.Run(name, func(t *testing.T) {
			s := newSensor(t, pin.Two, false)
			s.samples = []members{sample(ctap2.SampleGood, 5)}
			ctx, cancel := context.WithCancelCause(t.Context())
			s.before = func(subcommand byte) {
				if subcommand == tt.at {
					cancel(reason)
				}
			}
			key := open(t, s, ctap2.WithInteraction(ctap2.Interaction{
				PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
				Sample: func(ctap2.SampleFeedback) {
					if tt.at == 0 {
						cancel(reason)
					}
				},
			}))
			r := new(ctap2.EnrollFingerprintRequest)
			if tt.at == 7 {
				r.FriendlyName = "thumb"
			}
			fingerprint, err := key.EnrollFingerprint(ctx, r)
			if !errors.Is(err, reason) || fingerprint != nil {
				t.Errorf("%v, %v", fingerprint, err)
			}
			last := s.contexts[len(s.contexts)-1]
			if _, bounded := last.Deadline(); !bounded && tt.at != 7 {
				t.Error("the key may take for ever to drop the finger")
			}
			s.expectSent(tt.sent...)
		})
	}
}

// A finger that is enrolled is not lost: not when the caller gives up too late,
// and not when it cannot be named.
func TestEnrollFingerprintTooLateToFail(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	key := open(t, s, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
		Sample: func(f ctap2.SampleFeedback) {
			if f.Remaining == 0 {
				cancel(errors.New("too late"))
			}
		},
	}))
	f, err := key.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb"})
	if err != nil || f.FriendlyName != "thumb" {
		t.Errorf("cancelled after the last sample: %v, %v", f, err)
	}
	if last := s.contexts[len(s.contexts)-1]; last.Err() == nil { // it is over, now
		t.Error("the context of the name lives on")
	}
	s.expectSent(7, 1, 2, 5)

	s.samples = []members{sample(ctap2.SampleGood, 0)}
	s.replies[5] = []byte{byte(ctap2.ErrInvalidLength)}
	f, err = key.EnrollFingerprint(t.Context(), &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb"})
	if !errors.Is(err, ctap2.ErrInvalidLength) || f == nil || f.FriendlyName != "" || !bytes.Equal(f.TemplateID, templateID) {
		t.Errorf("no name: %v, %v", f, err)
	}
	s.expectSent(7, 1, 5)
}

// A name that will not do is refused before anyone puts a finger on the sensor.
func TestEnrollFingerprintRefused(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	key := open(t, s, anyPIN())
	enroll := func(r ctap2.EnrollFingerprintRequest, want error) {
		t.Helper()
		if f, err := key.EnrollFingerprint(t.Context(), &r); !errors.Is(err, want) || f != nil {
			t.Errorf("%+v: %v, %v", r, f, err)
		}
	}
	enroll(ctap2.EnrollFingerprintRequest{FriendlyName: strings.Repeat("x", 17)}, ctap2.ErrInvalidRequest)
	s.expectSent(7)
	enroll(ctap2.EnrollFingerprintRequest{FriendlyName: "\xff"}, ctap2.ErrInvalidRequest)
	enroll(ctap2.EnrollFingerprintRequest{Timeout: -1}, ctap2.ErrInvalidRequest)
	enroll(ctap2.EnrollFingerprintRequest{Timeout: 1 << 62}, ctap2.ErrInvalidRequest)
	s.expectSent()
	s.replies[7] = []byte{byte(ctap2.ErrOther)}
	enroll(ctap2.EnrollFingerprintRequest{FriendlyName: "x"}, ctap2.ErrOther)
	s.expectSent(7)
	s.issuer.expect()
}

// Whoever sets a key up is told what comes first.
func TestEnrollFingerprintWithoutPIN(t *testing.T) {
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVNotConfigured}, benchPIN)
	_, err := d.EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest))
	if !errors.Is(err, ctap2.ErrNotSetUp) || !strings.HasSuffix(err.Error(), ": set a PIN first") {
		t.Error(err)
	}
	// But not where a PIN would not do, whether it is set or not.
	for _, set := range []string{"", benchPIN} {
		d = sit(t, virtual.Config{PIN: set, NoMCGAPermissionsWithClientPIN: true}, benchPIN)
		request := registration()
		request.UserVerification = ctap2.Required
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrNotSetUp) || strings.Contains(err.Error(), "PIN") {
			t.Errorf("PIN %q: %v", set, err)
		}
	}
}

// A key that cannot be asked what to do with a finger is not asked.
func TestBioEnrollmentUnsupported(t *testing.T) {
	c := newCanned(t, basicInfo())
	key := open(t, c, anyPIN())
	ctx := t.Context()
	for name, err := range map[string]error{
		"GetModality":              second(key.GetModality(ctx)),
		"GetFingerprintSensorInfo": second(key.GetFingerprintSensorInfo(ctx)),
		"EnrollFingerprint":        second(key.EnrollFingerprint(ctx, new(ctap2.EnrollFingerprintRequest))),
		"EnumerateEnrollments":     second(key.EnumerateEnrollments(ctx, nil)),
		"SetFriendlyName":          key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: templateID}),
		"RemoveEnrollment":         key.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: templateID}),
	} {
		if !errors.Is(err, ctap2.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(c.messages) != 1 {
		t.Errorf("sent %x", c.messages)
	}
}

func second[T any](_ T, err error) error { return err }

func TestManageFingerprints(t *testing.T) {
	eachSensor(t, func(t *testing.T, s *sensor) {
		key := open(t, s, anyPIN())
		ctx := t.Context()
		list, err := key.EnumerateEnrollments(ctx, nil)
		if err != nil || len(list) != 2 || list[0].FriendlyName != "thumb" || !bytes.Equal(list[0].TemplateID, templateID) ||
			list[1].FriendlyName != "" || !bytes.Equal(list[1].TemplateID, []byte{1}) {
			t.Errorf("%+v, %v", list, err)
		}
		for name, empty := range map[string][]byte{"INVALID_OPTION": {byte(ctap2.ErrInvalidOption)}, "a list of none": ok(t, members{7: []int{}})} {
			s.replies[ctap.BioEnumerateEnrollments] = empty
			if list, err := key.EnumerateEnrollments(ctx, nil); err != nil || len(list) != 0 {
				t.Errorf("none enrolled, says %s: %v, %v", name, list, err)
			}
		}
		s.replies[ctap.BioEnumerateEnrollments] = []byte{byte(ctap2.ErrOther)}
		if _, err := key.EnumerateEnrollments(ctx, nil); !errors.Is(err, ctap2.ErrOther) {
			t.Error(err)
		}
		s.expectSent(4, 4, 4, 4)

		if err := key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: templateID, FriendlyName: "left"}); err != nil {
			t.Error(err)
		}
		if err := key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: templateID}); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(s.params[0], raw(t, "a2 01 43070809 02 64 6c656674")) || !bytes.Equal(s.params[1], raw(t, "a2 01 43070809 02 60")) {
			t.Errorf("names %x", s.params)
		}
		s.expectSent(5, 5)
		getInfos := func() (n int) {
			for _, m := range s.messages {
				if m[0] == ctap.CmdGetInfo {
					n++
				}
			}
			return n
		}
		before := getInfos()
		if err := key.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: templateID}); err != nil {
			t.Error(err)
		}
		s.replies[ctap.BioRemoveEnrollment] = []byte{byte(ctap2.ErrInvalidOption)}
		err = key.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: templateID})
		if !errors.Is(err, ctap2.ErrInvalidOption) || !strings.Contains(err.Error(), "removeEnrollment: the key does not know this fingerprint (INVALID_OPTION)") {
			t.Errorf("one that is not there: %v", err)
		}
		if !bytes.Equal(s.params[0], raw(t, "a1 01 43070809")) {
			t.Errorf("%x", s.params[0])
		}
		if n := getInfos() - before; n != 1 {
			t.Errorf("the Info was fetched %d times after a finger was removed", n)
		}
		s.expectSent(6, 6)

		for status, text := range map[ctap2.Status]string{
			ctap2.ErrInvalidOption: "setFriendlyName: the key does not know this fingerprint (INVALID_OPTION)",
			ctap2.ErrInvalidLength: "setFriendlyName: the name of 4 bytes is too long for the key (INVALID_LENGTH)",
			ctap2.ErrOther:         "setFriendlyName: OTHER: ",
		} {
			s.replies[ctap.BioSetFriendlyName] = []byte{byte(status)}
			err := key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: templateID, FriendlyName: "left"})
			if !errors.Is(err, status) || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, want %q", err, text)
			}
			s.expectSent(5)
		}

		for name, err := range map[string]error{
			"no ID to name":   key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{FriendlyName: "x"}),
			"a broken name":   key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: templateID, FriendlyName: "\xff"}),
			"no ID to remove": key.RemoveEnrollment(ctx, new(ctap2.RemoveEnrollmentRequest)),
		} {
			if !errors.Is(err, ctap2.ErrInvalidRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.expectSent()
	})
}

func TestFingerprintSensor(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	key := open(t, s)
	info, err := key.GetFingerprintSensorInfo(t.Context())
	if err != nil || *info != (ctap2.FingerprintSensorInfo{Kind: ctap2.FingerprintSwipe, MaxCaptureSamplesRequiredForEnroll: 12, MaxTemplateFriendlyName: 16}) {
		t.Errorf("%+v, %v", info, err)
	}
	s.expectSent(7)
	s.replies[7] = ok(t, members{1: 1, 2: 1, 3: 4}) // as keys of before 2.1 have it
	if info, err := key.GetFingerprintSensorInfo(t.Context()); err != nil || info.MaxTemplateFriendlyName != 0 {
		t.Errorf("%+v, %v", info, err)
	}

	c := newCanned(t, members{1: []string{"FIDO_2_1"}, 3: make([]byte, 16), 4: map[string]bool{"bioEnroll": true}})
	var sent []byte
	reply := ok(t, members{1: 1})
	c.on(ctap.CmdBioEnrollment, func(message []byte) []byte {
		sent = message
		return reply
	})
	key = open(t, c)
	if m, err := key.GetModality(t.Context()); err != nil || m != ctap2.ModalityFingerprint || !bytes.Equal(sent, raw(t, "09 a1 06 f5")) {
		t.Errorf("%v, %v; sent %x", m, err, sent)
	}
	reply = ok(t, members{2: 1})
	if _, err := key.GetModality(t.Context()); !errors.Is(err, ctap2.ErrMalformed) {
		t.Errorf("no modality: %v", err)
	}
	reply = []byte{byte(ctap2.ErrInvalidCommand)}
	if _, err := key.GetModality(t.Context()); !errors.Is(err, ctap2.ErrInvalidCommand) {
		t.Error(err)
	}
}

// Quirk 24 for the replies about fingers.
func TestQuirk24BioEnrollment(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	key := open(t, s, anyPIN())
	for _, tt := range []struct {
		subcommand byte
		good       members
		optional   int
		do         func() error
	}{
		{ctap.BioGetFingerprintSensorInfo, members{1: 1, 2: 1, 3: 5, 8: 20}, 8, func() error { return second(key.GetFingerprintSensorInfo(t.Context())) }},
		{ctap.BioEnumerateEnrollments, members{7: []members{{1: templateID}}}, 0, func() error { return second(key.EnumerateEnrollments(t.Context(), nil)) }},
	} {
		s.replies[tt.subcommand] = ok(t, tt.good)
		if err := tt.do(); err != nil {
			t.Errorf("subcommand %d, as it should be: %v", tt.subcommand, err)
		}
		refuse := func(what string, reply []byte) {
			t.Helper()
			s.replies[tt.subcommand] = reply
			if err := tt.do(); !errors.Is(err, ctap2.ErrMalformed) {
				t.Errorf("subcommand %d, %s: %v", tt.subcommand, what, err)
			}
		}
		refuse("status alone", []byte{0})
		refuse("null", []byte{0, 0xf6})
		refuse("empty map", []byte{0, 0xa0})
		refuse("array", []byte{0, 0x80})
		refuse("trailing byte", append(ok(t, tt.good), 0))
		for member := range tt.good {
			for what, v := range map[string]any{"null": nil, "boolean": true, "text": "x", "array of numbers": []int{1}, "negative": -1} {
				spoiled := maps.Clone(tt.good)
				spoiled[member] = v
				refuse(what, ok(t, spoiled))
			}
			if member == tt.optional || member == 1 { // the modality was said in the request
				continue
			}
			spoiled := maps.Clone(tt.good)
			delete(spoiled, member)
			spoiled[0x77] = 1
			refuse("a member missing", ok(t, spoiled))
		}
	}
	for what, infos := range map[string]any{
		"no ID":     []members{{2: "thumb"}},
		"empty ID":  []members{{1: []byte{}}},
		"text ID":   []members{{1: "x"}},
		"name data": []members{{1: []byte{1}, 2: []byte{2}}},
	} {
		s.replies[ctap.BioEnumerateEnrollments] = ok(t, members{7: infos})
		if _, err := key.EnumerateEnrollments(t.Context(), nil); !errors.Is(err, ctap2.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Every status says something of its own to a person; one without a name says
// its number.
func TestSampleStatus(t *testing.T) {
	texts := map[string]ctap2.SampleStatus{}
	for s := ctap2.SampleGood; s <= ctap2.SampleNoUserPresenceChange+1; s++ {
		if other, twice := texts[s.String()]; twice || s.String() == "" {
			t.Errorf("%d and %d say %q", s, other, s)
		}
		texts[s.String()] = s
		unnamed := s == 0x0C || s > ctap2.SampleNoUserPresenceChange
		if unnamed != strings.Contains(s.String(), "0x") {
			t.Errorf("%d says %q", s, s)
		}
	}
}

// eachReader runs a test with a key that has a fingerprint reader and a PIN: one
// of each PIN/UV auth protocol, and one with the preview of the command.
func eachReader(t *testing.T, test func(t *testing.T, config virtual.Config)) {
	t.Helper()
	each(t, func(t *testing.T, config virtual.Config) {
		config.BuiltInUV, config.PIN = virtual.UVNotConfigured, benchPIN
		test(t, config)
	})
	t.Run("preview", func(t *testing.T) {
		test(t, virtual.Config{Level: virtual.CTAP21PRE, BuiltInUV: virtual.UVNotConfigured, PIN: benchPIN})
	})
}

// The life of a finger: enrolled with the PIN, named, used, removed.
func TestFingerprintsOnAKey(t *testing.T) {
	eachReader(t, func(t *testing.T, config virtual.Config) {
		config.Fingerprints = 2
		config.Finger = virtual.Samples(virtual.SampleGood, virtual.SampleTooSkewed, virtual.SampleNoUserActivity)
		d := sit(t, config, benchPIN)
		ctx := t.Context()
		if list, err := d.EnumerateEnrollments(ctx, nil); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
		if m, err := d.GetModality(ctx); err != nil || m != ctap2.ModalityFingerprint {
			t.Errorf("%v, %v", m, err)
		}
		info, err := d.GetFingerprintSensorInfo(ctx)
		if err != nil || info.Kind != ctap2.FingerprintTouch || info.MaxCaptureSamplesRequiredForEnroll == 0 || info.MaxTemplateFriendlyName == 0 {
			t.Fatalf("%+v, %v", info, err)
		}
		thumb, err := d.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb", Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(d.touches); n != info.MaxCaptureSamplesRequiredForEnroll+2 || d.ended != n {
			t.Errorf("%d touches, %d ended", n, d.ended)
		}
		other, err := d.EnrollFingerprint(ctx, new(ctap2.EnrollFingerprintRequest))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.EnrollFingerprint(ctx, new(ctap2.EnrollFingerprintRequest)); !errors.Is(err, ctap2.ErrFPDatabaseFull) {
			t.Errorf("a third one: %v", err)
		}
		rename := &ctap2.SetFriendlyNameRequest{TemplateID: other.TemplateID, FriendlyName: "index"}
		if err := d.SetFriendlyName(ctx, rename); err != nil {
			t.Error(err)
		}
		list, err := d.EnumerateEnrollments(ctx, nil)
		if err != nil || len(list) != 2 || list[0].FriendlyName != "thumb" || !bytes.Equal(list[0].TemplateID, thumb.TemplateID) || list[1].FriendlyName != "index" {
			t.Errorf("%+v, %v", list, err)
		}
		rename.FriendlyName = strings.Repeat("x", info.MaxTemplateFriendlyName+1)
		if err := d.SetFriendlyName(ctx, rename); !errors.Is(err, ctap2.ErrInvalidLength) {
			t.Errorf("a name that is too long: %v", err)
		}
		rename.TemplateID, rename.FriendlyName = []byte{1}, "x"
		if err := d.SetFriendlyName(ctx, rename); !errors.Is(err, ctap2.ErrInvalidOption) {
			t.Errorf("a name for nobody: %v", err)
		}
		if len(d.asked) != 1 {
			t.Errorf("asked for the PIN %d times", len(d.asked))
		}

		// The finger now does what the PIN did.
		d.Forget()
		d.asked = nil
		if uv := d.register(resident, mcUV(ctap2.Required)); !uv.AuthData.Flags.Has(ctap2.FlagUserVerified) || len(d.asked) != 0 {
			t.Errorf("%v, asked for the PIN %d times", uv.AuthData.Flags, len(d.asked))
		}
		for _, f := range list {
			if err := d.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: f.TemplateID}); err != nil {
				t.Error(err)
			}
		}
		if err := d.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: thumb.TemplateID}); !errors.Is(err, ctap2.ErrInvalidOption) {
			t.Errorf("removed twice: %v", err)
		}
		d.Forget()
		d.asked = nil
		d.register(resident, mcUV(ctap2.Required))
		if len(d.asked) != 1 {
			t.Errorf("without a finger, asked for the PIN %d times", len(d.asked))
		}
	})
}

// Permission be by finger takes the option uvBioEnroll; without it, the PIN is
// asked for though a finger is there.
func TestEnrollFingerprintByFinger(t *testing.T) {
	for without, prompts := range map[bool]int{false: 0, true: 1} {
		each(t, func(t *testing.T, config virtual.Config) {
			config.BuiltInUV, config.PIN, config.NoUVBioEnroll = virtual.UVConfigured, benchPIN, without
			d := sit(t, config, benchPIN)
			if _, err := d.EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest)); err != nil {
				t.Error(err)
			}
			if len(d.asked) != prompts {
				t.Errorf("without uvBioEnroll %v: asked for the PIN %d times", without, len(d.asked))
			}
		})
	}
	d := sit(t, virtual.Config{BuiltInUV: virtual.UVNotConfigured})
	if _, err := d.EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest)); !errors.Is(err, ctap2.ErrNotSetUp) {
		t.Errorf("neither PIN nor finger: %v", err)
	}
}

// unfinished reports whether the key is in the middle of an enrollment of the
// template. It asks for another sample of it.
func unfinished(t *testing.T, key *ctap2.Authenticator, template []byte) bool {
	t.Helper()
	token, err := key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Wipe()
	params, err := cbor.Marshal(members{1: template})
	if err != nil {
		t.Fatal(err)
	}
	request, err := cbor.Marshal(members{1: 1, 2: ctap.BioEnrollCaptureNextSample, 3: cbor.RawMessage(params), 4: int(token.Protocol()),
		5: token.Authenticate([]byte{1, ctap.BioEnrollCaptureNextSample}, params)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = key.Command(t.Context(), ctap.CmdBioEnrollment, request)
	if err != nil && !errors.Is(err, ctap2.ErrInvalidOption) {
		t.Fatal(err)
	}
	return err == nil
}

// Giving up before and after every report of an enrollment: back within a
// bound, and never half a finger left in the key; also where it does not listen
// while it waits for one.
func TestCancelEnrollmentAtEveryStep(t *testing.T) {
	finger := func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
		timer := time.NewTimer(150 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return virtual.SampleGood
		case <-ctx.Done():
			return virtual.SampleNoUserActivity
		}
	}
	config := virtual.Config{BuiltInUV: virtual.UVNotConfigured, FingerprintSamples: 3, Finger: finger}
	var begun []byte // the template that was begun, as the person heard of it
	enroll := func(ctx context.Context, key *ctap2.Authenticator) (*ctap2.Fingerprint, error) {
		return key.EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb"})
	}
	bench := func(t *testing.T, faults virtual.USBFaults) *bench {
		b := newBench(t, config, virtual.USBFaults{})
		b.Authenticator = open(t, b.Transport(), ctap2.WithInteraction(ctap2.Interaction{
			PIN:    func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
			Sample: func(f ctap2.SampleFeedback) { begun = f.TemplateID },
		}))
		b.cable.steps = 0
		b.usb.SetFaults(faults)
		begun = nil
		return b
	}
	for name, faults := range map[string]virtual.USBFaults{
		"obeys":          {},
		"ignores CANCEL": {IgnoreCancel: true},
		"answers late":   {LateAnswers: true},
	} {
		t.Run(name, func(t *testing.T) {
			steps, cancelled, done := 0, 0, 0
			synctest.Test(t, func(t *testing.T) {
				b := bench(t, virtual.USBFaults{})
				if _, err := enroll(t.Context(), b.Authenticator); err != nil {
					t.Fatal(err)
				}
				steps = b.cable.steps
			})
			for at := range steps {
				synctest.Test(t, func(t *testing.T) {
					b := bench(t, faults)
					ctx, cancel := context.WithCancelCause(t.Context())
					reason := errors.New("changed my mind")
					var since time.Time
					b.cable.step = func(step int) {
						if step == at {
							since = time.Now()
							cancel(reason)
						}
					}
					fingerprint, err := enroll(ctx, b.Authenticator)
					if took := time.Since(since); took > 2*hid.CancelTimeout+2*time.Second {
						t.Errorf("step %d: back after %v", at, took)
					}
					b.cable.step = nil
					b.usb.SetFaults(virtual.USBFaults{})
					list, listErr := b.EnumerateEnrollments(t.Context(), nil)
					if listErr != nil {
						t.Fatalf("step %d: %v", at, listErr)
					}
					switch {
					case err == nil:
						done++
						if len(list) != 1 || list[0].FriendlyName != "thumb" || !bytes.Equal(list[0].TemplateID, fingerprint.TemplateID) {
							t.Errorf("step %d: enrolled, and there is %v", at, list)
						}
					case errors.Is(err, reason):
						cancelled++
						if begun != nil && unfinished(t, b.Authenticator, begun) {
							t.Errorf("step %d: the key goes on with the enrollment", at)
						}
						if len(list) != 0 && name == "obeys" {
							t.Errorf("step %d: cancelled, and there is %v", at, list)
						}
					default:
						t.Errorf("step %d: %v", at, err)
					}
				})
			}
			if cancelled == 0 || name == "obeys" && done == 0 {
				t.Errorf("of %d cancellations, %d cancelled and %d came too late", steps, cancelled, done)
			}
		})
	}
}

// Some keys end the token with the enrollment: the name goes under another one,
// once, but not where the token is the caller's.
func TestEnrollFingerprintNamedUnderAnotherToken(t *testing.T) {
	for name, tt := range map[string]struct {
		held   bool
		dead   int // how many tokens are dead when the name comes
		sent   []byte
		tokens int
		want   error
	}{
		"ours":               {false, 1, []byte{7, 1, 2, 5, 5}, 2, nil},
		"ours, and the next": {false, 2, []byte{7, 1, 2, 5, 5}, 2, ctap2.ErrPINAuthInvalid},
		"the caller's":       {true, 1, []byte{7, 1, 2, 5}, 1, ctap2.ErrPINAuthInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSensor(t, pin.Two, false)
			key := open(t, s, anyPIN())
			r := &ctap2.EnrollFingerprintRequest{FriendlyName: "thumb"}
			if tt.held {
				var err error
				if r.Token, err = key.Token(t.Context(), &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment}); err != nil {
					t.Fatal(err)
				}
			}
			s.before = func(subcommand byte) {
				if subcommand == ctap.BioEnrollCaptureNextSample {
					s.token = pin.NewSecret(bytes.Repeat([]byte{1}, 32))
				}
			}
			issue := s.canned.replies[ctap.CmdClientPIN]
			s.on(ctap.CmdClientPIN, func(message []byte) []byte {
				reply := issue(message)
				if n := len(s.issued); n > 1 && n <= tt.dead {
					s.token = pin.NewSecret(bytes.Repeat([]byte{byte(n)}, 32))
				}
				return reply
			})
			f, err := key.EnrollFingerprint(t.Context(), r)
			if !errors.Is(err, tt.want) || f == nil || !bytes.Equal(f.TemplateID, templateID) || (f.FriendlyName == "thumb") != (err == nil) {
				t.Errorf("%+v, %v", f, err)
			}
			s.expectSent(tt.sent...)
			if len(s.issued) != tt.tokens {
				t.Errorf("%d tokens", len(s.issued))
			}
		})
	}
}

// In the preview of the command, a sample says that there is no room.
func TestEnrollFingerprintPreviewFull(t *testing.T) {
	const full = 0x0C
	for _, tt := range []struct {
		preview bool
		samples []members
		sent    []byte
		want    error
	}{
		{true, []members{sample(full, 5)}, []byte{1, 3}, ctap2.ErrFPDatabaseFull},
		{true, []members{sample(ctap2.SampleGood, 2), sample(full, 1)}, []byte{1, 2, 3}, ctap2.ErrFPDatabaseFull},
		{false, []members{sample(full, 1), sample(ctap2.SampleGood, 0)}, []byte{1, 2}, nil},
	} {
		s := newSensor(t, pin.One, tt.preview)
		s.samples = tt.samples
		f, err := open(t, s, anyPIN()).EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest))
		if !errors.Is(err, tt.want) || (f == nil) != (tt.want != nil) {
			t.Errorf("%+v: %v, %v", tt.samples, f, err)
		}
		s.expectSent(tt.sent...)
	}
}

// That nobody came is said by a sample or by a status; four times in a row is no
// reason to give up, also if it happens again.
func TestEnrollFingerprintIdle(t *testing.T) {
	s := newSensor(t, pin.Two, false)
	idle := sample(ctap2.SampleNoUserActivity, 1)
	s.samples = []members{sample(ctap2.SampleGood, 1), idle, idle, idle, idle, sample(ctap2.SampleTooFast, 1),
		idle, idle, sample(ctap2.SampleGood, 0)}
	timeouts := 0
	s.before = func(byte) {
		delete(s.replies, ctap.BioEnrollCaptureNextSample)
		if n := len(s.sent); n > 6 && n <= 8 { // the first two after the one that was too fast
			timeouts++
			s.replies[ctap.BioEnrollCaptureNextSample] = []byte{byte(ctap2.ErrUserActionTimeout)}
		}
	}
	var heard []ctap2.SampleStatus
	key := open(t, s, ctap2.WithInteraction(ctap2.Interaction{
		PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(benchPIN), nil },
		Sample: func(f ctap2.SampleFeedback) {
			if heard = append(heard, f.Status); f.Status != ctap2.SampleGood && f.Remaining != 1 {
				t.Errorf("%+v", f)
			}
		},
	}))
	if _, err := key.EnrollFingerprint(t.Context(), new(ctap2.EnrollFingerprintRequest)); err != nil {
		t.Error(err)
	}
	s.expectSent(1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
	const none = ctap2.SampleNoUserActivity
	want := []ctap2.SampleStatus{0, none, none, none, none, ctap2.SampleTooFast, none, none, none, none, 0}
	if !slices.Equal(heard, want) || timeouts != 2 {
		t.Errorf("heard %v, want %v", heard, want)
	}
}

// What is said regardless of the caller is bounded: dropping a finger from the
// start, naming it from when the caller gave up.
func TestEnrollFingerprintGrace(t *testing.T) {
	const grace = 2 * time.Second
	reason := errors.New("changed my mind")
	enroll := func(ctx context.Context, t *testing.T, at func(subcommand byte, ctx context.Context)) error {
		s := newSensor(t, pin.Two, false)
		s.before = func(subcommand byte) { at(subcommand, s.contexts[len(s.contexts)-1]) }
		_, err := open(t, s, anyPIN()).EnrollFingerprint(ctx, &ctap2.EnrollFingerprintRequest{FriendlyName: "x"})
		return err
	}
	synctest.Test(t, func(t *testing.T) { // the caller waits
		if err := enroll(t.Context(), t, func(subcommand byte, ctx context.Context) {
			if time.Sleep(10 * grace); subcommand == ctap.BioSetFriendlyName && ctx.Err() != nil {
				t.Errorf("naming ends after %v: %v", 10*grace, ctx.Err())
			}
		}); err != nil {
			t.Error(err)
		}
	})
	for _, last := range []byte{ctap.BioEnrollCaptureNextSample, ctap.BioSetFriendlyName, ctap.BioEnrollBegin} {
		synctest.Test(t, func(t *testing.T) {
			caller, cancel := context.WithCancelCause(t.Context())
			reached := false
			_ = enroll(caller, t, func(subcommand byte, ctx context.Context) {
				if time.Sleep(10 * grace); subcommand == last {
					cancel(reason)
				}
				if subcommand != ctap.BioSetFriendlyName && subcommand != ctap.BioCancelCurrentEnrollment {
					return
				}
				since := time.Now()
				<-ctx.Done()
				if reached = true; subcommand == ctap.BioCancelCurrentEnrollment { // its time began before the pause
					if deadline, bounded := ctx.Deadline(); !bounded || !deadline.Equal(since.Add(-9*grace)) {
						t.Errorf("dropping the finger ends at %v, now it is %v", deadline, since)
					}
				} else if took := time.Since(since); took != grace || context.Cause(ctx) != reason {
					t.Errorf("naming ends after %v: %v", took, context.Cause(ctx))
				}
			})
			if !reached {
				t.Error("nothing was said to the key")
			}
		})
	}
}

// A key that says little of its sensor names fingers all the same.
func TestEnrollFingerprintNamedWithoutLimit(t *testing.T) {
	for name, reply := range map[string][]byte{
		"no kind":            ok(t, members{1: 1, 3: 5}),
		"no samples":         ok(t, members{1: 1, 2: 1}),
		"no limit":           ok(t, members{1: 1, 2: 1, 3: 5}),
		"unknown subcommand": {byte(ctap2.ErrInvalidSubcommand)},
		"absurd samples":     ok(t, members{1: 1, 2: 1, 3: 300}),
	} {
		s := newSensor(t, pin.Two, false)
		s.replies[ctap.BioGetFingerprintSensorInfo] = reply
		f, err := open(t, s, anyPIN()).EnrollFingerprint(t.Context(), &ctap2.EnrollFingerprintRequest{FriendlyName: strings.Repeat("x", 60)})
		if err != nil || len(f.FriendlyName) != 60 {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		s.expectSent(7, 1, 2, 5)
	}
}
