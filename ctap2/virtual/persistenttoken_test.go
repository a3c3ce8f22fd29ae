package virtual

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// decryptPersistent opens a member of getInfo with a persistent token (§6.4).
// The key is HKDF-SHA-256, of which one block is enough, written out.
func decryptPersistent(t testing.TB, token pin.Secret, member string, encrypted []byte) []byte {
	t.Helper()
	if len(encrypted) != 32 {
		t.Fatalf("%s is %x", member, encrypted)
	}
	sum := func(key []byte, message string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	key := sum(sum(make([]byte, 32), string(token.Bytes())), member+"\x01")[:16]
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	plaintext := make([]byte, 16)
	cipher.NewCBCDecrypter(block, encrypted[:16]).CryptBlocks(plaintext, encrypted[16:])
	return plaintext
}

// identity is the device identifier and the credential store state in getInfo.
func (p *platform) identity(token pin.Secret) (identifier, store string) {
	p.Helper()
	m := p.ok(ctap.CmdGetInfo, nil)
	return string(decryptPersistent(p, token, "encIdentifier", value[[]byte](p, m, infoEncIdentifier))),
		string(decryptPersistent(p, token, "encCredStoreState", value[[]byte](p, m, infoEncCredStoreState)))
}

// A persistent token reads, and does nothing else.
func TestPersistentToken(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			key, ada, _ := stocked(t, Config{BuiltInUV: UVConfigured})
			normal := key.manager(protocol, permCM, "")
			m := key.manager(protocol, permPCMR, "")
			for _, protocol := range bothProtocols { // it is one for both
				m.protocol = protocol
				if got := m.metadata(); got != [2]int{3, 22} {
					t.Errorf("metadata %v", got)
				}
				if got := m.relyingParties(); len(got) != 2 {
					t.Errorf("relying parties %v", got)
				}
				if got := m.credentials(testRPID); len(got) != 2 {
					t.Errorf("credentials %v", got)
				}
			}
			m.protocol = protocol
			m.fails(ctap.StatusPINAuthInvalid, deleteCred, credentialID(ada.id))
			m.fails(ctap.StatusPINAuthInvalid, updateUser, withUser(ada.id, names{"id": []byte("ada")}))
			m.fails(ctap.StatusPINAuthInvalid, credsBegin, rpIDHash(otherRPID), params{2: rpIDHash(testRPID)})
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdGetAssertion, assertRequest(withToken(ctap.CmdGetAssertion, protocol, m.token)))
			key.refused(ctap.StatusPINAuthInvalid, ctap.CmdMakeCredential, makeRequest(withToken(ctap.CmdMakeCredential, protocol, m.token)))

			// Asking for it leaves the other token as it was, and a touch spends
			// nothing of it.
			normal.metadata()
			key.assert(ada, allow(ada.id))
			normal.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
			m.metadata()

			// Everybody gets the same, by PIN or finger, whatever the RP ID, and
			// whatever else is asked for that does not exist.
			for _, request := range []func() (params, *pin.SharedSecret){
				func() (params, *pin.SharedSecret) { return key.tokenRequest(3-protocol, testPIN, permPCMR, "") },
				func() (params, *pin.SharedSecret) { return key.tokenRequest(protocol, testPIN, permPCMR, otherRPID) },
				func() (params, *pin.SharedSecret) { return key.tokenRequest(protocol, testPIN, permPCMR|1<<40, "") },
				func() (params, *pin.SharedSecret) { return key.uvTokenRequest(permPCMR) },
			} {
				r, secret := request()
				if token := key.openToken(key.ok(ctap.CmdClientPIN, r), secret); !token.Equal(m.token) {
					t.Error("another token")
				}
			}
			m.metadata()
			// Nobody gets it for a wrong PIN.
			r, _ := key.tokenRequest(protocol, "000000", permPCMR, "")
			key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, r)
		})
	}
}

// It has no timers, and neither has an enumeration that it authenticated, but
// for its own.
func TestPersistentTokenLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _, _ := stocked(t, Config{})
		m := key.manager(pin.Two, permPCMR, "")
		time.Sleep(24 * time.Hour)
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(listingTimeout)
		m.next(credsNext)
		key.PowerCycle()
		m.metadata()
		// The end of another token is none of its business.
		key.token(pin.Two, permCM, "")
		time.Sleep(timeLimitUSB - 1)
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(time.Second)
		m.next(credsNext)
		m.do(credsBegin, rpIDHash(testRPID))
		time.Sleep(listingTimeout + 1)
		m.refused(ctap.StatusNotAllowed, m.command, params{1: credsNext})
	})
}

// It dies with a change of the PIN and with a reset, and with nothing else.
func TestPersistentTokenEnds(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), Credentials: 5}
	key, _, _ := stocked(t, cfg)
	m := key.manager(pin.Two, permPCMR, "")
	identifier, store := key.identity(m.token)
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	m.platform = key
	m.metadata()
	if i, s := key.identity(m.token); i != identifier || s != store {
		t.Error("another key, or another store, in the next process")
	}

	key.refused(ctap.StatusPINInvalid, ctap.CmdClientPIN, key.changePINRequest(pin.Two, "000000", "314159"))
	m.metadata()
	key.ok(ctap.CmdClientPIN, key.changePINRequest(pin.Two, testPIN, "314159"))
	m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
	key.PowerCycle()
	m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
	if i, s := key.identity(m.token); i == identifier || s == store {
		t.Error("the old token still opens getInfo")
	}
	request, secret := key.tokenRequest(pin.Two, "314159", permPCMR, "")
	m.token = key.openToken(key.ok(ctap.CmdClientPIN, request), secret)
	m.metadata()
	// The key is the same all the same.
	if i, s := key.identity(m.token); i != identifier || s != store {
		t.Error("another key, or another store, by another PIN")
	}

	key.ok(ctap.CmdReset, nil)
	key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
	m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
	fresh := key.token(pin.Two, permPCMR, "")
	if fresh.Equal(m.token) {
		t.Error("the same token after a reset")
	}
	if i, s := key.identity(fresh); i == identifier || s == store {
		t.Error("the same key, or store, after a reset")
	}
}

// What getInfo encrypts is new each time, and says the same until the
// discoverable credentials change.
func TestEncryptedInfo(t *testing.T) {
	key := newKey(t, Config{PIN: testPIN})
	m := key.manager(pin.Two, permPCMR, "")
	first, second := key.ok(ctap.CmdGetInfo, nil), key.ok(ctap.CmdGetInfo, nil)
	for _, member := range []uint64{infoEncIdentifier, infoEncCredStoreState} {
		a, b := value[[]byte](t, first, member), value[[]byte](t, second, member)
		if bytes.Equal(a[:16], b[:16]) || bytes.Equal(a[16:], b[16:]) {
			t.Errorf("member %#02x repeats itself", member)
		}
	}
	identifier, store := key.identity(m.token)
	if identifier == store {
		t.Error("identifier and state are one")
	}
	changes := func(what string, want bool) {
		t.Helper()
		i, s := key.identity(m.token)
		if i != identifier {
			t.Errorf("%s: another identifier", what)
		}
		if (s != store) != want {
			t.Errorf("%s: the state changes: %v", what, !want)
		}
		store = s
	}
	make := func(id string) authData {
		token := key.token(pin.Two, permMC, testRPID)
		return key.make(residentKey(), account(id, id), withToken(ctap.CmdMakeCredential, pin.Two, token))
	}
	empty := store
	changes("nothing", false)
	key.make()
	changes("a credential that is not discoverable", false)
	make("ada")
	changes("a credential", true)
	ada := make("ada")
	changes("a credential in the place of another", true)
	make("bob")
	changes("another account", true)
	key.assert(ada, allow(ada.id))
	m.credentials(testRPID)
	key.PowerCycle()
	changes("looking", false)
	cm := key.manager(pin.Two, permCM, "")
	cm.do(updateUser, withUser(ada.id, names{"id": []byte("ada"), "name": "countess"}))
	changes("a name", true)
	cm.do(updateUser, withUser(ada.id, names{"id": []byte("ada"), "displayName": "countess"}))
	changes("a name in another place", true)
	cm.do(updateUser, withUser(ada.id, names{"id": []byte("ada"), "displayName": "countess"}))
	changes("the name that it had", false)
	cm.fails(ctap.StatusNoCredentials, deleteCred, credentialID([]byte{1}))
	changes("a failure", false)
	for _, c := range cm.credentials(testRPID) {
		cm.do(deleteCred, credentialID(c.id))
		changes("deletion", true)
	}
	if store != empty {
		t.Error("the store is empty again, and does not say so")
	}
}

// No two lists have the same digest that differ in what is listed, nor in where one
// part of it ends and the next begins, and none has that of another key.
func TestListDigest(t *testing.T) {
	text := func(s string) *string { return &s }
	lists := []user{
		{id: []byte("ada")},
		{id: []byte("ada"), name: text("")},
		{id: []byte("ada"), displayName: text("")},
		{id: []byte("ada"), name: text("countess")},
		{id: []byte("ada"), displayName: text("countess")},
		{id: []byte("ada"), name: text("countess"), displayName: text("countess")},
		{id: []byte("ad"), name: text("a")},
		{id: []byte("a"), name: text("da")},
		{id: []byte("ada=countess")},
	}
	seen := make(map[string]int)
	for _, master := range []string{"one", "another"} {
		for _, u := range lists {
			s := &state{master: []byte(master)}
			s.count(&credential{id: []byte{1}, user: u, discoverable: true}, 1)
			seen[string(s.listDigest())]++
		}
	}
	if len(seen) != 2*len(lists) {
		t.Errorf("%d digests of %d lists", len(seen), 2*len(lists))
	}
	if seen[string(new(state).listDigest())] > 0 {
		t.Error("a list has the digest of an empty one")
	}
}

// They are for those who have a persistent token, and keys that give none have
// none of it.
func TestEncryptedInfoAbsent(t *testing.T) {
	for name, cfg := range map[string]Config{
		"taken away":            {NoPersistentCredMgmtRO: true},
		"nothing to manage":     {NoResidentKeys: true},
		"CTAP 2.1":              {Level: CTAP21},
		"getPinToken alone":     {NoPINUVAuthToken: true},
		"nothing that verifies": {NoClientPIN: true},
	} {
		m := newKey(t, cfg).ok(ctap.CmdGetInfo, nil)
		if m[infoEncIdentifier] != nil || m[infoEncCredStoreState] != nil {
			t.Errorf("%s: members %v", name, m)
		}
	}
	// They know no token that once was there either.
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
	key := newKey(t, cfg)
	m := key.manager(pin.Two, permPCMR, "")
	m.metadata()
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.NoPersistentCredMgmtRO = true
	m.platform = newKey(t, cfg)
	m.fails(ctap.StatusPINAuthInvalid, getMetadata, nil)
}

// Files of before there were persistent tokens get one.
func TestPersistentTokenOfOldFile(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
	key := newKey(t, cfg)
	if err := key.state.journal.put(record{Kind: kindPersistentToken}); err != nil {
		t.Fatal(err)
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	key = newKey(t, cfg)
	m := key.manager(pin.Two, permPCMR, "")
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	m.platform = newKey(t, cfg)
	m.metadata()
}
