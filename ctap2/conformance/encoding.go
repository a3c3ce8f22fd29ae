package conformance

import (
	"bytes"
	"slices"

	"github.com/tapstone/fido/internal/ctap"
)

// all adds the code of every case.
func (d *drivers) all() {
	d.encoding()
}

// splice replaces the one occurrence of old.
func splice(x *trial, b []byte, old, new string) []byte {
	if bytes.Count(b, []byte(old)) != 1 {
		x.fatalf("%q is not once in %q", old, b)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func (d *drivers) encoding() {
	bare := func(id string, command byte) {
		d.add(id, plain.leavesNoTrace(), func(x *trial) error { return x.raw(command, nil) })
	}
	bare("enc-unknown-command", 0x0F)
	bare("enc-unassigned-command", 0x03)
	bare("enc-vendor-command", 0x42)
	bare("enc-no-parameters", ctap.CmdGetAssertion)

	info := func(id string, parameters ...byte) {
		d.add(id, plain.leavesNoTrace(), func(x *trial) error { return x.raw(ctap.CmdGetInfo, parameters) })
	}
	info("enc-unwanted-parameters", 0xA0)
	info("enc-unwanted-malformed", 0x5C)
	_ = slices.Concat[[]byte]
}
