package ctap2_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// blobConfig is a key that keeps large blobs with its credentials.
func blobConfig(config virtual.Config) virtual.Config {
	config.Extensions = []string{"largeBlob", "credProtect"}
	return config
}

func TestLargeBlobExtension(t *testing.T) {
	each(t, func(t *testing.T, config virtual.Config) {
		config.PIN = benchPIN
		d := sit(t, blobConfig(config), benchPIN)
		for _, required := range []bool{false, true} {
			c := d.register(account(fmt.Sprint(required)), with(ctap2.LargeBlobSupport(required)))
			if supported, err := ctap2.Output[ctap2.LargeBlobSupported](c.Extensions); err != nil || !bool(supported) {
				t.Errorf("%v, %v", supported, err)
			}
			a := d.signIn(allow(c.ID), gaWith(ctap2.LargeBlobRead()))[0]
			if got, err := ctap2.Output[ctap2.LargeBlobContent](a.Extensions); !errors.Is(err, ctap2.ErrNoOutput) {
				t.Errorf("before there is one: %q, %v", got, err)
			}
			for _, data := range [][]byte{[]byte("data"), bytes.Repeat([]byte("more "), 5000), {}} {
				a = d.signIn(allow(c.ID), gaWith(ctap2.LargeBlobWrite(data)))[0]
				if written, err := ctap2.Output[ctap2.LargeBlobWritten](a.Extensions); err != nil || !bool(written) {
					t.Errorf("%d bytes: %v, %v", len(data), written, err)
				}
				a = d.signIn(allow(c.ID), gaWith(ctap2.LargeBlobRead()))[0]
				if got, err := ctap2.Output[ctap2.LargeBlobContent](a.Extensions); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
				}
			}
		}
		a := d.signIn(gaWith(ctap2.LargeBlobWrite([]byte("for whom"))))
		if written, err := ctap2.Output[ctap2.LargeBlobWritten](a[0].Extensions); err != nil || bool(written) {
			t.Errorf("for nobody in particular: %v, %v", written, err)
		}
	})
}

// The extension serves the methods, too, on a key that has no array.
func TestLargeBlobByExtension(t *testing.T) {
	d := sit(t, blobConfig(virtual.Config{PIN: benchPIN, MaxMsgSize: 4096}), benchPIN)
	ctx := t.Context()
	credential := d.register(resident, with(ctap2.LargeBlobSupport(true))).Descriptor()
	request := &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &credential, Data: []byte("data")}
	if _, err := d.GetLargeBlob(ctx, request); !errors.Is(err, ctap2.ErrNoLargeBlob) {
		t.Errorf("before there is one: %v", err)
	}
	d.sent()
	if err := d.PutLargeBlob(ctx, request); err != nil {
		t.Fatal(err)
	}
	d.expect("06.02", "06.09", "02")
	if got, err := d.GetLargeBlob(ctx, request); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	d.expect("06.02", "06.09", "02")
	request.Credential = nil // there is but one
	if got, err := d.GetLargeBlob(ctx, request); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	d.sent()
	for name, err := range map[string]error{
		"read the array":  second(d.LargeBlobArray(ctx)),
		"write the array": d.WriteLargeBlobArray(ctx, new(ctap2.WriteLargeBlobArrayRequest)),
		"collect":         second(d.CollectLargeBlobs(ctx, nil)),
		"delete":          d.DeleteLargeBlob(ctx, request),
	} {
		if !errors.Is(err, ctap2.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"put for whoever":     d.PutLargeBlob(ctx, request),
		"get by a key":        second(d.GetLargeBlob(ctx, byKey(1))),
		"put by a key":        d.PutLargeBlob(ctx, byKey(1)),
		"delete by a key":     d.DeleteLargeBlob(ctx, byKey(1)),
		"get from nobody":     second(d.GetLargeBlob(ctx, new(ctap2.LargeBlobRequest))),
		"put without an ID":   d.PutLargeBlob(ctx, &ctap2.LargeBlobRequest{RPID: "example.com", Credential: new(ctap2.CredentialDescriptor)}),
		"put more than a MiB": d.PutLargeBlob(ctx, &ctap2.LargeBlobRequest{RPID: "example.com", Credential: &credential, Data: make([]byte, 1<<20+1)}),
	} {
		if !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.expect()

	request.Credential = &credential
	request.Data = make([]byte, 3500)
	rand.Read(request.Data)
	if err := d.PutLargeBlob(ctx, request); !errors.Is(err, ctap2.ErrLargeBlobStorageFull) {
		t.Errorf("more than the key stores: %v", err)
	}
	request.Data = make([]byte, 4096)
	rand.Read(request.Data)
	if err := d.PutLargeBlob(ctx, request); !errors.Is(err, ctap2.ErrMessageTooLarge) {
		t.Errorf("more than the key can be told: %v", err)
	}
	request.Credential = &ctap2.CredentialDescriptor{ID: []byte("another key's")}
	for name, err := range map[string]error{"get": second(d.GetLargeBlob(ctx, request)), "put": d.PutLargeBlob(ctx, request)} {
		if !errors.Is(err, ctap2.ErrNoCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What belongs in the one command is refused in the other; a key that lacks
// the extension is told nothing, unless there is no doing without.
func TestLargeBlobExtensionInputs(t *testing.T) {
	d := sit(t, blobConfig(virtual.Config{}))
	for name, e := range map[string]ctap2.Extension{"read": ctap2.LargeBlobRead(), "write": ctap2.LargeBlobWrite(nil)} {
		request := registration()
		request.Extensions = []ctap2.Extension{e}
		if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s in a registration: %v", name, err)
		}
	}
	for name, e := range map[string]ctap2.Extension{"support": ctap2.LargeBlobSupport(false), "too much": ctap2.LargeBlobWrite(make([]byte, 1<<20+1))} {
		request := signIn()
		request.Extensions = []ctap2.Extension{e}
		if _, err := d.GetAssertion(t.Context(), request); !errors.Is(err, ctap2.ErrInvalidRequest) {
			t.Errorf("%s in an assertion: %v", name, err)
		}
	}
	d.expect()

	d = sit(t, virtual.Config{Extensions: []string{"largeBlobKey"}})
	c := d.register(resident, with(ctap2.LargeBlobSupport(false)))
	if _, err := ctap2.Output[ctap2.LargeBlobSupported](c.Extensions); !errors.Is(err, ctap2.ErrNoOutput) {
		t.Error(err)
	}
	for _, e := range []ctap2.Extension{ctap2.LargeBlobRead(), ctap2.LargeBlobWrite([]byte{1})} {
		if a := d.signIn(gaWith(e)); len(a[0].UnsignedExtensions) != 0 {
			t.Errorf("%v", a[0].UnsignedExtensions)
		}
	}
	for _, m := range d.messages {
		if bytes.Contains(m, []byte("largeBlob")) {
			t.Errorf("sent %x", m)
		}
	}
	d.sent()
	request := registration()
	request.Extensions = []ctap2.Extension{ctap2.LargeBlobSupport(true)}
	if _, err := d.MakeCredential(t.Context(), request); !errors.Is(err, ctap2.ErrUnsupported) {
		t.Errorf("required of a key that cannot: %v", err)
	}
	d.expect()
}

// Outputs that are none: the credential and the assertion are there all the
// same, and no memory is spent on what a key claims.
func TestLargeBlobExtensionOutputs(t *testing.T) {
	s := newStore(t, pin.Two, func(info members) { info[2], info[4] = []string{"largeBlob"}, map[string]bool{} })
	key := open(t, s)
	a := newAssertions(t, s, nil)
	type output = map[string]any
	data := []byte("large blob")
	good, size := deflated(t, data), len(data)
	for name, tt := range map[string]struct {
		output any
		want   error
	}{
		"good":            {output{"blob": good, "originalSize": size}, nil},
		"with more":       {output{"blob": good, "originalSize": size, "new": []int{1}}, nil},
		"nothing":         {output{}, ctap2.ErrNoLargeBlob},
		"no blob":         {output{"originalSize": size}, ctap2.ErrMalformed},
		"no size":         {output{"blob": good}, ctap2.ErrMalformed},
		"another size":    {output{"blob": good, "originalSize": size + 1}, ctap2.ErrMalformed},
		"an absurd size":  {output{"blob": good, "originalSize": int64(1 << 40)}, ctap2.ErrMalformed},
		"a negative size": {output{"blob": good, "originalSize": -1}, ctap2.ErrMalformed},
		"a MiB of 2":      {output{"blob": []byte{3, 0}, "originalSize": 1 << 20}, ctap2.ErrMalformed},
		"not compressed":  {output{"blob": data, "originalSize": size}, ctap2.ErrMalformed},
		"text":            {output{"blob": "x", "originalSize": size}, ctap2.ErrMalformed},
		"null":            {nil, ctap2.ErrMalformed},
		"a boolean":       {true, ctap2.ErrMalformed},
	} {
		a.extra = members{8: output{"largeBlob": tt.output}}
		request := signIn()
		request.Extensions = []ctap2.Extension{ctap2.LargeBlobRead()}
		accounts, err := key.GetAssertion(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ctap2.Output[ctap2.LargeBlobContent](accounts[0].Extensions)
		if !errors.Is(err, tt.want) || (err == nil) != bytes.Equal(got, data) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		var content []byte
		grown := allocated(func() {
			content, err = key.GetLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com"})
		})
		if !errors.Is(err, tt.want) || !bytes.Equal(content, got) || grown > 1<<18 {
			t.Errorf("%s: %q, %v; allocates %d bytes", name, content, err, grown)
		}
	}
	for name, tt := range map[string]struct {
		output any
		want   error
	}{
		"true":      {output{"written": true}, nil},
		"false":     {output{"written": false}, ctap2.ErrLargeBlobStorageFull},
		"a number":  {output{"written": 1}, ctap2.ErrMalformed},
		"missing":   {output{"supported": true}, ctap2.ErrMalformed},
		"no output": {nil, ctap2.ErrMalformed},
	} {
		a.extra = members{8: output{"largeBlob": tt.output}}
		err := key.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com",
			Credential: &ctap2.CredentialDescriptor{ID: []byte("credential-id-01")}, Data: data})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.extra = nil
	err := key.PutLargeBlob(t.Context(), &ctap2.LargeBlobRequest{RPID: "example.com",
		Credential: &ctap2.CredentialDescriptor{ID: []byte("credential-id-01")}, Data: data})
	if !errors.Is(err, ctap2.ErrNoOutput) {
		t.Errorf("nothing said: %v", err)
	}

	soft := newSoftKey(t)
	made := soft.authData(t, "example.com", 0x41, true, nil)
	for name, tt := range map[string]struct {
		output any
		want   error
	}{
		"true":    {output{"supported": true}, nil},
		"text":    {output{"supported": "yes"}, ctap2.ErrMalformed},
		"missing": {output{}, ctap2.ErrMalformed},
	} {
		s.on(ctap.CmdMakeCredential, func([]byte) []byte {
			return ok(t, members{1: "none", 2: made, 3: map[string]int{}, 6: output{"largeBlob": tt.output}})
		})
		request := registration()
		request.Extensions = []ctap2.Extension{ctap2.LargeBlobSupport(true)}
		c, err := key.MakeCredential(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		supported, err := ctap2.Output[ctap2.LargeBlobSupported](c.Extensions)
		if !errors.Is(err, tt.want) || (err == nil) != bool(supported) {
			t.Errorf("%s: %v, %v", name, supported, err)
		}
	}
}
