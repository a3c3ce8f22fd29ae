package webauthn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxQuoted is how many characters of a name an error has.
const maxQuoted = 64

var errNumber = errors.New("not such a number")

// An object reads the members of a JSON object by their exact names, which
// encoding/json does not: it ignores case. A member that is null is absent, as
// servers write it. The first one that is not what it ought to be is kept as an
// error that names it.
type object struct {
	path    string
	members map[string]json.RawMessage
	err     *error
}

// readObject reads an object; path is the name of where it stands.
func readObject(path string, data []byte, failed *error) object {
	o := object{path: path, err: failed}
	if json.Unmarshal(data, &o.members) != nil || o.members == nil {
		o.members = nil
		o.fail("not an object")
	}
	return o
}

func (o object) fail(format string, args ...any) {
	if *o.err != nil {
		return
	}
	reason := fmt.Errorf(format, args...)
	if o.path != "" {
		reason = fmt.Errorf("%s: %w", o.path, reason)
	}
	*o.err = &Error{Name: ErrEncoding, err: reason}
}

// raw returns a member, nil if there is none.
func (o object) raw(name string) json.RawMessage {
	if value := o.members[name]; string(value) != "null" {
		return value
	}
	return nil
}

// plain is what the names of members consist of that a reader knows anyway.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// at is the object that a member is, or is an element of. A name that the
// server made up does not get to write what it likes into an error.
func (o object) at(name string) object {
	if len(name) > maxQuoted || strings.Trim(name, plain) != "" {
		name = fmt.Sprintf("%.64q", name)
	}
	if o.path != "" {
		name = o.path + "." + name
	}
	return object{path: name, err: o.err}
}

// read sets what v points to to a member's value, if there is one.
func (o object) read(name string, v any) {
	value := o.raw(name)
	if value == nil {
		return
	}
	var err error
	switch v := v.(type) {
	case *uint32:
		var n float64
		if n, err = readNumber(value, 0, math.Inf(1)); err == nil {
			*v = uint32(min(n, math.MaxUint32))
		}
	case *int32:
		var n float64
		if n, err = readNumber(value, math.MinInt32, math.MaxInt32); err == nil && n != math.Trunc(n) {
			err = errNumber
		}
		*v = int32(n)
	default:
		err = json.Unmarshal(value, v)
	}
	if err == nil {
		return
	}
	reason := "not a string"
	switch v.(type) {
	case *Base64URL:
		if errors.Is(err, errBase64URL) {
			reason = errBase64URL.Error()
		}
	case *bool, **bool:
		reason = "not a boolean"
	case *uint32:
		reason = "not a number, or negative"
	case *int32:
		reason = "not a whole number, or too large"
	case *[]string:
		reason = "not a list of strings"
	}
	o.at(name).fail("%s", reason)
}

// readValue sets what v points to to a member's value, if that is one of those
// known.
func (o object) readValue(name string, v *string, known []string) {
	var value string
	if o.read(name, &value); slices.Contains(known, value) {
		*v = value
	}
}

// readNumber reads a number in whichever notation: 60000, 60000.0, 6e4. One that
// is larger than a float64 can be is infinite.
func readNumber(value json.RawMessage, least, most float64) (float64, error) {
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return 0, errNumber
	}
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || n < least || n > most {
		return 0, errNumber
	}
	return n, nil
}

// require fails if a member is not there.
func (o object) require(name string) {
	if o.members != nil && o.raw(name) == nil {
		o.at(name).fail("missing")
	}
}

// object returns the object that a member is; ok is false if there is none.
func (o object) object(name string) (member object, ok bool) {
	value := o.raw(name)
	if value == nil {
		return object{}, false
	}
	return readObject(o.at(name).path, value, o.err), true
}

// objects returns the objects in the list that a member is; nil if there is none.
func (o object) objects(name string) []object {
	value := o.raw(name)
	if value == nil {
		return nil
	}
	var elements []json.RawMessage
	if json.Unmarshal(value, &elements) != nil {
		o.at(name).fail("not a list")
	}
	list := make([]object, len(elements))
	for i, e := range elements {
		list[i] = readObject(fmt.Sprintf("%s[%d]", o.at(name).path, i), e, o.err)
	}
	return list
}
