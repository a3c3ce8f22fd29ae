package ctap2

import (
	"fmt"

	"github.com/tapstone/fido/cose"
	"github.com/tapstone/fido/internal/cbor"
)

const publicKeyType = "public-key"

// A RelyingParty is the site that a credential is for (WebAuthn §5.4.2).
type RelyingParty struct {
	ID   string // a domain name, such as "example.com"
	Name string // for people; may be empty
}

// A User is an account at a relying party (WebAuthn §5.4.3).
type User struct {
	ID          []byte // 1 to 64 bytes, chosen by the relying party
	Name        string // such as "ada@example.com"; keys return it only after user verification
	DisplayName string // such as "Ada Lovelace"
}

// A CredentialDescriptor names a credential (WebAuthn §5.8.3). Transports are
// not part of it: some keys refuse a descriptor that holds them.
type CredentialDescriptor struct {
	ID []byte
	// Type is "public-key", which an empty string means.
	Type string
}

// entity is PublicKeyCredentialRpEntity on the wire.
type entity struct {
	ID   string `cbor:"id"`
	Name string `cbor:"name,omitempty"`
}

// userEntity is PublicKeyCredentialUserEntity on the wire.
type userEntity struct {
	ID          []byte `cbor:"id"`
	Name        string `cbor:"name,omitempty"`
	DisplayName string `cbor:"displayName,omitempty"`
}

// descriptor is PublicKeyCredentialDescriptor on the wire.
type descriptor struct {
	ID   []byte `cbor:"id"`
	Type string `cbor:"type"`
}

func (d CredentialDescriptor) wire() descriptor {
	if d.Type == "" {
		d.Type = publicKeyType
	}
	return descriptor(d)
}

// credentialParameters is PublicKeyCredentialParameters on the wire.
type credentialParameters struct {
	Algorithm cose.Algorithm `cbor:"alg"`
	Type      string         `cbor:"type"`
}

func readRP(d *cbor.Cursor) (rp RelyingParty, err error) {
	for name := range d.TextMap() {
		switch string(name) {
		case "id":
			rp.ID = d.Text()
		case "name":
			rp.Name = d.Text()
		}
	}
	return rp, d.Err()
}

func readUser(d *cbor.Cursor) (u User, err error) {
	for name := range d.TextMap() {
		switch string(name) {
		case "id":
			u.ID = d.Bytes()
		case "name":
			u.Name = d.Text()
		case "displayName":
			u.DisplayName = d.Text()
		}
	}
	if d.Err() == nil && u.ID == nil {
		err = fmt.Errorf("user: %w", noMember("id"))
	}
	return u, err
}

func readDescriptor(d *cbor.Cursor) (c CredentialDescriptor, err error) {
	for name := range d.TextMap() {
		switch string(name) {
		case "id":
			c.ID = d.Bytes()
		case "type":
			c.Type = d.Text()
		}
	}
	if d.Err() == nil && len(c.ID) == 0 {
		err = fmt.Errorf("credential: %w", noMember("id"))
	}
	return c, err
}
