//go:build guest && libusb

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstone/fido/hid"
)

// libusb tells which way to the devices this build takes.
const libusb = true

// Without the kernel's driver, the report descriptor comes from the device, and
// while a program has it open, from memory.
func TestWithoutDriver(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			s.plugIn(t, newKey(t))
			path := found(t).Path
			if err := os.WriteFile("/sys/bus/usb/drivers/usbhid/unbind", []byte(path), 0); err != nil {
				t.Fatal(err)
			}
			if nodes, _ := filepath.Glob("/dev/hidraw*"); len(nodes) != 0 {
				t.Fatalf("%v", nodes)
			}
			if info := found(t); info.Path != path || info.InputReport != 64 {
				t.Errorf("%+v", info)
			}
			dev := open(t)
			if info := found(t); info.Path != path {
				t.Errorf("%+v", info)
			}
			if _, err := dev.Ping(limited(t), []byte("hello")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A hidraw node can be opened in this build too.
func TestHidrawNode(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			s.plugIn(t, newKey(t))
			var nodes []string
			eventually(t, "a node", func() bool {
				nodes, _ = filepath.Glob("/dev/hidraw*")
				return len(nodes) == 1
			})
			dev, err := hid.Open(limited(t), nodes[0])
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			if _, err := dev.Ping(limited(t), []byte("hello")); err != nil {
				t.Error(err)
			}
		})
	}
}

// The error names the USB device's node and its rule.
func TestUSBNodeWithoutRights(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			s.plugIn(t, newKey(t))
			out, err := startChild(t, "open", found(t).Path, nobody).output()
			if err == nil {
				t.Error("opened")
			}
			for _, want := range []string{"/dev/bus/usb/0", "permission denied", `ATTR{idVendor}=="1209", ATTR{idProduct}=="0001"`} {
				if !strings.Contains(out, want) {
					t.Errorf("%s does not say %s", out, want)
				}
			}
		})
	}
}
