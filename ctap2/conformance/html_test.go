package conformance_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstone/fido/ctap2/conformance"
)

// An element is one of a page, with what a browser has made of it.
type element struct {
	name     string
	attrs    map[string]string
	children []*element
	text     string // its own and that of its children
}

// parse reads a page. Scripts and styles are no markup.
func parse(t *testing.T, page string) *element {
	t.Helper()
	page = regexp.MustCompile(`(?s)<(script|style)>.*?</(script|style)>`).ReplaceAllString(page, "")
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	root := &element{name: "page"}
	open := []*element{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attrs: map[string]string{}}
			for _, a := range token.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			top := open[len(open)-1]
			top.children = append(top.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
}

// all are the elements below that a function chooses.
func (e *element) all(chosen func(*element) bool) []*element {
	var found []*element
	for _, c := range e.children {
		if chosen(c) {
			found = append(found, c)
		}
		found = append(found, c.all(chosen)...)
	}
	return found
}

func (e *element) one(t *testing.T, id string) *element {
	t.Helper()
	found := e.all(func(e *element) bool { return e.attrs["id"] == id })
	if len(found) != 1 {
		t.Fatalf("%d elements have the ID %s", len(found), id)
	}
	return found[0]
}

func (e *element) hidden() bool {
	_, hidden := e.attrs["hidden"]
	return hidden
}

func class(name string) func(*element) bool {
	return func(e *element) bool { return slices.Contains(strings.Fields(e.attrs["class"]), name) }
}

func name(name string) func(*element) bool { return func(e *element) bool { return e.name == name } }

// keys are how the page calls the outcomes.
var keys = map[conformance.Outcome]string{
	conformance.Passed: "passed", conformance.Failed: "failed",
	conformance.NotApplicable: "not-applicable", conformance.Skipped: "skipped",
}

// checkPage compares the figures of a page, its groups, its cases and their
// exchanges with the report in JSON.
func checkPage(t *testing.T, page *element, report *conformance.Report) {
	t.Helper()
	for o, key := range keys {
		if got := page.one(t, "figure-"+key).text; got != fmt.Sprint(report.Count(o)) {
			t.Errorf("%s %s, not %d", got, key, report.Count(o))
		}
	}
	want := map[string][]conformance.Result{}
	var order []string
	for _, r := range report.Results {
		if want[r.Group] == nil {
			order = append(order, r.Group)
		}
		want[r.Group] = append(want[r.Group], r)
	}
	groups := page.all(class("group"))
	overview := page.one(t, "overview").all(name("tr"))[1:]
	if len(groups) != len(order) || len(overview) != len(order) {
		t.Fatalf("%d groups, %d in the overview, not %d", len(groups), len(overview), len(order))
	}
	for i, g := range groups {
		results := want[order[i]]
		if !strings.Contains(g.all(name("h2"))[0].text, order[i]) || !strings.Contains(overview[i].text, order[i]) {
			t.Errorf("group %d is not %s", i, order[i])
		}
		cells := overview[i].all(name("td"))
		for j, o := range []conformance.Outcome{conformance.Failed, conformance.Passed, conformance.NotApplicable, conformance.Skipped} {
			n := 0
			for _, r := range results {
				if r.Outcome == o {
					n++
				}
			}
			if got := strings.Replace(cells[j].text, "·", "0", 1); got != fmt.Sprint(n) {
				t.Errorf("%s: %s %s, not %d", order[i], got, o, n)
			}
		}
		rows := g.all(class("case"))
		if len(rows) != len(results) {
			t.Errorf("%s: %d rows, not %d", order[i], len(rows), len(results))
			continue
		}
		for j, row := range rows {
			r := results[j]
			exchanges := row.all(name("li"))
			if row.attrs["id"] != "case-"+r.ID || row.attrs["data-outcome"] != keys[r.Outcome] || len(exchanges) != len(r.Exchanges) {
				t.Errorf("%s: %v, %d exchanges", r.ID, row.attrs, len(exchanges))
				continue
			}
			for _, text := range []string{r.ID, r.Command, r.Requirement, r.Status, r.Section, r.Message, r.Remark, r.Variant} {
				if !strings.Contains(row.text, text) {
					t.Errorf("%s: no %q in %q", r.ID, text, row.text)
				}
			}
			for k, e := range r.Exchanges {
				for _, text := range []string{e.Command, e.Request, e.Error, e.Reply} {
					if !strings.Contains(exchanges[k].text, text) {
						t.Errorf("%s: no %q in %q", r.ID, text, exchanges[k].text)
					}
				}
			}
		}
	}
	if n := len(page.all(class("exchanges"))); n != report.Count(conformance.Failed) {
		t.Errorf("%d failures with exchanges, not %d", n, report.Count(conformance.Failed))
	}
}

// TestReportHTML: the page says what the report says, has headings, and names
// the columns and rows of its tables; it loads nothing.
func TestReportHTML(t *testing.T) {
	report := failing(t)
	text := written(t, report, nil)["html"]
	page := parse(t, text)
	checkPage(t, page, report)
	if n := len(page.all(name("h1"))); n != 1 {
		t.Errorf("%d headings of the first level", n)
	}
	for _, th := range page.all(name("th")) {
		if th.attrs["scope"] == "" {
			t.Errorf("a heading of no row or column: %q", th.text)
		}
	}
	for _, e := range page.all(func(*element) bool { return true }) {
		for _, a := range []string{"src", "href", "style", "onclick"} {
			if value, ok := e.attrs[a]; ok && (a != "href" || !strings.HasPrefix(value, "#")) {
				t.Errorf("<%s %s=%q>", e.name, a, value)
			}
		}
		if href := e.attrs["href"]; strings.HasPrefix(href, "#case-") || strings.HasPrefix(href, "#group-") {
			page.one(t, href[1:])
		}
	}
	for _, address := range []string{"http:", "https:", "url(", "@import", "@font-face"} {
		if strings.Contains(text, address) {
			t.Errorf("%s is in the page", address)
		}
	}
	policies := page.all(func(e *element) bool { return e.attrs["http-equiv"] == "Content-Security-Policy" })
	if len(policies) != 1 || !strings.HasPrefix(policies[0].attrs["content"], "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%+v", policies)
	}
	// Without the script all is there to be seen, but for what takes the script.
	for _, e := range page.all((*element).hidden) {
		if id := e.attrs["id"]; id != "tools" && id != "none" {
			t.Errorf("hidden: %+v", e)
		}
	}
}

// TestChromium looks at the page of a run in the browser that FIDO_CHROMIUM
// names: its figures, that the script filters, and what is printed.
func TestChromium(t *testing.T) {
	browser := os.Getenv("FIDO_CHROMIUM")
	if browser == "" {
		t.Skip("FIDO_CHROMIUM names no browser")
	}
	report := failing(t)
	all := written(t, report, made())
	folder := t.TempDir()
	file := filepath.Join(folder, "report.html")
	if err := os.WriteFile(file, []byte(all["html"]), 0o600); err != nil {
		t.Fatal(err)
	}
	// What the page is compared with is what others read.
	report, err := conformance.ReadReport(strings.NewReader(all["json"]))
	if err != nil {
		t.Fatal(err)
	}
	address := url.URL{Scheme: "file", Path: file}

	dom := func(fragment string) *element {
		t.Helper()
		address.Fragment = fragment
		out, log := chromium(t, browser, "--dump-dom", address.String())
		for line := range strings.Lines(log) {
			// An error of the script, or a break of the policy. The browser's own pages
			// complain too, such as of a slow network where the machine is busy.
			if strings.Contains(line, "CONSOLE") && !strings.Contains(line, "source: chrome://") {
				t.Errorf("#%s: %s", fragment, line)
			}
		}
		return parse(t, out)
	}
	page := dom("")
	checkPage(t, page, report)
	if page.one(t, "tools").hidden() {
		t.Error("the script has not run")
	}
	if page.one(t, "since").text == "" {
		t.Error("no comparison")
	}

	for fragment, shows := range map[string]func(r *conformance.Result) bool{
		"failed":           func(r *conformance.Result) bool { return r.Outcome == conformance.Failed },
		"remarks":          func(r *conformance.Result) bool { return r.Remark != "" },
		"passed=MALFORMED": func(r *conformance.Result) bool { return r.Outcome == conformance.Passed && holds(t, r, "malformed") },
		"all=unknown command": func(r *conformance.Result) bool {
			return holds(t, r, "unknown") && holds(t, r, "command")
		},
		"all=no such word": func(*conformance.Result) bool { return false },
	} {
		page := dom(fragment)
		want, count := map[string]bool{}, 0
		for i := range report.Results {
			want[report.Results[i].ID] = shows(&report.Results[i])
			if shows(&report.Results[i]) {
				count++
			}
		}
		for _, row := range page.all(class("case")) {
			if id := strings.TrimPrefix(row.attrs["id"], "case-"); row.hidden() == want[id] {
				t.Errorf("#%s: %s: hidden: %v", fragment, id, row.hidden())
			}
		}
		for _, g := range page.all(class("group")) {
			left := slices.ContainsFunc(g.all(class("case")), func(e *element) bool { return !e.hidden() })
			if g.hidden() == left {
				t.Errorf("#%s: a group is hidden: %v", fragment, g.hidden())
			}
		}
		if got := page.one(t, "shown").text; got != fmt.Sprintf("%d of %d cases", count, len(report.Results)) {
			t.Errorf("#%s: %s, not %d", fragment, got, count)
		}
		if page.one(t, "none").hidden() != (count > 0) {
			t.Errorf("#%s: says that nothing matches", fragment)
		}
	}

	// On paper all is unfolded.
	pdf := filepath.Join(folder, "report.pdf")
	address.Fragment = ""
	chromium(t, browser, "--no-pdf-header-footer", "--print-to-pdf="+pdf, address.String())
	printed, err := exec.Command("pdftotext", "-layout", pdf, "-").Output()
	if err != nil {
		t.Fatalf("pdftotext: %v", err)
	}
	if pages := strings.Count(string(printed), "\f"); pages < 3 {
		t.Errorf("%d pages", pages)
	}
	squeezed := func(s string) string { return strings.Join(strings.Fields(s), "") }
	paper := squeezed(string(printed))
	for _, r := range report.Results {
		if !strings.Contains(paper, squeezed(r.ID)) && !strings.Contains(paper, r.ID[:4]) {
			t.Errorf("%s is not printed", r.ID)
		}
		for _, e := range r.Exchanges {
			if !strings.Contains(paper, squeezed(e.Command)) {
				t.Errorf("%s: its exchanges are not printed", r.ID)
			}
		}
	}
}

// holds reports whether a row of the page has a word.
func holds(t *testing.T, r *conformance.Result, word string) bool {
	t.Helper()
	b, err := json.Marshal([]any{r.ID, r.Command, r.Requirement, r.Status, r.Section, r.Outcome, r.Message, r.Remark, r.Variant, r.Exchanges})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(strings.ToLower(string(b)), word)
}

// chromium runs the browser, which must not look for a network, and returns
// what it writes.
func chromium(t *testing.T, browser string, args ...string) (out, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr",
		"--proxy-server=127.0.0.1:9", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=10000",
	}, args...)...)
	var a, b strings.Builder
	cmd.Stdout, cmd.Stderr = &a, &b
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, &b)
	}
	return a.String(), b.String()
}
