//go:build linux

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Sources of the clients that are not Go.
var (
	//go:embed testdata/libfido2.c
	libfido2Source []byte
	//go:embed testdata/python_fido2.py
	pythonSource []byte
)

// python is Debian's: another that comes first in PATH does not find Debian's
// packages.
const python = "/usr/bin/python3"

// module is where the programs in Go are.
const module = "github.com/tapstone/fido/internal/interop/measure/"

// programs are the commands that are measured. What build has made is in its
// folder.
type programs struct {
	folder  string
	clients [clients][]string
}

// The clients, in the order of the columns. The last is Go's bare reports.
const (
	ours = iota
	libfido2
	pythonFIDO2
	reportsAlone
	clients
)

func build(folder string) (*programs, error) {
	p := &programs{folder: folder}
	for _, name := range []string{"client", "getinfo", "samebytes"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", p.path(name), module+name)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	if err := os.WriteFile(p.path("libfido2.c"), libfido2Source, 0o600); err != nil {
		return nil, err
	}
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libfido2").Output()
	if err != nil {
		return nil, fmt.Errorf("pkg-config, for libfido2-dev: %w", err)
	}
	args := []string{"-O2", "-s", "-Wall", "-Wextra", "-Werror", "-o", p.path("libfido2"), p.path("libfido2.c")}
	if out, err := exec.Command("cc", append(args, strings.Fields(string(flags))...)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc: %w\n%s", err, out)
	}
	if err := os.WriteFile(p.path("python_fido2.py"), pythonSource, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command(python, "-c", "import fido2").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("python3-fido2: %w\n%s", err, out)
	}
	p.clients = [clients][]string{
		ours:         {p.path("client")},
		libfido2:     {p.path("libfido2")},
		pythonFIDO2:  {python, p.path("python_fido2.py")},
		reportsAlone: {p.path("client")},
	}
	return p, nil
}

func (p *programs) path(name string) string { return filepath.Join(p.folder, name) }

// A cost is what a program took from start to exit.
type cost struct{ wall, processor time.Duration }

// start runs a program with a key at its descriptor 3, and returns what it
// printed.
func start(key peer, command ...string) (string, cost, error) {
	socket, wait, err := key.socket()
	if err != nil {
		return "", cost{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // in case that it hangs
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.ExtraFiles = []*os.File{socket}
	begun := time.Now()
	err = c.Run()
	took := time.Since(begun)
	if err := errors.Join(err, wait()); err != nil {
		return "", cost{}, fmt.Errorf("%s: %w\n%s", command[0], err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String()), cost{took, c.ProcessState.UserTime() + c.ProcessState.SystemTime()}, nil
}

// size returns the length in bytes of a program and the shared libraries that
// are loaded with it, the C library aside, which every system has.
func size(program string) (int64, error) {
	files := []string{program}
	// ldd fails for a program that needs none.
	needed, _ := exec.Command("ldd", program).Output()
	for line := range strings.Lines(string(needed)) { // "	libfido2.so.1 => /lib/… (0x…)"
		if f := strings.Fields(line); len(f) == 4 && f[1] == "=>" && !strings.HasPrefix(f[0], "libc.") {
			files = append(files, f[2])
		}
	}
	total := int64(0)
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}
