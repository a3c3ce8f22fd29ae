package virtual

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

const (
	permBE = ctap.PermissionBioEnrollment

	enrollBegin  = ctap.BioEnrollBegin
	enrollNext   = ctap.BioEnrollCaptureNextSample
	enrollCancel = ctap.BioCancelCurrentEnrollment
	enrolled     = ctap.BioEnumerateEnrollments
	setName      = ctap.BioSetFriendlyName
	removeFinger = ctap.BioRemoveEnrollment
	sensorInfo   = ctap.BioGetFingerprintSensorInfo
)

// enroller is a platform with a token for bioEnrollment.
type enroller struct {
	*platform
	command  byte
	protocol pin.Protocol
	token    pin.Secret
}

func (p *platform) enroller(protocol pin.Protocol) enroller {
	p.Helper()
	return enroller{p, ctap.CmdBioEnrollment, protocol, p.token(protocol, permBE, "")}
}

// request is a subcommand with parameters, nil for none, changed by each of
// changes.
func (e enroller) request(sub int, parameters any, changes ...params) params {
	e.Helper()
	r := params{1: 1, 2: sub, 4: e.protocol}
	msg := []byte{1, byte(sub)}
	if parameters != nil {
		encoded, err := cbor.Marshal(parameters)
		if err != nil {
			e.Fatal(err)
		}
		r[3] = cbor.RawMessage(encoded)
		msg = append(msg, encoded...)
	}
	r[5] = e.protocol.Authenticate(e.token, msg)
	return merge(r, changes)
}

func (e enroller) do(sub int, parameters any) members {
	e.Helper()
	return e.ok(e.command, e.request(sub, parameters))
}

func (e enroller) fails(want byte, sub int, parameters any, changes ...params) {
	e.Helper()
	e.refused(want, e.command, e.request(sub, parameters, changes...))
}

// sampled checks what a sample is answered with.
func (e enroller) sampled(m members, status SampleStatus, remaining int) {
	e.Helper()
	got, left := value[int](e, m, bioLastSampleStatus), value[int](e, m, bioRemainingSamples)
	if SampleStatus(got) != status || left != remaining {
		e.Errorf("sample status %#02x, %d remaining; want %#02x, %d", got, left, status, remaining)
	}
}

// enroll enrols a fingerprint with good samples and returns its template ID.
func (e enroller) enroll() []byte {
	e.Helper()
	m := e.do(enrollBegin, nil)
	id := value[[]byte](e, m, bioTemplateID)
	for value[int](e, m, bioRemainingSamples) > 0 {
		m = e.do(enrollNext, params{1: id})
	}
	return id
}

// fingers lists the template IDs and names of what is enrolled.
func (e enroller) fingers() (ids [][]byte, names []any) {
	e.Helper()
	for _, info := range value[[]map[uint64]any](e, e.do(enrolled, nil), bioTemplateInfos) {
		ids = append(ids, info[1].([]byte))
		names = append(names, info[2])
	}
	return ids, names
}

// wantUV checks whether the key says that it can verify its user.
func (p *platform) wantUV(want bool) {
	p.Helper()
	o := p.options()
	for _, id := range []string{"uv", "bioEnroll", "userVerificationMgmtPreview"} {
		if got, ok := o[id]; got != want || !ok {
			p.Errorf("option %s is %v, %v; want %v", id, got, ok, want)
		}
	}
}

func TestBioEnrollment(t *testing.T) {
	for _, protocol := range bothProtocols {
		for _, command := range []byte{ctap.CmdBioEnrollment, ctap.CmdBioEnrollmentPreview} {
			t.Run(fmt.Sprintf("%v, %#02x", protocol, command), func(t *testing.T) {
				var asked []Prompt
				script := Samples(SampleTooFast, SampleGood, SamplePoorQuality, 0x42, SampleNoUserActivity)
				key := newKey(t, Config{
					PIN: testPIN, BuiltInUV: UVNotConfigured, BioEnrollmentPreview: true, FingerprintSamples: 3,
					Finger: func(ctx context.Context, prompt Prompt) SampleStatus {
						asked = append(asked, prompt)
						return script(ctx, prompt)
					},
				})
				e := key.enroller(protocol)
				e.command = command
				key.wantUV(false)
				e.fails(ctap.StatusInvalidOption, enrolled, nil)
				uv, _ := key.uvTokenRequest(permMC)
				key.refused(ctap.StatusNotAllowed, ctap.CmdClientPIN, uv)

				m := e.do(enrollBegin, nil)
				first := value[[]byte](t, m, bioTemplateID)
				e.sampled(m, SampleTooFast, 3)
				for i, want := range []SampleStatus{SampleGood, SamplePoorQuality, 0x42, SampleNoUserActivity, SampleGood} {
					m := e.do(enrollNext, params{1: first, 3: 1000})
					e.sampled(m, want, []int{2, 2, 2, 2, 1}[i])
					if len(m) != 2 {
						t.Errorf("answer %v", m)
					}
				}
				key.wantUV(false)
				e.sampled(e.do(enrollNext, params{1: first}), SampleGood, 0)
				key.wantUV(true)
				if len(asked) != 7 || asked[0] != (Prompt{Command: command, Samples: 3}) || asked[6] != (Prompt{Command: command, Samples: 1}) {
					t.Errorf("prompts %v", asked)
				}
				e.fails(ctap.StatusInvalidOption, enrollNext, params{1: first})

				second := e.enroll()
				e.do(setName, params{1: second, 2: "left thumb"})
				ids, called := e.fingers()
				if !bytes.Equal(ids[0], first) || !bytes.Equal(ids[1], second) || len(ids) != 2 || called[0] != nil || called[1] != "left thumb" {
					t.Errorf("enrolled %x, %v", ids, called)
				}
				e.do(setName, params{1: first, 2: "right thumb"})
				e.do(setName, params{1: second, 2: ""})
				if _, called := e.fingers(); called[0] != "right thumb" || called[1] != nil {
					t.Errorf("names %v", called)
				}
				// The finger is good for something.
				cred := key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.Two, key.uvToken(permMC)))
				key.wantFlags(cred, flagUP|flagUV|flagAT)

				e.token = key.token(protocol, permBE, "")
				e.do(removeFinger, params{1: first})
				key.wantUV(true)
				e.do(removeFinger, params{1: second})
				key.wantUV(false)
				e.fails(ctap.StatusInvalidOption, removeFinger, params{1: second})
				e.fails(ctap.StatusInvalidOption, setName, params{1: second, 2: "x"})
				key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential, makeRequest(params{7: names{"uv": true}}))
			})
		}
	}
}

// What needs no token.
func TestFingerprintSensorInfo(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVNotConfigured, FingerprintKind: FingerprintSwipe, FingerprintSamples: 7, MaxTemplateFriendlyName: 15})
	want := map[uint64]int{bioFingerprintKind: 2, bioMaxCaptureSamples: 7, bioMaxTemplateFriendlyName: 15}
	for _, request := range []params{{1: 1, 2: sensorInfo}, {2: sensorInfo}, {2: sensorInfo, 6: false}} {
		m := key.ok(ctap.CmdBioEnrollment, request)
		for member, want := range want {
			if got := value[int](t, m, member); got != want || len(m) != 3 {
				t.Errorf("member %#02x is %d, want %d", member, got, want)
			}
		}
	}
	m := newKey(t, Config{BuiltInUV: UVNotConfigured}).ok(ctap.CmdBioEnrollment, params{1: 1, 2: sensorInfo})
	for member, want := range map[uint64]int{bioFingerprintKind: 1, bioMaxCaptureSamples: 4, bioMaxTemplateFriendlyName: 64} {
		if got := value[int](t, m, member); got != want {
			t.Errorf("default: member %#02x is %d, want %d", member, got, want)
		}
	}
	// getModality comes before anything else.
	for _, request := range []params{{6: true}, {1: 7, 2: 99, 6: true}} {
		if m := key.ok(ctap.CmdBioEnrollment, request); len(m) != 1 || value[int](t, m, bioModality) != 1 {
			t.Errorf("modality %v", m)
		}
	}
	if m := key.ok(ctap.CmdBioEnrollment, params{1: 1, 2: enrollCancel}); m != nil {
		t.Errorf("cancelling nothing answers %v", m)
	}
}

func TestBioEnrollmentRefused(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key := newKey(t, Config{PIN: testPIN, BuiltInUV: UVConfigured})
			e := key.enroller(protocol)
			ids, _ := e.fingers()
			id := params{1: ids[0]}
			name := params{1: ids[0], 2: "x"}
			for _, test := range []struct {
				name   string
				want   byte
				sub    int
				params any
				change params
			}{
				{"nothing", ctap.StatusMissingParameter, enrolled, nil, params{1: nil, 2: nil, 4: nil, 5: nil}},
				{"getModality false", ctap.StatusMissingParameter, enrolled, nil, params{2: nil, 6: false}},
				{"modality of text", ctap.StatusCBORUnexpectedType, enrolled, nil, params{1: "x"}},
				{"getModality of integer", ctap.StatusCBORUnexpectedType, enrolled, nil, params{6: 1}},
				{"subCommandParams an array", ctap.StatusCBORUnexpectedType, enrolled, nil, params{3: []int{}}},
				{"templateId of text", ctap.StatusCBORUnexpectedType, removeFinger, params{1: "x"}, nil},
				{"templateFriendlyName of bytes", ctap.StatusCBORUnexpectedType, setName, params{1: ids[0], 2: []byte("x")}, nil},
				{"timeoutMilliseconds negative", ctap.StatusCBORUnexpectedType, enrollBegin, params{3: -1}, nil},
				{"subcommand 0", ctap.StatusInvalidSubcommand, 0, nil, nil},
				{"subcommand 8", ctap.StatusInvalidSubcommand, 8, nil, nil},
				{"sensor of another modality", ctap.StatusInvalidParameter, sensorInfo, nil, params{1: 2}},
				// The order of what they all check.
				{"no pinUvAuthParam", ctap.StatusPUATRequired, enrollBegin, nil, params{5: nil}},
				{"no pinUvAuthParam, nor anything else", ctap.StatusPUATRequired, setName, nil, params{1: nil, 4: nil, 5: nil}},
				{"no modality", ctap.StatusMissingParameter, enrollBegin, nil, params{1: nil}},
				{"no protocol", ctap.StatusMissingParameter, enrolled, nil, params{4: nil}},
				{"no template to capture for", ctap.StatusMissingParameter, enrollNext, nil, params{4: 9}},
				{"no template to name", ctap.StatusMissingParameter, setName, params{2: "x"}, nil},
				{"no name", ctap.StatusMissingParameter, setName, id, nil},
				{"no template to remove", ctap.StatusMissingParameter, removeFinger, nil, nil},
				{"another modality", ctap.StatusInvalidParameter, enrolled, nil, params{1: 2}},
				{"unknown protocol", ctap.StatusInvalidParameter, enrolled, nil, params{4: 9}},
				{"name too long, unauthenticated", ctap.StatusInvalidLength, setName, params{1: ids[0], 2: strings.Repeat("x", 65)}, params{5: testHash}},
				{"name too long for an unknown template", ctap.StatusInvalidLength, setName, params{1: []byte{1}, 2: strings.Repeat("ä", 33)}, nil},
				{"wrong pinUvAuthParam", ctap.StatusPINAuthInvalid, enrolled, nil, params{5: testHash}},
				{"empty pinUvAuthParam", ctap.StatusPINAuthInvalid, enrolled, nil, params{5: []byte{}}},
				{"other protocol", ctap.StatusPINAuthInvalid, enrolled, nil, params{4: 3 - protocol}},
				{"other subcommand", ctap.StatusPINAuthInvalid, enrollBegin, nil, params{2: enrolled}},
				{"other parameters", ctap.StatusPINAuthInvalid, removeFinger, params{1: []byte{1}}, params{3: id}},
				{"parameters not authenticated", ctap.StatusPINAuthInvalid, removeFinger, nil, params{3: id}},
				{"unknown template, nothing enrolling", ctap.StatusInvalidOption, enrollNext, id, nil},
				{"unknown template to name", ctap.StatusInvalidOption, setName, params{1: []byte{1}, 2: "x"}, nil},
				{"unknown template to remove", ctap.StatusInvalidOption, removeFinger, params{1: []byte{}}, nil},
			} {
				t.Run(test.name, func(t *testing.T) {
					e.fails(test.want, test.sub, test.params, test.change)
				})
			}
			// enumerateEnrollments has no subCommandParams, not even to authenticate.
			e.ok(e.command, e.request(enrolled, nil, params{3: params{}}))
			e.fails(ctap.StatusPINAuthInvalid, enrolled, params{})
			e.do(setName, merge(name, []params{{2: strings.Repeat("x", 64)}}))
			if ids, names := e.fingers(); len(ids) != 1 || names[0] != strings.Repeat("x", 64) {
				t.Errorf("enrolled %x, %v", ids, names)
			}

			if answer, err := key.Exchange(t.Context(), []byte{ctap.CmdBioEnrollment, 0xA1}, nil); err != nil || answer[0] != ctap.StatusInvalidCBOR {
				t.Errorf("half a map: %x, %v", answer, err)
			}
			// A token without be, and one that a touch has spent.
			e.token = key.token(protocol, permMC|permGA, testRPID)
			e.fails(ctap.StatusPINAuthInvalid, enrolled, nil)
			e.token = key.token(protocol, 0, "")
			e.fails(ctap.StatusPINAuthInvalid, enrolled, nil)
			e.token = key.token(protocol, permBE|permMC, testRPID)
			e.do(enrolled, nil)
			key.make(withToken(ctap.CmdMakeCredential, protocol, e.token))
			e.fails(ctap.StatusPINAuthInvalid, enrolled, nil)
		})
	}
}

// Keys that know nothing of it.
func TestNoBioEnrollment(t *testing.T) {
	for name, test := range map[string]struct {
		cfg           Config
		command       bool
		preview       bool
		notConfigured bool
	}{
		"no reader":              {cfg: Config{}},
		"not managed":            {cfg: Config{BuiltInUV: UVConfigured, NoBioEnrollment: true}},
		"not managed, not ready": {cfg: Config{BuiltInUV: UVNotConfigured, NoBioEnrollment: true}, notConfigured: true},
		"no token":               {cfg: Config{BuiltInUV: UVConfigured, NoPINUVAuthToken: true}},
		"2.0":                    {cfg: Config{Level: CTAP20, BuiltInUV: UVConfigured}},
		"2.1-PRE":                {cfg: Config{Level: CTAP21PRE, BuiltInUV: UVConfigured}, preview: true},
		"2.1-PRE without PIN":    {cfg: Config{Level: CTAP21PRE, BuiltInUV: UVConfigured, NoClientPIN: true}},
		"2.1":                    {cfg: Config{Level: CTAP21, BuiltInUV: UVConfigured}, command: true},
		"2.1 and preview":        {cfg: Config{Level: CTAP21, BuiltInUV: UVConfigured, BioEnrollmentPreview: true}, command: true, preview: true},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, test.cfg)
			o := key.options()
			for _, half := range []struct {
				command byte
				options []string
				want    bool
			}{
				{ctap.CmdBioEnrollment, []string{"bioEnroll", "uvBioEnroll"}, test.command},
				{ctap.CmdBioEnrollmentPreview, []string{"userVerificationMgmtPreview"}, test.preview},
			} {
				want := byte(ctap.StatusInvalidCommand)
				if half.want {
					want = ctap.StatusOK
				}
				key.refused(want, half.command, params{1: 1, 2: sensorInfo})
				for _, id := range half.options {
					if _, ok := o[id]; ok != half.want {
						t.Errorf("option %s: %v", id, ok)
					}
				}
			}
			if _, ok := o["uv"]; ok && o["uv"] == test.notConfigured {
				t.Errorf("uv is %v", o["uv"])
			}
		})
	}
}

// A token before CTAP 2.1 is good for the prototype.
func TestBioEnrollmentPrototype(t *testing.T) {
	key := newKey(t, Config{Level: CTAP21PRE, PIN: testPIN, BuiltInUV: UVNotConfigured})
	e := enroller{key, ctap.CmdBioEnrollmentPreview, pin.One, key.token(pin.One, 0, "")}
	id := e.enroll()
	if o := key.options(); !o["uv"] || !o["userVerificationMgmtPreview"] {
		t.Errorf("options %v", o)
	}
	e.do(removeFinger, params{1: id})
	if o := key.options(); o["uv"] || o["userVerificationMgmtPreview"] {
		t.Errorf("options %v", o)
	}
}

// A finger enrols another one where the key says that it may.
func TestUVBioEnroll(t *testing.T) {
	key := newKey(t, Config{BuiltInUV: UVConfigured})
	e := enroller{key, ctap.CmdBioEnrollment, pin.Two, key.uvToken(permBE)}
	e.enroll()
	if ids, _ := e.fingers(); len(ids) != 2 {
		t.Errorf("enrolled %x", ids)
	}
	if o := key.options(); !o["uvBioEnroll"] {
		t.Errorf("options %v", o)
	}
	key = newKey(t, Config{BuiltInUV: UVConfigured, PIN: testPIN, NoUVBioEnroll: true})
	if _, ok := key.options()["uvBioEnroll"]; ok {
		t.Error("uvBioEnroll is there")
	}
	request, _ := key.uvTokenRequest(permBE)
	key.refused(ctap.StatusUnauthorizedPermission, ctap.CmdClientPIN, request)
	key.enroller(pin.Two).enroll()
}

func TestFingerprintsFull(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN, BuiltInUV: UVConfigured, Fingerprints: 3, FingerprintSamples: 1})
	e := key.enroller(pin.Two)
	id := e.enroll() // with its first sample
	e.enroll()
	e.fails(ctap.StatusFPDatabaseFull, enrollBegin, nil)
	e.do(removeFinger, params{1: id})
	e.enroll()
	e.fails(ctap.StatusFPDatabaseFull, enrollBegin, nil)
}

// What ends an enrolment, and what does not.
func TestEnrollmentEnds(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(enroller)
		ends bool
	}{
		"cancelCurrentEnrollment": {func(e enroller) { e.ok(e.command, params{1: 1, 2: enrollCancel}) }, true},
		"the next one":            {func(e enroller) { e.do(enrollBegin, nil) }, true},
		"power":                   {func(e enroller) { e.PowerCycle() }, true},
		"reset": {func(e enroller) {
			e.ok(ctap.CmdReset, nil)
			e.ok(ctap.CmdClientPIN, e.setPINRequest(pin.Two, padded(testPIN)))
		}, true},
		"another command": {func(e enroller) { e.ok(ctap.CmdGetInfo, nil); e.ok(ctap.CmdSelection, nil) }, false},
		"a bad request":   {func(e enroller) { e.fails(ctap.StatusInvalidOption, enrollNext, params{1: []byte{1}}) }, false},
		"a list":          {func(e enroller) { e.do(enrolled, nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newKey(t, Config{PIN: testPIN, BuiltInUV: UVConfigured}).enroller(pin.Two)
			id := value[[]byte](t, e.do(enrollBegin, nil), bioTemplateID)
			test.do(e)
			e.token = e.platform.token(pin.Two, permBE, "")
			if test.ends {
				e.fails(ctap.StatusInvalidOption, enrollNext, params{1: id})
			} else {
				e.sampled(e.do(enrollNext, params{1: id}), SampleGood, 2)
			}
		})
	}
}

func TestCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(ctx context.Context, _ Prompt) SampleStatus { <-ctx.Done(); return SampleNoUserActivity }
		late := func(ctx context.Context, _ Prompt) SampleStatus {
			select {
			case <-ctx.Done():
				return SampleNoUserActivity
			case <-time.After(time.Second):
				return SampleGood
			}
		}
		key := newKey(t, Config{PIN: testPIN, BuiltInUV: UVNotConfigured, Finger: never})
		e := key.enroller(pin.Two)
		id := value[[]byte](t, e.do(enrollBegin, params{3: 50}), bioTemplateID)
		for _, test := range []struct {
			milliseconds any
			want         time.Duration
		}{
			{1500, 1500 * time.Millisecond},
			{nil, 30 * time.Second},
			{0, 30 * time.Second},
			{uint64(1<<64 - 1), 30 * time.Second},
		} {
			e.token = key.token(pin.Two, permBE, "")
			start := time.Now()
			e.sampled(e.do(enrollNext, merge(params{1: id}, []params{{3: test.milliseconds}})), SampleNoUserActivity, 4)
			if d := time.Since(start); d != test.want {
				t.Errorf("timeout of %v: waited %v", test.milliseconds, d)
			}
		}

		// It says that it waits, and is there for the platform meanwhile.
		key.SetFinger(late)
		e.token = key.token(pin.Two, permBE, "")
		var heard []byte
		status, m := key.exchange(t.Context(), message(t, e.command, e.request(enrollNext, params{1: id})), func(b byte) { heard = append(heard, b) })
		if status != ctap.StatusOK || len(heard) < 10 || slices.Max(heard) != ctap.KeepaliveUPNeeded {
			t.Errorf("status %#02x, keepalives %v", status, heard)
		}
		e.sampled(m, SampleGood, 3)
		cancelled := func(sub int, parameters any) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if status, _ := key.exchange(ctx, message(t, e.command, e.request(sub, parameters)), nil); status != ctap.StatusKeepaliveCancel {
				t.Errorf("subcommand %d: status %#02x", sub, status)
			}
		}
		// Cancelled is the sample, and not the enrolment.
		cancelled(enrollNext, params{1: id})
		e.sampled(e.do(enrollNext, params{1: id}), SampleGood, 2)
		cancelled(enrollBegin, nil)
		e.fails(ctap.StatusInvalidOption, enrollNext, params{1: id})

		key.SetFinger(nil)
		e.enroll()
		key.wantUVOnly(true)

		// Without power there is no enrolment either.
		key.SetFinger(never)
		go key.Exchange(t.Context(), message(t, e.command, e.request(enrollBegin, nil)), nil)
		synctest.Wait()
		key.PowerCycle()
		if key.volatile.enrollment != nil {
			t.Error("an enrolment without power")
		}
	})
}

// wantUVOnly checks the options of a key without the prototype.
func (p *platform) wantUVOnly(want bool) {
	p.Helper()
	if o := p.options(); o["uv"] != want || o["bioEnroll"] != want {
		p.Errorf("options %v", o)
	}
}

// A key in a file has the same fingers in the next process, and none after a
// reset.
func TestFingerprintsPersist(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, BuiltInUV: UVConfigured}
	key := newKey(t, cfg)
	reopen := func() enroller {
		t.Helper()
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, cfg)
		return key.enroller(pin.Two)
	}
	e := key.enroller(pin.Two)
	ids, _ := e.fingers()
	if len(ids) != 1 {
		t.Fatalf("a new key has %d fingerprints", len(ids))
	}
	for _, name := range []string{"b", "a", "c"} {
		id := e.enroll()
		e.do(setName, params{1: id, 2: name})
		ids = append(ids, id)
	}
	e.do(removeFinger, params{1: ids[2]})
	e.do(enrollBegin, nil) // and no further
	e = reopen()
	got, names := e.fingers()
	if len(got) != 3 || !bytes.Equal(got[0], ids[0]) || !bytes.Equal(got[1], ids[1]) || !bytes.Equal(got[2], ids[3]) ||
		!slices.Equal(names, []any{nil, "b", "c"}) {
		t.Errorf("enrolled %x, %v; want %x", got, names, ids)
	}
	for _, id := range got {
		e.do(removeFinger, params{1: id})
	}
	e = reopen() // what the file holds, it holds on to
	key.wantUVOnly(false)
	e.enroll()
	key.ok(ctap.CmdReset, nil)
	key.wantUVOnly(false)
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	e = reopen()
	key.wantUVOnly(false)
	e.fails(ctap.StatusInvalidOption, enrolled, nil)
}

// What cannot be written down is not done.
func TestFingerprintStorageFailure(t *testing.T) {
	a, err := New(Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, BuiltInUV: UVConfigured, FingerprintSamples: 1})
	if err != nil {
		t.Fatal(err)
	}
	key := &platform{t, a}
	e := key.enroller(pin.Two)
	ids, _ := e.fingers()
	c := configurer{key, pin.Two, key.token(pin.Two, permBE|permACFG, "")}
	e.token = c.token
	if err := a.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	e.fails(ctap.StatusOther, enrollBegin, nil)
	e.fails(ctap.StatusOther, setName, params{1: ids[0], 2: "x"})
	e.fails(ctap.StatusOther, removeFinger, params{1: ids[0]})
	c.fails(ctap.StatusOther, toggleAlwaysUV, nil)
	c.fails(ctap.StatusOther, minPINLengthSub, params{3: true})
	if got, names := e.fingers(); len(got) != 1 || names[0] != nil || key.options()["alwaysUv"] {
		t.Errorf("enrolled %x, %v, options %v", got, names, key.options())
	}
	if a.Close() == nil {
		t.Error("Close does not say what happened")
	}
}

// getInfo says how long no PIN was needed.
func TestUVCountSinceLastPINEntry(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN, BuiltInUV: UVConfigured}
	key := newKey(t, cfg)
	want := func(want int) {
		t.Helper()
		if got := value[int](t, key.ok(ctap.CmdGetInfo, nil), infoUVCountSinceLastPINEntry); got != want {
			t.Errorf("uvCountSinceLastPinEntry is %d, want %d", got, want)
		}
	}
	want(0)
	key.uvToken(permMC)
	key.make(params{7: names{"uv": true}})
	want(2)
	key.SetVerification(Refuse)
	request, _ := key.uvTokenRequest(permMC)
	key.refused(ctap.StatusUVInvalid, ctap.CmdClientPIN, request)
	want(3)
	wrong, _ := key.tokenRequest(pin.Two, "000000", permMC, testRPID)
	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, wrong)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	want(3)
	key.token(pin.Two, permMC, testRPID)
	want(0)
	key.uvToken(permMC)
	key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	want(0)

	for name, cfg := range map[string]Config{"2.1": {Level: CTAP21, BuiltInUV: UVConfigured}, "no UV": {}} {
		if m := newKey(t, cfg).ok(ctap.CmdGetInfo, nil); m[infoUVCountSinceLastPINEntry] != nil {
			t.Errorf("%s: uvCountSinceLastPinEntry is there", name)
		}
	}
}

// The faults are in these answers, too.
func TestBioEnrollmentFaults(t *testing.T) {
	for fault, want := range map[Fault]byte{NullMember: 0xF6, MissingMember: 0} {
		key := newKey(t, Config{BuiltInUV: UVNotConfigured, Faults: fault})
		raw := key.ok(ctap.CmdBioEnrollment, params{1: 1, 2: sensorInfo})[bioFingerprintKind]
		if want == 0 && raw != nil || want != 0 && !bytes.Equal(raw, []byte{want}) {
			t.Errorf("fault %d: fingerprintKind is %x", fault, raw)
		}
	}
}

func TestSamples(t *testing.T) {
	f := Samples(SampleTooLeft, SampleExists)
	for _, want := range []SampleStatus{SampleTooLeft, SampleExists, SampleGood, SampleGood} {
		if got := f(t.Context(), Prompt{}); got != want {
			t.Errorf("sample %#02x, want %#02x", got, want)
		}
	}
}

// Where platforms could remove the last finger, and no PIN would let them enrol
// another, they have no part in it: a reset must not leave a key that is of no
// use any more.
func TestFingersOfKeyWithoutPIN(t *testing.T) {
	for _, cfg := range []Config{
		{NoClientPIN: true, BuiltInUV: UVConfigured},
		{NoClientPIN: true, BuiltInUV: UVConfigured, AlwaysUV: true},
		{NoClientPIN: true, BuiltInUV: UVConfigured, Level: CTAP21, NoUVBioEnroll: true, NoUVAcfg: true},
	} {
		key := newKey(t, cfg)
		o := key.options()
		if _, ok := o["bioEnroll"]; ok || !o["uv"] || o["uvBioEnroll"] {
			t.Errorf("options %v", o)
		}
		if o["authnrCfg"] == cfg.NoUVAcfg {
			t.Errorf("authnrCfg is %v though a token for it can be had: %v", o["authnrCfg"], !cfg.NoUVAcfg)
		}
		key.refused(ctap.StatusInvalidCommand, ctap.CmdBioEnrollment, params{6: true})
		request, _ := key.uvTokenRequest(permBE)
		key.refused(ctap.StatusUnauthorizedPermission, ctap.CmdClientPIN, request)
		key.ok(ctap.CmdReset, nil)
		key.make(withToken(ctap.CmdMakeCredential, pin.Two, key.uvToken(permMC)))
	}
	if a, err := New(Config{NoClientPIN: true, BuiltInUV: UVConfigured, BioEnrollmentPreview: true}); err == nil {
		a.Close()
		t.Error("the prototype in a key without a PIN")
	}
}
