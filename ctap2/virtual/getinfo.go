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
	infoMaxSerializedLargeBlobArray      = 0x0B
	infoForcePINChange                   = 0x0C
	infoMinPINLength                     = 0x0D
	infoFirmwareVersion                  = 0x0E
	infoMaxCredBlobLength                = 0x0F
	infoMaxRPIDsForSetMinPINLength       = 0x10
	infoPreferredPlatformUVAttempts      = 0x11
	infoUVModality                       = 0x12
	infoRemainingDiscoverableCredentials = 0x14
	infoVendorPrototypeConfigCommands    = 0x15
	infoAttestationFormats               = 0x16
	infoUVCountSinceLastPINEntry         = 0x17
	infoLongTouchForReset                = 0x18
	infoEncIdentifier                    = 0x19
	infoTransportsForReset               = 0x1A
	infoPINComplexityPolicy              = 0x1B
	infoPINComplexityPolicyURL           = 0x1C
	infoMaxPINLength                     = 0x1D
	infoEncCredStoreState                = 0x1E
	infoAuthenticatorConfigCommands      = 0x1F
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
		infoVersions: a.versions(),
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
	if cfg.Level < CTAP21PRE {
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
	if cfg.Level < CTAP21 {
		return info, nil
	}
	if a.has(largeBlobKeyID) {
		info[infoMaxSerializedLargeBlobArray] = cfg.MaxSerializedLargeBlobArray
	}
	if !cfg.NoClientPIN {
		info[infoForcePINChange] = a.state.pin.ForceChange
		info[infoMinPINLength] = a.state.settings.MinPINLength
	}
	info[infoFirmwareVersion] = cfg.FirmwareVersion
	if a.has(credBlobID) {
		info[infoMaxCredBlobLength] = cfg.MaxCredBlobLength
	}
	if cfg.BuiltInUV != UVNone {
		info[infoPreferredPlatformUVAttempts] = preferredPlatformUVAttempts
		info[infoUVModality] = uvModalityFingerprint
	}
	if !cfg.NoResidentKeys {
		info[infoRemainingDiscoverableCredentials] = a.remainingCredentials()
	}
	if cfg.Level >= CTAP23 {
		format := formatPacked
		if cfg.Attestation == AttestationNone {
			format = formatNone
		}
		info[infoAttestationFormats] = []string{format}
		if cfg.BuiltInUV != UVNone {
			info[infoUVCountSinceLastPINEntry] = a.state.uvCount
		}
	}
	a.addConfigurable(info)
	if err := a.addEncrypted(info); err != nil {
		return nil, err
	}
	return info, nil
}

// versions are those of a key that speaks CTAP2. FIDO_2_1_PRE stands for the
// prototypes (§6.12, §6.13), which newer keys may have as well.
func (a *Authenticator) versions() []string {
	var versions []string
	if a.speaksU2F() {
		versions = append(versions, versionU2F)
	}
	versions = append(versions, versionFIDO2)
	options := a.options()
	_, credMgmtPreview := options[optionCredMgmtPreview]
	_, uvMgmtPreview := options[optionUVMgmtPreview]
	if a.cfg.Level == CTAP21PRE || credMgmtPreview || uvMgmtPreview {
		versions = append(versions, "FIDO_2_1_PRE")
	}
	if a.cfg.Level >= CTAP21 {
		versions = append(versions, "FIDO_2_1")
	}
	if a.cfg.Level >= CTAP23 {
		versions = append(versions, "FIDO_2_3")
	}
	return versions
}

// Option IDs of getInfo that commands look at too (§6.4).
const (
	optionClientPIN             = "clientPin"
	optionPINUVAuthToken        = "pinUvAuthToken"
	optionLargeBlobs            = "largeBlobs"
	optionNoMCGAPermissions     = "noMcGaPermissionsWithClientPin"
	optionMakeCredUVNotRequired = "makeCredUvNotRqd"
	optionCredMgmt              = "credMgmt"
	optionCredMgmtPreview       = "credentialMgmtPreview"
	optionPerCredMgmtRO         = "perCredMgmtRO"
	optionBioEnroll             = "bioEnroll"
	optionUVBioEnroll           = "uvBioEnroll"
	optionUVMgmtPreview         = "userVerificationMgmtPreview"
	optionAuthnrCfg             = "authnrCfg"
	optionUVAcfg                = "uvAcfg"
	optionSetMinPINLength       = "setMinPINLength"
	optionAlwaysUV              = "alwaysUv"
	optionEnterprise            = "ep"
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
		o["uv"] = a.uvConfigured()
	}
	if !cfg.NoClientPIN {
		o[optionClientPIN] = a.pinSet()
		if cfg.NoMCGAPermissionsWithClientPIN {
			o[optionNoMCGAPermissions] = true
		}
	}
	if !cfg.NoPINUVAuthToken && (!cfg.NoClientPIN || cfg.BuiltInUV != UVNone) {
		o[optionPINUVAuthToken] = true
	}
	// There has to be something to manage, and a token to do it with: that of
	// getPinToken is good for it on keys that know no permissions, and on no
	// others.
	if !cfg.NoResidentKeys && !cfg.NoCredentialManagement {
		switch {
		case cfg.Level == CTAP21PRE && !cfg.NoClientPIN:
			o[optionCredMgmtPreview] = true
		case o[optionPINUVAuthToken]:
			o[optionCredMgmt] = true
			if cfg.CredentialManagementPreview {
				o[optionCredMgmtPreview] = true
			}
			if cfg.Level >= CTAP23 && !cfg.NoPersistentCredMgmtRO {
				o[optionPerCredMgmtRO] = true
			}
		}
	}
	if a.has(largeBlobKeyID) {
		o[optionLargeBlobs] = true
	}
	if cfg.managesFingerprints() {
		enrolled := a.uvConfigured()
		if cfg.Level == CTAP21PRE || cfg.BioEnrollmentPreview {
			o[optionUVMgmtPreview] = enrolled
		}
		if cfg.Level >= CTAP21 {
			o[optionBioEnroll] = enrolled
			if !cfg.NoUVBioEnroll {
				o[optionUVBioEnroll] = true
			}
		}
	}
	if cfg.configurable() {
		o[optionAuthnrCfg] = true
		if cfg.BuiltInUV != UVNone && !cfg.NoUVAcfg {
			o[optionUVAcfg] = true
		}
		if !cfg.NoClientPIN {
			o[optionSetMinPINLength] = true
		}
		if cfg.EnterpriseAttestation {
			o[optionEnterprise] = a.state.settings.EnterpriseAttestation
		}
	}
	if a.alwaysUV() || cfg.configurable() && cfg.canVerify() && !cfg.NoToggleAlwaysUV {
		o[optionAlwaysUV] = a.alwaysUV()
	}
	if !cfg.UVRequiredForNonDiscoverable {
		// alwaysUv overrides it, and getInfo must not say otherwise.
		o[optionMakeCredUVNotRequired] = !a.alwaysUV()
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
	return a.supportsPINUVAuth() || a.has(hmacSecretID)
}

// protectedByUV reports whether "the authenticator is protected by some form of
// user verification" (§6.1.2).
func (a *Authenticator) protectedByUV() bool {
	return a.pinSet() || a.uvConfigured()
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
