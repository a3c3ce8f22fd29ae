package ctap2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// Members of credentialManagement and authenticatorConfig, which have the same
// ones, and of bioEnrollment, where they are one further on.
const subCommand, subParams, subProtocol, subParam = 1, 2, 3, 4

// sub is the subcommand of a request and its parameters, as pinUvAuthParam
// covers them.
func sub(m members, at int) []byte {
	number, _ := m[at].(int)
	message := []byte{byte(number)}
	if params, ok := m[at+1]; ok {
		encoded, err := cbor.Marshal(params)
		if err != nil {
			return nil
		}
		message = append(message, encoded...)
	}
	return message
}

// subcommand is a request of a subcommand with parameters, unless nil.
func subcommand(number int, params members) members {
	m := members{subCommand: number}
	if params != nil {
		m[subParams] = params
	}
	return m
}

func cmGate(prepare func(x *trial) members) gate {
	return gate{
		command: ctap.CmdCredentialManagement, param: subParam, protocol: subProtocol,
		request:    prepare,
		message:    func(m members) []byte { return sub(m, subCommand) },
		permission: ctap2.PermissionCredentialManagement, other: ctap2.PermissionLargeBlobWrite,
		config: withPIN,
	}
}

func rpIDHash(rpID string) []byte {
	sum := sha256.Sum256([]byte(rpID))
	return sum[:]
}

func descriptor(id []byte) fields { return fields{"type": "public-key", "id": id} }

var grace = fields{"id": []byte{1, 2, 3}, "name": "grace"}

var (
	cmMeta = cmGate(func(*trial) members { return subcommand(ctap.CredMgmtGetCredsMetadata, nil) })
	cmRPs  = cmGate(func(x *trial) members {
		x.create()
		return subcommand(ctap.CredMgmtEnumerateRPsBegin, nil)
	})
	cmCreds = cmGate(func(x *trial) members {
		x.create()
		return subcommand(ctap.CredMgmtEnumerateCredentialsBegin, members{1: rpIDHash("example.com")})
	})
	cmDelete = cmGate(func(x *trial) members { return deletion(x.create()) })
	cmUpdate = cmGate(func(x *trial) members { return renaming(x.create()) })
)

func deletion(id []byte) members {
	return subcommand(ctap.CredMgmtDeleteCredential, members{2: descriptor(id)})
}

func renaming(id []byte) members {
	return subcommand(ctap.CredMgmtUpdateUserInformation, members{2: descriptor(id), 3: grace})
}

// param changes a member of subCommandParams.
func param(at, key int, value any) edit {
	return func(m members) {
		params := maps.Clone(m[at].(members))
		params[key] = value
		m[at] = params
	}
}

// noParam removes one.
func noParam(at, key int) edit {
	return func(m members) {
		params := maps.Clone(m[at].(members))
		delete(params, key)
		m[at] = params
	}
}

// change adds a row of a gate whose request is changed before it is signed.
func (d *drivers) change(id string, g gate, config virtual.Config, edits ...edit) {
	d.add(id, config, func(x *trial) error { return g.signed(x, edited(g.request(x), edits)) })
}

// changeAfter adds one whose request is changed when it is signed.
func (d *drivers) changeAfter(id string, g gate, edits ...edit) {
	d.add(id, g.config, func(x *trial) error { return x.command(g.command, edited(g.good(x), edits)) })
}

func (d *drivers) credentialManagement() {
	plain := virtual.Config{}
	d.malformed("cm", plain, ctap.CmdCredentialManagement)
	d.wrongTypes("cm", cmMeta, map[string]edit{
		"subCommand":        set(subCommand, "getCredsMetadata"),
		"subCommandParams":  set(subParams, []any{}),
		"pinUvAuthProtocol": set(subProtocol, "two"),
		"pinUvAuthParam":    set(subParam, "param"),
	})
	d.wrongTypes("cm", cmCreds, map[string]edit{"rpIDHash": param(subParams, 1, "hash")})
	d.wrongTypes("cm", cmDelete, map[string]edit{"credentialID": param(subParams, 2, []byte{1})})
	d.wrongTypes("cm", cmUpdate, map[string]edit{"user": param(subParams, 3, []byte{1})})
	bare := func(id string, config virtual.Config, command byte, m members) {
		d.add(id, config, func(x *trial) error { return x.command(command, m) })
	}
	meta := subcommand(ctap.CredMgmtGetCredsMetadata, nil)
	bare("cm-unsupported", virtual.Config{NoCredentialManagement: true}, ctap.CmdCredentialManagement, meta)
	bare("cm-missing-subCommand", plain, ctap.CmdCredentialManagement, members{})
	bare("cm-unknown-subcommand", plain, ctap.CmdCredentialManagement, subcommand(8, nil))
	bare("cm-unprotected", plain, ctap.CmdCredentialManagement, meta)

	for prefix, g := range map[string]gate{
		"cm-meta": cmMeta, "cm-rps": cmRPs, "cm-creds": cmCreds, "cm-delete": cmDelete, "cm-update": cmUpdate,
	} {
		d.gated(prefix, g)
		d.add(prefix+"-bound", g.config, func(x *trial) error {
			return x.command(g.command, g.sign(g.request(x), x.token(g.permission, "example.com")))
		})
		d.add(prefix+"-param-of-sub", g.config, func(x *trial) error {
			m := g.request(x)
			number := m[subCommand]
			m[subCommand] = 3 - number.(int)%2 // another one
			m = g.sign(m, x.hold(g.permission, ""))
			m[subCommand] = number
			return x.command(g.command, m)
		})
	}
	for prefix, g := range map[string]gate{"cm-creds": cmCreds, "cm-delete": cmDelete, "cm-update": cmUpdate} {
		d.change(prefix+"-missing-params", g, g.config, drop(subParams))
		d.changeAfter(prefix+"-param-of-other", g, param(subParams, 0x77, 1))
	}
	for prefix, request := range map[string]func(id []byte) members{"cm-delete": deletion, "cm-update": renaming} {
		bound := func(id, rpID string, known bool) {
			d.add(prefix+"-"+id, withPIN, func(x *trial) error {
				credential := x.create()
				if !known {
					credential = random(16)
				}
				return x.command(cmMeta.command, cmMeta.sign(request(credential), x.token(cmMeta.permission, rpID)))
			})
		}
		bound("bound-other", "example.org", true)
		bound("bound-unknown", "example.com", false)
		bound("unknown", "", false)
		d.add(prefix+"-not-rk", withPIN, func(x *trial) error { return cmMeta.signed(x, request(x.create(notResident))) })
	}
	d.add("cm-creds-bound-other", withPIN, func(x *trial) error {
		m := cmCreds.request(x)
		return x.command(cmCreds.command, cmCreds.sign(m, x.token(cmCreds.permission, "example.org")))
	})
	empty := func(id string, m members) {
		d.add(id, withPIN, func(x *trial) error { return cmMeta.signed(x, m) })
	}
	empty("cm-meta-empty", meta)
	empty("cm-rps-empty", subcommand(ctap.CredMgmtEnumerateRPsBegin, nil))
	d.change("cm-creds-unknown", cmCreds, withPIN, param(subParams, 1, rpIDHash("example.org")))
	d.change("cm-creds-missing-rpIDHash", cmCreds, withPIN, noParam(subParams, 1))
	d.change("cm-delete-missing-credentialID", cmDelete, withPIN, noParam(subParams, 2))
	d.change("cm-update-missing-credentialID", cmUpdate, withPIN, noParam(subParams, 2))
	d.change("cm-update-missing-user", cmUpdate, withPIN, noParam(subParams, 3))
	d.change("cm-update-other-user", cmUpdate, withPIN, param(subParams, 3, fields{"id": []byte{3, 2, 1}, "name": "grace"}))
	d.add("cm-delete-twice", withPIN, func(x *trial) error {
		m := cmDelete.request(x)
		x.must(cmDelete.signed(x, m))
		return cmDelete.signed(x, m)
	})
	d.add("cm-delete-asserts", withPIN, func(x *trial) error {
		credential := x.create()
		x.must(cmDelete.signed(x, deletion(credential)))
		return x.ga(set(gaAllowList, list(credential)))
	})

	d.enumeration("cm-next-rp", subcommand(ctap.CredMgmtEnumerateRPsBegin, nil), ctap.CredMgmtEnumerateRPsGetNextRP, at)
	d.enumeration("cm-next-cred", subcommand(ctap.CredMgmtEnumerateCredentialsBegin, members{1: rpIDHash("example.com")}),
		ctap.CredMgmtEnumerateCredentialsGetNext, account)
	d.add("cm-next-other", withPIN, func(x *trial) error {
		x.create()
		x.create(account("b"))
		x.must(cmMeta.signed(x, subcommand(ctap.CredMgmtEnumerateRPsBegin, nil)))
		return x.command(ctap.CmdCredentialManagement, subcommand(ctap.CredMgmtEnumerateCredentialsGetNext, nil))
	})
	d.persistentToken()

	// The prototype, with tokens that know no permissions.
	old := virtual.Config{Level: virtual.CTAP21PRE, PIN: thePIN}
	preview := func(id string, request func(x *trial) members, edits ...edit) {
		d.add("pre-cm-"+id, old, func(x *trial) error {
			m := request(x)
			return x.command(ctap.CmdCredentialManagementPreview, edited(cmMeta.sign(m, x.legacyToken()), edits))
		})
	}
	preview("meta", cmMeta.request)
	preview("no-param", cmMeta.request, drop(subParam))
	preview("param-wrong", cmMeta.request, func(m members) { m[subParam].([]byte)[5] ^= 0x10 })
	preview("empty", func(*trial) members { return subcommand(ctap.CredMgmtEnumerateRPsBegin, nil) })
	preview("delete", cmDelete.request)
	preview("next", func(*trial) members { return subcommand(ctap.CredMgmtEnumerateRPsGetNextRP, nil) })
	preview("update", cmUpdate.request)
	bare("pre-cm-final", old, ctap.CmdCredentialManagement, meta)
	bare("pre-cm-on-final", plain, ctap.CmdCredentialManagementPreview, meta)
}

// enumeration adds the rows of what goes on with what begin began.
func (d *drivers) enumeration(prefix string, begin members, next int, distinct func(string) func(*ctap2.MakeCredentialRequest)) {
	// of enumerates n of them.
	of := func(id string, n int, live func(x *trial, next func() error) error) {
		d.add(prefix+id, withPIN, func(x *trial) error {
			for i := range n {
				change := account(string(rune('a' + i)))
				x.create(at("example.com"), change, distinct([]string{"example.com", "example.org"}[i]))
			}
			ask := func() error { return x.command(ctap.CmdCredentialManagement, subcommand(next, nil)) }
			if n > 0 {
				x.must(cmMeta.signed(x, begin))
			}
			return live(x, ask)
		})
	}
	of("", 2, func(_ *trial, next func() error) error { return next() })
	of("-without-begin", 0, func(_ *trial, next func() error) error { return next() })
	of("-one", 1, func(_ *trial, next func() error) error { return next() })
	of("-exhausted", 2, func(x *trial, next func() error) error {
		x.must(next())
		return next()
	})
	of("-interleaved", 2, func(x *trial, next func() error) error {
		x.must(x.raw(ctap.CmdGetInfo, nil))
		return next()
	})
	of("-timer", 2, func(_ *trial, next func() error) error {
		time.Sleep(31 * time.Second)
		return next()
	})
	of("-power-cycle", 2, func(x *trial, next func() error) error {
		x.soft.PowerCycle()
		return next()
	})
	of("-token-expired", 2, func(x *trial, next func() error) error {
		time.Sleep((ctap.MaxTokenSeconds - 1) * time.Second)
		x.must(cmMeta.signed(x, begin))
		time.Sleep(2 * time.Second)
		return next()
	})
}

func (d *drivers) persistentToken() {
	pcmr := func(id string, g gate, live func(x *trial)) {
		g.permission, g.rpID, g.config = ctap2.PermissionPersistentCredentialManagement, "", withPIN
		d.add("pcmr-"+id, g.config, func(x *trial) error {
			m := g.good(x)
			live(x)
			return x.command(g.command, m)
		})
	}
	nothing := func(*trial) {}
	pcmr("meta", cmMeta, nothing)
	pcmr("rps", cmRPs, nothing)
	pcmr("creds", cmCreds, nothing)
	pcmr("delete", cmDelete, nothing)
	pcmr("update", cmUpdate, nothing)
	pcmr("mc", mcGate, nothing)
	pcmr("ga", gaGate, nothing)
	pcmr("power-cycle", cmMeta, func(x *trial) { x.soft.PowerCycle() })
	pcmr("late", cmMeta, func(x *trial) { time.Sleep(24 * time.Hour) })
	pcmr("other-token", cmMeta, func(x *trial) { x.token(ctap2.PermissionCredentialManagement, "") })
	pcmr("pin-changed", cmMeta, func(x *trial) {
		x.must(x.key.ChangePIN(x.ctx, pin.FromString(thePIN), pin.FromString("314159")))
	})
	pcmr("reset", cmMeta, func(x *trial) {
		x.must(x.raw(ctap.CmdReset, nil))
		x.must(x.key.SetPIN(x.ctx, pin.FromString(thePIN)))
	})
	wrong := cmMeta
	wrong.message = func(m members) []byte { return append(cmMeta.message(m), 0) }
	pcmr("param-wrong", wrong, nothing)
	d.add("pcmr-next-rp", withPIN, func(x *trial) error {
		x.create(at("example.org"))
		g := cmRPs
		g.permission = ctap2.PermissionPersistentCredentialManagement
		x.must(x.command(g.command, g.good(x)))
		return x.command(g.command, subcommand(ctap.CredMgmtEnumerateRPsGetNextRP, nil))
	})
}

// Members of bioEnrollment.
const bioModality, bioSub, bioParams, bioProtocol, bioParam, bioGetModality = 1, 2, 3, 4, 5, 6

func bioRequest(number int, params members) members {
	m := members{bioModality: ctap.BioModalityFingerprint, bioSub: number}
	if params != nil {
		m[bioParams] = params
	}
	return m
}

func bioGate(prepare func(x *trial) members) gate {
	return gate{
		command: ctap.CmdBioEnrollment, param: bioParam, protocol: bioProtocol,
		request: prepare,
		message: func(m members) []byte {
			modality, _ := m[bioModality].(int)
			return append([]byte{byte(modality)}, sub(m, bioSub)...)
		},
		permission: ctap2.PermissionBioEnrollment, other: ctap2.PermissionCredentialManagement,
		config: virtual.Config{PIN: thePIN, BuiltInUV: virtual.UVNotConfigured, FingerprintSamples: 2},
	}
}

var (
	bioBegin = bioGate(func(*trial) members { return bioRequest(ctap.BioEnrollBegin, members{3: 10000}) })
	bioNext  = bioGate(func(x *trial) members { return nextSample(x.enrollBegin()) })
	bioList  = bioGate(func(x *trial) members {
		x.enroll()
		return bioRequest(ctap.BioEnumerateEnrollments, nil)
	})
	bioRename = bioGate(func(x *trial) members {
		return bioRequest(ctap.BioSetFriendlyName, members{1: x.enroll(), 2: "left thumb"})
	})
	bioRemove = bioGate(func(x *trial) members { return bioRequest(ctap.BioRemoveEnrollment, members{1: x.enroll()}) })
)

func nextSample(template []byte) members {
	return bioRequest(ctap.BioEnrollCaptureNextSample, members{1: template, 3: 10000})
}

// enrollBegin begins an enrolment and returns its templateId.
func (x *trial) enrollBegin() []byte {
	x.Helper()
	answer, err := x.ask(ctap.CmdBioEnrollment, bioBegin.sign(bioBegin.request(x), x.hold(bioBegin.permission, "")))
	x.must(err)
	return answer[4].([]byte)
}

// enroll goes through with one.
func (x *trial) enroll() []byte {
	x.Helper()
	template := x.enrollBegin()
	x.must(bioNext.signed(x, nextSample(template)))
	return template
}

func (d *drivers) bioEnrollment() {
	config := bioBegin.config
	d.malformed("bio", config, ctap.CmdBioEnrollment)
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
	bare := func(id string, config virtual.Config, m members) {
		d.add(id, config, func(x *trial) error { return x.command(ctap.CmdBioEnrollment, m) })
	}
	bare("bio-unsupported", virtual.Config{}, bioRequest(ctap.BioGetFingerprintSensorInfo, nil))
	bare("bio-nothing", config, members{bioModality: 1})
	bare("bio-unknown-subcommand", config, bioRequest(8, nil))
	bare("bio-modality", config, members{bioGetModality: true})
	bare("bio-sensor-other-modality", config, edited(bioRequest(ctap.BioGetFingerprintSensorInfo, nil), []edit{set(bioModality, 2)}))
	bare("bio-sensor", config, bioRequest(ctap.BioGetFingerprintSensorInfo, nil))
	bare("bio-unprotected", virtual.Config{BuiltInUV: virtual.UVNotConfigured}, bioRequest(ctap.BioEnrollBegin, nil))
	bare("bio-cancel-nothing", config, bioRequest(ctap.BioCancelCurrentEnrollment, nil))
	for prefix, g := range map[string]gate{
		"bio-begin": bioBegin, "bio-next": bioNext, "bio-list": bioList, "bio-rename": bioRename, "bio-remove": bioRemove,
	} {
		d.gated(prefix, g)
	}
	d.change("bio-missing-modality", bioBegin, config, drop(bioModality))
	d.change("bio-other-modality", bioBegin, config, set(bioModality, 2))
	d.changeAfter("bio-begin-param-of-other", bioBegin, param(bioParams, 3, 20000))
	full := config
	full.Fingerprints, full.BuiltInUV = 1, virtual.UVConfigured
	d.change("bio-begin-full", bioBegin, full)
	d.add("bio-begin-again", config, func(x *trial) error {
		x.enrollBegin()
		return bioBegin.signed(x, bioBegin.request(x))
	})
	// feedback begins an enrolment, and wants a status of the sample.
	feedback := func(id string, finger func() virtual.Finger, want uint64) {
		d.add(id, config, func(x *trial) error {
			x.soft.SetFinger(finger())
			answer, err := x.ask(ctap.CmdBioEnrollment, bioBegin.good(x))
			if err == nil && answer[5] != want {
				x.Errorf("lastEnrollSampleStatus %v", answer[5])
			}
			return err
		})
	}
	feedback("bio-begin-poor", func() virtual.Finger { return virtual.Samples(virtual.SamplePoorQuality) }, ctap.BioSamplePoorQuality)
	feedback("bio-begin-timeout", func() virtual.Finger {
		return func(ctx context.Context, _ virtual.Prompt) virtual.SampleStatus {
			<-ctx.Done()
			return virtual.SampleNoUserActivity
		}
	}, ctap.BioSampleNoUserActivity)
	for id, g := range map[string]gate{"bio-begin-cancelled": bioBegin, "bio-next-cancelled": bioNext} {
		d.add(id, config, func(x *trial) error {
			m := g.good(x)
			x.cancel()
			return x.command(g.command, m)
		})
	}
	d.change("bio-next-missing-templateId", bioNext, config, noParam(bioParams, 1))
	d.change("bio-next-other", bioNext, config, param(bioParams, 1, []byte("nobody's")))
	d.add("bio-next-without-begin", config, func(x *trial) error { return bioNext.signed(x, nextSample([]byte("nobody's"))) })
	cancel := bioRequest(ctap.BioCancelCurrentEnrollment, nil)
	d.add("bio-next-after-cancel", config, func(x *trial) error {
		template := x.enrollBegin()
		x.must(x.command(ctap.CmdBioEnrollment, cancel))
		return bioNext.signed(x, nextSample(template))
	})
	d.add("bio-next-complete", config, func(x *trial) error { return bioNext.signed(x, nextSample(x.enroll())) })
	d.add("bio-cancel", config, func(x *trial) error {
		x.enrollBegin()
		return x.command(ctap.CmdBioEnrollment, cancel)
	})
	d.add("bio-list-empty", config, func(x *trial) error {
		return x.command(ctap.CmdBioEnrollment, bioList.sign(bioRequest(ctap.BioEnumerateEnrollments, nil),
			x.pinToken(ctap2.PermissionBioEnrollment, "")))
	})
	d.change("bio-rename-unknown", bioRename, config, param(bioParams, 1, []byte("nobody's")))
	d.change("bio-rename-too-long", bioRename, config, param(bioParams, 2, string(bytes.Repeat([]byte("x"), 65))))
	d.change("bio-rename-missing-templateId", bioRename, config, noParam(bioParams, 1))
	d.change("bio-rename-missing-name", bioRename, config, noParam(bioParams, 2))
	d.change("bio-remove-unknown", bioRemove, config, param(bioParams, 1, []byte("nobody's")))
	d.change("bio-remove-missing-templateId", bioRemove, config, noParam(bioParams, 1))
	d.add("bio-remove-last", config, func(x *trial) error {
		x.held[ctap2.PermissionBioEnrollment] = x.pinToken(ctap2.PermissionBioEnrollment, "")
		x.must(bioRemove.signed(x, bioRemove.request(x)))
		return x.mc(option("uv", true))
	})

	old := virtual.Config{Level: virtual.CTAP21PRE, PIN: thePIN, BuiltInUV: virtual.UVNotConfigured}
	preview := func(id string, m members, edits ...edit) {
		d.add("pre-bio-"+id, old, func(x *trial) error {
			return x.command(ctap.CmdBioEnrollmentPreview, edited(bioBegin.sign(m, x.legacyToken()), edits))
		})
	}
	begin := bioRequest(ctap.BioEnrollBegin, members{3: 10000})
	preview("begin", begin)
	preview("no-param", begin, drop(bioParam))
	preview("param-wrong", begin, func(m members) { m[bioParam].([]byte)[5] ^= 0x10 })
	preview("empty", bioRequest(ctap.BioEnumerateEnrollments, nil))
	sensor := bioRequest(ctap.BioGetFingerprintSensorInfo, nil)
	preview("sensor", sensor, drop(bioParam), drop(bioProtocol))
	bare("pre-bio-final", old, sensor)
	d.add("pre-bio-on-final", config, func(x *trial) error { return x.command(ctap.CmdBioEnrollmentPreview, sensor) })
}

// Members of largeBlobs.
const lbGet, lbSetFragment, lbOffset, lbLength, lbParam, lbProtocol = 1, 2, 3, 4, 5, 6

// withDigest is a serialized large-blob array, as far as a key can tell.
func withDigest(contents []byte) []byte {
	sum := sha256.Sum256(contents)
	return append(contents, sum[:ctap.LargeBlobDigestLength]...)
}

// fragment is a write at an offset; length is left out if it is 0.
func fragment(contents []byte, offset, length int) members {
	m := members{lbSetFragment: contents, lbOffset: offset}
	if length != 0 {
		m[lbLength] = length
	}
	return m
}

var lbSet = gate{
	command: ctap.CmdLargeBlobs, param: lbParam, protocol: lbProtocol,
	request: func(*trial) members {
		array := withDigest([]byte{0x80})
		return fragment(array, 0, len(array))
	},
	message: func(m members) []byte {
		contents, _ := m[lbSetFragment].([]byte)
		offset, _ := m[lbOffset].(int)
		message := append(bytes.Repeat([]byte{0xFF}, 32), ctap.CmdLargeBlobs, 0)
		message = binary.LittleEndian.AppendUint32(message, uint32(offset))
		sum := sha256.Sum256(contents)
		return append(message, sum[:]...)
	},
	permission: ctap2.PermissionLargeBlobWrite, other: ctap2.PermissionCredentialManagement,
	config: withPIN,
}

func (d *drivers) largeBlobs() {
	const maxMsgSize, most = 1200, 2048
	config := virtual.Config{MaxMsgSize: maxMsgSize, MaxSerializedLargeBlobArray: most}
	maxFragment := maxMsgSize - ctap.LargeBlobFragmentOverhead
	array := withDigest(bytes.Repeat([]byte("large blob"), 10))
	all := len(array)
	first, second := fragment(array[:60], 0, all), fragment(array[60:], 60, 0)

	d.malformed("lb", config, ctap.CmdLargeBlobs)
	d.wrongTypes("lb", lbSet, map[string]edit{
		"get":               set(lbGet, "all"),
		"set":               set(lbSetFragment, "array"),
		"offset":            set(lbOffset, "0"),
		"length":            set(lbLength, "17"),
		"pinUvAuthParam":    set(lbParam, "param"),
		"pinUvAuthProtocol": set(lbProtocol, "two"),
	})
	// sequence sends requests, of which all but the last succeed.
	sequence := func(id string, config virtual.Config, requests ...members) {
		d.add(id, config, func(x *trial) error {
			for _, m := range requests[:len(requests)-1] {
				x.must(x.command(ctap.CmdLargeBlobs, m))
			}
			return x.command(ctap.CmdLargeBlobs, requests[len(requests)-1])
		})
	}
	get := func(n, offset int, edits ...edit) members {
		return edited(members{lbGet: n, lbOffset: offset}, edits)
	}
	sequence("lb-unsupported", virtual.Config{Extensions: []string{"credProtect"}}, get(17, 0))
	sequence("lb-missing-offset", config, members{lbGet: 17})
	sequence("lb-neither", config, members{lbOffset: 0})
	sequence("lb-both", config, edited(fragment(array, 0, all), []edit{set(lbGet, 17)}))
	sequence("lb-get", config, get(17, 0))
	sequence("lb-get-length", config, get(17, 0, set(lbLength, 17)))
	sequence("lb-get-param", config, get(17, 0, set(lbParam, make([]byte, 32))))
	sequence("lb-get-protocol", config, get(17, 0, set(lbProtocol, 2)))
	sequence("lb-get-too-long", config, get(maxFragment+1, 0))
	sequence("lb-get-most", config, get(maxFragment, 0))
	sequence("lb-get-end", config, get(17, 17))
	sequence("lb-get-beyond", config, get(17, 18))

	sequence("lb-set-unprotected", config, fragment(array, 0, all))
	sequence("lb-set-alwaysuv", virtual.Config{AlwaysUV: true}, fragment(array, 0, all))
	sequence("lb-set-too-long", config, fragment(make([]byte, maxFragment+1), 0, most))
	sequence("lb-set-no-length", config, fragment(array, 0, 0))
	sequence("lb-set-length-most", config, fragment(array, 0, most))
	sequence("lb-set-length-too-long", config, fragment(array, 0, most+1))
	sequence("lb-set-length-too-short", config, fragment(array[:16], 0, 16))
	sequence("lb-set-next", config, first, second)
	sequence("lb-set-next-length", config, first, fragment(array[60:], 60, all))
	sequence("lb-set-next-offset", config, first, fragment(array[61:], 61, 0))
	sequence("lb-set-next-again", config, first, fragment(array[60:70], 60, 0), fragment(array[60:70], 60, 0))
	sequence("lb-set-next-without-first", config, second)
	sequence("lb-set-next-complete", config, first, second, fragment([]byte{1}, all, 0))
	sequence("lb-set-overflow", config, fragment(array, 0, all-1))
	sequence("lb-set-next-overflow", config, first, fragment(append(slices.Clone(array[60:]), 0), 60, 0))
	spoilt := slices.Clone(array)
	spoilt[all-1] ^= 1
	sequence("lb-set-digest", config, fragment(spoilt, 0, all))
	sequence("lb-set-restart", config, first, fragment(array, 0, all))
	d.add("lb-set-digest-keeps", config, func(x *trial) error {
		if x.command(ctap.CmdLargeBlobs, fragment(spoilt, 0, all)) == nil {
			x.Error("a wrong digest is right")
		}
		answer, err := x.ask(ctap.CmdLargeBlobs, get(100, 0))
		if err == nil && !bytes.Equal(answer[1].([]byte), withDigest([]byte{0x80})) {
			x.Errorf("the array is %x", answer[1])
		}
		return err
	})
	between := func(id string, live func(x *trial)) {
		d.add("lb-set-next-"+id, config, func(x *trial) error {
			x.must(x.command(ctap.CmdLargeBlobs, first))
			live(x)
			return x.command(ctap.CmdLargeBlobs, second)
		})
	}
	between("interleaved", func(x *trial) { x.must(x.raw(ctap.CmdGetInfo, nil)) })
	between("power-cycle", func(x *trial) { x.soft.PowerCycle() })
	d.add("lb-set-next-token-expired", withPIN, func(x *trial) error {
		x.must(lbSet.signed(x, fragment(array, 0, all)))
		time.Sleep((ctap.MaxTokenSeconds - 1) * time.Second)
		x.must(lbSet.signed(x, first))
		time.Sleep(2 * time.Second)
		return lbSet.signed(x, second)
	})
	d.gated("lb-set", lbSet)
	d.add("lb-set-param-of-offset", withPIN, func(x *trial) error {
		x.must(lbSet.signed(x, first))
		m := lbSet.sign(fragment(array[60:], 61, 0), x.hold(lbSet.permission, ""))
		m[lbOffset] = 60
		return x.command(ctap.CmdLargeBlobs, m)
	})
	d.changeAfter("lb-set-param-of-fragment", lbSet, set(lbSetFragment, withDigest([]byte{0x81})))
}

func cfgGate(number int, params members) gate {
	return gate{
		command: ctap.CmdConfig, param: subParam, protocol: subProtocol,
		request: func(*trial) members { return subcommand(number, params) },
		message: func(m members) []byte {
			return slices.Concat(bytes.Repeat([]byte{0xFF}, 32), []byte{ctap.CmdConfig}, sub(m, subCommand))
		},
		permission: ctap2.PermissionAuthenticatorConfig, other: ctap2.PermissionCredentialManagement,
		config: virtual.Config{PIN: thePIN, EnterpriseAttestation: true},
	}
}

var (
	cfgEA     = cfgGate(ctap.ConfigEnableEnterpriseAttestation, nil)
	cfgAlways = cfgGate(ctap.ConfigToggleAlwaysUV, nil)
	cfgMin    = cfgGate(ctap.ConfigSetMinPINLength, members{1: 6})
	cfgLong   = cfgGate(ctap.ConfigEnableLongTouchForReset, nil)
)

func (d *drivers) config() {
	plain := virtual.Config{}
	d.malformed("cfg", plain, ctap.CmdConfig)
	d.wrongTypes("cfg", cfgMin, map[string]edit{
		"subCommand":          set(subCommand, "setMinPINLength"),
		"subCommandParams":    set(subParams, []any{}),
		"pinUvAuthProtocol":   set(subProtocol, "two"),
		"pinUvAuthParam":      set(subParam, "param"),
		"newMinPINLength":     param(subParams, 1, "6"),
		"minPinLengthRPIDs":   param(subParams, 2, "example.com"),
		"rpid":                param(subParams, 2, []any{[]byte("example.com")}),
		"forceChangePin":      param(subParams, 3, 1),
		"pinComplexityPolicy": param(subParams, 4, 1),
	})
	bare := func(id string, config virtual.Config, m members) {
		d.add(id, config, func(x *trial) error { return x.command(ctap.CmdConfig, m) })
	}
	toggle := subcommand(ctap.ConfigToggleAlwaysUV, nil)
	bare("cfg-unsupported", virtual.Config{NoAuthenticatorConfig: true}, toggle)
	bare("cfg-missing-subCommand", plain, members{})
	bare("cfg-unknown-subcommand", plain, subcommand(5, nil))
	for prefix, g := range map[string]gate{"cfg-ea": cfgEA, "cfg-always": cfgAlways, "cfg-min": cfgMin, "cfg-long": cfgLong} {
		d.gated(prefix, g)
		bare(prefix+"-unprotected", virtual.Config{EnterpriseAttestation: true}, g.request(nil))
	}
	d.changeAfter("cfg-param-of-sub", cfgLong, set(subCommand, ctap.ConfigToggleAlwaysUV))
	d.changeAfter("cfg-min-param-of-other", cfgMin, param(subParams, 1, 7))
	bare("cfg-ea-unsupported", plain, subcommand(ctap.ConfigEnableEnterpriseAttestation, nil))
	d.add("cfg-ea-again", cfgEA.config, func(x *trial) error {
		x.must(cfgEA.signed(x, cfgEA.request(x)))
		return cfgEA.signed(x, cfgEA.request(x))
	})
	alwaysUV := virtual.Config{AlwaysUV: true}
	bare("cfg-always-only", virtual.Config{AlwaysUV: true, NoToggleAlwaysUV: true}, toggle)
	bare("cfg-always-unsupported", virtual.Config{NoToggleAlwaysUV: true}, toggle)
	bare("cfg-always-off-unprotected", alwaysUV, toggle)
	bare("cfg-always-off-no-param", virtual.Config{AlwaysUV: true, PIN: thePIN}, toggle)
	bare("cfg-min-alwaysuv", alwaysUV, subcommand(ctap.ConfigSetMinPINLength, members{1: 6}))

	minimum := func(id string, config virtual.Config, params members) {
		d.change("cfg-min-"+id, cfgGate(ctap.ConfigSetMinPINLength, params), config)
	}
	long := virtual.Config{PIN: thePIN, MinPINLength: 6}
	minimum("less", long, members{1: 5})
	minimum("same", long, members{1: 6})
	minimum("more-than-max", withPIN, members{1: 64})
	minimum("nothing", withPIN, nil)
	bare("cfg-min-force-no-pin", plain, subcommand(ctap.ConfigSetMinPINLength, members{3: true}))
	minimum("rpids-too-many", virtual.Config{PIN: thePIN, MaxRPIDsForSetMinPINLength: 1}, members{2: []string{"example.com", "example.org"}})
	minimum("rpids-unsupported", virtual.Config{PIN: thePIN, Extensions: []string{"credProtect"}}, members{2: []string{"example.com"}})
	after := func(id, entered string, params members) {
		d.add("cfg-min-"+id, virtual.Config{PIN: entered}, func(x *trial) error {
			x.must(cfgMin.signed(x, subcommand(ctap.ConfigSetMinPINLength, params)))
			return x.legacy(x.agree(), entered, usingPIN(ctap2.PermissionGetAssertion, "example.com"))
		})
	}
	after("force", thePIN, members{3: true})
	after("raised", thePIN, members{1: 7})
	after("raised-enough", thePIN, members{1: 6})
	after("complexity", "777777", members{4: true})
	after("complexity-enough", thePIN, members{4: true})
	bare("cfg-long-unsupported", virtual.Config{Level: virtual.CTAP21}, subcommand(ctap.ConfigEnableLongTouchForReset, nil))
	vendor := virtual.Config{PIN: thePIN, VendorConfigCommands: []uint64{0xF1D0}}
	bare("cfg-vendor-unsupported", plain, subcommand(ctap.ConfigVendorPrototype, members{1: 0xF1D0}))
	d.change("cfg-vendor", cfgGate(ctap.ConfigVendorPrototype, members{1: 0xF1D0}), vendor)
	d.change("cfg-vendor-unknown", cfgGate(ctap.ConfigVendorPrototype, members{1: 0xF1D1}), vendor)
	d.change("cfg-vendor-missing-vendorCommandId", cfgGate(ctap.ConfigVendorPrototype, members{}), vendor)
}
