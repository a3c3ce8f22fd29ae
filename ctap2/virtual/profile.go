package virtual

import (
	"fmt"

	"github.com/tapstone/fido/cose"
)

// A Profile is a kind of key as people have them on their desks: what it can
// do, and how much of it. Its numbers are typical of such keys and of no one
// model; the AAGUID stands for the profile.
//
//	cfg := virtual.ProfileCTAP21.Config()
//	cfg.PIN = "271828"
//	dev, err := virtual.New(cfg)
type Profile uint8

const (
	// ProfileU2F is a key that speaks U2F alone.
	ProfileU2F Profile = iota + 1
	// ProfileCTAP20 is one of the first keys with CTAP2: ES256 alone, a PIN
	// with getPinToken, no management of credentials, messages of 1200 bytes.
	ProfileCTAP20
	// ProfileCTAP21PRE is a key with a fingerprint reader that was built to the
	// draft of CTAP 2.1, with the preview commands and no others. A finger is
	// enrolled. It takes messages of 1024 bytes and lists of 6.
	ProfileCTAP21PRE
	// ProfileCTAP21 is a key with a fingerprint reader for CTAP 2.1, which has
	// the preview commands besides. A finger is enrolled. It has room for 1024
	// bytes of large blobs and takes messages of 1200.
	ProfileCTAP21
	// ProfileCTAP23 is a key that has all commands, subcommands and permissions
	// of CTAP 2.3, and a fingerprint reader that nobody is enrolled at. It can
	// be reset over USB alone.
	ProfileCTAP23
	// ProfileEnterprise is a key for CTAP 2.3 as companies hand it out: with
	// enterprise attestation, alwaysUv, and PINs of at least six characters
	// that are no row. Because of alwaysUv it does not speak U2F, and needs a
	// PIN before it makes a credential. It can be reset over USB alone.
	ProfileEnterprise
)

// Profiles returns them all, the oldest kind of key first.
func Profiles() []Profile {
	return []Profile{ProfileU2F, ProfileCTAP20, ProfileCTAP21PRE, ProfileCTAP21, ProfileCTAP23, ProfileEnterprise}
}

// String returns a short name, such as "ctap2.1-pre".
func (p Profile) String() string {
	switch p {
	case ProfileU2F:
		return "u2f"
	case ProfileCTAP20:
		return "ctap2.0"
	case ProfileCTAP21PRE:
		return "ctap2.1-pre"
	case ProfileCTAP21:
		return "ctap2.1"
	case ProfileCTAP23:
		return "ctap2.3"
	case ProfileEnterprise:
		return "enterprise"
	}
	return fmt.Sprintf("Profile(%d)", uint8(p))
}

// Config returns what New builds such a key from, as nobody has used it yet: it
// has no PIN. It is the caller's to change. That of a number that is no profile
// is the zero Config.
func (p Profile) Config() Config {
	switch p {
	case ProfileU2F:
		return Config{Level: CTAP1}
	case ProfileCTAP20:
		return Config{
			Level:       CTAP20,
			AAGUID:      [16]byte{0x98, 0x3c, 0x03, 0xdc, 0xfa, 0xc6, 0x4e, 0x86, 0xbe, 0x56, 0xd8, 0x89, 0x33, 0x1d, 0x55, 0xbc},
			Transports:  []string{"usb", "nfc"},
			Algorithms:  []cose.Algorithm{cose.ES256},
			MaxMsgSize:  1200,
			Credentials: 25,
		}
	case ProfileCTAP21PRE:
		return Config{
			Level:                    CTAP21PRE,
			AAGUID:                   [16]byte{0x1f, 0x29, 0xea, 0x4d, 0x06, 0x7f, 0x41, 0x30, 0xb4, 0x9c, 0x44, 0xe2, 0x71, 0xb7, 0x29, 0x1a},
			Algorithms:               []cose.Algorithm{cose.ES256},
			MaxMsgSize:               1024,
			MaxCredentialCountInList: 6,
			MaxCredentialIDLength:    96,
			Credentials:              50,
			BuiltInUV:                UVConfigured,
			Fingerprints:             10,
			MaxTemplateFriendlyName:  32,
		}
	case ProfileCTAP21:
		return Config{
			Level:                       CTAP21,
			AAGUID:                      [16]byte{0x75, 0x84, 0xf6, 0x12, 0xb9, 0xba, 0x4f, 0x44, 0xab, 0xc4, 0x6b, 0xf8, 0x72, 0x93, 0xec, 0x6b},
			FirmwareVersion:             0x50506,
			MaxMsgSize:                  1200,
			Credentials:                 25,
			MaxSerializedLargeBlobArray: 1024,
			CredentialManagementPreview: true,
			BuiltInUV:                   UVConfigured,
			BioEnrollmentPreview:        true,
			FingerprintSamples:          5,
			MaxTemplateFriendlyName:     15,
			MaxRPIDsForSetMinPINLength:  1,
		}
	case ProfileCTAP23:
		return Config{
			Level:                       CTAP23,
			AAGUID:                      [16]byte{0xa4, 0x60, 0x47, 0xdc, 0xc3, 0x7c, 0x4f, 0x85, 0xb5, 0xfa, 0x47, 0x45, 0xfd, 0x9c, 0x5b, 0x4b},
			FirmwareVersion:             0x60000,
			Transports:                  []string{"usb", "nfc"},
			Algorithms:                  []cose.Algorithm{cose.ES256, cose.EdDSA, cose.ES384},
			MaxMsgSize:                  2048,
			MaxCredentialCountInList:    16,
			Credentials:                 100,
			MaxCredBlobLength:           64,
			CredentialManagementPreview: true,
			PINComplexityPolicyURL:      "https://example.com/pin",
			BuiltInUV:                   UVNotConfigured,
			BioEnrollmentPreview:        true,
			VendorConfigCommands:        []uint64{0x9c1d6f35a2e08b47},
			EnterpriseAttestation:       true,
			TransportsForReset:          []string{"usb"},
		}
	case ProfileEnterprise:
		return Config{
			Level:                      CTAP23,
			AAGUID:                     [16]byte{0x9b, 0xd7, 0x85, 0xf6, 0x09, 0x0a, 0x43, 0x90, 0xbb, 0xb2, 0x01, 0xed, 0x65, 0xba, 0x63, 0x03},
			FirmwareVersion:            0x50704,
			Transports:                 []string{"usb", "nfc"},
			Algorithms:                 []cose.Algorithm{cose.ES256, cose.EdDSA, cose.ES384},
			MaxMsgSize:                 1536,
			Credentials:                100,
			MinPINLength:               6,
			PINComplexityPolicy:        true,
			AlwaysUV:                   true,
			MaxRPIDsForSetMinPINLength: 4,
			EnterpriseAttestation:      true,
			EnterpriseRPIDs:            []string{"example.com", "login.example.com"},
			TransportsForReset:         []string{"usb"},
		}
	}
	return Config{}
}
