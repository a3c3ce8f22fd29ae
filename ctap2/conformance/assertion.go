package conformance

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// asserted is what getAssertion answers.
func (x *trial) asserted(edits ...edit) members {
	answer, err := x.ask(ctap.CmdGetAssertion, gaRequest(edits...))
	x.must(err)
	return answer
}

// assertedVerified is asserted, with a token.
func (x *trial) assertedVerified(edits ...edit) members {
	token := x.token(gaGate.permission, gaGate.rpID)
	answer, err := x.ask(ctap.CmdGetAssertion, gaGate.sign(gaRequest(edits...), token))
	x.must(err)
	return answer
}

// nextAsserted is what getNextAssertion answers.
func (x *trial) nextAsserted() members {
	reply, err := x.key.Command(x.ctx, ctap.CmdGetNextAssertion, nil)
	x.must(err)
	var answer members
	x.must(cbor.Unmarshal(reply, &answer))
	return answer
}

// wantSignature sees whether an assertion is one of a credential.
func (x *trial) wantSignature(answer members, made *ctap2.Credential) {
	signature, _ := answer[gaSignature].([]byte)
	signed := slices.Concat(x.authData(answer).Raw, clientDataHash[:])
	if err := made.PublicKey.Verify(signed, signature); err != nil {
		x.errorf("the signature: %v", err)
	}
}

// wantRP sees whether authenticator data are for a relying party.
func (x *trial) wantRP(answer members, rpID string) {
	if got, want := x.authData(answer).RPIDHash, sha256.Sum256([]byte(rpID)); got != want {
		x.errorf("the hash of the RP ID is %x, that of %s %x", got, rpID, want)
	}
}

// wantCredential sees whether the member credential names one.
func (x *trial) wantCredential(answer members, id []byte) {
	credential, _ := answer[gaCredential].(map[any]any)
	got, _ := credential["id"].([]byte)
	if !bytes.Equal(got, id) || credential["type"] != "public-key" || len(credential) != 2 {
		x.errorf("credential is %v, must be of %x", answer[gaCredential], id)
	}
}

// wantUser compares the member user.
func (x *trial) wantUser(answer members, want fields) {
	if !bytes.Equal(x.encoded(answer[gaUser]), x.encoded(want)) {
		x.errorf("user is %v, must be %v", answer[gaUser], want)
	}
}

// wantNumber compares numberOfCredentials, whose absence is 1.
func (x *trial) wantNumber(answer members, want int) {
	got, there := answer[gaNumber]
	if there && got != uint64(want) || !there && want != 1 {
		x.errorf("numberOfCredentials is %v, must be %d", got, want)
	}
}

// several is an assertion where there are several accounts, each of which has its
// turn unless there is a display.
func (x *trial) several(answer members) members {
	if answer[gaSelected] == true {
		x.skip("has its user choose the account")
	}
	return answer
}

// wantAccounts sees whether an RP ID has these accounts, in this order.
func (x *trial) wantAccounts(want ...*ctap2.Credential) {
	answer := x.several(x.asserted())
	x.wantNumber(answer, len(want))
	for i, made := range want {
		if i > 0 {
			answer = x.nextAsserted()
		}
		x.wantCredential(answer, made.ID)
		x.wantSignature(answer, made)
	}
}

// wantUnknown sees whether a credential is gone.
func (x *trial) wantUnknown(credential []byte) {
	err := x.ga(set(gaAllowList, list(credential)), gaOption("up", false))
	if got, _ := statusOf(err); got != "NO_CREDENTIALS" {
		x.errorf("a credential that should be gone: answered %s", got)
	}
}

func (d *drivers) assertions() {
	harmless := plain.leavesNoTrace()
	// listed asserts with a credential that is not discoverable.
	listed := func(x *trial, edits ...edit) (members, *ctap2.Credential) {
		made := x.register(notResident)
		return x.asserted(append(edits, set(gaAllowList, list(made.ID)))...), made
	}
	d.require("ga-answer", harmless, func(x *trial) {
		answer, made := listed(x)
		if from21.holds(x.info) || answer[gaCredential] != nil {
			x.wantCredential(answer, made.ID)
		}
		x.wantNumber(answer, 1)
		// It may be kept in the credential ID.
		if user, _ := answer[gaUser].(map[any]any); answer[gaUser] != nil && (len(user) != 1 || user["id"] == nil) {
			x.errorf("user is %v", answer[gaUser])
		}
		for _, number := range []int{gaSelected, gaBlobKey, gaOutputs} {
			if value, there := answer[number]; there {
				x.errorf("member %#02x, unasked: %v", number, value)
			}
		}
	})
	d.require("ga-signature", harmless, func(x *trial) {
		answer, made := listed(x)
		x.wantSignature(answer, made)
	})
	d.require("ga-rp-id-hash", harmless, func(x *trial) {
		answer, _ := listed(x)
		x.wantRP(answer, "example.com")
	})
	d.require("ga-flags", harmless.and(userPresence), func(x *trial) {
		answer, _ := listed(x)
		x.wantFlags(answer, ctap2.FlagUserPresent)
	})
	d.require("ga-flags-silent", harmless, func(x *trial) {
		answer, _ := listed(x, gaOption("up", false))
		x.wantFlags(answer, 0)
	})
	d.require("ga-flags-token", gaGate.setup.and(userPresence), func(x *trial) {
		credential := x.create(notResident)
		x.wantFlags(x.assertedVerified(set(gaAllowList, list(credential))), ctap2.FlagUserPresent|ctap2.FlagUserVerified)
	})
	d.require("ga-flags-token-silent", gaGate.setup, func(x *trial) {
		credential := x.create(notResident)
		answer := x.assertedVerified(set(gaAllowList, list(credential)), gaOption("up", false))
		x.wantFlags(answer, ctap2.FlagUserVerified)
	})
	d.require("ga-flags-uv", withFinger.and(userPresence).leavesNoTrace(), func(x *trial) {
		answer, _ := listed(x, gaOption("uv", true))
		x.wantFlags(answer, ctap2.FlagUserPresent|ctap2.FlagUserVerified)
	})
	for id, s := range map[string]setup{"ga-flags-pin": withPIN.and(mcGaWithPIN), "ga-flags-finger": withFinger} {
		d.require(id, s.and(userPresence).leavesNoTrace(), func(x *trial) {
			answer, _ := listed(x)
			x.wantFlags(answer, ctap2.FlagUserPresent)
		})
	}
	d.require("ga-unknown-extension", harmless.and(userPresence), func(x *trial) {
		answer, _ := listed(x, gaExtension("wax seal", true))
		x.wantFlags(answer, ctap2.FlagUserPresent)
	})
	d.require("ga-20-none-waits", harmless.and(only20, userPresence).person(NoTouch).waits(timeout), func(x *trial) {
		x.person(NoTouch)
		began := time.Now()
		if x.ga(unknownRP()) == nil {
			x.fatalf("a credential for a relying party that nobody has an account with")
		}
		if time.Since(began) < time.Second {
			x.errorf("told that there is no credential, and did not wait for a touch")
		}
	})
	d.require("ga-touches", harmless.and(userPresence), func(x *trial) {
		credential := x.create(notResident)
		before := x.touches()
		x.asserted(set(gaAllowList, list(credential)))
		x.wantOneTouch(before)
	})
	d.require("ga-silent-touches", harmless, func(x *trial) {
		credential := x.create(notResident)
		before := x.touches()
		x.asserted(set(gaAllowList, list(credential)), gaOption("up", false))
		x.wantNoTouch(before)
	})
	d.require("ga-sign-count", harmless, func(x *trial) {
		made := x.register(notResident)
		last := made.AuthData.SignCount
		for range 3 {
			count := x.authData(x.asserted(set(gaAllowList, list(made.ID)))).SignCount
			if count <= last && (count != 0 || last != 0) {
				x.errorf("signCount %d is followed by %d", last, count)
			}
			last = count
		}
	})
	d.require("ga-sign-count-power-cycle", harmless.powerCycle(), func(x *trial) {
		answer, made := listed(x)
		x.powerCycle()
		last, count := x.authData(answer).SignCount, x.authData(x.asserted(set(gaAllowList, list(made.ID)))).SignCount
		if count <= last && (count != 0 || last != 0) {
			x.errorf("signCount %d is followed by %d", last, count)
		}
	})
	d.require("ga-power-cycle", plain.and(residentKeys).powerCycle(), func(x *trial) {
		// Before CTAP 2.1 the other may be discoverable, too.
		kept, listed := x.register(), x.register(notResident, at("example.org"))
		x.powerCycle()
		x.wantAccounts(kept)
		x.wantSignature(x.asserted(set(1, "example.org"), set(gaAllowList, list(listed.ID))), listed)
	})
	d.require("ga-allow-full", harmless.and(listFull), func(x *trial) {
		made := x.register(notResident)
		x.wantSignature(x.asserted(set(gaAllowList, list(append(x.tooMany()[2:], made.ID)...))), made)
	})
	d.add("ga-max-message", harmless.and(framed), func(x *trial) error {
		allow := set(gaAllowList, list(x.create(notResident)))
		return x.ga(allow, x.fill(gaExtensions, func(edits ...edit) members { return gaRequest(append(edits, allow)...) }))
	})
	d.users()
}

// users adds what is said of accounts, and in which order.
func (d *drivers) users() {
	rk := plain.and(residentKeys)
	d.require("ga-user", rk, func(x *trial) {
		x.create(account("a"))
		x.wantUser(x.asserted(), fields{"id": []byte("a")})
	})
	verified := withPIN.and(residentKeys, mcGaWithPIN)
	d.require("ga-user-verified", verified, func(x *trial) {
		x.create(account("a"))
		x.wantUser(x.assertedVerified(), fields{"id": []byte("a")})
	})
	d.require("ga-users", rk, func(x *trial) {
		x.create(account("a"))
		x.create(account("b"))
		x.wantUser(x.several(x.asserted()), fields{"id": []byte("b")})
		x.wantUser(x.nextAsserted(), fields{"id": []byte("a")})
	})
	d.require("ga-users-verified", verified, func(x *trial) {
		named := func(id string) func(*ctap2.MakeCredentialRequest) {
			return func(r *ctap2.MakeCredentialRequest) {
				r.User = ctap2.User{ID: []byte(id), Name: "name of " + id, DisplayName: "display name of " + id}
			}
		}
		whole := func(id string) fields {
			return fields{"id": []byte(id), "name": "name of " + id, "displayName": "display name of " + id}
		}
		x.create(named("a"))
		x.create(named("b"))
		x.wantUser(x.several(x.assertedVerified()), whole("b"))
		x.wantUser(x.nextAsserted(), whole("a"))
	})
	d.require("ga-user-listed", rk, func(x *trial) {
		credential := x.create(account("a"))
		x.wantUser(x.asserted(set(gaAllowList, list(credential))), fields{"id": []byte("a")})
	})
	d.require("ga-newest-first", rk, func(x *trial) {
		a, b, c := x.register(account("a")), x.register(account("b")), x.register(account("c"))
		x.wantAccounts(c, b, a)
	})
	d.require("ga-newest-replaced", rk, func(x *trial) {
		x.create(account("a"))
		b := x.register(account("b"))
		x.wantAccounts(x.register(account("a")), b)
	})
	d.require("ga-newest-power-cycle", rk.powerCycle(), func(x *trial) {
		a, b, c := x.register(account("c")), x.register(account("a")), x.register(account("b"))
		x.powerCycle()
		x.wantAccounts(c, b, a)
	})
	d.require("ga-number-protected", rk.and(extension("credProtect")), func(x *trial) {
		x.create(account("a"), protected(ctap2.UVRequired))
		b := x.register(account("b"))
		x.create(account("c"), protected(ctap2.UVOptionalWithCredentialIDList))
		x.wantAccounts(b)
	})
	d.require("ga-number-listed", rk, func(x *trial) {
		if x.info.MaxCredentialCountInList == 1 {
			x.skip("takes lists of one credential alone")
		}
		a, b := x.create(account("a")), x.create(account("b"))
		x.wantNumber(x.asserted(set(gaAllowList, list(a, b))), 1)
	})
	d.require("ga-deleted", withPIN.and(residentKeys, credMgmt, permissions, mcGaWithPIN), func(x *trial) {
		credential := x.create()
		token := x.token(ctap2.PermissionCredentialManagement, "")
		x.must(x.key.DeleteCredential(x.ctx, &ctap2.DeleteCredentialRequest{
			Credential: ctap2.CredentialDescriptor{ID: credential}, Token: token,
		}))
		x.wantUnknown(credential)
	})

	// next is of a credential whose counter was used last when it was made: it may
	// have one of its own (WebAuthn §6.1.1).
	next := func(x *trial, before members, made *ctap2.Credential) {
		answer := x.nextAsserted()
		for _, number := range []int{gaNumber, gaSelected, gaBlobKey, gaOutputs} {
			if value, there := answer[number]; there {
				x.errorf("member %#02x: %v", number, value)
			}
		}
		x.wantFlags(answer, x.authData(before).Flags&^(ctap2.FlagBackupEligible|ctap2.FlagBackupState))
		last, count := made.AuthData.SignCount, x.authData(answer).SignCount
		if count <= last && (count != 0 || last != 0) {
			x.errorf("signCount %d is followed by %d", last, count)
		}
	}
	d.require("gna-answer", rk, func(x *trial) {
		made := x.register(account("a"))
		x.create(account("b"))
		next(x, x.several(x.asserted()), made)
	})
	d.require("gna-answer-silent", rk, func(x *trial) {
		made := x.register(account("a"))
		x.create(account("b"))
		next(x, x.asserted(gaOption("up", false)), made)
	})
	d.require("gna-answer-verified", verified, func(x *trial) {
		made := x.register(account("a"))
		x.create(account("b"))
		next(x, x.several(x.assertedVerified()), made)
	})
	d.require("gna-no-touch", rk.and(userPresence).person(NoTouch), func(x *trial) {
		x.create(account("a"))
		x.create(account("b"))
		x.several(x.asserted())
		before := x.touches()
		x.person(NoTouch)
		x.nextAsserted()
		x.wantNoTouch(before)
	})
}
