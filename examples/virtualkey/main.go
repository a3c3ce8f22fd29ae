// Virtualkey attaches the software authenticator of package virtual to this
// machine, so that programs which know nothing of it find a security key. It
// runs until it is interrupted; then the key is unplugged.
//
// As a HID device of Linux, which every browser and ssh finds. The device
// nodes /dev/uhid and /dev/hidraw* belong to root at first:
//
//	virtualkey -uhid -state key.json
//
// Behind a USB gadget of Linux, on a board with a device port or with the
// module dummy_hcd; -create makes the gadget in configfs and removes it again:
//
//	virtualkey -gadget /dev/hidg0 -create
//
// As a card in vpcd, the virtual reader of pcscd:
//
//	virtualkey -vpcd 127.0.0.1:35963
//
// On a UDP socket, where each datagram is one report of 64 bytes, for programs
// that know how to use that. Whoever runs on this machine can reach it:
//
//	virtualkey -udp 127.0.0.1:8111
//
// Touches are answered at once (-touch auto), never (none), or by whoever sits
// at the terminal (ask). The key lives in memory unless -state names a file
// for it. A new key gets the PIN on the first line of -pin-file, which may be
// a file descriptor such as /dev/fd/3; there is no flag for the PIN itself,
// because others can see those. -profile makes it another kind of key than a
// modern one, of U2F alone for instance.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tapstone/fido/ctap2/virtual"
)

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err == nil {
		err = run(ctx, o, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "virtualkey:", err)
		os.Exit(1)
	}
}

// options are what the command line says. One of uhid, gadget, vpcd and udp is
// set.
type options struct {
	uhid   bool
	gadget string
	vpcd   netip.AddrPort
	udp    netip.AddrPort

	create       bool
	reportLength int
	atr          []byte

	profile virtual.Profile // zero: that of the zero Config
	state   string
	pinFile string
	touch   string
}

// parse reads the command line. It writes what is wrong with it, and help, to
// usage, and returns flag.ErrHelp for a command line that asks for help.
func parse(args []string, usage io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("virtualkey", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&o.uhid, "uhid", false, "be a HID device of this machine, through /dev/uhid (Linux)")
	flags.StringVar(&o.gadget, "gadget", "", "serve the USB gadget's `node`, such as /dev/hidg0 (Linux)")
	flags.BoolVar(&o.create, "create", false, "with -gadget: make the gadget in configfs first")
	flags.IntVar(&o.reportLength, "report-length", 64, "with -create: the gadget's report_length in `bytes`")
	flags.Func("vpcd", "be a card in the vpcd at `127.0.0.1:port`", loopback(&o.vpcd))
	flags.Func("atr", "with -vpcd: the card's answer to reset, in `hex`; 3b8080 makes it T=0, 3b800181 T=1", func(s string) (err error) {
		o.atr, err = hex.DecodeString(s)
		return err
	})
	flags.Func("udp", "exchange reports on a UDP socket at `127.0.0.1:port`; port 0 takes a free one", loopback(&o.udp))
	flags.Func("profile", fmt.Sprintf("the `kind` of key, one of %v", virtual.Profiles()), func(s string) error {
		for _, p := range virtual.Profiles() {
			if p.String() == s {
				o.profile = p
				return nil
			}
		}
		return errors.New("no such kind")
	})
	flags.StringVar(&o.state, "state", "", "the `file` that keeps the key; made if it is not there")
	flags.StringVar(&o.pinFile, "pin-file", "", "the `file` whose first line is the PIN of a new key")
	flags.StringVar(&o.touch, "touch", "auto", "who touches the key: `auto, ask or none`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	ways := 0
	for _, chosen := range []bool{o.uhid, o.gadget != "", o.vpcd.IsValid(), o.udp.IsValid()} {
		if chosen {
			ways++
		}
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("argument %q is not understood", flags.Arg(0))
	case ways != 1:
		return nil, errors.New("say one of -uhid, -gadget, -vpcd and -udp (-h explains)")
	case o.create && o.gadget == "":
		return nil, errors.New("-create goes with -gadget")
	case o.reportLength < reportSize || o.reportLength > 1024:
		return nil, fmt.Errorf("-report-length %d is not from %d to 1024", o.reportLength, reportSize)
	case o.atr != nil && !o.vpcd.IsValid():
		return nil, errors.New("-atr goes with -vpcd")
	case o.touch != "auto" && o.touch != "ask" && o.touch != "none":
		return nil, fmt.Errorf("-touch %q is none of auto, ask and none", o.touch)
	}
	return &o, nil
}

// loopback reads an address that only this machine can reach: what passes there
// is in the clear, and whoever can send to it can use the key.
func loopback(to *netip.AddrPort) func(string) error {
	return func(s string) error {
		addr, err := netip.ParseAddrPort(s)
		if err != nil {
			return err
		}
		if addr.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			return errors.New("not an address at 127.0.0.1")
		}
		*to = addr
		return nil
	}
}

// run makes or reads the key and keeps it attached until ctx ends, which is no
// error, or something fails. It writes to out when the key is attached, and
// with -touch ask what the key wants, which is answered on in.
func run(ctx context.Context, o *options, in io.Reader, out io.Writer) (err error) {
	config := o.profile.Config()
	config.Path = o.state
	if o.vpcd.IsValid() && config.Transports == nil {
		config.Transports = []string{"nfc"}
	}
	switch o.touch {
	case "ask":
		config.Presence = newTerminal(in, out).touch
	case "none":
		config.Presence = virtual.Ignore
	}
	if o.pinFile != "" {
		if config.PIN, err = readPIN(o.pinFile); err != nil {
			return err
		}
	}
	key, err := virtual.New(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	switch {
	case o.uhid:
		return attachUHID(ctx, key, "/dev/uhid", out)
	case o.gadget != "" && o.create:
		return attachNewGadget(ctx, key, newGadget(o.reportLength), o.gadget, out)
	case o.gadget != "":
		return attachGadget(ctx, key, o.gadget, out)
	case o.vpcd.IsValid():
		return attachVPCD(ctx, key, o.vpcd, o.atr, out)
	default:
		return attachUDP(ctx, key, o.udp, out)
	}
}

// readPIN reads the first line of a file.
func readPIN(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, 1024)) // a PIN has 63 bytes at most
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("no PIN in %s", name)
	}
	return line, nil
}
