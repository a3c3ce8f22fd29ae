package ctap2_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
)

// hmacSecret is the input of hmac-secret, and of hmac-secret-mc, with salts of n
// bytes.
func (a agreement) hmacSecret(x *trial, n int) members {
	x.Helper()
	salts := a.encrypt(x, random(n))
	return members{1: a.key, 2: salts, 3: a.secret.Authenticate(salts), 4: a.secret.Protocol()}
}

func (d *drivers) extensions() {
	plain := virtual.Config{}
	rk := option("rk", true)
	mc := func(id, extension string, input any, edits ...edit) {
		d.simple("ext-"+id, plain, append(edits, set(mcExtensions, fields{extension: input}))...)
	}
	ga := func(id, extension string, input any) {
		d.add("ext-"+id, plain, func(x *trial) error {
			x.create()
			return x.ga(set(gaExtensions, fields{extension: input}))
		})
	}
	mc("unknown-mc", "quux", true)
	ga("unknown-ga", "quux", true)
	mc("type-credProtect", "credProtect", "required")
	mc("credProtect-0", "credProtect", 0)
	mc("credProtect-4", "credProtect", 4)
	mc("type-credBlob-mc", "credBlob", "blob", rk)
	ga("type-credBlob-ga", "credBlob", []byte("blob"))
	d.add("ext-credBlob-too-long", plain, func(x *trial) error {
		answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(rk, set(mcExtensions, fields{"credBlob": make([]byte, 33)})))
		if err == nil && !bytes.HasSuffix(answer[2].([]byte), []byte("\x68credBlob\xF4")) {
			x.Errorf("the output is not false: %x", answer[2])
		}
		return err
	})
	mc("type-largeBlobKey-mc", "largeBlobKey", 1, rk)
	ga("type-largeBlobKey-ga", "largeBlobKey", 1)
	mc("largeBlobKey-false-mc", "largeBlobKey", false, rk)
	ga("largeBlobKey-false-ga", "largeBlobKey", false)
	mc("largeBlobKey-not-rk", "largeBlobKey", true)
	mc("type-minPinLength", "minPinLength", 1)
	// told asks for what setMinPINLength has told a relying party of.
	told := func(id, extension string, named bool, output string) {
		d.add("ext-"+extension+"-"+id, plain, func(x *trial) error {
			if named {
				x.must(x.command(ctap.CmdConfig, subcommand(ctap.ConfigSetMinPINLength, members{2: []string{"example.com"}})))
			}
			answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(set(mcExtensions, fields{extension: true})))
			if err == nil && bytes.HasSuffix(answer[2].([]byte), []byte(output)) != named {
				x.Errorf("the output, if named %v: %x", named, answer[2])
			}
			return err
		})
	}
	for id, named := range map[string]bool{"listed": true, "unlisted": false} {
		told(id, "minPinLength", named, "\x6CminPinLength\x04")
		told(id, "pinComplexityPolicy", named, "\x73pinComplexityPolicy\xF4")
	}
	mc("type-pinComplexityPolicy", "pinComplexityPolicy", 1)
	mc("type-thirdPartyPayment-mc", "thirdPartyPayment", 1)
	ga("type-thirdPartyPayment-ga", "thirdPartyPayment", 1)

	mc("type-hmac-secret-mc", "hmac-secret", 1)
	mc("hmac-secret-false", "hmac-secret", false)
	ga("type-hmac-secret-ga", "hmac-secret", true)
	secret := func(id string, n int, spoil func(x *trial, input members), edits ...edit) {
		d.add("ext-hmac-secret-"+id, plain, func(x *trial) error {
			x.create()
			input := x.agree().hmacSecret(x, n)
			spoil(x, input)
			return x.ga(append(edits, set(gaExtensions, fields{"hmac-secret": input}))...)
		})
	}
	for name, key := range map[string]int{"keyAgreement": 1, "saltEnc": 2, "saltAuth": 3} {
		secret("missing-"+name, 32, func(_ *trial, input members) { delete(input, key) })
	}
	for name, wrong := range map[string]edit{
		"keyAgreement": set(1, []byte{4}), "saltEnc": set(2, "salt"), "saltAuth": set(3, "auth"), "pinUvAuthProtocol": set(4, "two"),
	} {
		secret("type-"+name, 32, func(_ *trial, input members) { wrong(input) })
	}
	nothing := func(*trial, members) {}
	flip := func(_ *trial, input members) { input[3].([]byte)[5] ^= 0x10 }
	secret("protocol", 32, func(_ *trial, input members) { input[4] = 3 })
	secret("up-false", 32, nothing, gaOption("up", false))
	secret("off-curve", 32, func(_ *trial, input members) {
		key := *input[1].(*cose.Key)
		key.Y = append([]byte{key.Y[0] ^ 1}, key.Y[1:]...)
		input[1] = coseMembers(&key)
	})
	secret("auth", 32, flip)
	secret("stale", 32, func(x *trial, _ members) { x.soft.PowerCycle() })
	secret("length", 48, nothing)
	d.add("ext-hmac-secret-block", plain, func(x *trial) error {
		x.create()
		a := x.agree()
		input := a.hmacSecret(x, 32)
		salts := input[2].([]byte)[:31]
		input[2], input[3] = salts, a.secret.Authenticate(salts)
		return x.ga(set(gaExtensions, fields{"hmac-secret": input}))
	})
	secret("two", 64, nothing)

	secretMC := func(id string, n int, others fields, spoil func(x *trial, input members)) {
		d.add("ext-hmac-secret-mc-"+id, plain, func(x *trial) error {
			input := x.agree().hmacSecret(x, n)
			spoil(x, input)
			extensions := fields{"hmac-secret-mc": input}
			for name, value := range others {
				extensions[name] = value
			}
			return x.mc(set(mcExtensions, extensions))
		})
	}
	asked := fields{"hmac-secret": true}
	secretMC("alone", 32, nil, nothing)
	secretMC("false", 32, fields{"hmac-secret": false}, nothing)
	secretMC("auth", 32, asked, flip)
	secretMC("length", 48, asked, nothing)
	secretMC("protocol", 32, asked, func(_ *trial, input members) { input[4] = 3 })
	secretMC("good", 32, asked, nothing)
	d.simple("ext-type-hmac-secret-mc-ext", plain, set(mcExtensions, fields{"hmac-secret": true, "hmac-secret-mc": true}))
}

// largeBlob adds the rows of the extension of that name.
func (d *drivers) largeBlob() {
	config := virtual.Config{Extensions: []string{"largeBlob"}, MaxSerializedLargeBlobArray: ctap.LargeBlobMinArray}
	input := func(blob any) edit { return set(mcExtensions, fields{"largeBlob": blob}) }
	required := fields{"support": "required"}
	d.simple("ext-type-largeBlob-mc", config, input(true))
	d.simple("ext-largeBlob-no-support", config, input(fields{"quux": "required"}))
	d.simple("ext-largeBlob-support", config, input(fields{"support": "perhaps"}))
	d.simple("ext-largeBlob-preferred", config, input(fields{"support": "preferred"}))

	// ga asserts with a credential that has a place for a blob; written is what
	// the output says, if it says something of that.
	ga := func(id string, blob any, listed bool, written ...bool) {
		d.add("ext-"+id, config, func(x *trial) error {
			made, err := x.ask(ctap.CmdMakeCredential, mcRequest(option("rk", true), input(required)))
			x.must(err)
			edits := []edit{set(gaExtensions, fields{"largeBlob": blob})}
			if listed {
				edits = append(edits, set(gaAllowList, list(credentialID(made[2].([]byte)))))
			}
			answer, err := x.ask(ctap.CmdGetAssertion, gaRequest(edits...))
			for _, want := range written {
				output, _ := answer[8].(map[any]any)["largeBlob"].(map[any]any)
				if err == nil && output["written"] != want {
					x.Errorf("the output is %v", answer[8])
				}
			}
			return err
		})
	}
	write := func(n int) fields { return fields{"write": random(n), "originalSize": n} }
	ga("type-largeBlob-ga", true, true)
	ga("largeBlob-nothing", fields{}, true)
	ga("largeBlob-both", fields{"read": true, "write": []byte{1}, "originalSize": 1}, true)
	ga("largeBlob-type-read", fields{"read": "true"}, true)
	ga("largeBlob-type-write", fields{"write": "blob", "originalSize": 4}, true)
	ga("largeBlob-no-size", fields{"write": []byte{1}}, true)
	ga("largeBlob-written", write(100), true, true)
	ga("largeBlob-no-list", write(100), false, false)
	ga("largeBlob-too-large", write(2*ctap.LargeBlobMinArray), true, false)
}

// credentialID is the credential ID in the authenticator data of a
// registration.
func credentialID(authData []byte) []byte {
	const at = 32 + 1 + 4 + 16
	length := int(binary.BigEndian.Uint16(authData[at:]))
	return authData[at+2 : at+2+length]
}

func (d *drivers) enterpriseAttestation() {
	capable := virtual.Config{EnterpriseAttestation: true, EnterpriseRPIDs: []string{"example.org"}}
	value := func(v int) edit { return set(10, v) }
	d.simple("ea-not-capable", virtual.Config{}, value(1))
	d.simple("ea-not-capable-value", virtual.Config{}, value(7))
	d.simple("ea-disabled", capable, value(1))
	enabled := func(id string, granted bool, edits ...edit) {
		d.add("ea-"+id, capable, func(x *trial) error {
			x.must(x.command(ctap.CmdConfig, cfgEA.request(x)))
			answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(edits...))
			if has := answer[4] == true; err == nil && has != granted {
				x.Errorf("epAtt is %v", has)
			}
			return err
		})
	}
	listed := set(2, fields{"id": "example.org"})
	enabled("value", false, value(3), listed)
	enabled("value-zero", false, value(0), listed)
	enabled("vendor-listed", true, value(1), listed)
	enabled("vendor-unlisted", false, value(1))
	enabled("platform", true, value(2))
}

// apdu sends a U2F message of extended length and returns what answers it; the
// error is the status word, unless that is 9000.
func (x *trial) apdu(class, instruction, p1 byte, data []byte) ([]byte, error) {
	x.Helper()
	messenger, ok := ctap2.As[ctap2.Messenger](x.key.Transport())
	if !ok {
		x.Fatal("no U2F")
	}
	command := []byte{class, instruction, p1, 0, 0}
	if len(data) > 0 {
		command = append(binary.BigEndian.AppendUint16(command, uint16(len(data))), data...)
	}
	response, err := messenger.Msg(x.ctx, append(command, 0, 0))
	x.must(err)
	word := ctap2.U2FStatus(binary.BigEndian.Uint16(response[len(response)-2:]))
	if word == 0x9000 {
		return response[:len(response)-2], nil
	}
	return nil, word
}

const (
	u2fRegister, u2fAuthenticate, u2fVersion = 1, 2, 3
	u2fEnforce, u2fCheck, u2fDoNotEnforce    = 0x03, 0x07, 0x08
)

// handle registers and returns the key handle.
func (x *trial) handle() []byte {
	x.Helper()
	response, err := x.apdu(0, u2fRegister, 0, slices.Concat(clientDataHash[:], rpIDHash("example.com")))
	x.must(err)
	return response[67 : 67+response[66]]
}

// authentication is the data of U2F_AUTHENTICATE.
func authentication(application string, handle []byte) []byte {
	return slices.Concat(clientDataHash[:], rpIDHash(application), []byte{byte(len(handle))}, handle)
}

func (d *drivers) u2f() {
	plain := virtual.Config{}
	send := func(id string, config virtual.Config, class, instruction, p1 byte, data []byte) {
		d.add("u2f-"+id, config, func(x *trial) error {
			_, err := x.apdu(class, instruction, p1, data)
			return err
		})
	}
	registration := slices.Concat(clientDataHash[:], rpIDHash("example.com"))
	away := virtual.Config{Presence: virtual.Ignore}
	send("version", plain, 0, u2fVersion, 0, nil)
	send("version-data", plain, 0, u2fVersion, 0, []byte{1})
	send("register", plain, 0, u2fRegister, 0, registration)
	send("register-no-touch", away, 0, u2fRegister, 0, registration)
	send("register-length", plain, 0, u2fRegister, 0, registration[:63])
	send("register-alwaysuv", virtual.Config{AlwaysUV: true}, 0, u2fRegister, 0, registration)
	send("unknown-ins", plain, 0, 0x04, 0, nil)
	send("unknown-class", plain, 0x01, u2fVersion, 0, nil)

	sign := func(id string, p1 byte, live func(x *trial, handle []byte) []byte) {
		d.add("u2f-"+id, plain, func(x *trial) error {
			data := live(x, x.handle())
			_, err := x.apdu(0, u2fAuthenticate, p1, data)
			return err
		})
	}
	known := func(_ *trial, handle []byte) []byte { return authentication("example.com", handle) }
	unknown := func(_ *trial, handle []byte) []byte { return authentication("example.com", random(len(handle))) }
	untouched := func(x *trial, handle []byte) []byte {
		x.people(virtual.Ignore)
		return authentication("example.com", handle)
	}
	sign("check", u2fCheck, known)
	sign("check-unknown", u2fCheck, unknown)
	sign("check-other-app", u2fCheck, func(_ *trial, handle []byte) []byte { return authentication("example.org", handle) })
	sign("enforce", u2fEnforce, known)
	sign("enforce-no-touch", u2fEnforce, untouched)
	sign("enforce-unknown", u2fEnforce, unknown)
	sign("dont-enforce", u2fDoNotEnforce, untouched)
	sign("authenticate-p1", 0x05, known)
	sign("authenticate-length", u2fEnforce, func(_ *trial, handle []byte) []byte {
		data := authentication("example.com", handle)
		return data[:len(data)-1]
	})
	sign("authenticate-alwaysuv", u2fEnforce, func(x *trial, handle []byte) []byte {
		x.must(x.command(ctap.CmdConfig, cfgAlways.request(x)))
		return authentication("example.com", handle)
	})
	d.add("u2f-ctap2", virtual.Config{Level: virtual.CTAP1}, func(x *trial) error {
		reply, err := x.soft.Exchange(x.ctx, []byte{ctap.CmdGetInfo}, nil)
		x.must(err)
		return &ctap2.Error{Command: ctap.CmdGetInfo, Status: ctap2.Status(reply[0])}
	})
}
