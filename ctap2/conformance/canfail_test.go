package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/ctap2/conformance"
	"github.com/tapstone/fido/internal/cbor"
)

// TestEachCaseCanFail: there is no case that passes whatever it is told. Each is
// run again, on a key where it passes, with a lie in place of one answer, until a
// lie makes it fail, or remark where the specification leaves the answer open. It
// does not count if what fails is the preparation, or something on the way to
// what the case is about.
//
// The defects (TestDefects) say whether the cases find mistakes that people make.
// This says less, but of all of them: that they look at an answer.
func TestEachCaseCanFail(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, and much longer with the race detector")
	}
	var l *liar
	defer conformance.EachTrial(func() { l.begins() })()
	answers := map[string]int{} // in the trial of each case, if nobody lies
	trials := 0
	run := func(at place, of map[string]bool, p pass) []conformance.Result {
		var report *conformance.Report
		synctest.Test(t, func(t *testing.T) {
			var err error
			l = &liar{pass: p, answers: answers}
			report, err = conformance.Check(t.Context(), conformance.Config{
				Target: l.between(over(t, at.transport, targets()[at.key])), Destructive: true, OneVariant: true, MaxWait: -1,
				Only: func(c conformance.Case) bool { return of[c.ID] }, Event: l.hears,
			})
			// Lies may end a run: what it has left out is there for the next.
			if report == nil || err != nil && p.back == honest {
				t.Fatalf("%v: %v", at, err)
			}
		})
		trials += len(report.Results)
		return report.Results
	}

	left := map[string]bool{}         // cases that have not failed
	at := map[place]map[string]bool{} // them, by where they pass
	for _, p := range places() {
		todo := map[string]bool{}
		for _, c := range conformance.Cases() {
			if chosen(c) && !left[c.ID] && (c.Needs.Transport == "" || c.Needs.Transport == p.transport) {
				todo[c.ID] = true
			}
		}
		at[p] = map[string]bool{}
		for _, r := range run(p, todo, pass{back: honest}) {
			if r.Outcome == conformance.Passed {
				left[r.ID], at[p][r.ID] = true, true
			}
		}
	}
	for _, c := range conformance.Cases() {
		if chosen(c) && !left[c.ID] {
			t.Errorf("%s passes nowhere", c.ID)
		}
	}
	cases := len(left)
	for _, p := range passes() {
		for where, ids := range at {
			todo := map[string]bool{}
			for id := range ids {
				if answers[id] > p.back {
					todo[id] = true
				}
			}
			if len(todo) == 0 {
				continue
			}
			for _, r := range run(where, todo, p) {
				if finding(r) {
					delete(left, r.ID)
					delete(ids, r.ID)
				}
			}
		}
	}
	t.Logf("%d cases, %d trials", cases, trials)
	for _, id := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s: passes whatever it is told in place of one of its %d answers", id, answers[id])
	}
}

// finding reports whether a case has found something wrong with what it is about.
func finding(r conformance.Result) bool {
	return r.Remark != "" || r.Outcome == conformance.Failed &&
		!strings.HasPrefix(r.Message, "the authenticator could not be prepared: ") &&
		!strings.HasPrefix(r.Message, "on the way: ") &&
		!strings.HasPrefix(r.Message, "an answer is not canonical: ")
}

// A place is a key, and what it is reached over.
type place struct{ key, transport string }

// places are all, those first where most cases apply.
func places() []place {
	names := slices.Sorted(maps.Keys(targets()))
	names = slices.Insert(slices.DeleteFunc(names, func(name string) bool { return name == allCommands }), 0, allCommands)
	var all []place
	for _, transport := range []string{"memory", "hid", "nfc"} {
		for _, name := range names {
			all = append(all, place{name, transport})
		}
	}
	return all
}

// A pass is a lie that is told in each of many trials: about the last answer, or
// the one that is so many before.
type pass struct {
	lie
	back int
}

// honest as pass.back: nobody lies.
const honest = -1

// passes are in an order in which most cases fail soon.
func passes() []pass {
	var all []pass
	tell := func(deep int, lies ...lie) {
		for back := range deep {
			for _, lie := range lies {
				all = append(all, pass{lie, back})
			}
		}
	}
	each := func(n int, f ...func(n int) lie) (lies []lie) {
		for i := range n {
			for _, f := range f {
				lies = append(lies, f(i))
			}
		}
		return lies
	}
	tell(12, lie{message: otherStatus, apdu: otherWord, report: refusal})
	tell(12, lie{message: nothing})
	tell(12, lie{stale: true})
	tell(4, each(25, without)...)
	tell(4, each(10, flipped)...)
	tell(4, lie{message: empty, apdu: wordAlone}, lie{asks: true})
	tell(6, each(25, twice)...)
	tell(6, each(50, renamed, otherwise)...)
	tell(8, with()...)
	tell(3, each(200, flipped)...)
	return all
}

// A lie is what a trial hears in place of an answer. Each of its functions takes
// an answer of a kind; nil, or one that returns nil: there is no such lie.
type lie struct {
	message func(reply []byte) []byte
	apdu    func(response []byte) []byte
	report  func(report []byte) []byte
	asks    bool // for another touch
	stale   bool // the answer to the same command before
}

// otherStatus is success in place of a refusal, and the other way round.
func otherStatus(reply []byte) []byte {
	if reply[0] != 0 {
		return []byte{0}
	}
	return []byte{0x7F}
}

func otherWord(response []byte) []byte {
	if bytes.HasSuffix(response, []byte{0x90, 0}) {
		return []byte{0x6F, 0}
	}
	return []byte{0x90, 0}
}

// refusal is CTAPHID_ERROR on the same channel.
func refusal(report []byte) []byte {
	return append(bytes.Clone(report[:4]), 0xBF, 0, 1, 0x7F)
}

func nothing([]byte) []byte { return []byte{0} }

func empty([]byte) []byte { return []byte{0, 0xA0} }

func wordAlone(response []byte) []byte { return response[max(len(response)-2, 0):] }

// flipped is another byte, counted from the end.
func flipped(nth int) lie {
	f := func(answer []byte) []byte {
		if nth >= len(answer) {
			return nil
		}
		answer = bytes.Clone(answer)
		answer[len(answer)-1-nth] ^= 1
		return answer
	}
	return lie{message: f, apdu: f, report: f}
}

// renamed is another text.
func renamed(nth int) lie {
	return lie{message: func(reply []byte) []byte { return flippedAt(reply, textEnd(reply, nth)-1) }}
}

// otherwise is another value of what has a name.
func otherwise(nth int) lie {
	return lie{message: func(reply []byte) []byte { return flippedAt(reply, textEnd(reply, nth)) }}
}

func flippedAt(reply []byte, i int) []byte {
	if i < 1 || i >= len(reply) {
		return nil
	}
	reply = bytes.Clone(reply)
	reply[i] ^= 1
	return reply
}

// textEnd is where the nth text ends, in what looks like text; 0: there is none.
func textEnd(reply []byte, nth int) int {
	for i := 1; i < len(reply); i++ {
		end := i + 1 + int(reply[i]&0x1F)
		if reply[i] <= 0x60 || reply[i] > 0x77 || end > len(reply) || bytes.ContainsFunc(reply[i+1:end], func(r rune) bool {
			return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			continue
		}
		if nth--; nth < 0 {
			return end
		}
		i = end - 1
	}
	return 0
}

// edited is an answer with other members; change reports whether it has changed
// them.
func edited(change func(m map[int]cbor.RawMessage, keys []int) bool) lie {
	return lie{message: func(reply []byte) []byte {
		m := map[int]cbor.RawMessage{}
		if reply[0] != 0 || len(reply) > 1 && cbor.Unmarshal(reply[1:], &m) != nil || !change(m, slices.Sorted(maps.Keys(m))) {
			return nil
		}
		b, err := cbor.Marshal(m)
		if err != nil {
			return nil
		}
		return append([]byte{0}, b...)
	}}
}

// without lacks a member.
func without(nth int) lie {
	return edited(func(m map[int]cbor.RawMessage, keys []int) bool {
		if nth >= len(keys) {
			return false
		}
		delete(m, keys[nth])
		return true
	})
}

// twice has the first entry of a list twice.
func twice(nth int) lie {
	return edited(func(m map[int]cbor.RawMessage, keys []int) bool {
		var list []cbor.RawMessage
		if nth >= len(keys) || cbor.Unmarshal(m[keys[nth]], &list) != nil || len(list) == 0 {
			return false
		}
		b, err := cbor.Marshal(append(list[:1:1], list...))
		m[keys[nth]] = b
		return err == nil
	})
}

// with are lies with a member more, or another.
func with() (lies []lie) {
	for key := range 0x20 {
		for _, value := range []any{0, 1, []int{1}, []string{"U2F_V2"}, make([]byte, 32), map[string]bool{"pinUvAuthToken": true}} {
			lies = append(lies, edited(func(m map[int]cbor.RawMessage, _ []int) bool {
				b, err := cbor.Marshal(value)
				m[key] = b
				return err == nil
			}))
		}
	}
	return lies
}

// A liar is between an authenticator and a run. It lies once in each trial.
type liar struct {
	pass
	answers map[string]int // see TestEachCaseCanFail

	mu      sync.Mutex
	id      string // of the case
	trial   bool
	count   int             // of the answers in it
	before  map[byte][]byte // them, by command
	channel []byte          // that was last written to
}

func (l *liar) hears(e conformance.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case conformance.CaseBegin:
		l.id = e.Case.ID
	case conformance.CaseEnd:
		if l.trial && l.back == honest {
			l.answers[l.id] = l.count
		}
		l.trial = false
	}
}

func (l *liar) begins() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trial, l.count, l.before = true, 0, map[byte][]byte{}
}

// lies counts an answer and reports whether to lie about it.
func (l *liar) lies() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return l.trial && l.back != honest && l.count == l.answers[l.id]-l.back
}

// between puts the liar between a target and the run.
func (l *liar) between(target conformance.Target) conformance.Target {
	open, hid, nfc := target.Open, target.HID, target.NFC
	target.Open = func(ctx context.Context) (ctap2.Transport, error) {
		t, err := open(ctx)
		return lyingTransport{t, l}, err
	}
	if hid != nil {
		target.HID = func(ctx context.Context) (conformance.Reports, error) {
			r, err := hid(ctx)
			return lyingReports{r, l}, err
		}
	}
	if nfc != nil {
		target.NFC = func(ctx context.Context) (conformance.Card, error) {
			c, err := nfc(ctx)
			return lyingCard{c, l}, err
		}
	}
	return target
}

// lied is a lie about an answer, or the answer.
func lied(lie func([]byte) []byte, answer []byte) []byte {
	if lie != nil && len(answer) > 0 {
		if other := lie(answer); other != nil {
			return other
		}
	}
	return answer
}

type lyingTransport struct {
	ctap2.Transport
	l *liar
}

func (t lyingTransport) Unwrap() ctap2.Transport { return t.Transport }

func (t lyingTransport) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	lies := t.l.lies()
	if lies && t.l.asks && status != nil {
		status(2)
		status(1)
	}
	reply, err := t.Transport.Exchange(ctx, message, status)
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	before := t.l.before[message[0]]
	if t.l.trial {
		t.l.before[message[0]] = reply
	}
	switch {
	case err != nil || !lies:
		return reply, err
	case t.l.stale && before != nil:
		return before, nil
	}
	return lied(t.l.message, reply), nil
}

func (t lyingTransport) Msg(ctx context.Context, apdu []byte) ([]byte, error) {
	messenger, ok := ctap2.As[ctap2.Messenger](t.Transport)
	if !ok {
		return nil, ctap2.ErrUnsupported
	}
	response, err := messenger.Msg(ctx, apdu)
	if t.l.lies() {
		response = lied(t.l.apdu, response)
	}
	return response, err
}

type lyingCard struct {
	conformance.Card
	l *liar
}

func (c lyingCard) Transmit(command []byte) ([]byte, error) {
	response, err := c.Card.Transmit(command)
	if c.l.lies() {
		response = lied(c.l.apdu, response)
	}
	return response, err
}

type lyingReports struct {
	conformance.Reports
	l *liar
}

func (r lyingReports) Write(p []byte) (int, error) {
	r.l.mu.Lock()
	r.l.channel = bytes.Clone(p[:4])
	r.l.mu.Unlock()
	return r.Reports.Write(p)
}

// Read takes it for an answer, too, that nothing comes in time.
func (r lyingReports) Read(p []byte) (int, error) {
	n, err := r.Reports.Read(p)
	if !r.l.lies() || r.l.report == nil || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	const size = 64
	report := bytes.Clone(p[:n])
	clear(p[:size])
	if err != nil {
		r.l.mu.Lock()
		report = refusal(r.l.channel)
		r.l.mu.Unlock()
	} else {
		report = lied(r.l.report, report)
	}
	copy(p, report)
	return size, nil
}
