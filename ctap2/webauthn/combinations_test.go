package webauthn_test

import (
	"fmt"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
)

// A site registers and signs in, with every algorithm, discoverable or not, with
// every wish for user verification and attestation, on keys of every kind of
// attestation, with and without a PIN, in memory and over CTAPHID.
func TestCombinations(t *testing.T) {
	keys := map[string]virtual.Config{
		"no PIN":           {},
		"PIN":              {PIN: testPIN},
		"self":             {PIN: testPIN, Attestation: virtual.AttestationSelf},
		"fingerprint":      {BuiltInUV: virtual.UVConfigured},
		"PIN, CTAP 2.0":    {PIN: testPIN, Level: virtual.CTAP20},
		"no PIN, CTAP 2.0": {Level: virtual.CTAP20},
		"PIN, CTAP 2.1":    {PIN: testPIN, Level: virtual.CTAP21},
		"always UV":        {PIN: testPIN, AlwaysUV: true},
	}
	for name, config := range keys {
		config.Algorithms = []cose.Algorithm{cose.EdDSA, cose.ES256, cose.RS256}
		config.Credentials = 100
		t.Run(name, func(t *testing.T) {
			d := sit(t, config)
			for _, inMemory := range []bool{false, true} {
				d.Authenticators = []*ctap2.Authenticator{d.key}
				if inMemory {
					d.Authenticators[0] = d.open(d.soft)
				}
				for _, alg := range config.Algorithms {
					if alg == cose.RS256 && inMemory { // they take long to make
						continue
					}
					for _, residentKey := range []string{"required", "discouraged"} {
						for _, verification := range []string{"required", "preferred", "discouraged"} {
							for _, attestation := range []string{"none", "direct"} {
								d.combine(config, alg, residentKey, verification, attestation)
							}
							if alg == cose.RS256 {
								break
							}
						}
					}
				}
			}
		})
	}
}

func (d *desk) combine(config virtual.Config, alg cose.Algorithm, residentKey, verification, attestation string) {
	t := d.t
	capable := config.PIN != "" || config.BuiltInUV == virtual.UVConfigured
	d.requireUV = verification == "required" || verification == "preferred" && capable
	what := fmt.Sprintf("%v, residentKey %s, userVerification %s, attestation %s", alg, residentKey, verification, attestation)
	wishes := []string{
		fmt.Sprintf(`{"user": {"id": %q, "name": "ada", "displayName": ""}}`, encode([]byte(what)[:32])),
		fmt.Sprintf(`{"pubKeyCredParams": [{"type": "public-key", "alg": %d}]}`, alg),
		fmt.Sprintf(`{"authenticatorSelection": {"residentKey": %q, "userVerification": %q}, "attestation": %q}`, residentKey, verification, attestation),
		`{"extensions": {"credProps": true}}`,
	}
	if verification == "required" && !capable {
		_, err := d.create(wishes...)
		refused(t, err, errConstraint, ctap2.ErrNotSetUp)
		return
	}
	a := d.mustCreate(wishes...)
	if a.key.Algorithm != alg {
		t.Errorf("%s: %v", what, a.key)
	}
	props := fmt.Sprintf(`{"rk":%t}`, residentKey == "required")
	if config.Level == virtual.CTAP20 && residentKey == "discouraged" {
		props = `{}` // not known of such a key
	}
	if got := asJSON(t, a.results); got != `{"credProps":`+props+`}` {
		t.Errorf("%s: extension results %s", what, got)
	}
	if want := map[string]string{"none": "none", "direct": "packed"}[attestation]; a.format != want {
		t.Errorf("%s: format %s", what, a.format)
	}
	if a.aaguid == (ctap2.AAGUID{}) {
		t.Errorf("%s: the AAGUID was taken away", what)
	}
	wish := fmt.Sprintf(`{"userVerification": %q}`, verification)
	signed, _ := d.mustGet(wish, allow("allowCredentials", "AAAA", a.response.ID))
	if signed != a || residentKey == "required" && string(signed.user) != what[:32] {
		t.Errorf("%s: signed in as %q", what, signed.user)
	}
	if residentKey == "required" {
		d.ChooseAccount = newest
		if signed, _ := d.mustGet(wish); signed != a && d.requireUV {
			t.Errorf("%s: signed in without a list as %q", what, signed.user)
		}
	}
}
