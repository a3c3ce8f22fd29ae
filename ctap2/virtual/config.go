package virtual

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// settings are what authenticatorConfig changes, and a reset sets back.
type settings struct {
	AlwaysUV              bool     `cbor:"1,keyasint,omitempty"`
	EnterpriseAttestation bool     `cbor:"2,keyasint,omitempty"`
	MinPINLength          int      `cbor:"3,keyasint"`
	MinPINLengthRPIDs     []string `cbor:"4,keyasint,omitempty"`
	PINComplexityPolicy   bool     `cbor:"5,keyasint,omitempty"`
	LongTouchForReset     bool     `cbor:"6,keyasint,omitempty"`
}

// factorySettings are those of a key that nobody has configured. They are not
// stored: as long as nobody does, Config is what counts.
func factorySettings(cfg *Config) settings {
	return settings{
		AlwaysUV:            cfg.AlwaysUV,
		MinPINLength:        cfg.MinPINLength,
		PINComplexityPolicy: cfg.PINComplexityPolicy,
		LongTouchForReset:   cfg.LongTouchForReset,
	}
}

// applySettings brings the settings up to a record.
func (s *state) applySettings(rec record) error {
	s.settings = s.factory
	if rec.Value == nil {
		return nil
	}
	var to settings
	if err := cbor.Unmarshal(rec.Value, &to); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if to.MinPINLength < ctap.PINDefaultMinLength || to.MinPINLength > ctap.PINMaxBytes {
		return errors.New("settings: bad minimum PIN length")
	}
	s.settings = to
	return nil
}

// check reports what there is in stored settings that the Config of the key does
// not leave room for. Without it the key could be one that nobody can use, or
// that says of itself what is not so.
func (s *settings) check(cfg *Config) error {
	if s.AlwaysUV && (cfg.Level < CTAP21 || !cfg.canVerify()) {
		return errors.New("the stored key has alwaysUv on, which Config.Level does not know, or Config leaves no way to verify the user for")
	}
	if s.MinPINLength > cfg.MaxPINLength {
		return fmt.Errorf("the stored key has a minimum PIN length of %d, which is more than Config.MaxPINLength", s.MinPINLength)
	}
	return nil
}

// configure changes settings. What also changes comes with them or not at all. It
// refuses those for which there is no room.
func (s *state) configure(to settings, also ...record) error {
	value, err := cbor.Marshal(to)
	if err != nil {
		return err
	}
	err = s.commit(append(also, record{Kind: kindSettings, Value: value})...)
	if errors.Is(err, errJournalFull) {
		return refusal(ctap.StatusKeyStoreFull)
	}
	return err
}

// configurable reports whether there is authenticatorConfig, which takes a token
// as soon as the user can be verified.
func (c *Config) configurable() bool {
	tokens := !c.NoPINUVAuthToken && (!c.NoClientPIN || c.BuiltInUV != UVNone && !c.NoUVAcfg)
	return c.Level >= CTAP21 && !c.NoAuthenticatorConfig && tokens
}

const (
	// infoReserve is how many bytes of getInfo's answer are for all but
	// vendorPrototypeConfigCommands.
	infoReserve = 768
	// vendorCommandLength is the longest encoding of one of those.
	vendorCommandLength = 9
)

// checkConfigurable reports what is wrong with the parts of a configuration that
// have to do with authenticatorConfig and authenticatorBioEnrollment.
func (c *Config) checkConfigurable() error {
	if c.FingerprintSamples < 0 || c.Fingerprints < 0 || c.MaxTemplateFriendlyName < 0 || c.MaxRPIDsForSetMinPINLength < 0 {
		return errors.New("virtual: Config has a negative limit")
	}
	if c.Level < CTAP23 && (c.PINComplexityPolicy || c.PINComplexityPolicyURL != "" || c.LongTouchForReset || c.TransportsForReset != nil) {
		return errors.New("virtual: Config has what came after CTAP 2.1")
	}
	if c.PINComplexityPolicy && c.NoClientPIN {
		return errors.New("virtual: Config.PINComplexityPolicy is set in a key without a PIN")
	}
	if c.LongTouchForReset && c.NoUserPresence {
		return errors.New("virtual: Config.LongTouchForReset is set in a key that cannot be touched")
	}
	for _, t := range c.TransportsForReset {
		if !slices.Contains(c.Transports, t) {
			return fmt.Errorf("virtual: Config.TransportsForReset: %q is none of Config.Transports", t)
		}
	}
	if room := c.MaxMsgSize - templateInfosOverhead; c.managesFingerprints() && c.MaxTemplateFriendlyName > room/c.Fingerprints-templateInfoOverhead {
		return errors.New("virtual: Config.Fingerprints with names of Config.MaxTemplateFriendlyName cannot be listed in Config.MaxMsgSize")
	}
	if n := len(c.VendorConfigCommands); n > 0 && infoReserve+n*vendorCommandLength > c.MaxMsgSize {
		return errors.New("virtual: Config.VendorConfigCommands cannot be listed in Config.MaxMsgSize")
	}
	if c.BioEnrollmentPreview && !c.managesFingerprints() {
		return errors.New("virtual: Config.BioEnrollmentPreview is set in a key whose fingerprints platforms do not manage")
	}
	if c.EnterpriseAttestation && !c.configurable() {
		return errors.New("virtual: Config.EnterpriseAttestation needs authenticatorConfig: Level CTAP21 or later, and PIN/UV auth tokens to permit it")
	}
	if c.EnterpriseAttestation && c.Attestation != AttestationBasic {
		return errors.New("virtual: Config.EnterpriseAttestation needs AttestationBasic")
	}
	if c.EnterpriseRPIDs != nil && !c.EnterpriseAttestation {
		return errors.New("virtual: Config.EnterpriseRPIDs needs Config.EnterpriseAttestation")
	}
	if (c.VendorConfigCommands != nil || c.VendorConfig != nil) && !c.configurable() {
		return errors.New("virtual: Config.VendorConfigCommands or Config.VendorConfig is set in a key without authenticatorConfig")
	}
	return nil
}

// addConfigurable adds to getInfo what has to do with authenticatorConfig
// (§6.4).
func (a *Authenticator) addConfigurable(info reply) {
	cfg, set := &a.cfg, &a.state.settings
	commands := a.configCommands()
	if slices.Contains(commands, ctap.ConfigSetMinPINLength) && a.takesMinPINLengthRPIDs() {
		info[infoMaxRPIDsForSetMinPINLength] = cfg.MaxRPIDsForSetMinPINLength
	}
	if slices.Contains(commands, ctap.ConfigVendorPrototype) {
		info[infoVendorPrototypeConfigCommands] = cfg.VendorConfigCommands
	}
	if cfg.Level < CTAP23 {
		return
	}
	if set.LongTouchForReset || slices.Contains(commands, ctap.ConfigEnableLongTouchForReset) {
		info[infoLongTouchForReset] = set.LongTouchForReset
	}
	if cfg.TransportsForReset != nil {
		info[infoTransportsForReset] = cfg.TransportsForReset
	}
	if a.hasPINComplexityPolicy() {
		info[infoPINComplexityPolicy] = set.PINComplexityPolicy
	}
	if cfg.PINComplexityPolicyURL != "" {
		info[infoPINComplexityPolicyURL] = []byte(cfg.PINComplexityPolicyURL)
	}
	if !cfg.NoClientPIN {
		info[infoMaxPINLength] = cfg.MaxPINLength
	}
	if commands != nil {
		info[infoAuthenticatorConfigCommands] = commands
	}
}

// alwaysUV reports whether the option alwaysUv is true.
func (a *Authenticator) alwaysUV() bool { return a.state.settings.AlwaysUV }

// canVerify reports whether there is a way to verify the user for
// makeCredential and getAssertion, be it one that nobody has set up.
func (c *Config) canVerify() bool {
	return c.BuiltInUV != UVNone || !c.NoClientPIN && !c.NoMCGAPermissionsWithClientPIN
}

// configCommands returns the subcommands of authenticatorConfig that the key
// has, nil if it does not have the command (§6.4, authenticatorConfigCommands).
func (a *Authenticator) configCommands() []uint64 {
	o := a.options()
	if !o[optionAuthnrCfg] {
		return nil
	}
	commands := []uint64{}
	if a.cfg.EnterpriseAttestation {
		commands = append(commands, ctap.ConfigEnableEnterpriseAttestation)
	}
	if _, supported := o[optionAlwaysUV]; supported {
		commands = append(commands, ctap.ConfigToggleAlwaysUV)
	}
	if o[optionSetMinPINLength] {
		commands = append(commands, ctap.ConfigSetMinPINLength)
	}
	if a.cfg.Level >= CTAP23 && !a.cfg.NoUserPresence {
		commands = append(commands, ctap.ConfigEnableLongTouchForReset)
	}
	if len(a.cfg.VendorConfigCommands) > 0 {
		commands = append(commands, ctap.ConfigVendorPrototype)
	}
	return commands
}

// configRequest is the parameters of authenticatorConfig (§6.11). What is absent
// is nil.
type configRequest struct {
	subCommand        *uint64         // 0x01
	subCommandParams  cbor.RawMessage // 0x02
	pinUVAuthProtocol *uint64         // 0x03
	pinUVAuthParam    []byte          // 0x04

	// What is in subCommandParams.
	newMinPINLength     *uint64  // 0x01 of setMinPINLength
	minPINLengthRPIDs   []string // 0x02 of setMinPINLength
	forceChangePIN      *bool    // 0x03 of setMinPINLength
	pinComplexityPolicy *bool    // 0x04 of setMinPINLength
	vendorCommandID     *uint64  // 0x01 of vendorPrototype
}

func parseConfig(params []byte) (*configRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(configRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.subCommand = d.optionalUint()
		case 0x02:
			r.subCommandParams = d.rawMap()
		case 0x03:
			r.pinUVAuthProtocol = d.optionalUint()
		case 0x04:
			r.pinUVAuthParam = d.Bytes()
		}
	}
	d.require(r.subCommand != nil)
	if err := d.end(); err != nil || r.subCommandParams == nil {
		return r, err
	}
	d = inputDecoder(r.subCommandParams)
	switch *r.subCommand {
	case ctap.ConfigSetMinPINLength:
		r.parseSetMinPINLength(d)
	case ctap.ConfigVendorPrototype:
		for key := range d.IntMap() {
			if key == 0x01 {
				r.vendorCommandID = d.optionalUint()
			}
		}
	}
	return r, d.end()
}

func (r *configRequest) parseSetMinPINLength(d *decoder) {
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.newMinPINLength = d.optionalUint()
		case 0x02:
			r.minPINLengthRPIDs = []string{}
			for range d.Array() {
				r.minPINLengthRPIDs = append(r.minPINLengthRPIDs, d.Text())
			}
		case 0x03:
			r.forceChangePIN = d.optionalBool()
		case 0x04:
			r.pinComplexityPolicy = d.optionalBool()
		}
	}
}

// config is authenticatorConfig, by the steps of §6.11.
func (a *Authenticator) config(params []byte) (reply, error) {
	commands := a.configCommands()
	if commands == nil {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	// Step 1.
	r, err := parseConfig(params)
	if err != nil {
		return nil, err
	}
	// Step 2. Elsewhere it is INVALID_SUBCOMMAND (§8.1); this algorithm has a
	// status of its own.
	if !slices.Contains(commands, *r.subCommand) {
		return nil, refusal(ctap.StatusInvalidParameter)
	}
	// Steps 3 and 4: where nobody has set up a way to verify the user, alwaysUv
	// can be switched off, and all else be done as long as it is off.
	if a.protectedByUV() || a.alwaysUV() && *r.subCommand != ctap.ConfigToggleAlwaysUV {
		if err := a.authorizeConfig(r); err != nil {
			return nil, err
		}
	}
	// Step 5.
	to := a.state.settings
	switch *r.subCommand {
	case ctap.ConfigEnableEnterpriseAttestation: // §6.11.1
		to.EnterpriseAttestation = true
	case ctap.ConfigToggleAlwaysUV: // §6.11.2
		if to.AlwaysUV && a.cfg.NoToggleAlwaysUV {
			return nil, refusal(ctap.StatusOperationDenied)
		}
		to.AlwaysUV = !to.AlwaysUV
	case ctap.ConfigSetMinPINLength:
		return nil, a.setMinPINLength(r)
	case ctap.ConfigEnableLongTouchForReset: // §6.11.5
		to.LongTouchForReset = true
	case ctap.ConfigVendorPrototype:
		return nil, a.vendorPrototype(r)
	}
	return nil, a.state.configure(to)
}

// authorizeConfig is step 4.
func (a *Authenticator) authorizeConfig(r *configRequest) error {
	if r.pinUVAuthParam == nil {
		return refusal(ctap.StatusPUATRequired)
	}
	if r.pinUVAuthProtocol == nil {
		return refusal(ctap.StatusMissingParameter)
	}
	p, ok := a.protocol(*r.pinUVAuthProtocol)
	if !ok {
		return refusal(ctap.StatusInvalidParameter)
	}
	prefix := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdConfig, byte(*r.subCommand))
	if !a.authenticate(p, r.pinUVAuthParam, prefix, r.subCommandParams).can(ctap.PermissionAuthenticatorConfig) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	return nil
}

// setMinPINLength is the subcommand of that name (§6.11.4). All of it happens or
// nothing.
func (a *Authenticator) setMinPINLength(r *configRequest) error {
	to, known := a.state.settings, a.state.pin
	// Step 2.
	if r.minPINLengthRPIDs != nil && !a.takesMinPINLengthRPIDs() {
		return refusal(ctap.StatusInvalidParameter)
	}
	// Steps 1 and 3. That a minimum above maxPINLength would leave no PIN to
	// set goes without saying.
	if r.newMinPINLength != nil {
		n := *r.newMinPINLength
		if n < uint64(to.MinPINLength) || n > uint64(a.cfg.MaxPINLength) {
			return refusal(ctap.StatusPINPolicyViolation)
		}
		to.MinPINLength = int(n)
	}
	// Step 4.
	if isTrue(r.forceChangePIN) {
		if !a.pinSet() {
			return refusal(ctap.StatusPINNotSet)
		}
		known.ForceChange = true
	}
	// Step 5. A policy is never lifted, and without the member of getInfo it is
	// none that a platform can turn on.
	if isTrue(r.pinComplexityPolicy) && a.hasPINComplexityPolicy() {
		to.PINComplexityPolicy = true
	}
	// Step 8.
	if len(r.minPINLengthRPIDs) > a.cfg.MaxRPIDsForSetMinPINLength {
		return refusal(ctap.StatusKeyStoreFull)
	}
	if len(r.minPINLengthRPIDs) > 0 {
		to.MinPINLengthRPIDs = r.minPINLengthRPIDs
	}
	// Steps 5 and 6.
	if a.pinSet() && (known.CodePointLength < to.MinPINLength || to.PINComplexityPolicy && known.Trivial) {
		known.ForceChange = true
	}
	if !known.ForceChange {
		return a.state.configure(to)
	}
	// Step 7.
	pinRec, err := known.record()
	if err != nil {
		return err
	}
	if err := a.state.configure(to, pinRec, newPersistentToken()); err != nil {
		return err
	}
	a.stopUsingToken()
	return nil
}

// takesMinPINLengthRPIDs reports whether there is an extension whose output the
// relying parties in minPinLengthRPIDs get.
func (a *Authenticator) takesMinPINLengthRPIDs() bool {
	return a.has(minPINLengthID) || a.has(pinComplexityPolicyID)
}

// vendorPrototype is the subcommand of that name (§6.11.3).
func (a *Authenticator) vendorPrototype(r *configRequest) error {
	if r.vendorCommandID == nil {
		return refusal(ctap.StatusMissingParameter)
	}
	if !slices.Contains(a.cfg.VendorConfigCommands, *r.vendorCommandID) {
		return refusal(ctap.StatusInvalidSubcommand)
	}
	if a.cfg.VendorConfig != nil {
		if status := a.cfg.VendorConfig(*r.vendorCommandID, bytes.Clone(r.subCommandParams)); status != ctap.StatusOK {
			return refusal(status)
		}
	}
	return nil
}
