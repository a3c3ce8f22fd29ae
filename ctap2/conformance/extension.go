package conformance

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// listsRPIDs: relying parties can be named that are told of the rules for PINs.
var listsRPIDs = condition{"names no relying parties in setMinPINLength", func(info *ctap2.Info) bool {
	return setsMinPINLength.holds(info) && info.MaxRPIDsForSetMinPINLength > 0
}}

// blobFits: a blob of one byte more than maxCredBlobLength can be sent.
var blobFits = condition{"takes longer blobs than fit into a message", func(info *ctap2.Info) bool {
	return info.MaxCredBlobLength <= carried(info)-512
}}

// withExtension asks for an extension in a registration.
func withExtension(e ctap2.Extension) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.Extensions = append(r.Extensions, e) }
}

// mcExtension asks makeCredential for one extension.
func mcExtension(identifier string, input any) edit {
	return set(mcExtensions, fields{identifier: input})
}

// gaExtension asks getAssertion for one extension.
func gaExtension(identifier string, input any) edit {
	return set(gaExtensions, fields{identifier: input})
}

func (d *drivers) extensions() {
	rk := mcOption("rk", true)
	mc := func(id, identifier string, input any, edits ...edit) {
		d.simple("ext-"+id, plain.and(extension(identifier)), append(edits, mcExtension(identifier, input))...)
	}
	mcResident := func(id, identifier string, input any) {
		d.simple("ext-"+id, plain.and(extension(identifier), residentKeys), rk, mcExtension(identifier, input))
	}
	ga := func(id, identifier string, input any) {
		d.add("ext-"+id, plain.and(extension(identifier)), func(x *trial) error {
			credential := x.create(notResident)
			return x.ga(set(gaAllowList, list(credential)), gaExtension(identifier, input))
		})
	}
	d.simple("ext-unknown-mc", plain, mcExtension("quux", true))
	d.add("ext-unknown-ga", plain, func(x *trial) error {
		credential := x.create(notResident)
		return x.ga(set(gaAllowList, list(credential)), gaExtension("quux", true))
	})
	mc("type-credProtect", "credProtect", "required")
	mc("credProtect-0", "credProtect", 0)
	mc("credProtect-4", "credProtect", 4)
	mcResident("type-credBlob-mc", "credBlob", "blob")
	ga("type-credBlob-ga", "credBlob", []byte("blob"))
	d.add("ext-credBlob-too-long", plain.and(extension("credBlob"), residentKeys, blobFits), func(x *trial) error {
		answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(rk, mcExtension("credBlob", random(x.info.MaxCredBlobLength+1))))
		if err == nil {
			x.output(answer, "credBlob", false)
		}
		return err
	})
	mcResident("type-largeBlobKey-mc", "largeBlobKey", 1)
	ga("type-largeBlobKey-ga", "largeBlobKey", 1)
	mcResident("largeBlobKey-false-mc", "largeBlobKey", false)
	ga("largeBlobKey-false-ga", "largeBlobKey", false)
	mc("largeBlobKey-not-rk", "largeBlobKey", true)
	mc("type-minPinLength", "minPinLength", 1)
	mc("type-pinComplexityPolicy", "pinComplexityPolicy", 1)
	mc("type-thirdPartyPayment-mc", "thirdPartyPayment", 1)
	ga("type-thirdPartyPayment-ga", "thirdPartyPayment", 1)

	// told asks for what setMinPINLength has told a relying party of.
	told := func(identifier string, output func(info *ctap2.Info) any) {
		for id, rpID := range map[string]string{"listed": "example.com", "unlisted": "example.org"} {
			d.add("ext-"+identifier+"-"+id, plain.and(extension(identifier), listsRPIDs), func(x *trial) error {
				x.setMinPINLength(&ctap2.SetMinPINLengthRequest{MinPINLengthRPIDs: []string{"example.com"}})
				answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(set(2, fields{"id": rpID}), mcExtension(identifier, true)))
				switch {
				case err != nil:
				case id == "listed":
					x.output(answer, identifier, output(x.fresh()))
				default:
					x.noOutput(answer, identifier)
				}
				return err
			})
		}
	}
	told("minPinLength", func(info *ctap2.Info) any { return info.MinPINLength })
	told("pinComplexityPolicy", func(info *ctap2.Info) any {
		return info.PINComplexityPolicy != nil && *info.PINComplexityPolicy
	})

	mc("type-hmac-secret-mc", "hmac-secret", 1)
	mc("hmac-secret-false", "hmac-secret", false)
	ga("type-hmac-secret-ga", "hmac-secret", true)
	d.hmacSecretRows()
	d.hmacSecretMCRows()
}

// authData is the authenticator data in an answer of makeCredential or
// getAssertion, which have it under the same number.
func (x *trial) authData(answer members) *ctap2.AuthenticatorData {
	raw, _ := answer[2].([]byte)
	data, err := ctap2.ParseAuthenticatorData(raw)
	if err != nil {
		x.fatalf("authData: %w", err)
	}
	return data
}

// output sees whether an extension has an output.
func (x *trial) output(answer members, identifier string, want any) {
	if got := x.authData(answer).Extensions[identifier]; !bytes.Equal(got, x.encoded(want)) {
		x.errorf("the output of %s is %x, must be %x", identifier, got, x.encoded(want))
	}
}

// noOutput sees that it has none.
func (x *trial) noOutput(answer members, identifier string) {
	if got, there := x.authData(answer).Extensions[identifier]; there {
		x.errorf("there is an output of %s: %x", identifier, got)
	}
}

// largeBlob adds the rows of the extension of that name.
func (d *drivers) largeBlob() {
	base := plain.and(extension("largeBlob"), residentKeys)
	input := func(blob any) edit { return mcExtension("largeBlob", blob) }
	rk := mcOption("rk", true)
	d.simple("ext-type-largeBlob-mc", base, rk, input(true))
	d.simple("ext-largeBlob-no-support", base, rk, input(fields{"quux": "required"}))
	d.simple("ext-largeBlob-support", base, rk, input(fields{"support": "perhaps"}))
	d.simple("ext-largeBlob-preferred", base, rk, input(fields{"support": "preferred"}))

	// ga asserts with a credential that has a place for a blob; written is what
	// the output says, if it says something of that.
	ga := func(id string, blob func(x *trial) fields, listed bool, written ...bool) {
		d.add("ext-"+id, base, func(x *trial) error {
			credential := x.create(withExtension(ctap2.LargeBlobSupport(true)))
			edits := []edit{gaExtension("largeBlob", blob(x))}
			if listed {
				edits = append(edits, set(gaAllowList, list(credential)))
			}
			answer, err := x.ask(ctap.CmdGetAssertion, gaRequest(edits...))
			for _, want := range written {
				if got := largeBlobOutput(answer)["written"]; err == nil && got != want {
					x.errorf("written is %v, must be %v", got, want)
				}
			}
			return err
		})
	}
	is := func(blob fields) func(*trial) fields { return func(*trial) fields { return blob } }
	write := func(n int) fields { return fields{"write": random(n), "originalSize": n} }
	d.add("ext-type-largeBlob-ga", base, func(x *trial) error {
		credential := x.create(withExtension(ctap2.LargeBlobSupport(true)))
		return x.ga(set(gaAllowList, list(credential)), gaExtension("largeBlob", true))
	})
	ga("largeBlob-nothing", is(fields{}), true)
	ga("largeBlob-both", is(fields{"read": true, "write": []byte{1}, "originalSize": 1}), true)
	ga("largeBlob-type-read", is(fields{"read": "true"}), true)
	ga("largeBlob-type-write", is(fields{"write": "blob", "originalSize": 4}), true)
	ga("largeBlob-no-size", is(fields{"write": []byte{1}}), true)
	ga("largeBlob-written", is(write(100)), true, true)
	ga("largeBlob-no-list", is(write(100)), false, false)
	d.add("ext-largeBlob-too-large", base, func(x *trial) error {
		credential := x.create(withExtension(ctap2.LargeBlobSupport(true)))
		const rest = 400 // what else is in the message
		answer, err := x.ask(ctap.CmdGetAssertion, gaRequest(
			set(gaAllowList, list(credential)), gaExtension("largeBlob", write(max(carried(x.info)-rest, 1)))))
		switch got := largeBlobOutput(answer)["written"]; {
		case err != nil:
		case got == true:
			x.skip("has room for all that a message carries")
		case got != false:
			x.errorf("written is %v, must be false", got)
		}
		return err
	})
}

// largeBlobOutput is the output of largeBlob in an assertion, which is not
// signed.
func largeBlobOutput(answer members) map[any]any {
	unsigned, _ := answer[8].(map[any]any)
	output, _ := unsigned["largeBlob"].(map[any]any)
	return output
}

// extensionAnswers adds the requirements on the outputs of extensions.
func (d *drivers) extensionAnswers() {
	// nothing sees that there is no extension output at all.
	nothing := func(x *trial, answer members) {
		data := x.authData(answer)
		if len(data.Extensions) == 1 && x.unasked(answer) != 0 {
			return
		}
		if data.Flags.Has(ctap2.FlagExtensionData) || len(data.Extensions) > 0 {
			x.errorf("there are extension outputs: flags %v, %v", data.Flags, slices.Collect(maps.Keys(data.Extensions)))
		}
	}
	d.add("ext-none", plain, func(x *trial) error {
		credential := x.create(notResident)
		nothing(x, x.asserted(set(gaAllowList, list(credential))))
		nothing(x, x.made())
		return nil
	})
	d.add("ext-unknown-output", plain, func(x *trial) error {
		credential := x.create(notResident)
		nothing(x, x.asserted(set(gaAllowList, list(credential)), gaExtension("quux", true)))
		nothing(x, x.made(mcExtension("quux", true)))
		return nil
	})
	d.add("ext-empty", plain, func(x *trial) error {
		nothing(x, x.made(set(mcExtensions, fields{})))
		return nil
	})
	d.add("ext-known-next-to-unknown", plain.and(extension("hmac-secret")), func(x *trial) error {
		answer := x.made(set(mcExtensions, fields{"hmac-secret": true, "quux": fields{"a": 1}}))
		x.output(answer, "hmac-secret", true)
		x.noOutput(answer, "quux")
		return nil
	})
	d.add("ext-order", plain.and(extension("hmac-secret"), extension("credProtect")), func(x *trial) error {
		answer := x.made(set(mcExtensions, fields{"hmac-secret": true, "credProtect": 2}))
		raw, _ := answer[mcAuthData].([]byte)
		level := max(protection(x.authData(answer)), 2)
		if !bytes.HasSuffix(raw, x.encoded(fields{"hmac-secret": true, "credProtect": level})) {
			x.errorf("the outputs are not credProtect and hmac-secret in this order: %x", raw)
		}
		return nil
	})
	d.credProtectAnswers()
	d.credBlobAnswers()
	d.largeBlobKeyAnswers()
	d.largeBlobAnswers()

	raised := func(x *trial) int { return min(max(x.info.MinPINLength+1, 6), maxPINLength(x.info)) }
	d.add("ext-minPinLength-raised", plain.and(extension("minPinLength"), listsRPIDs), func(x *trial) error {
		x.setMinPINLength(&ctap2.SetMinPINLengthRequest{NewMinPINLength: raised(x), MinPINLengthRPIDs: []string{"example.com"}})
		x.output(x.made(mcExtension("minPinLength", true)), "minPinLength", raised(x))
		return nil
	})
	d.add("ext-minPinLength-false", plain.and(extension("minPinLength"), listsRPIDs), func(x *trial) error {
		x.setMinPINLength(&ctap2.SetMinPINLengthRequest{MinPINLengthRPIDs: []string{"example.com"}})
		nothing(x, x.made())
		nothing(x, x.made(mcExtension("minPinLength", false)))
		return nil
	})
	d.add("ext-pinComplexityPolicy-on", plain.and(extension("pinComplexityPolicy"), listsRPIDs, complexity), func(x *trial) error {
		x.setMinPINLength(&ctap2.SetMinPINLengthRequest{PINComplexityPolicy: true, MinPINLengthRPIDs: []string{"example.com"}})
		x.output(x.made(mcExtension("pinComplexityPolicy", true)), "pinComplexityPolicy", true)
		return nil
	})
	d.add("ext-thirdPartyPayment-output", plain.and(extension("thirdPartyPayment")), func(x *trial) error {
		paying := x.made(mcExtension("thirdPartyPayment", true))
		for credential, want := range map[string]bool{
			string(x.attested(paying).CredentialID): true,
			string(x.create(notResident)):           false,
		} {
			listed := set(gaAllowList, list([]byte(credential)))
			x.output(x.asserted(listed, gaExtension("thirdPartyPayment", true)), "thirdPartyPayment", want)
			nothing(x, x.asserted(listed))
		}
		return nil
	})
}

func (d *drivers) credProtectAnswers() {
	base := plain.and(extension("credProtect"))
	d.add("credprotect-output", base, func(x *trial) error {
		own := protection(x.authData(x.made())) // a default that is higher
		for policy := 1; policy <= 3; policy++ {
			got := protection(x.authData(x.made(mcExtension("credProtect", policy))))
			if got != policy && (got != own || own < policy) {
				x.errorf("the output of credProtect is %d, must be %d", got, policy)
			}
		}
		return nil
	})
	d.add("credprotect-not-asked", base, func(x *trial) error {
		// An authenticator with a default of its own says so (§12.1).
		answer := x.made()
		if output, there := x.authData(answer).Extensions["credProtect"]; there && bytes.Equal(output, x.encoded(1)) {
			x.errorf("credProtect 1 is an output that nobody has asked for")
		}
		return nil
	})
	// found asserts without verification, with an allowList and without.
	found := func(id string, policy ctap2.CredProtectPolicy, listed, unlisted bool) {
		d.add("credprotect-"+id, withPIN.and(extension("credProtect"), residentKeys, mcGaWithPIN), func(x *trial) error {
			credential := x.create(protected(policy))
			x.foundIs(listed, "in the allowList", set(gaAllowList, list(credential)))
			x.foundIs(unlisted, "without an allowList")
			for _, edits := range [][]edit{nil, {set(gaAllowList, list(credential))}} {
				x.assertedVerified(edits...)
			}
			return nil
		})
	}
	found("optional", ctap2.UVOptional, true, true)
	found("list", ctap2.UVOptionalWithCredentialIDList, true, false)
	found("required", ctap2.UVRequired, false, false)
	d.add("credprotect-wrapped", withPIN.and(extension("credProtect"), mcGaWithPIN), func(x *trial) error {
		credential := x.create(notResident, protected(ctap2.UVRequired))
		listed := set(gaAllowList, list(credential))
		x.foundIs(false, "in the allowList", listed)
		x.assertedVerified(listed)
		return nil
	})
	d.add("credprotect-mixed", withPIN.and(extension("credProtect"), residentKeys, mcGaWithPIN), func(x *trial) error {
		x.create(protected(ctap2.UVRequired))
		open := x.create(account("4"))
		answer := x.asserted()
		descriptor, _ := answer[gaCredential].(map[any]any)
		if id, _ := descriptor["id"].([]byte); !bytes.Equal(id, open) {
			x.errorf("the answer is not the unprotected credential: %v", descriptor)
		}
		x.wantNumber(answer, 1)
		return nil
	})
	d.add("credprotect-power-cycle", withPIN.and(extension("credProtect"), residentKeys, mcGaWithPIN).powerCycle(), func(x *trial) error {
		credential := x.create(protected(ctap2.UVRequired))
		x.powerCycle()
		x.foundIs(false, "in the allowList, after a power cycle", set(gaAllowList, list(credential)))
		return nil
	})
}

// foundIs sees whether a getAssertion without verification finds a credential.
func (x *trial) foundIs(want bool, where string, edits ...edit) {
	switch err := x.ga(edits...); {
	case want && err != nil:
		x.errorf("not found %s: %v", where, err)
	case !want && !errors.Is(err, ctap2.ErrNoCredentials):
		x.errorf("%s it is answered with %v, must be NO_CREDENTIALS", where, err)
	}
}

func (d *drivers) credBlobAnswers() {
	base := plain.and(extension("credBlob"), residentKeys)
	rk := mcOption("rk", true)
	d.add("credblob-stored", base.and(blobFits).powerCycle(), func(x *trial) error {
		blob := random(max(x.info.MaxCredBlobLength, 32)) // the longest
		x.output(x.made(rk, mcExtension("credBlob", blob)), "credBlob", true)
		x.output(x.asserted(gaExtension("credBlob", true)), "credBlob", blob)
		x.powerCycle()
		x.output(x.asserted(gaExtension("credBlob", true)), "credBlob", blob)
		return nil
	})
	d.add("credblob-each", base, func(x *trial) error {
		blobs := map[string][]byte{}
		for _, id := range []string{"4", "5"} {
			blob := random(16)
			answer := x.made(rk, set(3, fields{"id": []byte(id)}), mcExtension("credBlob", blob))
			blobs[string(x.attested(answer).CredentialID)] = blob
		}
		for credential, blob := range blobs {
			x.output(x.asserted(set(gaAllowList, list([]byte(credential))), gaExtension("credBlob", true)), "credBlob", blob)
		}
		return nil
	})
	d.add("credblob-none", base, func(x *trial) error {
		x.create()
		x.output(x.asserted(gaExtension("credBlob", true)), "credBlob", []byte{})
		return nil
	})
	d.add("credblob-too-long-none", base.and(blobFits), func(x *trial) error {
		x.made(rk, mcExtension("credBlob", random(x.info.MaxCredBlobLength+1)))
		x.output(x.asserted(gaExtension("credBlob", true)), "credBlob", []byte{})
		return nil
	})
	d.add("credblob-not-rk", base, func(x *trial) error {
		x.output(x.made(mcExtension("credBlob", random(16))), "credBlob", false)
		return nil
	})
	d.add("credblob-not-asked", base, func(x *trial) error {
		x.made(rk, mcExtension("credBlob", random(16)))
		x.noOutput(x.asserted(), "credBlob")
		x.noOutput(x.made(rk), "credBlob")
		return nil
	})
}

func (d *drivers) largeBlobKeyAnswers() {
	base := plain.and(extension("largeBlobKey"), residentKeys)
	rk, asked := mcOption("rk", true), mcExtension("largeBlobKey", true)
	keyOf := func(x *trial, answer members, member int) []byte {
		key, _ := answer[member].([]byte)
		if len(key) != 32 {
			x.fatalf("largeBlobKey is %d bytes", len(key))
		}
		return key
	}
	d.add("largeblobkey-same", base.powerCycle(), func(x *trial) error {
		made := x.made(rk, asked)
		x.noOutput(made, "largeBlobKey")
		key := keyOf(x, made, mcLargeBlobKey)
		again := func(when string) {
			answer := x.asserted(gaExtension("largeBlobKey", true))
			x.noOutput(answer, "largeBlobKey")
			if !bytes.Equal(key, keyOf(x, answer, gaBlobKey)) {
				x.errorf("another largeBlobKey %s", when)
			}
		}
		again("in an assertion")
		x.powerCycle()
		again("after a power cycle")
		return nil
	})
	d.add("largeblobkey-each", base, func(x *trial) error {
		one := keyOf(x, x.made(rk, asked), mcLargeBlobKey)
		other := keyOf(x, x.made(rk, asked, set(3, fields{"id": []byte("4")})), mcLargeBlobKey)
		if bytes.Equal(one, other) {
			x.errorf("two credentials with one largeBlobKey")
		}
		return nil
	})
	d.add("largeblobkey-not-asked", base, func(x *trial) error {
		x.made(rk, asked)
		if key, there := x.asserted()[gaBlobKey]; there {
			x.errorf("a largeBlobKey that nobody has asked for: %T", key)
		}
		if key, there := x.made(rk)[mcLargeBlobKey]; there {
			x.errorf("a largeBlobKey that nobody has asked for: %T", key)
		}
		return nil
	})
	d.add("largeblobkey-none", base, func(x *trial) error {
		x.create()
		if key, there := x.asserted(gaExtension("largeBlobKey", true))[gaBlobKey]; there {
			x.errorf("a credential without one has a largeBlobKey: %T", key)
		}
		return nil
	})
}

func (d *drivers) largeBlobAnswers() {
	base := plain.and(extension("largeBlob"), residentKeys)
	d.add("largeblob-supported", base, func(x *trial) error {
		for _, support := range []string{"required", "preferred"} {
			answer := x.made(mcOption("rk", true), mcExtension("largeBlob", fields{"support": support}))
			unsigned, _ := answer[mcUnsigned].(map[any]any)
			output, _ := unsigned["largeBlob"].(map[any]any)
			if output["supported"] != true {
				x.errorf("supported is %v with support %s", output["supported"], support)
			}
			x.noOutput(answer, "largeBlob")
		}
		return nil
	})
	read := func(x *trial, credential []byte) map[any]any {
		return largeBlobOutput(x.asserted(set(gaAllowList, list(credential)), gaExtension("largeBlob", fields{"read": true})))
	}
	write := func(x *trial, credential, blob []byte) {
		output := largeBlobOutput(x.asserted(set(gaAllowList, list(credential)),
			gaExtension("largeBlob", fields{"write": blob, "originalSize": len(blob) + 7})))
		if output["written"] != true {
			x.fatalf("written is %v", output["written"])
		}
	}
	same := func(x *trial, credential, blob []byte, when string) {
		output := read(x, credential)
		if got, _ := output["blob"].([]byte); !bytes.Equal(got, blob) || output["originalSize"] != uint64(len(blob)+7) {
			x.errorf("what was written is not what is read %s: %d bytes, originalSize %v", when, len(got), output["originalSize"])
		}
	}
	d.add("largeblob-read", base.powerCycle(), func(x *trial) error {
		credential, blob := x.create(withExtension(ctap2.LargeBlobSupport(true))), random(100)
		write(x, credential, blob)
		same(x, credential, blob, "at once")
		x.powerCycle()
		same(x, credential, blob, "after a power cycle")
		shorter := random(10)
		write(x, credential, shorter)
		same(x, credential, shorter, "after another one was written")
		return nil
	})
	d.add("largeblob-each", base, func(x *trial) error {
		one, other := x.create(withExtension(ctap2.LargeBlobSupport(true))), x.create(account("4"), withExtension(ctap2.LargeBlobSupport(true)))
		blob := random(50)
		write(x, one, blob)
		if got, _ := read(x, other)["blob"].([]byte); len(got) > 0 {
			x.errorf("the blob of another credential is read")
		}
		same(x, one, blob, "from its own credential")
		return nil
	})
}
