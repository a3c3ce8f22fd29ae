package entra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/ctap2"
)

// A Verdict says whether a key keeps to a rule.
type Verdict uint8

// Verdicts.
const (
	Unknown Verdict = iota // the key does not say
	Met
	NotMet
)

// String returns "unknown", "met" or "not met".
func (v Verdict) String() string {
	return [...]string{"unknown", "met", "not met"}[min(v, NotMet)]
}

// A Finding is what is known about one rule.
type Finding struct {
	Rule string // such as "discoverable credentials"
	// Required: Entra or Windows demands it. Other rules are advice: no text of
	// Microsoft's asks for them, and something else goes better with them.
	Required bool
	Verdict  Verdict
	// Evidence is what the key says, such as "option rk: true".
	Evidence string
	// For says who asks for it, or what it is good for.
	For string
}

// String returns one line.
func (f Finding) String() string {
	weight := "advice"
	if f.Required {
		weight = "required"
	}
	return fmt.Sprintf("%-8s %-8s %s: %s (for %s)", f.Verdict, weight, f.Rule, f.Evidence, f.For)
}

// A Compatibility is what Compatible found out about a key.
type Compatibility struct {
	AAGUID   ctap2.AAGUID
	Findings []Finding // the required ones first
}

// Names of rules, by which a Finding is found.
const (
	RuleFIDO2            = "FIDO 2.0"
	RuleResidentKey      = "discoverable credentials"
	RuleUserVerification = "PIN or built-in user verification"
	RuleHMACSecret       = "hmac-secret"
	RuleAccounts         = "several accounts"
)

// Who asks for a rule.
const (
	forEntra   = "Entra ID with attestation enforced"
	forBoth    = "Entra ID with attestation enforced, Windows"
	forWindows = "Windows"
)

// Compatible compares what a key says of itself with what Microsoft demands of
// security keys for Entra ID and Windows. Whether a key can have several
// accounts it does not say; ProbeAccounts finds out.
//
// What Entra looks up in the FIDO Alliance's metadata, certification above all,
// is not among the rules: see Provisioning.Policy.
func Compatible(info *ctap2.Info) *Compatibility {
	c := &Compatibility{AAGUID: info.AAGUID}
	add := func(required bool, rule string, verdict Verdict, evidence, reason string) {
		c.Findings = append(c.Findings, Finding{rule, required, verdict, evidence, reason})
	}
	is := func(met bool) Verdict {
		if met {
			return Met
		}
		return NotMet
	}

	add(true, RuleFIDO2, is(slices.ContainsFunc(info.Versions, func(v string) bool { return strings.HasPrefix(v, "FIDO_2_") })),
		list("versions", info.Versions), forEntra)
	add(true, RuleResidentKey, is(info.Options[ctap2.OptionResidentKey]), option(info, ctap2.OptionResidentKey), forBoth)
	// An option that is false is a PIN that can be set.
	_, pin := info.Options[ctap2.OptionClientPIN]
	_, uv := info.Options[ctap2.OptionUserVerification]
	add(true, RuleUserVerification, is(pin || uv),
		option(info, ctap2.OptionClientPIN)+", "+option(info, ctap2.OptionUserVerification), forBoth)
	add(true, RuleHMACSecret, is(info.HasExtension("hmac-secret")), extension(info, "hmac-secret"), forBoth+", to sign in offline")
	add(true, RuleAccounts, Unknown, "no member of getInfo", forWindows)

	algorithms := Unknown
	if info.Algorithms != nil {
		algorithms = is(slices.Contains(info.Algorithms, cose.ES256) || slices.Contains(info.Algorithms, cose.RS256))
	}
	add(false, "ES256 or RS256", algorithms, fmt.Sprintf("algorithms %v", info.Algorithms), "Entra ID, whose creation options ask for one of them")
	packed := Met // what an absent member means
	if info.AttestationFormats != nil {
		packed = is(slices.Contains(info.AttestationFormats, "packed"))
	}
	add(false, "packed attestation", packed, list("attestationFormats", info.AttestationFormats), forEntra)
	add(false, "AAGUID", is(info.AAGUID != ctap2.AAGUID{}), "aaguid "+info.AAGUID.String(), forEntra+", lists of models")
	add(false, "credProtect", is(info.HasExtension("credProtect")), extension(info, "credProtect"), "a known level of protection: Windows wants level 1")
	add(false, "credential management", is(info.Options[ctap2.OptionCredentialManagement]),
		option(info, ctap2.OptionCredentialManagement), "deleting and renaming accounts")
	if uv {
		_, enrolls := info.Options[ctap2.OptionBioEnroll]
		add(false, "fingerprint enrolment", is(enrolls), option(info, ctap2.OptionBioEnroll), "enrolling on any platform")
	}
	add(false, "setMinPINLength", is(info.Options[ctap2.OptionSetMinPINLength]), option(info, ctap2.OptionSetMinPINLength),
		"longer PINs, and PINs that their owner has to change")
	add(false, "minPinLength", is(info.HasExtension("minPinLength")), extension(info, "minPinLength"), "telling Entra ID how long PINs are")
	add(false, "PIN/UV auth protocol two", is(slices.Contains(info.PINUVAuthProtocols, 2)),
		fmt.Sprintf("pinUvAuthProtocols %d", info.PINUVAuthProtocols), "better protection of the PIN on its way to the key")
	return c
}

// option returns an option as evidence.
func option(info *ctap2.Info, name string) string {
	if value, ok := info.Options[name]; ok {
		return fmt.Sprintf("option %s: %t", name, value)
	}
	return "no option " + name
}

// extension returns whether the key has an extension as evidence.
func extension(info *ctap2.Info, identifier string) string {
	if info.HasExtension(identifier) {
		return "extension " + identifier
	}
	return "no extension " + identifier
}

// list returns what a member of getInfo has as evidence.
func list(member string, values []string) string {
	if values == nil {
		return "no " + member
	}
	shown := make([]string, len(values))
	for i, v := range values {
		shown[i] = clean(v, 40) // the key's own words
	}
	return member + " " + strings.Join(shown, ", ")
}

// Finding returns the one about a rule, the zero Finding if there is none.
func (c *Compatibility) Finding(rule string) Finding {
	for _, f := range c.Findings {
		if f.Rule == rule {
			return f
		}
	}
	return Finding{}
}

// Err returns nil if no required rule is known to be broken, and an
// ErrIncompatible that names the broken ones otherwise.
func (c *Compatibility) Err() error {
	var broken []string
	for _, f := range c.Findings {
		if f.Required && f.Verdict == NotMet {
			broken = append(broken, f.Rule+" ("+f.Evidence+")")
		}
	}
	if broken == nil {
		return nil
	}
	return fmt.Errorf("%w: it lacks %s", ErrIncompatible, strings.Join(broken, "; "))
}

// String returns a line for each Finding.
func (c *Compatibility) String() string {
	lines := make([]string, len(c.Findings))
	for i, f := range c.Findings {
		lines[i] = f.String()
	}
	return "security key " + c.AAGUID.String() + "\n" + strings.Join(lines, "\n")
}
