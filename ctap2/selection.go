package ctap2

import (
	"context"
	"errors"
	"strings"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/ctap"
)

// Selection waits for a touch of the key, which means "this one" where several
// are plugged in (§6.9). Keys from before CTAP 2.1, which lack the command,
// are made to wait by a registration that cannot succeed. It returns nil after
// a touch, ErrOperationDenied or ErrUserActionTimeout without.
func (a *Authenticator) Selection(ctx context.Context) error {
	c, err := a.beginInformed(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	return c.waitForTouch(TouchSelection)
}

func (c *ceremony) waitForTouch(reason Touch) error {
	if c.a.u2f {
		return c.touchU2F(reason)
	}
	if c.info.atLeast21() {
		_, err := c.send(ctap.CmdSelection, 0, nil, reason)
		if !errors.Is(err, ErrInvalidCommand) {
			return err
		}
	}
	// An empty pinUvAuthParam asks for a touch and nothing else (§6.1.2 step 1
	// and §6.2.2 step 1); the answer to the touch is an error. A key without
	// PIN support makes a credential that nobody will ever ask for.
	request := makeCredentialParameters{
		ClientDataHash: make([]byte, ctap.ClientDataHashLength),
		RP:             entity{ID: "touch.invalid", Name: "touch"},
		User:           userEntity{ID: []byte{1}, Name: "touch"},
		Parameters:     []credentialParameters{{cose.ES256, publicKeyType}},
	}
	if c.info.optionKnown(OptionClientPIN) {
		p, err := c.protocol()
		if err != nil {
			return err
		}
		request.PINUVAuthParam = &[]byte{}
		request.PINUVAuthProtocol = p
	}
	_, err := c.send(ctap.CmdMakeCredential, 0, &request, reason)
	if errors.Is(err, ErrPINNotSet) || errors.Is(err, ErrPINInvalid) || errors.Is(err, ErrPINAuthInvalid) {
		return nil
	}
	return err
}

// atLeast21 reports whether the key claims CTAP 2.1 or later. Nothing but
// commands that no option announces may depend on it.
func (i *Info) atLeast21() bool {
	for _, v := range i.Versions {
		if minor, ok := strings.CutPrefix(v, "FIDO_2_"); ok && minor != "0" && minor != "1_PRE" {
			return true
		}
	}
	return false
}
