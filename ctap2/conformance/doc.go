// Package conformance checks that an authenticator keeps to the CTAP
// specification, over any transport, and says where it does not.
//
// # Cases
//
// A [Case] checks one requirement. It has an ID that does not change, the
// section of CTAP 2.3 that it is about, and [Needs]: what it takes besides an
// authenticator. Most are a row of status-table.md, which says for each command
// and condition what status an authenticator answers; the others are the rows of
// requirements.md. [Cases] lists them.
//
// A case applies to an authenticator or it does not: what an authenticator says
// of itself (getInfo) decides, and the [Result] says why not.
//
// # Runs
//
// [Check] runs cases against the authenticator that a [Target] reaches and
// returns a [Report]; it tells of each step as it goes. [Run] does the same
// inside a Go test, with a subtest for each case:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Config{Target: conformance.Target{
//			Open: func(ctx context.Context) (ctap2.Transport, error) { … },
//			…
//		}, Destructive: true})
//	}
//
// Most cases begin with an authenticator as it leaves the factory, or with the
// PIN that the run has set. A run that is not Destructive leaves these out: it
// sends nothing that changes what the authenticator keeps. It does register, with
// credentials that are not to be discoverable; an authenticator that makes every
// credential discoverable, as phones do, is not for such a run.
//
// A person is needed at a real key. An [Operator] is told what to do: to touch
// it, to leave it alone, to unplug it. For a simulated one it is a program that
// does it.
//
// # Reports
//
// A [Report] is written as text for a terminal, as JSON, as JUnit's XML for CI
// servers, and as one HTML file to look at. None of them holds a PIN or another
// secret. What was written as JSON can be read again, by [ReadReport]: to go on
// with a run that was stopped (Config.Previous), or to [Compare] two runs.
//
// # Events
//
// Config.Event hears of each step. In JSON, an [Event] is one object, for
// harnesses in other languages; "fidoctl conformance --json" writes one a line.
// Its member "event" says which others it has; those in brackets may be missing:
//
//	begin      authenticator, [total]
//	preparing  message, [case]         it is brought into a state: "reset"
//	case       number, total, case     a case begins
//	person     gesture or message, [case]
//	                                   what to do from now on, whenever the
//	                                   authenticator waits, or "power cycle"
//	waiting    gesture, [case]         it waits for the person
//	result     number, total, result   the case has ended
//	end        counts, [message]       the last event; message: it came early
//
// A run begins with "begin" and ends with "end". Between them each "case" has
// its "result", unless the end came early. The total is that of [Config.Cases],
// which a program can show before the run: cases that turn out not to apply, and
// those that are left out, are counted, those of the previous report are not. A
// result has the members of its case, and outcome, message, remark, variant,
// exchanges and seconds. Members with nothing in them are left out; others may be
// added, and none is renamed.
package conformance
