package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2"
)

type fingerprintResult struct {
	ID   hexBytes `json:"id"`
	Name string   `json:"name" doc:"may be empty"`
}

// String names the fingerprint to a person.
func (r fingerprintResult) String() string { return cmp.Or(r.Name, r.ID.String()) }

func (r fingerprintResult) text(w *printer) { w.in(green, "Added fingerprint %q.\n", r.String()) }

type fingerprintsResult struct {
	Fingerprints []fingerprintResult `json:"fingerprints"`
}

func (r fingerprintsResult) text(w *printer) {
	for _, f := range r.Fingerprints {
		w.printf("%-18s %s\n", f.ID, f.Name)
	}
	w.printf("%s\n", count(len(r.Fingerprints), "fingerprint", "fingerprints"))
}

func (p *program) fingerprintCommand() *cobra.Command {
	const which = "FINGERPRINT is its name or its ID."
	return group("fingerprint", "Add, list, rename and remove fingerprints", "  fidoctl fingerprint add 'right thumb'",
		&cobra.Command{
			Use:   "add [NAME]",
			Short: "Add a fingerprint",
			Long:  "Add has the key take samples of a finger until it has enough. The key needs a PIN\nfirst.",
			Example: `  fidoctl fingerprint add 'right thumb'
  fidoctl fingerprint add`,
			Args: arguments,
			RunE: p.withKey(p.addFingerprint),
		},
		&cobra.Command{
			Use:     "list",
			Short:   "List the fingerprints on the key",
			Example: "  fidoctl fingerprint list",
			Args:    arguments,
			RunE:    p.withKey(listFingerprints),
		},
		&cobra.Command{
			Use:     "rename FINGERPRINT NAME",
			Short:   "Rename a fingerprint",
			Long:    which,
			Example: "  fidoctl fingerprint rename 'right thumb' thumb",
			Args:    named,
			RunE:    p.withKey(renameFingerprint),
		},
		&cobra.Command{
			Use:     "remove FINGERPRINT",
			Short:   "Remove a fingerprint",
			Long:    which,
			Example: "  fidoctl fingerprint remove thumb",
			Args:    named,
			RunE:    p.withKey(p.removeFingerprint),
		})
}

// An enrollment is how far the key has come with a finger.
type enrollment struct {
	samples   int // good ones that it takes
	remaining int
	last      string // what became of the last one
}

func (p *program) addFingerprint(ctx context.Context, key *session, args []string) (result, error) {
	sensor, err := key.GetFingerprintSensorInfo(ctx)
	if err != nil {
		return nil, err
	}
	token, err := key.fingerprintToken(ctx)
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	n := sensor.MaxCaptureSamplesRequiredForEnroll
	p.enrolling = &enrollment{samples: n, remaining: n}
	request := ctap2.EnrollFingerprintRequest{Token: token}
	if len(args) > 0 {
		request.FriendlyName = args[0]
	}
	f, err := key.EnrollFingerprint(ctx, &request)
	if p.err.terminal {
		p.err.printf("\n")
	}
	if f == nil {
		return nil, err
	}
	return fingerprintResult{f.TemplateID, f.FriendlyName}, err
}

// sample hears what became of a sample.
func (p *program) sample(f ctap2.SampleFeedback) {
	e := p.enrolling
	e.remaining, e.last = f.Remaining, f.Status.String()
	e.samples = max(e.samples, e.remaining)
	p.progress()
}

// progress shows how far the finger is known, and what to do better.
func (p *program) progress() {
	e := p.enrolling
	const width = 20
	good := e.samples - e.remaining
	filled := 0
	if e.samples > 0 {
		filled = width * good / e.samples
	}
	if p.err.terminal {
		p.err.clearLine()
	}
	p.err.printf("[%s%s] %d of %d  %s", strings.Repeat("#", filled), strings.Repeat("-", width-filled), good, e.samples,
		cmp.Or(e.last, "touch the sensor with your finger, and lift it"))
	if !p.err.terminal {
		p.err.printf("\n")
	}
}

// fingerprintToken verifies the user for commands on fingerprints.
func (s *session) fingerprintToken(ctx context.Context) (*ctap2.Token, error) {
	return s.Token(ctx, &ctap2.TokenRequest{Permissions: ctap2.PermissionBioEnrollment, Method: s.method()})
}

func listFingerprints(ctx context.Context, key *session, _ []string) (result, error) {
	_, enrols := key.Info().Options[ctap2.OptionBioEnroll]
	if _, preview := key.Info().Options[ctap2.OptionUserVerificationMgmtPreview]; !enrols && !preview {
		return nil, ctap2.ErrUnsupported // before the PIN is asked for
	}
	token, err := key.given(ctx, ctap2.PermissionBioEnrollment, "")
	if err != nil {
		return nil, err
	}
	if token != nil {
		defer token.Wipe()
	}
	known, err := key.EnumerateEnrollments(ctx, token)
	if err != nil {
		return nil, err
	}
	r := fingerprintsResult{[]fingerprintResult{}}
	for _, f := range known {
		r.Fingerprints = append(r.Fingerprints, fingerprintResult{f.TemplateID, f.FriendlyName})
	}
	return r, nil
}

// fingerprint returns the finger that the person means, and a token for it,
// which the caller wipes.
func (s *session) fingerprint(ctx context.Context, name string) (*fingerprintResult, *ctap2.Token, error) {
	token, err := s.fingerprintToken(ctx)
	if err != nil {
		return nil, nil, err
	}
	known, err := s.EnumerateEnrollments(ctx, token)
	var found []fingerprintResult
	for _, f := range known {
		if r := (fingerprintResult{f.TemplateID, f.FriendlyName}); r.Name == name || r.ID.String() == name {
			found = append(found, r)
		}
	}
	switch {
	case err != nil:
	case len(found) == 0:
		err = fmt.Errorf("%w: no fingerprint %q on the key", errNoFingerprint, name)
	case len(found) > 1:
		err = fmt.Errorf("%w: several fingerprints %q on the key", errSeveralFingerprints, name)
	default:
		return &found[0], token, nil
	}
	token.Wipe()
	return nil, nil, err
}

func renameFingerprint(ctx context.Context, key *session, args []string) (result, error) {
	f, token, err := key.fingerprint(ctx, args[0])
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	err = key.SetFriendlyName(ctx, &ctap2.SetFriendlyNameRequest{TemplateID: f.ID, FriendlyName: args[1], Token: token})
	if err != nil {
		return nil, err
	}
	return done{fmt.Sprintf("Renamed to %q.", args[1])}, nil
}

func (p *program) removeFingerprint(ctx context.Context, key *session, args []string) (result, error) {
	f, token, err := key.fingerprint(ctx, args[0])
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	if err := p.confirm(ctx, "Remove fingerprint %q?", f.String()); err != nil {
		return nil, err
	}
	if err := key.RemoveEnrollment(ctx, &ctap2.RemoveEnrollmentRequest{TemplateID: f.ID, Token: token}); err != nil {
		return nil, err
	}
	return done{fmt.Sprintf("Removed fingerprint %q.", f.String())}, nil
}
