package virtual

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

const (
	permCM   = ctap.PermissionCredentialManagement
	permPCMR = ctap.PermissionPersistentCredentialMgmtRO

	getMetadata     = ctap.CredMgmtGetCredsMetadata
	rpsBegin        = ctap.CredMgmtEnumerateRPsBegin
	rpsNext         = ctap.CredMgmtEnumerateRPsGetNextRP
	credsBegin      = ctap.CredMgmtEnumerateCredentialsBegin
	credsNext       = ctap.CredMgmtEnumerateCredentialsGetNext
	deleteCred      = ctap.CredMgmtDeleteCredential
	updateUser      = ctap.CredMgmtUpdateUserInformation
	otherRPID       = "example.net"
	unknownProtocol = 9
)

// manager is a platform with a token for credentialManagement, or for what was
// before it.
type manager struct {
	*platform
	command  byte
	protocol pin.Protocol
	token    pin.Secret
}

func (p *platform) manager(protocol pin.Protocol, permissions uint64, rpID string) manager {
	p.Helper()
	return manager{p, ctap.CmdCredentialManagement, protocol, p.token(protocol, permissions, rpID)}
}

// request is a subcommand with parameters, nil for none, changed by each of
// changes.
func (m manager) request(sub int, parameters any, changes ...params) params {
	m.Helper()
	r := params{1: sub, 3: m.protocol}
	msg := []byte{byte(sub)}
	if parameters != nil {
		encoded, err := cbor.Marshal(parameters)
		if err != nil {
			m.Fatal(err)
		}
		r[2] = cbor.RawMessage(encoded)
		msg = append(msg, encoded...)
	}
	r[4] = m.protocol.Authenticate(m.token, msg)
	return merge(r, changes)
}

func (m manager) do(sub int, parameters any) members {
	m.Helper()
	return m.ok(m.command, m.request(sub, parameters))
}

func (m manager) next(sub int) members {
	m.Helper()
	return m.ok(m.command, params{1: sub})
}

func (m manager) fails(want byte, sub int, parameters any, changes ...params) {
	m.Helper()
	m.refused(want, m.command, m.request(sub, parameters, changes...))
}

func rpIDHash(id string) params {
	hash := sha256.Sum256([]byte(id))
	return params{1: hash[:]}
}

func credentialID(id []byte) params { return params{2: descriptor(id)} }

func withUser(id []byte, user names) params { return params{2: descriptor(id), 3: user} }

// listed is an entry of an enumeration of credentials.
type listed struct {
	user names
	id   []byte
	members
}

// credentials enumerates those of a relying party.
func (m manager) credentials(rpID string) []listed {
	m.Helper()
	entry := func(answer members) listed {
		d := value[names](m, answer, managedCredentialID)
		if d["type"] != "public-key" || len(d) != 2 {
			m.Errorf("descriptor %v", d)
		}
		return listed{value[names](m, answer, managedUser), d["id"].([]byte), answer}
	}
	answer := m.do(credsBegin, rpIDHash(rpID))
	all := []listed{entry(answer)}
	for range value[int](m, answer, managedTotalCredentials) - 1 {
		answer := m.next(credsNext)
		if answer[managedTotalCredentials] != nil {
			m.Error("totalCredentials after the first")
		}
		all = append(all, entry(answer))
	}
	m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
	return all
}

// relyingParties enumerates them, by ID, with their names.
func (m manager) relyingParties() map[string]any {
	m.Helper()
	all := make(map[string]any)
	entry := func(answer members) {
		rp := value[names](m, answer, managedRP)
		hash := sha256.Sum256([]byte(rp["id"].(string)))
		if got := value[[]byte](m, answer, managedRPIDHash); !bytes.Equal(got, hash[:]) {
			m.Errorf("relying party %v with hash %x", rp, got)
		}
		all[rp["id"].(string)] = rp["name"]
	}
	answer := m.do(rpsBegin, nil)
	n := value[int](m, answer, managedTotalRPs)
	entry(answer)
	for range n - 1 {
		answer := m.next(rpsNext)
		if answer[managedTotalRPs] != nil {
			m.Error("totalRPs after the first")
		}
		entry(answer)
	}
	m.refused(ctap.StatusNotAllowed, m.command, params{1: rpsNext})
	if len(all) != n {
		m.Errorf("%d relying parties of %d", len(all), n)
	}
	return all
}

func (m manager) metadata() [2]int {
	m.Helper()
	answer := m.do(getMetadata, nil)
	return [2]int{value[int](m, answer, managedExisting), value[int](m, answer, managedRemaining)}
}

// stocked is a key with discoverable credentials of two accounts of testRPID,
// and one of otherRPID, and one that is not discoverable. Its PIN is testPIN.
func stocked(t testing.TB, cfg Config) (key *platform, ada, bob authData) {
	t.Helper()
	key = newKey(t, cfg)
	rk := residentKey()
	if cfg.BuiltInUV == UVConfigured {
		rk = params{7: names{"rk": true, "uv": true}}
	}
	ada = key.make(rk)
	key.ok(ctap.CmdMakeCredential, makeRequest(rk, params{2: names{"id": otherRPID}}))
	bob = key.make(rk, account("bob", "bob@example.com"), params{2: names{"id": testRPID, "name": "Example Inc."}})
	key.make(account("eve", "eve@example.com"))
	p := key.cfg.PINProtocols[0]
	key.ok(ctap.CmdClientPIN, key.setPINRequest(p, padded(testPIN)))
	return key, ada, bob
}

func TestCredentialManagement(t *testing.T) {
	for _, protocol := range bothProtocols {
		for _, command := range []byte{ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview} {
			t.Run(fmt.Sprintf("%v, %#02x", protocol, command), func(t *testing.T) {
				key, ada, bob := stocked(t, Config{CredentialManagementPreview: true})
				m := key.manager(protocol, permCM, "")
				m.command = command
				if got := m.metadata(); got != [2]int{3, 22} {
					t.Errorf("metadata %v", got)
				}
				if got := m.relyingParties(); !maps.Equal(got, map[string]any{testRPID: "Example Inc.", otherRPID: nil}) {
					t.Errorf("relying parties %v", got)
				}
				all := m.credentials(testRPID)
				if len(all) != 2 || !bytes.Equal(all[0].id, ada.id) || !bytes.Equal(all[1].id, bob.id) {
					t.Fatalf("credentials %v", all)
				}
				if u := all[0].user; !bytes.Equal(u["id"].([]byte), []byte("ada")) || u["name"] != "ada@example.com" || u["displayName"] != "Ada" {
					t.Errorf("user %v", u)
				}
				if u := all[1].user; u["name"] != "bob@example.com" || len(u) != 2 {
					t.Errorf("user %v", u)
				}
				if len(m.credentials(otherRPID)) != 1 {
					t.Error("not one credential of the other relying party")
				}

				m.do(deleteCred, credentialID(ada.id))
				if all := m.credentials(testRPID); len(all) != 1 || !bytes.Equal(all[0].id, bob.id) {
					t.Errorf("credentials %v", all)
				}
				if got := m.metadata(); got != [2]int{2, 23} {
					t.Errorf("metadata %v", got)
				}
				m.fails(ctap.StatusNoCredentials, deleteCred, credentialID(ada.id))
				key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(ada.id)))
				key.assert(bob)
			})
		}
	}
}

// What is listed of a credential is what it was made with.
func TestListedCredential(t *testing.T) {
	key := newKey(t, Config{Algorithms: []cose.Algorithm{cose.ES256, cose.EdDSA, cose.RS256}})
	made := make(map[string]authData)
	largeBlobKeys := make(map[string][]byte)
	for _, test := range []struct {
		user       string
		alg        int
		extensions names
	}{
		{"plain", -7, names{}},
		{"guarded", -8, names{"credProtect": 3}},
		{"payer", -257, names{"credProtect": 2, "thirdPartyPayment": true}},
		{"blob", -7, names{"largeBlobKey": true}},
	} {
		answer := key.ok(ctap.CmdMakeCredential, makeRequest(residentKey(), account(test.user, test.user),
			params{4: []names{{"alg": test.alg, "type": "public-key"}}, 6: test.extensions}))
		made[test.user] = key.parseAuthData(answer)
		if answer[credentialLargeBlobKey] != nil {
			largeBlobKeys[test.user] = value[[]byte](t, answer, credentialLargeBlobKey)
		}
	}
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	for _, c := range key.manager(pin.Two, permCM, "").credentials(testRPID) {
		user := c.user["name"].(string)
		cred := made[user]
		publicKey, err := cred.key.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.id, cred.id) || !bytes.Equal(c.members[managedPublicKey], publicKey) {
			t.Errorf("%s: another credential", user)
		}
		want := map[string]int{"plain": 1, "guarded": 3, "payer": 2, "blob": 1}[user]
		if got := value[int](t, c.members, managedCredProtect); got != want {
			t.Errorf("%s: credProtect %d", user, got)
		}
		if got := value[bool](t, c.members, managedThirdPartyPayment); got != (user == "payer") {
			t.Errorf("%s: thirdPartyPayment %v", user, got)
		}
		if blobKey, ok := largeBlobKeys[user]; ok != (user == "blob") || ok != (c.members[managedLargeBlobKey] != nil) ||
			ok && !bytes.Equal(blobKey, value[[]byte](t, c.members, managedLargeBlobKey)) {
			t.Errorf("%s: largeBlobKey %x", user, c.members[managedLargeBlobKey])
		}
	}

	// A key without extensions has nothing to say about them.
	key, _, _ = stocked(t, Config{Extensions: []string{}})
	for _, c := range key.manager(pin.Two, permCM, "").credentials(testRPID) {
		if got := slices.Sorted(maps.Keys(c.members)); !slices.Equal(got[:3], []uint64{managedUser, managedCredentialID, managedPublicKey}) ||
			got[len(got)-1] > managedTotalCredentials {
			t.Errorf("members %v", got)
		}
	}
}

func TestUpdateUserInformation(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key, ada, bob := stocked(t, Config{})
			m := key.manager(protocol, permCM, "")
			id := []byte("ada")
			for _, test := range []struct{ user, want names }{
				{names{"id": id, "name": "lovelace@example.com", "displayName": "A. Lovelace"}, names{"name": "lovelace@example.com", "displayName": "A. Lovelace"}},
				{names{"id": id, "name": "ada", "displayName": ""}, names{"name": "ada"}},
				{names{"id": id, "displayName": "Ada"}, names{"displayName": "Ada"}},
				{names{"id": id, "name": "", "displayName": ""}, names{}},
				{names{"id": id, "name": strings.Repeat("é", 40)}, names{"name": strings.Repeat("é", 32)}},
				{names{"id": id}, names{}},
				{names{"id": id, "name": "ada", "icon": "?"}, names{"name": "ada"}},
			} {
				m.do(updateUser, withUser(ada.id, test.user))
				all := m.credentials(testRPID)
				got := all[0].user
				if !bytes.Equal(got["id"].([]byte), id) {
					t.Errorf("%v: ID %v", test.user, got)
				}
				delete(got, "id")
				if !maps.Equal(got, test.want) || all[1].user["name"] != "bob@example.com" {
					t.Errorf("%v: users %v and %v", test.user, got, all[1].user)
				}
			}
			m.fails(ctap.StatusInvalidParameter, updateUser, withUser(ada.id, names{"id": []byte("bob"), "name": "ada"}))
			m.fails(ctap.StatusInvalidParameter, updateUser, withUser(ada.id, names{"id": []byte{}, "name": "ada"}))
			m.fails(ctap.StatusNoCredentials, updateUser, withUser([]byte{1}, names{"id": id}))

			// It is the credential that it was, and still older than the other.
			token := key.token(protocol, permGA, testRPID)
			_, answer := key.assert(bob, withToken(ctap.CmdGetAssertion, protocol, token))
			if value[int](t, answer, assertionNumberOfCredentials) != 2 {
				t.Error("not two accounts")
			}
			answer = key.ok(ctap.CmdGetNextAssertion, nil)
			key.checkAssertion(ada, answer)
			if user := value[names](t, answer, assertionUser); user["name"] != "ada" {
				t.Errorf("user %v", user)
			}
		})
	}
}

func TestCredentialManagementRefused(t *testing.T) {
	for _, protocol := range bothProtocols {
		key, ada, _ := stocked(t, Config{})
		m := key.manager(protocol, permCM, "")
		hash, id, user := rpIDHash(testRPID), credentialID(ada.id), withUser(ada.id, names{"id": []byte("ada")})
		no := func(member uint64) params { return params{member: nil} }
		for _, test := range []struct {
			name    string
			want    byte
			sub     int
			params  any
			changes []params
		}{
			{"no subCommand", ctap.StatusMissingParameter, getMetadata, nil, []params{no(1)}},
			{"subCommand of text", ctap.StatusCBORUnexpectedType, getMetadata, nil, []params{{1: "1"}}},
			{"subCommand 0", ctap.StatusInvalidSubcommand, 0, nil, nil},
			{"subCommand 8", ctap.StatusInvalidSubcommand, 8, nil, []params{no(4)}},
			{"params of bytes", ctap.StatusCBORUnexpectedType, deleteCred, []byte{1}, nil},
			{"protocol of bytes", ctap.StatusCBORUnexpectedType, getMetadata, nil, []params{{3: []byte{1}}}},
			{"param of text", ctap.StatusCBORUnexpectedType, getMetadata, nil, []params{{4: "?"}}},
			{"rpIDHash of text", ctap.StatusCBORUnexpectedType, credsBegin, params{1: "?"}, nil},
			{"descriptor of bytes", ctap.StatusCBORUnexpectedType, deleteCred, params{2: ada.id}, nil},
			{"name of bytes", ctap.StatusCBORUnexpectedType, updateUser, withUser(ada.id, names{"id": []byte("ada"), "name": []byte("a")}), nil},

			{"metadata, no param", ctap.StatusPUATRequired, getMetadata, nil, []params{no(4), no(3)}},
			{"RPs, no param", ctap.StatusPUATRequired, rpsBegin, nil, []params{no(4)}},
			{"credentials, no param", ctap.StatusPUATRequired, credsBegin, nil, []params{no(4), no(3)}},
			{"delete, no param", ctap.StatusPUATRequired, deleteCred, id, []params{no(4), {3: unknownProtocol}}},
			{"update, no param", ctap.StatusPUATRequired, updateUser, user, []params{no(4)}},

			{"metadata, no protocol", ctap.StatusMissingParameter, getMetadata, nil, []params{no(3)}},
			{"RPs, no protocol", ctap.StatusMissingParameter, rpsBegin, nil, []params{no(3)}},
			{"credentials, no protocol", ctap.StatusMissingParameter, credsBegin, hash, []params{no(3)}},
			{"delete, no protocol", ctap.StatusMissingParameter, deleteCred, id, []params{no(3)}},
			{"update, no protocol", ctap.StatusMissingParameter, updateUser, user, []params{no(3)}},
			{"credentials, no params", ctap.StatusMissingParameter, credsBegin, nil, []params{{3: unknownProtocol}}},
			{"credentials, no rpIDHash", ctap.StatusMissingParameter, credsBegin, id, nil},
			{"delete, no params", ctap.StatusMissingParameter, deleteCred, nil, nil},
			{"delete, no credentialID", ctap.StatusMissingParameter, deleteCred, hash, nil},
			{"delete, no type", ctap.StatusMissingParameter, deleteCred, params{2: names{"id": ada.id}}, nil},
			{"delete, no id", ctap.StatusMissingParameter, deleteCred, params{2: names{"type": "public-key"}}, nil},
			{"delete, no id of another type", ctap.StatusMissingParameter, deleteCred, params{2: names{"type": "private-key"}}, nil},
			{"update, no params", ctap.StatusMissingParameter, updateUser, nil, nil},
			{"update, no user", ctap.StatusMissingParameter, updateUser, id, nil},
			{"update, no user ID", ctap.StatusMissingParameter, updateUser, withUser(ada.id, names{"name": "ada"}), nil},
			{"update, no credentialID", ctap.StatusMissingParameter, updateUser, params{3: names{"id": []byte("ada")}}, nil},

			{"metadata, unknown protocol", ctap.StatusInvalidParameter, getMetadata, nil, []params{{3: unknownProtocol}}},
			{"RPs, unknown protocol", ctap.StatusInvalidParameter, rpsBegin, nil, []params{{3: 0}}},
			{"credentials, unknown protocol", ctap.StatusInvalidParameter, credsBegin, hash, []params{{3: unknownProtocol}}},
			{"delete, unknown protocol", ctap.StatusInvalidParameter, deleteCred, id, []params{{3: unknownProtocol}}},
			{"update, unknown protocol", ctap.StatusInvalidParameter, updateUser, user, []params{{3: unknownProtocol}}},

			{"metadata, other protocol", ctap.StatusPINAuthInvalid, getMetadata, nil, []params{{3: 3 - protocol}}},
			{"metadata, empty param", ctap.StatusPINAuthInvalid, getMetadata, nil, []params{{4: []byte{}}}},
			{"metadata, another subcommand's", ctap.StatusPINAuthInvalid, rpsBegin, nil, []params{{1: getMetadata}}},
			{"credentials, another hash", ctap.StatusPINAuthInvalid, credsBegin, rpIDHash(otherRPID), []params{{2: hash}}},
			{"credentials, param of the subcommand alone", ctap.StatusPINAuthInvalid, credsBegin, nil, []params{{2: hash}}},
			{"delete, another credential", ctap.StatusPINAuthInvalid, deleteCred, credentialID([]byte{1}), []params{{2: id}}},
			{"update, another name", ctap.StatusPINAuthInvalid, updateUser, user, []params{{2: withUser(ada.id, names{"id": []byte("ada"), "name": "eve"})}}},

			{"credentials of nobody", ctap.StatusNoCredentials, credsBegin, rpIDHash("example.org"), nil},
			{"credentials, short hash", ctap.StatusNoCredentials, credsBegin, params{1: []byte{1}}, nil},
			{"delete of another type", ctap.StatusNoCredentials, deleteCred, params{2: names{"id": ada.id, "type": "private-key"}}, nil},
			{"delete of nothing", ctap.StatusNoCredentials, deleteCred, credentialID([]byte{}), nil},
		} {
			t.Run(protocol.String()+", "+test.name, func(t *testing.T) {
				m := m
				m.platform = &platform{t, key.Authenticator}
				m.fails(test.want, test.sub, test.params, test.changes...)
			})
		}
		// None of it did anything.
		if len(m.credentials(testRPID)) != 2 {
			t.Error("not two credentials")
		}
	}
}

// pinUvAuthParam covers subCommandParams as they were sent, with what a key does
// not know of, and not at all where a subcommand has none.
func TestCredentialManagementParamCoverage(t *testing.T) {
	for _, protocol := range bothProtocols {
		key, ada, _ := stocked(t, Config{})
		m := key.manager(protocol, permCM, "")
		unknown := params{0x17: "?", 2: names{"id": ada.id, "type": "public-key", "transports": []string{"usb"}, "zone": 1}}
		for _, sub := range []int{getMetadata, rpsBegin} {
			m.ok(m.command, m.request(sub, nil, params{2: unknown}))
			m.fails(ctap.StatusPINAuthInvalid, sub, unknown)
		}
		m.fails(ctap.StatusPINAuthInvalid, deleteCred, unknown, params{2: credentialID(ada.id)})
		m.do(deleteCred, unknown)
	}
}

// A token needs the permission cm, and one that is for a relying party is good
// for its credentials alone.
func TestCredentialManagementPermissions(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key, ada, bob := stocked(t, Config{})
			other := key.manager(protocol, permCM, "").credentials(otherRPID)[0].id
			user := names{"id": []byte("ada"), "name": "Ada"}
			for _, m := range []manager{
				key.manager(protocol, permMC|permGA, testRPID),
				key.manager(protocol, 0, ""), // of getPinToken
			} {
				m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
				m.fails(ctap.StatusPINAuthInvalid, rpsBegin, nil)
				m.fails(ctap.StatusPINAuthInvalid, credsBegin, rpIDHash(testRPID))
				m.fails(ctap.StatusPINAuthInvalid, deleteCred, credentialID(ada.id))
				m.fails(ctap.StatusPINAuthInvalid, updateUser, withUser(ada.id, user))
			}

			m := key.manager(protocol, permCM|permGA, testRPID)
			m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
			m.fails(ctap.StatusPINAuthInvalid, rpsBegin, nil)
			m.fails(ctap.StatusPINAuthInvalid, credsBegin, rpIDHash(otherRPID))
			m.fails(ctap.StatusPINAuthInvalid, deleteCred, credentialID(other))
			m.fails(ctap.StatusPINAuthInvalid, updateUser, withUser(other, user))
			m.fails(ctap.StatusNoCredentials, deleteCred, credentialID([]byte{1}))
			if len(m.credentials(testRPID)) != 2 {
				t.Error("not two credentials")
			}
			m.do(updateUser, withUser(ada.id, user))
			m.do(deleteCred, credentialID(bob.id))
			// An assertion with a touch takes cm with the rest.
			key.assert(ada, withToken(ctap.CmdGetAssertion, protocol, m.token))
			m.fails(ctap.StatusPINAuthInvalid, credsBegin, rpIDHash(testRPID))

			// One that is for no relying party stays so.
			m = key.manager(protocol, permCM, "")
			m.credentials(testRPID)
			m.credentials(otherRPID)
			m.relyingParties()
			key.PowerCycle()
			m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
		})
	}
}

// Nothing may come between an entry and the next (quirk 41).
func TestEnumerationInterleaved(t *testing.T) {
	key, ada, _ := stocked(t, Config{CredentialManagementPreview: true})
	m := key.manager(pin.Two, permCM, "")
	key.refused(ctap.StatusNotAllowed, m.command, params{1: rpsNext})
	key.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
	for name, interleave := range map[string]func(){
		"getInfo":           func() { key.ok(ctap.CmdGetInfo, nil) },
		"getNextAssertion":  func() { key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil) },
		"unknown command":   func() { key.refused(ctap.StatusInvalidCommand, 0x03, nil) },
		"metadata":          func() { m.metadata() },
		"refused":           func() { m.fails(ctap.StatusPUATRequired, getMetadata, nil, params{4: nil}) },
		"malformed":         func() { key.refused(ctap.StatusCBORUnexpectedType, m.command, 1) },
		"unknown":           func() { key.refused(ctap.StatusInvalidSubcommand, m.command, params{1: 9}) },
		"the other command": func() { key.refused(ctap.StatusNotAllowed, ctap.CmdCredentialManagementPreview, params{1: rpsNext}) },
		"the other next":    func() { key.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext}) },
		"update":            func() { m.do(updateUser, withUser(ada.id, names{"id": []byte("ada")})) },
		"too long":          func() { key.refused(ctap.StatusRequestTooLarge, m.command, params{1: rpsNext, 5: make([]byte, 7609)}) },
		"deselection": func() {
			if err := key.deselect(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"power": func() { key.PowerCycle(); m.token = key.token(pin.Two, permCM, "") },
	} {
		t.Run(name, func(t *testing.T) {
			m.token = key.token(pin.Two, permCM, "")
			m.do(rpsBegin, nil)
			interleave()
			key.refused(ctap.StatusNotAllowed, m.command, params{1: rpsNext})
		})
	}

	// An enumeration ends assertions, too.
	token := key.token(pin.Two, permGA, testRPID)
	key.ok(ctap.CmdGetAssertion, assertRequest(withToken(ctap.CmdGetAssertion, pin.Two, token), params{5: names{"up": false}}))
	key.refused(ctap.StatusNotAllowed, m.command, params{1: rpsNext})
	key.refused(ctap.StatusNotAllowed, ctap.CmdGetNextAssertion, nil)

	// A new one takes the place of the old.
	m.token = key.token(pin.Two, permCM, "")
	m.do(rpsBegin, nil)
	m.do(credsBegin, rpIDHash(testRPID))
	m.next(credsNext)
	// The parameters of next are nobody's business.
	m.do(rpsBegin, nil)
	m.ok(m.command, params{1: rpsNext, 2: params{1: []byte{}}, 3: unknownProtocol, 4: []byte{}})
}

func TestEnumerationTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _, _ := stocked(t, Config{})
		m := key.manager(pin.Two, permCM, "")
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(listingTimeout)
		m.next(credsNext)
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(listingTimeout + 1)
		m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
		m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})

		// State does not outlive its token.
		m = key.manager(pin.Two, permCM, "")
		m.metadata()
		time.Sleep(maxUsageTimePeriod - time.Second)
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(time.Second)
		m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
	})
}

// An empty store (quirk 41).
func TestEnumerationOfNothing(t *testing.T) {
	for _, protocol := range bothProtocols {
		key := newKey(t, Config{PIN: testPIN})
		key.make() // not discoverable
		m := key.manager(protocol, permCM, "")
		if got := m.metadata(); got != [2]int{0, 25} {
			t.Errorf("metadata %v", got)
		}
		m.fails(ctap.StatusNoCredentials, rpsBegin, nil)
		m.fails(ctap.StatusNoCredentials, credsBegin, rpIDHash(testRPID))

		key = newKey(t, Config{PIN: testPIN, Faults: ZeroTotals})
		m = key.manager(protocol, permCM, "")
		if n := value[int](t, m.do(rpsBegin, nil), managedTotalRPs); n != 0 {
			t.Errorf("%d relying parties", n)
		}
		m.refused(ctap.StatusNotAllowed, m.command, params{1: rpsNext})
		if n := value[int](t, m.do(credsBegin, rpIDHash(testRPID)), managedTotalCredentials); n != 0 {
			t.Errorf("%d credentials", n)
		}
		m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
	}
}

// Deleting makes room.
func TestDeleteCredentialFreesStorage(t *testing.T) {
	key := newKey(t, Config{Credentials: 2, PIN: testPIN, Algorithms: []cose.Algorithm{cose.ES256, cose.RS256}})
	rsa := params{4: []names{{"alg": -257, "type": "public-key"}}}
	byRSA := key.make(rsa) // takes up room, and is nevertheless not discoverable
	make := func(want byte, id string) {
		t.Helper()
		token := key.token(pin.Two, permMC, testRPID)
		key.refused(want, ctap.CmdMakeCredential, makeRequest(residentKey(), account(id, id), withToken(ctap.CmdMakeCredential, pin.Two, token)))
	}
	make(ctap.StatusOK, "a")
	make(ctap.StatusKeyStoreFull, "b")
	m := key.manager(pin.Two, permCM, "")
	if got := m.metadata(); got != [2]int{1, 0} {
		t.Errorf("metadata %v", got)
	}
	m.fails(ctap.StatusNoCredentials, deleteCred, credentialID(byRSA.id))
	m.fails(ctap.StatusNoCredentials, updateUser, withUser(byRSA.id, names{"id": []byte("ada")}))
	m.do(deleteCred, credentialID(m.credentials(testRPID)[0].id))
	if got := m.metadata(); got != [2]int{0, 1} {
		t.Errorf("metadata %v", got)
	}
	if n := value[int](t, key.ok(ctap.CmdGetInfo, nil), infoRemainingDiscoverableCredentials); n != 1 {
		t.Errorf("getInfo has room for %d", n)
	}
	make(ctap.StatusOK, "b")
}

// What is deleted and renamed is so in the next process too, and what cannot be
// written down does not happen.
func TestCredentialManagementPersistence(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
	stock := cfg
	stock.PIN = ""
	key, ada, bob := stocked(t, stock)
	m := key.manager(pin.Two, permCM, "")
	m.do(deleteCred, credentialID(bob.id))
	m.do(updateUser, withUser(ada.id, names{"id": []byte("ada"), "name": "countess"}))
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	m = key.manager(pin.Two, permCM, "")
	all := m.credentials(testRPID)
	if len(all) != 1 || !bytes.Equal(all[0].id, ada.id) || all[0].user["name"] != "countess" || len(all[0].user) != 2 {
		t.Errorf("credentials %v", all)
	}

	// No room in the file.
	size := key.state.journal.size
	key.state.journal.size = maxJournal
	m.fails(ctap.StatusKeyStoreFull, updateUser, withUser(ada.id, names{"id": []byte("ada"), "name": "lady"}))
	key.state.journal.size = size
	if all := m.credentials(testRPID); all[0].user["name"] != "countess" {
		t.Errorf("credentials %v", all)
	}
	m.do(updateUser, withUser(ada.id, names{"id": []byte("ada"), "name": "lady"}))
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}

	broken, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key = &platform{t, broken}
	m = key.manager(pin.Two, permCM, "")
	if err := broken.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	m.fails(ctap.StatusOther, deleteCred, credentialID(ada.id))
	m.fails(ctap.StatusOther, updateUser, withUser(ada.id, names{"id": []byte("ada")}))
	if all := m.credentials(testRPID); len(all) != 1 || all[0].user["name"] != "lady" {
		t.Errorf("credentials %v", all)
	}
	if broken.Close() == nil {
		t.Error("Close does not say what happened")
	}
}

// The work of an entry does not grow with the number of those that there are.
func TestThousandCredentials(t *testing.T) {
	const parties, each = 100, 10
	key := newKey(t, Config{Credentials: parties * each, Algorithms: []cose.Algorithm{cose.EdDSA}, Attestation: AttestationNone})
	for i := range parties * each {
		rp, user := fmt.Sprintf("%d.example", i%parties), fmt.Sprint(i)
		key.ok(ctap.CmdMakeCredential, makeRequest(residentKey(), account(user, user),
			params{2: names{"id": rp}, 4: []names{{"alg": -8, "type": "public-key"}}}))
	}
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(residentKey(), params{4: []names{{"alg": -8, "type": "public-key"}}}))
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	m := key.manager(pin.Two, permCM, "")
	if got := m.metadata(); got != [2]int{parties * each, 0} {
		t.Errorf("metadata %v", got)
	}
	seen := make(map[string]bool)
	for rp := range m.relyingParties() {
		for _, c := range m.credentials(rp) {
			seen[c.user["name"].(string)] = true
		}
	}
	if len(seen) != parties*each {
		t.Errorf("%d accounts", len(seen))
	}

	perEntry := func(list []*credential) float64 {
		return testing.AllocsPerRun(100, func() {
			l := &listing{next: rpsNext, credentials: list, last: time.Now()}
			if _, err := key.nextListed(&operation{}, rpsNext, l); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := perEntry(key.stored()[:2]), perEntry(key.stored()); few != many {
		t.Errorf("%v allocations with 2, %v with %d", few, many, parties*each)
	}
}

func TestCredentialManagementOptions(t *testing.T) {
	for name, test := range map[string]struct {
		cfg                  Config
		cm, preview, perCMRO bool
	}{
		"zero":                        {Config{}, true, false, true},
		"preview too":                 {Config{CredentialManagementPreview: true}, true, true, true},
		"not persistent":              {Config{NoPersistentCredMgmtRO: true}, true, false, false},
		"taken away":                  {Config{NoCredentialManagement: true, CredentialManagementPreview: true}, false, false, false},
		"nothing to manage":           {Config{NoResidentKeys: true, CredentialManagementPreview: true}, false, false, false},
		"getPinToken alone":           {Config{NoPINUVAuthToken: true, CredentialManagementPreview: true}, false, false, false},
		"no user verification":        {Config{NoClientPIN: true, CredentialManagementPreview: true}, false, false, false},
		"built-in UV alone":           {Config{NoClientPIN: true, BuiltInUV: UVConfigured}, true, false, true},
		"CTAP 2.1":                    {Config{Level: CTAP21}, true, false, false},
		"CTAP 2.1, preview too":       {Config{Level: CTAP21, CredentialManagementPreview: true}, true, true, false},
		"before CTAP 2.1":             {Config{Level: CTAP21PRE}, false, true, false},
		"before CTAP 2.1, no PIN":     {Config{Level: CTAP21PRE, NoClientPIN: true}, false, false, false},
		"before CTAP 2.1, taken away": {Config{Level: CTAP21PRE, NoCredentialManagement: true}, false, false, false},
		"CTAP 2.0":                    {Config{Level: CTAP20}, false, false, false},
	} {
		key := newKey(t, test.cfg)
		o := key.options()
		if o["credMgmt"] != test.cm || o["credentialMgmtPreview"] != test.preview || o["perCredMgmtRO"] != test.perCMRO {
			t.Errorf("%s: options %v", name, o)
		}
		for command, has := range map[byte]bool{ctap.CmdCredentialManagement: test.cm, ctap.CmdCredentialManagementPreview: test.preview} {
			want := byte(ctap.StatusInvalidCommand)
			if has {
				want = ctap.StatusPUATRequired
			}
			key.refused(want, command, params{1: getMetadata})
		}
	}
	if a, err := New(Config{Level: CTAP20, CredentialManagementPreview: true}); err == nil {
		a.Close()
		t.Error("the prototype at CTAP 2.0")
	}
}

// Before CTAP 2.1 there were no permissions: the token of getPinToken was good
// for the prototype, which cannot rename but on keys that have the successor.
func TestCredentialManagementPreview(t *testing.T) {
	key, ada, _ := stocked(t, Config{Level: CTAP21PRE})
	m := key.manager(pin.One, 0, "")
	m.command = ctap.CmdCredentialManagementPreview
	if got := m.metadata(); got != [2]int{3, 22} {
		t.Errorf("metadata %v", got)
	}
	if got := m.relyingParties(); len(got) != 2 {
		t.Errorf("relying parties %v", got)
	}
	if all := m.credentials(testRPID); len(all) != 2 || all[0].members[managedCredProtect] == nil || all[0].members[managedThirdPartyPayment] != nil {
		t.Errorf("credentials %v", all)
	}
	m.fails(ctap.StatusInvalidParameter, updateUser, withUser(ada.id, names{"id": []byte("ada")}))
	m.do(deleteCred, credentialID(ada.id))

	key, ada, _ = stocked(t, Config{CredentialManagementPreview: true})
	m = key.manager(pin.Two, permCM, "")
	m.command = ctap.CmdCredentialManagementPreview
	m.do(updateUser, withUser(ada.id, names{"id": []byte("ada")}))
	m.fails(ctap.StatusInvalidSubcommand, updateUser+1, withUser(ada.id, names{"id": []byte("ada")}))
}

func TestCredentialManagementFaults(t *testing.T) {
	for fault, want := range map[Fault]any{NullMember: []byte{0xF6}, MissingMember: nil, EmptyMap: nil} {
		key, ada, _ := stocked(t, Config{CredentialManagementPreview: true})
		m := key.manager(pin.Two, permCM, "")
		key.cfg.Faults = fault
		for _, m.command = range []byte{ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview} {
			for sub, first := range map[int]uint64{getMetadata: managedExisting, rpsBegin: managedRP, credsBegin: managedUser} {
				var parameters any
				if sub == credsBegin {
					parameters = rpIDHash(testRPID)
				}
				answer := m.do(sub, parameters)
				if raw, ok := want.([]byte); ok && !bytes.Equal(answer[first], raw) || !ok && answer[first] != nil {
					t.Errorf("fault %#x, subcommand %d: %x", fault, sub, answer[first])
				}
			}
		}
		key.cfg.Faults = RefuseTransports
		m.command = ctap.CmdCredentialManagement
		m.fails(ctap.StatusInvalidParameter, deleteCred, params{2: names{"id": ada.id, "type": "public-key", "transports": []string{"usb"}}})
	}
}
