package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tapstone/fido/nfc"
)

func TestWatch(t *testing.T) {
	key := newKey(t, "")
	s := person(t, key, "watch")
	s.sees("+ " + key)
	scriptFails(t, key, connection, "info") // it is open
	s.types(ctrlC)
	s.ends(0)

	cmd := command(t, "--json", "--virtual", key, "watch")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var e eventResult
	decode(t, line, &e)
	if e.Event != "arrival" || e.Name != key {
		t.Errorf("%+v", e)
	}
	cmd.Process.Signal(os.Interrupt)
	if code := exitCode(t, cmd.Wait()); code != 0 {
		t.Errorf("exit %d", code)
	}
	// A while is enough, too.
	if r := pipe(t, "", "", "--timeout", "100ms", "watch"); r.code != 0 && r.code != unsupported.exit {
		t.Errorf("%+v", r)
	}
}

// Where cards cannot be seen, watch says so as list does, to people and in JSON.
func TestWatchNoCards(t *testing.T) {
	var out, said bytes.Buffer
	p := &program{json: true, out: &printer{w: &out}, err: &printer{w: &said}}
	p.noCards(fmt.Errorf("nfc: %w", nfc.ErrNoService))
	var e eventResult
	decode(t, out.String(), &e)
	if e.Event != "no cards" || e.Name != "" || e.NoCards == nil || e.NoCards.Kind != noAccess.name {
		t.Errorf("%+v", e)
	}
	const want = "Cards and NFC keys are not seen. This machine has no smart card service. Install "
	if !strings.HasPrefix(said.String(), want) {
		t.Errorf("%s", &said)
	}
	out.Reset()
	p.json = false
	if p.noCards(nfc.ErrNoService); out.Len() > 0 {
		t.Errorf("%s", &out)
	}
	// And it looks.
	var l listResult
	script(t, "", &l, "list")
	r := pipe(t, "", "", "--json", "--timeout", "1s", "watch")
	if first, _, _ := strings.Cut(r.out, "\n"); r.code == 0 && strings.Contains(first, `"no cards"`) != (l.NoCards != nil) {
		t.Errorf("%+v, but %+v", r, l)
	}
}
