package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/tapstone/fido/ctap2/virtual"
)

// attachGadget makes the key the USB device behind a gadget's node. The port's
// host sets the pace: a write waits until the last report was fetched.
func attachGadget(ctx context.Context, key *virtual.Authenticator, node string, out io.Writer) error {
	file, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "attached through", node)
	return carry(ctx, key, file)
}

// attachNewGadget makes a gadget, and removes it in the end.
func attachNewGadget(ctx context.Context, key *virtual.Authenticator, g gadget, node string, out io.Writer) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("no USB gadgets: %w", errors.ErrUnsupported)
	}
	// One that a program left behind that was killed would be in the way.
	err := g.remove()
	if err == nil {
		err = g.create()
	}
	if err == nil {
		err = attachGadget(ctx, key, node, out)
	}
	return errors.Join(err, g.remove())
}

// A gadget is a USB device of one HID function that Linux makes up out of
// folders and files in configfs.
type gadget struct {
	folder       string // in configfs
	ports        string // the folder that lists the ports that take a gadget
	reportLength int
}

func newGadget(reportLength int) gadget {
	return gadget{"/sys/kernel/config/usb_gadget/virtualkey", "/sys/class/udc", reportLength}
}

// The parts of a gadget, from its folder. Strings are in English, 0x409.
const (
	gadgetPort          = "UDC"
	gadgetStrings       = "strings/0x409"
	gadgetConfiguration = "configs/c.1"
	gadgetFunction      = "functions/hid.usb0"
)

// create makes the gadget and plugs it into the first port. If it fails, remove
// is still to be called.
func (g gadget) create() error {
	ports, err := os.ReadDir(g.ports)
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return errors.New("this machine has no USB port that can be a device (dummy_hcd is a software one)")
	}
	write := func(name, value string) {
		if err == nil {
			err = os.WriteFile(filepath.Join(g.folder, name), []byte(value), 0o644)
		}
	}
	for _, folder := range []string{gadgetStrings, gadgetConfiguration + "/" + gadgetStrings, gadgetFunction} {
		if err := os.MkdirAll(filepath.Join(g.folder, folder), 0o755); err != nil {
			return err
		}
	}
	write("idVendor", fmt.Sprintf("%#04x", deviceVendor))
	write("idProduct", fmt.Sprintf("%#04x", deviceProduct))
	write("bcdDevice", fmt.Sprintf("%#04x", deviceVersion))
	write(gadgetStrings+"/manufacturer", deviceMaker)
	write(gadgetStrings+"/product", deviceName)
	write(gadgetStrings+"/serialnumber", deviceSerial)
	write(gadgetConfiguration+"/"+gadgetStrings+"/configuration", configuredName)
	write(gadgetFunction+"/protocol", "0")
	write(gadgetFunction+"/subclass", "0")
	write(gadgetFunction+"/report_length", strconv.Itoa(g.reportLength))
	write(gadgetFunction+"/report_desc", string(reportDescriptor))
	if err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(g.folder, gadgetFunction), filepath.Join(g.folder, g.link())); err != nil {
		return err
	}
	write(gadgetPort, ports[0].Name())
	return err
}

// link is what puts the function into the configuration.
func (g gadget) link() string { return gadgetConfiguration + "/" + filepath.Base(gadgetFunction) }

// remove unplugs the gadget and takes apart what there is of it, in the one
// order that the kernel allows.
func (g gadget) remove() error {
	if _, err := os.Stat(g.folder); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// This fails if it was not plugged in.
	_ = os.WriteFile(filepath.Join(g.folder, gadgetPort), []byte("\n"), 0o644)
	var errs []error
	for _, name := range []string{
		g.link(), gadgetConfiguration + "/" + gadgetStrings, gadgetConfiguration, gadgetFunction, gadgetStrings, "",
	} {
		if err := os.Remove(filepath.Join(g.folder, name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
