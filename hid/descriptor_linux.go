package hid

import (
	"encoding/binary"
	"errors"

	"github.com/tapstone/fido/internal/ctap"
)

var errDescriptor = errors.New("malformed report descriptor")

// Items of a report descriptor: the byte in front of an item without the two
// bits for the length of its value (Device Class Definition for HID 1.11,
// §6.2.2).
const (
	itemInput         = 0x80
	itemOutput        = 0x90
	itemCollection    = 0xA0
	itemEndCollection = 0xC0

	itemUsagePage   = 0x04
	itemReportSize  = 0x74
	itemReportID    = 0x84
	itemReportCount = 0x94
	itemPush        = 0xA4
	itemPop         = 0xB4

	itemUsage = 0x08

	itemLong   = 0xFE // with the length bits
	itemType   = 0x0C
	itemIsMain = 0x00

	collectionApplication = 0x01
)

// The parser's limits are the kernel's own, so that a descriptor that it has
// accepted passes.
const (
	maxDescriptor = 4096
	maxPushed     = 4
	maxBits       = 8 * 16384
)

// parseDescriptor finds the collection of FIDO's usage (§11.2.8.2) in a HID
// report descriptor and the layout of its reports. It returns errNotFIDO if
// there is none.
func parseDescriptor(b []byte) (reportLayout, error) {
	type globals struct {
		page, size, count uint32
		id                byte
	}
	var (
		now    globals
		pushed []globals
		usage  uint32 // of the next main item; its page is in the upper half
		usages int    // how many it has

		depth  int // of open collections
		inside int // depth of the FIDO collection's content, 0 outside of it
		layout reportLayout
		// In bits, of the report that the first item of each kind is in.
		in, out uint64
	)
	if len(b) > maxDescriptor {
		return reportLayout{}, errDescriptor
	}
	for len(b) > 0 {
		if b[0] == itemLong { // none is defined
			if len(b) < 3 || len(b) < 3+int(b[1]) {
				return reportLayout{}, errDescriptor
			}
			b = b[3+int(b[1]):]
			continue
		}
		item, n := b[0]&^3, int(b[0]&3)
		if n == 3 {
			n = 4
		}
		if len(b) < 1+n {
			return reportLayout{}, errDescriptor
		}
		var wide [4]byte
		copy(wide[:], b[1:1+n])
		value := binary.LittleEndian.Uint32(wide[:])
		b = b[1+n:]

		switch item {
		case itemUsagePage:
			now.page = value
		case itemReportSize:
			now.size = value
		case itemReportCount:
			now.count = value
		case itemReportID:
			now.id = byte(value)
		case itemPush:
			if len(pushed) == maxPushed {
				return reportLayout{}, errDescriptor
			}
			pushed = append(pushed, now)
		case itemPop:
			if len(pushed) == 0 {
				return reportLayout{}, errDescriptor
			}
			now, pushed = pushed[len(pushed)-1], pushed[:len(pushed)-1]
		case itemUsage:
			// The first of several is the collection's.
			if usages++; usages == 1 {
				usage = value
				if n < 4 {
					// Its page is the one in force at the main item.
					usage &= 0xFFFF
				}
			}
		case itemCollection:
			if usage>>16 == 0 {
				usage |= now.page << 16
			}
			depth++
			if inside == 0 && in == 0 && out == 0 && value == collectionApplication &&
				usage == ctap.HIDUsagePage<<16|ctap.HIDUsage {
				inside = depth
			}
		case itemEndCollection:
			if depth == 0 {
				return reportLayout{}, errDescriptor
			}
			if depth == inside {
				inside = 0
			}
			depth--
		case itemInput, itemOutput:
			if inside == 0 {
				break
			}
			bits := uint64(now.size) * uint64(now.count)
			if bits > maxBits {
				return reportLayout{}, errDescriptor
			}
			sum, id := &in, &layout.inID
			if item == itemOutput {
				sum, id = &out, &layout.outID
			}
			if *sum == 0 {
				*id = now.id
			}
			if *id == now.id {
				*sum += bits
			}
		}
		if item&itemType == itemIsMain {
			usage, usages = 0, 0
		}
	}
	if in == 0 || out == 0 {
		return reportLayout{}, errNotFIDO
	}
	if max(in, out) > maxBits {
		return reportLayout{}, errDescriptor
	}
	layout.in, layout.out = int((in+7)/8), int((out+7)/8)
	return layout, nil
}
