//go:build guest && !libusb

package guest

import (
	"os"
	"strings"
	"testing"
)

// libusb tells which way to the devices this build takes.
const libusb = false

// A user without the right to use the device sees it come, is told what to do,
// and can open it as soon as somebody, usually udev, has given the right.
func TestWithoutRights(t *testing.T) {
	for name, s := range here() {
		t.Run(name, func(t *testing.T) {
			watching := startChild(t, "watch", "", nobody)
			if line := watching.line(); line != "watching" {
				t.Fatal(line)
			}
			s.plugIn(t, newKey(t))
			path := found(t).Path
			if line := watching.line(); line != "arrival "+path {
				t.Errorf("saw %q", line)
			}
			opening := startChild(t, "open", path, nobody)
			if line := opening.line(); line != "opening" {
				t.Fatal(line)
			}
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
			if out, err := opening.output(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := startChild(t, "open", path, nobody).output()
			if err == nil {
				t.Error("opened")
			}
			for _, want := range []string{path, "permission denied", "70-fido.rules", "udevadm"} {
				if !strings.Contains(out, want) {
					t.Errorf("%s does not say %s", out, want)
				}
			}
			if out, err := watching.output(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func (r *running) line() string {
	line, _ := r.lines.ReadString('\n')
	return strings.TrimSpace(line)
}
