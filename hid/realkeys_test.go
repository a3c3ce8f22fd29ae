package hid

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstone/fido/hid/hidtest"
	"github.com/tapstone/fido/internal/ctap"
	"github.com/tapstone/fido/internal/vectors"
)

// Reports of real keys, as they were recorded, come out as the messages that
// they carry.
func TestRealKeys(t *testing.T) {
	recordings := vectors.KeyReports()
	// name: how many messages, and the length of each in all
	for name, want := range map[string][]int{
		"CTAP_CBOR_INFO":                {0x255},
		"CTAP_CBOR_AUTHKEY":             {0x51},
		"CTAP_CBOR_PINTOKEN":            {0x14},
		"CTAP_CBOR_STATUS":              {1},
		"CTAP_CBOR_RETRIES":             {4},
		"CTAP_CBOR_ASSERT":              {0xCB},
		"CTAP_CBOR_CRED":                {0x3E1},
		"CTAP_CBOR_CREDMAN_META":        {7},
		"CTAP_CBOR_CREDMAN_RPLIST":      {0x37, 0x36, 0x37},
		"CTAP_CBOR_CREDMAN_RKLIST":      {0xC5, 0xA0, 0xA0, 0xC3, 0xC3},
		"CTAP_CBOR_BIO_INFO":            {6},
		"CTAP_CBOR_BIO_ENROLL":          {10, 6, 6},
		"CTAP_CBOR_BIO_ENUM":            {0x2E},
		"CTAP_CBOR_LARGEBLOB_GET_ARRAY": {0x1E6},
		"CTAP_U2F_6985":                 {2},
		"CTAP_U2F_AUTH":                 {0x4E},
		"CTAP_U2F_REGISTER":             {0x31E},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recording := recordings[name]
				if len(recording) == 0 {
					t.Fatal("no such recording")
				}
				k := hidtest.New(nil)
				k.Handle(func(m hidtest.Message) hidtest.Answer {
					if m.Command != ctap.HIDInit {
						return hidtest.Silence() // its answer is there already
					}
					// The recorded reply, with our nonce and the channel of
					// the recording.
					reply := bytes.Clone(recordings["CTAP_INIT"])
					copy(reply[7:], m.Data)
					copy(reply[15:], recording[:4])
					return hidtest.Reports(reply)
				})
				d := newDevice(t, k)
				if got, want := d.Channel(), binary.BigEndian.Uint32(recording); got != want {
					t.Fatalf("channel %x, want %x", got, want)
				}
				if want := (Version{2, 5, 2, 1}); d.Version() != want || d.Capabilities() != CapabilityWink|CapabilityCBOR {
					t.Errorf("%v, capabilities %v", d.Version(), d.Capabilities())
				}
				for report := range slices.Chunk(recording, 64) {
					// One recording is of two sessions, one lacks the zeros at
					// its end.
					report = append(bytes.Clone(report), make([]byte, 64-len(report))...)
					copy(report, recording[:4])
					k.Send(hidtest.Reports(report))
				}
				for i, length := range want {
					var answer []byte
					var err error
					keepalives := 0
					if strings.Contains(name, "U2F") {
						answer, err = d.Msg(t.Context(), nil)
					} else {
						answer, err = d.Exchange(t.Context(), nil, func(status byte) {
							if keepalives++; status != ctap.KeepaliveUPNeeded {
								t.Errorf("status %d", status)
							}
						})
					}
					if err != nil || len(answer) != length {
						t.Fatalf("message %d: %d bytes, %v; want %d", i, len(answer), err, length)
					}
					if answer[0] != 0 && !strings.Contains(name, "U2F") {
						t.Errorf("message %d has status %02x", i, answer[0])
					}
					if wanted := map[int]int{0: 3, 1: 2, 2: 1}[i]; name == "CTAP_CBOR_BIO_ENROLL" && keepalives != wanted {
						t.Errorf("message %d: %d keepalives, want %d", i, keepalives, wanted)
					}
				}
			})
		})
	}
}
