package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// reportVersion is that of the format. Members that are added do not change it;
// it grows when what an old program reads would mislead it.
const reportVersion = 1

// ErrReport is the error of what is no report that this version of the package
// can read.
var ErrReport = errors.New("conformance: not a report")

// WriteJSON writes the report as one object, whose member "version" is 1. It
// has the members that the fields of [Report] are tagged with, and "seconds"
// for each Duration. Later versions of this package may add members.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// ReadReport reads what WriteJSON has written. What is no report, or one of a
// version that this package does not know, is an [ErrReport].
func ReadReport(r io.Reader) (*Report, error) {
	var report Report
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		if errors.Is(err, ErrReport) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return &report, nil
}

// A seconds is a duration in JSON, to the microsecond.
type seconds float64

func inSeconds(d time.Duration) seconds { return seconds(d.Round(time.Microsecond).Seconds()) }

func (s seconds) duration() time.Duration {
	return time.Duration(float64(s) * float64(time.Second)).Round(time.Microsecond)
}

// In the following, the second type has no methods, so that they do not call
// themselves.

// MarshalJSON implements json.Marshaler.
func (r *Report) MarshalJSON() ([]byte, error) {
	type members Report
	return json.Marshal(struct {
		Version int     `json:"version"`
		Seconds seconds `json:"seconds"`
		*members
	}{reportVersion, inSeconds(r.Duration), (*members)(r)})
}

// UnmarshalJSON implements json.Unmarshaler. The error is an [ErrReport].
func (r *Report) UnmarshalJSON(b []byte) error {
	var version struct {
		Version *int `json:"version"`
	}
	switch err := json.Unmarshal(b, &version); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrReport, err)
	case version.Version == nil:
		return fmt.Errorf("%w: it has no version", ErrReport)
	case *version.Version != reportVersion:
		return fmt.Errorf("%w: its version is %d, and only version %d is known here", ErrReport, *version.Version, reportVersion)
	}
	type members Report
	read := struct {
		Seconds seconds `json:"seconds"`
		*members
	}{members: new(members)}
	if err := json.Unmarshal(b, &read); err != nil {
		return fmt.Errorf("%w: %w", ErrReport, err)
	}
	for i, result := range read.Results {
		if result.ID == "" || !slices.Contains(outcomes, result.Outcome) {
			return fmt.Errorf("%w: result %d (%q) has the outcome %q", ErrReport, i+1, result.ID, result.Outcome)
		}
	}
	*r = Report(*read.members)
	r.Duration = read.Seconds.duration()
	return nil
}

// MarshalJSON implements json.Marshaler.
func (r Result) MarshalJSON() ([]byte, error) {
	type members Result
	return json.Marshal(struct {
		members
		Seconds seconds `json:"seconds,omitempty"`
	}{members(r), inSeconds(r.Duration)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Result) UnmarshalJSON(b []byte) error {
	type members Result
	read := struct {
		members
		Seconds seconds `json:"seconds"`
	}{}
	err := json.Unmarshal(b, &read)
	*r = Result(read.members)
	r.Duration = read.Seconds.duration()
	return err
}

// MarshalJSON implements json.Marshaler.
func (n Needs) MarshalJSON() ([]byte, error) {
	type members Needs
	return json.Marshal(struct {
		members
		Wait seconds `json:"waitSeconds,omitempty"`
	}{members(n), inSeconds(n.Wait)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Needs) UnmarshalJSON(b []byte) error {
	type members Needs
	read := struct {
		members
		Wait seconds `json:"waitSeconds"`
	}{}
	err := json.Unmarshal(b, &read)
	*n = Needs(read.members)
	n.Wait = read.Wait.duration()
	return err
}
