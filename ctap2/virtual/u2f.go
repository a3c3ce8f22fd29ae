package virtual

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/ctap"
)

// Versions, as getInfo, U2F_VERSION and the selection of a card's applet name
// them.
const (
	versionU2F   = "U2F_V2"
	versionFIDO2 = "FIDO_2_0"
)

// What a key knows of U2F (FIDO U2F Raw Message Formats 1.2 §3 to §6).
const (
	u2fRegister     = 0x01
	u2fAuthenticate = 0x02
	u2fVersion      = 0x03

	// P1 of U2F_AUTHENTICATE.
	u2fEnforceUserPresence     = 0x03
	u2fCheckOnly               = 0x07
	u2fDontEnforceUserPresence = 0x08

	u2fRegistration = 0x05 // in front of the answer to U2F_REGISTER
	u2fHashLength   = 32   // of the challenge and of the application parameter
)

const (
	// u2fGlance is how long a request looks whether somebody touches the key,
	// before it says that nobody has: long enough for a person who is a
	// function that returns at once.
	u2fGlance = 50 * time.Millisecond
	// u2fPresence is how long a touch counts for requests to come, and how
	// long the key waits for one without being asked again. U2F leaves both
	// open.
	u2fPresence = 10 * time.Second
)

// Msg answers a U2F request (FIDO U2F Raw Message Formats 1.2; CTAP 2.3 §10):
// U2F_REGISTER, U2F_AUTHENTICATE or U2F_VERSION as a command APDU, in extended
// length or short. It returns the response APDU, data and a status word. Msg
// does not hold on to apdu, and the response is the caller's.
//
// Key handles are credential IDs. What U2F_REGISTER makes, getAssertion finds
// for a relying party whose ID has the application parameter for its SHA-256;
// and U2F_AUTHENTICATE finds what makeCredential has made, if that is ES256,
// not discoverable, and not for a verified user alone (credProtect level 3).
// There is one signature counter for both. Registrations are attested with the
// certificate under [Authenticator.AttestationRoot], whatever
// Config.Attestation says.
//
// Msg waits for nobody: a request that needs a touch is refused with 6985 until
// there is one, and the platform repeats it. The first such request asks the
// [Person], who may take as long as requests keep coming, and 10 seconds. A
// touch after less than 50 milliseconds counts at once, a later one for the next request
// in 10 seconds; a person who declines is asked again by the next request. A
// CTAP2 command that needs a touch itself takes over: touches are for it from
// then on.
//
// What the key refuses it refuses with a status word: 6A80 for a key handle
// that is not its own, 6700 for data of a wrong length, and for an answer
// longer than Le allows, 6A86 for another P1 of U2F_AUTHENTICATE, 6D00 for
// another instruction, 6E00 for a class other than 00; 6D00 for all if the key
// has no U2F, and 6986 while alwaysUv is on; 6F00 if storing failed. Msg
// returns an error only if the key is closed, or unplugged by PowerCycle
// meanwhile, or ctx has ended before it is the request's turn.
func (a *Authenticator) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	cmd, ok := parseU2F(apdu)
	if !ok {
		return statusWord(swWrongLength), nil
	}
	data, word, err := a.msg(ctx, &cmd)
	if err != nil {
		return nil, err
	}
	if len(data) > cmd.room() {
		return statusWord(swWrongLength), nil // nobody could fetch the rest
	}
	return statusWord(word, data...), nil
}

// parseU2F is parseAPDU, but for a form that ISO/IEC 7816-4 does not have: U2F
// 1.0 had an Lc of 0 in front of the Le of commands without data, and many
// platforms send U2F_VERSION so.
func parseU2F(apdu []byte) (commandAPDU, bool) {
	if len(apdu) == 9 && apdu[4] == 0 && apdu[5] == 0 && apdu[6] == 0 {
		apdu = append(slices.Clone(apdu[:5]), apdu[7:]...)
	}
	return parseAPDU(apdu)
}

// speaksU2F reports whether the key speaks U2F now: where the user is always
// verified, there is no place for a protocol without verification (§7.2.4).
func (a *Authenticator) speaksU2F() bool { return !a.cfg.NoU2F && !a.alwaysUV() }

// protocols reports what a transport should say that the key speaks. Unlike
// speaksU2F it does not need the turn.
func (a *Authenticator) protocols() (u2f, ctap2 bool) { return a.u2f.Load(), a.cfg.Level != CTAP1 }

// A wordRefusal is the status word that a U2F request ends with.
type wordRefusal uint16

func (w wordRefusal) Error() string { return fmt.Sprintf("status word %04X", uint16(w)) }

// msg answers a U2F request that is taken apart.
func (a *Authenticator) msg(ctx context.Context, cmd *commandAPDU) (data []byte, word uint16, err error) {
	a.mu.Lock()
	op := &operation{ctx: ctx, power: a.power, command: cmd.instruction}
	a.mu.Unlock()
	switch err := a.begin(op); {
	case err == refusal(ctap.StatusKeepaliveCancel):
		return nil, 0, fmt.Errorf("virtual: %w", context.Cause(ctx))
	case err != nil:
		return nil, 0, err
	}
	defer a.end()
	a.forgetSequences() // as every command does that is not part of one
	a.volatile.blobWrite = nil
	data, err = a.runU2F(op, cmd)
	var refused wordRefusal
	switch cause := context.Cause(op.power); {
	case err == nil:
		return data, swOK, nil
	case errors.As(err, &refused):
		return nil, uint16(refused), nil
	case cause != nil && errors.Is(err, cause):
		return nil, 0, cause
	}
	a.noteStorageError(err)
	return nil, swInternal, nil
}

func (a *Authenticator) runU2F(op *operation, cmd *commandAPDU) ([]byte, error) {
	switch {
	case cmd.class != cardCLA:
		return nil, wordRefusal(swUnknownCLA)
	case a.cfg.NoU2F || cmd.instruction < u2fRegister || cmd.instruction > u2fVersion:
		return nil, wordRefusal(swUnknownINS)
	case !a.speaksU2F():
		return nil, wordRefusal(swNotAllowed)
	}
	switch cmd.instruction {
	case u2fRegister:
		return a.u2fRegister(op, cmd)
	case u2fAuthenticate:
		return a.u2fAuthenticate(op, cmd)
	}
	if len(cmd.data) > 0 {
		return nil, wordRefusal(swWrongLength)
	}
	return []byte(versionU2F), nil
}

// u2fRegister is U2F_REGISTER (FIDO U2F Raw Message Formats §4). P1 is not
// looked at: platforms ask there for attestation of their own kind.
func (a *Authenticator) u2fRegister(op *operation, cmd *commandAPDU) ([]byte, error) {
	if len(cmd.data) != 2*u2fHashLength {
		return nil, wordRefusal(swWrongLength)
	}
	challenge, application := cmd.data[:u2fHashLength], [u2fHashLength]byte(cmd.data[u2fHashLength:])
	if err := a.needTouch(op, Prompt{Application: application}); err != nil {
		return nil, err
	}
	c := &credential{rpIDHash: application}
	var err error
	if c.key, err = newSigningKey(cose.ES256); err != nil {
		return nil, err
	}
	if err := a.state.seal(c); err != nil {
		return nil, err
	}
	point, err := c.key.point()
	if err != nil {
		return nil, err
	}
	att := a.state.attestation
	signature, err := att.key.sign([]byte{0}, application[:], challenge, c.id, point)
	if err != nil {
		return nil, err
	}
	handle := append([]byte{byte(len(c.id))}, c.id...)
	return slices.Concat([]byte{u2fRegistration}, point, handle, att.leaf, signature), nil
}

// u2fAuthenticate is U2F_AUTHENTICATE (FIDO U2F Raw Message Formats §5). What
// is signed has the form of authenticator data and a client data hash, so that
// it is an assertion as well.
func (a *Authenticator) u2fAuthenticate(op *operation, cmd *commandAPDU) ([]byte, error) {
	const fixed = 2*u2fHashLength + 1 // in front of the key handle
	if len(cmd.data) < fixed || len(cmd.data) != fixed+int(cmd.data[fixed-1]) {
		return nil, wordRefusal(swWrongLength)
	}
	challenge, application := cmd.data[:u2fHashLength], [u2fHashLength]byte(cmd.data[u2fHashLength:])
	c, err := a.state.locate(cmd.data[fixed:], application)
	if err != nil {
		return nil, err
	}
	if c == nil || c.discoverable || c.key.algorithm != cose.ES256 || !c.protect.allows(true, false) {
		if a.cfg.Faults.has(WrongLengthForHandle) {
			return nil, wordRefusal(swWrongLength)
		}
		return nil, wordRefusal(swWrongData)
	}
	var flags byte
	switch cmd.p1 {
	case u2fCheckOnly:
		return nil, wordRefusal(swConditions)
	case u2fEnforceUserPresence:
		if err := a.needTouch(op, Prompt{RPID: c.rpID, Application: application}); err != nil {
			return nil, err
		}
		flags = ctap.FlagUserPresent
	case u2fDontEnforceUserPresence:
	default:
		return nil, wordRefusal(swWrongP1P2)
	}
	signCount, err := a.state.nextSignCount()
	if err != nil {
		return nil, err
	}
	answer := binary.BigEndian.AppendUint32([]byte{flags}, signCount)
	signature, err := c.key.sign(application[:], answer, challenge)
	return append(answer, signature...), err
}

// A blink is a person being asked for a touch, across the requests of a
// platform that polls. It ends with the key's power.
type blink struct {
	ctx     context.Context
	stop    context.CancelFunc
	dark    *time.Timer // stops it when the platform no longer polls
	touches chan touch
}

// A touch is a person's answer to a blink, and when it came.
type touch struct {
	answer Answer
	at     time.Time
}

func (t touch) counts() bool {
	return (t.answer == Approve || t.answer == Hold) && time.Since(t.at) < u2fPresence
}

// needTouch refuses a request that nobody has touched the key for.
func (a *Authenticator) needTouch(op *operation, prompt Prompt) error {
	b := a.volatile.blink
	if b != nil {
		select {
		case t := <-b.touches:
			a.stopBlinking()
			if t.counts() {
				return nil
			}
			b = nil
		default:
			if b.ctx.Err() != nil {
				b = nil
			}
		}
	}
	if b == nil {
		b = a.startBlinking(op, prompt)
	}
	b.dark.Reset(u2fPresence)
	glance := time.NewTimer(u2fGlance)
	defer glance.Stop()
	select {
	case t := <-b.touches:
		return a.touched(t)
	case <-glance.C:
	case <-op.ctx.Done():
	case <-op.power.Done():
		return context.Cause(op.power)
	}
	select {
	case t := <-b.touches: // and the end of the glance was no later
		return a.touched(t)
	default:
		return wordRefusal(swConditions)
	}
}

// touched ends a blink, and refuses the request unless it was a touch that came.
func (a *Authenticator) touched(t touch) error {
	a.stopBlinking()
	if !t.counts() {
		return wordRefusal(swConditions)
	}
	return nil
}

func (a *Authenticator) startBlinking(op *operation, prompt Prompt) *blink {
	prompt.Command = op.command
	b := &blink{touches: make(chan touch, 1)}
	b.ctx, b.stop = context.WithCancel(op.power)
	a.mu.Lock()
	person := a.presence.orTouch()
	a.unask = b.stop
	a.mu.Unlock()
	b.dark = time.AfterFunc(u2fPresence, b.stop)
	go func() { b.touches <- touch{person(b.ctx, prompt), time.Now()} }()
	a.volatile.blink = b
	return b
}

// stopBlinking forgets a touch that has come, too.
func (a *Authenticator) stopBlinking() {
	if b := a.volatile.blink; b != nil {
		b.dark.Stop()
		b.stop()
		a.volatile.blink = nil
	}
}
