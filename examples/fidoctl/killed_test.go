package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Fidoctl is killed at any moment, whatever it is at: the key that it leaves
// behind works, has one PIN of the two that it can have, and lists what it holds.
func TestKilled(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	key, pin, other := newKey(t, testPIN), testPIN, "314159"
	blob := open(t, noise(2000)).Name()
	for _, args := range [][]string{
		{"register", "example.com", "ada"},
		{"register", "example.org", "ada"},
		{"blob", "put", "example.com", blob},
		{"fingerprint", "add", "thumb"},
		{"credentials", "rename", "example.org", "--user", "ada@example.org"},
		{"pin", "change"},
		{"config", "always-uv", "on"},
		{"credentials", "delete", "example.org"},
		{"fingerprint", "remove", "thumb"},
		{"reset"},
	} {
		// Killed thrice on the way, and then left alone, unless it had done it.
		for attempt := range 4 {
			cmd := command(t, append([]string{"--virtual", key, "--yes", "--pin-fd", "3"}, args...)...)
			cmd.ExtraFiles = append(cmd.ExtraFiles, open(t, pin+"\n"+other+"\n"))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if attempt < 3 {
				timer := time.AfterFunc(time.Duration(random.Int64N(int64(150*time.Millisecond))), func() { cmd.Process.Kill() })
				defer timer.Stop()
			}
			_ = cmd.Wait()

			var l listResult
			r := pipe(t, key, "", "--json", "list")
			decode(t, r.out, &l)
			switch l.Keys[0].PIN {
			case "not set": // it was reset
				if r := pipe(t, key, pin+"\n", "--pin-stdin", "pin", "set"); r.code != 0 {
					t.Fatalf("%v: %+v", args, r)
				}
			case "set":
			default:
				t.Fatalf("%v: the PIN is %s", args, l.Keys[0].PIN)
			}
			if r := pipe(t, key, pin+"\n", "--pin-stdin", "pin", "check"); r.code == verification.exit {
				pin, other = other, pin // it was changed
			}
			for _, check := range [][]string{{"pin", "check"}, {"credentials", "list"}, {"blob", "list"}, {"fingerprint", "list"}} {
				if r := pipe(t, key, pin+"\n", append([]string{"--pin-stdin"}, check...)...); r.code != 0 {
					t.Fatalf("%v, then %v: %+v", args, check, r)
				}
			}
		}
	}
}
