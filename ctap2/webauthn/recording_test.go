package webauthn_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tapstone/fido/ctap2"
)

// A recording keeps what is sent to a key, and lets a test answer instead.
type recording struct {
	ctap2.Transport
	mu       sync.Mutex
	messages [][]byte
	// answer returns a reply, or nil for the key's.
	answer func(message []byte) []byte
	// change is done to the members of a reply, by command.
	change map[byte]func(members map[int]cbor.RawMessage)
	// frank: the key says that time is up, as most do, and not that the user
	// declined.
	frank bool
}

// record puts a recording between the desk and its key.
func (d *desk) record() *recording {
	d.t.Helper()
	r := &recording{Transport: d.soft}
	d.key = d.open(r)
	d.Authenticators[0] = d.key
	r.messages = nil
	return r
}

func (r *recording) Exchange(ctx context.Context, message []byte, status func(byte)) ([]byte, error) {
	r.mu.Lock()
	r.messages = append(r.messages, slices.Clone(message))
	answer, change := r.answer, r.change[message[0]]
	r.mu.Unlock()
	if answer != nil {
		if reply := answer(message); reply != nil {
			return reply, nil
		}
	}
	reply, err := r.Transport.Exchange(ctx, message, status)
	if err == nil && r.frank && ctap2.Status(reply[0]) == ctap2.ErrOperationDenied {
		return []byte{byte(ctap2.ErrUserActionTimeout)}, nil
	}
	if err != nil || change == nil || reply[0] != 0 {
		return reply, err
	}
	var members map[int]cbor.RawMessage
	if err := cbor.Unmarshal(reply[1:], &members); err != nil {
		return nil, err
	}
	change(members)
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	body, err := mode.Marshal(members)
	return append([]byte{0}, body...), err
}

// sent returns the parameters of all messages with a command.
func (r *recording) sent(t testing.TB, command byte) (list []map[int]cbor.RawMessage) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, message := range r.messages {
		if message[0] != command {
			continue
		}
		var members map[int]cbor.RawMessage
		if err := cbor.Unmarshal(message[1:], &members); err != nil {
			t.Fatal(err)
		}
		list = append(list, members)
	}
	return list
}

func (r *recording) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = nil
}

// tokens returns how many tokens were asked for.
func (r *recording) tokens(t testing.TB) (n int) {
	for _, members := range r.sent(t, 0x06) {
		if sub := members[2][0]; sub == 0x05 || sub == 0x06 || sub == 0x09 {
			n++
		}
	}
	return n
}
