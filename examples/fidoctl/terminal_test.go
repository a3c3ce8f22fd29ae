package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tapstone/fido/ctap2"
)

func TestColours(t *testing.T) {
	key := newKey(t, "")
	for _, c := range []struct {
		env     string
		colours bool
	}{{"FIDOCTL=1", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		cmd := command(t, "--virtual", key, "info")
		cmd.Env = append(cmd.Env, c.env)
		s := onScreen(t, cmd)
		s.ends(0)
		if strings.Contains(s.all, "\x1b[1m") != c.colours {
			t.Errorf("%s: %q", c.env, s.all)
		}
	}
}

// What comes from a key can move no cursor.
func TestPrinter(t *testing.T) {
	var out bytes.Buffer
	w := &printer{w: &out}
	w.printf("%s, %v, %v, %d\n", "a\x1b[31mb\u202ec\n", io.EOF, hexBytes("\x1b"), 7)
	if got := out.String(); got != "a\uFFFD[31mb\uFFFDc\uFFFD, EOF, 1b, 7\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	w.table([][]string{{"A", "B"}, {"äöü\r", "1"}, {"x", ""}})
	if got := out.String(); got != "A     B\näöü\uFFFD  1\nx\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	w.colours = true
	w.in(red, "%s", "no")
	if got := out.String(); got != "\x1b[31mno\x1b[0m" {
		t.Errorf("%q", got)
	}
}

func TestReadLine(t *testing.T) {
	for in, want := range map[string]string{"one\ntwo\n": "one", "one\r\n": "one", "one": "one", "\n": ""} {
		r := strings.NewReader(in)
		line, err := readLine(iotest.HalfReader(r))
		if string(line) != want || err != nil {
			t.Errorf("%q: %q, %v", in, line, err)
		}
		if rest, _ := io.ReadAll(r); in == "one\ntwo\n" && string(rest) != "two\n" {
			t.Errorf("%q is left", rest)
		}
	}
	for _, r := range []io.Reader{strings.NewReader(""), strings.NewReader(strings.Repeat("1", 1025)), iotest.ErrReader(io.ErrClosedPipe)} {
		if line, err := readLine(r); err == nil {
			t.Errorf("%q", line)
		}
	}
}

// What cannot be written has not been said.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	key := newKey(t, "")
	for _, args := range [][]string{{"info"}, {"--json", "info"}, {"udev-rules"}} {
		cmd := command(t, append([]string{"--virtual", key}, args...)...)
		cmd.Stdout = full
		if code := exitCode(t, cmd.Run()); code != failure.exit {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

// Of several keys that wait for a touch, one line tells.
func TestTouchSeveral(t *testing.T) {
	var out bytes.Buffer
	p := &program{err: &printer{w: &out}}
	for range 3 {
		p.touch(ctap2.TouchRequest{For: ctap2.TouchSelection})
	}
	for range 3 {
		p.touched()
	}
	p.touch(ctap2.TouchRequest{For: ctap2.TouchReset, Long: true})
	p.touched()
	p.touch(ctap2.TouchRequest{For: ctap2.TouchVerification, Previous: ctap2.ErrUVInvalid})
	p.touched()
	const want = "Several keys are attached: touch the one to use …\nTouch the key for five seconds: it will be erased …\n" +
		"The finger was not recognised: put it on the key's sensor again …\n"
	if got := out.String(); got != want {
		t.Errorf("%q", got)
	}
}
