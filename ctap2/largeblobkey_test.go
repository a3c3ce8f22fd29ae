package ctap2_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestLargeBlobKey(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		d := sit(t, config)
		c := d.register(resident, with(ctap2.LargeBlobKey()))
		a := d.signIn(gaWith(ctap2.LargeBlobKey()))[0]
		if c.LargeBlobKey.Len() != 32 || !c.LargeBlobKey.Equal(a.LargeBlobKey) {
			t.Errorf("keys of %d and %d bytes", c.LargeBlobKey.Len(), a.LargeBlobKey.Len())
		}
		if a := d.signIn()[0]; a.LargeBlobKey.Len() != 0 {
			t.Error("a key that nobody asked for")
		}
	})
	d := sit(t, virtual.Config{Extensions: []string{}})
	if c := d.register(resident, with(ctap2.LargeBlobKey())); c.LargeBlobKey.Len() != 0 {
		t.Error("a key from one that has none")
	}
	d.expect("01")
}

// An output under the name of the extension, which has none, is left alone.
func TestLargeBlobKeyOutput(t *testing.T) {
	s := newStore(t, pin.Two, withoutPIN)
	a := newAssertions(t, s, blobKey(1))
	a.extra = members{8: map[string]any{"largeBlobKey": true}}
	request := signIn()
	request.Extensions = []ctap2.Extension{ctap2.LargeBlobKey()}
	accounts, err := open(t, s).GetAssertion(t.Context(), request)
	if err != nil || accounts[0].LargeBlobKey.Len() != 32 || string(accounts[0].UnsignedExtensions["largeBlobKey"]) != "\xf5" {
		t.Errorf("%v, %v", accounts, err)
	}
}

// No key for large blobs stays behind in memory when it does not reach the
// caller, or was obtained for a blob.
func TestLargeBlobKeyIsWiped(t *testing.T) {
	secret := make([]byte, 32)
	rand.Read(secret)
	soft := newSoftKey(t)
	made := soft.authData(t, "example.com", 0x41, true, nil)
	auth := soft.authData(t, "example.com", 0x01, false, nil)
	good := members{1: map[string]any{"id": soft.id, "type": "public-key"}, 2: auth, 3: []byte{1}, 7: secret}
	spoiled := func(m members, member int, v any) members {
		m = maps.Clone(m)
		m[member] = v
		return m
	}
	credential := members{1: "none", 2: made, 3: map[string]int{}, 5: secret}
	get := func(key *ctap2.Authenticator) error {
		_, err := key.GetLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com"})
		return err
	}
	put := func(key *ctap2.Authenticator) error {
		return key.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com"})
	}
	register := func(key *ctap2.Authenticator) error {
		_, err := key.MakeCredential(t.Context(), registration())
		return err
	}
	for name, tt := range map[string]struct {
		replies []members // to makeCredential, getAssertion or getNextAssertion
		do      func(key *ctap2.Authenticator) error
		want    error
	}{
		"for a blob":                  {[]members{good}, get, ctap2.ErrNoLargeBlob},
		"for another":                 {[]members{good}, put, nil},
		"too many accounts":           {[]members{spoiled(good, 5, 2), good}, get, ctap2.ErrInvalidRequest},
		"the second malformed":        {[]members{spoiled(good, 5, 2), spoiled(good, 8, 1)}, get, ctap2.ErrMalformed},
		"the second's status":         {[]members{spoiled(good, 5, 2), nil}, get, ctap2.ErrNotAllowed},
		"another relying party's":     {[]members{spoiled(good, 2, soft.authData(t, "example.org", 0x01, false, nil))}, get, ctap2.ErrMalformed},
		"malformed before":            {[]members{spoiled(good, 3, "x")}, get, ctap2.ErrMalformed},
		"malformed behind":            {[]members{spoiled(good, 8, 1)}, get, ctap2.ErrMalformed},
		"registration, malformed":     {[]members{spoiled(credential, 6, 1)}, register, ctap2.ErrMalformed},
		"registration, no attStmt":    {[]members{spoiled(credential, 3, []int{})}, register, ctap2.ErrMalformed},
		"registration, another's":     {[]members{spoiled(credential, 2, soft.authData(t, "example.org", 0x41, true, nil))}, register, ctap2.ErrMalformed},
		"registration, no credential": {[]members{spoiled(credential, 2, auth)}, register, ctap2.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, pin.Two, withoutPIN)
			s.open = true
			var sent [][]byte
			answer := func([]byte) []byte {
				m := tt.replies[len(sent)]
				if m == nil {
					return []byte{byte(ctap2.ErrNotAllowed)}
				}
				sent = append(sent, ok(t, m))
				return sent[len(sent)-1]
			}
			s.on(ctap.CmdMakeCredential, answer)
			s.on(ctap.CmdGetAssertion, answer)
			s.on(ctap.CmdGetNextAssertion, answer)
			err := tt.do(open(t, s))
			if tt.want == nil && err != nil || !errors.Is(err, tt.want) {
				t.Errorf("%v", err)
			}
			if len(sent) == 0 {
				t.Error("nothing was asked")
			}
			for i, reply := range sent {
				if bytes.Contains(reply, secret) {
					t.Errorf("reply %d still holds the key", i)
				}
			}
			if err != nil && bytes.Contains(fmt.Append(nil, err), secret) {
				t.Error("the error holds the key")
			}
		})
	}
}

// The array on a real store: blobs of several credentials, through both PIN/UV
// auth protocols, in few fragments and in many, until it is full; and what is
// left behind by credentials that are gone.
func TestLargeBlobsOnAKey(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN, config.MaxMsgSize, config.MaxSerializedLargeBlobArray = benchPIN, 1024, 2048
		d := sit(t, config, benchPIN)
		ctx := t.Context()
		requests := map[string]*ctap2.LargeBlobRequest{}
		for _, id := range []string{"ada", "grace", "hedy"} {
			c := d.register(account(id), with(ctap2.LargeBlobKey())).Descriptor()
			requests[id] = &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &c, Data: make([]byte, 500)}
			rand.Read(requests[id].Data)
		}
		plain := d.register(account("plain")).Descriptor()
		for id, r := range requests {
			if _, err := d.GetLargeBlob(ctx, r); !errors.Is(err, ctap2.ErrNoLargeBlob) {
				t.Errorf("%s: %v", id, err)
			}
			if err := d.PutLargeBlob(ctx, r); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		}
		for id, r := range requests {
			if got, err := d.GetLargeBlob(ctx, r); err != nil || !bytes.Equal(got, r.Data) {
				t.Errorf("%s: %d bytes, %v", id, len(got), err)
			}
		}
		if _, err := d.GetLargeBlob(ctx, &ctap2.LargeBlobRequest{RPID: "example.com"}); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("of four accounts: %v", err)
		}
		if _, err := d.GetLargeBlob(ctx, &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &plain}); !errors.Is(err, ctap2.ErrNoLargeBlobKey) {
			t.Errorf("of one that can have none: %v", err)
		}
		requests["ada"].Data = make([]byte, 1200)
		rand.Read(requests["ada"].Data)
		if err := d.PutLargeBlob(ctx, requests["ada"]); !errors.Is(err, ctap2.ErrLargeBlobStorageFull) {
			t.Errorf("more than there is room for: %v", err)
		}
		backup, err := d.LargeBlobArray(ctx)
		if err != nil || len(backup) != 3 {
			t.Fatalf("%d elements, %v", len(backup), err)
		}

		if err := d.DeleteCredential(ctx, &ctap2.DeleteCredentialRequest{Credential: *requests["hedy"].Credential}); err != nil {
			t.Fatal(err)
		}
		if n, err := d.CollectLargeBlobs(ctx, nil); err != nil || n != 1 {
			t.Errorf("collected %d, %v", n, err)
		}
		if n, err := d.CollectLargeBlobs(ctx, nil); err != nil || n != 0 {
			t.Errorf("collected %d, %v", n, err)
		}
		if err := d.DeleteLargeBlob(ctx, requests["ada"]); err != nil {
			t.Error(err)
		}
		if err := d.DeleteLargeBlob(ctx, requests["ada"]); !errors.Is(err, ctap2.ErrNoLargeBlob) {
			t.Errorf("deleted twice: %v", err)
		}
		if got, err := d.GetLargeBlob(ctx, requests["grace"]); err != nil || !bytes.Equal(got, requests["grace"].Data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := d.WriteLargeBlobArray(ctx, &ctap2.WriteLargeBlobArrayRequest{Blobs: backup}); err != nil {
			t.Error(err)
		}
		if list, err := d.LargeBlobArray(ctx); err != nil || len(list) != 3 || !bytes.Equal(list[2].Raw, backup[2].Raw) {
			t.Errorf("%d elements, %v", len(list), err)
		}
		if len(d.asked) != 1 {
			t.Errorf("asked for the PIN %d times", len(d.asked))
		}
	})
}

// Without a PIN a write takes no token, and with a finger alone, that of the
// finger.
func TestLargeBlobsByOtherMeans(t *testing.T) {
	for name, tt := range map[string]struct {
		config virtual.Config
		sent   []string
	}{
		"unprotected": {virtual.Config{}, []string{"02", "0c", "0c"}},
		"finger":      {virtual.Config{BuiltInUV: virtual.UVConfigured}, []string{"06.02", "06.06", "02", "0c", "0c"}},
		"finger, always": {virtual.Config{BuiltInUV: virtual.UVConfigured, AlwaysUV: true, PIN: benchPIN},
			[]string{"06.02", "06.06", "02", "0c", "0c"}},
	} {
		d := sit(t, tt.config)
		d.register(resident, with(ctap2.LargeBlobKey()))
		d.sent()
		request := &ctap2.LargeBlobRequest{RPID: "example.com", Data: []byte("data")}
		if err := d.PutLargeBlob(t.Context(), request); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.expect(tt.sent...)
		if got, err := d.GetLargeBlob(t.Context(), request); err != nil || string(got) != "data" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Someone sets a PIN meanwhile: what was known of the key is out of date.
	d := sit(t, virtual.Config{}, benchPIN)
	d.register(resident, with(ctap2.LargeBlobKey()))
	other := open(t, d.soft)
	if err := other.SetPIN(t.Context(), pin.FromString(benchPIN)); err != nil {
		t.Fatal(err)
	}
	d.touches = nil
	if err := d.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com", Data: []byte("data")}); err != nil {
		t.Error(err)
	}
	if len(d.touches) != 1 || len(d.asked) != 1 {
		t.Errorf("%d touches, asked for the PIN %d times", len(d.touches), len(d.asked))
	}
}

// A caller who gives up finds the old array, or the new one.
func TestLargeBlobCancelled(t *testing.T) {
	const parts = 4
	for at := range parts + 3 {
		s := newStore(t, pin.Two)
		key := open(t, s, anyPIN())
		data := make([]byte, (parts-1)*s.fragment)
		rand.Read(data)
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("changed my mind")
		calls := 0
		s.on(ctap.CmdLargeBlobs, func(message []byte) []byte {
			if calls++; calls == at {
				cancel(reason)
				return []byte{byte(ctap2.ErrKeepaliveCancel)}
			}
			return s.largeBlobs(message)
		})
		err := key.PutLargeBlob(ctx, byKey(1, data...))
		if cancelled := at > 0 && at <= parts+1; cancelled != errors.Is(err, reason) || cancelled != bytes.Equal(s.array, raw(t, emptyArray)) {
			t.Errorf("cancelled at the %dth of %d transfers: %v", at, calls, err)
		}
	}
}
