package virtual

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// blobKey is a key with the extension largeBlob.
func blobKey(t testing.TB, cfg Config) *platform {
	t.Helper()
	cfg.Extensions = []string{"credProtect", "hmac-secret", "largeBlob"}
	return newKey(t, cfg)
}

func blobSupport(input any) params { return params{6: names{"largeBlob": input}} }

func blobRead() params { return params{4: names{"largeBlob": names{"read": true}}} }

func blobWriting(blob []byte, originalSize uint64) params {
	return params{4: names{"largeBlob": names{"write": blob, "originalSize": originalSize}}}
}

// blobOutput is the output in unsignedExtensionOutputs, nil if there is none.
func (p *platform) blobOutput(m members, member uint64) names {
	p.Helper()
	if m[member] == nil {
		return nil
	}
	outputs := value[map[string]cbor.RawMessage](p, m, member)
	var output names
	if err := cbor.Unmarshal(outputs["largeBlob"], &output); err != nil || len(outputs) != 1 {
		p.Fatalf("outputs %x, %v", m[member], err)
	}
	return output
}

// makeBlob makes a credential with room for a blob and returns whether there
// is.
func (p *platform) makeBlob(support string, changes ...params) (authData, bool) {
	p.Helper()
	m := p.ok(ctap.CmdMakeCredential, makeRequest(append(changes, blobSupport(names{"support": support}))...))
	d := p.parseAuthData(m)
	output := p.blobOutput(m, credentialUnsignedOutputs)
	supported, ok := output["supported"].(bool)
	if !ok || len(output) != 1 || len(d.outputs) != 0 {
		p.Fatalf("output %v, %v", output, d.outputs)
	}
	return d, supported
}

// writeBlob returns whether the blob was written.
func (p *platform) writeBlob(cred authData, blob []byte, changes ...params) bool {
	p.Helper()
	changes = append([]params{allow(cred.id)}, changes...)
	d, m := p.assert(cred, append(changes, blobWriting(blob, uint64(len(blob))+1000))...)
	output := p.blobOutput(m, assertionUnsignedOutputs)
	written, ok := output["written"].(bool)
	if !ok || len(output) != 1 || len(d.outputs) != 0 {
		p.Fatalf("output %v, %v", output, d.outputs)
	}
	return written
}

// wantBlob reads the blob of a credential; nil is none.
func (p *platform) wantBlob(cred authData, want []byte, changes ...params) {
	p.Helper()
	d, m := p.assert(cred, append(changes, allow(cred.id), blobRead())...)
	output := p.blobOutput(m, assertionUnsignedOutputs)
	if len(d.outputs) != 0 {
		p.Fatalf("outputs %v", d.outputs)
	}
	if want == nil {
		if output != nil {
			p.Fatalf("output %v", output)
		}
		return
	}
	blob, ok := output["blob"].([]byte)
	if !ok || !bytes.Equal(blob, want) || output["originalSize"] != uint64(len(want))+1000 || len(output) != 2 {
		p.Fatalf("output %v, want %x", output, want)
	}
}

func TestLargeBlob(t *testing.T) {
	for _, protocol := range bothProtocols {
		t.Run(protocol.String(), func(t *testing.T) {
			cfg := Config{Path: filepath.Join(t.TempDir(), "key"), PIN: testPIN}
			key := blobKey(t, cfg)
			if info := key.ok(ctap.CmdGetInfo, nil); info[infoMaxSerializedLargeBlobArray] != nil || key.options()["largeBlobs"] {
				t.Error("getInfo has largeBlobs")
			}
			verified := func(command byte) params {
				permission := uint64(permMC)
				if command == ctap.CmdGetAssertion {
					permission = permGA
				}
				return withToken(command, protocol, key.token(protocol, permission, testRPID))
			}
			discoverable, supported := key.makeBlob("required", residentKey(), account("a", "a"), verified(ctap.CmdMakeCredential))
			listed, alsoSupported := key.makeBlob("preferred")
			if !supported || !alsoSupported {
				t.Error("not supported")
			}
			for _, cred := range []authData{discoverable, listed} {
				key.wantBlob(cred, nil)
				for _, blob := range [][]byte{[]byte("first"), []byte("the second"), {}, bytes.Repeat([]byte{1}, 100)} {
					if !key.writeBlob(cred, blob, verified(ctap.CmdGetAssertion)) {
						t.Fatalf("not written: %q", blob)
					}
					key.wantBlob(cred, blob, verified(ctap.CmdGetAssertion))
				}
			}
			key.writeBlob(discoverable, []byte("of one"))
			key.writeBlob(listed, []byte("of the other"))
			if err := key.Close(); err != nil {
				t.Fatal(err)
			}
			key = blobKey(t, cfg)
			key.wantBlob(discoverable, []byte("of one"))
			key.wantBlob(listed, []byte("of the other"))
		})
	}
}

// A blob is for a credential that was made with room for one, and that is
// named.
func TestLargeBlobNotWritten(t *testing.T) {
	key := blobKey(t, Config{})
	without := key.make(residentKey(), account("a", "a"))
	sealed := key.make()
	for _, cred := range []authData{without, sealed} {
		if key.writeBlob(cred, []byte("blob")) {
			t.Error("written to a credential that has no place for it")
		}
		key.wantBlob(cred, nil)
	}
	cred, _ := key.makeBlob("required", residentKey(), account("b", "b"))
	key.writeBlob(cred, []byte("old"))
	for name, change := range map[string]params{"none": nil, "two": allow(cred.id, without.id)} {
		_, m := key.assert(cred, change, blobWriting([]byte("new"), 3))
		if output := key.blobOutput(m, assertionUnsignedOutputs); output["written"] != false || len(output) != 1 {
			t.Errorf("allowList of %s: output %v", name, output)
		}
	}
	// The other account of getAssertion without allowList does not get it either.
	key.ok(ctap.CmdGetAssertion, assertRequest(blobWriting([]byte("new"), 3)))
	m := key.ok(ctap.CmdGetNextAssertion, nil)
	if output := key.blobOutput(m, assertionUnsignedOutputs); output["written"] != false {
		t.Errorf("output %v", output)
	}
	key.wantBlob(cred, []byte("old"))
	// Reading takes no allowList.
	m = key.ok(ctap.CmdGetAssertion, assertRequest(blobRead()))
	if output := key.blobOutput(m, assertionUnsignedOutputs); !bytes.Equal(output["blob"].([]byte), []byte("old")) {
		t.Errorf("output %v", output)
	}
	if m := key.ok(ctap.CmdGetNextAssertion, nil); m[assertionUnsignedOutputs] != nil {
		t.Errorf("output %x", m[assertionUnsignedOutputs])
	}
}

func TestLargeBlobLimits(t *testing.T) {
	key := blobKey(t, Config{MaxSerializedLargeBlobArray: 1024, Credentials: 3, MaxMsgSize: 1800})
	a, _ := key.makeBlob("required", residentKey(), account("a", "a"))
	b, _ := key.makeBlob("required", residentKey(), account("b", "b"))
	blob := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	// An answer must have room for it.
	if key.writeBlob(a, blob(745)) {
		t.Error("a blob was written that does not fit into an answer")
	}
	// All of them must fit into the storage.
	if !key.writeBlob(a, blob(744)) || !key.writeBlob(b, blob(1024-744)) || key.writeBlob(b, blob(1024-744+1)) {
		t.Error("the limit is another one")
	}
	key.wantBlob(b, blob(1024-744))
	if !key.writeBlob(a, blob(100)) || !key.writeBlob(b, blob(744)) {
		t.Error("there is no room where there was a blob")
	}

	// A credential with one takes a place, even if it is not discoverable.
	if _, supported := key.makeBlob("preferred"); !supported {
		t.Error("not supported while there is room")
	}
	c, supported := key.makeBlob("preferred")
	if supported {
		t.Error("supported where there is no room")
	}
	if key.writeBlob(c, blob(1)) {
		t.Error("written")
	}
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(blobSupport(names{"support": "required"})))
	key.refused(ctap.StatusKeyStoreFull, ctap.CmdMakeCredential, makeRequest(residentKey(), account("d", "d"), blobSupport(names{"support": "preferred"})))
}

// Whatever is wrong with an input is INVALID_CBOR.
func TestLargeBlobRefused(t *testing.T) {
	key := blobKey(t, Config{})
	for _, input := range []any{
		true, nil, names{}, names{"wrong": "123"}, names{"support": "maybe"}, names{"support": ""}, names{"support": true},
	} {
		key.refused(ctap.StatusInvalidCBOR, ctap.CmdMakeCredential, makeRequest(blobSupport(input)))
	}
	cred, _ := key.makeBlob("required")
	blob := []byte("blob")
	for _, input := range []any{
		true, nil, names{}, names{"wrong": "123"}, names{"read": false}, names{"read": "true"}, names{"read": nil},
		names{"read": true, "write": blob}, names{"read": true, "originalSize": 4}, names{"read": true, "write": blob, "originalSize": 4},
		names{"write": blob}, names{"originalSize": 4}, names{"write": "123", "originalSize": "123"},
		names{"write": blob, "originalSize": -1}, names{"write": blob, "originalSize": nil},
	} {
		key.refused(ctap.StatusInvalidCBOR, ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{4: names{"largeBlob": input}}))
	}
	key.wantBlob(cred, nil)
	// Members that nobody knows are no matter.
	m := key.ok(ctap.CmdGetAssertion, assertRequest(allow(cred.id), params{4: names{"largeBlob": names{"write": blob, "originalSize": 4, "zip": 1}}}))
	if output := key.blobOutput(m, assertionUnsignedOutputs); output["written"] != true {
		t.Errorf("output %v", output)
	}
}

// RSA credentials are stored anyway, and hmac-secret is beside the blob.
func TestLargeBlobBeside(t *testing.T) {
	key := blobKey(t, Config{Algorithms: []cose.Algorithm{cose.RS256}})
	cred, _ := key.makeBlob("required", params{4: []names{{"alg": -257, "type": "public-key"}}})
	key.writeBlob(cred, []byte("blob"))
	input, secret := key.saltInput(pin.Two, salt1)
	d, m := key.assert(cred, allow(cred.id), params{4: names{"largeBlob": names{"read": true}, "hmac-secret": input}})
	if len(key.hmacOutputs(d, secret)) != 32 || key.blobOutput(m, assertionUnsignedOutputs)["blob"] == nil {
		t.Errorf("members %v", m)
	}
}

func TestLargeBlobNotStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key := blobKey(t, Config{Path: path})
	cred, _ := key.makeBlob("required")
	if err := key.state.journal.close(); err != nil {
		t.Fatal(err)
	}
	key.refused(ctap.StatusOther, ctap.CmdGetAssertion, assertRequest(allow(cred.id), blobWriting([]byte("blob"), 4)))
	key.storageErr, key.state.journal = nil, nil
	key.wantBlob(cred, nil)
}

// countingFile counts how many batches are written.
type countingFile struct {
	journalFile
	writes int
}

func (f *countingFile) WriteAt(p []byte, at int64) (int, error) {
	f.writes++
	return f.journalFile.WriteAt(p, at)
}

// A blob and the signature counter of the assertion that it came with are
// written together, without anybody's touch where the assertion takes none
// (§12.4).
func TestLargeBlobWrittenSilently(t *testing.T) {
	var c counter
	key := blobKey(t, Config{Path: filepath.Join(t.TempDir(), "key"), Presence: c.person})
	cred, _ := key.makeBlob("required")
	c.took()
	file := &countingFile{journalFile: key.state.journal.file}
	key.state.journal.file = file
	silent := params{5: names{"up": false}}
	d, m := key.assert(cred, allow(cred.id), blobWriting([]byte("blob"), 4), silent)
	if output := key.blobOutput(m, assertionUnsignedOutputs); output["written"] != true {
		t.Errorf("output %v", output)
	}
	if d.signCount != 1 || file.writes != 1 || c.took() != 0 {
		t.Errorf("signature counter %d, %d writes", d.signCount, file.writes)
	}
	d, m = key.assert(cred, allow(cred.id), blobRead(), silent)
	if output := key.blobOutput(m, assertionUnsignedOutputs); !bytes.Equal(output["blob"].([]byte), []byte("blob")) || d.signCount != 2 || file.writes != 2 {
		t.Errorf("output %v, signature counter %d, %d writes", output, d.signCount, file.writes)
	}
}
