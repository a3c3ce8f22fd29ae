package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBlobPerson(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	file := open(t, "hello\x1b[2J").Name()
	withPIN := func(args ...string) *screen {
		t.Helper()
		s := person(t, key, args...)
		s.sees("PIN (8 tries left): ")
		s.types(testPIN + "\n")
		return s
	}
	s := withPIN("blob", "put", "ada", file)
	s.sees("Wrote 9 bytes.")
	s.ends(0)
	s = withPIN("blob", "list")
	s.sees("example.com  ada   9")
	s.sees("1 blob; room for 4096 bytes in all")
	s.ends(0)
	// On a terminal a stranger's bytes do not steer it.
	s = withPIN("blob", "get", "ada")
	s.sees("hello\uFFFD[2J")
	s.ends(0)
	s = withPIN("blob", "delete", "ada")
	s.sees("Delete the blob of ada? [y/N] ")
	s.types("y\n")
	s.sees("Deleted the blob.")
	s.ends(0)
	s = withPIN("blob", "get", "ada")
	s.sees("This credential has no blob.")
	s.ends(notFound.exit)
	s = withPIN("blob", "clean")
	s.sees("Deleted 0 blobs.")
	s.ends(0)
}

func TestBlobScript(t *testing.T) {
	t.Parallel()
	key := withCredentials(t)
	var d done
	content := strings.Repeat("\x00\xff", 500)
	script(t, key, &d, "blob", "put", "ada", open(t, content).Name())
	var b blobResult
	script(t, key, &b, "blob", "get", "ada")
	if string(b.Blob) != content {
		t.Errorf("%q", b.Blob)
	}
	if r := pipe(t, key, testPIN+"\n", "--pin-stdin", "blob", "get", "ada"); r.out != content {
		t.Errorf("%q", r.out)
	}
	out := filepath.Join(t.TempDir(), "out")
	if r := pipe(t, key, testPIN+"\n", "--pin-stdin", "blob", "get", "ada", "--out", out); r.code != 0 || r.out != "Wrote 1000 bytes.\n" {
		t.Errorf("%+v", r)
	}
	if got, err := os.ReadFile(out); string(got) != content || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// The PIN and the blob can both come from standard input: the PIN is a line,
	// and nothing behind it is read with it.
	if r := pipe(t, key, "from stdin", "--pin-fd", "0", "blob", "put", "ada", "-"); r.code == 0 {
		t.Errorf("the blob was the PIN: %+v", r)
	}
	var l blobsResult
	script(t, key, &l, "blob", "list")
	if len(l.Blobs) != 1 || l.Blobs[0].User != "ada" || l.Blobs[0].Size != len(content) || l.Room != 4096 || l.Left >= l.Room-blobOverhead || l.Left < l.Room-200 {
		t.Errorf("%+v", l)
	}
	scriptFails(t, key, unsupported, "blob", "put", "bob", out) // who has no key for it
	scriptFails(t, key, notFound, "blob", "put", "zoe", out)
	scriptFails(t, key, full, "blob", "put", "ada", open(t, noise(8192)).Name(), "--yes")
	scriptFails(t, key, usage, "blob", "delete", "ada")
	script(t, key, &d, "blob", "clean")
	if d.Done != "Deleted 0 blobs." {
		t.Errorf("%+v", d)
	}
	script(t, key, &d, "blob", "delete", "ada")
	scriptFails(t, key, notFound, "blob", "get", "ada")
	scriptFails(t, key+".old", unsupported, "--virtual-profile", "ctap2.0", "blob", "list")
}

// noise does not compress.
func noise(n int) string {
	b := random(n)
	return string(b)
}
