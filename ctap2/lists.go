package ctap2

import (
	"crypto/sha256"
	"errors"
	"slices"

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

// usable returns the descriptors that the key could have made: a credential ID
// longer than its longest is another key's, and makes some keys fail.
func (c *ceremony) usable(list []CredentialDescriptor) []descriptor {
	if len(list) == 0 {
		return nil
	}
	out := make([]descriptor, 0, len(list))
	for _, d := range list {
		if limit := c.info.MaxCredentialIDLength; limit > 0 && len(d.ID) > limit {
			continue
		}
		out = append(out, d.wire())
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
	// searchOverhead is a silent getAssertion without RP ID and list: command
	// byte, map head, rpId's key and head, clientDataHash, options,
	// pinUvAuthParam and its protocol.
	searchOverhead = 1 + 1 + 1 + 3 + 1 + 34 + 11 + 1 + 34 + 2
)

// encodeListed encodes a command with its list, which is the field of its
// parameters that field points to. A list that is over the key's limits of
// count or of bytes is searched silently, and the command gets the credential
// that was found, or, if none was, a part that was not searched: nil if there
// is no such part.
func (c *ceremony) encodeListed(encode func() ([]byte, error), field *[]descriptor, list []descriptor, v verification) ([]byte, error) {
	*field = list
	message, err := encode()
	count, limit := max(c.info.MaxCredentialCountInList, 1), c.info.maxMsgSize()
	if err != nil || len(list) == 0 || len(list) <= count && len(message) <= limit {
		return message, err
	}
	*field = nil
	if message, err = encode(); err != nil {
		return nil, err
	}
	parts, last := split(list, count, limit-searchOverhead-len(c.rpID)-listOverhead, limit-len(message)-listOverhead)
	found, err := c.search(parts, v)
	switch {
	case err == nil:
		*field = []descriptor{found}
	case errors.Is(err, ErrNoCredentials):
		*field = last
	default:
		return nil, err
	}
	return encode()
}

// split cuts a list into parts for searches, as few as possible, and a last
// one that fits into the command itself, which is larger; nil if none does.
// Descriptors that no search takes are left out: the key cannot have been
// given them in an answer either.
func split(list []descriptor, count, searchRoom, commandRoom int) (parts [][]descriptor, last []descriptor) {
	for len(list) > 0 {
		if n := fit(list, count, commandRoom); n == len(list) {
			return parts, list
		}
		n := fit(list, count, searchRoom)
		if n > 0 {
			parts = append(parts, list[:n:n])
		}
		list = list[max(n, 1):]
	}
	return parts, nil
}

// fit returns how many descriptors from the start fit, by count and by bytes.
func fit(list []descriptor, count, room int) (n int) {
	for n < len(list) && n < count {
		if room -= list[n].encodedSize(); room < 0 {
			break
		}
		n++
	}
	return n
}

// search looks for a credential of the parts that the key holds, without a
// touch (option up: false), which does not spend a token. What is signed on the
// way is the hash of nothing, good for no relying party.
//
// Where built-in verification is an option of the command, a first search goes
// without, since each request with it costs the user a finger; credentials
// that need it (credProtect 3) are found by a second.
func (c *ceremony) search(parts [][]descriptor, v verification) (descriptor, error) {
	found, err := c.searchOnce(parts, v.token, false)
	if v.uv && errors.Is(err, ErrNoCredentials) && c.info.HasExtension("credProtect") {
		return c.searchOnce(parts, nil, true)
	}
	return found, err
}

func (c *ceremony) searchOnce(parts [][]descriptor, token *Token, uv bool) (descriptor, error) {
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
	if uv {
		p.Options[OptionUserVerification] = true
	}
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		p.AllowList = part
		body, err := c.sendGetAssertion(p, TouchVerification)
		// Some keys answer to an ID that is not of their form that it is invalid,
		// whatever else is in the list, and to one that is too long, with a limit
		// that they may not have told.
		switch {
		case errors.Is(err, ErrNoCredentials),
			len(part) == 1 && (errors.Is(err, ErrInvalidCredential) || errors.Is(err, ErrLimitExceeded) || errors.Is(err, ErrRequestTooLarge)):
			continue
		case errors.Is(err, ErrInvalidCredential):
			parts = slices.Concat(slices.Collect(slices.Chunk(part, 1)), parts)
			continue
		case err != nil:
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
