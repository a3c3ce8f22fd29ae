package conformance

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"maps"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
)

// clientDataHash is that of every request.
var clientDataHash = sha256.Sum256([]byte("client data"))

// create registers a credential as register does, and returns its ID.
func (x *trial) create(change ...func(*ctap2.MakeCredentialRequest)) []byte {
	return x.register(change...).ID
}

// register registers a credential, with whatever verification the key wants. It
// is discoverable, unless change says otherwise.
func (x *trial) register(change ...func(*ctap2.MakeCredentialRequest)) *ctap2.Credential {
	credential, err := x.tryRegister(change...)
	x.must(err)
	return credential
}

// tryRegister is register where it may fail.
func (x *trial) tryRegister(change ...func(*ctap2.MakeCredentialRequest)) (*ctap2.Credential, error) {
	request := &ctap2.MakeCredentialRequest{
		ClientDataHash: clientDataHash[:],
		RP:             ctap2.RelyingParty{ID: "example.com", Name: "Example"},
		User:           ctap2.User{ID: []byte{1, 2, 3}, Name: "ada"},
		Algorithms:     []cose.Algorithm{cose.ES256},
		ResidentKey:    true,
	}
	for _, f := range change {
		f(request)
	}
	return x.key.MakeCredential(x.ctx, request)
}

func notResident(r *ctap2.MakeCredentialRequest) { r.ResidentKey = false }

func protected(policy ctap2.CredProtectPolicy) func(*ctap2.MakeCredentialRequest) {
	return withExtension(ctap2.CredProtect(policy))
}

// An edit changes a good request.
type edit func(request members)

func set(key int, value any) edit { return func(m members) { m[key] = value } }

func drop(key int) edit { return func(m members) { delete(m, key) } }

func edited(m members, edits []edit) members {
	for _, e := range edits {
		e(m)
	}
	return m
}

// list is an allowList or excludeList.
func list(ids ...[]byte) []any {
	var l []any
	for _, id := range ids {
		l = append(l, fields{"type": "public-key", "id": id})
	}
	return l
}

// Members of makeCredential and getAssertion, which the drivers change most.
const (
	mcExcludeList, mcExtensions, mcOptions, mcParam, mcProtocol = 5, 6, 7, 8, 9
	gaAllowList, gaExtensions, gaOptions, gaParam, gaProtocol   = 3, 4, 5, 6, 7
)

func mcRequest(edits ...edit) members {
	return edited(members{
		1: clientDataHash[:],
		2: fields{"id": "example.com", "name": "Example"},
		3: fields{"id": []byte{1, 2, 3}, "name": "ada", "displayName": "Ada"},
		4: []any{fields{"type": "public-key", "alg": int(cose.ES256)}},
	}, edits)
}

func gaRequest(edits ...edit) members {
	return edited(members{1: "example.com", 2: clientDataHash[:]}, edits)
}

func (x *trial) mc(edits ...edit) error {
	return x.command(ctap.CmdMakeCredential, mcRequest(edits...))
}

func (x *trial) ga(edits ...edit) error {
	return x.command(ctap.CmdGetAssertion, gaRequest(edits...))
}

// A gate is a command that takes a pinUvAuthParam.
type gate struct {
	command           byte
	param, protocol   int // the members pinUvAuthParam and pinUvAuthProtocol
	request           func(x *trial) members
	message           func(request members) []byte // what pinUvAuthParam is of
	permission, other ctap2.Permission
	rpID              string // that the token is for; empty for none
	setup             setup
}

var mcGate = gate{
	command: ctap.CmdMakeCredential, param: mcParam, protocol: mcProtocol,
	request:    func(*trial) members { return mcRequest() },
	message:    func(m members) []byte { return m[1].([]byte) },
	permission: ctap2.PermissionMakeCredential, other: ctap2.PermissionGetAssertion, rpID: "example.com",
	setup: withPIN.and(mcGaWithPIN).leavesNoTrace(),
}

// gaGate makes a credential first.
var gaGate = gate{
	command: ctap.CmdGetAssertion, param: gaParam, protocol: gaProtocol,
	request:    func(x *trial) members { return gaRequest(set(gaAllowList, list(x.create(notResident)))) },
	message:    func(m members) []byte { return m[2].([]byte) },
	permission: ctap2.PermissionGetAssertion, other: ctap2.PermissionMakeCredential, rpID: "example.com",
	setup: withPIN.and(mcGaWithPIN).leavesNoTrace(),
}

// sign returns a request with what proves that the platform has the token.
func (g gate) sign(request members, token *ctap2.Token) members {
	request = maps.Clone(request)
	request[g.param] = token.Authenticate(g.message(request))
	request[g.protocol] = token.Protocol()
	return request
}

// signed sends a request with a token that it may need.
func (g gate) signed(x *trial, request members) error {
	return x.command(g.command, g.sign(request, x.hold(g.permission, g.rpID)))
}

// good is a good request, with a token of its own.
func (g gate) good(x *trial) members {
	request := g.request(x) // before the token, which what it does may replace
	return g.sign(request, x.hold(g.permission, g.rpID))
}

// gated adds the rows that every command with a pinUvAuthParam has.
func (d *drivers) gated(prefix string, g gate) {
	add := func(id string, run func(x *trial) error) { d.add(prefix+"-"+id, g.setup, run) }
	add("no-param", func(x *trial) error { return x.command(g.command, g.request(x)) })
	add("no-protocol", func(x *trial) error {
		m := g.good(x)
		delete(m, g.protocol)
		return x.command(g.command, m)
	})
	d.paramRows(prefix, g)
	add("good", func(x *trial) error { return x.command(g.command, g.good(x)) })
}

// paramRows adds the rows of gated that makeCredential and getAssertion share.
func (d *drivers) paramRows(prefix string, g gate) {
	name, s := "permission", g.setup
	if g.command == ctap.CmdMakeCredential || g.command == ctap.CmdGetAssertion {
		// CTAP 2.0, too, has these commands and a pinAuth, and neither this
		// status nor permissions.
		name, s = "param-permission", s.and(from21)
	}
	d.add(prefix+"-protocol-unsupported", s, func(x *trial) error {
		m := g.good(x)
		m[g.protocol] = 3
		return x.command(g.command, m)
	})
	d.add(prefix+"-param-wrong", g.setup, func(x *trial) error {
		m := g.good(x)
		return forged(m[g.param].([]byte), func() error { return x.command(g.command, m) })
	})
	d.add(prefix+"-"+name, s.and(permissions), func(x *trial) error {
		m := g.request(x)
		return x.command(g.command, g.sign(m, x.tokenWithout(g)))
	})
}

// forged tries a pinUvAuthParam that is wrong in one bit, early on and in its last
// byte: some compare no more of it than protocol one has. It returns the first
// answer that is not that.
func forged(param []byte, try func() error) error {
	var err error
	for _, at := range []int{5, len(param) - 1} {
		param[at] ^= 0x10
		if err = try(); !errors.Is(err, ctap2.ErrPINAuthInvalid) {
			return err
		}
		param[at] ^= 0x10
	}
	return err
}

// tokenWithout is a token that lacks the permission of a gate: it has the other
// one, or ga where the authenticator does not know that.
func (x *trial) tokenWithout(g gate) *ctap2.Token {
	knows := map[ctap2.Permission]condition{
		ctap2.PermissionCredentialManagement: credMgmt,
		ctap2.PermissionLargeBlobWrite:       largeBlobs,
	}
	if known, ok := knows[g.other]; ok && !known.holds(x.info) {
		return x.token(ctap2.PermissionGetAssertion, "example.com")
	}
	return x.token(g.other, g.rpID)
}

// wrongTypes adds a row for each member, by its name: the edit gives it a value
// of a wrong type in a request that proves all the same that the platform has
// the token.
func (d *drivers) wrongTypes(prefix string, g gate, members map[string]edit) {
	for name, spoil := range members {
		d.add(prefix+"-type-"+name, g.setup, func(x *trial) error {
			m := g.request(x)
			spoil(m)
			if g.setup.state.pin {
				m = g.sign(m, x.hold(g.permission, g.rpID))
				spoil(m) // if it is one of those two
			}
			return x.command(g.command, m)
		})
	}
}

// malformed adds the row of parameters that are not CBOR.
func (d *drivers) malformed(prefix string, s setup, command byte) {
	d.add(prefix+"-malformed", s, func(x *trial) error { return x.raw(command, []byte{0xA1, 0x01, 0x5C}) })
}

// missing adds a row for each member that must be there.
func (d *drivers) missing(prefix string, g gate, members map[string]int) {
	for name, key := range members {
		d.add(prefix+"-missing-"+name, g.setup, func(x *trial) error {
			return x.command(g.command, edited(g.request(x), []edit{drop(key)}))
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
