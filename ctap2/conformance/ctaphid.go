package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tapstone/fido/ctap2"
	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// On a bus of its own a case minds nothing that the authenticator keeps.
var (
	onBus = plain.inAnyState().leavesNoTrace().orU2F().over("hid")
	// cborOnBus is for authenticators that speak CTAP2.
	cborOnBus = onBus.and(ctap2Spoken)
	// leftAlone is for commands that wait for a touch that never comes.
	leftAlone = cborOnBus.and(waitsForTouch).person(NoTouch)
)

// waitsForTouch is what trial.touching takes.
var waitsForTouch = condition{
	"has no command that waits for a touch and leaves nothing behind",
	func(info *ctap2.Info) bool {
		return userPresence.holds(info) && (from21.holds(info) || clientPIN.holds(info))
	},
}

// touching is a CTAP message that waits for a touch and leaves nothing behind:
// authenticatorSelection, and before CTAP 2.1 what served for it, a
// makeCredential with an empty pinUvAuthParam.
func (x *trial) touching() []byte {
	if from21.holds(x.info) {
		return []byte{ctap.CmdSelection}
	}
	request := mcRequest(set(mcParam, []byte{}), set(mcProtocol, 1))
	return append([]byte{ctap.CmdMakeCredential}, x.encoded(request)...)
}

// touch sends what waits for a touch, which nobody gives, and returns when the
// authenticator says that it waits.
func (b *bus) touch(channel uint32) {
	b.x.person(NoTouch)
	b.send(channel, ctap.HIDCBOR, b.x.touching()...)
	b.untilUPNeeded(channel)
}

func (b *bus) untilUPNeeded(channel uint32) {
	for {
		m, ok := b.message(time.Now().Add(promptly))
		switch {
		case !ok:
			b.x.fatalf("%w on %08X", errNoAnswer, channel)
		case m.channel != channel || m.command != ctap.HIDKeepalive:
			b.x.fatalf("sends %s, where it is to wait for a touch", m)
		}
		b.waits(m)
		if m.data[0] == ctap.KeepaliveUPNeeded {
			return
		}
	}
}

// cancelled cancels what waits for a touch and checks that it ends so.
func (b *bus) cancelled(channel uint32) {
	b.send(channel, ctap.HIDCancel)
	b.endsCancelled(channel)
}

func (b *bus) endsCancelled(channel uint32) {
	if status, _ := b.status(channel); status != ctap.StatusKeepaliveCancel {
		b.x.fatalf("the command that was cancelled ends with status %02X", status)
	}
}

// half sends all packets of a PING but the last and returns that, and the data.
func (b *bus) half(channel uint32) (last []byte, data []byte) {
	data = random(2 * b.size)
	packets := b.packets(channel, ctap.HIDPing, data)
	b.write(packets[:len(packets)-1]...)
	return packets[len(packets)-1], data
}

// echoes checks that the answer to a PING comes.
func (b *bus) echoes(channel uint32, data []byte) {
	if m := b.answered(b.answer(channel), ctap.HIDPing); !bytes.Equal(m.data, data) {
		b.x.fatalf("CTAPHID_PING of %d bytes returns %d, or others", len(data), len(m.data))
	}
}

// unallocated is a channel that nobody has.
func (b *bus) unallocated() uint32 {
	channel := binary.BigEndian.Uint32(random(4))
	for channel == 0 || channel == ctap.HIDBroadcast || b.channels[channel] {
		channel++
	}
	return channel
}

func (d *drivers) ctaphid() {
	d.hidInit()
	d.hidChannels()
	d.hidPing()
	d.hidPackets()
	d.hidBusy()
	d.hidCommands()
	d.hidMsg()
	d.hidCancel()
	d.hidKeepalive()
	d.hidWinkAndLock()
}

func (d *drivers) hidInit() {
	fresh := func(id string, check func(b *bus, r initReply) error) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			return check(b, b.init(ctap.HIDBroadcast))
		})
	}
	fresh("hid-init-nonce", func(b *bus, r initReply) error {
		if !bytes.Equal(r.data[:len(r.nonce)], r.nonce) {
			return otherwise("another nonce")
		}
		return nil
	})
	fresh("hid-init-length", func(b *bus, r initReply) error {
		if len(r.data) != ctap.HIDInitLength {
			return otherwise(fmt.Sprintf("%d bytes", len(r.data)))
		}
		return nil
	})
	fresh("hid-init-version", func(b *bus, r initReply) error {
		if r.version != ctap.HIDVersion {
			return otherwise(fmt.Sprintf("version %d", r.version))
		}
		return nil
	})
	fresh("hid-init-channel", func(b *bus, r initReply) error {
		if r.allocated == 0 || r.allocated == ctap.HIDBroadcast {
			return otherwise(fmt.Sprintf("channel %08X", r.allocated))
		}
		return nil
	})
	fresh("hid-init-reserved-capabilities", func(b *bus, r initReply) error {
		known := byte(ctap.HIDCapabilityWink | ctap.HIDCapabilityLock | ctap.HIDCapabilityCBOR | ctap.HIDCapabilityNMSG)
		if r.capabilities&^known != 0 {
			return otherwise(fmt.Sprintf("capabilities %02X", r.capabilities))
		}
		return nil
	})
	d.add("hid-init-unique", onBus, func(x *trial) error {
		b := x.bus()
		var seen []uint32
		for range 8 {
			channel := b.channel()
			if slices.Contains(seen, channel) {
				x.fatalf("allocates %08X twice", channel)
			}
			seen = append(seen, channel)
		}
		return nil
	})
	fresh("hid-init-capability-cbor", func(b *bus, r initReply) error {
		works := b.ask(r.allocated, ctap.HIDCBOR, ctap.CmdGetInfo).command == ctap.HIDCBOR
		return b.claims(r, ctap.HIDCapabilityCBOR, works, ctap2Spoken.holds(b.x.info))
	})
	fresh("hid-init-capability-nmsg", func(b *bus, r initReply) error {
		refuses := refused(b.ask(r.allocated, ctap.HIDMsg, u2fVersionAPDU...), ctap.HIDErrInvalidCmd) == nil
		return b.claims(r, ctap.HIDCapabilityNMSG, refuses, !u2fSpoken.holds(b.x.info))
	})
	fresh("hid-init-capability-wink", func(b *bus, r initReply) error {
		works := b.ask(r.allocated, ctap.HIDWink).command == ctap.HIDWink
		return b.claims(r, ctap.HIDCapabilityWink, works, works)
	})
	fresh("hid-init-allocated", func(b *bus, r initReply) error {
		again := b.init(r.allocated)
		if again.allocated != r.allocated || !bytes.Equal(again.data[:len(again.nonce)], again.nonce) {
			return otherwise(fmt.Sprintf("answers with channel %08X and nonce %x", again.allocated, again.data[:8]))
		}
		return nil
	})
	fresh("hid-init-same", func(b *bus, r initReply) error {
		again := b.init(r.allocated)
		if !bytes.Equal(again.data[12:], r.data[12:]) {
			return otherwise(fmt.Sprintf("answers %x and then %x", r.data[12:], again.data[12:]))
		}
		return nil
	})
	for id, length := range map[string]int{"hid-init-empty": 0, "hid-init-short": 7, "hid-init-long": 9} {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			return refused(b.ask(ctap.HIDBroadcast, ctap.HIDInit, random(length)...), ctap.HIDErrInvalidLen)
		})
	}
	d.add("hid-init-rest", onBus, func(x *trial) error {
		b := x.bus()
		data := random(b.size - 7)
		b.write(b.first(ctap.HIDBroadcast, ctap.HIDInit, ctap.HIDNonceLength, data))
		b.works(b.initialized(ctap.HIDBroadcast, data[:ctap.HIDNonceLength]).allocated)
		return nil
	})
	fresh("hid-init-resync", func(b *bus, r initReply) error {
		last, _ := b.half(r.allocated)
		b.init(r.allocated)
		b.write(last) // continues nothing any more
		b.quiet()
		b.works(r.allocated)
		return nil
	})
	d.add("hid-init-abort", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		nonce := random(ctap.HIDNonceLength)
		b.send(channel, ctap.HIDInit, nonce...)
		b.initialized(channel, nonce) // a keepalive may still be under way
		b.quiet()
		if status, _ := b.cbor(channel, ctap.CmdGetInfo); status != ctap.StatusOK {
			return otherwise(fmt.Sprintf("getInfo is answered with status %02X then", status))
		}
		return nil
	})
	d.add("hid-init-other-busy", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		last, data := b.half(channel)
		nonce := random(ctap.HIDNonceLength)
		b.send(ctap.HIDBroadcast, ctap.HIDInit, nonce...)
		m := b.answer(ctap.HIDBroadcast)
		b.write(last)
		b.echoes(channel, data)
		if m.command != ctap.HIDInit {
			return otherwise("answers " + m.String())
		}
		return nil
	})
	d.add("hid-init-pin-blocked", withPIN.spends(3).over("hid"), func(x *trial) error {
		x.blockPIN()
		b := x.bus()
		b.init(b.channel())
		x.end()
		x.must(x.h.open(x.ctx, ctap2.WithPINUVAuthProtocol(x.prefers)))
		x.key = x.h.key
		return x.pinBlocked()
	})
	d.add("hid-init-zero", onBus, func(x *trial) error {
		return refused(x.bus().ask(0, ctap.HIDInit, random(ctap.HIDNonceLength)...), ctap.HIDErrInvalidChannel)
	})
	d.add("hid-init-unallocated", onBus, func(x *trial) error {
		b := x.bus()
		return refused(b.ask(b.unallocated(), ctap.HIDInit, random(ctap.HIDNonceLength)...), ctap.HIDErrInvalidChannel)
	})
}

// claims checks a capability against what works and what getInfo says.
func (b *bus) claims(r initReply, capability byte, works, told bool) error {
	if has := r.can(capability); has != works || has != told {
		return otherwise(fmt.Sprintf("bit %02X is %v, CTAPHID shows %v, getInfo %v", capability, has, works, told))
	}
	return nil
}

func (d *drivers) hidChannels() {
	add := func(id string, s setup, command byte, channel func(b *bus) uint32) {
		d.add(id, s, func(x *trial) error {
			b := x.bus()
			data := []byte{ctap.CmdGetInfo}
			return refused(b.ask(channel(b), command, data...), ctap.HIDErrInvalidChannel)
		})
	}
	broadcast := func(*bus) uint32 { return ctap.HIDBroadcast }
	add("hid-channel-broadcast-ping", onBus, ctap.HIDPing, broadcast)
	add("hid-channel-broadcast-cbor", cborOnBus, ctap.HIDCBOR, broadcast)
	add("hid-channel-zero", onBus, ctap.HIDPing, func(*bus) uint32 { return 0 })
	add("hid-channel-unallocated-ping", onBus, ctap.HIDPing, (*bus).unallocated)
	add("hid-channel-unallocated-cbor", cborOnBus, ctap.HIDCBOR, (*bus).unallocated)
	d.add("hid-channel-turns", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		for range 3 {
			b.works(one)
			b.works(two)
		}
		return nil
	})
	d.add("hid-channel-many", onBus, func(x *trial) error {
		b := x.bus()
		var channels []uint32
		for range 8 {
			channels = append(channels, b.channel())
		}
		for _, channel := range channels {
			if m := b.ask(channel, ctap.HIDPing, 1); m.command != ctap.HIDPing {
				return otherwise(fmt.Sprintf("%08X, one of %d, answers %s", channel, len(channels), m))
			}
		}
		return nil
	})
	d.add("hid-channel-power", onBus.powerCycle(), func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		x.end()
		if err := x.h.powerCycle(x.ctx); err != nil {
			return err
		}
		return refused(x.bus().ask(channel, ctap.HIDPing, 1), ctap.HIDErrInvalidChannel)
	})
	d.add("hid-channel-garbage", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		for range 32 {
			report := random(b.size)
			binary.BigEndian.PutUint32(report, b.unallocated())
			if report[4] >= ctap.HIDInitBit|ctap.HIDVendorFirst {
				report[4] ^= ctap.HIDVendorFirst // nobody knows what a vendor's command does
			}
			b.write(report)
			if m, ok := b.message(time.Now().Add(aWhile / 10)); ok && refused(m, ctap.HIDErrInvalidChannel) != nil {
				x.fatalf("answers garbage with %s", m)
			}
		}
		clear(b.open)
		b.works(channel)
		return nil
	})
	d.add("hid-channel-next-assertion", plain.and(residentKeys).over("hid"), func(x *trial) error {
		x.create()
		x.create(func(r *ctap2.MakeCredentialRequest) { r.User.ID = []byte{4, 5, 6} })
		x.mustShow(gaRequest())
		b := x.bus()
		one, two := b.channel(), b.channel()
		request := append([]byte{ctap.CmdGetAssertion}, x.encoded(gaRequest())...)
		if status, _ := b.cbor(one, request...); status != ctap.StatusOK {
			x.fatalf("getAssertion is answered with status %02X", status)
		}
		b.cbor(two, ctap.CmdGetInfo)
		if status, _ := b.cbor(one, ctap.CmdGetNextAssertion); status != ctap.StatusNotAllowed {
			return otherwise(fmt.Sprintf("answers status %02X", status))
		}
		return nil
	})
}

func (d *drivers) hidPing() {
	// The lengths where another packet begins, for reports of any size.
	for id, length := range map[string]func(b *bus) int{
		"hid-ping-empty":        func(*bus) int { return 0 },
		"hid-ping-one":          func(*bus) int { return 1 },
		"hid-ping-packet":       func(b *bus) int { return b.size - 7 },
		"hid-ping-packet-more":  func(b *bus) int { return b.size - 7 + 1 },
		"hid-ping-packets":      func(b *bus) int { return b.size - 7 + b.size - 5 },
		"hid-ping-packets-more": func(b *bus) int { return b.size - 7 + b.size - 5 + 1 },
		"hid-ping-1024":         func(b *bus) int { return min(1024, b.largest()) },
	} {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			channel := b.channel()
			data := random(length(b))
			b.send(channel, ctap.HIDPing, data...)
			b.echoes(channel, data)
			return nil
		})
	}
	d.add("hid-ping-largest", onBus, func(x *trial) error {
		b := x.bus()
		data := random(b.largest())
		m := b.ask(b.channel(), ctap.HIDPing, data...)
		if !bytes.Equal(m.data, data) {
			return otherwise("answers " + m.String())
		}
		return nil
	})
	d.add("hid-ping-padding", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		data := random(b.size)
		b.write(b.first(channel, ctap.HIDPing, 3, data))
		b.echoes(channel, data[:3])
		return nil
	})
	d.add("hid-ping-again", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		for _, length := range []int{200, 3, 0, 100} { // nothing of the one before is left
			data := random(length)
			b.send(channel, ctap.HIDPing, data...)
			b.echoes(channel, data)
		}
		return nil
	})
}

func (d *drivers) hidPackets() {
	tooLong := func(id string, length func(b *bus) int) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			channel := b.channel()
			b.write(b.first(channel, ctap.HIDPing, length(b), nil))
			err := refused(b.answer(channel), ctap.HIDErrInvalidLen)
			b.quiet()
			b.works(channel)
			return err
		})
	}
	tooLong("hid-length-one-too-many", func(b *bus) int { return b.largest() + 1 })
	tooLong("hid-length-65535", func(*bus) int { return 0xFFFF })

	// What a continuation packet should not be numbered, and is.
	wrong := func(id string, sequences ...byte) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			channel := b.channel()
			b.write(b.first(channel, ctap.HIDPing, 5*b.size, nil))
			for _, sequence := range sequences {
				b.write(b.next(channel, sequence, nil))
			}
			err := refused(b.answer(channel), ctap.HIDErrInvalidSeq)
			b.quiet() // the message is over
			b.works(channel)
			return err
		})
	}
	wrong("hid-sequence-skipped", 0, 1, 3)
	wrong("hid-sequence-not-from-zero", 1)
	wrong("hid-sequence-repeated", 0, 0)
	d.add("hid-sequence-after-error", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.write(b.first(channel, ctap.HIDPing, 5*b.size, nil), b.next(channel, 1, nil))
		err := refused(b.answer(channel), ctap.HIDErrInvalidSeq)
		b.write(b.next(channel, 0, nil), b.next(channel, 2, nil))
		b.quiet()
		b.works(channel)
		return err
	})
	d.add("hid-sequence-first-again", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.half(channel)
		err := refused(b.ask(channel, ctap.HIDPing, 1), ctap.HIDErrInvalidSeq)
		b.init(channel)
		b.works(channel)
		return err
	})
	ignored := func(id string, channel func(b *bus, own uint32) uint32) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			own := b.channel()
			b.write(b.next(channel(b, own), 0, random(b.size)))
			b.quiet()
			b.works(own)
			return nil
		})
	}
	ignored("hid-continuation-alone", func(_ *bus, own uint32) uint32 { return own })
	ignored("hid-continuation-unallocated", func(b *bus, _ uint32) uint32 { return b.unallocated() })
	ignored("hid-continuation-broadcast", func(*bus, uint32) uint32 { return ctap.HIDBroadcast })
	d.add("hid-continuation-other", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		last, data := b.half(one)
		b.write(b.next(two, last[4], random(b.size)))
		b.quiet()
		b.write(last)
		b.echoes(one, data)
		return nil
	})
	d.add("hid-continuation-too-many", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		last, data := b.half(channel)
		b.write(last)
		b.echoes(channel, data)
		b.write(b.next(channel, last[4]+1, random(b.size)))
		b.quiet()
		b.works(channel)
		return nil
	})

	d.add("hid-timeout", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.half(channel)
		start := time.Now()
		err := refused(b.answer(channel), ctap.HIDErrMsgTimeout)
		if after := time.Since(start); after < 100*time.Millisecond || after > 4*time.Second {
			x.errorf("gives up after %v", after)
		}
		return err
	})
	d.add("hid-timeout-usable", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		b.half(one)
		err := refused(b.answer(one), ctap.HIDErrMsgTimeout)
		b.works(one)
		b.works(two)
		return err
	})
	d.add("hid-timeout-late", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		last, _ := b.half(channel)
		err := refused(b.answer(channel), ctap.HIDErrMsgTimeout)
		b.write(last)
		b.quiet()
		b.works(channel)
		return err
	})
	d.add("hid-timeout-slow", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		data := random(3 * b.size)
		for _, report := range b.packets(channel, ctap.HIDPing, data) {
			b.write(report)
			x.sleep(50 * time.Millisecond)
		}
		b.echoes(channel, data)
		return nil
	})
	d.add("hid-timeout-same-message", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		b.half(one)
		err := refused(b.ask(two, ctap.HIDPing, 1), ctap.HIDErrChannelBusy)
		if err := refused(b.answer(one), ctap.HIDErrMsgTimeout); err != nil {
			return err
		}
		return err
	})
}

func (d *drivers) hidBusy() {
	d.add("hid-busy-message", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		last, data := b.half(one)
		err := refused(b.ask(two, ctap.HIDPing, random(10)...), ctap.HIDErrChannelBusy)
		b.write(last)
		b.echoes(one, data)
		return err
	})
	d.add("hid-busy-long-message", onBus, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		last, data := b.half(one)
		b.send(two, ctap.HIDPing, random(4*b.size)...) // one error for all its packets
		err := refused(b.answer(two), ctap.HIDErrChannelBusy)
		b.quiet()
		b.write(last)
		b.echoes(one, data)
		return err
	})
	command := func(id string, command byte, other bool) {
		d.add(id, leftAlone, func(x *trial) error {
			b := x.bus()
			channel := b.channel()
			second := channel
			if other {
				second = b.channel()
			}
			b.touch(channel)
			b.send(second, command, ctap.CmdGetInfo)
			m := b.between(channel, second)
			b.open[channel] = true
			b.cancelled(channel)
			return refused(m, ctap.HIDErrChannelBusy)
		})
	}
	command("hid-busy-cbor", ctap.HIDCBOR, true)
	command("hid-busy-ping", ctap.HIDPing, true)
	command("hid-busy-same-channel", ctap.HIDCBOR, false)
	d.add("hid-busy-after", leftAlone, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		b.touch(one)
		b.cancelled(one)
		b.works(two)
		if status, _ := b.cbor(two, ctap.CmdGetInfo); status != ctap.StatusOK {
			return otherwise(fmt.Sprintf("getInfo is answered with status %02X", status))
		}
		return nil
	})
}

// between waits for an answer on a channel while a command runs on another, or
// on the same.
func (b *bus) between(running, channel uint32) message {
	for {
		m, ok := b.message(time.Now().Add(promptly))
		switch {
		case !ok:
			b.x.fatalf("%w on %08X", errNoAnswer, channel)
		case m.channel == running && m.command == ctap.HIDKeepalive:
			b.waits(m)
		case m.channel == channel:
			delete(b.open, channel)
			return m
		default:
			b.x.fatalf("sends %s, where an answer on %08X is due", m, channel)
		}
	}
}

func (d *drivers) hidCommands() {
	d.add("hid-command-unassigned", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		for command := byte(0); command < ctap.HIDVendorFirst; command++ {
			if strings.HasSuffix(hidCommand(command), fmt.Sprintf("_%02X", command)) {
				if err := refused(b.ask(channel, command), ctap.HIDErrInvalidCmd); err != nil {
					x.errorf("%s: %v", hidCommand(command), err)
				}
			}
		}
		return nil
	})
	for id, command := range map[string]byte{"hid-command-keepalive": ctap.HIDKeepalive, "hid-command-error": ctap.HIDError} {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			return refused(b.ask(b.channel(), command, 1), ctap.HIDErrInvalidCmd)
		})
	}
	d.add("hid-command-unassigned-long", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		err := refused(b.ask(channel, 0x2A, random(4*b.size)...), ctap.HIDErrInvalidCmd)
		b.quiet()
		b.works(channel)
		return err
	})
	d.add("hid-cbor-getinfo", cborOnBus, func(x *trial) error {
		b := x.bus()
		status, reply := b.cbor(b.channel(), ctap.CmdGetInfo)
		var info members
		if status != ctap.StatusOK || cbor.Unmarshal(reply, &info) != nil || info[1] == nil {
			return otherwise(fmt.Sprintf("status %02X and %x", status, reply))
		}
		return nil
	})
	d.add("hid-cbor-empty", cborOnBus, func(x *trial) error {
		b := x.bus()
		return refused(b.ask(b.channel(), ctap.HIDCBOR), ctap.HIDErrInvalidLen)
	})
	d.add("hid-cbor-unknown", cborOnBus, func(x *trial) error {
		b := x.bus()
		if status, reply := b.cbor(b.channel(), 0x0F); status != ctap.StatusInvalidCommand || len(reply) > 0 {
			return otherwise(fmt.Sprintf("status %02X and %d bytes", status, len(reply)))
		}
		return nil
	})
	d.add("hid-cbor-packets", cborOnBus.and(lacks("alwaysUv")), func(x *trial) error {
		b := x.bus()
		request := gaRequest(set(1, strings.Repeat("long.", 40)+"example"), set(gaOptions, fields{"up": false}))
		message := append([]byte{ctap.CmdGetAssertion}, x.encoded(request)...)
		if status, _ := b.cbor(b.channel(), message...); status != ctap.StatusNoCredentials {
			return otherwise(fmt.Sprintf("status %02X", status))
		}
		return nil
	})
}

// u2fVersionAPDU is U2F_VERSION in extended length.
var u2fVersionAPDU = []byte{0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00}

// u2fAPDU is a U2F request with data in extended length (FIDO U2F Raw Message
// Formats §3.1).
func u2fAPDU(instruction, p1 byte, data []byte) []byte {
	apdu := []byte{0x00, instruction, p1, 0x00, 0x00, byte(len(data) >> 8), byte(len(data))}
	return append(append(apdu, data...), 0x00, 0x00)
}

// msg sends a U2F request and returns the response and its status word.
func (b *bus) msg(channel uint32, apdu []byte) (data []byte, word uint16) {
	m := b.answered(b.ask(channel, ctap.HIDMsg, apdu...), ctap.HIDMsg)
	if len(m.data) < 2 {
		b.x.fatalf("answers CTAPHID_MSG with %d bytes", len(m.data))
	}
	n := len(m.data) - 2
	return m.data[:n], binary.BigEndian.Uint16(m.data[n:])
}

func (d *drivers) hidMsg() {
	u2f := onBus.and(u2fSpoken)
	word := func(id string, s setup, apdu func() []byte, want uint16) {
		d.add(id, s, func(x *trial) error {
			for _, gesture := range s.gestures {
				x.person(gesture)
			}
			b := x.bus()
			if data, got := b.msg(b.channel(), apdu()); got != want || want != 0x9000 && len(data) > 0 {
				return otherwise(fmt.Sprintf("answers %04X and %d bytes, must be %04X", got, len(data), want))
			}
			return nil
		})
	}
	d.add("hid-msg-version", u2f, func(x *trial) error {
		b := x.bus()
		data, got := b.msg(b.channel(), u2fVersionAPDU)
		if got != 0x9000 || string(data) != "U2F_V2" {
			return otherwise(fmt.Sprintf("answers %04X and %q", got, data))
		}
		return nil
	})
	word("hid-msg-ins", u2f, func() []byte { return []byte{0, 0x1F, 0, 0, 0, 0, 0} }, 0x6D00)
	word("hid-msg-cla", u2f, func() []byte { return []byte{0xA0, 3, 0, 0, 0, 0, 0} }, 0x6E00)
	word("hid-msg-no-touch", u2f.person(NoTouch), func() []byte { return u2fAPDU(1, 0, random(64)) }, 0x6985)
	word("hid-msg-unknown-handle", u2f, func() []byte {
		return u2fAPDU(2, 7, slices.Concat(random(64), []byte{64}, random(64)))
	}, 0x6A80)
	word("hid-msg-wrong-length", u2f, func() []byte { return u2fAPDU(1, 0, random(63)) }, 0x6700)
	d.add("hid-msg-register", u2f, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		apdu := u2fAPDU(1, 0, random(64))
		for try := 0; ; try++ {
			data, got := b.msg(channel, apdu)
			switch {
			case got == 0x9000 && len(data) > 67 && data[0] == 5:
				return nil
			case got != 0x6985 || try == 150:
				return otherwise(fmt.Sprintf("answers %04X and %d bytes", got, len(data)))
			case try == 0:
				x.h.waiting()
			}
			x.sleep(200 * time.Millisecond)
		}
	})
	for id, apdu := range map[string][]byte{"hid-msg-empty": {}, "hid-msg-short": {0, 3, 0}} {
		d.add(id, u2f, func(x *trial) error {
			b := x.bus()
			channel := b.channel()
			m := b.ask(channel, ctap.HIDMsg, apdu...)
			b.works(channel)
			if m.command == ctap.HIDMsg && bytes.Equal(m.data, []byte{0x67, 0x00}) {
				return nil
			}
			return refused(m, ctap.HIDErrInvalidLen)
		})
	}
	d.add("hid-msg-none", cborOnBus.and(not(u2fSpoken, "speaks U2F")), func(x *trial) error {
		b := x.bus()
		return refused(b.ask(b.channel(), ctap.HIDMsg, u2fVersionAPDU...), ctap.HIDErrInvalidCmd)
	})
}

func (d *drivers) hidCancel() {
	idle := func(id string, channel func(b *bus, own uint32) uint32) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			own := b.channel()
			b.send(channel(b, own), ctap.HIDCancel)
			b.quiet()
			b.works(own)
			return nil
		})
	}
	idle("hid-cancel-idle", func(_ *bus, own uint32) uint32 { return own })
	idle("hid-cancel-unallocated", func(b *bus, _ uint32) uint32 { return b.unallocated() })
	d.add("hid-cancel-wait", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		b.cancelled(channel)
		return nil
	})
	d.add("hid-cancel-silent", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		b.cancelled(channel)
		b.quiet() // CANCEL has no answer of its own
		b.works(channel)
		return nil
	})
	d.add("hid-cancel-again", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		for range 2 {
			b.touch(channel)
			b.cancelled(channel)
		}
		return nil
	})
	d.add("hid-cancel-late", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.cbor(channel, ctap.CmdGetInfo)
		b.send(channel, ctap.HIDCancel) // for what is over
		b.touch(channel)
		for range 3 {
			b.untilUPNeeded(channel)
		}
		b.cancelled(channel)
		return nil
	})
	other := func(id string, channel func(b *bus) uint32) {
		d.add(id, leftAlone, func(x *trial) error {
			b := x.bus()
			one, two := b.channel(), channel(b)
			b.touch(one)
			b.send(two, ctap.HIDCancel)
			for range 3 {
				b.untilUPNeeded(one)
			}
			b.cancelled(one)
			return nil
		})
	}
	other("hid-cancel-other", (*bus).channel)
	other("hid-cancel-broadcast", func(*bus) uint32 { return ctap.HIDBroadcast })
	d.add("hid-cancel-ping", onBus, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		data := random(100)
		b.send(channel, ctap.HIDPing, data...)
		b.send(channel, ctap.HIDCancel)
		b.echoes(channel, data)
		b.works(channel)
		return nil
	})
}

func (d *drivers) hidKeepalive() {
	d.add("hid-keepalive-status", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel) // each is checked; one says that it waits
		for range 3 {
			b.untilUPNeeded(channel)
		}
		b.cancelled(channel)
		return nil
	})
	d.add("hid-keepalive-interval", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		last := time.Now()
		for range 10 {
			b.untilUPNeeded(channel)
			// Ten times what is asked: the clock is that of a busy machine.
			if gap := time.Since(last); gap > time.Second {
				x.errorf("%v between two", gap)
			}
			last = time.Now()
		}
		b.cancelled(channel)
		return nil
	})
	d.add("hid-keepalive-flood", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		start, n := time.Now(), 0
		for time.Since(start) < time.Second {
			b.untilUPNeeded(channel)
			n++
		}
		b.cancelled(channel)
		if n > 50 {
			return otherwise(fmt.Sprintf("%d in a second", n))
		}
		return nil
	})
	d.add("hid-keepalive-after", leftAlone, func(x *trial) error {
		b := x.bus()
		channel := b.channel()
		b.touch(channel)
		b.cancelled(channel)
		b.quiet()
		b.cbor(channel, ctap.CmdGetInfo)
		b.quiet()
		return nil
	})
	d.add("hid-keepalive-idle", onBus, func(x *trial) error {
		b := x.bus()
		b.works(b.channel())
		b.quiet()
		return nil
	})
	d.add("hid-keepalive-twice", leftAlone, func(x *trial) error {
		b := x.bus()
		one, two := b.channel(), b.channel()
		for _, channel := range []uint32{one, two} { // which untilUPNeeded checks
			b.touch(channel)
			b.untilUPNeeded(channel)
			b.cancelled(channel)
		}
		return nil
	})
}

func (d *drivers) hidWinkAndLock() {
	wink := func(id string, s setup, run func(b *bus, channel uint32) error) {
		d.add(id, s, func(x *trial) error {
			b := x.bus()
			r := b.init(ctap.HIDBroadcast)
			if !r.can(ctap.HIDCapabilityWink) {
				x.skip("does not wink")
			}
			return run(b, r.allocated)
		})
	}
	wink("hid-wink", onBus, func(b *bus, channel uint32) error {
		if m := b.answered(b.ask(channel, ctap.HIDWink), ctap.HIDWink); len(m.data) > 0 {
			return otherwise("answers " + m.String())
		}
		return nil
	})
	wink("hid-wink-data", onBus, func(b *bus, channel uint32) error {
		return refused(b.ask(channel, ctap.HIDWink, 1), ctap.HIDErrInvalidLen)
	})
	wink("hid-wink-cbor", cborOnBus, func(b *bus, channel uint32) error {
		b.ask(channel, ctap.HIDWink)
		if status, _ := b.cbor(channel, ctap.CmdGetInfo); status != ctap.StatusOK {
			return otherwise(fmt.Sprintf("getInfo is answered with status %02X then", status))
		}
		return nil
	})

	// lock runs with two channels; the first holds the lock for some seconds.
	lock := func(id string, seconds byte, run func(b *bus, one, two uint32) error) {
		d.add(id, onBus, func(x *trial) error {
			b := x.bus()
			one, two := b.channel(), b.channel()
			m := b.ask(one, ctap.HIDLock, seconds)
			if refused(m, ctap.HIDErrInvalidCmd) == nil {
				x.skip("has no lock")
			}
			x.ends = append(x.ends, func() { _, _ = b.reports.Write(b.first(one, ctap.HIDLock, 1, []byte{0})) })
			if b.answered(m, ctap.HIDLock); len(m.data) > 0 {
				x.fatalf("answers %s", m)
			}
			return run(b, one, two)
		})
	}
	lock("hid-lock-others", 5, func(b *bus, one, two uint32) error {
		err := refused(b.ask(two, ctap.HIDPing, 1), ctap.HIDErrChannelBusy)
		b.works(one)
		return err
	})
	lock("hid-lock-release", 5, func(b *bus, one, two uint32) error {
		b.answered(b.ask(one, ctap.HIDLock, 0), ctap.HIDLock)
		b.works(two)
		return nil
	})
	lock("hid-lock-expires", 1, func(b *bus, one, two uint32) error {
		b.x.sleep(1500 * time.Millisecond)
		b.works(two)
		return nil
	})
	lock("hid-lock-renewed", 1, func(b *bus, one, two uint32) error {
		b.answered(b.ask(one, ctap.HIDLock, 5), ctap.HIDLock)
		b.x.sleep(1500 * time.Millisecond)
		return refused(b.ask(two, ctap.HIDPing, 1), ctap.HIDErrChannelBusy)
	})
	lock("hid-lock-foreign", 5, func(b *bus, one, two uint32) error {
		return refused(b.ask(two, ctap.HIDLock, 0), ctap.HIDErrChannelBusy)
	})
	lock("hid-lock-longest", 10, func(b *bus, one, two uint32) error {
		return refused(b.ask(two, ctap.HIDPing, 1), ctap.HIDErrChannelBusy)
	})
	lock("hid-lock-too-long", 0, func(b *bus, one, two uint32) error {
		err := refused(b.ask(one, ctap.HIDLock, 11), ctap.HIDErrInvalidPar)
		b.works(two) // and holds no lock
		return err
	})
	lock("hid-lock-empty", 0, func(b *bus, one, two uint32) error {
		return refused(b.ask(one, ctap.HIDLock), ctap.HIDErrInvalidLen)
	})
}
