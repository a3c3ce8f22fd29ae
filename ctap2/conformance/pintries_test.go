package conformance_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/ctap2/virtual"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/pin"
)

// counted counts what an authenticator says of the PINs that it gets.
type counted struct {
	*virtual.Conn
	wrong, row, most *int // wrong ones; those in a row; the most of these
}

func (c counted) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := c.Conn.Exchange(ctx, message, status)
	if err != nil || message[0] != ctap.CmdClientPIN {
		return reply, err
	}
	switch {
	case reply[0] == ctap.StatusPINInvalid, reply[0] == ctap.StatusPINAuthBlocked, reply[0] == ctap.StatusPINBlocked:
		*c.wrong++
		*c.row++
		*c.most = max(*c.most, *c.row)
	case reply[0] == ctap.StatusOK && len(reply) > 1 && reply[2] == 2: // pinUvAuthToken
		*c.row = 0
	}
	return reply, err
}

// TestPINTries: a run that is not Destructive asks before it enters a wrong PIN,
// gives back what that took, and never enters one that was refused again.
func TestPINTries(t *testing.T) {
	const thePIN = "314159"
	for name, test := range map[string]struct {
		given   string
		used    int // wrong PINs entered before the run
		allowed bool
		asked   bool
		wrong   func(n int) bool
		after   int // tries left
	}{
		"allowed":          {thePIN, 0, true, true, func(n int) bool { return n > 10 }, 8},
		"allowed, few":     {thePIN, 4, true, true, func(n int) bool { return n > 10 }, 8},
		"not allowed":      {thePIN, 1, false, true, func(n int) bool { return n == 0 }, 8},
		"too few":          {thePIN, 5, true, false, func(n int) bool { return n == 0 }, 3},
		"not its PIN":      {"161803", 0, true, false, func(n int) bool { return n == 1 }, 7},
		"PIN is not known": {"", 1, true, false, func(n int) bool { return n == 0 }, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := virtual.ProfileCTAP23.Config()
				config.PIN = thePIN
				key, err := virtual.New(config)
				if err != nil {
					t.Fatal(err)
				}
				defer key.Close()
				mistype(t, key, test.used)
				key.PowerCycle()
				var wrong, row, most int
				target, asked := memory(key), false
				target.Open = func(context.Context) (ctap2.Transport, error) {
					return counted{key.Open(), &wrong, &row, &most}, nil
				}
				target.Operator.SpendPINTries = func(_ context.Context, tries, left int) bool {
					asked = true
					if left-tries < 3 {
						t.Errorf("asked for %d of %d tries", tries, left)
					}
					return test.allowed
				}
				report, err := conformance.Check(t.Context(), conformance.Config{
					Target: target, MaxWait: -1, PIN: pin.FromString(test.given), Only: chosen,
				})
				if err != nil {
					t.Fatal(err)
				}
				if report.Count(conformance.Failed) > 0 || report.Count(conformance.Passed) == 0 {
					t.Errorf("%d cases failed, %d passed", report.Count(conformance.Failed), report.Count(conformance.Passed))
				}
				if asked != test.asked || !test.wrong(wrong) || most > 2 {
					t.Errorf("asked: %v; %d wrong PINs, %d in a row", asked, wrong, most)
				}
				if left := tries(t, key); left != test.after {
					t.Errorf("%d tries left, want %d", left, test.after)
				}
			})
		})
	}
}

func mistype(t *testing.T, key *virtual.Authenticator, times int) {
	t.Helper()
	for range times {
		key.PowerCycle() // three in a row would block
		opened, err := ctap2.Open(t.Context(), key.Open(), ctap2.WithInteraction(ctap2.Interaction{
			PIN: func(context.Context, ctap2.PINRequest) (pin.Secret, error) { return pin.FromString("999999"), nil },
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = opened.Token(t.Context(), &ctap2.TokenRequest{
			Permissions: ctap2.PermissionCredentialManagement, Method: ctap2.PINMethod,
		})
		if err == nil {
			t.Fatal("a wrong PIN is right")
		}
	}
}

func tries(t *testing.T, key *virtual.Authenticator) int {
	t.Helper()
	opened, err := ctap2.Open(t.Context(), key.Open())
	if err != nil {
		t.Fatal(err)
	}
	left, err := opened.PINRetries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return left.Retries
}

// A miscounter takes a try of the PIN for each request with a pinHashEnc that it
// refuses, whatever the reason.
type miscounter struct {
	*virtual.Conn
	lost, most *int
}

func (m miscounter) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	reply, err := m.Conn.Exchange(ctx, message, status)
	if err != nil || message[0] != ctap.CmdClientPIN {
		return reply, err
	}
	var request map[int]any
	refused := reply[0] != ctap.StatusOK && cbor.Unmarshal(message[1:], &request) == nil && request[6] != nil
	switch {
	case refused:
		*m.lost++
		*m.most = max(*m.most, *m.lost)
	case len(reply) > 2 && reply[2] == 2: // pinUvAuthToken
		*m.lost = 0
	case len(reply) > 3 && reply[2] == 3: // pinRetries
		reply[3] = byte(ctap.PINMaxRetries - *m.lost)
	}
	return reply, err
}

// TestMiscounter: a run that is not Destructive does not lock even a key that
// takes a try where it must not.
func TestMiscounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := virtual.ProfileCTAP23.Config()
		config.PIN = "314159"
		key, err := virtual.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		target, lost, most := memory(key), 0, 0
		target.Open = func(context.Context) (ctap2.Transport, error) { return miscounter{key.Open(), &lost, &most}, nil }
		report, err := conformance.Check(t.Context(), conformance.Config{
			Target: target, MaxWait: -1, PIN: pin.FromString(config.PIN),
		})
		if err != nil {
			t.Fatal(err)
		}
		if most == 0 || most > ctap.PINMaxRetries-3 {
			t.Errorf("%d tries were lost at once", most)
		}
		if lost > 1 {
			t.Errorf("%d tries are lost", lost)
		}
		if report.Count(conformance.Failed) == 0 {
			t.Error("nothing was wrong")
		}
	})
}
