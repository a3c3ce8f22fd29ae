package conformance

import (
	"time"

	"github.com/tapstone/fido/ctap2"
)

// An Outcome is how a case ended.
type Outcome string

// Outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	NotApplicable Outcome = "not applicable" // the authenticator says that it is none of its business
	Skipped       Outcome = "skipped"        // it was left out: the run, or the operator, did not allow it
)

// A Result is what came of a case.
type Result struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
	// Message says what was wrong, or why the case was not run.
	Message string `json:"message,omitempty"`
	// Remark is an answer that the specification permits, but leaves open: see
	// Case.Open.
	Remark string `json:"remark,omitempty"`
	// Variant is the one that failed, of a case that was run with each PIN/UV
	// auth protocol and each way to obtain a token.
	Variant string `json:"variant,omitempty"`
	// Exchanges are those of a case that failed, in the order they were made,
	// without secrets. Those before the last fifty are left out.
	Exchanges []Exchange    `json:"exchanges,omitempty"`
	Duration  time.Duration `json:"duration,omitempty"` // nanoseconds
}

// An Exchange is a request and its answer, as a person reads them: in CBOR
// diagnostic notation as ctap2.Trace writes it, or in hexadecimal.
type Exchange struct {
	Command string `json:"command"`           // such as "authenticatorClientPIN getKeyAgreement"
	Request string `json:"request,omitempty"` // the parameters
	Status  string `json:"status,omitempty"`
	Reply   string `json:"reply,omitempty"`
	Error   string `json:"error,omitempty"` // in place of an answer
}

// A Report is what came of a run.
type Report struct {
	Started       time.Time     `json:"started"`
	Duration      time.Duration `json:"duration"` // nanoseconds
	Authenticator Authenticator `json:"authenticator"`
	Destructive   bool          `json:"destructive"`
	// Unfinished says why the run ended early; empty: it did not.
	Unfinished string   `json:"unfinished,omitempty"`
	Results    []Result `json:"results"` // in the order of Cases
}

// An Authenticator is what a report says of the authenticator.
type Authenticator struct {
	Name       string       `json:"name,omitempty"` // Config.Name
	AAGUID     ctap2.AAGUID `json:"aaguid"`
	Firmware   uint64       `json:"firmware,omitempty"`
	Versions   []string     `json:"versions"`
	Extensions []string     `json:"extensions,omitempty"`
	Options    []string     `json:"options,omitempty"` // those that are true, by name
}

// Count returns the number of results with an outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, result := range r.Results {
		if result.Outcome == o {
			n++
		}
	}
	return n
}
