package ctap2

import (
	"crypto/sha256"
	"errors"

	"github.com/tapstone/fido/internal/ctap"
)

// checkList refuses descriptors that no key can match.
func checkList(name string, list []CredentialDescriptor) error {
	for i, d := range list {
		if len(d.ID) == 0 {
			return invalid("%s[%d] has no ID", name, i)
		}
	}
	return nil
}

// usable returns the descriptors that the key could have made. A credential ID
// longer than its longest, or than a message, is another key's, and makes some
// keys fail.
func (c *ceremony) usable(list []CredentialDescriptor) []descriptor {
	if len(list) == 0 {
		return nil
	}
	out := make([]descriptor, 0, len(list))
	for _, d := range list {
		if d.Type == "" {
			d.Type = publicKeyType
		}
		limit := c.info.MaxCredentialIDLength
		if limit > 0 && len(d.ID) > limit || descriptor(d).encodedSize() > c.searchRoom() {
			continue
		}
		out = append(out, descriptor(d))
	}
	return out
}

// encodedSize is the length of the descriptor's encoding.
func (d descriptor) encodedSize() int {
	const mapHead, id, typ = 1, 1 + 2, 1 + 4
	return mapHead + id + headSize(len(d.ID)) + len(d.ID) + typ + headSize(len(d.Type)) + len(d.Type)
}

// headSize is the length of the head of a string of n bytes.
func headSize(n int) int {
	switch {
	case n < 24:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	}
	return 5
}

const (
	// listOverhead is what a list adds to a message besides its descriptors:
	// its key and its head.
	listOverhead = 1 + 3
	// laterMembers are the members that follow when a list is planned: options,
	// and pinUvAuthParam with its protocol; laterExtension is the largest
	// extension input, hmac-secret's with two salts.
	laterMembers   = 16 + 2 + 34 + 2
	laterExtension = 240
	// searchOverhead is a silent getAssertion without RP ID and list: command
	// byte, map head, rpId's key and head, clientDataHash, options,
	// pinUvAuthParam and its protocol.
	searchOverhead = 1 + 1 + 1 + 3 + 1 + 34 + 6 + 1 + 34 + 2
)

// searchRoom is how many bytes of descriptors a silent getAssertion takes.
func (c *ceremony) searchRoom() int {
	return c.info.maxMsgSize() - searchOverhead - len(c.rpID) - listOverhead
}

// plan says how a list reaches the key, by its limits of count and of bytes:
// in the command itself if it fits; otherwise in parts, as few as possible,
// that are searched silently one after the other, and a last one that the
// command takes along if they match nothing. parameters is the command without
// its list, extensions and authentication.
func (c *ceremony) plan(list []descriptor, parameters any, extensions []Extension) (search [][]descriptor, last []descriptor, err error) {
	if len(list) <= 1 {
		return nil, list, nil
	}
	size, err := encodedSize(parameters)
	if err != nil {
		return nil, nil, err
	}
	room := c.info.maxMsgSize() - 1 - size - listOverhead - laterMembers - len(extensions)*laterExtension
	count := max(c.info.MaxCredentialCountInList, 1)
	for rest := list; ; {
		if n, whole := fit(rest, count, room); n == len(rest) && whole {
			return search, rest, nil
		}
		n, _ := fit(rest, count, c.searchRoom())
		search = append(search, rest[:n:n])
		if n == len(rest) { // the search takes it, the command does not: one stands for all
			return search, rest[:1], nil
		}
		rest = rest[n:]
	}
}

// fit returns how many descriptors, at least one, fit by count and by bytes,
// and whether those do.
func fit(list []descriptor, count, room int) (n int, fits bool) {
	for n < len(list) && n < count {
		if room -= list[n].encodedSize(); room < 0 {
			break
		}
		n++
	}
	return max(n, 1), n > 0
}

// search looks for the first credential of the parts that the key holds,
// without a touch (option up: false), which does not spend the token. Only the
// answer NO_CREDENTIALS means that a part matches nothing. What is signed on
// the way is the hash of nothing, good for no relying party.
func (c *ceremony) search(parts [][]descriptor, token *Token) (descriptor, error) {
	hash := sha256.Sum256(nil)
	rpIDHash := sha256.Sum256([]byte(c.rpID))
	p := &getAssertionParameters{
		RPID:           c.rpID,
		ClientDataHash: hash[:],
		Options:        map[string]bool{OptionUserPresence: false},
	}
	if token != nil {
		p.PINUVAuthParam, p.PINUVAuthProtocol = token.Authenticate(hash[:]), token.protocol
	}
	for _, part := range parts {
		p.AllowList = part
		body, err := c.send(ctap.CmdGetAssertion, 0, p, TouchPresence)
		if errors.Is(err, ErrNoCredentials) {
			continue
		}
		if err != nil {
			return descriptor{}, err
		}
		a, _, err := c.parseAssertion(body, part, rpIDHash)
		if err != nil {
			return descriptor{}, malformed(ctap.CmdGetAssertion, err)
		}
		return descriptor{ID: a.Credential.ID, Type: publicKeyType}, nil
	}
	return descriptor{}, &Error{Command: ctap.CmdGetAssertion, Status: ErrNoCredentials}
}
