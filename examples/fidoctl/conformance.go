package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstone/fido/ctap2/conformance"
)

// eventMembers documents what conformance writes: a line for each event.
const eventMembers = `
  event                             string    begin; for each case: case, and result when it has ended; on the
                                              way preparing, person and waiting; and end, the last one
  authenticator?                    object    with begin
    name?                           string
    aaguid                          string
    firmware?                       number
    versions                        string[]
    extensions?                     string[]
    options?                        string[]  those that are true
  number?                           number    with case and result: of the case, from 1
  total?                            number    with begin, case and result: how many cases are run
  case?                             object    with case; of preparing, person and waiting
    id                              string
    group                           string
    command?                        string
    requirement                     string
    status?                         string    that must be the answer
    section                         string    of CTAP 2.3, or of the document that is named
    open?                           bool      another error is a remark, and no failure
    either?                         bool      any other answer is a remark, too
    needs?                          object
      destructive?                  bool      the key is reset for it
      pin?                          bool      a PIN is set
      uv?                           bool      a finger is enrolled
      gestures?                     string[]  what is done besides touching the key
      powerCycle?                   bool      the key is unplugged on the way
      waitSeconds?                  number    the longest time that passes
      pinTries?                     number    how many wrong PINs are entered at most
      transport?                    string    hid or nfc, for cases below the messages
  result?                           object    with result: the members of the case, and
    outcome                         string    passed, failed, not applicable or skipped
    message?                        string    what was wrong, or why the case was not run
    remark?                         string    an answer that is permitted, but not recommended
    variant?                        string    the PIN/UV auth protocol and the way to the token with which it failed
    exchanges?                      object[]  of a case that failed, the last fifty
      command?                      string    missing where an answer follows another
      request?                      string    in CBOR's diagnostic notation, or hexadecimal
      status?                       string
      reply?                        string    likewise
      error?                        string    in place of an answer
    seconds?                        number    that it took
  gesture?                          string    with person: what to do from now on whenever the key waits, and with
                                              waiting, when it does: touch, no touch, long touch, decline, wrong
                                              finger or poor sample
  message?                          string    with preparing: what is done; with person, in place of a gesture:
                                              power cycle; with end: why the run ended early
  counts?                           object    with end: how many cases have each outcome`

// A runEvent is a step of a conformance run.
type runEvent struct{ conformance.Event }

func (runEvent) text(*printer) {} // people see the progress

func (runEvent) members() string { return eventMembers }

type casesResult struct {
	Cases []conformance.Case `json:"cases" doc:"as in the events of conformance"`
}

func (r casesResult) text(w *printer) {
	rows := [][]string{{"ID", "SECTION", "COMMAND", "NEEDS", "REQUIREMENT"}}
	for _, c := range r.Cases {
		requirement := c.Requirement
		if c.Status != "" {
			requirement += " " + c.Status
		}
		rows = append(rows, []string{c.ID, c.Section, c.Command, needsOf(c.Needs), requirement})
	}
	w.table(rows)
}

func needsOf(n conformance.Needs) string {
	var words []string
	for _, need := range []struct {
		is   bool
		word string
	}{
		{n.Destructive, "reset"}, {n.PIN, "PIN"}, {n.UV, "finger"}, {n.PowerCycle, "power cycle"},
		{n.Wait > 0, n.Wait.String()}, {n.PINTries > 0, count(n.PINTries, "wrong PIN", "wrong PINs")}, {n.Transport != "", n.Transport},
	} {
		if need.is {
			words = append(words, need.word)
		}
	}
	for _, g := range n.Gestures {
		words = append(words, string(g))
	}
	return list(words)
}

type compareResult struct {
	Worse bool `json:"worse" doc:"a case fails that did not, or one that passed no longer applies"`
	conformance.Comparison
}

func (r compareResult) text(w *printer) { _ = r.WriteText(w) } // the printer remembers an error

func (p *program) conformanceCommand() *cobra.Command {
	var s suite
	var only, resume string
	var listed bool
	c := &cobra.Command{
		Use:   "conformance",
		Short: "Check whether the key keeps to the specification",
		Long: `Conformance runs the cases of package conformance on the key, each about one rule of
CTAP 2.0 to 2.3, CTAPHID, NFC or U2F, and says where the key breaks it, with the
messages that show it. Cases that do not apply to the key are not counted against it.

By default it changes nothing on the key, and skips the cases that would. With
--destructive it runs all of them: the key is erased again and again, and somebody has
to unplug it and touch it when told to. That has to be confirmed with the key's name,
or with --yes. At the end the key is reset.

Before a case enters wrong PINs, conformance asks; the right PIN follows, which
restores the tries. Without --destructive, at least three are always left.

Ctrl-C stops the run and writes the reports; --resume goes on from one. A report is
HTML, JSON, JUnit XML or text, by the extension of its file. With --json, standard
output gets one event per line. Then, without --yes, a line on standard input answers
each event "person" with a gesture other than "touch" and "long touch": empty if it
will be done; anything else if it cannot be done, and the case is skipped. For the
exit status see 'fidoctl help exit-codes'.`,
		Example: `  fidoctl conformance
  fidoctl conformance --list
  fidoctl conformance --cases '^mc-' --report report.html
  fidoctl conformance --destructive --report report.html --report report.json
  fidoctl conformance --resume report.json --report report.json
  fidoctl --virtual key.json conformance --destructive --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pattern, err := regexp.Compile(only)
			if err != nil {
				return usagef("--cases: %v", err)
			}
			s.p, s.chosen = p, nil
			for _, c := range conformance.Cases() {
				if pattern.MatchString(c.ID) {
					s.chosen = append(s.chosen, c)
				}
			}
			if len(s.chosen) == 0 {
				return usagef("--cases %q matches no case", only)
			}
			if listed {
				p.show(casesResult{s.chosen})
				return nil
			}
			if resume != "" {
				if s.previous, err = p.readReport(resume); err != nil {
					return err
				}
			}
			return s.run(cmd.Context())
		},
	}
	flags := c.Flags()
	flags.StringVar(&only, "cases", "", "run only the cases whose ID matches this regular `expression`")
	flags.BoolVar(&listed, "list", false, "list the cases instead of running them")
	flags.BoolVar(&s.destructive, "destructive", false, "erase the key, and run all cases")
	flags.DurationVar(&s.maxWait, "max-wait", time.Minute, "skip cases that wait longer than this `time`; -1s skips none")
	flags.BoolVar(&s.quick, "quick", false, "run each case with one PIN/UV auth protocol, and tokens from the PIN")
	flags.StringVar(&resume, "resume", "", "resume the run whose JSON report is in this `file`")
	flags.StringArrayVar(&s.reports, "report", nil, "write a report to this `file`: .html, .json, .xml or .txt")
	flags.BoolVarP(&s.verbose, "verbose", "v", false, "show the outcome of every case, and why it was skipped")
	c.AddCommand(p.compareCommand())
	return c
}

func (p *program) compareCommand() *cobra.Command {
	var reports []string
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two reports of conformance runs",
		Long: `Compare shows which cases have another outcome in the second report than in the first.
Both are JSON reports. What --report writes is the second one; in HTML, it also shows
what has changed. The exit status is that of a key that breaks the specification if a
case fails that did not fail, or one that passed no longer applies.`,
		Example: `  fidoctl conformance compare old.json new.json
  fidoctl conformance compare old.json new.json --report changes.html`,
		Args: named,
		RunE: func(_ *cobra.Command, args []string) error {
			before, err := p.readReport(args[0])
			if err != nil {
				return err
			}
			after, err := p.readReport(args[1])
			if err != nil {
				return err
			}
			files, err := openReports(reports)
			if err != nil {
				return err
			}
			if err := files.write(after, before); err != nil {
				return err
			}
			c := conformance.Compare(before, after)
			p.show(compareResult{c.Worse(), *c})
			if c.Worse() {
				return shown{notConformant}
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&reports, "report", nil, "write a report to this `file`: .html, .json, .xml or .txt")
	return c
}

func (p *program) readReport(name string) (*conformance.Report, error) {
	data, err := p.readFile(name)
	if err != nil {
		return nil, err
	}
	report, err := conformance.ReadReport(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return report, nil
}

// reportFiles are the files that reports go to.
type reportFiles []*outFile

// openReports opens files before there is anything to write. The ends of their
// names say what they are.
func openReports(names []string) (files reportFiles, err error) {
	for _, name := range names {
		if !slices.Contains([]string{".html", ".json", ".xml", ".txt"}, filepath.Ext(name)) {
			err = usagef("--report %q must end with .html, .json, .xml or .txt", name)
		} else {
			var file *outFile
			if file, err = newOutFile(name); err == nil {
				files = append(files, file)
			}
		}
		if err != nil {
			files.drop()
			return nil, err
		}
	}
	return files, nil
}

func (files reportFiles) drop() {
	for _, file := range files {
		file.drop()
	}
}

// write writes the report to all, as far as they can be written. before may be
// nil.
func (files reportFiles) write(report, before *conformance.Report) (err error) {
	for _, file := range files {
		var b bytes.Buffer
		var failed error
		switch filepath.Ext(file.Name()) {
		case ".html":
			failed = report.WriteHTML(&b, before)
		case ".json":
			failed = report.WriteJSON(&b)
		case ".xml":
			failed = report.WriteJUnit(&b)
		default:
			failed = report.WriteText(&b, true)
		}
		err = errors.Join(err, failed, file.fill(b.Bytes()))
	}
	return err
}
