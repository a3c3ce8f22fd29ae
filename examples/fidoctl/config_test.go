package main

import (
	"context"
	"strings"
	"testing"

	"github.com/tapstone/fido/ctap2"
)

func TestConfigPerson(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	for _, c := range []struct {
		command []string
		asks    string
		says    string
	}{
		{[]string{"always-uv", "on"}, "", "It is on now."},
		{[]string{"always-uv", "on"}, "-", "It is already on."},
		{[]string{"min-pin-length", "6"}, "New PINs must have at least 6 characters, until the key is reset. Continue? [y/N] ", "New PINs must have at least 6 characters."},
		{[]string{"pin-complexity"}, "If the current PIN is too simple, it must be changed", "The key will refuse simple PINs."},
		{[]string{"enterprise-attestation"}, "The key will give its serial number", "The key will give its serial number"},
		{[]string{"long-touch"}, "A reset will require a touch of five seconds, until", "A reset will require a touch of five seconds."},
		{[]string{"force-pin-change"}, "", "The PIN must be changed"},
	} {
		s := person(t, key, append([]string{"config"}, c.command...)...)
		if c.asks != "" && c.asks != "-" {
			s.sees(c.asks)
			s.types("y\n")
		}
		if c.asks != "-" {
			s.sees("PIN (8 tries left): ")
			s.types(testPIN + "\n")
		}
		s.sees(c.says)
		s.ends(0)
	}
	s := person(t, key, "pin", "check")
	s.sees("The PIN must be changed first.")
	s.ends(notSetUp.exit)
}

func TestConfigScript(t *testing.T) {
	t.Parallel()
	key := newKey(t, testPIN)
	var d done
	for _, args := range [][]string{
		{"always-uv", "on"}, {"min-pin-length", "6", "--tell", "example.com"}, {"pin-complexity"}, {"enterprise-attestation"}, {"long-touch"}, {"force-pin-change"},
	} {
		script(t, key, &d, append([]string{"config"}, args...)...)
	}
	var i infoResult
	script(t, key, &i, "info")
	if !i.Options[ctap2.OptionAlwaysUV] || !i.Options[ctap2.OptionEnterpriseAttestation] || i.MinPINLength != 6 || !i.LongTouchForReset ||
		!i.ForcePINChange || i.PINComplexityPolicy == nil || !*i.PINComplexityPolicy {
		t.Errorf("%+v", i)
	}
	scriptFails(t, key, notSetUp, "config", "always-uv", "off")
	if e := scriptFails(t, key, notSetUp, "config", "min-pin-length", "7", "--yes"); e.What != "The PIN must be changed first." {
		t.Errorf("%+v", e)
	}
	scriptFails(t, key, usage, "config", "long-touch")
	scriptFails(t, key, usage, "config", "always-uv", "perhaps")
	scriptFails(t, key, usage, "config", "min-pin-length", "long", "--yes")
	key = newKey(t, testPIN)
	script(t, key, &d, "config", "min-pin-length", "6")
	if e := scriptFails(t, key, refused, "config", "min-pin-length", "5"); e.What != "The minimum is 6 already, and can only grow until a reset." {
		t.Errorf("%+v", e)
	}
	if e := scriptFails(t, key, usage, "config", "min-pin-length", "64"); e.What != `LENGTH must be a number of 1 to 63, not "64".` {
		t.Errorf("%+v", e)
	}
	sites := strings.TrimSuffix(strings.Repeat("example.com,", 9), ",")
	if e := scriptFails(t, key, full, "config", "min-pin-length", "7", "--tell", sites); !strings.Contains(e.What, "at most 8 sites") {
		t.Errorf("%+v", e)
	}
	script(t, key, &i, "info")
	if i.MinPINLength != 6 {
		t.Errorf("%+v", i)
	}
	e := scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "config", "always-uv", "on")
	if e.What != "This key cannot be told to verify its user always." {
		t.Errorf("%+v", e)
	}
	scriptFails(t, newKey(t, ""), notSetUp, "config", "force-pin-change")
	// A key from before these settings has not done what it ignores.
	key = newKey(t, "") + ".2.1"
	script(t, key, &d, "--virtual-profile", "ctap2.1", "pin", "set")
	for command, what := range map[string]string{"pin-complexity": "refuse simple PINs.", "long-touch": "require a long touch for a reset."} {
		e := scriptFails(t, key, unsupported, "--virtual-profile", "ctap2.1", "--yes", "config", command)
		if e.What != "This key cannot be told to "+what {
			t.Errorf("%s: %+v", command, e)
		}
	}
}

// unwilling answers authenticatorConfig with a status.
type unwilling struct {
	ctap2.Transport
	status ctap2.Status
}

func (u unwilling) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	if message[0] == authenticatorConfig {
		return []byte{byte(u.status)}, nil
	}
	return u.Transport.Exchange(ctx, message, status)
}

// What a key answers to a minimum is not about a PIN, or about credentials that
// could be deleted.
func TestMinPINLengthRefused(t *testing.T) {
	for status, want := range map[ctap2.Status]string{
		ctap2.ErrPINPolicyViolation: "The key does not accept this minimum.",
		ctap2.ErrKeyStoreFull:       "The key has no room for as many sites.",
	} {
		p, said := inProcess(newKey(t, ""), func(_ int, t ctap2.Transport) ctap2.Transport { return unwilling{t, status} })
		p.run(t.Context(), []string{"config", "min-pin-length", "6", "--tell", "example.com"})
		if !strings.HasPrefix(said.String(), want) || strings.Contains(said.String(), "redentials") {
			t.Errorf("%v: %s", status, said)
		}
	}
}
