package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
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
	made bool // by newOutFile
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

// fill writes the file and closes it.
func (o *outFile) fill(data []byte) error {
	if o == nil {
		return nil
	}
	err := o.empty()
	if err == nil {
		_, err = o.Write(data)
	}
	o.made = false // and stays
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("%w: %w", errFile, err)
	}
	return nil
}

// drop closes a file that was not filled. One that was made for nothing goes.
func (o *outFile) drop() {
	if o == nil {
		return
	}
	o.Close()
	if o.made {
		os.Remove(o.Name())
	}
}

// create makes a file that is written bit by bit, or takes out what is in it.
func create(name string) (*os.File, error) {
	o, err := newOutFile(name)
	if err != nil {
		return nil, err
	}
	if err := o.empty(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o.File, nil
}
