package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

// exported are the errors of the library, by folder and name.
var exported = map[string]map[string]error{
	"cose": {
		"ErrInvalidKey":           cose.ErrInvalidKey,
		"ErrNotOnCurve":           cose.ErrNotOnCurve,
		"ErrSignature":            cose.ErrSignature,
		"ErrUnsupportedAlgorithm": cose.ErrUnsupportedAlgorithm,
	},
	"ctap2": {
		"ErrActionTimeout":             ctap2.ErrActionTimeout,
		"ErrCBORParsing":               ctap2.ErrCBORParsing,
		"ErrCBORUnexpectedType":        ctap2.ErrCBORUnexpectedType,
		"ErrChannelBusy":               ctap2.ErrChannelBusy,
		"ErrClosed":                    ctap2.ErrClosed,
		"ErrCredentialExcluded":        ctap2.ErrCredentialExcluded,
		"ErrDeviceGone":                ctap2.ErrDeviceGone,
		"ErrFPDatabaseFull":            ctap2.ErrFPDatabaseFull,
		"ErrIntegrityFailure":          ctap2.ErrIntegrityFailure,
		"ErrInterrupted":               ctap2.ErrInterrupted,
		"ErrInvalidCBOR":               ctap2.ErrInvalidCBOR,
		"ErrInvalidCBORType":           ctap2.ErrInvalidCBORType,
		"ErrInvalidChannel":            ctap2.ErrInvalidChannel,
		"ErrInvalidCommand":            ctap2.ErrInvalidCommand,
		"ErrInvalidCredential":         ctap2.ErrInvalidCredential,
		"ErrInvalidLength":             ctap2.ErrInvalidLength,
		"ErrInvalidOption":             ctap2.ErrInvalidOption,
		"ErrInvalidParameter":          ctap2.ErrInvalidParameter,
		"ErrInvalidRequest":            ctap2.ErrInvalidRequest,
		"ErrInvalidSeq":                ctap2.ErrInvalidSeq,
		"ErrInvalidSubcommand":         ctap2.ErrInvalidSubcommand,
		"ErrKeepaliveCancel":           ctap2.ErrKeepaliveCancel,
		"ErrKeyStoreFull":              ctap2.ErrKeyStoreFull,
		"ErrLargeBlobStorageFull":      ctap2.ErrLargeBlobStorageFull,
		"ErrLimitExceeded":             ctap2.ErrLimitExceeded,
		"ErrLockRequired":              ctap2.ErrLockRequired,
		"ErrMalformed":                 ctap2.ErrMalformed,
		"ErrMessageTooLarge":           ctap2.ErrMessageTooLarge,
		"ErrMissingParameter":          ctap2.ErrMissingParameter,
		"ErrNoAnswer":                  ctap2.ErrNoAnswer,
		"ErrNoCredentials":             ctap2.ErrNoCredentials,
		"ErrNoLargeBlob":               ctap2.ErrNoLargeBlob,
		"ErrNoLargeBlobKey":            ctap2.ErrNoLargeBlobKey,
		"ErrNoOperationPending":        ctap2.ErrNoOperationPending,
		"ErrNoOperations":              ctap2.ErrNoOperations,
		"ErrNoOutput":                  ctap2.ErrNoOutput,
		"ErrNoPIN":                     ctap2.ErrNoPIN,
		"ErrNotAllowed":                ctap2.ErrNotAllowed,
		"ErrNotBusy":                   ctap2.ErrNotBusy,
		"ErrNotRecorded":               ctap2.ErrNotRecorded,
		"ErrNotSetUp":                  ctap2.ErrNotSetUp,
		"ErrOperationDenied":           ctap2.ErrOperationDenied,
		"ErrOperationPending":          ctap2.ErrOperationPending,
		"ErrOther":                     ctap2.ErrOther,
		"ErrPINAuthBlocked":            ctap2.ErrPINAuthBlocked,
		"ErrPINAuthInvalid":            ctap2.ErrPINAuthInvalid,
		"ErrPINBlocked":                ctap2.ErrPINBlocked,
		"ErrPINChangeRequired":         ctap2.ErrPINChangeRequired,
		"ErrPINInvalid":                ctap2.ErrPINInvalid,
		"ErrPINNotSet":                 ctap2.ErrPINNotSet,
		"ErrPINPolicyViolation":        ctap2.ErrPINPolicyViolation,
		"ErrPINTokenExpired":           ctap2.ErrPINTokenExpired,
		"ErrPUATRequired":              ctap2.ErrPUATRequired,
		"ErrProcessing":                ctap2.ErrProcessing,
		"ErrRequestTooLarge":           ctap2.ErrRequestTooLarge,
		"ErrReset":                     ctap2.ErrReset,
		"ErrTimeout":                   ctap2.ErrTimeout,
		"ErrU2FClaNotSupported":        ctap2.ErrU2FClaNotSupported,
		"ErrU2FConditionsNotSatisfied": ctap2.ErrU2FConditionsNotSatisfied,
		"ErrU2FInsNotSupported":        ctap2.ErrU2FInsNotSupported,
		"ErrU2FWrongData":              ctap2.ErrU2FWrongData,
		"ErrU2FWrongLength":            ctap2.ErrU2FWrongLength,
		"ErrUPRequired":                ctap2.ErrUPRequired,
		"ErrUVBlocked":                 ctap2.ErrUVBlocked,
		"ErrUVInvalid":                 ctap2.ErrUVInvalid,
		"ErrUnauthorizedPermission":    ctap2.ErrUnauthorizedPermission,
		"ErrUnsupported":               ctap2.ErrUnsupported,
		"ErrUnsupportedAlgorithm":      ctap2.ErrUnsupportedAlgorithm,
		"ErrUnsupportedExtension":      ctap2.ErrUnsupportedExtension,
		"ErrUnsupportedOption":         ctap2.ErrUnsupportedOption,
		"ErrUserActionPending":         ctap2.ErrUserActionPending,
		"ErrUserActionTimeout":         ctap2.ErrUserActionTimeout,
	},
	"ctap2/conformance": {
		"ErrAnother": conformance.ErrAnother,
		"ErrCannot":  conformance.ErrCannot,
		"ErrReport":  conformance.ErrReport,
	},
	"ctap2/attestation": {
		"ErrAAGUID":       attestation.ErrAAGUID,
		"ErrBlocked":      attestation.ErrBlocked,
		"ErrChain":        attestation.ErrChain,
		"ErrExpired":      attestation.ErrExpired,
		"ErrFormat":       attestation.ErrFormat,
		"ErrInvalid":      attestation.ErrInvalid,
		"ErrIssuer":       attestation.ErrIssuer,
		"ErrLevel":        attestation.ErrLevel,
		"ErrNotAllowed":   attestation.ErrNotAllowed,
		"ErrNotAttested":  attestation.ErrNotAttested,
		"ErrUnknownModel": attestation.ErrUnknownModel,
		"ErrUnsafe":       attestation.ErrUnsafe,
		"ErrUntrusted":    attestation.ErrUntrusted,
	},
	"ctap2/attestation/metadata": {
		"ErrMalformed": metadata.ErrMalformed,
		"ErrRollback":  metadata.ErrRollback,
		"ErrSignature": metadata.ErrSignature,
		"ErrStale":     metadata.ErrStale,
		"ErrUntrusted": metadata.ErrUntrusted,
	},
	"ctap2/entra": {
		"ErrExpired":        entra.ErrExpired,
		"ErrIncompatible":   entra.ErrIncompatible,
		"ErrInvalidRequest": entra.ErrInvalidRequest,
		"ErrMalformed":      entra.ErrMalformed,
		"ErrNotOnKey":       entra.ErrNotOnKey,
		"ErrNotRegistered":  entra.ErrNotRegistered,
		"ErrToken":          entra.ErrToken,
		"ErrUncertain":      entra.ErrUncertain,
	},
	"ctap2/keys": {
		"ErrAmbiguous": keys.ErrAmbiguous,
		"ErrNoKey":     keys.ErrNoKey,
	},
	"ctap2/virtual": {
		"ErrInUse": virtual.ErrInUse,
	},
	"ctap2/webauthn": {
		"ErrAbort":        webauthn.ErrAbort,
		"ErrConstraint":   webauthn.ErrConstraint,
		"ErrEncoding":     webauthn.ErrEncoding,
		"ErrInvalidState": webauthn.ErrInvalidState,
		"ErrNotAllowed":   webauthn.ErrNotAllowed,
		"ErrNotSupported": webauthn.ErrNotSupported,
		"ErrSecurity":     webauthn.ErrSecurity,
		"ErrSyntax":       webauthn.ErrSyntax,
		"ErrType":         webauthn.ErrType,
		"ErrNotValid":     webauthn.ErrNotValid,
	},
	"hid": {
		"ErrChannelBusy":     hid.ErrChannelBusy,
		"ErrClosed":          hid.ErrClosed,
		"ErrDeviceGone":      hid.ErrDeviceGone,
		"ErrFraming":         hid.ErrFraming,
		"ErrInvalidChannel":  hid.ErrInvalidChannel,
		"ErrInvalidCmd":      hid.ErrInvalidCmd,
		"ErrInvalidLen":      hid.ErrInvalidLen,
		"ErrInvalidPar":      hid.ErrInvalidPar,
		"ErrInvalidSeq":      hid.ErrInvalidSeq,
		"ErrLockRequired":    hid.ErrLockRequired,
		"ErrMessageTooLarge": hid.ErrMessageTooLarge,
		"ErrMsgTimeout":      hid.ErrMsgTimeout,
		"ErrNoAnswer":        hid.ErrNoAnswer,
		"ErrOther":           hid.ErrOther,
		"ErrUnsupported":     hid.ErrUnsupported,
	},
	"nfc": {
		"ErrClaNotSupported":        nfc.ErrClaNotSupported,
		"ErrClosed":                 nfc.ErrClosed,
		"ErrConditionsNotSatisfied": nfc.ErrConditionsNotSatisfied,
		"ErrDeviceGone":             nfc.ErrDeviceGone,
		"ErrExtendedLength":         nfc.ErrExtendedLength,
		"ErrFileNotFound":           nfc.ErrFileNotFound,
		"ErrInUse":                  nfc.ErrInUse,
		"ErrInsNotSupported":        nfc.ErrInsNotSupported,
		"ErrMalformed":              nfc.ErrMalformed,
		"ErrMessageTooLarge":        nfc.ErrMessageTooLarge,
		"ErrNoAnswer":               nfc.ErrNoAnswer,
		"ErrNoCard":                 nfc.ErrNoCard,
		"ErrNoReader":               nfc.ErrNoReader,
		"ErrNoService":              nfc.ErrNoService,
		"ErrNotFIDO":                nfc.ErrNotFIDO,
		"ErrNotSelected":            nfc.ErrNotSelected,
		"ErrReset":                  nfc.ErrReset,
		"ErrSelectFailed":           nfc.ErrSelectFailed,
		"ErrUnsupported":            nfc.ErrUnsupported,
		"ErrWrongData":              nfc.ErrWrongData,
		"ErrWrongLength":            nfc.ErrWrongLength,
	},
	"pin": {
		"ErrCiphertext": pin.ErrCiphertext,
		"ErrKey":        pin.ErrKey,
		"ErrNotUTF8":    pin.ErrNotUTF8,
		"ErrProtocol":   pin.ErrProtocol,
		"ErrTooLong":    pin.ErrTooLong,
		"ErrTooShort":   pin.ErrTooShort,
		"ErrZeroByte":   pin.ErrZeroByte,
	},
}

// Every error that the library exports, and every one of this program, has its
// text. A new one fails here.
func TestEveryErrorIsExplained(t *testing.T) {
	for folder, values := range exported {
		for _, name := range errorNames(t, folder) {
			err, ok := values[name]
			if !ok {
				t.Errorf("%s: %s is not in this test", folder, name)
				continue
			}
			wrapped := fmt.Errorf("somewhere: %w", err)
			e := explain(wrapped)
			if e.What == sentence(wrapped.Error()) || e.exit == 0 || e.What == "" {
				t.Errorf("%s: %s has no text", folder, name)
			}
		}
	}
	for _, err := range []error{errDeclined, errFile, errVirtual, errPINIsSet, errRoots, errEnterprise} {
		if e := explain(fmt.Errorf("somewhere: %w", err)); strings.HasPrefix(e.What, "Somewhere") {
			t.Errorf("%v has no text", err)
		}
	}
}

// errorNames returns what a package exports whose name begins with Err and is a
// variable or a constant.
func errorNames(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", filepath.FromSlash(folder), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			values, ok := decl.(*ast.GenDecl)
			if !ok || values.Tok != token.VAR && values.Tok != token.CONST {
				continue
			}
			for _, spec := range values.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	if len(names) == 0 {
		t.Errorf("%s: no errors", folder)
	}
	return names
}

// Texts are sentences, and say what to do; statuses are those that are listed.
func TestTexts(t *testing.T) {
	for _, row := range explanations {
		for _, text := range []string{row.What, row.Means, row.Next} {
			if text != "" && (strings.TrimSpace(text) != text || strings.Contains(text, "  ")) {
				t.Errorf("%q", text)
			}
		}
		if !slices.Contains(kinds, row.kind) {
			t.Errorf("%q: status %d", row.What, row.exit)
		}
	}
	seen := map[int]bool{}
	for _, k := range kinds {
		if seen[k.exit] {
			t.Errorf("status %d twice", k.exit)
		}
		seen[k.exit] = true
	}
	// What fidoctl tells to do is a command that there is.
	p := &program{out: newPrinter(os.Stdout), err: newPrinter(os.Stderr)}
	for _, row := range explanations {
		for _, part := range strings.Split(row.Means+" "+row.Next, "fidoctl ")[1:] {
			words := strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(" .:;,", r) })
			if cmd, _, err := p.command().Find(words[:1]); err != nil || cmd.Name() != words[0] {
				t.Errorf("%q: there is no fidoctl %s", row.What, words[0])
			}
		}
	}
}

func TestExplain(t *testing.T) {
	e := explain(errors.New("something new"))
	if e.What != "Something new." || e.exit != failure.exit {
		t.Errorf("%+v", e)
	}
	for text, want := range map[string]string{
		"U5.csv: line 2":           "U5.csv: line 2.",
		"u5.csv has no users":      "u5.csv has no users.",
		"/tmp/u: no such file":     "/tmp/u: no such file.",
		"--token-file is missing.": "--token-file is missing.",
		"ångström, with an accent": "Ångström, with an accent.",
		"":                         "",
	} {
		if got := sentence(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	for retries, want := range map[int]string{1: "1 try is left.", 3: "3 tries are left."} {
		wrong := fmt.Errorf("%w", errors.Join(&ctap2.PINError{Retries: retries}, ctap2.ErrPINInvalid))
		if e := explain(wrong); e.Means != want || e.exit != verification.exit {
			t.Errorf("%+v", e)
		}
	}
	for _, wrong := range []*ctap2.PINError{{Retries: 0}, {Retries: 5, PowerCycle: true}} {
		if e := explain(errors.Join(wrong, ctap2.ErrPINInvalid)); e.exit != locked.exit {
			t.Errorf("%+v: %+v", wrong, e)
		}
	}
	late := errors.Join(&ctap2.ResetError{}, ctap2.ErrNotAllowed)
	if e := explain(late); !strings.Contains(e.Means, "ten seconds") || e.exit != refused.exit {
		t.Errorf("%+v", e)
	}
	over := errors.Join(&ctap2.ResetError{Transports: []string{"usb"}}, ctap2.ErrOperationDenied)
	if e := explain(over); e.Means != "It can only be reset over usb." {
		t.Errorf("%+v", e)
	}
}

// What Graph does not want is refused; what it could not do may work another time.
func TestExplainGraph(t *testing.T) {
	for status, want := range map[int]kind{
		400: refused, 409: refused, 412: refused, 422: refused,
		401: noAccess, 403: noAccess, 404: notFound,
		408: connection, 429: connection, 500: connection, 503: connection, 302: connection, 0: connection,
	} {
		e := explain(fmt.Errorf("somewhere: %w", &entra.Error{Call: "register", Status: status, Code: "badRequest", Message: "attestation is missing"}))
		if e.exit != want.exit {
			t.Errorf("%d: %+v", status, e)
		}
		if want == refused && (e.Means != "Attestation is missing." || strings.Contains(e.Next, "again")) {
			t.Errorf("%d: %+v", status, e)
		}
	}
	if e := explain(&entra.Error{Status: 400, Code: "badRequest"}); e.Means != "BadRequest." {
		t.Errorf("%+v", e)
	}
}

// Keys that are not able to do something are told by that, not by how fidoctl was
// built.
func TestInability(t *testing.T) {
	t.Parallel()
	key := newKey(t, "") + ".old"
	for _, c := range []struct {
		want    string
		profile string
		args    []string
	}{
		{"This key cannot list its credentials.", "ctap2.0", []string{"credentials", "list"}},
		{"This key cannot have a PIN.", "u2f", []string{"pin", "set"}},
		{"This key cannot read fingerprints.", "ctap2.0", []string{"fingerprint", "list"}},
		{"This key cannot be told to require longer PINs.", "ctap2.0", []string{"config", "min-pin-length", "6", "--yes"}},
	} {
		e := scriptFails(t, key+c.profile, unsupported, append([]string{"--virtual-profile", c.profile}, c.args...)...)
		if e.What != c.want || strings.Contains(e.Next, "cgo") {
			t.Errorf("%v: %+v", c.args, e)
		}
	}
	p := &program{out: newPrinter(os.Stdout), err: newPrinter(os.Stderr)}
	for name := range abilities {
		if cmd, rest, err := p.command().Find(strings.Fields(name)); err != nil || len(rest) > 0 || !cmd.Runnable() {
			t.Errorf("there is no fidoctl %s", name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	r := pipe(t, "", "", "help", "exit-codes")
	golden(t, "exit-codes.txt", r.out)
	// A command line that is not understood says where help is.
	for _, args := range [][]string{{"frobnicate"}, {"pin"}, {"pin", "frobnicate"}, {"--frobnicate"}, {"signin"}, {"info", "here"}} {
		if r := pipe(t, "", "", args...); r.code != usage.exit || !strings.Contains(r.err, "--help") || r.out != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
