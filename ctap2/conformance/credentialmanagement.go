package conformance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of credentialManagement and authenticatorConfig, which have the same
// ones, and of bioEnrollment, where they are one further on.
const subCommand, subParams, subProtocol, subParam = 1, 2, 3, 4

// sub is the subcommand of a request and its parameters, as pinUvAuthParam
// covers them.
func sub(m members, at int) []byte {
	number, _ := m[at].(int)
	message := []byte{byte(number)}
	if params, ok := m[at+1]; ok {
		encoded, err := cbor.Marshal(params)
		if err != nil {
			return nil
		}
		message = append(message, encoded...)
	}
	return message
}

// subcommand is a request of a subcommand with parameters, unless nil.
func subcommand(number int, params members) members {
	m := members{subCommand: number}
	if params != nil {
		m[subParams] = params
	}
	return m
}

// manages is an authenticator whose credentials can be managed, and made with a
// PIN.
var manages = withPIN.and(credMgmt, residentKeys, mcGaWithPIN)

// room is that for n more discoverable credentials.
func room(n int) condition {
	return condition{"has no room for the credentials", func(info *ctap2.Info) bool {
		return info.RemainingDiscoverableCredentials == nil || *info.RemainingDiscoverableCredentials >= n
	}}
}

func cmGate(s setup, prepare func(x *trial) members) gate {
	return gate{
		command: ctap.CmdCredentialManagement, param: subParam, protocol: subProtocol,
		request:    prepare,
		message:    func(m members) []byte { return sub(m, subCommand) },
		permission: ctap2.PermissionCredentialManagement, other: ctap2.PermissionLargeBlobWrite,
		setup: s,
	}
}

func rpIDHash(rpID string) []byte {
	sum := sha256.Sum256([]byte(rpID))
	return sum[:]
}

func descriptor(id []byte) fields { return fields{"type": "public-key", "id": id} }

var grace = fields{"id": []byte{1, 2, 3}, "name": "grace"}

var (
	// Reading the counts changes nothing.
	cmMeta = cmGate(withPIN.and(credMgmt).leavesNoTrace(), func(*trial) members {
		return subcommand(ctap.CredMgmtGetCredsMetadata, nil)
	})
	cmRPs = cmGate(manages, func(x *trial) members {
		x.create()
		return subcommand(ctap.CredMgmtEnumerateRPsBegin, nil)
	})
	cmCreds = cmGate(manages, func(x *trial) members {
		x.create()
		return cmCredsOf("example.com")
	})
	cmDelete = cmGate(manages, func(x *trial) members { return deletion(x.create()) })
	cmUpdate = cmGate(manages, func(x *trial) members { return renaming(x.create()) })
)

func deletion(id []byte) members {
	return subcommand(ctap.CredMgmtDeleteCredential, members{2: descriptor(id)})
}

func renaming(id []byte) members {
	return subcommand(ctap.CredMgmtUpdateUserInformation, members{2: descriptor(id), 3: grace})
}

// param changes a member of subCommandParams.
func param(at, key int, value any) edit {
	return func(m members) {
		params := maps.Clone(m[at].(members))
		params[key] = value
		m[at] = params
	}
}

// noParam removes one.
func noParam(at, key int) edit {
	return func(m members) {
		params := maps.Clone(m[at].(members))
		delete(params, key)
		m[at] = params
	}
}

// change adds a row of a gate whose request is changed before it is signed.
func (d *drivers) change(id string, g gate, edits ...edit) {
	d.add(id, g.setup, func(x *trial) error { return g.signed(x, edited(g.request(x), edits)) })
}

// changeAfter adds one whose request is changed when it is signed.
func (d *drivers) changeAfter(id string, g gate, edits ...edit) {
	d.add(id, g.setup, func(x *trial) error { return x.command(g.command, edited(g.good(x), edits)) })
}

// alone adds the row of a pinUvAuthParam that leaves out the subCommandParams.
func (d *drivers) alone(prefix string, g gate) {
	d.add(prefix+"-param-alone", g.setup, func(x *trial) error {
		m := g.request(x)
		params := m[g.protocol-1]
		delete(m, g.protocol-1)
		m = g.sign(m, x.hold(g.permission, g.rpID))
		m[g.protocol-1] = params
		return x.command(g.command, m)
	})
}

func (d *drivers) credentialManagement() {
	harmless := plain.and(credMgmt).inAnyState().leavesNoTrace()
	d.malformed("cm", harmless, ctap.CmdCredentialManagement)
	d.wrongTypes("cm", cmMeta, map[string]edit{
		"subCommand":        set(subCommand, "getCredsMetadata"),
		"subCommandParams":  set(subParams, []any{}),
		"pinUvAuthProtocol": set(subProtocol, "two"),
		"pinUvAuthParam":    set(subParam, "param"),
	})
	d.wrongTypes("cm", cmCreds, map[string]edit{"rpIDHash": param(subParams, 1, "hash")})
	d.wrongTypes("cm", cmDelete, map[string]edit{"credentialID": param(subParams, 2, []byte{1})})
	d.wrongTypes("cm", cmUpdate, map[string]edit{"user": param(subParams, 3, []byte{1})})
	bare := func(id string, s setup, command byte, m members) {
		d.add(id, s, func(x *trial) error { return x.command(command, m) })
	}
	meta := subcommand(ctap.CredMgmtGetCredsMetadata, nil)
	bare("cm-unsupported", plain.and(not(credMgmt, "has credMgmt"), from21).inAnyState().leavesNoTrace(), ctap.CmdCredentialManagement, meta)
	bare("cm-missing-subCommand", harmless, ctap.CmdCredentialManagement, members{})
	bare("cm-unknown-subcommand", harmless, ctap.CmdCredentialManagement, subcommand(8, nil))
	bare("cm-unprotected", plain.and(credMgmt), ctap.CmdCredentialManagement, meta)

	for prefix, g := range map[string]gate{
		"cm-meta": cmMeta, "cm-rps": cmRPs, "cm-creds": cmCreds, "cm-delete": cmDelete, "cm-update": cmUpdate,
	} {
		d.gated(prefix, g)
		d.add(prefix+"-bound", g.setup, func(x *trial) error {
			return x.command(g.command, g.sign(g.request(x), x.token(g.permission, "example.com")))
		})
		d.add(prefix+"-param-of-sub", g.setup, func(x *trial) error {
			m := g.request(x)
			number := m[subCommand]
			m[subCommand] = 3 - number.(int)%2 // another one
			m = g.sign(m, x.hold(g.permission, ""))
			m[subCommand] = number
			return x.command(g.command, m)
		})
	}
	for prefix, g := range map[string]gate{"cm-creds": cmCreds, "cm-delete": cmDelete, "cm-update": cmUpdate} {
		d.change(prefix+"-missing-params", g, drop(subParams))
		d.changeAfter(prefix+"-param-of-other", g, param(subParams, 0x77, 1))
		d.alone(prefix, g)
	}
	for prefix, request := range map[string]func(id []byte) members{"cm-delete": deletion, "cm-update": renaming} {
		bound := func(id, rpID string, known bool) {
			d.add(prefix+"-"+id, manages, func(x *trial) error {
				credential := x.create()
				if !known {
					credential = random(16)
				}
				return x.command(cmMeta.command, cmMeta.sign(request(credential), x.token(cmMeta.permission, rpID)))
			})
		}
		bound("bound-other", "example.org", true)
		bound("bound-unknown", "example.com", false)
		bound("unknown", "", false)
		d.add(prefix+"-not-rk", manages, func(x *trial) error { return cmMeta.signed(x, request(x.create(notResident))) })
	}
	d.add("cm-creds-bound-other", manages, func(x *trial) error {
		m := cmCreds.request(x)
		return x.command(cmCreds.command, cmCreds.sign(m, x.token(cmCreds.permission, "example.org")))
	})
	empty := func(id string, m members) {
		d.add(id, withPIN.and(credMgmt), func(x *trial) error { return cmMeta.signed(x, m) })
	}
	empty("cm-meta-empty", meta)
	empty("cm-rps-empty", subcommand(ctap.CredMgmtEnumerateRPsBegin, nil))
	d.change("cm-creds-unknown", cmCreds, param(subParams, 1, rpIDHash("example.org")))
	d.change("cm-creds-missing-rpIDHash", cmCreds, noParam(subParams, 1))
	d.change("cm-delete-missing-credentialID", cmDelete, noParam(subParams, 2))
	d.change("cm-update-missing-credentialID", cmUpdate, noParam(subParams, 2))
	d.change("cm-update-missing-user", cmUpdate, noParam(subParams, 3))
	d.change("cm-update-other-user", cmUpdate, param(subParams, 3, fields{"id": []byte{3, 2, 1}, "name": "grace"}))
	d.add("cm-delete-twice", manages, func(x *trial) error {
		m := cmDelete.request(x)
		x.must(cmDelete.signed(x, m))
		return cmDelete.signed(x, m)
	})
	d.add("cm-delete-asserts", manages, func(x *trial) error {
		credential := x.create()
		x.must(cmDelete.signed(x, deletion(credential)))
		return x.ga(set(gaAllowList, list(credential)))
	})

	d.enumeration("cm-next-rp", subcommand(ctap.CredMgmtEnumerateRPsBegin, nil), ctap.CredMgmtEnumerateRPsGetNextRP, at)
	d.enumeration("cm-next-cred", cmCredsOf("example.com"),
		ctap.CredMgmtEnumerateCredentialsGetNext, account)
	// With two of each, an enumeration is not over after its first answer.
	other := func(id string, begin members, next int) {
		d.add(id, manages.and(room(3)), func(x *trial) error {
			x.create()
			x.create(account("b"))
			x.create(at("example.org"))
			x.must(cmMeta.signed(x, begin))
			return x.command(ctap.CmdCredentialManagement, subcommand(next, nil))
		})
	}
	other("cm-next-other", subcommand(ctap.CredMgmtEnumerateRPsBegin, nil), ctap.CredMgmtEnumerateCredentialsGetNext)
	other("cm-next-rp-other", subcommand(ctap.CredMgmtEnumerateCredentialsBegin, members{1: rpIDHash("example.com")}),
		ctap.CredMgmtEnumerateRPsGetNextRP)
	d.persistentToken()
	d.credentialManagementPreview()
	d.storedCredentials()
	d.deletedCredentials()
	d.renamedCredentials()
}

// enumeration adds the rows of what goes on with what begin began.
func (d *drivers) enumeration(prefix string, begin members, next int, distinct func(string) func(*ctap2.MakeCredentialRequest)) {
	// of enumerates n of them.
	of := func(id string, n int, s setup, live func(x *trial, next func() error) error) {
		d.add(prefix+id, s.and(room(2)), func(x *trial) error {
			for i := range n {
				change := account(string(rune('a' + i)))
				x.create(at("example.com"), change, distinct([]string{"example.com", "example.org"}[i]))
			}
			ask := func() error { return x.command(ctap.CmdCredentialManagement, subcommand(next, nil)) }
			if n > 0 {
				x.must(cmMeta.signed(x, begin))
			}
			return live(x, ask)
		})
	}
	of("", 2, manages, func(_ *trial, next func() error) error { return next() })
	of("-without-begin", 0, manages.leavesNoTrace(), func(_ *trial, next func() error) error { return next() })
	of("-one", 1, manages, func(_ *trial, next func() error) error { return next() })
	of("-exhausted", 2, manages, func(x *trial, next func() error) error {
		x.must(next())
		return next()
	})
	of("-interleaved", 2, manages, func(x *trial, next func() error) error {
		x.must(x.raw(ctap.CmdGetInfo, nil))
		return next()
	})
	of("-timer", 2, manages.waits(31*time.Second), func(x *trial, next func() error) error {
		x.sleep(31 * time.Second)
		return next()
	})
	of("-power-cycle", 2, manages.powerCycle(), func(x *trial, _ func() error) error {
		return x.firstAfterPower(ctap.CmdCredentialManagement, x.encoded(subcommand(next, nil)))
	})
	of("-token-expired", 2, manages.waits(afterMaxUse), func(x *trial, next func() error) error {
		x.expire(func() error { return cmMeta.signed(x, begin) })
		return next()
	})
}

// A listed is an answer of credentialManagement. What is absent is nil.
type listed struct {
	Existing   *uint64     `cbor:"1,keyasint"`
	Remaining  *uint64     `cbor:"2,keyasint"`
	RP         *listedRP   `cbor:"3,keyasint"`
	RPIDHash   []byte      `cbor:"4,keyasint"`
	TotalRPs   *uint64     `cbor:"5,keyasint"`
	User       *listedUser `cbor:"6,keyasint"`
	Credential *struct {
		ID   []byte `cbor:"id"`
		Type string `cbor:"type"`
	} `cbor:"7,keyasint"`
	PublicKey         *cose.Key `cbor:"8,keyasint"`
	TotalCredentials  *uint64   `cbor:"9,keyasint"`
	CredProtect       *uint64   `cbor:"10,keyasint"`
	LargeBlobKey      []byte    `cbor:"11,keyasint"`
	ThirdPartyPayment *bool     `cbor:"12,keyasint"`
}

type listedRP struct {
	ID string `cbor:"id"`
}

type listedUser struct {
	ID          []byte  `cbor:"id"`
	Name        *string `cbor:"name"`
	DisplayName *string `cbor:"displayName"`
}

// id is the credential ID of an entry.
func (l *listed) id() []byte {
	if l.Credential == nil {
		return nil
	}
	return l.Credential.ID
}

// read sends a command that must succeed, and decodes its answer.
func (x *trial) read(command byte, parameters members, answer any) {
	reply, err := x.key.Command(x.ctx, command, x.encoded(parameters))
	x.must(err)
	x.decode(reply, answer)
}

// decode decodes an answer, no member of which may be null: that would be taken
// for absent.
func (x *trial) decode(reply []byte, answer any) {
	x.must(cbor.Unmarshal(reply, answer))
	var all members
	x.must(cbor.Unmarshal(reply, &all))
	for key, value := range all {
		if value == nil {
			x.errorf("member 0x%02X of the answer is null", key)
		}
	}
}

// A manager lists and changes discoverable credentials, with one token.
type manager struct {
	x       *trial
	command byte // authenticatorCredentialManagement or its prototype
	token   *ctap2.Token
}

// manager obtains a token with cm. Those from before a credential was made may
// be gone.
func (x *trial) manager() manager {
	return manager{x, ctap.CmdCredentialManagement, x.token(ctap2.PermissionCredentialManagement, "")}
}

// preview is manager for the prototype.
func (x *trial) preview() manager {
	m := manager{x: x, command: ctap.CmdCredentialManagementPreview}
	if permissions.holds(x.info) {
		m.token = x.pinToken(ctap2.PermissionCredentialManagement, "")
	} else {
		m.token = x.legacyToken()
	}
	return m
}

// counts is getCredsMetadata.
func (m manager) counts() (existing, remaining uint64) {
	var answer listed
	m.x.read(m.command, cmMeta.sign(subcommand(ctap.CredMgmtGetCredsMetadata, nil), m.token), &answer)
	if answer.Existing == nil || answer.Remaining == nil {
		m.x.fatalf("getCredsMetadata answers without one of its members")
	}
	return *answer.Existing, *answer.Remaining
}

// rps is all relying parties.
func (m manager) rps() []listed {
	all := m.enumerate(subcommand(ctap.CredMgmtEnumerateRPsBegin, nil), ctap.CredMgmtEnumerateRPsGetNextRP,
		func(l *listed) *uint64 { return l.TotalRPs })
	if slices.ContainsFunc(all, func(l listed) bool { return l.RP == nil }) {
		m.x.fatalf("a relying party is listed without rp")
	}
	return all
}

// credentials is all credentials of one.
func (m manager) credentials(rpID string) []listed {
	begin := subcommand(ctap.CredMgmtEnumerateCredentialsBegin, members{1: rpIDHash(rpID)})
	all := m.enumerate(begin, ctap.CredMgmtEnumerateCredentialsGetNext, func(l *listed) *uint64 { return l.TotalCredentials })
	if slices.ContainsFunc(all, func(l listed) bool { return l.User == nil }) {
		m.x.fatalf("a credential is listed without user")
	}
	return all
}

// mostListed is more than any case makes.
const mostListed = 100

func (m manager) enumerate(begin members, next int, total func(*listed) *uint64) []listed {
	reply, err := m.x.key.Command(m.x.ctx, m.command, m.x.encoded(cmMeta.sign(begin, m.token)))
	if errors.Is(err, ctap2.ErrNoCredentials) {
		return nil
	}
	m.x.must(err)
	all := make([]listed, 1)
	m.x.decode(reply, &all[0])
	n := total(&all[0])
	if n == nil || *n == 0 || *n > mostListed {
		m.x.fatalf("the first answer of the enumeration has no total, or one that cannot be")
	}
	for uint64(len(all)) < *n {
		var entry listed
		m.x.read(m.command, subcommand(next, nil), &entry)
		if total(&entry) != nil {
			m.x.errorf("a total is in an answer that is not the first")
		}
		all = append(all, entry)
	}
	return all
}

// one is the credential of a relying party that has one.
func (m manager) one(rpID string) listed {
	all := m.credentials(rpID)
	if len(all) != 1 {
		m.x.fatalf("%d credentials of %s are listed, must be 1", len(all), rpID)
	}
	return all[0]
}

func (m manager) change(request members) {
	m.x.must(m.x.command(m.command, cmMeta.sign(request, m.token)))
}

func (m manager) delete(id []byte) { m.change(deletion(id)) }

// rename gives the account of a credential other names.
func (m manager) rename(id []byte, user fields) {
	m.change(subcommand(ctap.CredMgmtUpdateUserInformation, members{2: descriptor(id), 3: user}))
}

// wantCredentials compares what is listed of a relying party, in any order.
func (m manager) wantCredentials(rpID string, ids ...[]byte) {
	var got [][]byte
	for _, l := range m.credentials(rpID) {
		got = append(got, l.id())
	}
	slices.SortFunc(got, bytes.Compare)
	ids = slices.SortedFunc(slices.Values(ids), bytes.Compare)
	if !slices.EqualFunc(got, ids, bytes.Equal) {
		m.x.errorf("the credentials of %s are %x, must be %x", rpID, got, ids)
	}
}

// wantRPs compares the relying parties that are listed, in any order.
func (m manager) wantRPs(ids ...string) {
	var got []string
	for _, l := range m.rps() {
		got = append(got, l.RP.ID)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		m.x.errorf("the relying parties are %q, must be %q", got, ids)
	}
}

// wantCount compares existingResidentCredentialsCount.
func (m manager) wantCount(want uint64) {
	if got, _ := m.counts(); got != want {
		m.x.errorf("existingResidentCredentialsCount is %d, must be %d", got, want)
	}
}

// someone is account, with both names.
func someone(id string) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) {
		r.User = ctap2.User{ID: []byte(id), Name: id + "@example.com", DisplayName: "The " + id}
	}
}

// text is a name that may be absent.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// require adds a case of requirements.md whose run notes what is wrong.
func (d *drivers) require(id string, s setup, run func(x *trial)) {
	d.add(id, s, func(x *trial) error {
		run(x)
		return nil
	})
}

// storedCredentials adds what is listed of credentials.
func (d *drivers) storedCredentials() {
	two, three := manages.and(room(2)), manages.and(room(3))
	d.require("cm-count", two, func(x *trial) {
		x.manager().wantCount(0)
		first := x.create(someone("a"))
		x.create(someone("b"), at("example.org"))
		m := x.manager()
		m.wantCount(2)
		m.delete(first)
		m.wantCount(1)
	})
	d.require("cm-count-remaining", manages, func(x *trial) {
		_, before := x.manager().counts()
		credential := x.create()
		m := x.manager()
		_, made := m.counts()
		if made >= before {
			x.errorf("%d more fit after a credential was made, and %d before", made, before)
		}
		m.delete(credential)
		if _, deleted := m.counts(); deleted <= made {
			x.errorf("%d more fit after the credential was deleted, and %d before", deleted, made)
		}
	})
	d.require("cm-count-not-rk", manages, func(x *trial) {
		x.create(notResident)
		x.manager().wantCount(0)
	})
	d.require("cm-count-replaced", two, func(x *trial) {
		x.create(someone("a"))
		again := x.create(someone("a"))
		m := x.manager()
		m.wantCount(1)
		m.wantCredentials("example.com", again)
	})
	known := condition{"does not say how many credentials fit", func(info *ctap2.Info) bool {
		return info.RemainingDiscoverableCredentials != nil
	}}
	d.require("cm-info-remaining", manages.and(known), func(x *trial) {
		remaining := func() int {
			n := x.fresh().RemainingDiscoverableCredentials
			if n == nil {
				x.fatalf("remainingDiscoverableCredentials is gone")
			}
			return *n
		}
		before := remaining()
		credential := x.create()
		made := remaining()
		x.manager().delete(credential)
		if deleted := remaining(); made >= before || deleted <= made {
			x.errorf("remainingDiscoverableCredentials is %d, %d with another credential, and %d without it", before, made, deleted)
		}
	})
	d.require("cm-rps-listed", three, func(x *trial) {
		rps := []string{"example.com", "example.net", "example.org"}
		for _, rp := range rps {
			x.create(at(rp))
		}
		m := x.manager()
		m.wantRPs(rps...)
		for _, l := range m.rps() {
			if !bytes.Equal(l.RPIDHash, rpIDHash(l.RP.ID)) {
				x.errorf("rpIDHash of %s is %x", l.RP.ID, l.RPIDHash)
			}
		}
	})
	d.require("cm-rps-once", three, func(x *trial) {
		x.create(someone("a"))
		x.create(someone("b"))
		x.create(someone("c"), at("example.org"))
		x.manager().wantRPs("example.com", "example.org")
	})
	d.require("cm-rps-not-rk", two, func(x *trial) {
		x.create(at("example.com"))
		x.create(at("example.org"), notResident)
		x.manager().wantRPs("example.com")
	})
	d.require("cm-rps-again", two, func(x *trial) {
		x.create(at("example.com"))
		x.create(at("example.org"))
		m := x.manager()
		m.change(subcommand(ctap.CredMgmtEnumerateRPsBegin, nil))
		m.wantRPs("example.com", "example.org")
	})
	d.require("cm-rps-long", manages, func(x *trial) {
		rp := strings.Repeat("long.", 8) + "example.com"
		credential := x.create(at(rp))
		m := x.manager()
		all := m.rps()
		if len(all) != 1 || all[0].RP == nil {
			x.fatalf("%d relying parties are listed, must be 1 with rp", len(all))
		}
		if !bytes.Equal(all[0].RPIDHash, rpIDHash(rp)) {
			x.errorf("rpIDHash is %x, must be that of the whole RP ID", all[0].RPIDHash)
		}
		if got := all[0].RP.ID; got != rp {
			end, cut := strings.CutPrefix(got, "…")
			if !cut || len(got) < 32 || !strings.HasSuffix(rp, end) {
				x.errorf("rp.id is %q, which is not %q, nor what §6.8.7 makes of it", got, rp)
			}
		}
		m.wantCredentials(rp, credential)
	})
	d.require("cm-creds-listed", manages.and(room(4)), func(x *trial) {
		a, b, c := x.create(someone("a")), x.create(someone("b")), x.create(someone("c"))
		other := x.create(someone("a"), at("example.org"))
		m := x.manager()
		m.wantCredentials("example.com", a, b, c)
		m.wantCredentials("example.org", other)
	})
	d.require("cm-creds-not-rk", manages, func(x *trial) {
		credential := x.create(someone("a"))
		x.create(someone("b"), notResident)
		x.manager().wantCredentials("example.com", credential)
	})
	d.require("cm-creds-again", two, func(x *trial) {
		a, b := x.create(someone("a")), x.create(someone("b"))
		m := x.manager()
		m.change(cmCredsOf("example.com"))
		m.wantCredentials("example.com", a, b)
	})
	d.require("cm-creds-user", two, func(x *trial) {
		for _, name := range []string{"a", "b"} {
			x.create(someone(name))
		}
		for _, l := range x.manager().credentials("example.com") {
			if l.User == nil {
				x.fatalf("a credential is listed without user")
			}
			if id := string(l.User.ID); text(l.User.Name) != id+"@example.com" || text(l.User.DisplayName) != "The "+id {
				x.errorf("user %s is listed as %q, %q", id, text(l.User.Name), text(l.User.DisplayName))
			}
		}
	})
	d.require("cm-creds-type", manages, func(x *trial) {
		x.create()
		if l := x.manager().one("example.com"); l.Credential == nil || l.Credential.Type != "public-key" {
			x.errorf("credentialID is not of type public-key")
		}
	})
	d.require("cm-creds-key", manages.and(room(3)), func(x *trial) {
		of := map[string]*cose.Key{}
		for _, alg := range []cose.Algorithm{cose.ES256, cose.EdDSA, cose.ES384} {
			if alg != cose.ES256 && !slices.Contains(x.info.Algorithms, alg) {
				continue
			}
			made := x.register(someone(alg.String()), func(r *ctap2.MakeCredentialRequest) { r.Algorithms = []cose.Algorithm{alg} })
			of[string(made.ID)] = made.PublicKey
		}
		for _, l := range x.manager().credentials("example.com") {
			if l.PublicKey == nil || of[string(l.id())] == nil {
				x.fatalf("a credential is listed without publicKey, or was never made")
			}
			if !bytes.Equal(x.encoded(l.PublicKey), x.encoded(of[string(l.id())])) {
				x.errorf("publicKey is not that of the registration")
			}
		}
	})
	d.require("cm-creds-protect", manages.and(extension("credProtect"), room(4)), func(x *trial) {
		for _, policy := range []ctap2.CredProtectPolicy{ctap2.UVOptional, ctap2.UVOptionalWithCredentialIDList, ctap2.UVRequired} {
			rp := string(rune('a'+policy)) + ".example"
			level := protection(x.register(at(rp), protected(policy)).AuthData)
			if l := x.manager().one(rp); l.CredProtect == nil || *l.CredProtect != uint64(level) {
				x.errorf("credProtect of a credential with %d is another, or none", level)
			}
		}
		x.create(at("d.example"))
		if l := x.manager().one("d.example"); l.CredProtect == nil {
			x.errorf("a credential that was made without credProtect is listed without")
		}
	})
	d.require("cm-creds-blob-key", manages.and(extension("largeBlobKey"), room(2)), func(x *trial) {
		made := x.register(at("example.com"), withExtension(ctap2.LargeBlobKey()))
		x.create(at("example.org"))
		m := x.manager()
		if l := m.one("example.com"); len(l.LargeBlobKey) != 32 || !hmac.Equal(l.LargeBlobKey, made.LargeBlobKey.Bytes()) {
			x.errorf("largeBlobKey is not that of the registration")
		}
		if l := m.one("example.org"); l.LargeBlobKey != nil {
			x.errorf("a credential that was made without largeBlobKey has one")
		}
	})
	d.require("cm-creds-payment", manages.and(extension("thirdPartyPayment"), room(2)), func(x *trial) {
		x.create(at("example.com"), withExtension(ctap2.ThirdPartyPayment()))
		x.create(at("example.org"))
		m := x.manager()
		if l := m.one("example.com"); l.ThirdPartyPayment == nil || !*l.ThirdPartyPayment {
			x.errorf("thirdPartyPayment is not true")
		}
		if l := m.one("example.org"); l.ThirdPartyPayment != nil && *l.ThirdPartyPayment {
			x.errorf("thirdPartyPayment is true of a credential that was made without")
		}
	})
	d.require("cm-creds-power-cycle", manages.powerCycle(), func(x *trial) {
		credential := x.create()
		x.powerCycle()
		x.manager().wantCredentials("example.com", credential)
	})
	d.require("cm-reset", manages.powerCycle(), func(x *trial) {
		x.create()
		x.reset()
		x.must(x.key.SetPIN(x.ctx, pin.FromString(x.pin())))
		m := manager{x, ctap.CmdCredentialManagement, x.pinToken(ctap2.PermissionCredentialManagement, "")}
		m.wantCount(0)
		m.wantRPs()
	})
}

// cmCredsOf is enumerateCredentialsBegin.
func cmCredsOf(rpID string) members {
	return subcommand(ctap.CredMgmtEnumerateCredentialsBegin, members{1: rpIDHash(rpID)})
}

// deletedCredentials adds what deleteCredential does.
func (d *drivers) deletedCredentials() {
	d.require("cm-delete-one", manages.and(room(3)), func(x *trial) {
		a, b, c := x.register(someone("a")), x.create(someone("b")), x.register(someone("c"))
		m := x.manager()
		m.delete(b)
		m.wantCredentials("example.com", a.ID, c.ID)
		for _, left := range []*ctap2.Credential{a, c} {
			x.wantAssertion(left)
		}
	})
	d.require("cm-delete-rp", manages.and(room(3)), func(x *trial) {
		a, b := x.create(someone("a")), x.create(someone("b"))
		x.create(at("example.org"))
		m := x.manager()
		m.delete(a)
		m.wantRPs("example.com", "example.org")
		m.delete(b)
		m.wantRPs("example.org")
	})
	d.add("cm-delete-excludes", manages, func(x *trial) error {
		credential := x.create()
		x.manager().delete(credential)
		_, err := x.tryRegister(notResident, func(r *ctap2.MakeCredentialRequest) {
			r.ExcludeList = []ctap2.CredentialDescriptor{{ID: credential}}
		})
		return err
	})
	d.require("cm-delete-power-cycle", manages.powerCycle(), func(x *trial) {
		credential := x.create()
		x.manager().delete(credential)
		x.powerCycle()
		x.manager().wantCount(0)
	})
	d.require("cm-delete-refused", manages, func(x *trial) {
		credential := x.create()
		if x.command(ctap.CmdCredentialManagement, deletion(credential)) == nil {
			x.errorf("deleted without pinUvAuthParam")
		}
		x.manager().wantCredentials("example.com", credential)
	})
}

// wantAssertion signs in with a credential of example.com.
func (x *trial) wantAssertion(made *ctap2.Credential) {
	got, err := x.key.GetAssertion(x.ctx, &ctap2.GetAssertionRequest{
		RPID: "example.com", ClientDataHash: clientDataHash[:], AllowList: []ctap2.CredentialDescriptor{{ID: made.ID}},
	})
	x.must(err)
	if err := got[0].Verify(made.PublicKey, clientDataHash[:]); err != nil {
		x.errorf("the assertion of a credential that is still there: %v", err)
	}
}

// renamedCredentials adds what updateUserInformation does.
func (d *drivers) renamedCredentials() {
	other := func(id string) fields {
		return fields{"id": []byte(id), "name": "grace", "displayName": "Grace"}
	}
	names := func(x *trial, u *listedUser, name, displayName string) {
		if u == nil || text(u.Name) != name || text(u.DisplayName) != displayName {
			x.errorf("the names are not %q, %q", name, displayName)
		}
	}
	d.require("cm-update-listed", manages, func(x *trial) {
		made := x.register(someone("a"))
		m := x.manager()
		m.rename(made.ID, other("a"))
		l := m.one("example.com")
		names(x, l.User, "grace", "Grace")
		if !bytes.Equal(l.id(), made.ID) || string(l.User.ID) != "a" {
			x.errorf("the credential has another ID, or its user has")
		}
		if l.PublicKey == nil || !bytes.Equal(x.encoded(l.PublicKey), x.encoded(made.PublicKey)) {
			x.errorf("the credential has another key")
		}
	})
	d.require("cm-update-one", manages.and(room(2)), func(x *trial) {
		a := x.create(someone("a"))
		x.create(someone("b"))
		m := x.manager()
		m.rename(a, other("a"))
		for _, l := range m.credentials("example.com") {
			if string(l.User.ID) == "b" {
				names(x, l.User, "b@example.com", "The b")
			}
		}
		m.wantCount(2)
	})
	d.require("cm-update-asserted", manages.and(room(2)), func(x *trial) {
		a := x.register(someone("a"))
		x.create(someone("b"))
		x.manager().rename(a.ID, other("a"))
		// The names come where there is more than one account, and UV.
		all, err := x.key.GetAssertion(x.ctx, &ctap2.GetAssertionRequest{
			RPID: "example.com", ClientDataHash: clientDataHash[:],
			Token: x.token(ctap2.PermissionGetAssertion, "example.com"),
		})
		x.must(err)
		for _, one := range all {
			if !bytes.Equal(one.Credential.ID, a.ID) {
				continue
			}
			if one.User.Name != "grace" || one.User.DisplayName != "Grace" {
				x.errorf("the assertion has the names %q, %q", one.User.Name, one.User.DisplayName)
			}
			if err := one.Verify(a.PublicKey, clientDataHash[:]); err != nil {
				x.errorf("the assertion: %v", err)
			}
			return
		}
		if len(all) > 0 && all[0].UserSelected {
			x.skip("has its user choose the account")
		}
		x.errorf("the credential makes no assertion any more")
	})
	for id, empty := range map[string]fields{
		"cm-update-empty":  {"id": []byte("a"), "name": "", "displayName": ""},
		"cm-update-absent": {"id": []byte("a")},
	} {
		d.require(id, manages, func(x *trial) {
			credential := x.create(someone("a"))
			m := x.manager()
			m.rename(credential, empty)
			if l := m.one("example.com"); l.User.Name != nil || l.User.DisplayName != nil {
				x.errorf("the names are still there, or are empty")
			}
		})
	}
	d.require("cm-update-long", manages, func(x *trial) {
		credential := x.create(someone("a"))
		long := strings.Repeat("ö", 40)
		m := x.manager()
		m.rename(credential, fields{"id": []byte("a"), "name": long})
		l := m.one("example.com")
		if l.User == nil {
			x.fatalf("a credential is listed without user")
		}
		if got := text(l.User.Name); len(got) < 64 || !strings.HasPrefix(long, got) || !utf8.ValidString(got) {
			x.errorf("of a name of %d bytes, %q is left", len(long), got)
		}
	})
	d.require("cm-update-power-cycle", manages.powerCycle(), func(x *trial) {
		credential := x.create(someone("a"))
		x.manager().rename(credential, other("a"))
		x.powerCycle()
		names(x, x.manager().one("example.com").User, "grace", "Grace")
	})
	d.require("cm-update-refused", manages, func(x *trial) {
		credential := x.create(someone("a"))
		m := x.manager()
		wrong := subcommand(ctap.CredMgmtUpdateUserInformation, members{2: descriptor(credential), 3: other("b")})
		if x.command(m.command, cmMeta.sign(wrong, m.token)) == nil {
			x.errorf("another user.id is taken")
		}
		names(x, m.one("example.com").User, "a@example.com", "The a")
	})
}

func (d *drivers) persistentToken() {
	reads := manages.and(persistentRead)
	pcmr := func(id string, g gate, s setup, live func(x *trial)) {
		g.permission, g.rpID, g.setup = ctap2.PermissionPersistentCredentialManagement, "", s
		d.add("pcmr-"+id, g.setup, func(x *trial) error {
			m := g.good(x)
			live(x)
			return x.command(g.command, m)
		})
	}
	nothing := func(*trial) {}
	pcmr("meta", cmMeta, reads.leavesNoTrace(), nothing)
	pcmr("rps", cmRPs, reads, nothing)
	pcmr("creds", cmCreds, reads, nothing)
	pcmr("delete", cmDelete, reads, nothing)
	pcmr("update", cmUpdate, reads, nothing)
	pcmr("mc", mcGate, reads, nothing)
	pcmr("ga", gaGate, reads, nothing)
	pcmr("power-cycle", cmMeta, reads.powerCycle().leavesNoTrace(), (*trial).powerCycle)
	const late = (ctap.MaxTokenSeconds + 60) * time.Second
	pcmr("late", cmMeta, reads.waits(late).leavesNoTrace(), func(x *trial) { x.sleep(late) })
	pcmr("other-token", cmMeta, reads.leavesNoTrace(), func(x *trial) { x.token(ctap2.PermissionCredentialManagement, "") })
	pcmr("pin-changed", cmMeta, reads, func(x *trial) {
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(x.pin()), pin.FromString(x.otherPIN())))
	})
	pcmr("reset", cmMeta, reads.powerCycle(), func(x *trial) {
		x.reset()
		x.must(x.key.SetPIN(x.ctx, pin.FromString(x.pin())))
	})
	wrong := cmMeta
	wrong.message = func(m members) []byte { return append(cmMeta.message(m), 0) }
	pcmr("param-wrong", wrong, reads.leavesNoTrace(), nothing)
	d.add("pcmr-next-rp", reads.and(room(2)), func(x *trial) error {
		x.create(at("example.org"))
		g := cmRPs
		g.permission = ctap2.PermissionPersistentCredentialManagement
		x.must(x.command(g.command, g.good(x)))
		return x.command(g.command, subcommand(ctap.CredMgmtEnumerateRPsGetNextRP, nil))
	})
	d.persistentlyRead(reads)
}

// persistentlyRead adds what the persistent token reads.
func (d *drivers) persistentlyRead(reads setup) {
	persistent := func(x *trial) *ctap2.Token { return x.token(ctap2.PermissionPersistentCredentialManagement, "") }
	d.require("pcmr-lists", reads.and(room(2)), func(x *trial) {
		a, b := x.create(someone("a")), x.create(someone("b"), at("example.org"))
		m := manager{x, ctap.CmdCredentialManagement, persistent(x)}
		m.wantCount(2)
		m.wantRPs("example.com", "example.org")
		m.wantCredentials("example.com", a)
		m.wantCredentials("example.org", b)
	})
	d.require("pcmr-again", reads.leavesNoTrace(), func(x *trial) {
		first, second := persistent(x), persistent(x)
		for _, token := range []*ctap2.Token{first, second} {
			manager{x, ctap.CmdCredentialManagement, token}.counts()
		}
	})
	d.require("pcmr-new-credential", reads, func(x *trial) {
		m := manager{x, ctap.CmdCredentialManagement, persistent(x)}
		credential := x.create() // which takes a token of its own
		m.wantCredentials("example.com", credential)
	})

	// identifier and state are what getInfo says now, to who has the token.
	type sealed struct{ iv, plain [16]byte }
	open := func(x *trial, token *ctap2.Token, member []byte, open func(*ctap2.Token) ([16]byte, error)) sealed {
		if member == nil {
			x.fatalf("getInfo has no such member")
		}
		plain, err := open(token)
		x.must(err) // a member of another length, too
		return sealed{[16]byte(member), plain}
	}
	identifier := func(x *trial, token *ctap2.Token) sealed {
		info := x.fresh()
		return open(x, token, info.EncIdentifier, info.Identifier)
	}
	state := func(x *trial, token *ctap2.Token) sealed {
		info := x.fresh()
		return open(x, token, info.EncCredStoreState, info.CredStoreState)
	}
	for id, read := range map[string]func(*trial, *ctap2.Token) sealed{"pcmr-identifier": identifier, "pcmr-state": state} {
		s := reads
		if id == "pcmr-state" {
			s = reads.and(from23)
		}
		d.require(id, s.leavesNoTrace(), func(x *trial) {
			token := persistent(x)
			first, second := read(x, token), read(x, token)
			if first.iv == second.iv {
				x.errorf("two answers have the same initialization vector")
			}
			if first.plain != second.plain {
				x.errorf("two answers in a row hold different values")
			}
		})
		d.require(id+"-power-cycle", s.powerCycle().leavesNoTrace(), func(x *trial) {
			token := persistent(x)
			before := read(x, token)
			x.powerCycle()
			if read(x, token).plain != before.plain {
				x.errorf("the value is another after a power cycle")
			}
		})
	}
	d.require("pcmr-identifier-pin-changed", reads, func(x *trial) {
		before := identifier(x, persistent(x))
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(x.pin()), pin.FromString(x.otherPIN())))
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(x.otherPIN()), pin.FromString(x.pin())))
		if identifier(x, persistent(x)).plain != before.plain {
			x.errorf("the identifier is another with another PIN")
		}
	})
	d.require("pcmr-identifier-reset", reads.powerCycle(), func(x *trial) {
		before := identifier(x, x.pinToken(ctap2.PermissionPersistentCredentialManagement, ""))
		x.reset()
		x.must(x.key.SetPIN(x.ctx, pin.FromString(x.pin())))
		if identifier(x, x.pinToken(ctap2.PermissionPersistentCredentialManagement, "")).plain == before.plain {
			x.errorf("the identifier is the same after a reset")
		}
	})
	d.require("pcmr-old-token", reads, func(x *trial) {
		token := persistent(x)
		before := identifier(x, token)
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(x.pin()), pin.FromString(x.otherPIN())))
		if identifier(x, token).plain == before.plain {
			x.errorf("a token from before the PIN was changed still opens encIdentifier")
		}
	})
	for id, change := range map[string]func(x *trial, credential []byte){
		"pcmr-state-made":    func(x *trial, _ []byte) { x.create(someone("b")) },
		"pcmr-state-deleted": func(x *trial, credential []byte) { x.manager().delete(credential) },
		"pcmr-state-renamed": func(x *trial, credential []byte) {
			x.manager().rename(credential, fields{"id": []byte("a"), "name": "grace"})
		},
	} {
		d.require(id, reads.and(from23, room(2)), func(x *trial) {
			credential := x.create(someone("a"))
			token := persistent(x)
			before := state(x, token)
			change(x, credential)
			if state(x, token).plain == before.plain {
				x.errorf("encCredStoreState has not changed")
			}
		})
	}
	d.require("pcmr-state-unchanged", reads.and(from23), func(x *trial) {
		made := x.register()
		token := persistent(x)
		before := state(x, token)
		x.wantAssertion(made)
		x.manager().wantCount(1)
		if state(x, token).plain != before.plain {
			x.errorf("encCredStoreState has changed, and the credentials have not")
		}
	})
}

// credentialManagementPreview adds the rows of the prototype, with tokens that
// know no permissions, and what it has in common with the final command.
func (d *drivers) credentialManagementPreview() {
	has := optionOn(ctap2.OptionCredentialMgmtPreview)
	old := withPIN.and(prototype, has)
	row := func(id string, s setup, request func(x *trial) members, edits ...edit) {
		d.add("pre-cm-"+id, s, func(x *trial) error {
			m := request(x)
			return x.command(ctap.CmdCredentialManagementPreview, edited(cmMeta.sign(m, x.legacyToken()), edits))
		})
	}
	row("meta", old.leavesNoTrace(), cmMeta.request)
	row("no-param", old.leavesNoTrace(), cmMeta.request, drop(subParam))
	row("param-wrong", old.leavesNoTrace(), cmMeta.request, func(m members) { m[subParam].([]byte)[5] ^= 0x10 })
	row("empty", old, func(*trial) members { return subcommand(ctap.CredMgmtEnumerateRPsBegin, nil) })
	row("delete", old, cmDelete.request)
	row("next", old.leavesNoTrace(), func(*trial) members { return subcommand(ctap.CredMgmtEnumerateRPsGetNextRP, nil) })
	row("update", old, cmUpdate.request)
	meta := subcommand(ctap.CredMgmtGetCredsMetadata, nil)
	d.add("pre-cm-final", plain.and(prototype, has, lacks(ctap2.OptionCredentialManagement)).inAnyState().leavesNoTrace(), func(x *trial) error {
		return x.command(ctap.CmdCredentialManagement, meta)
	})
	// 0x41 is a vendor command, and may be another one than the prototype's.
	d.add("pre-cm-on-final", plain.and(credMgmt, lacks(ctap2.OptionCredentialMgmtPreview)).inAnyState(), func(x *trial) error {
		return x.command(ctap.CmdCredentialManagementPreview, meta)
	})

	lists := withPIN.and(has, mcGaWithPIN, room(2))
	d.require("pre-cm-lists", lists, func(x *trial) {
		a, b := x.register(someone("a")), x.create(someone("b"), at("example.org"))
		m := x.preview()
		m.wantCount(2)
		m.wantRPs("example.com", "example.org")
		m.wantCredentials("example.org", b)
		l := m.one("example.com")
		if string(l.User.ID) != "a" || text(l.User.Name) != "a@example.com" || text(l.User.DisplayName) != "The a" {
			x.errorf("user is not as registered")
		}
		if !bytes.Equal(l.id(), a.ID) || l.PublicKey == nil || !bytes.Equal(x.encoded(l.PublicKey), x.encoded(a.PublicKey)) {
			x.errorf("credentialID or publicKey is not as registered")
		}
	})
	d.require("pre-cm-deletes", lists, func(x *trial) {
		a, b := x.create(someone("a")), x.create(someone("b"))
		m := x.preview()
		m.delete(a)
		m.wantCredentials("example.com", b)
		m.wantCount(1)
	})
	d.require("pre-cm-same", lists.and(credMgmt), func(x *trial) {
		x.create(someone("a"))
		x.create(someone("b"), at("example.org"))
		ask := func(command byte, m members) []byte {
			reply, err := x.key.Command(x.ctx, command, x.encoded(m))
			x.must(err)
			return reply
		}
		token := x.pinToken(ctap2.PermissionCredentialManagement, "")
		for _, m := range []members{meta, subcommand(ctap.CredMgmtEnumerateRPsBegin, nil), cmCredsOf("example.com")} {
			signed := cmMeta.sign(m, token)
			if !bytes.Equal(ask(ctap.CmdCredentialManagement, signed), ask(ctap.CmdCredentialManagementPreview, signed)) {
				x.errorf("subCommand %v is answered otherwise than by the final command", m[subCommand])
			}
		}
	})
}
