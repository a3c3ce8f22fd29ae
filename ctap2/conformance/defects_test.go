package conformance_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstone/fido/ctap2/conformance"
)

// Defects prove that the cases can fail. A defect is a mistake as people make it
// who write authenticators: a small change of package virtual, kept as text in
// testdata/defects/*.txt. What stands there before the first entry is a comment.
// An entry is
//
//	## mc-up-false-accepted
//	makeCredential takes the option "up" with the value false.
//	target: ctap2.3
//	over: memory
//	file: makecredential.go
//	-	if isFalse(mc.options.up) || mc.options.up != nil && a.cfg.Faults.has(RefuseUP) {
//	+	if mc.options.up != nil && a.cfg.Faults.has(RefuseUP) {
//
// its name, one sentence, and changes. "target" is the key of targets() on which
// it shows ("ctap2.3" if there is none), "over" what that is reached over:
// memory (if there is none), hid or nfc. Each "file:" begins a change, and so does an empty line
// after one. A line of a change stays (" "), goes ("-") or comes ("+"); those that
// stay or go must be found in the file, one after another, exactly once. White
// space at both ends of a line does not matter. A change is within the body of
// one function, which may be a literal in a variable of the package.
//
// The shipped package has none of this. Its source is overlaid for one test
// binary (go help build, -overlay) in which each function that defects change
// begins with a switch: to its original body, or to a changed copy of it. The
// environment decides for the whole process, see activeDefect.
type defect struct {
	name, mistake string
	target, over  string
	changes       []change
	at            string // file and line of the list, for complaints
}

// A change is a run of lines that is replaced by another.
type change struct {
	file     string
	old, new []string
	at       string
}

const virtualSource = "../virtual"

// allCommands is the target to which most cases apply.
const allCommands = "ctap2.3"

// Environment variables of a process that runs one defect: its name, the target
// or "all", what that is reached over, and whether each case is run in all of its
// variants.
const (
	defectVariable   = "FIDO_DEFECT"
	targetVariable   = "FIDO_DEFECT_TARGET"
	overVariable     = "FIDO_DEFECT_OVER"
	variantsVariable = "FIDO_DEFECT_VARIANTS"
)

// TestDefects: each defect is one: it applies to package virtual as that is now,
// and the result can be built. With FIDO_DEFECTS set to the name of a file, each
// is also found by a case at least, and the file says by which: .ci/defects.
func TestDefects(t *testing.T) {
	if os.Getenv(targetVariable) != "" {
		runDefect(t)
		return
	}
	defects := readDefects(t)
	overlay := overlaid(t, defects)
	if report := os.Getenv("FIDO_DEFECTS"); report != "" {
		findDefects(t, defects, overlay, report)
		return
	}
	goCommand(t, "build", "-overlay="+overlay, virtualSource)
}

// goCommand runs the go command.
func goCommand(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", args[0], err, out)
	}
}

// readDefects reads the lists.
func readDefects(t *testing.T) []*defect {
	t.Helper()
	lists, err := filepath.Glob("testdata/defects/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []*defect
	first := map[string]*defect{}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parseDefects(t, filepath.Base(list), string(text)) {
			if first[d.name] != nil {
				t.Errorf("%s: %s is at %s, too", d.at, d.name, first[d.name].at)
			}
			first[d.name] = d
			all = append(all, d)
		}
	}
	known := targets()
	for _, d := range all {
		if _, ok := known[d.target]; !ok {
			t.Errorf("%s: no target %q", d.at, d.target)
		}
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(d.name) || d.mistake == "" || len(d.changes) == 0 {
			t.Errorf("%s: not a whole entry: %q", d.at, d.name)
		}
	}
	return all
}

func parseDefects(t *testing.T, list, text string) []*defect {
	t.Helper()
	var all []*defect
	var d *defect
	file, fresh := "", true // fresh: a line of a change begins another
	number := 0
	for line := range strings.Lines(text) {
		number++
		at := fmt.Sprintf("%s:%d", list, number)
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "## "); ok {
			d = &defect{name: name, target: allCommands, over: "memory", at: at}
			all = append(all, d)
			file, fresh = "", true
			continue
		}
		if d == nil {
			continue
		}
		if line == "" {
			fresh = true
			continue
		}
		if file != "" && strings.ContainsRune(" -+", rune(line[0])) {
			if fresh {
				d.changes = append(d.changes, change{file: file, at: at})
				fresh = false
			}
			c := &d.changes[len(d.changes)-1]
			if line[0] != '+' {
				c.old = append(c.old, line[1:])
			}
			if line[0] != '-' {
				c.new = append(c.new, line[1:])
			}
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case key == "file":
			file, fresh = value, true
		case key == "target":
			d.target = value
		case key == "over" && slices.Contains([]string{"memory", "hid", "nfc"}, value):
			d.over = value
		case file == "" && d.mistake == "":
			d.mistake = line
		default:
			t.Errorf("%s: what is %q?", at, line)
		}
	}
	return all
}

// apply returns source with the changes of d to a file.
func (d *defect) apply(file, source string) (string, error) {
	lines := strings.SplitAfter(source, "\n")
	for _, c := range d.changes {
		if c.file != file {
			continue
		}
		var found []int
		for i := range lines {
			if matches(lines[i:], c.old) {
				found = append(found, i)
			}
		}
		if len(found) != 1 || len(c.old) == 0 {
			return "", fmt.Errorf("%s: the lines are %d times in %s, not once", c.at, len(found), file)
		}
		var replacement []string
		for _, line := range c.new {
			replacement = append(replacement, line+"\n")
		}
		lines = slices.Replace(lines, found[0], found[0]+len(c.old), replacement...)
	}
	return strings.Join(lines, ""), nil
}

func matches(lines, want []string) bool {
	if len(lines) < len(want) {
		return false
	}
	for i, line := range want {
		if strings.TrimSpace(lines[i]) != strings.TrimSpace(line) {
			return false
		}
	}
	return true
}

// A function is one whose body may be changed.
type function struct {
	kind *ast.FuncType
	body *ast.BlockStmt
}

// A source is a file of package virtual, taken apart.
type source struct {
	text      string
	positions *token.FileSet
	functions []function // in their order; those within others are not here
}

func parseSource(name, text string) (*source, error) {
	s := &source{text: text, positions: token.NewFileSet()}
	file, err := parser.ParseFile(s.positions, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			s.functions = append(s.functions, function{n.Type, n.Body})
			return false
		case *ast.FuncLit:
			s.functions = append(s.functions, function{n.Type, n.Body})
			return false
		}
		return true
	})
	return s, nil
}

func (s *source) offset(p token.Pos) int { return s.positions.Position(p).Offset }

// node is the text of a part of the file.
func (s *source) node(n ast.Node) string { return s.text[s.offset(n.Pos()):s.offset(n.End())] }

// outside is the text that is in no body of a function.
func (s *source) outside() string {
	var b strings.Builder
	from := 0
	for _, f := range s.functions {
		b.WriteString(s.text[from:s.offset(f.body.Pos())])
		from = s.offset(f.body.End())
	}
	b.WriteString(s.text[from:])
	return b.String()
}

// call is an expression that calls a function literal with the body of f,
// instead of which it stands. Only the receiver is the original's.
func (s *source) call(f function, name string) string {
	var parameters, arguments []string
	for _, field := range f.kind.Params.List {
		kind, dots := s.node(field.Type), ""
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			dots = "..."
		}
		for _, n := range field.Names {
			if n.Name != "_" {
				parameters = append(parameters, n.Name+" "+kind)
				arguments = append(arguments, n.Name+dots)
			}
		}
	}
	results := ""
	if f.kind.Results != nil {
		results = s.node(f.kind.Results)
	}
	// The compiler's complaints are about the entry by its name, and the line
	// that the changed file would have.
	return fmt.Sprintf("func(%s) %s {\n//line %s:%d\n%s\n}(%s)", strings.Join(parameters, ", "), results,
		name, s.positions.Position(f.body.Pos()).Line, strings.TrimPrefix(s.node(f.body), "{")[:f.inner()], strings.Join(arguments, ", "))
}

// inner is the length of the body without its braces.
func (f function) inner() int { return int(f.body.End()-f.body.Pos()) - 2 }

// overlaid writes package virtual with all defects in it, and returns the name
// of the file that -overlay takes.
func overlaid(t *testing.T, defects []*defect) string {
	t.Helper()
	dir := t.TempDir()
	changed := map[string][]*defect{} // by file
	for _, d := range defects {
		for _, c := range d.changes {
			if !slices.Contains(changed[c.file], d) {
				changed[c.file] = append(changed[c.file], d)
			}
		}
	}
	replace := map[string]string{}
	add := func(name, text string) {
		there, err := filepath.Abs(filepath.Join(virtualSource, name))
		if err != nil {
			t.Fatal(err)
		}
		replace[there] = filepath.Join(dir, name)
		if err := os.WriteFile(replace[there], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(changed)) {
		add(file, withDefects(t, file, changed[file]))
	}
	add("activedefect.go", fmt.Sprintf(`package virtual

import "os"

var activeDefect = os.Getenv(%q)
`, defectVariable))
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(overlay, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	return overlay
}

// withDefects returns a file of package virtual with defects in it.
func withDefects(t *testing.T, file string, defects []*defect) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(virtualSource, filepath.Base(file)))
	if err != nil {
		t.Fatalf("%s: %v", defects[0].at, err)
	}
	original, err := parseSource(file, string(text))
	if err != nil {
		t.Fatal(err)
	}
	branches := make([]string, len(original.functions))
	for _, d := range defects {
		text, err := d.apply(file, original.text)
		if err != nil {
			t.Error(err)
			continue
		}
		changed, err := parseSource(d.name, text)
		if err != nil {
			t.Errorf("%s: %v", d.at, err)
			continue
		}
		if changed.outside() != original.outside() {
			t.Errorf("%s: %s changes %s outside the body of a function", d.at, d.name, file)
			continue
		}
		for i, f := range changed.functions {
			if changed.node(f.body) == original.node(original.functions[i].body) {
				continue
			}
			call := changed.call(f, d.name)
			if f.kind.Results != nil {
				call = "return " + call
			} else {
				call += "\nreturn"
			}
			branches[i] += fmt.Sprintf("\ncase %q:\n%s", d.name, call)
		}
	}
	var b strings.Builder
	from := 0
	for i, f := range original.functions {
		if branches[i] == "" {
			continue
		}
		at := original.positions.Position(f.body.Lbrace)
		fmt.Fprintf(&b, "%s\nswitch activeDefect {%s\n}\n//line %s:%d\n",
			original.text[from:at.Offset+1], branches[i], file, at.Line)
		from = at.Offset + 1
	}
	b.WriteString(original.text[from:])
	return b.String()
}

// enoughFailures end a run: more would not say more about a defect.
const enoughFailures = 200

// defectLimit is how long a run of a defect may take on the clock on the wall. In
// the time of synctest nothing ever does, unless it turns in circles.
const defectLimit = time.Minute

// A line is what a process that runs a defect writes of a case.
type line struct {
	ID      string              `json:"id"`
	Outcome conformance.Outcome `json:"outcome"`
	Remark  bool                `json:"remark,omitempty"`
}

// marker begins the lines that are lines.
const marker = "case: "

// runDefect runs the cases against the target that the environment names, or
// against all, and writes what comes of each. The defect is in package virtual.
func runDefect(t *testing.T) {
	name, transport := os.Getenv(targetVariable), os.Getenv(overVariable)
	all := targets()
	names := []string{name}
	variants := os.Getenv(variantsVariable) != ""
	left := enoughFailures
	if name == "all" { // for .ci/mutate
		names = slices.Sorted(maps.Keys(all))
		names = slices.Insert(slices.DeleteFunc(names, func(name string) bool { return name == allCommands }), 0, allCommands)
		left = 1
	}
	for _, name := range names {
		key, ok := all[name]
		if !ok {
			t.Fatalf("no target %q", name)
		}
		if left > 0 {
			config := conformance.Config{OneVariant: !variants && (len(names) == 1 || name != allCommands)}
			synctest.Test(t, func(t *testing.T) {
				config.Target = over(t, transport, key)
				left -= failures(t, config, left)
			})
		}
	}
}

// failures runs the cases until enough have failed, and returns how many have.
func failures(t *testing.T, config conformance.Config, enough int) int {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := errors.New("that is enough")
	n := 0
	config.Destructive, config.MaxWait, config.Only = true, -1, chosen
	config.Event = func(e conformance.Event) {
		if e.Kind != conformance.CaseEnd {
			return
		}
		text, err := json.Marshal(line{e.Result.ID, e.Result.Outcome, e.Result.Remark != ""})
		if err != nil {
			t.Error(err)
		}
		fmt.Printf("%s%s\n", marker, text)
		if e.Result.Outcome == conformance.Failed {
			n++
		}
		if n == enough {
			cancel(stop)
		}
	}
	if _, err := conformance.Check(ctx, config); err != nil && !errors.Is(err, stop) {
		t.Error(err)
	}
	return n
}

// A verdict is what became of a run with a defect, or without.
type verdict struct {
	ran      int      // cases that applied
	failed   []string // IDs of cases, in their order
	remarked []string // of those that passed with a remark
	ended    string   // why the run did not come to its end; empty: it did
}

// runProcess has a process of its own run a defect, or none.
func runProcess(t *testing.T, binary string, d *defect, variants string) verdict {
	ctx, cancel := context.WithTimeout(t.Context(), defectLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestDefects$")
	cmd.Env = append(os.Environ(), defectVariable+"="+d.name, targetVariable+"="+d.target, overVariable+"="+d.over,
		variantsVariable+"="+variants)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var v verdict
	var rest []string
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		text, ok := strings.CutPrefix(scanner.Text(), marker)
		var l line
		if !ok || json.Unmarshal([]byte(text), &l) != nil {
			rest = append(rest, strings.TrimSpace(scanner.Text()))
			continue
		}
		if l.Outcome == conformance.Passed || l.Outcome == conformance.Failed {
			v.ran++
		}
		if l.Outcome == conformance.Failed {
			v.failed = append(v.failed, l.ID)
		}
		if l.Remark {
			v.remarked = append(v.remarked, l.ID)
		}
	}
	switch {
	case ctx.Err() != nil:
		v.ended = fmt.Sprintf("not done after %v", defectLimit)
	case err != nil:
		v.ended = "ended early: " + remarkable(rest)
	}
	return v
}

// remarkable is the line of a test's output that says most.
func remarkable(output []string) string {
	for _, start := range []string{"panic: ", "fatal error: ", "defects_test.go"} {
		for _, line := range output {
			if strings.HasPrefix(line, start) {
				return line
			}
		}
	}
	return strings.Join(output, " / ")
}

// runProcesses has a process run each of the defects, as many at a time as there
// are processors. Those that no case finds in its first variant are run with all.
func runProcesses(t *testing.T, binary string, defects []*defect, useless map[string]bool) []verdict {
	verdicts := make([]verdict, len(defects))
	var group sync.WaitGroup
	running := make(chan struct{}, runtime.NumCPU())
	for i, d := range defects {
		running <- struct{}{}
		group.Go(func() {
			for _, variants := range []string{"", "all"} {
				v := runProcess(t, binary, d, variants)
				v.failed = slices.DeleteFunc(v.failed, func(id string) bool { return useless[d.target+d.over+id] })
				if verdicts[i] = v; len(v.failed) > 0 {
					break
				}
			}
			<-running
		})
	}
	group.Wait()
	return verdicts
}

// findDefects runs the cases against each defect, and writes down which find it.
func findDefects(t *testing.T, defects []*defect, overlay, report string) {
	binary := filepath.Join(t.TempDir(), "conformance.test")
	goCommand(t, "test", "-c", "-o", binary, "-overlay="+overlay, ".")

	// First without any. A case that fails then finds nothing.
	var none []*defect
	for _, d := range defects {
		if !slices.ContainsFunc(none, func(n *defect) bool { return n.target == d.target && n.over == d.over }) {
			none = append(none, &defect{target: d.target, over: d.over})
		}
	}
	useless := map[string]bool{} // by target, transport and ID
	for i, v := range runProcesses(t, binary, none, nil) {
		if len(v.failed) > 0 || v.ended != "" || v.ran == 0 {
			t.Errorf("without a defect, target %s over %s: %v %s", none[i].target, none[i].over, v.failed, v.ended)
		}
		for _, id := range v.failed {
			useless[none[i].target+none[i].over+id] = true
		}
	}

	var table strings.Builder
	finds := map[string]bool{} // by ID of a case
	for i, v := range runProcesses(t, binary, defects, useless) {
		d := defects[i]
		for _, id := range v.failed {
			finds[id] = true
		}
		if len(v.failed) == 0 {
			t.Errorf("%s: %s: no case finds it, %v have a remark. %s", d.at, d.name, v.remarked, v.ended)
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", d.name, d.mistake, v.describe())
	}
	var idle strings.Builder
	cases, idleCases := 0, 0
	for _, c := range conformance.Cases() {
		if !chosen(c) {
			continue
		}
		if cases++; !finds[c.ID] {
			idleCases++
			fmt.Fprintf(&idle, "- %s\n", c.ID)
		}
	}
	text := fmt.Sprintf(`# Defects, and what finds them

%d defects.

| defect | mistake | found by |
|---|---|---|
%s
# Cases that none of these defects makes fail

%d of %d. That they can fail, too, is what TestEachCaseCanFail shows: each does
when the authenticator has another answer for it.

%s`, len(defects), &table, idleCases, cases, &idle)
	if err := os.WriteFile(report, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe says what a verdict is in a cell of a table.
func (v verdict) describe() string {
	const named = 4
	text := "nothing"
	if n := len(v.failed); n > named {
		text = fmt.Sprintf("%s and %d more", strings.Join(v.failed[:named], ", "), n-named)
	} else if n > 0 {
		text = strings.Join(v.failed, ", ")
	}
	if v.ended != "" {
		text += "; " + strings.ReplaceAll(v.ended, "|", "/")
	}
	return text
}
