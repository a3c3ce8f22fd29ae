package ctap2

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Info is what a key says about itself: the reply to authenticatorGetInfo
// (§6.4), member by member. Where one is absent, its field has the value that the
// specification gives it then, as said below, or is zero. It is shared: do not
// change it.
type Info struct {
	Versions           []string        // 0x01
	Extensions         []string        // 0x02
	AAGUID             AAGUID          // 0x03
	Options            map[string]bool // 0x04, by the names of Option…; absent is not false
	MaxMsgSize         int             // 0x05, bytes; 1024 where absent
	PINUVAuthProtocols []pin.Protocol  // 0x06, the key's preference first

	MaxCredentialCountInList         int               // 0x07; 1 where absent
	MaxCredentialIDLength            int               // 0x08, bytes; no limit where absent
	Transports                       []string          // 0x09
	Algorithms                       []cose.Algorithm  // 0x0A, the key's preference first
	MaxSerializedLargeBlobArray      int               // 0x0B, bytes; 0: no large blobs
	ForcePINChange                   bool              // 0x0C
	MinPINLength                     int               // 0x0D, code points; 4 where absent
	FirmwareVersion                  uint64            // 0x0E
	MaxCredBlobLength                int               // 0x0F, bytes
	MaxRPIDsForSetMinPINLength       int               // 0x10
	PreferredPlatformUVAttempts      int               // 0x11
	UVModality                       UVModality        // 0x12
	Certifications                   map[string]uint64 // 0x13
	RemainingDiscoverableCredentials *int              // 0x14; nil: not said, 0: full
	VendorPrototypeConfigCommands    []uint64          // 0x15
	AttestationFormats               []string          // 0x16; nil where absent, which means "packed"
	UVCountSinceLastPINEntry         *int              // 0x17; nil: not said
	LongTouchForReset                bool              // 0x18
	EncIdentifier                    []byte            // 0x19, 32 bytes, fresh at each getInfo; see Identifier
	TransportsForReset               []string          // 0x1A
	PINComplexityPolicy              *bool             // 0x1B; nil: not configurable
	PINComplexityPolicyURL           string            // 0x1C
	MaxPINLength                     int               // 0x1D, code points; 63 where absent
	EncCredStoreState                []byte            // 0x1E, 32 bytes, fresh at each getInfo; see CredStoreState
	AuthenticatorConfigCommands      []uint64          // 0x1F; nil: not said

	// Unknown holds members that this package does not know, encoded, by key; and
	// those that nothing is decided by (0x12, 0x13, 0x1C) where they are not of
	// the type that they should be, unless WithStrictCBOR refuses them.
	Unknown map[int64][]byte
	// Raw is the reply as it came, CBOR.
	Raw []byte
}

// Identifier returns what tells this key from every other of its model until it
// is reset (§6.4, encIdentifier, CTAP 2.2). It refuses a token without permission
// pcmr with ErrInvalidRequest, and returns ErrUnsupported if the key does not
// have the member. With another key's token, or one from before a reset or
// another PIN, the result is another one each time.
func (i *Info) Identifier(persistent *Token) ([16]byte, error) {
	return persistent.open("encIdentifier", i.EncIdentifier)
}

// CredStoreState returns a value that changes whenever a discoverable
// credential is made, changed or deleted (§6.4, encCredStoreState, CTAP 2.3), so
// that a program knows whether a list that it keeps is still good. It takes a
// token as Identifier does. The Info must be a fresh one: call GetInfo.
func (i *Info) CredStoreState(persistent *Token) ([16]byte, error) {
	return persistent.open("encCredStoreState", i.EncCredStoreState)
}

// open decrypts such a member: an initialization vector, and one block under a
// key made of the token and the member's name.
func (t *Token) open(member string, sealed []byte) (plain [aes.BlockSize]byte, err error) {
	switch {
	case t == nil:
		return plain, invalid("no token")
	case t.secret.Len() == 0:
		return plain, invalid("the token was wiped")
	case t.permissions&PermissionPersistentCredentialManagement == 0:
		return plain, invalid("a token with permission %v", t.permissions)
	case sealed == nil:
		return plain, fmt.Errorf("ctap2: %s: %w", member, ErrUnsupported)
	case len(sealed) != 2*aes.BlockSize:
		return plain, malformed(ctap.CmdGetInfo, fmt.Errorf("%w: %s of %d bytes", ErrMalformed, member, len(sealed)))
	}
	key, err := hkdf.Key(sha256.New, t.secret.Bytes(), make([]byte, sha256.Size), member, 16)
	if err != nil {
		return plain, fmt.Errorf("ctap2: %s: %w", member, err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return plain, fmt.Errorf("ctap2: %s: %w", member, err)
	}
	cipher.NewCBCDecrypter(block, sealed[:aes.BlockSize]).CryptBlocks(plain[:], sealed[aes.BlockSize:])
	return plain, nil
}

// Names of options (§6.4). An option may be absent, false or true, which are
// three different answers for several of them.
const (
	OptionPlatform                       = "plat"
	OptionResidentKey                    = "rk"
	OptionClientPIN                      = "clientPin"
	OptionUserPresence                   = "up"
	OptionUserVerification               = "uv"
	OptionPINUVAuthToken                 = "pinUvAuthToken"
	OptionNoMcGaPermissionsWithClientPIN = "noMcGaPermissionsWithClientPin"
	OptionLargeBlobs                     = "largeBlobs"
	OptionEnterpriseAttestation          = "ep"
	OptionBioEnroll                      = "bioEnroll"
	OptionUserVerificationMgmtPreview    = "userVerificationMgmtPreview"
	OptionUVBioEnroll                    = "uvBioEnroll"
	OptionAuthenticatorConfig            = "authnrCfg"
	OptionUVAuthenticatorConfig          = "uvAcfg"
	OptionCredentialManagement           = "credMgmt"
	OptionCredentialMgmtPreview          = "credentialMgmtPreview"
	OptionPersistentCredMgmtRO           = "perCredMgmtRO"
	OptionSetMinPINLength                = "setMinPINLength"
	OptionMakeCredUVNotRequired          = "makeCredUvNotRqd"
	OptionAlwaysUV                       = "alwaysUv"
)

// options are the names of options. A key may have others, of any type.
var options = []string{
	OptionPlatform, OptionResidentKey, OptionClientPIN, OptionUserPresence, OptionUserVerification,
	OptionPINUVAuthToken, OptionNoMcGaPermissionsWithClientPIN, OptionLargeBlobs,
	OptionEnterpriseAttestation, OptionBioEnroll, OptionUserVerificationMgmtPreview, OptionUVBioEnroll,
	OptionAuthenticatorConfig, OptionUVAuthenticatorConfig, OptionCredentialManagement,
	OptionCredentialMgmtPreview, OptionPersistentCredMgmtRO, OptionSetMinPINLength,
	OptionMakeCredUVNotRequired, OptionAlwaysUV,
}

// An AAGUID identifies a model of authenticator.
type AAGUID [16]byte

// String returns the AAGUID in the form of a UUID.
func (a AAGUID) String() string {
	h := hex.EncodeToString(a[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// MarshalText returns what String does, for JSON and others.
func (a AAGUID) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String writes, in either case, and nothing else: the
// form that AAGUIDs have in lists of allowed models.
func (a *AAGUID) UnmarshalText(text []byte) error {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return fmt.Errorf("ctap2: %q is not an AAGUID: it takes 8-4-4-4-12 hexadecimal digits", text)
	}
	digits := slices.Concat(text[:8], text[9:13], text[14:18], text[19:23], text[24:])
	var parsed AAGUID
	if _, err := hex.Decode(parsed[:], digits); err != nil {
		return fmt.Errorf("ctap2: %q is not an AAGUID: %w", text, err)
	}
	*a = parsed
	return nil
}

// UVModality is a set of ways to verify a user (FIDO Registry of Predefined
// Values, "User Verification Methods").
type UVModality uint32

// Ways to verify a user.
const (
	UVPresenceInternal    UVModality = 0x0001
	UVFingerprintInternal UVModality = 0x0002
	UVPasscodeInternal    UVModality = 0x0004
	UVVoiceprintInternal  UVModality = 0x0008
	UVFaceprintInternal   UVModality = 0x0010
	UVLocationInternal    UVModality = 0x0020
	UVEyeprintInternal    UVModality = 0x0040
	UVPatternInternal     UVModality = 0x0080
	UVHandprintInternal   UVModality = 0x0100
	UVNone                UVModality = 0x0200
	UVAll                 UVModality = 0x0400
	UVPasscodeExternal    UVModality = 0x0800
	UVPatternExternal     UVModality = 0x1000
)

// GetInfo asks the key for its Info (§6.4), which Info returns from then on. A
// key that speaks U2F alone cannot be asked: its Info stays what Open found.
func (a *Authenticator) GetInfo(ctx context.Context) (*Info, error) {
	c, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if a.u2f {
		return c.info, nil
	}
	return c.fetchInfo()
}

// CurrentInfo returns the Info, which it fetches anew only where something was
// done through this Authenticator that changes what the key can do or holds,
// such as setting a PIN or making a discoverable credential. What other programs
// did it does not see, nor what changes with each user verification
// (UVCountSinceLastPINEntry): GetInfo does.
func (a *Authenticator) CurrentInfo(ctx context.Context) (*Info, error) {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if a.moved.Load() {
		return c.fetchInfo()
	}
	return c.info, nil
}

func (c *ceremony) fetchInfo() (*Info, error) {
	reply, err := c.send(ctap.CmdGetInfo, 0, nil, "")
	if err != nil {
		return nil, err
	}
	info, err := parseInfo(reply, c.a.rules)
	if err != nil {
		return nil, malformed(ctap.CmdGetInfo, err)
	}
	c.info, c.fresh = info, true
	c.a.info.Store(info)
	c.a.stale.Store(false)
	c.a.moved.Store(false)
	return info, nil
}

func parseInfo(reply []byte, rules cbor.Rules) (*Info, error) {
	info := &Info{
		Raw:                      reply,
		MaxMsgSize:               ctap.DefaultMaxMsgSize,
		MaxCredentialCountInList: 1,
		MinPINLength:             ctap.PINDefaultMinLength,
		MaxPINLength:             ctap.PINDefaultMaxLength,
	}
	d := cbor.NewCursor(reply, rules)
	count := func() int { return int(min(d.Uint(), math.MaxInt32)) }
	keep := func(key int64, item []byte) {
		if info.Unknown == nil {
			info.Unknown = make(map[int64][]byte)
		}
		info.Unknown[key] = item
	}
	var versions, aaguid bool
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			info.Versions, versions = texts(d), true
		case 0x02:
			info.Extensions = texts(d)
		case 0x03:
			copy(info.AAGUID[:], d.BytesLen(len(info.AAGUID)))
			aaguid = true
		case 0x04:
			info.Options = make(map[string]bool, d.Len())
			for name := range d.TextMap() {
				if name := cbor.String(name); d.IsBool() || slices.Contains(options, name) {
					info.Options[name] = d.Bool()
				}
			}
		case 0x05:
			info.MaxMsgSize = count()
		case 0x06:
			info.PINUVAuthProtocols = make([]pin.Protocol, 0, d.Len())
			for range d.Array() {
				if p := d.Uint(); p <= math.MaxUint8 {
					info.PINUVAuthProtocols = append(info.PINUVAuthProtocols, pin.Protocol(p))
				}
			}
		case 0x07:
			info.MaxCredentialCountInList = count()
		case 0x08:
			info.MaxCredentialIDLength = count()
		case 0x09:
			info.Transports = texts(d)
		case 0x0A:
			info.Algorithms = algorithms(d)
		case 0x0B:
			info.MaxSerializedLargeBlobArray = count()
		case 0x0C:
			info.ForcePINChange = d.Bool()
		case 0x0D:
			info.MinPINLength = count()
		case 0x0E:
			info.FirmwareVersion = d.Uint()
		case 0x0F:
			info.MaxCredBlobLength = count()
		case 0x10:
			info.MaxRPIDsForSetMinPINLength = count()
		case 0x11:
			info.PreferredPlatformUVAttempts = count()
		case 0x12, 0x13, 0x1C: // nothing is decided by them
			item := d.Raw()
			if d.Err() != nil {
				break
			}
			if err := info.describe(key, item, rules); err != nil {
				if rules != cbor.Lenient {
					return nil, err
				}
				keep(key, item)
			}
		case 0x14:
			n := count()
			info.RemainingDiscoverableCredentials = &n
		case 0x15:
			info.VendorPrototypeConfigCommands = uints(d)
		case 0x16:
			info.AttestationFormats = texts(d)
		case 0x17:
			n := count()
			info.UVCountSinceLastPINEntry = &n
		case 0x18:
			info.LongTouchForReset = d.Bool()
		case 0x19:
			info.EncIdentifier = d.Bytes()
		case 0x1A:
			info.TransportsForReset = texts(d)
		case 0x1B:
			b := d.Bool()
			info.PINComplexityPolicy = &b
		case 0x1D:
			info.MaxPINLength = count()
		case 0x1E:
			info.EncCredStoreState = d.Bytes()
		case 0x1F:
			info.AuthenticatorConfigCommands = uints(d)
		default:
			keep(key, d.Raw())
		}
	}
	switch {
	case d.Err() != nil:
		return nil, d.Err()
	case !versions:
		return nil, noMember("versions")
	case !aaguid:
		return nil, noMember("aaguid")
	}
	return info, nil
}

// describe reads a member that is for people alone.
func (i *Info) describe(key int64, item []byte, rules cbor.Rules) error {
	d := cbor.NewCursor(item, rules)
	switch key {
	case 0x12:
		i.UVModality = UVModality(d.UintMax(math.MaxUint32))
	case 0x13:
		certifications := make(map[string]uint64, d.Len())
		for name := range d.TextMap() {
			if d.IsUint() {
				certifications[cbor.String(name)] = d.Uint()
			}
		}
		if d.Err() == nil {
			i.Certifications = certifications
		}
	case 0x1C:
		i.PINComplexityPolicyURL = strings.ToValidUTF8(string(d.Bytes()), "\uFFFD")
	}
	if d.Err() != nil {
		return fmt.Errorf("member %#02x: %w", key, d.Err())
	}
	return nil
}

func texts(d *cbor.Cursor) []string {
	s := make([]string, 0, d.Len())
	for range d.Array() {
		s = append(s, d.Text())
	}
	return s
}

func uints(d *cbor.Cursor) []uint64 {
	s := make([]uint64, 0, d.Len())
	for range d.Array() {
		s = append(s, d.Uint())
	}
	return s
}

// algorithms reads PublicKeyCredentialParameters. Types other than
// "public-key" do not exist yet, and are skipped.
func algorithms(d *cbor.Cursor) []cose.Algorithm {
	s := make([]cose.Algorithm, 0, d.Len())
	for range d.Array() {
		var alg int64
		publicKey := true
		for name := range d.TextMap() {
			switch string(name) {
			case "alg":
				alg = d.Int()
			case "type":
				publicKey = string(d.TextBytes()) == publicKeyType
			}
		}
		if publicKey && alg >= math.MinInt32 && alg <= math.MaxInt32 {
			s = append(s, cose.Algorithm(alg))
		}
	}
	return s
}

// HasExtension reports whether the key lists the extension.
func (i *Info) HasExtension(identifier string) bool { return slices.Contains(i.Extensions, identifier) }

// HasVersion reports whether the key lists the version, such as "FIDO_2_1".
// Features are better asked for by their option or extension.
func (i *Info) HasVersion(version string) bool { return slices.Contains(i.Versions, version) }

// String returns the AAGUID and the versions.
func (i *Info) String() string { return i.AAGUID.String() + " " + strings.Join(i.Versions, " ") }
