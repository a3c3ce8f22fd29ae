package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

// infoResult is the key's getInfo, member by member.
type infoResult struct {
	Name                             string             `json:"name" doc:"for --device"`
	Versions                         []string           `json:"versions"`
	Extensions                       []string           `json:"extensions"`
	AAGUID                           ctap2.AAGUID       `json:"aaguid" doc:"the model"`
	Options                          map[string]bool    `json:"options" doc:"by name; an option that is missing is not the same as false"`
	MaxMsgSize                       int                `json:"maxMsgSize" doc:"bytes"`
	PINUVAuthProtocols               []int              `json:"pinUvAuthProtocols"`
	MaxCredentialCountInList         int                `json:"maxCredentialCountInList"`
	MaxCredentialIDLength            int                `json:"maxCredentialIdLength" doc:"bytes"`
	Transports                       []string           `json:"transports"`
	Algorithms                       []string           `json:"algorithms"`
	MaxSerializedLargeBlobArray      int                `json:"maxSerializedLargeBlobArray" doc:"bytes; 0: there are no large blobs"`
	ForcePINChange                   bool               `json:"forcePINChange"`
	MinPINLength                     int                `json:"minPINLength"`
	FirmwareVersion                  uint64             `json:"firmwareVersion"`
	MaxCredBlobLength                int                `json:"maxCredBlobLength" doc:"bytes"`
	MaxRPIDsForSetMinPINLength       int                `json:"maxRPIDsForSetMinPINLength"`
	PreferredPlatformUVAttempts      int                `json:"preferredPlatformUvAttempts"`
	UVModality                       ctap2.UVModality   `json:"uvModality" doc:"a set of bits"`
	Certifications                   map[string]uint64  `json:"certifications" doc:"levels by name"`
	RemainingDiscoverableCredentials *int               `json:"remainingDiscoverableCredentials,omitempty" doc:"if the key says so"`
	VendorPrototypeConfigCommands    []uint64           `json:"vendorPrototypeConfigCommands"`
	AttestationFormats               []string           `json:"attestationFormats"`
	UVCountSinceLastPINEntry         *int               `json:"uvCountSinceLastPinEntry,omitempty" doc:"if the key says so"`
	LongTouchForReset                bool               `json:"longTouchForReset"`
	EncIdentifier                    hexBytes           `json:"encIdentifier,omitempty" doc:"different each time"`
	TransportsForReset               []string           `json:"transportsForReset" doc:"none: any"`
	PINComplexityPolicy              *bool              `json:"pinComplexityPolicy,omitempty" doc:"if it can be configured"`
	PINComplexityPolicyURL           string             `json:"pinComplexityPolicyURL"`
	MaxPINLength                     int                `json:"maxPINLength"`
	EncCredStoreState                hexBytes           `json:"encCredStoreState,omitempty" doc:"different each time"`
	AuthenticatorConfigCommands      []uint64           `json:"authenticatorConfigCommands"`
	Unknown                          map[int64]hexBytes `json:"unknown" doc:"members that are not known, in CBOR"`
}

func (p *program) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Show everything that a key says about itself, explained",
		Long: `Info shows the key's whole answer to getInfo, and what it means. It needs neither a
touch nor a PIN.`,
		Example: `  fidoctl info
  fidoctl info --device /dev/hidraw3
  fidoctl info --json`,
		Args: arguments,
		RunE: p.withKey(func(_ context.Context, key *session, _ []string) (result, error) {
			return infoOf(key.name, key.Info()), nil
		}),
	}
}

func infoOf(name string, i *ctap2.Info) infoResult {
	r := infoResult{
		Name: name, Versions: orEmpty(i.Versions), Extensions: orEmpty(i.Extensions), AAGUID: i.AAGUID, Options: i.Options,
		MaxMsgSize: i.MaxMsgSize, MaxCredentialCountInList: i.MaxCredentialCountInList,
		MaxCredentialIDLength: i.MaxCredentialIDLength, Transports: orEmpty(i.Transports),
		MaxSerializedLargeBlobArray: i.MaxSerializedLargeBlobArray, ForcePINChange: i.ForcePINChange,
		MinPINLength: i.MinPINLength, FirmwareVersion: i.FirmwareVersion, MaxCredBlobLength: i.MaxCredBlobLength,
		MaxRPIDsForSetMinPINLength: i.MaxRPIDsForSetMinPINLength, PreferredPlatformUVAttempts: i.PreferredPlatformUVAttempts,
		UVModality: i.UVModality, Certifications: i.Certifications,
		RemainingDiscoverableCredentials: i.RemainingDiscoverableCredentials,
		VendorPrototypeConfigCommands:    orEmpty(i.VendorPrototypeConfigCommands), AttestationFormats: orEmpty(i.AttestationFormats),
		UVCountSinceLastPINEntry: i.UVCountSinceLastPINEntry, LongTouchForReset: i.LongTouchForReset,
		EncIdentifier: i.EncIdentifier, TransportsForReset: orEmpty(i.TransportsForReset), PINComplexityPolicy: i.PINComplexityPolicy,
		PINComplexityPolicyURL: i.PINComplexityPolicyURL, MaxPINLength: i.MaxPINLength, EncCredStoreState: i.EncCredStoreState,
		AuthenticatorConfigCommands: orEmpty(i.AuthenticatorConfigCommands), Unknown: make(map[int64]hexBytes),
		PINUVAuthProtocols: []int{}, Algorithms: []string{},
	}
	for _, protocol := range i.PINUVAuthProtocols {
		r.PINUVAuthProtocols = append(r.PINUVAuthProtocols, int(protocol))
	}
	for _, algorithm := range i.Algorithms {
		r.Algorithms = append(r.Algorithms, algorithm.String())
	}
	if r.Options == nil {
		r.Options = map[string]bool{}
	}
	if r.Certifications == nil {
		r.Certifications = map[string]uint64{}
	}
	for key, value := range i.Unknown {
		r.Unknown[key] = value
	}
	return r
}

// optionTexts say what options mean: where they are true, and where they are
// false.
var optionTexts = map[string][2]string{
	ctap2.OptionPlatform:                       {"is built into this machine", "is removable"},
	ctap2.OptionResidentKey:                    {"keeps discoverable credentials (passkeys)", "keeps no credentials"},
	ctap2.OptionClientPIN:                      {"a PIN is set", "no PIN is set yet"},
	ctap2.OptionUserPresence:                   {"can be touched", "cannot be touched"},
	ctap2.OptionUserVerification:               {"can verify its user by itself", "could verify its user by itself, but nobody is enrolled"},
	ctap2.OptionPINUVAuthToken:                 {"grants permissions one by one", "grants all permissions at once"},
	ctap2.OptionNoMcGaPermissionsWithClientPIN: {"a PIN is not enough to register and sign in", "a PIN is enough to register and sign in"},
	ctap2.OptionLargeBlobs:                     {"keeps blobs", "keeps no blobs"},
	ctap2.OptionEnterpriseAttestation:          {"identifies itself to sites that may ask for it", "could identify itself to sites, but that is not enabled"},
	ctap2.OptionBioEnroll:                      {"fingerprints are enrolled", "no fingerprints are enrolled yet"},
	ctap2.OptionUserVerificationMgmtPreview:    {"fingerprints are enrolled (the draft's command)", "no fingerprints are enrolled yet (the draft's command)"},
	ctap2.OptionUVBioEnroll:                    {"a finger is enough to enroll another", "enrolling a finger needs the PIN"},
	ctap2.OptionAuthenticatorConfig:            {"can be configured", "cannot be configured"},
	ctap2.OptionUVAuthenticatorConfig:          {"a finger is enough to configure it", "configuring it needs the PIN"},
	ctap2.OptionCredentialManagement:           {"lists and deletes its credentials", "cannot list its credentials"},
	ctap2.OptionCredentialMgmtPreview:          {"lists and deletes its credentials (the draft's command)", "cannot list its credentials"},
	ctap2.OptionPersistentCredMgmtRO:           {"can let a program list its credentials without asking again", "verifies its user each time before it lists its credentials"},
	ctap2.OptionSetMinPINLength:                {"the minimum length of PINs can be raised", "the minimum length of PINs is fixed"},
	ctap2.OptionMakeCredUVNotRequired:          {"registers without a PIN where a site does not ask for it", "registering always needs the PIN"},
	ctap2.OptionAlwaysUV:                       {"always verifies its user", "verifies its user where a site asks for it"},
}

func (r infoResult) text(w *printer) {
	w.in(bold, "%s\n", r.Name)
	heading := ""
	begin := func() { // a section, if there is anything to say in it
		if heading != "" {
			w.in(bold, "%s\n", heading)
		}
		heading = ""
	}
	row := func(what, format string, args ...any) {
		begin()
		w.printf("  %-22s "+format+"\n", append([]any{what}, args...)...)
	}
	words := func(what string, words []string) {
		if len(words) > 0 {
			row(what, "%s", list(words))
		}
	}
	row("model (AAGUID)", "%s", r.AAGUID)
	if r.FirmwareVersion > 0 {
		row("firmware", "%d (%#x)", r.FirmwareVersion, r.FirmwareVersion)
	}
	words("speaks", r.Versions)
	words("transports", r.Transports)
	words("algorithms", r.Algorithms)
	words("extensions", r.Extensions)
	words("attestation formats", r.AttestationFormats)
	for _, name := range slices.Sorted(maps.Keys(r.Certifications)) {
		row("certified", "%s, level %d", name, r.Certifications[name])
	}

	heading = "PIN and fingerprints"
	if _, ok := r.Options[ctap2.OptionClientPIN]; ok {
		row("PINs have", "%d to %d characters", r.MinPINLength, r.MaxPINLength)
	}
	if r.PINComplexityPolicy != nil && *r.PINComplexityPolicy {
		row("", "and must not be too simple")
	}
	if r.PINComplexityPolicyURL != "" {
		row("rules for PINs", "%s", r.PINComplexityPolicyURL)
	}
	if r.ForcePINChange {
		row("the PIN", "must be changed before it can be used again")
	}
	if len(r.PINUVAuthProtocols) > 0 {
		row("PIN protocols", "%s", list(numbers(r.PINUVAuthProtocols)))
	}
	if r.UVModality != 0 {
		row("verifies by", "%s", list(modalities(r.UVModality)))
	}
	if r.PreferredPlatformUVAttempts > 0 {
		row("fingers are tried", "%s before the PIN", count(r.PreferredPlatformUVAttempts, "time", "times"))
	}
	if r.UVCountSinceLastPINEntry != nil {
		row("since the PIN", "%s by finger", count(*r.UVCountSinceLastPINEntry, "verification", "verifications"))
	}

	heading = "Room"
	if r.RemainingDiscoverableCredentials != nil {
		row("for credentials", "%d more", *r.RemainingDiscoverableCredentials)
	}
	if r.MaxSerializedLargeBlobArray > 0 {
		row("for blobs", "%d bytes", r.MaxSerializedLargeBlobArray)
	}
	if r.MaxCredBlobLength > 0 {
		row("in a credential", "%d bytes (credBlob)", r.MaxCredBlobLength)
	}
	if r.MaxMsgSize > 0 {
		row("messages have", "up to %d bytes", r.MaxMsgSize)
	}
	row("lists have", "up to %s", count(r.MaxCredentialCountInList, "credential", "credentials"))
	if r.MaxCredentialIDLength > 0 {
		row("credential IDs have", "up to %d bytes", r.MaxCredentialIDLength)
	}
	if r.MaxRPIDsForSetMinPINLength > 0 {
		row("the PIN's length", "can be shown to %s", count(r.MaxRPIDsForSetMinPINLength, "site", "sites"))
	}

	heading = "Reset"
	touch, over := "a touch", ""
	if r.LongTouchForReset {
		touch = "a touch of five seconds"
	}
	if len(r.TransportsForReset) > 0 {
		over = ", over " + list(r.TransportsForReset) + " only"
	}
	if !slices.Equal(r.Versions, []string{"U2F_V2"}) { // which has no reset
		row("needs", "%s%s", touch, over)
	}

	heading = "Options"
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		text, value := optionTexts[name][0], "yes"
		if !r.Options[name] {
			text, value = optionTexts[name][1], "no"
		}
		begin()
		w.printf("  %-30s %-4s %s\n", name, value, text)
	}

	heading = "Other"
	if len(r.AuthenticatorConfigCommands) > 0 {
		row("config commands", "%s", list(numbers(r.AuthenticatorConfigCommands)))
	}
	if len(r.VendorPrototypeConfigCommands) > 0 {
		row("vendor's commands", "%s", list(numbers(r.VendorPrototypeConfigCommands)))
	}
	if len(r.EncIdentifier) > 0 {
		row("identifier", "%s (encrypted)", r.EncIdentifier)
	}
	if len(r.EncCredStoreState) > 0 {
		row("state of credentials", "%s (encrypted)", r.EncCredStoreState)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unknown)) {
		row("unknown member", "%s: %s", strconv.FormatInt(key, 10), r.Unknown[key])
	}
}

// modalityTexts say what ways to verify a user are.
var modalityTexts = []struct {
	way  ctap2.UVModality
	text string
}{
	{ctap2.UVPresenceInternal, "touch"}, {ctap2.UVFingerprintInternal, "fingerprint"}, {ctap2.UVPasscodeInternal, "passcode on the key"},
	{ctap2.UVVoiceprintInternal, "voice"}, {ctap2.UVFaceprintInternal, "face"}, {ctap2.UVLocationInternal, "location"},
	{ctap2.UVEyeprintInternal, "eye"}, {ctap2.UVPatternInternal, "pattern on the key"}, {ctap2.UVHandprintInternal, "hand"},
	{ctap2.UVNone, "nothing"}, {ctap2.UVAll, "all of these together"}, {ctap2.UVPasscodeExternal, "PIN"}, {ctap2.UVPatternExternal, "pattern"},
}

func modalities(set ctap2.UVModality) []string {
	var words []string
	for _, m := range modalityTexts {
		if set&m.way != 0 {
			words = append(words, m.text)
		}
	}
	return words
}

// numbers returns them in decimal.
func numbers[N int | uint64](ns []N) []string {
	var words []string
	for _, n := range ns {
		words = append(words, fmt.Sprint(n))
	}
	return words
}
