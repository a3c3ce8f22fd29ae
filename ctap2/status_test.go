package ctap2

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapstone/fido/internal/ctap"
)

func TestStatus(t *testing.T) {
	for s := range 256 {
		status := Status(s)
		text, named := statusTexts[status]
		if named && (status.String() != text[0] || !strings.Contains(status.Error(), text[1]) || text[1] == "") {
			t.Errorf("%02x: %q", s, status.Error())
		}
		if !named && !strings.Contains(status.String(), fmt.Sprintf("%02X", s)) {
			t.Errorf("%02x: %q does not show the byte", s, status)
		}
	}
	if got := Status(0xE3).String() + Status(0xF1).Error() + Status(0x50).String(); got != "EXTENSION_E3VENDOR_F1status 0x50" {
		t.Error(got)
	}
}

func TestErrorTexts(t *testing.T) {
	for text, err := range map[string]error{
		"authenticatorMakeCredential: PIN_AUTH_INVALID": &Error{Command: ctap.CmdMakeCredential, Status: ErrPINAuthInvalid},
		"authenticatorGetNextAssertion: NOT_ALLOWED":    &Error{Command: ctap.CmdGetNextAssertion, Status: ErrNotAllowed},
		"authenticatorReset: ":                          &Error{Command: ctap.CmdReset, Status: ErrNotAllowed},
		"authenticatorSelection: ":                      &Error{Command: ctap.CmdSelection, Status: ErrOperationDenied},
		"authenticatorClientPIN: ":                      &Error{Command: ctap.CmdClientPIN, Subcommand: 0x33, Status: ErrInvalidSubcommand},
		"changePIN: PIN_INVALID":                        &Error{Command: ctap.CmdClientPIN, Subcommand: ctap.PINChangePIN, Status: ErrPINInvalid},
		"command 0x42: ":                                &Error{Command: 0x42, Status: ErrOther},
		"wrong PIN, 1 try left":                         &PINError{Retries: 1, err: ErrPINInvalid},
		"wrong PIN, 5 tries left":                       &PINError{Retries: 5, err: ErrPINInvalid},
		"ctap2: wrong PIN":                              &PINError{Retries: -1, err: ErrPINInvalid},
		"5 tries left: unplug the key":                  &PINError{Retries: 5, PowerCycle: true, err: ErrPINInvalid},
		"in a row: unplug the key":                      &PINError{Retries: -1, err: ErrPINAuthBlocked},
		"only a reset":                                  &PINError{Retries: 0, err: ErrPINInvalid},
		"is blocked: only a reset":                      &PINError{Retries: -1, err: ErrPINBlocked},
	} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q, want %q", err, text)
		}
	}
	wrong := fmt.Errorf("sign in: %w", &PINError{Retries: 3, err: &Error{Command: ctap.CmdClientPIN, Status: ErrPINInvalid}})
	var e *Error
	if !errors.Is(wrong, ErrPINInvalid) || !errors.As(wrong, &e) || errors.Is(wrong, ErrPINBlocked) {
		t.Error("a PINError does not lead to its status")
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]string{
		"preferred required discouraged":                                        fmt.Sprint(Preferred, Required, Discouraged),
		"userVerificationOptional credProtect policy 9":                         fmt.Sprint(UVOptional, " ", CredProtectPolicy(9)),
		"userVerificationOptionalWithCredentialIDList userVerificationRequired": fmt.Sprint(UVOptionalWithCredentialIDList, " ", UVRequired),
		"UP|RFU1|UV|BE|BS|RFU2|AT|ED":                                           Flags(0xFF).String(),
		"cm|be|lbw|acfg|pcmr":                                                   Permission(0x7C).String(),
		"01020300-0000-0000-0000-000000000000 A B":                              (&Info{AAGUID: AAGUID{1, 2, 3}, Versions: []string{"A", "B"}}).String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if text, err := (AAGUID{0xAB}).MarshalText(); err != nil || string(text) != "ab000000-0000-0000-0000-000000000000" {
		t.Errorf("%s, %v", text, err)
	}
	for n, want := range map[int]int{0: 1, 23: 1, 24: 2, 255: 2, 256: 3, 65535: 3, 65536: 5} {
		if headSize(n) != want {
			t.Errorf("head of a string of %d bytes: %d", n, headSize(n))
		}
	}
}

func TestAAGUIDText(t *testing.T) {
	var a AAGUID
	for text, good := range map[string]bool{
		"6d8a1c52-1f0e-4b3a-9c37-5ed12044f6b9":   true,
		"6D8A1C52-1F0E-4B3A-9C37-5ED12044F6B9":   true,
		"6d8a1c521f0e4b3a9c375ed12044f6b9":       false,
		"{6d8a1c52-1f0e-4b3a-9c37-5ed12044f6b9}": false,
		"6d8a1c52-1f0e-4b3a-9c375-ed12044f6b9":   false,
		"6d8a1c52-1f0e-4b3a-9c37-5ed12044f6bg":   false,
		"":                                       false,
	} {
		before := a
		err := a.UnmarshalText([]byte(text))
		if (err == nil) != good || good && !strings.EqualFold(a.String(), text) || !good && a != before {
			t.Errorf("%q: %v, %v", text, a, err)
		}
	}
}
