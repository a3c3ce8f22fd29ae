package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A folder stands in for configfs: it holds what is written, but makes no files
// of its own, and does not take them away with their folder.
func TestGadget(t *testing.T) {
	if runtime.GOOS != "linux" {
		err := attachNewGadget(t.Context(), nil, newGadget(reportSize), "", io.Discard)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("attachNewGadget = %v", err)
		}
		return
	}
	configfs, ports := t.TempDir(), t.TempDir()
	g := gadget{filepath.Join(configfs, "virtualkey"), ports, 128}

	// There is no port, and nothing is left.
	if err := attachNewGadget(t.Context(), nil, g, "", io.Discard); err == nil {
		t.Error("attached to no port")
	}
	if entries, err := os.ReadDir(configfs); len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Mkdir(filepath.Join(ports, "dummy_udc.0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := g.create(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"UDC":                        "dummy_udc.0",
		"idVendor":                   "0x1209",
		"strings/0x409/serialnumber": deviceSerial,
		"configs/c.1/strings/0x409/configuration": configuredName,
		"configs/c.1/hid.usb0/report_length":      "128",
		"configs/c.1/hid.usb0/report_desc":        string(reportDescriptor),
	} {
		if got, err := os.ReadFile(filepath.Join(g.folder, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := g.create(); err == nil {
		t.Error("made twice")
	}

	// What configfs would not count as content is taken out of the way.
	filepath.WalkDir(g.folder, func(name string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			return os.Remove(name)
		}
		return err
	})
	for _, own := range []string{"strings", "configs/c.1/strings", "configs", "functions"} {
		defer func() { os.RemoveAll(filepath.Join(g.folder, own)) }()
	}
	g.remove()
	for _, name := range []string{"configs/c.1/hid.usb0", "configs/c.1/strings/0x409", "functions/hid.usb0", "strings/0x409"} {
		if _, err := os.Lstat(filepath.Join(g.folder, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left", name)
		}
	}
	if got, err := os.ReadFile(filepath.Join(g.folder, "UDC")); string(got) != "\n" {
		t.Errorf("still plugged in: %q, %v", got, err)
	}
}
