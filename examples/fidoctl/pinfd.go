package main

import (
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

// takePINs takes over what --pin-fd stands for, as soon as the command line is
// understood. A redirection that was forgotten must not have fidoctl read
// something else for a PIN, and spend tries of the key: neither a file that it
// has opened itself, nor one that the Go runtime has.
func (p *program) takePINs(cmd *cobra.Command) error {
	switch {
	case p.pins != nil: // by the command trace
	case p.pinStdin:
		p.pins = p.in
	case !cmd.Flags().Changed("pin-fd"):
	case p.pinFD < 0:
		return usagef("--pin-fd %d is not a descriptor", p.pinFD)
	case p.pinFD == 0:
		p.pins = p.in
	case !inherited(uintptr(p.pinFD)):
		return usagef("--pin-fd %d: this descriptor is not open; open it with %d<pin-file", p.pinFD, p.pinFD)
	default:
		p.pins = os.NewFile(uintptr(p.pinFD), "--pin-fd")
	}
	if p.pins == nil || p.pinStdin {
		return nil
	}
	info, err := p.pins.Stat()
	if err != nil {
		return usagef("PINs cannot be read: %w", err)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular(), mode&(fs.ModeNamedPipe|fs.ModeSocket) != 0, isTerminal(p.pins):
		return nil
	}
	return usagef("PINs can only be read from a file, a pipe, a socket or a terminal")
}
