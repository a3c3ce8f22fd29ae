package ctap2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/vectors"
)

func play(t testing.TB, recording string) ctap2.Transport {
	t.Helper()
	player, err := ctap2.Play(strings.NewReader(recording))
	if err != nil {
		t.Fatal(err)
	}
	return player
}

// replay plays a recording of testdata.
func replay(t testing.TB, name string) ctap2.Transport {
	t.Helper()
	recording, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return play(t, string(recording))
}

// public is what of a session is no secret, and the same whenever it is played.
func public(s *session) map[string]any {
	info, a, stored := *s.info, s.accounts[0], s.stored[0]
	info.EncIdentifier, info.EncCredStoreState, info.Raw = nil, nil, nil // with bytes overwritten
	return map[string]any{
		"info": info, "accounts": len(s.accounts), "stored credentials": len(s.stored),
		"credential":    []any{s.made.ID, s.made.PublicKey, s.made.AuthData, s.made.AttestationStatement, s.made.LargeBlobKey.Len()},
		"assertion":     []any{a.Credential, a.AuthData.Flags, a.AuthData.SignCount, a.Signature, a.LargeBlobKey.Len()},
		"user":          []int{len(a.User.ID), len(a.User.Name), len(a.User.DisplayName)},
		"outputs":       []int{s.outputs.Output1.Len(), s.outputs.Output2.Len()},
		"stored":        []any{stored.RP, stored.Credential, stored.PublicKey, stored.CredProtect, stored.LargeBlobKey.Len()},
		"stored's user": []int{len(stored.User.ID), len(stored.User.Name), len(stored.User.DisplayName)},
	}
}

// Without anything to write to, nothing is recorded.
func TestRecordNothing(t *testing.T) {
	key := newCanned(t, basicInfo())
	if got := ctap2.Record(key, nil); got != ctap2.Transport(key) {
		t.Errorf("%T", got)
	}
}

// A recording has the same results as the session had, whatever key, PIN and
// account it is played with, and is the same when it is recorded again, but for
// the platform's keys.
func TestRecordAndPlay(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		soft, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		usb := soft.PlugIn(virtual.USBConfig{})
		defer usb.Unplug()
		conn, err := usb.Open()
		if err != nil {
			t.Fatal(err)
		}
		device, err := hid.New(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		var recording, again bytes.Buffer
		then, err := run(t.Context(), ctap2.Record(device, &recording), manage)
		if err != nil {
			t.Fatal(err)
		}
		now, err := run(t.Context(), ctap2.Record(play(t, recording.String()), &again), manage)
		if err != nil {
			t.Fatal(err)
		}
		played := public(now)
		for name, v := range public(then) {
			if !reflect.DeepEqual(v, played[name]) {
				t.Errorf("%s: then %+v\nnow %+v", name, v, played[name])
			}
		}
		if then.read != nil || !errors.Is(now.read, ctap2.ErrNoLargeBlob) {
			t.Errorf("large blob: %v, %v", then.read, now.read)
		}
		if err := now.accounts[0].Verify(now.made.PublicKey, clientDataHash[:]); !errors.Is(err, cose.ErrSignature) {
			t.Errorf("signed data with the output of hmac-secret overwritten: %v", err)
		}
		if _, err := run(t.Context(), play(t, again.String()), manage); err != nil {
			t.Errorf("second generation: %v", err)
		}
	})
}

// A recording of a key that signs for another relying party than it was asked
// for, and the test that it makes.
func TestPlayWrongRPIDHash(t *testing.T) {
	const recording = "testdata/wrong-rp-id-hash.jsonl"
	misbehave := func(transport ctap2.Transport) error {
		key := open(t, transport)
		defer key.Close()
		_, err := key.MakeCredential(t.Context(), registration())
		return err
	}
	if *update {
		soft, err := virtual.New(virtual.Config{Faults: virtual.WrongRPIDHash | virtual.KeysOutOfOrder | virtual.UnknownMembers})
		if err != nil {
			t.Fatal(err)
		}
		defer soft.Close()
		var file bytes.Buffer
		if err := misbehave(ctap2.Record(soft, &file)); err == nil {
			t.Fatal("no misbehaviour")
		}
		if err := os.WriteFile(recording, file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	key := open(t, replay(t, recording))
	_, err := key.MakeCredential(t.Context(), registration())
	if !errors.Is(err, ctap2.ErrMalformed) || !strings.Contains(fmt.Sprint(err), "another RP ID") {
		t.Error(err)
	}
}

// What is no reply at all is recorded and played, too.
func TestRecordErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind string
	}{
		{fmt.Errorf("hid: %w: no such device", ctap2.ErrDeviceGone), "device gone"},
		{ctap2.ErrClosed, "device closed"},
		{ctap2.ErrMessageTooLarge, "message too large"},
		{ctap2.ErrNoAnswer, "device does not answer"},
		{ctap2.ErrUnsupported, "not supported"},
		{context.Canceled, "context canceled"},
		{fmt.Errorf("hid: %w", context.DeadlineExceeded), "context deadline exceeded"},
		{hid.ErrFraming, "other"},
	} {
		var recording bytes.Buffer
		key := &lone{err: tt.err, keepalives: []byte{1, 1, 2}}
		if _, err := ctap2.Record(key, &recording).Exchange(t.Context(), []byte{0x0B}, func(byte) {}); err != tt.err {
			t.Errorf("%v became %v", tt.err, err)
		}
		want := fmt.Sprintf(`{"recording":"ctap2","version":1}`+"\n"+
			`{"ctap":"authenticatorSelection","request":"0b","keepalives":"0102","error":"%s","detail":"%v"}`+"\n", tt.kind, tt.err)
		if recording.String() != want {
			t.Errorf("recorded\n%s\nwant\n%s", recording.String(), want)
		}
		var heard []byte
		_, err := play(t, recording.String()).Exchange(t.Context(), []byte{0x0B}, func(b byte) { heard = append(heard, b) })
		if err == nil || err.Error() != tt.err.Error() || !bytes.Equal(heard, []byte{1, 2}) {
			t.Errorf("%v was played as %v after %x", tt.err, err, heard)
		}
		for _, kind := range []error{ctap2.ErrDeviceGone, ctap2.ErrClosed, ctap2.ErrMessageTooLarge, ctap2.ErrNoAnswer, ctap2.ErrUnsupported, context.Canceled, context.DeadlineExceeded} {
			if errors.Is(err, kind) != errors.Is(tt.err, kind) {
				t.Errorf("%v was played as %v: is %v", tt.err, err, kind)
			}
		}
	}
}

// What the client refuses of a reply it refuses of the recorded one, although
// that has no secrets any longer.
func TestRecordMalformedReplies(t *testing.T) {
	for _, reply := range []string{
		"", "00", "00 f6", "00 a0", "00 ff", "00 bf 02 41a5 ff", "00 a1 02 41a5 a5a5", "00 a2 02 41a5 02 41a5", "00 a1 02 58ffa5", "00 a1 02 1c", "00 a1 02 80",
		"00" + strings.Repeat("81", 40) + "00", "31 a1 02 41a5", "77",
	} {
		t.Run(reply, func(t *testing.T) {
			var recording bytes.Buffer
			key := newCanned(t, members{1: []string{"FIDO_2_0"}, 3: make([]byte, 16), 4: map[string]bool{"clientPin": true}})
			key.on(0x06, func([]byte) []byte { return raw(t, reply) })
			_, then := open(t, ctap2.Record(key, &recording)).PINRetries(t.Context())
			_, now := open(t, play(t, recording.String())).PINRetries(t.Context())
			if then == nil || now == nil || then.Error() != now.Error() {
				t.Errorf("then %v\nnow %v", then, now)
			}
			if strings.Contains(recording.String(), "a5") {
				t.Errorf("a secret: %s", recording.String())
			}
		})
	}
}

// A recording shows what a trace shows, and hides what it hides. The digest of a
// large-blob array is that of the overwritten one.
func TestRecordNotation(t *testing.T) {
	for _, tt := range notations(t) {
		var recording bytes.Buffer
		transport := ctap2.Record(&lone{reply: tt.reply}, &recording)
		if _, err := transport.Exchange(t.Context(), tt.message, nil); err != nil {
			t.Error(err)
		}
		if strings.Contains(recording.String(), "a5a5") || strings.Contains(recording.String(), fmt.Sprintf("%x", secretName)) {
			t.Errorf("%s: a secret: %s", tt.name, recording.String())
		}
		// A Transport that was played says the same in a trace.
		s := newSheet()
		reply, err := ctap2.Trace(play(t, recording.String()), slog.New(s)).Exchange(t.Context(), tt.message, nil)
		if err != nil || len(reply) != len(tt.reply) {
			t.Errorf("%s: %x, %v", tt.name, reply, err)
		}
		if tt.name != "largeBlobs" && len(tt.reply) > 0 && s.last(t)["reply"] != tt.answer {
			t.Errorf("%s: %s\nwant\n%s", tt.name, s.last(t)["reply"], tt.answer)
		}
		if tt.name == "largeBlobs" && !strings.HasPrefix(s.last(t)["reply"], tt.answer[:80]) {
			t.Errorf("the array is no array any longer: %s", s.last(t)["reply"])
		}
	}
}

// U2F keys, too.
func TestRecordU2F(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOldKey(t)
		use := func(transport ctap2.Transport) (*ctap2.Credential, []*ctap2.Assertion) {
			old.untouched = 2
			key := open(t, transport)
			credential, err := key.MakeCredential(t.Context(), registration())
			if err != nil {
				t.Fatal(err)
			}
			request := signIn()
			allow([]byte("another"), credential.ID)(request)
			accounts, err := key.GetAssertion(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, accounts[0], credential)
			return credential, accounts
		}
		var recording bytes.Buffer
		made, accounts := use(ctap2.Record(old, &recording))
		madeAgain, accountsAgain := use(play(t, recording.String()))
		if !bytes.Equal(made.ID, madeAgain.ID) || !bytes.Equal(accounts[0].Signature, accountsAgain[0].Signature) {
			t.Error("not the same")
		}
		if !strings.Contains(recording.String(), `{"u2f":"U2F_VERSION","request":"00030000000000","reply":"5532465f56329000"}`) {
			t.Error(recording.String())
		}

		_, err := play(t, recording.String()).(ctap2.Messenger).Msg(t.Context(), []byte{0, 1, 0, 0, 0, 0, 0})
		if !errors.Is(err, ctap2.ErrNotRecorded) {
			t.Error(err)
		}
	})

	var recording bytes.Buffer
	key := &loneMessenger{lone{reply: raw(t, "a5a5a5 9000")}}
	if _, err := ctap2.Record(key, &recording).(ctap2.Messenger).Msg(t.Context(), raw(t, "00400000 a5a5")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(recording.String(), `{"u2f":"U2F instruction 0x40","request":"004000000000","reply":"0000009000"}`) {
		t.Error(recording.String())
	}
	key.err = ctap2.ErrDeviceGone
	if _, err := ctap2.Record(key, io.Discard).(ctap2.Messenger).Msg(t.Context(), []byte{0}); !errors.Is(err, ctap2.ErrDeviceGone) {
		t.Error(err)
	}
	player := play(t, recording.String()).(ctap2.Messenger)
	if _, err := player.Msg(t.Context(), []byte{0}); !errors.Is(err, ctap2.ErrNotRecorded) {
		t.Error(err)
	}
	if reply, err := player.Msg(t.Context(), raw(t, "00400000 0102030405")); err != nil || len(reply) != 5 {
		t.Errorf("%x, %v", reply, err)
	}
}

// Only what was recorded comes next, and the error says what that is.
func TestPlayRefusesOthers(t *testing.T) {
	encode := func(command byte, parameters any) []byte { return append([]byte{command}, ok(t, parameters)[1:]...) }
	request := func(change ...func(members)) []byte {
		p := members{1: clientDataHash[:], 2: map[string]any{"id": "example.com"}, 3: map[string]any{"id": []byte{1}, "name": "ada"},
			4: []any{map[string]any{"alg": -7, "type": "public-key"}}, 5: []any{map[string]any{"id": []byte{1, 2}}},
			6: map[string]any{"hmac-secret-mc": members{1: members{1: 2, 3: -25, -1: 1, -2: fill(32), -3: fill(32)}, 2: fill(48), 3: fill(32), 4: 2}},
			7: map[string]any{"rk": true}, 8: fill(32), 9: 2}
		for _, f := range change {
			f(p)
		}
		return encode(0x01, p)
	}
	var recording bytes.Buffer
	recorder := ctap2.Record(&lone{reply: []byte{0}}, &recording)
	for _, message := range [][]byte{request(), encode(0x0A, members{1: 2}), {0x50, 0xFF}} {
		if _, err := recorder.Exchange(t.Context(), message, nil); err != nil {
			t.Fatal(err)
		}
	}
	player := play(t, recording.String())
	refuse := func(message []byte, says ...string) {
		t.Helper()
		reply, err := player.Exchange(t.Context(), message, nil)
		if !errors.Is(err, ctap2.ErrNotRecorded) || reply != nil {
			t.Errorf("%x: %x, %v", message, reply, err)
			return
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%v does not say %s", err, s)
			}
		}
	}
	accept := func(message []byte) {
		t.Helper()
		if reply, err := player.Exchange(t.Context(), message, nil); err != nil || !bytes.Equal(reply, []byte{0}) {
			t.Errorf("%x, %v", reply, err)
		}
	}

	refuse(nil)
	refuse([]byte{0x04}, "exchange 1 is authenticatorMakeCredential (0x01) {", "this is authenticatorGetInfo (0x04)")
	refuse(request(func(p members) { p[2] = map[string]any{"id": "example.org"} }), `"example.com"`, `"example.org"`)
	refuse(request(func(p members) { p[5] = []any{map[string]any{"id": []byte{1, 3}}} }), "h'0103'")
	refuse(request(func(p members) { p[4] = []any{map[string]any{"alg": -8, "type": "public-key"}} }), "EdDSA")
	refuse(request(func(p members) { p[6] = map[string]any{"hmac-secret": true} }), "hmac-secret")
	refuse(request(func(p members) { p[7] = map[string]any{"rk": false} }))
	refuse(request(func(p members) { p[9] = 1 }))
	refuse(request(func(p members) { p[8] = []byte{} }))
	refuse(request(func(p members) { delete(p, 8) }))
	refuse(request(func(p members) { p[10] = 1 }), "enterpriseAttestation")
	accept(request(func(p members) {
		p[1] = make([]byte, 32)
		p[3] = map[string]any{"id": make([]byte, 64), "displayName": "Grace"}
		p[6] = map[string]any{"hmac-secret-mc": members{1: members{1: 2, 3: -25, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)}, 2: make([]byte, 80), 3: make([]byte, 32), 4: 2}}
		p[8] = make([]byte, 32)
	}))
	refuse(encode(0x0A, members{1: 3}), "enumerateRPsBegin", "enumerateRPsGetNextRP")
	refuse(encode(0x41, members{1: 2}), "(0x0a)", "(0x41)")
	accept(encode(0x0A, members{1: 2}))
	refuse([]byte{0x50, 0xFE}, "h'fe'")
	accept([]byte{0x50, 0xFF})
	refuse([]byte{0x04}, "authenticatorGetInfo (0x04) after the last of 3 exchanges")

	player = play(t, recording.String())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.EOF)
	if _, err := player.Exchange(ctx, request(), nil); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	accept(request())
	if err := player.Close(); err != nil {
		t.Error(err)
	}
	if _, err := player.Exchange(t.Context(), encode(0x0A, members{1: 2}), nil); !errors.Is(err, ctap2.ErrClosed) {
		t.Error(err)
	}
	if _, is := player.(ctap2.Messenger); is {
		t.Error("a Messenger out of a recording of none")
	}
}

func TestPlayRefusesOtherFiles(t *testing.T) {
	const header = `{"recording":"ctap2","version":1}` + "\n"
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"empty":          {"", io.ErrUnexpectedEOF},
		"blank":          {"\n \n", io.ErrUnexpectedEOF},
		"text":           {"hello", nil},
		"other JSON":     {`{"version":1}`, nil},
		"later":          {`{"recording":"ctap2","version":2}`, ctap2.ErrUnsupported},
		"neither":        {header + `{"request":"04"}`, nil},
		"both":           {header + `{"ctap":"x","u2f":"x","request":"00030000"}`, nil},
		"no request":     {header + `{"ctap":"x"}`, nil},
		"no hexadecimal": {header + `{"ctap":"x","request":"zz"}`, nil},
		"short APDU":     {header + `{"u2f":"x","request":"000300"}`, nil},
		"cut short":      {header + `{"ctap":"x","reque`, nil},
		"endless line":   {header + strings.Repeat(" ", 2<<20), nil},
	} {
		if _, err := ctap2.Play(strings.NewReader(tt.text)); err == nil || !strings.HasPrefix(err.Error(), "ctap2: recording") || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	player := play(t, header+"\n"+`{"ctap":"any name","request":"04","reply":"01","note":"to whom it may concern"}`+"\r\n")
	if reply, err := player.Exchange(t.Context(), []byte{0x04}, nil); err != nil || !bytes.Equal(reply, []byte{1}) {
		t.Errorf("%x, %v", reply, err)
	}
}

// full is a Writer with room for some lines.
type full struct {
	lines int
	text  bytes.Buffer
}

var errFull = errors.New("disk full")

func (f *full) Write(line []byte) (int, error) {
	if f.lines--; f.lines < 0 {
		return 0, errFull
	}
	return f.text.Write(line)
}

// A session does not notice that its recording fails, until its end.
func TestRecordWriterFails(t *testing.T) {
	for lines := range 3 {
		soft, err := virtual.New(virtual.Config{})
		if err != nil {
			t.Fatal(err)
		}
		file := &full{lines: lines}
		key := open(t, ctap2.Record(soft, file))
		if err := key.Selection(t.Context()); err != nil {
			t.Error(err)
		}
		file.lines = 10 // there is room again, but a hole in between
		if err := key.Selection(t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Count(file.text.String(), "\n"); got != lines {
			t.Errorf("%d lines: %s", got, file.text.String())
		}
		if err := key.Close(); !errors.Is(err, errFull) {
			t.Errorf("%v", err)
		}
		if _, err := soft.Exchange(t.Context(), []byte{0x04}, nil); !errors.Is(err, ctap2.ErrClosed) {
			t.Errorf("the key is open: %v", err)
		}
	}
	closing := errors.New("cannot close")
	if err := ctap2.Record(&lone{closing: closing}, &full{}).Close(); !errors.Is(err, closing) || !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := ctap2.Record(&lone{closing: closing}, io.Discard).Close(); err != closing {
		t.Error(err)
	}
}

// sameForm reports whether two decoded items differ in the content of strings
// alone.
func sameForm(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, is := b.([]byte)
		return is && len(a) == len(b)
	case string:
		b, is := b.(string)
		return is && (len(a) == len(b) || strings.Contains(a, "\uFFFD"))
	case []any:
		b, is := b.([]any)
		if !is || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameForm(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[any]any:
		b, is := b.(map[any]any)
		if !is || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, there := b[k]; !there || !sameForm(v, w) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b) || a != a // not a number
}

// Whatever is sent and received, it can be logged, recorded and played.
func FuzzTraceAndRecord(f *testing.F) {
	for _, tt := range notations(f) {
		f.Add(tt.message, tt.reply)
	}
	for _, name := range []string{"CTAP_CBOR_INFO", "CTAP_CBOR_CRED", "CTAP_CBOR_ASSERT"} {
		f.Add([]byte{0x01}, vectors.KeyReports()[name])
	}
	f.Add([]byte{0x0A, 0xBF, 0x01}, []byte{0x00, 0x9F, 0x5F, 0x41, 0xA5, 0x7F, 0xFF, 0xFF})
	f.Add([]byte{0x00, 0x02, 0x03, 0x00, 0x00}, []byte{0x90})
	f.Add([]byte{}, []byte{0x01})
	f.Fuzz(func(t *testing.T, message, reply []byte) {
		s := newSheet()
		var recording, again bytes.Buffer
		key := &loneMessenger{lone{reply: reply, keepalives: reply}}
		transport := ctap2.Record(ctap2.Trace(key, slog.New(s)), &recording)
		exchange := func(transport ctap2.Transport) [2][]byte {
			var replies [2][]byte
			for i, send := range []func(context.Context, []byte, func(byte)) ([]byte, error){
				transport.Exchange,
				func(ctx context.Context, apdu []byte, _ func(byte)) ([]byte, error) {
					return transport.(ctap2.Messenger).Msg(ctx, apdu)
				},
			} {
				got, err := send(t.Context(), message, nil)
				if err != nil && !(errors.Is(err, ctap2.ErrNotRecorded) && len(message) < 4) {
					t.Fatal(err)
				}
				replies[i] = got
			}
			return replies
		}
		exchange(transport)
		for _, r := range s.records {
			if n := len(fmt.Sprint(r)); n > 2000+100*(len(message)+len(reply)) {
				t.Errorf("%d bytes of log for %d", n, len(message)+len(reply))
			}
		}
		for i, got := range exchange(ctap2.Record(play(t, recording.String()), &again)) {
			if i == 0 && len(message) == 0 || i == 1 && len(message) < 4 {
				continue
			}
			if len(got) != len(reply) {
				t.Fatalf("%d bytes of reply became %d", len(reply), len(got))
			}
			if i == 1 || len(reply) < 2 {
				continue
			}
			if got[0] != reply[0] {
				t.Errorf("status %#x became %#x", reply[0], got[0])
			}
			then, now := cbor.Check(reply[1:], cbor.Lenient), cbor.Check(got[1:], cbor.Lenient)
			if fmt.Sprint(then) != fmt.Sprint(now) {
				t.Errorf("%x: %v\nbecame\n%x: %v", reply, then, got, now)
			}
			var a, b any
			if cbor.Unmarshal(reply[1:], &a) == nil && (cbor.Unmarshal(got[1:], &b) != nil || !sameForm(a, b)) {
				t.Errorf("%x\nbecame\n%x", reply, got)
			}
		}
		if recording.String() != again.String() {
			t.Errorf("recorded\n%s\nand again\n%s", recording.String(), again.String())
		}
	})
}

func FuzzPlay(f *testing.F) {
	for _, name := range []string{"testdata/session.jsonl", "testdata/wrong-rp-id-hash.jsonl"} {
		recording, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(recording)
	}
	f.Add([]byte(`{"recording":"ctap2","version":1,"u2f":true}` + "\n" + `{"u2f":"U2F_VERSION","request":"00030000","error":"x"}`))
	f.Fuzz(func(t *testing.T, recording []byte) {
		player, err := ctap2.Play(bytes.NewReader(recording))
		if err != nil {
			return
		}
		for range 3 {
			_, _ = player.Exchange(t.Context(), []byte{0x04}, nil)
			if m, is := player.(ctap2.Messenger); is {
				_, _ = m.Msg(t.Context(), []byte{0, 3, 0, 0})
			}
		}
	})
}

// A key misbehaves: its owner records what it does, and sends the recording to
// somebody who has no such key.
func ExampleRecord() {
	ctx := context.Background()
	use := func(transport ctap2.Transport) error {
		key, err := ctap2.Open(ctx, transport)
		if err != nil {
			return err
		}
		defer key.Close()
		hash := sha256.Sum256([]byte("client data"))
		_, err = key.MakeCredential(ctx, &ctap2.MakeCredentialRequest{
			ClientDataHash: hash[:],
			RP:             ctap2.RelyingParty{ID: "example.com"},
			User:           ctap2.User{ID: []byte("user 1"), Name: "ada@example.com"},
			Algorithms:     []cose.Algorithm{cose.ES256},
		})
		return err
	}

	device, err := virtual.New(virtual.Config{Faults: virtual.WrongRPIDHash})
	if err != nil {
		log.Fatal(err)
	}
	var recording bytes.Buffer // for a person, it is a file
	fmt.Println(use(ctap2.Record(device, &recording)))

	player, err := ctap2.Play(&recording)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(use(player))
	// Output:
	// ctap2: reply to authenticatorMakeCredential: malformed CBOR: authenticator data for another RP ID
	// ctap2: reply to authenticatorMakeCredential: malformed CBOR: authenticator data for another RP ID
}

// A card's reset is played as what it was.
func TestRecordReset(t *testing.T) {
	var recording bytes.Buffer
	message := []byte{0x0B} // selection
	_, err := ctap2.Record(&lone{err: fmt.Errorf("nfc: %w", ctap2.ErrReset)}, &recording).Exchange(t.Context(), message, nil)
	if !errors.Is(err, ctap2.ErrReset) {
		t.Fatal(err)
	}
	if _, err := play(t, recording.String()).Exchange(t.Context(), message, nil); !errors.Is(err, ctap2.ErrReset) {
		t.Errorf("%v, of %q", err, recording.String())
	}
}
