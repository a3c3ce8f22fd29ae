package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The recorded session in testdata, which the README shows, is what happens: the
// test types what is typed there, and sees what is seen there, except for what
// is another one each time. A line that begins with $ is a command, and y behind
// a question is an answer; the PIN is not seen.
func TestSession(t *testing.T) {
	file := filepath.Join("testdata", "session.txt")
	recorded, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const alias = "$ alias fidoctl='go run ./examples/fidoctl --virtual key.json'\n"
	rest, ok := strings.CutPrefix(string(recorded), alias)
	if !ok {
		t.Fatalf("it does not begin with %s", alias)
	}
	prompts := regexp.MustCompile(`(New )?PIN \(.*\): |Repeat the new PIN: |\[y/N\] y`)
	folder := t.TempDir()
	var replayed strings.Builder
	replayed.WriteString(alias)
	for _, part := range strings.Split("\n"+rest, "\n$ fidoctl ")[1:] {
		line, _, _ := strings.Cut(part, "\n")
		cmd := command(t, append([]string{"--virtual", "key.json"}, strings.Fields(line)...)...)
		cmd.Dir = folder
		s := onScreen(t, cmd)
		for _, prompt := range prompts.FindAllString(part, -1) {
			question, answer := strings.CutSuffix(prompt, "y")
			s.sees(question)
			if answer {
				s.types("y\n")
			} else {
				s.types(testPIN + "\n")
			}
		}
		fmt.Fprintf(&replayed, "$ fidoctl %s\n%s", line, s.ends(0))
	}
	if *update {
		if err := os.WriteFile(file, []byte(replayed.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	fresh := regexp.MustCompile(`[0-9a-f]{16,}|[0-9A-Za-z_-]{43}`)
	got, want := fresh.ReplaceAllString(replayed.String(), "…"), fresh.ReplaceAllString(string(recorded), "…")
	if got != want {
		t.Errorf("the session is not as it was (go test -update, if that is right):\n%s", replayed.String())
	}
}

// The README shows the session in testdata, word for word.
func TestSessionInREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile(filepath.Join("testdata", "session.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## In a terminal\n")
	_, block, _ := strings.Cut(section, "\n```console\n")
	if block, _, found := strings.Cut(block, "```\n"); !found || block != string(recorded) {
		t.Errorf("the README does not show testdata/session.txt:\n%s", block)
	}
}
