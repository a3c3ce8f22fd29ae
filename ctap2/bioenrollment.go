package ctap2

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// A Fingerprint is a finger that the key knows (§6.7, "TemplateInfo").
type Fingerprint struct {
	TemplateID   []byte
	FriendlyName string // for people; empty if it has none
}

// A Modality is a way to verify a user that can be enrolled (§6.7.2).
type Modality uint8

// ModalityFingerprint is the only modality there is.
const ModalityFingerprint Modality = ctap.BioModalityFingerprint

// A FingerprintKind is how a sensor wants to be used (§6.7.3).
type FingerprintKind uint8

// Kinds of sensors.
const (
	FingerprintTouch FingerprintKind = ctap.BioFingerprintKindTouch
	FingerprintSwipe FingerprintKind = ctap.BioFingerprintKindSwipe
)

// FingerprintSensorInfo is what getFingerprintSensorInfo answers (§6.7.3).
type FingerprintSensorInfo struct {
	Kind FingerprintKind
	// MaxCaptureSamplesRequiredForEnroll is how many good samples a finger
	// takes at most.
	MaxCaptureSamplesRequiredForEnroll int
	// MaxTemplateFriendlyName is the longest FriendlyName in bytes; 0 if the key
	// does not say.
	MaxTemplateFriendlyName int
}

// An EnrollFingerprintRequest enrolls a finger. Zero values mean "absent".
type EnrollFingerprintRequest struct {
	FriendlyName string
	// Timeout is how long the key waits for each sample, in milliseconds on the
	// wire; 0 leaves it to the key.
	Timeout time.Duration
	Token   *Token // with permission be; nil: obtained
}

// A SetFriendlyNameRequest names a finger.
type SetFriendlyNameRequest struct {
	TemplateID   []byte
	FriendlyName string
	Token        *Token // with permission be; nil: obtained
}

// A RemoveEnrollmentRequest says which finger to forget.
type RemoveEnrollmentRequest struct {
	TemplateID []byte
	Token      *Token // with permission be; nil: obtained
}

// SampleFeedback is what became of one sample.
type SampleFeedback struct {
	Authenticator *Authenticator // the key that took it
	TemplateID    []byte         // of the finger that is being enrolled
	Status        SampleStatus
	Remaining     int // good samples that are still needed
}

// A SampleStatus says whether a sample was good, or what was wrong with it
// (§6.7, lastEnrollSampleStatus). Values without a name are kept as they came.
type SampleStatus uint8

// Statuses of samples.
const (
	SampleGood                 SampleStatus = ctap.BioSampleGood
	SampleTooHigh              SampleStatus = ctap.BioSampleTooHigh
	SampleTooLow               SampleStatus = ctap.BioSampleTooLow
	SampleTooLeft              SampleStatus = ctap.BioSampleTooLeft
	SampleTooRight             SampleStatus = ctap.BioSampleTooRight
	SampleTooFast              SampleStatus = ctap.BioSampleTooFast
	SampleTooSlow              SampleStatus = ctap.BioSampleTooSlow
	SamplePoorQuality          SampleStatus = ctap.BioSamplePoorQuality
	SampleTooSkewed            SampleStatus = ctap.BioSampleTooSkewed
	SampleTooShort             SampleStatus = ctap.BioSampleTooShort
	SampleMergeFailure         SampleStatus = ctap.BioSampleMergeFailure
	SampleExists               SampleStatus = ctap.BioSampleExists
	SampleNoUserActivity       SampleStatus = ctap.BioSampleNoUserActivity
	SampleNoUserPresenceChange SampleStatus = ctap.BioSampleNoUserPresenceChange
)

var sampleTexts = map[SampleStatus]string{
	SampleGood:                 "good",
	SampleTooHigh:              "too high: lift, and try again further down",
	SampleTooLow:               "too low: lift, and try again further up",
	SampleTooLeft:              "too far to the left: lift, and try again further right",
	SampleTooRight:             "too far to the right: lift, and try again further left",
	SampleTooFast:              "too fast: lift, and try again more slowly",
	SampleTooSlow:              "too slow: lift, and try again faster",
	SamplePoorQuality:          "not clear: wipe the finger and the sensor, and try again",
	SampleTooSkewed:            "crooked: lift, and try again straight",
	SampleTooShort:             "too short: lift, and try again for longer",
	SampleMergeFailure:         "not like the samples before: try again with the same finger",
	SampleExists:               "the key knows this finger already: take another",
	SampleNoUserActivity:       "nobody touched the sensor: try again",
	SampleNoUserPresenceChange: "the finger was not lifted: lift it, and touch again",
}

// String says it in words for the person whose finger it is.
func (s SampleStatus) String() string {
	if text, ok := sampleTexts[s]; ok {
		return text
	}
	return fmt.Sprintf("not good (%#02x): lift, and try again", uint8(s))
}

const (
	// maxSamples bounds how many samples one enrollment takes, good and bad:
	// sensors want a dozen good ones.
	maxSamples = math.MaxUint8
	// maxIdleSamples is how often in a row nobody may touch the sensor.
	maxIdleSamples = 5
	// samplePreviewFull is what a sample was in the preview of the command when
	// there is no room for the finger. CTAP 2.1 has a status of the command.
	samplePreviewFull SampleStatus = 0x0C
	// enrollmentGrace is how long a key has to finish with an enrollment after
	// the caller has given it up.
	enrollmentGrace = 2 * time.Second
)

// GetModality asks what can be enrolled (§6.7.2). It returns ErrUnsupported if
// the key lacks the command.
func (a *Authenticator) GetModality(ctx context.Context) (Modality, error) {
	var modality Modality
	err := a.bioEnrollment(ctx, func(c *ceremony, command byte) error {
		reply, err := c.exchangeBio(command, &bioEnrollmentParameters{GetModality: true})
		if err != nil {
			return err
		}
		if reply.modality == 0 {
			return malformed(command, noMember("modality"))
		}
		modality = reply.modality
		return nil
	})
	return modality, err
}

// GetFingerprintSensorInfo asks what the sensor is like (§6.7.3). It returns
// ErrUnsupported if the key lacks the command.
func (a *Authenticator) GetFingerprintSensorInfo(ctx context.Context) (*FingerprintSensorInfo, error) {
	var info *FingerprintSensorInfo
	err := a.bioEnrollment(ctx, func(c *ceremony, command byte) (err error) {
		info, err = c.fingerprintSensorInfo(command)
		return err
	})
	return info, err
}

// EnrollFingerprint teaches the key a finger (§6.7.4). The key takes sample
// after sample, each with a touch (TouchEnrollment), until it has enough;
// Interaction.Sample hears what became of each. A bad sample, and one that
// nobody came to give, is no error but taken again; when nobody came five times
// in a row the error wraps ErrUserActionTimeout. A key without room answers
// ErrFPDatabaseFull. A FriendlyName that is longer than the key takes is refused
// with ErrInvalidRequest before the first touch.
//
// When ctx ends, or something goes wrong on the way, the key is told to drop
// what it has of the finger, for which it has two seconds more, and the error
// wraps context.Cause(ctx). If the key had all it needs by then, the finger is
// enrolled and returned as if nothing had happened. Should it then not take the
// name, the Fingerprint is returned along with that error, without a name. A key
// may end the token with the enrollment: the name is then sent once more under
// another one, unless the Token is the caller's.
//
// As all methods that change fingerprints it returns ErrUnsupported if the key
// lacks the command, ErrNotSetUp if it has no PIN yet, and what Token returns.
func (a *Authenticator) EnrollFingerprint(ctx context.Context, r *EnrollFingerprintRequest) (*Fingerprint, error) {
	switch {
	case r == nil:
		return nil, invalid("no EnrollFingerprintRequest")
	case r.Timeout < 0 || r.Timeout > math.MaxUint32*time.Millisecond:
		return nil, invalid("Timeout %v", r.Timeout)
	case !utf8.ValidString(r.FriendlyName):
		return nil, invalid("FriendlyName is not UTF-8")
	}
	milliseconds := uint32((r.Timeout + time.Millisecond - 1) / time.Millisecond) // 0 would mean none
	var fingerprint *Fingerprint
	err := a.bioEnrollment(ctx, func(c *ceremony, command byte) error {
		if r.FriendlyName != "" {
			reply, err := c.bioSubcommand(command, ctap.BioGetFingerprintSensorInfo, nil, nil)
			switch {
			case errors.Is(err, ErrInvalidSubcommand), errors.Is(err, ErrMalformed):
				reply = new(bioEnrollmentReply) // what it takes shows when it gets the name
			case err != nil:
				return err
			}
			if limit := reply.maxName; limit > 0 && len(r.FriendlyName) > limit {
				return invalid("FriendlyName of %d bytes, the key takes %d", len(r.FriendlyName), limit)
			}
		}
		var failed error
		err := c.authorized(PermissionBioEnrollment, "", r.Token, func(t *Token) error {
			e := &enrollment{c: c, command: command, token: t, held: r.Token != nil, timeout: milliseconds}
			if err := e.begin(); err != nil {
				return err
			}
			// From here on nothing is begun anew with another token: the person
			// has given samples.
			fingerprint, failed = e.finish(r.FriendlyName)
			return nil
		})
		if err != nil {
			return err
		}
		return failed
	})
	return fingerprint, err
}

// EnumerateEnrollments lists the fingers that the key knows (§6.7.6): none is no
// error. Without a token, which may be nil, one with permission be is obtained.
func (a *Authenticator) EnumerateEnrollments(ctx context.Context, token *Token) ([]Fingerprint, error) {
	var list []Fingerprint
	err := a.manageFingerprints(ctx, token, func(c *ceremony, command byte, t *Token) error {
		reply, err := c.bioSubcommand(command, ctap.BioEnumerateEnrollments, nil, t)
		if errors.Is(err, ErrInvalidOption) { // §6.7.6: nothing is enrolled
			return nil
		}
		if err != nil {
			return err
		}
		if reply.templateInfos == nil {
			return malformed(command, noMember("templateInfos"))
		}
		list = reply.templateInfos
		return nil
	})
	return list, err
}

// SetFriendlyName names a finger (§6.7.7); an empty name takes the old one
// away, on keys that accept it.
// If the key does not know the finger the error wraps ErrInvalidOption;
// ErrInvalidLength, if the name is too long for it.
func (a *Authenticator) SetFriendlyName(ctx context.Context, r *SetFriendlyNameRequest) error {
	switch {
	case r == nil:
		return invalid("no SetFriendlyNameRequest")
	case len(r.TemplateID) == 0:
		return invalid("no TemplateID")
	case !utf8.ValidString(r.FriendlyName):
		return invalid("FriendlyName is not UTF-8")
	}
	return a.manageFingerprints(ctx, r.Token, func(c *ceremony, command byte, t *Token) error {
		return c.setFriendlyName(command, r.TemplateID, r.FriendlyName, t)
	})
}

func (c *ceremony) setFriendlyName(command byte, templateID []byte, name string, t *Token) error {
	_, err := c.bioSubcommand(command, ctap.BioSetFriendlyName,
		&bioSubcommandParameters{TemplateID: templateID, FriendlyName: &name}, t)
	if name != "" {
		err = meaning(err, ErrInvalidLength, "the name of %d bytes is too long for the key", len(name))
	}
	return meaning(err, ErrInvalidOption, unknownFingerprint)
}

// unknownFingerprint is what INVALID_OPTION means of a templateId (§6.7.7,
// §6.7.8).
const unknownFingerprint = "the key does not know this fingerprint"

// RemoveEnrollment makes the key forget a finger (§6.7.8). If it does not know
// it the error wraps ErrInvalidOption.
func (a *Authenticator) RemoveEnrollment(ctx context.Context, r *RemoveEnrollmentRequest) error {
	switch {
	case r == nil:
		return invalid("no RemoveEnrollmentRequest")
	case len(r.TemplateID) == 0:
		return invalid("no TemplateID")
	}
	return a.manageFingerprints(ctx, r.Token, func(c *ceremony, command byte, t *Token) error {
		a.stale.Store(true) // what the Info says of uv and bioEnroll
		_, err := c.bioSubcommand(command, ctap.BioRemoveEnrollment,
			&bioSubcommandParameters{TemplateID: r.TemplateID}, t)
		return meaning(err, ErrInvalidOption, unknownFingerprint)
	})
}

// bioEnrollment runs what takes no token, or more than one command, with the
// command byte that the key knows.
func (a *Authenticator) bioEnrollment(ctx context.Context, run func(c *ceremony, command byte) error) error {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	command, err := c.info.bioEnrollmentCommand()
	if err != nil {
		return err
	}
	return run(c, command)
}

func (a *Authenticator) manageFingerprints(ctx context.Context, held *Token, run func(c *ceremony, command byte, t *Token) error) error {
	return a.bioEnrollment(ctx, func(c *ceremony, command byte) error {
		return c.authorized(PermissionBioEnrollment, "", held, func(t *Token) error { return run(c, command, t) })
	})
}

// bioEnrollmentCommand returns the command byte that the key knows. Its options
// are there as soon as fingers can be enrolled, and true when one is.
func (i *Info) bioEnrollmentCommand() (byte, error) {
	switch {
	case i.optionKnown(OptionBioEnroll):
		return ctap.CmdBioEnrollment, nil
	case i.optionKnown(OptionUserVerificationMgmtPreview):
		return ctap.CmdBioEnrollmentPreview, nil
	}
	return 0, fmt.Errorf("ctap2: %w: no bio enrollment", ErrUnsupported)
}

// An enrollment is one finger on its way into the key.
type enrollment struct {
	c       *ceremony
	command byte
	token   *Token
	held    bool   // the token is the caller's
	timeout uint32 // milliseconds

	templateID []byte
	last       SampleStatus
	remaining  int
}

// begin takes the first sample.
func (e *enrollment) begin() error {
	e.c.a.stale.Store(true) // what the Info says of uv and bioEnroll
	err := e.capture(ctap.BioEnrollBegin)
	var refused *Error
	if err != nil && (e.templateID != nil || e.c.ctx.Err() != nil || !errors.As(err, &refused)) {
		e.abandon() // the key may have begun all the same
	}
	return err
}

// finish takes the others, and names the finger unless name is empty.
func (e *enrollment) finish(name string) (*Fingerprint, error) {
	if err := e.captureRemaining(); err != nil {
		e.abandon()
		return nil, err
	}
	f := &Fingerprint{TemplateID: e.templateID}
	if name == "" {
		return f, nil
	}
	ctx, cancel := graceful(e.c.ctx)
	defer cancel(nil)
	err := e.under(ctx, func() error { return e.name(name) })
	if err == nil {
		f.FriendlyName = name
	}
	return f, err
}

// name names the finger, and once more under another token if the key has ended
// the enrollment's with it.
func (e *enrollment) name(name string) error {
	set := func(t *Token) error { return e.c.setFriendlyName(e.command, e.templateID, name, t) }
	err := set(e.token)
	if e.held || !errors.Is(err, ErrPINAuthInvalid) {
		return err
	}
	e.c.forgetSecret()
	t, err := e.c.token(PermissionBioEnrollment, "")
	if err != nil {
		return err
	}
	defer t.Wipe()
	return set(t)
}

func (e *enrollment) captureRemaining() error {
	idle := 0
	for samples := 1; ; samples++ {
		if e.last == SampleNoUserActivity {
			idle++
		} else {
			idle = 0
		}
		switch {
		case e.remaining == 0:
			return nil
		case e.c.ctx.Err() != nil:
			return fmt.Errorf("ctap2: enrollment: %w", context.Cause(e.c.ctx))
		case idle == maxIdleSamples:
			return &Error{Command: e.command, Subcommand: ctap.BioEnrollCaptureNextSample, Status: ErrUserActionTimeout}
		case samples == maxSamples:
			return malformed(e.command, fmt.Errorf("%w: %d samples, and %d more", ErrMalformed, samples, e.remaining))
		}
		if err := e.capture(ctap.BioEnrollCaptureNextSample); err != nil {
			return err
		}
	}
}

// capture takes one sample and tells the person how it went.
func (e *enrollment) capture(subcommand byte) error {
	p := &bioSubcommandParameters{TemplateID: e.templateID, TimeoutMilliseconds: e.timeout}
	if subcommand == ctap.BioEnrollBegin && e.timeout == 0 {
		p = nil
	}
	reply, err := e.c.bioSubcommand(e.command, subcommand, p, e.token)
	if subcommand == ctap.BioEnrollCaptureNextSample && errors.Is(err, ErrUserActionTimeout) {
		// Some keys have no sample to say it of.
		idle := SampleNoUserActivity
		reply, err = &bioEnrollmentReply{lastStatus: &idle, remaining: &e.remaining}, nil
	}
	if err != nil {
		return err
	}
	switch {
	case subcommand == ctap.BioEnrollBegin && len(reply.templateID) == 0:
		return malformed(e.command, noMember("templateId"))
	case reply.lastStatus == nil:
		return malformed(e.command, noMember("lastEnrollSampleStatus"))
	case reply.remaining == nil:
		return malformed(e.command, noMember("remainingSamples"))
	}
	if subcommand == ctap.BioEnrollBegin {
		e.templateID = reply.templateID
	}
	if e.command == ctap.CmdBioEnrollmentPreview && *reply.lastStatus == samplePreviewFull {
		return &Error{Command: e.command, Subcommand: subcommand, Status: ErrFPDatabaseFull}
	}
	e.last, e.remaining = *reply.lastStatus, *reply.remaining
	if sample := e.c.a.interaction.Sample; sample != nil {
		sample(SampleFeedback{Authenticator: e.c.a, TemplateID: e.templateID, Status: e.last, Remaining: e.remaining})
	}
	return nil
}

// abandon tells the key to drop the finger (§6.7.5). A key that does not answer
// drops it when the next one is enrolled.
func (e *enrollment) abandon() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.c.ctx), enrollmentGrace)
	defer cancel()
	_ = e.under(ctx, func() error {
		_, err := e.c.bioSubcommand(e.command, ctap.BioCancelCurrentEnrollment, nil, nil)
		return err
	})
}

// under runs what has to be said to the key also when the caller's context has
// ended.
func (e *enrollment) under(ctx context.Context, run func() error) error {
	caller := e.c.ctx
	defer func() { e.c.ctx = caller }()
	e.c.ctx = ctx
	return run()
}

// graceful returns a context that outlives another by enrollmentGrace, and then
// ends for the same cause.
func graceful(caller context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	stop := context.AfterFunc(caller, func() {
		select {
		case <-time.After(enrollmentGrace):
			cancel(context.Cause(caller))
		case <-ctx.Done():
		}
	})
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// bioEnrollmentParameters is the request of authenticatorBioEnrollment (§6.7).
type bioEnrollmentParameters struct {
	Modality       Modality        `cbor:"1,keyasint,omitempty"`
	Subcommand     byte            `cbor:"2,keyasint,omitempty"`
	Parameters     cbor.RawMessage `cbor:"3,keyasint,omitempty"`
	Protocol       pin.Protocol    `cbor:"4,keyasint,omitempty"`
	PINUVAuthParam []byte          `cbor:"5,keyasint,omitempty"`
	GetModality    bool            `cbor:"6,keyasint,omitempty"`
}

// bioSubcommandParameters is its subCommandParams.
type bioSubcommandParameters struct {
	TemplateID          []byte  `cbor:"1,keyasint,omitempty"`
	FriendlyName        *string `cbor:"2,keyasint,omitempty"` // an empty one takes a name away
	TimeoutMilliseconds uint32  `cbor:"3,keyasint,omitempty"`
}

// bioEnrollmentReply is its reply. Absent members are nil, or 0 where that is
// no value.
type bioEnrollmentReply struct {
	modality      Modality
	kind          FingerprintKind
	maxSamples    *int
	templateID    []byte
	lastStatus    *SampleStatus
	remaining     *int
	templateInfos []Fingerprint
	maxName       int
}

func (c *ceremony) fingerprintSensorInfo(command byte) (*FingerprintSensorInfo, error) {
	reply, err := c.bioSubcommand(command, ctap.BioGetFingerprintSensorInfo, nil, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case reply.kind == 0:
		return nil, malformed(command, noMember("fingerprintKind"))
	case reply.maxSamples == nil:
		return nil, malformed(command, noMember("maxCaptureSamplesRequiredForEnroll"))
	}
	return &FingerprintSensorInfo{reply.kind, *reply.maxSamples, reply.maxName}, nil
}

// bioSubcommand sends a subcommand for fingerprints with parameters unless nil,
// authenticated with t unless nil: over modality, subcommand, and parameters as
// they are sent.
func (c *ceremony) bioSubcommand(command, subcommand byte, p *bioSubcommandParameters, t *Token) (*bioEnrollmentReply, error) {
	request := &bioEnrollmentParameters{Modality: ModalityFingerprint, Subcommand: subcommand}
	if p != nil {
		encoded, err := cbor.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
		}
		request.Parameters = encoded
	}
	if t != nil {
		request.Protocol = t.protocol
		request.PINUVAuthParam = t.Authenticate([]byte{byte(ModalityFingerprint), subcommand}, request.Parameters)
	}
	return c.exchangeBio(command, request)
}

func (c *ceremony) exchangeBio(command byte, p *bioEnrollmentParameters) (*bioEnrollmentReply, error) {
	body, err := c.send(command, p.Subcommand, p, TouchEnrollment)
	if err != nil {
		return nil, err
	}
	reply := new(bioEnrollmentReply)
	if len(body) == 0 { // cancelCurrentEnrollment and others have no output
		return reply, nil
	}
	d := cbor.NewCursor(body, c.a.rules)
	for key := range d.IntMap() {
		switch key {
		case 0x01:
			reply.modality = Modality(d.UintMax(math.MaxUint8))
		case 0x02:
			reply.kind = FingerprintKind(d.UintMax(math.MaxUint8))
		case 0x03:
			n := int(d.UintMax(maxSamples))
			reply.maxSamples = &n
		case 0x04:
			reply.templateID = d.Bytes()
		case 0x05:
			s := SampleStatus(d.UintMax(math.MaxUint8))
			reply.lastStatus = &s
		case 0x06:
			n := int(d.UintMax(maxSamples))
			reply.remaining = &n
		case 0x07:
			reply.templateInfos, err = readFingerprints(d)
		case 0x08:
			reply.maxName = int(d.UintMax(math.MaxInt32))
		}
		if err != nil {
			return nil, malformed(command, err)
		}
	}
	if d.Err() != nil {
		return nil, malformed(command, d.Err())
	}
	return reply, nil
}

func readFingerprints(d *cbor.Cursor) ([]Fingerprint, error) {
	list := make([]Fingerprint, 0, d.Len())
	for range d.Array() {
		var f Fingerprint
		for key := range d.IntMap() {
			switch key {
			case 0x01:
				f.TemplateID = d.Bytes()
			case 0x02:
				f.FriendlyName = d.Text()
			}
		}
		if d.Err() == nil && len(f.TemplateID) == 0 {
			return nil, fmt.Errorf("templateInfos: %w", noMember("templateId"))
		}
		list = append(list, f)
	}
	return list, nil
}
