package main

import (
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
		{[]string{"pin-complexity"}, "The key will refuse simple PINs, until", "The key will refuse simple PINs."},
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
	scriptFails(t, key, usage, "config", "long-touch")
	scriptFails(t, key, usage, "config", "always-uv", "perhaps")
	scriptFails(t, key, usage, "config", "min-pin-length", "long", "--yes")
	key = newKey(t, testPIN)
	script(t, key, &d, "config", "min-pin-length", "6")
	scriptFails(t, key, refused, "config", "min-pin-length", "5", "--yes")
	scriptFails(t, key, usage, "config", "min-pin-length", "64", "--yes")
	scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "config", "always-uv", "on")
	scriptFails(t, newKey(t, ""), notSetUp, "config", "force-pin-change")
}
