package conformance

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// Instructions of U2F, and P1 of U2F_AUTHENTICATE.
const (
	u2fRegister, u2fAuthenticate, u2fVersion = 1, 2, 3
	u2fEnforce, u2fCheck, u2fDoNotEnforce    = 0x03, 0x07, 0x08
)

// u2fPoll is how often the platform asks whether somebody has touched the
// authenticator, and u2fPatience for how long.
const u2fPoll, u2fPatience = 200 * time.Millisecond, 30 * time.Second

// overU2F is an authenticator that speaks U2F, alone or besides.
var overU2F = plain.and(u2fSpoken).orU2F()

// apdu sends a U2F message of extended length and returns what answers it; the
// error is the status word, unless that is 9000, or what the transport says.
func (x *trial) apdu(class, instruction, p1 byte, data []byte) ([]byte, error) {
	messenger, ok := ctap2.As[ctap2.Messenger](x.key.Transport())
	if !ok {
		x.skip("the transport carries no U2F messages")
	}
	command := []byte{class, instruction, p1, 0, 0}
	if len(data) > 0 {
		command = append(binary.BigEndian.AppendUint16(command, uint16(len(data))), data...)
	}
	response, err := messenger.Msg(x.ctx, append(command, 0, 0))
	if err != nil {
		return nil, err
	}
	if len(response) < 2 {
		x.fatalf("a response of %d bytes to a U2F message", len(response))
	}
	word := ctap2.U2FStatus(binary.BigEndian.Uint16(response[len(response)-2:]))
	if word == 0x9000 {
		return response[:len(response)-2], nil
	}
	return nil, word
}

// touched sends a U2F message until somebody has touched the authenticator.
func (x *trial) touched(instruction, p1 byte, data []byte) ([]byte, error) {
	for waited := time.Duration(0); ; waited += u2fPoll {
		response, err := x.apdu(0, instruction, p1, data)
		if !errors.Is(err, ctap2.ErrU2FConditionsNotSatisfied) || waited >= u2fPatience {
			return response, err
		}
		if waited == 0 {
			x.h.waiting()
		}
		x.sleep(u2fPoll)
	}
}

// registration is the data of U2F_REGISTER.
func registration(rpID string) []byte { return slices.Concat(clientDataHash[:], rpIDHash(rpID)) }

// authentication is the data of U2F_AUTHENTICATE.
func authentication(rpID string, handle []byte) []byte {
	return slices.Concat(clientDataHash[:], rpIDHash(rpID), []byte{byte(len(handle))}, handle)
}

// handle registers and returns the key handle.
func (x *trial) handle() []byte { return x.registered().handle }

func (d *drivers) u2f() {
	harmless := overU2F.leavesNoTrace()
	send := func(id string, class, instruction byte, data []byte) {
		d.add("u2f-"+id, harmless, func(x *trial) error {
			_, err := x.apdu(class, instruction, 0, data)
			return err
		})
	}
	good := registration("example.com")
	send("version", 0, u2fVersion, nil)
	send("version-data", 0, u2fVersion, []byte{1})
	send("register-length", 0, u2fRegister, good[:63])
	send("register-longer", 0, u2fRegister, append(slices.Clone(good), 0))
	send("unknown-ins", 0, 0x04, nil)
	send("unknown-class", 0x01, u2fVersion, nil)
	d.add("u2f-register", harmless, func(x *trial) error {
		_, err := x.touched(u2fRegister, 0, good)
		return err
	})
	d.add("u2f-register-no-touch", harmless.person(NoTouch), func(x *trial) error {
		x.person(NoTouch)
		_, err := x.apdu(0, u2fRegister, 0, good)
		return err
	})

	// A touch is waited for where there will be one.
	sign := func(id string, p1 byte, g Gesture, data func(handle []byte) []byte) {
		s := harmless
		if g != Touch {
			s = s.person(g)
		}
		d.add("u2f-"+id, s, func(x *trial) error {
			data := data(x.handle())
			x.person(g)
			if g == Touch && p1 == u2fEnforce {
				_, err := x.touched(u2fAuthenticate, p1, data)
				return err
			}
			_, err := x.apdu(0, u2fAuthenticate, p1, data)
			return err
		})
	}
	known := func(handle []byte) []byte { return authentication("example.com", handle) }
	unknown := func(handle []byte) []byte { return authentication("example.com", random(len(handle))) }
	sign("check", u2fCheck, Touch, known)
	sign("check-unknown", u2fCheck, Touch, unknown)
	sign("check-other-app", u2fCheck, Touch, func(handle []byte) []byte { return authentication("example.org", handle) })
	sign("enforce", u2fEnforce, Touch, known)
	sign("enforce-no-touch", u2fEnforce, NoTouch, known)
	sign("enforce-unknown", u2fEnforce, Touch, unknown)
	sign("dont-enforce", u2fDoNotEnforce, NoTouch, known)
	sign("authenticate-p1", 0x05, Touch, known)
	sign("authenticate-length", u2fEnforce, Touch, func(handle []byte) []byte {
		data := authentication("example.com", handle)
		return data[:len(data)-1]
	})
	sign("authenticate-longer", u2fCheck, Touch, func(handle []byte) []byte {
		return append(authentication("example.com", handle), 0)
	})

	// alwaysUv is turned on on the way: with it getInfo does not say that there
	// is U2F.
	always := func(id string, instruction, p1 byte, data func(x *trial) []byte) {
		d.add("u2f-"+id+"-alwaysuv", plain.and(u2fSpoken, togglesAlways, authnrCfg), func(x *trial) error {
			data := data(x)
			x.must(x.key.ToggleAlwaysUV(x.ctx, nil))
			_, err := x.apdu(0, instruction, p1, data)
			var word ctap2.U2FStatus
			if err != nil && !errors.As(err, &word) {
				x.skip("the transport takes no U2F messages where there is alwaysUv: %v", err)
			}
			return err
		})
	}
	always("register", u2fRegister, 0, func(*trial) []byte { return good })
	always("authenticate", u2fAuthenticate, u2fEnforce, func(x *trial) []byte { return known(x.handle()) })
	d.add("rst-u2f", plain.and(u2fSpoken).powerCycle(), func(x *trial) error {
		handle := x.handle()
		x.must(x.erase())
		if !u2fSpoken.holds(x.fresh()) {
			x.skip("does not speak U2F after a reset") // but after one and toggleAlwaysUv
		}
		_, err := x.apdu(0, u2fAuthenticate, u2fCheck, known(handle))
		return err
	})
	d.add("u2f-ctap2", plain.and(onlyU2F).orU2F().leavesNoTrace(), func(x *trial) error {
		reply, err := x.key.Transport().Exchange(x.ctx, []byte{ctap.CmdGetInfo}, nil)
		if err != nil {
			x.skip("the transport takes no CTAP2 messages there: %v", err)
		}
		if len(reply) == 0 {
			x.fatalf("no answer")
		}
		return &ctap2.Error{Command: ctap.CmdGetInfo, Status: ctap2.Status(reply[0])}
	})
}

// u2fAnswers adds the requirements on what is in the answers.
func (d *drivers) u2fAnswers() {
	harmless := overU2F.leavesNoTrace()
	add := func(id string, s setup, run func(x *trial)) {
		d.add("u2f-"+id, s, func(x *trial) error {
			run(x)
			return nil
		})
	}
	add("version-name", harmless, func(x *trial) {
		name, err := x.apdu(0, u2fVersion, 0, nil)
		x.must(err)
		if string(name) != "U2F_V2" {
			x.errorf("the version is %q", name)
		}
	})
	add("registration", harmless, func(x *trial) {
		r := x.registered()
		leaf, err := x509.ParseCertificate(r.certificate)
		if err != nil {
			x.fatalf("the attestation certificate: %w", err)
		}
		message := slices.Concat([]byte{0}, rpIDHash("example.com"), clientDataHash[:], r.handle, r.point)
		key, _ := leaf.PublicKey.(*ecdsa.PublicKey)
		if key == nil || key.Curve != elliptic.P256() {
			x.fatalf("the attestation key is none of ECDSA on P-256")
		}
		if err := leaf.CheckSignature(x509.ECDSAWithSHA256, message, r.signature); err != nil {
			x.errorf("the signature of the registration: %v", err)
		}
	})
	add("registration-new", harmless, func(x *trial) {
		one, other := x.registered(), x.registered()
		if bytes.Equal(one.handle, other.handle) || bytes.Equal(one.point, other.point) {
			x.errorf("two registrations with one key handle or one key")
		}
	})
	add("authentication", harmless, func(x *trial) {
		r := x.registered()
		answer := x.authenticated(r, u2fEnforce)
		if answer[0] != 1 {
			x.errorf("the user presence byte is %#02x, must be 0x01", answer[0])
		}
		counter := binary.BigEndian.Uint32(answer[1:])
		next := binary.BigEndian.Uint32(x.authenticated(r, u2fEnforce)[1:])
		if next <= counter {
			x.errorf("the counter goes from %d to %d", counter, next)
		}
	})
	add("counter-power-cycle", harmless.powerCycle(), func(x *trial) {
		r := x.registered()
		before := binary.BigEndian.Uint32(x.authenticated(r, u2fEnforce)[1:])
		x.powerCycle()
		if after := binary.BigEndian.Uint32(x.authenticated(r, u2fEnforce)[1:]); after <= before {
			x.errorf("the counter goes from %d to %d over a power cycle", before, after)
		}
	})
	add("not-present", harmless.person(NoTouch), func(x *trial) {
		r := x.registered()
		x.person(NoTouch)
		if answer := x.authenticated(r, u2fDoNotEnforce); answer[0]&1 != 0 {
			x.errorf("nobody has touched the authenticator, and the user presence byte is %#02x", answer[0])
		}
	})
	add("touch-each", harmless.person(NoTouch), func(x *trial) {
		r := x.registered()
		x.authenticated(r, u2fEnforce)
		x.person(NoTouch)
		_, err := x.apdu(0, u2fAuthenticate, u2fEnforce, authentication("example.com", r.handle))
		if !errors.Is(err, ctap2.ErrU2FConditionsNotSatisfied) {
			x.errorf("a second signature for one touch: %v", err)
		}
	})
	add("handle-changed", harmless, func(x *trial) {
		handle := x.registered().handle
		for _, i := range []int{0, len(handle) / 2, len(handle) - 1} {
			changed := bytes.Clone(handle)
			changed[i] ^= 1
			_, err := x.apdu(0, u2fAuthenticate, u2fCheck, authentication("example.com", changed))
			if !errors.Is(err, ctap2.ErrU2FWrongData) {
				x.errorf("a key handle with another byte %d is answered with %v", i, err)
			}
		}
	})
	add("other-app-enforced", harmless, func(x *trial) {
		handle := x.registered().handle
		if _, err := x.apdu(0, u2fAuthenticate, u2fEnforce, authentication("example.org", handle)); !errors.Is(err, ctap2.ErrU2FWrongData) {
			x.errorf("the key handle of another application is answered with %v", err)
		}
		if _, err := x.apdu(0, u2fAuthenticate, u2fDoNotEnforce, authentication("example.org", handle)); !errors.Is(err, ctap2.ErrU2FWrongData) {
			x.errorf("without a touch the key handle of another application is answered with %v", err)
		}
	})

	bothSpoken := plain.and(u2fSpoken, ctap2Spoken).leavesNoTrace()
	add("to-ctap2", bothSpoken, func(x *trial) {
		r := x.registered()
		answer := x.asserted(set(gaAllowList, list(r.handle)))
		data := x.authData(answer)
		if !bytes.Equal(data.RPIDHash[:], rpIDHash("example.com")) || data.Flags.Has(ctap2.FlagUserVerified) {
			x.errorf("rpIdHash %x, flags %v", data.RPIDHash, data.Flags)
		}
		signature, _ := answer[gaSignature].([]byte)
		x.verify(r.point, signature, data.Raw, clientDataHash[:])
		x.foundIs(false, "for another relying party", set(1, "example.org"), set(gaAllowList, list(r.handle)))
	})
	add("from-ctap2", bothSpoken, func(x *trial) {
		credential := x.register(notResident)
		key := credential.PublicKey
		r := u2fRegistered{handle: credential.ID, point: slices.Concat([]byte{4}, key.X, key.Y)}
		if len(r.handle) > 255 {
			x.skip("has credential IDs that are too long for U2F")
		}
		if !from21.holds(x.info) && x.ga(gaOption("up", false)) == nil {
			x.skip("makes every credential discoverable, as CTAP 2.0 may")
		}
		x.authenticated(r, u2fEnforce)
	})
	protects := bothSpoken.and(extension("credProtect"))
	protectedHandle := func(x *trial, policy ctap2.CredProtectPolicy) []byte {
		id := x.create(notResident, protected(policy))
		if len(id) > 255 {
			x.skip("has credential IDs that are too long for U2F")
		}
		return authentication("example.com", id)
	}
	add("protect3", protects, func(x *trial) {
		data := protectedHandle(x, ctap2.UVRequired)
		for _, p1 := range []byte{u2fCheck, u2fEnforce, u2fDoNotEnforce} {
			if _, err := x.apdu(0, u2fAuthenticate, p1, data); !errors.Is(err, ctap2.ErrU2FWrongData) {
				x.errorf("with P1 %02X it is answered with %v", p1, err)
			}
		}
	})
	add("protect2", protects, func(x *trial) {
		_, err := x.apdu(0, u2fAuthenticate, u2fCheck, protectedHandle(x, ctap2.UVOptionalWithCredentialIDList))
		if !errors.Is(err, ctap2.ErrU2FConditionsNotSatisfied) {
			x.errorf("it is not known: %v", err)
		}
	})
	add("one-counter", bothSpoken, func(x *trial) {
		r := x.registered()
		first := binary.BigEndian.Uint32(x.authenticated(r, u2fEnforce)[1:])
		second := x.authData(x.asserted(set(gaAllowList, list(r.handle)))).SignCount
		third := binary.BigEndian.Uint32(x.authenticated(r, u2fEnforce)[1:])
		if second <= first || third <= second {
			x.errorf("the counter of one credential goes from %d to %d to %d", first, second, third)
		}
	})
}

// u2fRegistered is the answer to U2F_REGISTER.
type u2fRegistered struct{ point, handle, certificate, signature []byte }

// registered registers, and takes the answer apart.
func (x *trial) registered() u2fRegistered {
	response, err := x.touched(u2fRegister, 0, registration("example.com"))
	x.must(err)
	const header = 1 + 65 + 1
	if len(response) < header || response[0] != 5 || response[header-1] == 0 || len(response) < header+int(response[header-1]) {
		x.fatalf("U2F_REGISTER answered %x", response)
	}
	r := u2fRegistered{point: response[1 : header-1], handle: response[header : header+int(response[header-1])]}
	var certificate asn1.RawValue
	r.signature, err = asn1.Unmarshal(response[header+len(r.handle):], &certificate)
	if err != nil {
		x.fatalf("no certificate in the answer to U2F_REGISTER: %w", err)
	}
	r.certificate = certificate.FullBytes
	if _, err := ecdh.P256().NewPublicKey(r.point); err != nil {
		x.errorf("the public key: %v", err)
	}
	return r
}

// authenticated signs in, and checks the answer's form and its signature.
func (x *trial) authenticated(r u2fRegistered, p1 byte) []byte {
	answer, err := x.touched(u2fAuthenticate, p1, authentication("example.com", r.handle))
	x.must(err)
	if len(answer) < 1+4+1 || answer[0]&0xFE != 0 {
		x.fatalf("U2F_AUTHENTICATE answered %x", answer)
	}
	x.verify(r.point, answer[5:], rpIDHash("example.com"), answer[:5], clientDataHash[:])
	return answer
}

// verify checks a signature by a credential's key.
func (x *trial) verify(point, signature []byte, message ...[]byte) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	x.must(err)
	digest := sha256.Sum256(slices.Concat(message...))
	if !ecdsa.VerifyASN1(key, digest[:], signature) {
		x.errorf("the signature is wrong")
	}
}
