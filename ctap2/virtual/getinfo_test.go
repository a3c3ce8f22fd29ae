package virtual

import (
	"maps"
	"slices"
	"testing"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

func TestGetInfo(t *testing.T) {
	key := newKey(t, Config{})
	m := key.ok(ctap.CmdGetInfo, nil)
	for member, want := range map[uint64]any{
		infoVersions:                         []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1", "FIDO_2_3"},
		infoExtensions:                       []string{"credProtect", "credBlob", "largeBlobKey", "minPinLength", "pinComplexityPolicy", "hmac-secret", "hmac-secret-mc", "thirdPartyPayment"},
		infoAAGUID:                           defaultAAGUID[:],
		infoMaxMsgSize:                       7609,
		infoPINUVAuthProtocols:               []int{2, 1},
		infoMaxCredentialCountInList:         8,
		infoMaxCredentialIDLength:            128,
		infoTransports:                       []string{"usb"},
		infoAlgorithms:                       []names{{"alg": -7, "type": "public-key"}, {"alg": -8, "type": "public-key"}},
		infoMaxSerializedLargeBlobArray:      4096,
		infoMaxCredBlobLength:                32,
		infoMaxRPIDsForSetMinPINLength:       8,
		infoLongTouchForReset:                false,
		infoPINComplexityPolicy:              false,
		infoMaxPINLength:                     63,
		infoAuthenticatorConfigCommands:      []int{2, 3, 4},
		infoForcePINChange:                   false,
		infoMinPINLength:                     4,
		infoFirmwareVersion:                  1,
		infoRemainingDiscoverableCredentials: 25,
		infoAttestationFormats:               []string{"packed"},
		infoOptions: map[string]bool{
			"plat": false, "rk": true, "up": true, "clientPin": false,
			"pinUvAuthToken": true, "makeCredUvNotRqd": true,
			"credMgmt": true, "perCredMgmtRO": true, "largeBlobs": true,
			"authnrCfg": true, "setMinPINLength": true, "alwaysUv": false,
		},
	} {
		encoded, err := cbor.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(encoded, m[member]) {
			t.Errorf("member %#02x is %x, want %x (%v)", member, m[member], encoded, want)
		}
		delete(m, member)
	}
	for _, member := range []uint64{infoEncIdentifier, infoEncCredStoreState} {
		if got := value[[]byte](t, m, member); len(got) != 32 {
			t.Errorf("member %#02x is %x", member, got)
		}
		delete(m, member)
	}
	if len(m) > 0 {
		t.Errorf("unexpected members %v", m)
	}
}

func TestGetInfoOldKey(t *testing.T) {
	m := newKey(t, Config{Level: CTAP20, NoResidentKeys: true}).ok(ctap.CmdGetInfo, nil)
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("members %v", got)
	}
	if got := value[[]string](t, m, infoVersions); !slices.Equal(got, []string{"U2F_V2", "FIDO_2_0"}) {
		t.Errorf("versions %v", got)
	}
	if got := value[[]string](t, m, infoExtensions); !slices.Equal(got, []string{"hmac-secret"}) {
		t.Errorf("extensions %v", got)
	}
	if got := value[[]int](t, m, infoPINUVAuthProtocols); !slices.Equal(got, []int{1}) {
		t.Errorf("protocols %v", got)
	}
	want := map[string]bool{"plat": false, "rk": false, "up": true, "clientPin": false}
	if got := value[map[string]bool](t, m, infoOptions); !maps.Equal(got, want) {
		t.Errorf("options %v", got)
	}
}

func TestGetInfoConfigured(t *testing.T) {
	aaguid := [16]byte{1, 2, 3}
	key := newKey(t, Config{
		Level: CTAP21, AAGUID: aaguid, FirmwareVersion: 50701, Transports: []string{"nfc", "usb"},
		Algorithms: []cose.Algorithm{cose.EdDSA}, Extensions: []string{},
		MaxMsgSize: 1200, MaxCredentialCountInList: 3, MaxCredentialIDLength: 96, Credentials: 2,
		PINProtocols: []pin.Protocol{pin.One}, PIN: testPIN, MinPINLength: 6, ForcePINChange: true,
		BuiltInUV: UVConfigured, AlwaysUV: true, NoMCGAPermissionsWithClientPIN: true,
	})
	m := key.ok(ctap.CmdGetInfo, nil)
	if got := value[[]byte](t, m, infoAAGUID); !slices.Equal(got, aaguid[:]) {
		t.Errorf("AAGUID %x", got)
	}
	for member, want := range map[uint64]int{
		infoFirmwareVersion: 50701, infoMaxMsgSize: 1200, infoMaxCredentialCountInList: 3,
		infoMaxCredentialIDLength: 96, infoMinPINLength: 6, infoRemainingDiscoverableCredentials: 2,
		infoPreferredPlatformUVAttempts: 3, infoUVModality: 2,
	} {
		if got := value[int](t, m, member); got != want {
			t.Errorf("member %#02x is %d, want %d", member, got, want)
		}
	}
	if !value[bool](t, m, infoForcePINChange) {
		t.Error("forcePINChange is false")
	}
	for _, member := range []uint64{infoExtensions, infoAttestationFormats} {
		if m[member] != nil {
			t.Errorf("member %#02x is there", member)
		}
	}
	want := map[string]bool{
		"plat": false, "rk": true, "up": true, "uv": true, "clientPin": true, "pinUvAuthToken": true,
		"alwaysUv": true, "makeCredUvNotRqd": false, "noMcGaPermissionsWithClientPin": true, "credMgmt": true,
		"bioEnroll": true, "uvBioEnroll": true, "authnrCfg": true, "uvAcfg": true, "setMinPINLength": true,
	}
	if got := key.options(); !maps.Equal(got, want) {
		t.Errorf("options %v", got)
	}
}

func TestGetInfoNoUserVerification(t *testing.T) {
	key := newKey(t, Config{
		NoClientPIN: true, Attestation: AttestationNone, UVRequiredForNonDiscoverable: true, Extensions: []string{"credProtect"},
	})
	m := key.ok(ctap.CmdGetInfo, nil)
	for _, member := range []uint64{infoPINUVAuthProtocols, infoMinPINLength, infoForcePINChange} {
		if m[member] != nil {
			t.Errorf("member %#02x is there", member)
		}
	}
	if got := value[[]string](t, m, infoAttestationFormats); !slices.Equal(got, []string{"none"}) {
		t.Errorf("attestation formats %v", got)
	}
	if got := key.options(); !maps.Equal(got, map[string]bool{"plat": false, "rk": true, "up": true}) {
		t.Errorf("options %v", got)
	}
	key.refused(ctap.StatusInvalidCommand, ctap.CmdClientPIN, params{subCommand: ctap.PINGetRetries})
}
