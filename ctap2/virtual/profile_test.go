package virtual

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// What each kind of key says of itself.
func TestProfiles(t *testing.T) {
	onOff := func(on, off []string) map[string]bool {
		o := map[string]bool{"rk": true, "up": true, "plat": false, "clientPin": false}
		for _, id := range on {
			o[id] = true
		}
		for _, id := range off {
			o[id] = false
		}
		return o
	}
	for profile, want := range map[Profile]struct {
		name     string
		versions []string
		options  map[string]bool
		members  int
	}{
		ProfileU2F: {name: "u2f"},
		ProfileCTAP20: {
			"ctap2.0", []string{"U2F_V2", "FIDO_2_0"}, onOff(nil, nil), 6,
		},
		ProfileCTAP21PRE: {
			"ctap2.1-pre", []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE"},
			onOff([]string{"uv", "credentialMgmtPreview", "userVerificationMgmtPreview"}, nil), 10,
		},
		ProfileCTAP21: {
			"ctap2.1", []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1"},
			onOff([]string{
				"uv", "credMgmt", "credentialMgmtPreview", "bioEnroll", "userVerificationMgmtPreview", "uvBioEnroll",
				"authnrCfg", "uvAcfg", "largeBlobs", "pinUvAuthToken", "setMinPINLength", "makeCredUvNotRqd",
			}, []string{"alwaysUv"}), 19,
		},
		ProfileCTAP23: {
			"ctap2.3", []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1", "FIDO_2_3"},
			onOff([]string{
				"credMgmt", "credentialMgmtPreview", "perCredMgmtRO", "uvBioEnroll",
				"authnrCfg", "uvAcfg", "largeBlobs", "pinUvAuthToken", "setMinPINLength", "makeCredUvNotRqd",
			}, []string{"uv", "bioEnroll", "userVerificationMgmtPreview", "alwaysUv", "ep"}), 30,
		},
		ProfileEnterprise: {
			"enterprise", []string{"FIDO_2_0", "FIDO_2_1", "FIDO_2_3"},
			onOff([]string{
				"credMgmt", "perCredMgmtRO", "authnrCfg", "largeBlobs", "pinUvAuthToken", "setMinPINLength", "alwaysUv",
			}, []string{"ep", "makeCredUvNotRqd"}), 25,
		},
	} {
		t.Run(want.name, func(t *testing.T) {
			if !slices.Contains(Profiles(), profile) || profile.String() != want.name {
				t.Errorf("%v is not there", profile)
			}
			key := newKey(t, profile.Config())
			if profile == ProfileU2F {
				key.refused(ctap.StatusInvalidCommand, ctap.CmdGetInfo, nil)
				return
			}
			m := key.ok(ctap.CmdGetInfo, nil)
			if got := value[[]string](t, m, infoVersions); !slices.Equal(got, want.versions) {
				t.Errorf("versions %q", got)
			}
			if got := value[map[string]bool](t, m, infoOptions); !maps.Equal(got, want.options) {
				t.Errorf("options %v\n   want %v", got, want.options)
			}
			if len(m) != want.members {
				t.Errorf("%d members, want %d: %v", len(m), want.members, slices.Sorted(maps.Keys(m)))
			}
		})
	}
	if n := len(Profiles()); n != 6 {
		t.Errorf("%d profiles", n)
	}
	if unknown := Profile(0); unknown.String() != "Profile(0)" || !reflect.DeepEqual(unknown.Config(), Config{}) {
		t.Errorf("%v: %+v", unknown, unknown.Config())
	}
}

// Each is a model of its own, and a Config that nobody else has.
func TestProfilesShareNothing(t *testing.T) {
	seen := make(map[[16]byte]Profile)
	for _, p := range Profiles() {
		cfg := p.Config()
		if other, again := seen[cfg.AAGUID]; again || cfg.AAGUID == defaultAAGUID {
			t.Errorf("%v has the AAGUID of %v", p, other)
		}
		seen[cfg.AAGUID] = p
		before := fmt.Sprintf("%+v", cfg)
		for _, list := range [][]string{cfg.Transports, cfg.EnterpriseRPIDs, cfg.TransportsForReset} {
			for i := range list {
				list[i] = ""
			}
		}
		clear(cfg.Algorithms)
		clear(cfg.VendorConfigCommands)
		if after := fmt.Sprintf("%+v", p.Config()); after != before {
			t.Errorf("%v was changed to %s", p, after)
		}
	}
}

// Each makes and uses a credential the way it can, and is reset.
func TestProfilesWork(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(p.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := p.Config()
				if p != ProfileU2F {
					cfg.PIN = testPIN
				}
				key := newKey(t, cfg)
				if key.speaksU2F() {
					r := key.register(testApplication)
					key.authenticate(r.key, r.handle)
				}
				if p == ProfileU2F {
					return
				}
				for _, protocol := range key.cfg.PINProtocols {
					token := func(permission uint64) pin.Secret {
						if key.cfg.Level < CTAP21 {
							return key.token(protocol, 0, "")
						}
						return key.token(protocol, permission, testRPID)
					}
					cred := key.make(residentKey(), withToken(ctap.CmdMakeCredential, protocol, token(permMC)))
					d, _ := key.assert(cred, withToken(ctap.CmdGetAssertion, protocol, token(permGA)))
					key.wantFlags(d, flagUP|flagUV)
				}
				key.ok(ctap.CmdReset, nil)
				key.refused(ctap.StatusPINNotSet, ctap.CmdClientPIN, func() params {
					request, _ := key.tokenRequest(key.cfg.PINProtocols[0], testPIN, 0, "")
					return request
				}())
			})
		})
	}
}

// A key built to the draft is one of CTAP 2.0 with a little more.
func TestLevel21PRE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := ProfileCTAP21PRE.Config()
		cfg.PIN = testPIN
		key := newKey(t, cfg)

		// What it lacks of CTAP 2.1, and the statuses of before.
		for _, command := range []byte{ctap.CmdSelection, ctap.CmdCredentialManagement, ctap.CmdBioEnrollment, ctap.CmdLargeBlobs, ctap.CmdConfig} {
			key.refused(ctap.StatusInvalidCommand, command, params{1: 1})
		}
		request, _ := key.tokenRequest(pin.One, testPIN, permMC, testRPID)
		key.refused(ctap.StatusInvalidParameter, ctap.CmdClientPIN, request)
		key.refused(ctap.StatusPINAuthInvalid, ctap.CmdMakeCredential, makeRequest(params{8: testHash, 9: 2}))
		if m := key.ok(ctap.CmdClientPIN, params{1: 1, subCommand: ctap.PINGetRetries}); len(m) != 1 {
			t.Errorf("getPINRetries: %v", m)
		}
		key.make(params{10: 1, 7: names{"uv": true}}) // no enterprise attestation, and none refused

		// What it has gained.
		if n := key.uvRetries(); n != maxUVRetries {
			t.Errorf("uvRetries %d", n)
		}
		ids := slices.Repeat([][]byte{{1}}, cfg.MaxCredentialCountInList+1)
		key.refused(ctap.StatusLimitExceeded, ctap.CmdGetAssertion, assertRequest(allow(ids...)))
		key.refused(ctap.StatusLimitExceeded, ctap.CmdGetAssertion, assertRequest(allow(make([]byte, cfg.MaxCredentialIDLength+1))))
		protected := key.make(protect(3), params{7: names{"uv": true}})
		key.refused(ctap.StatusNoCredentials, ctap.CmdGetAssertion, assertRequest(allow(protected.id)))

		// One token for everything, for good.
		token := key.token(pin.One, 0, "")
		for range 2 {
			key.make(residentKey(), withToken(ctap.CmdMakeCredential, pin.One, token))
			key.ok(ctap.CmdCredentialManagementPreview, params{
				1: ctap.CredMgmtGetCredsMetadata, 3: 1, 4: pin.One.Authenticate(token, []byte{ctap.CredMgmtGetCredsMetadata}),
			})
			key.ok(ctap.CmdBioEnrollmentPreview, params{
				1: ctap.BioModalityFingerprint, 2: ctap.BioEnumerateEnrollments, 4: 1,
				5: pin.One.Authenticate(token, []byte{ctap.BioModalityFingerprint, ctap.BioEnumerateEnrollments}),
			})
		}
	})
}

// Each kind of key is what it says over each transport.
func TestProfilesOverTransports(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(p.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newKey(t, p.Config())
				info, err := key.Exchange(t.Context(), []byte{ctap.CmdClientPIN, 0xA1, 2, 1}, nil)
				if err != nil {
					t.Fatal(err)
				}
				usb := key.PlugIn(USBConfig{})
				h := connect(t, usb)
				h.send("ffffffff 86 0008 0102030405060708")
				_, init := h.message()
				var want byte = ctap.HIDCapabilityWink
				if p != ProfileU2F {
					want |= ctap.HIDCapabilityCBOR
				}
				if p == ProfileEnterprise {
					want |= ctap.HIDCapabilityNMSG
				}
				if init[16] != want {
					t.Errorf("capabilities %02x, want %02x", init[16], want)
				}
				h.send("00000001 90 0004 06 a10201")
				if command, data := h.message(); p == ProfileU2F {
					if command != ctap.HIDError || data[0] != ctap.HIDErrInvalidCmd {
						t.Errorf("CTAPHID_CBOR: %02x, %x", command, data)
					}
				} else if !bytes.Equal(data, info) {
					t.Errorf("CTAPHID_CBOR: %02x, %x", command, data)
				}
				usb.Unplug()

				card := key.Tap(CardConfig{})
				defer card.Remove()
				r := reader{t, card}
				if p == ProfileEnterprise {
					r.run(t, selectFIDO2)
				} else {
					r.run(t, selectU2F)
				}
				if p == ProfileU2F {
					r.run(t, "> 80100000 04 06 a10201 00\n< 6e00")
				} else if got := (cardPlatform{reader: r}).exchange([]byte{ctap.CmdClientPIN, 0xA1, 2, 1}); !bytes.Equal(got, info) {
					t.Errorf("NFCCTAP_MSG: %x", got)
				}
			})
		})
	}
}
