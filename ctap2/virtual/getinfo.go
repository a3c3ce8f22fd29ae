package virtual

import (
	"slices"

	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of the answer to getInfo (§6.4).
const (
	infoVersions                         = 0x01
	infoExtensions                       = 0x02
	infoAAGUID                           = 0x03
	infoOptions                          = 0x04
	infoMaxMsgSize                       = 0x05
	infoPINUVAuthProtocols               = 0x06
	infoMaxCredentialCountInList         = 0x07
	infoMaxCredentialIDLength            = 0x08
	infoTransports                       = 0x09
	infoAlgorithms                       = 0x0A
	infoForcePINChange                   = 0x0C
	infoMinPINLength                     = 0x0D
	infoFirmwareVersion                  = 0x0E
	infoPreferredPlatformUVAttempts      = 0x11
	infoUVModality                       = 0x12
	infoRemainingDiscoverableCredentials = 0x14
	infoAttestationFormats               = 0x16
)

// uvModalityFingerprint is fingerprint_internal of the FIDO registry.
const uvModalityFingerprint = 0x02

// getInfo is authenticatorGetInfo (§6.4).
func (a *Authenticator) getInfo(params []byte) (reply, error) {
	if err := noParameters(params); err != nil {
		return nil, err
	}
	cfg := &a.cfg
	info := reply{
		infoVersions: cfg.Level.versions(),
		infoAAGUID:   cfg.AAGUID[:],
		infoOptions:  a.options(),
	}
	if len(cfg.Extensions) > 0 {
		info[infoExtensions] = cfg.Extensions
	}
	info[infoMaxMsgSize] = cfg.MaxMsgSize
	if a.hasKeyAgreement() {
		protocols := make([]uint, len(cfg.PINProtocols)) // a []pin.Protocol would be a byte string
		for i, p := range cfg.PINProtocols {
			protocols[i] = uint(p)
		}
		info[infoPINUVAuthProtocols] = protocols
	}
	if cfg.Level == CTAP20 {
		return info, nil
	}
	info[infoMaxCredentialCountInList] = cfg.MaxCredentialCountInList
	info[infoMaxCredentialIDLength] = cfg.MaxCredentialIDLength
	info[infoTransports] = cfg.Transports
	var algorithms []map[string]any
	for _, alg := range cfg.Algorithms {
		algorithms = append(algorithms, map[string]any{"alg": int64(alg), "type": publicKeyType})
	}
	info[infoAlgorithms] = algorithms
	if !cfg.NoClientPIN {
		info[infoForcePINChange] = a.state.pin.ForceChange
		info[infoMinPINLength] = cfg.MinPINLength
	}
	info[infoFirmwareVersion] = cfg.FirmwareVersion
	if cfg.BuiltInUV != UVNone {
		info[infoPreferredPlatformUVAttempts] = preferredPlatformUVAttempts
		info[infoUVModality] = uvModalityFingerprint
	}
	if !cfg.NoResidentKeys {
		info[infoRemainingDiscoverableCredentials] = max(0, cfg.Credentials-len(a.state.credentials))
	}
	if cfg.Level >= CTAP23 {
		format := formatPacked
		if cfg.Attestation == AttestationNone {
			format = formatNone
		}
		info[infoAttestationFormats] = []string{format}
	}
	return info, nil
}

func (l Level) versions() []string {
	versions := []string{"FIDO_2_0"}
	if l >= CTAP21 {
		versions = append(versions, "FIDO_2_1")
	}
	if l >= CTAP23 {
		versions = append(versions, "FIDO_2_3")
	}
	return versions
}

// Option IDs of getInfo that commands look at too (§6.4).
const (
	optionClientPIN             = "clientPin"
	optionPINUVAuthToken        = "pinUvAuthToken"
	optionNoMCGAPermissions     = "noMcGaPermissionsWithClientPin"
	optionMakeCredUVNotRequired = "makeCredUvNotRqd"
)

// options returns the options of getInfo as they stand. Commands decide by
// them, so that a key does what it says of itself.
func (a *Authenticator) options() map[string]bool {
	cfg := &a.cfg
	o := map[string]bool{
		"plat": false,
		"rk":   !cfg.NoResidentKeys,
		"up":   !cfg.NoUserPresence,
	}
	if cfg.BuiltInUV != UVNone {
		o["uv"] = cfg.BuiltInUV == UVConfigured
	}
	if !cfg.NoClientPIN {
		o[optionClientPIN] = a.state.pinSet()
		if cfg.NoMCGAPermissionsWithClientPIN {
			o[optionNoMCGAPermissions] = true
		}
	}
	if !cfg.NoPINUVAuthToken && (!cfg.NoClientPIN || cfg.BuiltInUV != UVNone) {
		o[optionPINUVAuthToken] = true
	}
	if cfg.AlwaysUV {
		o["alwaysUv"] = true
	}
	if !cfg.UVRequiredForNonDiscoverable {
		// alwaysUv overrides it, and getInfo must not say otherwise.
		o[optionMakeCredUVNotRequired] = !cfg.AlwaysUV
	}
	return o
}

// supportsPINUVAuth reports whether "the authenticator supports either
// pinUvAuthToken or clientPin features" (§6.1.2 step 1).
func (a *Authenticator) supportsPINUVAuth() bool {
	o := a.options()
	_, clientPIN := o[optionClientPIN]
	return clientPIN || o[optionPINUVAuthToken]
}

// hasKeyAgreement reports whether there is anything to agree on a secret for,
// and with it authenticatorClientPIN: hmac-secret needs its getKeyAgreement
// even where there is neither a PIN nor a token (§12.7).
func (a *Authenticator) hasKeyAgreement() bool {
	return a.supportsPINUVAuth() || slices.Contains(a.cfg.Extensions, hmacSecretID)
}

// protectedByUV reports whether "the authenticator is protected by some form of
// user verification" (§6.1.2).
func (a *Authenticator) protectedByUV() bool {
	return a.state.pinSet() || a.cfg.BuiltInUV == UVConfigured
}

// uvDemanded is what a request that lacks user verification ends with:
// PUAT_REQUIRED if a PIN would have done, of which pinMustBeSet says whether it
// has to exist already, and OPERATION_DENIED if not (§6.1.2 steps 6 to 8 and
// 11, §6.2.2 steps 5 and 6).
func (a *Authenticator) uvDemanded(pinMustBeSet bool) error {
	set, supported := a.options()[optionClientPIN]
	if supported && (set || !pinMustBeSet) && !a.cfg.NoMCGAPermissionsWithClientPIN {
		return refusal(ctap.StatusPUATRequired)
	}
	return refusal(ctap.StatusOperationDenied)
}

// protocol returns the PIN/UV auth protocol with a number, and false if the key
// does not have it.
func (a *Authenticator) protocol(n uint64) (p pin.Protocol, ok bool) {
	i := slices.IndexFunc(a.cfg.PINProtocols, func(p pin.Protocol) bool { return uint64(p) == n })
	if i < 0 || !a.hasKeyAgreement() {
		return 0, false
	}
	return a.cfg.PINProtocols[i], true
}
