package conformance

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// all adds the code of every case.
func (d *drivers) all() {
	d.encoding()
	d.makeCredential()
	d.getAssertion()
	d.getNextAssertion()
	d.selection()
	d.reset()
	d.getInfo()
	d.newCredential()
	d.assertions()
	d.resets()
	d.clientPIN()
	d.keyAgreements()
	d.pins()
	d.pinCounters()
	d.tokens()
	d.tokenAnswers()
	d.credentialManagement()
	d.bioEnrollment()
	d.largeBlobs()
	d.config()
	d.extensions()
	d.extensionAnswers()
	d.hmacSecretAnswers()
	d.largeBlob()
	d.enterpriseAttestation()
	d.u2f()
	d.u2fAnswers()
	d.ctaphid()
	d.nfc()
}

// splice replaces the one occurrence of old.
func splice(x *trial, b []byte, old, new string) []byte {
	if bytes.Count(b, []byte(old)) != 1 {
		x.fatalf("%q is not once in %q", old, b)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func (d *drivers) encoding() {
	bare := func(id string, s setup, command byte) {
		d.add(id, s, func(x *trial) error { return x.raw(command, nil) })
	}
	harmless := plain.leavesNoTrace()
	bare("enc-unknown-command", harmless, 0x0F)
	bare("enc-unassigned-command", harmless, 0x03)
	bare("enc-vendor-command", plain, 0x42) // nobody knows what it does where there is one
	bare("enc-no-parameters", harmless, ctap.CmdGetAssertion)

	info := func(id string, parameters ...byte) {
		d.add(id, harmless, func(x *trial) error { return x.raw(ctap.CmdGetInfo, parameters) })
	}
	info("enc-unwanted-parameters", 0xA0)
	info("enc-unwanted-malformed", 0x5C)

	// Each is a getAssertion that would succeed.
	bytesOf := func(id string, change func(x *trial, good []byte) []byte) {
		d.add(id, harmless, func(x *trial) error {
			allowed := set(gaAllowList, list(x.create(notResident)))
			return x.raw(ctap.CmdGetAssertion, change(x, x.encoded(gaRequest(allowed))))
		})
	}
	const rpID = "\x01\x6bexample.com"
	hash := string(clientDataHash[:])
	bytesOf("enc-empty-map", func(*trial, []byte) []byte { return []byte{0xA0} })
	bytesOf("enc-not-a-map", func(x *trial, _ []byte) []byte {
		return x.encoded([]any{1, "example.com", 2, clientDataHash[:]})
	})
	bytesOf("enc-truncated", func(_ *trial, good []byte) []byte { return good[:len(good)-1] })
	bytesOf("enc-trailing", func(_ *trial, good []byte) []byte { return append(good, 0) })
	bytesOf("enc-key-order", func(x *trial, good []byte) []byte {
		second := "\x02\x58\x20" + hash
		return splice(x, good, rpID+second, second+rpID)
	})
	bytesOf("enc-duplicate-key", func(x *trial, good []byte) []byte {
		return splice(x, good, "\xA3"+rpID, "\xA4"+rpID+rpID)
	})
	bytesOf("enc-long-integer", func(x *trial, good []byte) []byte { return splice(x, good, rpID, "\x18"+rpID) })
	bytesOf("enc-long-length", func(x *trial, good []byte) []byte {
		return splice(x, good, "\x58\x20"+hash, "\x59\x00\x20"+hash)
	})
	bytesOf("enc-indefinite-map", func(x *trial, good []byte) []byte {
		return append(splice(x, good, "\xA3"+rpID, "\xBF"+rpID), 0xFF)
	})
	bytesOf("enc-indefinite-string", func(x *trial, good []byte) []byte {
		return splice(x, good, "\x58\x20"+hash, "\x5F\x58\x20"+hash+"\xFF")
	})
	bytesOf("enc-tag", func(x *trial, good []byte) []byte {
		return splice(x, good, "\x58\x20"+hash, "\xC2\x58\x20"+hash)
	})
	bytesOf("enc-reserved", func(x *trial, good []byte) []byte { return splice(x, good, "\x6bexample.com", "\x7cexample.com") })
	bytesOf("enc-not-utf8", func(x *trial, good []byte) []byte { return splice(x, good, "example", "ex\xC3mple") })

	// And each of these would, but for one member.
	member := func(id string, change edit) {
		d.add(id, harmless, func(x *trial) error {
			return x.ga(set(gaAllowList, list(x.create(notResident))), change)
		})
	}
	member("enc-too-deep", set(gaExtensions, fields{"x": []any{[]any{[]any{1}}}}))
	member("enc-null", set(gaOptions, nil))
	member("enc-unknown-member", set(0x77, "?"))

	limited := condition{"takes all that a transport can carry", func(info *ctap2.Info) bool {
		return maxMsgSize(info) < ctap.MaxFramedMessage
	}}
	d.add("enc-too-large", harmless.and(limited), func(x *trial) error {
		name := strings.Repeat("x", maxMsgSize(x.info))
		return x.exchange(ctap.CmdMakeCredential, x.encoded(mcRequest(set(2, fields{"id": "example.com", "name": name}))))
	})
}

// maxMsgSize is the length in bytes of the longest message that an authenticator
// takes (§6.4).
func maxMsgSize(info *ctap2.Info) int { return cmp.Or(info.MaxMsgSize, ctap.DefaultMaxMsgSize) }

// carried is the length of the longest that every transport carries, too.
func carried(info *ctap2.Info) int { return min(maxMsgSize(info), ctap.MaxFramedMessage) }

// exchange sends a command that the client does not let pass.
func (x *trial) exchange(command byte, parameters []byte) error {
	return x.exchangeOver(x.key.Transport(), command, parameters)
}

// firstAfterPower takes the authenticator's power, gives it back, and sends a
// command before any other: the getInfo of a client ends what the power may have
// left.
func (x *trial) firstAfterPower(command byte, parameters []byte) error {
	if err := x.h.powerCycle(x.ctx); err != nil {
		panic(verdict{err})
	}
	transport, err := x.h.config.Target.Open(x.ctx)
	x.must(err)
	defer transport.Close()
	return x.exchangeOver(x.h.watched(transport), command, parameters)
}

func (x *trial) exchangeOver(transport ctap2.Transport, command byte, parameters []byte) error {
	reply, err := transport.Exchange(x.ctx, append([]byte{command}, parameters...), nil)
	x.must(err)
	if len(reply) == 0 {
		x.fatalf("an answer without a status")
	}
	if reply[0] != ctap.StatusOK {
		return &ctap2.Error{Command: command, Status: ctap2.Status(reply[0])}
	}
	return nil
}
