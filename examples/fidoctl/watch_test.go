package main

import (
	"bufio"
	"os"
	"testing"
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
