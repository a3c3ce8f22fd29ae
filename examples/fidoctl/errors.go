package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/attestation"
	"github.com/tapstone/fido/ctap2/attestation/metadata"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/entra"
	"github.com/tapstone/fido/ctap2/keys"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/ctap2/webauthn"
	"github.com/tapstone/fido/hid"
	"github.com/tapstone/fido/nfc"
	"github.com/tapstone/fido/pin"
)

// A kind of failure has an exit status of its own.
type kind struct {
	exit    int
	name    string // in JSON
	meaning string
}

var (
	failure       = kind{1, "failure", "anything that has no status of its own"}
	usage         = kind{2, "usage", "the command line is wrong or incomplete"}
	noKey         = kind{3, "no-key", "no key is attached, or not the one that was named"}
	noAccess      = kind{4, "no-access", "this user, or this build, cannot use the key"}
	verification  = kind{5, "verification", "the PIN is wrong, or the finger was not recognised"}
	locked        = kind{6, "locked", "the key takes no PIN until it is unplugged, or until it is reset"}
	notSetUp      = kind{7, "not-set-up", "a PIN or a fingerprint has to be set up first, or the PIN changed"}
	noTouch       = kind{8, "no-touch", "nobody touched the key in time, or somebody declined"}
	notFound      = kind{9, "not-found", "the key does not hold what was asked for"}
	unsupported   = kind{10, "unsupported", "the key cannot do it"}
	full          = kind{11, "full", "the key has no room for it"}
	refused       = kind{12, "refused", "the key, or a policy, does not allow it"}
	connection    = kind{13, "connection", "the key was unplugged or does not answer"}
	notValid      = kind{14, "not-valid", "what the key or a file says is malformed, or its signature is wrong"}
	notConformant = kind{15, "nonconformant", "the key breaks the specification (compare: in more cases than before)"}
	interrupted   = kind{130, "interrupted", "Ctrl-C, or no for an answer; watch ends with 0"}
)

var kinds = []kind{failure, usage, noKey, noAccess, verification, locked, notSetUp, noTouch, notFound, unsupported,
	full, refused, connection, notValid, notConformant, interrupted}

// Errors of fidoctl's own.
var (
	errUsage     = errors.New("usage")
	errDeclined  = errors.New("declined")
	errFile      = errors.New("a file could not be used")
	errVirtual   = errors.New("the software key could not be used")
	errRecording = errors.New("the file is not a recording")
	errNoFolder  = errors.New("there is no such folder")
	errPINIsSet  = errors.New("the key has a PIN already")
	errRoots     = errors.New("there are no certificates in the file")

	errEnterprise = errors.New("enterprise attestation is not enabled")
	errMinimum    = errors.New("not that minimum")
	errSites      = errors.New("too many sites")

	errNoCredential        = errors.New("no such credential")
	errSeveralCredentials  = errors.New("several such credentials")
	errAnotherCredential   = errors.New("another credential")
	errNoFingerprint       = errors.New("no such fingerprint")
	errSeveralFingerprints = errors.New("several such fingerprints")

	errAnotherKey = errors.New("this is not the key that was there before")
	errUsedBefore = errors.New("this run has used this key for another user")
)

// shown is a failure that the result of the command says already.
type shown struct{ kind }

func (s shown) Error() string { return s.meaning }

func usageError(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }

func usagef(format string, args ...any) error { return usageError(fmt.Errorf(format, args...)) }

// An explanation is what a person is told of an error.
type explanation struct {
	kind
	What string // what happened
	// Means is what that means, Next what to do. They may be empty.
	Means, Next string
}

// explanations has them for all errors of the library. The first one counts
// that is of an error which errors.Is finds: causes stand before what wraps
// them. Where What is empty, it is what stands behind such an error.
var explanations = []explained{
	// Of this program.
	tell(usage, "", "", "",
		errUsage),
	tell(interrupted, "Nothing was changed.", "", "",
		errDeclined),
	tell(refused, "The key has a PIN already.",
		"", "To replace it: fidoctl pin change.",
		errPINIsSet),
	tell(notFound, "", "", "fidoctl credentials list shows the credentials that the key keeps.",
		errNoCredential),
	tell(usage, "", "", "Give the beginning of the ID instead, which fidoctl credentials list shows.",
		errSeveralCredentials),
	tell(notFound, "", "", "fidoctl fingerprint list shows the fingerprints on the key.",
		errNoFingerprint),
	tell(usage, "", "", "Give the ID instead, which fidoctl fingerprint list shows.",
		errSeveralFingerprints),
	tell(notValid, "", "", "Give the registration of that credential.",
		errAnotherCredential),
	tell(refused, "This is not the key that was shown. It was not erased.",
		"The key that was plugged in again describes itself differently.",
		"Unplug all other keys, and try again.",
		errAnotherKey),
	tell(refused, "This key is another user's: it was used earlier in this run.",
		"", "Attach the next key. For scripts, the third field of each line says which key it is.",
		errUsedBefore),
	tell(notSetUp, "Enterprise attestation is not enabled.",
		"", "To enable it: fidoctl config enterprise-attestation.",
		errEnterprise),
	tell(refused, "", "", "",
		errMinimum),
	tell(full, "", "", "Name fewer with --tell: they replace those that were named before.",
		errSites),
	tell(notValid, "There are no certificates in the file.",
		"", "Give one in PEM, with lines of -----BEGIN CERTIFICATE-----.",
		errRoots),

	// Conformance.
	tell(notValid, "This is not a report of a conformance run, or it is of a later version.",
		"", "Give a report in JSON, as --report FILE.json writes it.",
		conformance.ErrReport),
	tell(refused, "The report is of another model of key, or of another firmware.",
		"A run can only be resumed with the key that it began with.",
		"Attach that key, or start again without --resume.",
		conformance.ErrAnother),
	tell(unsupported, "Nobody is here to do what the key needs.",
		"", "It takes a person, or a machine, to unplug the key and plug it in again.",
		conformance.ErrCannot),

	// Entra.
	tell(refused, "The key does not meet the requirements of Entra ID.",
		"", "fidoctl entra check says why.",
		entra.ErrIncompatible),
	tell(notFound, "Entra does not have this key for the user.",
		"", "fidoctl entra keys lists those that it has.",
		entra.ErrNotRegistered),
	tell(notFound, "The key does not hold this account.",
		"", "fidoctl credentials list shows what it holds.",
		entra.ErrNotOnKey),
	tell(refused, "It took too long: Entra no longer accepts the key.",
		"", "Try again, and be quicker; or use Graph's beta and --challenge-timeout.",
		entra.ErrExpired),
	tell(connection, "It is not known whether Entra has made the change.",
		"The answer was lost.",
		"fidoctl entra keys shows whether it has.",
		entra.ErrUncertain),
	tell(usage, "What --token-file names holds no access token, or more than that.",
		"", "'"+getToken+" > token' writes one.",
		entra.ErrToken),
	tell(usage, "Entra cannot be asked for that.", "", "",
		entra.ErrInvalidRequest),
	tell(notValid, "Graph's answer makes no sense.",
		"", "Try again, or with another --graph.",
		entra.ErrMalformed),
	tell(notValid, "The response is not valid.",
		"", "Do not trust it.",
		webauthn.ErrNotValid),
	tell(connection, "Another program has this software key open.",
		"", "Try again when it has ended.",
		virtual.ErrInUse),
	tell(failure, "", "", "Create the folder, or give another file with --virtual.",
		errNoFolder),
	tell(failure, "The file of the software key cannot be used.",
		"It may not be such a file, or --virtual-profile may contradict it.",
		"Give the --virtual-profile that the file was made with, or another file with --virtual.",
		errVirtual),
	tell(notValid, "This is not a recording, or it is of a later version.",
		"", "Give a file that fidoctl trace --record wrote.",
		errRecording),
	tell(failure, "A file cannot be used.", "", "",
		errFile),

	// The end of a wait.
	tell(interrupted, "Interrupted.", "", "",
		errUnanswered),
	tell(interrupted, "Interrupted.",
		"The key was told to stop waiting.",
		"",
		context.Canceled),
	tell(noTouch, "Time is up.",
		"The command did not end in time, or within its --timeout.",
		"Try again, and touch the key when it blinks.",
		context.DeadlineExceeded),
	tell(interrupted, "Interrupted.", "", "",
		webauthn.ErrAbort),

	// PINs and verification.
	tell(locked, "The PIN is blocked.",
		"No tries are left. The PIN can only be set again after a reset, which erases everything on the key.",
		"Run fidoctl reset, then register the key with each site again.",
		ctap2.ErrPINBlocked),
	tell(locked, "The key is locked.",
		"Too many wrong PINs in a row: it takes no PIN until it has been unplugged.",
		"Unplug it and plug it in again, or lift it from the reader and put it back.",
		ctap2.ErrPINAuthBlocked),
	tell(verification, "The PIN is wrong.",
		"", "Try again with the right PIN. When no tries are left, only a reset helps.",
		ctap2.ErrPINInvalid),
	tell(locked, "The fingerprint reader is locked.",
		"Too many fingers were not recognised.",
		"Enter the PIN once, such as with fidoctl pin check: this unlocks the reader.",
		ctap2.ErrUVBlocked),
	tell(verification, "The finger was not recognised.",
		"", "Try again, with a finger that fidoctl fingerprint list shows.",
		ctap2.ErrUVInvalid),
	tell(notSetUp, "The PIN must be changed first.",
		"Whoever handed out the key requires a new PIN, or a rule on the key has changed.",
		"To change it: fidoctl pin change.",
		ctap2.ErrPINChangeRequired),
	tell(notSetUp, "The key has no PIN yet.",
		"The command needs a verified user.",
		"To set one: fidoctl pin set.",
		ctap2.ErrPINNotSet, ctap2.ErrNotSetUp),
	tell(usage, "The PIN is needed, and there is no terminal to ask for it on.",
		"",
		"Give the PIN with --pin-fd or --pin-stdin.",
		ctap2.ErrNoPIN),
	tell(refused, "The PIN is too short.",
		"", "A PIN has 4 characters or more; fidoctl info shows whether the key requires more.",
		pin.ErrTooShort),
	tell(refused, "The PIN is too long.",
		"", "A PIN has 63 bytes or fewer; letters with accents take two or more.",
		pin.ErrTooLong),
	tell(refused, "The PIN contains a character that is not allowed.",
		"", "Use letters, digits and other characters of the keyboard, in UTF-8.",
		pin.ErrNotUTF8, pin.ErrZeroByte),
	tell(refused, "The key does not accept this PIN.",
		"It is too short, too simple, or the same as the current one.",
		"fidoctl info shows the rules. Keys refuse sequences such as 1234 and repetitions such as 1111.",
		ctap2.ErrPINPolicyViolation),
	tell(verification, "The verification has expired.",
		"It took too long, another program used the key, or the key was touched in the meantime.",
		"Try again.",
		ctap2.ErrPINTokenExpired, ctap2.ErrPINAuthInvalid),
	tell(notSetUp, "The key requires user verification.",
		"", "Set a PIN (fidoctl pin set), or let the command ask for it.",
		ctap2.ErrPUATRequired),
	tell(refused, "The key does not allow this with the way in which the user was verified.",
		"", "Some keys require the PIN for some commands, others a finger: fidoctl info shows which.",
		ctap2.ErrUnauthorizedPermission),

	// Touches.
	tell(noTouch, "Nobody touched the key in time.",
		"", "Try again, and touch it when it blinks.",
		ctap2.ErrUserActionTimeout, ctap2.ErrActionTimeout, ctap2.ErrTimeout),
	tell(noTouch, "It was declined, or not confirmed in time.",
		"", "Try again, and touch the key when it blinks.",
		ctap2.ErrOperationDenied),
	tell(noTouch, "The key is waiting for a touch.",
		"", "Try again, and touch the key when it blinks.",
		ctap2.ErrUPRequired, ctap2.ErrUserActionPending, ctap2.ErrU2FConditionsNotSatisfied,
		nfc.ErrConditionsNotSatisfied),
	tell(interrupted, "The key was told to stop.",
		"This or another program cancelled the command.",
		"Try again.",
		ctap2.ErrKeepaliveCancel),

	// What is not there, or does not fit.
	tell(refused, "This key is registered already.",
		"It holds one of the credentials that the site excludes.",
		"Sign in with it, or register another key.",
		ctap2.ErrCredentialExcluded, webauthn.ErrInvalidState),
	tell(notFound, "The key holds no such credential.",
		"It was never registered there, or the credential was deleted since, or the key reset.",
		"fidoctl credentials list shows what it keeps. Credentials that are not kept on the key need --credential.",
		ctap2.ErrNoCredentials, ctap2.ErrInvalidCredential, ctap2.ErrU2FWrongData, ctap2.ErrU2FWrongLength,
		nfc.ErrWrongData),
	tell(notFound, "This credential has no blob.",
		"", "fidoctl blob list shows which there are.",
		ctap2.ErrNoLargeBlob),
	tell(unsupported, "This credential cannot have a blob.",
		"It was registered without support for blobs.",
		"Register again with fidoctl register, which asks for it.",
		ctap2.ErrNoLargeBlobKey),
	tell(unsupported, "The key did not return what was asked for.",
		"The key, or this credential, does not support the extension.",
		"fidoctl info lists the extensions. The credential must have been registered with the extension, too.",
		ctap2.ErrNoOutput),
	tell(full, "The key has no room for another fingerprint.",
		"", "Remove one: fidoctl fingerprint remove.",
		ctap2.ErrFPDatabaseFull),
	tell(full, "The key is full.",
		"There is no room for another credential, or for as many sites.",
		"Delete credentials: fidoctl credentials delete.",
		ctap2.ErrKeyStoreFull),
	tell(full, "The key has no room for this blob.",
		"", "Delete blobs: fidoctl blob clean, fidoctl blob delete.",
		ctap2.ErrLargeBlobStorageFull),
	tell(full, "That is more than the key can take.",
		"", "Ask for less: shorter names, fewer credentials, a smaller blob.",
		ctap2.ErrRequestTooLarge, ctap2.ErrMessageTooLarge, ctap2.ErrLimitExceeded),

	// What the key will not or cannot do.
	tell(refused, "The key does not allow that now.",
		"", "Unplug it, plug it in again, and try once more.",
		ctap2.ErrNotAllowed),
	tell(unsupported, "The key supports none of these algorithms.",
		"", "fidoctl info lists those that it supports.",
		ctap2.ErrUnsupportedAlgorithm, cose.ErrUnsupportedAlgorithm),
	tell(noKey, "The card is not a security key.",
		"It has no FIDO application, or does not offer it to this reader.",
		"Use its USB port, if it has one, or another card.",
		nfc.ErrNotFIDO),
	tell(unsupported, "", "", "fidoctl info shows what the key can do.",
		webauthn.ErrConstraint),
	tell(unsupported, cannotDo,
		"", "fidoctl info shows what the key can do.",
		ctap2.ErrInvalidCommand, ctap2.ErrInvalidSubcommand, ctap2.ErrUnsupportedOption, ctap2.ErrUnsupportedExtension,
		nfc.ErrInsNotSupported, nfc.ErrClaNotSupported, ctap2.ErrU2FInsNotSupported, ctap2.ErrU2FClaNotSupported,
		hid.ErrInvalidCmd, ctap2.ErrUnsupported, webauthn.ErrNotSupported),

	// Finding a key.
	tell(noAccess, "Another program has exclusive use of the card.",
		"", "End that program (a browser, GnuPG's scdaemon), and try again.",
		nfc.ErrInUse),
	tell(noAccess, "This user is not allowed to use the key.",
		noAccessMeans(),
		noAccessNext(),
		fs.ErrPermission),
	tell(usage, "Several keys have this name.",
		"", "fidoctl list shows their paths: choose one with --device.",
		keys.ErrAmbiguous),
	tell(noKey, "No security key was found.",
		"None is attached, or not the one that was named.",
		"Plug one in, or hold one to a reader; fidoctl list shows what there is, and whether cards can be seen. --virtual FILE uses a software key.",
		keys.ErrNoKey, fs.ErrNotExist),
	tell(noAccess, "This machine has no smart card service.",
		"Cards and NFC keys cannot be seen.",
		"Install pcscd and start it, such as with apt install pcscd and systemctl enable --now pcscd.socket.",
		nfc.ErrNoService),
	tell(noKey, "There is no such smart card reader.",
		"", "fidoctl list shows the readers with a card in them.",
		nfc.ErrNoReader),
	tell(noKey, "There is no key in the reader.",
		"", "Hold the key to it, and keep it there.",
		nfc.ErrNoCard, nfc.ErrFileNotFound),

	// The way to the key.
	tell(connection, "The key is gone.",
		"It was unplugged, or taken from the reader, before it had answered.",
		"Plug it in again. If it was registering, fidoctl credentials list shows whether it had finished.",
		ctap2.ErrDeviceGone),
	tell(connection, "Another program interfered.",
		"It reset the card, or selected another application on it.",
		"Try again; hold the card still.",
		ctap2.ErrReset, nfc.ErrNotSelected, nfc.ErrSelectFailed),
	tell(connection, "Another program interfered.",
		"The list could not be read to its end.",
		"Try again.",
		ctap2.ErrInterrupted),
	tell(connection, "The key does not answer.",
		"", "Unplug it, plug it in again, and try once more.",
		ctap2.ErrNoAnswer, hid.ErrMsgTimeout),
	tell(connection, "The key is busy.",
		"Another program is using it.",
		"Try again when it has finished.",
		ctap2.ErrChannelBusy, ctap2.ErrLockRequired, ctap2.ErrProcessing, ctap2.ErrOperationPending,
		ctap2.ErrNoOperations, ctap2.ErrNoOperationPending, ctap2.ErrNotBusy, hid.ErrChannelBusy, hid.ErrLockRequired),
	tell(connection, "The key was closed.",
		"", "Try again.",
		ctap2.ErrClosed),

	// What should not happen.
	tell(usage, "", "", "",
		ctap2.ErrInvalidRequest, webauthn.ErrEncoding, webauthn.ErrType, webauthn.ErrSyntax),
	tell(usage, "This site may not do that.",
		"A site needs a domain's name and https, or localhost. Its RP ID is its own name, or that of a domain that it is in.",
		"",
		webauthn.ErrSecurity),
	tell(notValid, "The key found its data damaged.",
		"", "Try again.",
		ctap2.ErrIntegrityFailure),
	tell(notValid, "The signature is not valid.",
		"Whoever made this does not have the private key, or it was changed since.",
		"Do not trust it.",
		cose.ErrSignature, attestation.ErrInvalid, attestation.ErrAAGUID),
	tell(notValid, "The attestation is in a format that is not supported.", "", "",
		attestation.ErrFormat),
	tell(notValid, "Nobody who is trusted vouches for this key.",
		"", "Give the certificates of its manufacturer with --roots.",
		attestation.ErrUntrusted, attestation.ErrNotAttested),
	tell(refused, "The policy does not allow this model of key.",
		"", "Use another key, or ask whoever made the policy.",
		attestation.ErrNotAllowed, attestation.ErrBlocked, attestation.ErrUnknownModel, attestation.ErrUnsafe,
		attestation.ErrLevel),
	tell(notValid, "The metadata are out of date.",
		"", "Download the current file: https://mds3.fidoalliance.org/.",
		metadata.ErrStale, metadata.ErrRollback),
	tell(notValid, "The file is not the FIDO Alliance's metadata.",
		"", "Download the current file: https://mds3.fidoalliance.org/.",
		metadata.ErrMalformed, metadata.ErrSignature, metadata.ErrUntrusted),
	tell(notValid, "The key's answer makes no sense.",
		"It breaks the specification, or was garbled on the way.",
		"Try again. To report it, attach what fidoctl trace --record FILE writes.",
		ctap2.ErrMalformed, hid.ErrFraming, nfc.ErrMalformed, cose.ErrNotOnCurve, cose.ErrInvalidKey, pin.ErrKey,
		pin.ErrCiphertext, pin.ErrProtocol),
	tell(failure, "The key did not accept the request.",
		"It does not understand something in it.",
		"To report it, attach what fidoctl trace --record FILE writes.",
		ctap2.ErrInvalidParameter, ctap2.ErrInvalidLength, ctap2.ErrInvalidSeq, ctap2.ErrInvalidChannel,
		ctap2.ErrCBORParsing, ctap2.ErrCBORUnexpectedType, ctap2.ErrInvalidCBOR, ctap2.ErrInvalidCBORType,
		ctap2.ErrMissingParameter, ctap2.ErrInvalidOption, hid.ErrInvalidPar, hid.ErrInvalidLen, hid.ErrInvalidSeq,
		hid.ErrInvalidChannel, nfc.ErrWrongLength, nfc.ErrExtendedLength),
	tell(failure, "The key failed, and does not say why.",
		"", "Unplug it, plug it in again, and try once more.",
		ctap2.ErrOther, hid.ErrOther),
	tell(notValid, "The recording has another request here.",
		"It can only play what was recorded, in the same order.",
		"Run the command that was recorded.",
		ctap2.ErrNotRecorded),
	tell(refused, "The key did not do it.", "", "",
		webauthn.ErrNotAllowed),
}

// An explained row says what errors mean.
type explained struct {
	errs []error
	explanation
}

func tell(k kind, what, means, next string, errs ...error) explained {
	return explained{errs, explanation{k, what, means, next}}
}

func noAccessMeans() string {
	switch runtime.GOOS {
	case "linux":
		return "Its device file belongs to root, or the smart card service does not let this user in."
	case "windows":
		return "Windows keeps security keys from programs without administrator rights."
	}
	return ""
}

func noAccessNext() string {
	switch runtime.GOOS {
	case "linux":
		return "Install the udev rule and plug the key in again: fidoctl udev-rules | sudo tee /etc/udev/rules.d/70-fido.rules; sudo udevadm control --reload."
	case "windows":
		return "Run fidoctl as administrator."
	}
	return "Run fidoctl as a user who is."
}

// explain returns what to tell a person. An error that nothing is known about
// is told as it is.
func explain(err error) explanation {
	e, known := look(err)
	var wrong *ctap2.PINError
	switch {
	case !errors.As(err, &wrong):
	case wrong.Retries == 0: // the last try was this one
		e, _ = look(ctap2.ErrPINBlocked)
	case wrong.PowerCycle:
		e, _ = look(ctap2.ErrPINAuthBlocked)
	}
	if wrong != nil && wrong.Retries > 0 {
		e.Means = strings.TrimSpace(e.Means + fmt.Sprintf(" %s left.", count(wrong.Retries, "try is", "tries are")))
	}
	var graph *entra.Error
	if errors.As(err, &graph) && (!known || graph.Status == 0 && !graph.Uncertain && errors.Is(err, context.DeadlineExceeded)) {
		e = explanation{connection, "Microsoft Graph refused the request.", "", "Try again."}
		switch graph.Status {
		case 0:
			e = explanation{connection, "Microsoft Graph cannot be reached.", "There was no answer.", "Check that this machine is on the network, and that --graph is right."}
		case http.StatusUnauthorized, http.StatusForbidden:
			e = explanation{noAccess, "Microsoft Graph does not accept the access token for this.", "", "Get a new one, with the permission UserAuthenticationMethod.ReadWrite.All: fidoctl help entra provision says whose has it."}
		case http.StatusNotFound:
			e = explanation{notFound, "Entra does not know this user.", "", "Give the user principal name or the object ID."}
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			if graph.Status >= 400 && graph.Status < 500 {
				e = explanation{refused, "Microsoft Graph refused the request.", sentence(cmp.Or(graph.Message, graph.Code)), ""}
			}
		}
	}
	var reset *ctap2.ResetError
	if errors.As(err, &reset) {
		e.What = "The key was not reset."
		switch {
		case len(reset.Transports) > 0:
			e.Means = "It can only be reset over " + list(reset.Transports) + "."
		case errors.Is(err, ctap2.ErrNotAllowed):
			e.Means = "It can only be reset within ten seconds of being plugged in."
		case reset.LongTouch:
			e.Means = "It has to be touched for five seconds."
		}
		e.Next = "Try again, and be quick."
	}
	return e
}

// look returns the first explanation that there is for an error.
func look(err error) (e explanation, known bool) {
	for _, row := range explanations {
		for _, one := range row.errs {
			if !errors.Is(err, one) {
				continue
			}
			if e = row.explanation; e.What == "" {
				_, text, _ := strings.Cut(err.Error(), one.Error()+": ")
				e.What = sentence(cmp.Or(text, one.Error()))
			}
			return e, true
		}
	}
	return explanation{failure, sentence(err.Error()), "", ""}, false
}

// sentence makes one of an error's text. A name at its beginning, which is not of
// letters alone, stays as it is: that of a file, say.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.TrimSuffix(s, ".") + "."
	first, _, _ := strings.Cut(s, " ")
	for _, r := range strings.TrimRight(first, ".,:;") {
		if !unicode.IsLetter(r) && r != '-' && r != '\'' {
			return s
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// finish says what went wrong, and returns the exit status.
func (p *program) finish(cmd *cobra.Command, err error) int {
	if p.cancel != nil {
		p.cancel()
	}
	if err == nil && p.out.failed != nil {
		err = fmt.Errorf("%w: %w", errFile, p.out.failed)
	}
	if err == nil {
		return 0
	}
	var s shown
	if errors.As(err, &s) {
		return s.exit
	}
	r := errorResult{*errorTextOf(err)}
	if errors.Is(err, errUsage) {
		r.Error.Next = "For help: " + cmd.CommandPath() + " --help"
	}
	if r.Error.What == cannotDo {
		p.nameInability(cmd, &r.Error)
	}
	if p.json {
		p.show(r)
	}
	r.text(p.err)
	return r.Error.Exit
}

// cannotDo is what is said of a key that cannot do something, until the command
// tells what that is.
const cannotDo = "This key cannot do that."

// abilities say, for each command that not all keys can carry out, what those
// cannot do.
var abilities = map[string]string{
	"pin set":    "have a PIN",
	"pin change": "have a PIN",
	"pin check":  "have a PIN",
	"pin tries":  "have a PIN",

	"fingerprint add":    "read fingerprints",
	"fingerprint list":   "read fingerprints",
	"fingerprint rename": "read fingerprints",
	"fingerprint remove": "read fingerprints",

	"credentials list":   "list its credentials",
	"credentials show":   "list its credentials",
	"credentials rename": "rename its credentials",
	"credentials delete": "delete its credentials",
	"entra rename":       "rename its credentials",

	"blob list":   "list its blobs",
	"blob get":    "read blobs",
	"blob put":    "keep blobs",
	"blob delete": "delete blobs",
	"blob clean":  "clean up its blobs",

	"config always-uv":              "be told to verify its user always",
	"config min-pin-length":         "be told to require longer PINs",
	"config force-pin-change":       "be told to require a new PIN",
	"config pin-complexity":         "be told to refuse simple PINs",
	"config enterprise-attestation": "be told to identify itself to sites",
	"config long-touch":             "be told to require a long touch for a reset",

	"secret": "derive secrets",
}

// nameInability says what the key cannot do; or that it is not the key's fault,
// if this build has no way to any.
func (p *program) nameInability(cmd *cobra.Command, t *errorText) {
	if p.virtual == "" && p.playing == nil {
		if _, err := keys.List(context.Background()); errors.Is(err, hid.ErrUnsupported) {
			t.Kind, t.Exit = noAccess.name, noAccess.exit
			t.What = "This build of fidoctl cannot reach keys."
			t.Next = "Use one with cgo, which USB keys take on macOS, Windows and FreeBSD; or --virtual FILE, for a software key."
			return
		}
	}
	if what := abilities[strings.TrimPrefix(cmd.CommandPath(), "fidoctl ")]; what != "" {
		t.What = "This key cannot " + what + "."
	}
}

// errorTextOf returns what there is to say of an error.
func errorTextOf(err error) *errorText {
	e := explain(err)
	t := &errorText{Kind: e.name, Exit: e.exit, What: e.What, Means: e.Means, Next: e.Next, Detail: printable(err.Error())}
	var status ctap2.Status
	if errors.As(err, &status) {
		t.Status = status.String()
	}
	var wrong *ctap2.PINError
	if errors.As(err, &wrong) && wrong.Retries >= 0 {
		t.TriesLeft = &wrong.Retries
	}
	return t
}

// exitCodesHelp is the help that lists the exit statuses.
func exitCodesHelp() *cobra.Command {
	var b strings.Builder
	b.WriteString("Fidoctl exits with 0 if all went well, and otherwise with the status of what\nwent wrong. Its name is the member error.kind in JSON.\n\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "  %3d  %-13s %s\n", k.exit, k.name, k.meaning)
	}
	return &cobra.Command{Use: "exit-codes", Short: "How fidoctl ends", Long: strings.TrimRight(b.String(), "\n")}
}
