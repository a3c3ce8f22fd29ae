package conformance

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of bioEnrollment.
const bioModality, bioSub, bioParams, bioProtocol, bioParam, bioGetModality = 1, 2, 3, 4, 5, 6

// sampleTimeout is the timeoutMilliseconds of every sample: how long the finger
// may take.
const sampleTimeout = 10 * time.Second

func bioRequest(number int, params members) members {
	m := members{bioModality: ctap.BioModalityFingerprint, bioSub: number}
	if params != nil {
		m[bioParams] = params
	}
	return m
}

// enrolls is an authenticator with a PIN at which fingers can be enrolled.
var enrolls = withPIN.and(bioEnroll)

func bioGate(prepare func(x *trial) members) gate {
	return gate{
		command: ctap.CmdBioEnrollment, param: bioParam, protocol: bioProtocol,
		request: prepare,
		message: func(m members) []byte {
			modality, _ := m[bioModality].(int)
			return append([]byte{byte(modality)}, sub(m, bioSub)...)
		},
		permission: ctap2.PermissionBioEnrollment, other: ctap2.PermissionCredentialManagement,
		setup: enrolls,
	}
}

var (
	bioBegin = bioGate(func(*trial) members {
		return bioRequest(ctap.BioEnrollBegin, members{3: int(sampleTimeout / time.Millisecond)})
	})
	bioNext = bioGate(func(x *trial) members { return nextSample(x.enrollBegin()) })
	bioList = bioGate(func(x *trial) members {
		x.enroll()
		return bioRequest(ctap.BioEnumerateEnrollments, nil)
	})
	bioRename = bioGate(func(x *trial) members {
		return naming(x.enroll(), "left thumb")
	})
	bioRemove = bioGate(func(x *trial) members { return removal(x.enroll()) })
)

func nextSample(template []byte) members {
	return bioRequest(ctap.BioEnrollCaptureNextSample, members{1: template, 3: int(sampleTimeout / time.Millisecond)})
}

func naming(template []byte, name string) members {
	return bioRequest(ctap.BioSetFriendlyName, members{1: template, 2: name})
}

func removal(template []byte) members {
	return bioRequest(ctap.BioRemoveEnrollment, members{1: template})
}

// A bioAnswer is an answer of bioEnrollment. What is absent is nil.
type bioAnswer struct {
	Modality   *uint64        `cbor:"1,keyasint"`
	Kind       *uint64        `cbor:"2,keyasint"`
	MaxSamples *uint64        `cbor:"3,keyasint"`
	Template   []byte         `cbor:"4,keyasint"`
	Status     *uint64        `cbor:"5,keyasint"`
	Remaining  *uint64        `cbor:"6,keyasint"`
	Templates  []templateInfo `cbor:"7,keyasint"`
	MaxName    *uint64        `cbor:"8,keyasint"`
}

type templateInfo struct {
	ID   []byte  `cbor:"1,keyasint"`
	Name *string `cbor:"2,keyasint"`
}

// sample sends enrollBegin or enrollCaptureNextSample, which must have an answer
// that is whole.
func (x *trial) sample(request members) bioAnswer {
	var answer bioAnswer
	x.read(ctap.CmdBioEnrollment, bioBegin.sign(request, x.hold(bioBegin.permission, "")), &answer)
	if answer.Status == nil || answer.Remaining == nil {
		x.fatalf("the answer to a sample lacks lastEnrollSampleStatus or remainingSamples")
	}
	return answer
}

// begin is enrollBegin.
func (x *trial) begin() bioAnswer {
	first := x.sample(bioBegin.request(x))
	if len(first.Template) == 0 {
		x.fatalf("enrollBegin answers without templateId")
	}
	return first
}

// enrollBegin begins an enrolment that is not complete with that, and returns its
// templateId.
func (x *trial) enrollBegin() []byte {
	first := x.begin()
	if *first.Remaining == 0 {
		x.skip("one sample is enough")
	}
	return first.Template
}

// mostSamples is how many a finger may take: more than any reader wants.
const mostSamples = 50

// enroll goes through with an enrolment.
func (x *trial) enroll() []byte {
	first := x.begin()
	x.finish(first)
	return first.Template
}

// finish gives the samples that an enrolment still takes.
func (x *trial) finish(first bioAnswer) {
	status, remaining := *first.Status, *first.Remaining
	for n := 1; remaining > 0; n++ {
		if status == ctap.BioSampleExists {
			x.skip("the reader does not take the same finger twice")
		}
		if n == mostSamples {
			x.fatalf("%d samples were not enough", n)
		}
		next := x.sample(nextSample(first.Template))
		status, remaining = *next.Status, *next.Remaining
	}
}

// templates is enumerateEnrollments.
func (x *trial) templates() []templateInfo {
	m := bioList.sign(bioRequest(ctap.BioEnumerateEnrollments, nil), x.hold(bioList.permission, ""))
	if err := x.command(ctap.CmdBioEnrollment, m); errors.Is(err, ctap2.ErrInvalidOption) {
		return nil // there is none
	}
	var answer bioAnswer
	x.read(ctap.CmdBioEnrollment, m, &answer)
	return answer.Templates
}

// template is the entry of one of templates; nil: it is not listed.
func (x *trial) template(id []byte) *templateInfo {
	all := x.templates()
	at := slices.IndexFunc(all, func(t templateInfo) bool { return bytes.Equal(t.ID, id) })
	if at < 0 {
		return nil
	}
	return &all[at]
}

// wantEnrolled compares the options that tell whether a finger is enrolled.
func (x *trial) wantEnrolled(want bool) {
	o := x.fresh().Options
	for _, name := range []string{ctap2.OptionUserVerification, ctap2.OptionBioEnroll} {
		if got, ok := o[name]; !ok || got != want {
			x.errorf("option %s is not %t", name, want)
		}
	}
}

// sensor is getFingerprintSensorInfo.
func (x *trial) sensor(command byte) bioAnswer {
	var answer bioAnswer
	x.read(command, bioRequest(ctap.BioGetFingerprintSensorInfo, nil), &answer)
	return answer
}

// longestName is maxTemplateFriendlyName.
func (x *trial) longestName() int {
	most := x.sensor(ctap.CmdBioEnrollment).MaxName
	if most == nil || *most == 0 || *most > 1024 {
		x.fatalf("maxTemplateFriendlyName is missing, or no length that can be")
	}
	return int(*most)
}

func (d *drivers) bioEnrollment() {
	harmless := plain.and(bioEnroll).inAnyState().leavesNoTrace()
	d.malformed("bio", harmless, ctap.CmdBioEnrollment)
	d.wrongTypes("bio", bioBegin, map[string]edit{
		"modality":            set(bioModality, "fingerprint"),
		"subCommand":          set(bioSub, "enrollBegin"),
		"subCommandParams":    set(bioParams, []any{}),
		"pinUvAuthProtocol":   set(bioProtocol, "two"),
		"pinUvAuthParam":      set(bioParam, "param"),
		"getModality":         set(bioGetModality, 1),
		"timeoutMilliseconds": param(bioParams, 3, "10 s"),
	})
	d.wrongTypes("bio", bioRemove, map[string]edit{"templateId": param(bioParams, 1, "thumb")})
	d.wrongTypes("bio", bioRename, map[string]edit{"templateFriendlyName": param(bioParams, 2, []byte("thumb"))})
	bare := func(id string, s setup, m members) {
		d.add(id, s, func(x *trial) error { return x.command(ctap.CmdBioEnrollment, m) })
	}
	sensor := bioRequest(ctap.BioGetFingerprintSensorInfo, nil)
	bare("bio-unsupported", plain.and(not(bioEnroll, "has bioEnroll"), from21).inAnyState().leavesNoTrace(), sensor)
	bare("bio-nothing", harmless, members{bioModality: 1})
	bare("bio-unknown-subcommand", harmless, bioRequest(8, nil))
	bare("bio-modality", harmless, members{bioGetModality: true})
	bare("bio-sensor-other-modality", harmless, edited(bioRequest(ctap.BioGetFingerprintSensorInfo, nil), []edit{set(bioModality, 2)}))
	bare("bio-sensor", harmless, sensor)
	bare("bio-unprotected", plain.and(bioEnroll), bioRequest(ctap.BioEnrollBegin, nil))
	bare("bio-cancel-nothing", harmless, bioRequest(ctap.BioCancelCurrentEnrollment, nil))
	for prefix, g := range map[string]gate{
		"bio-begin": bioBegin, "bio-next": bioNext, "bio-list": bioList, "bio-rename": bioRename, "bio-remove": bioRemove,
	} {
		d.gated(prefix, g)
	}
	for prefix, g := range map[string]gate{"bio-begin": bioBegin, "bio-rename": bioRename, "bio-remove": bioRemove} {
		d.alone(prefix, g)
	}
	d.change("bio-missing-modality", bioBegin, drop(bioModality))
	d.change("bio-other-modality", bioBegin, set(bioModality, 2))
	d.changeAfter("bio-begin-param-of-other", bioBegin, param(bioParams, 3, 20000))
	d.add("bio-begin-full", enrolls, func(x *trial) error {
		// Nothing says how many fingers there is room for.
		const most = 20
		for range most {
			request := bioBegin.request(x)
			if err := bioBegin.signed(x, request); err != nil {
				return err
			}
			x.enroll() // which begins anew
		}
		x.skip("there is room for %d fingers and more", most)
		return nil
	})
	d.add("bio-begin-again", enrolls, func(x *trial) error {
		x.enrollBegin()
		return bioBegin.signed(x, bioBegin.request(x))
	})
	// feedback begins an enrolment, and wants a status of the sample.
	feedback := func(id string, s setup, g Gesture, right func(status uint64) bool) {
		d.add(id, s.person(g), func(x *trial) error {
			m := bioBegin.good(x)
			x.person(g)
			answer, err := x.ask(ctap.CmdBioEnrollment, m)
			if err == nil {
				if status, ok := answer[5].(uint64); !ok || !right(status) {
					x.errorf("lastEnrollSampleStatus is %v", answer[5])
				}
			}
			return err
		})
	}
	feedback("bio-begin-poor", enrolls, PoorSample, func(status uint64) bool {
		return status != ctap.BioSampleGood && status != ctap.BioSampleNoUserActivity
	})
	feedback("bio-begin-timeout", enrolls.waits(sampleTimeout), NoTouch, func(status uint64) bool {
		return status == ctap.BioSampleNoUserActivity
	})
	for id, g := range map[string]gate{"bio-begin-cancelled": bioBegin, "bio-next-cancelled": bioNext} {
		d.add(id, enrolls.person(NoTouch), func(x *trial) error {
			m := g.good(x)
			x.cancel()
			return x.command(g.command, m)
		})
	}
	d.change("bio-next-missing-templateId", bioNext, noParam(bioParams, 1))
	d.change("bio-next-other", bioNext, param(bioParams, 1, []byte("nobody's")))
	d.add("bio-next-without-begin", enrolls, func(x *trial) error { return bioNext.signed(x, nextSample([]byte("nobody's"))) })
	cancel := bioRequest(ctap.BioCancelCurrentEnrollment, nil)
	d.add("bio-next-after-cancel", enrolls, func(x *trial) error {
		template := x.enrollBegin()
		x.must(x.command(ctap.CmdBioEnrollment, cancel))
		return bioNext.signed(x, nextSample(template))
	})
	d.add("bio-next-complete", enrolls, func(x *trial) error { return bioNext.signed(x, nextSample(x.enroll())) })
	d.add("bio-cancel", enrolls, func(x *trial) error {
		x.enrollBegin()
		return x.command(ctap.CmdBioEnrollment, cancel)
	})
	d.add("bio-list-empty", enrolls, func(x *trial) error {
		return x.command(ctap.CmdBioEnrollment, bioList.sign(bioRequest(ctap.BioEnumerateEnrollments, nil),
			x.pinToken(ctap2.PermissionBioEnrollment, "")))
	})
	d.change("bio-rename-unknown", bioRename, param(bioParams, 1, []byte("nobody's")))
	d.add("bio-rename-too-long", enrolls, func(x *trial) error {
		return bioRename.signed(x, naming(x.enroll(), strings.Repeat("x", x.longestName()+1)))
	})
	d.change("bio-rename-missing-templateId", bioRename, noParam(bioParams, 1))
	d.change("bio-rename-missing-name", bioRename, noParam(bioParams, 2))
	d.change("bio-remove-unknown", bioRemove, param(bioParams, 1, []byte("nobody's")))
	d.change("bio-remove-missing-templateId", bioRemove, noParam(bioParams, 1))
	d.add("bio-remove-last", enrolls.and(builtInUV), func(x *trial) error {
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.must(bioRemove.signed(x, bioRemove.request(x)))
		return x.mc(set(mcOptions, fields{"uv": true}))
	})
	d.enrollments()
	d.enrolledFingers()
	d.bioEnrollmentPreview()
}

// byPIN has hold use the PIN, where a finger that is enrolled would be in the
// way.
func (x *trial) byPIN(permissions ctap2.Permission) {
	x.held[permissions] = x.pinToken(permissions, "")
}

// enrollments adds what happens while a finger is enrolled.
func (d *drivers) enrollments() {
	harmless := plain.and(bioEnroll).inAnyState().leavesNoTrace()
	d.require("bio-modality-fingerprint", harmless, func(x *trial) {
		var answer bioAnswer
		x.read(ctap.CmdBioEnrollment, members{bioGetModality: true}, &answer)
		if answer.Modality == nil || *answer.Modality != ctap.BioModalityFingerprint {
			x.errorf("modality is not 1")
		}
	})
	d.require("bio-sensor-info", harmless, func(x *trial) {
		answer := x.sensor(ctap.CmdBioEnrollment)
		if answer.Kind == nil || *answer.Kind != ctap.BioFingerprintKindTouch && *answer.Kind != ctap.BioFingerprintKindSwipe {
			x.errorf("fingerprintKind is neither 1 nor 2")
		}
		if answer.MaxSamples == nil || *answer.MaxSamples == 0 || *answer.MaxSamples > mostSamples {
			x.errorf("maxCaptureSamplesRequiredForEnroll is missing, or no number that can be")
		}
		x.longestName()
	})
	d.require("bio-remaining", enrolls, func(x *trial) {
		most := x.sensor(ctap.CmdBioEnrollment).MaxSamples
		if most == nil {
			x.fatalf("maxCaptureSamplesRequiredForEnroll is missing")
		}
		first := x.begin()
		left := *most
		for answer, n := first, 1; ; answer, n = x.sample(nextSample(first.Template)), n+1 {
			if n == mostSamples {
				x.fatalf("%d samples were not enough", n)
			}
			good := *answer.Status == ctap.BioSampleGood
			if good && *answer.Remaining >= left || !good && *answer.Remaining > left {
				x.fatalf("remainingSamples is %d after lastEnrollSampleStatus %d, and was %d", *answer.Remaining, *answer.Status, left)
			}
			if left = *answer.Remaining; left == 0 {
				return
			}
		}
	})
	d.require("bio-remaining-poor", enrolls.person(PoorSample), func(x *trial) {
		first := x.begin()
		if *first.Remaining == 0 {
			x.skip("one sample is enough")
		}
		x.person(PoorSample)
		if poor := x.sample(nextSample(first.Template)); *poor.Remaining != *first.Remaining {
			x.errorf("remainingSamples is %d after a poor sample, and was %d", *poor.Remaining, *first.Remaining)
		}
		x.person(Touch)
		x.finish(first)
		if x.template(first.Template) == nil {
			x.errorf("the template is not listed")
		}
	})
	d.require("bio-remaining-nobody", enrolls.person(NoTouch).waits(sampleTimeout), func(x *trial) {
		first := x.begin()
		if *first.Remaining == 0 {
			x.skip("one sample is enough")
		}
		x.person(NoTouch)
		if nobody := x.sample(nextSample(first.Template)); *nobody.Remaining != *first.Remaining {
			x.errorf("remainingSamples is %d after no sample, and was %d", *nobody.Remaining, *first.Remaining)
		}
		x.person(Touch)
		x.finish(first)
	})
	d.require("bio-enrolled", enrolls, func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.wantEnrolled(false)
		first := x.begin()
		if *first.Remaining > 0 {
			x.wantEnrolled(false)
			if x.template(first.Template) != nil {
				x.errorf("the template is listed before the last sample")
			}
		}
		x.finish(first)
		x.wantEnrolled(true)
		if x.template(first.Template) == nil {
			x.errorf("the template is not listed after the last sample")
		}
	})
	// dropped begins an enrolment of which nothing must be left.
	dropped := func(id string, s setup, live func(x *trial)) {
		d.require(id, s, func(x *trial) {
			x.byPIN(ctap2.PermissionBioEnrollment)
			template := x.enrollBegin()
			live(x)
			x.wantEnrolled(false)
			if len(x.templates()) != 0 {
				x.errorf("a template is listed")
			}
			if bioNext.signed(x, nextSample(template)) == nil {
				x.errorf("the enrolment goes on")
			}
		})
	}
	dropped("bio-cancel-drops", enrolls, func(x *trial) {
		x.must(x.command(ctap.CmdBioEnrollment, bioRequest(ctap.BioCancelCurrentEnrollment, nil)))
	})
	dropped("bio-power-cycle-drops", enrolls.powerCycle(), func(x *trial) {
		x.powerCycle()
		x.byPIN(ctap2.PermissionBioEnrollment)
	})
	d.require("bio-begin-drops", enrolls, func(x *trial) {
		first := x.enrollBegin()
		second := x.begin()
		if bytes.Equal(first, second.Template) {
			x.errorf("another enrolment has the same templateId")
		}
		if bioNext.signed(x, nextSample(first)) == nil {
			x.errorf("the first enrolment goes on")
		}
		x.finish(second)
		if x.template(first) != nil {
			x.errorf("the template of the first is listed")
		}
		if x.template(second.Template) == nil {
			x.errorf("the template of the second is not listed")
		}
	})
}

// enrolledFingers adds what becomes of templates.
func (d *drivers) enrolledFingers() {
	d.require("bio-two", enrolls, func(x *trial) {
		first, second := x.enroll(), x.enroll()
		if bytes.Equal(first, second) {
			x.errorf("two templates have the same templateId")
		}
		if x.template(first) == nil || x.template(second) == nil {
			x.errorf("one of two templates is not listed")
		}
	})
	d.require("bio-verifies", enrolls.and(permissions), func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.enroll()
		token, err := x.key.Token(x.ctx, &ctap2.TokenRequest{
			Permissions: ctap2.PermissionGetAssertion, RPID: "example.com", Method: ctap2.UVMethod,
		})
		x.must(err)
		token.Wipe()
	})
	name := func(x *trial, id []byte, want string) {
		if t := x.template(id); t == nil || text(t.Name) != want {
			x.errorf("the template is not listed with the name %q", want)
		}
	}
	d.require("bio-rename-listed", enrolls, func(x *trial) {
		template := x.enroll()
		for _, want := range []string{"left", "right"} {
			x.must(bioRename.signed(x, naming(template, want)))
			name(x, template, want)
		}
	})
	d.require("bio-rename-one", enrolls, func(x *trial) {
		first, second := x.enroll(), x.enroll()
		x.must(bioRename.signed(x, naming(first, "left")))
		x.must(bioRename.signed(x, naming(second, "right")))
		name(x, first, "left")
		name(x, second, "right")
	})
	d.require("bio-rename-longest", enrolls, func(x *trial) {
		template := x.enroll()
		want := strings.Repeat("x", x.longestName())
		x.must(bioRename.signed(x, naming(template, want)))
		name(x, template, want)
	})
	d.require("bio-rename-refused", enrolls, func(x *trial) {
		template := x.enroll()
		x.must(bioRename.signed(x, naming(template, "left")))
		if bioRename.signed(x, naming(template, strings.Repeat("x", x.longestName()+1))) == nil {
			x.errorf("a name that is too long is taken")
		}
		name(x, template, "left")
	})
	d.require("bio-power-cycle", enrolls.powerCycle(), func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		template := x.enroll()
		x.must(bioRename.signed(x, naming(template, "left")))
		x.powerCycle()
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.wantEnrolled(true)
		name(x, template, "left")
	})
	d.require("bio-remove-one", enrolls, func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		first, second := x.enroll(), x.enroll()
		x.must(bioRemove.signed(x, removal(first)))
		x.wantEnrolled(true)
		if x.template(first) != nil {
			x.errorf("the template that was removed is listed")
		}
		if x.template(second) == nil {
			x.errorf("the other template is not listed")
		}
	})
	d.require("bio-remove-options", enrolls, func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		template := x.enroll()
		x.must(bioRemove.signed(x, removal(template)))
		x.wantEnrolled(false)
		if x.templates() != nil {
			x.errorf("a template is listed")
		}
	})
	d.require("bio-remove-again", enrolls, func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.must(bioRemove.signed(x, removal(x.enroll())))
		if x.template(x.enroll()) == nil {
			x.errorf("the finger cannot be enrolled again")
		}
	})
	d.require("bio-reset", enrolls.powerCycle(), func(x *trial) {
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.enroll()
		x.reset()
		x.must(x.key.SetPIN(x.ctx, pin.FromString(x.pin())))
		x.byPIN(ctap2.PermissionBioEnrollment)
		x.wantEnrolled(false)
		if x.templates() != nil {
			x.errorf("a template is listed after a reset")
		}
	})
}

// bioEnrollmentPreview adds the rows of the prototype, with tokens that know no
// permissions, and what it has in common with the final command.
func (d *drivers) bioEnrollmentPreview() {
	has := option(ctap2.OptionUserVerificationMgmtPreview)
	old := withPIN.and(prototype, has)
	row := func(id string, s setup, m members, edits ...edit) {
		d.add("pre-bio-"+id, s, func(x *trial) error {
			return x.command(ctap.CmdBioEnrollmentPreview, edited(bioBegin.sign(m, x.legacyToken()), edits))
		})
	}
	begin := bioBegin.request(nil)
	row("begin", old, begin)
	row("no-param", old, begin, drop(bioParam))
	row("param-wrong", old, begin, func(m members) { m[bioParam].([]byte)[5] ^= 0x10 })
	row("empty", old, bioRequest(ctap.BioEnumerateEnrollments, nil))
	sensor := bioRequest(ctap.BioGetFingerprintSensorInfo, nil)
	bare := func(id string, s setup, command byte) {
		d.add("pre-bio-"+id, s.inAnyState(), func(x *trial) error { return x.command(command, sensor) })
	}
	bare("sensor", plain.and(prototype, has).leavesNoTrace(), ctap.CmdBioEnrollmentPreview)
	bare("final", plain.and(prototype, has, absent(ctap2.OptionBioEnroll)).leavesNoTrace(), ctap.CmdBioEnrollment)
	// 0x40 is a vendor command, and may be another one than the prototype's.
	bare("on-final", plain.and(bioEnroll, absent(ctap2.OptionUserVerificationMgmtPreview)), ctap.CmdBioEnrollmentPreview)

	d.require("pre-bio-sensor-info", plain.and(has).inAnyState().leavesNoTrace(), func(x *trial) {
		answer := x.sensor(ctap.CmdBioEnrollmentPreview)
		if answer.Kind == nil || *answer.Kind != ctap.BioFingerprintKindTouch && *answer.Kind != ctap.BioFingerprintKindSwipe {
			x.errorf("fingerprintKind is neither 1 nor 2")
		}
		if answer.MaxSamples == nil || *answer.MaxSamples == 0 || *answer.MaxSamples > mostSamples {
			x.errorf("maxCaptureSamplesRequiredForEnroll is missing, or no number that can be")
		}
	})
	d.require("pre-bio-same", plain.and(has, bioEnroll).inAnyState().leavesNoTrace(), func(x *trial) {
		old, final := x.sensor(ctap.CmdBioEnrollmentPreview), x.sensor(ctap.CmdBioEnrollment)
		if !bytes.Equal(x.encoded(old), x.encoded(final)) {
			x.errorf("getFingerprintSensorInfo is answered otherwise than by the final command")
		}
	})
	d.require("pre-bio-enrolls", withPIN.and(has), func(x *trial) {
		token := func() *ctap2.Token {
			if permissions.holds(x.info) {
				return x.pinToken(ctap2.PermissionBioEnrollment, "")
			}
			return x.legacyToken()
		}()
		send := func(m members) (answer bioAnswer) {
			x.read(ctap.CmdBioEnrollmentPreview, bioBegin.sign(m, token), &answer)
			return answer
		}
		first := send(begin)
		for answer, n := first, 1; answer.Remaining == nil || *answer.Remaining > 0; n++ {
			if answer.Remaining == nil || n == mostSamples {
				x.fatalf("remainingSamples is missing, or %d samples were not enough", n)
			}
			answer = send(nextSample(first.Template))
		}
		if all := send(bioRequest(ctap.BioEnumerateEnrollments, nil)).Templates; len(all) != 1 || !bytes.Equal(all[0].ID, first.Template) {
			x.errorf("%d templates are listed, must be the one", len(all))
		}
		if !x.fresh().Options[ctap2.OptionUserVerificationMgmtPreview] {
			x.errorf("option userVerificationMgmtPreview is not true")
		}
		x.must(x.command(ctap.CmdBioEnrollmentPreview, bioBegin.sign(removal(first.Template), token)))
		if x.fresh().Options[ctap2.OptionUserVerificationMgmtPreview] {
			x.errorf("option userVerificationMgmtPreview is true without a template")
		}
	})
}
