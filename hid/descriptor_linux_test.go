package hid

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// fidoDescriptor is the example of §11.2.8.2, as most keys have it.
var fidoDescriptor = unhex("06d0f1 0901 a101 0920 1500 26ff00 7508 9540 8102 0921 1500 26ff00 7508 9540 9102 c0")

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestParseDescriptor(t *testing.T) {
	keyboard := "0501 0906 a101 0507 19e0 29e7 1500 2501 7501 9508 8102 9501 7508 8101 c0"
	for name, test := range map[string]struct {
		descriptor string
		want       reportLayout
		err        error
	}{
		"usual":          {hex.EncodeToString(fidoDescriptor), reportLayout{in: 64, out: 64}, nil},
		"sizes differ":   {"06d0f1 0901 a101 0920 7508 9508 8102 0921 9620 00 9102 c0", reportLayout{in: 8, out: 32}, nil},
		"wide":           {"06d0f1 0901 a101 0920 7508 960004 8102 0921 9102 c0", reportLayout{in: 1024, out: 1024}, nil},
		"16-bit fields":  {"06d0f1 0901 a101 0920 7510 9520 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"odd bits":       {"06d0f1 0901 a101 0920 7501 9541 8102 0921 9102 c0", reportLayout{in: 9, out: 9}, nil},
		"several fields": {"06d0f1 0901 a101 0920 7508 9520 8102 8102 0921 9540 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"report IDs":     {"06d0f1 0901 a101 8503 0920 7508 9540 8102 8504 0921 9102 c0", reportLayout{in: 64, out: 64, inID: 3, outID: 4}, nil},
		"second ID":      {"06d0f1 0901 a101 8503 0920 7508 9540 8102 0921 9102 8505 9508 8102 c0", reportLayout{in: 64, out: 64, inID: 3, outID: 3}, nil},
		"behind another": {keyboard + "06d0f1 0901 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"before another": {hex.EncodeToString(fidoDescriptor) + keyboard, reportLayout{in: 64, out: 64}, nil},
		"nested":         {"06d0f1 0901 a101 a102 0920 7508 9540 8102 c0 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"wide usage":     {"0501 0b0100d0f1 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"page later":     {"0901 06d0f1 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"two usages":     {"06d0f1 0901 0902 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"push and pop":   {"06d0f1 0901 a101 0920 7508 9540 8102 a4 7501 9501 b4 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"long item":      {"fe0210ffff" + hex.EncodeToString(fidoDescriptor), reportLayout{in: 64, out: 64}, nil},
		"feature":        {"06d0f1 0901 a101 0920 7508 9540 8102 b102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},
		"4-byte count":   {"06d0f1 0901 a101 0920 7508 9740000000 8102 0921 9102 c0", reportLayout{in: 64, out: 64}, nil},

		"empty":             {"", reportLayout{}, errNotFIDO},
		"keyboard":          {keyboard, reportLayout{}, errNotFIDO},
		"other usage":       {"06d0f1 0902 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{}, errNotFIDO},
		"usage of an item":  {"06d0f1 0901 8102 a101 0920 7508 9540 8102 0921 9102 c0", reportLayout{}, errNotFIDO},
		"not application":   {"06d0f1 0901 a102 0920 7508 9540 8102 0921 9102 c0", reportLayout{}, errNotFIDO},
		"no output":         {"06d0f1 0901 a101 0920 7508 9540 8102 c0", reportLayout{}, errNotFIDO},
		"no input":          {"06d0f1 0901 a101 0921 7508 9540 9102 c0", reportLayout{}, errNotFIDO},
		"reports elsewhere": {"06d0f1 0901 a101 c0 7508 9540 8102 9102", reportLayout{}, errNotFIDO},

		"cut item":      {"06d0", reportLayout{}, errDescriptor},
		"cut long item": {"fe05 10ff", reportLayout{}, errDescriptor},
		"bare long":     {"fe", reportLayout{}, errDescriptor},
		"stray end":     {"c0", reportLayout{}, errDescriptor},
		"stray pop":     {"b4", reportLayout{}, errDescriptor},
		"pushed deep":   {"a4a4a4a4a4", reportLayout{}, errDescriptor},
		"overflow":      {"06d0f1 0901 a101 77ffffffff 97ffffffff 8102 c0", reportLayout{}, errDescriptor},
		"sum too large": {"06d0f1 0901 a101 7508 960040 8102 8102 9102 c0", reportLayout{}, errDescriptor},
		"too long":      {strings.Repeat("c0", maxDescriptor+1), reportLayout{}, errDescriptor},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseDescriptor(unhex(test.descriptor))
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
		})
	}
}

// Every beginning of a descriptor is refused or passed over without harm.
func TestParseDescriptorCut(t *testing.T) {
	for n := range len(fidoDescriptor) - 1 { // without its end it is complete enough
		if layout, err := parseDescriptor(fidoDescriptor[:n]); err == nil {
			t.Errorf("%d bytes: %+v", n, layout)
		}
	}
}

func FuzzParseDescriptor(f *testing.F) {
	f.Add(fidoDescriptor)
	f.Add(unhex("fe0210ffff a4b4 8501 0b0100d0f1 a101 8102 9102 c0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		layout, err := parseDescriptor(b)
		if err != nil {
			if layout != (reportLayout{}) || !errors.Is(err, errDescriptor) && !errors.Is(err, errNotFIDO) {
				t.Fatalf("%+v, %v", layout, err)
			}
			return
		}
		if min(layout.in, layout.out) < 1 || max(layout.in, layout.out) > maxBits/8 {
			t.Fatalf("%+v", layout)
		}
		if !bytes.Contains(b, []byte{0xD0, 0xF1}) {
			t.Fatal("FIDO's usage page found where it is not")
		}
	})
}
