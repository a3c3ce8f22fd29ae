package virtual

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// testApplication is what U2F calls testRPID.
var testApplication = sha256.Sum256([]byte(testRPID))

// u2fAPDU encodes a request in extended length, with the longest Le.
func u2fAPDU(instruction, p1 byte, data ...[]byte) []byte {
	joined := bytes.Join(data, nil)
	apdu := []byte{0, instruction, p1, 0, 0}
	if len(joined) > 0 {
		apdu = append(binary.BigEndian.AppendUint16(apdu, uint16(len(joined))), joined...)
	}
	return append(apdu, 0, 0)
}

func registerAPDU(application [32]byte) []byte {
	return u2fAPDU(u2fRegister, 0, testHash, application[:])
}

func authenticateAPDU(p1 byte, application [32]byte, handle []byte) []byte {
	return u2fAPDU(u2fAuthenticate, p1, testHash, application[:], []byte{byte(len(handle))}, handle)
}

// msg sends a request and returns the answer's data and status word.
func (p *platform) msg(apdu []byte) ([]byte, uint16) {
	p.Helper()
	response, err := p.Msg(p.Context(), apdu)
	if err != nil {
		p.Fatalf("Msg %x: %v", apdu, err)
	}
	n := len(response) - 2
	return response[:n], binary.BigEndian.Uint16(response[n:])
}

func (p *platform) wantWord(want uint16, apdu []byte) {
	p.Helper()
	if data, word := p.msg(apdu); word != want || len(data) > 0 {
		p.Fatalf("%x: %d bytes, status word %04X, want %04X", apdu, len(data), word, want)
	}
}

// registration is the answer to U2F_REGISTER taken apart, and checked.
type registration struct {
	handle []byte
	key    *cose.Key
	leaf   *x509.Certificate
}

func (p *platform) parseRegistration(data []byte, application [32]byte) registration {
	p.Helper()
	if len(data) < 67 || data[0] != 5 || len(data) < 67+int(data[66]) {
		p.Fatalf("registration %x", data)
	}
	point, handle, rest := data[1:66], data[67:67+data[66]], data[67+int(data[66]):]
	var certificate asn1.RawValue
	signature, err := asn1.Unmarshal(rest, &certificate)
	if err != nil {
		p.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate.FullBytes)
	if err != nil {
		p.Fatal(err)
	}
	signed := slices.Concat([]byte{0}, application[:], testHash, handle, point)
	if err := leaf.CheckSignature(x509.ECDSAWithSHA256, signed, signature); err != nil {
		p.Fatal(err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		p.Fatal(err)
	}
	key, err := cose.NewKey(cose.ES256, public)
	if err != nil {
		p.Fatal(err)
	}
	return registration{handle, key, leaf}
}

func (p *platform) register(application [32]byte) registration {
	p.Helper()
	data, word := p.msg(registerAPDU(application))
	if word != swOK {
		p.Fatalf("U2F_REGISTER: status word %04X", word)
	}
	return p.parseRegistration(data, application)
}

// checkSignature checks the answer to U2F_AUTHENTICATE, and returns the counter.
func (p *platform) checkSignature(key *cose.Key, application [32]byte, data []byte, flags byte) uint32 {
	p.Helper()
	if len(data) < 5 || data[0] != flags {
		p.Fatalf("authentication %x", data)
	}
	if err := key.Verify(slices.Concat(application[:], data[:5], testHash), data[5:]); err != nil {
		p.Fatal(err)
	}
	return binary.BigEndian.Uint32(data[1:])
}

func (p *platform) authenticate(key *cose.Key, handle []byte) uint32 {
	p.Helper()
	data, word := p.msg(authenticateAPDU(u2fEnforceUserPresence, testApplication, handle))
	if word != swOK {
		p.Fatalf("U2F_AUTHENTICATE: status word %04X", word)
	}
	return p.checkSignature(key, testApplication, data, ctap.FlagUserPresent)
}

func TestU2F(t *testing.T) {
	for _, level := range []Level{CTAP1, CTAP20, CTAP21PRE, CTAP21, CTAP23} {
		synctest.Test(t, func(t *testing.T) {
			key := newKey(t, Config{Level: level, Attestation: AttestationNone, Algorithms: []cose.Algorithm{cose.EdDSA}})
			if data, word := key.msg(u2fAPDU(u2fVersion, 0)); word != swOK || string(data) != "U2F_V2" {
				t.Errorf("U2F_VERSION: %q, %04X", data, word)
			}
			r := key.register(testApplication)
			if err := r.leaf.CheckSignatureFrom(key.state.attestation.root); err != nil {
				t.Error(err)
			}
			if other := key.register(testApplication); bytes.Equal(other.handle, r.handle) || bytes.Equal(other.key.X, r.key.X) {
				t.Error("two registrations are one")
			}
			key.wantWord(swConditions, authenticateAPDU(u2fCheckOnly, testApplication, r.handle))
			first := key.authenticate(r.key, r.handle)
			if second := key.authenticate(r.key, r.handle); second != first+1 {
				t.Errorf("counter %d after %d", second, first)
			}
			key.SetPresence(Ignore)
			data, word := key.msg(authenticateAPDU(u2fDontEnforceUserPresence, testApplication, r.handle))
			if word != swOK {
				t.Fatalf("without user presence: %04X", word)
			}
			key.checkSignature(r.key, testApplication, data, 0)

			// A new master secret ends all handles.
			key.SetPresence(Touch)
			if level != CTAP1 {
				key.ok(ctap.CmdReset, nil)
				key.wantWord(swWrongData, authenticateAPDU(u2fCheckOnly, testApplication, r.handle))
			}
		})
	}
}

// A handle is for one application parameter, of one key.
func TestU2FUnknownHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, other := newKey(t, Config{}), newKey(t, Config{})
		r := key.register(testApplication)
		broken := bytes.Clone(r.handle)
		broken[20] ^= 1
		for _, p1 := range []byte{u2fEnforceUserPresence, u2fCheckOnly, u2fDontEnforceUserPresence, 0x55} {
			key.wantWord(swWrongData, authenticateAPDU(p1, [32]byte{}, r.handle))
			key.wantWord(swWrongData, authenticateAPDU(p1, testApplication, nil))
			key.wantWord(swWrongData, authenticateAPDU(p1, testApplication, broken))
			key.wantWord(swWrongData, authenticateAPDU(p1, testApplication, make([]byte, 255)))
			other.wantWord(swWrongData, authenticateAPDU(p1, testApplication, r.handle))
		}
		key.wantWord(swWrongP1P2, authenticateAPDU(0x55, testApplication, r.handle))

		// Quirk 43: some keys find the length wrong.
		fault := newKey(t, Config{Faults: WrongLengthForHandle})
		fault.wantWord(swWrongLength, authenticateAPDU(u2fCheckOnly, testApplication, r.handle))
		fault.wantWord(swConditions, authenticateAPDU(u2fCheckOnly, testApplication, fault.register(testApplication).handle))
	})
}

// Requests that are none, with somebody who touches the key for each.
func TestU2FBadRequests(t *testing.T) {
	for name, test := range map[string]struct {
		apdu []byte
		want uint16
	}{
		"nothing":                    {nil, swWrongLength},
		"half a header":              {[]byte{0, 3, 0}, swWrongLength},
		"data cut off":               {registerAPDU(testApplication)[:40], swWrongLength},
		"class of CTAP":              {[]byte{0x80, u2fVersion, 0, 0}, swUnknownCLA},
		"chain":                      {[]byte{0x10, u2fVersion, 0, 0}, swUnknownCLA},
		"instruction 0":              {[]byte{0, 0, 0, 0}, swUnknownINS},
		"instruction 4":              {[]byte{0, 4, 0, 0}, swUnknownINS},
		"vendor's instruction":       {[]byte{0, 0x40, 0, 0}, swUnknownINS},
		"SELECT":                     {parseReport(t, apduSelect), swUnknownINS},
		"version with data":          {u2fAPDU(u2fVersion, 0, []byte{1}), swWrongLength},
		"registration of nothing":    {u2fAPDU(u2fRegister, 0), swWrongLength},
		"registration, short":        {u2fAPDU(u2fRegister, 0, make([]byte, 63)), swWrongLength},
		"registration, long":         {u2fAPDU(u2fRegister, 0, make([]byte, 65)), swWrongLength},
		"authentication of nothing":  {u2fAPDU(u2fAuthenticate, 3), swWrongLength},
		"authentication, no handle":  {u2fAPDU(u2fAuthenticate, 3, make([]byte, 64)), swWrongLength},
		"authentication, short":      {u2fAPDU(u2fAuthenticate, 3, make([]byte, 64), []byte{2, 1}), swWrongLength},
		"authentication, long":       {u2fAPDU(u2fAuthenticate, 3, make([]byte, 64), []byte{0, 1}), swWrongLength},
		"registration, short length": {append([]byte{0, 1, 0, 0, 64}, append(make([]byte, 64), 0)...), swWrongLength},
		"registration, Le of 16":     {append(registerAPDU(testApplication)[:71], 0, 16), swWrongLength},
		"version, Le of 5":           {[]byte{0, u2fVersion, 0, 0, 5}, swWrongLength},
	} {
		t.Run(name, func(t *testing.T) {
			newKey(t, Config{}).wantWord(test.want, test.apdu)
		})
	}
	if text := wordRefusal(swWrongData).Error(); text != "status word 6A80" {
		t.Error(text)
	}
}

// Both encodings of lengths, and one more that platforms use.
func TestU2FEncodings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		for _, version := range []string{
			"00030000", "00030000 00", "00030000 06", "00030000 000000", "00030000 000006",
			"00030000 000000 0000", "00030000 000000 0006", "0003aabb",
		} {
			apdu := parseReport(t, version)
			before := bytes.Clone(apdu)
			if data, word := key.msg(apdu); word != swOK || string(data) != "U2F_V2" {
				t.Errorf("%s: %q, %04X", version, data, word)
			}
			if !bytes.Equal(apdu, before) {
				t.Errorf("%s: the request was changed", version)
			}
		}
		r := key.register(testApplication)
		for _, p1 := range []byte{0x03, 0x80, 0x83} {
			request := registerAPDU(testApplication)
			request[2] = p1
			data, word := key.msg(request[:len(request)-2]) // without Le
			if word != swOK {
				t.Fatalf("P1 %02x: %04X", p1, word)
			}
			key.parseRegistration(data, testApplication)
		}
		long := authenticateAPDU(u2fEnforceUserPresence, testApplication, r.handle)
		short := slices.Concat(long[:4], long[6:7], long[7:len(long)-2])
		for _, apdu := range [][]byte{long[:len(long)-2], short, append(short, 0), append(short, 80)} {
			data, word := key.msg(apdu)
			if word != swOK {
				t.Fatalf("%x: %04X", apdu, word)
			}
			key.checkSignature(r.key, testApplication, data, ctap.FlagUserPresent)
		}
	})
}

// §10.2 and §10.3: a key handle is a credential ID, and the application
// parameter the hash of an RP ID, both ways; and there is one counter.
func TestU2FCredentialsAreCTAP2s(t *testing.T) {
	for _, level := range []Level{CTAP20, CTAP21PRE, CTAP21, CTAP23} {
		synctest.Test(t, func(t *testing.T) {
			key := newKey(t, Config{Level: level, Algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA}})
			r := key.register(testApplication)
			registered := authData{id: r.handle, key: r.key}
			first, _ := key.assert(registered, allow(r.handle))
			key.wantFlags(first, flagUP)
			if second := key.authenticate(r.key, r.handle); second != first.signCount+1 {
				t.Errorf("counter %d after %d", second, first.signCount)
			}
			key.refused(ctap.StatusCredentialExcluded, ctap.CmdMakeCredential, makeRequest(exclude(r.handle)))
			key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(params{1: "example.net"}, allow(r.handle)))
			key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest()) // not discoverable

			made := key.make()
			key.wantWord(swConditions, authenticateAPDU(u2fCheckOnly, testApplication, made.id))
			counter := key.authenticate(made.key, made.id)
			if next, _ := key.assert(made, allow(made.id)); next.signCount != counter+1 {
				t.Errorf("counter %d after %d", next.signCount, counter)
			}
			for name, changes := range map[string][]params{
				"discoverable": {residentKey()},
				"EdDSA":        {{4: []names{{"alg": -8, "type": "public-key"}}}},
			} {
				cred := key.make(changes...)
				key.wantWord(swWrongData, authenticateAPDU(u2fCheckOnly, testApplication, cred.id))
				if t.Failed() {
					t.Fatal(name)
				}
			}
			key.assert(registered, allow(r.handle))
		})
	}
}

// U2F verifies nobody: what is for a verified user alone is not there.
func TestU2FCredProtect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{BuiltInUV: UVConfigured})
		for policy, want := range map[int]uint16{1: swConditions, 2: swConditions, 3: swWrongData} {
			cred := key.make(protect(policy))
			key.wantWord(want, authenticateAPDU(u2fCheckOnly, testApplication, cred.id))
		}
	})
}

func TestU2FAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			cfg  Config
			want uint16
		}{
			"without":          {Config{NoU2F: true}, swUnknownINS},
			"not to touch":     {Config{NoUserPresence: true}, swUnknownINS},
			"always verifying": {Config{AlwaysUV: true}, swNotAllowed},
		} {
			key := newKey(t, test.cfg)
			for _, apdu := range [][]byte{u2fAPDU(u2fVersion, 0), registerAPDU(testApplication), authenticateAPDU(u2fCheckOnly, testApplication, nil)} {
				key.wantWord(test.want, apdu)
			}
			if got := value[[]string](t, key.ok(ctap.CmdGetInfo, nil), infoVersions); slices.Contains(got, "U2F_V2") {
				t.Errorf("%s: versions %v", name, got)
			}
			card := key.Tap(CardConfig{})
			reader{t, card}.run(t, selectFIDO2+fmt.Sprintf("> 00030000 00\n< %04x", test.want))
			card.Remove()
			usb := key.PlugIn(USBConfig{})
			connect(t, usb).run(allocate + "> 00000001 83 0007 00030000000000\n< 00000001 bf 0001 01")
			usb.Unplug()
		}
	})
}

// alwaysUv comes and goes while the key runs, and with it U2F goes and comes
// (§7.2.4).
func TestU2FEndsWithAlwaysUV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		made := key.make()
		want := func(capabilities byte, selection string, word uint16, versions int) {
			t.Helper()
			usb := key.PlugIn(USBConfig{})
			h := connect(t, usb)
			h.send("ffffffff 86 0008 0102030405060708")
			if _, init := h.message(); init[16] != capabilities {
				t.Errorf("capabilities %02x", init[16])
			}
			usb.Unplug()
			card := key.Tap(CardConfig{})
			reader{t, card}.run(t, selection)
			card.Remove()
			key.wantWord(word, authenticateAPDU(u2fCheckOnly, testApplication, made.id))
			if got := value[[]string](t, key.ok(ctap.CmdGetInfo, nil), infoVersions); len(got) != versions {
				t.Errorf("versions %v", got)
			}
		}
		toggle := params{1: ctap.ConfigToggleAlwaysUV}
		want(0x05, selectU2F, swConditions, 4)
		key.ok(ctap.CmdConfig, toggle)
		want(0x0D, selectFIDO2, swNotAllowed, 3)
		key.ok(ctap.CmdConfig, toggle)
		want(0x05, selectU2F, swConditions, 4)
		key.ok(ctap.CmdConfig, toggle)
		key.ok(ctap.CmdReset, nil)
		want(0x05, selectU2F, swWrongData, 4)
	})
}

// A key of U2F alone.
func TestU2FAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Level: CTAP1})
		for _, msg := range [][]byte{nil, {ctap.CmdGetInfo}, {ctap.CmdReset}, {ctap.CmdSelection}, message(t, ctap.CmdMakeCredential, makeRequest())} {
			answer, err := key.Exchange(t.Context(), msg, nil)
			if err != nil || !bytes.Equal(answer, []byte{ctap.StatusInvalidCommand}) {
				t.Errorf("%x: %x, %v", msg, answer, err)
			}
		}
		for name, cfg := range map[string]Config{
			"nothing at all": {NoU2F: true},
			"not to touch":   {NoUserPresence: true},
			"fingerprints":   {BuiltInUV: UVConfigured},
			"PIN":            {PIN: testPIN},
			"alwaysUv":       {AlwaysUV: true},
			"extension":      {Extensions: []string{hmacSecretID}},
		} {
			cfg.Level = CTAP1
			if a, err := New(cfg); err == nil {
				a.Close()
				t.Errorf("%s: New succeeded", name)
			}
		}
	})
}

// Quirk 43: a key does not wait for a touch, and is asked again and again.
func TestU2FTouch(t *testing.T) {
	poll := func(key *platform, every time.Duration, apdu []byte) (answers []uint16) {
		for len(answers) < 20 {
			_, word := key.msg(apdu)
			if answers = append(answers, word); word != swConditions {
				break
			}
			time.Sleep(every)
		}
		return answers
	}
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(500 * time.Millisecond)})
		start := time.Now()
		if got := poll(key, 200*time.Millisecond, registerAPDU(testApplication)); !slices.Equal(got, []uint16{swConditions, swConditions, swOK}) {
			t.Errorf("answers %04X", got)
		}
		if took := time.Since(start); took != 500*time.Millisecond { // at 0, 250 and 500
			t.Errorf("took %v", took)
		}

		// One touch is one signature.
		key.SetPresence(func(context.Context, Prompt) Answer { return Hold })
		r := key.register(testApplication)
		key.SetPresence(Ignore)
		request := authenticateAPDU(u2fEnforceUserPresence, testApplication, r.handle)
		if got := poll(key, time.Second, request); len(got) != 20 {
			t.Errorf("nobody touched: %04X", got)
		}

		// A touch between two requests counts for the next, whatever it is,
		// but not for ever.
		for _, test := range []struct {
			pause time.Duration
			want  uint16
		}{{u2fPresence - time.Millisecond, swOK}, {u2fPresence, swConditions}} {
			key.PowerCycle()
			key.SetPresence(TouchAfter(u2fGlance + time.Millisecond))
			key.wantWord(swConditions, request)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			key.SetPresence(Ignore)
			time.Sleep(test.pause)
			if _, word := key.msg(registerAPDU(testApplication)); word != test.want {
				t.Errorf("%v after a touch: %04X", test.pause, word)
			}
			key.wantWord(swConditions, request) // it is used up
		}

		// A key that nobody asks any more does not wait for ever either.
		key.PowerCycle()
		ended := time.Duration(0)
		key.SetPresence(func(ctx context.Context, _ Prompt) Answer {
			start := time.Now()
			<-ctx.Done()
			ended = time.Since(start)
			return Approve // too late
		})
		key.wantWord(swConditions, request)
		time.Sleep(u2fPresence / 2)
		key.wantWord(swConditions, request)
		time.Sleep(u2fPresence)
		synctest.Wait()
		if want := u2fGlance + u2fPresence/2 + u2fPresence; ended != want {
			t.Errorf("the person was asked for %v, want %v", ended, want)
		}
		time.Sleep(u2fPresence)
		key.SetPresence(Touch)
		key.authenticate(r.key, r.handle)
	})
}

// A person who says no is asked again by the next request, and so is one who
// went away when the key went dark.
func TestU2FTouchRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		key := newKey(t, Config{Presence: c.person})
		request := func(next Person, pause time.Duration) {
			t.Helper()
			synctest.Wait() // nobody looks at the counter now
			c.next = next
			key.wantWord(swConditions, registerAPDU(testApplication))
			time.Sleep(pause)
		}
		asked := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := c.took(); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		}
		for _, person := range []Person{Refuse, func(context.Context, Prompt) Answer { return LockOut }, func(context.Context, Prompt) Answer { return Nothing }} {
			for range 3 {
				request(person, 0)
			}
			asked(3)
		}
		for range 3 {
			request(TouchAfter(time.Hour), u2fPresence) // it goes dark
		}
		asked(3)
		for range 3 {
			request(TouchAfter(time.Hour), u2fPresence/2) // one who stays is asked once
		}
		asked(1)
		// Saying no between two requests is no different.
		key.PowerCycle()
		request(func(context.Context, Prompt) Answer { time.Sleep(time.Second); return Deny }, time.Second)
		synctest.Wait()
		c.next = nil
		key.register(testApplication)
		asked(2)
	})
}

// Another person is asked as soon as there is one, whom the one before did not
// forestall.
func TestU2FOtherPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore})
		key.wantWord(swConditions, registerAPDU(testApplication))
		key.SetPresence(nil)
		key.register(testApplication)
	})
}

// Touches are for the CTAP2 command that waits for one.
func TestU2FTouchAndCTAP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: Ignore})
		key.wantWord(swConditions, registerAPDU(testApplication))
		if got := key.options(); got == nil { // waits for nobody, and ends nothing
			t.Error("no options")
		}
		blinks := key.volatile.blink
		if blinks == nil || blinks.ctx.Err() != nil {
			t.Error("getInfo ended the wait")
		}
		key.SetPresence(TouchAfter(time.Second))
		key.ok(ctap.CmdSelection, nil)
		if blinks.ctx.Err() == nil {
			t.Error("two ask for one touch")
		}
		key.SetPresence(Ignore)
		key.wantWord(swConditions, registerAPDU(testApplication))

		// The other way round: a request ends what getNextAssertion goes on
		// with, as all commands do.
		key.SetPresence(Touch)
		key.make(residentKey())
		key.make(residentKey(), account("bob", "bob@example.com"))
		key.ok(ctap.CmdGetAssertion, assertRequest())
		key.msg(u2fAPDU(u2fVersion, 0))
		key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)
	})
}

func TestU2FPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		key := newKey(t, Config{Presence: c.person})
		r := key.register(testApplication)
		key.authenticate(r.key, r.handle)
		want := []Prompt{
			{Command: ctap.CmdMakeCredential, Application: testApplication},
			{Command: ctap.CmdGetAssertion, Application: testApplication},
		}
		if !slices.Equal(c.prompts, want) {
			t.Errorf("prompts %+v", c.prompts)
		}
	})
}

// Losing power ends a request, the wait for a touch, and a touch that came.
func TestU2FUnplugged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(time.Second)})
		key.wantWord(swConditions, registerAPDU(testApplication))
		time.Sleep(2 * time.Second)
		key.PowerCycle()
		key.SetPresence(Ignore)
		key.wantWord(swConditions, registerAPDU(testApplication))

		key.PowerCycle()
		key.SetPresence(func(context.Context, Prompt) Answer { key.PowerCycle(); return Approve })
		if response, err := key.Msg(t.Context(), registerAPDU(testApplication)); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("%x, %v", response, err)
		}
		synctest.Wait() // it is plugged in again
		// One that waits for its turn.
		key.SetPresence(Ignore)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := key.Exchange(ctx, []byte{ctap.CmdSelection}, nil)
			done <- err
		}()
		synctest.Wait()
		go func() {
			_, err := key.Msg(t.Context(), u2fAPDU(u2fVersion, 0))
			done <- err
		}()
		late, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		if _, err := key.Msg(late, u2fAPDU(u2fVersion, 0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request that was not waited for: %v", err)
		}
		key.PowerCycle()
		for range 2 {
			if err := <-done; !errors.Is(err, ctap.ErrDeviceGone) {
				t.Errorf("unplugged: %v", err)
			}
		}
		cancel()
		// Who has no patience gets an answer all the same.
		brief, giveUp := context.WithTimeout(t.Context(), time.Millisecond)
		defer giveUp()
		if response, err := key.Msg(brief, registerAPDU(testApplication)); err != nil || !bytes.Equal(response, []byte{0x69, 0x85}) {
			t.Errorf("%x, %v", response, err)
		}

		key.SetPresence(func(context.Context, Prompt) Answer { key.Close(); return Approve })
		key.PowerCycle()
		for range 2 {
			if response, err := key.Msg(t.Context(), registerAPDU(testApplication)); !errors.Is(err, ctap.ErrClosed) {
				t.Errorf("closed: %x, %v", response, err)
			}
		}
	})
}

func TestU2FFromSeveralGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(time.Second)})
		done := make(chan error)
		requests := []func() error{
			func() error { _, err := key.Msg(t.Context(), registerAPDU(testApplication)); return err },
			func() error { _, err := key.Msg(t.Context(), u2fAPDU(u2fVersion, 0)); return err },
			func() error { _, err := key.Exchange(t.Context(), []byte{ctap.CmdSelection}, nil); return err },
			func() error { key.PowerCycle(); return nil },
		}
		for _, request := range requests {
			go func() {
				for range 30 {
					if err := request(); err != nil && !errors.Is(err, ctap.ErrDeviceGone) {
						done <- err
						return
					}
					time.Sleep(70 * time.Millisecond)
				}
				done <- nil
			}()
		}
		for range requests {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// What cannot be written down is not answered.
func TestU2FStorageFails(t *testing.T) {
	key, err := New(Config{Path: filepath.Join(t.TempDir(), "key")})
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t, key}
	r := p.register(testApplication)
	p.authenticate(r.key, r.handle)
	if err := key.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	p.wantWord(swInternal, authenticateAPDU(u2fEnforceUserPresence, testApplication, r.handle))
	if key.Close() == nil {
		t.Error("Close does not say what happened")
	}
}

func TestU2FKeptInAFile(t *testing.T) {
	cfg := Config{Level: CTAP1, Path: filepath.Join(t.TempDir(), "key")}
	key := newKey(t, cfg)
	r := key.register(testApplication)
	counter := key.authenticate(r.key, r.handle)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	if again := newKey(t, cfg).authenticate(r.key, r.handle); again != counter+1 {
		t.Errorf("counter %d after %d", again, counter)
	}
}

// u2fHost sends U2F requests over CTAPHID, to channel 1.
func (h *host) msg(apdu []byte) []byte {
	h.t.Helper()
	rest := apdu
	report := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 1, 0x80 | ctap.HIDMsg}, uint16(len(apdu)))
	for sequence := byte(0); ; sequence++ {
		n := min(len(rest), h.size-len(report))
		if _, err := h.conn.Write(whole(append(report, rest[:n]...), h.size)); err != nil {
			h.t.Fatal(err)
		}
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
		report = append(report[:4:4], sequence)
	}
	command, data := h.message()
	if command != ctap.HIDMsg {
		h.t.Fatalf("command %02x, %x", command, data)
	}
	return data
}

// Registration and authentication with a poll over each transport, with each
// kind of key that has U2F.
func TestU2FTransports(t *testing.T) {
	hidMsg := func(t *testing.T, key *platform) func([]byte) []byte {
		usb := key.PlugIn(USBConfig{})
		t.Cleanup(usb.Unplug)
		h := connect(t, usb)
		h.send("ffffffff 86 0008 0102030405060708")
		if command, data := h.message(); command != ctap.HIDInit || data[16]&ctap.HIDCapabilityNMSG != 0 ||
			(data[16]&ctap.HIDCapabilityCBOR != 0) != (key.cfg.Level != CTAP1) {
			t.Errorf("INIT: command %02x, %x", command, data)
		}
		return h.msg
	}
	tap := func(short bool) func(t *testing.T, key *platform) func([]byte) []byte {
		return func(t *testing.T, key *platform) func([]byte) []byte {
			card := key.Tap(CardConfig{})
			t.Cleanup(card.Remove)
			r := reader{t, card}
			r.run(t, selectU2F)
			if !short {
				return r.transmit
			}
			return func(apdu []byte) []byte {
				command := append(bytes.Clone(apdu[:4]), apdu[6])
				response := r.transmit(append(append(command, apdu[7:len(apdu)-2]...), 0))
				var data []byte
				for {
					n := len(response) - 2
					data = append(data, response[:n]...)
					if response[n] != swMore>>8 {
						return append(data, response[n:]...)
					}
					response = r.transmit([]byte{0, cardGetResponse, 0, 0, response[n+1]})
				}
			}
		}
	}
	for name, attach := range map[string]func(*testing.T, *platform) func([]byte) []byte{
		"HID": hidMsg, "card": tap(false), "card, short": tap(true),
	} {
		for _, level := range []Level{CTAP1, CTAP23} {
			t.Run(fmt.Sprintf("%s, level %d", name, level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					key := newKey(t, Config{Level: level, Presence: TouchAfter(300 * time.Millisecond), Transports: []string{"nfc", "usb"}})
					msg := attach(t, key)
					poll := func(apdu []byte) []byte {
						start := time.Now()
						for range 10 {
							response := msg(apdu)
							n := len(response) - 2
							switch binary.BigEndian.Uint16(response[n:]) {
							case swOK:
								if time.Since(start) < 300*time.Millisecond {
									t.Error("nobody was waited for")
								}
								return response[:n]
							case swConditions:
								time.Sleep(100 * time.Millisecond)
								continue
							}
							t.Fatalf("%x", response)
						}
						t.Fatal("no touch")
						return nil
					}
					r := key.parseRegistration(poll(registerAPDU(testApplication)), testApplication)
					if got := msg(authenticateAPDU(u2fCheckOnly, testApplication, r.handle)); !bytes.Equal(got, []byte{0x69, 0x85}) {
						t.Errorf("check-only: %x", got)
					}
					if got := msg(authenticateAPDU(u2fCheckOnly, [32]byte{}, r.handle)); !bytes.Equal(got, []byte{0x6A, 0x80}) {
						t.Errorf("check-only of an unknown handle: %x", got)
					}
					data := poll(authenticateAPDU(u2fEnforceUserPresence, testApplication, r.handle))
					key.checkSignature(r.key, testApplication, data, ctap.FlagUserPresent)
				})
			})
		}
	}
}

// A card that goes away, or is closed, in the middle of a request.
func TestU2FCardRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{})
		card := key.Tap(CardConfig{})
		r := reader{t, card}
		r.run(t, selectU2F)
		key.SetPresence(func(context.Context, Prompt) Answer { card.Remove(); return Approve })
		if response, err := card.Transmit(registerAPDU(testApplication)); !errors.Is(err, ctap.ErrDeviceGone) {
			t.Errorf("%x, %v", response, err)
		}
		card.Tap()
		r.run(t, selectU2F)
		key.Close()
		if response, err := card.Transmit(registerAPDU(testApplication)); !errors.Is(err, ctap.ErrClosed) {
			t.Errorf("%x, %v", response, err)
		}
	})
}

// Whatever comes in, a key answers with a status word that it knows, at once,
// and goes on to work.
func FuzzU2F(f *testing.F) {
	key := newKey(f, Config{Presence: Ignore})
	key.SetPresence(Touch)
	r := key.register(testApplication)
	made := key.make(residentKey())
	f.Add([]byte{})
	f.Add([]byte{0, 3, 0})
	f.Add(u2fAPDU(u2fVersion, 0))
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0, 0})
	f.Add(registerAPDU(testApplication))
	f.Add(registerAPDU(testApplication)[:70])
	for _, p1 := range []byte{u2fEnforceUserPresence, u2fCheckOnly, u2fDontEnforceUserPresence, 0} {
		f.Add(authenticateAPDU(p1, testApplication, r.handle))
		f.Add(authenticateAPDU(p1, testApplication, made.id))
		f.Add(authenticateAPDU(p1, [32]byte{}, make([]byte, 255)))
	}
	known := []uint16{swOK, swConditions, swWrongData, swWrongLength, swWrongP1P2, swUnknownINS, swUnknownCLA}
	f.Fuzz(func(t *testing.T, apdu []byte) {
		before := bytes.Clone(apdu)
		response, err := key.Msg(context.Background(), apdu)
		if err != nil || len(response) < 2 || !bytes.Equal(apdu, before) {
			t.Fatalf("%x, %v", response, err)
		}
		n := len(response) - 2
		word := binary.BigEndian.Uint16(response[n:])
		if !slices.Contains(known, word) || (word == swOK) != (n > 0) {
			t.Fatalf("%d bytes, status word %04X", n, word)
		}
		if word != swOK {
			return
		}
		p := &platform{t, key.Authenticator}
		cmd, _ := parseU2F(apdu)
		switch cmd.instruction {
		case u2fRegister:
			if data := cmd.data; bytes.Equal(data[:32], testHash) {
				p.parseRegistration(response[:n], [32]byte(data[32:]))
			}
		case u2fAuthenticate:
			if n < 5+68 || response[0] != 0 && response[0] != ctap.FlagUserPresent {
				t.Fatalf("%x", response)
			}
		}
	})
}

// A touch just before the key stops looking counts.
func TestU2FTouchAtTheEndOfTheGlance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, Config{Presence: TouchAfter(u2fGlance - 1)})
		key.register(testApplication)
	})
}

// A touch that U2F waited for is not kept past an enrolment, which asks for the
// same finger.
func TestU2FEnrolmentTakesTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counter
		c.next = TouchAfter(time.Second)
		key := newKey(t, Config{PIN: testPIN, BuiltInUV: UVNotConfigured, Presence: c.person})
		e := key.enroller(pin.Two)
		key.wantWord(swConditions, registerAPDU(testApplication))
		key.SetFinger(func(context.Context, Prompt) SampleStatus { time.Sleep(2 * time.Second); return SampleGood })
		e.do(enrollBegin, nil)
		key.wantWord(swConditions, registerAPDU(testApplication))
		synctest.Wait()
		if n := c.took(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// A request of U2F comes between the fragments of a large-blob array, as a CTAP
// command would (§6).
func TestU2FBetweenFragments(t *testing.T) {
	key := newKey(t, Config{})
	array := serialized(1, 40)
	key.ok(ctap.CmdLargeBlobs, fragment(array[:20], 0, 40))
	key.msg(u2fAPDU(u2fVersion, 0))
	key.refused(ctap.StatusInvalidSeq, ctap.CmdLargeBlobs, fragment(array[20:], 20, 0))
}
