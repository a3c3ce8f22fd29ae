package conformance

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Members of the answers to makeCredential and getAssertion.
const (
	mcFormat, mcAuthData, mcStatement, mcEpAtt, mcLargeBlobKey, mcUnsigned                    = 1, 2, 3, 4, 5, 6
	gaCredential, gaAuthData, gaSignature, gaUser, gaNumber, gaSelected, gaBlobKey, gaOutputs = 1, 2, 3, 4, 5, 6, 7, 8
)

// made is what makeCredential answers.
func (x *trial) made(edits ...edit) members {
	answer, err := x.ask(ctap.CmdMakeCredential, mcRequest(edits...))
	x.must(err)
	return answer
}

// attested is the authenticator data of an answer to makeCredential, which have
// attested credential data.
func (x *trial) attested(answer members) *ctap2.AuthenticatorData {
	data := x.authData(answer)
	if data.PublicKey == nil {
		x.fatalf("makeCredential answers without attested credential data")
	}
	return data
}

// madeVerified is made, with a token.
func (x *trial) madeVerified(edits ...edit) members {
	token := x.token(mcGate.permission, mcGate.rpID)
	answer, err := x.ask(ctap.CmdMakeCredential, mcGate.sign(mcRequest(edits...), token))
	x.must(err)
	return answer
}

// wantFlags compares those of authenticator data. What is said of backups is the
// authenticator's to say, as long as it makes sense.
func (x *trial) wantFlags(answer members, want ctap2.Flags) {
	data := x.authData(answer)
	const backup = ctap2.FlagBackupEligible | ctap2.FlagBackupState
	if got := data.Flags &^ backup; got != want {
		x.errorf("the flags are %v, must be %v", got, want)
	}
	if data.Flags&backup == ctap2.FlagBackupState {
		x.errorf("a credential that cannot be backed up is backed up: %v", data.Flags)
	}
}

// unasked is the flag of the one output that makeCredential may have that nobody
// has asked for: the credProtect that the authenticator chose itself (§12.1).
func (x *trial) unasked(answer members) ctap2.Flags {
	if outputs := x.authData(answer).Extensions; len(outputs) == 1 && outputs["credProtect"] != nil {
		return ctap2.FlagExtensionData
	}
	return 0
}

// protection is the output of credProtect, 0 if there is none.
func protection(data *ctap2.AuthenticatorData) (level int) {
	if cbor.Unmarshal(data.Extensions["credProtect"], &level) != nil {
		return 0
	}
	return level
}

// noticeProtection takes note of a credential that has a higher level of
// credProtect than was asked for: authenticators may have a default of their own
// (§12.1).
func (h *harness) noticeProtection(message, reply []byte) {
	if message[0] != ctap.CmdMakeCredential || reply[0] != ctap.StatusOK {
		return
	}
	var request struct {
		Extensions struct {
			CredProtect int `cbor:"credProtect"`
		} `cbor:"6,keyasint"`
	}
	var answer struct {
		AuthData []byte `cbor:"2,keyasint"`
	}
	if cbor.Unmarshal(message[1:], &request) != nil || cbor.Unmarshal(reply[1:], &answer) != nil {
		return
	}
	data, err := ctap2.ParseAuthenticatorData(answer.AuthData)
	if err != nil {
		return
	}
	if level := protection(data); level > max(request.Extensions.CredProtect, 1) {
		h.raised = max(h.raised, level)
	}
}

// mustShow ends the trial if such a credential keeps out of a getAssertion.
func (x *trial) mustShow(request members) {
	options, _ := request[gaOptions].(fields)
	if request[gaParam] != nil || options["uv"] == true {
		return
	}
	if x.h.raised == 3 || x.h.raised == 2 && request[gaAllowList] == nil {
		x.skip("protects credentials with level %d of credProtect, which nobody has asked for", x.h.raised)
	}
}

// wantOneTouch sees whether the person was asked more than once, since it had
// been asked that many times. Not every transport shows a wait that is short.
func (x *trial) wantOneTouch(before int) {
	if n := x.touches() - before; n > 1 {
		x.errorf("asked for a touch %d times", n)
	}
}

// wantNoTouch sees whether the person was asked at all.
func (x *trial) wantNoTouch(before int) {
	if x.touches() > before {
		x.errorf("asked for a touch")
	}
}

func (d *drivers) newCredential() {
	made := plain.and(undemanding).leavesNoTrace()
	const registered = ctap2.FlagUserPresent | ctap2.FlagAttestedCredentialData
	d.require("mc-answer", made, func(x *trial) {
		answer := x.made()
		format, _ := answer[mcFormat].(string)
		_, stated := answer[mcStatement].(map[any]any)
		if format == "" || !stated {
			x.errorf("fmt and attStmt are %v and %v", answer[mcFormat], answer[mcStatement])
		}
		if answer[mcEpAtt] == true {
			x.errorf("enterprise attestation, unasked")
		}
		for _, number := range []int{mcLargeBlobKey, mcUnsigned} {
			if value, there := answer[number]; there {
				x.errorf("member %#02x, unasked: %v", number, value)
			}
		}
	})
	d.require("mc-rp-id-hash", made, func(x *trial) {
		x.wantRP(x.made(set(2, fields{"id": "example.org"})), "example.org")
	})
	d.require("mc-flags", made.and(userPresence), func(x *trial) {
		answer := x.made()
		x.wantFlags(answer, registered|x.unasked(answer))
	})
	d.require("mc-flags-token", mcGate.setup.and(userPresence), func(x *trial) {
		answer := x.madeVerified()
		x.wantFlags(answer, registered|ctap2.FlagUserVerified|x.unasked(answer))
	})
	d.require("mc-flags-uv", withFinger.and(userPresence).leavesNoTrace(), func(x *trial) {
		answer := x.made(mcOption("uv", true))
		x.wantFlags(answer, registered|ctap2.FlagUserVerified|x.unasked(answer))
	})
	for id, s := range map[string]setup{"mc-flags-pin": withPIN, "mc-flags-finger": withFinger} {
		d.require(id, s.and(undemanding, userPresence).leavesNoTrace(), func(x *trial) {
			answer := x.made()
			x.wantFlags(answer, registered|x.unasked(answer))
		})
	}
	d.require("mc-flags-extension", made.and(extension("hmac-secret")), func(x *trial) {
		answer := x.made(mcExtension("hmac-secret", true))
		if !x.authData(answer).Flags.Has(ctap2.FlagExtensionData) {
			x.errorf("there is an output, and the flags do not say so")
		}
	})
	d.require("mc-unknown-extension", made, func(x *trial) {
		x.noOutput(x.made(mcExtension("wax seal", true)), "wax seal")
	})
	d.require("mc-outputs", plain.and(residentKeys, extension("hmac-secret")), func(x *trial) {
		asked := fields{}
		for id, input := range map[string]any{"credProtect": 2, "credBlob": []byte{1}, "hmac-secret": true, "minPinLength": true} {
			if x.info.HasExtension(id) {
				asked[id] = input
			}
		}
		data := x.attested(x.made(mcOption("rk", true), set(mcExtensions, asked)))
		if err := cbor.Check(x.behindKey(data), cbor.Strict); err != nil {
			x.errorf("%v", err)
		}
		for id := range data.Extensions {
			if asked[id] == nil && id != "credProtect" {
				x.errorf("an output of %s, unasked", id)
			}
		}
	})
	d.require("mc-id-length", made, func(x *trial) {
		if id := x.attested(x.made()).CredentialID; len(id) < 16 || len(id) > 1023 {
			x.errorf("the credential ID has %d bytes", len(id))
		}
	})
	d.require("mc-two", made, func(x *trial) {
		first, second := x.attested(x.made()), x.attested(x.made())
		if bytes.Equal(first.CredentialID, second.CredentialID) {
			x.errorf("two credentials have one ID")
		}
		if bytes.Equal(x.encoded(first.PublicKey), x.encoded(second.PublicKey)) {
			x.errorf("two credentials have one key")
		}
	})
	d.require("mc-touches", made.and(userPresence), func(x *trial) {
		x.made()
		x.wantOneTouch(0)
	})
	d.require("mc-exclude-touch", made.and(userPresence).person(NoTouch).waits(timeout), func(x *trial) {
		excluded := set(mcExcludeList, list(x.create(notResident)))
		x.person(NoTouch)
		began := time.Now()
		if x.mc(excluded) == nil {
			x.fatalf("not excluded")
		}
		if time.Since(began) < time.Second {
			x.errorf("told that the list has a credential, and did not wait for a touch")
		}
	})
	d.require("mc-exclude-full", made.and(listFull), func(x *trial) {
		credential := x.create(notResident)
		ids := append(x.tooMany()[2:], credential)
		if got, _ := statusOf(x.mc(set(mcExcludeList, list(ids...)))); got != "CREDENTIAL_EXCLUDED" {
			x.errorf("the last of %d in the list: answered %s", len(ids), got)
		}
	})
	d.add("mc-max-message", made.and(framed), func(x *trial) error {
		return x.mc(x.fill(mcExtensions, mcRequest))
	})
	d.add("mc-rp-id-alone", made.and(from21), func(x *trial) error { return x.mc(set(2, fields{"id": "example.com"})) })
	d.add("mc-user-id-alone", made.and(from21), func(x *trial) error { return x.mc(set(3, fields{"id": []byte{1}})) })
	d.publicKey(made)
	d.attestation(made)
	d.accounts()
}

// fill makes a request as long as the authenticator takes, by an extension that
// nobody has heard of.
func (x *trial) fill(extensions int, request func(...edit) members) edit {
	padding := func(n int) edit { return set(extensions, fields{"x": make([]byte, n)}) }
	const guess = 256 // from here on, the length takes two bytes
	return padding(guess + maxMsgSize(x.info) - 1 - len(x.encoded(request(padding(guess)))))
}

var (
	framed = condition{"takes messages of less than 1024 bytes, or of more than the 7609 that every transport carries", func(info *ctap2.Info) bool {
		return maxMsgSize(info) >= ctap.DefaultMaxMsgSize && maxMsgSize(info) <= ctap.MaxFramedMessage
	}}
	listFull = condition{"takes lists of one credential alone, or longer ones than a message", func(info *ctap2.Info) bool {
		return info.MaxCredentialCountInList > 1 && listFits.holds(info)
	}}
)

// credentialIDOffset is where the credential ID stands in authenticator data.
const credentialIDOffset = 32 + 1 + 4 + 16 + 2

// behindKey is what follows the public key in authenticator data.
func (x *trial) behindKey(data *ctap2.AuthenticatorData) []byte {
	rest := data.Raw[credentialIDOffset+len(data.CredentialID):]
	n, err := cbor.Prefix(rest, cbor.Lenient)
	x.must(err)
	return rest[n:]
}

func (d *drivers) publicKey(made setup) {
	d.require("mc-key-canonical", made, func(x *trial) {
		data := x.attested(x.made())
		if _, err := cbor.Prefix(data.Raw[credentialIDOffset+len(data.CredentialID):], cbor.Strict); err != nil {
			x.errorf("%v", err)
		}
	})
	d.require("mc-key-members", made, func(x *trial) {
		data := x.attested(x.made())
		rest := data.Raw[credentialIDOffset+len(data.CredentialID):]
		var key members
		x.must(cbor.Unmarshal(rest[:len(rest)-len(x.behindKey(data))], &key))
		if got := slices.Sorted(maps.Keys(key)); !slices.Equal(got, []int{-3, -2, -1, 1, 3}) {
			x.errorf("the members of an ES256 key are %v", got)
		}
	})
	several := condition{"has one algorithm, or does not tell", func(info *ctap2.Info) bool { return len(info.Algorithms) > 1 }}
	d.require("mc-first-algorithm", made.and(several), func(x *trial) {
		first, second := x.info.Algorithms[0], x.info.Algorithms[1]
		for _, order := range [][]cose.Algorithm{{first, second}, {second, first}} {
			var all []any
			for _, alg := range order {
				all = append(all, fields{"type": "public-key", "alg": int(alg)})
			}
			if got := x.attested(x.made(params(all...))).PublicKey.Algorithm; got != order[0] {
				x.errorf("took %v of %v", got, order)
			}
		}
	})
}

func (d *drivers) attestation(made setup) {
	packed := func(x *trial) (*ctap2.AuthenticatorData, map[any]any) {
		answer := x.made()
		if answer[mcFormat] != "packed" {
			x.skip("its attestation is %v", answer[mcFormat])
		}
		statement, _ := answer[mcStatement].(map[any]any)
		return x.attested(answer), statement
	}
	certificates := func(x *trial, statement map[any]any) []*x509.Certificate {
		var chain []*x509.Certificate
		x5c, _ := statement["x5c"].([]any)
		for _, element := range x5c {
			der, _ := element.([]byte)
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				x.fatalf("x5c: %w", err)
			}
			chain = append(chain, certificate)
		}
		return chain
	}
	d.require("mc-attestation-signature", made, func(x *trial) {
		data, statement := packed(x)
		signed := slices.Concat(data.Raw, clientDataHash[:])
		signature, _ := statement["sig"].([]byte)
		alg, _ := statement["alg"].(int64)
		err := error(nil)
		if chain := certificates(x, statement); len(chain) > 0 {
			err = cose.Verify(cose.Algorithm(alg), chain[0].PublicKey, signed, signature)
		} else if cose.Algorithm(alg) != data.PublicKey.Algorithm {
			err = fmt.Errorf("self attestation with %v, the credential is for %v", cose.Algorithm(alg), data.PublicKey.Algorithm)
		} else {
			err = data.PublicKey.Verify(signed, signature)
		}
		if err != nil {
			x.errorf("%v", err)
		}
	})
	d.require("mc-attestation-members", made, func(x *trial) {
		_, statement := packed(x)
		for name := range statement {
			if name != "alg" && name != "sig" && name != "x5c" {
				x.errorf("attStmt has %v", name)
			}
		}
		if x5c, there := statement["x5c"]; there && len(certificates(x, statement)) == 0 {
			x.errorf("x5c is %v", x5c)
		}
	})
	d.require("mc-attestation-certificate", made, func(x *trial) {
		data, statement := packed(x)
		chain := certificates(x, statement)
		if len(chain) == 0 {
			x.skip("self attestation")
		}
		leaf, subject := chain[0], chain[0].Subject
		for wrong, is := range map[string]bool{
			"is not of version 3":                      leaf.Version != 3,
			"has no country of two letters":            len(subject.Country) != 1 || len(subject.Country[0]) != 2,
			"has no organization":                      len(subject.Organization) != 1,
			"has another OU":                           !slices.Equal(subject.OrganizationalUnit, []string{"Authenticator Attestation"}),
			"has no common name":                       subject.CommonName == "",
			"is that of a CA, or does not say":         !leaf.BasicConstraintsValid || leaf.IsCA,
			"has another AAGUID, or marks it critical": !namesModel(leaf, data.AAGUID),
		} {
			if is {
				x.errorf("the attestation certificate %s", wrong)
			}
		}
	})
	formats := condition{"does not list attestationFormats", func(info *ctap2.Info) bool { return len(info.AttestationFormats) > 0 }}
	d.require("mc-attestation-format", made.and(formats), func(x *trial) {
		if got, _ := x.made()[mcFormat].(string); !slices.Contains(x.info.AttestationFormats, got) {
			x.errorf("the format is %q, of %q", got, x.info.AttestationFormats)
		}
	})
	d.add("mc-attestation-none", made.and(from23), func(x *trial) error {
		answer := x.made(set(11, []any{"none"}))
		statement, _ := answer[mcStatement].(map[any]any)
		if answer[mcFormat] != "none" || len(statement) > 0 {
			return otherwise(fmt.Sprintf("the format is %v", answer[mcFormat]))
		}
		return nil
	})
}

// namesModel reports whether an attestation certificate has the AAGUID of the
// authenticator, or none, in an extension that is not critical (WebAuthn §8.2.1).
func namesModel(certificate *x509.Certificate, aaguid ctap2.AAGUID) bool {
	id := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4} // id-fido-gen-ce-aaguid
	for _, e := range certificate.Extensions {
		if e.Id.Equal(id) {
			var value []byte
			rest, err := asn1.Unmarshal(e.Value, &value)
			return err == nil && len(rest) == 0 && bytes.Equal(value, aaguid[:]) && !e.Critical
		}
	}
	return true
}

// accounts adds what becomes of the accounts of discoverable credentials.
func (d *drivers) accounts() {
	rk := plain.and(residentKeys)
	d.require("mc-same-account", rk, func(x *trial) {
		old, made := x.register(account("a")), x.register(account("a"))
		x.wantAccounts(made)
		x.wantUnknown(old.ID)
	})
	d.require("mc-same-account-protected", rk.and(extension("credProtect")), func(x *trial) {
		x.register(account("a"), protected(ctap2.UVRequired))
		x.wantAccounts(x.register(account("a")))
	})
	d.require("mc-other-account", rk, func(x *trial) {
		first, second := x.register(account("a")), x.register(account("b"))
		x.wantAccounts(second, first)
	})
	d.require("mc-longer-account", rk, func(x *trial) {
		first, second := x.register(account("a")), x.register(account("ab"))
		x.wantAccounts(second, first)
	})
	d.require("mc-same-account-elsewhere", rk, func(x *trial) {
		made := x.register(account("a"))
		x.register(account("a"), at("example.org"))
		x.wantAccounts(made)
	})
	// CTAP 2.0 may have made it discoverable all the same.
	d.require("mc-same-account-not-rk", rk.and(from21), func(x *trial) {
		made := x.register(account("a"))
		other := x.register(account("a"), notResident)
		x.wantAccounts(made)
		x.wantSignature(x.asserted(set(gaAllowList, list(other.ID))), other)
	})
	for id, n := range map[string]int{"mc-user-id-1": 1, "mc-user-id-64": 64} {
		d.require(id, rk, func(x *trial) {
			user := random(n)
			x.create(func(r *ctap2.MakeCredentialRequest) { r.User = ctap2.User{ID: user} })
			x.wantUser(x.asserted(), fields{"id": user})
		})
	}
	names := withPIN.and(residentKeys, mcGaWithPIN, credMgmt, permissions)
	stored := func(x *trial, name string) string {
		x.create(func(r *ctap2.MakeCredentialRequest) { r.User.Name = name })
		token := x.pinToken(ctap2.PermissionCredentialManagement, "")
		defer token.Wipe()
		all, err := x.key.EnumerateCredentials(x.ctx, &ctap2.EnumerateCredentialsRequest{RPID: "example.com", Token: token})
		x.must(err)
		if len(all) != 1 {
			x.fatalf("%d credentials are stored, must be 1", len(all))
		}
		return all[0].User.Name
	}
	d.require("mc-name-64", names, func(x *trial) {
		name := strings.Repeat("é", 32)
		if got := stored(x, name); got != name {
			x.errorf("of a name of 64 bytes, %q is kept", got)
		}
	})
	d.require("mc-name-cut", names, func(x *trial) {
		name := strings.Repeat("x", 63) + strings.Repeat("é", 100)
		if got := stored(x, name); !strings.HasPrefix(name, got) || len(got) < 63 || !utf8.ValidString(got) {
			x.errorf("of a long name, %q is kept", got)
		}
	})
}
