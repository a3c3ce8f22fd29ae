package pin

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Quirk 35: Unicode NFC, code points and bytes counted apart, no zero byte.
func TestQuirk35Rules(t *testing.T) {
	for _, tt := range []struct {
		pin      string
		min, max int
		want     error
	}{
		{"1234", 0, 0, nil},
		{"123", 0, 0, ErrTooShort},
		{"", 0, 0, ErrTooShort},
		{"äöüß", 0, 0, nil},
		{"äöü", 0, 0, ErrTooShort}, // six bytes, three code points
		{"123456", 6, 0, nil},
		{"12345", 6, 0, ErrTooShort},
		{"123456789", 4, 8, ErrTooLong},
		{strings.Repeat("x", 63), 0, 0, nil},
		{strings.Repeat("x", 64), 0, 0, ErrTooLong},
		{strings.Repeat("ä", 31), 0, 0, nil},
		{strings.Repeat("ä", 32), 0, 0, ErrTooLong}, // 64 bytes
		{"1234\x00", 0, 0, ErrZeroByte},
		{"12\x0034", 0, 0, ErrZeroByte},
		{"123\xff", 0, 0, ErrNotUTF8},
	} {
		if err := Check(FromString(tt.pin), tt.min, tt.max); !errors.Is(err, tt.want) {
			t.Errorf("%q %d-%d: %v, want %v", tt.pin, tt.min, tt.max, err, tt.want)
		}
	}
}

// Who entered the PIN learns what it takes, and nobody reads the PIN.
func TestRulesSayTheLimit(t *testing.T) {
	for _, tt := range []struct {
		pin      string
		min, max int
		want     string
	}{
		{"123", 0, 0, "pin: PIN is too short: at least 4 characters"},
		{"12345", 6, 0, "pin: PIN is too short: at least 6 characters"},
		{"123456789", 4, 8, "pin: PIN is too long: at most 8 characters, and 63 bytes in UTF-8"},
		{strings.Repeat("ä", 32), 0, 0, "pin: PIN is too long: at most 63 characters, and 63 bytes in UTF-8"},
	} {
		if err := Check(FromString(tt.pin), tt.min, tt.max); err == nil || err.Error() != tt.want {
			t.Errorf("%d characters, %d-%d: %v, want %q", len(tt.pin), tt.min, tt.max, err, tt.want)
		}
	}
}

func TestNormalize(t *testing.T) {
	decomposed := FromString("A\u030angstro\u0308m")
	got, err := Normalize(decomposed)
	if err != nil || string(got.Bytes()) != "\u00c5ngstr\u00f6m" {
		t.Errorf("%q, %v", got.Bytes(), err)
	}
	if string(decomposed.Bytes()) != "A\u030angstro\u0308m" {
		t.Error("changed its argument")
	}
	plain := FromString("1234")
	got, err = Normalize(plain)
	if err != nil {
		t.Fatal(err)
	}
	got.Wipe()
	if string(plain.Bytes()) != "1234" {
		t.Error("shares its argument's bytes")
	}
	if _, err := Normalize(FromString("\xff123")); !errors.Is(err, ErrNotUTF8) {
		t.Error(err)
	}
}

// No PIN outgrows its buffer, of which nobody would wipe the first one: whatever
// normalization changes, and what grows most.
func TestNormalizeInOneBuffer(t *testing.T) {
	pins := []string{strings.Repeat("\u0958", 10), strings.Repeat("\U0001D160", 63), strings.Repeat("\u0344", 100)}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if s := string(r); !norm.NFC.IsNormalString(s) {
			pins = append(pins, s)
		}
	}
	if len(pins) < 1000 {
		t.Errorf("%d PINs", len(pins))
	}
	for _, s := range pins {
		got, err := Normalize(FromString(s))
		if err != nil || cap(got.Bytes()) != 3*len(s) || string(got.Bytes()) != norm.NFC.String(s) {
			t.Errorf("%+q: %+q in %d bytes, %v", s, got.Bytes(), cap(got.Bytes()), err)
		}
	}
}

func TestPadUnpad(t *testing.T) {
	padded, err := Pad(FromString("1234"))
	if err != nil || padded.Len() != 64 || !bytes.HasPrefix(padded.Bytes(), []byte("1234\x00")) {
		t.Errorf("%d bytes, %v", padded.Len(), err)
	}
	back, err := Unpad(padded.Bytes())
	if err != nil || string(back.Bytes()) != "1234" {
		t.Errorf("%q, %v", back.Bytes(), err)
	}
	if _, err := Pad(NewSecret(make([]byte, 64))); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, make([]byte, 63), make([]byte, 80), bytes.Repeat([]byte("x"), 64)} {
		if _, err := Unpad(bad); !errors.Is(err, ErrTooLong) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestHash(t *testing.T) {
	want := sha256.Sum256([]byte("1234"))
	if got := Hash(FromString("1234")); !bytes.Equal(got.Bytes(), want[:16]) {
		t.Errorf("%x", got.Bytes())
	}
}
