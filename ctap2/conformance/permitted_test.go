package conformance_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// TestPermitted: no case fails because of what the specification leaves to an
// authenticator.
func TestPermitted(t *testing.T) {
	finger := virtual.Config{BuiltInUV: virtual.UVNotConfigured}
	tokens := "^(tok|token|gna-token|lb-set-next|cm-next)-"
	for name, permitted := range map[string]struct {
		over, cases string
		config      virtual.Config
		change      func(target *conformance.Target)
	}{
		"the tap is the touch": {"nfc", "touch|timeout|cancelled|^(sel|u2f|nfc-poll)-", virtual.Config{}, tapIsTouch},
		"credProtect 2 by default": {
			"memory", "^(gna|ga|rst|cm|credprotect|credblob|largeblobkey|hmac)-|^ext-order|^mc-(same|other|longer|user)-", virtual.Config{}, overheard(protects),
		},
		"tokens live for five minutes": {"memory", tokens, finger, impatient(5*time.Minute, time.Hour)},
		"tokens want to be used":       {"memory", tokens, finger, impatient(time.Hour, 30*time.Second)},
		"a display":                    {"memory", "^rst-", virtual.Config{ResetWindow: -1}, nil},
		"CTAP 2.0 with discoverable credentials only": {
			"memory", "^(ga-not-rk-no-list|ga-power-cycle|mc-same-account-not-rk|ext-none|ext-unknown-output)$",
			virtual.Config{Level: virtual.CTAP20}, overheard(discoverable),
		},
		"CTAP 2.0 with discoverable credentials only, one after another": {
			"memory", "^(mc-exclude|mc-same|u2f-from)", virtual.Config{Level: virtual.CTAP20}, overheard(discoverable),
		},
		"vendor-facilitated enterprise attestation only": {
			"memory", "^ea-", virtual.Config{EnterpriseAttestation: true, EnterpriseRPIDs: []string{"enterprise.example"}},
			overheard(vendorFacilitated),
		},
		"enterprise attestation for others": {"memory", "^ea-vendor-", virtual.Config{EnterpriseAttestation: true}, enterprising},
		"rules for new PINs": {
			"memory", "^(set-at-min|pin-longest|pin-code-points|cfg-min-complexity)$", virtual.Config{}, againstPINs(ctap.PINSetPIN),
		},
		"rules for other PINs":   {"memory", "^chg-same$", virtual.Config{}, againstPINs(ctap.PINChangePIN)},
		"PINs of five digits":    {"memory", "^(set|chg|pin|cfg-min)-", virtual.Config{MaxPINLength: 5}, nil},
		"three tries of the PIN": {"memory", "-(wrong-third|auth-blocked)$", virtual.Config{}, answering(threeTries)},
		"no option rk":           {"memory", "^mc-rk-", virtual.Config{NoResidentKeys: true}, withoutRK},
		"vendor commands":        {"memory", "^(enc|pre)-", finger, answering(vendorCommands)},
	} {
		t.Run(name, func(t *testing.T) {
			cases := regexp.MustCompile(permitted.cases)
			synctest.Test(t, func(t *testing.T) {
				target := over(t, permitted.over, permitted.config)
				if permitted.change != nil {
					permitted.change(&target)
				}
				report, err := conformance.Check(t.Context(), conformance.Config{
					Target: target, Destructive: true, MaxWait: -1, OneVariant: true,
					Only: func(c conformance.Case) bool { return chosen(c) && cases.MatchString(c.ID) },
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range report.Results {
					if r.Outcome == conformance.Failed {
						t.Errorf("%s: %s", r.ID, r.Message)
					}
				}
			})
		})
	}
}

// tapIsTouch has the authenticator touched by lying on the reader (§5).
func tapIsTouch(target *conformance.Target) {
	gesture := target.Operator.Gesture
	target.Operator.Gesture = func(ctx context.Context, g conformance.Gesture) error {
		switch g {
		case conformance.NoTouch:
			g = conformance.Touch
		case conformance.Decline:
			return conformance.ErrCannot
		}
		return gesture(ctx, g)
	}
}

// An eavesdropper sees each message, and what is made of it goes to the
// authenticator. If that is nil, the status answers it.
type eavesdropper struct {
	ctap2.Transport
	hears func(message []byte) (instead []byte, status byte)
}

func (e eavesdropper) Unwrap() ctap2.Transport { return e.Transport }

func (e eavesdropper) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	instead, answer := e.hears(message)
	if instead == nil {
		return []byte{answer}, nil
	}
	return e.Transport.Exchange(ctx, instead, status)
}

func listenIn(target *conformance.Target, hears func(message []byte) ([]byte, byte)) {
	open := target.Open
	target.Open = func(ctx context.Context) (ctap2.Transport, error) {
		key, err := open(ctx)
		return eavesdropper{key, hears}, err
	}
}

// overheard changes each makeCredential.
func overheard(change func(request map[int]any)) func(*conformance.Target) {
	return func(target *conformance.Target) {
		listenIn(target, func(message []byte) ([]byte, byte) {
			var request map[int]any
			if message[0] != ctap.CmdMakeCredential || cbor.Unmarshal(message[1:], &request) != nil {
				return message, 0
			}
			change(request)
			changed, err := cbor.Marshal(request)
			if err != nil {
				return nil, ctap.StatusOther
			}
			return append([]byte{ctap.CmdMakeCredential}, changed...), 0
		})
	}
}

// protects asks for level 2 of credProtect at least.
func protects(request map[int]any) {
	extensions, ok := request[6].(map[any]any)
	if !ok {
		extensions = map[any]any{}
	}
	if level, asked := extensions["credProtect"]; !asked || level == uint64(1) {
		extensions["credProtect"] = 2
	}
	request[6] = extensions
}

// discoverable asks for a discoverable credential.
func discoverable(request map[int]any) { request[7] = map[string]bool{"rk": true} }

// impatient has a token end at an age, and when it was not used for a while
// (§6.5.2.1).
func impatient(age, idle time.Duration) func(*conformance.Target) {
	return func(target *conformance.Target) {
		var issued, used time.Time
		param := map[byte]int{ctap.CmdGetAssertion: 6, ctap.CmdCredentialManagement: 4, ctap.CmdLargeBlobs: 5}
		listenIn(target, func(message []byte) ([]byte, byte) {
			var request map[int]any
			_ = cbor.Unmarshal(message[1:], &request) // there is none in what cannot be read
			switch {
			case message[0] == ctap.CmdClientPIN:
				issued, used = time.Now(), time.Now()
			case request[param[message[0]]] == nil:
			case time.Since(issued) >= age || time.Since(used) >= idle:
				return nil, ctap.StatusPINAuthInvalid
			default:
				used = time.Now()
			}
			return message, 0
		})
	}
}

// vendorFacilitated makes enterpriseAttestation 2 a 1 (§6.1.2 step 9).
func vendorFacilitated(request map[int]any) {
	if request[10] == uint64(ctap.EnterprisePlatformManaged) {
		request[10] = ctap.EnterpriseVendorFacilitated
	}
}

// enterprising says that there is somebody on the list who is not.
func enterprising(target *conformance.Target) { target.EnterpriseRPID = "enterprise.example" }

// againstPINs refuses every new PIN (§6.5.5.5 step 10, §6.5.5.6 step 14).
func againstPINs(subcommand uint64) func(*conformance.Target) {
	return func(target *conformance.Target) {
		listenIn(target, func(message []byte) ([]byte, byte) {
			var request map[int]any
			if message[0] == ctap.CmdClientPIN && cbor.Unmarshal(message[1:], &request) == nil && request[2] == subcommand {
				return nil, ctap.StatusPINPolicyViolation
			}
			return message, 0
		})
	}
}

// withoutRK has no option rk, which is then not supported, whatever it says
// (§6.1.2 step 5).
func withoutRK(target *conformance.Target) {
	listenIn(target, func(message []byte) ([]byte, byte) {
		var request map[int]any
		if message[0] == ctap.CmdMakeCredential && cbor.Unmarshal(message[1:], &request) == nil {
			if options, _ := request[7].(map[any]any); options["rk"] != nil {
				return nil, ctap.StatusUnsupportedOption
			}
		}
		return message, 0
	})
	answering(func(command byte, reply []byte) []byte {
		var info map[int]any
		if command != ctap.CmdGetInfo || cbor.Unmarshal(reply[1:], &info) != nil {
			return reply
		}
		delete(info[4].(map[any]any), "rk")
		changed, err := cbor.Marshal(info)
		if err != nil {
			return nil
		}
		return append(reply[:1:1], changed...)
	})(target)
}

// threeTries has three tries of the PIN where the authenticator has eight, so
// that the third wrong one is the last (§6.5.2.2).
func threeTries(command byte, reply []byte) []byte {
	switch {
	case command != ctap.CmdClientPIN:
	case reply[0] == ctap.StatusPINAuthBlocked:
		return []byte{ctap.StatusPINBlocked}
	case len(reply) > 3 && reply[2] == 3: // pinRetries
		return append([]byte{reply[0], reply[1], reply[2], reply[3] - 5}, reply[4:]...)
	}
	return reply
}

// vendorCommands carries out whatever they are.
func vendorCommands(command byte, reply []byte) []byte {
	if command >= 0x40 && command <= 0x42 {
		return []byte{ctap.StatusOK}
	}
	return reply
}

// An answerer changes each reply.
type answerer struct {
	ctap2.Transport
	change func(command byte, reply []byte) []byte
}

func (a answerer) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := a.Transport.Exchange(ctx, message, status)
	if err != nil || len(reply) == 0 {
		return reply, err
	}
	return a.change(message[0], reply), nil
}

func answering(change func(command byte, reply []byte) []byte) func(*conformance.Target) {
	return func(target *conformance.Target) {
		open := target.Open
		target.Open = func(ctx context.Context) (ctap2.Transport, error) {
			key, err := open(ctx)
			return answerer{key, change}, err
		}
	}
}

// TestVendorConfig: no case has the authenticator carry out a command of its
// vendor's: nobody knows what it does, nor whether a reset undoes it.
func TestVendorConfig(t *testing.T) {
	config := virtual.Config{VendorConfigCommands: []uint64{0xBADBADBAD}}
	config.VendorConfig = func(id uint64, _ []byte) byte {
		t.Errorf("vendor command %x was carried out", id)
		return ctap.StatusOK
	}
	check(t, "memory", config, func(c conformance.Case) bool { return strings.HasPrefix(c.ID, "cfg-") })
}
