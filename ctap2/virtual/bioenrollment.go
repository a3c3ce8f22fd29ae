package virtual

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// Members of the answer to bioEnrollment (§6.7).
const (
	bioModality                = 0x01
	bioFingerprintKind         = 0x02
	bioMaxCaptureSamples       = 0x03 // maxCaptureSamplesRequiredForEnroll
	bioTemplateID              = 0x04
	bioLastSampleStatus        = 0x05 // lastEnrollSampleStatus
	bioRemainingSamples        = 0x06
	bioTemplateInfos           = 0x07
	bioMaxTemplateFriendlyName = 0x08
)

// Members of one of templateInfos, and of subCommandParams.
const (
	templateID           = 0x01
	templateFriendlyName = 0x02
	timeoutMilliseconds  = 0x03
)

const templateIDLength = 8

// How many bytes the answer of enumerateEnrollments takes beyond the names: for
// each fingerprint, and for all together.
const (
	templateInfoOverhead  = 20
	templateInfosOverhead = 64
)

// defaultFingerprints sets how many fingerprints there can be, and how long their
// names, as far as that is open. There is one answer for the whole list: where
// messages are short, it is names that get shorter, down to 16 bytes.
func (c *Config) defaultFingerprints() {
	room := c.MaxMsgSize - templateInfosOverhead
	set(&c.Fingerprints, min(max(room/(16+templateInfoOverhead), 1), 5))
	set(&c.MaxTemplateFriendlyName, min(max(room/c.Fingerprints-templateInfoOverhead, 1), 64))
}

// A fingerprint is one that is enrolled.
type fingerprint struct {
	id       []byte
	name     string // empty if it has none
	enrolled uint64 // counts up
}

// fingerprintRecord is how a fingerprint is stored.
type fingerprintRecord struct {
	Name     string `cbor:"1,keyasint,omitempty"`
	Enrolled uint64 `cbor:"2,keyasint"`
}

func (f fingerprint) record() (record, error) {
	value, err := cbor.Marshal(fingerprintRecord{f.name, f.enrolled})
	return record{Kind: kindFingerprint, Key: f.id, Value: value}, err
}

// applyFingerprint brings the list of fingerprints, which is in the order in
// which they were enrolled, up to a record.
func (s *state) applyFingerprint(rec record) error {
	s.fingerprints = slices.DeleteFunc(s.fingerprints, func(f fingerprint) bool { return bytes.Equal(f.id, rec.Key) })
	if rec.Value == nil {
		return nil
	}
	var r fingerprintRecord
	if err := cbor.Unmarshal(rec.Value, &r); err != nil {
		return fmt.Errorf("fingerprint: %w", err)
	}
	f := fingerprint{bytes.Clone(rec.Key), r.Name, r.Enrolled}
	at, _ := slices.BinarySearchFunc(s.fingerprints, f, func(a, b fingerprint) int { return cmp.Compare(a.enrolled, b.enrolled) })
	s.fingerprints = slices.Insert(s.fingerprints, at, f)
	return nil
}

// newFingerprint returns one without a name that comes behind all others.
func (s *state) newFingerprint(id []byte) fingerprint {
	f := fingerprint{id: id, enrolled: 1}
	if n := len(s.fingerprints); n > 0 {
		f.enrolled = s.fingerprints[n-1].enrolled + 1
	}
	return f
}

// storeFingerprint writes a fingerprint down. It refuses one for which there is
// no room.
func (s *state) storeFingerprint(f fingerprint) error {
	rec, err := f.record()
	if err != nil {
		return err
	}
	err = s.commit(rec)
	if errors.Is(err, errJournalFull) {
		return refusal(ctap.StatusFPDatabaseFull)
	}
	return err
}

// An enrollment is that of a fingerprint, under way. Commands may come between
// its samples: unlike the stateful commands of §6 it ends with one of its own,
// with the last sample, or with power.
type enrollment struct {
	templateID []byte
	remaining  int // good samples that are still to come
}

// managesFingerprints reports whether it is platforms that enrol and remove
// fingerprints: there is a reader, and a token to do it with, be it that nobody
// is enrolled, for which it takes a PIN. The token of getPinToken is good for it
// on keys that know no permissions, and on no others.
func (c *Config) managesFingerprints() bool {
	if c.BuiltInUV == UVNone || c.NoBioEnrollment || c.NoClientPIN {
		return false
	}
	return c.Level == CTAP21PRE || c.Level >= CTAP21 && !c.NoPINUVAuthToken
}

// bioEnrollmentRequest is the parameters of bioEnrollment (§6.7). What is absent
// is nil.
type bioEnrollmentRequest struct {
	modality          *uint64         // 0x01
	subCommand        *uint64         // 0x02
	subCommandParams  cbor.RawMessage // 0x03
	pinUVAuthProtocol *uint64         // 0x04
	pinUVAuthParam    []byte          // 0x05
	getModality       *bool           // 0x06

	// What is in subCommandParams.
	templateID          []byte
	friendlyName        *string
	timeoutMilliseconds uint64
}

func parseBioEnrollment(params []byte) (*bioEnrollmentRequest, error) {
	d, err := parameters(params)
	if err != nil {
		return nil, err
	}
	r := new(bioEnrollmentRequest)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			r.modality = d.optionalUint()
		case 0x02:
			r.subCommand = d.optionalUint()
		case 0x03:
			r.subCommandParams = d.rawMap()
		case 0x04:
			r.pinUVAuthProtocol = d.optionalUint()
		case 0x05:
			r.pinUVAuthParam = d.Bytes()
		case 0x06:
			r.getModality = d.optionalBool()
		}
	}
	d.require(r.subCommand != nil || isTrue(r.getModality))
	if err := d.end(); err != nil || r.subCommandParams == nil {
		return r, err
	}
	d = inputDecoder(r.subCommandParams)
	for key := range d.IntMap() {
		switch key {
		case templateID:
			r.templateID = d.Bytes()
		case templateFriendlyName:
			r.friendlyName = d.optionalText()
		case timeoutMilliseconds:
			r.timeoutMilliseconds = d.Uint()
		}
	}
	return r, d.end()
}

// bioEnrollment is authenticatorBioEnrollment (§6.7), and its prototype (§6.12),
// which is no different.
func (a *Authenticator) bioEnrollment(op *operation, params []byte) (reply, error) {
	option := optionBioEnroll
	if op.command == ctap.CmdBioEnrollmentPreview {
		option = optionUVMgmtPreview
	}
	if _, supported := a.options()[option]; !supported {
		return nil, refusal(ctap.StatusInvalidCommand)
	}
	r, err := parseBioEnrollment(params)
	if err != nil {
		return nil, err
	}
	if isTrue(r.getModality) {
		return reply{bioModality: ctap.BioModalityFingerprint}, nil // §6.7.2
	}
	switch sub := *r.subCommand; sub {
	case ctap.BioEnrollBegin, ctap.BioEnrollCaptureNextSample, ctap.BioEnumerateEnrollments, ctap.BioSetFriendlyName, ctap.BioRemoveEnrollment:
		if err := a.authorizeBioEnrollment(r); err != nil {
			return nil, err
		}
		return a.enrollments(op, r)
	case ctap.BioGetFingerprintSensorInfo: // §6.7.3
		if r.modality != nil && *r.modality != ctap.BioModalityFingerprint {
			return nil, refusal(ctap.StatusInvalidParameter)
		}
		return reply{
			bioFingerprintKind:         uint(a.cfg.FingerprintKind),
			bioMaxCaptureSamples:       a.cfg.FingerprintSamples,
			bioMaxTemplateFriendlyName: a.cfg.MaxTemplateFriendlyName,
		}, nil
	case ctap.BioCancelCurrentEnrollment: // §6.7.5
		a.volatile.enrollment = nil
		return nil, nil
	}
	return nil, refusal(ctap.StatusInvalidSubcommand)
}

// authorizeBioEnrollment is the steps that the subcommands with a pinUvAuthParam
// begin with (§6.7.4, §6.7.6 to §6.7.8), in the order that they share.
func (a *Authenticator) authorizeBioEnrollment(r *bioEnrollmentRequest) error {
	sub := *r.subCommand
	if r.pinUVAuthParam == nil {
		return refusal(ctap.StatusPUATRequired)
	}
	needsTemplate := sub == ctap.BioEnrollCaptureNextSample || sub == ctap.BioSetFriendlyName || sub == ctap.BioRemoveEnrollment
	if r.modality == nil || r.pinUVAuthProtocol == nil || needsTemplate && r.templateID == nil ||
		sub == ctap.BioSetFriendlyName && r.friendlyName == nil {
		return refusal(ctap.StatusMissingParameter)
	}
	p, ok := a.protocol(*r.pinUVAuthProtocol)
	if !ok || *r.modality != ctap.BioModalityFingerprint {
		return refusal(ctap.StatusInvalidParameter)
	}
	if sub == ctap.BioSetFriendlyName && len(*r.friendlyName) > a.cfg.MaxTemplateFriendlyName {
		return refusal(ctap.StatusInvalidLength)
	}
	if sub == ctap.BioEnumerateEnrollments {
		r.subCommandParams = nil // it has none: those that it is sent are ignored
	}
	prefix := []byte{ctap.BioModalityFingerprint, byte(sub)}
	if !a.authenticate(p, r.pinUVAuthParam, prefix, r.subCommandParams).can(ctap.PermissionBioEnrollment) {
		return refusal(ctap.StatusPINAuthInvalid)
	}
	return nil
}

// enrollments carries out what a token was needed for.
func (a *Authenticator) enrollments(op *operation, r *bioEnrollmentRequest) (reply, error) {
	switch *r.subCommand {
	case ctap.BioEnrollBegin:
		return a.enrollBegin(op, r)
	case ctap.BioEnrollCaptureNextSample:
		return a.enrollCaptureNextSample(op, r)
	case ctap.BioEnumerateEnrollments:
		return a.enumerateEnrollments()
	}
	at := slices.IndexFunc(a.state.fingerprints, func(f fingerprint) bool { return bytes.Equal(f.id, r.templateID) })
	if at < 0 {
		return nil, refusal(ctap.StatusInvalidOption)
	}
	f := a.state.fingerprints[at]
	if *r.subCommand == ctap.BioRemoveEnrollment { // §6.7.8
		if err := a.state.commit(record{Kind: kindFingerprint, Key: f.id}); err != nil {
			return nil, err
		}
		if !a.protectedByUV() {
			// The user for whom it stands is gone.
			a.stopUsingToken()
		}
		return nil, nil
	}
	f.name = *r.friendlyName // §6.7.7
	return nil, a.state.storeFingerprint(f)
}

// enrollBegin is steps 6 to 10 of the subcommand (§6.7.4).
func (a *Authenticator) enrollBegin(op *operation, r *bioEnrollmentRequest) (reply, error) {
	if len(a.state.fingerprints) >= a.cfg.Fingerprints {
		return nil, refusal(ctap.StatusFPDatabaseFull)
	}
	a.volatile.enrollment = nil
	e := &enrollment{randomBytes(templateIDLength), a.cfg.FingerprintSamples}
	answer, err := a.enrollSample(op, e, r)
	if err != nil {
		return nil, err // and nobody ever knows the template
	}
	answer[bioTemplateID] = e.templateID
	return answer, nil
}

// enrollCaptureNextSample is the subcommand of that name (§6.7.4). The
// specification does not say what becomes of one for a template that is not
// being enrolled; the status is that of the other subcommands for a template
// that there is not.
func (a *Authenticator) enrollCaptureNextSample(op *operation, r *bioEnrollmentRequest) (reply, error) {
	e := a.volatile.enrollment
	if e == nil || !bytes.Equal(e.templateID, r.templateID) {
		return nil, refusal(ctap.StatusInvalidOption)
	}
	return a.enrollSample(op, e, r)
}

// enrollSample captures a sample and counts it. The last one that is needed
// enrols the fingerprint.
func (a *Authenticator) enrollSample(op *operation, e *enrollment, r *bioEnrollmentRequest) (reply, error) {
	status, err := a.capture(op, e.remaining, r.timeoutMilliseconds)
	if err != nil {
		return nil, err
	}
	remaining := e.remaining
	if status == SampleGood {
		remaining--
	}
	a.volatile.enrollment = e
	if remaining == 0 {
		if err := a.state.storeFingerprint(a.state.newFingerprint(e.templateID)); err != nil {
			return nil, err
		}
		a.volatile.enrollment = nil
	}
	e.remaining = remaining
	return reply{bioLastSampleStatus: uint(status), bioRemainingSamples: remaining}, nil
}

// enumerateEnrollments is the subcommand of that name (§6.7.6).
func (a *Authenticator) enumerateEnrollments() (reply, error) {
	if len(a.state.fingerprints) == 0 {
		return nil, refusal(ctap.StatusInvalidOption)
	}
	var infos []reply
	for _, f := range a.state.fingerprints {
		info := reply{templateID: f.id}
		if f.name != "" {
			info[templateFriendlyName] = f.name
		}
		infos = append(infos, info)
	}
	return reply{bioTemplateInfos: infos}, nil
}
