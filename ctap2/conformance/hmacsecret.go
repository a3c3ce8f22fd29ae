package conformance

import (
	"bytes"
	"maps"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/pin"
)

// hmacSecret is the input of hmac-secret, and of hmac-secret-mc, with salts.
func (a agreement) hmacSecret(x *trial, salts []byte) members {
	saltEnc := a.encrypt(x, salts)
	return members{1: a.key, 2: saltEnc, 3: a.secret.Authenticate(saltEnc), 4: a.secret.Protocol()}
}

func (d *drivers) hmacSecretRows() {
	base := plain.and(extension("hmac-secret"))
	later := base.and(from21) // 2.0 had the one protocol, and no member for it
	secret := func(id string, s setup, n int, spoil func(x *trial, input members), edits ...edit) {
		d.add("ext-hmac-secret-"+id, s, func(x *trial) error {
			credential := x.create(notResident, withExtension(ctap2.HMACSecret()))
			input := x.agree().hmacSecret(x, random(n))
			spoil(x, input)
			return x.ga(append(edits, set(gaAllowList, list(credential)), gaExtension("hmac-secret", input))...)
		})
	}
	for name, key := range map[string]int{"keyAgreement": 1, "saltEnc": 2, "saltAuth": 3} {
		secret("missing-"+name, base, 32, func(_ *trial, input members) { delete(input, key) })
	}
	for name, wrong := range map[string]edit{"keyAgreement": set(1, []byte{4}), "saltEnc": set(2, "salt"), "saltAuth": set(3, "auth")} {
		secret("type-"+name, base, 32, func(_ *trial, input members) { wrong(input) })
	}
	secret("type-pinUvAuthProtocol", later, 32, func(_ *trial, input members) { input[4] = "two" })
	secret("protocol", later, 32, func(_ *trial, input members) { input[4] = 3 })
	secret("up-false", base.and(userPresence), 32, asItIs, gaOption("up", false))
	secret("off-curve", base, 32, func(_ *trial, input members) { input[1] = offCurve(input[1].(*cose.Key)) })
	secret("auth", base, 32, func(_ *trial, input members) {
		saltAuth := input[3].([]byte)
		saltAuth[len(saltAuth)-1] ^= 0x10 // some compare no more than the first half
	})
	secret("stale", base.powerCycle(), 32, func(x *trial, _ members) { x.powerCycle() })
	secret("length", base, 48, asItIs)
	d.add("ext-hmac-secret-block", base, func(x *trial) error {
		credential := x.create(notResident, withExtension(ctap2.HMACSecret()))
		a := x.agree()
		input := a.hmacSecret(x, random(32))
		salts := input[2].([]byte)[:31]
		input[2], input[3] = salts, a.secret.Authenticate(salts)
		return x.ga(set(gaAllowList, list(credential)), gaExtension("hmac-secret", input))
	})
	secret("two", base, 64, asItIs)
}

func asItIs(*trial, members) {}

func (d *drivers) hmacSecretMCRows() {
	base := plain.and(extension("hmac-secret-mc"))
	secret := func(id string, n int, others fields, spoil func(x *trial, input members)) {
		d.add("ext-hmac-secret-mc-"+id, base, func(x *trial) error {
			input := x.agree().hmacSecret(x, random(n))
			spoil(x, input)
			extensions := fields{"hmac-secret-mc": input}
			maps.Copy(extensions, others)
			return x.mc(set(mcExtensions, extensions))
		})
	}
	asked := fields{"hmac-secret": true}
	secret("alone", 32, nil, asItIs)
	secret("false", 32, fields{"hmac-secret": false}, asItIs)
	secret("auth", 32, asked, func(_ *trial, input members) { input[3].([]byte)[5] ^= 0x10 })
	secret("length", 48, asked, asItIs)
	secret("protocol", 32, asked, func(_ *trial, input members) { input[4] = 3 })
	secret("good", 32, asked, asItIs)
	d.simple("ext-type-hmac-secret-mc-ext", base, set(mcExtensions, fields{"hmac-secret": true, "hmac-secret-mc": true}))
}

// hmacSecretAnswers adds the requirements on the output.
func (d *drivers) hmacSecretAnswers() {
	base := plain.and(extension("hmac-secret"))
	add := func(id string, s setup, run func(x *trial, credential []byte)) {
		d.add("hmac-"+id, s, func(x *trial) error {
			run(x, x.create(notResident, withExtension(ctap2.HMACSecret())))
			return nil
		})
	}
	same := func(x *trial, a, b []byte, what string) {
		if !bytes.Equal(a, b) {
			x.errorf("two outputs that must be the same: %s", what)
		}
	}
	differ := func(x *trial, a, b []byte, what string) {
		if bytes.Equal(a, b) {
			x.errorf("the same output twice: %s", what)
		}
	}
	d.add("hmac-created", base, func(x *trial) error {
		x.output(x.made(mcExtension("hmac-secret", true)), "hmac-secret", true)
		return nil
	})
	add("length", base, func(x *trial, credential []byte) {
		iv := 0
		if x.protocol() == pin.Two {
			iv = 16
		}
		for _, n := range []int{32, 64} {
			a := x.agree()
			if encrypted := x.askHMAC(a, credential, random(n)); len(encrypted) != iv+n {
				x.errorf("an output of %d bytes for salts of %d, must be %d", len(encrypted), n, iv+n)
			}
		}
	})
	add("same", base.powerCycle(), func(x *trial, credential []byte) {
		salt := random(32)
		first := x.hmac(credential, salt)
		same(x, first, x.hmac(credential, salt), "the same salt")
		x.powerCycle()
		same(x, first, x.hmac(credential, salt), "the same salt after a power cycle")
	})
	add("salts", base, func(x *trial, credential []byte) {
		one, two := random(32), random(32)
		first, second := x.hmac(credential, one), x.hmac(credential, two)
		differ(x, first, second, "of two salts")
		same(x, x.hmac(credential, append(bytes.Clone(one), two...)), append(bytes.Clone(first), second...), "two salts at once, and one after the other")
	})
	add("credentials", base, func(x *trial, credential []byte) {
		salt, other := random(32), x.create(notResident, account("4"), withExtension(ctap2.HMACSecret()))
		differ(x, x.hmac(credential, salt), x.hmac(other, salt), "of two credentials")
	})
	add("protocols", base.and(twoProtocols), func(x *trial, credential []byte) {
		salt := random(32)
		same(x, x.hmacBy(pin.One, credential, salt), x.hmacBy(pin.Two, credential, salt), "by two PIN/UV auth protocols")
	})
	add("default-protocol", base.and(protocolOne), func(x *trial, credential []byte) {
		salt, a := random(32), x.agreeBy(pin.One)
		input := a.hmacSecret(x, salt)
		delete(input, 4)
		answer := x.asserted(set(gaAllowList, list(credential)), gaExtension("hmac-secret", input))
		same(x, a.open(x, x.hmacOutput(answer, "hmac-secret")), x.hmacBy(pin.One, credential, salt), "with pinUvAuthProtocol 1, and without")
	})
	add("iv", base.and(protocolTwo), func(x *trial, credential []byte) {
		salt, a := random(32), x.agreeBy(pin.Two)
		one, other := x.askHMAC(a, credential, salt), x.askHMAC(a, credential, salt)
		if len(one) < 16 || len(other) < 16 || bytes.Equal(one[:16], other[:16]) {
			x.errorf("the IVs are %.16x and %.16x", one, other)
		}
	})
	add("uv", withPIN.and(extension("hmac-secret"), mcGaWithPIN), func(x *trial, credential []byte) {
		salt := random(32)
		verified := func() []byte {
			a := x.agree()
			answer := x.assertedVerified(set(gaAllowList, list(credential)), gaExtension("hmac-secret", a.hmacSecret(x, salt)))
			return a.open(x, x.hmacOutput(answer, "hmac-secret"))
		}
		with := verified()
		same(x, with, verified(), "with verification, twice")
		differ(x, with, x.hmac(credential, salt), "with verification, and without")
	})
	d.add("hmac-pin-changed", withPIN.and(extension("hmac-secret"), mcGaWithPIN), func(x *trial) error {
		credential, salt := x.create(notResident, withExtension(ctap2.HMACSecret())), random(32)
		before := x.hmac(credential, salt)
		x.changePIN()
		same(x, before, x.hmac(credential, salt), "before the PIN was changed, and after")
		return nil
	})
	d.add("hmac-not-asked", base, func(x *trial) error {
		credential := x.create(notResident, withExtension(ctap2.HMACSecret()))
		x.noOutput(x.asserted(set(gaAllowList, list(credential))), "hmac-secret")
		return nil
	})
	d.add("hmac-next", base.and(residentKeys), func(x *trial) error {
		x.create(withExtension(ctap2.HMACSecret()))
		x.create(account("4"), withExtension(ctap2.HMACSecret()))
		a, salt := x.agree(), random(32)
		first := x.several(x.asserted(gaExtension("hmac-secret", a.hmacSecret(x, salt))))
		x.wantNumber(first, 2)
		for _, answer := range []members{first, x.nextAsserted()} {
			descriptor, _ := answer[gaCredential].(map[any]any)
			credential, _ := descriptor["id"].([]byte)
			same(x, a.open(x, x.hmacOutput(answer, "hmac-secret")), x.hmac(credential, salt), "without an allowList, and with")
		}
		return nil
	})

	mc := plain.and(extension("hmac-secret-mc"))
	both := func(x *trial, a agreement, salt []byte) edit {
		return set(mcExtensions, fields{"hmac-secret": true, "hmac-secret-mc": a.hmacSecret(x, salt)})
	}
	d.add("hmac-mc-same", mc, func(x *trial) error {
		a, salts := x.agree(), random(64)
		answer := x.made(both(x, a, salts))
		output := a.open(x, x.hmacOutput(answer, "hmac-secret-mc"))
		same(x, output, x.hmac(x.authData(answer).CredentialID, salts), "at the registration, and later")
		x.output(answer, "hmac-secret", true)
		return nil
	})
	d.add("hmac-mc-uv", withPIN.and(extension("hmac-secret-mc"), mcGaWithPIN, uvNotRequired), func(x *trial) error {
		a, salt := x.agree(), random(32)
		answer := x.madeVerified(both(x, a, salt))
		output := a.open(x, x.hmacOutput(answer, "hmac-secret-mc"))
		differ(x, output, x.hmac(x.authData(answer).CredentialID, salt), "at a registration with verification, and later without")
		return nil
	})
}

// protocolOne is an authenticator that has that.
var protocolOne = condition{"has no PIN/UV auth protocol one", func(info *ctap2.Info) bool {
	return len(info.PINUVAuthProtocols) == 0 || twoProtocols.holds(info) || !protocolTwo.holds(info)
}}

// hmac is the output of hmac-secret in an assertion without verification.
func (x *trial) hmac(credential, salts []byte) []byte {
	return x.hmacBy(x.protocol(), credential, salts)
}

func (x *trial) hmacBy(protocol pin.Protocol, credential, salts []byte) []byte {
	a := x.agreeBy(protocol)
	return a.open(x, x.askHMAC(a, credential, salts))
}

// askHMAC is the output as it comes.
func (x *trial) askHMAC(a agreement, credential, salts []byte) []byte {
	answer := x.asserted(set(gaAllowList, list(credential)), gaExtension("hmac-secret", a.hmacSecret(x, salts)))
	return x.hmacOutput(answer, "hmac-secret")
}

func (x *trial) hmacOutput(answer members, identifier string) []byte {
	var encrypted []byte
	x.must(cbor.Unmarshal(x.authData(answer).Extensions[identifier], &encrypted))
	return encrypted
}

// open decrypts what the authenticator has encrypted.
func (a agreement) open(x *trial, encrypted []byte) []byte {
	b, err := a.secret.Decrypt(encrypted)
	x.must(err)
	return b
}
