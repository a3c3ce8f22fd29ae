package conformance

import (
	"context"
	"log/slog"
	"slices"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// A watch sees what goes to the authenticator, and notices what a reset must
// undo before the next case.
type watch struct {
	ctap2.Transport
	h *harness
}

// kept is how many exchanges of a trial are kept.
const kept = 50

// watched puts a watch under what writes exchanges down.
func (h *harness) watched(t ctap2.Transport) ctap2.Transport {
	w := &watch{t, h}
	return ctap2.Trace(w, slog.New(w), ctap2.ShowAccounts())
}

// Unwrap lets the abilities of the transport be found.
func (w *watch) Unwrap() ctap2.Transport { return w.Transport }

func (w *watch) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := w.Transport.Exchange(ctx, message, status)
	if len(message) > 0 && message[0] == ctap.CmdClientPIN && (err != nil || len(reply) == 0 || reply[0] != ctap.StatusOK) {
		w.h.doubted = true
	}
	if err != nil || len(reply) == 0 || len(message) == 0 {
		w.h.changed = true // nobody knows what has become of it
		return reply, err
	}
	w.h.notice(message[0], message[1:], reply[0])
	w.h.noticeProtection(message, reply)
	w.h.inspect(message[0], reply)
	return reply, err
}

// inspect sees whether an answer is canonical CBOR. Every case begins with
// getInfo, which has a case of its own for that.
func (h *harness) inspect(command byte, reply []byte) {
	const firstVendor = 0x40
	if reply[0] != ctap.StatusOK || len(reply) == 1 || command == ctap.CmdGetInfo || command >= firstVendor && !previewed(command) {
		return
	}
	if err := cbor.Check(reply[1:], cbor.Strict); err != nil {
		h.irregular = err
	}
}

// previewed reports whether a vendor command is that of a prototype.
func previewed(command byte) bool {
	return command == ctap.CmdBioEnrollmentPreview || command == ctap.CmdCredentialManagementPreview
}

// notice takes note of what a command has changed.
func (h *harness) notice(command byte, parameters []byte, status byte) {
	switch status {
	case ctap.StatusPINInvalid, ctap.StatusPINBlocked, ctap.StatusPINAuthBlocked, ctap.StatusUVInvalid, ctap.StatusUVBlocked:
		h.changed = true // the counter of tries
		return
	case ctap.StatusPINAuthInvalid:
		h.changed = h.changed || command == ctap.CmdClientPIN
		return
	case ctap.StatusOK:
	default:
		return
	}
	var request struct {
		One     any            `cbor:"1,keyasint"`
		Two     any            `cbor:"2,keyasint"`
		Options map[string]any `cbor:"7,keyasint"`
	}
	readable := len(parameters) == 0 || cbor.Unmarshal(parameters, &request) == nil
	switch command {
	case ctap.CmdReset:
		h.known, h.state = h.everReset, h.factory
		h.changed, h.credentials, h.doubtful = false, 0, ""
	case ctap.CmdMakeCredential:
		rp, _ := request.Two.(map[any]any)
		if rk, _ := request.Options["rk"].(bool); rk || !readable {
			h.credentials++
		} else if !from21.holds(h.origin) {
			h.doubtful, _ = rp["id"].(string)
		}
	case ctap.CmdGetInfo, ctap.CmdGetAssertion, ctap.CmdGetNextAssertion, ctap.CmdSelection:
	case ctap.CmdClientPIN:
		h.changed = h.changed || among(request.Two, readable, ctap.PINSetPIN, ctap.PINChangePIN)
	case ctap.CmdCredentialManagement, ctap.CmdCredentialManagementPreview:
		// What is there less, or has another name, is there for one case only.
	case ctap.CmdBioEnrollment, ctap.CmdBioEnrollmentPreview:
		h.changed = h.changed || among(request.Two, readable,
			ctap.BioEnrollBegin, ctap.BioEnrollCaptureNextSample, ctap.BioSetFriendlyName, ctap.BioRemoveEnrollment)
	case ctap.CmdLargeBlobs:
		h.changed = h.changed || request.Two != nil || !readable
	default:
		h.changed = true
	}
}

// among reports whether a subcommand is one of those, or cannot be read.
func among(subcommand any, readable bool, those ...uint64) bool {
	number, ok := subcommand.(uint64)
	if !ok || !readable {
		return true
	}
	for _, one := range those {
		if number == one {
			return true
		}
	}
	return false
}

// Enabled, Handle, WithAttrs and WithGroup are those of a slog.Handler, for the
// records of ctap2.Trace.
func (w *watch) Enabled(context.Context, slog.Level) bool { return true }

func (w *watch) Handle(_ context.Context, r slog.Record) error {
	var e Exchange
	r.Attrs(func(a slog.Attr) bool {
		switch text := a.Value.String(); a.Key {
		case "command":
			e.Command = text
		case "subcommand":
			e.Command += " " + text
		case "request":
			e.Request = text
		case "status":
			e.Status = text
		case "reply":
			e.Reply = text
		case "error":
			e.Error = text
		}
		return true
	})
	w.h.note(e)
	return nil
}

func (w *watch) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *watch) WithGroup(string) slog.Handler      { return w }

// note keeps an exchange, for the result of a case that fails.
func (h *harness) note(e Exchange) {
	if len(h.last) == kept {
		h.last = slices.Delete(h.last, 0, 1)
	}
	h.last = append(h.last, e)
}
