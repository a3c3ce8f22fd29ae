package ctap

// CTAPHID (§11.2).
const (
	HIDUsagePage   = 0xF1D0
	HIDUsage       = 0x01
	HIDReportSize  = 64
	HIDBroadcast   = 0xFFFFFFFF
	HIDInitBit     = 0x80 // set in the command byte of an initialization packet
	HIDMaxSequence = 0x7F
	HIDNonceLength = 8
	HIDInitLength  = 17 // length of the reply to CTAPHID_INIT
	HIDVersion     = 2  // CTAPHID protocol version

	HIDPing        = 0x01
	HIDMsg         = 0x03
	HIDLock        = 0x04
	HIDInit        = 0x06
	HIDWink        = 0x08
	HIDCBOR        = 0x10
	HIDCancel      = 0x11
	HIDKeepalive   = 0x3B
	HIDError       = 0x3F
	HIDVendorFirst = 0x40
	HIDVendorLast  = 0x7F

	HIDMaxLockSeconds = 10
)

// Capability bits of the reply to CTAPHID_INIT (§11.2.9.1.3).
const (
	HIDCapabilityWink = 0x01
	HIDCapabilityLock = 0x02 // obsolete
	HIDCapabilityCBOR = 0x04
	HIDCapabilityNMSG = 0x08 // no CTAPHID_MSG
)

// Codes of CTAPHID_ERROR (§11.2.9.1.6). They look like status codes and are
// not: 0x06 is CHANNEL_BUSY in both lists and means two things.
const (
	HIDErrInvalidCmd     = 0x01
	HIDErrInvalidPar     = 0x02
	HIDErrInvalidLen     = 0x03
	HIDErrInvalidSeq     = 0x04
	HIDErrMsgTimeout     = 0x05
	HIDErrChannelBusy    = 0x06
	HIDErrLockRequired   = 0x0A
	HIDErrInvalidChannel = 0x0B
	HIDErrOther          = 0x7F
)
