package hidtest

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// An Answer is a sequence of reports that a [Device] sends, with the times
// between them. The zero Answer is [Default].
//
// Its methods return a changed Answer and leave the old one as it is. They
// count reports from 0, and apply one after the other: behind Lose(1), what
// was report 2 is report 1. Naming a report that the Answer does not have is a
// mistake of the test: the device then fails all reads and writes with an
// error that says so.
type Answer struct {
	make func(d *Device, to Message) ([]event, error) // nil: what the device does by itself
}

// An event is a report that is sent, or the end of the device.
type event struct {
	after  time.Duration // behind the event before it
	report []byte        // nil: the device is unplugged
}

func (a Answer) events(d *Device, to Message) ([]event, error) {
	if a.make == nil {
		return d.obey(to).events(d, to)
	}
	return a.make(d, to)
}

// Default is what a device does that keeps to the specification. It answers
// CTAPHID_INIT; CTAPHID_CBOR with status 0 and the message; CTAPHID_MSG with
// the message and status word 9000; CTAPHID_PING with the message; CTAPHID_WINK
// and CTAPHID_LOCK with nothing to say; and all others with ERR_INVALID_CMD.
// To CTAPHID_CANCEL it says nothing, as one that has nothing to cancel.
func Default() Answer { return Answer{} }

// Silence is no answer.
func Silence() Answer { return Reports() }

// Reply is a message on the channel and with the command of the one that it
// answers, and the given data. The answer to CTAPHID_CANCEL has the command
// CTAPHID_CBOR, because it is what the cancelled command is answered with
// (§11.2.9.1.5).
func Reply(data []byte) Answer {
	data = bytes.Clone(data)
	return reply(func(to Message) []Message {
		if to.Command == CommandCancel {
			to.Command = CommandCBOR
		}
		return []Message{{to.Channel, to.Command, data}}
	})
}

// Success is a [Reply] of status 0 and CBOR, to a CTAP command.
func Success(cbor []byte) Answer { return Reply(append([]byte{0}, cbor...)) }

// Status is a [Reply] of a CTAP status alone (§8.2), to a CTAP command.
func Status(status byte) Answer { return Reply([]byte{status}) }

// Error is CTAPHID_ERROR with a code (§11.2.9.1.6).
func Error(code byte) Answer {
	return reply(func(to Message) []Message {
		return []Message{{to.Channel, CommandError, []byte{code}}}
	})
}

// Keepalive is one CTAPHID_KEEPALIVE for each status: 1 for processing, 2 for
// waiting for a touch (§11.2.9.1.7). They come at once; [Answer.Pace] spaces
// them.
func Keepalive(status ...byte) Answer {
	status = bytes.Clone(status)
	return reply(func(to Message) []Message {
		var all []Message
		for i := range status {
			all = append(all, Message{to.Channel, CommandKeepalive, status[i : i+1]})
		}
		return all
	})
}

// Messages are messages whose channels and commands are given, such as those
// for other programs.
func Messages(messages ...Message) Answer {
	messages = slices.Clone(messages)
	return reply(func(Message) []Message { return messages })
}

// reply is the messages that f makes of the one that is answered.
func reply(f func(to Message) []Message) Answer {
	return Answer{func(d *Device, to Message) ([]event, error) {
		var all []event
		for _, m := range f(to) {
			reports, err := m.reports(d.in)
			if err != nil {
				return nil, err
			}
			for _, r := range reports {
				all = append(all, event{report: r})
			}
		}
		return all, nil
	}}
}

// Reports are reports as they are. One that is shorter than the device's
// reports makes a short read, which is none if it is empty.
func Reports(reports ...[]byte) Answer {
	reports = slices.Clone(reports)
	return Answer{func(*Device, Message) ([]event, error) {
		var all []event
		for _, r := range reports {
			all = append(all, event{report: append([]byte{}, r...)})
		}
		return all, nil
	}}
}

// Unplug is the end of the device: it is as if [Device.Unplug] were called once
// what comes before is read. It counts as a report.
func Unplug() Answer {
	return Answer{func(*Device, Message) ([]event, error) { return []event{{}}, nil }}
}

// Then is a, and behind it the others.
func (a Answer) Then(others ...Answer) Answer {
	return Answer{func(d *Device, to Message) ([]event, error) {
		var all []event
		for _, part := range append([]Answer{a}, others...) {
			events, err := part.events(d, to)
			if err != nil {
				return nil, err
			}
			all = append(all, events...)
		}
		return all, nil
	}}
}

// Insert is a, with other in front of its report n: what another program is
// told, say, or [Unplug]. If a has n reports, other comes behind them.
func (a Answer) Insert(n int, other Answer) Answer {
	return Answer{func(d *Device, to Message) ([]event, error) {
		events, err := a.events(d, to)
		if err != nil {
			return nil, err
		}
		if n < 0 || n > len(events) {
			return nil, missing(n, events)
		}
		inserted, err := other.events(d, to)
		return slices.Insert(events, n, inserted...), err
	}}
}

// Lose is a without report n. Those behind it come when they would have come.
func (a Answer) Lose(n int) Answer {
	return a.change(n, 1, func(e []event) []event {
		if n+1 < len(e) {
			e[n+1].after += e[n].after
		}
		return slices.Delete(e, n, n+1)
	})
}

// Repeat is a with report n twice.
func (a Answer) Repeat(n int) Answer {
	return a.change(n, 1, func(e []event) []event { return slices.Insert(e, n+1, event{report: bytes.Clone(e[n].report)}) })
}

// Swap is a with reports n and n+1 in the other order.
func (a Answer) Swap(n int) Answer {
	return a.change(n, 2, func(e []event) []event {
		e[n].report, e[n+1].report = e[n+1].report, e[n].report
		return e
	})
}

// Garble is a with what f makes of report n, in place: the channel in bytes 0
// to 3, the command or sequence number in byte 4, the length of the message in
// bytes 5 and 6 of the report that starts it, then data (§11.2.4).
func (a Answer) Garble(n int, f func(report []byte)) Answer {
	return a.change(n, 1, func(e []event) []event { f(e[n].report); return e })
}

// Cut is the first n reports of a.
func (a Answer) Cut(n int) Answer {
	return a.change(n, 0, func(e []event) []event { return e[:n] })
}

// Delay is a, with report n and those behind it later by d. Other answers do
// not wait: one that is delayed for long enough arrives in a later exchange.
func (a Answer) Delay(n int, d time.Duration) Answer {
	return a.change(n, 1, func(e []event) []event { e[n].after += d; return e })
}

// Pace is a, with each report later than the one before it by d, and the first
// one later by d too.
func (a Answer) Pace(d time.Duration) Answer {
	return a.change(0, 0, func(e []event) []event {
		for i := range e {
			e[i].after += d
		}
		return e
	})
}

// change is what f makes of a, which must have span reports from n on.
func (a Answer) change(n, span int, f func([]event) []event) Answer {
	return Answer{func(d *Device, to Message) ([]event, error) {
		events, err := a.events(d, to)
		if err != nil {
			return nil, err
		}
		if n < 0 || n+span > len(events) {
			return nil, missing(n+max(span-1, 0), events)
		}
		return f(events), nil
	}}
}

func missing(n int, events []event) error {
	return fmt.Errorf("hidtest: there is no report %d in an answer of %d", n, len(events))
}
