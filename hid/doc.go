// Package hid speaks CTAPHID (CTAP 2.3 §11.2), the protocol that carries CTAP
// messages to authenticators over USB and other HID connections, and finds and
// opens the authenticators of this machine.
//
// [List] finds them, [Open] opens one:
//
//	infos, err := hid.List(ctx)
//	...
//	dev, err := hid.Open(ctx, infos[0].Path)
//	...
//	defer dev.Close()
//
// A [Device] is what ctap2.Open wants. Most programs need nothing else from
// this package, and never see the bytes of an exchange:
//
//	key, err := ctap2.Open(ctx, dev)
//
// # Messages
//
// [Device.Exchange] carries CTAP2 messages and [Device.Msg] the older U2F
// ones. [Device.Ping], [Device.Wink], [Device.Lock] and [Device.Vendor] are
// the other commands of CTAPHID. Each sends one message and returns the one
// answer. Exchanges of one Device run one after the other, whatever goroutines
// they come from. On Linux they also exclude those of other programs that use
// this package or libfido2, through the device node's advisory lock.
//
// # The end of a wait
//
// No call outlives its context for long. When the context of an Exchange ends,
// the device is told to cancel and has [CancelTimeout] to say how far it came;
// the other commands cannot be cancelled at the device, and return at once.
//
// A device that falls silent ends in [ErrNoAnswer], with any context: after
// [AnswerTimeout] without a keepalive or the start of an answer,
// [PacketTimeout] in the middle of one, [InitTimeout] when a channel is set
// up. While keepalives arrive, as they do when a device waits for a touch, or
// while the device says that it is busy with another program, only the context
// ends a call: give it a deadline.
//
// # What a device may do wrong
//
// Nothing that a device sends makes a call panic, wait without a bound, or use
// more memory than the largest message has bytes. Packets for other channels
// and replies to other programs' CTAPHID_INIT are passed over, as is the rest
// of a message whose start was lost. Whatever else breaks the rules of framing
// is [ErrFraming].
//
// After anything but a whole answer the next exchange starts the channel anew,
// and if the answer was still to come it moves to another channel, so that a
// late answer is never taken for that of another message. It also moves if the
// device says nothing on the channel any longer. The channel is started anew
// behind CTAPHID_WINK, too, which some devices do not get over otherwise.
//
// A message is sent again, in the same call, only if the device has refused it
// outright, because it was busy or did not know the channel any longer.
//
// # Errors
//
// An [Error] is a code that the device has sent with CTAPHID_ERROR. CTAP
// statuses are no errors here: they are in the answers, for package ctap2 to
// read. All errors work with errors.Is and carry their causes:
//
//	switch {
//	case errors.Is(err, hid.ErrDeviceGone): // pulled out
//	case errors.Is(err, hid.ErrLockRequired): // CTAPHID's code
//	case errors.Is(err, context.DeadlineExceeded): // nobody touched it
//	case errors.Is(err, fs.ErrPermission): // Open, without a udev rule
//	}
//
// # Other ways to a device
//
// [New] takes any [Conn] that carries reports: a simulator, a device at the
// end of a network, a platform that this package has no backend for. Package
// hidtest has one that does what a test tells it, and package virtual one that
// is a whole key.
//
// # Arrivals and removals
//
// [Watch] tells which authenticators come and go, and first of all which are
// there:
//
//	for event, err := range hid.Watch(ctx) {
//		if err != nil {
//			return err // of ctx, mostly
//		}
//		if event.Kind == hid.Arrival {
//			dev, err := hid.Open(ctx, event.Info.Path)
//			...
//		}
//	}
//
// # Platforms
//
// On Linux, devices are the kernel's hidraw nodes. Nothing but Go is needed to
// build this package, and no root to use it under the udev rules that systemd
// brings along. Where they are missing, the error of Open says what to do, and
// [UdevRules] returns the rules to install.
//
// On Linux with the build tag libusb and cgo, devices are USB devices, through
// hidapi and libusb, for systems without hidraw nodes. libusb needs write
// access to the nodes in /dev/bus/usb, takes a device away from the kernel as
// long as it is open, hidraw node included, and leaves it to one program at a
// time. A device that another program has open so is not in the list unless it
// was seen before. Open takes hidraw nodes, too.
//
// On macOS, Windows and FreeBSD, devices are reached through hidapi if cgo is
// on; without it List and Open refuse with [ErrUnsupported]. Windows, from
// version 1903 on, shows authenticators to administrators only: without their
// rights, List and Open say so in an error that matches fs.ErrPermission, and
// List returns it instead of an empty list. Programs share a device there and
// cannot exclude each other; the device answers them in turn or is busy. On
// FreeBSD the system does not tell which device is an authenticator: List opens
// those of makers of authenticators, or with FIDO or U2F in their name, and
// asks them.
package hid
