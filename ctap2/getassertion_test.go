package ctap2

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tapstone/fido/internal/cbor"
	"github.com/tapstone/fido/internal/ctap"
)

// What is encoded by hand is what cbor.Marshal makes of the members' tags.
func TestGetAssertionParameters(t *testing.T) {
	full := getAssertionParameters{
		RPID:           "example.com",
		ClientDataHash: make([]byte, ctap.ClientDataHashLength),
		AllowList: []descriptor{
			{ID: bytes.Repeat([]byte{1}, 64), Type: publicKeyType},
			{ID: bytes.Repeat([]byte{2}, 300), Type: "another type, with a name that is not short"},
		},
		Extensions:        map[string]any{"hmac-secret": map[int]any{2: []byte{1}, 1: map[int]int{1: 2, -1: 1}}, "credBlob": true},
		Options:           map[string]bool{OptionUserVerification: true, OptionUserPresence: false},
		PINUVAuthParam:    bytes.Repeat([]byte{3}, 32),
		PINUVAuthProtocol: 2,
	}
	// Each choice of the five members that may be absent.
	for absent := range 1 << 5 {
		p := full
		for i, remove := range []func(){
			func() { p.AllowList = nil },
			func() { p.Extensions = map[string]any{} },
			func() { p.Options = map[string]bool{} },
			func() { p.PINUVAuthParam = nil },
			func() { p.PINUVAuthProtocol = 0 },
		} {
			if absent&(1<<i) != 0 {
				remove()
			}
		}
		want, err := cbor.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.encode()
		if err != nil || got[0] != ctap.CmdGetAssertion || !bytes.Equal(got[1:], want) {
			t.Errorf("%+v: %v\n%x\n%x", p, err, got[1:], want)
		}
	}
	full.Extensions["unknown"] = make(chan int)
	if _, err := full.encode(); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("an input that is not CBOR: %v", err)
	}
}
