package virtual

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// serial is the serial number in the attestation certificate of a new
// credential, nil if there is none, and whether the answer has epAtt.
func (p *platform) serial(m members) (serial []byte, epAtt bool) {
	p.Helper()
	var statement struct {
		Alg cose.Algorithm `cbor:"alg"`
		Sig []byte         `cbor:"sig"`
		X5C [][]byte       `cbor:"x5c"`
	}
	if err := cbor.Unmarshal(m[3], &statement); err != nil {
		p.Fatal(err)
	}
	if m[4] != nil {
		epAtt = value[bool](p, m, 4)
		if !epAtt {
			p.Error("epAtt is false")
		}
	}
	if value[string](p, m, 1) == "none" {
		return nil, epAtt
	}
	leaf, err := x509.ParseCertificate(statement.X5C[0])
	if err != nil {
		p.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(p.AttestationRoot()); err != nil {
		p.Error(err)
	}
	data := slices.Concat(value[[]byte](p, m, 2), testHash)
	if err := cose.Verify(statement.Alg, leaf.PublicKey, data, statement.Sig); err != nil {
		p.Error(err)
	}
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidAAGUID) }) {
		p.Error("certificate without AAGUID")
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 2}) {
			if _, err := asn1.Unmarshal(e.Value, &serial); err != nil || e.Critical || len(serial) != 16 {
				p.Errorf("serial number %x, %v", e.Value, err)
			}
		}
	}
	return serial, epAtt
}

func TestEnterpriseAttestation(t *testing.T) {
	for _, level := range []Level{CTAP21, CTAP23} {
		cfg := Config{
			Path: filepath.Join(t.TempDir(), "key"), Level: level, AAGUID: [16]byte{9},
			EnterpriseAttestation: true, EnterpriseRPIDs: []string{"example.org", testRPID},
		}
		key := newKey(t, cfg)
		asks := func(n any, changes ...params) params { return makeRequest(append(changes, params{10: n})...) }
		if ep, ok := key.options()["ep"]; ep || !ok {
			t.Errorf("ep is %v, %v", ep, ok)
		}
		// Capable, and not yet enabled: whatever the value is.
		for _, n := range []int{0, 1, 2, 3} {
			key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, asks(n))
		}
		configurer{platform: key}.do(enableEnterprise, nil)
		if !key.options()["ep"] {
			t.Error("ep is false")
		}
		for _, n := range []int{0, 3} {
			key.refused(ctap.StatusInvalidOption, ctap.CmdMakeCredential, asks(n))
		}
		key.refused(ctap.StatusCBORUnexpectedType, ctap.CmdMakeCredential, asks("1"))

		serial, epAtt := key.serial(key.ok(ctap.CmdMakeCredential, asks(ctap.EnterpriseVendorFacilitated)))
		if serial == nil || !epAtt {
			t.Errorf("vendor-facilitated: serial number %x, epAtt %v", serial, epAtt)
		}
		for name, test := range map[string]struct {
			request params
			want    bool
		}{
			"nobody asked":                                {makeRequest(), false},
			"vendor-facilitated, not on the list":         {asks(1, rp("example.net")), false},
			"platform-managed":                            {asks(2), true},
			"platform-managed, not on the list":           {asks(2, rp("example.net")), true},
			"another format is preferred, which it lacks": {asks(2, params{11: []string{"tpm", "none"}}), true},
		} {
			got, epAtt := key.serial(key.ok(ctap.CmdMakeCredential, test.request))
			if (got != nil) != test.want || epAtt != test.want || test.want && !bytes.Equal(got, serial) {
				t.Errorf("%v, %s: serial number %x, epAtt %v", level, name, got, epAtt)
			}
		}
		if level == CTAP23 {
			m := key.ok(ctap.CmdMakeCredential, asks(2, params{11: []string{"none"}}))
			if got, epAtt := key.serial(m); value[string](t, m, 1) != "none" || got != nil || epAtt {
				t.Errorf("none preferred: %v", m)
			}
		}

		// A reset ends it; the serial number is the key's for ever.
		key.ok(ctap.CmdReset, nil)
		key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, asks(2))
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, cfg)
		key.ok(ctap.CmdClientPIN, key.setPINRequest(pin.Two, padded(testPIN)))
		key.configurer(pin.Two).do(enableEnterprise, nil)
		if got, _ := key.serial(key.ok(ctap.CmdMakeCredential, asks(2))); !bytes.Equal(got, serial) {
			t.Errorf("serial number %x, was %x", got, serial)
		}
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		// Not capable of it any more, whatever the file says.
		cfg.EnterpriseAttestation, cfg.EnterpriseRPIDs = false, nil
		key = newKey(t, cfg)
		if _, ok := key.options()["ep"]; ok {
			t.Error("ep is there")
		}
		key.refused(ctap.StatusInvalidParameter, ctap.CmdMakeCredential, asks(2))
		if got, _ := key.serial(key.ok(ctap.CmdMakeCredential, makeRequest())); got != nil {
			t.Errorf("serial number %x in basic attestation", got)
		}
	}
}

// A key of before there was a certificate with a serial number gets one when
// it is to have it, and not before.
func TestEnterpriseAttestationOldFile(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "key")}
	key := newKey(t, cfg)
	old := key.state.attestation
	value, err := cbor.Marshal(attestationRecord{Key: old.key.marshal(), Leaf: old.leaf, Root: old.root.Raw})
	if err != nil {
		t.Fatal(err)
	}
	if err := key.state.commit(record{Kind: kindAttestation, Key: defaultAAGUID[:], Value: value}); err != nil {
		t.Fatal(err)
	}
	reopen := func() {
		t.Helper()
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
		key = newKey(t, cfg)
	}
	reopen()
	if !key.AttestationRoot().Equal(old.root) {
		t.Error("another root without need")
	}
	cfg.EnterpriseAttestation = true
	reopen()
	configurer{platform: key}.do(enableEnterprise, nil)
	if serial, epAtt := key.serial(key.ok(ctap.CmdMakeCredential, makeRequest(params{10: 2}))); serial == nil || !epAtt {
		t.Errorf("serial number %x, epAtt %v", serial, epAtt)
	}
}
