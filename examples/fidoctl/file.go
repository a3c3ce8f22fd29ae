package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
)

// readFile reads a file that the person has named; - is standard input, unless
// that is where PINs come from.
func (p *program) readFile(name string) ([]byte, error) {
	const most = 16 << 20
	file := p.in
	if name == "-" {
		if p.pinStdin || p.pinFD == 0 {
			return nil, usagef("standard input cannot be both a file and PINs: give the PINs with --pin-fd 3 3<pin-file")
		}
	} else {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, fmt.Errorf("%w: %w", errFile, err)
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFile, err)
	}
	return data, nil
}

// An outFile is a file that the person has named for what a command finds out.
// It is opened before the key is asked for anything, so that nothing is done
// that cannot be written down, and changed only when there is something to
// write. A nil one is none.
type outFile struct {
	*os.File
	made  bool // by newOutFile, and nothing was written
	begun bool // to be written
}

// outFlags are the flags that name such files.
var outFlags = []string{"out", "output", "public-key", "random-pins", "record", "report"}

// checkOutFiles refuses to write over the software key, or over what lies beside
// it: the lock, and the file that becomes the key's when it is compacted. It is
// called before any of them is opened, and by the command trace twice, since the
// command that it runs may be the one that names the key.
func (p *program) checkOutFiles(cmd *cobra.Command) error {
	for _, flag := range outFlags {
		f := cmd.Flags().Lookup(flag)
		if f == nil || !f.Changed {
			continue
		}
		names := []string{f.Value.String()}
		if several, ok := f.Value.(interface{ GetSlice() []string }); ok {
			names = several.GetSlice()
		}
		for _, name := range names {
			p.outFiles = append(p.outFiles, [2]string{flag, name})
		}
	}
	if p.virtual == "" {
		return nil
	}
	for _, out := range p.outFiles {
		for _, key := range []string{p.virtual, landing(p.virtual)} {
			for _, end := range []string{"", ".lock", ".new"} {
				if sameFile(out[1], key+end) {
					return fmt.Errorf("--%s %s is a file of the software key, which would be lost: give another one", out[0], out[1])
				}
			}
		}
	}
	return nil
}

// sameFile reports whether two names are of one file, or would be once it is made.
func sameFile(one, other string) bool {
	a, err := os.Stat(one)
	b, failed := os.Stat(other)
	if err == nil && failed == nil {
		return os.SameFile(a, b)
	}
	return landing(one) == landing(other)
}

// landing is where a file is made that is opened by this name: links may point
// to one that does not exist yet.
func landing(name string) string {
	for range 40 { // as many as Linux follows
		target, err := os.Readlink(name)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(name), target)
		}
		name = target
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil {
		name = filepath.Join(dir, filepath.Base(name))
	}
	if absolute, err := filepath.Abs(name); err == nil {
		name = absolute
	}
	return name
}

// newOutFile opens a file, or makes one. What is there already becomes the
// user's alone, as a new one is: blobs may be secrets, and traces hold names.
func newOutFile(name string) (*outFile, error) {
	if name == "" {
		return nil, nil
	}
	_, err := os.Lstat(name)
	o := &outFile{made: errors.Is(err, fs.ErrNotExist)}
	if o.File, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("%w: %w", errFile, err)
	}
	if info, err := o.Stat(); err != nil || info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		if err = errors.Join(err, o.Chmod(0o600)); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", errFile, err), o.Close())
		}
	}
	return o, nil
}

// empty takes out what was in the file; pipes and devices have nothing in them.
func (o *outFile) empty() error {
	info, err := o.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = o.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errFile, err)
	}
	return nil
}

// Write implements io.Writer. What was in the file goes when it is first called.
func (o *outFile) Write(b []byte) (int, error) {
	if !o.begun {
		if err := o.empty(); err != nil {
			return 0, err
		}
		o.begun, o.made = true, false // and it stays
	}
	return o.File.Write(b)
}

// fill writes the file and closes it.
func (o *outFile) fill(data []byte) error {
	if o == nil {
		return nil
	}
	_, err := o.Write(data)
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("%w: %w", errFile, err)
	}
	return nil
}

// drop closes a file that was not filled. One that was made for nothing goes.
func (o *outFile) drop() error {
	if o == nil {
		return nil
	}
	err := o.Close()
	if o.made {
		os.Remove(o.Name())
	}
	return err
}
