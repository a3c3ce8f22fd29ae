package ctap2_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// TestStatusTable holds the software authenticator against
// conformance/status-table.md, which was written from the specification. Each row
// has a driver, found by its ID, that brings about the row's condition through
// the client.
func TestStatusTable(t *testing.T) {
	d := drivers{t, map[string]driver{}}
	d.encoding()
	d.makeCredential()
	d.getAssertion()
	d.getNextAssertion()
	d.selectionAndReset()
	d.clientPIN()
	d.tokens()
	d.credentialManagement()
	d.bioEnrollment()
	d.largeBlobs()
	d.config()
	d.extensions()
	d.largeBlob()
	d.enterpriseAttestation()
	d.u2f()

	rows := statusTable(t)
	known := map[string]bool{}
	for _, row := range rows {
		known[row.id] = true
		one, ok := d.of[row.id]
		if !ok {
			t.Errorf("%s: no driver", row.id)
			continue
		}
		t.Run(row.id, func(t *testing.T) { one.judge(t, row) })
	}
	for id := range d.of {
		if !known[id] {
			t.Errorf("%s: no row", id)
		}
	}
}

// A statusRow is a row of conformance/status-table.md.
type statusRow struct{ id, command, condition, status, section string }

// statusTable reads the tables of conformance/status-table.md, one after the other.
func statusTable(t testing.TB) []statusRow {
	t.Helper()
	text, err := os.ReadFile("conformance/status-table.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []statusRow
	ids := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line, isRow := strings.CutPrefix(strings.TrimSpace(line), "| ")
		if !isRow || strings.HasPrefix(line, "ID |") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		if len(cells) != 5 || slices.Contains(cells, "") {
			t.Fatalf("not five cells: %s", line)
		}
		if ids[cells[0]] {
			t.Errorf("%s: two rows", cells[0])
		}
		ids[cells[0]] = true
		rows = append(rows, statusRow{cells[0], cells[1], cells[2], cells[3], cells[4]})
	}
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	return rows
}

// A driver brings about the condition of a row: config builds the key, and run
// does the rest and returns the error of the row's command.
type driver struct {
	config virtual.Config
	run    func(x *trial) error
}

type drivers struct {
	t  *testing.T
	of map[string]driver
}

func (d *drivers) add(id string, config virtual.Config, run func(x *trial) error) {
	if _, twice := d.of[id]; twice {
		d.t.Errorf("%s: two drivers", id)
	}
	d.of[id] = driver{config, run}
}

// judge runs the driver with protocol two and tokens from the PIN and, if it had
// to do with either, with the other as well.
func (d driver) judge(t *testing.T, row statusRow) {
	var asked uses
	if d.config.Level != 0 && d.config.Level < virtual.CTAP21 { // there is nothing else
		d.try(t, row, pin.One, ctap2.PINMethod, &asked)
		return
	}
	d.try(t, row, pin.Two, ctap2.PINMethod, &asked)
	if asked.protocol {
		t.Run("protocol one", func(t *testing.T) { d.try(t, row, pin.One, ctap2.PINMethod, &asked) })
	}
	if asked.method {
		t.Run("built-in UV", func(t *testing.T) { d.try(t, row, pin.Two, ctap2.UVMethod, &asked) })
		t.Run("built-in UV, protocol one", func(t *testing.T) { d.try(t, row, pin.One, ctap2.UVMethod, &asked) })
	}
}

// uses is what a driver had to do with.
type uses struct{ protocol, method bool }

const thePIN = "271828"

func (d driver) try(t *testing.T, row statusRow, protocol pin.Protocol, method ctap2.Method, asked *uses) {
	synctest.Test(t, func(t *testing.T) {
		config := d.config
		if config.Level == 0 || config.Level >= virtual.CTAP21 {
			config.PINProtocols = []pin.Protocol{protocol, pin.One + pin.Two - protocol}
		}
		if method == ctap2.UVMethod {
			config.BuiltInUV = virtual.UVConfigured
		}
		soft, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		key := open(t, soft, ctap2.WithStrictCBOR(), ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString(config.PIN), nil },
		}))
		defer key.Close()
		x := &trial{
			T: t, ctx: t.Context(), key: key, soft: soft,
			prefers: protocol, method: method, asked: asked, held: map[ctap2.Permission]*ctap2.Token{},
		}
		got := statusOf(t, d.run(x))
		if got == "OK" && row.status == "9000" {
			return
		}
		if got != row.status {
			t.Errorf("%s answered %s, want %s (%s): %s", row.command, got, row.status, row.section, row.condition)
		}
	})
}

// statusOf is the name of the status that err comes from, or a status word.
func statusOf(t testing.TB, err error) string {
	t.Helper()
	var status *ctap2.Error
	var word ctap2.U2FStatus
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &status):
		return status.Status.String()
	case errors.As(err, &word):
		return fmt.Sprintf("%04X", uint16(word))
	}
	t.Fatalf("no status: %v", err)
	return ""
}

// A trial is one run of one driver: a key, and what is done with it.
type trial struct {
	*testing.T
	ctx     context.Context
	key     *ctap2.Authenticator
	soft    *virtual.Authenticator
	prefers pin.Protocol
	method  ctap2.Method
	asked   *uses
	held    map[ctap2.Permission]*ctap2.Token // the tokens of hold
}

// protocol is the PIN/UV auth protocol of this run.
func (x *trial) protocol() pin.Protocol {
	x.asked.protocol = true
	return x.prefers
}

// must ends the trial if something that should just work does not.
func (x *trial) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("on the way: %v", err)
	}
}

// raw sends a command with parameters as they are.
func (x *trial) raw(command byte, parameters []byte) error {
	_, err := x.key.Command(x.ctx, command, parameters)
	return err
}

// ask sends a command and returns the members of the answer.
func (x *trial) ask(command byte, parameters members) (members, error) {
	x.Helper()
	reply, err := x.key.Command(x.ctx, command, encoded(x, parameters))
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	var answer members
	x.must(cbor.Unmarshal(reply, &answer))
	return answer, nil
}

func (x *trial) command(command byte, parameters members) error {
	x.Helper()
	_, err := x.ask(command, parameters)
	return err
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// token obtains a pinUvAuthToken the way this run does.
func (x *trial) token(permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.Helper()
	x.asked.method = true
	return x.tokenBy(x.method, permissions, rpID)
}

// hold is token, but for one that this trial has already.
func (x *trial) hold(permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.Helper()
	if x.held[permissions] == nil {
		x.held[permissions] = x.token(permissions, rpID)
	}
	return x.held[permissions]
}

// pinToken obtains one with the PIN, where built-in user verification would
// change what the row is about.
func (x *trial) pinToken(permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.Helper()
	return x.tokenBy(ctap2.PINMethod, permissions, rpID)
}

func (x *trial) tokenBy(method ctap2.Method, permissions ctap2.Permission, rpID string) *ctap2.Token {
	x.Helper()
	x.asked.protocol = true
	token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{Permissions: permissions, RPID: rpID, Method: method})
	x.must(err)
	return token
}

// create registers a credential, with whatever verification the key wants, and
// returns its ID. It is discoverable, unless change says otherwise.
func (x *trial) create(change ...func(*ctap2.MakeCredentialRequest)) []byte {
	x.Helper()
	request := registration()
	request.ResidentKey = true
	for _, f := range change {
		f(request)
	}
	credential, err := x.key.MakeCredential(x.ctx, request)
	x.must(err)
	return credential.ID
}

func notResident(r *ctap2.MakeCredentialRequest) { r.ResidentKey = false }

func protected(policy ctap2.CredProtectPolicy) func(*ctap2.MakeCredentialRequest) {
	return func(r *ctap2.MakeCredentialRequest) { r.Extensions = append(r.Extensions, ctap2.CredProtect(policy)) }
}

// cancel has the platform give up as soon as the key waits for its user.
func (x *trial) cancel() {
	ctx, cancel := context.WithCancel(x.ctx)
	x.ctx = ctx
	x.people(func(ctx context.Context, _ virtual.Prompt) virtual.Answer {
		cancel()
		<-ctx.Done()
		return virtual.Nothing
	})
	x.soft.SetFinger(func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
		cancel()
		<-ctx.Done()
		return virtual.SampleNoUserActivity
	})
}

// people changes who is asked for a touch, and to be verified.
func (x *trial) people(p virtual.Person) {
	x.soft.SetPresence(p)
	x.soft.SetVerification(p)
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

// fields is a map with text keys.
type fields = map[string]any

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
	x.Helper()
	return x.command(ctap.CmdMakeCredential, mcRequest(edits...))
}

func (x *trial) ga(edits ...edit) error {
	x.Helper()
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
	config            virtual.Config
}

var mcGate = gate{
	command: ctap.CmdMakeCredential, param: mcParam, protocol: mcProtocol,
	request:    func(*trial) members { return mcRequest() },
	message:    func(m members) []byte { return m[1].([]byte) },
	permission: ctap2.PermissionMakeCredential, other: ctap2.PermissionGetAssertion, rpID: "example.com",
	config: virtual.Config{PIN: thePIN},
}

// gaGate makes a credential first.
var gaGate = gate{
	command: ctap.CmdGetAssertion, param: gaParam, protocol: gaProtocol,
	request: func(x *trial) members {
		x.create()
		return gaRequest()
	},
	message:    func(m members) []byte { return m[2].([]byte) },
	permission: ctap2.PermissionGetAssertion, other: ctap2.PermissionMakeCredential, rpID: "example.com",
	config: virtual.Config{PIN: thePIN},
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
	x.Helper()
	return x.command(g.command, g.sign(request, x.hold(g.permission, g.rpID)))
}

// good is a good request, with a token of its own.
func (g gate) good(x *trial) members {
	x.Helper()
	request := g.request(x) // before the token, which what it does may replace
	return g.sign(request, x.hold(g.permission, g.rpID))
}

// gated adds the rows that every command with a pinUvAuthParam has.
func (d *drivers) gated(prefix string, g gate) {
	add := func(id string, run func(x *trial) error) { d.add(prefix+"-"+id, g.config, run) }
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
	add := func(id string, run func(x *trial) error) { d.add(prefix+"-"+id, g.config, run) }
	add("protocol-unsupported", func(x *trial) error {
		m := g.good(x)
		m[g.protocol] = 3
		return x.command(g.command, m)
	})
	add("param-wrong", func(x *trial) error {
		m := g.good(x)
		m[g.param].([]byte)[5] ^= 0x10
		return x.command(g.command, m)
	})
	name := "permission"
	if g.command == ctap.CmdMakeCredential || g.command == ctap.CmdGetAssertion {
		name = "param-permission"
	}
	add(name, func(x *trial) error {
		m := g.request(x)
		return x.command(g.command, g.sign(m, x.token(g.other, g.rpID)))
	})
}

// wrongTypes adds a row for each member, by its name: the edit gives it a value
// of a wrong type in a request that proves all the same that the platform has
// the token.
func (d *drivers) wrongTypes(prefix string, g gate, members map[string]edit) {
	for name, spoil := range members {
		d.add(prefix+"-type-"+name, g.config, func(x *trial) error {
			m := g.request(x)
			spoil(m)
			if g.config.PIN != "" {
				m = g.sign(m, x.hold(g.permission, g.rpID))
				spoil(m) // if it is one of those two
			}
			return x.command(g.command, m)
		})
	}
}

// malformed adds the row of parameters that are not CBOR.
func (d *drivers) malformed(prefix string, config virtual.Config, command byte) {
	d.add(prefix+"-malformed", config, func(x *trial) error { return x.raw(command, []byte{0xA1, 0x01, 0x5C}) })
}

// missing adds a row for each member that must be there.
func (d *drivers) missing(prefix string, g gate, members map[string]int) {
	for name, key := range members {
		d.add(prefix+"-missing-"+name, g.config, func(x *trial) error {
			return x.command(g.command, edited(g.request(x), []edit{drop(key)}))
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
